#!/bin/bash
# PostgreSQL's own regression database, built live by its regression tests (dropped columns, fast defaults, inherited columns
# that came later), backed up and restored; then pg_dump of both is compared. What stock pg_dump and psql make of the same
# database is printed beside it.
#
#   benches/end_to_end/regression.sh [15] [18]     default: both. 18 lives in a chroot, so it needs root
#   WIREVAULT=...                       a program that is built already
#   KEEP_STAGE=1                        keeps the dumps if anything fails
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
stage_open
machine
if [ -z "${WIREVAULT:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    WIREVAULT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
roots=()
stage_extra_close() {
    local entry
    for entry in "${roots[@]}"; do
        chroot --userspec=postgres:postgres "${entry%%|*}" "${entry#*|}/stop" >/dev/null 2>&1
        rm -rf "${entry%%|*}${entry#*|}"
    done
}

# in_place COMMAND...: runs a program where the server is, as the server's user.
in_place() {
    if [ -n "$root" ]; then
        chroot --userspec=postgres:postgres "$root" env HOME=/tmp PGHOST=127.0.0.1 PGPORT="$PGPORT" PGUSER=postgres "$@"
    else
        as_postgres env PGHOST=127.0.0.1 PGPORT="$PGPORT" PGUSER=postgres "$@"
    fi
}

worst=0
for major in "${@:-15 18}"; do for major in $major; do
    bin=/usr/lib/postgresql/$major/bin
    root=
    if [ ! -x "$bin/pg_dump" ]; then root=$(tests/servers/pg18.sh); fi
    tests=$(tests/servers/regression.sh "$major" $root)

    # A directory that the server's user reaches by the same name inside and outside of its scripts.
    if [ -n "$root" ]; then place=$(mktemp -d "$root/tmp/wirevault-regression.XXXXXX"); inner=${place#"$root"}; else place=$stage/regression-$major; inner=$place; fi
    mkdir -p "$place"
    cp -r "$tests" "$place/regress"
    if [ -n "$root" ]; then
        printf '#!/bin/sh\nexec %s/pg_ctl -D %s/data -m immediate stop\n' "$bin" "$inner" >"$place/stop"
        chmod 755 "$place" "$place/stop"
        chroot "$root" chown -R postgres "$inner"
        roots+=("$root|$inner")
    else
        chown -R postgres "$place" 2>/dev/null || true
    fi
    PGPORT=$(free_port)
    [ -n "$root" ] || stage_clusters+=("$bin|$place/data")
    in_place "$bin/initdb" -D "$inner/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$stage/initdb.log"
    in_place "$bin/pg_ctl" -D "$inner/data" -w -l "$inner/log" \
        -o "-p $PGPORT -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_locks_per_transaction=256" start >/dev/null
    expected=
    [ "$major" -lt 16 ] || expected=--expecteddir=.
    in_place bash -c "cd $inner/regress && /usr/lib/postgresql/$major/lib/pgxs/src/test/regress/pg_regress --inputdir=. --outputdir=. $expected \
        --bindir=$bin --dlpath=$inner/regress --host=127.0.0.1 --port=$PGPORT --user=postgres --max-concurrent-tests=20 --schedule=./parallel_schedule" \
        >"$stage/regress.log" 2>&1 || true
    echo "PostgreSQL $major: $(grep -E 'tests? (passed|failed)' "$stage/regress.log" | tr -d '=#' | head -1 | sed 's/^ *//')"

    repository=file://$stage/repository-$major
    "$WIREVAULT" init --no-encryption --to "$repository" >/dev/null
    measure backup "$WIREVAULT" backup "postgres://postgres@127.0.0.1:$PGPORT/regression" --to "$repository" || [ "$status" = 2 ]
    printf 'backup %s s, peak %s MiB' "$seconds" "$(mib $((peak_kib * 1024)))"
    measure restore "$WIREVAULT" restore latest --into "postgres://postgres@127.0.0.1:$PGPORT/restored" --from "$repository" || [ "$status" = 2 ]
    printf '; restore %s s, peak %s MiB, failed statements: %s\n' "$seconds" "$(mib $((peak_kib * 1024)))" "$(grep -c 'code="failed"' "$stage/restore.err" || true)"

    dump() { in_place "$bin/pg_dump" --restrict-key=x "$1" >"$stage/$major-$1.sql"; }
    dump regression
    dump restored
    printf 'wirevault:      '
    benches/end_to_end/compare_dumps.py "$stage/$major-regression.sql" "$stage/$major-restored.sql" || worst=1
    in_place "$bin/createdb" -T template0 peer
    errors=$(in_place "$bin/psql" -X -q -d peer <"$stage/$major-regression.sql" 2>&1 >/dev/null | grep -c ERROR || true)
    dump peer
    printf 'pg_dump | psql: '
    benches/end_to_end/compare_dumps.py "$stage/$major-regression.sql" "$stage/$major-peer.sql" || true
    [ "$errors" = 0 ] || echo "pg_dump | psql had $errors errors"
done; done
[ "$worst" = 0 ] || { echo "something differs"; exit 1; }
