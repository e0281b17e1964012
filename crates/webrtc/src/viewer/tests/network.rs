//! A viewer on a network in virtual time: a host with layers, the real numbering, estimate and choice, and a player that
//! says what came.

use std::{collections::HashSet, sync::Mutex};

use haul_media::{
    ClockMap, LayerChoice,
    emulation::{Dice, Feedback, Link, Receiver},
};
use haul_model::media::{Capture, PictureNumbers};
use rtc::rtcp::{
    reception_report::ReceptionReport,
    transport_feedbacks::{
        transport_layer_cc::{
            PacketStatusChunk, RecvDelta, RunLengthChunk, SymbolTypeTcc, TYPE_TCC_DELTA_SCALE_FACTOR,
        },
        transport_layer_nack::NackPair,
    },
};

use super::*;
use crate::{
    notice::{Quality, QualityReason},
    outbox::Outbox,
    sdp::{Extensions, Format},
    seal::Profile,
    socket::Socket,
};

/// Layers that a keyframe is wanted of, one bit each.
#[derive(Default)]
struct Encoder(Mutex<u8>);

impl Source for Encoder {
    fn request_keyframe(&self, layer: Layer) {
        *self.0.lock().unwrap() |= 1 << layer.0;
    }
    fn replaced(&self) {}
}

/// What the layers take, in kb/s. Not in order of size, as offers may have it.
const SIMULCAST: [u64; 3] = [600, 2_000, 200];
const NAMES: [&str; 3] = ["m", "h", "l"];
const TRANSPORT_ID: u8 = 3;
const PLAYOUT_ID: u8 = 5;

mod long_way;
mod player;

use player::{ASKS_AFTER, FREEZE, Picture, Player};

struct Net {
    viewer: Viewer,
    feed: Feed,
    outbox: Outbox,
    counters: Arc<Counters>,
    encoder: Arc<Encoder>,
    publication: Option<Publication>,
    relay: Arc<Relay>,
    rates_kbps: Vec<u64>,
    /// How far apart the host's pictures are, how many are between keyframes that nobody asked for, and how many times as
    /// large as a usual picture a keyframe is.
    picture_ms: u64,
    keyframe_every: u64,
    keyframe_times: f64,
    /// Layers that the host has stopped sending, one bit each.
    silent: u8,
    link: Link,
    receiver: Receiver,
    dice: Dice,
    now: Now,
    began: Instant,
    step: u64,
    /// Where the timestamps and the pictures' numbers of the host stand.
    timestamp: u32,
    timestamp_base: u32,
    picture_id: u16,
    gives_feedback: bool,
    /// Also on the sound, and not on pictures alone.
    on_sound: bool,
    /// Nothing comes back from the player.
    deaf: bool,
    /// How late pictures come to us, in ms, and the host's clock: its start and how much faster it goes.
    jitter_ms: u64,
    host_drift: f64,
    told: Vec<Quality>,
    player: Player,
}

/// A viewer who is not on this machine.
fn far() -> Route {
    Route::udp("192.0.2.1:9".parse().unwrap())
}

fn broadcast(layers: usize) -> Broadcast {
    let track = |codec| Some(TrackInfo { codec, fmtp: String::new() });
    let layer_names = match layers {
        1 => Vec::new(),
        _ => NAMES.map(str::to_owned).to_vec(),
    };
    Broadcast { video: track(Codec::Vp8), audio: track(Codec::Opus), layer_names }
}

impl Net {
    fn new(rates_kbps: &[u64], link: Link) -> Self {
        Self::with(rates_kbps, link, true, true)
    }

    fn with(rates_kbps: &[u64], link: Link, gives_feedback: bool, rtx: bool) -> Self {
        Self::made(rates_kbps, link, gives_feedback, gives_feedback, rtx)
    }

    fn made(rates_kbps: &[u64], link: Link, gives_feedback: bool, on_sound: bool, rtx: bool) -> Self {
        let broadcast = broadcast(rates_kbps.len());
        let (relay, encoder) = (Relay::new(), Arc::new(Encoder::default()));
        let publication = relay.publish(broadcast.clone(), encoder.clone());
        let now = Now { instant: Instant::now(), wall: UnixMillis(0) };
        let (snapshot, subscription) = relay.subscribe(Arc::new(Nobody));
        let transport = gives_feedback.then_some(TRANSPORT_ID);
        let format = |codec, payload_type, rtx| Format {
            codec,
            payload_type,
            fmtp: String::new(),
            rtx,
            extensions: Extensions {
                transport: transport.filter(|_| on_sound || codec == Codec::Vp8),
                playout_delay: Some(PLAYOUT_ID).filter(|_| codec == Codec::Vp8),
                ..Extensions::default()
            },
            remb: false,
        };
        let offer = Offer {
            video: Some(format(Codec::Vp8, 96, rtx.then_some(97))),
            audio: Some(format(Codec::Opus, 111, None)),
            ..Offer::default()
        };
        let counters = Arc::new(Counters::default());
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut net = Self {
            viewer: Viewer::new(now.instant, FeedKey(0), &offer, &broadcast, SSRCS),
            feed: Feed::new(relay.clone(), snapshot, subscription),
            outbox: Outbox::new(&[Arc::new(socket)], counters.clone()),
            counters,
            encoder,
            publication: Some(publication),
            relay,
            rates_kbps: rates_kbps.to_vec(),
            picture_ms: 33,
            keyframe_every: 90,
            keyframe_times: 4.0,
            silent: 0,
            receiver: Receiver::new(now.instant, 1),
            link,
            dice: Dice::new(5),
            now,
            began: now.instant,
            step: 0,
            // Both wrap within the first seconds.
            timestamp: u32::MAX - 200_000,
            timestamp_base: 1_234_567_890,
            picture_id: 0x7FF0,
            gives_feedback,
            on_sound,
            deaf: false,
            jitter_ms: 0,
            host_drift: 0.0,
            told: Vec::new(),
            player: Player::default(),
        };
        // The host has been on for a while.
        net.run(1.5);
        net.began = net.now.instant;
        let sealer = Sealer::new(Profile::Gcm, &[7; 56], false).unwrap();
        net.viewer.start(net.now.instant, sealer, &net.feed);
        net
    }

    fn run(&mut self, seconds: f64) {
        for _ in 0..(seconds * 1_000.0) as u64 {
            self.turn();
        }
    }

    /// Runs until it is as wanted, and tells how long that took.
    fn until(&mut self, most_seconds: u64, wanted: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now.instant;
        while !wanted(self) {
            self.turn();
            let elapsed = self.now.instant - began;
            assert!(elapsed < Duration::from_secs(most_seconds), "not within {elapsed:?}: {}", self.state());
        }
        self.now.instant - began
    }

    /// The share of a time for which it is as wanted.
    fn share(&mut self, seconds: f64, wanted: impl Fn(&Self) -> bool) -> f64 {
        let turns = (seconds * 1_000.0) as u64;
        let mut good = 0;
        for _ in 0..turns {
            self.turn();
            good += u64::from(wanted(self));
        }
        good as f64 / turns as f64
    }

    fn layer(&self) -> Option<u8> {
        self.viewer.video.as_ref().unwrap().forward.layer().map(|layer| layer.0)
    }

    fn shows(&self, name: &str) -> bool {
        !self.viewer.is_paused()
            && self.layer().is_some_and(|layer| self.feed.layer_name(Layer(layer)) == name)
    }

    fn state(&self) -> String {
        let estimator = self.viewer.transport.estimator();
        format!(
            "layer {:?}, paused {}, estimate {}, layers {:?}, up {}, down {}, probes {}",
            self.layer(),
            self.viewer.is_paused(),
            estimator.bitrate_bps(),
            self.feed.layers(),
            self.counters.layers_up.get(),
            self.counters.layers_down.get(),
            self.counters.probes.get(),
        )
    }

    fn turn(&mut self) {
        let to = far();
        let now = self.now.instant;
        if self.step.is_multiple_of(20) {
            self.host_sends(Kind::Audio, Layer(0), false, 120, 1);
        }
        if self.step.is_multiple_of(self.picture_ms) {
            self.timestamp = self.timestamp.wrapping_add(90 * self.picture_ms as u32);
            self.picture_id = (self.picture_id + 1) & 0x7FFF;
            let asked = std::mem::take(&mut *self.encoder.0.lock().unwrap());
            for layer in 0..self.rates_kbps.len() as u8 {
                if self.silent & 1 << layer != 0 {
                    continue;
                }
                let is_due = (self.step / self.picture_ms).is_multiple_of(self.keyframe_every);
                let keyframe = is_due || asked & 1 << layer != 0;
                let per_second = 1_000.0 / self.picture_ms as f64;
                let usual = self.rates_kbps[usize::from(layer)] as f64 * 1_000.0 / 8.0 / per_second * 0.95;
                let size = usual * if keyframe { self.keyframe_times } else { 0.7 + 0.6 * self.dice.roll() };
                let packets = (size as usize).div_ceil(1_100).max(1);
                self.host_sends(Kind::Video, Layer(layer), keyframe, size as usize / packets, packets);
            }
        }
        self.repeat(to);
        self.viewer.slice(now, to, &mut self.outbox, &self.counters);
        self.viewer.pad(now, to, &mut self.outbox, &self.counters);
        for datagram in self.outbox.take() {
            self.travel(&datagram);
        }
        self.hear(to);
        self.told.extend(self.viewer.take_news());
        self.now = self.now.after(Duration::from_millis(1));
        self.step += 1;
    }

    fn host_sends(&mut self, kind: Kind, layer: Layer, keyframe: bool, bytes: usize, packets: usize) {
        let numbers = PictureNumbers { picture_id: self.picture_id, tl0: None };
        let payload = match kind {
            // A descriptor with a 15-bit picture id, as libwebrtc's.
            Kind::Video => {
                let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
                [&[0x90, 0x80, high, low, u8::from(!keyframe)][..], &vec![0; bytes]].concat()
            }
            Kind::Audio => vec![0; bytes],
        };
        let late_ms = match (kind, keyframe) {
            (Kind::Video, true) => self.jitter_ms,
            (Kind::Video, false) if self.jitter_ms > 0 => (self.jitter_ms as f64 * self.dice.roll()) as u64,
            _ => 0,
        };
        let (ntp, timestamp) = self.host_clock(kind, layer, late_ms);
        let frame = Arc::new(Frame {
            kind,
            layer,
            timestamp,
            arrived: self.now,
            keyframe: kind == Kind::Audio || keyframe,
            begins: true,
            ends: true,
            captured: (self.jitter_ms > 0).then_some(Capture { ntp, to_ours: None }),
            numbers: (kind == Kind::Video).then_some(numbers),
            packets: vec![payload.into(); packets],
        });
        if let Some(publication) = &self.publication {
            publication.frame(frame.clone());
        }
        self.feed.apply(&RelayEvent::Frame(frame.clone()));
        let to = far();
        self.viewer.frame(self.now.instant, to, &frame, &mut self.outbox, &self.counters);
    }

    /// The host's clock so many milliseconds ago, and what it stamped on what it captured then: every stream has its own
    /// beginning.
    fn host_clock(&self, kind: Kind, layer: Layer, ago_ms: u64) -> (u64, u32) {
        if self.jitter_ms == 0 {
            return (0, self.timestamp);
        }
        let ms = (self.step - ago_ms) as f64 * (1.0 + self.host_drift);
        let (hz, base) = match kind {
            Kind::Video => (90.0, self.timestamp_base.wrapping_mul(7 + u32::from(layer.0))),
            Kind::Audio => (48.0, self.timestamp_base),
        };
        let ntp = (99 << 32) + (ms / 1_000.0 * 4_294_967_296.0) as u64;
        (ntp, base.wrapping_add((ms * hz) as u32))
    }

    /// The host reports on all of its streams.
    fn host_reports(&mut self) {
        let layers = (0..self.rates_kbps.len() as u8).map(|layer| (Kind::Video, Layer(layer)));
        for (kind, layer) in layers.chain([(Kind::Audio, Layer(0))]) {
            let (ntp, timestamp) = self.host_clock(kind, layer, 0);
            let map = ClockMap { kind, layer, ntp, timestamp, arrived: self.now.instant };
            self.feed.apply(&RelayEvent::ClockMap(map));
        }
    }

    /// What a player is told: which instant of the host's clock, in ms, the beginning of each track's time belongs to.
    /// It stays the same as long as nothing jumps.
    fn origins(&self) -> [Option<f64>; 2] {
        let tracks = [&self.viewer.video, &self.viewer.audio];
        tracks.map(|track| {
            let track = track.as_ref().unwrap();
            let report = track.report(self.now.instant, &self.feed)?;
            let hz = f64::from(track.codec.clock_rate_hz()) / 1_000.0;
            let wrapped = 4_294_967_296.0 / hz;
            let ntp_ms = (report.ntp_time - (99 << 32)) as f64 / 4_294_967_296.0 * 1_000.0;
            Some((ntp_ms - f64::from(report.rtp_time) / hz).rem_euclid(wrapped))
        })
    }

    /// A datagram over the link.
    fn travel(&mut self, datagram: &[u8]) -> Vec<Instant> {
        let now = self.now.instant;
        let word = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
        let long = |at: usize| u32::from_be_bytes(datagram[at..at + 4].try_into().unwrap());
        let (sequence, timestamp, ssrc) = (word(2), long(4), long(8));
        let comes = self.link.send(now, datagram.len());
        let player = &mut self.player;
        let is_repair = player.video.is_some_and(|(next, _)| sequence.wrapping_sub(next) > 1 << 15);
        if ssrc == SSRCS.video && is_repair {
            player.resent_bytes += datagram.len() as u64;
        } else if ssrc == SSRCS.video {
            // In order and without a gap, whatever layer it is from.
            if let Some((next, last)) = player.video {
                assert_eq!(sequence, next, "a gap in what is sent");
                assert!(timestamp.wrapping_sub(last) < 1 << 31, "back in time: {last} to {timestamp}");
            }
            player.video = Some((sequence.wrapping_add(1), timestamp));
            match datagram[0] & 0x20 != 0 {
                true => player.resent_bytes += datagram.len() as u64,
                false => player.video_bytes += datagram.len() as u64,
            }
            let ends = datagram[1] & 0x80 != 0;
            let history = &self.viewer.video.as_ref().unwrap().repair.as_ref().unwrap().history;
            let begins_keyframe = history
                .find(sequence)
                .is_some_and(|sent| sent.frame.is_some_and(|frame| frame.keyframe) && sent.index == 0);
            let came = comes.first().copied();
            if came.is_some() && datagram[19] == PLAYOUT_ID << 4 | 2 {
                let units = u16::from_be_bytes([datagram[20], datagram[21]]) >> 4;
                player.screen.least = Duration::from_millis(10 * u64::from(units));
            }
            let captured = player.captured(timestamp, now);
            let packet = Picture { begins_keyframe, ends, captured, sent: now, came, repaired: false };
            player.picture(sequence, packet, self.link.delay);
        } else if ssrc == SSRCS.rtx {
            player.resent_bytes += datagram.len() as u64;
        } else {
            assert!(player.audio.is_none_or(|next| next == sequence), "sound is never left out");
            player.audio = Some(sequence.wrapping_add(1));
            match comes.first() {
                Some(at) => player.sound_late = player.sound_late.max(*at - now),
                None => player.sound_lost += 1,
            }
        }
        if self.gives_feedback && (self.on_sound || ssrc != SSRCS.audio) {
            assert_eq!(word(12), 0xBEDE);
            let transport = u64::from(u16::from_be_bytes([datagram[17], datagram[18]]));
            let sent = self.viewer.transport.next();
            // The number it ends in, of those that were sent.
            let transport = sent - ((sent - transport) & 0xFFFF);
            for at in &comes {
                self.receiver.arrives(transport, *at);
            }
        }
        comes
    }

    /// What the player asks for again comes out of the link as repairs, or is asked for once more.
    fn repair(&mut self, to: Route) {
        let now = self.now.instant;
        let due: Vec<_> = self.player.asks.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, sequence) in due {
            if self.player.packets.get(&sequence).is_none_or(|packet| packet.came.is_some()) {
                continue;
            }
            let nacks = vec![NackPair { packet_id: sequence as u16, lost_packets: 0 }];
            let nack = TransportLayerNack { sender_ssrc: 0, media_ssrc: SSRCS.video, nacks };
            self.viewer.rtcp(now, to, &[Box::new(nack)], &mut self.outbox, &self.counters);
            self.send_repairs(sequence);
            self.player.asks.push((now + 2 * self.link.delay + ASKS_AFTER, sequence));
        }
    }

    /// Repairs that go twice.
    fn repeat(&mut self, to: Route) {
        let now = self.now.instant;
        while let Some((_, sequence)) = self.viewer.repeats.front().copied().filter(|(at, _)| *at <= now) {
            // One at a time, to know which it is.
            let later = self.viewer.repeats.split_off(1);
            self.viewer.repeat(now, to, &mut self.outbox, &self.counters);
            self.viewer.repeats = later;
            let whole = self.player.packets.keys().copied().find(|whole| *whole as u16 == sequence);
            self.send_repairs(whole.unwrap_or_default());
        }
    }

    /// All that waits to be sent is a repair of this packet.
    fn send_repairs(&mut self, sequence: u64) {
        for datagram in self.outbox.take() {
            let came = self.travel(&datagram).first().copied();
            self.player.repaired(sequence, came);
        }
    }

    /// What comes back from the player.
    fn hear(&mut self, to: Route) {
        let now = self.now.instant;
        self.repair(to);
        self.player.show(now);
        let mut packets: Vec<Box<dyn rtcp::Packet>> = Vec::new();
        if self.gives_feedback {
            for feedback in self.receiver.turn(now, self.link.delay) {
                packets.push(Box::new(in_rtcp(&feedback)));
            }
        } else if self.step.is_multiple_of(1_000) {
            let fraction_lost = (self.link.loss * 256.0) as u8;
            let block = ReceptionReport { ssrc: SSRCS.video, fraction_lost, ..ReceptionReport::default() };
            packets.push(Box::new(ReceiverReport { reports: vec![block], ..ReceiverReport::default() }));
        }
        if !self.on_sound && self.gives_feedback && self.step.is_multiple_of(1_000) {
            let last_sequence_number = self.player.audio.unwrap_or_default().into();
            let block =
                ReceptionReport { ssrc: SSRCS.audio, last_sequence_number, ..ReceptionReport::default() };
            packets.push(Box::new(ReceiverReport { reports: vec![block], ..ReceiverReport::default() }));
        }
        if self.deaf {
            packets.clear();
        }
        if packets.is_empty() && self.viewer.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        self.viewer.rtcp(now, to, &packets, &mut self.outbox, &self.counters);
        if let Some((layer, wish)) = self.viewer.steer(now, &self.feed, &self.counters) {
            self.relay.request_keyframe(layer, wish, now);
        }
    }

    fn ask(&mut self, name: Option<&str>) {
        let choice =
            name.map_or(LayerChoice::Auto, |name| LayerChoice::Layer(self.feed.layer_named(name).unwrap()));
        self.viewer.prefer(self.now.instant, choice);
    }

    /// The host's app crashes and comes back with other numbers.
    fn host_restarts(&mut self, away: f64) {
        self.publication = None;
        self.feed.apply(&RelayEvent::Ended);
        self.silent = 0xFF;
        self.run(away);
        self.silent = 0;
        let broadcast = broadcast(self.rates_kbps.len());
        self.publication = Some(self.relay.publish(broadcast.clone(), self.encoder.clone()));
        self.feed.apply(&RelayEvent::Started(Arc::new(broadcast)));
        self.viewer.restart(self.now.instant);
        *self.encoder.0.lock().unwrap() = 0xFF;
        self.timestamp = 12_345;
        self.timestamp_base = 987_654_321;
        self.picture_id = 77;
    }
}

fn in_rtcp(feedback: &Feedback) -> TransportLayerCc {
    let chunk = |delta: &Option<i16>| {
        let packet_status_symbol = match delta {
            None => SymbolTypeTcc::PacketNotReceived,
            Some(_) => SymbolTypeTcc::PacketReceivedLargeDelta,
        };
        PacketStatusChunk::RunLengthChunk(RunLengthChunk {
            packet_status_symbol,
            run_length: 1,
            ..RunLengthChunk::default()
        })
    };
    let delta = |delta: &i16| RecvDelta {
        type_tcc_packet: SymbolTypeTcc::PacketReceivedLargeDelta,
        delta: i64::from(*delta) * TYPE_TCC_DELTA_SCALE_FACTOR,
    };
    TransportLayerCc {
        base_sequence_number: feedback.base,
        packet_status_count: feedback.deltas.len() as u16,
        reference_time: feedback.reference,
        packet_chunks: feedback.deltas.iter().map(chunk).collect(),
        recv_deltas: feedback.deltas.iter().flatten().map(delta).collect(),
        ..TransportLayerCc::default()
    }
}

#[test]
fn on_a_good_network_a_viewer_starts_in_the_middle_and_soon_has_the_best() {
    let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
    assert!(net.shows("m"), "{}", net.state());
    let took = net.until(10, |net| net.shows("h"));
    println!("best layer after {took:?}; {}", net.state());
    assert!(took < Duration::from_secs(4), "{took:?}");
    let share = net.share(60.0, |net| net.shows("h"));
    println!("then {share:.3} of the time; {}", net.state());
    assert!(share > 0.99, "{}", net.state());
    let told = net.told.last().unwrap();
    assert_eq!((told.layer.as_deref(), told.reason), (Some("h"), QualityReason::Best));
    assert_eq!(told.layers.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>(), ["h", "m", "l"]);
}

#[test]
fn a_network_that_halves_and_doubles_is_followed_down_and_up() {
    let mut net = Net::new(&SIMULCAST, Link::new(3_000_000, 1));
    net.until(10, |net| net.shows("h"));
    net.run(10.0);
    net.link.rate_bps = 1_500_000;
    let down = net.until(10, |net| net.shows("m"));
    let stays = net.share(30.0, |net| net.shows("m"));
    let padding = net.player.resent_bytes;
    net.link.rate_bps = 3_000_000;
    let up = net.until(90, |net| net.shows("h"));
    println!(
        "3 to 1.5 Mb/s: down in {down:?}, stays {stays:.2} of the time; back up in {up:?}; {}",
        net.state()
    );
    println!("padding at 1.5 Mb/s: {} of {} bytes", padding, net.player.video_bytes);
    assert!(down < Duration::from_secs(3), "{down:?}");
    assert!(stays > 0.9, "{stays}");
    assert!(up < Duration::from_secs(65), "{up:?}");
}

/// Whenever it happens: probes come at intervals.
#[test]
fn room_is_found_soon_whenever_it_comes_and_looking_for_it_costs_little() {
    let mut worst = Duration::ZERO;
    for phase in 0..6 {
        let mut net = Net::new(&SIMULCAST, Link::new(3_000_000, 1));
        net.until(10, |net| net.shows("h"));
        net.link.rate_bps = 1_500_000;
        net.until(10, |net| net.shows("m"));
        net.run(2.0);
        (net.player.sound_late, net.player.sound_lost) = (Duration::ZERO, 0);
        let (video, padding) = (net.player.video_bytes, net.player.resent_bytes);
        assert!(net.share(30.0 + 0.9 * f64::from(phase), |net| net.shows("m")) > 0.97, "{}", net.state());
        let (video, padding) = (net.player.video_bytes - video, net.player.resent_bytes - padding);
        let late = net.player.sound_late;
        net.link.rate_bps = 3_000_000;
        let up = net.until(90, |net| net.shows("h"));
        println!(
            "phase {phase}: up in {up:?}; before, {padding} of {video} bytes padding, sound at most {late:?} late"
        );
        assert!(padding * 8 < video, "{padding} of {video}");
        assert!(late < Duration::from_millis(400) && net.player.sound_lost == 0, "{late:?}");
        worst = worst.max(up);
    }
    assert!(worst < Duration::from_millis(5_000), "{worst:?}");
}

#[test]
fn without_a_retransmission_stream_room_is_found_too() {
    let mut net = Net::with(&SIMULCAST, Link::new(1_000_000, 1), true, false);
    net.run(20.0);
    assert!(net.shows("m"), "{}", net.state());
    net.link.rate_bps = 5_000_000;
    let up = net.until(20, |net| net.shows("h"));
    net.run(2.0);
    net.link.rate_bps = 150_000;
    net.until(20, |net| net.viewer.is_paused());
    net.run(20.0);
    net.link.rate_bps = 2_000_000;
    let back = net.until(20, |net| net.shows("m"));
    println!("without retransmission stream: up in {up:?}, pictures again in {back:?}; {}", net.state());
    assert!(up < Duration::from_secs(8) && back < Duration::from_secs(8), "{up:?} {back:?}");
}

#[test]
fn a_viewer_that_falls_silent_is_sent_less_and_soon_no_pictures() {
    let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
    net.until(10, |net| net.shows("h"));
    net.run(5.0);
    net.deaf = true;
    let down = net.until(3, |net| net.shows("l"));
    let paused = down + net.until(3, |net| net.viewer.is_paused());
    let sent = net.player.video_bytes + net.player.resent_bytes;
    net.run(5.0);
    assert_eq!(net.player.video_bytes + net.player.resent_bytes, sent, "into the void");
    net.deaf = false;
    let back = net.until(10, |net| net.shows("h"));
    println!(
        "unheard: smallest layer in {down:?}, sound alone in {paused:?}; back in {back:?}; {}",
        net.state()
    );
    assert!(down < Duration::from_millis(1_200), "{down:?}");
    assert!(paused < Duration::from_millis(2_500), "{paused:?}");
    assert!(back < Duration::from_secs(2), "{back:?}");
    // The same when a host has no layers.
    let mut single = Net::new(&[1_500], Link::new(10_000_000, 1));
    single.run(5.0);
    single.deaf = true;
    assert!(single.until(5, |net| net.viewer.is_paused()) < Duration::from_millis(2_500));
}

#[test]
fn who_gives_feedback_on_pictures_alone_gets_them_again_after_a_silence() {
    let mut net = Net::made(&[1_500], Link::new(10_000_000, 1), true, false, true);
    net.run(5.0);
    net.deaf = true;
    net.until(5, |net| net.viewer.is_paused());
    net.run(5.0);
    assert!(net.viewer.is_paused());
    net.deaf = false;
    // Two reports, a second apart, show that the sound arrives.
    let back = net.until(5, |net| !net.viewer.is_paused());
    net.run(5.0);
    assert!(!net.viewer.is_paused() && back < Duration::from_millis(2_500), "{back:?}; {}", net.state());
}

#[test]
fn a_joiner_on_a_slow_network_is_not_poured_over() {
    for (rate_bps, given_up) in [(2_000_000, 1), (50_000_000, 0)] {
        // 1.4 MB so far.
        let mut net = Net::new(&[7_500], Link::new(rate_bps, 1));
        net.run(0.15);
        let poured = net.player.video_bytes;
        net.run(1.35);
        println!(
            "{rate_bps} b/s: {poured} bytes in 150 ms, {} given up, sound at most {:?} late, {} lost",
            net.counters.replays_given_up.get(),
            net.player.sound_late,
            net.player.sound_lost
        );
        assert_eq!(net.counters.replays_given_up.get(), given_up);
        assert!((200_000..350_000).contains(&poured), "{poured}");
    }
}

/// Within 5 ms, over changes of layer, a host's restart, and with clocks that drift apart.
#[test]
fn lips_and_voice_stay_together_whatever_happens() {
    let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
    (net.jitter_ms, net.host_drift) = (30, 100e-6);
    net.host_restarts(0.0);
    let mut first: [Option<f64>; 2] = [None; 2];
    let (mut layers, mut worst) = (HashSet::new(), 0.0_f64);
    for second in 0..60 {
        match second {
            5 | 35 => net.ask(Some("l")),
            12 | 42 => net.ask(Some("m")),
            20 | 50 => net.ask(None),
            28 => net.host_restarts(2.0),
            _ => {}
        }
        net.host_reports();
        for _ in 0..20 {
            net.run(0.05);
            layers.extend(net.layer());
            for (origin, first) in net.origins().into_iter().zip(&mut first) {
                let Some(origin) = origin else { continue };
                let moved = (origin - *first.get_or_insert(origin)).abs();
                worst = worst.max(moved);
                assert!(moved < 5.0, "{second} s: moved by {moved} ms; {}", net.state());
            }
        }
    }
    println!("moved by at most {worst:.2} ms; layers {layers:?}");
    assert_eq!((layers.len(), first.iter().flatten().count()), (3, 2));
}

#[test]
fn loss_that_is_not_congestion_costs_no_layer() {
    for (loss, burst) in [(0.01, 1), (0.05, 1), (0.10, 1), (0.05, 5)] {
        let mut link = Link::new(4_000_000, 7);
        (link.loss, link.burst) = (loss, burst);
        let mut net = Net::new(&SIMULCAST, link);
        net.run(20.0);
        let share = net.share(60.0, |net| net.shows("h"));
        let middle = net.share(1.0, |net| net.shows("h") || net.shows("m"));
        println!("loss {loss} in bursts of {burst}: best layer {share:.2} of the time; {}", net.state());
        assert!(share > 0.7 || loss > 0.06, "{loss} {burst}: {}", net.state());
        assert!(middle > 0.9, "{loss}: {}", net.state());
    }
}

#[test]
fn disorder_doubles_and_drift_cost_no_layer() {
    let mut link = Link::new(4_000_000, 7);
    (link.late, link.doubled) = (0.03, 0.02);
    let mut net = Net::new(&SIMULCAST, link);
    net.receiver.drift = 100e-6;
    net.run(20.0);
    let share = net.share(60.0, |net| net.shows("h"));
    println!("disorder, doubles, drift: best layer {share:.2} of the time; {}", net.state());
    assert!(share > 0.9, "{}", net.state());
}

#[test]
fn where_no_layer_fits_there_is_sound_and_pictures_return() {
    let mut net = Net::new(&SIMULCAST, Link::new(2_000_000, 1));
    net.run(5.0);
    net.link.rate_bps = 150_000;
    let paused = net.until(15, |net| net.viewer.is_paused());
    assert_eq!(net.counters.viewers_paused.get(), 1);
    net.run(3.0);
    assert!(net.told.last().unwrap().sound_only);
    (net.player.sound_late, net.player.sound_lost) = (Duration::ZERO, 0);
    let silence = net.share(20.0, |net| net.viewer.is_paused());
    println!(
        "2 Mb/s to 150 kb/s: sound only in {paused:?}, {silence:.2} of the time; sound at most {:?} late, {} lost; {}",
        net.player.sound_late,
        net.player.sound_lost,
        net.state()
    );
    assert!(net.player.sound_lost < 25, "{} packets of sound lost", net.player.sound_lost);
    net.link.rate_bps = 2_000_000;
    let back = net.until(70, |net| net.shows("m"));
    println!("back to 2 Mb/s: pictures in {back:?}; {}", net.state());
    assert!(back < Duration::from_secs(8), "{back:?}");
    let share = net.share(30.0, |net| net.shows("m"));
    assert!(share > 0.95, "then {share} of the time");
    assert_eq!(net.counters.viewers_paused.get(), 0);
    assert!(!net.told.last().unwrap().sound_only || net.told.len() > 1);
}

#[test]
fn a_host_without_layers_is_thinned_out_for_a_slow_viewer_and_the_viewer_is_told() {
    let mut net = Net::new(&[1_500], Link::new(5_000_000, 1));
    net.run(5.0);
    assert_eq!(net.counters.frames_late.get(), 0, "{}", net.state());
    net.link.rate_bps = 1_000_000;
    net.run(5.0);
    let before = net.player.video_bytes;
    (net.player.sound_late, net.player.sound_lost) = (Duration::ZERO, 0);
    net.run(30.0);
    let sent_bps = (net.player.video_bytes - before) * 8 / 30;
    println!(
        "1.5 Mb/s over 1: sends {sent_bps} b/s, sound at most {:?} late, {} lost; {}",
        net.player.sound_late,
        net.player.sound_lost,
        net.state()
    );
    assert!(net.told.iter().any(|told| told.misses_pictures && !told.sound_only));
    assert!((300_000..1_000_000).contains(&sent_bps), "{}", net.state());
    net.link.rate_bps = 5_000_000;
    net.run(30.0);
    let late = net.counters.frames_late.get();
    net.run(20.0);
    assert_eq!(net.counters.frames_late.get(), late, "all is sent again: {}", net.state());
    assert!(!net.told.last().unwrap().misses_pictures);
}

#[test]
fn a_layer_that_the_host_stops_sending_is_left_for_another() {
    let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
    net.until(10, |net| net.shows("h"));
    net.silent = 1 << 1;
    let took = net.until(5, |net| net.shows("m"));
    println!("silent layer left after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    net.silent = 0;
    net.until(15, |net| net.shows("h"));
}

#[test]
fn a_viewer_gets_the_layer_it_asks_for() {
    let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
    net.until(10, |net| net.shows("h"));
    net.ask(Some("l"));
    let took = net.until(5, |net| net.shows("l"));
    println!("asked for a smaller layer: {took:?}");
    assert!(net.share(10.0, |net| net.shows("l")) > 0.99);
    let told = net.told.last().unwrap();
    assert_eq!((told.choice.as_deref(), told.reason), (Some("l"), QualityReason::Asked));
    net.ask(None);
    net.until(10, |net| net.shows("h"));
    net.run(1.0);
    assert_eq!(net.told.last().unwrap().choice, None);
}

#[test]
fn the_host_restarts_and_the_viewer_goes_on() {
    let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
    net.until(10, |net| net.shows("h"));
    net.host_restarts(2.0);
    let took = net.until(3, |net| net.layer().is_some());
    println!("pictures {took:?} after the host's return");
    net.until(20, |net| net.shows("h"));
}

#[test]
fn without_feedback_loss_decides() {
    let mut link = Link::new(20_000_000, 1);
    let mut net = Net::with(&SIMULCAST, link.clone(), false, true);
    net.until(40, |net| net.shows("h"));
    net.link.loss = 0.4;
    let took = net.until(20, |net| !net.shows("h"));
    println!("40 % loss in receiver reports: down in {took:?}");
    link.loss = 0.0;
    let mut single = Net::with(&[4_000], link, false, true);
    assert!(single.share(30.0, |net| net.layer().is_some()) > 0.99, "{}", single.state());
    assert_eq!(single.counters.frames_late.get(), 0);
}

#[test]
fn a_longer_way_is_no_congestion() {
    for (seed, rate_bps, late) in [(1, 10_000_000, 0.0), (2, 4_000_000, 0.0), (3, 100_000_000, 0.03)] {
        let mut net = Net::new(&SIMULCAST, Link::new(rate_bps, seed));
        net.link.late = late;
        net.until(10, |net| net.shows("h"));
        net.run(10.0);
        net.link.delay += Duration::from_millis(150);
        let share = net.share(10.0, |net| net.shows("h"));
        println!("150 ms more at {rate_bps}: best layer {share:.3} of the time; {}", net.state());
        assert!(share > 0.99, "{}", net.state());
    }
}

#[test]
fn a_network_that_breaks_in_is_not_filled_with_repairs_of_what_was_too_much() {
    for (rate_bps, queue_ms) in
        [(500_000, 300), (500_000, 1_000), (1_000_000, 300), (1_500_000, 300), (800_000, 100)]
    {
        let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
        net.until(10, |net| net.shows("h"));
        net.run(10.0);
        (net.link.rate_bps, net.link.queue) = (rate_bps, Duration::from_millis(queue_ms));
        (net.player.frozen, net.player.resent_bytes) = (Duration::ZERO, 0);
        net.run(10.0);
        let stands = net.now.instant - net.player.shown.unwrap();
        let frozen = net.player.frozen + if stands > FREEZE { stands } else { Duration::ZERO };
        let resent = (net.player.resent_bytes * 8) as f64 / (10 * rate_bps) as f64;
        println!(
            "10 Mb/s to {rate_bps} with {queue_ms} ms of queue: frozen {frozen:?} of 10 s, {resent:.3} of it repairs; {}",
            net.state()
        );
        assert!(frozen < Duration::from_secs(1), "{frozen:?}; {}", net.state());
        assert!(resent < 0.12, "{resent}");
    }
}

#[test]
fn what_is_lost_on_a_long_way_comes_with_the_first_repair() {
    for burst in [1, 3] {
        let mut link = Link::new(10_000_000, 3);
        (link.loss, link.burst, link.delay) = (0.03, burst, Duration::from_millis(75));
        let mut net = Net::new(&SIMULCAST, link);
        net.viewer.round_trip = 2 * net.link.delay;
        net.run(10.0);
        net.player = Player { audio: net.player.audio, ..Player::default() };
        net.run(120.0);
        let Player { shown_count, late_count, resent_bytes, video_bytes, .. } = net.player;
        let share = resent_bytes as f64 / video_bytes as f64;
        println!(
            "3 % lost {burst} at a time: {late_count} of {shown_count} pictures too late; repairs are {share:.3}"
        );
        assert!(shown_count > 3_500, "{shown_count}");
        assert!(late_count * 500 < shown_count, "{late_count} of {shown_count} pictures");
        assert!(share < 0.08, "{share}");
    }
}

#[test]
fn a_keyframe_after_a_cut_goes_no_faster_than_the_network() {
    let mut net = Net::new(&SIMULCAST, Link::new(10_000_000, 1));
    net.until(10, |net| net.shows("h"));
    net.run(10.0);
    net.link.rate_bps = 1_000_000;
    net.until(3, |net| net.shows("m"));
    assert_eq!(net.counters.layers_cut.get(), 1);
    let (before, began) = (net.player.newest, net.now.instant);
    // Its 9 packets take 70 ms on the link.
    net.until(1, |net| net.player.newest >= before + 8);
    let took = net.now.instant - began;
    println!("the keyframe took {took:?}");
    assert!((Duration::from_millis(60)..Duration::from_millis(200)).contains(&took), "{took:?}");
}
