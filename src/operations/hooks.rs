//! Hooks of a job: an address that is called, or a program that is started.
//!
//! `before` runs before the first byte is read, and its failure is the run's; `after` follows a run that brought a snapshot,
//! `on_failure` one that brought none, and their failures are only told. A program gets no shell, no standard input and a
//! small environment without this process's secrets; its output goes to the log. It is ended, with its children, when it
//! takes too long or when a signal ends this process.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio_util::sync::CancellationToken;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::secret::Secret;
use crate::base::units::format_duration;
use crate::config::{Hook, Hooks};
use crate::operations::Session;
use crate::operations::notify::Call;

/// A hook that takes longer is ended.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How often a program is looked at.
const STEP: Duration = Duration::from_millis(50);

/// What a hook is told.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct HookPayload {
    pub(crate) job: String,
    pub(crate) host: String,
    pub(crate) status: &'static str,
    pub(crate) snapshots: Vec<String>,
    pub(crate) error: String,
}

/// Returns the hooks of a job; sources given as URLs have none.
pub(crate) fn of(session: &Session, job: &str) -> Hooks {
    let job = session.config.jobs.iter().find(|configured| configured.name == job);
    job.map(|job| job.hooks.clone()).unwrap_or_default()
}

/// Calls `before`; its failure is the run's.
pub(crate) async fn before(hooks: &Hooks, told: &HookPayload, cancel: &CancellationToken) -> Result<()> {
    call(hooks.before.as_ref(), "before", told, cancel).await
}

/// Calls `after` or `on_failure`; a failure is only told.
pub(crate) async fn ended(hooks: &Hooks, told: &HookPayload, cancel: &CancellationToken) {
    let (hook, word) = if told.snapshots.is_empty() {
        (hooks.on_failure.as_ref(), "on_failure")
    } else {
        (hooks.after.as_ref(), "after")
    };
    if let Err(error) = call(hook, word, told, cancel).await {
        tracing::warn!("job \"{}\": {}", told.job, error.chain());
    }
}

async fn call(hook: Option<&Hook>, word: &'static str, told: &HookPayload, cancel: &CancellationToken) -> Result<()> {
    let act = || format!("hook {word} of job \"{}\"", told.job);
    match hook {
        None => Ok(()),
        Some(Hook::Http(url)) => post(url, word, told, cancel).await.with_context(act),
        Some(Hook::Command(words)) => {
            let (words, told, cancel) = (words.clone(), told.clone(), cancel.clone());
            tokio::task::spawn_blocking(move || start(&words, word, &told, &cancel))
                .await
                .map_err(|e| Error::new(ErrorKind::Other, "the hook's thread ended early").with_cause(e))?
                .with_context(act)
        }
    }
}

/// What is posted to a hook.
#[derive(serde::Serialize)]
struct Payload<'a> {
    hook: &'a str,
    #[serde(flatten)]
    told: &'a HookPayload,
}

async fn post(url: &Secret, word: &str, told: &HookPayload, cancel: &CancellationToken) -> Result<()> {
    let body = serde_json::to_vec(&Payload { hook: word, told })
        .map_err(|e| Error::invalid("write the hook's data as JSON").with_cause(e))?;
    let mut call = Call::new(url.clone(), Some(Bytes::from(body)));
    call.headers.push(("content-type", "application/json".to_owned()));
    call.timeout = Duration::from_secs(60);
    tokio::select! {
        done = call.send() => done,
        () = cancel.cancelled() => Err(super::session::cancelled()),
    }
}

/// Starts a program and waits for its end.
#[expect(
    clippy::disallowed_methods,
    reason = "a command of the user's own is the one program that is started"
)]
fn start(words: &[String], word: &str, told: &HookPayload, cancel: &CancellationToken) -> Result<()> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Error::invalid("the hook has no program"))?;
    let inherited = ["PATH", "HOME", "LANG", "TZ"].map(|name| (name, std::env::var_os(name)));
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(inherited.into_iter().filter_map(|(name, value)| Some((name, value?))))
        .env("WIREVAULT_HOOK", word)
        .env("WIREVAULT_JOB", &told.job)
        .env("WIREVAULT_STATUS", told.status)
        .env("WIREVAULT_SNAPSHOTS", told.snapshots.join(" "))
        .env("WIREVAULT_ERROR", &told.error)
        .stdin(Stdio::null())
        // Standard output belongs to the report.
        .stdout(Stdio::from(std::io::stderr()))
        .process_group(0)
        .spawn()
        .with_context(|| format!("start \"{program}\""))?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("wait for \"{program}\""))? {
            if status.success() {
                return Ok(());
            }
            return Err(
                Error::new(ErrorKind::Other, format!("\"{program}\" exited with {status}"))
                    .with_hint("See the log for its output."),
            );
        }
        let late = begun.elapsed() > TIMEOUT;
        if late || cancel.is_cancelled() {
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            if late {
                let message = format!("\"{program}\" did not finish within {}", format_duration(TIMEOUT));
                return Err(Error::new(ErrorKind::TimedOut, message));
            }
            return Err(super::session::cancelled());
        }
        std::thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_program_sees_its_job_and_not_our_environment() {
        let told = HookPayload {
            host: String::new(),
            job: "full".into(),
            status: "done",
            snapshots: vec!["a".into(), "b".into()],
            error: String::new(),
        };
        let cancel = CancellationToken::new();
        let script = "test \"$WIREVAULT_JOB/$WIREVAULT_HOOK/$WIREVAULT_SNAPSHOTS\" = 'full/after/a b' && test -z \"$CARGO_MANIFEST_DIR\"";
        start(&shell(script), "after", &told, &cancel).unwrap();
        let error = start(&shell("exit 3"), "after", &told, &cancel).unwrap_err();
        assert!(error.message().contains("exit status: 3"), "{error:?}");
        assert!(start(&["/no/such/program".to_owned()], "after", &told, &cancel).is_err());
    }

    #[test]
    fn a_signal_ends_the_program_and_its_children() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let begun = Instant::now();
        let error = start(&shell("sleep 60 & wait"), "before", &HookPayload::default(), &cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
