//! Any bytes as a record: reading it never panics, and what is emitted is as long as announced and the same but for
//! times.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spanring::internals::{Record, Stamp, Timeline};

/// Times of eight equal bytes, easily told from others.
struct Fixed;

const START: u64 = 0x1111_1111_1111_1111;
const END: u64 = 0x2222_2222_2222_2222;
const EVENT: u64 = 0x3333_3333_3333_3333;

impl Timeline for Fixed {
    fn span(&self, start: Stamp, end: Stamp) -> (u64, u64) {
        let _ = (start.reading(), end.reading());
        (START, END)
    }

    fn instant(&self, at: Stamp) -> u64 {
        let _ = at.reading();
        EVENT
    }
}

/// Bytes in front of the wire bytes, and of a root's absent parent.
const HEAD: usize = 8;
const PARENT: usize = 10;

fuzz_target!(|bytes: &[u8]| {
    let Some(record) = Record::parse(bytes) else {
        return;
    };
    let _ = (record.scope(), record.times(), record.ids());
    let mut out = vec![0xEE];
    record.emit(&Fixed, &mut out);
    assert_eq!(out.len(), 1 + record.framed_len(), "the length is the announced one");
    let message = &out[out.len() - record.message_len()..];
    let source = &bytes[HEAD + if record.is_root() { PARENT } else { 0 }..];
    for (at, (byte, source)) in message.iter().zip(source).enumerate() {
        let is_time = [START, END, EVENT].iter().any(|time| time.to_le_bytes()[0] == *byte);
        assert!(byte == source || is_time, "byte {at} has changed, and is not of a time");
    }
});
