#!/bin/bash
# "Someone ran DELETE without WHERE at 14:03": the commands, and how long each takes, on a server that works on meanwhile.
#
# A server of PostgreSQL 15 with demo/catalogue.sql and pgbench writing into other tables; `log receive` and a base backup in S3. A
# table loses all its rows. Then, as a person would: a look at what can be reached, the restore to the moment before, a server on it, the
# proof (every row of the table, by a digest that was taken before), and the table back into the server that never stopped.
#
#   SCALE=1400     thousands of files in the catalogue; 1400 make 1.5 GB
#   LOAD=60        seconds of pgbench between the base backup and the mistake, and 10 after it
#   WIREVAULT, S3_SERVER   programs that are built already
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
scale=${SCALE:-1400} load=${LOAD:-60}

stage_open
stage_build
machine
bin=$WIREVAULT_TEST_PG15_BIN
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups --)
stage_postgres "$bin" -c shared_buffers=256MB -c max_wal_size=2GB
sql() { psql -X -q -At -v ON_ERROR_STOP=1 "$@"; }
psql() { "$bin/psql" "$@"; }
sql -d postgres -c 'create role catalogizer login' -c 'create role reporting' -c 'create database catalogue owner catalogizer' -c 'create database other'
sql -d catalogue -v scale="$scale" -f demo/catalogue.sql >/dev/null
"$bin/pgbench" -q -i -s 20 other >/dev/null 2>&1
table=${TABLE:-$(sql -d catalogue -c "select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname !~ '^pg_|information' order by pg_relation_size(c.oid) desc limit 1")}
stage_s3 bench
export AWS_ENDPOINT_URL=$s3_endpoint R=s3://bench/app
url="postgres-physical://postgres@127.0.0.1:$PGPORT?sslmode=disable"
"$WIREVAULT" init --no-encryption --to "$R" >/dev/null 2>&1
"$WIREVAULT" log receive "$url" --to "$R" >"$stage/receiver.log" 2>&1 &
receiver=$!
stage_pids+=("$receiver")
streams() { [ "$(sql -d postgres -c "select count(*) from pg_stat_replication where state = 'streaming'")" = 1 ]; }
stage_wait "the receiver streams" "$receiver" streams
said() { # said NAME COMMAND...: runs it, prints it and how long it took
    local name=$1
    shift
    measure "$name" "$@"
    printf '%7.1f s  %s\n' "$seconds" "$(echo "${SHOWN:-$*}" | sed "s|$WIREVAULT|wirevault|g; s|$stage|/srv|g")"
}
said base "$WIREVAULT" backup "$url" --to "$R"
"$bin/pgbench" -n -c 4 -T "$load" other >"$stage/pgbench" 2>&1
digest="select count(*), md5(string_agg(md5(t::text), '' order by md5(t::text))) from $table t"
before=$(sql -d catalogue -c "$digest")
moment=$(sql -d catalogue -c "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
sql -d catalogue -c "begin; set session_replication_role = replica; delete from $table; commit"
"$bin/pgbench" -n -c 4 -T 10 other >"$stage/pgbench" 2>&1
echo "database: $(mib "$(sql -d postgres -c 'select sum(pg_database_size(oid)) from pg_database')") MiB; $table lost all of ${before%%|*} rows at $moment; it is noticed now"
began=$(date +%s.%N)

said show "$WIREVAULT" log show --from "$R"
sed 's/^/           /' "$stage/show.out"
chmod 777 "$stage"
said dry "${as[@]}" "$WIREVAULT" restore latest --into "$stage/restored" --from "$R" --at "$moment" --dry-run
said restore "${as[@]}" "$WIREVAULT" restore latest --into "$stage/restored" --from "$R" --at "$moment"
copy=$(free_port)
said start "${as[@]}" "$bin/pg_ctl" -D "$stage/restored" -w -t 3600 -l "$stage/restored.log" -o "-c archive_mode=off -p $copy -c unix_socket_directories=''" start
stage_clusters+=("$bin|$stage/restored")
promoted() { [ "$(sql -d postgres -p "$copy" -c 'select pg_is_in_recovery()')" = f ]; }
stage_wait "the recovery ends" $$ promoted
after=$(sql -d catalogue -p "$copy" -c "$digest")
[ "$before" = "$after" ] || { echo "the table differs: $before, $after" >&2; exit 1; }
echo "           proven after $(awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }') s: all ${after%%|*} rows of $table, equal"
said backup "$WIREVAULT" backup "postgres://postgres@127.0.0.1:$copy/catalogue?sslmode=disable" --to "$R"
said back "$WIREVAULT" restore latest --source catalogue --table "$table" --clean --into "postgres://postgres@127.0.0.1:$PGPORT/catalogue?sslmode=disable" --from "$R"
now=$(sql -d catalogue -c "$digest")
[ "$before" = "$now" ] || { echo "the table differs in the server: $before, $now" >&2; exit 1; }
echo "           back in the server after $(awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }') s, which never stopped"
