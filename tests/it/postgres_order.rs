//! The order of a restore: what waits for what is known, and nothing is lost where items run in another order.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use async_trait::async_trait;
use tokio_postgres::{Client, NoTls};
use wirevault::Result;
use wirevault::engines::postgres::schema::{Graph, SchemaOptions, Section, SqlSink, TocItem};
use wirevault::engines::postgres::session::settings::{self, Context, Session};

use crate::support::postgres::Cluster;
use crate::support::program::Program;

const FIXTURES: [&str; 2] = [
    include_str!("../../fixtures/schema_ordinary.sql"),
    include_str!("../../fixtures/schema_rare.sql"),
];
const ROLES: &str = "CREATE ROLE postgres SUPERUSER; CREATE ROLE wv_super SUPERUSER; CREATE ROLE wv_owner; CREATE ROLE wv_reader LOGIN; CREATE ROLE \"wv \"\"other\"\"\"; GRANT wv_reader TO wv_owner WITH ADMIN OPTION;";

/// What the fixtures lack: a cast within expressions, rights that are passed on below a schema that not everybody may use, rights
/// to columns of a system view, a guard against every change.
const MORE: &str = "CREATE SCHEMA ord; CREATE TYPE ord.pair AS (a int, b int); \
    CREATE FUNCTION ord.pair_text(ord.pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a::text'; \
    CREATE CAST (ord.pair AS text) WITH FUNCTION ord.pair_text(ord.pair); \
    CREATE VIEW ord.cast_view AS SELECT ROW(1, 2)::ord.pair::text AS t; CREATE TABLE ord.cast_table (p ord.pair, CHECK (p::text <> 'x')); \
    CREATE INDEX cast_index ON ord.cast_table ((p::text)); \
    REVOKE ALL ON SCHEMA ord FROM PUBLIC; GRANT USAGE ON SCHEMA ord TO wv_reader; GRANT SELECT ON ord.cast_table TO wv_reader WITH GRANT OPTION; \
    SET SESSION AUTHORIZATION wv_reader; GRANT SELECT ON ord.cast_table TO wv_owner; RESET SESSION AUTHORIZATION; \
    REVOKE SELECT ON pg_catalog.pg_proc FROM PUBLIC; GRANT SELECT (oid, proname, proowner) ON pg_catalog.pg_proc TO PUBLIC; \
    CREATE FUNCTION ord.guard() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no change here: %', tg_tag; END $$; \
    CREATE EVENT TRIGGER wv_guard ON ddl_command_start EXECUTE FUNCTION ord.guard();";

/// Everything that an order could spoil, in one text.
const SEEN: &str = "SELECT md5(string_agg(line, E'\\n' ORDER BY line COLLATE \"C\")), count(*) FROM ( \
    SELECT 'c' || c.oid::regclass || c.relkind::text || c.relrowsecurity || c.relispopulated || COALESCE(c.relacl, acldefault((CASE relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\", relowner))::text AS line FROM pg_class c WHERE relnamespace <> 'pg_toast'::regnamespace AND (oid >= 16384 OR relacl IS NOT NULL) \
    UNION ALL SELECT 'a' || attrelid::regclass || attname || attnum || attacl::text FROM pg_attribute WHERE attacl IS NOT NULL \
    UNION ALL SELECT 'p' || oid::regprocedure || COALESCE(proacl, acldefault('f', proowner))::text || pg_get_userbyid(proowner) FROM pg_proc WHERE oid >= 16384 OR proacl IS NOT NULL \
    UNION ALL SELECT 't' || oid::regtype || typtype::text || COALESCE(typacl, acldefault('T', typowner))::text FROM pg_type WHERE typnamespace <> 'pg_toast'::regnamespace AND (oid >= 16384 OR typacl IS NOT NULL) \
    UNION ALL SELECT 'k' || conrelid::regclass || conname || pg_get_constraintdef(oid) || COALESCE(obj_description(oid, 'pg_constraint'), '') FROM pg_constraint WHERE conrelid <> 0 \
    UNION ALL SELECT 'i' || indexrelid::regclass || indisvalid || indisprimary || indisclustered || indisreplident FROM pg_index WHERE indexrelid >= 16384 AND indrelid NOT IN (SELECT oid FROM pg_class WHERE relkind = 't') \
    UNION ALL SELECT 'h' || inhrelid::regclass || inhparent::regclass || inhseqno FROM pg_inherits \
    UNION ALL SELECT 'v' || oid::regclass || pg_get_viewdef(oid) FROM pg_class WHERE relkind IN ('v', 'm') AND oid >= 16384 \
    UNION ALL SELECT 'g' || tgrelid::regclass || tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal \
    UNION ALL SELECT 'n' || nspname || COALESCE(nspacl, acldefault('n', nspowner))::text FROM pg_namespace WHERE nspname !~ '^pg_toast' \
    UNION ALL SELECT 'd' || defaclobjtype::text || defaclacl::text FROM pg_default_acl \
    UNION ALL SELECT 'e' || evtname || evtenabled::text FROM pg_event_trigger UNION ALL SELECT 'x' || extname FROM pg_extension \
    UNION ALL SELECT 'o' || oid::regoperator || oprcom::regoperator || oprnegate::regoperator FROM pg_operator WHERE oid >= 16384 \
    UNION ALL SELECT 'u' || pubname || COALESCE(prrelid::regclass::text, '') FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid) l";

#[derive(Default)]
struct Collected(Vec<(TocItem, String)>);

#[async_trait]
impl SqlSink for Collected {
    async fn item(&mut self, item: TocItem, sql: &str) -> Result<()> {
        self.0.push((item, sql.to_owned()));
        Ok(())
    }
}

async fn connect(cluster: &Cluster, database: &str) -> Client {
    let config = format!(
        "host=127.0.0.1 port={} user=admin password=secret dbname={database}",
        cluster.port
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn items(client: &Client) -> Vec<(TocItem, String)> {
    client
        .batch_execute(&settings::sql(Session::Reading, &Context::none()))
        .await
        .unwrap();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.unwrap();
    let graph = Graph::read(client, &SchemaOptions::default()).await.unwrap();
    let mut sink = Collected::default();
    for section in [Section::PreData, Section::PostData] {
        graph.write(client, &[], section, &mut sink).await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
    sink.0
}

/// What no catalog names: rights come after what is made, refreshes after the rights, event triggers after all else.
fn pass(item: &TocItem) -> (Section, u8) {
    let pass = match item.kind.as_str() {
        "ACL" | "DEFAULT ACL" | "SECURITY LABEL" => 1,
        "MATERIALIZED VIEW DATA" => 2,
        kind if kind.starts_with("DATABASE") => 3,
        "EVENT TRIGGER" => 4,
        _ => 0,
    };
    (item.section, pass)
}

/// Returns an order that the needs allow, by numbers from a seed.
fn random_order(items: &[(TocItem, String)], seed: &mut u64) -> Vec<usize> {
    let places: HashMap<u32, usize> = items.iter().enumerate().map(|(at, i)| (i.0.id, at)).collect();
    let mut waits = vec![0; items.len()];
    let mut wakes = vec![Vec::new(); items.len()];
    for (at, (item, _)) in items.iter().enumerate() {
        for needed in &item.depends_on {
            let needed = places[needed];
            wakes[needed].push(at);
            waits[at] += 1;
        }
    }
    let mut order = Vec::new();
    let mut passes: Vec<(Section, u8)> = items.iter().map(|(i, _)| pass(i)).collect();
    passes.sort_unstable();
    passes.dedup();
    for current in passes {
        let of_pass = |at: &usize| pass(&items[*at].0) == current;
        let mut ready: Vec<usize> = (0..items.len()).filter(|at| of_pass(at) && waits[*at] == 0).collect();
        while !ready.is_empty() {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            let at = ready.swap_remove((*seed % ready.len() as u64) as usize);
            order.push(at);
            for &woken in &wakes[at] {
                waits[woken] -= 1;
                if waits[woken] == 0 && of_pass(&woken) {
                    ready.push(woken);
                }
            }
        }
    }
    assert_eq!(order.len(), items.len(), "an item waits for one of a later pass");
    order
}

/// 200 restores of one database, each in another order that the table of contents allows, are all the same.
#[tokio::test(flavor = "multi_thread")]
async fn every_order_that_the_needs_allow_restores_the_same() {
    let cluster = Cluster::start();
    cluster.psql("postgres", ROLES);
    cluster.psql("postgres", "CREATE DATABASE original TEMPLATE template0");
    let original = connect(&cluster, "original").await;
    for fixture in FIXTURES {
        original.batch_execute(&known_to(15, fixture)).await.unwrap();
    }
    original.batch_execute("RESET ALL").await.unwrap();
    original.batch_execute(MORE).await.unwrap();
    original.batch_execute("RESET ALL").await.unwrap();
    let items = items(&original).await;
    let ids: HashSet<u32> = items.iter().map(|(i, _)| i.id).collect();
    assert_eq!(ids.len(), items.len());
    let mut rights = HashSet::new();
    for (item, _) in items.iter().filter(|(i, _)| i.kind == "ACL" && i.schema.is_none()) {
        assert!(rights.insert(&item.name), "two items for the rights of {}", item.name);
    }
    let begin = "SET check_function_bodies = off; SET row_security = off; SELECT pg_catalog.set_config('search_path', '', false)";
    let settings = |client: Client| async move {
        client.batch_execute(begin).await.unwrap();
        client
    };
    cluster.psql("postgres", "CREATE DATABASE other TEMPLATE template0");
    let other = settings(connect(&cluster, "other").await).await;
    let mut seed = 0x5eed_0000_0001_u64;
    let mut wanted = None;
    for round in 0..200 {
        let before = seed;
        let order = random_order(&items, &mut seed);
        other.batch_execute("BEGIN").await.unwrap();
        for at in order {
            let (item, sql) = &items[at];
            if let Err(error) = other.batch_execute(sql).await {
                panic!(
                    "order {round} (seed {before:#x}): {} {}: {error:?}\n{sql}",
                    item.kind, item.name
                );
            }
        }
        let row = other.query_one(SEEN, &[]).await.unwrap();
        other.batch_execute("ROLLBACK").await.unwrap();
        let seen: (String, i64) = (row.get(0), row.get(1));
        assert!(seen.1 > 500, "{seen:?}");
        assert_eq!(
            *wanted.get_or_insert(seen.clone()),
            seen,
            "order {round} (seed {before:#x})"
        );
    }
    // The session that read the schema quotes every name.
    let original = settings(connect(&cluster, "original").await).await;
    let row = original.query_one(SEEN, &[]).await.unwrap();
    assert_eq!(wanted.unwrap(), (row.get(0), row.get(1)), "the original");
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

struct Backup {
    cluster: Cluster,
    program: Program,
}

impl Backup {
    fn of(sql: &str) -> Self {
        let cluster = Cluster::start();
        cluster.psql("postgres", "CREATE DATABASE app");
        cluster.psql("app", sql);
        let mut program = Program::on_directory();
        program.set("PGPASSWORD", "secret");
        program.expect(0, &["init", "--no-encryption"]);
        let backup = Self { cluster, program };
        backup.program.expect(0, &["backup", &backup.url("app")]);
        backup
    }

    fn url(&self, database: &str) -> String {
        let port = self.cluster.port;
        format!("postgres://admin@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    fn restore(&self, database: &str, flags: &[&str]) {
        let url = self.url(database);
        let all: Vec<&str> = ["restore", "latest", "--into", &url]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        self.program.expect(0, &all);
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        let said = self.cluster.psql_in(database, Path::new("/"), &["-c", sql]);
        said.trim().to_owned()
    }
}

/// Event triggers that forbid or note every change see nothing of the restore.
#[test]
fn event_triggers_come_last_of_all() {
    let backup = Backup::of(
        "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('x'); CREATE INDEX ON t (v); CREATE MATERIALIZED VIEW m AS SELECT * FROM t; \
         CREATE TABLE audit (tag text); CREATE FUNCTION guard() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no change here: %', tg_tag; END $$; \
         CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.audit VALUES (tg_tag); END $$; \
         GRANT SELECT ON t TO PUBLIC; CREATE POLICY p ON t USING (true); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
         CREATE FUNCTION late() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE EVENT TRIGGER n ON ddl_command_end EXECUTE FUNCTION note(); CREATE EVENT TRIGGER g ON ddl_command_start EXECUTE FUNCTION guard()",
    );
    let seen = "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM m), (SELECT string_agg(evtname || evtenabled::text, ' ' ORDER BY evtname) FROM pg_event_trigger)";
    let wanted = backup.psql("app", seen);
    assert_eq!(wanted, "0|1|gO nO");
    let dump = backup.cluster.pg_dump("app", &[]);
    for flags in [&[][..], &["--verify-rows", "--clean", "--drop-old"], &["--clean"]] {
        backup.restore("copy", flags);
        assert_eq!(backup.psql("copy", seen), wanted);
        assert_eq!(backup.cluster.pg_dump("copy", &[]), dump);
    }
    let url = backup.url("postgres");
    backup
        .program
        .expect(0, &["verify", "latest", "--level", "restored", "--into", &url]);
}

/// Rights to columns of a system table stand behind what is taken from the table itself, in parallel too.
#[test]
fn rights_to_columns_of_system_tables_come_back() {
    let backup = Backup::of(
        "REVOKE SELECT ON pg_proc FROM PUBLIC; GRANT SELECT (oid, proname, pronamespace, proowner, prolang, procost, prorows, prokind, pronargs) ON pg_proc TO PUBLIC; \
         CREATE TABLE t AS SELECT generate_series(1, 100) AS a",
    );
    let seen = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'pg_proc'::regclass AND attacl IS NOT NULL";
    assert_eq!(backup.psql("app", seen), "9");
    for round in 0..5 {
        backup.restore("copy", &["--clean", "--drop-old"]);
        assert_eq!(backup.psql("copy", seen), "9", "{round}");
    }
}

/// Configuration tables of an extension have their foreign keys before their rows.
#[test]
fn configuration_tables_are_loaded_by_their_foreign_keys() {
    // The tables are made members by hand: no extension of ours can be installed on the server. The target has them already.
    let members = "CREATE EXTENSION hstore; CREATE TABLE zz_parent (id int PRIMARY KEY, up int REFERENCES zz_parent); \
        CREATE TABLE aa_child (id int PRIMARY KEY, parent int REFERENCES zz_parent); \
        ALTER EXTENSION hstore ADD TABLE zz_parent; ALTER EXTENSION hstore ADD TABLE aa_child; \
        UPDATE pg_extension SET extconfig = ARRAY['aa_child'::regclass::oid, 'zz_parent'::regclass::oid], extcondition = ARRAY['', ''] WHERE extname = 'hstore';";
    let backup = Backup::of(&format!(
        "{members} INSERT INTO zz_parent SELECT g, 3001 - g FROM generate_series(1, 3000) g; INSERT INTO aa_child SELECT g, 3001 - g FROM generate_series(1, 3000) g"
    ));
    backup.cluster.psql("postgres", "CREATE DATABASE copy");
    backup.psql("copy", members);
    backup.restore("copy", &["--data-only"]);
    let seen = "SELECT (SELECT count(*) FROM zz_parent), (SELECT count(*) FROM aa_child)";
    assert_eq!(backup.psql("copy", seen), "3000|3000");
}
