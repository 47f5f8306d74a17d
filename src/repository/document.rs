//! The two-line documents of a repository: canonical JSON, then the digest of that line's bytes.
//!
//! ```text
//! {"format":1,…}\n
//! {"sha256":"<64 hex>","signature":null}\n
//! ```
//!
//! The digest is over the bytes of the first line without its newline. Any flipped byte or missing tail is noticed:
//! the second line must be exactly what the first one asks for, and nothing may follow.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{ObjectKey, SharedStore};

/// No document is larger, in bytes: manifests stay under 1 MiB whatever they describe.
pub const MAX_DOCUMENT_BYTES: u64 = 1024 * 1024;

/// The repository format this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Returns the bytes of a document.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let unwritable = |error| Error::invalid("write a document as JSON").with_cause(error);
    // Through a `Value`, whose maps are sorted: one content has one form.
    let value = serde_json::to_value(value).map_err(unwritable)?;
    let mut bytes = serde_json::to_vec(&value).map_err(unwritable)?;
    let trailer = trailer(&bytes);
    bytes.push(b'\n');
    bytes.extend_from_slice(trailer.as_bytes());
    if exact::u64_from(bytes.len()) > MAX_DOCUMENT_BYTES {
        let message = format!(
            "a document of {} bytes exceeds the limit of {MAX_DOCUMENT_BYTES}",
            bytes.len()
        );
        return Err(Error::new(ErrorKind::LimitExceeded, message).with_hint("Split the job into several."));
    }
    Ok(bytes)
}

/// What is read of a document of any format.
#[derive(serde::Deserialize)]
struct Versioned {
    format: u32,
}

/// Checks digest and format, and parses.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let damaged = |what: &str| {
        Error::corrupt(format!("document {what}"))
            .with_hint("Run `wirevault verify --all` to see what else is damaged.")
    };
    let newline = bytes
        .iter()
        .position(|b| *b == b'\n')
        .ok_or_else(|| damaged("is cut short"))?;
    let (line, rest) = bytes.split_at(newline);
    let rest = exact::range(rest, 1.., "the document")?;
    if rest != trailer(line).as_bytes() {
        if is_signed(line, rest) {
            return Err(Error::unsupported("the document is signed")
                .with_hint("A newer version of wirevault reads signed repositories."));
        }
        return Err(damaged("does not match its digest"));
    }
    let unreadable = |error: serde_json::Error| damaged("is not valid JSON of this format").with_cause(error);
    let version: Versioned = serde_json::from_slice(line).map_err(unreadable)?;
    if version.format > FORMAT {
        let message = format!(
            "the repository has format {}, this program reads up to {FORMAT}",
            version.format
        );
        return Err(Error::unsupported(message).with_hint("Use a newer version of wirevault with this repository."));
    }
    serde_json::from_slice(line).map_err(unreadable)
}

/// Reads and decodes a document; returns its bytes too. One that does not have its digest is read again before it is called
/// damaged: the bytes may have changed on their way.
pub async fn read<T>(store: &SharedStore, key: &ObjectKey, decode: impl Fn(&[u8]) -> Result<T>) -> Result<(T, Bytes)> {
    let mut again = true;
    loop {
        let bytes = store.get(key, MAX_DOCUMENT_BYTES).await?;
        match decode(&bytes) {
            Err(error) if again && error.kind() == ErrorKind::Corrupt => again = false,
            decoded => return decoded.map(|decoded| (decoded, bytes)),
        }
    }
}

/// Returns the lowercase hex SHA-256 of some bytes.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Whether the second line names the right digest and, whole and well-formed, a signature. Anything else is damage.
fn is_signed(line: &[u8], rest: &[u8]) -> bool {
    let trailer = trailer(line);
    let signature = rest
        .strip_prefix(trailer.trim_end_matches("null}\n").as_bytes())
        .and_then(|rest| rest.strip_suffix(b"}\n"));
    signature.is_some_and(|json| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json).is_ok())
}

fn trailer(line: &[u8]) -> String {
    format!("{{\"sha256\":\"{}\",\"signature\":null}}\n", sha256_hex(line))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_flip_and_every_truncation_is_noticed() {
        let bytes = encode(&json!({"format": 1, "id": "x", "b": [1, 2, 3], "a": null})).unwrap();
        assert!(bytes.starts_with(b"{\"a\":null,\"b\":[1,2,3],"));
        decode::<Value>(&bytes).unwrap();
        for at in 0..bytes.len() {
            let error = decode::<Value>(&bytes[..at]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let error = decode::<Value>(&damaged).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at} bit {bit}");
            }
        }
        let mut longer = bytes;
        longer.push(b'\n');
        assert!(decode::<Value>(&longer).is_err());
    }

    #[test]
    fn a_signed_document_is_not_called_damaged() {
        let bytes = encode(&json!({"format": 1})).unwrap();
        let signed = String::from_utf8(bytes)
            .unwrap()
            .replace("null", "{\"key\":\"k\",\"by\":\"s\"}");
        assert_eq!(
            decode::<Value>(signed.as_bytes()).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn a_newer_format_is_refused_with_advice() {
        let error = decode::<Value>(&encode(&json!({"format": 99})).unwrap()).unwrap_err();
        assert!(error.hint().unwrap().contains("newer version"), "{error:?}");
    }
}
