#!/usr/bin/env python3
"""A SQLite database with an invariant, and a program that writes to it without pause.

    writer.py create PATH MEGABYTES [KIND]   makes the database, in WAL mode; KIND is what fills it: images (half of it
                                             noise), text (subtitles), rows (the catalogue of a media library)
    writer.py write PATH [PAUSE_MS]   prints "writing" after the first transaction, goes on until SIGTERM, and
                                   prints how many there were
    writer.py check PATH              integrity_check and the invariant; exit code 1 if either fails

The invariant: whatever the moment, the balances sum to zero, the ledger has no gap, and "last" names its last line.
A copy that mixes two moments breaks it.
"""
import hashlib
import os
import random
import signal
import sqlite3
import sys
import time

ACCOUNTS = 500


WORDS = ("the of and a to in is you that it he was for on are as with his they at be this have from or one had by word but "
         "not what all were we when your can said there use an each which she do how their if will up other about out many").split()


def subtitles(number):
    """Returns 64 KiB of timed lines: text that compresses as text does."""
    source = random.Random(number)
    lines, size = [], 0
    while size < 65536:
        start = source.randrange(7200000)
        line = "%d --> %d\n%s\n" % (start, start + source.randrange(5000), " ".join(source.choices(WORDS, k=9)))
        lines.append(line)
        size += len(line)
    return "".join(lines).encode()[:65536]


def library(count):
    """Yields rows of a media library: paths, titles, sizes, times, a digest, and what a probe said as JSON."""
    source = random.Random(count)
    for n in range(count):
        show, season, episode = n // 240, n // 24 % 10 + 1, n % 24 + 1
        title = " ".join(source.choices(WORDS, k=4)).title()
        width, height = source.choice(((1280, 720), (1920, 1080), (3840, 2160)))
        probe = ('{"container": "matroska", "video": {"codec": "hevc", "width": %d, "height": %d, "frame_rate": "24000/1001", '
                 '"bit_rate": %d}, "audio": [{"codec": "eac3", "channels": 6, "language": "eng"}], "subtitles": ["eng", "deu"]}'
                 % (width, height, source.randrange(2000000, 9000000)))
        yield (n, "/media/shows/Show %04d/Season %02d/S%02dE%02d %s.mkv" % (show, season, season, episode, title), title,
               source.randrange(1 << 33), 1700000000 + 37 * n + source.randrange(37), source.randbytes(32).hex(), probe)


def create(path, megabytes, kind="images"):
    db = sqlite3.connect(path)
    db.executescript("""
        pragma journal_mode = wal;
        create table account (id integer primary key, balance integer not null);
        create table ledger (id integer primary key, source integer, target integer, amount integer, note text);
        create table last (ledger_id integer not null);
        create table cover (id integer primary key, title text not null, image blob not null);
        create table file (id integer primary key, path text not null, title text not null, size integer not null,
            added_at integer not null, sha256 text not null, probe text not null);
        create index ledger_target on ledger (target);
        insert into last values (0);
    """)
    db.executemany("insert into account values (?, 0)", ((n,) for n in range(ACCOUNTS)))

    # Few texts that come again far apart: no compressor's window spans them all.
    texts = [subtitles(n) for n in range(512)] if kind == "text" else []

    def covers():
        for n in range(megabytes * 16):
            if kind == "text":
                yield n, "Subtitles %d" % n, texts[n % len(texts)]
                continue
            block = hashlib.sha256(b"%d" % n).digest()
            # Half noise, half repetition: it compresses about as well as real data.
            noise = b"".join(hashlib.sha256(block + b"%d" % i).digest() for i in range(960))
            yield n, "Cover %d" % n, noise + block * 960

    if kind == "rows":
        db.executemany("insert into file values (?, ?, ?, ?, ?, ?, ?)", library(megabytes * 2200))
        db.execute("create index file_path on file (path)")
    else:
        db.executemany("insert into cover values (?, ?, ?)", covers())
    db.commit()
    db.execute("pragma wal_checkpoint(truncate)")
    db.close()


def write(path, pause_ms=2):
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    db.execute("pragma synchronous = normal")
    count = 0
    while not stopped:
        db.execute("begin immediate")
        last = db.execute("select ledger_id from last").fetchone()[0]
        for n in range(20):
            source, target, amount = random.randrange(ACCOUNTS), random.randrange(ACCOUNTS), random.randrange(1000)
            db.execute("update account set balance = balance - ? where id = ?", (amount, source))
            db.execute("update account set balance = balance + ? where id = ?", (amount, target))
            last += 1
            db.execute("insert into ledger values (?, ?, ?, ?, ?)", (last, source, target, amount, "x" * 200))
        db.execute("update last set ledger_id = ?", (last,))
        db.execute("commit")
        if not count:
            print("writing", flush=True)
        count += 1
        time.sleep(pause_ms / 1000)
    db.close()
    print(count)


def check(path):
    if not os.path.exists(path):
        sys.exit("no such file: " + path)
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
    integrity = db.execute("pragma integrity_check").fetchone()[0]
    total = db.execute("select sum(balance) from account").fetchone()[0]
    lines, first, highest = db.execute("select count(*), min(id), max(id) from ledger").fetchone()
    last = db.execute("select ledger_id from last").fetchone()[0]
    covers = hashlib.sha256()
    for row in db.execute("select id, title, image from cover order by id"):
        covers.update(repr(row[:2]).encode() + row[2])
    for row in db.execute("select * from file order by id"):
        covers.update(repr(row).encode())
    whole = integrity == "ok" and total == 0 and lines == last and (lines == 0 or (first, highest) == (1, last))
    print("integrity %s, balances sum to %s, %s ledger lines of %s, content %s"
          % (integrity, total, lines, last, covers.hexdigest()[:16]))
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    command, path = sys.argv[1], sys.argv[2]
    if command == "create":
        create(path, int(sys.argv[3]), *sys.argv[4:5])
    elif command == "write":
        write(path, *map(float, sys.argv[3:4]))
    elif command == "check":
        check(path)
    else:
        sys.exit(__doc__)
