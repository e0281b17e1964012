//! One track to a viewer: its numbering, what of it can be sent again, and its reports.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haul_media::{
    Forward, History, Hold,
    history::{ResendBudget, Sent, Stamp},
};
use haul_model::{Codec, Frame, Kind, Layer, TrackInfo};
use rtc::rtcp::sender_report::SenderReport;

use super::Ssrcs;
use super::{
    transport::Transport,
    writer::{Head, PADDING, Place, Told, Writer},
};
use crate::{
    feed::Feed,
    sdp::{self, Extensions, Format},
};

/// How often at most a track's packets say when they were captured, besides keyframes.
const CAPTURE_INTERVAL: Duration = Duration::from_secs(1);

/// One track to the viewer. What each frame touches comes first.
#[repr(C)]
pub(super) struct Track {
    pub(super) forward: Forward,
    pub(super) codec: Codec,
    /// The codec's parameters, as they were negotiated.
    fmtp: String,
    pub(super) ssrc: u32,
    /// Payload bytes sent, for sender reports (wraps).
    pub(super) octets: u32,
    /// Packets sent, for the same.
    packets: u32,
    payload_type: u8,
    extensions: Extensions,
    /// The last frame has gone out in part: nothing may come between it and the rest.
    unfinished: bool,
    /// When the time of capture was told last.
    told: Option<Instant>,
    /// How long pictures are to be held back for repairs, where the viewer can be told.
    hold: Option<Hold>,
    /// What can be sent again; only pictures are asked for.
    pub(super) repair: Option<Repair>,
}

#[derive(Default)]
#[repr(C)]
pub(super) struct Repair {
    pub(super) history: History,
    budget: ResendBudget,
    /// The retransmission stream, if the viewer negotiated one. Else the identical packet is sent again.
    rtx: Option<Rtx>,
}

struct Rtx {
    payload_type: u8,
    ssrc: u32,
    next_sequence: u64,
}

impl Track {
    pub(super) fn new(format: &Format, ssrcs: Ssrcs) -> Self {
        let rtx = format.rtx.map(|payload_type| Rtx {
            payload_type,
            ssrc: ssrcs.rtx,
            next_sequence: u64::from(rand::random::<u16>() & 0x7FFF),
        });
        let (ssrc, repair) = match format.codec.kind() {
            Kind::Video => (ssrcs.video, Some(Repair { rtx, ..Repair::default() })),
            Kind::Audio => (ssrcs.audio, None),
        };
        Self {
            codec: format.codec,
            fmtp: format.fmtp.clone(),
            payload_type: format.payload_type,
            extensions: format.extensions,
            ssrc,
            forward: Forward::new(format.codec, rand::random(), rand::random()),
            repair,
            unfinished: false,
            hold: format.extensions.playout_delay.map(|_| Hold::default()),
            told: None,
            packets: 0,
            octets: 0,
        }
    }

    /// Whether the viewer can go on with what the host sends now: the same codec, in a profile that it decodes.
    pub(super) fn decodes(&self, sent: &TrackInfo) -> bool {
        sdp::decodes(self.codec, &self.fmtp, sent)
    }

    /// Sends a frame. Returns its bytes.
    pub(super) fn send(
        &mut self,
        now: Instant,
        writer: &mut Writer<'_>,
        transport: &mut Transport,
        frame: &Arc<Frame>,
        timestamp: u32,
    ) -> usize {
        let outgoing = self.forward.number(frame, timestamp);
        let numbers = outgoing.numbers.map(|numbers| (self.codec, numbers));
        let captured = self.capture_time(now, frame);
        let hold = self.hold.as_mut().map_or(0, |hold| hold.picture(now));
        let transport_number = transport.next() as u16;
        let stamp = Stamp { transport: transport_number, tells_capture: captured.is_some(), hold };
        let told = Told { captured, hold };
        let mut head = Head::new(self.payload_type, self.ssrc, timestamp, self.extensions, told);
        let mut bytes = 0;
        let last = frame.packets.len() - 1;
        for (index, payload) in frame.packets.iter().enumerate() {
            let place = Place {
                sequence: outgoing.first_sequence + index as u64,
                transport: stamp.transport.wrapping_add(index as u16),
                marker: frame.kind == Kind::Video && frame.ends && index == last,
            };
            bytes += writer.packet(&mut head, place, None, payload, numbers);
        }
        writer.count(frame.packets.len(), bytes);
        if self.extensions.transport.is_some() {
            transport.sent(now, frame.packets.len(), bytes);
        }
        self.unfinished = !frame.ends;
        self.packets = self.packets.wrapping_add(frame.packets.len() as u32);
        self.octets = self.octets.wrapping_add(frame.size_bytes() as u32);
        if let Some(repair) = &mut self.repair {
            repair.budget.sent(frame.packets.len() as u32);
            repair.history.push(outgoing, stamp, frame.clone());
        }
        bytes
    }

    /// An answer took so long to come back.
    pub(super) fn took(&mut self, round_trip: Duration) {
        if let Some(hold) = &mut self.hold {
            hold.round_trip(round_trip);
        }
    }

    /// What was sent before is not needed any more.
    pub(super) fn forget(&mut self) {
        if let Some(repair) = &mut self.repair {
            repair.history.clear();
        }
    }

    /// Sends a packet again that is asked for, if it may. Returns its bytes.
    pub(super) fn resend(
        &mut self,
        now: Instant,
        writer: &mut Writer<'_>,
        transport: &mut Transport,
        sequence: u16,
        round_trip: Duration,
    ) -> usize {
        let Some(Repair { history, budget, .. }) = &mut self.repair else { return 0 };
        if !budget.hears(round_trip, now) {
            writer.counters.resends_over_budget.add(1);
            return 0;
        }
        let Some(sent) = history.find(sequence) else {
            writer.counters.resend_misses.add(1);
            return 0;
        };
        if !budget.allows(sent.sequence, round_trip, now) {
            writer.counters.resends_over_budget.add(1);
            return 0;
        }
        writer.counters.resends.add(1);
        if let Some(hold) = &mut self.hold {
            hold.repair(now);
        }
        self.again(now, writer, transport, sequence)
    }

    /// Sends a packet once more that was just sent again, if it may. Returns its bytes.
    pub(super) fn repeat(
        &mut self,
        now: Instant,
        writer: &mut Writer<'_>,
        transport: &mut Transport,
        sequence: u16,
        round_trip: Duration,
    ) -> usize {
        if !self.repair.as_mut().is_some_and(|repair| repair.budget.allows_twice(round_trip, now)) {
            return 0;
        }
        writer.counters.resends_twice.add(1);
        self.again(now, writer, transport, sequence)
    }

    fn again(
        &mut self,
        now: Instant,
        writer: &mut Writer<'_>,
        transport: &mut Transport,
        sequence: u16,
    ) -> usize {
        let Some(Repair { history, rtx, .. }) = &mut self.repair else { return 0 };
        let Some(sent) = history.find(sequence) else { return 0 };
        if let Some(rtx) = rtx {
            return rtx.send(now, writer, transport, &sent, self.codec, self.extensions);
        }
        // The identical packet: the same key, nonce and plaintext, so the same bytes.
        let Sent { sequence, outgoing, stamp, index, .. } = sent;
        let told = Told { captured: sent.captured(), hold: stamp.hold };
        let mut head = Head::new(self.payload_type, self.ssrc, outgoing.timestamp, self.extensions, told);
        let transport = stamp.transport.wrapping_add(index as u16);
        let place = Place { sequence, transport, marker: sent.ends() };
        let numbers = outgoing.numbers.map(|numbers| (self.codec, numbers));
        let payload = sent.payload().unwrap_or_else(|| head.pad());
        let bytes = writer.packet(&mut head, place, None, payload, numbers);
        writer.count(1, bytes);
        bytes
    }

    /// Sends padding: packets of late again, by the retransmission stream, since players drop what they have already. Where
    /// there is no such stream or nothing of late, packets that carry nothing, between frames. Returns the bytes sent.
    pub(super) fn pad(
        &mut self,
        now: Instant,
        writer: &mut Writer<'_>,
        transport: &mut Transport,
        bytes: usize,
    ) -> usize {
        let Some(Repair { history, rtx, .. }) = &mut self.repair else { return 0 };
        let Some(rtx) = rtx.as_mut().filter(|_| !history.is_empty()) else {
            return self.pad_plainly(now, writer, transport, bytes);
        };
        let mut sent = 0;
        for packet in history.recent() {
            if sent >= bytes {
                break;
            }
            sent += rtx.send(now, writer, transport, &packet, self.codec, self.extensions);
        }
        sent
    }

    fn pad_plainly(
        &mut self,
        now: Instant,
        writer: &mut Writer<'_>,
        transport: &mut Transport,
        bytes: usize,
    ) -> usize {
        let Some(repair) = self.repair.as_mut().filter(|_| !self.unfinished) else { return 0 };
        let stamp = Stamp { transport: transport.next() as u16, ..Stamp::default() };
        let packets = bytes.div_ceil(PADDING.len());
        let Some(outgoing) = self.forward.pad(packets) else { return 0 };
        let mut head =
            Head::new(self.payload_type, self.ssrc, outgoing.timestamp, self.extensions, Told::default());
        let padding = head.pad();
        let mut sent = 0;
        for index in 0..packets {
            let place = Place {
                sequence: outgoing.first_sequence + index as u64,
                transport: stamp.transport.wrapping_add(index as u16),
                marker: false,
            };
            sent += writer.packet(&mut head, place, None, padding, None);
        }
        writer.count(packets, sent);
        transport.sent(now, packets, sent);
        self.packets = self.packets.wrapping_add(packets as u32);
        repair.history.push_padding(outgoing, stamp, packets);
        sent
    }

    /// Whether the track can be padded.
    pub(super) fn has_padding(&self) -> bool {
        self.extensions.transport.is_some() && self.repair.is_some() && self.forward.has_begun()
    }

    /// Maps our timestamps to the host's clock, carried forward to now from its last report.
    pub(super) fn report(&self, now: Instant, feed: &Feed) -> Option<SenderReport> {
        let layer = match self.codec.kind() {
            Kind::Video => self.forward.layer()?,
            Kind::Audio => Layer(0),
        };
        let map = feed.clock_map(self.codec.kind(), layer)?;
        let (ntp_time, timestamp) = map.at(now, self.codec.clock_rate_hz());
        Some(SenderReport {
            ssrc: self.ssrc,
            ntp_time,
            rtp_time: timestamp.wrapping_add(self.forward.offset()?),
            packet_count: self.packets,
            octet_count: self.octets,
            ..SenderReport::default()
        })
    }

    /// When the frame was captured, if that is known and due to be told.
    fn capture_time(&mut self, now: Instant, frame: &Frame) -> Option<u64> {
        self.extensions.capture_time?;
        let is_due = frame.kind == Kind::Video && frame.keyframe
            || self.told.is_none_or(|at| now.saturating_duration_since(at) >= CAPTURE_INTERVAL);
        let captured = frame.captured.filter(|_| is_due)?;
        self.told = Some(now);
        Some(captured.ntp)
    }
}

impl Rtx {
    /// Sends a packet as a retransmission. Returns its bytes.
    fn send(
        &mut self,
        now: Instant,
        writer: &mut Writer<'_>,
        transport: &mut Transport,
        sent: &Sent<'_>,
        codec: Codec,
        extensions: Extensions,
    ) -> usize {
        let Sent { sequence, outgoing, .. } = *sent;
        let mut head =
            Head::new(self.payload_type, self.ssrc, outgoing.timestamp, extensions, Told::default());
        let number = transport.next() as u16;
        let place = Place { sequence: self.next_sequence, transport: number, marker: sent.ends() };
        self.next_sequence += 1;
        // Nothing, where what was lost was padding.
        let payload = sent.payload().unwrap_or_default();
        let numbers = outgoing.numbers.map(|numbers| (codec, numbers));
        let bytes = writer.packet(&mut head, place, Some(sequence as u16), payload, numbers);
        writer.count(1, bytes);
        if extensions.transport.is_some() {
            transport.sent(now, 1, bytes);
        }
        bytes
    }
}
