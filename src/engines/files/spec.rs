//! A source of files: options, and what the rest of the program asks of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::error::Result;
use crate::engines::files::patterns::Patterns;
use crate::engines::files::{FilesOptions, FilesSource, KIND, single_file, spelling};
use crate::engines::{EngineKind, Occupied, Source, SourceSpec, Spec, Watched};

/// A tree of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct FilesSpec {
    /// The root directory, or one file.
    pub root: PathBuf,
    /// What is taken; everything when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// What is left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether other file systems below the root are left out.
    pub one_file_system: bool,
    /// A directory that holds one of these names is left out, but for that file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_if_present: Vec<String>,
    /// Whether directories that hold a CACHEDIR.TAG are left out, but for the tag.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exclude_caches: bool,
    /// Whether a source that had entries may have none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_empty: bool,
    /// Whether restores make device nodes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub devices: bool,
    /// Whether one file was named: the root is only where it lies, and stays as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub single_file: bool,
}

impl FilesSpec {
    /// Says how the tree is read.
    fn options(&self) -> FilesOptions {
        FilesOptions {
            root: self.root.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            one_file_system: self.one_file_system,
            exclude_if_present: self.exclude_if_present.clone(),
            exclude_caches: self.exclude_caches,
            single_file: self.single_file,
        }
    }

    /// Makes the file that was named as a root a pattern in its directory; returns whether it is one.
    fn name_single_file(&mut self) -> Result<bool> {
        if !(self.include.is_empty() && self.exclude.is_empty()) {
            return Ok(false);
        }
        let Some((directory, pattern)) = single_file(&self.root)? else {
            return Ok(false);
        };
        (self.root, self.include, self.single_file) = (directory, vec![pattern], true);
        Ok(true)
    }
}

#[async_trait]
impl SourceSpec for FilesSpec {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn open(&self) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FilesSource::new(self.options())?))
    }

    fn make_absolute(&mut self) -> Result<()> {
        self.root = std::path::absolute(&self.root)?;
        // A restore goes to the directory that the file was in.
        self.name_single_file().map(drop)
    }

    fn may_not_become_empty(&self) -> bool {
        !self.allow_empty
    }

    async fn occupied(&self) -> Result<Vec<Occupied>> {
        let path = self.root.clone();
        if path.is_file() {
            return Ok(vec![Occupied::File { path, companions: &[] }]);
        }
        let patterns = Some(Box::new(Patterns::new(&self.include, &self.exclude)?));
        Ok(vec![Occupied::Tree { path, patterns }])
    }

    fn watch(&self) -> Result<Option<Box<dyn Watched>>> {
        Ok(Some(Box::new(FilesSource::new(self.options())?)))
    }

    /// A single file goes back into the directory it lies in, also when it is gone.
    fn place_of(&self, called: Option<&dyn SourceSpec>) -> Result<Option<Spec>> {
        let mut files = self.clone();
        files.root = std::path::absolute(&files.root)?;
        if !(files.include.is_empty() && files.exclude.is_empty()) || files.name_single_file()? {
            return Ok(Some(Box::new(files)));
        }
        let called: Option<&Self> = called.and_then(|called| called.downcast_ref());
        let was_single = |name: &str| called.is_some_and(|called| called.single_file && called.include == [name]);
        let name = files.root.file_name().map(spelling::literal);
        let parent = files.root.parent().map(Path::to_path_buf);
        if let (Some(parent), Some(name)) = (parent, name.filter(|name| was_single(name)))
            && files.root.symlink_metadata().is_err()
        {
            (files.root, files.include, files.single_file) = (parent, vec![name], true);
        }
        Ok(Some(Box::new(files)))
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn wants_devices(&self) -> bool {
        self.devices
    }
}

impl Watched for FilesSource {
    fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.fingerprint().ok().hash(&mut hasher);
        hasher.finish()
    }
}
