//! Coupons that are limited, and sales that are drawn, on both gates and over a crash.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    money::api_key,
    server::{Redis, Server, eventually},
    talk::{Channel, send, viewer_token},
};

fn state(answer: &Value) -> &str {
    answer["result"]["hold"]["state"].as_str().or(answer["code"].as_str()).unwrap_or_default()
}

async fn come(server: &Server, who: &str) -> Channel {
    Channel::open(server, "demo", &viewer_token(server, who).await).await
}

async fn pay(server: &Server, checkout: &Value) {
    let pay_url = checkout["result"]["pay_url"].as_str().unwrap_or_else(|| panic!("{checkout}"));
    assert_eq!(send(server, "POST", pay_url, "", json!({ "outcome": "paid" })).await.status, 204);
}

/// One use, three who have the code: it is one buyer's at a time, comes back with a hold that is given back, and is spent with
/// the order, over a crash of the server.
async fn a_coupon(server: Server) {
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let (mut ann, mut bob) = (come(&server, "ann").await, come(&server, "bob").await);
    let schedule = json!({ "product_id": "lamp", "price_minor": 1_000, "stock": 5, "duration_ms": 600_000 });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let make = json!({ "code": "mia-15", "percent": 15, "limit": 1, "duration_ms": 600_000, "show": true });
    let made = host.ask("coupon.make", make.clone()).await;
    assert_eq!(made["result"]["coupon"]["code"], "MIA-15", "{made}");
    assert_eq!(bob.ask("coupon.make", make).await["code"], "forbidden");
    let dropped = ann.event("coupon.changed", |event| event["coupon"] != Value::Null).await;
    assert_eq!((&dropped["coupon"]["code"], &dropped["coupon"]["percent"]), (&json!("MIA-15"), &json!(15)));

    let hold = |key: &str, coupon: &str| json!({ "sale_id": sale, "key": key, "coupon": coupon });
    assert_eq!(state(&ann.ask("hold", hold("none", "NOBODYS")).await), "coupon_invalid");
    let first = ann.ask("hold", hold("a", "Mia-15")).await;
    assert_eq!((state(&first), &first["result"]["hold"]["coupon"]), ("held", &json!("MIA-15")), "{first}");
    assert_eq!(state(&bob.ask("hold", hold("b", "MIA-15")).await), "coupon_used_up");
    ann.ask("hold.cancel", json!({ "sale_id": sale, "hold_id": first["result"]["hold"]["id"] })).await;
    let second = bob.ask("hold", hold("b2", "MIA-15")).await;
    assert_eq!(state(&second), "held", "a use comes back with its hold: {second}");

    eventually("the ledger has read it", async || server.reconcile("demo").1 == Some(0)).await;
    let server = server.crash_and_restart();
    let (mut ann, mut bob) = (come(&server, "ann").await, come(&server, "bob").await);
    assert_eq!(state(&ann.insist("hold", hold("a2", "MIA-15")).await), "coupon_used_up", "nor does a crash");
    let hold_id = second["result"]["hold"]["id"].clone();
    let checkout = bob.insist("checkout", json!({ "sale_id": sale, "hold_id": hold_id })).await;
    let order = &checkout["result"]["order"];
    assert_eq!(
        order["coupon"],
        json!({ "code": "MIA-15", "amount": { "amount_minor": 150, "currency": "EUR" } })
    );
    assert_eq!(order["total"]["amount_minor"], 850, "{order}");
    pay(&server, &checkout).await;
    bob.event("order.changed", |event| event["order"]["state"] == "sold").await;

    // All the money goes back, and the unit onto the shelf; the use stays spent.
    let key = api_key(&server, &["--scopes", "refunds:write,orders:read,marketing:read"]);
    let path = format!("/v1/orders/{}/refunds", order["id"].as_str().unwrap());
    let refund = send(&server, "POST", &path, &key, json!({ "restock": true })).await;
    assert_eq!(
        (refund.status, &refund.json()["amount"]["amount_minor"]),
        (202, &json!(850)),
        "{}",
        refund.text()
    );
    bob.event("order.changed", |event| event["order"]["state"] == "refunded").await;
    let path = format!("/v1/lives/demo/sales/{}", sale.as_str().unwrap());
    eventually("the unit is on the shelf", async || {
        let sale = send(&server, "GET", &path, "", Value::Null).await.json()["sale"].clone();
        (&sale["available"], &sale["sold"]) == (&json!(5), &json!(0))
    })
    .await;
    assert_eq!(state(&ann.insist("hold", hold("a3", "MIA-15")).await), "coupon_used_up");
    let uses = send(&server, "GET", "/v1/lives/demo/coupons", &key, Value::Null).await.json();
    assert_eq!(uses["coupons"][0]["code"], "MIA-15", "{uses}");
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn a_coupon_is_used_once_at_the_embedded_gate() {
    a_coupon(Server::start()).await;
}

#[tokio::test]
async fn a_coupon_is_used_once_at_redis() {
    let redis = Redis::start();
    a_coupon(Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())])).await;
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 51 bits, as docs/selling.md says.
fn ticket(seed: &str, hold: &str) -> u64 {
    let digest = Sha256::digest(format!("{seed}:{hold}").as_bytes());
    u64::from_be_bytes(digest[..8].try_into().unwrap()) >> 13
}

/// Two units, five who enter: two are drawn, by a seed that was fixed before, over a crash; everybody can check it.
async fn a_draw(server: Server) {
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let schedule = json!({ "product_id": "lamp", "price_minor": 1_000, "stock": 2, "duration_ms": 600_000,
        "draw_ms": 4_000 });
    let scheduled = host.ask("sale.schedule", schedule).await["result"]["sale"].clone();
    let sale = scheduled["id"].clone();
    assert_eq!(scheduled["draw"]["seed"], Value::Null, "{scheduled}");
    let names = ["ann", "bob", "cid", "dan", "eve"];
    let mut entries = Vec::new();
    for name in names {
        let mut buyer = come(&server, name).await;
        let entered = buyer.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
        assert_eq!(state(&entered), "entered", "{entered}");
        let again = buyer.ask("hold", json!({ "sale_id": sale, "key": "another" })).await;
        assert_eq!(state(&again), "buyer_limit", "one entry a buyer: {again}");
        entries.push(entered["result"]["hold"]["id"].as_str().unwrap().to_owned());
    }
    let server = server.crash_and_restart();
    let path = format!("/v1/lives/demo/sales/{}/draw", sale.as_str().unwrap());
    let mut drawn = Value::Null;
    eventually("it is drawn", async || {
        let answer = send(&server, "GET", &path, "", Value::Null).await;
        drawn = if answer.status == 200 { answer.json() } else { Value::Null };
        answer.status == 200
    })
    .await;
    let seed = drawn["seed"].as_str().unwrap();
    assert_eq!(json!(sha256(seed)), scheduled["draw"]["commitment"], "the seed is the one that was promised");
    let mut expected: Vec<(u64, &String)> = entries.iter().map(|hold| (ticket(seed, hold), hold)).collect();
    expected.sort();
    let told: Vec<Value> =
        drawn["entries"].as_array().unwrap().iter().map(|e| e["hold_id"].clone()).collect();
    assert_eq!(told, expected.iter().map(|(_, hold)| json!(hold)).collect::<Vec<_>>(), "{drawn}");

    for (name, hold) in names.iter().zip(&entries) {
        let won = expected[..2].iter().any(|(_, winner)| *winner == hold);
        let mut buyer = come(&server, name).await;
        let checkout = buyer.insist("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
        if won {
            pay(&server, &checkout).await;
            buyer.event("order.changed", |event| event["order"]["state"] == "sold").await;
        } else {
            assert!(checkout["code"].is_string(), "{name} was not drawn: {checkout}");
        }
    }
    let mut late = come(&server, "late").await;
    // The gate hears of it when the ledger has it; until then a unit might still come back.
    let asks = json!({ "sale_id": sale, "key": "k" });
    eventually("it is sold out", async || state(&late.insist("hold", asks.clone()).await) == "sold_out")
        .await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn a_sale_is_drawn_by_the_embedded_gate_and_can_be_checked() {
    a_draw(Server::start()).await;
}

#[tokio::test]
async fn a_sale_is_drawn_by_redis_and_can_be_checked() {
    let redis = Redis::start();
    a_draw(Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())])).await;
}
