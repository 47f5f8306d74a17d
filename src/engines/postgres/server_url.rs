//! A connection string without a database stands for every database of the server: its databases, and back.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::base::environment::variable;
use crate::engines::postgres::session::conninfo::Params;
use crate::engines::postgres::session::url::ConnectOptions;

/// Returns the name of a database as it stands in the name of its source.
pub(super) fn plain_name(database: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    database.chars().map(plain).collect()
}

/// Returns whether a connection string of this host says which database: itself, or by the service that it names.
pub(super) fn names_database(url: &str) -> bool {
    let env = |name: &str| variable(name).filter(|value| !value.is_empty() && name != "PGDATABASE");
    match Params::parse(url) {
        Ok(params) if params.has("dbname") => true,
        Ok(params) if params.has("service") => {
            ConnectOptions::from_params(params, None, &env).is_ok_and(|options| options.names_database)
        }
        _ => false,
    }
}

/// Returns the URL of a database of the same server.
pub(super) fn with_database(url: &str, database: &str) -> String {
    if let Ok(mut parsed) = url::Url::parse(url) {
        parsed.set_path(&format!("/{}", utf8_percent_encode(database, NON_ALPHANUMERIC)));
        return parsed.into();
    }
    let named = Params::parse(url).and_then(|mut params| {
        params.set("dbname", database.to_owned())?;
        Ok(params.to_url())
    });
    named.unwrap_or_else(|_| url.to_owned())
}

/// Returns the database that the URL of a backed-up source names.
pub(super) fn database_of(url: &str) -> Option<String> {
    Params::parse(url).ok()?.take("dbname")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_goes_into_a_url_and_comes_out_again() {
        assert!(!names_database("postgres://app@db:5432/") && !names_database("postgres://app@db?sslmode=disable"));
        assert!(names_database("postgres://app@db/x") && names_database("postgres://app@db?dbname=x"));
        for name in ["plain", "a b/c?d#e%", "ü\"'"] {
            let url = with_database("postgres://app@db:5433?sslmode=disable", name);
            assert!(url.ends_with("?sslmode=disable"), "{url}");
            assert_eq!(database_of(&url).as_deref(), Some(name));
        }
        assert_eq!(database_of("postgres://app@db"), None);
        let several = with_database("host=a,b user=u", "x y");
        assert_eq!(several, "postgres:///x%20y?host=a,b&user=u");
    }
}
