//! The calls, each one request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use bytes::Bytes;
use futures_util::{SinkExt, future};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::{OnceCell, mpsc};
use tokio_tar::Builder;
use tokio_util::io::{CopyToBytes, SinkWriter};
use tokio_util::sync::PollSender;

use super::address::Address;
use super::http::{self, ANSWER, Body, TarBody};
use super::listener::Listener;
use crate::base::error::{Context, Error, ErrorKind, Result};

/// The newest version of the API this was written for.
const NEWEST: (u32, u32) = (1, 47);

/// What need not be escaped in a path or query: names of containers, images and volumes stay readable.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// How long a container may take to start: its file system is prepared and its volumes are mounted meanwhile.
const START: Duration = Duration::from_secs(180);

/// How long the engine may take to load, import or pull an image.
const IMAGE: Duration = Duration::from_secs(1800);

/// Bytes of a tar that are sent at once.
const PIECE_BYTES: usize = 256 << 10;

/// A running engine (cheap to clone).
#[derive(Debug, Clone)]
pub struct Engine {
    address: Address,
    prefix: String,
    version: String,
    listener: Arc<OnceCell<Listener>>,
}

/// A tar on its way to the engine: send pieces, then drop the sender. An error sent breaks the upload off.
#[derive(Debug)]
pub struct UnpackTar {
    /// Where the pieces go.
    pub pieces: mpsc::Sender<Result<Bytes>>,
    /// Ends when the engine has unpacked everything.
    pub done: tokio::task::JoinHandle<Result<()>>,
}

/// What the engine says of a path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Modification time, as the engine writes it (RFC 3339 with nanoseconds).
    pub mtime: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Whole path segments: a slash within a name is escaped too.
fn segment(text: &str) -> String {
    escaped(text).replace('/', "%2F")
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl Engine {
    /// Asks the engine for its version and settles on one of the API.
    pub async fn connect(address: &Address) -> Result<Self> {
        let answer = http::send(address, "GET", "/version", Body::Empty, ANSWER).await?;
        let about = http::json(answer).await?;
        let field = |name: &str| about.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let theirs = parse_version(&field("ApiVersion"))
            .ok_or_else(|| Error::corrupt(format!("the service at \"{address}\" is not a Docker engine")))?;
        let oldest = parse_version(&field("MinAPIVersion")).unwrap_or((1, 24));
        let (major, minor) = theirs.min(NEWEST.max(oldest));
        if (major, minor) < (1, 24) {
            return Err(
                Error::unsupported(format!("the Docker engine is too old: its API is {major}.{minor}"))
                    .with_hint("Docker 1.12 (API 1.24) or later is needed."),
            );
        }
        Ok(Self {
            address: address.clone(),
            prefix: format!("/v{major}.{minor}"),
            version: field("Version"),
            listener: Arc::default(),
        })
    }

    /// Returns the engine's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the engine's own id, which lasts as long as its data.
    pub async fn id(&self) -> Result<String> {
        let about = self
            .get("/info")
            .await
            .context("get information about the Docker engine")?;
        Ok(text(&about, "/ID").to_owned())
    }

    /// Returns where the engine keeps its data, on its own host.
    pub async fn root_directory(&self) -> Result<PathBuf> {
        let about = self
            .get("/info")
            .await
            .context("get information about the Docker engine")?;
        Ok(PathBuf::from(text(&about, "/DockerRootDir")))
    }

    /// Returns where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns who listens there; it is looked at once.
    pub async fn listener(&self) -> &Listener {
        self.listener.get_or_init(|| Listener::at(&self.address)).await
    }

    async fn call(&self, method: &str, path: &str, body: Body, patience: Duration) -> Result<Value> {
        let path = format!("{}{path}", self.prefix);
        http::json(http::send(&self.address, method, &path, body, patience).await?).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, Body::Empty, ANSWER).await
    }

    /// Lists volumes as the engine describes them.
    pub async fn volumes(&self) -> Result<Vec<Value>> {
        let answer = self.get("/volumes").await.context("list volumes")?;
        Ok(list(answer.get("Volumes")))
    }

    /// Returns one volume; `None` if there is none of that name.
    pub async fn volume(&self, name: &str) -> Result<Option<Value>> {
        found(self.get(&format!("/volumes/{}", segment(name))).await)
            .with_context(|| format!("inspect volume \"{name}\""))
    }

    /// Creates a volume.
    pub async fn create_volume(&self, body: Value) -> Result<()> {
        let name = text(&body, "/Name").to_owned();
        let done = self.call("POST", "/volumes/create", Body::Json(body), ANSWER).await;
        done.map(drop).with_context(|| format!("create volume \"{name}\""))
    }

    /// Removes a volume.
    pub async fn remove_volume(&self, name: &str) -> Result<()> {
        let path = format!("/volumes/{}", segment(name));
        let done = self.call("DELETE", &path, Body::Empty, ANSWER).await;
        done.map(drop).with_context(|| format!("remove volume \"{name}\""))
    }

    /// Returns every container, inspected; one that goes away meanwhile is left out.
    pub async fn containers(&self) -> Result<Vec<Value>> {
        let brief = list(Some(
            &self.get("/containers/json?all=1").await.context("list containers")?,
        ));
        let mut all = Vec::new();
        for one in &brief {
            all.extend(self.container(text(one, "/Id")).await?);
        }
        Ok(all)
    }

    /// Returns one container by id or name; `None` if there is none.
    pub async fn container(&self, id: &str) -> Result<Option<Value>> {
        found(self.get(&format!("/containers/{}/json", segment(id))).await)
            .with_context(|| format!("inspect container \"{id}\""))
    }

    /// Creates a container and returns its id.
    pub async fn create_container(&self, name: &str, body: Value) -> Result<String> {
        let path = format!("/containers/create?name={}", segment(name));
        let answer = self.call("POST", &path, Body::Json(body), START).await;
        let answer = answer.with_context(|| format!("create container \"{name}\""))?;
        Ok(text(&answer, "/Id").to_owned())
    }

    /// Starts a container; one that runs already is left alone.
    pub async fn start(&self, id: &str) -> Result<()> {
        let path = format!("/containers/{}/start", segment(id));
        let done = self.call("POST", &path, Body::Empty, START).await;
        done.map(drop).with_context(|| format!("start container \"{id}\""))
    }

    /// Sends a container its stop signal, and never SIGKILL. One that does not run is left alone.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<()> {
        let path = format!("/containers/{}/kill?signal={}", segment(id), segment(signal));
        match self.call("POST", &path, Body::Empty, ANSWER).await {
            // It ended meanwhile.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop).with_context(|| format!("stop container \"{id}\"")),
        }
    }

    /// Removes a container that does not run.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let path = format!("/containers/{}", segment(id));
        let done = self.call("DELETE", &path, Body::Empty, ANSWER).await;
        done.map(drop).with_context(|| format!("remove container \"{id}\""))
    }

    /// Lists networks.
    pub async fn networks(&self) -> Result<Vec<Value>> {
        Ok(list(Some(&self.get("/networks").await.context("list networks")?)))
    }

    /// Creates a network.
    pub async fn create_network(&self, body: Value) -> Result<()> {
        let name = text(&body, "/Name").to_owned();
        let done = self.call("POST", "/networks/create", Body::Json(body), ANSWER).await;
        done.map(drop).with_context(|| format!("create network \"{name}\""))
    }

    /// Attaches a container to a further network.
    pub async fn connect_network(&self, network: &str, container: &str, endpoint: &Value) -> Result<()> {
        let path = format!("/networks/{}/connect", segment(network));
        let body = json!({ "Container": container, "EndpointConfig": endpoint });
        let done = self.call("POST", &path, Body::Json(body), ANSWER).await;
        done.map(drop)
            .with_context(|| format!("attach container \"{container}\" to network \"{network}\""))
    }

    /// Removes a network.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        let path = format!("/networks/{}", segment(name));
        let done = self.call("DELETE", &path, Body::Empty, ANSWER).await;
        done.map(drop).with_context(|| format!("remove network \"{name}\""))
    }

    /// Lists images.
    pub async fn images(&self) -> Result<Vec<Value>> {
        Ok(list(Some(&self.get("/images/json").await.context("list images")?)))
    }

    /// Returns every image, inspected; one that goes away meanwhile is left out.
    pub async fn inspected_images(&self) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        for one in &self.images().await? {
            all.extend(self.image(text(one, "/Id")).await?);
        }
        Ok(all)
    }

    /// Returns one image by name or id; `None` if it is not on this host.
    pub async fn image(&self, name: &str) -> Result<Option<Value>> {
        found(self.get(&format!("/images/{}/json", escaped(name))).await)
            .with_context(|| format!("inspect image \"{name}\""))
    }

    /// Reads an image with all its layers as a tar.
    pub async fn save_image(&self, name: &str) -> Result<TarBody> {
        let path = format!("{}/images/{}/get", self.prefix, escaped(name));
        let answer = http::send(&self.address, "GET", &path, Body::Empty, IMAGE).await;
        answer
            .map(TarBody::new)
            .with_context(|| format!("read image \"{name}\""))
    }

    /// Loads an image from the tar that [`Engine::save_image`] gave.
    pub fn load_image(&self) -> UnpackTar {
        self.upload("POST", "/images/load?quiet=1")
    }

    /// Makes an image with no files, for containers that are never started.
    pub async fn import_empty_image(&self, name: &str) -> Result<()> {
        let upload = self.upload("POST", &format!("/images/create?fromSrc=-&repo={}", segment(name)));
        // A tar without members. If it cannot be written, the engine's answer says why.
        let tar = Builder::new_non_terminated(upload.writer());
        if let Ok(mut writer) = tar.into_inner().await {
            let _ = writer.flush().await;
        }
        upload.finish().await.context("create an empty image")
    }

    /// Pulls an image from its registry.
    pub async fn pull_image(&self, name: &str) -> Result<()> {
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') && !name.contains('@') => (repository, tag),
            _ => (name, "latest"),
        };
        let query = if name.contains('@') {
            format!("fromImage={}", segment(name))
        } else {
            format!("fromImage={}&tag={}", segment(repository), segment(tag))
        };
        let path = format!("{}/images/create?{query}", self.prefix);
        let pulled = async {
            let answer = http::send(&self.address, "POST", &path, Body::Empty, IMAGE).await?;
            http::progress(answer).await
        };
        pulled.await.map(drop).with_context(|| format!("pull image \"{name}\""))
    }

    /// Removes an image, or one of its names.
    pub async fn remove_image(&self, name: &str) -> Result<()> {
        let path = format!("/images/{}", escaped(name));
        let done = self.call("DELETE", &path, Body::Empty, ANSWER).await;
        done.map(drop).with_context(|| format!("remove image \"{name}\""))
    }

    /// Reads a directory of a container, running or not, as a tar whose first member is the directory.
    pub async fn archive(&self, container: &str, path: &str) -> Result<TarBody> {
        let url = format!(
            "{}/containers/{}/archive?path={}",
            self.prefix,
            segment(container),
            segment(path)
        );
        let answer = http::send(&self.address, "GET", &url, Body::Empty, ANSWER).await;
        answer
            .map(TarBody::new)
            .with_context(|| format!("read \"{path}\" of container \"{container}\""))
    }

    /// Says what a path of a container is.
    pub async fn archive_stat(&self, container: &str, path: &str) -> Result<PathStat> {
        let url = format!(
            "{}/containers/{}/archive?path={}",
            self.prefix,
            segment(container),
            segment(path)
        );
        let answer = http::send(&self.address, "HEAD", &url, Body::Empty, ANSWER).await?;
        let header = answer.headers().get("x-docker-container-path-stat");
        let bytes = header
            // Docker writes the first alphabet, Podman the second.
            .and_then(|value| {
                BASE64_STANDARD
                    .decode(value)
                    .or_else(|_| BASE64_URL_SAFE.decode(value))
                    .ok()
            })
            .ok_or_else(|| Error::corrupt("the Docker engine sent no information about the path"))?;
        let stat: Value = serde_json::from_slice(&bytes).map_err(|e| {
            Error::corrupt("the Docker engine's information about the path is not valid JSON").with_cause(e)
        })?;
        // Go's own bits: the highest one marks a directory.
        let mode = stat.get("mode").and_then(Value::as_u64).unwrap_or(0);
        Ok(PathStat {
            mtime: text(&stat, "/mtime").to_owned(),
            is_dir: mode & (1 << 31) != 0,
        })
    }

    /// Unpacks a tar into a directory of a container, running or not. Whatever has a name of the tar is replaced.
    pub fn unpack(&self, container: &str, path: &str) -> UnpackTar {
        let url = format!(
            "/containers/{}/archive?path={}&noOverwriteDirNonDir=1",
            segment(container),
            segment(path)
        );
        self.upload("PUT", &url)
    }

    fn upload(&self, method: &'static str, path: &str) -> UnpackTar {
        let (pieces, receiver) = mpsc::channel(2);
        let (address, path) = (self.address.clone(), format!("{}{path}", self.prefix));
        let done = tokio::spawn(async move {
            let answer = http::send(&address, method, &path, Body::Tar(receiver), IMAGE).await?;
            http::progress(answer).await.map(drop)
        });
        UnpackTar { pieces, done }
    }
}

impl UnpackTar {
    /// Returns a writer of the tar, which must be flushed. What it holds still when it is dropped is not sent, so that a tar
    /// that was broken off does not look whole.
    pub fn writer(&self) -> impl AsyncWrite + Send + Unpin + use<> {
        let stopped = |_| Error::new(ErrorKind::Unavailable, "the engine stopped reading the tar");
        let pieces = PollSender::new(self.pieces.clone())
            .sink_map_err(move |error| std::io::Error::other(stopped(error)))
            .with(|piece: Bytes| future::ready(Ok::<_, std::io::Error>(Ok(piece))));
        BufWriter::with_capacity(PIECE_BYTES, SinkWriter::new(CopyToBytes::new(pieces)))
    }

    /// Ends the tar and waits for the engine's answer.
    pub async fn finish(self) -> Result<()> {
        let Self { pieces, done } = self;
        drop(pieces);
        done.await
            .map_err(|e| Error::new(ErrorKind::Other, "the upload ended early").with_cause(e))?
    }
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn found(answer: Result<Value>) -> Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound && error.message().contains("returned 404") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns a text of a JSON document, or an empty one.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
