#!/bin/bash
# Installs what the tests need, then runs every test. The last line is the runner's count.
# Arguments go to the runner: tests/servers/run-tests.sh storage
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/servers/setup.sh
. target/servers/env

# Tests run the program, with what they ask of it by its environment, and example servers as processes of their own.
cargo build --locked --features test-hooks --bins --examples
# cargo-nextest gives one count over all; installing it would cost more minutes than the tests take.
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --locked --features test-hooks "$@"
fi
exec cargo test --locked --features test-hooks --no-fail-fast --lib --test it "$@"
