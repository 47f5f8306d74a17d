//! Statements about the database they run in: a restore may give it another name.

use super::quote::literal;

/// Stands for the database's name in a statement until [`here`] is asked for the whole.
pub(crate) const NAME: &str = "\u{1}";

/// Returns the statement as one that finds the name of the database it runs in.
pub(crate) fn here(statement: &str) -> String {
    let statement = statement.trim_end().trim_end_matches(';');
    let format = statement.replace('%', "%%").replace(NAME, "%1$I");
    let body = format!(
        "BEGIN EXECUTE pg_catalog.format({}, pg_catalog.current_database()); END",
        literal(&format)
    );
    format!("DO LANGUAGE plpgsql {};\n", literal(&body))
}

/// Changes the statement within what [`here`] made; none if the text is nothing of the kind or stays as it is.
pub(crate) fn change_here(sql: &str, change: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let body = unliteral(sql.trim_end().strip_prefix("DO LANGUAGE plpgsql ")?.strip_suffix(';')?)?;
    let format = body
        .strip_prefix("BEGIN EXECUTE pg_catalog.format(")?
        .strip_suffix(", pg_catalog.current_database()); END")?;
    let statement = unliteral(format)?.replace("%1$I", NAME).replace("%%", "%");
    let changed = change(&statement)?;
    Some(if changed.is_empty() { changed } else { here(&changed) })
}

/// Returns the text that [`literal`] was given.
fn unliteral(sql: &str) -> Option<String> {
    let (inner, escapes) = match sql.strip_prefix('E') {
        Some(rest) => (rest, true),
        None => (sql, false),
    };
    let inner = inner.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'");
    Some(if escapes { inner.replace("\\\\", "\\") } else { inner })
}
