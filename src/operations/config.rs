//! `config`: says what holds, key by key.

use crate::config::Effective;
use crate::operations::{Report, document_of};

/// What `config` says: its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
pub struct ConfigReport(pub Effective);

impl Report for ConfigReport {
    fn document(&self) -> serde_json::Value {
        document_of(&self.0)
    }

    fn text(&self) -> String {
        self.0.text()
    }
}
