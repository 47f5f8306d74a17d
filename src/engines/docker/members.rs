//! Members of a tar that an engine sends, as entries of ours.
//!
//! The engine writes ustar with pax records (Go's `archive/tar`), and nothing else is taken: no extension of GNU, no binary
//! number. The library that reads it (`tokio_tar`) takes a tar that ends between two members for whole, reads extended
//! headers of any length, and keeps the last of two records of one name; here these are errors. It refuses a record
//! without a value, which other engines may write for an empty extended attribute.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio_tar::{Archive, ArchiveBuilder, Entries, Entry, EntryType};

use crate::archive::header::{self, BLOCK, bad};
use crate::archive::{EntryKind, EntryMeta};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::fence::{Fence, Fenced};

/// Extended header records of one member are at most this long, in bytes.
const MAX_RECORDS: u64 = 2 << 20;

/// Everything between the data of two members: padding, the header of the records, the records padded, the header.
const MAX_HEADERS: u64 = MAX_RECORDS + 4 * exact::u64_from(BLOCK);

/// Reads members from a tar. The calls block and must come from a blocking thread.
pub(super) struct Members<R: AsyncRead + Unpin> {
    tar: Archive<Fenced<R>>,
    entries: Entries<Fenced<R>>,
    present: Option<Entry<Archive<Fenced<R>>>>,
    /// Bytes of the present member that nobody has read.
    left: u64,
    fence: Arc<Fence>,
    runtime: Handle,
}

impl<R: AsyncRead + Unpin> Members<R> {
    pub(super) fn new(tar: R, runtime: Handle) -> Result<Self> {
        let fence = Fence::new("a member's extended header is too long");
        let fenced = Fenced::new(tar, Arc::clone(&fence), Error::from);
        let mut tar = ArchiveBuilder::new(fenced).set_pax_only(true).build();
        Ok(Self {
            entries: tar.entries().context("read the engine's tar")?,
            tar,
            present: None,
            left: 0,
            fence,
            runtime,
        })
    }

    /// Returns the next member; what was not read of the one before is skipped. `None` at the end of a whole tar.
    pub(super) fn next(&mut self) -> Result<Option<EntryMeta>> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            self.present = None;
            self.fence.allow(self.left.saturating_add(MAX_HEADERS));
            let entry = self.entries.next().await;
            self.fence.allow(u64::MAX);
            let Some(entry) = entry else {
                return self.end().await.map(|()| None);
            };
            let mut entry = entry.map_err(|error| self.failed(error))?;
            let meta = meta_of(&mut entry).await.context("read a member of the engine's tar")?;
            (self.present, self.left) = (Some(entry), meta.size_bytes);
            Ok(Some(meta))
        })
    }

    /// Reads data of the present member into a buffer; 0 only if the buffer is empty or the member was read.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let Some(present) = &mut self.present else {
            return Ok(0);
        };
        let read = self.runtime.block_on(present.read(into));
        let read = read.map_err(|error| self.failed(error))?;
        if read == 0 && self.left > 0 && !into.is_empty() {
            return Err(broken_off());
        }
        self.left = self.left.saturating_sub(exact::u64_from(read));
        Ok(read)
    }

    /// Reads what follows the last member: blocks of zeros, of which the library has seen one, or the stream broke off.
    async fn end(&mut self) -> Result<()> {
        if self.fence.has_ended() {
            return Err(broken_off());
        }
        let rest = tokio::io::copy(&mut self.tar, &mut tokio::io::sink()).await;
        rest.map(drop).map_err(|error| self.failed(error))
    }

    /// Returns why the library could not go on.
    fn failed(&self, error: std::io::Error) -> Error {
        match self.fence.failure() {
            Some(error) => error,
            None if self.fence.has_ended() => broken_off(),
            None => Error::corrupt("read a member of the engine's tar")
                .with_cause(error)
                .with_hint("Run where the volume's mount point is visible: then no tar of the engine is read."),
        }
    }
}

/// The error of a tar that ends before its end.
pub(super) fn broken_off() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine's tar was cut short").with_hint(
        "A file changed while the engine read it. List the containers that write to the volume in `quiesce`, or run \
         where the volume's mount point is visible.",
    )
}

async fn meta_of<R: AsyncRead + Unpin>(entry: &mut Entry<R>) -> Result<EntryMeta> {
    let mut records = BTreeMap::new();
    for record in entry.pax_extensions().await?.into_iter().flatten() {
        let record = record.map_err(|_| bad("pax record"))?;
        let key = record.key().map_err(|_| bad("pax key"))?;
        if records.insert(key.to_owned(), record.value_bytes().to_vec()).is_some() {
            return Err(bad("pax key (repeated)"));
        }
    }
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Regular => EntryKind::File,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink => EntryKind::Symlink,
        EntryType::Link => EntryKind::Hardlink,
        EntryType::Fifo => EntryKind::Fifo,
        EntryType::Char => EntryKind::CharDevice,
        EntryType::Block => EntryKind::BlockDevice,
        other => return Err(bad(&format!("entry type {other:?}"))),
    };
    let is_link = matches!(kind, EntryKind::Symlink | EntryKind::Hardlink);
    let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let fields = EntryMeta {
        path: header.path_bytes().into_owned(),
        kind,
        size_bytes: entry.effective_size(),
        mode: header.mode().map_err(|_| bad("mode"))? & 0o7777,
        uid: header::id("uid", header.uid().map_err(|_| bad("uid"))?)?,
        gid: header::id("gid", header.gid().map_err(|_| bad("gid"))?)?,
        mtime: (
            i64::try_from(header.mtime().map_err(|_| bad("mtime"))?).map_err(|_| bad("mtime"))?,
            0,
        ),
        link: is_link.then(|| header.link_name_bytes().unwrap_or_default().into_owned()),
        device: if is_device {
            let number = |part: std::io::Result<Option<u32>>| part.ok().flatten().ok_or_else(|| bad("device number"));
            Some((number(header.device_major())?, number(header.device_minor())?))
        } else {
            None
        },
        pax: BTreeMap::new(),
    };
    header::with_records(fields, records)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Calls from outside the runtime, as blocking threads make them.
    fn members(tar: &[u8]) -> (tokio::runtime::Runtime, Members<&[u8]>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let members = Members::new(tar, runtime.handle().clone()).unwrap();
        (runtime, members)
    }

    /// Reads a tar to its end.
    fn read(tar: &[u8]) -> Result<Vec<(EntryMeta, Vec<u8>)>> {
        let (_runtime, mut members) = members(tar);
        let mut all = Vec::new();
        while let Some(meta) = members.next()? {
            let (mut data, mut piece) = (Vec::new(), [0; 1000]);
            loop {
                match members.read(&mut piece)? {
                    0 => break,
                    read => data.extend_from_slice(&piece[..read]),
                }
            }
            all.push((meta, data));
        }
        Ok(all)
    }

    /// Writes members with the header blocks of our own archives.
    fn tar(members: &[(EntryMeta, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (meta, data) in members {
            out.extend(header::encode(meta).unwrap());
            out.extend(data);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.resize(out.len() + 2 * BLOCK, 0);
        out
    }

    /// One of each kind, with what only pax records can say.
    fn examples() -> Vec<(EntryMeta, Vec<u8>)> {
        let of = |path: &[u8], kind, size| {
            let mut meta = EntryMeta::file(path, size, (1_700_000_000, 0));
            meta.kind = kind;
            meta
        };
        let mut root = of(b"volume/", EntryKind::Directory, 0);
        (root.mode, root.uid, root.gid) = (0o2755, u32::MAX - 1, 3_000_000);
        let mut file = of(&[b"volume/", &[b'\xff'; 300][..]].concat(), EntryKind::File, 1300);
        file.mtime = (-2, 250_000_000);
        file.pax.insert("SCHILY.xattr.user.x".to_owned(), b"\0\n=\xff".to_vec());
        let mut symlink = of(b"volume/s", EntryKind::Symlink, 0);
        symlink.link = Some(vec![b'l'; 300]);
        let mut hard = of(b"volume/h", EntryKind::Hardlink, 0);
        hard.link = Some(b"volume/s".to_vec());
        let mut device = of(b"volume/d", EntryKind::BlockDevice, 0);
        device.device = Some((8, 17));
        let mut sparse = of(b"volume/sparse", EntryKind::File, 512);
        for (key, value) in [
            ("major", "1"),
            ("minor", "0"),
            ("realsize", "99"),
            ("name", "volume/sparse"),
        ] {
            sparse
                .pax
                .insert(format!("GNU.sparse.{key}"), value.as_bytes().to_vec());
        }
        vec![
            (root, Vec::new()),
            (file, vec![7; 1300]),
            (symlink, Vec::new()),
            (hard, Vec::new()),
            (device, Vec::new()),
            (of(b"volume/f", EntryKind::Fifo, 0), Vec::new()),
            (sparse, vec![b'\n'; 512]),
            (of(b"volume/last", EntryKind::File, 1), vec![1]),
        ]
    }

    /// One member whose header and records were changed after they were written.
    fn forged(meta: &EntryMeta, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = header::encode(meta).unwrap();
        let from = bytes.len() - BLOCK;
        change(&mut bytes[from..]);
        bytes[from + 148..from + 156].fill(b' ');
        let sum: u32 = bytes[from..].iter().map(|byte| u32::from(*byte)).sum();
        bytes[from + 148..from + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    #[test]
    fn members_come_out_as_they_were_written() {
        assert_eq!(read(&tar(&examples())).unwrap(), examples());
        // Whatever nobody reads is skipped.
        let bytes = tar(&examples());
        let (_runtime, mut members) = members(&bytes);
        let mut paths = Vec::new();
        while let Some(meta) = members.next().unwrap() {
            members.read(&mut [0; 3]).unwrap();
            paths.push(meta.path);
        }
        assert_eq!(paths.len(), examples().len());
    }

    #[test]
    fn a_name_that_was_cut_in_two_is_joined() {
        let bytes = forged(&EntryMeta::file("name", 0, (1, 0)), |block| {
            block[345..345 + 7].copy_from_slice(b"volume/");
            block[345 + 6] = 0;
        });
        assert_eq!(read(&bytes).unwrap()[0].0.path, b"volume/name");
    }

    #[test]
    fn a_tar_that_breaks_off_anywhere_is_not_whole() {
        let bytes = tar(&examples());
        let end = bytes.len() - 2 * BLOCK;
        for len in (0..=end).step_by(BLOCK / 2) {
            let error = read(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{len} bytes: {error:?}");
        }
        assert!(read(&bytes[..end + BLOCK]).is_ok());
    }

    #[test]
    fn forged_members_are_refused() {
        let plain = EntryMeta::file("volume/a", 0, (1, 0));
        let put = |at: usize, bytes: &'static [u8]| {
            forged(&plain, move |block| block[at..at + bytes.len()].copy_from_slice(bytes))
        };
        let cases = [
            ("no checksum", vec![b'x'; 2 * BLOCK]),
            ("a name that climbs", put(0, b"volume/../a")),
            ("an absolute name", put(0, b"/volume/a")),
            ("no name", put(0, b"\0")),
            ("a binary size", put(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x01")),
            ("a size that is no number", put(124, b"9999")),
            ("nobody as owner", put(108, b"\xff\xff\xff\xff\xff\xff\xff\xff")),
            ("a sparse file of GNU", put(156, b"S")),
            ("a long name of GNU", put(156, b"L")),
            ("records for all", put(156, b"g")),
            ("a directory with data", {
                forged(&plain, |block| {
                    block[156] = b'5';
                    block[124..135].copy_from_slice(b"00000000001");
                })
            }),
        ];
        for (what, bytes) in cases {
            let error = read(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
        }
    }

    #[test]
    fn forged_records_are_refused() {
        let records = |records: &[u8]| {
            let meta = EntryMeta::file("x", exact::u64_from(records.len()), (1, 0));
            let mut bytes = forged(&meta, |block| block[156] = b'x');
            bytes.truncate(BLOCK);
            bytes.extend_from_slice(records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
            bytes.extend(tar(&[(EntryMeta::file("volume/a", 0, (1, 0)), Vec::new())]));
            bytes
        };
        assert_eq!(read(&records(b"12 path=b/c\n")).unwrap()[0].0.path, b"b/c");
        for wrong in [
            &b"12 path=/bc\n"[..],
            b"14 path=b/../\n",
            b"8 path=b",
            b"99 path=b\n",
            b"10 path=b\n10 path=c\n",
            b"18 uid=4294967295\n",
            b"19 gid=99999999999\n",
            b"9 uid=-1\n",
            b"29 size=18446744073709551615\n",
            b"29 size=99999999999999999999\n",
            b"11 mtime=x\n",
            b"7 \xff\xff=x\n",
        ] {
            let error = read(&records(wrong)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}: {error:?}", wrong.escape_ascii());
        }
        // More than two MiB are not even read.
        let long = |head: &[u8], len| records(&[head, &vec![b'y'; len], b"\n"].concat());
        let error = read(&long(b"3000000 x=", 2_999_989)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
        assert_eq!(
            read(&long(b"2000000 x=", 1_999_989)).unwrap()[0].0.pax["x"].len(),
            1_999_989
        );
    }
}
