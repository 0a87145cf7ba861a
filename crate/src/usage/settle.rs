//! What the numbers of a usage say together: the total decides what the names leave open.

use super::reading::Reading;
use super::rules::Count;
use crate::call::Usage;

/// Tokens as they are meant here, and whether each was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The four counts and the reasoning.
    pub usage: Usage,
    /// Of the cache writes, those kept for an hour.
    pub write_1h: u64,
    /// Whether anything was told of the prompt, the answer, cache reads, cache writes, reasoning.
    pub told: [bool; 5],
    /// Whether the total says that the names are not meant as usual.
    pub is_by_total: bool,
}

impl Tokens {
    /// The sum of two requests' tokens.
    pub(super) fn plus(self, other: &Self) -> Self {
        let (a, b) = (self.usage, other.usage);
        let told = |index: usize| self.told[index] || other.told[index];
        Self {
            usage: Usage {
                input: a.input.saturating_add(b.input),
                output: a.output.saturating_add(b.output),
                cache_read: a.cache_read.saturating_add(b.cache_read),
                cache_write: a.cache_write.saturating_add(b.cache_write),
                reasoning: a.reasoning.saturating_add(b.reasoning),
            },
            write_1h: self.write_1h.saturating_add(other.write_1h),
            told: [told(0), told(1), told(2), told(3), told(4)],
            is_by_total: self.is_by_total || other.is_by_total,
        }
    }
}

/// One way to read the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// Whether cache reads are a part of the prompt's count.
    holds_reads: bool,
    /// Whether cache writes are.
    holds_writes: bool,
    /// Whether reasoning is a part of the answer's count.
    holds_reasoning: bool,
    /// Whether reasoning that is told beside the answer's count is a part of it.
    holds_thoughts: bool,
    /// Whether sound and pictures are a part of the prompt's count, and of the answer's.
    holds_media: [bool; 2],
}

/// The numbers, one for each thing that is counted.
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
    /// The tokens of this usage alone, without its parts; `None` where nothing but zeros was told.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        let numbers = self.numbers();
        let usual = self.usual_way(&numbers);
        let is_told = |counts: &[Count]| counts.iter().any(|count| self.is_told(*count));
        let told = [
            is_told(&[
                Count::OwnInput,
                Count::Prompt,
                Count::Input,
                Count::PromptBeside,
            ]),
            is_told(&[Count::OwnOutput, Count::Output]),
            is_told(&[
                Count::OwnCacheRead,
                Count::CacheRead,
                Count::CacheReadInside,
                Count::CacheReadOfOthers,
            ]),
            is_told(&[
                Count::OwnCacheWrite,
                Count::CacheWrite,
                Count::CacheWriteInside,
                Count::CacheWriteOfOthers,
                Count::CacheWrite5m,
                Count::CacheWrite1h,
            ]),
            is_told(&[Count::Reasoning, Count::ReasoningBeside]),
        ];
        let way = numbers.way(usual, self.is_negative);
        let mut usage = numbers.read_as(way);
        let rest = match self.is_negative {
            // The total of such a relay has the same fault.
            true => 0,
            false => numbers.total.saturating_sub(sum(&usage)),
        };
        // What the total has beyond all that was told: reasoning, which some tell in the total alone. Where nothing was
        // told of the prompt, it is the prompt.
        match usage.prompt() == 0 || !told[0] {
            true => usage.input = usage.input.saturating_add(rest),
            false => usage.output = usage.output.saturating_add(rest),
        }
        usage.reasoning = usage.reasoning.min(usage.output);
        let write_1h = self.count(Count::CacheWrite1h).min(usage.cache_write);
        let told = [
            told[0] || usage.input > 0,
            told[1] || usage.output > 0,
            told[2],
            told[3],
            told[4],
        ];
        (!usage.is_zero()).then_some(Tokens {
            usage,
            write_1h,
            told,
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

    /// How the names say that the numbers are meant.
    fn usual_way(&self, numbers: &Numbers) -> Way {
        let own = self.count(Count::OwnInput);
        let (whole, bare) = match own {
            0 => (self.count(Count::Prompt), self.count(Count::Input)),
            own => (0, own),
        };
        let is_more_than_all = numbers.read + numbers.write > numbers.prompt;
        let is_whole = whole > bare || (whole == bare && whole > 0 && !is_more_than_all);
        let holds = |own_count: Count, count: Count, inside: Count, of_others: Count| {
            let is_a_part = self.count(inside) > 0 || (own == 0 && self.count(of_others) > 0);
            // Both names, and more than the prompt's count can hold: what is told twice stands beside it.
            let is_told_twice = self.count(count) > 0 && is_more_than_all && whole <= bare;
            let is_beside = is_told_twice || self.count(own_count) > 0;
            // Of a prompt that was not told nothing is a part.
            numbers.prompt > 0 && !self.is_negative && !is_beside && (is_a_part || is_whole)
        };
        Way {
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
            // A part is no larger than the whole.
            holds_reasoning: numbers.reasoning <= numbers.output,
            holds_thoughts: false,
            holds_media: [true, true],
        }
    }
}

impl Numbers {
    /// The way of reading that the total confirms, with the fewest changes to the usual one; that one where none is.
    fn way(&self, usual: Way, is_negative: bool) -> Way {
        if self.total == 0 || is_negative {
            return usual;
        }
        let mut ways: Vec<(u32, Way)> = (0u32..64)
            .map(|changes| {
                let is_changed = |bit: u32| changes & (1 << bit) != 0;
                let way = Way {
                    holds_reads: usual.holds_reads ^ is_changed(0),
                    holds_writes: usual.holds_writes ^ is_changed(1),
                    holds_reasoning: usual.holds_reasoning ^ is_changed(2),
                    holds_media: [!is_changed(3), !is_changed(4)],
                    holds_thoughts: is_changed(5) && self.reasoning_beside <= self.output,
                };
                (changes.count_ones(), way)
            })
            .collect();
        ways.sort_by_key(|(changes, _)| *changes);
        let fits = |way: &Way| self.can_be(*way, usual) && sum(&self.read_as(*way)) == self.total;
        let found = ways.into_iter().map(|(_, way)| way).find(fits);
        found.unwrap_or(usual)
    }

    /// Whether a count that is usually beside the prompt's may be a part of it: it is no larger.
    fn can_be(&self, way: Way, usual: Way) -> bool {
        let reads = if way.holds_reads { self.read } else { 0 };
        let writes = if way.holds_writes { self.write } else { 0 };
        let has_more_parts =
            (way.holds_reads && !usual.holds_reads) || (way.holds_writes && !usual.holds_writes);
        !has_more_parts || reads + writes <= self.prompt
    }

    /// The tokens as this way has them.
    fn read_as(&self, way: Way) -> Usage {
        let media = |index: usize| match way.holds_media[index] {
            true => 0,
            false => self.media[index],
        };
        let prompt = self.prompt + self.beside + media(0);
        // What a cache held of a prompt is no more than the prompt.
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
        let reasoning_beside = beside(way.holds_thoughts, self.reasoning_beside)
            + beside(way.holds_reasoning, self.reasoning);
        Usage {
            input: prompt - reads_inside - writes_inside,
            output: self.output + reasoning_beside + media(1),
            cache_read,
            cache_write,
            reasoning: self.reasoning + self.reasoning_beside,
        }
    }
}

fn sum(usage: &Usage) -> u64 {
    usage.prompt().saturating_add(usage.output)
}
