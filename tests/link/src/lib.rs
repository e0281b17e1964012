//! One direction of an emulated network link: a bottleneck with a queue, then a wire that delays, loses, reorders and
//! doubles datagrams.
//!
//! Pure: datagrams and the time go in, datagrams come out when their time has come; the same seed and the same input
//! give the same output. What a datagram says and where it goes is the caller's business.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod profile;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

pub use profile::{Bursts, Profile, ProfileError, Queue};

/// What became of the datagrams so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams that were given to the link.
    pub pushed: u64,
    /// Those that came out, doubles included.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// Those that found the queue full.
    pub dropped_by_queue: u64,
    /// Those that were lost on the wire.
    pub dropped_by_loss: u64,
    /// Those that came out twice.
    pub duplicated: u64,
    /// Those that were held back, so that later ones overtook them.
    pub reordered: u64,
}

/// One direction of a link. `T` is a datagram.
#[derive(Debug)]
pub struct Link<T> {
    profile: Profile,
    random: Random,
    /// Whether the wire is in a burst of losses.
    in_burst: bool,
    /// What waits for the bottleneck; the first is on its way through it. Bounded by [`Profile::queue`].
    queue: VecDeque<T>,
    queued_bytes: usize,
    /// When the first of the queue is through the bottleneck.
    head_through: Option<Instant>,
    /// What is on the wire, by arrival and order of departure. Bounded by the rate and the delay.
    wire: BTreeMap<(Instant, u64), T>,
    departures: u64,
    /// The latest arrival of those in order: jitter does not reorder.
    last_arrival: Option<Instant>,
    stats: Stats,
}

impl<T: AsRef<[u8]> + Clone> Link<T> {
    /// An idle link. Equal seeds give equal links.
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            random: Random(seed),
            in_burst: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            head_through: None,
            wire: BTreeMap::new(),
            departures: 0,
            last_arrival: None,
            stats: Stats::default(),
        }
    }

    /// What the link is like.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What became of the datagrams so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Payload bytes that wait for the bottleneck.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// From `now` on the link is like this. What is queued stays queued and leaves at the new rate; what is on the wire
    /// is not touched.
    pub fn set_profile(&mut self, now: Instant, profile: Profile) {
        self.advance(now);
        if let Some(through) = self.head_through {
            // The part of the first datagram that is not through yet takes its share of the new time.
            let head = self.queue.front().map_or(0, |datagram| datagram.as_ref().len());
            let (before, after) = (self.profile.time_of(head), profile.time_of(head));
            let left = through.saturating_duration_since(now);
            let share = left.as_secs_f64() / before.as_secs_f64().max(f64::MIN_POSITIVE);
            self.head_through = Some(now + after.mul_f64(share.min(1.0)));
        }
        self.profile = profile;
        self.advance(now);
    }

    /// Takes a datagram that the sender sends now.
    pub fn push(&mut self, now: Instant, datagram: T) {
        self.advance(now);
        self.stats.pushed += 1;
        let bytes = datagram.as_ref().len();
        if self.queued_bytes + bytes > self.profile.queue_bytes() {
            self.stats.dropped_by_queue += 1;
            return;
        }
        if self.head_through.is_none() {
            self.head_through = Some(now + self.profile.time_of(bytes));
        }
        self.queue.push_back(datagram);
        self.queued_bytes += bytes;
        self.advance(now);
    }

    /// The next datagram that has arrived by now.
    pub fn poll(&mut self, now: Instant) -> Option<T> {
        self.advance(now);
        let first = self.wire.first_entry().filter(|entry| entry.key().0 <= now)?;
        let datagram = first.remove();
        self.stats.forwarded += 1;
        self.stats.forwarded_bytes += datagram.as_ref().len() as u64;
        Some(datagram)
    }

    /// When to call [`Link::poll`] again; `None` if nothing is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
        arrival.into_iter().chain(self.head_through).min()
    }

    /// Lets everything through the bottleneck that is through it by now.
    fn advance(&mut self, now: Instant) {
        while let Some(through) = self.head_through.filter(|at| *at <= now) {
            if let Some(datagram) = self.queue.pop_front() {
                self.queued_bytes -= datagram.as_ref().len();
                self.depart(through, datagram);
            }
            let next = self.queue.front().map(|datagram| datagram.as_ref().len());
            self.head_through = next.map(|bytes| through + self.profile.time_of(bytes));
        }
    }

    /// Sends a datagram along the wire. Each chance is drawn each time, so that what one setting decides does not depend
    /// on another.
    fn depart(&mut self, at: Instant, datagram: T) {
        let Profile { delay, jitter, loss, bursts, reorder, reorder_by, duplicate, .. } = self.profile;
        let [flip, lost, held_back, twice, late] = std::array::from_fn(|_| self.random.share());
        let loss = match bursts {
            None => loss,
            Some(Bursts { enter, leave, loss: inside }) => {
                self.in_burst = if self.in_burst { flip >= leave } else { flip < enter };
                if self.in_burst { inside } else { loss }
            }
        };
        if lost < loss {
            self.stats.dropped_by_loss += 1;
            return;
        }
        let in_order = (at + delay + jitter.mul_f64(late)).max(self.last_arrival.unwrap_or(at));
        let mut arrival = in_order;
        if held_back < reorder {
            self.stats.reordered += 1;
            arrival += reorder_by;
        } else {
            self.last_arrival = Some(in_order);
        }
        if twice < duplicate {
            self.stats.duplicated += 1;
            self.arrive(arrival, datagram.clone());
        }
        self.arrive(arrival, datagram);
    }

    fn arrive(&mut self, at: Instant, datagram: T) {
        self.wire.insert((at, self.departures), datagram);
        self.departures += 1;
    }
}

/// SplitMix64: the same numbers on every machine and with every version of everything, so that a seed names a run.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, but not including, 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A link's two directions, as seen by whoever is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How long something of `bytes` takes at `rate_bps`.
fn time_at(rate_bps: u64, bytes: usize) -> Duration {
    let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate_bps.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
