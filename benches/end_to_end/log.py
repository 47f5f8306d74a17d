#!/usr/bin/env python3
"""What benches/end_to_end/log.sh does with servers, receivers and a journal; see there."""
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from faulty import Faulty, proxy

STAGE, PROGRAM, PG_BIN = os.environ["STAGE"], os.environ["WIREVAULT"], os.environ["PG_BIN"]
SEED = int(os.environ.get("SEED", "1"))
RANDOM = random.Random(SEED)
ROOT = os.geteuid() == 0


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# Servers of another installation live in a chroot, and the program with them; the stage lies below it.
CHROOT = os.environ.get("PG_ROOT", "")
OUTSIDE = CHROOT + STAGE


def as_server(*words):
    chroot = ["chroot", CHROOT] if CHROOT else []
    return chroot + (["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] if ROOT else []) + list(words)


class Server:
    """A cluster in the stage."""

    def __init__(self, name):
        self.name, self.port = name, free_port()
        self.data = f"{STAGE}/{name}"

    def run(self, program, *words):
        done = subprocess.run(as_server(f"{PG_BIN}/{program}", *words), capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, f"{program} {words}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def log(self):
        try:
            return "".join(open(f"{OUTSIDE}/{self.name}.log", errors="replace").readlines()[-30:])
        except FileNotFoundError:
            return ""

    def make(self):
        self.run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "--wal-segsize=1", "-D", self.data)

    def copy_of(self, other):
        subprocess.run(as_server("cp", "-a", other.data, self.data), check=True)

    def standby_of(self, other):
        self.run("pg_basebackup", "-h", "127.0.0.1", "-p", str(other.port), "-U", "postgres", "-c", "fast", "-X", "stream", "-R", "--no-sync", "-D", self.data)

    def start(self):
        options = f"-p {self.port} -k {STAGE} -c listen_addresses=127.0.0.1 -c max_wal_size=2GB -c wal_keep_size=1GB"
        words = as_server(f"{PG_BIN}/pg_ctl", "-w", "-t", "300", "-o", options, "-l", f"{STAGE}/{self.name}.log", "-D", self.data, "start")
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", env=dict(os.environ))
        assert done.returncode == 0, self.log()

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-w", "-m", mode, "-D", self.data, "stop")

    def kill(self):
        pid = int(open(f"{CHROOT}{self.data}/postmaster.pid").readline())
        os.killpg(os.getpgid(pid), signal.SIGKILL) if os.getpgid(pid) == pid else os.kill(pid, signal.SIGKILL)

    def promote(self):
        self.run("pg_ctl", "-w", "-t", "300", "-D", self.data, "promote")

    def sql(self, text):
        return self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", "postgres", "-c", text).strip()

    def recover(self, *lines):
        fetch = f"{PROGRAM} log fetch %f %p --from s3://bucket/app --endpoint {os.environ['S3_ENDPOINT']}"
        with open(f"{CHROOT}{self.data}/postgresql.conf", "a") as conf:
            conf.write(f"restore_command = '{fetch}'\n" + "".join(line + "\n" for line in lines))
        subprocess.run(as_server("touch", f"{self.data}/recovery.signal"), check=True)
        self.start()
        while self.sql("SELECT pg_is_in_recovery()") == "t":
            time.sleep(0.05)

    def url(self, *others):
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self, *others))
        return f"postgres-physical://postgres@{hosts}?sslmode=disable"


class Writer(threading.Thread):
    """Writes numbered rows, one a transaction, at most so many a second; keeps when each was asked for and acknowledged."""

    def __init__(self, server, first=1, rate=None):
        super().__init__(daemon=True)
        self.rate, self.first, self.going = rate, first, True
        self.asked, self.acknowledged = {}, {}
        self.psql = subprocess.Popen(
            [*as_server(f"{PG_BIN}/psql"), "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", "postgres"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)

    def run(self):
        number, begun = self.first, time.monotonic()
        try:
            while self.going:
                if self.rate:
                    wait = begun + (number - self.first) / self.rate - time.monotonic()
                    if wait > 0:
                        time.sleep(min(wait, 0.2))
                        continue
                self.asked[number] = time.monotonic()
                self.psql.stdin.write(f"INSERT INTO journal VALUES ({number}, repeat('x', 300)) RETURNING n;\n")
                self.psql.stdin.flush()
                if self.psql.stdout.readline().strip() != str(number):
                    break
                self.acknowledged[number] = time.monotonic()
                number += 1
        except (BrokenPipeError, ValueError):
            pass

    def end(self):
        self.going = False
        self.join()
        self.psql.kill()
        self.psql.wait()
        return max(self.acknowledged, default=self.first - 1)


def program(*words, code=0):
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def repository(endpoint):
    return ["--to", "s3://bucket/app", "--endpoint", endpoint]


def receive(url, endpoint):
    log = open(f"{STAGE}/receiver.log", "a")
    return subprocess.Popen([PROGRAM, "log", "receive", url, *repository(endpoint), "--spool-dir", f"{STAGE}/spool"], stdout=log, stderr=log)


def show():
    import json
    return json.loads(program("log", "show", *repository(os.environ["S3_ENDPOINT"]), "--json"))["logs"][0]


def stored_to():
    windows = show()["windows"]
    high, low = windows[-1]["to"].split("/") if windows else ("0", "0")
    return int(high, 16) << 32 | int(low, 16)


def position(server, function):
    high, low = server.sql(f"SELECT {function}()").split("/")
    return int(high, 16) << 32 | int(low, 16)


def new_primary():
    primary = Server("primary")
    primary.make()
    primary.start()
    primary.sql("CREATE TABLE journal (n int PRIMARY KEY, filler text)")
    primary.stop()
    return primary


def fresh_repository(endpoint):
    for name in os.listdir(f"{STAGE}/s3/bucket"):
        subprocess.run(["rm", "-rf", f"{STAGE}/s3/bucket/{name}"], check=True)
    subprocess.run(["rm", "-rf", f"{STAGE}/state"], check=True)
    program("init", "--no-encryption", *repository(endpoint))


def clean():
    for name in ("primary", "standby", "copy", "other"):
        subprocess.run(["rm", "-rf", f"{STAGE}/{name}"], check=True)


def loss():
    repeat, seconds = int(os.environ.get("REPEAT", "3")), float(os.environ.get("SECONDS_EACH", "12"))
    endpoint = os.environ["S3_ENDPOINT"]
    print("rate/s  transactions  lost  oldest lost row, seconds before the moment")
    for rate in (1, 100, None):
        for _ in range(repeat):
            clean()
            fresh_repository(endpoint)
            primary, copy = new_primary(), Server("copy")
            copy.copy_of(primary)
            primary.start()
            receiver = receive(primary.url(), endpoint)
            writer = Writer(primary, rate=rate)
            writer.start()
            time.sleep(seconds + RANDOM.random() * 3)
            receiver.kill()
            moment = time.monotonic()
            primary.kill()
            last = writer.end()
            receiver.wait()
            copy.recover()
            found = int(copy.sql("SELECT coalesce(max(n), 0) FROM journal"))
            whole = copy.sql("SELECT count(*) = coalesce(max(n), 0) FROM journal")
            copy.stop("immediate")
            assert whole == "t", "a row in the middle is missing"
            acknowledged = [when for number, when in writer.acknowledged.items() if number > found and when <= moment]
            age = moment - min(acknowledged) if acknowledged else 0
            print(f"{rate or 'max':>6}  {last:>12}  {max(0, last - found):>4}  {age:.2f}", flush=True)
            assert age <= 5, "more than five seconds are lost"


def kills():
    count, away = int(os.environ.get("KILLS", "30")), float(os.environ.get("AWAY", "600"))
    random.seed(SEED)
    clean()
    endpoint = proxy()
    fresh_repository(os.environ["S3_ENDPOINT"])
    Faulty.fail = float(os.environ.get("FAIL", "0.05"))
    primary, standby, copy, other = new_primary(), Server("standby"), Server("copy"), Server("other")
    copy.copy_of(primary)
    other.copy_of(primary)
    primary.start()
    url = primary.url(standby)
    receiver = receive(url, endpoint)
    # The slot is to begin where the copies do, before the checkpoint that a base backup makes.
    while primary.sql("SELECT count(*) FROM pg_replication_slots") == "0":
        time.sleep(0.05)
    standby.standby_of(primary)
    standby.start()
    writer = Writer(primary)
    writer.start()
    current, first_rows = primary, None
    for number in range(count):
        time.sleep(0.5 + RANDOM.random() * 4)
        receiver.kill()
        receiver.wait()
        if number == count // 3:
            print(f"the store is gone for {away:.0f} s", flush=True)
            receiver = receive(url, endpoint)
            time.sleep(3)
            Faulty.away = True
            time.sleep(away)
            Faulty.away = False
            time.sleep(5)
            receiver.kill()
            receiver.wait()
        if number == count // 2:
            first_rows = writer.end()
            # What the old primary has sent by then the standby has, too.
            target = position(primary, "pg_current_wal_flush_lsn")
            while position(standby, "pg_last_wal_receive_lsn") < target:
                time.sleep(0.05)
            primary.kill()
            standby.promote()
            print(f"promoted behind row {first_rows}", flush=True)
            current = standby
            writer = Writer(standby, first=first_rows + 1)
            writer.start()
        receiver = receive(url, endpoint)
    last = writer.end()
    target = position(current, "pg_current_wal_flush_lsn")
    begun = time.monotonic()
    while stored_to() < target:
        assert time.monotonic() - begun < 600 and receiver.poll() is None, open(f"{STAGE}/receiver.log").read()[-3000:]
        time.sleep(0.5)
    receiver.send_signal(signal.SIGTERM)
    assert receiver.wait() == 0
    log = show()
    print(f"{count} kills, {Faulty.failed} of {Faulty.failed + Faulty.passed} requests failed; {log['segments']} segments, gaps {len(log['gaps'])}, "
          f"windows {[(w['first_timeline'], w['timeline'], w['from'], w['to']) for w in log['windows']]}")
    assert not log["gaps"]
    program("log", "verify", *repository(os.environ["S3_ENDPOINT"]))
    current.stop("immediate")
    for server, lines, expected in ((copy, (), last), (other, ("recovery_target_timeline = 'current'",), first_rows)):
        server.recover(*lines)
        found, rows = server.sql("SELECT max(n), count(*) FROM journal").split("|")
        server.stop("immediate")
        print(f"{server.name}: {rows} rows up to {found}, {expected} were acknowledged")
        # One may have been committed whose answer did not come.
        assert int(rows) == int(found) and int(found) in (expected, expected + 1)


def moments():
    """Random moments of a run, and an idle one behind it: exactly what was committed by then."""
    count = int(os.environ.get("MOMENTS", "20"))
    repository = f"{STAGE}/repository"

    def tool(*words):
        words = as_server("env", f"WIREVAULT_STATE_DIR={STAGE}/state", PROGRAM, *words)
        done = subprocess.run(words, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, f"{words}: exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    primary, back = Server("primary"), Server("back")
    primary.make()
    with open(f"{CHROOT}{primary.data}/postgresql.conf", "a") as conf:
        conf.write("track_commit_timestamp = on\n")
    primary.start()
    primary.sql("CREATE TABLE journal (n int PRIMARY KEY, filler text)")
    tool("init", "--no-encryption", "--to", repository)
    log = open(f"{STAGE}/receiver.log" if not CHROOT else f"{OUTSIDE}/receiver.log", "w")
    receiver = subprocess.Popen(as_server("env", f"WIREVAULT_STATE_DIR={STAGE}/state", PROGRAM, "log", "receive", primary.url(), "--to", repository), stdout=log, stderr=log)
    while primary.sql("SELECT count(*) FROM pg_replication_slots") == "0":
        time.sleep(0.05)
    writer = Writer(primary, rate=400)
    writer.start()
    for _ in range(3):
        time.sleep(float(os.environ.get("SECONDS_EACH", "12")))
        tool("backup", primary.url(), "--to", repository)
    last = writer.end()
    # Somebody else's transaction, so that the last one of the journal is behind something.
    target = position(primary, "pg_current_wal_flush_lsn")
    import json
    while True:
        windows = json.loads(tool("log", "show", "--from", repository, "--json"))["logs"][0]["windows"]
        high, low = windows[-1]["to"].split("/")
        if int(high, 16) << 32 | int(low, 16) >= target:
            break
        time.sleep(0.2)
    # Each row is one transaction; its commit record has the time.
    times = [line.split("|") for line in primary.sql("SELECT n, extract(epoch from pg_xact_commit_timestamp(xmin)) FROM journal ORDER BY 2").splitlines()]
    times = [(int(n), round(float(when) * 1_000_000)) for n, when in times]
    snapshots = json.loads(tool("list", "--from", repository, "--json"))["snapshots"]
    first = min(snapshot["finished"] for snapshot in snapshots)
    begun = float(primary.sql(f"SELECT extract(epoch from '{first}'::timestamptz)")) * 1_000_000
    chosen = sorted(RANDOM.randint(int(begun) + 1, times[-1][1]) for _ in range(count))
    right = 0
    for moment in chosen:
        expected = [n for n, when in times if when <= moment]
        text = primary.sql(f"SELECT to_char(timestamptz 'epoch' + {moment} * interval '1 microsecond', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'") if primary.sql("SHOW timezone") in ("UTC", "Etc/UTC") else primary.sql(f"SET timezone = 'UTC'; SELECT to_char(timestamptz 'epoch' + {moment} * interval '1 microsecond', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
        subprocess.run(["rm", "-rf", f"{OUTSIDE}/back"], check=True)
        started = time.monotonic()
        tool("restore", "latest", "--into", back.data, "--from", repository, "--at", text)
        back.start()
        while back.sql("SELECT pg_is_in_recovery()") == "t":
            time.sleep(0.05)
        found = back.sql("SELECT count(*), max(n) FROM journal")
        seconds = time.monotonic() - started
        back.stop("immediate")
        same = found == f"{len(expected)}|{max(expected)}"
        right += same
        print(f"{text}: {found.replace('|', ' rows up to ')}, expected {len(expected)} up to {max(expected)}, {seconds:.1f} s{'' if same else ' WRONG'}", flush=True)
    receiver.send_signal(signal.SIGTERM)
    print(f"{right} of {count} moments hold exactly what was committed by then, of {last} transactions")
    assert right == count


subprocess.run(as_server("mkdir", "-p", f"{STAGE}/spool"), check=True)
try:
    {"loss": loss, "kills": kills, "moments": moments}[sys.argv[1]]()
finally:
    for name in ("primary", "standby", "copy", "other"):
        subprocess.run(as_server(f"{PG_BIN}/pg_ctl", "-m", "immediate", "-D", f"{STAGE}/{name}", "stop"), capture_output=True, cwd="/")
