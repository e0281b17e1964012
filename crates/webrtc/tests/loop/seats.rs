//! Who may come, who has to go, and that nothing is left of them.

use super::*;

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

    // Some of them are on the shard that failed: it has begun anew. On a busy machine it may take a few until it is the less
    // busy one.
    let mut number = 0;
    while number < 3 || stage.edge.stats().shards[1].viewers == 0 {
        number += 1;
        assert!(number < 30, "nobody gets to the shard that failed");
        let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
        stream(&mut host, &mut [&mut viewer], number * 10..number * 10 + 3, true);
    }
    assert!(stage.edge.node().accepts_viewers);
    let stats = stage.edge.stats().shards;
    assert_eq!(stats.iter().map(|shard| shard.shard_failures).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(stats[0].viewers + stats[1].viewers, u64::from(number));
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
