//! What is found while definitions are read and written: gathered by what it is, told when all is written.
//!
//! One note stands for all objects of the same finding, and a bounded number of them is named, so that ten thousand tables
//! with the same odd option are one line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::base::report::Note;

/// Objects that one note names.
const NAMED: usize = 20;

/// The findings of one backup, by code and message.
#[derive(Debug, Default)]
pub(super) struct NoteCollector(Mutex<BTreeMap<(&'static str, String), Objects>>);

#[derive(Debug, Default)]
struct Objects {
    names: BTreeSet<String>,
    more: bool,
}

impl NoteCollector {
    /// Adds an object to a finding. Definitions are sometimes read twice: the same object counts once.
    pub(super) fn add(&self, code: &'static str, message: impl Into<String>, object: impl Into<String>) {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let objects = all.entry((code, message.into())).or_default();
        let object = object.into();
        if objects.names.len() < NAMED || objects.names.contains(&object) {
            objects.names.insert(object);
        } else {
            objects.more = true;
        }
    }

    /// Takes the findings as notes.
    pub(super) fn take(&self) -> Vec<Note> {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let note = |((code, message), objects): ((&str, String), Objects)| {
            let mut names: Vec<String> = objects.names.into_iter().collect();
            if objects.more {
                names.push("and more".to_owned());
            }
            Note::new(code, names.join(", "), message)
        };
        std::mem::take(&mut *all).into_iter().map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_one_finding_share_a_note_and_few_are_named() {
        let note_collector = NoteCollector::default();
        for number in 0..1000 {
            note_collector.add("a", "odd", format!("t{number:04}"));
            note_collector.add("a", "odd", "t0000");
        }
        note_collector.add("b", "other", "x");
        let notes = note_collector.take();
        assert_eq!(notes.len(), 2);
        assert!(notes[0].object.starts_with("t0000, t0001, ") && notes[0].object.ends_with("t0019, and more"));
        assert_eq!(notes[1], Note::new("b", "x", "other"));
        assert!(note_collector.take().is_empty());
    }
}
