#!/bin/bash
# Gets what builds PostgreSQL's own "regression" database: the regression tests out of the source package of the
# installed server (or of the newest minor before it that can be had), and regress.so compiled against its headers. Kept, so running it
# again takes no time.
#
#   tests/servers/regression.sh 15 [ROOT]    prints the directory; ROOT: the chroot that holds the server.
#                                            Beside it stands pg_dump.pl, the objects of pg_dump's own tests
#
# Package lists are the script's own: nothing of the machine's configuration changes. Needs a C compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
major=${1:?usage: regression.sh MAJOR [ROOT]} root=${2:-}
version=$(if [ -n "$root" ]; then chroot "$root" dpkg-query -W -f='${Version}' "postgresql-$major"; else dpkg-query -W -f='${Version}' "postgresql-$major"; fi)
dir=$(servers_dir)/regression-$version
mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9
if [ ! -f "$dir/.made-2" ]; then
    command -v cc >/dev/null || apt_install build-essential
    suite=$(. "$root/etc/os-release" && echo "$VERSION_CODENAME")
    work=$dir/work
    rm -rf "$work"
    mkdir -p "$work/lists/partial"
    for kind in deb deb-src; do
        echo "$kind http://deb.debian.org/debian $suite main"
        # Testing has no security suite of its own.
        [ -n "$root" ] || echo "$kind http://deb.debian.org/debian-security $suite-security main"
    done >"$work/sources.list"
    apt=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
        -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root)
    [ -z "$root" ] || apt+=(-o "Dir::Etc::trustedparts=$root/etc/apt/trusted.gpg.d")
    (
        cd "$work"
        say "fetching the source package of postgresql-$major $version"
        apt-get "${apt[@]}" -qq update
        # A mirror may have a security release without its source: the tests of the minor before it build the same objects.
        fetched=
        for of in "$version" $(apt-cache "${apt[@]}" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -rV); do
            if apt-get "${apt[@]}" -qq source --download-only "postgresql-$major=$of"; then fetched=$of; break; fi
        done
        [ -n "$fetched" ] || { echo "no source package of postgresql-$major can be fetched"; exit 1; }
        echo "$fetched" >regress-version
        apt-get "${apt[@]}" -qq download "postgresql-server-dev-$major=$version"
        dpkg -x postgresql-server-dev-*.deb headers
        apt-get "${apt[@]}" -qq download libpq-dev 2>/dev/null && dpkg -x libpq-dev_*.deb headers || true
        tar xf "postgresql-$major"_*.orig.tar.* --strip-components=3 --wildcards '*/src/test/regress/*' \
            '*/src/bin/pg_dump/t/002_pg_dump.pl'
        cc -O2 -fPIC -shared -fno-strict-aliasing -fwrapv -Iregress -I"headers/usr/include/postgresql/$major/server" \
            -Iheaders/usr/include/postgresql -o regress/regress.so regress/regress.c
    ) >"$dir/log" 2>&1 || { tail -5 "$dir/log" >&2; exit 1; }
    cp "$root/usr/lib/postgresql/$major/lib/refint.so" "$root/usr/lib/postgresql/$major/lib/autoinc.so" "$work/regress/"
    rm -rf "$dir/regress"
    mv "$work/regress" "$dir/regress"
    mv "$work/pg_dump/t/002_pg_dump.pl" "$dir/pg_dump.pl"
    mv "$work/regress-version" "$dir/version"
    rm -rf "$work"
    touch "$dir/.made-2"
fi
of=$(cat "$dir/version" 2>/dev/null || echo "$version")
[ "$of" = "$version" ] || say "regression tests of $of for server $version"
echo "$dir/regress"
