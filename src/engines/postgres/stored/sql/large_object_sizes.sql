-- Whether there are large objects, whether the role may read their table as a whole, and how large that is.
SELECT
    EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) AS any_object,
    pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') AS whole,
    pg_catalog.pg_relation_size(
        'pg_catalog.pg_largeobject'
    ) / pg_catalog.current_setting('block_size')::int8 AS pages,
    pg_catalog.pg_table_size('pg_catalog.pg_largeobject') AS bytes
