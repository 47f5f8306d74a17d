//! One HTTP request to an address of a person's choice: a hook, a channel, a dead man's switch.
//!
//! HTTP/1.1 over TCP or TLS, one connection for each request, by the proxy that the environment names for the address,
//! certificates always verified. The whole of it is bounded by a timeout; of the answer only the status counts. The address may
//! hold a secret, so errors name the host alone.
//!
//! A redirect is followed [`MAX_REDIRECTS`] times, with the same method and body: a message that became a GET on the way would
//! be lost, and the answer would say 200. Only after 303, which says that the POST was taken, the next request is a GET. Secrets of
//! the request (the address's user, its token) go to the host that was configured and to no other; from https the way leads to
//! https alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::proxy::{Proxies, Proxy};
use crate::base::secret::Secret;
use crate::base::tls::{trusting, usual_roots};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where to.
    pub url: Secret,
    /// Names and values; `Host` and the length are added.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent; a GET when `None`.
    pub body: Option<Bytes>,
    /// For all of it.
    pub timeout: Duration,
}

impl Call {
    /// Makes a request without headers.
    pub fn new(url: Secret, body: Option<Bytes>) -> Self {
        Self {
            url,
            headers: Vec::new(),
            body,
            timeout: Duration::from_secs(10),
        }
    }

    /// Sends it once. Any status from 200 to 299 is success.
    pub async fn send(&self) -> Result<()> {
        let url = Url::parse(self.url.expose()).map_err(|_| Error::invalid("the address is not a valid URL"))?;
        let sent = tokio::time::timeout(self.timeout, self.follow(url.clone())).await;
        let Ok(status) = sent else {
            let message = format!("no answer within {} s", self.timeout.as_secs());
            return Err(Error::new(ErrorKind::TimedOut, message).context(act(&url)));
        };
        let status = status.with_context(|| act(&url))?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        let kind = match status {
            401 | 403 => ErrorKind::Denied,
            404 | 410 => ErrorKind::NotFound,
            408 | 425 | 429 | 500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        };
        Err(Error::new(kind, format!("the server returned status {status}"))
            .with_hint("Check the address in the configuration.")
            .context(act(&url)))
    }

    /// Sends it, and to wherever the answer says; returns the last status.
    async fn follow(&self, mut url: Url) -> Result<u16> {
        let origin = url.origin();
        let mut body = self.body.clone();
        let mut followed = 0;
        loop {
            let own = url.origin() == origin;
            let answer = self.exchange(&url, body.as_ref(), own).await?;
            let Some(location) = answer
                .location
                .filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308))
            else {
                return Ok(answer.status);
            };
            let next = url
                .join(&location)
                .ok()
                .filter(|next| matches!(next.scheme(), "http" | "https"));
            let next = next.ok_or_else(|| {
                Error::invalid("redirect without a location").with_hint("Set the final address in the configuration.")
            })?;
            if url.scheme() == "https" && next.scheme() == "http" {
                let message = format!("refused a redirect from https to \"http://{}/…\"", host_of(&next));
                return Err(
                    Error::new(ErrorKind::Denied, message).with_hint("Set the final address in the configuration.")
                );
            }
            followed += 1;
            if followed > MAX_REDIRECTS {
                return Err(
                    Error::invalid(format!("too many redirects, the last to \"{}\"", host_of(&next)))
                        .with_hint("Set the final address in the configuration."),
                );
            }
            if answer.status == 303 {
                body = None;
            }
            url = next;
        }
    }

    /// One request and its answer. What is secret of the request goes along only to `own` hosts.
    async fn exchange(&self, url: &Url, body: Option<&Bytes>, own: bool) -> Result<Answer> {
        let port = url.port_or_known_default().unwrap_or(80);
        // An IPv6 address stands in brackets in a URL and without them everywhere else.
        let name = host_of(url).trim_start_matches('[').trim_end_matches(']').to_owned();
        let proxy = Proxies::of_process().towards(url.scheme(), &name)?;
        let unreachable = |e: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "could not connect")
                .with_cause(e)
                .with_hint("Check host, port and network.")
        };
        let stream = match &proxy {
            None => TcpStream::connect((name.as_str(), port)).await.map_err(unreachable)?,
            Some(proxy) if url.scheme() == "http" => proxy.connect().await?,
            Some(proxy) => proxy.tunnel(&name, port).await?,
        };
        if url.scheme() == "http" {
            let request = self.request(url, body, own, proxy.as_ref())?;
            return over(stream, request).await;
        }
        let server = ServerName::try_from(name)
            .map_err(|e| Error::invalid("the host is not a valid TLS server name").with_cause(e))?;
        let config = trusting(usual_roots())?.with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config)).connect(server, stream).await;
        let tls = tls.map_err(|e| Error::new(ErrorKind::Denied, "TLS handshake failed").with_cause(e))?;
        over(tls, self.request(url, body, own, None)?).await
    }

    /// Writes the request; `proxy` is the one that forwards it.
    fn request(
        &self,
        url: &Url,
        body: Option<&Bytes>,
        own: bool,
        proxy: Option<&Proxy>,
    ) -> Result<Request<Full<Bytes>>> {
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", host_of(url)),
            None => host_of(url).to_owned(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let target = if proxy.is_some() {
            format!("http://{authority}{path}")
        } else {
            path
        };
        let mut request = Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(target)
            .header("host", authority)
            .header("user-agent", concat!("wirevault/", env!("CARGO_PKG_VERSION")))
            .header("connection", "close");
        if let Some(value) = proxy.and_then(Proxy::authorization) {
            request = request.header("proxy-authorization", value);
        }
        if own && !url.username().is_empty() {
            request = request.header("authorization", basic(url));
        }
        for (name, value) in &self.headers {
            if own || *name != "authorization" {
                request = request.header(*name, value);
            }
        }
        request
            .body(Full::new(body.cloned().unwrap_or_default()))
            .map_err(|e| Error::invalid("the request cannot be written").with_cause(e))
    }
}

/// What of an answer counts.
struct Answer {
    status: u16,
    location: Option<String>,
}

fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

fn act(url: &Url) -> String {
    format!("call \"{}://{}/…\"", url.scheme(), host_of(url))
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    let broken = |e: hyper::Error| Error::new(ErrorKind::Unavailable, "the connection was lost").with_cause(e);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let answer = sender.send_request(request).await.map_err(broken)?;
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
    Ok(Answer {
        status: answer.status().as_u16(),
        location: location.map(str::to_owned),
    })
}

/// `user:password@` of an address, as RFC 7617 has it.
fn basic(url: &Url) -> String {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let mut pair = decode(url.username());
    pair.push(b':');
    pair.extend(decode(url.password().unwrap_or_default()));
    format!("Basic {}", BASE64_STANDARD.encode(&pair))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn credentials_of_an_address_become_a_header() {
        let url = Url::parse("http://Aladdin:open%20sesame@host/x").unwrap();
        assert_eq!(basic(&url), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[tokio::test]
    async fn an_error_names_the_host_and_not_the_secret_path() {
        let call = Call::new(Secret::new("http://127.0.0.1:1/services/geheim"), None);
        let error = call.send().await.unwrap_err();
        assert!(error.chain().contains("127.0.0.1"), "{}", error.chain());
        assert!(!error.chain().contains("geheim") && !format!("{call:?}").contains("geheim"));
    }
}
