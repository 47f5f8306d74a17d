//! The PostgreSQL connection against a real server, and against peers that misbehave.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wirevault::ErrorKind;
use wirevault::engines::Source;
use wirevault::engines::postgres::wire::server_error::sqlstate;
use wirevault::engines::postgres::{ConnectOptions, Connection, PostgresSource, open_client, table_digest};

use crate::support::postgres::Cluster;
use crate::support::wait;

fn create(cluster: &Cluster, sql: &str) -> String {
    let name = cluster.fresh_name();
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    if !sql.is_empty() {
        cluster.psql(&name, sql);
    }
    name
}

#[tokio::test]
async fn scram_login_queries_and_errors() {
    let cluster = Cluster::shared();
    let mut connection = Connection::open(&cluster.options("postgres")).await.unwrap();
    let result = connection
        .query("SELECT 1, NULL, 'ü'; SELECT 2, NULL, E'a\\nb'")
        .await
        .unwrap();
    assert_eq!(result.rows, [[Some("2".to_owned()), None, Some("a\nb".to_owned())]]);
    let error = connection.query("SELECT nonsense").await.unwrap_err();
    assert_eq!(sqlstate(&error), Some("42703"));
    assert_eq!(
        connection.query("SELECT 3").await.unwrap().scalar(),
        Some("3"),
        "an error leaves the connection usable"
    );
    connection.close().await;
}

#[tokio::test]
async fn refusals_have_kind_and_hint() {
    let cluster = Cluster::shared();
    let good = cluster.options("postgres");
    let missing = Connection::open(&good.with_database("no such")).await.unwrap_err();
    assert_eq!(
        (missing.kind(), sqlstate(&missing)),
        (ErrorKind::NotFound, Some("3D000"))
    );
    let url = format!(
        "postgres://admin:wrong@127.0.0.1:{}/postgres?sslmode=disable",
        cluster.port
    );
    let wrong = Connection::open(&ConnectOptions::from_url_with(&url, None, &|_| None).unwrap())
        .await
        .unwrap_err();
    assert_eq!((wrong.kind(), sqlstate(&wrong)), (ErrorKind::Denied, Some("28P01")));
    assert!(wrong.hint().unwrap().contains("PGPASSWORD"));
    assert!(!format!("{wrong:?}").contains("wrong@"));
    let url = format!("postgres://admin@127.0.0.1:{}/postgres?sslmode=disable", cluster.port);
    let none = Connection::open(&ConnectOptions::from_url_with(&url, None, &|_| None).unwrap())
        .await
        .unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Denied);
    let mut tls = good.clone();
    tls.ssl_mode = wirevault::engines::postgres::session::url::SslMode::VerifyFull;
    let no_tls = Connection::open(&tls).await.unwrap_err();
    assert!(no_tls.hint().unwrap().contains("sslmode"), "{no_tls:?}");
    let mut nobody = good;
    nobody.port = 1;
    assert_eq!(
        Connection::open(&nobody).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test]
async fn the_typed_client_runs_on_our_login() {
    let cluster = Cluster::shared();
    let client = open_client(&cluster.options("postgres")).await.unwrap();
    let row = client
        .query_one("SELECT $1::int4 + 1, current_setting('application_name')", &[&41i32])
        .await
        .unwrap();
    assert_eq!(
        (row.get::<_, i32>(0), row.get::<_, String>(1).as_str()),
        (42, "wirevault")
    );
}

/// Rows of every width come out as they are: empty, wide, with escapes, larger than the read buffer.
#[tokio::test]
async fn copy_out_gives_every_row_whole() {
    let cluster = Cluster::shared();
    let name = create(
        &cluster,
        "CREATE TABLE t (id int, v text); INSERT INTO t SELECT g, repeat(chr(97 + g % 26), (g * 7919) % 3000) FROM generate_series(1, 3000) g; \
         INSERT INTO t VALUES (-1, NULL), (-2, E'a\\tb\\nc\\\\'), (-3, repeat('ü', 2000000)); CREATE TABLE none (); INSERT INTO none DEFAULT VALUES; INSERT INTO none DEFAULT VALUES",
    );
    let mut connection = Connection::open(&cluster.options(&name)).await.unwrap();
    let mut copy = connection
        .copy_out("COPY (SELECT * FROM t ORDER BY id) TO STDOUT")
        .await
        .unwrap();
    let (mut all, mut rows, mut announced) = (Vec::new(), 0u64, 0usize);
    while let Some(piece) = copy.next().await.unwrap() {
        announced += piece.starts.unwrap_or(0);
        all.extend_from_slice(piece.bytes);
        rows += u64::from(piece.ends);
    }
    assert_eq!(copy.server_rows(), Some(rows));
    drop(copy);
    assert_eq!((rows, announced), (3003, all.len()));
    let expected = cluster.psql(&name, "COPY (SELECT * FROM t ORDER BY id) TO STDOUT");
    assert_eq!(all, expected.as_bytes());
    let none = table_digest(&mut connection, "COPY none TO STDOUT").await.unwrap();
    assert_eq!(none.rows, 2);
    // What goes out comes back in, and its digest does not depend on the order.
    let before = table_digest(&mut connection, "COPY t TO STDOUT").await.unwrap();
    connection.execute("CREATE TABLE u (LIKE t)").await.unwrap();
    connection.copy_in("COPY u FROM STDIN").await.unwrap();
    for piece in all.chunks(100_001) {
        connection.copy_data(piece).await.unwrap();
    }
    assert_eq!(connection.copy_end().await.unwrap(), 3003);
    assert_eq!(table_digest(&mut connection, "COPY u TO STDOUT").await.unwrap(), before);
}

#[tokio::test]
async fn a_failed_copy_leaves_the_connection_at_rest() {
    let cluster = Cluster::shared();
    let name = create(&cluster, "CREATE TABLE t (id int PRIMARY KEY)");
    let mut connection = Connection::open(&cluster.options(&name)).await.unwrap();
    let error = connection.copy_out("COPY missing TO STDOUT").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mut copy = connection
        .copy_out("COPY (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT")
        .await
        .unwrap();
    let failed = loop {
        match copy.next().await {
            Ok(Some(_)) => {}
            other => break other.map(drop),
        }
    };
    assert_eq!(sqlstate(&failed.unwrap_err()), Some("22012"));
    drop(copy);
    connection.copy_in("COPY t FROM STDIN").await.unwrap();
    connection.copy_data(b"1\nx\n").await.unwrap();
    assert_eq!(sqlstate(&connection.copy_end().await.unwrap_err()), Some("22P02"));
    connection.copy_in("COPY t FROM STDIN").await.unwrap();
    connection.copy_data(b"1\n").await.unwrap();
    connection.copy_fail("gave up").await.unwrap();
    assert_eq!(
        connection.query("SELECT count(*) FROM t").await.unwrap().scalar(),
        Some("0")
    );
}

#[tokio::test]
async fn a_statement_can_be_cancelled() {
    let cluster = Cluster::shared();
    let mut connection = Connection::open(&cluster.options("postgres")).await.unwrap();
    let canceller = connection.canceller();
    let waiting = tokio::spawn(async move { connection.query("SELECT pg_sleep(3600)").await });
    let mut other = Connection::open(&cluster.options("postgres")).await.unwrap();
    wait::until_async("the statement runs", async || {
        let running =
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND state = 'active'";
        other.query(running).await.unwrap().scalar() == Some("1")
    })
    .await;
    canceller.cancel().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn check_tells_what_would_go_wrong() {
    let cluster = Cluster::shared();
    let name = create(
        &cluster,
        "CREATE TABLE open (id int); CREATE TABLE closed (id int); CREATE TABLE hidden (id int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    );
    let role = format!("reader_{name}");
    cluster.psql(
        &name,
        &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON open, hidden TO {role}"),
    );
    let url = format!("postgres://{role}:x@127.0.0.1:{}/{name}?sslmode=disable", cluster.port);
    let source = PostgresSource::new(ConnectOptions::from_url_with(&url, None, &|_| None).unwrap());
    let findings = source.check().await.unwrap();
    let all: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
    assert!(
        all.iter()
            .any(|m| m.contains("no privilege to read table closed") || m.contains("public.closed")),
        "{all:?}"
    );
    assert!(
        all.iter().any(|m| m.contains("row security") && m.contains("hidden")),
        "{all:?}"
    );
    let fine = PostgresSource::new(cluster.options(&name)).check().await.unwrap();
    assert!(
        fine.iter().all(|f| f.level == wirevault::engines::FindingLevel::Info),
        "{fine:?}"
    );
}

/// Starts a peer that logs anyone in, answers the first query with `script`, and closes.
async fn scripted(script: Vec<u8>) -> ConnectOptions {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        stream
            .write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I")
            .await
            .unwrap();
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(&script).await;
    });
    let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=disable&read_timeout=240");
    ConnectOptions::from_url_with(&url, None, &|_| None).unwrap()
}

const COPY_OUT: &[u8] = b"H\0\0\0\x09\0\0\x01\0\0";

#[tokio::test]
async fn a_reset_in_the_middle_of_a_copy_is_an_error_that_can_be_retried() {
    let options = scripted([COPY_OUT, b"d\0\0\0\x061\n", b"d\0\0\0\x10half"].concat()).await;
    let mut connection = Connection::open(&options).await.unwrap();
    let mut copy = connection.copy_out("COPY t TO STDOUT").await.unwrap();
    assert_eq!(copy.next().await.unwrap().unwrap().bytes, b"1\n");
    let error = loop {
        match copy.next().await {
            Ok(Some(piece)) => assert!(!piece.ends),
            Ok(None) => panic!("a torn copy must not end well"),
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{error:?}");
    drop(copy);
    assert!(connection.is_dead());
}

#[tokio::test]
async fn a_copy_that_ends_without_completion_is_not_complete() {
    let options = scripted([COPY_OUT, b"d\0\0\0\x061\n", b"c\0\0\0\x04"].concat()).await;
    let mut connection = Connection::open(&options).await.unwrap();
    let mut copy = connection.copy_out("COPY t TO STDOUT").await.unwrap();
    assert!(copy.next().await.unwrap().is_some());
    assert!(copy.next().await.is_err());
}

#[tokio::test]
async fn forged_lengths_are_refused_at_once() {
    for forged in [&b"E\x7f\xff\xff\xff"[..], b"d\xff\xff\xff\xff", b"Z\0\0\0\0"] {
        let options = scripted([COPY_OUT, forged].concat()).await;
        let mut connection = Connection::open(&options).await.unwrap();
        let mut copy = connection.copy_out("COPY t TO STDOUT").await.unwrap();
        assert_eq!(copy.next().await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let options = scripted(b"T\x7f\xff\xff\xff".to_vec()).await;
    let mut connection = Connection::open(&options).await.unwrap();
    assert_eq!(
        connection.query("SELECT 1").await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    let options = scripted(b"D\0\0\0\x0a\xff\xff\0\0\0\x01Z\0\0\0\x05I".to_vec()).await;
    let mut connection = Connection::open(&options).await.unwrap();
    assert_eq!(
        connection.query("SELECT 1").await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=disable&connect_timeout=1");
    let options = ConnectOptions::from_url_with(&url, None, &|_| None).unwrap();
    assert_eq!(
        Connection::open(&options).await.unwrap_err().kind(),
        ErrorKind::TimedOut
    );
}
