#!/bin/bash
# The speed of backup and restore of a mixed PostgreSQL 18 database (demo/catalogue.sql at a fixed scale) in S3, against the usual
# ways, with the same server settings (defaults but shared_buffers; fsync on) and the same S3 server process:
#
#   backup    pg_dump -Fc --compress=zstd:1 | aws s3 cp -        pg_dump -Fd -j2 --compress=zstd:1, then aws s3 cp --recursive
#   restore   aws s3 cp - | pg_restore, then ANALYZE             aws s3 cp --recursive, then pg_restore -j2, then ANALYZE
#
# A round is one run of each, one after another; medians of the rounds' ratios are printed, and for the backup the limit that
# the processors set: processor seconds of the server, of wirevault and of the S3 server, shared by the cores.
# PostgreSQL 18 lives in a chroot, so this needs root.
#
#   SCALE=1400     thousands of files in the catalogue; 1400 make at least 1.5 GB
#   BACKUPS=5 RESTORES=5
#   PARALLEL=      connections for our restore (default: the program's)
#   WIREVAULT, S3_SERVER   programs that are built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
scale=${SCALE:-1400} backups=${BACKUPS:-5} restores=${RESTORES:-5}

stage_open
stage_build
root=$(tests/servers/pg18.sh)
aws=$(tests/servers/aws.sh)
command -v zstd >/dev/null || apt_install zstd
machine

bin=/usr/lib/postgresql/18/bin
place=$(mktemp -d "$root/tmp/wirevault-speed.XXXXXX")
inner=${place#"$root"}
in_place() { chroot --userspec=postgres:postgres "$root" env HOME=/tmp PGHOST=127.0.0.1 PGPORT="$PGPORT" PGUSER=postgres "$@"; }
stage_extra_close() {
    in_place "$bin/pg_ctl" -D "$inner/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$place"
}
mkdir -p "$place/dumps"
chmod 755 "$place"
cp demo/catalogue.sql "$place"
chroot "$root" chown -R postgres "$inner"
PGPORT=$(free_port)
in_place "$bin/initdb" -D "$inner/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$stage/initdb.log"
in_place "$bin/pg_ctl" -D "$inner/data" -w -l "$inner/log" \
    -o "-p $PGPORT -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c shared_buffers=512MB" start >/dev/null
postmaster=$(head -1 "$place/data/postmaster.pid")
sql() { in_place "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }

sql -d postgres -c 'create role catalogizer login' -c 'create role reporting' -c 'create database catalogue owner catalogizer'
sql -d catalogue -v scale="$scale" -f "$inner/catalogue.sql" >/dev/null
sql -d catalogue -c 'vacuum analyze' -c 'checkpoint'
bytes=$(sql -d catalogue -c "select pg_database_size('catalogue')")
echo "database: $(mib "$bytes") MiB"
stage_s3 bench
export WIREVAULT_REPOSITORY=s3://bench/repository AWS_ENDPOINT_URL=$s3_endpoint
s3() { "$aws" --endpoint-url "$s3_endpoint" s3 "$@"; }
measure init "$WIREVAULT" init --no-encryption --to "$WIREVAULT_REPOSITORY"
url=postgres://postgres@127.0.0.1:$PGPORT
inside="chroot --userspec=postgres:postgres $root env HOME=/tmp PGHOST=127.0.0.1 PGPORT=$PGPORT PGUSER=postgres"
ticks=$(getconf CLK_TCK)

# spent PID: processor seconds of a process and of its children that ended.
spent() { sed 's/.*) //' "/proc/$1/stat" | awk -v t="$ticks" '{ print ($12 + $13 + $14 + $15) / t }'; }
# settle: what a run wrote is on the disk before the next begins.
settle() { sql -d postgres -c checkpoint; sync; }
over() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
median_of() { median <"$stage/$1.all"; }

for run in $(seq "$backups"); do
    settle
    measure pipe bash -o pipefail -c "$inside $bin/pg_dump -Fc --compress=zstd:1 catalogue |
        '$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet --expected-size $bytes - s3://bench/peer/catalogue.dump"
    pipe=$seconds
    rm -rf "$place/dumps/catalogue"
    settle
    measure both bash -c "$inside $bin/pg_dump -Fd -j2 --compress=zstd:1 -f $inner/dumps/catalogue catalogue &&
        '$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet --recursive '$place/dumps/catalogue' s3://bench/peer/directory"
    both=$seconds
    settle
    server=$(spent "$postmaster") store=$(spent "$s3_pid")
    measure ours /usr/bin/time -q -o "$stage/cpu" -f '%U %S' "$WIREVAULT" backup "$url/catalogue" --to "$WIREVAULT_REPOSITORY"
    own=$(awk '{ print $1 + $2 }' "$stage/cpu")
    sleep 1 # the last backend is waited for
    server=$(awk -v a="$(spent "$postmaster")" -v b="$server" 'BEGIN { print a - b }')
    store=$(awk -v a="$(spent "$s3_pid")" -v b="$store" 'BEGIN { print a - b }')
    limit=$(awk -v a="$server" -v b="$own" -v c="$store" -v n="$(nproc)" 'BEGIN { printf "%.2f", (a + b + c) / n }')
    better=$(printf '%s\n%s\n' "$pipe" "$both" | sort -g | head -1)
    over "$better" "$seconds" >>"$stage/backup.all"; echo >>"$stage/backup.all"
    over "$limit" "$seconds" >>"$stage/limit.all"; echo >>"$stage/limit.all"
    printf 'backup %s: pipe %s s, directory %s s, wirevault %s s (server %s, own %s, store %s processor seconds: limit %s s; peak %s MiB)\n' \
        "$run" "$pipe" "$both" "$seconds" "$server" "$own" "$store" "$limit" "$(mib $((peak_kib * 1024)))"
done
[ "$backups" = 0 ] || printf 'stored: pg_dump -Fc %s MiB, wirevault %s MiB\nbackup, medians of %s: %s times as fast as the better peer, %s of the limit\n' \
    "$(mib "$(bytes_of "$stage/s3/bench/peer/catalogue.dump")")" "$(mib $(($(bytes_of "$stage/s3/bench/repository/data") / backups)))" \
    "$backups" "$(median_of backup)" "$(median_of limit)"

if [ "$backups" = 0 ]; then
    in_place "$bin/pg_dump" -Fc --compress=zstd:1 -f "$inner/dumps/one" catalogue
    in_place "$bin/pg_dump" -Fd -j2 --compress=zstd:1 -f "$inner/dumps/catalogue" catalogue
    s3 cp --quiet "$place/dumps/one" s3://bench/peer/catalogue.dump
    s3 cp --quiet --recursive "$place/dumps/catalogue" s3://bench/peer/directory
    measure ours "$WIREVAULT" backup "$url/catalogue" --to "$WIREVAULT_REPOSITORY"
fi
rm -rf "$place/dumps"/*
parallel=()
[ -z "${PARALLEL:-}" ] || parallel=(--parallel "$PARALLEL")
for run in $(seq "$restores"); do
    sql -d postgres -c 'drop database if exists restored' -c 'create database restored template template0'
    settle
    measure pipe bash -o pipefail -c "'$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet s3://bench/peer/catalogue.dump - |
        $inside $bin/pg_restore -d restored && $inside $bin/psql -q -d restored -c analyze"
    pipe=$seconds
    sql -d postgres -c 'drop database restored' -c 'create database restored template template0'
    settle
    measure both bash -c "'$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet --recursive s3://bench/peer/directory '$place/dumps' &&
        $inside $bin/pg_restore -j2 -d restored $inner/dumps && $inside $bin/psql -q -d restored -c analyze"
    both=$seconds
    rm -rf "$place/dumps"/*
    sql -d postgres -c 'drop database restored'
    settle
    measure ours "$WIREVAULT" restore latest --into "$url/restored" "${parallel[@]}" --from "$WIREVAULT_REPOSITORY"
    over "$pipe" "$seconds" >>"$stage/pipe.all"; echo >>"$stage/pipe.all"
    over "$both" "$seconds" >>"$stage/both.all"; echo >>"$stage/both.all"
    printf 'restore %s: pipe %s s, directory %s s, wirevault %s s (peak %s MiB)\n' "$run" "$pipe" "$both" "$seconds" "$(mib $((peak_kib * 1024)))"
done
[ "$restores" = 0 ] || printf 'restore, medians of %s: %s times as fast as aws | pg_restore, %s times as fast as download + pg_restore -j2\n' \
    "$restores" "$(median_of pipe)" "$(median_of both)"
