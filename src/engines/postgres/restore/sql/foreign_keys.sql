-- Tables, each with one that a foreign key of it refers to. :names are their quoted names, as literals.
SELECT DISTINCT
    n.nspname AS schema,
    c.relname AS name,
    rn.nspname AS referenced_schema,
    r.relname AS referenced_name
FROM pg_catalog.unnest(ARRAY[:names]) u(name)
JOIN pg_catalog.pg_constraint k
    ON k.contype = 'f' AND k.conrelid = pg_catalog.to_regclass(u.name) AND k.confrelid <> k.conrelid
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
