#!/bin/bash
# The fixture with objects of every class, on every major of PostgreSQL: backed up there, restored there and into 18, rows
# included; then pg_dump (18's) of original and restored are compared. What pg_dump and psql make of the same is printed beside
# it: an object may read differently on a newer major whoever brought it there. As root (18 lives in a chroot).
#
#   benches/end_to_end/majors.sh [13] [14] [15] [16] [17] [18]     default: all. All but 15 and 18 are servers without contrib
#   WIREVAULT=...      a program that is built already
#   KEEP_STAGE=1       keeps the dumps if anything fails
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
stage_open
machine
if [ -z "${WIREVAULT:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    WIREVAULT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
root=$(tests/servers/pg18.sh)
eighteen=/usr/lib/postgresql/18/bin
psql=$WIREVAULT_TEST_PG15_BIN/psql
place=
stage_extra_close() {
    [ -z "$place" ] || chroot --userspec=postgres:postgres "$root" $eighteen/pg_ctl -D "${place#"$root"}/data" -m immediate stop >/dev/null 2>&1
    [ -z "$place" ] || rm -rf "$place"
}
export PGHOST=127.0.0.1 PGUSER=postgres

# The chroot's 18 is the target of every run, and the source of its own.
place=$(mktemp -d "$root/tmp/wirevault-majors.XXXXXX")
inner=${place#"$root"}
chroot "$root" chown postgres "$inner"
new_port=$(free_port)
in_root() { chroot --userspec=postgres:postgres "$root" env HOME=/tmp "$@"; }
in_root $eighteen/initdb -D "$inner/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$stage/initdb.log"
in_root $eighteen/pg_ctl -D "$inner/data" -w -l "$inner/log" \
    -o "-p $new_port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off" start >/dev/null
dump() { in_root $eighteen/pg_dump -h 127.0.0.1 -p "$1" -U postgres --restrict-key=x "$2"; }

# Lines of a fixture that a server of this major knows.
known_to() { awk -v major="$1" '/^-- since /{ on = $3 <= major; next } /^-- end/{ on = 1; next } BEGIN { on = 1 } on' "$2"; }

roles='CREATE ROLE wv_super SUPERUSER; CREATE ROLE wv_owner; CREATE ROLE wv_reader LOGIN; CREATE ROLE "wv ""other"""; GRANT wv_reader TO wv_owner WITH ADMIN OPTION'
"$psql" -X -q -p "$new_port" -d postgres -c "$roles"
worst=0
for major in "${@:-13 14 15 16 17 18}"; do for major in $major; do
    case $major in
    15) bin=$WIREVAULT_TEST_PG15_BIN ;;
    18) bin= ;;
    *) bin=$(tests/servers/pg_embedded.sh "$major") ;;
    esac
    if [ -n "$bin" ]; then
        data=$stage/data-$major
        port=$(free_port)
        stage_clusters+=("$bin|$data")
        start_postgres "$bin" "$data" "$port" -c wal_level=logical
        "$psql" -X -q -p "$port" -d postgres -c "$roles"
    else
        port=$new_port
    fi
    sql() { "$psql" -X -q -At -p "$port" "$@"; }
    sql -d postgres -c 'CREATE DATABASE original TEMPLATE template0'
    { known_to "$major" fixtures/schema_ordinary.sql; known_to "$major" fixtures/schema_rare.sql; known_to "$major" fixtures/schema_rows.sql; } >"$stage/fixture.sql"
    sql -d original -f "$stage/fixture.sql" >"$stage/fixture-$major.log" 2>&1 || true
    "$psql" -X -q -p "$new_port" -d postgres -c "DROP DATABASE IF EXISTS peer_$major" -c "CREATE DATABASE peer_$major TEMPLATE template0" 2>/dev/null
    printf 'PostgreSQL %s: statements of the fixture refused %s; objects %s, rows in %s tables\n' "$(sql -d original -c 'SHOW server_version' | cut -d' ' -f1)" \
        "$(grep -c ERROR "$stage/fixture-$major.log" || true)" "$(sql -d original -c 'SELECT count(DISTINCT (classid, objid)) FROM pg_depend WHERE objid >= 16384')" \
        "$(sql -d original -c "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relnamespace <> 11 AND (xpath('/row/c/text()', query_to_xml('SELECT count(*) c FROM ONLY ' || oid::regclass, false, true, '')))[1]::text <> '0'" 2>/dev/null || echo '?')"

    repository=file://$stage/repository-$major
    "$WIREVAULT" init --no-encryption --to "$repository" >/dev/null
    measure backup "$WIREVAULT" backup "postgres://postgres@127.0.0.1:$port/original" --to "$repository"
    dump "$port" original >"$stage/$major-original.sql"
    for target in "$major" 18; do
        to=$port; [ "$target" = "$major" ] || to=$new_port
        measure restore "$WIREVAULT" restore latest --into "postgres://postgres@127.0.0.1:$to/restored_$major" --from "$repository" || [ "$status" = 2 ]
        dump "$to" "restored_$major" >"$stage/$major-restored-$target.sql"
        printf '  %s -> %s   wirevault: failed statements %s; ' "$major" "$target" "$(grep -c 'code="failed"' "$stage/restore.err" || true)"
        grep 'code="failed"' "$stage/restore.err" | sed 's/^/    /' >&2 || true
        benches/end_to_end/compare_dumps.py "$stage/$major-original.sql" "$stage/$major-restored-$target.sql" || { [ "$target" != "$major" ] || worst=1; }
        [ "$target" != 18 ] || break
    done
    # An older server's names that are words of a newer one's grammar need quotes.
    in_root $eighteen/pg_dump -h 127.0.0.1 -p "$port" -U postgres --quote-all-identifiers original >"$stage/peer.sql"
    "$psql" -X -q -p "$new_port" -d "peer_$major" <"$stage/peer.sql" >/dev/null 2>"$stage/peer.log" || true
    errors=$(grep -c ERROR "$stage/peer.log" || true)
    dump "$new_port" "peer_$major" >"$stage/$major-peer.sql"
    printf '  %s -> 18   pg_dump and psql: errors %s; ' "$major" "$errors"
    benches/end_to_end/compare_dumps.py "$stage/$major-original.sql" "$stage/$major-peer.sql" || true
    printf '  %s -> 18   between the two restored: ' "$major"
    benches/end_to_end/compare_dumps.py "$stage/$major-restored-18.sql" "$stage/$major-peer.sql" || true
    [ -z "$bin" ] || { stop_postgres "$bin" "$data"; rm -rf "$data"; }
done; done
[ "$worst" = 0 ] || { echo "something differs on its own major"; exit 1; }
