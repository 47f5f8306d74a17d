# A stage for the demo and the benchmarks: a temporary directory, servers on free loopback ports, measured runs.
# Sourced after `cd` to the repository's root. Everything it starts ends, and everything it writes goes, with the script.

. tests/servers/common.sh

stage_open() {
    tests/servers/setup.sh
    . target/servers/env
    command -v /usr/bin/time >/dev/null || apt_install time
    stage=$(mktemp -d "${STAGE_DIR:-${TMPDIR:-/tmp}}/wirevault-stage.XXXXXX")
    chmod 755 "$stage"
    # What this host remembers of the places that go with the stage goes with it.
    export WIREVAULT_STATE_DIR=$stage/state
    stage_pids=()
    stage_clusters=()
    trap stage_close EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

stage_close() {
    local status=$? pid cluster
    trap - EXIT
    set +e
    for pid in "${stage_pids[@]}"; do kill "$pid" 2>/dev/null; done
    for cluster in "${stage_clusters[@]}"; do stop_postgres "${cluster%%|*}" "${cluster#*|}"; done
    for pid in "${stage_pids[@]}"; do wait "$pid" 2>/dev/null; done
    if declare -F stage_extra_close >/dev/null; then stage_extra_close; fi
    if [ "$status" != 0 ] && [ -n "${KEEP_STAGE:-}" ]; then
        echo "kept for inspection: $stage" >&2
    else
        rm -rf "$stage"
    fi
    exit "$status"
}

# stage_build: builds the program as it is shipped, and the S3 server. STAGE_FEATURES=test-hooks builds one that stops where a script
# says, in a directory of its own: two kinds would be built again and again in one.
stage_build() {
    [ -n "${WIREVAULT:-}" ] && [ -n "${S3_SERVER:-}" ] && return
    local target
    target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    if [ -n "${STAGE_FEATURES:-}" ]; then
        target=$target/$STAGE_FEATURES
        export CARGO_TARGET_DIR=$target
    fi
    cargo build --release --locked --quiet --features "${STAGE_FEATURES:-}" --bin wirevault --example s3_server
    WIREVAULT=$target/release/wirevault
    S3_SERVER=$target/release/examples/s3_server
}

# stage_wait WHAT PID COMMAND...: runs the command again and again until it succeeds, as long as the process lives.
# Four minutes are for a busy machine; only a fault takes longer.
stage_wait() {
    local what=$1 pid=$2
    shift 2
    for _ in $(seq 2400); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "waited in vain: $what" >&2
    return 1
}

# stage_s3 BUCKET: starts the S3 server; sets s3_endpoint and s3_pid and the AWS_* environment.
# S3_HOST is the address it listens on; S3_OPTIONS further flags; S3_WRAP a command that starts it elsewhere (in a network
# namespace).
stage_s3() {
    mkdir -p "$stage/s3/$1"
    export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo-secret AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
    local host=() wrap=()
    [ -n "${S3_OPTIONS+set}" ] || S3_OPTIONS=()
    [ -z "${S3_HOST:-}" ] || host=(--host "$S3_HOST")
    [ -z "${S3_WRAP:-}" ] || wrap=("${S3_WRAP[@]}")
    # The server makes neither of them before it is well on its way, and they are read meanwhile.
    : >"$stage/s3.out"
    : >"$stage/s3.log"
    "${wrap[@]}" "$S3_SERVER" --root "$stage/s3" "${host[@]}" "${S3_OPTIONS[@]}" --port 0 --access-key demo --secret-key demo-secret >"$stage/s3.out" 2>"$stage/s3.log" &
    s3_pid=$!
    stage_pids+=("$s3_pid")
    stage_wait "the S3 server starts" "$s3_pid" grep -q '^listening on .' "$stage/s3.out" || { cat "$stage/s3.log" >&2; return 1; }
    s3_endpoint=http://$(sed -n 's/^listening on //p' "$stage/s3.out")
}

# stage_postgres BIN [-c setting...]: starts a cluster and points PGHOST, PGPORT and PGUSER at it; sets pg_data.
stage_postgres() {
    local bin=$1 try
    shift
    for try in 1 2 3; do
        pg_data=$stage/pg$try.$RANDOM
        PGPORT=$(free_port)
        stage_clusters+=("$bin|$pg_data")
        if start_postgres "$bin" "$pg_data" "$PGPORT" "$@"; then
            export PGHOST=127.0.0.1 PGPORT PGUSER=postgres
            return
        fi
    done
    echo "PostgreSQL did not start; see $pg_data/server.log" >&2
    return 1
}

# measure NAME COMMAND...: runs it; its output goes to $stage/NAME.out and .err. Sets seconds, peak_kib and status.
measure() {
    local name=$1
    shift
    status=0
    /usr/bin/time -q -o "$stage/$name.time" -f '%e %M' "$@" >"$stage/$name.out" 2>"$stage/$name.err" </dev/null || status=$?
    read -r seconds peak_kib < <(tail -1 "$stage/$name.time")
    if [ "$status" != 0 ]; then
        echo "failed (exit code $status): $*" >&2
        tail -n 20 "$stage/$name.out" "$stage/$name.err" >&2
    fi
    return "$status"
}

bytes_of() { du -sb --apparent-size -- "$@" | awk '{ sum += $1 } END { printf "%.0f", sum }'; }
mib() { awk -v b="$1" 'BEGIN { printf "%.1f", b / 1048576 }'; }
rate() { awk -v b="$1" -v s="$2" 'BEGIN { printf "%.0f", (s > 0 ? b / 1048576 / s : 0) }'; }
median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
machine() { printf '%s, %s cores, %s, commit %s\n' "$(date -u +%Y-%m-%d)" "$(nproc)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" "$(git rev-parse --short HEAD 2>/dev/null || echo none)"; }
