-- Schemas that a new session of this role looks through, in order.
SELECT n.oid
FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY s(name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) s.name
ORDER BY s.place
