//! How much arrives, on the receiver's clock.

use std::collections::VecDeque;

/// What is measured when things are calm.
const STEADY_US: i64 = 500_000;
/// What is measured while a queue stands: all that came lately came as fast as the network let it.
const BUSY_US: i64 = 250_000;
/// Arrivals so close together are kept as one.
const MERGE_US: i64 = 2_000;
/// The most entries kept; the oldest is forgotten first. More than fit into the window.
const MAX_ENTRIES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Acked {
    /// When, and how many bytes.
    arrivals: VecDeque<(i64, u32)>,
    /// When the first arrival of all was.
    since_us: Option<i64>,
}

impl Acked {
    pub(super) fn add(&mut self, came_us: i64, bytes: u32) {
        self.since_us.get_or_insert(came_us);
        match self.arrivals.back_mut() {
            Some((at, sum)) if came_us - *at < MERGE_US => *sum += bytes,
            _ => self.arrivals.push_back((came_us, bytes)),
        }
        let newest = self.arrivals.back().map_or(0, |(at, _)| *at);
        while self.arrivals.len() > MAX_ENTRIES
            || self.arrivals.front().is_some_and(|(at, _)| newest - at > STEADY_US)
        {
            self.arrivals.pop_front();
        }
    }

    pub(super) fn steady_bps(&self) -> Option<u64> {
        self.over(STEADY_US)
    }

    pub(super) fn busy_bps(&self) -> Option<u64> {
        self.over(BUSY_US)
    }

    fn over(&self, window_us: i64) -> Option<u64> {
        let (newest, since) = (self.arrivals.back()?.0, self.since_us?);
        // In the beginning, less than a window has passed.
        let window_us = window_us.min(newest - since);
        if window_us < BUSY_US / 2 {
            return None;
        }
        let recent = self.arrivals.iter().rev().take_while(|(at, _)| newest - at < window_us);
        let bytes: u64 = recent.map(|(_, bytes)| u64::from(*bytes)).sum();
        Some(bytes * 8_000_000 / window_us as u64)
    }
}
