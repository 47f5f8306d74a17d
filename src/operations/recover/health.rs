//! One GET of a health URL: does it answer, and with success?

use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::base::error::{Context, Error, ErrorKind, Result};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks once. Any status below 400 is an answer.
pub(super) async fn ask(url: &str) -> Result<()> {
    let act = || format!("ask {}", crate::config::redact_url(url));
    let asked = timeout(PATIENCE, get(url)).await;
    let status = asked
        .map_err(|_| Error::new(ErrorKind::TimedOut, "no answer within 10 s"))
        .and_then(|status| status)
        .with_context(act)?;
    if status < 400 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unavailable,
        format!("it returned status {status}"),
    ))
    .with_context(act)
}

async fn get(url: &str) -> Result<u16> {
    let url = Url::parse(url).map_err(|e| Error::invalid("it is not a URL").with_cause(e))?;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().unwrap_or(80);
    let stream = TcpStream::connect((host, port)).await?;
    let failed = |e: hyper::Error| Error::new(ErrorKind::Unavailable, "no HTTP response").with_cause(e);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let request = Request::get(path).header("host", format!("{host}:{port}"));
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|e| Error::invalid("the URL is not valid").with_cause(e))?;
    let answer = sender.send_request(request).await.map_err(failed);
    driver.abort();
    Ok(answer?.status().as_u16())
}
