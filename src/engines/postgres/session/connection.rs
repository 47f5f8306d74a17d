//! One connection to a server: login, simple queries, COPY in both directions, cancel.
//!
//! All reading goes through one buffer of fixed size. A message that is collected has a bounded length; COPY data is
//! never collected ([`CopyOut`] hands it on where it lies). After an error of the transport the connection is dead
//! and every call says so; after an error of a statement it is at rest and can be used again.

use crate::engines::postgres::wire::copy_out::RowPiece;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth;
use super::auth::unexpected;
use super::hosts;
use super::transport;
use super::transport::Transport;
use super::url::{ConnectOptions, Host, SslMode};
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::raw_text::{from_bytes, to_bytes};
use crate::engines::postgres::wire::copy_out::{CopyDecoder, Event};
use crate::engines::postgres::wire::server_error::{ServerError, sqlstate};
use crate::engines::postgres::wire::text_row::{TextRow, column_names};

/// Size of the read buffer in bytes: above it the server's 8 KiB writes gain nothing (engine measurement).
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Longest message that is collected, in bytes. Our own queries return little; definitions of views can be long.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Bound on the rows of one simple query together, in bytes.
const MAX_RESULT_BYTES: usize = 32 << 20;

/// SQLSTATE of a server whose pg_hba.conf lets this login in by no line.
const NOT_LET_IN: &str = "28000";

/// What a simple query returned: the last statement's rows as text, and its command tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryResult {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows of text; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Command tag, e.g. `COPY 5`.
    pub tag: String,
}

impl QueryResult {
    /// Returns the rows with the names of their columns.
    pub(crate) fn named(&self) -> impl Iterator<Item = TextRow<'_>> {
        self.rows.iter().map(|values| TextRow::new(&self.columns, values))
    }

    /// Returns the only row of a query that always has one.
    pub(crate) fn only(&self) -> Result<TextRow<'_>> {
        self.named()
            .next()
            .ok_or_else(|| Error::corrupt("a query returned no row"))
    }

    /// Returns the first column of the first row.
    pub fn scalar(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }
}

/// What cancels a statement of a connection from outside.
#[derive(Debug, Clone)]
pub struct Canceller {
    options: ConnectOptions,
    process_id: i32,
    secret_key: i32,
}

impl Canceller {
    /// Asks the server to cancel what the connection does now. The server may ignore it.
    pub async fn cancel(&self) -> Result<()> {
        let work = async {
            let mut transport = transport::open(&self.options).await?;
            let mut request = BytesMut::new();
            frontend::cancel_request(self.process_id, self.secret_key, &mut request);
            transport.write_all(&request).await.context("send cancel request")?;
            transport.flush().await.context("send cancel request")?;
            // The server answers by closing.
            let _ = transport.read(&mut [0]).await;
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(10), work)
            .await
            .map_err(|_| timed_out("cancel a statement"))?
    }
}

/// A logged-in connection.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    read_timeout: Duration,
    parameters: BTreeMap<String, String>,
    process_id: i32,
    secret_key: i32,
    transaction: u8,
    dead: bool,
    options: ConnectOptions,
}

/// A connection without its transport, which somebody else has.
#[derive(Debug)]
pub(crate) struct Husk {
    parameters: BTreeMap<String, String>,
    process_id: i32,
    secret_key: i32,
    options: ConnectOptions,
}

impl Husk {
    /// Makes a connection of a transport whose session is within a transaction, and owes no answer.
    pub(crate) fn with(self, transport: Transport) -> Connection {
        Connection {
            transport,
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            read_timeout: self.options.read_timeout,
            parameters: self.parameters,
            process_id: self.process_id,
            secret_key: self.secret_key,
            transaction: b'T',
            dead: false,
            options: self.options,
        }
    }
}

impl Connection {
    /// Dials and logs in, on the first of several servers that is what is wanted.
    pub async fn open(options: &ConnectOptions) -> Result<Self> {
        Box::pin(hosts::open(options)).await
    }

    /// Dials one server and logs in.
    pub(crate) async fn open_one(options: &ConnectOptions) -> Result<Self> {
        let act = || format!("connect to \"{}\"", options.location());
        let work = Self::open_encrypted_or_not(options);
        let opened = tokio::time::timeout(options.connect_timeout, work).await;
        opened
            .map_err(|_| timed_out(&act()).with_hint("Check host, port and firewalls, or raise connect_timeout."))?
            .with_context(act)
    }

    /// Where the mode leaves it open, a server that lets nobody in one way is asked the other way: `hostssl` and `hostnossl`
    /// lines of pg_hba.conf.
    async fn open_encrypted_or_not(options: &ConnectOptions) -> Result<Self> {
        let other = match options.ssl_mode {
            SslMode::Allow => SslMode::Require,
            SslMode::Prefer => SslMode::Disable,
            _ => return Self::open_in_any_encoding(options).await,
        };
        match Self::open_in_any_encoding(options).await {
            Err(error) if sqlstate(&error) == Some(NOT_LET_IN) && matches!(options.host, Host::Tcp(_)) => {
                let mut options = options.clone();
                options.ssl_mode = other;
                // Without proof who it is, as the mode says.
                options.ssl_root_cert = None;
                Self::open_in_any_encoding(&options).await.map_err(|_| error)
            }
            opened => opened,
        }
    }

    async fn open_in_any_encoding(options: &ConnectOptions) -> Result<Self> {
        match Self::open_unbounded(options, "UTF8").await {
            // There are no conversions between UTF8 and MULE_INTERNAL; none at all are needed for SQL_ASCII.
            Err(error) if sqlstate(&error) == Some("0A000") => Self::open_unbounded(options, "SQL_ASCII").await,
            opened => opened,
        }
    }

    async fn open_unbounded(options: &ConnectOptions, encoding: &str) -> Result<Self> {
        let transport = transport::open(options).await?;
        let mut connection = Self {
            transport,
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            read_timeout: options.read_timeout,
            parameters: BTreeMap::new(),
            process_id: 0,
            secret_key: 0,
            transaction: b'I',
            dead: false,
            options: options.clone(),
        };
        let mut startup = BytesMut::new();
        let parameters = [
            ("user", options.user.as_str()),
            ("database", options.database.as_str()),
            ("application_name", options.application_name.as_str()),
            ("client_encoding", encoding),
        ];
        let settings = options.startup_options.as_deref().map(|value| ("options", value));
        let replication = options.is_replication.then_some(("replication", "true"));
        let parameters = parameters.into_iter().chain(settings).chain(replication);
        frontend::startup_message(parameters, &mut startup).context("write startup message")?;
        connection.write_all(&startup).await?;
        auth::log_in(&mut connection, options).await?;
        loop {
            let (tag, body) = connection.read_message().await?;
            match tag {
                b'K' => {
                    if let Some((process, rest)) = body.split_first_chunk::<4>()
                        && let Some(secret) = rest.first_chunk::<4>()
                    {
                        connection.process_id = i32::from_be_bytes(*process);
                        connection.secret_key = i32::from_be_bytes(*secret);
                    }
                }
                b'E' => return Err(ServerError::parse(&body).into_error()),
                b'Z' => break,
                b'N' => {}
                other => return Err(unexpected(other)),
            }
        }
        // An SQL_ASCII database holds bytes of any encoding: they are passed through as they are. A WAL sender is in no database,
        // and takes no SQL.
        if connection.parameter("server_encoding") == Some("SQL_ASCII") && !options.is_replication {
            connection.execute("SET client_encoding TO 'SQL_ASCII'").await?;
        }
        Ok(connection)
    }

    /// Returns a parameter the server reported (`server_version`, `server_encoding`, `in_hot_standby`).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Returns the name of the database that it was opened on.
    pub fn database(&self) -> &str {
        &self.options.database
    }

    /// Returns what cancels this connection's statement from another task.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            options: self.options.clone(),
            process_id: self.process_id,
            secret_key: self.secret_key,
        }
    }

    /// Returns the server's process number of this session.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Returns whether the session is inside a transaction (also a failed one).
    pub fn in_transaction(&self) -> bool {
        self.transaction != b'I'
    }

    /// Returns whether the transport failed; the connection is then of no further use.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Returns whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }

    pub(crate) fn is_private(&self) -> bool {
        self.transport.is_private()
    }

    pub(crate) fn channel_binding(&self) -> Option<Vec<u8>> {
        self.transport.channel_binding()
    }

    pub(crate) fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    pub(crate) fn key(&self) -> [i32; 2] {
        [self.process_id, self.secret_key]
    }

    /// Takes the connection apart for [`super::client`]: the transport, and what makes a connection of it again.
    pub(crate) fn lend(self) -> (Transport, Husk) {
        let husk = Husk {
            parameters: self.parameters,
            process_id: self.process_id,
            secret_key: self.secret_key,
            options: self.options,
        };
        (self.transport, husk)
    }

    /// Runs statements and returns the rows of the last one that has any.
    pub async fn query(&mut self, sql: &str) -> Result<QueryResult> {
        self.send_query(sql).await?;
        self.collect_result().await
    }

    /// Runs statements for their effect.
    pub async fn execute(&mut self, sql: &str) -> Result<()> {
        self.query(sql).await.map(drop)
    }

    pub(super) async fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut message = BytesMut::new();
        put_query(sql, &mut message)?;
        self.write_all(&message).await
    }

    pub(super) async fn collect_result(&mut self) -> Result<QueryResult> {
        match self.collect_until_rest().await? {
            (_, Some(failure)) => Err(failure),
            (result, None) => Ok(result),
        }
    }

    /// Reads until the connection is at rest. Returns what came, and with what error it ended.
    pub(super) async fn collect_until_rest(&mut self) -> Result<(QueryResult, Option<Error>)> {
        let mut result = QueryResult::default();
        let (mut failure, mut bytes) = (None, 0usize);
        loop {
            let (tag, body) = self.read_message().await?;
            match tag {
                b'T' => {
                    result.rows.clear();
                    result.columns = self.or_give_up(column_names(&body))?;
                }
                b'D' => {
                    bytes = bytes.saturating_add(body.len());
                    if bytes > MAX_RESULT_BYTES {
                        self.dead = true;
                        return Err(Error::new(
                            ErrorKind::LimitExceeded,
                            "a query returned more rows than expected",
                        ));
                    }
                    result.rows.push(self.or_give_up(data_row(&body))?);
                }
                b'C' => result.tag = cstr(&body),
                b'E' => failure = failure.or(Some(ServerError::parse(&body).into_error())),
                b'Z' => {
                    self.transaction = body.first().copied().unwrap_or(b'I');
                    return Ok((result, failure));
                }
                b'I' | b'N' | b'A' => {}
                other => {
                    self.dead = true;
                    return Err(unexpected(other));
                }
            }
        }
    }

    /// Begins `COPY … TO STDOUT`.
    pub async fn copy_out(&mut self, sql: &str) -> Result<CopyOut<'_>> {
        self.begin_copy(sql, b'H').await?;
        Ok(CopyOut::new(self, CopyEnd::Statement))
    }

    /// Begins `COPY … FROM STDIN`; then [`Self::copy_data`], and [`Self::copy_end`] or [`Self::copy_fail`].
    pub async fn copy_in(&mut self, sql: &str) -> Result<()> {
        self.begin_copy(sql, b'G').await
    }

    async fn begin_copy(&mut self, sql: &str, wanted: u8) -> Result<()> {
        self.send_query(sql).await?;
        loop {
            let (tag, body) = self.read_message().await?;
            match tag {
                tag if tag == wanted => return Ok(()),
                b'E' => return Err(self.refused(&body).await?),
                // What stood before the COPY in the same message was done.
                b'N' | b'A' | b'C' => {}
                other => {
                    self.dead = true;
                    return Err(unexpected(other));
                }
            }
        }
    }

    /// Returns the error of a statement that was refused in place of a copy, with the connection at rest again.
    pub(super) async fn refused(&mut self, body: &[u8]) -> Result<Error> {
        let error = ServerError::parse(body).into_error();
        // The error that comes first is the one that counts.
        if !self.dead {
            self.collect_result().await?;
        }
        Ok(error)
    }

    /// Gives up a connection whose peer said what it may not say here.
    pub(super) fn give_up(&mut self, tag: u8) -> Error {
        self.dead = true;
        unexpected(tag)
    }

    /// Returns what was read of a message. Where that is an error the connection is given up: the rest of the answer is not read,
    /// and the next statement would take it for its own.
    pub(super) fn or_give_up<T>(&mut self, read: Result<T>) -> Result<T> {
        read.inspect_err(|_| self.dead = true)
    }

    /// Sends one CopyData message. The bytes need not end with a row.
    pub async fn copy_data(&mut self, data: &[u8]) -> Result<()> {
        let length = u32::try_from(data.len() + 4).map_err(|_| Error::invalid("a COPY message is too long"))?;
        let mut header = [b'd', 0, 0, 0, 0];
        if let Some(place) = header.last_chunk_mut::<4>() {
            *place = length.to_be_bytes();
        }
        self.write_unflushed(&header).await?;
        self.write_all(data).await
    }

    /// Ends COPY IN; returns the rows the server counted.
    pub async fn copy_end(&mut self) -> Result<u64> {
        let mut message = BytesMut::new();
        frontend::copy_done(&mut message);
        self.write_all(&message).await?;
        let result = self.collect_result().await?;
        result
            .tag
            .strip_prefix("COPY ")
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| unexpected(b'C'))
    }

    /// Ends a copy that goes both ways from this side, and returns the rows that follow.
    pub(super) async fn end_copy_both(&mut self) -> Result<QueryResult> {
        let mut message = BytesMut::new();
        frontend::copy_done(&mut message);
        self.write_all(&message).await?;
        self.collect_result().await
    }

    /// Gives COPY IN up: the server rolls it back.
    pub async fn copy_fail(&mut self, why: &str) -> Result<()> {
        let mut message = BytesMut::new();
        frontend::copy_fail(&why.replace('\0', " "), &mut message).context("write CopyFail")?;
        self.write_all(&message).await?;
        match self.collect_result().await {
            Err(error) if self.dead => Err(error),
            _ => Ok(()),
        }
    }

    /// Says good-bye and closes.
    pub async fn close(mut self) {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        if self.write_all(&message).await.is_ok() {
            let _ = self.transport.shutdown().await;
        }
    }

    /// Reads one whole message; ParameterStatus is noted on the way.
    pub(crate) async fn read_message(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            let mut header = [0; 5];
            self.read_exact(&mut header).await?;
            let [tag, a, b, c, d] = header;
            let length = exact::usize_from(u32::from_be_bytes([a, b, c, d]).into());
            let body_len = length.checked_sub(4).filter(|&n| n <= MAX_MESSAGE_BYTES);
            let Some(body_len) = body_len else {
                self.dead = true;
                return Err(
                    Error::corrupt(format!("message '{}' announces {length} bytes", tag.escape_ascii()))
                        .with_hint("The connection is damaged, or the peer is not PostgreSQL."),
                );
            };
            // Grown as bytes really arrive, not as announced.
            let mut body = Vec::with_capacity(body_len.min(READ_BUFFER_BYTES));
            while body.len() < body_len {
                if self.start == self.end {
                    self.fill().await?;
                }
                let piece = exact::first(self.unread(), body_len - body.len());
                body.extend_from_slice(piece);
                self.start += piece.len();
            }
            if tag != b'S' {
                return Ok((tag, body));
            }
            self.note_parameter(&body);
        }
    }

    fn note_parameter(&mut self, body: &[u8]) {
        let mut parts = body.split(|&b| b == 0);
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            self.parameters.insert(text(name), text(value));
        }
    }

    /// Returns what was read and not taken yet.
    fn unread(&self) -> &[u8] {
        let why = "a read ends within the buffer, and no more is taken than was read";
        exact::part(&self.buffer, self.start..self.end, why)
    }

    async fn read_exact(&mut self, out: &mut [u8]) -> Result<()> {
        let mut have = 0;
        while have < out.len() {
            if self.start == self.end {
                self.fill().await?;
            }
            let source = self.unread();
            let target = exact::part_mut(out, have.., "the loop ends there");
            let count = source.len().min(target.len());
            for (to, from) in target.iter_mut().zip(source) {
                *to = *from;
            }
            self.start += count;
            have += count;
        }
        Ok(())
    }

    /// Fills the empty buffer with whatever is there, at least one byte.
    async fn fill(&mut self) -> Result<()> {
        self.alive()?;
        self.start = 0;
        self.end = 0;
        let read = tokio::time::timeout(self.read_timeout, self.transport.read(&mut self.buffer)).await;
        let error = match read {
            Ok(Ok(0)) => Error::new(ErrorKind::Unavailable, "the server closed the connection")
                .with_hint("See the server's log: a shutdown, a crash, or a terminated session."),
            Ok(Ok(count)) => {
                self.end = count;
                return Ok(());
            }
            Ok(Err(error)) => Error::new(ErrorKind::Unavailable, "lost the connection to the server").with_cause(error),
            Err(_) => Error::new(
                ErrorKind::TimedOut,
                format!("no data from the server for {} s", self.read_timeout.as_secs()),
            )
            .with_hint("Raise read_timeout in the URL if queries may take that long."),
        };
        self.dead = true;
        Err(error)
    }

    fn alive(&self) -> Result<()> {
        if self.dead {
            Err(Error::new(ErrorKind::Unavailable, "the connection was lost before"))
        } else {
            Ok(())
        }
    }

    async fn write_unflushed(&mut self, bytes: &[u8]) -> Result<()> {
        self.alive()?;
        let write = tokio::time::timeout(self.read_timeout, self.transport.write_all(bytes)).await;
        let error = match write {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Error::new(ErrorKind::Unavailable, "lost the connection to the server").with_cause(error),
            Err(_) => Error::new(
                ErrorKind::TimedOut,
                format!("the server accepted no data for {} s", self.read_timeout.as_secs()),
            ),
        };
        self.dead = true;
        Err(error)
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_unflushed(bytes).await?;
        if let Err(error) = self.transport.flush().await {
            self.dead = true;
            return Err(Error::new(ErrorKind::Unavailable, "lost the connection to the server").with_cause(error));
        }
        Ok(())
    }
}

/// With what a copy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyEnd {
    /// The statement itself: it is complete, and the connection at rest.
    Statement,
    /// The last byte: the statement says more.
    Data,
}

/// Notices that are kept of a copy, at most.
const MAX_NOTICES: usize = 100;

/// A running COPY OUT. Dropped before its end, it leaves the connection dead: the rest of the rows is still coming.
#[derive(Debug)]
pub struct CopyOut<'a> {
    connection: &'a mut Connection,
    decoder: CopyDecoder,
    end: CopyEnd,
    /// Where the last piece lies in the connection's buffer.
    piece: Range<usize>,
    tag: Option<String>,
    failure: Option<Error>,
    notices: Vec<ServerError>,
    done: bool,
}

impl<'a> CopyOut<'a> {
    pub(super) fn new(connection: &'a mut Connection, end: CopyEnd) -> Self {
        Self {
            connection,
            decoder: CopyDecoder::new(),
            end,
            piece: 0..0,
            tag: None,
            failure: None,
            notices: Vec::new(),
            done: false,
        }
    }

    /// Returns the next piece, or `None` when the server has said that the copy is complete.
    pub async fn next(&mut self) -> Result<Option<RowPiece<'_>>> {
        let (starts, ends) = loop {
            if self.done {
                return Ok(None);
            }
            self.ready().await?;
            if let Some(piece) = self.step()? {
                break piece;
            }
        };
        let bytes = self.last();
        Ok(Some(RowPiece { bytes, starts, ends }))
    }

    /// Waits until there is something to take. Nothing is lost where this is given up.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        if self.done || self.connection.start < self.connection.end {
            return Ok(());
        }
        // What the server said last is why it went away.
        let filled = self.connection.fill().await;
        filled.map_err(|lost| self.failure.take().unwrap_or(lost))
    }

    /// Returns the next piece of what was read by now; `None` if that is all.
    pub(crate) fn take(&mut self) -> Result<Option<RowPiece<'_>>> {
        let piece = self.step()?;
        let bytes = self.last();
        Ok(piece.map(|(starts, ends)| RowPiece { bytes, starts, ends }))
    }

    /// Returns the bytes of the last piece.
    pub(crate) fn last(&self) -> &[u8] {
        exact::part(
            &self.connection.buffer,
            self.piece.clone(),
            "a row lies within what was read",
        )
    }

    /// Returns whether the server has said that the copy is complete.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Goes to the next piece of what was read by now; returns the length of the row that begins with it, and whether one ends.
    fn step(&mut self) -> Result<Option<(Option<usize>, bool)>> {
        while !self.done && self.connection.start < self.connection.end {
            let from = self.connection.start;
            let input = self.connection.unread();
            let (used, event) = self.decoder.step(input).inspect_err(|_| self.connection.dead = true)?;
            self.connection.start += used;
            match event {
                Some(Event::Row { range, starts, ends }) => {
                    self.piece = from + range.start..from + range.end;
                    return Ok(Some((starts, ends)));
                }
                Some(Event::Message { tag, body }) => self.message(tag, &body)?,
                None => {}
            }
        }
        Ok(None)
    }

    /// Sends a message the other way, where the copy goes both ways.
    pub(crate) async fn send(&mut self, data: &[u8]) -> Result<()> {
        self.connection.copy_data(data).await
    }

    fn message(&mut self, tag: u8, body: &[u8]) -> Result<()> {
        match tag {
            b'S' => self.connection.note_parameter(body),
            b'C' => self.tag = Some(cstr(body)),
            b'c' if self.end == CopyEnd::Data => self.done = true,
            b'N' if self.notices.len() < MAX_NOTICES => self.notices.push(ServerError::parse(body)),
            b'E' if self.failure.is_none() => self.failure = Some(ServerError::parse(body).into_error()),
            b'Z' => {
                self.connection.transaction = body.first().copied().unwrap_or(b'I');
                self.done = true;
                if let Some(error) = self.failure.take() {
                    return Err(error);
                }
                if self.tag.is_none() {
                    return Err(unexpected(b'Z'));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the notices that came so far: the first hundred.
    pub(crate) fn take_notices(&mut self) -> Vec<ServerError> {
        std::mem::take(&mut self.notices)
    }

    /// Returns the rows the server counted, once [`CopyOut::next`] has returned `None`.
    pub fn server_rows(&self) -> Option<u64> {
        self.tag.as_deref()?.strip_prefix("COPY ")?.parse().ok()
    }
}

impl Drop for CopyOut<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.dead = true;
        }
    }
}

pub(crate) fn timed_out(act: &str) -> Error {
    Error::new(ErrorKind::TimedOut, format!("{act}: no answer in time"))
}

/// Writes a Query message: bytes that are no UTF-8 go as they came.
fn put_query(sql: &str, message: &mut BytesMut) -> Result<()> {
    let sql = to_bytes(sql);
    if sql.contains(&0) {
        return Err(Error::invalid("a statement holds a NUL character"));
    }
    let length = i32::try_from(sql.len().saturating_add(5));
    let length = length.map_err(|e| Error::invalid("a statement is too long").with_cause(e))?;
    message.put_u8(b'Q');
    message.put_i32(length);
    message.put_slice(&sql);
    message.put_u8(0);
    Ok(())
}

fn cstr(body: &[u8]) -> String {
    String::from_utf8_lossy(body.split(|&b| b == 0).next().unwrap_or_default()).into_owned()
}

pub(super) fn data_row(body: &[u8]) -> Result<Vec<Option<String>>> {
    let broken = || Error::corrupt("a row from the server has wrong lengths");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(broken)?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        rest = tail;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            continue;
        };
        let (value, tail) = rest.split_at_checked(length).ok_or_else(broken)?;
        row.push(Some(from_bytes(value).into_owned()));
        rest = tail;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engines::postgres::session::replication::Replication;

    /// A server that lets anybody in and gives every statement the same answer.
    async fn answers(listener: tokio::net::TcpListener, answer: &'static [u8]) -> std::io::Result<()> {
        let (mut client, _) = listener.accept().await?;
        let mut bytes = [0; 1024];
        // The startup message, then one statement after another.
        if client.read(&mut bytes).await? > 0 {
            client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
        }
        while client.read(&mut bytes).await? > 0 {
            client.write_all(answer).await?;
        }
        Ok(())
    }

    /// Returns how to reach such a server.
    async fn server(answer: &'static [u8]) -> ConnectOptions {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@{}/x?sslmode=disable", listener.local_addr().unwrap());
        tokio::spawn(answers(listener, answer));
        ConnectOptions::from_url_with(&url, None, &|_| None).unwrap()
    }

    /// The rest of an answer whose beginning is malformed.
    const REST: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

    /// A description of one column that ends in its name.
    const CUT_DESCRIPTION: &[u8] = b"T\0\0\0\x08\0\x01ab";

    /// A row whose only value is said to be longer than the row.
    const CUT_ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x097";

    #[tokio::test]
    async fn a_malformed_answer_leaves_the_connection_dead_and_nothing_of_it_is_another_ones() {
        for malformed in [CUT_DESCRIPTION, CUT_ROW] {
            let answer = [malformed, REST].concat().leak();
            let mut connection = Connection::open(&server(answer).await).await.unwrap();
            let error = connection.query("SELECT 1").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(connection.is_dead());
            let error = connection.execute("DROP TABLE t").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    }

    #[tokio::test]
    async fn a_malformed_row_in_front_of_a_base_backup_leaves_the_connection_dead() {
        let answer = [CUT_ROW, REST].concat().leak();
        let mut replication = Replication::open(&server(answer).await).await.unwrap();
        let error = replication.base_backup("MANIFEST 'yes'").await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let error = replication.identify().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}
