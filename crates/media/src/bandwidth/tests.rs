//! The estimator against a network in virtual time.

use super::*;
use crate::{
    emulation::{Feedback, Link, Receiver},
    testing::start,
};

/// A stream of pictures (30 a second, every 60th a keyframe five times as large) and sound over a link, in steps of a
/// millisecond.
struct Path {
    estimator: Estimator,
    link: Link,
    receiver: Receiver,
    now: Instant,
    next: u64,
    step: u64,
    /// What the pictures take, and whether they follow the estimate instead.
    video_bps: u64,
    follows: bool,
    /// Nothing comes back.
    deaf: bool,
}

const PACKET: usize = 1_200;

impl Path {
    fn new(link: Link, video_bps: u64) -> Self {
        let now = start().instant;
        // The numbers wrap soon.
        let next = 65_000;
        Self {
            estimator: Estimator::new(now),
            receiver: Receiver::new(now, next),
            link,
            now,
            next,
            step: 0,
            video_bps,
            follows: false,
            deaf: false,
        }
    }

    fn following(link: Link) -> Self {
        Self { follows: true, ..Self::new(link, 0) }
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() {
            self.turn();
        }
    }

    /// The mean of the estimate over a time, as a share of what the link carries.
    fn share(&mut self, time: Duration) -> f64 {
        let steps = time.as_millis() as u64;
        let mut sum = 0;
        for _ in 0..steps {
            self.turn();
            sum += self.estimator.bitrate_bps();
        }
        (sum / steps) as f64 / self.link.rate_bps as f64
    }

    /// How long it takes until the estimate is as wanted.
    fn until(&mut self, most: Duration, wanted: impl Fn(u64) -> bool) -> Option<Duration> {
        let began = self.now;
        while self.now < began + most {
            self.turn();
            if wanted(self.estimator.bitrate_bps()) {
                return Some(self.now - began);
            }
        }
        None
    }

    fn turn(&mut self) {
        if self.step.is_multiple_of(20) {
            self.send(&[120]);
        }
        if self.step.is_multiple_of(33) {
            let bitrate = if self.follows { self.estimator.bitrate_bps() } else { self.video_bps };
            let frame = self.step / 33;
            // So that 60 frames have the bytes of 60.
            let usual = bitrate as f64 / 8.0 / 30.3 * 60.0 / 64.0;
            let bytes = if frame.is_multiple_of(60) { 5.0 * usual } else { usual } as usize;
            let packets = bytes.div_ceil(PACKET).max(1);
            self.send(&vec![bytes / packets; packets]);
        }
        let padding = self.estimator.padding(self.now);
        if padding > 0 {
            self.send(&vec![PACKET; padding.div_ceil(PACKET)]);
        }
        let round_trip = 2 * self.link.delay;
        for Feedback { base, reference, deltas } in self.receiver.turn(self.now, self.link.delay) {
            if !self.deaf {
                self.estimator.feedback(self.now, round_trip, base, reference, deltas.into_iter());
            }
        }
        self.now += Duration::from_millis(1);
        self.step += 1;
    }

    fn send(&mut self, sizes: &[usize]) {
        for (index, bytes) in sizes.iter().enumerate() {
            for comes in self.link.send(self.now, *bytes) {
                self.receiver.arrives(self.next + index as u64, comes);
            }
        }
        let (packets, bytes) = (sizes.len() as u32, sizes.iter().sum::<usize>() as u32);
        self.estimator.sent(Run { first: self.next, packets, bytes, at: self.now });
        self.next += sizes.len() as u64;
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_stream_that_follows_finds_what_the_link_carries() {
    for (name, rate_bps) in [("500 kb/s", 500_000), ("1.5 Mb/s", 1_500_000), ("4 Mb/s", 4_000_000)] {
        let mut path = Path::following(Link::new(rate_bps, 1));
        path.run(seconds(20));
        let share = path.share(seconds(40));
        println!("{name}: {share:.2} of capacity");
        assert!((0.6..1.1).contains(&share), "{name}: {share}");
    }
}

#[test]
fn loss_that_is_the_networks_way_does_not_starve_the_stream() {
    for (name, loss, burst) in
        [("1 %", 0.01, 1), ("5 %", 0.05, 1), ("10 %", 0.10, 1), ("5 % in bursts of 5", 0.05, 5)]
    {
        let mut link = Link::new(2_000_000, 7);
        (link.loss, link.burst) = (loss, burst);
        let mut path = Path::following(link);
        path.run(seconds(20));
        let share = path.share(seconds(60));
        println!("{name} loss: {share:.2} of capacity");
        assert!((0.5..1.1).contains(&share), "{name}: {share}");
    }
}

#[test]
fn disorder_and_doubles_are_no_congestion() {
    let mut link = Link::new(2_000_000, 3);
    (link.late, link.doubled) = (0.03, 0.02);
    let mut path = Path::following(link);
    path.run(seconds(20));
    let share = path.share(seconds(40));
    println!("reordered and doubled: {share:.2} of capacity");
    assert!((0.5..1.1).contains(&share), "{share}");
}

#[test]
fn a_clock_that_drifts_is_no_queue() {
    for drift in [100e-6, -100e-6] {
        let mut path = Path::new(Link::new(3_000_000, 1), 1_000_000);
        path.receiver.drift = drift;
        path.run(seconds(60));
        let estimate = path.estimator.bitrate_bps();
        assert!(estimate > 1_200_000, "{drift}: {estimate}");
    }
}

#[test]
fn half_the_bandwidth_is_noticed_soon_and_its_return_too() {
    let mut path = Path::following(Link::new(3_000_000, 1));
    path.run(seconds(30));
    path.link.rate_bps = 1_500_000;
    let down = path.until(seconds(10), |bps| bps <= 1_500_000).unwrap();
    path.run(seconds(20));
    let share = path.share(seconds(10));
    path.link.rate_bps = 3_000_000;
    let up = path.until(seconds(60), |bps| bps >= 2_250_000).unwrap();
    println!("3 to 1.5 Mb/s: down in {down:?}, then {share:.2}; back above 2.25 in {up:?}");
    assert!(down < seconds(2), "{down:?}");
    assert!((0.6..1.1).contains(&share), "{share}");
}

#[test]
fn what_is_little_sent_proves_little_but_keeps_what_was_proved() {
    let mut path = Path::new(Link::new(20_000_000, 1), 300_000);
    path.run(seconds(60));
    let estimate = path.estimator.bitrate_bps();
    assert!((START_BPS..START_BPS + 200_000).contains(&estimate), "{estimate}");
    path.video_bps = 0;
    path.run(seconds(60));
    assert!(path.estimator.bitrate_bps() >= START_BPS, "{}", path.estimator.bitrate_bps());
}

#[test]
fn a_probe_finds_room_at_once() {
    let mut path = Path::new(Link::new(5_000_000, 1), 500_000);
    path.run(seconds(3));
    path.estimator.probe(path.now, 3_000_000);
    path.run(seconds(1));
    let estimate = path.estimator.bitrate_bps();
    println!("probe for 3 Mb/s on 5: {estimate}");
    assert!((2_500_000..=3_100_000).contains(&estimate), "{estimate}");
}

#[test]
fn a_queue_that_a_probe_fills_costs_nothing_of_what_was_carried_before() {
    let mut path = Path::new(Link::new(700_000, 1), 500_000);
    path.run(seconds(10));
    for probe in 0..5 {
        let before = path.estimator.received_bps().unwrap();
        path.estimator.probe(path.now, 2_000_000);
        let mut least = u64::MAX;
        for _ in 0..2_000 {
            path.turn();
            least = least.min(path.estimator.bitrate_bps());
        }
        assert!(least >= before, "probe {probe}: {least} of {before}");
        path.run(seconds(2));
    }
}

#[test]
fn a_limit_is_known_for_a_while_after_it_was_found() {
    let mut path = Path::following(Link::new(700_000, 1));
    path.run(seconds(20));
    let limit = path.estimator.limit_bps(path.now).unwrap();
    assert!((600_000..800_000).contains(&limit), "{limit}");
    let mut free = Path::new(Link::new(20_000_000, 1), 700_000);
    free.run(seconds(20));
    assert_eq!(free.estimator.limit_bps(free.now), None);
    // Much less is sent from now on, and no queue fills any more.
    (path.follows, path.video_bps) = (false, 100_000);
    path.run(seconds(20));
    assert_eq!(path.estimator.limit_bps(path.now), None);
}

#[test]
fn what_a_probe_loses_by_the_way_is_no_limit() {
    let mut held_back = Vec::new();
    for seed in 0..20 {
        let mut link = Link::new(3_000_000, seed);
        link.loss = 0.03;
        let mut path = Path::new(link, 500_000);
        path.run(seconds(3));
        path.estimator.probe(path.now, 1_250_000);
        path.run(seconds(1));
        // What is needed to go up to a layer of 1 Mb/s.
        held_back.extend(Some(path.estimator.bitrate_bps()).filter(|bps| *bps < 1_150_000));
    }
    println!("held back: {held_back:?}");
    assert!(held_back.len() <= 2, "{held_back:?}");
}

#[test]
fn a_probe_finds_the_limit_and_does_no_harm() {
    let mut path = Path::new(Link::new(1_000_000, 1), 500_000);
    path.run(seconds(3));
    path.estimator.probe(path.now, 3_000_000);
    path.run(seconds(2));
    let estimate = path.estimator.bitrate_bps();
    println!("probe for 3 Mb/s on 1: {estimate}");
    assert!((500_000..=1_050_000).contains(&estimate), "{estimate}");
}

#[test]
fn a_viewer_that_stops_giving_feedback_is_missed_and_one_that_is_sent_nothing_is_not() {
    let round_trip = Duration::from_millis(50);
    let mut path = Path::new(Link::new(5_000_000, 1), 500_000);
    path.run(seconds(3));
    assert_eq!(path.estimator.unheard(path.now, round_trip), None);
    let at = path.estimator.missed_at(round_trip).unwrap();
    assert!(at > path.now + FEEDBACK_MISSED, "feedback has just come");
    path.deaf = true;
    path.run(FEEDBACK_MISSED + round_trip + Duration::from_millis(60));
    assert!(path.estimator.unheard(path.now, round_trip).unwrap() >= FEEDBACK_MISSED);
    path.deaf = false;
    path.run(Duration::from_millis(200));
    assert_eq!(path.estimator.unheard(path.now, round_trip), None);
    // Nothing is sent any more.
    path.run(Duration::from_millis(100));
    assert_eq!(path.estimator.unheard(path.now + Duration::from_millis(500), round_trip), None);
    let mut silent = Estimator::new(path.now);
    silent.sent(Run { first: 1, packets: 1, bytes: 100, at: path.now });
    assert_eq!(silent.unheard(path.now + seconds(9), round_trip), None, "it never gave any");
}

#[test]
fn the_receivers_own_estimate_holds_while_it_is_told() {
    let mut path = Path::new(Link::new(20_000_000, 1), 300_000);
    path.estimator.remb(path.now, 700_000);
    assert_eq!(path.estimator.bitrate_bps(), 700_000);
    path.estimator.handle_timeout(path.now + REMB_HOLDS);
    assert!(path.estimator.bitrate_bps() >= START_BPS);
}

#[test]
fn without_feedback_loss_reports_bound_it() {
    let mut path = Path::new(Link::new(1_000_000, 1), 0);
    for second in 0..20 {
        path.estimator.loss_report(path.now + seconds(second), Duration::from_millis(100), 128, 1_000_000);
    }
    assert!(path.estimator.bitrate_bps() < 400_000, "{}", path.estimator.bitrate_bps());
}

#[test]
fn feedback_on_nothing_that_was_sent_does_nothing() {
    let mut estimator = Estimator::new(start().instant);
    let round_trip = Duration::from_millis(50);
    estimator.feedback(start().instant, round_trip, 7, 0xFF_FFFF, (0..70_000).map(|_| Some(i16::MIN)));
    estimator.feedback(start().instant, round_trip, 65_535, 0, std::iter::empty());
    assert_eq!(estimator.bitrate_bps(), START_BPS);
}
