-- Views that cannot be made again as they are: what only a superuser, or their extension, could do. :views is
-- the array of their oids.
SELECT pg_catalog.pg_describe_object(1259, c.oid, 0) AS name
FROM pg_catalog.pg_class c
WHERE c.oid = ANY (:views)
  AND (
      EXISTS (
          SELECT
          FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.objid = c.oid
            AND d.deptype IN ('e', 'x')
      )
      OR EXISTS (
          SELECT
          FROM pg_catalog.pg_seclabel s
          WHERE s.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND s.objoid = c.oid
      )
      OR EXISTS (
          SELECT
          FROM pg_catalog.aclexplode(c.relacl) x
          WHERE x.grantor <> c.relowner
      )
      OR EXISTS (
          SELECT
          FROM pg_catalog.pg_attribute a,
              pg_catalog.aclexplode(a.attacl) x
          WHERE a.attrelid = c.oid AND x.grantor <> c.relowner
      )
  )
ORDER BY name
