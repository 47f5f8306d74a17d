//! Type numbers of values, by flavour of the server.

/// Whose RDB it is; the magic of the file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// Magic `REDIS`, also written by Valkey up to 8.
    Redis,
    /// Magic `VALKEY`, Valkey 9 on.
    Valkey,
}

/// How a value of a type is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One string.
    String,
    /// A count, then so many times this many strings.
    Strings(u64),
    /// A count, then pairs of member and score as text.
    TextScores,
    /// A count, then pairs of string and this many raw bytes after `strings` strings.
    Fixed { strings: u8, bytes: u8 },
    /// A count, then pairs of a length (container) and a string.
    Containers,
    /// A stream of version 1 to 5.
    Stream(u8),
    /// A value of a module: id, then opcodes.
    Module,
    /// 8 raw bytes, a count, then a length and two strings each.
    FieldExpiries,
    /// 8 raw bytes, then one string.
    StampedString,
    /// A count, whether a length follows, then a length, a tag and what the tag says each.
    Array,
    /// Names of fields, then one string that holds the values.
    NamedPacked,
    /// Names of fields, then as many strings.
    NamedValues,
    /// The number of a template, then a string for each of its names.
    TemplateValues,
}

/// What the type number of a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueType {
    /// `string`, `list`, `set`, `zset`, `hash`, `stream`, `array`, `module`.
    pub name: &'static str,
    pub(super) shape: Shape,
    /// The lowest RDB version that knows the type: a DUMP payload stamped with it goes into every server that can
    /// read it.
    pub since: u16,
    /// No server that writes it was at hand: where its bytes are other than they are known to be, the RDB is not understood
    /// from there on, instead of damaged.
    pub young: bool,
}

/// The newest RDB versions whose types are known, of Redis and of Valkey.
pub const NEWEST: (u16, u16) = (16, 80);

/// The first RDB version of Redis whose types no server was at hand for.
pub const OLDEST_YOUNG: u16 = 13;

/// The first type number that is young.
const FIRST_YOUNG: u8 = 26;

/// No server reads it within the payload of a key: it refers to the rest of the RDB.
pub const NEVER: u16 = u16::MAX;

/// Looks a type number up. `None` for one that this version does not know: its value cannot be skipped.
pub fn value_type(flavour: Flavour, number: u8) -> Option<ValueType> {
    let (name, shape, since) = match (number, flavour) {
        (0, _) => ("string", Shape::String, 6),
        (1, _) => ("list", Shape::Strings(1), 6),
        (2, _) => ("set", Shape::Strings(1), 6),
        (3, _) => ("zset", Shape::TextScores, 6),
        (4, _) => ("hash", Shape::Strings(2), 6),
        (5, _) => ("zset", Shape::Fixed { strings: 1, bytes: 8 }, 8),
        (7, _) => ("module", Shape::Module, 9),
        (9 | 13, _) => ("hash", Shape::String, 6),
        (10, _) => ("list", Shape::String, 6),
        (11, _) => ("set", Shape::String, 6),
        (12, _) => ("zset", Shape::String, 6),
        (14, _) => ("list", Shape::Strings(1), 7),
        (15, _) => ("stream", Shape::Stream(1), 9),
        (16, _) => ("hash", Shape::String, 10),
        (17, _) => ("zset", Shape::String, 10),
        (18, _) => ("list", Shape::Containers, 10),
        (19, _) => ("stream", Shape::Stream(2), 10),
        (20, _) => ("set", Shape::String, 11),
        (21, _) => ("stream", Shape::Stream(3), 11),
        (22, Flavour::Valkey) => ("hash", Shape::Fixed { strings: 2, bytes: 8 }, 80),
        (24, Flavour::Redis) => ("hash", Shape::FieldExpiries, 12),
        (25, Flavour::Redis) => ("hash", Shape::StampedString, 12),
        (26, Flavour::Redis) => ("stream", Shape::Stream(4), 13),
        (27, Flavour::Redis) => ("stream", Shape::Stream(5), 14),
        (28, Flavour::Redis) => ("array", Shape::Array, 14),
        (29, Flavour::Redis) => ("hash", Shape::NamedPacked, 15),
        (30, Flavour::Redis) => ("hash", Shape::String, NEVER),
        (31, Flavour::Redis) => ("hash", Shape::NamedValues, 15),
        (32, Flavour::Redis) => ("hash", Shape::TemplateValues, NEVER),
        _ => return None,
    };
    Some(ValueType {
        name,
        shape,
        since,
        young: number >= FIRST_YOUNG,
    })
}
