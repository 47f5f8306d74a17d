//! Base backups of a peer that does what no server does on demand: it breaks off, lies, or sends what would climb.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use sha2::{Digest, Sha256};
use wirevault::engines::postgres::physical::PhysicalSpec;
use wirevault::engines::{SourceOutcome, SourceSpec};
use wirevault::{ErrorKind, Result};

use crate::support::archives::Vault;

pub(crate) const SYSTEM: u64 = 7_713_199_700_940_515_586;
const SEGMENT: usize = 1 << 20;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A result of rows, complete.
fn rows(rows: &[&[Option<&str>]]) -> Vec<u8> {
    let mut bytes = message(b'T', &[0, 0]);
    for row in rows {
        let mut body = u16::try_from(row.len()).unwrap().to_be_bytes().to_vec();
        for value in *row {
            match value {
                None => body.extend_from_slice(&[0xff; 4]),
                Some(text) => {
                    body.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
                    body.extend_from_slice(text.as_bytes());
                }
            }
        }
        bytes.extend(message(b'D', &body));
    }
    bytes.extend(message(b'C', b"SELECT\0"));
    bytes
}

const READY: &[u8] = b"Z\0\0\0\x05I";

/// A member as the server's tar has it.
fn member(path: &str, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o} ", data.len()).as_bytes());
    put(136, b"14700000000 ");
    put(148, b"        ");
    put(156, if path.ends_with('/') { b"5" } else { b"0" });
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

/// The first and only segment that is needed.
fn wal() -> Vec<u8> {
    let mut segment = vec![0; SEGMENT];
    segment[2] = 2;
    segment[8..16].copy_from_slice(&0x20_0000_u64.to_le_bytes());
    segment[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
    segment
}

/// What the peer sends as a base.
pub(crate) struct Base {
    /// In the order in which they are sent; `pg_wal` is not in the manifest.
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
    /// What the manifest says otherwise: text, and in its place.
    pub(crate) forged: Vec<(String, String)>,
    /// What is sealed over in the manifest's own checksum.
    unsealed: bool,
    /// Bytes of the archive after which the copy ends, or the connection.
    cut: Option<(usize, bool)>,
    /// Where it ends and on which timeline, by the last row.
    end: [&'static str; 2],
    directory_mode: &'static str,
    /// The error that comes behind all.
    failure: Option<&'static str>,
}

impl Default for Base {
    fn default() -> Self {
        let files = vec![
            ("backup_label", b"START WAL LOCATION: 0/200028".to_vec()),
            ("base/", Vec::new()),
            ("base/1/", Vec::new()),
            ("base/1/1259", vec![0; 16_384]),
            ("PG_VERSION", b"15\n".to_vec()),
            ("global/", Vec::new()),
            ("global/pg_control", vec![7; 8192]),
            ("pg_wal/000000010000000000000002", wal()),
        ];
        Self {
            files,
            forged: Vec::new(),
            unsealed: false,
            cut: None,
            end: ["0/200100", "1"],
            directory_mode: "0700",
            failure: None,
        }
    }
}

impl Base {
    pub(crate) fn manifest(&self) -> String {
        let is_named = |path: &str| !path.ends_with('/') && !path.starts_with("pg_wal/");
        let line = |(path, data): &(&str, Vec<u8>)| {
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data);
            let sum = hex::encode(u32::try_from(crc).unwrap().to_le_bytes());
            format!(
                "{{ \"Path\": \"{path}\", \"Size\": {}, \"Last-Modified\": \"2026-11-28 12:00:00 GMT\", \
                 \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{sum}\" }}",
                data.len()
            )
        };
        let files: Vec<String> = self.files.iter().filter(|(path, _)| is_named(path)).map(line).collect();
        let mut text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": 1, \
             \"Start-LSN\": \"0/200028\", \"End-LSN\": \"0/200100\" }}\n],\n",
            files.join(",\n")
        );
        let seal = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
        let before = seal(&text);
        for (from, to) in &self.forged {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let sum = if self.unsealed { before } else { seal(&text) };
        format!("{text}\"Manifest-Checksum\": \"{sum}\"}}\n")
    }

    /// Returns the answer to `BASE_BACKUP`, and whether the connection ends with it.
    fn answer(&self) -> (Vec<u8>, bool) {
        let mut tar: Vec<u8> = self.files.iter().flat_map(|(path, data)| member(path, data)).collect();
        tar.extend_from_slice(&[0; 1024]);
        let ends = self.cut.is_some_and(|(_, ends)| ends);
        if let Some((cut, _)) = self.cut {
            tar.truncate(cut);
        }
        let mut bytes = rows(&[&[Some("0/200028"), Some("1")]]);
        bytes.extend(rows(&[&[None, None, Some("1100")]]));
        bytes.extend(message(b'H', &[0, 0, 0]));
        bytes.extend(message(b'd', b"nbase.tar\0\0"));
        for piece in tar.chunks(30_000) {
            bytes.extend(message(b'd', &[b"d", piece].concat()));
        }
        if ends {
            return (bytes, true);
        }
        bytes.extend(message(b'd', b"m"));
        for piece in self.manifest().as_bytes().chunks(100) {
            bytes.extend(message(b'd', &[b"d", piece].concat()));
        }
        bytes.extend(message(b'c', b""));
        bytes.extend(rows(&[&self.end.map(Some)]));
        if let Some(failure) = self.failure {
            bytes.extend(message(b'E', failure.as_bytes()));
        } else {
            bytes.extend(message(b'C', b"SELECT\0"));
        }
        bytes.extend_from_slice(READY);
        (bytes, false)
    }

    /// Serves one connection.
    fn serve(self) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let _ = self.talk(stream);
        });
        port
    }

    fn talk(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
        stream.read_exact(&mut startup)?;
        assert!(String::from_utf8_lossy(&startup).contains("replication\0true\0"));
        let mut hello = message(b'R', &[0, 0, 0, 0]);
        hello.extend(message(b'S', b"server_version\x0015.4\0"));
        hello.extend(message(b'S', b"in_hot_standby\0off\0"));
        hello.extend_from_slice(READY);
        stream.write_all(&hello)?;
        loop {
            let mut header = [0; 5];
            stream.read_exact(&mut header)?;
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            stream.read_exact(&mut body)?;
            let query = String::from_utf8_lossy(&body).into_owned();
            let word = query.trim_end_matches('\0');
            let (answer, ends) = match word {
                "IDENTIFY_SYSTEM" => (
                    rows(&[&[Some(&SYSTEM.to_string()), Some("1"), Some("0/200000"), None]]),
                    false,
                ),
                _ if word.starts_with("BASE_BACKUP (") => self.answer(),
                _ => {
                    let value = match word {
                        "SHOW server_version_num" => "150004",
                        "SHOW data_directory_mode" => self.directory_mode,
                        "SHOW wal_segment_size" => "1MB",
                        "SHOW block_size" => "8192",
                        "SHOW segment_size" => "1GB",
                        _ => "on",
                    };
                    (rows(&[&[Some(value)]]), false)
                }
            };
            stream.write_all(&answer)?;
            if ends {
                return Ok(());
            }
            if !word.starts_with("BASE_BACKUP") {
                stream.write_all(READY)?;
            }
        }
    }
}

async fn backup(base: Base) -> (Vault, Result<SourceOutcome>) {
    let port = base.serve();
    let spec = PhysicalSpec::of_url(&format!(
        "postgres-physical://u@127.0.0.1:{port}?sslmode=disable&read_timeout=240"
    ));
    let source = spec.unwrap().open().unwrap();
    let mut vault = Vault::new();
    let spool = tempfile::tempdir().unwrap();
    let done = vault.backup(source.as_ref(), spool.path()).await;
    (vault, done)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_base_is_taken() {
    let (_, done) = backup(Base::default()).await;
    let done = done.unwrap();
    assert_eq!(done.items, 6);
    assert_eq!(
        (done.position["start_lsn"].as_str(), done.position["end_lsn"].as_str()),
        ("0/200028", "0/200100")
    );
    assert_eq!(done.versions["postgres"], "15.4");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_or_lies_is_no_base() {
    let files = |change: fn(&mut Vec<(&'static str, Vec<u8>)>)| {
        let mut base = Base::default();
        change(&mut base.files);
        base
    };
    let forged = |from: &str, to: &str| Base {
        forged: vec![(from.to_owned(), to.to_owned())],
        ..Base::default()
    };
    let without = |name: &str| {
        let mut base = Base::default();
        base.files.retain(|(path, _)| *path != name);
        base
    };
    let cases: Vec<(Base, &str)> = vec![
        // In the middle of base/1/1259.
        (
            Base {
                cut: Some((6000, true)),
                ..Base::default()
            },
            "closed the connection",
        ),
        (
            Base {
                cut: Some((6000, false)),
                ..Base::default()
            },
            "receive file \"base/1/1259\"",
        ),
        (files(|files| files.insert(1, ("../x", b"x".to_vec()))), "\"../x\""),
        (files(|files| files.insert(1, ("/etc/x", b"x".to_vec()))), "\"/etc/x\""),
        (
            files(|files| files.retain(|(path, _)| !path.starts_with("pg_wal"))),
            "000000010000000000000002 is missing",
        ),
        (
            files(|files| files.last_mut().unwrap().1[24] ^= 1),
            "does not begin as a segment of this cluster",
        ),
        (
            forged("\"Size\": 16384", "\"Size\": 16385"),
            "\"base/1/1259\" came with 16384 bytes",
        ),
        (
            forged("\"PG_VERSION\"", "\"PG_VERSIOM\""),
            "\"PG_VERSIOM\" of the backup manifest did not come",
        ),
        (
            forged("\"PG_VERSION\"", "\"backup_label\""),
            "names file \"backup_label\" twice",
        ),
        (
            forged("\"CRC32C\"", "\"SHA256\""),
            "other checksums than were asked for",
        ),
        (without("PG_VERSION"), "the base has no file \"PG_VERSION\""),
        (without("backup_label"), "the base has no file \"backup_label\""),
        (
            without("global/pg_control"),
            "the base has no file \"global/pg_control\"",
        ),
        (
            Base {
                directory_mode: "0777",
                ..Base::default()
            },
            "invalid mode of the data directory: 0777",
        ),
        (
            Base {
                end: ["0/200000", "1"],
                ..Base::default()
            },
            "the base ends before it begins: 0/200028 to 0/200000",
        ),
        (
            Base {
                end: ["0/200100", "0"],
                ..Base::default()
            },
            "invalid timelines 1 to 0",
        ),
        (
            forged("\"0/200100\"", "\"0/200200\""),
            "needs WAL from 0/200028 to 0/200200",
        ),
        (
            Base {
                unsealed: true,
                ..forged("16384", "16384 ")
            },
            "another checksum than it says",
        ),
        (
            Base {
                failure: Some("SERROR\0CXX000\0Mcould not go on\0\0"),
                ..Base::default()
            },
            "could not go on",
        ),
    ];
    for (base, message) in cases {
        let (vault, done) = backup(base).await;
        let error = done.unwrap_err();
        assert!(error.chain().contains(message), "{message}: {error:?}");
        assert!(vault.archives.is_empty());
    }
    // A file of the same length with other bytes: as after a flipped bit on the way.
    let mut base = Base::default();
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, b"15\n");
    let sum = hex::encode(u32::try_from(crc).unwrap().to_le_bytes());
    base.forged.push((sum, "00000000".to_owned()));
    let error = backup(base).await.1.unwrap_err();
    assert!(
        error.chain().contains("\"PG_VERSION\" came with another checksum"),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

/// The server reads again what was torn, and counts what is damaged at the very end, when all of it came.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_the_server_counts_as_damaged_are_noted() {
    let base = Base {
        failure: Some("SERROR\0CXX001\0Mchecksum verification failure during base backup\0\0"),
        ..Base::default()
    };
    let (vault, done) = backup(base).await;
    assert_eq!(done.unwrap().note_counts["damaged"], 1);
    assert_eq!(vault.reporter.notes(), ["damaged data pages"]);
}
