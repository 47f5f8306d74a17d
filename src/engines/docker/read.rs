//! Volumes into the archive: through the mount point, or through the archive API.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::helper::{Helper, MOUNT};
use super::{Access, StoredVolume, note, tar_in, users};
use crate::archive::{EntryKind, EntryMeta, SequentialWriter};
use crate::base::blocking::blocking;
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::SharedReporter;
use crate::engines::Notes;
use crate::engines::docker::api::definition::{VolumeMount, volume_mounts};
use crate::engines::docker::api::{Engine, Listener, text};
use crate::engines::files::links::Links;
use crate::engines::files::patterns::Patterns;
use crate::engines::files::read::{Totals, TreeReader};
use crate::engines::files::walk::WalkOptions;
use crate::engines::files::{FilesOptions, TreeFacts, open_root, tree_facts};
use crate::engines::{files, own};

/// What reading the volumes of one source needs.
#[derive(Debug)]
pub(super) struct BackupSession<'a> {
    pub(super) engine: &'a Engine,
    pub(super) access: Access,
    pub(super) containers: &'a [Value],
    pub(super) notes: Arc<Notes>,
    pub(super) reporter: SharedReporter,
    pub(super) task: String,
    pub(super) cancel: CancellationToken,
    pub(super) spool_dir: PathBuf,
}

impl BackupSession<'_> {
    /// Reads one volume after another; the writer comes back for what follows them.
    pub(super) async fn volumes(
        &self,
        mut writer: SequentialWriter,
        volumes: &[Value],
        stored: &mut Vec<StoredVolume>,
    ) -> Result<SequentialWriter> {
        for volume in volumes {
            if self.cancel.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
            }
            let name = text(volume, "/Name");
            let act = || format!("read volume \"{name}\"");
            self.reporter.phase(&self.task, &format!("volume {name}"));
            let mount = mount_point(self.engine, volume, self.containers, self.access).await;
            let by_archive = mount.is_err();
            let (back, totals) = match mount {
                Ok(path) => self.at_mount_point(writer, name, path).await.with_context(act)?,
                Err(_) => self.through_archive(writer, name).await.with_context(act)?,
            };
            writer = back;
            stored.push(StoredVolume {
                name: name.to_owned(),
                bytes: totals.bytes,
                entries: totals.items,
                by_archive,
            });
        }
        Ok(writer)
    }

    async fn at_mount_point(
        &self,
        mut writer: SequentialWriter,
        name: &str,
        path: PathBuf,
    ) -> Result<(SequentialWriter, Totals)> {
        let stream = format!("volumes/{name}");
        let (notes, reporter, task, cancel, spool) = (
            Arc::clone(&self.notes),
            self.reporter.clone(),
            self.task.clone(),
            self.cancel.clone(),
            self.spool_dir.clone(),
        );
        blocking(move || {
            let root = open_root(&path)?;
            let options = FilesOptions {
                root: path,
                ..FilesOptions::default()
            };
            let facts = tree_facts(&options, &root, &notes)?;
            let prefix = format!("{stream}/").into_bytes();
            store_root(&mut writer, &prefix, &facts)?;
            if own::contains(&root) {
                let message = "is a repository or the spool directory of wirevault; its files are excluded";
                notes.add(note("left-out-own", &stream, message));
                files::finish_record(&mut writer, &stream, &facts, Totals::default())?;
                return Ok((writer, Totals::default()));
            }
            let mut reader = TreeReader {
                writer: &mut writer,
                notes: &notes,
                reporter: &reporter,
                task: &task,
                cancel: &cancel,
                links: Links::default(),
                totals: Totals::default(),
                prefix: &prefix,
                spool: &spool,
            };
            reader.run(root.as_fd(), &Patterns::new(&[], &[])?, WalkOptions::default())?;
            let totals = reader.totals;
            files::finish_record(&mut writer, &stream, &facts, totals)?;
            Ok((writer, totals))
        })
        .await
    }

    async fn through_archive(&self, writer: SequentialWriter, name: &str) -> Result<(SequentialWriter, Totals)> {
        let mut helper = None;
        let mut found = holder(self.containers, name);
        if let Some((container, _)) = &found
            && self.engine.container(container).await?.is_none()
        {
            // It was removed since the containers were listed.
            found = None;
        }
        let (container, place) = if let Some(found) = found {
            found
        } else {
            let made = helper.insert(Helper::create(self.engine, name, false).await?);
            (made.id.clone(), MOUNT.to_owned())
        };
        let read = self.read_archive(writer, name, container, place).await;
        if let Some(helper) = helper {
            helper.remove().await;
        }
        let read = read?;
        self.notes.add(note(
            "read-by-archive",
            name,
            "was read through the archive API: times are whole seconds, and of the extended attributes only file \
             capabilities are in the backup",
        ));
        Ok(read)
    }

    async fn read_archive(
        &self,
        mut writer: SequentialWriter,
        name: &str,
        container: String,
        place: String,
    ) -> Result<(SequentialWriter, Totals)> {
        let tree = tar_in::Tree {
            stream: format!("volumes/{name}"),
            notes: Arc::clone(&self.notes),
            reporter: self.reporter.clone(),
            task: self.task.clone(),
            cancel: self.cancel.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let engine = self.engine.clone();
        blocking(move || {
            let open = |below: &str| {
                let path = match below {
                    "" => place.clone(),
                    below => format!("{}/{below}", place.trim_end_matches('/')),
                };
                tree.runtime.block_on(engine.archive(&container, &path))
            };
            let totals = tree.store(&open, &mut writer)?;
            Ok((writer, totals))
        })
        .await
    }
}

/// Writes the entry of a volume's own directory, so that an empty volume unpacks too.
pub(super) fn store_root(writer: &mut SequentialWriter, prefix: &[u8], facts: &TreeFacts) -> Result<()> {
    let mut meta = EntryMeta::file(prefix, 0, facts.mtime);
    meta.kind = EntryKind::Directory;
    (meta.mode, meta.uid, meta.gid) = (facts.mode, facts.uid, facts.gid);
    meta.pax = facts.records()?;
    writer.begin_entry(&meta)?;
    writer.finish_entry(false)
}

/// Returns a container that has a volume and nothing mounted within it, and where.
fn holder(containers: &[Value], volume: &str) -> Option<(String, String)> {
    for container in users(containers, volume) {
        let mounts = volume_mounts(container);
        let all = container.get("Mounts").and_then(Value::as_array);
        let places: Vec<&str> = all
            .into_iter()
            .flatten()
            .map(|mount| text(mount, "/Destination"))
            .collect();
        let whole = |mount: &&VolumeMount| {
            let below = format!("{}/", mount.destination.trim_end_matches('/'));
            mount.volume == volume && !places.iter().any(|place| place.starts_with(&below))
        };
        if let Some(mount) = mounts.iter().find(whole) {
            return Some((text(container, "/Id").to_owned(), mount.destination.clone()));
        }
    }
    None
}

/// Returns where a volume lies on this host, if this process sees it; else why not.
pub(super) async fn mount_point(
    engine: &Engine,
    volume: &Value,
    containers: &[Value],
    access: Access,
) -> Result<PathBuf, String> {
    if access == Access::Archive {
        return Err("as configured".to_owned());
    }
    // A directory of that name here may be another one, and without a container nobody could say so.
    let listener = engine.listener().await;
    if let Listener::Between(what) = listener {
        return Err(format!("the engine is reached through {what}"));
    }
    let options = volume.get("Options").and_then(Value::as_object);
    if text(volume, "/Driver") != "local" || options.is_some_and(|options| !options.is_empty()) {
        // Such a volume is mounted only while a container that has it runs.
        return Err("it is not a plain local volume".to_owned());
    }
    let path = PathBuf::from(text(volume, "/Mountpoint"));
    let name = text(volume, "/Name").to_owned();
    let seen = seen(&path).await?;
    // Who is not seen may pass on what another host's engine says. Then only a container can tell that this directory is meant.
    let unproven = |why: &str| match listener {
        Listener::Unseen => Err(format!(
            "the process that listens on the engine's socket is unknown, and {why}"
        )),
        _ => Ok(path.clone()),
    };
    let Some((container, place)) = holder(containers, &name) else {
        return unproven("no container has the volume");
    };
    let mut before = seen;
    for _ in 0..LOOKS {
        let stat = match engine.archive_stat(&container, &place).await {
            Ok(stat) => stat,
            // It was removed since the containers were listed: there is nobody to ask.
            Err(error) if error.kind() == ErrorKind::NotFound => return unproven("its container is gone"),
            Err(error) => return Err(error.chain()),
        };
        let Ok(theirs) = stat.mtime.parse::<jiff::Timestamp>() else {
            return unproven("the engine does not report the directory's time");
        };
        // Files come and go in a busy one: what the engine saw lies between the two looks from here.
        let after = self::seen(&path).await?;
        if before.min(after) <= theirs && theirs <= before.max(after) {
            return Ok(path);
        }
        before = after;
    }
    Err(format!("\"{}\" here is another directory", path.display()))
}

/// Looks from both sides before two directories are taken for different ones: a time may be set back meanwhile.
const LOOKS: u32 = 5;

async fn seen(path: &Path) -> Result<jiff::Timestamp, String> {
    let path = path.to_owned();
    blocking(move || look(&path)).await.map_err(|error| error.chain())
}

fn look(path: &Path) -> Result<jiff::Timestamp> {
    // Whoever may list it may read it: an engine's volumes are root's.
    std::fs::read_dir(path).with_context(|| format!("open \"{}\"", path.display()))?;
    let modified = std::fs::metadata(path)?.modified()?;
    jiff::Timestamp::try_from(modified).map_err(|e| Error::corrupt("a time out of range").with_cause(e))
}
