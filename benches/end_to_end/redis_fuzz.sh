#!/bin/bash
# Fuzzing of the RDB walk and decoder: SECONDS_EACH=600 SEED=1 benches/end_to_end/redis_fuzz.sh
# Small RDBs of every type and encoding come from each server that is there; examples/redis_fuzz.rs damages them.
set -euo pipefail
cd "$(dirname "$0")/../.."
. target/servers/env
fuzz=${FUZZ:-target/release/examples/redis_fuzz}
[ -x "$fuzz" ] || cargo build --release --locked --example redis_fuzz
stage=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null; rm -rf "$stage"' EXIT

# seeds NAME CLI... : fills a server of that name and keeps its RDBs
seeds() {
    local name=$1 dir=$2 cli
    shift 2
    cli=(redis-cli -s "$dir/s")
    until "${cli[@]}" ping >/dev/null 2>&1; do sleep 0.05; done
    keep() {
        "${cli[@]}" save >/dev/null
        cp "$dir/dump.rdb" "$stage/$name-$1.rdb"
        "${cli[@]}" flushall >/dev/null
        "${cli[@]}" function flush >/dev/null
    }
    "${cli[@]}" >/dev/null 2>&1 <<'COMMANDS'
SET int 12345
SET negative -70000
SET text hello pxat 4102444800000
SET even aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbb
SELECT 3
RPUSH list a b 1 -1 70000 5000000000 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
SADD ints 1 2 70000 5000000000
SADD set a b c
ZADD zset 1.5 a -inf b inf c 3 d
HSET hash f v g 2
PFADD hll a b c
FUNCTION LOAD "#!lua name=one\nredis.register_function('wv_f', function() return 1 end)"
COMMANDS
    keep packed
    "${cli[@]}" >/dev/null 2>&1 <<'COMMANDS'
CONFIG SET list-max-listpack-size 2
CONFIG SET set-max-listpack-entries 1
CONFIG SET set-max-intset-entries 1
CONFIG SET zset-max-listpack-entries 1
CONFIG SET hash-max-listpack-entries 1
CONFIG SET maxmemory-policy allkeys-lfu
RPUSH list a b c d e f g
SADD ints 1 2 70000
SADD set a b c
ZADD zset 1.5 a -inf b inf c 3 d
HSET hash f v g 2
COMMANDS
    keep plain
    "${cli[@]}" >/dev/null 2>&1 <<'COMMANDS'
XADD s 1-1 f v g w
XADD s 2-1 f v2 g w2
XADD s 3-1 other fields here too
XDEL s 2-1
XGROUP CREATE s g 0
XGROUP CREATE s h $
XREADGROUP GROUP g alice COUNT 1 STREAMS s >
XREADGROUP GROUP g bob STREAMS s >
XADD empty 1-1 a b
XTRIM empty MAXLEN 0
COMMANDS
    keep stream
    "${cli[@]}" >/dev/null 2>&1 <<'COMMANDS'
CONFIG SET hash-max-listpack-entries 128
HSET small f v g w h x
HPEXPIREAT small 4102444800000 FIELDS 1 g
CONFIG SET hash-max-listpack-entries 1
HSET large f v g w h x
HPEXPIREAT large 4102444800000 FIELDS 2 f g
COMMANDS
    keep expiring
}
start() {
    local dir=$1
    shift
    "$@" --port 0 --unixsocket "${SOCKET:-$dir/s}" --save '' --dir "${INSIDE:-$dir}" >"$dir/log" 2>&1 &
    pids+=($!)
}
mkdir "$stage/redis7"
start "$stage/redis7" "$WIREVAULT_TEST_REDIS7"
seeds redis7 "$stage/redis7"
if [ -n "${WIREVAULT_TEST_REDIS_ROOT:-}" ] && [ "$(id -u)" = 0 ]; then
    for name in redis valkey; do
        dir=$(mktemp -d "$WIREVAULT_TEST_REDIS_ROOT/tmp/fuzz.XXXXXX")
        INSIDE=${dir#"$WIREVAULT_TEST_REDIS_ROOT"} SOCKET=${dir#"$WIREVAULT_TEST_REDIS_ROOT"}/s \
            start "$dir" chroot "$WIREVAULT_TEST_REDIS_ROOT" "/usr/bin/$name-server"
        seeds "$name-new" "$dir"
        rm -rf "$dir"
    done
fi
ls "$stage"/*.rdb | wc -l | xargs printf '%s RDBs to damage\n'
"$fuzz" "${SECONDS_EACH:-600}" "${SEED:-1}" "$stage"/*.rdb
