//! What is asked again because its answer was lost, and words that come in another order than what they tell.

use std::io::Write;

use serde_json::{Value, json};

use crate::{
    money::{api_key, find_payment, tell, with_key, with_page},
    server::{Redis, Server, eventually},
    talk::{Channel, send, viewer_token},
};

async fn list(server: &Server, key: &str, path: &str, field: &str) -> Vec<Value> {
    send(server, "GET", path, key, Value::Null).await.json()[field].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_sale_whose_answer_was_pending_is_one_when_it_is_asked_for_again() {
    let redis = Redis::start();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    let key = api_key(&server, &[]);
    let sales = "/v1/lives/demo/sales";
    let before = list(&server, &key, sales, "sales").await.len();
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 10, "duration_ms": 600_000 });
    redis.stall();
    let pending = with_key(&server, "POST", sales, &key, "same", &schedule).await;
    assert_eq!((pending.status, &pending.json()["code"]), (503, &json!("pending")), "{}", pending.text());
    redis.go_on();
    let mut made = Value::Null;
    eventually("the sale is made", async || {
        let answer = with_key(&server, "POST", sales, &key, "same", &schedule).await;
        made = answer.json();
        answer.status == 201
    })
    .await;
    let all = list(&server, &key, sales, "sales").await;
    assert_eq!(all.len(), before + 1, "one sale: {all:?}");
    let sale = all.iter().find(|sale| sale["id"] == made["sale"]["id"]).unwrap();
    assert_eq!((&sale["stock"], &sale["available"]), (&json!(10), &json!(10)));
    // Other words under the same key are another sale, and refused as soon as they are compared.
    let mut other = schedule.clone();
    other["price_minor"] = json!(200);
    other["key"] = json!("same");
    let refused = send(&server, "POST", sales, &key, other).await;
    assert_eq!((refused.status, &refused.json()["code"]), (409, &json!("key_reused")), "{}", refused.text());

    // Closing what is closed is done.
    let close = format!("{sales}/{}/close", made["sale"]["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(send(&server, "POST", &close, &key, Value::Null).await.status, 200);
    }
    // What was pending has happened, so it is in the audit log.
    let entries = list(&server, &key, "/v1/audit", "entries").await;
    assert!(
        entries.iter().any(|entry| entry["action"].as_str().unwrap().ends_with("(pending)")),
        "{entries:?}"
    );
}

#[tokio::test]
async fn a_change_by_somebody_who_hung_up_is_in_the_audit_log() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    for number in 0..8 {
        let body = r#"{"title":"Evening","public":true}"#;
        let idempotency = if number % 2 == 0 { "" } else { "Idempotency-Key: k\r\n" };
        let mut stream = std::net::TcpStream::connect(server.url("").trim_start_matches("http://")).unwrap();
        let request = format!(
            "PUT /v1/lives/gone{number} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n{idempotency}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        drop(stream);
    }
    eventually("each live that was made has its entry", async || {
        let lives = list(&server, &key, "/v1/lives", "lives").await;
        let made: Vec<&str> =
            lives.iter().filter_map(|live| live["id"].as_str()).filter(|id| id.starts_with("gone")).collect();
        let entries = list(&server, &key, "/v1/audit", "entries").await;
        !made.is_empty()
            && made.iter().all(|id| {
                entries.iter().any(|entry| entry["target"].as_str() == Some(&format!("/v1/lives/{id}")))
            })
    })
    .await;
}

/// Somebody who has gone to pay for a unit of the demo's sale: their channel, order and payment.
async fn paying(server: &Server, sub: &str) -> (Channel, String, String) {
    let mut buyer = Channel::open(server, "demo", &viewer_token(server, sub).await).await;
    let sale = buyer.hello["result"]["sales"][0]["id"].clone();
    let hold =
        buyer.ask("hold", json!({ "sale_id": sale, "key": "a" })).await["result"]["hold"]["id"].clone();
    let checkout = buyer.ask("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    let payment = find_payment(&checkout).unwrap_or_else(|| panic!("{checkout}"));
    (buyer, checkout["result"]["order"]["id"].as_str().unwrap().to_owned(), payment)
}

#[tokio::test]
async fn money_that_had_gone_back_before_it_was_heard_of_buys_nothing() {
    let server = with_page();
    let key = api_key(&server, &[]);
    let order =
        async |id: &str| send(&server, "GET", &format!("/v1/orders/{id}"), &key, Value::Null).await.json();
    let sum = |minor: u32| json!({ "amount_minor": minor });

    let (mut ann, id, payment) = paying(&server, "ann").await;
    assert_eq!(tell(&server, "ann_back", "refunded", &payment, sum(1600)).await, 204);
    assert_eq!(tell(&server, "ann_paid", "paid", &payment, sum(1600)).await, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "refunded").await;
    let found = order(&id).await;
    assert_eq!(
        (&found["state"], &found["refunded"]["amount_minor"]),
        (&json!("refunded"), &json!(1600)),
        "{found}"
    );
    for _ in 0..2 {
        assert_eq!(tell(&server, "ann_paid", "paid", &payment, sum(1600)).await, 204, "told again");
    }

    // A part of it: the order is sold, and less is left of its money.
    let (mut bob, id, payment) = paying(&server, "bob").await;
    assert_eq!(tell(&server, "bob_back", "refunded", &payment, sum(600)).await, 204);
    assert_eq!(tell(&server, "bob_paid", "paid", &payment, sum(1600)).await, 204);
    bob.event("order.changed", |event| event["order"]["state"] == "partly_refunded").await;
    let found = order(&id).await;
    assert_eq!(
        (&found["state"], &found["refunded"]["amount_minor"]),
        (&json!("partly_refunded"), &json!(600)),
        "{found}"
    );

    // A part of it, and then not what was asked for: what is left goes back, and no more.
    let (_dan, id, payment) = paying(&server, "dan").await;
    assert_eq!(tell(&server, "dan_back", "refunded", &payment, sum(100)).await, 204);
    assert_eq!(tell(&server, "dan_paid", "paid", &payment, sum(1500)).await, 204);
    eventually("the rest goes back", async || {
        let refunds = order(&id).await["refunds"].clone();
        refunds
            .as_array()
            .unwrap()
            .iter()
            .any(|refund| refund["origin"] == "automatic" && refund["amount"]["amount_minor"] == 1400)
    })
    .await;

    // All of it at the provider, while a part was being sent back on the merchant's word.
    let (mut cid, id, payment) = paying(&server, "cid").await;
    assert_eq!(tell(&server, "cid_paid", "paid", &payment, sum(1600)).await, 204);
    cid.event("order.changed", |event| event["order"]["state"] == "sold").await;
    let part =
        send(&server, "POST", &format!("/v1/orders/{id}/refunds"), &key, json!({ "amount_minor": 300 }))
            .await;
    assert_eq!(part.status, 202, "{}", part.text());
    assert_eq!(tell(&server, "cid_back", "refunded", &payment, sum(1600)).await, 204);
    cid.event("order.changed", |event| event["order"]["state"] == "refunded").await;
    let part = part.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        tell(&server, "cid_no", "refund_failed", &payment, json!({ "amount_minor": 300, "refund": part }))
            .await,
        204
    );
    eventually("the part is refused", async || {
        let refunds = order(&id).await["refunds"].clone();
        refunds
            .as_array()
            .unwrap()
            .iter()
            .any(|refund| refund["id"] == part.as_str() && refund["state"] == "failed")
    })
    .await;

    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    let views = list(&server, &key, "/v1/lives/demo/sales", "sales").await;
    let view = views.iter().find(|view| view["id"] == sale).unwrap();
    assert_eq!((&view["sold"], &view["held"]), (&json!(2), &json!(0)), "Ann's unit is on the shelf: {view}");
}

#[tokio::test]
async fn an_answer_with_a_secret_in_it_is_given_again_and_kept_where_nobody_reads_it() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let hook = json!({ "url": "https://shop.example/hook", "kinds": ["order.*"] });
    let made = with_key(&server, "POST", "/v1/webhooks", &key, "w", &hook).await;
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    let again = with_key(&server, "POST", "/v1/webhooks", &key, "w", &hook).await;
    assert_eq!((again.status, again.json()), (201, made.json()));
    let mut server = server;
    server.stop();
    // A page may be in the log and in the file behind it: each is read by itself.
    let kept = ["haul.db", "haul.db-wal"]
        .map(|file| std::fs::read(server.data.path().join("data").join(file)).unwrap_or_default());
    let places = |text: &str| {
        kept.iter()
            .map(|kept| kept.windows(text.len()).filter(|window| *window == text.as_bytes()).count())
            .max()
    };
    assert!(places("https://shop.example/hook") > Some(0), "this is the ledger");
    // Once with the webhook itself, whose messages are signed with it.
    assert!(places(&secret) <= Some(1), "{:?}", places(&secret));
}

/// A crash takes the answer, and what it was about is there: the same request finds it, with a secret that is new.
#[tokio::test]
async fn what_was_made_by_a_request_whose_answer_was_lost_is_not_made_twice() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let hook = json!({ "url": "https://shop.example/hook", "kinds": ["order.*"] });
    let new_key = json!({ "name": "till", "scopes": ["orders:read"] });
    let before = list(&server, &key, "/v1/keys", "keys").await.len();
    let first = with_key(&server, "POST", "/v1/webhooks", &key, "w", &hook).await.json();
    let first_key = with_key(&server, "POST", "/v1/keys", &key, "k", &new_key).await.json();
    let ledger = sqlx::SqlitePool::connect(&server.ledger_url()).await.unwrap();
    assert_eq!(sqlx::query("DELETE FROM requests").execute(&ledger).await.unwrap().rows_affected(), 2);
    let again = with_key(&server, "POST", "/v1/webhooks", &key, "w", &hook).await.json();
    let again_key = with_key(&server, "POST", "/v1/keys", &key, "k", &new_key).await.json();
    assert_eq!((&again["id"], &again_key["id"]), (&first["id"], &first_key["id"]), "{again} {again_key}");
    assert_ne!((&again["secret"], &again_key["secret"]), (&first["secret"], &first_key["secret"]));
    assert_eq!(list(&server, &key, "/v1/webhooks", "webhooks").await.len(), 1);
    assert_eq!(list(&server, &key, "/v1/keys", "keys").await.len(), before + 1);
    let orders = async |made: &Value| {
        let key = made["secret"].as_str().unwrap();
        send(&server, "GET", "/v1/orders", key, Value::Null).await.status
    };
    assert_eq!((orders(&again_key).await, orders(&first_key).await), (200, 401));
    // Another request under the same key was refused before, and makes something else now.
    sqlx::query("DELETE FROM requests").execute(&ledger).await.unwrap();
    let other = json!({ "url": "https://shop.example/other", "kinds": ["order.*"] });
    let other = with_key(&server, "POST", "/v1/webhooks", &key, "w", &other).await.json();
    assert_ne!(other["id"], first["id"], "{other}");
}
