//! How busy the shards are, and which of them, if any, takes one more. Measurements come in; no clock is read here.

use std::time::{Duration, Instant};

use crate::Role;

/// How often a shard measures itself.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Shards whose processors differ by less than this are equally busy, and sessions decide.
const ALIKE_PPM: u64 = 50_000;
/// What a session is taken to cost, at least and at most, until the next measurement shows it: a handshake is about
/// 0.4 ms, and 20 Mb/s to a viewer about 1 ms a second.
const SESSION_PPM: (u64, u64) = (500, 2_000);

/// A shard's load as it was measured, and what has come since.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ShardLoad {
    /// Processor time of the last second, in millionths of it.
    pub(crate) cpu_ppm: u64,
    pub(crate) egress_bps: u64,
    pub(crate) sessions: u64,
    /// How many of them were there when it was measured.
    pub(crate) measured_sessions: u64,
}

/// Where the node stops to take viewers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ceiling {
    /// Of a shard's thread, in millionths of a second each second; 0: none.
    pub(crate) cpu_ppm: u64,
    /// Of the node; 0: none.
    pub(crate) egress_bps: u64,
}

impl ShardLoad {
    fn newcomers(&self) -> u64 {
        self.sessions.saturating_sub(self.measured_sessions)
    }

    /// What the processor's load will be when everybody who has come is served.
    fn expected_cpu_ppm(&self) -> u64 {
        let (least, most) = SESSION_PPM;
        let each = (self.cpu_ppm / self.measured_sessions.max(1)).clamp(least, most);
        self.cpu_ppm + each * self.newcomers()
    }

    fn expected_egress_bps(&self) -> u64 {
        self.egress_bps + self.egress_bps / self.measured_sessions.max(1) * self.newcomers()
    }
}

/// The shard that is to take a new session, by its place; `None` if the node is too busy for it. A publisher is never
/// turned away for load: they are few, cost little, and are whom everybody came for.
///
/// `beside_bps`: what the node sends in other ways.
pub(crate) fn choose(role: Role, shards: &[ShardLoad], beside_bps: u64, ceiling: Ceiling) -> Option<usize> {
    let busy = |shard: &ShardLoad| (shard.expected_cpu_ppm() / ALIKE_PPM, shard.sessions);
    let (index, least) = shards.iter().enumerate().min_by_key(|(_, shard)| busy(shard))?;
    let egress = beside_bps + shards.iter().map(ShardLoad::expected_egress_bps).sum::<u64>();
    let below = |value: u64, ceiling: u64| ceiling == 0 || value < ceiling;
    let room = below(least.expected_cpu_ppm(), ceiling.cpu_ppm) && below(egress, ceiling.egress_bps);
    (role == Role::Publisher || room).then_some(index)
}

/// Turns growing sums into what a second brought.
#[derive(Debug)]
pub(crate) struct Meter {
    at: Instant,
    cpu: Duration,
    bytes: u64,
}

/// What a second brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) cpu_ppm: u64,
    pub(crate) egress_bps: u64,
}

impl Meter {
    /// Starts from these sums.
    pub(crate) fn new(at: Instant, cpu: Duration, bytes: u64) -> Self {
        Self { at, cpu, bytes }
    }

    /// Whether it is time to measure.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= MEASURE_EVERY
    }

    /// Takes the sums as they are now.
    pub(crate) fn measure(&mut self, now: Instant, cpu: Duration, bytes: u64) -> Measured {
        let wall_us = now.saturating_duration_since(self.at).as_micros().max(1);
        let a_second = |sum: u128| u64::try_from(sum * 1_000_000 / wall_us).unwrap_or(u64::MAX);
        let measured = Measured {
            cpu_ppm: a_second(cpu.saturating_sub(self.cpu).as_micros()),
            egress_bps: a_second(u128::from(bytes.saturating_sub(self.bytes)) * 8),
        };
        *self = Self { at: now, cpu, bytes };
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(cpu_ppm: u64, egress_bps: u64, sessions: u64, measured_sessions: u64) -> ShardLoad {
        ShardLoad { cpu_ppm, egress_bps, sessions, measured_sessions }
    }

    fn viewer(shards: &[ShardLoad], cpu_ppm: u64, egress_bps: u64) -> Option<usize> {
        choose(Role::Viewer, shards, 0, Ceiling { cpu_ppm, egress_bps })
    }

    #[test]
    fn the_least_busy_takes_it_and_sessions_decide_among_equals() {
        assert_eq!(viewer(&[load(400_000, 0, 2, 2), load(100_000, 0, 90, 90)], 0, 0), Some(1));
        assert_eq!(viewer(&[load(11_000, 0, 7, 7), load(23_000, 0, 3, 3)], 0, 0), Some(1));
        assert_eq!(viewer(&[], 0, 0), None);
    }

    #[test]
    fn a_rush_within_a_second_is_spread_before_it_is_measured() {
        let mut shards = [load(100_000, 0, 100, 100), load(300_000, 0, 100, 100)];
        for _ in 0..400 {
            let index = viewer(&shards, 0, 0).unwrap();
            shards[index].sessions += 1;
        }
        let newcomers = shards.map(|shard| shard.newcomers());
        assert!(newcomers[0] > newcomers[1] && newcomers[1] > 50, "{newcomers:?}");
    }

    #[test]
    fn a_rush_stops_at_the_ceiling_before_it_is_measured() {
        let mut shards = [load(600_000, 1_000_000_000, 1_000, 1_000)];
        while viewer(&shards, 850_000, 0).is_some() {
            shards[0].sessions += 1;
        }
        assert_eq!(shards[0].newcomers(), 417, "600 millionths each, up to 850,000");
        shards[0].sessions = 1_000;
        while viewer(&shards, 0, 1_200_000_000).is_some() {
            shards[0].sessions += 1;
        }
        assert_eq!(shards[0].newcomers(), 200, "1 Mb/s each");
    }

    #[test]
    fn what_is_sent_beside_counts() {
        let shards = [load(0, 6_000, 10, 10)];
        let ceiling = Ceiling { cpu_ppm: 0, egress_bps: 10_000 };
        assert_eq!(choose(Role::Viewer, &shards, 3_999, ceiling), Some(0));
        assert_eq!(choose(Role::Viewer, &shards, 4_000, ceiling), None);
        assert_eq!(choose(Role::Publisher, &shards, 4_000, ceiling), Some(0));
    }

    #[test]
    fn a_host_comes_in_when_viewers_are_turned_away() {
        let shards = [load(990_000, 9_000, 10, 10), load(900_000, 9_000, 10, 10)];
        let ceiling = Ceiling { cpu_ppm: 850_000, egress_bps: 10_000 };
        assert_eq!(choose(Role::Viewer, &shards, 0, ceiling), None);
        assert_eq!(choose(Role::Publisher, &shards, 0, ceiling), Some(1));
        assert_eq!(choose(Role::Viewer, &shards, 0, Ceiling::default()), Some(1), "without a ceiling");
    }

    #[test]
    fn a_meter_tells_what_a_second_brought() {
        let start = Instant::now();
        let mut meter = Meter::new(start, Duration::from_millis(40), 1_000);
        assert!(!meter.is_due(start + Duration::from_millis(999)));
        let now = start + Duration::from_secs(2);
        assert!(meter.is_due(now));
        let measured = meter.measure(now, Duration::from_millis(540), 251_000);
        assert_eq!(measured, Measured { cpu_ppm: 250_000, egress_bps: 1_000_000 });
        let idle = meter.measure(now + Duration::from_secs(1), Duration::from_millis(540), 251_000);
        assert_eq!(idle, Measured { cpu_ppm: 0, egress_bps: 0 });
    }
}
