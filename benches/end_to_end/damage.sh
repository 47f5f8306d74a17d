#!/bin/bash
# Damages a small repository (a file tree, a SQLite database, a PostgreSQL database; directory store) in every way that
# counts and asks the commands: `verify` must report each damage and name the object, and `restore` must leave the live
# target byte for byte as it was. See damage.py for the cases.
#
#   FLIPS=1000     random flips in archives
#   STEP=1         every STEP-th byte of manifest, indexes and repository.json; 1 is all of them
#   POSTGRES=30    damages with a PostgreSQL database as the live target; 0 leaves PostgreSQL's restore out
#   JOBS=2
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh

stage_open
S3_SERVER=none stage_build
command -v sqlite3 >/dev/null || apt_install sqlite3
machine
stage_postgres "$PG_BIN"
sql() { "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 "$@"; }
sql -d postgres -c 'CREATE DATABASE shop'
sql -d shop <<'SQL'
CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, more jsonb);
CREATE TABLE orders (id bigint PRIMARY KEY, customer integer REFERENCES customers, paid numeric, note bytea);
INSERT INTO customers SELECT n, 'customer ' || n, jsonb_build_object('n', n) FROM generate_series(1, 300) n;
INSERT INTO orders SELECT n, n % 300 + 1, n / 7.0, decode(md5(n::text), 'hex') FROM generate_series(1, 2000) n;
CREATE VIEW unpaid AS SELECT * FROM orders WHERE paid IS NULL;
SQL
mkdir -p "$stage/source/tree/sub" "$stage/repository"
for n in $(seq 12); do head -c $((n * 700)) /dev/urandom >"$stage/source/tree/sub/$n"; done
head -c 1300000 /dev/urandom >"$stage/source/tree/large"
ln -s sub/1 "$stage/source/tree/link"
sqlite3 "$stage/source/app.db" "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t SELECT i, randomblob(100) FROM n;"
measure backup "$WIREVAULT" backup "postgres://postgres@127.0.0.1:$PGPORT/shop" "sqlite:$stage/source/app.db" \
    "files:$stage/source/tree" --to "file://$stage/repository"
printf '{"vault": "%s", "stage": "%s", "psql": "%s", "port": %s, "flips": %s, "step": %s, "postgres": %s, "jobs": %s}' \
    "$WIREVAULT" "$stage" "$PG_BIN/psql" "$PGPORT" "${FLIPS:-1000}" "${STEP:-1}" "${POSTGRES:-30}" "${JOBS:-2}" >"$stage/damage.json"
python3 -u benches/end_to_end/damage.py <"$stage/damage.json"
