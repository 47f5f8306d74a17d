#!/usr/bin/env python3
"""Random SQLite databases with writers that live, rest or were killed, and readers without rights; compared by .dump, pages and a ledger.

The ledger: every transaction keeps the sum of its table, so a copy that is torn shows. Needs Python's sqlite3 alone.
"""
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import Failure, Generator

ROOT = os.geteuid() == 0
ACCOUNTS = 50
RESTING = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("UPDATE turn SET n = n + 1")
db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
print("ready", flush=True)
sys.stdin.read()
"""
WRITER = """
import os, random, sqlite3, sys
path, seed, cache, mode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
rng = random.Random(seed)
db = sqlite3.connect(path, timeout=60, isolation_level=None)
db.execute(f"PRAGMA cache_size={cache}"); db.execute("PRAGMA synchronous=OFF"); db.execute(f"PRAGMA journal_mode={mode}")
db.execute(f"PRAGMA wal_autocheckpoint={rng.choice([1, 10, 1000, 0])}")
print("ready", flush=True)
number = 0
while True:
    number += 1
    try:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(rng.choice([1, 3, 200])):
            amount, (a, b) = rng.randint(1, 99), rng.sample(range(50), 2)
            db.execute("UPDATE ledger SET amount = amount - ?, filler = randomblob(?) WHERE id = ?", (amount, rng.randint(0, 900), a))
            db.execute("UPDATE ledger SET amount = amount + ? WHERE id = ?", (amount, b))
        db.execute("UPDATE turn SET n = n + 1")
        if rng.random() < 0.2:
            db.execute("INSERT INTO grown VALUES (randomblob(?))", (rng.randint(1, 60000),))
        if rng.random() < 0.05:
            db.execute("DELETE FROM grown")
        db.execute("ROLLBACK" if rng.random() < 0.1 else "COMMIT")
        if rng.random() < 0.01:
            db.execute("VACUUM")
        if rng.random() < 0.02:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error) and "busy" not in str(error):
            raise
        if db.in_transaction:
            db.execute("ROLLBACK")
"""


def dump(path):
    db = sqlite3.connect(f"file:{path.replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode=rw", uri=True)
    db.text_factory = lambda b: b.decode("utf-8", "surrogateescape")
    try:
        lines = [f"PRAGMA {p} = {db.execute(f'PRAGMA {p}').fetchone()[0]}" for p in ("page_size", "auto_vacuum", "encoding", "user_version", "application_id", "page_count")]
        lines += [str(row) for row in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")]
        for name, sql in db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall():
            if sql is None or "VIRTUAL" in sql:
                continue
            quoted = '"' + name.replace('"', '""') + '"'
            lines += sorted(repr(row) for row in db.execute(f"SELECT *, 0 FROM {quoted}"))
        return lines
    finally:
        db.close()


def image(path):
    """The pages, without what the header counts and says of the journal mode."""
    with open(path, "rb") as file:
        pages = bytearray(file.read())
    if len(pages) >= 100:
        for start, end in [(18, 20), (24, 28), (40, 44), (92, 100)]:
            pages[start:end] = bytes(end - start)
    return bytes(pages)


class Sqlite(Generator):
    name = "sqlite"
    about = __doc__.splitlines()[0]
    shrink_seconds = 60

    def word(self, rng, number):
        odd = ["a", "x y", 'quo"te', "select", "ünï", "semi;colon", "d'q", "[b]", "tab\t", "new\nline", "", "%", "日本", "\\", "--"]
        return '"' + f"{rng.choice(odd)}{number}".replace('"', '""') + '"'

    def value(self, rng):
        return rng.choice([
            "NULL", str(rng.randint(-(2**63), 2**63 - 1)), f"{rng.uniform(-1e9, 1e9)!r}", "9e999", "-9e999", f"zeroblob({rng.randint(0, 9000)})", "'it''s ☃ ' || char(10)", "x'00ff00'", "''", "char(0, 65)",
            f"hex(zeroblob({rng.randint(1, 400)}))", "'" + "x" * rng.randint(1, 3000) + "'", "CAST(x'fffe' AS TEXT)", "-0.0", "1e-320", "true",
        ])

    def make(self, rng, number):
        statements, tables = [], []
        for n in range(rng.randint(1, 6)):
            name = self.word(rng, f"t{n}")
            columns = [self.word(rng, f"c{i}") for i in range(rng.randint(1, 5))]
            strict = rng.random() < 0.15
            kinds = ["INTEGER", "TEXT", "BLOB", "REAL", "ANY"] if strict else ["INTEGER", "TEXT", "BLOB", "REAL", "", "ANY", "VARCHAR(20) COLLATE NOCASE", "NUMERIC DEFAULT 5", "TEXT COLLATE RTRIM", "INT CHECK (1)", "DECIMAL(5, 2)"]
            key, end = rng.choice([("id INTEGER PRIMARY KEY AUTOINCREMENT", []), ("id INTEGER PRIMARY KEY", []), ("id INTEGER NOT NULL PRIMARY KEY", ["WITHOUT ROWID"]), ("id INTEGER", []), ("id INTEGER PRIMARY KEY DESC", [])])
            parts = [key] + [f"{c} {rng.choice(kinds)}" for c in columns]
            if rng.random() < 0.2:
                parts.append(f"g INTEGER GENERATED ALWAYS AS (id + 1) {rng.choice(['STORED', 'VIRTUAL'])}")
            if rng.random() < 0.2:
                parts.append(f"FOREIGN KEY (id) REFERENCES {name} ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED")
            statements.append(f"CREATE TABLE {name} ({', '.join(parts)}) {', '.join(end + (['STRICT'] if strict else []))}")
            tables.append((name, columns))
            if rng.random() < 0.5:
                statements.append(f"CREATE {rng.choice(['', 'UNIQUE '])}INDEX {self.word(rng, f'i{n}')} ON {name} ({columns[0]} {rng.choice(['DESC', 'COLLATE NOCASE', ''])}, id)")
            if rng.random() < 0.3:
                statements.append(f"CREATE INDEX {self.word(rng, f'p{n}')} ON {name} (length({columns[0]})) WHERE {columns[0]} IS NOT NULL")
            if rng.random() < 0.3:
                statements.append(f"CREATE VIEW {self.word(rng, f'v{n}')} AS SELECT {columns[0]} FROM {name}")
            if rng.random() < 0.3:
                statements.append(f"CREATE TRIGGER {self.word(rng, f'g{n}')} AFTER DELETE ON {name} BEGIN UPDATE {name} SET {columns[0]} = old.{columns[0]} WHERE id = 1; END")
        if rng.random() < 0.4:
            statements += rng.sample(["CREATE VIRTUAL TABLE words USING fts5(body, tokenize='porter')", "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)", "CREATE VIRTUAL TABLE old USING fts4(body)"], rng.randint(1, 3))
            statements += ["INSERT INTO words VALUES ('hello world'), ('again')", "INSERT INTO boxes VALUES (1, 0, 2)", "INSERT INTO old VALUES ('x y')"]
        for _ in range(rng.choice([0, 10, 120])):
            name, columns = rng.choice(tables)
            kind = rng.randrange(12)
            if kind == 0:
                statements.append(f"DELETE FROM {name} WHERE id % 3 = 0")
            elif kind == 1:
                statements.append(f"ALTER TABLE {name} ADD COLUMN {self.word(rng, 'n' + str(len(statements)))} DEFAULT 'x'")
            elif kind == 2:
                statements.append(rng.choice(["ANALYZE", "VACUUM", "REINDEX", "PRAGMA incremental_vacuum(3)", "PRAGMA user_version = 77", "PRAGMA application_id = -5"]))
            elif kind == 3 and rng.random() < 0.2:
                statements.append(f"DROP TABLE {name}")
            else:
                statements.append(f"INSERT OR REPLACE INTO {name} (id, {', '.join(columns)}) VALUES ({rng.randint(0, 500)}, {', '.join(self.value(rng) for _ in columns)})")
        mode = rng.choice(["WAL", "WAL", "WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"])
        state = rng.choice(["rests", "rests", "open", "writes", "writes", "killed", "killed", "killed while read", "no shm"])
        if mode in ("MEMORY", "OFF") and state not in ("rests", "open"):
            state = "rests"
        return {
            "page_size": 512 << rng.randrange(8), "auto_vacuum": rng.choice(["NONE", "FULL", "INCREMENTAL"]), "encoding": rng.choice(["UTF-8", "UTF-16le", "UTF-16be"]), "mode": mode, "state": state,
            "statements": statements, "seed": rng.randrange(1 << 30), "cache": rng.choice([5, 50, 2000]), "pause": rng.choice([0.0, 0.05, 0.3]),
            "name": rng.choice(["app.db", "a b?#.db", "ünï.sqlite", "x%41.db", "no suffix", "new\nline.db", "-wal", "a-journal.db"]), "method": rng.choice(["auto", "auto", "online-backup"]),
            "guest": ROOT and rng.random() < 0.35, "clean": rng.random() < 0.5, "link": rng.random() < 0.1, "readonly": rng.random() < 0.1,
        }

    def parts(self, history):
        return [history["statements"]]

    def describe(self, history):
        who = "another user" if history["guest"] else "its owner"
        return f"{history['mode']}, {history['state']}, pages of {history['page_size']}, {len(history['statements'])} statements, read by {who}, {history['method']}"

    def fill(self, path, history):
        db = sqlite3.connect(path, isolation_level=None)
        db.execute(f"PRAGMA page_size={history['page_size']}")
        db.execute(f"PRAGMA auto_vacuum={history['auto_vacuum']}")
        db.execute(f"PRAGMA encoding='{history['encoding']}'")
        db.execute("PRAGMA synchronous=OFF")
        db.execute(f"PRAGMA journal_mode={history['mode']}")
        db.executescript("CREATE TABLE ledger (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, filler BLOB); CREATE TABLE turn (n INTEGER); INSERT INTO turn VALUES (0); CREATE TABLE grown (x)")
        db.executemany("INSERT INTO ledger VALUES (?, 1000, NULL)", [(n,) for n in range(ACCOUNTS)])
        for statement in history["statements"]:
            try:
                db.execute(statement)
            except (sqlite3.Error, sqlite3.Warning):
                pass
        return db

    def play(self, history):
        place = self.fresh("place")
        os.chmod(place, 0o755)
        path = os.path.join(place, history["name"])
        self.fill(path, history).close()
        state = history["state"]
        writer = None
        try:
            # In another process: whoever closes a file of a database loses his own locks on it.
            if state == "open":
                writer = subprocess.Popen([sys.executable, "-c", RESTING, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                writer.stdout.readline()
            if state in ("writes", "killed", "killed while read", "no shm"):
                writer = subprocess.Popen([sys.executable, "-c", WRITER, path, str(history["seed"]), str(history["cache"]), history["mode"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                if writer.stdout.readline() != b"ready\n":
                    raise Failure("oracle: the writer does not start", writer.communicate()[1].decode())
                time.sleep(history["pause"] + 0.02)
            if state in ("killed", "no shm"):
                writer.send_signal(signal.SIGKILL)
                writer.wait()
                if state == "no shm" and os.path.exists(path + "-shm"):
                    os.unlink(path + "-shm")
            self.judge(history, path, writer)
        finally:
            if writer is not None:
                writer.kill()
                error = writer.communicate()[1].decode("utf-8", "replace")
                if "Error" in error:
                    raise Failure("the writer was hurt by the backup", error[-2000:])

    def judge(self, history, path, writer):
        moving = history["state"] in ("writes", "killed while read")
        before = None if moving else self.files(path)
        low = self.turn(path) if moving else 0
        copy = os.path.join(self.fresh("copy"), "copy.db")
        if not moving:
            for suffix in ("", "-wal", "-journal"):
                if os.path.exists(path + suffix):
                    shutil.copy2(path + suffix, copy + suffix)
        repository_dir = self.fresh("repository")
        spool = self.fresh("spool")
        with open(os.path.join(self.stage, "wirevault.toml"), "w", encoding="utf-8") as file:
            text = "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in path)
            file.write(f'spool_dir = "{spool}"\n[repository]\nurl = "file://{repository_dir}"\n[source.app]\nkind = "sqlite"\npath = "{text}"\nmethod = "{history["method"]}"\n[job.job]\nsources = ["app"]\n')
        guest = None
        if history["guest"]:
            for one in (repository_dir, spool, os.path.join(self.stage, "state")):
                os.chown(one, 65534, 65534)

            def guest():
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
        done = self.wire("backup", "job", preexec=guest, codes=(0, 1) if guest else (0,))
        if history["state"] == "killed while read" and writer is not None:
            writer.kill()
            writer.wait()
        said = done.said()
        if done.code == 1:
            # A guest may not make what the reading needs; it has to say so, and to leave nothing.
            if b"error: " not in done.err or b"hint: " not in done.err:
                raise Failure("backup by another user: refused without a word", said)
            self.untouched(history, before, path, said)
            return
        self.untouched(history, before, path, said)
        high = self.turn(path) if moving else 0
        self.wire("verify", "latest", preexec=guest)
        back = os.path.join(self.fresh("back"), "back.db")
        if guest:
            os.chown(os.path.dirname(back), 65534, 65534)
        restored = self.wire("restore", "latest", "--into", back, preexec=guest)
        said += restored.said()
        self.ledger(back, said, (low, high) if moving else None)
        if moving:
            return
        original, again = dump(copy), dump(back)
        if original != again:
            different = [f"- {x[:300]}" for x in original if x not in set(again)][:8] + [f"+ {x[:300]}" for x in again if x not in set(original)][:8]
            raise Failure("restore: another content", "\n".join(different) + "\n" + said)
        if image(copy) != image(back):
            raise Failure("restore: other pages", f"{len(image(copy))} bytes, {len(image(back))} bytes\n{said}")
        if history["clean"] and not history["guest"] and history["state"] in ("rests", "killed", "no shm"):
            with open(path, "r+b") as file:
                file.seek(max(0, os.path.getsize(path) // 2))
                file.write(b"damage" * 50)
            done = self.wire("restore", "latest", "--clean", codes=(0, 1), kind="restore --clean")
            if done.code == 0:
                if dump(path) != original:
                    raise Failure("restore --clean: another content", done.said())
                self.wire("restore", "latest", "--undo", codes=(0,), kind="restore --undo")

    def untouched(self, history, before, path, said):
        """A backup writes nothing into the database, and leaves no file beside it that was not there."""
        if before is None:
            return
        after = self.files(path)
        # SQLite makes a -shm where a -wal has none.
        if {name for name in set(after) - set(before) if not (name.endswith('-shm') and name[:-4] + '-wal' in before)}:
            raise Failure("backup leaves a file beside the database", f"{sorted(set(after) - set(before))}\n{said}")
        for name, content in before.items():
            if name.endswith("-shm"):
                continue
            # Whoever owns a database with a -wal reads it after a passive checkpoint.
            if before.get(name + "-wal"):
                continue
            if after.get(name) != content:
                raise Failure(f"backup changes {'the database' if name == history['name'] else name[-8:]}", said)

    def files(self, path):
        place, found = os.path.dirname(path), {}
        for name in os.listdir(place):
            with open(os.path.join(place, name), "rb") as file:
                found[name] = file.read()
        return found

    def turn(self, path):
        db = sqlite3.connect(path, timeout=60)
        try:
            return db.execute("SELECT n FROM turn").fetchone()[0]
        finally:
            db.close()

    def ledger(self, path, said, turns=None):
        db = sqlite3.connect(path)
        try:
            check = db.execute("PRAGMA integrity_check").fetchall()
            total = db.execute("SELECT sum(amount) FROM ledger").fetchone()[0]
            turn = db.execute("SELECT n FROM turn").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise Failure("restore: no database", f"{error}\n{said}") from error
        finally:
            db.close()
        if check != [("ok",)]:
            raise Failure("restore: integrity", f"{check[:5]}\n{said}")
        if total != 1000 * ACCOUNTS:
            raise Failure("restore: a torn copy", f"sum {total}, not {1000 * ACCOUNTS}\n{said}")
        if turns and not turns[0] <= turn <= turns[1]:
            raise Failure("restore: of another time", f"turn {turn}, not in {turns}\n{said}")


if __name__ == "__main__":
    sys.exit(Sqlite().main())
