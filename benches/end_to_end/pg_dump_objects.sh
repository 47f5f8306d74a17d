#!/bin/bash
# The objects that pg_dump's own tests make, of 15 and 18, restored several times in parallel and compared (benches/end_to_end/schemas.sh,
# whose variables hold here too).
set -euo pipefail
cd "$(dirname "$0")/../.."
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
benches/end_to_end/pg_dump_objects.pl "$objects" "" <"$(dirname "$(tests/servers/regression.sh 15)")/pg_dump.pl"
root=$(tests/servers/pg18.sh)
benches/end_to_end/pg_dump_objects.pl "$objects" _18.18 <"$(dirname "$(tests/servers/regression.sh 18 "$root")")/pg_dump.pl"
benches/end_to_end/schemas.sh "$objects"
