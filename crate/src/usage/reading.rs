//! Reads usage: from JSON, or from the pairs of a row's number and its value that crossed from JavaScript.

use super::rules::{BESIDE, COUNTS, Count, Figure, Meaning, RULES, Remark, Rule};
use crate::facts::Scalar;
use crate::json::Value;

/// The most tokens that one call can plausibly have; more is a broken source.
const MAX_TOKENS: f64 = 1e12;
/// Counts of the prompt.
const PROMPTS: [Count; 3] = [Count::Prompt, Count::Input, Count::OwnInput];
/// The most USD, likewise.
const MAX_USD: f64 = 1e9;
/// xAI's unit of money: so many are a dollar.
const TICKS: f64 = 1e10;
/// The most values that are taken of one usage object, and the most requests that it may be made of.
pub const MAX_VALUES: usize = 256;
/// See [`MAX_VALUES`].
pub const MAX_PARTS: usize = 32;

/// A service tier, as far as it has a price of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The usual price.
    Standard,
    /// Cheaper and slower.
    Flex,
    /// Cheaper and much later.
    Batch,
    /// Dearer and sooner.
    Priority,
}

/// What was read of one usage object, or of several events of one stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    counts: [Option<u64>; COUNTS],
    /// Whether the prompt was told to be less than nothing: a relay took what the cache held from a count without it.
    pub(super) is_negative: bool,
    /// Whether a count could not be read. It is missing; the others count.
    pub is_broken: bool,
    pub(super) billed: Option<f64>,
    pub(super) upstream: Option<f64>,
    pub(super) openclaw: Option<f64>,
    pub(super) has_own_key: Option<bool>,
    pub(super) is_billed_by_provider: bool,
    pub(super) tier: Option<Tier>,
    pub(super) is_fast: bool,
    pub(super) is_us: bool,
    /// Of a part: whether its tokens are in none of the call's own counts.
    pub(super) is_aside: bool,
    pub(super) model: Option<String>,
    pub(super) parts: Vec<Reading>,
}

impl Reading {
    /// Reads what crossed for a field `usage:…`.
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

    /// Adds a usage object behind what was read; see [`Self::over`].
    pub(crate) fn add_usage(&mut self, usage: Value) {
        let read = Self::of_pairs(&Scalar::List(pairs(usage)));
        *self = read.over(std::mem::take(self));
    }

    /// Adds one member of a usage object to the others: of several numbers for a count the largest stands.
    pub(crate) fn add_member(&mut self, key: &str, value: Value) {
        let mut taken = Vec::new();
        member(RULES, "", key, value, &mut taken);
        self.add(Self::of_pairs(&Scalar::List(taken)));
    }

    /// Adds what an answer tells beside its usage: the value of one of its members.
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

    /// Adds so many of what has a fee and is told outside the usage.
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

    /// What both told that is no count; `later` was told later.
    fn merge_remarks(&mut self, later: Self) {
        let over = |later: Option<f64>, earlier: Option<f64>| match (later, earlier) {
            (Some(0.0) | None, Some(earlier)) => Some(earlier),
            (later, _) => later,
        };
        self.is_broken |= later.is_broken;
        self.billed = over(later.billed, self.billed);
        self.upstream = over(later.upstream, self.upstream);
        self.openclaw = over(later.openclaw, self.openclaw);
        self.has_own_key = later.has_own_key.or(self.has_own_key);
        self.is_billed_by_provider |= later.is_billed_by_provider;
        self.tier = later.tier.or(self.tier);
        self.is_fast |= later.is_fast;
        self.is_us |= later.is_us;
        if !later.parts.is_empty() {
            self.parts = later.parts;
        }
    }

    /// This over what earlier events of the stream told: usage is cumulative, so the last number of each count stands,
    /// unless it is a zero.
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
        if has_moved && !self.is_told(Count::Total) {
            // It was of the numbers that stood then.
            earlier.counts[Count::Total as usize] = None;
        }
        if PROMPTS.iter().any(|count| self.is_told(*count)) {
            earlier.is_negative = self.is_negative;
        }
        for (stands, told) in earlier.counts.iter_mut().zip(self.counts) {
            *stands = told.filter(|count| *count > 0).or(*stands).or(told);
        }
        earlier.merge_remarks(self);
        earlier
    }

    /// The same without the total, where that is of something else.
    pub fn without_total(mut self) -> Self {
        self.counts[Count::Total as usize] = None;
        self
    }

    /// A count; 0 where it was not told.
    pub fn count(&self, count: Count) -> u64 {
        self.counts[count as usize].unwrap_or_default()
    }

    /// Whether a count was told, be it as zero.
    pub fn is_told(&self, count: Count) -> bool {
        self.counts[count as usize].is_some()
    }

    /// Whether any count of tokens was told, be it as zero.
    pub fn is_anything_told(&self) -> bool {
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
        // Several currencies, or the parts of a sum, may stand in the place of an amount.
        let Some(amount) = number(value).filter(|amount| *amount >= 0.0) else {
            return;
        };
        let (known, usd) = match figure {
            Figure::Billed => (&mut self.billed, amount),
            Figure::BilledTicks => (&mut self.billed, amount / TICKS),
            Figure::Upstream => (&mut self.upstream, amount),
            Figure::Openclaw => (&mut self.openclaw, amount),
        };
        if usd < MAX_USD {
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

/// A number of tokens that stands alone, read as in a usage object: absent is 0. `None` where it cannot be read.
pub fn count_of(value: &Scalar) -> Option<u64> {
    if value.is_absent() {
        return Some(0);
    }
    let tokens = number(value).filter(|tokens| *tokens <= MAX_TOKENS)?;
    Some(tokens.max(0.0) as u64)
}

/// A number, be it in a string.
fn number(value: &Scalar) -> Option<f64> {
    let number = match value {
        Scalar::Number(number) => *number,
        Scalar::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn tier(text: &str) -> Option<Tier> {
    // Vertex AI says `ON_DEMAND_FLEX`.
    let has = |word: &str| text.contains(word);
    match () {
        () if text.is_empty() => None,
        () if has("flex") => Some(Tier::Flex),
        () if has("batch") => Some(Tier::Batch),
        () if has("priority") => Some(Tier::Priority),
        () => Some(Tier::Standard),
    }
}

/// A usage object as pairs of a row's number in [`RULES`] and its value, as the shim's `Pack.usage` makes them. A part
/// stands between two pairs of its row, with `true` and `false`.
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
                    // A part has no parts.
                    if index_of(&[key, "[]"].concat()).is_none() {
                        member(rules, "", key, value, pairs);
                    }
                });
                pairs.extend([Scalar::Number(index as f64), Scalar::Bool(false)]);
            }
        });
    }
}

/// A value as it would cross.
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
