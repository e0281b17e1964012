//! The whole edge over real loopback UDP: publishers and viewers on two shards.

#![allow(clippy::unwrap_used)]

mod broadcast;
#[path = "../client/mod.rs"]
mod client;
mod loss;
mod paths;
mod seats;

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use client::{AUDIO, Abilities, Client, Loss, PATIENCE, Shared, VIDEO, layered, pump, video_sequence};
use haul_media::Relay;
use haul_model::{LiveId, SessionId};
use haul_webrtc::{
    Answer, Condition, Edge, EdgeConfig, EndReason, IceError, IceUpdate, Limits, Notice, NoticeKind,
    OfferError, Role, ShardStats, sdpfrag::Fragment,
};
use rtc::{
    crypto::{RTCCryptoProvider, providers::AwsLcRsProvider},
    ice::attributes::use_candidate::UseCandidateAttr,
    rtcp::{
        self, payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport,
    },
    stun::{
        attributes::ATTR_USERNAME,
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{BINDING_REQUEST, Message, Setter, TransactionId},
        textattrs::Username,
    },
};

/// One test at a time: they measure how the edge reacts to losses within fractions of a second, which starving each
/// other of the processor would look like.
static TURN: Mutex<()> = Mutex::new(());

struct Stage {
    _turn: MutexGuard<'static, ()>,
    edge: Edge,
    relay: Arc<Relay>,
    notices: Shared<Vec<Notice>>,
    sessions: u32,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the edge's counters: {:?}", self.edge.stats());
        }
    }
}

impl Stage {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self::observed(limits, |_| ())
    }

    /// `observer` is called on the shards' threads.
    fn observed(limits: Limits, observer: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let notices: Shared<Vec<Notice>> = Arc::default();
        let seen = notices.clone();
        let config = EdgeConfig {
            bind: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            shards: 2,
            ice_tcp_port: Some(0),
            limits,
            ..EdgeConfig::default()
        };
        let observer = move |notice: Notice| {
            seen.lock().unwrap().push(notice.clone());
            observer(&notice);
        };
        let edge = Edge::start(config, Arc::new(observer)).unwrap();
        Self { _turn: turn, edge, relay: Relay::new(), notices, sessions: 0 }
    }

    fn next_session(&mut self) -> SessionId {
        self.sessions += 1;
        format!("s{}", self.sessions).parse().unwrap()
    }

    async fn offer(&mut self, role: Role, offer: &str) -> Result<(SessionId, Answer), OfferError> {
        let (session, live) = (self.next_session(), "demo".parse::<LiveId>().unwrap());
        let relay = self.relay.clone();
        let answer = match role {
            Role::Publisher => self.edge.publish(session.clone(), live, relay, offer).await?,
            Role::Viewer => self.edge.watch(session.clone(), live, relay, offer).await?,
        };
        Ok((session, answer))
    }

    /// A publisher that is connected.
    async fn publisher(&mut self, abilities: &Abilities) -> (Client, SessionId) {
        let (mut client, offer) = Client::publisher(abilities);
        let (session, answer) = self.offer(Role::Publisher, &offer).await.unwrap();
        client.answer(&answer.sdp);
        let relay = self.relay.clone();
        pump(&mut [&mut client], "the broadcast has begun", |clients| {
            clients[0].connected && relay.broadcast().is_some()
        });
        (client, session)
    }

    /// A viewer whose offer is answered.
    async fn viewer(&mut self, abilities: &Abilities) -> (Client, SessionId) {
        let (mut client, offer) = Client::viewer(abilities);
        let (session, answer) = self.offer(Role::Viewer, &offer).await.unwrap();
        client.answer(&answer.sdp);
        (client, session)
    }

    /// Tells the edge of a client's fragment, and returns our half of the new ICE session and its tag.
    async fn restart(
        &self,
        session: &SessionId,
        condition: Condition,
        fragment: &str,
    ) -> Result<(String, String), IceError> {
        let fragment = Fragment::parse(fragment).unwrap();
        match self.edge.update_ice(session, condition, fragment).await? {
            IceUpdate::Restarted { fragment, etag } => Ok((fragment, etag)),
            IceUpdate::Trickled => panic!("not taken for a restart"),
        }
    }

    fn stats(&self) -> ShardStats {
        self.edge.stats().total()
    }

    /// Why each session has ended, so far.
    fn ended(&self) -> HashMap<SessionId, EndReason> {
        let mut ended = HashMap::new();
        for notice in self.notices.lock().unwrap().iter() {
            if let NoticeKind::Ended { reason } = notice.kind {
                assert!(ended.insert(notice.session.clone(), reason).is_none(), "ended twice: {notice:?}");
            }
        }
        ended
    }

    #[track_caller]
    fn wait_ended(&self, session: &SessionId, clients: &mut [&mut Client]) -> EndReason {
        pump(clients, "the session has ended", |_| self.ended().contains_key(session));
        self.ended()[session]
    }
}

/// The publisher sends frames, the first as a keyframe if told, each when the one before has shown itself to every viewer,
/// so that no socket's buffer overflows.
#[track_caller]
fn send(publisher: &mut Client, viewers: &mut [&mut Client], frames: Range<u32>, keyframe: bool) {
    let first = frames.start;
    let mut all: Vec<&mut Client> =
        std::iter::once(publisher).chain(viewers.iter_mut().map(|v| &mut **v)).collect();
    for number in frames {
        all[0].send_vp8(number, keyframe && number == first);
        all[0].send_opus(number);
        pump(&mut all, &format!("frame {number} shows itself"), |all| {
            all[1..].iter().all(|viewer| viewer.has_seen(number))
        });
    }
}

/// The same, and everybody turns until each viewer has the last one whole.
#[track_caller]
fn stream(publisher: &mut Client, viewers: &mut [&mut Client], frames: Range<u32>, keyframe: bool) {
    let last = frames.end - 1;
    send(publisher, viewers, frames, keyframe);
    let mut all: Vec<&mut Client> =
        std::iter::once(publisher).chain(viewers.iter_mut().map(|v| &mut **v)).collect();
    pump(&mut all, &format!("frame {last} has come"), |all| {
        all[1..].iter().all(|viewer| viewer.last_whole_frame() == Some(last))
    });
}

/// That a viewer's sequence numbers have no gaps, and its timestamps only rise.
#[track_caller]
fn assert_continuous(viewer: &Client) {
    let mut packets: Vec<(u16, u32)> = viewer
        .received(VIDEO)
        .map(|packet| (packet.header.sequence_number, packet.header.timestamp))
        .collect();
    let first = packets[0].0;
    packets.sort_by_key(|(sequence, _)| sequence.wrapping_sub(first));
    packets.dedup();
    for pair in packets.windows(2) {
        assert_eq!(pair[1].0.wrapping_sub(pair[0].0), 1, "sequence numbers");
        assert!(pair[1].1.wrapping_sub(pair[0].1) < 1 << 31, "timestamps");
    }
}
