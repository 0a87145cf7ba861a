//! Splits Amazon's event stream (`application/vnd.amazon.eventstream`), in which Bedrock answers streaming requests, in
//! pieces of any size.
//!
//! A message is `total length u32 BE`, `headers length u32 BE`, a checksum of both, the headers, the payload and a
//! checksum of all of it. The checksums are not verified: the connection has its own. Amazon's crate for the format
//! depends on its whole HTTP stack, and reads from buffers without a limit.

use crate::formats::json::MAX_BYTES;

/// Size of the part before the headers, in bytes.
const PRELUDE: usize = 12;
/// Size of the part after the payload, in bytes.
const TRAILER: usize = 4;
/// Type of a header with a text value.
const TEXT: u8 = 7;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// An event's payload.
    Event(&'a [u8]),
    /// The stream ends with an error (`:message-type` is `exception` or `error`).
    Exception,
    /// The message exceeded the limit, or the bytes are no message: then the rest of the stream is not read.
    Unread,
}

/// Splits one stream.
#[derive(Debug, Default)]
pub struct Messages {
    /// The beginning of an incomplete message.
    buffered: Vec<u8>,
    /// Number of bytes still to come of a message that exceeded the limit.
    skipped: usize,
    is_broken: bool,
}

impl Messages {
    /// Reads the next piece of the stream. `emit` receives the messages that end in it.
    pub fn feed(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Message)) {
        let passed = self.skipped.min(bytes.len());
        self.skipped -= passed;
        let bytes = &bytes[passed..];
        if self.is_broken {
            return;
        }
        if self.buffered.is_empty() {
            let rest = self.read(bytes, emit).len();
            return self
                .buffered
                .extend_from_slice(&bytes[bytes.len() - rest..]);
        }
        // The buffer is bounded: its length was checked when the prelude arrived.
        let mut buffered = std::mem::take(&mut self.buffered);
        buffered.extend_from_slice(bytes);
        let rest = self.read(&buffered, emit).len();
        buffered.drain(..buffered.len() - rest);
        self.buffered = buffered;
    }

    /// Reads the complete messages at the start of these bytes. Returns the rest.
    fn read<'a>(&mut self, mut bytes: &'a [u8], emit: &mut dyn FnMut(Message)) -> &'a [u8] {
        while let Some((total, headers)) = prelude(bytes) {
            if total < PRELUDE + TRAILER || headers > total - PRELUDE - TRAILER {
                self.is_broken = true;
                emit(Message::Unread);
                return &[];
            }
            if total > MAX_BYTES {
                emit(Message::Unread);
                let here = total.min(bytes.len());
                self.skipped = total - here;
                bytes = &bytes[here..];
                continue;
            }
            let Some((message, rest)) = bytes.split_at_checked(total) else {
                break;
            };
            let (headers, payload) = message[PRELUDE..total - TRAILER].split_at(headers);
            emit(match is_exception(headers) {
                true => Message::Exception,
                false => Message::Event(payload),
            });
            bytes = rest;
        }
        bytes
    }
}

/// The lengths of a message and of its headers, in bytes.
fn prelude(bytes: &[u8]) -> Option<(usize, usize)> {
    let prelude = bytes.get(..PRELUDE)?;
    let (total, rest) = prelude.split_first_chunk::<4>()?;
    let (headers, _) = rest.split_first_chunk::<4>()?;
    let length = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes) as usize;
    Some((length(total), length(headers)))
}

/// Whether the headers mark a message as an error.
fn is_exception(mut headers: &[u8]) -> bool {
    while let Some((name, value, rest)) = header(headers) {
        if name == b":message-type" {
            return value != b"event";
        }
        headers = rest;
    }
    false
}

/// The first header: its name, its value (empty unless it is a text), and the remaining headers.
fn header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let (size, rest) = match kind {
        0 | 1 => (0, rest),
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        5 | 8 => (8, rest),
        6 | 7 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(size)?;
    Some((name, if *kind == TEXT { value } else { &[] }, rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message with these headers. The checksums are zero.
    pub(crate) fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(name.len() as u8);
            head.extend_from_slice(name.as_bytes());
            head.push(TEXT);
            head.extend_from_slice(&(value.len() as u16).to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let total = (PRELUDE + head.len() + payload.len() + TRAILER) as u32;
        let mut bytes = total.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(head.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    fn read_all(bytes: &[u8], size: usize) -> Vec<String> {
        let mut read_all = Vec::new();
        let mut messages = Messages::default();
        for piece in bytes.chunks(size) {
            messages.feed(piece, &mut |message| {
                read_all.push(match message {
                    Message::Event(payload) => String::from_utf8_lossy(payload).into_owned(),
                    Message::Exception => "exception".to_owned(),
                    Message::Unread => "unread".to_owned(),
                });
            });
        }
        read_all
    }

    #[test]
    fn messages_are_the_same_wherever_they_are_cut() {
        let event = [(":event-type", "metadata"), (":message-type", "event")];
        let exception = [(":message-type", "exception")];
        let bytes = [
            message(&event, b"{\"a\":1}"),
            message(&event, b""),
            message(&[], b"x"),
            message(&exception, b"{}"),
        ]
        .concat();
        for size in 1..=bytes.len() {
            assert_eq!(read_all(&bytes, size), ["{\"a\":1}", "", "x", "exception"]);
        }
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(read_all(cut, 5), ["{\"a\":1}", "", "x"]);
    }

    #[test]
    fn headers_of_every_type_are_skipped() {
        let mut headers = Vec::new();
        for (kind, size) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 4),
            (5, 8),
            (8, 8),
            (9, 16),
        ] {
            headers.extend_from_slice(&[1, b'x', kind]);
            headers.extend(std::iter::repeat_n(7, size));
        }
        headers.extend_from_slice(&[1, b'y', 6, 0, 2, 1, 2]);
        headers.extend_from_slice(b"\x0d:message-type\x07\x00\x05error");
        assert!(is_exception(&headers));
        assert!(!is_exception(
            b"\x01x\x2a\x0d:message-type\x07\x00\x05error"
        ));
    }

    #[test]
    fn an_invalid_message_ends_the_reading_and_a_too_long_one_is_skipped() {
        let good = message(&[], b"good");
        let broken = [&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0][..], &good].concat();
        assert_eq!(read_all(&broken, 7), ["unread"]);
        let long = [message(&[], &vec![b'x'; MAX_BYTES]), good].concat();
        assert_eq!(read_all(&long, 60_000), ["unread", "good"]);
        assert_eq!(read_all(&long, long.len()), ["unread", "good"]);
    }
}
