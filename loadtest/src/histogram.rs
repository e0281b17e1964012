//! Distributions of times: a histogram with a fixed relative error, as HDR histograms have it.
//!
//! Values are whole microseconds. Each power of two is divided into [`STEPS`] buckets, so that a percentile is at most
//! 1.6 % above the truth, whatever its size. Recording is an index and an addition; histograms of several threads or
//! runs are added up, and an earlier state can be taken from a later one to see what came between.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets a power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// The largest value told apart, 2^36 µs or about 19 hours; anything longer counts as that.
const MAX_BITS: u32 = 36;
/// How many standard deviations of a rank leave out one case in a hundred.
const CONFIDENT: f64 = 2.576;
const BUCKETS: usize = ((MAX_BITS - STEP_BITS + 1) as usize + 1) * STEPS as usize;

/// A distribution of times in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Histogram {
    /// Allocated with the first value: most distributions of most runs stay empty.
    counts: Vec<u32>,
    total: u64,
    max: u64,
    sum: u64,
}

impl Histogram {
    /// Counts one time.
    pub(crate) fn record(&mut self, time: Duration) {
        self.record_us(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts one time, in microseconds.
    pub(crate) fn record_us(&mut self, us: u64) {
        let us = us.min((1 << MAX_BITS) - 1);
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        self.counts[index(us)] += 1;
        self.total += 1;
        self.sum += us;
        self.max = self.max.max(us);
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// The least value (rounded up to its bucket's end) that `share` of all values do not exceed; `None` if there is no
    /// value.
    pub(crate) fn quantile_us(&self, share: f64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        Some(self.of_rank((share * self.total as f64).ceil() as u64))
    }

    /// Between which values that quantile of what these are a sample of lies, with 99 % confidence: a rank is binomial,
    /// whatever the distribution. `None` if there are too few values above or below it to say so.
    pub(crate) fn interval_us(&self, share: f64) -> Option<(u64, u64)> {
        let (total, middle) = (self.total as f64, share * self.total as f64);
        let off = CONFIDENT * (middle * (1.0 - share)).sqrt();
        let (low, high) = ((middle - off).floor(), (middle + off).ceil() + 1.0);
        (low >= 1.0 && high <= total).then(|| (self.of_rank(low as u64), self.of_rank(high as u64)))
    }

    /// The value with so many values up to it, itself included, rounded up to its bucket's end.
    fn of_rank(&self, rank: u64) -> u64 {
        let wanted = rank.clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return last_of(index).min(self.max);
            }
        }
        self.max
    }

    /// The largest value; `None` if there is none.
    pub(crate) fn max_us(&self) -> Option<u64> {
        (self.total > 0).then_some(self.max)
    }

    /// The mean of all values.
    pub(crate) fn mean_us(&self) -> Option<f64> {
        (self.total > 0).then(|| self.sum as f64 / self.total as f64)
    }

    /// Adds all values of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        if other.total == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// What has come since `earlier`, which is a former state of this one. Its maximum is that of its highest bucket.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts.clone();
        for (mine, theirs) in counts.iter_mut().zip(&earlier.counts) {
            *mine = mine.saturating_sub(*theirs);
        }
        let max = counts.iter().rposition(|count| *count > 0).map_or(0, |at| last_of(at).min(self.max));
        Self { counts, total: self.total - earlier.total, sum: self.sum - earlier.sum, max }
    }

    /// The usual percentiles, in milliseconds.
    pub(crate) fn summary(&self) -> Summary {
        let ms = |us: Option<u64>| us.map(|us| us as f64 / 1000.0);
        Summary {
            count: self.total,
            mean: self.mean_us().map(|us| us / 1000.0),
            p50: ms(self.quantile_us(0.5)),
            p90: ms(self.quantile_us(0.9)),
            p95: ms(self.quantile_us(0.95)),
            p99: ms(self.quantile_us(0.99)),
            p999: ms(self.quantile_us(0.999)),
            max: ms(self.max_us()),
            ranges: [0.5, 0.9, 0.95, 0.99, 0.999].map(|share| {
                self.interval_us(share).map(|(low, high)| [low as f64 / 1000.0, high as f64 / 1000.0])
            }),
        }
    }
}

/// Percentiles of a distribution, in milliseconds; absent where there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) mean: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p999: Option<f64>,
    pub(crate) max: Option<f64>,
    /// Between which values p50, p90, p95, p99 and p99.9 lie with 99 % confidence, where there are values enough.
    #[serde(default)]
    pub(crate) ranges: [Option<[f64; 2]>; 5],
}

/// The bucket of a value: itself below [`STEPS`], then the leading bits behind the first.
fn index(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let exponent = us.ilog2() - STEP_BITS;
    (u64::from(exponent + 1) * STEPS + (us >> exponent) - STEPS) as usize
}

/// The largest value of a bucket.
fn last_of(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let exponent = index / STEPS - 1;
    ((index % STEPS + STEPS + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bucket_within_two_percent() {
        for us in (0..2_000).chain((11..36).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 77])) {
            let last = last_of(index(us));
            assert!(last >= us && last - us <= us / 60, "{us} is told as {last}");
            assert_eq!(index(last), index(us));
            assert_eq!(index(last + 1), index(us) + 1);
        }
        assert!(index((1 << MAX_BITS) - 1) < BUCKETS);
    }

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile_us(0.5), histogram.max_us()), (None, None));
        for us in 1..=1_000 {
            histogram.record(Duration::from_micros(us * 1_000));
        }
        for (share, truth) in [(0.5, 500_000), (0.9, 900_000), (0.99, 990_000), (0.999, 999_000)] {
            let told = histogram.quantile_us(share).unwrap();
            assert!(told >= truth && told < truth + truth / 60, "{share}: {told}");
        }
        assert_eq!(histogram.max_us(), Some(1_000_000), "the largest is exact");
        assert_eq!(histogram.quantile_us(1.0), Some(1_000_000));
        assert_eq!(histogram.mean_us(), Some(500_500.0));
    }

    #[test]
    fn a_percentile_lies_where_its_rank_may_be() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|ms| histogram.record_us(ms * 1_000));
        let (low, high) = histogram.interval_us(0.5).unwrap();
        // The standard deviation of the middle rank of 10,000 is 50.
        assert!((4_860_000..=4_960_000).contains(&low), "{low}");
        assert!((5_120_000..=5_220_000).contains(&high), "{high}");
        let mut few = Histogram::default();
        (1..=60).for_each(|ms| few.record_us(ms * 1_000));
        assert!(few.interval_us(0.99).is_none() && few.interval_us(0.5).is_some(), "one value is no p99");
        assert_eq!(Histogram::default().interval_us(0.5), None);
    }

    #[test]
    fn histograms_add_up_and_subtract() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.record_us(10);
        other.record_us(1_000_000);
        let earlier = one.clone();
        one.add(&other);
        assert_eq!((one.count(), one.max_us()), (2, Some(1_000_000)));
        let since = one.since(&earlier);
        assert_eq!(since.count(), 1);
        assert!(since.quantile_us(0.5).unwrap() >= 1_000_000 - 1);
        one.record_us(u64::MAX);
        assert_eq!(one.max_us(), Some((1 << MAX_BITS) - 1));
    }
}
