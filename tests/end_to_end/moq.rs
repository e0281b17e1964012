//! Hosts and viewers by MoQ, beside those by WebRTC: all four combinations, and who is refused.

use std::{
    net::SocketAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;

use crate::{
    moq_client::{CATALOG, Client, NEWEST, Viewer, Way, catalog},
    rtc_client::{LAYER, Peer, Publisher},
    server::{Server, command, eventually, free_ports},
    talk::{Channel, call, get, viewer_token},
};

/// A server that speaks MoQ, and where.
fn start() -> (Server, SocketAddr) {
    let (_, port) = free_ports(1);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    (Server::start_with(&[("HAUL__MOQ__LISTEN", &address.to_string())]), address)
}

fn token(server: &Server, live: &str, role: &str, ttl: &str) -> String {
    let arguments = ["token", "--live", live, "--role", role, "--sub", "tester", "--ttl", ttl];
    let minted = command(server.data.path()).args(arguments).output().unwrap();
    String::from_utf8(minted.stdout).unwrap().trim().to_owned()
}

async fn watch(address: SocketAddr) -> (Client, Viewer) {
    let client = Client::connect(address, NEWEST, "/demo").await.unwrap();
    let viewer = client.watch().await;
    (client, viewer)
}

/// Pictures and voice further apart than this are noticed (ITU-R BT.1359).
const LIPS_MS: f64 = 80.0;
/// Pictures over which that is measured.
const MARKED: usize = 50;

/// All four combinations of a host and a viewer: pictures and sound come, whole and in order, and each sound is shown with
/// the picture that it marks.
#[tokio::test(flavor = "multi_thread")]
async fn lips_and_voice_are_together_whoever_sends_and_whoever_watches() {
    let (server, address) = start();
    let mut room = Channel::open(&server, "demo", "").await;
    for by_moq in [false, true] {
        let target = format!("/demo?jwt={}", server.host_token);
        let host = Client::connect(address, NEWEST, &target).await.unwrap();
        // Its sound is sent late, as encoders do: what counts is when it is shown.
        let published = by_moq.then(|| host.publish_late(0, Duration::from_millis(300)));
        let streaming = if by_moq { None } else { Some(Publisher::start(&server, 0).await) };
        room.event("live.changed", |event| event["live"]["state"] == "live").await;
        let whep = Peer::watch(&server, "").await;
        let (_client, moq) = watch(address).await;
        let host_is = if by_moq { "MoQ" } else { "WHIP" };
        eventually(&format!("{host_is} to WHEP, with reports"), async || {
            whep.pictures() > 150 && whep.seen.lips_ms(MARKED).is_some()
        })
        .await;
        eventually(&format!("{host_is} to MoQ"), async || {
            moq.lips_ms(MARKED).is_some() && moq.pictures() > 150
        })
        .await;
        let (whep_ms, moq_ms) = (whep.seen.lips_ms(MARKED).unwrap(), moq.lips_ms(MARKED).unwrap());
        println!("{host_is}: pictures and sound apart by {whep_ms:.1} ms over WHEP, {moq_ms:.1} ms over MoQ");
        assert!(whep_ms <= LIPS_MS, "{host_is} to WHEP: {whep_ms} ms");
        assert!(moq_ms <= LIPS_MS, "{host_is} to MoQ: {moq_ms} ms");
        for stamps in [&whep.seen.stamps, &moq.video.stamps] {
            let stamps = stamps.lock().unwrap();
            assert!(stamps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "whole and in order: {stamps:?}");
        }
        if let Some(streaming) = &streaming {
            streaming.peer.delete(&server).await;
        }
        drop((published, streaming, host));
        room.event("live.changed", |event| event["live"]["state"] == "waiting").await;
    }
}

/// AAC goes to MoQ's viewers. WebRTC's get the pictures, and all are told why.
#[tokio::test(flavor = "multi_thread")]
async fn aac_is_heard_by_moq_alone_and_everybody_is_told() {
    let (server, address) = start();
    let mut room = Channel::open(&server, "demo", "").await;
    let mut studio = Channel::open(&server, "demo", &server.host_token).await;
    let client = Client::connect(address, NEWEST, &format!("/demo?jwt={}", server.host_token)).await.unwrap();
    let aac = r#""codec":"mp4a.40.2","description":"1190","#;
    let _host = client.publish_as(&CATALOG.replace(r#""codec":"opus","#, aac), 0);
    room.event("live.changed", |event| event["live"]["sound"] == "moq_only").await;
    studio.event("host.warning", |event| event["warning"] == "aac").await;
    let late = Channel::open(&server, "demo", "").await;
    assert_eq!(late.hello["result"]["live"]["sound"], "moq_only");

    let whep = Peer::watch(&server, "").await;
    let (_client, moq) = watch(address).await;
    eventually("pictures and sound by MoQ", async || moq.pictures() >= 50 && moq.sounds() >= 50).await;
    eventually("pictures by WebRTC", async || whep.pictures() >= 50).await;
    assert_eq!(whep.sounds(), 0, "no sound that nobody can decode");
    assert_eq!(moq.catalog["audio"]["renditions"]["audio"]["codec"], "mp4a.40.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_by_webrtc_is_watched_by_webrtc_and_moq() {
    let (server, address) = start();
    let _host = Publisher::start(&server, 0).await;
    let by_webrtc = Peer::watch(&server, "").await;
    eventually("pictures", async || by_webrtc.pictures() > 20).await;
    let (_client, by_moq) = watch(address).await;
    eventually("pictures and sound", async || by_moq.pictures() >= 50 && by_moq.sounds() >= 50).await;
    let stamps = by_moq.video.stamps.lock().unwrap().clone();
    assert!(stamps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "whole and in order: {stamps:?}");
    // Pictures and sound of one number left the host together.
    let [pictures, sounds] =
        [&by_moq.video, &by_moq.audio].map(|seen| *seen.times.lock().unwrap().last().unwrap());
    let apart = pictures.abs_diff(sounds);
    assert!(apart < 200_000, "pictures and sound are {apart} µs apart");
    let metrics = get(&server, "/metrics").await.text();
    for line in ["haul_moq_viewers 1", "haul_moq_publishers 0"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// Each layer of a simulcast is a rendition, and each is seen: whole, in order, and no other's pictures with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_simulcast_by_webrtc_is_seen_by_moq_rendition_by_rendition() {
    const LAYERS: &[&str] = &["f", "h", "q"];
    let (server, address) = start();
    let host = Publisher::start_layered(&server, LAYERS).await;
    let (client, first) = watch(address).await;
    let names = async || {
        let catalog = catalog(&first.broadcast).await;
        let renditions = catalog["video"]["renditions"].as_object().unwrap().clone();
        renditions.into_iter().map(|(name, told)| (name, told["label"].clone(), told["codec"].clone()))
    };
    let expected = LAYERS.iter().map(|name| (format!("video-{name}"), (*name).into(), "vp8".into()));
    eventually("three renditions", async || names().await.eq(expected.clone())).await;
    let readers = ["video-f", "video-h", "video-q"].map(|name| first.rendition(name));
    eventually("pictures of each", async || {
        readers.iter().all(|(seen, _)| seen.frames.load(Ordering::SeqCst) > 100)
    })
    .await;
    // Each picture says of which layer it is.
    let layers = readers.each_ref().map(|(seen, _)| {
        let stamps = seen.stamps.lock().unwrap().clone();
        assert!(stamps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "whole and in order: {stamps:?}");
        assert_eq!(seen.groups.load(Ordering::SeqCst), seen.keyframes_first.load(Ordering::SeqCst));
        stamps[0] / LAYER
    });
    assert_eq!(layers, [0, 1, 2]);
    assert_eq!(first.video.stamps.lock().unwrap()[0] / LAYER, 0, "who takes the first gets that");

    // The host ends, and everybody has seen all of it.
    assert_eq!(host.peer.delete(&server).await, 200);
    eventually("the end", async || readers.iter().all(|(seen, _)| seen.ended.load(Ordering::SeqCst))).await;
    let last = readers.each_ref().map(|(seen, _)| {
        assert_eq!(seen.cut.load(Ordering::SeqCst), 0);
        seen.stamps.lock().unwrap().last().unwrap() % LAYER
    });
    assert!(last.iter().all(|number| number.abs_diff(last[0]) <= 1), "they end together: {last:?}");
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_by_moq_is_watched_by_both_and_returns_by_webrtc() {
    let (server, address) = start();
    let mut room = Channel::open(&server, "demo", "").await;
    let target = format!("/demo?jwt={}", server.host_token);
    let client = Client::connect(address, NEWEST, &target).await.unwrap();
    let host = client.publish(0);
    room.event("live.changed", |event| event["live"]["state"] == "live").await;

    let by_webrtc = Peer::watch(&server, &viewer_token(&server, "ann").await).await;
    let (other, by_moq) = watch(address).await;
    eventually("pictures and sound by WebRTC", async || {
        by_webrtc.pictures() >= 50 && by_webrtc.sounds() >= 50
    })
    .await;
    eventually("pictures and sound by MoQ", async || by_moq.pictures() >= 50 && by_moq.sounds() >= 50).await;
    let stamps = by_webrtc.seen.stamps.lock().unwrap().clone();
    assert!(stamps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "whole and in order: {stamps:?}");

    drop((host, client));
    room.event("live.changed", |event| event["live"]["state"] == "waiting").await;
    let _host = Publisher::start(&server, 100_000).await;
    let connected = Instant::now();
    let by_moq = other.watch().await;
    let latest = |stamps: &std::sync::Mutex<Vec<u32>>| stamps.lock().unwrap().last().copied().unwrap_or(0);
    eventually("the new pictures by MoQ", async || latest(&by_moq.video.stamps) >= 100_000).await;
    eventually("and in the same WebRTC session", async || latest(&by_webrtc.seen.stamps) >= 100_000).await;
    assert!(connected.elapsed() < Duration::from_secs(3), "{:?}", connected.elapsed());
    let times = by_webrtc.seen.timestamps.lock().unwrap().clone();
    assert!(times.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) as i32 > 0), "time goes on");
    assert_eq!(by_webrtc.seen.jumps.load(Ordering::SeqCst), 0, "and so do the sequence numbers");
}

/// A publisher who is cut off without a word comes back in a second session: it takes over, and is seen within three seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_by_moq_who_begins_anew_is_seen_again() {
    let (server, address) = start();
    let mut room = Channel::open(&server, "demo", "").await;
    let target = format!("/demo?jwt={}", server.host_token);
    let former = Client::connect(address, NEWEST, &target).await.unwrap();
    let _former = former.publish(0);
    room.event("live.changed", |event| event["live"]["state"] == "live").await;
    let by_webrtc = Peer::watch(&server, "").await;
    let (other, by_moq) = watch(address).await;
    eventually("pictures", async || by_webrtc.pictures() > 5 && by_moq.pictures() > 5).await;
    let began = Instant::now();
    let client = Client::connect(address, NEWEST, &target).await.unwrap();
    let _host = client.publish(100_000);
    former.ended().await;
    let by_moq = other.watch().await;
    let latest = |stamps: &std::sync::Mutex<Vec<u32>>| stamps.lock().unwrap().last().copied().unwrap_or(0);
    eventually("the new pictures by both", async || {
        latest(&by_moq.video.stamps) >= 100_000 && latest(&by_webrtc.seen.stamps) >= 100_000
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_by_moq_gives_way_to_the_same_host_by_webrtc() {
    let (server, address) = start();
    let mut room = Channel::open(&server, "demo", "").await;
    let target = format!("/demo?jwt={}", server.host_token);
    let client = Client::connect(address, NEWEST, &target).await.unwrap();
    let _host = client.publish(0);
    room.event("live.changed", |event| event["live"]["state"] == "live").await;
    let viewer = Peer::watch(&server, "").await;
    eventually("pictures", async || viewer.pictures() > 5).await;
    let _takes_over = Publisher::start(&server, 500_000).await;
    client.ended().await;
    eventually("the second session's pictures", async || {
        viewer.seen.stamps.lock().unwrap().last().is_some_and(|stamp| *stamp >= 500_000)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_say_who_may_come() {
    let (server, address) = start();
    let _host = Publisher::start(&server, 0).await;
    let refused = [
        (token(&server, "other", "viewer", "60s"), "403"),
        (format!("{}x", token(&server, "demo", "viewer", "60s")), "401"),
    ];
    for (token, status) in refused {
        let target = format!("/demo?jwt={token}");
        let error = Client::connect(address, NEWEST, &target).await.err().unwrap();
        assert!(error.contains(status), "{error}");
        if let Ok(client) = Client::connect(address, Way::Raw("moq-lite-05"), &target).await {
            client.ended().await;
        }
    }
    // A private live says nothing to strangers, not even that it is there.
    let error = Client::connect(address, NEWEST, "/private").await.err().unwrap();
    assert!(error.contains("401"), "{error}");

    let target = format!("/demo?jwt={}", token(&server, "demo", "viewer", "2s"));
    let brief = Client::connect(address, NEWEST, &target).await.unwrap();
    brief.ended().await;
    let error = Client::connect(address, NEWEST, &target).await.err().unwrap();
    assert!(error.contains("401"), "it has run out: {error}");

    let viewer = token(&server, "demo", "viewer", "60s");
    let client = Client::connect(address, NEWEST, &format!("/demo?jwt={viewer}")).await.unwrap();
    let _publisher = client.publish(0);
    client.ended().await;
    let other_host = token(&server, "demo", "host", "60s");
    let client = Client::connect(address, NEWEST, &format!("/demo?jwt={other_host}")).await.unwrap();
    let _publisher = client.publish(0);
    client.ended().await;
    // No token is in the log.
    assert!(!server.log().contains(&viewer));
}

/// Publishers pin the generated certificate by its hash: it has to be the same one after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_pinned_the_certificate_comes_in_after_a_crash() {
    let (server, address) = start();
    let hash = async || call("GET", &format!("http://{address}/certificate.sha256"), &[], "").await.text();
    let shown = async |server: &Server| {
        let target = format!("/demo?jwt={}", server.host_token);
        let client = Client::connect(address, NEWEST, &target).await.unwrap();
        let chain = client.quic.as_ref().unwrap().peer_identity().unwrap();
        chain.downcast::<Vec<CertificateDer<'_>>>().unwrap()
    };
    let (pinned, chain) = (hash().await, shown(&server).await);
    assert_eq!(pinned.len(), 64, "{pinned}");
    let server = server.crash_and_restart();
    assert_eq!(hash().await, pinned);
    assert_eq!(shown(&server).await, chain);
    assert!(!server.log().contains("kept MoQ certificate"), "{}", server.log());
}
