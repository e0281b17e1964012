//! Whom an order goes to, and what of its total is shipping and tax: said at checkout, by the provider, by the merchant.

use serde_json::{Value, json};

use crate::{
    money::{api_key, find_payment, tell, with_page},
    server::{Server, eventually},
    talk::{Channel, send, viewer_token},
};

fn ann_at_home() -> Value {
    json!({ "name": "Ann O'Hara", "email": "ann@example.org", "address": ["1 Lamp Street", "Cork"],
        "postal_code": "T12", "country": "IE" })
}

async fn details(server: &Server, key: &str, order: &Value) -> Value {
    let path = format!("/v1/orders/{}/details", order.as_str().unwrap());
    send(server, "GET", &path, key, Value::Null).await.json()
}

/// Holds a unit of the demo's sale; gives what a checkout says.
async fn held(buyer: &mut Channel, key: &str) -> Value {
    let sale = buyer.hello["result"]["sales"][0]["id"].clone();
    let held = buyer.ask("hold", json!({ "sale_id": sale, "key": key })).await;
    json!({ "sale_id": sale, "hold_id": held["result"]["hold"]["id"] })
}

fn with(mut ask: Value, field: &str, value: Value) -> Value {
    ask[field] = value;
    ask
}

#[tokio::test]
async fn a_shop_that_sends_things_asks_where_to_before_the_money() {
    let server = Server::start_with(&[("HAUL__SALE__CONTACT", "address")]);
    let key = api_key(&server, &[]);
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    assert_eq!(ann.hello["result"]["contact"], "address");
    let ask = held(&mut ann, "a").await;
    for (contact, field) in [
        (Value::Null, "contact.name"),
        (json!({}), "contact.name"),
        (with(ann_at_home(), "country", json!("")), "contact.country"),
        (with(ann_at_home(), "country", json!("Eire")), "contact.country"),
        (with(ann_at_home(), "address", json!(["x".repeat(201)])), "contact.address"),
    ] {
        let refused = ann.ask("checkout", with(ask.clone(), "contact", contact)).await;
        assert_eq!(refused["code"], "contact_invalid", "{refused}");
        assert!(refused["message"].as_str().unwrap().starts_with(field), "{refused}");
    }
    let unknown = with(ann_at_home(), "planet", json!("Mars"));
    assert_eq!(ann.ask("checkout", with(ask.clone(), "contact", unknown)).await["code"], "bad_request");
    let paying = ann.ask("checkout", with(ask.clone(), "contact", ann_at_home())).await;
    let order = paying["result"]["order"]["id"].clone();
    let kept = details(&server, &key, &order).await;
    assert_eq!((&kept["contact"]["name"], &kept["charges"]), (&json!("Ann O'Hara"), &json!([])), "{kept}");

    // Corrected before it is paid, and not afterwards.
    let moved = with(ann_at_home(), "address", json!(["2 Lamp Street", "Cork"]));
    ann.ask("checkout", with(ask.clone(), "contact", moved.clone())).await;
    assert_eq!(details(&server, &key, &order).await["contact"]["address"], moved["address"]);
    let url = paying["result"]["pay_url"].as_str().unwrap();
    assert_eq!(send(&server, "POST", url, "", json!({ "outcome": "paid" })).await.status, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    let late = ann.ask("checkout", with(ask, "contact", ann_at_home())).await;
    assert_eq!(late["code"], "wrong_state", "{late}");
    assert_eq!(details(&server, &key, &order).await["contact"]["address"], moved["address"]);

    // It is personal: in no log, and gone with its buyer.
    assert!(!server.log().contains("Lamp Street"), "{}", server.log());
    assert_eq!(send(&server, "DELETE", "/v1/buyers/ann", &key, Value::Null).await.status, 204);
    assert_eq!(details(&server, &key, &order).await["contact"], Value::Null);
}

#[tokio::test]
async fn a_backend_that_checks_out_says_whose_doing_it_is_and_what_is_tax() {
    let server = Server::start();
    let key = api_key(&server, &[]);
    let creator = json!({ "name": "Mia", "kind": "koc" });
    assert_eq!(send(&server, "PUT", "/v1/creators/mia", &key, creator).await.status, 200);
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let ask = held(&mut ann, "a").await;
    let path = format!("/v1/lives/demo/holds/{}/checkout", ask["hold_id"].as_str().unwrap());
    let tax = |minor: u32| json!([{ "kind": "tax", "label": "VAT", "amount_minor": minor }]);
    let body = |minor| {
        json!({ "buyer_id": "ann", "sale_id": ask["sale_id"], "contact": ann_at_home(), "ref": "mia",
            "charges": tax(minor) })
    };
    assert_eq!(send(&server, "POST", &path, &key, body(1_601)).await.status, 400, "more than the total");
    let orders = send(&server, "GET", "/v1/orders?buyer=ann", &key, Value::Null).await.json();
    assert_eq!(orders["orders"], json!([]), "what is refused has not begun");
    let paying = send(&server, "POST", &path, &key, body(255)).await;
    assert_eq!(paying.status, 200, "{}", paying.text());
    let paying = paying.json();
    let order = &paying["order"]["id"];
    let kept = details(&server, &key, order).await;
    assert_eq!((&kept["contact"]["email"], &kept["charges"]), (&json!("ann@example.org"), &tax(255)));
    // Asked again for another link, what was said stays.
    let again = json!({ "buyer_id": "ann", "sale_id": ask["sale_id"] });
    assert_eq!(send(&server, "POST", &path, &key, again).await.status, 200);
    assert_eq!(details(&server, &key, order).await, kept);
    let url = paying["pay_url"].as_str().unwrap();
    assert_eq!(send(&server, "POST", url, "", json!({ "outcome": "paid" })).await.status, 204);
    let split = format!("/v1/orders/{}/split", order.as_str().unwrap());
    let mut booked = Value::Null;
    eventually("the order is booked", async || {
        let answer = send(&server, "GET", &split, &key, Value::Null).await;
        booked = answer.json();
        answer.status == 200
    })
    .await;
    assert_eq!(booked["attributed_to"]["creator_id"], "mia", "{booked}");
}

#[tokio::test]
async fn what_the_provider_was_told_fills_in_what_nobody_has_said() {
    let server = with_page();
    let key = api_key(&server, &[]);
    let tax = json!([{ "kind": "tax", "label": "VAT", "amount_minor": 255 }]);
    let told = json!({ "amount_minor": 1600, "contact": ann_at_home(), "charges": tax });
    let buy = async |sub: &str, said: Value| {
        let mut buyer = Channel::open(&server, "demo", &viewer_token(&server, sub).await).await;
        let ask = held(&mut buyer, "a").await;
        let paying = buyer.ask("checkout", with(ask, "contact", said)).await;
        let payment = find_payment(&paying).unwrap_or_else(|| panic!("{paying}"));
        (buyer, paying["result"]["order"]["id"].clone(), payment)
    };
    let sold = async |buyer: &mut Channel| {
        buyer.event("order.changed", |event| event["order"]["state"] == "sold").await;
    };

    let (mut ann, order, payment) = buy("ann", Value::Null).await;
    assert_eq!(tell(&server, "ev_ann", "paid", &payment, told.clone()).await, 204);
    sold(&mut ann).await;
    let kept = details(&server, &key, &order).await;
    assert_eq!((&kept["contact"]["name"], &kept["charges"]), (&json!("Ann O'Hara"), &tax), "{kept}");
    // What was put right since is not undone by a word that comes again.
    let path = format!("/v1/orders/{}/details", order.as_str().unwrap());
    let right = json!({ "contact": { "name": "Ann Byrne" }, "charges": [] });
    assert_eq!(send(&server, "PUT", &path, &key, right).await.status, 204);
    assert_eq!(tell(&server, "ev_ann", "paid", &payment, told.clone()).await, 204);
    assert_eq!(details(&server, &key, &order).await["contact"]["name"], "Ann Byrne");

    // The buyer's own word goes before the provider's.
    let (mut bob, order, payment) = buy("bob", json!({ "name": "Bob", "address": ["9 Hill"] })).await;
    assert_eq!(tell(&server, "ev_bob", "paid", &payment, told.clone()).await, 204);
    sold(&mut bob).await;
    let kept = details(&server, &key, &order).await;
    assert_eq!((&kept["contact"]["name"], &kept["charges"]), (&json!("Bob"), &tax), "{kept}");

    // Who was erased while they paid stays erased.
    let (mut cid, order, payment) = buy("cid", Value::Null).await;
    assert_eq!(send(&server, "DELETE", "/v1/buyers/cid", &key, Value::Null).await.status, 204);
    assert_eq!(tell(&server, "ev_cid", "paid", &payment, told.clone()).await, 204);
    sold(&mut cid).await;
    let kept = details(&server, &key, &order).await;
    assert_eq!((&kept["contact"], &kept["charges"]), (&Value::Null, &tax), "{kept}");

    // No payment fails for an address that is none, and nothing of it is kept.
    let (mut dan, order, payment) = buy("dan", Value::Null).await;
    let nonsense = with(told, "contact", json!({ "name": "x".repeat(1_000) }));
    assert_eq!(tell(&server, "ev_dan", "paid", &payment, nonsense).await, 204);
    sold(&mut dan).await;
    let kept = details(&server, &key, &order).await;
    assert_eq!((&kept["contact"], &kept["charges"]), (&Value::Null, &tax), "{kept}");
}
