#!/bin/bash
# The main job on real servers: a PostgreSQL database, a SQLite database that is being written to, and a tree of
# configuration go to an S3 server in one snapshot; all three are destroyed, restored, and proved equal.
# Takes a free loopback port for each server and one temporary directory; leaves nothing behind.
#
#   DEMO_SCALE=220   thousands of rows of the largest table; 220 make a database of about 250 MB
#   KEEP_STAGE=1     keeps the temporary directory when something fails
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/servers/stage.sh
scale=${DEMO_SCALE:-220}

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
shown() { printf '  $ %s\n' "$*"; }
vault() { "$WIREVAULT" --config "$stage/wirevault.toml" "$@"; }
show_output() { cat "$stage/$1.err" "$stage/$1.out" | cut -c1-96 | sed 's/^/    /' | tail -"${2:-12}"; }

step "Building"
stage_open
stage_build

step "Starting PostgreSQL and an S3 server, loading the media catalogue"
psql_bin=$WIREVAULT_TEST_PG15_BIN/psql
sql() { "$psql_bin" -X -q -v ON_ERROR_STOP=1 "$@"; }
stage_postgres "$WIREVAULT_TEST_PG15_BIN" -c max_wal_size=2GB
stage_s3 backups
sql -d postgres -c "create role catalogizer login" -c "create role reporting" \
    -c "create database catalogue owner catalogizer" -c "comment on database catalogue is 'The demo'"
sql -d catalogue -v scale="$scale" -f demo/catalogue.sql
printf '  %s, database catalogue: %s\n' "$(sql -At -d catalogue -c "select split_part(version(), ' on ', 1)")" \
    "$(sql -At -d catalogue -c "select pg_size_pretty(pg_database_size('catalogue'))")"

python3 demo/writer.py create "$stage/player.db" 32
printf '  SQLite database player.db: %s MiB, and a program that writes to it all the time\n' "$(mib "$(stat -c %s "$stage/player.db")")"

config=$stage/config
mkdir -p "$config"/{config,ssl,monitoring/dashboards,empty}
python3 - "$config" <<'PY'
import hashlib, json, os, sys
root = sys.argv[1]
for n in range(1500):
    with open("%s/monitoring/dashboards/%04d.json" % (root, n), "w") as f:
        json.dump({"id": n, "panels": [hashlib.sha256(b"%d.%d" % (n, i)).hexdigest() for i in range(n % 200)]}, f, indent=1)
with open(root + "/ssl/blob.bin", "wb") as f:
    for n in range(300000):
        f.write(hashlib.sha256(b"%d" % n).digest())
PY
echo 'DB_PASSWORD=not-a-secret' >"$config/.env"
echo 'workers: 4' >"$config/config/catalogizer.yml"
echo 'key' >"$config/ssl/server.key"
chmod 600 "$config/.env" "$config/ssl/server.key"
ln -s config/catalogizer.yml "$config/current.yml"
ln "$config/config/catalogizer.yml" "$config/config/hard-link.yml"
printf 'x' >"$config/config/Größe und \"Zeichen\".txt"
printf '  configuration tree: %s files\n' "$(find "$config" -type f | wc -l)"

cat >"$stage/wirevault.toml" <<TOML
[repository]
url = "s3://backups/demo"
endpoint = "$s3_endpoint"
region = "us-east-1"

[source.catalogue]
kind = "postgres"
url = "postgres://postgres@127.0.0.1:$PGPORT/catalogue"

[source.player]
kind = "sqlite"
path = "$stage/player.db"

[source.config]
kind = "files"
root = "$config"

[job.full]
sources = ["catalogue", "player", "config"]
TOML

tree_manifest() {
    (cd "$1" && find . -printf '%P|%y|%m|%U:%G|%l|%n\n' | sort && find . -type f -printf '%P|%s|%TY-%Tm-%TdT%TT\n' | sort &&
        find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

step "What there is before: digests taken with the database's own client, sha256sum and Python"
sql -d catalogue -f demo/digest.sql >"$stage/database.before"
tree_manifest "$config" >"$stage/tree.before"
grep '^table' "$stage/database.before" | sed 's/^table /  /; s/|/   rows /; s/|/   digest /'
covers_before=$(python3 demo/writer.py check "$stage/player.db" | sed "s/.*content //")
database_bytes=$(sql -At -d catalogue -c "select pg_database_size('catalogue')")

: >"$stage/writer.out"
python3 demo/writer.py write "$stage/player.db" >"$stage/writer.out" &
writer=$!
stage_pids+=("$writer")
stage_wait "the writer writes" "$writer" grep -q writing "$stage/writer.out"

step "One snapshot of all three"
shown wirevault init --no-encryption
measure init "$WIREVAULT" --config "$stage/wirevault.toml" init --no-encryption
shown wirevault check
measure check "$WIREVAULT" --config "$stage/wirevault.toml" check
show_output check 30
shown wirevault backup full
measure backup "$WIREVAULT" --config "$stage/wirevault.toml" backup full
show_output backup
backup_seconds=$seconds backup_peak=$peak_kib
kill -0 "$writer" || { echo "the writer ended early" >&2; exit 1; }
kill -TERM "$writer"
wait "$writer" || true
printf '  meanwhile %s transactions of 20 lines each went into player.db\n' "$(tail -1 "$stage/writer.out")"
player_bytes=$(stat -c %s "$stage/player.db")
config_bytes=$(bytes_of "$config")
stored_bytes=$(bytes_of "$stage/s3/backups")

shown wirevault list
vault list | cut -c1-98 | sed 's/^/    /'
shown wirevault show latest
vault show latest | cut -c1-98 | sed 's/^/    /'
vault --json show latest >"$stage/show.json"
shown wirevault verify latest --level content
measure verify "$WIREVAULT" --config "$stage/wirevault.toml" verify latest --level content
show_output verify
verify_seconds=$seconds verify_peak=$peak_kib

step "Destroying all three: drop database, rm, rm -r"
sql -d postgres -c "drop database catalogue"
rm -rf "$stage/player.db" "$stage/player.db-wal" "$stage/player.db-shm" "$config"

step "Bringing them back"
shown wirevault restore latest
measure restore "$WIREVAULT" --config "$stage/wirevault.toml" restore latest
show_output restore
restore_seconds=$seconds restore_peak=$peak_kib

step "Proof"
proven=yes
same() {
    if cmp -s "$2" "$3"; then printf '  equal      %s\n' "$1"; else
        printf '  DIFFERENT  %s\n' "$1"; diff "$2" "$3" | head -10; proven=no; fi
}
sql -d catalogue -f demo/digest.sql >"$stage/database.after"
same "PostgreSQL: $(grep -c '^table' "$stage/database.before") tables by rows and digest; sequences, columns, keys, indexes, view, function, trigger, owners, grants" \
    "$stage/database.before" "$stage/database.after"
if sqlite_after=$(python3 demo/writer.py check "$stage/player.db") && [ "${sqlite_after##*content }" = "$covers_before" ]; then
    printf '  whole      SQLite: %s\n' "$sqlite_after"
else
    printf '  BROKEN     SQLite: %s\n' "$sqlite_after"; proven=no
fi
tree_manifest "$config" >"$stage/tree.after"
same "files: $(find "$config" -type f | wc -l) files by SHA-256; modes, owners, times, links" "$stage/tree.before" "$stage/tree.after"
[ "$proven" = yes ] || { echo "the restored data differ" >&2; exit 1; }

step "Figures ($(machine))"
total_bytes=$((database_bytes + player_bytes + config_bytes))
row() { printf '  %-26s %10s %10s %9s %8s %12s\n' "$@"; }
row what "size MiB" "stored MiB" seconds MiB/s "peak MiB"
# How long each source took, from what the program itself wrote down; the others are measured from outside.
took() {
    python3 - "$stage/show.json" "$1" <<'PY'
import datetime, json, sys
snapshot = json.load(open(sys.argv[1]))["snapshot"]
source = next(s for s in snapshot["sources"] if s["name"] == sys.argv[2])
moment = lambda text: datetime.datetime.strptime(text[:19] + "." + (text[19:].strip("Z.") or "0")[:6], "%Y-%m-%dT%H:%M:%S.%f")
print("%.2f" % (moment(source["finished"]) - moment(source["started"])).total_seconds())
PY
}
snapshot=$(ls -t "$stage/s3/backups/demo/data" 2>/dev/null | head -1)
row "backup of all three" "$(mib $total_bytes)" "$(mib "$stored_bytes")" "$backup_seconds" "$(rate $total_bytes "$backup_seconds")" "$(mib $((backup_peak * 1024)))"
for source in catalogue player config; do
    variable=${source/catalogue/database}_bytes
    source_seconds=$(took "$source")
    row "  $source" "$(mib "${!variable}")" "$(mib "$(bytes_of "$stage/s3/backups/demo/data/$snapshot/$source")")" \
        "$source_seconds" "$(rate "${!variable}" "$source_seconds")" ""
done
row "verify --level content" "$(mib $total_bytes)" "$(mib "$stored_bytes")" "$verify_seconds" "$(rate $total_bytes "$verify_seconds")" "$(mib $((verify_peak * 1024)))"
row "restore of all three" "$(mib $total_bytes)" "$(mib "$stored_bytes")" "$restore_seconds" "$(rate $total_bytes "$restore_seconds")" "$(mib $((restore_peak * 1024)))"
printf '  size: of a database what it takes on disk, indexes included, which are not stored but built again\n'
printf '\nDone: everything that was destroyed is back, and equal.\n'
