-- Default privileges.
SELECT
    826::oid AS class,
    o.oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    0::oid AS whole_class,
    0::oid AS whole_oid,
    NULL::text AS schema,
    pg_catalog.pg_get_userbyid(o.defaclrole) || ' ' || o.defaclobjtype::text AS name
FROM pg_catalog.pg_default_acl o
WHERE o.oid >= 16384
