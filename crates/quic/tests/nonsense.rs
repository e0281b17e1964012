//! Clients that say what is no MoQ, or more than anybody has to.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod client;
#[allow(dead_code, reason = "its hosts are other tests'")]
mod house;

use std::time::Duration;

use client::{Client, NEWEST, PATIENCE, Viewer, Way, eventually, media_track, picture, sealed, tell};
use haul_model::Kind;
use house::{Host, start, start_with};
use moq_net::{Timestamp, origin::Route};
use quinn::Connection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Numbers of eight bytes that promise more than anybody may send, what is cut in the middle of a number, noise, and nothing.
fn nonsense() -> [Vec<u8>; 5] {
    let mut seed = 7_u32;
    let noise = (0..2_000).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    [vec![0xFF; 64], vec![0x2F, 0x00], vec![0xC0, 0, 0], noise.collect(), vec![]]
}

/// Says it on streams of both kinds. The first of each ends, and the second is left as it is.
async fn say(connection: &Connection, words: &[u8]) {
    for ends in [true, false] {
        let Ok(uni) = connection.open_uni().await else { return };
        let Ok((bi, _)) = connection.open_bi().await else { return };
        for mut stream in [uni, bi] {
            let _ = stream.write_all(words).await;
            if ends {
                let _ = stream.finish();
            } else {
                // It would be reset when it is dropped.
                std::mem::forget(stream);
            }
        }
    }
}

async fn goes_on(viewer: &Viewer) {
    let pictures = viewer.pictures();
    eventually("pictures for others", async || viewer.pictures() > pictures + 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_with_nonsense_is_sent_away_and_counted() {
    let (edge, door) = start_with(|limits| limits.handshake = Duration::from_millis(500)).await;
    let _host = Host::start(&door, 0);
    let client = Client::connect(edge.address(), NEWEST, "/demo?jwt=viewer").await.unwrap();
    let viewer = client.watch().await;
    let mut sent_away = 0;
    for alpn in ["h3", "moq-lite-06", "moq-lite-03", "moql", "moqt-22", "moq-00"] {
        for words in nonsense() {
            let (_endpoint, connection) = client::quic(edge.address(), alpn).await;
            say(&connection, &words).await;
            let ended = timeout(PATIENCE, connection.closed()).await;
            assert!(ended.is_ok(), "{alpn} lets {} bytes of nonsense stay", words.len());
            sent_away += 1;
        }
    }
    eventually("they are counted, each once", async || {
        let stats = edge.stats();
        stats.handshakes_failed + stats.sessions_refused == sent_away && stats.connections == 1
    })
    .await;
    goes_on(&viewer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_who_goes_over_to_nonsense_harms_nobody() {
    let (edge, door) = start().await;
    let _host = Host::start(&door, 0);
    let client = Client::connect(edge.address(), NEWEST, "/demo?jwt=viewer").await.unwrap();
    let viewer = client.watch().await;
    for way in [NEWEST, Way::Raw("moq-lite-06"), Way::Raw("moqt-22"), Way::Raw("moq-00")] {
        let other = Client::connect(edge.address(), way, "/demo?jwt=viewer").await.unwrap();
        other.watch().await;
        let connection = other.quic.clone().unwrap();
        for words in nonsense() {
            // Where it is too much, the session has ended.
            let _ = timeout(Duration::from_secs(1), say(&connection, &words)).await;
        }
        goes_on(&viewer).await;
        drop(other);
        connection.close(0_u32.into(), b"");
        eventually("they are gone", async || edge.stats().connections == 1).await;
    }
    goes_on(&viewer).await;
    assert_eq!(edge.stats().viewers, 1);
}

/// MoQ would keep a message of 64 MiB until all of it has come, and on each of a client's streams one. Who says more than
/// anybody has to is sent away long before, whether they watch or publish.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_never_ends_is_not_kept() {
    let (edge, door) = start().await;
    let _host = Host::start(&door, 0);
    let client = Client::connect(edge.address(), NEWEST, "/demo?jwt=viewer").await.unwrap();
    let viewer = client.watch().await;
    let mut sent_away = 0;
    // In IETF's versions, lengths have two bytes. Streams that go one way are not read at all where nothing was asked for.
    for (alpn, target, is_one_way) in [
        ("moq-lite-06", "/demo?jwt=viewer", false),
        ("moq-lite-06", "/demo?jwt=viewer", true),
        ("moq-lite-05", "/demo?jwt=viewer", false),
        ("moq-lite-05", "/demo?jwt=host", false),
    ] {
        let other = Client::connect(edge.address(), Way::Raw(alpn), target).await.unwrap();
        let connection = other.quic.clone().unwrap();
        let mut stream = match is_one_way {
            true => connection.open_uni().await.unwrap(),
            false => connection.open_bi().await.unwrap().0,
        };
        // A group, or announcements asked for, in as long a message as MoQ takes for possible.
        let mut written = stream.write_all(&[u8::from(!is_one_way), 0x83, 0xFF, 0xFF, 0xFF]).await;
        let (mut said, words) = (0, [0; 64 << 10]);
        while written.is_ok() && said < 16 << 20 {
            written = timeout(PATIENCE, stream.write_all(&words)).await.expect("it is read, or refused");
            said += words.len();
        }
        assert!(said < 4 << 20, "{said} bytes were taken, {alpn} {target}");
        if !is_one_way {
            let closed = timeout(PATIENCE, connection.closed()).await;
            assert!(closed.is_ok(), "they are sent away, {alpn} {target}");
            sent_away += 1;
            // Where it comes before the session has begun, as a handshake that failed.
            eventually(&format!("it is counted, {alpn} {target}"), async || {
                let stats = edge.stats();
                stats.handshakes_failed + stats.sessions_refused == sent_away
            })
            .await;
        }
        goes_on(&viewer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tracks_are_four_and_a_group_without_end_is_left_for_the_next() {
    let (edge, door) = start().await;
    let taken = door.listen();
    let client = Client::connect(edge.address(), NEWEST, "/demo?jwt=host").await.unwrap();
    let broadcast = client.broadcast("");
    let many: Vec<_> = (0..1000).map(|i| format!(r#""t{i:03}":{{"codec":"vp8"}}"#)).collect();
    let _told = tell(&broadcast, &format!(r#"{{"video":{{"renditions":{{{}}}}}}}"#, many.join(",")));
    let tracks: Vec<_> = (0..1000).map(|i| media_track(&broadcast, &format!("t{i:03}"))).collect();
    broadcast.announce(Route::default()).unwrap();
    let mut endless = Vec::new();
    let mut number = 0_u64;
    eventually("pictures of the groups after those without end", async || {
        for track in &tracks[996..] {
            if number.is_multiple_of(20) {
                endless.push(track.append_group().unwrap());
            }
        }
        let from = endless.len() - 4;
        for group in &mut endless[from..] {
            let us = number * 20_000;
            let frame = sealed(us, &picture(number as u32, number.is_multiple_of(20)));
            let _ = group.write_frame(Timestamp::from_micros(us).unwrap(), frame);
        }
        number += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
        taken.stamps().last().is_some_and(|stamp| *stamp > 60)
    })
    .await;
    assert_eq!(edge.stats().ingest_tracks_refused, 996);
    assert_eq!(door.relay().broadcast().unwrap().layer_names.len(), 4);
    assert!(edge.stats().subscriptions <= 6, "{:?}", edge.stats());
}

/// A publisher has one broadcast taken. Who announces a thousand is sent away long before the last, and the next host is taken.
#[tokio::test(flavor = "multi_thread")]
async fn who_announces_a_thousand_broadcasts_is_sent_away() {
    let (edge, door) = start().await;
    let viewer = Client::connect(edge.address(), NEWEST, "/demo?jwt=viewer").await.unwrap();
    // Of each family of versions one, since they announce in ways of their own.
    let ways = [NEWEST, Way::Raw("moqt-22"), Way::WebTransport(&["moq-00"]), Way::Socket(moq_net::ALPNS)];
    for (way, sent_away) in ways.into_iter().zip(1..) {
        let taken = door.listen();
        let client = Client::connect(edge.address(), way, "/demo?jwt=host").await.unwrap();
        let _first = client.publish(0);
        eventually("pictures", async || taken.count(Kind::Video) > 5).await;
        let announce = |number: u32| {
            let broadcast = client.broadcast(&format!("another/{number:04}"));
            broadcast.announce(Route::default()).unwrap();
            broadcast
        };
        let before = edge.stats().broadcasts_refused;
        // As many as are nobody's harm.
        let few: Vec<_> = (0..30).map(announce).collect();
        eventually("they are counted", async || edge.stats().broadcasts_refused == before + 30).await;
        let pictures = taken.count(Kind::Video);
        eventually("the first goes on", async || taken.count(Kind::Video) > pictures + 20).await;
        let many: Vec<_> = (30..1_000).map(announce).collect();
        client.ended().await;
        eventually(&format!("it is counted, {way:?}"), async || edge.stats().sessions_refused == sent_away)
            .await;
        let refused = edge.stats().broadcasts_refused - before;
        assert!((60..100).contains(&refused), "{refused} counted, {way:?}");
        eventually("the live has no host", async || door.relay().broadcast().is_none()).await;
        drop((few, many));
    }
    assert_eq!((edge.stats().publishers, edge.stats().viewers), (0, 1));
    let _host = Host::start(&door, 0);
    let viewer = viewer.watch().await;
    eventually("pictures of who comes next", async || viewer.pictures() > 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_harm_nobody() {
    let (edge, door) = start_with(|limits| limits.handshake = Duration::from_millis(300)).await;
    let _host = Host::start(&door, 0);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut seed = 7_u32;
    for length in (0..1400).step_by(7) {
        let garbage: Vec<u8> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        udp.send_to(&garbage, edge.address()).await.unwrap();
    }
    // A QUIC long header that promises more than there is, in full size and cut.
    let mut initial = vec![0xC3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0xD0];
    initial.resize(1200, 0);
    for length in [1200, 1199, 40, 19, 7, 1] {
        udp.send_to(&initial[..length], edge.address()).await.unwrap();
    }
    let mut silent = TcpStream::connect(edge.address()).await.unwrap();
    let mut rude = TcpStream::connect(edge.address()).await.unwrap();
    rude.write_all(b"\x16\x03\x01 no TLS, and no HTTP either").await.unwrap();
    for stream in [&mut silent, &mut rude] {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    eventually("they are counted and gone", async || {
        let stats = edge.stats();
        stats.handshakes_failed >= 2 && stats.connections == 0
    })
    .await;
    let client = Client::connect(edge.address(), NEWEST, "/demo?jwt=viewer").await.unwrap();
    let viewer = client.watch().await;
    eventually("pictures for others", async || viewer.pictures() > 3).await;
}
