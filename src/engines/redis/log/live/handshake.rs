//! What a replica says before it synchronizes, and the answers of a primary.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::redis::log::position::ReplicationId;
use crate::engines::redis::session::connection::closed;
use crate::engines::redis::wire::resp::{self, Reply};

/// Bytes of commands that are not answered yet, at most: a password is the longest of what is said.
const MAX_BYTES: usize = 64 << 10;

/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Say(&'static [u8]),
    /// It asks for the data.
    Synchronize,
}

/// Answers until the replica asks for the data, with the replication ID that it has.
pub(super) async fn greet(stream: &mut TcpStream, id: &ReplicationId) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        while let Some(command) = next(&mut buffer)? {
            match answer(&command, id)? {
                Answer::Say(words) => stream.write_all(words).await.context("answer it")?,
                Answer::Synchronize => return Ok(()),
            }
        }
        if stream.read_buf(&mut buffer).await.context("read what it says")? == 0 {
            return Err(closed());
        }
    }
}

/// Takes a command off the front of what came; None where it is not whole yet. Newlines in front only keep a connection alive.
pub(super) fn next(buffer: &mut Vec<u8>) -> Result<Option<Vec<Vec<u8>>>> {
    let empty = buffer.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    buffer.drain(..empty);
    let strange = || Error::corrupt("it does not speak the replication protocol");
    match buffer.first() {
        None | Some(b'*') => {}
        Some(&TLS_HANDSHAKE) => {
            return Err(Error::unsupported("it speaks TLS on the replication link").with_hint(tls_advice()));
        }
        Some(_) => return Err(strange()),
    }
    let Some((command, used)) = resp::decode(buffer).map_err(|_| strange())? else {
        if buffer.len() > MAX_BYTES {
            return Err(strange());
        }
        return Ok(None);
    };
    buffer.drain(..used);
    let Reply::Array(words) = command else {
        return Err(strange());
    };
    let words = words.iter().map(|word| word.bytes().map(<[u8]>::to_vec));
    words.collect::<Option<_>>().ok_or_else(strange).map(Some)
}

/// What to do where a server replicates by TLS alone.
pub(super) fn tls_advice() -> &'static str {
    "Set tls-replication no on the target for the restore, or restore into a directory: --into DIRECTORY."
}

fn answer(command: &[Vec<u8>], id: &ReplicationId) -> Result<Answer> {
    let name = command.first().map(|name| name.to_ascii_uppercase());
    Ok(match name.as_deref() {
        Some(b"PING") => Answer::Say(b"+PONG\r\n"),
        // A password of `masterauth` is for another primary: it is neither read nor needed.
        Some(b"AUTH" | b"REPLCONF") => Answer::Say(b"+OK\r\n"),
        Some(b"PSYNC") if command.get(1).is_some_and(|asked| asked == id.as_str().as_bytes()) => Answer::Synchronize,
        Some(b"PSYNC") => {
            let message = "it does not know the replication ID of the target";
            return Err(Error::new(ErrorKind::Denied, message));
        }
        _ => return Err(Error::corrupt("it says what no replica says to its primary")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn encoded(words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        resp::encode(words, &mut bytes);
        bytes
    }

    #[test]
    fn the_data_go_to_whoever_knows_the_id_alone() {
        let id: ReplicationId = "a".repeat(40).parse().unwrap();
        let said = |words: &[&[u8]]| {
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
            answer(&words, &id)
        };
        assert_eq!(said(&[b"ping"]).unwrap(), Answer::Say(b"+PONG\r\n"));
        for words in [
            &[&b"AUTH"[..], b"user", b"secret"][..],
            &[b"REPLCONF", b"listening-port", b"6379"],
            &[b"replconf", b"capa", b"eof", b"capa", b"psync2"],
        ] {
            assert_eq!(said(words).unwrap(), Answer::Say(b"+OK\r\n"));
        }
        assert_eq!(
            said(&[b"PSYNC", "a".repeat(40).as_bytes(), b"7"]).unwrap(),
            Answer::Synchronize
        );
        for other in [
            &[&b"PSYNC"[..], b"?", b"-1"][..],
            &[b"PSYNC", &[b'b'; 40], b"1"],
            &[b"PSYNC"],
        ] {
            assert_eq!(said(other).unwrap_err().kind(), ErrorKind::Denied);
        }
        for other in [&[&b"SYNC"[..]][..], &[b"GET", b"key"], &[]] {
            assert_eq!(said(other).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn commands_come_whole_and_nothing_else_does() {
        let mut buffer = b"\n\n".to_vec();
        assert_eq!(next(&mut buffer).unwrap(), None);
        buffer.extend(encoded(&[b"PING"]));
        buffer.extend(b"\n");
        buffer.extend(encoded(&[b"AUTH", b"x"]).get(..9).unwrap());
        assert_eq!(next(&mut buffer).unwrap(), Some(vec![b"PING".to_vec()]));
        assert_eq!(next(&mut buffer).unwrap(), None);
        for wrong in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"+OK\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n*1\r\n+a\r\n",
            b"\0",
        ] {
            assert!(next(&mut wrong.to_vec()).is_err(), "{}", wrong.escape_ascii());
        }
        let endless = [&b"*1\r\n$60000000\r\n"[..], &vec![b'x'; MAX_BYTES]].concat();
        assert!(next(&mut endless.clone()).is_err());
        let error = next(&mut b"\x16\x03\x01\x02".to_vec()).unwrap_err();
        assert!(error.chain().contains("TLS"), "{error:?}");
    }
}
