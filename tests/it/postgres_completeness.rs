//! What a backup of PostgreSQL holds, what it does not, and that it says so: options of one server alone, objects in schemas of
//! extensions, what a role may not see, and the census that finds whatever was forgotten.

use async_trait::async_trait;
use tokio_postgres::Client;
use wirevault::Result;
use wirevault::base::report::Note;
use wirevault::engines::postgres::open_client;
use wirevault::engines::postgres::schema::{Graph, SchemaOptions, Section, SqlSink, TocItem};
use wirevault::engines::postgres::session::settings::{self, Context, Session};

use crate::support::postgres::Cluster;
use crate::support::program::Program;

fn program() -> Program {
    let mut program = Program::on_directory();
    program.set("PGPASSWORD", "secret");
    program.expect(0, &["init", "--no-encryption"]);
    program
}

fn url(cluster: &Cluster, user: &str, database: &str) -> String {
    format!(
        "postgres://{user}@127.0.0.1:{}/{database}?sslmode=disable",
        cluster.port
    )
}

/// Returns what the program said on both channels, and its exit code.
fn said(program: &Program, arguments: &[&str]) -> (i32, String) {
    let output = program.run(arguments);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code().unwrap(), text)
}

/// Returns the id of the snapshot that a backup told of: two of one second are not told apart by `latest`.
fn id(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("snapshot "));
    line.unwrap_or_else(|| panic!("{text}")).trim().to_owned()
}

fn database(cluster: &Cluster, sql: &str) -> (String, String) {
    let (name, copy) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, sql);
    (name, copy)
}

/// PostgreSQL 15.20 keeps `pg_attver` with every column; no other server takes it. Here any server is made to have it.
#[tokio::test(flavor = "multi_thread")]
async fn options_that_only_one_server_knows_stay_there() {
    let (cluster, program) = (Cluster::shared(), program());
    let (name, copy) = database(
        &cluster,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x');
         CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
         ALTER MATERIALIZED VIEW m ALTER COLUMN id SET (n_distinct = 7);
         SET allow_system_table_mods = on;
         UPDATE pg_attribute SET attoptions = '{pg_attver=22158912,n_distinct=-0.5}' WHERE attrelid = 't'::regclass AND attnum = 1;
         UPDATE pg_attribute SET attoptions = '{pg_attver=1}' WHERE attrelid = 't'::regclass AND attnum = 2;",
    );
    program.expect(0, &["backup", &url(&cluster, "admin", &name)]);
    let sql = program.expect(0, &["cat", "latest", &name, "pre-data.sql"]);
    assert!(sql.contains("n_distinct") && !sql.contains("pg_attver"), "{sql}");
    program.expect(0, &["restore", "latest", "--into", &url(&cluster, "admin", &copy)]);
    let options = "SELECT attrelid::regclass, o FROM pg_attribute, unnest(attoptions) o WHERE attrelid IN ('t'::regclass, 'm'::regclass) AND attnum > 0 AND o !~ '^pg_attver' ORDER BY 1";
    assert_eq!(cluster.psql(&copy, options), "t|n_distinct=-0.5\nm|n_distinct=7\n");

    // What nobody knows is left out as well, but it is said.
    cluster.psql(
        &name,
        "SET allow_system_table_mods = on; CREATE VIEW v AS SELECT 1 AS one;
         UPDATE pg_attribute SET attoptions = '{colour=red}' WHERE attrelid = 't'::regclass AND attnum = 2;
         UPDATE pg_class SET reloptions = '{fillfactor=70,sparkle=on}' WHERE oid = 't'::regclass;
         UPDATE pg_class SET reloptions = '{security_barrier=true,shiny=on}' WHERE oid = 'v'::regclass;
         CREATE FUNCTION f() RETURNS int LANGUAGE sql SET work_mem = '5MB' AS 'SELECT 1';
         UPDATE pg_proc SET proconfig = '{work_mem=5MB,pg_fnver=7}' WHERE oid = 'f'::regproc;",
    );
    let (code, text) = said(&program, &["backup", &url(&cluster, "admin", &name)]);
    assert_eq!(code, 2, "{text}");
    for option in ["colour", "sparkle", "shiny"] {
        assert!(text.contains(&format!("option \"{option}\"")), "{text}");
    }
    let shown = program.json(&["show", &id(&text)]);
    let counts = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
    assert!(text.contains("setting \"pg_fnver\""), "{text}");
    assert_eq!(counts["unknown-option"], 4, "{shown}");
    cluster.psql("postgres", &format!("DROP DATABASE {copy}"));
    program.expect(0, &["restore", &id(&text), "--into", &url(&cluster, "admin", &copy)]);
    assert_eq!(
        cluster.psql(&copy, "SELECT proconfig, f() FROM pg_proc WHERE oid = 'f'::regproc"),
        "{work_mem=5MB}|1\n"
    );
    let options = "SELECT relname, reloptions FROM pg_class WHERE relname IN ('t', 'v') ORDER BY 1";
    assert_eq!(
        cluster.psql(&copy, options),
        "t|{fillfactor=70}\nv|{security_barrier=true}\n"
    );
}

#[derive(Default)]
struct Collected(Vec<(TocItem, String)>);

#[async_trait]
impl SqlSink for Collected {
    async fn item(&mut self, item: TocItem, sql: &str) -> Result<()> {
        self.0.push((item, sql.to_owned()));
        Ok(())
    }
}

const SECTIONS: [Section; 3] = [Section::PreData, Section::Data, Section::PostData];

/// Reads and writes a schema without the objects of some names and without what is not in `sections`; returns the SQL, the tables whose
/// rows would be copied, and what the census finds.
async fn taken(
    cluster: &Cluster,
    database: &str,
    forgotten: &[&str],
    sections: &[Section],
) -> (Vec<(TocItem, String)>, Vec<String>, Vec<Note>) {
    let client: Client = open_client(&cluster.options(database)).await.unwrap();
    client
        .batch_execute(&settings::sql(Session::Reading, &Context::none()))
        .await
        .unwrap();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.unwrap();
    let mut graph = Graph::read(&client, &SchemaOptions::default()).await.unwrap();
    for name in forgotten {
        graph.forget(name);
    }
    let mut sink = Collected::default();
    for section in sections {
        graph.write(&client, &[], *section, &mut sink).await.unwrap();
    }
    graph.census(&client, false).await.unwrap();
    let tables = graph.tables().iter().map(|t| format!("{}.{}", t.schema, t.name));
    (sink.0, tables.collect(), graph.take_findings())
}

/// The extension's own script cannot make a schema here, so it is given one, and a table, as its script would have made them.
const MEMBERS: &str = "CREATE EXTENSION hstore; CREATE SCHEMA mini; ALTER EXTENSION hstore ADD SCHEMA mini;
    CREATE TABLE public.theirs (id int PRIMARY KEY, name text); ALTER EXTENSION hstore ADD TABLE public.theirs;";

#[tokio::test(flavor = "multi_thread")]
async fn what_users_add_to_an_extension_comes_back() {
    let cluster = Cluster::shared();
    let (name, copy) = database(&cluster, MEMBERS);
    // Another transaction than that of the members.
    cluster.psql(
        &name,
            "CREATE TABLE mini.t (id serial PRIMARY KEY, doc hstore); INSERT INTO mini.t (doc) VALUES ('a=>1');
             CREATE FUNCTION mini.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE mini.mood AS ENUM ('a');
             CREATE TABLE child (extra int) INHERITS (public.theirs); CREATE TABLE pointing (id int REFERENCES public.theirs);
             CREATE PUBLICATION pub FOR TABLE public.theirs; CREATE INDEX ours ON public.theirs (name); CREATE INDEX twice ON public.theirs (name, id);
             CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER ours BEFORE INSERT ON public.theirs FOR EACH ROW EXECUTE FUNCTION act();
             ALTER TABLE public.theirs ADD CONSTRAINT ours CHECK (id > 0); COMMENT ON INDEX ours IS 'it''s ours';",
    );
    let (items, tables, findings) = taken(&cluster, &name, &[], &SECTIONS).await;
    assert_eq!(findings, []);
    assert!(tables.contains(&"mini.t".to_owned()), "{tables:?}");
    assert!(!tables.contains(&"public.theirs".to_owned()), "{tables:?}");
    cluster.psql("postgres", &format!("CREATE DATABASE {copy} TEMPLATE template0"));
    // A newer version of the extension has one of the indexes itself.
    cluster.psql(&copy, &format!("{MEMBERS} CREATE INDEX twice ON public.theirs (id)"));
    let client = open_client(&cluster.options(&copy)).await.unwrap();
    client
        .batch_execute("SELECT pg_catalog.set_config('search_path', '', false)")
        .await
        .unwrap();
    for (item, sql) in &items {
        let done = client.batch_execute(sql).await;
        assert!(done.is_ok(), "{} {}: {done:?}\n{sql}", item.kind, item.name);
    }
    let facts = "SELECT string_agg(x, ';' ORDER BY x) FROM (
        SELECT 'child of ' || inhparent::regclass FROM pg_inherits WHERE inhrelid = 'child'::regclass
        UNION ALL SELECT 'published ' || prrelid::regclass FROM pg_publication_rel
        UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'theirs'::regclass
        UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = 'theirs'::regclass AND NOT tgisinternal
        UNION ALL SELECT conrelid::regclass || ' ' || conname FROM pg_constraint WHERE 'theirs'::regclass IN (conrelid, confrelid)
        UNION ALL SELECT 'comment ' || obj_description('ours'::regclass)
        UNION ALL SELECT 'function ' || mini.f()) f(x)";
    let (there, here) = (cluster.psql(&name, facts), cluster.psql(&copy, facts));
    let twice = "CREATE INDEX twice ON public.theirs USING btree";
    assert_eq!(
        there.replace(&format!("{twice} (name, id)"), &format!("{twice} (id)")),
        here
    );
    for fact in [
        "child of theirs",
        "published theirs",
        "INDEX ours",
        "trigger ours",
        "comment it's ours",
        "function 1",
    ] {
        assert!(here.contains(fact), "{fact}: {here}");
    }
}

/// A census that finds nothing in a whole backup must find what is missing in one that is not whole.
#[tokio::test(flavor = "multi_thread")]
async fn the_census_names_what_was_forgotten() {
    let cluster = Cluster::shared();
    let (name, _) = database(
        &cluster,
        "CREATE SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY, v text DEFAULT 'x' CHECK (v <> '')); CREATE INDEX i ON s.t (v);
         CREATE VIEW s.v AS SELECT * FROM s.t; CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE s.e AS ENUM ('a');
         CREATE TYPE s.c AS (a int); CREATE DOMAIN s.d AS int CHECK (VALUE > 0); COMMENT ON COLUMN s.t.v IS 'c';
         CREATE SEQUENCE s.q; CREATE RULE r AS ON DELETE TO s.t DO INSTEAD NOTHING; ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON s.t USING (true); CREATE PUBLICATION b FOR TABLE s.t; CREATE STATISTICS s.st ON id, v FROM s.t;
         CREATE TABLE s.parts (k int) PARTITION BY LIST (k); CREATE TABLE s.part PARTITION OF s.parts FOR VALUES IN (1);
         ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO PUBLIC; CREATE AGGREGATE s.a (int) (SFUNC = int4pl, STYPE = int);
         CREATE OPERATOR s.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq); CREATE CAST (s.c AS text) WITH INOUT;
         CREATE FUNCTION s.g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER tr BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.g();
         CREATE MATERIALIZED VIEW s.m AS SELECT 1 AS one; CREATE COLLATION s.co FROM \"C\"; CREATE CONVERSION s.cv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
         CREATE TEXT SEARCH DICTIONARY s.di (TEMPLATE = simple); CREATE TEXT SEARCH CONFIGURATION s.cf (COPY = simple);",
    );
    let (_, _, whole) = taken(&cluster, &name, &[], &SECTIONS).await;
    assert_eq!(whole, []);
    for (forgotten, named) in [
        ("f", "FUNCTION \"s\".\"f\""),
        ("a", "FUNCTION \"s\".\"a\""),
        ("e", "TYPE \"s\".\"e\""),
        ("d", "TYPE \"s\".\"d\""),
        ("c", "TYPE \"s\".\"c\""),
        ("i", "RELATION \"s\".\"i\""),
        ("v", "RELATION \"s\".\"v\""),
        ("m", "RELATION \"s\".\"m\""),
        ("q", "RELATION \"s\".\"q\""),
        ("t", "RELATION \"s\".\"t\""),
        ("part", "RELATION \"s\".\"part\""),
        ("tr", "TRIGGER \"s\".\"t tr\""),
        ("r", "RULE \"s\".\"t r\""),
        ("p", "POLICY \"s\".\"t p\""),
        ("t_pkey", "CONSTRAINT \"s\".\"t t_pkey\""),
        ("b", "PUBLICATION \"b\""),
        ("st", "STATISTICS \"s\".\"st\""),
        ("===", "OPERATOR \"s\".\"===\""),
        ("co", "COLLATION \"s\".\"co\""),
        ("cv", "CONVERSION \"s\".\"cv\""),
        ("di", "TEXT SEARCH DICTIONARY \"s\".\"di\""),
        ("cf", "TEXT SEARCH CONFIGURATION \"s\".\"cf\""),
        ("c AS text", "CAST \"c AS text\""),
        ("s", "SCHEMA \"s\""),
    ] {
        let (_, _, findings) = taken(&cluster, &name, &[forgotten], &SECTIONS).await;
        let found = findings
            .iter()
            .any(|n| n.code == "not-stored" && n.object.contains(named));
        assert!(found, "{forgotten}: {findings:?}");
    }
    // The default privileges and all that stands after the data.
    let (_, _, findings) = taken(&cluster, &name, &[], &[Section::PreData, Section::Data]).await;
    let all: String = findings.iter().map(|n| n.object.clone()).collect();
    for named in [
        "DEFAULT ACL",
        "RELATION \"s\".\"i\"",
        "t_pkey",
        "POLICY",
        "TRIGGER",
        "PUBLICATION TABLE",
    ] {
        assert!(all.contains(named), "{named}: {all}");
    }
    // A forgotten table is forgotten with its comment.
    let (_, _, findings) = taken(&cluster, &name, &["t"], &SECTIONS).await;
    assert!(
        findings.iter().any(|n| n.object.contains("comment on \"s\".\"t\"")),
        "{findings:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_a_schema_of_the_system_is_named() {
    let (cluster, program) = (Cluster::shared(), program());
    let (name, _) = database(
        &cluster,
        "CREATE FUNCTION pg_catalog.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE t (a int)",
    );
    let (code, text) = said(&program, &["backup", &url(&cluster, "admin", &name)]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("FUNCTION \"pg_catalog\".\"mine\""), "{text}");
    let shown = program.json(&["show", &id(&text)]);
    assert_eq!(
        shown["snapshot"]["sources"][0]["outcome"]["note_counts"]["not-stored"], 1,
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_may_not_see_is_named() {
    let (cluster, program) = (Cluster::start(), program());
    let (name, copy) = database(
        &cluster,
        "CREATE ROLE reader LOGIN PASSWORD 'secret'; CREATE ROLE app LOGIN PASSWORD 'x';
         CREATE EXTENSION postgres_fdw; CREATE SERVER sv FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'h');
         CREATE USER MAPPING FOR app SERVER sv OPTIONS (user 'u', password 'hidden'); CREATE USER MAPPING FOR reader SERVER sv;
         GRANT USAGE ON FOREIGN SERVER sv TO reader; CREATE TABLE t (a int); GRANT SELECT ON t TO reader;",
    );
    program.expect(0, &["backup", &url(&cluster, "admin", &name)]);
    let sql = program.expect(0, &["cat", "latest", &name, "pre-data.sql"]);
    assert!(sql.contains("'hidden'"), "{sql}");

    let (code, text) = said(&program, &["backup", &url(&cluster, "reader", &name)]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("USER MAPPING FOR \"app\" SERVER \"sv\""), "{text}");
    assert!(!text.contains("FOR \"reader\""), "its own are seen: {text}");
    assert!(text.contains("the passwords of these roles"), "{text}");
    let shown = program.json(&["show", &id(&text)]);
    let counts = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
    assert_eq!(
        (&counts["hidden-options"], &counts["hidden-passwords"]),
        (&1.into(), &1.into()),
        "{shown}"
    );

    // Whoever restores it hears of it again.
    let (code, restored) = said(
        &program,
        &["restore", &id(&text), "--into", &url(&cluster, "admin", &copy)],
    );
    assert_eq!(code, 0, "{restored}");
    let again = restored.lines().filter(|l| l.contains("not-in-backup")).count();
    assert_eq!(again, 2, "{restored}");

    // Passwords can be left out, then they are not missed.
    let (_, text) = said(
        &program,
        &["backup", "--no-role-passwords", &url(&cluster, "reader", &name)],
    );
    assert!(!text.contains("passwords of these roles"), "{text}");

    // Who may read the two catalogs loses nothing: pg_read_all_data is enough.
    cluster.psql(&name, "GRANT pg_read_all_data TO reader");
    let text = program.expect(0, &["backup", &url(&cluster, "reader", &name)]);
    let sql = program.expect(0, &["cat", &id(&text), &name, "pre-data.sql"]);
    assert!(sql.contains("'hidden'"), "{sql}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_roles_is_good_enough_for_a_drill() {
    let (there, here, program) = (Cluster::start(), Cluster::start(), program());
    there.psql(
        "postgres",
        "CREATE ROLE app LOGIN; CREATE ROLE ro; CREATE ROLE stranger",
    );
    there.psql("postgres", "CREATE DATABASE d OWNER app");
    there.psql(
        "d",
        "CREATE TABLE t (id int PRIMARY KEY, o name); INSERT INTO t VALUES (1, 'x'); ALTER TABLE t OWNER TO app; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON t TO ro USING (true); GRANT ALL ON t TO ro; ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT ALL ON TABLES TO ro;
         CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION f() OWNER TO app; CREATE SCHEMA z AUTHORIZATION app;
         ALTER ROLE app IN DATABASE d SET work_mem = '9MB'; CREATE EXTENSION postgres_fdw; CREATE SERVER sv FOREIGN DATA WRAPPER postgres_fdw;
         CREATE USER MAPPING FOR app SERVER sv OPTIONS (user 'u'); CREATE FUNCTION old() RETURNS int LANGUAGE sql AS 'SELECT 1';
         ALTER EXTENSION postgres_fdw ADD FUNCTION old(); REVOKE EXECUTE ON FUNCTION old() FROM PUBLIC;",
    );
    program.expect(0, &["backup", &url(&there, "admin", "d")]);
    // All rights of an older server are spelled out: to a newer one the word means one more.
    let sql = program.expect(0, &["cat", "latest", "d", "post-data.sql"]);
    let seven = "GRANT INSERT, SELECT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON TABLE";
    assert!(sql.contains(&format!("{seven} \"public\".\"t\" TO \"ro\"")), "{sql}");
    assert!(
        sql.contains(&format!("{seven}S TO \"ro\"")) && !sql.contains("GRANT ALL"),
        "{sql}"
    );

    let (code, text) = said(
        &program,
        &[
            "verify",
            "latest",
            "--level",
            "restored",
            "--into",
            &url(&here, "admin", "postgres"),
        ],
    );
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("skipped d: POLICY") && text.contains("skipped d: USER MAPPING"),
        "{text}"
    );
    let into = url(&here, "admin", "bare");
    let (code, text) = said(
        &program,
        &["restore", "latest", "--into", &into, "--no-owner", "--no-privileges"],
    );
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("POLICY public.t p") && text.contains("left-out"),
        "{text}"
    );
    assert_eq!(here.psql("bare", "SELECT count(*) FROM t").trim(), "1");

    // Without these options the roles are wanted, and what fails for them is a failure.
    let into = url(&here, "admin", "full");
    let (code, text) = said(&program, &["restore", "latest", "--into", &into]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("failed: d: POLICY public.t p"), "{text}");
    let missing: Vec<&str> = text.lines().filter(|l| l.contains("missing-role")).collect();
    assert!(
        missing.iter().any(|l| l.contains("app")) && missing.iter().any(|l| l.contains("ro")),
        "{missing:?}"
    );
    assert!(
        !text.contains("stranger"),
        "no role that the database does not name: {text}"
    );
    // The extension of this server has no such function; that is told, and no failure.
    assert!(
        text.contains("left-out") && !text.contains("failed: d: ACL ROUTINE"),
        "{text}"
    );
    let plan = program.json(&[
        "restore",
        "latest",
        "--into",
        &url(&here, "admin", "planned"),
        "--dry-run",
    ]);
    assert!(
        plan.to_string().contains("\"app\"") && !plan.to_string().contains("stranger"),
        "{plan}"
    );
}

/// Names of subscriptions are unique in a database only, while the server keeps them in one catalog.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_of_another_database_is_not_missed() {
    let (cluster, program) = (Cluster::shared(), program());
    let sql =
        "CREATE SUBSCRIPTION same CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)";
    let (name, copy) = database(&cluster, sql);
    database(&cluster, sql);
    program.expect(0, &["backup", &url(&cluster, "admin", &name)]);
    program.expect(0, &["restore", "latest", "--into", &url(&cluster, "admin", &copy)]);
    let here = "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()";
    assert_eq!(cluster.psql(&copy, here).trim(), "same");
}
