//! The channel in the reader's language, and as its documentation shows it.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    server::{Server, command, eventually},
    talk::{Channel, send, viewer_token},
};

async fn greet(server: &Server, fields: Value) -> Channel {
    let mut channel = Channel::connect(server, "demo").await;
    channel.hello = channel.ask("hello", fields).await;
    channel
}

fn title(products: &Value) -> &str {
    let lamp = products.as_array().unwrap().iter().find(|product| product["id"] == "lamp").unwrap();
    lamp["title"].as_str().unwrap()
}

/// The merchant's backend writes what the lamp is called, in English and otherwise.
async fn put_lamp(server: &Server, english: &str, texts: Value) {
    let args = ["token", "--live", "*", "--role", "host", "--sub", "backend"];
    let output = command(server.data.path()).args(args).output().unwrap();
    let backend = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let lamp = json!({ "id": "lamp", "title": english, "price_minor": 8900, "currency": "EUR", "locale": "en", "texts": texts });
    let done = send(server, "POST", "/v1/products:batch", &backend, json!({ "products": [lamp] })).await;
    assert_eq!(done.json()["accepted"], 1, "{}", done.text());
}

#[tokio::test]
async fn each_reader_is_told_of_products_in_their_language() {
    let server = Server::start();
    let german = json!({ "de": { "title": "Papierlampe" }, "zh-Hans": { "title": "纸灯" } });
    put_lamp(&server, "Paper lamp", german).await;
    eventually("the room has what the catalogue says", async || {
        title(&greet(&server, json!({})).await.hello["result"]["products"]) == "Paper lamp"
    })
    .await;
    let mut readers = Vec::new();
    for (wish, read) in [
        (Value::Null, "Paper lamp"),
        (json!("de-AT"), "Papierlampe"),
        (json!("zh-CN"), "纸灯"),
        (json!("fr"), "Paper lamp"),
    ] {
        let reader = greet(&server, json!({ "locale": wish })).await;
        assert_eq!(title(&reader.hello["result"]["products"]), read, "{wish}");
        readers.push(reader);
    }
    let position = |reader: &Channel| {
        let hello = &reader.hello["result"];
        json!({ "epoch": hello["epoch"], "offset": hello["offset"] })
    };
    let before = position(&readers[1]);
    put_lamp(&server, "Lamp", json!({ "de": { "title": "Lampe" }, "zh-Hans": { "title": "灯" } })).await;
    let mut places = Vec::new();
    for (reader, read) in readers.iter_mut().zip(["Lamp", "Lampe", "灯", "Lamp"]) {
        let told = reader.event("products.changed", |_| true).await;
        assert_eq!(title(&told["products"]), read);
        places.push((told["epoch"].clone(), told["offset"].clone()));
    }
    places.dedup();
    assert_eq!(places.len(), 1, "one event for all");

    // Who was away meanwhile reads it in their language, too.
    let mut back = greet(&server, json!({ "locale": "de", "resume": before })).await;
    assert_eq!(back.hello["result"]["resumed"]["recovered"], true);
    let told = back.event("products.changed", |_| true).await;
    assert_eq!((title(&told["products"]), &told["offset"]), ("Lampe", &places[0].1));

    let mut wrong = Channel::connect(&server, "demo").await;
    let refused = wrong.ask("hello", json!({ "locale": "en_US" })).await;
    assert_eq!(refused["code"], "bad_request");
    assert!(refused["message"].as_str().unwrap().contains("BCP 47"), "{refused}");
}

#[tokio::test]
async fn every_example_of_the_documentation_is_answered() {
    let server = Server::start();
    put_lamp(&server, "Lamp", json!({})).await;
    let ann = viewer_token(&server, "ann").await;
    let mut said = Channel::open(&server, "demo", &ann).await;
    let message = said.ask("chat.send", json!({ "text": "hello" })).await["result"]["message_id"].clone();
    let text = include_str!("../../docs/channel.md");
    let examples = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut kinds = Vec::new();
    for example in examples {
        let mut example: Value = serde_json::from_str(example).unwrap();
        let kind = example["type"].as_str().unwrap().to_owned();
        let token = match &*kind {
            "giveaway.start" | "coupon.make" => &server.host_token,
            _ => &ann,
        };
        if example["reply_to"].is_string() {
            example["reply_to"] = message.clone();
        }
        let mut channel = Channel::connect(&server, "demo").await;
        if kind == "hello" {
            example["token"] = json!(token);
        } else {
            channel.ask("hello", json!({ "token": token })).await;
        }
        channel.raw(Message::text(example.to_string())).await;
        let id = example["id"].clone();
        if kind == "like" {
            // It has no reply unless it is refused.
            channel.event("likes", |likes| likes["new"]["heart"] == 3).await;
        } else {
            loop {
                let answer = channel.read().await.unwrap();
                if answer["id"] == id {
                    assert_eq!(answer["type"], "reply", "{kind}: {answer}");
                    break;
                }
            }
        }
        kinds.push(kind);
    }
    for kind in ["hello", "chat.send", "question.ask", "giveaway.start", "coupon.make", "like", "thread.send"]
    {
        assert!(kinds.iter().any(|known| known == kind), "{kind} is shown");
    }
}
