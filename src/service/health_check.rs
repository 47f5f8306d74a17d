//! `health`: whether all is well, in one line and an exit code, for the health check of a container.
//!
//! The scheduler of this host is asked first: it looks at the repositories anyway, and a check that is made every minute must
//! not read every manifest each time. Where none listens, or one of another configuration does, the repositories are looked at.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::base::error::{ErrorKind, Result};
use crate::operations::facts::{away, expected, health_of};
use crate::operations::options;
use crate::operations::{Report, Session, Status, document_of};
use crate::policy::health::{Finding, Health, State};
use crate::service::scheduler::server::{Answer, fingerprint};

/// The scheduler answers out of its memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer is not longer than this, in bytes.
const LONGEST_ANSWER: u64 = 256 << 10;

/// Characters of the line.
const LONGEST_LINE: usize = 500;

/// Whether all is well. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct HealthReport {
    /// The word for it.
    pub status: &'static str,
    /// What is not well.
    pub complaints: Vec<String>,
    /// How it stands.
    #[serde(skip)]
    pub state: State,
}

impl HealthReport {
    fn new(state: State, complaints: Vec<String>) -> Self {
        Self {
            status: state.health_word(),
            complaints,
            state,
        }
    }
}

impl Report for HealthReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let mut line = self.status.to_owned();
        if !self.state.is_ok() && !self.complaints.is_empty() {
            line = format!("{line}: {}", self.complaints.join("; "));
        }
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let mut line: String = line.chars().take(LONGEST_LINE).map(shown).collect();
        line.push('\n');
        line
    }

    fn status(&self) -> Status {
        if self.state.is_ok() {
            Status::Done
        } else {
            Status::Failed
        }
    }
}

/// Asks, or looks.
pub async fn run(session: &Session, options: &options::Health) -> Result<HealthReport> {
    if session.repository.is_none()
        && let Some(address) = address(options)
    {
        match tokio::time::timeout(PATIENCE, ask(session, &address)).await {
            Ok(Ok(Some(answer))) => {
                let state = if answer.status == State::Ok.health_word() {
                    State::Ok
                } else {
                    State::Failing
                };
                return Ok(HealthReport::new(state, answer.complaints));
            }
            Ok(Ok(None) | Err(_)) => {}
            Err(_) => {
                let late = format!("no answer from the scheduler at {address}");
                return Ok(HealthReport::new(State::Unknown, vec![late]));
            }
        }
    }
    look(session).await
}

/// Where the scheduler is asked; one that listens everywhere is asked on the loopback.
fn address(options: &options::Health) -> Option<String> {
    let listen = options.listen.as_deref().unwrap_or(options::DEFAULT_LISTEN);
    if matches!(listen, "off" | "none" | "") {
        return None;
    }
    let everywhere =
        |host: &str, loopback: &str| Some(format!("{loopback}:{}", listen.strip_prefix(host)?.strip_prefix(':')?));
    let address = everywhere("0.0.0.0", "127.0.0.1").or_else(|| everywhere("[::]", "[::1]"));
    Some(address.unwrap_or_else(|| listen.to_owned()))
}

/// Asks the scheduler; `None` if what answers is not that of this configuration.
async fn ask(session: &Session, address: &str) -> Result<Option<Answer>> {
    let mut stream = TcpStream::connect(address).await?;
    let token = session.config.status_token.as_ref();
    let token = token.map_or_else(String::new, |token| {
        format!("authorization: Bearer {}\r\n", token.expose())
    });
    let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut text).await?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    let answer: Option<Answer> = body.and_then(|body| serde_json::from_str(body).ok());
    Ok(answer.filter(|answer| answer.configuration == fingerprint(&session.config)))
}

/// Looks at the repositories: of this host, if its configuration has jobs, otherwise of all.
async fn look(session: &Session) -> Result<HealthReport> {
    let repositories = session.repositories()?;
    let (now, host) = (session.clock.now(), session.host());
    let mut healths: Vec<Health> = Vec::new();
    for config in &repositories {
        let expected = expected(session, config, session.repository.is_none());
        let has_jobs = expected.jobs.is_some();
        let looked = health_of(session, config, expected.clone(), now).await;
        let mut health = match looked {
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => away(session, config, expected, &error, now),
            Ok(health) => health,
        };
        let ours = |finding: &Finding| !has_jobs || finding.host.as_ref().is_none_or(|of| *of == host);
        health.findings.retain(ours);
        healths.push(health);
    }
    let mut state = healths.iter().map(Health::state).max().unwrap_or(State::Unknown);
    let mut complaints: Vec<String> = healths
        .iter()
        .flat_map(|health| &health.findings)
        .map(ToString::to_string)
        .collect();
    complaints.sort();
    complaints.dedup();
    if state.is_ok() && healths.iter().all(|health| health.sources.is_empty()) {
        state = State::NeverBackedUp;
        complaints.push("nothing has been backed up yet".to_owned());
    }
    Ok(HealthReport::new(state, complaints))
}
