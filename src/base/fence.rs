//! A fence around a stream: bounds what a library may read of it, and remembers why reading ended.
//!
//! Parsers of other people read until they have a whole value, however long its sender says it is. Behind a fence they get
//! as many bytes as one message may have, and then an error; so a hostile peer makes them hold no more than that. They also
//! turn every error into one of their own: what the stream itself said is kept here.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::error::{Error, ErrorKind};
use crate::base::exact;

/// What the owner of a fenced stream keeps of it, after a library took the stream.
#[derive(Debug)]
pub struct Fence {
    /// What is too long when nothing is left.
    what: &'static str,
    left: AtomicU64,
    ended: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Fence {
    /// Makes a fence through which nothing comes yet; `what` says what is too long if its bound is reached.
    pub fn new(what: &'static str) -> Arc<Self> {
        Arc::new(Self {
            what,
            left: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    /// Lets so many bytes through from now on, and what one read brings beyond them.
    pub fn allow(&self, bytes: u64) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// Returns how many bytes may still come through.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Returns whether the stream came to its end.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Returns why nothing more came: the bound, or an error of the stream. `None` where the stream itself is well.
    pub fn failure(&self) -> Option<Error> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map(Error::duplicate)
    }

    fn fail(&self, error: Error) -> io::Error {
        let told = io::Error::other(error.duplicate());
        // The first one is the cause of those after it.
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        told
    }
}

/// A stream behind a [`Fence`].
#[derive(Debug)]
pub struct Fenced<S> {
    stream: S,
    fence: Arc<Fence>,
    /// Turns an error of the stream into ours.
    explain: fn(io::Error) -> Error,
}

impl<S> Fenced<S> {
    /// Puts a stream behind a fence.
    pub fn new(stream: S, fence: Arc<Fence>, explain: fn(io::Error) -> Error) -> Self {
        Self { stream, fence, explain }
    }

    fn explained(&self, error: io::Error) -> io::Error {
        self.fence.fail((self.explain)(error))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fenced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.fence.left() == 0 {
            let error = Error::new(ErrorKind::LimitExceeded, self.fence.what);
            return Poll::Ready(Err(self.fence.fail(error)));
        }
        let (before, asked) = (into.filled().len(), into.remaining() > 0);
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, into)) {
            return Poll::Ready(Err(self.explained(error)));
        }
        let read = exact::u64_from(into.filled().len() - before);
        if read == 0 && asked {
            self.fence.ended.store(true, Ordering::Relaxed);
        }
        let take = |left: u64| Some(left.saturating_sub(read));
        let _ = self.fence.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fenced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.explained(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.explained(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn no_more_comes_through_than_was_allowed() {
        let fence = Fence::new("the reply is too long");
        let mut fenced = Fenced::new(&[7_u8; 1000][..], Arc::clone(&fence), Error::from);
        assert_eq!(
            fenced.read(&mut [0; 10]).await.unwrap_err().kind(),
            io::ErrorKind::Other
        );
        fence.allow(15);
        let mut sizes = Vec::new();
        let error = loop {
            match fenced.read(&mut [0; 10]).await {
                Ok(read) => sizes.push(read),
                Err(error) => break Error::from(error),
            }
        };
        // The read that reaches the bound is the last.
        assert_eq!((sizes, fence.left(), fence.has_ended()), (vec![10, 10], 0, false));
        for error in [error, fence.failure().unwrap()] {
            assert_eq!(error.kind(), ErrorKind::LimitExceeded);
            assert_eq!(error.chain(), "the reply is too long");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_remembered_and_is_no_failure() {
        let fence = Fence::new("it is too long");
        let mut fenced = Fenced::new(&b"abc"[..], Arc::clone(&fence), Error::from);
        fence.allow(u64::MAX);
        assert_eq!(fenced.read(&mut []).await.unwrap(), 0);
        assert!(!fence.has_ended());
        assert_eq!(fenced.read_to_end(&mut Vec::new()).await.unwrap(), 3);
        assert!(fence.has_ended() && fence.failure().is_none());
    }
}
