//! A merchant's backend with API keys: lists in pages, sales changed and holds looked at over REST, notices as webhooks,
//! badges over all lives, and refusals that programs can read.

use serde_json::{Value, json};

use crate::{
    money::api_key,
    server::{Server, eventually},
    shop::Fake,
    talk::{Channel, call, send, viewer_token},
};

#[tokio::test]
async fn a_key_reaches_the_whole_backend_as_far_as_its_scopes() {
    let server = Server::start();
    let all = api_key(&server, &[]);
    let products = api_key(&server, &["--scopes", "products:write,lives:read"]);
    let get = async |path: &str, key: &str| send(&server, "GET", path, key, Value::Null).await;
    let lamp =
        json!({ "products": [{ "id": "cup", "title": "Cup", "price_minor": 900, "currency": "EUR" }] });
    let put = send(&server, "POST", "/v1/products:batch", &products, lamp).await;
    assert_eq!((put.status, &put.json()["accepted"]), (200, &json!(1)), "{}", put.text());
    assert_eq!(get("/v1/products/cup", &products).await.json()["title"], "Cup");
    let creator = json!({ "name": "Mia", "kind": "kol" });
    for (key, status) in [(&products, 403), (&all, 200)] {
        assert_eq!(send(&server, "PUT", "/v1/creators/mia", key, creator.clone()).await.status, status);
    }
    for path in [
        "/v1/buyers",
        "/v1/buyers/ann",
        "/v1/creators",
        "/v1/notices",
        "/v1/creators/mia/metrics",
        "/v1/lives/demo/metrics",
        "/v1/lives/demo/holds?buyer=ann",
    ] {
        assert_eq!(get(path, &all).await.status, 200, "{path}");
        let refused = get(path, &products).await;
        assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("scope_missing")), "{path}");
        assert_eq!(get(path, "").await.status, 401, "{path}");
    }
    for path in ["/v1/lives/demo/products", "/v1/lives/demo/products/tea/quote", "/v1/lives/demo"] {
        assert_eq!(get(path, &products).await.status, 200, "{path}");
    }
    // Another merchant's key finds nothing of this one's.
    let stranger = api_key(&server, &["--merchant", "shop-7"]);
    assert_eq!(get("/v1/products/cup", &stranger).await.status, 404);
    assert_eq!(get("/v1/lives/demo/products", &stranger).await.json()["code"], "wrong_live");
    assert_eq!(get("/v1/lives", &stranger).await.json()["lives"], json!([]));
    // What cannot be read is a problem document, too.
    for (path, status, code) in [
        ("/v1/products?limit=many", 400, "bad_request"),
        ("/v1/products?limit=201", 400, "bad_request"),
        ("/v1/lives?state=asleep", 400, "bad_request"),
        ("/v1/orders?after=x", 400, "bad_request"),
        ("/v1/lives/demo/holds", 400, "bad_request"),
    ] {
        let refused = get(path, &all).await;
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(code)), "{path}");
        assert_eq!(refused.header("content-type"), "application/problem+json", "{path}");
    }
    let refused = send(&server, "DELETE", "/v1/orders", &all, Value::Null).await;
    assert_eq!((refused.status, &refused.json()["code"]), (405, &json!("method_not_allowed")));
}

#[tokio::test]
async fn lives_are_listed_in_pages_and_by_their_state() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    for live in ["one", "two"] {
        let put = json!({ "title": live, "public": true });
        assert_eq!(send(&server, "PUT", &format!("/v1/lives/{live}"), &key, put).await.status, 200);
    }
    let mut found = Vec::new();
    let mut path = "/v1/lives?limit=1".to_owned();
    loop {
        let page = send(&server, "GET", &path, &key, Value::Null).await.json();
        found.extend(page["lives"].as_array().unwrap().iter().map(|live| live["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/lives?limit=1&after={next}");
    }
    found.sort_by_key(ToString::to_string);
    assert_eq!(found, ["demo", "one", "two"]);
    let by = async |state: &str| {
        send(&server, "GET", &format!("/v1/lives?state={state}"), &key, Value::Null).await.json()["lives"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!((by("waiting").await, by("live").await), (3, 0));
}

#[tokio::test]
async fn a_sale_is_changed_over_rest_and_every_change_is_in_the_audit_log() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let ask = async |method: &str, path: &str, body: Value| send(&server, method, path, &key, body).await;
    let soon = json!({ "product_id": "lamp", "price_minor": 100, "stock": 1, "duration_ms": 600_000,
        "opens_at": "2096-10-02T07:06:40Z" });
    let made = ask("POST", "/v1/lives/demo/sales", soon).await;
    assert_eq!((made.status, &made.json()["sale"]["state"]), (201, &json!("scheduled")), "{}", made.text());
    let id = made.json()["sale"]["id"].as_str().unwrap().to_owned();
    let sale = format!("/v1/lives/demo/sales/{id}");
    let moved = ask("PATCH", &sale, json!({ "opens_at": "2096-10-02T15:08:20.000+08:00" })).await.json();
    assert_eq!(
        (&moved["sale"]["opens_at"], &moved["sale"]["closes_at"]),
        (&json!("2096-10-02T07:08:20.000Z"), &json!("2096-10-02T07:18:20.000Z")),
        "{moved}"
    );
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    assert_eq!(ask("POST", &format!("{sale}/open"), Value::Null).await.json()["sale"]["state"], "open");
    let late = ask("PATCH", &sale, json!({ "opens_at": "2096-10-02T07:06:40Z" })).await;
    assert_eq!((late.status, &late.json()["code"]), (409, &json!("wrong_state")), "it has opened");
    assert_eq!(ask("POST", &format!("{sale}/pause"), Value::Null).await.json()["sale"]["state"], "paused");
    let hold = json!({ "buyer_id": "ann", "sale_id": id, "key": "a" });
    let refused = ask("POST", "/v1/lives/demo/holds", hold.clone()).await;
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("sale_paused")));
    assert_eq!(ask("POST", &format!("{sale}/resume"), Value::Null).await.json()["sale"]["state"], "open");
    for _ in 0..2 {
        let more = ask("POST", &format!("{sale}/stock"), json!({ "units": 2, "key": "more" })).await;
        assert_eq!(more.json()["sale"]["stock"], 3, "once under one key: {}", more.text());
    }
    assert_eq!(ask("POST", "/v1/lives/demo/holds", hold).await.status, 201);
    let holds = ask("GET", "/v1/lives/demo/holds?buyer=ann", Value::Null).await.json();
    assert_eq!(
        (&holds["holds"][0]["sale_id"], &holds["holds"][0]["state"], holds["holds"][1].is_null()),
        (&json!(id), &json!("held"), true),
        "{holds}"
    );
    let shown = ask("GET", &sale, Value::Null).await.json();
    assert_eq!((&shown["sale"]["stock"], &shown["sale"]["held"]), (&json!(3), &json!(1)));
    assert_eq!(ask("GET", "/v1/lives/demo/sales/none", Value::Null).await.status, 404);
    ann.event("sale.changed", |event| event["sale"]["id"] == id && event["sale"]["state"] == "paused").await;
    let log = ask("GET", "/v1/audit?live=demo", Value::Null).await.json();
    let noted: Vec<&str> =
        log["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in ["PATCH /v1/lives/{live}/sales/{sale}", "POST /v1/lives/{live}/sales/{sale}/pause"] {
        assert!(noted.contains(&action), "{noted:?}");
    }
}

#[tokio::test]
async fn what_follows_from_an_order_reaches_webhooks_and_badges_in_other_lives() {
    let shop = Fake::start(|_| (204, String::new())).await;
    let server = Server::start_with(&[("HAUL__WEBHOOKS__ALLOW_PRIVATE", "true")]);
    let key = api_key(&server, &[]);
    let hook = json!({ "url": shop.url, "kinds": ["buyer.*"] });
    assert_eq!(send(&server, "POST", "/v1/webhooks", &key, hook).await.status, 201);
    let put = json!({ "title": "Other", "public": true });
    assert_eq!(send(&server, "PUT", "/v1/lives/other", &key, put).await.status, 200);
    let token = async |sub: &str| {
        let mint = json!({ "sub": sub, "role": "viewer", "name": sub });
        let minted = send(&server, "POST", "/v1/lives/other/tokens", &key, mint).await;
        minted.json()["token"].as_str().unwrap().to_owned()
    };
    let badges = async |text: &str| {
        let mut ann = Channel::open(&server, "other", &token("ann").await).await;
        let mut bob = Channel::open(&server, "other", &token("bob").await).await;
        ann.ask("chat.send", json!({ "text": text })).await;
        bob.event("chat.message", |event| event["text"] == text).await["badges"].clone()
    };
    assert_eq!(badges("first").await, Value::Null, "before the first paid order");

    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    for (key, badge) in [("a", "verified_buyer"), ("b", "repeat_buyer")] {
        let held =
            ann.ask("hold", json!({ "sale_id": sale, "key": key })).await["result"]["hold"]["id"].clone();
        let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
        let pay = checkout["result"]["pay_url"].as_str().unwrap_or_else(|| panic!("{checkout}"));
        assert_eq!(send(&server, "POST", pay, "", json!({ "outcome": "paid" })).await.status, 204);
        let order = checkout["result"]["order"]["id"].clone();
        ann.event("order.changed", |event| {
            event["order"]["id"] == order && event["order"]["state"] == "sold"
        })
        .await;
        let shown = badges(badge).await;
        assert!(shown.as_array().is_some_and(|shown| shown.contains(&json!(badge))), "{shown}");
    }
    eventually("the milestone is told", async || !shop.asked().is_empty()).await;
    let asked = &shop.asked()[0];
    let told: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(
        (&told["type"], &told["data"]["buyer_id"]),
        (&json!("buyer.milestone"), &json!("ann")),
        "{told}"
    );
    let notices = send(&server, "GET", "/v1/notices", &key, Value::Null).await.json();
    assert_eq!(asked.header("webhook-id").unwrap(), notices["notices"][0]["id"], "one id for one thing");
    let buyers = send(&server, "GET", "/v1/buyers", &key, Value::Null).await;
    eventually("the second is followed", async || {
        let buyers = send(&server, "GET", "/v1/buyers", &key, Value::Null).await.json();
        buyers["buyers"][0]["badge"] == "repeat_buyer"
    })
    .await;
    assert_eq!(buyers.json()["buyers"][0]["id"], "ann");
}

#[tokio::test]
async fn a_post_of_any_kind_is_carried_out_once_under_its_key() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let creator = json!({ "name": "Mia", "kind": "kol" });
    assert_eq!(send(&server, "PUT", "/v1/creators/mia", &key, creator).await.status, 200);
    let bearer = format!("Bearer {key}");
    let headers =
        [("content-type", "application/json"), ("authorization", &bearer), ("idempotency-key", "once")];
    let link = async |ttl: u64| {
        let body = json!({ "live": "demo", "ttl_seconds": ttl }).to_string();
        call("POST", &server.url("/v1/creators/mia/links"), &headers, body).await
    };
    let first = link(60).await;
    let again = link(60).await;
    assert_eq!((first.status, again.status, again.header("idempotent-replayed")), (201, 201, "true"));
    assert_eq!(first.json(), again.json());
    let other = link(61).await;
    assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_key_reused")));
}
