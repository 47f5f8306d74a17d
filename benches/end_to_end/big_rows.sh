#!/bin/bash
# Rows as large as PostgreSQL can send: one text and one bytea of 900 MB each (the bytea goes by binary COPY; as text it would be
# 1.8 GB, which no COPY carries), backed up and restored under a memory limit, compared by the server.
#
#   MB=900          size of each value in millions of bytes
#   LIMIT=128MiB
#   WIREVAULT=...   a program that is built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
mb=${MB:-900} limit=${LIMIT:-128MiB}
stage_open
machine
if [ -z "${WIREVAULT:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    WIREVAULT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
bin=$WIREVAULT_TEST_PG15_BIN
sql() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
stage_postgres "$bin" -c max_wal_size=4GB -c shared_buffers=128MB
sql -d postgres -c 'CREATE DATABASE big'
# 32 hex digits of a hash, over and over, with the number of the million between them; EXTERNAL: nothing is compressed away.
sql -d big -c 'CREATE TABLE texts (id int PRIMARY KEY, t text STORAGE EXTERNAL)' -c 'CREATE TABLE bytes (id int PRIMARY KEY, b bytea STORAGE EXTERNAL)' 2>/dev/null ||
    sql -d big -c 'CREATE TABLE texts (id int PRIMARY KEY, t text)' -c 'ALTER TABLE texts ALTER t SET STORAGE EXTERNAL' \
        -c 'CREATE TABLE bytes (id int PRIMARY KEY, b bytea)' -c 'ALTER TABLE bytes ALTER b SET STORAGE EXTERNAL'
sql -d big -c "INSERT INTO texts SELECT 1, string_agg(lpad(n::text, 8, '0') || repeat(md5(n::text), 31250), '') FROM generate_series(1, $mb) n"
sql -d big -c "INSERT INTO texts VALUES (2, 'small'), (3, NULL)"
sql -d big -c "INSERT INTO bytes SELECT 1, string_agg(sha256(n::text::bytea) || decode(repeat(md5(n::text), 62500), 'hex'), '') FROM generate_series(1, $mb) n"
sql -d big -c "INSERT INTO bytes VALUES (2, '\x00ff'), (3, NULL)"
facts() { sql -d "$1" -c 'SELECT id, octet_length(t), md5(t) FROM texts ORDER BY id' -c 'SELECT id, length(b), md5(b) FROM bytes ORDER BY id'; }
facts big >"$stage/original"
cat "$stage/original"
base=postgres://postgres@127.0.0.1:$PGPORT
repository=file://$stage/repository
"$WIREVAULT" init --no-encryption --to "$repository" >/dev/null
report() { printf '%-34s %8s s, peak %s MiB of %s\n' "$1" "$seconds" "$(mib $((peak_kib * 1024)))" "$limit"; }
measure backup "$WIREVAULT" backup "$base/big" --memory-limit "$limit" --to "$repository"
report backup
measure verify "$WIREVAULT" verify latest --level content --memory-limit "$limit" --from "$repository"
report 'verify --level content'
measure restore "$WIREVAULT" restore latest --into "$base/restored" --memory-limit "$limit" --from "$repository"
report restore
facts restored >"$stage/restored"
cmp "$stage/original" "$stage/restored" && echo 'rows equal'
