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
