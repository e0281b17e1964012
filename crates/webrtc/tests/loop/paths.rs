//! How datagrams travel: TCP, addresses that change or never passed a check, handshakes of other kinds.

use super::*;

/// A datagram as TCP carries it.
fn framed(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes(), datagram].concat()
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
