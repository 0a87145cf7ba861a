//! All sources of events with their readers: those of the surfaces' rows, and those that report no calls.

use super::{Event, Reject, context, lifecycle, passed, progress, trouble};
use crate::domain::surface::ROWS;
use crate::sources::facts::{Scalar, SourceTable};

/// Reads facts in the order of their table. The number is the time of arrival at the shim, in ms since 1970.
type Reader = fn(Vec<Scalar>, SourceTable, u64) -> Result<Event, Reject>;

/// A source and its reader.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) table: SourceTable,
    pub(crate) read: Reader,
}

impl Source {
    pub(crate) const fn new(table: SourceTable, read: Reader) -> Self {
        Self { table, read }
    }
}

/// Sources that report no calls.
const OTHERS: [&[Source]; 5] = [
    context::SOURCES,
    lifecycle::SOURCES,
    progress::SOURCES,
    passed::SOURCES,
    trouble::SOURCES,
];

const GROUPS: [&[Source]; ROWS.len() + OTHERS.len()] = {
    let mut groups: [&[Source]; ROWS.len() + OTHERS.len()] = [&[]; ROWS.len() + OTHERS.len()];
    let mut index = 0;
    while index < groups.len() {
        groups[index] = match index < ROWS.len() {
            true => ROWS[index].sources,
            false => OTHERS[index - ROWS.len()],
        };
        index += 1;
    }
    groups
};

const COUNT: usize = {
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].len();
        group += 1;
    }
    count
};

static ALL: [Source; COUNT] = {
    let mut all = [context::SOURCES[0]; COUNT];
    let (mut filled, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut index = 0;
        while index < GROUPS[group].len() {
            all[filled] = GROUPS[group][index];
            filled += 1;
            index += 1;
        }
        group += 1;
    }
    all
};

static TABLES: [SourceTable; COUNT] = {
    let mut tables = [context::SOURCES[0].table; COUNT];
    let mut index = 0;
    while index < COUNT {
        tables[index] = ALL[index].table;
        index += 1;
    }
    tables
};

/// All sources, in the order of their numbers.
pub static SOURCES: &[SourceTable] = &TABLES;

/// Reads one event.
///
/// `source` is an index into [`SOURCES`]. `facts` are in the order of its table. `at_ms` is the time of arrival at the
/// shim, in ms since 1970.
///
/// # Errors
/// A [`Reject`] names the source and the reason.
pub fn read(source: usize, facts: Vec<Scalar>, at_ms: u64) -> Result<Event, Reject> {
    match ALL.get(source) {
        Some(source) => (source.read)(facts, source.table, at_ms),
        None => Err(Reject::new("unknown", "unknown_source")),
    }
}
