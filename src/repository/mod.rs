//! The repository: which objects make a snapshot, which run is at work, what may be swept.
//!
//! A snapshot exists exactly when its manifest exists. It is written last and removed first.
