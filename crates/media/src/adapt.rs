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
/// How long an estimate that is too small is borne: a keyframe passes.
const BEAR: Duration = Duration::from_millis(500);
/// How long since the last change, before the next one up.
const SETTLE: Duration = Duration::from_secs(1);
/// A change up that is taken back within this time has failed.
const FAILED: Duration = Duration::from_secs(10);
/// How long is waited after the first failure; twice as long after each further one, up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));
/// How long a probe that found no room keeps from the next one; twice as long after each further one, up to the second.
const PROBE_AGAIN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));
/// How long after a change down no probe begins: what was too much has to leave the network's queue first, or the probe
/// makes it overflow.
const DRAINS: Duration = Duration::from_secs(2);
/// How long after its start a viewer's first probe begins, if the start itself proved too little.
const FIRST_PROBE: Duration = Duration::from_millis(700);
/// What is probed for, over what is needed.
const PROBE_OVER: f64 = 1.25;
/// How long after its start a viewer is left alone: what its network carries has yet to be seen.
const GRACE: Duration = Duration::from_secs(1);
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
    /// When the last change up was.
    went_up: Option<Instant>,
    /// Since when the estimate is too small for what is sent.
    short_since: Option<Instant>,
    /// No change up before then, and how long that was waited for.
    not_before: Option<Instant>,
    back_off: Duration,
    /// No probe before then, and how long that was waited for.
    next_probe: Instant,
    probe_back_off: Duration,
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
            (Aim::SoundOnly, _) => self.resume(now, room, candidates),
            // It fell silent, is not wanted any more, or was never chosen.
            (_, None) => {
                let next = fitting(candidates, room, 1.0).unwrap_or(smallest);
                self.change(now, Aim::Layer(next.layer));
            }
            (_, Some(_)) if !may_judge => {}
            (_, Some(current)) => {
                self.stay_or_fall(now, room, current, candidates);
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

    fn stay_or_fall(&mut self, now: Instant, room: f64, current: LayerRate, candidates: &[LayerRate]) {
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
        if self.went_up.is_some_and(|at| now.saturating_duration_since(at) < FAILED) {
            self.not_before = Some(now + self.back_off);
            self.back_off = (2 * self.back_off).min(BACK_OFF.1);
        }
        self.next_probe = self.next_probe.max(now + DRAINS);
        let next = if is_smallest { None } else { fitting(candidates, room, 1.0).or(Some(candidates[0])) };
        self.change(now, next.map_or(Aim::SoundOnly, |next| Aim::Layer(next.layer)));
    }

    fn climb(
        &mut self,
        now: Instant,
        network: Network,
        room: f64,
        current: LayerRate,
        candidates: &[LayerRate],
    ) {
        if self.went_up.is_some_and(|at| now.saturating_duration_since(at) >= FAILED) {
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
        let may = network.probes && !network.probing && !network.congested;
        let is_due = now >= self.next_probe && self.not_before.is_none_or(|at| now >= at);
        if !may || !is_due || room >= needed {
            return None;
        }
        self.next_probe = now + self.probe_back_off;
        self.probe_back_off = (2 * self.probe_back_off).min(PROBE_AGAIN.1);
        Some((PROBE_OVER * next.bitrate_bps as f64) as u64 + network.sound_bps)
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
