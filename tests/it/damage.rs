//! Damage as the commands see it: `verify` reports it and names the object, `restore` leaves the live target as it was.
//!
//! A sample of what `benches/end_to_end/damage.sh` does in full.

use std::path::{Path, PathBuf};

use crate::support::program::{Program, files_below, noise};

/// Every file below a directory with its bytes.
fn picture(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all = files_below(root);
    all.into_iter()
        .map(|(path, _)| {
            let bytes = std::fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

fn make_database(path: &Path, rows: u32) {
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(&format!(
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO t SELECT i, randomblob(50) FROM n;"
        ))
        .unwrap();
}

/// A repository with one snapshot of a tree and a database, and a live target that differs from both.
struct Bench {
    program: Program,
    snapshot: String,
}

impl Bench {
    fn new() -> Self {
        let program = Program::on_directory();
        std::fs::create_dir_all(program.path("tree/sub")).unwrap();
        std::fs::write(program.path("tree/sub/small"), "small\n").unwrap();
        std::fs::write(program.path("tree/large"), noise(1 << 20)).unwrap();
        make_database(&program.path("app.db"), 500);
        program.expect(0, &["backup", "files:tree", "sqlite:app.db"]);
        let snapshot = program.listed().remove(0);
        std::fs::create_dir_all(program.path("live/tree")).unwrap();
        std::fs::create_dir_all(program.path("live/app")).unwrap();
        std::fs::write(program.path("live/tree/large"), "live").unwrap();
        std::fs::write(program.path("live/tree/own"), "live").unwrap();
        make_database(&program.path("live/app/app.db"), 20);
        Self { program, snapshot }
    }

    /// Returns the stored objects, as paths: manifest, indexes, archives.
    fn objects(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.program.path(&format!("repo/snapshots/{}.json", self.snapshot))];
        let data = files_below(&self.program.path("repo/data"));
        paths.extend(data.into_iter().map(|(path, _)| path));
        assert_eq!(paths.len(), 5, "{paths:?}");
        paths
    }

    /// Damages an object, asks, and puts it back.
    fn damaged(&self, path: &Path, damage: &dyn Fn(&mut Vec<u8>), ask: &dyn Fn(&str)) {
        let whole = std::fs::read(path).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(path, bytes).unwrap();
        let named = path.strip_prefix(self.program.path("repo")).unwrap();
        ask(named.to_str().unwrap());
        std::fs::write(path, whole).unwrap();
    }

    fn assert_verify_names(&self, key: &str, what: &str) {
        // Quiet leaves out what went well; damage is an error.
        let output = self
            .program
            .run(&["verify", &self.snapshot, "--level", "content", "--no-evidence", "-q"]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{key} {what}: {said}");
        let name = key
            .strip_prefix("snapshots/")
            .map_or(key, |name| name.trim_end_matches(".json"));
        assert!(
            said.contains(name) && !said.contains("panicked"),
            "{key} {what}: {said}"
        );
    }

    /// Each source alone, since the others of a snapshot are restored whatever becomes of one.
    fn assert_restore_refuses(&self, source: &str, key: &str, what: &str) {
        let into = if source == "tree" {
            "live/tree"
        } else {
            "live/app/app.db"
        };
        let live = self.program.path("live");
        let before = picture(&live);
        let output = self
            .program
            .run(&["restore", &self.snapshot, "--source", source, "--into", into, "--clean"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{key} {what}: {said}");
        assert!(picture(&live) == before, "{key} {what}: the live target changed");
    }
}

fn flip(at: usize) -> impl Fn(&mut Vec<u8>) {
    move |bytes| bytes[at] ^= 1 << (at % 8)
}

#[test]
fn verify_reports_every_damage_and_names_the_object() {
    let bench = Bench::new();
    bench.program.expect(0, &["verify", "--all", "--no-evidence"]);
    for path in bench.objects() {
        let size = std::fs::read(&path).unwrap().len();
        for n in 0..10 {
            let at = (size - 1) * n / 9;
            bench.damaged(&path, &flip(at), &|key| {
                bench.assert_verify_names(key, &format!("flip at {at}"));
            });
        }
        for at in [0, 1, size / 2, size - 1] {
            let cut = |bytes: &mut Vec<u8>| bytes.truncate(at);
            bench.damaged(&path, &cut, &|key| {
                bench.assert_verify_names(key, &format!("cut at {at}"));
            });
        }
        bench.damaged(&path, &|bytes| bytes.push(b'\n'), &|key| {
            bench.assert_verify_names(key, "longer");
        });
    }
}

#[test]
fn restore_over_damage_leaves_the_live_target_as_it_was() {
    let bench = Bench::new();
    for path in bench.objects() {
        let size = std::fs::read(&path).unwrap().len();
        let text = path.display().to_string();
        let sources: &[&str] = match (text.contains("/data/"), text.contains("/tree/")) {
            (true, true) => &["tree"],
            (true, false) => &["app"],
            (false, _) => &["tree", "app"],
        };
        for source in sources {
            // In an archive: within the frames of the source's entries, which a restore reads.
            for at in [size / 4, size / 2] {
                bench.damaged(&path, &flip(at), &|key| {
                    bench.assert_restore_refuses(source, key, "flip");
                });
            }
            let cut = |bytes: &mut Vec<u8>| bytes.truncate(size - 1);
            bench.damaged(&path, &cut, &|key| bench.assert_restore_refuses(source, key, "cut"));
            let gone = |key: &str| {
                std::fs::remove_file(&path).unwrap();
                bench.assert_restore_refuses(source, key, "missing");
            };
            bench.damaged(&path, &|_| {}, &gone);
        }
    }
    // Nothing of the refused restores stands beside the target.
    assert_eq!(files_below(&bench.program.path("live")).len(), 3);
    bench
        .program
        .expect(0, &["restore", &bench.snapshot, "--into", "live", "--clean"]);
    assert_eq!(
        std::fs::read(bench.program.path("live/tree/sub/small")).unwrap(),
        b"small\n"
    );
}
