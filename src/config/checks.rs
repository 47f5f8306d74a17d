//! Checks that several sections need.

use std::path::Path;

use crate::base::error::{Context, Error, Result};
use crate::base::nearest::nearest;
use crate::base::small_file::read_small;

/// Refuses a name that nothing defines.
pub(super) fn defined(wanted: &str, what: &str, all: &[&str], section: &str) -> Result<()> {
    if all.contains(&wanted) {
        return Ok(());
    }
    Err(
        Error::invalid(format!("{section} names {what} \"{wanted}\", which is not defined")).with_hint(
            match nearest(wanted, all.iter().copied()) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => format!("Define it as [{what}.{wanted}]."),
            },
        ),
    )
}

/// Reads the first line of a file of one secret.
pub(super) fn from_file(path: &Path) -> Result<String> {
    let text = read_small(path).with_context(|| format!("read \"{}\"", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
