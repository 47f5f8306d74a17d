#!/bin/bash
# The static binary alone in an image from scratch, in a real Docker engine: a container of 300 MiB with a read-only root
# backs PostgreSQL, SQLite and Redis up to S3, verifies, and restores; what comes back is compared with what was there.
#
#   STATIC=…/wirevault    the static binary (as packaging/Dockerfile builds it); without it, it is built here
#   ROWS=1000000 KEYS=300000 SQLITE_MB=200
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
rows=${ROWS:-1000000} keys=${KEYS:-300000} sqlite_mb=${SQLITE_MB:-200}
[ "$(id -u)" = 0 ] || { echo "a Docker engine needs root" >&2; exit 1; }

stage_open
stage_build
machine
if [ -z "${STATIC:-}" ]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS='-C target-feature=+crt-static -C strip=symbols --cfg getrandom_backend="linux_getrandom"' \
        cargo build --release --locked --bin wirevault --target "$host" --target-dir target/static
    STATIC=target/static/$host/release/wirevault
fi
if readelf -l "$STATIC" | grep -q INTERP; then echo "$STATIC is not static" >&2; exit 1; fi

# An engine of this script's own.
docker=$WIREVAULT_TEST_DOCKER
mkdir "$stage/engine"
PATH=$docker/usr/bin:$docker/usr/sbin:$PATH LD_LIBRARY_PATH=$docker/lib/x86_64-linux-gnu \
    setpriv --pdeathsig KILL -- "$docker/usr/sbin/dockerd" --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs \
    --data-root "$stage/engine/data" --exec-root "$stage/engine/exec" --pidfile "$stage/engine/pid" \
    -H "unix://$stage/engine/docker.sock" --exec-opt native.cgroupdriver=cgroupfs >"$stage/engine/log" 2>&1 &
engine=$!
stage_pids+=("$engine")
stage_extra_close() {
    for at in $(mount | awk -v dir="$stage/engine" 'index($3, dir) == 1 { print $3 }' | sort -r); do umount -l "$at"; done
}
# ask METHOD PATH [JSON]
ask() {
    curl -sS --fail-with-body --unix-socket "$stage/engine/docker.sock" -X "$1" -H 'Content-Type: application/json' \
        ${3:+-d "$3"} "http://docker$2"
}
field() { python3 -c 'import json, sys; v = json.load(sys.stdin)
for key in sys.argv[1:]: v = v[key]
print(v)' "$@"; }
stage_wait "the engine answers" "$engine" ask GET /_ping

mkdir -p "$stage/image/tmp"
chmod 1777 "$stage/image/tmp"
cp "$STATIC" "$stage/image/wirevault"
tar -C "$stage/image" -c . | curl -sS --fail-with-body --unix-socket "$stage/engine/docker.sock" -X POST \
    -H 'Content-Type: application/x-tar' --data-binary @- \
    'http://docker/images/create?fromSrc=-&repo=wirevault&tag=scratch&changes=ENTRYPOINT%20%5B%22%2Fwirevault%22%5D' >/dev/null
image=$(ask GET /images/wirevault:scratch/json | field Size)
printf 'image from scratch: %s MiB, compressed %s MiB\n' "$(mib "$image")" "$(mib "$(gzip -c "$STATIC" | wc -c)")"

# Sources.
stage_s3 bench
stage_postgres "$WIREVAULT_TEST_PG15_BIN" -c fsync=off
createdb app
psql -q app -c "create table orders (id bigint primary key, customer int not null, note text, at timestamptz not null);
    insert into orders select n, n % 1000, md5(n::text) || md5((n * 7)::text), now() - n * interval '1 second' from generate_series(1, $rows) n;
    create index on orders (customer)"
redis_port=$(free_port) copy_port=$(free_port)
for port in "$redis_port" "$copy_port"; do
    mkdir "$stage/redis$port"
    "$WIREVAULT_TEST_REDIS7" --port "$port" --bind 127.0.0.1 --save '' --dir "$stage/redis$port" --enable-debug-command yes \
        >"$stage/redis$port/log" &
    stage_pids+=("$!")
done
for port in "$redis_port" "$copy_port"; do stage_wait "Redis is ready" "${stage_pids[-1]}" redis-cli -p "$port" ping; done
redis-cli -p "$redis_port" debug populate "$keys" key 100 >/dev/null
mkdir "$stage/data" "$stage/out"
python3 - "$stage/data/items.db" "$sqlite_mb" <<'PY'
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("pragma journal_mode = wal")
db.execute("create table t (id integer primary key, v blob)")
for _ in range(int(sys.argv[2]) * 20):
    db.execute("insert into t (v) values (?)", (os.urandom(25_000) + bytes(25_000),))
db.commit()
PY
pg_bytes=$(psql -At app -c 'select pg_database_size(current_database())')
printf 'PostgreSQL %s MiB, SQLite %s MiB, Redis %s keys\n' "$(mib "$pg_bytes")" "$(mib "$(stat -c %s "$stage/data/items.db")")" "$keys"

# vault NAME argument...: one container, with no more memory than the compose file gives it.
vault() {
    local name=$1 id pid peak=0 now begun code
    shift
    local config
    config=$(python3 - "$stage" "$s3_endpoint" "$PGPORT" "$redis_port" "$@" <<'PY'
import json, sys
stage, s3, pg, redis, *command = sys.argv[1:]
print(json.dumps({
    "Image": "wirevault:scratch", "Cmd": command, "Hostname": "app-server",
    "Env": [f"AWS_ENDPOINT_URL={s3}", "AWS_ACCESS_KEY_ID=demo", "AWS_SECRET_ACCESS_KEY=demo-secret", "AWS_REGION=us-east-1",
            "WIREVAULT_REPOSITORY=s3://bench/scratch"],
    "HostConfig": {"NetworkMode": "host", "Memory": 300 << 20, "ReadonlyRootfs": True, "Tmpfs": {"/tmp": ""},
                   "Binds": [f"{stage}/data:/data", f"{stage}/out:/out"], "CapDrop": ["ALL"], "CapAdd": ["DAC_OVERRIDE", "CHOWN", "FOWNER"],
                   "SecurityOpt": ["no-new-privileges:true"]}}))
PY
)
    id=$(ask POST /containers/create "$config" | field Id)
    begun=$(date +%s.%N)
    ask POST "/containers/$id/start" >/dev/null
    pid=$(ask GET "/containers/$id/json" | field State Pid)
    while now=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
        peak=$now
        sleep 0.02
    done
    code=$(ask POST "/containers/$id/wait" | field StatusCode)
    printf '%-40s %6.2f s  peak %5.1f MiB  exit %s\n' "$name" "$(echo "$(date +%s.%N) - $begun" | bc)" "$(echo "$peak / 1024" | bc -l)" "$code"
    if [ "$code" != 0 ]; then
        curl -sS --unix-socket "$stage/engine/docker.sock" "http://docker/containers/$id/logs?stdout=1&stderr=1" | tr -d '\000-\010' >&2
        exit 1
    fi
    ask DELETE "/containers/$id" >/dev/null
}
vault "version" --version
vault "init" init --no-encryption --to s3://bench/scratch
vault "backup of all three" backup "postgres://postgres@127.0.0.1:$PGPORT/app" "redis://127.0.0.1:$redis_port" sqlite:/data/items.db
vault "verify --level content" verify latest --level content
vault "restore of PostgreSQL" restore latest --source app --into "postgres://postgres@127.0.0.1:$PGPORT/copy" --verify-rows
vault "restore of Redis" restore latest --source redis --into "redis://127.0.0.1:$copy_port"
vault "restore of SQLite" restore latest --source items --into /out/items.db

rows_of() { psql -At "$1" -c 'select count(*), md5(string_agg(o::text, $$|$$ order by id)) from orders o'; }
[ "$(rows_of app)" = "$(rows_of copy)" ] || { echo "PostgreSQL differs" >&2; exit 1; }
[ "$(redis-cli -p "$redis_port" debug digest)" = "$(redis-cli -p "$copy_port" debug digest)" ] || { echo "Redis differs" >&2; exit 1; }
python3 - "$stage/data/items.db" "$stage/out/items.db" <<'PY'
import hashlib, sqlite3, sys
def picture(path):
    digest = hashlib.sha256()
    for row in sqlite3.connect(path).execute("select id, v from t order by id"):
        digest.update(repr(row).encode())
    return digest.digest()
assert picture(sys.argv[1]) == picture(sys.argv[2]), "SQLite differs"
PY
echo "all three are equal to what was backed up"

kill "$engine"
wait "$engine" 2>/dev/null || true
