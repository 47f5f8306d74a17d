//! Databases and targets that make trouble: each is named, and nothing is lost at the source or the target.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;

use crate::support::postgres::Cluster;
use crate::support::program::Program;
use crate::support::wait;

/// Keeps a COPY in its middle for as long as what happens to it takes.
const SLOW: &str = "--limit-rate=1MiB/s";

struct Trouble {
    cluster: Arc<Cluster>,
    program: Program,
    name: String,
}

impl Trouble {
    fn new(cluster: Arc<Cluster>, statements: &[&str]) -> Self {
        let name = cluster.fresh_name();
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        for sql in statements {
            cluster.psql(&name, sql);
        }
        let mut program = Program::on_directory();
        program.set("PGPASSWORD", "secret");
        program.expect(0, &["init", "--no-encryption"]);
        Self { cluster, program, name }
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://admin@127.0.0.1:{}/{database}?sslmode=disable",
            self.cluster.port
        )
    }

    fn copy(&self) -> String {
        format!("{}_copy", self.name)
    }

    fn backup(&self, code: i32) -> String {
        self.run(code, &["backup", &self.url(&self.name)])
    }

    fn restore(&self, code: i32, flags: &[&str]) -> String {
        let into = self.url(&self.copy());
        let all: Vec<&str> = ["restore", "latest", "--into", &into]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        self.run(code, &all)
    }

    /// Runs to the end and returns all that was said.
    fn run(&self, code: i32, arguments: &[&str]) -> String {
        let (got, said) = ended(self.start(arguments));
        assert_eq!(got, code, "{arguments:?}: {said}");
        said
    }

    fn ask(&self, database: &str, sql: &str) -> String {
        self.cluster
            .psql_in(database, Path::new("/"), &["-c", sql])
            .trim()
            .to_owned()
    }

    fn databases(&self) -> String {
        let like = format!(
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE '{}%'",
            self.name
        );
        self.ask("postgres", &like)
    }

    /// Waits until a query of another session is seen.
    fn wait_for(&self, condition: &str) {
        let asked = format!("SELECT count(*) > 0 FROM {condition}");
        wait::until(condition, || self.ask("postgres", &asked) == "t");
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.program.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn what_cannot_be_made_is_named_and_the_rest_is_there() {
    let cluster = Cluster::shared();
    let role = cluster.fresh_name();
    let trouble = Trouble::new(
        Arc::clone(&cluster),
        &[
            "CREATE VIEW self AS SELECT 1 AS a",
            "CREATE OR REPLACE VIEW self AS SELECT a FROM self",
            "CREATE TABLE rows (id int PRIMARY KEY, v text); INSERT INTO rows SELECT g, 'v' || g FROM generate_series(1, 100) g",
            "CREATE SCHEMA far; CREATE FUNCTION far.inner_one(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'",
            "CREATE FUNCTION by_path(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_one($1); END'",
            "SET search_path = far, public; CREATE INDEX relies ON rows (by_path(v)); CREATE INDEX fine ON rows (v)",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'fine'::regclass",
            &format!(
                "CREATE ROLE {role}; CREATE TABLE orphan (a int); ALTER TABLE orphan OWNER TO {role}; INSERT INTO orphan VALUES (7)"
            ),
            &format!("DELETE FROM pg_authid WHERE rolname = '{role}'"),
            "CREATE EXTENSION citext; UPDATE pg_extension SET extname = 'not_installed_here' WHERE extname = 'citext'",
            "CREATE TABLE \"\\! touch /tmp/wirevault-was-here\n'; DROP TABLE rows; --\" (\"co\"\"l\n\\q\" int)",
            "INSERT INTO \"\\! touch /tmp/wirevault-was-here\n'; DROP TABLE rows; --\" VALUES (1), (2)",
        ],
    );
    let said = trouble.backup(0);
    assert!(said.contains("invalid indexes"), "{said}");
    let plan = trouble.restore(0, &["--dry-run"]);
    assert!(plan.contains("not_installed_here"), "{plan}");
    assert_eq!(trouble.databases(), trouble.name);
    let said = trouble.restore(2, &[]);
    for named in [
        "INDEX public.relies",
        "search_path",
        "EXTENSION not_installed_here",
        "TABLE public.orphan",
        "install it",
    ] {
        assert!(said.contains(named), "{named}: {said}");
    }
    let copy = trouble.copy();
    assert_eq!(
        trouble.ask(&copy, "SELECT count(*) || ' ' || (SELECT a FROM orphan) FROM rows"),
        "100 7"
    );
    assert_eq!(
        trouble.ask(&copy, "SELECT count(*) FROM \"\\! touch /tmp/wirevault-was-here\n'; DROP TABLE rows; --\" WHERE \"co\"\"l\n\\q\" > 0"),
        "2"
    );
    assert!(!Path::new("/tmp/wirevault-was-here").exists());
    let views = "SELECT pg_get_viewdef('self'::regclass)";
    assert!(
        trouble.ask(&copy, views).contains("self"),
        "{}",
        trouble.ask(&copy, views)
    );
}

#[test]
fn a_table_that_is_dropped_after_the_list_costs_an_attempt() {
    let trouble = Trouble::new(
        Cluster::shared(),
        &[
            "CREATE TABLE stays AS SELECT 1 AS a",
            "CREATE TABLE goes AS SELECT 2 AS a",
        ],
    );
    let database = trouble.name.clone();
    let of_this = |what: &str| {
        format!(
            "pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = '{database}' AND NOT granted AND {what}"
        )
    };
    std::thread::scope(|scope| {
        // The table is dropped, and stays locked until the backup has listed it and waits for it.
        let mut keeper = trouble.cluster.session(&database);
        keeper.say("SELECT pg_advisory_lock(4711);");
        trouble.wait_for(&format!("pg_locks WHERE locktype = 'advisory' AND granted AND objid = 4711 AND database = (SELECT oid FROM pg_database WHERE datname = '{database}')"));
        let dropper = scope.spawn(|| {
            let session = "BEGIN; DROP TABLE goes; SELECT pg_advisory_lock(4711); COMMIT";
            trouble.cluster.psql(&database, session)
        });
        trouble.wait_for(&of_this("locktype = 'advisory'"));
        let backup = trouble.start(&["backup", &trouble.url(&database)]);
        trouble.wait_for(&of_this("locktype = 'relation'"));
        keeper.end();
        dropper.join().unwrap();
        let (code, said) = ended(backup);
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("error"), "{said}");
    });
    trouble.restore(0, &[]);
    let tables = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(trouble.ask(&trouble.copy(), tables), "stays");
}

#[test]
fn another_encoding_and_a_target_with_rows_are_refused_whole() {
    let trouble = Trouble::new(
        Cluster::shared(),
        &["CREATE TABLE words (id int, w text); INSERT INTO words VALUES (1, 'plain'), (2, '漢字')"],
    );
    trouble.backup(0);
    let copy = trouble.copy();
    trouble.cluster.psql(
        "postgres",
        &format!("CREATE DATABASE {copy} TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'"),
    );
    trouble.cluster.psql(
        &copy,
        "CREATE TABLE words (id int, w text); INSERT INTO words VALUES (9, 'mine')",
    );
    let said = trouble.restore(1, &[]);
    assert!(said.contains("not empty") && said.contains("--clean"), "{said}");
    let said = trouble.restore(1, &["--data-only", "--clean"]);
    assert!(said.contains("words") && said.contains("22P05"), "{said}");
    assert_eq!(trouble.ask(&copy, "SELECT id || w FROM words"), "9mine", "as it was");
    // A new database has the encoding of the source, whatever was there.
    trouble.restore(0, &["--clean"]);
    assert_eq!(
        trouble.ask(&copy, "SELECT string_agg(w, ' ' ORDER BY id) FROM words"),
        "plain 漢字"
    );
    // What was replaced comes back, and what replaced it is kept.
    let said = trouble.restore(0, &["--undo"]);
    assert!(said.contains("_undone_"), "{said}");
    assert_eq!(trouble.ask(&copy, "SELECT id || w FROM words"), "9mine");
    assert_eq!(trouble.databases().split(' ').count(), 3, "{}", trouble.databases());
    trouble.restore(1, &["--undo"]);
}

/// Statements are checked as the server reads them under settings of this program. Once a function has changed these for its
/// session, a string may end elsewhere: that is no failed item among others.
#[test]
fn a_function_that_changes_how_statements_are_read_ends_the_restore() {
    let trouble = Trouble::new(
        Cluster::shared(),
        &[
            "CREATE FUNCTION bends(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM set_config('standard_conforming_strings', 'off', false); RETURN true; END $$",
            "CREATE TABLE t (a int CHECK (bends(a))); INSERT INTO t VALUES (1)",
            "CREATE INDEX first ON t (a); CREATE INDEX second ON t (a DESC)",
        ],
    );
    trouble.backup(0);
    let copy = trouble.copy();
    trouble.cluster.psql("postgres", &format!("CREATE DATABASE {copy}"));
    trouble.cluster.psql(&copy, "CREATE TABLE mine AS SELECT 9 AS a");
    for more in [&["--clean"][..], &["--clean", "--keep-going"]] {
        let said = trouble.restore(1, &[more, &["--parallel=1"]].concat());
        assert!(said.contains("has changed the session"), "{said}");
        assert_eq!(trouble.ask(&copy, "SELECT a FROM mine"), "9", "as it was");
        assert_eq!(trouble.databases(), format!("{} {copy}", trouble.name));
    }
}

#[test]
fn a_server_that_stops_in_the_middle_leaves_nothing_half() {
    let cluster = Arc::new(Cluster::start());
    let trouble = Trouble::new(
        Arc::clone(&cluster),
        &["CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 10) AS v FROM generate_series(1, 400000) g"],
    );
    trouble.backup(0);
    let snapshots = trouble.program.listed();
    let into = trouble.url(&trouble.copy());
    let restore = trouble.start(&["restore", "latest", SLOW, "--into", &into]);
    trouble.wait_for("pg_stat_activity WHERE query LIKE 'COPY %big%FROM STDIN%' AND state = 'active'");
    cluster.restart();
    let (code, said) = ended(restore);
    // Whichever of its sessions notices first.
    assert!(
        code == 1 && said.contains("error") && said.contains(&trouble.copy()),
        "{said}"
    );
    // The server was gone, so the half database may stand; the next restore says so and --clean takes it away.
    let backup = trouble.start(&["backup", SLOW, &trouble.url(&trouble.name)]);
    trouble.wait_for("pg_stat_activity WHERE query LIKE '%COPY %big%TO STDOUT%' AND state = 'active'");
    cluster.restart();
    let (code, said) = ended(backup);
    assert!(code == 1 && said.contains("error"), "{said}");
    assert_eq!(trouble.program.listed(), snapshots, "no snapshot without its data");
    trouble.restore(0, &["--clean"]);
    assert_eq!(trouble.ask(&trouble.copy(), "SELECT count(*) FROM big"), "400000");
}

/// An index that runs beside others, then the constraint that takes it: nothing of either is lost on the way.
#[test]
fn keys_of_large_tables_are_made_in_two_steps_and_end_as_they_were() {
    let trouble = Trouble::new(
        Cluster::shared(),
        &[
            "CREATE TABLE large (id int, code text, a int, b int, filler text)",
            "ALTER TABLE large ALTER filler SET STORAGE PLAIN",
            "INSERT INTO large SELECT g, 'c' || g, g, NULL, repeat('x', 7000) FROM generate_series(1, 5000) g",
            "ALTER TABLE large ADD CONSTRAINT \"the key\" PRIMARY KEY (id) INCLUDE (code) WITH (fillfactor = 70)",
            "ALTER TABLE large ADD CONSTRAINT once UNIQUE NULLS NOT DISTINCT (a, b), ADD CONSTRAINT later UNIQUE (code) DEFERRABLE INITIALLY DEFERRED",
            "ALTER TABLE large CLUSTER ON once",
            "ALTER TABLE large REPLICA IDENTITY USING INDEX \"the key\"",
            "COMMENT ON CONSTRAINT once ON large IS 'constraint'; COMMENT ON INDEX once IS 'index'",
            "CREATE TABLE small (id int PRIMARY KEY, large int REFERENCES large); INSERT INTO small SELECT g, g FROM generate_series(1, 9) g",
            "CREATE FUNCTION rows_of_small() RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT count(*) FROM public.small'",
            "CREATE INDEX counts ON large ((a + rows_of_small()))",
        ],
    );
    trouble.backup(0);
    let sql = trouble.run(0, &["cat", "latest", &trouble.name, "post-data.sql"]);
    assert!(sql.contains("PRIMARY KEY USING INDEX \"the key\""), "{sql}");
    assert!(sql.contains("UNIQUE USING INDEX \"once\""), "{sql}");
    assert!(
        !sql.contains("USING INDEX \"later\"") && !sql.contains("USING INDEX \"small_pkey\""),
        "{sql}"
    );
    let said = trouble.restore(0, &[]);
    let shape = "SELECT string_agg(concat_ws(' ', k.conname, k.contype, k.condeferrable, k.convalidated, pg_get_constraintdef(k.oid), \
                 obj_description(k.oid, 'pg_constraint'), pg_get_indexdef(k.conindid), obj_description(k.conindid, 'pg_class'), x.indisclustered, x.indisreplident), \
                 E'\\n' ORDER BY k.conname) FROM pg_constraint k LEFT JOIN pg_index x ON x.indexrelid = k.conindid \
                 WHERE k.conrelid IN ('large'::regclass, 'small'::regclass)";
    let before = trouble.ask(&trouble.name, shape);
    assert!(
        before.contains("fillfactor='70'") && before.contains("constraint"),
        "{before}"
    );
    assert_eq!(trouble.ask(&trouble.copy(), shape), before, "{said}");
    // The function's promise is a lie: its rows had to be there before the index was.
    let through_index = "SET enable_seqscan = off; SELECT a FROM large WHERE a + rows_of_small() = 13";
    assert_eq!(trouble.ask(&trouble.copy(), through_index), "4");
}
