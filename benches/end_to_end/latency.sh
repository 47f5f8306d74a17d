#!/bin/bash
# Backup and restore with the store behind a network of 50 ms round trip and 1 Gbit/s, against the same network without
# delay, and against none at all (direct). The store's server runs in a network namespace of its own; the sources are
# local. As root.
#
#   DATA_MB=1024   incompressible data in a tree of files, so that what crosses the link is known
#   RUNS=3  RTT_MS=50  MEGABITS=1000  LIMIT=256MiB
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
data_mb=${DATA_MB:-1024} runs=${RUNS:-3} rtt=${RTT_MS:-50} link=${MEGABITS:-1000} limit=${LIMIT:-256MiB}
[ "$(id -u)" = 0 ] || { echo "a network namespace needs root" >&2; exit 1; }

namespace=wv$$
stage_extra_close() {
    ip netns del "$namespace" 2>/dev/null
    ip link del "$namespace-o" 2>/dev/null
}
stage_open
stage_build
machine
ip netns add "$namespace"
ip -n "$namespace" link set lo up
near_outside=10.213.$(($$ % 250)).1 near_inside=10.213.$(($$ % 250)).2
ip link add "$namespace-o" type veth peer name "$namespace-i" netns "$namespace"
ip addr add "$near_outside/30" dev "$namespace-o"
ip link set "$namespace-o" up
ip -n "$namespace" addr add "$near_inside/30" dev "$namespace-i"
ip -n "$namespace" link set "$namespace-i" up
# Not netem: many kernels are built without it. A link is a program between two TUN devices.
link() { # RTT_MS OUTSIDE INSIDE
    python3 benches/end_to_end/link.py "$namespace" "$2" "$3" "$1" "$link" >"$stage/link.$1" &
    stage_pids+=("$!")
    stage_wait "the link comes up" "$!" grep -q up "$stage/link.$1"
}
far_inside=10.214.$(($$ % 250)).2 prompt_inside=10.215.$(($$ % 250)).2
link "$rtt" "${far_inside%.2}.1" "$far_inside"
link 0 "${prompt_inside%.2}.1" "$prompt_inside"

S3_WRAP=(ip netns exec "$namespace")
S3_HOST=0.0.0.0
stage_s3 bench
mkdir "$stage/tree"
for n in $(seq $((data_mb / 16))); do head -c 16M /dev/urandom >"$stage/tree/$n.bin"; done
s3_port=${s3_endpoint##*:}
export WIREVAULT_REPOSITORY=s3://bench/latency AWS_ENDPOINT_URL=http://$near_inside:$s3_port
vault=("$WIREVAULT" --memory-limit "$limit")
measure init "${vault[@]}" init --no-encryption --to "$WIREVAULT_REPOSITORY"

run_pair() {
    measure backup "${vault[@]}" backup "files:$stage/tree" --to "$WIREVAULT_REPOSITORY"
    echo "$seconds" >>"$stage/backup.$1"
    rm -rf "$stage/into" "$stage"/into.pre-restore-* && mkdir "$stage/into"
    local backup_seconds=$seconds
    measure restore "${vault[@]}" restore latest --into "$stage/into" --from "$WIREVAULT_REPOSITORY"
    echo "$seconds" >>"$stage/restore.$1"
    printf '%s: backup %s s, restore %s s\n' "$1" "$backup_seconds" "$seconds"
}
for _ in $(seq "$runs"); do
    AWS_ENDPOINT_URL=http://$near_inside:$s3_port run_pair direct
    AWS_ENDPOINT_URL=http://$prompt_inside:$s3_port run_pair "without delay"
    AWS_ENDPOINT_URL=http://$far_inside:$s3_port run_pair "with delay"
done
diff -rq "$stage/tree" "$stage/into"
for what in backup restore; do
    awk -v w=$what -v d="$(median <"$stage/$what.direct")" -v n="$(median <"$stage/$what.without delay")" \
        -v f="$(median <"$stage/$what.with delay")" -v mb="$data_mb" -v link="$link" -v rtt="$rtt" 'BEGIN {
        printf "%s of %d MiB, medians: direct %.1f s; %d Mbit/s %.1f s (%.0f MiB/s); and %d ms %.1f s (%.0f MiB/s): ",
            w, mb, d, link, n, mb / n, rtt, f, mb / f
        printf "%.0f%% of the same without delay, %.0f%% of the link, %.0f%% of direct\n",
            100 * n / f, 100 * mb * 8.388608 / f / link, 100 * d / f }'
done
