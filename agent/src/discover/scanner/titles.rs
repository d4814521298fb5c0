//! What processes come to be called after they were looked at first.

use std::sync::Arc;

use super::{Change, Scanner, Target};
use crate::discover::profile::Profile;

impl Scanner {
    /// Looks again at what a process calls itself, if its program may write a title over its command line.
    /// They do so before they serve anybody: whoever comes later sees nothing else.
    pub(super) fn look_at_title(&mut self, tgid: u32) -> Change {
        if !self.untitled.remove(&tgid) {
            return Change::Keep;
        }
        let Some(known) = self.targets.get(&tgid).cloned() else { return Change::Keep };
        let seen = self.look_at(tgid).filter(|seen| seen.start_time() == Some(known.start_time));
        let new = seen.and_then(|mut seen| {
            let new = self.target_from(&mut seen, known.selector)?;
            // It may have ended meanwhile, or become another program, of which its exec will tell: the exchanges until then
            // are the earlier one's.
            let stack = seen.process.stat().ok()?.startstack;
            (new.stack == known.stack && stack == known.stack).then_some(new)
        });
        let Some(new) = new.filter(|new| {
            new.exe == known.exe && new.resource.service_name() != known.resource.service_name()
        }) else {
            return Change::Keep;
        };
        let target = Arc::new(Target {
            settled_mono_ns: known.settled_mono_ns,
            since_mono_ns: known.since_mono_ns,
            ..new
        });
        self.targets.insert(tgid, Arc::clone(&target));
        Change::Rename(target)
    }

    /// Says once of a process that what it says of itself cannot be read.
    pub(super) fn warn_of(&mut self, tgid: u32, profile: &Profile) {
        if let Some(malformed) = profile.malformed
            && self.warned.insert(tgid)
        {
            tracing::warn!(
                pid = tgid,
                "the process's OTEL_RESOURCE_ATTRIBUTES has {malformed}, expected key=value pairs, \
                 percent-encoded, separated by commas: none of it counts"
            );
        }
    }
}
