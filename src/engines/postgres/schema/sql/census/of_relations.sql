-- Parts of relations in one catalog, with the relation that each is a part of.
-- :class, :catalog, its columns :relation_column and :name_column, and the :condition come from the table in
-- census.rs.
SELECT
    :class::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    'pg_catalog.pg_class'::pg_catalog.regclass::oid AS whole_class,
    o.:relation_column AS whole_oid,
    n.nspname::text AS schema,
    c.relname || ' ' || o.:name_column AS name
FROM pg_catalog.:catalog o
JOIN pg_catalog.pg_class c ON c.oid = o.:relation_column AND c.relpersistence <> 't'
JOIN pg_catalog.pg_namespace n
    ON n.oid = c.relnamespace
    AND n.nspname !~ '^pg_(temp|toast)'
    AND NOT (n.nspname = 'information_schema' AND n.oid >= 16384)
WHERE o.oid >= 16384 AND :condition
