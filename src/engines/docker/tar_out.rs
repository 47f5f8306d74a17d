//! Entries of a stored volume as a tar for the archive API, as they are read: each byte's digest was checked before.

use bytes::Bytes;

use super::helper::MOUNT;
use crate::archive::header;
use crate::archive::{ArchiveReader, EntryEvent, EntryKind, EntryMeta, Selection};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::report::SharedReporter;
use crate::engines::docker::api::UnpackTar;
use crate::engines::files::patterns::Patterns;

/// Longest piece that is sent at once, in bytes.
const PIECE: usize = 256 << 10;

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
    let (mut sent, mut padding, mut taken) = (Sent::default(), 0, false);
    while let Some(event) = stream.next().await? {
        let piece = match event {
            EntryEvent::Begin(meta) => {
                let Some(meta) = turned(meta, &prefix, paths)? else {
                    taken = false;
                    continue;
                };
                taken = true;
                padding = header::padding(meta.size_bytes);
                sent.entries += 1;
                vec![Bytes::from(header::encode(&meta)?)]
            }
            EntryEvent::Data(data) if taken => {
                let len = exact::u64_from(data.len());
                sent.bytes += len;
                reporter.advance(task, len, 0);
                match upload {
                    Some(_) => data.chunks(PIECE).map(Bytes::copy_from_slice).collect(),
                    None => Vec::new(),
                }
            }
            EntryEvent::End { .. } if taken => {
                reporter.advance(task, 0, 1);
                vec![Bytes::from_static(exact::part(
                    &ZEROS,
                    ..padding,
                    "padding is shorter than a block",
                ))]
            }
            _ => continue,
        };
        if let Some(upload) = upload {
            for piece in piece.into_iter().filter(|piece| !piece.is_empty()) {
                if upload.pieces.send(Ok(piece)).await.is_err() {
                    return Err(Error::new(ErrorKind::Unavailable, "the engine stopped reading the tar"));
                }
            }
        }
    }
    if let Some(upload) = upload {
        let _ = upload.pieces.send(Ok(Bytes::from_static(&ZEROS))).await;
    }
    Ok(sent)
}

static ZEROS: [u8; 1024] = [0; 1024];

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
                "\"{}\" is a further name of \"{}\", which is not selected",
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
