#!/bin/bash
# One very large table: backup by one and by two readers, against pg_dump -Fd -j2 --compress=zstd:1 (which reads a table by one
# worker), each into a directory. Then a table of 10 MB out of that snapshot, from S3: bytes that the server sent, seconds.
# PostgreSQL 18 lives in a chroot, so this needs root.
#
#   GB=8          size of the table
#   ROUNDS=1
#   LIMIT=128MiB
#   WIREVAULT, S3_SERVER   programs that are built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
gb=${GB:-8} rounds=${ROUNDS:-1} limit=${LIMIT:-128MiB}
stage_open
stage_build
root=$(tests/servers/pg18.sh)
machine

bin=/usr/lib/postgresql/18/bin
place=$(mktemp -d "$root/tmp/wirevault-table.XXXXXX")
inner=${place#"$root"}
inside="chroot --userspec=postgres:postgres $root env HOME=/tmp PGHOST=127.0.0.1 PGUSER=postgres"
stage_extra_close() {
    $inside "$bin/pg_ctl" -D "$inner/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$place"
}
chmod 755 "$place"
chroot "$root" chown -R postgres "$inner"
PGPORT=$(free_port)
inside="$inside PGPORT=$PGPORT"
$inside "$bin/initdb" -D "$inner/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$stage/initdb.log"
# What is loaded in the transaction that makes the table needs no WAL.
$inside "$bin/pg_ctl" -D "$inner/data" -w -l "$inner/log" -o "-p $PGPORT -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories='' -c shared_buffers=512MB -c wal_level=minimal -c max_wal_senders=0" start >/dev/null
sql() { $inside "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
sql -d postgres -c 'CREATE DATABASE big' -c 'CREATE DATABASE into_s3 TEMPLATE template0'
# About 1 KiB a row, a third of it hashes.
sql -d big -c "BEGIN; CREATE TABLE events (id bigint, at timestamptz, kind int, amount float8, payload text);
    INSERT INTO events SELECT n, '2026-01-01'::timestamptz + n * interval '1 s', n % 100, n / 7.0,
        md5(n::text) || md5('a' || n) || md5('b' || n) || md5('c' || n) || md5('d' || n) || md5('e' || n) || repeat('the quick brown fox ', 18)
        || md5('f' || n) || md5('g' || n) || md5('h' || n) || md5('i' || n) || (n * 7919) || repeat(' jumps over the lazy dog', 9)
        FROM generate_series(1, $gb * 970000::bigint) n;
    CREATE TABLE small (id int PRIMARY KEY, t text);
    INSERT INTO small SELECT n, md5(n::text) || repeat('x', 200) FROM generate_series(1, 40000) n; COMMIT" -c CHECKPOINT
# shellcheck disable=SC2016
sql -d big -c "SELECT 'table: ' || pg_size_pretty(pg_table_size('events')) || ', the small one: ' || pg_size_pretty(pg_table_size('small'))"

mkdir -p "$stage/s3/bench"
repository=file://$stage/s3/bench/repository
measure init "$WIREVAULT" init --no-encryption --to "$repository"
for round in $(seq "$rounds"); do
    sync
    measure peer bash -c "rm -rf '$place/dump' && $inside $bin/pg_dump -Fd -j2 --compress=zstd:1 -f $inner/dump big"
    peer=$seconds peer_bytes=$(bytes_of "$place/dump")
    rm -rf "$place/dump"
    for readers in 1 2; do
        sync
        measure "with-$readers" "$WIREVAULT" backup "postgres://postgres@127.0.0.1:$PGPORT/big" --to "$repository" \
            --parallel "$readers" --memory-limit "$limit"
        printf 'round %s: pg_dump -j2 %s s (%s MiB); wirevault --parallel %s: %s s, peak %s MiB, ratio %s\n' "$round" "$peer" \
            "$(mib "$peer_bytes")" "$readers" "$seconds" "$(mib $((peak_kib * 1024)))" \
            "$(awk -v a="$peer" -v b="$seconds" 'BEGIN { printf "%.2f", a / b }')"
    done
done
printf 'stored: %s MiB a snapshot\n' "$(mib $(($(bytes_of "$stage/s3/bench/repository/data") / rounds / 2)))"

# Written through the server: of objects that it did not write itself, s3s-fs reads the whole file for each request's ETag.
rm -rf "${repository#file://}"
stage_s3 bench
sent_by_server() { awk '/^wchar/ { print $2 }' "/proc/$s3_pid/io"; }
export AWS_ENDPOINT_URL=$s3_endpoint
measure again "$WIREVAULT" backup "postgres://postgres@127.0.0.1:$PGPORT/big" --to s3://bench/repository --memory-limit "$limit"
# Reading marked the large table's rows as committed, which made every page dirty: that is not the restore's to write.
sql -d big -c CHECKPOINT
sync
before=$(sent_by_server)
measure one "$WIREVAULT" restore latest --table public.small --into "postgres://postgres@127.0.0.1:$PGPORT/into_s3" \
    --from s3://bench/repository --memory-limit "$limit"
[ "$(sql -d into_s3 -c 'SELECT count(*), md5(string_agg(t, id::text ORDER BY id)) FROM small')" = \
    "$(sql -d big -c 'SELECT count(*), md5(string_agg(t, id::text ORDER BY id)) FROM small')" ] || { echo "the small table differs" >&2; exit 1; }
printf 'the small table alone, from S3: %s s, the server sent %s bytes at most, peak %s MiB; rows equal\n' "$seconds" \
    "$(($(sent_by_server) - before))" "$(mib $((peak_kib * 1024)))"
