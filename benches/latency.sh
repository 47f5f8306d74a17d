#!/bin/bash
# Backup and restore with the store behind a network of 50 ms round trip and 1 Gbit/s, against the same without
# delay. The store's server runs in a network namespace of its own; the sources are local. As root.
#
#   DATA_MB=1024   incompressible data in a tree of files, so that what crosses the link is known
#   RUNS=3  RTT_MS=50  RATE=1gbit  LIMIT=256MiB
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/servers/stage.sh
data_mb=${DATA_MB:-1024} runs=${RUNS:-3} rtt=${RTT_MS:-50} link=${RATE:-1gbit} limit=${LIMIT:-256MiB}
[ "$(id -u)" = 0 ] || { echo "a network namespace needs root" >&2; exit 1; }

namespace=wv$$
outside=10.213.$(($$ % 250)).1 inside=10.213.$(($$ % 250)).2
stage_extra_close() {
    ip netns del "$namespace" 2>/dev/null
    ip link del "$namespace-o" 2>/dev/null
}
stage_open
stage_build
machine
ip netns add "$namespace"
ip link add "$namespace-o" type veth peer name "$namespace-i" netns "$namespace"
ip addr add "$outside/30" dev "$namespace-o"
ip link set "$namespace-o" up
ip -n "$namespace" addr add "$inside/30" dev "$namespace-i"
ip -n "$namespace" link set "$namespace-i" up
ip -n "$namespace" link set lo up

# Half the round trip on each side's way out; the limit holds more than a round trip's worth of packets.
delay_on() {
    tc qdisc replace dev "$namespace-o" root netem delay "$((rtt / 2))ms" rate "$link" limit 50000
    tc -n "$namespace" qdisc replace dev "$namespace-i" root netem delay "$((rtt / 2))ms" rate "$link" limit 50000
}
delay_off() {
    tc qdisc del dev "$namespace-o" root
    tc -n "$namespace" qdisc del dev "$namespace-i" root
}

S3_WRAP=(ip netns exec "$namespace")
S3_HOST=$inside
stage_s3 bench
mkdir "$stage/tree"
for n in $(seq $((data_mb / 16))); do head -c 16M /dev/urandom >"$stage/tree/$n.bin"; done
export WIREVAULT_REPOSITORY=s3://bench/latency AWS_ENDPOINT_URL=$s3_endpoint
vault=("$WIREVAULT" --memory-limit "$limit")
measure init "${vault[@]}" init --no-encryption --to "$WIREVAULT_REPOSITORY"

run_pair() {
    measure backup "${vault[@]}" backup "files:$stage/tree" --to "$WIREVAULT_REPOSITORY"
    echo "$seconds" >>"$stage/backup.$1"
    rm -rf "$stage/into" && mkdir "$stage/into"
    local backup_seconds=$seconds
    measure restore "${vault[@]}" restore latest --into "$stage/into" --from "$WIREVAULT_REPOSITORY"
    echo "$seconds" >>"$stage/restore.$1"
    printf '%s: backup %s s, restore %s s\n' "$1" "$backup_seconds" "$seconds"
}
for _ in $(seq "$runs"); do
    run_pair near
    delay_on
    ping -c 1 -q "$inside" 2>/dev/null | sed -n 's/^rtt/  rtt/p'
    run_pair far
    delay_off
done
diff -rq "$stage/tree" "$stage/into/tree"
for what in backup restore; do
    near=$(median <"$stage/$what.near") far=$(median <"$stage/$what.far")
    awk -v w=$what -v n="$near" -v f="$far" -v mb="$data_mb" 'BEGIN {
        printf "%s of %d MiB, medians: near %.1f s (%.0f MiB/s), far %.1f s (%.0f MiB/s): %.0f%% of near, %.0f%% of a 1 Gbit/s link\n",
            w, mb, n, mb / n, f, mb / f, 100 * n / f, 100 * mb * 8.388608 / f / 1000 }'
done
