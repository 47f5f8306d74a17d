-- Indexes of constraints: parts of the constraint.
SELECT
    1259::oid AS class,
    k.conindid AS oid,
    2606::oid AS of_class,
    k.oid AS of_oid
FROM pg_catalog.pg_constraint k
WHERE k.contype IN ('p', 'u', 'x')
