#!/usr/bin/env python3
"""Random file trees: every kind, attribute and name; backed up, restored, damaged, repaired; compared by rsync and by lstat.

As root everything is tried; as another user what that user may make. Needs rsync, and setfacl for ACLs.
"""
import hashlib
import os
import random
import re
import shutil
import socket
import stat
import struct
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import Failure, Generator, run

ROOT = os.geteuid() == 0
WAYS = {"new": 0.8, "clean": 0.5, "path": 0.4, "patterns": 0.35, "changing": 0.25, "verify": 0.2, "file": 0.1}


def facts(top, skip=()):
    """What a restore must bring back, by path: kind, mode, owner, time, size, links, attributes, content."""
    found, inodes = {}, {}

    def look(path, name):
        if name in skip:
            return
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return
        entry = {"mode": oct(status.st_mode), "owner": (status.st_uid, status.st_gid), "time": status.st_mtime_ns}
        try:
            entry["xattr"] = {x: os.getxattr(path, x, follow_symlinks=False) for x in sorted(os.listxattr(path, follow_symlinks=False))}
        except OSError:
            pass
        if kind == stat.S_IFLNK:
            entry["target"] = os.readlink(path)
        elif kind == stat.S_IFREG:
            entry["size"] = status.st_size
            with open(path, "rb") as file:
                entry["content"] = hashlib.file_digest(file, "sha256").hexdigest()
            if status.st_size - status.st_blocks * 512 > 1 << 20:
                entry["sparse"] = True
        elif kind in (stat.S_IFBLK, stat.S_IFCHR):
            entry["device"] = status.st_rdev
        if kind != stat.S_IFDIR and status.st_nlink > 1:
            inodes.setdefault(status.st_ino, []).append(name)
        found[name] = entry
        if kind == stat.S_IFDIR:
            for child in os.listdir(path):
                look(os.path.join(path, child), os.path.join(name, child) if name else child)

    look(top, "")
    for names in inodes.values():
        if len(names) > 1:
            for name in names:
                found[name]["links"] = sorted(names)
    return found


def differences(expected, got, keys=None):
    text = []
    for name in sorted({**expected, **got}):
        a, b = expected.get(name), got.get(name)
        if a is not None and b is not None and keys:
            a, b = ({k: v for k, v in x.items() if k in keys} for x in (a, b))
        if a != b:
            parts = [f"{k}: {a.get(k)!r} became {b.get(k)!r}" for k in sorted({**a, **b}) if a.get(k) != b.get(k)] if a and b else ["is missing" if a else "should not be there"]
            text.append(f"{os.fsencode(name)!r}: {', '.join(parts)}")
    return text


class Files(Generator):
    name = "files"
    about = __doc__.splitlines()[0]
    shrink_seconds = 60

    def flags(self, flags):
        flags.add_argument("--way", help="this way alone: " + ", ".join(WAYS))

    def open(self):
        self.acl = shutil.which("setfacl") is not None
        self.place = self.fresh("place")

    def file_name(self, rng):
        if rng.random() < 0.45:
            return rng.choice(["a", "b", "c", "d", "data", "x"]) + str(rng.randint(0, 30)) + rng.choice(["", ".log", ".conf", ".txt", ".db", ""])
        odd = [
            b"-rf", b"--delete", b" lead", b"trail ", b"new\nline", b"tab\there", b"cr\r", b"quo\"te", b"apos'", b"back\\slash", b"star*", b"quest?", b"br[ack]et", b"{a,b}", b"!bang", b"#hash",
            b"$HOME", b"`id`", b"semi;colon", b"pipe|", b"caf\xe9", b"\xff\xfe", b"\x80", "é".encode(), "e\u0301".encode(), "日本".encode(), "😀".encode(), b"\xed\xa0\x80", b"\xc0\xaf", b"\x01\x02", b"\x7f",
            b"\x1b[31m", b"...", b"..x", b".hidden", b"~", b"%41", b"a%00b", b"CON", b"n" * 255, ("ü" * 127).encode(), b"x" * 100, b"y" * 101, b"z" * 156, b"PaxHeaders.0", b"GNUSparseFile.0", b"@", b"=", b"a=b", b":",
            b"a\\x41", b"\\", b"**", b"[a-z]", b"x.pre-restore-y", b"\xe2\x80\xae", b"a.", b"10 path=x",
        ]
        return os.fsdecode(rng.choice(odd))

    def make(self, rng, number):
        entries, dirs, files = [], [""], []
        paths = set()

        def fresh_path():
            for _ in range(20):
                path = os.path.join(rng.choice(dirs), self.file_name(rng))
                if path not in paths and len(os.fsencode(path)) < 3500:
                    paths.add(path)
                    return path
            self.count = getattr(self, "count", 0) + 1
            path = f"more{len(paths)}"
            paths.add(path)
            return path

        for _ in range(rng.choice([3, 12, 40, 150])):
            kind = rng.choices(["dir", "file", "link", "hard", "fifo", "socket", "device", "sparse", "deep"], [18, 45, 10, 8, 3, 2, 2, 4, 1])[0]
            path = fresh_path()
            if kind == "dir":
                dirs.append(path)
                entries.append({"op": "dir", "path": path})
            elif kind == "deep":
                for _ in range(rng.choice([5, 60, 140])):
                    path = os.path.join(path, rng.choice(["d", "e" * 20, "é"]))
                if len(os.fsencode(path)) < 3500:
                    dirs.append(path)
                    entries.append({"op": "dir", "path": path})
            elif kind == "file":
                size = rng.choice([0, 1, 511, 512, 513, 4095, 4096, 10000, rng.randint(0, 100000), rng.choice([1, 1, 1, 5]) * (1 << 20) + rng.randint(-1, 1)])
                files.append(path)
                entries.append({"op": "file", "path": path, "size": size, "seed": rng.randint(0, 5)})
            elif kind == "sparse":
                files.append(path)
                length = rng.choice([1 << 20, 3 << 20, (1 << 28) + 7, 5000, 1 << 25])
                entries.append({"op": "sparse", "path": path, "length": length, "data": [[rng.randrange(length), rng.randint(1, 9000)] for _ in range(rng.choice([0, 1, 2, 9]))]})
            elif kind == "link":
                target = rng.choice([rng.choice(files) if files else "nowhere", "nowhere", "/etc/passwd", "..", ".", "../../..", path, os.fsdecode(b"\xff\n"), "t" * 4000, "/proc/self/root", " "])
                entries.append({"op": "link", "path": path, "target": target})
            elif kind == "hard" and files:
                entries.append({"op": "hard", "path": path, "to": rng.choice(files)})
            elif kind == "device":
                if ROOT:
                    entries.append({"op": "device", "path": path, "block": rng.random() < 0.5, "major": rng.choice([0, 1, 7, 4095]), "minor": rng.choice([3, 255, 256, 1048575])})
            elif kind in ("fifo", "socket"):
                entries.append({"op": kind, "path": path})
        things = [e["path"] for e in entries] or [""]
        for _ in range(rng.choice([0, 5, 30])):
            path = rng.choice(things + [""])
            what = rng.choice(["mode", "owner", "xattr", "acl", "time", "time", "capability"])
            one = {"op": what, "path": path}
            if what == "mode":
                one["mode"] = rng.choice([0o000, 0o644, 0o4755, 0o2755, 0o1777, 0o7777, 0o400, 0o111, 0o666])
            elif what == "owner":
                one["owner"] = [rng.choice([0, 1, 1000, 65534, 2097152, 4294967294]), rng.choice([0, 5, 100000, 4294967294])]
            elif what == "xattr":
                one["name"] = rng.choice(["user.a", "user.b b", "user.é", "trusted.t", "user.with.dots", "user." + "n" * 240, "user.%", "user.a:b"])
                one["value"] = rng.choice(["", "00", "76616c7565", "0a3d0a", "ff" * rng.choice([10, 3000])])
            elif what == "acl":
                one["acl"] = rng.choice(["u:1:rwx", "u:12345:r--,g:7:rx,m::r", "d:u:3:rwx,d:o::-", "g::-,u:0:x", "d:g:4294967294:w"])
            elif what == "time":
                one["ns"] = rng.choice([0, -1, 1, -10**9, 10**18, 1234567890123456789, -86400 * 10**9 * 365 * 60 + 5, 999999999, 2**31 * 10**9, 2**32 * 10**9 + 1, 10**9 * 15032385535, rng.randint(0, 2 * 10**18)])
            entries.append(one)
        history = {
            "entries": entries, "ways": [w for w, p in WAYS.items() if (rng.random() < p if not self.args.way else w == self.args.way)], "choice": rng.randrange(1 << 30),
            "damage": [[rng.choice(["delete", "content", "mode", "xattr", "extra", "link", "time", "owner", "hard", "dir", "grow", "unlink-hard"]), rng.randrange(1 << 30)] for _ in range(rng.choice([1, 5, 20]))],
            "exclude": [], "include": [], "parallel": rng.randint(1, 8), "umask": rng.choice([0o022, 0o077, 0, 0o777 if ROOT else 0o022]),
        }
        plain = sorted({part for thing in things for part in thing.split("/") if re.fullmatch(r"[a-z0-9.]+", part)})
        tops = sorted({thing.split("/")[0] for thing in things if re.fullmatch(r"[a-z0-9.]+", thing.split("/")[0])})
        if plain and "patterns" in history["ways"]:
            history["exclude"] = rng.sample(["*.log", "data*", "x?", *rng.sample(plain, min(3, len(plain)))], rng.randint(1, 3))
            if tops and rng.random() < 0.5:
                history["include"] = rng.sample(tops, min(len(tops), rng.randint(1, 3))) + rng.sample(["*.conf", "**/*.txt"], rng.randint(0, 1))
        return history

    def parts(self, history):
        return [history["ways"], history["entries"], history["damage"], history["exclude"], history["include"]]

    def describe(self, history):
        return f"{len(history['entries'])} entries, {len(history['damage'])} kinds of damage, {' '.join(history['ways'])}"

    def build(self, top, entries):
        """Makes the tree; what this user may not make, or what fits no more, is left out."""
        late = []
        sockets = []
        for entry in entries:
            path = os.path.join(top, entry["path"]) if entry["path"] else top
            op = entry["op"]
            try:
                if op in ("dir", "file", "sparse", "link", "hard", "fifo", "socket", "device"):
                    os.makedirs(path if op == "dir" else os.path.dirname(path), exist_ok=True)
                if op == "file":
                    with open(path, "xb") as file:
                        file.write(random.Random(entry["seed"]).randbytes(entry["size"]) if entry["seed"] else b"\0" * entry["size"])
                elif op == "sparse":
                    with open(path, "xb") as file:
                        file.truncate(entry["length"])
                        for at, length in entry["data"]:
                            file.seek(at)
                            file.write(b"\x5a" * min(length, max(0, entry["length"] - at)))
                elif op == "link":
                    os.symlink(entry["target"], path)
                elif op == "hard":
                    os.link(os.path.join(top, entry["to"]), path, follow_symlinks=False)
                elif op == "fifo":
                    os.mkfifo(path)
                elif op == "device":
                    os.mknod(path, (stat.S_IFBLK if entry["block"] else stat.S_IFCHR) | 0o640, os.makedev(entry["major"], entry["minor"]))
                elif op == "socket":
                    here = os.open(os.path.dirname(path), os.O_PATH)
                    one = socket.socket(socket.AF_UNIX)
                    one.bind(os.fsencode(f"/proc/self/fd/{here}/") + os.fsencode(os.path.basename(path)))
                    one.close()
                    os.close(here)
                elif op == "mode" and not os.path.islink(path):
                    os.chmod(path, entry["mode"])
                elif op == "owner":
                    os.chown(path, *entry["owner"], follow_symlinks=False)
                elif op == "xattr":
                    os.setxattr(path, entry["name"], bytes.fromhex(entry["value"]), follow_symlinks=False)
                elif op == "capability" and ROOT:
                    os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0), follow_symlinks=False)
                elif op == "acl" and self.acl and not os.path.islink(path):
                    run(["setfacl", "-m", entry["acl"], "--", path])
                elif op == "time":
                    late.append((path, entry["ns"]))
            except (OSError, ValueError):
                pass
        for path, ns in late:
            try:
                os.utime(path, ns=(ns, ns), follow_symlinks=False)
            except (OSError, OverflowError):
                pass

    def rsync(self, source, target, what):
        """rsync's word on two trees: no line may be left."""
        done = run(["rsync", "-aHAX", "--numeric-ids", "--checksum", "--dry-run", "--itemize-changes", "--delete", "--modify-window=-1", source + "/", target + "/"], self.env)
        lines = [line for line in done.out.decode("utf-8", "replace").splitlines() if not line.startswith(("cS", "hS", ".S", "S", ">S")) and line]
        if done.code != 0:
            raise Failure(f"{what}: rsync fails", done.said())
        if lines:
            raise Failure(f"{what}: rsync sees a difference", "\n".join(lines[:30]))

    def same(self, expected, top, what, keys=None, skip=()):
        text = differences(expected, facts(top, skip), keys)
        if text:
            raise Failure(f"{what}: differs", "\n".join(text[:30]) + "\n" + getattr(self, "last", ""))

    def play(self, history):
        self.unlock()
        shutil.rmtree(self.place, ignore_errors=True)
        os.mkdir(self.place)
        top = os.path.join(self.place, "source")
        os.mkdir(top)
        self.build(top, history["entries"])
        repository = "file://" + self.fresh("repository")
        before = facts(top)
        moving = "changing" in history["ways"] and Moving(os.path.join(top, "moving"))
        if moving:
            before = {k: v for k, v in facts(top, {"moving"}).items() if k}
        self.config(top, repository, {})
        try:
            # Devices and sockets are left as they are; nothing else may be missing.
            self.wire("backup", "job", codes=(0, 2) if moving else (0,))
        finally:
            if moving:
                moving.end()
        if not moving:
            self.same(before, top, "a backup changes its source")
        self.wire("verify", "latest", "--from", repository)
        umask = lambda: os.umask(history["umask"])
        if "new" in history["ways"] or moving:
            target = os.path.join(self.place, "target")
            done = self.wire("restore", "latest", "--into", target, "--devices", "--parallel", str(history["parallel"]), "--from", repository, codes=(0,), preexec=umask)
            self.last = done.said()
            target = os.path.join(target, "tree") if os.path.isdir(os.path.join(target, "tree")) and "tree" not in before else target
            if moving:
                got = {k: v for k, v in facts(target, {"moving"}).items() if k}
                text = differences(before, got)
                if text:
                    raise Failure("restore of a changing tree: what did not change differs", "\n".join(text[:30]))
            else:
                self.same(before, target, "restore")
                self.rsync(top, target, "restore")
                again = self.wire("restore", "latest", "--into", target, "--clean", "--devices", "--from", repository, kind="restore onto itself")
                self.last = again.said()
                self.same(before, target, "restore onto itself")
            self.unlock()
            shutil.rmtree(target, ignore_errors=True)
        if "path" in history["ways"] and before and not moving:
            self.path(history, before, repository)
        if "verify" in history["ways"]:
            self.wire("verify", "latest", "--level", "restored", "--from", repository, kind="verify --level restored")
        if "file" in history["ways"] and not moving:
            names = [k for k, v in before.items() if v["mode"].startswith("0o100")]
            if names:
                name = names[history["choice"] % len(names)]
                done = self.wire("cat", "latest", "tree", os.fsencode(name) if not name.startswith("-") else os.fsencode("./" + name), "--from", repository, codes=(0, 1), kind="cat")
                if done.code == 0 and hashlib.sha256(done.out).hexdigest() != before[name]["content"]:
                    raise Failure("cat: other bytes", done.said()[:500])
                if done.code == 1 and not name.startswith("-"):
                    raise Failure("cat: exit code 1", done.said())
        if "clean" in history["ways"] and not moving:
            self.clean(history, top, before, repository, umask)
        if "patterns" in history["ways"] and not moving:
            self.patterns(history, top, facts(top), repository)

    def config(self, top, repository, more):
        lines = [f"[repository]\nurl = {toml(repository)}\n[source.tree]\nkind = \"files\"\nroot = {toml(top)}\ndevices = true"]
        lines += [f"{key} = [{', '.join(toml(x) for x in value)}]" for key, value in more.items() if value]
        lines.append('[job.job]\nsources = ["tree"]\n')
        with open(os.path.join(self.stage, "wirevault.toml"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines))

    def path(self, history, before, repository):
        """One path comes back with all below it, and with the directories above it."""
        plain = [k for k in before if re.fullmatch(r"[a-z0-9./]+", k)]
        if not plain:
            return
        chosen = plain[history["choice"] % len(plain)]
        target = os.path.join(self.place, "part")
        done = self.wire("restore", "latest", "--path", chosen, "--into", target, "--devices", "--from", repository, kind="restore --path", codes=(0, 1, 2))
        inside = {k: v for k, v in before.items() if k == chosen or k.startswith(chosen + "/")}
        if done.code != 0:
            raise Failure(f"restore --path: exit code {done.code}", done.said())
        above = {"/".join(chosen.split("/")[:i]) for i in range(1, chosen.count("/") + 1)}
        got = {k: v for k, v in facts(target).items() if k}
        # Names of one file that were not chosen do not come.
        inside, got = ({k: {key: x for key, x in v.items() if key != "links"} for k, v in one.items()} for one in (inside, got))
        text = differences(inside, {k: v for k, v in got.items() if k not in above})
        text += differences({k: before[k] for k in above}, {k: v for k, v in got.items() if k in above})
        if text:
            raise Failure("restore --path: differs", f"chosen {chosen}\n" + "\n".join(text[:20]) + done.said())
        self.unlock()
        shutil.rmtree(target, ignore_errors=True)

    def patterns(self, history, top, before, repository):
        import fnmatch

        if not history["exclude"] and not history["include"]:
            return
        self.config(top, repository, {"exclude": history["exclude"], "include": history["include"]})
        self.wire("backup", "job", kind="backup with patterns", codes=(0, 2))
        target = os.path.join(self.place, "chosen")

        def excluded(name):
            return any(fnmatch.fnmatchcase(part, pattern) for part in name.split("/") for pattern in history["exclude"])

        def included(name):
            if not history["include"]:
                return True
            parts = name.split("/")
            for pattern in history["include"]:
                if pattern.startswith("**/"):
                    if any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts):
                        return True
                elif fnmatch.fnmatchcase(parts[0], pattern):
                    return True
            return False

        expected = {k for k in before if k and not excluded(k) and included(k)}
        parents = {"/".join(k.split("/")[:i]) for k in expected for i in range(1, k.count("/") + 1)}
        done = self.wire("restore", "latest", "--into", target, "--devices", "--from", repository, kind="restore of chosen files", codes=(0, 1))
        if done.code == 1 and expected:
            raise Failure("restore of chosen files: exit code 1", done.said())
        got = {k for k in facts(target) if k} if os.path.isdir(target) else set()
        missing, extra = expected - got, got - expected - parents
        if missing or extra:
            raise Failure("patterns: another choice", f"exclude {history['exclude']} include {history['include']}\nmissing {sorted(missing)[:10]!a}\nextra {sorted(extra)[:10]!a}")
        self.unlock()
        shutil.rmtree(target, ignore_errors=True)
        self.config(top, repository, {})

    def damage(self, history, top):
        for what, choice in history["damage"]:
            names = sorted(facts(top))
            name = names[choice % len(names)]
            path = os.path.join(top, name) if name else top
            kind = stat.S_IFMT(os.lstat(path).st_mode)
            try:
                if what == "delete" and name:
                    shutil.rmtree(path) if kind == stat.S_IFDIR else os.unlink(path)
                elif what == "content" and kind == stat.S_IFREG:
                    status = os.lstat(path)
                    if 0 < status.st_size < 1 << 24:
                        with open(path, "r+b") as file:
                            first = file.read(1)
                            file.seek(0)
                            file.write(bytes([first[0] ^ 1]))
                        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
                elif what == "grow" and kind == stat.S_IFREG:
                    with open(path, "ab") as file:
                        file.write(b"more")
                elif what == "mode" and kind != stat.S_IFLNK:
                    os.chmod(path, 0o600 if kind != stat.S_IFDIR else 0o700)
                elif what == "xattr":
                    os.setxattr(path, "user.extra", b"x", follow_symlinks=False)
                elif what == "extra" and kind == stat.S_IFDIR:
                    os.makedirs(os.path.join(path, "extra dir"), exist_ok=True)
                    with open(os.path.join(path, "extra file"), "w", encoding="ascii") as file:
                        file.write("x")
                elif what == "link" and kind == stat.S_IFREG:
                    os.unlink(path)
                    os.symlink("/nowhere", path)
                elif what == "time":
                    # Whoever uses a pipe or a device changes its time: that alone is no reason to replace it.
                    if kind not in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK):
                        os.utime(path, ns=(1, 1), follow_symlinks=False)
                elif what == "owner" and ROOT:
                    os.chown(path, 77, 77, follow_symlinks=False)
                elif what == "hard" and kind == stat.S_IFREG:
                    os.link(path, os.path.join(top, f"extra hard {choice}"))
                elif what == "unlink-hard" and kind == stat.S_IFREG and os.lstat(path).st_nlink > 1:
                    shutil.copy2(path, path + ".tmp")
                    os.replace(path + ".tmp", path)
                elif what == "dir" and kind == stat.S_IFDIR and name:
                    shutil.rmtree(path)
                    with open(path, "w", encoding="ascii") as file:
                        file.write("a file where a directory was")
            except OSError:
                pass

    def clean(self, history, top, before, repository, umask):
        self.damage(history, top)
        damaged = facts(top)
        dry = self.wire("restore", "latest", "--clean", "--delete", "--devices", "--dry-run", "--from", repository, codes=(0, 1), kind="restore --clean --dry-run")
        self.same(damaged, top, "restore --dry-run changes the tree")
        done = self.wire("restore", "latest", "--clean", "--delete", "--devices", "--parallel", str(history["parallel"]), "--from", repository, codes=(0, 1), kind="restore --clean", preexec=umask)
        self.last = done.said()
        if (done.code == 0) != (dry.code == 0):
            raise Failure("restore --clean: the dry run said otherwise", dry.said() + done.said())
        if done.code == 1:
            self.same(damaged, top, "restore --clean: refused, and yet something changed")
            if not any(what == "dir" for what, _ in history["damage"]):
                raise Failure("restore --clean: exit code 1", done.said())
            return
        self.same(before, top, "restore --clean --delete")
        self.wire("restore", "latest", "--undo", "--from", repository, kind="restore --undo")
        self.same(damaged, top, "restore --undo", keys={"content", "target", "size", "device"})
        self.wire("restore", "latest", "--undo", "--from", repository, codes=(0, 1), kind="restore --undo again")

    def unlock(self):
        """Directories of odd rights can be removed by root alone; others open them first."""
        if not ROOT and os.path.isdir(self.place):
            for path, dirs, _ in os.walk(self.place):
                for one in dirs:
                    os.chmod(os.path.join(path, one), 0o700)

    def close(self):
        self.unlock()


class Moving:
    """Files that grow, shrink, vanish and are renamed while a backup walks over them."""

    def __init__(self, place):
        os.makedirs(place, exist_ok=True)
        self.place, self.stop = place, threading.Event()
        for number in range(40):
            with open(os.path.join(place, f"f{number}"), "wb") as file:
                file.write(b"x" * (number * 5000))
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def loop(self):
        rng = random.Random(1)
        while not self.stop.is_set():
            path = os.path.join(self.place, f"f{rng.randint(0, 39)}")
            try:
                what = rng.randrange(7)
                if what == 0:
                    os.unlink(path)
                elif what == 1:
                    os.rename(path, os.path.join(self.place, f"f{rng.randint(0, 39)}"))
                elif what == 2:
                    os.truncate(path, rng.randint(0, 300000))
                elif what == 3:
                    os.mkdir(path)
                elif what == 4:
                    os.rmdir(path)
                elif what == 5:
                    os.symlink("x", path)
                else:
                    with open(path, "ab") as file:
                        file.write(b"y" * rng.randint(1, 100000))
            except OSError:
                pass

    def end(self):
        self.stop.set()
        self.thread.join()


def toml(text):
    """A TOML string; names that are no UTF-8 cannot stand in a configuration."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in text) + '"'


if __name__ == "__main__":
    sys.exit(Files().main())
