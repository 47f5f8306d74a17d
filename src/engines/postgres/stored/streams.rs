//! The SQL streams of a backup (`globals.sql`, `pre-data.sql`, `sequences.sql`, `post-data.sql`, `statistics.sql`) with their
//! common table of contents `toc.jsonl`.

use crate::engines::postgres::sql::GLOBALS;
use async_trait::async_trait;

use super::table_stream::{TextResult, TextStream};
use crate::archive::{ArchiveWriter, StreamRecord};
use crate::base::error::{Context as _, Result};
use crate::base::exact;
use crate::base::raw_text::to_bytes;
use crate::base::report::Note;
use crate::engines::postgres::schema::{SqlSink, TocItem};
use crate::engines::postgres::sql::guard;
use crate::engines::postgres::sql::guard::StatementScope;

/// Name of the table of contents.
pub(crate) const TOC: &str = "toc.jsonl";

/// Names of the SQL streams behind [`GLOBALS`], in the order in which they are restored (table data come before sequences).
pub(crate) const PRE_DATA: &str = "pre-data.sql";
pub(crate) const SEQUENCES: &str = "sequences.sql";
pub(crate) const LARGE_OBJECTS: &str = "large-objects.sql";
pub(crate) const POST_DATA: &str = "post-data.sql";
pub(crate) const STATISTICS: &str = "statistics.sql";

/// One line of `toc.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct TocEntry {
    /// The SQL stream that holds the item's text.
    pub(crate) stream: String,
    /// Where in that stream the text begins, in bytes.
    pub(crate) offset: u64,
    /// The item.
    pub(crate) item: TocItem,
}

/// Writes one SQL stream after another, and the table of contents beside.
#[derive(Debug)]
pub(crate) struct SqlStreams {
    writer: ArchiveWriter,
    attempt: u32,
    toc: TextStream,
    current: TextStream,
    current_name: &'static str,
    /// What was written, in order.
    pub(crate) done: Vec<TextResult>,
    /// Items written.
    pub(crate) items: u64,
    /// Items that a restore would refuse.
    refused: Vec<Note>,
}

/// Items that are named at most.
const NAMED: usize = 100;

impl SqlStreams {
    /// Begins an attempt, counted from 1. What an attempt wrote cannot be taken back, so each writes under its own names, and
    /// the records say which one counts.
    pub(crate) fn new(writer: ArchiveWriter, attempt: u32) -> Self {
        let toc = TextStream::new(writer.clone(), TOC, attempt);
        let current = TextStream::new(writer.clone(), GLOBALS, attempt);
        Self {
            writer,
            attempt,
            toc,
            current,
            current_name: GLOBALS,
            done: Vec::new(),
            items: 0,
            refused: Vec::new(),
        }
    }

    /// Returns a note on each item that a restore would refuse.
    pub(crate) fn take_refused(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.refused)
    }

    /// Ends the current stream and begins the next.
    pub(crate) async fn next_stream(&mut self, name: &'static str) -> Result<()> {
        let next = TextStream::new(self.writer.clone(), name, self.attempt);
        let ended = std::mem::replace(&mut self.current, next);
        self.current_name = name;
        self.done.push(ended.finish().await?);
        Ok(())
    }

    /// Ends the last stream and the table of contents, and makes all of them count; returns what was written.
    pub(crate) async fn finish(mut self) -> Result<Vec<TextResult>> {
        self.done.push(self.current.finish().await?);
        let toc = self.toc.finish().await?;
        for result in self.done.iter().chain([&toc]) {
            self.writer.finish_stream(text_record(result)).await?;
        }
        Ok(self.done)
    }
}

fn text_record(result: &TextResult) -> StreamRecord {
    StreamRecord {
        stream: result.name.to_owned(),
        prefixes: vec![result.prefix.clone()],
        chunks: u64::from(result.chunks),
        bytes: result.bytes,
        rows: None,
        row_digest: None,
        facts: serde_json::Value::Null,
    }
}

#[async_trait]
impl SqlSink for SqlStreams {
    async fn item(&mut self, mut item: TocItem, sql: &str) -> Result<()> {
        let judged = guard::judge(sql, StatementScope::of_stream(self.current_name));
        debug_assert!(judged.is_ok(), "a restore would refuse this: {judged:?}: {sql}");
        if let Err(why) = judged
            && self.refused.len() < NAMED
        {
            let text = format!("its SQL holds {why}, which a restore refuses: please report this");
            self.refused.push(Note::new(
                "not-restorable",
                format!("{} {}", item.kind, item.name),
                text,
            ));
        }
        let sql = to_bytes(sql);
        item.sql_bytes = exact::u64_from(sql.len());
        let line = TocEntry {
            stream: self.current_name.to_owned(),
            offset: self.current.bytes,
            item,
        };
        let mut text =
            serde_json::to_vec(&line).map_err(|e| crate::Error::invalid("write table of contents").with_cause(e))?;
        text.push(b'\n');
        self.toc.push(&text).await.context("write table of contents")?;
        self.items += 1;
        self.current
            .push(&sql)
            .await
            .with_context(|| format!("write {}", self.current_name))
    }
}
