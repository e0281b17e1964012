//! Streams over a bad network: whatever comes out decodes, and nearly everything comes out. Seeded, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What the network does.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// Packets lost, in thousandths.
    loss: u64,
    /// How many packets in a row are lost at a time.
    burst: u64,
    /// Packets take this much longer at random, so that they overtake each other.
    jitter_ms: u64,
    /// Packets that come twice, in thousandths.
    doubled: u64,
    /// From asking for a packet to getting it, without jitter.
    round_trip_ms: u64,
}

const CALM: Weather = Weather { loss: 0, burst: 1, jitter_ms: 0, doubled: 0, round_trip_ms: 40 };

/// How the encoder's pictures depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// H.264: each on the one before.
    Chain,
    /// VP8 in two temporal layers: each on the base layer's last.
    Layers,
    /// VP9 in flexible mode: on the one before or, each fourth, the one before that, so that some are never needed.
    Named,
    /// AV1: each on the one before.
    Sequence,
}

impl Shape {
    fn codec(self) -> Codec {
        match self {
            Shape::Chain => Codec::H264,
            Shape::Layers => Codec::Vp8,
            Shape::Named => Codec::Vp9,
            Shape::Sequence => Codec::Av1,
        }
    }
}

struct Picture {
    /// The pictures that it can't be decoded without; none for a keyframe.
    needs: Vec<usize>,
    packets: Vec<Packet>,
}

enum Event {
    Encode,
    Arrive(Packet),
    Timeout,
    Ask(u16),
    AskKeyframe,
}

struct World {
    weather: Weather,
    shape: Shape,
    random: u64,
    now_us: u64,
    next: u64,
    events: BTreeMap<(u64, u64), Event>,
    /// When the assembly is woken next.
    wakes_us: u64,
    assembly: Assembly,
    pictures: Vec<Picture>,
    sent: BTreeMap<u16, Packet>,
    sequence: u16,
    losing: u64,
    keyframe_wanted: bool,
    tl0: u8,
    /// Whole pictures that came out.
    shown: BTreeSet<usize>,
    /// The packets so far of a picture that comes out in parts.
    open: Vec<Bytes>,
    nacks: u64,
    keyframes_asked: u64,
}

impl World {
    fn new(shape: Shape, weather: Weather, seed: u64) -> Self {
        let mut world = Self {
            weather,
            shape,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            now_us: 0,
            next: 0,
            events: BTreeMap::new(),
            wakes_us: u64::MAX,
            assembly: Assembly::new(shape.codec(), Layer(0)),
            pictures: Vec::new(),
            sent: BTreeMap::new(),
            // Both numbers wrap on the way.
            sequence: 65_000,
            losing: 0,
            keyframe_wanted: true,
            tl0: 250,
            shown: BTreeSet::new(),
            open: Vec::new(),
            nacks: 0,
            keyframes_asked: 0,
        };
        world.later(0, Event::Encode);
        world
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn later(&mut self, us: u64, event: Event) {
        self.next += 1;
        self.events.insert((self.now_us + us, self.next), event);
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > seconds * 1_000_000 {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now_us = at;
            let now = start().after(Duration::from_micros(at));
            match event {
                Event::Encode => {
                    self.encode();
                    self.later(33_333, Event::Encode);
                }
                Event::Arrive(packet) => self.assembly.push(now, packet),
                Event::Timeout => {
                    self.wakes_us = u64::MAX;
                    if self.assembly.poll_timeout().is_some_and(|due| due <= now.instant) {
                        self.assembly.handle_timeout(now);
                    }
                }
                Event::Ask(sequence) => {
                    let packet = self.sent[&sequence].clone();
                    self.transmit(packet, 0);
                }
                Event::AskKeyframe => self.keyframe_wanted = true,
            }
            self.look(now);
        }
        self
    }

    fn look(&mut self, now: Now) {
        for sequence in self.assembly.poll_nacks(now.instant) {
            self.nacks += 1;
            self.later(self.weather.round_trip_ms * 500, Event::Ask(sequence));
        }
        while let Some(out) = self.assembly.poll() {
            match out {
                Assembled::Frame(frame) => self.came_out(&frame),
                Assembled::KeyframeNeeded => {
                    self.keyframes_asked += 1;
                    self.later(self.weather.round_trip_ms * 500, Event::AskKeyframe);
                }
                Assembled::OutOfOrder => panic!("nothing is out of order"),
            }
        }
        assert!(self.assembly.window.len() <= MAX_SPAN);
        if let Some(due) = self.assembly.poll_timeout() {
            let due = due.saturating_duration_since(start().instant).as_micros() as u64;
            let due = due.max(self.now_us + 1_000);
            if due < self.wakes_us {
                self.wakes_us = due;
                self.later(due - self.now_us, Event::Timeout);
            }
        }
    }

    fn came_out(&mut self, frame: &Frame) {
        if frame.begins {
            self.open.clear();
        }
        self.open.extend(frame.packets.iter().cloned());
        if !frame.ends {
            return;
        }
        let tail = self.open[0].len() - 4;
        let number = u32::from_be_bytes(self.open[0][tail..].try_into().unwrap()) as usize;
        let picture = &self.pictures[number];
        let payloads: Vec<_> = picture.packets.iter().map(|packet| packet.payload.clone()).collect();
        assert_eq!(self.open, payloads, "picture {number} is whole and in order");
        assert_eq!(frame.timestamp, picture.packets[0].timestamp);
        for needed in &picture.needs {
            assert!(self.shown.contains(needed), "picture {number} needs {needed}");
        }
        assert!(self.shown.last().is_none_or(|last| *last < number), "in order");
        self.shown.insert(number);
    }

    fn encode(&mut self) {
        let number = self.pictures.len();
        let keyframe = std::mem::take(&mut self.keyframe_wanted);
        let last_keyframe = self.pictures.iter().rposition(|picture| picture.needs.is_empty()).unwrap_or(0);
        let since = if keyframe { 0 } else { number - last_keyframe };
        let upper = self.shape == Shape::Layers && since % 2 == 1;
        if !upper {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let back = match self.shape {
            Shape::Chain | Shape::Sequence => 1,
            Shape::Layers => 2 - since % 2,
            Shape::Named => 1 + usize::from(since >= 4 && since % 4 == 0),
        };
        let needs = if keyframe { vec![] } else { vec![number - back.min(since)] };
        let count = if keyframe { 12 } else { 1 + self.random(8) as usize };
        let id = (0x7F80 + number as u16) & 0x7FFF | 0x8000;
        let [high, low] = id.to_be_bytes();
        let mut packets = Vec::new();
        for index in 0..count {
            let mut payload = match (self.shape, index) {
                (Shape::Chain, 0) if keyframe => vec![0x67, 0x42],
                (Shape::Chain, 1) if keyframe => vec![0x7C, 0x85, 0x88],
                (Shape::Chain, 0) => vec![0x5C, 0x81, 0b1001_1000],
                (Shape::Chain, _) => vec![if keyframe { 0x7C } else { 0x5C }, if keyframe { 5 } else { 1 }],
                (Shape::Layers, _) => {
                    let first = if index == 0 { 0x90 } else { 0x80 };
                    vec![first, 0xE0, high, low, self.tl0, if upper { 0x60 } else { 0 }, u8::from(!keyframe)]
                }
                (Shape::Named, _) => {
                    let begins = if index == 0 { 0x08 } else { 0 };
                    match keyframe {
                        true => vec![0x90 | begins, high, low],
                        false => vec![0xD0 | begins, high, low, (back as u8) << 1],
                    }
                }
                (Shape::Sequence, 0) => vec![if keyframe { 0x18 } else { 0x10 }, 0x32],
                (Shape::Sequence, _) => vec![0x90],
            };
            payload.extend((number as u32).to_be_bytes());
            packets.push(Packet {
                sequence: self.sequence,
                timestamp: (u32::MAX - 900_000).wrapping_add(number as u32 * 3_000),
                marker: index + 1 == count,
                payload: payload.into(),
            });
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.pictures.push(Picture { needs, packets: packets.clone() });
        for (index, packet) in packets.into_iter().enumerate() {
            self.sent.insert(packet.sequence, packet.clone());
            // A keyframe takes longer than parts wait for.
            self.transmit(packet, index as u64 * 1_000);
        }
    }

    fn transmit(&mut self, packet: Packet, after_us: u64) {
        if self.losing == 0 && self.random(1_000 * self.weather.burst) < self.weather.loss {
            self.losing = self.weather.burst;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return;
        }
        let times = 1 + u64::from(self.random(1_000) < self.weather.doubled);
        for _ in 0..times {
            let jitter = self.random(1_000 * self.weather.jitter_ms + 1);
            self.later(after_us + self.weather.round_trip_ms * 500 + jitter, Event::Arrive(packet.clone()));
        }
    }
}

/// Runs every shape with several seeds; returns the least share of pictures that came out whole, in thousandths, and
/// the most packets asked for, as a share of the packets sent.
fn through(weather: Weather) -> (usize, u64) {
    let mut worst = (1_000, 0);
    for shape in [Shape::Chain, Shape::Layers, Shape::Named, Shape::Sequence] {
        for seed in 1..=3 {
            let mut world = World::new(shape, weather, seed);
            world.run(30);
            // What was made in the last moment is still on its way.
            let made = world.pictures.len() - 30;
            let shown = world.shown.range(..made).count() * 1_000 / made;
            let asked =
                world.nacks * 1_000 / world.pictures.iter().map(|p| p.packets.len() as u64).sum::<u64>();
            worst = (worst.0.min(shown), worst.1.max(asked));
        }
    }
    worst
}

#[test]
fn a_calm_network_loses_nothing_and_is_asked_for_nothing() {
    assert_eq!(through(CALM), (1_000, 0));
    assert_eq!(through(Weather { doubled: 100, ..CALM }), (1_000, 0));
}

#[test]
fn packets_that_overtake_each_other_lose_nothing() {
    let (shown, asked) = through(Weather { jitter_ms: 8, ..CALM });
    assert!(shown == 1_000 && asked <= 2, "{shown} {asked}");
    let (shown, _) = through(Weather { jitter_ms: 60, doubled: 20, ..CALM });
    assert_eq!(shown, 1_000);
}

#[test]
fn one_in_a_hundred_lost_costs_next_to_nothing() {
    let (shown, asked) = through(Weather { loss: 10, ..CALM });
    assert!(shown >= 998 && asked <= 20, "{shown} {asked}");
}

#[test]
fn one_in_twenty_lost_costs_little() {
    let (shown, asked) = through(Weather { loss: 50, jitter_ms: 5, ..CALM });
    assert!(shown >= 990 && asked <= 80, "{shown} {asked}");
}

#[test]
fn one_in_ten_lost_is_borne() {
    let (shown, asked) = through(Weather { loss: 100, jitter_ms: 5, ..CALM });
    assert!(shown >= 950 && asked <= 150, "{shown} {asked}");
}

#[test]
fn bursts_are_borne() {
    let (shown, asked) = through(Weather { loss: 50, burst: 20, jitter_ms: 5, ..CALM });
    assert!(shown >= 950 && asked <= 100, "{shown} {asked}");
}

#[test]
fn a_long_uplink_is_given_its_time() {
    let (shown, _) = through(Weather { loss: 30, round_trip_ms: 200, ..CALM });
    assert!(shown >= 960, "{shown}");
}

#[test]
fn a_torn_gop_asks_for_a_keyframe_once_and_again_only_if_none_comes() {
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, false, SPS).packet(1, 0, true, IDR).packet(3, 1, true, SLICE).after(250);
    assert_eq!(story.told(), "K0 ?");
    let mut asked = Vec::new();
    for number in 4..200_u16 {
        story.after(50).packet(number, number.into(), true, SLICE);
        if story.told() == "?" {
            asked.push((number - 3) * 50);
        }
    }
    assert_eq!(asked, [500, 1_500, 3_500, 7_500], "from the first time on, in ms");
}
