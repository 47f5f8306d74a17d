//! Who may log in to a restored cluster as superuser: read from its own table of roles, because nobody can be asked before the login.
//!
//! What is found are candidates: the table may have dead rows, and roles that a record of the log changes later. The server decides.
//!
//! Formats: `src/include/{storage/bufpage.h,access/htup_details.h,utils/relmapper.h,catalog/pg_authid.h}`, little-endian machines.

use std::io::Read;
use std::path::Path;

use super::process::opened;

/// The OID of `pg_authid`, and of its file unless it was rewritten.
const AUTHID: u32 = 1260;

/// How the map of rewritten catalogs begins.
const MAP_MAGIC: u32 = 0x0059_2717;

/// Entries of that map, at most.
const MAP_ENTRIES: usize = 64;

/// Bytes of the table that are read, at most.
const TABLE_BYTES: u64 = 8 << 20;

/// Candidates that are tried, at most.
const MOST: usize = 16;

/// Bytes of a name.
const NAME_BYTES: usize = 64;

/// Returns names of superusers that may log in, and the usual one last. A table that cannot be read has none.
pub(super) fn superusers(data: &Path, page_bytes: usize) -> Vec<String> {
    let read = |name: String| {
        let mut bytes = Vec::new();
        let file = opened(&data.join("global").join(name)).ok()?;
        file.take(TABLE_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let map = read("pg_filenode.map".to_owned()).unwrap_or_default();
    let table = read(file_of(&map).unwrap_or(AUTHID).to_string()).unwrap_or_default();
    let mut found = Vec::new();
    for name in table
        .chunks_exact(page_bytes)
        .flat_map(|page| names(page).into_iter().flatten())
    {
        if found.len() < MOST && !found.contains(&name) {
            found.push(name);
        }
    }
    if !found.iter().any(|name| name == "postgres") {
        found.push("postgres".to_owned());
    }
    found
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .map(|four| u32::from_le_bytes(*four))
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    bytes
        .get(at..)?
        .first_chunk::<2>()
        .map(|two| usize::from(u16::from_le_bytes(*two)))
}

/// Returns the number of the table's file, by the map.
fn file_of(map: &[u8]) -> Option<u32> {
    if number(map, 0)? != MAP_MAGIC {
        return None;
    }
    let entries = (0..MAP_ENTRIES).map(|place| 8 + place * 8);
    entries
        .filter(|at| number(map, *at) == Some(AUTHID))
        .find_map(|at| number(map, at + 4))
}

/// Reads the rows of a page; none of one that is not as a server writes it.
fn names(page: &[u8]) -> Option<Vec<String>> {
    const HEADER: usize = 24;
    let lower = short(page, 12)?.min(page.len());
    let pointers = page.get(HEADER..lower)?.as_chunks::<4>().0;
    let rows = pointers.iter().filter_map(|pointer| {
        let pointer = u32::from_le_bytes(*pointer);
        let (from, is_used, bytes) = (pointer & 0x7fff, (pointer >> 15) & 3 == 1, pointer >> 17);
        let row = page.get(usize::try_from(from).ok()?..)?;
        name(row.get(..usize::try_from(bytes).ok()?).filter(|_| is_used)?)
    });
    Some(rows.collect())
}

/// Returns the name of a role that is a superuser and may log in.
fn name(row: &[u8]) -> Option<String> {
    let fields = row.get(usize::from(*row.get(22)?)..)?;
    let name = fields.get(4..4 + NAME_BYTES)?;
    // rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin
    let flags = fields.get(4 + NAME_BYTES..)?.first_chunk::<5>()?;
    let [1, _, _, _, 1] = flags else { return None };
    let name = name.split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::as_conversions, clippy::cast_possible_truncation)]
    use super::*;

    const PAGE: usize = 8192;

    fn row(name: &str, flags: [u8; 5]) -> Vec<u8> {
        let mut row = vec![0; 24];
        row[22] = 24;
        row.extend(10_u32.to_le_bytes());
        let mut field = name.as_bytes().to_vec();
        field.resize(NAME_BYTES, 0);
        row.extend(field);
        row.extend(flags);
        row
    }

    fn page(rows: &[Vec<u8>]) -> Vec<u8> {
        let (mut page, mut upper) = (vec![0; PAGE], PAGE);
        for (place, row) in rows.iter().enumerate() {
            upper -= row.len().next_multiple_of(8);
            page[upper..upper + row.len()].copy_from_slice(row);
            let pointer = upper as u32 | 1 << 15 | (row.len() as u32) << 17;
            page[24 + place * 4..28 + place * 4].copy_from_slice(&pointer.to_le_bytes());
        }
        let lower = (24 + rows.len() * 4) as u16;
        page[12..14].copy_from_slice(&lower.to_le_bytes());
        page
    }

    #[test]
    fn superusers_that_may_log_in_are_found_where_the_map_says() {
        let place = tempfile::tempdir().unwrap();
        let global = place.path().join("global");
        std::fs::create_dir(&global).unwrap();
        assert_eq!(superusers(place.path(), PAGE), ["postgres"]);
        let rows = [
            row("admin", [1, 1, 1, 1, 1]),
            row("app", [0, 1, 0, 0, 1]),
            row("owner", [1, 1, 0, 0, 0]),
            row("second", [1, 0, 0, 0, 1]),
        ];
        std::fs::write(global.join("1260"), page(&rows[..1])).unwrap();
        assert_eq!(superusers(place.path(), PAGE), ["admin", "postgres"]);
        let mut map = [MAP_MAGIC, 2, 1262, 1262, AUTHID, 16_500]
            .map(u32::to_le_bytes)
            .concat();
        map.resize(512, 0);
        std::fs::write(global.join("pg_filenode.map"), map).unwrap();
        std::fs::write(global.join("16500"), [page(&rows), vec![0; PAGE]].concat()).unwrap();
        assert_eq!(superusers(place.path(), PAGE), ["admin", "second", "postgres"]);
    }

    #[test]
    fn no_page_makes_it_panic() {
        let whole = page(&[row("admin", [1; 5])]);
        for at in 0..64 {
            let mut odd = whole.clone();
            odd[at] = 0xff;
            let _ = names(&odd);
            let _ = names(&odd[..at]);
        }
        assert!(name(&[0xff; 30]).is_none() && name(&[]).is_none());
    }
}
