#![allow(clippy::unwrap_used)]

use std::time::Duration;

use toml::de::DeTable;

use super::*;
use crate::base::error::Result;

section! {
    /// A toy.
    struct Toy {
        /// How long.
        wait: Option<Duration> = Key::duration_from(60).example("\"5min\"").formerly("pause"),
        /// How many.
        count: u32 = Key::integer(1, 9).default("3").example("4"),
        /// Which.
        names: Vec<String> = Key::texts().example("[\"a\"]"),
        /// How large.
        size: Option<u64> = Key::size(1024, 1 << 20).example("\"8KiB\""),
        /// Within.
        inner: Option<Inner> = Key::table(Inner::KEYS),
    }
}

section! {
    /// What is within.
    struct Inner {
        /// Whether.
        on: bool = Key::flag(),
    }
}

fn read(text: &str) -> Result<Toy> {
    let document = DeTable::parse(text).unwrap();
    let table = Table {
        source: Source { file: "f", text },
        section: "[toy]".to_owned(),
        keys: document.get_ref(),
        start: 0,
    };
    known(&table, &[Toy::KEYS], &["more"])?;
    Toy::read(&table)
}

#[test]
fn one_declaration_is_a_struct_and_a_table() {
    let names: Vec<_> = Toy::KEYS.iter().map(|key| (key.name, key.help())).collect();
    assert_eq!(names.first(), Some(&("wait", "How long.")));
    assert_eq!(names.len(), 5);
    let toy = read("wait = \"2min\"\nsize = \"4KiB\"\ninner = { on = true }\nmore = 1").unwrap();
    assert_eq!(
        (toy.wait, toy.count, toy.size),
        (Some(Duration::from_secs(120)), 3, Some(4096))
    );
    assert!(toy.names.is_empty() && toy.inner.unwrap().on);
}

/// For one release, a key that got another name is read under both.
#[test]
fn an_old_name_is_read_and_never_beside_the_new_one() {
    assert_eq!(read("pause = \"1h\"").unwrap().wait, Some(Duration::from_secs(3600)));
    let error = read("wait = \"1h\"\npause = \"1h\"").unwrap_err();
    assert!(
        error
            .chain()
            .starts_with("f:2: [toy]: \"pause\" is the old name of \"wait\""),
        "{error:?}"
    );
    let error = read("pause = \"1s\"").unwrap_err();
    assert!(error.chain().contains("pause = \"1s\" is less than 1min"), "{error:?}");
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_an_example() {
    for (text, message, hint) in [
        ("\nwaitt = \"1h\"", "f:2: unknown key \"waitt\" in [toy]", "\"wait\""),
        (
            "\ncount = \"3\"",
            "f:2: [toy]: count must be a whole number, but is a string",
            "count = 4",
        ),
        ("count = 10", "f:1: [toy]: count 10 is not within 1 to 9", "from 1 to 9"),
        ("count = -1", "count -1 is not within", "from 1 to 9"),
        ("size = \"1B\"", "size 1B is not within 1KiB to 1MiB", "from 1KiB"),
        ("size = \"much\"", "f:1: [toy]: size: invalid size \"much\"", "256MiB"),
        (
            "wait = 5",
            "wait must be a duration in quotes, but is a whole number",
            "wait = \"5min\"",
        ),
        (
            "names = [1]",
            "names must be a list of strings, but is a list with other values than strings",
            "names = [\"a\"]",
        ),
        ("inner = 1", "inner must be a table, but is a whole number", "docs"),
        (
            "inner = { of = true }",
            "f:1: unknown key \"of\" in inner of [toy]",
            "\"on\"",
        ),
        (
            "inner = { on = 1 }",
            "f:1: inner of [toy]: on must be true or false",
            "on = true",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.chain().contains(message), "{text}: {error:?}");
        assert!(error.hint().unwrap().contains(hint), "{text}: {error:?}");
    }
}
