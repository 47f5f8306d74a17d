#!/bin/bash
# Backup of a SQLite database in WAL mode with a running writer, to a local S3 server, against
# `sqlite3 .backup` + `zstd -1` + `aws s3 cp` to the same server process. Prints medians of paired runs.
# The writer runs in the database during our backups only: `.backup` starts again at each foreign commit, and under this
# writer it does not end at all (200 MB, a commit every 100 ms: not within 20 s). During theirs the same writer works in a
# small database beside it, so both have the same share of the processors.
#
#   MEGABYTES=1024   size of the database
#   KIND=rows        what fills it: rows of a media library, text (subtitles), or images (half of it noise)
#   RUNS=3
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
megabytes=${MEGABYTES:-1024} kind=${KIND:-rows} runs=${RUNS:-3}

stage_open
stage_build
aws=$(tests/servers/aws.sh)
command -v sqlite3 >/dev/null || apt_install sqlite3
command -v zstd >/dev/null || apt_install zstd
machine
stage_s3 bench
export WIREVAULT_REPOSITORY=s3://bench/repository AWS_ENDPOINT_URL=$s3_endpoint
measure init "$WIREVAULT" init --no-encryption --to "$WIREVAULT_REPOSITORY"
python3 demo/writer.py create "$stage/player.db" "$megabytes" "$kind"
python3 demo/writer.py create "$stage/other.db" 16 "$kind"
cat "$stage/player.db" >/dev/null

begin_writing() {
    python3 demo/writer.py write "$1" >>"$stage/writer.out" &
    writer=$!
    stage_pids+=("$writer")
}
end_writing() {
    kill -TERM "$writer"
    wait "$writer" || true
}

for run in $(seq "$runs"); do
    begin_writing "$stage/other.db"
    measure theirs bash -c "sqlite3 '$stage/player.db' '.timeout 60000' '.backup $stage/copy.db' && zstd -q -f -1 '$stage/copy.db' -o '$stage/copy.zst' &&
        '$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet '$stage/copy.zst' s3://bench/sqlite3/$run"
    t=$seconds
    end_writing
    rm -f "$stage"/copy.*
    begin_writing "$stage/player.db"
    measure ours "$WIREVAULT" backup "sqlite:$stage/player.db" --to "$WIREVAULT_REPOSITORY"
    o=$seconds
    end_writing
    echo "$t" >>"$stage/theirs.all"; echo "$o" >>"$stage/ours.all"
    awk -v t="$t" -v o="$o" 'BEGIN { print t / o }' >>"$stage/ratio.all"
    printf 'pair %s: sqlite3 + zstd + aws %s s, wirevault %s s (peak %s MiB)\n' "$run" "$t" "$o" "$(mib $((peak_kib * 1024)))"
done
measure verify "$WIREVAULT" verify latest --level content --from "$WIREVAULT_REPOSITORY"
mkdir "$stage/into"
measure restore "$WIREVAULT" restore latest --into "$stage/into/player.db" --from "$WIREVAULT_REPOSITORY"
python3 demo/writer.py check "$stage/into/player.db"
printf 'median of %s, %s MiB: sqlite3 + zstd + aws %s s, wirevault %s s, ratio %.2f\n' "$runs" \
    "$(mib "$(stat -c %s "$stage/player.db")")" "$(median <"$stage/theirs.all")" "$(median <"$stage/ours.all")" "$(median <"$stage/ratio.all")"
