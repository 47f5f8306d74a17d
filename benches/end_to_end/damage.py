"""Damages copies of a repository, one damage at a time, and asks `verify` and `restore`. Called by damage.sh; see there.

Cases: every byte flipped and every truncation of repository.json, the manifest and each index; random flips and
truncations in archives; each object longer by one byte; each object missing. `verify --level content` must fail and name
the object. `restore` over a live target must fail and leave it as it was; if it ends well, because the damage lies where a
restore does not read (the index inside the archive, the end of the tar), what it restored must equal the source.
"""
import collections
import concurrent.futures
import hashlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import time

Case = collections.namedtuple("Case", "kind key what at bit")


def cases(options, repository, snapshot):
    """Yields every damage: kind of object, its key, what is done to it, and where."""
    step = options["step"]
    documents = [("repository.json", "repository.json"), ("manifest", "snapshots/%s.json" % snapshot)]
    objects = sorted(below(os.path.join(repository, "data", snapshot)))
    objects = [os.path.relpath(path, repository) for path in objects]
    indexes = [("index", key) for key in objects if key.endswith(".index.zst")]
    archives = [("archive", key) for key in objects if not key.endswith(".index.zst")]
    for kind, key in documents + indexes:
        size = os.path.getsize(os.path.join(repository, key))
        for at in range(0, size, step):
            yield Case(kind, key, "flip", at, at % 8)
            yield Case(kind, key, "cut", at, 0)
    chance = random.Random(1)
    sizes = [os.path.getsize(os.path.join(repository, key)) for _, key in archives]
    for n in range(options["flips"]):
        # Half of them spread over the bytes, half over the archives.
        kind, key = chance.choices(archives, sizes if n % 2 else None)[0]
        size = os.path.getsize(os.path.join(repository, key))
        yield Case(kind, key, "flip", chance.randrange(size), chance.randrange(8))
        if n % 10 == 0:
            yield Case(kind, key, "cut", chance.randrange(size), 0)
    for kind, key in documents + indexes + archives:
        yield Case(kind, key, "longer", 0, 0)
        yield Case(kind, key, "missing", 0, 0)


def below(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]


def do(case, path):
    if case.what == "flip":
        with open(path, "r+b") as file:
            file.seek(case.at)
            byte = file.read(1)[0]
            file.seek(case.at)
            file.write(bytes([byte ^ 1 << case.bit]))
    elif case.what == "cut":
        os.truncate(path, case.at)
    elif case.what == "longer":
        with open(path, "ab") as file:
            file.write(b"\n")
    else:
        os.remove(path)


def picture(folder):
    """Everything below a folder: names, modes, inodes, times, content. What is restored is written beside first, which
    touches the time of the directory it stands in, and nothing else."""
    found = []
    for at, folders, names in os.walk(folder):
        for name in sorted(folders + names):
            path = os.path.join(at, name)
            meta = os.lstat(path)
            content = b""
            if os.path.islink(path):
                content = os.readlink(path).encode()
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).digest()
            time_ns = 0 if os.path.isdir(path) and not os.path.islink(path) else meta.st_mtime_ns
            found.append((os.path.relpath(path, folder), meta.st_mode, meta.st_ino, time_ns, content))
    return sorted(found)


def rows(database):
    """A SQLite database as SQL text; its file header may differ, which counts changes."""
    return subprocess.run(["sqlite3", database, ".dump"], check=True, capture_output=True).stdout


class Worker:
    """A copy of the repository and of the live target."""

    def __init__(self, options, number, names):
        self.options = options
        self.folder = os.path.join(options["stage"], "worker%d" % number)
        self.repository = os.path.join(self.folder, "repository")
        self.live = os.path.join(self.folder, "live")
        self.tree, self.database = names
        os.mkdir(self.folder)
        shutil.copytree(os.path.join(options["stage"], "repository"), self.repository)
        self.make_live()

    def make_live(self):
        """What a restore would replace: some files changed, some missing, some more; another database."""
        shutil.rmtree(self.live, ignore_errors=True)
        source = os.path.join(self.options["stage"], "source")
        shutil.copytree(os.path.join(source, "tree"), os.path.join(self.live, self.tree), symlinks=True)
        os.remove(os.path.join(self.live, self.tree, "sub", "3"))
        for name in ("sub/4", "large", "own"):
            with open(os.path.join(self.live, self.tree, name), "wb") as file:
                file.write(b"live " * 1000)
        os.mkdir(os.path.join(self.live, self.database))
        shutil.copy(os.path.join(source, "app.db"), os.path.join(self.live, self.database, "app.db"))
        statement = "DELETE FROM t WHERE id % 3 = 0"
        subprocess.run(["sqlite3", os.path.join(self.live, self.database, "app.db"), statement], check=True)
        self.before = picture(self.live)

    def run(self, *arguments):
        line = [self.options["vault"], *arguments, "--from", "file://" + self.repository]
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return 99, "did not end"
        return done.returncode, done.stdout + done.stderr

    def damaged(self, case, check):
        path = os.path.join(self.repository, case.key)
        with open(path, "rb") as file:
            whole = file.read()
        do(case, path)
        try:
            return check(case)
        finally:
            with open(path, "wb") as file:
                file.write(whole)

    def verify_and_restore(self, case):
        """Returns a list of (what was asked, how it went)."""
        snapshot = self.options["snapshot"]
        which = ["--all"] if case.what == "cut" and case.kind != "repository.json" else [snapshot]
        code, said = self.run("verify", *which, "--level", "content", "--no-evidence")
        named = case.key in said or (case.kind == "manifest" and snapshot in said)
        if case.what == "missing" and case.kind == "repository.json":
            named = "no repository" in said
        if code == 1 and named and "panicked" not in said:
            verified = "reported"
        elif case.kind == "manifest" and case.what == "missing":
            # Without its manifest a snapshot does not exist.
            verified = "reported" if code == 1 else "UNREPORTED"
        else:
            verified = "UNREPORTED" if code == 0 else "not named"
        outcome = [("verify", verified, said)]

        mine = case.kind in ("repository.json", "manifest") or case.key.split("/")[2] in (self.tree, self.database)
        if not mine:
            return outcome
        which = ["--source", self.tree, "--source", self.database, "--into", self.live]
        if case.kind == "archive" and case.at % 2:
            # Alone; together with another one, that other source is restored all the same.
            name = case.key.split("/")[2]
            which = ["--source", name, "--into", os.path.join(self.live, name, "app.db" if name == self.database else "")]
        code, said = self.run("restore", snapshot, *which, "--clean")
        if code == 0:
            right = self.is_restored(case) and case.kind == "archive" and case.what == "flip"
            outcome.append(("restore", "damage not read, restored right" if right else "WRONG", said))
            self.make_live()
        elif picture(self.live) != self.before:
            changed = sorted({entry[0] for entry in set(picture(self.live)) ^ set(self.before)})
            said += "changed: " + ", ".join(changed)
            partly = self.is_partly_restored()
            outcome.append(("restore", "other source restored, this one as it was" if partly else "TARGET CHANGED", said))
            self.make_live()
        else:
            outcome.append(("restore", "refused, target as it was", said))
        return outcome

    def same_tree(self):
        source = os.path.join(self.options["stage"], "source", "tree")
        live = os.path.join(self.live, self.tree)
        ours = {p: h for p, _, _, _, h in picture(source)}
        theirs = {p: h for p, _, _, _, h in picture(live) if p != "own" and not p.startswith(".wirevault")}
        return ours == theirs

    def same_database(self):
        return rows(os.path.join(self.live, self.database, "app.db")) == self.options["rows"]

    def is_restored(self, case):
        if case.at % 2:
            return self.same_tree() if case.key.split("/")[2] == self.tree else self.same_database()
        return self.same_tree() and self.same_database()

    def is_partly_restored(self):
        """Damage inside one source's archive: the other one is restored right, this one is as it was."""
        def part(whole, name):
            return [entry for entry in whole if entry[0].startswith(name + "/")]
        now = picture(self.live)
        tree_same = part(now, self.tree) == part(self.before, self.tree)
        database_same = part(now, self.database) == part(self.before, self.database)
        return (tree_same and self.same_database()) or (database_same and self.same_tree())


class Postgres(Worker):
    """The live target is a database."""

    def make_live(self):
        self.sql("postgres", "DROP DATABASE IF EXISTS live")
        for name in self.sql("postgres", "SELECT datname FROM pg_database").split():
            if name.startswith("live"):
                self.sql("postgres", 'DROP DATABASE "%s"' % name)
        self.sql("postgres", "CREATE DATABASE live TEMPLATE shop")
        self.sql("live", "DELETE FROM orders WHERE id % 3 = 0; UPDATE customers SET name = name || ' live'")
        self.before = self.checksum("live"), self.databases()

    def sql(self, database, statement):
        line = [self.options["psql"], "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    def checksum(self, database):
        return self.sql(database, "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM orders t"
                        " UNION ALL SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM customers t")

    def databases(self):
        return self.sql("postgres", "SELECT oid, datname FROM pg_database ORDER BY 2")

    def restore(self, case):
        url = "postgres://postgres@127.0.0.1:%d/live" % self.options["port"]
        code, said = self.run("restore", self.options["snapshot"], "--source", "shop", "--into", url, "--clean")
        if code == 0:
            right = self.checksum("live") == self.checksum("shop") and case.kind == "archive" and case.what == "flip"
            outcome = "damage not read, restored right" if right else "WRONG"
            self.make_live()
        elif (self.checksum("live"), self.databases()) != self.before:
            outcome = "TARGET CHANGED"
            self.make_live()
        else:
            outcome = "refused, target as it was"
        return [("restore postgres", outcome, said)]


def main():
    options = json.load(sys.stdin)
    repository = os.path.join(options["stage"], "repository")
    listed = json.loads(subprocess.run([options["vault"], "list", "--json", "--from", "file://" + repository], check=True,
                                       capture_output=True).stdout)["snapshots"]
    options["snapshot"] = snapshot = listed[0]["id"]
    names = {}
    with open(os.path.join(repository, "snapshots", snapshot + ".json"), "rb") as file:
        manifest = json.loads(file.readline())
    for source in manifest["sources"]:
        names[source["kind"]] = source["name"]
    options["rows"] = rows(os.path.join(options["stage"], "source", "app.db"))
    every = list(cases(options, repository, snapshot))
    for kind, key in dict.fromkeys((case.kind, case.key) for case in every):
        print("%8d bytes  %s" % (os.path.getsize(os.path.join(repository, key)), key))
    begun = time.monotonic()
    workers = queue.Queue()
    for number in range(options["jobs"]):
        workers.put(Worker(options, number, (names["files"], names["sqlite"])))

    def one(case):
        worker = workers.get()
        try:
            return case, worker.damaged(case, worker.verify_and_restore)
        finally:
            workers.put(worker)

    tally, wrong = collections.Counter(), []
    with concurrent.futures.ThreadPoolExecutor(options["jobs"]) as pool:
        results = list(pool.map(one, every))
    if options["postgres"]:
        worker = Postgres(options, options["jobs"], (names["files"], names["sqlite"]))
        mine = [case for case in every if case.kind in ("repository.json", "manifest") or "/shop/" in case.key]
        chance, picked = random.Random(2), []
        for kind, share in (("manifest", 5), ("index", 3), ("archive", 2)):
            of_kind = [case for case in mine if case.kind == kind and case.what in ("flip", "cut")]
            picked += chance.sample(of_kind, min(len(of_kind), max(1, options["postgres"] // share)))
        picked += [case for case in mine if case.what in ("longer", "missing")]
        results += [(case, worker.damaged(case, worker.restore)) for case in picked]
    for case, outcomes in results:
        for asked, how, said in outcomes:
            tally[asked, case.kind, case.what, how] += 1
            if how.split()[0] in ("UNREPORTED", "not", "WRONG", "TARGET"):
                wrong.append((case, asked, how, said))
    for (asked, kind, what, how), count in sorted(tally.items()):
        print("%-17s %-16s %-8s %6d  %s" % (asked, kind, what, count, how))
    for case, asked, how, said in wrong[:20]:
        print("%s %s: %s\n    %s" % (how, asked, case, said.strip()[-600:]))
    verified = [count for (asked, *_), count in tally.items() if asked == "verify"]
    print("%d damages in %.0f s: %d asked of verify, %d not reported or not named; %d restores, %d targets changed or wrong"
          % (len(every), time.monotonic() - begun, sum(verified), sum(a == "verify" for _, a, _, _ in wrong),
             sum(tally.values()) - sum(verified), sum(a != "verify" for _, a, _, _ in wrong)))
    sys.exit(1 if wrong else 0)


main()
