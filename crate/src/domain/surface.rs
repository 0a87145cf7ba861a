//! The table of surfaces. A surface's row defines how its observations are matched, merged and awaited, and which hooks
//! and diagnostics the shim subscribes to.

use crate::domain::call::{CostSource, LatencySource};
use crate::sources::Source;
#[cfg(test)]
use crate::sources::made_up;
use crate::sources::{diagnostic, message, named, proxied, stored, timing};

/// How a surface's observations reach this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SurfaceKind {
    /// This process receives the event when it happens.
    Live,
    /// An intermediary between gateway and provider reports the call when it is over. It knows no session, and may
    /// report a call that a killed gateway never reported.
    OnTheWay,
    /// This process reads it from the session store, after all other surfaces had their chance.
    Afterwards,
}

/// What an observation needs to match a call whose usage is unknown or differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// The call's times. Other plugins may change the usage in messages.
    Times,
    /// The call's times. Its usage must not differ.
    EqualUsage,
    /// The same start: see [`Row::row_start_ms`].
    SameStart,
}

/// Whether a pending call waits for a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// It does not.
    Never,
    /// It does.
    Always,
    /// It does where the gateway emits diagnostics.
    WithDiagnostics,
    /// It waits so many ms, where the surface has reported a call of the same provider.
    OfProvider(u64),
}

/// When a surface may report a call a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// Repeats cannot be detected: the surface reports no start, or one that is computed from the arrival.
    Unknown,
    /// Within moments, by a second registration of the plugin. Detected by the span, or the start.
    Immediately,
    /// At any time: histories are restored, imported and branched, batches are sent again. Detected by the begin time,
    /// the usage and the id of the answer or the call.
    AnyTime,
    /// At any time, and one call as two whose starts differ a little: a bridge logs the client's request and its own
    /// request to the provider.
    AnyTimeAsTwo,
}

impl Repeats {
    /// Whether a repeat is detected by the call's key, at any time.
    pub(crate) fn have_keys(self) -> bool {
        matches!(self, Self::AnyTime | Self::AnyTimeAsTwo)
    }
}

/// Properties of a surface. Of several surfaces that report a figure, the one with the lowest rank is taken. No two
/// surfaces have the same rank.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Its sources. The shim's subscriptions to hooks and diagnostics are derived from them.
    pub(crate) sources: &'static [Source],
    pub(crate) kind: SurfaceKind,
    /// Rank of its usage; `None` where it never reports any. Names (provider, model, session, run) have the same rank,
    /// except that those of intermediaries come last: see [`Row::names`].
    pub(crate) usage: Option<u8>,
    /// Rank of its outcome, and of its agent.
    pub(crate) outcome: u8,
    /// Rank of its end and its duration.
    pub(crate) time: u8,
    /// Rank of its fields about request and answer: time to first byte, time to first token, id of the request, model
    /// that answered.
    pub(crate) request: Option<u8>,
    /// Rank and source of its cost.
    pub(crate) cost: Option<(u8, CostSource)>,
    /// Source of its latency: a measured duration, else the time from its start to its end.
    pub(crate) latency: Option<LatencySource>,
    pub(crate) matched_by: Match,
    /// Maximum distance, in ms, between its start and that of the same call's row in the session store. `None` where
    /// that is unknown.
    pub(crate) row_start_ms: Option<u64>,
    /// Whether it reports each attempt of a call. A gateway reports failed attempts together with the answer.
    pub(crate) reports_attempts: bool,
    /// Whether it reports each answer of a model, and nothing but answers.
    pub(crate) reports_answers: bool,
    /// Whether its `completed` is reliable: some versions of the gateway report failed calls as completed.
    pub(crate) has_reliable_success: bool,
    pub(crate) repeats: Repeats,
    pub(crate) awaited: Awaited,
}

impl Row {
    /// Rank of its names: gateway surfaces first, intermediaries last; within each, by the rank of usage, surfaces
    /// without usage last.
    pub(crate) fn names(&self) -> (bool, u8) {
        let is_intermediary = matches!(self.kind, SurfaceKind::OnTheWay);
        (is_intermediary, self.usage.unwrap_or(u8::MAX))
    }
}

/// Generates the enum and the table from the same rows.
macro_rules! surfaces {
    ($(
        $(#[doc = $doc:literal])*
        $(#[cfg($when:meta)])?
        $name:ident { $($field:ident: $value:expr,)* }
    )*) => {
        /// The surface that reported a call. Each surface reports a call at most once.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Surface {
            $($(#[doc = $doc])* $(#[cfg($when)])? $name,)*
        }

        const ALL: &[Surface] = &[$($(#[cfg($when)])? Surface::$name,)*];

        pub(crate) const ROWS: &[Row] = &[$($(#[cfg($when)])? Row { $($field: $value),* },)*];
    };
}

// The journal stores a surface as the number of its row: new rows are appended.
surfaces! {
    /// `before_message_write`: the assistant's message, before it is stored.
    Message {
        sources: message::SOURCES,
        kind: SurfaceKind::Live,
        usage: Some(20),
        outcome: 10,
        time: 40,
        request: None,
        cost: Some((30, CostSource::Openclaw)),
        latency: Some(LatencySource::Hook),
        matched_by: Match::Times,
        row_start_ms: Some(0),
        reports_attempts: false,
        reports_answers: true,
        has_reliable_success: true,
        repeats: Repeats::AnyTime,
        awaited: Awaited::Always,
    }

    /// `model.call.completed` and `model.call.error`. No other plugin can change their usage.
    Diagnostic {
        sources: diagnostic::SOURCES,
        kind: SurfaceKind::Live,
        usage: Some(10),
        outcome: 20,
        time: 10,
        request: Some(20),
        cost: Some((20, CostSource::Openclaw)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: Some(10),
        reports_attempts: false,
        reports_answers: false,
        has_reliable_success: false,
        repeats: Repeats::Immediately,
        awaited: Awaited::WithDiagnostics,
    }

    /// `model_call_ended`: time and outcome, never usage.
    Timing {
        sources: timing::SOURCES,
        kind: SurfaceKind::Live,
        usage: None,
        outcome: 30,
        time: 20,
        request: Some(30),
        cost: None,
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        reports_attempts: false,
        reports_answers: false,
        has_reliable_success: false,
        repeats: Repeats::Unknown,
        awaited: Awaited::Never,
    }

    /// `model:used`, emitted by a third party.
    Named {
        sources: named::SOURCES,
        kind: SurfaceKind::Live,
        usage: Some(50),
        outcome: 60,
        time: 60,
        request: None,
        cost: Some((40, CostSource::Openclaw)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::EqualUsage,
        row_start_ms: None,
        reports_attempts: false,
        reports_answers: false,
        has_reliable_success: true,
        repeats: Repeats::Unknown,
        awaited: Awaited::Never,
    }

    /// The session store's row, read after the fact.
    Stored {
        sources: stored::SOURCES,
        kind: SurfaceKind::Afterwards,
        usage: Some(60),
        outcome: 70,
        time: 70,
        request: None,
        cost: Some((50, CostSource::Openclaw)),
        latency: None,
        matched_by: Match::SameStart,
        row_start_ms: None,
        reports_attempts: false,
        reports_answers: false,
        has_reliable_success: true,
        repeats: Repeats::AnyTime,
        awaited: Awaited::Never,
    }

    /// A reverse proxy before the provider, which reads the provider's own figures. It runs in another process; its
    /// spool file is read once a second.
    Proxied {
        sources: proxied::PROXIED_SOURCES,
        kind: SurfaceKind::OnTheWay,
        // Read from the provider's own bytes. Gateways add reasoning twice, or leave out the tokens of a compaction.
        usage: Some(8),
        outcome: 40,
        time: 30,
        request: Some(10),
        cost: Some((10, CostSource::Provider)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        reports_attempts: true,
        reports_answers: false,
        has_reliable_success: true,
        // A client may fetch a background response at any time.
        repeats: Repeats::AnyTime,
        awaited: Awaited::OfProvider(3_000),
    }

    /// LiteLLM, which logs the calls that pass through it. It computes costs from a price table.
    Litellm {
        sources: proxied::LITELLM_SOURCES,
        kind: SurfaceKind::OnTheWay,
        usage: Some(40),
        outcome: 50,
        time: 50,
        request: Some(40),
        cost: Some((60, CostSource::Table)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        reports_attempts: true,
        reports_answers: false,
        has_reliable_success: true,
        repeats: Repeats::AnyTimeAsTwo,
        awaited: Awaited::Never,
    }

    /// Made up for tests: an intermediary whose usage ranks first, and which reports calls, not attempts.
    #[cfg(test)]
    Meter {
        sources: made_up::METER_SOURCES,
        kind: SurfaceKind::OnTheWay,
        usage: Some(5),
        outcome: 80,
        time: 5,
        request: None,
        cost: Some((70, CostSource::Table)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        reports_attempts: false,
        reports_answers: false,
        has_reliable_success: true,
        repeats: Repeats::Immediately,
        awaited: Awaited::OfProvider(8_000),
    }

    /// Made up for tests: a diagnostic whose outcome and cost rank first.
    #[cfg(test)]
    Echo {
        sources: made_up::ECHO_SOURCES,
        kind: SurfaceKind::Live,
        usage: Some(70),
        outcome: 5,
        time: 80,
        request: None,
        cost: Some((5, CostSource::Openclaw)),
        latency: None,
        matched_by: Match::EqualUsage,
        row_start_ms: None,
        reports_attempts: true,
        reports_answers: false,
        has_reliable_success: true,
        repeats: Repeats::Immediately,
        awaited: Awaited::Never,
    }
}

/// Number of surfaces.
pub const SURFACES: usize = ROWS.len();

impl Surface {
    /// All surfaces, in the order of their rows.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        ALL.iter().copied()
    }

    /// Its row in the table.
    pub(crate) fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Whether it is the session store.
    pub(crate) fn is_stored(self) -> bool {
        self.row().kind == SurfaceKind::Afterwards
    }

    /// Whether it is an intermediary between gateway and provider.
    pub(crate) fn is_intermediary(self) -> bool {
        Surfaces::INTERMEDIARIES.has(self)
    }
}

/// A set of surfaces, one bit each. The journal stores it as a varint: a set of the first seven surfaces is one byte,
/// as in the format's first version, where a set was a byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Surfaces(u16);

const _: () = assert!(SURFACES <= u16::BITS as usize, "a set has a bit for each");

/// The set of the surfaces whose row has a property, computed at compile time: matching checks thousands of records
/// against it.
macro_rules! surfaces_where {
    ($row:ident: $holds:expr) => {{
        let (mut bits, mut index) = (0, 0);
        while index < ROWS.len() {
            let $row = &ROWS[index];
            if $holds {
                bits |= 1 << index;
            }
            index += 1;
        }
        Surfaces(bits)
    }};
}

impl Surfaces {
    /// The set whose bits are these; a surface's bit is its row's number.
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// A bit for each surface.
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// The intermediaries between gateway and provider.
    pub(crate) const INTERMEDIARIES: Self =
        surfaces_where!(row: matches!(row.kind, SurfaceKind::OnTheWay));
    /// Surfaces that report each attempt of a call.
    pub(crate) const REPORT_ATTEMPTS: Self = surfaces_where!(row: row.reports_attempts);
    /// Surfaces that report each answer of a model.
    pub(crate) const REPORT_ANSWERS: Self = surfaces_where!(row: row.reports_answers);

    pub(crate) fn with(self, surface: Surface) -> Self {
        Self(self.0 | 1 << surface as u16)
    }

    /// Whether all its surfaces are in the other set.
    pub(crate) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether the sets have a surface in common.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn has(self, surface: Surface) -> bool {
        self.0 & 1 << surface as u16 != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Surface> {
        Surface::all().filter(move |surface| self.has(*surface))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_surfaces_have_the_same_rank() {
        let check = |name: &str, column: fn(&Row) -> Option<u8>| {
            let ranks: Vec<u8> = ROWS.iter().filter_map(column).collect();
            let different: BTreeSet<_> = ranks.iter().collect();
            assert_eq!(different.len(), ranks.len(), "{name}: {ranks:?}");
        };
        check("usage", |row| row.usage);
        check("outcome", |row| Some(row.outcome));
        check("time", |row| Some(row.time));
        check("request", |row| row.request);
        check("cost", |row| row.cost.map(|(rank, _)| rank));
    }
}
