//! Many at once, through a whole server, on each gate: no more is sold than there is, and nobody gets more than they may.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    money::api_key,
    selling::{paid_event, payment_of},
    server::{Redis, Server, eventually},
    talk::{Channel, get, send, viewer_token},
};

/// Both gates, each under a server of its own.
fn servers() -> Vec<(Server, Option<Redis>)> {
    let redis = Redis::start();
    vec![
        (Server::start(), None),
        (Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]), Some(redis)),
    ]
}

/// A sale of lamps at one euro.
async fn lamps(server: &Server, stock: usize, per_buyer: u32) -> Value {
    let mut host = Channel::open(server, "demo", &server.host_token).await;
    let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": stock, "per_buyer": per_buyer,
        "duration_ms": 600_000 });
    host.ask("sale.schedule", schedule).await["result"]["sale"]["id"].clone()
}

/// Available, held, sold.
async fn stock(server: &Server, sale: &Value) -> (u64, u64, u64) {
    let sales = get(server, "/v1/lives/demo/sales").await.json();
    let sale = sales["sales"].as_array().unwrap().iter().find(|seen| seen["id"] == *sale).unwrap().clone();
    let number = |name: &str| sale[name].as_u64().unwrap();
    (number("available"), number("held"), number("sold"))
}

fn is_held(answer: &Value) -> bool {
    answer["result"]["hold"]["state"] == "held"
}

/// So many buyers, all here before the sale opens, ask at the same time; then all ask again.
async fn buyers_for_units(server: &Server, buyers: usize, units: usize) {
    let mut crowd = Vec::with_capacity(buyers);
    let numbers: Vec<_> = (0..buyers).collect();
    // A few at a time: a server takes so many newcomers a second.
    for some in numbers.chunks(50) {
        let come = some.iter().map(|number| async move {
            let token = viewer_token(server, &format!("b{number}")).await;
            Channel::open(server, "demo", &token).await
        });
        crowd.extend(join_all(come).await);
    }
    let sale = lamps(server, units, 1).await;
    let ask = |crowd: Vec<Channel>| {
        join_all(crowd.into_iter().map(|mut buyer| {
            let hold = json!({ "sale_id": sale, "key": "k" });
            async move { (buyer.insist("hold", hold).await, buyer) }
        }))
    };
    let (first, crowd): (Vec<_>, Vec<_>) = ask(crowd).await.into_iter().unzip();
    let held = first.iter().filter(|answer| is_held(answer)).count();
    let refused = first.iter().filter(|answer| answer["code"] == "not_enough").count();
    assert_eq!((held, refused), (units, buyers - units));
    let (again, _crowd): (Vec<_>, Vec<_>) = ask(crowd).await.into_iter().unzip();
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(first["result"]["hold"], again["result"]["hold"], "a retry is the same hold, or none");
    }
    assert_eq!(stock(server, &sale).await, (0, units as u64, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_hundred_buyers_for_a_hundred_units() {
    for (server, _redis) in servers() {
        buyers_for_units(&server, 600, 100).await;
    }
}

/// Takes some minutes: `tests/run --long`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten thousand sockets, some minutes"]
async fn long_ten_thousand_buyers_for_a_hundred_units() {
    for (server, _redis) in servers() {
        buyers_for_units(&server, 10_000, 100).await;
    }
}

#[tokio::test]
async fn one_buyer_with_twenty_sessions_gets_no_more_than_the_limit() {
    for (server, _redis) in servers() {
        let sale = lamps(&server, 50, 2).await;
        let token = viewer_token(&server, "ann").await;
        let sessions = join_all((0..20).map(|_| Channel::open(&server, "demo", &token))).await;
        let asked = sessions.into_iter().enumerate().map(|(number, mut session)| {
            let hold = json!({ "sale_id": sale, "key": format!("k{number}") });
            async move { (session.insist("hold", hold).await, session) }
        });
        let answers = join_all(asked).await;
        let held = answers.iter().filter(|(answer, _)| is_held(answer)).count();
        let limited = answers.iter().filter(|(answer, _)| answer["code"] == "buyer_limit").count();
        assert_eq!((held, limited), (2, 18));
        assert_eq!(stock(&server, &sale).await, (48, 2, 0));
        // Whichever session asks, they are hers.
        let again = Channel::open(&server, "demo", &token).await;
        assert_eq!(again.hello["result"]["you"]["holds"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn one_key_with_different_words_is_one_hold() {
    for (server, _redis) in servers() {
        let sale = lamps(&server, 50, 5).await;
        let token = viewer_token(&server, "ann").await;
        let sessions = join_all((0..16).map(|_| Channel::open(&server, "demo", &token))).await;
        let asked = sessions.into_iter().enumerate().map(|(number, mut session)| {
            let hold = json!({ "sale_id": sale, "quantity": 1 + number % 2, "key": "k" });
            async move { session.insist("hold", hold).await }
        });
        let answers = join_all(asked).await;
        let holds: std::collections::BTreeSet<String> = answers
            .iter()
            .filter(|answer| is_held(answer))
            .map(|answer| answer["result"].to_string())
            .collect();
        assert_eq!(answers.iter().filter(|answer| is_held(answer)).count(), 8, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer["code"] == "key_reused").count(), 8, "{answers:?}");
        let ids: std::collections::BTreeSet<String> = answers
            .iter()
            .filter(|answer| is_held(answer))
            .map(|answer| answer["result"]["hold"]["id"].to_string())
            .collect();
        assert_eq!(ids.len(), 1, "{holds:?}");
        let held = stock(&server, &sale).await.1;
        assert!(held == 1 || held == 2, "one hold, of one of both quantities: {held}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_confirmations_at_once_are_one_sale() {
    for (server, _redis) in servers() {
        let sale = lamps(&server, 5, 2).await;
        for (number, events) in [["e"; 8], ["a", "b", "c", "d", "e", "f", "g", "h"]].into_iter().enumerate() {
            let buyer = format!("b{number}");
            let mut ann = Channel::open(&server, "demo", &viewer_token(&server, &buyer).await).await;
            let held = ann.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
            let of = json!({ "sale_id": sale, "hold_id": held["result"]["hold"]["id"] });
            let checkout = ann.ask("checkout", of).await;
            let payment = payment_of(&checkout);
            let names = events.map(|event| format!("{event}-{number}"));
            let told = join_all(names.iter().map(|event| paid_event(&server, event, &payment, 100))).await;
            assert_eq!(told, [204; 8]);
            ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
            eventually("one is sold and nothing is held", async || {
                stock(&server, &sale).await == (4 - number as u64, 0, 1 + number as u64)
            })
            .await;
        }
        // One event told eight times is one payment; eight events are eight, of which seven go back.
        eventually("what was paid on top goes back", async || {
            server.log().lines().filter(|line| line.contains("refund due")).count() == 7
                && server.reconcile("demo").1 == Some(0)
        })
        .await;
        let orders =
            send(&server, "GET", "/v1/lives/demo/orders", &server.host_token, Value::Null).await.json();
        assert_eq!(orders["totals"]["units"], 2, "{orders}");
    }
}

/// Of two who change a sale at once, each has what they were told, at the gate too: pause, more stock (twice), the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_that_is_changed_twice_at_once_has_both_changes() {
    for (server, _redis) in servers() {
        let key = api_key(&server, &[]);
        let buy = async |sale: &Value, buyer: &str| {
            let hold = json!({ "buyer_id": buyer, "sale_id": sale, "key": "k" });
            send(&server, "POST", "/v1/lives/demo/holds", &key, hold).await
        };
        for round in 0..8 {
            let sale = lamps(&server, 5, 1).await;
            let path = |action: &str| format!("/v1/lives/demo/sales/{}/{action}", sale.as_str().unwrap());
            let more = async |key_of: &str| {
                let units = json!({ "units": 3, "key": key_of });
                send(&server, "POST", &path("stock"), &key, units).await
            };
            let say = async |action: &str| send(&server, "POST", &path(action), &key, json!({})).await;
            let (paused, first, second) = tokio::join!(say("pause"), more("a"), more("b"));
            for answer in [&paused, &first, &second] {
                assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
            }
            let refused = buy(&sale, "ann").await;
            assert_eq!(refused.json()["code"], "sale_paused", "round {round}: {}", refused.text());
            assert_eq!(stock(&server, &sale).await, (11, 0, 0), "round {round}");
            assert_eq!(say("resume").await.status, 200);
            assert_eq!(buy(&sale, "ann").await.status, 201);
            let (closed, _) = tokio::join!(say("close"), more("c"));
            assert_eq!(closed.status, 200);
            let refused = buy(&sale, "bob").await;
            assert_eq!(refused.json()["code"], "sale_closed", "round {round}: {}", refused.text());
            assert_eq!(stock(&server, &sale).await, (13, 1, 0), "round {round}");
        }
        eventually("gate and ledger agree", async || server.reconcile("demo").1 == Some(0)).await;
    }
}
