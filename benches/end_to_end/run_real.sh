#!/bin/bash
# `wirevault run` for a quarter of an hour of real time: a job every minute, one after changes of its files, a drill, keep
# rules, and two repositories of which one (S3) is stopped for five minutes; then the scheduler itself is down for two and a
# half minutes. Prints what was done, missed, caught up and copied, and what no snapshot needs.
#
#   MINUTES=15   WIREVAULT=target/release/wirevault   S3_SERVER=target/release/examples/s3_server
set -euo pipefail
cd "$(dirname "$0")/../.."
minutes=${MINUTES:-15}
wirevault=${WIREVAULT:-target/release/wirevault} server=${S3_SERVER:-target/release/examples/s3_server}
stage=$(mktemp -d /tmp/wirevault-run.XXXXXX)
pids=()
close() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    if [ -z "${KEEP:-}" ]; then rm -rf "$stage"; fi
}
trap close EXIT
mkdir -p "$stage/s3/bucket" "$stage/config"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port) page=$(free_port)
start_store() {
    "$server" --root "$stage/s3" --port "$port" --access-key key --secret-key secret >>"$stage/s3.log" 2>&1 &
    store=$!
    pids+=("$store")
}
start_run() {
    "$wirevault" run --config "$stage/wirevault.toml" --json --listen "127.0.0.1:$page" >>"$stage/events" 2>>"$stage/log" &
    run=$!
    pids+=("$run")
}
say() { echo "$(date -u +%H:%M:%S) $*"; }

python3 - "$stage/app.db" <<'PY'
import sqlite3, os, sys
db = sqlite3.connect(sys.argv[1])
db.execute("pragma journal_mode = wal")
db.execute("create table t (id integer primary key, v blob)")
for _ in range(2000):
    db.execute("insert into t (v) values (?)", (os.urandom(10_000),))
db.commit()
PY
echo start >"$stage/config/settings"
cat >"$stage/wirevault.toml" <<TOML
timezone = "UTC"
[repository.near]
url = "file://$stage/near"
[repository.far]
url = "s3://bucket/app"
endpoint = "http://127.0.0.1:$port"
region = "us-east-1"
access_key = "key"
secret_key = "secret"
[source.database]
kind = "sqlite"
path = "$stage/app.db"
[source.config]
kind = "files"
root = "$stage/config"
[job.minutely]
sources = ["database"]
schedule = "* * * * *"
max_stall = "10s"
keep = { last = 5 }
keep_in.far = { last = 8 }
[job.config]
sources = ["config"]
on_change = "5s"
max_stall = "10s"
keep = { last = 10 }
[drill.proof]
schedule = "*/3 * * * *"
repository = "near"
TOML

start_store
sleep 1
begun=$(date +%s)
start_run
say "run begun, status page http://127.0.0.1:$page/"
at() { # SECONDS of a run of 15 minutes
    local left=$((begun + $1 * minutes / 15 - $(date +%s)))
    if [ "$left" -gt 0 ]; then sleep "$left"; fi
}
changes=0
while [ $(($(date +%s) - begun)) -lt $((minutes * 60)) ]; do
    # A change of the configuration every 100 s, and 30 s later the same content written again.
    echo "$changes" >"$stage/config/settings"
    changes=$((changes + 1))
    sleep 30
    cp "$stage/config/settings" "$stage/config/settings.new" && mv "$stage/config/settings.new" "$stage/config/settings"
    sleep 70
done &
changer=$!
pids+=("$changer")
at 180
kill "$store"; wait "$store" 2>/dev/null || true
say "far stopped"
at 480
start_store
say "far started"
at 660
kill "$run"; wait "$run" 2>/dev/null || true
say "run stopped"
at 810
start_run
say "run started"
at 900
kill "$changer" 2>/dev/null || true
sleep 20
curl -s "http://127.0.0.1:$page/metrics" >"$stage/metrics" || true
curl -s "http://127.0.0.1:$page/" >"$stage/page.html" || true
say "health: $(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$page/health" || true)"
kill "$run"; wait "$run" 2>/dev/null || true

python3 - "$stage" <<'PY'
import collections, json, os, pathlib, sys
stage = pathlib.Path(sys.argv[1])
events = [json.loads(line) for line in open(stage / "events")]
ended = collections.Counter((e["job"], e["status"]) for e in events if e["event"] == "ended")
begun = collections.Counter((e["job"], e["why"]) for e in events if e["event"] == "begun")
missed = sum(e["missed"] for e in events if e["event"] == "begun")
print("runs ended:", dict(sorted((f"{job} {how}", n) for (job, how), n in ended.items())))
print("runs begun:", dict(sorted((f"{job} {why}", n) for (job, why), n in begun.items())))
print("times missed and made up for by a later run:", missed)
print("unchanged:", sum(e["event"] == "unchanged" for e in events),
      "copied:", sum(e["event"] == "copied" for e in events),
      "proved:", sum(e["event"] == "proved" and not e["damage"] for e in events),
      "expired:", sum(e.get("expired", 0) for e in events if e["event"] == "pruned"))
kept = {}
for name, root in (("near", stage / "near"), ("far", stage / "s3/bucket/app")):
    kept[name] = {p.stem for p in (root / "snapshots").glob("*.json")}
    left = 0
    for data in sorted((root / "data").glob("*")):
        if data.name in kept[name]:
            continue
        marker = root / "runs" / (data.name + ".json")
        # Pruned: its data wait for their grace.
        if marker.exists() and '"removed"' in marker.read_text():
            continue
        files = sum(len(files) for _, _, files in os.walk(data))
        left += files
        if files:
            print("  left over:", name, data.name, marker.exists() and marker.read_text()[:300])
    uploads = [p for p in root.rglob("*") if p.is_file() and (".upload" in str(p) or p.name.startswith(".tmp"))]
    print(f"{name}: {len(kept[name])} snapshots, {left} objects left over, {len(uploads)} open uploads")
print("in near and not in far:", sorted(kept["near"] - kept["far"]))
PY
