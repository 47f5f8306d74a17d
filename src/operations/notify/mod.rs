//! Tells people and dead man's switches what became of a run.
//!
//! Deciding what to tell ([`Memory`]) is pure; sending is a task of its own behind a bounded queue, so that an address that
//! never answers delays no backup. Each message is tried three times; what cannot be delivered is logged and dropped.
//!
//! Of a job that keeps failing, the first failure is told, then one a day: the repetitions between would only teach people to
//! look away. What was told before a restart is known from the records of the runs.

pub mod http;
pub mod mail;
pub mod message;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use http::Call;
pub use mail::Mail;
pub use message::Message;

use crate::base::error::Result;
use crate::config::{NotifyConfig, NotifyOn};

/// Messages that wait to be sent; more are dropped.
const QUEUE: usize = 256;

/// Pauses between the tries of a message.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(15)];

/// A job that keeps failing is told of again after this.
const REMIND_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All is well.
    Well,
    /// Not all is well.
    Failed,
}

/// What was told of each job.
#[derive(Debug, Default)]
pub struct Memory {
    failing: BTreeMap<String, Timestamp>,
}

impl Memory {
    /// Decides whether the end of a run is told.
    pub fn ended(&mut self, job: &str, ending: Ending, now: Timestamp) -> Option<NotifyOn> {
        match (ending, self.failing.get(job)) {
            (Ending::Well, None) => None,
            (Ending::Well, Some(_)) => {
                self.failing.remove(job);
                Some(NotifyOn::Recovery)
            }
            (Ending::Failed, Some(told)) if now.duration_since(*told) < REMIND_AFTER => None,
            (Ending::Failed, _) => {
                self.failing.insert(job.to_owned(), now);
                Some(NotifyOn::Failure)
            }
        }
    }
}

/// One message to one address.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// By HTTP.
    Call(Call),
    /// By SMTP.
    Mail(Box<Mail>),
}

impl Delivery {
    async fn send(&self) -> Result<()> {
        match self {
            Self::Call(call) => call.send().await,
            Self::Mail(mail) => mail.send().await,
        }
    }
}

/// Sends what it is given, one after another.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Sender<(String, Delivery)>,
    worker: tokio::task::JoinHandle<()>,
    hurry: CancellationToken,
}

impl Sender {
    /// Starts the task that sends.
    pub fn start() -> Self {
        let (queue, mut waiting) = mpsc::channel::<(String, Delivery)>(QUEUE);
        let hurry = CancellationToken::new();
        let rest = hurry.clone();
        let worker = tokio::spawn(async move {
            while let Some((name, delivery)) = waiting.recv().await {
                deliver(&name, &delivery, &rest).await;
            }
        });
        Self { queue, worker, hurry }
    }

    /// Puts a message into the queue; never waits. `name` is for the log.
    pub fn send(&self, name: impl Into<String>, delivery: Delivery) {
        let name = name.into();
        if let Err(error) = self.queue.try_send((name, delivery)) {
            let (mpsc::error::TrySendError::Full((name, _)) | mpsc::error::TrySendError::Closed((name, _))) = error;
            tracing::warn!("{name}: too many pending notifications; this one was dropped");
        }
    }

    /// Tells every channel that wants to know.
    pub fn tell(&self, channels: &[NotifyConfig], message: &Message) {
        let wants = |channel: &&NotifyConfig| {
            channel.on.contains(&message.occasion) && (channel.jobs.is_empty() || channel.jobs.contains(&message.job))
        };
        for channel in channels.iter().filter(wants) {
            self.send(format!("notify.{}", channel.name), message.delivery(channel));
        }
    }

    /// Sends what waits, within a bound, without pauses between tries.
    pub async fn finish(self, within: Duration) {
        drop(self.queue);
        self.hurry.cancel();
        if tokio::time::timeout(within, self.worker).await.is_err() {
            tracing::warn!("some notifications were not delivered before exit");
        }
    }
}

async fn deliver(name: &str, delivery: &Delivery, hurry: &CancellationToken) {
    let mut tries = 0;
    loop {
        let Err(error) = delivery.send().await else { return };
        match PAUSES.get(tries).filter(|_| error.is_retryable()) {
            Some(pause) => {
                tokio::select! { () = tokio::time::sleep(*pause) => {}, () = hurry.cancelled() => {} }
            }
            None => return tracing::warn!("{name}: not delivered: {}", error.chain()),
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_is_told_once_a_day_and_its_end_once() {
        let mut memory = Memory::default();
        let at = |hour: i64| Timestamp::from_second(hour * 3600).unwrap();
        let told: Vec<Option<NotifyOn>> = [
            (Ending::Well, 0),
            (Ending::Failed, 1),
            (Ending::Failed, 2),
            (Ending::Failed, 24),
            (Ending::Failed, 25),
            (Ending::Well, 26),
            (Ending::Well, 27),
            (Ending::Failed, 28),
        ]
        .into_iter()
        .map(|(ending, hour)| memory.ended("full", ending, at(hour)))
        .collect();
        let (failure, recovery) = (Some(NotifyOn::Failure), Some(NotifyOn::Recovery));
        assert_eq!(told, [None, failure, None, None, failure, recovery, None, failure]);
        assert_eq!(memory.ended("other", Ending::Failed, at(29)), failure);
    }
}
