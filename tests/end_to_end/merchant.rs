//! What a merchant's backend does: the catalogue and what follows from it.

use serde_json::{Value, json};

use crate::{
    server::{Server, command, eventually},
    talk::{Channel, call, get, send, viewer_token},
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
    assert!(clicked["result"]["server_time"].is_string(), "{clicked}");
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

#[tokio::test]
async fn a_product_of_an_external_shop_is_a_counted_link_and_no_sale() {
    let server = Server::start();
    let backend = backend(&server);
    let creator = json!({ "name": "Mia", "kind": "kol" });
    assert_eq!(send(&server, "PUT", "/v1/creators/mia", &backend, creator).await.status, 200);
    let lamp = json!({ "id": "lamp", "title": "Lamp", "price_minor": 8900, "currency": "EUR",
        "external_url": "https://shop.example/lamp?x=1" });
    let batch = json!({ "products": [lamp] });
    assert_eq!(send(&server, "POST", "/v1/products:batch", &backend, batch).await.json()["accepted"], 1);

    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 1, "duration_ms": 60_000 });
    let refused = host.ask("sale.schedule", schedule).await;
    assert_eq!(refused["code"], "wrong_state", "{refused}");

    let ann = viewer_token(&server, "ann").await;
    let bag = send(&server, "GET", "/v1/lives/demo/products?ref=mia", &ann, Value::Null).await.json();
    let link_of = |product: &str| {
        let products = bag["products"].as_array().unwrap();
        products.iter().find(|listed| listed["id"] == product).unwrap()["shop_link"].clone()
    };
    assert_eq!(link_of("tea"), Value::Null);
    let link = link_of("lamp").as_str().unwrap().to_owned();
    let gone = get(&server, &link).await;
    assert_eq!((gone.status, gone.header("location")), (302, "https://shop.example/lamp?x=1"));
    assert_eq!((gone.header("cache-control"), gone.header("referrer-policy")), ("no-store", "no-referrer"));
    eventually("the click is counted", async || {
        let answer = send(&server, "GET", "/v1/creators/mia/metrics", &backend, Value::Null).await;
        answer.json()["clicks"] == 1
    })
    .await;
    for forged in
        ["/r/x", "/r/a.b.c", &format!("{}x", &link[..link.len() - 1]), "/r/https:%2F%2Fevil.example"]
    {
        assert_eq!(get(&server, forged).await.status, 404, "{forged}");
    }
}

#[tokio::test]
async fn a_buyer_is_known_exported_and_erased() {
    let server = Server::start();
    let backend = backend(&server);
    let mut ann = arrive(&server, "ann", &Value::Null).await;
    let known = send(&server, "GET", "/v1/buyers/ann", &backend, Value::Null).await.json();
    assert_eq!(
        (&known["badge"], &known["paid_orders"]),
        (&Value::Null, &json!(0)),
        "before the first paid order"
    );
    let quote =
        send(&server, "GET", "/v1/lives/demo/products/tea/quote?quantity=2", "", Value::Null).await.json();
    assert_eq!(
        (&quote["rule"], &quote["total"]["amount_minor"]),
        (&json!("live_price"), &json!(3200)),
        "{quote}"
    );
    let quote = send(&server, "GET", "/v1/lives/demo/products/lamp/quote", "", Value::Null).await.json();
    assert_eq!((&quote["rule"], &quote["total"]["amount_minor"]), (&json!("list"), &json!(8900)), "{quote}");

    let order = buy(&server, &mut ann, "a", json!({})).await;
    let mut known = Value::Null;
    eventually("the badge appears", async || {
        known = send(&server, "GET", "/v1/buyers/ann", &backend, Value::Null).await.json();
        known["badge"] == "verified_buyer"
    })
    .await;
    assert_eq!(known["milestones"][0]["name"], "orders:1");
    let token = viewer_token(&server, "ann").await;
    assert_eq!(send(&server, "PUT", "/v1/lives/demo/saved/lamp", &token, Value::Null).await.status, 204);
    let path = format!("/v1/orders/{order}/details");
    let details = json!({ "contact": { "name": "Ann O'Hara", "country": "IE" },
        "charges": [{ "kind": "tax", "label": "VAT", "amount_minor": 255 }] });
    assert_eq!(send(&server, "PUT", &path, &backend, details).await.status, 204);
    let too_much = json!({ "charges": [{ "kind": "tax", "label": "VAT", "amount_minor": 1601 }] });
    assert_eq!(send(&server, "PUT", &path, &backend, too_much).await.status, 400);
    let export = send(&server, "GET", "/v1/buyers/ann/export", &backend, Value::Null).await.json();
    assert_eq!(export["orders"][0]["details"]["contact"]["name"], "Ann O'Hara", "{export}");
    assert_eq!(export["buyer"]["saved_products"], json!(["lamp"]));
    let wrote = ann.ask("thread.send", json!({ "text": "I live at 1 Lamp Street", "client_id": "t1" })).await;
    assert_eq!(wrote["type"], "reply", "{wrote}");
    eventually("the thread is written down", async || {
        let export = send(&server, "GET", "/v1/buyers/ann/export", &backend, Value::Null).await.json();
        export["threads"][0]["thread"]["messages"][0]["text"] == "I live at 1 Lamp Street"
    })
    .await;

    let asked = ann.ask("question.ask", json!({ "text": "Do you deliver to 1 Lamp Street?" })).await;
    assert_eq!(asked["type"], "reply", "{asked}");

    for _ in 0..2 {
        assert_eq!(send(&server, "DELETE", "/v1/buyers/ann", &backend, Value::Null).await.status, 204);
    }
    let export = send(&server, "GET", "/v1/buyers/ann/export", &backend, Value::Null).await.json();
    let kept = &export["orders"][0];
    assert_eq!((&kept["details"]["contact"], &kept["order"]["buyer_name"]), (&Value::Null, &json!("")));
    assert_eq!(kept["order"]["total"]["amount_minor"], 1600);
    assert_eq!(kept["details"]["charges"][0]["amount_minor"], 255);
    assert_eq!((&export["touches"], &export["threads"]), (&json!([]), &json!([])));
    assert_eq!(send(&server, "DELETE", "/v1/buyers/ann", &token, Value::Null).await.status, 403);
    let server = server.crash_and_restart();
    let room = Channel::open(&server, "demo", &server.host_token).await.hello["result"]["room"].clone();
    assert_eq!(room["questions"], json!([]), "nor is it found by the next start");
}
