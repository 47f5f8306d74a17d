//! Files of the spool directory that have no name: they are gone with the process, however it ends.

use std::fs::File;
use std::path::Path;

use crate::base::error::{Context, Result};

/// Makes one, to be written and read. The directory is made where it is missing.
pub fn unnamed_file(directory: &Path) -> Result<File> {
    let act = || format!("make a spool file in \"{}\"", directory.display());
    std::fs::create_dir_all(directory).with_context(act)?;
    let path = directory.join(format!("wirevault-{:016x}.spool", rand::random::<u64>()));
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(act)?;
    std::fs::remove_file(&path).with_context(act)?;
    Ok(file)
}
