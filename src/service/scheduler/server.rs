//! The HTTP side of `run`: `/` (status page), `/metrics`, `/health`. Read only.
//!
//! It listens on the loopback unless told otherwise. Elsewhere it needs a token (as bearer token, as password of any user,
//! or as `?token=`); `/health` alone answers without one, and then tells nothing but its status. On the loopback the name that a
//! browser asks for must be the loopback's too, so that no page of the web can read it through a name of its own. Connections,
//! their time and the size of what they send are bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::page;
use super::state::SchedulerState;
use crate::base::clock::SharedClock;
use crate::base::error::{Context, Error, Result};
use crate::base::secret::Secret;
use crate::config::Config;
use crate::service::metrics;

/// Connections at once.
const CONNECTIONS: usize = 32;

/// For a whole connection.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// A page may show what it carries itself, and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// A server at work; dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

/// What `/health` answers.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(in crate::service) struct Answer {
    /// `ok` or `failing`.
    pub(in crate::service) status: String,
    /// What is not well, for those who may know.
    #[serde(default)]
    pub(in crate::service) complaints: Vec<String>,
    /// Which configuration it is about; see [`fingerprint`].
    #[serde(default)]
    pub(in crate::service) configuration: String,
}

/// Tells configurations apart, and nothing else of them: `health` asks whether the process that answers has its own.
pub(in crate::service) fn fingerprint(config: &Config) -> String {
    let repositories = config.repositories.iter().map(|one| one.url.as_str());
    let jobs = config.jobs.iter().map(|one| one.name.as_str());
    let text: Vec<&str> = [config.origin.as_str()]
        .into_iter()
        .chain(repositories)
        .chain(jobs)
        .collect();
    hex::encode(Sha256::digest(text.join("\n"))).chars().take(16).collect()
}

struct Shared {
    state: Arc<SchedulerState>,
    token: Option<Secret>,
    clock: SharedClock,
}

/// Begins to listen.
pub(super) async fn start(
    listen: &str,
    state: Arc<SchedulerState>,
    token: Option<Secret>,
    clock: SharedClock,
) -> Result<Server> {
    let act = || format!("listen on \"{listen}\"");
    let listener = TcpListener::bind(listen).await.with_context(act)?;
    let address = listener.local_addr().with_context(act)?;
    if !address.ip().is_loopback() && token.is_none() {
        return Err(Error::invalid(format!(
            "{address} is reachable over the network, but status_token is not set"
        ))
        .with_hint(
            "Add status_token_file = \"…\" to wirevault.toml, set WIREVAULT_STATUS_TOKEN, or listen on 127.0.0.1.",
        ));
    }
    let shared = Arc::new(Shared { state, token, clock });
    let accepting = tokio::spawn(accept(listener, shared));
    Ok(Server {
        address,
        _accepting: AbortOnDropHandle::new(accepting),
    })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_TIME, serve(stream, shared)).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors: a pause lets others give theirs back.
                tracing::warn!("accept a connection: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = shared.answer(&request);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let mut connection = http1::Builder::new();
    connection
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .keep_alive(false);
    if let Err(error) = connection
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), answer)
        .await
    {
        tracing::debug!("status page: {error}");
    }
}

impl Shared {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return said(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "read only\n");
        }
        let known = self.knows(request);
        let now = self.clock.now();
        match request.uri().path() {
            "/health" => self.health(known, now),
            _ if !known && self.token.is_some() => {
                let mut answer = said(StatusCode::UNAUTHORIZED, "text/plain", "token required\n");
                let realm = hyper::header::HeaderValue::from_static("Basic realm=\"wirevault\"");
                answer.headers_mut().insert(WWW_AUTHENTICATE, realm);
                answer
            }
            _ if !known => said(
                StatusCode::FORBIDDEN,
                "text/plain",
                "use the address or localhost as host name\n",
            ),
            "/" => said(
                StatusCode::OK,
                "text/html; charset=utf-8",
                page::render(&self.state, now),
            ),
            "/metrics" => said(StatusCode::OK, metrics::CONTENT_TYPE, self.state.metrics(now)),
            _ => said(
                StatusCode::NOT_FOUND,
                "text/plain",
                "not found; there are /, /metrics and /health\n",
            ),
        }
    }

    fn health(&self, known: bool, now: jiff::Timestamp) -> Response<Full<Bytes>> {
        let (verdict, complaints) = self.state.verdict(now);
        let status = if verdict.is_ok() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let answer = Answer {
            status: verdict.health_word().to_owned(),
            complaints: if known { complaints } else { Vec::new() },
            configuration: self.state.lock().configuration.clone(),
        };
        let document = serde_json::to_string(&answer).unwrap_or_default();
        said(status, "application/json", format!("{document}\n"))
    }

    /// Whether the one who asks may see everything.
    fn knows<B>(&self, request: &Request<B>) -> bool {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            return header(HOST).is_some_and(is_loopback_name);
        };
        let given = header(AUTHORIZATION).and_then(|value| match value.split_once(' ')? {
            ("Bearer", token) => Some(token.trim().to_owned()),
            ("Basic", pair) => {
                let pair = String::from_utf8(BASE64_STANDARD.decode(pair.trim()).ok()?).ok()?;
                Some(pair.split_once(':')?.1.to_owned())
            }
            _ => None,
        });
        let query = request.uri().query().unwrap_or_default();
        let query = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token");
        let given = given.or_else(|| query.map(|(_, value)| value.into_owned()));
        // Digests are compared, so that time tells nothing of the token.
        given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token.expose()))
    }
}

/// `localhost`, `127.0.0.1` or `[::1]`, with any port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn said(status: StatusCode, kind: &'static str, text: impl Into<String>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text.into())));
    *answer.status_mut() = status;
    let fixed = hyper::header::HeaderValue::from_static;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, fixed(kind));
    headers.insert(CACHE_CONTROL, fixed("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, fixed(POLICY));
    headers.insert("x-content-type-options", fixed("nosniff"));
    headers.insert("referrer-policy", fixed("no-referrer"));
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::clock::TestClock;

    fn shared(token: Option<&str>) -> Shared {
        Shared {
            state: Arc::new(crate::service::scheduler::state::tests::state()),
            token: token.map(Secret::new),
            clock: Arc::new(TestClock::at(jiff::Timestamp::UNIX_EPOCH, jiff::tz::TimeZone::UTC)),
        }
    }

    fn ask(shared: &Shared, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        shared.answer(&request.body(()).unwrap()).status().as_u16()
    }

    #[test]
    fn without_a_token_only_loopback_names_are_answered() {
        let open = shared(None);
        for host in ["localhost:9188", "127.0.0.1:9188", "[::1]:9188", "127.0.0.1"] {
            assert_eq!(ask(&open, "/", &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example:9188", "127.0.0.1.evil.example", "10.0.0.1"] {
            assert_eq!(ask(&open, "/", &[("host", host)]), 403, "{host}");
        }
        assert_eq!(ask(&open, "/", &[]), 403);
        assert_eq!(ask(&open, "/health", &[("host", "evil.example")]), 200);
        assert_eq!(ask(&open, "/x", &[("host", "localhost")]), 404);
        let post = Request::post("/").header("host", "localhost").body(()).unwrap();
        assert_eq!(open.answer(&post).status().as_u16(), 405);
    }

    #[test]
    fn a_token_is_taken_in_three_ways_and_no_other() {
        let closed = shared(Some("geheim"));
        assert_eq!(ask(&closed, "/metrics", &[("host", "localhost")]), 401);
        assert_eq!(ask(&closed, "/metrics?token=geheim", &[]), 200);
        assert_eq!(ask(&closed, "/metrics", &[("authorization", "Bearer geheim")]), 200);
        // "any:geheim"
        assert_eq!(ask(&closed, "/", &[("authorization", "Basic YW55OmdlaGVpbQ==")]), 200);
        assert_eq!(ask(&closed, "/", &[("authorization", "Bearer geheim2")]), 401);
        assert_eq!(ask(&closed, "/health", &[]), 200);
    }
}
