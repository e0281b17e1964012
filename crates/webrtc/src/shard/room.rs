//! Room for newcomers where all places are taken: that of a viewer who is most likely gone. A viewer who was lost comes back
//! as a newcomer, and must not wait for its own former place.

use std::time::{Duration, Instant};

use super::Shard;
use crate::{Role, notice::EndReason};

/// When nobody was found, the shard does not look through its sessions again for this long, however many ask.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Where it was looked for room last, and in vain.
#[derive(Debug, Default)]
pub(super) struct Room {
    looked: Option<Instant>,
}

/// A viewer of whom nothing was heard for this part of [`crate::Limits::silence`] gives its place to who asks for one: longer
/// than peers take from one check to the next (RFC 7675, 5.1: 5 s).
fn absence(silence: Duration) -> Duration {
    silence * 2 / 5
}

impl Shard {
    /// Ends the session of the viewer who has been silent the longest, if that is long enough. Whether there was one.
    pub(super) fn make_room(&mut self) -> bool {
        let now = self.now.instant;
        if self.room.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_AGAIN) {
            return false;
        }
        let absence = absence(self.limits.silence);
        let mut longest = None;
        for key in self.sessions.keys() {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            let is_absent = session.connected && now.saturating_duration_since(session.heard) >= absence;
            if is_absent && session.role() == Role::Viewer {
                longest = longest.into_iter().chain([(session.heard, key)]).min_by_key(|(heard, _)| *heard);
            }
        }
        match longest {
            Some((_, key)) => self.end(key, EndReason::Silent),
            None => self.room.looked = Some(now),
        }
        longest.is_some()
    }
}
