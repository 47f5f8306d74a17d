//! Processes that end with the test that started them, also when an assertion in it fails.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};

/// A process that is killed when this goes.
#[derive(Debug)]
pub(crate) struct Guarded(Child);

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Deref for Guarded {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_ends_with_an_assertion_that_fails() {
    let pid = std::thread::spawn(|| {
        let child = Guarded::spawn(Command::new("sleep").arg("1000"));
        std::panic::resume_unwind(Box::new(child.id()));
    });
    let pid = *pid.join().unwrap_err().downcast::<u32>().unwrap();
    // It is gone and reaped, so its number is nobody's; another process that got it by now is no sleep.
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    assert_ne!(name.trim_end(), "sleep");
}
