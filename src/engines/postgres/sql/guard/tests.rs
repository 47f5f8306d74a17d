#![allow(clippy::unwrap_used)]
use crate::engines::postgres::sql::guard::*;

/// A sample of each thing the writer makes. The whole of it is judged wherever a test of this crate makes a backup.
const OURS: &[&str] = &[
    "CREATE SCHEMA \"s\";\nALTER SCHEMA \"s\" OWNER TO \"o\";\nCOMMENT ON SCHEMA \"s\" IS 'COPY x TO PROGRAM ''y'';';\n",
    "CREATE EXTENSION IF NOT EXISTS \"hstore\" WITH SCHEMA \"public\";\n",
    "CREATE TABLE \"s\".\"t\" (\n    \"a\" integer GENERATED ALWAYS AS (1) STORED,\n    \"b\" text DEFAULT E'\\\\;'\n)\nWITH (\"fillfactor\"='70');\n",
    "CREATE OR REPLACE FUNCTION \"s\".\"f\"()\n RETURNS void\n LANGUAGE \"plpgsql\"\nAS $function$\nBEGIN\n  COPY a TO PROGRAM 'x'; -- ;\nEND$function$;\n",
    "CREATE OR REPLACE FUNCTION s.g(a integer)\n RETURNS integer\n LANGUAGE sql\nBEGIN ATOMIC\n SELECT CASE\n WHEN ($1 > 0) THEN 1\n ELSE CASE WHEN true THEN 2 ELSE 3 END\n END AS \"case\";\n SELECT count(*) AS \"end\";\nEND;\nALTER FUNCTION s.g(integer) OWNER TO \"o\";\n",
    "CREATE OR REPLACE PROCEDURE s.p()\n LANGUAGE sql\nBEGIN ATOMIC\nEND;\n",
    "CREATE OR REPLACE FUNCTION s.h()\n RETURNS integer\n LANGUAGE sql\nRETURN CASE WHEN true THEN 1 END;\n",
    "CREATE RULE \"r\" AS\n    ON INSERT TO \"s\".\"t\" DO INSTEAD ( INSERT INTO \"s\".\"u\" (a) VALUES (new.a);\n NOTIFY x;\n);\n",
    "CREATE MATERIALIZED VIEW \"s\".\"m\" AS\n SELECT 1 AS a\n  WITH NO DATA;\n",
    "SET row_security = on;\nREFRESH MATERIALIZED VIEW \"s\".\"m\";\nSET row_security = off;\n",
    "SELECT pg_catalog.setval('\"s\".\"q\"', 7, true);\n",
    "SELECT pg_catalog.count(pg_catalog.lo_create(o)) FROM pg_catalog.unnest('{1, 2}'::pg_catalog.oid[]) t(o);\n",
    "SELECT pg_catalog.pg_restore_relation_stats(\n    'version', 180000::integer, 'schemaname', 's', 'relpages', (pg_catalog.pg_relation_size('\"s\".\"t\"'::regclass) / pg_catalog.current_setting('block_size')::bigint)::integer, 'reltuples', -1::real);\n",
    "SET SESSION AUTHORIZATION \"a\";\nGRANT SELECT(\"c\") ON TABLE \"t\" TO \"b\";\nRESET SESSION AUTHORIZATION;\n",
    "CREATE SUBSCRIPTION \"s\" CONNECTION 'host=x' PUBLICATION \"p\" WITH (connect = false, slot_name = 'x');\nALTER SUBSCRIPTION \"s\" OWNER TO \"o\";\n\
     DO LANGUAGE plpgsql 'BEGIN IF pg_catalog.current_setting(''server_version_num'')::pg_catalog.int4 >= 160000 THEN EXECUTE ''ALTER SUBSCRIPTION \"s\" SET (run_as_owner = true)''; END IF; END';\n",
    "DO LANGUAGE plpgsql 'BEGIN EXECUTE pg_catalog.format(''ALTER DATABASE %1$I SET \"a\" TO ''''50%% it''''''''s'''''', pg_catalog.current_database()); END';\n",
    "DO LANGUAGE plpgsql 'BEGIN\nIF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgname = ''x) THEN\nEXECUTE '' AND t.tgrelid = ''\"s\".\"t\"''::pg_catalog.regclass) THEN\nEXECUTE ''CREATE TRIGGER x AFTER INSERT ON \"s\".\"t\" FOR EACH ROW EXECUTE FUNCTION f();\nALTER TABLE \"s\".\"t\" DISABLE TRIGGER x;\n'';\nEND IF;\nEND';\n",
];

#[test]
fn what_this_program_writes_is_run() {
    for sql in OURS {
        judge(sql, StatementScope::Database).unwrap_or_else(|why| panic!("{why}: {sql}"));
    }
    for sql in [
        "CREATE ROLE \"a\";\nALTER ROLE \"a\" WITH NOSUPERUSER PASSWORD 'x';\n",
        "GRANT \"a\" TO \"b\";\n",
        "GRANT SET ON PARAMETER \"x\" TO \"b\";\n",
    ] {
        judge(sql, StatementScope::Server).unwrap_or_else(|why| panic!("{why}: {sql}"));
        assert!(
            judge(sql, StatementScope::Database).is_err() || sql.contains("PARAMETER"),
            "{sql}"
        );
    }
}

#[test]
fn everything_else_is_refused() {
    for sql in [
        "COPY (SELECT 1) TO PROGRAM 'id';",
        "copy t from program 'id';",
        "DO 'BEGIN END';",
        "DO LANGUAGE plpgsql 'BEGIN PERFORM 1; END';",
        "DO $$BEGIN COPY t TO PROGRAM 'x'; END$$;",
        "ALTER SYSTEM SET archive_command = 'x';",
        "SET ROLE postgres;",
        "RESET ROLE;",
        "SET \"role\" TO 'x';",
        "SET standard_conforming_strings = off;",
        "SET session_preload_libraries = 'x';",
        "LOAD 'x';",
        "CALL p();",
        "SELECT 1;",
        "SELECT pg_catalog.lo_export(1, '/x');",
        "SELECT pg_catalog.setval('s', pg_read_file('x')::int);",
        "SELECT pg_catalog.setval('s', 1) INTO t;",
        "SELECT pg_catalog.count(*) FROM t(1);",
        "SELECT pg_catalog.count(*) FROM evil.t(1);",
        "SELECT pg_catalog.count(*) OPERATOR(evil.+) 1;",
        "INSERT INTO t VALUES (1);",
        "DROP TABLE t;",
        "TRUNCATE t;",
        "CREATE DATABASE x;",
        "DROP DATABASE x;",
        "CREATE TABLE t AS SELECT pg_read_file('x');",
        "CREATE TABLE t AS EXECUTE p;",
        "CREATE TABLE t (a) AS SELECT 1;",
        "CREATE MATERIALIZED VIEW m AS SELECT pg_read_file('x');",
        "CREATE SCHEMA s CREATE TABLE t ();",
        "CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p;",
        "ALTER SUBSCRIPTION s ENABLE;",
        "ALTER SUBSCRIPTION s CONNECTION 'host=evil';",
        "GRANT pg_execute_server_program TO x;",
        "CREATE ROLE x SUPERUSER;",
        "ALTER ROLE x SUPERUSER;",
        "ALTER DATABASE x SET y TO z;",
        "BEGIN;",
        "COMMIT;",
        "VACUUM;",
        "CREATE TABLE t ()",
        "CREATE TABLE t (a int; COPY t TO PROGRAM 'x';",
        "COMMENT ON TABLE t IS 'a' COPY",
        ";",
        "COMMENT ON TABLE t IS 'x'; COPY t TO PROGRAM 'x';",
        "PREPARE p AS SELECT 1;",
        "EXPLAIN ANALYZE SELECT 1;",
        "\"COPY\" t;",
        "CREATE FUNCTION f(begin int) RETURNS int LANGUAGE sql AS 'x'; COPY t TO PROGRAM 'x';",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 case; END; COPY t TO PROGRAM 'x'; END;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT t.* case; END; SELECT lo_export(1, 'x'); END;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 AS case; END; SELECT lo_export(1, 'x'); END;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT t.when case; END; SELECT lo_export(1, 'x'); END;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC COPY t TO PROGRAM 'x'; END;",
        "DO LANGUAGE plpgsql 'BEGIN EXECUTE pg_catalog.format(''COPY t TO PROGRAM ''''x'''''', pg_catalog.current_database()); END';",
        "DO LANGUAGE plpgsql 'BEGIN EXECUTE pg_catalog.format(''ALTER DATABASE %1$I SET a TO b; COPY t TO PROGRAM ''''x'''''', pg_catalog.current_database()); END';",
        "DO LANGUAGE plpgsql 'BEGIN EXECUTE pg_catalog.format(''ALTER DATABASE %1$I'' || pg_read_file(''x''), pg_catalog.current_database()); END';",
        "DO LANGUAGE plpgsql 'BEGIN\nIF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE x = pg_read_file(''a'')) THEN\nEXECUTE ''CREATE TRIGGER x'';\nEND IF;\nEND';",
        "DO LANGUAGE plpgsql 'BEGIN\nIF NOT EXISTS (SELECT FROM pg_catalog.pg_class) THEN\nEXECUTE ''COPY t TO PROGRAM ''''x'''';'';\nEND IF;\nEND';",
    ] {
        assert!(judge(sql, StatementScope::Database).is_err(), "{sql}");
    }
}

#[test]
fn a_condition_ends_nothing() {
    judge_condition("WHERE (a = 'x; y' AND (b IS NULL))").unwrap();
    for sql in [
        "WHERE a) TO PROGRAM 'x",
        "a",
        "WHERE a; COPY",
        "WHERE (a",
        "WHERE a -- x",
        "WHERE a) TO STDOUT; COPY (SELECT 1",
    ] {
        assert!(judge_condition(sql).is_err(), "{sql}");
    }
}

/// However many spellings of one role stand there.
#[test]
fn a_long_list_of_memberships_is_no_grant_on_something() {
    let spellings: Vec<String> = (0..400_u32)
        .map(|n| {
            let letters = "pg_execute_server".chars().enumerate();
            let spelled = letters.map(|(at, c)| if n >> at & 1 == 1 { c.to_ascii_uppercase() } else { c });
            spelled.collect()
        })
        .collect();
    let sql = format!("GRANT {} TO app;", spellings.join(", "));
    assert!(judge(&sql, StatementScope::Database).is_err());
    assert!(judge("GRANT SELECT ON TABLE t TO app;", StatementScope::Database).is_ok());
}

/// Languages in quotes, and what stands in blocks, are seen.
#[test]
fn the_language_of_a_function_is_seen_wherever_it_stands() {
    let of = |sql: &str| judge(sql, StatementScope::Database).unwrap()[0].language.clone();
    assert_eq!(
        of("CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x', 'y';").as_deref(),
        Some("c")
    );
    assert_eq!(
        of("CREATE FUNCTION f() RETURNS int LANGUAGE 'c' AS 'x', 'y';").as_deref(),
        Some("'c'")
    );
}
