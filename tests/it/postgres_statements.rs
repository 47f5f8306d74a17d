//! What of a backup is sent to a PostgreSQL server: the statements that this program writes, and nothing else.

use std::path::Path;

use tokio_util::sync::CancellationToken;
use wirevault::ErrorKind;
use wirevault::archive::{ArchiveReader, ChunkFacts, StreamRecord};
use wirevault::engines::postgres::{ConnectOptions, PostgresRestore, RestoreOptions, examine};

use crate::support::archives::Vault;
use crate::support::postgres::Cluster;

/// A backup of nothing but this SQL before the data.
async fn backup_of(sql: &str) -> (Vault, ArchiveReader) {
    backup_with(sql.as_bytes(), None).await
}

/// A backup of this SQL before the data, with facts of the server.
async fn backup_with(sql: &[u8], facts: Option<serde_json::Value>) -> (Vault, ArchiveReader) {
    let mut vault = Vault::new();
    let writer = vault.writer().await;
    let toc = serde_json::json!({ "stream": "pre-data.sql", "offset": 0, "item": {
        "id": 0, "section": "pre-data", "kind": "TABLE", "schema": null, "name": "t", "depends_on": [], "locks": [], "weight": 0,
        "sql_bytes": sql.len() } });
    for (name, text) in [
        ("pre-data.sql", sql.to_owned()),
        ("toc.jsonl", format!("{toc}\n").into_bytes()),
    ] {
        let mut chunk = writer.chunk_buffer().await.unwrap();
        chunk.extend(&text);
        let facts = ChunkFacts {
            starts_row: true,
            ..ChunkFacts::default()
        };
        writer.submit_chunk(name, 0, chunk, facts).await.unwrap();
        let record = StreamRecord {
            stream: name.to_owned(),
            prefixes: vec![name.to_owned()],
            chunks: 1,
            bytes: u64::try_from(text.len()).unwrap(),
            rows: None,
            row_digest: None,
            facts: serde_json::Value::Null,
        };
        writer.finish_stream(record).await.unwrap();
    }
    if let Some(facts) = facts {
        let record = StreamRecord {
            stream: "postgres".to_owned(),
            prefixes: Vec::new(),
            chunks: 0,
            bytes: 0,
            rows: None,
            row_digest: None,
            facts,
        };
        writer.finish_stream(record).await.unwrap();
    }
    vault.archives = writer.finish().await.unwrap();
    let reader = vault.reader().await;
    (vault, reader)
}

fn restore(cluster: &Cluster, database: &str, vault: &Vault, reader: ArchiveReader) -> PostgresRestore {
    let url = format!(
        "postgres://admin:secret@127.0.0.1:{}/{database}?sslmode=disable",
        cluster.port
    );
    PostgresRestore {
        target: ConnectOptions::from_url_with(&url, None, &|_| None).unwrap(),
        reader,
        options: RestoreOptions::default(),
        reporter: vault.reporter(),
        task: "s".to_owned(),
        cancel: CancellationToken::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_of_a_backup_that_holds_a_foreign_statement() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_name();
    let place = tempfile::tempdir().unwrap();
    let ran = place.path().join("ran");
    let program = format!("COPY (SELECT 1) TO PROGRAM 'touch {}';\n", ran.display());
    for foreign in [
        program.as_str(),
        "DO $$BEGIN PERFORM 1; END$$;\n",
        "ALTER SYSTEM SET work_mem = '1MB';\n",
        "SET ROLE admin;\n",
        "CREATE TABLE a AS SELECT pg_catalog.pg_read_file('/etc/passwd');\n",
    ] {
        let (vault, reader) = backup_of(&format!("CREATE TABLE \"public\".\"t\" ();\n{foreign}")).await;
        let refused = examine(&reader).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{foreign}: {refused:?}");
        let planned = restore(&cluster, &database, &vault, reader.clone())
            .plan()
            .await
            .unwrap_err();
        assert_eq!(planned.kind(), ErrorKind::Corrupt, "{foreign}: {planned:?}");
        let restored = restore(&cluster, &database, &vault, reader).run().await.unwrap_err();
        assert_eq!(restored.kind(), ErrorKind::Corrupt, "{foreign}: {restored:?}");
        assert!(restored.chain().contains("never writes this"), "{restored:?}");
    }
    assert!(!ran.exists());
    let made = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{database}%'");
    let made = cluster.psql_in("postgres", Path::new("/"), &["-c", &made]);
    assert_eq!(made.trim(), "0");
}

/// In some encodings of clients a byte of ASCII is the end of a character: what the judge takes for one string is two statements there.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_does_not_choose_an_encoding_in_which_the_server_reads_otherwise() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_name();
    let place = tempfile::tempdir().unwrap();
    let ran = place.path().join("ran");
    // The character of byte 0x83, as a string has it.
    let sql = format!(
        "COMMENT ON SCHEMA public IS E'\u{10FE83}\\'; COPY (SELECT 1) TO PROGRAM $$touch {}$$; --';\n",
        ran.display()
    );
    let sql = wirevault::base::raw_text::to_bytes(&sql).into_owned();
    for encoding in [
        "SJIS",
        "SHIFT_JIS_2004",
        "BIG5",
        "GBK",
        "UHC",
        "GB18030",
        "JOHAB",
        "sjis",
    ] {
        let facts = serde_json::json!({ "version": "18.0", "version_num": 180_000, "database": "d", "encoding": "UTF8", "collate": "C",
            "ctype": "C", "wal_lsn": "0/0", "in_recovery": false, "large_objects": 0, "database_bytes": 0, "taken_at": "",
            "context": { "client_encoding": encoding } });
        let (vault, reader) = backup_with(&sql, Some(facts)).await;
        let examined = examine(&reader).await.unwrap_err();
        assert_eq!(examined.kind(), ErrorKind::Corrupt, "{encoding}: {examined:?}");
        let planned = restore(&cluster, &database, &vault, reader.clone())
            .plan()
            .await
            .unwrap_err();
        assert_eq!(planned.kind(), ErrorKind::Corrupt, "{encoding}: {planned:?}");
        let restored = restore(&cluster, &database, &vault, reader).run().await.unwrap_err();
        assert_eq!(restored.kind(), ErrorKind::Corrupt, "{encoding}: {restored:?}");
        assert!(restored.chain().contains("no database can have"), "{restored:?}");
    }
    assert!(!ran.exists());
    let made = format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{database}%'");
    let made = cluster.psql_in("postgres", Path::new("/"), &["-c", &made]);
    assert_eq!(made.trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_report_name_what_runs_with_power() {
    let cluster = Cluster::shared();
    let database = cluster.fresh_name();
    let sql = "CREATE FUNCTION \"public\".\"quick\"() RETURNS integer LANGUAGE \"internal\" AS 'int4pl';\n\
               CREATE FUNCTION \"public\".\"plain\"() RETURNS integer LANGUAGE \"sql\" AS $$SELECT 1$$;\n";
    let (vault, reader) = backup_of(sql).await;
    let plan = restore(&cluster, &database, &vault, reader.clone())
        .plan()
        .await
        .unwrap();
    assert_eq!(plan.powers, ["functions in C, which run as the server's user: t"]);
    assert!(
        plan.lines().contains("the backup holds functions in C"),
        "{}",
        plan.lines()
    );
    let report = restore(&cluster, &database, &vault, reader).run().await.unwrap();
    assert_eq!(report.powers, plan.powers);
    cluster.psql("postgres", &format!("DROP DATABASE {database}"));
}
