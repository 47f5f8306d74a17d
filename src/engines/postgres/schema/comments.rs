//! Comments travel with their object.

use crate::engines::postgres::sql::quote::literal;

/// Appends `COMMENT ON … IS …` when there is a comment.
pub(super) fn comment(sql: &mut String, what: &str, text: Option<&str>) {
    if let Some(text) = text {
        sql.push_str(&format!("COMMENT ON {what} IS {};\n", literal(text)));
    }
}
