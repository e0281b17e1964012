//! Changes that are written down before anybody is told of them.
//!
//! What a next start must know of — who was put out, the rules, what was written privately, who has won, what is asked and shown — is decided,
//! written down as an intent, and made when that is done: until then nobody hears of it, and the room is as it was. So
//! what somebody was told outlives whatever happens to the process in the next moment. A ledger that stands still holds
//! up these changes and nothing else.
//!
//! A made change leaves notes of what came of it, which are written together with the end of its intent. An intent that
//! is found at a start is made then; what was made before it ended may be made twice, and is the same twice.

use std::collections::{BTreeSet, VecDeque};

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
    pending: VecDeque<Intent>,
    last: u64,
    /// What the request that is being decided waits for.
    proposed: Option<u64>,
}

/// A change, and the note that is its intent.
#[derive(Debug)]
struct Intent {
    number: u64,
    name: String,
    change: Change,
}

impl Intents {
    /// Those that are not made yet, oldest first.
    pub(crate) fn pending(&self) -> impl DoubleEndedIterator<Item = &Change> + Clone {
        self.pending.iter().map(|intent| &intent.change)
    }

    /// Something was proposed that nobody has asked for.
    pub(crate) fn waits_for_nobody(&mut self) {
        self.proposed = None;
    }

    /// What the newest of those says about which `of` has something to say. The request that asks for it again waits for
    /// that one.
    pub(crate) fn again<T>(&mut self, of: impl Fn(&Change) -> Option<T>) -> Option<T> {
        let newest = self.pending.iter().rev();
        let (number, found) =
            newest.into_iter().find_map(|intent| Some((intent.number, of(&intent.change)?)))?;
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
        let name = self.intent_name(number, &change);
        let note = Note { name: name.clone(), text: serde_json::to_string(&change).ok() };
        self.intents.last = number;
        self.intents.proposed = Some(number);
        self.intents.pending.push_back(Intent { number, name, change });
        self.effects.push_back(Effect::Write { number, note });
        Ok(())
    }

    /// What the last request's answer must wait for, if it must: it is true when all up to this number is written.
    pub fn proposed(&mut self) -> Option<u64> {
        self.intents.proposed.take()
    }

    /// All up to this number is written down: it is made, and told.
    pub fn written(&mut self, upto: u64, now: Now) {
        while self.intents.pending.front().is_some_and(|intent| intent.number <= upto)
            && let Some(Intent { name, change, .. }) = self.intents.pending.pop_front()
        {
            if let Some(change) = self.still(change) {
                self.apply(change, now);
            }
            self.forget(name);
        }
    }

    /// What was decided, as far as it still makes sense: meanwhile the line may be gone, or another than it was.
    fn still(&self, change: Change) -> Option<Change> {
        match change {
            Change::ChatPinned { line: Some(line), by, .. } => {
                let said = self.said.get(&line.id)?;
                Some(Change::ChatPinned { line: Some(said.line.clone()), by, quoted: said.quoted.clone() })
            }
            change => Some(change),
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

    /// Lets go of what is not made yet of somebody's words.
    pub(crate) fn forget_intents_of(&mut self, who: &BuyerId) {
        let theirs = self.intents.pending.iter();
        let theirs = theirs.filter(|intent| self.words_of(&intent.change).is_some_and(|(_, of)| of == who));
        self.drop_intents(&theirs.map(|intent| intent.number).collect());
    }

    /// Lets go of what somebody has asked and is not told yet.
    pub(crate) fn unask_intents_of(&mut self, who: &BuyerId) {
        let asked = |intent: &&Intent| matches!(&intent.change, Change::Asked { by, .. } if by == who);
        self.drop_intents(&self.intents.pending.iter().filter(asked).map(|intent| intent.number).collect());
    }

    fn drop_intents(&mut self, numbers: &BTreeSet<u64>) {
        let (gone, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.intents.pending)
            .into_iter()
            .partition(|intent| numbers.contains(&intent.number));
        self.intents.pending = left;
        for Intent { name, .. } in gone {
            self.forget(name);
        }
    }

    /// Whose words a change has, and where.
    fn words_of<'a>(&'a self, change: &'a Change) -> Option<(&'static str, &'a BuyerId)> {
        match change {
            Change::Wrote { of, .. } => Some(("thread", of)),
            Change::Asked { by, .. } => Some(("question", by)),
            Change::Question { question } => Some(("question", self.asker(&question.id)?)),
            Change::ChatPinned { by, .. } => Some(("chat_pin", by.as_ref()?)),
            _ => None,
        }
    }

    /// What an intent's note is called. The end says whose words it has, so that they are found where somebody is to be
    /// forgotten.
    fn intent_name(&self, number: u64, change: &Change) -> String {
        match self.words_of(change) {
            Some((what, of)) => format!("{NAMED}{number:020}/{what}/{of}"),
            None => format!("{NAMED}{number:020}"),
        }
    }

    /// Whether the room is as if this had been done last.
    fn is_made(&self, change: &Change) -> bool {
        match change {
            Change::Rules { rules, entry } => self.guard.rules == *rules && self.guard.log.contains(entry),
            Change::Words { entry, .. }
            | Change::Measure { entry, .. }
            | Change::Deleted { entry: Some(entry), .. } => self.guard.log.contains(entry),
            Change::Asked { question, .. } => self.knows_question(&question.id),
            Change::Wrote { of, message, .. } => self.thread(of).iter().any(|known| known.id == message.id),
            Change::GiveawayStarted { giveaway, .. } => self.knows_giveaway(&giveaway.id),
            // These are the same twice.
            _ => false,
        }
    }
}

/// Whether a note is an intent.
pub fn is_intent(name: &str) -> bool {
    name.starts_with(NAMED)
}
