//! CSV without formulas; see [`agentwatch_openclaw::report::csv`].

use agentwatch_openclaw::report::csv;
use serde_json::Value;

/// A line of cells.
pub fn line(values: &[Value]) -> String {
    csv::line(values) + "\r\n"
}
