//! The examples that are shipped, and those in the pages, use names that the program knows.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use wirevault::cli::args::Cli;
use wirevault::config::{self, Environment};

fn shipped(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Reads a configuration out of variables; every one of them must have been asked for.
fn from_variables(variables: &[(String, String)]) -> config::Config {
    let asked = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        let found = variables.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };
    let read = config::from_environment(&Environment::new(&lookup)).unwrap();
    // The zone of the process, what the command line reads itself, and what a login to PostgreSQL does.
    for (name, _) in variables {
        let known = asked.borrow().contains(name)
            || ["TZ", "WIREVAULT_HOST", "WIREVAULT_LISTEN", "PGSSLMODE"].contains(&name.as_str());
        assert!(known, "nobody asks for {name}");
    }
    read
}

/// Lines of a block below a line, by their indentation.
fn block<'a>(text: &'a str, head: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| line.trim() != head);
    let depth = |line: &str| line.len() - line.trim_start().len();
    let base = depth(lines.next().unwrap_or_else(|| panic!("no {head}")));
    lines
        .take_while(|line| line.trim().is_empty() || depth(line) > base)
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect()
}

fn unquoted(text: &str) -> String {
    let text = text.trim().trim_matches('"');
    // What compose takes from .env.
    if text.starts_with("${") {
        "secret".to_owned()
    } else {
        text.to_owned()
    }
}

#[test]
fn the_compose_file_names_variables_that_are_read() {
    let text = shipped("packaging/compose.yaml");
    let service = block(&text, "wirevault:").join("\n");
    let variables: Vec<(String, String)> = block(&service, "environment:")
        .iter()
        .map(|line| line.trim().split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect();
    let read = from_variables(&variables);
    assert_eq!((read.sources.len(), read.jobs.len()), (2, 1));
    assert!(read.jobs[0].keep.is_some() && read.jobs[0].schedule.is_some());
}

#[test]
fn the_kubernetes_examples_can_be_read() {
    let text = shipped("packaging/kubernetes/cronjob.yaml");
    let mut variables: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- { name: ")?.strip_suffix(" }"))
        .filter_map(|inner| inner.split_once(", value: "))
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect();
    for secret in ["POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"] {
        assert!(text.contains(secret));
        variables.push((secret.to_owned(), "secret".to_owned()));
    }
    assert_eq!(from_variables(&variables).sources.len(), 1);

    let text = shipped("packaging/kubernetes/deployment.yaml");
    let token = tempfile::NamedTempFile::new().unwrap();
    let lines = block(&text, "wirevault.toml: |");
    let toml = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n");
    let toml = toml.replace(
        "/run/secrets/wirevault/status-token",
        &token.path().display().to_string(),
    );
    let read = config::parse("wirevault.toml", &toml).unwrap();
    assert_eq!((read.jobs.len(), read.drills.len()), (1, 1));
    for text in [shipped("packaging/kubernetes/cronjob.yaml"), text] {
        let arguments = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("args: ["))
            .unwrap();
        let words = arguments.trim_end_matches(']').split(", ").map(unquoted);
        Cli::try_parse_from(std::iter::once("wirevault".to_owned()).chain(words)).unwrap();
    }
}

#[test]
fn the_units_start_what_there_is() {
    for unit in ["wirevault.service", "wirevault-backup.service"] {
        let text = shipped(&format!("packaging/{unit}"));
        let mut commands = 0;
        for line in text.lines() {
            let Some(command) = line
                .strip_prefix("ExecStart=")
                .or_else(|| line.strip_prefix("ExecStartPost="))
            else {
                continue;
            };
            Cli::try_parse_from(command.split_whitespace())
                .unwrap_or_else(|error| panic!("{unit}: {command}: {error}"));
            commands += 1;
        }
        assert!(commands > 0, "{unit}");
    }
}

#[test]
fn the_example_configuration_is_one() {
    let secrets = tempfile::tempdir().unwrap();
    let toml =
        shipped("packaging/wirevault.toml").replace("/etc/wirevault/", &format!("{}/", secrets.path().display()));
    for name in toml
        .split('"')
        .filter(|word| word.starts_with(&secrets.path().display().to_string()))
    {
        std::fs::write(name, "secret\n").unwrap();
    }
    let read = config::parse("wirevault.toml", &toml).unwrap();
    assert_eq!((read.sources.len(), read.jobs.len(), read.drills.len()), (3, 1, 1));
    assert!(read.jobs[0].schedule.is_some() && read.jobs[0].keep.is_some());
}

/// The package is made of the program that is here, and looked at with Debian's own tools.
#[test]
fn the_package_has_what_a_host_needs() {
    let place = tempfile::tempdir().unwrap();
    let run = |program: &Path, arguments: &[&std::ffi::OsStr]| {
        let mut command = std::process::Command::new(program);
        let output = command.args(arguments).env("DEB_COMPRESSION", "none").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", program.display());
        String::from_utf8(output.stdout).unwrap()
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb.sh");
    let program = assert_cmd::cargo::cargo_bin("wirevault");
    run(&script, &[program.as_os_str(), place.path().as_os_str()]);
    let version = env!("CARGO_PKG_VERSION");
    let package = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .unwrap();
    let fields = run(Path::new("dpkg-deb"), &["-f".as_ref(), package.as_os_str()]);
    assert!(
        fields.contains("Package: wirevault\n") && fields.contains(&format!("Version: {version}\n")),
        "{fields}"
    );
    let root = place.path().join("root");
    run(
        Path::new("dpkg-deb"),
        &["-x".as_ref(), package.as_os_str(), root.as_os_str()],
    );
    for path in [
        "usr/bin/wirevault",
        "usr/lib/systemd/system/wirevault-backup.service",
        "usr/lib/systemd/system/wirevault-backup.timer",
        "usr/share/man/man1/wirevault.1.gz",
        "usr/share/man/man1/wirevault-restore.1.gz",
        "usr/share/man/man1/wirevault-cleanup.1.gz",
        "usr/share/bash-completion/completions/wirevault",
        "usr/share/zsh/vendor-completions/_wirevault",
        "usr/share/fish/vendor_completions.d/wirevault.fish",
        "usr/share/doc/wirevault/copyright",
        "usr/share/doc/wirevault/examples/wirevault.toml",
    ] {
        assert!(root.join(path).metadata().is_ok_and(|found| found.len() > 0), "{path}");
    }
    let unit = std::fs::read_to_string(root.join("usr/lib/systemd/system/wirevault.service")).unwrap();
    assert!(
        unit.contains("\nUser=wirevault\n") && unit.contains("\nExecStart=/usr/bin/wirevault run"),
        "{unit}"
    );
    run(&root.join("usr/bin/wirevault"), &["--version".as_ref()]);
}

/// Whatever else a fragment lacks, its keys, kinds and values are right.
#[test]
fn fragments_in_the_pages_have_the_right_keys() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = std::fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    pages.push(root.join("README.md"));
    let mut fragments = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for fragment in text.split("```toml\n").skip(1) {
            let fragment = fragment.split("```").next().unwrap();
            fragments += 1;
            let Err(error) = config::parse("wirevault.toml", fragment) else {
                continue;
            };
            let said = error.chain();
            let missing = [
                "which is not defined",
                "\"sources\" is missing",
                "no repository",
                "read \"/run",
            ];
            assert!(
                missing.iter().any(|lack| said.contains(lack)),
                "{}: {said}\n{fragment}",
                page.display()
            );
        }
    }
    assert!(fragments >= 6, "{fragments}");
}
