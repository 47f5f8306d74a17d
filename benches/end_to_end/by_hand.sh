#!/bin/bash
# What is in a repository, read with stock tools alone: a tree of several archives with zstd and tar, a PostgreSQL database
# with psql, a SQLite database with sqlite3. Each is compared with its source.
#
#   FILES=200000   small files of the tree; enough for its source to roll over to a second archive
#   SCALE=20       thousands of rows of the largest table
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
files=${FILES:-200000} scale=${SCALE:-20}

stage_open
stage_build
command -v sqlite3 >/dev/null || apt_install sqlite3
command -v zstd >/dev/null || apt_install zstd
machine
psql_bin=$WIREVAULT_TEST_PG15_BIN/psql
sql() { "$psql_bin" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
stage_postgres "$WIREVAULT_TEST_PG15_BIN"
sql -d postgres -c 'create role catalogizer login' -c 'create role reporting' -c 'create database catalogue owner catalogizer'
sql -d catalogue -v scale="$scale" -f demo/catalogue.sql
python3 demo/writer.py create "$stage/player.db" 32
python3 - "$stage/tree" "$files" <<'PY'
import os, sys
root, count = sys.argv[1], int(sys.argv[2])
for n in range(count):
    folder = "%s/%04d" % (root, n // 1000)
    if n % 1000 == 0:
        os.makedirs(folder)
    with open("%s/%07d.txt" % (folder, n), "wb") as f:
        f.write(b"file %d\n" % n * (n % 20))
os.link(root + "/0000/0000001.txt", root + "/hard-link")
os.symlink("0000/0000001.txt", root + "/symbolic-link")
with open(root + "/sparse", "wb") as f:
    f.seek(64 << 20)
    f.write(b"end")
with open(root + "/Größe \u2603.txt", "w") as f:
    f.write("a name outside ASCII")
PY
"$WIREVAULT" backup "postgres://postgres@127.0.0.1:$PGPORT/catalogue" "sqlite:$stage/player.db" "files:$stage/tree" --to "$stage/vault"
data=$(echo "$stage"/vault/data/*)

echo "tree: $(ls "$data"/tree/*.tar.zst | wc -l) archives, unpacked with cat | zstd -dc | tar -xi"
[ "$(ls "$data"/tree/*.tar.zst | wc -l)" -ge 2 ]
mkdir "$stage/by-hand"
cat "$data"/tree/*.tar.zst | zstd -dc | tar -xi -C "$stage/by-hand"
rm -r "$stage/by-hand/README.txt" "$stage/by-hand/wirevault"
diff -r --no-dereference "$stage/tree" "$stage/by-hand"
# The time of a directory that two archives share is not compared: the second archive's files touch it again.
names() { (cd "$1" && find . -mindepth 1 \( -type d -printf '%p %y %m %U %G\n' -o -printf '%p %y %m %U %G %T@ %n %l\n' \) | sort); }
cmp <(names "$stage/tree") <(names "$stage/by-hand")
echo "  equal: content, kinds, modes, owners, times, links of $(find "$stage/tree" | wc -l) names"

echo "SQLite: zstd -dc | tar -x, sqlite3"
mkdir "$stage/player"
zstd -dc <"$data/player/0000.tar.zst" | tar -x -C "$stage/player"
copy=$(find "$stage/player" -name '*.db')
[ "$(sqlite3 "$copy" 'pragma integrity_check')" = ok ]
cmp <(sqlite3 "$stage/player.db" .dump) <(sqlite3 "$copy" .dump)
echo "  equal: .dump of source and copy, $(sqlite3 "$copy" .dump | wc -l) lines"

echo "PostgreSQL: zstd -dc | tar -x, psql -f restore.sql"
mkdir "$stage/database"
zstd -dc <"$data/catalogue/0000.tar.zst" | tar -x -C "$stage/database"
sql -d postgres -c 'create database by_hand owner catalogizer'
(cd "$stage/database" && sql -d by_hand -f restore.sql >/dev/null)
for database in catalogue by_hand; do
    "$WIREVAULT_TEST_PG15_BIN/pg_dump" "$database" | grep -v '^\\\(un\)\?restrict ' >"$stage/$database.sql"
done
cmp <(sort "$stage/catalogue.sql") <(sort "$stage/by_hand.sql")
echo "  equal: pg_dump of source and copy, $(wc -l <"$stage/by_hand.sql") lines (rows compared as a set)"
