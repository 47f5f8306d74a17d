//! Nodes of the graph: compact, because one exists per object.

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
}

/// What a node is. The order is the order of priorities among objects that do not depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Schema,
    Extension,
    ShellType,
    Enum,
    Domain,
    Composite,
    Range,
    Function,
    Procedure,
    Aggregate,
    Sequence,
    Table,
    View,
    MatView,
    Attach,
    Default,
    DomainCheck,
    Check,
    Constraint,
    Index,
    IndexAttach,
    Statistics,
    Rule,
    ViewBody,
    Trigger,
    ForeignKey,
    RowSecurity,
    Policy,
    DefaultAcl,
    EventTrigger,
    Refresh,
}

impl Kind {
    /// Returns the word for messages and the table of contents.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Schema => "SCHEMA",
            Self::Extension => "EXTENSION",
            Self::ShellType => "SHELL TYPE",
            Self::Enum | Self::Composite | Self::Range => "TYPE",
            Self::Domain => "DOMAIN",
            Self::Function => "FUNCTION",
            Self::Procedure => "PROCEDURE",
            Self::Aggregate => "AGGREGATE",
            Self::Sequence => "SEQUENCE",
            Self::Table => "TABLE",
            Self::View => "VIEW",
            Self::MatView => "MATERIALIZED VIEW",
            Self::Attach => "TABLE ATTACH",
            Self::Default => "DEFAULT",
            Self::DomainCheck | Self::Check => "CHECK CONSTRAINT",
            Self::Constraint => "CONSTRAINT",
            Self::Index => "INDEX",
            Self::IndexAttach => "INDEX ATTACH",
            Self::Statistics => "STATISTICS",
            Self::Rule | Self::ViewBody => "RULE",
            Self::Trigger => "TRIGGER",
            Self::ForeignKey => "FK CONSTRAINT",
            Self::RowSecurity => "ROW SECURITY",
            Self::Policy => "POLICY",
            Self::DefaultAcl => "DEFAULT ACL",
            Self::EventTrigger => "EVENT TRIGGER",
            Self::Refresh => "MATERIALIZED VIEW DATA",
        }
    }

    /// Returns the priority: relations of every kind share one, as do types.
    pub(super) fn priority(self) -> u8 {
        match self {
            Self::Schema => 0,
            Self::Extension => 1,
            Self::ShellType => 2,
            Self::Enum | Self::Domain | Self::Composite | Self::Range => 3,
            Self::Function | Self::Procedure => 4,
            Self::Aggregate => 5,
            Self::Sequence | Self::Table | Self::View | Self::MatView => 6,
            Self::Attach => 7,
            Self::Default => 8,
            Self::DomainCheck | Self::Check => 10,
            Self::Constraint => 11,
            Self::Index => 12,
            Self::IndexAttach => 13,
            Self::Statistics => 14,
            Self::Rule | Self::ViewBody => 15,
            Self::Trigger => 16,
            Self::ForeignKey => 17,
            Self::RowSecurity => 18,
            Self::Policy => 19,
            Self::DefaultAcl => 20,
            Self::EventTrigger => 21,
            Self::Refresh => 22,
        }
    }

    /// Returns whether such a node stands after the data unless it is printed within its container.
    pub(super) fn is_post_data(self) -> bool {
        self.priority() >= 10
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
}

/// No node, no schema.
pub(super) const NONE: u32 = u32::MAX;

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
