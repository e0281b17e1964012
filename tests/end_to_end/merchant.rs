//! What a merchant's backend does: the catalogue and what follows from it.

use serde_json::{Value, json};

use crate::{
    server::{Server, command, eventually},
    talk::{Channel, call, send, viewer_token},
};

/// A token of the merchant's backend.
fn backend(server: &Server) -> String {
    let args = ["token", "--live", "*", "--role", "host", "--sub", "backend"];
    let output = command(server.data.path()).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_catalogue_is_synced_and_read_in_the_readers_language() {
    let server = Server::start();
    let backend = backend(&server);
    let mut watcher = Channel::open(&server, "demo", "").await;
    let lamp = json!({
        "id": "lamp", "title": "Paper lamp", "price_minor": 8900, "currency": "EUR", "locale": "en",
        "texts": { "zh-hans": { "title": "纸灯" }, "de": { "title": "Papierlampe", "subtitle": "Washi" } },
        "options": [{ "name": "Size", "values": ["S", "L"] }],
        "variants": [
            { "sku": "LAMP-S", "values": ["S"] },
            { "sku": "LAMP-L", "values": ["L"], "price_minor": 12900 },
        ],
    });
    let batch = json!({ "products": [lamp, { "id": "new", "title": "" }, { "id": "kimono", "title": "Kimono",
        "price_minor": 21000, "currency": "JPY" }] });
    for token in ["", server.host_token.as_str()] {
        let refused = send(&server, "POST", "/v1/products:batch", token, batch.clone()).await;
        assert_eq!(refused.status, if token.is_empty() { 401 } else { 403 });
    }
    let done = send(&server, "POST", "/v1/products:batch", &backend, batch).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let done = done.json();
    assert_eq!((&done["accepted"], &done["refused"]), (&json!(2), &json!(1)));
    let statuses: Vec<_> =
        done["results"].as_array().unwrap().iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, ["updated", "refused", "created"]);
    let told = watcher.event("products.changed", |_| true).await;
    assert!(told["products"].as_array().unwrap().iter().any(|product| product["title"] == "Paper lamp"));

    let read = async |path: &str, wanted: &str| {
        let answer = call("GET", &server.url(path), &[("accept-language", wanted)], "").await;
        let lamp = answer.json()["products"][1].clone();
        (lamp["title"].clone(), lamp["locale"].clone(), answer.header("vary").to_owned())
    };
    let vary = || "accept-language".to_owned();
    let path = "/v1/lives/demo/products";
    let chinese = read(path, "zh-CN,zh;q=0.9,en;q=0.5").await;
    assert_eq!((chinese.0, chinese.1), (json!("纸灯"), json!("zh-Hans")));
    assert!(chinese.2.contains(&vary()), "{}", chinese.2);
    assert_eq!(read(path, "fr").await.0, "Paper lamp");
    assert_eq!(read("/v1/lives/demo/products?locale=de-AT", "fr").await.0, "Papierlampe");

    let page = send(&server, "GET", "/v1/products?limit=1", &backend, Value::Null).await.json();
    let next = page["next"].as_str().unwrap().to_owned();
    let rest =
        send(&server, "GET", &format!("/v1/products?after={next}"), &backend, Value::Null).await.json();
    assert_eq!(rest["products"].as_array().unwrap().len(), 3);
    let lamp = send(&server, "GET", "/v1/products/lamp", &backend, Value::Null).await.json();
    assert_eq!(lamp["variants"][1]["list_price"], json!({ "amount_minor": 12900, "currency": "EUR" }));
    assert_eq!(send(&server, "GET", "/v1/products/none", &backend, Value::Null).await.status, 404);
}

/// Buys one unit of the demo's sale and waits until it is sold; gives the order's id.
async fn buy(server: &Server, buyer: &mut Channel, key: &str, checkout: Value) -> String {
    let sale = buyer.hello["result"]["sales"][0]["id"].clone();
    let held = buyer.ask("hold", json!({ "sale_id": sale, "key": key })).await;
    let mut ask = checkout;
    ask["sale_id"] = sale;
    ask["hold_id"] = held["result"]["hold"]["id"].clone();
    let paying = buyer.ask("checkout", ask).await;
    let url = paying["result"]["pay_url"].as_str().unwrap_or_else(|| panic!("{paying}"));
    assert_eq!(send(server, "POST", url, "", json!({ "outcome": "paid" })).await.status, 204);
    let order = paying["result"]["order"]["id"].as_str().unwrap().to_owned();
    buyer
        .event("order.changed", |event| event["order"]["id"] == order && event["order"]["state"] == "sold")
        .await;
    order
}

/// A viewer who comes under a `ref`.
async fn arrive(server: &Server, sub: &str, reference: &Value) -> Channel {
    let mut channel = Channel::connect(server, "demo").await;
    let token = viewer_token(server, sub).await;
    channel.hello = channel.ask("hello", json!({ "token": token, "ref": reference })).await;
    channel
}

#[tokio::test]
async fn an_order_is_put_down_to_who_brought_its_buyer() {
    let server = Server::start_with(&[("HAUL__CREATORS__PLATFORM_BPS", "500")]);
    let backend = backend(&server);
    for (id, agency) in [("mia", json!("stars")), ("kim", Value::Null)] {
        let creator = json!({ "name": id, "kind": "koc", "agency_id": agency });
        let put = send(&server, "PUT", &format!("/v1/creators/{id}"), &backend, creator).await;
        assert_eq!(put.status, 200, "{}", put.text());
    }
    let taken = json!({ "name": "Eve", "kind": "kol", "code": "mia" });
    assert_eq!(send(&server, "PUT", "/v1/creators/eve", &backend, taken).await.status, 409);
    let made =
        send(&server, "POST", "/v1/creators/mia/links", &backend, json!({ "live": "demo" })).await.json();
    assert!(made["url"].as_str().unwrap().starts_with("/watch/demo?ref="), "{made}");

    // Ann joins by Mia's link; Bob joins by it too, and clicks under Kim's code; Cid says Kim with the checkout.
    let split_of = async |order: String| {
        let path = format!("/v1/orders/{order}/split");
        let mut found = Value::Null;
        eventually("the order is booked", async || {
            let answer = send(&server, "GET", &path, &backend, Value::Null).await;
            found = answer.json();
            answer.status == 200
        })
        .await;
        found
    };
    let mut ann = arrive(&server, "ann", &made["ref"]).await;
    let split = split_of(buy(&server, &mut ann, "a", json!({})).await).await;
    assert_eq!(
        (&split["attributed_to"]["creator_id"], &split["attributed_to"]["by"]),
        (&json!("mia"), &json!("join"))
    );
    let parts =
        json!({ "merchant_minor": 1312, "platform_minor": 80, "agency_minor": 48, "creator_minor": 160 });
    assert_eq!(split["parts"], parts);

    let mut bob = arrive(&server, "bob", &made["ref"]).await;
    let clicked = bob.ask("click", json!({ "product_id": "tea", "ref": "kim" })).await;
    assert!(clicked["result"]["server_time"].is_u64(), "{clicked}");
    // The click is written behind the channel, long before anybody has paid; here, nobody waits for people.
    eventually("the click is written", async || {
        let path = "/v1/creators/kim/metrics";
        send(&server, "GET", path, &backend, Value::Null).await.json()["clicks"] == 1
    })
    .await;
    let split = split_of(buy(&server, &mut bob, "b", json!({})).await).await;
    assert_eq!(
        (&split["attributed_to"]["creator_id"], &split["attributed_to"]["by"]),
        (&json!("kim"), &json!("click"))
    );
    assert_eq!(split["parts"]["creator_minor"], 208, "without an agency, its part is the creator's");

    let mut cid = arrive(&server, "cid", &made["ref"]).await;
    let split = split_of(buy(&server, &mut cid, "c", json!({ "ref": "kim" })).await).await;
    assert_eq!(
        (&split["attributed_to"]["creator_id"], &split["attributed_to"]["by"]),
        (&json!("kim"), &json!("order"))
    );

    let mut dot = arrive(&server, "dot", &json!("nobody")).await;
    let split = split_of(buy(&server, &mut dot, "d", json!({ "ref": "made.1.up" })).await).await;
    assert_eq!(split["attributed_to"], Value::Null);

    let notices = send(&server, "GET", "/v1/notices", &backend, Value::Null).await.json();
    let notices = notices["notices"].as_array().unwrap();
    assert_eq!(notices.len(), 4, "each buyer's first order: {notices:?}");
    assert_eq!(notices[0]["data"]["milestone"], "orders:1");
}
