//! A viewer chooses how much of the picture is sent.

use serde_json::{Value, json};

use crate::{
    rtc_client::{Peer, Publisher},
    server::{Server, eventually},
    talk::{Channel, get, viewer_token},
};

/// The id of a media session, as its owner knows it.
fn session(peer: &Peer) -> &str {
    peer.resource.rsplit('/').next().unwrap()
}

async fn set(channel: &mut Channel, session: &str, layer: &str) -> Value {
    channel.ask("quality.set", json!({ "session": session, "layer": layer })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_chooses_a_layer_and_hears_what_comes_of_it() {
    let server = Server::start();
    let _host = Publisher::start(&server, 0).await;
    let (ann, bob) = (viewer_token(&server, "ann").await, viewer_token(&server, "bob").await);
    let mut channel = Channel::open(&server, "demo", &ann).await;
    let viewer = Peer::watch(&server, &ann).await;
    eventually("pictures", async || viewer.pictures() > 10).await;

    let reply = set(&mut channel, session(&viewer), "0").await;
    assert_eq!(reply["type"], "reply", "{reply}");
    let quality = &reply["result"]["quality"];
    assert_eq!(
        (&quality["session"], &quality["pictures"], &quality["choice"], &quality["reason"]),
        (&json!(session(&viewer)), &json!("all"), &json!("0"), &json!("asked")),
        "{reply}"
    );
    assert_eq!(quality["layers"][0]["name"], "0");
    assert!(quality["layers"][0]["bitrate_bps"].as_u64().unwrap() > 500_000, "{reply}");

    let reply = set(&mut channel, session(&viewer), "auto").await;
    assert_eq!(
        (&reply["result"]["quality"]["choice"], &reply["result"]["quality"]["reason"]),
        (&json!("auto"), &json!("best"))
    );
    let event = channel.event("quality.changed", |event| event["quality"]["choice"] == "auto").await;
    assert_eq!(event["quality"]["session"], session(&viewer));
    assert_eq!(event.get("offset"), None, "only the latest counts");

    // What can't be done is said, and changes nothing.
    let no_layer = set(&mut channel, session(&viewer), "h").await;
    assert_eq!((&no_layer["type"], &no_layer["code"]), (&json!("error"), &json!("not_found")), "{no_layer}");
    assert!(no_layer["message"].as_str().unwrap().contains('0'), "it says which there are: {no_layer}");
    assert_eq!(set(&mut channel, session(&viewer), "").await["code"], "bad_request");
    assert_eq!(set(&mut channel, session(&viewer), &"x".repeat(256)).await["code"], "bad_request");
    assert_eq!(set(&mut channel, "no-such-session", "auto").await["code"], "not_found");

    // Somebody else's session is answered as one that there is not, and tells them nothing.
    let mut other = Channel::open(&server, "demo", &bob).await;
    let refused = set(&mut other, session(&viewer), "0").await;
    assert_eq!(refused["code"], "not_found", "{refused}");
    let unknown = set(&mut other, "no-such-session", "0").await;
    assert_eq!(refused["message"], unknown["message"]);
    let mut stranger = Channel::open(&server, "demo", "").await;
    assert_eq!(set(&mut stranger, session(&viewer), "0").await["code"], "not_found");
    let reply = set(&mut channel, session(&viewer), "0").await;
    assert_eq!(reply["result"]["quality"]["choice"], "0", "it is still theirs");
    channel.event("quality.changed", |event| event["quality"]["choice"] == "0").await;
    for eavesdropper in [&mut other, &mut stranger] {
        eavesdropper.ask("ping", json!({})).await;
        assert!(eavesdropper.events.iter().all(|event| event["type"] != "quality.changed"));
    }

    assert_eq!(viewer.delete(&server).await, 200);
    assert_eq!(set(&mut channel, session(&viewer), "auto").await["code"], "not_found");
    let metrics = get(&server, "/metrics").await.text();
    assert!(metrics.contains("haul_layers_up_total"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_without_a_name_chooses_by_their_sessions_id() {
    let server = Server::start();
    let _host = Publisher::start(&server, 0).await;
    let viewer = Peer::watch(&server, "").await;
    eventually("pictures", async || viewer.pictures() > 10).await;
    let mut channel = Channel::open(&server, "demo", "").await;
    let reply = set(&mut channel, session(&viewer), "0").await;
    assert_eq!(reply["result"]["quality"]["choice"], "0", "{reply}");
}
