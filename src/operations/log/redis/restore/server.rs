//! Brings a live server to the cut: it follows us through the snapshot and the commands, and is a primary again.
//!
//! What it holds stays until it is told that everything comes. Before `--clean` has it lose something, all that comes is read to its end,
//! and what goes is in a snapshot of its own.

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::report::Note;
use crate::engines::Spec;
use crate::engines::redis::RedisSpec;
use crate::engines::redis::log::live::{Followed, Link, ListenAddress, Listener, LiveTarget};
use crate::engines::redis::log::replay::Nowhere;
use crate::engines::redis::restorer::refuse_lacking;
use crate::engines::redis::stored::{self, Rdb};
use crate::operations::log::redis::restore::RestoredMoment;
use crate::operations::log::redis::restore::choose::Chosen;
use crate::operations::log::redis::restore::read::{Opened, commands};
use crate::operations::{Session, backup, options};

/// A server that was looked at.
#[derive(Debug)]
pub(super) struct LiveServer {
    spec: RedisSpec,
    target: LiveTarget,
    listen: Option<ListenAddress>,
    rdb: Rdb,
}

impl LiveServer {
    /// Looks at a server, and refuses one that cannot be brought to the cut. Nothing is changed.
    pub(super) async fn inspect(
        session: &Session,
        spec: &RedisSpec,
        opened: &Opened,
        (options, listen): (&options::Restore, Option<ListenAddress>),
        report: &mut RestoredMoment,
    ) -> Result<Self> {
        let address = spec.address()?;
        let look = async {
            let rdb = stored::only_rdb(&opened.reader).await?;
            let target = LiveTarget::inspect(&address, &rdb, options.clean).await?;
            // That it can be listened on is found out now.
            target.listen(listen).await?;
            Ok((rdb, target))
        };
        let looked = session.or_cancelled(look).await;
        let (rdb, target) = looked.with_context(|| format!("plan the restore into \"{}\"", address.location()))?;
        report.target_keys = target.keys();
        report.warnings = target.warnings().to_vec();
        Ok(Self {
            spec: spec.clone(),
            target,
            listen,
            rdb,
        })
    }

    /// Brings it there.
    pub(super) async fn restore(
        &self,
        session: &Session,
        chosen: &Chosen,
        opened: &Opened,
        options: &options::Restore,
        report: &mut RestoredMoment,
    ) -> Result<()> {
        let name = &chosen.log.streams.source;
        session.reporter.begin(name, opened.raw_bytes);
        for warning in self.target.warnings() {
            let note = Note::new("target", report.into.to_string(), warning);
            session.reporter.note(name, note);
        }
        let done = async {
            if options.clean && self.target.removes_something() {
                self.prove(session, chosen, opened, report).await?;
                let spec: Spec = Box::new(self.spec.clone());
                let kept = Box::pin(backup::safety_snapshot(session, spec)).await?;
                refuse_lacking(&kept).context(backup::SAFETY)?;
                report.previous = Some(format!("snapshot {}", kept.id));
            }
            session.check_cancelled()?;
            self.bring(session, chosen, opened, report).await
        };
        let done = done.await;
        session.reporter.end(name, done.is_ok());
        done
    }

    /// Reads all that comes to its end: nothing is lost for a part.
    async fn prove(
        &self,
        session: &Session,
        chosen: &Chosen,
        opened: &Opened,
        report: &mut RestoredMoment,
    ) -> Result<()> {
        session.reporter.phase(&chosen.log.streams.source, "verification");
        let proof = stored::prove_rdb(&opened.reader, &self.rdb, &session.cancel);
        session.or_cancelled(proof).await?;
        commands(session, chosen, opened, Nowhere, report).await?;
        Ok(())
    }

    async fn bring(
        &self,
        session: &Session,
        chosen: &Chosen,
        opened: &Opened,
        report: &mut RestoredMoment,
    ) -> Result<()> {
        let listener = self.target.listen(self.listen).await?;
        let mut is_touched = false;
        let led = self.lead(session, (chosen, opened), &listener, &mut is_touched, report);
        // However it ends, the target does not stay a replica of nobody.
        let led = session.or_cancelled(led).await;
        let released = self.target.release(&listener).await;
        let followed = match (led, released) {
            (Ok((followed, _)), Ok(())) => followed,
            (Ok(_), Err(error)) => {
                let error = error.context("make the target a primary again");
                return Err(error.with_hint_instead("It has all of it: run REPLICAOF NO ONE on the target."));
            }
            (Err(error), released) => return Err(unfinished(error, is_touched, &released, report.previous.as_deref())),
        };
        let settled = self
            .target
            .settled(&followed)
            .await
            .context("look at the restored target")?;
        report.keys = settled.keys;
        report.refused_commands = settled.refused;
        if settled.refused.is_none() {
            let warning = "whether the server refused commands is not known: it does not count them";
            report.warnings.push(warning.to_owned());
        }
        Ok(())
    }

    /// Has the target follow us to the end. It still does with the link that is returned.
    async fn lead(
        &self,
        session: &Session,
        (chosen, opened): (&Chosen, &Opened),
        listener: &Listener,
        is_touched: &mut bool,
        report: &mut RestoredMoment,
    ) -> Result<(Followed, Link)> {
        let name = chosen.log.streams.source.as_str();
        let followed = self.target.follow(listener).await?;
        let peer = self.target.accept(listener, &followed).await?;
        session.reporter.phase(name, "data");
        *is_touched = true;
        let link = Link::start(peer).await?;
        link.announce(self.rdb.bytes()).await?;
        let told = (name, &session.reporter);
        let send = async |bytes| {
            link.rdb(bytes).await?;
            #[cfg(feature = "test-hooks")]
            crate::base::test_hooks::hold("live-restore-snapshot").await;
            Ok(())
        };
        let rdb = stored::hand_on(&opened.reader, &self.rdb, told, &session.cancel, send).await?;
        report.failed_keys = rdb.failed_keys;
        let sink = link.commands(&session.cancel).await?;
        #[cfg(feature = "test-hooks")]
        crate::base::test_hooks::hold("live-restore").await;
        session.reporter.phase(name, "commands");
        let (sink, replayed) = commands(session, chosen, opened, sink, report).await?;
        sink.finish(&replayed).await?;
        report.bytes = rdb.bytes.saturating_add(replayed.bytes);
        Ok((followed, link))
    }
}

/// Says what the target is after a restore that did not come to its end.
fn unfinished(error: Error, is_touched: bool, released: &Result<()>, previous: Option<&str>) -> Error {
    let mut hint = Vec::new();
    if error.kind() != ErrorKind::Cancelled {
        hint.extend(error.hint().map(str::to_owned));
    }
    hint.push(match (released, is_touched) {
        (Ok(()), false) => "The target is a primary again, and holds what it held.".to_owned(),
        (Ok(()), true) => {
            "The target is a primary again. It holds a part of what was to come, or nothing: restore again with --clean.".to_owned()
        }
        (Err(why), _) => format!(
            "The target is still a replica ({}): run REPLICAOF NO ONE on it. It may hold a part of what was to come.",
            why.chain()
        ),
    });
    if let Some(previous) = previous {
        hint.push(format!("Its previous data is in {previous}."));
    }
    error.with_hint_instead(hint.join(" "))
}
