//! Two made-up surfaces for tests. This file and their rows are all that they need.

use super::{Event, Reject, Source};
use crate::domain::call::{Outcome, Usage};
use crate::domain::observation::Observation;
use crate::domain::surface::Surface;
use crate::domain::usage::count_of;
use crate::sources::facts::{Mechanism, SourceTable, facts};

facts! {
    /// Facts of `meter`, and of `echo.call`.
    CallFacts = Request "meter" {
        provider: "event.provider",
        model: "event.model",
        input: "event.input",
        output: "event.output",
        cost: "event.cost",
        started: "event.started",
        failed: "event.failed",
    }
}

const METER: SourceTable = CallFacts::TABLE;
const ECHO: SourceTable = CallFacts::TABLE
    .renamed("echo.call")
    .by(Mechanism::Diagnostic);

pub(crate) const METER_SOURCES: &[Source] = &[Source::new(METER, |facts, _, at_ms| {
    read(CallFacts::new(facts), Surface::Meter, at_ms)
})];
pub(crate) const ECHO_SOURCES: &[Source] = &[Source::new(ECHO, |facts, _, at_ms| {
    read(CallFacts::new(facts), Surface::Echo, at_ms)
})];

fn read(facts: CallFacts, surface: Surface, at_ms: u64) -> Result<Event, Reject> {
    let usage = Usage {
        input: count_of(facts.input()).unwrap_or_default(),
        output: count_of(facts.output()).unwrap_or_default(),
        ..Usage::default()
    };
    let started_ms = facts.started().time_ms();
    Ok(Event::Call(Box::new(Observation {
        provider: facts.provider().owned().unwrap_or_default(),
        model: facts.model().owned().unwrap_or_default(),
        usage: Some(usage).filter(|usage| !usage.is_zero()),
        cost_usd: facts.cost().amount(),
        started_ms,
        duration_ms: started_ms.map(|start| (at_ms - start) as f64),
        outcome: match facts.failed().flag() {
            Some(true) => Outcome::Failed,
            _ => Outcome::Completed,
        },
        ..Observation::of(surface, at_ms)
    })))
}
