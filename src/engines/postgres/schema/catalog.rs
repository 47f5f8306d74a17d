//! The bulk queries: one per catalog, cost by the size of the catalog, plain columns only (no definition functions).
//!
//! Every node query yields: `oid`, `tag` (see [`kind_of`]), `schema` and `parent` (oids, 0: none), `name`, `flags` (see [`flag`]), `has_acl`.
//! Members of extensions are left out.

use super::node::{Kind, class, flag};
use crate::engines::postgres::sql::quote::literal;
use crate::engines::postgres::sql::template::{for_version, with_names};

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

/// Class, class of the parents, what is read, query.
type Listed = (u32, u32, &'static str, &'static str);

/// Queries in an order in which parents come before their parts. `PLAIN` comes between the two lists.
const FIRST: [Listed; 15] = [
    (class::NAMESPACE, 0, "schemas", include_str!("sql/nodes/schemas.sql")),
    (
        class::EXTENSION,
        0,
        "extensions",
        include_str!("sql/nodes/extensions.sql"),
    ),
    (
        class::NAMESPACE,
        class::EXTENSION,
        "schemas of extensions",
        include_str!("sql/nodes/schemas_of_extensions.sql"),
    ),
    (
        class::RELATION,
        class::EXTENSION,
        "relations of extensions",
        include_str!("sql/nodes/relations_of_extensions.sql"),
    ),
    (class::RELATION, 0, "relations", include_str!("sql/nodes/relations.sql")),
    (class::TYPE, 0, "types", include_str!("sql/nodes/types.sql")),
    (class::PROC, 0, "functions", include_str!("sql/nodes/functions.sql")),
    (
        class::ATTRDEF,
        class::RELATION,
        "column defaults",
        include_str!("sql/nodes/column_defaults.sql"),
    ),
    (
        class::CONSTRAINT,
        class::RELATION,
        "table constraints",
        include_str!("sql/nodes/table_constraints.sql"),
    ),
    (
        class::CONSTRAINT,
        class::TYPE,
        "domain constraints",
        include_str!("sql/nodes/domain_constraints.sql"),
    ),
    (
        class::RELATION,
        class::RELATION,
        "indexes",
        include_str!("sql/nodes/indexes.sql"),
    ),
    (
        class::REWRITE,
        class::RELATION,
        "rules",
        include_str!("sql/nodes/rules.sql"),
    ),
    (
        class::TRIGGER,
        class::RELATION,
        "triggers",
        include_str!("sql/nodes/triggers.sql"),
    ),
    (
        class::POLICY,
        class::RELATION,
        "policies",
        include_str!("sql/nodes/policies.sql"),
    ),
    (
        class::DEFAULT_ACL,
        class::NAMESPACE,
        "default privileges",
        include_str!("sql/nodes/default_privileges.sql"),
    ),
];

const LAST: [Listed; 5] = [
    (class::CAST, 0, "casts", include_str!("sql/nodes/casts.sql")),
    (
        class::TRANSFORM,
        0,
        "transforms",
        include_str!("sql/nodes/transforms.sql"),
    ),
    (
        class::USER_MAPPING,
        class::SERVER,
        "user mappings",
        include_str!("sql/nodes/user_mappings.sql"),
    ),
    (
        class::PUBLICATION_REL,
        class::PUBLICATION,
        "tables of publications",
        include_str!("sql/nodes/publication_tables.sql"),
    ),
    (
        class::TRIGGER,
        class::RELATION,
        "triggers of partitions",
        include_str!("sql/nodes/trigger_states.sql"),
    ),
];

/// From 15 on.
const PUBLICATION_SCHEMAS: Listed = (
    class::PUBLICATION_NAMESPACE,
    class::PUBLICATION,
    "schemas of publications",
    include_str!("sql/nodes/publication_schemas.sql"),
);

/// For a role that may read connection strings.
const SUBSCRIPTIONS: Listed = (
    class::SUBSCRIPTION,
    0,
    "subscriptions",
    include_str!("sql/nodes/subscriptions.sql"),
);

/// Classes whose rows are all alike: catalog, prefix of its columns, tag, whether they lie in schemas, whether they have an access list.
const PLAIN: [(u32, &str, &str, &str, bool, bool); 16] = [
    (class::STATISTIC, "pg_statistic_ext", "stx", "s", true, false),
    (class::EVENT_TRIGGER, "pg_event_trigger", "evt", "E", false, false),
    (class::OPERATOR, "pg_operator", "opr", "u", true, false),
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
    (class::OPFAMILY, "pg_opfamily", "opf", "F", true, false),
    (class::OPCLASS, "pg_opclass", "opc", "O", true, false),
    (class::PUBLICATION, "pg_publication", "pub", "b", false, false),
];

const OF_SCHEMAS: &str = include_str!("sql/nodes/of_schemas.sql");
const OF_DATABASE: &str = include_str!("sql/nodes/of_database.sql");

fn plain_queries() -> impl Iterator<Item = NodeQuery> {
    PLAIN.iter().map(|&(class, catalog, prefix, tag, in_schemas, has_acl)| {
        let has_acl = if has_acl {
            format!("o.{prefix}acl IS NOT NULL")
        } else {
            "false".to_owned()
        };
        // An operator without a function is one that others name, not one that was made.
        let condition = if class == class::OPERATOR {
            "o.oprcode <> 0"
        } else {
            "true"
        };
        let names = [
            ("catalog", catalog),
            ("tag", &literal(tag)),
            ("schema_column", &format!("{prefix}namespace")),
            ("name_column", &format!("{prefix}name")),
            ("has_acl", &has_acl),
            ("condition", condition),
        ];
        NodeQuery {
            class,
            parent_class: 0,
            act: catalog,
            sql: with_names(if in_schemas { OF_SCHEMAS } else { OF_DATABASE }, &names),
        }
    })
}

/// Returns the node queries in an order in which parents come before their parts.
pub(super) fn node_queries(version: i32, subscriptions: bool) -> Vec<NodeQuery> {
    let flags = [
        ("partitioned", flag::PARTITIONED),
        ("partition", flag::PARTITION),
        ("data", flag::DATA),
        ("inline", flag::INLINE),
    ]
    .map(|(name, flag)| (name, flag.to_string()));
    let flags = flags.each_ref().map(|(name, flag)| (*name, flag.as_str()));
    let query = |(class, parent_class, act, sql): Listed| NodeQuery {
        class,
        parent_class,
        act,
        sql: with_names(&for_version(sql, version), &flags),
    };
    let mut queries: Vec<NodeQuery> = FIRST.into_iter().map(query).collect();
    queries.extend(plain_queries());
    queries.extend(LAST.into_iter().map(query));
    queries.extend((version >= 150_000).then(|| query(PUBLICATION_SCHEMAS)));
    queries.extend(subscriptions.then(|| query(SUBSCRIPTIONS)));
    queries
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
    ("constraint indexes", include_str!("sql/aliases/constraint_indexes.sql")),
    ("view rules", include_str!("sql/aliases/view_rules.sql")),
    ("composite types", include_str!("sql/aliases/composite_types.sql")),
    ("row types", include_str!("sql/aliases/row_types.sql")),
    ("array types", include_str!("sql/aliases/array_types.sql")),
    (
        "operators of families",
        include_str!("sql/aliases/operators_of_families.sql"),
    ),
    (
        "functions of operator families",
        include_str!("sql/aliases/functions_of_families.sql"),
    ),
    ("range functions", include_str!("sql/aliases/range_functions.sql")),
];

/// Multiranges and their arrays hang on their range [14].
pub(super) const MULTIRANGE_ALIASES: (&str, &str) = ("multirange types", include_str!("sql/aliases/multiranges.sql"));

/// Dependencies. Rows of built-in objects never matter: nothing before 16384 is created.
pub(super) const DEPENDENCIES: &str = include_str!("sql/dependencies.sql");

/// Views whose query names a column of the view itself. As a rule every view's rule depends on the whole view.
pub(super) const VIEWS_OF_THEMSELVES: &str = include_str!("sql/views_of_themselves.sql");

/// Indexes that a failed `CREATE INDEX CONCURRENTLY` left, or that is being made.
pub(super) const INVALID_INDEXES: &str = "invalid indexes";

/// Rows that a standby does not have: a crash of the primary would empty these tables as well.
pub(super) const UNLOGGED_ON_STANDBY: &str = "rows of unlogged tables (a standby has none)";

/// What this version of the program does not carry yet, one row per class. Parameters: the two names above, the last one first.
pub(super) const NOT_COVERED: &str = include_str!("sql/not_covered.sql");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::postgres::sql::template::missing_names;

    #[test]
    fn every_query_has_its_names() {
        for version in [130_000, 140_000, 150_000, 160_000, 170_000, 180_000] {
            for query in node_queries(version, true) {
                assert!(missing_names(&query.sql).is_empty(), "{}", query.sql);
            }
        }
    }
}
