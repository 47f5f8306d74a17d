//! The leader: one read-only transaction whose snapshot every reader of the backup shares.
//!
//! The leader keeps its transaction open until the last reader is done, so a reader that lost its connection can come
//! back to the very same snapshot. Tables are locked (ACCESS SHARE) before the snapshot is taken, see [`super::table_locks`],
//! and so before their definitions are read.

use jiff::Timestamp;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::exclusion::Exclusion;
use super::table_locks;
use super::table_locks::Locking;
use crate::base::error::{Context as _, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::postgres::schema::{Graph, SchemaOptions, named_roles};
use crate::engines::postgres::session::client::{Lent, client_error, lend, open_reading_client};
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::sessions::open_patiently;
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::settings::Session;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::wire::raw_text::RawText;
use crate::engines::postgres::wire::server_error::sqlstate;
use crate::engines::postgres::wire::text_row::TextRow;

const UNPINNED: &str = include_str!("sql/unpinned.sql");
const ROOM: &str = include_str!("sql/session_room.sql");
const BLOCKERS: &str = include_str!("sql/lock_holders.sql");
const FACTS: &str = include_str!("sql/server_facts.sql");

/// How long one attempt waits for table locks, in seconds.
const LOCK_TIMEOUT_S: u32 = 30;

/// The open snapshot.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) client: Client,
    /// Gives the client's session back.
    lent: Lent,
    pub(crate) graph: Graph,
    pub(crate) facts: ServerFacts,
    /// Patterns of exclusions that mean nothing here.
    pub(crate) unmatched: Vec<Note>,
}

/// A leader without its session.
#[derive(Debug)]
pub(crate) struct Parted {
    graph: Graph,
    facts: ServerFacts,
    unmatched: Vec<Note>,
}

/// What the leader's session says of server, database and snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ServerFacts {
    /// Name of the exported snapshot.
    #[serde(skip)]
    pub snapshot: String,
    /// The leader's process on the server.
    #[serde(skip)]
    pub process_id: i32,
    /// `server_version`.
    pub version: String,
    /// `server_version_num`.
    pub version_num: u32,
    /// Database name.
    pub database: String,
    /// Encoding of the database.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Locale provider, `c`, `i` or `b` [15].
    #[serde(default)]
    pub locale_provider: String,
    /// Locale of a provider other than the C library.
    #[serde(default)]
    pub locale: String,
    /// ICU rules [16].
    #[serde(default)]
    pub locale_rules: String,
    /// WAL position when the snapshot was taken.
    pub wal_lsn: String,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// Large objects in the database.
    pub large_objects: u64,
    /// Bytes of the whole database.
    pub database_bytes: u64,
    /// When the snapshot was taken, by the server's clock.
    pub taken_at: String,
    /// The database's tablespace; empty if the backup does not say.
    #[serde(default)]
    pub tablespace: String,
    /// `search_path` of a new session; empty if the backup does not say.
    #[serde(default)]
    pub search_path: String,
    /// What expressions of the source find.
    #[serde(default)]
    pub context: settings::Context,
    /// Whether the table of contents says what items before the data need, too.
    #[serde(default)]
    pub needs_known: bool,
    /// The roles that this database names. None in backups of older versions, and where they are very many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// What the backup lacks, as it was told when it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Note>,
}

impl ServerFacts {
    /// Returns the moment of the snapshot.
    pub(crate) fn consistent_at(&self) -> Timestamp {
        self.taken_at.parse().unwrap_or_else(|_| Timestamp::now())
    }
}

impl Leader {
    /// Locks the tables, takes the snapshot and reads the graph; none if a table was changed between snapshot and lock. The
    /// scout is a session without a snapshot of its own, if there is room for one.
    /// What is excluded is not locked.
    pub(crate) async fn open(
        (client, lent): (Client, Lent),
        scout: Option<&mut Connection>,
        exclusion: &Exclusion,
    ) -> Result<Option<Self>> {
        let process_id = own_process(&client).await?;
        let prepared = exclusion.prepare(&client).await?;
        let wanted = prepared.wanted();
        // A look before the transaction, for whoever has no scout.
        let seen = match scout {
            Some(_) => Vec::new(),
            None => table_locks::tables(&client, &wanted).await?,
        };
        // From here to the facts nothing may run that takes a snapshot.
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET lock_timeout = '{LOCK_TIMEOUT_S}s'");
        let begun = client.batch_execute(&begin).await.map_err(client_error);
        begun.context("begin the snapshot's transaction")?;
        let mut locking = Locking {
            client: &client,
            process_id,
            scout,
            wanted: &wanted,
        };
        let locked = locking.lock_all(&seen).await?;
        let mut facts = read_facts(&client).await.context("export the snapshot")?;
        let locked = match locked {
            Some(locked) => locked,
            None => locking.own_locks().await?,
        };
        let (excluded, unmatched) = prepared.resolve(&client).await?;
        let options = SchemaOptions {
            locked,
            excluded,
            ..SchemaOptions::default()
        };
        let graph = Graph::read(&client, &options).await.context("read the schema")?;
        facts.roles = named_roles(&client).await.context("read the schema")?;
        let late: Vec<u32> = graph.table_oids().filter(|oid| !options.locked.contains(oid)).collect();
        let still = locking.stand_still(&late).await.context("compare with the snapshot")?;
        Ok(still.then_some(Self {
            client,
            lent,
            graph,
            facts,
            unmatched,
        }))
    }
}

/// Objects from which on further sessions read a share of the definitions.
const MANY_OBJECTS: usize = 5_000;

/// Sessions beside the leader's that read definitions, at most.
const MAX_HELPERS: usize = 3;

impl Leader {
    /// Names what would hide damage and could not be turned off.
    pub(crate) async fn unpinned(&self) -> Result<Vec<Note>> {
        let rows = self.client.query(UNPINNED, &[]).await.map_err(client_error)?;
        let note = |row: &tokio_postgres::Row| {
            let name: String = row.try_get("name").map_err(client_error)?;
            let text = "is on for this role and only a superuser may turn it off: damaged pages are read as if they were empty or sound";
            Ok(Note::new("unreadable", name, text))
        };
        rows.iter().map(note).collect()
    }

    /// Opens further sessions on the snapshot for reading definitions; as many as the server gives.
    pub(crate) async fn helpers(&self, options: &ConnectOptions, parallel: usize) -> Vec<Client> {
        let mut helpers = Vec::new();
        if self.graph.object_count() < MANY_OBJECTS {
            return helpers;
        }
        let sql = format!("{}; SET lock_timeout = '2s'", import_sql(&self.facts));
        for _ in 1..parallel.min(MAX_HELPERS + 1) {
            let Ok((client, _)) = open_reading_client(options).await else {
                break;
            };
            if client.batch_execute(&sql).await.is_err() {
                break;
            }
            helpers.push(client);
        }
        helpers
    }
}

impl Leader {
    /// Returns how many sessions the role, and the database, have left for readers; none if there is no limit.
    pub(crate) async fn room(&self) -> Result<Option<usize>> {
        let row = one_row(&self.client, ROOM)
            .await
            .context("look how many sessions are left")?;
        let room = row.first().filter(|room| !room.is_empty());
        Ok(room.map(|room| room.parse::<usize>().unwrap_or(0)))
    }

    /// Ends the snapshot's transaction.
    pub(crate) async fn end(self) -> Result<()> {
        let ended = self.client.batch_execute("COMMIT").await;
        ended.map_err(client_error).context("end the snapshot")
    }

    /// Returns the leader's own session, within its transaction, as one that reads, and what else it was.
    pub(crate) async fn part(self) -> Result<(Connection, Parted)> {
        let Self {
            client,
            lent,
            graph,
            facts,
            unmatched,
        } = self;
        let parted = Parted {
            graph,
            facts,
            unmatched,
        };
        Ok((lent.give_back(client).await?, parted))
    }

    /// Makes a leader of its parts again.
    pub(crate) async fn join(connection: Connection, parted: Parted, options: &ConnectOptions) -> Result<Self> {
        let (client, lent) = lend(connection, options).await?;
        let Parted {
            graph,
            facts,
            unmatched,
        } = parted;
        Ok(Self {
            client,
            lent,
            graph,
            facts,
            unmatched,
        })
    }
}

async fn one_row(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await.map_err(client_error)?;
    let row = messages.into_iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| Error::corrupt("a query returned no row"))?;
    Ok((0..row.len())
        .map(|at| row.get(at).unwrap_or_default().to_owned())
        .collect())
}

/// Returns the server's process of the session.
async fn own_process(client: &Client) -> Result<i32> {
    let row = client
        .query_one("SELECT pg_catalog.pg_backend_pid() AS process_id", &[])
        .await
        .map_err(client_error)?;
    row.try_get("process_id").map_err(client_error)
}

async fn read_facts(client: &Client) -> Result<ServerFacts> {
    let row = client.query_one(FACTS, &[]).await.map_err(client_error)?;
    let text = |name: &str| -> Result<String> {
        let text: Option<RawText> = row.try_get(name).map_err(client_error)?;
        Ok(text.map_or_else(String::new, |t| t.0))
    };
    let number = |name: &str| exact::count(row.try_get(name).map_err(client_error)?, name);
    let version_num: i32 = row.try_get("version_num").map_err(client_error)?;
    let version_num =
        u32::try_from(version_num).map_err(|e| Error::corrupt("the server's version is no number").with_cause(e))?;
    let files = one_row(client, settings::FILES_READABLE_SQL).await?;
    let files = files.first().is_some_and(|value| value == "t");
    let context = client.query_one(&settings::context_query(files), &[]).await;
    let context: RawText = context.and_then(|row| row.try_get("settings")).map_err(client_error)?;
    let context = serde_json::from_str(&context.0);
    Ok(ServerFacts {
        context: settings::Context {
            settings: context.map_err(|e| Error::corrupt("settings are no list").with_cause(e))?,
            client_encoding: Some(text("encoding")?),
            ..settings::Context::none()
        },
        snapshot: text("snapshot")?,
        version: text("version")?,
        version_num,
        database: text("database")?,
        encoding: text("encoding")?,
        collate: text("lc_collate")?,
        ctype: text("lc_ctype")?,
        wal_lsn: text("wal_lsn")?,
        in_recovery: row.try_get("in_recovery").map_err(client_error)?,
        large_objects: number("large_objects")?,
        database_bytes: number("database_bytes")?,
        taken_at: text("taken_at")?,
        locale_provider: text("locale_provider")?,
        locale: text("locale")?,
        locale_rules: text("locale_rules")?,
        process_id: row.try_get("process_id").map_err(client_error)?,
        search_path: text("search_path")?,
        tablespace: text("tablespace")?,
        needs_known: true,
        roles: None,
        lacks: Vec::new(),
    })
}

/// Names the sessions that hold a lock that ours would wait for.
pub(crate) async fn blockers(options: &ConnectOptions) -> Result<String> {
    let mut connection = settings::open_as_stored(options).await?;
    let result = connection.query(BLOCKERS).await?;
    connection.close().await;
    let name = |row: TextRow<'_>| {
        Ok(format!(
            "process {} (role \"{}\", application \"{}\") on {}",
            row.text("pid")?,
            row.text("role")?,
            row.text("application")?,
            row.text("relation")?
        ))
    };
    let names = result.named().map(name).collect::<Result<Vec<String>>>()?;
    Ok(if names.is_empty() {
        "a session that has ended since".to_owned()
    } else {
        names.join(", ")
    })
}

/// Returns what begins a transaction on an exported snapshot.
fn import_sql(facts: &ServerFacts) -> String {
    let snapshot = facts.snapshot.replace('\'', "''");
    format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}'")
}

/// Opens a reader on an exported snapshot.
pub(crate) async fn open_reader(options: &ConnectOptions, facts: &ServerFacts) -> Result<Connection> {
    import(open_patiently(options).await?, options, facts).await
}

/// As [`open_reader`]; where there is no room for another session, that is told at once.
pub(crate) async fn open_reader_at_once(options: &ConnectOptions, facts: &ServerFacts) -> Result<Connection> {
    import(Connection::open(options).await?, options, facts).await
}

async fn import(mut connection: Connection, options: &ConnectOptions, facts: &ServerFacts) -> Result<Connection> {
    settings::set(&mut connection, Session::Reading, &options.context)
        .await
        .context("set up the session")?;
    let opened = connection.execute(&import_sql(facts)).await;
    opened.map_err(|e| match sqlstate(&e) {
        Some("22023" | "42704") => Error::new(ErrorKind::PreconditionFailed, "the shared snapshot is gone")
            .with_cause(e)
            .with_hint(
                "The first connection of the backup was lost, or a transaction pooler is in use: connect \
                        directly to the server.",
            ),
        _ => e.context("import the snapshot"),
    })?;
    Ok(connection)
}
