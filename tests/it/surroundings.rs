//! What the surroundings of a process say: proxies, files of secrets, the name of the host, its time zone, the address of a store.

use crate::support::http::Server;
use crate::support::moto::Moto;
use crate::support::program::{Program, noise, serve_s3};

/// Gives a program one file to back up.
fn with_a_file(program: Program) -> Program {
    std::fs::create_dir(program.path("src")).unwrap();
    std::fs::write(program.path("src/file"), b"hello").unwrap();
    program
}

/// A program with one file to back up, and keys for the S3 server of the tests.
fn program() -> Program {
    let mut program = with_a_file(Program::bare());
    program.set("AWS_ACCESS_KEY_ID", "tester");
    program.set("AWS_SECRET_ACCESS_KEY", "tester-secret");
    program.set("AWS_REGION", "us-east-1");
    program
}

fn bucket(program: &Program) -> String {
    std::fs::create_dir_all(program.path("s3/bucket")).unwrap();
    serve_s3(&program.path("s3"))
}

const ROUND: [&[&str]; 3] = [
    &["backup", "files:src", "--to", "s3://bucket/app"],
    &["verify", "latest", "--from", "s3://bucket/app"],
    &["restore", "latest", "--from", "s3://bucket/app", "--into", "out"],
];

fn goes_round(program: &Program) {
    for arguments in ROUND {
        program.expect(0, arguments);
    }
    assert_eq!(std::fs::read(program.path("out/file")).unwrap(), b"hello");
}

/// Nothing but the proxy knows the store's name.
#[test]
fn a_store_is_reached_through_a_proxy() {
    for (variable, password) in [("HTTP_PROXY", ""), ("http_proxy", "user:geheim@"), ("ALL_PROXY", "")] {
        let mut program = program();
        let proxy = Server::forwarding(&bucket(&program), "");
        program.set("AWS_ENDPOINT_URL", "http://store.invalid:9000");
        program.set(variable, &format!("http://{password}{}", proxy.address()));
        goes_round(&program);
        let got = proxy.got();
        assert!(
            got.iter()
                .all(|one| one.line.contains(" http://store.invalid:9000/bucket")),
            "{got:?}"
        );
        let wanted = (!password.is_empty()).then_some("Basic dXNlcjpnZWhlaW0=");
        assert!(
            got.iter().all(|one| one.header("proxy-authorization") == wanted),
            "{got:?}"
        );
    }
}

#[test]
fn no_proxy_spares_a_store_and_a_proxy_of_another_kind_is_refused() {
    let mut program = program();
    let (proxy, endpoint) = (Server::answering(|_| (502, String::new())), bucket(&program));
    program.set("AWS_ENDPOINT_URL", &endpoint);
    program.set("http_proxy", &proxy.url());
    program.set("NO_PROXY", "other.example, 127.0.0.0/8");
    goes_round(&program);
    assert!(proxy.got().is_empty());
    program.set("http_proxy", "socks5://user:geheim@127.0.0.1:1080");
    program.set("NO_PROXY", "other.example");
    // This host is spared whatever NO_PROXY says.
    program.expect(0, ROUND[1]);
    program.set("AWS_ENDPOINT_URL", "http://store.invalid:9000");
    program.refused(
        ROUND[1],
        "http_proxy names a proxy with scheme socks5://",
        "http://host:port",
    );
}

/// To an https address, and to an http one, of a hook.
#[test]
fn calls_pass_a_proxy_too() {
    let mut program = program();
    let proxy = Server::answering(|got| {
        let status = if got.line.starts_with("CONNECT ") { 403 } else { 204 };
        (status, String::new())
    });
    program.set("HTTP_PROXY", &proxy.url());
    program.set("HTTPS_PROXY", &proxy.url());
    let configure = |hook: &str| {
        let text = format!(
            "[repository]\nurl = \"file://{}\"\n[source.src]\nkind = \"files\"\nroot = \"src\"\n[job.full]\nsources = [\"src\"]\nbefore = \"{hook}\"\n",
            program.path("repo").display()
        );
        std::fs::write(program.path("wirevault.toml"), text).unwrap();
    };
    configure("http://hooks.invalid/secret-path?x=1");
    program.expect(0, &["backup", "full"]);
    assert_eq!(
        proxy.got()[0].line,
        "POST http://hooks.invalid/secret-path?x=1 HTTP/1.1"
    );
    configure("https://hooks.invalid/secret-path");
    program.refused(
        &["backup", "full"],
        "returned status 403 for hooks.invalid:443",
        "NO_PROXY",
    );
    let got = proxy.got();
    assert_eq!(got[1].line, "CONNECT hooks.invalid:443 HTTP/1.1");
    assert!(!format!("{:?}", got[1]).contains("secret-path"));
}

#[test]
fn redirects_of_calls_are_followed_without_their_secrets() {
    let program = program();
    let there = Server::answering(|_| (200, String::new()));
    let target = there.url();
    let here = Server::answering(move |got| {
        let path = got.line.split(' ').nth(1).unwrap();
        match path {
            "/moved" => (301, "location: /again\r\n".to_owned()),
            "/again" => (307, format!("location: {target}/in\r\n")),
            "/taken" => (303, format!("location: {target}/seen\r\n")),
            "/lost" => (302, "location: ftp://x/\r\n".to_owned()),
            _ => (308, "location: /round\r\n".to_owned()),
        }
    });
    let configure = |path: &str| {
        let text = format!(
            "[repository]\nurl = \"file://{}\"\n[source.src]\nkind = \"files\"\nroot = \"src\"\n[job.full]\nsources = [\"src\"]\nbefore = \"http://user:geheim@{}{path}\"\n",
            program.path("repo").display(),
            here.address()
        );
        std::fs::write(program.path("wirevault.toml"), text).unwrap();
    };
    configure("/moved");
    program.expect(0, &["backup", "full"]);
    let (first, last) = (here.got(), there.got());
    assert_eq!((first.len(), last.len()), (2, 1));
    assert!(
        first
            .iter()
            .all(|got| got.header("authorization") == Some("Basic dXNlcjpnZWhlaW0=")),
        "{first:?}"
    );
    assert!(
        last[0].line.starts_with("POST /in ") && last[0].header("authorization").is_none(),
        "{last:?}"
    );
    assert_eq!(last[0].body, first[0].body);
    // What was taken is looked at, not sent again.
    configure("/taken");
    program.expect(0, &["backup", "full"]);
    assert!(there.got()[1].line.starts_with("GET /seen ") && there.got()[1].body.is_empty());
    configure("/lost");
    program.refused(&["backup", "full"], "redirect without a location", "configuration");
    configure("/round");
    program.refused(&["backup", "full"], "too many redirects", "configuration");
}

#[test]
fn an_endpoint_may_have_a_path_and_must_be_an_address() {
    let moto = Moto::start();
    moto.create_bucket("bucket");
    let mut program = program();
    let gateway = Server::forwarding(moto.endpoint(), "/gw/s3");
    program.set("AWS_ENDPOINT_URL", &format!("{}/gw/s3/", gateway.url()));
    goes_round(&program);
    assert!(
        gateway.got().iter().all(|got| got.line.contains(" /gw/s3/bucket")),
        "{:?}",
        gateway.got()
    );
    for (wrong, hint) in [
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("htps://minio", "https://minio"),
        ("http://minio:port", "https://host"),
        ("http://minio/?x=1", "https://host"),
        ("http://user:geheim@minio", "keys come from"),
    ] {
        program.set("AWS_ENDPOINT_URL", wrong);
        program.refused(ROUND[0], "", hint);
        program.refused(&["list", "--from", "s3://bucket/app", "--endpoint", wrong], "", hint);
    }
}

#[test]
fn what_the_environment_says_of_a_store_holds_for_a_url_too() {
    let mut program = with_a_file(Program::bare());
    let endpoint = bucket(&program);
    program.set("S3_ENDPOINT", &endpoint);
    program.set("S3_REGION", "us-east-1");
    program.set("S3_ACCESS_KEY", "tester");
    program.refused(ROUND[0], "S3_SECRET_KEY is not set", "S3_ACCESS_KEY and S3_SECRET_KEY");
    program.set("S3_SECRET_KEY", "tester-secret");
    goes_round(&program);
}

#[test]
fn secrets_come_from_files_and_never_from_two_places() {
    let mut program = with_a_file(Program::bare());
    let endpoint = bucket(&program);
    program.set("S3_ENDPOINT", &endpoint);
    program.set("S3_REGION", "us-east-1");
    for (variable, value) in [("S3_ACCESS_KEY", "tester"), ("S3_SECRET_KEY", "tester-secret")] {
        let path = program.path(variable);
        std::fs::write(&path, format!("{value}\n")).unwrap();
        program.set(&format!("{variable}_FILE"), path.to_str().unwrap());
    }
    goes_round(&program);
    let refused = |name: &str, value: &str, message: &str| {
        let mut command = program.command(&["list", "--from", "s3://bucket/app"]);
        let output = command.env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(message) && !text.contains("geheim"), "{text}");
    };
    refused(
        "S3_SECRET_KEY",
        "geheim",
        "S3_SECRET_KEY and S3_SECRET_KEY_FILE are both set",
    );
    refused(
        "PGPASSWORD_FILE",
        "/nowhere/pw",
        "PGPASSWORD_FILE: read \"/nowhere/pw\"",
    );
}

/// The SDK would pass over half of a pair and go on with the keys of a profile.
#[test]
fn half_of_a_pair_of_keys_is_refused_by_every_command() {
    for (present, missing) in [
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ] {
        let mut program = with_a_file(Program::bare());
        let endpoint = bucket(&program);
        program.set("AWS_ENDPOINT_URL", &endpoint);
        program.set("AWS_REGION", "us-east-1");
        let profile = "[default]\naws_access_key_id = tester\naws_secret_access_key = tester-secret\n";
        std::fs::write(program.path("profile"), profile).unwrap();
        let path = program.path("profile").display().to_string();
        program.set("AWS_SHARED_CREDENTIALS_FILE", &path);
        program.set(present, "geheim");
        for arguments in ROUND {
            program.refused(arguments, &format!("{present} is set, but {missing} is not"), missing);
        }
        // Unset, the profile is what is meant.
        program.set(present, "");
        goes_round(&program);
    }
}

/// The SDK's own names, whose files it does not know.
#[test]
fn keys_of_aws_come_from_files_too() {
    let mut program = with_a_file(Program::bare());
    let endpoint = bucket(&program);
    program.set("AWS_ENDPOINT_URL", &endpoint);
    program.set("AWS_EC2_METADATA_DISABLED", "true");
    for (variable, value) in [
        ("AWS_ACCESS_KEY_ID", "tester"),
        ("AWS_SECRET_ACCESS_KEY", "tester-secret"),
    ] {
        let path = program.path(variable);
        std::fs::write(&path, value).unwrap();
        program.set(&format!("{variable}_FILE"), path.to_str().unwrap());
    }
    goes_round(&program);
}

#[test]
fn a_host_has_the_name_that_it_is_given() {
    let mut program = with_a_file(Program::on_directory());
    let text = "host = \"of-the-file\"\n[source.src]\nkind = \"files\"\nroot = \"src\"\n[job.full]\nsources = [\"src\"]\nkeep = { last = 1 }\n";
    let repository = format!("[repository]\nurl = \"file://{}\"\n", program.path("repo").display());
    std::fs::write(program.path("wirevault.toml"), format!("{text}{repository}")).unwrap();
    program.expect(0, &["backup", "full"]);
    program.set("WIREVAULT_HOST", "of-the-variable");
    program.expect(0, &["backup", "full"]);
    program.expect(0, &["--host", "of-the-flag", "backup", "full"]);
    program.expect(0, &["backup", "full", "--host", "of-the-flag"]);
    let hosts = |arguments: &[&str]| -> Vec<String> {
        let document = program.json(arguments);
        let snapshots = document["snapshots"].as_array().unwrap().clone();
        snapshots
            .iter()
            .map(|one| one["host"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        hosts(&["list"]),
        ["of-the-file", "of-the-variable", "of-the-flag", "of-the-flag"]
    );
    assert_eq!(hosts(&["list", "--host", "of-the-flag"]), ["of-the-flag"; 2]);
    // Of a host of its own is the newest, although another has a newer one.
    let shown = |arguments: &[&str]| program.json(arguments)["snapshot"]["host"].as_str().unwrap().to_owned();
    assert_eq!(shown(&["show", "latest"]), "of-the-variable");
    assert_eq!(shown(&["show", "latest", "--host", "of-the-file"]), "of-the-file");
    let plan = program.expect(
        0,
        &["recover", "latest", "--host", "of-the-file", "--dry-run", "--clean"],
    );
    let ids = program.listed();
    assert!(plan.contains(&ids[0]) && !plan.contains(&ids[3]), "{plan}");
    // Rules count by host: the container that got a new name would keep what the old one left.
    program.expect(0, &["prune", "--job", "full"]);
    assert_eq!(hosts(&["list"]), ["of-the-file", "of-the-variable", "of-the-flag"]);
    program.set("WIREVAULT_HOST", "a b");
    program.refused(&["backup", "full"], "invalid name of a host", "WIREVAULT_HOST");
}

#[test]
fn a_time_zone_that_is_none_is_refused() {
    let mut program = program();
    program.set("TZ", "Mars/Phobos");
    program.refused(
        &["backup", "files:src", "--to", "repo"],
        "TZ is \"Mars/Phobos\"",
        "Europe/Berlin",
    );
    for right in ["Europe/Berlin", ":Europe/Berlin", "EST5EDT", "<+03>-3", "UTC", ""] {
        program.set("TZ", right);
        program.expect(0, &["backup", "files:src", "--to", "./repo"]);
    }
}

#[test]
fn an_interval_counts_from_the_last_run_in_the_repository() {
    let program = program();
    let text = format!(
        "[repository]\nurl = \"file://{}\"\n[source.src]\nkind = \"files\"\nroot = \"src\"\n[job.full]\nsources = [\"src\"]\nschedule = \"@every 6h\"\n",
        program.path("repo").display()
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
    let planned = || -> jiff::Timestamp {
        let said = program.expect(0, &["run", "--dry-run", "--json"]);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said["jobs"][0]["next"].as_str().unwrap().parse().unwrap()
    };
    assert!(planned() <= jiff::Timestamp::now(), "a job that never ran is due");
    program.expect(0, &["backup", "full"]);
    let started: jiff::Timestamp = program.json(&["show", "latest"])["snapshot"]["started"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(planned().as_second() - started.as_second(), 6 * 3600);
}

/// Three parts of 5 MiB instead of two of 8, the bucket in the path, another checksum.
#[test]
fn keys_of_a_repository_shape_its_uploads() {
    let program = program();
    std::fs::write(program.path("src/large"), noise(11 << 20)).unwrap();
    let gateway = Server::forwarding(&bucket(&program), "");
    let configure = |more: &str| {
        let text = format!(
            "[repository]\nurl = \"s3://bucket/app\"\nendpoint = \"{}\"\n{more}[source.src]\nkind = \"files\"\nroot = \"src\"\n[job.full]\nsources = [\"src\"]\n",
            gateway.url()
        );
        std::fs::write(program.path("wirevault.toml"), text).unwrap();
    };
    configure("part_size = \"5MiB\"\nchecksums = \"sha256\"\npath_style = true\nmax_parts = 1000\n");
    program.expect(0, &["backup", "full"]);
    let got = gateway.got();
    let parts: Vec<_> = got.iter().filter(|one| one.line.contains("partNumber=")).collect();
    assert_eq!(
        parts.len(),
        3,
        "{:?}",
        parts.iter().map(|one| &one.line).collect::<Vec<_>>()
    );
    assert_eq!(parts.iter().filter(|one| one.body.len() == 5 << 20).count(), 2);
    for part in &parts {
        let has = |name: &str| part.header(name).is_some();
        assert!(
            has("x-amz-checksum-sha256") && !has("content-md5"),
            "{:?}",
            part.headers
        );
    }
    program.expect(0, &["verify", "latest"]);
    for (wrong, message) in [
        ("part_size = \"1MiB\"\n", "part_size 1MiB is not within"),
        ("max_parts = 20000\n", "max_parts 20000"),
        ("checksums = \"crc64\"\n", "unknown checksums \"crc64\""),
        ("path_style = \"yes\"\n", "path_style"),
    ] {
        configure(wrong);
        let output = program.run(&["check"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(message), "{text}");
    }
    configure("ca_file = \"/nowhere/ca.pem\"\n");
    program.refused(&["list"], "/nowhere/ca.pem", "AWS_CA_BUNDLE");
    // Five parts of 64 MiB and one being filled do not fit.
    configure("part_size = \"64MiB\"\n");
    program.refused(&["backup", "full"], "memory limit", "part_size");
    let text = format!(
        "[repository]\nurl = \"file://{}\"\npart_size = \"8MiB\"\n",
        program.path("repo").display()
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
    program.refused(&["list"], "part_size", "s3://bucket/prefix");
}

/// Keys that a program of the profile gives; what it prints is not shown.
#[test]
fn a_profile_may_name_a_program_that_gives_the_keys() {
    let mut program = with_a_file(Program::bare());
    let endpoint = bucket(&program);
    let script = program.path("keys.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"tester\",\"SecretAccessKey\":\"tester-secret\"}'\n",
    )
    .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let profile = |text: &str| {
        std::fs::write(
            program.path("config"),
            format!("[profile work]\nregion = us-east-1\n{text}"),
        )
        .unwrap();
    };
    profile(&format!("credential_process = {}\n", script.display()));
    let config = program.path("config").display().to_string();
    program.set("AWS_CONFIG_FILE", &config);
    program.set("AWS_SHARED_CREDENTIALS_FILE", "/nowhere");
    program.set("AWS_PROFILE", "work");
    program.set("AWS_EC2_METADATA_DISABLED", "true");
    program.set("AWS_ENDPOINT_URL", &endpoint);
    goes_round(&program);
    let profile = |text: &str| std::fs::write(&config, format!("[profile work]\nregion = us-east-1\n{text}")).unwrap();
    profile("credential_process = false\n");
    program.refused(
        ROUND[1],
        "credential_process of the profile gave no credentials",
        "by hand",
    );
    profile(
        "sso_start_url = https://x.awsapps.com/start\nsso_region = us-east-1\nsso_account_id = 123456789011\nsso_role_name = r\n",
    );
    program.refused(ROUND[1], "SSO", "export-credentials");
}
