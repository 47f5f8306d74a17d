//! Words of flags for values of the library.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::engines::redis::Conflict;
use crate::operations::options::{ContainersHow, Level, TargetAction, ThawMode};
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
        Stored "stored" "Check the digests of stored objects",
        Content "content" "Also decompress and parse every entry, and report what a restore would refuse",
        Restored "restored" "Also restore to a temporary place and compare",
    }
    ContainersHow {
        Engine "engine" "wirevault, through the Docker engine",
        Manual "manual" "You: wirevault prints the command and continues when the servers respond",
    }
    TargetAction {
        Promote "promote" "Take writes, on a timeline of its own",
        Pause "pause" "Wait, to be read; pg_wal_replay_resume() promotes it",
        Shutdown "shutdown" "Stop",
    }
    ThawMode {
        Wait "wait" "Ask, wait until they are readable, and continue",
        Ask "ask" "Ask, print the expected time, and exit",
    }
    Conflict {
        Replace "replace" "Replace it with the backup's key",
        Skip "skip" "Keep the existing key",
        Fail "fail" "Keep the existing key and report a failure",
    }
    ThawSpeed {
        Expedited "expedited" "Minutes, if the storage class allows it",
        Standard "standard" "Hours",
        Bulk "bulk" "Up to two days, at the lowest cost",
    }
}
