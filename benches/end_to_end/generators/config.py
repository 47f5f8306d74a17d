#!/usr/bin/env python3
"""Every key of wirevault.toml and every environment variable with wrong, missing, empty, extreme, huge and odd values.

What may follow is exit code 0, 1 or 2, an error that names what is wrong, no panic, no hang, little memory, and no secret in what is said.
The keys come from the schema that the program prints, the variables from docs/operations.md.
"""
import json
import os
import re
import resource
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import TOP, Failure, Generator, free_port

SECRET = "s3cr3t-Pa55word-that-nobody-may-print"
MAX_KIB = 200 * 1024
# Commands that change nothing outside the stage and end by themselves.
COMMANDS = [
    ["check"], ["backup", "--dry-run"], ["backup"], ["list"], ["run", "--dry-run"], ["prune", "--dry-run"], ["status"], ["show", "latest"], ["cleanup"], ["verify", "latest", "--level", "stored"],
    ["restore", "latest", "--dry-run", "--clean"], ["list", "--json"], ["backup", "job", "--if-changed"], ["health"], ["copy", "--dry-run"], ["recover", "latest", "--dry-run", "--containers", "manual"],
]
SECRET_KEYS = {"secret_key", "access_key", "token", "status_token"}


def sections(program):
    """The keys of each section, as the program has them; sources by their kind."""
    printed = subprocess.run([program, "config", "--schema"], check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    top = json.loads(printed.stdout)["properties"]
    found = {"": [key for key, one in top.items() if "additionalProperties" not in one and "oneOf" not in one]}
    found["repository"] = list(first_table(top["repository"])["properties"])
    for name in ("job", "drill", "notify", "cleanup"):
        found[name] = list(first_table(top[name]["additionalProperties"])["properties"])
    found["keep"] = list(first_table(first_table(top["job"]["additionalProperties"])["properties"]["keep"])["properties"])
    for source in top["source"]["additionalProperties"]["oneOf"]:
        for kind in source["properties"]["kind"]["enum"]:
            found[kind] = list(source["properties"])
    return found


def first_table(schema):
    """The first form of a schema that is a table of named keys."""
    return next(one for one in [schema, *schema.get("oneOf", [])] if "properties" in one)


def variables():
    """Names of environment variables in the pages."""
    names = set()
    for page in ("operations", "postgres", "redis", "places", "stores", "docker"):
        with open(os.path.join(TOP, f"docs/{page}.md"), encoding="utf-8") as file:
            names |= set(re.findall(r"`([A-Z][A-Z0-9]*_?[A-Z0-9_]{3,})`", file.read()))
    names |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_CONFIG_FILE", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "TZ", "HOME", "TMPDIR",
              "RUST_LOG", "LANG", "WIREVAULT_CONFIG", "WIREVAULT_REPOSITORY", "WIREVAULT_LISTEN", "XDG_STATE_HOME", "STATE_DIRECTORY", "NO_COLOR", "HTTPS_PROXY", "HTTP_PROXY", "POSTGRES_PORT", "NOTIFY_SOCKET", "LISTEN_FDS"}
    ours = re.compile("PG|AWS_|S3_|WIREVAULT_|BACKUP_|POSTGRES_|DATABASE_URL|REDIS|DB_PATH|TZ$|HOME|TMPDIR|RUST_LOG|LANG|XDG_|STATE_DIRECTORY|NO_COLOR|HTTPS?_PROXY|NOTIFY_|LISTEN_|DOCKER_HOST")
    return sorted(name for name in names if ours.match(name))


class Config(Generator):
    name = "config"
    about = __doc__.splitlines()[0]
    shrink_seconds = 30

    def open(self):
        self.sections = sections(self.wirevault)
        self.variables = variables()
        self.closed = free_port()

    def toml_value(self, rng):
        text = rng.choice([
            "", " ", "x", "0", "-1", "true", "/", "//", "..", "~", "file://", "file:///", "s3://", "s3://b", "http://", "http://[::1", "postgres://", "postgres://u@h:99999/d", "redis://:0", "\\u0000", "\\u0007\\u001b[31m", "é", "😀",
            "a" * 300, "b" * 70000, "1 year", "99999999999999999999d", "1e400", "-5s", "0s", "10XB", "18446744073709551616", "9223372036854775807GiB", "0 0 30 2 *", "* * * * * *", "61 * * * *", "*/0 * * * *", "@daily", "@every 0s",
            "Europe/Berlin", "Mars/Base", "${HOME}", "$(id)", "%s%n", "latest", "latest:nobody", "../../etc/passwd", "/proc/self/mem", "/dev/zero", "/dev/stdin", "/proc/none/x", "user:" + SECRET + "@", "http://user:" + SECRET + "@127.0.0.1:1/",
            "postgres://user:" + SECRET + "@127.0.0.1:1/db?nonsense=" + SECRET, "redis://:" + SECRET + "@127.0.0.1:1", "[", "[a-", "**", "!", "{a,b", "\\\\", "a\\nb", "files:/x", "sqlite:", "docker:", "\\uFFFE", "\\u202e",
        ])
        return rng.choice([f'"{text}"'] * 8 + [
            "0", "1", "-1", "9223372036854775807", "-9223372036854775808", "4294967296", "3.14", "nan", "inf", "-0.0", "true", "false", "[]", '[""]', '["x", 5]', "[[]]", "{}", '{ x = 1 }', "1979-05-27T07:32:00Z", "07:32:00",
            '["' + '", "'.join(["x"] * 5000) + '"]', "{ last = 0 }", "{ daily = -1 }", "{ last = 9223372036854775807 }", '{ daily = "x" }', "{ minimum = 3 }", "99999999999999999999", "", "'''", '"unterminated', "\"\"\"\n\n\"\"\"", "0x", "1_", "[1", "{",
            '["a", "a"]', '["app", "app", "app"]', '["nobody"]', '["full"]', '["tree"]', "{ tree = { last = 1 } }", '{ default = { daily = 3, storage_class = "NO SUCH" } }',
        ])

    def make(self, rng, number):
        place = {
            "": "", "repository": "repository", "source.tree": "files", "source.app": "sqlite", "source.db": "postgres", "source.cluster": "postgres-physical", "source.cache": "redis", "source.stack": "docker", "job.job": "job", "drill.d": "drill",
            "notify.n": "notify", "cleanup.c": "cleanup", "job.job.keep": "keep",
        }
        changes = []
        for _ in range(rng.choice([1, 1, 2, 4])):
            section = rng.choice(list(place))
            key = rng.choice(self.sections[place[section]])
            what = rng.choice(["set"] * 8 + ["drop", "twice", "misspelt", "section twice"])
            changes.append([section, key, what, self.toml_value(rng)])
        env = {}
        mode = rng.choice(["file", "file", "file", "environment", "both"])
        if mode != "file":
            for name in rng.sample(self.variables, rng.choice([1, 2, 5])):
                env[name] = rng.choice([
                    "", " ", "0", "-1", "x", "true", "/", "/proc/none", "a" * 100000, "\x07\x1b[31m", "é", "é\n\n", "\udcff\udcfe", "99999999999999999999", "1e9", "127.0.0.1:1", "0.0.0.0:0", "::", "http://127.0.0.1:1", "https://u:" + SECRET + "@127.0.0.1:1",
                    "postgres://u:" + SECRET + "@127.0.0.1:1/d", "postgres://u:" + SECRET + "@a@b/d/x?y", "redis://u:" + SECRET + "@127.0.0.1:1", "file:///proc/none/repo", "0 2 * * *", "61 2 * * *", "wirevault=trace", "=,=", "off", "Nowhere/City", "s3://bucket/x",
                    self.stage_word("tree"), self.stage_word("app.db"), ":", ",,", "a:b,c", "/dev/zero",
                ])
            if rng.random() < 0.5:
                env = {"BACKUP_PATHS": self.stage_word("tree")} | env
            # Nothing is written outside the stage.
            env = {"BACKUP_DIR": self.stage_word("repo2")} | env
        return {"changes": changes if mode != "environment" else [], "file": mode != "environment", "env": env, "commands": rng.sample(COMMANDS, 4), "servers": rng.random() < 0.3}

    def stage_word(self, name):
        return "{stage}/" + name

    def parts(self, history):
        return [history["commands"], history["changes"]]

    def describe(self, history):
        changes = "; ".join(f"[{s}] {k} {w} {v[:40]}" for s, k, w, v in history["changes"])
        env = " ".join(f"{k}={v[:30]!a}" for k, v in history["env"].items())
        return f"{changes} {env}".replace(self.stage, "{stage}").replace("\n", " ").strip()[:300]

    def document(self, history):
        # Everything that a file may have, in sections of a base that is right.
        sections = {
            "": {},
            "repository": {"url": f'"file://{self.stage}/place/repo"'},
            "source.tree": {"kind": '"files"', "root": f'"{self.stage}/place/tree"'},
            "source.app": {"kind": '"sqlite"', "path": f'"{self.stage}/place/app.db"'},
            "job.job": {"sources": '["tree", "app"]', "schedule": '"0 2 * * *"'},
            "job.job.keep": {"last": "3"},
            "drill.d": {"schedule": '"0 5 * * 0"', "level": '"content"'},
            "notify.n": {"kind": '"webhook"', "url": f'"http://127.0.0.1:{self.closed}/hook"'},
            "cleanup.c": {"path": f'"{self.stage}/place/old"', "glob": '["*.log"]', "keep": '"30d"'},
        }
        touched = {section for section, *_ in history["changes"]}
        if "source.db" in touched or history["servers"]:
            sections["source.db"] = {"kind": '"postgres"', "url": f'"postgres://app:{SECRET}@127.0.0.1:{self.closed}/app?connect_timeout=2"', "optional": "true"}
        if "source.cluster" in touched or history["servers"]:
            sections["source.cluster"] = {"kind": '"postgres-physical"', "url": f'"postgres-physical://app:{SECRET}@127.0.0.1:{self.closed}?connect_timeout=2"', "optional": "true"}
        if "source.cache" in touched or history["servers"]:
            sections["source.cache"] = {"kind": '"redis"', "url": f'"redis://:{SECRET}@127.0.0.1:{self.closed}"', "optional": "true"}
        if "source.stack" in touched:
            sections["source.stack"] = {"kind": '"docker"', "socket": f'"{self.stage}/place/no.sock"'}
        if history["servers"]:
            sections["job.job"]["sources"] = json.dumps([s.split(".")[1] for s in sections if s.startswith("source.")])
        doubled = []
        for section, key, what, value in history["changes"]:
            table = sections.setdefault(section, {})
            if key in SECRET_KEYS and value.startswith('"'):
                value = f'"{SECRET}"'
            if what == "set":
                table[key] = value
            elif what == "drop":
                table.pop(key, None)
            elif what == "misspelt":
                table[key + "x"] = value
            elif what == "twice":
                table[key] = value
                doubled.append((section, key, value))
            elif section:
                doubled.append((section, None, None))
        text = []
        for section, table in sections.items():
            if section:
                text.append(f"[{section}]")
            text += [f"{key} = {value}" for key, value in table.items()]
            text += [f"{key} = {value}" for one, key, value in doubled if one == section and key]
            if (section, None, None) in doubled:
                text.append(f"[{section}]")
        return "\n".join(text) + "\n"

    @staticmethod
    def bounded():
        """What reads without an end fails, and takes nothing from others."""
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    def play(self, history):
        place = self.fresh("place")
        os.makedirs(f"{place}/tree/sub")
        os.makedirs(f"{place}/old")
        for name in ("tree/a", "tree/sub/b"):
            with open(f"{place}/{name}", "w", encoding="ascii") as file:
                file.write("content")
        open(f"{place}/app.db", "wb").close()
        work = self.fresh("work")
        document = ""
        if history["file"]:
            document = self.document(history)
            with open(f"{work}/wirevault.toml", "w", encoding="utf-8") as file:
                file.write(document)
            os.chmod(f"{work}/wirevault.toml", 0o600)
        if history["env"].get("BACKUP_DIR", "x").strip() == "":
            history["env"]["BACKUP_DIR"] = self.stage_word("repo2")
        env = {key: value.replace("{stage}", place) for key, value in history["env"].items() if "\0" not in value}
        for command in history["commands"]:
            env_of = {"WIREVAULT_STATE_DIR": os.path.join(self.stage, "state"), **env}
            try:
                done = self.wire(*command, env=env_of, timeout=120, codes=None, cwd=work, preexec=self.bounded)
            except OSError:
                continue  # The kernel takes no such environment.
            said = done.said() + "\n" + document[:3000]
            if done.code not in (0, 1, 2):
                raise Failure(f"{command[0]}: exit code {done.code}", said)
            if done.peak_kib > MAX_KIB:
                raise Failure(f"{command[0]}: {done.peak_kib >> 10} MiB of memory", said)
            if SECRET.encode() in done.out + done.err:
                raise Failure(f"{command[0]}: prints a secret", said)
            if len(done.out) + len(done.err) > 400_000:
                raise Failure(f"{command[0]}: says {(len(done.out) + len(done.err)) >> 10} KiB", said)
            text = (done.out + done.err).decode("utf-8", "replace")
            if done.code == 1 and not text.strip():
                raise Failure(f"{command[0]}: fails without a word", said)
            if any(ord(c) < 32 and c not in "\n\t\r" for c in text) and "json" not in " ".join(command):
                raise Failure(f"{command[0]}: prints control characters", said)
            if "at src/" in text or "RustError" in text or "called `" in text:
                raise Failure(f"{command[0]}: speaks of its own code", said)
        for name in ("tree/a", "tree/sub/b"):
            if not os.path.exists(f"{place}/{name}"):
                raise Failure("a source has lost a file", document)

    def close(self):
        pass


if __name__ == "__main__":
    sys.exit(Config().main())
