#!/bin/bash
# Unpacks the distribution's Docker engine, and a static busybox for images, beside the other servers: nothing is
# installed, so no engine of the machine's own is started. Prints the directory on standard output.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
dir=$(servers_dir)/docker
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
if [ ! -f "$dir/.made" ]; then
    say "unpacking a Docker engine"
    rm -rf "$dir" "$dir.debs"
    mkdir -p "$dir" "$dir.debs"
    as_root apt-get -qq update >/dev/null
    (cd "$dir.debs" && apt-get -qq download docker.io containerd runc tini libdevmapper1.02.1 busybox-static >/dev/null 2>&1)
    for package in "$dir.debs"/*.deb; do dpkg-deb -x "$package" "$dir"; done
    rm -rf "$dir.debs"
    # runc lies in sbin, which a path need not name.
    ln -sf ../sbin/runc "$dir/usr/bin/runc"
    touch "$dir/.made"
fi
echo "$dir"
