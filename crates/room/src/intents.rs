//! Changes that are written down before anybody is told of them.
//!
//! What a next start must know of — who was put out, the rules, what was written privately, who has won — is decided,
//! written down as an intent, and made when that is done: until then nobody hears of it, and the room is as it was. So
//! what somebody was told outlives whatever happens to the process in the next moment. A ledger that stands still holds
//! up these changes and nothing else.
//!
//! A made change leaves notes of what came of it, which are written together with the end of its intent. An intent that
//! is found at a start is made then; what was made before it ended may be made twice, and is the same twice.

use std::collections::VecDeque;

use haul_model::{BuyerId, Now};

use crate::{
    change::{Change, Note},
    chat::Refused,
    room::{Effect, Room},
};

/// Changes that wait to be written down at once; another is refused.
pub const MAX_INTENTS: usize = 1_000;
/// The names of their notes begin like this; the number follows, and what the change is about.
const NAMED: &str = "intent/";
/// Numbers go on from the time in milliseconds, moved up by so many bits: those of a later start are higher.
const A_MILLISECOND_BITS: u32 = 20;

/// What waits to be written down.
#[derive(Debug, Default)]
pub(crate) struct Intents {
    /// In the order in which they were decided, and are made.
    pending: VecDeque<(u64, Change)>,
    last: u64,
    /// What the request that is being decided waits for.
    proposed: Option<u64>,
}

impl Intents {
    /// Those that are not made yet, oldest first.
    pub(crate) fn pending(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.pending.iter().map(|(_, change)| change)
    }

    /// Something was proposed that nobody has asked for.
    pub(crate) fn waits_for_nobody(&mut self) {
        self.proposed = None;
    }

    /// What the newest of those says about which `of` has something to say. The request that asks for it again waits for
    /// that one.
    pub(crate) fn again<T>(&mut self, of: impl Fn(&Change) -> Option<T>) -> Option<T> {
        let (number, found) =
            self.pending.iter().rev().find_map(|(number, change)| Some((*number, of(change)?)))?;
        self.proposed = Some(number);
        Some(found)
    }
}

impl Room {
    /// Has a change written down: it is made when it is, by [`Room::written`].
    pub(crate) fn propose(&mut self, change: Change, now: Now) -> Result<(), Refused> {
        self.intents.proposed = None;
        if self.intents.pending.len() >= MAX_INTENTS {
            return Err(Refused::Unwritten);
        }
        let number = (self.intents.last + 1).max(now.wall.0 << A_MILLISECOND_BITS);
        let note = Note { name: name(number, &change), text: serde_json::to_string(&change).ok() };
        self.intents.last = number;
        self.intents.proposed = Some(number);
        self.intents.pending.push_back((number, change));
        self.effects.push_back(Effect::Write { number, note });
        Ok(())
    }

    /// What the last request's answer must wait for, if it must: it is true when all up to this number is written.
    pub fn proposed(&mut self) -> Option<u64> {
        self.intents.proposed.take()
    }

    /// All up to this number is written down: it is made, and told.
    pub fn written(&mut self, upto: u64, now: Now) {
        while self.intents.pending.front().is_some_and(|(number, _)| *number <= upto)
            && let Some((number, change)) = self.intents.pending.pop_front()
        {
            let name = name(number, &change);
            self.apply(change, now);
            self.forget(name);
        }
    }

    /// Makes what an earlier room had written down and perhaps not made.
    pub(crate) fn make_up_for(&mut self, mut intents: Vec<Note>, now: Now) {
        // Their numbers have as many digits each.
        intents.sort_by(|a, b| a.name.cmp(&b.name));
        for Note { name, text } in intents {
            let change = text.and_then(|text| serde_json::from_str(&text).ok());
            if let Some(change) = change.filter(|change| !self.is_made(change)) {
                self.apply(change, now);
            }
            self.forget(name);
        }
    }

    /// Lets go of what is not written yet of what somebody wrote to the host's team.
    pub(crate) fn forget_intents_of(&mut self, who: &BuyerId) {
        let theirs = |change: &Change| matches!(change, Change::Wrote { of, .. } if of == who);
        let (gone, left): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.intents.pending).into_iter().partition(|(_, change)| theirs(change));
        self.intents.pending = left;
        for (number, change) in gone {
            self.forget(name(number, &change));
        }
    }

    /// Whether the room is as if this had been done last.
    fn is_made(&self, change: &Change) -> bool {
        match change {
            Change::Rules { rules, entry } => self.guard.rules == *rules && self.guard.log.contains(entry),
            Change::Words { entry, .. } | Change::Measure { entry, .. } => self.guard.log.contains(entry),
            Change::Wrote { of, message, .. } => self.thread(of).iter().any(|known| known.id == message.id),
            Change::GiveawayStarted { giveaway, .. } => self.knows_giveaway(&giveaway.id),
            // These are the same twice.
            _ => false,
        }
    }
}

/// What an intent's note is called. The end says whose private words it has, so that they are found where somebody is to be
/// forgotten.
fn name(number: u64, change: &Change) -> String {
    match change {
        Change::Wrote { of, .. } => format!("{NAMED}{number:020}/thread/{of}"),
        _ => format!("{NAMED}{number:020}"),
    }
}

/// Whether a note is an intent.
pub fn is_intent(name: &str) -> bool {
    name.starts_with(NAMED)
}
