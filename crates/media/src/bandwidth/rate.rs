//! The bitrate that delay allows: up while no queue fills, down below what arrives when one does (gcc-02, 5.5).

use std::time::{Duration, Instant};

use super::{MAX_BPS, MIN_BPS, acked::Acked, trendline::Usage};

/// What is left of what arrived, when a queue fills.
const BACK_OFF: f64 = 0.85;
/// Growth a second while nothing is known of where the limit is.
const GROWTH_A_SECOND: f64 = 1.08;
/// Near the limit: one packet a response time.
const PACKET_BITS: f64 = 1_200.0 * 8.0;
const RESPONSE: Duration = Duration::from_millis(100);
/// What is not being sent can't be known to fit: growth stops at so many times what arrives, and a little.
const UNPROVED: f64 = 1.5;
const UNPROVED_BPS: f64 = 10_000.0;
/// What is certainly carried of what arrives.
const CARRIED: f64 = 0.95;
/// Where nobody tells what arrives, so many times what is sent may be tried, but this much in any case: the next layer up
/// is often four times as large.
const UNHEARD: f64 = 4.0;
const UNHEARD_BPS: f64 = 600_000.0;
/// How fast the known limit follows.
const LIMIT_SMOOTHING: f64 = 0.05;
/// How long after it was found the limit counts as the network's, and not as a moment's.
const LIMIT_COUNTS: Duration = Duration::from_secs(15);
/// How many deviations around the known limit are near it.
const NEAR: f64 = 3.0;
/// What a probe found is taken a little smaller where it found the limit.
const PROBE_MARGIN: f64 = 0.9;
/// The shortest and longest pause between two steps down.
const STEP_RANGE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

#[derive(Debug)]
pub(super) struct RateControl {
    bitrate: f64,
    /// Where the limit was found before.
    limit: Option<Limit>,
    updated: Instant,
    decreased: Option<Instant>,
}

/// Mean in kb/s, and variance relative to it.
#[derive(Debug, Clone, Copy)]
struct Limit {
    kbps: f64,
    variance: f64,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) bitrate_bps: f64,
    /// It is the network that stopped it there, not our own pace.
    pub(super) is_limit: bool,
}

impl RateControl {
    pub(super) fn new(now: Instant, start_bps: u64) -> Self {
        Self { bitrate: start_bps as f64, limit: None, updated: now, decreased: None }
    }

    pub(super) fn bitrate_bps(&self) -> u64 {
        self.bitrate as u64
    }

    /// The limit where it was found lately.
    pub(super) fn limit_bps(&self, now: Instant) -> Option<u64> {
        let is_recent = self.decreased.is_some_and(|at| now.saturating_duration_since(at) < LIMIT_COUNTS);
        self.limit.filter(|_| is_recent).map(|limit| (limit.kbps * 1_000.0) as u64)
    }

    /// `carried`: so much was carried before a probe, whose doing a queue may be now.
    pub(super) fn update(
        &mut self,
        now: Instant,
        round_trip: Duration,
        usage: Usage,
        acked: &Acked,
        carried: Option<u64>,
    ) {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64().min(1.0);
        self.updated = now;
        match usage {
            Usage::Under => {}
            Usage::Over => {
                let (shortest, longest) = STEP_RANGE;
                let pause = round_trip.clamp(shortest, longest);
                if self.decreased.is_some_and(|at| now.saturating_duration_since(at) < pause) {
                    return;
                }
                let Some(arrives) = acked.busy_bps() else { return };
                self.decreased = Some(now);
                let arrives = arrives as f64;
                self.limit = Some(self.limit.filter(|limit| !limit.is_far(arrives)).map_or_else(
                    || Limit { kbps: arrives / 1_000.0, variance: 0.4 },
                    |limit| limit.follow(arrives),
                ));
                let carried = carried.unwrap_or_default() as f64;
                self.set((BACK_OFF * arrives).max(carried).min(self.bitrate));
            }
            Usage::Normal => {
                let Some(arrives) = acked.steady_bps() else { return };
                let arrives = arrives as f64;
                if self.limit.is_some_and(|limit| limit.is_far(arrives) && arrives > limit.kbps * 1_000.0) {
                    self.limit = None;
                }
                let grown = match self.limit {
                    None => self.bitrate * GROWTH_A_SECOND.powf(elapsed),
                    Some(_) => {
                        let response = (round_trip + RESPONSE).as_secs_f64();
                        self.bitrate + (PACKET_BITS / response).max(4_000.0) * elapsed
                    }
                };
                let proved = UNPROVED * arrives + UNPROVED_BPS;
                // What arrives while no queue fills is carried.
                self.set(grown.min(proved.max(self.bitrate)).max(CARRIED * arrives));
            }
        }
    }

    /// What a probe found holds at once if it is more than was known.
    pub(super) fn probed(&mut self, now: Instant, found: Found) {
        let bitrate = if found.is_limit { PROBE_MARGIN * found.bitrate_bps } else { found.bitrate_bps };
        if bitrate > self.bitrate {
            self.limit = None;
            self.updated = now;
            self.set(bitrate);
        }
    }

    /// Somebody who should know says that there is room for so much.
    pub(super) fn raise(&mut self, bitrate_bps: u64) {
        self.set(self.bitrate.max(bitrate_bps as f64));
    }

    /// Time passes without a word on delay: a little more than what is sent may be tried.
    pub(super) fn grow_unheard(&mut self, now: Instant, sending_bps: u64) {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64().min(1.0);
        self.updated = now;
        let proved = (UNHEARD * sending_bps as f64).max(UNHEARD_BPS);
        let grown = (self.bitrate * GROWTH_A_SECOND.powf(elapsed)).min(proved.max(self.bitrate));
        self.set(grown.max(sending_bps as f64));
    }

    fn set(&mut self, bitrate: f64) {
        self.bitrate = bitrate.clamp(MIN_BPS as f64, MAX_BPS as f64);
    }
}

impl Limit {
    fn is_far(&self, bitrate_bps: f64) -> bool {
        (bitrate_bps / 1_000.0 - self.kbps).abs() > NEAR * (self.variance * self.kbps).sqrt()
    }

    fn follow(self, bitrate_bps: f64) -> Self {
        let sample = bitrate_bps / 1_000.0;
        let kbps = (1.0 - LIMIT_SMOOTHING) * self.kbps + LIMIT_SMOOTHING * sample;
        let error = kbps - sample;
        let variance =
            (1.0 - LIMIT_SMOOTHING) * self.variance + LIMIT_SMOOTHING * error * error / kbps.max(1.0);
        Self { kbps, variance: variance.clamp(0.4, 2.5) }
    }
}
