#!/bin/bash
# Schemas of real applications, each restored several times in parallel and compared with the original by pg_dump: the order
# in which several connections make objects is another each time, and none may lose one. What pg_dump and psql make of the same
# counts as equal too: a server writes some expressions otherwise once they were read again, whoever brought them there.
#
#   benches/end_to_end/schemas.sh DIRECTORY     one *.sql for each database, as psql loads it (errors of loading are counted, not fatal);
#                                    a name that ends in .18.sql needs PostgreSQL 18. Each table gets some rows where it takes them
#   TIMES=10           restores of each
#   PARALLEL=4         connections of a restore
#   WIREVAULT=...      a program that is built already
#   KEEP_STAGE=1       keeps the dumps if anything differs
set -euo pipefail
directory=$(realpath "${1:?usage: benches/end_to_end/schemas.sh DIRECTORY}")
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
stage_open
machine
if [ -z "${WIREVAULT:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    WIREVAULT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
times=${TIMES:-10} parallel=${PARALLEL:-4}
psql=$WIREVAULT_TEST_PG15_BIN/psql
stage_postgres "$WIREVAULT_TEST_PG15_BIN" -c max_locks_per_transaction=1024 -c shared_preload_libraries=pg_stat_statements -c wal_level=logical
port15=$PGPORT port18= place=
stage_extra_close() {
    [ -z "$place" ] || chroot --userspec=postgres:postgres "$root" /usr/lib/postgresql/18/bin/pg_ctl -D "${place#"$root"}/data" -m immediate stop >/dev/null 2>&1
    [ -z "$place" ] || rm -rf "$place"
}
root=$(tests/servers/pg18.sh)
start_18() {
    [ -z "$port18" ] || return 0
    place=$(mktemp -d "$root/tmp/wirevault-schemas.XXXXXX")
    chroot "$root" chown postgres "${place#"$root"}"
    port18=$(free_port)
    chroot --userspec=postgres:postgres "$root" env HOME=/tmp /usr/lib/postgresql/18/bin/initdb -D "${place#"$root"}/data" -U postgres -A trust -E UTF8 \
        --locale=C.UTF-8 --no-sync >"$stage/initdb.log"
    chroot --userspec=postgres:postgres "$root" env HOME=/tmp /usr/lib/postgresql/18/bin/pg_ctl -D "${place#"$root"}/data" -w -t 240 -l "${place#"$root"}/log" \
        -o "-p $port18 -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_locks_per_transaction=1024" start >/dev/null
}
# Each server's own pg_dump: it knows which of the server's catalogs are its internal matters (pg_attver of 15.20).
dump() {
    if [ "$PGPORT" = "$port15" ]; then
        "$WIREVAULT_TEST_PG15_BIN/pg_dump" --restrict-key=x "$1"
    else
        chroot "$root" env HOME=/tmp /usr/lib/postgresql/18/bin/pg_dump -h 127.0.0.1 -p "$PGPORT" -U postgres --restrict-key=x "$1"
    fi
}
# A subscription keeps its database; it has no slot here.
drop() {
    "$psql" -X -At -d "$1" -c "SELECT format('ALTER SUBSCRIPTION %1\$I SET (slot_name = NONE); DROP SUBSCRIPTION %1\$I;', subname) FROM pg_subscription s
        JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()" | "$psql" -X -q -d "$1"
    "$psql" -X -q -d postgres -c "DROP DATABASE \"$1\""
}

# Rows for whatever takes some: one row of defaults in each table, in as many passes as foreign keys need.
fill="DO \$do\$ DECLARE t record; BEGIN
    FOR pass IN 1..3 LOOP
        FOR t IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' LOOP
            BEGIN EXECUTE format('INSERT INTO %s DEFAULT VALUES', t.name); EXCEPTION WHEN OTHERS THEN NULL; END;
        END LOOP;
    END LOOP;
END \$do\$"
bad=0 total=0
for file in "$directory"/*.sql; do
    name=$(basename "$file" .sql)
    PGPORT=$port15
    case $name in *.18) start_18; PGPORT=$port18; name=${name%.18} ;; esac
    export PGPORT
    "$psql" -X -q -d postgres -c "CREATE DATABASE \"$name\" TEMPLATE template0"
    "$psql" -X -q -d "$name" -f "$file" >"$stage/$name.load" 2>&1 || true
    "$psql" -X -q -d "$name" -c "$fill" >/dev/null 2>&1
    counts=$("$psql" -X -At -d "$name" -c "SELECT count(*) FILTER (WHERE relkind IN ('r', 'p')) || ' tables, ' || count(*) FILTER (WHERE relkind IN ('i', 'I')) || ' indexes, ' ||
        (SELECT count(*) FROM pg_proc p WHERE p.oid >= 16384) || ' functions, ' || (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) || ' triggers, ' ||
        (SELECT count(*) FROM pg_extension) - 1 || ' extensions' FROM pg_class WHERE oid >= 16384 AND relkind <> 't' AND relnamespace <> 'pg_toast'::regnamespace")
    dump "$name" >"$stage/$name.sql"
    "$psql" -X -q -d postgres -c "CREATE DATABASE \"peer of $name\" TEMPLATE template0"
    "$psql" -X -q -d "peer of $name" -f "$stage/$name.sql" >"$stage/$name.peer.load" 2>&1 || true
    dump "peer of $name" >"$stage/$name.peer.sql"
    drop "peer of $name"
    repository=file://$stage/repository-$name
    measure backup "$WIREVAULT" backup "postgres://postgres@127.0.0.1:$PGPORT/$name" --to "$repository" || [ "$status" = 2 ]
    differing=0 as_peer=0
    for n in $(seq "$times"); do
        measure restore "$WIREVAULT" restore latest --into "postgres://postgres@127.0.0.1:$PGPORT/copy_$n" --parallel "$parallel" --from "$repository" || differing=$((differing + 1))
        dump "copy_$n" >"$stage/$name.copy.$n.sql"
        drop "copy_$n"
        if benches/end_to_end/compare_dumps.py "$stage/$name.sql" "$stage/$name.copy.$n.sql" >"$stage/$name.diff.$n"; then
            rm "$stage/$name.copy.$n.sql"
        elif benches/end_to_end/compare_dumps.py "$stage/$name.peer.sql" "$stage/$name.copy.$n.sql" >"$stage/$name.diff-peer.$n"; then
            as_peer=$((as_peer + 1))
            rm "$stage/$name.copy.$n.sql"
        else
            differing=$((differing + 1))
            cat "$stage/$name.diff.$n" "$stage/$name.diff-peer.$n"
        fi
        total=$((total + 1))
    done
    printf '%-16s %s (%s errors of loading): %s of %s restores differ, %s are as pg_dump and psql make it\n' "$name" "$counts" "$(grep -c ERROR "$stage/$name.load" || true)" "$differing" "$times" "$as_peer"
    bad=$((bad + differing))
done
echo "$total restores, $bad differ"
[ "$bad" = 0 ]
