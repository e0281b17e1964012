//! One viewer's session: offered, connected, watching. Driven by its thread, which brings datagrams and the time.

mod sums;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use mio::net::UdpSocket;
use rtc::{
    peer_connection::{
        RTCPeerConnection, event::RTCPeerConnectionEvent, sdp::RTCSessionDescription,
        state::RTCPeerConnectionState, transport::RTCDtlsTransportState,
    },
    rtcp::{
        self,
        payload_feedbacks::picture_loss_indication::PictureLossIndication,
        receiver_report::ReceiverReport,
        reception_report::ReceptionReport,
        transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
    rtp_transceiver::RTCRtpReceiverId,
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
    statistics::StatsSelector,
};

use self::sums::Jitter;
pub(crate) use self::sums::Sums;
use crate::{
    clip::{self, Codec, LAYERS},
    feedback::Feedback,
    keys::Material,
    late::Lateness,
    outage::Outage,
    peer::{self, Agreed, Ear, Identity, PeerError, Picture},
    reception::Reception,
    rtp::{self, Header},
    srtp::Opener,
    stamp::Stamp,
    tally::{Tally, Time},
};

/// How often reports go out.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often feedback about all packets goes out, where it was agreed upon.
const FEEDBACK_EVERY: Duration = Duration::from_millis(100);
/// Keyframes are asked for at most this often.
const PLI_EVERY: Duration = Duration::from_secs(1);
/// A session without a picture is given up after this long.
const PICTURE_WITHIN: Duration = Duration::from_secs(15);
/// A session is left when its connection has been broken for so long: `rtc` says so after 5 s without a word from the
/// server, and would itself give up only after half a minute. People don't wait for that.
pub(crate) const BROKEN_FOR: Duration = Duration::from_secs(3);
/// How often whoever only counts finds out which layer it is sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after the picture is steady delays are measured: what was replayed to a newcomer is old by design.
const SETTLED: Duration = Duration::from_secs(1);

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It goes on.
    Going,
    /// It never had a picture, and is over.
    Failed,
    /// It had one, and the server ended it or fell silent.
    Ended,
}

/// Which layer a viewer is sent, as the stamps say.
#[derive(Debug)]
struct LayerSeen {
    layer: usize,
    since: Instant,
    bytes: u64,
}

/// How a session is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traits {
    /// Every packet is decrypted.
    pub(crate) decrypt: bool,
    /// There are layers: so many packets are decrypted that it is known of which one the picture is.
    pub(crate) layers: bool,
}

/// A session.
pub(crate) struct Viewer {
    pub(crate) socket: UdpSocket,
    local: SocketAddr,
    connection: RTCPeerConnection,
    receiver: Option<RTCRtpReceiverId>,
    material: Material,
    ear: Ear,
    agreed: Agreed,
    opener: Option<Opener>,
    traits: Traits,
    layer: Option<LayerSeen>,
    /// When whoever only counts looks for a stamp again.
    next_look: Instant,
    /// The run whose stamps carry our own clock.
    run: u32,
    /// When the offer was posted.
    posted: Instant,
    connected_at: Option<Instant>,
    broken_since: Option<Instant>,
    had_packet: bool,
    had_picture: bool,
    was_steady: bool,
    state: State,
    due: Option<Instant>,
    video: Reception,
    video_ssrc: u32,
    audio: Reception,
    audio_ssrc: u32,
    rtx_highest: Option<u64>,
    jitter: Jitter,
    lateness: Lateness,
    feedback: Feedback,
    next_report: Instant,
    next_feedback: Instant,
    next_pli: Instant,
    reported: (u64, u64),
    sums: Sums,
    asked: Vec<u16>,
    /// The network is gone, in both directions, or was, and the pictures are not steady again.
    pub(crate) outage: Option<Outage>,
    /// The network failed while this session was there, at last until then: its joining is not measured from then on.
    interrupted: Option<Instant>,
    /// Nothing is said any more, not even goodbye.
    vanished: bool,
}

impl Viewer {
    /// Makes an offer. `source` is the address that leads to the server.
    pub(crate) fn offer(
        identity: &Identity,
        source: SocketAddr,
        traits: Traits,
        run: u32,
        now: Instant,
    ) -> Result<(Self, String), PeerError> {
        let bind = || -> io::Result<_> {
            let socket = crate::net::bind(source)?;
            let local = socket.local_addr()?;
            Ok((socket, local))
        };
        let (socket, local) = bind().map_err(|error| PeerError::socket(&error))?;
        let offered = peer::viewer(identity, local, now)?;
        let receiver = offered.connection.get_receivers().next();
        let viewer = Self {
            socket,
            local,
            receiver,
            connection: offered.connection,
            material: offered.material,
            ear: offered.ear,
            agreed: Agreed::default(),
            opener: None,
            traits,
            layer: None,
            next_look: now,
            run,
            posted: now,
            connected_at: None,
            broken_since: None,
            had_packet: false,
            had_picture: false,
            was_steady: false,
            state: State::Going,
            due: None,
            video: Reception::new(false),
            video_ssrc: 0,
            audio: Reception::new(false),
            audio_ssrc: 0,
            rtx_highest: None,
            jitter: Jitter::default(),
            lateness: Lateness::default(),
            feedback: Feedback::default(),
            next_report: now,
            next_feedback: now,
            next_pli: now,
            reported: (0, 0),
            sums: Sums::default(),
            asked: Vec::new(),
            outage: None,
            interrupted: None,
            vanished: false,
        };
        Ok((viewer, offered.sdp))
    }

    /// The server has answered an offer that was posted at `posted`.
    pub(crate) fn answer(&mut self, sdp: &str, posted: Instant, now: Instant) -> Result<(), PeerError> {
        self.posted = posted;
        self.agreed = Agreed::read(sdp);
        self.video = Reception::new(self.agreed.pictures.iter().any(|picture| picture.nack));
        let answer = RTCSessionDescription::answer(sdp.to_owned()).map_err(PeerError::from_rtc)?;
        self.connection.set_remote_description(now, answer).map_err(PeerError::from_rtc)?;
        Ok(())
    }

    /// The payload type that a viewer without a server takes for its picture.
    pub(crate) const PRETENDED_PAYLOAD_TYPE: u8 = 96;

    /// Behaves as if connected, with nobody at the other end: for measuring the harness itself.
    pub(crate) fn pretend_connected(&mut self, now: Instant) -> Option<()> {
        self.opener = Some(Opener::new("SRTP_AEAD_AES_128_GCM", &[0; 56], true).ok()?);
        let payload_type = Self::PRETENDED_PAYLOAD_TYPE;
        let video = Picture { codec: Codec::Vp8, payload_type, rtx: None, nack: true };
        self.agreed = Agreed { pictures: vec![video], ..Agreed::default() };
        self.connected_at = Some(now);
        self.video.assume_whole();
        Some(())
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected_at.is_some() && self.state == State::Going
    }

    /// Whether whole pictures come.
    pub(crate) fn is_served(&self, now: Instant) -> bool {
        self.is_connected() && self.video.pace().is_moving(now)
    }

    /// Whether it was ever connected.
    pub(crate) fn was_connected(&self) -> bool {
        self.connected_at.is_some()
    }

    /// The network fails until then. Returns whether the viewer was not back from the last time.
    pub(crate) fn fail_network(&mut self, until: Instant, roams: bool) -> bool {
        self.interrupted = Some(self.interrupted.map_or(until, |before| before.max(until)));
        match &mut self.outage {
            Some(outage) => {
                outage.again(until, roams);
                true
            }
            None => {
                self.outage = Some(Outage::new(until, roams, false));
                false
            }
        }
    }

    /// Falls silent for good: the network that it was on is no more.
    pub(crate) fn vanish(&mut self) {
        self.vanished = true;
    }

    /// Whether the network failed while this session was there, and the viewer is not back from it: so that its end is not
    /// the server's doing.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted.is_some() && self.outage.is_some()
    }

    fn is_cut_off(&self, now: Instant) -> bool {
        self.outage.as_ref().is_some_and(|outage| outage.is_gone(now))
    }

    /// A step of joining is done.
    fn joining(&self, time: Time, at: Instant, tally: &mut Tally) {
        if self.interrupted.is_none() {
            tally.record(time, at.saturating_duration_since(self.posted));
        }
    }

    /// A datagram has come.
    pub(crate) fn datagram(
        &mut self,
        datagram: &mut [u8],
        from: SocketAddr,
        now: Instant,
        tally: &mut Tally,
    ) {
        let is_rtp = rtp::is_rtp(datagram);
        self.sums.arrived += u64::from(is_rtp);
        if self.is_cut_off(now) {
            self.sums.discarded += 1;
            return;
        }
        if is_rtp {
            self.rtp(datagram, now, tally);
            return;
        }
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let message = TaggedBytesMut { now, transport, message: BytesMut::from(&*datagram) };
        // What it does not like, it drops.
        let _ = self.connection.handle_read(message);
        self.turn(now, tally);
    }

    /// Time has passed: called about every 10 ms.
    pub(crate) fn tick(&mut self, now: Instant, tally: &mut Tally) {
        if self.due.is_none_or(|due| due <= now) {
            let _ = self.connection.handle_timeout(now);
            self.turn(now, tally);
        }
        // Nobody gives a session up while there is no network: that would help nothing.
        let since = |time: Instant| self.interrupted.map_or(time, |until| time.max(until));
        if !self.had_picture && self.state == State::Going && now > since(self.posted) + PICTURE_WITHIN {
            self.state = State::Failed;
        }
        if self.state == State::Going
            && self.broken_since.is_some_and(|broken| now >= since(broken) + BROKEN_FOR)
        {
            self.state = self.lost();
        }
        if !self.is_connected() {
            return;
        }
        let mut rtcp: Vec<Box<dyn rtcp::Packet>> = Vec::new();
        self.asked.clear();
        self.video.nacks(now, &mut self.asked);
        if !self.asked.is_empty() {
            rtcp.push(Box::new(TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: self.video_ssrc,
                nacks: nack_pairs_from_sequence_numbers(&self.asked),
            }));
        }
        self.audio.nacks(now, &mut self.asked);
        let stuck = self.had_packet && self.video.needs_keyframe();
        if (self.video.take_keyframe_wanted() || stuck) && now >= self.next_pli && self.video_ssrc != 0 {
            self.next_pli = now + PLI_EVERY;
            self.sums.plis += 1;
            rtcp.push(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: self.video_ssrc }));
        }
        if self.agreed.transport_cc.is_some() && now >= self.next_feedback {
            self.next_feedback = now + FEEDBACK_EVERY;
            if let Some(feedback) = self.feedback.take(self.video_ssrc) {
                rtcp.push(Box::new(feedback));
            }
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            rtcp.insert(0, Box::new(self.report(now)));
            if self.told_goodbye() {
                self.state = State::Ended;
            }
        }
        if !rtcp.is_empty()
            && let Some(receiver) = self.receiver.and_then(|id| self.connection.rtp_receiver(id))
        {
            let mut receiver = receiver;
            let _ = receiver.write_rtcp(now, rtcp);
            self.turn(now, tally);
        }
    }

    /// What has been counted so far.
    pub(crate) fn sums(&self, now: Instant) -> Sums {
        let mut sums = self.sums;
        sums.picture = self.video.counts;
        sums.sound = self.audio.counts;
        sums.expected = self.video.expected() + self.audio.expected();
        sums.lost = self.video.lost() + self.audio.lost();
        (sums.stamped, sums.late) = (self.lateness.watched, self.lateness.late);
        let pace = self.video.pace();
        (sums.watched, sums.freezes, sums.frozen) = (pace.watched(now), pace.freezes, pace.frozen);
        if let Some(seen) = &self.layer {
            let share = &mut sums.layers[seen.layer];
            share.bytes += self.sums.bytes - seen.bytes;
            share.time += now.saturating_duration_since(seen.since);
        }
        sums.connected = self.connected_at.map_or(Duration::ZERO, |from| now.saturating_duration_since(from));
        sums
    }

    /// Says goodbye. Returns what was counted, and the socket, to which the server may still send.
    pub(crate) fn leave(mut self, now: Instant) -> (Sums, UdpSocket) {
        self.video.end(now);
        let sums = self.sums(now);
        let _ = self.connection.close();
        self.send(now);
        (sums, self.socket)
    }

    fn rtp(&mut self, datagram: &mut [u8], now: Instant, tally: &mut Tally) {
        if self.opener.is_none() {
            return;
        }
        let Some(header) = Header::read(datagram) else { return };
        if !self.had_packet {
            self.had_packet = true;
            self.joining(Time::JoinFirstPacket, now, tally);
        }
        self.sums.bytes += datagram.len() as u64;
        if let Some(id) = self.agreed.transport_cc
            && let Some([high, low]) = rtp::extension(datagram, id)
        {
            self.feedback.arrive(u16::from_be_bytes([*high, *low]), now);
        }
        let pictures = &self.agreed.pictures;
        let of_picture = |picture: &&Picture| picture.payload_type == header.payload_type;
        let resent = |picture: &&Picture| picture.rtx == Some(header.payload_type);
        if let Some(video) = pictures.iter().find(of_picture).copied() {
            self.video_ssrc = header.ssrc;
            self.jitter.arrive(header.timestamp, now);
            let Some(number) = self.video.arrive(header.sequence, header.marker, now) else { return };
            let looks = self.traits.layers && now >= self.next_look;
            if self.traits.decrypt || looks || self.video.needs_keyframe() {
                self.look(datagram, header.bytes, (number >> 16) as u32, number, video.codec, now, tally);
            }
        } else if let Some(video) = pictures.iter().find(resent).copied() {
            // Resent packets are few, and their old numbers are under the seal.
            self.sums.rtx += 1;
            let highest = self.rtx_highest.unwrap_or(u64::from(header.sequence));
            let number = rtp::unwrap(highest, header.sequence);
            self.rtx_highest = Some(highest.max(number));
            let Some(opener) = &self.opener else { return };
            let payload = opener.open(datagram, header.bytes, (number >> 16) as u32);
            let Ok([high, low, payload @ ..]) = payload else {
                self.sums.decrypt_errors += u64::from(payload.is_err());
                return;
            };
            self.sums.decrypted += 1;
            let original = u16::from_be_bytes([*high, *low]);
            if let Some(number) = self.video.arrive(original, header.marker, now)
                && begins_keyframe(video.codec, payload)
            {
                self.video.begins_keyframe(number);
            }
        } else if self.agreed.audio == Some(header.payload_type) {
            self.audio_ssrc = header.ssrc;
            let number = self.audio.arrive(header.sequence, true, now);
            if let Some(number) = number
                && self.traits.decrypt
                && let Some(opener) = &self.opener
            {
                match opener.open(datagram, header.bytes, (number >> 16) as u32) {
                    Ok(_) => self.sums.decrypted += 1,
                    Err(_) => self.sums.decrypt_errors += 1,
                }
            }
            return;
        } else {
            return;
        }
        if self.video.advance(now) {
            self.picture(tally, now);
        }
    }

    /// Pictures have become whole.
    fn picture(&mut self, tally: &mut Tally, now: Instant) {
        if !self.had_picture {
            self.had_picture = true;
            self.joining(Time::JoinFirstPicture, now, tally);
            tally.count(crate::tally::Count::JoinPictures, 1);
        }
        if !self.was_steady
            && let Some(since) = self.video.pace().steady_since
        {
            self.was_steady = true;
            self.joining(Time::JoinSteady, since, tally);
        }
        if self.outage.as_mut().is_some_and(|outage| outage.picture(now, tally)) {
            self.outage = None;
        }
    }

    /// Decrypts a packet of the picture and looks what it begins, and when it was sent.
    #[allow(clippy::too_many_arguments)]
    fn look(
        &mut self,
        datagram: &mut [u8],
        header: usize,
        rollover: u32,
        number: u64,
        codec: Codec,
        now: Instant,
        tally: &mut Tally,
    ) {
        let Some(opener) = &self.opener else { return };
        let Ok(payload) = opener.open(datagram, header, rollover) else {
            self.sums.decrypt_errors += 1;
            return;
        };
        self.sums.decrypted += 1;
        if begins_keyframe(codec, payload) {
            self.video.begins_keyframe(number);
        }
        let Some(stamp) = Stamp::find(payload) else { return };
        self.see_layer(usize::from(stamp.layer), now);
        if self.video.pace().watched_from.is_some_and(|from| now > from + SETTLED) {
            self.sums.other_clock += u64::from(stamp.run != self.run);
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let sent = Duration::from_micros(stamp.sent_us);
            let delay = wall.saturating_sub(sent);
            tally.record(Time::Delay, delay);
            if let Some(gap) = self.video.pace().average() {
                self.lateness.picture(sent, delay, gap, now);
            }
        }
    }

    /// The picture is of this layer. What came since the last stamp counts as the former's.
    fn see_layer(&mut self, layer: usize, now: Instant) {
        self.next_look = now + LOOK_EVERY;
        if layer >= LAYERS.len() || self.layer.as_ref().is_some_and(|seen| seen.layer == layer) {
            return;
        }
        let seen = LayerSeen { layer, since: now, bytes: self.sums.bytes };
        if let Some(former) = self.layer.replace(seen) {
            let share = &mut self.sums.layers[former.layer];
            share.bytes += self.sums.bytes - former.bytes;
            share.time += now.saturating_duration_since(former.since);
        }
    }

    /// What has come of each stream since the last report (RFC 3550, 6.4.2).
    fn report(&mut self, now: Instant) -> ReceiverReport {
        let heard = self.ear.listen();
        let block = |ssrc: u32, reception: &Reception, reported: &mut u64, jitter: f64| {
            let last = heard.reports.iter().find(|(of, ..)| *of == ssrc);
            let (name, delay) = last.map_or((0, 0.0), |(_, name, at)| (*name, (now - *at).as_secs_f64()));
            let lost = reception.lost();
            let new = lost.saturating_sub(*reported);
            *reported = lost;
            ReceptionReport {
                ssrc,
                fraction_lost: new.min(255) as u8,
                total_lost: lost.min(0x7F_FFFF) as u32,
                last_sequence_number: reception.highest() as u32,
                jitter: jitter as u32,
                last_sender_report: name,
                delay: (delay * 65_536.0) as u32,
            }
        };
        let mut reports = Vec::new();
        if self.video_ssrc != 0 {
            reports.push(block(self.video_ssrc, &self.video, &mut self.reported.0, self.jitter.value));
        }
        if self.audio_ssrc != 0 {
            reports.push(block(self.audio_ssrc, &self.audio, &mut self.reported.1, 0.0));
        }
        ReceiverReport { ssrc: 1, reports, ..ReceiverReport::default() }
    }

    fn told_goodbye(&mut self) -> bool {
        let Some(receiver) = self.receiver.and_then(|id| self.connection.rtp_receiver(id)) else {
            return false;
        };
        receiver.transport().is_some_and(|transport| transport.state() == RTCDtlsTransportState::Closed)
    }

    /// Lets `rtc` do what it has to: events, what it has to say, and when it wants to be asked again.
    fn turn(&mut self, now: Instant, tally: &mut Tally) {
        while let Some(event) = self.connection.poll_event() {
            let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else { continue };
            match state {
                RTCPeerConnectionState::Connected if self.connected_at.is_none() => {
                    self.connected(now, tally)
                }
                RTCPeerConnectionState::Connected => self.broken_since = None,
                RTCPeerConnectionState::Disconnected => self.broken_since = Some(now),
                RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => self.state = self.lost(),
                _ => {}
            }
        }
        while self.connection.poll_read().is_some() {}
        self.send(now);
        self.due = self.connection.poll_timeout();
    }

    /// How a session stands that is no more.
    fn lost(&self) -> State {
        if self.had_picture { State::Ended } else { State::Failed }
    }

    fn connected(&mut self, now: Instant, tally: &mut Tally) {
        let report = self.connection.get_stats(now, StatsSelector::None);
        let cipher = report.transport().map(|transport| transport.srtp_cipher.clone()).unwrap_or_default();
        match Opener::new(&cipher, &self.material.take(), self.agreed.server_connects) {
            Ok(opener) => {
                self.opener = Some(opener);
                self.connected_at = Some(now);
                self.next_report = now + REPORT_EVERY;
                self.joining(Time::JoinConnected, now, tally);
            }
            Err(_) => self.state = State::Failed,
        }
    }

    fn send(&mut self, now: Instant) {
        let cut_off = self.vanished || self.is_cut_off(now);
        while let Some(datagram) = self.connection.poll_write() {
            if !cut_off {
                // A full socket is a lost datagram, as on any network.
                let _ = self.socket.send_to(&datagram.message, datagram.transport.peer_addr);
            }
        }
    }
}

fn begins_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        // Parameter sets or the picture itself, whichever comes first.
        Codec::H264 => clip::h264_has(payload, 7) || clip::h264_has(payload, 5),
        Codec::Vp8 => clip::vp8_begins_keyframe(payload),
    }
}
