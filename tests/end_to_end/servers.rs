//! Two servers with one room: what is said on one is heard on the other, and outlives either.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::{
    server::{Redis, Server, eventually},
    talk::{Channel, get, send, viewer_token},
};

pub(crate) const SECRET: &str = "a secret that both of the servers know";

/// What both servers stand on.
pub(crate) struct Ground {
    pub(crate) redis: Redis,
    /// A Postgres database of this test's own, where there is a server for it; else the first server's file.
    ledger: Option<String>,
    first: Option<String>,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let ledger = match std::env::var("HAUL_TEST_POSTGRES_URL") {
            Err(_) => None,
            Ok(url) => {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("haul_servers_{}_{number}", std::process::id());
                let mut postgres = PgConnection::connect(&url).await.unwrap();
                let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
                sqlx::raw_sql(create).execute(&mut postgres).await.unwrap();
                let (server, _) = url.rsplit_once('/').unwrap();
                Some(format!("{server}/{name}"))
            }
        };
        Self { redis: Redis::start(), ledger, first: None }
    }

    pub(crate) fn start(&mut self) -> Server {
        let redis = self.redis.url();
        let mut env = vec![
            ("HAUL__STORE__GATE_URL", &*redis),
            ("HAUL__STORE__SHARE_ROOMS", "true"),
            ("HAUL__AUTH__SECRET", SECRET),
        ];
        if let Some(ledger) = self.ledger.as_ref().or(self.first.as_ref()) {
            env.push(("HAUL__STORE__LEDGER_URL", ledger));
        }
        let server = Server::start_with(&env);
        self.first.get_or_insert(server.ledger_url());
        server
    }
}

/// Where somebody stands: the epoch, and the place of the last event that they have read.
pub(crate) fn position(channel: &Channel) -> (String, u64) {
    let hello = &channel.hello["result"];
    (hello["epoch"].as_str().unwrap().to_owned(), hello["offset"].as_u64().unwrap())
}

/// The numbered events after the hello, up to the one of this kind, as they came: place, kind, and what it says.
async fn numbered(channel: &mut Channel, kind: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut read: Vec<Value> = std::mem::take(&mut channel.events);
    while !read.iter().any(|event| event["type"] == kind && wanted(event)) {
        read.push(channel.read().await.expect("the channel was closed"));
    }
    read.retain(|event| event["offset"].is_u64());
    read
}

pub(crate) async fn metric(server: &Server, name: &str) -> u64 {
    let metrics = get(server, "/metrics").await.text();
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

pub(crate) async fn resume(server: &Server, token: &str, (epoch, offset): (String, u64)) -> Channel {
    let mut channel = Channel::connect(server, "demo").await;
    let position = json!({ "epoch": epoch, "offset": offset });
    channel.hello = channel.ask("hello", json!({ "token": token, "resume": position })).await;
    channel
}

fn follows_without_a_gap(events: &[Value], epoch: &str, after: u64) -> u64 {
    let mut last = after;
    for event in events {
        assert_eq!(event["epoch"], epoch);
        assert_eq!(event["offset"].as_u64(), Some(last + 1), "no gap: {event}");
        last += 1;
    }
    last
}

#[tokio::test]
async fn two_servers_carry_one_room_and_a_death_in_the_middle_of_a_sale_costs_nothing() {
    let mut ground = Ground::new().await;
    let one = ground.start();
    let two = ground.start();
    eventually("both have their part", async || {
        metric(&one, "haul_rooms_owned").await + metric(&two, "haul_rooms_owned").await == 1
            && metric(&one, "haul_rooms_followed").await + metric(&two, "haul_rooms_followed").await == 1
    })
    .await;
    let (one, two) = if metric(&one, "haul_rooms_owned").await == 1 { (one, two) } else { (two, one) };
    let ann_token = viewer_token(&one, "ann").await;
    let mut ann = Channel::open(&one, "demo", &ann_token).await;
    let mut bob = Channel::open(&two, "demo", &viewer_token(&two, "bob").await).await;
    let mut host = Channel::open(&one, "demo", &one.host_token).await;
    let (epoch, begin) = position(&ann);
    assert_eq!(position(&bob), (epoch.clone(), begin), "the same room, whichever the server");
    for reader in [&mut ann, &mut bob] {
        reader.event("viewers.changed", |event| event["viewers"] == 2).await;
    }

    // A chat line, a pin and a sale on the one; a line on the other.
    ann.ask("chat.send", json!({ "text": "hello from one" })).await;
    host.ask("pin", json!({ "product_id": "tea" })).await;
    let said = bob.ask("chat.send", json!({ "text": "hello from two", "client_id": "c" })).await;
    let again = bob.ask("chat.send", json!({ "text": "hello from two", "client_id": "c" })).await;
    assert_eq!(said["result"], again["result"], "a retry is the same message");
    let schedule = json!({ "product_id": "tea", "price_minor": 100, "stock": 5, "duration_ms": 600_000 });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let the_sale = |event: &Value| event["sale"]["id"] == sale;
    let at_one = numbered(&mut ann, "sale.changed", the_sale).await;
    let at_two = numbered(&mut bob, "sale.changed", the_sale).await;
    assert_eq!(at_one, at_two, "the same events in the same order at the same places");
    let last = follows_without_a_gap(&at_one, &epoch, begin);
    let kinds: Vec<_> = at_one.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["chat.message", "pin.changed", "chat.message", "sale.changed"]);

    // Both buy; who is on the other server is answered, too, and both see all of the stock.
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
    assert_eq!(held["result"]["hold"]["state"], "held", "{held}");
    let bobs = bob.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
    assert_eq!(bobs["result"]["hold"]["state"], "held", "{bobs}");
    for reader in [&mut ann, &mut bob] {
        reader.event("stock.changed", |event| event["sale_id"] == sale && event["held"] == 2).await;
    }
    let looked = send(&two, "GET", "/v1/lives/demo/sales", &two.host_token, Value::Null).await.json();
    let seen = looked["sales"].as_array().unwrap().iter().find(|seen| seen["id"] == sale).unwrap().clone();
    assert_eq!(seen["held"], 2, "{looked}");

    // The owner dies; what it has told is where it was.
    drop(one);
    drop(host);
    let pinned = bob.insist("chat.send", json!({ "text": "still here?", "client_id": "d" })).await;
    assert!(pinned["result"]["message_id"].is_string(), "{pinned}");
    let mut host = Channel::open(&two, "demo", &two.host_token).await;
    assert_eq!(host.hello["result"]["pin"]["product_id"], "tea", "what was pinned is pinned");
    host.insist("sale.pause", json!({ "sale_id": sale })).await;
    host.insist("sale.resume", json!({ "sale_id": sale })).await;
    let paused = |event: &Value| event["sale"]["id"] == sale && event["sale"]["state"] == "paused";
    let heard = numbered(&mut bob, "sale.changed", paused).await;
    follows_without_a_gap(&heard, &epoch, last);
    let mut ann = resume(&two, &ann_token, (epoch.clone(), last)).await;
    let hello = &ann.hello["result"];
    assert_eq!(hello["resumed"]["recovered"], true, "{hello}");
    assert_eq!(hello["epoch"], json!(epoch));
    let offset = hello["offset"].as_u64().unwrap();
    let missed = numbered(&mut ann, "sale.changed", |event| event["offset"] == offset).await;
    assert_eq!(follows_without_a_gap(&missed, &epoch, last), offset);
    assert_eq!(missed[..heard.len()], heard, "what was missed is what the others have heard");
    assert_eq!(ann.hello["result"]["you"]["holds"][0]["id"], held["result"]["hold"]["id"]);
    let again = ann.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
    assert_eq!(again["result"]["hold"]["id"], held["result"]["hold"]["id"], "the same key, the same hold");
    let hold = held["result"]["hold"]["id"].clone();
    let checkout = ann.insist("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    let url = checkout["result"]["pay_url"].as_str().unwrap();
    assert_eq!(send(&two, "POST", url, "", json!({ "outcome": "paid" })).await.status, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    bob.event("stock.changed", |event| event["sale_id"] == sale && event["sold"] == 1).await;
    assert_eq!(metric(&two, "haul_room_takeovers_total").await, 1);
    assert_eq!(metric(&two, "haul_room_resets_total").await, 0);

    // And a server that comes anew carries the room as well.
    let three = ground.start();
    let mut cid = Channel::open(&three, "demo", &viewer_token(&three, "cid").await).await;
    assert_eq!(cid.hello["result"]["epoch"], json!(epoch));
    let lines = cid.hello["result"]["chat"].as_array().unwrap();
    let texts: Vec<_> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["hello from one", "hello from two", "still here?"]);
    cid.ask("chat.send", json!({ "text": "hello from three" })).await;
    bob.event("chat.message", |event| event["text"] == "hello from three").await;
}

#[tokio::test]
async fn a_server_that_is_stopped_hands_the_room_over() {
    let mut ground = Ground::new().await;
    let mut one = ground.start();
    let mut ann = Channel::open(&one, "demo", &viewer_token(&one, "ann").await).await;
    let two = ground.start();
    let mut bob = Channel::open(&two, "demo", &viewer_token(&two, "bob").await).await;
    ann.ask("chat.send", json!({ "text": "before" })).await;
    bob.event("chat.message", |event| event["text"] == "before").await;
    let mut host = Channel::open(&two, "demo", &two.host_token).await;
    let private = ann.ask("thread.send", json!({ "text": "is it in stock?" })).await;
    assert!(private["result"]["message_id"].is_string(), "{private}");
    host.event("thread.message", |event| event["message"]["text"] == "is it in stock?").await;
    let muted = json!({ "action": "mute", "user_id": "ann", "duration_ms": 60_000 });
    let done = host.ask("chat.moderate", muted).await;
    assert_eq!(done["type"], "reply", "{done}");
    ann.event("chat.standing", |event| event["standing"]["measure"] == "mute").await;
    assert!(one.stop().success());
    let said = bob.insist("chat.send", json!({ "text": "after" })).await;
    assert!(said["result"]["message_id"].is_string(), "{said}");
    host.event("chat.message", |event| event["text"] == "after").await;
    assert_eq!(metric(&two, "haul_rooms_owned").await, 1);
    assert!(ann.closed().await.is_some());
}

#[tokio::test]
async fn who_likes_and_who_watches_on_either_server_is_in_one_sum() {
    let mut ground = Ground::new().await;
    let (one, two) = (ground.start(), ground.start());
    let mut ann = Channel::open(&one, "demo", &viewer_token(&one, "ann").await).await;
    let mut bob = Channel::open(&two, "demo", &viewer_token(&two, "bob").await).await;
    for _ in 0..10 {
        ann.put("like", json!({ "kind": "heart", "count": 3 })).await;
        bob.put("like", json!({ "kind": "fire", "count": 4 })).await;
    }
    for reader in [&mut ann, &mut bob] {
        reader.event("likes", |likes| likes["total"] == 70).await;
        reader.event("viewers.changed", |event| event["viewers"] == 2 && event["peak"] == 2).await;
        let told = reader.events.iter().filter(|event| event["type"] == "likes").count();
        assert!(told < 10, "as sums: {told}");
    }
    for server in [&one, &two] {
        let late = Channel::open(server, "demo", "").await;
        assert_eq!(late.hello["result"]["room"]["likes"], 70);
        assert!(late.hello["result"]["room"]["peak"].as_u64().unwrap() >= 2);
    }
}

#[tokio::test]
async fn money_that_a_server_was_told_of_before_it_died_is_carried_out_by_the_other() {
    let mut ground = Ground::new().await;
    let mut one = ground.start();
    let two = ground.start();
    let mut host = Channel::open(&two, "demo", &two.host_token).await;
    let mut ann = Channel::open(&two, "demo", &viewer_token(&two, "ann").await).await;
    let schedule = json!({ "product_id": "tea", "price_minor": 100, "stock": 5, "duration_ms": 600_000 });
    let sale = host.insist("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let held = ann.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
    let ask = json!({ "sale_id": sale, "hold_id": held["result"]["hold"]["id"] });
    let checkout = ann.insist("checkout", ask).await;
    let url = checkout["result"]["pay_url"].as_str().unwrap();
    // The word is written down, and the stock store takes nothing until its server is gone.
    ground.redis.ask("CLIENT PAUSE 60000 WRITE");
    assert_eq!(send(&one, "POST", url, "", json!({ "outcome": "paid" })).await.status, 204);
    one.kill();
    ground.redis.ask("CLIENT UNPAUSE");
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    eventually("the books agree", async || two.reconcile("demo").1 == Some(0)).await;
}
