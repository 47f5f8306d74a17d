//! Keep rules through the program: pins, the minimum, what is refused, and what a dry run says.

use crate::support::program::Program;

fn with_snapshots(count: usize, keep: &str) -> (Program, Vec<String>) {
    let program = Program::bare();
    std::fs::create_dir(program.path("tree")).unwrap();
    let text = format!(
        "[repository]\nurl = \"file://{}\"\n[source.tree]\nkind = \"files\"\nroot = \"tree\"\n[job.full]\nsources = [\"tree\"]\n{keep}\n",
        program.path("repo").display()
    );
    std::fs::write(program.path("wirevault.toml"), text).unwrap();
    for number in 0..count {
        std::fs::write(program.path("tree/file"), number.to_string()).unwrap();
        program.expect(0, &["backup", "full"]);
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    let listed = if count == 0 { Vec::new() } else { program.listed() };
    (program, listed)
}

#[test]
fn a_pin_keeps_a_snapshot_until_it_is_taken_away() {
    let (program, ids) = with_snapshots(3, "keep = { last = 1 }");
    program.expect(0, &["pin", &ids[0], "--reason", "before the move"]);
    let document = program.json(&["list"]);
    assert_eq!(document["snapshots"][0]["pinned"], "before the move");
    assert!(program.expect(0, &["list"]).contains("(pinned)"));
    let said = program.expect(0, &["prune", "--dry-run"]);
    assert!(
        said.contains(&format!("keep   {}: pinned: before the move", ids[0])),
        "{said}"
    );
    assert!(said.contains(&format!("expire {}: no rule keeps it", ids[1])), "{said}");
    assert!(said.contains("would expire 1 of 3 snapshots"), "{said}");
    program.expect(0, &["prune"]);
    assert_eq!(program.listed(), [ids[0].clone(), ids[2].clone()]);

    // A damaged pin still pins.
    let pin = program.path(&format!("repo/pins/{}.json", ids[0]));
    std::fs::write(&pin, b"{").unwrap();
    program.expect(0, &["prune"]);
    assert_eq!(program.listed().len(), 2);

    program.expect(0, &["unpin", &ids[0]]);
    assert!(program.expect(0, &["unpin", &ids[0]]).contains("was not pinned"));
    program.expect(0, &["prune"]);
    assert_eq!(program.listed(), [ids[2].clone()]);
    program.refused(&["pin", "latest:nightly"], "no complete snapshot", "wirevault list");
}

#[test]
fn the_minimum_of_the_file_holds_against_rules_by_hand() {
    let (program, ids) = with_snapshots(3, "keep = { last = 3, minimum = 2 }");
    program.refused(&["prune", "--keep-last", "0"], "keep no snapshot", "--keep-last 1");
    let said = program.expect(0, &["prune", "--keep-last", "1"]);
    assert!(said.contains(&format!("keep   {}: minimum", ids[1])), "{said}");
    assert_eq!(program.listed(), ids[1..]);
}

#[test]
fn keep_rules_that_keep_nothing_are_refused() {
    let (program, _) = with_snapshots(0, "keep = { last = 0 }");
    program.refused(
        &["list"],
        "the keep rules of [job.full] keep no snapshot",
        "omit \"keep\"",
    );
}
