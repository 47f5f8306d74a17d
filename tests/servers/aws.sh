#!/bin/bash
# Installs the aws command line, which benchmarks are compared with, and prints its path.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/servers/common.sh
dir=$(servers_dir)/awscli
if [ ! -x "$dir/bin/aws" ]; then
    say "installing awscli"
    mkdir -p "$dir"
    python3 -m venv "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check awscli >&2
fi
echo "$dir/bin/aws"
