//! A hard database goes out and comes back: by psql and stock tools, and by our own restore.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wirevault::archive::writer::ArchiveOptions;
use wirevault::archive::{ArchiveInfo, ArchiveReader, ArchiveWriter, Compression, Pipeline};
use wirevault::base::memory::{MIB, MemoryPlan};
use wirevault::base::report::{Note, Reporter, SharedReporter, silent};
use wirevault::engines::postgres::session::settings::{self, Context, Session};
use wirevault::engines::postgres::{
    ConnectOptions, Connection, PostgresRestore, PostgresSource, RestoreOptions, table_digest,
};
use wirevault::engines::{BackupContext, Source, SourceOutcome};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::upload::UploadOptions;
use wirevault::storage::{ObjectKey, SharedStore};

use crate::support::postgres::Cluster;

/// Ordinary schema, wide values, a value of 40 MB, names of every kind, no rows, no columns, NULLs, escapes, bytes.
const HARD: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'it''s fine', 'happy');
CREATE TABLE parents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, feeling mood DEFAULT 'sad',
    half numeric GENERATED ALWAYS AS (1.5) STORED, CHECK (name <> ''));
CREATE TABLE children (id serial PRIMARY KEY, parent bigint NOT NULL REFERENCES parents, doc jsonb, raw bytea, at timestamptz, f float8);
INSERT INTO parents (name, feeling) SELECT 'p' || g, CASE g % 3 WHEN 0 THEN 'happy' WHEN 1 THEN 'it''s fine' END::mood FROM generate_series(1, 5000) g;
CREATE TABLE images (a bool, b bytea, c "char", d name, e int8, f int2, g int4[], h text, i oid, j json, k float4, l float8, m inet, n cidr, o macaddr,
    p char(9), q varchar(9)[], r date, s time, t timestamp, u timestamptz[], v interval, w timetz, x bit(9), y varbit, z numeric, aa numeric(9, 2)[], ab uuid, ac jsonb, ad point, ae path);
INSERT INTO images SELECT g % 2 = 0, NULLIF(decode(md5(g::text), 'hex'), ''), 'x', 'name' || g, g * 10000000000, g % 100, ARRAY[g, NULL, -g], E'te\\xt\n' || g, g, '{"a": 1}', g / 3.0, 'NaN',
    '::1', '10.0.0.0/8', '08:00:2b:01:02:03', 'abc', ARRAY['ü', NULL], 'infinity', '24:00', '4713-01-01 BC', ARRAY[now()], '1 mon -3 days 00:00:00.000001', '12:00+05:30', B'101010101', B'1',
    CASE g % 3 WHEN 0 THEN 'NaN' WHEN 1 THEN NULL ELSE (g::numeric / 7)::numeric(200, 100) END, ARRAY[[1, 2], [3, 4.55]], gen_random_uuid(), '{"b": [1, null]}', '(1,2)', '[(0,0),(1,1)]' FROM generate_series(1, 9000) g;
INSERT INTO images (b) VALUES (decode(repeat('00ff', 1300000), 'hex')), ('');
INSERT INTO children (parent, doc, raw, at, f) SELECT 1 + g % 5000, jsonb_build_object('k', g, 't', repeat('x', g % 500)),
    decode(md5(g::text), 'hex') || '\x00ff0a5c0d'::bytea, '2026-01-01'::timestamptz + g * interval '1 s', 1 / g::float8 FROM generate_series(1, 30000) g;
CREATE INDEX ON children (parent); CREATE INDEX ON children USING gin (doc);
CREATE VIEW happy AS SELECT p.id, count(*) AS n FROM parents p JOIN children c ON c.parent = p.id WHERE feeling = 'happy' GROUP BY p.id;
CREATE TABLE texts (id int, v text);
INSERT INTO texts VALUES (1, NULL), (2, ''), (3, E'a\tb\nc\r\\d\\N\b\v'), (4, '\.'), (5, 'ü€𝄞'), (6, repeat('0123456789abcdef', 2621440)), (7, 'after');
CREATE TABLE empty (id int); CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
CREATE SCHEMA "odd ""sch'ema";
CREATE TABLE "odd ""sch'ema"."na""me
with \! break; --" ("a ""b" int, "c
d" text, "select" text, "日本" int);
INSERT INTO "odd ""sch'ema"."na""me
with \! break; --" VALUES (1, 'x', NULL, 2), (3, NULL, 'y', NULL);
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN i * 2; END $$;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.f := 0; RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT ON children FOR EACH ROW EXECUTE FUNCTION stamp();
COMMENT ON TABLE texts IS E'it''s\na "comment" \\!';
"#;

fn pipeline() -> Pipeline {
    // The smallest limit has chunks of 1 MiB, so the 40 MB value spans many.
    Pipeline::start(MemoryPlan::for_limit(96 * MIB, 2).unwrap())
}

async fn back_up(cluster: &Cluster, name: &str, store: &SharedStore, pipeline: &Pipeline) -> SourceOutcome {
    back_up_as(cluster.options(name), store, pipeline, silent()).await
}

async fn back_up_as(
    from: ConnectOptions,
    store: &SharedStore,
    pipeline: &Pipeline,
    reporter: SharedReporter,
) -> SourceOutcome {
    let options = ArchiveOptions {
        prefix: ObjectKey::new("data/db").unwrap(),
        compression: Compression::Zstd(1),
        upload: UploadOptions::default(),
        max_index_bytes: 4 << 20,
        readme: "readme\n".into(),
    };
    let writer = ArchiveWriter::create(Arc::clone(store), pipeline, options)
        .await
        .unwrap();
    let context = BackupContext {
        name: "db".into(),
        writer,
        pipeline: pipeline.clone(),
        reporter,
        cancel: CancellationToken::new(),
        parallel: 3,
        spool_dir: std::env::temp_dir(),
    };
    PostgresSource::new(from).backup(context).await.unwrap()
}

/// Returns rows and digest of every table.
async fn digests(cluster: &Cluster, name: &str) -> BTreeMap<String, (u64, String)> {
    let mut connection = Connection::open(&cluster.options(name)).await.unwrap();
    connection
        .execute(&settings::sql(Session::Reading, &Context::none()))
        .await
        .unwrap();
    let tables = "SELECT oid::pg_catalog.regclass::text FROM pg_catalog.pg_class WHERE relkind = 'r' AND relnamespace::pg_catalog.regnamespace::text !~ '^(\"?pg_|\"?information)'";
    let tables = connection.query(tables).await.unwrap();
    let mut found = BTreeMap::new();
    for table in tables.rows.into_iter().flatten().flatten() {
        let digest = table_digest(&mut connection, &format!("COPY {table} TO STDOUT"))
            .await
            .unwrap();
        found.insert(table, (digest.rows, digest.hex()));
    }
    assert!(found.len() >= 6, "{found:?}");
    found
}

pub(crate) async fn extract(store: &SharedStore, archives: &[ArchiveInfo], into: &Path) {
    for info in archives {
        let bytes = store.get(&info.archive.key, 1 << 30).await.unwrap();
        let tar = into.join("archive.tar");
        std::fs::write(&tar, zstd::decode_all(&bytes[..]).unwrap()).unwrap();
        let status = Command::new("tar")
            .arg("-xf")
            .arg(&tar)
            .current_dir(into)
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::remove_file(&tar).unwrap();
    }
}

/// Does by hand what the head of `restore.sql` says.
pub(crate) fn join(directory: &Path) {
    let script = std::fs::read_to_string(directory.join("restore.sql")).unwrap();
    for command in script.lines().filter_map(|l| l.strip_prefix("--   for ")) {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("for {command}"))
            .current_dir(directory)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_alone_brings_the_database_back() {
    let cluster = Cluster::shared();
    let (source, target) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {source}"));
    cluster.psql(&source, HARD);
    let store: SharedStore = Arc::new(MemoryStore::new());
    let outcome = back_up(&cluster, &source, &store, &pipeline()).await;
    assert!(outcome.raw_bytes > 40_000_000 && outcome.items >= 6, "{outcome:?}");
    let directory = tempfile::tempdir().unwrap();
    extract(&store, &outcome.archives, directory.path()).await;
    join(directory.path());
    cluster.psql("postgres", &format!("CREATE DATABASE {target} TEMPLATE template0"));
    cluster.psql_in(&target, directory.path(), &["-f", "restore.sql"]);
    assert_eq!(digests(&cluster, &source).await, digests(&cluster, &target).await);
    let facts = "SELECT (SELECT count(*) FROM pg_constraint WHERE contype IN ('p', 'f', 'c')), (SELECT count(*) FROM pg_trigger), (SELECT max(n) FROM happy), nextval('children_id_seq')";
    assert_eq!(cluster.psql(&source, facts), cluster.psql(&target, facts));
}

async fn restore(
    cluster: &Cluster,
    target: &str,
    reader: ArchiveReader,
    clean: bool,
) -> wirevault::Result<wirevault::engines::postgres::RestoreReport> {
    let options = RestoreOptions {
        parallel: 3,
        clean,
        verify_rows: true,
        ..RestoreOptions::default()
    };
    let restore = PostgresRestore {
        target: cluster.options(target),
        reader,
        options,
        reporter: silent(),
        task: "db".into(),
        cancel: CancellationToken::new(),
    };
    restore.run().await
}

#[tokio::test(flavor = "multi_thread")]

async fn our_restore_brings_the_database_back_and_swaps_it() {
    let cluster = Cluster::shared();
    let (source, target) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {source}"));
    cluster.psql(&source, HARD);
    let store: SharedStore = Arc::new(MemoryStore::new());
    let pipeline = pipeline();
    let outcome = back_up(&cluster, &source, &store, &pipeline).await;
    let reader = ArchiveReader::open(Arc::clone(&store), &pipeline, outcome.archives)
        .await
        .unwrap();
    let report = restore(&cluster, &target, reader.clone(), false).await.unwrap();
    assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
    let expected = digests(&cluster, &source).await;
    assert_eq!(expected, digests(&cluster, &target).await);
    assert_eq!(report.rows, expected.values().map(|(rows, _)| rows).sum::<u64>());

    // One that is not empty is refused, and replaced beside with `clean`; the old one is kept.
    cluster.psql(&target, "CREATE TABLE newer (id int)");
    let refused = restore(&cluster, &target, reader.clone(), false).await.unwrap_err();
    assert_eq!(refused.kind(), wirevault::ErrorKind::AlreadyExists);
    cluster.psql("postgres", &format!("ALTER DATABASE {target} SET work_mem = '7MB'"));
    let report = restore(&cluster, &target, reader, true).await.unwrap();
    assert_eq!(expected, digests(&cluster, &target).await);
    assert_eq!(cluster.psql(&target, "SHOW work_mem").trim(), "7MB");
    let kept = report.kept_old.unwrap();
    assert_eq!(cluster.psql(&kept, "SELECT count(*) FROM newer").trim(), "0");
}

/// What there is to say of large objects.
const OBJECTS: &str = "SELECT o.oid, pg_get_userbyid(lomowner), lomacl::text, obj_description(o.oid, 'pg_largeobject'), \
    md5(lo_get(o.oid)), length(lo_get(o.oid)) FROM pg_largeobject_metadata o ORDER BY 1";

/// Notes of a run.
#[derive(Debug, Default)]
struct Heard(std::sync::Mutex<Vec<Note>>);

impl Reporter for Heard {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn phase(&self, _: &str, _: &str) {}
    fn advance(&self, _: &str, _: u64, _: u64) {}
    fn note(&self, _: &str, note: Note) {
        self.0.lock().unwrap().push(note);
    }
    fn end(&self, _: &str, _: bool) {}
}

/// Contents, holes, owners, rights and comments come back under the same OIDs, by our restore and by psql.
#[tokio::test(flavor = "multi_thread")]
async fn large_objects_come_back() {
    let cluster = Cluster::shared();
    let (source, target, by_hand) = (cluster.fresh_name(), cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {source}"));
    cluster.psql(
        "postgres",
        &format!("CREATE ROLE \"{source} o'wner\"; CREATE ROLE {source}_reader LOGIN PASSWORD 'secret'"),
    );
    cluster.psql(
        &source,
        &format!(
            "CREATE TABLE names (id int, object oid);
            SELECT lo_from_bytea(20000, decode(repeat(md5('a'), 160000), 'hex')); SELECT lo_from_bytea(20001, '');
            SELECT lo_from_bytea(20002, 'head'); SELECT lo_put(20002, 9000000, 'after a hole');
            SELECT lo_create(20003); SELECT lo_truncate64(lo_open(20003, 131072), 40960); SELECT lo_from_bytea(3000000001, 'high');
            SELECT lo_create(20004); SELECT lo_truncate(lo_open(20004, 131072), 100);
            COMMENT ON LARGE OBJECT 20000 IS 'it''s large'; ALTER LARGE OBJECT 20001 OWNER TO \"{source} o'wner\";
            GRANT SELECT ON LARGE OBJECT 20000, 20002 TO {source}_reader; GRANT ALL ON LARGE OBJECT 20003 TO PUBLIC;
            REVOKE UPDATE ON LARGE OBJECT 20004 FROM admin;
            SELECT count(lo_from_bytea(g, ('object ' || g)::bytea)) FROM generate_series(30001, 34100) g;
            DO $$ BEGIN FOR g IN 30001..34099 LOOP EXECUTE 'GRANT SELECT ON LARGE OBJECT ' || g || ' TO {source}_reader'; END LOOP; END $$;"
        ),
    );
    let expected = cluster.psql(&source, OBJECTS);
    assert_eq!(expected.lines().count(), 4106);
    let store: SharedStore = Arc::new(MemoryStore::new());
    let pipeline = pipeline();
    let outcome = back_up(&cluster, &source, &store, &pipeline).await;
    let reader = ArchiveReader::open(Arc::clone(&store), &pipeline, outcome.archives.clone())
        .await
        .unwrap();
    let report = restore(&cluster, &target, reader, false).await.unwrap();
    assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
    assert!(cluster.psql(&target, OBJECTS) == expected);
    let directory = tempfile::tempdir().unwrap();
    extract(&store, &outcome.archives, directory.path()).await;
    join(directory.path());
    cluster.psql("postgres", &format!("CREATE DATABASE {by_hand} TEMPLATE template0"));
    cluster.psql_in(&by_hand, directory.path(), &["-f", "restore.sql"]);
    assert!(cluster.psql(&by_hand, OBJECTS) == expected);

    // A role without rights gets what it may read; what it may not is named.
    cluster.psql(&source, &format!("GRANT SELECT ON names TO {source}_reader"));
    let (store, heard): (SharedStore, _) = (Arc::new(MemoryStore::new()), Arc::new(Heard::default()));
    let mut options = cluster.options(&source);
    options.user = format!("{source}_reader");
    let outcome = back_up_as(options, &store, &pipeline, heard.clone()).await;
    assert_eq!(
        outcome.note_counts.get("degraded"),
        Some(&4),
        "{:?}",
        outcome.note_counts
    );
    let named: Vec<String> = heard.0.lock().unwrap().iter().map(|n| n.object.clone()).collect();
    for oid in ["20001", "20004", "34100", "3000000001"] {
        assert!(named.contains(&format!("large object {oid}")), "{named:?}");
    }
    let reader = ArchiveReader::open(Arc::clone(&store), &pipeline, outcome.archives)
        .await
        .unwrap();
    let report = restore(&cluster, &cluster.fresh_name(), reader, false).await.unwrap();
    assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
    let wanted: Vec<&str> = expected
        .lines()
        .filter(|l| {
            !["20001", "20004", "34100", "3000000001"]
                .iter()
                .any(|o| l.starts_with(o))
        })
        .collect();
    let got = cluster.psql(&report.database, OBJECTS);
    assert!(got.lines().collect::<Vec<_>>() == wanted);
}
