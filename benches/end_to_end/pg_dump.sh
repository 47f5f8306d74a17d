#!/bin/bash
# Backup of PostgreSQL to a local S3 server against `pg_dump -Fc --compress=zstd:1 | aws s3 cp - s3://...`:
# same database, same server process, PostgreSQL 18's pg_dump from a chroot (so: as root). Prints the median of
# paired runs and their ratio.
#
#   SCALE=1400   thousands of files in the catalogue; 1400 make a database of at least 1.5 GB
#   RUNS=3
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
scale=${SCALE:-1400} runs=${RUNS:-3}

stage_open
stage_build
chroot_dir=$(tests/servers/pg18.sh)
aws=$(tests/servers/aws.sh)
machine
psql_bin=$WIREVAULT_TEST_PG15_BIN/psql
sql() { "$psql_bin" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
stage_postgres "$WIREVAULT_TEST_PG15_BIN" -c max_wal_size=4GB -c shared_buffers=512MB
stage_s3 bench
sql -d postgres -c 'create role catalogizer login' -c 'create role reporting' -c 'create database catalogue owner catalogizer'
sql -d catalogue -v scale="$scale" -f demo/catalogue.sql
sql -d catalogue -c 'checkpoint'
bytes=$(sql -d catalogue -c "select pg_database_size('catalogue')")
echo "database: $(mib "$bytes") MiB"
url=postgres://postgres@127.0.0.1:$PGPORT/catalogue
export WIREVAULT_REPOSITORY=s3://bench/repository AWS_ENDPOINT_URL=$s3_endpoint
measure init "$WIREVAULT" init --no-encryption --to "$WIREVAULT_REPOSITORY"

ours() { measure ours "$WIREVAULT" backup "$url" --to "$WIREVAULT_REPOSITORY"; }
theirs() {
    measure theirs bash -o pipefail -c "chroot '$chroot_dir' /usr/lib/postgresql/18/bin/pg_dump -h 127.0.0.1 -p $PGPORT -U postgres \
        -Fc --compress=zstd:1 catalogue | '$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet --expected-size $bytes - s3://bench/pg_dump/$1"
}
# Warm the cache once, so that the first pair is like the others.
sql -d catalogue -c 'select count(*) from media.files f where md5(f::text) is null' >/dev/null
for run in $(seq "$runs"); do
    theirs "$run"; t=$seconds
    ours; o=$seconds
    echo "$t" >>"$stage/theirs.all"; echo "$o" >>"$stage/ours.all"
    awk -v t="$t" -v o="$o" 'BEGIN { print t / o }' >>"$stage/ratio.all"
    printf 'pair %s: pg_dump | aws %s s, wirevault %s s (peak %s MiB)\n' "$run" "$t" "$o" "$(mib $((peak_kib * 1024)))"
done
printf 'stored: pg_dump %s MiB, wirevault %s MiB\n' "$(mib "$(bytes_of "$stage/s3/bench/pg_dump/1")")" \
    "$(mib $(( $(bytes_of "$stage/s3/bench/repository/data") / runs )))"
printf 'median of %s: pg_dump | aws %s s, wirevault %s s, ratio %.2f\n' "$runs" \
    "$(median <"$stage/theirs.all")" "$(median <"$stage/ours.all")" "$(median <"$stage/ratio.all")"
