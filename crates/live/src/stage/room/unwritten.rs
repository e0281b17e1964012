//! Answers that wait until what they say is written down.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use haul_model::Now;
use haul_wire::{Code, Failure, Reply};

use super::super::{MemberId, Output, Stage};

/// An answer whose change is not written down after so long is "pending": the change may still come, and who asks for the
/// same again waits for that one.
pub(super) const WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// When to ask again.
const AGAIN_AFTER_MS: u64 = 500;

/// Those answers, the one that waits longest first. As many as there are requests of the last [`WRITTEN_WITHIN`].
#[derive(Debug, Default)]
pub(in super::super) struct Unwritten(VecDeque<Waiting>);

#[derive(Debug)]
struct Waiting {
    /// Of what it waits for.
    number: u64,
    member: MemberId,
    id: u64,
    reply: Reply,
    late_at: Instant,
}

impl Unwritten {
    pub(in super::super) fn next_timeout(&self) -> Option<Instant> {
        self.0.front().map(|first| first.late_at)
    }
}

impl Stage {
    /// Answers what was just asked of the room, now or when it is written down.
    pub(super) fn answer_when_written(&mut self, member: MemberId, id: u64, reply: Reply, now: Now) {
        match self.room.proposed() {
            Some(number) => {
                let late_at = now.instant + WRITTEN_WITHIN;
                self.unwritten.0.push_back(Waiting { number, member, id, reply, late_at });
            }
            None => self.reply(member, id, &reply),
        }
    }

    /// All that the room wanted to be written, up to this number, is.
    pub(in super::super) fn written(&mut self, upto: u64, now: Now) {
        let (done, left): (VecDeque<_>, _) =
            std::mem::take(&mut self.unwritten.0).into_iter().partition(|waiting| waiting.number <= upto);
        self.unwritten.0 = left;
        for Waiting { member, id, reply, .. } in done {
            match reply {
                // As it is when it is told: clients set their clocks by it.
                Reply::Time { .. } => self.reply_time(member, id, now),
                reply => self.reply(member, id, &reply),
            }
        }
        self.room.written(upto, now);
        self.carry_room();
    }

    /// Tells those who have waited long enough.
    pub(in super::super) fn unwritten_timeout(&mut self, now: Now) {
        let mut late = 0;
        while self.unwritten.next_timeout().is_some_and(|at| at <= now.instant)
            && let Some(Waiting { member, id, .. }) = self.unwritten.0.pop_front()
        {
            late += 1;
            let failure = Failure::new(Code::Pending, "it is not written down yet: ask for the same again")
                .retry_after(AGAIN_AFTER_MS);
            self.fail(member, id, &failure);
        }
        if late > 0 {
            self.outputs.push_back(Output::Late(late));
        }
    }
}
