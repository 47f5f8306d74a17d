"""Kills a backup at chosen moments and looks at what is left. Called by kill.sh; see there.

On S3 a small proxy stands before the server and sees each request, so a kill falls exactly into its window:
the program needs no test hook. On a directory the tree is watched; a kill is counted for the window in which the
files left behind show that it fell.
"""
import json
import os
import random
import signal
import socket
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
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.strike = lambda: None
        threading.Thread(target=self.accept, daemon=True).start()

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
            window = classify_request(method, path, self.armed)
            if window is not None and window == self.armed:
                self.armed = None
                # In the manifest write, half of the cases lose the request halfway, half only the answer.
                if window == 2:
                    body = buffer
                    while len(body) < length:
                        body += client.recv(1 << 16)
                    part = body if random.random() < 0.5 else body[: length // 2]
                    server.sendall(head + b"\r\n\r\n" + part)
                    time.sleep(random.random() * 0.02)
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


def main():
    options = json.load(sys.stdin)
    vault, tree, kills = options["vault"], options["tree"], options["kills"]
    out = {name: 0 for name in WINDOWS}
    proxy = None
    if options["kind"] == "s3":
        host, port = options["endpoint"].split("//")[1].split(":")
        proxy = Proxy((host, int(port)))
    committed = 0
    rounds = 0
    while min(out.values()) < kills and rounds < kills * 30:
        rounds += 1
        wanted = min(range(3), key=lambda n: out[WINDOWS[n]])
        arguments = [vault, "backup", "files:" + tree, "--to", options["repository"]]
        if proxy:
            arguments += ["--endpoint", "http://127.0.0.1:%d" % proxy.port]
        before = manifests(options["folder"])
        run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if proxy:
            struck = threading.Event()

            def strike():
                run.send_signal(signal.SIGKILL)
                struck.set()

            proxy.strike = strike
            proxy.armed = wanted
            run.wait()
            proxy.armed = None
            if struck.is_set():
                out[WINDOWS[wanted]] += 1
        else:
            watch(run, options["folder"], wanted)
            fell = where_it_fell(options["folder"], before) if run.returncode == -signal.SIGKILL else None
            if fell is not None:
                out[WINDOWS[fell]] += 1
        committed += len(manifests(options["folder"]) - before)
        if run.returncode != -signal.SIGKILL and run.returncode != 0:
            sys.exit("a backup that nobody killed ended with %s" % run.returncode)
        if rounds % 5 == 0:
            offered(options)
    offered(options)
    print(", ".join("%s: %d kills" % item for item in out.items())
          + "; %d runs, of which %d left a whole snapshot" % (rounds, committed))
    sys.exit(0 if min(out.values()) >= kills else 1)


def classify_request(method, path, want):
    """The window that a request opens. The head of the manifest's request ends the second and begins the third."""
    if method == b"POST" and b"uploadId=" in path and b"/data/" in path:
        return 0
    if method == b"PUT" and b"/snapshots/" in path:
        return want if want in (1, 2) else None
    return None


def files(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]


def manifests(folder):
    return {path for path in files(os.path.join(folder, "snapshots")) if path.endswith(".json")}


def newest_run(folder):
    return max(os.listdir(os.path.join(folder, "data")), default=None)


def watch(run, folder, wanted):
    """Strikes when the tree shows that the wanted window has begun, a random moment later."""
    known = set(files(folder))
    while run.poll() is None:
        new = set(files(folder)) - known
        begun = (
            any("/data/" in path for path in new),
            any("/data/" in path and path.endswith(".index.zst") for path in new),
            any("/snapshots/" in path for path in new),
        )
        if begun[wanted]:
            time.sleep(random.random() * (0.05 if wanted == 0 else 0.001))
            run.kill()
            run.wait()


def where_it_fell(folder, before):
    new_manifests = manifests(folder) - before
    if new_manifests:
        return None
    if any(not path.endswith(".json") for path in files(os.path.join(folder, "snapshots"))):
        # What a killed manifest write leaves is removed here, so that the next one is seen.
        for path in files(os.path.join(folder, "snapshots")):
            if not path.endswith(".json"):
                os.remove(path)
        return 2
    run = newest_run(folder)
    here = files(os.path.join(folder, "data", run)) if run else []
    return 1 if any(path.endswith(".index.zst") for path in here) else 0


def offered(options):
    """Every snapshot that `list` offers must verify, and each that a manifest makes must be offered."""
    listed = json.loads(subprocess.run([options["vault"], "list", "--json", "--from", options["repository"]],
                                       check=True, capture_output=True).stdout)["snapshots"]
    if len(listed) != len(manifests(options["folder"])):
        sys.exit("list offers %d snapshots, there are %d manifests" % (len(listed), len(manifests(options["folder"]))))
    done = subprocess.run([options["vault"], "verify", "--all", "--level", "content", "--no-evidence", "-q",
                           "--from", options["repository"]], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit("a snapshot that is offered does not verify:\n" + done.stderr)


main()
