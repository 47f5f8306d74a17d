//! Flags that only one engine knows.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::engines::EngineKind;

/// Options of a verb that belong to one engine: a plain struct of its folder.
pub trait Flags: Any + Debug + Send + Sync {
    /// Returns whose they are.
    fn kind(&self) -> EngineKind;

    /// Returns whether any was given: a restore refuses those of an engine that it has no source of.
    fn is_given(&self) -> bool;
}

/// The flags of all engines; what is not among them has its default.
#[derive(Debug, Clone, Default)]
pub struct EngineFlags(Vec<Arc<dyn Flags>>);

impl EngineFlags {
    /// Adds flags, in place of others of the same type.
    #[must_use]
    pub fn with<T: Flags>(mut self, flags: T) -> Self {
        self.0.retain(|one| downcast::<T>(one).is_none());
        self.0.push(Arc::new(flags));
        self
    }

    /// Returns the flags of one type.
    pub fn of<T: Flags + Clone + Default>(&self) -> T {
        self.0.iter().find_map(downcast::<T>).cloned().unwrap_or_default()
    }

    /// Returns whose flags were given.
    pub fn given(&self) -> impl Iterator<Item = EngineKind> {
        self.0.iter().filter(|one| one.is_given()).map(|one| one.kind())
    }
}

fn downcast<T: Flags>(flags: &Arc<dyn Flags>) -> Option<&T> {
    let any: &dyn Any = flags.as_ref();
    any.downcast_ref()
}
