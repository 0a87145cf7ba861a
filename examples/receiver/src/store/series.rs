//! Dimensions of calls, and series: small numbers for combinations of their values.

use super::kept::Kept;
use crate::fields::NAME_MAX;
use rusqlite::{Connection, OptionalExtension, Result, ToSql};
use std::collections::HashMap;

/// A dimension of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The model string, exactly as sent.
    Model,
    /// `agent_name`.
    Agent,
    /// What started the run: user, cron, heartbeat, subagent.
    Trigger,
    /// The source of the cost.
    CostSource,
    /// The gateway's name.
    Gateway,
    /// The channel's name, such as `telegram`.
    Channel,
    /// The cron job's id.
    Job,
}

/// Number of dimensions.
pub const DIMENSIONS: usize = 7;
/// The columns of their values, and of the numbers of these, in the order of [`Dimension`].
const COLUMNS: &str = r#"model, agent, "trigger", cost_source, gateway, channel, job"#;
const NUMBERS: &str =
    "of_model, of_agent, of_trigger, of_cost_source, of_gateway, of_channel, of_job";

impl Dimension {
    /// All dimensions, in the order of their values in a series.
    pub const ALL: [Self; DIMENSIONS] = [
        Self::Model,
        Self::Agent,
        Self::Trigger,
        Self::CostSource,
        Self::Gateway,
        Self::Channel,
        Self::Job,
    ];

    /// Its name in addresses and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Agent => "agent",
            Self::Trigger => "trigger",
            Self::CostSource => "cost_source",
            Self::Gateway => "gateway",
            Self::Channel => "channel",
            Self::Job => "job",
        }
    }

    /// `series.kind` of the sums by this dimension alone.
    pub const fn kind(self) -> i64 {
        match self {
            // Six is everything.
            Self::Channel | Self::Job => self as i64 + 2,
            _ => self as i64 + 1,
        }
    }
}

/// `series.kind` of the sums by all dimensions.
pub const WHOLE: i64 = 0;
/// `series.kind` of all calls together.
pub const EVERYTHING: i64 = 6;

/// The numbers of a call's series: of the whole, of each dimension alone, of everything. By `series.kind`.
pub type Ids = [i64; DIMENSIONS + 2];

/// Number of whole series from which it matters how many rows are read. Tests read either, to compare them.
const MANY: usize = if cfg!(test) { 1 } else { 10_000 };

/// The number of a series. 32 bits are enough: each series takes 100 bytes on disk.
pub type Number = u32;
/// Stands for no series.
pub const NONE: Number = 0;

/// Cache of series in the writer, so that most calls need no query.
#[derive(Default)]
pub struct Interner {
    known: HashMap<Vec<u8>, Ids>,
    bytes: usize,
    key: Vec<u8>,
}

impl Interner {
    /// Limit of memory. A series of short names takes some hundred bytes.
    const BYTES_MOST: usize = 8 * 1024 * 1024;

    /// The numbers of these values. New values get new numbers.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn ids(&mut self, connection: &Connection, values: [&str; DIMENSIONS]) -> Result<Ids> {
        let values = values.map(cut);
        self.key.clear();
        for value in values {
            // The length before each value makes the key unambiguous.
            self.key.extend_from_slice(&value.len().to_le_bytes());
            self.key.extend_from_slice(value.as_bytes());
        }
        if let Some(ids) = self.known.get(&self.key) {
            return Ok(*ids);
        }
        let mut ids = [0; DIMENSIONS + 2];
        ids[EVERYTHING as usize] = everything(connection)?;
        for dimension in Dimension::ALL {
            let mut alone = [""; DIMENSIONS];
            alone[dimension as usize] = values[dimension as usize];
            ids[dimension.kind() as usize] = number(connection, dimension.kind(), alone, None)?;
        }
        ids[WHOLE as usize] = number(connection, WHOLE, values, Some(&ids))?;
        if self.bytes >= Self::BYTES_MOST {
            self.forget();
        }
        self.bytes += self.key.len() + size_of::<Ids>() + size_of::<Vec<u8>>();
        self.known.insert(self.key.clone(), ids);
        Ok(ids)
    }

    /// Clears the cache after a rollback, which undid its new numbers.
    pub fn forget(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }
}

/// The prefix of a value that identifies it. Only stock mode accepts longer names, and a page shows hundreds of them.
pub(super) fn cut(value: &str) -> &str {
    let mut end = value.len().min(NAME_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

const FIND: &str = r#"SELECT id FROM series WHERE kind = ?1 AND model = ?2 AND agent = ?3 AND "trigger" = ?4
           AND cost_source = ?5 AND gateway = ?6 AND channel = ?7 AND job = ?8"#;

fn number(
    connection: &Connection,
    kind: i64,
    values: [&str; DIMENSIONS],
    alone: Option<&Ids>,
) -> Result<i64> {
    let mut key: Vec<&dyn ToSql> = vec![&kind];
    key.extend(values.iter().map(|value| value as &dyn ToSql));
    let found = connection
        .prepare_cached(FIND)?
        .query_row(&*key, |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    let of = Dimension::ALL.map(|dimension| alone.map(|ids| ids[dimension.kind() as usize]));
    key.extend(of.iter().map(|number| number as &dyn ToSql));
    let marks = vec!["?"; key.len()].join(", ");
    connection
        .prepare_cached(&format!(
            "INSERT INTO series (kind, {COLUMNS}, {NUMBERS}) VALUES ({marks})"
        ))?
        .insert(&*key)
}

/// The number of the series of everything.
///
/// # Errors
/// The SQLite error.
pub fn everything(connection: &Connection) -> Result<i64> {
    number(connection, EVERYTHING, [""; DIMENSIONS], None)
}

/// The number of a value of a dimension alone; [`NONE`] if no call had it.
///
/// # Errors
/// The SQLite error.
pub fn find(connection: &Connection, dimension: Dimension, value: &str) -> Result<Number> {
    let mut alone = [""; DIMENSIONS];
    alone[dimension as usize] = cut(value);
    let kind = dimension.kind();
    let mut key: Vec<&dyn ToSql> = vec![&kind];
    key.extend(alone.iter().map(|value| value as &dyn ToSql));
    let found = connection
        .prepare_cached(FIND)?
        .query_row(&*key, |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(NONE))
}

/// The value of a number of a dimension alone.
///
/// # Errors
/// The SQLite error.
pub fn value(connection: &Connection, dimension: Dimension, number: Number) -> Result<String> {
    let name = dimension.name();
    connection
        .prepare_cached(&format!(r#"SELECT "{name}" FROM series WHERE id = ?1"#))?
        .query_row([number], |row| row.get(0))
}

/// The first `most` values of a dimension, by name.
///
/// # Errors
/// The SQLite error.
pub fn values(connection: &Connection, dimension: Dimension, most: usize) -> Result<Vec<String>> {
    // In the sums by one dimension the other values are empty; with that condition, the index has the order and no more
    // is read.
    let others: String = Dimension::ALL
        .into_iter()
        .filter(|other| *other != dimension)
        .map(|other| format!(r#" AND "{}" = ''"#, other.name()))
        .collect();
    let name = dimension.name();
    let mut statement = connection.prepare_cached(&format!(
        r#"SELECT "{name}" FROM series WHERE kind = ?1{others} ORDER BY "{name}" LIMIT ?2"#
    ))?;
    let rows = statement.query_map((dimension.kind(), most as i64), |row| row.get(0))?;
    rows.collect()
}

/// The committed whole series as numbers of their values: about 20 bytes each, without names. Series are only added.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Indexed by the number of the whole series; [`NONE`] for numbers of another kind.
    whole: Vec<[Number; DIMENSIONS]>,
    last: i64,
    /// Their cached figures.
    pub kept: Kept,
}

impl Catalog {
    /// Reads new series.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn refresh(&mut self, connection: &Connection) -> Result<()> {
        let last = last(connection)?;
        // The plus prevents SQLite from using its index of names, whose order differs from the table's.
        let mut added = connection.prepare_cached(&format!(
            "SELECT id, {NUMBERS} FROM series WHERE id > ?1 AND id <= ?2 AND +kind = 0"
        ))?;
        self.whole
            .resize(usize::try_from(last).unwrap_or(0) + 1, [NONE; DIMENSIONS]);
        let mut rows = added.query([self.last, last])?;
        while let Some(row) = rows.next()? {
            let place: Number = row.get(0)?;
            for (index, number) in self.whole[place as usize].iter_mut().enumerate() {
                *number = row.get(index + 1)?;
            }
        }
        self.last = last;
        Ok(())
    }

    /// Whether there are new series.
    ///
    /// # Errors
    /// The SQLite error.
    pub fn is_behind(&self, connection: &Connection) -> Result<bool> {
        Ok(last(connection)? > self.last)
    }

    /// The values of a whole series, by their numbers.
    pub fn values(&self, whole: Number) -> Option<&[Number; DIMENSIONS]> {
        let values = self.whole.get(whole as usize)?;
        (values[0] != NONE).then_some(values)
    }

    /// All whole series with their values.
    pub fn all(&self) -> impl Iterator<Item = (Number, &[Number; DIMENSIONS])> {
        let numbered = self.whole.iter().enumerate();
        numbered
            .filter(|(_, values)| values[0] != NONE)
            .map(|(number, values)| (number as Number, values))
    }

    /// Whether the sums by all dimensions together are far fewer than those by each dimension alone, as where most calls
    /// have names of their own.
    pub fn has_fewer_wholes(&self) -> bool {
        let wholes = self.all().count();
        wholes >= MANY && 2 * wholes < self.whole.len() - wholes
    }

    /// Upper bound of the numbers, exclusive.
    pub fn numbers(&self) -> usize {
        self.whole.len()
    }
}

fn last(connection: &Connection) -> Result<i64> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM series")?
        .query_row([], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

/// The numbers of the channel and of the job of calls that earlier versions than 6 stored, which have neither.
///
/// # Errors
/// The SQLite error.
pub fn number_channels(connection: &Connection) -> Result<[i64; 2]> {
    let numbers = [Dimension::Channel, Dimension::Job]
        .map(|dimension| number(connection, dimension.kind(), [""; DIMENSIONS], None));
    let [channel, job] = numbers;
    let numbers = [channel?, job?];
    connection.execute(
        "UPDATE series SET of_channel = ?1, of_job = ?2 WHERE kind = 0",
        numbers,
    )?;
    Ok(numbers)
}

/// Fills the columns that earlier versions than 5 lack: the numbers of a whole series' values.
pub const NUMBER_VALUES: &str = r#"UPDATE series SET
    of_model = (SELECT id FROM series a WHERE a.kind = 1 AND a.model = series.model AND a.agent = ''
        AND a."trigger" = '' AND a.cost_source = '' AND a.gateway = ''),
    of_agent = (SELECT id FROM series a WHERE a.kind = 2 AND a.model = '' AND a.agent = series.agent
        AND a."trigger" = '' AND a.cost_source = '' AND a.gateway = ''),
    of_trigger = (SELECT id FROM series a WHERE a.kind = 3 AND a.model = '' AND a.agent = ''
        AND a."trigger" = series."trigger" AND a.cost_source = '' AND a.gateway = ''),
    of_cost_source = (SELECT id FROM series a WHERE a.kind = 4 AND a.model = '' AND a.agent = ''
        AND a."trigger" = '' AND a.cost_source = series.cost_source AND a.gateway = ''),
    of_gateway = (SELECT id FROM series a WHERE a.kind = 5 AND a.model = '' AND a.agent = ''
        AND a."trigger" = '' AND a.cost_source = '' AND a.gateway = series.gateway)
    WHERE kind = 0"#;
