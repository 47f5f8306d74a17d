//! The database that a restore fills: always a new one, beside the live one or beside a free name, which it gets when it is
//! whole.
//!
//! The live database is touched once, by two renames in one transaction. Whatever fails before leaves it as it was; what this
//! run created is dropped. The old database is kept under a dated name. What a killed run left beside is found by its mark, and
//! goes with the next restore to the same name.

use std::time::Duration;

use super::RestoreOptions;
use super::create_database::{Made, may_use_tablespace};
use super::inspect::TargetState;
use super::plan::LEAVE_TIMEOUT;
use super::statements::FailedItem;
use super::swap::{Apart, Swap, drop_database, free_name, rename};
use crate::base::error::{Context as _, Error, Result};
use crate::base::exact;
use crate::base::report::Note;
use crate::engines::postgres::backup::snapshot::ServerFacts;
use crate::engines::postgres::session::connection::Connection;
use crate::engines::postgres::session::maintenance::open_admin;
use crate::engines::postgres::session::marks;
use crate::engines::postgres::session::marks::{Why, can_say, comment_of, comment_sql, comment_within, unmarked};
use crate::engines::postgres::session::settings;
use crate::engines::postgres::session::url::ConnectOptions;
use crate::engines::postgres::sql::quote::{literal, quote_ident};

/// Where a restore writes.
#[derive(Debug)]
pub(crate) struct StagingDatabase {
    /// Connection to a database that is not the target: renames and drops need it. None while it rests.
    admin: Option<Connection>,
    wanted: ConnectOptions,
    /// The database being filled, created by this run.
    pub(crate) filling: ConnectOptions,
    /// What has the wanted name and is to be swapped out.
    replaced: Option<TargetState>,
    /// What there is to tell.
    pub(crate) notes: Vec<Note>,
}

/// How [`Target::finish`] left the server.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Name under which the old database was kept.
    pub(crate) kept: Option<String>,
    /// Sessions of the old database that were ended.
    pub(crate) ended_sessions: u64,
    /// Properties of the database that could not be taken over.
    pub(crate) failed: Vec<FailedItem>,
}

impl StagingDatabase {
    /// Creates the database to fill. A scratch database, which has a comment of its own, has its name from the beginning.
    pub(crate) async fn create(
        mut admin: Connection,
        look: TargetState,
        wanted: &ConnectOptions,
        facts: Option<&ServerFacts>,
        options: &RestoreOptions,
    ) -> Result<Self> {
        let mut notes = Vec::new();
        let name = &wanted.database;
        let scratch = options.comment.as_deref();
        if scratch.is_none() {
            remove_leftovers(&mut admin, wanted, &mut notes).await?;
        }
        let made = how(&mut admin, &look, facts, options, &mut notes).await?;
        let stamp = now();
        let filling = if scratch.is_some() {
            name.clone()
        } else {
            let id = format!("{:08x}", rand::random::<u32>());
            free_name(&mut admin, name, "restore", &id).await?
        };
        made.create(&mut admin, &filling).await?;
        // Before anything else it is said whose it is.
        let (oid, _) = comment_of(&mut admin, &filling).await?;
        let comment = scratch.map_or_else(|| marks::marked(None, Why::Filling, oid, name, &stamp), str::to_owned);
        let sql = comment_sql(&filling, Some(&comment));
        admin.execute(&sql).await.context("mark the new database")?;
        marks::hold(&mut admin, oid).await?;
        Ok(Self {
            admin: Some(admin),
            wanted: wanted.clone(),
            filling: wanted.with_database(&filling),
            replaced: look.exists.then_some(look),
            notes,
        })
    }

    /// Returns whether it takes the place of a database that is there, whose properties it takes over.
    pub(crate) fn replaces(&self) -> bool {
        self.replaced.is_some()
    }

    /// Lets the maintenance connection go where the role has no session to spare, or others need its database to be left alone.
    pub(crate) async fn rest(&mut self, no_session_to_spare: bool) {
        let is_template = self.admin.as_ref().is_some_and(|a| a.database() == "template1");
        if (no_session_to_spare || is_template)
            && let Some(admin) = self.admin.take()
        {
            admin.close().await;
        }
    }

    /// Says again whose the database is, after its comment was set; within a transaction of the caller. The session's encoding
    /// stays as it was, whatever happens.
    pub(crate) async fn mark(connection: &mut Connection, wanted: &str) -> Result<()> {
        let encoding = connection.parameter("client_encoding").unwrap_or("UTF8").to_owned();
        settings::in_own_encoding(connection).await?;
        let marked = Self::mark_as_stored(connection, wanted).await;
        // In a transaction that has failed nothing can be set; its end sets it back.
        let set_back = connection
            .execute(&format!("SET client_encoding TO {}", literal(&encoding)))
            .await;
        marked.and(set_back)
    }

    async fn mark_as_stored(connection: &mut Connection, wanted: &str) -> Result<()> {
        let name = connection.database().to_owned();
        let (oid, comment) = comment_of(connection, &name).await?;
        let comment = comment.as_deref().and_then(unmarked);
        let comment = marks::marked(comment.as_deref(), Why::Filling, oid, wanted, &now());
        connection.execute(&comment_sql(&name, Some(&comment))).await
    }

    async fn admin(&mut self) -> Result<&mut Connection> {
        let admin = match self.admin.take() {
            Some(admin) if !admin.is_dead() => admin,
            _ => open_admin(&self.wanted).await?,
        };
        Ok(self.admin.insert(admin))
    }

    /// Drops what was created. The live database was not touched.
    pub(crate) async fn discard(mut self) -> Result<()> {
        let (server, name) = (self.wanted.clone(), self.filling.database.clone());
        let admin = self.admin().await?;
        drop_database(admin, &server, &name, LEAVE_TIMEOUT).await
    }

    /// Puts the filled database under the wanted name. On an error it stands beside, without a mark.
    pub(crate) async fn finish(mut self, drop_old: bool, timeout: Duration) -> Result<Finished> {
        if self.filling.database == self.wanted.database {
            if let Some(admin) = self.admin {
                admin.close().await;
            }
            return Ok(Finished::default());
        }
        let (old, new) = (self.wanted.database.clone(), self.filling.database.clone());
        let filling = self.filling.clone();
        let done = if let Some(look) = &self.replaced {
            let drop_old = drop_old || look.empty;
            self.swap(drop_old, timeout).await
        } else {
            let server = self.wanted.clone();
            let renamed = rename(self.admin().await?, &server, &new, &old, timeout).await;
            renamed.map(|failed| Finished {
                failed: failed.into_iter().collect(),
                ..Finished::default()
            })
        };
        match done {
            Ok(done) => {
                if let Some(admin) = self.admin {
                    admin.close().await;
                }
                Ok(done)
            }
            Err(error) => {
                // What is whole is not taken for what a killed restore left.
                if let Ok(admin) = self.admin().await
                    && let Ok((_, comment)) = comment_of(admin, &new).await
                {
                    let comment = comment.as_deref().and_then(unmarked);
                    if can_say(admin, comment.as_deref()) {
                        let _ = admin.execute(&comment_sql(&new, comment.as_deref())).await;
                    } else {
                        let _ = comment_within(&filling, comment.as_deref()).await;
                    }
                }
                let hint = format!(
                    "Everything is restored, into \"{new}\". To finish, rename \"{old}\" if it exists, then run: \
                     ALTER DATABASE {} RENAME TO {};",
                    quote_ident(&new),
                    quote_ident(&old)
                );
                Err(error.with_hint_instead(hint))
            }
        }
    }

    async fn swap(&mut self, drop_old: bool, timeout: Duration) -> Result<Finished> {
        let (server, new) = (self.wanted.clone(), self.filling.database.clone());
        let old = server.database.clone();
        let stamp = now();
        self.admin().await?;
        let Some(admin) = self.admin.take() else {
            return Err(Error::invalid("a swap has no maintenance connection"));
        };
        let mut apart = Apart::of(admin, &server, [&old, &new]).await?;
        let kept = free_name(&mut apart.admin, &old, "before", &stamp).await?;
        let swap = Swap {
            old: &old,
            new: &new,
            kept: &kept,
            stamp: Some(&stamp),
            inherits: true,
            timeout,
        };
        let swapped = swap.run(&mut apart.admin, &server).await;
        let (admin, left) = apart.end(&server).await?;
        self.admin = Some(admin);
        let swapped = swapped?;
        let mut finished = Finished {
            kept: Some(kept.clone()),
            ended_sessions: exact::u64_from(swapped.ended.len()),
            failed: swapped.failed,
        };
        finished.failed.extend(left);
        if drop_old {
            let admin = self.admin().await?;
            match drop_database(admin, &server, &kept, LEAVE_TIMEOUT).await {
                Ok(()) => finished.kept = None,
                Err(error) => finished.failed.push(FailedItem {
                    excuse: None,
                    kind: "DATABASE".to_owned(),
                    name: kept.clone(),
                    error: error.chain(),
                    advice: format!(
                        "It is the replaced database; drop it with: DROP DATABASE {};",
                        quote_ident(&kept)
                    ),
                }),
            }
        }
        Ok(finished)
    }
}

/// Returns the time for names and marks.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Returns how the new database is made. One that is there was made by somebody who knew why: its locale and tablespace stay,
/// and its encoding unless rows of another one come to replace its own.
async fn how(
    admin: &mut Connection,
    look: &TargetState,
    facts: Option<&ServerFacts>,
    options: &RestoreOptions,
    notes: &mut Vec<Note>,
) -> Result<Made> {
    let source = facts.map(Made::of_facts).unwrap_or_default();
    let mut made = options.locale_override.applied(made(look, &source));
    if look.exists && options.locale_override.is_empty() && !made.is_like(&source) && !source.encoding.is_empty() {
        let text = format!("keeps {}; the backup has {}", made.words(), source.words());
        notes.push(Note::new("other-locale", "database", text));
    }
    if !look.exists {
        let mapped = options.tablespace_map.iter().find(|(old, _)| *old == made.tablespace);
        if let Some((_, new)) = mapped {
            made.tablespace.clone_from(new);
        }
        let named = made.tablespace.clone();
        if !matches!(named.as_str(), "" | "pg_default") && !may_use_tablespace(admin, &named).await? {
            let text = "does not exist, or the role may not use it: the database uses the default tablespace";
            notes.push(Note::new("missing-tablespace", named, text));
            made.tablespace.clear();
        }
    }
    if made.tablespace == "pg_default" {
        made.tablespace.clear();
    }
    Ok(made)
}

/// Returns how the database to fill is made.
pub(crate) fn made(look: &TargetState, source: &Made) -> Made {
    if !look.exists {
        return source.clone();
    }
    let fits = look.empty || source.encoding.is_empty() || look.made.encoding == source.encoding;
    if fits {
        return look.made.clone();
    }
    Made {
        tablespace: look.made.tablespace.clone(),
        ..source.clone()
    }
}

/// Drops what killed restores to this name left beside, unless somebody is still at work there.
async fn remove_leftovers(admin: &mut Connection, wanted: &ConnectOptions, notes: &mut Vec<Note>) -> Result<()> {
    for left in marks::find(admin, Why::Filling, &wanted.database).await? {
        let text = if marks::is_in_use(admin, left.oid).await? {
            "is in use by another restore or session: it was not touched".to_owned()
        } else {
            match drop_database(admin, wanted, &left.name, LEAVE_TIMEOUT).await {
                Ok(()) => {
                    let text = "left over from an interrupted restore: it was dropped";
                    notes.push(Note::new("removed", left.name, text));
                    continue;
                }
                Err(error) => format!("left over from an interrupted restore: {}", error.chain()),
            }
        };
        notes.push(Note::new("left-behind", left.name, text));
    }
    Ok(())
}
