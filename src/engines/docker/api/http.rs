//! One HTTP/1.1 request to an engine, and the bodies that go with it.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream as Pieces, stream};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::io::StreamReader;

use super::address::{self, Address};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::proxy::{Proxies, Proxy};

/// How long the engine may be silent before an answer begins, unless the request itself waits for something.
pub(super) const ANSWER: Duration = Duration::from_secs(60);

/// How long it may be silent within a body: it reads disks meanwhile.
const SILENCE: Duration = Duration::from_secs(300);

/// Largest answer that is kept in memory, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Largest text of an error that is kept, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// What a request carries.
#[derive(Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A JSON document.
    Json(Value),
    /// A tar, as it comes; an error in it breaks the request off.
    Tar(mpsc::Receiver<Result<Bytes>>),
}

/// The body of a request towards hyper.
#[derive(Debug)]
pub(super) enum Sent {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Result<Bytes>>),
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(receiver) => receiver
                .poll_recv(context)
                .map(|next| next.map(|next| next.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| exact::u64_from(b.len())))
            }
            Self::Stream(_) => hyper::body::SizeHint::default(),
        }
    }
}

/// Sends a request and returns the answer once its head is there. An answer that is no success is an error.
pub(super) async fn send(
    address: &Address,
    method: &str,
    path: &str,
    body: Body,
    patience: Duration,
) -> Result<Response<Incoming>> {
    let (stream, proxy) = reach(address).await?;
    let (mut sender, connection) = http1::handshake::<_, Sent>(TokioIo::new(stream))
        .await
        .map_err(|e| unavailable("open a connection to the Docker engine", e))?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let host = match address {
        Address::Unix(_) => "docker".to_owned(),
        Address::Tcp { .. } => address.to_string().trim_start_matches("tcp://").to_owned(),
    };
    let target = match &proxy {
        Some(_) => format!("http://{host}{path}"),
        None => path.to_owned(),
    };
    let mut request = Request::builder().method(method).uri(target).header("host", host);
    if let Some(value) = proxy.as_ref().and_then(Proxy::authorization) {
        request = request.header("proxy-authorization", value);
    }
    // An upload of any length is answered at its end; its own sender notices when the engine stops reading.
    let bounded = !matches!(body, Body::Tar(_));
    let request = match body {
        Body::Empty => request.header("content-length", "0").body(Sent::Whole(None)),
        Body::Json(value) => request
            .header("content-type", "application/json")
            .body(Sent::Whole(Some(Bytes::from(value.to_string())))),
        Body::Tar(receiver) => request
            .header("content-type", "application/x-tar")
            .body(Sent::Stream(receiver)),
    };
    let request =
        request.map_err(|e| Error::invalid("a request to the Docker engine cannot be written").with_cause(e))?;
    let answer = sender.send_request(request);
    let answer = if bounded {
        timeout(patience, answer).await.map_err(|_| {
            Error::new(
                ErrorKind::TimedOut,
                format!("no answer from the Docker engine within {} s", patience.as_secs()),
            )
        })?
    } else {
        answer.await
    };
    let answer = answer.map_err(|e| unavailable("send a request to the Docker engine", e))?;
    if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
        return Ok(answer);
    }
    let status = answer.status();
    let text = whole(answer.into_body(), MAX_ERROR).await.unwrap_or_default();
    Err(refused(status, &text))
}

/// What a connection is made of.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to an engine; with the proxy that requests are sent to, if one forwards them.
async fn reach(address: &Address) -> Result<(Box<dyn Stream>, Option<Proxy>)> {
    let (host, port) = match address {
        Address::Unix(path) => return Ok((Box::new(connect(path).await?), None)),
        Address::Tcp { host, port } => (host, *port),
    };
    let tls = address::tls()?;
    let proxy = Proxies::of_process().towards(if tls.is_some() { "https" } else { "http" }, host)?;
    let connecting = async {
        match (&proxy, &tls) {
            (None, _) => TcpStream::connect((host.as_str(), port)).await.map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("could not connect to the Docker engine at {address}"),
                )
                .with_cause(error)
                .with_hint("Check the address (DOCKER_HOST, `socket`), and that the engine is running.")
            }),
            (Some(proxy), None) => proxy.connect().await,
            (Some(proxy), Some(_)) => proxy.tunnel(host, port).await,
        }
    };
    let stream = timeout(Duration::from_secs(10), connecting).await;
    let stream = stream.map_err(|_| {
        Error::new(
            ErrorKind::TimedOut,
            format!("no answer from the Docker engine at {address} within 10 s"),
        )
    })??;
    let Some(tls) = tls else {
        return Ok((Box::new(stream), proxy));
    };
    let name = ServerName::try_from(host.clone())
        .map_err(|e| Error::invalid("the host is not a valid TLS server name").with_cause(e))?;
    let secured = timeout(Duration::from_secs(10), TlsConnector::from(tls).connect(name, stream)).await;
    let failed = || format!("TLS handshake with the Docker engine at {address} failed");
    let secured = secured.map_err(|_| Error::new(ErrorKind::TimedOut, failed()))?;
    let secured = secured.map_err(|error| {
        Error::new(ErrorKind::Denied, failed())
            .with_cause(error)
            .with_hint("Check ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH.")
    })?;
    Ok((Box::new(secured), None))
}

async fn connect(socket: &Path) -> Result<UnixStream> {
    let connecting = timeout(Duration::from_secs(10), UnixStream::connect(socket)).await;
    let result = connecting.map_err(|_| {
        Error::new(
            ErrorKind::TimedOut,
            format!(
                "no answer from the Docker engine at \"{}\" within 10 s",
                socket.display()
            ),
        )
    })?;
    result.map_err(|error| {
        let at = socket.display();
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, format!("no Docker engine at \"{at}\""))
                .with_hint(
                    "Start the engine, or set its socket: `socket` in wirevault.toml, docker:///path/docker.sock, or \
                     DOCKER_HOST. In a container, mount it: -v /var/run/docker.sock:/var/run/docker.sock.",
                ),
            std::io::ErrorKind::PermissionDenied => Error::new(
                ErrorKind::Denied,
                format!("no permission to use the Docker socket \"{at}\""),
            )
            .with_hint("Run as root, or as a member of the group that owns the socket (usually docker)."),
            std::io::ErrorKind::ConnectionRefused => Error::new(
                ErrorKind::Unavailable,
                format!("no Docker engine is listening on the socket \"{at}\""),
            )
            .with_hint("The socket is left over from a stopped engine: start the engine."),
            _ => Error::from(error).context(format!("connect to the Docker engine at \"{at}\"")),
        }
    })
}

fn unavailable(act: &str, error: hyper::Error) -> Error {
    // The sender of a streamed body failed: its own reason says more than the broken request.
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        if let Some(own) = inner.downcast_ref::<Error>() {
            let told = Error::new(own.kind(), own.chain());
            return match own.hint() {
                Some(hint) => told.with_hint(hint),
                None => told,
            };
        }
        cause = inner.source();
    }
    Error::new(ErrorKind::Unavailable, act).with_cause(error)
}

fn refused(status: StatusCode, text: &[u8]) -> Error {
    let parsed: Option<Value> = serde_json::from_slice(text).ok();
    let said = parsed
        .as_ref()
        .and_then(|value| value.get("message"))
        .and_then(Value::as_str)
        .map_or_else(|| String::from_utf8_lossy(text).trim().to_owned(), str::to_owned);
    let kind = match status.as_u16() {
        400 => ErrorKind::Invalid,
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::AlreadyExists,
        501 => ErrorKind::Unsupported,
        503 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    };
    Error::new(kind, format!("the Docker engine returned {}: {said}", status.as_u16()))
}

/// Reads a whole body of bounded size.
async fn whole(mut body: Incoming, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(data) = next_data(&mut body).await? {
        if bytes.len() + data.len() > limit {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "the Docker engine's answer is too long",
            ));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>> {
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| {
            Error::new(
                ErrorKind::TimedOut,
                format!("the Docker engine sent nothing for {} s", SILENCE.as_secs()),
            )
        })?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|e| unavailable("read the Docker engine's answer", e))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// Reads an answer as JSON; an empty one is null.
pub(super) async fn json(answer: Response<Incoming>) -> Result<Value> {
    let bytes = whole(answer.into_body(), MAX_ANSWER).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::corrupt("the Docker engine's answer is not valid JSON").with_cause(e))
}

/// Reads an answer of JSON lines (progress of a load or pull) to its end; an error among them is one.
pub(super) async fn progress(answer: Response<Incoming>) -> Result<Vec<Value>> {
    let bytes = whole(answer.into_body(), MAX_ANSWER).await?;
    let mut lines = Vec::new();
    for line in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>() {
        let line = line.map_err(|e| Error::corrupt("the Docker engine's progress is not valid JSON").with_cause(e))?;
        if let Some(error) = line.get("error").and_then(Value::as_str) {
            return Err(Error::new(ErrorKind::Other, format!("the Docker engine said: {error}")));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// A tar that the engine sends, read as it comes.
pub struct TarBody(StreamReader<Pin<Box<dyn Pieces<Item = io::Result<Bytes>> + Send>>, Bytes>);

impl TarBody {
    pub(super) fn new(answer: Response<Incoming>) -> Self {
        let pieces = stream::try_unfold(answer.into_body(), |mut body| async move {
            let data = next_data(&mut body).await.context("read a tar from the Docker engine");
            Ok(data.map_err(io::Error::other)?.map(|data| (data, body)))
        });
        Self(StreamReader::new(Box::pin(pieces)))
    }
}

impl fmt::Debug for TarBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TarBody")
    }
}

/// Errors are ours, within those of the trait.
impl AsyncRead for TarBody {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}
