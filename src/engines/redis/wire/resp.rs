//! Codec of RESP2, the protocol of commands and replies. No I/O.
//!
//! Specification: <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;

/// Bytes of one reply at most: nothing that is asked for over commands is larger.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Depth of arrays within arrays.
const MAX_DEPTH: usize = 8;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

impl Reply {
    /// Returns the reply, or the server's error as ours.
    pub(crate) fn checked(self) -> Result<Self> {
        match self {
            Self::Error(text) => Err(server_error(&text)),
            other => Ok(other),
        }
    }

    /// Returns the bytes of a string of either form.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text) => Some(text.as_bytes()),
            Self::Bulk(bytes) => bytes.as_deref(),
            _ => None,
        }
    }

    /// Returns a string of either form as text.
    pub(crate) fn text(&self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Returns the elements of an array; none of anything else.
    pub(crate) fn elements(&self) -> &[Reply] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }
}

/// Returns whether the server keeps to itself what was asked for: a right is missing, or the command is not offered. What
/// would have been answered is not known then.
pub(crate) fn keeps_to_itself(text: &str) -> bool {
    text.starts_with("NOPERM") || text.contains("unknown command")
}

/// Turns an error of the server into ours.
pub(crate) fn server_error(text: &str) -> Error {
    let code = text.split_whitespace().next().unwrap_or_default();
    let (kind, hint) = match code {
        "WRONGPASS" => (ErrorKind::Denied, "Check user and password."),
        "NOAUTH" => (
            ErrorKind::Denied,
            "Give the password in the URL, by password_file, or by REDISCLI_AUTH.",
        ),
        "NOPERM" => (
            ErrorKind::Denied,
            "ACL SETUSER NAME on >PASSWORD +psync +replconf +ping +info +acl|list +config|get +module|list gives the rights of a \
             backup.",
        ),
        "LOADING" => (
            ErrorKind::Unavailable,
            "The server is loading its data; try again when it is done.",
        ),
        "NOMASTERLINK" | "MASTERDOWN" => (
            ErrorKind::Unavailable,
            "This replica is not in sync with its primary; back up the primary or another replica.",
        ),
        "OOM" => (ErrorKind::LimitExceeded, "Raise maxmemory of the server."),
        "READONLY" => (ErrorKind::Denied, "The server is a replica: restore into its primary."),
        "BUSYKEY" => (ErrorKind::AlreadyExists, "Use --conflict to replace or skip it."),
        _ if text.contains("unknown command") => (ErrorKind::Unsupported, "The service does not offer this command."),
        // Servers before 6 say this, and 6 and later to AUTH without a password set.
        _ if text.contains("invalid password") || text.contains("AUTH") => {
            (ErrorKind::Denied, "Check user and password.")
        }
        _ => return Error::new(ErrorKind::Other, format!("the server says: {text}")),
    };
    Error::new(kind, format!("the server says: {text}")).with_hint(hint)
}

/// Appends a command.
pub(crate) fn encode(arguments: &[&[u8]], out: &mut Vec<u8>) {
    header(b'*', arguments.len(), out);
    for argument in arguments {
        header(b'$', argument.len(), out);
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `*<n>\r\n` or `$<n>\r\n`.
pub(crate) fn header(kind: u8, number: usize, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let (mut number, mut from) = (number, digits.len());
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + exact::known::<u8, _>(number % 10, "it is one digit");
        number /= 10;
        from -= 1;
        if number == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(exact::part(&digits, from.., "it is where the last digit was put"));
    out.extend_from_slice(b"\r\n");
}

/// Takes one reply off the front. `None`: it is not whole yet.
pub(crate) fn decode(buf: &[u8]) -> Result<Option<(Reply, usize)>> {
    decode_at(buf, 0)
}

fn decode_at(buf: &[u8], depth: usize) -> Result<Option<(Reply, usize)>> {
    if depth > MAX_DEPTH {
        return Err(Error::corrupt("arrays within arrays of a reply are too deep"));
    }
    let Some((&kind, rest)) = buf.split_first() else {
        return Ok(None);
    };
    let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
        if buf.len() > MAX_REPLY_BYTES {
            return Err(Error::corrupt("a line of a reply has no end"));
        }
        return Ok(None);
    };
    let line = exact::part(rest, ..end, "the end of the line was found there");
    let after = exact::part(rest, end + 2.., "the end of the line was found before it");
    let head = 1 + end + 2;
    let text = || String::from_utf8_lossy(line).into_owned();
    match kind {
        b'+' => Ok(Some((Reply::Simple(text()), head))),
        b'-' => Ok(Some((Reply::Error(text()), head))),
        b':' => Ok(Some((Reply::Integer(number(line)?), head))),
        b'$' => match number(line)? {
            -1 => Ok(Some((Reply::Bulk(None), head))),
            length => {
                let length = bounded(length)?;
                let Some(body) = after.get(..length) else {
                    return Ok(None);
                };
                match after.get(length..length + 2) {
                    None => Ok(None),
                    Some(b"\r\n") => Ok(Some((Reply::Bulk(Some(body.to_vec())), head + length + 2))),
                    Some(_) => Err(Error::corrupt(
                        "a string of a reply has another length than it announces",
                    )),
                }
            }
        },
        b'*' => {
            let mut elements = Vec::new();
            let mut used = head;
            for _ in 0..bounded(number(line)?.max(0))? {
                match decode_at(exact::range(buf, used.., "a reply")?, depth + 1)? {
                    None => return Ok(None),
                    Some((element, more)) => {
                        elements.push(element);
                        used += more;
                    }
                }
            }
            Ok(Some((Reply::Array(elements), used)))
        }
        other => Err(
            Error::corrupt(format!("a reply begins with '{}'", other.escape_ascii()))
                .with_hint("Check that host and port are those of a Redis or Valkey server."),
        ),
    }
}

fn number(line: &[u8]) -> Result<i64> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::corrupt("a reply announces an invalid length"))
}

fn bounded(length: i64) -> Result<usize> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_REPLY_BYTES)
        .ok_or_else(|| Error::corrupt(format!("a reply announces {length} bytes")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn replies_come_out_whole_or_not_at_all() {
        let bytes = b"*4\r\n+OK\r\n:-5\r\n$-1\r\n$3\r\na\r\n\r\n";
        let (reply, used) = decode(bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        let parts = vec![
            Reply::Simple("OK".to_owned()),
            Reply::Integer(-5),
            Reply::Bulk(None),
            Reply::Bulk(Some(b"a\r\n".to_vec())),
        ];
        assert_eq!(reply, Reply::Array(parts));
        for len in 0..bytes.len() {
            assert_eq!(decode(bytes.get(..len).unwrap()).unwrap(), None);
        }
    }

    #[test]
    fn forged_replies_are_errors() {
        for bytes in [&b"$99999999999\r\n"[..], b"HTTP/1.1 400\r\n", b"$1\r\nabcd", b":x\r\n"] {
            assert!(decode(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(decode(&b"*1\r\n".repeat(20)).is_err());
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut out = Vec::new();
        encode(&[b"SELECT", b"0"], &mut out);
        encode(&[&[b'x'; 120]], &mut out);
        assert!(out.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$120\r\nxxx"));
    }
}
