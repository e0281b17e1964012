use std::time::{Duration, Instant};

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A link in virtual time.
struct Run {
    link: Link<Vec<u8>>,
    start: Instant,
    /// What has come out: when, and the datagram's number.
    out: Vec<(Duration, u32)>,
    sent: u32,
}

impl Run {
    fn new(words: &str, seed: u64) -> Self {
        let link = Link::new(Profile::default().with(words).unwrap(), seed);
        Self { link, start: Instant::now(), out: Vec::new(), sent: 0 }
    }

    /// Sends a datagram of `bytes` at `at`.
    fn push(&mut self, at: Duration, bytes: usize) {
        self.until(at);
        let mut datagram = vec![0; bytes];
        datagram[..4].copy_from_slice(&self.sent.to_be_bytes());
        self.sent += 1;
        self.link.push(self.start + at, datagram);
    }

    /// Sends `count` datagrams of 1,000 bytes, one each `every`, and lets them arrive.
    fn stream(mut self, count: u32, every: Duration) -> Self {
        for number in 0..count {
            self.push(every * number, 1_000);
        }
        self.until(Duration::from_secs(3_600));
        self
    }

    /// Takes out what arrives up to `at`, each at the time that the link has named.
    fn until(&mut self, at: Duration) {
        while let Some(next) = self.link.poll_timeout().filter(|next| *next <= self.start + at) {
            while let Some(datagram) = self.link.poll(next) {
                let number = u32::from_be_bytes(datagram[..4].try_into().unwrap());
                self.out.push((next - self.start, number));
            }
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.out.iter().map(|(_, number)| *number).collect()
    }
}

#[test]
fn a_wire_without_qualities_passes_everything_at_once() {
    let run = Run::new("", 1).stream(100, MS);
    let expected: Vec<_> = (0..100).map(|number| (MS * number, number)).collect();
    assert_eq!(run.out, expected);
}

#[test]
fn the_rate_is_kept_to_the_nanosecond_and_the_delay_comes_on_top() {
    // 1,000 bytes are 16 ms at 500 kb/s; they are sent twice as fast, into a queue that holds them all.
    let run = Run::new("rate=500k delay=150ms queue=1000000", 1).stream(500, 8 * MS);
    let expected: Vec<_> = (0..500).map(|number| (16 * MS * (number + 1) + 150 * MS, number)).collect();
    assert_eq!(run.out, expected);
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let mut run = Run::new("rate=1M queue=3000", 1);
    for _ in 0..5 {
        run.push(Duration::ZERO, 1_000);
    }
    assert_eq!(run.link.queued_bytes(), 3_000);
    // The first is through after 8 ms, and there is room again.
    run.push(8 * MS, 1_000);
    run.until(Duration::from_secs(1));
    assert_eq!(run.numbers(), [0, 1, 2, 5]);
    let stats = run.link.stats();
    assert_eq!((stats.pushed, stats.forwarded, stats.dropped_by_queue), (6, 4, 2));
    assert_eq!(stats.forwarded_bytes, 4_000);
}

#[test]
fn a_queue_of_time_holds_what_the_rate_lets_through_in_it() {
    let mut run = Run::new("rate=800k queue=500ms", 1);
    for _ in 0..100 {
        run.push(Duration::ZERO, 1_000);
    }
    assert_eq!(run.link.queued_bytes(), 50_000);
    run.until(Duration::from_secs(9));
    assert_eq!(run.out.last().unwrap().0, 500 * MS, "no datagram waits longer");
}

#[test]
fn what_is_queued_leaves_at_the_new_rate() {
    let mut run = Run::new("rate=1M queue=1s", 1);
    for _ in 0..3 {
        run.push(Duration::ZERO, 1_000);
    }
    // Half of the first is through; the rest, and the others, take an eighth of the time.
    run.until(4 * MS);
    let faster = run.link.profile().with("rate=8M").unwrap();
    run.link.set_profile(run.start + 4 * MS, faster);
    run.until(Duration::from_secs(1));
    let half = MS / 2;
    assert_eq!(run.out, [(4 * MS + half, 0), (5 * MS + half, 1), (6 * MS + half, 2)]);
}

#[test]
fn without_a_bottleneck_what_waited_leaves_at_once() {
    let mut run = Run::new("rate=1k queue=9s", 1);
    run.push(Duration::ZERO, 1_000);
    run.link.set_profile(run.start + MS, Profile::default());
    assert_eq!(run.link.poll_timeout(), Some(run.start + MS));
    assert!(run.link.poll(run.start + MS).is_some());
}

#[test]
fn the_same_seed_is_the_same_link_and_another_is_another() {
    let words = "rate=5M jitter=20ms loss=0.05 burst=0.01/0.2/0.9 reorder=0.05 duplicate=0.05";
    let [one, same, other] = [7, 7, 8].map(|seed| Run::new(words, seed).stream(2_000, 2 * MS));
    assert_eq!(one.out, same.out);
    assert_eq!(one.link.stats(), same.link.stats());
    assert_ne!(one.out, other.out);
}

#[test]
fn losses_are_as_many_as_were_asked_for() {
    for (words, share) in [("loss=0.01", 0.01), ("loss=0.10", 0.10), ("loss=1", 1.0)] {
        let stats = Run::new(words, 3).stream(20_000, MS).link.stats();
        let lost = stats.dropped_by_loss as f64 / stats.pushed as f64;
        assert!((lost - share).abs() < 0.01, "{words}: {lost}");
        assert_eq!(stats.forwarded + stats.dropped_by_loss, stats.pushed);
    }
}

#[test]
fn bursts_lose_several_in_a_row() {
    // 1 % of the datagrams begin a burst of four on average.
    let run = Run::new("burst=0.01/0.25/1", 3).stream(20_000, MS);
    let numbers = run.numbers();
    let gaps: Vec<u32> =
        numbers.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|gap| *gap > 0).collect();
    let mean = f64::from(gaps.iter().sum::<u32>()) / gaps.len() as f64;
    assert!((3.5..4.5).contains(&mean), "{mean}");
    let lost = run.link.stats().dropped_by_loss as f64 / 20_000.0;
    assert!((0.03..0.05).contains(&lost), "{lost}");
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let jittered = Run::new("delay=50ms jitter=30ms", 5).stream(1_000, MS);
    assert_eq!(jittered.numbers(), (0..1_000).collect::<Vec<_>>());
    let waits: Vec<_> = jittered.out.iter().map(|(at, number)| *at - MS * *number).collect();
    assert!(waits.iter().all(|wait| (50 * MS..=80 * MS).contains(wait)));
    assert!(waits.iter().max().unwrap().abs_diff(*waits.iter().min().unwrap()) > 15 * MS);

    let reordered = Run::new("reorder=0.1/5ms", 5).stream(1_000, MS);
    let overtaken = reordered.numbers().windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!((50..150).contains(&overtaken), "{overtaken}");
    let mut sorted = reordered.numbers();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1_000).collect::<Vec<_>>(), "and nothing is lost");
}

#[test]
fn doubles_come_out_twice() {
    let run = Run::new("duplicate=1 delay=5ms", 5).stream(10, MS);
    assert_eq!(run.numbers(), (0..10).flat_map(|number| [number, number]).collect::<Vec<_>>());
    assert_eq!(run.link.stats().duplicated, 10);
}
