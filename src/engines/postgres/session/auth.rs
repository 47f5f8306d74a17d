//! Login: SCRAM-SHA-256 (with channel binding over TLS), MD5, clear text.
//!
//! A clear-text password is sent only where nobody can read along, unless the operator allowed it: a server we merely
//! believe to know must not be able to ask for it.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;

use super::connection::Connection;
use super::url::{ConnectOptions, one_of};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::engines::postgres::wire::server_error::ServerError;

/// Whether the login is bound to the TLS session: `channel_binding`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChannelBindingMode {
    /// Never.
    Disable,
    /// Where the server can.
    #[default]
    Prefer,
    /// Or there is no login.
    Require,
}

/// A way of login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// The server asks for nothing.
    None,
    /// Password in clear text.
    Password,
    /// MD5.
    Md5,
    /// SCRAM-SHA-256, with channel binding or without.
    Scram,
    /// GSSAPI, SSPI, OAuth: not to be had here.
    Other,
}

/// The ways of login that a server may ask for: `require_auth`. All by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequireAuth {
    methods: Vec<Method>,
    /// Whether these are those that it may not ask for.
    is_negated: bool,
}

impl RequireAuth {
    /// Reads a list of methods; all of them, or none, begin with `!`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut read = Self::default();
        for (at, word) in text.split(',').map(str::trim).enumerate() {
            let (word, is_negated) = word.strip_prefix('!').map_or((word, false), |word| (word, true));
            if at > 0 && is_negated != read.is_negated {
                return Err(Error::invalid(format!(
                    "require_auth {text:?} mixes methods with and without \"!\""
                )));
            }
            read.is_negated = is_negated;
            read.methods.push(match word {
                "none" => Method::None,
                "password" => Method::Password,
                "md5" => Method::Md5,
                "scram-sha-256" => Method::Scram,
                "gss" | "sspi" | "oauth" => Method::Other,
                other => return Err(one_of("require_auth", other, "scram-sha-256, md5, password or none")),
            });
        }
        Ok(read)
    }

    fn check(&self, method: Method) -> Result<()> {
        if self.methods.is_empty() || self.methods.contains(&method) != self.is_negated {
            return Ok(());
        }
        let what = match method {
            Method::None => "accepts any user without authentication",
            Method::Password => "requests the password in clear text",
            Method::Md5 => "requests MD5 authentication",
            Method::Scram => "requests SCRAM authentication",
            Method::Other => "requests GSSAPI, SSPI or OAuth authentication",
        };
        Err(
            Error::new(ErrorKind::Denied, format!("server {what}, which require_auth forbids"))
                .with_hint("Change the method in pg_hba.conf, or require_auth (PGREQUIREAUTH)."),
        )
    }
}

/// Answers the server's requests until it says AuthenticationOk.
pub(crate) async fn log_in(connection: &mut Connection, options: &ConnectOptions) -> Result<()> {
    let mut scram: Option<ScramSha256> = None;
    // Whether the server has proved itself by SCRAM, and is bound to the TLS session.
    let (mut is_proved, mut is_bound, mut was_asked) = (false, false, false);
    let check = |method| {
        options.require_auth.check(method)?;
        // No other method can be bound.
        if options.channel_binding == ChannelBindingMode::Require && method != Method::Scram {
            return Err(unbound());
        }
        Ok(())
    };
    // A login takes at most four messages; notices may come between.
    for _ in 0..64 {
        let (tag, body) = connection.read_message().await?;
        match tag {
            b'E' => return Err(ServerError::parse(&body).into_error()),
            b'N' => continue,
            b'R' => {}
            other => return Err(unexpected(other)),
        }
        let (code, data) = body.split_first_chunk::<4>().ok_or_else(|| unexpected(b'R'))?;
        let mut answer = BytesMut::new();
        match u32::from_be_bytes(*code) {
            0 => {
                if !was_asked {
                    check(Method::None)?;
                }
                if scram.is_some() && !is_proved {
                    return Err(Error::new(
                        ErrorKind::Denied,
                        "server completed the login without proving that it knows the password",
                    ));
                }
                if options.channel_binding == ChannelBindingMode::Require && !is_bound {
                    return Err(unbound());
                }
                return Ok(());
            }
            3 => {
                check(Method::Password)?;
                was_asked = true;
                if !connection.is_private() && !options.allow_cleartext_password {
                    return Err(Error::new(ErrorKind::Denied, "server requests the password in clear text over an \
                                                              unencrypted connection")
                        .with_hint("Use TLS (sslmode=require or better) or scram-sha-256 in pg_hba.conf; allow_cleartext_password=true permits it."));
                }
                frontend::password_message(password(options)?, &mut answer).context("send password")?;
            }
            5 => {
                check(Method::Md5)?;
                was_asked = true;
                let salt = data.first_chunk::<4>().ok_or_else(|| unexpected(b'R'))?;
                let hash = md5_hash(options.user.as_bytes(), password(options)?, *salt);
                frontend::password_message(hash.as_bytes(), &mut answer).context("send password")?;
            }
            10 => {
                check(Method::Scram)?;
                was_asked = true;
                let (mechanism, binding) = choose(data, connection, options.channel_binding)?;
                is_bound = mechanism == SCRAM_SHA_256_PLUS;
                let state = ScramSha256::new(password(options)?, binding);
                frontend::sasl_initial_response(mechanism, state.message(), &mut answer)
                    .context("send SCRAM message")?;
                scram = Some(state);
            }
            11 => {
                let state = scram.as_mut().ok_or_else(|| unexpected(b'R'))?;
                state.update(data).context("read SCRAM challenge")?;
                frontend::sasl_response(state.message(), &mut answer).context("send SCRAM message")?;
            }
            12 => {
                // The server proves that it knows the password too.
                let state = scram.as_mut().ok_or_else(|| unexpected(b'R'))?;
                state.finish(data).map_err(|e| {
                    Error::new(ErrorKind::Denied, "server did not prove that it knows the password").with_cause(e)
                })?;
                is_proved = true;
            }
            other => {
                check(Method::Other)?;
                return Err(
                    Error::unsupported(format!("server requests authentication method {other}"))
                        .with_hint("Supported are scram-sha-256, md5, password, trust and peer: see pg_hba.conf."),
                );
            }
        }
        if !answer.is_empty() {
            connection.write_all(&answer).await?;
        }
    }
    Err(Error::corrupt("the login does not end"))
}

fn choose(data: &[u8], connection: &Connection, mode: ChannelBindingMode) -> Result<(&'static str, ChannelBinding)> {
    let offered: Vec<&[u8]> = data.split(|&b| b == 0).filter(|m| !m.is_empty()).collect();
    let plus = offered.contains(&SCRAM_SHA_256_PLUS.as_bytes());
    let plain = offered.contains(&SCRAM_SHA_256.as_bytes());
    let binding = match mode {
        ChannelBindingMode::Disable => None,
        ChannelBindingMode::Prefer | ChannelBindingMode::Require => connection.channel_binding(),
    };
    match binding {
        Some(binding) if plus => Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(binding))),
        _ if mode == ChannelBindingMode::Require => Err(unbound()),
        Some(_) if plain => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if plain => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(Error::unsupported("server offers no supported SASL mechanism")),
    }
}

/// The error of a login that cannot be bound to the TLS session.
fn unbound() -> Error {
    Error::new(
        ErrorKind::Denied,
        "channel_binding=require, but the server does not offer SCRAM-SHA-256-PLUS over TLS",
    )
    .with_hint("Turn on ssl, and scram-sha-256 in pg_hba.conf (a pooler may interfere); or set channel_binding=prefer.")
}

fn password(options: &ConnectOptions) -> Result<&[u8]> {
    options
        .password
        .as_ref()
        .map(super::url::Secret::expose)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Denied,
                format!("server requests a password for \"{}\", but none is set", options.user),
            )
            .with_hint("Set PGPASSWORD, password_file, or a line in ~/.pgpass, which only you may read (chmod 0600).")
        })
}

pub(crate) fn unexpected(tag: u8) -> Error {
    Error::corrupt(format!("unexpected message '{}' from the server", tag.escape_ascii()))
        .with_hint("The connection is damaged, or the peer is not PostgreSQL.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn methods_are_allowed_or_forbidden() {
        let allows = |text: &str, method| RequireAuth::parse(text).unwrap().check(method).is_ok();
        assert!(RequireAuth::default().check(Method::None).is_ok());
        assert!(allows("scram-sha-256", Method::Scram) && !allows("scram-sha-256", Method::Md5));
        assert!(!allows("scram-sha-256,md5", Method::None) && allows("md5, none", Method::None));
        assert!(allows("!password,!md5", Method::Scram) && !allows("!password,!md5", Method::Password));
        for bad in ["scram", "md5,!none", ""] {
            assert!(RequireAuth::parse(bad).is_err(), "{bad}");
        }
    }
}
