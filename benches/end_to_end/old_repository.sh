#!/bin/bash
# Writes a small repository of every engine with a program of an older commit, and what its sources held, for the test old_repository.
# fixtures/README.md says which commit wrote the one that is kept.
#
#   WIREVAULT=…/wirevault benches/end_to_end/old_repository.sh DIRECTORY     DIRECTORY must not be there yet. As root
#   STAGE_DIR=/srv     where the sources lie meanwhile: manifests name their places
set -euo pipefail
out=$(realpath -m "${1:?usage: WIREVAULT=PROGRAM benches/end_to_end/old_repository.sh DIRECTORY}")
: "${WIREVAULT:?names the program of the older commit}"
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
[ "$(id -u)" = 0 ] || { echo "PostgreSQL 18 and a Docker engine need root" >&2; exit 1; }
mkdir "$out" "$out/expected"
stage_open

# PostgreSQL of the distribution, and 18 in its chroot.
stage_postgres "$WIREVAULT_TEST_PG15_BIN"
root=$(tests/servers/pg18.sh)
bin18=/usr/lib/postgresql/18/bin
place=$(mktemp -d "$root/tmp/wirevault-old.XXXXXX")
inside=${place#"$root"}
in_18() { chroot --userspec=postgres:postgres "$root" env HOME=/tmp "$@"; }
stage_extra_close() {
    in_18 "$bin18/pg_ctl" -D "$inside/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$place"
    for at in $(mount | awk -v dir="$stage/engine" 'index($3, dir) == 1 { print $3 }' | sort -r); do umount -l "$at"; done
}
chroot "$root" chown postgres "$inside"
port18=$(free_port)
in_18 "$bin18/initdb" -D "$inside/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$stage/initdb.log"
in_18 "$bin18/pg_ctl" -D "$inside/data" -w -t 240 -l "$inside/log" \
    -o "-p $port18 -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off" start >/dev/null
for port in "$PGPORT" "$port18"; do
    psql -p "$port" -X -q -d postgres -c 'CREATE DATABASE app TEMPLATE template0'
    psql -p "$port" -X -q -v ON_ERROR_STOP=1 -d app -f fixtures/old_repository.sql >/dev/null
done
dump() { sed '/^\\restrict/d; /^\\unrestrict/d'; }
"$WIREVAULT_TEST_PG15_BIN/pg_dump" app | dump >"$out/expected/postgres15.sql"
in_18 "$bin18/pg_dump" -h 127.0.0.1 -p "$port18" -U postgres app | dump >"$out/expected/postgres18.sql"

# Redis, filled by the commands that the test sends to a server of its own.
redis_port=$(free_port)
mkdir "$stage/redis"
"$WIREVAULT_TEST_REDIS7" --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$stage/redis" >"$stage/redis/log" &
stage_pids+=("$!")
stage_wait "Redis is ready" "$!" redis-cli -p "$redis_port" ping
cp fixtures/old_repository.redis "$out/expected/redis.commands"
redis-cli -p "$redis_port" <fixtures/old_repository.redis >"$stage/redis.out"
if grep -i err "$stage/redis.out"; then exit 1; fi
redis-cli -p "$redis_port" function load $'#!lua name=wv\nredis.register_function(\'wv_one\', function() return 1 end)' >/dev/null

# SQLite in WAL mode with its last rows in the WAL, a tree, a volume.
mkdir "$stage/data"
python3 - "$stage/data/items.db" "$stage/tree" <<'PY'
import os, sqlite3, sys
database, tree = sys.argv[1:]
db = sqlite3.connect(database)
db.executescript("""
    PRAGMA journal_mode = wal;
    CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, data BLOB);
    CREATE INDEX items_name ON items (name);
    CREATE VIEW dear AS SELECT name FROM items WHERE price > 100;
    CREATE TABLE keyed (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;""")
for n in range(300):
    db.execute("INSERT INTO items VALUES (?, ?, ?, ?)", (n, f"item {n} ä", n * 1.25, bytes([n % 256]) * (n % 40)))
db.execute("INSERT INTO keyed VALUES ('x', 'y'), ('', 'é')")
db.commit()
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
db.execute("UPDATE items SET price = NULL WHERE id = 7")
db.commit()
os._exit(0)    # without a checkpoint
PY
fill() {
    mkdir -p "$1/a/deep/er" "$1/empty"
    printf 'sorts before a/ and after a\n' >"$1/a.txt"
    : >"$1/nothing"
    seq 4000 >"$1/a/numbers"
    ln "$1/a/numbers" "$1/z-second-name"
    ln -s a/numbers "$1/soft"
    printf '#!/bin/sh\n' >"$1/run.sh"
    printf 'odd\n' >"$1/"$'odd \xff name'
    printf 'long\n' >"$1/a/deep/er/$(printf 'f%.0s' $(seq 200))"
    truncate -s 300000 "$1/holes"
    printf island | dd of="$1/holes" bs=1 seek=131072 conv=notrunc status=none
    chmod 0751 "$1/run.sh"
    chmod 0640 "$1/a.txt"
    find "$1" -depth -exec touch -h -d '2026-01-02 03:04:05 UTC' {} +
}
fill "$stage/tree"

docker=$WIREVAULT_TEST_DOCKER
mkdir "$stage/engine"
PATH=$docker/usr/bin:$docker/usr/sbin:$PATH LD_LIBRARY_PATH=$docker/lib/x86_64-linux-gnu \
    setpriv --pdeathsig KILL -- "$docker/usr/sbin/dockerd" --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs \
    --data-root "$stage/engine/data" --exec-root "$stage/engine/exec" --pidfile "$stage/engine/pid" \
    -H "unix://$stage/engine/docker.sock" --exec-opt native.cgroupdriver=cgroupfs >"$stage/engine/log" 2>&1 &
engine=$!
stage_pids+=("$engine")
ask() { curl -sS --fail-with-body --unix-socket "$stage/engine/docker.sock" -H 'Content-Type: application/json' "$@"; }
stage_wait "the engine answers" "$engine" ask http://docker/_ping
ask -d '{"Name": "uploads", "Labels": {"tier": "1"}}' http://docker/volumes/create >/dev/null
volume=$stage/engine/data/volumes/uploads/_data
fill "$volume"
chown 1234:70000 "$volume/a/numbers"

# listing DIRECTORY: kind, mode, owner, time, length, SHA-256 or target, name; one line each, in order of names.
listing() {
    python3 - "$1" <<'PY'
import hashlib, os, stat, sys, urllib.parse
top = os.fsencode(sys.argv[1])
found = []
for folder, folders, files in os.walk(top):
    for name in folders + files:
        path = os.path.join(folder, name)
        meta = os.lstat(path)
        kind, size, content = "file", meta.st_size, "-"
        if stat.S_ISDIR(meta.st_mode):
            kind, size = "directory", 0
        elif stat.S_ISLNK(meta.st_mode):
            kind, content = "symlink", os.fsdecode(os.readlink(path))
        else:
            content = hashlib.sha256(open(path, "rb").read()).hexdigest()
        name = urllib.parse.quote_from_bytes(os.path.relpath(path, top))
        found.append(f"{name} {kind} {stat.S_IMODE(meta.st_mode):o} {meta.st_uid}:{meta.st_gid} {int(meta.st_mtime)} {size} {content}")
print("\n".join(sorted(found)))
PY
}

cat >"$stage/wirevault.toml" <<TOML
[repository]
url = "file://$stage/repository"
[source.app15]
kind = "postgres"
url = "postgres://postgres@127.0.0.1:$PGPORT/app"
[source.app18]
kind = "postgres"
url = "postgres://postgres@127.0.0.1:$port18/app"
[source.cache]
kind = "redis"
url = "redis://127.0.0.1:$redis_port"
[source.items]
kind = "sqlite"
path = "$stage/data/items.db"
[source.tree]
kind = "files"
root = "$stage/tree"
[source.volumes]
kind = "docker"
socket = "$stage/engine/docker.sock"
volumes = ["uploads"]
[job.full]
sources = ["app15", "cache", "items", "tree", "volumes"]
keep = { last = 2 }
[job.newer]
sources = ["app18"]
TOML
# The host's name goes into every snapshot.
old() { unshare --uts sh -c 'hostname old-host && exec "$0" "$@"' "$WIREVAULT" --config "$stage/wirevault.toml" "$@"; }
old init --no-encryption --to "file://$stage/repository"
mv "$stage/tree/a.txt" "$stage/tree/before.txt"
old backup full
mv "$stage/tree/before.txt" "$stage/tree/a.txt"
find "$stage/tree" -depth -exec touch -h -d '2026-01-02 03:04:05 UTC' {} +
old backup full
old backup newer
listing "$stage/tree" >"$out/expected/tree.txt"
listing "$volume" >"$out/expected/uploads.txt"
sqlite3 "$stage/data/items.db" .dump >"$out/expected/items.sql"
kill "$engine"
wait "$engine" 2>/dev/null || true
cp -R "$stage/repository" "$out/repository"
"$WIREVAULT" verify --all --level content --from "file://$stage/repository"
du -sh "$out"
