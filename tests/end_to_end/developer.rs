//! What a merchant's developer meets: orders that say what they consist of, refusals that programs can read, lists by the
//! states that are shown, and holds that a backend takes as fully as a buyer would.

use serde_json::{Value, json};

use crate::{
    money::api_key,
    server::{Server, eventually},
    shop::Fake,
    talk::{Answer, Channel, call, send, viewer_token},
};

fn eur(amount_minor: i64) -> Value {
    json!({ "amount_minor": amount_minor, "currency": "EUR" })
}

async fn get(server: &Server, path: &str, key: &str) -> Answer {
    send(server, "GET", path, key, Value::Null).await
}

/// Schedules a sale and gives its id.
async fn schedule(server: &Server, key: &str, sale: Value) -> String {
    let made = send(server, "POST", "/v1/lives/demo/sales", key, sale).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["sale"]["id"].as_str().unwrap().to_owned()
}

/// Goes to pay for a hold, pays, and waits until it is sold; gives the order.
async fn pay(server: &Server, key: &str, sale: &str, hold: &str, buyer: &str) -> Value {
    let path = format!("/v1/lives/demo/holds/{hold}/checkout");
    let checkout = send(server, "POST", &path, key, json!({ "buyer_id": buyer, "sale_id": sale })).await;
    assert_eq!(checkout.status, 200, "{}", checkout.text());
    let checkout = checkout.json();
    let url = checkout["pay_url"].as_str().unwrap();
    assert_eq!(send(server, "POST", url, "", json!({ "outcome": "paid" })).await.status, 204);
    let path = format!("/v1/orders/{}", checkout["order"]["id"].as_str().unwrap());
    let mut order = Value::Null;
    eventually("it is sold", async || {
        order = get(server, &path, key).await.json();
        order["state"] == "sold"
    })
    .await;
    order
}

/// A bundle of a lamp of one size and two teas: each place where the order is told says which.
#[tokio::test]
async fn an_order_says_what_it_consists_of_wherever_it_is_told() {
    let shop = Fake::start(|_| (204, String::new())).await;
    let server = Server::start_with(&[("HAUL__WEBHOOKS__ALLOW_PRIVATE", "true")]);
    let key = api_key(&server, &[]);
    let hook = json!({ "url": shop.url, "kinds": ["order.sold", "refund.*"] });
    assert_eq!(send(&server, "POST", "/v1/webhooks", &key, hook).await.status, 201);
    let lamp = json!({ "id": "lamp", "title": "Lamp", "price_minor": 8900, "currency": "EUR",
        "options": [{ "name": "Size", "values": ["S", "L"] }],
        "variants": [{ "sku": "LAMP-S", "values": ["S"] }, { "sku": "LAMP-L", "values": ["L"] }] });
    let put = send(&server, "POST", "/v1/products:batch", &key, json!({ "products": [lamp] })).await;
    assert_eq!(put.json()["accepted"], 1, "{}", put.text());
    let bundle = json!({ "product_id": "lamp", "variant_id": "LAMP-L", "price_minor": 5900, "stock": 5,
        "per_buyer": 3, "duration_ms": 600_000,
        "more": [{ "product_id": "tea", "price_minor": 800, "stock": 5, "per_buyer": 3 }] });
    let sale = schedule(&server, &key, bundle).await;
    let mut host = Channel::open(&server, "demo", &server.host_token).await;

    let both = json!([{ "line": 0, "quantity": 1 }, { "line": 1, "quantity": 2 }]);
    let hold = json!({ "buyer_id": "ann", "sale_id": sale, "lines": both, "key": "a" });
    let held = send(&server, "POST", "/v1/lives/demo/holds", &key, hold).await.json();
    let order = pay(&server, &key, &sale, held["hold"]["id"].as_str().unwrap(), "ann").await;
    let lines = json!([
        { "line": 0, "product_id": "lamp", "variant_id": "LAMP-L", "quantity": 1, "unit_price": eur(5900),
          "total": eur(5900) },
        { "line": 1, "product_id": "tea", "quantity": 2, "unit_price": eur(800), "total": eur(1600) },
    ]);
    assert_eq!((&order["lines"], &order["total"]), (&lines, &eur(7500)), "{order}");
    let listed = get(&server, "/v1/orders", &key).await.json();
    assert_eq!(listed["orders"][0]["lines"], lines, "{listed}");
    let of_live = get(&server, "/v1/lives/demo/orders", &key).await.json();
    assert_eq!(of_live["orders"][0]["lines"], lines, "{of_live}");
    let told = host.event("host.order", |event| event["order"]["state"] == "sold").await;
    assert_eq!(told["order"]["lines"], lines, "{told}");

    // One line of one unit is a line, too.
    let plain = json!({ "product_id": "tea", "price_minor": 700, "stock": 5, "duration_ms": 600_000 });
    let sale = schedule(&server, &key, plain).await;
    let hold = json!({ "buyer_id": "bob", "sale_id": sale, "key": "b" });
    let held = send(&server, "POST", "/v1/lives/demo/holds", &key, hold).await.json();
    let single = pay(&server, &key, &sale, held["hold"]["id"].as_str().unwrap(), "bob").await;
    let line =
        json!({ "line": 0, "product_id": "tea", "quantity": 1, "unit_price": eur(700), "total": eur(700) });
    assert_eq!(single["lines"], json!([line]), "{single}");

    let path = format!("/v1/orders/{}/refunds", order["id"].as_str().unwrap());
    // What nobody reads was meant to be read: nothing goes back for it.
    for (wrong, told) in [
        (json!({ "amount": 500 }), "amount"),
        (json!({ "line": [{ "quantity": 1 }] }), "line"),
        (json!({ "lines": [] }), "lines"),
        (json!({ "lines": [{ "line": 1, "quantities": 1 }] }), "quantities"),
    ] {
        let refused = send(&server, "POST", &path, &key, wrong.clone()).await;
        assert!([400, 422].contains(&refused.status), "{wrong}: {}", refused.text());
        assert!(refused.text().contains(told), "{wrong}: {}", refused.text());
    }
    let untold = json!({ "url": shop.url, "kinds": ["order.solde"] });
    let refused = send(&server, "POST", "/v1/webhooks", &key, untold).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("order.sold,"), "{}", refused.text());
    // One of the two teas, and a fifth of the lamp.
    let both = json!([{ "line": 1, "quantity": 1 }, { "line": 0, "amount_minor": 200 }]);
    let asked = send(&server, "POST", &path, &key, json!({ "lines": both })).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    let parts = json!([{ "line": 0, "amount": eur(200) }, { "line": 1, "amount": eur(800) }]);
    assert_eq!((&asked.json()["amount"], &asked.json()["lines"]), (&eur(1000), &parts));
    for (ask, status) in [
        (json!({ "lines": [{ "line": 1, "amount_minor": 801 }] }), 409),
        (json!({ "lines": [{ "line": 2 }] }), 409),
        (json!({ "lines": [{ "line": 1, "quantity": 3 }] }), 409),
        (json!({ "lines": [{ "line": 1, "amount_minor": 5 }], "amount_minor": 6 }), 409),
        (json!({ "lines": [{ "line": 1, "amount_minor": 0 }] }), 400),
    ] {
        let refused = send(&server, "POST", &path, &key, ask.clone()).await;
        assert_eq!(refused.status, status, "{ask}: {}", refused.text());
    }
    let told = |kind: &str| {
        let bodies = shop
            .asked()
            .iter()
            .map(|asked| serde_json::from_str(&asked.body).unwrap())
            .collect::<Vec<Value>>();
        bodies.into_iter().find(|body| body["type"] == kind && body["data"]["id"] == order["id"])
    };
    eventually("the webhook has both", async || {
        told("order.sold").is_some() && told("refund.created").is_some()
    })
    .await;
    assert_eq!(told("order.sold").unwrap()["data"]["lines"], lines);
    let refund = told("refund.created").unwrap()["data"].clone();
    assert_eq!(refund["lines"], lines, "{refund}");
    assert_eq!(
        (&refund["refund"]["amount"], &refund["refund"]["state"], &refund["refund"]["order_id"]),
        (&eur(1000), &json!("due"), &order["id"]),
        "{refund}"
    );
    assert_eq!(refund["refund"]["lines"], parts, "{refund}");
}

#[tokio::test]
async fn every_refusal_under_v1_is_a_problem_document() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let large = " ".repeat(64 * 1024 + 1);
    let callback = "/v1/payments/callback/sandbox";
    for (method, path, body, status, code) in [
        ("GET", "/v1/lives/%ff", "", 400, "bad_request"),
        ("POST", callback, &large, 413, "too_large"),
        ("GET", callback, "", 405, "method_not_allowed"),
        ("POST", callback, "{}", 401, "unsigned"),
        ("GET", "/v1/nothing", "", 404, "not_found"),
        ("POST", "/v1/webhooks", &large, 413, "too_large"),
        ("POST", "/v1/webhooks", "{", 400, "bad_request"),
        ("GET", "/v1/orders?limit=many", "", 400, "bad_request"),
        ("GET", "/v1/orders?after=%00", "", 400, "bad_request"),
        ("POST", "/v1/keys", r#"{"name":"a\u0000b","scopes":["orders:read"]}"#, 400, "bad_request"),
    ] {
        let refused = call(method, &server.url(path), &headers, body).await;
        assert_eq!(refused.status, status, "{method} {path}: {}", refused.text());
        assert_eq!(refused.header("content-type"), "application/problem+json", "{method} {path}");
        let document = refused.json();
        assert_eq!(
            (&document["code"], &document["status"]),
            (&json!(code), &json!(status)),
            "{method} {path}"
        );
        assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{document}");
        if status == 405 {
            assert_eq!(refused.header("allow"), "POST");
        }
    }
    let told = call("GET", &server.url("/v1/lives/%ff"), &headers, "").await.json();
    assert!(told["detail"].as_str().unwrap().contains("UTF-8"), "it says what was wrong: {told}");
    // What is not ours to describe stays as it is.
    assert_eq!(call("GET", &server.url("/healthz"), &headers, "").await.text(), "ok\n");
}

#[tokio::test]
async fn a_key_opens_what_is_open_to_everybody() {
    let server = Server::start();
    let all = api_key(&server, &[]);
    let sale = json!({ "product_id": "tea", "price_minor": 100, "stock": 1, "duration_ms": 600_000 });
    let path = format!("/v1/lives/demo/sales/{}/draw", schedule(&server, &all, sale).await);
    let sales = api_key(&server, &["--scopes", "sales:read"]);
    let others = api_key(&server, &["--scopes", "orders:read"]);
    let stranger = api_key(&server, &["--merchant", "shop-7"]);
    for (key, status, code) in [
        ("", 409, "not_drawn"),
        (all.as_str(), 409, "not_drawn"),
        (&sales, 409, "not_drawn"),
        (&others, 403, "scope_missing"),
        (&stranger, 403, "wrong_live"),
    ] {
        let answer = get(&server, &path, key).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_backend_says_who_holds_and_from_where() {
    let check = Fake::start(|asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        (200, json!({ "allow": body["data"]["address"] != "203.0.113.66" }).to_string())
    })
    .await;
    let server = Server::start_with(&[
        ("HAUL__RISK__HOLDS_PER_DEVICE", "2"),
        ("HAUL__RISK__HOLDS_PER_ADDRESS", "3"),
        ("HAUL__RISK__CHECK_URL", &check.url),
        ("HAUL__RISK__CHECK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ]);
    let key = api_key(&server, &[]);
    let plain = json!({ "product_id": "tea", "price_minor": 100, "stock": 50, "duration_ms": 600_000 });
    let sale = schedule(&server, &key, plain).await;
    let hold = async |buyer: &str, more: Value| {
        let mut asks = json!({ "buyer_id": buyer, "sale_id": sale, "key": "k" });
        asks.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        let answer = send(&server, "POST", "/v1/lives/demo/holds", &key, asks).await;
        let answered = answer.json();
        answered["hold"]["state"].as_str().or(answered["code"].as_str()).unwrap_or_default().to_owned()
    };
    let phone = json!({ "device": "phone-7" });
    for (buyer, said) in
        [("a1", "held"), ("a2", "held"), ("a3", "rate_limited"), ("a1", "held"), ("a2", "held")]
    {
        assert_eq!(hold(buyer, phone.clone()).await, said, "{buyer}: a retry is no other hold");
    }
    let home = json!({ "address": "2001:db8::7" });
    for (buyer, said) in
        [("b1", "held"), ("b2", "held"), ("b3", "held"), ("b4", "rate_limited"), ("b1", "held")]
    {
        assert_eq!(hold(buyer, home.clone()).await, said, "{buyer}");
    }
    assert_eq!(
        hold("c1", json!({ "address": "203.0.113.66" })).await,
        "forbidden",
        "the shop's check hears of it"
    );
    assert_eq!(hold("c2", json!({ "address": "at home" })).await, "bad_request");
    assert_eq!(hold("c3", json!({ "device": "x".repeat(129) })).await, "bad_request");
    assert_eq!(hold("c4", json!({})).await, "held", "what is not said is not looked at");
    let asked: Vec<Value> =
        check.asked().iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    assert_eq!(asked[0]["data"]["device"], "phone-7", "{}", asked[0]);
    assert_eq!(asked.len(), 2 + 3 + 2, "a hold that was let through is asked about once");

    // A tier that may come earlier, while nobody else may.
    let early = json!({ "product_id": "lamp", "price_minor": 100, "stock": 3, "duration_ms": 600_000,
        "opens_at": haul_live::now().wall + std::time::Duration::from_secs(300), "early": [{ "tier": "gold", "ms": 600_000 }] });
    let early = schedule(&server, &key, early).await;
    assert_eq!(hold("d1", json!({ "sale_id": early, "tier": "gold" })).await, "held");
    assert_eq!(hold("d2", json!({ "sale_id": early, "tier": "tin" })).await, "sale_not_open");
    assert_eq!(hold("d3", json!({ "sale_id": early })).await, "sale_not_open");
}

#[tokio::test]
async fn a_backend_waits_in_line_for_its_buyers() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let one = json!({ "product_id": "lamp", "price_minor": 100, "stock": 1, "duration_ms": 600_000,
        "offer_ms": 60_000 });
    let sale = schedule(&server, &key, one).await;
    let line = async |buyer: &str| {
        let asks = json!({ "buyer_id": buyer, "buyer_name": buyer, "sale_id": sale, "key": "k" });
        let answer = send(&server, "POST", "/v1/lives/demo/line", &key, asks).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["hold"].clone()
    };
    let ann = line("ann").await;
    assert_eq!(ann["state"], "held", "what is free is set aside: {ann}");
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    let place = line("bob").await;
    assert_eq!((&place["state"], &place["position"]), (&json!("waiting"), &json!(1)), "{place}");
    assert_eq!(line("bob").await["id"], place["id"], "the same key, the same place");
    let path = format!("/v1/lives/demo/holds/{}", ann["id"].as_str().unwrap());
    let gone = json!({ "buyer_id": "ann", "sale_id": sale });
    assert_eq!(send(&server, "DELETE", &path, &key, gone).await.status, 200);
    bob.event("hold.changed", |event| event["hold"]["id"] == place["id"] && event["hold"]["state"] == "held")
        .await;
    let reader = api_key(&server, &["--scopes", "holds:read"]);
    let asks = json!({ "buyer_id": "cid", "sale_id": sale, "key": "k" });
    assert_eq!(send(&server, "POST", "/v1/lives/demo/line", &reader, asks).await.status, 403);
}

#[tokio::test]
async fn orders_and_refunds_are_found_by_the_states_that_they_show() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let plain = json!({ "product_id": "tea", "price_minor": 100, "stock": 9, "duration_ms": 600_000 });
    let sale = schedule(&server, &key, plain).await;
    let mut orders = Vec::new();
    for (buyer, back) in [("ann", 0), ("bob", 40), ("cid", 60), ("dan", 100)] {
        let hold = json!({ "buyer_id": buyer, "sale_id": sale, "key": "k" });
        let held = send(&server, "POST", "/v1/lives/demo/holds", &key, hold).await.json();
        let order = pay(&server, &key, &sale, held["hold"]["id"].as_str().unwrap(), buyer).await;
        let id = order["id"].as_str().unwrap().to_owned();
        if back > 0 {
            let path = format!("/v1/orders/{id}/refunds");
            let asked = send(&server, "POST", &path, &key, json!({ "amount_minor": back })).await;
            assert_eq!(asked.status, 202, "{}", asked.text());
            eventually("the money has gone back", async || {
                let order = get(&server, &format!("/v1/orders/{id}"), &key).await.json();
                order["refunded"]["amount_minor"] == back
            })
            .await;
        }
        orders.push(id);
    }
    let found = async |what: &str, query: &str, name: &str| -> Vec<String> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/{what}?limit=1&{query}{after}");
            let page = get(&server, &path, &key).await;
            assert_eq!(page.status, 200, "{path}: {}", page.text());
            let page = page.json();
            found.extend(
                page[what].as_array().unwrap().iter().map(|one| one[name].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next"].as_str() else { return found };
            after = format!("&after={next}");
        }
    };
    let [ann, bob, cid, dan] = [0, 1, 2, 3].map(|number: usize| orders[number].clone());
    assert_eq!(found("orders", "state=partly_refunded", "id").await, [cid.clone(), bob.clone()]);
    assert_eq!(found("orders", "state=refunded", "id").await, std::slice::from_ref(&dan));
    assert_eq!(found("orders", "state=sold", "id").await, [ann]);
    assert_eq!(found("refunds", "state=done", "order_id").await, [dan, cid.clone(), bob]);
    assert_eq!(found("refunds", &format!("order={cid}"), "order_id").await, [cid]);
    assert_eq!(found("refunds", "state=failed", "order_id").await, [""; 0]);
    assert_eq!(found("refunds", "since=4000000000000", "order_id").await, [""; 0]);
    for path in
        ["/v1/orders?state=asleep", "/v1/refunds?state=asleep", "/v1/refunds?after=x", "/v1/refunds?order=/"]
    {
        let refused = get(&server, path, &key).await;
        assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("bad_request")), "{path}");
    }
    for (args, status) in [(&["--scopes", "refunds:read"][..], 200), (&["--scopes", "orders:read"], 403)] {
        assert_eq!(get(&server, "/v1/refunds", &api_key(&server, args)).await.status, status);
    }
    let stranger = api_key(&server, &["--merchant", "shop-7"]);
    assert_eq!(get(&server, "/v1/refunds", &stranger).await.json()["refunds"], json!([]));
}

#[tokio::test]
async fn a_currency_is_one_that_is_in_use() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let product = |id: &str, currency: &str| json!({ "id": id, "title": "Cup", "price_minor": 900, "currency": currency });
    for currency in ["ABC", "DEM", "XXX", "eur"] {
        let put = send(&server, "PUT", "/v1/lives/demo/products/cup", &key, product("cup", currency)).await;
        assert!([400, 422].contains(&put.status), "{currency}: {}", put.text());
        assert!(put.json()["detail"].as_str().unwrap().contains("ISO 4217"), "{}", put.text());
    }
    // One bad product costs the others nothing.
    let batch = json!({ "products": [product("cup", "ABC"), product("pot", "XCG")] });
    let put = send(&server, "POST", "/v1/products:batch", &key, batch).await.json();
    assert_eq!((&put["accepted"], &put["refused"]), (&json!(1), &json!(1)), "{put}");
    assert!(put["results"][0].to_string().contains("ABC is no currency in use"), "{put}");
}
