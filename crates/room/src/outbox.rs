//! What one reader still has to be sent, by importance.
//!
//! Replies come first, then what concerns money, then the room in its order, then what merely colours it. A reader who
//! is too slow loses chat first; a reader who loses what may not be lost is closed, and told to resume.

use std::{collections::VecDeque, sync::Arc};

use haul_model::{HoldId, OrderId, QuestionId, SaleId, SessionId};
use serde::{Deserialize, Serialize};

use crate::{Batch, Line};

/// Bytes one reader may have waiting; more closes the connection. The largest snapshot fits, with room for what comes
/// while it is sent. Lines to all are shared: 10,000 readers of one room who don't read cost little more than one.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Replies one reader may have waiting; more closes the connection: a client that asks and never reads.
pub const MAX_REPLIES: usize = 256;
/// Chat lines one reader may have waiting; more drops the oldest, counted.
pub const MAX_CHAT: usize = 128;

/// How important, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lane {
    /// Answers to this reader's requests. Never dropped.
    Reply,
    /// Stock, and this reader's holds and orders. The latest of each replaces what waits; never dropped.
    Commerce,
    /// The room's events in their order, never dropped.
    Room,
    /// Chat, in its place among the room's events; the oldest is dropped when there is too much.
    Chat,
    /// Counts. The latest of each replaces what waits.
    Ambient,
}

/// What a line is about, where only the latest line about it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// A sale's stock.
    Stock(SaleId),
    /// A hold.
    Hold(HoldId),
    /// An order.
    Order(OrderId),
    /// How many watch.
    Viewers,
    /// Likes.
    Likes,
    /// Who has come.
    Joined,
    /// A question's votes.
    Question(QuestionId),
    /// The poll's votes.
    PollVotes,
    /// The giveaway's entries.
    GiveawayEntries,
    /// What this reader is sent of the pictures.
    Quality(SessionId),
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It waits in the place of an older one about the same thing.
    Replaced,
    /// It waits, and so many older chat lines are gone.
    ChatDropped(usize),
    /// There is no room left: close the connection. Nothing more is taken.
    Overflow,
}

/// What is to be sent next.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A line.
    Line(Line),
    /// Lines that all readers are sent together.
    Batch(Arc<Batch>),
}

/// What waits of the room.
#[derive(Debug)]
enum Entry {
    /// True marks chat.
    Line(bool, Line),
    Batch(Arc<Batch>),
}

/// The lines that wait for one reader.
#[derive(Debug, Default)]
pub struct Outbox {
    replies: VecDeque<Line>,
    /// Keyed lines, few: one a sale, standing hold or recent order. Searched, not indexed.
    commerce: VecDeque<(Option<Key>, Line)>,
    /// Room and chat together, since their order matters to resuming.
    room: VecDeque<Entry>,
    /// What comes before all of `room`: nearly always all that there is of it, and at hand without another look into memory.
    first: Option<Arc<Batch>>,
    ambient: VecDeque<(Option<Key>, Line)>,
    /// How many of `first` and `room` are chat.
    chat: usize,
    bytes: usize,
    overflown: bool,
}

impl Outbox {
    /// Adds a line.
    pub fn push(&mut self, lane: Lane, key: Option<Key>, line: Line) -> Pushed {
        if self.overflown {
            return Pushed::Overflow;
        }
        let added = line.len();
        let pushed = match lane {
            Lane::Reply => {
                self.replies.push_back(line);
                Pushed::Queued
            }
            Lane::Commerce => push_latest(&mut self.commerce, &mut self.bytes, key, line),
            Lane::Ambient => push_latest(&mut self.ambient, &mut self.bytes, key, line),
            Lane::Room => {
                self.room.push_back(Entry::Line(false, line));
                Pushed::Queued
            }
            Lane::Chat => {
                self.room.push_back(Entry::Line(true, line));
                self.chat += 1;
                self.drop_oldest_chat()
            }
        };
        self.bytes += added;
        self.bounded(pushed)
    }

    /// Adds lines of the room that everybody is told.
    pub fn push_batch(&mut self, batch: &Arc<Batch>) -> Pushed {
        if self.overflown {
            return Pushed::Overflow;
        }
        match self.first.is_none() && self.room.is_empty() {
            true => self.first = Some(batch.clone()),
            false => self.room.push_back(Entry::Batch(batch.clone())),
        }
        self.chat += batch.chat();
        self.bytes += batch.bytes();
        let pushed = self.drop_oldest_chat();
        self.bounded(pushed)
    }

    /// What to send next.
    pub fn pop(&mut self) -> Option<Piece> {
        let line = match self.replies.pop_front() {
            Some(line) => line,
            None => match self.commerce.pop_front() {
                Some((_, line)) => line,
                None => match self.first.take().map(Entry::Batch).or_else(|| self.room.pop_front()) {
                    Some(Entry::Batch(batch)) => {
                        self.chat -= batch.chat();
                        self.bytes -= batch.bytes();
                        return Some(Piece::Batch(batch));
                    }
                    Some(Entry::Line(is_chat, line)) => {
                        self.chat -= usize::from(is_chat);
                        line
                    }
                    None => self.ambient.pop_front()?.1,
                },
            },
        };
        self.bytes -= line.len();
        Some(Piece::Line(line))
    }

    /// Whether something that may not be lost was lost: the connection must be closed.
    pub fn overflown(&self) -> bool {
        self.overflown
    }

    fn bounded(&mut self, pushed: Pushed) -> Pushed {
        if self.bytes > MAX_BYTES || self.replies.len() > MAX_REPLIES {
            *self = Self { overflown: true, ..Self::default() };
            return Pushed::Overflow;
        }
        pushed
    }

    fn drop_oldest_chat(&mut self) -> Pushed {
        if self.chat > MAX_CHAT
            && let Some(first) = self.first.take()
        {
            self.room.push_front(Entry::Batch(first));
        }
        let mut dropped = 0;
        let mut from = 0;
        while self.chat > MAX_CHAT
            && let Some(oldest) = (from..self.room.len()).find(|at| match &self.room[*at] {
                Entry::Line(is_chat, _) => *is_chat,
                Entry::Batch(batch) => batch.chat() > 0,
            })
        {
            // Whatever stands before it has no chat.
            from = oldest;
            match self.room.remove(oldest) {
                Some(Entry::Line(_, line)) => {
                    self.chat -= 1;
                    self.bytes -= line.len();
                    dropped += 1;
                }
                // Who is that slow gets what is left of it line by line.
                Some(Entry::Batch(batch)) => {
                    for (is_chat, line) in batch.marked().iter().rev() {
                        self.room.insert(oldest, Entry::Line(*is_chat, line.clone()));
                    }
                }
                None => break,
            }
        }
        if dropped > 0 { Pushed::ChatDropped(dropped) } else { Pushed::Queued }
    }
}

fn push_latest(
    lane: &mut VecDeque<(Option<Key>, Line)>,
    bytes: &mut usize,
    key: Option<Key>,
    line: Line,
) -> Pushed {
    if key.is_some()
        && let Some((_, waiting)) = lane.iter_mut().find(|(other, _)| *other == key)
    {
        *bytes -= waiting.len();
        *waiting = line;
        return Pushed::Replaced;
    }
    lane.push_back((key, line));
    Pushed::Queued
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::copy_from_slice(text.as_bytes())
    }

    fn stock(sale: &str) -> Option<Key> {
        Some(Key::Stock(sale.parse().unwrap()))
    }

    fn drain(outbox: &mut Outbox) -> Vec<Line> {
        let pieces = std::iter::from_fn(|| outbox.pop());
        pieces
            .flat_map(|piece| match piece {
                Piece::Line(line) => vec![line],
                Piece::Batch(batch) => batch.lines().cloned().collect(),
            })
            .collect()
    }

    fn batch(lines: &[(bool, &str)]) -> Arc<Batch> {
        Arc::new(Batch::new(lines.iter().map(|(is_chat, text)| (*is_chat, line(text))).collect()))
    }

    #[test]
    fn money_overtakes_talk_and_the_room_keeps_its_order() {
        let mut outbox = Outbox::default();
        outbox.push(Lane::Ambient, Some(Key::Viewers), line("9 watch"));
        outbox.push(Lane::Chat, None, line("hi"));
        outbox.push(Lane::Room, None, line("pin"));
        outbox.push(Lane::Chat, None, line("nice"));
        outbox.push(Lane::Commerce, stock("s"), line("3 left"));
        outbox.push(Lane::Reply, None, line("held"));
        assert_eq!(drain(&mut outbox), ["held", "3 left", "hi", "pin", "nice", "9 watch"].map(line));
        assert_eq!(outbox.bytes, 0);
        assert_eq!(outbox.chat, 0);
    }

    #[test]
    fn only_the_latest_stock_of_each_sale_waits() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(Lane::Commerce, stock("a"), line("a: 3")), Pushed::Queued);
        assert_eq!(outbox.push(Lane::Commerce, stock("b"), line("b: 7")), Pushed::Queued);
        assert_eq!(outbox.push(Lane::Commerce, stock("a"), line("a: 2")), Pushed::Replaced);
        assert_eq!(drain(&mut outbox), ["a: 2", "b: 7"].map(line));
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_chat_and_nothing_else() {
        let mut outbox = Outbox::default();
        outbox.push(Lane::Room, None, line("pin"));
        for n in 0..MAX_CHAT {
            assert_eq!(outbox.push(Lane::Chat, None, line(&n.to_string())), Pushed::Queued);
        }
        assert_eq!(outbox.push(Lane::Chat, None, line("last")), Pushed::ChatDropped(1));
        let lines = drain(&mut outbox);
        assert_eq!(lines.len(), MAX_CHAT + 1);
        assert_eq!(lines[..2], ["pin", "1"].map(line));
        assert_eq!(lines.last(), Some(&line("last")));
    }

    #[test]
    fn what_all_are_told_together_keeps_its_place_and_its_rules() {
        let mut outbox = Outbox::default();
        outbox.push(Lane::Room, None, line("before"));
        let told = batch(&[(true, "hi"), (false, "pin"), (true, "nice")]);
        assert_eq!(outbox.push_batch(&told), Pushed::Queued);
        outbox.push(Lane::Chat, None, line("after"));
        outbox.push(Lane::Commerce, stock("s"), line("3 left"));
        assert_eq!(drain(&mut outbox), ["3 left", "before", "hi", "pin", "nice", "after"].map(line));
        assert_eq!((outbox.bytes, outbox.chat), (0, 0));

        // Too slow for it: its oldest chat goes, and the rest stays where it was.
        outbox.push_batch(&told);
        for n in 1..MAX_CHAT {
            outbox.push(Lane::Chat, None, line(&n.to_string()));
        }
        assert_eq!(outbox.push_batch(&batch(&[(true, "a"), (true, "b")])), Pushed::ChatDropped(2));
        let lines = drain(&mut outbox);
        assert_eq!(lines.len(), MAX_CHAT + 1);
        assert_eq!(lines[..2], ["pin", "2"].map(line));
        assert_eq!(lines[MAX_CHAT - 1..], ["a", "b"].map(line));
        assert_eq!((outbox.bytes, outbox.chat), (0, 0));
    }

    #[test]
    fn a_reader_who_never_reads_is_closed_and_costs_nothing_more() {
        let mut outbox = Outbox::default();
        let overflow = (0..=MAX_REPLIES).map(|_| outbox.push(Lane::Reply, None, line("r"))).last();
        assert_eq!(overflow, Some(Pushed::Overflow));
        assert!(outbox.overflown());
        assert!(outbox.pop().is_none());
        assert_eq!(outbox.push(Lane::Room, None, line("x")), Pushed::Overflow);

        let mut outbox = Outbox::default();
        let big = line(&"x".repeat(MAX_BYTES));
        assert_eq!(outbox.push(Lane::Room, None, big), Pushed::Queued);
        assert_eq!(outbox.push(Lane::Room, None, line("x")), Pushed::Overflow);
    }
}
