//! "Did you mean".

/// Returns the candidate nearest to `word`, if one is near enough to have been meant: one that looks much like it, else one that is a single
/// slip away, as the short ones are.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| {
        let alike = strsim::jaro_winkler(word, candidate);
        let slip = strsim::osa_distance(word, candidate) == 1;
        (if slip { alike.max(0.71) } else { alike }, candidate)
    });
    scored
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_short_word_is_seen_too() {
        let keys = ["url", "key", "to", "on", "exclude_tables", "exclude_table_data"];
        for (typed, meant) in [
            ("ulr", "url"),
            ("ke", "key"),
            ("exclude_tabels", "exclude_tables"),
            ("no", "on"),
        ] {
            assert_eq!(nearest(typed, keys), Some(meant), "{typed}");
        }
        assert_eq!(nearest("xyz", keys), None);
    }
}
