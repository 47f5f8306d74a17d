//! A PostgreSQL URL without a database stands for every database of the server: each becomes a source of its own, with its
//! own snapshot, and each carries the server's roles and settings. All of them stand in one manifest.

use std::collections::HashSet;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::base::error::Result;
use crate::config::{Plan, SourceConfig, SourceKind};
use crate::engines::postgres::{ConnectOptions, Params, databases};
use crate::operations::session::process_environment;
use crate::operations::{Session, open};
use crate::repository::id::sanitised_job;

/// Replaces whole servers by their databases. A server that cannot be asked stays: it will fail as a source, alone.
pub(crate) async fn expand(session: &Session, plans: &mut [Plan]) -> Result<()> {
    let mut plans = plans.iter_mut();
    // Plans of one job differ in their repositories alone.
    let mut before: Option<(String, Vec<SourceConfig>, Vec<SourceConfig>)> = None;
    for plan in plans.by_ref() {
        if let Some((job, given, found)) = &before
            && *job == plan.job
            && *given == plan.sources
        {
            plan.sources.clone_from(found);
            continue;
        }
        let given = plan.sources.clone();
        let mut sources = Vec::new();
        let mut names: HashSet<String> = plan.sources.iter().map(|source| sanitised_job(&source.name)).collect();
        for source in std::mem::take(&mut plan.sources) {
            match session.or_cancelled(members(&source, &mut names)).await {
                Ok(Some(members)) => sources.extend(members),
                Ok(None) => sources.push(source),
                Err(error) => {
                    session.check_cancelled()?;
                    tracing::warn!("unable to list the databases of \"{}\": {}", source.name, error.chain());
                    sources.push(source);
                }
            }
        }
        before = Some((plan.job.clone(), given, sources.clone()));
        plan.sources = sources;
    }
    Ok(())
}

async fn members(source: &SourceConfig, names: &mut HashSet<String>) -> Result<Option<Vec<SourceConfig>>> {
    let SourceKind::Postgres(postgres) = &source.kind else {
        return Ok(None);
    };
    if names_database(&postgres.url) {
        return Ok(None);
    }
    // The environment, or a service, may name it as well.
    let options = open::postgres(postgres)?;
    if options.names_database {
        return Ok(None);
    }
    let found = databases(&options).await?;
    for (name, why) in &found.skipped {
        tracing::warn!("database \"{name}\" is not backed up: {why}");
    }
    let mut members = Vec::new();
    for database in found.names {
        let base = format!("{}.{}", source.name, plain_name(&database));
        let mut name = base.clone();
        let mut number = 2;
        while !names.insert(sanitised_job(&name)) {
            name = format!("{base}-{number}");
            number += 1;
        }
        let mut postgres = postgres.clone();
        postgres.url = with_database(&postgres.url, &database);
        members.push(SourceConfig {
            name,
            kind: SourceKind::Postgres(postgres),
            rate_limit_bytes: source.rate_limit_bytes,
            optional: source.optional,
        });
    }
    Ok(Some(members))
}

/// Returns the name of a database as it stands in the name of its source.
pub(crate) fn plain_name(database: &str) -> String {
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
pub(crate) fn names_database(url: &str) -> bool {
    let env = |name: &str| process_environment(name).filter(|value| !value.is_empty() && name != "PGDATABASE");
    match Params::parse(url) {
        Ok(params) if params.has("dbname") => true,
        Ok(params) if params.has("service") => {
            ConnectOptions::from_params(params, None, &env).is_ok_and(|options| options.names_database)
        }
        _ => false,
    }
}

/// Returns the URL of a database of the same server.
pub(crate) fn with_database(url: &str, database: &str) -> String {
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
pub(crate) fn database_of(url: &str) -> Option<String> {
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
