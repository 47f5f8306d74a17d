//! What a backup does to the server, and what others do to the backup: lost connections, time limits, locks, poolers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use wirevault::ErrorKind;
use wirevault::engines::postgres::{ConnectOptions, Connection, PostgresRestore, PostgresSource, RestoreOptions};
use wirevault::engines::{FindingLevel, Source};

use crate::support::archives::Vault;
use crate::support::postgres::Cluster;

fn through(options: &ConnectOptions, port: u16) -> ConnectOptions {
    let mut options = options.clone();
    options.port = port;
    options
}

/// Passes bytes on, and resets connections that have brought `after` bytes, as often as `resets` says.
async fn faulty_link(to: u16, after: usize, resets: u32) -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicU32::new(resets));
    let shared = Arc::clone(&left);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let left = Arc::clone(&shared);
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
                });
                let (mut buffer, mut brought) = (vec![0; 32 << 10], 0);
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    brought += count;
                    let reset = brought > after
                        && left
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                            .is_ok();
                    if reset || to_client.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
                up.abort();
            });
        }
    });
    (port, left)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_lost_connections_cost_only_their_parts() {
    let cluster = Cluster::shared();
    let (name, copy) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(
        &name,
        "DO $$ BEGIN FOR i IN 1..40 LOOP EXECUTE format('CREATE TABLE t%s AS SELECT g AS id, repeat(md5((g * %s)::text), 10) AS v \
         FROM generate_series(1, 3000) g', i, i); END LOOP; END $$",
    );
    let (port, left) = faulty_link(cluster.port, 1_500_000, 20).await;
    let mut archives = Vault::new();
    let source = PostgresSource::new(through(&cluster.options(&name), port));
    let outcome = archives.backup(&source, &std::env::temp_dir()).await.unwrap();
    assert_eq!(left.load(Ordering::SeqCst), 0, "every reset happened");
    assert_eq!(
        outcome.note_counts.get("repeated"),
        Some(&20),
        "{:?}",
        archives.reporter.notes()
    );
    let notes = archives.reporter.messages();
    let again = |text: &str| text.rsplit_once("; ")?.1.split(' ').next()?.parse::<u64>().ok();
    let repeated: u64 = notes.iter().filter_map(|n| again(n)).sum();
    println!(
        "20 connections reset; bytes read again: {repeated} of {}",
        outcome.raw_bytes
    );
    assert!(repeated > 0 && repeated < outcome.raw_bytes, "{repeated} {notes:?}");
    let restore = PostgresRestore {
        target: cluster.options(&copy),
        reader: archives.reader().await,
        options: RestoreOptions {
            verify_rows: true,
            ..RestoreOptions::default()
        },
        reporter: wirevault::base::report::silent(),
        task: "db".into(),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    let report = restore.run().await.unwrap();
    assert!(report.rows_verified && report.rows == 40 * 3000 && report.failed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limits_of_the_role_do_not_end_a_backup() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(
        &name,
        &format!(
            "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 40) AS v FROM generate_series(1, 60000) g; \
             CREATE ROLE {name} LOGIN PASSWORD 'secret'; GRANT SELECT ON t TO {name}; ALTER ROLE {name} SET statement_timeout = '150ms'; \
             ALTER ROLE {name} SET idle_in_transaction_session_timeout = '100ms'; ALTER ROLE {name} SET lock_timeout = '50ms'; \
             ALTER ROLE {name} SET default_transaction_read_only = off; ALTER ROLE {name} SET search_path = pg_temp"
        ),
    );
    let mut options = cluster.options(&name);
    options.user.clone_from(&name);
    // A slow reader: the COPY takes longer than any of the limits.
    let mut archives = Vault::new();
    let outcome = archives
        .backup(&PostgresSource::new(options), &std::env::temp_dir())
        .await
        .unwrap();
    assert!(outcome.raw_bytes > 60_000 * 1280, "{}", outcome.raw_bytes);
}

/// A DDL statement that waits behind the backup ends it, and is named; without a limit it is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_gives_way_to_ddl_when_it_is_told_to() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(
        &name,
        "CREATE TABLE small (id int); CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 60) AS v FROM generate_series(1, 250000) g",
    );
    // A link that is slower than the patience: a copy of 480 MB through a pipe of 20 MB/s.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = cluster.port;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let down = async {
                    let mut buffer = vec![0; 256 << 10];
                    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                        if to_client.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_micros(count as u64 / 20)).await;
                    }
                };
                tokio::select! { () = down => {}, _ = tokio::io::copy(&mut from_client, &mut to_server) => {} }
            });
        }
    });
    let source =
        PostgresSource::new(through(&cluster.options(&name), port)).with_max_block(Some(Duration::from_secs(1)));
    let ddl = cluster.options(&name);
    let waited = tokio::spawn(async move {
        let mut connection = Connection::open(&ddl).await.unwrap();
        // Wait until the backup holds its locks.
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'small'::regclass AND mode = 'AccessShareLock'";
        while connection.query(held).await.unwrap().scalar() == Some("0") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let began = Instant::now();
        connection
            .execute("ALTER TABLE small ADD COLUMN more int")
            .await
            .unwrap();
        began.elapsed()
    });
    let error = Vault::new().backup(&source, &std::env::temp_dir()).await.unwrap_err();
    let text = error.chain();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{text}");
    assert!(
        text.contains("ALTER TABLE small") && text.contains("blocked by the backup"),
        "{text}"
    );
    let waited = waited.await.unwrap();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

/// Lends server sessions to clients, for a transaction or for as long as the client stays.
async fn pooler(options: ConnectOptions, by_transaction: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pool: Arc<Mutex<Vec<Connection>>> = Arc::default();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, options.clone(), Arc::clone(&pool), by_transaction));
        }
    });
    port
}

fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

async fn serve(
    mut client: TcpStream,
    options: ConnectOptions,
    pool: Arc<Mutex<Vec<Connection>>>,
    by_transaction: bool,
) {
    let length = client.read_u32().await.unwrap() as usize;
    client.read_exact(&mut vec![0; length - 4]).await.unwrap();
    let mut out = Vec::new();
    message(&mut out, b'R', &[0; 4]);
    message(&mut out, b'S', b"server_version\x0015.0\0");
    message(&mut out, b'K', &[0, 0, 99, 99, 1, 2, 3, 4]);
    message(&mut out, b'Z', b"I");
    client.write_all(&out).await.unwrap();
    let mut lent: Option<Connection> = None;
    while let Ok(tag) = client.read_u8().await {
        let length = client.read_u32().await.unwrap() as usize;
        let mut body = vec![0; length - 4];
        client.read_exact(&mut body).await.unwrap();
        if tag != b'Q' {
            break;
        }
        if lent.is_none() {
            lent = pool.lock().await.pop();
        }
        let mut server = match lent.take() {
            Some(server) => server,
            None => Connection::open(&options).await.unwrap(),
        };
        let mut out = Vec::new();
        let result = server
            .query(std::str::from_utf8(&body[..body.len() - 1]).unwrap())
            .await
            .unwrap();
        let columns = result.columns.len() as u16;
        let mut fields = columns.to_be_bytes().to_vec();
        for column in &result.columns {
            fields.extend_from_slice(column.as_bytes());
            fields.extend_from_slice(&[0; 19]);
        }
        message(&mut out, b'T', &fields);
        for row in &result.rows {
            let mut data = columns.to_be_bytes().to_vec();
            for value in row {
                let length = value.as_ref().map_or(-1, |value| value.len() as i32);
                data.extend_from_slice(&length.to_be_bytes());
                data.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
            }
            message(&mut out, b'D', &data);
        }
        message(&mut out, b'C', b"SELECT\0");
        let within = server.in_transaction();
        message(&mut out, b'Z', if within { b"T" } else { b"I" });
        if by_transaction && !within {
            pool.lock().await.push(server);
        } else {
            lent = Some(server);
        }
        client.write_all(&out).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_lends_transactions_is_refused() {
    let cluster = Cluster::shared();
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    let options = cluster.options(&name);
    let source = PostgresSource::new(through(&options, pooler(options.clone(), true).await));
    let error = Vault::new().backup(&source, &std::env::temp_dir()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{}", error.chain());
    assert!(error.chain().contains("transaction mode"), "{}", error.chain());
    let findings = source.check().await.unwrap();
    let bad =
        |f: &wirevault::engines::Finding| f.level == FindingLevel::Error && f.message.contains("transaction mode");
    assert!(findings.iter().any(bad), "{findings:?}");

    let source = PostgresSource::new(through(&options, pooler(options.clone(), false).await));
    let findings = source.check().await.unwrap();
    assert!(findings.iter().all(|f| f.level != FindingLevel::Error), "{findings:?}");
    assert!(
        findings.iter().any(|f| f.message.contains("in session mode")),
        "{findings:?}"
    );
    let findings = PostgresSource::new(options).check().await.unwrap();
    assert!(findings.iter().all(|f| !f.message.contains("pooler")), "{findings:?}");
}

/// Tens of thousands of empty tables leave records and no frames: the index must stay one that a reader takes.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_very_many_empty_tables_can_be_read() {
    let mut vault = Vault::new();
    let writer = vault.writer().await;
    let entry = wirevault::archive::EntryMeta::file(b"a.sql", 3, (0, 0));
    let mut chunk = writer.chunk_buffer().await.unwrap();
    chunk.extend(b"abc");
    writer.submit_entry(entry, chunk).await.unwrap();
    let record = |number: usize| wirevault::archive::StreamRecord {
        stream: format!("tables/{number:05}.t"),
        prefixes: vec![format!("tables/{number:05}.t")],
        chunks: 0,
        bytes: 0,
        rows: Some(0),
        row_digest: None,
        facts: serde_json::json!({ "columns": vec!["a rather long name of a column"; 8] }),
    };
    for number in 0..30_000 {
        writer.finish_stream(record(number)).await.unwrap();
    }
    let entry = wirevault::archive::EntryMeta::file(b"b.sql", 3, (0, 0));
    let mut chunk = writer.chunk_buffer().await.unwrap();
    chunk.extend(b"def");
    writer.submit_entry(entry, chunk).await.unwrap();
    vault.archives = writer.finish().await.unwrap();
    let records = vault.reader().await.streams().await.unwrap();
    assert_eq!(records.len(), 30_000);
    assert_eq!(records[29_999], record(29_999));
}
