//! Settings that a role, a database or a server has for its sessions, and so for ours: none of them changes what comes back.
//!
//! Every setting that a session may have is tried, all at once; if that fails, halves are tried until the names are found.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use wirevault::engines::postgres::session::settings::{self, Context, Session};
use wirevault::engines::postgres::{ConnectOptions, Connection, PostgresRestore, PostgresSource, RestoreOptions};

use crate::postgres_roundtrip::{extract, join};
use crate::support::archives::Vault;
use crate::support::postgres::Cluster;
use crate::support::program::Program;

/// Amounts with a comma, as in much of the world.
const LOCALE: &str = "comment_char %\nescape_char /\nLC_MONETARY\nint_curr_symbol \"EUR \"\ncurrency_symbol \"$\"\nmon_decimal_point \",\"\n\
    mon_thousands_sep \".\"\nmon_grouping 3;3\npositive_sign \"\"\nnegative_sign \"-\"\nint_frac_digits 2\nfrac_digits 2\np_cs_precedes 1\n\
    p_sep_by_space 1\nn_cs_precedes 1\nn_sep_by_space 1\np_sign_posn 1\nn_sign_posn 1\nEND LC_MONETARY\n";

/// Values of settings that are no number, switch or choice, or of which the first value to hand tries nothing or ends every session.
const VALUES: &[(&str, &str)] = &[
    ("DateStyle", "'German, DMY'"),
    ("TimeZone", "'Asia/Kathmandu'"),
    ("application_name", "'it''s \"odd\"'"),
    ("backtrace_functions", "'nothing'"),
    ("client_connection_check_interval", "1000"),
    ("client_encoding", "'LATIN1'"),
    ("createrole_self_grant", "'set, inherit'"),
    ("default_table_access_method", "'heap2'"),
    ("default_tablespace", "'wv_space'"),
    ("default_text_search_config", "'pg_catalog.german'"),
    ("default_transaction_isolation", "'serializable'"),
    ("dynamic_library_path", "'$libdir:/nowhere'"),
    ("idle_session_timeout", "20000"),
    ("lc_messages", "'POSIX'"),
    ("lc_monetary", "'wv_ES'"),
    ("lc_numeric", "'POSIX'"),
    ("lc_time", "'POSIX'"),
    ("max_stack_depth", "512"),
    ("output_plugin_libraries", "pgoutput"),
    ("restrict_nonsystem_relation_kind", "'view'"),
    ("search_path", "evil, pg_catalog"),
    ("session_preload_libraries", "plpgsql"),
    ("statement_timeout", "300"),
    ("tcp_keepalives_count", "30"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "30"),
    ("tcp_user_timeout", "60000"),
    ("temp_tablespaces", "wv_space"),
    ("timezone_abbreviations", "'Australia'"),
    ("transaction_timeout", "20000"),
    ("vacuum_cost_delay", "1"),
    ("vacuum_cost_limit", "5000"),
    ("wal_consistency_checking", "'btree'"),
];

/// Settings that are not tried, each with its reason.
const NOT_TRIED: &[(&str, &str)] = &[
    ("extension_control_path", "where the server's own files lie"),
    ("extension_destdir", "where the server's own files lie"),
    (
        "local_preload_libraries",
        "a library that is not in the plugins' place ends every login",
    ),
    ("log_statement_stats", "excludes the three of its kind that are tried"),
    ("transaction_deferrable", "of a transaction, not of a session"),
    ("transaction_isolation", "of a transaction, not of a session"),
    ("transaction_read_only", "of a transaction, not of a session"),
];

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, m money DEFAULT '1234.56', r regclass, ty regtype, a text[] DEFAULT '{NULL,x}', f float8, d date DEFAULT '2026-02-03', \
        ts timestamptz, iv interval DEFAULT '-1 day 02:03:04.5', b bytea, x xml, tags int[], doc text, \
        CHECK ((id = NULL) IS NULL), CHECK (m > '0.01'::money)); \
    INSERT INTO t SELECT g, (g * 1.01)::numeric::money, 't', 'integer', ARRAY[NULL, 'NULL', '', 'a\\b\"'], g / 3.0, date '2026-01-01' + g, timestamptz '2026-01-01 19:30+00' + g * interval '1 h', \
        interval '-1 day' + g * interval '1 s', decode(md5(g::text), 'hex'), '<a/>text<b/>', ARRAY[g % 3], 'Häuser ' || repeat(md5(g::text), 20) FROM generate_series(1, 6000) g; \
    CREATE INDEX ON t (doc); CREATE INDEX ON t USING gin (tags); CREATE TABLE child (id serial PRIMARY KEY, t int NOT NULL REFERENCES t); INSERT INTO child (t) SELECT id FROM t; \
    CREATE TABLE hidden (id int); INSERT INTO hidden VALUES (1); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY; \
    CREATE FUNCTION doubled(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN i * 2; END $$; CREATE TRIGGER later AFTER INSERT ON child EXECUTE FUNCTION suppress_redundant_updates_trigger(); \
    CREATE VIEW seen AS SELECT id, m, doubled(id) AS twice FROM t WHERE m < '12.34'::money; \
    CREATE MATERIALIZED VIEW evaluated AS SELECT ts::date AS day, min(f::text) AS f, min(iv::text) AS iv, min(b::text) AS b, min(to_tsvector(doc)::text) AS words FROM t GROUP BY 1; \
    CREATE MATERIALIZED VIEW found AS SELECT count(*) AS n FROM t WHERE tags @> '{1}'; SELECT lo_from_bytea(0, 'large')";

/// What there is, in words that no setting changes.
const QUESTIONS: &[&str] = &[
    "SELECT count(*), md5(string_agg(concat_ws('|', id, m::numeric, (SELECT c.relname FROM pg_class c WHERE c.oid = r), ty::oid, array_to_string(a, ',', '<null>'), f::numeric, d - date '2026-01-01', \
        extract(epoch FROM ts), extract(epoch FROM iv), encode(b, 'base64'), x::text, array_to_string(tags, ','), doc), ';' ORDER BY id)) FROM t",
    "SELECT string_agg(concat_ws('|', to_char(day, 'YYYY-MM-DD'), f, iv, b, words), ';' ORDER BY day) FROM evaluated",
    "SELECT n, (SELECT count(*) FROM child), (SELECT count(*) FROM hidden), (SELECT count(*) FROM seen), nextval('child_id_seq'), (SELECT count(*) FROM pg_largeobject_metadata) FROM found",
    "SELECT string_agg(conrelid::regclass || ' ' || pg_get_constraintdef(oid), ';' ORDER BY conrelid::regclass::text, conname) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    "SELECT string_agg(concat_ws(' ', c.relname, c.relkind, c.reltablespace, a.amname, i.indisvalid), ';' ORDER BY c.relname) FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam \
        LEFT JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace",
    "SELECT string_agg(pg_get_expr(adbin, adrelid), ';' ORDER BY adrelid::regclass::text, adnum) FROM pg_attrdef",
    "SELECT pg_get_viewdef('seen'::regclass), pg_get_viewdef('evaluated'::regclass)",
];

/// What makes a hostile search path and default values possible.
const SURROUNDINGS: &str = "CREATE SCHEMA evil; CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler; \
    CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$; \
    CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$; \
    CREATE FUNCTION evil.count(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$";

/// Where settings are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Role,
    Database,
    Server,
}

type Setting = (String, String);

struct Server {
    cluster: Cluster,
    _locales: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let locales = tempfile::tempdir().unwrap();
        let source = locales.path().join("source");
        std::fs::write(&source, LOCALE).unwrap();
        // It warns of the categories that are left out; they are those of "C".
        let made = Command::new("localedef")
            .args(["-c", "-i"])
            .arg(&source)
            .arg(locales.path().join("wv_ES"))
            .output()
            .unwrap();
        assert!(locales.path().join("wv_ES/LC_MONETARY").exists(), "{made:?}");
        open_to_all(locales.path());
        let cluster = Cluster::start_with(&[("LOCPATH", locales.path())]);
        run(
            &cluster,
            "postgres",
            &[
                "SET allow_in_place_tablespaces = on",
                "CREATE TABLESPACE wv_space LOCATION ''",
            ],
        );
        cluster.psql("postgres", SURROUNDINGS);
        Self {
            cluster,
            _locales: locales,
        }
    }

    /// Returns every setting that a session may have, with a value that is not its own.
    fn settings(&self) -> Vec<Setting> {
        let sql = "SELECT name || chr(9) || vartype || chr(9) || setting || chr(9) || coalesce(min_val, '') || chr(9) || coalesce(max_val, '') || chr(9) \
            || coalesce(array_to_string(enumvals, ','), '') FROM pg_settings WHERE context IN ('user', 'superuser') ORDER BY name";
        let found = self.cluster.psql("postgres", sql);
        found
            .lines()
            .filter_map(|line| other_value(&line.split('\t').collect::<Vec<_>>()))
            .collect()
    }

    /// Returns how the restored database differs from its source when both ways go under these settings.
    async fn differences(&self, level: Level, settings: &[Setting]) -> Option<String> {
        let cluster = &self.cluster;
        let (name, copy, role) = (cluster.fresh_name(), cluster.fresh_name(), cluster.fresh_name());
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        cluster.psql(
            "postgres",
            &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'"),
        );
        cluster.psql(&name, SURROUNDINGS);
        cluster.psql(&name, SCHEMA);
        let of = match level {
            Level::Role => format!("ROLE {role}"),
            Level::Database => format!("DATABASE {name}"),
            Level::Server => "SYSTEM".to_owned(),
        };
        let statements: Vec<String> = settings
            .iter()
            .map(|(n, v)| format!("ALTER {of} SET {n} TO {v}"))
            .collect();
        let list: Vec<&str> = statements.iter().flat_map(|s| ["-c", s]).collect();
        cluster.psql_in("postgres", Path::new("/"), &list);
        if level == Level::Server {
            self.reload("off").await;
        }
        // What a materialized view holds was evaluated under the settings of the database. Some of them lie about rows.
        let mut refreshing = Connection::open(&cluster.options(&name)).await.unwrap();
        let honest = "SET ROLE NONE; SET statement_timeout = 0; SET temp_file_limit = -1; SET gin_fuzzy_search_limit = 0; SET search_path = public; SET default_transaction_read_only = off; \
            SET client_encoding = 'UTF8'; SET restrict_nonsystem_relation_kind = ''";
        refreshing.execute(honest).await.unwrap();
        refreshing
            .execute("REFRESH MATERIALIZED VIEW evaluated; REFRESH MATERIALIZED VIEW found")
            .await
            .unwrap();
        refreshing.close().await;
        let user = if level == Level::Role { role.as_str() } else { "admin" };
        let done = self.there_and_back(&name, &copy, user).await;
        let found = match done {
            Err(error) => Some(error),
            Ok(()) => self.compare(&name, &copy).await,
        };
        if level == Level::Server {
            cluster.psql_in("postgres", Path::new("/"), &["-c", "ALTER SYSTEM RESET ALL"]);
            self.reload("on").await;
        }
        found
    }

    async fn there_and_back(&self, name: &str, copy: &str, user: &str) -> Result<(), String> {
        let with_user = |database: &str| {
            let mut options = self.cluster.options(database);
            user.clone_into(&mut options.user);
            options
        };
        let mut vault = Vault::new();
        let source = PostgresSource::new(with_user(name));
        let outcome = vault.backup(&source, &std::env::temp_dir()).await;
        outcome.map_err(|e| format!("backup: {}", e.chain()))?;
        let report = restore(with_user(copy), &vault).await?;
        if !report.failed.is_empty() || !report.rows_verified {
            return Err(format!("restore: {:?}", report.failed));
        }
        Ok(())
    }

    async fn compare(&self, name: &str, copy: &str) -> Option<String> {
        let mut answers = Vec::new();
        for database in [name, copy] {
            let mut connection = Connection::open(&self.cluster.options(database)).await.unwrap();
            let mut found = Vec::new();
            connection
                .execute(&settings::sql(Session::Reading, &Context::none()))
                .await
                .unwrap();
            connection
                .execute("SET search_path = public; SET restrict_nonsystem_relation_kind = ''")
                .await
                .unwrap();
            let own = format!(
                "SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = '{database}')"
            );
            for question in QUESTIONS.iter().copied().chain([own.as_str()]) {
                found.push(format!("{:?}", connection.query(question).await.unwrap().rows));
            }
            connection.close().await;
            answers.push(found);
        }
        let pairs = answers[0].iter().zip(&answers[1]);
        let differing: Vec<String> = pairs
            .filter(|(a, b)| a != b)
            .map(|(a, b)| format!("{a}\nis now {b}"))
            .collect();
        (!differing.is_empty()).then(|| differing.join("\n"))
    }

    /// Reloads the configuration and waits until new sessions have it.
    async fn reload(&self, array_nulls: &str) {
        self.cluster.psql_in(
            "postgres",
            Path::new("/"),
            &["-c", "SELECT pg_catalog.pg_reload_conf()"],
        );
        let own = self.cluster.options("postgres");
        loop {
            let mut connection = Connection::open(&own).await.unwrap();
            let value = connection.query("SHOW array_nulls").await.unwrap();
            connection.close().await;
            if value.scalar() == Some(array_nulls) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Returns the smallest groups of settings under which something differs.
    async fn culprits(&self, level: Level, settings: &[Setting]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut groups = vec![settings.to_vec()];
        while let Some(group) = groups.pop() {
            // At the level of the server one setting is watched to see the others arrive.
            let mut tried = group.clone();
            if level == Level::Server && !tried.iter().any(|(name, _)| name == "array_nulls") {
                tried.push(("array_nulls".to_owned(), "off".to_owned()));
            }
            let Some(difference) = self.differences(level, &tried).await else {
                continue;
            };
            if let [(name, _)] = group.as_slice() {
                found.insert(name.clone(), difference);
            } else {
                let (first, second) = group.split_at(group.len() / 2);
                groups.extend([first.to_vec(), second.to_vec()]);
            }
        }
        found
    }
}

async fn restore(target: ConnectOptions, vault: &Vault) -> Result<wirevault::engines::postgres::RestoreReport, String> {
    let restore = PostgresRestore {
        target,
        reader: vault.reader().await,
        options: RestoreOptions {
            verify_rows: true,
            ..RestoreOptions::default()
        },
        reporter: vault.reporter(),
        task: "s".into(),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    restore.run().await.map_err(|e| format!("restore: {}", e.chain()))
}

/// Returns a value that a setting does not have.
fn other_value(row: &[&str]) -> Option<Setting> {
    let [name, kind, setting, min, max, choices] = row else {
        panic!("{row:?}")
    };
    if NOT_TRIED.iter().any(|(known, _)| known == name) || (*kind == "integer" && min == max) {
        return None;
    }
    let value = if let Some((_, value)) = VALUES.iter().find(|(known, _)| known == name) {
        (*value).to_owned()
    } else {
        match *kind {
            "bool" if *setting == "on" => "off".to_owned(),
            "bool" => "on".to_owned(),
            "enum" => {
                let other = choices.split(',').rfind(|choice| choice.trim_matches('"') != *setting);
                // A server that was built without the others has but one.
                format!("'{}'", other?.trim_matches('"'))
            }
            "integer" | "real" if setting != min => (*min).to_owned(),
            "integer" => (min.parse::<i64>().unwrap() + 1).to_string(),
            "real" => format!("{}", min.parse::<f64>().unwrap() + 0.01),
            _ => panic!("name a value of {name} to be tried"),
        }
    };
    Some(((*name).to_owned(), value))
}

/// Runs statements one after another, outside of transactions.
fn run(cluster: &Cluster, database: &str, statements: &[&str]) {
    let list: Vec<&str> = statements.iter().flat_map(|s| ["-c", s]).collect();
    cluster.psql_in(database, Path::new("/"), &list);
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() {
            open_to_all(&entry.path());
        } else {
            std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

/// Tries every setting at one level.
async fn sweep(level: Level) {
    let server = Server::start();
    let mut settings = server.settings();
    assert!(settings.len() > 150, "{}", settings.len());
    if level == Level::Database {
        settings.push(("role".to_owned(), "pg_monitor".to_owned()));
    }
    let found = server.culprits(level, &settings).await;
    assert!(found.is_empty(), "{level:?}: {found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_role_changes_what_comes_back() {
    sweep(Level::Role).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_database_changes_what_comes_back() {
    sweep(Level::Database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_server_changes_what_comes_back() {
    sweep(Level::Server).await;
}

/// Each pin holds against a role that has another value, whatever that is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_stands() {
    let server = Server::start();
    let cluster = &server.cluster;
    let role = cluster.fresh_name();
    cluster.psql(
        "postgres",
        &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'"),
    );
    let others = server.settings();
    let statements: Vec<String> = others
        .iter()
        .map(|(n, v)| format!("ALTER ROLE {role} SET {n} TO {v}"))
        .collect();
    let list: Vec<&str> = statements.iter().flat_map(|s| ["-c", s]).collect();
    cluster.psql_in("postgres", Path::new("/"), &list);
    let mut options = cluster.options("postgres");
    options.user.clone_from(&role);
    for session in [Session::Reading, Session::Writing, Session::Asking] {
        let mut connection = Connection::open(&options).await.unwrap();
        connection
            .execute(&settings::sql(session, &Context::none()))
            .await
            .unwrap();
        let rows = connection
            .query(
                "SELECT name, setting, pg_catalog.current_setting('server_version_num')::int / 10000 FROM pg_settings",
            )
            .await
            .unwrap();
        let text = |row: &Vec<Option<String>>, at: usize| row[at].clone().unwrap_or_default();
        let have: BTreeMap<String, String> = rows.rows.iter().map(|r| (text(r, 0), text(r, 1))).collect();
        let major: u32 = text(&rows.rows[0], 2).parse().unwrap();
        for pin in settings::pins(session, &Context::none()) {
            match have.get(pin.name) {
                Some(value) => {
                    assert_eq!(value, pin.value, "{} of {session:?}", pin.name);
                    assert!(
                        others.iter().any(|(name, _)| name == pin.name),
                        "{} is not tried",
                        pin.name
                    );
                }
                None => assert!(pin.since > major || pin.until < major, "{}", pin.name),
            }
        }
        connection.close().await;
    }
}

/// Bytes that are no UTF-8 come back as they were, and so does what a name of theirs says.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_an_sql_ascii_database_come_back() {
    let cluster = Cluster::shared();
    let (name, copy) = (cluster.fresh_name(), cluster.fresh_name());
    let sql = format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    cluster.psql("postgres", &sql);
    let mut connection = Connection::open(&cluster.options(&name)).await.unwrap();
    connection
        .execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, E'caf\\351'), (2, E'\\377\\376'), (3, 'ok'); CREATE INDEX ON t (v)")
        .await
        .unwrap();
    connection.close().await;
    let mut vault = Vault::new();
    let source = PostgresSource::new(cluster.options(&name));
    vault.backup(&source, &std::env::temp_dir()).await.unwrap();
    let report = restore(cluster.options(&copy), &vault).await.unwrap();
    assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
    let question = "SELECT string_agg(encode(v::bytea, 'escape'), ' ' ORDER BY id) FROM t";
    assert_eq!(cluster.psql(&copy, question).trim(), "caf\\351 \\377\\376 ok");

    // And so they do with psql alone, whatever encoding it would choose by itself.
    let by_hand = cluster.fresh_name();
    cluster.psql("postgres", &sql.replace(&name, &by_hand));
    let directory = tempfile::tempdir().unwrap();
    let store: wirevault::storage::SharedStore = vault.store.clone();
    extract(&store, &vault.archives, directory.path()).await;
    join(directory.path());
    cluster.psql_in(&by_hand, directory.path(), &["-f", "restore.sql"]);
    assert_eq!(cluster.psql(&by_hand, question).trim(), "caf\\351 \\377\\376 ok");
}

/// Who may not turn off what hides damage is told that it is on.
#[tokio::test(flavor = "multi_thread")]
async fn what_hides_damage_and_cannot_be_turned_off_is_named() {
    let cluster = Cluster::shared();
    let (name, role) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(
        "postgres",
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT pg_read_all_data TO {role}; ALTER ROLE {role} SET zero_damaged_pages = on"
        ),
    );
    for (user, told) in [("admin", None), (role.as_str(), Some(&1))] {
        let mut options = cluster.options(&name);
        user.clone_into(&mut options.user);
        let mut vault = Vault::new();
        let outcome = vault
            .backup(&PostgresSource::new(options), &std::env::temp_dir())
            .await
            .unwrap();
        assert_eq!(outcome.note_counts.get("unreadable"), told, "{user}");
        // What may be missing is no "done".
        let program = Program::on_directory();
        let url = format!(
            "postgres://{user}:secret@127.0.0.1:{}/{name}?sslmode=disable",
            cluster.port
        );
        program.expect(told.map_or(0, |_| 2), &["backup", &url]);
    }
}

/// What a check or a materialized view evaluates finds the source's settings, not the restoring role's.
#[tokio::test(flavor = "multi_thread")]
async fn expressions_are_evaluated_as_at_the_source() {
    let cluster = Cluster::shared();
    let (name, copy, role) = (cluster.fresh_name(), cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(
        "postgres",
        &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'"),
    );
    cluster.psql(
        "postgres",
        &format!(
            "ALTER DATABASE {name} SET TimeZone = 'Asia/Kathmandu'; ALTER DATABASE {name} SET DateStyle = 'German'; ALTER DATABASE {name} SET app.tenant = '4711'; \
             ALTER ROLE {role} SET TimeZone = 'America/Lima'; ALTER ROLE {role} SET app.tenant = '1'"
        ),
    );
    cluster.psql(
        &name,
        "CREATE TABLE t (ts timestamptz, day date, tenant text, CHECK (ts::date = day), CHECK (day::text LIKE '__.__.____'), CHECK (tenant = current_setting('app.tenant'))); \
         INSERT INTO t VALUES ('2026-01-01 20:00+00', '2026-01-02', '4711'); CREATE MATERIALIZED VIEW days AS SELECT ts::date AS day, current_setting('TimeZone') AS zone FROM t",
    );
    let mut options = cluster.options(&name);
    options.user.clone_from(&role);
    let mut vault = Vault::new();
    vault
        .backup(&PostgresSource::new(options.clone()), &std::env::temp_dir())
        .await
        .unwrap();
    let report = restore(options.with_database(&copy), &vault).await.unwrap();
    assert!(report.failed.is_empty() && report.rows_verified, "{report:?}");
    let days = cluster.psql(
        &copy,
        "SELECT day - date '2026-01-01', zone, (SELECT count(*) FROM t) FROM days",
    );
    assert_eq!(days.trim(), "1|Asia/Kathmandu|1");
}
