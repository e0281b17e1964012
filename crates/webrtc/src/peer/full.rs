//! A host's control plane: a connection of `rtc`'s, and what it takes to make it work with the clients there are.

use std::{net::SocketAddr, time::Instant};

use bytes::BytesMut;
use rtc::{
    peer_connection::{
        RTCPeerConnection,
        event::{RTCPeerConnectionEvent, RTCTrackEvent},
        message::RTCMessage,
        state::{RTCIceConnectionState, RTCPeerConnectionState},
        transport::RTCDtlsTransportState,
    },
    rtcp,
    rtp_transceiver::RTCRtpReceiverId,
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
    statistics::StatsSelector,
};

use super::{
    PeerEvent,
    flight::{Held, Hello},
};
use crate::{
    OfferError,
    connection::{Built, Terms, build},
    hello::Offered,
    identity::{GCM, Identity, SHA1},
    keys,
    outbox::Outbox,
    route::Route,
    seal::Profile,
    stun, tap,
};

/// Content type of a DTLS alert (RFC 5246, 6.2.1), and of a handshake message.
const DTLS_ALERT: u8 = 21;
const DTLS_HANDSHAKE: u8 = 22;

/// Where a peer is.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    /// Where media goes, once known.
    pub(super) path: Option<Route>,
    /// All that are known to be the peer's.
    pub(super) routes: &'a [Route],
}

pub(super) struct Full {
    identity: Identity,
    terms: Terms,
    connection: RTCPeerConnection,
    keys: keys::Captured,
    tap: tap::Reader,
    /// Any of its receivers, through which RTCP is sent.
    receiver: Option<RTCRtpReceiverId>,
    /// A nominating check that `rtc` may have to see again: it leaves one unanswered while its own check of the pair is
    /// under way, and forgets the nomination.
    nomination: Option<(Route, Vec<u8>)>,
    /// ICE has a pair.
    reachable: bool,
    connected: bool,
    /// The client's first DTLS flight, until ICE is up and it is whole.
    held: Held,
    /// The profiles were read and the flight let through (or there is none to come).
    decided: bool,
    /// The client has no GCM, and this is the second connection.
    fell_back: bool,
    /// Our own first flight was sent.
    called: bool,
    /// That flight while it is unanswered.
    hello: Option<Hello>,
    /// Events that were polled while something was taken in.
    unread: Vec<RTCPeerConnectionEvent>,
    /// A DTLS alert has come: see whether it was a goodbye.
    alerted: bool,
    /// SRTP datagrams given to `rtc` since the tap was last read.
    undecrypted: u64,
}

impl Full {
    /// Sets a connection up. Returns it with `rtc`'s answer.
    pub(super) fn new(identity: Identity, terms: Terms, now: Instant) -> Result<(Self, String), OfferError> {
        let we_connect = terms.offer.we_connect;
        // As the client we name the profiles, in our order. As the server we take the client's order, so name one.
        let profiles = if we_connect { vec![GCM, SHA1] } else { vec![GCM] };
        let Built { connection, keys, tap, receiver, answer } = build(&identity, &terms, profiles, now)?;
        let full = Self {
            identity,
            terms,
            connection,
            keys,
            tap,
            receiver,
            nomination: None,
            reachable: false,
            connected: false,
            held: Held::default(),
            decided: we_connect,
            fell_back: false,
            called: false,
            hello: None,
            unread: Vec::new(),
            alerted: false,
            undecrypted: 0,
        };
        Ok((full, answer))
    }

    pub(super) fn reachable(&self) -> bool {
        self.reachable
    }

    /// Takes an authentic check, while not connected: `rtc` must see a path before it begins with DTLS.
    pub(super) fn check(&mut self, now: Instant, from: Route, datagram: &[u8], nominates: bool) {
        if nominates {
            self.nomination = Some((from, datagram.to_vec()));
        }
        self.feed(now, from, datagram);
    }

    /// Takes any other STUN message from a known address.
    pub(super) fn stun(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        if self.connected {
            // We have asked nothing.
            return;
        }
        self.feed(now, from, datagram);
        if !self.reachable
            && stun::is_success(datagram)
            && let Some((from, check)) = self.nomination.clone()
        {
            self.feed(now, from, &check);
        }
    }

    pub(super) fn dtls(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        self.hello = None;
        if !self.decided {
            self.held.push(datagram);
            return;
        }
        self.alerted |= datagram.first() == Some(&DTLS_ALERT);
        self.feed(now, from, datagram);
        // The end of the handshake takes effect only when its events are polled, and media may be right behind it.
        while let Some(event) = self.connection.poll_event() {
            self.unread.push(event);
        }
    }

    pub(super) fn srtp(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        self.undecrypted += 1;
        self.feed(now, from, datagram);
    }

    /// There is one SRTCP sender per connection, `rtc`'s, so that no index is used twice.
    pub(super) fn write_rtcp(&mut self, now: Instant, packets: Vec<Box<dyn rtcp::Packet>>) {
        // Fails only before the handshake is complete and after the end, when there is nobody to tell.
        let receiver = self.receiver.and_then(|id| self.connection.rtp_receiver(id));
        let _ = receiver.map(|mut receiver| receiver.write_rtcp(now, packets));
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        let hello = self.hello.as_ref().and_then(Hello::poll_timeout);
        self.connection.poll_timeout().into_iter().chain(hello).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, path: Option<Route>, outbox: &mut Outbox) {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            // Fails on a closed connection, which is as good as done.
            let _ = self.connection.handle_timeout(now);
        }
        if let (Some(hello), Some(path)) = (&mut self.hello, path) {
            hello.repeat(now, path, outbox);
        }
    }

    /// Returns whether something authentic has come since it was last called.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        ways: Ways<'_>,
        outbox: &mut Outbox,
        events: &mut Vec<PeerEvent>,
    ) -> bool {
        loop {
            let mut quiet = true;
            for event in std::mem::take(&mut self.unread) {
                self.react(now, event, events);
            }
            while let Some(event) = self.connection.poll_event() {
                quiet = false;
                self.react(now, event, events);
            }
            self.transmit(now, ways, outbox);
            if self.reachable && !self.held.is_empty() && self.release_hello(now, ways.path, events) {
                quiet = false;
            }
            if quiet {
                break;
            }
        }
        while let Some(message) = self.connection.poll_read() {
            if let RTCMessage::RtpPacket(_, packet) = message.message {
                events.push(PeerEvent::Rtp(packet));
            }
        }
        let passed = self.tap.take();
        let undecrypted = std::mem::take(&mut self.undecrypted).saturating_sub(passed.datagrams_in);
        if undecrypted > 0 {
            events.push(PeerEvent::Undecrypted(undecrypted));
        }
        if passed.nacks_out > 0 {
            events.push(PeerEvent::NacksSent(passed.nacks_out));
        }
        if !passed.rtcp.is_empty() {
            events.push(PeerEvent::Rtcp(passed.rtcp));
        }
        if std::mem::take(&mut self.alerted) && self.connected && self.dtls_ended() {
            events.push(PeerEvent::Closed);
        }
        passed.datagrams_in > 0
    }

    pub(super) fn close(&mut self) {
        // Fails if parts of it were closed already.
        let _ = self.connection.close();
    }

    fn feed(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        let transport = TransportContext {
            local_addr: self.terms.local,
            peer_addr: from.remote,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        // It reports no errors itself, see `undecrypted`.
        let _ =
            self.connection.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(datagram) });
    }

    /// Hands what is to be sent to the outbox.
    pub(super) fn transmit(&mut self, now: Instant, ways: Ways<'_>, outbox: &mut Outbox) {
        let mut flight = Vec::new();
        while let Some(datagram) = self.connection.poll_write() {
            let bytes = &datagram.message[..];
            // Checks are answered where they came from; all else goes where the client last nominated.
            let to = match (stun::kind(bytes), ways.path) {
                (stun::Kind::Stun, _) | (_, None) => ways.to(datagram.transport.peer_addr),
                (_, path) => path,
            };
            let Some(to) = to else { continue };
            if self.terms.offer.we_connect && !self.connected && bytes.first() == Some(&DTLS_HANDSHAKE) {
                flight.push(bytes.to_vec());
            }
            outbox.copy(to, bytes);
        }
        if !flight.is_empty() && !std::mem::replace(&mut self.called, true) {
            self.hello = Some(Hello::new(flight, now));
        }
    }

    fn react(&mut self, now: Instant, event: RTCPeerConnectionEvent, events: &mut Vec<PeerEvent>) {
        match event {
            RTCPeerConnectionEvent::OnIceConnectionStateChangeEvent(RTCIceConnectionState::Connected) => {
                self.reachable = true;
                // As the client, the first flight is made by this event but let out by the timer only.
                let _ = self.connection.handle_timeout(now);
            }
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => match state {
                RTCPeerConnectionState::Connected if !self.connected => {
                    self.connected = true;
                    self.hello = None;
                    self.nomination = None;
                    // Nothing is built from it any more.
                    self.terms.offer.sdp = String::new();
                    events.push(self.connected_event(now));
                }
                RTCPeerConnectionState::Failed => events.push(PeerEvent::Failed),
                _ => {}
            },
            RTCPeerConnectionEvent::OnTrack(RTCTrackEvent::OnOpen(track)) => {
                if let Some(rid) = track.rid {
                    events.push(PeerEvent::Layer { ssrc: track.ssrc, rid });
                }
            }
            _ => {}
        }
    }

    fn connected_event(&mut self, now: Instant) -> PeerEvent {
        let report = self.connection.get_stats(now, StatsSelector::None);
        let name = report.transport().map(|transport| transport.srtp_cipher.clone()).unwrap_or_default();
        match Profile::from_name(&name) {
            Some(profile) => PeerEvent::Connected {
                profile,
                material: self.keys.take(),
                client: self.terms.offer.we_connect,
            },
            None => PeerEvent::Failed,
        }
    }

    /// Lets the client's first flight through once its SRTP profiles are known; to a new connection if it has no GCM.
    /// Returns whether anything was done.
    fn release_hello(&mut self, now: Instant, path: Option<Route>, events: &mut Vec<PeerEvent>) -> bool {
        let Some(path) = path else { return false };
        if !self.fell_back {
            match self.held.offered() {
                None => return false,
                Some(Offered { gcm: false, .. }) => {
                    self.fall_back(now, events);
                    return true;
                }
                Some(Offered { gcm: true, .. }) => {}
            }
        }
        self.decided = true;
        for datagram in self.held.take() {
            self.feed(now, path, &datagram);
        }
        true
    }

    /// Builds the connection again with SHA-1. Credentials, certificate and SSRCs stay, so the answer is still true;
    /// the path is found again from the nominating check.
    fn fall_back(&mut self, now: Instant, events: &mut Vec<PeerEvent>) {
        self.fell_back = true;
        let Ok(built) = build(&self.identity, &self.terms, vec![SHA1], now) else {
            self.held.take();
            events.push(PeerEvent::Failed);
            return;
        };
        self.connection = built.connection;
        self.keys = built.keys;
        self.tap = built.tap;
        self.receiver = built.receiver;
        self.reachable = false;
        events.push(PeerEvent::FellBack);
        if let Some((from, check)) = self.nomination.clone() {
            self.feed(now, from, &check);
        }
    }

    fn dtls_ended(&mut self) -> bool {
        let receiver = self.receiver.and_then(|id| self.connection.rtp_receiver(id));
        let state = receiver.and_then(|receiver| receiver.transport().map(|dtls| dtls.state()));
        matches!(state, Some(RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed))
    }
}

impl Ways<'_> {
    /// The route to an address that `rtc` knows: the last one, if it is the same by UDP and by TCP.
    fn to(&self, address: SocketAddr) -> Option<Route> {
        self.routes.iter().rev().find(|route| route.remote == address).copied()
    }
}
