#!/usr/bin/env python3
"""Random PostgreSQL databases, backed up and restored in every way, and compared with the original by pg_dump.

What pg_dump and psql make of the same database counts as equal too: a server writes some expressions otherwise once they
were read again, whoever brought them there.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import Failure, Generator, Skip, free_port, run, servers
from pg_schema import SETTINGS, Schema, literal, quoted

HEADER = re.compile(r"^--\n-- (?:Data for )?(Name: .*; Type: .*; Schema: .*)\n--\n", re.M)
# Sessions of ours ignore what the database says about them.
OURS = (
    "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c session_replication_role=origin"
    " -c client_min_messages=warning -c default_transaction_deferrable=off -c default_transaction_isolation=read\\ committed -c search_path=public"
    " -c quote_all_identifiers=off -c standard_conforming_strings=on -c backslash_quote=safe_encoding -c check_function_bodies=on"
)
ROLE_NAMES = ["wg_plain", "wg_other", "wg Mixed Case", 'wg"quoted', "wg'é", "wg_login", "wg;semi"]
WAYS = {"new": 1.0, "to18": 0.3, "clean": 0.25, "table": 0.35, "table-clean": 0.25, "by-hand": 0.2, "verify": 0.2, "churn": 0.2, "plain-role": 0.1}


class Server:
    def __init__(self, major, bins, stage, root=None):
        self.major, self.bins, self.root, self.port = major, bins, root, free_port()
        self.place = os.path.join(root, "tmp", os.path.basename(stage)) if root else os.path.join(stage, f"pg{major}")
        os.makedirs(self.place)
        self.inside = self.place[len(root):] if root else self.place
        self.prefix = ["chroot", "--userspec=postgres:postgres", root, "env", "HOME=/tmp"] if root else ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "env", "HOME=/tmp"]
        if os.geteuid() == 0:
            subprocess.run((["chroot", root] if root else []) + ["chown", "postgres", self.inside], check=True)
        else:
            self.prefix = ["env", "HOME=/tmp"]
        self.tool("initdb", "-D", f"{self.inside}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.tool(
            "pg_ctl", "-D", f"{self.inside}/data", "-w", "-t", "240", "-l", f"{self.inside}/log", "-o",
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_locks_per_transaction=1024 -c wal_level=logical"
            " -c shared_preload_libraries=pg_stat_statements -c full_page_writes=off -c max_connections=60", "start",
        )

    def tool(self, name, *args):
        done = run([*self.prefix, f"{self.bins}/{name}", *args], timeout=300)
        if done.code != 0:
            raise SystemExit(done.said())
        return done

    def stop(self):
        run([*self.prefix, f"{self.bins}/pg_ctl", "-D", f"{self.inside}/data", "-m", "immediate", "stop"])
        shutil.rmtree(self.place, ignore_errors=True)

    def url(self, database, role="postgres"):
        name = "/" + urllib.parse.quote(database, safe="") if database else ""
        return f"postgres://{urllib.parse.quote(role)}@127.0.0.1:{self.port}{name}"


class Postgres(Generator):
    name = "postgres"
    about = __doc__.splitlines()[0]
    shrink_seconds = 150

    def flags(self, flags):
        flags.add_argument("--way", help="restore in this way alone: " + ", ".join(WAYS))
        flags.add_argument("--without", default="", help="leave these ways out, separated by commas")
        flags.add_argument("--size", type=int, default=90, help="statements of a database, at most")
        flags.add_argument("-v", "--verbose", action="store_true", help="print what the server refused while a database was made")

    def open(self):
        env = servers()
        self.bins = env["WIREVAULT_TEST_PG15_BIN"]
        self.servers = {15: Server(15, self.bins, self.stage)}
        root = env.get("WIREVAULT_TEST_PG18_ROOT")
        if root and os.geteuid() == 0:
            self.servers[18] = Server(18, "/usr/lib/postgresql/18/bin", self.stage, root)
        else:
            print("postgres: no PostgreSQL 18 with its pg_dump here, 15 alone")
        for server in self.servers.values():
            for role in ROLE_NAMES:
                self.psql(server, "postgres", f"CREATE ROLE {quoted(role)}" + (" LOGIN" if "login" in role else ""))
            self.psql(server, "postgres", "CREATE ROLE wg_backup SUPERUSER LOGIN; GRANT wg_other TO wg_plain; GRANT \"wg Mixed Case\" TO wg_login WITH ADMIN OPTION; CREATE ROLE wg_creator LOGIN CREATEDB")

    def close(self):
        for server in getattr(self, "servers", {}).values():
            server.stop()

    def psql(self, server, database, sql, strict=True, cwd=None, file=None, options=OURS):
        env = {**self.env, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGDATABASE": database, "PGOPTIONS": options, "PGCLIENTENCODING": "UTF8"}
        if isinstance(sql, str):
            sql = sql.encode("utf-8", "surrogateescape")
        done = run([f"{self.bins}/psql", "-X", "-q", "-A", "-t", "-v", f"ON_ERROR_STOP={int(strict)}", *(["-f", file] if file else [])], env, 240, sql, cwd)
        if strict and done.code != 0:
            raise Failure("oracle: psql", f"{sql[:2000]!r}\n{done.said()}")
        return done

    def ask(self, server, database, sql):
        return self.psql(server, database, sql).out.decode("utf-8", "surrogateescape").rstrip("\n")

    # Histories.

    def make(self, rng, number):
        major = 18 if 18 in self.servers and rng.random() < 0.45 else 15
        encoding = rng.choice(["UTF8", "UTF8", "UTF8", "LATIN1", "SQL_ASCII", "EUC_JP"])
        roles = [quoted(role) if role != role.lower() or not role.isidentifier() else role for role in ROLE_NAMES]
        if encoding == "EUC_JP":
            roles = [role for role in roles if role.isascii()]
        # A few classes at a time make small databases that still combine everything with everything.
        schema = Schema(rng, major, encoding, roles, rng.choice([10, 30, self.args.size]))
        focus = rng.sample(sorted(Schema.WEIGHTS), 8)
        schema.WEIGHTS = {key: value * (6 if key in focus else 1) for key, value in Schema.WEIGHTS.items()}
        settings = []
        for target in ("DATABASE", "ROLE", "ROLE IN DATABASE"):
            if rng.random() < 0.35:
                settings += [(target, name, rng.choice(values)) for name, values in rng.sample(SETTINGS, rng.randint(1, 5))]
        token = f"gsrc{number}"
        history = {
            "major": major,
            "encoding": encoding,
            "database": rng.choice([token, token, f"{token} odd", f'{token}"q', f"Up{token}", f"{token}-x", f"{token}%", f"{token}é" if encoding == "UTF8" else token]),
            "statements": schema.make(),
            "settings": settings,
            "properties": [x for x in [
                "ALTER DATABASE {db} OWNER TO " + rng.choice(roles), "COMMENT ON DATABASE {db} IS " + literal(schema.text()), "GRANT CREATE, TEMPORARY ON DATABASE {db} TO " + rng.choice(roles) + " WITH GRANT OPTION",
                "REVOKE ALL ON DATABASE {db} FROM PUBLIC", "ALTER DATABASE {db} CONNECTION LIMIT 40",
            ] if rng.random() < 0.2],
            # From within, a comment has the bytes of this database's encoding.
            "inside": rng.random() < 0.3,
            "parallel": rng.randint(1, 8),
            "backup_parallel": rng.randint(1, 4),
            "rows": rng.random() < 0.2,
            "choice": rng.randrange(1 << 30),
            "ways": [way for way, chance in WAYS.items() if (rng.random() < chance if not self.args.way else way == self.args.way)],
        }
        history["ways"] = [way for way in history["ways"] if way not in self.args.without.split(",")]
        if major == 18 or 18 not in self.servers:
            history["ways"] = [way for way in history["ways"] if way != "to18"] or ["new"]
        return history

    def parts(self, history):
        return [history["ways"], history["statements"], history["settings"], history["properties"]]

    def describe(self, history):
        return f"{history['major']} {history['encoding']}, {len(history['statements'])} statements ({self.refused} refused), {len(history['settings'])} settings, {' '.join(history['ways'])}"

    # One history.

    def play(self, history):
        server = self.servers[history["major"]]
        source = history["database"]
        self.refused = 0
        try:
            self.load(server, source, history)
            self.repository = "file://" + self.fresh("repository")
            self.role = "wg_backup"
            self.source_dump = self.dump(server, source)
            churn = "churn" in history["ways"] and Churn(self, server, source)
            backup = self.wire(
                "backup", server.url(source, self.role), "--to", self.repository, "--parallel", str(history["backup_parallel"]), codes=(0, 1, 2) if churn else (0,)
            )
            if churn:
                churn.end()
                said = backup.said()
                if backup.code == 1 and "while" not in said and "begin again" not in said:
                    raise Failure("backup beside DDL: exit code 1", said)
                if backup.code == 1:
                    return
                if backup.code == 2 and "changed-" not in said:
                    raise Failure("backup beside DDL: exit code 2 without a reason that DDL gives", said)
            self.wire("verify", "latest", "--from", self.repository)
            for way in history["ways"]:
                getattr(self, "way_" + way.replace("-", "_"))(server, source, history)
        finally:
            for one in self.servers.values():
                self.sweep(one)

    def load(self, server, name, history):
        self.psql(server, "postgres", f"CREATE DATABASE {quoted(name)} TEMPLATE template0 ENCODING '{history['encoding']}' LC_COLLATE 'C' LC_CTYPE 'C'")
        text = "".join(statement + ";\n" for statement in history["statements"])
        if history["encoding"] == "SQL_ASCII":
            text = "SET client_encoding = SQL_ASCII;\n" + text
        done = self.psql(server, name, text, strict=False)
        errors = [line for line in done.err.decode("utf-8", "replace").splitlines() if "ERROR: " in line]
        self.refused = len(errors)
        if self.args.verbose:
            print("\n".join(errors))
        for statement in history["properties"]:
            self.psql(server, name if history.get("inside") else "postgres", statement.replace("{db}", quoted(name)), strict=False)
        for target, setting, value in history["settings"]:
            of = {"DATABASE": f"DATABASE {quoted(name)}", "ROLE": "ROLE wg_backup", "ROLE IN DATABASE": f"ROLE wg_login IN DATABASE {quoted(name)}"}[target]
            self.psql(server, "postgres", f"ALTER {of} SET {setting} = {value}", strict=False)

    def sweep(self, server):
        """Removes every database of a history, and the settings of its role."""
        names = self.ask(server, "postgres", "ALTER ROLE wg_backup RESET ALL; SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')").splitlines()
        for name in names:
            # A subscription keeps its database; it has no slot here.
            drop = self.psql(server, "postgres", f"ALTER DATABASE {quoted(name)} IS_TEMPLATE false; DROP DATABASE {quoted(name)} WITH (FORCE)", strict=False)
            if drop.err:
                self.psql(server, name, "SELECT format('ALTER SUBSCRIPTION %1$I DISABLE; ALTER SUBSCRIPTION %1$I SET (slot_name = NONE); DROP SUBSCRIPTION %1$I', subname) FROM pg_subscription s "
                          "JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()\n\\gexec", strict=False)
                self.psql(server, "postgres", f"DROP DATABASE {quoted(name)} WITH (FORCE)")

    def dump(self, server, name, *flags, by=None):
        """pg_dump's text as a mapping from the heads of its entries to what stands in them."""
        by = by or server
        done = run([*by.prefix, f"PGOPTIONS={OURS}", f"{by.bins}/pg_dump", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "--restrict-key=x", *(flags or ["-C"]), "-d", name], timeout=240)
        if done.code != 0 and "gcpy" in name:
            raise Failure("pg_dump cannot read what was restored", done.said())
        if done.code != 0:
            raise Skip(f"pg_dump cannot read {name}: {done.err.decode('utf-8', 'replace')[-300:]}")
        text = re.sub(r"g(?:cpy|pee)(?=\d)", "gsrc", done.out.decode("utf-8", "surrogateescape"))
        # Extensions belong to whoever restores; what 15.20 keeps for itself among the options of a column is no option.
        text = re.sub(r"\bwg_backup\b", "postgres", re.sub(r"pg_attver=\d+(, )?", "", text)).replace("--\n-- PostgreSQL database dump complete\n--\n", "")
        pieces = HEADER.split(text)
        entries = {}
        for head, body in zip(pieces[1::2], pieces[2::2]):
            lines = [line for line in body.split("\n") if not line.startswith(("SET default_t", "\\connect", "\\restrict", "\\unrestrict")) and not line.endswith(" SET ();")]
            if lines and lines[0].startswith("COPY ") or "Type: TABLE DATA" in head:
                copy = [i for i, line in enumerate(lines) if line.startswith("COPY ")]
                if copy:
                    end = lines.index("\\.") if "\\." in lines else len(lines)
                    lines[copy[0] + 1 : end] = sorted(lines[copy[0] + 1 : end])
            body = "\n".join(lines).strip("\n")
            entries[head] = entries.get(head, "") + body
        entries.pop("", None)
        return entries

    def compare(self, what, server, copy, history, expected=None, ignore=None, peer=True):
        """Every entry of the copy must be as in the original, or as pg_dump and psql bring it here."""
        by = None
        if server.major != history["major"]:
            by = server
            expected = self.dump(self.servers[history["major"]], history["database"], by=server)
        expected = expected or self.source_dump
        got = self.dump(server, copy, by=by)
        if by:
            # Nobody had MAINTAIN before 17: what is taken from everybody is everything.
            plain = lambda body: body.replace("REVOKE SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE ON", "REVOKE ALL ON")
            expected, got = ({head: plain(body) for head, body in one.items()} for one in (expected, got))
        differing = [head for head in {**expected, **got} if expected.get(head) != got.get(head) and not (ignore and ignore(head, expected.get(head), got.get(head)))]
        differing = [head for head in differing if not re.match("Name: circle_[ab]", head)]
        if any(setting == "quote_all_identifiers" for _, setting, _ in history["settings"]):
            # The server quotes what it stores of a dictionary's options by the setting of the session that makes it.
            differing = [head for head in differing if "Type: TEXT SEARCH DICTIONARY" not in head]
        if differing and peer:
            peer = self.peer(server, history)
            differing = [head for head in differing if got.get(head) != peer.get(head)]
        if differing:
            text = []
            for head in sorted(differing)[:8]:
                text.append(f"-- {head}\n   original: {(expected.get(head) or 'nothing')[:1500]}\n   restored: {(got.get(head) or 'nothing')[:1500]}")
                if peer is not True and peer:
                    text.append(f"   as psql has it: {(peer.get(head) or 'nothing')[:1500]}")
            kinds = sorted({re.search(r"Type: (.*?);", head).group(1) for head in differing})
            raise Failure(f"{what}: differs in {', '.join(kinds)}", "\n".join(text) + "\n\n" + getattr(self, "last", ""))

    def peer(self, server, history):
        """The database that psql makes of pg_dump's text; without settings, which would trouble psql."""
        name = history["database"].replace("gsrc", "gpee")
        done = self.dump_text(server, history)
        self.psql(server, "postgres", f"DROP DATABASE IF EXISTS {quoted(name)}; CREATE DATABASE {quoted(name)} TEMPLATE template0 ENCODING '{history['encoding']}' LC_COLLATE 'C' LC_CTYPE 'C'")
        self.peer_errors = [line for line in self.psql(server, name, done, strict=False, options="").err.decode("utf-8", "replace").splitlines() if "ERROR: " in line]
        entries = self.dump(server, name, by=server)
        run(["true"])
        return entries

    def dump_text(self, server, history):
        source = self.servers[history["major"]]
        return run([*server.prefix, f"PGOPTIONS={OURS}", f"{server.bins}/pg_dump", "-h", "127.0.0.1", "-p", str(source.port), "-U", "postgres", "--restrict-key=x", "-d", history["database"]], timeout=240).out

    def restore(self, server, name, history, *flags, codes=(0,), role=None, what="restore"):
        done = self.wire("restore", "latest", "--into", server.url(name, role or self.role), "--from", self.repository, "--parallel", str(history["parallel"]), *flags, codes=(0, 1, 2), kind=what)
        self.last = done.said()
        if done.code not in codes:
            # What psql cannot make either is the database's own matter.
            self.peer(server, history)
            if self.peer_errors:
                if done.code == 2:
                    return done
                raise Skip("psql cannot load it either: " + self.peer_errors[0])
            raise Failure(f"{what}: exit code {done.code}", self.last)
        return done

    def copy_name(self, history):
        return history["database"].replace("gsrc", "gcpy")

    def forget(self, server, name):
        self.sweep_one(server, name)

    def sweep_one(self, server, name):
        self.psql(server, name, "SELECT format('ALTER SUBSCRIPTION %1$I DISABLE; ALTER SUBSCRIPTION %1$I SET (slot_name = NONE); DROP SUBSCRIPTION %1$I', subname) FROM pg_subscription s "
                  "JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()\n\\gexec", strict=False)
        self.psql(server, "postgres", f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def churned(self, history):
        return (lambda head, *_: "Schema: churn;" in head or "Name: churn;" in head or "Name: SCHEMA churn;" in head or "Type: SCHEMA; Schema: -; Owner: postgres" in head and "churn" in head) if "churn" in history["ways"] else None

    # Ways back.

    def way_churn(self, server, source, history):
        pass

    def way_new(self, server, source, history):
        name = self.copy_name(history)
        flags = ["--verify-rows"] if history["rows"] else []
        churn = "churn" in history["ways"]
        self.restore(server, name, history, *flags, codes=(0, 2) if churn else (0,))
        self.compare("restore", server, name, history, ignore=self.churned(history), peer=not churn)
        if churn:
            sums = self.ask(server, name, "SELECT (SELECT sum(amount) FROM churn.ledger) || ' ' || (SELECT sum(amount) FROM churn.refilled) || ' ' || (SELECT sum(amount) FROM churn.parted)")
            if sums != "0 1000 1000":
                raise Failure("backup beside writers: a torn copy", f"sums {sums}, not 0 1000 1000")
        self.sweep_one(server, name)

    def way_to18(self, server, source, history):
        name = self.copy_name(history)
        other = self.servers[18]
        done = self.restore(other, name, history, codes=(0, 2), what="restore into 18")
        if done.code == 2:
            self.peer(other, history)
            if not self.peer_errors:
                raise Failure("restore into 18: exit code 2", done.said())
        self.compare("restore into 18", other, name, history, ignore=self.churned(history))
        self.sweep_one(other, name)

    def way_clean(self, server, source, history):
        if "churn" in history["ways"]:
            return
        self.psql(server, source, "CREATE SCHEMA wirevault_later; CREATE TABLE wirevault_later.t(x int)", strict=False)
        self.restore(server, source, history, "--clean", "--drop-old", what="restore --clean")
        self.compare("restore --clean", server, source, history)

    def way_table(self, server, source, history):
        table = self.some_table(server, source, history)
        if table is None:
            return
        name = self.copy_name(history)
        flags = ["--table", table, "--with-dependencies"]
        done = self.restore(server, name, history, *flags, what="restore --table")
        expected = self.dump(server, source, "-t", table)
        got = self.dump(server, name, "-t", table)
        # pg_dump asks for what -t names alone; what depends on tables that were not chosen may be missing.
        differing = [head for head in {**expected, **got} if expected.get(head) != got.get(head) and not head.startswith(("Name: LANGUAGE ", "Name: SCHEMA ", "Name: DATABASE "))]
        if differing:
            peer = self.dump(server, self.peer_name(server, history), "-t", table)
            differing = [head for head in differing if got.get(head) != peer.get(head)]
        if differing:
            text = "\n".join(f"-- {head}\n   original: {(expected.get(head) or 'nothing')[:1500]}\n   restored: {(got.get(head) or 'nothing')[:1500]}" for head in sorted(differing)[:6])
            kinds = sorted({re.search(r"Type: (.*?);", head).group(1) for head in differing})
            raise Failure(f"restore --table: differs in {', '.join(kinds)}", text + "\n\n" + done.said())
        self.sweep_one(server, name)

    def peer_name(self, server, history):
        self.peer(server, history)
        return history["database"].replace("gsrc", "gpee")

    def some_table(self, server, source, history):
        tables = self.ask(server, source, "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND c.oid >= 16384"
                          " AND n.nspname ~ '^[a-z0-9_]+$' AND relname ~ '^[a-z0-9_]+$' AND n.nspname !~ '^pg_' AND nspname <> 'churn'"
                          " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND deptype = 'e') ORDER BY 1").splitlines()
        return tables[history["choice"] % len(tables)] if tables else None

    def way_table_clean(self, server, source, history):
        """A table is damaged and brought back into the living database; afterwards all is as before, or nothing was touched."""
        table = self.some_table(server, source, history)
        if table is None or "churn" in history["ways"]:
            return
        quoted_name = ".".join(quoted(part) for part in table.split("."))
        self.psql(server, source, f"SET session_replication_role = replica; DELETE FROM {quoted_name} WHERE ctid = (SELECT max(ctid) FROM {quoted_name})", strict=False)
        damaged = self.dump(server, source)
        done = self.restore(server, source, history, "--table", table, "--clean", codes=(0, 1, 2), what="restore --table --clean")
        if done.code == 1:
            after = self.dump(server, source)
            if after != damaged:
                raise Failure("restore --table --clean: refused, and yet something changed", done.said())
            return
        self.compare("restore --table --clean", server, source, history)
        if done.code == 2:
            raise Failure("restore --table --clean: exit code 2 though nothing differs", done.said())

    def way_by_hand(self, server, source, history):
        # Names of inherited columns with a line break are a limit that docs/postgres.md names.
        if "churn" in history["ways"] or any("line\n" in statement for statement in history["statements"]):
            return
        place = self.fresh("by-hand")
        for archive in sorted(glob.glob(self.repository[7:] + "/data/*/*/*.tar.zst")):
            subprocess.run(["bash", "-c", 'zstd -qdc -- "$1" | tar -xi -C "$2"', "-", archive, place], check=True)
        for script in sorted(glob.glob(place + "/restore/join-*.sh")):
            subprocess.run(["sh", script], cwd=place, check=True)
        name = self.copy_name(history)
        self.psql(server, "postgres", f"CREATE DATABASE {quoted(name)} TEMPLATE template0 ENCODING '{history['encoding']}' LC_COLLATE 'C' LC_CTYPE 'C'")
        done = self.psql(server, name, "", strict=False, cwd=place, file="restore.sql", options="")
        self.last = done.said()
        self.compare("restore.sql by psql", server, name, history, ignore=lambda head, *_: "Type: DATABASE" in head or "; Type: ACL; Schema: -;" in head and "DATABASE" in head or "Type: COMMENT" in head and "DATABASE" in head)
        self.sweep_one(server, name)

    def way_verify(self, server, source, history):
        self.wire("verify", "latest", "--level", "restored", "--into", server.url("", self.role), "--from", self.repository, codes=(0, 2) if "churn" in history["ways"] else (0,), kind="verify --level restored")

    def way_plain_role(self, server, source, history):
        """A role that may make databases and no more restores without owners and rights: no hang, no panic, and rows that came are whole."""
        done = self.wire("restore", "latest", "--into", server.url(self.copy_name(history), "wg_creator"), "--from", self.repository, "--no-owner", "--no-privileges", codes=(0, 1, 2), kind="restore as a plain role")
        self.last = done.said()
        self.sweep_one(server, self.copy_name(history))


class Churn:
    """DDL, TRUNCATE and transfers in schema churn while a backup reads; each transaction keeps the sums."""

    def __init__(self, generator, server, database):
        self.generator, self.server, self.database = generator, server, database
        generator.psql(server, database, """CREATE SCHEMA churn;
            CREATE TABLE churn.ledger(id int PRIMARY KEY, amount int NOT NULL); INSERT INTO churn.ledger SELECT g, 0 FROM generate_series(1, 100) g;
            CREATE TABLE churn.refilled(amount int); INSERT INTO churn.refilled VALUES (1000);
            CREATE TABLE churn.parted(id int, amount int) PARTITION BY LIST (id); CREATE TABLE churn.parted_1 PARTITION OF churn.parted FOR VALUES IN (1); INSERT INTO churn.parted VALUES (1, 1000);
            CREATE TABLE churn.shaped(a int); CREATE TYPE churn.mood AS ENUM ('a'); CREATE SEQUENCE churn.q;""")
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.loop, args=(sql,)) for sql in (self.money, self.ddl)]
        for thread in self.threads:
            thread.start()

    def loop(self, sql):
        number = 0
        while not self.stop.is_set():
            number += 1
            self.generator.psql(self.server, self.database, sql(number), strict=False)

    def money(self, n):
        return "".join(f"""BEGIN; UPDATE churn.ledger SET amount = amount + 5 WHERE id = {(n * 7 + i) % 100 + 1}; UPDATE churn.ledger SET amount = amount - 5 WHERE id = {(n * 3 + i) % 100 + 1}; COMMIT;
            BEGIN; TRUNCATE churn.refilled; INSERT INTO churn.refilled SELECT 100 FROM generate_series(1, 10); COMMIT;
            BEGIN; DROP TABLE churn.parted_1; CREATE TABLE churn.parted_1 PARTITION OF churn.parted FOR VALUES IN (1); INSERT INTO churn.parted VALUES (1, 400), (1, 600); COMMIT;
            """ for i in range(10))

    def ddl(self, n):
        return f"""CREATE TABLE churn.new{n}(a int PRIMARY KEY, b text DEFAULT 'x'); INSERT INTO churn.new{n} SELECT generate_series(1, 50); CREATE INDEX ON churn.new{n}(b);
            CREATE OR REPLACE FUNCTION churn.f() RETURNS int LANGUAGE sql AS 'SELECT {n}'; CREATE OR REPLACE VIEW churn.v{n} AS SELECT a, b FROM churn.new{n};
            ALTER TABLE churn.shaped ADD COLUMN c{n} int DEFAULT {n}; ALTER TABLE churn.new{n} RENAME TO moved{n}; DROP VIEW churn.v{n}; DROP TABLE churn.moved{n};
            ALTER TABLE churn.shaped DROP COLUMN c{n}; SELECT nextval('churn.q'); CREATE TYPE churn.t{n} AS (x int); DROP TYPE churn.t{n}; ALTER TABLE churn.shaped ALTER COLUMN a TYPE {'bigint' if n % 2 else 'int'};
            CREATE SCHEMA churn{n}; DROP SCHEMA churn{n};"""

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


if __name__ == "__main__":
    sys.exit(Postgres().main())
