#!/bin/bash
# The log of a server over the network, when things go wrong: a client writes numbered rows with a journal of its own, one row a
# transaction, and what is recovered out of the repository is compared with it.
#
#   MODE=loss    the server, its standby and the receiver are gone at one moment (SIGKILL), at 1, 100 and as many transactions a second
#                as there are: how old is the oldest row that is lost?     REPEAT=3 SECONDS_EACH=12
#   MODE=kills   the receiver is killed again and again under load (KILLS=30), 5% of the store's requests fail (FAIL=0.05), the store is
#                gone for a while (AWAY=600 seconds), a standby is promoted in the middle: no gap, nothing lost, both timelines come back
#   MODE=moments  MOMENTS=20 random moments of a run with three base backups: exactly the rows committed by then, by their commit records
#   PG=18        the servers of the chroot, for moments alone
#   PG_BIN=…     the server's programs [default: those of PostgreSQL 15]
#   SEED=1
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/stage.sh
stage_open
stage_build
machine
stage_s3 bucket
chmod 777 "$stage"
WIREVAULT=$(realpath "$WIREVAULT")
if [ "${PG:-15}" = 18 ]; then
    export PG_ROOT=$WIREVAULT_TEST_PG18_ROOT PG_BIN=/usr/lib/postgresql/18/bin
    inside=$(mktemp -d "$PG_ROOT/tmp/stage.XXXXXX")
    chmod 777 "$inside"
    stage_extra_close() { rm -rf "$inside"; }
    cp "$WIREVAULT" "$inside/wirevault"
    chmod 755 "$inside/wirevault"
    WIREVAULT=${inside#"$PG_ROOT"}/wirevault
    STAGE=${inside#"$PG_ROOT"}
fi
WIREVAULT=$WIREVAULT STAGE=${STAGE:-$stage} S3_ENDPOINT=$s3_endpoint PG_BIN=${PG_BIN:-$WIREVAULT_TEST_PG15_BIN} \
    PYTHONDONTWRITEBYTECODE=1 python3 benches/end_to_end/log.py "${MODE:-loss}"
