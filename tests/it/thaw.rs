//! Snapshots in a cold storage class: they are refused in time, asked for, waited for, and read.

use crate::support::moto::Moto;
use crate::support::program::{Program, assert_one_error, noise};

#[test]
fn an_archived_snapshot_is_thawed_when_it_is_asked_for_and_never_by_itself() {
    let moto = Moto::start();
    moto.create_bucket("bucket");
    let mut program = Program::bare();
    program.set("AWS_ACCESS_KEY_ID", "tester");
    program.set("AWS_SECRET_ACCESS_KEY", "tester-secret");
    let config = format!(
        "[repository]\nurl = \"s3://bucket/app\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\nstorage_class = \"GLACIER\"\n",
        moto.endpoint()
    );
    std::fs::write(program.path("wirevault.toml"), config).unwrap();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), noise(100_000)).unwrap();
    program.expect(0, &["backup", "files:tree"]);
    // What is read often lies in the ordinary class.
    assert_eq!(program.listed().len(), 1);

    let restore = ["restore", "latest", "--into", "out"];
    program.refused(&restore, "is in GLACIER and cannot be read", "--thaw");
    let refused = moto.answered(403);
    program.refused(&["cat", "latest", "tree", "file"], "InvalidObjectState", "--thaw");
    assert_eq!(moto.answered(403), refused + 1, "no retries help here");
    let said = program.expect(2, &["verify", "latest"]);
    assert!(
        said.contains("not verified") && said.contains("is in GLACIER"),
        "{said}"
    );
    assert!(!program.path("out").exists());

    moto.thaw_slowly(4);
    let said = program.run(&["verify", "latest", "--thaw=ask", "--thaw-speed", "bulk"]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_one_error(&said, "asked the store for 2 objects", "Run the same command again");
    assert!(said.contains("of GLACIER (5 to 12 hours)"), "{said}");
    program.refused(&restore, "is in GLACIER and cannot be read", "--thaw");
    program.expect(0, &["restore", "latest", "--into", "out", "--thaw"]);
    assert_eq!(
        std::fs::read(program.path("out/file")).unwrap(),
        std::fs::read(program.path("tree/file")).unwrap()
    );
    program.expect(0, &["verify", "latest"]);
}

#[test]
fn one_file_of_a_log_in_a_cold_class_does_not_hide_the_others() {
    let moto = Moto::start();
    moto.create_bucket("bucket");
    let mut program = Program::bare();
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "tester"),
        ("AWS_SECRET_ACCESS_KEY", "tester-secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_S3", moto.endpoint()),
        ("WIREVAULT_REPOSITORY", "s3://bucket/app"),
    ] {
        program.set(name, value);
    }
    program.expect(0, &["init", "--no-encryption"]);
    for (name, text) in [
        ("00000002.history", "1\t0/3000000\tx\n"),
        ("00000003.history", "2\t0/5000000\tx\n"),
    ] {
        std::fs::write(program.path(name), text).unwrap();
        program.expect(0, &["log", "push", name, "--system-id", "7"]);
    }
    program.expect(0, &["log", "verify"]);
    moto.freeze("/bucket/app/wal/7/00000002.history.zst");
    program.expect(0, &["log", "show"]);
    let said = program.expect(2, &["log", "verify"]);
    assert!(
        said.contains("read 1 file of ") && said.contains("not 1 file in a cold storage class"),
        "{said}"
    );
}
