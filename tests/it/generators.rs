//! The generators of random histories begin with what the program is now: they run for hours in `make soak`, and seldom.

use std::path::Path;
use std::process::Command;

/// The one of configurations takes its keys from the program; a history of it needs no server.
#[test]
fn the_generator_of_configurations_knows_the_keys() {
    let place = tempfile::tempdir().unwrap();
    let generator = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/end_to_end/generators/config.py");
    for history in ["1", "2", "3"] {
        let output = Command::new("python3")
            .arg(&generator)
            .args(["--seed", "7", "--history", history, "--no-shrink"])
            .args(["--wirevault", env!("CARGO_BIN_EXE_wirevault")])
            .arg("--failures")
            .arg(place.path())
            .env("STAGE_DIR", place.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("1 histories, 0 failures"),
            "{said}"
        );
    }
}
