//! The bulk queries: one per catalog, cost by the size of the catalog, plain columns only (no definition functions).
//!
//! Every node query yields: oid, tag, schema oid, name, parent oid, flags, has ACL. Members of extensions are left out.

use super::node::{Kind, class, flag};

/// One bulk query of nodes.
pub(super) struct NodeQuery {
    /// Catalog the oids belong to.
    pub(super) class: u32,
    /// Catalog the parent oids belong to (0: none).
    pub(super) parent_class: u32,
    /// What is read, for messages.
    pub(super) act: &'static str,
    pub(super) sql: String,
}

/// Text that leaves out members of extensions and whatever else hangs internally on something.
fn free(catalog: u32, alias: &str, deptypes: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = {catalog} AND d.objid = {alias}.oid \
         AND d.objsubid = 0 AND d.deptype IN ({deptypes}))"
    )
}

/// The rest of a query of a catalog's rows (`catalog alias`) that are members of extensions; `d.refobjid` is the extension.
fn member(class: u32, of: &str) -> String {
    let alias = of.rsplit(' ').next().unwrap_or_default();
    format!(
        "FROM pg_catalog.{of} JOIN pg_catalog.pg_depend d ON d.classid = {class} AND d.objid = {alias}.oid \
         AND d.objsubid = 0 AND d.deptype = 'e' AND d.refclassid = 3079 WHERE true"
    )
}

/// Returns the node queries in an order in which parents come before their parts.
pub(super) fn node_queries(version: i32, subscriptions: bool) -> Vec<NodeQuery> {
    let (partitioned, partition, data) = (flag::PARTITIONED, flag::PARTITION, flag::DATA);
    let inline = flag::INLINE;
    let user = "oid >= 16384";
    let query = |class, parent_class, act, sql| NodeQuery {
        class,
        parent_class,
        act,
        sql,
    };
    let mut queries = vec![
        query(
            class::NAMESPACE,
            0,
            "schemas",
            format!(
                "SELECT n.oid, 'n', 0::oid, n.nspname::text, 0::oid, 0, n.nspacl IS NOT NULL FROM pg_catalog.pg_namespace n \
             WHERE (n.{user} OR n.nspname = 'public') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND {}",
                free(class::NAMESPACE, "n", "'e'")
            ),
        ),
        query(
            class::EXTENSION,
            0,
            "extensions",
            format!(
                "SELECT e.oid, 'x', 0::oid, e.extname::text, 0::oid, 0, false FROM pg_catalog.pg_extension e WHERE e.{user}"
            ),
        ),
        query(
            class::NAMESPACE,
            class::EXTENSION,
            "schemas of extensions",
            format!(
                "SELECT n.oid, 'nx', 0::oid, n.nspname::text, d.refobjid, 0, false {}",
                member(class::NAMESPACE, "pg_namespace n")
            ),
        ),
        query(
            class::RELATION,
            class::EXTENSION,
            "relations of extensions",
            format!(
                "SELECT c.oid, 'cx', c.relnamespace, c.relname::text, d.refobjid, 0, false {} \
                 AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')",
                member(class::RELATION, "pg_class c")
            ),
        ),
        query(
            class::RELATION,
            0,
            "relations",
            format!(
                "SELECT c.oid, c.relkind::text, c.relnamespace, c.relname::text, 0::oid, \
             CASE WHEN c.relkind = 'p' THEN {partitioned} ELSE 0 END + CASE WHEN c.relispartition THEN {partition} ELSE 0 END \
             + CASE WHEN c.relkind = 'r' OR (c.relkind = 'm' AND c.relispopulated) THEN {data} ELSE 0 END, \
             c.relacl IS NOT NULL FROM pg_catalog.pg_class c \
             WHERE c.{user} AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND {}",
                free(class::RELATION, "c", "'e'")
            ),
        ),
        query(
            class::TYPE,
            0,
            "types",
            format!(
                "SELECT t.oid, 'T' || t.typtype::text, t.typnamespace, t.typname::text, 0::oid, 0, t.typacl IS NOT NULL \
             FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid \
             LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid \
             WHERE t.{user} AND (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'p' AND NOT t.typisdefined) \
             OR (t.typtype = 'b' AND e.oid IS NULL) OR (t.typtype = 'c' AND c.relkind = 'c')) AND {}",
                free(class::TYPE, "t", "'e'")
            ),
        ),
        query(
            class::PROC,
            0,
            "functions",
            format!(
                "SELECT p.oid, 'P' || p.prokind::text, p.pronamespace, p.proname::text, 0::oid, 0, p.proacl IS NOT NULL \
             FROM pg_catalog.pg_proc p WHERE p.{user} AND {}",
                free(class::PROC, "p", "'e', 'i'")
            ),
        ),
        query(
            class::ATTRDEF,
            class::RELATION,
            "column defaults",
            format!(
                "SELECT a.oid, 'D', 0::oid, at.attname::text, a.adrelid, CASE WHEN c.relkind IN ('r', 'p', 'f') THEN {inline} ELSE 0 END, false \
             FROM pg_catalog.pg_attrdef a JOIN pg_catalog.pg_attribute at ON at.attrelid = a.adrelid AND at.attnum = a.adnum \
             JOIN pg_catalog.pg_class c ON c.oid = a.adrelid WHERE a.adrelid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'f')"
            ),
        ),
        query(
            class::CONSTRAINT,
            class::RELATION,
            "table constraints",
            format!(
                "SELECT k.oid, 'C' || k.contype::text, 0::oid, k.conname::text, k.conrelid, \
             CASE WHEN k.contype = 'c' AND k.convalidated THEN {inline} ELSE 0 END \
             + CASE WHEN c.relkind = 'p' THEN {partitioned} ELSE 0 END, false \
             FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
             WHERE k.conrelid >= 16384 AND (k.contype IN ('p', 'u', 'x') OR (k.contype = 'f' AND k.conparentid = 0) \
             OR (k.contype = 'n' AND k.conislocal AND NOT k.convalidated) \
             OR (k.contype = 'c' AND (k.conislocal OR c.relispartition)))"
            ),
        ),
        query(
            class::CONSTRAINT,
            class::TYPE,
            "domain constraints",
            format!(
                "SELECT k.oid, 'Cd', 0::oid, k.conname::text, k.contypid, CASE WHEN k.convalidated THEN {inline} ELSE 0 END, false \
             FROM pg_catalog.pg_constraint k WHERE k.contypid >= 16384 AND k.contype = 'c'"
            ),
        ),
        query(
            class::RELATION,
            class::RELATION,
            "indexes",
            format!(
                "SELECT c.oid, 'I', c.relnamespace, c.relname::text, i.indrelid, CASE WHEN c.relkind = 'I' THEN {partitioned} ELSE 0 END, false \
             FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
             WHERE i.indexrelid >= 16384 AND i.indisready AND (i.indisvalid OR c.relkind = 'I') AND t.relkind IN ('r', 'p', 'm') \
             AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid \
             AND k.contype IN ('p', 'u', 'x'))"
            ),
        ),
        query(
            class::STATISTIC,
            0,
            "extended statistics",
            format!(
                "SELECT s.oid, 's', s.stxnamespace, s.stxname::text, 0::oid, 0, false FROM pg_catalog.pg_statistic_ext s WHERE s.{user} AND {}",
                free(class::STATISTIC, "s", "'e'")
            ),
        ),
        query(
            class::REWRITE,
            class::RELATION,
            "rules",
            format!(
                "SELECT r.oid, 'R', 0::oid, r.rulename::text, r.ev_class, 0, false FROM pg_catalog.pg_rewrite r \
             WHERE r.{user} AND r.rulename <> '_RETURN'"
            ),
        ),
        query(
            class::TRIGGER,
            class::RELATION,
            "triggers",
            format!(
                "SELECT t.oid, 't', 0::oid, t.tgname::text, t.tgrelid, 0, false FROM pg_catalog.pg_trigger t \
             WHERE t.{user} AND NOT t.tgisinternal AND t.tgparentid = 0 AND {}",
                free(class::TRIGGER, "t", "'e'")
            ),
        ),
        query(
            class::POLICY,
            class::RELATION,
            "policies",
            format!(
                "SELECT p.oid, 'L', 0::oid, p.polname::text, p.polrelid, 0, false FROM pg_catalog.pg_policy p WHERE p.{user}"
            ),
        ),
        query(
            class::DEFAULT_ACL,
            class::NAMESPACE,
            "default privileges",
            format!(
                "SELECT d.oid, 'A', d.defaclnamespace, pg_catalog.pg_get_userbyid(d.defaclrole)::text || ' ' || d.defaclobjtype::text, d.defaclnamespace, 0, false \
             FROM pg_catalog.pg_default_acl d WHERE d.{user}"
            ),
        ),
        query(
            class::EVENT_TRIGGER,
            0,
            "event triggers",
            format!(
                "SELECT e.oid, 'E', 0::oid, e.evtname::text, 0::oid, 0, false FROM pg_catalog.pg_event_trigger e WHERE e.{user} AND {}",
                free(class::EVENT_TRIGGER, "e", "'e'")
            ),
        ),
    ];
    queries.extend(other_queries(version).map(|q| query(q.0, q.1, q.2, q.3)));
    if version >= 150_000 {
        let sql = "SELECT p.oid, 'y', 0::oid, n.nspname::text, p.pnpubid, 0, false FROM pg_catalog.pg_publication_namespace p \
                   JOIN pg_catalog.pg_namespace n ON n.oid = p.pnnspid";
        queries.push(query(
            class::PUBLICATION_NAMESPACE,
            class::PUBLICATION,
            "schemas of publications",
            sql.to_owned(),
        ));
    }
    if subscriptions {
        let sql = "SELECT s.oid, 'z', 0::oid, s.subname::text, 0::oid, 0, false FROM pg_catalog.pg_subscription s \
                   JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = pg_catalog.current_database()";
        queries.push(query(class::SUBSCRIPTION, 0, "subscriptions", sql.to_owned()));
    }
    queries
}

/// Classes whose rows are all alike: catalog, prefix of its columns, tag, schema, access list.
const PLAIN: [(u32, &str, &str, &str, bool, bool); 14] = [
    (class::AM, "pg_am", "am", "a", false, false),
    (class::LANGUAGE, "pg_language", "lan", "l", false, true),
    (class::COLLATION, "pg_collation", "coll", "o", true, false),
    (class::CONVERSION, "pg_conversion", "con", "c", true, false),
    (class::TS_PARSER, "pg_ts_parser", "prs", "gp", true, false),
    (class::TS_TEMPLATE, "pg_ts_template", "tmpl", "gt", true, false),
    (class::TS_DICT, "pg_ts_dict", "dict", "gd", true, false),
    (class::TS_CONFIG, "pg_ts_config", "cfg", "gc", true, false),
    (class::FDW, "pg_foreign_data_wrapper", "fdw", "w", false, true),
    (class::SERVER, "pg_foreign_server", "srv", "e", false, true),
    (class::OPERATOR, "pg_operator", "opr", "u", true, false),
    (class::OPFAMILY, "pg_opfamily", "opf", "F", true, false),
    (class::OPCLASS, "pg_opclass", "opc", "O", true, false),
    (class::PUBLICATION, "pg_publication", "pub", "b", false, false),
];

fn other_queries(version: i32) -> impl Iterator<Item = (u32, u32, &'static str, String)> {
    let plain = PLAIN.iter().map(|&(class, catalog, prefix, tag, schema, acl)| {
        let schema = if schema {
            format!("o.{prefix}namespace")
        } else {
            "0::oid".to_owned()
        };
        let acl = if acl {
            format!("o.{prefix}acl IS NOT NULL")
        } else {
            "false".to_owned()
        };
        // An operator without a function is one that others name, not one that was made.
        let extra = if class == class::OPERATOR {
            "AND o.oprcode <> 0"
        } else {
            ""
        };
        let sql = format!(
            "SELECT o.oid, '{tag}', {schema}, o.{prefix}name::text, 0::oid, 0, {acl} FROM pg_catalog.{catalog} o \
             WHERE o.oid >= 16384 {extra} AND {}",
            free(class, "o", "'e'")
        );
        (class, 0, catalog, sql)
    });
    let others = [
        (
            class::CAST,
            0,
            "casts",
            format!(
                "SELECT o.oid, 'k', 0::oid, s.typname || ' AS ' || t.typname, 0::oid, 0, false FROM pg_catalog.pg_cast o \
                 JOIN pg_catalog.pg_type s ON s.oid = o.castsource JOIN pg_catalog.pg_type t ON t.oid = o.casttarget \
                 WHERE o.oid >= 16384 AND {}",
                free(class::CAST, "o", "'e', 'i'")
            ),
        ),
        (
            class::TRANSFORM,
            0,
            "transforms",
            format!(
                "SELECT o.oid, 'f1', 0::oid, t.typname || ' ' || l.lanname, 0::oid, 0, false FROM pg_catalog.pg_transform o \
                 JOIN pg_catalog.pg_type t ON t.oid = o.trftype JOIN pg_catalog.pg_language l ON l.oid = o.trflang \
                 WHERE o.oid >= 16384 AND {}",
                free(class::TRANSFORM, "o", "'e'")
            ),
        ),
        (
            class::USER_MAPPING,
            class::SERVER,
            "user mappings",
            "SELECT u.umid, 'm1', 0::oid, u.usename::text, u.srvid, 0, false FROM pg_catalog.pg_user_mappings u"
                .to_owned(),
        ),
        (
            class::PUBLICATION_REL,
            class::PUBLICATION,
            "tables of publications",
            "SELECT p.oid, 'q', 0::oid, c.relname::text, p.prpubid, 0, false FROM pg_catalog.pg_publication_rel p \
             JOIN pg_catalog.pg_class c ON c.oid = p.prrelid"
                .to_owned(),
        ),
        (
            class::TRIGGER,
            class::RELATION,
            "triggers of partitions",
            // Before 15 copies of users' triggers were internal, and those of foreign keys had no parent.
            format!(
                "SELECT t.oid, 't1', 0::oid, t.tgname::text, t.tgrelid, 0, false FROM pg_catalog.pg_trigger t \
                 JOIN pg_catalog.pg_trigger p ON p.oid = t.tgparentid \
                 WHERE (NOT p.tgisinternal OR {}) AND t.tgenabled <> p.tgenabled",
                if version < 150_000 {
                    "p.tgparentid <> 0"
                } else {
                    "false"
                }
            ),
        ),
    ];
    plain.chain(others)
}

/// Returns the kind for a tag of [`node_queries`].
pub(super) fn kind_of(tag: &str) -> Option<Kind> {
    Some(match tag {
        "n" => Kind::Schema,
        "x" => Kind::Extension,
        "nx" => Kind::MemberSchema,
        "cx" => Kind::Member,
        "r" | "p" => Kind::Table,
        "v" => Kind::View,
        "m" => Kind::MatView,
        "S" => Kind::Sequence,
        "f" => Kind::ForeignTable,
        "Tb" => Kind::BaseType,
        "Tp" => Kind::UndefinedType,
        "Te" => Kind::Enum,
        "Td" => Kind::Domain,
        "Tr" => Kind::Range,
        "Tc" => Kind::Composite,
        "Pf" | "Pw" => Kind::Function,
        "Pp" => Kind::Procedure,
        "Pa" => Kind::Aggregate,
        "D" => Kind::Default,
        "Cc" => Kind::Check,
        "Cp" | "Cu" | "Cx" => Kind::Constraint,
        "Cf" => Kind::ForeignKey,
        "Cd" => Kind::DomainCheck,
        "Cn" => Kind::NotNull,
        "I" => Kind::Index,
        "s" => Kind::Statistics,
        "R" => Kind::Rule,
        "t" => Kind::Trigger,
        "t1" => Kind::TriggerState,
        "L" => Kind::Policy,
        "A" => Kind::DefaultAcl,
        "E" => Kind::EventTrigger,
        "a" => Kind::AccessMethod,
        "l" => Kind::Language,
        "o" => Kind::Collation,
        "c" => Kind::Conversion,
        "gp" => Kind::TsParser,
        "gt" => Kind::TsTemplate,
        "gd" => Kind::TsDict,
        "gc" => Kind::TsConfig,
        "w" => Kind::Fdw,
        "e" => Kind::Server,
        "m1" => Kind::UserMapping,
        "u" => Kind::Operator,
        "F" => Kind::OpFamily,
        "O" => Kind::OpClass,
        "b" => Kind::Publication,
        "q" => Kind::PublicationTable,
        "y" => Kind::PublicationSchema,
        "z" => Kind::Subscription,
        "k" => Kind::Cast,
        "f1" => Kind::Transform,
        _ => return None,
    })
}

/// Other identities of objects: (class, oid) -> (class, oid). Later rows may build on earlier ones.
pub(super) const ALIASES: [(&str, &str); 8] = [
    (
        "constraint indexes",
        "SELECT 1259::oid, k.conindid, 2606::oid, k.oid FROM pg_catalog.pg_constraint k WHERE k.contype IN ('p', 'u', 'x')",
    ),
    (
        "view rules",
        "SELECT 2618::oid, r.oid, 1259::oid, r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.rulename = '_RETURN' AND r.oid >= 16384",
    ),
    (
        "composite types",
        "SELECT 1259::oid, c.oid, 1247::oid, c.reltype FROM pg_catalog.pg_class c WHERE c.relkind = 'c' AND c.oid >= 16384",
    ),
    (
        "row types",
        "SELECT 1247::oid, c.reltype, 1259::oid, c.oid FROM pg_catalog.pg_class c WHERE c.reltype <> 0 AND c.relkind <> 'c' AND c.oid >= 16384",
    ),
    (
        "array types",
        "SELECT 1247::oid, t.typarray, 1247::oid, t.oid FROM pg_catalog.pg_type t WHERE t.typarray <> 0 AND t.oid >= 16384",
    ),
    (
        "operators of families",
        "SELECT 2602::oid, o.oid, 2753::oid, o.amopfamily FROM pg_catalog.pg_amop o WHERE o.oid >= 16384",
    ),
    (
        "functions of operator families",
        "SELECT 2603::oid, o.oid, 2753::oid, o.amprocfamily FROM pg_catalog.pg_amproc o WHERE o.oid >= 16384",
    ),
    (
        "range functions",
        "SELECT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_catalog.pg_depend d \
     WHERE d.deptype = 'i' AND d.classid = 1255 AND d.refclassid = 1247 AND d.objid >= 16384",
    ),
];

/// Multiranges and their arrays hang on their range [14].
pub(super) const MULTIRANGE_ALIASES: (&str, &str) = (
    "multirange types",
    "SELECT 1247::oid, r.rngmultitypid, 1247::oid, r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngtypid >= 16384 \
     UNION ALL SELECT 1247::oid, t.typarray, 1247::oid, r.rngtypid FROM pg_catalog.pg_range r \
     JOIN pg_catalog.pg_type t ON t.oid = r.rngmultitypid WHERE r.rngtypid >= 16384",
);

/// Dependencies. Rows of built-in objects never matter: nothing before 16384 is created.
pub(super) const DEPENDENCIES: &str = "SELECT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_catalog.pg_depend d \
     WHERE d.deptype NOT IN ('p', 'e') AND NOT (d.deptype = 'i' AND d.classid IN (2602, 2603)) AND d.objid >= 16384 AND (d.refobjid >= 16384 OR d.refclassid = 2615)";

/// Views whose query names a column of the view itself. As a rule every view's rule depends on the whole view.
pub(super) const VIEWS_OF_THEMSELVES: &str = "SELECT DISTINCT r.ev_class FROM pg_catalog.pg_depend d \
     JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class = d.refobjid AND r.ev_type = '1' \
     WHERE d.classid = 2618 AND d.refclassid = 1259 AND d.refobjsubid > 0 AND d.objid >= 16384";

/// Indexes that a failed `CREATE INDEX CONCURRENTLY` left, or that is being made.
pub(super) const INVALID_INDEXES: &str = "invalid indexes";

/// Rows that a standby does not have: a crash of the primary would empty these tables as well.
pub(super) const UNLOGGED_ON_STANDBY: &str = "rows of unlogged tables (a standby has none)";

/// What this version of the program does not carry yet, one row per class: name, count.
pub(super) fn not_covered() -> String {
    let parts = [
        "SELECT 'subscriptions', count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database b ON b.oid = s.subdbid \
         WHERE b.datname = pg_catalog.current_database() AND \
         NOT pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subconninfo', 'SELECT')"
            .to_owned(),
        format!(
            "SELECT '{UNLOGGED_ON_STANDBY}', count(*) FROM pg_catalog.pg_class c \
             WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND c.oid >= 16384 AND pg_catalog.pg_is_in_recovery()"
        ),
        format!(
            "SELECT '{INVALID_INDEXES}', count(*) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             WHERE c.relkind = 'i' AND NOT (i.indisready AND i.indisvalid) AND c.oid >= 16384"
        ),
    ];
    parts.join(" UNION ALL ")
}
