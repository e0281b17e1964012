//! What was sent and when, a run at a time.

use std::{collections::VecDeque, time::Instant};

use crate::sequence;

/// The most runs remembered: six seconds of pictures and sound. The oldest is forgotten first.
const MAX_RUNS: usize = 512;

/// A burst of packets with consecutive transport-wide sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first packet's number, extended.
    pub first: u64,
    /// How many packets.
    pub packets: u32,
    /// All their bytes, as UDP payload.
    pub bytes: u32,
    /// When they were sent.
    pub at: Instant,
}

/// In order of sending, so in order of numbers.
#[derive(Debug, Default)]
pub(super) struct SentRuns(VecDeque<Run>);

impl SentRuns {
    pub(super) fn push(&mut self, run: Run) {
        if self.0.len() == MAX_RUNS {
            self.0.pop_front();
        }
        self.0.push_back(run);
    }

    /// The extended number that ends in `sequence` and lies nearest to what was sent last.
    pub(super) fn nearest(&self, sequence: u16) -> u64 {
        sequence::nearest(self.end(), sequence)
    }

    /// The number behind the last that was sent.
    pub(super) fn end(&self) -> u64 {
        self.0.back().map_or(0, |run| run.first + u64::from(run.packets))
    }

    /// The run that a packet was part of.
    pub(super) fn find(&self, sequence: u64) -> Option<Run> {
        let after = self.0.partition_point(|run| run.first <= sequence);
        let run = self.0.get(after.checked_sub(1)?)?;
        (sequence - run.first < u64::from(run.packets)).then_some(*run)
    }
}
