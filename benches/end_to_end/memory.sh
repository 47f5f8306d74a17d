#!/bin/bash
# Peak memory at --memory-limit 96MiB: one job with a large table, one huge value, very many files and a large
# SQLite database; backup, verify, restore; then one named file out of the tree.
#
#   TABLE_MB=3072 VALUE_MB=400 FILES=2000000 SQLITE_MB=2048 LIMIT=96MiB   sizes; smaller ones for a trial
#   STAGE_DIR=/somewhere                                                  needs about 4 times the data in free space
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
table_mb=${TABLE_MB:-3072} value_mb=${VALUE_MB:-400} files=${FILES:-2000000} sqlite_mb=${SQLITE_MB:-2048} limit=${LIMIT:-96MiB}

stage_open
stage_build
machine
psql_bin=$WIREVAULT_TEST_PG15_BIN/psql
stage_postgres "$WIREVAULT_TEST_PG15_BIN" -c max_wal_size=4GB -c wal_level=minimal -c max_wal_senders=0
stage_s3 bench
sql() { "$psql_bin" -X -q -At -v ON_ERROR_STOP=1 "$@"; }

echo "loading: table $table_mb MB, value $value_mb MB, $files files, SQLite $sqlite_mb MB" >&2
sql -d postgres -c 'create database bench'
# 1 MB is about 2,000 rows of 500 bytes.
sql -d bench -c "create table big as select n as id, repeat(md5(n::text), 14) || md5((n + 1)::text) as body, random() as value
                 from generate_series(1, $table_mb * 2000) n" -c 'alter table big add primary key (id)'
sql -d bench -c 'create table huge (id integer primary key, body text)' \
    -c "alter table huge alter body set storage external" \
    -c "insert into huge select 1, string_agg(repeat(md5(n::text), 32768), '') from generate_series(1, $value_mb) n"
python3 demo/writer.py create "$stage/bench.db" "$sqlite_mb"
python3 - "$stage/tree" "$files" <<'PY'
import os, sys
root, count = sys.argv[1], int(sys.argv[2])
for n in range(count):
    if n % 1000 == 0:
        folder = "%s/%03d/%05d" % (root, n // 100000, n // 1000)
        os.makedirs(folder)
    fd = os.open("%s/%07d.txt" % (folder, n), os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, b"file %d\n" % n * (1 + n % 20))
    os.close(fd)
PY
cat >"$stage/wirevault.toml" <<TOML
[repository]
url = "s3://bench/memory"
endpoint = "$s3_endpoint"
[source.database]
kind = "postgres"
url = "postgres://postgres@127.0.0.1:$PGPORT/bench"
[source.player]
kind = "sqlite"
path = "$stage/bench.db"
[source.tree]
kind = "files"
root = "$stage/tree"
[job.all]
sources = ["database", "player", "tree"]
TOML
vault=("$WIREVAULT" --config "$stage/wirevault.toml" --memory-limit "$limit")
measure init "${vault[@]}" init --no-encryption

row() { printf '%-34s %10s %12s %s\n' "$@"; }
row "what (limit $limit)" seconds "peak MiB"
figure() {
    local name=$1
    shift
    measure "$name" "$@"
    row "$name" "$seconds" "$(mib $((peak_kib * 1024)))"
}
figure check "${vault[@]}" check
figure backup "${vault[@]}" backup all
figure verify-stored "${vault[@]}" verify latest --level stored
figure verify-content "${vault[@]}" verify latest --level content
echo "stored: $(mib "$(bytes_of "$stage/s3/bench")") MiB"

# One named file: what the server sent is read from its own counter of written bytes.
middle=$((files / 2))
name=$(printf '%03d/%05d/%07d.txt' $((middle / 100000)) $((middle / 1000)) $middle)
sent_by_server() { awk '/^wchar/ { print $2 }' "/proc/$s3_pid/io"; }
before=$(sent_by_server)
measure one-file "${vault[@]}" cat latest tree "$name"
cmp "$stage/one-file.out" "$stage/tree/$name"
row "cat one file of $files" "$seconds" "$(mib $((peak_kib * 1024)))" "fetched $(( $(sent_by_server) - before )) bytes (upper bound)"

figure restore-database "${vault[@]}" restore latest --source database --into "postgres://postgres@127.0.0.1:$PGPORT/bench_copy"
mkdir -p "$stage/into"
figure restore-files "${vault[@]}" restore latest --source player --source tree --into "$stage/into"
for database in bench bench_copy; do
    sql -d $database -c "select count(*), sum(('x' || substr(md5(body), 1, 15))::bit(60)::bigint) from big" \
        -c "select length(body), md5(body) from huge" >"$stage/$database.digest"
done
cmp "$stage/bench.digest" "$stage/bench_copy.digest"
restored_tree=$stage/into/tree
diff -rq "$stage/tree" "$restored_tree" >/dev/null
python3 demo/writer.py check "$(find "$stage/into" -name '*.db' -type f | head -1)"
echo "restored data equal"
