//! Whether delay grows: the slope of the last groups' delays, against a threshold that learns (gcc-02, 5.3 to 5.5;
//! the slope by least squares and its factors are libwebrtc's).

use std::{collections::VecDeque, time::Instant};

/// Groups that the slope is taken over.
const WINDOW: usize = 20;
/// How much of the former smoothed delay stays.
const SMOOTHING: f64 = 0.9;
/// What the slope is multiplied by: so many groups, while there are fewer, and this gain.
const MAX_GROUPS: u32 = 60;
const GAIN: f64 = 4.0;
/// The threshold's start and range, and how fast it follows a slope above and below it, in ms.
const THRESHOLD_MS: f64 = 12.5;
const THRESHOLD_RANGE: (f64, f64) = (6.0, 600.0);
const FOLLOW_UP: f64 = 0.0087;
const FOLLOW_DOWN: f64 = 0.039;
/// A slope so far above the threshold is an outlier (a route that changed), which it does not follow.
const OUTLIER_MS: f64 = 15.0;
/// How long the slope must stay above the threshold, in ms of sending.
const PERSISTS_MS: f64 = 10.0;

/// What a queue in the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// It empties.
    Under,
    /// It keeps its length, most likely none.
    Normal,
    /// It fills.
    Over,
}

#[derive(Debug)]
pub(super) struct Trendline {
    groups: u32,
    /// Accumulated delay and the same smoothed, in ms.
    delay: f64,
    smoothed: f64,
    /// When the first group came: times are taken relative to it, to stay precise.
    origin_ms: Option<f64>,
    /// Arrival and smoothed delay of the last groups.
    window: VecDeque<(f64, f64)>,
    slope: f64,
    threshold: f64,
    updated: Option<Instant>,
    /// How long the slope has been above the threshold, and for how many groups.
    over_ms: f64,
    over_groups: u32,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Self {
            groups: 0,
            delay: 0.0,
            smoothed: 0.0,
            origin_ms: None,
            window: VecDeque::new(),
            slope: 0.0,
            threshold: THRESHOLD_MS,
            updated: None,
            over_ms: 0.0,
            over_groups: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// A group came, delayed by `variation_ms` more than the one before it, `sent_us` after which it was sent.
    pub(super) fn add(&mut self, now: Instant, variation_ms: f64, came_ms: f64, sent_us: i64) {
        self.groups += 1;
        self.delay += variation_ms;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.delay;
        let at = came_ms - *self.origin_ms.get_or_insert(came_ms);
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((at, self.smoothed));
        let before = self.slope;
        if self.window.len() == WINDOW {
            self.slope = slope(&self.window).unwrap_or(self.slope);
        }
        self.judge(now, before, sent_us as f64 / 1_000.0);
    }

    fn judge(&mut self, now: Instant, before: f64, sent_ms: f64) {
        let value = f64::from(self.groups.min(MAX_GROUPS)) * self.slope * GAIN;
        if value > self.threshold {
            self.over_ms += sent_ms;
            self.over_groups += 1;
            if self.over_ms > PERSISTS_MS && self.over_groups > 1 && self.slope >= before {
                self.over_ms = 0.0;
                self.over_groups = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_ms = 0.0;
            self.over_groups = 0;
            self.usage = if value < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        let elapsed = self
            .updated
            .replace(now)
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64().min(0.1) * 1_000.0);
        if value.abs() <= self.threshold + OUTLIER_MS {
            let follow = if value.abs() < self.threshold { FOLLOW_DOWN } else { FOLLOW_UP };
            let (least, most) = THRESHOLD_RANGE;
            self.threshold += follow * (value.abs() - self.threshold) * elapsed;
            self.threshold = self.threshold.clamp(least, most);
        }
    }
}

/// Least squares.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let n = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in points {
        above += (x - mean_x) * (y - mean_y);
        below += (x - mean_x) * (x - mean_x);
    }
    (below > 0.0).then(|| above / below)
}
