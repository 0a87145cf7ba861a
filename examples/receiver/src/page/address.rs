//! The page's address, which selects the calls that it shows. Every state of the page has an address, so that it can be
//! bookmarked and shared.

use super::zone;
use crate::clock::{self, DAY, HOUR, Micros};
use crate::error::ApiError;
use crate::store::query::Filter;
use crate::store::series::Dimension;
use crate::store::window::Window;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::fmt::Write;

/// Stands in an address for a missing value of a dimension.
pub const UNTOLD: &str = "-";
/// The selectable ranges: hours and names.
pub const RANGES: [(i64, &str, &str); 5] = [
    (1, "1h", "1 hour"),
    (6, "6h", "6 hours"),
    (24, "24h", "24 hours"),
    (168, "7d", "7 days"),
    (720, "30d", "30 days"),
];
/// Maximum number of bars in a chart.
const BARS: i64 = 60;

/// Selection of the calls that are shown, and the level of detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The last this many hours.
    pub hours: i64,
    /// Begin, instead of `hours`.
    pub from: Option<Micros>,
    /// End, with `from`.
    pub to: Option<Micros>,
    /// Filter by dimension.
    pub filter: Filter,
    /// Whether single calls are listed.
    pub calls: bool,
    /// Whether only failed calls are listed.
    pub failed: bool,
    /// The key of the session whose calls are listed.
    pub session: Option<String>,
    /// The id of a call that is shown with all its fields.
    pub call: Option<String>,
    /// The viewer's zone, which is not in the address: shown times are of it, and times without an offset.
    pub zone: TimeZone,
}

impl Default for Address {
    fn default() -> Self {
        Self {
            hours: 24,
            from: None,
            to: None,
            filter: Filter::default(),
            calls: false,
            failed: false,
            session: None,
            call: None,
            zone: TimeZone::UTC,
        }
    }
}

impl Address {
    /// Reads a query. Invalid parts are ignored; the page shows its selection.
    pub fn of(query: &HashMap<String, String>, zone: TimeZone) -> Self {
        let text = |name: &str| {
            query
                .get(name)
                .map(|text| text.trim())
                .filter(|text| !text.is_empty())
        };
        let hours = text("hours")
            .and_then(|text| text.parse().ok())
            .filter(|hours| (1..=720).contains(hours));
        let instant = |name| clock::parse_in(&zone, text(name)?);
        let from = instant("from");
        let to = instant("to").filter(|to| from.is_some_and(|from| from < *to));
        let value = |dimension: Dimension| match query.get(dimension.name())?.as_str() {
            "" => None,
            UNTOLD => Some(String::new()),
            value => Some(value.to_owned()),
        };
        Self {
            hours: hours.unwrap_or(24),
            from,
            to,
            filter: Filter(Dimension::ALL.map(value)),
            calls: query.contains_key("calls"),
            failed: query.contains_key("failed"),
            session: text("session").map(str::to_owned),
            call: text("call").map(str::to_owned),
            zone,
        }
    }

    /// Reads a query for an answer that does not show its selection.
    ///
    /// # Errors
    /// A parameter of the range is unusable.
    pub fn strictly_of(query: &HashMap<String, String>, zone: TimeZone) -> Result<Self, ApiError> {
        let address = Self::of(query, zone);
        let is_given = |name: &str| query.get(name).is_some_and(|text| !text.trim().is_empty());
        let wrong = |name: &'static str, message: &str| {
            Err(ApiError::Query {
                name,
                message: format!("{name} {message}"),
            })
        };
        let time = "has to be a time such as 2026-11-01 or 2026-11-01T08:00Z";
        let hours = query.get("hours").map(|text| text.trim());
        if is_given("hours") && hours != Some(address.hours.to_string().as_str()) {
            return wrong("hours", "has to be a whole number from 1 to 720");
        }
        if is_given("from") && address.from.is_none() {
            return wrong("from", time);
        }
        if is_given("to") && address.to.is_none() {
            return wrong("to", &format!("{time}, later than from"));
        }
        Ok(address)
    }

    /// The selected window, at a time.
    pub fn window(&self, now: Micros) -> Window {
        match self.from {
            Some(from) => Window { from, to: self.to },
            None => Window {
                from: clock::hours_before(now, self.hours),
                to: None,
            },
        }
    }

    /// Length of the window, in µs.
    pub fn length(&self, now: Micros) -> Micros {
        let window = self.window(now);
        window.to.unwrap_or(now.max(window.from + 1)) - window.from
    }

    /// Time step of its charts, in µs. Steps below an hour only where `fine`, since they require reading single calls.
    pub fn step(&self, now: Micros, fine: bool) -> Micros {
        let hours = self.length(now).div_euclid(HOUR);
        match hours {
            0..=2 if fine => HOUR / 12,
            3..=8 if fine => HOUR / 4,
            ..=48 => HOUR,
            49..=240 => 6 * HOUR,
            _ => (self.length(now) / BARS).div_euclid(DAY).max(0) * DAY + DAY,
        }
    }

    /// A time in the viewer's zone, by `strftime`.
    pub fn time(&self, at: Micros, format: &str) -> String {
        clock::format_in(&self.zone, at, format)
    }

    /// Text of the range: `the last 24 hours`.
    pub fn says(&self) -> String {
        let minute = |at| self.time(at, "%Y-%m-%d %H:%M");
        let zone = zone::name(&self.zone);
        match (self.from, self.to) {
            (Some(from), Some(to)) => {
                format!("the time from {} to {} {zone}", minute(from), minute(to))
            }
            (Some(from), None) => format!("the time since {} {zone}", minute(from)),
            (None, _) => format!("the last {}", super::format::range(self.hours)),
        }
    }

    /// The same with a dimension set or unset.
    pub fn with(&self, dimension: Dimension, value: Option<&str>) -> Self {
        let mut address = Self {
            call: None,
            ..self.clone()
        };
        address.filter.0[dimension as usize] = value.map(str::to_owned);
        address
    }

    /// Its query: `?hours=24&model=…`. Attributes need it escaped.
    pub fn query(&self) -> String {
        let mut query = match self.from {
            Some(from) => {
                let to = self
                    .to
                    .map(|to| format!("&to={}", stamp(to)))
                    .unwrap_or_default();
                format!("?from={}{to}", stamp(from))
            }
            None => format!("?hours={}", self.hours),
        };
        for dimension in Dimension::ALL {
            if let Some(value) = self.filter.get(dimension) {
                let value = if value.is_empty() { UNTOLD } else { value };
                let _ = write!(query, "&{}={}", dimension.name(), encode(value));
            }
        }
        for (name, is_set) in [("calls", self.calls), ("failed", self.failed)] {
            if is_set {
                let _ = write!(query, "&{name}=1");
            }
        }
        for (name, value) in [("session", &self.session), ("call", &self.call)] {
            if let Some(value) = value {
                let _ = write!(query, "&{name}={}", encode(value));
            }
        }
        query
    }
}

/// `2026-03-01T12:00:00Z`, which needs no escape.
pub fn stamp(at: Micros) -> String {
    clock::iso(at - at.rem_euclid(1_000_000)).replace("+00:00", "Z")
}

/// Percent-encodes a part of a query, except slashes and colons, which occur in names of models.
fn encode(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Address {
        let axum::extract::Query(map) = axum::extract::Query::try_from_uri(
            &format!("/models{query}").parse().unwrap_or_default(),
        )
        .unwrap_or_default();
        Address::of(&map, TimeZone::UTC)
    }

    #[test]
    fn an_address_round_trips() {
        for query in [
            "?hours=24",
            "?hours=168&model=p/m-1&agent=main&trigger=-&gateway=host%20%26%201",
            "?from=2026-03-01T12:00:00Z&to=2026-03-02T00:00:00Z&cost_source=unknown&calls=1&failed=1",
            "?hours=1&model=%3Cimg%20src=x%3E%22&call=a%2Bb",
            "?hours=24&channel=telegram&job=nightly&session=agent:main:%23a1b2",
        ] {
            let address = read(query);
            assert_eq!(read(&address.query()), address, "{query}");
        }
        assert_eq!(read("?hours=168&trigger=-").query(), "?hours=168&trigger=-");
    }

    #[test]
    fn invalid_parts_are_ignored() {
        assert_eq!(
            read("?hours=0&from=yesterday&to=tomorrow&model="),
            Address::default()
        );
        assert_eq!(
            read("?from=2026-03-02&to=2026-03-01").to,
            None,
            "no window ends before it begins"
        );
    }

    #[test]
    fn charts_have_a_maximum_number_of_bars() {
        let now = 1_767_225_600_000_000;
        for hours in 1..=720 {
            for fine in [false, true] {
                let address = Address {
                    hours,
                    ..Address::default()
                };
                let bars = hours * HOUR / address.step(now, fine);
                assert!(
                    (if fine { 4 } else { 1 }..=BARS).contains(&bars),
                    "{hours} h in {bars} bars"
                );
            }
        }
        let years = Address {
            from: Some(0),
            ..Address::default()
        };
        assert!(years.length(now) / years.step(now, true) <= BARS);
    }
}
