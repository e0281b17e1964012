//! What a merchant's backend does: the catalogue and what follows from it.

use serde_json::{Value, json};

use crate::{
    server::{Server, command},
    talk::{Channel, call, send},
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
