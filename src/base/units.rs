//! Sizes, rates and durations as people write them: `256MiB`, `20MiB/s`, `30s`, `1h30m`.

use std::time::Duration;

use crate::base::error::{Error, Result};

const SIZE_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Quotes what was written in place of a value; not what is none of its kind at all, for that may be a password.
pub(super) fn as_written(text: &str) -> String {
    let is_short = text.chars().count() <= 32;
    if is_short && text.chars().all(|c| c.is_alphanumeric() || "-_+.%, ".contains(c)) {
        format!(" \"{text}\"")
    } else {
        String::new()
    }
}

/// Reads a size in bytes: `268435456`, `256MiB`, `1.5GiB`, `20 MB`.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let wrong = || {
        Error::invalid(format!("invalid size{}", as_written(text)))
            .with_hint("Write a number with a unit, for example 256MiB, 1.5GiB or 20MB.")
    };
    let (number, unit) = split_number(text.trim());
    let factor = if unit.is_empty() {
        Some(1)
    } else {
        lookup(SIZE_UNITS, unit)
    };
    scaled(number, factor.ok_or_else(wrong)?).ok_or_else(wrong)
}

/// Reads a rate in bytes per second: `20MiB/s`, or a size alone.
pub fn parse_rate(text: &str) -> Result<u64> {
    let trimmed = text.trim();
    match parse_bytes(trimmed.strip_suffix("/s").unwrap_or(trimmed))? {
        0 => {
            Err(Error::invalid("a rate of 0 bytes per second would never finish")
                .with_hint("Omit the rate for no limit."))
        }
        rate => Ok(rate),
    }
}

/// Reads a duration: `30s`, `10min`, `1h30m`, `2d`, `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let wrong = || {
        Error::invalid(format!("invalid duration{}", as_written(text)))
            .with_hint("Write a number with a unit, for example 30s, 10min, 1h30m or 2d.")
    };
    let mut rest = text.trim();
    let mut milliseconds = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let factor = lookup(TIME_UNITS, unit.trim()).ok_or_else(wrong)?;
        milliseconds = milliseconds
            .checked_add(scaled(number, factor).ok_or_else(wrong)?)
            .ok_or_else(wrong)?;
        rest = next;
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Writes a size with a binary unit: `1.5 MiB`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for next in UNITS {
        unit = next;
        if tenths < 10_240 {
            break;
        }
        if next != "PiB" {
            tenths = tenths.div_ceil(1024);
        }
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Writes a duration for people: `0.8 s`, `42 s`, `3 min 5 s`, `2 h 10 min`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=9 => format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        10..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

fn lookup(units: &[(&str, u64)], word: &str) -> Option<u64> {
    units
        .iter()
        .find(|(unit, _)| unit.eq_ignore_ascii_case(word))
        .map(|(_, factor)| *factor)
}

/// `number` (digits with at most one point and three places) times `factor`, exactly.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, places) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || places.len() > 3 || number.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let thousandths: u64 = if places.is_empty() {
        0
    } else {
        format!("{places:0<3}").parse().ok()?
    };
    whole
        .checked_mul(factor)?
        .checked_add(thousandths.checked_mul(factor)? / 1000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_rates_and_durations_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("256MiB").unwrap(), 256 << 20);
        assert_eq!(parse_bytes("1.5 GiB").unwrap(), 3 << 29);
        assert_eq!(parse_bytes("20mb").unwrap(), 20_000_000);
        assert_eq!(parse_bytes("7").unwrap(), 7);
        assert_eq!(parse_rate("20MiB/s").unwrap(), 20 << 20);
        assert_eq!(parse_duration("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        for bad in ["", "MiB", "12 parsecs", "1..5MiB", "-1", "99999999999TiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "10", "10 fortnights"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_rate("0").is_err());
    }

    #[test]
    fn sizes_are_written_with_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
        assert!(format_bytes(u64::MAX).ends_with("PiB"));
    }
}
