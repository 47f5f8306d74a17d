//! Whether the process that took a lease still runs on this host.
//!
//! A process id says little: it is used again, and in a container every process is number 1. With the time at which the
//! process began and the boot it belongs to, it is one process.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// One process of one boot of a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The kernel's random id of this boot.
    pub boot: String,
    /// When the process began, in clock ticks since the boot.
    pub started: u64,
}

impl Holder {
    /// Returns this process; `None` where the kernel does not tell.
    pub fn this() -> Option<Self> {
        Some(Self {
            boot: boot()?,
            started: started(std::process::id())?,
        })
    }

    /// Returns whether the process is gone for certain: the host has booted since, or its number is nobody's, or another's.
    pub fn is_gone(&self, pid: u32) -> bool {
        match boot() {
            None => false,
            Some(boot) if boot != self.boot => true,
            Some(_) => match started(pid) {
                Some(since) => since != self.started,
                // Where others' processes are hidden (hidepid), the kernel still says that it may not be signalled.
                None => process(pid).is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH)),
            },
        }
    }
}

fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Returns when a process began, in clock ticks since the boot (proc_pid_stat(5), field 22); for one that is dead and not yet
/// reaped a number that is no time. The second field, the name in brackets, may hold anything.
pub(crate) fn started(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A zombie has ended: nobody renews what it held.
    if matches!(fields.next()?, "Z" | "X") {
        return Some(u64::MAX);
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_and_its_boot() {
        let this = Holder::this().unwrap();
        let pid = std::process::id();
        assert!(!this.is_gone(pid));
        let earlier = Holder {
            started: this.started - 1,
            ..this.clone()
        };
        assert!(earlier.is_gone(pid), "the number belongs to another process now");
        assert!(
            this.is_gone(4_194_305),
            "no process has a number above the kernel's bound"
        );
        let rebooted = Holder {
            boot: "another".to_owned(),
            ..this
        };
        assert!(rebooted.is_gone(pid));
    }
}
