//! Tells channels and dead man's switches what became of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::Event;
use crate::base::secret::Secret;
use crate::config::{Config, NotifyOn, Ping};
use crate::operations::Status;
use crate::operations::notify::{Call, Delivery, Ending, Memory, Message, Sender};
use crate::policy::health::Facts;
use crate::policy::schedule::Next;
use crate::repository::{RunOutcome, RunRecord};

/// What was told, and the queue of what is to be told.
#[derive(Debug)]
pub(super) struct Teller {
    memory: Memory,
    sender: Option<Sender>,
    /// The name of this host.
    pub(super) host: String,
}

impl Teller {
    pub(super) fn start(host: String) -> Self {
        Self {
            memory: Memory::default(),
            sender: Some(Sender::start()),
            host,
        }
    }

    /// Takes up what was told before this process, as the records say: a failure that was told is not told again the same day,
    /// and its end is.
    pub(super) fn remember(&mut self, facts: &BTreeMap<String, Facts>) {
        let mut runs: Vec<&RunRecord> = facts.values().flat_map(|facts| &facts.runs).collect();
        runs.retain(|run| run.host == self.host);
        runs.sort_by_key(|run| run.ended);
        for run in runs {
            let ending = match run.outcome {
                RunOutcome::Done => Ending::Well,
                RunOutcome::Partial | RunOutcome::Failed => Ending::Failed,
            };
            let _ = self.memory.ended(&run.name, ending, run.ended);
        }
    }

    /// A run begins.
    pub(super) fn begun(&mut self, config: &Config, name: &str, next: &Next, now: Timestamp) {
        self.ping(name, ping_of(config, name).start, None);
        if next.missed > 0 {
            let title = format!("{}: {name} missed {} runs", self.host, next.missed);
            let text = "One run, which starts now, makes up for them.".to_owned();
            self.message(config, NotifyOn::Missed, name, title, text, now);
        }
    }

    /// A run ended.
    pub(super) fn ended(&mut self, config: &Config, event: &Event, now: Timestamp) {
        let Event::Ended {
            job,
            status,
            error,
            hint,
            ..
        } = event
        else {
            return;
        };
        let mut text = error.clone().unwrap_or_default();
        if let Some(hint) = hint {
            text.push_str(&format!("\n{hint}"));
        }
        let ping = ping_of(config, job);
        let ending = if *status == Status::Done {
            Ending::Well
        } else {
            Ending::Failed
        };
        match ending {
            Ending::Well => self.ping(job, ping.success, None),
            Ending::Failed => self.ping(job, ping.fail, Some(text.clone())),
        }
        let Some(occasion) = self.memory.ended(job, ending, now) else {
            return;
        };
        let word = match (occasion, status) {
            (NotifyOn::Recovery, _) => "has recovered",
            (_, Status::Partial) => "finished with failures",
            _ => "failed",
        };
        self.message(config, occasion, job, format!("{}: {job} {word}", self.host), text, now);
    }

    fn message(&self, config: &Config, occasion: NotifyOn, job: &str, title: String, text: String, time: Timestamp) {
        let message = Message {
            occasion,
            host: self.host.clone(),
            job: job.to_owned(),
            title,
            text,
            time,
        };
        if let Some(sender) = &self.sender {
            sender.tell(&config.notify, &message);
        }
    }

    fn ping(&self, job: &str, url: Option<Secret>, text: Option<String>) {
        if let (Some(sender), Some(url)) = (&self.sender, url) {
            let call = Call::new(url, text.map(Bytes::from));
            sender.send(format!("ping of {job}"), Delivery::Call(call));
        }
    }

    /// Sends what waits, within a bound.
    pub(super) async fn finish(&mut self, within: Duration) {
        if let Some(sender) = self.sender.take() {
            sender.finish(within).await;
        }
    }
}

fn ping_of(config: &Config, job: &str) -> Ping {
    let job = config.jobs.iter().find(|configured| configured.name == job);
    job.map(|job| job.ping.clone()).unwrap_or_default()
}
