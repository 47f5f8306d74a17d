//! Archives of base backups that nobody took: whatever is wrong with one is found before a server could start on it, and nothing is left.

use std::path::Path;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wirevault::archive::{ArchiveReader, EntryKind, EntryMeta, StreamRecord};
use wirevault::engines::{EngineFlags, GivenPlace, Registry, RestoreChoices, RestoreRequest, Stored, Tools};
use wirevault::{Error, ErrorKind, Result};

use crate::postgres_physical_peer::{Base, SYSTEM};
use crate::support::archives::Vault;

fn facts() -> Value {
    json!({
        "server_version": "15.4", "major": 15, "system_identifier": SYSTEM, "timeline": 1, "start_lsn": "0/200028",
        "end_timeline": 1, "end_lsn": "0/200100", "wal_segment_bytes": 1 << 20, "data_checksums": true,
        "directory_mode": 0o700, "from_standby": false, "manifest_checksums": "crc32c", "tablespaces": [],
        "damaged_files": 0
    })
}

/// An archive as it should be, or nearly.
struct Forged {
    base: Base,
    facts: Value,
    /// Stored, and in no manifest.
    more: Vec<EntryMeta>,
    /// What is stored of a file in place of its content.
    swapped: Option<&'static str>,
}

impl Default for Forged {
    fn default() -> Self {
        Self {
            base: Base::default(),
            facts: facts(),
            more: Vec::new(),
            swapped: None,
        }
    }
}

impl Forged {
    async fn store(self) -> ArchiveReader {
        let mut vault = Vault::new();
        let writer = vault.writer().await;
        let mut writer = writer.into_sequential();
        let written = tokio::task::spawn_blocking(move || -> Result<_> {
            let mut entry = |meta: &EntryMeta, data: &[u8]| {
                writer.begin_entry(meta)?;
                writer.write(data)?;
                writer.finish_entry(false)
            };
            for (path, data) in &self.base.files {
                let mut meta = EntryMeta::file(*path, data.len().try_into().unwrap(), (1, 0));
                if path.ends_with('/') {
                    (meta.kind, meta.mode) = (EntryKind::Directory, 0o700);
                }
                let is_swapped = self.swapped == Some(*path);
                let other: Vec<u8> = data.iter().map(|byte| byte ^ 1).collect();
                entry(&meta, if is_swapped { &other } else { data })?;
            }
            for meta in &self.more {
                entry(meta, b"")?;
            }
            let manifest = self.base.manifest();
            let size = manifest.len().try_into().unwrap();
            entry(&EntryMeta::file("backup_manifest", size, (1, 0)), manifest.as_bytes())?;
            writer.finish_stream(StreamRecord {
                stream: "postgres-physical".to_owned(),
                prefixes: Vec::new(),
                chunks: 0,
                bytes: 0,
                rows: None,
                row_digest: None,
                facts: self.facts,
            })?;
            Ok(writer)
        });
        vault.archives = written.await.unwrap().unwrap().finish().await.unwrap();
        vault.reader().await
    }
}

fn tools(spool: &Path) -> Tools {
    Tools {
        reporter: wirevault::base::report::silent(),
        cancel: CancellationToken::new(),
        spool_dir: spool.to_owned(),
    }
}

/// Restores as the verb does: a look first, then the work.
async fn restore(reader: ArchiveReader, into: &Path) -> Result<()> {
    let engines = Registry::standard();
    let engine = engines.of_kind("postgres-physical").unwrap();
    let given = GivenPlace {
        text: into.display().to_string(),
        spec: None,
    };
    let mut restorer = engine.restorer(RestoreRequest {
        source: "db".to_owned(),
        kind: engine.kind(),
        snapshot: "s".to_owned(),
        outcome: None,
        into: Some(given),
        place: None,
        called: None,
        is_one_of_several: false,
        wants_devices: false,
        options: RestoreChoices::default(),
        tools: tools(into.parent().unwrap()),
    })?;
    restorer.check_target()?;
    restorer.plan(&reader).await?;
    restorer.restore(reader).await.map(drop)
}

async fn prove(reader: ArchiveReader, spool: &Path) -> Result<()> {
    let engines = Registry::standard();
    let engine = engines.of_kind("postgres-physical").unwrap();
    let stored = Stored {
        source: "db".to_owned(),
        snapshot: "s".to_owned(),
        reader,
        flags: EngineFlags::default(),
        tools: tools(spool),
    };
    engine.prove_content(&stored).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_as_it_should_be_is_proven_and_restored() {
    let place = tempfile::tempdir().unwrap();
    let into = place.path().join("data");
    let reader = Forged::default().store().await;
    prove(reader.clone(), place.path()).await.unwrap();
    restore(reader, &into).await.unwrap();
    for (path, data) in Base::default().files {
        if path.ends_with('/') {
            assert!(into.join(path).is_dir(), "{path}");
        } else {
            assert!(std::fs::read(into.join(path)).unwrap() == data, "{path}");
        }
    }
    assert!(into.join("pg_tblspc").is_dir());
}

/// A server makes links by the map when it starts, to wherever it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_map_of_tablespaces_is_never_restored() {
    let place = tempfile::tempdir().unwrap();
    let into = place.path().join("data");
    let mut forged = Forged::default();
    forged.base.files.push(("tablespace_map", b"16385 /etc\n".to_vec()));
    let reader = forged.store().await;
    prove(reader.clone(), place.path()).await.unwrap();
    restore(reader, &into).await.unwrap();
    assert!(into.join("global/pg_control").exists() && !into.join("tablespace_map").exists());
    assert_eq!(std::fs::read_dir(into.join("pg_tblspc")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_into_one_directory_leave_one_whole_base() {
    let place = tempfile::tempdir().unwrap();
    let into = place.path().join("data");
    let reader = Forged::default().store().await;
    // Another one holds it.
    std::fs::create_dir(&into).unwrap();
    let held = std::fs::File::open(&into).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = restore(reader.clone(), &into).await.unwrap_err();
    assert!(error.chain().contains("another restore into"), "{error:?}");
    drop(held);

    let both = tokio::join!(restore(reader.clone(), &into), restore(reader, &into));
    let failed = match both {
        (Ok(()), Err(error)) | (Err(error), Ok(())) => error.chain(),
        other => unreachable!("{other:?}"),
    };
    assert!(
        failed.contains("another restore into") || failed.contains("is not empty"),
        "{failed}"
    );
    for (path, _) in Base::default().files {
        assert!(into.join(path).exists(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_server_sent_is_neither_proven_nor_restored() {
    let link = EntryMeta {
        kind: EntryKind::Symlink,
        link: Some(b"/tmp".to_vec()),
        ..EntryMeta::file("pg_tblspc/1", 0, (1, 0))
    };
    let hard = EntryMeta {
        kind: EntryKind::Hardlink,
        link: Some(b"PG_VERSION".to_vec()),
        ..EntryMeta::file("other", 0, (1, 0))
    };
    let without = |name: &str| {
        let mut forged = Forged::default();
        forged.base.files.retain(|(path, _)| *path != name);
        forged
    };
    let said = |key: &str, value: Value| {
        let mut forged = Forged::default();
        forged.facts[key] = value;
        forged
    };
    let cases = [
        (
            Forged {
                more: vec![link],
                ..Forged::default()
            },
            "neither a file nor a directory",
        ),
        (
            Forged {
                more: vec![hard],
                ..Forged::default()
            },
            "neither a file nor a directory",
        ),
        (
            Forged {
                more: vec![EntryMeta::file("postgresql.auto.conf", 0, (1, 0))],
                ..Forged::default()
            },
            "\"postgresql.auto.conf\" is not in the backup manifest",
        ),
        (
            Forged {
                swapped: Some("base/1/1259"),
                ..Forged::default()
            },
            "\"base/1/1259\" has another checksum",
        ),
        (
            Forged {
                swapped: Some("global/pg_control"),
                ..Forged::default()
            },
            "\"global/pg_control\" has another checksum",
        ),
        (
            Forged {
                swapped: Some("pg_wal/000000010000000000000002"),
                ..Forged::default()
            },
            "does not begin as a segment",
        ),
        (
            without("pg_wal/000000010000000000000002"),
            "000000010000000000000002 is missing",
        ),
        (without("backup_label"), "no file \"backup_label\""),
        (without("PG_VERSION"), "no file \"PG_VERSION\""),
        (without("global/pg_control"), "no file \"global/pg_control\""),
        (
            said("end_lsn", json!("0/200200")),
            "needs WAL from 0/200028 to 0/200100",
        ),
        (said("end_lsn", json!("0/100")), "ends before it begins"),
        (said("end_timeline", json!(0)), "invalid timelines 1 to 0"),
        (said("wal_segment_bytes", json!(3)), "invalid WAL segment size 3"),
        (
            said("directory_mode", json!(0o777)),
            "invalid mode of the data directory: 0777",
        ),
        (said("system_identifier", json!(7)), "does not begin as a segment"),
        (said("manifest_checksums", json!("sha256")), "other checksums"),
    ];
    for (forged, message) in cases {
        let place = tempfile::tempdir().unwrap();
        let into = place.path().join("data");
        let reader = forged.store().await;
        let check = |error: &Error| {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{message}: {error:?}");
            assert!(error.chain().contains(message), "{message}: {error:?}");
        };
        check(&prove(reader.clone(), place.path()).await.unwrap_err());
        check(&restore(reader, &into).await.unwrap_err());
        assert!(!into.exists(), "{message}");
    }
    // A tablespace goes nowhere unless the operator says where.
    let place = tempfile::tempdir().unwrap();
    let spaces = json!([{ "oid": 16385, "location": place.path().join("space") }]);
    let error = restore(said("tablespaces", spaces).store().await, &place.path().join("data"))
        .await
        .unwrap_err();
    assert!(
        error.chain().contains("no directory given for tablespace 16385"),
        "{error:?}"
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
