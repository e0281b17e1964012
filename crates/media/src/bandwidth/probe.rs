//! Finding out whether a network carries more than is being sent, by sending more for a moment.

use std::time::{Duration, Instant};

use super::{Run, rate::Found};

/// How long a padded probe lasts, and how often it adds padding. Where it finds no room, what was too much waits in the
/// network's queue, and pictures behind it: at twice what the network carries, for as long as the probe lasted.
const LASTS: Duration = Duration::from_millis(120);
const PACE: Duration = Duration::from_millis(10);
/// The most padding that one probe may cost, in bytes. A probe that would take more ends early.
const MAX_PADDING: usize = 192 << 10;
/// How long the viewer's word on it is waited for.
const LAPSES: Duration = Duration::from_secs(2);
/// Fewer packets than this say nothing.
const MIN_PACKETS: u32 = 8;
/// Shorter arrivals than this are the grain of clocks, not of networks.
const MIN_SPAN_US: i64 = 10_000;
/// Packets lost beyond this share are lost to a queue that is full.
const MAX_LOST: f64 = 0.1;
/// So much of the target is as good as all of it; less came as fast as the network let it.
const REACHED: f64 = 0.97;

#[derive(Debug)]
pub(super) struct Probe {
    target_bps: u64,
    padded: bool,
    began: Instant,
    ends: Instant,
    next: Instant,
    padding: usize,
    /// Bytes sent since it began, and the numbers of what was sent in its time.
    sent: u64,
    first: Option<u64>,
    last: u64,
    /// Those of them that came.
    packets: u32,
    bytes: u64,
    first_us: i64,
    last_us: i64,
    /// Bytes that came first: they say when it began, not how fast.
    first_bytes: u64,
}

impl Probe {
    /// One that brings what is sent up to `target_bps` for a moment.
    pub(super) fn padded(now: Instant, target_bps: u64) -> Self {
        Self::new(now, target_bps, LASTS, true)
    }

    /// One that is made of media alone, which goes out in a burst.
    pub(super) fn burst(now: Instant, target_bps: u64, lasts: Duration) -> Self {
        Self::new(now, target_bps, lasts, false)
    }

    fn new(now: Instant, target_bps: u64, lasts: Duration, padded: bool) -> Self {
        Self {
            target_bps,
            padded,
            began: now,
            ends: now + lasts,
            next: now,
            padding: 0,
            sent: 0,
            first: None,
            last: 0,
            packets: 0,
            bytes: 0,
            first_us: 0,
            last_us: 0,
            first_bytes: 0,
        }
    }

    pub(super) fn is_padded(&self) -> bool {
        self.padded
    }

    pub(super) fn is_lapsed(&self, now: Instant) -> bool {
        now >= self.ends + LAPSES
    }

    pub(super) fn next_padding(&self) -> Option<Instant> {
        (self.padded && self.next < self.ends).then_some(self.next)
    }

    pub(super) fn padding(&mut self, now: Instant) -> usize {
        if self.next_padding().is_none_or(|at| now < at) {
            return 0;
        }
        self.next = now + PACE;
        let elapsed = (now + PACE).saturating_duration_since(self.began).as_micros() as u64;
        let due = (self.target_bps * elapsed / 8_000_000).saturating_sub(self.sent) as usize;
        let due = due.min(MAX_PADDING - self.padding);
        self.padding += due;
        due
    }

    pub(super) fn sent(&mut self, run: &Run) {
        if run.at < self.ends {
            self.first.get_or_insert(run.first);
            self.last = run.first + u64::from(run.packets) - 1;
            self.sent += u64::from(run.bytes);
        }
    }

    pub(super) fn arrived(&mut self, run: &Run, came_us: i64, bytes: u32) {
        if self.first.is_none_or(|first| run.first < first) || run.first > self.last {
            return;
        }
        if self.packets == 0 || came_us < self.first_us {
            self.first_us = came_us;
            self.first_bytes = u64::from(bytes);
        }
        self.packets += 1;
        self.bytes += u64::from(bytes);
        self.last_us = self.last_us.max(came_us);
    }

    /// What was found, once all of it was spoken of. `reported`: the last number that was.
    pub(super) fn result(&self, now: Instant, reported: u64) -> Option<Found> {
        if now < self.ends || reported < self.last || self.packets < MIN_PACKETS {
            return None;
        }
        let span_us = (self.last_us - self.first_us).max(MIN_SPAN_US);
        let measured = (self.bytes - self.first_bytes) as f64 * 8_000_000.0 / span_us as f64;
        let target = self.target_bps as f64;
        // What is lost by the way slows nothing down: it counts as if it had come, up to some.
        let all = (self.last + 1).saturating_sub(self.first.unwrap_or(self.last)) as f64;
        let came = (f64::from(self.packets) / all).clamp(1.0 - MAX_LOST, 1.0);
        let is_limit = measured < REACHED * came * target;
        Some(Found { bitrate_bps: measured.min(target), is_limit })
    }
}
