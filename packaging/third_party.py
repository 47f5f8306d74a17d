"""Prints the libraries that are linked in, and their licences, each text once: third_party.py TARGET"""

import collections
import glob
import json
import os
import subprocess
import sys

target = sys.argv[1]


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


tree = cargo("tree", "--locked", "-e", "normal", "--target", target, "--prefix", "none", "--format", "{p}")
used = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
texts = collections.defaultdict(list)
print("wirevault is linked with these libraries.\n")
for package in sorted(metadata["packages"], key=lambda package: (package["name"], package["version"])):
    name = f'{package["name"]} {package["version"]}'
    if (package["name"], "v" + package["version"]) not in used or package["name"] == "wirevault":
        continue
    print(f'{name}: {package["license"] or "see its text"}')
    folder = os.path.dirname(package["manifest_path"])
    for pattern in ("LICEN[CS]E*", "COPYING*", "NOTICE*"):
        for path in sorted(glob.glob(os.path.join(folder, pattern))):
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    texts[file.read().strip()].append(name)
for text, names in texts.items():
    print("\n" + "=" * 78 + "\n" + ", ".join(dict.fromkeys(names)) + "\n\n" + text)
