//! The walk over RDBs of every shape, in pieces of every size, and over damaged ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::types::ValueType;
use super::walk::{KeyHeader, Sink, State, Walker};
use super::{Census, Counter, Crc64};
use crate::base::error::Result;

/// Keeps everything as text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Events(Vec<String>, Vec<u8>);

impl Sink for Events {
    fn key(&mut self, header: &KeyHeader, value: ValueType) -> Result<()> {
        let key = header.key.escape_ascii();
        self.0.push(format!(
            "{} {} {key} {:?} {:?} {:?}",
            header.database, value.name, header.expires_ms, header.idle_seconds, header.frequency
        ));
        Ok(())
    }
    fn value(&mut self, bytes: &[u8]) -> Result<()> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }
    fn value_end(&mut self) -> Result<()> {
        let value = std::mem::take(&mut self.1);
        self.0.push(value.escape_ascii().to_string());
        Ok(())
    }
    fn aux(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        self.0
            .push(format!("aux {} {}", name.escape_ascii(), value.escape_ascii()));
        Ok(())
    }
    fn function(&mut self, code: &[u8]) -> Result<()> {
        self.0.push(format!("function {}", code.escape_ascii()));
        Ok(())
    }
    fn module_data(&mut self, type_id: u64) -> Result<()> {
        self.0.push(format!("module {type_id:x}"));
        Ok(())
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend_from_slice(text);
    bytes
}

/// One value of each type, with the body it should come out with.
fn values() -> Vec<(u8, Vec<u8>)> {
    let s = |text: &str| string(text.as_bytes());
    let list: Vec<u8> = [vec![2], s("a"), s("bc")].concat();
    let text_scores: Vec<u8> = [vec![2], s("m"), vec![3], b"1.5".to_vec(), s("n"), vec![254]].concat();
    let zset: Vec<u8> = [vec![1], s("m"), vec![0; 8]].concat();
    let containers: Vec<u8> = [vec![2, 2], s("listpack"), vec![1], s("plain")].concat();
    let group = |version: u8| {
        let mut group = [s("g"), vec![5, 6]].concat();
        if version >= 2 {
            group.push(7);
        }
        group.extend([vec![1], vec![9; 24], vec![3]].concat());
        group.extend(
            [
                vec![1],
                s("c"),
                vec![0; if version >= 3 { 16 } else { 8 }],
                vec![1],
                vec![9; 16],
            ]
            .concat(),
        );
        group
    };
    let stream = |version: u8| {
        let lengths = vec![1; if version >= 2 { 8 } else { 3 }];
        [vec![1], string(&[7; 16]), s("lp"), lengths, vec![1], group(version)].concat()
    };
    let module: Vec<u8> = [
        vec![0x81],
        vec![1; 8],
        vec![2, 9, 1, 8, 3],
        vec![0; 4],
        vec![4],
        vec![0; 8],
        vec![5],
        s("x"),
        vec![0],
    ]
    .concat();
    let field_expiries: Vec<u8> = [vec![0; 8], vec![1, 0], s("f"), s("v")].concat();
    let stamped: Vec<u8> = [vec![0; 8], s("listpack")].concat();
    vec![
        (0, s("value")),
        (0, vec![0xc1, 1, 2]),
        (0, vec![0xc3, 5, 10, 0, b'a', 0xe0, 0, 0]),
        (0, vec![0]),
        (1, list),
        (2, vec![0]),
        (3, text_scores),
        (4, [vec![1], s("f"), s("v")].concat()),
        (5, zset),
        (7, module),
        (13, s("ziplist")),
        (15, stream(1)),
        (18, containers),
        (19, stream(2)),
        (21, stream(3)),
        (24, field_expiries),
        (25, stamped),
    ]
}

/// Values of the types that Redis writes since 8.6, with the elements that they hold.
fn young_values() -> Vec<(u8, Vec<u8>, &'static [&'static str])> {
    let s = |text: &str| string(text.as_bytes());
    // One entry: 1-1, a field "f" with the value "v".
    let node = [
        &[
            27, 0, 0, 0, 11, 0, 1, 1, 0, 1, 1, 1, 0x81, b'f', 2, 0, 1, 2, 1, 0, 1, 0, 1,
        ][..],
        &[0x81, b'v', 2, 3, 1, 0xff],
    ]
    .concat();
    let node = [&[u8::try_from(node.len()).unwrap(), 0, 0, 0][..], &node[4..]].concat();
    let entries = [
        &[1][..],
        &string(&[&1_u64.to_be_bytes()[..], &1_u64.to_be_bytes()].concat()),
        &string(&node),
    ]
    .concat();
    let facts = [1, 1, 1, 1, 1, 0, 0, 1];
    let id = [1_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat();
    let pending = [&[1][..], &id, &[9; 8], &[1]].concat();
    let consumer = [&[1][..], &s("c"), &[0; 16], &[1], &id].concat();
    let nobody = [&[1][..], &s("c"), &[0; 16], &[0]].concat();
    let group = |rest: &[&[u8]]| [&[1][..], &s("g"), &[1, 1, 1], &rest.concat()].concat();
    let producers = [&[50, 60, 1][..], &s("p"), &[1], &s("i"), &[1, 1, 1, 0]].concat();
    let fourth = [&entries[..], &facts, &group(&[&pending, &consumer]), &producers].concat();
    let fifth = [
        &entries[..],
        &facts,
        &group(&[&pending, &nobody, &[1], &id]),
        &producers,
    ]
    .concat();
    let array = [
        &[4, 1, 9, 0, 1][..],
        &[7; 8],
        &[1, 2],
        &[7; 8],
        &[2, 3],
        &s("ab"),
        &[3, 0],
        &s("long"),
    ]
    .concat();
    let names = [15, 0, 0, 0, 2, 0, 0x81, b'a', 2, 0x82, b'b', b'b', 3, 0xff];
    let names = [&[u8::try_from(names.len()).unwrap()][..], &names[1..]].concat();
    // The number of the template, 7, then the values.
    let values = [13, 0, 0, 0, 3, 0, 7, 1, 0x81, b'x', 2, 5, 1, 0xff];
    let values = [&[u8::try_from(values.len()).unwrap()][..], &values[1..]].concat();
    let raw = [&[1, 2][..], &s("a"), &s("bb")].concat();
    let hash: &[&str] = &["Field([97], [120], None)", "Field([98, 98], [53], None)"];
    vec![
        (
            26,
            fourth,
            &[
                "Entry(StreamId(1, 1), [[102], [118]])",
                "Owned(StreamId(1, 1))",
                "Producers(1)",
            ],
        ),
        (27, fifth, &["GivenBack(StreamId(1, 1))", "Producers(1)"]),
        (28, array, &["Array"]),
        (29, [&[0][..], &string(&names), &string(&values)].concat(), hash),
        (29, [&raw[..], &string(&values)].concat(), hash),
        (30, string(&values), hash),
        (31, [&[0][..], &string(&names), &s("x"), &[0xc0, 5]].concat(), hash),
        (31, [&raw[..], &s("x"), &s("5")].concat(), hash),
        (32, [&[7][..], &s("x"), &[0xc0, 5]].concat(), hash),
    ]
}

/// An RDB with a string, a template, metadata of modules, values of young types, and a string.
fn young_rdb(values: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let s = |text: &str| string(text.as_bytes());
    let mut bytes = [&b"REDIS0015"[..], &[254, 0, 0], &s("first"), &s("v")].concat();
    bytes.extend([&[242, 7, 2][..], &s("a"), &s("bb")].concat());
    for (number, (kind, value)) in values.iter().enumerate() {
        if number % 2 == 1 {
            bytes.extend([&[243, 2][..], b"SPEC", &[2, 9, 0], b"CEPS", &[5], &s("x"), &[0]].concat());
        }
        bytes.push(*kind);
        bytes.extend(string(format!("key{number}").as_bytes()));
        bytes.extend(value);
    }
    bytes.extend([&[0][..], &s("last"), &s("v"), &[255]].concat());
    let crc = Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

#[test]
fn young_types_are_walked_and_decoded() {
    let values: Vec<_> = young_values()
        .into_iter()
        .map(|(kind, value, _)| (kind, value))
        .collect();
    let bytes = young_rdb(&values);
    for piece in [1, 2, 3, 5, 8, 13, 31, 32, 33, 64, bytes.len()] {
        let (events, taken, state) = walk(&bytes, piece).unwrap();
        assert_eq!((taken, state), (bytes.len(), State::Done), "pieces of {piece}");
        for (number, (_, value)) in values.iter().enumerate() {
            assert_eq!(
                events[3 + 2 * number],
                value.escape_ascii().to_string(),
                "value {number}"
            );
        }
    }
    for piece in [1, 7, bytes.len()] {
        let all = decoded(&bytes, piece).unwrap();
        let mut at = 0;
        for (number, (_, _, elements)) in young_values().iter().enumerate() {
            for element in *elements {
                let found = all[at..].iter().position(|one| one == element);
                at += found.unwrap_or_else(|| panic!("{element} of value {number} is not in {all:?}"));
            }
        }
    }
    for (kind, value, _) in young_values() {
        // Values that refer to a template are whole within their RDB only.
        let alone = kind != 32;
        assert_eq!(
            super::walk::is_value(super::Flavour::Redis, kind, &value),
            alone,
            "{kind}"
        );
        for cut in 1..value.len() {
            assert!(
                !super::walk::is_value(super::Flavour::Redis, kind, &value[..cut]),
                "{kind} {cut}"
            );
        }
        let more = [&value[..], &[0]].concat();
        assert!(!super::walk::is_value(super::Flavour::Redis, kind, &more), "{kind}");
    }
    let meta = [&[243, 2][..], b"SPEC", &[2, 9, 0], b"CEPS", &[5], &string(b"x"), &[0]].concat();
    let with_type = [&meta[..], &[4]].concat();
    assert_eq!(super::walk::meta_at(&with_type).unwrap(), Some(meta.len()));
    for cut in 1..meta.len() {
        assert_eq!(super::walk::meta_at(&meta[..cut]).unwrap(), None, "{cut}");
    }
}

#[test]
fn a_young_value_of_another_form_is_not_believed_but_the_crc_is() {
    let odd: [(u8, Vec<u8>); 6] = [
        // Five bytes more than there should be, which begin a key.
        (26, vec![0; 20]),
        (26, vec![0; 14]),
        (28, vec![1, 0, 0, 9]),
        (29, vec![2]),
        (32, vec![9, 1, b'x']),
        (27, [&[0; 9][..], &[255; 30]].concat()),
    ];
    for (kind, value) in odd {
        let bytes = young_rdb(&[(0, string(b"v")), (kind, value.clone()), (0, string(b"w"))]);
        let mut damaged = bytes.clone();
        damaged[14] ^= 1;
        for piece in [1, 7, 64, bytes.len()] {
            for (bytes, right) in [(&bytes, true), (&damaged, false)] {
                let (mut walker, mut counter) = (Walker::new(), Counter::default());
                for piece in bytes.chunks(piece) {
                    let _ = walker.feed(piece, &mut counter).unwrap();
                    if walker.state() == State::Opaque {
                        walker.feed_opaque(piece);
                    }
                }
                let ended = walker.end(&mut counter);
                // A template is young too, and so is what stands behind it.
                assert!(
                    !right || walker.state() == State::Opaque,
                    "{kind} {value:?}, pieces of {piece}"
                );
                assert!(
                    !right || counter.finish().keys() == 1,
                    "{kind} {value:?}, pieces of {piece}"
                );
                assert_eq!(ended.is_ok(), right, "{kind} {value:?}, pieces of {piece}");
            }
        }
    }
    // Neither are metadata and templates of another form.
    for odd in [
        &[243, 1, 0, 0, 0, 0, 9][..],
        &[243, 0xc9],
        &[242, 1, 0],
        &[242, 1, 2, 0xff],
    ] {
        let mut bytes = [&b"REDIS0016"[..], &[0], &string(b"a"), &string(b"b"), odd, &[255]].concat();
        bytes.extend(Crc64::of(&bytes).to_le_bytes());
        for piece in [1, 5, bytes.len()] {
            let (mut walker, mut counter) = (Walker::new(), Counter::default());
            for piece in bytes.chunks(piece) {
                let _ = walker.feed(piece, &mut counter).unwrap();
                if walker.state() == State::Opaque {
                    walker.feed_opaque(piece);
                }
            }
            walker.end(&mut counter).unwrap();
            assert_eq!((walker.state(), walker.keys()), (State::Opaque, 1), "{odd:?}");
            assert_eq!(counter.finish().keys(), 1);
        }
    }
    // What a walk believed, another one believes and no more.
    let bytes = young_rdb(&[(26, vec![0; 20])]);
    let (mut walker, mut events) = (Walker::trusting(Some(1)), Events::default());
    walker.feed(&bytes, &mut events).unwrap();
    assert_eq!((walker.state(), events.0.len()), (State::Opaque, 2));
}

fn rdb(values: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"REDIS0012".to_vec();
    bytes.extend([vec![250], string(b"redis-ver"), string(b"8.0.6")].concat());
    bytes.extend([vec![250], string(b"ctime"), vec![0xc2, 1, 0, 0, 0]].concat());
    bytes.extend([vec![245], string(b"#!lua name=x")].concat());
    bytes.extend([254, 0, 251, 3, 1]);
    for (number, (kind, value)) in values.iter().enumerate() {
        match number % 4 {
            1 => bytes.extend([&[252][..], &1_700_000_000_000_i64.to_le_bytes()].concat()),
            2 => bytes.extend([248, 0x41, 0]),
            3 => bytes.extend([254, 3, 249, 7]),
            _ => {}
        }
        bytes.push(*kind);
        bytes.extend(string(format!("key{number}").as_bytes()));
        bytes.extend(value);
    }
    bytes.push(255);
    let crc = Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn walk(bytes: &[u8], piece: usize) -> Result<(Vec<String>, usize, State)> {
    let (mut walker, mut events, mut taken) = (Walker::new(), Events::default(), 0);
    for piece in bytes.chunks(piece) {
        taken += walker.feed(piece, &mut events)?;
    }
    Ok((events.0, taken, walker.state()))
}

#[test]
fn every_type_is_walked_in_pieces_of_any_size() {
    let (values, mut bytes) = (values(), rdb(&values()));
    let length = bytes.len();
    bytes.extend_from_slice(b"what follows");
    let (whole, taken, state) = walk(&bytes, bytes.len()).unwrap();
    assert_eq!((taken, state), (length, State::Done));
    assert_eq!(whole[0], "aux redis-ver 8.0.6");
    assert_eq!(whole[1], "aux ctime 1");
    assert_eq!(whole[2], "function #!lua name=x");
    assert_eq!(whole.len(), 3 + 2 * values.len());
    assert_eq!(whole[5], "0 string key1 Some(1700000000000) None None");
    assert_eq!(whole[7], "0 string key2 None Some(256) None");
    assert_eq!(whole[9], "3 string key3 None None Some(7)");
    for (number, (_, value)) in values.iter().enumerate() {
        assert_eq!(
            whole[4 + 2 * number],
            value.escape_ascii().to_string(),
            "value {number}"
        );
    }
    for piece in [1, 2, 3, 5, 8, 13, 31, 32, 33, 64, 100] {
        assert_eq!(
            walk(&bytes, piece).unwrap(),
            (whole.clone(), length, State::Done),
            "pieces of {piece}"
        );
    }
}

#[test]
fn data_of_modules_is_found_if_there_is_some() {
    let id = [&[0x81][..], &0x1234_u64.to_be_bytes()].concat();
    let some = [&[247][..], &id, &[2, 1, 1, 7, 5], &string(b"x"), &[0]].concat();
    let none = [&[247][..], &id, &[2, 2, 0]].concat();
    let mut bytes = [
        &b"REDIS0012"[..],
        &some,
        &none,
        &[254, 0, 0],
        &string(b"k"),
        &string(b"v"),
        &some,
        &[255],
    ]
    .concat();
    let crc = Crc64::of(&bytes);
    bytes.extend(crc.to_le_bytes());
    for piece in [1, 2, 3, 5, 8, 11, bytes.len()] {
        let (events, taken, state) = walk(&bytes, piece).unwrap();
        assert_eq!((taken, state), (bytes.len(), State::Done));
        let (first, last) = (events.first().unwrap(), events.last().unwrap());
        assert_eq!(
            (events.len(), first.as_str(), last.as_str()),
            (4, "module 1234", "module 1234")
        );
    }
}

#[test]
fn a_wrong_crc_and_a_cut_file_are_errors() {
    let bytes = rdb(&values());
    let mut wrong = bytes.clone();
    let at = wrong.len() - 3;
    wrong[at] ^= 1;
    for piece in [1, 7, wrong.len()] {
        assert!(walk(&wrong, piece).unwrap_err().chain().contains("CRC64"));
    }
    for length in 0..bytes.len() {
        let mut walker = Walker::new();
        walker.feed(&bytes[..length], &mut Events::default()).unwrap();
        assert!(walker.finish().unwrap_err().chain().contains("cut short"));
    }
    // A server with `rdbchecksum no` writes zeros.
    let mut none = bytes;
    let at = none.len() - 8;
    none[at..].fill(0);
    assert_eq!(walk(&none, 9).unwrap().2, State::Done);
}

#[test]
fn what_is_unknown_makes_it_opaque_and_the_crc_still_counts() {
    let bytes = rdb(&[(0, string(b"x")), (99, string(b"y"))]);
    for piece in [1, 3, 8, 9, bytes.len()] {
        for damage in [false, true] {
            let mut bytes = bytes.clone();
            if damage {
                let at = bytes.len() - 10;
                bytes[at] ^= 1;
            }
            let mut walker = Walker::new();
            for piece in bytes.chunks(piece) {
                walker.feed(piece, &mut Events::default()).unwrap();
                if walker.state() == State::Opaque {
                    walker.feed_opaque(piece);
                }
            }
            assert!(walker.unknown().unwrap().contains("99"));
            assert_eq!(walker.finish().is_err(), damage, "pieces of {piece}");
        }
    }
}

#[test]
fn forged_lengths_are_refused_at_once() {
    let with = |kind: u8, body: &[u8]| {
        let mut bytes = b"REDIS0011".to_vec();
        bytes.push(kind);
        bytes.extend(string(b"k"));
        bytes.extend(body);
        walk(&bytes, bytes.len())
    };
    let huge = [&[0x81][..], &(1_u64 << 63).to_be_bytes()].concat();
    assert!(with(0, &huge).is_err());
    // 2^63 pairs of strings do not fit into a count of strings.
    assert!(with(4, &huge).is_err());
    assert!(with(0, &[0xc3, 5, 0x81, 0, 0, 1, 0, 0, 0, 0, 0]).is_err());
    assert!(with(0, &[0x82]).is_err() && with(0, &[0xc4]).is_err() && with(7, &[1, 6]).is_err());
    assert!(walk(b"REDIS000x", 9).is_err() && walk(b"MEMCACHED", 9).is_err());
}

#[test]
fn the_census_counts_by_database_and_type() {
    let mut counter = Counter::default();
    Walker::new().feed(&rdb(&values()), &mut counter).unwrap();
    let census: Census = counter.finish();
    assert_eq!(census.keys(), u64::try_from(values().len()).unwrap());
    assert_eq!((census.functions, census.expiring()), (1, 4));
    assert_eq!(census.by_type()["string"], 4);
    assert_eq!(census.databases[&0].types["string"].keys, 3);
    assert_eq!(census.databases[&3].types["stream"].keys, 3);
    assert!(census.largest[0].bytes >= census.largest[15].bytes);
    assert_eq!(census.aux["redis-ver"], "8.0.6");
}

proptest! {
    #[test]
    fn damage_is_never_a_panic_and_splits_do_not_matter(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        piece in 1_usize..80,
    ) {
        let mut bytes = rdb(&values());
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let whole = walk(&bytes, bytes.len());
        let pieces = walk(&bytes, piece);
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
            prop_assert_eq!(whole.2, pieces.2);
            if whole.2 == State::Done {
                prop_assert_eq!(whole, pieces);
            }
        }
    }

    #[test]
    fn noise_is_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        let bytes = [b"REDIS0012".to_vec(), noise].concat();
        let _ = walk(&bytes, piece);
        let _ = super::lzf::decompress(&bytes, 1000);
    }
}

/// Writes every element as text; string values joined.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said(Vec<String>, Vec<u8>);

impl super::decode::Elements for Said {
    async fn element(&mut self, element: super::decode::Element<'_>) -> Result<()> {
        match element {
            super::decode::Element::Piece(bytes) => self.1.extend_from_slice(bytes),
            other => self.0.push(format!("{other:?}")),
        }
        Ok(())
    }
}

/// Decodes an RDB that comes in pieces of a size.
fn decoded(bytes: &[u8], size: usize) -> Result<Vec<String>> {
    let pieces: Vec<Vec<u8>> = bytes.chunks(size.max(1)).map(<[u8]>::to_vec).collect();
    let mut decoder = super::decode::Decoder::new(super::pull::InMemory(pieces.into_iter()), None);
    let mut all = Vec::new();
    let work = async {
        loop {
            match decoder.next().await? {
                super::decode::Next::End => return Ok(()),
                super::decode::Next::Function(code) => all.push(format!("function {}", code.escape_ascii())),
                super::decode::Next::Key(value) => {
                    let mut said = Said::default();
                    let result = decoder.value(value, &mut said).await;
                    all.push(format!("{} {:?}", value.name, decoder.header));
                    all.extend(said.0);
                    all.push(said.1.escape_ascii().to_string());
                    result?;
                }
            }
        }
    };
    // Nothing in it ever waits.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(work).map(|()| all)
}

/// An RDB of keys with the given type numbers and values.
fn of(values: &[(u8, &[u8])]) -> Vec<u8> {
    let mut rdb = b"REDIS0011".to_vec();
    for (number, value) in values {
        rdb.push(*number);
        rdb.extend_from_slice(b"\x01k");
        rdb.extend_from_slice(value);
    }
    rdb.push(255);
    rdb.extend_from_slice(&[0; 8]);
    rdb
}

#[test]
fn forged_lengths_and_bombs_do_not_fill_memory() {
    let huge = [&[0x81][..], &(1_u64 << 63).to_be_bytes()].concat();
    for number in [0, 1, 2, 3, 4, 5, 15, 16, 18, 19, 20, 21] {
        assert!(decoded(&of(&[(number, &huge)]), 1 << 20).is_err(), "{number}");
    }
    // References of 264 bytes to one byte before: 40 MiB of zeros out of 480 kB, as a string, and within a list where it
    // is longer than what is held.
    let raw = 40 << 20;
    let mut bomb = vec![0, 0];
    let mut left = raw - 1;
    while left >= 264 {
        bomb.extend([0xe0, 255, 0]);
        left -= 264;
    }
    bomb.extend([&[u8::try_from(left.min(32) - 1).unwrap()][..], &vec![0; left.min(32)]].concat());
    let raw = raw - (left - left.min(32));
    let length = |n: usize| [&[0x80][..], &u32::try_from(n).unwrap().to_be_bytes()].concat();
    let string = [&[0xc3][..], &length(bomb.len()), &length(raw), &bomb].concat();
    let pieces = decoded(&of(&[(0, &string)]), 4096).unwrap();
    assert!(pieces.iter().any(|text| text.starts_with("\\x00")));
    let list = [&[1][..], &string].concat();
    assert!(
        decoded(&of(&[(1, &list)]), 4096)
            .unwrap()
            .contains(&"TooLong".to_owned())
    );
}

#[test]
fn values_come_apart_whatever_the_pieces() {
    let listpack = [12, 0, 0, 0, 2, 0, 0x81, b'a', 2, 5, 1, 0xff];
    let packed = [&[12][..], &listpack].concat();
    let plain_and_packed = [&[2, 1, 1, b'x', 2, 12][..], &listpack].concat();
    let rdb = of(&[
        (0, b"\x05hello"),
        (0, b"\xc0\xff"),
        (20, &packed),
        (16, &packed),
        (17, &packed),
        (18, &plain_and_packed),
        (5, &[&[1, 1, b'm'][..], &1.5_f64.to_le_bytes()].concat()),
        (3, b"\x03\x01a\x031.5\x01b\xfe\x01c\xff"),
    ]);
    let whole = decoded(&rdb, 1 << 20).unwrap();
    assert!(whole.contains(&"hello".to_owned()) && whole.contains(&"-1".to_owned()));
    assert!(whole.contains(&"Field([97], [53], None)".to_owned()) && whole.contains(&"Member([97], 5.0)".to_owned()));
    assert!(whole.contains(&"Member([98], inf)".to_owned()), "{whole:?}");
    for size in 1..40 {
        assert_eq!(decoded(&rdb, size).unwrap(), whole, "{size}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn decoding_noise_is_never_a_panic(number in 0_u8..34, value in proptest::collection::vec(any::<u8>(), 0..300), size in 1_usize..64) {
        let rdb = of(&[(number, &value)]);
        let whole = decoded(&rdb, 1 << 20);
        let pieces = decoded(&rdb, size);
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
    }
}
