//! What every layer stands on: errors, the memory plan, progress, units, secrets, the environment. Nothing here knows a store,
//! an archive or an engine.

pub mod blocking;
pub mod cancel;
pub mod claim;
pub mod clock;
pub mod environment;
pub mod error;
pub mod exact;
pub mod fence;
pub mod held;
pub mod keys;
pub mod memory;
pub mod moment;
pub mod nearest;
pub mod proxy;
pub mod raw_text;
pub mod report;
pub mod secret;
pub mod shown_path;
pub mod small_file;
pub mod table;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
pub mod tls;
pub mod units;
pub mod unnamed_file;
