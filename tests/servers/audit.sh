#!/bin/bash
# Dependency audit with cargo-deny, and by cargo-machete that each one is used. Licences, bans and sources are checked offline and must pass. Advisories need
# the RustSec database: where it cannot be fetched, one line says so and the rest still counts.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "installing cargo-deny, once (some minutes)" >&2
    cargo install --quiet --locked cargo-deny
fi
cargo deny --log-level error check licenses bans sources
if log=$(cargo deny fetch db 2>&1); then
    cargo deny --log-level error check --disable-fetch advisories
else
    echo "advisories NOT checked: the RustSec database could not be fetched (${log##*$'\n'})" >&2
fi
# What is declared and not used. A tool that cannot be installed makes no check fail, but is told.
if ! cargo machete --version >/dev/null 2>&1; then
    echo "installing cargo-machete, once (a minute)" >&2
    cargo install --quiet --locked cargo-machete >/dev/null 2>&1 || true
fi
if cargo machete --version >/dev/null 2>&1; then
    cargo machete
else
    echo "unused dependencies NOT checked: cargo-machete could not be installed" >&2
fi
