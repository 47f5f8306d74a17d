//! Verbs where several repositories are configured and none is named: those that look at all of it go through each, those
//! that need one snapshot take it from the repository that has the newest, or the first that has the one that is named.

use serde_json::{Value, json};

use crate::base::error::{Error, ErrorKind, Result};
use crate::operations::said::said;
use crate::operations::snapshots::open_repository;
use crate::operations::{Outcome, Session, Status, choose};

/// What it means that one of several repositories does not have what a verb asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The verb is about the repository as a whole: it failed there.
    Fails,
    /// The verb is about snapshots: another repository may have them.
    IsElsewhere,
}

/// Carries a verb out in each repository, if there are several and none is named. Each part of the output is headed by the
/// repository's name; one that fails does not keep the others from it.
pub async fn each(session: &Session, absent: Absent, verb: impl AsyncFn(&Session) -> Outcome) -> Outcome {
    let sessions = each_repository(session);
    if sessions.is_empty() {
        return verb(session).await;
    }
    let (mut text, mut documents, mut status) = (String::new(), Vec::new(), Status::Done);
    let (mut done, mut failed, mut lacking) = (0, None, None);
    for (name, session) in &sessions {
        match Box::pin(verb(session)).await {
            Ok(report) => {
                done += 1;
                text.push_str(&format!("repository {name}\n{}", report.text()));
                documents.push(headed(name, report.document()));
                status = worse(status, report.status());
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) if absent == Absent::IsElsewhere && error.kind() == ErrorKind::NotFound => {
                lacking.get_or_insert(error);
            }
            Err(error) => {
                text.push_str(&format!("repository {name}\nfailed: {}\n", error.chain_and_hint()));
                documents.push(headed(name, json!({ "error": error.chain() })));
                status = worse(status, Status::Partial);
                failed.get_or_insert(error);
            }
        }
    }
    if done == 0
        && let Some(error) = failed.or(lacking)
    {
        return Err(error);
    }
    said(json!({ "repositories": documents }), text, status)
}

/// Carries a verb out with a snapshot of the repository that has it, if there are several and none is named. The output says
/// which it was.
pub async fn one(
    session: &Session,
    name: &str,
    sources: &[String],
    verb: impl AsyncFn(&Session) -> Outcome,
) -> Outcome {
    let Some((repository, session)) = holding(session, name, sources).await? else {
        return verb(session).await;
    };
    let report = Box::pin(verb(&session)).await?;
    if !report.prints() {
        return Ok(report);
    }
    let text = format!("repository {repository}\n{}", report.text());
    said(headed(&repository, report.document()), text, report.status())
}

/// Whether a snapshot is of the host that is meant, and when it finished; nothing for one that is named by its id.
type Rank = Option<(bool, jiff::Timestamp)>;

/// Finds the repository that a snapshot comes from. One that does not answer is told and passed over.
async fn holding(session: &Session, name: &str, sources: &[String]) -> Result<Option<(String, Session)>> {
    let sessions = each_repository(session);
    if sessions.is_empty() {
        return Ok(None);
    }
    let mut newest: Option<(Rank, String, Session)> = None;
    let mut first_error = None;
    for (repository, session) in sessions {
        match Box::pin(look(&session, name, sources)).await {
            Ok(found) => {
                // A name that is no `latest` has no date: the first repository that has it is as good as any.
                let better = newest.as_ref().is_none_or(|(best, ..)| found > *best);
                if better {
                    newest = Some((found, repository, session));
                }
                if found.is_none() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!("repository \"{repository}\" is passed over: {}", error.chain());
                }
                first_error.get_or_insert(error);
            }
        }
    }
    match (newest, first_error) {
        (Some((_, repository, session)), _) => Ok(Some((repository, session))),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::invalid("there is no repository")),
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

fn headed(name: &str, mut document: Value) -> Value {
    if let Some(object) = document.as_object_mut() {
        object.insert("repository".to_owned(), json!(name));
    }
    document
}

fn worse(one: Status, other: Status) -> Status {
    match (one, other) {
        (Status::Failed, _) | (_, Status::Failed) => Status::Failed,
        (Status::Partial, _) | (_, Status::Partial) => Status::Partial,
        (Status::Done, Status::Done) => Status::Done,
    }
}
