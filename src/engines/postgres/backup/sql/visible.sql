-- Condition: a new session finds the relation c without its schema's name. Within other queries about relations c.
-- :schemas are the oids of the schemas of its search_path, in order.
c.oid = (
    SELECT v.oid
    FROM pg_catalog.unnest(ARRAY[:schemas]::oid[]) WITH ORDINALITY p(schema, place)
    JOIN pg_catalog.pg_class v ON v.relnamespace = p.schema AND v.relname = c.relname
    ORDER BY p.place
    LIMIT 1
)
