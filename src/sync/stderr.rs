//! One line to the standard error, past the locks of the standard library: in a child process a thread of the parent
//! may seem to hold one for ever.

/// Writes a line, and waits until there is room for it. What cannot be written is nobody's loss.
pub(crate) fn write_line(line: &str) {
    imp::write(format!("{line}\n").as_bytes());
}

/// Writes a line if there is room for it now; false if there is none.
#[must_use]
pub(crate) fn try_write_line(line: &str) -> bool {
    try_write(format!("{line}\n").as_bytes())
}

/// Writes these bytes if there is room for them now, without an allocation; false if there is none. As a rule that
/// takes one system call. Safe in a signal handler.
#[must_use]
pub(crate) fn try_write(bytes: &[u8]) -> bool {
    imp::try_write(bytes)
}

/// Whether a line could be written now, as far as the system knows.
#[must_use]
pub(crate) fn has_room() -> bool {
    imp::has_room()
}

#[cfg(all(unix, not(miri)))]
mod imp {
    use std::io;

    use libc::c_int;

    /// What is longer might be written in part (POSIX: writes of up to `PIPE_BUF` bytes are atomic).
    const AT_ONCE_BYTES_MAX: usize = libc::PIPE_BUF;

    /// Why nothing was written.
    enum Refusal {
        /// There is no room.
        Full,
        /// The system cannot write there without waiting.
        Unsupported,
        /// It can never be written.
        Broken,
    }

    pub(super) fn write(bytes: &[u8]) {
        write_to(libc::STDERR_FILENO, bytes);
    }

    pub(super) fn try_write(bytes: &[u8]) -> bool {
        bytes.len() <= AT_ONCE_BYTES_MAX && try_write_to(libc::STDERR_FILENO, bytes)
    }

    pub(super) fn has_room() -> bool {
        has_room_in(libc::STDERR_FILENO)
    }

    fn write_to(file: c_int, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // SAFETY: the bytes are readable for their length; the descriptor is whatever the program has there.
            let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(written) {
                Ok(written) if written > 0 => bytes = &bytes[written.min(bytes.len())..],
                _ => return,
            }
        }
    }

    /// `O_NONBLOCK` is no way: other processes share the flags of what is open here.
    fn try_write_to(file: c_int, bytes: &[u8]) -> bool {
        match write_without_wait(file, bytes) {
            Ok(written) if written < bytes.len() => {
                // The line has begun: it is not passed on to be written once more.
                let _ = write_if_room(file, &bytes[written..]);
                true
            }
            Ok(_) | Err(Refusal::Broken) => true,
            // A file takes everything, if not always at once.
            Err(Refusal::Full) if !is_regular(file) => false,
            Err(Refusal::Full | Refusal::Unsupported) => write_if_room(file, bytes),
        }
    }

    /// Bytes that were written. Where that cannot be done the kernel says so (tried with 6.18: a terminal).
    #[cfg(target_os = "linux")]
    fn write_without_wait(file: c_int, bytes: &[u8]) -> Result<usize, Refusal> {
        // The place is that of the descriptor, as for `write`.
        const HERE: libc::c_long = -1;
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: the one part is readable for its length, and the kernel only reads it.
        let written =
            unsafe { libc::syscall(libc::SYS_pwritev2, file, &raw const part, 1_usize, HERE, HERE, libc::RWF_NOWAIT) };
        usize::try_from(written).map_err(|_| match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN) => Refusal::Full,
            // The last is what filters of system calls say.
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM) => Refusal::Unsupported,
            _ => Refusal::Broken,
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn write_without_wait(_file: c_int, _bytes: &[u8]) -> Result<usize, Refusal> {
        Err(Refusal::Unsupported)
    }

    /// Looks for room, and then writes. Another process may take the room between the two: only where the system knows
    /// no better.
    fn write_if_room(file: c_int, bytes: &[u8]) -> bool {
        let has_room = has_room_in(file);
        if has_room {
            write_to(file, bytes);
        }
        has_room
    }

    fn has_room_in(file: c_int) -> bool {
        let mut look = libc::pollfd { fd: file, events: libc::POLLOUT, revents: 0 };
        // SAFETY: the place is valid, and there is one.
        unsafe { libc::poll(&raw mut look, 1, 0) == 1 }
    }

    fn is_regular(file: c_int) -> bool {
        // SAFETY: the state of a file is plain data, which the next call overwrites.
        let mut state = unsafe { std::mem::zeroed::<libc::stat>() };
        // SAFETY: the place is valid.
        let is_known = unsafe { libc::fstat(file, &raw mut state) } == 0;
        is_known && state.st_mode & libc::S_IFMT == libc::S_IFREG
    }

    #[cfg(test)]
    mod tests {
        use std::{
            fs::{self, OpenOptions},
            io::{PipeReader, PipeWriter, Read, Write},
            os::{fd::AsRawFd, unix::net::UnixStream},
        };

        use super::*;

        const LINE: &[u8] = b"spanring: a line\n";

        fn full_pipe() -> (PipeReader, PipeWriter) {
            let (reader, writer) = io::pipe().unwrap();
            let set = |flags: c_int| {
                // SAFETY: the call takes three numbers, and the pipe is the test's own.
                assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
            };
            set(libc::O_NONBLOCK);
            while (&writer).write(&[b'x'; 4096]).is_ok() {}
            set(0);
            (reader, writer)
        }

        #[test]
        fn full_pipe_takes_nothing_and_stops_nothing_and_one_with_room_takes_the_line() {
            for write in [try_write_to, write_if_room] {
                let (mut reader, writer) = full_pipe();
                assert!(!write(writer.as_raw_fd(), LINE));
                reader.read_exact(&mut [0; 4096]).unwrap();
                assert!(write(writer.as_raw_fd(), LINE));
                drop(writer);
                let mut all = vec![];
                reader.read_to_end(&mut all).unwrap();
                assert!(all.ends_with(LINE));
            }
        }

        #[test]
        fn full_socket_takes_nothing_and_stops_nothing() {
            let (_peer, socket) = UnixStream::pair().unwrap();
            socket.set_nonblocking(true).unwrap();
            while (&socket).write(LINE).is_ok() {}
            socket.set_nonblocking(false).unwrap();
            assert!(!try_write_to(socket.as_raw_fd(), LINE));
        }

        #[test]
        fn file_takes_every_line_at_its_end() {
            let path = std::env::temp_dir().join(format!("spanring-stderr-{}", std::process::id()));
            let file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
            (0..1000).for_each(|_| assert!(try_write_to(file.as_raw_fd(), LINE)));
            let text = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            assert_eq!(text, LINE.repeat(1000));
        }

        /// Nobody will ever read it.
        #[test]
        fn line_that_can_never_be_written_is_not_tried_again() {
            let (reader, writer) = io::pipe().unwrap();
            drop(reader);
            assert!(try_write_to(writer.as_raw_fd(), LINE));
            assert!(try_write_to(-1, LINE));
        }
    }
}

#[cfg(not(all(unix, not(miri))))]
mod imp {
    pub(super) fn write(bytes: &[u8]) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), bytes);
    }

    pub(super) fn try_write(bytes: &[u8]) -> bool {
        write(bytes);
        true
    }

    pub(super) fn has_room() -> bool {
        true
    }
}
