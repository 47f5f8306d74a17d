//! The settings of every session of ours, in one table: whoever reads, restores, compares or only asks has them from here, and so
//! has psql by `restore.sql`.
//!
//! A setting can be given a value for a role, a database or the whole server, and then holds for our sessions too. What the text
//! of rows and definitions depends on is pinned to one value on the way out and on the way back. What only expressions look at
//! while a restore evaluates them (a check that casts to `date`, a materialized view that cuts days) keeps the source's value: see
//! [`Context`].

use super::connection::Connection;
use super::sessions::open_patiently;
use super::url::ConnectOptions;
use crate::base::error::{Context as _, Error, Result};
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::with_names;
use crate::engines::postgres::wire::server_error::sqlstate;

const CONTEXT: &str = include_str!("sql/context.sql");
const SETTING_IN_FILES: &str = include_str!("sql/setting_in_files.sql");
const PIN: &str = include_str!("sql/pin.sql");

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Reads definitions and rows: for a backup, or to compare what was restored.
    Reading,
    /// Restores.
    Writing,
    /// Looks at a server, makes and renames databases.
    Asking,
}

/// One pinned setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Name, as `pg_settings` has it.
    pub name: &'static str,
    /// Value, as `pg_settings` shows it.
    pub value: &'static str,
    /// First major version that has it; a server that lacks it is not told of it.
    pub since: u32,
    /// Last major version that has it.
    pub until: u32,
    /// Who pins it.
    pub who: Who,
    /// Whether the text of stored rows depends on it: such values stand in the record of each table.
    pub rows: bool,
}

/// Sessions that pin a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// All.
    All,
    /// Those that read.
    Reading,
    /// Those that restore.
    Writing,
    /// Those that restore, unless the backup says what the source had.
    WritingUnlessKnown,
}

impl Pin {
    /// Returns whether sessions of this kind pin it.
    pub fn is_for(&self, session: Session) -> bool {
        match self.who {
            Who::All => true,
            Who::Reading => session == Session::Reading,
            Who::Writing | Who::WritingUnlessKnown => session == Session::Writing,
        }
    }
}

const fn pin(name: &'static str, value: &'static str, since: u32, who: Who) -> Pin {
    Pin {
        name,
        value,
        since,
        until: u32::MAX,
        who,
        rows: false,
    }
}

/// As [`pin`], of a setting that the text of rows depends on.
const fn row_pin(name: &'static str, value: &'static str, who: Who) -> Pin {
    Pin {
        rows: true,
        ..pin(name, value, 13, who)
    }
}

/// The oldest supported major version.
const ALWAYS: u32 = 13;

/// Name of the setting whose value depends on the database: see [`encoding`].
const CLIENT_ENCODING: &str = "client_encoding";

/// Every setting that is pinned. For the value of [`CLIENT_ENCODING`] see [`encoding`].
///
/// `pg_dump` and `pg_restore` pin: `setup_connection` in `pg_dump.c`, `_doSetFixedOutputState` in `pg_backup_archiver.c`.
pub const PINS: &[Pin] = &[
    // Nothing ends a session of ours but we.
    pin("statement_timeout", "0", ALWAYS, Who::All),
    pin("lock_timeout", "0", ALWAYS, Who::All),
    pin("idle_in_transaction_session_timeout", "0", ALWAYS, Who::All),
    pin("idle_session_timeout", "0", 14, Who::All),
    pin("transaction_timeout", "0", 17, Who::All),
    pin("exit_on_error", "off", ALWAYS, Who::All),
    pin("default_transaction_isolation", "read committed", ALWAYS, Who::All),
    pin("default_transaction_read_only", "off", ALWAYS, Who::All),
    pin("default_transaction_deferrable", "off", ALWAYS, Who::All),
    pin("client_min_messages", "warning", ALWAYS, Who::All),
    // A small limit ends sorts, so neither large catalogs can be read nor indexes built.
    pin("temp_file_limit", "-1", ALWAYS, Who::All),
    // How text is read: names, literals, NULL in arrays, `x = NULL` in a stored check.
    row_pin("search_path", "", Who::All),
    row_pin(CLIENT_ENCODING, "UTF8", Who::All),
    pin("standard_conforming_strings", "on", ALWAYS, Who::All),
    pin("array_nulls", "on", ALWAYS, Who::All),
    pin("transform_null_equals", "off", ALWAYS, Who::All),
    pin("xmloption", "content", ALWAYS, Who::All),
    // The text of an amount of money has the decimal mark of this locale, and means another amount in the next.
    row_pin(LC_MONETARY, "C", Who::All),
    // An error instead of rows that are silently left out; damaged pages likewise.
    pin("row_security", "off", ALWAYS, Who::All),
    pin("zero_damaged_pages", "off", ALWAYS, Who::All),
    pin("ignore_checksum_failure", "off", ALWAYS, Who::All),
    // For tests of the server: functions that call themselves safe run where they are not.
    Pin {
        until: 15,
        ..pin("force_parallel_mode", "off", ALWAYS, Who::All)
    },
    pin("debug_parallel_query", "off", 16, Who::All),
    // How values are printed.
    row_pin("DateStyle", "ISO, YMD", Who::Reading),
    row_pin("IntervalStyle", "postgres", Who::Reading),
    row_pin("TimeZone", "UTC", Who::Reading),
    row_pin("extra_float_digits", "3", Who::Reading),
    row_pin("bytea_output", "hex", Who::Reading),
    // A name may be a keyword elsewhere.
    row_pin("quote_all_identifiers", "on", Who::Reading),
    // Rows come in the order in which they lie, so that a part that is read again is the same.
    pin("synchronize_seqscans", "off", ALWAYS, Who::Reading),
    pin(
        "restrict_nonsystem_relation_kind",
        "view,foreign-table",
        ALWAYS,
        Who::Reading,
    ),
    // What is made is made as it is written, not as the role would have it.
    pin("check_function_bodies", "off", ALWAYS, Who::Writing),
    pin("default_tablespace", "", ALWAYS, Who::Writing),
    pin("default_table_access_method", "heap", ALWAYS, Who::Writing),
    pin("session_replication_role", "origin", ALWAYS, Who::Writing),
    pin("gin_fuzzy_search_limit", "0", ALWAYS, Who::Writing),
    pin("createrole_self_grant", "", 16, Who::Writing),
    // A restore that is cut off is begun again, so no commit of it need be waited for.
    pin("synchronous_commit", "off", ALWAYS, Who::Writing),
    // Text in the pinned form is read right under any value of these: only expressions look at them.
    pin("DateStyle", "ISO, YMD", ALWAYS, Who::WritingUnlessKnown),
    pin("IntervalStyle", "postgres", ALWAYS, Who::WritingUnlessKnown),
    pin("TimeZone", "UTC", ALWAYS, Who::WritingUnlessKnown),
    pin("extra_float_digits", "3", ALWAYS, Who::WritingUnlessKnown),
    pin("bytea_output", "hex", ALWAYS, Who::WritingUnlessKnown),
    pin("quote_all_identifiers", "off", ALWAYS, Who::WritingUnlessKnown),
    pin("xmlbinary", "base64", ALWAYS, Who::WritingUnlessKnown),
    pin("default_toast_compression", "pglz", 14, Who::WritingUnlessKnown),
];

/// Its value was not pinned by older versions of this program.
const LC_MONETARY: &str = "lc_monetary";

/// Settings of which a backup keeps what the source's sessions had: expressions look at them, pinned text does not.
const EVALUATED: [&str; 12] = [
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "bytea_output",
    "default_text_search_config",
    "default_toast_compression",
    "extra_float_digits",
    "lc_numeric",
    "lc_time",
    "quote_all_identifiers",
    "timezone_abbreviations",
    "xmlbinary",
];

/// What expressions of the source found: settings that a restore's sessions take over, as far as the target knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Context {
    /// Name and value. Only what holds for every role: built in, of the server, or of the database.
    #[serde(default)]
    pub settings: Vec<(String, String)>,
    /// `lc_monetary` of the sessions that read the rows. None in backups of older versions of this program: the source's own,
    /// which they do not say.
    #[serde(default)]
    pub lc_monetary: Option<String>,
    /// `client_encoding` of the sessions that read rows and definitions: the encoding of the source's database. [`OF_SERVER`] where there
    /// is no backup to follow. None in backups of older versions of this program: UTF8, or `SQL_ASCII` of such a database.
    #[serde(default)]
    pub client_encoding: Option<String>,
}

/// Stands for the encoding of whatever database a session is in.
const OF_SERVER: &str = "";

/// The encodings that a database may have, as `pg_encoding_to_char` names them.
///
/// Others exist for clients alone (SJIS, BIG5, GBK, GB18030, …). There a byte of ASCII may be the second half of a character, so the
/// server would end strings elsewhere than [`crate::engines::postgres::sql::lexer`] does.
const OF_DATABASES: &[&str] = &[
    "SQL_ASCII",
    "UTF8",
    "MULE_INTERNAL",
    "EUC_JP",
    "EUC_CN",
    "EUC_KR",
    "EUC_TW",
    "EUC_JIS_2004",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "WIN866",
    "WIN874",
    "WIN1250",
    "WIN1251",
    "WIN1252",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1256",
    "WIN1257",
    "WIN1258",
    "KOI8R",
    "KOI8U",
];

/// Returns whether a database may have this encoding: every byte below 0x80 is ASCII there, wherever it stands.
pub(crate) fn is_of_databases(encoding: &str) -> bool {
    OF_DATABASES.contains(&encoding)
}

impl Context {
    /// Returns the context of sessions that have no backup to follow.
    pub fn none() -> Self {
        Self {
            settings: Vec::new(),
            lc_monetary: Some(pinned(LC_MONETARY).to_owned()),
            client_encoding: Some(OF_SERVER.to_owned()),
        }
    }

    /// Returns the settings that a restore takes over. A backup may say anything, so only those that are read are.
    fn evaluated(&self) -> impl Iterator<Item = &(String, String)> {
        let listed = |name: &str| EVALUATED.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.settings
            .iter()
            .filter(move |(name, _)| listed(name) || name.contains('.'))
    }

    /// Checks what a backup says of its encoding, and completes it where an older version of this program did not say it; `database` is the
    /// encoding of the source's database, empty if that is not known either.
    pub(crate) fn check_encoding(&mut self, database: &str) -> Result<()> {
        match self.client_encoding.as_deref() {
            None if database.is_empty() => {}
            None => {
                let read_in = if database == "SQL_ASCII" {
                    database
                } else {
                    pinned(CLIENT_ENCODING)
                };
                self.client_encoding = Some(read_in.to_owned());
            }
            Some(said) if said == OF_SERVER || is_of_databases(said) => {}
            Some(said) => {
                let message = format!("the backup is in the encoding \"{said}\", which no database can have");
                return Err(Error::corrupt(message));
            }
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        self.evaluated().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

fn pinned(name: &str) -> &'static str {
    PINS.iter().find(|p| p.name == name).map_or("", |p| p.value)
}

/// Returns the pins of a session, in the order in which they are set.
pub fn pins(session: Session, context: &Context) -> impl Iterator<Item = &'static Pin> {
    PINS.iter().filter(move |p| {
        let old_money = p.name == LC_MONETARY && context.lc_monetary.is_none();
        let known = p.who == Who::WritingUnlessKnown && context.knows(p.name);
        p.is_for(session) && !old_money && !known
    })
}

/// Returns the statements that pin a session's settings: one transaction, so they stand outside of any other.
///
/// Limits and the path come first, because the statements after them are under their old values too (the list of all settings is
/// more than the least `work_mem`, and a `temp_file_limit` of nothing would end it). What only a superuser may
/// set is set by a superuser, and what a server does not know is not mentioned to it.
pub fn sql(session: Session, context: &Context) -> String {
    let values: Vec<String> = pins(session, context)
        .map(|p| {
            let value = match p.name {
                CLIENT_ENCODING => encoding(session, context),
                LC_MONETARY => literal(context.lc_monetary.as_deref().unwrap_or(p.value)),
                _ => literal(p.value),
            };
            format!("({}, {value})", literal(p.name))
        })
        .collect();
    with_names(PIN, &[("values", &values.join(",\n    "))])
}

/// Returns the expression of the `client_encoding` of a session.
///
/// Whoever reads a database does so in its own encoding, as `pg_dump` does: some of what a server holds has no equivalent in UTF8.
/// A restore says in which encoding the backup is, and the server converts where the target's is another one. Whoever only asks has names
/// in UTF8; bytes of an `SQL_ASCII` database have no encoding to convert from, and MULE_INTERNAL has no conversion. An encoding that
/// no database has is never set, whatever a backup says.
fn encoding(session: Session, context: &Context) -> String {
    let own = "pg_catalog.current_setting('server_encoding')";
    match (session, context.client_encoding.as_deref()) {
        (Session::Reading, Some(OF_SERVER)) => own.to_owned(),
        (Session::Reading | Session::Writing, Some(encoding)) if is_of_databases(encoding) => literal(encoding),
        // A backup that does not say it is never in MULE_INTERNAL.
        (Session::Writing, None) => {
            format!(
                "CASE WHEN {own} = 'SQL_ASCII' THEN {own} ELSE {} END",
                literal(pinned(CLIENT_ENCODING))
            )
        }
        _ => format!(
            "CASE WHEN {own} IN ('SQL_ASCII', 'MULE_INTERNAL') THEN {own} ELSE {} END",
            literal(pinned(CLIENT_ENCODING))
        ),
    }
}

/// Returns the statements that give a restore's session what the source's expressions found, one each: a target may lack a locale,
/// or what an extension would know.
pub fn context_sql(context: &Context) -> Vec<String> {
    let set = |(name, value): &(String, String)| {
        format!(
            "SELECT pg_catalog.set_config({}, {}, false);\n",
            literal(name),
            literal(value)
        )
    };
    context.evaluated().map(set).collect()
}

/// Returns the values that the text of stored rows rests on; `encoding` is the database's.
pub(crate) fn row_settings(encoding: &str) -> serde_json::Value {
    let pairs = PINS.iter().filter(|p| p.rows);
    let value = |p: &Pin| if p.name == CLIENT_ENCODING { encoding } else { p.value }.to_owned();
    let pairs = pairs.map(|p| (p.name.to_owned(), serde_json::Value::from(value(p))));
    serde_json::Value::Object(pairs.collect())
}

/// Whether the role may read the server's configuration files.
pub(crate) const FILES_READABLE_SQL: &str = include_str!("sql/files_readable.sql");

/// Returns the query of what the source's expressions find, as a JSON array of name and value.
///
/// The values that a session began with (`reset_val`) are asked for. What the role of the backup has for itself alone is none of
/// the database's.
///
/// Where the role has a value for itself, and the database has none, the server's stands in its files; only some roles may look there
/// ([`FILES_READABLE_SQL`]). Else it stays unknown.
pub(crate) fn context_query(files: bool) -> String {
    let names: Vec<String> = EVALUATED.iter().map(|name| literal(name)).collect();
    let otherwise = if files { SETTING_IN_FILES } else { "NULL" };
    with_names(CONTEXT, &[("names", &names.join(", ")), ("otherwise", otherwise)])
}

/// Opens a connection and pins its settings.
pub(crate) async fn open(options: &ConnectOptions, session: Session) -> Result<Connection> {
    let mut connection = open_patiently(options).await?;
    set(&mut connection, session, &options.context)
        .await
        .context("set up the session")?;
    Ok(connection)
}

/// Has a session that asks read names, and statements of others, in the database's own encoding: one that has no equivalent in UTF8 would
/// be an error.
pub(crate) async fn in_own_encoding(connection: &mut Connection) -> Result<()> {
    let sql = "SELECT pg_catalog.set_config('client_encoding', pg_catalog.current_setting('server_encoding'), false)";
    connection.execute(sql).await
}

/// As [`open`], for a session that asks, and whose names and comments are those that the server stores.
///
/// A session is opened on a database by the bytes of its name, which are those that the user gives. So statements have to name
/// it by the same bytes, whatever the encoding of the database that they run in.
pub(crate) async fn open_as_stored(options: &ConnectOptions) -> Result<Connection> {
    let mut connection = open(options, Session::Asking).await?;
    in_own_encoding(&mut connection).await?;
    Ok(connection)
}

/// Attempts at pinning where a limit of a millisecond ends the very statement that lifts it.
const ATTEMPTS: u32 = 20;

/// Pins the settings of a connection that is in no transaction.
pub(crate) async fn set(connection: &mut Connection, session: Session, context: &Context) -> Result<()> {
    let sql = sql(session, context);
    let mut attempt = 1;
    while let Err(error) = connection.execute(&sql).await {
        // The transaction that was ended may be open still.
        if !matches!(sqlstate(&error), Some("57014" | "25P02")) || attempt == ATTEMPTS || connection.is_dead() {
            return Err(error);
        }
        let _ = connection.execute("ROLLBACK").await;
        attempt += 1;
    }
    let statements = context_sql(context);
    if session != Session::Writing || statements.is_empty() {
        return Ok(());
    }
    match connection.execute(&statements.concat()).await {
        Ok(()) => return Ok(()),
        Err(error) if connection.is_dead() => return Err(error),
        Err(_) => {}
    }
    for (statement, (name, _)) in statements.iter().zip(context.evaluated()) {
        if let Err(error) = connection.execute(statement).await {
            if connection.is_dead() {
                return Err(error);
            }
            tracing::debug!("the source's {name} is not known here: {}", error.chain());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_session_has_one_value_of_each_setting() {
        let known = Context {
            settings: vec![("timezone".into(), "Asia/Kathmandu".into())],
            ..Context::none()
        };
        for (session, context) in [
            (Session::Reading, Context::none()),
            (Session::Writing, Context::none()),
            (Session::Writing, known),
            (Session::Asking, Context::none()),
        ] {
            let mut names: Vec<&str> = pins(session, &context).map(|p| p.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{session:?}");
            let zone = session == Session::Reading || (session == Session::Writing && !context.knows("TimeZone"));
            assert_eq!(names.contains(&"TimeZone"), zone, "{session:?}");
        }
    }

    #[test]
    fn a_backup_is_only_in_an_encoding_that_a_database_can_have() {
        let said = |encoding: Option<&str>| Context {
            client_encoding: encoding.map(str::to_owned),
            ..Context::default()
        };
        for forged in [
            "SJIS",
            "sjis",
            "SHIFT_JIS_2004",
            "BIG5",
            "GBK",
            "UHC",
            "GB18030",
            "JOHAB",
            "utf8",
            "UTF8'x",
        ] {
            assert!(said(Some(forged)).check_encoding("UTF8").is_err(), "{forged}");
            for session in [Session::Reading, Session::Writing] {
                assert!(!sql(session, &said(Some(forged))).contains(forged), "{forged}");
            }
        }
        for own in OF_DATABASES {
            said(Some(own)).check_encoding("UTF8").unwrap();
            assert!(sql(Session::Writing, &said(Some(own))).contains(&format!("('client_encoding', '{own}')")));
        }
        for (database, read_in) in [("SQL_ASCII", Some("SQL_ASCII")), ("LATIN1", Some("UTF8")), ("", None)] {
            let mut old = said(None);
            old.check_encoding(database).unwrap();
            assert_eq!(old.client_encoding.as_deref(), read_in, "{database}");
        }
        assert!(!sql(Session::Writing, &said(None)).contains("MULE"));
    }

    #[test]
    fn money_of_an_older_backup_is_read_as_it_was_written() {
        let old: Context = serde_json::from_str("{}").unwrap();
        assert!(!sql(Session::Writing, &old).contains("lc_monetary"));
        assert!(sql(Session::Writing, &Context::none()).contains("('lc_monetary', 'C')"));
    }
}
