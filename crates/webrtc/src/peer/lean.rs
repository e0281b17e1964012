//! A viewer's control plane: a handshake, and RTCP both ways. Nothing else of WebRTC is left to do for who only receives:
//! checks are answered before they come here, the answer is written from the offer (`sdp/answer.rs`), and media is sealed
//! by its own sender. So a viewer costs what its handshake costs.

use std::{net::SocketAddr, time::Instant};

use bytes::{Bytes, BytesMut};
use rtc::{
    dtls::endpoint::{Endpoint, EndpointEvent},
    rtcp,
    shared::{TransportProtocol, error::Error},
};

use super::{
    PeerEvent,
    flight::{Held, Hello},
};
use crate::{
    OfferError,
    identity::{Fingerprints, GCM, Handshakes, Identity, SHA1},
    outbox::Outbox,
    route::Route,
    sdp::Offer,
    seal::Profile,
    srtcp::Srtcp,
};

/// The exporter's label for SRTP, and how much both profiles need at most (RFC 5764, 4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";
const MATERIAL: usize = 2 * (16 + 14);
/// DTLS keeps associations by address. It has one here, whose address may change: that is ICE's concern.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 1);

pub(super) struct Lean {
    handshakes: Handshakes,
    /// What vouches for the client's certificate.
    fingerprints: Fingerprints,
    /// The client insists on being the DTLS server, so that we begin.
    we_connect: bool,
    /// ICE has a path.
    reachable: bool,
    /// DTLS, once it is known how to shake hands.
    dtls: Option<Endpoint>,
    /// The client's first flight until then.
    held: Held,
    /// Our own, if we began, while it is unanswered.
    hello: Option<Hello>,
    /// It was sent.
    called: bool,
    /// The client has said goodbye: what comes late must not be taken for a new handshake.
    closed: bool,
    /// Since the handshake was complete.
    srtcp: Option<Srtcp>,
    /// RTCP that is to be sent, sealed.
    reports: Vec<Vec<u8>>,
    /// What has happened since this was last settled.
    events: Vec<PeerEvent>,
    /// An authentic packet has come since then.
    heard: bool,
    undecrypted: u64,
}

impl Lean {
    pub(super) fn new(identity: &Identity, offer: &Offer) -> Result<Self, OfferError> {
        let fingerprints = Fingerprints::read(&offer.sdp).ok_or_else(|| {
            OfferError::Malformed(
                "none of its fingerprints is made with SHA-256, SHA-384 or SHA-512".to_owned(),
            )
        })?;
        Ok(Self {
            handshakes: identity.handshakes().clone(),
            fingerprints,
            we_connect: offer.we_connect,
            reachable: false,
            dtls: None,
            held: Held::default(),
            hello: None,
            called: false,
            closed: false,
            srtcp: None,
            reports: Vec::new(),
            events: Vec::new(),
            heard: false,
            undecrypted: 0,
        })
    }

    pub(super) fn reachable(&self) -> bool {
        self.reachable
    }

    /// A path is known: the handshake may begin.
    pub(super) fn reach(&mut self, now: Instant) {
        if std::mem::replace(&mut self.reachable, true) || !self.we_connect {
            return;
        }
        let mut dtls = Endpoint::new(PEER, TransportProtocol::UDP, None);
        if dtls.connect(now, PEER, self.handshakes.client.clone(), None).is_err() {
            self.events.push(PeerEvent::Failed);
        }
        self.dtls = Some(dtls);
    }

    pub(super) fn dtls(&mut self, now: Instant, datagram: &[u8]) {
        self.hello = None;
        match self.dtls {
            Some(_) => self.read(now, datagram),
            None if self.we_connect => {}
            None => self.held.push(datagram),
        }
    }

    pub(super) fn srtp(&mut self, datagram: &[u8]) {
        let compound = self.srtcp.as_mut().and_then(|srtcp| srtcp.open(datagram).ok());
        match compound.map(|compound| rtcp::packet::unmarshal(&mut Bytes::from(compound))) {
            Some(Ok(packets)) => {
                self.heard = true;
                self.events.push(PeerEvent::Rtcp(packets));
            }
            _ => self.undecrypted += 1,
        }
    }

    pub(super) fn write_rtcp(&mut self, packets: &[Box<dyn rtcp::Packet>]) {
        // Before the handshake is complete there is nobody to tell. Nothing of what we say can't be written or sealed,
        // but for the 2^31st packet of a connection, with which it would have to end.
        if let Some(srtcp) = &mut self.srtcp
            && let Ok(compound) = rtcp::packet::marshal(packets)
            && let Ok(sealed) = srtcp.seal(&compound)
        {
            self.reports.push(sealed);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(|dtls| dtls.poll_timeout(&PEER));
        dtls.into_iter().chain(self.hello.as_ref().and_then(Hello::poll_timeout)).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, path: Option<Route>, outbox: &mut Outbox) {
        if let Some(dtls) = &mut self.dtls
            && dtls.poll_timeout(&PEER).is_some_and(|at| at <= now)
            && dtls.handle_timeout(PEER, now).is_err()
        {
            // It has repeated itself often enough.
            self.dtls = None;
            self.events.push(PeerEvent::Failed);
        }
        if let (Some(hello), Some(path)) = (&mut self.hello, path) {
            hello.repeat(now, path, outbox);
        }
    }

    /// Returns whether something authentic has come since it was last called.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        path: Option<Route>,
        outbox: &mut Outbox,
        events: &mut Vec<PeerEvent>,
    ) -> bool {
        if self.reachable && self.dtls.is_none() && !self.held.is_empty() {
            self.begin(now);
        }
        self.transmit(now, path, outbox);
        events.append(&mut self.events);
        if self.undecrypted > 0 {
            events.push(PeerEvent::Undecrypted(std::mem::take(&mut self.undecrypted)));
        }
        std::mem::take(&mut self.heard)
    }

    pub(super) fn transmit(&mut self, now: Instant, path: Option<Route>, outbox: &mut Outbox) {
        let reports = std::mem::take(&mut self.reports);
        let Some(path) = path else { return };
        let mut flight = Vec::new();
        if let Some(dtls) = &mut self.dtls {
            while let Some(datagram) = dtls.poll_transmit() {
                outbox.copy(path, &datagram.message);
                if self.we_connect && !self.called {
                    flight.push(datagram.message.to_vec());
                }
            }
        }
        if !flight.is_empty() {
            self.called = true;
            self.hello = Some(Hello::new(flight, now));
        }
        for report in reports {
            outbox.copy(path, &report);
        }
    }

    pub(super) fn close(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            // Fails before there is an association, when there is nobody to tell.
            let _ = dtls.close(now);
        }
    }

    /// Begins to shake hands as the server, once the client has said which profiles it has.
    fn begin(&mut self, now: Instant) {
        let Some(offered) = self.held.offered() else { return };
        if !offered.gcm {
            self.events.push(PeerEvent::FellBack);
        }
        let config = self.handshakes.server(offered);
        self.dtls = Some(Endpoint::new(PEER, TransportProtocol::UDP, Some(config)));
        for datagram in self.held.take() {
            self.read(now, &datagram);
        }
    }

    fn read(&mut self, now: Instant, datagram: &[u8]) {
        let Some(dtls) = self.dtls.as_mut().filter(|_| !self.closed) else { return };
        match dtls.read(now, PEER, None, BytesMut::from(datagram)) {
            Ok(messages) => {
                for message in messages {
                    match message {
                        EndpointEvent::HandshakeComplete => self.complete(),
                        EndpointEvent::PeerClosed => {
                            self.closed = true;
                            self.events.push(PeerEvent::Closed);
                        }
                        // Nobody has offered a data channel.
                        _ => {}
                    }
                }
            }
            // Alerts are believed once they are authentic. Before that, anybody could end a handshake.
            Err(Error::ErrAlertFatalOrClose) if self.srtcp.is_some() => self.events.push(PeerEvent::Closed),
            // What is not understood changes nothing; a handshake that does not come about ends in time.
            Err(_) => {}
        }
    }

    /// The handshake is complete: it must have been with who made the offer.
    fn complete(&mut self) {
        let event = self.dtls.as_ref().and_then(|dtls| dtls.get_connection_state(PEER)).and_then(|state| {
            let profile = match state.srtp_protection_profile() {
                GCM => Profile::Gcm,
                SHA1 => Profile::Sha1,
                _ => return None,
            };
            let certificate = state.peer_certificates.first()?;
            if !self.fingerprints.vouch_for(certificate) {
                return None;
            }
            let material = state.export_keying_material(LABEL, &[], MATERIAL).ok()?;
            self.srtcp = Some(Srtcp::new(profile, material.as_ref(), self.we_connect).ok()?);
            let material = material.as_ref().to_vec();
            Some(PeerEvent::Connected { profile, material, client: self.we_connect })
        });
        self.events.push(event.unwrap_or(PeerEvent::Failed));
    }
}
