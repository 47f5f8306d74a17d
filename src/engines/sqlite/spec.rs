//! A SQLite source: options, and what the rest of the program asks of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::base::error::{Context, Result};
use crate::engines::sqlite::discover::{self, NoDatabases, Unseen};
use crate::engines::sqlite::watch::{WatchedDatabase, WatchedPlaces};
use crate::engines::sqlite::{KIND, Method, SqliteOptions, SqliteSource};
use crate::engines::{EngineKind, Member, Occupied, Source, SourceSpec, Spec, Watched};

/// What SQLite keeps beside a database.
pub(super) const COMPANIONS: &[&str] = &["-wal", "-shm", "-journal"];

/// A SQLite database file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SqliteSpec {
    /// The file; or a pattern, or a directory: then every database that is there at the time of a run.
    pub path: PathBuf,
    /// Further files, patterns and directories.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<PathBuf>,
    /// Of a database that was found: the name of the source that means it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Of a part of a place that could not be searched, or holds none: why. It stands for the databases that may be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsearched: Option<discover::Unseen>,
    /// How it is read.
    pub method: Method,
}

impl SqliteSpec {
    /// One database.
    pub fn of(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            also: vec![],
            group: None,
            unsearched: None,
            method: Method::Auto,
        }
    }

    /// Whether it stands for all the databases in some place, as it is now.
    pub fn is_several(&self) -> bool {
        self.group.is_none() && (!self.also.is_empty() || discover::is_place(&self.path))
    }

    /// Returns what it names: files, patterns, directories.
    pub fn patterns(&self) -> Vec<PathBuf> {
        std::iter::once(&self.path).chain(&self.also).cloned().collect()
    }
}

#[async_trait]
impl SourceSpec for SqliteSpec {
    fn kind(&self) -> EngineKind {
        KIND
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&self) -> Result<Arc<dyn Source>> {
        if self.unsearched.is_some() || self.is_several() {
            return Ok(Arc::new(NoDatabases::of(self.patterns(), self.unsearched.clone())));
        }
        Ok(Arc::new(SqliteSource::new(SqliteOptions {
            method: self.method,
            ..SqliteOptions::new(self.path.clone())
        })))
    }

    fn make_absolute(&mut self) -> Result<()> {
        for path in std::iter::once(&mut self.path).chain(&mut self.also) {
            *path = std::path::absolute(&path)?;
        }
        Ok(())
    }

    /// A directory or a pattern stands for every database that is there now; each fails alone, and goes back to its own place.
    async fn members(&self, name: &str) -> Result<Option<Vec<Member>>> {
        if !self.is_several() {
            return Ok(None);
        }
        let found = discover::databases(&self.patterns()).context("look for its databases")?;
        for (path, why) in &found.others {
            tracing::warn!("source \"{name}\": \"{}\" is not backed up: it {why}", path.display());
        }
        // Where nothing at all is there, the source says it as a whole.
        let absent = |one: &discover::Unsearched| matches!(one.why, Unseen::Absent { .. });
        if found.databases.is_empty() && found.unsearched.iter().all(absent) {
            return Ok(Some(Vec::new()));
        }
        // What cannot be searched fails beside what was found: databases may be there that nobody can see.
        let databases = found.databases.into_iter().map(|(path, ending)| (path, ending, None));
        let unsearched = found
            .unsearched
            .into_iter()
            .map(|one| (one.path, one.ending, Some(one.why)));
        // Object keys hold 64 letters of a name. A longer one is that of a URL: configured ones are refused.
        let start: String = name.chars().take(discover::MAX_GROUP_NAME).collect();
        let member = |(path, ending, unsearched): (PathBuf, String, Option<Unseen>)| Member {
            name: format!("{start}.{ending}"),
            spec: Box::new(Self {
                group: Some(name.to_owned()),
                unsearched,
                method: self.method,
                ..Self::of(path)
            }),
        };
        Ok(Some(databases.chain(unsearched).map(member).collect()))
    }

    fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    async fn occupied(&self) -> Result<Vec<Occupied>> {
        if !self.is_several() {
            return Ok(vec![Occupied::File {
                path: self.path.clone(),
                companions: COMPANIONS,
            }]);
        }
        let tree = |pattern: &PathBuf| Occupied::Tree {
            path: discover::fixed_part(pattern),
            patterns: None,
        };
        Ok(self.patterns().iter().map(tree).collect())
    }

    fn watch(&self) -> Result<Option<Box<dyn Watched>>> {
        Ok(Some(if self.is_several() {
            Box::new(WatchedPlaces(self.patterns()))
        } else {
            Box::new(WatchedDatabase(self.path.clone()))
        }))
    }

    fn place_of(&self, called: Option<&dyn SourceSpec>) -> Result<Option<Spec>> {
        let same = |called: &Self| {
            called.group.is_none() && std::path::absolute(&self.path).is_ok_and(|path| path == called.path)
        };
        let called: Option<&Self> = called.and_then(|called| called.downcast_ref());
        // A file whose name could be a pattern, on a host where it is not there yet.
        let is_file = self.also.is_empty() && !self.path.is_dir() && called.is_some_and(same);
        if self.is_several() && !is_file {
            // It was one database when the snapshot was made, and is a place for many now.
            return Ok(None);
        }
        Ok(Some(Box::new(Self {
            path: std::path::absolute(&self.path)?,
            ..self.clone()
        })))
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    /// The pattern is the operator's word for each database that it finds at its place.
    fn place_of_member(&self, group: &str, _: &str, called: Option<&dyn SourceSpec>) -> Option<Spec> {
        let called: &Self = called?.downcast_ref()?;
        let found = called.group.as_deref() == Some(group) && discover::covers(&self.patterns(), &called.path);
        found.then(|| -> Spec {
            Box::new(Self {
                method: self.method,
                group: Some(group.to_owned()),
                ..Self::of(called.path.clone())
            })
        })
    }
}
