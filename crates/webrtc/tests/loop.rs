//! The whole edge over real loopback UDP: publishers and viewers on two shards.

#![allow(clippy::unwrap_used)]

mod client;

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

/// A check that names a session, by somebody who does not know its password.
fn forged_check(ufrag: &str) -> Vec<u8> {
    let mut forged = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let name = format!("{ufrag}:abcd");
    forged.extend([0, 6, 0, name.len() as u8]);
    forged.extend(name.as_bytes());
    forged.resize(forged.len().next_multiple_of(4), 0);
    forged[3] = (forged.len() - 20) as u8;
    forged
}

/// A datagram as TCP carries it.
fn framed(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes(), datagram].concat()
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

#[tokio::test]
async fn viewers_on_two_shards_get_every_frame_intact_from_the_start_of_the_gop() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut first, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut first], "the first viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut first], 0..30, true);

    let (mut second, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut first, &mut second], "the GOP is replayed", |all| {
        all[2].last_whole_frame() == Some(29)
    });
    stream(&mut publisher, &mut [&mut first, &mut second], 30..60, false);
    pump(&mut [&mut publisher, &mut first], "all sound has come", |all| all[1].received(AUDIO).count() == 60);

    for viewer in [&first, &second] {
        assert_eq!(viewer.whole_frames(), (0..60).collect::<Vec<u32>>());
        assert_continuous(viewer);
    }
    let stats = stage.edge.stats();
    assert!(stats.shards.iter().all(|shard| shard.viewers == 1), "one viewer on each shard: {stats:?}");
    let total = stats.total();
    assert_eq!((total.frames_in, total.keyframes_in, total.publishers), (120, 1, 1));
    assert_eq!((total.srtp_errors, total.send_errors, total.packets_lost), (0, 0, 0));
    assert!(total.rtp_packets_out >= 2 * 60 * 4 + 90);
}

#[tokio::test]
async fn the_host_stops_and_returns_and_the_viewers_stay() {
    let mut stage = Stage::new();
    let (mut publisher, host) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    let (mut other, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer, &mut other], "viewers are connected", |all| {
        all[1].connected && all[2].connected
    });
    stream(&mut publisher, &mut [&mut viewer, &mut other], 0..20, true);
    publisher.leave();
    assert_eq!(stage.wait_ended(&host, &mut [&mut viewer, &mut other]), EndReason::PeerClosed);
    assert!(stage.relay.broadcast().is_none());
    let (_, offer) = Client::viewer(&Abilities::default());
    assert!(matches!(stage.offer(Role::Viewer, &offer).await, Err(OfferError::NoBroadcast)));

    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    stream(&mut publisher, &mut [&mut viewer, &mut other], 1_000..1_020, true);
    for viewer in [&viewer, &other] {
        assert_eq!(viewer.whole_frames(), (0..20).chain(1_000..1_020).collect::<Vec<u32>>());
        assert_continuous(viewer);
    }
    assert!(!stage.ended().contains_key(&session));
}

#[tokio::test]
async fn a_lost_packet_is_asked_for_and_comes_again_with_and_without_rtx() {
    for rtx in [true, false] {
        let mut stage = Stage::new();
        let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
        let (mut viewer, _) = stage.viewer(&Abilities { rtx, ..Abilities::default() }).await;
        pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
        stream(&mut publisher, &mut [&mut viewer], 0..5, true);
        viewer.loss = Some(each_once(7));
        send(&mut publisher, &mut [&mut viewer], 5..30, false);
        // The loss of a last packet shows only by the next.
        viewer.loss = None;
        stream(&mut publisher, &mut [&mut viewer], 30..32, false);
        pump(&mut [&mut publisher, &mut viewer], "all frames are whole", |all| {
            all[1].whole_frames() == (0..32).collect::<Vec<u32>>()
        });
        let stats = stage.stats();
        assert!(stats.resends >= 10, "rtx: {rtx}, {stats:?}");
        assert_eq!(stats.resend_misses, 0, "rtx: {rtx}");
    }
}

/// Loses every packet of the pictures whose sequence number is a multiple of `divisor`, the first time it comes.
fn each_once(divisor: u16) -> Loss {
    let mut lost = HashSet::new();
    Box::new(move |datagram| {
        let sequence = video_sequence(datagram).filter(|sequence| sequence.is_multiple_of(divisor));
        sequence.is_some_and(|sequence| lost.insert(sequence))
    })
}

#[tokio::test]
async fn what_the_hosts_uplink_loses_is_asked_for_and_nobody_sees_it() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    publisher.loss_out = Some(each_once(9));
    let mut next = 5;
    pump(&mut [&mut publisher, &mut viewer], "thirty frames are whole", |all| {
        // A few at a time: the loss of a last packet shows only by the next.
        if all[1].has_seen(next.max(8) - 3) || next < 8 {
            all[0].send_vp8(next, false);
            next += 1;
        }
        all[1].last_whole_frame() >= Some(30)
    });
    let whole = viewer.whole_frames();
    assert_eq!(whole, (0..whole.len() as u32).collect::<Vec<u32>>());
    assert_continuous(&viewer);
    let stats = stage.stats();
    assert!(stats.nacks_out > 0, "{stats:?}");
    assert_eq!((stats.packets_lost, stats.frames_dropped), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_repaired_freezes_the_picture_until_a_keyframe_and_breaks_nothing() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    // The second packet of frame 5 never gets through.
    let hole = publisher.next_sequence().wrapping_add(1);
    publisher.loss_out = Some(Box::new(move |datagram| video_sequence(datagram) == Some(hole)));
    for number in 5..15 {
        publisher.send_vp8(number, false);
    }
    let mut next = 15;
    pump(&mut [&mut publisher, &mut viewer], "a keyframe is asked for", |all| {
        all[0].send_vp8(next, false);
        next += 1;
        all[0].rtcp().iter().any(|packet| packet.as_any().is::<PictureLossIndication>())
    });
    stream(&mut publisher, &mut [&mut viewer], 10_000..10_010, true);
    assert_eq!(viewer.whole_frames(), (0..5).chain(10_000..10_010).collect::<Vec<u32>>());
    assert!(!(5..next).any(|number| viewer.has_seen(number)), "not even in part");
    assert_continuous(&viewer);
    let stats = stage.stats();
    assert_eq!(stats.packets_lost, 1);
    assert_eq!(stats.frames_dropped, u64::from(next - 5), "the torn frame's tail, and those that lean on it");
}

#[tokio::test]
async fn both_families_meet_in_one_live() {
    let mut stage = Stage::new();
    let old = Abilities::default();
    let new = Abilities { ip: Ipv6Addr::LOCALHOST.into(), ..Abilities::default() };
    for (host, watcher) in [(&old, &new), (&new, &old)] {
        let (mut publisher, _) = stage.publisher(host).await;
        let (mut viewer, _) = stage.viewer(watcher).await;
        let (mut other, _) = stage.viewer(host).await;
        pump(&mut [&mut publisher, &mut viewer, &mut other], "both are connected", |all| {
            all[1].connected && all[2].connected
        });
        stream(&mut publisher, &mut [&mut viewer, &mut other], 0..10, true);
        for viewer in [&viewer, &other] {
            assert_eq!(viewer.whole_frames(), (0..10).collect::<Vec<u32>>());
        }
    }
}

#[tokio::test]
async fn who_has_no_udp_publishes_and_watches_over_tcp() {
    let mut stage = Stage::new();
    let (mut publisher, offer) = Client::publisher(&Abilities::default());
    let (host, answer) = stage.offer(Role::Publisher, &offer).await.unwrap();
    publisher.answer_by_tcp(&answer.sdp);
    let relay = stage.relay.clone();
    pump(&mut [&mut publisher], "the broadcast has begun", |all| {
        all[0].connected && relay.broadcast().is_some()
    });
    let (mut by_tcp, offer) =
        Client::viewer(&Abilities { ip: Ipv6Addr::LOCALHOST.into(), ..Abilities::default() });
    let (session, answer) = stage.offer(Role::Viewer, &offer).await.unwrap();
    by_tcp.answer_by_tcp(&answer.sdp);
    let (mut by_udp, other) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut by_tcp, &mut by_udp], "both are connected", |all| {
        all[1].connected && all[2].connected
    });
    stream(&mut publisher, &mut [&mut by_tcp, &mut by_udp], 0..100, true);
    for viewer in [&by_tcp, &by_udp] {
        assert_eq!(viewer.whole_frames(), (0..100).collect::<Vec<u32>>());
        assert_continuous(viewer);
    }
    pump(&mut [&mut publisher, &mut by_tcp, &mut by_udp], "they are counted", |_| {
        stage.stats().table_entries > 0 && stage.stats().tcp_links == 2
    });
    // A goodbye is heard though the connection ends right behind it, and is said though it is closed right behind it.
    by_tcp.leave();
    assert_eq!(stage.wait_ended(&session, &mut [&mut publisher, &mut by_udp]), EndReason::PeerClosed);
    assert!(stage.edge.close(&host).await);
    pump(&mut [&mut publisher], "the host is told goodbye", |all| all[0].told_goodbye());
    assert!(stage.edge.close(&other).await);
    pump(&mut [], "nothing is left", |_| stage.stats().table_entries == 0 && stage.stats().tcp_links == 0);
    assert_eq!(stage.stats().tcp_refused, 0);
}

#[tokio::test]
async fn strangers_on_the_tcp_port_are_sent_away() {
    let mut stage = Stage::new();
    let (_publisher, offer) = Client::publisher(&Abilities::default());
    let (_, answer) = stage.offer(Role::Publisher, &offer).await.unwrap();
    let line = answer.sdp.lines().find(|line| line.contains(" tcp ") && line.contains("127.0.0.1")).unwrap();
    let port: u16 = line.split(' ').nth(5).unwrap().parse().unwrap();
    let to = (Ipv4Addr::LOCALHOST, port).into();
    let ufrag = answer.etag.trim_matches('"');
    let garbage = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        [&[0, 40][..], &[22; 40]].concat(),
        framed(&forged_check("zz0123")),
        framed(&forged_check("7f0123")),
        // A session that is there, by somebody who does not know its password.
        framed(&forged_check(ufrag)),
    ];
    let count = garbage.len() as u64;
    let mut strangers: Vec<TcpStream> = garbage
        .into_iter()
        .map(|bytes| {
            let mut stream = TcpStream::connect::<SocketAddr>(to).unwrap();
            stream.write_all(&bytes).unwrap();
            stream
        })
        .collect();
    pump(&mut [], "all are sent away", |_| stage.stats().tcp_refused == count);
    for stream in &mut strangers {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The end, or a reset where something was left unread.
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0) | Err(_)));
    }
    assert_eq!(stage.stats().stun_rejected, 1);

    // Who says nothing at all is sent away too, in time.
    let _silent = TcpStream::connect::<SocketAddr>(to).unwrap();
    pump(&mut [], "the silent one is sent away", |_| stage.stats().tcp_refused == count + 1);
}

#[tokio::test]
async fn nothing_is_left_of_those_who_came_and_went() {
    let limits = Limits {
        // Long enough to make all the clients in, on a busy machine.
        silence: Duration::from_millis(1_500),
        connect: Duration::from_millis(1_500),
        ..Limits::default()
    };
    let mut stage = Stage::with(limits);
    for round in 0..3 {
        let (mut publisher, host) = stage.publisher(&Abilities::default()).await;
        let mut viewers = Vec::new();
        for number in 0..12 {
            let (mut viewer, offer) = Client::viewer(&Abilities::default());
            let (session, answer) = stage.offer(Role::Viewer, &offer).await.unwrap();
            match number % 3 {
                0 => viewer.answer(&answer.sdp),
                1 => viewer.answer_by_tcp(&answer.sdp),
                // Never comes.
                _ => {}
            }
            viewers.push((viewer, session));
        }
        let mut next = 0;
        let mut all: Vec<&mut Client> = vec![&mut publisher];
        all.extend(viewers.iter_mut().map(|(viewer, _)| viewer));
        pump(&mut all, "those who come are connected", |all| {
            all[0].send_opus(next);
            next += 1;
            let connected = all[1..].iter().filter(|viewer| viewer.connected).count();
            connected == 8 && stage.stats().table_entries > 0
        });
        // From here on all are silent, and their TCP connections stay open.
        pump(&mut [], "all have ended", |_| stage.ended().len() == 13 * (round + 1));
        assert_eq!(stage.ended()[&host], EndReason::Silent);
        pump(&mut [], "nothing is left", |_| stage.stats().table_entries == 0);
        drop(viewers);
    }
    let stats = stage.stats();
    assert_eq!((stats.publishers, stats.viewers, stats.sessions_ended), (0, 0, 39));
    assert_eq!((stats.sessions_silent, stats.sessions_never_connected), (27, 12));
    assert_eq!(stage.edge.node().shards.iter().map(|shard| shard.viewers).sum::<u64>(), 0);
}

#[tokio::test]
async fn media_from_an_address_that_passed_no_check_is_dropped_and_counted() {
    let mut stage = Stage::new();
    let (mut publisher, offer) = Client::publisher(&Abilities::default());
    let (_, answer) = stage.offer(Role::Publisher, &offer).await.unwrap();
    let port: u16 = {
        let line =
            answer.sdp.lines().find(|line| line.contains(" udp ") && line.contains("127.0.0.1")).unwrap();
        line.split(' ').nth(5).unwrap().parse().unwrap()
    };
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    // What the client itself sends, DTLS and later SRTP, but from an address that no check came from.
    let copies: Shared<Vec<Vec<u8>>> = Arc::default();
    let kept = copies.clone();
    publisher.loss_out = Some(Box::new(move |datagram| {
        if datagram[0] >= 20 {
            kept.lock().unwrap().push(datagram.to_vec());
        }
        false
    }));
    publisher.answer(&answer.sdp);
    let relay = stage.relay.clone();
    pump(&mut [&mut publisher], "the broadcast has begun", |all| {
        all[0].connected && relay.broadcast().is_some()
    });
    publisher.send_vp8(0, true);
    pump(&mut [&mut publisher], "the picture has come", |_| stage.stats().frames_in == 1);
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    assert!(copies.iter().any(|copy| copy[0] < 64) && copies.iter().any(|copy| copy[0] >= 128));
    let before = stage.stats();
    for copy in &copies {
        stranger.send_to(copy, (Ipv4Addr::LOCALHOST, port)).unwrap();
    }
    let expected = before.datagrams_unrouted + copies.len() as u64;
    pump(&mut [&mut publisher], "they are dropped", |_| stage.stats().datagrams_unrouted == expected);
    let after = stage.stats();
    assert_eq!((after.rtp_packets_in, after.srtp_errors), (before.rtp_packets_in, before.srtp_errors));
}

#[tokio::test]
async fn clients_without_gcm_publish_and_watch() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::sha1_only()).await;
    let (mut plain, _) = stage.viewer(&Abilities::sha1_only()).await;
    let (mut modern, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut plain, &mut modern], "viewers are connected", |all| {
        all[1].connected && all[2].connected
    });
    stream(&mut publisher, &mut [&mut plain, &mut modern], 0..20, true);
    for viewer in [&plain, &modern] {
        assert_eq!(viewer.whole_frames(), (0..20).collect::<Vec<u32>>());
    }
    assert_eq!(stage.stats().fallback_ciphers, 2);
}

#[tokio::test]
async fn a_client_that_wants_to_be_the_dtls_server_is_called() {
    let mut stage = Stage::new();
    for abilities in [Abilities::default(), Abilities::sha1_only()] {
        let (mut publisher, offer) = Client::publisher(&abilities);
        let (_, answer) = stage.offer(Role::Publisher, &offer.replace("actpass", "passive")).await.unwrap();
        assert!(answer.sdp.contains("a=setup:active"), "{}", answer.sdp);
        publisher.answer(&answer.sdp);
        let relay = stage.relay.clone();
        pump(&mut [&mut publisher], "the broadcast has begun", |all| {
            all[0].connected && relay.broadcast().is_some()
        });
        let (mut viewer, offer) = Client::viewer(&abilities);
        let (_, answer) = stage.offer(Role::Viewer, &offer.replace("actpass", "passive")).await.unwrap();
        viewer.answer(&answer.sdp);
        pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
        stream(&mut publisher, &mut [&mut viewer], 0..10, true);
        assert_eq!(viewer.whole_frames(), (0..10).collect::<Vec<u32>>());
    }
}

#[tokio::test]
async fn garbage_on_the_ports_is_counted_and_harms_nobody() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, offer) = Client::viewer(&Abilities::default());
    let (_, answer) = stage.offer(Role::Viewer, &offer).await.unwrap();
    viewer.answer(&answer.sdp);
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);

    let port = |sdp: &str| -> u16 {
        let candidate = sdp.lines().find(|line| line.starts_with("a=candidate:")).unwrap();
        candidate.split(' ').nth(5).unwrap().parse().unwrap()
    };
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = (Ipv4Addr::LOCALHOST, port(&answer.sdp));
    let ufrag = answer.etag.trim_matches('"');
    let mut sent = 0;
    for round in 0..400_u32 {
        let mut datagram: Vec<u8> = (0..round * 5).map(|i| (i * round) as u8).collect();
        if let Some(first) = datagram.first_mut() {
            *first = [0, 1, 22, 128, 200, 255][round as usize % 6];
        }
        stranger.send_to(&datagram, to).unwrap();
        // The same from the viewer's own address, which is let through to its session.
        viewer.socket.send_to(&datagram, to).unwrap();
        sent += 2;
        if round % 20 == 0 {
            viewer.turn();
            publisher.turn();
        }
    }
    // A check that names a session, from somebody who does not know its password.
    let forged = forged_check(ufrag);
    stranger.send_to(&forged, to).unwrap();

    pump(&mut [&mut publisher, &mut viewer], "it is counted", |_| stage.stats().stun_rejected == 1);
    let stats = stage.stats();
    assert!(stats.datagrams_in >= sent);
    assert!(
        stats.datagrams_malformed > 0 && stats.datagrams_unrouted > 0 && stats.srtp_errors > 0,
        "{stats:?}"
    );
    stream(&mut publisher, &mut [&mut viewer], 0..20, true);
    assert_eq!(viewer.whole_frames(), (0..20).collect::<Vec<u32>>());
    assert!(stage.ended().is_empty());
}

#[tokio::test]
async fn closed_sessions_are_told_once_and_forgotten() {
    let mut stage = Stage::new();
    let (mut publisher, host) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    assert!(stage.edge.close(&session).await);
    assert!(!stage.edge.close(&session).await, "there is no such session any more");
    pump(&mut [&mut viewer], "the viewer is told goodbye", |all| all[0].told_goodbye());
    assert_eq!(stage.ended()[&session], EndReason::Closed);

    let (mut viewer, second) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stage.edge.drain().await;
    assert_eq!((stage.ended()[&second], stage.ended()[&host]), (EndReason::Drained, EndReason::Drained));
    pump(&mut [&mut viewer, &mut publisher], "both are told goodbye", |all| {
        all.iter_mut().all(|client| client.told_goodbye())
    });
    let stats = stage.stats();
    assert_eq!((stats.publishers, stats.viewers, stats.sessions_ended), (0, 0, 3));
    let (_, offer) = Client::publisher(&Abilities::default());
    assert!(matches!(stage.offer(Role::Publisher, &offer).await, Err(OfferError::Closed)));
}

#[tokio::test]
async fn sessions_of_clients_that_never_come_or_fall_silent_end() {
    let limits = Limits {
        // Long enough for a handshake and for one of the tests' threads to be held up where the machine is busy.
        silence: Duration::from_millis(1_500),
        connect: Duration::from_millis(1_500),
        ..Limits::default()
    };
    let mut stage = Stage::with(limits);
    let (mut publisher, host) = stage.publisher(&Abilities::default()).await;
    let (_absent, never) = stage.viewer(&Abilities::default()).await;
    let (mut viewer, silent) = stage.viewer(&Abilities::default()).await;
    let mut number = 0;
    let mut talk = |publisher: &mut Client| {
        publisher.send_opus(number);
        number += 1;
    };
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| {
        talk(all[0]);
        all[1].connected
    });
    // From here on the viewer's client does nothing.
    pump(&mut [&mut publisher], "both have ended", |all| {
        talk(all[0]);
        let ended = stage.ended();
        ended.contains_key(&never) && ended.contains_key(&silent)
    });
    assert_eq!(
        (stage.ended()[&never], stage.ended()[&silent]),
        (EndReason::NeverConnected, EndReason::Silent)
    );
    assert_eq!(stage.wait_ended(&host, &mut []), EndReason::Silent);
    assert!(stage.relay.broadcast().is_none());
    let stats = stage.stats();
    assert_eq!((stats.sessions_silent, stats.sessions_never_connected, stats.handshakes_failed), (2, 1, 0));
}

#[tokio::test]
async fn on_a_full_node_who_is_lost_gives_the_place_to_who_comes() {
    // The place is given up long before the session would end.
    let limits = Limits { viewers: 2, silence: Duration::from_secs(5), ..Limits::default() };
    let mut stage = Stage::with(limits);
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut present, _) = stage.viewer(&Abilities::default()).await;
    let (mut lost, former) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut present, &mut lost], "all are connected", |all| {
        all[1].connected && all[2].connected
    });
    let (mut next, (_, offer)) = (0, Client::viewer(&Abilities::default()));
    assert!(matches!(stage.offer(Role::Viewer, &offer).await, Err(OfferError::Full)), "nobody is lost yet");
    let since = Instant::now();
    // From here on the lost one's client does nothing, until it comes back as another.
    while stage.offer(Role::Viewer, &offer).await.is_err() {
        stream(&mut publisher, &mut [&mut present], next..next + 1, next == 0);
        next += 1;
    }
    // Two seconds after its last word, which was some time before.
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(stage.ended().get(&former), Some(&EndReason::Silent));
    assert!(since.elapsed() < Duration::from_millis(4_900), "{:?}", since.elapsed());
    stream(&mut publisher, &mut [&mut present], next..next + 3, false);
}

#[tokio::test]
async fn who_moves_to_another_network_keeps_the_session_through_an_ice_restart() {
    let mut stage = Stage::new();
    let (mut publisher, offer) = Client::publisher(&Abilities::default());
    let (host, host_answer) = stage.offer(Role::Publisher, &offer).await.unwrap();
    publisher.answer(&host_answer.sdp);
    let relay = stage.relay.clone();
    pump(&mut [&mut publisher], "the broadcast has begun", |_| relay.broadcast().is_some());
    let (mut viewer, offer) = Client::viewer(&Abilities::default());
    let (session, answer) = stage.offer(Role::Viewer, &offer).await.unwrap();
    viewer.answer(&answer.sdp);
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..10, true);

    let fragment = viewer.restart_ice();
    let (fragment, etag) = stage.restart(&session, Condition::Any, &fragment).await.unwrap();
    assert_ne!(etag, answer.etag);
    let stale = Condition::Tags(vec![answer.etag.clone()]);
    assert_eq!(stage.restart(&session, stale, "a=end-of-candidates").await, Err(IceError::Stale));
    // The old path serves until the client has nominated the new one (this client takes nothing from it any more).
    let before = viewer.datagrams;
    let mut number = 10;
    pump(&mut [&mut publisher, &mut viewer], "media goes on by the old path", |all| {
        all[0].send_vp8(number, false);
        number += 1;
        all[1].datagrams >= before + 20
    });
    viewer.rtp.clear();
    viewer.roam();
    viewer.ice_restarted(&answer.sdp, &fragment);
    pump(&mut [&mut publisher, &mut viewer], "the new path is nominated", |_| {
        stage.stats().ice_restarts == 1
    });
    stream(&mut publisher, &mut [&mut viewer], number..number + 15, false);
    assert_continuous(&viewer);

    let fragment = publisher.restart_ice();
    let tag = Condition::Tags(vec![host_answer.etag.clone()]);
    let (fragment, _) = stage.restart(&host, tag, &fragment).await.unwrap();
    publisher.roam();
    publisher.ice_restarted(&host_answer.sdp, &fragment);
    pump(&mut [&mut publisher, &mut viewer], "the new path is nominated", |_| {
        stage.stats().ice_restarts == 2
    });
    stream(&mut publisher, &mut [&mut viewer], number + 15..number + 30, false);
    assert_continuous(&viewer);
    assert_eq!(
        (stage.ended().len(), stage.stats().sessions_connected),
        (0, 2),
        "nobody had to connect again"
    );
    let nobody = "s_none".parse().unwrap();
    assert_eq!(stage.restart(&nobody, Condition::Any, "a=x").await, Err(IceError::NoSession));
}

#[tokio::test]
async fn media_goes_where_a_nominating_check_comes_from() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, offer) = Client::viewer(&Abilities::default());
    let (session, answer) = stage.offer(Role::Viewer, &offer).await.unwrap();
    let early =
        stage.restart(&session, Condition::Any, "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n");
    assert_eq!(early.await, Err(IceError::NotConnected));
    viewer.answer(&answer.sdp);
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);

    let line = |key: &str| answer.sdp.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let port = line("a=candidate:").split(' ').nth(5).unwrap().parse::<u16>().unwrap();
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    elsewhere.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    elsewhere.send(&[128; 40]).unwrap();
    elsewhere.send(&nominating_check(line("a=ice-ufrag:"), line("a=ice-pwd:"))).unwrap();
    let (mut answered, mut pictures, mut number) = (false, 0, 5);
    pump(&mut [&mut publisher], "the answer and pictures come to the new address", |all| {
        all[0].send_vp8(number, false);
        number += 1;
        let mut buffer = [0; 2_048];
        while let Ok(length) = elsewhere.recv(&mut buffer) {
            let datagram = &buffer[..length];
            answered |= datagram[..2] == [1, 1];
            assert!(answered, "nothing before the answer");
            pictures += u32::from(video_sequence(datagram).is_some());
        }
        pictures > 4
    });
    assert!(stage.ended().is_empty());
}

#[tokio::test]
async fn a_session_ends_with_the_time_that_its_viewer_was_let_in_for() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, offer) = Client::viewer(&Abilities::default());
    let session = stage.next_session();
    let ends = Instant::now() + Duration::from_millis(800);
    let (live, relay) = ("demo".parse().unwrap(), stage.relay.clone());
    let answer = stage.edge.watch_until(session.clone(), live, relay, &offer, Some(ends)).await.unwrap();
    viewer.answer(&answer.sdp);
    assert_eq!(stage.wait_ended(&session, &mut [&mut publisher, &mut viewer]), EndReason::Expired);
    assert!(Instant::now() >= ends);
    pump(&mut [&mut viewer], "the viewer is told goodbye", |all| all[0].told_goodbye());
}

/// A connectivity check as a browser sends it by the path that it has chosen.
fn nominating_check(ufrag: &str, password: &str) -> Vec<u8> {
    let provider = AwsLcRsProvider::new();
    let mut check = Message::new();
    let setters: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, format!("{ufrag}:abcd"))),
        Box::new(UseCandidateAttr),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.to_owned(),
            provider.crypto(),
        )),
        Box::new(FINGERPRINT),
    ];
    check.build(&setters).unwrap();
    check.raw
}

#[tokio::test]
async fn a_client_with_another_certificate_than_it_said_never_connects() {
    let mut stage = Stage::with(Limits { connect: Duration::from_millis(600), ..Limits::default() });
    let (mut publisher, offer) = Client::publisher(&Abilities::default());
    let fingerprint = offer.lines().find(|line| line.starts_with("a=fingerprint:")).unwrap();
    let other = format!("a=fingerprint:sha-256 {}", ["AB"; 32].join(":"));
    let (session, answer) = stage.offer(Role::Publisher, &offer.replace(fingerprint, &other)).await.unwrap();
    publisher.answer(&answer.sdp);
    assert_eq!(stage.wait_ended(&session, &mut [&mut publisher]), EndReason::NeverConnected);
    let stats = stage.stats();
    assert_eq!((stats.handshakes_failed, stats.sessions_never_connected), (1, 1));
}

#[tokio::test]
async fn a_second_publisher_takes_over() {
    let mut stage = Stage::new();
    let (mut first, session) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut first, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut first, &mut [&mut viewer], 0..10, true);
    let (mut second, _) = stage.publisher(&Abilities::default()).await;
    assert_eq!(stage.wait_ended(&session, &mut [&mut first, &mut second, &mut viewer]), EndReason::Replaced);
    stream(&mut second, &mut [&mut viewer], 500..510, true);
    assert_continuous(&viewer);
}

#[tokio::test]
async fn a_host_comes_back_to_a_node_that_is_full_and_no_other_comes_in() {
    let mut stage = Stage::with(Limits { publishers: 1, ..Limits::default() });
    let (mut crashed, former) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    stream(&mut crashed, &mut [&mut viewer], 0..3, true);
    // The app has died: nobody says goodbye, and its session has seconds to live.
    let (_, offer) = Client::publisher(&Abilities::default());
    let elsewhere = stage.edge.publish("e1".parse().unwrap(), "other".parse().unwrap(), Relay::new(), &offer);
    assert!(matches!(elsewhere.await, Err(OfferError::Full)));
    let (mut host, _) = stage.publisher(&Abilities::default()).await;
    assert_eq!(stage.wait_ended(&former, &mut [&mut host, &mut viewer]), EndReason::Replaced);
    stream(&mut host, &mut [&mut viewer], 100..103, true);
}

#[tokio::test]
async fn a_host_that_returns_with_another_codec_ends_the_viewers_who_did_not_negotiate_it() {
    let mut stage = Stage::new();
    let (mut publisher, host) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    publisher.leave();
    stage.wait_ended(&host, &mut [&mut viewer]);
    let h264 = Abilities { video: "H264", ..Abilities::default() };
    let (mut publisher, _) = stage.publisher(&h264).await;
    assert_eq!(stage.wait_ended(&session, &mut [&mut publisher, &mut viewer]), EndReason::CodecChanged);

    let (_, offer) = Client::viewer(&Abilities::default());
    let refused = stage.offer(Role::Viewer, &offer).await;
    assert!(matches!(refused, Err(OfferError::Codec(_))), "{refused:?}");
    let (mut viewer, _) = stage.viewer(&h264).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    for number in 0..5 {
        publisher.send_h264(number, number == 0);
    }
    pump(&mut [&mut publisher, &mut viewer], "pictures come", |all| all[1].received(VIDEO).count() >= 7);
    assert_eq!(viewer.received(VIDEO).next().unwrap().payload[..], [0x67, 0x42, 0xE0, 0x1F]);
}

#[tokio::test]
async fn sound_alone_is_a_broadcast() {
    let mut stage = Stage::new();
    let sound = Abilities { video: "", rtx: false, ..Abilities::default() };
    let (mut publisher, host) = stage.publisher(&sound).await;
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    for number in 0..50 {
        publisher.send_opus(number);
    }
    pump(&mut [&mut publisher, &mut viewer], "sound comes", |all| all[1].received(AUDIO).count() == 50);

    // The host returns with pictures, which this viewer has not negotiated.
    publisher.leave();
    stage.wait_ended(&host, &mut [&mut viewer]);
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    assert_eq!(stage.wait_ended(&session, &mut [&mut publisher, &mut viewer]), EndReason::CodecChanged);
}

#[tokio::test]
async fn layers_as_obs_sends_them_are_told_apart() {
    let mut stage = Stage::new();
    let (mut host, offer) = Client::publisher_of(&Abilities::default(), &["0", "1"]);
    let ssrcs = host.ssrcs(host.video.unwrap());
    let offer = layered(&offer, ssrcs[0]);
    let (_, answer) = stage.offer(Role::Publisher, &offer).await.unwrap();
    assert!(answer.sdp.contains("a=simulcast:recv 0;1"), "{}", answer.sdp);
    host.answer(&answer.sdp);
    pump(&mut [&mut host], "the host is connected", |all| all[0].connected);
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    for number in 1..60 {
        host.send_layer("0", ssrcs[0], number, number % 10 == 1);
        host.send_layer("1", ssrcs[1], number, number % 10 == 1);
        let until = Instant::now() + Duration::from_millis(10);
        pump(&mut [&mut host, &mut viewer], "time passes", |_| Instant::now() >= until);
    }
    let quality = stage.edge.prefer(&session, None).await.unwrap();
    let mut names: Vec<&str> = quality.layers.iter().map(|layer| layer.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["0", "1"]);
    assert_eq!(stage.stats().packets_lost, 0, "each in its own order");
    assert!(viewer.received(VIDEO).count() > 40);
}

#[tokio::test]
async fn many_wishes_for_a_keyframe_reach_the_host_as_few() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    let before = stage.stats().keyframe_requests;
    let media_ssrc = viewer.received(VIDEO).next().unwrap().header.ssrc;
    for _ in 0..20 {
        viewer.send_rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })]);
    }
    pump(&mut [&mut publisher, &mut viewer], "they are taken", |_| stage.stats().plis_in >= 20);
    let mut number = 5;
    pump(&mut [&mut publisher, &mut viewer], "one is passed on", |all| {
        all[0].send_vp8(number, false);
        number += 1;
        stage.stats().keyframe_requests > before
    });
    assert!(stage.stats().keyframe_requests - before <= 2, "{:?}", stage.stats());
}

#[tokio::test]
async fn viewers_learn_which_sound_belongs_to_which_picture() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    let ntp = 0xE000_0000_u64 << 32;
    let ssrc = publisher.video_ssrc();
    // Frame 4 was made at `ntp` by the host's clock.
    let report = SenderReport { ssrc, ntp_time: ntp, rtp_time: 4 * 3_000, ..SenderReport::default() };
    publisher.send_rtcp(vec![Box::new(report)]);
    let report_in = |packets: &[Box<dyn rtcp::Packet>]| {
        packets.iter().find_map(|packet| packet.as_any().downcast_ref::<SenderReport>().cloned())
    };
    pump(&mut [&mut publisher, &mut viewer], "a report comes", |all| report_in(&all[1].rtcp()).is_some());
    let report = report_in(&viewer.rtcp()).unwrap();
    let frame = viewer.received(VIDEO).find(|packet| packet.payload[7..11] == 4_u32.to_be_bytes()).unwrap();
    assert_eq!(report.ssrc, frame.header.ssrc);
    // The same instant by the host's clock, carried forward by the time since: both must have moved as far.
    let seconds = (report.ntp_time - ntp) as f64 / f64::from(u32::MAX);
    let ticks = report.rtp_time.wrapping_sub(frame.header.timestamp);
    assert!(seconds < PATIENCE.as_secs_f64());
    assert!((f64::from(ticks) - seconds * 90_000.0).abs() < 90.0, "{ticks} ticks in {seconds} s");
}

#[tokio::test]
async fn what_is_no_offer_is_refused_and_a_full_edge_says_so() {
    let mut stage = Stage::with(Limits { publishers: 2, ..Limits::default() });
    let refused = stage.offer(Role::Publisher, "v=0\r\nnonsense").await;
    assert!(matches!(refused, Err(OfferError::Malformed(_))), "{refused:?}");
    let refused = stage.offer(Role::Publisher, &"v=0\r\n".repeat(30_000)).await;
    assert!(matches!(refused, Err(OfferError::TooLarge)), "{refused:?}");
    let (_, offer) = Client::publisher(&Abilities::default());
    stage.offer(Role::Publisher, &offer).await.unwrap();
    stage.offer(Role::Publisher, &offer).await.unwrap();
    assert!(!stage.edge.node().accepts_publishers && stage.edge.node().accepts_viewers);
    assert!(matches!(stage.offer(Role::Publisher, &offer).await, Err(OfferError::Full)));
    stage.edge.close(&"s3".parse().unwrap()).await;
    stage.offer(Role::Publisher, &offer).await.unwrap();
    assert_eq!(stage.stats().offers_refused, 1);
}

#[tokio::test]
async fn a_busy_node_turns_viewers_away_and_harms_none_of_those_it_has() {
    // Reached by the first pictures.
    let mut stage = Stage::with(Limits { egress_bps: 10_000, ..Limits::default() });
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    let (mut next, edge) = (0, stage.edge.clone());
    while edge.node().accepts_viewers {
        stream(&mut publisher, &mut [&mut viewer], next..next + 1, next == 0);
        next += 1;
        assert!(next < 20_000, "{:?}", edge.node());
    }
    let (_, offer) = Client::viewer(&Abilities::default());
    let refused = stage.offer(Role::Viewer, &offer).await;
    assert!(matches!(refused, Err(OfferError::Busy)), "{refused:?}");
    let load = edge.node();
    assert!(
        load.accepts_publishers && load.shards.iter().any(|shard| shard.egress_bps >= 10_000),
        "{load:?}"
    );

    // Another host comes in, and the viewer goes on without a gap.
    let relay = std::mem::replace(&mut stage.relay, Relay::new());
    let (mut other, _) = stage.publisher(&Abilities::default()).await;
    stage.relay = relay;
    for number in next..next + 30 {
        stream(&mut publisher, &mut [&mut viewer], number..number + 1, false);
        other.turn();
    }
    assert_eq!(viewer.whole_frames(), (0..next + 30).collect::<Vec<u32>>());
    assert_continuous(&viewer);
    // What is not sent any more is room again.
    pump(&mut [&mut publisher, &mut viewer, &mut other], "there is room again", |_| {
        edge.node().accepts_viewers
    });
}

#[tokio::test]
async fn a_shard_that_fails_ends_its_sessions_and_the_other_goes_on() {
    let fails = |notice: &Notice| {
        let fatal = notice.session.as_str() == "s2" && matches!(notice.kind, NoticeKind::Connected { .. });
        assert!(!fatal, "as a defect in a shard would");
    };
    let mut stage = Stage::observed(Limits::default(), fails);
    let (mut host, _) = stage.publisher(&Abilities::default()).await;
    // The least busy shard takes it: not the host's.
    let (mut unlucky, session) = stage.viewer(&Abilities::default()).await;
    assert_eq!(stage.wait_ended(&session, &mut [&mut host, &mut unlucky]), EndReason::Failed);
    let asked = tokio::time::timeout(PATIENCE, stage.edge.close(&session)).await;
    assert!(!asked.unwrap(), "nobody waits for a thread that is gone");

    for number in 1..4 {
        let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
        stream(&mut host, &mut [&mut viewer], number * 10..number * 10 + 3, true);
    }
    assert!(stage.edge.node().accepts_viewers);
    // Some of them are on the shard that failed: it has begun anew.
    let stats = stage.edge.stats().shards;
    assert_eq!(stats.iter().map(|shard| shard.shard_failures).collect::<Vec<_>>(), [0, 1]);
    assert!(stats[1].viewers > 0 && stats[0].viewers + stats[1].viewers == 3);
}

#[test]
fn an_edge_that_cannot_start_says_why() {
    let config = EdgeConfig { bind: vec![Ipv4Addr::LOCALHOST.into()], shards: 0, ..EdgeConfig::default() };
    let observer: haul_webrtc::Observer = Arc::new(|_| {});
    let error = Edge::start(config.clone(), observer.clone()).err().unwrap();
    assert!(error.to_string().contains("shards"), "{error}");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Edge::start(EdgeConfig { shards: 1, udp_port: port, ..config }, observer).err().unwrap();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    drop(taken);
}
