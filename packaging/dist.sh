#!/bin/bash
# Makes what is shipped, in target/dist: the static binary, a Debian package, completions, manual pages, the licences of what is
# linked in, SHA256SUMS. Takes ten minutes or more; what it builds lies in target/static and is used again.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v dpkg-deb >/dev/null || { echo "dist: dpkg-deb is needed (package dpkg)" >&2; exit 1; }
host=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
out=target/dist
rm -rf "$out"
mkdir -p "$out"

# As packaging/Dockerfile does: a static C library has no getrandom that could be looked up by name.
RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
    cargo build --profile dist --locked --bin wirevault --target "$host" --target-dir target/static
binary=$out/wirevault-$version-${host%%-*}-linux
install -m 755 "target/static/$host/dist/wirevault" "$binary"
# A binary that asks for an interpreter would look for this host's C library.
if LC_ALL=C readelf -l "$binary" | grep -q 'INTERP'; then
    echo "dist: $binary is not static" >&2
    exit 1
fi
env -i "$binary" --version
# Tests stop a program of theirs, and move its clock, by variables of this name; nobody can do so to this one.
if grep -q WIREVAULT_TEST_ "$binary"; then
    echo "dist: $binary obeys the variables of tests" >&2
    exit 1
fi

python3 packaging/third_party.py "$host" >"$out/THIRD-PARTY.txt"
packaging/deb.sh "$binary" "$out"
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
cat "$out/SHA256SUMS"
