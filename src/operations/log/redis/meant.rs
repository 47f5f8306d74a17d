//! Which server is meant, and what it is told about a receiver.

use crate::base::error::{Error, ErrorKind, Result};
use crate::config::{SourceConfig, checked_name};
use crate::engines::FindingLevel;
use crate::engines::redis::session::counted;
use crate::engines::redis::{KIND, Method, RedisAddress, RedisSpec};
use crate::operations::{Session, options};

/// Returns whether the source is one of these servers.
pub fn is_meant(session: &Session, options: &options::LogReceive) -> bool {
    found(session, &options.source).is_ok_and(|source| is_of(&source))
}

/// Returns whether a source is one of these servers.
pub(crate) fn is_of(source: &SourceConfig) -> bool {
    source.kind.spec().kind() == KIND
}

/// Finds a source by its name in the configuration, or by its URL.
fn found(session: &Session, given: &str) -> Result<SourceConfig> {
    let configured = session.config.sources.iter().find(|source| source.name == given);
    configured.cloned().map_or_else(|| session.source_of_url(given), Ok)
}

/// Returns the source; a URL may be given a name.
pub(super) fn source_of(session: &Session, options: &options::LogReceive) -> Result<SourceConfig> {
    let source = found(session, &options.source)?;
    match &options.name {
        None => Ok(source),
        Some(_) if source.name == options.source => {
            Err(Error::invalid(format!("source \"{}\" has a name already", source.name))
                .with_hint("--source is for a URL: leave it out."))
        }
        Some(name) => Ok(SourceConfig {
            name: checked_name(name)?,
            ..source
        }),
    }
}

/// Returns the server, if its stream can be followed.
pub(super) fn address_of(source: &SourceConfig) -> Result<RedisAddress> {
    let spec: &RedisSpec = source.kind.spec().of_engine(KIND)?;
    let address = spec.address()?;
    if address.database.is_some() {
        return Err(
            Error::unsupported("a log is that of a whole server, and the URL names one database")
                .with_hint("Remove the number from the URL."),
        );
    }
    if address.reading.method == Method::Scan {
        return Err(Error::unsupported("a log needs PSYNC, and the URL says method=scan")
            .with_hint("Remove method=scan from the URL."));
    }
    Ok(address)
}

/// Says what the server takes us for.
pub(super) async fn warn(session: &Session, address: &RedisAddress) -> Result<()> {
    let findings = session.or_cancelled(counted::findings(address)).await;
    match findings {
        Ok(findings) => {
            for finding in findings {
                let hint = finding.hint.unwrap_or_default();
                if finding.level == FindingLevel::Warning {
                    tracing::warn!("{}. {hint}", finding.message);
                } else {
                    tracing::info!("{}. {hint}", finding.message);
                }
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
        // The connection itself says what is wrong.
        Err(error) => {
            tracing::debug!("{}", error.chain());
            Ok(())
        }
    }
}
