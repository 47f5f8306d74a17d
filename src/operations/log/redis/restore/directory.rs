//! Writes snapshot and commands beside their place, as a directory that a server loads by itself.

use std::path::Path;

use crate::base::error::Result;
use crate::engines::redis::log::aof::AofDirectory;
use crate::engines::redis::stored;
use crate::operations::Session;
use crate::operations::log::redis::restore::RestoredMoment;
use crate::operations::log::redis::restore::choose::Chosen;
use crate::operations::log::redis::restore::read::{Opened, commands};

/// Writes them, and gives the directory its place below `data`; with `replace` also where something stands there.
pub(super) async fn write(
    session: &Session,
    chosen: &Chosen,
    opened: &Opened,
    (data, replace): (&Path, bool),
    report: &mut RestoredMoment,
) -> Result<()> {
    let name = &chosen.log.streams.source;
    session.reporter.begin(name, opened.raw_bytes);
    let made = async {
        let directory = AofDirectory::create(data)?;
        let to = (name.as_str(), &session.reporter);
        let rdb = stored::write_files(&opened.reader, &directory.base(), false, to, &session.cancel).await?;
        report.failed_keys = rdb.failed_keys;
        let (file, replayed) = commands(session, chosen, opened, directory.commands()?, report).await?;
        report.trims = replayed.trims;
        file.finish(&replayed)?;
        report.bytes = rdb.bytes.saturating_add(replayed.bytes);
        #[cfg(feature = "test-hooks")]
        crate::base::test_hooks::hold("append-only-file").await;
        let previous = directory.publish(replace)?;
        report.previous = previous.map(|previous| previous.display().to_string());
        Ok(())
    };
    let made = made.await;
    session.reporter.end(name, made.is_ok());
    made
}
