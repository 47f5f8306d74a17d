#!/bin/bash
# packaging/deb.sh BINARY DIRECTORY: makes man/, completions/ and wirevault_VERSION_ARCH.deb in DIRECTORY, with dpkg-deb alone.
# THIRD-PARTY.txt goes into the package if it lies in DIRECTORY.
#
# MAINTAINER        who is named in the package
# DEB_COMPRESSION   as dpkg-deb's -Z: xz, gzip, none
set -euo pipefail
binary=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
arch=$(dpkg --print-architecture)
# The same commit makes the same package.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
umask 022

rm -rf "$out/man" "$out/completions"
mkdir "$out/man" "$out/completions"
# Nothing of this host's environment is asked for.
wirevault() { env -i COLUMNS=100 "$binary" "$@"; }
wirevault man >"$out/man/wirevault.1"
verbs=$(wirevault --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\{1,\}\) .*/\1/p')
for verb in $verbs; do
    [ "$verb" = help ] || wirevault man "$verb" >"$out/man/wirevault-$verb.1"
done
wirevault completions bash >"$out/completions/wirevault"
wirevault completions zsh >"$out/completions/_wirevault"
wirevault completions fish >"$out/completions/wirevault.fish"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/root
install -D -m 755 "$binary" "$root/usr/bin/wirevault"
for page in "$out"/man/*.1; do
    mkdir -p "$root/usr/share/man/man1"
    gzip -9n <"$page" >"$root/usr/share/man/man1/$(basename "$page").gz"
done
install -D -m 644 "$out/completions/wirevault" "$root/usr/share/bash-completion/completions/wirevault"
install -D -m 644 "$out/completions/_wirevault" "$root/usr/share/zsh/vendor-completions/_wirevault"
install -D -m 644 "$out/completions/wirevault.fish" "$root/usr/share/fish/vendor_completions.d/wirevault.fish"
mkdir -p "$root/usr/lib/systemd/system"
for unit in packaging/*.service packaging/*.timer; do
    sed 's|/usr/local/bin/wirevault|/usr/bin/wirevault|g' "$unit" >"$root/usr/lib/systemd/system/$(basename "$unit")"
done
doc=$root/usr/share/doc/wirevault
install -D -m 644 packaging/wirevault.toml "$doc/examples/wirevault.toml"
install -m 644 packaging/compose.yaml "$doc/examples/compose.yaml"
install -m 644 README.md "$doc/README.md"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
if [ -f "$out/THIRD-PARTY.txt" ]; then gzip -9n <"$out/THIRD-PARTY.txt" >"$doc/THIRD-PARTY.txt.gz"; fi
{
    cat <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: wirevault
Comment: The libraries that are linked in have licences of their own, in THIRD-PARTY.txt.gz.

Files: *
Copyright: 2026 the wirevault authors
License: Expat or Apache-2.0

License: Apache-2.0
 The text is in /usr/share/common-licenses/Apache-2.0.

License: Expat
COPYRIGHT
    # Without its title and the line of the copyright.
    sed -e '1,4d' -e 's/^$/./' -e 's/^/ /' LICENSE-MIT
} >"$doc/copyright"

mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<CONTROL
Package: wirevault
Version: $version
Architecture: $arch
Maintainer: ${MAINTAINER:-the wirevault authors <wirevault@localhost>}
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Section: admin
Priority: optional
Suggests: systemd
Description: backup and restore of databases and files over their own protocols
 Backs up PostgreSQL, SQLite, Redis or Valkey, file trees and Docker volumes as
 compressed, checksummed tar archives into S3 or a directory, proves that they
 restore, and brings them back. One static binary; needs no client programs.
CONTROL
cat >"$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if ! getent passwd wirevault >/dev/null; then
        useradd --system --user-group --home-dir /var/lib/wirevault --no-create-home --shell /usr/sbin/nologin wirevault
    fi
    if ! [ -e /etc/wirevault ]; then
        install -d -m 0750 -o root -g wirevault /etc/wirevault
    fi
fi
# A run may be at work: nothing is restarted.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
POSTINST
cat >"$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now wirevault.service wirevault-backup.timer >/dev/null 2>&1 || true
fi
PRERM
cat >"$root/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
# Backups, the state and a configuration that somebody wrote stay, and with them the user that they belong to.
if [ "$1" = purge ] && [ -d /etc/wirevault ]; then
    rmdir --ignore-fail-on-non-empty /etc/wirevault 2>/dev/null || true
fi
POSTRM
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" "$root/DEBIAN/postrm"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

# Units are looked at with the program where it lies now.
if command -v systemd-analyze >/dev/null; then
    mkdir "$stage/units"
    for unit in "$root"/usr/lib/systemd/system/*; do
        sed "s|/usr/bin/wirevault|$root/usr/bin/wirevault|" "$unit" >"$stage/units/$(basename "$unit")"
    done
    found=$(systemd-analyze verify --man=no --recursive-errors=no "$stage"/units/* 2>&1) || {
        printf '%s\n' "$found" >&2
        exit 1
    }
    # A key that systemd does not know is a warning to it.
    if printf '%s' "$found" | grep -E 'Unknown (key|section)|Failed to parse' >&2; then exit 1; fi
else
    echo "units NOT looked at: systemd-analyze is not installed" >&2
fi

dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$root" "$out/wirevault_${version}_$arch.deb" >/dev/null
