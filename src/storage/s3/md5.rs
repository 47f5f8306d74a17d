//! MD5, for `Content-MD5`: the one checksum of a body that every S3-compatible store knows and compares.
//!
//! It guards against accidents on the way, not against anybody; what is stored is known by its SHA-256. Buckets whose objects
//! are locked by default refuse a put without it, or without another checksum, which many stores do not know.
//!
//! RFC 1321: <https://www.rfc-editor.org/rfc/rfc1321>.

use bytes::Bytes;
use md5::Digest as _;

use crate::base::error::{Error, ErrorKind, Result};

/// Bodies up to this size are digested where they are, in bytes; larger ones by a thread that may block.
const SMALL_BYTES: usize = 64 << 10;

/// The MD5 of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Md5([u8; 16]);

impl Md5 {
    pub(super) async fn of(body: Bytes) -> Result<Self> {
        if body.len() <= SMALL_BYTES {
            return Ok(Self(digest(&body)));
        }
        let ended = |error| Error::new(ErrorKind::Other, "digest worker ended early").with_cause(error);
        tokio::task::spawn_blocking(move || Self(digest(&body)))
            .await
            .map_err(ended)
    }

    /// Returns the value of the header.
    pub(super) fn header(&self) -> String {
        aws_smithy_types::base64::encode(self.0)
    }

    /// Whether an entity tag is an MD5, and another one.
    pub(super) fn differs_from(&self, tag: &str) -> bool {
        let tag = tag.trim_matches('"');
        let is_md5 = tag.len() == 32 && tag.bytes().all(|b| b.is_ascii_hexdigit());
        is_md5 && !tag.eq_ignore_ascii_case(&hex::encode(self.0))
    }
}

/// Returns the MD5 of some bytes.
fn digest(bytes: &[u8]) -> [u8; 16] {
    md5::Md5::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1321, A.5, and lengths around a block.
    #[test]
    fn digests_are_those_of_the_rfc() {
        for (text, wanted) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(hex::encode(digest(text.as_bytes())), wanted, "{text}");
        }
        let a = |n: usize| hex::encode(digest(&vec![b'a'; n]));
        assert_eq!(a(55), "ef1772b6dff9a122358552954ad0df65");
        assert_eq!(a(56), "3b0c8ac703f828b04c6c197006d17218");
        assert_eq!(a(64), "014842d480b571495a4a0363793f7367");
    }
}
