//! When something fails in a shard that concerns no single session: its sessions end, and it begins anew on the same ports
//! and with the same mailbox, so that viewers and hosts who come back find it there. One that fails again and again stays
//! away, and the others take its newcomers.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{MAIL, Shard};
use crate::{anteroom::Anteroom, links::Links, notice::EndReason, outbox::Outbox, socket::Socket};

/// So many failures within [`FAILURES_COUNT`], and the shard does not begin anew.
const MAX_FAILURES: usize = 8;
const FAILURES_COUNT: Duration = Duration::from_secs(60);

/// When a shard has failed, lately.
#[derive(Debug, Default)]
pub(super) struct Failures(VecDeque<Instant>);

impl Failures {
    /// It has failed. Whether it is to begin anew.
    fn bearable(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) >= FAILURES_COUNT) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() < MAX_FAILURES
    }
}

impl Shard {
    /// Runs until told to stop. The thread's whole life.
    pub(crate) fn run(mut self) {
        // A panic in what concerns one session costs that session. Should anything else fail, nobody may be left waiting
        // for a thread that is gone.
        while catch_unwind(AssertUnwindSafe(|| self.turns())).is_err() {
            self.give_up();
            if !self.failures.bearable(Instant::now()) {
                tracing::error!(
                    shard = self.index,
                    "a media shard fails too often; restart the server to have it back"
                );
                break;
            }
            let renewed = catch_unwind(AssertUnwindSafe(|| self.begin_anew()));
            if renewed.is_err() || !self.mailbox.open() {
                break;
            }
            tracing::warn!(shard = self.index, "the media shard begins anew");
        }
        self.mailbox.close();
    }

    /// The shard has failed: it takes nothing more, and its sessions end as far as that goes.
    fn give_up(&mut self) {
        self.mailbox.close();
        self.counters.shard_failures.add(1);
        let sessions = self.sessions.len();
        tracing::error!(shard = self.index, sessions, "a media shard has failed; its sessions end");
        for key in self.sessions.keys() {
            // Whatever is broken, the others are told.
            let _ = catch_unwind(AssertUnwindSafe(|| self.end(key, EndReason::Failed)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| self.outbox.flush()));
    }

    /// Leaves nothing of what was in the shard when it failed. Keys of sessions and feeds go on where they were: what still
    /// names an old one finds nothing.
    fn begin_anew(&mut self) {
        let links = self.outbox.links.take();
        let sockets: Vec<Arc<Socket>> = self.ports.iter().map(|port| port.socket.clone()).collect();
        self.outbox = Outbox::new(&sockets, self.counters.clone());
        if links.is_some() {
            // Closed before their tokens are given to others.
            drop(links);
            let registry = self.poll.registry().try_clone();
            self.outbox.links = registry.ok().map(|registry| Links::new(registry, MAIL.0 + 1));
        }
        self.by_id.clear();
        self.by_ufrag.clear();
        self.by_route.clear();
        self.timers.clear();
        self.touched.clear();
        self.anteroom = Anteroom::default();
        self.commands.clear();
        self.feeds.clear();
        self.by_relay.clear();
        self.turns.clear();
        self.events.clear();
        for gauge in [&self.counters.publishers, &self.counters.viewers, &self.counters.viewers_paused] {
            gauge.set(0);
        }
        // Whatever came while nobody looked is told no second time.
        self.ports.iter_mut().for_each(|port| port.readable = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_stays_away() {
        let start = Instant::now();
        let mut failures = Failures::default();
        let outcomes: Vec<bool> =
            (0..8).map(|second| failures.bearable(start + Duration::from_secs(second))).collect();
        assert_eq!(outcomes, [true, true, true, true, true, true, true, false]);
        let mut failures = Failures::default();
        assert!((0..100).all(|number| failures.bearable(start + Duration::from_secs(10 * number))));
    }
}
