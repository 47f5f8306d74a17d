//! The configuration of a scratch server: all of it, and nothing of the cluster's own.
//!
//! What the base has of `postgresql.conf` and `ALTER SYSTEM` is not read: it could archive, listen, replicate or load modules. The server hears
//! nothing but a socket in a directory that only its user enters, and starts nothing by itself.

use super::control::Sizes;
use crate::engines::postgres::wal::SegmentSize;

/// The port in the name of its socket.
pub(super) const PORT: u16 = 5432;

/// Lets in whoever can enter the directory of the socket.
pub(super) const ACCESS: &str = "local all all trust\n";

/// Settings of every version. fsync: nothing of the server outlives it. dynamic_shared_memory_type: a container's
/// /dev/shm is small or closed. hot_standby: nobody reads before it has recovered, and so it needs no
/// setting as large as on the original but for prepared transactions. max_replication_slots bounds what replay notes of origins of subscriptions.
const FIXED: &str = "
listen_addresses = ''
unix_socket_permissions = 0700
ssl = off
max_connections = 10
superuser_reserved_connections = 0
shared_buffers = 64MB
huge_pages = off
dynamic_shared_memory_type = mmap
fsync = off
full_page_writes = off
synchronous_commit = off
synchronous_standby_names = ''
hot_standby = off
archive_mode = off
archive_command = ''
archive_cleanup_command = ''
recovery_end_command = ''
primary_conninfo = ''
primary_slot_name = ''
max_wal_senders = 0
max_replication_slots = 1000
max_logical_replication_workers = 0
max_parallel_workers = 0
shared_preload_libraries = ''
session_preload_libraries = ''
local_preload_libraries = ''
autovacuum = off
jit = off
restart_after_crash = off
external_pid_file = ''
logging_collector = off
log_destination = 'stderr'
log_line_prefix = ''
log_min_messages = warning
lc_messages = 'C'
";

/// Returns the configuration file.
pub(super) fn file(major: u32, sizes: &Sizes, segment: SegmentSize, recovery: &str) -> String {
    let megabytes = segment.bytes() >> 20;
    let mut text = FIXED.trim_start().to_owned();
    text.push_str(&format!("port = {PORT}\n"));
    text.push_str(&format!("max_prepared_transactions = {}\n", sizes.prepared.max(100)));
    text.push_str(&format!("max_locks_per_transaction = {}\n", sizes.locks.max(256)));
    // Less than two segments are refused.
    text.push_str(&format!("min_wal_size = {}MB\n", (2 * megabytes).max(32)));
    text.push_str(&format!("max_wal_size = {}MB\n", (4 * megabytes).max(256)));
    if major >= 17 {
        // Triggers that a login starts.
        text.push_str("event_triggers = off\n");
    }
    if major >= 18 {
        text.push_str("io_method = sync\nmax_active_replication_origins = 1000\n");
    }
    text.push_str(recovery);
    text
}

/// Settings of a session. A database or a role may have others, and its libraries need not be on this host.
pub(super) const SESSION: &str = "-c session_preload_libraries= -c local_preload_libraries= -c statement_timeout=60s -c search_path=pg_catalog -c role=none";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_setting_stands_once_and_those_of_recovery_last() {
        let sizes = Sizes {
            prepared: 700,
            locks: 1000,
            page_bytes: 8192,
            segment_pages: 131_072,
        };
        let text = file(
            18,
            &sizes,
            SegmentSize::new(1 << 30).unwrap(),
            "restore_command = 'x'\n",
        );
        let names: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len(), "{text}");
        assert!(text.ends_with("restore_command = 'x'\n"));
        for line in [
            "max_prepared_transactions = 700",
            "max_locks_per_transaction = 1000",
            "min_wal_size = 2048MB",
            "event_triggers = off",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}");
        }
        assert!(!file(15, &sizes, SegmentSize::new(1 << 20).unwrap(), "").contains("event_triggers"));
    }
}
