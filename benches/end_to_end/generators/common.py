"""What the generators share: flags, seeds, runs of the program with a deadline, failures that are kept, and shrinking.

A history is made by its seed and its number alone: `--seed SEED --history NUMBER` makes it again. A history that fails
leaves a directory with its inputs; `--replay DIRECTORY` runs those.
"""
import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))


class Failure(Exception):
    """A finding: `kind` in a few words, the same for the same fault as far as that can be told; `text` shows it."""

    def __init__(self, kind, text=""):
        super().__init__(kind)
        self.kind, self.text = kind, text


class Skip(Exception):
    """The oracle itself cannot cope with this history."""


class Done:
    """A finished process."""

    def __init__(self, args, code, out, err, peak_kib):
        self.args, self.code, self.out, self.err, self.peak_kib = args, code, out, err, peak_kib

    def said(self):
        text = (self.out + self.err).decode("utf-8", "replace")
        return f"$ {shlex.join(printable(a) for a in self.args)}\n(exit code {self.code})\n{text[-6000:]}"


def printable(argument):
    return argument if isinstance(argument, str) else argument.decode("utf-8", "backslashreplace")


def run(args, env=None, timeout=300, stdin=b"", cwd=None, preexec=None):
    """Runs a program to its end; None as exit code is one that had to be killed at the deadline."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(stdin)
        source.seek(0)
        child = subprocess.Popen(args, env=env, stdin=source, stdout=out, stderr=err, cwd=cwd, preexec_fn=preexec)
        late = []

        def end():
            late.append(True)
            child.kill()

        timer = threading.Timer(timeout, end)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        child.returncode = code = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Done(args, None if late else code, out.read(), err.read(), usage.ru_maxrss)


class Generator:
    """A loop over histories. A subclass has `name`, `make(rng, number)` that returns a history that JSON can hold,
    `play(history)` that raises Failure, and `parts(history)` with the lists that may become shorter."""

    name = "generator"
    about = ""
    shrink_seconds = 90

    def __init__(self):
        flags = argparse.ArgumentParser(description=self.about)
        flags.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES") or 5))
        flags.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.randrange(1 << 31)))
        flags.add_argument("--history", type=int, help="only this one")
        flags.add_argument("--replay", help="only the history that a failure has left in this directory")
        flags.add_argument("--wirevault", default=os.environ.get("WIREVAULT") or os.path.join(TOP, "target/release/wirevault"))
        flags.add_argument("--failures", default=os.path.join(TOP, "target/generators"), help="where failures are kept")
        flags.add_argument("--no-shrink", action="store_true")
        self.flags(flags)
        self.args = flags.parse_args()
        self.wirevault = os.path.abspath(self.args.wirevault)
        if not os.path.exists(self.wirevault):
            flags.error(f"no program at {self.wirevault}")
        self.stage = tempfile.mkdtemp(prefix=f"wirevault-{self.name}.", dir=os.environ.get("STAGE_DIR"))
        os.chmod(self.stage, 0o755)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": self.stage,
            "TMPDIR": self.stage,
            "LANG": "C.UTF-8",
            "WIREVAULT_STATE_DIR": os.path.join(self.stage, "state"),
        }

    def flags(self, flags):
        pass

    def open(self):
        pass

    def close(self):
        pass

    def parts(self, history):
        return []

    def describe(self, history):
        return ""

    # What a history calls.

    def wire(self, *args, env=None, timeout=300, codes=(0,), kind=None, cwd=None, preexec=None):
        """Runs the program; another exit code than the expected ones, a panic and a hang are failures."""
        done = run([self.wirevault, *args], {**self.env, **(env or {})}, timeout, cwd=cwd or self.stage, preexec=preexec)
        verb = kind or str(args[0])
        if done.code is None:
            raise Failure(f"{verb}: hangs", done.said())
        if done.code == 101 or b"panicked at" in done.err or done.code < 0:
            raise Failure(f"{verb}: ends by a panic or signal", done.said())
        if codes is not None and done.code not in codes:
            raise Failure(f"{verb}: exit code {done.code}", done.said())
        return done

    def fresh(self, name):
        """Returns an empty directory of this history."""
        path = os.path.join(self.stage, name)
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path)
        return path

    # The loop.

    def main(self):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        found = histories = 0
        try:
            self.open()
            if self.args.replay:
                with open(os.path.join(self.args.replay, "history.json"), encoding="utf-8") as file:
                    history = json.load(file)
                return 0 if self.once(history, "replay") is None else 1
            print(f"{self.name}: seed {self.args.seed}, {self.args.minutes:g} minutes, {self.wirevault}", flush=True)
            end = time.monotonic() + self.args.minutes * 60
            numbers = [self.args.history] if self.args.history is not None else range(1, 1 << 31)
            for number in numbers:
                if self.args.history is None and time.monotonic() > end:
                    break
                history = self.make(random.Random(f"{self.name}/{self.args.seed}/{number}"), number)
                failure = self.once(history, number)
                histories += 1
                if failure is not None:
                    found += 1
                    self.keep(history, number, failure)
        finally:
            self.close()
            shutil.rmtree(self.stage, ignore_errors=True)
        print(f"{self.name}: seed {self.args.seed}: {histories} histories, {found} failures", flush=True)
        return 1 if found else 0

    def once(self, history, number):
        start = time.monotonic()
        failure = self.attempt(history)
        outcome = self.skipped or "ok" if failure is None else f"FAILED: {failure.kind}"
        print(f"{number}: {self.describe(history)}: {outcome} ({time.monotonic() - start:.1f} s)", flush=True)
        if failure is not None and self.args.replay:
            print(failure.text)
        return failure

    def attempt(self, history):
        # What the host remembers of the history before would be in the way.
        self.fresh("state")
        self.skipped = ""
        try:
            self.play(history)
        except Failure as failure:
            return failure
        except Skip as skip:
            self.skipped = f"skipped: {skip}"
        return None

    def keep(self, history, number, failure):
        place = os.path.join(self.args.failures, f"{self.name}-{self.args.seed}-{number}")
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
        again = f"benches/end_to_end/generators/{self.name}.py --seed {self.args.seed} --history {number}"
        self.write(place, "original.json", json.dumps(history, indent=1))
        self.write(place, "failure.txt", f"{failure.kind}\nagain: {again}\n\n{failure.text}\n")
        self.write(place, "history.json", json.dumps(history, indent=1))
        if not self.args.no_shrink:
            before = sum(len(part) for part in self.parts(history))
            failure = self.shrink(history, failure)
            after = sum(len(part) for part in self.parts(history))
            self.write(place, "history.json", json.dumps(history, indent=1))
            self.write(place, "failure.txt", f"{failure.kind}\nagain: {again}\nsmallest: {self.name}.py --replay {place}\n\n{failure.text}\n")
            print(f"    shrunk from {before} to {after} parts: {place}", flush=True)
        print("    " + "\n    ".join(failure.text.splitlines()[-12:]), flush=True)

    def write(self, place, name, text):
        with open(os.path.join(place, name), "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)

    def shrink(self, history, failure):
        """Takes parts out as long as the same kind of failure stays: halves first, then smaller pieces."""
        end = time.monotonic() + self.shrink_seconds
        for part in self.parts(history):
            size = max(1, len(part) // 2)
            while size and time.monotonic() < end:
                start = len(part) - size
                while start > -size and time.monotonic() < end:
                    whole = list(part)
                    del part[max(0, start) : start + size]
                    now = self.attempt(history) if len(part) < len(whole) else None
                    if now is not None and now.kind == failure.kind:
                        failure = now
                    else:
                        part[:] = whole
                    start -= size
                size //= 2
        return failure


def servers():
    """Returns the paths of the test servers, from target/servers/env."""
    path = os.path.join(TOP, "target/servers/env")
    text = subprocess.run(["bash", "-c", '. "$1" && env -0', "-", path], stdout=subprocess.PIPE, check=True).stdout
    pairs = (entry.split("=", 1) for entry in text.decode("utf-8", "surrogateescape").split("\0") if "=" in entry)
    return {key: value for key, value in pairs if key.startswith(("WIREVAULT_TEST_", "PG_BIN"))}


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
