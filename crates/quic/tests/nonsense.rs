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
