#!/bin/bash
# Installs what the tests need, then runs every test. The last line is the runner's count.
# Arguments go to the runner: tests/servers/run-tests.sh storage
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/servers/setup.sh
. target/servers/env

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing cargo-nextest, once" >&2
    cargo install --quiet --locked cargo-nextest || echo "cargo-nextest could not be installed; using cargo test" >&2
fi
# Tests run the program and example servers as processes of their own.
cargo build --locked --bins --examples
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --locked "$@"
fi
exec cargo test --locked --no-fail-fast --lib --test it "$@"
