//! A host is watched.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    nat::Nat,
    rtc_client::{Peer, Publisher},
    server::{Server, eventually},
    talk::{Channel, call, get, send, viewer_token},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_watched_and_may_leave_and_return() {
    let server = Server::start();
    let mut room = Channel::open(&server, "demo", "").await;
    let host = Publisher::start(&server, 0).await;
    room.event("live.changed", |event| event["live"]["state"] == "live").await;
    assert_eq!(get(&server, "/v1/lives/demo").await.json()["state"], "live");

    // Two viewers, one with a name and one without: on two shards, whichever the host's is.
    let ann = Peer::watch(&server, &viewer_token(&server, "ann").await).await;
    let bob = Peer::watch(&server, "").await;
    for viewer in [&ann, &bob] {
        eventually("pictures and sound", async || viewer.pictures() >= 50 && viewer.sounds() >= 50).await;
        let stamps = viewer.seen.stamps.lock().unwrap().clone();
        assert!(stamps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "whole and in order: {stamps:?}");
        assert_eq!(viewer.seen.jumps.load(Ordering::SeqCst), 0);
    }

    assert_eq!(host.peer.delete(&server).await, 200);
    assert_eq!(host.peer.delete(&server).await, 404);
    room.event("live.changed", |event| event["live"]["state"] == "waiting").await;
    let early = call("POST", &server.url("/whep/demo"), &[("content-type", "application/sdp")], "v=0").await;
    assert_eq!(early.status, 409);
    host.vanish();

    let (before, returned) = ([ann.pictures(), bob.pictures()], Instant::now());
    let _host = Publisher::start(&server, 100_000).await;
    room.event("live.changed", |event| event["live"]["state"] == "live").await;
    for (viewer, before) in [&ann, &bob].into_iter().zip(before) {
        eventually("the new picture in the same session", async || viewer.pictures() >= before + 20).await;
        assert!(*viewer.seen.stamps.lock().unwrap().last().unwrap() >= 100_000);
        assert!(!viewer.seen.closed.load(Ordering::SeqCst));
        assert_eq!(viewer.seen.jumps.load(Ordering::SeqCst), 0, "the sequence goes on");
    }
    assert!(returned.elapsed() < Duration::from_secs(10), "{:?}", returned.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_over_from_their_former_session_and_nobody_else() {
    let server = Server::start();
    let first = Publisher::start(&server, 0).await;
    let viewer = Peer::watch(&server, "").await;
    eventually("pictures", async || viewer.pictures() > 0).await;
    let second = Publisher::start(&server, 500_000).await;
    eventually("the second session's pictures", async || {
        viewer.seen.stamps.lock().unwrap().last().is_some_and(|stamp| *stamp >= 500_000)
    })
    .await;
    eventually("the first session is gone", async || first.peer.delete(&server).await == 404).await;
    assert_eq!(second.peer.delete(&server).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_app_crashes_is_missed_at_once_and_comes_back_to_the_same_viewers() {
    let server = Server::start();
    let mut room = Channel::open(&server, "demo", "").await;
    let crashed = Publisher::start(&server, 0).await;
    let viewer = Peer::watch(&server, "").await;
    eventually("pictures", async || viewer.pictures() > 10).await;

    crashed.vanish();
    let gone = Instant::now();
    room.event("live.changed", |event| event["live"]["state"] == "reconnecting").await;
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());
    assert_eq!(get(&server, "/v1/lives/demo").await.json()["state"], "reconnecting");
    assert!(!viewer.seen.closed.load(Ordering::SeqCst));

    let back = Publisher::start(&server, 200_000).await;
    let connected = Instant::now();
    room.event("live.changed", |event| event["live"]["state"] == "live").await;
    eventually("the new picture in the same session", async || {
        viewer.seen.stamps.lock().unwrap().last().is_some_and(|stamp| *stamp >= 200_000)
    })
    .await;
    assert!(connected.elapsed() < Duration::from_secs(3), "{:?}", connected.elapsed());
    let stamps = viewer.seen.timestamps.lock().unwrap().clone();
    assert!(
        stamps.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) as i32 > 0),
        "time goes on: {stamps:?}"
    );
    assert_eq!(viewer.seen.jumps.load(Ordering::SeqCst), 0, "and so do the sequence numbers");
    drop(back);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_and_viewer_change_networks_and_keep_their_sessions() {
    let server = Server::start();
    let (host_nat, viewer_nat) = (Nat::new(&server), Nat::new(&server));
    let mut host = Publisher::start_behind(&server, &server.host_token, 0, Some(&host_nat)).await;
    let mut viewer = Peer::watch_behind(&server, "", Some(&viewer_nat)).await;
    eventually("pictures", async || viewer.pictures() > 10).await;

    viewer_nat.change_network();
    viewer.restart_ice(&server).await;
    let before = viewer.pictures();
    eventually("pictures by the viewer's new path", async || viewer.pictures() > before + 20).await;
    host_nat.change_network();
    host.peer.restart_ice(&server).await;
    let before = viewer.pictures();
    eventually("pictures by the host's new path", async || viewer.pictures() > before + 20).await;
    let metrics = get(&server, "/metrics").await.text();
    let restarts = metrics.lines().filter(|line| line.starts_with("haul_ice_restarts_total"));
    assert_eq!(restarts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>(), 2);
    assert!(!viewer.seen.closed.load(Ordering::SeqCst));
    assert_eq!((viewer.delete(&server).await, host.peer.delete(&server).await), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_belongs_to_whoever_began_it() {
    let server = Server::start();
    let host = Publisher::start(&server, 0).await;
    let viewer = Peer::watch(&server, &viewer_token(&server, "ann").await).await;
    let url = server.url(&viewer.resource);
    let bob = format!("Bearer {}", viewer_token(&server, "bob").await);
    assert_eq!(call("DELETE", &url, &[], "").await.status, 401);
    assert_eq!(call("DELETE", &url, &[("authorization", &bob)], "").await.status, 403);
    let ann = format!("Bearer {}", viewer_token(&server, "ann").await);
    let fragment = ("content-type", "application/trickle-ice-sdpfrag");
    let patch =
        async |headers: &[(&str, &str)]| call("PATCH", &url, headers, "a=end-of-candidates\r\n").await.status;
    assert_eq!(patch(&[fragment, ("authorization", &ann)]).await, 204);
    assert_eq!(patch(&[fragment, ("authorization", &bob)]).await, 403);
    assert_eq!(patch(&[("content-type", "application/sdp"), ("authorization", &ann)]).await, 415);
    assert_eq!(patch(&[fragment, ("authorization", &ann), ("if-match", "\"stale\"")]).await, 412);
    assert_eq!(call("DELETE", &url, &[("authorization", &ann)], "").await.status, 200);
    assert_eq!(call("DELETE", &url, &[("authorization", &ann)], "").await.status, 404);
    eventually("the session is gone", async || {
        let metrics = get(&server, "/metrics").await.text();
        let viewers = metrics.lines().filter(|line| line.starts_with("haul_viewers{"));
        viewers.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>() == 0
    })
    .await;
    drop(host);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_that_becomes_private_is_over_for_strangers() {
    let server = Server::start();
    let host = Publisher::start(&server, 0).await;
    let stranger = Peer::watch(&server, "").await;
    let ann = Peer::watch(&server, &viewer_token(&server, "ann").await).await;
    for viewer in [&stranger, &ann] {
        eventually("pictures", async || viewer.pictures() > 0).await;
    }
    let body = json!({ "title": "For friends", "public": false });
    assert_eq!(send(&server, "PUT", "/v1/lives/demo", &server.host_token, body).await.status, 200);
    let (url, fragment) =
        (server.url(&stranger.resource), ("content-type", "application/trickle-ice-sdpfrag"));
    let asked = async || call("PATCH", &url, &[fragment], "a=end-of-candidates\r\n").await.status;
    eventually("the stranger is put out", async || asked().await == 404).await;
    let before = ann.pictures();
    eventually("who has a token goes on", async || ann.pictures() >= before + 10).await;
    assert_eq!(ann.delete(&server).await, 200);
    drop(host);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_sessions_ends_soon_and_well() {
    let mut server = Server::start();
    let _host = Publisher::start(&server, 0).await;
    let viewer = Peer::watch(&server, "").await;
    eventually("pictures", async || viewer.pictures() > 0).await;
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    assert!(timeout(Duration::from_secs(5), stopping).await.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_and_shop_do_not_get_into_each_others_way() {
    let server = Server::start();
    let host = Publisher::start(&server, 0).await;
    let viewer = Peer::watch(&server, "").await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    assert_eq!(ann.hello["result"]["live"]["state"], "live");
    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
    assert_eq!(held["result"]["hold"]["state"], "held");
    eventually("pictures", async || viewer.pictures() >= 20).await;
    viewer.close().await;
    let metrics = get(&server, "/metrics").await.text();
    for name in ["haul_ingest_packets_total", "haul_egress_packets_total", "haul_ingest_keyframes_total"] {
        assert!(metrics.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0")), "{name}");
    }
    drop(host);
}

/// An offer of somebody who will never connect.
fn offer() -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=mid:0\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_sends_viewers_away_and_lets_the_host_in() {
    let server = Server::start_with(&[
        ("HAUL__MEDIA__MAX_VIEWERS", "2"),
        ("HAUL__MEDIA__MAX_SESSIONS_PER_CLIENT", "1"),
        ("HAUL__HTTP__TRUSTED_PROXIES", "127.0.0.1"),
    ]);
    let host = Publisher::start(&server, 0).await;
    let node = async || get(&server, "/v1/node").await.json();
    let fresh = node().await;
    assert_eq!(fresh["accepting"], json!({ "viewers": true, "publishers": true }));
    assert_eq!((&fresh["capacity"]["viewers"], &fresh["load"]["publishers"]), (&json!(2), &json!(1)));

    let (url, sdp) = (server.url("/whep/demo"), ("content-type", "application/sdp"));
    let watch = async |client: &str| call("POST", &url, &[sdp, ("x-forwarded-for", client)], offer()).await;
    let first = watch("203.0.113.7").await;
    assert_eq!(first.status, 201, "{}", first.text());
    let greedy = watch("203.0.113.7").await;
    assert_eq!((greedy.status, greedy.json()["code"].as_str()), (429, Some("too_many_sessions")));
    let viewer = Peer::watch(&server, "").await;
    eventually("pictures", async || viewer.pictures() > 0).await;

    let refused = watch("203.0.113.8").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("busy")));
    assert!((3..=12).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    let full = node().await;
    assert_eq!(full["accepting"], json!({ "viewers": false, "publishers": true }));
    assert_eq!(full["load"]["viewers"], 2);
    let (returned, before) = (Publisher::start(&server, 100_000).await, viewer.pictures());
    eventually("the host's pictures", async || viewer.pictures() >= before + 20).await;

    // Who leaves makes room, for the node and for their address.
    assert_eq!(call("DELETE", &server.url(first.header("location")), &[], "").await.status, 200);
    eventually("there is room", async || watch("203.0.113.7").await.status == 201).await;
    drop((host, returned));
}
