//! Many viewers who come at once, while the host's encoder knows nothing of keyframe requests: everybody gets the picture
//! from the cache, and the host is asked once.

#![allow(clippy::unwrap_used)]

mod client;

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use client::{Abilities, Client, PATIENCE, VIDEO, pump};
use haul_media::{Relay, throttle::JOIN_INTERVAL};
use haul_webrtc::{Edge, EdgeConfig};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

/// As many as their own side of the handshakes lets come within about a second.
const VIEWERS: usize = if cfg!(debug_assertions) { 100 } else { 500 };
/// Pictures between two keyframes: 4 s.
const GOP: u32 = 120;
const PICTURE_INTERVAL: Duration = Duration::from_nanos(33_333_333);
/// How far into its GOP the host is when they come.
const PICTURES_BEFORE: u32 = 30;

/// An encoder that makes a keyframe every four seconds, whatever anybody asks.
struct Host {
    client: Client,
    next: u32,
    next_at: Instant,
}

impl Host {
    fn turn(&mut self) {
        self.client.turn();
        while self.next_at <= Instant::now() {
            self.client.send_small_vp8(self.next, self.next.is_multiple_of(GOP));
            self.next += 1;
            self.next_at += PICTURE_INTERVAL;
        }
    }
}

struct Viewer {
    client: Client,
    /// When its offer was posted, when it was connected and which picture the host was about to send then.
    asked: Instant,
    connected: Option<(Instant, u32)>,
    /// The number of its first picture, and when it had it.
    first: Option<(u32, Instant)>,
}

impl Viewer {
    fn turn(&mut self, host: &Host) {
        self.client.turn();
        if self.connected.is_none() && self.client.connected {
            self.connected = Some((Instant::now(), host.next));
        }
        if self.first.is_none() {
            let number = self.client.received(VIDEO).map(client::picture_number).min();
            self.first = number.map(|number| (number, Instant::now()));
        }
        self.client.forget();
    }
}

#[tokio::test]
async fn a_herd_gets_the_picture_from_the_cache_and_asks_the_host_once() {
    let config = EdgeConfig { bind: vec![Ipv4Addr::LOCALHOST.into()], shards: 2, ..EdgeConfig::default() };
    let (edge, relay) = (Edge::start(config, Arc::new(|_| {})).unwrap(), Relay::new());
    let live: haul_model::LiveId = "demo".parse().unwrap();

    let (mut client, offer) = Client::publisher(&Abilities::default());
    let answer = edge.publish("host".parse().unwrap(), live.clone(), relay.clone(), &offer).await.unwrap();
    client.answer(&answer.sdp);
    pump(&mut [&mut client], "the broadcast has begun", |all| {
        all[0].connected && relay.broadcast().is_some()
    });
    let mut host = Host { client, next: 0, next_at: Instant::now() };

    let prepared: Vec<_> = (0..VIEWERS).map(|_| Client::viewer(&Abilities::default())).collect();
    while host.next < PICTURES_BEFORE {
        host.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    let began = Instant::now();
    let asked_before = requests(&host);
    let mut viewers = Vec::with_capacity(VIEWERS);
    for (at, (mut client, offer)) in prepared.into_iter().enumerate() {
        let session = format!("viewer-{at}").parse().unwrap();
        let asked = Instant::now();
        let answer = edge.watch(session, live.clone(), relay.clone(), &offer).await.unwrap();
        client.answer(&answer.sdp);
        viewers.push(Viewer { client, asked, connected: None, first: None });
        host.turn();
    }
    let posted = began.elapsed();
    while viewers.iter().any(|viewer| viewer.first.is_none()) {
        assert!(
            began.elapsed() < PATIENCE,
            "{} have no picture",
            viewers.iter().filter(|v| v.first.is_none()).count()
        );
        for viewer in &mut viewers {
            viewer.turn(&host);
        }
        host.turn();
    }
    let took = began.elapsed();

    let mut waits = Vec::new();
    for viewer in &viewers {
        let ((connected, next), (first, seen)) = (viewer.connected.unwrap(), viewer.first.unwrap());
        assert!(first < next, "its first picture, {first}, came only after it was connected, at {next}");
        assert!(first.is_multiple_of(GOP), "its first picture, {first}, is a keyframe");
        waits.push((seen - connected, seen - viewer.asked));
    }
    waits.sort();
    let asked = requests(&host) - asked_before;
    eprintln!(
        "{VIEWERS} viewers: offers answered in {posted:?}, all had a picture after {took:?}; from connected to a picture: \
         median {:?}, worst {:?}; {asked} keyframe requests",
        waits[VIEWERS / 2].0,
        waits[VIEWERS - 1].0
    );
    // A machine so slow that they come over more than two seconds may see another request in each further two.
    let most = 1 + (took.as_nanos() / JOIN_INTERVAL.as_nanos()) as usize;
    assert!(asked <= most, "{asked} keyframe requests in {took:?}");
    edge.drain().await;
}

/// How often the host was asked for a keyframe.
fn requests(host: &Host) -> usize {
    host.client.rtcp().iter().filter(|packet| packet.as_any().is::<PictureLossIndication>()).count()
}
