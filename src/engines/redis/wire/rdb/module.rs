//! What an RDB says of modules: the types of their values, and data that they keep beside the keys.
//!
//! A module may write data of its own into an RDB (opcode 247, `MODULE_AUX`): definitions of indexes, parts of a graph. No
//! command brings it into a live server; keys that belong to it, without it, are not what they were.

use crate::base::exact;

/// Types of values that need nothing beside their keys, unless the RDB holds data of the type itself.
const ALONE: &[&str] = &[
    "ReJSON-RL",
    "TSDB-TYPE",
    "MBbloom--",
    "MBbloomCF",
    "CMSk-TYPE",
    "TopK-TYPE",
    "TDIS-TYPE",
    "bloomfltr",
    "vectorset",
];

/// Modules that keep everything in keys: JSON, time series, Bloom filters, vector sets; `lua` keeps nothing at all.
const MODULES: &[&str] = &["ReJSON", "json", "timeseries", "bf", "vectorset", "lua"];

/// Returns whether all that a module of this name keeps is in keys.
pub fn keeps_all_in_keys(module: &str) -> bool {
    MODULES.contains(&module)
}

/// Returns whether the value of a type is whole without the data that an RDB holds beside the keys; `data` names the types
/// of that.
pub fn is_whole<'a>(value: &str, data: impl IntoIterator<Item = &'a str>) -> bool {
    let mut data = data.into_iter().peekable();
    // Which types are of one module is told nowhere.
    data.peek().is_none() || (ALONE.contains(&value) && data.all(|other| other != value))
}

/// Returns the name of a type: nine characters of six bits each; ten bits of version follow.
///
/// Specification: `moduleTypeEncodeId` of `module.c`.
pub fn type_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let character = |place: u32| {
        let number = exact::usize_from(id >> (10 + 6 * place) & 63);
        CHARACTERS.get(number).copied().map_or('?', char::from)
    };
    (0..9).rev().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_read() {
        // As Redis encodes "ReJSON-RL" with version 3.
        let characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let place = |c: char| characters.find(c).and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
        let id = "ReJSON-RL".chars().fold(0, |id, c| id << 6 | place(c)) << 10 | 3;
        assert_eq!(type_name(id), "ReJSON-RL");
        assert_eq!(type_name(0), "AAAAAAAAA");
    }

    #[test]
    fn keys_of_modules_with_data_beside_them_are_not_whole() {
        assert!(is_whole("graphdata", []));
        assert!(!is_whole("graphdata", ["graphdata"]) && !is_whole("graphmeta", ["graphdata"]));
        assert!(is_whole("ReJSON-RL", ["ft_index0"]) && !is_whole("ReJSON-RL", ["ft_index0", "ReJSON-RL"]));
    }
}
