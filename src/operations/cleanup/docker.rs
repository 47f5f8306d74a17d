//! What nobody uses on a Docker engine.
//!
//! The engine itself has the last word: everything is removed without force, so a thing that a container took meanwhile is
//! refused, and stays. When each thing was first seen unused stands in a record beside the spool files, one per engine.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobMatcher};
use jiff::{SignedDuration, Timestamp};

use super::{Cleaned, MAX_NAMED};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::config::{CleanupConfig, CleanupScope, SourceConfig};
use crate::engines::docker::DockerSpec;
use crate::engines::docker::api::unused::{Kind, Present, Record, Thing, Unused, UnusedReport, look};
use crate::engines::docker::api::{Address, Engine};
use crate::operations::Session;
use crate::operations::session::process_environment;

/// A rule for an engine, ready to be applied.
#[derive(Debug)]
pub struct Unwanted {
    name: String,
    socket: Address,
    unused: Unused,
    keep: SignedDuration,
    records: PathBuf,
}

/// Where the record lies: what systemd keeps for the service, else the spool directory.
pub(super) fn record_directory(session: &Session) -> PathBuf {
    let state = process_environment("STATE_DIRECTORY").unwrap_or_default();
    match state.split(':').next().filter(|path| path.starts_with('/')) {
        Some(path) => PathBuf::from(path),
        None => session.spool_dir.clone(),
    }
}

impl Unwanted {
    /// Takes the rule of a configuration; `records` is the directory of the record.
    pub fn of(rule: &CleanupConfig, records: &Path) -> Result<Self> {
        let CleanupScope::Docker {
            socket,
            images,
            containers,
            volumes,
            exclude,
        } = &rule.reach
        else {
            return Err(Error::invalid(format!("[cleanup.{}] is for files", rule.name)));
        };
        let given = process_environment("DOCKER_HOST");
        Ok(Self {
            name: rule.name.clone(),
            socket: Address::meant(socket.as_ref(), given.as_deref())?,
            unused: Unused {
                images: matchers(images)?,
                containers: matchers(containers)?,
                volumes: matchers(volumes)?,
                exclude: matchers(exclude)?,
            },
            keep: exact::saturating_signed(rule.keep),
            records: records.to_owned(),
        })
    }

    /// Spares the volumes that sources name: what a job backs up is not removed by age, used or not. A source that takes
    /// everything names none.
    pub fn sparing(mut self, sources: &[SourceConfig]) -> Result<Self> {
        for source in sources {
            if let Some(docker) = source.kind.spec().downcast_ref::<DockerSpec>() {
                self.unused.exclude.extend(matchers(&docker.volumes)?);
            }
        }
        Ok(self)
    }

    /// Looks, notes what is unused, and removes what was for long enough if told so.
    pub async fn clean(&self, now: Timestamp, delete: bool) -> Result<Cleaned> {
        let engine = Engine::connect(&self.socket).await?;
        let record = self
            .records
            .join(format!("wirevault-unused-{}.json", plain(&engine.id().await?)));
        let present = Present {
            containers: engine.containers().await?,
            images: engine.inspected_images().await?,
            volumes: engine.volumes().await?,
        };
        let found = look(&self.unused, &present, &read(&record), self.keep, now);
        write(&record, &found.record)?;
        let mut cleaned = Cleaned {
            rule: self.name.clone(),
            deleted: delete,
            kept: exact::u64_from(found.young.len()),
            ..Cleaned::default()
        };
        remove(&engine, &found, &mut cleaned).await;
        Ok(cleaned)
    }
}

async fn remove(engine: &Engine, found: &UnusedReport, cleaned: &mut Cleaned) {
    let mut counts = [
        (Kind::Container, 0, "containers"),
        (Kind::Image, 0, "images"),
        (Kind::Volume, 0, "volumes"),
    ];
    for thing in &found.old {
        let gone = if cleaned.deleted {
            remove_one(engine, thing).await
        } else {
            Ok(())
        };
        match gone {
            Ok(()) => {
                for count in counts.iter_mut().filter(|count| count.0 == thing.kind) {
                    count.1 += 1;
                }
                cleaned.items += 1;
                cleaned.bytes += thing.bytes;
                if cleaned.paths.len() < MAX_NAMED {
                    cleaned.paths.push(shown(thing));
                }
            }
            // Somebody uses it since the look.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => cleaned.kept += 1,
            Err(error) if cleaned.failures.len() < MAX_NAMED => cleaned.failures.push(error.chain()),
            Err(_) => {}
        }
    }
    let counted: Vec<String> = counts
        .iter()
        .map(|(_, count, word)| format!("{count} {word}"))
        .collect();
    cleaned.counted = counted.join(", ");
}

async fn remove_one(engine: &Engine, thing: &Thing) -> Result<()> {
    let gone = |done: Result<()>| match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    };
    match thing.kind {
        Kind::Container => gone(engine.remove_container(&thing.id).await),
        Kind::Volume => gone(engine.remove_volume(&thing.id).await),
        Kind::Image => {
            for reference in &thing.references {
                gone(engine.remove_image(reference).await)?;
            }
            Ok(())
        }
    }
}

fn shown(thing: &Thing) -> String {
    let kind = format!("{:?}", thing.kind).to_lowercase();
    format!(
        "{kind} {}, unused since {}",
        thing.name,
        thing.since.strftime("%Y-%m-%d")
    )
}

fn matchers(patterns: &[String]) -> Result<Vec<GlobMatcher>> {
    let one = |pattern: &String| match Glob::new(pattern) {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(Error::invalid(format!("invalid pattern \"{pattern}\"")).with_cause(error)),
    };
    patterns.iter().map(one).collect()
}

/// The engine's id as part of a file name.
fn plain(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

/// Reads a record. One that is missing, damaged or another user's counts as none: everything is young then.
fn read(path: &Path) -> Record {
    let ours = std::fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw());
    let bytes = std::fs::read(path).ok().filter(|_| ours);
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn write(path: &Path, record: &Record) -> Result<()> {
    let said = || format!("write \"{}\", the record of unused objects", path.display());
    let bytes = serde_json::to_vec_pretty(record).map_err(|e| Error::invalid(said()).with_cause(e))?;
    let beside = path.with_extension(format!("{:08x}", rand::random::<u32>()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written.with_context(said)
}
