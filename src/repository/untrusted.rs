//! A manifest is untrusted input: whoever can write to the store can write one. What it says is checked when it is decoded, so that
//! nothing behind that has to doubt a name, a size or a digest.
//!
//! Names become directories and object keys, so they have the letters that the configuration allows. Numbers have bounds within
//! which sums cannot overflow. No object is named twice: one archive a thousand times would be a thousand archives.

use std::collections::BTreeSet;

use crate::archive::SourceOutcome;
use crate::archive::{ArchiveInfo, is_sha256};
use crate::base::error::{Error, Result};
use crate::repository::{Manifest, ManifestSource, layout};
use crate::storage::upload::StoredObject;

/// Longest name of a source, in bytes: that of a server's source, a dot, that of a database, and a number.
const MAX_NAME_BYTES: usize = 160;

/// Longest name of a host or a code, in bytes.
const MAX_TEXT_BYTES: usize = 255;

/// Largest object, in bytes: a pebibyte. The sum over all that a document can name stays far below 2^64.
const MAX_OBJECT_BYTES: u64 = 1 << 50;

/// Raw bytes of a frame, at most.
const MAX_FRAME_BYTES: u64 = 2 << 20;

/// Most raw bytes, items or notes of a source.
const MAX_COUNT: u64 = 1 << 56;

/// Refuses a manifest that no release of this program has written.
pub(super) fn check(manifest: &Manifest) -> Result<()> {
    let home = layout::data(&manifest.id);
    if !is_text(&manifest.host) {
        return Err(bad("an invalid host name", &manifest.host));
    }
    if !is_name(&manifest.job) {
        return Err(bad("an invalid job name", &manifest.job));
    }
    if let Some(previous) = &manifest.previous
        && (previous.id == manifest.id || !is_sha256(&previous.sha256))
    {
        return Err(bad("an impossible previous snapshot", previous.id.as_str()));
    }
    if !manifest.skew_seconds.is_finite() {
        return Err(bad("an impossible skew", &manifest.skew_seconds.to_string()));
    }
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for source in &manifest.sources {
        check_source(source)?;
        if !names.insert(&source.name) {
            return Err(bad("two sources of one name", &source.name));
        }
    }
    for object in manifest.objects() {
        let key = object.key.as_str();
        if !key.starts_with(&home) {
            return Err(bad("an object outside its data", key));
        }
        if !keys.insert(key) {
            return Err(bad("an object twice", key));
        }
        check_object(object)?;
    }
    Ok(())
}

fn check_source(source: &ManifestSource) -> Result<()> {
    if !is_name(&source.name) {
        return Err(bad("an invalid source name", &source.name));
    }
    let is_kind = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if source.kind.is_empty() || source.kind.len() > 32 || !source.kind.chars().all(is_kind) {
        return Err(bad("an invalid kind", &source.kind));
    }
    source
        .outcome
        .as_ref()
        .map_or(Ok(()), |outcome| check_outcome(source, outcome))
}

fn check_outcome(source: &ManifestSource, outcome: &SourceOutcome) -> Result<()> {
    let counts = outcome.note_counts.values().chain([&outcome.raw_bytes, &outcome.items]);
    if let Some(count) = counts.copied().find(|count| *count > MAX_COUNT) {
        return Err(bad("an impossible count", &format!("{} {count}", source.name)));
    }
    let mut texts = outcome
        .note_counts
        .keys()
        .chain(outcome.versions.keys())
        .chain(outcome.position.keys());
    if let Some(text) = texts.find(|text| !is_text(text)) {
        return Err(bad("an invalid code", text));
    }
    outcome.archives.iter().try_for_each(check_archive)
}

fn check_archive(info: &ArchiveInfo) -> Result<()> {
    let key = info.archive.key.as_str();
    let directory = (1..=info.index.size_bytes).contains(&info.directory_bytes) && is_sha256(&info.directory_sha256);
    if !directory || !info.content_sha256.as_deref().is_none_or(is_sha256) {
        return Err(bad("an impossible index directory", key));
    }
    // A frame is some bytes of its archive, it holds two mebibytes at most, and an entry takes half a kibibyte. Behind the frames
    // that are counted stands the index, once more.
    let counted = info.frames.saturating_mul(MAX_FRAME_BYTES);
    let room = counted
        .saturating_add(info.index.size_bytes)
        .saturating_add(MAX_FRAME_BYTES);
    let counts =
        info.raw_bytes <= room && info.frames <= info.archive.size_bytes && info.entries <= info.raw_bytes / 512;
    if counts {
        Ok(())
    } else {
        Err(bad("impossible counts of", key))
    }
}

fn check_object(object: &StoredObject) -> Result<()> {
    if object.size_bytes > MAX_OBJECT_BYTES || !is_sha256(&object.sha256) {
        return Err(bad("an impossible size or digest of", object.key.as_str()));
    }
    Ok(())
}

/// Whether a text may be a name: it becomes a directory and a part of keys.
fn is_name(text: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.starts_with('.') && text.chars().all(right)
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control)
}

fn bad(what: &str, which: &str) -> Error {
    let which: String = which.chars().take(80).collect();
    Error::corrupt(format!("the manifest names {what}: {which:?}"))
        .with_hint("No release of wirevault writes such a manifest. Check who can write to the repository.")
}
