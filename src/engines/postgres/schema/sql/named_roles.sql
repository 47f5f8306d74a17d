-- Roles that own something in the database or the database, have rights or policies, or settings in it.
-- The server keeps that account itself (pg_shdepend), but for the role that made the cluster (OID 10), which
-- always exists at home.
-- Parameters: $1 the most that are wanted.
-- Versions: 13 to 18 alike.
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
                  FROM pg_catalog.pg_class o
                  WHERE o.relowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_proc o
                  WHERE o.proowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_type o
                  WHERE o.typowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_namespace o
                  WHERE o.nspowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_foreign_server o
                  WHERE o.srvowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_foreign_server'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_publication o
                  WHERE o.pubowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_publication'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_event_trigger o
                  WHERE o.evtowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_largeobject_metadata o
                  WHERE o.lomowner = 10
                    AND o.oid >= 16384
                    AND NOT EXISTS (
                        SELECT
                        FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_largeobject_metadata'::pg_catalog.regclass
                          AND d.objid = o.oid
                          AND d.deptype = 'e'
                    )
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_class o,
                      pg_catalog.aclexplode(o.relacl) x
                  WHERE x.grantee = 10 AND o.oid >= 16384
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_proc o,
                      pg_catalog.aclexplode(o.proacl) x
                  WHERE x.grantee = 10 AND o.oid >= 16384
              )
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_namespace o,
                      pg_catalog.aclexplode(o.nspacl) x
                  WHERE x.grantee = 10 AND o.oid >= 16384
              )
          )
      )
  )
ORDER BY name
LIMIT $1
