//! The order of a room's events, and what who comes back has missed.

use std::collections::VecDeque;

use haul_wire::{Event, Position, encode_event};
use serde_json::Value;

use crate::Line;

/// Events kept for those who come back; who missed more gets a snapshot instead. At 10 lines a second, three minutes.
pub const MAX_HISTORY: usize = 2048;
/// Bytes of events kept; the oldest go first.
pub const MAX_HISTORY_BYTES: usize = 1024 * 1024;

/// Numbers events.
#[derive(Debug)]
pub(crate) struct Order {
    /// Distinguishes this order from one before a restart.
    epoch: String,
    /// Of the last numbered event.
    offset: u64,
    /// The last numbered events; the newest has `offset`.
    history: VecDeque<Line>,
    history_bytes: usize,
    /// While changes of an earlier owner's are made again: the place of the last event that they make. Nothing is
    /// numbered or kept meanwhile.
    again: Option<u64>,
    /// Lines numbered since they were last asked for, where somebody does ask.
    fresh: Option<Vec<Line>>,
    /// Lines that say something else since, with their places, where somebody asks.
    rewritten: Vec<(u64, Line)>,
}

impl Order {
    pub(crate) fn new(epoch: String) -> Self {
        Self {
            epoch,
            offset: 0,
            history: VecDeque::new(),
            history_bytes: 0,
            again: None,
            fresh: None,
            rewritten: Vec::new(),
        }
    }

    pub(crate) fn position(&self) -> (&str, u64) {
        (&self.epoch, self.again.unwrap_or(self.offset))
    }

    /// Goes on where an earlier owner stopped, with the last lines that it numbered.
    pub(crate) fn restore(&mut self, epoch: String, offset: u64, lines: Vec<Line>) {
        (self.epoch, self.offset) = (epoch, offset);
        self.history_bytes = lines.iter().map(Line::len).sum();
        self.history = lines.into();
        self.trim();
    }

    /// From here on, says which lines are new.
    pub(crate) fn watch(&mut self) {
        self.fresh.get_or_insert_default();
    }

    /// The lines numbered since the last call; none unless they are watched.
    pub(crate) fn fresh(&mut self) -> Vec<Line> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The lines that say something else since the last call, with their places; none unless they are watched.
    pub(crate) fn rewritten(&mut self) -> Vec<(u64, Line)> {
        std::mem::take(&mut self.rewritten)
    }

    /// The next events are made again: the first one's place is after `Some` of these. `None` ends it.
    pub(crate) fn again(&mut self, from: Option<u64>) {
        self.again = from;
    }

    /// Gives an event the next offset, and keeps it for those who come back.
    pub(crate) fn record(&mut self, event: &Event) -> Line {
        if let Some(offset) = &mut self.again {
            *offset += 1;
            return encode_event(&self.epoch, self.again, event).into();
        }
        self.offset += 1;
        let line = Line::from(encode_event(&self.epoch, Some(self.offset), event));
        self.history_bytes += line.len();
        self.history.push_back(line.clone());
        if let Some(fresh) = &mut self.fresh {
            fresh.push(line.clone());
        }
        self.trim();
        line
    }

    fn trim(&mut self) {
        while self.history.len() > MAX_HISTORY || self.history_bytes > MAX_HISTORY_BYTES {
            match self.history.pop_front() {
                Some(oldest) => self.history_bytes -= oldest.len(),
                None => break,
            }
        }
    }

    /// Tells something else to those who come back, in the place of an event: its offset stays, what it said does not.
    pub(crate) fn rewrite(&mut self, offset: u64, event: &Event) {
        self.put_in_place(offset, encode_event(&self.epoch, Some(offset), event).into());
    }

    fn put_in_place(&mut self, offset: u64, line: Line) {
        let back = usize::try_from(self.offset.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(kept) =
            self.history.len().checked_sub(back.saturating_add(1)).and_then(|at| self.history.get_mut(at))
        else {
            return;
        };
        self.history_bytes = self.history_bytes - kept.len() + line.len();
        kept.clone_from(&line);
        // Made again, it is in its place already where heirs look.
        if self.fresh.is_some() && self.again.is_none() {
            self.rewritten.push((offset, line));
        }
    }

    /// Has `amend` change what kept events say, of those that `mark` stands in. They are looked for in the lines themselves, so
    /// that it does not matter who has numbered them.
    pub(crate) fn amend(&mut self, mark: &str, amend: impl Fn(&mut Value)) {
        let first = (self.offset + 1).saturating_sub(self.history.len() as u64);
        let mut amended = Vec::new();
        for (offset, line) in (first..).zip(&self.history) {
            if str::from_utf8(line).is_ok_and(|line| line.contains(mark))
                && let Ok(said) = serde_json::from_slice::<Value>(line)
            {
                // Written anew only where it says something else: an heir, who has later lines too, leaves those as they are.
                let mut other = said.clone();
                amend(&mut other);
                if other != said {
                    amended.push((offset, Line::from(other.to_string())));
                }
            }
        }
        for (offset, line) in amended {
            self.put_in_place(offset, line);
        }
    }

    /// An event without a place.
    pub(crate) fn line(&self, event: &Event) -> Line {
        encode_event(&self.epoch, None, event).into()
    }

    /// An event with the place of the last one: whoever has read it stands where they stood.
    pub(crate) fn line_here(&self, event: &Event) -> Line {
        let (epoch, offset) = self.position();
        encode_event(epoch, Some(offset), event).into()
    }

    /// What somebody who had read up to `position` has missed: nothing but those lines, oldest first. `None` where that
    /// can't be known any more, or never was.
    pub(crate) fn missed(&self, position: &Position) -> Option<Vec<Line>> {
        if position.epoch != self.epoch {
            return None;
        }
        let missed = usize::try_from(self.offset.checked_sub(position.offset)?).ok()?;
        let first = self.history.len().checked_sub(missed)?;
        Some(self.history.range(first..).cloned().collect())
    }
}
