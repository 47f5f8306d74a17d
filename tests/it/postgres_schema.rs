//! A schema written by us and applied to a fresh database must dump like the original: `pg_dump` is the judge.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;

use async_trait::async_trait;
use tokio_postgres::{Client, NoTls};
use wirevault::Result;
use wirevault::sources::postgres::schema::{self, Graph, SchemaOptions, Section, SqlSink, TocItem};

const FIXTURE: &str = include_str!("../../fixtures/schema_ordinary.sql");
const ROLES: &str = "CREATE ROLE wv_owner; CREATE ROLE wv_reader LOGIN; CREATE ROLE \"wv \"\"other\"\"\"; GRANT wv_reader TO wv_owner WITH ADMIN OPTION;";

/// A cluster of its own on a free port, stopped when dropped.
struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
}

/// Runs a server program; the server refuses to run as root, so root steps down.
fn program(path: &Path) -> Command {
    if std::fs::metadata("/proc/self").map_or(0, |m| std::os::unix::fs::MetadataExt::uid(&m)) != 0 {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(path);
    command
}

impl Cluster {
    fn start(bin: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let cluster = Self {
            bin: bin.into(),
            dir,
            port,
        };
        let data = cluster.dir.path().join("data");
        let made = program(&cluster.bin.join("initdb"))
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
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off");
        let started = program(&cluster.bin.join("pg_ctl"))
            .args(["start", "-w", "-l"])
            .arg(cluster.dir.path().join("log"))
            .arg("-o")
            .arg(options)
            .arg("-D")
            .arg(&data)
            .output()
            .unwrap();
        assert!(started.status.success());
        cluster
    }

    async fn connect(&self, database: &str) -> Client {
        let config = format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn dump(&self, database: &str) -> Vec<String> {
        let out = program(&self.bin.join("pg_dump"))
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
        let _ = program(&self.bin.join("pg_ctl"))
            .args(["stop", "-m", "immediate", "-D"])
            .arg(self.dir.path().join("data"))
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
    client.batch_execute(schema::SESSION_SQL).await.unwrap();
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .unwrap();
    let graph = Graph::read(client, &SchemaOptions::default()).await.unwrap();
    let mut sink = Collected::default();
    for section in [Section::PreData, Section::Data, Section::PostData] {
        graph.write(client, section, &mut sink).await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
    (graph, sink.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_schema_dumps_like_the_original() {
    let cluster = Cluster::start("/usr/lib/postgresql/15/bin");
    let maintenance = cluster.connect("postgres").await;
    maintenance.batch_execute(ROLES).await.unwrap();
    maintenance
        .batch_execute("CREATE DATABASE original TEMPLATE template0")
        .await
        .unwrap();
    maintenance
        .batch_execute("CREATE DATABASE restored TEMPLATE template0")
        .await
        .unwrap();
    let original = cluster.connect("original").await;
    original.batch_execute(FIXTURE).await.unwrap();
    let (graph, items) = read(&original).await;
    assert_eq!(graph.notes(), [], "every class of the fixture is carried");
    assert!(graph.object_count() > 100, "{}", graph.object_count());
    let restored = cluster.connect("restored").await;
    restored
        .batch_execute("SET check_function_bodies = off; SELECT pg_catalog.set_config('search_path', '', false)")
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
    let row = restored
        .query_one("SELECT last_value, is_called FROM app.plain", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (42, true));
    let mut globals = Collected::default();
    schema::write_globals(&maintenance, &mut globals).await.unwrap();
    assert!(
        globals
            .0
            .iter()
            .any(|(_, sql)| sql == "GRANT \"wv_reader\" TO \"wv_owner\" WITH ADMIN OPTION;\n")
    );
}
