//! A network in virtual time: a rate, a queue, a delay, and what goes wrong, the same for the same seed. And a receiver
//! that gives feedback as browsers do.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

mod screen;

pub use screen::Screen;

/// Random numbers that are the same every time (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Different ones for different seeds.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to 1.
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// One direction of a network.
#[derive(Debug, Clone)]
pub struct Link {
    /// What it carries.
    pub rate_bps: u64,
    /// How long it is.
    pub delay: Duration,
    /// How long the queue may be; what comes then is lost.
    pub queue: Duration,
    /// The share of packets lost at random.
    pub loss: f64,
    /// How many packets in a row are lost when one is.
    pub burst: u32,
    /// The share of packets that come 15 ms late, behind others.
    pub late: f64,
    /// The share of packets that come twice.
    pub doubled: f64,
    dice: Dice,
    free: Option<Instant>,
    losing: u32,
}

impl Link {
    /// A link of a rate, 25 ms long, with a queue of 400 ms.
    pub fn new(rate_bps: u64, seed: u64) -> Self {
        Self {
            rate_bps,
            delay: Duration::from_millis(25),
            queue: Duration::from_millis(400),
            loss: 0.0,
            burst: 1,
            late: 0.0,
            doubled: 0.0,
            dice: Dice::new(seed),
            free: None,
            losing: 0,
        }
    }

    /// When a packet of so many bytes comes out at the other end: never, once, or twice.
    pub fn send(&mut self, now: Instant, bytes: usize) -> Vec<Instant> {
        let begins = self.free.map_or(now, |free| free.max(now));
        if begins.duration_since(now) > self.queue {
            return Vec::new();
        }
        // 28 bytes of IP and UDP.
        let takes = Duration::from_nanos((bytes as u64 + 28) * 8_000_000_000 / self.rate_bps);
        self.free = Some(begins + takes);
        if self.losing == 0 && self.dice.roll() < self.loss / f64::from(self.burst) {
            self.losing = self.burst;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return Vec::new();
        }
        let mut comes = begins + takes + self.delay;
        if self.dice.roll() < self.late {
            comes += Duration::from_millis(15);
        }
        match self.dice.roll() < self.doubled {
            true => vec![comes, comes + Duration::from_millis(1)],
            false => vec![comes],
        }
    }
}

/// What came, and when feedback on it was given last.
#[derive(Debug)]
pub struct Receiver {
    /// First arrivals by transport-wide sequence number.
    came: BTreeMap<u64, Instant>,
    /// What was spoken of.
    next: u64,
    /// The receiver's clock: where it began, and how much faster it goes.
    origin: Instant,
    /// How much faster the receiver's clock goes, of 1.
    pub drift: f64,
    /// Reports on their way back: when they will be there, and what they say.
    reports: Vec<(Instant, Feedback)>,
    told: Instant,
}

/// What a receiver says came, in the units of transport-wide congestion control.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// The first packet's number.
    pub base: u16,
    /// Where the first delta counts from, in 64 ms; 24 bits.
    pub reference: u32,
    /// For each packet in turn how much later it came, in 250 µs, if it came.
    pub deltas: Vec<Option<i16>>,
}

/// How often feedback is given.
const FEEDBACK: Duration = Duration::from_millis(50);

impl Receiver {
    /// One that nothing has come to; `first` is the number it expects.
    pub fn new(now: Instant, first: u64) -> Self {
        Self {
            came: BTreeMap::new(),
            next: first,
            // Just before the 24 bits of reference times wrap.
            origin: now - Duration::from_millis(64 * 100),
            drift: 0.0,
            reports: Vec::new(),
            told: now,
        }
    }

    /// A packet will have come by `at`.
    pub fn arrives(&mut self, sequence: u64, at: Instant) {
        self.came.entry(sequence).or_insert(at);
    }

    /// Time passes: feedback is made of what has come by now. Returns what is back at the sender.
    pub fn turn(&mut self, now: Instant, delay: Duration) -> Vec<Feedback> {
        if now.duration_since(self.told) >= FEEDBACK {
            self.told = now;
            self.report(now, delay);
        }
        let back = self.reports.iter().take_while(|(at, _)| *at <= now).count();
        self.reports.drain(..back).map(|(_, feedback)| feedback).collect()
    }

    fn report(&mut self, now: Instant, delay: Duration) {
        let units = |at: Instant| {
            let elapsed = at.duration_since(self.origin).as_secs_f64() * (1.0 + self.drift);
            (elapsed * 4_000.0) as i64 + ((1 << 24) - 200) * 256
        };
        let came: Vec<_> = self.came.iter().filter(|(_, at)| **at <= now).map(|(n, at)| (*n, *at)).collect();
        let Some((highest, _)) = came.last() else { return };
        let base = came[0].0.min(self.next);
        let mut slots = vec![None; (highest - base + 1) as usize];
        for (sequence, at) in &came {
            slots[(sequence - base) as usize] = Some(units(*at));
        }
        let reference = slots.iter().flatten().min().map_or(0, |first| first.div_euclid(256));
        self.next = highest + 1;
        self.came.retain(|_, at| *at > now);
        let mut last = reference * 256;
        let deltas = slots.into_iter().map(|came| {
            came.map(|units| {
                let delta = units - last;
                last = units;
                delta as i16
            })
        });
        let feedback =
            Feedback { base: base as u16, reference: reference as u32 & 0xFF_FFFF, deltas: deltas.collect() };
        self.reports.push((now + delay, feedback));
    }
}
