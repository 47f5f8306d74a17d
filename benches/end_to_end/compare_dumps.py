#!/usr/bin/env python3
"""Compares two plain pg_dump files: schema lines in order, rows of each table as a multiset.

usage: compare_dumps.py ORIGINAL RESTORED [-v]
Prints one line of figures; with -v the differing lines too. Ends with 1 if anything differs.
"""
import difflib
import re
import sys

COPY = re.compile(r"COPY (.+?)(?: \((.*)\))? +FROM stdin;$")


def split(path):
    """Returns the schema's lines, and per table its column list and rows."""
    schema, data, rows = [], {}, None
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if rows is not None:
                if line == "\\.":
                    rows = None
                else:
                    rows.append(line)
                continue
            start = COPY.match(line)
            if start:
                # Rows that go through a partitioned table come in several blocks.
                rows = data.setdefault(start.group(1), (start.group(2), []))[1]
            elif line and not line.startswith(("--", "\\restrict", "\\unrestrict")):
                schema.append(line)
    return schema, data


def main():
    verbose = "-v" in sys.argv
    original, restored = [a for a in sys.argv[1:] if a != "-v"]
    (schema_a, data_a), (schema_b, data_b) = split(original), split(restored)
    lines = [
        line
        for line in difflib.unified_diff(schema_a, schema_b, lineterm="", n=0)
        if line[0] in "+-" and not line.startswith(("+++", "---"))
    ]
    tables = [
        name
        for name in sorted(set(data_a) | set(data_b))
        if name not in data_a
        or name not in data_b
        or data_a[name][0] != data_b[name][0]
        or sorted(data_a[name][1]) != sorted(data_b[name][1])
    ]
    if verbose:
        print("\n".join(lines[:400]))
        print("\n".join(f"rows differ: {name}" for name in tables))
    print(f"schema lines {len(schema_a)}, differing {len(lines)}; tables {len(data_a)}, with differing rows {len(tables)}")
    return 1 if lines or tables else 0


sys.exit(main())
