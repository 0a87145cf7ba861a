//! Reads usage: from JSON, or from pairs of a rule's number and a value, which crossed from JavaScript.

use super::rules::{BESIDE, COUNTS, Count, FIGURES, Figure, Meaning, RULES, Remark, Rule};
use crate::formats::json::Value;
use crate::sources::facts::Scalar;

/// Maximum number of tokens in one call; a larger count comes from a broken source.
const MAX_TOKENS: f64 = 1e12;
/// Counts of the prompt.
const PROMPTS: [Count; 3] = [Count::Prompt, Count::Input, Count::OwnInput];
/// Maximum cost of one call in USD; a larger one comes from a broken source.
const MAX_USD: f64 = 1e9;
/// Number of xAI's ticks in one USD.
const TICKS: f64 = 1e10;
/// Maximum number of values that are read of one usage object.
pub const MAX_VALUES: usize = 256;
/// Maximum number of parts that are read of one usage object.
pub const MAX_PARTS: usize = 32;

/// A service tier with a price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The usual price.
    Standard,
    /// Cheaper and slower.
    Flex,
    /// Cheaper and much later.
    Batch,
    /// More expensive and faster.
    Priority,
}

/// Content of one usage object, or of several events of one stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    counts: [Option<u64>; COUNTS],
    /// Whether the prompt's count was negative: a relay subtracted cached tokens from a count that excludes them.
    pub(super) is_negative: bool,
    /// Whether a count was unreadable. It is treated as missing; the others count.
    pub is_broken: bool,
    /// In USD.
    amounts: [Option<f64>; FIGURES],
    pub(super) has_own_key: Option<bool>,
    pub(super) is_billed_by_provider: bool,
    pub(super) tier: Option<Tier>,
    pub(super) is_fast: bool,
    pub(super) is_us: bool,
    /// For a part: whether the call's own counts exclude its tokens.
    pub(super) is_aside: bool,
    pub(super) model: Option<String>,
    pub(super) parts: Vec<Reading>,
}

impl Reading {
    /// Reads the fact of a field `usage:…`.
    pub fn of_pairs(pairs: &Scalar) -> Self {
        let mut reading = Self::default();
        let mut is_in_part = false;
        for pair in pairs.list().chunks_exact(2) {
            let index = pair[0].amount().unwrap_or(f64::MAX) as usize;
            let Some((_, meaning)) = RULES.get(index) else {
                continue;
            };
            match (meaning, reading.parts.last_mut()) {
                (Meaning::Part, _) => {
                    is_in_part = pair[1].flag() == Some(true);
                    if is_in_part {
                        reading.parts.push(Self::default());
                    }
                }
                (meaning, Some(part)) if is_in_part => part.take(*meaning, &pair[1]),
                (meaning, _) => reading.take(*meaning, &pair[1]),
            }
        }
        reading
    }

    /// Merges a later usage object; see [`Self::over`].
    pub(crate) fn add_usage(&mut self, usage: Value) {
        let read = Self::of_pairs(&Scalar::List(pairs(usage)));
        *self = read.over(std::mem::take(self));
    }

    /// Adds one member of a usage object. Of several numbers for one count the largest is taken.
    pub(crate) fn add_member(&mut self, key: &str, value: Value) {
        let mut taken = Vec::new();
        member(RULES, "", key, value, &mut taken);
        self.add(Self::of_pairs(&Scalar::List(taken)));
    }

    /// Adds one member of an answer outside its usage object.
    pub(crate) fn add_beside(&mut self, key: &str, value: Value) {
        let mut taken = Vec::new();
        member(BESIDE, "", key, value, &mut taken);
        for pair in taken.chunks_exact(2) {
            let index = pair[0].amount().unwrap_or_default() as usize;
            if let Some((_, meaning)) = BESIDE.get(index) {
                self.take(*meaning, &pair[1]);
            }
        }
    }

    /// Adds a count with a fee that is reported outside the usage object.
    pub fn add_count(&mut self, count: Count, number: u64) {
        let known = &mut self.counts[count as usize];
        *known = Some(known.unwrap_or_default().max(number));
    }

    fn add(&mut self, other: Self) {
        for (mine, other) in self.counts.iter_mut().zip(other.counts) {
            *mine = (*mine).max(other);
        }
        self.is_negative |= other.is_negative;
        self.merge_remarks(other);
    }

    /// Merges the fields that are no counts. `later` was reported later.
    fn merge_remarks(&mut self, later: Self) {
        let over = |later: Option<f64>, earlier: Option<f64>| match (later, earlier) {
            (Some(0.0) | None, Some(earlier)) => Some(earlier),
            (later, _) => later,
        };
        self.is_broken |= later.is_broken;
        for (mine, later) in self.amounts.iter_mut().zip(later.amounts) {
            *mine = over(later, *mine);
        }
        self.has_own_key = later.has_own_key.or(self.has_own_key);
        self.is_billed_by_provider |= later.is_billed_by_provider;
        self.tier = later.tier.or(self.tier);
        self.is_fast |= later.is_fast;
        self.is_us |= later.is_us;
        if !later.parts.is_empty() {
            self.parts = later.parts;
        }
    }

    /// Merges it with earlier events of the stream: usage is cumulative, so the last nonzero number of each count is
    /// taken.
    pub fn over(self, mut earlier: Self) -> Self {
        let whole = [
            Count::Prompt,
            Count::Input,
            Count::Output,
            Count::OwnInput,
            Count::OwnOutput,
        ];
        let has_moved = whole
            .iter()
            .any(|count| self.count(*count) > 0 && self.count(*count) != earlier.count(*count));
        if has_moved && !self.is_reported(Count::Total) {
            // That total was the sum of the earlier numbers.
            earlier.counts[Count::Total as usize] = None;
        }
        if PROMPTS.iter().any(|count| self.is_reported(*count)) {
            earlier.is_negative = self.is_negative;
        }
        for (stands, reported) in earlier.counts.iter_mut().zip(self.counts) {
            *stands = reported.filter(|count| *count > 0).or(*stands).or(reported);
        }
        earlier.merge_remarks(self);
        earlier
    }

    /// The same without the total, for sources whose total means something else.
    pub fn without_total(mut self) -> Self {
        self.counts[Count::Total as usize] = None;
        self
    }

    /// A count; 0 where it is missing.
    pub fn count(&self, count: Count) -> u64 {
        self.counts[count as usize].unwrap_or_default()
    }

    /// An amount in USD.
    pub(super) fn amount(&self, figure: Figure) -> Option<f64> {
        self.amounts[figure as usize]
    }

    /// Whether a count was reported, even as zero.
    pub fn is_reported(&self, count: Count) -> bool {
        self.counts[count as usize].is_some()
    }

    /// Whether any count was reported, even as zero.
    pub fn has_any_count(&self) -> bool {
        self.counts.iter().any(Option::is_some)
    }

    fn take(&mut self, meaning: Meaning, value: &Scalar) {
        match meaning {
            Meaning::Counted(count) => self.take_count(count, value),
            Meaning::Money(figure) => self.take_money(figure, value),
            Meaning::Word(remark) => self.take_word(remark, value),
            Meaning::Part => {}
        }
    }

    fn take_count(&mut self, count: Count, value: &Scalar) {
        match number(value) {
            Some(tokens) if tokens <= MAX_TOKENS => {
                let is_prompt = PROMPTS.contains(&count);
                self.is_negative |= is_prompt && tokens < 0.0;
                self.add_count(count, tokens.max(0.0) as u64);
            }
            _ => self.is_broken = true,
        }
    }

    fn take_money(&mut self, figure: Figure, value: &Scalar) {
        // The value may be an object of several currencies or of the parts of a sum; that is no error.
        let Some(amount) = number(value).filter(|amount| *amount >= 0.0) else {
            return;
        };
        let (figure, usd) = match figure {
            Figure::BilledTicks => (Figure::Billed, amount / TICKS),
            figure => (figure, amount),
        };
        if usd < MAX_USD {
            let known = &mut self.amounts[figure as usize];
            *known = Some(known.unwrap_or_default().max(usd));
        }
    }

    fn take_word(&mut self, remark: Remark, value: &Scalar) {
        let text = value
            .text()
            .map(str::to_ascii_lowercase)
            .unwrap_or_default();
        match remark {
            Remark::Tier => self.tier = tier(&text).or(self.tier),
            Remark::Speed => self.is_fast |= text == "fast",
            Remark::Region => self.is_us |= text == "us",
            Remark::OwnKey => self.has_own_key = value.flag().or(self.has_own_key),
            Remark::Origin => self.is_billed_by_provider |= text == "provider-billed",
            Remark::Kind => {
                self.is_aside = text.starts_with("compaction") || text.starts_with("advisor");
            }
            Remark::Model => self.model = value.owned(),
        }
    }
}

/// Reads a single number of tokens as in a usage object. Absent is 0; `None` where it is unreadable.
pub fn count_of(value: &Scalar) -> Option<u64> {
    if value.is_absent() {
        return Some(0);
    }
    let tokens = number(value).filter(|tokens| *tokens <= MAX_TOKENS)?;
    Some(tokens.max(0.0) as u64)
}

/// A number, also as a string.
fn number(value: &Scalar) -> Option<f64> {
    let number = match value {
        Scalar::Number(number) => *number,
        Scalar::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn tier(text: &str) -> Option<Tier> {
    // Vertex AI says `ON_DEMAND_FLEX`, and OpenAI `priority` or, for newer models, `fast`.
    let has = |word: &str| text.contains(word);
    match () {
        () if text.is_empty() => None,
        () if has("flex") => Some(Tier::Flex),
        () if has("batch") => Some(Tier::Batch),
        () if has("priority") || text == "fast" => Some(Tier::Priority),
        () => Some(Tier::Standard),
    }
}

/// Converts a usage object to pairs of a rule's number in [`RULES`] and a value, as the shim's `Pack.usage` does. A
/// part is enclosed by two pairs of its rule, with `true` and `false`.
pub(crate) fn pairs(usage: Value) -> Vec<Scalar> {
    let mut pairs = Vec::new();
    usage.members(|key, value| member(RULES, "", key, value, &mut pairs));
    pairs
}

fn member(rules: &[Rule], above: &str, key: &str, value: Value, pairs: &mut Vec<Scalar>) {
    if value.is_null() || pairs.len() >= 2 * MAX_VALUES {
        return;
    }
    let path = match above {
        "" => key.to_owned(),
        _ => [above, ".", key].concat(),
    };
    let index_of = |path: &str| rules.iter().position(|(name, _)| *name == path);
    let leads_on = |(name, _): &Rule| {
        let rest = name.strip_prefix(path.as_str());
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    if value.is_object() && rules.iter().any(leads_on) {
        value.members(|key, value| member(rules, &path, key, value, pairs));
    } else if let Some(index) = index_of(&path) {
        pairs.extend([Scalar::Number(index as f64), scalar(value)]);
    } else if let Some(index) = index_of(&[&path, "[]"].concat()) {
        let mut left = MAX_PARTS;
        value.each(|part| {
            if part.is_object() && left > 0 {
                left -= 1;
                pairs.extend([Scalar::Number(index as f64), Scalar::Bool(true)]);
                part.members(|key, value| {
                    // Parts have no parts.
                    if index_of(&[key, "[]"].concat()).is_none() {
                        member(rules, "", key, value, pairs);
                    }
                });
                pairs.extend([Scalar::Number(index as f64), Scalar::Bool(false)]);
            }
        });
    }
}

/// A value as the shim would copy it.
fn scalar(value: Value) -> Scalar {
    match value.written().get() {
        "true" => Scalar::Bool(true),
        "false" => Scalar::Bool(false),
        _ => match (value.text(), value.number()) {
            (Some(text), _) => Scalar::Text(text),
            (_, Some(number)) => Scalar::Number(number.parse().unwrap_or(f64::NAN)),
            _ => Scalar::List(Vec::new()),
        },
    }
}
