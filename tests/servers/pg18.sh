#!/bin/bash
# Makes a chroot of Debian forky with PostgreSQL 18 (server, contrib and clients), for the benchmarks that need its
# pg_dump. As root; about 90 seconds and 700 MB. `pg18.sh --with-redis` adds Redis and Valkey, `--with-pgbackrest` pgBackRest.
# Prints the chroot's path on standard output.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
[ "$(id -u)" = 0 ] || { say "a chroot needs root"; exit 1; }
dir=$(servers_dir)
root=$dir/forky
packages=(postgresql-18) # since 18 contrib is part of it
for also in "$@"; do
    case $also in
        --with-redis) packages+=(redis-server valkey-server) ;;
        --with-pgbackrest) packages+=(pgbackrest) ;;
    esac
done
mkdir -p "$dir"
exec 9>"$dir/.forky.lock"
flock 9

if [ ! -f "$root/.made" ]; then
    command -v debootstrap >/dev/null || apt_install debootstrap
    scripts=/usr/share/debootstrap/scripts
    [ -e "$scripts/forky" ] || ln -s sid "$scripts/forky"
    rm -rf "$root"
    say "making a chroot of Debian forky"
    debootstrap --variant=minbase forky "$root" >"$dir/forky.log" 2>&1 || { tail -5 "$dir/forky.log" >&2; exit 1; }
    # No package starts a server in here.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    touch "$root/.made"
fi

missing=()
for package in "${packages[@]}"; do
    chroot "$root" dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]} in the chroot"
    # Packages make no cluster either. A file beside the package's own: dpkg would ask about a changed one.
    mkdir -p "$root/etc/postgresql-common/createcluster.d"
    echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.d/none.conf"
    # postgresql-common wants /proc to configure itself; in a mount namespace it goes with the command.
    unshare --mount bash -e -c 'mount -t proc proc "$1/proc"; root=$1; shift
        chroot "$root" dpkg --configure -a
        # A snapshot of a rolling distribution may be past its date.
        chroot "$root" apt-get -qq -o Acquire::Check-Valid-Until=false update
        chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@"
    ' - "$root" "${missing[@]}" >>"$dir/forky.log" 2>&1 || { tail -5 "$dir/forky.log" >&2; exit 1; }
fi
echo "$root"
