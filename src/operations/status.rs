//! `status`: of each source how old its newest good snapshot is, how it was proven, and what is not well.
//!
//! It needs nothing but the repository: what a job should have stands in the plan of its newest snapshot and in the records of
//! its runs, so any host can ask. Where a configuration is at hand, its jobs are missed if they never left a snapshot.

use crate::base::error::{ErrorKind, Result};
use crate::base::table::Table;
use crate::base::units::format_bytes;
use crate::operations::facts::{away, expected, health_with_logs};
use crate::operations::options;
use crate::operations::show::local_time;
use crate::operations::{Report, Session, Status, document_of};
use crate::policy::health::{Finding, Health, LogState, SourceHealth, State};

/// How the repositories stand. Its JSON document is the list of the sources' rows.
#[derive(Debug)]
pub struct StatusReport {
    /// Each repository.
    pub healths: Vec<Health>,
}

impl StatusReport {
    fn rows(&self) -> impl Iterator<Item = &SourceHealth> {
        self.healths.iter().flat_map(|health| &health.sources)
    }

    /// Returns the worst state of all; that nothing was ever backed up is one.
    pub fn state(&self) -> State {
        let worst = self.healths.iter().map(Health::state).max().unwrap_or(State::Unknown);
        match self.rows().next() {
            Some(_) => worst,
            None => worst.max(State::NeverBackedUp),
        }
    }
}

impl serde::Serialize for StatusReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows())
    }
}

impl Report for StatusReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        text(&self.healths)
    }

    fn status(&self) -> Status {
        if self.state().is_ok() {
            Status::Done
        } else {
            Status::Failed
        }
    }
}

/// Looks at every repository; it is a failure unless all is well.
pub async fn run(session: &Session, options: &options::StatusOptions) -> Result<StatusReport> {
    let mut healths = look(session).await?;
    for health in &mut healths {
        keep_wanted(health, options);
    }
    Ok(StatusReport { healths })
}

async fn look(session: &Session) -> Result<Vec<Health>> {
    let now = session.clock.now();
    let repositories = session.repositories()?;
    let mut healths = Vec::new();
    for config in &repositories {
        let expected = expected(session, config, false);
        match health_with_logs(session, config, expected.clone(), now).await {
            Ok(health) => healths.push(health),
            Err(error) if repositories.len() == 1 || error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => healths.push(away(session, config, expected, &error, now)),
        }
    }
    Ok(healths)
}

fn keep_wanted(health: &mut Health, options: &options::StatusOptions) {
    let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
    health
        .sources
        .retain(|row| is(&options.host, &row.host) && is(&options.job, &row.job));
    let subject = options.job.as_ref().map(|job| format!("job {job}"));
    // What is wrong with the repository concerns every job.
    let concerns = |finding: &Finding| match &finding.host {
        None => true,
        Some(host) => is(&options.host, host) && is(&subject, &finding.subject),
    };
    health.findings.retain(concerns);
}

fn text(healths: &[Health]) -> String {
    let several = healths.len() > 1;
    let mut text = String::new();
    for health in healths {
        if several {
            text.push_str(&format!("repository {}\n", health.repository));
        }
        let mut table = Table::new(&[
            "host",
            "job",
            "source",
            "state",
            ">age",
            "proven",
            ">stored",
            "newest good",
        ]);
        for row in &health.sources {
            table.row(cells(row));
        }
        text.push_str(&if table.is_empty() {
            "no snapshots\n".to_owned()
        } else {
            table.render()
        });
        for row in &health.sources {
            text.extend(row.log.as_ref().map(|log| log_text(&row.source, log)));
        }
        for finding in &health.findings {
            let host = finding
                .host
                .as_ref()
                .map_or_else(String::new, |host| format!("{host}, "));
            text.push_str(&format!("{}: {host}{finding}\n", finding.state.words()));
        }
        for id in &health.ahead {
            text.push_str(&format!("snapshot {id} is dated in the future and ignored\n"));
        }
    }
    text
}

/// Says how far a recovery goes by the log behind the newest base backup of a source.
fn log_text(source: &str, log: &LogState) -> String {
    let Some(to) = &log.to else { return String::new() };
    let last = log
        .last_time
        .map_or_else(String::new, |time| format!(", last commit {}", local_time(time)));
    let stored = log.newest_age_seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let stored = stored.map_or_else(String::new, |seconds| format!("; stored {} ago", age(seconds)));
    format!("log of {source}: recoverable to {to}{last}{stored}\n")
}

fn cells(row: &SourceHealth) -> [String; 8] {
    let age = row.age_seconds.map_or_else(|| "-".to_owned(), age);
    let proven = row.verified_level.map_or("-", |level| level.word());
    let newest = row
        .newest_good
        .as_ref()
        .map_or_else(|| "-".to_owned(), ToString::to_string);
    [
        row.host.clone(),
        row.job.clone(),
        row.source.clone(),
        row.state.words().to_owned(),
        age,
        proven.to_owned(),
        format_bytes(row.stored_bytes),
        newest,
    ]
}

/// One unit is enough to see whether something is wrong.
fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
