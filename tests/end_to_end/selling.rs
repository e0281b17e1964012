//! A sale, as those who buy and those who sell see it, on each gate, and through faults.

use serde_json::{Value, json};

use crate::{
    server::{Redis, Server, eventually},
    talk::{Channel, call, get, moment, send, viewer_token},
};

fn sale_of(channel: &Channel) -> String {
    channel.hello["result"]["sales"][0]["id"].as_str().expect("the demo has a sale").to_owned()
}

async fn pay(server: &Server, checkout: &Value, outcome: &str) -> u16 {
    let url = checkout["result"]["pay_url"].as_str().unwrap();
    send(server, "POST", url, "", json!({ "outcome": outcome })).await.status
}

/// Holds, pays, and is confirmed; another viewer sees the stock fall; the host sees the order.
async fn purchase(server: &Server) {
    let mut ann = Channel::open(server, "demo", &viewer_token(server, "ann").await).await;
    let mut bob = Channel::open(server, "demo", "").await;
    let mut host = Channel::open(server, "demo", &server.host_token).await;
    let sale = sale_of(&ann);

    let held = ann.ask("hold", json!({ "sale_id": sale, "quantity": 2, "key": "k1" })).await;
    assert_eq!(held["result"]["hold"]["state"], "held", "{held}");
    let hold = held["result"]["hold"]["id"].clone();
    bob.event("stock.changed", |event| event["available"] == 98 && event["held"] == 2).await;

    let again = ann.ask("hold", json!({ "sale_id": sale, "quantity": 2, "key": "k1" })).await;
    assert_eq!(again["result"]["hold"], held["result"]["hold"], "a retry is the same hold");
    let other = ann.ask("hold", json!({ "sale_id": sale, "quantity": 1, "key": "k1" })).await;
    assert_eq!(other["code"], "key_reused");
    let more = ann.ask("hold", json!({ "sale_id": sale, "quantity": 1, "key": "k2" })).await;
    assert_eq!(more["code"], "buyer_limit");

    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    assert_eq!(checkout["result"]["order"]["state"], "paying", "{checkout}");
    assert_eq!(checkout["result"]["order"]["total"], json!({ "amount_minor": 3200, "currency": "EUR" }));
    let again = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    assert_eq!(again["result"]["order"]["id"], checkout["result"]["order"]["id"]);

    assert_eq!(pay(server, &checkout, "failed").await, 204);
    ann.event("hold.changed", |event| event["hold"]["state"] == "held").await;
    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    for _ in 0..3 {
        assert_eq!(pay(server, &checkout, "paid").await, 204, "a callback may come more than once");
    }
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    bob.event("stock.changed", |event| event["sold"] == 2 && event["held"] == 0).await;
    let told = host.event("host.order", |event| event["order"]["state"] == "sold").await;
    assert_eq!(told["totals"]["units"], 2);
    assert_eq!(told["order"]["buyer_name"], "ann");

    let orders = send(server, "GET", "/v1/lives/demo/orders", &server.host_token, Value::Null).await;
    assert_eq!(orders.json()["totals"]["revenue"][0]["amount_minor"], 3200);
    assert_eq!(orders.json()["orders"].as_array().unwrap().len(), 1);
    let metrics = get(server, "/metrics").await.text();
    assert!(metrics.contains(r#"haul_orders_total{state="sold"} 1"#), "{metrics}");
    assert!(!bob.events.iter().any(|event| event["type"] == "order.changed"), "orders are private");
}

#[tokio::test]
async fn a_purchase_on_the_embedded_gate() {
    purchase(&Server::start()).await;
}

#[tokio::test]
async fn a_purchase_on_the_redis_gate() {
    let redis = Redis::start();
    purchase(&Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())])).await;
}

#[tokio::test]
async fn the_host_pins_opens_a_sale_and_closes_it() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let pinned = host.ask("pin", json!({ "product_id": "lamp" })).await;
    assert_eq!(pinned["type"], "reply", "{pinned}");
    ann.event("pin.changed", |event| event["pin"]["product_id"] == "lamp").await;
    assert_eq!(ann.ask("pin", json!({ "product_id": "lamp" })).await["code"], "forbidden");

    let schedule = json!({ "product_id": "lamp", "price_minor": 5000, "stock": 2, "duration_ms": 600_000 });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"].clone();
    assert_eq!(sale["state"], "open");
    let told = ann.event("sale.changed", |event| event["sale"]["id"] == sale["id"]).await;
    assert_eq!(told["sale"]["available"], 2);
    let hold = |key: &str| json!({ "sale_id": sale["id"], "key": key });
    assert_eq!(ann.ask("hold", hold("a")).await["result"]["hold"]["state"], "held");
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    assert_eq!(bob.ask("hold", hold("b")).await["result"]["hold"]["state"], "held");
    ann.event("stock.changed", |event| event["sale_id"] == sale["id"] && event["available"] == 0).await;
    let mut cid = Channel::open(&server, "demo", &viewer_token(&server, "cid").await).await;
    let refused = cid.ask("hold", hold("c")).await;
    assert_eq!(refused["code"], "not_enough", "held by others, not sold: {refused}");
    assert!(refused["retry_after_ms"].is_u64());

    let closed = host.ask("sale.close", json!({ "sale_id": sale["id"] })).await;
    assert_eq!(closed["result"]["sale"]["state"], "closed");
    assert_eq!(cid.ask("hold", hold("c2")).await["code"], "sale_closed");

    let later = json!({ "product_id": "tea", "price_minor": 1, "stock": 1, "duration_ms": 600_000,
        "opens_at": moment(&closed["result"]["sale"]["closes_at"]) + 3_600_000 });
    let later = host.ask("sale.schedule", later).await["result"]["sale"].clone();
    assert_eq!(later["state"], "scheduled");
    let early = cid.ask("hold", json!({ "sale_id": later["id"], "key": "d" })).await;
    assert_eq!(early["code"], "sale_not_open");
    assert!(early["retry_after_ms"].as_u64().unwrap() > 3_000_000);
    assert_eq!(
        host.ask("sale.open", json!({ "sale_id": later["id"] })).await["result"]["sale"]["state"],
        "open"
    );
    assert_eq!(
        cid.ask("hold", json!({ "sale_id": later["id"], "key": "d" })).await["result"]["hold"]["state"],
        "held"
    );
}

#[tokio::test]
async fn an_expired_hold_returns_its_units_once() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let schedule = json!({ "product_id": "bag", "price_minor": 100, "stock": 1, "duration_ms": 600_000,
        "hold_ms": 1_000 });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let hold = json!({ "sale_id": sale, "key": "a" });
    ann.ask("hold", hold.clone()).await;
    ann.event("stock.changed", |event| event["sale_id"] == sale && event["available"] == 0).await;
    ann.event("hold.changed", |event| event["hold"]["state"] == "released").await;
    let back = ann.event("stock.changed", |event| event["sale_id"] == sale && event["available"] == 1).await;
    assert_eq!((&back["held"], &back["sold"]), (&json!(0), &json!(0)));
    assert_eq!(ann.ask("hold", hold).await["code"], "hold_over", "the key is used up");
    let fresh = ann.ask("hold", json!({ "sale_id": sale, "key": "b" })).await;
    assert_eq!(fresh["result"]["hold"]["state"], "held");
    let gone = json!({ "sale_id": sale, "hold_id": fresh["result"]["hold"]["id"] });
    assert_eq!(ann.ask("hold.cancel", gone.clone()).await["result"]["hold"]["state"], "released");
    assert_eq!(ann.ask("hold.cancel", gone).await["result"]["hold"]["state"], "released");
    ann.event("stock.changed", |event| event["sale_id"] == sale && event["available"] == 1).await;
}

#[tokio::test]
async fn what_was_held_and_paid_survives_a_crash() {
    let mut server = Server::start();
    for crash in [true, false] {
        let token = viewer_token(&server, if crash { "ann" } else { "bob" }).await;
        let mut buyer = Channel::open(&server, "demo", &token).await;
        let sale = sale_of(&buyer);
        let hold = json!({ "sale_id": sale, "key": "k" });
        let held = buyer.ask("hold", hold).await["result"]["hold"]["id"].clone();
        let checkout = buyer.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
        let before = buyer.hello["result"]["sales"][0]["sold"].as_u64().unwrap();
        server = match crash {
            true => server.crash_and_restart(),
            false => {
                let (status, server) = server.stop_and_restart();
                assert!(status.success(), "{status}");
                server
            }
        };
        let mut buyer = Channel::open(&server, "demo", &token).await;
        let you = &buyer.hello["result"]["you"];
        assert_eq!(you["holds"][0]["id"], held, "{you}");
        assert_eq!(you["holds"][0]["state"], "paying");
        assert_eq!(you["orders"][0]["state"], "paying");
        assert_eq!(pay(&server, &checkout, "paid").await, 204);
        buyer.event("order.changed", |event| event["order"]["state"] == "sold").await;
        buyer.event("stock.changed", |event| event["sold"] == before + 1).await;
    }
}

#[tokio::test]
async fn redis_goes_away_in_the_middle_and_comes_back() {
    let mut redis = Redis::start();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = sale_of(&ann);
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
    redis.kill();
    let refused = ann.ask("hold", json!({ "sale_id": sale, "key": "k2" })).await;
    assert!(["unavailable", "pending"].iter().any(|code| refused["code"] == *code), "{refused}");
    assert!(refused["retry_after_ms"].is_u64());
    assert_eq!(ann.ask("chat.send", json!({ "text": "still here" })).await["type"], "reply");
    assert_eq!(get(&server, "/readyz").await.status, 503);
    assert_eq!(get(&server, "/healthz").await.status, 200);
    // A newcomer is welcomed even while nobody can be asked about their holds.
    let late = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    assert_eq!(late.hello["result"]["you"]["name"], "bob");

    redis.resume();
    let hold = held["result"]["hold"]["id"].clone();
    let checkout = ann.insist("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    assert_eq!(checkout["result"]["order"]["state"], "paying", "{checkout}");
    assert_eq!(pay(&server, &checkout, "paid").await, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    eventually("ready again", async || get(&server, "/readyz").await.status == 200).await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn a_payment_that_comes_while_redis_is_away_is_not_lost() {
    let mut redis = Redis::start();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = sale_of(&ann);
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "k" })).await["result"]["hold"]["id"].clone();
    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    redis.kill();
    assert_eq!(pay(&server, &checkout, "paid").await, 204, "recorded, though nothing can be settled");
    redis.resume();
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn nobody_can_say_that_something_was_paid_but_the_provider() {
    let server = Server::start();
    let body =
        json!({ "type": "paid", "data": { "payment": "pay_x", "amount_minor": 1, "currency": "EUR" } });
    let callback = "/v1/payments/callback/sandbox";
    assert_eq!(send(&server, "POST", callback, "", body.clone()).await.status, 401);
    assert_eq!(send(&server, "POST", callback, &server.host_token, body.clone()).await.status, 401);
    assert_eq!(send(&server, "POST", "/v1/payments/callback/stripe", "", body).await.status, 404);
    assert_eq!(
        send(&server, "POST", "/sandbox/pay/pay_x", "", json!({ "outcome": "paid" })).await.status,
        404
    );
}

#[tokio::test]
async fn a_crowd_gets_exactly_what_there_is() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let schedule = json!({ "product_id": "tea", "price_minor": 100, "stock": 10, "duration_ms": 600_000 });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let mut crowd = Vec::new();
    for buyer in 0..60 {
        crowd.push(Channel::open(&server, "demo", &viewer_token(&server, &format!("b{buyer}")).await).await);
    }
    let asked = crowd.into_iter().map(|mut buyer| {
        let hold = json!({ "sale_id": sale, "key": "k" });
        async move { buyer.ask("hold", hold).await }
    });
    let answers = futures_util::future::join_all(asked).await;
    let held = answers.iter().filter(|answer| answer["result"]["hold"]["state"] == "held").count();
    let refused = answers.iter().filter(|answer| answer["code"] == "not_enough").count();
    assert_eq!((held, refused), (10, 50));
    let sales = get(&server, "/v1/lives/demo/sales").await.json();
    let seen = sales["sales"].as_array().unwrap().iter().find(|seen| seen["id"] == sale).unwrap();
    assert_eq!((&seen["available"], &seen["held"]), (&json!(0), &json!(10)));
}

/// A callback as the provider signs it, with an event id of the test's own.
pub async fn paid_event(server: &Server, event: &str, payment: &str, amount_minor: i64) -> u16 {
    let secret = std::fs::read_to_string(server.data.path().join("data/secret")).unwrap();
    let key = [b"sandbox callbacks: ", secret.trim().as_bytes()].concat();
    let data = json!({ "payment": payment, "amount_minor": amount_minor, "currency": "EUR" });
    let body = json!({ "type": "paid", "data": data }).to_string();
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let signature = haul_payments::SigningKey::new(&key).sign(event, now_s, body.as_bytes());
    let timestamp = now_s.to_string();
    let headers = [
        ("content-type", "application/json"),
        ("webhook-id", event),
        ("webhook-timestamp", timestamp.as_str()),
        ("webhook-signature", signature.as_str()),
    ];
    call("POST", &server.url("/v1/payments/callback/sandbox"), &headers, body).await.status
}

pub fn payment_of(checkout: &Value) -> String {
    checkout["result"]["pay_url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn money_that_buys_nothing_goes_back() {
    let server = Server::start();
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = sale_of(&ann);
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "a" })).await["result"]["hold"]["id"].clone();
    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    let payment = payment_of(&checkout);
    assert_eq!(paid_event(&server, "first", &payment, 1).await, 204, "one cent for a thing of 16 euros");
    ann.event("order.changed", |event| event["order"]["state"] == "refunded").await;
    ann.event("stock.changed", |event| event["available"] == 100).await;
    let over = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    assert_eq!(over["type"], "error", "{over}");

    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "b" })).await["result"]["hold"]["id"].clone();
    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    let payment = payment_of(&checkout);
    for event in ["second", "third"] {
        assert_eq!(paid_event(&server, event, &payment, 1600).await, 204);
    }
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    eventually("the money of the third event goes back", async || {
        server.log().lines().filter(|line| line.contains("refund due")).count() == 2
    })
    .await;
    let orders = send(&server, "GET", "/v1/lives/demo/orders", &server.host_token, Value::Null).await.json();
    assert_eq!(orders["totals"]["units"], 1);
}

#[tokio::test]
async fn failed_and_paid_at_once_end_as_the_ledger_says() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut told = 0;
    for buyer in 0..12 {
        let token = viewer_token(&server, &format!("b{buyer}")).await;
        let mut buyer = Channel::open(&server, "demo", &token).await;
        let sale = sale_of(&buyer);
        let held =
            buyer.ask("hold", json!({ "sale_id": sale, "key": "k" })).await["result"]["hold"]["id"].clone();
        let checkout = buyer.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
        let (failed, paid) = tokio::join!(pay(&server, &checkout, "failed"), pay(&server, &checkout, "paid"));
        assert_eq!((failed, paid), (204, 204));
        buyer.event("order.changed", |event| event["order"]["state"] == "sold").await;
        let news = host.event("host.order", |event| event["order"]["state"] == "sold").await;
        told = news["totals"]["orders"].as_u64().unwrap();
    }
    let orders = send(&server, "GET", "/v1/lives/demo/orders", &server.host_token, Value::Null).await.json();
    assert_eq!((told, orders["totals"]["orders"].as_u64()), (12, Some(12)));
    assert!(orders["orders"].as_array().unwrap().iter().all(|order| order["state"] == "sold"));
}

#[tokio::test]
async fn a_payment_that_comes_when_redis_has_come_back_empty_buys_what_was_held() {
    let mut redis = Redis::forgetful();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 1, "duration_ms": 600_000 });
    let sale = host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "a" })).await["result"]["hold"]["id"].clone();
    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    redis.kill();
    redis.resume();
    // The only unit is Ann's, whoever asks first.
    let refused = bob.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
    assert_eq!(refused["code"], "not_enough", "{refused}");
    assert_eq!(pay(&server, &checkout, "paid").await, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    bob.event("stock.changed", |event| event["sale_id"] == sale && event["sold"] == 1).await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn a_sale_scheduled_while_redis_is_away_happens_once() {
    let mut redis = Redis::start();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    redis.kill();
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 7, "duration_ms": 600_000 });
    let answer = host.ask("sale.schedule", schedule).await;
    assert_eq!(answer["code"], "pending", "{answer}");
    redis.resume();
    let told = host.event("sale.changed", |event| event["sale"]["product_id"] == "lamp").await;
    assert_eq!(told["sale"]["available"], 7);
}

#[tokio::test]
async fn those_who_leave_at_once_leave_nothing_behind() {
    let server = Server::start();
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    for _ in 0..150 {
        let mut passer_by = Channel::connect(&server, "demo").await;
        passer_by.put("hello", json!({})).await;
    }
    let last = Channel::open(&server, "demo", "").await;
    host.event("viewers.changed", |event| event["viewers"] == 1).await;
    drop(last);
    host.event("viewers.changed", |event| event["viewers"] == 0).await;
}
