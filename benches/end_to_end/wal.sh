#!/bin/bash
# What taking the log costs a busy PostgreSQL 18: transactions a second of a write-heavy pgbench (simple updates) while
#
#   pg_receivewal        writes the log into a directory
#   log receive          stores it in S3 (flush every 2 s, as by default)
#   archive-push         pgBackRest 2.60 is the archive_command, into a directory, zstd level 1
#   log push             is the archive_command, into S3
#
# take it. A round is one run of each, one after another, a checkpoint before each; medians of the rounds' ratios are printed.
# The machine stands for two: the server and its clients have the first core, receivers and the S3 server the second one (what an
# archive_command does is the server's); SPLIT=0 lets all have all.
# PostgreSQL 18 lives in a chroot, so this needs root.
#
#   ROUNDS=5 EACH=25 (seconds) SCALE=50 CLIENTS=4
#   SYNCHRONOUS=on     synchronous_commit; off makes more log
#   WIREVAULT, S3_SERVER   programs that are built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
rounds=${ROUNDS:-5} each=${EACH:-25} scale=${SCALE:-50} clients=${CLIENTS:-4}
server_cores=0 other_cores=1
[ "${SPLIT:-1}" = 1 ] || server_cores=0-$(($(nproc) - 1)) other_cores=0-$(($(nproc) - 1))

stage_open
stage_build
root=$(tests/servers/pg18.sh --with-pgbackrest)
machine
bin=/usr/lib/postgresql/18/bin
place=$(mktemp -d "$root/tmp/wirevault-wal.XXXXXX")
inner=${place#"$root"}
in_place() { taskset -c "$server_cores" chroot --userspec=postgres:postgres "$root" env HOME=/tmp PGHOST=127.0.0.1 PGPORT="$PGPORT" PGUSER=postgres "$@"; }
stage_extra_close() {
    in_place "$bin/pg_ctl" -D "$inner/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$place"
}
mkdir -p "$place/pgbackrest" "$place/socket" "$place/received"
cp "$WIREVAULT" "$place/wirevault"
chmod 755 "$place" "$place/wirevault"
chroot "$root" chown -R postgres "$inner"
PGPORT=$(free_port)
in_place "$bin/initdb" -D "$inner/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$stage/initdb.log"
S3_WRAP=(taskset -c "$other_cores")
stage_s3 bench
export AWS_ENDPOINT_URL=$s3_endpoint
settings=(listen_addresses=127.0.0.1 "unix_socket_directories=$inner/socket" shared_buffers=512MB max_wal_size=16GB checkpoint_timeout=1h archive_mode=on
    archive_command=/bin/true "synchronous_commit=${SYNCHRONOUS:-on}" autovacuum=off)
in_place "$bin/pg_ctl" -D "$inner/data" -w -l "$inner/log" -o "-p $PGPORT $(printf -- '-c %s ' "${settings[@]}")" start >/dev/null
sql() { in_place "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -d postgres "$@"; }
in_place "$bin/pgbench" -q -i -s "$scale" postgres >/dev/null 2>&1
backrest="pgbackrest --stanza=one --pg1-path=$inner/data --pg1-port=$PGPORT --pg1-socket-path=$inner/socket --pg1-user=postgres --repo1-path=$inner/pgbackrest
    --lock-path=$inner/lock --log-path=$inner --log-level-console=error --log-level-file=off"
backrest=$(echo $backrest)
in_place $backrest --no-online stanza-create
url="postgres-physical://postgres@127.0.0.1:$PGPORT?sslmode=disable"

# archive COMMAND: the server's archive_command from now on; what waits is archived before.
archive() {
    sql -c "alter system set archive_command = '$1'" -c 'select pg_reload_conf()' >/dev/null
}
settle() {
    archive /bin/true
    sql -c 'vacuum pgbench_tellers, pgbench_branches' -c 'truncate pgbench_history' -c 'select pg_switch_wal()' -c checkpoint >/dev/null
    stage_wait "the log is archived" "$(head -1 "$place/data/postmaster.pid")" bash -c "! ls '$place/data/pg_wal/archive_status' | grep -q ready"
    sync
}
streams() { [ "$(sql -c "select count(*) from pg_stat_replication where state = 'streaming'")" = 1 ]; }
# pgbench: sets tps and wal (MiB of log).
bench() {
    local before
    before=$(sql -c 'select pg_current_wal_lsn()')
    in_place "$bin/pgbench" -n -N -c "$clients" -j 1 -T "$each" postgres >"$stage/pgbench" 2>&1 || { cat "$stage/pgbench" >&2; return 1; }
    tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' "$stage/pgbench")
    wal=$(mib "$(sql -c "select pg_current_wal_lsn() - '$before'")")
}
# receiver COMMAND...: bench beside a receiver; sets tps, and peak_kib and cpu of the receiver.
receiver() {
    local pid
    settle
    taskset -c "$other_cores" /usr/bin/time -q -o "$stage/receiver" -f '%M %U %S' "$@" >"$stage/receiver.out" 2>&1 &
    pid=$!
    stage_pids+=("$pid")
    stage_wait "the receiver streams" "$pid" streams || { cat "$stage/receiver.out" >&2; return 1; }
    bench
    behind=$(mib "$(sql -c 'select pg_current_wal_lsn() - flush_lsn from pg_stat_replication')")
    pkill -TERM -P "$pid"
    wait "$pid" || true
    read -r peak_kib user system < <(tail -1 "$stage/receiver")
    cpu=$(awk -v a="$user" -v b="$system" 'BEGIN { print a + b }')
    for slot in $(sql -c 'select slot_name from pg_replication_slots'); do
        for _ in $(seq 50); do sql -c "select pg_drop_replication_slot('$slot')" >/dev/null 2>&1 && break; sleep 0.1; done
    done
}
note() { awk -v a="$2" -v b="$3" 'BEGIN { printf "%.4f\n", a / b }' >>"$stage/$1.all"; }
median_of() { median <"$stage/$1.all"; }

settle
bench # warm
for run in $(seq "$rounds"); do
    settle
    bench
    none=$tps
    rm -rf "$place/received"/*
    sql -c "select pg_create_physical_replication_slot('peer')" >/dev/null
    receiver chroot --userspec=postgres:postgres "$root" env HOME=/tmp PGHOST=127.0.0.1 PGPORT="$PGPORT" PGUSER=postgres \
        "$bin/pg_receivewal" -D "$inner/received" --no-loop --slot=peer
    received=$tps
    printf 'round %s: nothing %.0f, pg_receivewal %.0f (%s s, %s MiB behind)' "$run" "$none" "$tps" "$cpu" "$behind"
    "$WIREVAULT" init --no-encryption --to "s3://bench/received$run" >/dev/null
    receiver "$WIREVAULT" log receive "$url" --to "s3://bench/received$run"
    printf ', log receive %.0f (%s s, %s MiB behind, peak %s MiB, log of %s MiB)' "$tps" "$cpu" "$behind" "$(mib $((peak_kib * 1024)))" "$wal"
    note receive "$tps" "$received"
    note receive_none "$tps" "$none"
    settle
    archive "$backrest --compress-type=zst --compress-level=1 archive-push %p"
    bench
    pushed=$tps
    settle
    "$WIREVAULT" init --no-encryption --to "s3://bench/pushed$run" >/dev/null
    archive "AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo-secret AWS_REGION=us-east-1 $inner/wirevault log push %p --to s3://bench/pushed$run --endpoint $s3_endpoint"
    bench
    printf ', archive-push %.0f, log push %.0f\n' "$pushed" "$tps"
    note push "$tps" "$pushed"
    rm -rf "$stage/s3/bench"/* "$place/pgbackrest/archive/one"/1*/0*
done
printf 'medians of %s: log receive %s of pg_receivewal and %s of nothing; log push %s of archive-push\n' "$rounds" "$(median_of receive)" "$(median_of receive_none)" "$(median_of push)"
