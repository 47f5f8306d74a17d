//! Level `content`: every frame is decoded and every entry parsed, and what a restore would refuse is refused here.

use crate::archive::reader::Selection;
use crate::archive::{ArchiveReader, EntryEvent};
use crate::base::error::{Context, Error, Result};
use crate::engines::docker::restore as docker;
use crate::engines::files::judge::Judge;
use crate::engines::sqlite::restore as sqlite;
use crate::engines::{files, postgres, redis};
use crate::operations::Session;
use crate::operations::snapshots::open_reader;
use crate::repository::{ManifestSource, Repository};

/// A tree of an archive, for people, by its stream, and where its entries lie.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: String,
    pub(super) stream: String,
    pub(super) prefix: Vec<u8>,
}

/// Returns the trees of a source; none if it is of another kind.
pub(super) async fn trees(reader: &ArchiveReader, source: &ManifestSource) -> Result<Vec<Tree>> {
    match source.kind.as_str() {
        "files" => Ok(vec![Tree {
            name: source.name.clone(),
            stream: files::STREAM.to_owned(),
            prefix: Vec::new(),
        }]),
        "docker" => {
            let contents = docker::contents(reader).await?;
            let tree = |volume: &crate::engines::docker::StoredVolume| Tree {
                name: format!("volume {}", volume.name),
                stream: volume.stream(),
                prefix: format!("{}/", volume.stream()).into_bytes(),
            };
            Ok(contents.volumes.iter().map(tree).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Proves the content of a source. Returns why it is not proven, if that is no damage: there is something in it that this
/// version could not bring back.
pub(super) async fn prove(
    session: &Session,
    repository: &Repository,
    source: &ManifestSource,
) -> Result<Option<String>> {
    let act = || format!("read source \"{}\"", source.name);
    let reader = open_reader(session, repository.store(), source).await?;
    // A restore reads what streams say of themselves, so that must be readable and said once.
    session.or_cancelled(reader.streams()).await.with_context(act)?;
    let mut judges = Vec::new();
    for tree in trees(&reader, source).await.with_context(act)? {
        let judge = Judge::open(&reader, &tree.stream, tree.prefix).await;
        judges.push(judge.with_context(|| format!("read {} of source \"{}\"", tree.name, source.name))?);
    }
    read_everything(session, &reader, source, &mut judges).await?;
    match source.kind.as_str() {
        "redis" => return rdb(session, &reader).await.with_context(act),
        "sqlite" => sqlite::judge(&reader).await.with_context(act)?,
        "postgres" => {
            postgres::judge(&reader).await.with_context(act)?;
            // A restore refuses statements that this program does not write.
            session
                .or_cancelled(postgres::examine(&reader))
                .await
                .with_context(act)?;
        }
        "docker" => docker::definitions(&reader).await.map(drop).with_context(act)?,
        _ => {}
    }
    Ok(None)
}

/// Decodes every frame and parses every entry; the reader compares digests as it goes.
async fn read_everything(
    session: &Session,
    reader: &ArchiveReader,
    source: &ManifestSource,
    judges: &mut [Judge],
) -> Result<()> {
    let mut entries = reader.entries(Selection::All);
    let mut path = Vec::new();
    loop {
        let act = |path: &[u8]| {
            format!(
                "read source \"{}\" at entry \"{}\"",
                source.name,
                String::from_utf8_lossy(path)
            )
        };
        let event = session.or_cancelled(entries.next()).await;
        match event.with_context(|| act(&path))? {
            None => return Ok(()),
            Some(EntryEvent::Begin(meta)) => {
                path.clone_from(&meta.path);
                for judge in &mut *judges {
                    judge.begin(&meta, reader).await.with_context(|| act(&path))?;
                }
            }
            Some(EntryEvent::Data(data)) => {
                for judge in &mut *judges {
                    judge.data(&data).with_context(|| act(&path))?;
                }
            }
            Some(EntryEvent::End { .. }) => {
                for judge in &mut *judges {
                    judge.end().with_context(|| act(&path))?;
                }
            }
        }
    }
}

/// Walks every key of the stored RDBs, compares their CRC64, and decodes each value.
async fn rdb(session: &Session, reader: &ArchiveReader) -> Result<Option<String>> {
    redis::stored::verify(reader, &session.cancel).await?;
    let rdbs = redis::stored::server_rdbs(reader).await?;
    let mut in_part = rdbs.iter().filter(|rdb| !rdb.is_whole());
    if let Some(unknown) = in_part.find_map(|rdb| rdb.facts.unknown.as_ref()) {
        return Ok(Some(format!(
            "its RDB holds {unknown}, so it goes back as a file only (--into file:dump.rdb), to a server of its own version"
        )));
    }
    let decoded = redis::decode_all(reader, &session.cancel).await?;
    let counted: u64 = rdbs.iter().map(|rdb| rdb.facts.census.keys()).sum();
    if decoded != counted {
        return Err(Error::corrupt(format!("{decoded} of {counted} keys were decoded")));
    }
    Ok(None)
}
