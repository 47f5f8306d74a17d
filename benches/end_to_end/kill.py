"""Kills backups at chosen moments and looks at what is left; or stops them beyond their lease. Called by kill.sh.

On S3 a small proxy stands before the server and sees each request, so a kill falls exactly into its window. On a
directory the kernel reports what happens in `.uploads`, where every write begins, and a kill is counted for the window
in which the files left behind show that it fell. The program needs no test hook for either.
"""
import ctypes
import json
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

WINDOWS = ("before Complete", "between Complete and manifest", "in the manifest write")


class Proxy:
    """Forwards bytes to the S3 server. `armed` is the window in which to strike next, or None."""

    def __init__(self, target):
        self.target = target
        self.armed = None
        self.completed = False
        self.countdown = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.strike = lambda: None
        threading.Thread(target=self.accept, daemon=True).start()

    def arm(self, window):
        self.completed = False
        # Between Complete and manifest lie several requests; each may be the last one.
        self.countdown = random.randrange(5)
        self.armed = window

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            server = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        threading.Thread(target=self.answers, args=(server, client), daemon=True).start()
        try:
            self.requests(client, server)
        except OSError:
            pass
        for end in (client, server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def answers(self, server, client):
        try:
            while data := server.recv(1 << 18):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def requests(self, client, server):
        """Request by request: the head whole, then as much body as its length says."""
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = client.recv(1 << 18)
                if not data:
                    return
                buffer += data
            head, buffer = buffer.split(b"\r\n\r\n", 1)
            lines = head.split(b"\r\n")
            method, path = lines[0].split(b" ")[:2]
            length = 0
            for line in lines[1:]:
                name, _, value = line.partition(b":")
                if name.strip().lower() == b"content-length":
                    length = int(value)
            if self.armed is not None and self.is_moment(method, path):
                # In the manifest write, half of the kills lose the request halfway, half only the answer.
                if self.armed == 2:
                    body = buffer
                    while len(body) < length:
                        body += client.recv(1 << 16)
                    part = body if random.random() < 0.5 else body[: random.randrange(length)]
                    server.sendall(head + b"\r\n\r\n" + part)
                    time.sleep(random.random() * 0.02)
                self.armed = None
                self.strike()
                return
            server.sendall(head + b"\r\n\r\n" + buffer[:length])
            left = length - len(buffer[:length])
            buffer = buffer[length:]
            while left:
                data = client.recv(min(left, 1 << 18))
                if not data:
                    return
                server.sendall(data)
                left -= len(data)

    def is_moment(self, method, path):
        """Whether to strike instead of forwarding this request."""
        complete = method == b"POST" and b"uploadId=" in path and b"/data/" in path
        manifest = method == b"PUT" and b"/snapshots/" in path
        if self.armed == 0:
            return complete or (b"partNumber=" in path and random.random() < 0.1)
        if self.armed == 2:
            return manifest
        if self.completed:
            self.countdown -= 1
            return manifest or self.countdown < 0
        self.completed = complete
        return False


class Watch:
    """Reports names that appear in and vanish from one directory, by inotify(7)."""

    CREATE, DELETE, MOVED_FROM = 0x100, 0x200, 0x40

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(os.O_CLOEXEC)
        mask = self.CREATE | self.DELETE | self.MOVED_FROM
        if self.descriptor < 0 or libc.inotify_add_watch(self.descriptor, folder.encode(), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify on " + folder)

    def events(self, run):
        """Yields (mask, name) until the process has ended."""
        while True:
            if not select.select([self.descriptor], [], [], 0.02)[0]:
                if run.poll() is not None:
                    return
                continue
            data, at = os.read(self.descriptor, 1 << 16), 0
            while at < len(data):
                _, mask, _, length = struct.unpack_from("iIII", data, at)
                yield mask, data[at + 16 : at + 16 + length].split(b"\0")[0].decode()
                at += 16 + length

    def close(self):
        os.close(self.descriptor)


class Campaign:
    def __init__(self, options):
        self.options = options
        self.vault, self.folder = options["vault"], options["folder"]
        self.environment = dict(os.environ)
        self.verified = set()
        self.commands = 0

    def command(self, *arguments, check=False):
        self.commands += 1
        line = [self.vault, *arguments, "--from", self.options["repository"]]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300)
        if check and done.returncode != 0:
            fail("%s ended with %s:\n%s" % (" ".join(line), done.returncode, done.stderr))
        return done

    def backup(self, extra, endpoint=None, environment=None):
        line = [self.vault, "backup", *extra, "--to", self.options["repository"]]
        if endpoint:
            line += ["--endpoint", endpoint]
        return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, **(environment or {})})

    def ids(self, *place):
        """Ids that have an entry in this place of the repository."""
        try:
            return {name.removesuffix(".json") for name in os.listdir(os.path.join(self.folder, *place))
                    if not name.endswith(".swept")}
        except FileNotFoundError:
            return set()

    def offered(self, killed):
        """Every snapshot that is offered must verify; one that was not committed must not be offered by any command."""
        listed = {s["id"] for s in json.loads(self.command("list", "--json", check=True).stdout)["snapshots"]}
        if listed != self.ids("snapshots"):
            fail("list offers %s, the manifests are %s" % (sorted(listed), sorted(self.ids("snapshots"))))
        scratch = self.options["scratch"]
        for snapshot in sorted(listed - self.verified):
            self.command("verify", snapshot, "--level", "content", "--no-evidence", "-q", check=True)
            self.command("show", snapshot, check=True)
            if "-adhoc-" in snapshot:
                shutil.rmtree(scratch, ignore_errors=True)
                os.mkdir(scratch)
                self.command("restore", snapshot, "--into", scratch, "-q", check=True)
                subprocess.run(["diff", "-rq", self.options["tree"], scratch], check=True)
            self.verified.add(snapshot)
        latest = json.loads(self.command("show", "latest", "--json", check=True).stdout)
        if latest["snapshot"]["id"] not in listed:
            fail("latest is %s" % latest)
        if killed and killed not in listed:
            for refused in (["show", killed], ["verify", killed, "--no-evidence"],
                            ["restore", killed, "--into", scratch + ".none"]):
                if self.command(*refused).returncode == 0:
                    fail("%s of a run that did not commit ended well: %s" % (refused[0], killed))
            if os.path.exists(scratch + ".none"):
                fail("restore of a run that did not commit wrote something")

    def kill_all(self):
        kills = self.options["kills"]
        struck_in = {name: 0 for name in WINDOWS}
        whole = {name: 0 for name in WINDOWS}
        rounds = 0
        proxy = None
        if self.options["kind"] == "s3":
            host, port = self.options["endpoint"].split("//")[1].split(":")
            proxy = Proxy((host, int(port)))
        while min(struck_in.values()) < kills and rounds < kills * 20:
            rounds += 1
            wanted = min(range(3), key=lambda n: struck_in[WINDOWS[n]])
            before = self.ids("runs") | self.ids("data")
            fell = self.kill_on_s3(proxy, wanted) if proxy else self.kill_in_directory(wanted)
            new = {name for name in (self.ids("runs") | self.ids("data")) - before if "-adhoc-" in name}
            if len(new) > 1:
                fail("more than one new run: %s" % new)
            committed = bool(new & self.ids("snapshots"))
            if fell is not None:
                struck_in[WINDOWS[fell]] += 1
                whole[WINDOWS[fell]] += committed
                if committed and fell != 2:
                    fail("a run killed %s has a manifest" % WINDOWS[fell])
            self.offered(next(iter(new), None))
        if not os.path.exists("/proc/%d" % self.options["slow_pid"]):
            fail("the throttled backup ended before the last kill; give it more to do (SLOW_MB)")
        self.offered(None)
        for name in WINDOWS:
            print("  %-32s %3d kills, %2d left a whole snapshot" % (name, struck_in[name], whole[name]))
        print("  %d runs begun, %d commands asked in between, all answered rightly" % (rounds, self.commands))
        sys.exit(0 if min(struck_in.values()) >= kills else 1)

    def kill_on_s3(self, proxy, wanted):
        run = self.backup(["files:" + self.options["tree"]], "http://127.0.0.1:%d" % proxy.port)
        struck = threading.Event()

        def strike():
            run.send_signal(signal.SIGKILL)
            struck.set()

        proxy.strike = strike
        proxy.arm(wanted)
        errors = run.communicate()[1]
        proxy.armed = None
        # What the server still has of the run's requests is finished before anybody looks.
        time.sleep(0.05)
        if struck.is_set():
            return wanted
        if run.returncode != 0:
            fail("a backup that nobody killed ended with %s:\n%s" % (run.returncode, errors))
        return None

    def kill_in_directory(self, wanted):
        uploads = os.path.join(self.folder, ".uploads")
        before = self.ids("data")
        watch = Watch(uploads)
        run = self.backup(["files:" + self.options["tree"]])
        mine = "-%d-" % run.pid
        data = None
        for mask, name in watch.events(run):
            if mine not in name:
                continue
            data = data or next((d for d in self.ids("data") - before if "-adhoc-" in d), None)
            index = data and any(path.endswith(".index.zst") for path in files(os.path.join(self.folder, "data", data)))
            if wanted == 0 and name.endswith(".about"):
                time.sleep(random.random() * 0.1)
            elif wanted == 1 and index:
                pass
            elif wanted == 2 and index and mask & Watch.CREATE:
                time.sleep(random.random() * 0.003)
            else:
                continue
            run.kill()
        errors = run.communicate()[1]
        watch.close()
        if run.returncode == 0:
            return None
        if run.returncode != -signal.SIGKILL:
            fail("a backup that nobody killed ended with %s:\n%s" % (run.returncode, errors))
        return self.where_it_fell(mine, before)

    def where_it_fell(self, mine, before):
        data = next((d for d in self.ids("data") - before if "-adhoc-" in d), None)
        if data is None:
            return 0
        if data in self.ids("snapshots"):
            # Written, and the run had not yet removed its marker: the write's answer was lost.
            return 2 if data in self.ids("runs") else None
        stored = files(os.path.join(self.folder, "data", data))
        if not any(path.endswith(".index.zst") for path in stored):
            return 0
        inodes = {os.stat(path).st_ino for path in stored}
        uploads = os.path.join(self.folder, ".uploads")
        left = [os.path.join(uploads, name) for name in os.listdir(uploads) if mine in name]
        return 2 if any(os.stat(path).st_ino not in inodes for path in left if not path.endswith(".about")) else 1

    def stop_all(self):
        """Stops a run for longer than its lease at three points. It must fail by itself and leave no snapshot."""
        folder = self.folder
        throttled = ["files:" + self.options["tree"], "--config", self.options["config"]]
        run = self.backup(throttled, environment={"WIREVAULT_TEST_LEASE_SECONDS": "3"})
        errors = run.communicate()[1]
        if run.returncode != 0:
            fail("a throttled run that nobody stopped lost its lease of 3 s:\n" + errors)
        print("  not stopped, throttled, lease of 3 s    exit 0, a snapshot")
        for point in ("while it reads", "before the manifest", "before the manifest, and swept", "after the manifest"):
            held = self.options["scratch"] + ".held"
            environment = {"WIREVAULT_TEST_LEASE_SECONDS": "3"}
            if point != "while it reads":
                hold = "committed" if point.startswith("after") else "manifest"
                environment |= {"WIREVAULT_TEST_HOLD": hold, "WIREVAULT_TEST_HELD": held}
            before, data = self.ids("snapshots"), self.ids("data")
            if point == "while it reads":
                run = self.backup(throttled, environment=environment)
                wait_for(lambda: self.ids("runs"), run)
                time.sleep(4)
            else:
                run = self.backup(["files:" + self.options["tree"]], environment=environment)
                wait_for(lambda: os.path.exists(held), run)
            run.send_signal(signal.SIGSTOP)
            if point.endswith("swept"):
                self.two_days_pass()
                self.command("prune", check=True)
                if self.ids("data") - data and any(files(os.path.join(folder, "data", d)) for d in self.ids("data") - data):
                    fail("the sweep left the data of the stopped run")
            time.sleep(5)
            run.send_signal(signal.SIGCONT)
            if os.path.exists(held):
                os.remove(held)
            errors = run.communicate(timeout=60)[1].strip()
            if run.returncode != 1:
                fail("a run stopped beyond its lease %s ended with %s:\n%s" % (point, run.returncode, errors))
            if self.ids("snapshots") != before:
                fail("a run stopped beyond its lease %s left a snapshot" % point)
            self.offered(None)
            reason = [line for line in errors.splitlines() if line.startswith("error: ")]
            if len(reason) != 1 or "could not show that it is alive" not in reason[0]:
                fail("a run stopped beyond its lease %s said:\n%s" % (point, errors))
            print("  stopped %-31s exit 1, no snapshot: %s" % (point, reason[0][7:]))

    def two_days_pass(self):
        then = time.time() - 2 * 86400
        for path in files(self.folder):
            os.utime(path, (then, then))


def wait_for(what, run):
    while not what():
        if run.poll() is not None:
            fail("the run ended early:\n" + run.stderr.read())
        time.sleep(0.01)


def files(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]


def fail(message):
    print("FAILED: " + message, file=sys.stderr)
    sys.exit(1)


def main():
    options = json.load(sys.stdin)
    random.seed(options.get("seed"))
    campaign = Campaign(options)
    {"kill": campaign.kill_all, "stop": campaign.stop_all}[options["mode"]]()


main()
