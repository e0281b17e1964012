//! Money: a provider's words repeated, reordered, late and forged; refunds; a provider that is down. And what a merchant's
//! systems are offered: keys, requests asked again, webhooks, the audit log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use haul_payments::SigningKey;
use serde_json::{Value, json};

use crate::{
    server::{Server, command, eventually},
    shop::{Asked, Fake},
    talk::{Answer, Channel, call, send, viewer_token},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server whose payments are made at the shop's own page.
pub fn with_page() -> Server {
    Server::start_with(&[
        ("HAUL__PAYMENTS__PROVIDER", "merchant"),
        ("HAUL__PAYMENTS__CALLBACK_SECRETS", SECRET),
        ("HAUL__PAYMENTS__PAGE_URL", "https://shop.example/pay"),
    ])
}

fn with_endpoint(shop: &Fake, more: &[(&str, &str)]) -> Server {
    let endpoint = format!("{}/haul", shop.url);
    let env = [
        ("HAUL__PAYMENTS__PROVIDER", "merchant"),
        ("HAUL__PAYMENTS__CALLBACK_SECRETS", SECRET),
        ("HAUL__PAYMENTS__ENDPOINT_URL", endpoint.as_str()),
    ];
    Server::start_with(&[&env, more].concat())
}

fn now_s() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// A callback as the shop signs it.
pub async fn tell(server: &Server, event: &str, kind: &str, payment: &str, more: Value) -> u16 {
    let mut data = json!({ "payment": payment, "amount_minor": 100, "currency": "EUR" });
    data.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let body = json!({ "type": kind, "data": data }).to_string();
    let key = SigningKey::parse(SECRET).unwrap();
    tell_signed(server, event, &key, now_s(), body).await
}

async fn tell_signed(server: &Server, event: &str, key: &SigningKey, at_s: u64, body: String) -> u16 {
    let signature = key.sign(event, at_s, body.as_bytes());
    let at = at_s.to_string();
    let headers = [
        ("content-type", "application/json"),
        ("webhook-id", event),
        ("webhook-timestamp", at.as_str()),
        ("webhook-signature", signature.as_str()),
    ];
    call("POST", &server.url("/v1/payments/callback/merchant"), &headers, body).await.status
}

/// An API key for everything.
pub fn api_key(server: &Server, args: &[&str]) -> String {
    let output = command(server.data.path()).args(["key", "--name", "test"]).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(text.starts_with("hk_"), "{text} {}", server.log());
    text
}

/// A sale of lamps at one euro.
async fn lamps(server: &Server, host: &mut Channel, stock: u32) -> Value {
    let schedule =
        json!({ "product_id": "lamp", "price_minor": 100, "stock": stock, "duration_ms": 600_000 });
    let _ = server;
    host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone()
}

/// Holds one and goes to pay: hold, order and payment.
async fn check_out(buyer: &mut Channel, sale: &Value, key: &str) -> (Value, Value, String) {
    let held =
        buyer.ask("hold", json!({ "sale_id": sale, "key": key })).await["result"]["hold"]["id"].clone();
    let checkout = buyer.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    let order = checkout["result"]["order"]["id"].clone();
    let payment = order.as_str().unwrap_or_else(|| panic!("{checkout}")).replace("order_", "pay_");
    (held, order, find_payment(&checkout).unwrap_or(payment))
}

/// The payment that a page's URL names.
pub fn find_payment(checkout: &Value) -> Option<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let url = checkout["result"]["pay_url"].as_str()?;
    let data = url.split_once("haul_data=")?.1.split('&').next()?;
    let data: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(data).ok()?).ok()?;
    data["data"]["payment"].as_str().map(str::to_owned)
}

async fn order(server: &Server, key: &str, order: &Value) -> Value {
    let path = format!("/v1/orders/{}", order.as_str().unwrap());
    send(server, "GET", &path, key, Value::Null).await.json()
}

async fn no_differences(server: &Server) {
    eventually("everything agrees", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn words_repeated_and_reordered_make_one_sale() {
    let server = with_page();
    let key = api_key(&server, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = lamps(&server, &mut host, 5).await;
    let (_, id, payment) = check_out(&mut ann, &sale, "a").await;
    // The word that it failed was overtaken by the word that it was paid after all.
    for (event, kind) in [
        ("p", "paid"),
        ("f", "failed"),
        ("p", "paid"),
        ("p", "paid"),
        ("f", "failed"),
        ("p", "paid"),
        ("p", "paid"),
    ] {
        assert_eq!(tell(&server, event, kind, &payment, json!({ "reference": "theirs" })).await, 204);
    }
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    host.event("stock.changed", |event| event["sale_id"] == sale && event["sold"] == 1 && event["held"] == 0)
        .await;
    let found = order(&server, &key, &id).await;
    assert_eq!((&found["state"], &found["refunds"]), (&json!("sold"), &json!([])), "{found}");
    // The same event with other content is another matter.
    let other = json!({ "amount_minor": 99 });
    assert_eq!(tell(&server, "p", "paid", &payment, other).await, 409);
    // Paid a second time: that money goes back, and the order stays what it is.
    assert_eq!(tell(&server, "q", "paid", &payment, json!({})).await, 204);
    eventually("the second money is to go back", async || {
        let found = order(&server, &key, &id).await;
        found["state"] == "sold"
            && found["refunds"][0]["state"] == "asked"
            && found["refunds"][0]["of_order"] == false
    })
    .await;
    let refund = order(&server, &key, &id).await["refunds"][0]["id"].clone();
    assert_eq!(tell(&server, "r", "refunded", &payment, json!({ "refund": refund })).await, 204);
    eventually("it is back", async || order(&server, &key, &id).await["refunds"][0]["state"] == "done").await;
    no_differences(&server).await;
}

/// The host of a live sends money of its orders back, nobody else with a token for it does, nor the host of another live.
#[tokio::test]
async fn a_host_refunds_orders_of_their_own_live() {
    let server = with_page();
    let key = api_key(&server, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = lamps(&server, &mut host, 5).await;
    let (_, id, payment) = check_out(&mut ann, &sale, "a").await;
    assert_eq!(tell(&server, "p", "paid", &payment, json!({})).await, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;

    let path = format!("/v1/orders/{}/refunds", id.as_str().unwrap());
    let ask =
        async |token: &str| send(&server, "POST", &path, token, json!({ "amount_minor": 40 })).await.status;
    assert_eq!(ask("").await, 401);
    assert_eq!(ask(&viewer_token(&server, "ann").await).await, 403);
    let elsewhere = json!({ "role": "host", "sub": "eve", "name": "Eve" });
    assert_eq!(
        send(&server, "PUT", "/v1/lives/other", &key, json!({ "title": "Other", "public": true }))
            .await
            .status,
        200
    );
    let eve = send(&server, "POST", "/v1/lives/other/tokens", &key, elsewhere).await.json();
    assert_eq!(ask(eve["token"].as_str().unwrap()).await, 403);
    let narrow = api_key(&server, &["--scopes", "orders:read"]);
    assert_eq!(ask(&narrow).await, 403, "a key is held to its scopes");
    assert_eq!(order(&server, &key, &id).await["refunds"], json!([]));

    assert_eq!(ask(&server.host_token).await, 202);
    let refunds = send(&server, "GET", &path, &server.host_token, Value::Null).await.json();
    assert_eq!(refunds["refunds"][0]["amount"]["amount_minor"], 40, "{refunds}");
    let audit = send(&server, "GET", "/v1/audit", &key, Value::Null).await.json();
    assert!(
        audit["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["role"] == "host" && entry["target"] == path)
    );
}

#[tokio::test]
async fn forged_and_old_words_are_refused_and_change_nothing() {
    let server = with_page();
    let key = api_key(&server, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = lamps(&server, &mut host, 5).await;
    let (_, id, payment) = check_out(&mut ann, &sale, "a").await;
    let before = order(&server, &key, &id).await;
    let body =
        json!({ "type": "paid", "data": { "payment": payment, "amount_minor": 100, "currency": "EUR" } });
    let body = body.to_string();
    let (ours, guess) = (SigningKey::parse(SECRET).unwrap(), SigningKey::new(b"guess"));
    for (signed_by, at_s) in [(&guess, now_s()), (&ours, now_s() - 301), (&ours, now_s() + 310)] {
        assert_eq!(tell_signed(&server, "p", signed_by, at_s, body.clone()).await, 401);
    }
    assert_eq!(tell_signed(&server, "p", &ours, now_s(), "{}".to_owned()).await, 400);
    let unknown = body.replace(&payment, "pay_unknown");
    assert_eq!(tell_signed(&server, "p", &ours, now_s(), unknown).await, 404);
    assert_eq!(order(&server, &key, &id).await, before);
    // Within the tolerance, and rightly signed, the same words count.
    assert_eq!(tell_signed(&server, "p", &ours, now_s() - 200, body).await, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
}

#[tokio::test]
async fn late_money_buys_what_is_left_or_goes_back() {
    let server = with_page();
    let key = api_key(&server, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    for left in [true, false] {
        let sale = lamps(&server, &mut host, 1).await;
        let (hold, id, payment) = check_out(&mut ann, &sale, "a").await;
        ann.ask("hold.cancel", json!({ "sale_id": sale, "hold_id": hold })).await;
        ann.event("order.changed", |event| {
            event["order"]["id"] == id && event["order"]["state"] == "expired"
        })
        .await;
        if !left {
            bob.ask("hold", json!({ "sale_id": sale, "key": "b" })).await;
        }
        let event = format!("paid-{left}");
        assert_eq!(tell(&server, &event, "paid", &payment, json!({})).await, 204);
        if left {
            ann.event("order.changed", |event| {
                event["order"]["id"] == id && event["order"]["state"] == "sold"
            })
            .await;
            continue;
        }
        let due = |event: &Value| event["order"]["id"] == id && event["order"]["state"] == "refund_due";
        ann.event("order.changed", due).await;
        host.event("host.order", due).await;
        eventually("the shop is asked", async || {
            order(&server, &key, &id).await["refunds"][0]["state"] == "asked"
        })
        .await;
        // Without an endpoint, the shop sends it back by itself and says so.
        assert_eq!(tell(&server, "back", "refunded", &payment, json!({})).await, 204);
        ann.event("order.changed", |event| {
            event["order"]["id"] == id && event["order"]["state"] == "refunded"
        })
        .await;
        // "Paid" again after that changes nothing more.
        assert_eq!(tell(&server, &event, "paid", &payment, json!({})).await, 204);
        let found = order(&server, &key, &id).await;
        assert_eq!(
            (&found["state"], found["refunds"].as_array().unwrap().len()),
            (&json!("refunded"), 1),
            "{found}"
        );
    }
    no_differences(&server).await;
}

/// A shop that opens payments, and fails at refunds so often.
async fn shop(failures: usize, done: bool) -> (Fake, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(failures));
    let counter = left.clone();
    let shop = Fake::start(move |asked: &Asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        match body["type"].as_str().unwrap() {
            "checkout" => (
                200,
                json!({ "url": "https://shop.example/pay/1", "session": body["data"]["payment"] })
                    .to_string(),
            ),
            "refund"
                if counter
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok() =>
            {
                (503, String::new())
            }
            "refund" => (200, json!({ "done": done, "reference": "re_1" }).to_string()),
            _ => (204, String::new()),
        }
    })
    .await;
    (shop, left)
}

fn payments_of(shop: &Fake, kind: &str) -> Vec<Value> {
    let bodies = shop.asked().into_iter().map(|asked| serde_json::from_str::<Value>(&asked.body).unwrap());
    bodies.filter(|body| body["type"] == kind).map(|body| body["data"].clone()).collect()
}

#[tokio::test]
async fn refunds_in_parts_reach_the_provider_though_it_is_down_and_we_crash() {
    let (shop, _) = shop(2, true).await;
    let server = with_endpoint(&shop, &[]);
    let key = api_key(&server, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = lamps(&server, &mut host, 5).await;
    let (_, id, _) = check_out(&mut ann, &sale, "a").await;
    let payment = payments_of(&shop, "checkout")[0]["payment"].as_str().unwrap().to_owned();
    assert_eq!(tell(&server, "p", "paid", &payment, json!({ "reference": "theirs" })).await, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;

    let path = format!("/v1/orders/{}/refunds", id.as_str().unwrap());
    let refund = async |server: &Server, amount: i64| {
        send(server, "POST", &path, &key, json!({ "amount_minor": amount, "reason": "broken" })).await
    };
    assert_eq!(refund(&server, 0).await.status, 400);
    assert_eq!(refund(&server, 101).await.status, 409, "more than was paid");
    let part = refund(&server, 30).await;
    assert_eq!((part.status, &part.json()["state"]), (202, &json!("due")), "{}", part.text());
    eventually("it was tried once", async || !payments_of(&shop, "refund").is_empty()).await;
    let server = server.crash_and_restart();
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    ann.event("order.changed", |event| event["order"]["state"] == "partly_refunded").await;
    let asked = payments_of(&shop, "refund");
    assert!(asked.len() >= 3, "{asked:?}");
    let names: std::collections::BTreeSet<String> =
        asked.iter().map(|asked| asked["refund"].to_string()).collect();
    assert_eq!(names.len(), 1, "every try names the same refund");
    assert_eq!((&asked[0]["reference"], &asked[0]["amount_minor"]), (&json!("theirs"), &json!(30)));
    assert_eq!(refund(&server, 71).await.status, 409);
    let rest = send(&server, "POST", &path, &key, json!({})).await;
    assert_eq!(rest.json()["amount"]["amount_minor"], 70);
    ann.event("order.changed", |event| event["order"]["state"] == "refunded").await;
    let found = order(&server, &key, &id).await;
    assert_eq!(found["refunded"]["amount_minor"], 100);
    let states: Vec<&str> =
        found["events"].as_array().unwrap().iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["paying", "sold", "refund_due", "partly_refunded", "refund_due", "refunded"]);
    let sums = send(&server, "GET", "/v1/lives/demo/orders", &server.host_token, Value::Null).await.json();
    assert_eq!(sums["totals"]["revenue"][0]["amount_minor"], 0, "{sums}");
    no_differences(&server).await;
}

#[tokio::test]
async fn a_session_nobody_may_pay_in_any_more_is_closed() {
    let (shop, _) = shop(0, true).await;
    let server = with_endpoint(&shop, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = lamps(&server, &mut host, 5).await;
    let (hold, _, _) = check_out(&mut ann, &sale, "a").await;
    // Asked again, it is the same page, and the shop is not asked again.
    ann.ask("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    assert_eq!(payments_of(&shop, "checkout").len(), 1);
    // The attempt failed: the next one is another.
    let payment = payments_of(&shop, "checkout")[0]["payment"].as_str().unwrap().to_owned();
    assert_eq!(tell(&server, "f", "failed", &payment, json!({})).await, 204);
    ann.event("hold.changed", |event| event["hold"]["state"] == "held").await;
    ann.ask("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    assert_eq!(payments_of(&shop, "checkout")[1]["attempt"], 1);
    ann.ask("hold.cancel", json!({ "sale_id": sale, "hold_id": hold })).await;
    eventually("the shop is told", async || payments_of(&shop, "close").len() == 1).await;
}

#[tokio::test]
async fn a_dispute_marks_the_order() {
    let server = with_page();
    let key = api_key(&server, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = lamps(&server, &mut host, 5).await;
    let (_, id, payment) = check_out(&mut ann, &sale, "a").await;
    tell(&server, "p", "paid", &payment, json!({})).await;
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    assert_eq!(tell(&server, "d", "disputed", &payment, json!({})).await, 204);
    host.event("host.order", |event| event["order"]["disputed"] == true).await;
    assert_eq!(order(&server, &key, &id).await["dispute"], "open");
    assert_eq!(tell(&server, "w", "dispute_won", &payment, json!({})).await, 204);
    eventually("it is decided", async || {
        let found = order(&server, &key, &id).await;
        found["dispute"] == "won" && found["disputed"] == false && found["state"] == "sold"
    })
    .await;
}

pub async fn with_key(
    server: &Server,
    method: &str,
    path: &str,
    key: &str,
    once: &str,
    body: &Value,
) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers =
        [("content-type", "application/json"), ("authorization", bearer.as_str()), ("idempotency-key", once)];
    call(method, &server.url(path), &headers, body.to_string()).await
}

#[tokio::test]
async fn keys_permit_what_they_say_and_merchants_are_apart() {
    let server = Server::start();
    let all = api_key(&server, &[]);
    let reading = api_key(&server, &["--scopes", "orders:read,keys:write"]);
    let stranger = api_key(&server, &["--merchant", "shop-7"]);
    let get = async |path: &str, key: &str| send(&server, "GET", path, key, Value::Null).await;
    assert_eq!(get("/v1/orders", &reading).await.status, 200);
    for (path, key, status) in [
        ("/v1/webhooks", reading.as_str(), 403),
        ("/v1/orders", "", 401),
        ("/v1/orders", "hk_00000000000000000000000000_0", 401),
        ("/v1/orders", &all.replace("hk_", "hk_0")[..all.len()], 401),
        ("/v1/lives/demo/orders", &all, 200),
        ("/v1/lives/demo/orders", &stranger, 403),
        ("/v1/lives/demo", &stranger, 403),
        ("/v1/orders", &stranger, 200),
    ] {
        let answer = get(path, key).await;
        assert_eq!(answer.status, status, "{path} {key}: {}", answer.text());
    }
    assert_eq!(get("/v1/webhooks", &reading).await.json()["code"], "scope_missing");
    // A key makes no key that may more than itself.
    let more = json!({ "name": "more", "scopes": ["refunds:write"] });
    assert_eq!(send(&server, "POST", "/v1/keys", &reading, more).await.status, 403);
    let less =
        send(&server, "POST", "/v1/keys", &reading, json!({ "name": "less", "scopes": ["orders:read"] }))
            .await;
    assert_eq!(less.status, 201, "{}", less.text());
    let (id, secret) = (less.json()["id"].clone(), less.json()["secret"].as_str().unwrap().to_owned());
    assert_eq!(get("/v1/orders", &secret).await.status, 200);
    let listed = get("/v1/keys", &all).await;
    assert!(listed.text().contains(id.as_str().unwrap()) && !listed.text().contains(&secret));
    let revoke = format!("/v1/keys/{}", id.as_str().unwrap());
    assert_eq!(send(&server, "DELETE", &revoke, &stranger, Value::Null).await.status, 404);
    assert_eq!(send(&server, "DELETE", &revoke, &all, Value::Null).await.status, 200);
    assert_eq!(get("/v1/orders", &secret).await.status, 401);
    // A merchant's own tokens are worth something in that merchant's lives only.
    let own = json!({ "title": "Shop 7", "public": false });
    assert_eq!(send(&server, "PUT", "/v1/lives/shop-7-evening", &stranger, own).await.status, 200);
    let mint = json!({ "role": "host", "sub": "sam" });
    let token = send(&server, "POST", "/v1/lives/shop-7-evening/tokens", &stranger, mint).await;
    assert_eq!(token.status, 201, "{}", token.text());
    let token = token.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(get("/v1/lives/shop-7-evening/orders", &token).await.status, 200);
    assert_eq!(
        send(&server, "POST", "/v1/lives/demo/tokens", &stranger, json!({ "role": "viewer" })).await.status,
        403
    );
    let who = get("/v1/audit?limit=1", &stranger).await.json();
    assert_eq!(who["entries"][0]["action"], "POST /v1/lives/{live}/tokens", "{who}");
    assert_eq!(
        (&who["entries"][0]["role"], &who["entries"][0]["live_id"]),
        (&json!("key"), &json!("shop-7-evening"))
    );
    assert_eq!(who["entries"][0]["address"], "127.0.0.1");
    let page = get(&format!("/v1/audit?after={}", who["next"].as_str().unwrap()), &stranger).await.json();
    let actions = page["entries"].as_array().unwrap().iter().map(|entry| &entry["action"]);
    assert_eq!(actions.collect::<Vec<_>>(), ["PUT /v1/lives/{live}", "make a key"], "{page}");
}

#[tokio::test]
async fn a_post_asked_again_is_carried_out_once() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 3, "duration_ms": 600_000 });
    let path = "/v1/lives/demo/sales";
    let first = with_key(&server, "POST", path, &key, "k1", &schedule).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let again = with_key(&server, "POST", path, &key, "k1", &schedule).await;
    assert_eq!(
        (again.status, again.json(), again.header("idempotent-replayed")),
        (201, first.json(), "true")
    );
    let mut other = schedule.clone();
    other["stock"] = json!(4);
    let reused = with_key(&server, "POST", path, &key, "k1", &other).await;
    assert_eq!((reused.status, &reused.json()["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(with_key(&server, "POST", path, &key, "k2", &other).await.status, 201);
    assert_eq!(with_key(&server, "POST", path, &key, &"k".repeat(300), &other).await.status, 400);
    // What was refused is refused again, without being tried.
    let mut bad = schedule.clone();
    bad["product_id"] = json!("cake");
    for replayed in ["", "true"] {
        let refused = with_key(&server, "POST", path, &key, "k3", &bad).await;
        assert_eq!((refused.status, refused.header("idempotent-replayed")), (404, replayed));
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    // Eight at once under one key are one.
    let hold = json!({ "buyer_id": "ann", "sale_id": first.json()["sale"]["id"], "quantity": 1, "key": "h" });
    let holds = (0..8).map(|_| with_key(&server, "POST", "/v1/lives/demo/holds", &key, "k4", &hold));
    let answers = futures_util::future::join_all(holds).await;
    assert!(answers.iter().all(|answer| [201, 409].contains(&answer.status)), "{}", answers[0].text());
    let made: std::collections::BTreeSet<String> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .map(|answer| answer.json()["hold"]["id"].to_string())
        .collect();
    assert_eq!(made.len(), 1);
    let sales = send(&server, "GET", path, &key, Value::Null).await.json();
    let sale = sales["sales"]
        .as_array()
        .unwrap()
        .iter()
        .find(|sale| sale["id"] == first.json()["sale"]["id"])
        .unwrap();
    assert_eq!((&sale["held"], sales["sales"].as_array().unwrap().len()), (&json!(1), 3));
}

#[tokio::test]
async fn a_sale_over_rest_from_opening_to_payment() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let post = async |path: &str, body: Value| send(&server, "POST", path, &key, body).await;
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 3, "duration_ms": 600_000 });
    let sale = post("/v1/lives/demo/sales", schedule).await.json()["sale"]["id"].clone();
    let new = json!({ "buyer_id": "ann", "buyer_name": "Ann", "sale_id": sale, "quantity": 1, "key": "k" });
    let held = post("/v1/lives/demo/holds", new.clone()).await;
    assert_eq!((held.status, &held.json()["hold"]["state"]), (201, &json!("held")), "{}", held.text());
    let limit = post("/v1/lives/demo/holds", json!({ "buyer_id": "ann", "sale_id": sale, "key": "l" })).await;
    assert_eq!((limit.status, &limit.json()["code"]), (409, &json!("buyer_limit")));
    let hold = held.json()["hold"]["id"].as_str().unwrap().to_owned();
    let of = json!({ "buyer_id": "ann", "buyer_name": "Ann", "sale_id": sale });
    let checkout = post(&format!("/v1/lives/demo/holds/{hold}/checkout"), of.clone()).await.json();
    let pay = checkout["pay_url"].as_str().unwrap_or_else(|| panic!("{checkout}"));
    assert_eq!(send(&server, "POST", pay, "", json!({ "outcome": "paid" })).await.status, 204);
    let order_id = checkout["order"]["id"].clone();
    eventually("sold", async || order(&server, &key, &order_id).await["state"] == "sold").await;
    let listed =
        send(&server, "GET", "/v1/orders?state=sold&buyer=ann&limit=1", &key, Value::Null).await.json();
    assert_eq!(
        (&listed["orders"][0]["id"], &listed["orders"][0]["buyer_name"]),
        (&order_id, &json!("Ann")),
        "{listed}"
    );
    let next = listed["next"].as_str().unwrap();
    let empty = send(&server, "GET", &format!("/v1/orders?after={next}"), &key, Value::Null).await.json();
    assert_eq!(empty["orders"], json!([]));
    let closed = post(&format!("/v1/lives/demo/sales/{}/close", sale.as_str().unwrap()), Value::Null).await;
    assert_eq!(
        (closed.status, &closed.json()["sale"]["state"]),
        (200, &json!("closed")),
        "{}",
        closed.text()
    );
    let late = post("/v1/lives/demo/holds", json!({ "buyer_id": "bob", "sale_id": sale, "key": "k" })).await;
    assert_eq!((late.status, &late.json()["code"]), (409, &json!("sale_closed")));
    let gone = send(&server, "DELETE", &format!("/v1/lives/demo/holds/{hold}"), &key, of).await;
    assert_eq!(
        (gone.status, &gone.json()["code"]),
        (409, &json!("wrong_state")),
        "it is paid: {}",
        gone.text()
    );
}

#[tokio::test]
async fn webhooks_are_signed_in_order_retried_and_replayed() {
    let failures = Arc::new(AtomicUsize::new(1));
    let left = failures.clone();
    let shop = Fake::start(move |_| {
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => (500, String::new()),
            Err(_) => (204, String::new()),
        }
    })
    .await;
    let server = Server::start_with(&[("HAUL__WEBHOOKS__ALLOW_PRIVATE", "true")]);
    let key = api_key(&server, &[]);
    let made =
        send(&server, "POST", "/v1/webhooks", &key, json!({ "url": shop.url, "kinds": ["order.*"] })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("/v1/webhooks/{}", made.json()["id"].as_str().unwrap());
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "a" })).await["result"]["hold"]["id"].clone();
    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    let pay = checkout["result"]["pay_url"].as_str().unwrap();
    assert_eq!(send(&server, "POST", pay, "", json!({ "outcome": "paid" })).await.status, 204);
    // The first attempt fails, and what came after it for the same order waits.
    eventually("both have arrived", async || shop.asked().len() == 3).await;
    let told = shop.asked();
    let kinds: Vec<Value> = told
        .iter()
        .map(|asked| serde_json::from_str::<Value>(&asked.body).unwrap()["type"].clone())
        .collect();
    assert_eq!(kinds, ["order.paying", "order.paying", "order.sold"]);
    assert_eq!(
        told[0].header("webhook-id"),
        told[1].header("webhook-id"),
        "a repeated delivery has the same id"
    );
    let now = haul_model::UnixMillis::from(SystemTime::now());
    for asked in &told {
        let header = |name: &str| asked.header(name);
        assert!(SigningKey::parse(&secret).unwrap().verify(&header, asked.body.as_bytes(), now).is_ok());
    }
    let sold: Value = serde_json::from_str(&told[2].body).unwrap();
    assert_eq!(sold["data"]["total"], json!({ "amount_minor": 1600, "currency": "EUR" }));
    assert!(sold["timestamp"].as_str().unwrap().ends_with('Z'));
    let done = async || {
        send(&server, "GET", &format!("{path}/deliveries?state=done"), &key, Value::Null).await.json()
    };
    let mut list = Value::Null;
    eventually("both are known to have arrived", async || {
        list = done().await;
        list["deliveries"].as_array().unwrap().len() == 2
    })
    .await;
    let first =
        list["deliveries"].as_array().unwrap().iter().find(|one| one["kind"] == "order.paying").unwrap();
    assert_eq!((&first["attempts"], &first["status"]), (&json!(2), &json!(204)));

    // With a new secret, both sign; a replayed message comes again.
    let rotated = send(&server, "POST", &format!("{path}/rotate"), &key, Value::Null).await.json();
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(new, secret);
    let replay = json!({ "message_id": first["message_id"] });
    assert_eq!(send(&server, "POST", &format!("{path}/replay"), &key, replay).await.status, 202);
    eventually("it comes again", async || shop.asked().len() == 4).await;
    let again = shop.asked().pop().unwrap();
    let header = |name: &str| again.header(name);
    for secret in [&secret, &new] {
        assert!(SigningKey::parse(secret).unwrap().verify(&header, again.body.as_bytes(), now).is_ok());
    }
    let off = send(&server, "PATCH", &path, &key, json!({ "enabled": false })).await.json();
    assert_eq!(
        (&off["enabled"], &off["disabled_reason"]),
        (&json!(false), &json!("disabled by the merchant"))
    );
    assert_eq!(send(&server, "DELETE", &path, &key, Value::Null).await.status, 204);
    assert_eq!(send(&server, "GET", &path, &key, Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_webhook_does_not_lead_into_ones_own_network() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    for url in
        ["http://shop.example/", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "ftp://x", ""]
    {
        let refused = send(&server, "POST", "/v1/webhooks", &key, json!({ "url": url })).await;
        assert_eq!(refused.status, 400, "{url}: {}", refused.text());
    }
    let bad = json!({ "url": "https://shop.example/", "kinds": ["Order Sold"] });
    assert_eq!(send(&server, "POST", "/v1/webhooks", &key, bad).await.status, 400);
    // A name may lead anywhere: it is looked at when it is called.
    let named = send(&server, "POST", "/v1/webhooks", &key, json!({ "url": "https://localhost/" })).await;
    assert_eq!(named.status, 201);
    let path = format!("/v1/webhooks/{}/deliveries", named.json()["id"].as_str().unwrap());
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "a" })).await["result"]["hold"]["id"].clone();
    ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    eventually("it is refused", async || {
        let list = send(&server, "GET", &path, &key, Value::Null).await.json();
        list["deliveries"][0]["error"].as_str().is_some_and(|error| error.contains("public Internet"))
    })
    .await;
}

#[tokio::test]
async fn who_takes_too_much_or_is_not_wanted_gets_no_hold() {
    let check = Fake::start(|asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        match body["data"]["buyer_id"].as_str().unwrap() {
            "ann" => (200, json!({ "allow": true }).to_string()),
            "bob" => (200, json!({ "allow": false }).to_string()),
            _ => (500, String::new()),
        }
    })
    .await;
    for (fails, code) in [("open", "held"), ("closed", "unavailable")] {
        let server = Server::start_with(&[
            ("HAUL__RISK__HOLDS_PER_ACCOUNT", "2"),
            ("HAUL__RISK__CHECK_URL", &check.url),
            ("HAUL__RISK__CHECK_SECRET", SECRET),
            ("HAUL__RISK__CHECK_FAILS", fails),
        ]);
        let mut answers = Vec::new();
        let asked = [
            ("ann", "a"),
            ("ann", "b"),
            ("ann", "c"),
            ("ann", "a"),
            ("bob", "a"),
            ("bob", "a"),
            ("cid", "a"),
        ];
        for (buyer, key) in asked {
            let mut channel = Channel::open(&server, "demo", &viewer_token(&server, buyer).await).await;
            let sale = channel.hello["result"]["sales"][0]["id"].clone();
            let answer = channel.ask("hold", json!({ "sale_id": sale, "key": key })).await;
            let said =
                if answer["type"] == "error" { &answer["code"] } else { &answer["result"]["hold"]["state"] };
            answers.push(said.as_str().unwrap().to_owned());
        }
        assert_eq!(answers, ["held", "held", "rate_limited", "held", "forbidden", "forbidden", code]);
    }
    let asked = &check.asked()[0];
    let header = |name: &str| asked.header(name);
    let now = SystemTime::now().into();
    assert!(SigningKey::parse(SECRET).unwrap().verify(&header, asked.body.as_bytes(), now).is_ok());
}

#[tokio::test]
async fn what_a_host_does_is_in_the_audit_log() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    host.ask("pin", json!({ "product_id": "lamp" })).await;
    let tea = json!({ "title": "Tea", "price_minor": 2400, "currency": "EUR" });
    send(&server, "PUT", "/v1/lives/demo/products/tea", &server.host_token, tea).await;
    eventually("both are written down", async || {
        let page = send(&server, "GET", "/v1/audit?live=demo&actor=host", &key, Value::Null).await.json();
        let actions: Vec<&str> =
            page["entries"].as_array().unwrap().iter().filter_map(|entry| entry["action"].as_str()).collect();
        actions.contains(&"pin") && actions.contains(&"PUT /v1/lives/{live}/products/{product}")
    })
    .await;
}
