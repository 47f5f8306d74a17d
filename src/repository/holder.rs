//! Whether the process that took a lease still runs on this host.
//!
//! A process id says little: it is used again, and in a container every process is number 1. With the time at which the
//! process began and the boot it belongs to, it is one process. One in another container, or under another kernel that has the
//! same host name, is not seen from here at all: of such a one nothing is known.

use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// One process of one boot of a host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The kernel's random id of this boot.
    pub boot: String,
    /// When the process began, in clock ticks since the boot.
    pub started: u64,
    /// The inode of its process namespace; older versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
}

impl Holder {
    /// Returns this process; `None` where the kernel does not tell.
    pub fn this() -> Option<Self> {
        Some(Self {
            boot: boot()?,
            started: started(std::process::id())?,
            pid_namespace: pid_namespace(),
        })
    }

    /// Returns whether the process is gone for certain: its number is nobody's, or another's. What an older version wrote is gone
    /// also if the host has booted since, and wherever it ran.
    pub fn is_gone(&self, pid: u32) -> bool {
        if self.pid_namespace.is_some()
            && (boot().as_ref() != Some(&self.boot) || pid_namespace() != self.pid_namespace)
        {
            return false;
        }
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

fn pid_namespace() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/pid").ok().map(|meta| meta.ino())
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
        assert!(!rebooted.is_gone(pid), "it may be another machine of that name");
        let rebooted = Holder {
            pid_namespace: None,
            ..rebooted
        };
        assert!(rebooted.is_gone(pid), "as an older version judged");
    }

    #[test]
    fn a_process_of_another_namespace_is_not_known_to_be_gone() {
        let this = Holder::this().unwrap();
        let elsewhere = Holder {
            started: this.started - 1,
            pid_namespace: this.pid_namespace.map(|inode| inode + 1),
            ..this.clone()
        };
        assert!(this.pid_namespace.is_some() && !elsewhere.is_gone(std::process::id()));
        let older = Holder {
            pid_namespace: None,
            ..elsewhere
        };
        assert!(older.is_gone(std::process::id()));
        // What an older version wrote is read, and it reads what this one writes.
        let older: Holder = serde_json::from_str(r#"{"boot":"b","started":7}"#).unwrap();
        assert_eq!((older.started, older.pid_namespace), (7, None));
    }
}
