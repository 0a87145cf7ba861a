//! What calls are told apart by, and the small numbers that stand for it.

use rusqlite::{Connection, OptionalExtension, Result};
use std::collections::HashMap;

/// Something by which calls are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The model string, exactly as sent.
    Model,
    /// `agent_name`.
    Agent,
    /// What set the run off: user, cron, heartbeat, subagent.
    Trigger,
    /// Where the cost comes from.
    CostSource,
    /// The gateway's name.
    Gateway,
}

impl Dimension {
    /// All of them, in the order of [`Series`].
    pub const ALL: [Self; 5] = [
        Self::Model,
        Self::Agent,
        Self::Trigger,
        Self::CostSource,
        Self::Gateway,
    ];

    /// Its name in addresses and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Agent => "agent",
            Self::Trigger => "trigger",
            Self::CostSource => "cost_source",
            Self::Gateway => "gateway",
        }
    }

    /// `series.kind` of the sums over everything but this.
    pub const fn kind(self) -> i64 {
        self as i64 + 1
    }
}

/// `series.kind` of what is told apart by all dimensions.
pub const WHOLE: i64 = 0;

/// A value for each dimension; empty where records did not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Series(pub [String; 5]);

impl Series {
    /// The value of one dimension.
    pub fn get(&self, dimension: Dimension) -> &str {
        &self.0[dimension as usize]
    }
}

/// The numbers of a call's series: of the whole, then of each dimension alone.
pub type Ids = [i64; 6];

/// Series that the writer has met, so that most calls need no query.
#[derive(Default)]
pub struct Interner {
    known: HashMap<Vec<u8>, Ids>,
    key: Vec<u8>,
}

impl Interner {
    /// A bound of memory, whatever names arrive.
    const MOST: usize = 50_000;

    /// The numbers of these values, which are given some where they are new.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn ids(&mut self, connection: &Connection, values: [&str; 5]) -> Result<Ids> {
        self.key.clear();
        for value in values {
            // With its length before it, no value runs into the next.
            self.key.extend_from_slice(&value.len().to_le_bytes());
            self.key.extend_from_slice(value.as_bytes());
        }
        if let Some(ids) = self.known.get(&self.key) {
            return Ok(*ids);
        }
        let mut ids = [number(connection, WHOLE, values)?; 6];
        for dimension in Dimension::ALL {
            let mut alone = [""; 5];
            alone[dimension as usize] = values[dimension as usize];
            ids[dimension as usize + 1] = number(connection, dimension.kind(), alone)?;
        }
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        self.known.insert(self.key.clone(), ids);
        Ok(ids)
    }

    /// Forgets everything: a transaction that was rolled back took its new numbers with it.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

fn number(connection: &Connection, kind: i64, values: [&str; 5]) -> Result<i64> {
    let mut find = connection.prepare_cached(
        r#"SELECT id FROM series WHERE kind = ?1 AND model = ?2 AND agent = ?3 AND "trigger" = ?4
               AND cost_source = ?5 AND gateway = ?6"#,
    )?;
    let [a, b, c, d, e] = values;
    let found = find
        .query_row((kind, a, b, c, d, e), |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    connection
        .prepare_cached(
            r#"INSERT INTO series (kind, model, agent, "trigger", cost_source, gateway)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)"#,
        )?
        .insert((kind, a, b, c, d, e))
}

/// All series that are committed. They are only ever added to.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Kind and values by number.
    pub series: HashMap<i64, (i64, Series)>,
    last: i64,
}

impl Catalog {
    /// Reads what was added.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn refresh(&mut self, connection: &Connection) -> Result<()> {
        let mut added = connection.prepare_cached(
            r#"SELECT id, kind, model, agent, "trigger", cost_source, gateway FROM series WHERE id > ?1 ORDER BY id"#,
        )?;
        let mut rows = added.query([self.last])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let values = [
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
            ];
            self.series.insert(id, (row.get(1)?, Series(values)));
            self.last = id;
        }
        Ok(())
    }

    /// Whether there is anything new to read.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn is_behind(&self, connection: &Connection) -> Result<bool> {
        let last: Option<i64> = connection
            .prepare_cached("SELECT max(id) FROM series")?
            .query_row([], |row| row.get(0))?;
        Ok(last.unwrap_or(0) > self.last)
    }
}
