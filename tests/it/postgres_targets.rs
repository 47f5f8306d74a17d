//! Where a restore must be possible, and what it leaves: roles with few rights, few sessions, no maintenance database, other
//! locales, long names, runs that were killed.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::postgres::Cluster;
use crate::support::program::Program;

struct Case {
    cluster: Arc<Cluster>,
    program: Program,
    name: String,
}

impl Case {
    /// Backs a database with this content up.
    fn of(cluster: Arc<Cluster>, sql: &str) -> Self {
        let name = cluster.fresh_name();
        Self::named(cluster, name, sql)
    }

    fn named(cluster: Arc<Cluster>, name: String, sql: &str) -> Self {
        cluster.psql("postgres", &format!("CREATE DATABASE \"{name}\""));
        cluster.psql(&name, sql);
        let mut program = Program::on_directory();
        program.set("PGPASSWORD", "secret");
        program.expect(0, &["init", "--no-encryption"]);
        let case = Self { cluster, program, name };
        case.run(0, &["backup", &case.url("admin", &case.name)]);
        case
    }

    fn url(&self, role: &str, database: &str) -> String {
        let port = self.cluster.port;
        format!("postgres://{role}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    fn restore(&self, code: i32, into: &str, flags: &[&str]) -> String {
        let into = self.url("admin", into);
        self.restore_to(code, &into, flags)
    }

    fn restore_to(&self, code: i32, url: &str, flags: &[&str]) -> String {
        let all: Vec<&str> = ["restore", "latest", "--into", url]
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

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.program.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn ask(&self, database: &str, sql: &str) -> String {
        self.cluster
            .psql_in(database, Path::new("/"), &["-c", sql])
            .trim()
            .to_owned()
    }

    /// Databases whose names begin like this one's.
    fn databases(&self) -> Vec<String> {
        let like = format!(
            "SELECT datname FROM pg_database WHERE starts_with(datname::text, '{}') ORDER BY 1",
            self.name
        );
        self.ask("postgres", &like).lines().map(str::to_owned).collect()
    }

    fn beside(&self) -> Vec<String> {
        let mut all = self.databases();
        all.retain(|name| name.contains("_restore_"));
        all
    }

    /// Waits until a query has rows.
    fn wait_for(&self, rows: &str) {
        let until = Instant::now() + Duration::from_secs(120);
        while self.ask("postgres", &format!("SELECT count(*) > 0 FROM {rows}")) != "t" {
            assert!(Instant::now() < until, "{rows}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a role that may log in, with these words.
    fn role(&self, words: &str) -> String {
        let role = format!("{}_role", self.name);
        self.ask(
            "postgres",
            &format!("CREATE ROLE {role} LOGIN PASSWORD 'secret' {words}"),
        );
        role
    }
}

fn ended(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().unwrap_or(-1);
    (code, String::from_utf8_lossy(&text).into_owned())
}

const TABLE: &str = "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'x' || g FROM generate_series(1, 100) g; \
    CREATE INDEX ON t (v)";

/// Keeps a COPY of [`BIG`] in its middle for as long as what happens to it takes.
const SLOW: &str = "--limit-rate=1MiB/s";

/// Enough rows that a restore can be caught while it loads them.
const BIG: &str = "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 40) AS v FROM generate_series(1, 200000) g";

const NO_NAMES: [&str; 2] = ["--no-owner", "--no-privileges"];

#[test]
fn a_role_that_may_not_create_databases_fills_its_own_empty_one() {
    let case = Case::of(Cluster::shared(), TABLE);
    let role = case.role("");
    let own = format!("{}_own", case.name);
    case.ask("postgres", &format!("CREATE DATABASE {own} OWNER {role}"));
    case.ask("postgres", &format!("ALTER DATABASE {own} SET work_mem = '7MB'"));
    let url = case.url(&role, &own);

    // It is said beforehand, and nothing is written.
    let plan = case.restore_to(0, &url, &["--dry-run", NO_NAMES[0], NO_NAMES[1]]);
    assert!(plan.contains("loaded in one transaction"), "{plan}");
    assert_eq!(case.ask(&own, "SELECT count(*) FROM pg_class WHERE relname = 't'"), "0");

    case.restore_to(0, &url, &["--verify-rows", NO_NAMES[0], NO_NAMES[1]]);
    assert_eq!(case.ask(&own, "SELECT count(*), max(v) FROM t"), "100|x99");
    assert_eq!(case.ask(&own, "SELECT nextval('t_id_seq')"), "101");
    assert_eq!(case.ask(&own, "SHOW work_mem"), "7MB", "it is the same database");
    let owner = format!("SELECT tableowner FROM pg_tables WHERE tablename = 't' AND tableowner = '{role}'");
    assert_eq!(case.ask(&own, &owner), role);
    assert_eq!(case.databases().len(), 2, "{:?}", case.databases());

    // What it cannot do is refused before anything is written, with the way.
    let said = case.restore_to(1, &url, &["--clean"]);
    assert!(
        said.contains("may not create databases") && said.contains("empty database"),
        "{said}"
    );
    let said = case.restore_to(1, &case.url(&role, &format!("{own}_new")), &[]);
    assert!(said.contains("may not create databases"), "{said}");
    assert_eq!(case.ask(&own, "SELECT count(*) FROM t"), "100");
}

/// Without CREATEDB one transaction fills the database, so a refusal leaves it empty.
#[test]
fn an_own_database_that_cannot_be_filled_stays_empty() {
    let case = Case::of(
        Cluster::shared(),
        &format!(
            "{TABLE}; CREATE SCHEMA far; SET search_path = far, public; CREATE FUNCTION helper(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0'; \
             CREATE FUNCTION ok(a int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper(a); END'; \
             CREATE TABLE bad (a int CHECK (ok(a))); INSERT INTO bad VALUES (1)"
        ),
    );
    let role = case.role("");
    let own = format!("{}_own", case.name);
    case.ask("postgres", &format!("CREATE DATABASE {own} OWNER {role}"));
    let url = case.url(&role, &own);
    let said = case.restore_to(1, &url, &NO_NAMES);
    assert!(said.contains("--keep-going"), "{said}");
    assert_eq!(case.ask(&own, "SELECT count(*) FROM pg_class WHERE oid >= 16384"), "0");
    case.restore_to(2, &url, &["--keep-going", NO_NAMES[0], NO_NAMES[1]]);
    assert_eq!(
        case.ask(&own, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM far.bad)"),
        "100|0"
    );
}

#[test]
fn a_role_with_one_session_restores() {
    let case = Case::of(
        Cluster::shared(),
        &format!("{TABLE}; {}", TABLE.replace(" t ", " u ").replace("ON t", "ON u")),
    );
    let role = case.role("CREATEDB CONNECTION LIMIT 1");
    let into = format!("{}_limited", case.name);
    let url = case.url(&role, &into);
    case.restore_to(0, &url, &["--verify-rows", NO_NAMES[0], NO_NAMES[1]]);
    assert_eq!(
        case.ask(&into, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)"),
        "100|100"
    );
    case.restore_to(0, &url, &["--clean", NO_NAMES[0], NO_NAMES[1]]);
    assert_eq!(case.ask(&into, "SELECT count(*) FROM t"), "100");
    let said = case.run(0, &["restore", "latest", "--undo", "--into", &url]);
    assert!(said.contains("_undone_"), "{said}");
    // In its own database, too.
    let own = format!("{}_own", case.name);
    case.ask("postgres", &format!("CREATE DATABASE {own} OWNER {role}; "));
    case.ask("postgres", &format!("ALTER ROLE {role} NOCREATEDB"));
    case.restore_to(0, &case.url(&role, &own), &NO_NAMES);
    assert_eq!(case.ask(&own, "SELECT count(*) FROM t"), "100");
}

#[test]
fn a_database_that_was_made_by_hand_stays_as_it_is_made() {
    let case = Case::of(Cluster::shared(), TABLE);
    let mine = format!("{}_mine", case.name);
    let make = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    case.ask("postgres", &format!("CREATE DATABASE {mine} {make}"));
    case.ask("postgres", &format!("COMMENT ON DATABASE {mine} IS 'of my hand'"));
    let made = format!(
        "SELECT pg_encoding_to_char(encoding), datcollate, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{mine}'"
    );
    let plan = case.restore(0, &mine, &["--dry-run"]);
    assert!(plan.contains("LATIN1") && plan.contains("UTF8"), "{plan}");
    let said = case.restore(0, &mine, &[]);
    assert!(said.contains("LATIN1"), "{said}");
    assert_eq!(case.ask(&mine, "SELECT count(*) FROM t"), "100");
    assert_eq!(case.ask("postgres", &made), "LATIN1|C|of my hand");
    assert_eq!(case.databases().len(), 2, "{:?}", case.databases());

    // The same locale again when it is replaced, if the encoding is the backup's.
    let other = format!("{}_other", case.name);
    let make = make.replace("LATIN1", "UTF8");
    case.ask("postgres", &format!("CREATE DATABASE {other} {make}"));
    case.ask(&other, "CREATE TABLE mine (a int)");
    case.restore(0, &other, &["--clean"]);
    let made = made.replace(&mine, &other);
    assert_eq!(case.ask("postgres", &made), "UTF8|C|");
}

#[test]
fn a_killed_restore_leaves_no_half_database_under_the_wanted_name() {
    let case = Case::of(Cluster::shared(), BIG);
    let copy = format!("{}_copy", case.name);
    let mut restore = case.start(&["restore", "latest", SLOW, "--into", &case.url("admin", &copy)]);
    let copying = format!(
        "pg_stat_activity WHERE starts_with(datname::text, '{}') AND query LIKE 'COPY %big%FROM STDIN%' AND state = 'active'",
        case.name
    );
    case.wait_for(&copying);
    restore.kill().unwrap();
    restore.wait().unwrap();
    let left = case.beside();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(!case.databases().contains(&copy), "{:?}", case.databases());
    case.wait_for(&format!(
        "(SELECT count(*) AS n FROM pg_stat_activity WHERE datname = '{}') s WHERE n = 0",
        left[0]
    ));
    let plan = case.restore(0, &copy, &["--dry-run"]);
    assert!(plan.contains(&left[0]) && plan.contains("interrupted"), "{plan}");
    let said = case.restore(0, &copy, &[]);
    assert!(said.contains(&left[0]) && said.contains("dropped"), "{said}");
    assert_eq!(case.databases(), [case.name.clone(), copy.clone()]);
    assert_eq!(case.ask(&copy, "SELECT count(*) FROM big"), "200000");
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    assert_eq!(case.ask(&copy, comment), "");
}

/// Two at once to the same name: neither touches the other's work, and whoever is later says where its own stands.
#[test]
fn a_restore_that_runs_is_left_alone_by_another_one() {
    let case = Case::of(Cluster::shared(), BIG);
    let copy = format!("{}_copy", case.name);
    let first = case.start(&["restore", "latest", SLOW, "--into", &case.url("admin", &copy)]);
    let copying = format!(
        "pg_stat_activity WHERE starts_with(datname::text, '{}') AND query LIKE 'COPY %big%FROM STDIN%' AND state = 'active'",
        case.name
    );
    case.wait_for(&copying);
    let process = rustix::process::Pid::from_raw(first.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    let of_first = case.beside();
    assert_eq!(of_first.len(), 1, "{of_first:?}");
    let said = case.restore(0, &copy, &[]);
    assert!(said.contains(&of_first[0]) && said.contains("not touched"), "{said}");
    assert_eq!(case.ask(&copy, "SELECT count(*) FROM big"), "200000");
    rustix::process::kill_process(process, rustix::process::Signal::CONT).unwrap();
    let (code, said) = ended(first);
    assert!(
        code == 1 && said.contains("Everything is restored, into"),
        "{code} {said}"
    );
    assert_eq!(case.beside(), of_first);
    assert_eq!(case.ask(&of_first[0], "SELECT count(*) FROM big"), "200000");
    // It is whole, so that no later restore takes it away.
    case.restore(0, &copy, &["--clean", "--drop-old"]);
    assert_eq!(case.beside(), of_first);
}

#[test]
fn long_names_that_begin_alike_are_kept_and_put_back_apart() {
    let cluster = Cluster::shared();
    let stem = format!("{}_{}", cluster.fresh_name(), "n".repeat(60));
    let name = |end: &str| format!("{}{end}", &stem[..63 - end.len()]);
    let (a, b) = (name("a"), name("b"));
    let case = Case::named(cluster, a.clone(), "CREATE TABLE t AS SELECT 1 AS i");
    for (name, value) in [(&a, 2), (&b, 3)] {
        if *name == b {
            case.ask("postgres", &format!("CREATE DATABASE {b}"));
            case.ask(&b, "CREATE TABLE t (i int); INSERT INTO t VALUES (0)");
        }
        case.ask(name, &format!("UPDATE t SET i = {value}"));
        case.restore(0, name, &["--clean"]);
        assert_eq!(case.ask(name, "SELECT i FROM t"), "1");
    }
    for (name, value) in [(&a, "2"), (&b, "3")] {
        let said = case.run(0, &["restore", "latest", "--undo", "--into", &case.url("admin", name)]);
        assert!(said.contains("was renamed back to"), "{said}");
        assert_eq!(case.ask(name, "SELECT i FROM t"), value);
        let comment =
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
        assert_eq!(case.ask(name, comment), "", "the mark is gone");
        case.run(1, &["restore", "latest", "--undo", "--into", &case.url("admin", name)]);
    }
}

/// A kept database is found by its mark, whatever it is called by then; a copy of it is not taken for it.
#[test]
fn a_kept_database_is_known_by_its_mark() {
    let case = Case::of(Cluster::shared(), "CREATE TABLE t AS SELECT 1 AS i");
    let (live, odd) = (format!("{}_live", case.name), format!("{}_odd", case.name));
    case.ask("postgres", &format!("CREATE DATABASE {live}"));
    case.ask("postgres", &format!("COMMENT ON DATABASE {live} IS 'of mine'"));
    case.ask(&live, "CREATE TABLE mine AS SELECT 5 AS i");
    case.restore(0, &live, &["--clean"]);
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    assert_eq!(case.ask(&live, comment), "of mine");
    let mut kept = case.databases();
    kept.retain(|name| name.contains("_before_"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(case.ask(&kept[0], comment).starts_with("of mine\nwirevault kept "));
    case.ask("postgres", &format!("ALTER DATABASE \"{}\" RENAME TO {odd}", kept[0]));
    // A copy with the comment, and a name that looks like one.
    let fake = format!("{live}_before_20990101T000000Z");
    case.ask("postgres", &format!("CREATE DATABASE \"{fake}\" TEMPLATE {odd}"));
    let copied = case.ask(&odd, comment);
    case.ask("postgres", &format!("COMMENT ON DATABASE \"{fake}\" IS '{copied}'"));
    let said = case.run(0, &["restore", "latest", "--undo", "--into", &case.url("admin", &live)]);
    assert!(said.contains(&odd), "{said}");
    assert_eq!(case.ask(&live, "SELECT i FROM mine"), "5");
    assert_eq!(case.ask(&live, comment), "of mine");
}

#[test]
fn what_belongs_to_the_database_stays_with_its_name() {
    let case = Case::of(Cluster::shared(), "CREATE TABLE t AS SELECT 1 AS i");
    let (live, space) = (format!("{}_live", case.name), format!("{}_space", case.name));
    case.cluster.psql_in(
        "postgres",
        Path::new("/"),
        &[
            "-c",
            "SET allow_in_place_tablespaces = on",
            "-c",
            &format!("CREATE TABLESPACE {space} LOCATION ''"),
        ],
    );
    let make = format!("CREATE DATABASE {live} TABLESPACE {space} IS_TEMPLATE true CONNECTION LIMIT 9");
    case.ask("postgres", &make);
    case.ask(&live, "CREATE TABLE mine (i int)");
    case.restore(0, &live, &["--clean"]);
    let facts = format!(
        "SELECT datistemplate, datconnlimit, spcname FROM pg_database d JOIN pg_tablespace s ON s.oid = dattablespace WHERE datname = '{live}'"
    );
    assert_eq!(case.ask("postgres", &facts), format!("t|9|{space}"));
    // A template is dropped, too, when it is to go.
    case.restore(0, &live, &["--clean", "--drop-old"]);
    assert_eq!(case.ask("postgres", &facts), format!("t|9|{space}"));
    let kept = case.databases().iter().filter(|n| n.contains("_before_")).count();
    assert_eq!(kept, 1, "only that of the first");
    // A new one has those of the backup.
    case.run(0, &["backup", &case.url("admin", &live)]);
    let copy = format!("{}_copy", case.name);
    case.restore(0, &copy, &[]);
    let facts = facts.replace(&live, &copy);
    assert_eq!(case.ask("postgres", &facts), format!("t|9|{space}"));
    for name in case.databases() {
        case.ask("postgres", &format!("ALTER DATABASE \"{name}\" IS_TEMPLATE false"));
        case.ask("postgres", &format!("DROP DATABASE \"{name}\" (FORCE)"));
    }
    case.ask("postgres", &format!("DROP TABLESPACE {space}"));
}

#[test]
fn sessions_that_a_swap_ended_are_said() {
    let case = Case::of(Cluster::shared(), "CREATE TABLE t AS SELECT 1 AS i");
    let live = format!("{}_live", case.name);
    case.ask("postgres", &format!("CREATE DATABASE {live}"));
    case.ask(&live, "CREATE TABLE mine AS SELECT 5 AS i");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let session = runtime.block_on(async {
        let options = case.cluster.options(&live);
        let mut session = wirevault::engines::postgres::Connection::open(&options).await.unwrap();
        session.execute("BEGIN; UPDATE mine SET i = 6").await.unwrap();
        session
    });
    let said = case.restore(0, &live, &["--clean"]);
    assert!(said.contains("1 session of the replaced database"), "{said}");
    drop(session);
    let kept = case.databases().into_iter().find(|n| n.contains("_before_")).unwrap();
    assert_eq!(case.ask(&kept, "SELECT i FROM mine"), "5");
}

/// A database that a restore left half is not taken for one of the server's.
#[test]
fn half_databases_are_left_out_of_a_backup_of_the_whole_server() {
    let cluster = Arc::new(Cluster::start());
    let case = Case::of(Arc::clone(&cluster), BIG);
    let copy = format!("{}_copy", case.name);
    let mut restore = case.start(&["restore", "latest", SLOW, "--into", &case.url("admin", &copy)]);
    case.wait_for("pg_stat_activity WHERE query LIKE 'COPY %big%FROM STDIN%' AND state = 'active'");
    restore.kill().unwrap();
    restore.wait().unwrap();
    let left = case.beside();
    assert_eq!(left.len(), 1, "{left:?}");
    let said = case.run(0, &["backup", &case.url("admin", "")]);
    assert!(said.contains(&format!("\"{}\" is not backed up", left[0])), "{said}");
    let shown = case.run(0, &["show", "latest", "--json"]);
    assert!(shown.contains(&case.name) && !shown.contains(&left[0]), "{shown}");
}

/// Others that are in the template at that moment are waited for.
#[test]
fn a_busy_template_is_waited_for() {
    let cluster = Arc::new(Cluster::start());
    let case = Case::of(Arc::clone(&cluster), TABLE);
    let copy = format!("{}_copy", case.name);
    case.ask(
        "postgres",
        "UPDATE pg_database SET datallowconn = true WHERE datname = 'template0'",
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = case.cluster.options("template0");
    let session = runtime
        .block_on(wirevault::engines::postgres::Connection::open(&options))
        .unwrap();
    let restore = case.start(&["restore", "latest", "--into", &case.url("admin", &copy)]);
    // The server refuses by itself after some seconds: the second statement is that of another attempt.
    let started = "SELECT COALESCE(max(query_start)::text, '') FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%' AND state = 'active'";
    let until = Instant::now() + Duration::from_secs(120);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        assert!(Instant::now() < until, "{seen:?}");
        seen.insert(case.ask("postgres", started));
        seen.remove("");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(session);
    let (code, said) = ended(restore);
    assert_eq!(code, 0, "{said}");
    assert_eq!(case.ask(&copy, "SELECT count(*) FROM t"), "100");
}

/// Where the owner is missing, the comment and the limit of the database come back all the same.
#[test]
fn a_missing_owner_costs_only_the_ownership() {
    let cluster = Cluster::shared();
    let case = Case::of(Arc::clone(&cluster), TABLE);
    let role = case.role("");
    let name = &case.name;
    for sql in [
        format!("ALTER DATABASE {name} OWNER TO {role}"),
        format!("COMMENT ON DATABASE {name} IS 'of the source'"),
        format!("ALTER DATABASE {name} CONNECTION LIMIT 7"),
    ] {
        case.ask("postgres", &sql);
    }
    case.run(0, &["backup", &case.url("admin", name)]);
    case.ask(
        "postgres",
        &format!("ALTER DATABASE {name} OWNER TO admin; DROP ROLE {role}"),
    );
    let copy = format!("{name}_copy");
    let said = case.restore(2, &copy, &[]);
    assert!(said.contains(&role), "{said}");
    let facts =
        format!("SELECT datconnlimit, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{copy}'");
    assert_eq!(case.ask("postgres", &facts), "7|of the source");
}

/// A role that may give a database away, but has not the rights of whom it gave it to, keeps it: it has to rename it.
#[test]
fn a_database_that_could_not_be_renamed_any_more_is_not_given_away() {
    let cluster = Cluster::shared();
    let case = Case::of(Arc::clone(&cluster), "SELECT 1");
    let (role, name) = (case.role("CREATEDB NOINHERIT"), &case.name);
    let owner = format!("{name}_owner");
    case.ask("postgres", &format!("CREATE ROLE {owner}; GRANT {owner} TO {role}"));
    case.ask("postgres", &format!("ALTER DATABASE {name} OWNER TO {owner}"));
    // In a schema of its own: as the owner of "public" it would need a right that it has by membership.
    case.ask(
        name,
        &format!(
            "CREATE SCHEMA own AUTHORIZATION {role}; CREATE TABLE own.t AS SELECT generate_series(1, 100) AS id; \
             ALTER TABLE own.t OWNER TO {role}"
        ),
    );
    case.ask("postgres", &format!("COMMENT ON DATABASE {name} IS 'of the source'"));
    case.run(0, &["backup", &case.url("admin", name)]);
    let copy = format!("{name}_copy");
    let said = case.restore_to(2, &case.url(&role, &copy), &["--no-privileges"]);
    assert!(said.contains("DATABASE"), "{said}");
    let facts = format!(
        "SELECT pg_get_userbyid(datdba), shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{copy}'"
    );
    assert_eq!(case.ask("postgres", &facts), format!("{role}|of the source"));
    assert_eq!(case.ask(&copy, "SELECT count(*) FROM own.t"), "100");
}

/// As with libpq, a password file that others can read is passed by; only who needs it misses it.
#[test]
fn a_password_file_that_others_can_read_is_not_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    std::fs::write(&file, "*:*:*:*:secret\n").unwrap();
    let env = |name: &str| (name == "HOME").then(|| home.path().display().to_string());
    let read = || wirevault::engines::postgres::ConnectOptions::from_url_with("postgres://u@h/d", None, &env).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(read().password.is_none());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(read().password.is_some());
}

/// A verification that was killed leaves its scratch database, which the next one takes away; others' databases it does not.
#[test]
fn a_killed_verification_leaves_nothing_for_long() {
    let cluster = Arc::new(Cluster::start());
    let case = Case::of(Arc::clone(&cluster), BIG);
    let server = case.url("admin", "postgres");
    let verify = ["verify", "latest", "--level", "restored", "--into", &server];
    let slow = [&verify[..], &[SLOW]].concat();
    let mut first = case.start(&slow);
    case.wait_for("pg_stat_activity WHERE datname LIKE 'wv\\_verify\\_%' AND query LIKE 'COPY %big%FROM STDIN%' AND state = 'active'");
    first.kill().unwrap();
    first.wait().unwrap();
    let left = case.ask(
        "postgres",
        "SELECT datname FROM pg_database WHERE datname LIKE 'wv\\_verify\\_%'",
    );
    assert!(left.starts_with("wv_verify_"), "{left}");
    case.ask("postgres", "CREATE DATABASE wv_verify_mine");
    case.wait_for(&format!(
        "(SELECT count(*) AS n FROM pg_stat_activity WHERE datname = '{left}') s WHERE n = 0"
    ));
    let said = case.run(0, &verify);
    assert!(said.contains(&left), "{said}");
    let all = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname LIKE 'wv\\_verify\\_%'";
    assert_eq!(case.ask("postgres", all), "wv_verify_mine");
}

/// A role, or a database, that may have few sessions is backed up by as many readers as that leaves; by one alone, too.
#[test]
fn a_role_with_few_sessions_is_enough_for_a_backup() {
    let cluster = Cluster::shared();
    let tables: Vec<String> = (0..8)
        .map(|n| format!("CREATE TABLE t{n} AS SELECT g AS id, repeat('x', 100) AS v FROM generate_series(1, 5000) g"))
        .collect();
    let case = Case::of(Arc::clone(&cluster), &tables.join("; "));
    let role = case.role("CONNECTION LIMIT 1 IN ROLE pg_read_all_data");
    let copy = format!("{}_copy", case.name);
    for limit in 1..=3 {
        case.ask("postgres", &format!("ALTER ROLE {role} CONNECTION LIMIT {limit}"));
        case.run(0, &["backup", &case.url(&role, &case.name)]);
        case.restore(0, &copy, &["--clean", "--drop-old", "--verify-rows"]);
        let rows = "SELECT (SELECT count(*) FROM t0), (SELECT count(*) FROM t7)";
        assert_eq!(case.ask(&copy, rows), "5000|5000", "limit {limit}");
    }
    case.ask("postgres", &format!("ALTER ROLE {role} CONNECTION LIMIT -1"));
    case.ask("postgres", &format!("ALTER DATABASE {} CONNECTION LIMIT 1", case.name));
    case.run(0, &["backup", &case.url(&role, &case.name)]);
}

/// With --drop-old, what was there is kept all the same when something could not be restored.
#[test]
fn what_is_not_whole_does_not_cost_what_was_there() {
    let case = Case::of(
        Cluster::shared(),
        "CREATE SCHEMA far; SET search_path = far, public; CREATE FUNCTION helper(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0'; \
         CREATE FUNCTION ok(a int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper(a); END'; \
         CREATE TABLE bad (a int CHECK (ok(a))); INSERT INTO bad VALUES (1)",
    );
    let live = format!("{}_live", case.name);
    case.ask("postgres", &format!("CREATE DATABASE {live}"));
    case.ask(&live, "CREATE TABLE mine AS SELECT 5 AS i");
    let said = case.restore(2, &live, &["--clean", "--drop-old", "--keep-going"]);
    let kept = case.databases().into_iter().find(|n| n.contains("_before_")).unwrap();
    assert!(said.contains(&kept), "{said}");
    assert_eq!(case.ask(&kept, "SELECT i FROM mine"), "5");
}

/// Neither `postgres` nor `template1` can be connected to: another database will do, or one that is made for the moment.
#[test]
fn a_server_without_the_usual_databases() {
    let cluster = Arc::new(Cluster::start());
    let case = Case::of(Arc::clone(&cluster), TABLE);
    let copy = format!("{}_copy", case.name);
    cluster.psql(
        "postgres",
        "UPDATE pg_database SET datallowconn = false WHERE datname = 'template1'",
    );
    cluster.psql(&case.name, "DROP DATABASE postgres");
    // The source itself serves.
    let said = case.restore_into_nothing(&copy);
    assert!(said.contains("template1") || said.contains("maintenance"), "{said}");
    cluster.psql(&case.name, &format!("CREATE DATABASE {copy}"));
    case.restore(0, &copy, &[]);
    assert_eq!(case.ask(&copy, "SELECT count(*) FROM t"), "100");
    // The only database there is: another one is made for the moment of the swap.
    cluster.psql(&copy, &format!("DROP DATABASE {}", case.name));
    cluster.psql(&copy, "DELETE FROM t");
    case.restore(0, &copy, &["--clean"]);
    let all =
        "SELECT count(*), count(*) FILTER (WHERE datname ~ '_before_') FROM pg_database WHERE datname !~ '^template'";
    assert_eq!(case.ask(&copy, all), "2|1");
    assert_eq!(case.ask(&copy, "SELECT count(*) FROM t"), "100");
    case.run(0, &["restore", "latest", "--undo", "--into", &case.url("admin", &copy)]);
    assert_eq!(case.ask(&copy, "SELECT count(*) FROM t"), "0");
}

impl Case {
    /// A free name needs a database to create it from; without one that is known the error says what to do.
    fn restore_into_nothing(&self, name: &str) -> String {
        let said = self.restore(1, name, &[]);
        assert!(said.contains("hint:"), "{said}");
        said
    }
}
