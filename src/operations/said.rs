//! The report most commands return: a document, a text, a status.

use serde_json::Value;

use crate::operations::{Outcome, Report, Status};

struct Said {
    document: Value,
    text: String,
    status: Status,
}

impl Report for Said {
    fn document(&self) -> Value {
        self.document.clone()
    }
    fn text(&self) -> String {
        self.text.clone()
    }
    fn status(&self) -> Status {
        self.status
    }
}

/// Wraps what a command has to say.
#[expect(clippy::unnecessary_wraps, reason = "it is what a command returns")]
pub(crate) fn said(document: Value, text: String, status: Status) -> Outcome {
    Ok(Box::new(Said { document, text, status }))
}
