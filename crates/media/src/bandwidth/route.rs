//! Whether a leap in delay is another way through the network, or a queue that began to fill: a way stays as long as it
//! became, a queue goes on growing or empties. The trendline can't tell, and what arrived while nothing did (for as long
//! as the way became longer) would look like a network that carries little.

/// Shorter leaps are left to the trendline.
const LEAP_MS: f64 = 40.0;
/// What comes after a leap is looked at for so long, in ms of sending, and so many groups at least.
const LOOK_MS: f64 = 60.0;
const MIN_GROUPS: usize = 3;
/// The most groups held back; with more, what there is decides.
const MAX_GROUPS: usize = 16;
/// How much of a leap delays may differ from it afterwards: bursts of one's own wait for each other.
const STEADY: f64 = 0.25;

/// A group's delay variation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Variation {
    /// How much later than the one before it came.
    pub(super) ms: f64,
    /// When it came, on the receiver's clock.
    pub(super) came_ms: f64,
    /// How long after the one before it was sent.
    pub(super) sent_us: i64,
}

/// Holds a leap back until it is known what it was.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// The leap and what came after it.
    held: Vec<Variation>,
}

impl Route {
    /// Takes a variation; returns those that the trendline is to have now. A leap that was another way is none.
    pub(super) fn pass(&mut self, variation: Variation) -> Vec<Variation> {
        if self.held.is_empty() && variation.ms < LEAP_MS {
            return vec![variation];
        }
        self.held.push(variation);
        let (leap, after) = (self.held[0].ms, &self.held[1..]);
        let steady = after
            .iter()
            .scan(0.0, |delay, variation| {
                *delay += variation.ms;
                Some(*delay)
            })
            .all(|delay: f64| delay.abs() <= STEADY * leap);
        let looked_ms = after.iter().map(|variation| variation.sent_us).sum::<i64>() as f64 / 1_000.0;
        let looked = looked_ms >= LOOK_MS && after.len() >= MIN_GROUPS || after.len() == MAX_GROUPS;
        if steady && !looked {
            return Vec::new();
        }
        if steady {
            self.held[0].ms = 0.0;
        }
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of delays that change by so much, 20 ms apart.
    fn passed(variations: &[f64]) -> Vec<f64> {
        let mut route = Route::default();
        let groups = variations.iter().map(|ms| Variation { ms: *ms, came_ms: 0.0, sent_us: 20_000 });
        groups.flat_map(|group| route.pass(group)).map(|variation| variation.ms).collect()
    }

    #[test]
    fn a_way_that_became_longer_is_no_queue() {
        assert_eq!(passed(&[1.0, 150.0, -2.0, 20.0, -19.0, 0.0]), [1.0, 0.0, -2.0, 20.0, -19.0, 0.0]);
    }

    #[test]
    fn a_queue_that_grows_or_empties_is_one() {
        for queue in [[100.0, 20.0, 20.0, 20.0], [100.0, -20.0, -20.0, -20.0], [30.0, 30.0, 30.0, 30.0]] {
            assert_eq!(passed(&queue), queue);
        }
    }
}
