#!/bin/bash
# SIGKILL at three moments of a backup: before Complete, between Complete and manifest, in the manifest write; on S3, on
# a directory, and on an S3 store that ignores If-None-Match. A throttled backup runs through all of it, and an older
# snapshot is restored again and again. After each kill every snapshot that is offered verifies and restores, and the
# killed run is refused by name. At the end a sweep a (pretended) two days later leaves no orphan and no open upload.
# Then a run is stopped (SIGSTOP) beyond its lease at four points: it fails by itself and leaves no snapshot.
#
#   KILLS=10      in each window, on each store
#   TREE_MB=24    size of the tree that is backed up; more than two parts
#   SLOW_MB=150   size of the throttled backup, at 1 MiB/s
#   STORES="s3 directory s3-unconditional"
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
kills=${KILLS:-10} tree_mb=${TREE_MB:-24} slow_mb=${SLOW_MB:-150}

stage_open
# Where no one sees from outside, the program stops by itself.
STAGE_FEATURES=test-hooks
stage_build
machine
mkdir "$stage/tree" "$stage/slow-tree" "$stage/directory"
for n in $(seq "$tree_mb"); do head -c 1M /dev/urandom >"$stage/tree/$n.bin"; done
head -c "${slow_mb}M" /dev/urandom >"$stage/slow-tree/blob"

# Whatever happens two days later: the store's clock is the files' modification time, so it is set back instead.
prune_later() {
    find "$folder" -type f -exec touch -d '2 days ago' {} +
    measure prune "$WIREVAULT" prune --config "$stage/$store.toml"
}

# What lies in the repository and belongs to no snapshot. A job's lease stays: it is one small object, which the job's
# next run takes over.
orphans() {
    local path id
    (cd "$folder" && find . -type f) | while read -r path; do
        case $path in
            ./repository.json | ./locks/*) continue ;;
            ./snapshots/*.json) continue ;;
            ./data/*) id=${path#./data/} && id=${id%%/*} ;;
            ./evidence/*) id=${path#./evidence/} && id=${id%%/*} ;;
            *) echo "$path" && continue ;;
        esac
        [ -e "$folder/snapshots/$id.json" ] || echo "$path"
    done
}

# After the kills: nothing that belongs to no snapshot may be left once the default grace has passed. The second prune
# takes what the first one wrote: tombstones.
sweep() {
    local left
    left=$(orphans | wc -l)
    prune_later
    grep -h -e '^swept' "$stage/prune.out" | sed 's/^/  /'
    prune_later
    [ -z "$(orphans)" ] || { echo "orphans after the sweep:" >&2; orphans >&2; return 1; }
    # s3s-fs keeps open uploads beside the buckets.
    uploads=$(find "$stage" -maxdepth 2 -path "$stage/s3/*" -name '.upload*')
    [ -z "$uploads" ] || { echo "open uploads after the sweep: $uploads" >&2; return 1; }
    echo "  after the sweep: $(ls "$folder/snapshots" | wc -l) snapshots, 0 orphans of $left, 0 open uploads"
}

drive() {
    printf '{"mode": "%s", "kind": "%s", "vault": "%s", "tree": "%s", "kills": %s, "repository": "%s", "folder": "%s",
        "endpoint": "%s", "slow_pid": %s, "scratch": "%s", "config": "%s"}' \
        "$1" "${store%%-*}" "$WIREVAULT" "$stage/tree" "$kills" "$repository" "$folder" \
        "${s3_endpoint:-}" "$slow" "$stage/scratch" "$stage/$store.toml" >"$stage/$1.json"
    python3 benches/end_to_end/kill.py <"$stage/$1.json"
}

for store in ${STORES:-s3 directory s3-unconditional}; do
    if [ "$store" = directory ]; then
        repository=file://$stage/directory/repository folder=$stage/directory/repository
    else
        S3_OPTIONS=()
        [ "$store" = s3 ] || S3_OPTIONS=(--ignore-if-none-match)
        stage_s3 "bench-$store"
        repository=s3://bench-$store/repository folder=$stage/s3/bench-$store/repository
        export AWS_ENDPOINT_URL=$s3_endpoint
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
    echo "$store"
    measure init "$WIREVAULT" init --no-encryption --to "$repository"
    measure first "$WIREVAULT" backup "files:$stage/tree" --to "$repository"
    first=$(ls "$folder/snapshots" | sed 's/\.json$//')

    "$WIREVAULT" backup slow --config "$stage/$store.toml" >"$stage/slow.out" 2>&1 &
    slow=$!
    stage_pids+=("$slow")
    rm -f "$stage/kills.done"
    (
        count=0
        while [ ! -e "$stage/kills.done" ]; do
            rm -rf "$stage/older" && mkdir "$stage/older"
            "$WIREVAULT" restore "$first" --into "$stage/older" --from "$repository" >"$stage/older.log" 2>&1 || exit 1
            diff -rq "$stage/tree" "$stage/older" >&2 || exit 1
            count=$((count + 1))
            sleep 0.5
        done
        echo "$count" >"$stage/older.count"
    ) &
    older=$!
    stage_pids+=("$older")

    drive kill
    touch "$stage/kills.done"
    wait "$older" || { cat "$stage/older.log" >&2; echo "$store: restoring the older snapshot failed" >&2; exit 1; }
    echo "  the older snapshot was restored $(cat "$stage/older.count") times meanwhile, each time equal"
    wait "$slow" || { tail -n 5 "$stage/slow.out" >&2; echo "$store: the throttled backup failed" >&2; exit 1; }
    slow_id=$(ls "$folder/snapshots" | grep -e -slow- | sed 's/\.json$//')
    mkdir "$stage/slow-back"
    measure verify "$WIREVAULT" verify --all --level content --from "$repository"
    measure restore "$WIREVAULT" restore "$slow_id" --into "$stage/slow-back" --from "$repository"
    cmp "$stage/slow-tree/blob" "$stage/slow-back/blob"
    rm -r "$stage/slow-back"
    echo "  the throttled backup ran through all kills, ended well, and restores equal; all snapshots verify"
    sweep
    drive stop
    sweep
done
