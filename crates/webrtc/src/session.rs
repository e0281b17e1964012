//! One session: a peer, and the media it sends or receives.

use std::time::Instant;

use haul_media::Wish;
use haul_model::{LiveId, Now, SessionId};
use rtc::rtcp::{self, sender_report::SenderReport};

use crate::{
    EndReason, Limits, Role,
    feed::Feed,
    ingest::Ingest,
    outbox::Outbox,
    peer::{Peer, PeerEvent},
    quota::Seat,
    route::Route,
    seal::Sealer,
    stats::Counters,
    viewer::Viewer,
};

/// A session on its shard. What sending media touches comes first, and lies together.
#[repr(C)]
pub(crate) struct Session {
    /// Where media goes, once known: the peer's, as it was when it was last settled.
    pub(crate) path: Option<Route>,
    pub(crate) side: Side,
    /// Boxed: sending media does not touch it.
    pub(crate) peer: Box<Peer>,
    pub(crate) id: SessionId,
    pub(crate) live: LiveId,
    /// When its offer was answered.
    pub(crate) answered: Instant,
    pub(crate) connected: bool,
    /// When its client was last heard of, for certain.
    pub(crate) heard: Instant,
    /// Its place among the node's sessions, given back when it ends.
    pub(crate) _seat: Seat,
    /// When its client's time is over.
    pub(crate) ends: Option<Instant>,
    /// When the shard's timers wake it.
    pub(crate) scheduled: Option<Instant>,
    /// The shard is going to settle it this turn.
    pub(crate) touched: bool,
}

/// Which way its media goes.
#[expect(clippy::large_enum_variant, reason = "nearly all are viewers")]
pub(crate) enum Side {
    Publisher(Ingest),
    Viewer(Viewer),
}

/// What a session may use while it runs.
pub(crate) struct Tools<'a> {
    pub(crate) now: Now,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) counters: &'a Counters,
}

/// What the shard is to do about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn,
    /// It has just become connected.
    Connected,
    End(EndReason),
}

impl Session {
    pub(crate) fn role(&self) -> Role {
        match self.side {
            Side::Publisher(_) => Role::Publisher,
            Side::Viewer(_) => Role::Viewer,
        }
    }

    /// Acts on all that was taken in. `feed` is the viewer's.
    pub(crate) fn settle(
        &mut self,
        tools: &mut Tools<'_>,
        events: &mut Vec<PeerEvent>,
        feed: Option<&Feed>,
    ) -> Verdict {
        let mut verdict = Verdict::GoOn;
        self.peer.settle(tools.now.instant, tools.outbox, events);
        self.path = self.peer.remote();
        if self.peer.take_heard() {
            self.heard = tools.now.instant;
        }
        for event in events.drain(..) {
            match event {
                PeerEvent::Connected { profile, material, client } => {
                    let Ok(sealer) = Sealer::new(profile, &material, client) else {
                        return Verdict::End(EndReason::Failed);
                    };
                    self.connected = true;
                    self.connect(tools.now.instant, sealer, feed);
                    verdict = Verdict::Connected;
                }
                PeerEvent::FellBack => tools.counters.fallback_ciphers.add(1),
                PeerEvent::Undecrypted(datagrams) => tools.counters.srtp_errors.add(datagrams),
                PeerEvent::NacksSent(nacks) => tools.counters.nacks_out.add(nacks),
                PeerEvent::Layer { ssrc, rid } => {
                    if let Side::Publisher(ingest) = &mut self.side {
                        ingest.layer(ssrc, &rid);
                    }
                }
                PeerEvent::Rtp(packet) => {
                    if let Side::Publisher(ingest) = &mut self.side {
                        ingest.packet(tools.now, packet, tools.counters);
                    }
                }
                PeerEvent::Rtcp(packets) => self.rtcp(tools, &packets, feed),
                PeerEvent::Closed => return Verdict::End(EndReason::PeerClosed),
                PeerEvent::Failed => return Verdict::End(EndReason::Failed),
            }
        }
        if let Side::Publisher(ingest) = &mut self.side {
            for request in ingest.take_nacks(tools.now) {
                self.peer.write_rtcp(tools.now.instant, vec![request]);
                self.peer.transmit(tools.now.instant, tools.outbox);
            }
            if ingest.take_out_of_order() {
                tracing::warn!(live = %self.live, session = %self.id, "the host's encoder sends B-frames, which browsers stutter on");
            }
        }
        verdict
    }

    /// Does what time has made due. To be settled afterwards.
    pub(crate) fn handle_timeout(
        &mut self,
        tools: &mut Tools<'_>,
        feed: Option<&Feed>,
        limits: &Limits,
    ) -> Verdict {
        let now = tools.now.instant;
        if self.ends.is_some_and(|ends| ends <= now) {
            return Verdict::End(EndReason::Expired);
        }
        if self.connected && now.saturating_duration_since(self.heard) >= limits.silence {
            return Verdict::End(EndReason::Silent);
        }
        if !self.connected && now.saturating_duration_since(self.answered) >= limits.connect {
            return Verdict::End(EndReason::NeverConnected);
        }
        self.peer.handle_timeout(now, tools.outbox);
        match &mut self.side {
            Side::Publisher(ingest) => ingest.handle_timeout(tools.now, tools.counters),
            Side::Viewer(viewer) => {
                if let Some(to) = self.peer.remote() {
                    viewer.slice(now, to, tools.outbox, tools.counters);
                    viewer.repeat(now, to, tools.outbox, tools.counters);
                    viewer.pad(now, to, tools.outbox, tools.counters);
                }
                if let Some(feed) = feed
                    && let Some((layer, wish)) = viewer.steer(now, feed, tools.counters)
                {
                    feed.relay.request_keyframe(layer, wish, now);
                }
                let reports = feed.map(|feed| viewer.sender_reports(now, feed)).unwrap_or_default();
                if !reports.is_empty() {
                    self.peer.write_rtcp(now, reports);
                }
            }
        }
        Verdict::GoOn
    }

    /// When to call [`Session::handle_timeout`].
    pub(crate) fn poll_timeout(&mut self, limits: &Limits) -> Instant {
        let end = match self.connected {
            true => self.heard + limits.silence,
            false => self.answered + limits.connect,
        };
        let media = match &self.side {
            Side::Publisher(ingest) => ingest.poll_timeout(),
            Side::Viewer(viewer) => viewer.poll_timeout(),
        };
        media.into_iter().chain(self.peer.poll_timeout()).chain(self.ends).fold(end, Instant::min)
    }

    /// Sends the keyframe requests that a publisher's relay wants. To be settled afterwards.
    pub(crate) fn request_keyframes(&mut self, tools: &mut Tools<'_>) {
        let Side::Publisher(ingest) = &self.side else { return };
        for request in ingest.take_requests() {
            tools.counters.keyframe_requests.add(1);
            self.peer.write_rtcp(tools.now.instant, vec![request]);
        }
    }

    fn connect(&mut self, now: Instant, sealer: Sealer, feed: Option<&Feed>) {
        match (&mut self.side, feed) {
            (Side::Publisher(ingest), _) => ingest.connected(now),
            (Side::Viewer(viewer), Some(feed)) => {
                let layer = viewer.start(now, sealer, feed);
                // The replay is a picture at once; a keyframe makes it the live one.
                feed.relay.request_keyframe(layer, Wish::Join, now);
            }
            (Side::Viewer(_), None) => {}
        }
    }

    fn rtcp(&mut self, tools: &mut Tools<'_>, packets: &[Box<dyn rtcp::Packet>], feed: Option<&Feed>) {
        let now = tools.now;
        match &mut self.side {
            Side::Publisher(ingest) => {
                for packet in packets {
                    if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
                        ingest.sender_report(now, report);
                    }
                }
            }
            Side::Viewer(viewer) => {
                let (Some(to), Some(feed)) = (self.peer.remote(), feed) else { return };
                let wanted = viewer.rtcp(now.instant, to, packets, tools.outbox, tools.counters);
                if let Some(layer) = wanted {
                    feed.relay.request_keyframe(layer, Wish::Loss, now.instant);
                }
                if let Some((layer, wish)) = viewer.steer(now.instant, feed, tools.counters) {
                    feed.relay.request_keyframe(layer, wish, now.instant);
                }
            }
        }
    }
}
