//! The room from outside: what outlives a restart, and what a crowd costs its readers.

use serde_json::{Value, json};

use crate::{
    server::{Server, eventually},
    talk::{Answer, Channel, call, get, viewer_token},
};

#[tokio::test]
async fn who_is_banned_stays_out_over_a_restart() {
    let server = Server::start();
    let token = viewer_token(&server, "ann").await;
    let mut ann = Channel::open(&server, "demo", &token).await;
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let said = ann.ask("chat.send", json!({ "text": "buy my coins", "client_id": "c1" })).await;
    let again = ann.ask("chat.send", json!({ "text": "buy my coins", "client_id": "c1" })).await;
    assert_eq!(said["result"], again["result"], "a retry is the same message");
    let id = &said["result"]["message_id"];
    host.ask("chat.words", json!({ "add": ["scam"] })).await;
    host.ask("chat.moderate", json!({ "action": "ban", "message_id": id, "reason": "coins" })).await;
    assert_eq!(ann.closed().await, Some(4410));
    let gone = host.event("chat.deleted", |_| true).await;
    assert_eq!(gone["message_ids"], json!([id]));
    // Written down behind the room; the next thing that is written comes after it.
    let refused = async |server: &Server| {
        let mut ann = Channel::connect(server, "demo").await;
        ann.ask("hello", json!({ "token": token })).await
    };
    assert_eq!(refused(&server).await["code"], "banned");
    let (_, server) = server.stop_and_restart();
    let refused = refused(&server).await;
    assert_eq!(refused["code"], "banned");
    assert!(refused["message"].as_str().unwrap().contains("coins"));
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let log = host.ask("chat.log", json!({})).await;
    assert_eq!(log["result"]["standing"][0]["user_id"], "ann");
    let actions: Vec<_> =
        log["result"]["log"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["ban", "words"]);
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    assert_eq!(bob.ask("chat.send", json!({ "text": "a S\u{200b}CAM" })).await["code"], "rejected");
    host.ask("chat.moderate", json!({ "action": "restore", "user_id": "ann" })).await;
    assert_eq!(Channel::open(&server, "demo", &token).await.hello["type"], "reply");
}

#[tokio::test]
async fn a_crowd_that_talks_and_likes_is_told_in_few_messages() {
    let server = Server::start();
    let mut reader = Channel::open(&server, "demo", "").await;
    let mut crowd = Vec::new();
    for n in 0..20 {
        crowd.push(Channel::open(&server, "demo", &viewer_token(&server, &format!("p{n}")).await).await);
    }
    for one in &mut crowd {
        for _ in 0..30 {
            one.put("like", json!({ "kind": "heart", "count": 20 })).await;
        }
    }
    let likes = reader.event("likes", |event| event["total"] == 20 * 30 * 20).await;
    assert!(likes.get("offset").is_none());
    let told = reader.events.iter().filter(|event| event["type"] == "likes").count();
    assert!(told < 20, "likes are told as sums: {told}");
    // One who likes as fast as they can is slowed down by themselves, and the rest goes on.
    assert_eq!(crowd[0].ask("ping", json!({})).await["type"], "reply");
    let late = Channel::open(&server, "demo", "").await;
    assert_eq!(late.hello["result"]["room"]["likes"], 20 * 30 * 20);
    assert_eq!(late.hello["result"]["room"]["peak"].as_u64().unwrap(), 22);
}

/// Somebody at this address asks to be a guest, again where the live is only just beginning.
async fn guest(server: &Server, from: &str, name: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("x-forwarded-for", from)];
    let (url, body) = (server.url("/v1/lives/demo/guests"), json!({ "name": name }).to_string());
    let mut answer = None;
    eventually("it is decided", async || {
        let said = call("POST", &url, &headers, body.clone()).await;
        let decided = said.status != 503;
        answer = Some(said);
        decided
    })
    .await;
    answer.unwrap()
}

fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn problem(answer: &Answer) -> (u16, Value) {
    (answer.status, answer.json()["code"].clone())
}

#[tokio::test]
async fn a_guest_who_is_put_out_does_not_come_back_under_another_id() {
    let env = [
        ("HAUL__HTTP__TRUSTED_PROXIES", "127.0.0.1"),
        ("HAUL__CHANNEL__GUESTS_PER_ADDRESS", "6"),
        ("HAUL__CHANNEL__RESERVED_NAMES", "Lampenladen"),
    ];
    let server = Server::start_with(&env);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let host_name = host.hello["result"]["you"]["name"].as_str().unwrap().to_owned();
    let (home, neighbour) = ("2001:db8:0:7::1", "2001:db8:0:8::1");
    assert_eq!(problem(&guest(&server, home, &host_name).await), (403, json!("rejected")));
    assert_eq!(problem(&guest(&server, home, "LAMPENLADEN").await), (403, json!("rejected")));
    let mut troll = Channel::open(&server, "demo", &token(&guest(&server, home, "Trollo").await)).await;
    // Another device of the same network, and somebody of the shop's, whose address it is too.
    let spare = token(&guest(&server, "2001:db8:0:7:ffff::2", "Spare").await);
    let ann = viewer_token(&server, "ann").await;
    let mut at_home = Channel::open(&server, "demo", &ann).await;

    let said = troll.ask("chat.send", json!({ "text": "buy my coins" })).await;
    let id = &said["result"]["message_id"];
    let ban = json!({ "action": "ban", "message_id": id, "duration_ms": 3_600_000 });
    assert_eq!(host.ask("chat.moderate", ban).await["type"], "reply");
    assert_eq!(troll.closed().await, Some(4410));
    let refused = |answer: Answer| assert_eq!(problem(&answer), (403, json!("banned")));
    refused(guest(&server, home, "Trollo").await);
    assert_eq!(
        Channel::connect(&server, "demo").await.ask("hello", json!({ "token": spare })).await["code"],
        "banned"
    );
    assert_eq!(at_home.ask("chat.send", json!({ "text": "peace" })).await["type"], "reply");
    token(&guest(&server, neighbour, "Trollo").await);

    let server = server.crash_and_restart();
    refused(guest(&server, home, "Trollo").await);
    assert_eq!(Channel::open(&server, "demo", &ann).await.hello["type"], "reply");
    // So many come from an address, and no more.
    for n in 0..6 {
        token(&guest(&server, "192.0.2.7", &format!("Guest no {n}")).await);
    }
    let too_many = guest(&server, "192.0.2.7", "Seventh").await;
    assert_eq!(problem(&too_many), (429, json!("rate_limited")));
    assert!(!too_many.header("retry-after").is_empty());
    let metrics = get(&server, "/metrics").await.text();
    for counted in ["reason=\"banned\"} 1", "reason=\"rate_limited\"} 1"] {
        assert!(metrics.contains(&format!("haul_guests_refused_total{{{counted}")), "{counted}");
    }
}

#[tokio::test]
async fn what_is_open_and_in_sight_outlives_a_kill() {
    let server = Server::start();
    let ann = viewer_token(&server, "ann").await;
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut viewer = Channel::open(&server, "demo", &ann).await;
    let asked = viewer.ask("question.ask", json!({ "text": "Which sizes?" })).await;
    let question = &asked["result"]["question_id"];
    let said = viewer.ask("chat.send", json!({ "text": "look here" })).await;
    let opened = host
        .ask(
            "poll.open",
            json!({ "question": "Which one?", "options": ["a", "b"], "duration_ms": 3_600_000 }),
        )
        .await;
    let poll = &opened["result"]["poll_id"];
    viewer.ask("poll.vote", json!({ "poll_id": poll, "option": 1 })).await;
    host.ask("question.vote", json!({ "question_id": question })).await;
    // Votes are told and kept in one go, each second.
    viewer.event("poll.votes", |event| event["votes"] == json!([0, 1])).await;
    viewer.event("question.votes", |event| event["votes"] == 2).await;
    // What is written after them, and answered when it is, says that they are written.
    host.ask("announce", json!({ "text": "Tea at nine" })).await;
    host.ask("question.pick", json!({ "question_id": question })).await;
    host.ask("chat.pin", json!({ "message_id": said["result"]["message_id"] })).await;

    let server = server.crash_and_restart();
    let mut viewer = Channel::open(&server, "demo", &ann).await;
    let snapshot = &viewer.hello["result"];
    assert_eq!(snapshot["chat_pin"]["text"], "look here", "{snapshot}");
    let room = snapshot["room"].clone();
    assert_eq!(room["announcement"]["text"], "Tea at nine");
    assert_eq!(
        (&room["poll"]["id"], &room["poll"]["votes"], &room["poll"]["open"]),
        (poll, &json!([0, 1]), &json!(true))
    );
    let known = &room["questions"][0];
    assert_eq!((&known["id"], &known["state"], &known["votes"]), (question, &json!("picked"), &json!(2)));
    assert_eq!(room["yours"][0]["id"], *question);
    // Whoever has voted has one vote still.
    viewer.ask("poll.vote", json!({ "poll_id": poll, "option": 0 })).await;
    viewer.event("poll.votes", |event| event["votes"] == json!([1, 0])).await;
}
