//! Connection strings as libpq reads them: URLs, and `keyword=value` strings. No file is read and nothing is connected here.
//!
//! One table, [`PARAMETERS`], says of each parameter which variable stands for it, whether it is a secret, whether its value may be
//! printed, and whether it counts where only a manifest says it. So what is read, what is stored, what is shown and what a
//! stranger may ask for cannot drift apart.
//!
//! Specification: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::base::error::{Error, Result};
use crate::base::exact;

/// What may happen to the value of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// It is stored in plans and printed.
    Plain,
    /// It is stored, and not printed: it may hold anything.
    Hidden,
    /// It is neither stored nor printed.
    Secret,
}

/// A parameter of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    /// Its keyword.
    pub(crate) name: &'static str,
    /// The variable that stands for it where a connection string does not say it; empty if there is none.
    pub(crate) variable: &'static str,
    /// What may happen to its value.
    pub(crate) value: Value,
    /// Whether it counts in a URL that nobody on this host wrote. Not if it names a file of this host, sends what belongs to
    /// another server, changes where a name leads, or what our sessions run.
    pub(crate) foreign: bool,
}

const fn own(name: &'static str, variable: &'static str) -> Parameter {
    Parameter {
        name,
        variable,
        value: Value::Plain,
        foreign: false,
    }
}

const fn any(name: &'static str, variable: &'static str) -> Parameter {
    Parameter {
        foreign: true,
        ..own(name, variable)
    }
}

const fn secret(name: &'static str, variable: &'static str) -> Parameter {
    Parameter {
        value: Value::Secret,
        ..own(name, variable)
    }
}

/// Every parameter that is known, of libpq 13 to 18 and of our own.
pub(crate) const PARAMETERS: &[Parameter] = &[
    any("host", "PGHOST"),
    own("hostaddr", "PGHOSTADDR"),
    any("port", "PGPORT"),
    any("user", "PGUSER"),
    any("dbname", "PGDATABASE"),
    secret("password", "PGPASSWORD"),
    own("password_file", ""),
    own("passfile", "PGPASSFILE"),
    own("service", "PGSERVICE"),
    own("servicefile", "PGSERVICEFILE"),
    any("require_auth", "PGREQUIREAUTH"),
    any("channel_binding", "PGCHANNELBINDING"),
    own("allow_cleartext_password", ""),
    Parameter {
        value: Value::Hidden,
        ..own("options", "PGOPTIONS")
    },
    any("application_name", "PGAPPNAME"),
    any("fallback_application_name", ""),
    any("connect_timeout", "PGCONNECT_TIMEOUT"),
    any("read_timeout", ""),
    any("client_encoding", ""),
    any("keepalives", ""),
    any("keepalives_idle", ""),
    any("keepalives_interval", ""),
    any("keepalives_count", ""),
    any("tcp_user_timeout", ""),
    any("sslmode", "PGSSLMODE"),
    any("sslnegotiation", "PGSSLNEGOTIATION"),
    any("sslcompression", ""),
    own("sslcert", "PGSSLCERT"),
    own("sslkey", "PGSSLKEY"),
    secret("sslpassword", ""),
    own("sslcertmode", "PGSSLCERTMODE"),
    own("sslrootcert", "PGSSLROOTCERT"),
    own("sslcrl", "PGSSLCRL"),
    own("sslcrldir", "PGSSLCRLDIR"),
    any("sslsni", "PGSSLSNI"),
    any("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    any("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    any("min_protocol_version", "PGMINPROTOCOLVERSION"),
    any("max_protocol_version", "PGMAXPROTOCOLVERSION"),
    any("gssencmode", "PGGSSENCMODE"),
    any("krbsrvname", ""),
    any("gsslib", ""),
    any("gssdelegation", ""),
    any("target_session_attrs", "PGTARGETSESSIONATTRS"),
    any("load_balance_hosts", "PGLOADBALANCEHOSTS"),
];

/// Parameters that libpq knows and this program does not, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("replication", "A backup uses COPY on an ordinary session; remove it."),
    (
        "requirepeer",
        "The owner of a socket is not checked; remove it, and restrict the permissions of the socket's directory.",
    ),
    ("scram_client_key", "Give the password instead."),
    ("scram_server_key", "Give the password instead."),
    ("oauth_issuer", OAUTH),
    ("oauth_client_id", OAUTH),
    ("oauth_client_secret", OAUTH),
    ("oauth_scope", OAUTH),
    ("sslkeylogfile", "Session keys are not logged; remove it."),
    ("requiressl", "Write sslmode=require, or better sslmode=verify-full."),
];

const OAUTH: &str = "Log in by password or certificate.";

/// Parameters that stand in URLs for other programs (Prisma, SQLAlchemy, panels of hosting companies): no libpq knows them.
const STRANGE: &[&str] = &[
    "schema",
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "socket_timeout",
    "statement_cache_size",
    "prepared_statements",
    "prepare_threshold",
    "sslaccept",
    "sslidentity",
    "supa",
    "uselibpqcompat",
    "currentSchema",
    "serverVersion",
    "charset",
    "pool_size",
    "pool_mode",
];

/// Returns a parameter by its keyword.
pub(crate) fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|known| known.name == name)
}

/// The parameters of one connection string, each with its last value; empty ones are as if they were not there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<&'static str, String>);

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// What an error calls a connection string, for its text may hold a password.
const HINT: &str = "Write postgres://user@host:port/database, with special characters percent-encoded, or \"host=… \
                    user=… dbname=…\", with values that contain spaces in single quotes; put the password into \
                    PGPASSWORD or ~/.pgpass.";

fn wrong(why: &str) -> Error {
    Error::invalid(format!("unable to read the connection string: {why}")).with_hint(HINT)
}

/// Returns whether a text begins as the URL of a PostgreSQL server does.
fn is_url(text: &str) -> bool {
    strip_scheme(text.trim()).is_some()
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let known = ["postgres", "postgresql"];
    known.iter().any(|one| scheme.eq_ignore_ascii_case(one)).then_some(rest)
}

/// Returns whether a text is a connection string of keywords: it begins with `word =`, and one of its keywords is known.
pub(crate) fn is_keywords(text: &str) -> bool {
    let text = text.trim_start();
    let word = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    let begins = word > 0 && text.get(word..).is_some_and(|rest| rest.trim_start().starts_with('='));
    let is_known = |(name, _): &(String, String)| parameter(name).is_some();
    begins && tokens(text).0.iter().any(is_known)
}

/// Returns whether a text is the connection string of a PostgreSQL server.
pub fn is_connection_string(text: &str) -> bool {
    is_url(text) || is_keywords(text)
}

impl Params {
    /// Reads a connection string of either form.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        match strip_scheme(text) {
            Some(rest) => Self::from_url(rest),
            None if is_keywords(text) => Self::from_keywords(text),
            None => match text.split_once(':') {
                Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
                    Err(Error::invalid(format!(
                        "\"{scheme}\" is not a PostgreSQL URL scheme, or // is missing after it"
                    ))
                    .with_hint("Write postgres://user@host:port/database."))
                }
                _ => Err(wrong("it is neither a URL nor a list of keywords")),
            },
        }
    }

    fn from_keywords(text: &str) -> Result<Self> {
        let (pairs, failure) = tokens(text);
        if let Some(why) = failure {
            return Err(wrong(&why));
        }
        let mut params = Self::default();
        for (at, (name, value)) in pairs.into_iter().enumerate() {
            // A password with a blank that is not quoted would go on as keywords: such a word is not repeated.
            if !is_meant(&name) {
                let message = format!("unknown keyword {} in the connection string", at + 1);
                return Err(Error::invalid(message).with_hint("Put values with spaces into single quotes."));
            }
            let is_plain = parameter(&name).is_some_and(|known| known.value == Value::Plain);
            if is_plain && value.contains(';') && password_sign(&value).is_some() {
                return Err(wrong("keywords are separated by spaces, not by \";\""));
            }
            if is_plain && value.contains("://") && value.contains('@') {
                return Err(wrong("the value of a keyword is a URL, which must be used on its own"));
            }
            params.set(&name, value)?;
        }
        Ok(params)
    }

    /// Reads what follows the scheme. As libpq, but the user's part ends at the last `@` before the path.
    fn from_url(rest: &str) -> Result<Self> {
        if rest.contains('#') {
            return Err(wrong(ENCODE));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            return Err(wrong(ENCODE));
        }
        if path.contains(';') && password_sign(path).is_some() {
            return Err(wrong(
                "parameters follow \"?\" and are separated by \"&\", not by \";\"",
            ));
        }
        let mut params = Self::default();
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (login, hosts),
            None => ("", authority),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        params.set("user", decode(user, "the user")?)?;
        params.set("password", decode(password, "the password")?)?;
        let (hosts, ports) = places(hosts)?;
        params.set("host", hosts)?;
        params.set("port", ports)?;
        params.set("dbname", decode(path.trim_start_matches('/'), "the database")?)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(wrong("a parameter of it has no \"=\""));
            };
            if name.contains('@') {
                return Err(wrong(ENCODE));
            }
            let name = decode(name, "a parameter")?;
            params.set(&name, decode(value, "a parameter")?)?;
        }
        Ok(params)
    }

    /// Returns a value that is given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns whether a value is given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes a value out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Sets a parameter; a value that is empty says nothing.
    pub fn set(&mut self, name: &str, value: String) -> Result<()> {
        let (name, value) = match (name, value.as_str()) {
            // As libpq, for URLs of JDBC.
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            _ => (name, value),
        };
        if name == "replication" && matches!(value.as_str(), "" | "false" | "off" | "no" | "0") {
            return Ok(());
        }
        let Some(known) = parameter(name) else {
            return Err(unknown(name).unwrap_or_else(|| {
                Error::invalid(format!("unknown parameter \"{name}\" in the connection string")).with_hint(
                    near(name).map_or_else(
                        || "Parameters are those of libpq, with password_file and read_timeout.".to_owned(),
                        |near| format!("Did you mean \"{near}\"?"),
                    ),
                )
            }));
        };
        if name == "client_encoding" {
            // Sessions set it themselves: a backup reads in the database's own encoding, whatever is asked for.
            let plain = value.replace(['-', '_'], "").to_ascii_lowercase();
            if !matches!(plain.as_str(), "" | "utf8" | "unicode" | "auto") {
                return Err(
                    Error::unsupported(format!("client_encoding \"{value}\" is not possible")).with_hint(
                        "A database is read in its own encoding, which can represent all of its text; remove \
                         client_encoding.",
                    ),
                );
            }
        }
        // A string of another form, `host=db;password=…`, is one value: it would be stored and printed as a name.
        if name == "host" && !is_host_list(&value) {
            return Err(wrong(
                "the host contains a character that no host name has (a blank, a quote, \";\", \"=\" or \"@\")",
            ));
        }
        if value.contains('\0') {
            return Err(Error::invalid(format!("the value of \"{name}\" holds a NUL character")));
        }
        if value.is_empty() {
            return Ok(());
        }
        self.0.insert(known.name, value);
        Ok(())
    }

    /// Fills what is not given from another list.
    pub(crate) fn fill(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.0.entry(name).or_insert_with(|| value.clone());
        }
    }

    /// Keeps what counts in a connection string that nobody on this host wrote, and a password that somebody put into it.
    /// Returns whether that says where the server is: a service and addresses are left out, and the defaults, which would
    /// stand in for them, are another place.
    #[must_use]
    pub(crate) fn keep_foreign(&mut self) -> bool {
        let system = self.get("sslrootcert") == Some("system");
        let names_all = |hosts: &str| hosts.split(',').all(|host| !host.trim().is_empty());
        let has_place = match self.get("host") {
            None => !self.has("service") && !self.has("hostaddr"),
            Some(hosts) => !self.has("hostaddr") || names_all(hosts),
        };
        self.0
            .retain(|name, _| *name == "password" || parameter(name).is_some_and(|known| known.foreign));
        if system {
            // That is no file.
            self.0.insert("sslrootcert", "system".to_owned());
        }
        has_place
    }

    /// Takes out what is never stored.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut kept = self.clone();
        kept.0
            .retain(|name, _| parameter(name).is_some_and(|known| known.value != Value::Secret));
        kept
    }

    /// Returns the one form that every reader of URLs understands: user, host and port before the path where there is one host
    /// with a name, everything else as parameters.
    pub fn to_url(&self) -> String {
        let mut rest = self.0.clone();
        let mut url = "postgres://".to_owned();
        let plain = |host: &&String| {
            !host.contains([',', '/', '@', '%'])
                && !host.starts_with('.')
                && !host.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        let single = |port: &String| !port.is_empty() && port.parse::<u16>().is_ok();
        let one = self.0.get("host").filter(plain).filter(|_| !self.has("hostaddr"));
        if let Some(host) = one
            && self.0.get("port").is_none_or(single)
        {
            if let Some(user) = rest.remove("user") {
                url.push_str(&encode(&user));
                if let Some(password) = rest.remove("password") {
                    url.push_str(&format!(":{}", encode(&password)));
                }
                url.push('@');
            }
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                encode(host)
            };
            url.push_str(&host);
            if let Some(port) = rest.remove("port") {
                url.push_str(&format!(":{port}"));
            }
            rest.remove("host");
        }
        if let Some(database) = rest.remove("dbname") {
            url.push_str(&format!("/{}", encode(&database)));
        } else if !rest.is_empty() {
            url.push('/');
        }
        for (at, (name, value)) in rest.iter().enumerate() {
            let value = utf8_percent_encode(value, PARAMETER_ENCODE);
            url.push_str(&format!("{}{name}={value}", if at == 0 { '?' } else { '&' }));
        }
        url
    }

    /// Returns the same for people: values that are secrets, or may be, are left out.
    pub fn redacted(&self) -> String {
        let mut shown = self.clone();
        shown
            .0
            .retain(|name, _| parameter(name).is_some_and(|known| known.value == Value::Plain));
        shown.to_url()
    }
}

const ENCODE: &str = "write /, ?, # and @ in a password or name as %2F, %3F, %23 and %40";

/// What stays as it is between `://` and `?`.
const NAME_ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stays as it is in the value of a parameter.
const PARAMETER_ENCODE: &AsciiSet = &NAME_ENCODE
    .remove(b'/')
    .remove(b':')
    .remove(b',')
    .remove(b'*')
    .remove(b'!');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NAME_ENCODE).to_string()
}

fn decode(text: &str, what: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| wrong(&format!("{what} is not UTF-8")))
}

/// Reads `host:port,[address]:port,…` into the lists of hosts and of ports.
fn places(text: &str) -> Result<(String, String)> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for place in text.split(',') {
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest
                    .split_once(']')
                    .ok_or_else(|| wrong("an IPv6 address has no \"]\""))?;
                let port = after.strip_prefix(':').or_else(|| after.is_empty().then_some(""));
                (
                    host,
                    port.ok_or_else(|| wrong("unexpected text between \"]\" and the port"))?,
                )
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        // What stands here may be a password that was not encoded: it is not repeated.
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong("a port is not a number"));
        }
        hosts.push(decode(host, "the host")?);
        ports.push(port);
    }
    let given = |list: &[&str]| list.iter().any(|one| !one.is_empty());
    let port_list = if given(&ports) { ports.join(",") } else { String::new() };
    let host_list = match hosts.as_slice() {
        [one] => one.clone(),
        several => several.join(","),
    };
    Ok((host_list, port_list))
}

/// Splits `keyword = value` pairs as libpq does; says what is wrong where it ends early. The pairs until then are returned, too.
fn tokens(text: &str) -> (Vec<(String, String)>, Option<String>) {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return (pairs, None);
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next_if_eq(&'=').is_none() {
            return (
                pairs,
                Some("a keyword has no \"=\", or a value with a blank is not quoted".to_owned()),
            );
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        let mut closed = true;
        if chars.next_if_eq(&'\'').is_some() {
            closed = false;
            while let Some(c) = chars.next() {
                match c {
                    '\'' => {
                        closed = true;
                        break;
                    }
                    '\\' => value.extend(chars.next()),
                    other => value.push(other),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                match c {
                    '\\' => value.extend(chars.next()),
                    other => value.push(other),
                }
            }
        }
        pairs.push((name, value));
        if !closed {
            return (pairs, Some("a quoted value has no end".to_owned()));
        }
    }
}

/// Returns the pairs of a connection string of keywords, as far as they can be read.
pub(crate) fn lenient_pairs(text: &str) -> Vec<(String, String)> {
    tokens(text).0
}

/// Returns whether a value is a list of hosts.
pub(crate) fn is_host_list(value: &str) -> bool {
    value.split(',').all(is_host)
}

/// Returns whether an item of the list of hosts can be a name, an address or the directory of a socket.
fn is_host(item: &str) -> bool {
    let item = item.trim();
    if item.starts_with('/') {
        return password_sign(item).is_none();
    }
    !item.contains(|c: char| c.is_whitespace() || ";=@\"'`".contains(c))
}

/// Returns where the `=` after a word like `password` stands, in a text of whatever form.
pub(crate) fn password_sign(text: &str) -> Option<usize> {
    let is_password = |at: &usize| {
        let before = exact::text(text, ..*at, "a sign was found there").trim_end();
        let word = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next();
        let word = word.unwrap_or_default().to_lowercase();
        ["pass", "pwd"].iter().any(|part| word.contains(part))
            || (word.len() > 3 && crate::base::nearest::nearest(&word, ["password", "sslpassword"]).is_some())
    };
    text.match_indices('=').map(|(at, _)| at).find(is_password)
}

/// Returns whether a name is that of a parameter, of this program's or another's, or near enough to be meant as one.
pub(crate) fn is_meant(name: &str) -> bool {
    parameter(name).is_some() || near(name).is_some() || is_told(name)
}

fn is_told(name: &str) -> bool {
    STRANGE.contains(&name) || REFUSED.iter().any(|(refused, _)| *refused == name)
}

/// The error for a parameter that is known, but not to be had here.
fn unknown(name: &str) -> Option<Error> {
    if STRANGE.contains(&name) {
        return Some(
            Error::invalid(format!("\"{name}\" is not a libpq parameter"))
                .with_hint("It belongs to another program: remove it from the connection string."),
        );
    }
    let (_, why) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
    Some(Error::unsupported(format!("parameter \"{name}\" is not supported")).with_hint(*why))
}

/// Returns the parameter that was probably meant.
fn near(name: &str) -> Option<&'static str> {
    crate::base::nearest::nearest(name, PARAMETERS.iter().map(|known| known.name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Vec<(&'static str, String)> {
        Params::parse(text).unwrap().0.into_iter().collect()
    }

    fn pairs(list: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let mut all: Vec<_> = list.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.sort();
        all
    }

    #[test]
    fn the_examples_of_libpqs_documentation_are_read() {
        for (text, expected) in [
            ("postgresql://", pairs(&[])),
            ("postgresql://localhost", pairs(&[("host", "localhost")])),
            (
                "postgresql://localhost:5433",
                pairs(&[("host", "localhost"), ("port", "5433")]),
            ),
            (
                "postgresql://localhost/mydb",
                pairs(&[("host", "localhost"), ("dbname", "mydb")]),
            ),
            (
                "postgresql://user@localhost",
                pairs(&[("host", "localhost"), ("user", "user")]),
            ),
            (
                "postgresql://user:secret@localhost",
                pairs(&[("host", "localhost"), ("user", "user"), ("password", "secret")]),
            ),
            (
                "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
                pairs(&[
                    ("host", "localhost"),
                    ("user", "other"),
                    ("dbname", "otherdb"),
                    ("connect_timeout", "10"),
                    ("application_name", "myapp"),
                ]),
            ),
            (
                "postgresql://host1:123,host2:456/somedb?target_session_attrs=any&application_name=myapp",
                pairs(&[
                    ("host", "host1,host2"),
                    ("port", "123,456"),
                    ("dbname", "somedb"),
                    ("target_session_attrs", "any"),
                    ("application_name", "myapp"),
                ]),
            ),
            (
                "postgresql://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff",
                pairs(&[
                    ("host", "localhost"),
                    ("port", "5433"),
                    ("user", "user"),
                    ("dbname", "mydb"),
                    ("options", "-c synchronous_commit=off"),
                ]),
            ),
            (
                "postgresql:///mydb?host=localhost&port=5433",
                pairs(&[("host", "localhost"), ("port", "5433"), ("dbname", "mydb")]),
            ),
            (
                "postgresql://[2001:db8::1234]/database",
                pairs(&[("host", "2001:db8::1234"), ("dbname", "database")]),
            ),
            (
                "postgresql:///dbname?host=/var/lib/postgresql",
                pairs(&[("host", "/var/lib/postgresql"), ("dbname", "dbname")]),
            ),
            (
                "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
                pairs(&[("host", "/var/lib/postgresql"), ("dbname", "dbname")]),
            ),
            (
                "host=localhost port=5432 dbname=mydb connect_timeout=10",
                pairs(&[
                    ("host", "localhost"),
                    ("port", "5432"),
                    ("dbname", "mydb"),
                    ("connect_timeout", "10"),
                ]),
            ),
            (
                "postgresql://a@:1,[::1]:2,/x",
                pairs(&[("host", ",::1,"), ("port", "1,2,"), ("user", "a"), ("dbname", "x")]),
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn keywords_are_quoted_as_in_libpq() {
        assert_eq!(
            read(r"dbname = 'a b'  password='it\'s \\ x' user=o\'k\ ay host = ''"),
            pairs(&[("dbname", "a b"), ("password", r"it's \ x"), ("user", "o'k ay")])
        );
        for bad in [
            "host",
            "host=a dbname",
            "host='a",
            "host=a password=top geheim",
            "host=a password=x geheim=1",
        ] {
            let error = Params::parse(bad).unwrap_err();
            assert!(!error.chain_and_hint().contains("geheim"), "{bad}: {error:?}");
        }
        assert!(is_keywords("host=db dbname=x") && is_keywords(" dbname = x") && is_keywords("hots=a dbname=x"));
        for other in [
            "job",
            "files:/a=b",
            "/srv/a=b",
            "./host=a",
            "app=postgres://h/x",
            "x=y",
            "sqlite:a.db",
        ] {
            assert!(!is_keywords(other), "{other}");
        }
    }

    /// A password that is not encoded must end up in no parameter that is stored or printed.
    #[test]
    fn what_is_not_encoded_is_refused_and_not_repeated() {
        for text in [
            "postgres://app:pa/geheim@127.0.0.1:1/app",
            "postgres://app:1,pa/geheim@127.0.0.1:1/app",
            "postgres://app:pa?geheim@127.0.0.1:1/app",
            "postgres://app:1?geheim@h=1/app",
            "postgres://app:pa#geheim@127.0.0.1:1/app",
            "postgres:/app:geheim@127.0.0.1/app",
            "postgres://app@[::1/geheim",
            "postgres://app@[::1]x:geheim/y",
        ] {
            let error = Params::parse(text).unwrap_err();
            assert!(!error.chain_and_hint().contains("geheim"), "{text}: {error:?}");
        }
        let lenient = Params::parse("postgres://app:a@geheim@h/x").unwrap();
        assert_eq!(
            (lenient.get("password"), lenient.get("host")),
            (Some("a@geheim"), Some("h"))
        );
        assert!(!format!("{lenient:?}").contains("geheim"));
    }

    /// What other programs write, ADO.NET for one, is one value to libpq.
    #[test]
    fn a_string_of_another_form_becomes_no_name() {
        for text in [
            "host=db;username=app;password=geheim",
            "host=db; username=app; password=geheim",
            "host=/run/pg;password=geheim",
            "host=a,b;Pwd=geheim",
            "host='db password=geheim'",
            "host=\"geheim\"",
            "host=app:geheim@db",
            "user=app;password=geheim;host=db",
            "dbname=x;Password=geheim",
            "dbname=postgres://u:geheim@h/x",
            "postgres://db/x;password=geheim",
            "postgres://db%3Bpassword%3Dgeheim/x",
            "postgres:///x?host=db;password=geheim",
        ] {
            let error = Params::parse(text).unwrap_err();
            assert!(!error.chain_and_hint().contains("geheim"), "{text}: {error:?}");
        }
        let error = Params::parse("host='db name' dbname=x").unwrap_err();
        assert!(error.chain().contains("the host contains a character"), "{error:?}");
        for good in [
            "host=a_b.example,10.0.0.1,::1,fe80::1%eth0,/cloudsql/p:r:i",
            "host='a, b'",
            "host=/run/a@b=c dbname='a;b=c'",
        ] {
            assert!(Params::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_was_meant() {
        for (text, hint) in [
            ("postgres://h/x?sslmod=require", "sslmode"),
            ("host=h dbnam=x user=y", "dbname"),
            ("postgres://h/x?replication=database", "COPY"),
            ("postgres://h/x?pgbouncer=true", "another program"),
            ("postgres://h/x?oauth_issuer=y", "password or certificate"),
            ("postgres://h/x?client_encoding=LATIN1", "own encoding"),
            ("postgres://h/x?zzz=geheim", "libpq"),
        ] {
            let error = Params::parse(text).unwrap_err();
            assert!(error.hint().unwrap().contains(hint), "{text}: {error:?}");
            assert!(!error.chain_and_hint().contains("geheim"), "{text}: {error:?}");
        }
        for good in ["postgres://h/x?client_encoding=utf-8", "postgres://h/x?ssl=true"] {
            assert!(Params::parse(good).is_ok(), "{good}");
        }
    }

    /// Whatever is read is written so that it is read again, by this parser and by that of plain URLs.
    #[test]
    fn the_one_form_says_the_same() {
        for text in [
            "postgres://a%40b:p%3Aw@db.example:6000/my%2Fdb?sslmode=require",
            "postgresql://postgres@127.0.0.1:1,127.0.0.1:2/s",
            "postgresql://postgres@/s?host=localhost&hostaddr=127.0.0.1&port=5",
            "postgresql:///s?host=/tmp/x&port=5&user=postgres",
            "host=/cloudsql/project:region:instance user=app dbname=x password='a b+c%'",
            "host=fe80::1%eth0 user=u",
            "host=::1 port=5 user=u password=p",
            "service=wv",
            "host=a,b,c port=5,,6 user='ü x' options='-c a.b=c d'",
            "postgres://",
        ] {
            let params = Params::parse(text).unwrap();
            let url = params.to_url();
            assert_eq!(Params::parse(&url).unwrap(), params, "{text} as {url}");
            url::Url::parse(&url).unwrap();
        }
        let stored = Params::parse("host=h user=u password=geheim sslpassword=geheim dbname=d").unwrap();
        assert_eq!(stored.without_secrets().to_url(), "postgres://u@h/d");
        let shown = Params::parse("postgres://h/d?options=-c%20x.y%3Dgeheim&password=geheim").unwrap();
        assert_eq!(shown.redacted(), "postgres://h/d");
    }

    #[test]
    fn a_stranger_names_no_file_and_no_address() {
        let mut params = Params::parse(
            "postgres://u@h/d?sslmode=require&sslrootcert=/a&sslcert=/b&sslkey=/c&sslpassword=x&sslcrl=/d&sslcrldir=/e&service=s\
             &servicefile=/f&passfile=/g&password_file=/h&hostaddr=1.2.3.4&options=-c%20a%3Db&allow_cleartext_password=1&sslcertmode=allow",
        )
        .unwrap();
        assert!(params.keep_foreign());
        assert_eq!(params.to_url(), "postgres://u@h/d?sslmode=require");
        let mut system = Params::parse("postgres://u@h/d?sslrootcert=system").unwrap();
        assert!(system.keep_foreign());
        assert_eq!(system.get("sslrootcert"), Some("system"));
        for (text, has_place) in [
            ("service=s dbname=x", false),
            ("hostaddr=10.0.0.1", false),
            ("host=a, hostaddr=10.0.0.1,10.0.0.2", false),
            ("host=a service=s hostaddr=10.0.0.1", true),
            ("host=a,", true),
            ("dbname=x", true),
        ] {
            assert_eq!(Params::parse(text).unwrap().keep_foreign(), has_place, "{text}");
        }
    }
}
