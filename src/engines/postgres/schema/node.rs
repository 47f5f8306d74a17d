//! Nodes of the graph: compact, because one exists per object.

use crate::base::exact;

/// Catalog OIDs as `pg_depend` names them; they are the same in every version.
pub(super) mod class {
    pub(crate) const TYPE: u32 = 1247;
    pub(crate) const PROC: u32 = 1255;
    pub(crate) const RELATION: u32 = 1259;
    pub(crate) const ATTRDEF: u32 = 2604;
    pub(crate) const CONSTRAINT: u32 = 2606;
    pub(crate) const REWRITE: u32 = 2618;
    pub(crate) const TRIGGER: u32 = 2620;
    pub(crate) const NAMESPACE: u32 = 2615;
    pub(crate) const EXTENSION: u32 = 3079;
    pub(crate) const POLICY: u32 = 3256;
    pub(crate) const STATISTIC: u32 = 3381;
    pub(crate) const EVENT_TRIGGER: u32 = 3466;
    pub(crate) const DEFAULT_ACL: u32 = 826;
    pub(crate) const FDW: u32 = 2328;
    pub(crate) const SERVER: u32 = 1417;
    pub(crate) const USER_MAPPING: u32 = 1418;
    pub(crate) const AM: u32 = 2601;
    pub(crate) const CAST: u32 = 2605;
    pub(crate) const CONVERSION: u32 = 2607;
    pub(crate) const LANGUAGE: u32 = 2612;
    pub(crate) const OPCLASS: u32 = 2616;
    pub(crate) const OPERATOR: u32 = 2617;
    pub(crate) const COLLATION: u32 = 3456;
    pub(crate) const TRANSFORM: u32 = 3576;
    pub(crate) const TS_DICT: u32 = 3600;
    pub(crate) const TS_PARSER: u32 = 3601;
    pub(crate) const TS_CONFIG: u32 = 3602;
    pub(crate) const TS_TEMPLATE: u32 = 3764;
    pub(crate) const OPFAMILY: u32 = 2753;
    pub(crate) const SUBSCRIPTION: u32 = 6100;
    pub(crate) const PUBLICATION: u32 = 6104;
    pub(crate) const PUBLICATION_REL: u32 = 6106;
    pub(crate) const PUBLICATION_NAMESPACE: u32 = 6237;
}

/// What a node is. The order is the order of priorities among objects that do not depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Schema,
    Language,
    Collation,
    Extension,
    /// A schema that an extension made: nothing is written for it, but users make objects in it.
    MemberSchema,
    /// A relation that an extension made: nothing is written for it, but users' objects name it.
    Member,
    Transform,
    ShellType,
    UndefinedType,
    BaseType,
    Enum,
    Domain,
    Composite,
    Range,
    Cast,
    Function,
    Procedure,
    Aggregate,
    AccessMethod,
    Operator,
    OpFamily,
    OpClass,
    Conversion,
    TsParser,
    TsTemplate,
    TsDict,
    TsConfig,
    Fdw,
    Server,
    UserMapping,
    Sequence,
    Table,
    ForeignTable,
    View,
    MatView,
    LateColumns,
    Attach,
    Default,
    DomainCheck,
    Check,
    NotNull,
    KeyIndex,
    Constraint,
    Index,
    IndexAttach,
    Statistics,
    Rule,
    ViewBody,
    Trigger,
    TriggerState,
    ForeignKey,
    RowSecurity,
    Policy,
    Publication,
    PublicationTable,
    PublicationSchema,
    Subscription,
    DefaultAcl,
    EventTrigger,
    Refresh,
}

impl Kind {
    /// Returns the word for messages and the table of contents.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Schema | Self::MemberSchema => "SCHEMA",
            Self::Language => "LANGUAGE",
            Self::Collation => "COLLATION",
            Self::Extension => "EXTENSION",
            Self::Transform => "TRANSFORM",
            Self::ShellType | Self::UndefinedType => "SHELL TYPE",
            Self::BaseType | Self::Enum | Self::Composite | Self::Range => "TYPE",
            Self::Domain => "DOMAIN",
            Self::Cast => "CAST",
            Self::Function => "FUNCTION",
            Self::Procedure => "PROCEDURE",
            Self::Aggregate => "AGGREGATE",
            Self::AccessMethod => "ACCESS METHOD",
            Self::Operator => "OPERATOR",
            Self::OpFamily => "OPERATOR FAMILY",
            Self::OpClass => "OPERATOR CLASS",
            Self::Conversion => "CONVERSION",
            Self::TsParser => "TEXT SEARCH PARSER",
            Self::TsTemplate => "TEXT SEARCH TEMPLATE",
            Self::TsDict => "TEXT SEARCH DICTIONARY",
            Self::TsConfig => "TEXT SEARCH CONFIGURATION",
            Self::Fdw => "FOREIGN DATA WRAPPER",
            Self::Server => "SERVER",
            Self::UserMapping => "USER MAPPING",
            Self::Sequence => "SEQUENCE",
            Self::Table | Self::Member => "TABLE",
            Self::ForeignTable => "FOREIGN TABLE",
            Self::View => "VIEW",
            Self::MatView => "MATERIALIZED VIEW",
            Self::LateColumns => "TABLE COLUMNS",
            Self::Attach => "TABLE ATTACH",
            Self::Default => "DEFAULT",
            Self::DomainCheck | Self::Check => "CHECK CONSTRAINT",
            Self::NotNull => "NOT NULL CONSTRAINT",
            Self::Constraint => "CONSTRAINT",
            Self::KeyIndex | Self::Index => "INDEX",
            Self::IndexAttach => "INDEX ATTACH",
            Self::Statistics => "STATISTICS",
            Self::Rule | Self::ViewBody => "RULE",
            Self::Trigger => "TRIGGER",
            Self::TriggerState => "TRIGGER STATE",
            Self::ForeignKey => "FK CONSTRAINT",
            Self::RowSecurity => "ROW SECURITY",
            Self::Policy => "POLICY",
            Self::Publication => "PUBLICATION",
            Self::PublicationTable => "PUBLICATION TABLE",
            Self::PublicationSchema => "PUBLICATION TABLES IN SCHEMA",
            Self::Subscription => "SUBSCRIPTION",
            Self::DefaultAcl => "DEFAULT ACL",
            Self::EventTrigger => "EVENT TRIGGER",
            Self::Refresh => "MATERIALIZED VIEW DATA",
        }
    }

    /// Returns the priority: relations of every kind share one, as do types.
    pub(super) fn priority(self) -> u8 {
        match self {
            Self::Schema => 0,
            Self::Language => 1,
            Self::Collation => 2,
            Self::Extension | Self::MemberSchema | Self::Member => 3,
            Self::Transform => 4,
            Self::ShellType => 5,
            Self::UndefinedType | Self::BaseType | Self::Enum | Self::Domain | Self::Composite | Self::Range => 6,
            Self::Cast => 7,
            Self::Function | Self::Procedure => 8,
            Self::Aggregate => 9,
            Self::AccessMethod => 10,
            Self::Operator => 11,
            Self::OpFamily => 12,
            Self::OpClass => 13,
            Self::Conversion => 14,
            Self::TsParser => 15,
            Self::TsTemplate => 16,
            Self::TsDict => 17,
            Self::TsConfig => 18,
            Self::Fdw => 19,
            Self::Server => 20,
            Self::UserMapping => 21,
            Self::Sequence | Self::Table | Self::ForeignTable | Self::View | Self::MatView => 22,
            Self::LateColumns => 23,
            Self::Attach => 24,
            Self::Default => 25,
            Self::DomainCheck | Self::Check | Self::NotNull => 40,
            Self::KeyIndex | Self::Constraint => 41,
            Self::Index => 42,
            Self::IndexAttach => 43,
            Self::Statistics => 44,
            Self::Rule | Self::ViewBody => 45,
            Self::Trigger => 46,
            Self::TriggerState => 47,
            Self::ForeignKey => 48,
            Self::RowSecurity => 49,
            Self::Policy => 50,
            Self::Publication => 51,
            Self::PublicationTable => 52,
            Self::PublicationSchema => 53,
            Self::Subscription => 54,
            Self::DefaultAcl => 55,
            Self::Refresh => 56,
            Self::EventTrigger => 57,
        }
    }

    /// Returns whether such a node stands after the data unless it is printed within its container.
    pub(super) fn is_post_data(self) -> bool {
        self.priority() >= Self::Check.priority()
    }

    /// Returns whether it is a table or a foreign table.
    pub(super) fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::ForeignTable)
    }

    /// Returns whether it is a schema.
    pub(super) fn is_schema(self) -> bool {
        matches!(self, Self::Schema | Self::MemberSchema)
    }

    /// Returns whether an extension makes it: nothing of it is written.
    pub(super) fn is_member(self) -> bool {
        matches!(self, Self::MemberSchema | Self::Member)
    }

    /// Returns whether it is a type.
    pub(super) fn is_type(self) -> bool {
        matches!(
            self,
            Self::BaseType | Self::UndefinedType | Self::Enum | Self::Domain | Self::Composite | Self::Range
        )
    }

    /// Returns whether it is written in the last pass, after rights.
    pub(super) fn is_last_pass(self) -> bool {
        matches!(self, Self::EventTrigger | Self::Refresh)
    }
}

/// State bits of a node.
pub(super) mod flag {
    /// The object has an ACL of its own, or one of its columns has.
    pub(crate) const ACL: u8 = 1;
    /// Printed within its container (column default, validated CHECK).
    pub(crate) const INLINE: u8 = 2;
    /// Moved after the data.
    pub(crate) const POST: u8 = 4;
    /// A view that is made as a placeholder first.
    pub(crate) const PLACEHOLDER: u8 = 8;
    /// A partitioned table or index.
    pub(crate) const PARTITIONED: u8 = 16;
    /// A partition.
    pub(crate) const PARTITION: u8 = 32;
    /// Rows, or a populated materialized view.
    pub(crate) const DATA: u8 = 64;
    /// Left out: nothing of it is written.
    pub(crate) const EXCLUDED: u8 = 128;
}

/// No node, no schema.
pub(super) const NONE: u32 = u32::MAX;

/// Returns a number of an object, or of a letter of their names, as nodes keep it.
pub(super) fn number_of(count: usize) -> u32 {
    exact::known(count, "a catalog of more than 2^32 objects does not fit into memory")
}

/// One object: 28 bytes and its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) oid: u32,
    /// Index of the schema's name.
    pub(super) schema: u32,
    /// Start and length of the name in the graph's text.
    pub(super) name: (u32, u32),
    /// Node of the table, view, type or index it belongs to.
    pub(super) parent: u32,
    pub(super) kind: Kind,
    pub(super) flags: u8,
}

impl Node {
    pub(super) fn has(&self, bit: u8) -> bool {
        self.flags & bit != 0
    }

    /// Returns whether it is written after the data.
    pub(super) fn is_post(&self) -> bool {
        (self.kind.is_post_data() || self.has(flag::POST)) && !self.has(flag::INLINE)
    }
}
