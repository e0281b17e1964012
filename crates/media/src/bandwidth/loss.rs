//! The bitrate that loss allows (gcc-02, 6), with one addition: loss that stays the same although much less is sent is
//! the network's way (a bad radio link) and no sign of congestion.

use std::time::{Duration, Instant};

use super::{MAX_BPS, rate::Found};

/// More than this is too much is being sent; less than that and there is room.
const HIGH: f64 = 0.10;
const LOW: f64 = 0.02;
/// What a step up gains.
const STEP_UP: f64 = 1.05;
/// How long a step takes, besides a round trip, and how many packets it must have seen.
const STEP: Duration = Duration::from_millis(200);
const MIN_PACKETS: u32 = 20;
/// How much of the former share stays.
const SMOOTHING: f64 = 0.7;
/// Loss is the network's way if after sending so much less so much of it is left.
const TRIED: f64 = 0.7;
const LEFT: f64 = 0.7;
/// No network is taken to lose more than this by itself.
const MAX_INHERENT: f64 = 0.2;

#[derive(Debug)]
pub(super) struct LossBound {
    bound: f64,
    /// Packets that came and that did not, since the last step.
    came: u32,
    lost: u32,
    stepped: Option<Instant>,
    /// The smoothed share of losses.
    share: f64,
    /// What is lost whatever is sent.
    inherent: f64,
    /// Bound and share when it began to fall.
    before: Option<(f64, f64)>,
}

impl Default for LossBound {
    fn default() -> Self {
        Self {
            bound: MAX_BPS as f64,
            came: 0,
            lost: 0,
            stepped: None,
            share: 0.0,
            inherent: 0.0,
            before: None,
        }
    }
}

impl LossBound {
    pub(super) fn bound_bps(&self) -> u64 {
        self.bound as u64
    }

    pub(super) fn is_informed(&self) -> bool {
        self.stepped.is_some()
    }

    pub(super) fn report(
        &mut self,
        now: Instant,
        round_trip: Duration,
        came: u32,
        lost: u32,
        bitrate_bps: u64,
    ) {
        self.came += came;
        self.lost += lost;
        let since = *self.stepped.get_or_insert(now);
        let packets = self.came + self.lost;
        if packets < MIN_PACKETS || now.saturating_duration_since(since) < STEP + round_trip {
            return;
        }
        let share = f64::from(self.lost) / f64::from(packets);
        self.stepped = Some(now);
        (self.came, self.lost) = (0, 0);
        self.share = SMOOTHING * self.share + (1.0 - SMOOTHING) * share;
        self.inherent = self.inherent.min(self.share);
        self.step(bitrate_bps as f64);
    }

    /// A probe came through: loss did not stop it.
    pub(super) fn probed(&mut self, found: Found) {
        if !found.is_limit {
            self.bound = self.bound.max(found.bitrate_bps);
        }
    }

    fn step(&mut self, bitrate: f64) {
        let excess = self.share - self.inherent;
        if excess > HIGH {
            let from = self.bound.min(bitrate);
            let (began_at, began_with) = *self.before.get_or_insert((from, self.share));
            self.bound = from * (1.0 - excess / 2.0);
            if self.bound < TRIED * began_at && self.share > LEFT * began_with && self.share < MAX_INHERENT {
                self.inherent = self.share;
                self.bound = began_at;
                self.before = None;
            }
        } else if excess < LOW {
            self.before = None;
            self.bound = (self.bound * STEP_UP).min(MAX_BPS as f64);
        }
    }
}
