//! Both ends of a connection, for threads that block in the socket itself rather than for tasks of the runtime.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::transport::Transport;
use crate::base::error::{Context as _, Result};

/// How long a thread that reads lets bytes gather: a server that wakes somebody for each of its small writes spends a
/// tenth of its time on that.
const NAP: Duration = Duration::from_millis(1);

/// Both ends of a connection.
pub(crate) struct BlockingStream {
    pub(crate) read: Box<dyn Read + Send>,
    pub(crate) write: Box<dyn Write + Send>,
    pub(crate) breaker: Breaker,
    /// How long a thread that reads may nap: TLS hands over one record at a time, so there it would only be slow.
    pub(crate) nap: Duration,
}

/// Ends a connection, so that whoever blocks in it goes on.
#[derive(Debug)]
pub(crate) struct Breaker {
    cancel: CancellationToken,
    socket: Option<socket2::Socket>,
}

impl Breaker {
    pub(crate) fn end(&self) {
        self.cancel.cancel();
        if let Some(socket) = &self.socket {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// How long a read and a write may wait; then they fail as ones that would block.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waits {
    pub(crate) read: Option<Duration>,
    pub(crate) write: Option<Duration>,
}

/// Returns whether a read or a write waited as long as it may.
pub(crate) fn has_waited(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl BlockingStream {
    /// Takes a connection from the runtime. Must be called within it.
    pub(crate) fn of(transport: Transport, waits: Waits) -> Result<Self> {
        let cancel = CancellationToken::new();
        let ends = |socket: socket2::Socket| -> io::Result<Self> {
            socket.set_nonblocking(false)?;
            socket.set_read_timeout(waits.read)?;
            socket.set_write_timeout(waits.write)?;
            Ok(Self {
                read: Box::new(socket.try_clone()?),
                write: Box::new(socket.try_clone()?),
                breaker: Breaker {
                    cancel: cancel.clone(),
                    socket: Some(socket),
                },
                nap: NAP,
            })
        };
        match transport {
            Transport::Tcp(stream) => stream.into_std().and_then(|stream| ends(stream.into())),
            Transport::Unix(stream) => stream.into_std().and_then(|stream| ends(stream.into())),
            tls @ Transport::Tls(_) => {
                let (read, write) = tokio::io::split(tls);
                Ok(Self {
                    read: Box::new(Driven(read, Handle::current(), cancel.clone(), waits.read)),
                    write: Box::new(Driven(write, Handle::current(), cancel.clone(), waits.write)),
                    breaker: Breaker { cancel, socket: None },
                    nap: Duration::ZERO,
                })
            }
        }
        .context("take the connection from the runtime")
    }
}

/// One end of a connection with TLS, for a thread that blocks.
struct Driven<T>(T, Handle, CancellationToken, Option<Duration>);

/// Waits for no longer than that. Cancelling such a future loses no bytes.
async fn within<T>(wait: Option<Duration>, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match wait {
        None => work.await,
        Some(wait) => tokio::time::timeout(wait, work)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    }
}

fn ended() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl Read for Driven<ReadHalf<Transport>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self(half, handle, cancel, wait) = self;
        let read = handle.block_on(cancel.run_until_cancelled(within(*wait, half.read(buffer))));
        read.unwrap_or_else(|| Err(ended()))
    }
}

impl Write for Driven<WriteHalf<Transport>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self(half, handle, cancel, wait) = self;
        let written = handle.block_on(cancel.run_until_cancelled(within(*wait, half.write(bytes))));
        written.unwrap_or_else(|| Err(ended()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self(half, handle, cancel, wait) = self;
        let flushed = handle.block_on(cancel.run_until_cancelled(within(*wait, half.flush())));
        flushed.unwrap_or_else(|| Err(ended()))
    }
}
