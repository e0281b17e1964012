//! A viewer's media: frames are numbered, sealed and written out; what is lost on the way goes again; reports tell the
//! player which sound belongs to which picture.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use haul_media::{Broadcast, throttle::Complaints};
use haul_model::{Frame, Kind, Layer, TrackInfo};
use rtc::rtcp::{
    self,
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    sender_report::SenderReport,
    source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem},
    transport_feedbacks::{transport_layer_cc::TransportLayerCc, transport_layer_nack::TransportLayerNack},
};

use crate::{
    feed::Feed,
    mailbox::FeedKey,
    outbox::Outbox,
    route::Route,
    sdp::{Offer, STREAM},
    seal::Sealer,
    stats::Counters,
};

mod steering;
mod track;
mod transport;
mod writer;

use steering::Steering;
use track::Track;
use transport::Transport;
use writer::Writer;

/// Stream identifiers of what a viewer is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ssrcs {
    pub(crate) video: u32,
    pub(crate) rtx: u32,
    pub(crate) audio: u32,
}

/// A joiner's GOP goes out in slices, so that it does not overrun the first narrow queue on its way. A frame is sent as a
/// whole, so the keyframe, which is the first picture, never waits.
const SLICE_INTERVAL: Duration = Duration::from_millis(5);
/// The longest pause after a packet or a frame that is sent no faster than its network.
const MAX_PACE: Duration = Duration::from_millis(100);
/// How fast on the machine's own loopback, and to anybody else for about a round trip.
const LOOPBACK_BPS: u64 = 80_000_000;
const REPLAY_BPS: u64 = 20_000_000;
const REPLAY_BLIND: Duration = Duration::from_millis(100);
/// And from then on, until the viewer tells what comes.
const UNHEARD_BPS: u64 = 4_000_000;
/// Until then it is not judged whether it is too slow for a replay, but for no longer than this.
const UNJUDGED: Duration = Duration::from_millis(500);
/// A replay that would take longer than this by what is known is given up, and the host's next keyframe waited for.
const MAX_REPLAY: Duration = Duration::from_millis(1_500);
/// How long after the handshake the first slice goes out. What overtakes the client's own end of the handshake is lost
/// to it, and it could not know that there was anything to ask for.
const START_DELAY: Duration = Duration::from_millis(3);
/// How often sender reports are sent.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// How soon the first is tried again while the host's clock is not known yet. Each further time takes twice as long, up
/// to [`REPORT_INTERVAL`], for there are hosts that never tell.
const REPORT_RETRY: Duration = Duration::from_millis(200);
/// How many reports are remembered to measure round trips by.
const REPORTS_KEPT: usize = 8;
/// What a round trip is taken to be before one is measured, and the range that a measured one is held to: a viewer says
/// it, so it may be anything.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const ROUND_TRIP_RANGE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Repairs over a longer way than this go twice: one that is lost as well, and asked for again, would come too late for what
/// players hold back.
const LONG_WAY: Duration = Duration::from_millis(100);
/// How far apart, so that not the same burst of losses takes both.
const REPEAT_AFTER: Duration = Duration::from_millis(10);
/// The most repairs that wait to go again; what comes then goes once.
const MAX_REPEATS: usize = 64;

/// Receiver reports that come in quicker succession are taken as so far apart.
const LEAST_REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// A viewer's media side. What each frame touches comes first, and lies together.
#[repr(C)]
pub(crate) struct Viewer {
    /// How its packets are sealed, once connected.
    sealer: Option<Sealer>,
    /// Frames of the replayed GOP that are still to go out, and live ones behind them, with their timestamps. Bounded:
    /// a GOP is, and it empties faster than frames come; the next keyframe empties it at once.
    backlog: VecDeque<(Arc<Frame>, u32)>,
    audio: Option<Track>,
    video: Option<Track>,
    /// What all tracks share: how much is sent, and how much fits.
    transport: Transport,
    /// What of the pictures it gets.
    steering: Steering,
    /// When a receiver report was last taken, and how many payload bytes had been sent by then (wraps).
    heard: Option<(Instant, u32)>,
    /// The last packet of sound that a receiver report spoke of.
    sound_heard: Option<u32>,
    /// Kinds that were on offer and that the viewer did not take: they may come and go.
    declined: Vec<Kind>,
    /// Where its frames come from.
    pub(crate) feed: FeedKey,
    /// When the replay began.
    replayed: Instant,
    /// When the next slice of it goes out.
    next_slice: Option<Instant>,
    /// How fast, in bits a second, where it must not be faster than its network: the queue there is full.
    pace_bps: Option<u64>,
    /// Repairs that go again, and when.
    repeats: VecDeque<(Instant, u16)>,
    /// How often it has said that its picture is broken.
    complaints: Complaints,
    /// How long its answers take to come back.
    round_trip: Duration,
    /// Reports sent lately: the middle of the NTP time, by which receivers name them, and when.
    reports: VecDeque<(u32, Instant)>,
    /// When the next report is due, once connected.
    next_report: Option<Instant>,
    /// How long to wait if there is nothing to report then.
    report_retry: Duration,
}

impl Viewer {
    pub(crate) fn new(
        now: Instant,
        feed: FeedKey,
        offer: &Offer,
        broadcast: &Broadcast,
        ssrcs: Ssrcs,
    ) -> Self {
        // Of what is not carried here, nothing was declined.
        let offered = |track: &Option<TrackInfo>| track.as_ref().is_some_and(|it| it.codec.is_of_webrtc());
        let mut declined = Vec::new();
        declined.extend((offer.video.is_none() && offered(&broadcast.video)).then_some(Kind::Video));
        declined.extend((offer.audio.is_none() && offered(&broadcast.audio)).then_some(Kind::Audio));
        Self {
            feed,
            sealer: None,
            video: offer.video.as_ref().map(|format| Track::new(format, ssrcs)),
            audio: offer.audio.as_ref().map(|format| Track::new(format, ssrcs)),
            transport: Transport::new(now, offer.gives_feedback()),
            steering: Steering::new(now),
            heard: None,
            sound_heard: None,
            declined,
            backlog: VecDeque::new(),
            replayed: now,
            next_slice: None,
            pace_bps: None,
            repeats: VecDeque::new(),
            complaints: Complaints::default(),
            round_trip: ROUND_TRIP,
            reports: VecDeque::new(),
            next_report: None,
            report_retry: REPORT_RETRY,
        }
    }

    /// Whether the viewer can go on with `broadcast` as negotiated.
    pub(crate) fn can_play(&self, broadcast: &Broadcast) -> bool {
        let fits = |kind, track: &Option<Track>, sent: &Option<TrackInfo>| match (track, sent) {
            (_, None) => true,
            (Some(track), Some(sent)) => track.decodes(sent),
            (None, Some(sent)) => !sent.codec.is_of_webrtc() || self.declined.contains(&kind),
        };
        fits(Kind::Video, &self.video, &broadcast.video) && fits(Kind::Audio, &self.audio, &broadcast.audio)
    }

    /// The connection is up: start with the GOP there is. Returns the layer that it starts with.
    pub(crate) fn start(&mut self, now: Instant, sealer: Sealer, feed: &Feed) -> Layer {
        self.next_report = Some(now);
        self.sealer = Some(sealer);
        let first = self.first_layer(now, feed);
        let (Some(video), Some((layer, gop))) = (&mut self.video, feed.gop(first)) else { return Layer(0) };
        video.forward.prefer(layer);
        let timestamps = video.forward.replay(gop);
        self.backlog = gop.iter().cloned().zip(timestamps).collect();
        self.replayed = now + START_DELAY;
        self.next_slice = Some(self.replayed);
        // So much at once tells how fast the way is.
        let bytes: usize = gop.iter().map(|frame| frame.size_bytes()).sum();
        self.transport.burst(now, START_DELAY + SLICE_INTERVAL + time_for(bytes, REPLAY_BPS));
        layer
    }

    /// Another broadcast begins: tracks wait for their first frames of it.
    pub(crate) fn restart(&mut self, now: Instant) {
        for track in self.video.iter_mut().chain(&mut self.audio) {
            track.forward.restart();
        }
        self.backlog.clear();
        self.steer_anew(now);
        self.next_report = self.next_report.map(|_| now);
        self.report_retry = REPORT_RETRY;
    }

    /// Sends a frame, if this viewer is to have it.
    pub(crate) fn frame(
        &mut self,
        now: Instant,
        to: Route,
        frame: &Arc<Frame>,
        outbox: &mut Outbox,
        counters: &Counters,
    ) {
        let Some(sealer) = &self.sealer else { return };
        let track = match frame.kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let Some(track) = track else { return };
        if frame.kind == Kind::Video
            && !self.steering.admits(now, frame, &mut track.forward, &self.transport, counters)
        {
            return;
        }
        let before = track.forward.layer();
        let Some(timestamp) = track.forward.place(frame) else { return };
        if before != Some(frame.layer) && (before.is_none() || self.steering.goes_down()) {
            // Something was left out, or was too much. Players go on at this keyframe, and repairs of what was before it
            // would fill a network that carries too little already.
            track.forget();
        }
        if frame.kind == Kind::Video && !self.backlog.is_empty() {
            if !frame.keyframe {
                self.backlog.push_back((frame.clone(), timestamp));
                return;
            }
            // A keyframe makes everything before it needless.
            self.backlog.clear();
        }
        if frame.keyframe && frame.kind == Kind::Video {
            self.pace_bps = self.steering.take_pace(now, frame, &self.transport);
            if self.pace_bps.is_some() {
                self.backlog.extend(packets_of(frame).map(|part| (part, timestamp)));
                self.next_slice = Some(now);
                return;
            }
        }
        let mut writer = Writer { to, sealer, outbox, counters };
        let bytes = track.send(now, &mut writer, &mut self.transport, frame, timestamp);
        if frame.kind == Kind::Video {
            self.steering.sent(bytes, frame.keyframe);
        }
    }

    /// Sends what is due of padding, while it is being found out how much the viewer's network carries.
    pub(crate) fn pad(&mut self, now: Instant, to: Route, outbox: &mut Outbox, counters: &Counters) {
        let bytes = self.transport.padding(now);
        if let (Some(sealer), Some(video)) = (&self.sealer, &mut self.video)
            && bytes > 0
            && self.backlog.is_empty()
        {
            let mut writer = Writer { to, sealer, outbox, counters };
            let padded = video.pad(now, &mut writer, &mut self.transport, bytes);
            counters.padding_bytes_out.add(padded as u64);
        }
    }

    /// Sends the next slice of the backlog, if it is due.
    pub(crate) fn slice(&mut self, now: Instant, to: Route, outbox: &mut Outbox, counters: &Counters) {
        if self.next_slice.is_none_or(|at| now < at) {
            return;
        }
        let rate_bps = self.replay_bps(now, to);
        let (Some(sealer), Some(video)) = (&self.sealer, &mut self.video) else { return };
        let left = self.backlog.iter().map(|(frame, _)| frame.size_bytes()).sum();
        let is_judged =
            self.transport.estimator().received_bps().is_some() || now >= self.replayed + UNJUDGED;
        if self.pace_bps.is_none() && is_judged && time_for(left, rate_bps) > MAX_REPLAY {
            counters.replays_given_up.add(1);
            self.backlog.clear();
            self.next_slice = None;
            video.forward.interrupt();
            self.steering.interrupted();
            return;
        }
        let mut writer = Writer { to, sealer, outbox, counters };
        let mut bytes = 0;
        let is_full = |bytes| match self.pace_bps {
            Some(_) => bytes > 0,
            None => time_for(bytes, rate_bps) >= SLICE_INTERVAL,
        };
        while !is_full(bytes)
            && let Some((frame, timestamp)) = self.backlog.pop_front()
        {
            let sent = video.send(now, &mut writer, &mut self.transport, &frame, timestamp);
            if self.pace_bps.is_some() {
                self.steering.sent(sent, frame.keyframe);
            }
            bytes += frame.size_bytes();
        }
        let interval = match self.pace_bps {
            Some(pace_bps) => time_for(bytes, pace_bps.max(1)).min(MAX_PACE),
            None => time_for(bytes, rate_bps),
        };
        self.next_slice = (!self.backlog.is_empty()).then(|| now + interval);
        self.pace_bps = self.pace_bps.filter(|_| !self.backlog.is_empty());
    }

    /// Sends repairs again that are due, if their network can bear it.
    pub(crate) fn repeat(&mut self, now: Instant, to: Route, outbox: &mut Outbox, counters: &Counters) {
        let (Some(sealer), Some(video)) = (&self.sealer, &mut self.video) else { return };
        let mut writer = Writer { to, sealer, outbox, counters };
        while let Some((_, sequence)) = self.repeats.pop_front_if(|(at, _)| *at <= now) {
            if self.steering.admits_resends(now, &self.transport) {
                let bytes = video.repeat(now, &mut writer, &mut self.transport, sequence, self.round_trip);
                self.steering.sent(bytes, false);
            }
        }
    }

    /// Takes RTCP from the viewer. Returns the layer that a keyframe is wanted of, if one is.
    pub(crate) fn rtcp(
        &mut self,
        now: Instant,
        to: Route,
        packets: &[Box<dyn rtcp::Packet>],
        outbox: &mut Outbox,
        counters: &Counters,
    ) -> Option<Layer> {
        let mut keyframe = false;
        for packet in packets {
            let packet = packet.as_any();
            if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                self.nack(now, to, nack, outbox, counters);
            } else if packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() {
                counters.plis_in.add(1);
                keyframe = true;
            } else if let Some(feedback) = packet.downcast_ref::<TransportLayerCc>() {
                counters.feedback_in.add(1);
                self.transport.feedback(now, self.round_trip, feedback);
            } else if let Some(remb) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                // Untrusted: a cast saturates.
                self.transport.remb(now, remb.bitrate as u64);
            } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                self.receiver_report(now, report);
            }
        }
        let video = self.video.as_ref().filter(|_| keyframe && !self.is_paused())?;
        if !self.complaints.allows(now) {
            counters.plis_refused.add(1);
            return None;
        }
        Some(video.forward.layer().or(video.forward.awaits()).unwrap_or_default())
    }

    /// When [`Viewer::slice`], [`Viewer::repeat`], [`Viewer::pad`] or [`Viewer::sender_reports`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let padding = self.transport.estimator().poll_timeout();
        let repeat = self.repeats.front().map(|(at, _)| *at);
        let media = self.next_report.into_iter().chain(self.next_slice).chain(repeat);
        media.chain(padding).chain(self.look_at()).min()
    }

    /// The reports that are due: one compound packet for all tracks (RFC 8108, 5.2), empty if there are none.
    pub(crate) fn sender_reports(&mut self, now: Instant, feed: &Feed) -> Vec<Box<dyn rtcp::Packet>> {
        if self.next_report.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let tracks = self.video.iter().chain(&self.audio);
        let reports: Vec<SenderReport> = tracks.filter_map(|track| track.report(now, feed)).collect();
        let wait = if reports.is_empty() { self.report_retry } else { REPORT_INTERVAL };
        self.next_report = Some(now + wait);
        self.report_retry = (2 * wait).min(REPORT_INTERVAL);
        for report in &reports {
            if self.reports.len() == REPORTS_KEPT {
                self.reports.pop_front();
            }
            self.reports.push_back(((report.ntp_time >> 16) as u32, now));
        }
        compound(reports)
    }

    /// How fast the replay goes: by what is known of the viewer's network.
    fn replay_bps(&self, now: Instant, to: Route) -> u64 {
        let estimator = self.transport.estimator();
        match estimator.received_bps() {
            _ if to.remote.ip().is_loopback() => LOOPBACK_BPS,
            Some(_) if estimator.is_congested() => estimator.bitrate_bps().min(REPLAY_BPS),
            Some(received) => (2 * received).max(estimator.bitrate_bps()).min(REPLAY_BPS),
            None if now < self.replayed + REPLAY_BLIND => REPLAY_BPS,
            None => UNHEARD_BPS,
        }
    }

    fn nack(
        &mut self,
        now: Instant,
        to: Route,
        nack: &TransportLayerNack,
        outbox: &mut Outbox,
        counters: &Counters,
    ) {
        let (Some(sealer), Some(track)) = (&self.sealer, &mut self.video) else { return };
        if nack.media_ssrc != track.ssrc {
            return;
        }
        let mut writer = Writer { to, sealer, outbox, counters };
        for pair in &nack.nacks {
            for sequence in pair.into_iter() {
                counters.nacks_in.add(1);
                if !self.steering.admits_resends(now, &self.transport) {
                    counters.resends_over_budget.add(1);
                    continue;
                }
                let bytes = track.resend(now, &mut writer, &mut self.transport, sequence, self.round_trip);
                self.steering.sent(bytes, false);
                let is_worth_two = self.round_trip > LONG_WAY && !self.transport.estimator().is_congested();
                if bytes > 0 && is_worth_two && self.repeats.len() < MAX_REPEATS {
                    self.repeats.push_back((now + REPEAT_AFTER, sequence));
                }
            }
        }
    }

    /// Round trip: from our report to the viewer's answer, less what the viewer sat on it (RFC 3550, 6.4.1).
    fn receiver_report(&mut self, now: Instant, report: &ReceiverReport) {
        match self.transport.has_feedback {
            true => self.listen_for_sound(now, report),
            false => self.loss_report(now, report),
        }
        for block in &report.reports {
            let Some((_, sent)) = self.reports.iter().find(|(name, _)| *name == block.last_sender_report)
            else {
                continue;
            };
            // The delay is in units of 1/65,536 s.
            let delay = Duration::from_secs_f64(f64::from(block.delay) / 65_536.0);
            let (shortest, longest) = ROUND_TRIP_RANGE;
            let took = now.saturating_duration_since(*sent).saturating_sub(delay);
            self.took(took.clamp(shortest, longest));
        }
    }

    fn took(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
        if let Some(video) = &mut self.video {
            video.took(round_trip);
        }
    }
}

impl Viewer {
    /// Some clients (Firefox) give feedback on pictures alone. Where these were stopped because nothing was heard of the viewer
    /// any more, only its reports can show that the sound arrives again, and pictures would, too.
    fn listen_for_sound(&mut self, now: Instant, report: &ReceiverReport) {
        let ssrc = self.audio.as_ref().map(|track| track.ssrc);
        let Some(block) = report.reports.iter().find(|block| Some(block.ssrc) == ssrc) else { return };
        let before = self.sound_heard.replace(block.last_sequence_number);
        if before.is_some_and(|before| before != block.last_sequence_number) && self.is_paused() {
            self.transport.heard_of(now);
        }
    }

    /// What receiver reports say of loss is all there is from those who give no feedback.
    fn loss_report(&mut self, now: Instant, report: &ReceiverReport) {
        let octets =
            self.video.iter().chain(&self.audio).fold(0, |sum: u32, track| sum.wrapping_add(track.octets));
        let Some((since, before)) = self.heard.replace((now, octets)) else { return };
        let elapsed = now.saturating_duration_since(since).max(LEAST_REPORT_INTERVAL).as_secs_f64();
        let sending_bps = f64::from(octets.wrapping_sub(before)) * 8.0 / elapsed;
        let ssrcs: Vec<u32> = self.video.iter().chain(&self.audio).map(|track| track.ssrc).collect();
        let ours = report.reports.iter().filter(|block| ssrcs.contains(&block.ssrc));
        if let Some(share) = ours.map(|block| block.fraction_lost).max() {
            self.transport.loss_report(now, self.round_trip, share, sending_bps as u64);
        }
    }
}

/// How long so many bytes take.
fn time_for(bytes: usize, rate_bps: u64) -> Duration {
    Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / rate_bps)
}

/// A frame's packets, each as a part of it.
fn packets_of(frame: &Frame) -> impl Iterator<Item = Arc<Frame>> {
    let last = frame.packets.len() - 1;
    frame.packets.iter().enumerate().map(move |(index, packet)| {
        Arc::new(Frame {
            keyframe: frame.keyframe && index == 0,
            begins: frame.begins && index == 0,
            ends: frame.ends && index == last,
            packets: vec![packet.clone()],
            ..frame.clone()
        })
    })
}

/// A compound packet needs a CNAME of each source (RFC 3550, 6.1); it is the one in the SDP.
fn compound(reports: Vec<SenderReport>) -> Vec<Box<dyn rtcp::Packet>> {
    if reports.is_empty() {
        return Vec::new();
    }
    let chunk = |report: &SenderReport| {
        let text = Bytes::from_static(STREAM.as_bytes());
        let item = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text };
        SourceDescriptionChunk { source: report.ssrc, items: vec![item] }
    };
    let names = SourceDescription { chunks: reports.iter().map(chunk).collect() };
    let mut packets: Vec<Box<dyn rtcp::Packet>> = Vec::with_capacity(reports.len() + 1);
    for report in reports {
        packets.push(Box::new(report));
    }
    packets.push(Box::new(names));
    packets
}

#[cfg(test)]
mod tests;
