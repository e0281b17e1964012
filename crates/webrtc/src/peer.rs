//! One peer's control plane: who it is, where it is, and the handshake with it.
//!
//! It decides nothing about media. Datagrams that were found to belong to it go in, datagrams go out through the
//! outbox, and what happened comes back as events. Hosts have a connection of `rtc`'s ([`full`]), since their media is to
//! be decrypted and reported on. Viewers only receive, and have no more than that takes ([`lean`]).

mod flight;
mod full;
mod lean;

use std::time::Instant;

use rtc::{rtcp, rtp};

use self::{
    full::{Full, Ways},
    lean::Lean,
};
use crate::{
    OfferError,
    connection::Terms,
    ice::Ice,
    identity::Identity,
    outbox::Outbox,
    route::Route,
    sdp::{Offer, Ourselves},
    sdpfrag::Credentials,
    seal::Profile,
    stun,
    viewer::Ssrcs,
};

/// The most routes of one peer that are known: a client tries a few at the start, and one more whenever its network
/// changes. A further one takes the place of the oldest that media does not go by.
const MAX_ROUTES: usize = 32;

/// What happened to a peer.
pub(crate) enum PeerEvent {
    /// ICE and DTLS are up.
    Connected {
        /// The SRTP profile in use.
        profile: Profile,
        /// Its keying material: both masters of both sides (RFC 5764, 4.2).
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
    /// Names and passwords of its ICE sessions.
    pub(crate) ice: Ice,
    /// Routes that authentic checks came by: nothing is taken from elsewhere.
    routes: Vec<Route>,
    control: Control,
    connected: bool,
    /// Something came that only the client can have sent, since this was last asked.
    heard: bool,
}

enum Control {
    /// A host's.
    Full(Box<Full>),
    /// A viewer's.
    Lean(Box<Lean>),
}

impl Peer {
    /// A host's. Returns it with the answer to its offer, which names our addresses by `candidates`.
    pub(crate) fn host(
        identity: Identity,
        terms: Terms,
        candidates: &str,
        now: Instant,
    ) -> Result<(Self, String), OfferError> {
        let (offer, credentials) = (terms.offer.clone(), terms.credentials.clone());
        let (full, answer) = Full::new(identity.clone(), terms, now)?;
        let answer = offer.complete(&answer, candidates);
        let control = Control::Full(Box::new(full));
        Ok((Self::new(identity, control, credentials, &offer, &answer), answer))
    }

    /// A viewer's; likewise.
    pub(crate) fn viewer(
        identity: Identity,
        offer: &Offer,
        credentials: Credentials,
        ssrcs: Ssrcs,
        candidates: &str,
    ) -> Result<(Self, String), OfferError> {
        let lean = Lean::new(&identity, offer)?;
        let ourselves = Ourselves { credentials: &credentials, fingerprint: identity.fingerprint(), ssrcs };
        let answer = offer.complete(&offer.answer_viewer(&ourselves), candidates);
        let control = Control::Lean(Box::new(lean));
        Ok((Self::new(identity, control, credentials, offer, &answer), answer))
    }

    fn new(
        identity: Identity,
        control: Control,
        credentials: Credentials,
        offer: &Offer,
        answer: &str,
    ) -> Self {
        let ice = Ice::new(credentials, offer.credentials(), answer);
        Self { identity, ice, routes: Vec::new(), control, connected: false, heard: false }
    }

    /// Whether a path to the client was found.
    pub(crate) fn reachable(&self) -> bool {
        match &self.control {
            Control::Full(full) => full.reachable(),
            Control::Lean(lean) => lean.reachable(),
        }
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
        if let Control::Full(full) = &mut self.control
            && !self.connected
        {
            full.check(now, from, datagram, check.nominates);
            return self.ice.checked(now, from, check.ufrag, check.nominates);
        }
        let password = self.ice.password(check.ufrag)?;
        let (answer, success) = check.answer(datagram, from.remote, password, self.identity.crypto())?;
        outbox.copy(from, &answer);
        if !success {
            return None;
        }
        let over = self.ice.checked(now, from, check.ufrag, check.nominates);
        if let Control::Lean(lean) = &mut self.control
            && self.ice.path().is_some()
        {
            lean.reach(now);
        }
        over
    }

    /// Takes any other STUN message from a known address.
    pub(crate) fn stun(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        // To viewers we are all lite: we ask nothing.
        if let Control::Full(full) = &mut self.control {
            full.stun(now, from, datagram);
        }
    }

    /// Takes a DTLS datagram from a known address.
    pub(crate) fn dtls(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        match &mut self.control {
            Control::Full(full) => full.dtls(now, from, datagram),
            Control::Lean(lean) => lean.dtls(now, datagram),
        }
    }

    /// Takes a protected RTP or RTCP packet from a known address.
    pub(crate) fn srtp(&mut self, now: Instant, from: Route, datagram: &[u8]) {
        match &mut self.control {
            Control::Full(full) => full.srtp(now, from, datagram),
            Control::Lean(lean) => lean.srtp(datagram),
        }
    }

    /// Sends RTCP to the peer. [`Peer::transmit`] or [`Peer::settle`] afterwards.
    pub(crate) fn write_rtcp(&mut self, now: Instant, packets: Vec<Box<dyn rtcp::Packet>>) {
        match &mut self.control {
            Control::Full(full) => full.write_rtcp(now, packets),
            Control::Lean(lean) => lean.write_rtcp(&packets),
        }
    }

    /// When to call [`Peer::handle_timeout`].
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        match &mut self.control {
            Control::Full(full) => full.poll_timeout(),
            Control::Lean(lean) => lean.poll_timeout(),
        }
    }

    /// Does what time has made due. [`Peer::settle`] afterwards.
    pub(crate) fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) {
        let path = self.ice.path();
        match &mut self.control {
            Control::Full(full) => full.handle_timeout(now, path, outbox),
            Control::Lean(lean) => lean.handle_timeout(now, path, outbox),
        }
    }

    /// Sends what is to be sent and tells what happened, after anything was taken in.
    pub(crate) fn settle(&mut self, now: Instant, outbox: &mut Outbox, events: &mut Vec<PeerEvent>) {
        let path = self.ice.path();
        self.heard |= match &mut self.control {
            Control::Full(full) => full.settle(now, Ways { path, routes: &self.routes }, outbox, events),
            Control::Lean(lean) => lean.settle(now, path, outbox, events),
        };
        self.connected |= events.iter().any(|event| matches!(event, PeerEvent::Connected { .. }));
    }

    /// Says goodbye (DTLS close_notify).
    pub(crate) fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        match &mut self.control {
            Control::Full(full) => full.close(),
            Control::Lean(lean) => lean.close(now),
        }
        self.transmit(now, outbox);
    }

    /// Hands what is to be sent to the outbox.
    pub(crate) fn transmit(&mut self, now: Instant, outbox: &mut Outbox) {
        let path = self.ice.path();
        match &mut self.control {
            Control::Full(full) => full.transmit(now, Ways { path, routes: &self.routes }, outbox),
            Control::Lean(lean) => lean.transmit(now, path, outbox),
        }
    }
}
