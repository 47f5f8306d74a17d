-- Databases with a comment.
-- Comments are in the encodings of their databases: functions of text refuse what is none of this one's.
SELECT d.oid, d.datname AS name, c.description AS comment
FROM pg_catalog.pg_database d
JOIN pg_catalog.pg_shdescription c
    ON c.objoid = d.oid AND c.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
