//! The table of logs: how far each is received, and how far it is in its repository.

use super::{escape, short};
use crate::base::exact;
use crate::base::units::format_bytes;
use crate::service::scheduler::state::State;

/// Renders it; nothing where no log is received.
pub(super) fn table(state: &State) -> String {
    let rows: Vec<String> = state
        .logs
        .iter()
        .map(|((source, repository), watched)| {
            let progress = watched.lock();
            let lag = exact::saturating_signed(progress.lag());
            let (word, class) = match (progress.connected, progress.error()) {
                (true, None) => ("receiving", "good"),
                (true, error) if error == progress.complaint() => ("receiving", "bad"),
                (true, Some(_)) => ("not stored", "bad"),
                (false, _) => ("not connected", "bad"),
            };
            let error = progress.error().map(|error| {
                let error = escape(error);
                format!("<tr class=\"said\"><td colspan=\"8\" class=\"bad\">{error}</td></tr>")
            });
            format!(
                "<tr><td><b>{}</b></td><td>{}</td><td class=\"state {class}\">{word}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td>\
                 <td class=\"number\">{}</td><td class=\"number\">{}</td></tr>{}",
                escape(source),
                escape(repository),
                // Of a replication ID, so much as tells it from another.
                escape(&progress.line.chars().take(12).collect::<String>()),
                escape(&progress.kept_text),
                short(lag),
                format_bytes(progress.behind_bytes()),
                progress.gaps,
                error.unwrap_or_default(),
            )
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<section><h2>Logs</h2><div class=\"wide\"><table><tr><th>source</th><th>repository</th><th>state</th><th>timeline or replication ID</th><th>stored up to</th>\
         <th class=\"number\">behind</th><th class=\"number\">not stored</th><th class=\"number\">gaps</th></tr>{}</table></div></section>",
        rows.concat()
    )
}
