//! One database of a server: backed up alone, restored into another number, beside what the server holds otherwise.

use crate::support::program::Program;
use crate::support::redis::{Kind, RedisServer, Value, fill, kinds};

fn keys_of(server: &RedisServer, database: u32) -> i64 {
    let mut client = server.client();
    client.say(&format!("SELECT {database}"));
    client.integer("DBSIZE")
}

#[test]
fn one_database_is_backed_up_alone_and_goes_into_another() {
    for kind in kinds() {
        for method in ["psync", "scan"] {
            let server = RedisServer::start(kind, &["--repl-diskless-sync", "yes"]);
            fill(&server);
            let mut client = server.client();
            client.say("SELECT 5");
            client.say("PEXPIREAT list-5 4102444800000");
            let program = Program::on_directory();
            let url = format!("{}/5?method={method}", server.url());
            program.expect(0, &["backup", &url]);
            let said = program.expect(0, &["check", &url]);
            assert!(said.contains("only database 5 is backed up"), "{said}");
            let shown = program.json(&["show", "latest"]);
            let outcome = &shown["snapshot"]["sources"][0]["outcome"];
            assert_eq!(outcome["items"], 2, "{kind:?} {method}: {outcome}");
            assert_eq!(outcome["position"]["database"], "5");
            assert_eq!(outcome["position"]["functions"], "0");
            assert_eq!(outcome["note_counts"]["one-database"], 1, "{outcome}");
            program.expect(0, &["verify", "latest", "--level", "content"]);

            // A server starts on what was cut out.
            let rdb = program.run(&["cat", "latest", "redis", "dump.rdb"]).stdout;
            let copy = RedisServer::start_on(kind, &[], Some(&rdb));
            assert_eq!((keys_of(&copy, 0), keys_of(&copy, 5)), (0, 2), "{kind:?} {method}");

            // Into another number; what other databases hold is not in its way, and stays.
            let target = RedisServer::start(kind, &[]);
            target.client().say("SET other stays");
            let into = format!("{}/7", target.url());
            program.expect(0, &["restore", "latest", "--source", "redis", "--into", &into]);
            let mut client = target.client();
            client.say("SELECT 7");
            assert_eq!(client.text(&[b"GET", b"in-db"]), "5");
            assert_eq!(client.say("PEXPIRETIME list-5"), Value::Integer(4_102_444_800_000));
            assert_eq!(
                (keys_of(&target, 0), keys_of(&target, 5), keys_of(&target, 7)),
                (1, 0, 2)
            );
            assert_eq!(client.say("FUNCTION LIST"), Value::Array(vec![]));

            // Only that database is emptied, after a snapshot of it alone.
            let restore = ["restore", "latest:adhoc", "--source", "redis", "--into", &into];
            program.refused(&restore, "holds 2 keys", "--clean");
            client.say("SET surplus x");
            program.expect(0, &[&restore[..], &["--clean"]].concat());
            assert_eq!((keys_of(&target, 0), keys_of(&target, 7)), (1, 2));
            let before = program.json(&["list"]);
            let items: Vec<_> = before["snapshots"].as_array().unwrap().iter().collect();
            assert_eq!(items.len(), 2, "{before}");

            // Without a number it goes back where it came from.
            let fresh = RedisServer::start(kind, &[]);
            program.expect(
                0,
                &["restore", "latest:adhoc", "--source", "redis", "--into", &fresh.url()],
            );
            assert_eq!((keys_of(&fresh, 0), keys_of(&fresh, 5)), (0, 2));
            fresh.client().say("FLUSHALL");
            let scratch = format!("{}/3", fresh.url());
            program.expect(
                0,
                &["verify", "latest:adhoc", "--level", "restored", "--into", &scratch],
            );
            assert_eq!(keys_of(&fresh, 3), 0);
        }
    }
}

#[test]
fn several_databases_do_not_go_into_one() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    client.say("SET a 0");
    let program = Program::on_directory();
    program.expect(0, &["backup", &server.url()]);
    let target = RedisServer::start(Kind::Redis7, &[]);
    let into = format!("{}/9", target.url());
    // Where one database alone has keys, that one is meant.
    program.expect(0, &["restore", "latest", "--source", "redis", "--into", &into]);
    assert_eq!((keys_of(&target, 0), keys_of(&target, 9)), (0, 1));
    target.client().say("FLUSHALL");
    client.say("SELECT 2");
    client.say("SET a 2");
    program.expect(0, &["backup", &server.url()]);
    let restore = ["restore", "latest", "--source", "redis", "--into", &into];
    program.refused(&restore, "keys in databases 0, 2", "Remove the number");
    assert_eq!(keys_of(&target, 9), 0);
    // A number that the server does not have.
    let missing = format!("{}/99", server.url());
    program.refused(&["backup", &missing], "has no database 99", "CONFIG GET databases");
    let restore = ["restore", "latest", "--source", "redis", "--into", &missing];
    program.refused(&restore, "databases 0, 2", "");
    // By a socket, as a parameter; no number is all of it.
    let socket = format!("{}?db=2", server.socket_url());
    program.expect(0, &["backup", &socket]);
    let items = |program: &Program| {
        let shown = program.json(&["show", "latest"]);
        shown["snapshot"]["sources"][0]["outcome"]["items"].clone()
    };
    assert_eq!(items(&program), 1);
    let first = format!("{}?db=0", server.url());
    let said = program.expect(0, &["check", &first]);
    assert!(said.contains("without users, configuration, modules"), "{said}");
    program.expect(0, &["backup", &first]);
    assert_eq!(items(&program), 1);
    // As many programs write the URL of a whole server.
    for whole in [server.url(), format!("{}/0", server.url())] {
        program.expect(0, &["backup", &whole]);
        assert_eq!(items(&program), 2);
        let shown = program.json(&["show", "latest"]);
        let notes = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"];
        assert!(notes["one-database"].is_null(), "{notes}");
    }
}

/// A number that came into the configuration after the backup of a whole server.
#[test]
fn only_into_moves_keys() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut client = server.client();
    let code = b"#!lua name=wv\nredis.register_function('wv_one', function() return 1 end)";
    client.ask(&[b"FUNCTION", b"LOAD", code]);
    client.say("SELECT 1");
    client.say("SET a 1");
    let program = Program::bare();
    let configure = |end: &str| {
        let config = format!(
            "[repository]\nurl = \"file://{}\"\n[source.cache]\nkind = \"redis\"\nurl = \"{}{end}\"\n[job.all]\n\
             sources = [\"cache\"]\n",
            program.path("repo").display(),
            server.url()
        );
        std::fs::write(program.path("wirevault.toml"), config).unwrap();
    };
    configure("");
    program.expect(0, &["backup", "all"]);
    for end in ["/0", "/4", "?db=0"] {
        configure(end);
        client.say("FLUSHALL");
        client.say("FUNCTION FLUSH");
        // What other databases hold is in the snapshot that is taken before.
        client.say("SELECT 2");
        client.say("SET other goes");
        program.expect(0, &["restore", "latest:all", "--clean"]);
        assert_eq!((keys_of(&server, 1), keys_of(&server, 2)), (1, 0), "{end}");
        let shown = program.json(&["show", "latest:pre-restore"]);
        assert_eq!(shown["snapshot"]["sources"][0]["outcome"]["items"], 1, "{shown}");
        let libraries = client.say("FUNCTION LIST");
        assert_ne!(libraries, Value::Array(vec![]), "{end}");
    }
    let target = RedisServer::start(Kind::Redis7, &[]);
    let into = format!("{}/3", target.url());
    let restore = ["restore", "latest:all", "--source", "cache", "--into", &into];
    let said = program.expect(0, &[&restore[..], &["--dry-run"]].concat());
    assert!(said.contains("keys of database 1 go into database 3"), "{said}");
    // It does not say that it brings what it leaves out, and says that once.
    assert!(!said.contains("whose code runs in the server"), "{said}");
    assert_eq!(
        said.matches("1 function libraries of the backup are not restored")
            .count(),
        1,
        "{said}"
    );
    let output = program.run(&restore);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("are not restored").count(), 1, "{said}");
    assert!(
        said.contains("function libraries of the backup: 1 of them are not restored"),
        "{said}"
    );
    assert!(!said.contains("whose code runs in the server"), "{said}");
    assert_eq!(keys_of(&target, 3), 1);
    target.client().say("FLUSHALL");
    program.expect(0, &["verify", "latest:all", "--level", "restored", "--into", &into]);
}
