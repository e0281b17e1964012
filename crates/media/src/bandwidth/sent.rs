//! What was sent and when, a run at a time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::sequence;

/// The most runs remembered: two seconds of pictures and sound, and feedback names none that is older. The oldest is
/// forgotten first.
const MAX_RUNS: usize = 256;

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
pub(super) struct SentRuns {
    /// Small, since each viewer has them and each frame adds one: it is the memory they touch that costs.
    runs: VecDeque<Record>,
    /// The number behind the last that was sent.
    end: u64,
    /// When the last run was sent, and the same as records have it.
    last: Option<(Instant, u32)>,
}

/// A run. Numbers and times lack their upper bits, which those of the last run tell.
#[derive(Debug, Clone, Copy)]
struct Record {
    first: u32,
    packets: u32,
    bytes: u32,
    /// In microseconds.
    at: u32,
}

const _: () = assert!(size_of::<Record>() == 16);

impl SentRuns {
    pub(super) fn push(&mut self, run: Run) {
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
        } else if self.runs.capacity() == 0 {
            self.runs.reserve_exact(MAX_RUNS);
        }
        let (last, us) = self.last.unwrap_or((run.at, 0));
        // Whole microseconds are added up, so that what is cut off does not.
        let passed_us = run.at.saturating_duration_since(last).as_micros() as u64;
        let at = us.wrapping_add(passed_us as u32);
        self.last = Some((last + Duration::from_micros(passed_us), at));
        self.end = run.first + u64::from(run.packets);
        self.runs.push_back(Record { first: run.first as u32, packets: run.packets, bytes: run.bytes, at });
    }

    /// The extended number that ends in `sequence` and lies nearest to what was sent last.
    pub(super) fn nearest(&self, sequence: u16) -> u64 {
        sequence::nearest(self.end, sequence)
    }

    /// The number behind the last that was sent.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The run that a packet was part of.
    pub(super) fn find(&self, sequence: u64) -> Option<Run> {
        let after = self.runs.partition_point(|record| self.extend(record.first) <= sequence);
        let Record { first, packets, bytes, at } = *self.runs.get(after.checked_sub(1)?)?;
        let (last, us) = self.last?;
        let ago = Duration::from_micros(us.wrapping_sub(at).into());
        let run = Run { first: self.extend(first), packets, bytes, at: last.checked_sub(ago)? };
        (sequence - run.first < u64::from(packets)).then_some(run)
    }

    fn extend(&self, first: u32) -> u64 {
        self.end - u64::from((self.end as u32).wrapping_sub(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn runs_are_found_as_they_were_sent_also_where_numbers_and_times_wrap() {
        let (mut sent, mut runs) = (SentRuns::default(), Vec::new());
        let (mut first, mut at) = ((1 << 32) - 40, start().instant);
        // The clock of the records wraps after 71 minutes: start shortly before.
        sent.push(Run { first: first - 1, packets: 1, bytes: 9, at });
        at += Duration::from_micros((1 << 32) - 100_000);
        for packets in 1..20 {
            let run = Run { first, packets, bytes: packets * 1_000, at };
            sent.push(run);
            runs.push(run);
            first += u64::from(packets);
            at += Duration::from_millis(20);
        }
        for run in &runs {
            assert_eq!(sent.find(run.first), Some(*run));
            assert_eq!(sent.find(run.first + u64::from(run.packets) - 1), Some(*run));
        }
        assert_eq!((sent.end(), sent.find(first)), (first, None), "not sent yet");
        assert_eq!(sent.nearest(first as u16), first);
    }

    #[test]
    fn the_oldest_run_is_forgotten_first() {
        let mut sent = SentRuns::default();
        for first in 0..=MAX_RUNS as u64 {
            sent.push(Run { first, packets: 1, bytes: 1, at: start().instant });
        }
        assert_eq!(sent.find(0), None);
        assert!(sent.find(1).is_some());
    }
}
