//! A host is watched.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
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
