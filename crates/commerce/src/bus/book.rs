//! What the bus of one live does, as a pure state machine: what every implementation does, too.

use std::{collections::VecDeque, time::Duration};

use haul_model::UnixMillis;

use super::{
    Appended, Asked, Batch, Changes, KEEP_ASKED, KEEP_BATCHES, KEEP_LINES, Kept, Lease, Left, MAX_READ, Told,
};

/// One live's bus.
#[derive(Debug, Default)]
pub struct BusBook {
    term: u64,
    /// Who has the lease, and until when.
    owner: Option<(u64, UnixMillis)>,
    batch: u64,
    told: VecDeque<(u64, Vec<u8>)>,
    left: Left,
    asked: VecDeque<(u64, Vec<u8>)>,
    asked_in_all: u64,
}

impl BusBook {
    /// See [`super::Bus::lease`].
    pub fn lease(&mut self, node: u64, take: bool, seen: u64, lasts: Duration, now: UnixMillis) -> Lease {
        let owner = self.owner.filter(|(_, until)| *until > now).map(|(owner, _)| owner);
        let mine = match owner {
            Some(owner) => owner == node,
            None => take,
        };
        if mine {
            if owner.is_none() {
                self.term = self.term.max(seen) + 1;
            }
            self.owner = Some((node, now + lasts));
        }
        Lease { mine, term: self.term, batch: self.batch, epoch: self.left.epoch.clone() }
    }

    /// See [`super::Bus::release`].
    pub fn release(&mut self, term: u64) {
        if term == self.term {
            self.owner = None;
        }
    }

    /// See [`super::Bus::append`].
    pub fn append(
        &mut self,
        node: u64,
        term: u64,
        batch: &Batch,
        lasts: Duration,
        now: UnixMillis,
    ) -> Appended {
        // Before the first lease there is no term: 0 is nobody's.
        if term == 0 || term != self.term || batch.number > self.batch + 1 {
            return Appended::Fenced;
        }
        self.owner = Some((node, now + lasts));
        if batch.number <= self.batch {
            return Appended::Done;
        }
        self.batch = batch.number;
        put(&mut self.told, [(batch.number, batch.told.clone())], KEEP_BATCHES);
        self.left.epoch.clone_from(&batch.epoch);
        self.left.offset = batch.offset;
        keep(&mut self.left.lines, &batch.lines, KEEP_LINES);
        let lists = self.left.changes.lists_mut().into_iter().zip(batch.changes.lists());
        for ((kept, new), most) in lists.zip(Changes::KEPT) {
            keep(kept, new, most);
        }
        for (offset, line) in &batch.rewritten {
            let back = batch.offset.checked_sub(*offset).and_then(|back| usize::try_from(back).ok());
            let at = back.and_then(|back| self.left.lines.len().checked_sub(back + 1));
            if let Some(kept) = at.and_then(|at| self.left.lines.get_mut(at)) {
                kept.clone_from(line);
            }
        }
        Appended::Done
    }

    /// See [`super::Bus::knows`].
    pub fn knows(&self) -> bool {
        self.term > 0
    }

    /// See [`super::Bus::replace`].
    pub fn replace(
        &mut self,
        node: u64,
        term: u64,
        kept: &Kept,
        lasts: Duration,
        now: UnixMillis,
    ) -> Appended {
        if term == 0 || term != self.term {
            return Appended::Fenced;
        }
        self.owner = Some((node, now + lasts));
        self.left.changes = kept.changes.clone();
        self.told.retain(|(number, _)| *number > kept.told);
        let heard: u64 = kept.asked.parse().unwrap_or(0);
        self.asked.retain(|(number, _)| *number > heard);
        Appended::Done
    }

    /// See [`super::Bus::told`].
    pub fn told(&self, after: u64) -> Told {
        self.told.iter().filter(|(number, _)| *number > after).take(MAX_READ).cloned().collect()
    }

    /// See [`super::Bus::left`].
    pub fn left(&self) -> Left {
        self.left.clone()
    }

    /// See [`super::Bus::ask`].
    pub fn ask(&mut self, asked: &[u8]) {
        self.asked_in_all += 1;
        put(&mut self.asked, [(self.asked_in_all, asked.to_owned())], KEEP_ASKED);
    }

    /// See [`super::Bus::asked`].
    pub fn asked(&self, after: &str) -> Asked {
        let from = after.parse().unwrap_or(0);
        let found: Vec<_> =
            self.asked.iter().filter(|(number, _)| *number > from).take(MAX_READ).cloned().collect();
        let end = found.last().map_or_else(|| after.to_owned(), |(number, _)| number.to_string());
        (found.into_iter().map(|(_, asked)| asked).collect(), end)
    }
}

fn put<T>(kept: &mut VecDeque<T>, new: impl IntoIterator<Item = T>, most: usize) {
    kept.extend(new);
    kept.drain(..kept.len().saturating_sub(most));
}

fn keep(kept: &mut Vec<Vec<u8>>, new: &[Vec<u8>], most: usize) {
    kept.extend_from_slice(new);
    kept.drain(..kept.len().saturating_sub(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> UnixMillis {
        UnixMillis(1_000_000 + ms)
    }

    fn batch(number: u64) -> Batch {
        Batch { number, told: vec![number as u8], epoch: "e".into(), offset: number, ..Batch::default() }
    }

    #[test]
    fn one_owner_at_a_time_and_a_term_that_only_rises() {
        let mut book = BusBook::default();
        assert!(!book.lease(1, false, 0, LASTS, at(0)).mine, "looking takes nothing");
        assert_eq!(book.lease(1, true, 0, LASTS, at(0)).term, 1);
        assert!(!book.lease(2, true, 0, LASTS, at(4_999)).mine);
        let taken = book.lease(2, true, 7, LASTS, at(5_000));
        assert!(taken.mine && taken.term == 8, "above all that anybody has seen");
        assert_eq!(book.append(1, 1, &batch(1), LASTS, at(5_001)), Appended::Fenced);
        assert_eq!(book.append(2, 8, &batch(1), LASTS, at(5_001)), Appended::Done);
        book.release(1);
        assert!(!book.lease(1, true, 8, LASTS, at(5_002)).mine, "an earlier owner gives nothing back");
        book.release(8);
        assert_eq!(book.lease(1, true, 8, LASTS, at(5_003)).term, 9);
    }

    #[test]
    fn a_batch_is_there_once_and_in_its_place() {
        let mut book = BusBook::default();
        book.lease(1, true, 0, LASTS, at(0));
        for number in [1, 1, 2, 1, 2] {
            assert_eq!(book.append(1, 1, &batch(number), LASTS, at(1)), Appended::Done);
        }
        assert_eq!(book.append(1, 1, &batch(4), LASTS, at(1)), Appended::Fenced, "the one before is lost");
        assert_eq!(book.told(0), [(1, vec![1]), (2, vec![2])]);
        assert_eq!(book.told(1), [(2, vec![2])]);
        assert_eq!(book.left().offset, 2);
    }

    #[test]
    fn an_append_keeps_the_lease() {
        let mut book = BusBook::default();
        book.lease(1, true, 0, LASTS, at(0));
        book.append(1, 1, &batch(1), LASTS, at(4_000));
        assert!(!book.lease(2, true, 1, LASTS, at(8_000)).mine);
    }
}
