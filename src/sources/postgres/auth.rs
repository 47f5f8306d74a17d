//! Login: SCRAM-SHA-256 (with channel binding over TLS), MD5, clear text.
//!
//! A clear-text password is sent only where nobody can read along, unless the operator allowed it: a server we merely
//! believe to know must not be able to ask for it.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;

use super::connection::Connection;
use super::server_error::ServerError;
use super::url::ConnectOptions;
use crate::error::{Context as _, Error, ErrorKind, Result};

/// Answers the server's requests until it says AuthenticationOk.
pub(super) async fn log_in(connection: &mut Connection, options: &ConnectOptions) -> Result<()> {
    let mut scram: Option<ScramSha256> = None;
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
            0 => return Ok(()),
            3 => {
                if !connection.is_private() && !options.allow_cleartext_password {
                    return Err(Error::new(ErrorKind::Denied, "server asks for the password in clear text over an unencrypted connection")
                        .with_hint("Use TLS (sslmode=require or better) or scram-sha-256 in pg_hba.conf; allow_cleartext_password=true permits it."));
                }
                frontend::password_message(password(options)?, &mut answer).context("send password")?;
            }
            5 => {
                let salt = data.first_chunk::<4>().ok_or_else(|| unexpected(b'R'))?;
                let hash = md5_hash(options.user.as_bytes(), password(options)?, *salt);
                frontend::password_message(hash.as_bytes(), &mut answer).context("send password")?;
            }
            10 => {
                let (mechanism, binding) = choose(data, connection)?;
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
            }
            other => {
                return Err(
                    Error::unsupported(format!("server asks for authentication method {other}"))
                        .with_hint("Supported are scram-sha-256, md5, password, trust and peer: see pg_hba.conf."),
                );
            }
        }
        if !answer.is_empty() {
            connection.write_all(&answer).await?;
        }
    }
    Err(Error::corrupt("the peer's login never ends"))
}

fn choose(data: &[u8], connection: &Connection) -> Result<(&'static str, ChannelBinding)> {
    let offered: Vec<&[u8]> = data.split(|&b| b == 0).filter(|m| !m.is_empty()).collect();
    let plus = offered.contains(&SCRAM_SHA_256_PLUS.as_bytes());
    let plain = offered.contains(&SCRAM_SHA_256.as_bytes());
    match connection.channel_binding() {
        Some(binding) if plus => Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(binding))),
        Some(_) if plain => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if plain => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(Error::unsupported("server offers no SASL mechanism that is known here")),
    }
}

fn password(options: &ConnectOptions) -> Result<&[u8]> {
    options
        .password
        .as_ref()
        .map(super::url::Secret::expose)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Denied,
                format!("server asks for a password for \"{}\", and there is none", options.user),
            )
            .with_hint("Set PGPASSWORD, password_file, or a line in ~/.pgpass, which others must not be able to read (chmod 0600).")
        })
}

pub(super) fn unexpected(tag: u8) -> Error {
    Error::corrupt(format!("unexpected message '{}' from the server", tag.escape_ascii()))
        .with_hint("The connection is damaged, or the peer is not PostgreSQL.")
}
