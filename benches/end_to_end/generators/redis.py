#!/usr/bin/env python3
"""Random keys of every type in Redis 7, Redis 8 and Valkey 9, brought from each to each, by PSYNC and by SCAN; compared by what the servers say.

Two servers of one kind must also have the same DEBUG DIGEST. Needs the servers of tests/servers/setup.sh; 8 and 9 need root.
"""
import os
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import Failure, Generator, servers

FAR = 4102444800000
WAYS = {"new": 1.0, "clean": 0.3, "skip": 0.3, "replace": 0.2, "file": 0.25, "verify": 0.3, "key": 0.2}


class Refused(Exception):
    pass


class Client:
    """RESP2 over a Unix socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def __call__(self, *args):
        parts = [a if isinstance(a, bytes) else str(a).encode("utf-8", "surrogateescape") for a in args]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        answer = self.read()
        if isinstance(answer, Refused):
            raise answer
        return answer

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refused(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise Failure("oracle: the server speaks strangely", repr(line))


class Server:
    def __init__(self, kind, number, env, stage):
        root = env.get("WIREVAULT_TEST_REDIS_ROOT")
        self.kind = kind
        if kind == "redis7":
            self.prefix, self.program, root = [], env["WIREVAULT_TEST_REDIS7"], ""
        else:
            self.prefix, self.program = ["chroot", root], f"/usr/bin/{'redis' if kind == 'redis8' else 'valkey'}-server"
        self.place = os.path.join(root + "/tmp" if root else stage, f"{os.path.basename(stage)}-{kind}-{number}")
        os.makedirs(self.place)
        self.inside = self.place[len(root):]
        self.child = None
        self.start()

    def start(self):
        options = ["--port", "0", "--unixsocket", f"{self.inside}/s", "--save", "", "--dir", self.inside, "--enable-debug-command", "yes", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        with open(f"{self.place}/log", "ab") as log:
            self.child = subprocess.Popen([*self.prefix, self.program, *options], stdout=log, stderr=log)
        for _ in range(600):
            try:
                self.call = Client(f"{self.place}/s")
                if self.call("PING") == b"PONG":
                    return
            except (OSError, Refused):
                pass
            time.sleep(0.02)
        raise SystemExit(f"{self.kind} does not start: {self.place}/log")

    def stop(self):
        self.child.kill()
        self.child.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.place, ignore_errors=True)

    def url(self):
        return f"unix://{self.place}/s"

    def clear(self):
        self.call("SELECT", 0)
        self.call("FLUSHALL")
        self.call("FUNCTION", "FLUSH")
        for user in self.call("ACL", "USERS"):
            if user != b"default":
                self.call("ACL", "DELUSER", user)

    def state(self, pattern=b"*"):
        """Every key with its type, expiry and content, in an order of its own."""
        call, found = self.call, {}
        for database in range(16):
            call("SELECT", database)
            for key in call("KEYS", pattern):
                kind = call("TYPE", key)
                entry = [kind, call("PEXPIRETIME", key)]
                if kind == b"string":
                    entry.append(call("GET", key))
                elif kind == b"list":
                    entry.append(call("LRANGE", key, 0, -1))
                elif kind == b"set":
                    entry.append(sorted(call("SMEMBERS", key)))
                elif kind == b"zset":
                    # 0.1 is printed as 0.10000000000000001 by Redis 7.
                    flat = call("ZRANGE", key, 0, -1, "WITHSCORES")
                    entry.append(list(zip(flat[::2], map(float, flat[1::2]))))
                elif kind == b"hash":
                    flat = call("HGETALL", key)
                    entry.append(sorted(zip(flat[::2], flat[1::2])))
                    try:
                        fields = sorted(flat[::2])
                        entry.append(call("HPEXPIRETIME", key, "FIELDS", len(fields), *fields))
                    except Refused:
                        entry.append([-1] * (len(flat) // 2))
                elif kind == b"stream":
                    entry.append(call("XRANGE", key, "-", "+"))
                    entry.append(self.stream(key))
                else:
                    entry.append(call("DUMP", key))
                found[(database, key)] = entry
        call("SELECT", 0)
        return found

    def stream(self, key):
        def pairs(flat):
            return dict(zip(flat[::2], flat[1::2]))

        info = pairs(self.call("XINFO", "STREAM", key, "FULL", "COUNT", 0))
        result = [info.get(name) for name in (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added", b"recorded-first-entry-id")]
        for group in info.get(b"groups", []):
            group = pairs(group)
            result.append([group.get(name) for name in (b"name", b"last-delivered-id", b"entries-read", b"pel-count")])
            pending = sorted((one[0], one[1], one[3]) for one in group.get(b"pending", []))
            result.append(pending)
            result.append(sorted(pairs(consumer)[b"name"] for consumer in group.get(b"consumers", [])))
        return result

    def functions(self):
        libraries = [dict(zip(one[::2], one[1::2])) for one in self.call("FUNCTION", "LIST", "WITHCODE")]
        return sorted((one[b"library_name"], one[b"library_code"]) for one in libraries)


class Redis(Generator):
    name = "redis"
    about = __doc__.splitlines()[0]
    shrink_seconds = 60

    def flags(self, flags):
        flags.add_argument("--way", help="this way alone: " + ", ".join(WAYS))

    def open(self):
        env = servers()
        self.kinds = ["redis7"]
        if env.get("WIREVAULT_TEST_REDIS_ROOT") and os.geteuid() == 0:
            self.kinds += ["redis8", "valkey9"]
        self.servers = {(kind, number): Server(kind, number, env, self.stage) for kind in self.kinds for number in (0, 1)}

    def close(self):
        for server in getattr(self, "servers", {}).values():
            server.close()

    def make(self, rng, number):
        source, target = rng.choice(self.kinds), rng.choice(self.kinds)
        keys = [f"k{i}" for i in range(rng.choice([2, 6, 25]))] + ["", "with space", "{tag}a", "new\nline", "é", "\udcff\x00", "x" * 300, "*", "[a]", "wirevault:x"]
        # One kind for each key, mostly: what a command refuses is left out.
        kinds = {key: rng.choice(["string", "list", "set", "zset", "hash", "stream", "hll", "bits", "geo"]) for key in keys}

        def word():
            return rng.choice(["", "a", "b", "c", str(rng.randint(-(2**63), 2**63 - 1)), str(rng.randint(-200, 200)), "x" * rng.choice([5, 63, 64, 65, 300]), "\udcff\x00\udc80", "é", "1.5", "-0", "nan", "ab" * 4000 if rng.random() < 0.1 else "z", "3000000000", "0012", " 5"])

        commands = []
        for _ in range(rng.choice([3, 20, 120])):
            key = rng.choice(keys)
            kind = kinds[key] if rng.random() < 0.95 else rng.choice(list(kinds.values()))
            what = {
                "string": lambda: [rng.choice([["SET", key, word()], ["APPEND", key, word()], ["SETRANGE", key, rng.choice([0, 5, 5000]), word()], ["INCR", key], ["INCRBYFLOAT", key, "0.1"], ["SET", key, "v" * rng.choice([20000, 300000])] if rng.random() < 0.1 else ["SET", key, "q"]])],
                "list": lambda: [[rng.choice(["RPUSH", "LPUSH"]), key, *[word() for _ in range(rng.choice([1, 3, 40]))]], *([["LTRIM", key, 1, -2]] if rng.random() < 0.2 else [])],
                "set": lambda: [["SADD", key, *[word() if rng.random() < 0.4 else str(rng.randint(0, 99999)) for _ in range(rng.choice([1, 3, 40, 600]))]], *([["SPOP", key]] if rng.random() < 0.2 else [])],
                "zset": lambda: [["ZADD", key, *[part for _ in range(rng.choice([1, 3, 40, 200])) for part in (rng.choice(["inf", "-inf", "0", "1.5", "1e300", "5e-324", "0.1", str(rng.randint(-99, 99))]), word())]]],
                "hash": lambda: [["HSET", key, *[part for _ in range(rng.choice([1, 3, 40, 600])) for part in (word(), word())]], *([["HPEXPIREAT", key, FAR + rng.randint(0, 10**6), "FIELDS", 2, word(), "a"]] if source != "redis7" and rng.random() < 0.5 else [])],
                "stream": lambda: [rng.choice([
                    ["XADD", key, "*" if rng.random() < 0.3 else f"{rng.randint(1, 9)}-{rng.randint(0, 99)}", *[word() for _ in range(rng.choice([2, 2, 4, 8]))]], ["XADD", key, "MAXLEN", "~", "5", "*", "f", word()], ["XGROUP", "CREATE", key, word() or "g", rng.choice(["0", "$", "2-1"]), "MKSTREAM"],
                    ["XGROUP", "CREATE", key, "g", "0", "MKSTREAM"], ["XREADGROUP", "GROUP", "g", rng.choice(["alice", "bob", ""]), "COUNT", 2, "STREAMS", key, ">"], ["XDEL", key, f"{rng.randint(1, 9)}-{rng.randint(0, 99)}"], ["XTRIM", key, "MAXLEN", rng.choice([0, 1, 3])],
                    ["XSETID", key, "99-99"], ["XACK", key, "g", "1-1", "2-1"], ["XGROUP", "CREATECONSUMER", key, "g", "idle one"], ["XGROUP", "SETID", key, "g", "0"], ["XAUTOCLAIM", key, "g", "bob", 0, "0"], ["XADD", key, "NOMKSTREAM", "*", "a", "b"],
                ])],
                "hll": lambda: [["PFADD", key, *[str(rng.random()) for _ in range(rng.choice([1, 30, 3000]))]]],
                "bits": lambda: [["SETBIT", key, rng.choice([0, 7, 100, 100000]), 1], ["BITFIELD", key, "SET", "i5", "#3", "-9"]],
                "geo": lambda: [["GEOADD", key, rng.uniform(-180, 180), rng.uniform(-85, 85), word()]],
            }[kind]()
            commands += what
            if rng.random() < 0.15:
                commands.append(["PEXPIREAT", key, FAR + rng.randint(0, 10**9)])
            if rng.random() < 0.05:
                commands.append(rng.choice([["DEL", key], ["RENAME", key, rng.choice(keys)], ["PERSIST", key], ["COPY", key, rng.choice(keys), "REPLACE"], ["PEXPIREAT", key, 1], ["MOVE", key, rng.randint(0, 15)], ["OBJECT", "FREQ", key]]))
            if rng.random() < 0.06:
                commands.append(["SELECT", rng.choice([0, 0, 1, 9, 15])])
            if rng.random() < 0.04:
                commands.append(["CONFIG", "SET", rng.choice(["list-max-listpack-size", "set-max-intset-entries", "zset-max-listpack-entries", "hash-max-listpack-entries", "zset-max-listpack-value", "hash-max-listpack-value", "set-max-listpack-entries", "list-compress-depth", "stream-node-max-entries"]), rng.choice([1, 2, 128])])
            if source == "redis8" and rng.random() < 0.01:
                commands.append(["VADD", "vec", "VALUES", 3, 0.1, 0.2, 0.3, "element"])
        for n in range(rng.choice([0, 0, 1, 3])):
            commands.append(["FUNCTION", "LOAD", f"#!lua name=lib{n}\nredis.register_function('f{n}', function() return '{word()[:20].encode('ascii', 'ignore').decode().replace(chr(0), '')}' end)"])
        return {"source": source, "target": target, "commands": commands, "method": rng.choice(["psync", "psync", "scan", "acl"]), "ways": [w for w, p in WAYS.items() if (rng.random() < p if not self.args.way else w == self.args.way)],
                "other": [["SET", "other", "1"], ["RPUSH", "k1", "theirs"], ["SET", "k0", "theirs"], ["SELECT", 3], ["SADD", "far", "x"], ["SELECT", 0]], "parallel": rng.randint(1, 4)}

    def parts(self, history):
        return [history["ways"], history["commands"]]

    def describe(self, history):
        return f"{history['source']} to {history['target']} by {history['method']}, {len(history['commands'])} commands, {' '.join(history['ways'])}"

    def give(self, server, commands):
        server.call("SELECT", 0)
        for command in commands:
            try:
                server.call(*command)
            except Refused:
                pass
        server.call("SELECT", 0)

    def compare(self, what, expected, got, excused, said):
        wrong = []
        for key in sorted({**expected, **got}, key=repr):
            a, b = expected.get(key), got.get(key)
            if a != b and not (b is None and key in excused):
                wrong.append(f"{key}: {repr(a)[:500]}\n    became {repr(b)[:500]}")
        if wrong:
            kinds = sorted({(expected.get(k) or got.get(k))[0].decode() for k in {**expected, **got} if expected.get(k) != got.get(k)})
            raise Failure(f"{what}: differs in {', '.join(kinds)}", "\n".join(wrong[:8]) + "\n" + said)

    def play(self, history):
        source, target = self.servers[history["source"], 0], self.servers[history["target"], 1]
        for server in (source, target):
            server.clear()
        configs = dict(zip(*[iter(source.call("CONFIG", "GET", "*max*listpack*") + source.call("CONFIG", "GET", "set-max-intset-entries") + source.call("CONFIG", "GET", "list-compress-depth"))] * 2))
        try:
            self.give(source, history["commands"])
            time.sleep(0.005)
            expected, functions = source.state(), source.functions()
            digest = source.call("DEBUG", "DIGEST")
            self.run(history, source, target, expected, functions, digest)
        finally:
            for name, value in configs.items():
                try:
                    source.call("CONFIG", "SET", name, value)
                except Refused:
                    pass

    def run(self, history, source, target, expected, functions, digest):
        repository = "file://" + self.fresh("repository")
        url = source.url()
        env = {}
        if history["method"] == "acl":
            source.call("ACL", "SETUSER", "default", "-psync", "-sync")
        elif history["method"] == "scan":
            url += "?method=scan"
        try:
            done = self.wire("backup", url, "--to", repository, env=env)
        finally:
            source.call("ACL", "SETUSER", "default", "+@all")
        if source.state() != expected:
            raise Failure("a backup changes its source", done.said())
        self.wire("verify", "latest", "--from", repository)
        # What a target cannot hold is named, and is no fault.
        excused = set()
        if history["target"] != history["source"]:
            if history["target"] == "redis7":
                excused = {k for k, v in expected.items() if v[0] == b"hash" and any(t != -1 for t in v[3])}
            excused |= {k for k, v in expected.items() if v[0] == b"vectorset"}
        codes = (2,) if excused else (0,)
        for way in history["ways"]:
            target.clear()
            if way == "new":
                done = self.restore(target, repository, codes)
                self.compare("restore", expected, target.state(), excused, done.said())
                if target.functions() != functions:
                    raise Failure("restore: other functions", f"{functions}\n{target.functions()}\n{done.said()}")
                if history["source"] == history["target"] and target.call("DEBUG", "DIGEST") != digest:
                    raise Failure("restore: another DEBUG DIGEST", done.said())
            elif way == "clean":
                self.give(target, history["other"])
                done = self.restore(target, repository, codes, "--clean")
                self.compare("restore --clean", expected, target.state(), excused, done.said())
                if target.functions() != functions:
                    raise Failure("restore --clean: other functions", f"{functions}\n{target.functions()}\n{done.said()}")
            elif way in ("skip", "replace"):
                self.give(target, history["other"])
                before = target.state()
                done = self.restore(target, repository, codes, "--conflict", way)
                merged = {**expected, **before} if way == "skip" else {**before, **expected}
                if way == "replace":
                    merged |= {k: before[k] for k in excused if k in before}
                self.compare(f"restore --conflict {way}", merged, target.state(), excused, done.said())
            elif way == "key":
                done = self.restore(target, repository, (0, 2) if excused else (0,), "--key", "k*")
                chosen = {k: v for k, v in expected.items() if k[1].startswith(b"k")}
                self.compare("restore --key", chosen, target.state(), excused, done.said())
            elif way == "verify":
                self.wire("verify", "latest", "--level", "restored", "--into", target.url(), "--from", repository, codes=(0, 2) if excused else (0,), kind="verify --level restored")
                if target.state():
                    raise Failure("verify --level restored leaves keys", repr(sorted(target.state()))[:1000])
            elif way == "file":
                other = self.servers[history["source"], 1]
                other.clear()
                other.stop()
                done = self.wire("restore", "latest", "--into", f"file:{other.place}/dump.rdb", "--clean", "--from", repository, kind="restore into a file", codes=(0, 1, 2))
                if history["source"] != "redis7" and os.path.exists(f"{other.place}/dump.rdb"):
                    os.chmod(f"{other.place}/dump.rdb", 0o644)
                other.start()
                if done.code == 0:
                    self.compare("a server on the restored file", expected, other.state(), set(), done.said())
                else:
                    raise Failure(f"restore into a file: exit code {done.code}", done.said())
                other.clear()
                if os.path.exists(f"{other.place}/dump.rdb"):
                    os.unlink(f"{other.place}/dump.rdb")

    def restore(self, target, repository, codes, *flags):
        return self.wire("restore", "latest", "--into", target.url(), "--from", repository, *flags, codes=codes, kind="restore" + "".join(f" {f}" for f in flags))


if __name__ == "__main__":
    sys.exit(Redis().main())
