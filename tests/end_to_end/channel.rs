//! The channel's manners: who may come, what may be said, and what garbage gets.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    server::Server,
    talk::{Channel, get, moment, send, viewer_token, wall_ms},
};

#[tokio::test]
async fn people_talk_and_are_slowed_down() {
    let server = Server::start();
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let mut bob = Channel::open(&server, "demo", "").await;
    assert_eq!(bob.hello["result"]["you"], Value::Null);
    assert_eq!(bob.ask("chat.send", json!({ "text": "hi" })).await["code"], "unauthorized");
    let said = ann.ask("chat.send", json!({ "text": "  hello <b>you</b>\n " })).await;
    let heard = bob.event("chat.message", |_| true).await;
    assert_eq!(heard["text"], "hello <b>you</b>", "text, not markup");
    assert_eq!(heard["id"], said["result"]["message_id"]);
    assert_eq!(heard["name"], "ann");
    let mut refused = Value::Null;
    for _ in 0..10 {
        refused = ann.ask("chat.send", json!({ "text": "spam" })).await;
    }
    assert_eq!(refused["code"], "rate_limited");
    assert!(refused["retry_after_ms"].as_u64().unwrap() > 0);
    let late = Channel::open(&server, "demo", "").await;
    assert_eq!(late.hello["result"]["chat"][0]["text"], "hello <b>you</b>");
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed() {
    let server = Server::start();
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let bob = Channel::open(&server, "demo", "").await;
    let position = json!({ "epoch": bob.hello["result"]["epoch"], "offset": bob.hello["result"]["offset"] });
    drop(bob);
    for text in ["one", "two"] {
        ann.ask("chat.send", json!({ "text": text })).await;
    }
    let mut bob = Channel::connect(&server, "demo").await;
    let hello = bob.ask("hello", json!({ "resume": position })).await;
    assert_eq!(hello["result"]["resumed"]["recovered"], true);
    assert_eq!(hello["result"]["chat"], json!([]));
    assert_eq!(bob.event("chat.message", |_| true).await["text"], "one");
    assert_eq!(bob.event("chat.message", |_| true).await["text"], "two");

    let mut lost = Channel::connect(&server, "demo").await;
    let unknown = json!({ "epoch": "before", "offset": 3 });
    let hello = lost.ask("hello", json!({ "resume": unknown })).await;
    assert_eq!(hello["result"]["resumed"]["recovered"], false);
    assert_eq!(hello["result"]["chat"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn garbage_gets_an_error_and_harms_nobody() {
    let server = Server::start();
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let mut vandal = Channel::open(&server, "demo", "").await;
    for garbage in ["", "{", "[]", "null", r#"{"id":"x","type":"ping"}"#, "\u{0}\u{1}"] {
        vandal.raw(Message::text(garbage)).await;
        let error = vandal.read().await.unwrap();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("bad_request")), "{garbage}");
    }
    assert_eq!(vandal.ask("explode", json!({})).await["code"], "unknown_type");
    assert_eq!(vandal.ask("hold", json!({ "sale_id": "a b", "key": "k" })).await["code"], "bad_request");
    assert_eq!(vandal.ask("hold", json!({ "sale_id": "s", "key": "\0" })).await["code"], "bad_request");
    vandal.raw(Message::binary(vec![0, 159, 146, 150])).await;
    assert_eq!(vandal.read().await.unwrap()["code"], "bad_request");
    vandal.raw(Message::text("x".repeat(1 << 20))).await;
    assert_eq!(vandal.closed().await, Some(1009));

    let mut flood = Channel::open(&server, "demo", "").await;
    for _ in 0..10_000 {
        flood.raw(Message::text(r#"{"id":1,"type":"ping"}"#)).await;
    }
    let mut refusals = 0;
    while let Some(message) = flood.read().await {
        refusals += u32::from(message["code"] == "rate_limited");
    }
    assert_eq!(flood.hello["closed"], 4429);
    assert!((1..100).contains(&refusals), "refusals are merged: {refusals}");
    assert_eq!(ann.ask("ping", json!({})).await["type"], "reply");
    let metrics = get(&server, "/metrics").await.text();
    let refused = metrics.lines().find_map(|line| line.strip_prefix("haul_channel_refused_total ")).unwrap();
    assert!(refused.parse::<u64>().unwrap() >= 1_000, "{refused}");
}

#[tokio::test]
async fn a_stranger_is_told_why() {
    let server = Server::start();
    let closed = async |live: &str, hello: Value| {
        let mut channel = Channel::connect(&server, live).await;
        channel.put("hello", hello).await;
        channel.closed().await
    };
    assert_eq!(closed("demo", json!({ "token": "nonsense" })).await, Some(4401));
    assert_eq!(closed("nowhere", json!({})).await, Some(4401), "which private lives there are is not told");
    assert_eq!(closed("other", json!({ "token": server.host_token })).await, Some(4403));
    let mut impatient = Channel::connect(&server, "demo").await;
    impatient.put("ping", json!({})).await;
    assert_eq!(impatient.closed().await, Some(4408));
    assert!(!server.log().contains(&server.host_token), "tokens never reach the log");
}

#[tokio::test]
async fn a_private_live_is_for_those_with_a_token() {
    let server = Server::start();
    let host = &server.host_token;
    let body = json!({ "title": "For friends", "public": false });
    assert_eq!(send(&server, "PUT", "/v1/lives/demo", host, body.clone()).await.status, 200);
    assert_eq!(send(&server, "PUT", "/v1/lives/demo", "", body).await.status, 401);
    assert_eq!(get(&server, "/v1/lives/demo").await.status, 401);
    let mut stranger = Channel::connect(&server, "demo").await;
    stranger.put("hello", json!({})).await;
    assert_eq!(stranger.closed().await, Some(4401));
    let friend = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    assert_eq!(friend.hello["result"]["live"]["title"], "For friends");
}

#[tokio::test]
async fn a_channel_ends_with_its_token() {
    let server = Server::start();
    // Tokens end at a whole second: this one within one or two.
    let body = json!({ "sub": "ann", "role": "viewer", "name": "ann", "ttl_seconds": 2 });
    let minted = send(&server, "POST", "/v1/lives/demo/tokens", &server.host_token, body).await.json();
    let mut ann = Channel::open(&server, "demo", minted["token"].as_str().unwrap()).await;
    assert_eq!(ann.hello["result"]["you"]["name"], "ann");
    let mut stranger = Channel::open(&server, "demo", "").await;
    assert_eq!(ann.closed().await, Some(4401));
    assert!(wall_ms() >= moment(&minted["expires_at"]) / 1000 * 1000, "not before");
    assert_eq!(stranger.ask("ping", json!({})).await["type"], "reply", "who has no token has none to expire");
}

#[tokio::test]
async fn only_what_happens_in_the_room_is_numbered() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let viewers = host.event("viewers.changed", |_| true).await;
    assert!(viewers["epoch"].is_string() && viewers.get("offset").is_none(), "{viewers}");
    ann.ask("chat.send", json!({ "text": "hi" })).await;
    let said = host.event("chat.message", |_| true).await;
    assert_eq!(said["offset"].as_u64(), host.hello["result"]["offset"].as_u64().map(|before| before + 1));
}

#[tokio::test]
async fn bytes_are_refused_like_any_other_nonsense() {
    let server = Server::start();
    let mut vandal = Channel::open(&server, "demo", "").await;
    for _ in 0..6_000 {
        vandal.raw(Message::binary(vec![0; 8])).await;
    }
    let mut errors = 0;
    while let Some(message) = vandal.read().await {
        errors += u32::from(message["type"] == "error");
    }
    assert_eq!(vandal.hello["closed"], 4429);
    assert!((1..300).contains(&errors), "refusals are merged: {errors}");
}

#[tokio::test]
async fn the_viewers_are_counted() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let ann = Channel::open(&server, "demo", "").await;
    let bob = Channel::open(&server, "demo", "").await;
    host.event("viewers.changed", |event| event["viewers"] == 2).await;
    drop(ann);
    host.event("viewers.changed", |event| event["viewers"] == 1).await;
    drop(bob);
    let zero = host.event("viewers.changed", |event| event["viewers"] == 0);
    tokio::time::timeout(Duration::from_secs(10), zero).await.unwrap();
}
