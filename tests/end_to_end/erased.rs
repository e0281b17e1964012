//! Whoever is erased is told of by no room: not where they were, not on another server, not by whoever takes over, and not after
//! a restart.

use serde_json::{Value, json};

use crate::{
    server::{Redis, Server, command, eventually},
    servers::{Ground, SECRET, metric, resume},
    talk::{Channel, send, viewer_token},
};

fn backend(server: &Server) -> String {
    let args = ["token", "--live", "*", "--role", "host", "--sub", "backend"];
    let output = command(server.data.path()).env("HAUL__AUTH__SECRET", SECRET).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn who_is_erased_on_one_server_is_forgotten_by_the_rooms_of_all() {
    let mut ground = Ground::new().await;
    let (one, two) = (ground.start(), ground.start());
    let token = viewer_token(&one, "ann").await;
    let mut ann = Channel::open(&one, "demo", &token).await;
    let wrote = ann.ask("thread.send", json!({ "text": "I live at 1 Lamp Street", "client_id": "t1" })).await;
    assert_eq!(wrote["type"], "reply", "{wrote}");
    let args = ["token", "--live", "*", "--role", "host", "--sub", "backend"];
    let output = command(two.data.path()).env("HAUL__AUTH__SECRET", SECRET).args(args).output().unwrap();
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    eventually("the thread is written down", async || {
        let export = send(&two, "GET", "/v1/buyers/ann/export", &key, Value::Null).await.json();
        !export["threads"][0].is_null()
    })
    .await;
    let thread = async || {
        let mut again = Channel::open(&one, "demo", &token).await;
        again.ask("thread.read", json!({})).await["result"].take()
    };
    assert!(thread().await.to_string().contains("Lamp Street"));
    assert_eq!(send(&two, "DELETE", "/v1/buyers/ann", &key, Value::Null).await.status, 204);
    let left = thread().await;
    assert!(!left.to_string().contains("Lamp Street"), "{left}");
    let export = send(&two, "GET", "/v1/buyers/ann/export", &key, Value::Null).await.json();
    assert_eq!(export["threads"], json!([]), "nor written down again");
}

/// All that a room tells who comes, and who comes back and has missed everything, on this server.
async fn told(server: &Server, host_token: &str) -> String {
    let newcomer = Channel::open(server, "demo", host_token).await;
    let hello = newcomer.hello["result"].clone();
    let begin = (hello["epoch"].as_str().unwrap().to_owned(), 0);
    let mut back = resume(server, host_token, begin).await;
    let mut told = format!("{hello}{}", back.hello);
    // The history comes before the answer to what is asked after it.
    let mark = back.ask("thread.read", json!({ "user_id": "ann" })).await;
    told += &format!("{mark}");
    for event in std::mem::take(&mut back.events) {
        told += &event.to_string();
    }
    told
}

/// In how many keys of what servers share there stands this.
fn kept(redis: &Redis, word: &str) -> u64 {
    let script = format!(
        "local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do local t = redis.call('TYPE', k).ok local v = {{}} \
         if t == 'list' then v = redis.call('LRANGE', k, 0, -1) elseif t == 'stream' then v = redis.call('XRANGE', k, '-', '+') end \
         if string.find(cjson.encode(v), '{word}', 1, true) then n = n + 1 end end return n"
    );
    let answer = redis.ask(&format!("EVAL \"{script}\" 0"));
    answer.strip_prefix(':').unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}

/// Ann says, asks and writes privately, there; Bob is heard as well, and the host shows things.
async fn a_room_with_ann(there: &Server) {
    let mut host = Channel::open(there, "demo", &there.host_token).await;
    let mut ann = Channel::open(there, "demo", &viewer_token(there, "ann").await).await;
    let mut bob = Channel::open(there, "demo", &viewer_token(there, "bob").await).await;
    let said = ann.insist("chat.send", json!({ "text": "HERWORDS one", "client_id": "a" })).await;
    let id = &said["result"]["message_id"];
    assert!(id.is_string(), "{said}");
    bob.insist("chat.send", json!({ "text": "bob answers", "client_id": "b", "reply_to": id })).await;
    host.insist("chat.pin", json!({ "message_id": id })).await;
    ann.insist("question.ask", json!({ "text": "HERWORDS two?", "client_id": "c" })).await;
    ann.insist("thread.send", json!({ "text": "HERWORDS three", "client_id": "d" })).await;
    bob.insist("question.ask", json!({ "text": "which sizes, asks bob?", "client_id": "e" })).await;
    host.insist("announce", json!({ "text": "tea at nine" })).await;
    let poll = json!({ "question": "which cup?", "options": ["a", "b"], "duration_ms": 600_000 });
    let poll = host.insist("poll.open", poll).await["result"]["poll_id"].clone();
    assert!(poll.is_string());
    for who in [&mut ann, &mut bob] {
        who.insist("poll.vote", json!({ "poll_id": poll, "option": 1 })).await;
    }
}

/// Nothing of hers, and all of the others'.
fn is_without_ann(told: &str) -> bool {
    for others in ["bob answers", "which sizes, asks bob?", "tea at nine", "which cup?", "\"votes\":[0,2]"] {
        assert!(told.contains(others), "{others}: {told}");
    }
    !told.contains("HERWORDS")
}

/// The one that owns the demo's room, and the other.
async fn owner_first(one: Server, two: Server) -> (Server, Server) {
    eventually("one of them owns the room", async || {
        metric(&one, "haul_rooms_owned").await + metric(&two, "haul_rooms_owned").await >= 1
    })
    .await;
    if metric(&one, "haul_rooms_owned").await >= 1 { (one, two) } else { (two, one) }
}

async fn erase(server: &Server, key: &str) {
    // The room's owner may have just died: then it is said to ask again.
    eventually("ann is erased", async || {
        let answer = send(server, "DELETE", "/v1/buyers/ann", key, Value::Null).await;
        assert!([204, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        answer.status == 204
    })
    .await;
}

#[tokio::test]
async fn who_is_erased_elsewhere_is_forgotten_by_the_owner_by_what_it_left_and_by_its_heir() {
    let mut ground = Ground::new().await;
    let (one, two) = (ground.start(), ground.start());
    let (mut owner, other) = owner_first(one, two).await;
    let (key, host) = (backend(&owner), owner.host_token.clone());
    // By way of the other, so that it is in what was asked, too.
    a_room_with_ann(&other).await;
    assert!(told(&owner, &host).await.contains("HERWORDS"));
    assert!(kept(&ground.redis, "HERWORDS") > 0);

    let mut reader = Channel::open(&other, "demo", &viewer_token(&other, "cid").await).await;
    erase(&other, &key).await;
    for server in [&owner, &other] {
        let told = told(server, &host).await;
        assert!(is_without_ann(&told), "{told}");
    }
    eventually("nothing of hers is left to heirs", async || kept(&ground.redis, "HERWORDS") == 0).await;
    assert!(kept(&ground.redis, "bob answers") > 0, "of the others, all is");
    let said = reader.insist("chat.send", json!({ "text": "still here", "client_id": "s" })).await;
    assert_eq!(said["type"], "reply", "nobody else is put out: {said}");
    assert_eq!(metric(&other, "haul_room_resets_total").await, 0);

    owner.kill();
    eventually("the other owns the room", async || metric(&other, "haul_rooms_owned").await >= 1).await;
    let told = told(&other, &host).await;
    assert!(is_without_ann(&told), "{told}");
}

#[tokio::test]
async fn who_is_erased_when_the_owner_has_just_died_is_forgotten_by_its_heir() {
    let mut ground = Ground::new().await;
    let (one, two) = (ground.start(), ground.start());
    let (mut owner, other) = owner_first(one, two).await;
    let (key, host) = (backend(&owner), owner.host_token.clone());
    // Somebody there, so that the other knows the room.
    let _reader = Channel::open(&other, "demo", &viewer_token(&other, "cid").await).await;
    a_room_with_ann(&owner).await;
    owner.kill();
    erase(&other, &key).await;
    let told = told(&other, &host).await;
    assert!(is_without_ann(&told), "{told}");
    eventually("nothing of hers is left to heirs", async || kept(&ground.redis, "HERWORDS") == 0).await;
}

#[tokio::test]
async fn a_room_that_nobody_is_in_yet_after_a_restart_forgets_too() {
    let server = Server::start_with(&[("HAUL__AUTH__SECRET", SECRET)]);
    let key = backend(&server);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    let name = ann.hello["result"]["you"]["name"].as_str().unwrap().to_owned();
    let said = ann.insist("chat.send", json!({ "text": "HERWORDS one", "client_id": "a" })).await;
    let answer = json!({ "text": "bob answers", "client_id": "b", "reply_to": said["result"]["message_id"] });
    let answered = bob.insist("chat.send", answer).await;
    host.insist("chat.pin", json!({ "message_id": answered["result"]["message_id"] })).await;
    let giveaway = json!({ "title": "A lamp", "winners": 1, "duration_ms": 600_000, "claim_ms": 600_000 });
    let giveaway = host.insist("giveaway.start", giveaway).await["result"]["giveaway_id"].clone();
    ann.insist("giveaway.enter", json!({ "giveaway_id": giveaway })).await;
    drop((host, ann, bob));
    let (_, server) = server.stop_and_restart();

    assert_eq!(send(&server, "DELETE", "/v1/buyers/ann", &key, Value::Null).await.status, 204);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let pin = &host.hello["result"]["chat_pin"];
    let pin = if pin.is_null() { &host.hello["result"]["room"]["chat_pin"] } else { pin };
    assert_eq!(
        (&pin["text"], &pin["reply_to"]["text"], &pin["reply_to"]["name"]),
        (&json!("bob answers"), &json!(""), &json!("")),
        "{}",
        host.hello
    );
    let drawn = host.insist("giveaway.draw", json!({ "giveaway_id": giveaway })).await;
    assert_eq!(drawn["type"], "reply", "{drawn}");
    let told = host
        .event("giveaway.changed", |event| !event["giveaway"]["winners"].as_array().unwrap().is_empty())
        .await;
    assert_eq!(told["giveaway"]["winners"][0]["name"], "", "not {name}: {told}");
}
