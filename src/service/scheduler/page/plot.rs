//! Inline SVG: a calendar of days and a curve over time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{escape, local};
use crate::base::units::format_bytes;

/// Points of a curve at most; of more, every n-th is drawn.
const POINTS: usize = 400;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 96.0;

/// As SVG has numbers.
#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a place on a plot")]
pub(super) fn double(value: u64) -> f64 {
    value as f64
}

/// A size as people read it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "it was a size before it was a place on a plot"
)]
pub(super) fn bytes(value: f64) -> String {
    format_bytes(value.max(0.0) as u64)
}

/// Columns are weeks, rows are days from Monday, today is in the last column. `days` counts complete and other snapshots
/// by age in days.
pub(super) fn days(count: i32, today: Date, days: &BTreeMap<i32, (u32, u32)>) -> String {
    let last_row = i32::from(today.weekday().to_monday_zero_offset());
    let weeks = (count + 6 - last_row + 6) / 7;
    let (mut cells, mut months) = (String::new(), String::new());
    for age in 0..count {
        let place = weeks * 7 - (6 - last_row) - 1 - age;
        let (column, row) = (place.div_euclid(7), place.rem_euclid(7));
        let (complete, other) = days.get(&age).copied().unwrap_or_default();
        let class = match (complete, other) {
            (0, 0) => "fill-none",
            (0, _) => "fill-warn",
            _ => "fill-good",
        };
        let date = today.checked_sub(jiff::Span::new().days(age)).unwrap_or(today);
        if date.day() == 1 {
            let x = column * 14;
            months.push_str(&format!("<text x=\"{x}\" y=\"10\">{}</text>", date.strftime("%b")));
        }
        cells.push_str(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"11\" height=\"11\" rx=\"2\" class=\"{class}\"><title>{date}: {complete} complete, {other} other</title></rect>",
            column * 14,
            row * 14 + 14,
        ));
    }
    // The name of a month that began in the last week is wider than a column.
    let width = weeks * 14 + 14;
    format!("<svg width=\"{width}\" height=\"112\" viewBox=\"0 0 {width} 112\" role=\"img\">{months}{cells}</svg>")
}

/// A line through the points, from zero to the largest.
pub(super) fn curve(points: &[(Timestamp, f64)], zone: &TimeZone, show: &dyn Fn(f64) -> String) -> String {
    let (Some((first, _)), Some((last, newest))) = (points.first(), points.last()) else {
        return String::new();
    };
    let step = points.len().div_ceil(POINTS).max(1);
    let span = last.duration_since(*first).as_secs_f64().max(1.0);
    let largest = points.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    let place = |(time, value): &(Timestamp, f64)| {
        let x = 4.0 + time.duration_since(*first).as_secs_f64() / span * (WIDTH - 8.0);
        (x, 16.0 + (1.0 - value / largest) * (HEIGHT - 34.0))
    };
    let drawn: Vec<_> = points.iter().rev().step_by(step).collect();
    let line: Vec<String> = drawn
        .iter()
        .map(|point| place(point))
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let mut dots = String::new();
    for point in &drawn {
        let (x, y) = place(point);
        let title = escape(&format!("{}: {}", local(point.0, zone), show(point.1)));
        dots.push_str(&format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.8\" class=\"dot\"><title>{title}</title></circle>"
        ));
    }
    // Room below the letters, whatever the scale.
    let (base, foot) = (HEIGHT - 18.0, HEIGHT - 4.0);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><line x1=\"0\" x2=\"{WIDTH}\" y1=\"{base}\" y2=\"{base}\" class=\"grid\"/>\
         <text x=\"2\" y=\"10\">{} at most</text><text x=\"{WIDTH}\" y=\"10\" text-anchor=\"end\">now {}</text>\
         <polyline points=\"{}\" class=\"curve\"/>{dots}<text x=\"2\" y=\"{foot}\">{}</text>\
         <text x=\"{WIDTH}\" y=\"{foot}\" text-anchor=\"end\">{}</text></svg>",
        escape(&show(largest)),
        escape(&show(*newest)),
        line.join(" "),
        first.to_zoned(zone.clone()).date(),
        last.to_zoned(zone.clone()).date(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_is_in_the_last_column_and_every_day_has_a_cell() {
        for offset in 0..7 {
            let today = jiff::civil::date(2026, 2, 2).saturating_add(jiff::Span::new().days(offset));
            let svg = days(91, today, &BTreeMap::from([(0, (2, 1)), (90, (0, 1))]));
            assert_eq!(svg.matches("<rect").count(), 91);
            assert!(svg.contains(&format!("{today}: 2 complete, 1 other")));
            assert!(!svg.contains("x=\"-"), "{svg}");
        }
    }

    #[test]
    fn a_curve_of_one_point_and_of_many_is_drawn() {
        let point = |second: i64| (Timestamp::from_second(second).unwrap_or_default(), 5.0);
        let one = curve(&[point(0)], &TimeZone::UTC, &bytes);
        assert!(one.contains("<circle") && !one.contains("NaN"), "{one}");
        let many: Vec<_> = (0..5000).map(point).collect();
        let svg = curve(&many, &TimeZone::UTC, &bytes);
        assert!(svg.matches("<circle").count() <= POINTS);
        assert_eq!(curve(&[], &TimeZone::UTC, &bytes), "");
    }
}
