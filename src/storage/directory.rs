//! A directory as a store, with the promises of an object store: no torn object, durable on return.
//!
//! An object is written to a temporary file in `.uploads/`, synced, and renamed (or linked, where it must not replace
//! one); then the directories of its name are synced. A multipart upload is one temporary file that parts are written into at their
//! offsets, since all parts but the last have one size; completing it is a rename. Files are 0600, directories 0700.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    Readiness, UploadId,
};

/// Where temporary files lie; no object key can name it, since listings leave it out and keys never start with it.
const UPLOADS: &str = ".uploads";

/// Objects per listing page.
const PAGE: usize = 1000;

/// A directory of objects. Cheap to clone; all work happens on blocking threads.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    root: Arc<PathBuf>,
    ids: Arc<AtomicU64>,
}

impl DirectoryStore {
    /// Opens the directory. One that is not there is made by the first write: whoever only looks leaves nothing behind.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        if root.exists() {
            make_dir(&root).with_context(|| format!("open repository directory \"{}\"", root.display()))?;
        }
        Ok(Self {
            root: Arc::new(root),
            ids: Arc::new(AtomicU64::new(1)),
        })
    }

    fn path(&self, key: &ObjectKey) -> Result<PathBuf> {
        if key.as_str().split('/').next() == Some(UPLOADS) {
            return Err(Error::invalid(format!("object key \"{key}\" is reserved")));
        }
        Ok(self.root.join(key.as_str()))
    }

    fn temporary(&self, upload: &UploadId) -> Result<PathBuf> {
        let valid = !upload.0.is_empty() && upload.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !valid {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no open upload {:?}", upload.0),
            ));
        }
        Ok(self.root.join(UPLOADS).join(&upload.0))
    }

    fn new_id(&self) -> UploadId {
        let count = self.ids.fetch_add(1, Ordering::Relaxed);
        UploadId(format!("{:016x}-{}-{count}", rand::random::<u64>(), std::process::id()))
    }

    /// Runs blocking work; a panic in it is an error here.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let this = self.clone();
        let lost = |error| Error::new(ErrorKind::Other, "a storage task ended early").with_cause(error);
        tokio::task::spawn_blocking(move || work(&this)).await.map_err(lost)?
    }

    fn create_temporary(&self, id: &UploadId) -> Result<(File, PathBuf)> {
        make_dir(&self.root.join(UPLOADS))?;
        let path = self.temporary(id)?;
        Ok((create_private(&path)?, path))
    }

    /// Gives a synced temporary file its final name.
    fn publish(&self, temporary: &Path, key: &ObjectKey, mode: PutMode) -> Result<()> {
        let path = self.path(key)?;
        let parent = path.parent().unwrap_or(&self.root);
        make_dir(parent)?;
        match mode {
            PutMode::Overwrite => fs::rename(temporary, &path).map_err(io_error)?,
            PutMode::Create => {
                // A hard link never replaces: it is the atomic "create if absent" of a file system.
                match fs::hard_link(temporary, &path) {
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                        // Whoever made it may have died before its name was durable, and ours says that it is there.
                        self.sync_names(&path)?;
                        let message = format!("object \"{key}\" already exists");
                        return Err(Error::new(ErrorKind::AlreadyExists, message));
                    }
                    other => other.map_err(io_error)?,
                }
                fs::remove_file(temporary).map_err(io_error)?;
            }
        }
        self.sync_names(&path)
    }

    /// Makes the name of an object durable, and those of the directories on its way: another process may have made one of them
    /// and not have synced it yet.
    fn sync_names(&self, path: &Path) -> Result<()> {
        let directories = path.ancestors().skip(1);
        for directory in directories.take_while(|directory| directory.starts_with(&*self.root)) {
            File::open(directory).and_then(|dir| dir.sync_all()).map_err(io_error)?;
        }
        Ok(())
    }
}

/// Makes a directory and its parents, each synced into its parent; one that is there may not be, as long as whoever made it has
/// not come to that.
fn make_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dir(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.map_err(io_error)?,
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error)
}

fn io_error(error: std::io::Error) -> Error {
    let error = Error::from(error);
    match error.kind() {
        ErrorKind::LimitExceeded => {
            error.with_hint("The disk of the repository is full: free space, or prune snapshots.")
        }
        ErrorKind::Denied => error.with_hint("The repository directory must be writable by this user."),
        _ => error,
    }
}

fn missing(key: &ObjectKey) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Error::new(ErrorKind::NotFound, format!("no object \"{key}\""))
        }
        _ => io_error(error).context(format!("open object \"{key}\"")),
    }
}

fn modified(meta: &fs::Metadata) -> Timestamp {
    meta.modified()
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Collects the objects under `prefix` that come after `after`, at most [`PAGE`] and one more.
///
/// Directories are visited in key order, so a page costs its own objects and the directories on the way.
fn collect(root: &Path, dir: &str, prefix: &str, after: Option<&str>, found: &mut Vec<ObjectMeta>) -> Result<()> {
    let path = root.join(dir);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let is_dir = entry.file_type().map_err(io_error)?.is_dir();
        // Key order: a directory sorts as if its name ended in a slash.
        names.push(if is_dir { format!("{name}/") } else { name });
    }
    names.sort_unstable();
    for name in names {
        if found.len() > PAGE {
            return Ok(());
        }
        let key = format!("{dir}{name}");
        if let Some(sub) = key.strip_suffix('/') {
            let relevant = key.starts_with(prefix) || prefix.starts_with(&key);
            // Every key of a directory lies between `dir/` and `dir0` ('0' follows '/').
            let passed = after.is_some_and(|after| format!("{sub}0").as_str() <= after);
            if relevant && !passed && key != format!("{UPLOADS}/") {
                collect(root, &key, prefix, after, found)?;
            }
            continue;
        }
        if !key.starts_with(prefix) || after.is_some_and(|after| key.as_str() <= after) {
            continue;
        }
        let Ok(object) = ObjectKey::new(key.clone()) else {
            continue;
        };
        let Ok(meta) = fs::metadata(root.join(&key)) else {
            continue;
        };
        found.push(ObjectMeta {
            key: object,
            size_bytes: meta.len(),
            modified: modified(&meta),
            locked_until: None,
            readiness: Readiness::Ready,
        });
    }
    Ok(())
}

impl DirectoryStore {
    async fn complete(&self, key: &ObjectKey, upload: &UploadId, parts: &[PartReceipt], mode: PutMode) -> Result<()> {
        let (key, upload, parts) = (key.clone(), upload.clone(), parts.to_vec());
        self.run(move |this| {
            let path = this.temporary(&upload)?;
            let gone = |_| Error::new(ErrorKind::NotFound, format!("no open upload \"{}\"", upload.0));
            let file = OpenOptions::new().write(true).open(&path).map_err(gone)?;
            let (part_bytes, _) = read_about(&path)
                .ok_or_else(|| Error::corrupt(format!("upload \"{}\" has lost its description", upload.0)))?;
            let total = check_parts(&parts, part_bytes)?;
            file.set_len(total).and_then(|()| file.sync_all()).map_err(io_error)?;
            this.publish(&path, &key, mode)
                .with_context(|| format!("complete upload of \"{key}\""))?;
            remove_sidecars(&path);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    fn location(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_parts: None,
            min_part_bytes: 1,
            conditional_create: Some(true),
            lists_uploads: true,
            deletes: true,
        }
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, _options: &ObjectOptions) -> Result<()> {
        let key = key.clone();
        self.run(move |this| {
            let (file, temporary) = this.create_temporary(&this.new_id())?;
            let written = file
                .write_all_at(&body, 0)
                .and_then(|()| file.sync_all())
                .map_err(io_error);
            let done = written.and_then(|()| this.publish(&temporary, &key, mode));
            if done.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            done.with_context(|| format!("write object \"{key}\""))
        })
        .await
    }

    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        let key = key.clone();
        // The buffer moves to the blocking thread and back, so that nothing is copied.
        let mut moved = std::mem::take(buffer);
        let before = moved.len();
        let (moved, result) = self
            .run(move |this| {
                let read = read_file_range(&this.path(&key)?, &key, range, &mut moved);
                if read.is_err() {
                    moved.truncate(before);
                }
                Ok((moved, read))
            })
            .await?;
        *buffer = moved;
        result
    }

    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        let key = key.clone();
        self.run(move |this| {
            let file = File::open(this.path(&key)?).map_err(missing(&key))?;
            let mut bytes = Vec::new();
            file.take(max_bytes.saturating_add(1))
                .read_to_end(&mut bytes)
                .map_err(io_error)?;
            if exact::u64_from(bytes.len()) > max_bytes {
                let message = format!("object \"{key}\" has more than the expected {max_bytes} bytes");
                return Err(Error::new(ErrorKind::LimitExceeded, message));
            }
            Ok(Bytes::from(bytes))
        })
        .await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let key = key.clone();
        self.run(move |this| {
            let meta = fs::metadata(this.path(&key)?).map_err(missing(&key))?;
            if !meta.is_file() {
                return Err(Error::new(ErrorKind::NotFound, format!("no object \"{key}\"")));
            }
            Ok(ObjectMeta {
                size_bytes: meta.len(),
                modified: modified(&meta),
                locked_until: None,
                readiness: Readiness::Ready,
                key,
            })
        })
        .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let key = key.clone();
        self.run(move |this| {
            let path = this.path(&key)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                other => other
                    .map_err(io_error)
                    .with_context(|| format!("remove object \"{key}\""))?,
            }
            // The name is gone for good on return: manifests are removed first. Empty directories stay, since removing one
            // could race with an object that is just being put into it.
            let parent = path.parent().unwrap_or(&this.root);
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error)?;
            Ok(())
        })
        .await
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        let prefix = prefix.to_owned();
        self.run(move |this| {
            let mut objects = Vec::new();
            collect(&this.root, "", &prefix, next.as_deref(), &mut objects)
                .with_context(|| format!("list \"{prefix}\""))?;
            let more = objects.len() > PAGE;
            objects.truncate(PAGE);
            let next = objects.last().filter(|_| more).map(|last| last.key.as_str().to_owned());
            Ok(ListPage { objects, next })
        })
        .await
    }

    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId> {
        let (key, part_bytes) = (key.clone(), options.part_bytes);
        self.run(move |this| {
            this.path(&key)?;
            let id = this.new_id();
            let (_, path) = this.create_temporary(&id)?;
            // Part size and key lie beside the data: parts find their offsets, and open uploads can be listed by key.
            let mut about = create_private(&path.with_extension("about"))?;
            about
                .write_all(format!("{part_bytes}\n{key}").as_bytes())
                .map_err(io_error)?;
            Ok(id)
        })
        .await
    }

    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        let (key, upload) = (key.clone(), upload.clone());
        self.run(move |this| {
            let path = this.temporary(&upload)?;
            let file = OpenOptions::new().write(true).open(&path).map_err(missing(&key))?;
            let size_bytes = exact::u64_from(body.len());
            let (part_bytes, _) = read_about(&path)
                .ok_or_else(|| Error::corrupt(format!("upload \"{}\" has lost its description", upload.0)))?;
            let index = number
                .checked_sub(1)
                .ok_or_else(|| Error::invalid("part numbers begin at 1"))?;
            if size_bytes > part_bytes {
                return Err(Error::invalid(format!(
                    "part {number} has {size_bytes} bytes, more than the part size of {part_bytes}"
                )));
            }
            let slot = u64::from(index) * part_bytes;
            file.write_all_at(&body, slot)
                .and_then(|()| file.sync_data())
                .map_err(io_error)?;
            Ok(PartReceipt {
                number,
                etag: format!("{number}"),
                size_bytes,
                checksum: None,
            })
        })
        .await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        let missing = self.complete(key, upload, parts, mode).await;
        // A repetition after a lost reply finds no upload: keys are unique per run, so an object of the right size is ours.
        let Err(error) = missing else { return Ok(()) };
        let expected: u64 = parts.iter().map(|receipt| receipt.size_bytes).sum();
        match self.head(key).await {
            Ok(meta) if error.kind() == ErrorKind::NotFound && !parts.is_empty() && meta.size_bytes == expected => {
                Ok(())
            }
            _ => Err(error),
        }
    }

    async fn abort_upload(&self, _key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let upload = upload.clone();
        self.run(move |this| {
            let Ok(path) = this.temporary(&upload) else {
                return Ok(());
            };
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error(error)),
                _ => remove_sidecars(&path),
            }
            Ok(())
        })
        .await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let prefix = prefix.to_owned();
        self.run(move |this| {
            let mut found = Vec::new();
            let Ok(entries) = fs::read_dir(this.root.join(UPLOADS)) else {
                return Ok(found);
            };
            for entry in entries {
                let path = entry.map_err(io_error)?.path();
                let Some(id) = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .filter(|name| !name.contains('.'))
                else {
                    continue;
                };
                // A file without a key is a single put; one that a crash left is a leftover.
                let Some((_, key)) = read_about(&path) else {
                    continue;
                };
                let (Ok(key), Ok(meta)) = (ObjectKey::new(key), fs::metadata(&path)) else {
                    continue;
                };
                if key.as_str().starts_with(&prefix) {
                    found.push(OpenUpload {
                        key,
                        id: UploadId(id.to_owned()),
                        initiated: modified(&meta),
                    });
                }
            }
            found.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| a.id.0.cmp(&b.id.0)));
            Ok(found)
        })
        .await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.run(move |this| {
            let mut removed = 0;
            let Ok(entries) = fs::read_dir(this.root.join(UPLOADS)) else {
                return Ok(removed);
            };
            for entry in entries {
                let path = entry.map_err(io_error)?.path();
                if is_leftover(&path, before) {
                    match fs::remove_file(&path) {
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        other => {
                            other.map_err(io_error)?;
                            removed += 1;
                        }
                    }
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn now(&self) -> Result<Timestamp> {
        // The file system's clock, which on a network mount is the server's.
        self.run(|this| {
            let (file, path) = this.create_temporary(&this.new_id())?;
            let meta = file.metadata().map_err(io_error);
            fs::remove_file(path).map_err(io_error)?;
            Ok(modified(&meta?))
        })
        .await
    }
}

/// Makes a file that only its owner may read.
fn create_private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(io_error)
}

/// What stands beside an upload's data in `<id>.about`: the part size in decimal, a newline, the key.
fn read_about(path: &Path) -> Option<(u64, String)> {
    let text = fs::read_to_string(path.with_extension("about")).ok()?;
    let (size, key) = text.split_once('\n')?;
    Some((size.parse().ok()?, key.to_owned()))
}

/// Whether a file in `.uploads/` is old and no open upload: the temporary file of a single put, or what stood beside an
/// upload that has ended.
fn is_leftover(path: &Path, before: Timestamp) -> bool {
    let old = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && modified(&meta) < before);
    let data = path.with_extension("");
    let open_upload = data.symlink_metadata().is_ok() && read_about(&data).is_some();
    !open_upload && old(path)
}

/// Checks that parts are complete, in order and of the announced size but the last; returns the object's size.
fn check_parts(parts: &[PartReceipt], size: u64) -> Result<u64> {
    for (at, part) in parts.iter().enumerate() {
        let last = at + 1 == parts.len();
        let in_order = usize::try_from(part.number).is_ok_and(|number| number == at + 1);
        if !in_order || (part.size_bytes != size && !(last && part.size_bytes < size)) {
            return Err(Error::invalid(format!(
                "part {} is out of order or of another size",
                part.number
            )));
        }
    }
    Ok(parts.iter().map(|part| part.size_bytes).sum())
}

fn remove_sidecars(path: &Path) {
    let _ = fs::remove_file(path.with_extension("about"));
}

fn read_file_range(path: &Path, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
    let mut file = File::open(path).map_err(missing(key))?;
    let size = file.metadata().map_err(io_error)?.len();
    if range.end > size {
        let message = format!(
            "object \"{key}\" has {size} bytes, not the range {}..{}",
            range.start, range.end
        );
        return Err(Error::corrupt(message));
    }
    file.seek(SeekFrom::Start(range.start)).map_err(io_error)?;
    let wanted = range.end.saturating_sub(range.start);
    let got = file.take(wanted).read_to_end(buffer).map_err(io_error)?;
    if exact::u64_from(got) == wanted {
        return Ok(());
    }
    Err(Error::corrupt(format!("object \"{key}\" ended early")))
}
