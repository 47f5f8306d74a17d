//! The declared keys of the configuration: each is read with its type and default, wrong in every way it is named with place and nearest
//! key, and the example, the schema, the reference page and the table of variables have each of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use wirevault::base::environment::VARIABLES;
use wirevault::base::keys::{Key, Kind};
use wirevault::config::keys::{Form, SECTIONS, SOURCES};
use wirevault::config::{self, Effective, pages};

use crate::support::program::Program;

/// Every key with the section in which it stands: its word, and the kind of a source.
fn all() -> Vec<(&'static str, Option<&'static str>, &'static Key)> {
    let mut found = Vec::new();
    for section in SECTIONS {
        found.extend(section.keys.iter().map(|key| (section.word, None, key)));
        if section.word == "source" {
            for kind in SOURCES {
                found.extend(kind.keys.iter().map(|key| (section.word, Some(kind.word), key)));
            }
        }
    }
    found
}

/// A line of the example that gives a key a value.
struct Line {
    /// Its number, from 0.
    at: usize,
    /// The section's header, without brackets; empty at the top.
    section: String,
    /// Of a source, its kind.
    kind: Option<String>,
    key: &'static Key,
}

/// The example without the marks of its comments. Its files are there, in a directory that lasts as long as this.
struct Example {
    files: tempfile::TempDir,
    lines: Vec<String>,
    keys: Vec<Line>,
}

impl Example {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let place = files.path().display().to_string();
        for (name, text) in [
            ("mail-url", "smtps://backup%40example.org@mail.example.org"),
            ("mail-password", "geheim"),
        ] {
            fs::write(files.path().join(name), text).unwrap();
        }
        let uncommented = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.replace("/etc/wirevault", &place),
            _ => line.to_owned(),
        };
        let lines: Vec<String> = pages::example().lines().map(uncommented).collect();
        let mut example = Self {
            files,
            lines,
            keys: Vec::new(),
        };
        let (mut section, mut kind) = (String::new(), None);
        for at in 0..example.lines.len() {
            let line = example.lines[at].clone();
            if let Some(header) = line.strip_prefix('[') {
                (section, kind) = (header.trim_end_matches(']').to_owned(), None);
            } else if let Some((name, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                if section.starts_with("source.") && name == "kind" {
                    kind = Some(value.trim_matches('"').to_owned());
                }
                let word = section.split('.').next().unwrap();
                let key = all().into_iter().find(|(of, of_kind, key)| {
                    *of == word && key.name == name && of_kind.is_none_or(|of_kind| kind.as_deref() == Some(of_kind))
                });
                let (_, _, key) = key.unwrap_or_else(|| panic!("{name} of [{section}] is no key"));
                example.keys.push(Line {
                    at,
                    section: section.clone(),
                    kind: kind.clone(),
                    key,
                });
            }
        }
        example
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The whole, with other lines in place of one.
    fn with(&self, line: &Line, instead: &str) -> String {
        let mut lines = self.lines.clone();
        instead.clone_into(&mut lines[line.at]);
        lines.join("\n")
    }
}

fn header(section: &str) -> String {
    if section.is_empty() {
        String::new()
    } else {
        format!("[{section}]")
    }
}

/// What stands behind the header of a section that has none, in messages.
fn within(section: &str) -> String {
    match section {
        "" => String::new(),
        section => format!(" in [{section}]"),
    }
}

/// What a misspelt key may look like: the last letter twice.
fn misspelt(name: &str) -> String {
    format!("{name}{}", name.chars().last().unwrap())
}

/// Refuses a text, with a message and a hint in which these stand.
#[track_caller]
fn refused(text: &str, message: &str, hint: &str) {
    let error = config::parse("wirevault.toml", text).expect_err(message);
    let said = error.chain();
    assert!(said.contains(message), "{message:?} is not in: {said}");
    let advice = error.hint().unwrap_or_else(|| panic!("no hint: {said}"));
    assert!(advice.contains(hint), "{hint:?} is not in: {advice} ({said})");
}

#[test]
fn every_key_has_help_and_an_example_of_its_own_kind() {
    let mut seen = BTreeSet::new();
    let mut keys = all();
    let inner: Vec<_> = keys
        .iter()
        .filter_map(|(word, kind, key)| Some((*word, *kind, key.name, key.kind.keys()?)))
        .flat_map(|(word, kind, _, keys)| keys.iter().map(move |key| (word, kind, key)))
        .collect();
    for (word, kind, key) in keys.drain(..) {
        assert!(
            seen.insert((word, kind, key.name)),
            "{} of {word} is declared twice",
            key.name
        );
        assert!(!key.example.is_empty() || key.kind.keys().is_some(), "{}", key.name);
    }
    for (_, _, key) in all().into_iter().chain(inner) {
        let help = key.help();
        assert!(help.ends_with('.') && help.len() < 140, "{}: {help}", key.name);
        assert!(!key.required || key.default.is_none(), "{}", key.name);
        if let Some(variable) = key.variable {
            let named = variable.strip_suffix("_FILE").unwrap_or(variable);
            let known = VARIABLES.iter().find(|known| known.name == named);
            assert!(
                known.is_some_and(|known| known.has_file || named == variable),
                "{variable}"
            );
        }
    }
}

/// Once the marks are gone it is a configuration: every key is in it, and what is read is what stands there.
#[test]
fn the_example_is_a_configuration_with_every_key() {
    let example = Example::new();
    let read = config::parse("wirevault.toml", &example.text()).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(
        (read.sources.len(), read.repositories.len(), read.notify.len()),
        (6, 2, 2)
    );
    assert_eq!(read.memory_limit_bytes, Some(512 << 20));
    let job = &read.jobs[0];
    assert_eq!((job.keep_in["far"].yearly, job.compression_level), (5, Some(3)));
    for (word, kind, key) in all() {
        let stands = example.keys.iter().any(|line| {
            let of = line.section.split('.').next().unwrap();
            of == word && line.key.name == key.name && (kind.is_none() || line.kind.as_deref() == kind)
        });
        assert!(stands, "{} of {word} {kind:?}", key.name);
    }

    let path = example.files.path().join("wirevault.toml");
    fs::write(&path, example.text()).unwrap();
    let effective = serde_json::to_value(Effective::of_file(&path).unwrap()).unwrap();
    for line in &example.keys {
        let held = held(&effective, &line.section, line.key.name);
        assert_eq!(held["line"], line.at + 1, "{} of [{}]", line.key.name, line.section);
        if line.key.secret {
            assert!(held["value"] == "***", "{held}");
        } else if !matches!(line.key.kind, Kind::Call) {
            let (_, value) = example.lines[line.at].split_once(" = ").unwrap();
            assert_eq!(held["value"], json_of(value), "{}", line.key.name);
        }
    }
    // Line by line it is one, too: what may stand behind a mark is whole.
    let commented = pages::example();
    config::parse("wirevault.toml", &commented).unwrap();
    assert!(commented.lines().all(|line| line.is_empty() || line.starts_with('#')));
}

fn json_of(value: &str) -> Value {
    let table: toml::Table = format!("value = {value}").parse().unwrap();
    serde_json::to_value(&table["value"]).unwrap()
}

fn held<'a>(effective: &'a Value, section: &str, key: &str) -> &'a Value {
    let sections = effective["sections"].as_array().unwrap();
    let section = sections.iter().find(|one| one["section"] == section).unwrap();
    let keys = section["keys"].as_array().unwrap();
    keys.iter()
        .find(|one| one["key"] == key)
        .unwrap_or_else(|| panic!("{key} of {section}"))
}

/// What a section needs alone: every other key has its default, or none.
#[test]
fn every_default_is_the_one_that_is_declared() {
    let place = tempfile::tempdir().unwrap();
    let text = "[repository]\nurl = \"s3://b\"\n[source.a]\nkind = \"postgres\"\nurl = \"postgres://db/x\"\n[source.b]\nkind = \"redis\"\nurl = \"redis://c\"\n\
                [source.c]\nkind = \"sqlite\"\npath = \"/a.db\"\n[source.d]\nkind = \"files\"\nroot = \"/etc\"\n[source.e]\nkind = \"docker\"\n\
                [job.full]\nsources = [\"d\"]\n[drill.x]\nschedule = \"0 1 * * *\"\n[notify.x]\nkind = \"ntfy\"\nurl = \"https://n.example\"\n\
                [cleanup.x]\nunused_for = \"1d\"\n";
    let path = place.path().join("wirevault.toml");
    fs::write(&path, text).unwrap();
    let effective = serde_json::to_value(Effective::of_file(&path).unwrap()).unwrap();
    let mut defaults = 0;
    for section in effective["sections"].as_array().unwrap() {
        for held in section["keys"].as_array().unwrap() {
            let (word, name) = (section["section"].as_str().unwrap(), held["key"].as_str().unwrap());
            let word = word.split('.').next().unwrap();
            let mut keys = all().into_iter().filter(|(of, _, key)| *of == word && key.name == name);
            if held["from"] == "default" {
                defaults += 1;
                assert!(
                    keys.any(|(_, _, key)| key.default.is_some_and(|text| json_of(text) == held["value"])),
                    "{held}"
                );
            }
        }
    }
    assert!(defaults > 50, "{defaults}");
    let read = config::read(&path).unwrap();
    let (job, drill, rule) = (&read.jobs[0], &read.drills[0], &read.cleanups[0]);
    assert_eq!((job.jitter.as_secs(), drill.level.as_str()), (0, "content"));
    assert_eq!(rule.timing.schedule, "30 4 * * *");
    assert_eq!(read.notify[0].on.len(), 3);
    let default = |word: &str, name: &str| {
        let (_, _, key) = all()
            .into_iter()
            .find(|(of, _, key)| *of == word && key.name == name)
            .unwrap();
        json_of(key.default.unwrap())
    };
    // Defaults of those that are filled in later.
    let limit = wirevault::base::memory::DEFAULT_LIMIT_BYTES;
    assert_eq!(
        wirevault::base::units::parse_bytes(default("", "memory_limit").as_str().unwrap()).unwrap(),
        limit
    );
    assert_eq!(
        default("source", "parallel"),
        wirevault::operations::options::DEFAULT_PARALLEL
    );
    let part = wirevault::storage::upload::UploadOptions::default().part_bytes;
    assert_eq!(
        wirevault::base::units::parse_bytes(default("repository", "part_size").as_str().unwrap()).unwrap(),
        part as u64
    );
}

#[test]
fn every_key_misspelt_is_named_with_its_line_and_the_right_one() {
    let example = Example::new();
    for line in &example.keys {
        let (name, number) = (line.key.name, line.at + 1);
        let wrong = misspelt(name);
        let text = example.lines[line.at].replacen(name, &wrong, 1);
        let message = format!(
            "wirevault.toml:{number}: unknown key \"{wrong}\"{}",
            within(&line.section)
        );
        refused(&example.with(line, &text), &message, &format!("\"{name}\""));
        // Alone in its section, and the keys of its tables.
        for inner in line.key.kind.keys().unwrap_or_default() {
            let (name, wrong) = (inner.name, misspelt(inner.name));
            let pair = format!("{wrong} = {}", inner.example);
            let text = match line.key.kind {
                Kind::Tables(_) => format!("{}.far = {{ {pair} }}", line.key.name),
                _ => format!("{} = {{ {pair} }}", line.key.name),
            };
            let message = format!("wirevault.toml:{number}: unknown key \"{wrong}\" in {}", line.key.name);
            refused(&example.with(line, &text), &message, &format!("\"{name}\""));
        }
    }
    for section in SECTIONS.iter().filter(|section| section.form != Form::Top) {
        let wrong = misspelt(section.word);
        let text = format!("[{wrong}.x]\na = 1\n");
        refused(
            &text,
            &format!("wirevault.toml:1: unknown key \"{wrong}\""),
            &format!("\"{}\"", section.word),
        );
    }
}

#[test]
fn every_key_that_stands_twice_is_named_with_its_line() {
    let example = Example::new();
    for line in &example.keys {
        let once = &example.lines[line.at];
        let message = format!(
            "wirevault.toml:{}: \"{}\" is set twice{}",
            line.at + 2,
            line.key.name,
            within(&line.section)
        );
        refused(
            &example.with(line, &format!("{once}\n{once}")),
            &message,
            "Remove one of the two lines.",
        );
        for inner in line.key.kind.keys().unwrap_or_default() {
            let pair = format!("{0} = {1}, {0} = {1}", inner.name, inner.example);
            let text = format!("{} = {{ {pair} }}", line.key.name);
            let message = format!("wirevault.toml:{}: \"{}\" is set twice", line.at + 1, inner.name);
            refused(&example.with(line, &text), &message, "Remove one");
        }
    }
    refused(
        "[job.a]\nsources = []\n[job.a]\n",
        "wirevault.toml:3: the section [job.a] is defined twice",
        "rename one",
    );
}

#[test]
fn every_key_of_another_type_is_named_with_its_line_and_an_example() {
    let example = Example::new();
    for line in &example.keys {
        let name = line.key.name;
        let section = header(&line.section);
        let place = format!("wirevault.toml:{}", line.at + 1);
        let is_list = matches!(
            line.key.kind,
            Kind::Texts | Kind::OneOrMore | Kind::Words(_) | Kind::Call
        );
        let texts = (!is_list).then_some("[\"x\"]");
        for value in ["1.5", "2026-11-28", "[[]]"].into_iter().chain(texts) {
            let text = example.with(line, &format!("{name} = {value}"));
            refused(&text, &place, name);
            let said = config::parse("wirevault.toml", &text).unwrap_err().chain();
            assert!(said.contains(&format!("{name} must be")), "{said}");
            assert!(!said.contains("other values") || value == "[[]]", "{said}");
            assert!(section.is_empty() || said.contains(&section), "{said}");
        }
        for inner in line.key.kind.keys().unwrap_or_default() {
            let pair = format!("{{ {} = 1.5 }}", inner.name);
            let text = match line.key.kind {
                Kind::Tables(_) => format!("{name} = {{ far = {pair} }}"),
                _ => format!("{name} = {pair}"),
            };
            refused(&example.with(line, &text), &place, inner.name);
        }
    }
    for section in SECTIONS.iter().filter(|section| section.form != Form::Top) {
        refused(
            &format!("{} = 1", section.word),
            &format!("wirevault.toml:1: \"{}\" is not a section", section.word),
            "above its keys",
        );
    }
}

/// Values that are of the right type and out of bounds.
fn outside(kind: &Kind) -> Vec<String> {
    match kind {
        Kind::Integer { min, max } => {
            let below = min
                .checked_sub(1)
                .map_or_else(|| "-1".to_owned(), |below| below.to_string());
            vec![below, (max + 1).to_string()]
        }
        Kind::Size { min, max: u64::MAX } => vec![format!("\"{}\"", min - 1), "\"99999999999TiB\"".to_owned()],
        Kind::Size { min, max } => vec![format!("\"{}\"", min - 1), format!("\"{}\"", max + 1)],
        Kind::Rate => vec!["\"0\"".to_owned(), "\"-1MiB/s\"".to_owned()],
        Kind::Duration { seconds: 0 } => vec!["\"-1s\"".to_owned(), "\"10\"".to_owned()],
        Kind::Duration { seconds } => vec![format!("\"{}s\"", seconds - 1)],
        Kind::Word(_) => vec!["\"no such word\"".to_owned()],
        Kind::Words(words) => vec![format!("[\"{}\", \"no such word\"]", words[0])],
        _ => Vec::new(),
    }
}

#[test]
fn every_value_out_of_its_bounds_is_named_with_its_line() {
    let example = Example::new();
    let mut tried = 0;
    for line in &example.keys {
        let name = line.key.name;
        for value in outside(&line.key.kind) {
            let text = example.with(line, &format!("{name} = {value}"));
            refused(&text, &format!("wirevault.toml:{}", line.at + 1), "");
            let said = config::parse("wirevault.toml", &text).unwrap_err().chain();
            assert!(said.contains(name), "{name}: {said}");
            tried += 1;
        }
        for inner in line.key.kind.keys().unwrap_or_default() {
            for value in outside(&inner.kind) {
                let text = format!("{name} = {{ {} = {value} }}", inner.name);
                let text = text.replace("keep_in = ", "keep_in.far = ");
                let text = example.with(line, &text);
                refused(&text, &format!("wirevault.toml:{}", line.at + 1), "");
                let said = config::parse("wirevault.toml", &text).unwrap_err().chain();
                assert!(said.contains(inner.name), "{said}");
                tried += 1;
            }
        }
    }
    assert!(tried > 60, "{tried}");
}

/// The program itself: one error, and neither a repository nor anything else comes into being.
#[test]
fn with_a_wrong_file_nothing_is_started() {
    let program = Program::bare();
    let file = |line: &str| {
        format!(
            "[repository]\nurl = \"file://{}\"\n[source.etc]\nkind = \"files\"\nroot = \"src\"\n[job.full]\nsources = [\"etc\"]\nschedule = \"@every 1s\"\n{line}\n",
            program.path("repo").display()
        )
    };
    fs::create_dir(program.path("src")).unwrap();
    for (line, message, hint) in [
        (
            "jiter = \"1s\"",
            "wirevault.toml:9: unknown key \"jiter\" in [job.full]",
            "\"jitter\"",
        ),
        (
            "schedule = \"0 2 * * *\"",
            "wirevault.toml:9: \"schedule\" is set twice in [job.full]",
            "Remove one",
        ),
        (
            "timeout = 6",
            "wirevault.toml:9: [job.full]: timeout must be a duration in quotes, but is a whole number",
            "timeout = \"6h\"",
        ),
        (
            "compression_level = 20",
            "wirevault.toml:9: [job.full]: compression_level 20 is not within 1 to 19",
            "1 to 19",
        ),
        (
            "ping = \"ftp://geheim@x\"",
            "wirevault.toml:9: [job.full]: ping",
            "http",
        ),
        (
            "keep = { last = 0 }",
            "wirevault.toml:9: the keep rules of [job.full] keep no snapshot",
            "above 0",
        ),
    ] {
        fs::write(program.path("wirevault.toml"), file(line)).unwrap();
        for verb in [
            &["backup"][..],
            &["run", "--listen", "off"],
            &["check"],
            &["list"],
            &["config"],
            &["prune"],
        ] {
            program.refused(verb, message, hint);
        }
        assert!(!program.path("repo").exists(), "{line}");
        assert_eq!(fs::read_dir(program.state.path()).unwrap().count(), 0, "{line}");
    }
}

#[test]
fn what_holds_is_printed_with_where_it_comes_from_and_no_secret() {
    let mut program = Program::bare();
    let text = "status_token = \"geheim\"\n[repository]\nurl = \"s3://b/app\"\naccess_key = \"geheim\"\nsecret_key = \"geheim\"\n\
                [source.app]\nkind = \"postgres\"\nurl = \"postgres://app:geheim@db/app?sslpassword=geheim\"\n\
                [job.full]\nsources = [\"app\"]\nping = { start = \"https://hc.example/geheim\" }\nbefore = [\"/bin/x\", \"--token=geheim\"]\nafter = \"https://h.example/geheim\"\n\
                [drill.x]\nschedule = \"0 1 * * *\"\nlevel = \"restored\"\ninto = [\"host=scratch user=u password=geheim\", \"redis://scratch?password=geheim\"]\n\
                [notify.x]\nkind = \"slack\"\nurl = \"https://hooks.example/geheim\"\n";
    fs::write(program.path("wirevault.toml"), text).unwrap();
    let said = program.expect(0, &["config"]);
    assert!(!said.contains("geheim"), "{said}");
    let again: toml::Table = said.parse().unwrap();
    assert_eq!(
        again["source"]["app"]["url"].as_str(),
        Some("postgres://app@db/app?sslpassword=***")
    );
    for line in [
        "[repository]",
        "url = \"s3://b/app\"                                           # line 3",
        "part_size = \"8MiB\"                                           # default",
        "before = [\"/bin/x\", \"***\"]                                   # line 12",
        "after = \"https://h.example/***\"                              # line 13",
    ] {
        assert!(said.contains(line), "{line} is not in:\n{said}");
    }
    let document = program.expect(0, &["config", "--json"]);
    assert!(!document.contains("geheim"), "{document}");

    // What the environment says is printed as a file.
    fs::remove_file(program.path("wirevault.toml")).unwrap();
    for (name, value) in [
        ("POSTGRES_HOST", "db"),
        ("POSTGRES_PASSWORD", "geheim"),
        ("DB_PATH", "/data/app.db"),
        ("BACKUP_PATHS", "/etc/app"),
        ("S3_BACKUP_BUCKET", "backups"),
        ("S3_ACCESS_KEY", "geheim"),
        ("S3_SECRET_KEY", "geheim"),
        ("BACKUP_PING_URL", "https://hc.example/geheim"),
        ("WIREVAULT_HOST", "web1"),
    ] {
        program.set(name, value);
    }
    let said = program.expect(0, &["config"]);
    assert!(!said.contains("geheim"), "{said}");
    let table: toml::Table = said.parse().unwrap();
    assert_eq!(table["repository"]["url"].as_str(), Some("s3://backups"));
    assert_eq!(table["job"]["full"]["keep"]["within_days"].as_integer(), Some(30));
    assert_eq!(table["source"].as_table().unwrap().len(), 3);
    assert!(said.contains("# environment") && said.contains("# default"));
    assert_eq!(table["host"].as_str(), Some("web1"));
    let file = program.path("from-environment.toml");
    fs::write(&file, said.replace("ping = { success = \"***\" }", "")).unwrap();
    assert_eq!(config::read(&file).unwrap().sources.len(), 3);
}

/// What is printed is a configuration: of a directory it has no keys of a bucket, names with dots are quoted, and a pattern is
/// not taken for a URL.
#[test]
fn what_holds_is_read_back() {
    let mut program = Program::bare();
    let text = "[repository]\nurl = \"file:///var/backups/app\"\n[source.\"web.example\"]\nkind = \"docker\"\n\
                volumes = [\"registry:5000/a@sha256\"]\nlabels = [\"a=b\"]\n[job.full]\nsources = [\"web.example\"]\n";
    fs::write(program.path("wirevault.toml"), text).unwrap();
    let said = program.expect(
        0,
        &[
            "config",
            "--host",
            "web2",
            "--memory-limit",
            "1GiB",
            "--spool-dir",
            "/spool",
        ],
    );
    for line in [
        "volumes = [\"registry:5000/a@sha256\"]",
        "labels = [\"a=b\"]",
        "host = \"web2\"                                                # command line",
        "memory_limit = \"1GiB\"                                        # command line",
        "spool_dir = \"/spool\"                                         # command line",
    ] {
        assert!(said.contains(line), "{line} is not in:\n{said}");
    }
    let file = program.path("again.toml");
    fs::write(&file, &said).unwrap();
    assert_eq!(config::read(&file).unwrap().sources[0].name, "web.example");
    program.set("WIREVAULT_HOST", "a b");
    program.refused(&["config"], "invalid name of a host", "");
    // Nothing is configured: the usual directory.
    fs::remove_file(program.path("wirevault.toml")).unwrap();
    program.set("WIREVAULT_HOST", "web1");
    program.set("DB_PATH", "/data/app.db");
    fs::write(&file, program.expect(0, &["config"])).unwrap();
    config::read(&file).unwrap();
}

/// An error names headers and keys, never what else stands on their lines.
#[test]
fn a_line_that_stands_twice_prints_no_secret() {
    let program = Program::bare();
    for text in [
        "[job.a] # geheim\nsources = []\nsources = []\n",
        "[job.a]\n[job.a] # geheim\n",
        "[job.a]\nbefore = [\"/bin/x\",\n[\"--token=geheim\"], { a = 1, a = 2 }]\n",
        "[job.\"geheim\"]\nsources = []\nsources = []\n",
    ] {
        fs::write(program.path("wirevault.toml"), text).unwrap();
        let output = program.run(&["config"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("twice") && !said.contains("geheim"), "{said}");
    }
}

#[test]
fn the_reference_page_is_the_one_of_these_keys() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference-configuration.md");
    let page = fs::read_to_string(page).unwrap_or_default();
    assert!(
        page == pages::reference(),
        "docs/reference-configuration.md is old; write it anew: cargo run -- config --reference > docs/reference-configuration.md"
    );
}

/// Every name in the source that is looked up in the environment has its line in the table.
#[test]
fn every_variable_has_its_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    crate::layers::rust_files(&root, &mut files);
    let looked_up = [
        "variable(\"",
        "process_environment(\"",
        "env.get(\"",
        "named(\"",
        "env = \"",
        "env::var(\"",
        "env::var_os(\"",
        "pick(\"",
    ];
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for call in looked_up {
            for (at, _) in code.match_indices(call) {
                let rest = &code[at + call.len()..];
                let name: String = rest.chars().take_while(|c| *c != '"').collect();
                let is_name = name
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
                // HOME and PATH are everybody's, the hooks of tests nobody's.
                if !is_name || ["HOME", "PATH"].contains(&name.as_str()) || name.starts_with("WIREVAULT_TEST_") {
                    continue;
                }
                seen += 1;
                let name = name.strip_suffix("_FILE").unwrap_or(&name);
                assert!(
                    VARIABLES.iter().any(|known| known.name == name),
                    "{name} in {}",
                    file.display()
                );
            }
        }
    }
    assert!(seen > 30, "{seen}");
    let mut names: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

/// What editors say of a file.
struct Schema {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    fn new() -> Self {
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("schema.json", pages::schema()).unwrap();
        let mut schemas = boon::Schemas::new();
        let index = compiler
            .compile("schema.json", &mut schemas)
            .unwrap_or_else(|error| panic!("{error:#}"));
        Self { schemas, index }
    }

    fn takes(&self, text: &str) -> Result<(), String> {
        let table: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
        let value = serde_json::to_value(table).unwrap();
        self.schemas
            .validate(&value, self.index)
            .map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn editors_take_what_the_program_takes() {
    let schema = Schema::new();
    assert_eq!(
        pages::schema()["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let example = Example::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = fs::read_to_string(root.join("packaging/wirevault.toml")).unwrap();
    let old = "[source.a]\nkind = \"docker-volumes\"\n[repository]\nurl = \"/b\"\nrequire_mountpoint = true\n";
    for text in [example.text(), shipped, String::new(), old.to_owned()] {
        schema.takes(&text).unwrap();
    }
    for page in ["README.md", "docs/operations.md", "docs/docker.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for fragment in text.split("```toml\n").skip(1) {
            let fragment = fragment.split("```").next().unwrap();
            // A fragment may leave out what a section needs.
            if config::parse("f", fragment).is_ok() {
                schema
                    .takes(fragment)
                    .unwrap_or_else(|error| panic!("{page}: {error}\n{fragment}"));
            }
        }
    }
}

#[test]
fn editors_refuse_what_the_program_refuses() {
    let schema = Schema::new();
    let example = Example::new();
    for line in &example.keys {
        let name = line.key.name;
        let mut wrong = vec![
            example.lines[line.at].replacen(name, &misspelt(name), 1),
            format!("{name} = 1.5"),
            format!("{name} = [[]]"),
        ];
        // Bounds of sizes and durations are not those of a pattern.
        if matches!(line.key.kind, Kind::Integer { .. } | Kind::Word(_) | Kind::Words(_)) {
            wrong.extend(
                outside(&line.key.kind)
                    .into_iter()
                    .map(|value| format!("{name} = {value}")),
            );
        }
        if line.key.required {
            wrong.push(String::new());
        }
        for text in wrong {
            assert!(
                schema.takes(&example.with(line, &text)).is_err(),
                "{text} in [{}]",
                line.section
            );
        }
    }
    for text in [
        "[jobs.x]\nsources = []",
        "[source.x]\nkind = \"files\"\nroot = \"/x\"\nurl = \"y\"",
        "job = 1",
        "[repository]\n",
    ] {
        assert!(schema.takes(text).is_err(), "{text}");
    }
}

/// What the patterns of the schema say of sizes and durations is what the program reads.
#[test]
fn patterns_read_as_the_program_reads() {
    let schema = Schema::new();
    for value in [
        "256MiB",
        "1.5 GiB",
        "20mb",
        "7",
        "8K",
        "",
        "MiB",
        "12 parsecs",
        "1..5MiB",
        "-1",
        "1.2345MiB",
        "5 m",
    ] {
        let text = format!("memory_limit = \"{value}\"");
        assert_eq!(
            schema.takes(&text).is_ok(),
            wirevault::base::units::parse_bytes(value).is_ok(),
            "{value}"
        );
    }
    for value in [
        "30s",
        "1h30m",
        "500ms",
        "2d",
        "10 min",
        "",
        "s",
        "10",
        "10 fortnights",
        "1h 30m",
        "1.5h",
    ] {
        let text = format!("[job.x]\nsources = [\"a\"]\ntimeout = \"{value}\"");
        assert_eq!(
            schema.takes(&text).is_ok(),
            wirevault::base::units::parse_duration(value).is_ok(),
            "{value}"
        );
    }
    for value in ["20MiB/s", "7", "1KB /s", "fast", "20MiB/h"] {
        let text = format!("[repository]\nurl = \"/b\"\nrate_limit = \"{value}\"");
        assert_eq!(
            schema.takes(&text).is_ok(),
            wirevault::base::units::parse_rate(value).is_ok(),
            "{value}"
        );
    }
}
