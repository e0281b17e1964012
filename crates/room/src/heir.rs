//! A room that goes on in another process: what it leaves, and how it is taken up.
//!
//! What notes keep (`Room::restore`) outlives everything. Of what both know, such as questions, an estate knows more, and is
//! believed, as long as nothing of it is gone. The rest of a room is the last lines of its order, and the
//! changes that made it what it is: an heir makes those again, in silence, and numbers on from the last line.

use haul_model::Now;
use serde::{Deserialize, Serialize};

use crate::{Change, Line, Room};

/// A change, and where the order stood before it: made again, it makes the same events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The place of the last event before it.
    pub after: u64,
    /// The how manieth change it is: those with the same place are told apart by it, in whatever lists they were kept.
    #[serde(default)]
    pub number: u64,
    /// What was done.
    pub change: Change,
}

/// What a room has become since the last time that somebody asked: to be written down before it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Numbered lines, in order; the last has the place at which the room stands.
    pub lines: Vec<Line>,
    /// Changes, in order.
    pub made: Vec<Made>,
    /// Lines that say something else now, with their places.
    pub rewritten: Vec<(u64, Line)>,
}

/// What an earlier owner has left of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Estate {
    /// The order's epoch.
    pub epoch: String,
    /// The place of the last line.
    pub offset: u64,
    /// The last lines, without a gap up to `offset`.
    pub lines: Vec<Line>,
    /// Changes, by their order. The oldest may be gone.
    pub made: Vec<Made>,
    /// Whether all changes are among them that show something: what they don't know of is in sight no more. Else, notes know better.
    pub complete: bool,
}

impl Room {
    /// From here on [`Room::news`] says what is new.
    pub fn watch(&mut self) {
        self.order.watch();
        self.fresh.get_or_insert_default();
    }

    /// What is new since the last call.
    pub fn news(&mut self) -> News {
        let made = self.fresh.as_mut().map(std::mem::take).unwrap_or_default();
        let numbers = self.made + 1..;
        self.made += made.len() as u64;
        let made = made.into_iter().zip(numbers);
        let made = made.map(|((after, change), number)| Made { after, number, change }).collect();
        News { lines: self.order.fresh(), made, rewritten: self.order.rewritten() }
    }

    /// Goes on with a room that another process has left: same epoch, same places, and who comes back there has missed
    /// what they would have missed here.
    pub fn inherit(&mut self, estate: Estate, now: Now) {
        let Estate { epoch, offset, lines, made, complete } = estate;
        self.inherited = complete;
        let (fresh, waiting) = (self.fresh.take(), self.effects.len());
        self.order.restore(epoch, offset, lines);
        for Made { after, number, change } in made {
            self.made = self.made.max(number);
            if let Change::Entered { id, by, name } = change {
                // Its giveaway is in the notes.
                self.entries_left.push((id, by, name));
                continue;
            }
            if let Change::Forgotten { who, .. } = &change {
                // Once more when the notes are restored, which may be older.
                self.forgotten_left.push(who.clone());
            }
            self.order.again(Some(after));
            self.apply(change, now);
            self.effects.truncate(waiting);
        }
        self.order.again(None);
        self.fresh = fresh;
    }

    pub(crate) fn note_fresh(&mut self, change: &Change) {
        if self.fresh.is_some() && !change.is_noted() {
            let after = self.order.position().1;
            if let Some(fresh) = &mut self.fresh {
                fresh.push((after, change.clone()));
            }
        }
    }
}
