//! A schema written by us and applied to a fresh database must dump like the original: `pg_dump` is the judge.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_trait::async_trait;
use tokio_postgres::{Client, NoTls};
use wirevault::Result;
use wirevault::engines::postgres::schema::{self, Graph, SchemaOptions, Section, SqlSink, TocItem};
use wirevault::engines::postgres::session::settings::{self, Context, Session};

use crate::support::program::Program;

const FIXTURE: &str = include_str!("../../fixtures/schema_ordinary.sql");
const RARE: &str = include_str!("../../fixtures/schema_rare.sql");
const ROLES: &str = "CREATE ROLE wv_super SUPERUSER; CREATE ROLE wv_owner; CREATE ROLE wv_reader LOGIN; CREATE ROLE \"wv \"\"other\"\"\"; GRANT wv_reader TO wv_owner WITH ADMIN OPTION;";

const DATABASE: &str = "ALTER DATABASE original OWNER TO wv_owner; GRANT CONNECT ON DATABASE original TO wv_reader WITH GRANT OPTION; \
    REVOKE TEMPORARY ON DATABASE original FROM PUBLIC; COMMENT ON DATABASE original IS '50% of it''s \\'; \
    ALTER DATABASE original CONNECTION LIMIT 70; ALTER DATABASE original SET search_path TO app, \"$user\"; \
    ALTER DATABASE original SET \"my.own\" TO '100% ''quoted'' '; ALTER ROLE wv_reader IN DATABASE original SET work_mem TO '7MB'; \
    ALTER ROLE wv_reader SET DateStyle TO 'ISO, DMY';";

/// What belongs to the database itself, in one text.
const PROPERTIES: &str = "SELECT pg_get_userbyid(d.datdba) || (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(d.datacl) a) || shobj_description(d.oid, 'pg_database') || d.datconnlimit || \
    (SELECT string_agg(COALESCE(r.rolname, '') || s.setconfig::text, ';' ORDER BY r.rolname) FROM pg_db_role_setting s \
    LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = d.oid) FROM pg_database d WHERE d.datname = $1";

/// A cluster of its own on a free port, stopped when dropped. `root` is the chroot that holds its programs, if any.
pub(crate) struct Cluster {
    bin: PathBuf,
    root: Option<PathBuf>,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").map_or(0, |m| std::os::unix::fs::MetadataExt::uid(&m)) == 0
}

impl Cluster {
    /// Runs a server program; the server refuses to run as root, so root steps down.
    pub(crate) fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = match (&self.root, is_root()) {
            (Some(root), _) => {
                let mut command = Command::new("chroot");
                command.arg("--userspec=postgres:postgres").arg(root);
                command
            }
            (None, true) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
                command
            }
            (None, false) => return Command::new(path),
        };
        command.arg(path).env("HOME", "/tmp");
        command
    }

    /// Returns the path of a file of the cluster as its programs see it.
    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        match &self.root {
            Some(root) => Path::new("/").join(path.strip_prefix(root).unwrap()),
            None => path,
        }
    }

    /// Starts PostgreSQL 18 from the chroot that `tests/servers/pg18.sh` makes: `pg_dump` is the judge, so the server alone
    /// is not enough. None for a user who cannot enter a chroot.
    pub(crate) fn start_18() -> Option<Self> {
        if !is_root() {
            eprintln!("not root: PostgreSQL 18 is skipped");
            return None;
        }
        let root = std::env::var_os("WIREVAULT_TEST_PG18_ROOT").expect("tests/servers/setup.sh makes a chroot");
        Some(Self::start_in("/usr/lib/postgresql/18/bin", Some(root.into())))
    }

    pub(crate) fn start(bin: &str) -> Self {
        Self::start_in(bin, None)
    }

    fn start_in(bin: &str, root: Option<PathBuf>) -> Self {
        let dir = match &root {
            Some(root) => tempfile::tempdir_in(root.join("tmp")),
            None => tempfile::tempdir(),
        }
        .unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let cluster = Self {
            bin: bin.into(),
            root,
            dir,
            port,
        };
        let mut own = match &cluster.root {
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg("chown");
                command
            }
            None => Command::new("chown"),
        };
        own.arg("postgres").arg(cluster.path("")).status().unwrap();
        let made = cluster
            .program("initdb")
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-N",
                "-D",
            ])
            .arg(cluster.path("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off");
        let started = cluster
            .program("pg_ctl")
            .args(["start", "-w", "-l"])
            .arg(cluster.path("log"))
            .arg("-o")
            .arg(options)
            .arg("-D")
            .arg(cluster.path("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(started.success());
        cluster
    }

    async fn connect(&self, database: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn dump(&self, database: &str) -> Vec<String> {
        let out = self
            .program("pg_dump")
            .args([
                "--schema-only",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &self.port.to_string(),
                database,
            ])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout)
            .unwrap()
            .lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self
            .program("pg_ctl")
            .args(["stop", "-m", "immediate", "-D"])
            .arg(self.path("data"))
            .output();
    }
}

#[derive(Default)]
struct Collected(Vec<(TocItem, String)>);

#[async_trait]
impl SqlSink for Collected {
    async fn item(&mut self, item: TocItem, sql: &str) -> Result<()> {
        assert!(sql.ends_with(";\n"), "{sql}");
        self.0.push((item, sql.to_owned()));
        Ok(())
    }
}

async fn read(client: &Client) -> (Graph, Vec<(TocItem, String)>) {
    client
        .batch_execute(&settings::sql(Session::Reading, &Context::none()))
        .await
        .unwrap();
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .unwrap();
    let graph = Graph::read(client, &SchemaOptions::default()).await.unwrap();
    let mut sink = Collected::default();
    for section in [Section::PreData, Section::Data, Section::PostData] {
        graph.write(client, &[], section, &mut sink).await.unwrap();
    }
    graph.census(client, false).await.unwrap();
    assert_eq!(
        graph.take_findings(),
        [],
        "the census finds every object in what was written"
    );
    client.batch_execute("COMMIT").await.unwrap();
    (graph, sink.0)
}

/// Returns the lines of a fixture that a server of this major version knows.
fn known_to(major: i32, fixture: &str) -> String {
    let (mut kept, mut on) = (String::new(), true);
    for line in fixture.split_inclusive('\n') {
        if let Some(since) = line.strip_prefix("-- since ") {
            on = since.trim().parse::<i32>().unwrap() <= major;
        } else if line.starts_with("-- end") {
            on = true;
        } else if on {
            kept.push_str(line);
        }
    }
    kept
}

/// Builds a database from fixtures, reads its schema, writes it into another one, and has `pg_dump` compare both.
async fn compare(cluster: &Cluster, fixtures: &[&str]) -> (Client, Client) {
    let maintenance = cluster.connect("postgres").await;
    maintenance.batch_execute(ROLES).await.unwrap();
    for name in ["original", "restored"] {
        maintenance
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .unwrap();
    }
    let original = cluster.connect("original").await;
    for fixture in fixtures {
        original.batch_execute(fixture).await.unwrap();
    }
    // Later than the fixtures: settings of a database hold for sessions that begin afterwards.
    maintenance.batch_execute(DATABASE).await.unwrap();
    original.batch_execute("RESET ALL").await.unwrap();
    let (graph, items) = read(&original).await;
    assert_eq!(graph.notes(), [], "every class of the fixture is carried");
    assert!(graph.object_count() > 100, "{}", graph.object_count());
    let restored = cluster.connect("restored").await;
    restored
        .batch_execute("SET check_function_bodies = off; SET row_security = off; SELECT pg_catalog.set_config('search_path', '', false)")
        .await
        .unwrap();
    let mut failures = Vec::new();
    for (item, sql) in &items {
        if let Err(error) = restored.batch_execute(sql).await {
            failures.push(format!("{} {}: {error:?}\n{sql}", item.kind, item.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let (want, got) = (cluster.dump("original"), cluster.dump("restored"));
    let only = |a: &[String], b: &[String]| a.iter().filter(|l| !b.contains(l)).cloned().collect::<Vec<_>>();
    assert!(want.len() > 500, "{}", want.len());
    assert_eq!(
        want,
        got,
        "lost: {:#?}\nadded: {:#?}",
        only(&want, &got),
        only(&got, &want)
    );
    let mut properties = Vec::new();
    for name in ["original", "restored"] {
        let row = maintenance.query_one(PROPERTIES, &[&name]).await.unwrap();
        properties.push(row.get::<_, String>(0));
    }
    assert!(
        properties[0].contains("50%") && properties[0].contains("work_mem"),
        "{properties:?}"
    );
    assert_eq!(properties[0], properties[1]);
    (maintenance, restored)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_object_comes_back_on_15() {
    let cluster = Cluster::start("/usr/lib/postgresql/15/bin");
    compare(&cluster, &[FIXTURE, &known_to(15, RARE)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_object_comes_back_on_18() {
    let Some(cluster) = Cluster::start_18() else { return };
    let (_, restored) = compare(&cluster, &[FIXTURE, &known_to(18, RARE)]).await;
    let enabled = restored
        .query_one("SELECT count(*) FILTER (WHERE subenabled), count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d \
                    ON d.oid = s.subdbid WHERE d.datname = 'restored'", &[])
        .await
        .unwrap();
    assert_eq!(
        (enabled.get::<_, i64>(0), enabled.get::<_, i64>(1)),
        (0, 6),
        "no subscription is ever enabled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_schema_dumps_like_the_original() {
    let cluster = Cluster::start("/usr/lib/postgresql/15/bin");
    let (maintenance, restored) = compare(&cluster, &[FIXTURE]).await;
    let row = restored
        .query_one("SELECT last_value, is_called FROM app.plain", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (42, true));
    maintenance
        .batch_execute("SET allow_in_place_tablespaces = on")
        .await
        .unwrap();
    maintenance
        .batch_execute("CREATE TABLESPACE wv_space LOCATION ''")
        .await
        .unwrap();
    maintenance
        .batch_execute(
            "ALTER TABLESPACE wv_space SET (random_page_cost = 3); GRANT CREATE ON TABLESPACE wv_space TO wv_reader; \
             GRANT SET ON PARAMETER work_mem TO wv_reader; COMMENT ON TABLESPACE wv_space IS 'space'",
        )
        .await
        .unwrap();
    let mut globals = Collected::default();
    schema::write_globals(&maintenance, true, &mut globals).await.unwrap();
    assert!(
        globals
            .0
            .iter()
            .any(|(_, sql)| sql == "GRANT \"wv_reader\" TO \"wv_owner\" WITH ADMIN OPTION;\n")
    );
    for wanted in [
        "ALTER ROLE \"wv_reader\" SET \"DateStyle\" TO 'ISO, DMY';\n",
        "CREATE TABLESPACE \"wv_space\" OWNER \"postgres\" LOCATION '';\nALTER TABLESPACE \"wv_space\" SET (\"random_page_cost\"='3');\n\
         GRANT CREATE ON TABLESPACE \"wv_space\" TO \"wv_reader\";\nCOMMENT ON TABLESPACE \"wv_space\" IS 'space';\n",
        "GRANT SET ON PARAMETER \"work_mem\" TO \"wv_reader\";\n",
    ] {
        let found = globals.0.iter().any(|(_, sql)| sql == wanted);
        assert!(found, "{wanted}\n{:#?}", globals.0);
    }
}

/// What the planner knows of every column, but of the table that has changed since.
const STATISTICS: &str = "SELECT string_agg(pg_catalog.to_jsonb(s)::text, E'\\n' ORDER BY s.tablename, s.attname, s.inherited) \
    FROM pg_catalog.pg_stats s WHERE s.schemaname = 'public' AND s.tablename <> 'grown'";

#[tokio::test(flavor = "multi_thread")]
async fn planner_statistics_come_back_where_they_still_hold() {
    let Some(cluster) = Cluster::start_18() else { return };
    let maintenance = cluster.connect("postgres").await;
    for sql in [
        "ALTER SYSTEM SET autovacuum = off",
        "SELECT pg_reload_conf()",
        "CREATE DATABASE known",
    ] {
        maintenance.batch_execute(sql).await.unwrap();
    }
    let known = cluster.connect("known").await;
    known
        .batch_execute(
            r#"CREATE TABLE kept (id int PRIMARY KEY, t text, a text[], r int4range, j jsonb, "odd ""name" bigint);
            INSERT INTO kept SELECT n, E'it''s \\ one\nALTER TABLE x OWNER TO y;\r' || n % 7, ARRAY['a' || n % 5, NULL, '"{'],
                int4range(n, n + n % 9), jsonb_build_object('n', n % 3), n % 11 FROM generate_series(1, 3000) n;
            CREATE INDEX kept_lower ON kept (lower(t), (id % 10));
            CREATE TABLE parted (k int, v text) PARTITION BY LIST (k);
            CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1); CREATE TABLE part_2 PARTITION OF parted FOR VALUES IN (2);
            INSERT INTO parted SELECT 1 + n % 2, 'v' || n % 4 FROM generate_series(1, 500) n;
            CREATE TABLE grown AS SELECT n FROM generate_series(1, 20) n;
            CREATE TABLE multi AS SELECT n % 3 AS a, n % 3 AS b FROM generate_series(1, 300) n;
            CREATE STATISTICS multi_ab ON a, b FROM multi;
            ANALYZE;
            INSERT INTO grown SELECT 7 FROM generate_series(1, 5000);
            UPDATE pg_statistic SET stanullfrac = 0.125 WHERE starelid IN ('kept'::regclass, 'grown'::regclass);"#,
        )
        .await
        .unwrap();
    let program = Program::on_directory();
    let url = |database: &str| {
        format!(
            "postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable",
            cluster.port
        )
    };
    program.expect(0, &["init", "--no-encryption"]);
    program.expect(0, &["backup", &url("known")]);
    program.expect(0, &["restore", "latest", "--into", &url("again")]);
    let again = cluster.connect("again").await;
    let text = async |client: &Client, sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, String>(0);
    let (before, after) = (text(&known, STATISTICS).await, text(&again, STATISTICS).await);
    assert_eq!(before, after);
    assert!(before.contains("0.125") && before.contains("elem_count_histogram\": [") && before.contains("kept_lower"));
    let grown = text(
        &again,
        "SELECT null_frac || ' ' || most_common_vals::text FROM pg_stats WHERE tablename = 'grown'",
    )
    .await;
    assert_eq!(grown, "0 {7}", "analysed again");
    let extended = "SELECT count(*)::text FROM pg_stats_ext WHERE tablename = 'multi' AND n_distinct IS NOT NULL";
    assert_eq!(
        text(&again, extended).await,
        "1",
        "only ANALYZE makes extended statistics"
    );
    let rows = "SELECT reltuples::text || ' ' || (relpages = pg_relation_size(oid) / 8192) FROM pg_class WHERE relname = 'part_1'";
    assert_eq!(text(&again, rows).await, "250 true");
}
