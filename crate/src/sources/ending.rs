//! Decides how an answer ended, and whether it is a call.

use super::answer::{Api, End, Reading, State};
use crate::domain::call::Outcome;
use crate::domain::usage::Used;

/// How the connection that brought the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// After the answer's last byte.
    Whole,
    /// The provider closed it early.
    Cut,
    /// The client closed it early.
    Left,
}

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A finished call.
    Call,
    /// A call that continues in the background; its answer is fetched later.
    Pending,
    /// No call of a model, though the path is that of one.
    Nothing,
}

impl About {
    pub(crate) fn is_call(&self) -> bool {
        *self == Self::Call
    }
}

impl Reading {
    fn has_failed(&self) -> bool {
        self.status >= 300 || self.sum.has_error
    }

    /// Whether usage was reported, readable or not.
    pub(crate) fn has_usage(&self) -> bool {
        let used = Used::of(&self.sum.usage);
        used.is_broken || used.tokens.is_some()
    }

    pub(crate) fn about(&self, is_document: bool) -> About {
        let sum = &self.sum;
        let is_silent = !self.has_usage() && !self.is_unread;
        let is_open = sum.end == End::Open && !self.has_failed();
        match sum.state {
            State::NoCall if !self.has_failed() => About::Nothing,
            State::Pending if is_open && is_silent && is_document => About::Pending,
            // A client that leaves a background response may fetch it later.
            _ if is_open && is_silent && sum.is_background => About::Pending,
            // A failed fetch is not a failed call, and a call without an end is not counted yet.
            _ if self.target.is_retrieval && (self.status >= 300 || is_open) => About::Nothing,
            // For example a job's number: neither an answer nor an error.
            _ if is_open && is_silent && is_document && !sum.has_answer => About::Nothing,
            _ => About::Call,
        }
    }

    pub(crate) fn outcome(&self, ending: Ending, is_document: bool) -> Outcome {
        let has_usage = self.has_usage();
        let is_complete = match self.sum.end {
            End::Complete | End::Cancelled => true,
            // A client that leaves before the usage has not read the whole answer, though its text has ended.
            End::Finished => self.is_done || has_usage || ending == Ending::Whole,
            // The end was not read.
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

    /// Whether an answer without a reason for its end is whole.
    fn is_whole(&self, ending: Ending, is_document: bool) -> bool {
        let has_usage = self.has_usage();
        match self.target.api {
            // These report usage at the beginning, and mark the end in the last event or line.
            Api::Messages | Api::Invoke | Api::Ollama => {
                is_document && (has_usage || self.sum.has_answer)
            }
            _ if is_document => has_usage || self.sum.has_answer,
            // These report usage last.
            _ => ending == Ending::Whole && has_usage,
        }
    }
}
