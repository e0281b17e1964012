//! Which layer one viewer gets: the largest that its network carries, or the one it asked for if that fits; sound alone
//! where not even the smallest does. Up slowly and only where there is proof, down at once.

use std::time::{Duration, Instant};

use haul_model::Layer;

/// How much larger than a layer the estimate must be to go up to it, and how much of a layer it must be to stay.
const UP: f64 = 1.15;
const STAY: f64 = 0.95;
/// How much of the only layer there is it must be to go on showing parts of it, and of the smallest of several.
const STAY_WITH_PARTS: f64 = 0.35;
const STAY_WITH_SMALLEST: f64 = 0.8;
/// How much of the only layer it must be to begin with parts of it again.
const RESUME_WITH_PARTS: f64 = 0.6;
/// How much larger than a layer it must be to fall to it while a queue is full, which has to empty as well: with less, the next
/// picture would wait behind it.
const FALL: f64 = 1.25;
/// How long an estimate that is too small is borne: a keyframe passes.
const BEAR: Duration = Duration::from_millis(500);
/// How long since the last change, before the next one up.
const SETTLE: Duration = Duration::from_secs(1);
/// A change up that is taken back within this time has failed.
const FAILED: Duration = Duration::from_secs(10);
/// How long is waited after the first failure; twice as long after each further one, up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));
/// How long after a change down no probe begins: what was too much has to leave the network's queue first, or the probe
/// makes it overflow.
const DRAINS: Duration = Duration::from_secs(2);
/// How long a probe that found no room keeps from the next one; twice as long after each further one, up to the second.
const PROBE_AGAIN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(4));
/// How soon after pictures have returned the next layer is probed for: the smallest says little of what there is room for.
const PROBE_ON: Duration = Duration::from_millis(300);
/// A probe goes no further beyond what is known than this, in favour of networks that hold little back; one that gets
/// there is followed by the next at once.
const PROBE_STEP: f64 = 2.0;
/// So much of a step is as good as all of it.
const STEPPED: f64 = 0.85;
/// How long after its start a viewer's first probe begins, if the start itself proved too little.
const FIRST_PROBE: Duration = Duration::from_millis(700);
/// What is probed for, over what is needed.
const PROBE_OVER: f64 = 1.25;
/// How long after its start a viewer is left alone: what its network carries has yet to be seen.
const GRACE: Duration = Duration::from_secs(1);
/// A viewer that has said nothing for this long gets no pictures: nobody knows what becomes of them.
const DEAF: Duration = Duration::from_secs(2);
/// A stream that is taken to need nothing would be resumed at once and for nothing.
const MIN_LAYER_BPS: u64 = 30_000;

/// What a layer takes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRate {
    /// Which.
    pub layer: Layer,
    /// Bits a second, with everything that goes with it on the wire.
    pub bitrate_bps: u64,
}

/// What the viewer asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerChoice {
    /// The largest that fits.
    #[default]
    Auto,
    /// This one, if it fits.
    Layer(Layer),
}

/// What a viewer is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Nothing is known of any layer yet: whatever comes.
    Any,
    /// Pictures of this layer.
    Layer(Layer),
    /// Sound alone, until there is room again.
    SoundOnly,
}

/// Why a viewer gets what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is the best there is, or it was asked for.
    Wanted,
    /// The network carries no more.
    Network,
}

/// What is known of the network.
#[derive(Debug, Clone, Copy)]
pub struct Network {
    /// What it carries.
    pub estimate_bps: u64,
    /// Whether the viewer has said anything about it. Who never does is left with what it started with.
    pub known: bool,
    /// Whether probes are possible.
    pub probes: bool,
    /// Whether one is under way.
    pub probing: bool,
    /// Whether its queue is filling now.
    pub congested: bool,
    /// Whether pictures are being left out because they would come late.
    pub behind: bool,
    /// For how long the viewer has said nothing of what it was sent, once that is longer than usual.
    pub unheard: Option<Duration>,
    /// What everything but the pictures takes.
    pub sound_bps: u64,
}

/// One viewer's choice.
#[derive(Debug)]
pub struct Adapt {
    choice: LayerChoice,
    aim: Aim,
    reason: Reason,
    started: Instant,
    changed: Instant,
    /// When the last change up was, while it is not known whether it holds.
    went_up: Option<Instant>,
    /// Since when the estimate is too small for what is sent.
    short_since: Option<Instant>,
    /// No change up before then, and how long that was waited for.
    not_before: Option<Instant>,
    back_off: Duration,
    /// No probe before then, and how long that was waited for.
    next_probe: Instant,
    probe_back_off: Duration,
    /// What the last probe was for, if that was a step on the way to more.
    step: Option<f64>,
}

impl Adapt {
    /// Nobody has asked for anything.
    pub fn new(now: Instant) -> Self {
        Self {
            choice: LayerChoice::Auto,
            aim: Aim::Any,
            reason: Reason::Wanted,
            started: now,
            changed: now,
            went_up: None,
            short_since: None,
            not_before: None,
            back_off: BACK_OFF.0,
            next_probe: now + FIRST_PROBE,
            probe_back_off: PROBE_AGAIN.0,
            step: None,
        }
    }

    /// The viewer asks for a layer, or for none in particular. What failed for it before may be tried again.
    pub fn ask(&mut self, now: Instant, choice: LayerChoice) {
        self.choice = choice;
        self.not_before = None;
        self.next_probe = now;
        self.probe_back_off = PROBE_AGAIN.0;
        self.changed = self.changed.min(now.checked_sub(SETTLE).unwrap_or(now));
    }

    /// What was asked for.
    pub fn choice(&self) -> LayerChoice {
        self.choice
    }

    /// What the viewer is to get now.
    pub fn aim(&self) -> Aim {
        self.aim
    }

    /// Why it is not more.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Another broadcast: its layers are others.
    pub fn restart(&mut self, now: Instant) {
        let paused = self.aim == Aim::SoundOnly;
        self.choice = LayerChoice::Auto;
        self.aim = if paused { Aim::SoundOnly } else { Aim::Any };
        self.changed = now;
        self.short_since = None;
        self.not_before = None;
        self.back_off = BACK_OFF.0;
    }

    /// The layer to start with, of those there are (the smallest first): the largest that the network is taken to carry.
    pub fn start(&mut self, now: Instant, network: Network, layers: &[LayerRate]) -> Aim {
        self.started = now;
        self.changed = now;
        self.next_probe = now + FIRST_PROBE;
        let candidates = self.candidates(layers);
        if let Some(best) = fitting(candidates, room(network), 1.0).or(candidates.first().copied()) {
            self.aim = Aim::Layer(best.layer);
            self.reason = reason(best, candidates);
        }
        self.aim
    }

    /// Looks at what is there and what fits. Returns what the viewer is to get, and whether a probe should begin and for
    /// how much. `layers` are those that are being sent, the smallest first.
    pub fn decide(&mut self, now: Instant, network: Network, layers: &[LayerRate]) -> Decision {
        let candidates = self.candidates(layers);
        let Some(smallest) = candidates.first().copied() else {
            return Decision { aim: self.aim, probe_bps: None };
        };
        let room = room(network);
        let current = match self.aim {
            Aim::Layer(layer) => candidates.iter().copied().find(|rate| rate.layer == layer),
            Aim::Any | Aim::SoundOnly => None,
        };
        let may_judge = network.known && now.saturating_duration_since(self.started) >= GRACE;
        match (self.aim, current) {
            _ if network.unheard.is_some() => self.fall_unheard(now, network.unheard, candidates),
            (Aim::SoundOnly, _) => self.resume(now, room, candidates),
            // It fell silent, is not wanted any more, or was never chosen.
            (_, None) => {
                let next = fitting(candidates, room, 1.0).unwrap_or(smallest);
                self.change(now, Aim::Layer(next.layer));
            }
            (_, Some(_)) if !may_judge => {}
            (_, Some(current)) => {
                match network.behind && candidates[0].layer != current.layer {
                    true => self.fall_behind(now, room, current, candidates),
                    false => self.stay_or_fall(now, network, current, candidates),
                }
                if self.aim == Aim::Layer(current.layer) {
                    self.climb(now, network, room, current, candidates);
                }
            }
        }
        self.reason = match self.aim {
            Aim::Layer(layer) => {
                let current = candidates.iter().find(|rate| rate.layer == layer).copied();
                current.map_or(Reason::Wanted, |current| reason(current, candidates))
            }
            Aim::SoundOnly => Reason::Network,
            Aim::Any => Reason::Wanted,
        };
        Decision { aim: self.aim, probe_bps: self.probe(now, network, room, candidates) }
    }

    /// What may be chosen from: all that is not larger than what was asked for.
    fn candidates<'a>(&self, layers: &'a [LayerRate]) -> &'a [LayerRate] {
        let asked = match self.choice {
            LayerChoice::Layer(asked) => layers.iter().position(|rate| rate.layer == asked),
            LayerChoice::Auto => None,
        };
        asked.map_or(layers, |index| &layers[..=index])
    }

    fn stay_or_fall(&mut self, now: Instant, network: Network, current: LayerRate, candidates: &[LayerRate]) {
        let room = room(network);
        let is_smallest = candidates[0].layer == current.layer;
        let share = match (is_smallest, candidates.len()) {
            (true, 1) => STAY_WITH_PARTS,
            (true, _) => STAY_WITH_SMALLEST,
            (false, _) => STAY,
        };
        if room >= share * current.bitrate_bps as f64 {
            self.short_since = None;
            return;
        }
        let since = *self.short_since.get_or_insert(now);
        let is_hopeless = room < share / 2.0 * current.bitrate_bps as f64;
        if !is_hopeless && now.saturating_duration_since(since) < BEAR {
            return;
        }
        let margin = if network.congested { FALL } else { 1.0 };
        let next = if is_smallest { None } else { fitting(candidates, room, margin).or(Some(candidates[0])) };
        self.fall(now, next.map_or(Aim::SoundOnly, |next| Aim::Layer(next.layer)));
    }

    /// What is sent comes late, whatever the estimate says. It takes a keyframe to go on: that may as well be one of a smaller
    /// layer, which is there sooner.
    fn fall_behind(&mut self, now: Instant, room: f64, current: LayerRate, candidates: &[LayerRate]) {
        let index = candidates.iter().position(|rate| rate.layer == current.layer).unwrap_or(0);
        let smaller = &candidates[..index];
        if let Some(next) = fitting(smaller, room, FALL).or(smaller.first().copied()) {
            self.fall(now, Aim::Layer(next.layer));
        }
    }

    /// The viewer has fallen silent: as little as possible is sent until it is heard of again. What was known of its
    /// network is kept for then.
    fn fall_unheard(&mut self, now: Instant, unheard: Option<Duration>, candidates: &[LayerRate]) {
        let next = match unheard.is_some_and(|unheard| unheard >= DEAF) {
            true => Aim::SoundOnly,
            false => Aim::Layer(candidates[0].layer),
        };
        if self.aim != next && self.aim != Aim::SoundOnly {
            self.fall(now, next);
        }
    }

    fn fall(&mut self, now: Instant, to: Aim) {
        if self.went_up.take().is_some_and(|at| now.saturating_duration_since(at) < FAILED) {
            self.not_before = Some(now + self.back_off);
            self.back_off = (2 * self.back_off).min(BACK_OFF.1);
        }
        self.next_probe = self.next_probe.max(now + DRAINS);
        self.change(now, to);
    }

    fn climb(
        &mut self,
        now: Instant,
        network: Network,
        room: f64,
        current: LayerRate,
        candidates: &[LayerRate],
    ) {
        if self.went_up.take_if(|at| now.saturating_duration_since(*at) >= FAILED).is_some() {
            self.back_off = BACK_OFF.0;
        }
        if network.congested || !self.may_go_up(now) {
            return;
        }
        if let Some(next) = fitting(candidates, room, UP)
            && next.bitrate_bps > current.bitrate_bps
        {
            self.go_up(now, next);
        }
    }

    fn go_up(&mut self, now: Instant, next: LayerRate) {
        self.went_up = Some(now);
        self.probe_back_off = PROBE_AGAIN.0;
        self.next_probe = now + if self.aim == Aim::SoundOnly { PROBE_ON } else { PROBE_AGAIN.0 };
        self.change(now, Aim::Layer(next.layer));
    }

    fn resume(&mut self, now: Instant, room: f64, candidates: &[LayerRate]) {
        let needed = if candidates.len() == 1 { RESUME_WITH_PARTS } else { UP };
        if self.may_go_up(now) && room >= needed * candidates[0].bitrate_bps as f64 {
            self.go_up(now, fitting(candidates, room, UP).unwrap_or(candidates[0]));
        }
    }

    fn may_go_up(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.changed) >= SETTLE && self.not_before.is_none_or(|at| now >= at)
    }

    fn change(&mut self, now: Instant, aim: Aim) {
        self.short_since = None;
        if self.aim != aim {
            self.aim = aim;
            self.changed = now;
        }
    }

    /// What to probe for: the next layer up, if what is known of the network does not let it through.
    fn probe(&mut self, now: Instant, network: Network, room: f64, candidates: &[LayerRate]) -> Option<u64> {
        let next = match self.aim {
            Aim::SoundOnly => candidates.first(),
            Aim::Layer(layer) => {
                let current = candidates.iter().position(|rate| rate.layer == layer)?;
                // In the beginning nothing is known, and the best is aimed for at once.
                match now.saturating_duration_since(self.started) < 2 * FIRST_PROBE {
                    true => candidates.last().filter(|best| best.layer != layer),
                    false => candidates.get(current + 1),
                }
            }
            Aim::Any => None,
        }?;
        let needed = UP * next.bitrate_bps as f64;
        let may = network.probes && !network.probing && !network.congested && network.unheard.is_none();
        let is_on_its_way = self.step.is_some_and(|step| room >= STEPPED * step);
        let is_due = (now >= self.next_probe || is_on_its_way) && self.not_before.is_none_or(|at| now >= at);
        if !may || !is_due || room >= needed {
            return None;
        }
        if !is_on_its_way {
            self.next_probe = now + self.probe_back_off;
            self.probe_back_off = (2 * self.probe_back_off).min(PROBE_AGAIN.1);
        }
        let target = PROBE_OVER * next.bitrate_bps as f64;
        // One that would reach what is needed goes all the way: its margin is what it is for.
        let is_step = self.aim != Aim::SoundOnly && PROBE_STEP * room < needed;
        let step = if is_step { PROBE_STEP * room } else { target };
        self.step = (step < target).then_some(step);
        Some(target.min(step) as u64 + network.sound_bps)
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What the viewer is to get.
    pub aim: Aim,
    /// Begin a probe for so much, all together.
    pub probe_bps: Option<u64>,
}

/// What is left for pictures.
fn room(network: Network) -> f64 {
    network.estimate_bps.saturating_sub(network.sound_bps) as f64
}

/// The largest that fits `margin` times; `candidates` are in order of size.
fn fitting(candidates: &[LayerRate], room: f64, margin: f64) -> Option<LayerRate> {
    candidates.iter().rev().find(|rate| margin * rate.bitrate_bps.max(MIN_LAYER_BPS) as f64 <= room).copied()
}

fn reason(current: LayerRate, candidates: &[LayerRate]) -> Reason {
    let is_best = candidates.last().is_some_and(|best| best.layer == current.layer);
    if is_best { Reason::Wanted } else { Reason::Network }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const HIGH: Layer = Layer(0);
    const MIDDLE: Layer = Layer(1);
    const LOW: Layer = Layer(2);
    const LOOK: Duration = Duration::from_millis(100);

    /// A viewer of layers of 200, 600 and 2,000 kb/s, looked at ten times a second.
    struct Watch {
        adapt: Adapt,
        now: Instant,
        network: Network,
        layers: Vec<LayerRate>,
        /// What it was changed to, and when, in ms from the beginning.
        changes: Vec<(u128, Aim)>,
        /// When probes began.
        probes: Vec<(u128, u64)>,
    }

    fn rate(layer: Layer, kbps: u64) -> LayerRate {
        LayerRate { layer, bitrate_bps: kbps * 1_000 }
    }

    impl Watch {
        fn new(kbps: u64) -> Self {
            Self::of(vec![rate(LOW, 200), rate(MIDDLE, 600), rate(HIGH, 2_000)], kbps)
        }

        fn of(layers: Vec<LayerRate>, kbps: u64) -> Self {
            let network = Network {
                estimate_bps: kbps * 1_000,
                known: true,
                probes: true,
                probing: false,
                congested: false,
                behind: false,
                unheard: None,
                sound_bps: 0,
            };
            let now = start().instant;
            let mut adapt = Adapt::new(now);
            adapt.start(now, network, &layers);
            Self { adapt, now, network, layers, changes: Vec::new(), probes: Vec::new() }
        }

        fn run(&mut self, seconds: f64) {
            for _ in 0..(seconds * 10.0) as u32 {
                self.now += LOOK;
                let before = self.adapt.aim();
                let decision = self.adapt.decide(self.now, self.network, &self.layers);
                let ms = (self.now - start().instant).as_millis();
                if decision.aim != before {
                    self.changes.push((ms, decision.aim));
                }
                self.probes.extend(decision.probe_bps.map(|bps| (ms, bps)));
            }
        }

        fn carries(&mut self, kbps: u64) {
            self.network.estimate_bps = kbps * 1_000;
        }

        fn aims(&mut self) -> Vec<Aim> {
            std::mem::take(&mut self.changes).into_iter().map(|(_, aim)| aim).collect()
        }
    }

    #[test]
    fn it_starts_with_what_fits_and_an_estimate_that_wavers_round_a_layer_changes_nothing() {
        let mut watch = Watch::new(700);
        assert_eq!(watch.adapt.aim(), Aim::Layer(MIDDLE));
        for _ in 0..100 {
            // More than the layer, but not by the margin that a change up needs; less, but not less than bears staying.
            watch.carries(2_250);
            watch.run(0.3);
            watch.carries(580);
            watch.run(0.3);
        }
        assert_eq!(watch.aims(), []);
        watch.carries(2_310);
        watch.run(0.3);
        assert_eq!(watch.aims(), [Aim::Layer(HIGH)]);
        watch.carries(1_910);
        watch.run(30.0);
        assert_eq!(watch.aims(), [], "what was reached is kept");
    }

    #[test]
    fn a_short_dip_is_borne_and_a_deep_one_is_not() {
        let mut watch = Watch::new(3_000);
        watch.run(2.0);
        watch.carries(1_500);
        watch.run(0.4);
        watch.carries(3_000);
        watch.run(2.0);
        assert_eq!(watch.aims(), []);
        watch.carries(1_500);
        watch.run(0.7);
        assert_eq!(watch.aims(), [Aim::Layer(MIDDLE)]);
        watch.carries(90);
        watch.run(0.1);
        assert_eq!(watch.aims(), [Aim::Layer(LOW)], "at once");
        watch.run(0.6);
        assert_eq!(watch.aims(), [Aim::SoundOnly]);
        assert_eq!(watch.adapt.reason(), Reason::Network);
    }

    #[test]
    fn who_is_behind_gets_a_smaller_layer_whatever_the_estimate_says() {
        let mut watch = Watch::new(3_000);
        watch.run(2.0);
        watch.network.behind = true;
        watch.run(0.1);
        assert_eq!(watch.aims(), [Aim::Layer(MIDDLE)]);
        let mut single = Watch::of(vec![rate(HIGH, 2_000)], 3_000);
        single.network.behind = true;
        single.run(2.0);
        assert_eq!(single.aims(), [], "it has pictures left out, and no other layer");
    }

    #[test]
    fn a_fall_from_a_full_queue_leaves_room_to_empty_it() {
        for (congested, to) in [(true, LOW), (false, MIDDLE)] {
            let mut watch = Watch::new(3_000);
            watch.run(2.0);
            watch.network.congested = congested;
            watch.carries(700);
            watch.run(0.1);
            assert_eq!(watch.aims(), [Aim::Layer(to)]);
        }
    }

    #[test]
    fn changes_up_that_fail_are_tried_again_less_and_less_often() {
        let mut watch = Watch::new(700);
        watch.run(2.0);
        let mut ups = Vec::new();
        for _ in 0..6 {
            // The estimate says there is room, and as soon as it is used there is none.
            watch.carries(2_500);
            while watch.adapt.aim() != Aim::Layer(HIGH) {
                watch.run(0.1);
            }
            ups.push((watch.now - start().instant).as_secs_f64());
            watch.carries(700);
            while watch.adapt.aim() != Aim::Layer(MIDDLE) {
                watch.run(0.1);
            }
        }
        let waits: Vec<f64> = ups.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits[0] < 6.0 && waits[1] > 8.0 && waits[4] > 55.0, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait < 65.0), "{waits:?}");
        // One that holds is a success.
        watch.carries(2_500);
        watch.run(80.0);
        assert_eq!(watch.adapt.aim(), Aim::Layer(HIGH));
        let fell = watch.now;
        watch.carries(700);
        watch.run(1.0);
        watch.carries(2_500);
        while watch.adapt.aim() != Aim::Layer(HIGH) {
            watch.run(0.1);
        }
        assert!(watch.now - fell < Duration::from_secs(4), "{:?}", watch.now - fell);
    }

    #[test]
    fn sound_alone_ends_only_with_room_to_spare() {
        let mut watch = Watch::new(150);
        watch.run(3.0);
        assert_eq!(watch.aims(), [Aim::SoundOnly]);
        watch.carries(220);
        watch.run(20.0);
        assert_eq!(watch.aims(), [], "the smallest layer would just fit");
        watch.carries(240);
        watch.run(20.0);
        assert_eq!(watch.aims(), [Aim::Layer(LOW)]);
    }

    #[test]
    fn probes_come_less_often_but_never_seldom_and_not_into_a_full_queue() {
        let mut watch = Watch::new(150);
        watch.run(60.0);
        let gaps: Vec<u128> = watch.probes.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert_eq!(gaps[..3], [3_000, 4_000, 4_000], "the first of them after the fall");
        assert!(gaps[3..].iter().all(|gap| *gap == 4_000), "{gaps:?}");
        assert!(watch.probes.iter().skip(1).all(|(_, bps)| *bps == 250_000), "{:?}", watch.probes);
        watch.probes.clear();
        watch.network.congested = true;
        watch.run(20.0);
        assert_eq!(watch.probes, []);
        // From sound alone to the best, each probe follows the change before it.
        watch.network.congested = false;
        let began = watch.now;
        while watch.adapt.aim() != Aim::Layer(HIGH) {
            watch.run(0.1);
            watch.carries(watch.probes.last().map_or(150, |(_, bps)| bps / 1_000));
        }
        assert!(watch.now - began < Duration::from_secs(5), "{:?}", watch.now - began);
        let targets: Vec<u64> = watch.probes.iter().map(|(_, bps)| bps / 1_000).collect();
        assert!(targets.windows(2).all(|pair| 2 * pair[1] <= 5 * pair[0]), "in steps: {targets:?}");
    }

    #[test]
    fn where_probes_are_impossible_none_begins() {
        let mut watch = Watch::new(700);
        watch.network.probes = false;
        watch.run(30.0);
        assert_eq!(watch.probes, []);
    }

    #[test]
    fn the_only_layer_is_kept_in_parts_as_long_as_they_are_worth_it() {
        let mut watch = Watch::of(vec![rate(LOW, 1_500)], 1_600);
        watch.run(3.0);
        watch.carries(600);
        watch.run(20.0);
        assert_eq!(watch.aims(), [], "parts of it go on");
        watch.carries(400);
        watch.run(2.0);
        assert_eq!(watch.aims(), [Aim::SoundOnly]);
        watch.carries(800);
        watch.run(20.0);
        assert_eq!(watch.aims(), []);
        watch.carries(950);
        watch.run(2.0);
        assert_eq!(watch.aims(), [Aim::Layer(LOW)]);
    }

    #[test]
    fn a_layer_that_falls_silent_is_replaced_by_what_fits() {
        let mut watch = Watch::new(3_000);
        watch.layers.pop();
        watch.run(0.1);
        assert_eq!(watch.aims(), [Aim::Layer(MIDDLE)]);
        assert_eq!(watch.adapt.reason(), Reason::Wanted, "it is the best there is");
        watch.layers.clear();
        watch.run(1.0);
        assert_eq!(watch.aims(), [], "nothing to choose from");
    }

    #[test]
    fn what_was_asked_for_is_a_ceiling_and_the_network_still_decides_below_it() {
        let mut watch = Watch::new(3_000);
        assert_eq!(watch.adapt.aim(), Aim::Layer(HIGH));
        watch.run(2.0);
        watch.adapt.ask(watch.now, LayerChoice::Layer(MIDDLE));
        watch.run(0.1);
        assert_eq!((watch.aims(), watch.adapt.reason()), (vec![Aim::Layer(MIDDLE)], Reason::Wanted));
        watch.carries(300);
        watch.run(2.0);
        assert_eq!((watch.aims(), watch.adapt.reason()), (vec![Aim::Layer(LOW)], Reason::Network));
        // One that does not fit is asked for: what fits of what is below it, until there is room.
        watch.adapt.ask(watch.now, LayerChoice::Layer(HIGH));
        watch.run(5.0);
        assert_eq!((watch.aims(), watch.adapt.reason()), (vec![], Reason::Network));
        watch.carries(900);
        watch.run(5.0);
        assert_eq!(watch.aims(), [Aim::Layer(MIDDLE)]);
        watch.carries(2_500);
        watch.run(20.0);
        assert_eq!((watch.aims(), watch.adapt.reason()), (vec![Aim::Layer(HIGH)], Reason::Wanted));
    }

    #[test]
    fn a_viewer_that_falls_silent_is_not_flooded_and_gets_back_what_it_had() {
        let mut watch = Watch::new(3_000);
        watch.run(5.0);
        watch.network.unheard = Some(Duration::from_millis(800));
        watch.run(0.1);
        assert_eq!(watch.aims(), [Aim::Layer(LOW)]);
        watch.network.unheard = Some(DEAF);
        watch.run(5.0);
        assert_eq!(watch.aims(), [Aim::SoundOnly]);
        assert_eq!(watch.probes, [], "into the void");
        watch.network.unheard = None;
        watch.run(0.2);
        assert_eq!(watch.aims(), [Aim::Layer(HIGH)]);
        // Again and again: it is a line that does not carry it.
        watch.network.unheard = Some(DEAF);
        watch.run(0.1);
        watch.network.unheard = None;
        watch.run(3.0);
        assert_eq!(watch.aims(), [Aim::SoundOnly]);
    }
}
