//! The link to a server that follows us: the RDB, the commands, and how far it says that it is.
//!
//! Nothing but the connection itself holds back what the server does not take yet: while it loads an RDB from its disk it reads nothing,
//! and what we read of the store waits.

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::handshake::next;
use super::sending::{Out, Sender, TICK};
use super::state::{STALL, State, left, stalled};
use crate::archive::DataSlice;
use crate::base::cancel::or_cancelled;
use crate::base::error::{Context, Result};
use crate::base::exact;
use crate::engines::redis::log::position::offset_of;
use crate::engines::redis::log::replay::{CommandSink, Replayed};
use crate::engines::redis::wire::resp;

/// Commands are sent when they are so many bytes.
const SEND_BYTES: usize = 64 << 10;

/// Where the history begins that the server gets. Nobody else has it.
const FIRST: u64 = 0;

/// The link to a server that asked for all of the data.
#[derive(Debug)]
pub(crate) struct Link {
    out: mpsc::Sender<Out>,
    acknowledged: watch::Receiver<Option<u64>>,
    state: Arc<State>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Link {
    /// Answers that everything comes.
    pub(crate) async fn start(mut stream: TcpStream) -> Result<Self> {
        let id = hex::encode(rand::random::<[u8; 20]>());
        let answer = format!("+FULLRESYNC {id} {FIRST}\r\n");
        stream.write_all(answer.as_bytes()).await.context("answer PSYNC")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let (read, write) = stream.into_split();
        let state = Arc::new(State::new());
        let (out, pieces) = mpsc::channel(1);
        let (said, acknowledged) = watch::channel(None);
        let sender = Sender::new(write, state.clone());
        let sending = spawn(&state, sender.run(pieces));
        let hearing = spawn(&state, hear(read, said, state.clone()));
        Ok(Self {
            out,
            acknowledged,
            state,
            _tasks: [sending, hearing],
        })
    }

    async fn send(&self, out: Out) -> Result<()> {
        tokio::select! {
            biased;
            () = self.state.broken.cancelled() => Err(self.state.failure()),
            sent = self.out.send(out) => sent.map_err(|_| self.state.failure()),
        }
    }

    /// Announces an RDB of so many bytes.
    pub(crate) async fn announce(&self, rdb_bytes: u64) -> Result<()> {
        self.send(Out::Header(format!("${rdb_bytes}\r\n").into_bytes())).await
    }

    /// Sends the next bytes of the RDB.
    pub(crate) async fn rdb(&self, bytes: DataSlice) -> Result<()> {
        self.send(Out::Rdb(bytes)).await
    }

    /// Begins with the commands: the RDB is whole.
    pub(crate) async fn commands<'a>(&'a self, cancel: &'a CancellationToken) -> Result<LinkSink<'a>> {
        self.send(Out::RdbEnd).await?;
        Ok(LinkSink {
            link: self,
            cancel,
            waiting: Vec::new(),
            is_whole: true,
            sent_bytes: 0,
        })
    }

    /// Waits until the server says that it has come to an offset.
    async fn reached(&self, offset: u64) -> Result<()> {
        let mut acknowledged = self.acknowledged.clone();
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let now = *acknowledged.borrow_and_update();
            if now.is_some_and(|now| now >= offset) {
                return Ok(());
            }
            if now != last {
                (last, since) = (now, Instant::now());
            }
            match last {
                // It loads, and says so by newlines.
                None => self.state.is_moving()?,
                Some(now) if since.elapsed() > STALL => {
                    return Err(stalled(&format!("has come to offset {now} of {offset} and no further")));
                }
                Some(_) => {}
            }
            tokio::select! {
                biased;
                () = self.state.broken.cancelled() => return Err(self.state.failure()),
                _ = timeout(TICK, acknowledged.changed()) => {}
            }
        }
    }
}

fn spawn(state: &Arc<State>, work: impl Future<Output = Result<()>> + Send + 'static) -> AbortOnDropHandle<()> {
    let state = state.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = work.await {
            state.fail(error);
        }
    }))
}

/// The direction from the server: newlines while it loads, then how far it is.
async fn hear(mut read: OwnedReadHalf, said: watch::Sender<Option<u64>>, state: Arc<State>) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        while let Some(command) = next(&mut buffer).context("read what the server says on the replication link")? {
            if let Some(offset) = acknowledged(&command) {
                said.send_replace(Some(offset?));
            }
        }
        match read.read_buf(&mut buffer).await {
            Ok(0) => return Err(left()),
            Ok(_) => state.move_on(),
            Err(error) => return Err(left().with_cause(error)),
        }
    }
}

/// Returns the offset of `REPLCONF ACK`; nothing for other commands.
fn acknowledged(command: &[Vec<u8>]) -> Option<Result<u64>> {
    match command {
        [name, what, offset, ..] if name.eq_ignore_ascii_case(b"REPLCONF") && what.eq_ignore_ascii_case(b"ACK") => {
            Some(offset_of(&String::from_utf8_lossy(offset)))
        }
        _ => None,
    }
}

/// Where commands go to the server. To be fed where a thread may block.
#[derive(Debug)]
pub(crate) struct LinkSink<'a> {
    link: &'a Link,
    cancel: &'a CancellationToken,
    waiting: Vec<u8>,
    /// Whether a command, and a transaction, ends with what waits.
    is_whole: bool,
    sent_bytes: u64,
}

impl CommandSink for LinkSink<'_> {
    fn put(&mut self, bytes: &[u8], is_whole: bool) -> Result<()> {
        self.waiting.extend_from_slice(bytes);
        self.is_whole = is_whole;
        if self.waiting.len() < SEND_BYTES {
            return Ok(());
        }
        let out = self.take();
        Handle::current().block_on(or_cancelled(self.cancel, self.link.send(out)))
    }
}

impl LinkSink<'_> {
    fn take(&mut self) -> Out {
        let bytes = std::mem::take(&mut self.waiting);
        self.sent_bytes = self.sent_bytes.saturating_add(exact::u64_from(bytes.len()));
        Out::Commands(bytes, self.is_whole)
    }

    /// Sends the rest, as far as it counts, and waits until the server has applied all of it. What went of a transaction without its
    /// end, or of a command, the server drops when it stops to follow.
    pub(crate) async fn finish(mut self, whole: &Replayed) -> Result<()> {
        let rest = whole.bytes.checked_sub(self.sent_bytes);
        if let Some(rest) = rest {
            self.waiting.truncate(exact::usize_from(rest));
            // It is asked how far it is; otherwise it says so each second.
            resp::encode(&[b"REPLCONF", b"GETACK", b"*"], &mut self.waiting);
            self.is_whole = true;
            let out = self.take();
            self.link.send(out).await?;
        }
        let (answer, ping_bytes) = oneshot::channel();
        self.link.send(Out::End(answer)).await?;
        let broken = &self.link.state.broken;
        let ping_bytes = tokio::select! {
            biased;
            () = broken.cancelled() => return Err(self.link.state.failure()),
            bytes = ping_bytes => bytes.map_err(|_| self.link.state.failure())?,
        };
        let end = FIRST.saturating_add(whole.bytes).saturating_add(ping_bytes);
        self.link.reached(end).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;
    use crate::base::error::ErrorKind;
    use crate::engines::redis::log::replay::Replay;

    /// A link, and the other end of it.
    async fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap());
        let (theirs, ours) = tokio::join!(theirs, listener.accept());
        (Link::start(ours.unwrap().0).await.unwrap(), theirs.unwrap())
    }

    fn encoded(commands: &[&[&[u8]]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for command in commands {
            resp::encode(command, &mut bytes);
        }
        bytes
    }

    async fn line(stream: &mut TcpStream) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(line).unwrap()
    }

    /// A transaction whose end never comes is no part of what is waited for, whether some of it went out or not.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_is_that_of_the_last_whole_command() {
        for held in [10, 300_000] {
            let (link, mut server) = pair().await;
            assert!(line(&mut server).await.starts_with("+FULLRESYNC "));
            let value = vec![b'x'; held];
            let stream = encoded(&[&[b"SET", b"a", b"1"], &[b"PING"], &[b"MULTI"], &[b"SET", b"b", &value]]);
            let cancel = CancellationToken::new();
            let sending = async {
                link.announce(0).await.unwrap();
                let mut replay = Replay::begin(link.commands(&cancel).await.unwrap(), 100, u64::MAX, 3).unwrap();
                tokio::task::block_in_place(|| replay.feed(&stream)).unwrap();
                let (sink, whole) = replay.end();
                sink.finish(&whole).await.map(|()| whole)
            };
            let serving = async {
                assert_eq!(line(&mut server).await, "$0\r\n");
                let expected = encoded(&[&[b"SELECT", b"3"], &[b"SET", b"a", b"1"]]);
                let mut got = vec![0; expected.len()];
                server.read_exact(&mut got).await.unwrap();
                assert_eq!(got, expected);
                let ack = encoded(&[&[b"REPLCONF", b"ACK", expected.len().to_string().as_bytes()]]);
                let mut rest = vec![0; 1 << 20];
                // It takes what else comes until the other side is content.
                server.write_all(&[b"\n", ack.as_slice()].concat()).await.unwrap();
                let count = server.read(&mut rest).await.unwrap();
                (expected.len(), rest.get(..count).unwrap().to_vec())
            };
            let (whole, (length, rest)) = tokio::join!(sending, serving);
            let whole = whole.unwrap();
            assert_eq!((whole.commands, whole.bytes), (1, exact::u64_from(length)));
            let asks = encoded(&[&[b"REPLCONF", b"GETACK", b"*"]]);
            assert_eq!(rest.starts_with(&asks), held == 10, "{}", rest.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_server_that_leaves_ends_whatever_waits() {
        let (link, mut server) = pair().await;
        line(&mut server).await;
        drop(server);
        let error = link.reached(1).await.unwrap_err();
        assert!(error.chain().contains("closed the replication link"), "{error:?}");
        assert_eq!(link.announce(1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn something_is_sent_while_the_store_stalls() {
        let (link, mut server) = pair().await;
        line(&mut server).await;
        assert_eq!(server.read_u8().await.unwrap(), b'\n');
        let cancel = CancellationToken::new();
        let sink = link.commands(&cancel).await.unwrap();
        let ping = encoded(&[&[b"PING"]]);
        let mut got = vec![0; ping.len()];
        loop {
            got[0] = server.read_u8().await.unwrap();
            if got[0] != b'\n' {
                break;
            }
        }
        server.read_exact(&mut got[1..]).await.unwrap();
        assert_eq!(got, ping);
        drop(sink);
        // A command that has begun goes on byte by byte.
        link.send(Out::Commands(b"*1".to_vec(), false)).await.unwrap();
        // Another PING may have gone before.
        let mut came = Vec::new();
        while came.len() % ping.len() != 2 || !came.ends_with(b"*1") {
            came.push(server.read_u8().await.unwrap());
        }
        assert_eq!(
            server.try_read(&mut [0; 9]).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
    }
}
