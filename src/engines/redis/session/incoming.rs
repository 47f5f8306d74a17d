//! Reads what a server sends on its own, on a thread that blocks in the socket.
//!
//! A server writes an RDB in pieces of 16 KiB. Were each of them to wake us, it and we would spend more time on waking than
//! on bytes, so the thread naps while little comes; where much comes at once it does not. Memory: three buffers.

use std::time::Duration;

use tokio::sync::mpsc;

use super::blocking_stream::{BlockingStream, Breaker, Waits};
use super::connection::silent;
use super::transport::Transport;
use crate::base::error::{Context, Result};
use crate::base::exact;

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// A thread that got so many bytes at once reads on without a nap.
const MUCH_BYTES: usize = 48 << 10;

/// Bytes that came at once: a buffer, and how much of it they are.
#[derive(Debug, Default)]
pub(crate) struct Piece(Vec<u8>, usize);

impl std::ops::Deref for Piece {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        exact::filled(&self.0, self.1)
    }
}

/// Bytes on their way from a server.
#[derive(Debug)]
pub(crate) struct Incoming {
    pieces: mpsc::Receiver<std::io::Result<Piece>>,
    empty: mpsc::UnboundedSender<Vec<u8>>,
    /// What came before the thread began.
    first: Option<Piece>,
    read_timeout: Duration,
    breaker: Breaker,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.breaker.end();
    }
}

impl Incoming {
    /// Takes a connection over, after bytes that were read already.
    pub(crate) fn start(transport: Transport, first: Vec<u8>, read_timeout: Duration) -> Result<Self> {
        let BlockingStream {
            mut read, breaker, nap, ..
        } = BlockingStream::of(transport, Waits::default())?;
        let count = first.len();
        let first = Piece(first, count);
        let (out, pieces) = mpsc::channel(1);
        let (empty, mut to_fill) = mpsc::unbounded_channel::<Vec<u8>>();
        tokio::task::spawn_blocking(move || {
            let mut last = 0;
            loop {
                let mut buffer = to_fill.try_recv().unwrap_or_default();
                buffer.resize(READ_BYTES, 0);
                if last < MUCH_BYTES && !nap.is_zero() {
                    std::thread::sleep(nap);
                }
                let piece = read.read(&mut buffer).map(|count| {
                    last = count;
                    Piece(buffer, count)
                });
                let over = piece.as_ref().map_or(true, |piece| piece.is_empty());
                if out.blocking_send(piece).is_err() || over {
                    return;
                }
            }
        });
        Ok(Self {
            pieces,
            empty,
            first: Some(first).filter(|first| !first.is_empty()),
            read_timeout,
            breaker,
        })
    }

    /// Waits for the next bytes; there are none at the end of the connection. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Piece> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match tokio::time::timeout(self.read_timeout, self.pieces.recv()).await {
            Err(_) => Err(silent(self.read_timeout)),
            Ok(piece) => piece
                .unwrap_or_else(|| Ok(Piece::default()))
                .context("read from the server"),
        }
    }

    /// Gives the memory of a piece back.
    pub(crate) fn done(&self, piece: Piece) {
        let _ = self.empty.send(piece.0);
    }
}
