# Shared by the server scripts; sourced, never run.

# Where installed servers live, so that several clones share them. PostgreSQL refuses to run as root, so as root
# the place must be one that another user can reach: root's home is not.
servers_dir() {
    if [ -n "${WIREVAULT_SERVERS_DIR:-}" ]; then
        echo "$WIREVAULT_SERVERS_DIR"
    elif [ "$(id -u)" = 0 ]; then
        echo /var/cache/wirevault-servers
    else
        echo "${XDG_CACHE_HOME:-$HOME/.cache}/wirevault-servers"
    fi
}

say() { printf 'servers: %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Runs a PostgreSQL program: as the user "postgres" when we are root, directly otherwise.
# HOME is set, because psql and initdb would look at root's otherwise.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        HOME=/tmp setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
    else
        "$@"
    fi
}

# Prints a free port of the loopback. Another program could take it before we listen, so starters try again.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

apt_updated=
apt_install() {
    say "installing $*"
    if [ -z "$apt_updated" ]; then
        as_root apt-get -qq update >/dev/null
        apt_updated=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# start_postgres BIN DATA PORT [-c setting...]: makes a cluster with user "postgres" trusted on 127.0.0.1 and starts it.
start_postgres() {
    local bin=$1 data=$2 port=$3
    shift 3
    mkdir -p "$data"
    if [ "$(id -u)" = 0 ]; then chown postgres:postgres "$data"; fi
    as_postgres "$bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$data.initdb.log" 2>&1
    as_postgres "$bin/pg_ctl" -D "$data" -w -t 240 -l "$data/server.log" \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off $*" start >/dev/null
}

stop_postgres() {
    as_postgres "$1/pg_ctl" -D "$2" -m immediate -w stop >/dev/null 2>&1 || true
}
