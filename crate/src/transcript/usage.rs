//! The usage of a row: OpenClaw's own names, and those that its reader of usage (`normalizeUsage`) takes in their place. Rows
//! that other programs wrote, and rows of old versions, have a provider's names.

use super::row::{Fact, member};
use crate::json::Value;

/// A count of tokens.
#[derive(Clone, Copy, PartialEq)]
enum Count {
    Input,
    Output,
    CacheRead,
    CacheWrite,
}

use Count::{CacheRead, CacheWrite, Input, Output};

/// What a name says of the prompt.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// The count is a part of the prompt's count, whatever that is called.
    OfAny,
    /// The count is a part of the prompt's count, unless that is called `input`.
    OfOthers,
    /// The counts are told apart.
    No,
}

use Part::{No, OfAny, OfOthers};

/// The names of each count in the order in which OpenClaw 2026.9.6 takes them, behind its own: the first that is there. A name
/// with a dot is one of a nested object.
const NAMES: &[(Count, &str, Part)] = &[
    (Input, "inputTokens", No),
    (Input, "input_tokens", No),
    (Input, "promptTokens", No),
    (Input, "prompt_tokens", No),
    (Input, "prompt_n", No),
    (Input, "timings.prompt_n", No),
    (Output, "outputTokens", No),
    (Output, "output_tokens", No),
    (Output, "completionTokens", No),
    (Output, "completion_tokens", No),
    (Output, "predicted_n", No),
    (Output, "timings.predicted_n", No),
    (CacheRead, "cache_read", No),
    (CacheRead, "cache_read_input_tokens", No),
    (CacheRead, "cached_input_tokens", OfOthers),
    (CacheRead, "cached", OfOthers),
    (CacheRead, "cached_tokens", OfAny),
    (CacheRead, "input_tokens_details.cached_tokens", OfAny),
    (CacheRead, "prompt_tokens_details.cached_tokens", OfAny),
    (CacheWrite, "cache_write", No),
    (CacheWrite, "cache_creation_input_tokens", No),
    (CacheWrite, "cache_write_input_tokens", OfOthers),
    (
        CacheWrite,
        "input_tokens_details.cache_write_tokens",
        OfOthers,
    ),
    (
        CacheWrite,
        "prompt_tokens_details.cache_write_tokens",
        OfOthers,
    ),
    (
        CacheWrite,
        "prompt_tokens_details.cache_creation_input_tokens",
        OfOthers,
    ),
];

/// The values of a row's usage.
#[derive(Default)]
pub struct Usage<'a> {
    counts: [Option<Value<'a>>; 4],
    cost: Option<Value<'a>>,
    whole: Option<Value<'a>>,
}

impl<'a> Usage<'a> {
    pub fn of(value: Value<'a>) -> Self {
        let mut usage = Self {
            whole: Some(value),
            ..Self::default()
        };
        value.members(|key, value| match key {
            "input" => usage.counts[Input as usize] = Some(value),
            "output" => usage.counts[Output as usize] = Some(value),
            "cacheRead" => usage.counts[CacheRead as usize] = Some(value),
            "cacheWrite" => usage.counts[CacheWrite as usize] = Some(value),
            "cost" => usage.cost = member(value, "total"),
            _ => {}
        });
        usage
    }

    /// A fact by its name in the table `stored`.
    pub fn fact(&self, name: &str) -> Fact<'a> {
        let count = match name {
            "input" => Input,
            "output" => Output,
            "cache_read" => CacheRead,
            "cache_write" => CacheWrite,
            _ => return self.cost.map_or(Fact::Absent, Fact::of),
        };
        let own = self.own(count);
        // OpenClaw's own rows have all four.
        let has_all = self.counts.iter().flatten().count() == self.counts.len();
        match own {
            Some(value) if has_all || count != Input => Fact::of(value),
            _ if self.whole.is_none() => Fact::Absent,
            _ => self.other(count),
        }
    }

    fn own(&self, count: Count) -> Option<Value<'a>> {
        self.counts[count as usize].filter(|value| !value.is_null())
    }

    /// The first name of a count that is there, and its value.
    fn named(&self, count: Count) -> Option<(Value<'a>, Part)> {
        let found = |name: &str| {
            let value = name.split('.').try_fold(self.whole?, member);
            value.filter(|value| !value.is_null())
        };
        let mut names = NAMES.iter().filter(|(of, ..)| *of == count);
        names.find_map(|(_, name, part)| Some((found(name)?, *part)))
    }

    fn other(&self, count: Count) -> Fact<'a> {
        let own = self.own(count);
        let Some(value) = own.or_else(|| self.named(count).map(|(value, _)| value)) else {
            return Fact::Absent;
        };
        if count != Input {
            return Fact::of(value);
        }
        let parts = [CacheRead, CacheWrite].map(|cached| {
            let (value, part) = self.named(cached).filter(|_| self.own(cached).is_none())?;
            let is_part = part == OfAny || (part == OfOthers && own.is_none());
            number(value).filter(|_| is_part)
        });
        let inside: f64 = parts.into_iter().flatten().sum();
        match number(value) {
            Some(whole) if inside > 0.0 => Fact::Number((whole - inside).max(0.0) as u64),
            _ => Fact::of(value),
        }
    }
}

fn number(value: Value) -> Option<f64> {
    value.number()?.parse().ok()
}
