//! Moments as people write them: with a zone, because a moment without one is another moment on another host.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::base::error::{Error, Result};

/// Words for the offset 0 that PostgreSQL and people write.
const UTC: [&str; 4] = ["utc", "gmt", "zulu", "z"];

/// Reads a moment, to the microsecond: `2026-11-27T10:00:05Z`, `2026-11-27 10:00:05+01`, `2026-11-27 10:00:05.123456 UTC`.
pub fn parse_moment(text: &str) -> Result<Timestamp> {
    let text = text.trim();
    let read = with_offset(text).parse::<Timestamp>();
    let read = read.and_then(|time| Timestamp::from_microsecond(time.as_microsecond()));
    read.map_err(|_| {
        let error = Error::invalid(format!("{text:?} is no moment"));
        match text
            .parse::<DateTime>()
            .and_then(|local| local.to_zoned(TimeZone::system()))
        {
            Ok(local) => error.with_hint(has_no_zone(&local)),
            Err(_) => error.with_hint("Write 2026-11-27 10:00:05+01, or 2026-11-27T09:00:05Z."),
        }
    })
}

/// Writes a moment for people, in this host's zone, with its fraction of a second if it has one.
pub fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%F %T%.f %Z").to_string()
}

/// Joins an offset that stands apart, and takes the words for 0.
fn with_offset(text: &str) -> String {
    let (time, last) = text.rsplit_once(char::is_whitespace).unwrap_or((text, ""));
    let time = time.trim_end();
    if UTC.iter().any(|word| last.eq_ignore_ascii_case(word)) {
        return format!("{time}Z");
    }
    if last.starts_with(['+', '-']) {
        return format!("{time}{last}");
    }
    text.to_owned()
}

fn has_no_zone(local: &Zoned) -> String {
    let (here, utc) = (local.strftime("%F %T%.f%:z"), local.strftime("%F %T%.fZ"));
    format!("It has no time zone. Write {here} if it is of this host's zone, {utc} if it is UTC.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_are_read_as_servers_and_people_write_them() {
        for (text, utc) in [
            ("2026-11-27T10:00:05Z", "2026-11-27T10:00:05Z"),
            ("2026-11-27 10:00:05+01", "2026-11-27T09:00:05Z"),
            ("2026-11-27 10:00:05.123456-03:30", "2026-11-27T13:30:05.123456Z"),
            ("2026-11-27 10:00:05 +0100", "2026-11-27T09:00:05Z"),
            (" 2026-11-27 10:00:05.5 UTC ", "2026-11-27T10:00:05.5Z"),
            ("2026-11-27 10:00+01", "2026-11-27T09:00:00Z"),
            // Servers know microseconds alone.
            ("2026-11-27T10:00:05.123456789Z", "2026-11-27T10:00:05.123456Z"),
        ] {
            assert_eq!(parse_moment(text).unwrap().to_string(), utc, "{text}");
        }
    }

    #[test]
    fn without_a_zone_nobody_knows_when_it_was() {
        for text in ["2026-11-27 10:00:05", "2026-11-27T10:00", "2026-11-27"] {
            let error = parse_moment(text).unwrap_err();
            assert!(error.hint().unwrap().contains("no time zone"), "{error:?}");
        }
        for text in [
            "",
            "yesterday",
            "10:00:05+01",
            "2026-11-27 10:00:05 CET",
            "2026-13-27 10:00:05Z",
        ] {
            let error = parse_moment(text).unwrap_err();
            assert!(error.hint().unwrap().starts_with("Write 2026-"), "{error:?}");
        }
    }
}
