//! Files of the spool directory that have no name: they are gone with the process, however it ends.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::base::error::{Context, Result};

/// Makes one, to be written and read by nobody else. The directory is made where it is missing.
pub fn unnamed_file(directory: &Path) -> Result<File> {
    let act = || format!("make a spool file in \"{}\"", directory.display());
    std::fs::create_dir_all(directory).with_context(act)?;
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(File::from(file));
    }
    // A filesystem that makes none without a name, or one that says what is wrong once more.
    let path = directory.join(format!("wirevault-{:016x}.spool", rand::random::<u64>()));
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(act)?;
    std::fs::remove_file(&path).with_context(act)?;
    Ok(file)
}
