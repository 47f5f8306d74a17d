#!/usr/bin/env python3
"""What benches/end_to_end/redis_log.sh does with servers, receivers and a journal; see there."""
import datetime
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from faulty import Faulty, proxy

STAGE, WIREVAULT, PROGRAM = os.environ["STAGE"], os.environ["WIREVAULT"], os.environ["PROGRAM"]
ROOT, PLACE = os.environ["ROOT"], os.environ["PLACE"]
RANDOM = random.Random(int(os.environ.get("SEED", "1")))
STORE = os.environ["S3_ENDPOINT"]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Client:
    """Speaks RESP."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")

    def send(self, *commands):
        out = b""
        for command in commands:
            words = [word.encode() if isinstance(word, str) else word for word in command]
            out += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(out)

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server is gone")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            if rest == b"-1":
                return None
            data = self.file.read(int(rest) + 2)
            return data[:-2].decode()
        if kind == b"*":
            return [self.read() for _ in range(max(0, int(rest)))]
        return int(rest) if kind == b":" else rest.decode()

    def ask(self, *command):
        self.send(command)
        return self.read()


class Server:
    """A server with a directory of its own."""

    children = []

    def __init__(self, name, port=None):
        self.name, self.port, self.child = name, port or free_port(), None
        self.directory = f"{PLACE}/{name}"
        os.makedirs(self.directory, exist_ok=True)

    def start(self, *more):
        inside = self.directory[len(ROOT):] if ROOT else self.directory
        chroot = ["chroot", ROOT] if ROOT else []
        words = [*chroot, PROGRAM, "--port", str(self.port), "--dir", inside, "--bind", "127.0.0.1", "--save", "", "--repl-backlog-size", "256mb",
                 "--repl-diskless-sync-delay", "0", *more]
        self.child = subprocess.Popen(words, stdout=open(f"{STAGE}/{self.name}.log", "a"), stderr=subprocess.STDOUT)
        Server.children.append(self.child)
        while True:
            assert self.child.poll() is None, open(f"{STAGE}/{self.name}.log").read()[-2000:]
            try:
                if Client(self.port).ask("PING") == "PONG":
                    return self
            except (OSError, RuntimeError):
                time.sleep(0.05)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def offset(self):
        info = Client(self.port).ask("INFO", "replication")
        return int(next(line for line in info.splitlines() if line.startswith("master_repl_offset:")).split(":")[1])

    def url(self):
        return f"redis://127.0.0.1:{self.port}"


class Writer(threading.Thread):
    """Writes numbered keys, each with a count in one transaction; keeps when each was asked for and acknowledged."""

    def __init__(self, server, first=1, rate=400.0):
        super().__init__(daemon=True)
        self.client, self.first, self.rate, self.going = Client(server.port), first, rate, True
        self.asked, self.acknowledged = {}, {}

    def run(self):
        number, begun = self.first, time.monotonic()
        try:
            while self.going:
                wait = begun + (number - self.first) / self.rate - time.monotonic()
                if wait > 0:
                    time.sleep(min(wait, 0.2))
                    continue
                self.asked[number] = time.time()
                # Every third with a time to live, which the stream has as a moment.
                ttl = ("PX", "3600000") if number % 3 == 0 else ()
                self.client.send(("MULTI",), ("SET", f"k:{number}", "x" * 100, *ttl), ("INCR", "count"), ("EXEC",))
                answer = [self.client.read() for _ in range(4)][3]
                assert answer[1] == number, f"{number}: {answer}"
                self.acknowledged[number] = time.time()
                number += 1
        except (OSError, ConnectionError):
            pass

    def end(self):
        self.going = False
        self.join()
        return max(self.acknowledged, default=self.first - 1)


def tool(*words, code=0):
    done = subprocess.run([WIREVAULT, *words], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def place(endpoint=STORE):
    return ["--repository", "s3://bucket/app", "--endpoint", endpoint]


def receive(server, endpoint=STORE):
    log = open(f"{STAGE}/receiver.log", "a")
    words = [WIREVAULT, "log", "receive", server.url(), *place(endpoint), "--spool-dir", f"{STAGE}/spool"]
    child = subprocess.Popen(words, stdout=log, stderr=log)
    Server.children.append(child)
    return child


def stream():
    """The log of the one source."""
    streams = json.loads(tool("log", "show", *place(), "--json"))["streams"]
    return streams[0] if streams else None


def acknowledged_to(server):
    """The offset that the receiver has confirmed to the server: what the store has."""
    for line in Client(server.port).ask("INFO", "replication").splitlines():
        if line.startswith("slave") and "offset=" in line and "port=0" in line:
            return int(dict(part.split("=") for part in line.split(":", 1)[1].split(","))["offset"])
    return -1


def wait(what, condition, receiver, seconds=600):
    begun = time.monotonic()
    while not condition():
        log = open(f"{STAGE}/receiver.log").read()[-3000:]
        assert time.monotonic() - begun < seconds and receiver.poll() is None, f"waited in vain: {what}\n{log}"
        time.sleep(0.1)


def restored(name, *flags):
    """Restores, starts a server on it, and returns what it holds."""
    server = Server(name)
    shutil.rmtree(server.directory)
    tool("restore", "latest", "--source", "redis", "--into", server.directory, *flags, *place())
    server.start("--appendonly", "yes")
    client = Client(server.port)
    while "loading:1" in client.ask("INFO", "persistence"):
        time.sleep(0.05)
    count, size = int(client.ask("GET", "count") or 0), client.ask("DBSIZE")
    last, next_one = client.ask("EXISTS", f"k:{count}"), client.ask("EXISTS", f"k:{count + 1}")
    server.kill()
    shutil.rmtree(server.directory)
    # A prefix: every key up to the count, and none behind it.
    whole = size == count + (count > 0) and last == (count > 0) and next_one == 0
    return count, whole


def at(moment):
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moments():
    count, each = int(os.environ.get("MOMENTS", "20")), float(os.environ.get("SECONDS_EACH", "20"))
    server = Server("primary").start()
    tool("init", "--no-encryption", *place())
    receiver = receive(server)
    writer = Writer(server)
    wait("the receiver has a snapshot", lambda: json.loads(tool("list", *place(), "--json"))["snapshots"], receiver)
    writer.start()
    # Before the first time mark there is no moment, and there is one for each second in which something came.
    begun = time.time() + 2.5
    time.sleep(each)
    tool("backup", server.url(), *place())
    time.sleep(each)
    last = writer.end()
    end = time.time()
    wait("everything is stored", lambda: acknowledged_to(server) >= server.offset(), receiver)
    receiver.send_signal(signal.SIGTERM)
    assert receiver.wait() == 0, open(f"{STAGE}/receiver.log").read()[-2000:]
    server.kill()
    right, furthest = 0, 0.0
    for moment in sorted(RANDOM.uniform(begun, end - 1) for _ in range(count)):
        started = time.monotonic()
        found, whole = restored("copy", "--at", at(moment))
        seconds = time.monotonic() - started
        asked = sum(1 for when in writer.asked.values() if when <= moment)
        # The first command that is not there was done so long before the moment; nothing later is there.
        distance = max(0.0, moment - writer.acknowledged.get(found + 1, moment))
        good = whole and found <= asked and distance <= 1
        right, furthest = right + good, max(furthest, distance)
        print(f"{at(moment)}: {found} keys, {asked} were asked for by then, {distance:.2f} s before, {seconds:.1f} s{'' if good else ' WRONG'}", flush=True)
    print(f"{right} of {count} moments hold a prefix of {last} transactions, at most {furthest:.2f} s before the moment")
    assert right == count


def kills():
    count, away = int(os.environ.get("KILLS", "30")), float(os.environ.get("AWAY", "600"))
    random.seed(int(os.environ.get("SEED", "1")))
    endpoint = proxy()
    tool("init", "--no-encryption", *place())
    Faulty.fail = float(os.environ.get("FAIL", "0.05"))
    primary, replica = Server("primary").start(), Server("replica").start()
    Client(replica.port).ask("REPLICAOF", "127.0.0.1", str(primary.port))
    receiver = receive(primary, endpoint)
    wait("the receiver has a snapshot", lambda: json.loads(tool("list", *place(), "--json"))["snapshots"], receiver)
    current, writer = primary, Writer(primary)
    writer.start()
    for number in range(count):
        time.sleep(0.5 + RANDOM.random() * 4)
        receiver.kill()
        receiver.wait()
        if number == count // 3:
            print(f"the store is gone for {away:.0f} s", flush=True)
            receiver = receive(current, endpoint)
            time.sleep(3)
            Faulty.away = True
            time.sleep(away)
            Faulty.away = False
            time.sleep(5)
            receiver.kill()
            receiver.wait()
        if number == count // 2:
            first = writer.end()
            while replica.offset() < primary.offset():
                time.sleep(0.05)
            primary.kill()
            Client(replica.port).ask("REPLICAOF", "NO", "ONE")
            print(f"promoted behind key {first}", flush=True)
            current = replica
            writer = Writer(replica, first=first + 1)
            writer.start()
        receiver = receive(current, endpoint)
    last = writer.end()
    wait("everything is stored", lambda: acknowledged_to(current) >= current.offset(), receiver)
    receiver.send_signal(signal.SIGTERM)
    assert receiver.wait() == 0, open(f"{STAGE}/receiver.log").read()[-2000:]
    log = stream()
    print(f"{count} kills, {Faulty.failed} of {Faulty.failed + Faulty.passed} requests failed; {json.dumps(log)[:600]}")
    tool("log", "verify", *place())
    found, whole = restored("copy", "--at", "latest")
    print(f"{found} keys, {last} were acknowledged")
    assert whole and found in (last, last + 1) and not log["gaps"]


try:
    {"moments": moments, "kills": kills}[sys.argv[1]]()
finally:
    for child in Server.children:
        child.kill()
