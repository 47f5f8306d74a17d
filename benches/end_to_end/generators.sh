#!/bin/bash
# Generators of random histories, each for MINUTES (5) from SEED (another one each time): benches/end_to_end/generators/*.py.
#
#   MINUTES=60 SEED=1 benches/end_to_end/generators.sh [postgres files sqlite config redis]
#
# What fails is kept in target/generators, made smaller, and runs again with `benches/end_to_end/generators/NAME.py --replay DIRECTORY`.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/servers/setup.sh
. tests/servers/common.sh
[ "$(id -u)" != 0 ] || command -v setfacl rsync >/dev/null || apt_install acl rsync
[ "$(id -u)" != 0 ] || tests/servers/pg18.sh --with-redis >/dev/null
if [ -z "${WIREVAULT:-}" ]; then
    cargo build --release --locked --quiet --bin wirevault
    WIREVAULT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/wirevault
fi
[ $# -gt 0 ] || set -- postgres files sqlite config redis
seed=${SEED:-$RANDOM$RANDOM}
bad=0
for name in "$@"; do
    python3 "benches/end_to_end/generators/$name.py" --minutes "${MINUTES:-5}" --seed "$seed" --wirevault "$WIREVAULT" || bad=1
done
exit "$bad"
