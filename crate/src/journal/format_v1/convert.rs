//! Conversion between the domain and [`super`]. Each struct is destructured field by field, so that a new field of the
//! domain fails to compile until it is handled here.

use super as v1;
use crate::activity::records::Written;
use crate::activity::sessions::Counted;
use crate::domain::call::{CallId, CostSource, LatencySource, Operation, Origin, Outcome, Usage};
use crate::domain::observation::Observation;
use crate::domain::surface::{Surface, Surfaces};
use crate::domain::usage::{Bill, Part, Tier};
use crate::journal::Frame;
use crate::journal::log::Kind;
use crate::matching::MatchRecord;
use crate::sources::SessionFacts;

/// A record as an entry of its log.
pub fn record_bytes(record: &Written) -> Vec<u8> {
    let (list, json) = record.parts();
    [&[list], json.as_bytes()].concat()
}

/// A record from its entry.
pub fn record(payload: &[u8]) -> Option<Written> {
    let (list, json) = payload.split_first()?;
    Written::new(*list, str::from_utf8(json).ok()?)
}

/// Rejects NaN and infinities: JSON cannot express them, and a receiver would refuse the whole batch.
pub(super) fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// [`finite`] for an optional number.
pub(super) fn finite_or_none(number: Option<f64>) -> Option<Option<f64>> {
    number.map_or(Some(None), |number| finite(number).map(Some))
}

pub(super) fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

impl<'a> From<&'a Frame> for v1::Frame<'a> {
    fn from(frame: &'a Frame) -> Self {
        match frame {
            Frame::Begin => Self::Begin,
            Frame::Seen(id, seen) => Self::Seen(id.0, (&**seen).into()),
            Frame::MatchRecord(record) => Self::MatchRecord((&**record).into()),
            Frame::Closed(ids) => Self::Closed(ids.iter().map(|id| id.0).collect()),
            Frame::Gone(kind, segment, offsets) => {
                Self::Gone((*kind).into(), *segment, offsets.clone())
            }
            Frame::Counted(session, model, counted) => {
                Self::Counted(session, model, (*counted).into())
            }
            Frame::Bookmark(file, mark) => Self::Bookmark(file, mark),
            Frame::Reconciled(until_ms) => Self::Reconciled(*until_ms),
            Frame::Record(record) => Self::Record(record.into()),
            Frame::Facts(facts) => Self::Facts((&**facts).into()),
            Frame::Together(frames) => Self::Together(frames.iter().map(Self::from).collect()),
            Frame::Told {
                until_ms,
                forgotten_ms,
                keys,
            } => Self::Told {
                until_ms: *until_ms,
                forgotten_ms: *forgotten_ms,
                keys,
            },
            Frame::Passed(path) => Self::Passed(path),
            Frame::Cursor(kind, cursor) => {
                Self::Cursor(v1::Outlet::AgentWatch, (*kind).into(), cursor.into())
            }
            Frame::Spent(id, spent) => Self::Spent(id.0, (&**spent).into()),
            Frame::Lift(lift) => Self::Lift((*lift).into()),
            Frame::Allowances(state) => Self::Allowances((&**state).into()),
            Frame::Tally(id, entry) => Self::Tally(
                id.0,
                entry.ended_ms,
                (&entry.key).into(),
                entry.sums.numbers(),
            ),
            Frame::Tallied(row) => Self::Tallied(
                row.span.into(),
                row.number,
                (&row.key).into(),
                row.sums.numbers(),
            ),
            Frame::Incidents(state) => Self::Incidents(state),
        }
    }
}

impl v1::Frame<'_> {
    pub(super) fn domain(self) -> Option<Frame> {
        Some(match self {
            Self::Begin => Frame::Begin,
            Self::Seen(id, seen) => Frame::Seen(CallId(id), Box::new(seen.domain()?)),
            Self::MatchRecord(record) => Frame::MatchRecord(Box::new(record.into())),
            Self::Closed(ids) => Frame::Closed(ids.into_iter().map(CallId).collect()),
            Self::Gone(log, segment, offsets) => Frame::Gone(log.into(), segment, offsets),
            Self::Counted(session, model, counted) => {
                Frame::Counted(session.to_owned(), model.to_owned(), counted.domain()?)
            }
            Self::Bookmark(file, mark) => Frame::Bookmark(file.to_owned(), mark.to_owned()),
            Self::Reconciled(until_ms) => Frame::Reconciled(until_ms),
            Self::Record(v1::Record { list, json }) => Frame::Record(Written::new(list, json)?),
            Self::Facts(facts) => Frame::Facts(Box::new(facts.into())),
            Self::Together(frames) => {
                let frames = frames.into_iter().map(Self::domain);
                Frame::Together(frames.collect::<Option<_>>()?)
            }
            Self::Told {
                until_ms,
                forgotten_ms,
                keys,
            } => Frame::Told {
                until_ms,
                forgotten_ms,
                keys: keys.to_owned(),
            },
            Self::Passed(path) => Frame::Passed(path.to_owned()),
            Self::Cursor(v1::Outlet::AgentWatch, log, cursor) => {
                Frame::Cursor(log.into(), cursor.into())
            }
            Self::SeenMore(id, seen, bill, more) => {
                return Self::SeenAs(id, seen, bill, more, v1::Operation::Chat).domain();
            }
            Self::SeenAs(id, seen, bill, more, operation) => {
                let (origin, prompt) = more.domain();
                let seen = Observation {
                    bill: bill.map(|bill| Box::new(bill.into())),
                    origin,
                    prompt,
                    operation: operation.into(),
                    ..seen.domain()?
                };
                Frame::Seen(CallId(id), Box::new(seen))
            }
            Self::SeenWith(id, seen, bill) => {
                return Self::SeenMore(id, seen, Some(bill), v1::More::default()).domain();
            }
            // It belongs to a frame in front of it.
            Self::Further(..) => return None,
            Self::Tally(id, ended_ms, key, numbers) => Frame::Tally(
                CallId(id),
                Box::new(v1::history::entry(ended_ms, key, numbers)),
            ),
            Self::Tallied(span, number, key, numbers) => {
                Frame::Tallied(Box::new(v1::history::row(span, number, key, numbers)))
            }
            Self::Incidents(state) => Frame::Incidents(state.to_owned()),
            Self::Spent(id, spent) => Frame::Spent(CallId(id), Box::new(spent.into())),
            Self::Lift(lift) => Frame::Lift(lift.into()),
            Self::Allowances(state) => Frame::Allowances(Box::new(state.into())),
        })
    }
}

/// Converts between enums with the same variants.
macro_rules! same {
    ($domain:ident, $v1:ident: $($name:ident)*) => {
        impl From<$domain> for v1::$v1 {
            fn from(one: $domain) -> Self {
                match one { $($domain::$name => Self::$name,)* }
            }
        }

        impl From<v1::$v1> for $domain {
            fn from(one: v1::$v1) -> Self {
                match one { $(v1::$v1::$name => Self::$name,)* }
            }
        }
    };
}

same!(Kind, Log: Calls Records);
same!(Outcome, Outcome: Completed Failed Aborted);
same!(Tier, Tier: Standard Flex Batch Priority);
same!(LatencySource, LatencySource: Measured Hook);
same!(CostSource, CostSource: Provider Openclaw Configured Table Subscription Unknown);

impl From<Usage> for v1::Usage {
    fn from(usage: Usage) -> Self {
        let Usage {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
        } = usage;
        Self {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
        }
    }
}

impl From<v1::Usage> for Usage {
    fn from(usage: v1::Usage) -> Self {
        let v1::Usage {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
        } = usage;
        Self {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
        }
    }
}

impl<'a> From<&'a Observation> for v1::Observation<'a> {
    fn from(seen: &'a Observation) -> Self {
        let Observation {
            surface,
            provider,
            model,
            session_key,
            run_id,
            span_id,
            trigger,
            agent,
            response_id,
            usage,
            cost_usd,
            started_ms,
            ended_ms,
            duration_ms,
            ttfb_ms,
            ttft_ms,
            request_id,
            response_model,
            outcome,
            whole_turn,
            broken_usage,
            reported_zeros,
            ends_turn,
            elsewhere,
            call_key,
            // `Further` has these.
            operation: _,
            bill: _,
            origin: _,
            prompt: _,
        } = seen;
        Self {
            surface: *surface as u32,
            provider,
            model,
            session_key: session_key.as_deref(),
            run_id: run_id.as_deref(),
            span_id: span_id.as_deref(),
            trigger: trigger.as_deref(),
            agent: agent.as_deref(),
            response_id: response_id.as_deref(),
            usage: usage.map(v1::Usage::from),
            cost_usd: *cost_usd,
            started_ms: *started_ms,
            ended_ms: *ended_ms,
            duration_ms: *duration_ms,
            ttfb_ms: *ttfb_ms,
            ttft_ms: *ttft_ms,
            request_id: request_id.as_deref(),
            response_model: response_model.as_deref(),
            outcome: (*outcome).into(),
            whole_turn: *whole_turn,
            broken_usage: *broken_usage,
            told_zeros: *reported_zeros,
            ends_turn: *ends_turn,
            elsewhere: *elsewhere,
            row: *call_key,
        }
    }
}

impl v1::Observation<'_> {
    fn domain(self) -> Option<Observation> {
        Some(Observation {
            surface: Surface::all().nth(self.surface as usize)?,
            provider: self.provider.to_owned(),
            model: self.model.to_owned(),
            session_key: owned(self.session_key),
            run_id: owned(self.run_id),
            span_id: owned(self.span_id),
            trigger: owned(self.trigger),
            agent: owned(self.agent),
            response_id: owned(self.response_id),
            usage: self.usage.map(Usage::from),
            cost_usd: finite_or_none(self.cost_usd)?,
            started_ms: self.started_ms,
            ended_ms: self.ended_ms,
            duration_ms: finite_or_none(self.duration_ms)?,
            ttfb_ms: finite_or_none(self.ttfb_ms)?,
            ttft_ms: finite_or_none(self.ttft_ms)?,
            request_id: owned(self.request_id),
            response_model: owned(self.response_model),
            outcome: self.outcome.into(),
            whole_turn: self.whole_turn,
            broken_usage: self.broken_usage,
            reported_zeros: self.told_zeros,
            ends_turn: self.ends_turn,
            elsewhere: self.elsewhere,
            call_key: self.row,
            operation: Operation::Chat,
            bill: None,
            origin: Origin::default(),
            prompt: None,
        })
    }
}

impl<'a> From<&'a Bill> for v1::Bill<'a> {
    fn from(bill: &'a Bill) -> Self {
        let Bill {
            is_billed,
            write_1h,
            tier,
            is_fast,
            is_us,
            web_searches,
            file_searches,
            code_runs,
            sources,
            parts,
        } = bill;
        let part = |Part { model, tokens }: &'a Part| v1::Part {
            model: model.as_deref(),
            tokens: *tokens,
        };
        Self {
            is_billed: *is_billed,
            write_1h: *write_1h,
            tier: tier.map(v1::Tier::from),
            is_fast: *is_fast,
            is_us: *is_us,
            web_searches: *web_searches,
            file_searches: *file_searches,
            code_runs: *code_runs,
            sources: *sources,
            parts: parts.iter().map(part).collect(),
        }
    }
}

impl From<v1::Bill<'_>> for Bill {
    fn from(bill: v1::Bill) -> Self {
        let part = |v1::Part { model, tokens }| Part {
            model: owned(model),
            tokens,
        };
        Self {
            is_billed: bill.is_billed,
            write_1h: bill.write_1h,
            tier: bill.tier.map(Tier::from),
            is_fast: bill.is_fast,
            is_us: bill.is_us,
            web_searches: bill.web_searches,
            file_searches: bill.file_searches,
            code_runs: bill.code_runs,
            sources: bill.sources,
            parts: bill.parts.into_iter().map(part).collect(),
        }
    }
}

impl From<&MatchRecord> for v1::MatchRecord {
    fn from(record: &MatchRecord) -> Self {
        let MatchRecord {
            id,
            bucket,
            model,
            span,
            started_ms,
            ended_ms,
            usage,
            seen,
            is_answered,
            call_key,
            is_unbilled,
            answer: _,
            is_several: _,
            // Valid only in this process.
            first_seen_s: _,
            clock_ms: _,
        } = record;
        Self {
            id: id.0,
            bucket: *bucket,
            model: *model,
            span: (*span).into(),
            started_ms: (*started_ms).into(),
            ended_ms: *ended_ms,
            usage: Option::<Usage>::from(*usage).map(v1::Usage::from),
            seen: seen.bits(),
            is_answered: *is_answered,
            row: (*call_key).into(),
            is_unbilled: *is_unbilled,
        }
    }
}

impl From<v1::MatchRecord> for MatchRecord {
    fn from(record: v1::MatchRecord) -> Self {
        Self {
            id: CallId(record.id),
            bucket: record.bucket,
            model: record.model,
            span: record.span.into(),
            started_ms: record.started_ms.into(),
            ended_ms: record.ended_ms,
            usage: record.usage.map(Usage::from).into(),
            seen: Surfaces::from_bits(record.seen),
            is_answered: record.is_answered,
            call_key: record.row.into(),
            answer: None.into(),
            is_unbilled: record.is_unbilled,
            is_several: false,
            first_seen_s: 0,
            clock_ms: 0,
        }
    }
}

impl From<Counted> for v1::Counted {
    fn from(counted: Counted) -> Self {
        let Counted {
            requests,
            prompt,
            completion,
            cost_usd,
        } = counted;
        Self {
            requests,
            prompt,
            completion,
            cost_usd,
        }
    }
}

impl v1::Counted {
    fn domain(self) -> Option<Counted> {
        Some(Counted {
            requests: self.requests,
            prompt: self.prompt,
            completion: self.completion,
            cost_usd: finite(self.cost_usd)?,
        })
    }
}

impl<'a> From<&'a Written> for v1::Record<'a> {
    fn from(record: &'a Written) -> Self {
        let (list, json) = record.parts();
        Self { list, json }
    }
}

impl<'a> From<&'a SessionFacts> for v1::SessionFacts<'a> {
    fn from(facts: &'a SessionFacts) -> Self {
        let SessionFacts {
            session_key,
            run_id,
            trigger,
            agent,
            ended,
            // Only for the log of the process that received the event.
            what: _,
            // The other process attributes its calls itself.
            origin: _,
            channel_id: _,
            begins_run: _,
            reason,
            ends_run,
        } = facts;
        Self {
            session_key,
            run_id: run_id.as_deref(),
            trigger: trigger.as_deref(),
            agent: agent.as_deref(),
            ended: *ended,
            reason: reason.as_deref(),
            ends_run: *ends_run,
        }
    }
}

impl From<v1::SessionFacts<'_>> for SessionFacts {
    fn from(facts: v1::SessionFacts) -> Self {
        Self {
            session_key: facts.session_key.to_owned(),
            run_id: owned(facts.run_id),
            trigger: owned(facts.trigger),
            agent: owned(facts.agent),
            ended: facts.ended,
            what: None,
            origin: Origin::default(),
            channel_id: None,
            begins_run: false,
            reason: owned(facts.reason),
            ends_run: facts.ends_run,
        }
    }
}
