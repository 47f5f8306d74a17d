-- Constraints of tables and domains, with what the server does not print of their indexes.
-- Parameters: $1 their oids.
SELECT
    k.oid,
    k.conname::text AS name,
    k.contype::text AS kind,
    pg_catalog.pg_get_constraintdef(k.oid) AS definition,
    k.condeferrable AS deferrable,
    k.condeferred AS deferred,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = k.oid
          AND ds.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    n.nspname::text AS schema,
    c.relname::text AS table_name,
    c.relkind::text AS table_kind,
    i.reloptions AS options,
    ts.spcname::text AS tablespace,
    x.indisclustered AS clustered,
    x.indisreplident AS replica_identity,
    ic.relname::text AS index_name,
    k.contypid AS domain,
    ARRAY(
        SELECT a.attnum || ' ' || a.attstattarget
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = k.conindid
          AND a.attstattarget >= 0
          AND k.contype IN ('p', 'u', 'x')
        ORDER BY a.attnum
    ) AS statistics_targets,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = ic.oid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS index_comment
FROM pg_catalog.pg_constraint k
LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class i ON i.oid = k.conindid AND k.contype IN ('p', 'u')
LEFT JOIN pg_catalog.pg_class ic ON ic.oid = k.conindid AND k.contype IN ('p', 'u', 'x')
LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = ic.reltablespace
LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = ic.oid
WHERE k.oid = ANY($1::oid[])
