//! Decides what the numbers of a usage mean together: where the names are ambiguous, the total decides.

use super::reading::Reading;
use super::rules::Count;
use crate::domain::call::Usage;

/// Token counts with this crate's meaning, and whether each was reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The four counts and the reasoning.
    pub usage: Usage,
    /// Part of the cache writes that the cache keeps for an hour.
    pub write_1h: u64,
    /// Whether prompt, output, cache reads, cache writes and reasoning were reported.
    pub reported: [bool; 5],
    /// Whether the total shows that the names do not have their usual meaning.
    pub is_by_total: bool,
}

impl Tokens {
    /// The sum of two requests' tokens.
    pub(super) fn plus(self, other: &Self) -> Self {
        let (a, b) = (self.usage, other.usage);
        let reported = |index: usize| self.reported[index] || other.reported[index];
        Self {
            usage: Usage {
                input: a.input.saturating_add(b.input),
                output: a.output.saturating_add(b.output),
                cache_read: a.cache_read.saturating_add(b.cache_read),
                cache_write: a.cache_write.saturating_add(b.cache_write),
                reasoning: a.reasoning.saturating_add(b.reasoning),
            },
            write_1h: self.write_1h.saturating_add(other.write_1h),
            reported: [
                reported(0),
                reported(1),
                reported(2),
                reported(3),
                reported(4),
            ],
            is_by_total: self.is_by_total || other.is_by_total,
        }
    }
}

/// One interpretation of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interpretation {
    /// Whether the prompt's count includes cache reads.
    holds_reads: bool,
    /// Whether the prompt's count includes cache writes.
    holds_writes: bool,
    /// Whether the output's count includes reasoning.
    holds_reasoning: bool,
    /// Whether the output's count includes reasoning that is reported beside it.
    holds_reasoning_beside: bool,
    /// Whether the counts of prompt and output include audio and images.
    holds_media: [bool; 2],
}

/// One number for each quantity.
struct Numbers {
    prompt: u64,
    beside: u64,
    output: u64,
    reasoning: u64,
    reasoning_beside: u64,
    read: u64,
    write: u64,
    media: [u64; 2],
    total: u64,
}

impl Reading {
    /// The tokens of this usage without its parts; `None` where all counts are zero or missing.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        let numbers = self.numbers();
        let usual = self.usual_interpretation(&numbers);
        let is_reported = |counts: &[Count]| counts.iter().any(|count| self.is_reported(*count));
        let reported = [
            is_reported(&[
                Count::OwnInput,
                Count::Prompt,
                Count::Input,
                Count::PromptBeside,
            ]),
            is_reported(&[Count::OwnOutput, Count::Output]),
            is_reported(&[
                Count::OwnCacheRead,
                Count::CacheRead,
                Count::CacheReadInside,
                Count::CacheReadOfOthers,
            ]),
            is_reported(&[
                Count::OwnCacheWrite,
                Count::CacheWrite,
                Count::CacheWriteInside,
                Count::CacheWriteOfOthers,
                Count::CacheWrite5m,
                Count::CacheWrite1h,
            ]),
            is_reported(&[Count::Reasoning, Count::ReasoningBeside]),
        ];
        let way = numbers.confirmed(usual, self.is_negative);
        let mut usage = numbers.read_as(way);
        let rest = match self.is_negative {
            // The total of a relay with a negative prompt has the same fault.
            true => 0,
            false => numbers.total.saturating_sub(sum(&usage)),
        };
        // The rest of the total beyond all counts is reasoning, which some providers report in the total alone. Where
        // the prompt was not reported, the rest is the prompt.
        match usage.prompt() == 0 || !reported[0] {
            true => usage.input = usage.input.saturating_add(rest),
            false => usage.output = usage.output.saturating_add(rest),
        }
        usage.reasoning = usage.reasoning.min(usage.output);
        let write_1h = self.count(Count::CacheWrite1h).min(usage.cache_write);
        let reported = [
            reported[0] || usage.input > 0,
            reported[1] || usage.output > 0,
            reported[2],
            reported[3],
            reported[4],
        ];
        (!usage.is_zero()).then_some(Tokens {
            usage,
            write_1h,
            reported,
            is_by_total: way != usual,
        })
    }

    fn numbers(&self) -> Numbers {
        let by_age = self.count(Count::CacheWrite5m) + self.count(Count::CacheWrite1h);
        // OpenClaw's own count, else the largest of the others.
        let first = |own: Count, others: &[Count]| match self.count(own) {
            0 => others
                .iter()
                .map(|count| self.count(*count))
                .max()
                .unwrap_or_default(),
            own => own,
        };
        let writes = [
            Count::CacheWrite,
            Count::CacheWriteInside,
            Count::CacheWriteOfOthers,
        ];
        let reads = [
            Count::CacheRead,
            Count::CacheReadInside,
            Count::CacheReadOfOthers,
        ];
        Numbers {
            prompt: first(Count::OwnInput, &[Count::Prompt, Count::Input]),
            beside: self.count(Count::PromptBeside),
            output: first(Count::OwnOutput, &[Count::Output]),
            reasoning: self.count(Count::Reasoning),
            reasoning_beside: self.count(Count::ReasoningBeside),
            read: first(Count::OwnCacheRead, &reads),
            write: match first(Count::OwnCacheWrite, &writes) {
                0 => by_age,
                write => write,
            },
            media: [
                self.count(Count::PromptMedia),
                self.count(Count::OutputMedia),
            ],
            total: self.count(Count::Total),
        }
    }

    /// The interpretation that the names suggest.
    fn usual_interpretation(&self, numbers: &Numbers) -> Interpretation {
        let own = self.count(Count::OwnInput);
        let (whole, bare) = match own {
            0 => (self.count(Count::Prompt), self.count(Count::Input)),
            own => (0, own),
        };
        let is_more_than_all = numbers.read + numbers.write > numbers.prompt;
        let is_whole = whole > bare || (whole == bare && whole > 0 && !is_more_than_all);
        let holds = |own_count: Count, count: Count, inside: Count, of_others: Count| {
            let is_a_part = self.count(inside) > 0 || (own == 0 && self.count(of_others) > 0);
            // The cached counts exceed the prompt's count, so one whose name does not say that it is a part is none.
            let is_undecided =
                whole <= bare || self.count(inside) == 0 || self.count(count) > numbers.prompt;
            let is_too_much = self.count(count) > 0 && is_more_than_all && is_undecided;
            let is_beside = is_too_much || self.count(own_count) > 0;
            // An unreported prompt includes nothing.
            numbers.prompt > 0 && !self.is_negative && !is_beside && (is_a_part || is_whole)
        };
        Interpretation {
            holds_reads: holds(
                Count::OwnCacheRead,
                Count::CacheRead,
                Count::CacheReadInside,
                Count::CacheReadOfOthers,
            ),
            holds_writes: holds(
                Count::OwnCacheWrite,
                Count::CacheWrite,
                Count::CacheWriteInside,
                Count::CacheWriteOfOthers,
            ),
            // A part is never larger than the whole.
            holds_reasoning: numbers.reasoning <= numbers.output,
            holds_reasoning_beside: false,
            holds_media: [true, true],
        }
    }
}

impl Numbers {
    /// The interpretation that agrees with the total and differs least from the usual one; the usual one where none
    /// agrees.
    fn confirmed(&self, usual: Interpretation, is_negative: bool) -> Interpretation {
        if self.total == 0 || is_negative {
            return usual;
        }
        let mut ways: Vec<(u32, Interpretation)> = (0u32..64)
            .map(|changes| {
                let is_changed = |bit: u32| changes & (1 << bit) != 0;
                let way = Interpretation {
                    holds_reads: usual.holds_reads ^ is_changed(0),
                    holds_writes: usual.holds_writes ^ is_changed(1),
                    holds_reasoning: usual.holds_reasoning ^ is_changed(2),
                    holds_media: [!is_changed(3), !is_changed(4)],
                    holds_reasoning_beside: is_changed(5) && self.reasoning_beside <= self.output,
                };
                (changes.count_ones(), way)
            })
            .collect();
        ways.sort_by_key(|(changes, _)| *changes);
        let fits = |way: &Interpretation| {
            self.is_possible(*way, usual) && sum(&self.read_as(*way)) == self.total
        };
        let found = ways.into_iter().map(|(_, way)| way).find(fits);
        found.unwrap_or(usual)
    }

    /// Whether the prompt's count is large enough to include the cached counts that it usually excludes.
    fn is_possible(&self, way: Interpretation, usual: Interpretation) -> bool {
        let reads = if way.holds_reads { self.read } else { 0 };
        let writes = if way.holds_writes { self.write } else { 0 };
        let has_more_parts =
            (way.holds_reads && !usual.holds_reads) || (way.holds_writes && !usual.holds_writes);
        !has_more_parts || reads + writes <= self.prompt
    }

    /// The tokens by this interpretation.
    fn read_as(&self, way: Interpretation) -> Usage {
        let media = |index: usize| match way.holds_media[index] {
            true => 0,
            false => self.media[index],
        };
        let prompt = self.prompt + self.beside + media(0);
        // The cached part of a prompt is no larger than the prompt.
        let cache_read = match way.holds_reads {
            true => self.read.min(prompt),
            false => self.read,
        };
        let reads_inside = if way.holds_reads { cache_read } else { 0 };
        let cache_write = match way.holds_writes {
            true => self.write.min(prompt - reads_inside),
            false => self.write,
        };
        let writes_inside = if way.holds_writes { cache_write } else { 0 };
        let beside = |is_inside: bool, tokens: u64| if is_inside { 0 } else { tokens };
        let reasoning_beside = beside(way.holds_reasoning_beside, self.reasoning_beside)
            + beside(way.holds_reasoning, self.reasoning);
        // An answer that includes its reasoning is no smaller than it.
        let least = if way.holds_reasoning {
            self.reasoning
        } else {
            0
        };
        Usage {
            input: prompt - reads_inside - writes_inside,
            output: self.output.max(least) + reasoning_beside + media(1),
            cache_read,
            cache_write,
            reasoning: self.reasoning + self.reasoning_beside,
        }
    }
}

fn sum(usage: &Usage) -> u64 {
    usage.prompt().saturating_add(usage.output)
}
