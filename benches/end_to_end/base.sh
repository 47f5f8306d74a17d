#!/bin/bash
# A base backup of PostgreSQL 18 (demo/catalogue.sql at a fixed scale) into S3, against
#
#   pg_basebackup -Ft -X none -D - | zstd -1 | aws s3 cp -
#   pgBackRest, two processes, zstd level 1, a full backup
#
# with the same server (defaults but shared_buffers; fsync on; page checksums) and the same S3 server process, over TLS, because
# pgBackRest knows S3 by TLS alone. A round is one run of each, one after another; medians of the rounds' ratios are printed: time,
# and processor seconds of everything that worked (the programs, PostgreSQL, the S3 server and stunnel, which does its TLS).
# PostgreSQL 18 lives in a chroot, so this needs root.
#
#   SCALE=1900     thousands of files in the catalogue; 1900 make 2 GB
#   ROUNDS=5
#   MEMORY=96MiB   our --memory-limit, the least there is
#   POSIX=1        pgBackRest writes into a directory, without S3 and TLS
#   WIREVAULT, S3_SERVER   programs that are built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
scale=${SCALE:-1900} rounds=${ROUNDS:-5}

stage_open
stage_build
root=$(tests/servers/pg18.sh --with-pgbackrest)
aws=$(tests/servers/aws.sh)
command -v zstd >/dev/null || apt_install zstd
command -v stunnel >/dev/null || apt_install stunnel4
machine

bin=/usr/lib/postgresql/18/bin
place=$(mktemp -d "$root/tmp/wirevault-base.XXXXXX")
inner=${place#"$root"}
in_place() { chroot --userspec=postgres:postgres "$root" env HOME=/tmp PGHOST=127.0.0.1 PGPORT="$PGPORT" PGUSER=postgres "$@"; }
stage_extra_close() {
    in_place "$bin/pg_ctl" -D "$inner/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$place"
}
mkdir -p "$place/pgbackrest" "$place/socket"
chmod 755 "$place"
cp demo/catalogue.sql "$place"
chroot "$root" chown -R postgres "$inner"
PGPORT=$(free_port)
in_place "$bin/initdb" -D "$inner/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$stage/initdb.log"
in_place "$bin/pg_ctl" -D "$inner/data" -w -l "$inner/log" \
    -o "-p $PGPORT -c listen_addresses=127.0.0.1 -c unix_socket_directories=$inner/socket -c shared_buffers=512MB -c max_wal_size=4GB" start >/dev/null
postmaster=$(head -1 "$place/data/postmaster.pid")
sql() { in_place "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }

sql -d postgres -c 'create role catalogizer login' -c 'create role reporting' -c 'create database catalogue owner catalogizer'
sql -d catalogue -v scale="$scale" -f "$inner/catalogue.sql" >/dev/null
sql -d catalogue -c 'vacuum analyze' -c 'checkpoint'
bytes=$(sql -d postgres -c "select sum(pg_database_size(oid)) from pg_database")
echo "cluster: $(mib "$bytes") MiB"
stage_s3 bench
tls_port=$(free_port)
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout "$stage/ca.key" -out "$stage/ca.pem" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$stage/key.pem" -out "$stage/request.pem" 2>/dev/null
printf 'subjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = CA:FALSE\n' >"$stage/extensions"
openssl x509 -req -days 2 -in "$stage/request.pem" -CA "$stage/ca.pem" -CAkey "$stage/ca.key" -CAcreateserial -extfile "$stage/extensions" \
    -out "$stage/cert.pem" 2>/dev/null
printf 'foreground = yes\npid =\n[s3]\naccept = 127.0.0.1:%s\nconnect = %s\ncert = %s\nkey = %s\n' \
    "$tls_port" "${s3_endpoint#http://}" "$stage/cert.pem" "$stage/key.pem" >"$stage/stunnel.conf"
stunnel "$stage/stunnel.conf" 2>"$stage/stunnel.log" &
tls_pid=$!
stage_pids+=("$tls_pid")
s3_endpoint=https://127.0.0.1:$tls_port
stage_wait "stunnel listens" "$tls_pid" curl -sk -o /dev/null "$s3_endpoint"
export WIREVAULT_REPOSITORY=s3://bench/repository AWS_ENDPOINT_URL=$s3_endpoint AWS_CA_BUNDLE=$stage/ca.pem
measure init "$WIREVAULT" init --no-encryption --to "$WIREVAULT_REPOSITORY"
inside="chroot --userspec=postgres:postgres $root env HOME=/tmp PGHOST=127.0.0.1 PGPORT=$PGPORT PGUSER=postgres"
place_of_backrest="--repo1-type=s3 --repo1-path=/pgbackrest --repo1-s3-bucket=bench --repo1-s3-endpoint=127.0.0.1 --repo1-storage-port=$tls_port
    --repo1-s3-region=us-east-1 --repo1-s3-uri-style=path --repo1-storage-verify-tls=n"
[ -z "${POSIX:-}" ] || place_of_backrest="--repo1-path=$inner/pgbackrest"
backrest="$inside PGBACKREST_REPO1_S3_KEY=demo PGBACKREST_REPO1_S3_KEY_SECRET=demo-secret pgbackrest --stanza=one --pg1-path=$inner/data --pg1-port=$PGPORT --pg1-socket-path=$inner/socket --pg1-user=postgres $place_of_backrest
    --lock-path=$inner/lock --log-path=$inner --log-level-console=error --log-level-file=off"
ticks=$(getconf CLK_TCK)

# spent PID: processor seconds of a process and of its children that ended.
spent() { sed 's/.*) //' "/proc/$1/stat" | awk -v t="$ticks" '{ print ($12 + $13 + $14 + $15) / t }'; }
stored() { awk -v a="$(spent "$s3_pid")" -v b="$(spent "$tls_pid")" 'BEGIN { print a + b }'; }
over() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
median_of() { median <"$stage/$1.all"; }
# round NAME COMMAND...: a run with everything before it on the disk; sets seconds, own and all (processor seconds).
round() {
    local name=$1 server store
    shift
    sql -d postgres -c checkpoint
    sync
    server=$(spent "$postmaster") store=$(stored)
    measure "$name" /usr/bin/time -q -o "$stage/cpu" -f '%U %S' "$@"
    own=$(awk '{ print $1 + $2 }' "$stage/cpu")
    sleep 1 # the last backend is waited for
    all=$(awk -v o="$own" -v a="$(spent "$postmaster")" -v b="$server" -v c="$(stored)" -v d="$store" 'BEGIN { printf "%.2f", o + a - b + c - d }')
}

for run in $(seq "$rounds"); do
    round pipe bash -o pipefail -c "$inside $bin/pg_basebackup -Ft -X none -c fast -D - | zstd -q -1 |
        '$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet --expected-size $bytes - s3://bench/peer/base.tar.zst"
    pipe=$seconds pipe_own=$own pipe_all=$all
    rm -rf "$place/pgbackrest"/* "$stage/s3/bench/pgbackrest"
    $backrest --no-online stanza-create
    round backrest $backrest --compress-type=zst --compress-level=1 --process-max=2 --no-archive-check --start-fast --type=full backup
    peer=$seconds peer_all=$all
    round ours "$WIREVAULT" --memory-limit "${MEMORY:-96MiB}" backup "postgres-physical://postgres@127.0.0.1:$PGPORT?sslmode=disable" --to "$WIREVAULT_REPOSITORY"
    printf 'round %s: pipe %s s (processor %s s, all %s s), pgBackRest %s s (all %s s), wirevault %s s (processor %s s, all %s s, peak %s MiB)\n' \
        "$run" "$pipe" "$pipe_own" "$pipe_all" "$peer" "$peer_all" "$seconds" "$own" "$all" "$(mib $((peak_kib * 1024)))"
    over "$seconds" "$pipe" >>"$stage/pipe.all"; echo >>"$stage/pipe.all"
    over "$all" "$pipe_all" >>"$stage/pipe_all.all"; echo >>"$stage/pipe_all.all"
    over "$own" "$pipe_own" >>"$stage/pipe_own.all"; echo >>"$stage/pipe_own.all"
    over "$seconds" "$peer" >>"$stage/peer.all"; echo >>"$stage/peer.all"
    over "$all" "$peer_all" >>"$stage/peer_all.all"; echo >>"$stage/peer_all.all"
done
printf 'stored: pipe %s MiB, pgBackRest %s MiB, wirevault %s MiB\n' "$(mib "$(bytes_of "$stage/s3/bench/peer/base.tar.zst")")" \
    "$(mib "$(bytes_of "$([ -n "${POSIX:-}" ] && echo "$place/pgbackrest/backup" || echo "$stage/s3/bench/pgbackrest/backup")")")" "$(mib $(($(bytes_of "$stage/s3/bench/repository/data") / rounds)))"
printf 'medians of %s: time %s of the pipe and %s of pgBackRest; processor seconds of everything %s and %s; of the programs alone %s of the pipe\n' \
    "$rounds" "$(median_of pipe)" "$(median_of peer)" "$(median_of pipe_all)" "$(median_of peer_all)" "$(median_of pipe_own)"
