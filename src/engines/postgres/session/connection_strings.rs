//! Connection strings as hosting companies print them, and what becomes of them.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::auth::ChannelBindingMode;
use super::hosts::TargetSessionAttrs;
use super::url::{ConnectOptions, Host, SslMode};
use crate::base::error::Result;

fn read(text: &str) -> ConnectOptions {
    read_in(text, &[]).unwrap()
}

fn read_in(text: &str, vars: &[(&str, &str)]) -> Result<ConnectOptions> {
    ConnectOptions::from_url_with(text, None, &|name| {
        vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned())
    })
}

/// Host, port, user, password, database.
fn login(options: &ConnectOptions) -> (String, u16, String, String, String) {
    let host = match &options.host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let password = options.password.as_ref().map(|password| password.expose().to_vec());
    let password = String::from_utf8(password.unwrap_or_default()).unwrap();
    (
        host,
        options.port,
        options.user.clone(),
        password,
        options.database.clone(),
    )
}

fn expected(
    host: &str,
    port: u16,
    user: &str,
    password: &str,
    database: &str,
) -> (String, u16, String, String, String) {
    (host.into(), port, user.into(), password.into(), database.into())
}

#[test]
fn neon() {
    let host = "ep-cool-darkness-123456.us-east-2.aws.neon.tech";
    let options = read(&format!(
        "postgresql://alex:AbC123dEf@{host}/dbname?sslmode=require&channel_binding=require"
    ));
    assert_eq!(login(&options), expected(host, 5432, "alex", "AbC123dEf", "dbname"));
    assert_eq!(options.ssl_mode, SslMode::Require);
    assert_eq!(options.channel_binding, ChannelBindingMode::Require);
    // For clients without SNI the endpoint is an option, or a part of the password.
    let options = read(&format!(
        "postgresql://alex:pw@{host}/dbname?options=endpoint%3Dep-cool-darkness-123456&sslmode=require"
    ));
    assert_eq!(
        options.startup_options.as_deref(),
        Some("endpoint=ep-cool-darkness-123456")
    );
    let options = read(&format!(
        "postgresql://alex:endpoint=ep-cool-darkness-123456;pw@{host}/dbname"
    ));
    assert_eq!(login(&options).3, "endpoint=ep-cool-darkness-123456;pw");
    let options = read(&format!(
        "postgresql://alex:endpoint%3Dep-cool-darkness-123456%24pw@{host}/dbname"
    ));
    assert_eq!(login(&options).3, "endpoint=ep-cool-darkness-123456$pw");
}

#[test]
fn supabase() {
    let direct = read("postgresql://postgres:pw@db.abcdefghijklmnop.supabase.co:5432/postgres");
    assert_eq!(
        login(&direct),
        expected("db.abcdefghijklmnop.supabase.co", 5432, "postgres", "pw", "postgres")
    );
    for port in [5432, 6543] {
        let text =
            format!("postgres://postgres.abcdefghijklmnop:pw@aws-0-eu-central-1.pooler.supabase.com:{port}/postgres");
        let host = "aws-0-eu-central-1.pooler.supabase.com";
        let wanted = expected(host, port, "postgres.abcdefghijklmnop", "pw", "postgres");
        assert_eq!(login(&read(&text)), wanted);
    }
    let error = read_in(
        "postgres://u:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true",
        &[],
    );
    assert!(error.unwrap_err().hint().unwrap().contains("remove it"));
}

#[test]
fn rds() {
    let host = "mydb.123456789012.us-east-1.rds.amazonaws.com";
    let text = format!(
        "host={host} port=5432 dbname=postgres user=admin password=pw sslmode=verify-full sslrootcert=/certs/global-bundle.pem"
    );
    let options = read(&text);
    assert_eq!(login(&options), expected(host, 5432, "admin", "pw", "postgres"));
    assert_eq!(options.ssl_mode, SslMode::VerifyFull);
    assert_eq!(options.ssl_root_cert, Some(PathBuf::from("/certs/global-bundle.pem")));
    // A token of IAM is a long password with characters of URLs.
    let token = format!("{host}:5432/?Action=connect&DBUser=admin&X-Amz-Signature=ab%2Fcd");
    let options = read_in(&format!("postgres://admin@{host}/app"), &[("PGPASSWORD", &token)]).unwrap();
    assert_eq!(login(&options).3, token);
}

#[test]
fn azure() {
    let options = read(
        "host=demo.postgres.database.azure.com port=5432 dbname=postgres user=admin@demo password=p@ss sslmode=require",
    );
    let host = "demo.postgres.database.azure.com";
    assert_eq!(login(&options), expected(host, 5432, "admin@demo", "p@ss", "postgres"));
    let options = read(&format!("postgres://admin%40demo:pw@{host}/postgres?sslmode=require"));
    assert_eq!(login(&options).2, "admin@demo");
    assert_eq!(options.ssl_mode, SslMode::Require);
}

#[test]
fn cloud_sql() {
    let directory = "/cloudsql/project:europe-west1:instance";
    for text in [
        format!("host={directory} dbname=app user=app password=pw"),
        format!("postgresql://app:pw@/app?host={directory}"),
        "postgresql://app:pw@%2Fcloudsql%2Fproject%3Aeurope-west1%3Ainstance/app".to_owned(),
    ] {
        let options = read(&text);
        assert_eq!(login(&options), expected(directory, 5432, "app", "pw", "app"), "{text}");
        assert_eq!(options.host, Host::Unix(directory.into()));
        assert_eq!(options.ssl_mode, SslMode::Disable);
    }
}

#[test]
fn heroku_render_railway_fly() {
    let heroku = "postgres://u1a2b3:p4c5@ec2-3-4-5-6.compute-1.amazonaws.com:5432/d7e8f9";
    let wanted = expected("ec2-3-4-5-6.compute-1.amazonaws.com", 5432, "u1a2b3", "p4c5", "d7e8f9");
    assert_eq!(login(&read(heroku)), wanted);
    assert_eq!(read(heroku).ssl_mode, SslMode::VerifyFull);
    assert_eq!(read(&format!("{heroku}?sslmode=require")).ssl_mode, SslMode::Require);
    // The dyno's PGSSLMODE counts where the URL says nothing.
    let options = read_in(heroku, &[("PGSSLMODE", "require")]).unwrap();
    assert_eq!(options.ssl_mode, SslMode::Require);
    for (text, wanted) in [
        (
            "postgresql://user:pw@dpg-abc123-a.frankfurt-postgres.render.com/db_x",
            expected("dpg-abc123-a.frankfurt-postgres.render.com", 5432, "user", "pw", "db_x"),
        ),
        (
            "postgresql://user:pw@dpg-abc123-a/db_x",
            expected("dpg-abc123-a", 5432, "user", "pw", "db_x"),
        ),
        (
            "postgresql://postgres:pw@postgres.railway.internal:5432/railway",
            expected("postgres.railway.internal", 5432, "postgres", "pw", "railway"),
        ),
        (
            "postgresql://postgres:pw@roundhouse.proxy.rlwy.net:12345/railway",
            expected("roundhouse.proxy.rlwy.net", 12345, "postgres", "pw", "railway"),
        ),
        (
            "postgres://app:pw@top2.nearest.of.app-db.internal:5432/app?sslmode=disable",
            expected("top2.nearest.of.app-db.internal", 5432, "app", "pw", "app"),
        ),
        (
            "postgres://postgres:pw@app-db.flycast:5432",
            expected("app-db.flycast", 5432, "postgres", "pw", "postgres"),
        ),
    ] {
        assert_eq!(login(&read(text)), wanted, "{text}");
    }
}

#[test]
fn several_hosts_of_patroni_and_aiven() {
    let options =
        read("postgres://app:pw@a.example:5432,b.example:5433/app?target_session_attrs=read-write&connect_timeout=3");
    assert_eq!(options.location(), "postgres://app@a.example:5432,b.example:5433/app");
    assert_eq!(
        (options.wanted, options.others.len()),
        (TargetSessionAttrs::ReadWrite, 1)
    );
    let other = options.others.first().unwrap();
    assert!(other.password.is_some() && other.ssl_mode == SslMode::VerifyFull);
    let aiven = read("postgres://avnadmin:pw@pg-x.aivencloud.com:24949/defaultdb?sslmode=require");
    assert_eq!(login(&aiven).1, 24949);
}

#[test]
fn variables_complete_what_the_string_leaves_open() {
    let vars = [
        ("PGHOST", "a,b"),
        ("PGPORT", "1,2"),
        ("PGUSER", "app"),
        ("PGDATABASE", "shop"),
        ("PGOPTIONS", "-c work_mem=1MB"),
        ("PGAPPNAME", "nightly"),
        ("PGCHANNELBINDING", "disable"),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGSSLMODE", "verify-ca"),
        ("PGSSLROOTCERT", "/ca.pem"),
        ("PGSSLCERT", "/c.pem"),
        ("PGSSLKEY", "/k.pem"),
        ("PGSSLCRL", "/crl.pem"),
        ("PGGSSENCMODE", "disable"),
    ];
    let options = read_in("postgres://", &vars).unwrap();
    assert_eq!(options.location(), "postgres://app@a:1,b:2/shop");
    assert_eq!(options.startup_options.as_deref(), Some("-c work_mem=1MB"));
    assert_eq!(
        (options.application_name.as_str(), options.wanted),
        ("nightly", TargetSessionAttrs::Primary)
    );
    assert_eq!(options.channel_binding, ChannelBindingMode::Disable);
    assert_eq!(
        (options.connect_timeout.as_secs(), options.ssl_mode),
        (7, SslMode::VerifyCa)
    );
    assert_eq!(options.ssl_root_cert, Some("/ca.pem".into()));
    assert_eq!(options.tls.certificate, Some("/c.pem".into()));
    assert_eq!(options.tls.crl, Some("/crl.pem".into()));
    assert!(options.names_database && !read_in("postgres://h", &[]).unwrap().names_database);
    let options = read_in("postgres://h:9/x?application_name=own", &vars[..1]).unwrap();
    assert_eq!(
        (
            login(&options).0.as_str(),
            options.port,
            options.application_name.as_str()
        ),
        ("h", 9, "own")
    );
    let fallback = read_in("postgres://h/x?fallback_application_name=f", &[]).unwrap();
    assert_eq!(fallback.application_name, "f");
    for (text, vars) in [
        ("postgres://h/x", [("PGREQUIREAUTH", "nonsense")]),
        ("postgres://h/x", [("PGGSSENCMODE", "require")]),
        ("postgres://a,b/x", [("PGPORT", "1,2,3")]),
        ("postgres://h/x?sslrootcert=system&sslmode=require", [("X", "")]),
        ("postgres://h/x?sslnegotiation=direct&sslmode=prefer", [("X", "")]),
        ("postgres://h/x?ssl_max_protocol_version=TLSv1.1", [("X", "")]),
        ("postgres://h/x?connect_timeout=soon", [("X", "")]),
    ] {
        assert!(read_in(text, &vars).is_err(), "{text} {vars:?}");
    }
    let system = read("postgres://localhost/x?sslrootcert=system");
    assert_eq!((system.ssl_mode, system.ssl_root_cert), (SslMode::VerifyFull, None));
}

/// The service comes after the connection string and before the environment.
#[test]
fn a_service_is_read_in_its_place() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("services").display().to_string();
    std::fs::write(
        &file,
        "[wv]\nhost=db\nport=6000\nuser=app\ndbname=shop\npassword=of service\n",
    )
    .unwrap();
    let vars = [
        ("PGSERVICEFILE", file.as_str()),
        ("PGUSER", "eve"),
        ("PGPASSWORD", "no"),
        ("PGSSLMODE", "require"),
    ];
    let options = read_in("postgres:///?service=wv&port=7", &vars).unwrap();
    assert_eq!(login(&options), expected("db", 7, "app", "of service", "shop"));
    assert!(options.names_database && options.ssl_mode == SslMode::Require);
    let named = [("PGSERVICEFILE", file.as_str()), ("PGSERVICE", "wv")];
    assert_eq!(login(&read_in("postgres://", &named).unwrap()).0, "db");
    let text = format!("service=wv servicefile={file} user=own");
    assert_eq!(login(&read_in(&text, &[]).unwrap()).2, "own");
    // A stranger's URL names no service, and this host's does not hand out its password.
    let foreign = |text: &str| {
        let env = |name: &str| named.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
        ConnectOptions::from_foreign_url(text, &env).unwrap()
    };
    assert!(foreign("postgres://app@evil/x").password.is_none());
    assert_eq!(login(&foreign("postgres://u@evil/x?service=wv")).0, "evil");
}

/// Secrets and settings of the environment go to the servers that it names, and to no other that a manifest names.
#[test]
fn what_belongs_to_the_environments_servers_goes_nowhere_else() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".postgresql")).unwrap();
    for name in ["postgresql.crt", "postgresql.key", "root.crt", "root.crl"] {
        std::fs::write(home.path().join(".postgresql").join(name), "").unwrap();
    }
    let home = home.path().display().to_string();
    let vars = [
        ("HOME", home.as_str()),
        ("PGHOST", "db,standby"),
        ("PGPORT", "5432"),
        ("PGHOSTADDR", "10.0.0.1,10.0.0.2"),
        ("PGPASSWORD", "secret"),
        ("PGOPTIONS", "-c app.token=x"),
        ("PGREQUIREAUTH", "scram-sha-256"),
    ];
    let env = |name: &str| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
    let foreign = |text: &str| ConnectOptions::from_foreign_url(text, &env).unwrap();
    for text in [
        "postgres://u@evil/x",
        "postgres://u@evil/x?sslcert=/c&sslkey=/k&options=-c%20a.b%3Dc&hostaddr=6.6.6.6",
        "postgres://u@db:99/x",
        "postgres:///x?host=db,evil&port=99,5432&user=u",
    ] {
        let options = foreign(text);
        assert!(
            options.password.is_none() && options.others.iter().all(|other| other.password.is_none()),
            "{text}"
        );
        assert!(
            options.host_address.is_none() && options.startup_options.is_none(),
            "{text}"
        );
        assert!(options.tls.certificate.is_none() && options.tls.key.is_none(), "{text}");
        // What protects us is taken from here.
        assert!(options.ssl_root_cert.is_some() && options.tls.crl.is_some(), "{text}");
    }
    let mixed = foreign("postgres:///x?host=db,evil&user=u");
    assert!(mixed.password.is_some() && mixed.others.iter().all(|other| other.password.is_none()));
    assert!(mixed.tls.certificate.is_none() && mixed.startup_options.is_none());
    let loose = foreign("postgres://u@db/x?require_auth=password");
    assert_eq!(
        loose.require_auth,
        super::auth::RequireAuth::parse("scram-sha-256").unwrap()
    );
    let whole = foreign("postgres:///x?host=db,standby&user=u");
    assert!(loose.host_address.is_none() && whole.host_address.is_some() && whole.password.is_some());
    // The operator's own string gets everything.
    let own = ConnectOptions::from_url_with("postgres://u@db,standby/x", None, &env).unwrap();
    assert!(own.password.is_some() && own.tls.certificate.is_some() && own.startup_options.is_some());
}
