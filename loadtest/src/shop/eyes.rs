//! What one reader sees of the room: how old what comes is, what it has seen of the stock, and whether it was told all.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::World;
use crate::{
    channel::{Position, kind, place},
    network::Network,
    plan::Number,
    tally::{Count, Time},
};

/// Of how many channels one looks into every stock event: parsing them all would be load on the harness alone.
const OBSERVE_EVERY: Number = 20;
/// Holes in the room's order that one reader remembers; of more, the latest are not counted.
const MAX_HOLES: usize = 64;

/// One reader's view of the events.
#[derive(Debug, Default)]
pub(super) struct Eyes {
    /// Whether it looks into every event.
    observes: bool,
    held: usize,
    sold: usize,
    /// How far it has read.
    position: Option<Position>,
    holes: Vec<Hole>,
    /// Over which it is told.
    network: Network,
}

/// Numbers of the room's order that a reader was not told.
#[derive(Debug, PartialEq, Eq)]
struct Hole {
    epoch: String,
    first: u64,
    last: u64,
}

/// Numbered events other than chat lines, of which a reader who is slow loses some, that anybody was told.
pub(super) type Kept = BTreeSet<(String, u64)>;

impl Eyes {
    /// Those of an actor.
    pub(super) fn of(number: Number, network: &Network) -> Self {
        Self { observes: number.is_multiple_of(OBSERVE_EVERY), network: network.clone(), ..Self::default() }
    }

    /// The host's.
    pub(super) fn of_host() -> Self {
        Self { observes: true, ..Self::default() }
    }

    /// After what a new connection is to go on.
    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// A new connection's snapshot. Returns whether what was missed follows; `None` for the first one.
    pub(super) fn greeted(&mut self, hello: &Value) -> Option<bool> {
        let recovered = hello["resumed"]["recovered"] == true;
        if self.position.is_some() && recovered {
            return Some(true);
        }
        let epoch = hello["epoch"].as_str().unwrap_or_default().to_owned();
        let now = Position { epoch, offset: hello["offset"].as_u64().unwrap_or(0) };
        self.position.replace(now).map(|_| false)
    }

    /// A numbered event has come.
    fn read(&mut self, epoch: &str, offset: u64) {
        let Some(position) = &mut self.position else { return };
        if position.epoch != epoch {
            *position = Position { epoch: epoch.to_owned(), offset };
            return;
        }
        if offset > position.offset + 1 && self.holes.len() < MAX_HOLES {
            let (first, last) = (position.offset + 1, offset - 1);
            self.holes.push(Hole { epoch: epoch.to_owned(), first, last });
        }
        position.offset = position.offset.max(offset);
    }

    /// How many events it was not told that others were.
    pub(super) fn missed(&self, kept: &Kept) -> u64 {
        let within = |hole: &Hole| {
            kept.range((hole.epoch.clone(), hole.first)..=(hole.epoch.clone(), hole.last)).count() as u64
        };
        self.holes.iter().map(within).sum()
    }

    /// Whether something is as old as that by the server's doing, and not because our own network was gone.
    fn is_fair(&self, age: Duration) -> bool {
        self.network.back_for().is_none_or(|back| age <= back)
    }
}

impl World {
    /// An event has come to a reader.
    pub(super) fn event(&self, text: &str, eyes: &mut Eyes) {
        if let Some((epoch, offset)) = place(text) {
            eyes.read(epoch, offset);
            if eyes.observes && kind(text) != "chat.message" {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.insert((epoch.to_owned(), offset));
            }
        }
        let mut tally = self.tally.lock();
        tally.count(Count::ChannelEvents, 1);
        match kind(text) {
            "chat.message" => {
                if let Some(age) = self.age(text) {
                    tally.count(Count::ChatDelivered, 1);
                    if eyes.is_fair(age) {
                        tally.record(Time::Chat, age);
                    }
                }
            }
            "likes" if eyes.observes => {
                drop(tally);
                let event: Value = serde_json::from_str(text).unwrap_or_default();
                self.likes_told(event["total"].as_u64());
            }
            "stock.changed" if eyes.observes => {
                drop(tally);
                self.stock_event(text, eyes);
            }
            "pin.changed" => {
                drop(tally);
                let event: Value = serde_json::from_str(text).unwrap_or_default();
                let pinned = self.records().pinned.clone();
                if let Some((product, at)) = pinned
                    && event["pin"]["product_id"] == product.as_str()
                    && eyes.is_fair(at.elapsed())
                {
                    self.record(Time::Pin, at.elapsed());
                }
            }
            _ => {}
        }
    }

    /// How long ago the changes were acknowledged that this event is the first to show to this reader.
    fn stock_event(&self, text: &str, eyes: &mut Eyes) {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let ours = self.offer.borrow().as_ref().is_some_and(|offer| event["sale_id"] == offer.sale.as_str());
        if !ours {
            return;
        }
        let number = |name: &str| event[name].as_u64().unwrap_or(0) as usize;
        let (sold, taken) = (number("sold"), number("sold") + number("held"));
        self.available.store(number("available") as u32, Ordering::Relaxed);
        let now = Instant::now();
        let mut ages = Vec::new();
        {
            let records = self.records();
            let mut see = |seen: &mut usize, now_seen: usize, at: &[Instant]| {
                let upto = now_seen.min(at.len());
                if upto > *seen {
                    ages.extend(at[*seen..upto].iter().map(|at| now.saturating_duration_since(*at)));
                    *seen = upto;
                }
            };
            see(&mut eyes.sold, sold, &records.sold_at);
            if !records.given_back {
                see(&mut eyes.held, taken, &records.held_at);
            }
        }
        let mut tally = self.tally.lock();
        for age in ages.into_iter().filter(|age| eyes.is_fair(*age)) {
            tally.record(Time::StockEvent, age);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(epoch: &str, offset: u64) -> Value {
        json!({ "epoch": epoch, "offset": offset, "resumed": { "recovered": false } })
    }

    #[test]
    fn what_a_reader_was_not_told_counts_if_it_is_kept_for_all() {
        let mut eyes = Eyes::default();
        assert_eq!(eyes.greeted(&at("e", 10)), None);
        for offset in [11, 12, 15, 14, 16] {
            eyes.read("e", offset);
        }
        let kept: Kept = [12, 13, 20].map(|offset| ("e".to_owned(), offset)).into();
        assert_eq!(eyes.missed(&kept), 1, "13; 14 was a line of the chat");
        eyes.read("other", 30);
        assert_eq!(eyes.missed(&kept), 1, "another order begins anywhere");
    }

    #[test]
    fn who_comes_back_goes_on_where_they_were_or_at_the_snapshot() {
        let mut eyes = Eyes::default();
        eyes.greeted(&at("e", 10));
        let mut hello = at("e", 20);
        hello["resumed"]["recovered"] = json!(true);
        assert_eq!(eyes.greeted(&hello), Some(true));
        let here = |offset| Position { epoch: "e".to_owned(), offset };
        assert_eq!(eyes.position(), Some(&here(10)), "what was missed is told now");
        assert_eq!(eyes.greeted(&at("e", 25)), Some(false));
        assert_eq!(eyes.position(), Some(&here(25)));
    }
}
