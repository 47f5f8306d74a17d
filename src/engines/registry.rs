//! The engines of this program.

use std::sync::Arc;

use crate::base::error::Result;
use crate::engines::docker::DockerEngine;
use crate::engines::files::FilesEngine;
use crate::engines::postgres::PostgresEngine;
use crate::engines::postgres::physical::PhysicalEngine;
use crate::engines::redis::RedisEngine;
use crate::engines::sqlite::SqliteEngine;
use crate::engines::{Engine, Named};

/// Engines by their kind. What a verb does with a source, it does through the engine that is found here.
#[derive(Debug, Clone)]
pub struct Registry(Vec<Arc<dyn Engine>>);

impl Default for Registry {
    fn default() -> Self {
        Self::standard()
    }
}

impl Registry {
    /// The engines of this program. A new one is a folder, and a line here.
    pub fn standard() -> Self {
        Self(vec![
            Arc::new(PostgresEngine),
            Arc::new(PhysicalEngine),
            Arc::new(RedisEngine),
            Arc::new(SqliteEngine),
            Arc::new(FilesEngine),
            Arc::new(DockerEngine),
        ])
    }

    /// Adds an engine, in place of one of the same kind.
    #[must_use]
    pub fn with(mut self, engine: impl Engine + 'static) -> Self {
        self.0.retain(|one| one.kind() != engine.kind());
        self.0.push(Arc::new(engine));
        self
    }

    /// Returns the engines, in the order of their registration.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Engine> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Finds the engine of a word of a manifest; None for one that only another release knows.
    pub fn of_kind(&self, word: &str) -> Option<&dyn Engine> {
        self.iter().find(|engine| engine.kind().word() == word)
    }

    /// Reads the URL of a source; None if no engine takes it.
    pub fn read_url(&self, text: &str) -> Option<Result<Named>> {
        self.iter().find_map(|engine| engine.read_url(text))
    }

    /// Returns the schemes of all URLs, for advice.
    pub fn schemes(&self) -> impl Iterator<Item = &'static str> {
        self.iter().flat_map(|engine| engine.schemes().iter().copied())
    }
}
