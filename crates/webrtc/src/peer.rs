//! One peer's control plane: `rtc`'s connection, and what it takes to make it work with the clients there are.
//!
//! It decides nothing about media. Datagrams that were found to belong to it go in, datagrams go out through the
//! outbox, and what happened comes back as events.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc::{
    peer_connection::{
        RTCPeerConnection,
        event::{RTCPeerConnectionEvent, RTCTrackEvent},
        message::RTCMessage,
        state::{RTCIceConnectionState, RTCPeerConnectionState},
        transport::RTCDtlsTransportState,
    },
    rtcp, rtp,
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
    statistics::StatsSelector,
};

use crate::{
    OfferError, Role,
    connection::{Built, GCM, Handle, Identity, SHA1, Terms, build},
    hello,
    ice::Ice,
    keys,
    outbox::Outbox,
    route::Route,
    seal::Profile,
    stun, tap,
};

/// The most datagrams of a client's first DTLS flight that are held; a browser's is two.
const MAX_HELD: usize = 16;
/// The most routes of one peer that are known: a client tries a few at the start, and one more whenever its network
/// changes. A further one takes the place of the oldest that media does not go by.
const MAX_ROUTES: usize = 32;
/// When our own first DTLS flight is sent again (ffmpeg discards it while it is not listening yet; `rtc` itself would
/// wait a second).
const HELLO_AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];
/// A connected viewer's connection has nothing to do that is more urgent than this: `rtc` would look after checks that
/// it does not make, each second.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// Content type of a DTLS alert (RFC 5246, 6.2.1).
const DTLS_ALERT: u8 = 21;
const DTLS_HANDSHAKE: u8 = 22;

/// What happened to a peer.
pub(crate) enum PeerEvent {
    /// ICE and DTLS are up.
    Connected {
        /// The SRTP profile in use.
        profile: Profile,
        /// Its keying material (see [`keys::Captured`]).
        material: Vec<u8>,
        /// We are the DTLS client.
        client: bool,
    },
    /// The client has no AES-GCM: the connection was rebuilt with SHA-1.
    FellBack,
    /// A simulcast layer has shown itself.
    Layer { ssrc: u32, rid: String },
    /// A decrypted packet of a negotiated stream.
    Rtp(rtp::Packet),
    /// RTCP packets.
    Rtcp(Vec<Box<dyn rtcp::Packet>>),
    /// So many datagrams did not decrypt or parse.
    Undecrypted(u64),
    /// So many NACKs were sent.
    NacksSent(u64),
    /// The peer said goodbye.
    Closed,
    /// The connection can't be used any more.
    Failed,
}

/// What a check has proved.
pub(crate) enum Proof {
    /// Nothing: it was not made by somebody who knows our password.
    Failed,
    /// That its route is the peer's. One that was known is forgotten for it, if there were too many.
    Good { forgotten: Option<Route> },
}

/// One peer.
pub(crate) struct Peer {
    identity: Identity,
    terms: Terms,
    /// Names and passwords of its ICE sessions.
    pub(crate) ice: Ice,
    connection: RTCPeerConnection,
    keys: keys::Captured,
    tap: tap::Reader,
    /// Any of our senders or receivers, through which RTCP is sent.
    handle: Option<Handle>,
    /// Routes that authentic checks came by: nothing is taken from elsewhere.
    routes: Vec<Route>,
    /// A nominating check that `rtc` may have to see again: it leaves one unanswered while its own check of the pair is
    /// under way, and forgets the nomination.
    nomination: Option<(Route, Vec<u8>)>,
    /// ICE has a pair.
    reachable: bool,
    connected: bool,
    /// The client's first DTLS flight, until ICE is up and it is whole, so that its SRTP profiles can be read.
    held: Vec<Vec<u8>>,
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
    /// Something came that only the client can have sent, since this was last asked.
    heard: bool,
    /// When `rtc`'s timers last ran.
    ticked: Instant,
}

struct Hello {
    flight: Vec<Vec<u8>>,
    sent: Instant,
    repeats: usize,
}

impl Peer {
    /// Sets a connection up. Returns it with `rtc`'s answer, which is for [`Offer::complete`].
    pub(crate) fn new(identity: Identity, terms: Terms, now: Instant) -> Result<(Self, String), OfferError> {
        let we_connect = terms.offer.we_connect;
        // As the client we name the profiles, in our order. As the server we take the client's order, so name one.
        let profiles = if we_connect { vec![GCM, SHA1] } else { vec![GCM] };
        let Built { connection, keys, tap, handle, answer } = build(&identity, &terms, profiles, now)?;
        let ice = Ice::new(
            terms.credentials.clone(),
            terms.offer.credentials(),
            &terms.offer.complete(&answer, ""),
        );
        let peer = Self {
            identity,
            terms,
            ice,
            connection,
            keys,
            tap,
            handle,
            routes: Vec::new(),
            nomination: None,
            reachable: false,
            connected: false,
            held: Vec::new(),
            decided: we_connect,
            fell_back: false,
            called: false,
            hello: None,
            unread: Vec::new(),
            alerted: false,
            undecrypted: 0,
            heard: false,
            ticked: now,
        };
        Ok((peer, answer))
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether a path to the client was found.
    pub(crate) fn reachable(&self) -> bool {
        self.reachable
    }

    /// Where to send to, once known.
    pub(crate) fn remote(&self) -> Option<Route> {
        self.ice.path()
    }

    /// Routes that have proved to be this peer's.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Whether ICE and DTLS are up.
    pub(crate) fn connected(&self) -> bool {
        self.connected
    }

    /// Whether the client has been heard of since this was last asked: an authentic check, or a packet that decrypted.
    /// Anybody can send the rest from its address (RFC 7675, 8).
    pub(crate) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Lets a check prove its route.
    pub(crate) fn prove(&mut self, from: Route, datagram: &[u8], check: stun::Check<'_>) -> Proof {
        let password = self.ice.password(check.ufrag);
        if !password.is_some_and(|password| stun::authentic(datagram, password, self.identity.crypto())) {
            return Proof::Failed;
        }
        if self.routes.contains(&from) {
            return Proof::Good { forgotten: None };
        }
        let used = self.remote();
        let oldest = self.routes.iter().position(|route| Some(*route) != used);
        let forgotten =
            oldest.filter(|_| self.routes.len() == MAX_ROUTES).map(|oldest| self.routes.remove(oldest));
        self.routes.push(from);
        Proof::Good { forgotten }
    }

    /// Forgets a route that is gone. What is sent goes on being sent there, that is, nowhere, until another is nominated:
    /// its numbers are used up, so that the client sees that something is missing.
    pub(crate) fn lose(&mut self, route: Route) {
        self.routes.retain(|known| *known != route);
    }

    /// Takes an authentic connectivity check. Returns the name of an ICE session that is over with it, if one is.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        from: Route,
        datagram: &[u8],
        check: stun::Check<'_>,
        outbox: &mut Outbox,
    ) -> Option<String> {
        self.heard = true;
        if !self.connected {
            if check.nominates {
                self.nomination = Some((from, datagram.to_vec()));
            }
            self.feed(now, from, datagram);
            return self.ice.checked(now, from, check.ufrag, check.nominates);
        }
        let password = self.ice.password(check.ufrag)?;
        let (answer, success) = check.answer(datagram, from.remote, password, self.identity.crypto())?;
        outbox.copy(from, &answer);
        if success { self.ice.checked(now, from, check.ufrag, check.nominates) } else { None }
    }

    /// Takes any other STUN message from a known address.
    pub(crate) fn stun(&mut self, now: Instant, from: Route, datagram: &[u8]) {
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

    /// Takes a DTLS datagram from a known address.
    pub(crate) fn dtls(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        self.hello = None;
        if !self.decided {
            if self.held.len() < MAX_HELD {
                self.held.push(datagram.to_vec());
            }
            return;
        }
        self.alerted |= datagram.first() == Some(&DTLS_ALERT);
        self.feed(now, from, datagram);
        // The end of the handshake takes effect only when its events are polled, and media may be right behind it.
        while let Some(event) = self.connection.poll_event() {
            self.unread.push(event);
        }
    }

    /// Takes a protected RTP or RTCP packet from a known address.
    pub(crate) fn srtp(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        self.undecrypted += 1;
        self.feed(now, from, datagram);
    }

    /// Sends RTCP to the peer. There is one SRTCP sender per connection, `rtc`'s, so that no index is used twice.
    pub(crate) fn write_rtcp(&mut self, now: Instant, packets: Vec<Box<dyn rtcp::Packet>>) {
        // Fails only before the handshake is complete and after the end, when there is nobody to tell.
        let _ = match self.handle {
            Some(Handle::Sender(id)) => {
                self.connection.rtp_sender(id).map(|mut s| s.write_rtcp(now, packets))
            }
            Some(Handle::Receiver(id)) => {
                self.connection.rtp_receiver(id).map(|mut r| r.write_rtcp(now, packets))
            }
            None => None,
        };
    }

    /// When to call [`Peer::handle_timeout`].
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        let idle = self.connected && self.terms.role == Role::Viewer;
        let rtc = self.connection.poll_timeout();
        let rtc = if idle { rtc.map(|at| at.max(self.ticked + IDLE_TICK)) } else { rtc };
        let hello = self.hello.as_ref().and_then(|hello| Some(hello.sent + *HELLO_AGAIN.get(hello.repeats)?));
        rtc.into_iter().chain(hello).min()
    }

    /// Does what time has made due. [`Peer::settle`] afterwards.
    pub(crate) fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) {
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.ticked = now;
            // Fails on a closed connection, which is as good as done.
            let _ = self.connection.handle_timeout(now);
        }
        if let (Some(hello), Some(remote)) = (&mut self.hello, self.ice.path())
            && HELLO_AGAIN.get(hello.repeats).is_some_and(|wait| hello.sent + *wait <= now)
        {
            hello.sent = now;
            hello.repeats += 1;
            for datagram in &hello.flight {
                outbox.copy(remote, datagram);
            }
        }
    }

    /// Sends what is to be sent and tells what happened, after anything was taken in.
    pub(crate) fn settle(&mut self, now: Instant, outbox: &mut Outbox, events: &mut Vec<PeerEvent>) {
        loop {
            let mut quiet = true;
            for event in std::mem::take(&mut self.unread) {
                self.react(now, event, events);
            }
            while let Some(event) = self.connection.poll_event() {
                quiet = false;
                self.react(now, event, events);
            }
            self.transmit(now, outbox);
            if self.reachable && !self.held.is_empty() && self.release_hello(now, events) {
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
        self.heard |= passed.datagrams_in > 0;
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
    }

    /// Says goodbye (DTLS close_notify).
    pub(crate) fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        // Fails if parts of it were closed already.
        let _ = self.connection.close();
        self.transmit(now, outbox);
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
    pub(crate) fn transmit(&mut self, now: Instant, outbox: &mut Outbox) {
        let mut flight = Vec::new();
        while let Some(datagram) = self.connection.poll_write() {
            let bytes = &datagram.message[..];
            // Checks are answered where they came from; all else goes where the client last nominated.
            let to = match (stun::kind(bytes), self.remote()) {
                (stun::Kind::Stun, _) | (_, None) => self.route_to(datagram.transport.peer_addr),
                (_, remote) => remote,
            };
            let Some(to) = to else { continue };
            if self.terms.offer.we_connect && !self.connected && bytes.first() == Some(&DTLS_HANDSHAKE) {
                flight.push(bytes.to_vec());
            }
            outbox.copy(to, bytes);
        }
        if !flight.is_empty() && !std::mem::replace(&mut self.called, true) {
            self.hello = Some(Hello { flight, sent: now, repeats: 0 });
        }
    }

    /// The route to an address that `rtc` knows: the last one, if it is the same by UDP and by TCP.
    fn route_to(&self, address: SocketAddr) -> Option<Route> {
        self.routes.iter().rev().find(|route| route.remote == address).copied()
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
    fn release_hello(&mut self, now: Instant, events: &mut Vec<PeerEvent>) -> bool {
        let Some(remote) = self.remote() else { return false };
        if !self.fell_back {
            let profiles = match hello::srtp_profiles(&self.held) {
                Some(profiles) => profiles,
                None if self.held.len() < MAX_HELD => return false,
                // If that much is not enough, it is for `rtc` to refuse.
                None => vec![hello::GCM],
            };
            if !profiles.contains(&hello::GCM) {
                self.fall_back(now, events);
                return true;
            }
        }
        self.decided = true;
        for datagram in std::mem::take(&mut self.held) {
            self.feed(now, remote, &datagram);
        }
        true
    }

    /// Builds the connection again with SHA-1. Credentials, certificate and SSRCs stay, so the answer is still true;
    /// the path is found again from the nominating check.
    fn fall_back(&mut self, now: Instant, events: &mut Vec<PeerEvent>) {
        self.fell_back = true;
        let Ok(built) = build(&self.identity, &self.terms, vec![SHA1], now) else {
            self.held.clear();
            events.push(PeerEvent::Failed);
            return;
        };
        self.connection = built.connection;
        self.keys = built.keys;
        self.tap = built.tap;
        self.handle = built.handle;
        self.reachable = false;
        events.push(PeerEvent::FellBack);
        if let Some((from, check)) = self.nomination.clone() {
            self.feed(now, from, &check);
        }
    }

    fn dtls_ended(&mut self) -> bool {
        let state = match self.handle {
            Some(Handle::Sender(id)) => {
                self.connection.rtp_sender(id).and_then(|sender| sender.transport().map(|dtls| dtls.state()))
            }
            Some(Handle::Receiver(id)) => self
                .connection
                .rtp_receiver(id)
                .and_then(|receiver| receiver.transport().map(|dtls| dtls.state())),
            None => None,
        };
        matches!(state, Some(RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed))
    }
}
