#!/bin/bash
# Installs the servers that the tests, the demo and the benchmarks start, and writes target/servers/env, which
# says where they are. Installs only what is missing; running it again takes no time. Starts nothing.
#
# WIREVAULT_TEST_PG15_BIN   (and PG_BIN) the distribution's PostgreSQL (15 on Debian 12, 17 on Debian 13), with contrib
# WIREVAULT_TEST_PG18_ROOT  a chroot with PostgreSQL 18, contrib and clients, in /usr/lib/postgresql/18/bin (as root only)
# WIREVAULT_TEST_REDIS7     the distribution's redis-server (7.0 on Debian 12)
# WIREVAULT_TEST_REDIS_ROOT the same chroot, with Redis 8 and Valkey 9 (as root only)
# WIREVAULT_TEST_DOCKER     an unpacked Docker engine, with a static busybox (as root only)
# WIREVAULT_TEST_PGBOUNCER  the distribution's pgbouncer
# WIREVAULT_TEST_MOTO       the program moto_server (an S3 server)
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
dir=$(servers_dir)
mkdir -p "$dir" target/servers
exec 9>"$dir/.lock"
flock 9

command -v cc >/dev/null || apt_install build-essential
# What tests compare with: stock readers of archives, and another process that holds a SQLite database.
# Certificates of TLS tests come from openssl.
for program in zstd sqlite3 openssl; do
    command -v "$program" >/dev/null || apt_install "$program"
done
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv

distribution_postgres() {
    ls -d /usr/lib/postgresql/15/bin /usr/lib/postgresql/*/bin 2>/dev/null | while read -r bin; do
        if [ -x "$bin/initdb" ]; then echo "$bin"; break; fi
    done
}
if [ -z "$(distribution_postgres)" ]; then
    # No cluster of the machine's own: tests make theirs.
    apt_install postgresql-common
    if [ -z "$(ls /etc/postgresql 2>/dev/null)" ]; then
        as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    apt_install postgresql postgresql-contrib
fi
# Tests run on the newest minor release: what a security release changes must not wait for a user to find it. Asked for once
# a day; where no package list can be fetched, what is installed stays.
newest=$dir/.newest-minors
if [ "$(cat "$newest" 2>/dev/null)" != "$(date +%F)" ]; then
    major=$(distribution_postgres | sed 's#.*/\([0-9]*\)/bin#\1#')
    upgrade=(env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --only-upgrade --no-install-recommends)
    if as_root apt-get -qq update >/dev/null 2>&1; then
        as_root "${upgrade[@]}" "postgresql-$major" "postgresql-client-$major" >/dev/null
        if [ -f "$dir/forky/.made" ] && [ "$(id -u)" = 0 ]; then
            chroot "$dir/forky" apt-get -qq -o Acquire::Check-Valid-Until=false update >/dev/null 2>&1 &&
                chroot "$dir/forky" "${upgrade[@]}" postgresql-18 >/dev/null 2>&1 || say "the chroot's PostgreSQL stays as it is"
        fi
        date +%F >"$newest"
    else
        say "package lists cannot be fetched: PostgreSQL stays as it is"
    fi
fi
pg=$(distribution_postgres)

moto=$dir/moto
if ! "$moto/bin/python" -c 'import moto.server, sys; from moto import __version__ as v
sys.exit(tuple(map(int, v.split(".")[:3])) < (5, 2, 5))' 2>/dev/null; then
    say "installing moto"
    rm -rf "$moto"
    python3 -m venv "$moto"
    "$moto/bin/pip" install --quiet --disable-pip-version-check 'moto[server]>=5.2.5'
fi

if ! command -v redis-server >/dev/null; then
    # The package starts a server, which nobody asked for.
    apt_install redis-server redis-tools
    as_root sh -c 'service redis-server stop; update-rc.d redis-server disable; systemctl disable --now redis-server' >/dev/null 2>&1 || true
fi

if [ ! -x /usr/sbin/pgbouncer ]; then
    apt_install pgbouncer
    as_root sh -c 'service pgbouncer stop; update-rc.d pgbouncer disable; systemctl disable --now pgbouncer' >/dev/null 2>&1 || true
fi

# Servers of newer majors than the distribution's run from a chroot, which root alone can enter.
forky= docker=
if [ "$(id -u)" = 0 ]; then
    forky=$(tests/servers/pg18.sh --with-redis)
    docker=$(tests/servers/docker.sh)
else
    say "not root: no chroot with PostgreSQL 18, its tests are skipped"
fi

{
    echo "export WIREVAULT_TEST_PG15_BIN='$pg' PG_BIN='$pg'"
    echo "export WIREVAULT_TEST_PGBOUNCER='/usr/sbin/pgbouncer'"
    echo "export WIREVAULT_TEST_MOTO='$moto/bin/moto_server'"
    echo "export WIREVAULT_TEST_REDIS7='$(command -v redis-server)'"
    if [ -n "$forky" ]; then echo "export WIREVAULT_TEST_REDIS_ROOT='$forky'"; fi
    if [ -n "$docker" ]; then echo "export WIREVAULT_TEST_DOCKER='$docker'"; fi
    if [ -n "$forky" ]; then echo "export WIREVAULT_TEST_PG18_ROOT='$forky'"; fi
} >target/servers/env
