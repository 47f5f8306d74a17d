-- Default privileges; the parent is the schema, if they are of one.
SELECT
    d.oid,
    'A' AS tag,
    d.defaclnamespace AS schema,
    pg_catalog.pg_get_userbyid(d.defaclrole)::text || ' ' || d.defaclobjtype::text AS name,
    d.defaclnamespace AS parent,
    0 AS flags,
    false AS has_acl
FROM pg_catalog.pg_default_acl d
WHERE d.oid >= 16384
