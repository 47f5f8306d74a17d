//! Images as streams of unknown length: the tar that `docker save` would write, cut into chunks.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{StoredImage, note};
use crate::archive::{ArchiveReader, ChunkFacts, ChunkRef, StreamRecord};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::engines::docker::api::{Engine, TarBody, text};
use crate::engines::{BackupContext, Notes};

/// Stores the image of each container once. One whose name means another image by now is stored by its id.
pub(super) async fn store(
    engine: &Engine,
    containers: &[Value],
    context: &BackupContext,
    notes: &Notes,
) -> Result<Vec<StoredImage>> {
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for container in containers {
        let (name, id) = (text(container, "/Config/Image"), text(container, "/Image"));
        if !id.is_empty() {
            wanted.entry(name.to_owned()).or_insert_with(|| id.to_owned());
        }
    }
    let mut stored = Vec::new();
    for (number, (name, id)) in wanted.into_iter().enumerate() {
        let current = engine.image(&name).await?;
        let moved = current.as_ref().is_none_or(|image| text(image, "/Id") != id);
        if moved {
            notes.add(note(
                "image-moved",
                &name,
                "now refers to another image; the one its container runs is stored without the name",
            ));
        }
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        };
        let stream = format!(
            "images/{number:05}.{}",
            name.chars().map(plain).take(70).collect::<String>()
        );
        let tar = engine.save_image(if moved { &id } else { &name }).await?;
        let bytes = store_one(tar, &stream, context)
            .await
            .with_context(|| format!("store image \"{name}\""))?;
        stored.push(StoredImage {
            name,
            id,
            stream,
            bytes,
        });
    }
    Ok(stored)
}

async fn store_one(mut tar: TarBody, stream: &str, context: &BackupContext) -> Result<u64> {
    let (mut chunks, mut bytes, mut ended) = (0u32, 0u64, false);
    let mut piece = vec![0; 64 << 10];
    while !ended {
        let mut chunk = context.writer.chunk_buffer().await?;
        while chunk.room() > 0 {
            let space = exact::first_mut(&mut piece, chunk.room());
            let read = tokio::select! {
                biased;
                () = context.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
                read = tar.read(space) => read.map_err(Error::from),
            };
            let read = read?;
            if read == 0 {
                ended = true;
                break;
            }
            chunk.extend(exact::filled(&piece, read));
        }
        let len = exact::u64_from(chunk.data().len());
        if len == 0 && chunks > 0 {
            break;
        }
        bytes += len;
        context
            .writer
            .submit_chunk(stream, chunks, chunk, ChunkFacts::default())
            .await?;
        context.reporter.advance(&context.name, len, 0);
        chunks += 1;
    }
    context
        .writer
        .finish_stream(StreamRecord {
            stream: stream.to_owned(),
            prefixes: vec![stream.to_owned()],
            chunks: u64::from(chunks),
            bytes,
            rows: None,
            row_digest: None,
            facts: json!({ "kind": "image" }),
        })
        .await?;
    Ok(bytes)
}

/// Loads a stored image into an engine and returns its bytes. An engine takes an image only when its whole tar came.
pub(super) async fn load(engine: &Engine, reader: &ArchiveReader, image: &StoredImage) -> Result<u64> {
    let mut chunks: Vec<ChunkRef> = Vec::new();
    reader
        .for_each_chunk(&mut |prefix, chunk| {
            if prefix == image.stream {
                chunks.push(chunk);
            }
            Ok(())
        })
        .await?;
    chunks.sort_by_key(|chunk| chunk.number);
    let total: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
    if total != image.bytes {
        return Err(Error::corrupt(format!(
            "image \"{}\" has {total} bytes in the archive instead of {}",
            image.name, image.bytes
        )));
    }
    let upload = engine.load_image();
    let mut stream = reader.chunks(chunks);
    let sent = async {
        while let Some((_, data)) = stream.next().await? {
            for piece in data.chunks(256 << 10) {
                if upload
                    .pieces
                    .send(Ok(bytes::Bytes::copy_from_slice(piece)))
                    .await
                    .is_err()
                {
                    // The engine stopped reading; its answer says why.
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    let sent: Result<()> = sent.await;
    if let Err(error) = sent {
        let _ = upload.pieces.send(Err(Error::new(error.kind(), error.chain()))).await;
        let _ = upload.finish().await;
        return Err(error);
    }
    upload
        .finish()
        .await
        .with_context(|| format!("load image \"{}\"", image.name))?;
    Ok(total)
}
