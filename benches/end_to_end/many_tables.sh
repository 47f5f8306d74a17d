#!/bin/bash
# A database of very many empty tables (each with a key, an index, a default, a comment and a right): seconds and peak memory of
# backup and restore of its schema, against `pg_dump -s` and `pg_restore`, on the distribution's PostgreSQL.
#
#   TABLES=50000
#   WIREVAULT=...    a program that is built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
tables=${TABLES:-50000}
stage_open
machine
if [ -z "${WIREVAULT:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    WIREVAULT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
bin=$WIREVAULT_TEST_PG15_BIN
sql() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
stage_postgres "$bin" -c max_wal_size=4GB -c shared_buffers=256MB -c max_locks_per_transaction=2000
sql -d postgres -c 'CREATE ROLE reader' -c 'CREATE DATABASE many' -c 'CREATE DATABASE peer TEMPLATE template0' -c 'CREATE DATABASE peer2 TEMPLATE template0'
sql -d many -c 'CREATE SCHEMA one' -c 'CREATE SCHEMA two'
for from in $(seq 1 1000 "$tables"); do
    to=$((from + 999)); [ "$to" -le "$tables" ] || to=$tables
    sql -d many -c "DO \$\$ DECLARE n text; BEGIN FOR i IN $from..$to LOOP n := CASE i % 2 WHEN 0 THEN 'one' ELSE 'two' END || '.table_' || i;
        EXECUTE 'CREATE TABLE ' || n || ' (id bigint PRIMARY KEY, name text NOT NULL, kind int DEFAULT 1, at timestamptz DEFAULT now(), CHECK (kind > 0));
            CREATE INDEX ON ' || n || ' (name); COMMENT ON TABLE ' || n || ' IS ''table ' || i || '''; GRANT SELECT ON ' || n || ' TO reader';
        END LOOP; END \$\$"
done
sql -d many -c 'VACUUM ANALYZE' -c CHECKPOINT
printf '%s tables, %s objects in pg_class\n' "$tables" "$(sql -d many -c 'SELECT count(*) FROM pg_class')"
base=postgres://postgres@127.0.0.1:$PGPORT
repository=file://$stage/repository
"$WIREVAULT" init --no-encryption --to "$repository" >/dev/null

report() { printf '%-34s %8s s, peak %s MiB\n' "$1" "$seconds" "$(mib $((peak_kib * 1024)))"; }
measure dump "$bin/pg_dump" -s -Fc -f "$stage/peer.dump" many
report 'pg_dump -s -Fc'
measure backup "$WIREVAULT" backup "$base/many" --to "$repository"
report 'wirevault backup'
measure restore1 "$bin/pg_restore" -d peer "$stage/peer.dump"
report 'pg_restore'
sql -d postgres -c CHECKPOINT
measure restore2 "$bin/pg_restore" -j2 -d peer2 "$stage/peer.dump"
report 'pg_restore -j2'
sql -d postgres -c CHECKPOINT
measure restore "$WIREVAULT" restore latest --into "$base/restored" --parallel 2 --from "$repository"
report 'wirevault restore --parallel 2'
for database in many restored; do "$bin/pg_dump" -s "$database" | grep -vE '^(--|\\(un)?restrict|$)' >"$stage/$database.sql"; done
printf 'differing schema lines: %s of %s\n' "$(diff "$stage/many.sql" "$stage/restored.sql" | grep -c '^[<>]' || true)" "$(wc -l <"$stage/many.sql")"
