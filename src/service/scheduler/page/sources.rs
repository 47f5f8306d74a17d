//! The table of sources: what there is of each, how old, and how it was proven.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{distance, escape, local};
use crate::base::units::format_bytes;
use crate::policy::health::SourceHealth;
use crate::service::scheduler::state::State;

/// Rows at most; more say no more.
const ROWS: usize = 500;

/// Renders it.
pub(super) fn table(state: &State, now: Timestamp, zone: &TimeZone) -> String {
    let healths = state.healths(now);
    let rows: String = healths
        .iter()
        .flat_map(|health| {
            health
                .sources
                .iter()
                .map(|row| self::row(&health.repository, row, now, zone))
        })
        .take(ROWS)
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let ahead: Vec<String> = healths
        .iter()
        .flat_map(|health| &health.ahead)
        .map(|id| format!("<li><code>{id}</code></li>"))
        .collect();
    let ahead = if ahead.is_empty() {
        String::new()
    } else {
        let list = ahead.concat();
        format!("<p class=\"warn\">Dated in the future, and ignored:</p><ul>{list}</ul>")
    };
    format!(
        "<section><h2>Sources</h2><div class=\"wide\"><table><tr><th>source</th><th>job</th><th>host</th><th>repository</th><th>state</th>\
         <th>newest good</th><th>proven</th><th class=\"number\">stored</th></tr>{rows}</table></div>{ahead}</section>"
    )
}

fn row(repository: &str, row: &SourceHealth, now: Timestamp, zone: &TimeZone) -> String {
    let absent = || "<span class=\"dim\">never</span>".to_owned();
    let newest = row.newest_good.as_ref().map_or_else(absent, |id| {
        let started = id.started();
        format!(
            "{} <span class=\"dim\">{}</span>",
            local(started, zone),
            distance(started, now)
        )
    });
    let proven = match (row.verified_level, row.verified_at) {
        (Some(level), Some(time)) => format!("{} <span class=\"dim\">{}</span>", level.word(), distance(time, now)),
        _ => absent(),
    };
    let class = if row.state.is_ok() { "good" } else { "bad" };
    format!(
        "<tr><td><b>{}</b>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"state {class}\">{}</td><td>{newest}</td><td>{proven}</td>\
         <td class=\"number\">{}</td></tr>",
        escape(&row.source),
        if row.optional {
            " <span class=\"dim\">optional</span>"
        } else {
            ""
        },
        escape(&row.job),
        escape(&row.host),
        escape(repository),
        row.state.words(),
        format_bytes(row.stored_bytes),
    )
}
