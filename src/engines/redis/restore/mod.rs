//! Puts keys back into a live server.
//!
//! All stored bytes of the RDB are compared with their digests before the first write; the backup walked these very bytes
//! to their end. Then keys are sent as RESTORE commands in a pipeline, short strings many at a time where the target
//! holds nothing. A key is in one command, so it comes back as a whole or not at all; one that the target refuses is
//! named, and the rest goes on. A server that holds keys is refused unless it is said what becomes
//! of them. In a cluster each primary has a pipeline of its own, and keys go by their slots. Memory: one slice, one small
//! value, three buffers of commands for each server, the window of replies.

pub(crate) mod load;
pub(crate) mod payloads;
pub(crate) mod pipeline;
pub(crate) mod replay;
pub(crate) mod route;
pub(crate) mod target;
pub(crate) mod transcode;
pub(crate) mod users;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use self::load::{Conflict, LoadOptions, Loader, Sent, Tally};
use self::pipeline::{Batch, Meaning, Pipeline};
use self::route::{Nodes, Redirects, Routes};
use self::target::{Count, TargetFacts};
use self::transcode::ServerDialect;
use self::users::User;
use super::stored::{self, Found, Rdb, SLICE_BYTES, Verified};
use crate::archive::ArchiveReader;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::{Note, SharedReporter};
use crate::engines::redis::session::address::RedisAddress;
use crate::engines::redis::session::client::Client;
use crate::engines::redis::session::cluster::Topology;
use crate::engines::redis::session::connection::Connection;
use crate::engines::redis::session::holdings::refuse_unknown_cluster;
use crate::engines::redis::session::nodes;
use crate::engines::redis::session::server::Server;
use crate::engines::redis::wire::rdb::{Census, Flavour, Walker};

/// Commands for one node of a cluster are sent when they are so many bytes.
const SEND_BYTES: usize = 32 << 10;

/// Passes over an RDB at most, while slots of the cluster move; the pauses between them double and are half a minute together.
const PASSES: u32 = 9;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Options of a restore.
#[derive(Debug, Clone, Default)]
pub struct RedisRestoreOptions {
    /// Empties the target first.
    pub clean: bool,
    /// What becomes of keys that the target has.
    pub conflict: Option<Conflict>,
    /// Only keys that match one of these patterns.
    pub keys: Vec<String>,
    /// Users too.
    pub users: bool,
}

/// A restore into a live server.
#[derive(Debug)]
pub struct RedisRestore {
    /// Where it goes.
    pub address: RedisAddress,
    /// The archives of the source.
    pub reader: ArchiveReader,
    /// How.
    pub options: RedisRestoreOptions,
    /// Name towards the reporter.
    pub task: String,
    /// Progress and notes.
    pub reporter: SharedReporter,
    /// Ends the work early.
    pub cancel: CancellationToken,
}

/// What was found out before the first write.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RedisPlan {
    /// Product and version of the backup.
    pub from: String,
    /// Product and version of the target.
    pub to: String,
    /// Primaries of the cluster that it goes into; nothing for a single server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// Keys of the backup, by database.
    pub databases: BTreeMap<u32, u64>,
    /// Which keys change their database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<String>,
    /// Keys the target holds now; nothing where they cannot be counted.
    pub target_keys: Option<u64>,
    /// Function libraries the target holds now; nothing where they cannot be listed.
    pub target_functions: Option<usize>,
    /// What of the backup runs code with power, or gives it: function libraries, users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub powers: Vec<String>,
    /// Which function libraries do not come back, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// What is to be feared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Hashes of function libraries that the target has as they are.
    #[serde(skip)]
    libraries: HashSet<u128>,
    /// The target is known to be no replica.
    #[serde(skip)]
    is_primary: bool,
    #[serde(skip)]
    target: ServerDialect,
    #[serde(skip)]
    max_bulk_bytes: u64,
    /// The target takes no RESTORE, so keys are written by ordinary commands.
    pub by_commands: bool,
    /// The target takes MSETNX.
    #[serde(skip)]
    sets_together: bool,
    #[serde(skip)]
    routes: Routes,
    #[serde(skip)]
    rdbs: Vec<Rdb>,
    #[serde(skip)]
    users: Vec<User>,
}

/// Returns a line for what runs code on the server, and one for who may do what there.
fn powers(functions: u64, users: &[User]) -> Vec<String> {
    /// Users that are named.
    const NAMED: usize = 10;
    let mut lines = Vec::new();
    if functions > 0 {
        lines.push(format!("{functions} function libraries, whose code runs in the server"));
    }
    let names: Vec<&str> = users.iter().take(NAMED).map(User::name).collect();
    let more = users.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    if !names.is_empty() {
        lines.push(format!("users with their permissions: {}{more}", names.join(", ")));
    }
    lines
}

/// Why function libraries do not come back.
const LEFT_OUT: &str = "they are of a whole server, and the URL names one database";

/// Tells of keys that go into a database of another number.
fn moves(databases: &BTreeMap<u32, u64>, into: Option<u32>) -> Option<String> {
    let into = into?;
    let mut filled = databases.iter().filter(|(_, keys)| **keys > 0);
    let (from, _) = filled.next().filter(|(from, _)| **from != into)?;
    Some(format!("keys of database {from} go into database {into}"))
}

impl RedisRestore {
    /// Looks at backup and target; refuses what cannot work or was not allowed.
    pub async fn plan(&self) -> Result<RedisPlan> {
        if self.options.clean && !self.options.keys.is_empty() {
            return Err(
                Error::invalid("--clean empties the whole server, but --key restores only some keys")
                    .with_hint("Use --conflict replace with --key: other keys are not changed."),
            );
        }
        let rdbs = stored::server_rdbs(&self.reader).await?;
        let mut in_part = rdbs.iter().filter(|rdb| !rdb.is_whole());
        let unknown = in_part.find_map(|rdb| rdb.facts.unknown.as_ref());
        if let Some(unknown) = unknown.filter(|_| self.options.clean) {
            return Err(not_whole(unknown));
        }
        let users = match rdbs.first() {
            Some(rdb) if self.options.users => users::stored(&self.reader, rdb).await?,
            _ => Vec::new(),
        };
        let mut census = Census::of_none();
        for rdb in &rdbs {
            census.merge(&rdb.facts.census);
        }
        let databases = self.databases(&rdbs, &census).await?;
        // Once for all: a failover meanwhile must not cut the keys in two.
        let address = nodes::primary(&self.address).await?;
        let client = Client::open(&address).await?;
        let server = Server::ask(&client).await?;
        if !self.address.reading.only_node {
            refuse_unknown_cluster(&server, "the target")?;
        }
        let topology = Topology::of(&address, &server, &client).await?;
        let routes = match &topology {
            Some(topology) => Routes::cluster(topology),
            None => Routes::single(address.clone()),
        };
        let into = address.database;
        let wanted: Vec<u32> = match into {
            Some(number) => vec![number],
            None => databases.keys().copied().collect(),
        };
        self.refuse_several(&databases)?;
        let said = try_join_all(routes.nodes().iter().map(|node| target::ask(node, &wanted))).await?;
        self.refuse_keys(&said)?;
        let by_commands = said.iter().any(|said| said.by_commands);
        if let Some(unknown) = unknown.filter(|_| by_commands) {
            return Err(not_whole(unknown));
        }
        let emptied = self.options.clean;
        let said_libraries: Option<Vec<usize>> = said.iter().map(|said| said.libraries.count()).collect();
        let facts = rdbs
            .first()
            .map(|rdb| (rdb.facts.product.as_str(), rdb.facts.server_version.as_str()));
        let (product, version) = facts.unwrap_or_default();
        Ok(RedisPlan {
            from: format!("{product} {version}"),
            to: format!("{} {}", server.product(), server.version()),
            shards: topology.map(|topology| topology.shards.len()),
            moves: moves(&databases, into),
            databases,
            target_keys: said.iter().map(|said| said.keys.total()).sum(),
            // Where one database is meant, they are nothing to us.
            target_functions: said_libraries
                .filter(|_| into.is_none())
                .and_then(|counts| counts.into_iter().max()),
            powers: powers(if self.loads_functions() { census.functions } else { 0 }, &users),
            left_out: self
                .left_out(&rdbs)
                .map(|functions| format!("{functions} function libraries of the backup are not restored: {LEFT_OUT}")),
            warnings: self.warnings(&said, &rdbs),
            libraries: if emptied {
                HashSet::new()
            } else {
                target::common_libraries(&said)
            },
            is_primary: said.iter().all(|said| said.is_primary),
            target: ServerDialect::of(server.product(), server.version()),
            max_bulk_bytes: said.iter().map(|said| said.max_bulk_bytes).min().unwrap_or(0),
            by_commands,
            sets_together: said.iter().all(|said| said.sets_together),
            routes,
            rdbs,
            users,
        })
    }

    /// Counts the keys of the backup by database, those too that are stored as payloads.
    async fn databases(&self, rdbs: &[Rdb], census: &Census) -> Result<BTreeMap<u32, u64>> {
        let each = census.databases.iter();
        let mut databases: BTreeMap<u32, u64> = each.map(|(number, counts)| (*number, counts.keys())).collect();
        for rdb in rdbs {
            let facts = stored::payload_facts(&self.reader, rdb, &self.cancel).await?;
            for (number, keys) in facts.databases {
                let sum = databases.entry(number).or_default();
                *sum = sum.saturating_add(keys);
            }
        }
        Ok(databases)
    }

    /// Returns whether function libraries come back too: they are of a whole server.
    fn loads_functions(&self) -> bool {
        self.options.keys.is_empty() && self.address.database.is_none()
    }

    /// Warns where the keys find no room.
    fn warnings(&self, said: &[TargetFacts], rdbs: &[Rdb]) -> Vec<String> {
        let unknown = rdbs.iter().filter(|rdb| !rdb.is_whole());
        let unknown = unknown.filter_map(|rdb| rdb.facts.unknown.as_ref());
        let mut warnings: Vec<_> = unknown
            .map(|unknown| format!("keys after {unknown} in the stored RDB can only be restored into a file"))
            .collect();
        if !self.options.keys.is_empty() {
            return warnings;
        }
        let bytes = rdbs.iter().map(Rdb::memory_bytes).fold(0, u64::saturating_add);
        let each = bytes / exact::u64_from(said.len().max(1));
        warnings.extend(
            said.iter()
                .filter_map(|said| said.memory.warning(each, self.options.clean)),
        );
        warnings
    }

    /// Returns how many function libraries stay out because one database alone is meant, if some do.
    fn left_out(&self, rdbs: &[Rdb]) -> Option<u64> {
        let wanted = self.address.database.is_some() && self.options.keys.is_empty();
        let functions = rdbs.iter().map(|rdb| rdb.facts.census.functions).max();
        functions.filter(|functions| wanted && *functions > 0)
    }

    /// Keys of several databases do not go into one: those of the same name would replace each other.
    fn refuse_several(&self, databases: &BTreeMap<u32, u64>) -> Result<()> {
        let filled: Vec<String> = databases
            .iter()
            .filter(|(_, keys)| **keys > 0)
            .map(|(n, _)| n.to_string())
            .collect();
        match self.address.database {
            Some(into) if filled.len() > 1 => Err(Error::invalid(format!(
                "the backup has keys in databases {}, but the URL selects only database {into}",
                filled.join(", ")
            ))
            .with_hint(
                "Remove the number from the URL to restore each into the database of its number. A backup of one \
                 database can go into any other.",
            )),
            _ => Ok(()),
        }
    }

    /// What nobody could count is not nothing.
    fn refuse_keys(&self, said: &[TargetFacts]) -> Result<()> {
        if self.options.clean || self.options.conflict.is_some() {
            return Ok(());
        }
        let keys: u64 = said.iter().map(|said| said.keys.least()).sum();
        let unknown = said.iter().find_map(|said| said.keys.unknown());
        if let Some(why) = unknown.filter(|_| keys == 0) {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("unable to determine whether the target holds keys: {why}"),
            )
            .with_hint(
                "Give the user +info, or +select and +dbsize; or choose --clean, or --conflict replace, skip or fail.",
            ));
        }
        if keys > 0 {
            return Err(
                Error::new(ErrorKind::AlreadyExists, format!("the target holds {keys} keys")).with_hint(
                    "Add --clean to replace all of them (a snapshot of them is taken first), or --conflict \
                     replace, skip or fail to add the keys of the backup to them.",
                ),
            );
        }
        Ok(())
    }

    /// Proves all of the stored RDBs.
    pub async fn verify(&self) -> Result<Vec<Verified>> {
        self.reporter.phase(&self.task, "verification");
        let mut verified = Vec::new();
        for rdb in stored::server_rdbs(&self.reader).await? {
            let act = || format!("verify \"{}\"", rdb.stream);
            // Nothing is emptied for a part.
            let clean = self.options.clean;
            let proven = stored::prove(&self.reader, &rdb, clean, &self.cancel).await;
            let proven = proven.with_context(act)?;
            if let Some(what) = proven.ends_at.as_ref().filter(|_| clean) {
                return Err(stored::ends_early(what)).with_context(act);
            }
            verified.push(proven);
        }
        Ok(verified)
    }

    /// Empties the target if that was asked for, then sends the keys.
    pub async fn run(&self, plan: RedisPlan, verified: Vec<Verified>) -> Result<Tally> {
        let mut tally = Tally::default();
        for warning in &plan.warnings {
            self.reporter
                .note(&self.task, Note::new("target", self.address.location(), warning));
        }
        if let Some(functions) = self.left_out(&plan.rdbs) {
            let advice = "Remove the number from the URL to restore the whole backup.";
            let error = format!("{functions} of them are not restored: {LEFT_OUT}");
            tally.lose("function libraries", "of the backup", error, advice);
        }
        if self.options.clean {
            for address in plan.routes.nodes() {
                let keys = plan.target_keys != Some(0);
                target::empty(address, keys, plan.target_functions, &mut tally).await?;
            }
        }
        let before = Count::take(plan.routes.nodes()).await?;
        let data = module_data(&verified);
        let conflict = if self.options.clean {
            None
        } else {
            self.options.conflict
        };
        let mut routes = plan.routes.clone();
        for (number, (rdb, verified)) in plan.rdbs.iter().zip(verified).enumerate() {
            self.reporter.phase(&self.task, "data");
            self.load(&plan, (rdb, verified), (conflict, &data), &mut routes, &mut tally)
                .await?;
            if plan.by_commands || !tally.again.is_empty() {
                Box::pin(self.replay(&plan, rdb, conflict, &routes, &mut tally)).await?;
            }
            let taken = std::mem::take(&mut tally.taken);
            tally.foreign.extend(taken.into_iter().map(|ordinal| (number, ordinal)));
            if rdb.facts.payloads > 0 {
                Box::pin(self.payloads(&plan, rdb, conflict, &routes, &mut tally)).await?;
                let taken = std::mem::take(&mut tally.taken);
                let taken = taken.into_iter().map(|record| (number, record));
                tally.foreign_payloads.extend(taken);
            }
        }
        self.compare(&plan, &before, &routes, &mut tally).await?;
        for (number, address) in plan.routes.nodes().iter().enumerate() {
            if !plan.users.is_empty() {
                users::restore(address, plan.users.clone(), number == 0, &mut tally).await?;
            }
        }
        Ok(tally)
    }

    /// Names what the target did not take or keep beside single keys.
    async fn compare(&self, plan: &RedisPlan, before: &Count, routes: &Routes, tally: &mut Tally) -> Result<()> {
        let after = Count::take(routes.nodes()).await?;
        before.compare(&after, jiff::Timestamp::now().as_millisecond(), tally);
        let types: Vec<_> = std::mem::take(&mut tally.module_data).into_iter().collect();
        if !types.is_empty() && self.options.keys.is_empty() {
            let error = "modules keep it outside keys, and no command can restore it into a live server";
            tally.lose(
                "module data of type",
                &types.join(", "),
                error.to_owned(),
                load::FILE_ADVICE,
            );
        }
        if self.address.reading.sentinel.is_some() {
            let now = self.cancel.run_until_cancelled(nodes::primary_now(&self.address)).await;
            match now.ok_or_else(|| Error::new(ErrorKind::Cancelled, "cancelled"))? {
                Ok(Ok(now)) if plan.routes.nodes().contains(&now) => {}
                Ok(Ok(_)) => {
                    let error = "another server became the primary during the load and may lack keys";
                    let advice = "Restore again with --conflict skip, into the new primary.";
                    tally.lose("server", "of the target", error.to_owned(), advice);
                }
                Ok(Err(why)) | Err(why) => {
                    let error = format!("unable to determine whether it is still the primary: {}", why.chain());
                    let advice = "Ask the Sentinel (SENTINEL MASTER); if it names another server, restore again with \
                                  --conflict skip.";
                    tally.lose("server", "of the target", error, advice);
                }
            }
        }
        if !plan.is_primary {
            let error = "unable to determine whether it is a replica, which its primary would overwrite";
            tally.lose(
                "server",
                "of the target",
                error.to_owned(),
                "Give the user +info or +role.",
            );
        }
        Ok(())
    }

    /// Sends the keys of one RDB; in a cluster, again those whose slots moved meanwhile.
    async fn load(
        &self,
        plan: &RedisPlan,
        (rdb, verified): (&Rdb, Verified),
        (conflict, module_data): (Option<Conflict>, &BTreeSet<String>),
        routes: &mut Routes,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut only = None;
        for pass in 0..PASSES {
            let how = LoadOptions {
                patterns: self.options.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
                conflict,
                target: plan.target,
                by_commands: plan.by_commands,
                // Keys that the target may hold are each decided by themselves.
                grouped: plan.sets_together && conflict.is_none(),
                max_bulk_bytes: plan.max_bulk_bytes,
                source: if rdb.facts.valkey_magic {
                    Flavour::Valkey
                } else {
                    Flavour::Redis
                },
                functions: self.loads_functions() && pass == 0,
                into: self.address.database,
                libraries: plan.libraries.clone(),
                module_data: module_data.clone(),
                module_advice: match rdb.facts.database {
                    Some(_) => load::WHOLE_ADVICE,
                    None => load::FILE_ADVICE,
                },
                now_ms: jiff::Timestamp::now().as_millisecond(),
                only: only.take(),
            };
            let redirects = Redirects::default();
            let follow = routes.is_cluster() && pass + 1 < PASSES;
            let loader = Loader::new(how, routes.clone(), verified.large.clone());
            let (mut found, followed) = self.send(rdb, loader, follow.then_some(&redirects)).await?;
            *routes = followed;
            let moved = std::mem::take(&mut found.moved);
            tally.merge(found);
            if moved.is_empty() {
                break;
            }
            only = Some(moved.into_iter().collect());
            routes.follow_moved(&redirects);
            routes.follow_asked(&redirects);
            let pause = FIRST_PAUSE.saturating_mul(1 << pass.min(5));
            let slept = self.cancel.run_until_cancelled(tokio::time::sleep(pause)).await;
            slept.ok_or_else(|| Error::new(ErrorKind::Cancelled, "cancelled"))?;
        }
        Ok(())
    }

    /// Walks one RDB and sends what the loader makes of it.
    async fn send(&self, rdb: &Rdb, mut loader: Loader, redirects: Option<&Redirects>) -> Result<(Tally, Routes)> {
        let mut pipelines = Pipelines {
            open: Vec::new(),
            conflict: loader.conflict(),
            redirects,
        };
        let mut walker = Walker::trusting(rdb.facts.understood());
        let mut chunks = stored::open(&self.reader, rdb).await?;
        while let Some((_, data)) = chunks.next().await? {
            for slice in data.chunks(SLICE_BYTES) {
                stored::stop_if(&self.cancel)?;
                walker.feed(slice, &mut loader)?;
                let keys = pipelines.send(&mut loader, SEND_BYTES).await?;
                self.reporter.advance(&self.task, exact::u64_from(slice.len()), keys);
                if let Some(redirects) = redirects {
                    loader.routes.follow_moved(redirects);
                }
            }
        }
        match rdb.found(&walker) {
            Found::All => {}
            Found::AsBackup(unknown) | Found::Less(unknown) => loader.tally.lose(
                "the rest of",
                &rdb.stream,
                format!("it holds {unknown}; the keys after it are not restored"),
                "Restore into a file: --into file:dump.rdb, for a server of the version of the backup.",
            ),
            Found::CutShort => return Err(Error::corrupt("the stored RDB ends before its last key")),
        }
        loader.close_group();
        pipelines.send(&mut loader, 0).await?;
        let mut tally = std::mem::take(&mut loader.tally);
        for pipeline in pipelines.open {
            tally.merge(pipeline.finish().await?);
        }
        Ok((tally, loader.routes))
    }

    /// Sends the payloads of keys whose form is not known.
    async fn payloads(
        &self,
        plan: &RedisPlan,
        rdb: &Rdb,
        conflict: Option<Conflict>,
        routes: &Routes,
        tally: &mut Tally,
    ) -> Result<()> {
        let how = payloads::PayloadOptions {
            records: rdb.facts.payloads,
            patterns: self.options.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            conflict,
            into: self.address.database,
            max_bulk_bytes: plan.max_bulk_bytes,
            now_ms: jiff::Timestamp::now().as_millisecond(),
            cancel: &self.cancel,
        };
        let mut nodes = Nodes::open(routes.clone()).await?;
        let pieces = stored::open_payloads(&self.reader, rdb).await?;
        let sent = payloads::restore(&mut nodes, pieces, how, tally).await;
        sent.context("send keys as DUMP gave them")
    }

    /// Writes the keys whose payloads the target refuses by ordinary commands.
    async fn replay(
        &self,
        plan: &RedisPlan,
        rdb: &Rdb,
        conflict: Option<Conflict>,
        routes: &Routes,
        tally: &mut Tally,
    ) -> Result<()> {
        let how = replay::ReplayOptions {
            ordinals: (!plan.by_commands).then(|| std::mem::take(&mut tally.again).into_iter().collect()),
            patterns: self.options.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            // What the target got since it was found empty is not overwritten.
            conflict: conflict.or((!plan.by_commands).then_some(Conflict::Fail)),
            target: plan.target,
            into: self.address.database,
            now_ms: jiff::Timestamp::now().as_millisecond(),
            cancel: &self.cancel,
        };
        self.reporter.phase(&self.task, "keys restored by ordinary commands");
        let mut nodes = Nodes::open(routes.clone()).await?;
        let chunks = stored::open(&self.reader, rdb).await?;
        let from = (chunks, rdb.facts.understood());
        let replayed = replay::replay(&mut nodes, from, how, tally).await;
        replayed.context("write keys by ordinary commands")
    }
}

impl RedisPlan {
    /// Returns whether the target holds something that `--clean` removes, or may hold it.
    pub fn removes_something(&self) -> bool {
        self.target_keys != Some(0) || self.target_functions.is_some_and(|libraries| libraries > 0)
    }
}

/// Refuses what would replace a whole by a part.
fn not_whole(unknown: &str) -> Error {
    Error::unsupported(format!("the stored RDB holds {unknown}")).with_hint(
        "Restore it as a file (--into file:dump.rdb), for a server of its version. Without --clean, the keys before \
         it can be restored into a server that accepts RESTORE.",
    )
}

/// Returns the types of modules that keep data beside the keys.
fn module_data(verified: &[Verified]) -> BTreeSet<String> {
    let each = verified.iter().filter_map(|one| one.census.module_data.as_ref());
    each.flatten().cloned().collect()
}

/// One pipeline to each server; of a cluster, those that keys go to.
struct Pipelines<'a> {
    open: Vec<Pipeline>,
    conflict: Option<Conflict>,
    redirects: Option<&'a Redirects>,
}

impl Pipelines<'_> {
    /// Sends the commands for each server, if they are so many bytes. Returns how many keys they hold.
    async fn send(&mut self, loader: &mut Loader, least: usize) -> Result<u64> {
        let at_hand = loader.node();
        let mut keys = 0;
        for node in 0..loader.routes.nodes().len() {
            loader.turn_to(node);
            if loader.out.is_empty() || loader.routes.is_cluster() && loader.out.len() < least {
                continue;
            }
            while self.open.len() <= node {
                self.connect(&loader.routes).await?;
            }
            keys += loader.sent.iter().map(Sent::keys).sum::<usize>();
            if let Some(pipeline) = self.open.get_mut(node) {
                let batch = Batch {
                    out: std::mem::take(&mut loader.out),
                    sent: std::mem::take(&mut loader.sent),
                    cuts: std::mem::take(&mut loader.cuts),
                    open: node == at_hand && loader.is_open(),
                };
                loader.out = pipeline.send(batch).await?;
            }
        }
        loader.turn_to(at_hand);
        Ok(exact::u64_from(keys))
    }

    async fn connect(&mut self, routes: &Routes) -> Result<()> {
        let Some(address) = routes.nodes().get(self.open.len()) else {
            return Ok(());
        };
        let meaning = Meaning {
            conflict: self.conflict,
            redirects: self.redirects.map(|redirects| (redirects.clone(), address.clone())),
            nodes: routes.nodes().len(),
        };
        self.open
            .push(Pipeline::start(Connection::open(address).await?, meaning)?);
        Ok(())
    }
}
