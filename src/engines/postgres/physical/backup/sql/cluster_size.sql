-- Bytes of all databases of the cluster, and replication slots that are in use.
SELECT
    pg_catalog.sum(pg_catalog.pg_database_size(oid))::bigint AS bytes,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots
FROM pg_catalog.pg_database
