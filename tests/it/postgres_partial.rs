//! A part of a backup goes back into a database that lives: nothing that was not chosen is lost, and what was chosen is whole.

use std::path::Path;

use crate::support::postgres::Cluster;
use crate::support::program::Program;
use crate::support::wait;

struct Live {
    cluster: std::sync::Arc<Cluster>,
    program: Program,
    name: String,
}

impl Live {
    /// Makes a database and backs it up.
    fn of(sql: &str) -> Self {
        let cluster = Cluster::shared();
        let name = cluster.fresh_name();
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        cluster.psql(&name, sql);
        let mut program = Program::on_directory();
        program.set("PGPASSWORD", "secret");
        let live = Self { cluster, program, name };
        live.program.expect(0, &["init", "--no-encryption"]);
        live.program.expect(0, &["backup", &live.url(&live.name)]);
        live
    }

    fn url(&self, database: &str) -> String {
        let port = self.cluster.port;
        format!("postgres://admin@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    fn restore(&self, code: i32, database: &str, flags: &[&str]) -> String {
        let url = self.url(database);
        let all: Vec<&str> = ["restore", "latest", "--into", &url]
            .iter()
            .chain(flags)
            .copied()
            .collect();
        let output = self.program.run(&all);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(code), "{all:?}: {said}");
        said
    }

    /// Restores into the database itself.
    fn again(&self, code: i32, flags: &[&str]) -> String {
        self.restore(code, &self.name, flags)
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        let said = self.cluster.psql_in(database, Path::new("/"), &["-c", sql]);
        said.trim().to_owned()
    }

    fn sql(&self, sql: &str) -> String {
        self.psql(&self.name, sql)
    }

    fn new_name(&self, suffix: &str) -> String {
        format!("{}_{suffix}", self.name)
    }

    fn dump(&self) -> String {
        self.cluster.pg_dump(&self.name, &["--schema-only"])
    }
}

const EVENTS: &str = "CREATE TABLE ev (id int, at date, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
    CREATE TABLE ev_2024 PARTITION OF ev FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
    CREATE TABLE ev_2025 PARTITION OF ev FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id); \
    CREATE TABLE ev_2025_odd PARTITION OF ev_2025 FOR VALUES IN (299, 301); CREATE TABLE ev_2025_rest PARTITION OF ev_2025 DEFAULT; \
    CREATE INDEX ev_note ON ev (note); CREATE INDEX ev_2024_only ON ev_2024 (at); \
    CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
    CREATE TRIGGER seen BEFORE INSERT ON ev FOR EACH ROW EXECUTE FUNCTION seen(); ALTER TABLE ev_2024 DISABLE TRIGGER seen; \
    INSERT INTO ev SELECT g, '2024-06-01'::date + g, 'n' || g FROM generate_series(1, 300) g; \
    CREATE TABLE refers (id int PRIMARY KEY, ev int, at date, CONSTRAINT refers_ev FOREIGN KEY (ev, at) REFERENCES ev ON DELETE CASCADE); \
    COMMENT ON CONSTRAINT refers_ev ON refers IS 'the event'; INSERT INTO refers SELECT id, id, at FROM ev WHERE id < 50; \
    CREATE PUBLICATION pub FOR TABLE ev, ev_2024 WITH (publish_via_partition_root = true);";
const EVENTS_SEEN: &str =
    "SELECT count(*), count(DISTINCT tableoid), md5(string_agg(ev::text, ',' ORDER BY id)) FROM ev";

#[test]
fn a_partitioned_table_comes_with_its_partitions_wherever_it_goes() {
    let live = Live::of(EVENTS);
    let seen = live.sql(EVENTS_SEEN);
    assert!(seen.starts_with("300|3|"), "{seen}");
    let copy = live.new_name("new");
    live.restore(0, &copy, &["--table", "public.ev", "--with-dependencies"]);
    assert_eq!(live.psql(&copy, EVENTS_SEEN), seen);
    // Rows alone, after they were deleted.
    live.sql("SET session_replication_role = replica; DELETE FROM ev");
    live.again(0, &["--table", "ev", "--data-only", "--clean"]);
    assert_eq!(live.sql(EVENTS_SEEN), seen);
    // Beside: the table with its partitions, and SQL that fills the living one.
    live.sql("SET session_replication_role = replica; DELETE FROM ev WHERE id > 100");
    let said = live.program.expect(0, &["restore", "latest", "--table", "ev"]);
    let line = said.lines().find(|l| l.contains("copy missing rows")).unwrap();
    live.sql(line.split_once(": ").unwrap().1);
    assert_eq!(live.sql(EVENTS_SEEN), seen);
    assert_eq!(said.matches("copy missing rows").count(), 1, "{said}");
    // Rows that are left out are left out below, too.
    let copy = live.new_name("empty");
    live.restore(
        0,
        &copy,
        &["--exclude-table-data", "ev", "--exclude-table-data", "refers"],
    );
    assert_eq!(live.psql(&copy, "SELECT count(*) FROM ev"), "0");
}

/// Rights to a schema come with a table in it; rights to other things in that schema do not.
#[test]
fn rights_to_what_was_not_chosen_stay_away() {
    let live = Live::of(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (7); CREATE VIEW v AS SELECT t AS whole FROM t; \
         GRANT SELECT (id) ON t TO pg_monitor; GRANT ALL ON SCHEMA public TO pg_monitor WITH GRANT OPTION; GRANT ALL ON v TO pg_monitor",
    );
    let copy = live.new_name("new");
    live.restore(0, &copy, &["--table", "public.t", "--with-dependencies"]);
    let rights = "SELECT has_schema_privilege('pg_monitor', 'public', 'CREATE WITH GRANT OPTION'), has_column_privilege('pg_monitor', 't', 'id', 'SELECT'), \
                  (SELECT id FROM t), to_regclass('v') IS NULL";
    assert_eq!(live.psql(&copy, rights), "t|t|7|t");
}

#[test]
fn settings_with_an_empty_element_stay_with_the_name() {
    let live = Live::of("CREATE TABLE t (id int)");
    let name = &live.name;
    live.psql(
        "postgres",
        &format!(
            "ALTER DATABASE {name} SET temp_tablespaces = ''; ALTER DATABASE {name} SET search_path = 'a \"\"b', '', public; \
             ALTER ROLE admin IN DATABASE {name} SET search_path = ''"
        ),
    );
    let settings = format!(
        "SELECT string_agg(setconfig::text, ' ' ORDER BY setrole) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = '{name}'"
    );
    let before = live.psql("postgres", &settings);
    assert!(before.contains("temp_tablespaces="), "{before}");
    live.again(0, &["--clean", "--drop-old"]);
    assert_eq!(live.psql("postgres", &settings), before);
}

#[test]
fn a_subscription_does_not_keep_a_scratch_database() {
    let live = Live::of(
        "CREATE TABLE t (id int); CREATE SUBSCRIPTION s CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)",
    );
    let server = live.url("postgres");
    live.program
        .expect(0, &["verify", "latest", "--level", "restored", "--into", &server]);
    live.sql("ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s");
}

#[test]
fn a_partitioned_table_is_replaced_and_nothing_around_it_changes() {
    let live = Live::of(EVENTS);
    let (seen, dump) = (live.sql(EVENTS_SEEN), live.dump());
    live.sql("DELETE FROM ev WHERE id > 200; UPDATE ev SET note = 'damaged'; DROP INDEX ev_note");
    let plan = live.again(0, &["--table", "ev", "--clean", "--dry-run"]);
    assert!(
        plan.contains("foreign key refers_ev") && plan.contains("publication pub"),
        "{plan}"
    );
    assert_eq!(live.sql("SELECT count(*) FROM ev"), "200");
    live.again(0, &["--table", "ev", "--clean"]);
    assert_eq!(live.sql(EVENTS_SEEN), seen);
    assert_eq!(live.dump(), dump);
    assert_eq!(live.sql("SELECT count(*) FROM refers"), "49");
    // A partition alone: it stays where it was.
    live.sql("UPDATE ev SET note = 'damaged' WHERE at < '2025-01-01'; DROP INDEX ev_2024_only");
    live.again(0, &["--table", "ev_2024", "--clean"]);
    assert_eq!(live.sql(EVENTS_SEEN), seen);
    assert_eq!(live.dump(), dump);
    // One that has partitions of its own.
    live.sql("DELETE FROM ev_2025");
    live.again(0, &["--table", "ev_2025", "--clean"]);
    assert_eq!(live.sql(EVENTS_SEEN), seen);
    assert_eq!(live.dump(), dump);
    // One that was dropped: it comes back to its place.
    live.sql("ALTER TABLE refers DROP CONSTRAINT refers_ev; DROP TABLE ev_2024");
    live.again(0, &["--table", "ev_2024"]);
    assert_eq!(live.sql(EVENTS_SEEN), seen);
}

#[test]
fn what_would_be_lost_is_named_before_anything_is_touched() {
    let live = Live::of(&format!(
        "{EVENTS} CREATE TABLE base (a int PRIMARY KEY, v text); INSERT INTO base SELECT g, 'v' FROM generate_series(1, 30) g;"
    ));
    live.sql(
        "CREATE TABLE kid (b int) INHERITS (base); INSERT INTO kid VALUES (99, 'k', 1); CREATE MATERIALIZED VIEW seen AS SELECT v FROM base; \
         CREATE FUNCTION of_row(base) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE TABLE ev_2026 PARTITION OF ev FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); INSERT INTO ev VALUES (999, '2026-02-02')",
    );
    let dump = live.dump();
    for flags in [&["--clean", "--dry-run"][..], &["--clean"]] {
        let with = |table: &'static str| [&["--table", table], flags].concat();
        let said = live.again(1, &with("base"));
        for name in [
            "table public.kid",
            "materialized view public.seen",
            "function public.of_row",
        ] {
            assert!(said.contains(name), "{said}");
        }
        assert!(said.contains("--data-only --clean"), "{said}");
        let said = live.again(1, &with("ev"));
        assert!(
            said.contains("public.ev_2026") && said.contains("DETACH PARTITION"),
            "{said}"
        );
    }
    assert_eq!(live.dump(), dump);
    assert_eq!(
        live.sql("SELECT (SELECT count(*) FROM base), (SELECT count(*) FROM ev)"),
        "31|301"
    );
    // Rows alone can be had all the same, and leave what the backup does not know.
    live.sql("DELETE FROM ONLY base");
    live.again(0, &["--table", "base", "--table", "ev", "--data-only", "--clean"]);
    assert_eq!(live.dump(), dump);
    assert_eq!(
        live.sql("SELECT (SELECT count(*) FROM base), (SELECT count(*) FROM ev)"),
        "31|301"
    );
}

#[test]
fn a_replaced_table_keeps_its_surroundings() {
    let live = Live::of(
        "CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE SEQUENCE extra; ALTER SEQUENCE extra OWNED BY t.v; \
         INSERT INTO t (v) SELECT 'v' || g FROM generate_series(1, 40) g; CREATE STATISTICS stat ON id, v FROM t; \
         CREATE RULE quiet AS ON DELETE TO t WHERE old.id < 0 DO INSTEAD NOTHING; GRANT SELECT ON t TO PUBLIC; \
         CREATE PUBLICATION part FOR TABLE t (id) WHERE (id > 3); CREATE TABLE o (t int REFERENCES t DEFERRABLE INITIALLY DEFERRED); INSERT INTO o VALUES (7)",
    );
    let dump = live.dump();
    // A sequence of the living table that the backup does not know, and rights that the database gives to everything new.
    live.sql(
        "CREATE SEQUENCE later; ALTER SEQUENCE later OWNED BY t.id; SELECT setval('later', 5); ALTER TABLE t ADD w int",
    );
    live.sql("DELETE FROM t WHERE id > 20; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC");
    live.again(0, &["--table", "t", "--clean"]);
    assert_eq!(live.sql("SELECT count(*), max(id) FROM t"), "40|40");
    assert_eq!(live.sql("SELECT last_value FROM later"), "5");
    live.sql("DROP SEQUENCE later; ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC");
    assert_eq!(live.dump(), dump);
    // A row of another table that would refer to nothing: refused, and everything is as it was.
    live.sql("INSERT INTO t VALUES (77, 'new'); INSERT INTO o VALUES (77)");
    let said = live.again(1, &["--table", "t", "--clean"]);
    assert!(said.contains("o_t_fkey"), "{said}");
    assert_eq!(live.sql("SELECT count(*) FROM t"), "41");
    assert_eq!(live.dump(), dump);
}

const CUSTOMERS: &str = "CREATE TABLE cust (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n text, u text GENERATED ALWAYS AS (upper(n)) STORED, \
      boss int REFERENCES cust); INSERT INTO cust (n, boss) SELECT 'c' || g, nullif(g - 1, 0) FROM generate_series(1, 100) g; \
    CREATE TABLE ord (id serial PRIMARY KEY, cust int NOT NULL REFERENCES cust ON DELETE CASCADE, v numeric); \
    INSERT INTO ord (cust, v) SELECT g, g FROM generate_series(1, 100) g; CREATE TABLE log (t text); \
    CREATE FUNCTION lg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (tg_op); RETURN NULL; END'; \
    CREATE TRIGGER tr AFTER INSERT OR DELETE ON cust FOR EACH ROW EXECUTE FUNCTION lg(); \
    CREATE TRIGGER always AFTER INSERT OR DELETE ON cust FOR EACH ROW EXECUTE FUNCTION lg(); ALTER TABLE cust ENABLE ALWAYS TRIGGER always; \
    CREATE TABLE keyless (a int, j json); INSERT INTO keyless SELECT g, '{}' FROM generate_series(1, 10) g;";
const CUSTOMERS_SEEN: &str = "SELECT count(*), md5(string_agg(c::text, ',' ORDER BY id)) FROM cust c";

#[test]
fn rows_alone_are_replaced_under_foreign_keys_and_triggers() {
    let live = Live::of(CUSTOMERS);
    let (seen, dump) = (live.sql(CUSTOMERS_SEEN), live.dump());
    live.sql("SET session_replication_role = replica; ALTER TABLE cust DISABLE TRIGGER always; DELETE FROM cust WHERE id > 50; ALTER TABLE cust ENABLE ALWAYS TRIGGER always");
    live.again(0, &["--table", "cust", "--data-only", "--clean"]);
    assert_eq!(live.sql(CUSTOMERS_SEEN), seen);
    assert_eq!(
        live.sql("SELECT (SELECT count(*) FROM ord), (SELECT count(*) FROM log)"),
        "100|0"
    );
    assert_eq!(live.sql("INSERT INTO cust (n) VALUES ('new') RETURNING id"), "101");
    // A living row refers to that one, which the backup does not have.
    live.sql("INSERT INTO ord (cust) VALUES (101)");
    let said = live.again(1, &["--table", "cust", "--data-only", "--clean"]);
    assert!(said.contains("ord_cust_fkey") && said.contains("--table"), "{said}");
    assert_eq!(
        live.sql("SELECT (SELECT count(*) FROM cust), (SELECT count(*) FROM ord)"),
        "101|101"
    );
    live.again(0, &["--table", "cust", "--table", "ord", "--data-only", "--clean"]);
    assert_eq!(live.sql(CUSTOMERS_SEEN), seen);
    assert_eq!(live.sql("SELECT count(*) FROM ord"), "100");
    // The backup's rows refer to rows that are gone here.
    live.sql("DELETE FROM ord; DELETE FROM cust WHERE id > 90");
    let said = live.again(1, &["--table", "ord", "--data-only", "--clean"]);
    assert!(said.contains("ord_cust_fkey"), "{said}");
    assert_eq!(live.sql("SELECT count(*) FROM ord"), "0");
    assert_eq!(live.dump(), dump);
}

/// A row that another session deletes while rows that refer to it are loaded: whoever comes second has to see the other.
#[test]
fn a_row_that_is_being_deleted_is_waited_for() {
    let live = Live::of(
        "CREATE TABLE cust (id int PRIMARY KEY); CREATE TABLE ord (id int PRIMARY KEY, cust int REFERENCES cust); \
         INSERT INTO cust VALUES (1), (2); INSERT INTO ord VALUES (10, 1), (20, 2)",
    );
    live.sql("DELETE FROM ord");
    let mut other = live.cluster.session(&live.name);
    other.say("BEGIN; DELETE FROM cust WHERE id = 1;");
    let database = format!(
        "database = (SELECT oid FROM pg_database WHERE datname = '{}')",
        live.name
    );
    let seen = |what: &str| {
        live.psql(
            "postgres",
            &format!("SELECT count(*) > 0 FROM pg_locks WHERE {database} AND {what}"),
        ) == "t"
    };
    wait::until("the row is deleted", || {
        seen("mode = 'RowExclusiveLock' AND granted AND locktype = 'relation'")
    });
    let said = std::thread::scope(|scope| {
        let restore = scope.spawn(|| live.again(1, &["--table", "ord", "--data-only"]));
        wait::until("the restore waits", || {
            seen("mode = 'ShareRowExclusiveLock' AND NOT granted")
        });
        other.say("COMMIT;");
        other.end();
        restore.join().unwrap()
    });
    assert!(said.contains("would refer to rows of public.cust"), "{said}");
    assert_eq!(live.sql("SELECT count(*) FROM ord"), "0");
}

/// Views are made again as they were, each after those it reads from, with all that belongs to them.
#[test]
fn views_over_a_replaced_table_stay_what_they_are() {
    let live = Live::of(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 40) g; CREATE TABLE aside (id int)",
    );
    live.sql(
        "CREATE VIEW b_first WITH (security_barrier = true, check_option = local) AS SELECT id, v AS \"odd name\" FROM t WHERE id > 0; \
         CREATE VIEW a_second AS SELECT * FROM b_first; CREATE VIEW grouped AS SELECT id, v, count(*) FROM t GROUP BY id; \
         CREATE OR REPLACE VIEW b_first WITH (security_barrier = true, check_option = local) AS SELECT id, v AS \"odd name\", 1 AS one FROM t WHERE id > 0; \
         ALTER VIEW b_first ALTER COLUMN \"odd name\" SET DEFAULT 'none'; COMMENT ON VIEW b_first IS 'it''s'; COMMENT ON COLUMN b_first.\"odd name\" IS 'odd'; \
         CREATE RULE r AS ON DELETE TO a_second DO INSTEAD INSERT INTO aside VALUES (old.id); COMMENT ON RULE r ON a_second IS 'rule'; \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         CREATE TRIGGER g INSTEAD OF INSERT ON grouped FOR EACH ROW EXECUTE FUNCTION f(); COMMENT ON TRIGGER g ON grouped IS 'trigger'; \
         GRANT SELECT ON b_first TO PUBLIC; GRANT UPDATE (\"odd name\") ON b_first TO pg_monitor; REVOKE DELETE ON grouped FROM admin; \
         ALTER VIEW a_second OWNER TO pg_monitor; GRANT INSERT ON a_second TO pg_read_all_stats WITH GRANT OPTION; \
         DELETE FROM t WHERE id > 10; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pg_read_all_settings",
    );
    let dump = live.dump();
    let plan = live.again(0, &["--table", "t", "--clean", "--dry-run"]);
    assert!(plan.contains("view public.b_first"), "{plan}");
    live.again(0, &["--table", "t", "--clean"]);
    assert_eq!(
        live.sql("SELECT count(*), (SELECT count(*) FROM a_second) FROM t"),
        "40|40"
    );
    assert_eq!(live.dump(), dump);
    // A column that a view needs and the backup's table lacks: refused, and everything is as it was.
    live.sql("ALTER TABLE t ADD later int; CREATE VIEW wants AS SELECT later FROM t; INSERT INTO t VALUES (99)");
    let dump = live.dump();
    let said = live.again(1, &["--table", "t", "--clean"]);
    assert!(said.contains("public.wants"), "{said}");
    assert_eq!(live.dump(), dump);
    assert_eq!(live.sql("SELECT count(*) FROM t"), "41");
}

/// A role that may not turn foreign keys off loads what is referred to first, and deletes nothing elsewhere.
#[test]
fn a_role_without_the_right_to_be_quiet_loses_nothing() {
    let live = Live::of(CUSTOMERS);
    let seen = live.sql(CUSTOMERS_SEEN);
    let role = live.new_name("keeper");
    live.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; ALTER TABLE cust OWNER TO {role}; ALTER TABLE ord OWNER TO {role}; \
         ALTER TABLE log OWNER TO {role}; ALTER TABLE keyless OWNER TO {role}"
    ));
    let url = live.url(&live.name).replace("admin@", &format!("{role}@"));
    let flags = [
        "restore",
        "latest",
        "--into",
        &url,
        "--data-only",
        "--clean",
        "--table",
        "cust",
    ];
    live.program
        .refused(&flags, "ord_cust_fkey", "session_replication_role");
    assert_eq!(live.sql("SELECT count(*) FROM ord"), "100");
    live.sql("DELETE FROM cust WHERE id > 50; DELETE FROM log");
    live.program.expect(0, &[&flags[..], &["--table", "ord"]].concat());
    assert_eq!(live.sql(CUSTOMERS_SEEN), seen);
    assert_eq!(
        live.sql("SELECT (SELECT count(*) FROM ord), (SELECT count(*) FROM log)"),
        "100|0"
    );
    let states =
        "SELECT string_agg(tgname || tgenabled::text, ' ' ORDER BY tgname) FROM pg_trigger WHERE NOT tgisinternal";
    assert_eq!(live.sql(states), "alwaysA trO");
}

#[test]
fn the_printed_sql_copies_rows_whatever_the_table_is() {
    let live = Live::of(CUSTOMERS);
    let seen = live.sql(CUSTOMERS_SEEN);
    live.sql("SET session_replication_role = replica; DELETE FROM ord WHERE id BETWEEN 10 AND 20; DELETE FROM cust WHERE id BETWEEN 10 AND 20; DELETE FROM keyless WHERE a > 4");
    let flags = [
        "restore", "latest", "--table", "cust", "--table", "keyless", "--table", "ord",
    ];
    let said = live.program.expect(0, &flags);
    let lines: Vec<&str> = said
        .lines()
        .filter_map(|l| l.trim().strip_prefix("or copy missing rows: "))
        .collect();
    assert_eq!(lines.len(), 3, "{said}");
    for _ in 0..2 {
        for line in &lines {
            live.sql(line);
        }
        assert_eq!(live.sql(CUSTOMERS_SEEN), seen);
        assert_eq!(
            live.sql("SELECT (SELECT count(*) FROM ord), (SELECT count(*) FROM keyless)"),
            "100|10"
        );
    }
}

const NEEDY: &str = "CREATE EXTENSION citext; CREATE SCHEMA lib; CREATE TYPE lib.mood AS ENUM ('sad', 'ok'); CREATE DOMAIN lib.pos AS int CHECK (value > 0); \
    CREATE FUNCTION lib.mk() RETURNS text LANGUAGE sql AS $$ SELECT 'x'::text $$; CREATE SEQUENCE lib.sq; \
    CREATE COLLATION lib.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
    CREATE TABLE e1 (id int PRIMARY KEY, m lib.mood); INSERT INTO e1 VALUES (1, 'ok'); CREATE TABLE e2 (id int PRIMARY KEY, p lib.pos); INSERT INTO e2 VALUES (1, 5); \
    CREATE TABLE e3 (id int PRIMARY KEY, d text DEFAULT lib.mk()); INSERT INTO e3 (id) VALUES (1); \
    CREATE TABLE e4 (id int PRIMARY KEY DEFAULT nextval('lib.sq')); INSERT INTO e4 DEFAULT VALUES; \
    CREATE TABLE e5 (id int PRIMARY KEY, c citext); INSERT INTO e5 VALUES (1, 'A'); CREATE TABLE e6 (id int PRIMARY KEY, c text COLLATE lib.ci); INSERT INTO e6 VALUES (1, 'A'); \
    CREATE TABLE par (id int, r int) PARTITION BY LIST (r); CREATE TABLE par1 PARTITION OF par FOR VALUES IN (1); INSERT INTO par VALUES (1, 1); \
    CREATE TABLE inh (a int); CREATE TABLE kid (b int) INHERITS (inh); INSERT INTO kid VALUES (1, 2); \
    CREATE FUNCTION lib.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
    CREATE TABLE fk (id int PRIMARY KEY, e int REFERENCES e1); INSERT INTO fk VALUES (1, 1); CREATE INDEX fk_mk ON fk ((id::text || 'x')); \
    CREATE TRIGGER note BEFORE INSERT ON fk FOR EACH ROW EXECUTE FUNCTION lib.note();";

#[test]
fn a_table_in_a_new_database_has_what_its_definition_needs() {
    let live = Live::of(NEEDY);
    for table in ["e1", "e2", "e3", "e4", "e5", "e6", "par", "par1", "kid"] {
        let copy = live.new_name(table);
        live.restore(0, &copy, &["--table", &format!("public.{table}")]);
        assert_eq!(
            live.psql(&copy, &format!("SELECT count(*) FROM {table}")),
            "1",
            "{table}"
        );
    }
    let copy = live.new_name("e4");
    assert_eq!(live.psql(&copy, "INSERT INTO e4 DEFAULT VALUES RETURNING id"), "2");
    let others = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'e1'";
    assert_eq!(live.psql(&live.new_name("e1"), others), "0");
}

#[test]
fn dependencies_come_along_where_they_are_missing_and_stay_where_they_are() {
    let live = Live::of(NEEDY);
    let copy = live.new_name("new");
    live.restore(0, &copy, &["--table", "fk", "--with-dependencies"]);
    let seen = "SELECT (SELECT count(*) FROM fk), (SELECT m FROM e1), (SELECT count(*) FROM pg_constraint WHERE conname = 'fk_e_fkey'), \
        (SELECT count(*) FROM pg_trigger WHERE tgname = 'note'), to_regclass('e2')";
    assert_eq!(live.psql(&copy, seen), "1|ok|1|1|");
    // Into a database that is in use: what is there stays as it is, with its rows.
    live.psql(&copy, "DROP TABLE fk; INSERT INTO e1 VALUES (2, 'sad'); ALTER TYPE lib.mood ADD VALUE 'new'; DROP FUNCTION lib.note() CASCADE");
    let said = live.restore(2, &copy, &["--table", "fk"]);
    assert!(said.contains("TRIGGER"), "{said}");
    live.psql(&copy, "DROP TABLE fk");
    live.restore(0, &copy, &["--table", "fk", "--with-dependencies"]);
    let seen = "SELECT (SELECT count(*) FROM fk), (SELECT count(*) FROM e1), (SELECT count(*) FROM pg_trigger WHERE tgname = 'note'), \
        (SELECT count(*) FROM pg_enum WHERE enumlabel = 'new')";
    assert_eq!(live.psql(&copy, seen), "1|2|1|1");
    // Without them the table cannot be made; the error says the way.
    live.psql("postgres", &format!("CREATE DATABASE {}", live.new_name("used")));
    let used = live.new_name("used");
    live.psql(&used, "CREATE TABLE something ()");
    let said = live.restore(1, &used, &["--table", "e1"]);
    assert!(said.contains("--with-dependencies"), "{said}");
    live.restore(
        0,
        &used,
        &["--table", "e1", "--table", "e5", "--table", "e4", "--with-dependencies"],
    );
    assert_eq!(
        live.psql(
            &used,
            "SELECT m, (SELECT c FROM e5), (SELECT last_value FROM lib.sq) FROM e1"
        ),
        "ok|A|1"
    );
    // A sequence that is there keeps its value.
    live.psql(&used, "DROP TABLE e4; SELECT setval('lib.sq', 500)");
    live.restore(0, &used, &["--table", "e4", "--with-dependencies"]);
    assert_eq!(live.psql(&used, "SELECT last_value FROM lib.sq"), "500");
}
