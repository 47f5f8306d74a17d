//! Logs that are not what a receiver stored: a restore says what is wrong with them, and leaves nothing behind.

use std::fs;

use serde_json::{Value, json};

use crate::support::program::{Program, files_below};
use crate::support::redis::{Kind, RedisServer};
use crate::support::redis_log::{Piece, Receiver, base_is_there, offset, pieces};

/// A program with a log of several pieces, and the offset where it ends.
fn logged() -> (Program, u64) {
    let program = Program::on_directory();
    program.expect(0, &["init", "--no-encryption"]);
    let server = RedisServer::start(Kind::Redis7, &[]);
    let mut receiver = Receiver::start(&program, &server.url());
    base_is_there(&program);
    let mut client = server.client();
    for number in 0..4 {
        client.say(&format!("SET key:{number} {number}"));
        receiver.catch_up(&server);
    }
    let end = offset(&mut client);
    receiver.stop();
    (program, end)
}

/// Puts raw bytes in the place of those of a piece, with a descriptor that is changed.
pub(crate) fn forge(piece: &Piece, raw: &[u8], change: impl FnOnce(&mut Value)) {
    let data = zstd::bulk::compress(raw, 1).unwrap();
    let mut descriptor = piece.descriptor.clone();
    descriptor["raw_bytes"] = json!(raw.len());
    descriptor["data_bytes"] = json!(data.len());
    descriptor["raw_sha256"] = json!(sha256(raw));
    change(&mut descriptor);
    let text = serde_json::to_vec(&descriptor).unwrap();
    let length = text.len() as u64 + 16;
    let mut object = data;
    object.extend(0x184D_2A57_u32.to_le_bytes());
    object.extend((length as u32 - 8).to_le_bytes());
    object.extend(text);
    object.extend(length.to_le_bytes());
    fs::write(&piece.path, object).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// A restore to the end fails with these words, and leaves the directory as it was.
fn refused(program: &Program, end: u64, words: &str) {
    let into = program.path("into").display().to_string();
    let output = program.run(&["restore", "latest", "--into", &into, "--offset", &end.to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}: {said}");
    assert!(said.contains(words) && !said.contains("panicked"), "{words}: {said}");
    assert_eq!(files_below(&program.path("into")), [], "{words}");
    let _ = fs::remove_dir_all(program.path("into"));
}

#[test]
fn damaged_and_forged_logs_are_refused() {
    let (program, end) = logged();
    let all = pieces(&program);
    assert!(all.len() >= 3, "{all:#?}");
    let piece = &all[all.len() / 2];
    let whole = fs::read(&piece.path).unwrap();
    let bytes = piece.raw();
    let len = bytes.len();

    // It is the log as it is.
    let into = program.path("whole").display().to_string();
    program.expect(0, &["restore", "latest", "--into", &into, "--offset", &end.to_string()]);
    let last = fs::read(program.path("whole/appendonlydir/appendonly.aof.1.incr.aof")).unwrap();
    assert!(last.ends_with(b"$5\r\nkey:3\r\n$1\r\n3\r\n"), "{}", last.escape_ascii());
    program.refused(
        &["restore", "latest", "--into", &into, "--offset", &end.to_string()],
        "exists",
        "--clean",
    );
    program.expect(
        0,
        &[
            "restore",
            "latest",
            "--into",
            &into,
            "--offset",
            &end.to_string(),
            "--clean",
        ],
    );

    fs::remove_file(&piece.path).unwrap();
    refused(&program, end, "has a gap");
    fs::write(&piece.path, &whole[..whole.len() - 30]).unwrap();
    refused(&program, end, "descriptor");
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    fs::write(&piece.path, &flipped).unwrap();
    refused(&program, end, "log segment");
    let verified = program.run(&["log", "verify"]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(
        String::from_utf8_lossy(&verified.stdout).contains("DAMAGED at"),
        "{verified:?}"
    );

    // No RESP: strings that are shorter than they say, inline commands, nothing but zeros.
    let mut short = bytes.clone();
    let at = short.iter().position(|byte| *byte == b'$').unwrap();
    short[at + 1] = b'9';
    forge(piece, &short, |_| {});
    refused(&program, end, "not RESP");
    forge(piece, &vec![0; len], |_| {});
    refused(&program, end, "not RESP");
    let mut huge = b"*3\r\n$3\r\nSET\r\n$9999999999999999999\r\n".to_vec();
    huge.resize(len, b'x');
    forge(piece, &huge, |_| {});
    refused(&program, end, "not RESP");

    // Other offsets than those of the name, and lengths that are not those of the bytes.
    forge(piece, &bytes, |descriptor| {
        descriptor["span"]["from"] = json!(piece.from + 1);
    });
    refused(&program, end, "other offsets");
    forge(piece, &bytes, |descriptor| {
        descriptor["span"]["to"] = json!(u64::MAX);
    });
    refused(&program, end, "descriptor");
    forge(piece, &vec![0; 64 << 20], |descriptor| {
        descriptor["raw_bytes"] = json!(len);
    });
    refused(&program, end, "raw bytes");
    forge(piece, &bytes, |descriptor| {
        descriptor["facts"]["marks"] = json!("x@y");
    });
    refused(&program, end, "time marks");
    forge(piece, &bytes, |descriptor| {
        descriptor["facts"]["follows"] = json!("../../x:1");
    });
    refused(&program, end, "replication ID");

    // Names of other files are nobody's pieces.
    fs::write(&piece.path, &whole).unwrap();
    let directory = piece.path.parent().unwrap();
    fs::write(directory.join("00000000000000000000x.zst"), b"x").unwrap();
    fs::create_dir(directory.parent().unwrap().join("not-an-id")).unwrap();
    fs::write(
        directory.parent().unwrap().join("not-an-id/00000000000000000001.zst"),
        b"x",
    )
    .unwrap();
    program.expect(
        0,
        &[
            "restore",
            "latest",
            "--into",
            &into,
            "--offset",
            &end.to_string(),
            "--clean",
        ],
    );
}

#[test]
fn moments_outside_the_log_are_refused() {
    let (program, end) = logged();
    let into = program.path("into").display().to_string();
    let restore = |moment: &[&str], words: &str| {
        let output = program.run(&[&["restore", "latest", "--source", "redis", "--into", &into][..], moment].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{moment:?}: {said}");
        assert!(said.contains(words), "{moment:?}: {said}");
        assert_eq!(files_below(&program.path("into")), []);
    };
    restore(&["--at", "2099-01-01 00:00:00Z"], "the log ends at");
    restore(&["--at", "2019-01-01 00:00:00+01"], "the oldest is of");
    restore(&["--at", "2019-01-01 00:00:00"], "zone");
    restore(&["--at", "yesterday"], "is no moment");
    restore(&["--offset", &(end + 1000).to_string()], "does not hold offset");
    restore(&["--offset=-1"], "is no replication offset");
    let other = format!("{}:{end}", "0".repeat(40));
    restore(&["--offset", &other], "no stored history leads");
    restore(
        &["--offset", "5", "--at", "2019-01-01 00:00:00Z"],
        "cannot be used with",
    );
}
