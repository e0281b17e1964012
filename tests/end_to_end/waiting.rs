//! Who comes first: a line to wait in, and tiers that may come earlier.

use serde_json::{Value, json};

use crate::{
    server::{Redis, Server, eventually},
    talk::{Channel, moment, send, viewer_token, wall_ms},
};

async fn come(server: &Server, who: &str) -> Channel {
    Channel::open(server, "demo", &viewer_token(server, who).await).await
}

fn state(answer: &Value) -> &str {
    answer["result"]["hold"]["state"].as_str().or(answer["code"].as_str()).unwrap_or_default()
}

/// One unit, three who want it; what comes back goes down the line, also past one who lets the offer go by, over a crash of
/// the server, and to nobody else.
async fn a_line(server: Server) {
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let (mut ann, mut bob, mut cid) =
        (come(&server, "ann").await, come(&server, "bob").await, come(&server, "cid").await);
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 1, "duration_ms": 600_000,
        "offer_ms": 1_000 });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let asks = json!({ "sale_id": sale, "key": "k" });
    let held = ann.ask("hold", asks.clone()).await;
    assert_eq!(state(&held), "held");
    for (position, buyer) in [(1, &mut bob), (2, &mut cid)] {
        let place = buyer.ask("wait", asks.clone()).await;
        assert_eq!(
            (state(&place), &place["result"]["hold"]["position"]),
            ("waiting", &json!(position)),
            "{place}"
        );
        let again = buyer.ask("wait", asks.clone()).await;
        assert_eq!(
            again["result"]["hold"]["id"], place["result"]["hold"]["id"],
            "the same key, the same place"
        );
    }
    let server = server.crash_and_restart();
    let (mut ann, mut bob, mut cid) =
        (come(&server, "ann").await, come(&server, "bob").await, come(&server, "cid").await);
    let place = cid.insist("wait", asks.clone()).await;
    assert_eq!((state(&place), &place["result"]["hold"]["position"]), ("waiting", &json!(2)), "{place}");

    ann.insist("hold.cancel", json!({ "sale_id": sale, "hold_id": held["result"]["hold"]["id"] })).await;
    let offer = bob.event("hold.changed", |event| event["hold"]["state"] == "held").await;
    let deadline = moment(&offer["hold"]["deadline"]);
    assert!(deadline <= wall_ms() + 1_000, "an offer has a deadline of its own: {offer}");
    let mut dan = come(&server, "dan").await;
    assert_eq!(state(&dan.insist("hold", asks.clone()).await), "not_enough", "nobody overtakes");
    // Bob lets it go by; Cid is next, and takes it.
    bob.event("hold.changed", |event| event["hold"]["state"] == "released").await;
    let offer = cid.event("hold.changed", |event| event["hold"]["state"] == "held").await;
    let hold = offer["hold"]["id"].clone();
    let checkout = cid.insist("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    let pay_url = checkout["result"]["pay_url"].as_str().unwrap_or_else(|| panic!("{checkout}"));
    assert_eq!(send(&server, "POST", pay_url, "", json!({ "outcome": "paid" })).await.status, 204);
    cid.event("order.changed", |event| event["order"]["state"] == "sold").await;
    // The gate hears of it when the ledger has it; until then the unit might still come back.
    eventually("it is sold out", async || state(&dan.insist("hold", asks.clone()).await) == "sold_out").await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn a_line_is_served_in_its_order_by_the_embedded_gate() {
    a_line(Server::start()).await;
}

#[tokio::test]
async fn a_line_is_served_in_its_order_by_redis() {
    let redis = Redis::start();
    a_line(Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())])).await;
}

#[tokio::test]
async fn a_tier_of_the_token_comes_in_earlier_and_nobody_elses_word_for_it_counts() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let with_tier = async |sub: &str, tier: &str| {
        let body = json!({ "sub": sub, "role": "viewer", "name": sub, "tier": tier });
        let minted = send(&server, "POST", "/v1/lives/demo/tokens", &server.host_token, body).await.json();
        Channel::open(&server, "demo", minted["token"].as_str().unwrap()).await
    };
    let (mut gold, mut tin, mut plain) =
        (with_tier("gold", "gold").await, with_tier("tin", "tin").await, come(&server, "plain").await);
    let opens_at = wall_ms() + 2_500;
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 3, "duration_ms": 600_000,
        "opens_at": opens_at, "early": [{ "tier": "gold", "ms": 60_000 }] });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"].clone();
    assert_eq!(sale["state"], "scheduled", "{sale}");
    // The word is the token's: what a message says of itself is nothing.
    let asks = json!({ "sale_id": sale["id"], "key": "k", "tier": "gold" });
    assert_eq!(state(&gold.ask("hold", asks.clone()).await), "held");
    for buyer in [&mut tin, &mut plain] {
        let refused = buyer.ask("hold", asks.clone()).await;
        assert!(["sale_not_open", "bad_request"].contains(&state(&refused)), "{refused}");
    }
    assert!(wall_ms() < opens_at, "this took too long to show anything");
    plain.event("sale.changed", |event| event["sale"]["state"] == "open").await;
    let asks = json!({ "sale_id": sale["id"], "key": "k2" });
    for buyer in [&mut tin, &mut plain] {
        assert_eq!(state(&buyer.ask("hold", asks.clone()).await), "held");
    }
}
