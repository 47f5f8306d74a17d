//! Reads a server, or all shards of a cluster at once.
//!
//! Each server gives an RDB of its own moment. Those of a cluster begin together, and who serves which slot must be the
//! same before the first and after the last has begun, so every key is in one of them.

pub(crate) mod key_journal;
pub(crate) mod payloads;
pub(crate) mod psync;
pub(crate) mod receive;
pub(crate) mod scan;
pub(crate) mod settings;
pub(crate) mod sieve;

use std::collections::BTreeMap;

use futures_util::future::{try_join, try_join_all};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::receive::Bounds;
use self::scan::{Payloads, Scanned};
use super::{RdbFacts, RedisOptions, STREAM, ShardFacts, psync_method, stored};
use crate::archive::StreamRecord;
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::redis::session::address::{Method, RedisAddress};
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::cluster::Topology;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::session::counted;
use crate::engines::redis::session::holdings::{is_end, refuse_unknown_cluster};
use crate::engines::redis::session::nodes;
use crate::engines::redis::session::server::Server;
use crate::engines::redis::wire::rdb;
use crate::engines::redis::wire::rdb::Census;
use crate::engines::redis::wire::resp::Reply;
use crate::engines::{BackupContext, Finding, FindingLevel, Notes, SourceOutcome};

/// A server to read.
struct Shard {
    address: RedisAddress,
    server: Server,
    /// Of a cluster, which part of it this is.
    of_cluster: Option<ShardFacts>,
    /// What names of its entries begin with.
    directory: String,
}

impl Shard {
    fn stream(&self) -> String {
        format!("{}{STREAM}", self.directory)
    }

    /// Dials the server that was asked before. A name may lead to several, and what one says of itself does not hold for another.
    async fn connect(&self) -> Result<Connection> {
        let mut connection = Connection::open(&self.address).await?;
        let said = connection.ask(&[b"INFO", b"server"]).await?;
        let now = Server::parse(&said.text().unwrap_or_default());
        let runs = now.get("run_id").zip(self.server.get("run_id"));
        if runs.is_some_and(|(now, before)| now != before) {
            let message = format!("{} is not the same server as before", self.address.location());
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint(
                "Use the address of one server, not one that several share; after a failover, run the backup again.",
            ));
        }
        Ok(connection)
    }
}

/// All servers to read.
struct Shards {
    /// Who serves what, if it is a cluster.
    topology: Option<Topology>,
    all: Vec<Shard>,
    /// One to each.
    clients: Vec<Client>,
}

impl Shards {
    /// Finds and connects them.
    async fn find(seed: &RedisAddress) -> Result<Self> {
        let address = if seed.reading.sentinel.is_some() {
            nodes::for_backup(seed).await?
        } else {
            seed.clone()
        };
        let mut client = Client::open(&address).await?;
        let server = Server::ask(&client).await?;
        if server.no_info().is_some() && !address.reading.only_node {
            refuse_unknown_cluster(&server, "the server")?;
        }
        if let Some(topology) = Topology::of(&address, &server, &client).await? {
            let addresses = topology.for_backup().await?;
            let shards = topology.shards.iter().zip(addresses).enumerate();
            let all = try_join_all(shards.map(|(number, (shard, address))| async move {
                let client = Client::open(&address).await?;
                let place = Shard {
                    server: Server::ask(&client).await?,
                    of_cluster: Some(ShardFacts {
                        id: shard.id.clone(),
                        slots: shard.slots_text(),
                        node: address.location(),
                    }),
                    address,
                    directory: format!("{}/", stored::shard_name(number)),
                };
                Ok::<_, Error>((place, client))
            }));
            let (all, clients) = all.await?.into_iter().unzip();
            return Ok(Self {
                topology: Some(topology),
                all,
                clients,
            });
        }
        let mut place = Shard {
            address: nodes::replica_of(&address).await?,
            server,
            of_cluster: None,
            directory: String::new(),
        };
        if place.address != address {
            client = Client::open(&place.address).await?;
            place.server = Server::ask(&client).await?;
        }
        Ok(Self {
            topology: None,
            all: vec![place],
            clients: vec![client],
        })
    }

    /// Fails while slots of the cluster move, or have moved since it was looked at.
    async fn settled(&self) -> Result<()> {
        match &self.topology {
            Some(topology) => topology.settled().await,
            None => Ok(()),
        }
    }
}

/// Tells what a backup would meet.
pub(super) async fn check(options: &RedisOptions) -> Result<Vec<Finding>> {
    let places = Shards::find(&options.address).await?;
    let mut findings = Vec::new();
    if let Some(topology) = &places.topology {
        findings.push(Finding {
            level: FindingLevel::Info,
            message: format!(
                "a cluster of {} shards; all of them are backed up",
                topology.shards.len()
            ),
            hint: None,
        });
    }
    if let Err(error) = places.settled().await {
        findings.push(failed(&error));
    }
    for (place, client) in places.all.iter().zip(&places.clients) {
        findings.extend(place.findings());
        findings.extend(place.one_database(client).await?);
        if let Err(error) = place.server.refuse_backup() {
            findings.push(failed(&error));
        }
        if options.address.wants_settings() {
            findings.extend(settings::findings(client).await?);
        }
        findings.extend(newer(client, &place.server).await?);
        // A backup itself is gone before it counts.
        let counts = counted::counts_for_writes(client).await?;
        findings.extend(counts.map(|finding| Finding {
            level: FindingLevel::Note,
            ..finding
        }));
        if options.address.reading.method != Method::Scan {
            findings.extend(rights(client, options.address.reading.method).await?);
        }
    }
    Ok(findings)
}

/// Fails if there is no database of this number. Whoever may not choose one may read it all the same.
async fn refuse_no_database(client: &Client, number: u32) -> Result<()> {
    let reply = client.ask(&[b"SELECT", number.to_string().as_bytes()]).await?;
    let missing = match reply {
        Reply::Error(text) if number > 0 && is_end(&text) => Some(text),
        _ => None,
    };
    client.ask(&[b"SELECT", b"0"]).await?;
    match missing {
        None => Ok(()),
        Some(text) => Err(Error::new(
            ErrorKind::NotFound,
            format!("the server has no database {number}: {text}"),
        )
        .with_hint("CONFIG GET databases shows how many it has; a cluster has database 0 only, before Valkey 9.")),
    }
}

/// Warns of a server whose RDB may hold types that are not known.
async fn newer(client: &Client, server: &Server) -> Result<Option<Finding>> {
    let version = scan::likely_version(client, server).await?;
    let (redis, valkey) = rdb::types::NEWEST;
    let newest = if version >= 80 { valkey } else { redis };
    Ok((version > newest).then(|| Finding {
        level: FindingLevel::Warning,
        message: format!(
            "the server writes RDB version {version}, and this version of wirevault knows the types up to {newest}: keys of \
             others are stored, and go back as DUMP gives them, into a server of this version or later"
        ),
        hint: Some("Give the user +scan +dump too, and check for a newer version of wirevault.".to_owned()),
    }))
}

fn failed(error: &Error) -> Finding {
    Finding {
        level: FindingLevel::Error,
        message: error.chain(),
        hint: error.hint().map(str::to_owned),
    }
}

/// The note of data that modules keep beside the keys, where the backup lacks them.
const MODULE_DATA_NOT_STORED: &str = "module-data-not-stored";

/// What belongs to a whole server.
const OF_ALL: &str = "users, configuration, modules and function libraries";

impl Shard {
    /// Notes what nobody could tell and what may be missing because of it.
    fn note_unknown(&self, notes: &Notes) {
        if self.of_cluster.is_none() && self.server.cluster().is_none() && !self.address.reading.only_node {
            let message = "unable to determine whether this is a node of a cluster: keys of other shards may be missing \
                           (set ?cluster=no if only this node is meant)";
            notes.add(Note::new("cluster-not-known", self.address.location(), message));
        }
    }

    /// Notes what stays out where one database alone is wanted.
    fn note_others(&self, keys: u64, notes: &Notes) {
        if let Some(number) = self.address.database {
            let mut message =
                format!("only database {number} is backed up, as the URL says: without {OF_ALL} of the server");
            if keys > 0 {
                message.push_str(&format!(", and without {keys} keys of other databases"));
            }
            notes.add(Note::new("one-database", self.address.location(), message));
        }
    }

    /// Notes what SCAN and DUMP could not read.
    fn note_scanned(&self, modules: Option<&[String]>, scanned: &Scanned, notes: &Notes) {
        let at = |what: &str| format!("{}{what}", self.directory);
        if let Some(text) = &scanned.no_functions {
            let message = format!("not stored, the server says: {text} (the user needs +function|list)");
            notes.add(Note::new("functions-not-shown", at("functions"), message));
        }
        if let Some(text) = &scanned.no_databases {
            let message = format!("some may be missing, {text} (the user needs +info, or +select and +dbsize)");
            notes.add(Note::new("databases-not-shown", at("databases"), message));
        }
        if !self.server.is_in_sync() {
            let message = "unable to determine whether this is a replica that has lost its primary, whose keys are out of date (the user needs +info or +role)";
            notes.add(Note::new("role-not-known", self.address.location(), message));
        }
        let others = match modules {
            Some(names) => names
                .iter()
                .filter(|name| !rdb::module::keeps_all_in_keys(name))
                .cloned()
                .collect(),
            None => vec!["unknown".to_owned()],
        };
        if !others.is_empty() {
            let message = format!(
                "data that modules keep outside keys is not in a backup by SCAN and DUMP; modules: {}",
                others.join(", ")
            );
            notes.add(Note::new(MODULE_DATA_NOT_STORED, at("modules"), message));
        }
    }

    /// Tells that one database alone is meant, and what else there is. Fails if there is no such database.
    async fn one_database(&self, client: &Client) -> Result<Option<Finding>> {
        let Some(number) = self.address.database else {
            return Ok(None);
        };
        refuse_no_database(client, number).await?;
        let others = self.server.keyspace().map(|databases| {
            let others = databases
                .into_iter()
                .filter(|(other, keys)| *other != number && *keys > 0);
            others.map(|(other, _)| other.to_string()).collect::<Vec<_>>()
        });
        let (level, message) = match others {
            Some(others) if others.is_empty() => (FindingLevel::Info, String::new()),
            Some(others) => (
                FindingLevel::Warning,
                format!("; keys of the databases {} are not", others.join(", ")),
            ),
            None => (
                FindingLevel::Note,
                "; the contents of other databases are unknown".to_owned(),
            ),
        };
        Ok(Some(Finding {
            level,
            message: format!("only database {number} is backed up, without {OF_ALL}{message}"),
            hint: (level == FindingLevel::Warning)
                .then(|| "Remove the number from the URL to back up the whole server.".to_owned()),
        }))
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = self.server.findings();
        if self.of_cluster.is_none() && self.server.is_cluster() {
            findings.push(Finding {
                level: FindingLevel::Warning,
                message: "this is one node of a cluster; only the keys of its slots are backed up".to_owned(),
                hint: Some("Remove cluster=no from the URL to back up all shards together.".to_owned()),
            });
        }
        findings
    }
}

/// Tries whether a full synchronisation is allowed.
async fn rights(client: &Client, method: Method) -> Result<Option<Finding>> {
    let reply = client.ask(&[b"REPLCONF", b"rdb-only", b"1"]).await?.checked();
    let Err(error) = reply else { return Ok(None) };
    let refused = matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported);
    let scans = refused && method == Method::Auto;
    if scans && client.ask(&[b"SCAN", b"0", b"COUNT", b"1"]).await?.checked().is_ok() {
        return Ok(Some(Finding {
            level: FindingLevel::Warning,
            message: format!(
                "full resynchronization (PSYNC) not available: {}; keys are read by SCAN and DUMP",
                error.chain()
            ),
            hint: Some(
                "Each key is stored as of the moment it is read; grant +psync +replconf for a backup of one point in \
                 time."
                    .to_owned(),
            ),
        }));
    }
    if error.kind() == ErrorKind::Other {
        return Ok(Some(Finding {
            level: FindingLevel::Warning,
            message: "the server is older than 7.0 and buffers commands for the backup while it is read".to_owned(),
            hint: Some("Raise client-output-buffer-limit for replicas if a backup is cut short.".to_owned()),
        }));
    }
    Ok(Some(Finding {
        level: FindingLevel::Error,
        message: error.context("request only an RDB (REPLCONF)").chain(),
        hint: Some("Give the user +psync +replconf +ping +info +acl|list +config|get +module|list.".to_owned()),
    }))
}

/// Reads everything.
pub(super) async fn read(options: &RedisOptions, context: BackupContext) -> Result<SourceOutcome> {
    let notes = Notes::new(context.name.clone(), context.reporter.clone());
    let mut places = Shards::find(&options.address).await?;
    places.settled().await?;
    let mut content = 0_u128;
    for (place, client) in places.all.iter().zip(&places.clients) {
        place.server.refuse_backup()?;
        for finding in place.findings() {
            if finding.level == FindingLevel::Warning {
                let hint = finding.hint.unwrap_or_default();
                let message = format!("{} ({hint})", finding.message);
                notes.add(Note::new("server", place.address.location(), message));
            }
        }
        if let Some(number) = place.address.database {
            refuse_no_database(client, number).await?;
        }
        place.note_unknown(&notes);
        if options.address.wants_settings() {
            let stored = settings::store(client, &context.writer, &place.directory, &notes).await?;
            content = content.wrapping_add(stored);
        }
    }
    // Everything was asked.
    places.clients.clear();
    let reading = BackupSession {
        options,
        context: &context,
        notes: &notes,
        begun: Semaphore::new(0),
    };
    let method = options.address.reading.method;
    let mut refusal = None;
    let mut data = None;
    if method != Method::Scan {
        match reading.synchronised(&places).await {
            Ok(found) => data = Some(found),
            // Where some shard has begun, what it sent is in the archive already.
            Err(error)
                if method == Method::Auto
                    && psync::is_refusal(&error)
                    && (reading.begun.available_permits() == 0 || options.address.database.is_some()) =>
            {
                refusal = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let data = if let Some(mut data) = data {
        for (place, one) in places.all.iter().zip(&mut data) {
            reading.by_key(place, one).await?;
        }
        data
    } else {
        let data = reading.scanned(&places.all, refusal).await?;
        places.settled().await?;
        data
    };
    finish(options, context, &notes, (data, content)).await
}

/// Declares what was read complete.
async fn finish(
    options: &RedisOptions,
    context: BackupContext,
    notes: &Notes,
    (data, settings): (Vec<Data>, u128),
) -> Result<SourceOutcome> {
    let mut position = position(options, &data);
    if let Some(content) = content(&data, settings) {
        position.insert("content".to_owned(), content);
    }
    let consistent_at = data.iter().map(|one| one.at).max().unwrap_or_else(Timestamp::now);
    let (mut versions, mut raw_bytes, mut items) = (BTreeMap::new(), 0_u64, 0_u64);
    for one in data {
        let (facts, best) = (&one.facts, one.best());
        if let Some(types) = facts.census.module_data.as_ref().filter(|types| !types.is_empty()) {
            let types: Vec<_> = types.iter().map(String::as_str).collect();
            let types = types.join(", ");
            notes.add(match facts.database {
                Some(_) => Note::new(
                    MODULE_DATA_NOT_STORED,
                    one.stream.clone(),
                    format!(
                        "modules keep data outside keys (types {types}), which belongs to the whole server and is not in the backup of one database"
                    ),
                ),
                None => Note::new(
                    "module-data",
                    one.stream.clone(),
                    format!("modules keep data outside keys (types {types}): it can only be restored as a file"),
                ),
            });
        }
        versions.insert(facts.product.clone(), facts.server_version.clone());
        versions.insert("rdb".to_owned(), facts.rdb_version.to_string());
        raw_bytes = raw_bytes.saturating_add(one.bytes);
        items = items.saturating_add(best.census.keys()).saturating_add(best.payloads);
        let mut next = Some(Box::new(one));
        while let Some(one) = next {
            next = one.record(&context).await?;
        }
    }
    Ok(SourceOutcome {
        versions,
        position,
        consistent_at,
        raw_bytes,
        items,
        note_counts: notes.counts(),
        archives: context.writer.finish().await?,
    })
}

/// Returns what stands for all that was read, whatever the order of keys and the times that an RDB holds; nothing if some of
/// it is not understood.
fn content(data: &[Data], settings: u128) -> Option<String> {
    let mut sum = settings;
    for one in data.iter().map(|one| &one.facts) {
        let known = one.census.content.as_ref().filter(|_| one.unknown.is_none())?;
        sum = sum.wrapping_add(u128::from_str_radix(known, 16).ok()?);
    }
    Some(format!("{sum:032x}"))
}

/// What both methods need.
struct BackupSession<'a> {
    options: &'a RedisOptions,
    context: &'a BackupContext,
    notes: &'a Notes,
    /// A permit for each server whose RDB has begun to come: its moment is fixed then.
    begun: Semaphore,
}

impl BackupSession<'_> {
    /// Takes the RDBs of full synchronisations, all at the same time and each as soon as it comes: a server whose RDB nobody
    /// takes gives it up. When all have begun, who serves which slot must still be as it was before.
    async fn synchronised(&self, places: &Shards) -> Result<Vec<Data>> {
        self.context.reporter.phase(&self.context.name, "synchronisation");
        let shards = exact::known(places.all.len(), "shards share 16384 slots");
        let settled = async {
            if let Ok(all) = self.begun.acquire_many(shards).await {
                drop(all);
                self.context.reporter.phase(&self.context.name, "data");
                places.settled().await?;
            }
            Ok(())
        };
        let read = try_join_all(places.all.iter().map(|place| self.receive(place)));
        Ok(try_join(read, settled).await?.0)
    }

    async fn receive(&self, place: &Shard) -> Result<Data> {
        let mut connection = place.connect().await?;
        let sync = psync::start(&mut connection, &place.server).await;
        let sync = sync.map_err(|error| of_shard(error, place.of_cluster.as_ref()))?;
        self.begun.add_permits(1);
        if !sync.rdb_only {
            let message = "the server buffers commands while the RDB is read, and may cut it short";
            self.notes.add(Note::new("server", place.address.location(), message));
        }
        let context = self.context;
        let hold = Bounds {
            max_hold: self.options.max_hold,
            spool_limit: self.options.spool_limit,
            spool_dir: context.spool_dir.clone(),
        };
        let stream = place.stream();
        let task = (context.name.as_str(), &context.reporter);
        let (writer, cancel) = (&context.writer, &context.cancel);
        let into = (stream.as_str(), place.address.database);
        let received = receive::receive(connection, sync.framing, writer, into, &hold, task, cancel).await;
        let received = received.map_err(|error| of_shard(error, place.of_cluster.as_ref()))?;
        place.note_others(received.others, self.notes);
        if received.spooled > 0 {
            tracing::info!("{} bytes of {stream} went through the spool file", received.spooled);
        }
        Ok(Data {
            beside: None,
            payloads: None,
            stream,
            node: place.address.location(),
            bytes: received.bytes,
            chunks: received.chunks,
            at: sync.at,
            has_crc: received.has_crc,
            position: BTreeMap::new(),
            facts: RdbFacts {
                product: wrote(&place.server, &received.census).0,
                server_version: wrote(&place.server, &received.census).1,
                rdb_version: received.version,
                valkey_magic: received.valkey,
                replid: sync.replid,
                offset: sync.offset,
                census: received.census,
                method: psync_method(),
                unknown: received.unknown,
                payloads: 0,
                payload_facts: None,
                database: place.address.database,
                shard: place.of_cluster.clone(),
            },
        })
    }

    /// Reads the keys of a server one by one too, where its RDB is not understood to the end.
    async fn by_key(&self, place: &Shard, data: &mut Data) -> Result<()> {
        let Some(unknown) = data.facts.unknown.clone() else {
            return Ok(());
        };
        let stream = format!("{}{}{STREAM}", place.directory, stored::BY_KEY);
        let at = data.stream.clone();
        match self.scan(place, stream, &mut None).await {
            Ok(beside) => {
                let message = format!(
                    "{unknown}: stored as it is for a file; the keys were read once more, one by one and each at its own \
                     moment, for a live server"
                );
                self.notes.add(Note::new("rdb-not-understood", at, message));
                data.beside = Some(Box::new(beside));
                Ok(())
            }
            Err(error) if psync::is_refusal(&error) => {
                let message = format!(
                    "{unknown}: stored as it is, but it can only be restored as a file, because its keys cannot be \
                     read one by one: {}",
                    error.chain()
                );
                self.notes.add(Note::new("rdb-not-understood", at, message));
                Ok(())
            }
            Err(error) => Err(error.context("read the keys of an RDB that is not understood one by one")),
        }
    }

    /// Reads key by key, one server after another; `refusal` says why there is no full synchronisation.
    async fn scanned(&self, places: &[Shard], mut refusal: Option<Error>) -> Result<Vec<Data>> {
        let mut data = Vec::new();
        // What a synchronisation began has the name already.
        let begun = self.begun.available_permits() > 0;
        for place in places {
            let stream = if begun {
                format!("{}{}{STREAM}", place.directory, stored::BY_KEY)
            } else {
                place.stream()
            };
            data.push(self.scan(place, stream, &mut refusal).await?);
        }
        Ok(data)
    }

    async fn scan(&self, place: &Shard, stream: String, refusal: &mut Option<Error>) -> Result<Data> {
        let (context, notes) = (self.context, self.notes);
        // Databases, libraries and keys are those of one server.
        let client = Client::of(place.connect().await?).await?;
        let modules = place.server.modules(&client).await?;
        let mut connection = place.connect().await?;
        if place.of_cluster.is_some() && place.server.replica() != Some(false) {
            // Without it a replica sends readers to its primary.
            connection.call(&[b"READONLY"]).await?;
        }
        context.reporter.phase(&context.name, "keys");
        let how = scan::ScanOptions {
            writer: &context.writer,
            prefix: &stream,
            only: place.address.database,
            keys_per_second: self.options.address.reading.keys_per_second,
            spool_dir: &context.spool_dir,
            spool_limit: self.options.spool_limit,
            task: &context.name,
            reporter: &context.reporter,
            cancel: &context.cancel,
        };
        let scanned = match (
            scan::scan(client, &mut connection, &place.server, how).await,
            refusal.take(),
        ) {
            (Err(error), Some(refusal)) if psync::is_refusal(&error) => {
                let also = format!("keys cannot be read one by one either: {}", error.chain());
                return Err(refusal.context(also));
            }
            (result, refusal) => {
                if let Some(refusal) = refusal {
                    let message = format!(
                        "{}; keys were read by SCAN and DUMP, each at its own moment",
                        refusal.chain()
                    );
                    notes.add(Note::new("no-psync", self.options.address.location(), message));
                }
                result.map_err(|error| of_shard(error, place.of_cluster.as_ref()))?
            }
        };
        place.note_scanned(modules.as_deref(), &scanned, notes);
        place.note_others(scanned.others, notes);
        if let Some(payloads) = &scanned.payloads {
            notes.add(Note::new(
                "keys-as-payloads",
                payloads.stream.clone(),
                as_payloads(payloads),
            ));
        }
        let server = &place.server;
        let kept = scanned.payloads.as_ref();
        let (kept, kept_facts) = (kept.map_or(0, |kept| kept.records), kept.map(|kept| kept.facts.clone()));
        Ok(Data {
            beside: None,
            payloads: scanned.payloads,
            stream,
            node: place.address.location(),
            bytes: scanned.bytes,
            chunks: scanned.chunks,
            at: scanned.to,
            has_crc: true,
            position: BTreeMap::from([
                ("read_from".to_owned(), scanned.from.to_string()),
                ("read_to".to_owned(), scanned.to.to_string()),
                ("keys_gone_meanwhile".to_owned(), scanned.vanished.to_string()),
                ("consistency".to_owned(), SCAN_CONSISTENCY.to_owned()),
            ]),
            facts: RdbFacts {
                product: server.product().to_owned(),
                server_version: server.version().to_owned(),
                rdb_version: scanned.version,
                valkey_magic: scanned.valkey,
                replid: server.get("master_replid").unwrap_or_default().to_owned(),
                offset: server
                    .get("master_repl_offset")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0),
                census: scanned.census,
                method: "scan".to_owned(),
                unknown: scanned.unknown,
                payloads: kept,
                payload_facts: kept_facts,
                database: place.address.database,
                shard: place.of_cluster.clone(),
            },
        })
    }
}

/// Returns product and version of who wrote an RDB: as the server said, or as the RDB does.
fn wrote(server: &Server, census: &Census) -> (String, String) {
    let aux = |name: &str| census.aux.get(name).cloned();
    let told = (server.product().to_owned(), server.version().to_owned());
    match (server.version(), aux("valkey-ver"), aux("redis-ver")) {
        ("unknown", Some(version), _) => ("valkey".to_owned(), version),
        ("unknown", None, Some(version)) => ("redis".to_owned(), version),
        _ => told,
    }
}

/// Says which keys are stored as payloads, and what that means.
fn as_payloads(payloads: &Payloads) -> String {
    let unknown = payloads.records.saturating_sub(payloads.long);
    let mut parts = Vec::new();
    if unknown > 0 {
        parts.push(format!("{unknown} keys have a form that this version does not know"));
    }
    if payloads.long > 0 {
        let long = payloads.long;
        parts.push(format!(
            "{long} keys have values above 4 MiB of types whose form must be looked at as a whole"
        ));
    }
    let mut message = parts.join(", ");
    message.push_str(": they go back as DUMP gave them, into a server that knows them");
    if payloads.facts.beside > 0 {
        message.push_str(&format!("; {} of them are not in the RDB", payloads.facts.beside));
    }
    message
}

fn of_shard(error: Error, shard: Option<&ShardFacts>) -> Error {
    match shard {
        Some(shard) => error.context(format!("read the slots {} at \"{}\"", shard.slots, shard.node)),
        None => error,
    }
}

/// What an RDB that was read by SCAN and DUMP stands for.
const SCAN_CONSISTENCY: &str = "each key as of the moment it was read, between read_from and read_to; keys written, \
                                renamed or deleted meanwhile may be in either state or missing";

/// What the RDBs of a cluster stand for.
const CLUSTER_CONSISTENCY: &str = "each shard as of a moment of its own, between read_from and read_to";

/// What was read of one server, by either method.
struct Data {
    stream: String,
    /// The server that was read.
    node: String,
    bytes: u64,
    chunks: u32,
    at: Timestamp,
    has_crc: bool,
    position: BTreeMap<String, String>,
    facts: RdbFacts,
    payloads: Option<Payloads>,
    /// What was read key by key, because the RDB is not understood.
    beside: Option<Box<Data>>,
}

impl Data {
    /// Declares its streams complete. Returns what was read beside it.
    async fn record(self, context: &BackupContext) -> Result<Option<Box<Self>>> {
        let written = |e| Error::new(ErrorKind::Other, "write the facts of the RDB").with_cause(e);
        if let Some(payloads) = self.payloads {
            let record = StreamRecord {
                prefixes: vec![payloads.stream.clone()],
                stream: payloads.stream,
                chunks: payloads.chunks.into(),
                bytes: payloads.bytes,
                rows: None,
                row_digest: None,
                facts: serde_json::json!({ "keys": payloads.records }),
            };
            context.writer.finish_stream(record).await?;
        }
        let record = StreamRecord {
            prefixes: vec![self.stream.clone()],
            stream: self.stream,
            chunks: self.chunks.into(),
            bytes: self.bytes,
            rows: None,
            row_digest: None,
            facts: serde_json::to_value(&self.facts).map_err(written)?,
        };
        context.writer.finish_stream(record).await?;
        Ok(self.beside)
    }

    /// Returns what tells most of the keys.
    fn best(&self) -> &RdbFacts {
        self.beside.as_ref().map_or(&self.facts, |beside| &beside.facts)
    }
}

/// What the manifest says: counts and positions, no name of a key.
fn position(options: &RedisOptions, data: &[Data]) -> BTreeMap<String, String> {
    let mut census = Census::of_none();
    for one in data {
        census.merge(&one.best().census);
    }
    let as_payloads: u64 = data.iter().map(|one| one.best().payloads).sum();
    let has_crc = data.iter().all(|one| one.has_crc);
    let known = data.iter().all(|one| one.facts.unknown.is_none());
    let mut position = BTreeMap::from([
        ("keys".to_owned(), census.keys().saturating_add(as_payloads).to_string()),
        ("keys_expiring".to_owned(), census.expiring().to_string()),
        ("functions".to_owned(), census.functions.to_string()),
        (
            "crc64".to_owned(),
            if has_crc { "checked" } else { "kept by no one" }.to_owned(),
        ),
        ("index".to_owned(), if known { "complete" } else { "none" }.to_owned()),
    ]);
    if let Some(types) = census.module_data.as_ref().filter(|types| !types.is_empty()) {
        let types: Vec<_> = types.iter().map(String::as_str).collect();
        position.insert("module_data".to_owned(), types.join(" "));
    }
    for (name, keys) in census.by_type() {
        position.insert(format!("keys_{name}"), keys.to_string());
    }
    let each = census.databases.iter();
    let mut databases: BTreeMap<u32, u64> = each.map(|(number, counts)| (*number, counts.keys())).collect();
    for (number, keys) in data
        .iter()
        .filter_map(|one| one.best().payload_facts.as_ref())
        .flat_map(|facts| &facts.databases)
    {
        payloads::count(&mut databases, *number, *keys);
    }
    let databases = databases.iter().map(|(number, keys)| format!("{number}:{keys}"));
    position.insert(
        "keys_by_database".to_owned(),
        databases.take(64).collect::<Vec<_>>().join(" "),
    );
    if let Some(number) = options.address.database {
        position.insert("database".to_owned(), number.to_string());
    }
    if let Some(one) = data.first() {
        position.insert("method".to_owned(), one.facts.method.clone());
    }
    if let [one] = data
        && one.facts.shard.is_none()
    {
        position.insert("replication_id".to_owned(), one.facts.replid.clone());
        position.insert("replication_offset".to_owned(), one.facts.offset.to_string());
        if one.node != options.address.location() {
            position.insert("node".to_owned(), one.node.clone());
        }
        position.extend(one.position.clone());
        return position;
    }
    position.insert("shards".to_owned(), data.len().to_string());
    for (number, one) in data.iter().enumerate() {
        let slots = one
            .facts
            .shard
            .as_ref()
            .map(|shard| shard.slots.as_str())
            .unwrap_or_default();
        let (node, facts) = (&one.node, &one.facts);
        let said = format!(
            "slots {slots} of {node}, {} keys, replication ID {}, offset {}, at {}",
            facts.census.keys(),
            facts.replid,
            facts.offset,
            one.at
        );
        position.insert(stored::shard_name(number), said);
    }
    let scanned = data.iter().any(|one| !one.position.is_empty());
    let consistency = if scanned { SCAN_CONSISTENCY } else { CLUSTER_CONSISTENCY };
    position.insert("consistency".to_owned(), consistency.to_owned());
    let from = |one: &Data| {
        one.position
            .get("read_from")
            .cloned()
            .unwrap_or_else(|| one.at.to_string())
    };
    position.insert("read_from".to_owned(), data.iter().map(from).min().unwrap_or_default());
    let to = data.iter().map(|one| one.at.to_string()).max();
    position.insert("read_to".to_owned(), to.unwrap_or_default());
    position
}
