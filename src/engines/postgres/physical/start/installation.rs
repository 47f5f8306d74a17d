//! An installation of PostgreSQL on this host, of one major version.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::process::{Start, version};
use super::user::User;

/// The server's program, and what it says of its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installation {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// Looks for an installation: in the directory that was named and nowhere else, or in the usual ones. Returns why there is none.
pub(super) async fn find(major: u32, named: Option<&Path>, user: &User) -> Result<Installation, String> {
    let directories = match named {
        Some(directory) => vec![directory.to_owned()],
        None => usual(major, std::env::var_os("PATH").as_deref()),
    };
    let mut others = Vec::new();
    for directory in &directories {
        let program = directory.join("postgres");
        if !program.is_file() {
            continue;
        }
        let start = Start {
            program: &program,
            arguments: vec!["--version".to_owned()],
            user,
            directory: Path::new("/"),
            environment: vec![("LC_ALL".to_owned(), "C".to_owned())],
        };
        let shown = program.display();
        match version(&start).await {
            Ok(said) if major_in(&said) == Some(major) => {
                return Ok(Installation {
                    version: words(&said).to_owned(),
                    program,
                });
            }
            Ok(said) => others.push(format!("\"{shown}\" is {}", said.chars().take(100).collect::<String>())),
            Err(error) => others.push(format!("\"{shown}\" cannot be run by {}: {error}", user.text())),
        }
    }
    let place = named.map_or_else(
        || "this host".to_owned(),
        |directory| format!("\"{}\"", directory.display()),
    );
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(" ({})", others.join("; "))
    };
    Err(format!(
        "no server of PostgreSQL {major} was found in {place}{others}; install one, or name its directory with --bin-dir"
    ))
}

/// Returns where installations lie: of the Debian and PGDG packages, of a build by hand, and whatever the path names.
fn usual(major: u32, path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut all = vec![
        PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        PathBuf::from(format!("/usr/pgsql-{major}/bin")),
        PathBuf::from("/usr/local/pgsql/bin"),
    ];
    // What is relative would be found wherever somebody stands.
    let of_path = path.into_iter().flat_map(std::env::split_paths);
    all.extend(of_path.filter(|directory| directory.is_absolute()));
    all
}

/// Returns the words behind the name of the program: `15.4 (Debian 15.4-1)`.
fn words(said: &str) -> &str {
    said.split_once("(PostgreSQL) ").map_or(said, |(_, words)| words)
}

fn major_in(said: &str) -> Option<u32> {
    let digits: String = words(said).chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .ok()
        .filter(|_| said.starts_with("postgres (PostgreSQL) "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_version_is_what_postgres_says() {
        for (said, major) in [
            ("postgres (PostgreSQL) 15.4 (Debian 15.4-1)", Some(15)),
            ("postgres (PostgreSQL) 18devel", Some(18)),
            ("postgres (PostgreSQL) ", None),
            ("psql (PostgreSQL) 15.4", None),
            ("", None),
        ] {
            assert_eq!(major_in(said), major, "{said}");
        }
        assert_eq!(
            words("postgres (PostgreSQL) 15.4 (Debian 15.4-1)"),
            "15.4 (Debian 15.4-1)"
        );
    }

    #[tokio::test]
    async fn what_is_named_is_the_only_place() {
        let place = tempfile::tempdir().unwrap();
        let none = find(15, Some(place.path()), &User::Oneself).await.unwrap_err();
        assert!(
            none.contains("no server of PostgreSQL 15") && none.contains("--bin-dir"),
            "{none}"
        );
        assert!(usual(15, Some(OsStr::new("bin:/opt/bin"))).ends_with(&["/opt/bin".into()]));
        assert!(!usual(15, Some(OsStr::new("bin"))).contains(&"bin".into()));
    }
}
