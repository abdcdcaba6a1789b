//! The bytes of one request: the body, and room in front of it for the head, so that both leave in one piece.

use std::ops::Range;

use super::{compression::Coding, head::RequestHead};

/// A request's bytes. The body is appended first; the head, which says how long it is, is put in front of it.
#[derive(Debug)]
pub(crate) struct RequestBuffer {
    /// Empty while a driver has it.
    bytes: Vec<u8>,
    /// Where the head begins; where the body does, as long as there is no head.
    start: usize,
    /// Where the body begins.
    body: usize,
}

impl RequestBuffer {
    /// An empty body with room for this head, in memory that is used again.
    #[must_use]
    pub(crate) fn new(mut memory: Vec<u8>, head: &RequestHead) -> Self {
        let body = head.len_max();
        memory.clear();
        memory.resize(body, 0);
        Self { bytes: memory, start: body, body }
    }

    /// A body that is there already, from `body` on, with room for the head before it.
    #[must_use]
    pub(crate) fn around(bytes: Vec<u8>, body: usize) -> Self {
        Self { bytes, start: body, body }
    }

    /// Where to append the body. What is there already stays as it is.
    pub(crate) fn body_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The body.
    #[must_use]
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.body..]
    }

    /// Writes the head of the body as it is now.
    pub(crate) fn write_head(&mut self, head: &RequestHead, coding: Coding) {
        let mut text = Vec::with_capacity(self.body);
        head.write(self.body().len(), coding, &mut text);
        self.start = self.body - text.len();
        self.bytes[self.start..self.body].copy_from_slice(&text);
    }

    /// Head and body.
    #[must_use]
    pub(crate) fn whole(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Where head and body are in the bytes that [`RequestBuffer::lend`] gives.
    #[must_use]
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.bytes.len()
    }

    /// The bytes, for a driver, which gives them back to [`RequestBuffer::put_back`].
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes the bytes back.
    pub(crate) fn put_back(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.bytes.is_empty() && bytes.len() >= self.body);
        self.bytes = bytes;
    }

    /// The memory, for another request.
    #[must_use]
    pub(crate) fn into_memory(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            head::{Target, UserAgent},
            headers::Headers,
        },
        *,
    };

    #[test]
    fn head_ends_where_the_body_begins_whatever_its_length() {
        let target = Target { form: "/v1/traces".into(), authority: "h".into(), proxy_authorization: None };
        let head = RequestHead::new(&target, &Headers::default(), &UserAgent::default());
        let mut memory = b"of another request".to_vec();
        for (len, coding) in [(0, Coding::Identity), (9, Coding::Gzip), (12_345, Coding::Identity)] {
            let mut buffer = RequestBuffer::new(memory, &head);
            buffer.body_mut().extend(vec![b'b'; len]);
            let mut whole = vec![];
            head.write(len, coding, &mut whole);
            whole.extend(vec![b'b'; len]);
            buffer.write_head(&head, coding);
            let range = buffer.range();
            let lent = buffer.lend();
            assert_eq!(lent[range.clone()], whole);
            buffer.put_back(lent);
            assert_eq!(buffer.whole(), whole);
            assert_eq!((buffer.range(), buffer.body().len()), (range, len));
            memory = buffer.into_memory();
        }
    }
}
