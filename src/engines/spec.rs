//! What a source is: the plain options of its engine, whether the configuration, a URL or a manifest says them.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::base::error::{Error, ErrorKind, Result};
use crate::engines::files::patterns::Patterns;
use crate::engines::{EngineFlags, EngineKind, FindingLevel, Secrets, Source};

/// Options of a source, of any engine.
///
/// Only `kind`, `place` and `open` differ for every engine; the rest has an answer that fits an engine whose source is one
/// thing at one place that is given as it is.
#[async_trait]
pub trait SourceSpec: SpecObject + Debug + Send + Sync + 'static {
    /// Returns whose source it is.
    fn kind(&self) -> EngineKind;

    /// Returns where it is, for people; no secrets.
    fn place(&self) -> String;

    /// Makes the source; nothing is connected yet.
    fn open(&self) -> Result<Arc<dyn Source>>;

    /// Makes local paths absolute: a restore may start in another directory.
    fn make_absolute(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes the flags of a backup that are of its engine.
    fn take_flags(&mut self, _flags: &EngineFlags) -> Result<()> {
        Ok(())
    }

    /// Returns what it stands for, where that is several sources, each with its own archives; `name` is its own. None if it
    /// is one, and nothing in the list where it stands for what is not there.
    async fn members(&self, _name: &str) -> Result<Option<Vec<Member>>> {
        Ok(None)
    }

    /// Returns the name of the source that stood for this one, where the engine tells which of them came or went.
    fn group(&self) -> Option<&str> {
        None
    }

    /// Returns whether a source that held something and holds nothing is worth telling.
    fn may_not_become_empty(&self) -> bool {
        false
    }

    /// Returns what of this host it occupies, which no clean-up may reach.
    async fn occupied(&self) -> Result<Vec<Occupied>> {
        Ok(Vec::new())
    }

    /// Returns what shows that it changed, if a look at names, sizes and times can.
    fn watch(&self) -> Result<Option<Box<dyn Watched>>> {
        Ok(None)
    }

    /// Returns whether this host does not answer for the place: only a manifest names it. No secret goes there that was not
    /// meant for it.
    fn is_foreign(&self) -> bool {
        false
    }

    /// Returns where a source of this name goes back to, `called` being what the manifest says it was; None where its place
    /// is not to be known from this.
    fn place_of(&self, _called: Option<&dyn SourceSpec>) -> Result<Option<Spec>> {
        Ok(Some(self.boxed()))
    }

    /// Returns the place of a source that this one, named `group`, stood for when the snapshot was made.
    fn place_of_member(&self, _group: &str, _source: &str, _called: Option<&dyn SourceSpec>) -> Option<Spec> {
        None
    }

    /// Takes what it takes to log in from a configured source of the same kind, if it means the same server and user; returns
    /// whether it does.
    fn borrow_login(&mut self, _known: &dyn SourceSpec) -> bool {
        false
    }

    /// Returns the path of this host that it is restored to, if it is one.
    fn local_path(&self) -> Option<&Path> {
        None
    }

    /// Returns the server that it is restored into, if it is one.
    fn server(&self) -> Option<Server<'_>> {
        None
    }

    /// Returns the same source of a server that is reached elsewhere, with a password that was found for it if it has none.
    fn reached_at(&self, _url: &str, _secrets: &Secrets) -> Spec {
        self.boxed()
    }

    /// Asks its server whether it answers its own protocol and lets us in; returns what it says of itself.
    async fn ask(&self) -> Result<String> {
        let findings = self.open()?.check().await?;
        if let Some(bad) = findings.iter().find(|finding| finding.level == FindingLevel::Error) {
            return Err(Error::new(ErrorKind::Unavailable, bad.message.clone()));
        }
        Ok(findings
            .into_iter()
            .next()
            .map(|finding| finding.message)
            .unwrap_or_default())
    }

    /// Returns how many connections read it at once, where it says so itself.
    fn parallel(&self) -> Option<usize> {
        None
    }

    /// Returns how its log is received as long as the scheduler runs; None if it is not, or there is none.
    fn received_log(&self) -> Option<ReceivedLog> {
        None
    }

    /// Returns whether it asks that restores make device nodes.
    fn wants_devices(&self) -> bool {
        false
    }
}

/// How the log of a source is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedLog {
    /// The name of what the server keeps for the receiver, if it is not the usual one.
    pub slot: Option<String>,
    /// Bytes of memory that its receiver holds, beside those of an upload.
    pub held_bytes: u64,
    /// Whether a job is run where no base backup leads to what is received. False for a receiver that takes its own.
    pub auto_base: bool,
}

/// A specification on the heap.
pub type Spec = Box<dyn SourceSpec>;

impl dyn SourceSpec {
    /// Returns the options of an engine, if they are of that engine.
    pub fn downcast_ref<T: SourceSpec>(&self) -> Option<&T> {
        self.as_any().downcast_ref()
    }

    /// Returns the options of an engine, or says that they are of another one.
    pub fn of_engine<T: SourceSpec>(&self, kind: EngineKind) -> Result<&T> {
        let wrong = || Error::invalid(format!("a source of kind {} is not one of kind {kind}", self.kind()));
        self.downcast_ref().ok_or_else(wrong)
    }
}

/// What every struct of options can do by its derived traits.
pub trait SpecObject {
    /// Returns it as what it is.
    fn as_any(&self) -> &dyn Any;
    /// Returns a copy.
    fn boxed(&self) -> Spec;
    /// Returns whether another one is the same in every word.
    fn is_same(&self, other: &dyn SourceSpec) -> bool;
    /// Returns it as it stands in a plan: its fields, without secrets, and `kind`.
    fn document(&self) -> std::result::Result<Map<String, Value>, serde_json::Error>;
}

impl<T: SourceSpec + Clone + PartialEq + Serialize + 'static> SpecObject for T {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn boxed(&self) -> Spec {
        Box::new(self.clone())
    }

    fn is_same(&self, other: &dyn SourceSpec) -> bool {
        other.downcast_ref::<T>().is_some_and(|other| other == self)
    }

    fn document(&self) -> std::result::Result<Map<String, Value>, serde_json::Error> {
        let fields = serde_json::to_value(self)?;
        let mut map = match fields {
            Value::Object(map) => map,
            other => Map::from_iter([("options".to_owned(), other)]),
        };
        map.insert("kind".to_owned(), self.kind().word().into());
        Ok(map)
    }
}

impl Clone for Box<dyn SourceSpec> {
    fn clone(&self) -> Self {
        self.as_ref().boxed()
    }
}

impl PartialEq for dyn SourceSpec {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
    }
}

impl Eq for dyn SourceSpec {}

impl Serialize for dyn SourceSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let document = self.document().map_err(serde::ser::Error::custom)?;
        document.serialize(serializer)
    }
}

/// A server, as far as it takes to find the container that it runs in.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Where it is, without a password.
    pub url: &'a str,
    /// The port of a URL that names none.
    pub default_port: u16,
    /// Words in the names of its images.
    pub images: &'static [&'static str],
}

/// A source with the name that a URL gives it.
#[derive(Debug, Clone)]
pub struct Named {
    /// Database, file stem, last segment of the path.
    pub name: String,
    /// What it is.
    pub spec: Spec,
}

/// One of several sources that another one stands for.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it would be called; the caller numbers those of the same name.
    pub name: String,
    /// What it is.
    pub spec: Spec,
}

/// What a source occupies on this host.
#[derive(Debug, Clone)]
pub enum Occupied {
    /// A directory with what lies below.
    Tree {
        /// The directory.
        path: PathBuf,
        /// What of it is taken, if not everything: what the source leaves out is nobody's.
        patterns: Option<Box<Patterns>>,
    },
    /// One file.
    File {
        /// The file.
        path: PathBuf,
        /// Endings of files that belong to it and lie beside it.
        companions: &'static [&'static str],
    },
}

/// Something on this host whose changes can be seen without opening it.
pub trait Watched: Send + Sync {
    /// Hashes names, sizes and times: another value means that something changed. What is not there, or may not be read, has
    /// one too. It may block.
    fn fingerprint(&self) -> u64;
}

/// A source that came or went between two runs, out of several that one stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The source that stands for them.
    pub group: String,
    /// Those that it stands for in this run.
    pub members: BTreeSet<String>,
    /// Code of the note about it.
    pub code: &'static str,
    /// Its name.
    pub object: String,
    /// What happened to it.
    pub message: &'static str,
}
