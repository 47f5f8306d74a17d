//! Several repositories from one read, those that were left behind, and runs after changes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;
use wirevault::base::error::ErrorKind;
use wirevault::storage::fault::{Effect, Fault, FaultStore, Operation};
use wirevault::storage::memory::MemoryStore;
use wirevault::storage::mirror::{MirrorStore, MirrorTarget};
use wirevault::storage::upload::{ObjectWriter, UploadOptions};
use wirevault::storage::{ObjectKey, ObjectOptions, SharedStore};

use crate::run::Scheduler;
use crate::support::program::{Program, files_below, noise};
use crate::support::wait::PATIENCE;

fn two_repositories(job: &str) -> Program {
    let program = Program::bare();
    std::fs::create_dir(program.path("tree")).unwrap();
    std::fs::write(program.path("tree/file"), noise(3 << 20)).unwrap();
    configure(&program, job);
    program
}

fn configure(program: &Program, job: &str) {
    let text = format!(
        "[repository.near]\nurl = \"file://{}\"\n[repository.far]\nurl = \"file://{}\"\n\
         [source.tree]\nkind = \"files\"\nroot = \"{}\"\n[job.full]\nsources = [\"tree\"]\n{job}\n",
        program.path("near").display(),
        program.path("far").display(),
        program.path("tree").display(),
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
}

fn snapshots(program: &Program, repository: &str) -> Vec<String> {
    let said = program.expect(0, &["list", "--from", repository, "--json"]);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    let all = document["snapshots"].as_array().unwrap().iter();
    all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn data(root: &Path) -> Vec<(String, Vec<u8>)> {
    let root = root.join("data");
    let one = |path: &Path| {
        let path = path.strip_prefix(&root).unwrap_or(path);
        (path.display().to_string(), std::fs::read(root.join(path)).unwrap())
    };
    let mut all: Vec<_> = files_below(&root).iter().map(|(path, _)| one(path)).collect();
    all.sort();
    all
}

#[test]
fn one_read_fills_both_repositories_with_the_same_bytes() {
    let program = two_repositories("keep = { last = 3 }\nkeep_in.far = { last = 1 }");
    program.expect(0, &["backup", "full"]);
    assert_eq!(snapshots(&program, "near"), snapshots(&program, "far"));
    let near = data(&program.path("near"));
    assert!(near.len() == 2 && near == data(&program.path("far")));
    // Each repository has its own rules.
    program.expect(0, &["backup", "full"]);
    program.expect(0, &["prune", "--from", "near"]);
    program.expect(0, &["prune", "--from", "far"]);
    assert_eq!(
        (snapshots(&program, "near").len(), snapshots(&program, "far").len()),
        (2, 1)
    );
    // What the rules of the other one let go is not lacking there.
    assert!(program.expect(0, &["copy"]).contains("nothing to copy"));
    for repository in ["near", "far"] {
        program.expect(0, &["verify", "latest", "--from", repository, "--no-evidence"]);
    }
}

/// Where the answer is clear, no repository need be named: what looks at all of it goes through each, one snapshot comes from
/// the repository that has the newest.
#[test]
fn every_verb_works_without_naming_a_repository() {
    let program = two_repositories("keep = { last = 1 }");
    program.expect(0, &["backup", "full"]);
    let first = snapshots(&program, "near").remove(0);
    program.expect(0, &["backup", "full", "--to", "far"]);
    let second = snapshots(&program, "far").remove(1);

    let listed = program.json(&["list"]);
    let names: Vec<_> = listed["repositories"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&names[0]["repository"], &names[1]["repository"]),
        (&"far".into(), &"near".into())
    );
    assert_eq!(names[0]["snapshots"].as_array().unwrap().len(), 2);
    let said = program.expect(0, &["list"]);
    assert!(
        said.contains("repository near\n") && said.contains("repository far\n"),
        "{said}"
    );

    let said = program.expect(0, &["restore", "latest", "--into", "back"]);
    assert!(
        said.starts_with("repository far\n")
            && said.contains(&format!("{second} --source tree --into back --from far")),
        "{said}"
    );
    assert!(std::fs::read(program.path("back/file")).unwrap() == noise(3 << 20));
    assert!(program.expect(0, &["show", &first]).starts_with("repository far\n"));
    assert_eq!(program.json(&["show", "latest"])["repository"], "far");
    assert!(program.run(&["cat", "latest", "tree", "file"]).stdout == noise(3 << 20));
    assert_eq!(
        program.json(&["verify", &second])["repositories"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert!(program.expect(0, &["pin", &first]).contains("repository far\n"));
    program.expect(0, &["unpin", &first]);

    program.expect(0, &["prune"]);
    assert_eq!(
        (snapshots(&program, "near"), snapshots(&program, "far")),
        (vec![first.clone()], vec![second])
    );

    assert!(program.expect(0, &["show", &first]).starts_with("repository near\n"));

    // One that does not answer is named, and the other does what can be done.
    std::fs::rename(program.path("near"), program.path("away")).unwrap();
    let said = program.expect(2, &["list"]);
    assert!(said.contains("repository near\nfailed: "), "{said}");
    program.expect(0, &["restore", "latest", "--into", "back", "--clean"]);
    program.refused(&["show", "2001"], "no snapshot \"2001\"", "wirevault list");
}

#[test]
fn a_repository_that_is_gone_is_left_behind_and_copy_brings_it_up_to_date() {
    let program = two_repositories("");
    program.expect(0, &["backup", "full"]);
    std::fs::rename(program.path("far"), program.path("away")).unwrap();
    std::fs::write(program.path("far"), "no directory").unwrap();
    let said = program.expect(2, &["backup", "full"]);
    assert!(said.contains("failed: job full to file://"), "{said}");
    assert_eq!(snapshots(&program, "near").len(), 2);
    std::fs::remove_file(program.path("far")).unwrap();
    std::fs::rename(program.path("away"), program.path("far")).unwrap();
    assert_eq!(snapshots(&program, "far").len(), 1);

    let said = program.expect(0, &["copy", "--dry-run"]);
    assert!(
        said.contains("would copy") && said.contains("from near to far"),
        "{said}"
    );
    program.expect(0, &["copy", "--from", "near", "--into", "far"]);
    assert_eq!(snapshots(&program, "near"), snapshots(&program, "far"));
    assert!(data(&program.path("near")) == data(&program.path("far")));
    program.expect(0, &["verify", "--all", "--from", "far", "--no-evidence"]);
    assert!(program.expect(0, &["copy"]).contains("nothing to copy"));
    program.refused(
        &["copy", "--from", "near", "--into", "near"],
        "both source and target",
        "--into B",
    );
    program.refused(&["copy", "latest"], "no target repository", "--into");
}

#[test]
fn a_damaged_object_is_not_copied() {
    let program = two_repositories("repositories = [\"near\"]");
    program.expect(0, &["backup", "full"]);
    let (path, mut bytes) = data(&program.path("near")).pop().unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let path = program.path("near/data").join(path);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    program.refused(
        &["copy", "--from", "near", "--into", "far"],
        "is damaged in \"near\"",
        "another repository",
    );
    assert!(snapshots(&program, "far").is_empty());
}

#[test]
fn content_that_did_not_change_is_not_stored_again() {
    let program = two_repositories("");
    program.expect(0, &["backup", "full", "--if-changed"]);
    let file = program.path("tree/file");
    let body = std::fs::read(&file).unwrap();
    std::fs::write(&file, &body).unwrap();
    let said = program.expect(0, &["backup", "full", "--if-changed"]);
    assert!(said.contains("nothing new was stored"), "{said}");
    assert_eq!(snapshots(&program, "near").len(), 1);
    assert_eq!(data(&program.path("far")).len(), 2);
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    program.expect(0, &["backup", "full", "--if-changed"]);
    assert_eq!(snapshots(&program, "far").len(), 2);
}

#[test]
fn a_change_of_the_files_is_backed_up_and_a_repository_is_brought_up_to_date() {
    let program = two_repositories("on_change = \"1s\"");
    program.expect(0, &["backup", "full", "--to", "near"]);
    let scheduler = Scheduler::start(&program);
    let copied = scheduler.event("copied");
    assert_eq!(
        (&copied["from"], &copied["to"]),
        (&"near".into(), &"far".into()),
        "{copied}"
    );
    // What changed while nothing watched is not known; nothing did.
    assert_eq!(scheduler.event("begun")["why"], "changed");
    scheduler.event("unchanged");
    assert_eq!(scheduler.event("ended")["status"], "done");
    let before = snapshots(&program, "near");
    std::fs::write(program.path("tree/new"), "new").unwrap();
    assert_eq!(scheduler.event("begun")["why"], "changed");
    assert_eq!(scheduler.event("ended")["status"], "done");
    let after = snapshots(&program, "near");
    assert_eq!((after.len(), &after), (before.len() + 1, &snapshots(&program, "far")));
    std::fs::write(program.path("tree/new"), "new").unwrap();
    scheduler.event("unchanged");
    assert_eq!(snapshots(&program, "near"), after);
    scheduler.end();
    let redis = "[repository]\nurl = \"file:///tmp/x\"\n[source.cache]\nkind = \"redis\"\nurl = \"redis://127.0.0.1\"\n\
                 [job.full]\nsources = [\"cache\"]\non_change = \"5s\"\n";
    std::fs::write(program.path("wirevault.toml"), redis).unwrap();
    program.refused(&["list"], "has no files to watch", "kind files or sqlite");
}

fn target(store: SharedStore) -> MirrorTarget {
    MirrorTarget {
        store,
        storage_class: None,
        journal: None,
    }
}

async fn write(store: SharedStore, bytes: &Bytes) -> wirevault::base::error::Result<()> {
    let options = UploadOptions {
        part_bytes: 1 << 20,
        parts_in_flight: 2,
        object: ObjectOptions::default(),
        ..UploadOptions::default()
    };
    let mut writer = ObjectWriter::create(store, ObjectKey::new("data/x").unwrap(), options);
    for piece in bytes.chunks(300_000) {
        writer.write(piece).await?;
    }
    writer.finish().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_holds_the_others_back_for_its_stall_and_no_longer() {
    let near: SharedStore = Arc::new(MemoryStore::new());
    let far = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    far.inject(Fault {
        operation: Some(Operation::PutPart),
        key_contains: String::new(),
        skip: 1,
        count: usize::MAX,
        effect: Effect::Hang(Arc::new(Semaphore::new(0))),
    });
    let stall = Duration::from_secs(1);
    let mirror = Arc::new(MirrorStore::new(
        vec![target(near.clone()), target(far.clone())],
        2,
        stall,
    ));
    let (bytes, begun) = (Bytes::from(noise(12 << 20)), Instant::now());
    write(mirror.clone(), &bytes).await.unwrap();
    let took = begun.elapsed();
    // It would hang for ever: that it ends is the proof that it is held back no longer.
    assert!(took >= stall, "{took:?}");
    let why = mirror.detached(1).unwrap();
    assert_eq!(why.kind(), ErrorKind::TimedOut, "{why:?}");
    assert!(mirror.detached(0).is_none());
    let key = ObjectKey::new("data/x").unwrap();
    assert_eq!(near.get(&key, 64 << 20).await.unwrap(), bytes);
    mirror.give_up_detached(Duration::from_secs(5)).await;
    assert_eq!(far.count(Operation::AbortUpload), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_is_not_detached_and_one_that_fails_is() {
    let near: SharedStore = Arc::new(MemoryStore::new());
    let (slow, broken) = (
        Arc::new(FaultStore::new(Arc::new(MemoryStore::new()))),
        Arc::new(FaultStore::new(Arc::new(MemoryStore::new()))),
    );
    slow.inject(Fault {
        operation: Some(Operation::PutPart),
        key_contains: String::new(),
        skip: 0,
        count: usize::MAX,
        effect: Effect::Delay(Duration::from_millis(30)),
    });
    broken.inject(Fault {
        operation: Some(Operation::PutPart),
        key_contains: String::new(),
        skip: 2,
        count: usize::MAX,
        effect: Effect::FailBefore(ErrorKind::Denied),
    });
    let all = vec![target(near.clone()), target(slow.clone()), target(broken.clone())];
    let mirror = Arc::new(MirrorStore::new(all, 1, PATIENCE));
    let bytes = Bytes::from(noise(12 << 20));
    write(mirror.clone(), &bytes).await.unwrap();
    assert!(mirror.detached(1).is_none() && mirror.stalled(1) > Duration::ZERO);
    assert_eq!(mirror.detached(2).unwrap().kind(), ErrorKind::Denied);
    let key = ObjectKey::new("data/x").unwrap();
    for store in [near, slow as SharedStore] {
        assert_eq!(store.get(&key, 64 << 20).await.unwrap(), bytes);
    }
    // What none of them can do is the caller's failure.
    let nowhere = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    nowhere.inject(Fault::once(
        Operation::CreateUpload,
        "",
        Effect::FailBefore(ErrorKind::Denied),
    ));
    let mirror = Arc::new(MirrorStore::new(vec![target(nowhere)], 1, Duration::from_secs(1)));
    assert_eq!(
        write(mirror.clone(), &bytes).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert!(mirror.detached(0).is_none());
}
