#!/bin/bash
# A backup while pgbench writes as fast as it can: its transactions a second before, during and after the backup, and whether the
# restored sums agree: every transaction changes one account, one teller and one branch by the same amount and writes it down.
#
#   SCALE=30         branches; 30 make about 450 MB
#   CLIENTS=4
#   QUIET_SECONDS=15   how long pgbench runs alone before and after
#   WIREVAULT=...    a program that is built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
scale=${SCALE:-30} clients=${CLIENTS:-4} quiet=${QUIET_SECONDS:-15}
stage_open
machine
if [ -z "${WIREVAULT:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    WIREVAULT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
bin=$WIREVAULT_TEST_PG15_BIN
sql() { "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
stage_postgres "$bin" -c max_wal_size=8GB -c shared_buffers=512MB -c synchronous_commit=off
sql -d postgres -c 'CREATE DATABASE bank'
"$bin/pgbench" -i -q -s "$scale" bank >/dev/null 2>&1
sql -d bank -c CHECKPOINT
echo "database: $(sql -d bank -c "SELECT pg_size_pretty(pg_database_size('bank'))"), pgbench with $clients clients"
base=postgres://postgres@127.0.0.1:$PGPORT
repository=file://$stage/repository
"$WIREVAULT" init --no-encryption --to "$repository" >/dev/null

"$bin/pgbench" -n -c "$clients" -j 2 -T 600 -P 1 --progress-timestamp bank >/dev/null 2>"$stage/progress" &
bench=$!
stage_pids+=("$bench")
sleep "$quiet"
from=$(date +%s.%N)
measure backup "$WIREVAULT" backup "$base/bank" --parallel 2 --to "$repository"
to=$(date +%s.%N)
sleep "$quiet"
kill "$bench" # a background process of a script ignores SIGINT
wait "$bench" 2>/dev/null || true
awk -v from="$from" -v to="$to" '
    /^progress: / { t = $2 + 0; n = t <= from ? "before" : t > to + 1 ? "after" : t > from + 1 && t <= to ? "during" : ""; if (n != "") { sum[n] += $4; count[n]++ } }
    END { for (i = split("before during after", names, " "); i > 0; i--) { n = names[4 - i]; if (count[n]) printf "tps %s the backup: %.0f (%d s)\n", n, sum[n] / count[n], count[n] } }' "$stage/progress"
printf 'backup under load: %s s, peak %s MiB\n' "$seconds" "$(mib $((peak_kib * 1024)))"
measure alone "$WIREVAULT" backup "$base/bank" --parallel 2 --to "$repository"
printf 'backup alone: %s s\n' "$seconds"
first=$("$WIREVAULT" list --json --from "$repository" | python3 -c 'import json, sys; print(min(s["id"] for s in json.load(sys.stdin)["snapshots"]))')
measure restore "$WIREVAULT" restore "$first" --into "$base/restored" --verify-rows --from "$repository"
sums='SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT COALESCE(sum(delta), 0) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)'
IFS='|' read -r accounts branches tellers history transactions <<<"$(sql -d restored -c "$sums")"
printf 'restored: sums of accounts %s, branches %s, tellers %s, history %s; %s transactions\n' "$accounts" "$branches" "$tellers" "$history" "$transactions"
[ "$accounts" = "$branches" ] && [ "$accounts" = "$tellers" ] && [ "$accounts" = "$history" ] && [ "$transactions" -gt 0 ] || { echo 'the sums differ'; exit 1; }
echo 'the sums agree'
