//! `check`: looks at everything a backup would need and changes nothing. In a bucket, or where a repository is, a probe object
//! comes and goes.

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::exact;
use crate::base::memory::MemoryPlan;
use crate::base::units::format_bytes;
use crate::config::Plan;
use crate::engines::{Finding, FindingLevel};
use crate::operations::options;
use crate::operations::{Report, Session, Status, document_of, expand, meant, open, probe};
use crate::policy::health::Claim;
use crate::repository::{Gap, Repository};
use crate::storage::open::local_path;

/// What `check` found. Its fields are the keys of the JSON document.
#[derive(Debug, serde::Serialize)]
pub struct CheckReport {
    /// Memory, then each repository and source.
    pub check: Vec<Section>,
    /// How the memory limit is divided.
    pub memory: MemoryPlan,
    /// Whether nothing keeps a backup from succeeding.
    pub ok: bool,
}

/// What was found about one thing.
#[derive(Debug, serde::Serialize)]
pub struct Section {
    /// What it is about.
    pub about: String,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report for CheckReport {
    fn document(&self) -> serde_json::Value {
        document_of(self)
    }

    fn text(&self) -> String {
        let section = |section: &Section| section_text(&section.about, &section.findings);
        self.check.iter().map(section).collect()
    }

    fn status(&self) -> Status {
        if self.ok { Status::Done } else { Status::Failed }
    }
}

/// Checks memory, then each plan's repository and sources; every finding is told, and any error fails the check.
pub async fn run(session: &Session, options: &options::Check) -> Result<CheckReport> {
    let mut plans = session.plans(&options.targets)?;
    expand::expand(session, &mut plans).await?;
    let mut check = vec![Section {
        about: "memory".to_owned(),
        findings: vec![info(memory_text(session.memory()))],
    }];
    for plan in &plans {
        check.push(Section {
            about: format!("repository {}", plan.repository.url),
            findings: check_repository(session, plan).await,
        });
        for config in &plan.sources {
            session.check_cancelled()?;
            let findings = match config.kind.spec().open() {
                Ok(source) => session
                    .or_cancelled(source.check())
                    .await
                    .unwrap_or_else(|error| vec![failed(&error)]),
                Err(error) => vec![failed(&error)],
            };
            check.push(Section {
                about: format!("source {} ({})", config.name, config.kind.word()),
                findings,
            });
        }
    }
    let findings = || check.iter().flat_map(|section| &section.findings);
    Ok(CheckReport {
        ok: findings().all(|finding| finding.level != FindingLevel::Error),
        check,
        memory: session.memory().clone(),
    })
}

async fn check_repository(session: &Session, plan: &Plan) -> Vec<Finding> {
    let store = match open::store(&plan.repository, &session.cancel).await {
        Ok(store) => store,
        Err(error) => return vec![failed(&error)],
    };
    let mut findings = Vec::new();
    match session.or_cancelled(Repository::open(store.clone())).await {
        Ok(repository) => {
            findings.push(info(format!("holds repository {}", repository.id())));
            findings.extend(check_chain(session, &repository).await);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Nothing is probed there: it may be the mount point of a disk that is not mounted.
            if let Some(gone) = meant::gone(session, &plan.repository) {
                return vec![failed(&gone)];
            }
            if let Err(error) = meant::may_create(session, &plan.repository) {
                return vec![failed(&error)];
            }
            findings.push(info("no repository yet; the first backup creates it"));
            // A probe would leave directories behind where nothing was.
            if let Some(path) = local_path(&plan.repository.url) {
                findings.push(match meant::may_write(&path) {
                    Ok(place) => info(format!("\"{}\" is writable", place.display())),
                    Err(error) => failed(&error),
                });
                return findings;
            }
        }
        Err(error) => findings.push(failed(&error)),
    }
    match session.or_cancelled(probe::store(&store)).await {
        Ok(probed) => {
            findings.push(info(probed.holds));
            findings.extend(probed.lacks.into_iter().map(note));
        }
        Err(error) => findings.push(failed(&error)),
    }
    if let Ok(now) = session.or_cancelled(store.now()).await {
        let skew = jiff::Timestamp::now().duration_since(now).as_secs().abs();
        if skew > 60 {
            findings.push(Finding {
                level: FindingLevel::Warning,
                message: format!("this host's clock and the store's differ by {skew} seconds"),
                hint: Some("Synchronise the clock; S3 refuses requests that are 15 minutes off.".to_owned()),
            });
        }
    }
    findings
}

/// Looks whether every manifest is the one that its successor names, and whether what is gone was removed.
async fn check_chain(session: &Session, repository: &Repository) -> Vec<Finding> {
    match session.or_cancelled(repository.chain()).await {
        Ok(gaps) => gaps.iter().map(gap).collect(),
        // Credentials that can only add are enough for backups.
        Err(error) if error.kind() == ErrorKind::Denied => {
            vec![note(
                "these credentials cannot read snapshots; missing snapshots were not looked for",
            )]
        }
        Err(error) => vec![failed(&error)],
    }
}

fn gap(gap: &Gap) -> Finding {
    Finding {
        level: if gap.damage {
            FindingLevel::Error
        } else {
            FindingLevel::Warning
        },
        message: gap.to_string(),
        hint: gap
            .damage
            .then(|| "Check who can write to the repository, and compare it with a copy.".to_owned()),
    }
}

fn memory_text(plan: &MemoryPlan) -> String {
    let bytes = |n: usize| format_bytes(exact::u64_from(n));
    format!(
        "limit {} = base {} + parts {} x {} + {} workers x ({} context + {} scratch) + index {} + source {} + {} buffers x {}",
        format_bytes(plan.limit_bytes),
        format_bytes(plan.base_bytes),
        plan.parts_in_flight + 1,
        bytes(plan.part_bytes),
        plan.workers,
        format_bytes(plan.context_bytes),
        bytes(plan.buffer_bytes),
        format_bytes(plan.index_bytes),
        format_bytes(plan.source_bytes),
        plan.buffers,
        bytes(plan.buffer_bytes)
    )
}

fn info(message: impl Into<String>) -> Finding {
    Finding {
        level: FindingLevel::Info,
        message: message.into(),
        hint: None,
    }
}

fn note(message: impl Into<String>) -> Finding {
    Finding {
        level: FindingLevel::Note,
        ..info(message)
    }
}

fn failed(error: &Error) -> Finding {
    Finding {
        level: FindingLevel::Error,
        message: error.chain(),
        hint: error.hint().map(str::to_owned),
    }
}

fn section_text(name: &str, findings: &[Finding]) -> String {
    let mut text = format!("{name}\n");
    for finding in findings {
        let word = match finding.level {
            FindingLevel::Info => Claim::Holds.words(),
            FindingLevel::Note => "note",
            FindingLevel::Warning => "warning",
            FindingLevel::Error => "error",
        };
        text.push_str(&format!("  {word}: {}\n", finding.message));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("    hint: {hint}\n"));
        }
    }
    text
}
