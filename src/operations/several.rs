//! Verbs where several repositories are configured and none is named: those that look at all of it go through each, those
//! that need one snapshot take it from the repository that has the newest, or the first that has the one that is named.

use serde::Serialize;

use crate::base::error::{Error, ErrorKind, Result};
use crate::operations::snapshots::open_repository;
use crate::operations::{Report, Session, Status, choose, document_of};

/// What it means that one of several repositories does not have what a verb asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The verb is about the repository as a whole: it failed there.
    Fails,
    /// The verb is about snapshots: another repository may have them.
    IsElsewhere,
}

/// The report of a verb that may have gone through several repositories.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Several<R> {
    /// One repository was meant: it is the verb's own.
    Only(R),
    /// A snapshot of one of several was meant; the report says which.
    Found(InRepository<R>),
    /// It was done in each.
    Each {
        /// What became of each, under its name.
        repositories: Vec<Part<R>>,
    },
}

/// A report with the repository that it is of.
#[derive(Debug, Serialize)]
pub struct InRepository<R> {
    /// What was done there.
    #[serde(flatten)]
    pub report: R,
    /// Name of the repository.
    pub repository: String,
}

/// What became of a verb in one of several repositories.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Part<R> {
    /// It was done.
    Done(InRepository<R>),
    /// It failed there.
    Failed {
        /// Name of the repository.
        repository: String,
        /// Why.
        error: String,
        /// The same for people, with what can be done.
        #[serde(skip)]
        advice: String,
    },
}

impl<R: Report> InRepository<R> {
    fn text(&self) -> String {
        format!("repository {}\n{}", self.repository, self.report.text())
    }
}

impl<R: Report + Serialize> Report for Several<R> {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let part = |part: &Part<R>| match part {
            Part::Done(done) => done.text(),
            Part::Failed { repository, advice, .. } => format!("repository {repository}\nfailed: {advice}\n"),
        };
        match self {
            Self::Only(report) => report.text(),
            Self::Found(found) => found.text(),
            Self::Each { repositories } => repositories.iter().map(part).collect(),
        }
    }

    fn prints(&self) -> bool {
        match self {
            Self::Only(report) | Self::Found(InRepository { report, .. }) => report.prints(),
            Self::Each { .. } => true,
        }
    }

    fn status(&self) -> Status {
        let part = |part: &Part<R>| match part {
            Part::Done(done) => done.report.status(),
            Part::Failed { .. } => Status::Partial,
        };
        match self {
            Self::Only(report) | Self::Found(InRepository { report, .. }) => report.status(),
            Self::Each { repositories } => repositories.iter().map(part).fold(Status::Done, Status::worse),
        }
    }
}

/// Carries a verb out in each repository, if there are several and none is named. One that fails does not keep the others from
/// it.
pub async fn each<R: Report>(
    session: &Session,
    absent: Absent,
    verb: impl AsyncFn(&Session) -> Result<R>,
) -> Result<Several<R>> {
    let sessions = each_repository(session);
    if sessions.is_empty() {
        return verb(session).await.map(Several::Only);
    }
    let (mut repositories, mut done, mut failed, mut lacking) = (Vec::new(), 0, None, None);
    for (repository, session) in sessions {
        match Box::pin(verb(&session)).await {
            Ok(report) => {
                done += 1;
                repositories.push(Part::Done(InRepository { report, repository }));
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) if absent == Absent::IsElsewhere && error.kind() == ErrorKind::NotFound => {
                lacking.get_or_insert(error);
            }
            Err(error) => {
                repositories.push(Part::Failed {
                    repository,
                    error: error.chain(),
                    advice: error.chain_and_hint(),
                });
                failed.get_or_insert(error);
            }
        }
    }
    if done == 0
        && let Some(error) = failed.or(lacking)
    {
        return Err(error);
    }
    Ok(Several::Each { repositories })
}

/// Carries a verb out with a snapshot of the repository that has it, if there are several and none is named.
pub async fn one<R: Report>(
    session: &Session,
    name: &str,
    sources: &[String],
    verb: impl AsyncFn(&Session) -> Result<R>,
) -> Result<Several<R>> {
    preferably(session, name, sources, async |_| Ok(true), verb).await
}

/// The same with the repositories that are preferred before the others: a snapshot alone may not be all that a verb needs.
pub async fn preferably<R: Report>(
    session: &Session,
    name: &str,
    sources: &[String],
    prefers: impl AsyncFn(&Session) -> Result<bool>,
    verb: impl AsyncFn(&Session) -> Result<R>,
) -> Result<Several<R>> {
    let Some((repository, session)) = holding(session, name, sources, prefers).await? else {
        return verb(session).await.map(Several::Only);
    };
    let report = Box::pin(verb(&session)).await?;
    Ok(Several::Found(InRepository { report, repository }))
}

/// Whether a snapshot is of the host that is meant, and when it finished; nothing for one that is named by its id.
type Rank = Option<(bool, jiff::Timestamp)>;

/// Finds the repository that a snapshot comes from. One that does not answer is told and passed over.
async fn holding(
    session: &Session,
    name: &str,
    sources: &[String],
    prefers: impl AsyncFn(&Session) -> Result<bool>,
) -> Result<Option<(String, Session)>> {
    let sessions = each_repository(session);
    if sessions.is_empty() {
        return Ok(None);
    }
    let mut newest: Option<((bool, Rank), String, Session)> = None;
    let mut first_error = None;
    for (repository, session) in sessions {
        let looked = async {
            let found = look(&session, name, sources).await?;
            Ok::<_, Error>((prefers(&session).await?, found))
        };
        match Box::pin(looked).await {
            Ok(found) => {
                // A name that is no `latest` has no date: the first repository that has it is as good as any.
                let better = newest.as_ref().is_none_or(|(best, ..)| found > *best);
                let is_enough = matches!(found, (true, None));
                if better {
                    newest = Some((found, repository, session));
                }
                if is_enough {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!("skipping repository \"{repository}\": {}", error.chain());
                }
                first_error.get_or_insert(error);
            }
        }
    }
    match (newest, first_error) {
        (Some((_, repository, session)), _) => Ok(Some((repository, session))),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::invalid("no repository")),
    }
}

/// Looks for a snapshot in one repository. As within one, another host's counts only where there is none of this one.
async fn look(session: &Session, name: &str, sources: &[String]) -> Result<Rank> {
    let repository = open_repository(session).await?;
    match choose::latest(session, &repository, name, sources).await? {
        None => session.or_cancelled(repository.resolve(name)).await.map(|_| None),
        Some(Ok(found)) => Ok(Some((found.hosts.is_empty(), found.manifest.finished))),
        Some(Err(unreadable)) => Err(choose::nothing(&repository, name, &unreadable)),
    }
}

/// Returns a session for each configured repository with its name, if there are several and none is named.
fn each_repository(session: &Session) -> Vec<(String, Session)> {
    let all = session.config.repositories.as_slice();
    if session.repository.is_some() || all.len() < 2 {
        return Vec::new();
    }
    let one = |name: &String| (name.clone(), session.of_repository(Some(name.clone())));
    all.iter().map(|repository| one(&repository.name)).collect()
}
