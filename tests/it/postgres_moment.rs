//! The first moment of a backup: what others commit while it waits for its locks, reads definitions, or begins to read rows.
//!
//! Each change is held open in a transaction until the backup is seen to wait for it, so nothing here rests on time.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use wirevault::Result;
use wirevault::engines::SourceOutcome;
use wirevault::engines::postgres::{ConnectOptions, Connection, PostgresRestore, PostgresSource, RestoreOptions};

use crate::support::archives::Vault;
use crate::support::postgres::Cluster;

struct Moment {
    cluster: Arc<Cluster>,
    name: String,
}

type Running = JoinHandle<(Vault, Result<SourceOutcome>)>;

impl Moment {
    fn new(setup: &str) -> Self {
        let cluster = Cluster::shared();
        let name = cluster.fresh_name();
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        cluster.psql(&name, setup);
        Self { cluster, name }
    }

    async fn session(&self) -> Connection {
        Connection::open(&self.cluster.options(&self.name)).await.unwrap()
    }

    /// Begins a backup.
    fn start(&self) -> Running {
        start(self.cluster.options(&self.name))
    }

    /// Returns a session with an open transaction that made a change, and a backup that waits for it.
    async fn waiting_for(&self, change: &str) -> (Connection, Running) {
        let mut holder = self.session().await;
        holder.execute(&format!("BEGIN; {change}")).await.unwrap();
        let running = self.start();
        wait_until_it_waits(&mut holder, &running).await;
        (holder, running)
    }

    /// Restores beside and returns what a query says there.
    async fn restored(&self, vault: &Vault, question: &str) -> String {
        let copy = self.cluster.fresh_name();
        let restore = PostgresRestore {
            target: self.cluster.options(&copy),
            reader: vault.reader().await,
            options: RestoreOptions {
                verify_rows: true,
                ..RestoreOptions::default()
            },
            reporter: vault.reporter(),
            task: "s".into(),
            cancel: tokio_util::sync::CancellationToken::new(),
        };
        let report = restore.run().await.unwrap();
        assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
        self.cluster.psql(&copy, question).trim().to_owned()
    }
}

fn start(options: ConnectOptions) -> Running {
    tokio::spawn(async move {
        let mut vault = Vault::new();
        let outcome = vault.backup(&PostgresSource::new(options), &std::env::temp_dir()).await;
        (vault, outcome)
    })
}

/// Waits until a session waits for a relation that the holder has locked.
async fn wait_until_it_waits(holder: &mut Connection, running: &Running) {
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation' \
                 AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    while holder.query(waits).await.unwrap().scalar() != Some("t") {
        assert!(!running.is_finished(), "the backup does not wait for the change");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Tables that are rewritten, emptied, exchanged and dropped by one transaction, for which the backup waits before its snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_while_locks_are_waited_for_is_in_the_backup_whole() {
    let moment = Moment::new(
        "CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied SELECT g FROM generate_series(1, 1000) g; \
         CREATE TABLE counted (n int); INSERT INTO counted VALUES (1000); \
         CREATE TABLE retyped (id int PRIMARY KEY, v text); INSERT INTO retyped VALUES (1, 'a'); CREATE INDEX ON retyped (v, id); \
         CREATE TABLE live (v text); INSERT INTO live VALUES ('old'); CREATE TABLE live_new (v text); INSERT INTO live_new VALUES ('new'); \
         CREATE SCHEMA gone; CREATE TABLE gone.t (id int); CREATE VIEW gone.v AS SELECT id FROM gone.t; \
         CREATE FUNCTION gone.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE TABLE again (id int); INSERT INTO again VALUES (1); CREATE TABLE becomes (id int); \
         CREATE TABLE parts (id int) PARTITION BY LIST (id); CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1); INSERT INTO parts VALUES (1)",
    );
    let (mut holder, running) = moment
        .waiting_for(
            "TRUNCATE emptied; INSERT INTO emptied SELECT g FROM generate_series(1, 7) g; UPDATE counted SET n = 7; \
             ALTER TABLE retyped ALTER id TYPE bigint; ALTER TABLE retyped ADD more text DEFAULT clock_timestamp()::text; \
             ALTER TABLE live RENAME TO live_old; ALTER TABLE live_new RENAME TO live; DROP SCHEMA gone CASCADE; \
             DROP TABLE again; CREATE TABLE again (id int, v text); INSERT INTO again VALUES (1, 'x'), (2, 'y'); \
             DROP TABLE becomes; CREATE VIEW becomes AS SELECT 5 AS id; \
             ALTER TABLE parts DETACH PARTITION part_1; DROP TABLE part_1; CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1); \
             INSERT INTO parts VALUES (1), (1)",
        )
        .await;
    holder.execute("COMMIT").await.unwrap();
    let (vault, outcome) = running.await.unwrap();
    outcome.unwrap();
    let question = "SELECT (SELECT count(*) FROM emptied), (SELECT n FROM counted), (SELECT pg_typeof(id) || ' ' || count(more) FROM retyped GROUP BY id), \
        (SELECT v FROM live), (SELECT v FROM live_old), to_regnamespace('gone') IS NULL, (SELECT count(v) FROM again), (SELECT id FROM becomes), \
        (SELECT count(*) FROM parts)";
    assert_eq!(moment.restored(&vault, question).await, "7|7|bigint 1|new|old|t|2|5|2");
}

/// What no table lock holds in place: the backup meets the locks of these changes while it reads definitions.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_while_definitions_are_read_begins_the_backup_again() {
    let moment = Moment::new(
        "CREATE TABLE stays (id int); INSERT INTO stays VALUES (1), (2); \
         CREATE VIEW dropped AS SELECT 1 AS a; CREATE VIEW redefined AS SELECT 1 AS a; \
         CREATE SEQUENCE numbers START 5; CREATE SEQUENCE renamed START 5; CREATE MATERIALIZED VIEW stored AS SELECT 1 AS a",
    );
    for (change, question, answer) in [
        (
            "DROP VIEW dropped",
            "SELECT to_regclass('dropped') IS NULL, (SELECT count(*) FROM stays)",
            "t|2",
        ),
        (
            "CREATE OR REPLACE VIEW redefined AS SELECT 2 AS a",
            "SELECT a FROM redefined",
            "2",
        ),
        (
            "DROP SEQUENCE numbers; ALTER SEQUENCE renamed RENAME TO other",
            "SELECT to_regclass('numbers') IS NULL AND to_regclass('renamed') IS NULL, nextval('other')",
            "t|5",
        ),
        (
            "DROP MATERIALIZED VIEW stored",
            "SELECT to_regclass('stored') IS NULL",
            "t",
        ),
    ] {
        let (mut holder, running) = moment.waiting_for(change).await;
        holder.execute("COMMIT").await.unwrap();
        let (vault, outcome) = running.await.unwrap();
        outcome.unwrap_or_else(|e| panic!("{change}: {}", e.chain()));
        assert_eq!(moment.restored(&vault, question).await, answer, "{change}");
    }
}

/// Definitions are printed from the newest catalogs: those read before and after a change do not belong together.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_before_and_after_a_change_are_never_mixed() {
    let moment = Moment::new(
        "CREATE SCHEMA a; CREATE TYPE a.mood AS ENUM ('sad', 'happy'); CREATE TABLE a.t (id int, m a.mood); INSERT INTO a.t VALUES (1, 'sad'); \
         CREATE FUNCTION a.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW public.held AS SELECT 1 AS x; \
         CREATE VIEW public.z AS SELECT id, m, a.f() AS f FROM a.t",
    );
    let (mut holder, running) = moment.waiting_for("LOCK TABLE held IN ACCESS EXCLUSIVE MODE").await;
    moment.cluster.psql(
        &moment.name,
        "ALTER SCHEMA a RENAME TO b; ALTER TYPE b.mood RENAME VALUE 'sad' TO 'blue'; \
         CREATE OR REPLACE FUNCTION b.f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    );
    holder.execute("COMMIT").await.unwrap();
    let (vault, outcome) = running.await.unwrap();
    outcome.unwrap();
    assert_eq!(moment.restored(&vault, "SELECT id, m, f FROM z").await, "1|blue|2");
}

/// Passes bytes on both ways, and calls `hook` before it passes on a message of the client that holds `text`.
async fn hooked(to: u16, text: &'static str, hook: impl Fn() + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hook = Arc::new(hook);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let hook = Arc::clone(&hook);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let up = async {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                        let found = buffer[..count].windows(text.len()).any(|w| w == text.as_bytes());
                        if found {
                            tokio::task::block_in_place(|| hook());
                        }
                        if to_server.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                };
                tokio::select! { () = up => {}, _ = tokio::io::copy(&mut from_server, &mut to_client) => {} }
            });
        }
    });
    port
}

/// A locked table can lose its schema's name, and an enum its labels, when rows are about to be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_renamed_behind_the_snapshot_is_read_on() {
    let moment = Moment::new(
        "CREATE SCHEMA a; CREATE TYPE public.mood AS ENUM ('sad', 'happy'); CREATE TABLE a.t (id int, m public.mood); \
         INSERT INTO a.t SELECT g, 'happy' FROM generate_series(1, 100) g",
    );
    let (cluster, name) = (Arc::clone(&moment.cluster), moment.name.clone());
    let once = std::sync::Once::new();
    let port = hooked(moment.cluster.port, "COPY \"a\".\"t\"", move || {
        once.call_once(|| {
            cluster.psql(
                &name,
                "ALTER SCHEMA a RENAME TO b; ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
            );
        });
    })
    .await;
    let mut options = moment.cluster.options(&moment.name);
    options.port = port;
    let (vault, outcome) = start(options).await.unwrap();
    let outcome = outcome.unwrap();
    assert_eq!(
        moment.restored(&vault, "SELECT count(*), min(m::text) FROM a.t").await,
        "100|happy"
    );
    let told = outcome.note_counts.get("changed-types");
    assert_eq!(told, Some(&1), "{:?}", vault.reporter.notes());
}

/// A TRUNCATE that waits for the backup stands between its locks: whoever has them reads the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_for_which_a_truncate_waits_is_read_by_the_session_with_the_locks() {
    let moment = Moment::new(
        "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 100); CREATE TABLE u (id int); INSERT INTO u VALUES (7)",
    );
    let (cluster, name) = (Arc::clone(&moment.cluster), moment.name.clone());
    let once = std::sync::Once::new();
    let port = hooked(moment.cluster.port, "COPY \"public\".\"t\"", move || {
        once.call_once(|| {
            let (other, database) = (Arc::clone(&cluster), name.clone());
            std::thread::spawn(move || other.psql(&database, "TRUNCATE t"));
            let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
            while cluster.psql(&name, waits).trim() != "1" {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
    })
    .await;
    let mut options = moment.cluster.options(&moment.name);
    options.port = port;
    let (vault, outcome) = start(options).await.unwrap();
    let told = outcome.unwrap().note_counts;
    assert!(told.is_empty(), "{told:?}");
    let question = "SELECT count(*), sum(id), (SELECT id FROM u) FROM t";
    assert_eq!(moment.restored(&vault, question).await, "100|5050|7");
}

/// Beginning again has an end: what never stands still is backed up with a warning, what is gone each time ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_never_stands_still_is_told() {
    let moment = Moment::new("CREATE TABLE t (id int); CREATE VIEW v AS SELECT 0 AS n; CREATE VIEW w AS SELECT 0 AS n");
    for (change, fails) in [
        ("CREATE OR REPLACE VIEW v AS SELECT 1 AS n", false),
        ("DROP VIEW w; CREATE VIEW w AS SELECT 1 AS n", true),
    ] {
        let (cluster, name) = (Arc::clone(&moment.cluster), moment.name.clone());
        let port = hooked(moment.cluster.port, "pg_get_viewdef", move || {
            cluster.psql(&name, change);
        })
        .await;
        let mut options = moment.cluster.options(&moment.name);
        options.port = port;
        let (vault, outcome) = start(options).await.unwrap();
        if fails {
            let error = outcome.unwrap_err();
            assert!(error.hint().unwrap().contains("fewer changes"), "{}", error.chain());
        } else {
            let told = outcome.unwrap().note_counts;
            assert_eq!(
                told.get("changed-definitions"),
                Some(&1),
                "{:?}",
                vault.reporter.notes()
            );
            assert_eq!(moment.restored(&vault, "SELECT n FROM v").await, "1");
        }
    }
}
