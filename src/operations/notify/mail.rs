//! One message by SMTP (RFC 5321), for who has no channel but mail.
//!
//! `smtps://` is TLS from the first byte, `smtp://` asks for STARTTLS and goes on only with it, unless the server is on this
//! host or the address says `?tls=none`. Certificates are always verified, against the system's authorities and Mozilla's.
//! The address may hold a password, so errors name the host alone.

use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::config::mailbox;

/// For each step of the dialogue, and for all of it.
const STEP: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(30);

/// A message and where it goes.
#[derive(Debug, Clone)]
pub struct Mail {
    /// `smtp://user@host:port` or `smtps://…`.
    pub server: Secret,
    /// Password, if it does not stand in the address.
    pub password: Option<Secret>,
    /// Sender, as `Name <a@b>` or `a@b`.
    pub from: String,
    /// Receivers.
    pub to: Vec<String>,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
}

impl Mail {
    /// Sends it once.
    pub async fn send(&self) -> Result<()> {
        let url = Url::parse(self.server.expose()).map_err(|_| Error::invalid("the address is not a valid URL"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let act = || format!("send mail by \"{}://{host}\"", url.scheme());
        let sent = tokio::time::timeout(WHOLE, self.exchange(&url, &host)).await;
        let late = || Error::new(ErrorKind::TimedOut, format!("not sent within {} s", WHOLE.as_secs()));
        sent.map_err(|_| late()).and_then(|sent| sent).with_context(act)
    }

    async fn exchange(&self, url: &Url, host: &str) -> Result<()> {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let tls = tls(url, name)?;
        let port = url.port().unwrap_or(match &tls {
            Tls::None => 25,
            Tls::Wrapper(_) => 465,
            _ => 587,
        });
        let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(name)
            .port(port)
            .tls(tls)
            .timeout(Some(STEP));
        if !url.username().is_empty() {
            let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let password = self.password.as_ref().map(|secret| secret.expose().to_owned());
            let password = password.or_else(|| url.password().map(decoded)).unwrap_or_default();
            server = server.credentials(Credentials::new(decoded(url.username()), password));
        }
        let mut message = lettre::Message::builder()
            .from(mailbox(&self.from)?)
            .subject(self.subject.clone())
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(mailbox(to)?);
        }
        let message = message
            .body(self.text.clone())
            .map_err(|e| Error::invalid("unable to build the mail message").with_cause(e))?;
        server.build().send(message).await.map(|_| ()).map_err(|error| {
            let kind = match (error.is_permanent(), error.is_tls()) {
                (true, _) | (_, true) => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, "the mail server did not accept the message")
                .with_cause(error)
                .with_hint("Check host, port, user and password, and whether the server accepts mail from this host.")
        })
    }
}

fn tls(url: &Url, host: &str) -> Result<Tls> {
    let is_off = url.query_pairs().any(|(key, value)| key == "tls" && value == "none");
    let is_local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if url.scheme() == "smtp" && (is_off || is_local) {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
    for certificate in rustls_native_certs::load_native_certs().certs {
        if let Ok(certificate) = Certificate::from_der(certificate.to_vec()) {
            parameters = parameters.add_root_certificate(certificate);
        }
    }
    let parameters = parameters
        .build_rustls()
        .map_err(|e| Error::unsupported("unable to set up TLS").with_cause(e))?;
    Ok(if url.scheme() == "smtps" {
        Tls::Wrapper(parameters)
    } else {
        Tls::Required(parameters)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// Speaks just enough SMTP, answers `RCPT` with `verdict`, and returns all that it was told.
    async fn peer(listener: TcpListener, verdict: &'static str) -> String {
        let mut socket = BufReader::new(listener.accept().await.unwrap().0);
        socket.write_all(b"220 here\r\n").await.unwrap();
        let (mut told, mut in_data) = (String::new(), false);
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                return told;
            }
            told.push_str(&line);
            let answer = match (in_data, line.split_whitespace().next()) {
                (true, Some(".")) => "250 taken\r\n",
                (true, _) => continue,
                (_, Some("EHLO")) => "250-here\r\n250 AUTH PLAIN\r\n",
                (_, Some("RCPT")) => verdict,
                (_, Some("DATA")) => "354 go on\r\n",
                (_, Some("AUTH")) => "235 welcome\r\n",
                _ => "250 well\r\n",
            };
            in_data = answer.starts_with("354");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    async fn sent(verdict: &'static str) -> (Result<()>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("smtp://post%40me@127.0.0.1:{}", listener.local_addr().unwrap().port());
        let peer = tokio::spawn(peer(listener, verdict));
        let mail = Mail {
            server: Secret::new(server),
            password: Some(Secret::new("geheim")),
            from: "Backups <b@example.org>".into(),
            to: vec!["ops@example.org".into(), "boss@example.org".into()],
            subject: "web1: full failed".into(),
            text: "no route\n.\nto \"db\"".into(),
        };
        let result = mail.send().await;
        drop(mail);
        (result, peer.await.unwrap())
    }

    #[tokio::test]
    async fn a_mail_goes_to_everyone_and_a_refusal_is_told() {
        let (result, told) = sent("250 well\r\n").await;
        result.unwrap();
        for part in [
            "AUTH PLAIN AHBvc3RAbWUAZ2VoZWlt",
            "RCPT TO:<ops@example.org>",
            "RCPT TO:<boss@example.org>",
            "Subject: web1: full failed",
            "no route\r\n..\r\nto \"db\"",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        let (result, told) = sent("550 not here\r\n").await;
        let error = result.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Denied && error.chain().contains("not here"),
            "{}",
            error.chain()
        );
        assert!(!told.contains("DATA") && !error.chain().contains("geheim"));
    }

    #[test]
    fn only_a_server_on_this_host_is_told_in_the_clear() {
        let tls = |url: &str| {
            let url = Url::parse(url).unwrap();
            let host = url.host_str().unwrap().to_owned();
            super::tls(&url, &host).unwrap()
        };
        assert!(matches!(tls("smtp://mail.example.org"), Tls::Required(_)));
        assert!(matches!(tls("smtps://mail.example.org"), Tls::Wrapper(_)));
        assert!(matches!(tls("smtp://localhost"), Tls::None));
        assert!(matches!(tls("smtp://mail.example.org?tls=none"), Tls::None));
        assert!(matches!(tls("smtps://localhost"), Tls::Wrapper(_)));
    }
}
