#!/bin/bash
# SIGKILL at three moments of a backup: before Complete, between Complete and manifest, in the manifest write; on S3
# and on a directory. A throttled backup runs through all of it, and an older snapshot is restored again and again.
# Afterwards every snapshot that is offered verifies, and a sweep a (pretended) two days later leaves no orphan.
#
#   KILLS=10      in each window, on each store
#   TREE_MB=24    size of the tree that is backed up; more than two parts
#   STORES="s3 directory"
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/servers/stage.sh
kills=${KILLS:-10} tree_mb=${TREE_MB:-24}

stage_open
stage_build
machine
stage_s3 bench
mkdir "$stage/tree" "$stage/slow-tree" "$stage/directory"
for n in $(seq "$tree_mb"); do head -c 1M /dev/urandom >"$stage/tree/$n.bin"; done
head -c 64M /dev/urandom >"$stage/slow-tree/blob"

# After the kills: nothing that belongs to no snapshot may be left once the default grace has passed. The store's
# clock is the files' modification time, so two days pass by setting it back.
sweep() {
    local folder=$1 left
    find "$folder" -type f -exec touch -d '2 days ago' {} +
    measure prune "$WIREVAULT" prune --config "$stage/$2.toml"
    find "$folder" -type f -exec touch -d '2 days ago' {} +
    measure prune "$WIREVAULT" prune --config "$stage/$2.toml"
    left=$(comm -23 <(ls "$folder/data" | sort) <(ls "$folder/snapshots" | sed 's/\.json$//' | sort))
    [ -z "$left" ] || { echo "orphans after the sweep: $left" >&2; return 1; }
    left=$(find "$stage/s3" "$folder" \( -name '.upload*' -o -name '*.tmp*' -o -name '.tmp*' \) -print)
    [ -z "$left" ] || { echo "open uploads after the sweep: $left" >&2; return 1; }
    echo "$2: after the sweep $(ls "$folder/snapshots" | wc -l) snapshots, no orphan, no open upload"
}

for store in ${STORES:-s3 directory}; do
    if [ "$store" = s3 ]; then
        repository=s3://bench/repository folder=$stage/s3/bench/repository
        export AWS_ENDPOINT_URL=$s3_endpoint
    else
        repository=file://$stage/directory/repository folder=$stage/directory/repository
    fi
    cat >"$stage/$store.toml" <<TOML
[repository]
url = "$repository"
rate_limit = "1MiB/s"
[source.slow]
kind = "files"
root = "$stage/slow-tree"
[job.slow]
sources = ["slow"]
keep = { last = 1000 }
TOML
    measure init "$WIREVAULT" init --no-encryption --to "$repository"
    measure first "$WIREVAULT" backup "files:$stage/tree" --to "$repository"
    first=$(ls "$folder/snapshots" | sed 's/\.json$//')

    "$WIREVAULT" backup slow --config "$stage/$store.toml" >"$stage/slow.out" 2>&1 &
    slow=$!
    stage_pids+=("$slow")
    (
        count=0
        while [ ! -e "$stage/kills.done" ]; do
            rm -rf "$stage/older" "$stage"/older.pre-restore-* && mkdir "$stage/older"
            "$WIREVAULT" restore "$first" --into "$stage/older" --from "$repository" >"$stage/older.log" 2>&1 || exit 1
            diff -rq "$stage/tree" "$stage/older" >&2 || exit 1
            count=$((count + 1))
        done
        echo "$count" >"$stage/older.count"
    ) &
    older=$!
    stage_pids+=("$older")

    printf '{"kind": "%s", "vault": "%s", "tree": "%s", "kills": %s, "repository": "%s", "folder": "%s", "endpoint": "%s"}' \
        "$store" "$WIREVAULT" "$stage/tree" "$kills" "$repository" "$folder" "$s3_endpoint" >"$stage/kill.json"
    printf '%s: ' "$store"
    python3 benches/kill.py <"$stage/kill.json"
    touch "$stage/kills.done"
    wait "$older" || { cat "$stage/older.log" >&2; echo "$store: restoring the older snapshot failed" >&2; exit 1; }
    wait "$slow" || { tail -5 "$stage/slow.out" >&2; echo "$store: the throttled backup failed" >&2; exit 1; }
    rm "$stage/kills.done"
    measure verify "$WIREVAULT" verify --all --level content --from "$repository"
    echo "$store: the throttled backup ended well; the older snapshot was restored $(cat "$stage/older.count") times; all verify"
    sweep "$folder" "$store"
done
