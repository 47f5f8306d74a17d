-- Operator classes.
-- Parameters: $1 their oids.
SELECT
    c.oid,
    n.nspname::text AS schema,
    c.opcname::text AS name,
    a.amname::text AS method,
    pg_catalog.pg_get_userbyid(c.opcowner)::text AS owner,
    (
        SELECT ds.description
        FROM pg_catalog.pg_description ds
        WHERE ds.objoid = c.oid
          AND ds.classoid = 'pg_catalog.pg_opclass'::pg_catalog.regclass
          AND ds.objsubid = 0
    ) AS comment,
    c.opcdefault AS is_default,
    pg_catalog.format_type(c.opcintype, NULL) AS input_type,
    CASE WHEN c.opckeytype <> 0 THEN pg_catalog.format_type(c.opckeytype, NULL) END AS key_type,
    fn.nspname::text AS family_schema,
    f.opfname::text AS family_name
FROM pg_catalog.pg_opclass c
JOIN pg_catalog.pg_namespace n ON n.oid = c.opcnamespace
JOIN pg_catalog.pg_am a ON a.oid = c.opcmethod
JOIN pg_catalog.pg_opfamily f ON f.oid = c.opcfamily
JOIN pg_catalog.pg_namespace fn ON fn.oid = f.opfnamespace
WHERE c.oid = ANY($1::oid[])
