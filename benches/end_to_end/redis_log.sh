#!/bin/bash
# The command stream of Redis and Valkey, when things go wrong: a client writes numbered keys with a journal of its own, and what is
# restored out of the repository is compared with it.
#
#   MODE=moments   MOMENTS=20 random moments of a run with a second snapshot in the middle: a prefix of the commands, how far from the moment
#   MODE=kills     the receiver is killed again and again under load (KILLS=30), 5% of the store's requests fail (FAIL=0.05), the store is
#                  gone for a while (AWAY=600 seconds), a replica is promoted in the middle: no gap, nothing lost
#   SERVER=redis7 | redis8 | valkey   [default redis7; the others live in a chroot and need root]
#   SEED=1
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
stage_open
stage_build
machine
stage_s3 bucket
export PROGRAM="" ROOT="" PLACE=$stage/place
case ${SERVER:-redis7} in
    redis7) PROGRAM=$WIREVAULT_TEST_REDIS7 ;;
    redis8) PROGRAM=/usr/bin/redis-server ROOT=$WIREVAULT_TEST_REDIS_ROOT ;;
    valkey) PROGRAM=/usr/bin/valkey-server ROOT=$WIREVAULT_TEST_REDIS_ROOT ;;
esac
if [ -n "$ROOT" ]; then
    PLACE=$(mktemp -d "$ROOT/tmp/stage.XXXXXX")
    stage_extra_close() { rm -rf "$PLACE"; }
fi
mkdir -p "$PLACE" "$stage/spool"
WIREVAULT=$(realpath "$WIREVAULT") STAGE=$stage S3_ENDPOINT=$s3_endpoint PYTHONDONTWRITEBYTECODE=1 python3 benches/end_to_end/redis_log.py "${MODE:-moments}"
