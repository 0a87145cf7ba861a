//! What outlives an instance of the module: frames that hold calls, from which a fresh instance goes on.
//!
//! A frame is `length u32 LE, checksum u32 LE, payload`; the payload is a [`Frame`] in postcard's
//! encoding. A torn or corrupt frame costs itself alone where its length can still be believed.

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::call::{CallId, ModelCall};
use crate::ledger::Slot;
use crate::observe::Observation;

/// The longest payload; more is corruption.
const MAX_PAYLOAD: usize = 64 * 1024;
const HEADER: usize = 8;

/// One journalled fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Frame {
    /// A surface saw a call that was minted or already known under this id.
    Seen(CallId, Box<Observation>),
    /// A final call's identity, kept to suppress late observations.
    Slot(Box<Slot>),
    /// A call is final and waits to be sent.
    Final(Box<ModelCall>),
    /// These calls have arrived, or were dropped for a counted reason.
    Settled(Vec<CallId>),
}

/// Appends a frame to a buffer.
pub fn append(out: &mut Vec<u8>, frame: &Frame) {
    // Only types that postcard supports stand in a frame, so encoding cannot fail.
    let Ok(payload) = postcard::to_allocvec(frame) else {
        return;
    };
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
}

/// What reading a journal gave.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The good frames, in order.
    pub frames: Vec<Frame>,
    /// How many frames were torn or corrupt.
    pub corrupt: u64,
}

/// Reads every good frame. A frame whose length cannot be right ends the reading.
pub fn read(bytes: &[u8]) -> Recovered {
    let mut recovered = Recovered::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((payload, sum, after)) = split(rest) else {
            recovered.corrupt += 1;
            break;
        };
        match (checksum(payload) == sum).then(|| postcard::from_bytes(payload)) {
            Some(Ok(frame)) => recovered.frames.push(frame),
            _ => recovered.corrupt += 1,
        }
        rest = after;
    }
    recovered
}

/// SipHash, since it is in the module anyway and needs no tables.
fn checksum(payload: &[u8]) -> u32 {
    SipHasher13::new().hash(payload) as u32
}

fn split(bytes: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header.get(..4)?.try_into().ok()?) as usize;
    let sum = u32::from_le_bytes(header.get(4..)?.try_into().ok()?);
    if length > MAX_PAYLOAD {
        return None;
    }
    let (payload, after) = rest.split_at_checked(length)?;
    Some((payload, sum, after))
}
