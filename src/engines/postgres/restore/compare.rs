//! Reads restored tables again and compares their rows with the backup's.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use futures_util::future::try_join_all;

use crate::archive::StreamRecord;
use crate::base::error::{Context as _, Error, Result};
use crate::engines::postgres::restore::keep_going::{ROWS, costs_only_its_table};
use crate::engines::postgres::restore::load::TableData;
use crate::engines::postgres::restore::statements::FailedItem;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::sessions::open_reading_worker;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::qualified;
use crate::engines::postgres::wire::binary_copy::{CopyFormat, RowImages};
use crate::engines::postgres::wire::row_digest::{RowDigest, RowHasher};

/// Reads a table, or any query's COPY in text format, and returns its rows' digest. The session must have the settings
/// that the digest was made with.
pub async fn table_digest(connection: &mut Connection, copy_sql: &str) -> Result<RowDigest> {
    rows_digest(connection, copy_sql, CopyFormat::Text).await
}

/// Reads a query's COPY in either format and returns its rows' digest.
async fn rows_digest(connection: &mut Connection, copy_sql: &str, format: CopyFormat) -> Result<RowDigest> {
    let mut hasher = RowHasher::default();
    let mut images = RowImages::new(format);
    let mut copy = connection.copy_out(copy_sql).await?;
    while let Some(piece) = copy.next().await? {
        if let Some(piece) = images.take(piece)? {
            hasher.piece(images.image(&piece)?, piece.ends);
        }
    }
    images.finish()?;
    Ok(hasher.digest)
}

/// Reads every table again and compares rows and digest with the backup's.
///
/// Partitions that were loaded through one table are compared together: each row may have gone to another one.
///
/// What differs ends it; if it is to keep going, it is returned.
pub(crate) async fn compare_all(
    options: &ConnectOptions,
    tables: &[&TableData],
    parallel: usize,
    keep_going: bool,
) -> Result<Vec<FailedItem>> {
    let families: Mutex<HashMap<&(String, String), Family>> = Mutex::new(HashMap::new());
    let queue = Mutex::new(tables.iter().copied().collect::<VecDeque<_>>());
    let failed = Mutex::new(Vec::new());
    let (queue_of, families_of, failed_of) = (&queue, &families, &failed);
    let work = |number| async move {
        let (queue, families, failed) = (queue_of, families_of, failed_of);
        let Some(mut connection) = open_reading_worker(options, number).await? else {
            return Ok(());
        };
        loop {
            let next = queue.lock().expect("no panic happens under this lock").pop_front();
            let Some(table) = next else { break };
            let digest = rows_digest(&mut connection, &table.copy_out_sql(), table.format)
                .await
                .with_context(|| format!("read {}", table.label()));
            let compared = digest.and_then(|digest| match &table.root {
                Some(root) => {
                    let mut families = families.lock().expect("no panic happens under this lock");
                    families.entry(root).or_default().add(&table.record, &digest);
                    Ok(())
                }
                None => compare(table, &digest),
            });
            match compared {
                Ok(()) => {}
                Err(error) if keep_going && costs_only_its_table(&error, &connection) => {
                    let mut failed = failed.lock().expect("no panic happens under this lock");
                    failed.push(differing(format!("{}.{}", table.schema, table.name), &error));
                }
                Err(error) => return Err(error),
            }
        }
        connection.close().await;
        Ok::<(), Error>(())
    };
    try_join_all((0..parallel.clamp(1, tables.len().max(1))).map(work)).await?;
    let mut failed = failed.into_inner().expect("no panic happens under this lock");
    let families = families.into_inner().expect("no panic happens under this lock");
    for ((schema, name), family) in families {
        match family.compare(&qualified(schema, name)) {
            Ok(()) => {}
            Err(error) if keep_going => failed.push(differing(format!("{schema}.{name}"), &error)),
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

/// Reads tables again on a connection within its transaction, and compares them.
pub(crate) async fn compare_within(connection: &mut Connection, tables: &[TableData]) -> Result<()> {
    let mut families: HashMap<&(String, String), Family> = HashMap::new();
    for table in tables {
        let digest = rows_digest(connection, &table.copy_out_sql(), table.format)
            .await
            .with_context(|| format!("read {}", table.label()))?;
        match &table.root {
            Some(root) => families.entry(root).or_default().add(&table.record, &digest),
            None => compare(table, &digest)?,
        }
    }
    for ((schema, name), family) in families {
        family.compare(&qualified(schema, name))?;
    }
    Ok(())
}

fn compare(table: &TableData, digest: &RowDigest) -> Result<()> {
    if Some(digest.rows) == table.record.rows && Some(digest.hex()) == table.record.row_digest {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{} differs after the restore: {} rows with digest {}, the backup has {} with {}",
        table.label(),
        digest.rows,
        digest.hex(),
        table.record.rows.unwrap_or(0),
        table.record.row_digest.as_deref().unwrap_or("none")
    )))
}

fn differing(name: String, error: &Error) -> FailedItem {
    FailedItem {
        kind: ROWS.to_owned(),
        name,
        error: error.chain(),
        advice: "Its rows were restored, but not proven: compare them with another snapshot.".to_owned(),
        excuse: None,
    }
}

/// Rows of all partitions below one table.
#[derive(Debug, Default)]
struct Family {
    stored: RowDigest,
    read: RowDigest,
}

impl Family {
    fn add(&mut self, record: &StreamRecord, read: &RowDigest) {
        let hex = record.row_digest.as_deref().unwrap_or_default();
        self.stored.merge(&RowDigest::of_record(record.rows.unwrap_or(0), hex));
        self.read.merge(read);
    }

    fn compare(&self, name: &str) -> Result<()> {
        if self.stored == self.read {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "the partitions of {name} differ after the restore: {} rows with digest {}, the backup has {} with {}",
            self.read.rows,
            self.read.hex(),
            self.stored.rows,
            self.stored.hex()
        )))
    }
}
