//! Tar header blocks: ustar, with pax records where ustar cannot say it. Pure functions from and to bytes.
//!
//! Specification: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>. Whatever is read is checked:
//! header checksum, number fields, pax record lengths, repeated keys, and names that climb.

use std::collections::BTreeMap;

use crate::archive::{EntryKind, EntryMeta};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;

/// Size of a tar block in bytes.
pub(crate) const BLOCK: usize = 512;

/// Largest value of an eleven-digit octal field.
pub(crate) const MAX_OCTAL_11: u64 = 0o777_7777_7777;
/// Largest value of a seven-digit octal field.
pub(crate) const MAX_OCTAL_7: u64 = 0o777_7777;

/// Returns how many zero bytes follow `len` data bytes.
pub(crate) fn padding(len: u64) -> usize {
    exact::usize_from((512 - len % 512) % 512)
}

fn type_flag(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::File => b'0',
        EntryKind::Hardlink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

fn kind_of(flag: u8) -> Option<EntryKind> {
    Some(match flag {
        b'0' | 0 => EntryKind::File,
        b'1' => EntryKind::Hardlink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        _ => return None,
    })
}

/// Checks a path: relative, no empty or `..` component, no NUL; one slash may end it.
pub(crate) fn check_path(path: &[u8]) -> Result<()> {
    // Directories end in one slash.
    let bare = path.strip_suffix(b"/").unwrap_or(path);
    let climbs = bare.split(|b| *b == b'/').any(|part| part == b".." || part.is_empty());
    if bare.is_empty() || climbs || path.contains(&0) {
        return Err(Error::invalid(format!(
            "entry path {:?} is empty, absolute or climbing",
            String::from_utf8_lossy(path)
        )));
    }
    Ok(())
}

/// Returns the pax records of an entry, one after another, for what the fields of its header cannot say. Refuses an entry that
/// cannot be written.
pub(crate) fn records(meta: &EntryMeta) -> Result<Vec<u8>> {
    check_path(&meta.path)?;
    if meta.mtime.1 >= 1_000_000_000 || (meta.kind != EntryKind::File && meta.size_bytes != 0) {
        return Err(Error::invalid(format!(
            "entry {:?} has impossible times or sizes",
            String::from_utf8_lossy(&meta.path)
        )));
    }
    if [meta.uid, meta.gid].contains(&u32::MAX) {
        return Err(Error::invalid(format!(
            "entry {:?} has no valid owner: 4294967295",
            String::from_utf8_lossy(&meta.path)
        )));
    }
    let link = meta.link.as_deref().unwrap_or_default();
    if link.contains(&0) {
        return Err(Error::invalid(format!(
            "link target of {:?} has a zero byte",
            String::from_utf8_lossy(&meta.path)
        )));
    }
    pax_records(meta, link)
}

/// Returns the name of the member that holds the pax records of a path.
pub(crate) fn records_name(path: &[u8]) -> String {
    format!("PaxHeaders/{:08x}", xxhash_rust::xxh3::xxh3_64(path) & 0xffff_ffff)
}

/// Writes the header blocks of an entry.
pub(crate) fn encode(meta: &EntryMeta) -> Result<Vec<u8>> {
    let records = records(meta)?;
    let mut out = Vec::with_capacity(1024);
    if !records.is_empty() {
        let size = exact::u64_from(records.len());
        let name = records_name(&meta.path);
        let fields = Fields {
            name: name.as_bytes(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            size,
            mtime: 0,
            flag: b'x',
            link: b"",
            device: (0, 0),
        };
        out.extend_from_slice(&fields.block());
        out.extend_from_slice(&records);
        out.resize(out.len() + padding(size), 0);
    }
    let seconds = exact::saturating_u64(meta.mtime.0).min(MAX_OCTAL_11);
    let fields = Fields {
        name: &meta.path,
        mode: u64::from(meta.mode & 0o7777),
        uid: u64::from(meta.uid).min(MAX_OCTAL_7),
        gid: u64::from(meta.gid).min(MAX_OCTAL_7),
        size: meta.size_bytes.min(MAX_OCTAL_11),
        mtime: seconds,
        flag: type_flag(meta.kind),
        link: meta.link.as_deref().unwrap_or_default(),
        device: meta.device.unwrap_or_default(),
    };
    out.extend_from_slice(&fields.block());
    Ok(out)
}

fn pax_records(meta: &EntryMeta, link: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    if std::str::from_utf8(&meta.path).is_err() || std::str::from_utf8(link).is_err() {
        record(&mut out, "hdrcharset", b"BINARY");
    }
    if meta.path.len() > 100 {
        record(&mut out, "path", &meta.path);
    }
    if link.len() > 100 {
        record(&mut out, "linkpath", link);
    }
    if meta.size_bytes > MAX_OCTAL_11 {
        record(&mut out, "size", meta.size_bytes.to_string().as_bytes());
    }
    for (key, value) in [("uid", meta.uid), ("gid", meta.gid)] {
        if u64::from(value) > MAX_OCTAL_7 {
            record(&mut out, key, value.to_string().as_bytes());
        }
    }
    let (seconds, nanos) = meta.mtime;
    if nanos != 0 || u64::try_from(seconds).is_ok_and(|s| s > MAX_OCTAL_11) || seconds < 0 {
        record(&mut out, "mtime", time_text(seconds, nanos).as_bytes());
    }
    for (key, value) in &meta.pax {
        let own = ["hdrcharset", "path", "linkpath", "size", "uid", "gid", "mtime"].contains(&key.as_str());
        if own || key.is_empty() || key.contains(['=', '\n', '\0']) {
            return Err(Error::invalid(format!(
                "pax key {key:?} cannot be written as a further record"
            )));
        }
        record(&mut out, key, value);
    }
    Ok(out)
}

/// Writes seconds and nanoseconds as a decimal; before the epoch the fraction counts downwards.
fn time_text(seconds: i64, nanos: u32) -> String {
    match (seconds < 0, nanos) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanos:09}"),
        (true, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}

fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

struct Fields<'a> {
    name: &'a [u8],
    mode: u64,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    flag: u8,
    link: &'a [u8],
    device: (u32, u32),
}

impl Fields<'_> {
    fn block(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        text(&mut out, self.name, 100);
        for value in [self.mode, self.uid, self.gid] {
            out.extend_from_slice(format!("{value:07o}\0").as_bytes());
        }
        for value in [self.size, self.mtime] {
            out.extend_from_slice(format!("{value:011o}\0").as_bytes());
        }
        out.extend_from_slice(b"        ");
        out.push(self.flag);
        text(&mut out, self.link, 100);
        out.extend_from_slice(b"ustar\x0000");
        out.resize(out.len() + 64, 0);
        for value in [self.device.0, self.device.1] {
            out.extend_from_slice(format!("{:07o}\0", u64::from(value).min(MAX_OCTAL_7)).as_bytes());
        }
        out.resize(BLOCK, 0);
        let sum: u64 = out.iter().map(|b| u64::from(*b)).sum();
        let digits = format!("{sum:06o}\0 ");
        out.splice(148..156, digits.bytes());
        out
    }
}

fn text(out: &mut Vec<u8>, value: &[u8], width: usize) {
    let end = out.len() + width;
    out.extend(value.iter().take(width));
    out.resize(end, 0);
}

/// Reads the header blocks at the start of `bytes`; returns the entry and the length of its header blocks.
pub(crate) fn parse(bytes: &[u8]) -> Result<(EntryMeta, usize)> {
    let mut pax = BTreeMap::new();
    let mut at = 0;
    let mut block = block_at(bytes, at)?;
    if block.get(156) == Some(&b'x') {
        let size = usize::try_from(number(block, 124, 12)?).map_err(|_| bad("pax header length"))?;
        let data = at
            .checked_add(BLOCK)
            .and_then(|from| bytes.get(from..from.checked_add(size)?))
            .ok_or_else(|| bad("pax header length"))?;
        pax = parse_records(data)?;
        at += BLOCK + size + padding(exact::u64_from(size));
        block = block_at(bytes, at)?;
    }
    let flag = block.get(156).copied().unwrap_or_default();
    let kind = kind_of(flag).ok_or_else(|| bad(&format!("entry type {:?}", char::from(flag))))?;
    let device = |from| u32::try_from(number(block, from, 8)?).map_err(|_| bad("device number"));
    let fields = EntryMeta {
        path: field(block, 0, 100).to_vec(),
        kind,
        size_bytes: number(block, 124, 12)?,
        mode: u32::try_from(number(block, 100, 8)?).map_err(|_| bad("mode"))? & 0o7777,
        uid: id("uid", number(block, 108, 8)?)?,
        gid: id("gid", number(block, 116, 8)?)?,
        mtime: (i64::try_from(number(block, 136, 12)?).map_err(|_| bad("mtime"))?, 0),
        link: matches!(kind, EntryKind::Symlink | EntryKind::Hardlink).then(|| field(block, 157, 100).to_vec()),
        device: match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => Some((device(329)?, device(337)?)),
            _ => None,
        },
        pax: BTreeMap::new(),
    };
    if kind != EntryKind::File && fields.size_bytes != 0 {
        return Err(bad("entry type with data"));
    }
    Ok((with_records(fields, pax)?, at + BLOCK))
}

/// Returns what an entry is: what the fields of its header say, where its pax records say nothing else. What neither may say
/// is refused.
pub(crate) fn with_records(fields: EntryMeta, mut pax: BTreeMap<String, Vec<u8>>) -> Result<EntryMeta> {
    let mut meta = fields;
    if let Some(path) = pax.remove("path") {
        meta.path = path;
    }
    if check_path(&meta.path).is_err() {
        return Err(bad("entry path"));
    }
    if let Some(size) = pax_number(&mut pax, "size")? {
        meta.size_bytes = size;
    }
    if meta.kind != EntryKind::File && meta.size_bytes != 0 {
        return Err(bad("entry type with data"));
    }
    for (key, owner) in [("uid", &mut meta.uid), ("gid", &mut meta.gid)] {
        if let Some(said) = pax_number(&mut pax, key)? {
            *owner = id(key, said)?;
        }
    }
    if let Some(value) = pax.remove("mtime") {
        meta.mtime = parse_time(&value)?;
    }
    if let Some(link) = &mut meta.link {
        if let Some(value) = pax.remove("linkpath") {
            *link = value;
        }
        if link.contains(&0) {
            return Err(bad("link target"));
        }
    }
    pax.remove("hdrcharset");
    meta.pax = pax;
    Ok(meta)
}

/// Returns the error of a header that cannot be read.
pub(crate) fn bad(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("tar header has a bad {what}"))
}

fn block_at(bytes: &[u8], at: usize) -> Result<&[u8; BLOCK]> {
    let block = bytes.get(at..).and_then(<[u8]>::first_chunk);
    let block = block.ok_or_else(|| bad("length"))?;
    if field(block, 257, 5) != b"ustar" {
        return Err(bad("magic"));
    }
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) })
        .sum();
    if number(block, 148, 8)? == sum {
        Ok(block)
    } else {
        Err(bad("checksum"))
    }
}

/// Returns a text field up to its first zero byte.
fn field(block: &[u8; BLOCK], from: usize, width: usize) -> &[u8] {
    let whole = exact::part(block, from..from + width, "every field lies within its block");
    whole.split(|b| *b == 0).next().unwrap_or_default()
}

fn number(block: &[u8; BLOCK], from: usize, width: usize) -> Result<u64> {
    let text = field(block, from, width).trim_ascii();
    let valid = !text.is_empty() && text.iter().all(|b| (b'0'..=b'7').contains(b));
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|_| valid)
        .ok_or_else(|| bad("number"))?;
    u64::from_str_radix(text, 8).map_err(|_| bad("number"))
}

fn pax_number(pax: &mut BTreeMap<String, Vec<u8>>, key: &str) -> Result<Option<u64>> {
    let Some(value) = pax.remove(key) else { return Ok(None) };
    std::str::from_utf8(&value)
        .ok()
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| bad(key))
}

/// Returns the number of an owner or group.
pub(crate) fn id(key: &str, said: u64) -> Result<u32> {
    // -1 tells chown to leave an owner as it is: what is restored would belong to whoever restores it.
    u32::try_from(said)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| bad(key))
}

fn parse_time(value: &[u8]) -> Result<(i64, u32)> {
    let text = std::str::from_utf8(value).map_err(|_| bad("mtime"))?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || fraction.len() > 9 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(bad("mtime"));
    }
    let seconds: i64 = whole.parse().map_err(|_| bad("mtime"))?;
    let nanos: u32 = format!("{fraction:0<9}").parse().map_err(|_| bad("mtime"))?;
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

fn parse_records(mut data: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut records = BTreeMap::new();
    while !data.is_empty() {
        let space = data.iter().position(|b| *b == b' ').ok_or_else(|| bad("pax record"))?;
        let length = data
            .get(..space)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| d.parse::<usize>().ok());
        let length = length.filter(|l| *l > space + 1).ok_or_else(|| bad("pax record"))?;
        let (record, rest) = data.split_at_checked(length).ok_or_else(|| bad("pax record"))?;
        let body = record
            .get(space + 1..)
            .and_then(|b| b.strip_suffix(b"\n"))
            .ok_or_else(|| bad("pax record"))?;
        let mut halves = body.splitn(2, |b| *b == b'=');
        let (Some(key), Some(value)) = (halves.next(), halves.next()) else {
            return Err(bad("pax record"));
        };
        let key = std::str::from_utf8(key).map_err(|_| bad("pax key"))?;
        if records.insert(key.to_owned(), value.to_vec()).is_some() {
            return Err(bad("pax key (repeated)"));
        }
        data = rest;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn headers_come_back_as_written() {
        let mut meta = EntryMeta::file("a/b.txt", 17, (1_700_000_000, 0));
        assert_eq!(encode(&meta).unwrap().len(), BLOCK);
        assert_eq!(parse(&encode(&meta).unwrap()).unwrap(), (meta.clone(), BLOCK));
        meta.path = [b"x\xff/".as_slice(), &[b'n'; 250]].concat();
        meta.mtime = (-2, 250_000_000);
        (meta.uid, meta.gid, meta.size_bytes) = (u32::MAX - 1, 3_000_000, 1 << 40);
        meta.pax.insert("SCHILY.xattr.user.x".into(), b"\0\n=\xff".to_vec());
        let bytes = encode(&meta).unwrap();
        assert_eq!(parse(&bytes).unwrap(), (meta.clone(), bytes.len()));
        (meta.kind, meta.size_bytes, meta.link) = (EntryKind::Symlink, 0, Some(vec![b'l'; 300]));
        let bytes = encode(&meta).unwrap();
        assert_eq!(parse(&bytes).unwrap(), (meta, bytes.len()));
    }

    /// The number that means "leave the owner as it is" to chown.
    #[test]
    fn an_owner_that_is_none_is_refused() {
        let mut meta = EntryMeta::file("a", 0, (1, 0));
        (meta.uid, meta.gid) = (u32::MAX - 1, u32::MAX - 1);
        let bytes = encode(&meta).unwrap();
        for key in ["uid", "gid"] {
            let (from, to) = (format!("{key}=4294967294"), format!("{key}=4294967295"));
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            let mut hostile = bytes.clone();
            hostile[at..at + to.len()].copy_from_slice(to.as_bytes());
            assert_eq!(parse(&hostile).unwrap_err().kind(), ErrorKind::Corrupt, "{key}");
        }
        meta.gid = u32::MAX;
        assert!(encode(&meta).is_err());
    }

    #[test]
    fn every_flipped_byte_of_a_plain_header_is_refused() {
        let bytes = encode(&EntryMeta::file("a", 17, (1, 0))).unwrap();
        for at in 0..BLOCK {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x01;
            assert!(parse(&damaged).is_err() || at >= 154, "byte {at}");
        }
    }

    #[test]
    fn climbing_paths_are_refused() {
        for path in ["", "/a", "a/../b", "..", "a//b", "a\0b"] {
            assert!(encode(&EntryMeta::file(path, 0, (0, 0))).is_err(), "{path:?}");
        }
    }
}
