//! What a backup leaves out: a restore of it succeeds without an error, and equals what `pg_dump` with the same switches and psql give.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::postgres_schema::Cluster;
use crate::support::program::Program;

/// One table and one schema that many others need in every way.
const CONTENT: &str = r#"
CREATE SCHEMA audit; CREATE SCHEMA app;
CREATE TABLE app.users (id serial PRIMARY KEY, name text);
CREATE TABLE app.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, usr int REFERENCES app.users);
CREATE TABLE "Sessions" (id serial PRIMARY KEY, usr int REFERENCES app.users, data text);
CREATE TABLE sessions (id int);
CREATE TABLE app.refers (id int, session int REFERENCES "Sessions");
CREATE TABLE app.inherits (more int) INHERITS (sessions);
CREATE VIEW app.on_sessions AS SELECT id, usr FROM "Sessions";
CREATE VIEW app.on_view AS SELECT count(*) FROM app.on_sessions;
CREATE MATERIALIZED VIEW app.mat AS SELECT id FROM "Sessions";
CREATE UNIQUE INDEX ON app.mat (id);
CREATE FUNCTION app.all_sessions() RETURNS SETOF "Sessions" LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT * FROM public."Sessions"; END';
CREATE FUNCTION app.takes(row_of "Sessions") RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION app.body() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM public."Sessions"); END';
CREATE RULE on_users AS ON DELETE TO app.users DO ALSO DELETE FROM "Sessions" WHERE usr = OLD.id;
CREATE STATISTICS app.stat ON id, usr FROM "Sessions";
CREATE PUBLICATION pub FOR TABLE app.users, "Sessions";
CREATE TABLE audit.events (id serial PRIMARY KEY, t text);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION audit.word(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE TRIGGER note BEFORE INSERT ON app.users FOR EACH ROW EXECUTE FUNCTION audit.note();
CREATE INDEX by_word ON app.users (audit.word(name));
CREATE POLICY words ON app.orders USING (audit.word('x') = 'x');
ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT SELECT ON TABLES TO PUBLIC;
GRANT USAGE ON SCHEMA audit TO PUBLIC; GRANT SELECT ON "Sessions", app.on_sessions TO PUBLIC; GRANT SELECT (id) ON audit.events TO PUBLIC;
COMMENT ON TABLE "Sessions" IS 'x'; COMMENT ON COLUMN audit.events.t IS 'y'; COMMENT ON VIEW app.on_sessions IS 'z'; COMMENT ON TRIGGER note ON app.users IS 't';
CREATE TABLE app.logs (at date, t text) PARTITION BY RANGE (at);
CREATE TABLE app.logs_1 PARTITION OF app.logs FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE app.logs_2 PARTITION OF app.logs FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE INDEX ON app.logs (at);
CREATE VIEW app.on_logs AS SELECT at FROM app.logs;
INSERT INTO app.users (name) SELECT 'u' || g FROM generate_series(1, 50) g;
INSERT INTO app.orders (usr) SELECT 1 + g % 50 FROM generate_series(1, 100) g;
INSERT INTO "Sessions" (usr, data) SELECT 1, repeat('s', 100) FROM generate_series(1, 100);
INSERT INTO app.refers VALUES (1, 1); INSERT INTO audit.events (t) VALUES ('a'), ('b');
INSERT INTO app.logs SELECT '2026-01-15'::date + g, 'l' FROM generate_series(0, 30) g;
INSERT INTO sessions VALUES (1); REFRESH MATERIALIZED VIEW app.mat;
"#;

struct Case {
    cluster: Cluster,
    program: Program,
}

impl Case {
    fn new(cluster: Cluster) -> Self {
        let program = Program::on_directory();
        program.expect(0, &["init", "--no-encryption"]);
        let case = Self { cluster, program };
        case.make("source", CONTENT);
        case
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable",
            self.cluster.port
        )
    }

    fn client(&self, name: &str, database: &str) -> Command {
        let mut command = self.cluster.program(name);
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p"]);
        command.args([&self.cluster.port.to_string(), "-d", database]);
        command
    }

    /// Runs SQL; what fails is told or ends it.
    fn run_sql(&self, database: &str, sql: &[u8], strict: bool) -> String {
        let mut command = self.client("psql", database);
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            if strict { "ON_ERROR_STOP=1" } else { "ON_ERROR_STOP=0" },
        ]);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let sql = sql.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&sql));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!strict || output.status.success(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        self.run_sql(database, sql.as_bytes(), true)
    }

    fn make(&self, database: &str, sql: &str) {
        self.psql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0"));
        self.psql(database, sql);
    }

    fn dump(&self, database: &str, switches: &[&str]) -> String {
        let output = self.client("pg_dump", database).args(switches).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let kept = text
            .lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"));
        kept.collect::<Vec<_>>().join("\n")
    }

    /// Backs up, and returns what was said.
    fn backup(&self, code: i32, database: &str, flags: &[&str]) -> String {
        let url = self.url(database);
        let mut arguments = vec!["backup", url.as_str()];
        arguments.extend(flags);
        let output = self.program.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
        said
    }

    /// Restores without an error, and every row read again; returns what was said.
    fn restore(&self, into: &str) -> String {
        let url = self.url(into);
        let output = self
            .program
            .run(&["restore", "latest", "--into", &url, "--verify-rows"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    }

    /// Compares a restore of a backup with what `pg_dump` with these switches and psql give.
    fn compare(&self, number: usize, ours: &[&str], theirs: &[&str]) -> String {
        let said = self.backup(0, "source", ours);
        let (got, wanted) = (format!("got_{number}"), format!("wanted_{number}"));
        self.restore(&got);
        self.psql("postgres", &format!("CREATE DATABASE {wanted} TEMPLATE template0"));
        self.run_sql(&wanted, self.dump("source", theirs).as_bytes(), false);
        let (got, wanted) = (self.dump(&got, &[]), self.dump(&wanted, &[]));
        assert!(wanted.len() > 2_000, "{wanted}");
        let only = |a: &str, b: &str| {
            let other: std::collections::HashSet<&str> = b.lines().collect();
            a.lines()
                .filter(|l| !other.contains(l))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (lost, added) = (only(&wanted, &got), only(&got, &wanted));
        assert!(got == wanted, "{ours:?}: lost: {lost:#?}\nadded: {added:#?}");
        said
    }
}

fn as_pg_dump_does(case: &Case) {
    let said = case.compare(
        1,
        &["--exclude-table", "\"Sessions\"", "--exclude-schema", "AUDIT"],
        &["-T", "\"Sessions\"", "-T", "\"Sessions_id_seq\"", "-N", "audit"],
    );
    for part in [
        "TABLE \"public\".\"Sessions\"",
        "SCHEMA \"audit\"",
        "VIEW \"app\".\"on_sessions\" (needs TABLE \"public\".\"Sessions\")",
        "VIEW \"app\".\"on_view\" (needs VIEW \"app\".\"on_sessions\")",
        "MATERIALIZED VIEW \"app\".\"mat\"",
        "FUNCTION \"app\".\"all_sessions\"",
        "FK CONSTRAINT \"refers_session_fkey\" of \"app\".\"refers\"",
        "RULE \"on_users\" of \"app\".\"users\"",
        "TRIGGER \"note\" of \"app\".\"users\"",
        "INDEX \"app\".\"by_word\"",
        "POLICY \"words\" of \"app\".\"orders\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // What nobody excludes is not named.
    assert!(
        !said.contains("app\".\"body") && !said.contains("audit\".\"events"),
        "{said}"
    );
    // By a letter, by a schema and a star, by a name that a session finds: app.users is none.
    case.compare(
        2,
        &[
            "--exclude-table",
            "app.log*",
            "--exclude-table",
            "\"Session\"?",
            "--exclude-table",
            "users",
        ],
        &[
            "-T",
            "app.logs*",
            "-T",
            "\"Sessions\"",
            "-T",
            "\"Sessions_id_seq\"",
            "-T",
            "users",
        ],
    );
    // A partitioned table takes its partitions along, a partition goes alone.
    case.compare(
        3,
        &["--exclude-table", "app.logs"],
        &["-T", "app.logs", "-T", "app.logs_*"],
    );
    case.compare(4, &["--exclude-table", "app.logs_1"], &["-T", "app.logs_1"]);
    // Children too.
    case.compare(
        5,
        &["--exclude-table", "public.sessions"],
        &["-T", "public.sessions", "-T", "app.inherits"],
    );
    // Rows alone, those of all partitions, values of sequences, and views that are not filled.
    case.compare(
        6,
        &[
            "--exclude-table-data",
            "app.orders",
            "--exclude-table-data",
            "app.logs",
            "--exclude-table-data",
            "app.users_id_seq",
            "--exclude-table-data",
            "app.mat",
        ],
        &[
            "--exclude-table-data=app.orders",
            "--exclude-table-data=app.logs*",
            "--exclude-table-data=app.users_id_seq",
            "--exclude-table-data=app.mat",
        ],
    );
    let only_1 = case.compare(
        7,
        &["--exclude-table-data", "app.logs_1"],
        &["--exclude-table-data=app.logs_1"],
    );
    assert!(only_1.contains("TABLE \"app\".\"logs_1\""), "{only_1}");
    assert_eq!(case.psql("got_7", "SELECT count(*) FROM app.logs_1"), "0\n");
    assert_eq!(case.psql("got_7", "SELECT count(*) > 0 FROM app.logs_2"), "t\n");
    // Sequences that a column owns stay with their tables.
    case.compare(8, &["--exclude-table", "app.users_id_seq"], &["-T", "app.users_id_seq"]);
    let server = format!("postgres://postgres@127.0.0.1:{}?sslmode=disable", case.cluster.port);
    case.backup(0, "source", &["--exclude-schema", "a*"]);
    case.program
        .expect(0, &["verify", "latest", "--level", "restored", "--into", &server]);
}

#[test]
fn a_restore_is_what_pg_dump_with_the_same_switches_gives_on_15() {
    as_pg_dump_does(&Case::new(Cluster::start("/usr/lib/postgresql/15/bin")));
}

#[test]
fn a_restore_is_what_pg_dump_with_the_same_switches_gives_on_18() {
    let Some(cluster) = Cluster::start_18() else { return };
    let case = Case::new(cluster);
    as_pg_dump_does(&case);
    let trigram = "CREATE EXTENSION pg_trgm; CREATE INDEX near ON app.users USING gin (name gin_trgm_ops);";
    case.psql("source", trigram);
    let said = case.compare(9, &["--exclude-extension", "pg_*"], &["--exclude-extension=pg_trgm"]);
    assert!(
        said.contains("EXTENSION \"pg_trgm\"") && said.contains("INDEX \"app\".\"near\" (needs EXTENSION"),
        "{said}"
    );
}

/// What `pg_dump` cannot leave out without breaking what stays.
fn beyond_pg_dump(case: &Case) {
    let sql = "CREATE SCHEMA gone; CREATE FUNCTION gone.word() RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT ''w''::text'; CREATE TYPE gone.mood AS ENUM ('a');
        CREATE SEQUENCE gone.numbers;
        CREATE TABLE plain (id int DEFAULT nextval('gone.numbers'), v text DEFAULT gone.word(), CHECK (v <> gone.word() || '!'));
        CREATE DOMAIN short AS text CHECK (VALUE <> gone.word() || 'x'); CREATE TABLE of_domain (v short);
        INSERT INTO plain (v) VALUES ('x'); INSERT INTO of_domain VALUES ('y');
        CREATE TABLE of_type (m gone.mood); INSERT INTO of_type VALUES ('a');
        CREATE TABLE made (id int, g text GENERATED ALWAYS AS (gone.word()) STORED); INSERT INTO made VALUES (1);
        SELECT lo_from_bytea(0, 'blob');";
    case.make("bound", sql);
    // Rows go that nobody named: exit code 2.
    let said = case.backup(2, "bound", &["--exclude-schema", "gone", "--exclude-large-objects"]);
    for part in [
        "TABLE \"public\".\"of_type\" (needs TYPE \"gone\".\"mood\")",
        "TABLE \"public\".\"made\"",
        "large objects",
        "excluded-rows",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        !said.contains("TABLE \"public\".\"plain\""),
        "only its defaults and its check go: {said}"
    );
    case.restore("bound_again");
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    assert_eq!(case.psql("bound_again", tables), "of_domain plain\n");
    let left = "SELECT id, v FROM plain; SELECT count(*) FROM pg_attrdef; SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace; \
                SELECT count(*) FROM pg_largeobject_metadata";
    assert_eq!(case.psql("bound_again", left), "1|x\n0\n0\n0\n");
    // Nothing that needs it is lost where all of it is named.
    case.backup(
        0,
        "bound",
        &[
            "--exclude-schema",
            "gone",
            "--exclude-table",
            "of_type",
            "--exclude-table",
            "made",
        ],
    );
    let said = case.restore("bound_named");
    assert!(said.contains("not-in-backup") || said.contains("is excluded"), "{said}");

    // What lies in a schema that is named was named with it, whatever else it needs.
    let sql = "CREATE SCHEMA a; CREATE SCHEMA b; CREATE EXTENSION hstore SCHEMA b; CREATE TYPE b.mood AS ENUM ('x'); CREATE TABLE a.t AS SELECT 'x'::b.mood AS m; \
               CREATE TABLE a.h (v b.hstore); CREATE VIEW b.v AS SELECT * FROM a.t; CREATE TABLE stays AS SELECT 1 AS id;";
    case.make("schemas", sql);
    for schemas in [["a", "b"], ["b", "a"]] {
        let [first, second] = schemas;
        let flags = [
            "--exclude-schema",
            first,
            "--exclude-schema",
            second,
            "--exclude-extension",
            "hstore",
        ];
        let said = case.backup(0, "schemas", &flags);
        assert!(!said.contains("(needs "), "{said}");
    }
    case.restore("schemas_again");
    assert_eq!(case.psql("schemas_again", "SELECT * FROM stays"), "1\n");

    // An extension with rows and tables of its own.
    case.make(
        "extended",
        "CREATE EXTENSION hstore; CREATE TABLE h (v hstore); CREATE TABLE i AS SELECT 1 AS k;",
    );
    let said = case.backup(2, "extended", &["--exclude-extension", "hstore"]);
    assert!(
        said.contains("TABLE \"public\".\"h\" (needs EXTENSION \"hstore\")"),
        "{said}"
    );
    case.restore("extended_again");
    assert_eq!(
        case.psql(
            "extended_again",
            "SELECT k FROM i; SELECT count(*) FROM pg_extension WHERE extname = 'hstore'"
        ),
        "1\n0\n"
    );
}

/// Foreign keys come back whose referenced rows are left out.
fn referenced_rows(case: &Case, partitioned_can_be_not_valid: bool) {
    let sql = "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE orders (id int PRIMARY KEY, usr int REFERENCES users);
        CREATE TABLE lines (o int REFERENCES orders);
        CREATE TABLE parted (k int PRIMARY KEY) PARTITION BY LIST (k);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
        CREATE TABLE of_parted (k int CONSTRAINT to_parted REFERENCES parted);
        CREATE TABLE logs (usr int, CONSTRAINT logs_users FOREIGN KEY (usr) REFERENCES users) PARTITION BY LIST (usr);
        CREATE TABLE logs_1 PARTITION OF logs FOR VALUES IN (1); CREATE TABLE logs_2 PARTITION OF logs FOR VALUES IN (2);
        CREATE TABLE both_go (usr int REFERENCES users);
        INSERT INTO users VALUES (1), (2); INSERT INTO orders VALUES (1, 1); INSERT INTO lines VALUES (1);
        INSERT INTO parted VALUES (1), (2); INSERT INTO of_parted VALUES (2); INSERT INTO logs VALUES (1), (2); INSERT INTO both_go VALUES (1);";
    case.make("keys", sql);
    let flags = [
        "--exclude-table-data=users",
        "--exclude-table-data=both_go",
        "--exclude-table=parted_2",
    ];
    let said = case.backup(0, "keys", &flags);
    assert!(said.contains("NOT VALID"), "{said}");
    let left_out = "FK CONSTRAINT \"logs_users\" of \"public\".\"logs\" (needs the rows of TABLE \"public\".\"users\")";
    assert_eq!(said.contains(left_out), !partitioned_can_be_not_valid, "{said}");
    case.restore("keys_again");
    let mut found = case.psql(
        "keys_again",
        "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1",
    );
    if partitioned_can_be_not_valid {
        assert!(found.contains("logs_users|f\n"), "{found}");
        found = found.replace("logs_users|f\n", "");
    }
    assert_eq!(
        found,
        "both_go_usr_fkey|t\nlines_o_fkey|t\norders_usr_fkey|f\nto_parted|f\n"
    );
    assert_eq!(
        case.psql("keys_again", "SELECT count(*) FROM logs; SELECT * FROM of_parted"),
        "2\n2\n"
    );
}

#[test]
fn foreign_keys_do_without_referenced_rows_on_15() {
    referenced_rows(&Case::new(Cluster::start("/usr/lib/postgresql/15/bin")), false);
}

#[test]
fn foreign_keys_do_without_referenced_rows_on_18() {
    let Some(cluster) = Cluster::start_18() else { return };
    referenced_rows(&Case::new(cluster), true);
}

/// A pattern whose letters the database cannot have means nothing there.
#[test]
fn letters_that_an_encoding_lacks_match_nothing() {
    let case = Case::new(Cluster::start("/usr/lib/postgresql/15/bin"));
    for encoding in ["LATIN1", "MULE_INTERNAL", "SQL_ASCII"] {
        let name = encoding.to_lowercase();
        let sql =
            format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        case.psql("postgres", &sql);
        case.psql(&name, "CREATE TABLE t AS SELECT 1 AS id");
        let flags = [
            "--exclude-table=日本",
            "--exclude-schema=日本",
            "--exclude-table-data=日本.*",
        ];
        let said = case.backup(0, &name, &flags);
        assert!(said.contains("excludes no table: no name matches"), "{said}");
    }
}

#[test]
fn what_stays_does_without_what_is_excluded_on_15() {
    beyond_pg_dump(&Case::new(Cluster::start("/usr/lib/postgresql/15/bin")));
}

#[test]
fn what_stays_does_without_what_is_excluded_on_18() {
    let Some(cluster) = Cluster::start_18() else { return };
    beyond_pg_dump(&Case::new(cluster));
}

/// Exclusions in the configuration, in the manifest, in `show`; patterns that are wrong or mean nothing; tables that may not be read.
#[test]
fn exclusions_are_configured_kept_and_shown() {
    let case = Case::new(Cluster::start("/usr/lib/postgresql/15/bin"));
    case.psql("source", "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA app, audit TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA app, public TO reader; \
        GRANT SELECT ON ALL SEQUENCES IN SCHEMA app, public TO reader; DROP POLICY words ON app.orders; REVOKE ALL ON audit.events FROM PUBLIC");
    let url = case.url("source").replace("postgres@", "reader@");
    let text = |extra: &str| {
        format!(
            "[repository]\nurl = \"file://{}\"\n[source.db]\nkind = \"postgres\"\nurl = \"{url}\"\nno_role_passwords = true\n{extra}\n[job.full]\nsources = [\"db\"]\n",
            case.program.path("repo").display()
        )
    };
    let config = case.program.path("wirevault.toml");
    std::fs::write(&config, text("")).unwrap();
    case.program.expect(1, &["check"]);
    case.program.expect(1, &["backup", "full"]);
    let keys = "exclude_tables = [\"audit.*\", \"no_such\"]\nexclude_table_data = [\"app.users\"]";
    std::fs::write(&config, text(keys)).unwrap();
    case.program.expect(0, &["check"]);
    let output = case.program.run(&["backup", "full", "--exclude-table", "app.logs"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("no_such") && said.contains("unmatched-pattern"), "{said}");
    let shown: Value = case.program.json(&["show", "latest"]);
    let source = &shown["snapshot"]["plan"]["sources"][0];
    assert_eq!(
        source["exclude_tables"],
        serde_json::json!(["audit.*", "no_such", "app.logs"]),
        "{shown}"
    );
    assert_eq!(source["exclude_table_data"], serde_json::json!(["app.users"]));
    let shown = case.program.expect(0, &["show", "latest"]);
    for part in [
        "leaves out tables audit.*, no_such, app.logs",
        "rows of app.users",
        "excluded",
        "excluded-with",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for (flag, pattern, why) in [
        ("--exclude-table", "\"open", "a quote is not closed"),
        ("--exclude-table", "a.b.c.d", "too many dots"),
        ("--exclude-extension", "a.b", "too many dots"),
        ("--exclude-schema", "", "a name is empty"),
    ] {
        case.program
            .refused(&["backup", "full", flag, pattern], why, "Patterns are those of psql");
    }
    std::fs::write(&config, text("exclude_schemas = [\"\\\"x\"]")).unwrap();
    case.program.refused(
        &["backup", "full"],
        "a quote is not closed",
        "Patterns are those of psql",
    );
    std::fs::write(&config, text(keys)).unwrap();
    case.program.refused(
        &["backup", "full", "--exclude-table", "app.(x"],
        "app.(x",
        "regular expression",
    );
    std::fs::write(&config, text("exclude_table_data = [\"app.(x\"]")).unwrap();
    let output = case.program.run(&["check"]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("try the pattern \"app.(x\""),
        "{said}"
    );
}
