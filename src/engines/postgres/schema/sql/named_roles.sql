-- Roles that own something in the database or the database, have rights or policies, or settings in it.
-- The server keeps that account itself (pg_shdepend), but for the role that made the cluster (OID 10), which
-- always exists at home.
-- Parameters: $1 the most that are wanted.
SELECT r.rolname::text AS name
FROM pg_catalog.pg_database b,
    pg_catalog.pg_roles r
WHERE b.datname = pg_catalog.current_database()
  AND r.rolname !~ '^pg_'
  AND (
      r.oid IN (
          SELECT s.refobjid
          FROM pg_catalog.pg_shdepend s
          WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
            AND (
                s.dbid = b.oid
                OR (
                    s.dbid = 0
                    AND s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
                    AND s.objid = b.oid
                )
            )
      )
      OR r.oid IN (
          SELECT s.setrole
          FROM pg_catalog.pg_db_role_setting s
          WHERE s.setdatabase = b.oid
      )
      OR r.oid = b.datdba
      OR (
          r.oid = 10
          AND (
              EXISTS (
                  SELECT
                  FROM (
                      SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, oid, relowner FROM pg_catalog.pg_class
                      UNION ALL
                      SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, proowner FROM pg_catalog.pg_proc
                      UNION ALL
                      SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid, typowner FROM pg_catalog.pg_type
                      UNION ALL
                      SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, nspowner FROM pg_catalog.pg_namespace
                      UNION ALL
                      SELECT 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, oid, srvowner FROM pg_catalog.pg_foreign_server
                      UNION ALL
                      SELECT 'pg_catalog.pg_publication'::pg_catalog.regclass, oid, pubowner FROM pg_catalog.pg_publication
                      UNION ALL
                      SELECT 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, oid, evtowner FROM pg_catalog.pg_event_trigger
                      UNION ALL
                      SELECT 'pg_catalog.pg_largeobject_metadata'::pg_catalog.regclass, oid, lomowner
                      FROM pg_catalog.pg_largeobject_metadata
                  ) o(catalog, oid, owner)
                  WHERE o.owner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = o.catalog AND d.objid = o.oid AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM (
                      SELECT oid, relacl FROM pg_catalog.pg_class
                      UNION ALL
                      SELECT oid, proacl FROM pg_catalog.pg_proc
                      UNION ALL
                      SELECT oid, nspacl FROM pg_catalog.pg_namespace
                  ) o(oid, acl),
                      pg_catalog.aclexplode(o.acl) x
                  WHERE x.grantee = 10 AND o.oid >= 16384
              )
          )
      )
  )
ORDER BY name
LIMIT $1
