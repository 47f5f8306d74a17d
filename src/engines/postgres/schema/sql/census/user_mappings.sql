-- User mappings, with the foreign server.
SELECT
    1418::oid AS class,
    o.umid AS oid,
    0::oid AS via_class,
    0::oid AS via_oid,
    1417::oid AS whole_class,
    o.srvid AS whole_oid,
    NULL::text AS schema,
    o.srvname || ' ' || o.usename AS name
FROM pg_catalog.pg_user_mappings o
