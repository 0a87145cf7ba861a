//! The table of surfaces: all that is said of a surface stands in its row. How its observations are matched, merged and
//! waited for follows from there, and what the shim subscribes to.

#[cfg(test)]
use super::made_up;
use super::sources::Source;
use super::{diagnostic, message, named, proxied, stored, timing};
use crate::call::{CostSource, LatencySource};

/// How what a surface tells reaches this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// This process hears it when it happens.
    Live,
    /// Something between gateway and provider sees the call pass, and tells of it when it is over. It knows no session,
    /// and may tell of a call of which a killed gateway told nothing.
    OnTheWay,
    /// This process reads it from what the gateway stored, when all others had their chance.
    Afterwards,
}

/// What makes an observation one of a call whose usage is known to be another, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// The call's times: other plugins change the usage in messages.
    Times,
    /// The call's times, and no usage that differs.
    EqualUsage,
    /// The same start: see [`Row::row_start_ms`].
    SameStart,
}

/// Whether a call is held back until a surface has told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// It is not.
    Never,
    /// It is.
    Always,
    /// It is, where the gateway's diagnostics are heard.
    WithDiagnostics,
    /// It is, for so many ms, where this surface told of the same provider's calls before.
    OfProvider(u64),
}

/// When a surface may tell of a call that it told of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToldAgain {
    /// Nothing shows whether it does: it has no start of its own, or one that is reckoned from the arrival.
    Unknown,
    /// Within moments, by a second registration of the plugin; known by the span, or the start.
    AtOnce,
    /// At any time: histories are restored, imported and branched, batches are sent again. Known by the begin time, the usage
    /// and the id of the answer or the call.
    AnyTime,
}

/// All that is said of a surface. Of several surfaces the one with the lowest rank is taken; no two have the same.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Where its observations come from; the hooks and diagnostics that the shim subscribes to follow from it.
    pub(super) sources: &'static [Source],
    pub(crate) heard: Heard,
    /// Rank of its usage; `None` where it never tells any. Names (provider, model, session, run) go by the same rank,
    /// and are taken from what is on the way behind all others: see [`Row::names`].
    pub(crate) usage: Option<u8>,
    /// Rank of its outcome, and of its agent.
    pub(crate) outcome: u8,
    /// Rank of its end and its duration.
    pub(crate) time: u8,
    /// Rank of what it saw of request and answer: first byte, first token, id of the request, model that answered.
    pub(crate) request: Option<u8>,
    /// Rank and origin of its cost.
    pub(crate) cost: Option<(u8, CostSource)>,
    /// How its latency is taken: its duration where that is measured, else from its start to its end.
    pub(crate) latency: Option<LatencySource>,
    pub(crate) matched_by: Match,
    /// At most so many ms are between its start and that of the same call's row in the session store. `None` where that
    /// is not known.
    pub(crate) row_start_ms: Option<u64>,
    /// Whether it tells of each try of a call. A gateway tells of those that failed together with the answer.
    pub(crate) tells_tries: bool,
    /// Whether it tells of each answer of a model, and of nothing without one.
    pub(crate) tells_answers: bool,
    /// Whether its `completed` is true: some versions of gateways say so of calls that failed.
    pub(crate) knows_success: bool,
    pub(crate) told_again: ToldAgain,
    pub(crate) awaited: Awaited,
}

impl Row {
    /// Rank of its names: a gateway's own come first, those of a surface without usage last.
    pub(crate) fn names(&self) -> (bool, u8) {
        let is_way = matches!(self.heard, Heard::OnTheWay);
        (is_way, self.usage.unwrap_or(u8::MAX))
    }
}

/// Makes the enum and the table of the same rows.
macro_rules! surfaces {
    ($(
        $(#[doc = $doc:literal])*
        $(#[cfg($when:meta)])?
        $name:ident { $($field:ident: $value:expr,)* }
    )*) => {
        /// Which surface reported a call. A call is seen at most once on each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Surface {
            $($(#[doc = $doc])* $(#[cfg($when)])? $name,)*
        }

        const ALL: &[Surface] = &[$($(#[cfg($when)])? Surface::$name,)*];

        pub(super) const ROWS: &[Row] = &[$($(#[cfg($when)])? Row { $($field: $value),* },)*];
    };
}

// The journal holds a surface's number, which is its row's: new rows stand at the end.
surfaces! {
    /// `before_message_write`: the assistant's message, before it is stored.
    Message {
        sources: message::SOURCES,
        heard: Heard::Live,
        usage: Some(20),
        outcome: 10,
        time: 40,
        request: None,
        cost: Some((30, CostSource::Openclaw)),
        latency: Some(LatencySource::Hook),
        matched_by: Match::Times,
        row_start_ms: Some(0),
        tells_tries: false,
        tells_answers: true,
        knows_success: true,
        told_again: ToldAgain::AnyTime,
        awaited: Awaited::Always,
    }

    /// `model.call.completed` and `model.call.error`. No other plugin can change what they tell of usage.
    Diagnostic {
        sources: diagnostic::SOURCES,
        heard: Heard::Live,
        usage: Some(10),
        outcome: 20,
        time: 10,
        request: Some(20),
        cost: Some((20, CostSource::Openclaw)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: Some(10),
        tells_tries: false,
        tells_answers: false,
        knows_success: false,
        told_again: ToldAgain::AtOnce,
        awaited: Awaited::WithDiagnostics,
    }

    /// `model_call_ended`: time and outcome, never usage.
    Timing {
        sources: timing::SOURCES,
        heard: Heard::Live,
        usage: None,
        outcome: 30,
        time: 20,
        request: Some(30),
        cost: None,
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        tells_tries: false,
        tells_answers: false,
        knows_success: false,
        told_again: ToldAgain::Unknown,
        awaited: Awaited::Never,
    }

    /// `model:used`, told by somebody else.
    Named {
        sources: named::SOURCES,
        heard: Heard::Live,
        usage: Some(50),
        outcome: 60,
        time: 60,
        request: None,
        cost: Some((40, CostSource::Openclaw)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::EqualUsage,
        row_start_ms: None,
        tells_tries: false,
        tells_answers: false,
        knows_success: true,
        told_again: ToldAgain::Unknown,
        awaited: Awaited::Never,
    }

    /// The session store's row, read after the fact.
    Stored {
        sources: stored::SOURCES,
        heard: Heard::Afterwards,
        usage: Some(60),
        outcome: 70,
        time: 70,
        request: None,
        cost: Some((50, CostSource::Openclaw)),
        latency: None,
        matched_by: Match::SameStart,
        row_start_ms: None,
        tells_tries: false,
        tells_answers: false,
        knows_success: true,
        told_again: ToldAgain::AnyTime,
        awaited: Awaited::Never,
    }

    /// A reverse proxy before the provider, which read the provider's own figures. It is another process, whose file is
    /// read once a second.
    Proxied {
        sources: proxied::PROXIED_SOURCES,
        heard: Heard::OnTheWay,
        // The provider's own bytes: gateways add reasoning twice, or leave out what a compaction took.
        usage: Some(8),
        outcome: 40,
        time: 30,
        request: Some(10),
        cost: Some((10, CostSource::Provider)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        tells_tries: true,
        tells_answers: false,
        knows_success: true,
        // A response in the background is fetched whenever its client likes.
        told_again: ToldAgain::AnyTime,
        awaited: Awaited::OfProvider(3_000),
    }

    /// LiteLLM, which told what passed through it. It reckons costs with a table of prices.
    Litellm {
        sources: proxied::LITELLM_SOURCES,
        heard: Heard::OnTheWay,
        usage: Some(40),
        outcome: 50,
        time: 50,
        request: Some(40),
        cost: Some((60, CostSource::Table)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        tells_tries: true,
        tells_answers: false,
        knows_success: true,
        told_again: ToldAgain::AnyTime,
        awaited: Awaited::Never,
    }

    /// Made up for tests: something on the way that has the truest usage and tells of calls, not of tries.
    #[cfg(test)]
    Meter {
        sources: made_up::METER_SOURCES,
        heard: Heard::OnTheWay,
        usage: Some(5),
        outcome: 80,
        time: 5,
        request: None,
        cost: Some((70, CostSource::Table)),
        latency: Some(LatencySource::Measured),
        matched_by: Match::Times,
        row_start_ms: None,
        tells_tries: false,
        tells_answers: false,
        knows_success: true,
        told_again: ToldAgain::AtOnce,
        awaited: Awaited::OfProvider(8_000),
    }

    /// Made up for tests: a diagnostic that knows best how calls ended and what they cost.
    #[cfg(test)]
    Echo {
        sources: made_up::ECHO_SOURCES,
        heard: Heard::Live,
        usage: Some(70),
        outcome: 5,
        time: 80,
        request: None,
        cost: Some((5, CostSource::Openclaw)),
        latency: None,
        matched_by: Match::EqualUsage,
        row_start_ms: None,
        tells_tries: true,
        tells_answers: false,
        knows_success: true,
        told_again: ToldAgain::AtOnce,
        awaited: Awaited::Never,
    }
}

/// How many surfaces there are.
pub const SURFACES: usize = ROWS.len();

impl Surface {
    /// All of them, in the order of their rows.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        ALL.iter().copied()
    }

    /// Its row in the table.
    pub(crate) fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Whether it is read from what the gateway stored.
    pub(crate) fn is_stored(self) -> bool {
        self.row().heard == Heard::Afterwards
    }

    /// Whether it sees calls pass between gateway and provider.
    pub(crate) fn is_way(self) -> bool {
        Surfaces::ON_THE_WAY.has(self)
    }
}

/// A set of surfaces, a bit each. The journal holds it as a varint, so a set of the first seven is one byte, as it was
/// when a set was a byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Surfaces(u16);

const _: () = assert!(SURFACES <= u16::BITS as usize, "a set has a bit for each");

/// The surfaces in whose row something holds, found out at compile time: slots are asked for them by the thousand.
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

    /// Those that see calls pass between gateway and provider.
    pub(crate) const ON_THE_WAY: Self = surfaces_where!(row: matches!(row.heard, Heard::OnTheWay));
    /// Those that tell of each try of a call.
    pub(crate) const OF_TRIES: Self = surfaces_where!(row: row.tells_tries);
    /// Those that tell of each answer of a model.
    pub(crate) const OF_ANSWERS: Self = surfaces_where!(row: row.tells_answers);

    pub(crate) fn with(self, surface: Surface) -> Self {
        Self(self.0 | 1 << surface as u16)
    }

    /// Whether there is none in it that is not in the other.
    pub(crate) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether there is one that is in both.
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
