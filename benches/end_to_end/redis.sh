#!/bin/bash
# Redis: backup of KEYS keys (3 million, about 1 GB) to a local S3 server, against `redis-cli --rdb - | zstd -1 | aws s3 cp -` to the
# same server process, and against `redis-cli --rdb /dev/null`; restore into an empty server, against starting a server on the RDB.
# Paired runs, medians. PARTS says which of these run:
#
#   PARTS="backup restore memory slow silent"
#     backup, restore   the pairs
#     memory            --memory-limit 96MiB with one sorted set of ZSET_MB: backup, verify, restore
#     slow              source written at full speed, store throttled to 2 MB/s
#     silent            the store answers nothing for 90 s in mid-sync
#   STORE=s3                 or directory: then the store takes no processor from the server, and there is no pipeline beside it
#   KEYS=3000000 RUNS=3 ZSET_MB=1024 SLOW_KEYS=300000
#   RDB=FILE            keeps the filled RDB there for the next time
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
keys=${KEYS:-3000000} runs=${RUNS:-3} zset_mb=${ZSET_MB:-1024} parts=${PARTS:-backup restore memory slow silent}

stage_open
stage_build
aws=$(tests/servers/aws.sh)
machine
redis_server=$WIREVAULT_TEST_REDIS7
stage_s3 bench
store=${STORE:-s3}
export WIREVAULT_REPOSITORY=s3://bench/repository AWS_ENDPOINT_URL=$s3_endpoint
[ "$store" = s3 ] || export WIREVAULT_REPOSITORY=file://$stage/repository
vault() { "$WIREVAULT" "$@"; }
measure init "$WIREVAULT" init --no-encryption --to "$WIREVAULT_REPOSITORY"

# serve NAME [option...]: starts a server in $stage/NAME, on the dump.rdb there if there is one; sets port and redis_pid.
serve() {
    local name=$1
    shift
    mkdir -p "$stage/$name"
    port=$(free_port)
    "$redis_server" --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$stage/$name" --repl-diskless-sync-delay 0 "$@" >"$stage/$name/log" &
    redis_pid=$!
    stage_pids+=("$redis_pid")
}
until_ready() { stage_wait "the server is ready" "$redis_pid" sh -c "redis-cli -p $port ping | grep -q PONG"; }
stop() { kill "$1"; wait "$1" 2>/dev/null || true; }
pair() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'; }
has() { case " $parts " in *" $1 "*) true ;; *) false ;; esac; }

if has backup || has restore; then
    mkdir -p "$stage/source"
    if [ -s "${RDB:-/nonexistent}" ]; then
        cp "$RDB" "$stage/source/dump.rdb"
        serve source
        until_ready
    else
        serve source
        until_ready
        python3 benches/end_to_end/redis_fill.py "$keys" | redis-cli -p "$port" --pipe >"$stage/fill.out"
        redis-cli -p "$port" save >/dev/null
        [ -z "${RDB:-}" ] || cp "$stage/source/dump.rdb" "$RDB"
    fi
    source_port=$port source_pid=$redis_pid
    printf '%s keys, RDB of %s MiB\n' "$(redis-cli -p "$source_port" dbsize)" "$(mib "$(stat -c %s "$stage/source/dump.rdb")")"
fi

if has backup; then
    for run in $(seq "$runs"); do
        # It ends with an error, because /dev/null cannot be synchronised to disk.
        measure null bash -c "redis-cli -p $source_port --rdb /dev/null 2>'$stage/null.log' || grep -q 'finished with success' '$stage/null.log'"
        n=$seconds
        measure ours "$WIREVAULT" backup "redis://127.0.0.1:$source_port" --to "$WIREVAULT_REPOSITORY"
        o=$seconds peak=$peak_kib
        if [ "$store" != s3 ]; then
            echo "$n" >>"$stage/null.all"; echo "$o" >>"$stage/ours.all"; pair "$o" "$n" >>"$stage/null.ratio"
            printf 'backup %s: redis-cli to /dev/null %s s, wirevault %s s (peak %s MiB)\n' "$run" "$n" "$o" "$(mib $((peak * 1024)))"
            continue
        fi
        measure pipeline bash -c "set -o pipefail; redis-cli -p $source_port --rdb - 2>/dev/null | zstd -q -1 -c | '$aws' --endpoint-url '$s3_endpoint' s3 cp --quiet - s3://bench/pipeline/$run"
        p=$seconds
        echo "$n" >>"$stage/null.all"; echo "$o" >>"$stage/ours.all"; echo "$p" >>"$stage/pipeline.all"
        pair "$o" "$n" >>"$stage/null.ratio"; pair "$p" "$o" >>"$stage/pipeline.ratio"
        printf 'backup %s: redis-cli to /dev/null %s s, wirevault %s s (peak %s MiB), redis-cli + zstd + aws %s s\n' "$run" "$n" "$o" "$(mib $((peak * 1024)))" "$p"
    done
    if [ "$store" != s3 ]; then
        printf 'median of %s: redis-cli to /dev/null %s s, wirevault %s s, ratio %s\n' "$runs" \
            "$(median <"$stage/null.all")" "$(median <"$stage/ours.all")" "$(median <"$stage/null.ratio")"
    else
        printf 'median of %s: redis-cli to /dev/null %s s, wirevault %s s, redis-cli + zstd + aws %s s; wirevault / null %s, pipeline / wirevault %s\n' "$runs" \
        "$(median <"$stage/null.all")" "$(median <"$stage/ours.all")" "$(median <"$stage/pipeline.all")" \
        "$(median <"$stage/null.ratio")" "$(median <"$stage/pipeline.ratio")"
    fi
fi

if has restore; then
    has backup || measure ours "$WIREVAULT" backup "redis://127.0.0.1:$source_port" --to "$WIREVAULT_REPOSITORY"
    redis-cli -p "$source_port" config set save '' >/dev/null
    count=$(redis-cli -p "$source_port" dbsize)
    stop "$source_pid"
    for run in $(seq "$runs"); do
        begin=$(date +%s.%N)
        serve source
        until_ready
        native=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f", b - a }')
        [ "$(redis-cli -p "$port" dbsize)" = "$count" ]
        stop "$redis_pid"
        serve "empty$run"
        until_ready
        measure restore "$WIREVAULT" restore latest --source redis --into "redis://127.0.0.1:$port" --from "$WIREVAULT_REPOSITORY"
        [ "$(redis-cli -p "$port" dbsize)" = "$count" ]
        stop "$redis_pid"
        echo "$native" >>"$stage/native.all"; echo "$seconds" >>"$stage/restore.all"; pair "$seconds" "$native" >>"$stage/restore.ratio"
        printf 'restore %s: native load %s s, wirevault %s s (peak %s MiB)\n' "$run" "$native" "$seconds" "$(mib $((peak_kib * 1024)))"
    done
    printf 'median of %s: native load %s s, wirevault %s s, ratio %s\n' "$runs" \
        "$(median <"$stage/native.all")" "$(median <"$stage/restore.all")" "$(median <"$stage/restore.ratio")"
fi

if has memory; then
    serve zset
    until_ready
    python3 benches/end_to_end/redis_fill.py zset "$zset_mb" | redis-cli -p "$port" --pipe >"$stage/fill.out"
    from=$port from_pid=$redis_pid
    printf 'one sorted set: %s members\n' "$(redis-cli -p "$port" zcard one-sorted-set)"
    limited=("$WIREVAULT" --memory-limit 96MiB)
    measure zbackup "${limited[@]}" backup "redis://127.0.0.1:$from" --to "$WIREVAULT_REPOSITORY"
    printf 'memory: backup %s s, peak %s MiB\n' "$seconds" "$(mib $((peak_kib * 1024)))"
    stop "$from_pid"
    measure zverify "${limited[@]}" verify latest --level content --from "$WIREVAULT_REPOSITORY"
    printf 'memory: verify, content %s s, peak %s MiB\n' "$seconds" "$(mib $((peak_kib * 1024)))"
    serve zempty --proto-max-bulk-len 4gb
    until_ready
    measure zrestore "${limited[@]}" restore latest --source redis --into "redis://127.0.0.1:$port" --from "$WIREVAULT_REPOSITORY"
    printf 'memory: restore %s s, peak %s MiB, %s members\n' "$seconds" "$(mib $((peak_kib * 1024)))" "$(redis-cli -p "$port" zcard one-sorted-set)"
    redis-cli -p "$port" flushall >/dev/null
    redis-cli -p "$port" config set proto-max-bulk-len 512mb >/dev/null
    measure zreplay "${limited[@]}" restore latest --source redis --into "redis://127.0.0.1:$port" --from "$WIREVAULT_REPOSITORY" || true
    printf 'memory: restore by commands %s s, peak %s MiB, %s members\n' "$seconds" "$(mib $((peak_kib * 1024)))" "$(redis-cli -p "$port" zcard one-sorted-set)"
    if "$WIREVAULT" verify --help | grep -q redis://; then
        redis-cli -p "$port" flushall >/dev/null
        measure zrestored "${limited[@]}" verify latest --level restored --into "redis://127.0.0.1:$port" --from "$WIREVAULT_REPOSITORY"
        printf 'memory: verify, restored %s s, peak %s MiB\n' "$seconds" "$(mib $((peak_kib * 1024)))"
    fi
    stop "$redis_pid"
fi

# written PORT: redis-benchmark writes at full speed; sets benchmark_pid.
written() {
    redis-benchmark -p "$1" -t set -n 1000000000 -r 100000 -d 100 -c 20 -P 16 >/dev/null 2>&1 &
    benchmark_pid=$!
    stage_pids+=("$benchmark_pid")
}
# sampled PORT PID: the highest mem_clients_slaves while PID runs, and what the server answered to PING most slowly, in ms.
sampled() {
    local highest=0 slowest=0 now begin ms
    while kill -0 "$2" 2>/dev/null; do
        begin=$(date +%s%N)
        now=$(redis-cli -p "$1" info memory | tr -d '\r' | sed -n 's/^mem_clients_slaves://p')
        ms=$((($(date +%s%N) - begin) / 1000000))
        [ "${now:-0}" -le "$highest" ] || highest=$now
        [ "$ms" -le "$slowest" ] || slowest=$ms
        sleep 0.1
    done
    echo "mem_clients_slaves at most $highest, slowest answer $slowest ms"
}

# paced RATE PARAMETERS: a configuration whose store takes so many bytes in a second; sets config.
paced() {
    config=$stage/paced$1.toml
    cat >"$config" <<TOML
[repository]
url = "s3://bench/repository"
endpoint = "$s3_endpoint"
rate_limit = "$1"
[source.busy]
kind = "redis"
url = "redis://127.0.0.1:$port$2"
[job.busy]
sources = ["busy"]
TOML
}

if has slow || has silent; then
    serve busy
    until_ready
    python3 benches/end_to_end/redis_fill.py "${SLOW_KEYS:-300000}" | redis-cli -p "$port" --pipe >"$stage/fill.out"
    written "$port"
fi
if has slow; then
    paced 2MB ''
    env -u WIREVAULT_REPOSITORY "$WIREVAULT" --config "$config" backup busy >"$stage/slow.out" 2>&1 &
    ours=$!
    begin=$(date +%s)
    line=$(sampled "$port" "$ours")
    code=0; wait "$ours" || code=$?
    printf 'slow store (2 MB/s), source written at full speed: exit code %s after %s s; %s\n' "$code" "$(($(date +%s) - begin))" "$line"
    tail -3 "$stage/slow.out"
fi
if has silent; then
    for spool in default 0; do
        if [ "$spool" = default ]; then paced 10MB ''; else paced 10MB '?spool_limit=0'; fi
        begin=$(date +%s)
        env -u WIREVAULT_REPOSITORY "$WIREVAULT" --config "$config" backup busy >"$stage/silent.out" 2>&1 &
        ours=$!
        (sleep 1.5; kill -STOP "$s3_pid"; sleep 90; kill -CONT "$s3_pid") &
        line=$(sampled "$port" "$ours")
        code=0; wait "$ours" || code=$?
        printf 'store silent for 90 s, spool %s: exit code %s after %s s; %s\n' "$spool" "$code" "$(($(date +%s) - begin))" "$line"
        tail -3 "$stage/silent.out"
        wait %+ 2>/dev/null || true
        kill -CONT "$s3_pid" 2>/dev/null || true
    done
fi
