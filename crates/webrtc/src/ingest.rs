//! A publisher's media: packets become frames, and frames go to the relay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use haul_media::{
    Assembled, Assembly, Broadcast, CaptureClock, ClockMap, HostClock, Packet, Publication, Relay, Source,
    Wish,
};
use haul_model::{Codec, Kind, Layer, Now};
use rtc::{
    rtcp::{
        self,
        payload_feedbacks::picture_loss_indication::PictureLossIndication,
        sender_report::SenderReport,
        transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
    rtp,
};

use crate::{
    mailbox::{Command, Mailbox},
    sdp::Offer,
    slab::Key,
    stats::Counters,
};

/// A host of whom no packet has come for so long is taken to be cut off, or their app to have crashed: the room is told,
/// while the session waits for them. Sound alone comes every 20 ms, and silence (DTX) every 400 ms.
const STALL: Duration = Duration::from_millis(1_500);

/// A publisher's media side.
pub(crate) struct Ingest {
    relay: Arc<Relay>,
    offer: Offer,
    /// The broadcast on the relay, once connected. Dropping it ends the broadcast.
    publication: Option<Publication>,
    wishes: Arc<Wishes>,
    /// Which SSRC is which simulcast layer, as the packets say. At most one a layer.
    layers: Vec<(u32, Layer)>,
    /// One for each kind and layer that packets have come for.
    streams: Vec<Stream>,
    /// How the publisher's clock stands to ours.
    clock: HostClock,
    /// When a packet last came.
    heard: Option<Instant>,
    /// The relay was told that none come.
    stalled: bool,
    /// The encoder sends B-frames: `Some(true)` once that was taken to be said.
    out_of_order: Option<bool>,
}

struct Stream {
    ssrc: u32,
    kind: Kind,
    layer: Layer,
    assembly: Assembly,
    capture: CaptureClock,
}

/// What the relay wants from this publisher. Written by any thread, read by the publisher's shard.
pub(crate) struct Wishes {
    mailbox: Arc<Mailbox>,
    session: Key,
    /// Layers that a keyframe is wanted of, one bit each. While any is set, a command is under way.
    layers: AtomicU8,
}

impl Source for Wishes {
    fn request_keyframe(&self, layer: Layer) {
        if self.layers.fetch_or(1 << layer.0, Ordering::AcqRel) == 0 {
            self.mailbox.command(Command::Keyframes(self.session));
        }
    }

    fn replaced(&self) {
        self.mailbox.command(Command::Replaced(self.session));
    }
}

impl Ingest {
    pub(crate) fn new(offer: Offer, relay: Arc<Relay>, mailbox: Arc<Mailbox>, session: Key) -> Self {
        Self {
            relay,
            offer,
            publication: None,
            wishes: Arc::new(Wishes { mailbox, session, layers: AtomicU8::new(0) }),
            layers: Vec::new(),
            streams: Vec::new(),
            clock: HostClock::default(),
            heard: None,
            stalled: false,
            out_of_order: None,
        }
    }

    /// Media may come: the broadcast begins.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.heard = Some(now);
        let broadcast = Broadcast {
            video: self.offer.video.as_ref().map(|format| format.track()),
            audio: self.offer.audio.as_ref().map(|format| format.track()),
            layer_names: self.offer.rids.clone(),
        };
        self.publication = Some(self.relay.publish(broadcast, self.wishes.clone()));
    }

    /// A stream has said which layer it is.
    pub(crate) fn layer(&mut self, ssrc: u32, rid: &str) {
        let Some(index) = self.offer.rids.iter().position(|known| known == rid) else { return };
        let layer = Layer(index as u8);
        self.layers.retain(|(_, known)| *known != layer);
        self.layers.push((ssrc, layer));
    }

    /// Takes a packet. Frames that it completes go to the relay.
    pub(crate) fn packet(&mut self, now: Now, packet: rtp::Packet, counters: &Counters) {
        let rtp::Packet { header, payload } = packet;
        let Some(codec) = self.codec(header.payload_type) else {
            counters.rtp_unknown.add(1);
            return;
        };
        self.heard = Some(now.instant);
        if self.stalled {
            self.stall(false);
        }
        counters.rtp_packets_in.add(1);
        counters.rtp_bytes_in.add(payload.len() as u64);
        let index = self.stream(header.ssrc, codec);
        let captured = self.offer.capture_time.and_then(|id| header.get_extension(id));
        if let Some(ntp) = captured.and_then(|extension| capture_time(&extension)) {
            self.streams[index].capture.tell(header.timestamp, ntp);
        }
        let packet = Packet {
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
        };
        self.drive(index, now, counters, |assembly| assembly.push(now, packet));
    }

    /// Takes a report of which timestamp belongs to which instant of the publisher's clock.
    pub(crate) fn sender_report(&mut self, now: Now, report: &SenderReport) {
        let stream = self.streams.iter_mut().find(|stream| stream.ssrc == report.ssrc);
        let Some(stream) = stream else { return };
        stream.capture.report(report.rtp_time, report.ntp_time);
        self.clock.report(report.ntp_time, now.wall);
        if let Some(publication) = &self.publication {
            publication.clock_map(ClockMap {
                kind: stream.kind,
                layer: stream.layer,
                ntp: report.ntp_time,
                timestamp: report.rtp_time,
                arrived: now.instant,
            });
        }
    }

    fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
        if let Some(publication) = &self.publication {
            publication.stalled(stalled);
        }
    }

    /// When the host is taken to be cut off, if nothing comes till then.
    fn stalls_at(&self) -> Option<Instant> {
        self.heard.filter(|_| !self.stalled).map(|heard| heard + STALL)
    }

    /// Gives up what was waited for long enough.
    pub(crate) fn handle_timeout(&mut self, now: Now, counters: &Counters) {
        if self.stalls_at().is_some_and(|at| at <= now.instant) {
            self.stall(true);
        }
        for index in 0..self.streams.len() {
            if self.streams[index].assembly.poll_timeout().is_some_and(|at| at <= now.instant) {
                self.drive(index, now, counters, |assembly| assembly.handle_timeout(now));
            }
        }
    }

    /// When to call [`Ingest::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let assemblies = self.streams.iter().filter_map(|stream| stream.assembly.poll_timeout());
        assemblies.chain(self.stalls_at()).min()
    }

    /// The requests for lost packets that are due: one RTCP packet for each stream.
    pub(crate) fn take_nacks(&mut self, now: Now) -> Vec<Box<dyn rtcp::Packet>> {
        let mut requests: Vec<Box<dyn rtcp::Packet>> = Vec::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.kind == Kind::Video) {
            let lost = stream.assembly.poll_nacks(now.instant);
            if !lost.is_empty() && self.offer.nack {
                let nacks = nack_pairs_from_sequence_numbers(&lost);
                requests.push(Box::new(TransportLayerNack {
                    sender_ssrc: 1,
                    media_ssrc: stream.ssrc,
                    nacks,
                }));
            }
        }
        requests
    }

    /// Whether the encoder was found to send B-frames. Said once.
    pub(crate) fn take_out_of_order(&mut self) -> bool {
        let news = self.out_of_order == Some(false);
        if news {
            self.out_of_order = Some(true);
        }
        news
    }

    /// The keyframe requests that the relay wants sent.
    pub(crate) fn take_requests(&self) -> Vec<Box<dyn rtcp::Packet>> {
        let layers = self.wishes.layers.swap(0, Ordering::AcqRel);
        let wanted = |stream: &&Stream| stream.kind == Kind::Video && layers & (1 << stream.layer.0) != 0;
        let request = |stream: &Stream| -> Box<dyn rtcp::Packet> {
            Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: stream.ssrc })
        };
        self.streams.iter().filter(wanted).map(request).collect()
    }

    fn codec(&self, payload_type: u8) -> Option<Codec> {
        let formats = self.offer.video.iter().chain(&self.offer.audio);
        formats.into_iter().find(|format| format.payload_type == payload_type).map(|format| format.codec)
    }

    /// The stream of `ssrc`. A new SSRC takes the place of what came before in its kind and layer.
    fn stream(&mut self, ssrc: u32, codec: Codec) -> usize {
        let kind = codec.kind();
        if let Some(index) = self.streams.iter().position(|s| s.ssrc == ssrc && s.kind == kind) {
            return index;
        }
        let known = self.layers.iter().find(|(known, _)| *known == ssrc && kind == Kind::Video);
        let layer = known.map_or(Layer(0), |(_, layer)| *layer);
        let sets = self.offer.video.iter().filter(|format| format.codec == codec);
        let sets = sets.flat_map(|format| parameter_sets(&format.fmtp));
        let assembly = Assembly::new(codec, layer).with_parameter_sets(sets);
        let capture = CaptureClock::new(codec.clock_rate_hz());
        let stream = Stream { ssrc, kind, layer, assembly, capture };
        match self.streams.iter().position(|s| s.kind == kind && s.layer == layer) {
            Some(index) => {
                self.streams[index] = stream;
                index
            }
            None => {
                self.streams.push(stream);
                self.streams.len() - 1
            }
        }
    }

    fn drive(&mut self, index: usize, now: Now, counters: &Counters, step: impl FnOnce(&mut Assembly)) {
        let stream = &mut self.streams[index];
        let before = stream.assembly.counts();
        step(&mut stream.assembly);
        let after = stream.assembly.counts();
        counters.frames_in.add(after.frames - before.frames);
        counters.keyframes_in.add(after.keyframes - before.keyframes);
        counters.packets_lost.add(after.lost - before.lost);
        counters.frames_dropped.add(after.dropped - before.dropped);
        while let Some(assembled) = stream.assembly.poll() {
            match (assembled, &self.publication) {
                (Assembled::Frame(mut frame), Some(publication)) => {
                    let captured = stream.capture.at(frame.timestamp);
                    frame.captured =
                        captured.map(|ntp| self.clock.capture(ntp, stream.assembly.round_trip()));
                    publication.frame(Arc::new(frame));
                }
                (Assembled::KeyframeNeeded, Some(_)) => {
                    self.relay.request_keyframe(stream.layer, Wish::Loss, now.instant);
                }
                (Assembled::OutOfOrder, Some(publication)) if self.out_of_order.is_none() => {
                    self.out_of_order = Some(false);
                    publication.out_of_order();
                }
                (Assembled::OutOfOrder, Some(_)) => {}
                (_, None) => {}
            }
        }
    }
}

/// The instant in an `abs-capture-time` extension, on the clock of the publisher's reports: where it is another's, the
/// difference stands behind it.
fn capture_time(extension: &[u8]) -> Option<u64> {
    let word = |at: usize| extension.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    Some(word(0)?.wrapping_sub(word(8).unwrap_or(0)))
}

/// The parameter sets in an offer's parameters: H.264's (RFC 6184, 8.1) or H.265's (RFC 7798, 7.1). What is no base64 is
/// left out.
fn parameter_sets(fmtp: &str) -> impl Iterator<Item = Bytes> {
    let names = ["sprop-vps=", "sprop-sps=", "sprop-pps=", "sprop-parameter-sets="];
    let pairs = move |name| fmtp.split(';').filter_map(move |pair| pair.trim().strip_prefix(name));
    let sets = names.into_iter().flat_map(pairs).flat_map(|sets| sets.split(','));
    sets.filter_map(|set| BASE64.decode(set).ok()).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_are_read_from_an_offer() {
        let sets: Vec<Bytes> =
            parameter_sets("packetization-mode=1; sprop-parameter-sets=Z0IAHw==,aM48gA==,!;x=1").collect();
        assert_eq!(sets, [&[0x67, 0x42, 0x00, 0x1F][..], &[0x68, 0xCE, 0x3C, 0x80]]);
        let sets: Vec<Bytes> = parameter_sets("sprop-pps=RAE=;sprop-vps=QAE=;sprop-sps=QgE=").collect();
        assert_eq!(sets, [&[0x40, 1][..], &[0x42, 1], &[0x44, 1]], "in a decoder's order");
    }

    #[test]
    fn capture_times_are_read_on_the_publishers_clock() {
        let told = [7_u64.to_be_bytes(), (-2_i64).to_be_bytes()].concat();
        assert_eq!(capture_time(&told), Some(9));
        assert_eq!(capture_time(&told[..8]), Some(7));
        assert_eq!(capture_time(&told[..7]), None);
    }
}
