//! Which chat lines are said where there are more than anybody can read.
//!
//! Below [`LINES_A_SECOND`] every line is said at once. Above, each sender has one place in a queue: a second line of
//! theirs takes the place of their first, and the queue is served in turn, so that who writes a hundred lines is not
//! heard more often than who writes one. Whoever loses a line is told.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use haul_model::BuyerId;

use crate::limiter::{Limiter, Rate};

/// Lines a second that a room says at most. Nobody can read as many; more would only cost all readers' networks.
pub const LINES_A_SECOND: u32 = 250;
/// Senders whose line waits; of more, the one that has waited longest gives up its place. Two seconds of lines.
pub const MAX_WAITING: usize = 2 * LINES_A_SECOND as usize;
/// Senders who lost lines are told so often.
pub const TELL_EVERY: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_millis(50);

/// Lines that wait, of any kind.
#[derive(Debug)]
pub struct Sampler<T> {
    pace: Limiter<()>,
    /// Senders in the order of their turns.
    turns: VecDeque<BuyerId>,
    waiting: HashMap<BuyerId, T>,
    next_turn: Option<Instant>,
    /// Lost since they were told.
    lost: HashMap<BuyerId, u32>,
    tell_at: Option<Instant>,
}

impl<T> Default for Sampler<T> {
    fn default() -> Self {
        let every = Duration::from_secs(1) / LINES_A_SECOND;
        Self {
            // A burst of half a second: people all laugh at once.
            pace: Limiter::new(Rate { burst: LINES_A_SECOND / 2, every }),
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            next_turn: None,
            lost: HashMap::new(),
            tell_at: None,
        }
    }
}

impl<T> Sampler<T> {
    /// Takes a line; gives it back if it may be said at once.
    pub fn offer(&mut self, sender: &BuyerId, line: T, now: Instant) -> Option<T> {
        if self.turns.is_empty() && self.pace.take((), now).is_ok() {
            return Some(line);
        }
        if self.waiting.insert(sender.clone(), line).is_some() {
            self.lose(sender.clone(), now);
        } else {
            self.turns.push_back(sender.clone());
            if self.turns.len() > MAX_WAITING
                && let Some(first) = self.turns.pop_front()
            {
                self.waiting.remove(&first);
                self.lose(first, now);
            }
        }
        self.next_turn.get_or_insert(now + TURN);
        None
    }

    /// All that waits.
    pub fn all_waiting(&self) -> impl Iterator<Item = (&BuyerId, &T)> {
        self.waiting.iter()
    }

    /// What of somebody's waits is not said.
    pub fn drop_of(&mut self, sender: &BuyerId) -> Option<T> {
        let line = self.waiting.remove(sender)?;
        self.turns.retain(|other| other != sender);
        Some(line)
    }

    /// When [`Sampler::timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.next_turn, self.tell_at].into_iter().flatten().min()
    }

    /// The lines whose turn it is, and who has lost how many.
    pub fn timeout(&mut self, now: Instant) -> (Vec<T>, Vec<(BuyerId, u32)>) {
        let mut said = Vec::new();
        if self.next_turn.take_if(|at| *at <= now).is_some() {
            while !self.turns.is_empty() && self.pace.take((), now).is_ok() {
                said.extend(self.turns.pop_front().and_then(|sender| self.waiting.remove(&sender)));
            }
            if !self.turns.is_empty() {
                self.next_turn = Some(now + TURN);
            }
        }
        let told = match self.tell_at.take_if(|at| *at <= now) {
            Some(_) => self.lost.drain().collect(),
            None => Vec::new(),
        };
        (said, told)
    }

    fn lose(&mut self, sender: BuyerId, now: Instant) {
        *self.lost.entry(sender).or_default() += 1;
        self.tell_at.get_or_insert(now + TELL_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    fn who(n: usize) -> BuyerId {
        format!("p{n}").parse().unwrap()
    }

    #[test]
    fn a_quiet_room_says_everything_at_once() {
        let mut sampler = Sampler::default();
        let start = start();
        for n in 0..1_000 {
            let now = start + Duration::from_millis(10) * n;
            assert_eq!(sampler.offer(&who(0), n, now), Some(n));
        }
        assert_eq!(sampler.next_timeout(), None);
    }

    #[test]
    fn in_a_loud_room_each_sender_is_heard_as_often_and_each_loss_is_told() {
        let mut sampler = Sampler::default();
        let start = start();
        let mut heard = HashMap::<usize, u32>::new();
        let mut told = HashMap::<BuyerId, u32>::new();
        let mut offered = 0;
        // For ten seconds, one sender of a hundred writes ten times as much as each of the others: 10,900 lines a second.
        for tick in 0..1_000 {
            let now = start + Duration::from_millis(10) * tick;
            let (said, lost) = sampler.timeout(now);
            for sender in said {
                *heard.entry(sender).or_default() += 1;
            }
            for (sender, lines) in lost {
                *told.entry(sender).or_default() += lines;
            }
            for sender in (0..100).chain([0; 9]) {
                offered += 1;
                if let Some(sender) = sampler.offer(&who(sender), sender, now) {
                    *heard.entry(sender).or_default() += 1;
                }
            }
        }
        let (said, lost) = sampler.timeout(start + Duration::from_secs(11));
        for sender in said {
            *heard.entry(sender).or_default() += 1;
        }
        for (sender, lines) in lost {
            *told.entry(sender).or_default() += lines;
        }
        let total: u32 = heard.values().sum();
        let lost: u32 = told.values().sum();
        assert!((2_500..=2_900).contains(&total), "{total}");
        assert!(
            offered - total - lost <= 100,
            "what is neither said nor told still waits: {}",
            offered - total - lost
        );
        let loudest = heard[&0];
        let others = heard.iter().filter(|(sender, _)| **sender != 0).map(|(_, lines)| *lines);
        let (least, most) = (others.clone().min().unwrap(), others.max().unwrap());
        assert!(most - least <= 3 && loudest <= most + 12, "{least} {most} {loudest}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut sampler = Sampler::default();
        let start = start();
        for n in 0..10_000 {
            sampler.offer(&who(n), n, start);
        }
        assert_eq!((sampler.turns.len(), sampler.waiting.len()), (MAX_WAITING, MAX_WAITING));
    }
}
