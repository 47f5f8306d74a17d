-- Defaults of columns; the parent is the relation, the name is the column's.
SELECT
    a.oid,
    'D' AS tag,
    0::oid AS schema,
    at.attname::text AS name,
    a.adrelid AS parent,
    CASE WHEN c.relkind IN ('r', 'p', 'f') THEN :inline ELSE 0 END AS flags,
    false AS has_acl
FROM pg_catalog.pg_attrdef a
JOIN pg_catalog.pg_attribute at ON at.attrelid = a.adrelid AND at.attnum = a.adnum
JOIN pg_catalog.pg_class c ON c.oid = a.adrelid
WHERE a.adrelid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'f')
