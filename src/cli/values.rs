//! Words of flags for values of the library.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::engines::redis::Conflict;
use crate::operations::options::{ContainersHow, Level, ThawMode};
use crate::storage::ThawSpeed;

macro_rules! words {
    ($($type:ident { $($variant:ident $word:literal $help:literal),* $(,)? })*) => {$(
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$variant => PossibleValue::new($word).help($help)),*
                })
            }
        }
    )*};
}

words! {
    Level {
        Stored "stored" "Digests of the stored objects",
        Content "content" "Also decompress and parse every entry, and refuse what a restore would refuse",
        Restored "restored" "Also restore into a scratch place and compare there",
    }
    ContainersHow {
        Engine "engine" "This program, through the Docker engine",
        Manual "manual" "You: the command is printed, and the recovery goes on when the servers answer",
    }
    ThawMode {
        Wait "wait" "Ask, wait until they can be read, and go on",
        Ask "ask" "Ask, say how long it takes, and end",
    }
    Conflict {
        Replace "replace" "The backup's key replaces it",
        Skip "skip" "It stays as it is",
        Fail "fail" "It stays, and is reported as failed",
    }
    ThawSpeed {
        Expedited "expedited" "Some minutes, where the class allows it",
        Standard "standard" "Some hours",
        Bulk "bulk" "Up to two days, for the least",
    }
}
