"""Random databases: statements that make objects of every class, with rows, rights, settings, and names that need quoting.

Statements may fail (a value that a domain refuses, a key that is there already); what is made then is still a database.
"""

EXTENSIONS = [
    "hstore", "citext", "ltree", "cube", "isn", "pg_trgm", "btree_gist", "btree_gin", "intarray", "seg", "lo", "tablefunc",
    "unaccent", "fuzzystrmatch", "uuid-ossp", "pgcrypto", "earthdistance", "dict_int", "bloom", "tcn", "postgres_fdw", "file_fdw", "pg_stat_statements",
]
KEYWORDS = [
    "select", "table", "order", "user", "group", "default", "all", "between", "authorization", "left", "current_user", "values", "timestamp", "precision",
    "window", "overlaps", "isnull", "returning", "interval", "row", "coalesce", "none", "setof", "xmlparse",
]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    """A string constant, whatever standard_conforming_strings says."""
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


class Table:
    def __init__(self, name, columns, kind="table", key=None):
        self.name, self.columns, self.kind, self.key = name, columns, kind, key


class Schema:
    """Makes the statements of one database. `major` is the server's, `encoding` the database's, `roles` are there already."""

    def __init__(self, rng, major, encoding, roles, size):
        self.rng, self.major, self.encoding, self.roles, self.size = rng, major, encoding, roles, size
        self.sql = []
        self.count = 0
        self.keywords = list(KEYWORDS)
        self.schemas = ["public"]
        self.tables, self.views, self.matviews, self.sequences, self.servers = [], [], [], [], []
        self.functions, self.procedures, self.aggregates, self.triggers = [], [], [], []
        self.types, self.composites, self.indexes, self.constraints, self.foreign = [], [], [], [], []
        self.collations, self.operators, self.dictionaries, self.configurations = [], [], [], []
        self.publications, self.extensions, self.large_objects, self.wrappers, self.statistics = [], [], [], [], []

    # Small choices.

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, items):
        return self.rng.choice(items)

    def some(self, items, most=3):
        return self.rng.sample(items, min(len(items), self.rng.randint(1, most)))

    def add(self, statement):
        self.sql.append(statement)

    def name(self, tag):
        """An identifier, quoted as it needs to be, unlike any other."""
        self.count += 1
        plain = f"{tag}{self.count}"
        if self.chance(0.6):
            return plain
        if self.keywords and self.chance(0.2):
            self.rng.shuffle(self.keywords)
            return quoted(self.keywords.pop())
        forms = [
            plain.upper(), f"Mixed {plain}", f'quo"te{plain}', f"apos'{plain}", f"semi;{plain}", f"back\\{plain}", f"$$ {plain}", f"{plain} ", f" {plain}",
            f"{self.count}{tag}", f"per%s{plain}", f"dot.{plain}", f"{plain}-- x", f"/* {plain}", f"comma,{plain}", f"({plain})", f"{plain}{{}}", f":{plain}",
            f"a=b{plain}", f"*{plain}", f"?{plain}", f"tab\t{plain}", f"@{plain}", f"~{plain}", f"#{plain}", f"{plain}!", (plain + "_" + "x" * 63)[:63], f"\\'{plain}", f"%I {plain}",
            f"\\.{plain}", f"${{{plain}}}", f"`{plain}`", f"{plain}\\", f"line\n{plain}", f"E'{plain}",
        ]
        if self.encoding in ("UTF8", "SQL_ASCII"):
            # What SQL_ASCII cuts at 63 bytes may be no UTF-8 any more: a limit that docs/postgres.md names.
            forms += [f"ünïcode{plain}", f"日本{plain}", f"😀{plain}", ("é" * 28 + plain)[:34] if self.encoding == "UTF8" else f"é{plain}", f"İ{plain}", f"\u200b{plain}", f"e\u0301{plain}", f"\u2028{plain}"]
        elif self.encoding == "LATIN1":
            forms += [f"é{plain}", f"ÿ{plain}", f"\u00a0{plain}"]
        elif self.encoding == "EUC_JP":
            forms += [f"日本{plain}", f"カナ{plain}"]
        return quoted(self.pick(forms))

    def text(self):
        """A text value for rows and comments."""
        rng = self.rng
        forms = [
            "", "plain", "it's", 'double "quoted"', "back\\slash", "\\N", "\\.", "tab\there", "line\nbreak", "cr\rhere", "null", "NULL", "{a,b}", "(1,2)", " padded ",
            "$1 :x %s", "--", "/*", ";", "\b\f\v", "x" * rng.randint(1, 300), "0", "-1", "''", "\\\\", "{}", "\\x41", "&#65;", "\x7f", "\x01", "ends with \\",
        ]
        if self.encoding in ("UTF8", "SQL_ASCII"):
            forms += ["ünï ☃ 日本 😀", "\u00a0", "\u2028", "\ufeff", "e\u0301"]
        elif self.encoding == "LATIN1":
            forms += ["äöü ß ÿ", "\u00a0"]
        elif self.encoding == "EUC_JP":
            forms += ["日本語", "ｶﾅ"]
        if self.chance(0.02):
            return "long " * rng.randint(1000, 40000)
        return rng.choice(forms)

    def schema(self):
        return self.pick(self.schemas)

    def made(self, tag):
        return f"{self.schema()}.{self.name(tag)}"

    def role(self):
        return self.pick(self.roles)

    # Types and their values.

    def base_types(self):
        r = self.rng

        def ranges(one):
            def value():
                low, high = sorted([one(), one()])
                bounds = r.choice(["[]", "[)", "()", "(]"])
                return r.choice([f"'empty'", f"'{bounds[0]}{low},{high}{bounds[1]}'", f"'{bounds[0]}{low},)'", "'(,)'"])
            return value

        def multi(one):
            def value():
                numbers = sorted({one() for _ in range(4)})
                pairs = list(zip(numbers[::2], numbers[1::2]))
                return "'{" + ",".join(f"[{a},{b})" for a, b in pairs) + "}'"
            return value

        number = lambda: r.randint(-99, 99)
        day = lambda: f"20{r.randint(10, 30)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}"
        words = lambda: literal(self.text())
        floats = lambda: r.choice(["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1e-300", "0.1", f"{r.uniform(-1e6, 1e6)!r}", "1.7976931348623157e308", "5e-324"])
        stamps = lambda: r.choice([
            "'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", f"'{day()} 0{r.randint(0, 9)}:59:60'", f"'{day()} 12:00:00.{r.randint(0, 999999):06}'",
            "'1883-11-18 12:03:58'", "'0044-03-15 BC'", "'2024-03-31 02:30:00'",
        ])
        types = {
            "smallint": lambda: r.choice(["-32768", "32767", str(number())]),
            "integer": lambda: r.choice(["-2147483648", "2147483647", str(number())]),
            "bigint": lambda: r.choice(["-9223372036854775808", "9223372036854775807", str(number())]),
            "numeric": lambda: r.choice(["'NaN'", "'Infinity'", "0.00", "1e400", "-1e-400", f"{number()}.{r.randint(0, 10**9)}00", "1" * 200]),
            "numeric(12,3)": lambda: f"{number()}.{r.randint(0, 999)}",
            "real": lambda: r.choice(["'NaN'", "'Infinity'", "'-0'", "1e-45", "3.4028235e38", "0.1"]),
            "double precision": floats,
            "money": lambda: f"'{number()}.{r.randint(10, 99)}'::numeric::money",
            "text": words,
            "character varying(400)": words,
            "character varying": words,
            "character(9)": lambda: r.choice(["''", "'ab'", "'ab  '", "'123456789'"]),
            '"char"': lambda: r.choice(["''", "'a'", "E'\\\\'", "'\"'", "E'\\\\377'"]),
            "name": lambda: r.choice(["'n'", "'A b'", "''"]),
            "bytea": lambda: r.choice(["''", "'\\x00ff5c27'", "decode(repeat('00ff0a0d5c', 900), 'hex')", "'\\xdeadbeef'"]),
            "boolean": lambda: r.choice(["true", "false"]),
            "date": lambda: r.choice(["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", f"'{day()}'"]),
            "time": lambda: r.choice(["'24:00'", "'00:00'", f"'{r.randint(0, 23)}:10:00.{r.randint(0, 999999):06}'"]),
            "time with time zone": lambda: r.choice(["'24:00+15:59'", "'00:00-15:59:59'", "'12:00:01+05:30'"]),
            "timestamp without time zone": stamps,
            "timestamp(2) without time zone": lambda: f"'{day()} 01:02:03.{r.randint(0, 999999):06}'",
            "timestamp with time zone": stamps,
            "interval": lambda: r.choice(["'1 year -2 months 3 days -04:05:06.7'", "'-1 day'", "'178000000 years'", "'0'", "'1 mon -1 day'", "'-00:00:00.000001'"]),
            "interval day to second": lambda: f"'{number()} days 1:2:3'",
            "uuid": lambda: r.choice(["'00000000-0000-0000-0000-000000000000'", "gen_random_uuid()"]),
            "json": lambda: r.choice(["'{\"a\" :  1,\"a\":2}'", "'[]'", "'null'", "' 1.50 '", "'\"\\u0041\\\\\"'"]),
            "jsonb": lambda: r.choice(["'{\"a\": {\"b\": [1, null, \"x\\ny\"]}}'", "'[]'", "'null'", "'1.50'", "'1e100'"]),
            "jsonpath": lambda: r.choice(["'$.a[*] ? (@ > 1)'", "'strict $'"]),
            "xml": lambda: r.choice(["'<a b=\"c\">t</a>'", "'text only'", "'<a/><b/>'", "'<?xml version=\"1.0\"?><a/>'"]),
            "point": lambda: r.choice(["'(1e300,-0)'", "'(NaN,Infinity)'", "'(1.5,2)'"]),
            "line": lambda: "'{1,-1,0.1}'",
            "lseg": lambda: "'[(0,0),(1,1e-5)]'",
            "box": lambda: "'((3,4),(1,2))'",
            "path": lambda: r.choice(["'[(0,0),(1,1),(2,0)]'", "'((0,0),(1,1))'"]),
            "polygon": lambda: "'((0,0),(1,1),(2,0))'",
            "circle": lambda: "'<(1,2),3>'",
            "inet": lambda: r.choice(["'10.0.0.1/8'", "'::1'", "'fe80::1/64'", "'::ffff:1.2.3.4'"]),
            "cidr": lambda: r.choice(["'10.0.0.0/8'", "'2001:db8::/32'"]),
            "macaddr": lambda: "'08:00:2b:01:02:03'",
            "macaddr8": lambda: "'08:00:2b:01:02:03:04:05'",
            "bit(5)": lambda: "B'10101'",
            "bit varying": lambda: r.choice(["B''", "B'1'", "B'" + "10" * r.randint(1, 90) + "'"]),
            "tsvector": lambda: r.choice(["'a:1A fat:2,4B \"odd word\":9'", "''", "E'''it''''s''' :: tsvector"]),
            "tsquery": lambda: r.choice(["'a & !(b | c:*A) <2> d'", "''"]),
            "int4range": ranges(number),
            "int8range": ranges(number),
            "numrange": ranges(number),
            "daterange": ranges(day),
            "tsrange": ranges(day),
            "tstzrange": ranges(day),
            "oid": lambda: r.choice(["0", "4294967295", "16384"]),
            "regclass": lambda: r.choice(["'pg_class'", "0::oid", "4294967295::oid"]),
            "regtype": lambda: r.choice(["'integer[]'", "'timestamptz'", "0::oid"]),
            "regprocedure": lambda: "'lower(text)'",
            "regnamespace": lambda: "'pg_catalog'",
            "regrole": lambda: "'postgres'",
            "pg_lsn": lambda: r.choice(["'0/0'", "'FFFFFFFF/FFFFFFFF'"]),
            "xid": lambda: "'7'",
            "xid8": lambda: "'18446744073709551615'",
            "cid": lambda: "'7'",
            "tid": lambda: "'(1,2)'",
            "pg_snapshot": lambda: "'10:20:10,14,15'",
            "txid_snapshot": lambda: "'10:20:10,14,15'",
            "int2vector": lambda: "'1 2 3'",
            "oidvector": lambda: "'1 2 3'",
            "refcursor": lambda: "'c'",
            "aclitem": lambda: "'postgres=r/postgres'",
            "pg_catalog.regconfig": lambda: "'simple'",
        }
        if self.major >= 14:
            types |= {"int4multirange": multi(number), "datemultirange": multi(day), "nummultirange": multi(number)}
        for extension in self.extensions:
            schema = extension[1]
            types |= {
                "hstore": {f"{schema}.hstore": lambda: r.choice(["'a=>1,b=>NULL'", "'\"q\\\"x\"=>\"y z\"'", "''"])},
                "citext": {f"{schema}.citext": words},
                "ltree": {f"{schema}.ltree": lambda: "'a.b.c'", f"{schema}.lquery": lambda: "'*.b.*'"},
                "cube": {f"{schema}.cube": lambda: "'(1,2),(3,4.5)'"},
                "isn": {f"{schema}.isbn13": lambda: "'9780393040029'"},
                "seg": {f"{schema}.seg": lambda: r.choice(["'1..2.50'", "'<5'", "'6.25e-3'"])},
                "intarray": {f"{schema}.query_int": lambda: "'1&2'"},
                "lo": {f"{schema}.lo": lambda: "'0'"},
            }.get(extension[0], {})
        return types

    def type(self):
        """Returns a type and what makes a value of it."""
        if self.types and self.chance(0.25):
            kind, value = self.pick(self.types)
        else:
            # A new table of them each time is slow, but sees the extensions that are there by now.
            base = self.base_types()
            kind = self.pick(sorted(base))
            value = base[kind]
        if self.chance(0.15) and not kind.endswith("vector") and "pg_catalog" not in kind:
            return f"{kind}[]", self.array(kind, value)
        return kind, value

    def array(self, kind, value):
        def make():
            shape = self.rng.randrange(5)
            cast = f"::{kind}"
            if shape == 0:
                return f"'{{}}'::{kind}[]"
            if shape == 1:
                return f"ARRAY[ARRAY[{value()}{cast}, NULL], ARRAY[{value()}{cast}, {value()}{cast}]]"
            if shape == 2:
                return f"array_fill({value()}{cast}, ARRAY[2], ARRAY[-1])"
            return "ARRAY[" + ", ".join(f"{value()}{cast}" for _ in range(self.rng.randint(1, 4))) + f"]::{kind}[]"
        return make

    # Object classes.

    def g_schema(self):
        name = self.name("s")
        self.add(f"CREATE SCHEMA {name}" + (f" AUTHORIZATION {self.role()}" if self.chance(0.4) else ""))
        self.schemas.append(name)

    def g_extension(self):
        free = [e for e in EXTENSIONS if e not in [x[0] for x in self.extensions]]
        extension, schema = self.pick(free), self.schema()
        if extension == "earthdistance":
            if "cube" not in [x[0] for x in self.extensions]:
                return
        self.add(f'CREATE EXTENSION "{extension}" SCHEMA {schema}')
        self.extensions.append((extension, schema))

    def g_enum(self):
        name = self.made("e")
        labels = [f"label{i}" for i in range(self.rng.randint(1, 4))] + ["with space", "it's"]
        self.add(f"CREATE TYPE {name} AS ENUM ({', '.join(literal(x) for x in labels)})")
        if self.chance(0.4):
            self.add(f"ALTER TYPE {name} ADD VALUE 'added' BEFORE 'with space'")
        if self.chance(0.3):
            self.add(f"ALTER TYPE {name} RENAME VALUE 'label0' TO 'Renamed'")
        self.types.append((name, lambda: literal(self.pick(labels[1:]))))

    def g_domain(self):
        kind, value = self.type()
        name = self.made("d")
        parts = [f"CREATE DOMAIN {name} AS {kind}"]
        if self.chance(0.3):
            parts.append(f"DEFAULT {value()}::{kind}")
        if self.chance(0.3):
            parts.append(f"CONSTRAINT {self.name('dc')} CHECK (VALUE IS NOT NULL OR true)")
        if self.chance(0.2):
            parts.append("NOT NULL")
        self.add(" ".join(parts))
        if self.chance(0.3):
            self.add(f"ALTER DOMAIN {name} ADD CONSTRAINT {self.name('dc')} CHECK (pg_column_size(VALUE) < 1000000) NOT VALID")
        self.types.append((name, value))

    def g_composite(self):
        name = self.made("c")
        columns = [(self.name("f"), *self.type()) for _ in range(self.rng.randint(1, 4))]
        self.add(f"CREATE TYPE {name} AS ({', '.join(f'{c} {k}' for c, k, _ in columns)})")
        self.composites.append((name, columns))
        self.types.append((name, lambda: "ROW(" + ", ".join(f"{v()}::{k}" for _, k, v in columns) + f")::{name}"))
        if self.chance(0.2):
            self.add(f"ALTER TYPE {name} DROP ATTRIBUTE {columns[0][0]}, ADD ATTRIBUTE {columns[0][0]} {columns[0][1]}")
            self.types.pop()

    def g_range(self):
        name = self.made("r")
        kind, values = self.pick([("text", ["a", "b", "c"]), ("float8", ["1", "2.5", "30"]), ("varchar", ["x", "y", "z"]), ("inet", ["10.0.0.1", "10.0.0.2", "10.0.0.3"])])
        options = [f"subtype = {kind}"]
        if kind == "text" and self.chance(0.5):
            options.append('collation = "C"')
        if kind == "float8" and self.chance(0.5):
            options.append("subtype_diff = float8mi")
        if self.major >= 14 and self.chance(0.5):
            options.append(f"multirange_type_name = {self.made('mr')}")
        self.add(f"CREATE TYPE {name} AS RANGE ({', '.join(options)})")
        self.types.append((name, lambda: f"'[{values[0]},{self.pick(values[1:])})'"))

    def g_base_type(self):
        name = self.name("b")
        schema = self.schema()
        full = f"{schema}.{name}"
        source, length = self.pick([("int4", 4), ("text", "variable"), ("float8", 8)])
        self.add(f"CREATE TYPE {full}")
        if self.chance(0.2):
            return
        for one, args, result in [("in", "cstring", full), ("out", full, "cstring")]:
            self.add(f"CREATE FUNCTION {schema}.{quoted(f'{one} of {self.count}')}({args}) RETURNS {result} AS {literal(f'{source}{one}')} LANGUAGE internal IMMUTABLE STRICT")
        options = [f"INPUT = {schema}.{quoted(f'in of {self.count}')}", f"OUTPUT = {schema}.{quoted(f'out of {self.count}')}", f"LIKE = {source}"]
        if self.chance(0.5):
            options.append("CATEGORY = 'X'")
        if self.chance(0.3):
            options.append("PREFERRED = true, CATEGORY = 'y'" if len(options) == 3 else "PREFERRED = true")
        if self.chance(0.3):
            options.append("DELIMITER = ';'")
        if self.chance(0.3):
            options.append("DEFAULT = '7'")
        self.add(f"CREATE TYPE {full} ({', '.join(options)})")
        self.types.append((full, lambda: "'42'"))

    def g_sequence(self):
        name = self.made("q")
        options = [
            self.pick(["", "AS smallint", "AS bigint", "AS integer"]), self.pick(["", "INCREMENT 3", "INCREMENT -2"]), self.pick(["", "MINVALUE -100", "NO MINVALUE"]),
            self.pick(["", "MAXVALUE 1000", "NO MAXVALUE"]), self.pick(["", "CACHE 20"]), self.pick(["", "CYCLE", "NO CYCLE"]),
        ]
        unlogged = "UNLOGGED " if self.major >= 15 and self.chance(0.15) else ""
        self.add(f"CREATE {unlogged}SEQUENCE {name} {' '.join(options)}")
        if self.chance(0.6):
            self.add(self.pick([f"SELECT nextval({literal(name)})", f"SELECT setval({literal(name)}, 42, false)", f"SELECT setval({literal(name)}, 77)"]))
        self.sequences.append(name)

    def column(self, allow_generated=True):
        name = self.name("c")
        kind, value = self.type()
        parts = [f"{name} {kind}"]
        textual = kind in ("text", "character varying", "character varying(400)", "name")
        if textual and self.chance(0.2):
            parts.append("COLLATE " + self.pick(self.collations + ['pg_catalog."C"', 'pg_catalog."POSIX"']))
        if self.chance(0.2):
            if self.sequences and kind in ("integer", "bigint", "numeric") and self.chance(0.6):
                parts.append(f"DEFAULT nextval({literal(self.pick(self.sequences))})")
            elif self.functions and kind == "integer" and self.chance(0.5):
                parts.append(f"DEFAULT {self.pick(self.functions)}(3)")
            elif textual and self.chance(0.5):
                parts.append(f"DEFAULT {self.pick(['CURRENT_USER', 'upper($x$a b$x$)', 'current_setting($$server_version$$)', literal(self.text())])}")
            else:
                parts.append(f"DEFAULT {value()}::{kind}")
        if self.chance(0.15):
            parts.append("NOT NULL" if self.major < 18 or self.chance(0.5) else f"CONSTRAINT {self.name('nn')} NOT NULL" + self.pick(["", "", " NO INHERIT"]))
        return name, kind, value, " ".join(parts)

    def constraint(self, columns):
        """Returns a table constraint, or nothing that fits."""
        name = f"CONSTRAINT {self.name('k')} " if self.chance(0.7) else ""
        column, kind, _ = self.pick(columns)
        what = self.rng.randrange(5)
        if what == 0:
            nulls = "NULLS NOT DISTINCT " if self.major >= 15 and self.chance(0.3) else ""
            include = f" INCLUDE ({self.pick(columns)[0]})" if self.chance(0.3) else ""
            return f"{name}UNIQUE {nulls}({column}){include}" + self.pick(["", " WITH (fillfactor=70)", " DEFERRABLE INITIALLY DEFERRED", " DEFERRABLE"])
        if what == 1 and kind.endswith("range") and "." not in kind:
            return f"{name}EXCLUDE USING gist ({column} WITH &&)" + self.pick(["", f" WHERE ({column} IS NOT NULL)", " DEFERRABLE"])
        if what == 2:
            return f"{name}EXCLUDE USING hash ({column} WITH =)" if kind in ("integer", "text", "uuid") else ""
        extra = " NOT ENFORCED" if self.major >= 18 and self.chance(0.3) else self.pick(["", "", " NO INHERIT"])
        return f"{name}CHECK (({column} IS NOT NULL) OR ({self.pick(columns)[0]} IS NULL) OR true){extra}"

    def options(self):
        if not self.chance(0.2):
            return ""
        return " WITH (" + ", ".join(self.some(["fillfactor=60", "autovacuum_enabled=false", "toast.autovacuum_enabled=off", "parallel_workers=2", "toast_tuple_target=256", "autovacuum_vacuum_scale_factor=0.3"])) + ")"

    def g_table(self):
        name = self.made("t")
        columns, parts = [], []
        key = None
        shape = self.rng.randrange(6)
        if shape < 3:
            key = self.name("id")
            how = ["integer PRIMARY KEY", "bigint PRIMARY KEY", "integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bigserial PRIMARY KEY", "integer PRIMARY KEY DEFERRABLE",
                   f"integer GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME {self.made('iq')} START -5 INCREMENT 5 MINVALUE -10 CYCLE) PRIMARY KEY"]
            definition = self.pick(how[:4] if "serial" in how else how)
            parts.append(f"{key} {definition}")
            self_insert = "IDENTITY" in definition or "serial" in definition
        for _ in range(self.rng.randint(0 if key else 1, 7)):
            column, kind, value, definition = self.column()
            columns.append((column, kind, value))
            parts.append(definition)
        for column, kind, _ in list(columns):
            if self.chance(0.05):
                generated = self.name("g")
                virtual = "VIRTUAL" if self.major >= 18 and self.chance(0.5) and "." not in kind else "STORED"
                parts.append(f"{generated} text GENERATED ALWAYS AS (CASE WHEN {column} IS NULL THEN 'none' ELSE 'some' END) {virtual}" if virtual == "STORED" or self.chance(0.5)
                             else f"{generated} integer GENERATED ALWAYS AS (num_nulls({column}) + 1)")
        if columns:
            for _ in range(self.rng.choice([0, 0, 0, 1, 2])):
                made = self.constraint(columns)
                if made:
                    parts.append(made)
        kind = "UNLOGGED " if self.chance(0.1) else ""
        self.add(f"CREATE {kind}TABLE {name} ({', '.join(parts)}){self.options()}")
        table = Table(name, columns, key=key)
        self.tables.append(table)
        self.rows(table, self_numbered=bool(key) and self_insert)
        self.alter(table)

    def g_no_columns(self):
        name = self.made("t")
        self.add(f"CREATE TABLE {name} ()")
        if self.chance(0.6):
            self.add(f"INSERT INTO {name} SELECT FROM generate_series(1, {self.rng.randint(1, 5)})")
        self.tables.append(Table(name, []))

    def g_typed(self):
        if not self.composites:
            return
        kind, columns = self.pick(self.composites)
        name = self.made("ty")
        self.add(f"CREATE TABLE {name} OF {kind}")
        table = Table(name, columns)
        self.tables.append(table)
        self.rows(table)

    def rows(self, table, self_numbered=False, most=6):
        if not table.columns and not table.key:
            return
        for number in range(self.rng.choice([0, 1, 2, 3, most])):
            chosen = [(c, v) for c, _, v in table.columns if self.chance(0.85)]
            names = [c for c, _ in chosen]
            values = ["NULL" if self.chance(0.1) else self.pick_value(v) for _, v in chosen]
            if table.key and not self_numbered:
                names, values = [table.key, *names], [str(number + 1), *values]
            if not names:
                self.add(f"INSERT INTO {table.name} DEFAULT VALUES")
            else:
                self.add(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(values)})")
        if table.columns and self.chance(0.15):
            column, _, value = self.pick(table.columns)
            self.add(f"INSERT INTO {table.name} ({', '.join(([table.key] if table.key and not self_numbered else []) + [column])}) SELECT "
                     f"{'g + 100, ' if table.key and not self_numbered else ''}{value()} FROM generate_series(1, {self.rng.choice([10, 300, 5000])}) g")
        if self.chance(0.1):
            self.add(f"DELETE FROM {table.name} WHERE ctid = '(0,1)'")

    def pick_value(self, value):
        return value()

    def alter(self, table):
        rng, columns = self.rng, table.columns
        if columns and self.chance(0.2):
            column, kind, value = self.pick(columns)
            self.add(f"ALTER TABLE {table.name} DROP COLUMN {column}")
            columns.remove((column, kind, value))
        if self.chance(0.2):
            column, kind, value, definition = self.column()
            self.add(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
            columns.append((column, kind, value))
        for _ in range(rng.choice([0, 0, 1, 2])):
            if not columns:
                break
            column, kind, value = self.pick(columns)
            self.add(f"ALTER TABLE {table.name} " + self.pick([
                f"ALTER COLUMN {column} SET STATISTICS {rng.randint(0, 1000)}", f"ALTER COLUMN {column} SET (n_distinct = -0.5, n_distinct_inherited = 10)",
                f"ALTER COLUMN {column} SET STORAGE {rng.choice(['PLAIN', 'EXTERNAL', 'MAIN', 'EXTENDED'])}", "REPLICA IDENTITY FULL", "REPLICA IDENTITY NOTHING",
                "ENABLE ROW LEVEL SECURITY", "FORCE ROW LEVEL SECURITY", f"OWNER TO {self.role()}", f"ALTER COLUMN {column} DROP DEFAULT",
                f"ADD CONSTRAINT {self.name('nv')} CHECK ({column} IS NULL) NOT VALID", f"ALTER COLUMN {column} SET COMPRESSION pglz", "SET (user_catalog_table=true)",
                f"ADD CONSTRAINT {self.name('nv')} NOT NULL {column} NOT VALID" if self.major >= 18 else "SET LOGGED",
                f"ALTER COLUMN {column} SET DEFAULT NULL", f"ALTER COLUMN {column} TYPE text USING 'x'", "SET WITHOUT CLUSTER",
            ]))

    def g_inherit(self):
        parents = [t for t in self.tables if t.kind == "table"]
        if not parents:
            return
        chosen = self.some(parents, 2)
        name = self.made("ch")
        extra = [self.column() for _ in range(self.rng.randint(0, 2))]
        repeated = [f"{c} {k}" for c, k, _ in chosen[0].columns[:1] if self.chance(0.4)]
        self.add(f"CREATE TABLE {name} ({', '.join(repeated + [e[3] for e in extra])}) INHERITS ({', '.join(t.name for t in chosen)})")
        own = [(e[0], e[1], e[2]) for e in extra]
        table = Table(name, own + [c for t in chosen for c in t.columns])
        self.tables.append(table)
        self.rows(table)
        if self.chance(0.3):
            column, kind, value, definition = self.column()
            self.add(f"ALTER TABLE {chosen[0].name} ADD COLUMN {definition}")
            chosen[0].columns.append((column, kind, value))
        if table.columns and self.chance(0.3):
            column, kind, value = self.pick(table.columns)
            self.add(f"ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {value()}::{kind}")
        if self.chance(0.15):
            self.add(f"ALTER TABLE {name} NO INHERIT {chosen[0].name}")

    def g_partitioned(self):
        name = self.made("p")
        how = self.pick(["range", "list", "hash"])
        key, text = self.name("k"), self.name("v")
        kind = {"range": self.pick(["integer", "date"]), "list": self.pick(["text", "integer"]), "hash": self.pick(["integer", "text"])}[how]
        extra = [self.column() for _ in range(self.rng.randint(0, 3))]
        primary = self.pick(["", f", CONSTRAINT {self.name('pk')} PRIMARY KEY ({key})", f", UNIQUE ({key})"])
        self.add(f"CREATE TABLE {name} ({key} {kind}, {text} text{''.join(', ' + e[3] for e in extra)}{primary}) PARTITION BY {how.upper()} ({key})")
        columns = [(key, kind, None), (text, "text", lambda: literal(self.text()))] + [(e[0], e[1], e[2]) for e in extra]
        leaves = {
            ("range", "integer"): [("FROM (MINVALUE) TO (0)", "-5"), ("FROM (0) TO (100)", "7"), ("FROM (100) TO (MAXVALUE)", "200")],
            ("range", "date"): [("FROM ('2020-01-01') TO ('2021-01-01')", "'2020-05-05'"), ("FROM ('2021-01-01') TO (MAXVALUE)", "'2024-02-29'")],
            ("list", "text"): [("IN ('a', 'b')", "'a'"), ("IN (NULL, 'it''s')", "'it''s'")],
            ("list", "integer"): [("IN (1, 2)", "1"), ("IN (3, NULL)", "3")],
            ("hash", "integer"): [("WITH (MODULUS 2, REMAINDER 0)", "1"), ("WITH (MODULUS 2, REMAINDER 1)", "2")],
            ("hash", "text"): [("WITH (MODULUS 3, REMAINDER 0)", "'x'"), ("WITH (MODULUS 3, REMAINDER 1)", "'y'"), ("WITH (MODULUS 3, REMAINDER 2)", "'z'")],
        }[(how, kind)]
        index = None
        if self.chance(0.4):
            index = self.name("pi")
            self.add(f"CREATE INDEX {index} ON {'ONLY ' if self.chance(0.3) else ''}{name} ({text})")
        for bound, _ in leaves:
            part = self.made("pp")
            if self.chance(0.4):
                # Attached, with another order of columns and a dropped one.
                own = [f"{text} text", "gone integer", f"{key} {kind}" + (" NOT NULL" if "PRIMARY" in primary else "")] + [e[3] for e in extra]
                self.add(f"CREATE TABLE {part} ({', '.join(own)})")
                self.add(f"ALTER TABLE {part} DROP COLUMN gone")
                self.add(f"ALTER TABLE {name} ATTACH PARTITION {part} FOR VALUES {bound}")
            elif self.chance(0.3):
                inner = self.made("ppp")
                self.add(f"CREATE TABLE {part} PARTITION OF {name} FOR VALUES {bound} PARTITION BY LIST ({key})" if "PRIMARY" in primary or "UNIQUE" in primary or self.chance(0.5)
                         else f"CREATE TABLE {part} PARTITION OF {name} FOR VALUES {bound} PARTITION BY RANGE (lower({text}))")
                self.add(f"CREATE TABLE {inner} PARTITION OF {part} DEFAULT")
            else:
                self.add(f"CREATE {'UNLOGGED ' if self.chance(0.1) else ''}TABLE {part} PARTITION OF {name} ({text} DEFAULT 'own') FOR VALUES {bound}{self.options()}")
            if self.chance(0.2):
                self.add(f"CREATE INDEX {self.name('ppi')} ON {part} ({key} DESC)")
        if how != "hash" and self.chance(0.5):
            self.add(f"CREATE TABLE {self.made('pd')} PARTITION OF {name} DEFAULT")
        for _, value in leaves:
            cells = ["NULL" if self.chance(0.2) else e[2]() for e in extra]
            self.add(f"INSERT INTO {name} ({', '.join([key, text] + [e[0] for e in extra])}) VALUES ({', '.join([value, literal(self.text())] + cells)})")
        table = Table(name, columns, kind="partitioned", key=key if primary and kind == "integer" else None)
        self.tables.append(table)

    def g_foreign_key(self):
        targets = [t for t in self.tables if t.key]
        if not targets:
            return
        target = self.pick(targets)
        table = self.pick([t for t in self.tables if t.kind in ("table", "partitioned")])
        column = self.name("fk")
        actions = self.pick(["", " ON DELETE CASCADE", " ON UPDATE SET NULL ON DELETE SET DEFAULT", " DEFERRABLE INITIALLY DEFERRED", " MATCH FULL", " DEFERRABLE"])
        valid = self.pick(["", "", " NOT VALID"])
        if self.major >= 18 and self.chance(0.2):
            valid = " NOT ENFORCED"
        self.add(f"ALTER TABLE {table.name} ADD COLUMN {column} bigint")
        if self.chance(0.5):
            self.add(f"UPDATE {table.name} SET {column} = (SELECT min({target.key}) FROM {target.name})")
        if "NOT VALID" in valid and self.chance(0.5):
            self.add(f"UPDATE {table.name} SET {column} = -12345")
        self.add(f"ALTER TABLE {table.name} ADD CONSTRAINT {self.name('fk')} FOREIGN KEY ({column}) REFERENCES {target.name} ({target.key}){actions}{valid}")

    def g_circle(self):
        a, b = self.made("ca"), self.made("cb")
        self.add(f"CREATE TABLE {a} (id int PRIMARY KEY, other int)")
        self.add(f"CREATE TABLE {b} (id int PRIMARY KEY, other int REFERENCES {a} DEFERRABLE INITIALLY DEFERRED, self int REFERENCES {b})")
        self.add(f"ALTER TABLE {a} ADD FOREIGN KEY (other) REFERENCES {b} DEFERRABLE INITIALLY DEFERRED")
        self.add(f"BEGIN; INSERT INTO {a} VALUES (1, 1), (2, 2); INSERT INTO {b} VALUES (1, 2, 2), (2, 1, 1); COMMIT")
        self.tables += [Table(a, [], key="id"), Table(b, [], key="id")]

    def g_index(self):
        tables = [t for t in self.tables if t.columns and t.kind in ("table", "partitioned")]
        if not tables:
            return
        table = self.pick(tables)
        column, kind, _ = self.pick(table.columns)
        name = self.name("i")
        order = self.pick(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])
        where = self.pick(["", "", f" WHERE ({column} IS NOT NULL)"])
        with_ = self.pick(["", "", " WITH (fillfactor=55)"])
        unique = self.pick(["", "", "UNIQUE "])
        text = kind in ("text", "character varying", "character varying(400)")
        forms = [f"USING btree ({column}{order}){with_}{where}", f"USING hash ({column}){where}", f"USING brin ({column}) WITH (pages_per_range=4, autosummarize=on)", f"(({column} IS NULL), {column})"]
        if text:
            forms += [f"({column} text_pattern_ops{order})", f"(lower({column}) COLLATE \"C\"){where}", f"USING gin (to_tsvector('english', {column})) WITH (fastupdate=off)", f"USING spgist ({column})",
                      f"(length({column}), {column} COLLATE \"POSIX\" varchar_pattern_ops)", f"(md5({column}))", f"USING gist (to_tsvector('simple', {column}) tsvector_ops(siglen=100))"]
        if kind.endswith("range") or kind in ("point", "box", "circle", "polygon", "tsvector", "inet"):
            forms += [f"USING gist ({column}) WITH (buffering=off)", f"USING spgist ({column})"]
        if kind.endswith("[]") or kind in ("jsonb", "tsvector"):
            forms += [f"USING gin ({column})"] * 2
        if kind == "jsonb":
            forms += [f"USING gin ({column} jsonb_path_ops)", f"(({column} ->> 'a'))"]
        if self.functions and kind == "integer":
            forms += [f"({self.pick(self.functions)}({column}))"]
        form = self.pick(forms)
        if "USING" in form and "btree" not in form:
            unique = ""
        include = ""
        if "USING" not in form and self.chance(0.2):
            include = f" INCLUDE ({self.pick(table.columns)[0]})"
        self.add(f"CREATE {unique}INDEX {name} ON {table.name} {form}{include}")
        schema = table.name.split(".")[0] if table.name.count(".") == 1 else None
        if schema and "UNIQUE" not in unique:
            full = f"{schema}.{name}"
            self.indexes.append(full)
            if self.chance(0.2):
                self.add(f"ALTER TABLE {table.name} CLUSTER ON {name}")
            if self.chance(0.1) and "((" in form:
                self.add(f"ALTER INDEX {full} ALTER COLUMN 1 SET STATISTICS 77")
        elif schema and unique and not where and self.chance(0.4):
            self.add(f"ALTER TABLE {table.name} ALTER COLUMN {column} SET NOT NULL")
            self.add(f"ALTER TABLE {table.name} REPLICA IDENTITY USING INDEX {name}")

    def g_statistics(self):
        tables = [t for t in self.tables if len(t.columns) > 1]
        if not tables:
            return
        table = self.pick(tables)
        columns = [c for c, _, _ in self.some(table.columns, 3)]
        name = self.made("st")
        if len(columns) < 2:
            self.add(f"CREATE STATISTICS {name} ON ({columns[0]} IS NULL) FROM {table.name}")
        else:
            kinds = self.pick(["", " (ndistinct)", " (dependencies, mcv)", " (ndistinct, mcv)"])
            self.add(f"CREATE STATISTICS {name}{kinds} ON {', '.join(columns)} FROM {table.name}")
        if self.chance(0.3):
            self.add(f"ALTER STATISTICS {name} SET STATISTICS 33")
        self.statistics.append(name)

    def g_function(self):
        name = self.made("f")
        what = self.rng.randrange(9)
        language = self.pick(["sql", "plpgsql"])
        extra = self.pick(["", " STABLE", " IMMUTABLE STRICT", " SECURITY DEFINER SET search_path = pg_catalog, pg_temp", " LEAKPROOF", " PARALLEL SAFE COST 7", " SET \"DateStyle\" = 'SQL, DMY'",
                           " SET search_path = \"$user\", public", " SET work_mem = '3MB' SET my.own = 'a b'''"])
        if what < 3:
            body = "SELECT $1 + 1" if language == "sql" else "BEGIN RETURN $1 + 1; /* ; -- ' */ END"
            quote = self.pick(["$$", "$body$", "$ö$" if self.encoding == "UTF8" else "$_1$"])
            self.add(f"CREATE FUNCTION {name}(integer) RETURNS integer LANGUAGE {language} IMMUTABLE AS {quote}{body}{quote}")
            self.functions.append(name)
        elif what == 3:
            self.add(f"CREATE FUNCTION {name}(integer) RETURNS integer LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT $1 * 2; END" if self.chance(0.5) else
                     f"CREATE FUNCTION {name}(integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN $1 * 3")
            self.functions.append(name)
        elif what == 4 and self.tables:
            table = self.pick(self.tables)
            self.add(f"CREATE FUNCTION {name}() RETURNS SETOF {table.name} LANGUAGE sql ROWS 5{extra} BEGIN ATOMIC SELECT * FROM {table.name}; END" if self.chance(0.5) else
                     f"CREATE FUNCTION {name}(x {table.name}) RETURNS text LANGUAGE plpgsql{extra} AS $$BEGIN RETURN x::text; END$$")
        elif what == 5:
            kind, value = self.type()
            self.add(f"CREATE FUNCTION {name}(INOUT a {kind} DEFAULT {value()}::{kind}, VARIADIC b text[] DEFAULT ARRAY['x''y'], OUT {self.name('o')} integer) LANGUAGE plpgsql{extra} AS {literal('BEGIN NULL; END')}")
        elif what == 6:
            self.add(f"CREATE FUNCTION {name}(a anyelement, b anyarray) RETURNS TABLE({self.name('x')} integer, {self.name('y')} text) LANGUAGE plpgsql{extra} AS $f$BEGIN RETURN QUERY SELECT 1, 'x'::text; END$f$")
        elif what == 7:
            self.add(f"CREATE PROCEDURE {name}(INOUT a integer DEFAULT 5) LANGUAGE {self.pick(['plpgsql AS $$BEGIN a := a + 1; END$$', 'sql AS $$SELECT $1$$'])}")
            self.procedures.append(f"{name}(integer)")
        else:
            self.add(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql{extra} AS $$BEGIN RETURN COALESCE(NEW, OLD); END$$")
            self.triggers.append(name)

    def g_aggregate(self):
        name = self.made("a")
        if self.chance(0.4) and self.functions:
            self.add(f"CREATE AGGREGATE {name}(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0', FINALFUNC = {self.pick(self.functions)}, PARALLEL = SAFE, COMBINEFUNC = int4pl)")
        else:
            self.add(f"CREATE AGGREGATE {name}({self.pick(['integer', 'x integer', 'VARIADIC integer'])}) (SFUNC = int4pl, STYPE = integer, MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = integer, INITCOND = '-3', MINITCOND = '1')")
        self.aggregates.append(f"{name}(integer)")

    def g_operator(self):
        schema = self.schema()
        sign = self.pick(["===", "<=>", "@@@", "~~~", "##", "&&&", "|/|", "!!=", "%%", "->>>"])
        function = f"{schema}.{self.name('of')}"
        self.add(f"CREATE FUNCTION {function}(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2'")
        options = self.pick(["", ", RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES", f", COMMUTATOR = OPERATOR({schema}.{sign})", f", NEGATOR = OPERATOR({schema}.{sign}!)"])
        self.add(f"CREATE OPERATOR {schema}.{sign} (FUNCTION = {function}, LEFTARG = integer, RIGHTARG = integer{options})")
        self.operators.append(f"{schema}.{sign} (integer, integer)")
        if self.chance(0.4):
            family = self.made("fam")
            self.add(f"CREATE OPERATOR FAMILY {family} USING btree")
            self.add(f"CREATE OPERATOR CLASS {self.made('cls')} FOR TYPE integer USING btree FAMILY {family} AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(integer, integer)")
            self.add(f"ALTER OPERATOR FAMILY {family} USING btree ADD OPERATOR 1 < (integer, bigint), FUNCTION 1 (integer, bigint) btint48cmp(integer, bigint)")
        elif self.chance(0.3):
            self.add(f"CREATE OPERATOR CLASS {self.made('cls')} FOR TYPE text USING hash AS OPERATOR 1 =, FUNCTION 1 hashtext(text)")

    def g_cast(self):
        if not self.composites:
            return
        name, columns = self.pick(self.composites)
        if self.chance(0.5):
            self.add(f"CREATE CAST ({name} AS json) WITH INOUT{self.pick(['', ' AS ASSIGNMENT'])}")
        else:
            function = self.made("cf")
            self.add(f"CREATE FUNCTION {function}({name}) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1'")
            self.add(f"CREATE CAST ({name} AS integer) WITH FUNCTION {function}({name}){self.pick(['', ' AS IMPLICIT', ' AS ASSIGNMENT'])}")

    def g_collation(self):
        name = self.made("co")
        forms = ['FROM "C"', "(LOCALE = 'C')", "(LOCALE = 'POSIX')"]
        if self.encoding == "UTF8":
            forms += ["(PROVIDER = icu, LOCALE = 'de-u-co-phonebk')", "(PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false)"]
            if self.major >= 17:
                forms += ["(PROVIDER = builtin, LOCALE = 'C.UTF-8')"]
        form = self.pick(forms)
        self.add(f"CREATE COLLATION {name} {form}")
        if "DETERMINISTIC" not in form:
            self.collations.append(name)

    def g_text_search(self):
        d, c = self.made("dic"), self.made("cfg")
        self.add(f"CREATE TEXT SEARCH DICTIONARY {d} (TEMPLATE = {self.pick(['simple, Accept = false', 'snowball, Language = german', 'simple, StopWords = english'])})")
        self.add(f"CREATE TEXT SEARCH CONFIGURATION {c} ({self.pick(['COPY = english', 'PARSER = default', 'COPY = simple'])})")
        self.add(f"ALTER TEXT SEARCH CONFIGURATION {c} {self.pick(['ALTER', 'ADD', 'ADD'])} MAPPING FOR asciiword, word, email WITH {d}, simple")
        if self.chance(0.3):
            self.add(f"CREATE TEXT SEARCH TEMPLATE {self.made('tmpl')} (LEXIZE = dsimple_lexize, INIT = dsimple_init)")
        if self.chance(0.3):
            self.add(f"CREATE TEXT SEARCH PARSER {self.made('prs')} (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline)")
        self.dictionaries.append(d)
        self.configurations.append(c)

    def g_view(self):
        sources = [t for t in self.tables + self.views if t.columns]
        if not sources:
            return
        source = self.pick(sources)
        columns = self.some(source.columns, 4)
        name = self.made("v")
        options = self.pick(["", "", " WITH (security_barrier=true)", " WITH (security_invoker=on)" if self.major >= 15 else ""])
        shape = self.rng.randrange(5)
        listed = ", ".join(c for c, _, _ in columns)
        if shape == 0:
            self.add(f"CREATE VIEW {name}{options} AS SELECT {listed} FROM {source.name} WHERE {columns[0][0]} IS NOT NULL" + self.pick(["", " WITH CASCADED CHECK OPTION", " WITH LOCAL CHECK OPTION"]))
        elif shape == 1:
            self.add(f"CREATE VIEW {name}{options} AS SELECT x.{columns[0][0]}, row_number() OVER () AS {self.name('n')}, count(*) FILTER (WHERE true) AS c FROM {source.name} x GROUP BY 1")
            columns = []
        elif shape == 2:
            self.add(f"CREATE VIEW {name}{options} AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT r.n, s.* FROM r LEFT JOIN {source.name} s ON (s.{columns[0][0]} IS NULL)")
            columns = []
        elif shape == 3:
            self.add(f"CREATE VIEW {name}{options} AS SELECT {listed} FROM {source.name} UNION ALL SELECT {listed} FROM {source.name} LIMIT 9")
        else:
            self.add(f"CREATE VIEW {name}{options} AS SELECT s.{columns[0][0]} AS {self.name('al')}, s AS whole, CASE WHEN s.{columns[0][0]} IS NULL THEN 'it''s' ELSE '\\' END AS e, ARRAY(SELECT 1) AS a FROM {source.name} s")
            columns = []
        self.views.append(Table(name, columns, kind="view"))
        if self.chance(0.1) and columns:
            self.add(f"ALTER VIEW {name} ALTER COLUMN {columns[0][0]} SET DEFAULT {columns[0][2]()}::{columns[0][1]}" if columns[0][2] else f"ALTER VIEW {name} OWNER TO {self.role()}")

    def g_view_circle(self):
        # Which of two views is broken off is everybody's own choice: the comparison knows them by their names.
        self.count += 1
        a, b = f"public.circle_a{self.count}", f"public.circle_b{self.count}"
        self.add(f"CREATE VIEW {a} AS SELECT 1 AS x")
        self.add(f"CREATE VIEW {b} AS SELECT x FROM {a}")
        self.add(f"CREATE OR REPLACE VIEW {a} AS SELECT x FROM {b}")

    def g_matview(self):
        sources = [t for t in self.tables + self.views + self.matviews if t.columns]
        if not sources:
            return
        source = self.pick(sources)
        columns = self.some(source.columns, 3)
        name = self.made("m")
        self.add(f"CREATE MATERIALIZED VIEW {name} AS SELECT {', '.join(c for c, _, _ in columns)} FROM {source.name}{self.pick(['', '', ' WITH NO DATA'])}")
        if self.chance(0.4):
            self.add(f"CREATE INDEX {self.name('mi')} ON {name} USING hash ({columns[0][0]})")
        self.matviews.append(Table(name, columns, kind="matview"))

    def g_rule(self):
        if not self.tables:
            return
        table = self.pick([t for t in self.tables if t.kind == "table"] or self.tables)
        form = self.pick(["ON INSERT TO {t} DO ALSO NOTHING", "ON UPDATE TO {t} WHERE OLD IS NULL DO INSTEAD NOTHING", "ON DELETE TO {t} DO ALSO (SELECT 1; SELECT 2)", "ON INSERT TO {t} DO ALSO NOTIFY chan"])
        rule = self.name("ru")
        self.add(f"CREATE RULE {rule} AS {form.format(t=table.name)}")
        if self.chance(0.2):
            self.add(f"ALTER TABLE {table.name} DISABLE RULE {rule}")

    def g_trigger(self):
        tables = [t for t in self.tables if t.kind in ("table", "partitioned")]
        if not tables or not self.triggers:
            return
        table, function, name = self.pick(tables), self.pick(self.triggers), self.name("tr")
        of = f" OF {self.pick(table.columns)[0]}" if table.columns and self.chance(0.3) else ""
        forms = [f"AFTER INSERT OR UPDATE{of} ON {table.name} FOR EACH ROW", f"BEFORE TRUNCATE ON {table.name} FOR EACH STATEMENT", f"AFTER DELETE ON {table.name} REFERENCING OLD TABLE AS {self.name('old')} FOR EACH STATEMENT"]
        form = self.pick(forms)
        when = " WHEN (OLD.* IS DISTINCT FROM NEW.*)" if "UPDATE" in form and "INSERT" not in form else ""
        constraint = self.chance(0.2) and form == forms[0] and not of
        if constraint:
            form += ""
            self.add(f"CREATE CONSTRAINT TRIGGER {name} AFTER INSERT ON {table.name} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {function}({literal(self.text())}, 'b\\c')")
        else:
            self.add(f"CREATE TRIGGER {name} {form}{when} EXECUTE FUNCTION {function}({literal(self.text()[:50])})")
        if self.chance(0.3):
            self.add(f"ALTER TABLE {table.name} {self.pick(['DISABLE', 'ENABLE ALWAYS', 'ENABLE REPLICA'])} TRIGGER {name}")

    def g_event_trigger(self):
        function = self.made("ef")
        self.add(f"CREATE FUNCTION {function}() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END'")
        name = self.name("ev")
        self.add(f"CREATE EVENT TRIGGER {name} ON {self.pick(['ddl_command_start', 'ddl_command_end', 'sql_drop', 'table_rewrite'])}"
                 f" {self.pick(['', 'WHEN TAG IN ($$CREATE TABLE$$, $$DROP TABLE$$)']).replace('$$', chr(39)) if self.chance(0.4) else ''} EXECUTE FUNCTION {function}()")
        if self.chance(0.4):
            self.add(f"ALTER EVENT TRIGGER {name} {self.pick(['DISABLE', 'ENABLE ALWAYS', 'ENABLE REPLICA'])}")

    def g_policy(self):
        if not self.tables:
            return
        table = self.pick(self.tables)
        check = self.pick(["USING (true)", "USING (CURRENT_USER = 'x') WITH CHECK (false)", f"USING (pg_has_role({literal('postgres')}, 'member'))"])
        command = self.pick(["ALL", "SELECT", "UPDATE"])
        if command == "SELECT":
            check = "USING (1 > 0)"
        self.add(f"CREATE POLICY {self.name('po')} ON {table.name} AS {self.pick(['PERMISSIVE', 'RESTRICTIVE'])} FOR {command} TO {self.pick(['PUBLIC', self.role(), ', '.join(self.some(self.roles))])} {check}")

    def g_foreign(self):
        wrapper, server = self.name("fw"), self.name("fs")
        if self.chance(0.3) and "postgres_fdw" in [e[0] for e in self.extensions]:
            wrapper = "postgres_fdw"
            self.add(f"CREATE SERVER {server} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere', dbname {literal('a b')}, use_remote_estimate 'false')")
        else:
            self.add(f"CREATE FOREIGN DATA WRAPPER {wrapper} OPTIONS ({self.name('o')} {literal(self.text()[:40])})")
            self.add(f"CREATE SERVER {server} TYPE 'kind' VERSION '1.5 ''x''' FOREIGN DATA WRAPPER {wrapper} OPTIONS (\"Host\" 'a\\b')")
        self.add(f"CREATE USER MAPPING FOR {self.pick(['PUBLIC', self.role()])} SERVER {server} OPTIONS (\"user\" 'me', password 'se cret''')")
        columns = [self.column() for _ in range(self.rng.randint(1, 3))]
        table = self.made("ft")
        if wrapper != "postgres_fdw":
            self.add(f"CREATE FOREIGN TABLE {table} ({', '.join(c[0] + ' ' + c[1] + ' OPTIONS (' + self.name('fo') + ' $$x$$)' for c in columns)}) SERVER {server} OPTIONS (\"table name\" 'x')".replace("$$", "'"))
        else:
            self.add(f"CREATE FOREIGN TABLE {table} ({', '.join(c[3] for c in columns)}) SERVER {server} OPTIONS (table_name 'x')")
        self.servers.append(server)
        self.foreign.append(table)
        self.wrappers.append(wrapper)

    def g_publication(self):
        name = self.name("pub")
        tables = [t for t in self.tables if t.kind in ("table", "partitioned")]
        options = self.pick(["", " WITH (publish = 'insert, delete')", " WITH (publish_via_partition_root = true)"])
        if self.chance(0.3) or not tables:
            self.add(f"CREATE PUBLICATION {name} FOR ALL TABLES{options}")
        elif self.major >= 15 and self.chance(0.4):
            self.add(f"CREATE PUBLICATION {name} FOR TABLES IN SCHEMA {', '.join(self.some(self.schemas, 2))}{options}")
        else:
            chosen = []
            for table in self.some(tables):
                filtered = f" ({', '.join(c for c, _, _ in table.columns[:2])})" if self.major >= 15 and table.columns and self.chance(0.4) else ""
                where = f" WHERE ({table.key} > 3)" if self.major >= 15 and table.key and self.chance(0.4) else ""
                chosen.append(f"{self.pick(['', 'ONLY '])}{table.name}{filtered}{where}")
            self.add(f"CREATE PUBLICATION {name} FOR TABLE {', '.join(chosen)}{options}")
        self.publications.append(name)

    def g_subscription(self):
        options = ["connect = false", *self.some(["slot_name = NONE", "binary = true", "streaming = true", "synchronous_commit = 'remote_apply'", *(["two_phase = true", "disable_on_error = true"] if self.major >= 15 else [])])]
        if "slot_name = NONE" in options:
            options.append("enabled = false")
        else:
            options.append(f"slot_name = slot_{self.count}")
        self.add(f"CREATE SUBSCRIPTION {self.name('sub')} CONNECTION 'host=nowhere password=''a b'' dbname=x' PUBLICATION {self.name('pn')}, other WITH ({', '.join(options)})")

    def g_large_object(self):
        oid = 50000 + self.count + len(self.large_objects)
        self.add(f"SELECT lo_create({oid})")
        if self.chance(0.8):
            self.add(f"SELECT lo_put({oid}, {self.pick([0, 0, 0, 100000, 3000])}, decode(repeat('00ff41', {self.rng.choice([1, 700, 5000])}), 'hex'))")
        if self.chance(0.4):
            self.add(f"ALTER LARGE OBJECT {oid} OWNER TO {self.role()}")
        if self.chance(0.3):
            self.add(f"GRANT SELECT ON LARGE OBJECT {oid} TO {self.role()} WITH GRANT OPTION")
        self.large_objects.append(oid)

    def g_conversion(self):
        self.add(f"CREATE {self.pick(['', 'DEFAULT '])}CONVERSION {self.made('cv')} FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8")

    def g_language(self):
        self.add(f"CREATE {self.pick(['', 'TRUSTED '])}LANGUAGE {self.name('la')} HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR plpgsql_validator")

    def g_access_method(self):
        self.add(f"CREATE ACCESS METHOD {self.name('am')} TYPE TABLE HANDLER heap_tableam_handler")

    def g_transform(self):
        if not self.composites:
            return
        name, _ = self.pick(self.composites)
        function = self.made("tf")
        self.add(f"CREATE FUNCTION {function}(internal) RETURNS internal LANGUAGE internal STRICT IMMUTABLE AS 'prsd_lextype'")
        self.add(f"CREATE TRANSFORM FOR {name} LANGUAGE plpgsql (FROM SQL WITH FUNCTION {function}(internal))")

    def grantable(self):
        return [
            (lambda: "TABLE " + self.pick(self.tables).name if self.tables else None, ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "ALL"]),
            (lambda: "TABLE " + self.pick(self.views + self.matviews).name if self.views + self.matviews else None, ["SELECT", "INSERT", "ALL"]),
            (lambda: "SEQUENCE " + self.pick(self.sequences) if self.sequences else None, ["USAGE", "SELECT", "UPDATE", "ALL"]),
            (lambda: "SCHEMA " + self.schema(), ["USAGE", "CREATE", "ALL"]),
            (lambda: "FUNCTION " + self.pick(self.functions) + "(integer)" if self.functions else None, ["EXECUTE", "ALL"]),
            (lambda: "FUNCTION " + self.pick(self.aggregates) if self.aggregates else None, ["EXECUTE"]),
            (lambda: "PROCEDURE " + self.pick(self.procedures) if self.procedures else None, ["EXECUTE"]),
            (lambda: "TYPE " + self.pick(self.types)[0] if self.types else None, ["USAGE"]),
            (lambda: "FOREIGN SERVER " + self.pick(self.servers) if self.servers else None, ["USAGE"]),
            (lambda: "FOREIGN DATA WRAPPER " + self.pick(self.wrappers) if self.wrappers else None, ["USAGE"]),
            (lambda: "LANGUAGE plpgsql", ["USAGE"]),
        ]

    def g_grant(self):
        what, rights = self.pick(self.grantable())
        thing = what()
        if thing is None:
            return
        right = ", ".join(self.some(rights, 2))
        if "ALL" in right:
            right = "ALL"
        form = self.rng.randrange(4)
        if form == 0:
            self.add(f"REVOKE {right} ON {thing} FROM {self.pick(['PUBLIC', self.role(), 'postgres'])}")
        elif form == 1:
            first, second = self.role(), self.role()
            self.add(f"GRANT {right} ON {thing} TO {first} WITH GRANT OPTION")
            self.add(f"SET ROLE {first}; GRANT {right} ON {thing} TO {second}{self.pick(['', ' WITH GRANT OPTION'])}; RESET ROLE")
        else:
            self.add(f"GRANT {right} ON {thing} TO {self.pick(['PUBLIC', self.role()])}{self.pick(['', '', ' WITH GRANT OPTION'])}".replace("PUBLIC WITH GRANT OPTION", "PUBLIC"))

    def g_column_grant(self):
        tables = [t for t in self.tables + self.views if t.columns]
        if tables:
            table = self.pick(tables)
            columns = ", ".join(c for c, _, _ in self.some(table.columns))
            self.add(f"GRANT SELECT ({columns}), UPDATE ({columns}) ON {table.name} TO {self.pick(['PUBLIC', self.role()])}")

    def g_default_rights(self):
        role = self.pick(["", f"FOR ROLE {self.role()} "])
        where = self.pick(["", f"IN SCHEMA {self.schema()} "])
        self.add(f"ALTER DEFAULT PRIVILEGES {role}{where}" + self.pick([
            f"GRANT SELECT ON TABLES TO {self.role()}", f"REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", f"GRANT USAGE ON TYPES TO {self.role()} WITH GRANT OPTION", f"GRANT ALL ON SEQUENCES TO PUBLIC",
            f"REVOKE ALL ON TABLES FROM postgres",
        ]))

    def g_owner(self):
        things = [f"TABLE {t.name}" for t in self.tables] + [f"VIEW {v.name}" for v in self.views] + [f"MATERIALIZED VIEW {m.name}" for m in self.matviews] + [f"SEQUENCE {s}" for s in self.sequences]
        things += [f"FUNCTION {f}(integer)" for f in self.functions] + [f"TYPE {t[0]}" for t in self.types] + [f"SCHEMA {s}" for s in self.schemas] + [f"AGGREGATE {a}" for a in self.aggregates]
        things += [f"OPERATOR {o}" for o in self.operators] + [f"TEXT SEARCH DICTIONARY {d}" for d in self.dictionaries] + [f"TEXT SEARCH CONFIGURATION {c}" for c in self.configurations] + [f"COLLATION {c}" for c in self.collations]
        things += [f"SERVER {s}" for s in self.servers] + [f"FOREIGN TABLE {f}" for f in self.foreign] + [f"PUBLICATION {p}" for p in self.publications] + [f"STATISTICS {s}" for s in self.statistics] + [f"PROCEDURE {p}" for p in self.procedures]
        thing = self.pick(things)
        if self.chance(0.5):
            self.add(f"ALTER {thing} OWNER TO {self.role()}")
        else:
            self.add(f"COMMENT ON {thing} IS {literal(self.text())}")

    def g_comment(self):
        tables = [t for t in self.tables + self.views if t.columns]
        forms = [f"INDEX {i}" for i in self.indexes] + [f"LARGE OBJECT {o}" for o in self.large_objects] + [f"EXTENSION \"{e}\"" for e, _ in self.extensions] + ["LANGUAGE plpgsql", "SCHEMA public"]
        forms += [f"COLUMN {t.name}.{c}" for t in tables for c, _, _ in t.columns[:1]]
        self.add(f"COMMENT ON {self.pick(forms)} IS {literal(self.text())}")

    def g_member_schema(self):
        """What users put into the schema of an extension, on its types, and as parts of it."""
        if self.extensions and self.functions:
            extension, _ = self.pick(self.extensions)
            self.add(f"ALTER FUNCTION {self.pick(self.functions)}(integer) DEPENDS ON EXTENSION \"{extension}\"")

    def g_temporal(self):
        if self.major < 18:
            return
        if "btree_gist" not in [e[0] for e in self.extensions]:
            self.add(f"CREATE EXTENSION btree_gist SCHEMA {self.schemas[0]}")
            self.extensions.append(("btree_gist", self.schemas[0]))
        a, b = self.made("tp"), self.made("tq")
        self.add(f"CREATE TABLE {a} (id int, at daterange, CONSTRAINT {self.name('k')} PRIMARY KEY (id, at WITHOUT OVERLAPS))")
        self.add(f"CREATE TABLE {b} (id int, at daterange, FOREIGN KEY (id, PERIOD at) REFERENCES {a} (id, PERIOD at))")
        self.add(f"INSERT INTO {a} VALUES (1, '[2020-01-01,2021-01-01)'), (1, '[2021-01-01,2022-01-01)')")
        self.add(f"INSERT INTO {b} VALUES (1, '[2020-05-01,2021-05-01)')")

    WEIGHTS = {
        "schema": 3, "extension": 3, "enum": 3, "domain": 3, "composite": 3, "range": 2, "base_type": 1, "sequence": 3, "table": 14, "no_columns": 1, "typed": 1, "inherit": 3, "partitioned": 4,
        "foreign_key": 4, "circle": 1, "index": 10, "statistics": 2, "function": 8, "aggregate": 1, "operator": 1, "cast": 1, "collation": 2, "text_search": 1, "view": 6, "view_circle": 0.5, "matview": 3,
        "rule": 2, "trigger": 4, "event_trigger": 0.7, "policy": 3, "foreign": 1.5, "publication": 1.5, "subscription": 0.5, "large_object": 1.5, "conversion": 0.4, "language": 0.4, "access_method": 0.3,
        "transform": 0.2, "grant": 8, "column_grant": 2, "default_rights": 1.5, "owner": 7, "comment": 4, "member_schema": 1, "temporal": 0.7,
    }

    def make(self):
        names, weights = zip(*self.WEIGHTS.items())
        while len(self.sql) < self.size:
            getattr(self, "g_" + self.rng.choices(names, weights)[0])()
        return self.sql


SETTINGS = [
    ("DateStyle", ["'SQL, DMY'", "'German'", "'Postgres, MDY'", "'ISO, YMD'"]), ("IntervalStyle", ["'iso_8601'", "'sql_standard'", "'postgres_verbose'"]), ("bytea_output", ["'escape'"]),
    ("extra_float_digits", ["0", "-10", "3"]), ("search_path", ["public", "'$user', public", "pg_catalog", "nowhere, \"odd Name\""]), ("lc_monetary", ["'C'", "'C.UTF-8'"]),
    ("quote_all_identifiers", ["on"]), ("default_transaction_read_only", ["on"]), ("row_security", ["off"]), ("statement_timeout", ["'50ms'"]), ("lock_timeout", ["'10ms'"]),
    ("standard_conforming_strings", ["off"]), ("backslash_quote", ["off"]), ("escape_string_warning", ["off"]), ("TimeZone", ["'Asia/Kathmandu'", "'America/St_Johns'", "'<+07>-07'"]),
    ("client_encoding", ["'LATIN1'", "'SQL_ASCII'"]), ("array_nulls", ["off"]), ("transform_null_equals", ["on"]), ("xmloption", ["document"]), ("xmlbinary", ["hex"]), ("default_toast_compression", ["pglz"]),
    ("check_function_bodies", ["off"]), ("session_replication_role", ["replica"]), ("synchronize_seqscans", ["on"]), ("default_transaction_isolation", ["'serializable'"]), ("default_transaction_deferrable", ["on"]),
    ("idle_in_transaction_session_timeout", ["'20ms'"]), ("client_min_messages", ["error", "debug1"]), ("my.setting", ["'it''s'", "''"]), ("work_mem", ["'1MB'"]), ("temp_file_limit", ["0"]), ("default_tablespace", ["''"]),
    ("jit", ["on"]), ("gin_fuzzy_search_limit", ["1"]), ("lc_messages", ["'C'"]), ("lc_time", ["'C'"]), ("lc_numeric", ["'C'"]), ("timezone_abbreviations", ["'Australia'"]), ("log_statement", ["'none'"]),
    ("role", ["none"]), ("zero_damaged_pages", ["off"]), ("default_text_search_config", ["'simple'"]), ("createrole_self_grant", ["'set, inherit'"]), ("temp_tablespaces", ["''"]), ("parallel_setup_cost", ["0"]),
    ("restrict_nonsystem_relation_kind", ["'view'"]), ("transaction_timeout", ["'40ms'"]), ("event_triggers", ["off"]), ("allow_system_table_mods", ["on"]), ("plan_cache_mode", ["force_generic_plan"]),
]
