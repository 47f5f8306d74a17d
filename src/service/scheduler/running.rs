//! One run of a task: what is told before and after it, what is remembered and what is recorded.

use jiff::Timestamp;

use super::execute;
use super::task::{Task, Work};
use super::{Event, Scheduler};
use crate::operations::{Status, records};
use crate::policy::schedule::{Next, Why};
use crate::repository::RunRecord;

impl Scheduler<'_> {
    /// Runs a task that is due to its end, and says what became of it.
    pub(super) async fn run_task(&mut self, at: usize, next: Next) {
        let Some(task) = self.agenda.tasks.get_mut(at) else {
            return;
        };
        task.base_needed = None;
        if let Some(watch) = &task.watch {
            watch.taken();
        }
        let (name, work, began) = (task.name.clone(), task.work.clone(), self.session.clock.moment());
        let started = began.now;
        let begun = Event::Begun {
            what: work.what(),
            job: name.clone(),
            why: next.why,
            missed: next.missed,
        };
        // Whether a repository lacks something is asked far more often than it is so.
        let silent = matches!(work, Work::Copy { .. });
        let log_from = Timestamp::now();
        if !silent {
            self.tell(&begun);
            self.teller.begun(&self.config, &name, &next, started);
        }
        let repositories = self.repositories(&name, &work);
        let begun_here = if silent {
            records::Begun::default()
        } else {
            let mut killed = self.record(work.what(), &name, started);
            killed.error = Some("the process ended during the run".to_owned());
            records::begin(self.session, &repositories, &killed)
        };
        let result = execute::execute(self.session, &self.config, &name, &work, next.why).await;
        let (more, seconds) = (
            result.as_ref().is_ok_and(|done| done.more),
            self.since(began.instant).as_secs_f64(),
        );
        let (status, error, hint, events, snapshots) = match result {
            Ok(done) => (done.status, done.complaint, None, done.events, done.snapshots),
            Err(error) => (
                Status::Failed,
                Some(error.chain()),
                error.hint().map(str::to_owned),
                vec![],
                vec![],
            ),
        };
        for event in &events {
            self.tell(event);
        }
        // A drill that found damage and a rule that could not remove everything have had their run.
        let ran = status != Status::Failed || (error.is_some() && !events.is_empty());
        let ended_at = self.now();
        if let Some(task) = self.agenda.tasks.get_mut(at) {
            task.ended(ran, began, ended_at);
            if more {
                task.history.failed_at = Some(Timestamp::UNIX_EPOCH);
            }
        }
        if silent && status == Status::Done && events.is_empty() {
            return;
        }
        if status != Status::Done && matches!(work, Work::Backup { .. }) {
            self.is_behind(&name);
        }
        // Ended by us: that is nobody's failure.
        if !self.session.cancel.is_cancelled() {
            let record = RunRecord {
                outcome: status.into(),
                error: error.clone(),
                hint: hint.clone(),
                log: crate::base::report::tail::since(log_from),
                snapshots,
                ..self.record(work.what(), &name, started)
            };
            self.keep(&repositories, record).await;
        }
        drop(begun_here);
        let moment = self.session.clock.moment();
        let following = self.agenda.tasks.get(at).and_then(|task| task.next(moment));
        let ended = Event::Ended {
            what: work.what(),
            job: name.clone(),
            status,
            seconds,
            error,
            hint,
            // What is due as soon as there is time has no time of its own.
            next: following.filter(|next| next.why != Why::Behind).map(|next| next.at),
            repeats: following.is_some_and(|next| next.why == Why::Repeated),
        };
        self.tell(&ended);
        // Ended by us: nobody needs to be woken for that.
        if !self.session.cancel.is_cancelled() {
            self.teller.ended(&self.config, &ended, self.now());
        }
        if ran && matches!(work, Work::Backup { .. }) {
            self.prune(&name).await;
        }
    }

    /// A run did not reach every repository: what they lack is copied as soon as they answer.
    fn is_behind(&mut self, job: &str) {
        let copies = |task: &&mut Task| matches!(&task.work, Work::Copy { job: of } if of == job);
        let now = self.now();
        if let Some(task) = self.agenda.tasks.iter_mut().find(copies) {
            task.history.failed_at.get_or_insert(now);
        }
    }
}
