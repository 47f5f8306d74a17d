//! An S3 server for tests: the s3s file system behind hyper, on a loopback port, with signatures checked.
//!
//! Buckets are the subdirectories of its root. It serves until its task ends.

use std::net::SocketAddr;
use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::dto::{CompleteMultipartUploadInput, PutObjectInput};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Request, S3Result, s3_error};
use tokio::net::TcpListener;

/// A server that is bound and not yet serving.
pub(crate) struct S3Server {
    listener: TcpListener,
    service: S3Service,
}

/// Drops the condition of a write after its signature was checked, as some stores do.
struct Access {
    ignore_if_none_match: bool,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        match context.credentials() {
            Some(_) => Ok(()),
            None => Err(s3_error!(AccessDenied, "Signature is required")),
        }
    }

    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        if self.ignore_if_none_match {
            request.input.if_none_match = None;
        }
        Ok(())
    }

    async fn complete_multipart_upload(&self, request: &mut S3Request<CompleteMultipartUploadInput>) -> S3Result<()> {
        if self.ignore_if_none_match {
            request.input.if_none_match = None;
        }
        Ok(())
    }
}

impl S3Server {
    /// Binds a server over `root`; port 0 takes a free one.
    pub(crate) async fn bind(
        root: &Path,
        address: (&str, u16),
        (access_key, secret_key): (&str, &str),
        ignore_if_none_match: bool,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let files = s3s_fs::FileSystem::new(root).map_err(|error| format!("open {}: {error:?}", root.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        builder.set_access(Access { ignore_if_none_match });
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            service: builder.build(),
        })
    }

    /// Returns the address it is bound to.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves connections until the future is dropped.
    pub(crate) async fn serve(self) {
        loop {
            let Ok((socket, _)) = self.listener.accept().await else {
                // Out of file descriptors: wait for some connection to end.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let _ = socket.set_nodelay(true);
            let service = self.service.clone();
            tokio::spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    }
}
