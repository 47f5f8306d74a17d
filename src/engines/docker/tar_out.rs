//! Entries of a stored volume as a tar for the archive API, as they are read: each byte's digest was checked before.

use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_tar::{Builder, EntryType, Header};
use tokio_util::io::StreamReader;

use super::helper::MOUNT;
use crate::archive::header;
use crate::archive::{ArchiveReader, EntryEvent, EntryKind, EntryMeta, EntryStream, Selection};
use crate::base::error::{Error, Result};
use crate::base::exact;
use crate::base::report::SharedReporter;
use crate::engines::docker::api::UnpackTar;
use crate::engines::files::patterns::Patterns;

/// What was sent.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sent {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// Reads every selected entry of a volume, which checks its digests; sends them where somebody takes them.
pub(super) async fn entries(
    reader: &ArchiveReader,
    stream: &str,
    paths: &Patterns,
    upload: Option<&UnpackTar>,
    (task, reporter): (&str, &SharedReporter),
) -> Result<Sent> {
    let prefix = format!("{stream}/").into_bytes();
    let selection = choose(reader, &prefix).await?;
    let mut stream = reader.entries(selection);
    let target: Box<dyn AsyncWrite + Send + Unpin> = match upload {
        Some(upload) => Box::new(upload.writer()),
        None => Box::new(tokio::io::sink()),
    };
    // A tar that is broken off must not look whole.
    let mut tar = Builder::new_non_terminated(target);
    let mut sent = Sent::default();
    while let Some(event) = stream.next().await? {
        let EntryEvent::Begin(meta) = event else { continue };
        let Some(meta) = turned(meta, &prefix, paths)? else {
            continue;
        };
        append(&mut tar, &meta, &mut stream, &mut |bytes| {
            sent.bytes += bytes;
            reporter.advance(task, bytes, 0);
        })
        .await?;
        sent.entries += 1;
        reporter.advance(task, 0, 1);
    }
    tar.into_inner().await?.flush().await?;
    Ok(sent)
}

/// Writes one entry, whose data come next in the stream.
async fn append(
    tar: &mut Builder<impl AsyncWrite + Send + Unpin>,
    meta: &EntryMeta,
    stream: &mut EntryStream,
    count: &mut (dyn FnMut(u64) + Send),
) -> Result<()> {
    begin(tar, meta).await?;
    let data = stream::try_unfold((stream, count), |(stream, count)| async move {
        match stream.next().await.map_err(std::io::Error::other)? {
            Some(EntryEvent::Data(data)) => {
                count(exact::u64_from(data.len()));
                Ok(Some((Bytes::from_owner(data), (stream, count))))
            }
            _ => Ok::<_, std::io::Error>(None),
        }
    });
    let data = StreamReader::new(Box::pin(data));
    Ok(tar.append(&fields(meta)?, data).await?)
}

/// Writes the pax records of an entry, if it needs some: the library writes none.
async fn begin(tar: &mut Builder<impl AsyncWrite + Send + Unpin>, meta: &EntryMeta) -> Result<()> {
    let records = header::records(meta)?;
    if records.is_empty() {
        return Ok(());
    }
    let mut of_records = EntryMeta::file(header::records_name(&meta.path), exact::u64_from(records.len()), (0, 0));
    of_records.mode = 0o600;
    let mut header = fields(&of_records)?;
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    Ok(tar.append(&header, records.as_slice()).await?)
}

/// Returns the header of an entry, as far as its fields reach: what is longer or larger stands in the pax records.
fn fields(meta: &EntryMeta) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(match meta.kind {
        EntryKind::File => EntryType::Regular,
        EntryKind::Directory => EntryType::Directory,
        EntryKind::Symlink => EntryType::Symlink,
        EntryKind::Hardlink => EntryType::Link,
        EntryKind::Fifo => EntryType::Fifo,
        EntryKind::CharDevice => EntryType::Char,
        EntryKind::BlockDevice => EntryType::Block,
    });
    header.set_mode(meta.mode & 0o7777);
    header.set_uid(u64::from(meta.uid).min(header::MAX_OCTAL_7));
    header.set_gid(u64::from(meta.gid).min(header::MAX_OCTAL_7));
    header.set_size(meta.size_bytes.min(header::MAX_OCTAL_11));
    header.set_mtime(exact::saturating_u64(meta.mtime.0).min(header::MAX_OCTAL_11));
    if let Some((major, minor)) = meta.device {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    // Not by set_path and set_link_name, which leave out parts of a path that mean nothing to them.
    let ustar = header.as_ustar_mut();
    let ustar = ustar.ok_or_else(|| Error::unsupported("the header of a tar member has an unknown form"))?;
    put(&mut ustar.name, &meta.path);
    put(&mut ustar.linkname, meta.link.as_deref().unwrap_or_default());
    header.set_cksum();
    Ok(header)
}

/// Writes the beginning of a text into a field.
fn put(field: &mut [u8], text: &[u8]) {
    field.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
}

/// Chooses the entries of one volume by the index, unless there are too many to name one by one.
async fn choose(reader: &ArchiveReader, prefix: &[u8]) -> Result<Selection> {
    let (mut chosen, mut bytes) = (Vec::new(), 0);
    reader
        .for_each_entry(&mut |entry| {
            if bytes <= 8 << 20 && entry.path.starts_with(prefix) {
                bytes += entry.path.len() + 128;
                chosen.push(entry);
            }
            Ok(())
        })
        .await?;
    Ok(if bytes > 8 << 20 {
        Selection::All
    } else {
        Selection::Entries(chosen)
    })
}

/// Turns an entry of the archive into a member below the helper's mount point; `None` for what is not selected.
fn turned(mut meta: EntryMeta, prefix: &[u8], paths: &Patterns) -> Result<Option<EntryMeta>> {
    let Some(path) = meta.path.strip_prefix(prefix) else {
        return Ok(None);
    };
    let is_dir = meta.kind == EntryKind::Directory;
    let bare = path.strip_suffix(b"/").unwrap_or(path);
    let selected = if bare.is_empty() {
        paths.includes().is_empty()
    } else {
        paths.selects(bare, is_dir)
    };
    if !selected {
        return Ok(None);
    }
    let inside = |path: &[u8]| [MOUNT.trim_start_matches('/').as_bytes(), b"/", path].concat();
    let new = inside(path);
    if meta.kind == EntryKind::Hardlink {
        let target = meta.link.as_deref().and_then(|link| link.strip_prefix(prefix));
        let target = target.ok_or_else(|| Error::corrupt("a hard link leads out of its volume"))?;
        if !paths.includes().is_empty() && !paths.selects(target, false) {
            return Err(Error::unsupported(format!(
                "\"{}\" is a hard link to \"{}\", which is not selected",
                path.escape_ascii(),
                target.escape_ascii()
            ))
            .with_hint("Select both paths. Nothing was changed."));
        }
        meta.link = Some(inside(target));
    }
    if meta.pax.contains_key("GNU.sparse.name") {
        meta.pax.insert("GNU.sparse.name".to_owned(), new.clone());
    }
    meta.path = new;
    Ok(Some(meta))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The header blocks of our own archives and those that the library writes say the same.
    #[tokio::test]
    async fn headers_say_what_the_entry_is() {
        let mut file = EntryMeta::file(
            [b"volume/".as_slice(), &[b'\xff'; 300]].concat(),
            1 << 40,
            (-2, 250_000_000),
        );
        (file.mode, file.uid, file.gid) = (0o4755, u32::MAX - 1, 3_000_000);
        file.pax.insert("SCHILY.xattr.user.x".to_owned(), b"\0\n=\xff".to_vec());
        let mut link = EntryMeta::file("volume/./a", 0, (1, 0));
        (link.kind, link.link) = (EntryKind::Symlink, Some(b"./../b//c/".to_vec()));
        let mut device = EntryMeta::file("volume/d", 0, (1, 0));
        (device.kind, device.device) = (EntryKind::CharDevice, Some((1, 3)));
        let mut directory = EntryMeta::file("volume/dir/", 0, (1, 0));
        directory.kind = EntryKind::Directory;
        for meta in [file, link, device, directory] {
            let mut tar = Builder::new_non_terminated(Vec::new());
            begin(&mut tar, &meta).await.unwrap();
            tar.append(&fields(&meta).unwrap(), tokio::io::empty()).await.unwrap();
            let mut bytes = Vec::new();
            bytes.append(tar.get_mut());
            assert_eq!(header::parse(&bytes).unwrap(), (meta, bytes.len()));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_refused() {
        for path in ["", "/a", "a/../b", "a//b"] {
            let meta = EntryMeta::file(path, 0, (0, 0));
            let mut tar = Builder::new_non_terminated(Vec::new());
            assert!(begin(&mut tar, &meta).await.is_err(), "{path:?}");
        }
    }
}
