//! What a viewer is shown: which layer, all of its frames or not, or sound alone. [`haul_media::adapt`] decides; here is
//! what it decides by and what follows from it.

use std::time::{Duration, Instant};

use haul_media::{Adapt, Aim, Budget, Forward, LayerChoice, Reason, Wish, adapt::Network};
use haul_model::{Frame, Layer};

use super::{Viewer, time_for, transport::Transport};
use crate::{
    feed::Feed,
    notice::{Quality, QualityLayer, QualityReason},
    stats::Counters,
};

/// How often is looked at what fits.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often a keyframe that a viewer waits for is wished for.
const WISH_INTERVAL: Duration = Duration::from_millis(500);
/// A keyframe that takes longer than this on a network whose limit is known is sent no faster than that.
const MAX_BURST: Duration = Duration::from_millis(150);
/// How long after the last picture that was left out a viewer counts as one that misses some.
const MISSES: Duration = Duration::from_secs(5);

/// What each picture touches comes first.
#[repr(C)]
pub(super) struct Steering {
    budget: Budget,
    /// Pictures are left out because they would come late, until a keyframe that would not.
    thinning: bool,
    adapt: Adapt,
    looked: Option<Instant>,
    wished: Option<Instant>,
    /// When that happened last.
    thinned: Option<Instant>,
    /// The layer that was chosen last is smaller than what is being sent.
    goes_down: bool,
    /// Pictures were stopped because a queue was filling: the keyframe that they go on with must not overflow it.
    was_cut: bool,
    /// What the viewer was told last.
    told: Option<Quality>,
    /// What it is to be told.
    news: Option<Quality>,
}

impl Steering {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            adapt: Adapt::new(now),
            budget: Budget::new(now),
            looked: None,
            wished: None,
            thinning: false,
            thinned: None,
            goes_down: false,
            was_cut: false,
            told: None,
            news: None,
        }
    }

    /// Whether a picture may go out; if not, what follows it waits for a keyframe.
    #[inline]
    pub(super) fn admits(
        &mut self,
        now: Instant,
        frame: &Frame,
        forward: &mut Forward,
        transport: &Transport,
        counters: &Counters,
    ) -> bool {
        if self.adapt.aim() == Aim::SoundOnly {
            return false;
        }
        let Some(rate_bps) = transport.spendable_bps() else { return true };
        if self.thinning {
            self.thinning = !(frame.keyframe && self.budget.is_paid(now, rate_bps));
            let is_left_out = self.thinning && frame.begins && forward.awaits() == Some(frame.layer);
            counters.frames_thinned.add(u64::from(is_left_out));
            return !self.thinning;
        }
        if forward.layer() != Some(frame.layer) || !frame.begins || self.budget.admits(now, rate_bps) {
            return true;
        }
        self.thinning = true;
        self.thinned = Some(now);
        forward.interrupt();
        counters.frames_late.add(1);
        counters.frames_thinned.add(1);
        false
    }

    pub(super) fn sent(&mut self, bytes: usize, keyframe: bool) {
        self.budget.sent(bytes);
        if keyframe {
            self.budget.bear();
        }
    }

    /// Whether packets may be sent again: not while those that were sent fill the network for long already.
    pub(super) fn admits_resends(&mut self, now: Instant, transport: &Transport) -> bool {
        transport.spendable_bps().is_none_or(|rate_bps| self.budget.admits(now, rate_bps))
    }

    /// How fast this keyframe may be sent, if that must not be all at once: one that pictures go on with after they were cut,
    /// and one that is longer than the queues of slow networks, where the network is known to be what sets the limit.
    pub(super) fn take_pace(&mut self, now: Instant, frame: &Frame, transport: &Transport) -> Option<u64> {
        let estimator = transport.estimator();
        if std::mem::take(&mut self.was_cut) {
            return Some(estimator.bitrate_bps());
        }
        let limit_bps = estimator.limit_bps(now).filter(|_| self.adapt.reason() == Reason::Network)?;
        (time_for(frame.size_bytes(), limit_bps) > MAX_BURST).then_some(limit_bps)
    }

    pub(super) fn goes_down(&self) -> bool {
        self.goes_down
    }

    pub(super) fn is_paused(&self) -> bool {
        self.adapt.aim() == Aim::SoundOnly
    }

    /// A keyframe is waited for from now on: it may be wished for at once.
    pub(super) fn interrupted(&mut self) {
        self.wished = None;
    }
}

impl Viewer {
    /// The layer to start with.
    pub(super) fn first_layer(&mut self, now: Instant, feed: &Feed) -> Option<Layer> {
        let network = self.network(now, feed);
        match self.steering.adapt.start(now, network, feed.layers()) {
            Aim::Layer(layer) => Some(layer),
            Aim::Any | Aim::SoundOnly => None,
        }
    }

    /// Another broadcast: its layers are others.
    pub(super) fn steer_anew(&mut self, now: Instant) {
        self.steering.adapt.restart(now);
        self.steering.thinning = false;
        self.steering.told = None;
    }

    /// The viewer asks for a layer, or leaves it to us. Acted on when it is steered next.
    pub(crate) fn prefer(&mut self, now: Instant, choice: LayerChoice) {
        self.steering.adapt.ask(now, choice);
        self.steering.looked = None;
    }

    /// Whether it gets sound alone because its network carries no more.
    pub(crate) fn is_paused(&self) -> bool {
        self.steering.is_paused()
    }

    /// What the viewer is to be told about what it gets, if that has changed.
    pub(crate) fn take_news(&mut self) -> Option<Quality> {
        self.steering.news.take()
    }

    /// Looks at what there is and what fits, and acts on it. Returns a keyframe that is wanted.
    pub(crate) fn steer(&mut self, now: Instant, feed: &Feed, counters: &Counters) -> Option<(Layer, Wish)> {
        let is_due = self.steering.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_INTERVAL);
        if !is_due {
            return None;
        }
        self.steering.looked = Some(now);
        if self.sealer.is_none() || self.video.is_none() || feed.layers().is_empty() {
            return None;
        }
        let network = self.network(now, feed);
        let before = self.steering.adapt.aim();
        let decision = self.steering.adapt.decide(now, network, feed.layers());
        counters.estimates.add(1);
        counters.estimates_kbps.add(network.estimate_bps / 1_000);
        if let Some(target_bps) = decision.probe_bps {
            counters.probes.add(1);
            self.transport.probe(now, target_bps);
        }
        let video = self.video.as_mut()?;
        match (before, decision.aim) {
            (before, after) if before == after => {}
            (before, Aim::Layer(layer)) => {
                video.forward.prefer(layer);
                self.steering.wished = None;
                let rate = |aim| match aim {
                    Aim::Layer(layer) => feed.layers().iter().position(|rate| rate.layer == layer),
                    Aim::Any | Aim::SoundOnly => None,
                };
                let is_up = rate(before) < rate(decision.aim);
                self.steering.goes_down = !is_up;
                if network.behind {
                    self.steering.thinning = false;
                    self.steering.was_cut = true;
                }
                if !is_up && network.congested && before != Aim::SoundOnly {
                    // What is too large makes the queue longer that the next keyframe has to pass.
                    video.forward.interrupt();
                    video.forget();
                    self.backlog.clear();
                    self.steering.was_cut = true;
                    counters.layers_cut.add(1);
                }
                if is_up {
                    counters.layers_up.add(1)
                } else {
                    counters.layers_down.add(1)
                }
                if before == Aim::SoundOnly {
                    counters.viewers_paused.sub(1);
                }
            }
            (_, Aim::SoundOnly) => {
                video.forward.interrupt();
                self.backlog.clear();
                counters.layers_down.add(1);
                counters.viewers_paused.add(1);
                counters.pauses.add(1);
            }
            (_, Aim::Any) => {}
        }
        self.tell(now, feed);
        self.wish(now, feed)
    }

    /// When it has to be looked again although nothing comes from the viewer.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.video.as_ref()?;
        let missed = self.transport.estimator().missed_at(self.round_trip).filter(|_| !self.is_paused())?;
        match (self.steering.looked, self.transport.estimator().is_waiting()) {
            (Some(looked), true) => Some(missed.max(looked + LOOK_INTERVAL)),
            // Once, to see whether there is anything to wait for by then.
            (Some(looked), false) => (looked < missed).then_some(missed),
            (None, _) => Some(missed),
        }
    }

    fn network(&self, now: Instant, feed: &Feed) -> Network {
        let estimator = self.transport.estimator();
        Network {
            estimate_bps: estimator.bitrate_bps(),
            known: estimator.is_informed(),
            probes: self.transport.has_feedback
                && self.video.as_ref().is_some_and(|video| video.has_padding()),
            probing: estimator.is_probing(),
            congested: estimator.is_congested(),
            behind: self.steering.thinning,
            unheard: estimator.unheard(now, self.round_trip),
            sound_bps: if self.audio.is_some() { feed.sound_bps() } else { 0 },
        }
    }

    /// The keyframe that the viewer waits for, if it is time to ask for it (again).
    fn wish(&mut self, now: Instant, feed: &Feed) -> Option<(Layer, Wish)> {
        let layer = self.video.as_ref()?.forward.awaits().filter(|_| !self.steering.is_paused())?;
        if self.steering.thinning {
            let rate_bps = self.transport.spendable_bps().unwrap_or(u64::MAX);
            if !self.steering.budget.is_paid(now, rate_bps) {
                return None;
            }
        }
        if self.steering.wished.is_some_and(|at| now.saturating_duration_since(at) < WISH_INTERVAL) {
            return None;
        }
        self.steering.wished = Some(now);
        let size = |layer| feed.layers().iter().position(|rate| rate.layer == layer);
        let shown = self.video.as_ref()?.forward.layer();
        // Who sees nothing, or more than gets through, is in a hurry.
        let is_urgent = shown.is_none_or(|shown| size(shown) > size(layer)) && !self.steering.thinning;
        Some((layer, if is_urgent { Wish::Loss } else { Wish::Switch }))
    }

    /// What it gets now, and why; `None` without pictures.
    pub(crate) fn quality(&self, now: Instant, feed: &Feed) -> Option<Quality> {
        let (video, steering) = (self.video.as_ref()?, &self.steering);
        let misses = steering.thinned.is_some_and(|at| now.saturating_duration_since(at) < MISSES);
        let choice = steering.adapt.choice();
        let reason = match (steering.adapt.reason(), choice) {
            (Reason::Network, _) => QualityReason::Network,
            _ if misses => QualityReason::Network,
            (Reason::Wanted, LayerChoice::Layer(_)) => QualityReason::Asked,
            (Reason::Wanted, LayerChoice::Auto) => QualityReason::Best,
        };
        let layers = feed.layers().iter().rev();
        Some(Quality {
            sound_only: steering.is_paused(),
            misses_pictures: misses,
            layer: video.forward.layer().map(|layer| feed.layer_name(layer)),
            choice: match choice {
                LayerChoice::Layer(layer) => Some(feed.layer_name(layer)),
                LayerChoice::Auto => None,
            },
            reason,
            layers: layers
                .map(|rate| QualityLayer { name: feed.layer_name(rate.layer), bitrate_bps: rate.bitrate_bps })
                .collect(),
        })
    }

    fn tell(&mut self, now: Instant, feed: &Feed) {
        let Some(quality) = self.quality(now, feed) else { return };
        let steering = &mut self.steering;
        if steering.told.as_ref().is_none_or(|told| told.differs(&quality)) {
            steering.told = Some(quality.clone());
            steering.news = Some(quality);
        }
    }
}
