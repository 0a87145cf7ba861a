//! How an answer ended, and whether it tells of a call at all.

use super::answer::{Api, End, Reading, State};
use crate::call::Outcome;
use crate::usage::Used;

/// How the connection that brought the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With the answer's last byte.
    Whole,
    /// The provider broke it off.
    Cut,
    /// The client did.
    Left,
}

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A call that is over.
    Call,
    /// A call that goes on in the background: its answer is fetched later.
    Pending,
    /// No call of a model, though its path is one of such.
    Nothing,
}

impl About {
    pub(super) fn is_call(&self) -> bool {
        *self == Self::Call
    }
}

impl Reading {
    fn has_failed(&self) -> bool {
        self.status >= 300 || self.sum.has_error
    }

    /// Whether usage was told, be it one that cannot be read.
    pub(super) fn has_usage(&self) -> bool {
        let used = Used::of(&self.sum.usage);
        used.is_broken || used.tokens.is_some()
    }

    pub(super) fn about(&self, is_document: bool) -> About {
        let sum = &self.sum;
        let is_silent = !self.has_usage() && !self.is_unread;
        let is_open = sum.end == End::Open && !self.has_failed();
        match sum.state {
            State::NoCall if !self.has_failed() => About::Nothing,
            State::Pending if is_open && is_silent && is_document => About::Pending,
            // Who leaves a response that goes on without a connection may fetch it later.
            _ if is_open && is_silent && sum.is_background => About::Pending,
            // A failure to fetch is none of the call; and without an end there is nothing to count yet.
            _ if self.target.is_retrieval && (self.status >= 300 || is_open) => About::Nothing,
            // A job's number, say: neither an answer nor an error.
            _ if is_open && is_silent && is_document && !sum.has_answer => About::Nothing,
            _ => About::Call,
        }
    }

    pub(super) fn outcome(&self, ending: Ending, is_document: bool) -> Outcome {
        let has_usage = self.has_usage();
        let is_complete = match self.sum.end {
            End::Complete | End::Cancelled => true,
            // Who leaves before the usage has not seen the whole answer, though its text has ended.
            End::Finished => self.is_done || has_usage || ending == Ending::Whole,
            // Nobody has read how it ended.
            End::Open if self.is_unread => ending == Ending::Whole,
            End::Open => self.is_done || self.is_whole(ending, is_document),
        };
        match ending {
            _ if self.has_failed() => Outcome::Failed,
            _ if self.sum.end == End::Cancelled => Outcome::Aborted,
            _ if is_complete => Outcome::Completed,
            Ending::Left => Outcome::Aborted,
            Ending::Whole | Ending::Cut => Outcome::Failed,
        }
    }

    /// Whether an answer that does not say why it ended is whole all the same.
    fn is_whole(&self, ending: Ending, is_document: bool) -> bool {
        let has_usage = self.has_usage();
        match self.target.api {
            // What these tell at the beginning is no sign of an end, and the last line says that it is.
            Api::Messages | Api::Invoke | Api::Ollama => {
                is_document && (has_usage || self.sum.has_answer)
            }
            _ if is_document => has_usage || self.sum.has_answer,
            // Their usage comes last.
            _ => ending == Ending::Whole && has_usage,
        }
    }
}
