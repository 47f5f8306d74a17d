//! A source as the plan of a snapshot has it.
//!
//! It is written by the release that made the snapshot and read by every later one, so it is read word by word: what is
//! missing, or of another type, is not there. In the words in which it was written, it stays whole.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::error::{Error, Result};

/// A source of a plan, of any release. Two are equal if every word of them is.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct StoredSource(Value);

impl From<Value> for StoredSource {
    fn from(source: Value) -> Self {
        Self(source)
    }
}

impl From<StoredSource> for Value {
    fn from(source: StoredSource) -> Self {
        source.0
    }
}

impl StoredSource {
    /// Takes a source as it is to be written.
    pub fn of(source: &impl serde::Serialize) -> Result<Self> {
        let source = serde_json::to_value(source);
        source
            .map(Self)
            .map_err(|e| Error::invalid("write the source as JSON").with_cause(e))
    }

    /// Returns whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some()
    }

    /// Returns a text; an empty one is one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// Returns a whole number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key).and_then(Value::as_u64)
    }

    /// Returns the texts of a list.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let list = self.0.get(key).and_then(Value::as_array);
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        list.map(str::to_owned).collect()
    }

    /// Returns whether something is switched on.
    pub fn is_on(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Reads all of it as one type, if it is that.
    pub fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_value(self.0.clone()).ok()
    }
}
