//! Conversion between cursors and [`super::Cursor`].

use super as v1;
use crate::journal::log::{Cursor, Position};

impl From<Position> for v1::Position {
    fn from(Position { segment, offset }: Position) -> Self {
        Self { segment, offset }
    }
}

impl From<v1::Position> for Position {
    fn from(v1::Position { segment, offset }: v1::Position) -> Self {
        Self { segment, offset }
    }
}

impl From<&Cursor> for v1::Cursor {
    fn from(Cursor { at, ahead }: &Cursor) -> Self {
        let ahead = ahead
            .iter()
            .map(|(from, to)| ((*from).into(), (*to).into()));
        Self {
            at: (*at).into(),
            ahead: ahead.collect(),
        }
    }
}

impl From<v1::Cursor> for Cursor {
    fn from(v1::Cursor { at, ahead }: v1::Cursor) -> Self {
        let ahead = ahead.into_iter().map(|(from, to)| (from.into(), to.into()));
        Self {
            at: at.into(),
            ahead: ahead.collect(),
        }
    }
}
