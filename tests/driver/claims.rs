//! One table of claims about the seam to the network, run on every driver: promise 7, the same behaviour whoever moves
//! bytes.
//!
//! The other side of real sockets is a thread a connection, std alone; the simulated network has its peers in the rig.

use std::{
    fs,
    io::{Error, ErrorKind},
    mem, thread,
    time::{Duration, Instant},
};

use spanring::internals::driver::{Address, Driver, Moment, is_cancelled};

use crate::rig::{self, Behaviour, CHUNK, PATIENCE, World, connected};

/// Each claim once for each driver that this system has.
macro_rules! table {
    (real: [$($claim:ident)*] everywhere: [$($common:ident)*]) => {
        table! { $($claim)* $($common)* }
        mod sim {
            $( #[test] fn $common() { crate::rig::on_sim(super::$common); } )*
        }
    };
    ($($claim:ident)*) => {
        mod poll { $( #[test] fn $claim() { crate::rig::on_poll(super::$claim); } )* }
        mod uring { $( #[test] fn $claim() { crate::rig::on_uring(super::$claim); } )* }
        mod uring_before_6_15 { $( #[test] fn $claim() { crate::rig::on_older_uring(super::$claim); } )* }
    };
}

table! {
    // Virtual time does not wait for another thread.
    real: [
        wake_ends_the_wait
        send_that_waits_keeps_nothing_else_waiting
        wait_that_begins_a_send_ends_in_time
        what_a_peer_takes_of_a_send_is_told
    ]
    everywhere: [
        connects_over_tcp
        refused_connect_is_a_completion
        connects_over_a_unix_socket
        missing_unix_socket_is_a_completion
        full_unix_socket_is_refused_or_can_be_cancelled
        big_buffers_come_back_whole
        end_of_stream_is_zero_bytes
        reset_is_an_error
        pending_recv_is_cancelled
        pending_connect_is_cancelled
        pending_send_is_cancelled_and_the_buffer_comes_back
        cancel_of_nothing_does_nothing
        stale_handles_are_harmless
        send_and_recv_are_in_flight_together
        wake_before_the_wait_is_not_lost
        wakes_are_not_counted
        deadline_in_the_future_ends_the_wait
        deadline_in_the_past_only_looks
        many_connections_echo_at_once
        connection_lives_through_an_idle_time
        shut_down_with_everything_in_flight_ends_at_once
        shut_down_of_nothing_ends_at_once
        fall_back_completes_what_was_in_flight
    ]
}

fn connects_over_tcp(mut world: World) {
    let conn = world.connect(Behaviour::Echo);
    assert_eq!(world.driver.in_flight(), 0);
    world.driver.close(conn);
    world.driver.close(conn);
}

fn refused_connect_is_a_completion(mut world: World) {
    let address = world.address(Behaviour::Refuse);
    let conn = world.driver.connect(&address);
    assert_eq!(world.driver.in_flight(), 1);
    let result = connected(world.next(conn));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(world.driver.in_flight(), 0);
    world.driver.close(conn);
}

fn connects_over_a_unix_socket(mut world: World) {
    let Some(address) = world.unix_address() else { return };
    let conn = world.driver.connect(&address);
    connected(world.next(conn)).unwrap();
    assert_eq!(world.exchange(conn, b"over a file"), b"over a file");
    world.driver.close(conn);
}

fn missing_unix_socket_is_a_completion(mut world: World) {
    if !cfg!(unix) {
        return;
    }
    for path in ["/nowhere/spanring.sock", &format!("/{}", "long".repeat(100))] {
        let conn = world.driver.connect(&Address::Unix(path.into()));
        assert!(connected(world.next(conn)).is_err(), "{path}");
        world.driver.close(conn);
    }
}

fn full_unix_socket_is_refused_or_can_be_cancelled(mut world: World) {
    let Some(address) = world.full_unix_address() else { return };
    let conn = world.driver.connect(&address);
    world.look();
    world.driver.cancel(conn);
    if let Address::Unix(path) = address {
        let _ = fs::remove_file(path);
    }
    let error = connected(world.next(conn)).unwrap_err();
    assert!(error.kind() == ErrorKind::ConnectionRefused || is_cancelled(&error), "{error:?}");
    world.driver.close(conn);
}

fn big_buffers_come_back_whole(mut world: World) {
    let conn = world.connect(Behaviour::Echo);
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|n| n.to_le_bytes()[usize::from(n % 3 == 1)]).collect();
    assert!(world.exchange(conn, &bytes) == bytes);
    assert!(world.exchange(conn, b"again") == b"again");
    world.driver.close(conn);
}

fn end_of_stream_is_zero_bytes(mut world: World) {
    let conn = world.connect(Behaviour::Farewell);
    world.driver.recv(conn, vec![0; CHUNK]);
    let mut got: Vec<u8> = vec![];
    loop {
        let (back, result) = world.received(conn);
        match result.unwrap() {
            0 => break,
            len => got.extend(&back[..len]),
        }
        world.driver.recv(conn, back);
    }
    assert_eq!(got, b"bye");
    // It stays at the end.
    world.driver.recv(conn, vec![0; CHUNK]);
    assert_eq!(world.received(conn).1.unwrap(), 0);
    world.driver.close(conn);
}

fn reset_is_an_error(mut world: World) {
    let conn = world.connect(Behaviour::Reset);
    world.driver.recv(conn, vec![0; CHUNK]);
    world.driver.send(conn, vec![1], 0..1);
    assert_eq!(world.sent(conn).1.unwrap(), 1);
    let (buffer, result) = world.received(conn);
    assert_eq!(buffer.len(), CHUNK);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
    world.driver.close(conn);
}

fn pending_recv_is_cancelled(mut world: World) {
    let conn = world.connect(Behaviour::Silent);
    world.driver.recv(conn, vec![7; CHUNK]);
    world.look();
    world.driver.cancel(conn);
    let (buffer, result) = world.received(conn);
    assert_eq!(buffer, [7; CHUNK]);
    assert!(is_cancelled(&result.unwrap_err()));
    assert_eq!(world.driver.in_flight(), 0);
    world.driver.close(conn);
}

fn pending_connect_is_cancelled(mut world: World) {
    let address = world.address(Behaviour::Blackhole);
    let conn = world.driver.connect(&address);
    world.look();
    world.driver.cancel(conn);
    assert!(is_cancelled(&connected(world.next(conn)).unwrap_err()));
    world.driver.close(conn);
}

fn pending_send_is_cancelled_and_the_buffer_comes_back(mut world: World) {
    let conn = world.connect(Behaviour::Silent);
    world.clog(conn, vec![5; 16 << 20]);
    world.driver.cancel(conn);
    let (back, result) = world.sent(conn);
    assert!(back == vec![5; 16 << 20]);
    // The kernel may have taken some of it before.
    assert!(result.map_or_else(|error| is_cancelled(&error), |sent| sent < back.len()));
    world.driver.close(conn);
}

fn cancel_of_nothing_does_nothing(mut world: World) {
    let conn = world.connect(Behaviour::Echo);
    world.driver.cancel(conn);
    world.look();
    assert_eq!(world.exchange(conn, b"still here"), b"still here");
    world.driver.close(conn);
    world.driver.cancel(conn);
}

fn stale_handles_are_harmless(mut world: World) {
    let old = world.connect(Behaviour::Echo);
    world.driver.close(old);
    let new = world.connect(Behaviour::Echo);
    assert_ne!(old, new);
    world.driver.send(old, vec![1, 2, 3], 0..3);
    world.driver.recv(old, vec![4; 8]);
    assert_eq!(world.driver.in_flight(), 2);
    let (buffer, result) = world.sent(old);
    assert_eq!(buffer, [1, 2, 3]);
    assert!(result.is_err());
    let (buffer, result) = world.received(old);
    assert_eq!(buffer, [4; 8]);
    assert!(result.is_err());
    world.driver.cancel(old);
    world.driver.close(old);
    assert_eq!(world.exchange(new, b"the new one"), b"the new one");
    world.driver.close(new);
}

fn send_and_recv_are_in_flight_together(mut world: World) {
    let conn = world.connect(Behaviour::Echo);
    world.driver.recv(conn, vec![0; CHUNK]);
    world.look();
    world.driver.send(conn, b"....!".to_vec(), 4..5);
    let (buffer, result) = world.sent(conn);
    assert_eq!((&buffer[..], result.unwrap()), (&b"....!"[..], 1));
    let (buffer, result) = world.received(conn);
    assert_eq!(&buffer[..result.unwrap()], b"!");
    world.driver.close(conn);
}

fn wake_ends_the_wait(mut world: World) {
    for _ in 0..100 {
        let waker = world.driver.waker();
        let bell = thread::spawn(move || waker.wake());
        world.wait_without_completion(PATIENCE);
        bell.join().unwrap();
    }
}

fn send_that_waits_keeps_nothing_else_waiting(mut world: World) {
    let conn = world.connect(Behaviour::Silent);
    let mut buffer = vec![5; 16 << 20];
    // The wait begins the send, of which a part may go at once.
    while let (back, Some(_)) = world.wait_for_a_send(conn, buffer, PATIENCE, |world| world.driver.waker().wake()) {
        buffer = back;
    }
    world.driver.close(conn);
}

/// The kernel gives a send that goes on time of its own: no more than is left.
fn wait_that_begins_a_send_ends_in_time(mut world: World) {
    let conn = world.connect(Behaviour::Silent);
    let wanted = Duration::from_micros(200);
    let mut buffer = vec![5; 16 << 20];
    // The machine may pause now and then, but not each time.
    let is_in_time = (0..1_000).any(|_| {
        let start = world.driver.now();
        let (back, sent) = world.wait_for_a_send(conn, mem::take(&mut buffer), wanted, |_| {});
        buffer = back;
        sent.is_none() && world.driver.now().since(start) < wanted + Duration::from_millis(3)
    });
    assert!(is_in_time);
    world.driver.close(conn);
}

/// However little that is: the sender has to see progress, and may receive an answer to the beginning.
fn what_a_peer_takes_of_a_send_is_told(mut world: World) {
    let conn = world.connect(Behaviour::Silent);
    let len = 16 << 20;
    world.driver.send(conn, vec![5; len], 0..len);
    let (_, result) = world.sent(conn);
    assert!((1..len).contains(&result.unwrap()), "the peer does not read");
    world.driver.close(conn);
}

fn wake_before_the_wait_is_not_lost(mut world: World) {
    for _ in 0..100 {
        world.driver.waker().wake();
        world.wait_without_completion(PATIENCE);
    }
}

fn wakes_are_not_counted(mut world: World) {
    for _ in 0..1_000 {
        world.driver.waker().wake();
    }
    world.wait_without_completion(PATIENCE);
    // A wake that was under way may end one more wait, not a thousand.
    let late = (0..1_000).position(|_| {
        let start = world.driver.now();
        world.driver.wait(Some(start.after(Duration::from_millis(2))), &mut vec![]).unwrap();
        world.driver.now().since(start) >= Duration::from_millis(2)
    });
    assert!(late.is_some_and(|waits| waits <= 2), "{late:?}");
}

fn deadline_in_the_future_ends_the_wait(mut world: World) {
    let conn = world.connect(Behaviour::Silent);
    world.driver.recv(conn, vec![0; CHUNK]);
    for millis in [1, 20] {
        let start = world.driver.now();
        let until = start.after(Duration::from_millis(millis));
        let mut completions = vec![];
        world.driver.wait(Some(until), &mut completions).unwrap();
        assert!(completions.is_empty(), "{completions:?}");
        assert!(world.driver.now() >= until, "{:?} is not yet {until:?}", world.driver.now());
    }
    world.driver.cancel(conn);
    assert!(world.received(conn).1.is_err());
    world.driver.close(conn);
}

fn deadline_in_the_past_only_looks(mut world: World) {
    let start = Instant::now();
    for _ in 0..100 {
        world.driver.wait(Some(Moment::START), &mut vec![]).unwrap();
        let now = world.driver.now();
        world.driver.wait(Some(now), &mut vec![]).unwrap();
    }
    assert!(start.elapsed() < PATIENCE);
}

fn many_connections_echo_at_once(mut world: World) {
    let address = world.address(Behaviour::Echo);
    let conns: Vec<_> = (0..40).map(|_| world.driver.connect(&address)).collect();
    for conn in &conns {
        connected(world.next(*conn)).unwrap();
    }
    for (conn, text) in conns.iter().zip(0_u32..) {
        world.driver.recv(*conn, vec![0; 4]);
        world.driver.send(*conn, text.to_le_bytes().to_vec(), 0..4);
    }
    for (conn, text) in conns.iter().zip(0_u32..) {
        assert_eq!(world.rest_of_exchange(*conn, text.to_le_bytes().to_vec(), 4), text.to_le_bytes());
    }
    conns.into_iter().for_each(|conn| world.driver.close(conn));
    assert_eq!(world.driver.in_flight(), 0);
}

fn connection_lives_through_an_idle_time(mut world: World) {
    let conn = world.connect(Behaviour::Echo);
    for text in [&b"before"[..], b"after"] {
        world.wait_without_completion(Duration::from_millis(10));
        assert_eq!(world.exchange(conn, text), text);
    }
    world.driver.close(conn);
}

fn shut_down_with_everything_in_flight_ends_at_once(mut world: World) {
    let silent = world.connect(Behaviour::Silent);
    world.driver.recv(silent, vec![0; CHUNK]);
    world.clog(silent, vec![0; 16 << 20]);
    let hole = world.address(Behaviour::Blackhole);
    world.driver.connect(&hole);
    world.look();
    let until = world.driver.now().after(PATIENCE);
    let start = Instant::now();
    assert_eq!(world.shut_down(until), 0);
    assert!(start.elapsed() < PATIENCE);
}

fn shut_down_of_nothing_ends_at_once(world: World) {
    assert_eq!(world.shut_down(Moment::START), 0);
}

fn fall_back_completes_what_was_in_flight(mut world: World) {
    let waker = world.driver.waker();
    let conn = world.connect(Behaviour::Silent);
    world.driver.recv(conn, vec![0; CHUNK]);
    world.clog(conn, vec![9; 16 << 20]);
    let cause = ErrorKind::Other.into();
    let report = world.driver.fall_back(&cause).unwrap();
    assert!(report.reason.contains(&cause.to_string()), "{report}");
    assert_eq!(world.driver.in_flight(), 2);
    // A ring may get some of it done before it goes.
    let (buffer, result) = world.sent(conn);
    assert!(buffer == vec![9; 16 << 20], "a send's bytes are there to be sent again");
    assert!(result.map_or_else(|error| is_lost(&error), |sent| sent < buffer.len()));
    let (buffer, result) = world.received(conn);
    assert_eq!(buffer.len(), CHUNK);
    assert!(is_lost(&result.unwrap_err()));
    world.driver.close(conn);
    // The new one works, and the old waker wakes it.
    waker.wake();
    world.wait_without_completion(PATIENCE);
    let conn = world.connect(Behaviour::Echo);
    assert_eq!(world.exchange(conn, b"anew"), b"anew");
    world.driver.close(conn);
}

fn is_lost(error: &Error) -> bool {
    error.kind() == ErrorKind::ConnectionAborted || is_cancelled(error)
}

/// The kernel gives a ring's completions to the thread that made it and to no other, so that on another one it
/// fails.
#[test]
fn ring_that_fails_is_replaced_and_every_buffer_comes_back() {
    let Some(mut world) = rig::uring_world() else { return };
    let waker = world.driver.waker();
    let conn = world.connect(Behaviour::Silent);
    world.driver.recv(conn, vec![3; CHUNK]);
    world.clog(conn, vec![9; 16 << 20]);
    let hole = world.address(Behaviour::Blackhole);
    let knocking = world.driver.connect(&hole);
    world.look();
    thread::scope(|scope| {
        let elsewhere = scope.spawn(move || {
            let cause = world.driver.wait(None, &mut vec![]).unwrap_err();
            assert_eq!(world.driver.in_flight(), 3);
            let report = world.driver.fall_back(&cause).unwrap();
            assert_eq!(report.name, "poll");
            let (buffer, result) = world.sent(conn);
            assert!(buffer == vec![9; 16 << 20]);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            let (buffer, result) = world.received(conn);
            assert_eq!(buffer.len(), CHUNK);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionAborted);
            assert_eq!(connected(world.next(knocking)).unwrap_err().kind(), ErrorKind::ConnectionAborted);
            assert_eq!(world.driver.in_flight(), 0);
            waker.wake();
            world.wait_without_completion(PATIENCE);
            let conn = world.connect(Behaviour::Echo);
            assert_eq!(world.exchange(conn, b"anew"), b"anew");
        });
        elsewhere.join().unwrap();
    });
}

#[test]
fn ring_that_cannot_be_drained_is_left_to_the_kernel() {
    for with_shut_down in [false, true] {
        let Some(mut world) = rig::uring_world() else { return };
        let conn = world.connect(Behaviour::Silent);
        world.driver.recv(conn, vec![0; CHUNK]);
        world.look();
        let elsewhere = thread::spawn(move || {
            if with_shut_down {
                let until = world.driver.now().after(PATIENCE);
                assert_eq!(world.shut_down(until), 1);
            }
        });
        elsewhere.join().unwrap();
    }
}

#[test]
fn driver_may_be_made_on_one_thread_and_waited_for_from_another_by_its_waker() {
    fn is_shareable<T: Clone + Send + Sync + 'static>(_: &T) {}
    let (driver, report) = Driver::open(spanring::internals::driver::DriverChoice::Poll, Duration::MAX).unwrap();
    assert_eq!(report.name, "poll");
    is_shareable(&driver.waker());
    let waker = driver.waker();
    drop(driver);
    waker.wake();
}
