#!/bin/bash
# Processor time and peak memory of backup and restore, of an older program and this one: PAIRS pairs of runs, the two taking turns at
# going first. Medians, and what this one takes as a multiple of the older one. The repository is a directory.
#
#   OLD=…/wirevault NEW=…/wirevault benches/end_to_end/old_new.sh     NEW is built here if it is not given
#   PAIRS=9 MB=200 TREE_MB=50     pairs; sizes of the table and the SQLite database, and of the tree
#
# Memory is limited to 96 MiB: below the limit, how much of it is used at the peak is a matter of which thread runs first.
set -euo pipefail
: "${OLD:?names the older program}"
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
pairs=${PAIRS:-9} mb=${MB:-200} tree_mb=${TREE_MB:-50}
stage_open
machine
if [ -z "${NEW:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    NEW=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
stage_postgres "$WIREVAULT_TEST_PG15_BIN" -c max_wal_size=4GB
createdb app
psql -X -q app -c "create table orders as select n as id, repeat(md5(n::text), 14) || md5((n + 1)::text) as body, random() as value
    from generate_series(1, $mb * 2000) n" -c 'alter table orders add primary key (id)'
python3 demo/writer.py create "$stage/items.db" "$mb"
python3 - "$stage/tree" "$tree_mb" <<'PY'
# Half of it in files of 1 MB, half in files of 2 KB; half of the bytes compress.
import os, random, sys
tree, mb = sys.argv[1], int(sys.argv[2])
rng = random.Random(1)
def write(path, size):
    with open(path, "wb") as file:
        file.write(rng.randbytes(size // 2) + bytes(size - size // 2))
for n in range(mb // 2):
    os.makedirs(f"{tree}/{n:04}")
    write(f"{tree}/{n:04}/large", 1_000_000)
    for m in range(500):
        write(f"{tree}/{n:04}/{m:03}", 2000)
PY
echo "a table and a SQLite database of $mb MB each, a tree of $tree_mb MB in $((tree_mb / 2 * 501)) files"

# run WHO WHAT COMMAND...: appends user + system seconds and peak MiB to $stage/WHO.WHAT.
run() {
    local who=$1 what=$2 user system peak
    shift 2
    /usr/bin/time -q -o "$stage/time" -f '%U %S %M' "$@" >"$stage/run.out" 2>"$stage/run.err" </dev/null || { cat "$stage/run.err" >&2; return 1; }
    read -r user system peak < <(tail -1 "$stage/time")
    awk -v u="$user" -v s="$system" -v p="$peak" 'BEGIN { printf "%.3f %.1f\n", u + s, p / 1024 }' >>"$stage/$who.$what"
}
# one WHO PROGRAM: everything once, each source in a repository of its own.
one() {
    local who=$1 program=$2 copy=postgres://postgres@127.0.0.1:$PGPORT/copy source
    rm -rf "$stage/repository" "$stage/back"
    mkdir "$stage/repository" "$stage/back"
    for source in table items tree; do "$program" init --no-encryption --to "file://$stage/repository/$source" >/dev/null; done
    run "$who" "backup of the table" "$program" backup --memory-limit 96MiB "postgres://postgres@127.0.0.1:$PGPORT/app" --to "file://$stage/repository/table"
    run "$who" "restore of the table" "$program" restore --memory-limit 96MiB latest --into "$copy" --from "file://$stage/repository/table"
    dropdb copy
    run "$who" "backup of SQLite" "$program" backup --memory-limit 96MiB "sqlite:$stage/items.db" --to "file://$stage/repository/items"
    run "$who" "restore of SQLite" "$program" restore --memory-limit 96MiB latest --into "$stage/back/items.db" --from "file://$stage/repository/items"
    run "$who" "backup of the tree" "$program" backup --memory-limit 96MiB "files:$stage/tree" --to "file://$stage/repository/tree"
    run "$who" "restore of the tree" "$program" restore --memory-limit 96MiB latest --into "$stage/back/tree" --from "file://$stage/repository/tree"
    diff -rq "$stage/tree" "$stage/back/tree" >&2
    run "$who" "verify of the tree" "$program" verify --memory-limit 96MiB latest --from "file://$stage/repository/tree"
}
for pair in $(seq "$pairs"); do
    if [ $((pair % 2)) = 1 ]; then
        one old "$OLD"
        one new "$NEW"
    else
        one new "$NEW"
        one old "$OLD"
    fi
done
column_of() { awk -v column="$2" '{ print $column }' "$1" | median; }
printf '%-24s %9s %9s %7s %10s %10s %7s\n' "medians of $pairs" "old cpu s" "new cpu s" ratio "old MiB" "new MiB" ratio
for file in "$stage"/old.*; do
    what=${file##*/old.}
    awk -v what="$what" -v a="$(column_of "$file" 1)" -v b="$(column_of "$stage/new.$what" 1)" \
        -v c="$(column_of "$file" 2)" -v d="$(column_of "$stage/new.$what" 2)" \
        'BEGIN { printf "%-24s %9.2f %9.2f %7.2f %10.1f %10.1f %7.2f\n", what, a, b, b / a, c, d, d / c }'
done
