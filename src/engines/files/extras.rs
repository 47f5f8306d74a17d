//! What the live tree has and the backup has not: found by walking the tree beside the archive, both in order.

use rustix::fs::FileType;

use super::journal::{Action, DirMeta, Step};
use super::patterns::Patterns;
use super::stage::{Stager, live_meta};
use super::walk::{Found, Walker};
use crate::base::error::Result;

/// The live tree, walked beside the archive.
#[derive(Debug)]
pub(super) struct Extras<'a> {
    pub(super) walker: Walker<'a>,
    pub(super) next: Option<Found>,
    pub(super) leaving: Vec<(Vec<u8>, DirMeta)>,
}

impl Stager<'_> {
    /// Plans away what the live tree has before `until` and the backup has not.
    pub(super) fn remove_extras(
        &mut self,
        live: &mut Extras<'_>,
        until: Option<&[u8]>,
        selection: &Patterns,
    ) -> Result<()> {
        loop {
            if live.next.is_none() {
                live.next = live.walker.next(&mut |_| {})?;
            }
            let Some(found) = &live.next else { break };
            let sorted = found.sort_path();
            if until.is_some_and(|until| sorted.as_slice() > until) {
                break;
            }
            let found = live.next.take();
            if until == Some(sorted.as_slice()) {
                break;
            }
            let Some(found) = found.filter(|f| f.taken) else {
                continue;
            };
            self.leave(live, Some(&found.path))?;
            let is_dir = found.kind() == FileType::Directory;
            if !selection.selects(&found.path, is_dir) || found.stat.st_dev != self.root_device {
                continue;
            }
            if is_dir {
                let meta = live_meta(&found.dir, found.name(), &found.stat);
                live.leaving.push((found.path, meta));
            } else {
                self.report.deleted += 1;
                self.journal.add(&Step {
                    path: found.path,
                    existed: true,
                    action: Action::Remove,
                })?;
            }
        }
        self.leave(live, until)
    }

    /// Plans the removal of directories that `next` no longer lies in.
    fn leave(&mut self, live: &mut Extras<'_>, next: Option<&[u8]>) -> Result<()> {
        while let Some((path, _)) = live.leaving.last() {
            if next.is_some_and(|next| next.starts_with(path) && next.get(path.len()) == Some(&b'/')) {
                break;
            }
            if let Some((path, meta)) = live.leaving.pop() {
                self.journal.add(&Step {
                    path,
                    existed: true,
                    action: Action::RemoveDir(meta),
                })?;
            }
        }
        Ok(())
    }
}
