//! What one viewer's network carries, from when packets were sent and when the viewer says they came: delay that grows
//! means a queue that fills (draft-ietf-rmcat-gcc-02, with what libwebrtc has learned since), loss bounds it from
//! above, and probes find out what lies beyond what is being sent.
//!
//! A frame goes out in one burst, so sending is recorded a run at a time and not a packet at a time. It knows neither
//! RTP nor RTCP: transport-wide sequence numbers come in, a bitrate comes out.

use std::time::{Duration, Instant};

mod acked;
mod loss;
mod probe;
mod rate;
mod route;
mod sent;
mod trendline;

use acked::Acked;
use loss::LossBound;
use probe::Probe;
use rate::RateControl;
use route::{Route, Variation};
pub use sent::Run;
use sent::SentRuns;
use trendline::{Trendline, Usage};

/// What a network is taken to carry before anything is known of it: enough for a phone's video, little enough for a
/// phone's network.
pub const START_BPS: u64 = 1_200_000;
/// No network is taken to carry less: a voice needs about as much.
pub const MIN_BPS: u64 = 40_000;
/// No network is taken to carry more: far above what any host sends to one viewer.
pub const MAX_BPS: u64 = 50_000_000;
/// What a burst can prove at most: short ones may pass through buckets that a stream would not.
pub const MAX_BURST_BPS: u64 = 6_000_000;
/// Packets sent within this time of each other are one group (gcc-02, 5.2).
const GROUP: Duration = Duration::from_millis(5);
/// A viewer's clock that jumps by more than this between two groups has been set: delays begin anew.
const CLOCK_JUMP_US: i64 = 3_000_000;
/// How long a word of the receiver's own estimate (REMB) holds.
const REMB_HOLDS: Duration = Duration::from_secs(10);
/// Feedback's units: reference times of 64 ms (24 bits, wrapping) and deltas of 250 µs
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).
const REFERENCE_US: i64 = 64_000;
const DELTA_US: i64 = 250;
/// Feedback that has not come this long after it could have is missed. Browsers give it every 50 to 250 ms.
const FEEDBACK_MISSED: Duration = Duration::from_millis(700);
/// For how long after its start a probe may be what fills a queue: what it sent has come through by then, and word of it has.
const PROBE_SHOWS: Duration = Duration::from_millis(800);
/// Feedback that speaks of packets this long unmentioned says nothing of now.
const MAX_REPORTED: usize = 2_048;

/// The estimate for one viewer. What sending touches comes first.
#[derive(Debug)]
#[repr(C)]
pub struct Estimator {
    sent: SentRuns,
    probe: Option<Probe>,
    /// The highest number that feedback has spoken of: what it says of older ones again is not counted again.
    reported: Option<u64>,
    /// When feedback came last, and when the first packet was sent since then.
    heard: Option<Instant>,
    unanswered: Option<Instant>,
    /// The last reference time, to carry it past its 24 bits.
    reference: Option<i64>,
    /// The group that packets are being added to, and the one before it.
    group: Option<Group>,
    previous: Option<Group>,
    /// Leaps in delay that may be another way through the network.
    route: Route,
    trend: Trendline,
    acked: Acked,
    rate: RateControl,
    loss: LossBound,
    /// What the receiver itself estimates (REMB), and until when that holds.
    remb: Option<(u64, Instant)>,
    /// What arrived before the last probe, and until when a queue may still be the probe's doing.
    carried: Option<(u64, Instant)>,
}

/// Packets sent together.
#[derive(Debug, Clone, Copy)]
struct Group {
    began: Instant,
    sent: Instant,
    /// When its first packet came, on the receiver's clock. The first and not the last: a frame's own length on the
    /// wire is no queue.
    came_us: i64,
}

impl Estimator {
    /// Nothing is known yet.
    pub fn new(now: Instant) -> Self {
        Self {
            sent: SentRuns::default(),
            reported: None,
            heard: None,
            unanswered: None,
            reference: None,
            group: None,
            previous: None,
            route: Route::default(),
            trend: Trendline::default(),
            acked: Acked::default(),
            rate: RateControl::new(now, START_BPS),
            loss: LossBound::default(),
            remb: None,
            probe: None,
            carried: None,
        }
    }

    /// What the network carries, in bits a second of UDP payload.
    pub fn bitrate_bps(&self) -> u64 {
        let bound = self.rate.bitrate_bps().min(self.loss.bound_bps());
        self.remb.map_or(bound, |(remb, _)| bound.min(remb)).clamp(MIN_BPS, MAX_BPS)
    }

    /// What arrived lately, in bits a second; `None` before anything did.
    pub fn received_bps(&self) -> Option<u64> {
        self.acked.steady_bps()
    }

    /// What the network was lately found not to carry more than; `None` where nothing was.
    pub fn limit_bps(&self, now: Instant) -> Option<u64> {
        self.rate.limit_bps(now).map(|limit| limit.max(self.bitrate_bps()))
    }

    /// Whether the viewer has said anything about its network.
    pub fn is_informed(&self) -> bool {
        self.reported.is_some() || self.remb.is_some() || self.loss.is_informed()
    }

    /// When a viewer that has given feedback before is due to be missed, if it goes on saying nothing.
    pub fn missed_at(&self, round_trip: Duration) -> Option<Instant> {
        self.reported?;
        Some(self.unanswered.or(self.heard)? + FEEDBACK_MISSED + round_trip)
    }

    /// Whether packets were sent since feedback came last.
    pub fn is_waiting(&self) -> bool {
        self.unanswered.is_some()
    }

    /// For how long it has said nothing of what it was sent, once that is longer than it should be.
    pub fn unheard(&self, now: Instant, round_trip: Duration) -> Option<Duration> {
        let missed = self.missed_at(round_trip).is_some_and(|at| now >= at);
        self.unanswered.filter(|_| missed).map(|since| now.saturating_duration_since(since))
    }

    /// The viewer is there, as something else than feedback shows.
    pub fn heard_of(&mut self, now: Instant) {
        self.heard = Some(now);
        self.unanswered = None;
    }

    /// Whether the network's queue is filling now.
    pub fn is_congested(&self) -> bool {
        self.trend.usage() == Usage::Over
    }

    /// Packets were sent in one burst.
    #[inline]
    pub fn sent(&mut self, run: Run) {
        if let Some(probe) = &mut self.probe {
            probe.sent(&run);
        }
        self.unanswered.get_or_insert(run.at);
        self.sent.push(run);
    }

    /// The viewer's word on packets from `base` on: for each in turn, how much later than the one before it came, in
    /// 250 µs; `None` for those that did not come. `reference` is where the first delta counts from, in 64 ms.
    pub fn feedback(
        &mut self,
        now: Instant,
        round_trip: Duration,
        base: u16,
        reference: u32,
        deltas: impl Iterator<Item = Option<i16>>,
    ) {
        self.heard = Some(now);
        self.unanswered = None;
        let mut came_us = self.reference(reference) * REFERENCE_US;
        let mut sequence = self.sent.nearest(base);
        let (mut came, mut lost) = (0, 0);
        for delta in deltas.take(MAX_REPORTED) {
            came_us += i64::from(delta.unwrap_or_default()) * DELTA_US;
            let is_news = self.reported.is_none_or(|reported| sequence > reported);
            match (self.sent.find(sequence), delta) {
                (Some(run), Some(_)) => {
                    came += u32::from(is_news);
                    self.arrived(now, run, came_us);
                }
                (Some(_), None) => lost += u32::from(is_news),
                (None, _) => {}
            }
            sequence += 1;
        }
        // Word of what was never sent is no word.
        if sequence <= self.sent.end() {
            self.reported = self.reported.max(sequence.checked_sub(1));
        }
        self.loss.report(now, round_trip, came, lost, self.rate.bitrate_bps());
        let usage = self.trend.usage();
        let carried = self.carried.filter(|(_, until)| now < *until).map(|(bps, _)| bps);
        self.rate.update(now, round_trip, usage, &self.acked, carried);
        let reported = self.reported.unwrap_or_default();
        if let Some(found) = self.probe.as_mut().and_then(|probe| probe.result(now, reported)) {
            self.probe = None;
            self.rate.probed(now, found);
            self.loss.probed(found);
        }
        if usage == Usage::Over && self.probe.as_ref().is_some_and(Probe::is_padded) {
            // It has its answer.
            self.probe = None;
        }
    }

    /// A receiver report instead of feedback: which share was lost, of 256. Of delay it says nothing, so all that it
    /// can do is bound what is being sent.
    pub fn loss_report(&mut self, now: Instant, round_trip: Duration, share: u8, sending_bps: u64) {
        self.rate.grow_unheard(now, sending_bps);
        let bitrate_bps = self.rate.bitrate_bps();
        self.loss.report(now, round_trip, 256 - u32::from(share), u32::from(share), bitrate_bps);
    }

    /// The receiver's own estimate (REMB), for clients that give no feedback.
    pub fn remb(&mut self, now: Instant, bitrate_bps: u64) {
        self.remb = Some((bitrate_bps, now + REMB_HOLDS));
        self.rate.raise(bitrate_bps);
    }

    /// Begins to find out whether the network carries `target_bps`: [`Estimator::padding`] says what to add to media.
    pub fn probe(&mut self, now: Instant, target_bps: u64) {
        self.probe = Some(Probe::padded(now, target_bps.min(MAX_BPS)));
        self.carried = self.acked.steady_bps().map(|bps| (bps, now + PROBE_SHOWS));
    }

    /// What is sent from now on and for so long goes out in a burst (a joiner's replay): how fast it comes says what the
    /// network carries, up to [`MAX_BURST_BPS`].
    pub fn burst(&mut self, now: Instant, lasts: Duration) {
        self.probe = Some(Probe::burst(now, MAX_BURST_BPS, lasts));
    }

    /// Whether a probe is under way.
    pub fn is_probing(&self) -> bool {
        self.probe.is_some()
    }

    /// How many bytes of padding are due now.
    pub fn padding(&mut self, now: Instant) -> usize {
        self.probe.as_mut().map_or(0, |probe| probe.padding(now))
    }

    /// When [`Estimator::padding`] will have something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.probe.as_ref().and_then(Probe::next_padding)
    }

    /// Forgets what has lapsed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.remb = self.remb.filter(|(_, until)| now < *until);
        self.probe.take_if(|probe| probe.is_lapsed(now));
    }

    fn reference(&mut self, reference: u32) -> i64 {
        let reference = i64::from(reference & 0xFF_FFFF);
        let carried = match self.reference {
            None => reference,
            Some(last) => {
                // The nearest number that ends in these 24 bits.
                let distance = (reference - last) << 40 >> 40;
                last + distance
            }
        };
        self.reference = Some(carried);
        carried
    }

    fn arrived(&mut self, now: Instant, run: Run, came_us: i64) {
        let bytes = run.bytes / run.packets.max(1);
        self.acked.add(came_us, bytes);
        if let Some(probe) = &mut self.probe {
            probe.arrived(&run, came_us, bytes);
        }
        match &mut self.group {
            Some(group) if run.at < group.began => {}
            Some(group) if run.at.duration_since(group.began) <= GROUP => {
                group.sent = group.sent.max(run.at);
                group.came_us = group.came_us.min(came_us);
            }
            _ => {
                let next = Group { began: run.at, sent: run.at, came_us };
                if let Some(done) = self.group.replace(next) {
                    self.group_done(now, done);
                }
            }
        }
    }

    fn group_done(&mut self, now: Instant, done: Group) {
        let Some(previous) = self.previous.replace(done) else { return };
        let sent_us = done.began.saturating_duration_since(previous.began).as_micros() as i64;
        let came_us = done.came_us - previous.came_us;
        if (came_us - sent_us).abs() > CLOCK_JUMP_US {
            self.trend = Trendline::default();
            self.route = Route::default();
            return;
        }
        let (ms, came_ms) = ((came_us - sent_us) as f64 / 1_000.0, done.came_us as f64 / 1_000.0);
        for Variation { ms, came_ms, sent_us } in self.route.pass(Variation { ms, came_ms, sent_us }) {
            self.trend.add(now, ms, came_ms, sent_us);
        }
    }
}

#[cfg(test)]
mod tests;
