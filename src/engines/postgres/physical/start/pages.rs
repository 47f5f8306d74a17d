//! The checksums of all pages of a cluster that was stopped with a checkpoint, as `pg_checksums --check` reads them.

use std::fs::{DirEntry, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::control::Sizes;
use super::process::opened;
use crate::base::error::{Context, Error, Result};
use crate::base::exact;
use crate::engines::postgres::physical::stored::TABLESPACES;
use crate::engines::postgres::physical::wire::page::{first_block, is_plausible};
use crate::engines::postgres::wal::Lsn;

/// Bytes that are read at once: a multiple of every size of pages.
const PIECE_BYTES: usize = 256 << 10;

/// Damaged files that are named; more are counted.
const MOST: usize = 20;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// Pages that were read.
    pub(super) read: u64,
    /// Files with pages that no record of the log has written: they were stored so.
    pub(super) stored: Vec<String>,
    /// Files with pages that the log has written, or should have.
    pub(super) replayed: Vec<String>,
    /// Files that are not named.
    pub(super) more: u64,
}

/// Reads every relation below a data directory. `start` is where the base begins: what is older was not touched by the recovery.
pub(super) fn check(data: &Path, sizes: &Sizes, start: Lsn, is_cancelled: &dyn Fn() -> Result<()>) -> Result<Pages> {
    let mut pages = Pages::default();
    let mut each = |path: &Path, shown: String| {
        is_cancelled()?;
        file(path, &shown, sizes, start, &mut pages).with_context(|| format!("read \"{shown}\""))
    };
    relations(&data.join("global"), "global", &mut each)?;
    databases(&data.join("base"), "base", &mut each)?;
    let spaces = TABLESPACES.trim_end_matches('/');
    for space in entries(&data.join(spaces))? {
        let shown = format!("{spaces}/{}", space.file_name().display());
        for version in entries(&space.path())? {
            let name = version.file_name();
            if name.as_bytes().starts_with(b"PG_") {
                databases(&version.path(), &format!("{shown}/{}", name.display()), &mut each)?;
            }
        }
    }
    Ok(pages)
}

type Each<'a> = &'a mut dyn FnMut(&Path, String) -> Result<()>;

fn databases(directory: &Path, shown: &str, each: Each<'_>) -> Result<()> {
    for database in entries(directory)? {
        if database.file_type().is_ok_and(|kind| kind.is_dir()) {
            relations(
                &database.path(),
                &format!("{shown}/{}", database.file_name().display()),
                each,
            )?;
        }
    }
    Ok(())
}

fn relations(directory: &Path, shown: &str, each: Each<'_>) -> Result<()> {
    for entry in entries(directory)? {
        let name = entry.file_name();
        if segment_of(name.as_bytes()).is_some() {
            each(&entry.path(), format!("{shown}/{}", name.display()))?;
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<DirEntry>> {
    let act = || format!("look into \"{}\"", directory.display());
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(act)? {
        all.push(entry.with_context(act)?);
    }
    all.sort_by_key(DirEntry::file_name);
    Ok(all)
}

/// Returns the number of the segment of a relation that a name is: `1259`, `1259.2`, `1259_vm`, `1259_fsm.1`.
fn segment_of(name: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(name).ok()?;
    let is_number = |text: &str| !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    let (relation, segment) = match text.split_once('.') {
        Some((relation, segment)) => (relation, is_number(segment).then(|| segment.parse().ok())??),
        None => (text, 0),
    };
    let node = match relation.split_once('_') {
        Some((node, "fsm" | "vm" | "init")) => node,
        Some(_) => return None,
        None => relation,
    };
    is_number(node).then_some(segment)
}

fn file(path: &Path, shown: &str, sizes: &Sizes, start: Lsn, pages: &mut Pages) -> Result<()> {
    let name = path.file_name().map(OsStrExt::as_bytes);
    let page = exact::usize_from(sizes.page_bytes.into());
    let segment_bytes = u64::from(sizes.segment_pages) * u64::from(sizes.page_bytes);
    let first = name
        .and_then(segment_of)
        .and_then(|segment| first_block(segment, segment_bytes, sizes.page_bytes.into()));
    let mut block = first.ok_or_else(|| Error::corrupt("no relation has so many blocks"))?;
    let mut file = opened(path)?;
    let mut buffer = vec![0; PIECE_BYTES];
    let (mut stored, mut replayed, mut is_cut) = (Vec::new(), Vec::new(), false);
    loop {
        let len = fill(&mut file, &mut buffer)?;
        let piece = exact::filled(&buffer, len);
        let whole = piece.chunks_exact(page);
        is_cut |= !whole.remainder().is_empty();
        for bytes in whole {
            pages.read += 1;
            if !is_plausible(bytes, block, u64::MAX) {
                let is_older = !is_plausible(bytes, block, start.0);
                if is_older { &mut stored } else { &mut replayed }.push(block);
            }
            block = block.wrapping_add(1);
        }
        if len < PIECE_BYTES {
            break;
        }
    }
    let mut note = |blocks: &[u32], of_log: bool| {
        if let Some(said) = said(shown, blocks) {
            pages.note(said, of_log);
        }
    };
    note(&stored, false);
    note(&replayed, true);
    if is_cut {
        pages.note(format!("{shown}: ends within a page"), true);
    }
    Ok(())
}

impl Pages {
    fn note(&mut self, said: String, of_log: bool) {
        let list = if of_log { &mut self.replayed } else { &mut self.stored };
        if list.len() < MOST {
            list.push(said);
        } else {
            self.more += 1;
        }
    }
}

/// Says which blocks of a file are wrong.
fn said(file: &str, blocks: &[u32]) -> Option<String> {
    const SHOWN: usize = 8;
    let shown: Vec<String> = exact::first(blocks, SHOWN).iter().map(u32::to_string).collect();
    let word = if blocks.len() == 1 { "block" } else { "blocks" };
    let more = match blocks.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!blocks.is_empty()).then(|| format!("{file}: wrong page checksum in {word} {}{more}", shown.join(", ")))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        let rest = exact::part_mut(buffer, len.., "no more is read than there is room");
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pages_of_every_fork_are_read_and_told_apart_by_age() {
        let stored = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/pg_database.page.zst"));
        let good = zstd::decode_all(&stored[..]).unwrap();
        let lsn = u64::from(u32::from_le_bytes(good[..4].try_into().unwrap())) << 32
            | u64::from(u32::from_le_bytes(good[4..8].try_into().unwrap()));
        let mut bad = good.clone();
        bad[5000] ^= 1;
        let place = tempfile::tempdir().unwrap();
        for directory in ["global", "base/5", "pg_tblspc/9/PG_15_202209061/5", "pg_tblspc/9/other"] {
            std::fs::create_dir_all(place.path().join(directory)).unwrap();
        }
        let write = |name: &str, bytes: &[u8]| std::fs::write(place.path().join(name), bytes).unwrap();
        write("global/1260", &good);
        write("global/pg_control", &[1; 100]);
        write("base/5/PG_VERSION", b"15\n");
        write("base/5/1259_vm", &[0; 8192]);
        write("base/5/t3_1259", &bad);
        write("pg_tblspc/9/PG_15_202209061/5/16384", &bad);
        write("base/5/16384_fsm", &good[..100]);
        let sizes = Sizes {
            prepared: 0,
            locks: 64,
            page_bytes: 8192,
            segment_pages: 131_072,
        };
        let of = |start: u64| check(place.path(), &sizes, Lsn(start), &|| Ok(())).unwrap();
        let damaged = "pg_tblspc/9/PG_15_202209061/5/16384: wrong page checksum in block 0".to_owned();
        let cut = "base/5/16384_fsm: ends within a page".to_owned();
        let found = of(lsn + 1);
        assert_eq!(
            (found.read, &found.stored, &found.replayed),
            (3, &vec![damaged.clone()], &vec![cut.clone()])
        );
        let found = of(lsn);
        assert_eq!((found.stored, found.replayed), (vec![], vec![cut, damaged]));
        let cancelled = check(place.path(), &sizes, Lsn(0), &|| Err(Error::invalid("no")));
        assert!(cancelled.is_err());
    }

    #[test]
    fn names_of_relations_have_a_segment() {
        for (name, segment) in [
            ("1259", Some(0)),
            ("1259.12", Some(12)),
            ("1259_vm.1", Some(1)),
            ("1259_init", Some(0)),
            ("1259_x", None),
            ("t3_1259", None),
            ("1259.", None),
            ("pg_filenode.map", None),
        ] {
            assert_eq!(segment_of(name.as_bytes()), segment, "{name}");
        }
        assert_eq!(
            said("f", &(0..10).collect::<Vec<_>>()).unwrap().split("blocks ").nth(1),
            Some("0, 1, 2, 3, 4, 5, 6, 7 and 2 more")
        );
    }
}
