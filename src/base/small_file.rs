//! Files that a person wrote.

use std::io::Read;
use std::path::Path;

/// Bytes of a file of configuration or of a secret, at most.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads a file that a person wrote, which has an end: `/dev/zero` has none.
pub fn read_small(path: impl AsRef<Path>) -> std::io::Result<String> {
    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1);
    file.read_to_string(&mut text)?;
    if file.limit() == 0 {
        let message = "it is larger than 4 MiB";
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_without_an_end_is_not_read_to_it() {
        let error = read_small("/dev/zero").unwrap_err();
        assert!(error.to_string().contains("larger than 4 MiB"), "{error}");
        assert_eq!(read_small("/dev/null").unwrap(), "");
    }
}
