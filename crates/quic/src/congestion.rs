//! How fast a connection may send, where packets are also lost by chance: as radio does.
//!
//! Controllers that go by loss take every lost packet for a full queue, and at one in a hundred and 100 ms are left with a
//! megabit a second, however wide the line. Here a loss counts only where there is a queue, or more is lost than chance
//! loses; what counts is Cubic's (RFC 9438).

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig},
};

/// A round trip that has waited for longer than the shortest so far takes, or than this if that is more, has met a queue worth
/// shortening. Cubic goes back to seven tenths: where the window is twice what the way holds, that still fills it, so that a chance
/// loss which counts costs nothing.
const QUEUED: Duration = Duration::from_millis(50);
/// More than one in so many bytes are not lost by chance.
const CHANCE: u64 = 50;
/// Nor is more than this at once where little has been sent so far: three packets.
const FEW_BYTES: u64 = 3 * 1_500;
/// Over so long, and as much before it, it is counted what is lost.
const PERIOD: Duration = Duration::from_secs(2);

/// Makes the controllers of connections.
#[derive(Debug, Default)]
pub(crate) struct DiscerningConfig(Arc<CubicConfig>);

impl ControllerFactory for DiscerningConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Cubic::new(self.0.clone(), now, current_mtu);
        Box::new(Discerning { cubic, losses: Losses::new(now) })
    }
}

#[derive(Debug, Clone)]
struct Discerning {
    cubic: Cubic,
    losses: Losses,
}

impl Controller for Discerning {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.losses.arrived(now, bytes, rtt.conservative().saturating_sub(rtt.min()), rtt.min());
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        let is_chance = self.losses.lost(now, lost_bytes);
        // No bytes: routers say themselves that their queue is long.
        if is_persistent || lost_bytes == 0 || !is_chance {
            self.cubic.on_congestion_event(now, sent, is_persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Tells what is lost by chance from what a full queue loses.
#[derive(Debug, Clone)]
struct Losses {
    /// The last round trip had waited.
    is_queued: bool,
    began: Instant,
    /// What arrived and was lost in the period so far, and in the one before.
    now: Counts,
    before: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    arrived: u64,
    lost: u64,
}

impl Losses {
    fn new(now: Instant) -> Self {
        Self { is_queued: false, began: now, now: Counts::default(), before: Counts::default() }
    }

    /// So much has arrived, after a round trip that was so much longer than the shortest.
    fn arrived(&mut self, now: Instant, bytes: u64, waited: Duration, shortest: Duration) {
        self.turn(now);
        self.now.arrived += bytes;
        self.is_queued = waited > shortest.max(QUEUED);
    }

    /// So much was lost. Returns whether by chance.
    fn lost(&mut self, now: Instant, bytes: u64) -> bool {
        self.turn(now);
        if self.is_queued {
            // And it says nothing of what chance loses.
            return false;
        }
        self.now.lost += bytes;
        let (arrived, lost) = (self.now.arrived + self.before.arrived, self.now.lost + self.before.lost);
        lost <= ((arrived + lost) / CHANCE).max(FEW_BYTES)
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < PERIOD {
            return;
        }
        // What is older than the period before is forgotten.
        self.before = if age < 2 * PERIOD { self.now } else { Counts::default() };
        self.now = Counts::default();
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1_200;
    const RTT: Duration = Duration::from_millis(100);

    /// Ten seconds of 200 packets each, of which one in `every` is lost: how many losses were taken for chance, and how many not.
    fn losses(losses: &mut Losses, from: Instant, every: u32, waited: Duration) -> (u32, u32) {
        let (mut chance, mut not) = (0, 0);
        for number in 1..=2_000 {
            let now = from + Duration::from_millis(5) * number;
            if !number.is_multiple_of(every) {
                losses.arrived(now, PACKET, waited, RTT);
            } else if losses.lost(now, PACKET) {
                chance += 1;
            } else {
                not += 1;
            }
        }
        (chance, not)
    }

    #[test]
    fn one_in_a_hundred_is_chance_where_nothing_has_waited() {
        let begin = Instant::now();
        assert_eq!(losses(&mut Losses::new(begin), begin, 100, RTT), (20, 0));
        assert_eq!(losses(&mut Losses::new(begin), begin, 100, RTT + RTT / 4), (0, 20));
    }

    #[test]
    fn more_than_chance_loses_is_not_chance_and_is_forgotten_again() {
        let begin = Instant::now();
        let mut all = Losses::new(begin);
        let (chance, not) = losses(&mut all, begin, 20, Duration::ZERO);
        assert_eq!((chance, not), (3, 97), "the first few may be");
        let (chance, not) = losses(&mut all, begin + Duration::from_secs(10), 100, Duration::ZERO);
        assert!(chance >= 16 && not <= 4, "{chance} and {not}");
        // After silence, too.
        let (chance, not) = losses(&mut all, begin + Duration::from_secs(60), 100, Duration::ZERO);
        assert_eq!((chance, not), (20, 0));
    }

    #[test]
    fn what_is_not_chance_is_cubics() {
        let begin = Instant::now();
        let mut controller = Arc::new(DiscerningConfig::default()).build(begin, 1_200);
        let window = controller.window();
        controller.on_congestion_event(begin, begin, false, PACKET);
        assert_eq!(controller.window(), window, "one packet");
        controller.on_congestion_event(begin, begin, false, 0);
        assert!(controller.window() < window, "told by a router");
        let window = controller.window();
        controller.on_congestion_event(begin + RTT, begin + RTT, true, PACKET);
        assert!(controller.window() < window, "nothing has arrived for long");
        let window = Arc::new(DiscerningConfig::default()).build(begin, 1_200).window();
        let mut controller = Arc::new(DiscerningConfig::default()).build(begin, 1_200);
        controller.on_congestion_event(begin, begin, false, 10 * PACKET);
        assert!(controller.window() < window, "many packets");
    }
}
