# make test    all tests, on real servers that tests/servers/setup.sh installs; ends with the runner's count
# make check   format, lints, dependency audit
# make demo    the main job on real servers, with proof and a table
# make soak    what takes too long for every change: all majors of PostgreSQL, its regression database, kills, damage, random data (MINUTES=5 SEED=1)
# make dist    what is shipped, in target/dist: static binary, Debian package, completions, manual pages, checksums
# make bench   the measurements of docs/measurements.md, one script each (long; see benches/end_to_end)
# make bench-quick     the ways every byte goes, held against benches/baseline.json; make bench-baseline writes that file anew

SHELL := /bin/bash

.PHONY: help build test check fmt lint audit demo servers soak bench bench-quick bench-baseline dist clean

help:
	@sed -n 's/^# //p' Makefile | head -7

build:
	cargo build --release --bin wirevault

servers:
	@tests/servers/setup.sh

test:
	@tests/servers/run-tests.sh

check: fmt lint audit

fmt:
	cargo fmt --check

# What is shipped, and what is tested.
lint:
	cargo clippy --all-targets --locked -- -D warnings
	cargo clippy --all-targets --locked --features test-hooks -- -D warnings

audit:
	@tests/servers/audit.sh

demo:
	@demo/demo.sh

# The generators last MINUTES each and begin at SEED.
SOAKS := majors regression pg_dump_objects kill damage redis_fuzz generators

soak: export MINUTES := $(MINUTES)
soak: export SEED := $(SEED)
soak:
	@for script in $(SOAKS); do echo "== $$script"; benches/end_to_end/$$script.sh || exit 1; done

BENCHES := memory kill damage by_hand latency pg_dump pg_speed one_table many_tables big_rows pgbench regression majors sqlite redis \
	redis_fuzz run_real scratch

bench:
	@for script in $(BENCHES); do echo "== $$script"; benches/end_to_end/$$script.sh || exit 1; done

bench-quick:
	@cargo bench --locked --quiet --bench hot_path -- compare $(CURDIR)/benches/baseline.json

bench-baseline:
	@cargo bench --locked --quiet --bench hot_path -- write $(CURDIR)/benches/baseline.json

dist:
	@packaging/dist.sh

clean:
	cargo clean
