//! Tables that cannot be loaded, and definitions that rely on `search_path`: what they cost, and what brings them back.

use std::sync::Arc;

use wirevault::engines::postgres::{PostgresRestore, PostgresSource, RestoreOptions, RestoreReport, Selection};

use crate::support::archives::Vault;
use crate::support::postgres::Cluster;
use crate::support::program::Program;

/// Functions, a check, a generated column, an index and a materialized view that find `helper` by the session's path.
fn definitions(schema: &str) -> String {
    format!(
        "CREATE SCHEMA IF NOT EXISTS {schema}; SET search_path = {schema}, pg_catalog; \
         CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'; \
         CREATE FUNCTION twice(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper(a); END'; \
         CREATE TABLE checked (a int CHECK (twice(a) > 0)); INSERT INTO checked SELECT generate_series(1, 10); \
         CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (twice(a)) STORED); INSERT INTO generated SELECT generate_series(1, 20); \
         CREATE TABLE good AS SELECT g AS a FROM generate_series(1, 1000) g; CREATE INDEX by_twice ON good (twice(a)); \
         CREATE MATERIALIZED VIEW doubled AS SELECT twice(a) AS b FROM good"
    )
}

struct Case {
    cluster: Arc<Cluster>,
    vault: Vault,
    name: String,
    copy: String,
}

impl Case {
    async fn of(sql: &str) -> Self {
        let cluster = Cluster::shared();
        let name = cluster.fresh_name();
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        cluster.psql(&name, sql);
        let mut vault = Vault::new();
        let source = PostgresSource::new(cluster.options(&name));
        vault.backup(&source, &std::env::temp_dir()).await.unwrap();
        let copy = format!("{name}_copy");
        Self {
            cluster,
            vault,
            name,
            copy,
        }
    }

    async fn restore(&self, options: RestoreOptions) -> wirevault::Result<RestoreReport> {
        let restore = PostgresRestore {
            target: self.cluster.options(&self.copy),
            reader: self.vault.reader().await,
            options,
            reporter: self.vault.reporter(),
            task: "db".into(),
            cancel: tokio_util::sync::CancellationToken::new(),
        };
        restore.run().await
    }

    fn ask(&self, sql: &str) -> String {
        self.cluster.psql(&self.copy, sql).trim().to_owned()
    }

    fn databases(&self) -> String {
        let like = format!(
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE '{}%'",
            self.name
        );
        self.cluster.psql("postgres", &like).trim().to_owned()
    }
}

fn failed(report: &RestoreReport) -> Vec<String> {
    let mut names: Vec<String> = report.failed.iter().map(|f| format!("{} {}", f.kind, f.name)).collect();
    names.sort();
    names
}

const ROWS: &str = "SELECT (SELECT count(*) FROM far.checked), (SELECT count(*) FROM far.generated WHERE b = 2 * a), \
    (SELECT count(*) FROM far.good), (SELECT count(*) FROM pg_indexes WHERE indexname = 'by_twice')";

#[tokio::test(flavor = "multi_thread")]
async fn what_relies_on_the_path_of_the_source_comes_back_unasked() {
    let case = Case::of(&definitions("public")).await;
    let report = case
        .restore(RestoreOptions {
            verify_rows: true,
            ..RestoreOptions::default()
        })
        .await
        .unwrap();
    assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
    let rows = ROWS.replace("far.", "public.");
    assert_eq!(case.ask(&rows), "10|20|1000|1");
    assert_eq!(case.ask("SELECT sum(b) FROM doubled"), "1001000");
    let notes = case.vault.reporter.notes();
    let named = notes.iter().filter(|n| n.starts_with("search-path")).count();
    assert_eq!(named, 2, "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_the_source_sets_for_its_database_is_known() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, &definitions("far"));
    cluster.psql(
        "postgres",
        &format!("ALTER DATABASE {name} SET search_path = far, public"),
    );
    let mut vault = Vault::new();
    let source = PostgresSource::new(cluster.options(&name));
    vault.backup(&source, &std::env::temp_dir()).await.unwrap();
    let copy = format!("{name}_copy");
    let case = Case {
        cluster,
        vault,
        name,
        copy,
    };
    let report = case.restore(RestoreOptions::default()).await.unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(case.ask(ROWS), "10|20|1000|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_loaded_costs_only_itself_when_asked() {
    let case = Case::of(&definitions("far")).await;
    // Without a word it ends the restore, nothing is left, and the ways on are named.
    let error = case.restore(RestoreOptions::default()).await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(
        error.chain().contains("helper") && error.chain().contains("\"far\"."),
        "{}",
        error.chain()
    );
    assert!(
        hint.contains("--keep-going") && hint.contains("--search-path"),
        "{hint}"
    );
    assert_eq!(case.databases(), case.name);

    let report = case
        .restore(RestoreOptions {
            keep_going: true,
            verify_rows: true,
            ..RestoreOptions::default()
        })
        .await
        .unwrap();
    let named = [
        "INDEX far.by_twice",
        "MATERIALIZED VIEW DATA far.doubled",
        "TABLE DATA far.checked",
        "TABLE DATA far.generated",
    ];
    assert_eq!(failed(&report), named, "{report:?}");
    assert!(
        !report.rows_verified && report.rows == 1000 && report.tables == 1,
        "{report:?}"
    );
    assert_eq!(case.ask(ROWS), "0|0|1000|0");
    let advice = &report.failed.iter().find(|f| f.name == "far.checked").unwrap().advice;
    assert!(
        advice.contains("None of its rows") && advice.contains("--search-path"),
        "{advice}"
    );

    // The advice of the message holds.
    let report = case
        .restore(RestoreOptions {
            clean: true,
            search_path: vec!["far".into()],
            verify_rows: true,
            ..RestoreOptions::default()
        })
        .await
        .unwrap();
    assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
    assert_eq!(case.ask(ROWS), "10|20|1000|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_living_database_it_costs_only_itself_too() {
    let case = Case::of(&definitions("far")).await;
    case.cluster.psql("postgres", &format!("CREATE DATABASE {}", case.copy));
    case.ask("CREATE TABLE mine AS SELECT 1 AS a");
    let part = || RestoreOptions {
        selection: Selection {
            schemas: vec!["far".into()],
            ..Selection::default()
        },
        ..RestoreOptions::default()
    };
    let error = case.restore(part()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("--keep-going"), "{:?}", error.hint());
    assert_eq!(case.ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'far'"), "0");
    let report = case
        .restore(RestoreOptions {
            keep_going: true,
            ..part()
        })
        .await
        .unwrap();
    let names = failed(&report);
    assert!(names.contains(&"TABLE DATA far.checked".to_owned()), "{names:?}");
    assert_eq!(case.ask(ROWS), "0|0|1000|0");
    assert_eq!(case.ask("SELECT a FROM mine"), "1");
}

/// Rows that are damaged in the backup are one table's, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_costs_only_itself() {
    let case = Case::of(
        "CREATE TABLE big AS SELECT g AS id, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 20) i) AS v \
         FROM generate_series(1, 40000) g; CREATE INDEX ON big (id); \
         CREATE TABLE small AS SELECT g AS id FROM generate_series(1, 100) g",
    )
    .await;
    case.vault.damage().await;
    let error = case.restore(RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), wirevault::ErrorKind::Corrupt, "{}", error.chain());
    assert_eq!(case.databases(), case.name);
    let report = case
        .restore(RestoreOptions {
            keep_going: true,
            ..RestoreOptions::default()
        })
        .await
        .unwrap();
    assert_eq!(failed(&report), ["TABLE DATA public.big"], "{report:?}");
    let counts = "SELECT (SELECT count(*) FROM big), (SELECT count(*) FROM small), (SELECT count(*) FROM pg_indexes WHERE tablename = 'big')";
    assert_eq!(case.ask(counts), "0|100|1");
}

/// What the program says, and its exit code.
#[test]
fn the_program_ends_with_2_and_names_the_table() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, &definitions("far"));
    let mut program = Program::on_directory();
    program.set("PGPASSWORD", "secret");
    let url = |database: &str| format!("postgres://admin@127.0.0.1:{}/{database}?sslmode=disable", cluster.port);
    program.expect(0, &["init", "--no-encryption"]);
    program.expect(0, &["backup", &url(&name)]);
    let copy = url(&format!("{name}_copy"));
    program.refused(
        &["restore", "latest", "--into", &copy],
        "load table \"far\".",
        "--keep-going",
    );
    program.expect(2, &["restore", "latest", "--into", &copy, "--keep-going"]);
    let rows = cluster.psql(&format!("{name}_copy"), "SELECT count(*) FROM far.good");
    assert_eq!(rows.trim(), "1000");
    // The one table, once its function finds what it needs.
    cluster.psql(
        &format!("{name}_copy"),
        "ALTER FUNCTION far.twice SET search_path = far",
    );
    let table = [
        "restore",
        "latest",
        "--into",
        &copy,
        "--data-only",
        "--clean",
        "--table",
        "far.checked",
    ];
    program.expect(0, &table);
    let rows = cluster.psql(&format!("{name}_copy"), "SELECT count(*) FROM far.checked");
    assert_eq!(rows.trim(), "10");
}
