//! What a WAL sender says of its server.

use crate::base::error::{Context, Error, Result};
use crate::base::raw_text::printable;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::replication::{Identity, Replication, setting_bytes};
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::wal::SegmentSize;

const CLUSTER_SIZE: &str = include_str!("sql/cluster_size.sql");

/// The first version whose `BASE_BACKUP` is read here: before it, each tablespace was a copy of its own, without letters in front.
const FIRST_VERSION: u32 = 150_000;

/// A server, as far as a base backup goes by it.
#[derive(Debug, Clone)]
pub(crate) struct ServerFacts {
    pub(crate) identity: Identity,
    /// `15.4 (Debian 15.4-1)`.
    pub(crate) version: String,
    /// `150004`.
    pub(crate) version_number: u32,
    pub(crate) is_standby: bool,
    pub(crate) wal_segment_bytes: u64,
    pub(crate) page_bytes: u64,
    /// Bytes of a file of a relation, at most.
    pub(crate) relation_segment_bytes: u64,
    pub(crate) has_checksums: bool,
    /// Mode of the data directory.
    pub(crate) directory_mode: u32,
}

impl ServerFacts {
    /// Asks for all of it.
    pub(crate) async fn ask(session: &mut Replication) -> Result<Self> {
        let identity = session.identify().await?;
        let number = session.show("server_version_num").await?;
        let mode = session.show("data_directory_mode").await?;
        let sizes = ["wal_segment_size", "block_size", "segment_size"];
        let mut bytes = [0_u64; 3];
        for (name, bytes) in sizes.into_iter().zip(&mut bytes) {
            *bytes = setting_bytes(&session.show(name).await?).with_context(|| format!("read {name}"))?;
        }
        let [wal_segment_bytes, page_bytes, relation_segment_bytes] = bytes;
        if SegmentSize::new(wal_segment_bytes).is_err() || !is_page_size(page_bytes) {
            return Err(Error::corrupt(
                "the server says sizes of segments or pages that no server has",
            ));
        }
        let wrong = |what: &str| Error::corrupt(format!("the server's {what} is no number"));
        Ok(Self {
            identity,
            version: printable(session.parameter("server_version").unwrap_or_default().to_owned()),
            version_number: number.parse().map_err(|_| wrong("version"))?,
            is_standby: session.parameter("in_hot_standby") == Some("on"),
            wal_segment_bytes,
            page_bytes,
            relation_segment_bytes,
            has_checksums: session.show("data_checksums").await? == "on",
            directory_mode: u32::from_str_radix(&mode, 8).map_err(|_| wrong("data_directory_mode"))?,
        })
    }

    /// Returns the major version.
    pub(crate) fn major(&self) -> u32 {
        self.version_number / 10_000
    }

    /// Refuses a server whose base backups have another form.
    pub(crate) fn refuse_old(&self) -> Result<()> {
        if self.version_number >= FIRST_VERSION {
            return Ok(());
        }
        Err(
            Error::unsupported(format!("base backups of PostgreSQL {} are not supported", self.version)).with_hint(
                "They are from 15 on. Databases of 13 and 14 are dumped one by one: postgres://user@host/database.",
            ),
        )
    }
}

/// Bytes of a page may be a power of two from 1 KiB to 32 KiB.
fn is_page_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && (1024..=32_768).contains(&bytes)
}

/// Asks for the bytes of all databases, and how many slots are in use.
pub(crate) async fn bytes_and_slots(sql: &ConnectOptions) -> Result<(u64, u64)> {
    let mut session = Connection::open(sql).await?;
    let found = session.query(CLUSTER_SIZE).await?;
    session.close().await;
    let row = found.only()?;
    Ok((row.number("bytes")?.unwrap_or(0), row.number("slots")?.unwrap_or(0)))
}
