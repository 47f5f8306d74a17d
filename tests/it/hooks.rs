//! What tests ask of the program by its environment exists in their builds alone.

use std::fs;
use std::path::Path;

use crate::layers::rust_files;

/// The names of the variables begin so.
const NAMES: &str = "WIREVAULT_TEST_";

/// The file that knows them, and the module that has it.
const HOOKS: &str = "base/test_hooks.rs";
const GATE: &str = "#[cfg(feature = \"test-hooks\")]\npub mod test_hooks;";

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// One file knows the names, and stands under the feature.
#[test]
fn the_variables_of_tests_stand_under_their_feature() {
    assert!(read("src/base/mod.rs").contains(GATE));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let knowing: Vec<String> = files
        .iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains(NAMES))
        .map(|file| file.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    assert_eq!(knowing, [HOOKS]);
}

/// The search for the names in what `make dist` ships would find them.
#[test]
fn the_names_can_be_found_in_a_binary_that_has_them() {
    assert!(read("packaging/dist.sh").contains(&format!("grep -q {NAMES} ")));
    let binary = fs::read(assert_cmd::cargo::cargo_bin("wirevault")).unwrap();
    assert!(binary.windows(NAMES.len()).any(|window| window == NAMES.as_bytes()));
}

#[test]
fn nothing_that_is_shipped_asks_for_the_feature() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    assert!(manifest["features"].get("default").is_none());
    for shipped in [
        "packaging/dist.sh",
        "packaging/Dockerfile",
        "packaging/deb.sh",
        "README.md",
    ] {
        let text = read(shipped);
        let asks = ["features", " -F", "test-hooks"]
            .into_iter()
            .find(|word| text.contains(word));
        assert_eq!(asks, None, "{shipped}");
    }
    let build = |line: &&str| line.contains("cargo build");
    assert_eq!(
        read("Makefile").lines().filter(build).collect::<Vec<_>>(),
        ["\tcargo build --release --bin wirevault"]
    );
}
