//! Clients that come through QUIC's handshake, and then say what is no MoQ.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod client;
#[allow(dead_code, reason = "its hosts are other tests'")]
mod house;

use std::time::Duration;

use client::{Client, NEWEST, PATIENCE, Viewer, Way, eventually};
use house::{Host, start, start_with};
use quinn::Connection;
use tokio::time::timeout;

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
            eventually("it is counted", async || edge.stats().sessions_refused == sent_away).await;
        }
        goes_on(&viewer).await;
    }
}
