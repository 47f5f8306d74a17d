//! Images of real servers from this machine's own files: a program, the libraries it is linked with, and a static busybox.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::docker::DockerEngine;

/// Copies files below a root, under the same path.
fn copy(files: &Path, from: &Path) {
    let to = files.join(from.strip_prefix("/").unwrap());
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    if !to.exists() {
        std::fs::copy(from, &to).unwrap();
    }
}

/// Returns the libraries that programs are linked with, the loader among them.
fn libraries(programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output().unwrap();
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if word.starts_with('/') {
                found.insert(PathBuf::from(word));
            }
        }
    }
    found
}

fn copy_tree(files: &Path, from: &Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            copy_tree(files, &path);
        } else {
            copy(files, &path);
        }
    }
}

/// Makes `postgres:15`: as the official image, it makes a cluster in an empty volume with POSTGRES_USER, _PASSWORD and _DB.
/// It listens on the loopback at PORT.
pub(crate) fn import_postgres(engine: &DockerEngine) {
    let bin = PathBuf::from(std::env::var_os("WIREVAULT_TEST_PG15_BIN").expect("run tests/servers/setup.sh"));
    let place = tempfile::tempdir().unwrap();
    let files = place.path();
    engine.put_busybox(files);
    let programs: Vec<PathBuf> = ["postgres", "initdb"].iter().map(|name| bin.join(name)).collect();
    let lib = bin.parent().unwrap().join("lib");
    let extensions: Vec<PathBuf> = std::fs::read_dir(&lib)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "so"))
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name == "plpgsql.so" || name == "dict_snowball.so" || name.contains("_and_")
        })
        .collect();
    for path in programs.iter().chain(&extensions).chain(&libraries(&programs)) {
        copy(files, path);
    }
    let major = bin.parent().unwrap().file_name().unwrap().to_owned();
    copy_tree(files, &Path::new("/usr/share/postgresql").join(major));
    copy(files, Path::new("/usr/share/zoneinfo/UTC"));
    std::fs::write(
        files.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\npostgres:x:70:70::/:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(files.join("etc/group"), "root:x:0:\npostgres:x:70:\n").unwrap();
    std::fs::set_permissions(files.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let data = files.join("var/lib/postgresql/data");
    std::fs::create_dir_all(&data).unwrap();
    chown(&data, Some(70), Some(70)).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    let script = format!(
        "#!/bin/sh\nset -e\nD=/var/lib/postgresql/data B={}\n\
         if [ ! -f $D/PG_VERSION ]; then\n  echo \"$POSTGRES_PASSWORD\" >/tmp/password\n  \
         $B/initdb -D $D -U $POSTGRES_USER --pwfile=/tmp/password -A scram-sha-256 --locale=C -E UTF8 --no-sync\n  \
         echo \"CREATE DATABASE $POSTGRES_DB\" | $B/postgres --single -D $D postgres\nfi\n\
         exec $B/postgres -D $D -p $PORT -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off\n",
        bin.display()
    );
    std::fs::write(files.join("entry.sh"), script).unwrap();
    engine.import("postgres:15", files);
}

/// Makes `redis:7`.
pub(crate) fn import_redis(engine: &DockerEngine) {
    let program = PathBuf::from(std::env::var_os("WIREVAULT_TEST_REDIS7").expect("run tests/servers/setup.sh"));
    let program = std::fs::canonicalize(program).unwrap();
    let place = tempfile::tempdir().unwrap();
    let files = place.path();
    engine.put_busybox(files);
    for path in libraries(std::slice::from_ref(&program)) {
        copy(files, &path);
    }
    let to = files.join("usr/bin/redis-server");
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(&program, to).unwrap();
    std::fs::create_dir_all(files.join("data")).unwrap();
    engine.import("redis:7", files);
}
