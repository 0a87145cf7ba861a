//! Time zones from a host's changes of offset. The module has no zone database of its own (266 KB of WebAssembly), and
//! the host's files may lack one too; Node's `Intl` always has one.

use jiff::tz::{Offset, TimeZone};

use crate::domain::identity;
use crate::sources::facts::Scalar;

/// Maximum number of different offsets of a zone, a bound of the format.
const MOST_OFFSETS: usize = 255;

/// Reads the host's list of zones: `[name, offset, time, offset, …]` each, with offsets from UTC in s, and the times of
/// their changes in s since 1970, ascending. The first zone is the host's own. Zones that are unreadable are left out.
pub fn read(zones: &Scalar) -> Vec<(String, TimeZone)> {
    zones.list().iter().filter_map(zone).collect()
}

/// The zone with this name, in any case of letters; `UTC` is always known.
pub fn find(zones: &[(String, TimeZone)], name: &str) -> Option<TimeZone> {
    let known = zones
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    let known = known.map(|(_, zone)| zone.clone());
    known.or_else(|| name.eq_ignore_ascii_case("UTC").then_some(TimeZone::UTC))
}

fn zone(zone: &Scalar) -> Option<(String, TimeZone)> {
    let [Scalar::Text(name), first, changes @ ..] = zone.list() else {
        return None;
    };
    let offset = |scalar: &Scalar| match scalar {
        Scalar::Number(seconds) => Offset::from_seconds(*seconds as i32).ok(),
        _ => None,
    };
    let first = offset(first)?;
    if changes.is_empty() {
        return Some((name.clone(), TimeZone::fixed(first)));
    }
    let mut offsets = vec![first];
    let mut times = Vec::new();
    let mut kinds = Vec::new();
    for pair in changes.chunks_exact(2) {
        let [Scalar::Number(at), after] = pair else {
            return None;
        };
        let after = offset(after)?;
        let known = offsets.iter().position(|known| *known == after);
        let kind = known.unwrap_or_else(|| {
            offsets.push(after);
            offsets.len() - 1
        });
        times.extend((*at as i64).to_be_bytes());
        kinds.push(kind as u8);
    }
    if offsets.len() > MOST_OFFSETS {
        return None;
    }
    let file = file(&times, &kinds, &offsets);
    let zone = TimeZone::tzif(&identity::name(name), &file).ok()?;
    Some((name.clone(), zone))
}

/// The zone in the format TZif (RFC 9636), version 2: an empty block of version 1, then the changes.
fn file(times: &[u8], kinds: &[u8], offsets: &[Offset]) -> Vec<u8> {
    let header = |times: usize, offsets: usize| {
        let mut bytes = b"TZif2".to_vec();
        bytes.extend([0; 15]);
        // Numbers of UT indicators, standard indicators, leap seconds, changes, offsets and letters of abbreviations.
        for count in [0, 0, 0, times, offsets, 1] {
            bytes.extend((count as u32).to_be_bytes());
        }
        bytes
    };
    let record = |offset: &Offset| [&offset.seconds().to_be_bytes()[..], &[0, 0]].concat();
    let mut bytes = header(0, 1);
    bytes.extend(record(&Offset::UTC));
    bytes.push(0);
    bytes.extend(header(kinds.len(), offsets.len()));
    bytes.extend(times);
    bytes.extend(kinds);
    bytes.extend(offsets.iter().flat_map(record));
    // The one empty abbreviation, and no rule for times behind the last change.
    bytes.extend(b"\0\n\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spending::window::{Per, Window, written};

    fn scalars(numbers: &[f64]) -> Vec<Scalar> {
        numbers.iter().map(|n| Scalar::Number(*n)).collect()
    }

    fn zones(name: &str, numbers: &[f64]) -> Vec<(String, TimeZone)> {
        let mut zone = vec![Scalar::Text(name.to_owned())];
        zone.extend(scalars(numbers));
        read(&Scalar::List(vec![Scalar::List(zone)]))
    }

    #[test]
    fn a_zone_follows_its_changes() {
        // Berlin in 2026: summer time from March 29 to October 25.
        let summer = [3_600.0, 1_774_746_000.0, 7_200.0, 1_792_890_000.0, 3_600.0];
        let zones = zones("Europe/Berlin", &summer);
        let berlin = find(&zones, "europe/berlin").unwrap_or(TimeZone::UTC);
        for (at_s, expected) in [
            (1_774_745_999, "2026-03-29T01:59:59+01:00"),
            (1_774_746_000, "2026-03-29T03:00:00+02:00"),
            (1_792_890_000, "2026-10-25T02:00:00+01:00"),
            (1_900_000_000, "2030-03-17T18:46:40+01:00"),
        ] {
            assert_eq!(written(&berlin, at_s * 1_000), expected);
        }
        let day = Window::of(Per::Day, &berlin, 1_792_890_000_000);
        assert_eq!(day.length_ms(), 25 * 3_600_000);
    }

    #[test]
    fn a_zone_without_changes_has_its_offset() {
        let zones = zones("Asia/Kolkata", &[19_800.0]);
        let found = find(&zones, "Asia/Kolkata").unwrap_or(TimeZone::UTC);
        assert_eq!(written(&found, 0), "1970-01-01T05:30:00+05:30");
        assert!(find(&zones, "Mars/Olympus").is_none() && find(&[], "utc").is_some());
    }

    #[test]
    fn what_is_no_zone_is_left_out() {
        for bad in [&[][..], &[f64::NAN, 1.0][..], &[1e9][..]] {
            let found = zones("X", bad);
            assert!(found.len() <= 1 && found.iter().all(|(name, _)| name == "X"));
        }
        assert!(read(&Scalar::Absent).is_empty());
        assert!(read(&Scalar::Text("UTC".to_owned())).is_empty());
    }
}
