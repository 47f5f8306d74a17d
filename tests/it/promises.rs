//! What the first page, the help and the pages promise of the program as a whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::postgres::Cluster;
use crate::support::program::{Program, noise};
use crate::support::redis::{Kind, RedisServer};

/// Everything below a directory: names with the bytes of files.
fn tree(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let bytes = if path.is_dir() {
                open.push(path.clone());
                vec![]
            } else {
                fs::read(&path).unwrap()
            };
            found.push((path.display().to_string(), bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn check_changes_nothing_in_a_directory() {
    let program = Program::on_directory();
    fs::create_dir(program.path("tree")).unwrap();
    fs::write(program.path("tree/f"), "f").unwrap();
    let looked = |code: i32| {
        let before = (tree(program.place.path()), tree(program.state.path()));
        let said = program.expect(code, &["check", "files:tree"]);
        assert_eq!(
            (tree(program.place.path()), tree(program.state.path())),
            before,
            "{said}"
        );
        said
    };
    let said = looked(0);
    assert!(
        said.contains("no repository yet") && said.contains("is writable"),
        "{said}"
    );
    fs::create_dir(program.path("repo")).unwrap();
    looked(0);
    fs::set_permissions(program.path("repo"), fs::Permissions::from_mode(0o500)).unwrap();
    let said = looked(1);
    assert!(
        said.contains("error: write to") && said.contains("Make it writable"),
        "{said}"
    );
    fs::remove_dir(program.path("repo")).unwrap();
    fs::write(program.path("repo"), "a file").unwrap();
    looked(1);
    fs::remove_file(program.path("repo")).unwrap();
    program.expect(0, &["backup", "files:tree"]);
    let said = looked(0);
    assert!(said.contains("objects can be written, read"), "{said}");
}

/// A program that asked for JSON can read whatever goes wrong, the command line itself included.
#[test]
fn wrong_usage_is_a_document_too() {
    let program = Program::bare();
    for (arguments, message, hint) in [
        (
            &["list", "--jsn", "--json"][..],
            "unexpected argument '--jsn' found",
            "'--json'",
        ),
        (&["--json", "lst"], "unrecognized subcommand 'lst'", "list"),
        (&["--json", "restore"], "<SNAPSHOT>", "Usage: wirevault restore"),
        (
            &["verify", "latest", "--level", "deep", "--json"],
            "'deep' for '--level <LEVEL>' [possible values: stored",
            "--help",
        ),
        (
            &["restore", "latest", "--undo", "--clean", "--json"],
            "--clean",
            "--help",
        ),
        (&["--json"], "", "--help"),
        (
            &["backup", "--level", "postgres://a:geheim@h/d", "--json"],
            "--level <LEVEL>",
            "--help",
        ),
    ] {
        let output = program.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = &document["error"];
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        assert_eq!(text("kind"), "invalid", "{error}");
        assert!(text("message").contains(message), "{message:?} is not in {error}");
        assert!(text("hint").contains(hint), "{hint:?} is not in {error}");
        assert!(
            !text("message").contains('\n') && !text("message").is_empty(),
            "{error}"
        );
        assert!(
            !error.to_string().contains("geheim") && !said.contains("geheim"),
            "{said}"
        );
    }
    // Behind "--" it is an argument, and nobody asked.
    let output = program.run(&["lst", "--", "--json"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let output = program.run(&["list", "--json", "--help"]);
    assert!(output.status.success() && output.stdout.starts_with(b"List"));
}

#[test]
fn a_path_that_is_not_there_is_told_as_a_path() {
    let program = Program::on_directory();
    program.refused(
        &["backup", "files:/nowhere/at/all"],
        "/nowhere/at/all",
        "path does not exist",
    );
    let output = program.run(&["backup", "files:/nowhere/at/all", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = document.to_string();
    assert!(text.contains("path does not exist"), "{text}");
    let said = program.expect(1, &["check", "files:/nowhere/at/all"]);
    assert!(said.contains("path does not exist"), "{said}");
}

#[test]
fn one_undo_puts_a_database_and_a_tree_back() {
    let program = Program::on_directory();
    let (database, file) = (program.path("app.db"), program.path("tree/f"));
    fs::create_dir(program.path("tree")).unwrap();
    let write = |value: &str| {
        fs::write(&file, value).unwrap();
        let connection = rusqlite::Connection::open(&database).unwrap();
        let sql = format!("CREATE TABLE IF NOT EXISTS t (v); DELETE FROM t; INSERT INTO t VALUES ('{value}')");
        connection.execute_batch(&sql).unwrap();
    };
    let read = || {
        let connection = rusqlite::Connection::open(&database).unwrap();
        let stored: String = connection.query_row("SELECT v FROM t", [], |row| row.get(0)).unwrap();
        (fs::read_to_string(&file).unwrap(), stored)
    };
    let both = |value: &str| (value.to_owned(), value.to_owned());
    write("stored");
    program.expect(0, &["backup", "files:tree", "sqlite:app.db"]);
    write("later");
    program.expect(0, &["restore", "latest", "--clean"]);
    assert_eq!(read(), both("stored"));
    program.expect(0, &["restore", "latest", "--undo"]);
    assert_eq!(read(), both("later"));
}

/// A URL may leave open what `PG*` variables say, on the way in and on the way back.
#[test]
fn variables_complete_a_url() {
    let cluster = Cluster::shared();
    let (name, copy) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    cluster.psql(&name, "CREATE TABLE t AS SELECT 'from ' || current_database() AS v");
    let mut program = Program::on_directory();
    program.set("PGHOST", "127.0.0.1");
    program.set("PGPORT", &cluster.port.to_string());
    program.set("PGUSER", "admin");
    program.set("PGPASSWORD", "secret");
    program.expect(0, &["check", &format!("postgres:///{name}")]);
    program.expect(0, &["backup", &format!("postgres:///{name}")]);
    program.expect(0, &["restore", "latest", "--into", &format!("postgres:///{copy}")]);
    assert_eq!(cluster.psql(&copy, "SELECT v FROM t").trim(), format!("from {name}"));
    cluster.psql(&name, "UPDATE t SET v = 'lost'");
    program.expect(0, &["restore", "latest", "--clean"]);
    assert_eq!(cluster.psql(&name, "SELECT v FROM t").trim(), format!("from {name}"));
}

/// Unpacks the newest archive of a source as its README says, and returns the directory and the commands of the README.
fn unpacked(program: &Program) -> (tempfile::TempDir, Vec<String>) {
    let below = tree(&program.path("repo/data"));
    let archive = below.iter().find(|(name, _)| name.ends_with("0000.tar.zst")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::copy(&archive.0, directory.path().join("0000.tar.zst")).unwrap();
    shell(directory.path(), "zstd -dcq 0000.tar.zst | tar x");
    let readme = fs::read_to_string(directory.path().join("README.txt")).unwrap();
    assert!(
        readme.contains("tar: zstd -dc 0000.tar.zst | tar x\n"),
        "what was run is not what it says: {readme}"
    );
    assert!(
        readme.contains("cat 0000.tar.zst 0001.tar.zst ... | zstd -dc | tar xi\n"),
        "{readme}"
    );
    let commands = readme.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (directory, commands)
}

fn shell(directory: &Path, command: &str) {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

#[test]
fn the_readme_of_a_redis_archive_gives_the_rdb_back() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    for n in 0..4 {
        client.ask(&[b"SET", format!("k{n}").as_bytes(), &noise(1 << 20)]);
    }
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    let (directory, commands) = unpacked(&program);
    assert!(
        directory.path().join("dump.rdb/00000001").exists(),
        "there is nothing to join"
    );
    shell(directory.path(), &commands[0]);
    program.expect(0, &["restore", "latest", "--into", "file:whole.rdb"]);
    let joined = fs::read(directory.path().join("joined.rdb")).unwrap();
    assert!(joined == fs::read(program.path("whole.rdb")).unwrap(), "another file");
}

/// A row that is larger than a chunk lies in several members, which are joined first.
#[test]
fn the_readme_of_a_postgres_archive_gives_the_database_back() {
    let cluster = Cluster::shared();
    let (name, copy) = (cluster.fresh_name(), cluster.fresh_name());
    cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
    let fill = "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 100000) AS v FROM generate_series(1, 3) g";
    cluster.psql(&name, fill);
    let program = Program::on_directory();
    let url = format!("postgres://admin:secret@127.0.0.1:{}/{name}", cluster.port);
    program.expect(0, &["backup", &url]);
    let (directory, commands) = unpacked(&program);
    let [join, load] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    assert!(
        directory.path().join("restore/join-0000.sh").exists(),
        "there is nothing to join"
    );
    shell(directory.path(), join);
    assert_eq!(load, "psql -X -d DATABASE -f restore.sql");
    cluster.psql("postgres", &format!("CREATE DATABASE {copy} TEMPLATE template0"));
    cluster.psql_in(&copy, directory.path(), &["-X", "-f", "restore.sql"]);
    let digest = "SELECT count(*), md5(string_agg(v, '' ORDER BY id)) FROM t";
    assert_eq!(cluster.psql(&copy, digest), cluster.psql(&name, digest));
}

/// Where a program is started, and which.
const STARTS: [(&str, &str); 2] = [
    (
        "engines/postgres/physical/start/process.rs",
        "the scratch server of `verify --start`",
    ),
    ("operations/hooks.rs", "hooks of the configuration"),
];

/// What only a person asks for starts a program: no backup, no restore.
#[test]
fn programs_are_started_in_two_places() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    crate::layers::rust_files(&root, &mut files);
    let mut starts = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let text = crate::layers::untested(&text);
        let words = ["process::Command", "Command::new(", "posix_spawn", "execve"];
        let code = |line: &&str| !line.trim_start().starts_with("//");
        if text
            .lines()
            .filter(code)
            .any(|line| words.iter().any(|word| line.contains(word)))
        {
            starts.push(file.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    starts.sort();
    assert_eq!(starts, STARTS.map(|(file, _)| file));
    // Whoever restores knows nothing of the module.
    for restorer in [
        "engines/postgres/physical/restorer.rs",
        "operations/restore.rs",
        "operations/recover.rs",
    ] {
        let text = fs::read_to_string(root.join(restorer)).unwrap();
        assert!(!text.contains("physical::start"), "{restorer}");
    }
}
