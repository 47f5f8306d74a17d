//! Which directory each tablespace goes into. What an archive says of places is followed only where the operator repeats it.

use std::path::{Path, PathBuf};

use super::target::resolved;
use crate::base::error::{Error, Result};
use crate::engines::postgres::physical::stored::facts::{BaseFacts, Tablespace};

/// A tablespace and its new place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) tablespace: Tablespace,
    /// Absolute.
    pub(crate) into: PathBuf,
}

/// Assigns a directory to each tablespace that lies beside the data directory, by flags `OLD=NEW`: OLD is its directory or its OID.
/// Where several bases come back, a flag may be for another one.
pub(crate) fn assign(
    facts: &BaseFacts,
    (flags, of_several): (&[(String, String)], bool),
    directory: &Path,
) -> Result<Vec<Assigned>> {
    let beside: Vec<&Tablespace> = facts.tablespaces.iter().filter(|one| !one.is_in_place()).collect();
    let is_meant =
        |one: &Tablespace, old: &str| one.location == old.trim_end_matches('/') || one.oid.to_string() == old;
    if let Some((old, _)) = flags
        .iter()
        .find(|(old, _)| !of_several && !beside.iter().any(|one| is_meant(one, old)))
    {
        return Err(
            Error::invalid(format!("--tablespace: the base has no tablespace \"{old}\"")).with_hint(known(&beside)),
        );
    }
    let mut assigned = Vec::new();
    // Without links, which would hide that one lies within another.
    let mut places = vec![resolved(directory)?];
    for tablespace in &beside {
        let mut meant = flags.iter().filter(|(old, _)| is_meant(tablespace, old));
        let (oid, was) = (tablespace.oid, &tablespace.location);
        let Some((_, new)) = meant.next() else {
            let message = format!("no directory given for tablespace {oid} (\"{was}\")");
            return Err(Error::invalid(message).with_hint(format!(
                "Add --tablespace {was}=DIRECTORY with a new or empty one; the same directory on both sides is its old place."
            )));
        };
        if meant.next().is_some() {
            return Err(Error::invalid(format!("--tablespace names tablespace {oid} twice")));
        }
        let into = std::path::absolute(new)?;
        let real = resolved(&into)?;
        let overlaps = |other: &Path| real.starts_with(other) || other.starts_with(&real);
        if places.iter().any(|place| overlaps(place)) {
            let message = format!(
                "--tablespace: \"{}\" lies within another directory of this restore",
                into.display()
            );
            return Err(Error::invalid(message)
                .with_hint("Give each tablespace a directory of its own, beside the data directory."));
        }
        let tablespace = (*tablespace).clone();
        assigned.push(Assigned { tablespace, into });
        places.push(real);
    }
    Ok(assigned)
}

fn known(beside: &[&Tablespace]) -> String {
    if beside.is_empty() {
        return "It has none beside its data directory; leave the flag out.".to_owned();
    }
    let list: Vec<String> = beside
        .iter()
        .map(|one| format!("{} (OID {})", one.location, one.oid))
        .collect();
    format!("It has {}.", list.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engines::postgres::physical::stored::wal::tests::facts;

    fn of(flags: &[(&str, &str)]) -> Result<Vec<Assigned>> {
        let spaces = [(7, "/mnt/a"), (8, "/mnt/b"), (9, "pg_tblspc/9")];
        let spaces = spaces.map(|(oid, location)| Tablespace {
            oid,
            location: location.to_owned(),
        });
        let facts = BaseFacts {
            tablespaces: spaces.to_vec(),
            ..facts()
        };
        let flags: Vec<_> = flags.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assign(&facts, (&flags, false), Path::new("/srv/data"))
    }

    #[test]
    fn every_tablespace_needs_a_directory_of_its_own() {
        let assigned = of(&[("/mnt/a/", "/new/a"), ("8", "/mnt/b")]).unwrap();
        let places: Vec<_> = assigned
            .iter()
            .map(|one| (one.tablespace.oid, one.into.to_str().unwrap()))
            .collect();
        assert_eq!(places, [(7, "/new/a"), (8, "/mnt/b")]);
        for (flags, message) in [
            (vec![("7", "/n")], "tablespace 8"),
            (vec![("7", "/n"), ("8", "/m"), ("10", "/o")], "no tablespace \"10\""),
            (vec![("7", "/n"), ("8", "/m"), ("9", "/o")], "no tablespace \"9\""),
            (vec![("7", "/n"), ("/mnt/a", "/n2"), ("8", "/m")], "twice"),
            (vec![("7", "/srv/data/x"), ("8", "/m")], "within another"),
            (vec![("7", "/srv"), ("8", "/m")], "within another"),
            (vec![("7", "/n"), ("8", "/n/deep")], "within another"),
        ] {
            let error = of(&flags).unwrap_err();
            assert!(error.chain().contains(message), "{flags:?}: {error:?}");
        }
    }
}
