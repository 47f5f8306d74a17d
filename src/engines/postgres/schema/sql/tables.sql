-- Tables of all kinds: ordinary, partitioned, partitions, inheriting, typed and foreign ones.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.relname::text AS name,
    c.relkind::text AS kind,
    c.relpersistence::text AS persistence,
    c.relispartition AS is_partition,
    pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    am.amname::text AS method,
    ts.spcname::text AS tablespace,
    c.reloptions AS options,
    t.reloptions AS toast_options,
    CASE WHEN c.reloftype <> 0 THEN pg_catalog.format_type(c.reloftype, NULL) END AS of_type,
    c.relreplident::text AS replica_identity,
    c.relforcerowsecurity AS force_row_security,
    CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END AS partition_key,
    ARRAY(
        SELECT i.inhparent
        FROM pg_catalog.pg_inherits i
        WHERE i.inhrelid = c.oid AND NOT c.relispartition
        ORDER BY i.inhseqno
    ) AS parents,
    fs.srvname::text AS server,
    ft.ftoptions AS foreign_options
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace
LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_catalog.pg_foreign_table ft ON ft.ftrelid = c.oid
LEFT JOIN pg_catalog.pg_foreign_server fs ON fs.oid = ft.ftserver
WHERE c.oid = ANY($1::oid[])
