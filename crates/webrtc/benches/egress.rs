//! The send path against its limit: nanoseconds of processor time a packet that a shard takes to send frames to its
//! viewers, and that a bare loop takes for the same packets to the same addresses (see `support/limit.rs`). The two
//! take turns, so that whatever else the machine does falls on both.
//!
//! `cargo bench -p haul-webrtc --bench egress [-- WORD…]`: a word is part of a case's name, or a number of viewers; none
//! means all. Each case is measured on plain loopback, where sending includes the receivers' side of the kernel, and (`nic`) in a private
//! network namespace whose loopback queue is full, so that nothing is received, as with a network card. That needs
//! `unshare`, `ip` and `tc`, and root.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Audience, Cpu, Line, Shape, Stage, limit::Limit, median, nic, packets};

const VIEWERS: [usize; 3] = [100, 1_000, 4_000];
const ROUNDS: usize = 9;
/// Packets that are sent a round, over all viewers.
const UNIFORM_PACKETS: usize = 400_000;
const UNIFORM_MAX: [f64; 3] = [1.15, 1.15, 1.25];
/// Rounds of the clip, and their length: one GOP.
const CLIP_ROUNDS: usize = 3;
const CLIP_SECONDS: u64 = 2;
const CLIP_MAX: f64 = 1.3;
/// Rounds of sound alone, and packets that are sent a round, over all viewers.
const SOUND_ROUNDS: usize = 5;
const SOUND_PACKETS: usize = 200_000;
/// By how much a viewer among 4,000 may cost more than one among 100.
const GROWTH_MAX: f64 = 1.1;

fn main() {
    let place = nic::place();
    let (numbers, wanted): (Vec<_>, Vec<_>) =
        support::wanted().into_iter().partition(|word| word.parse::<usize>().is_ok());
    let runs = |case: &str| wanted.is_empty() || wanted.iter().any(|word| case.contains(word.as_str()));
    let names = ["uniform", "clip", "sound"].map(|name| format!("{place}/{name}"));
    if names.iter().any(|name| runs(name)) {
        nic::begin();
        let chosen = |viewers: &usize| numbers.is_empty() || numbers.contains(&viewers.to_string());
        let mut sides: Vec<Side> = VIEWERS.into_iter().filter(chosen).map(Side::new).collect();
        nic::fill();
        if runs(&names[0]) {
            uniform(&names[0], &mut sides);
        }
        if runs(&names[1]) {
            clip(&names[1], &mut sides);
        }
        if runs(&names[2]) {
            sound(&names[2], &mut sides);
        }
    }
    nic::enter();
}

fn uniform(name: &str, sides: &mut [Side]) {
    let frames = |side: &Side| support::uniform((UNIFORM_PACKETS / 8 / side.viewers()).max(8));
    let rounds = std::env::var("HAUL_BENCH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let costs: Vec<Cost> = measure(sides, rounds, frames);
    for (side, cost) in sides.iter().zip(&costs) {
        let max =
            VIEWERS.iter().position(|viewers| *viewers == side.viewers()).map(|index| UNIFORM_MAX[index]);
        cost.line(name, side.viewers(), max.unwrap()).print();
    }
    if let [few, .., many] = &costs[..] {
        let growth = Cost { limit: few.shard, ..*many };
        let (last, name) = (sides.last().unwrap().viewers(), format!("{name}/cost-of-a-viewer-against-few"));
        growth.line(&name, last, GROWTH_MAX).print();
    }
}

fn clip(name: &str, sides: &mut [Side]) {
    let costs = measure(sides, CLIP_ROUNDS, |_| support::clip(CLIP_SECONDS));
    for (side, cost) in sides.iter().zip(&costs) {
        cost.line(name, side.viewers(), CLIP_MAX).print();
    }
}

/// Sound by itself, which is a message of its own for every viewer and packet.
fn sound(name: &str, sides: &mut [Side]) {
    let costs = measure(sides, SOUND_ROUNDS, |side| support::sound(SOUND_PACKETS / side.viewers()));
    for (side, cost) in sides.iter().zip(&costs) {
        cost.line(name, side.viewers(), CLIP_MAX).print();
    }
}

/// A live and the two that send it.
struct Side {
    stage: Stage,
    audience: Audience,
    limit: Limit,
}

impl Side {
    fn new(viewers: usize) -> Self {
        eprintln!("{viewers} viewers join");
        let mut stage = Stage::new();
        let audience = stage.audience(viewers);
        let limit = Limit::new(&audience.addresses());
        Self { stage, audience, limit }
    }

    fn viewers(&self) -> usize {
        self.audience.sockets.len()
    }

    /// Processor nanoseconds that the limit takes for the frames.
    fn limit(&mut self, frames: &[Shape]) -> u64 {
        let (before, start) = (Cpu::own().ns(), std::time::Instant::now());
        for frame in frames {
            support::sleep_until(start + frame.at);
            self.limit.frame(frame);
        }
        Cpu::own().ns() - before
    }

    fn shard(&mut self, frames: &[Shape]) -> (u64, u64) {
        let (cpu, bytes) = (self.stage.cpu.ns(), self.stage.stats().rtp_bytes_out);
        self.audience.send(&self.stage, frames);
        (self.stage.cpu.ns() - cpu, self.stage.stats().rtp_bytes_out - bytes)
    }
}

/// Nanoseconds a packet.
#[derive(Clone, Copy)]
struct Cost {
    shard: f64,
    limit: f64,
    bytes: f64,
}

impl Cost {
    fn line(&self, case: &str, viewers: usize, max: f64) -> Line {
        Line {
            case: case.to_owned(),
            viewers,
            ns_per_packet: self.shard,
            limit_ns_per_packet: self.limit,
            max,
            bytes_per_packet: self.bytes,
        }
    }
}

/// Rounds of all sides, limit and shard in turn.
fn measure(sides: &mut [Side], rounds: usize, frames: impl Fn(&Side) -> Vec<Shape>) -> Vec<Cost> {
    let frames: Vec<Vec<Shape>> = sides.iter().map(frames).collect();
    let mut costs = vec![Vec::new(); sides.len()];
    for round in 0..rounds {
        for ((side, frames), costs) in sides.iter_mut().zip(&frames).zip(&mut costs) {
            // What the others have pushed out of the caches comes back first.
            let first = &frames[..frames.len().min(2)];
            side.limit(first);
            let limit = side.limit(frames);
            side.shard(first);
            let (shard, bytes) = side.shard(frames);
            let sent = (packets(frames) * side.viewers()) as f64;
            let cost =
                Cost { shard: shard as f64 / sent, limit: limit as f64 / sent, bytes: bytes as f64 / sent };
            eprintln!(
                "round {round}, {} viewers: {:.0} ns, limit {:.0}",
                side.viewers(),
                cost.shard,
                cost.limit
            );
            costs.push(cost);
        }
    }
    let middle = |costs: Vec<Cost>| Cost {
        shard: median(costs.iter().map(|cost| cost.shard)),
        limit: median(costs.iter().map(|cost| cost.limit)),
        bytes: costs[0].bytes,
    };
    costs.into_iter().map(middle).collect()
}
