//! A crowd buys while Redis breaks in several ways; the complete history of it is read afterwards.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use haul_commerce::{Ledger, OrderState, book::HoldState};
use haul_store::SqlLedger;
use serde_json::{Value, json};

use crate::{
    history::{Answer, Ask, End, Event, Payment, Record, check},
    server::{PATIENCE, Redis, Server, eventually},
    talk::{Channel, get, send, viewer_token},
};

const BUYERS: usize = 24;
const STOCK: u32 = 10;

fn wall_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

/// Somebody who buys, gives up, forgets, and tries again, and writes down what they were told.
struct Buyer {
    name: String,
    sale: Value,
    channel: Channel,
    told: Vec<Event>,
    /// Counts what all were told.
    told_in_all: Arc<AtomicUsize>,
}

impl Buyer {
    async fn ask(&mut self, kind: &str, fields: Value, ask: Ask) -> Value {
        let asked_at = wall_ms();
        let answer = self.channel.insist(kind, fields).await;
        let hold = &answer["result"]["hold"];
        let id = || hold["id"].as_str().unwrap_or_default().to_owned();
        let deadline = hold["deadline"].as_u64().unwrap_or_default();
        let told = match (answer["code"].as_str(), hold["state"].as_str()) {
            (Some("pending" | "unavailable"), _) => Answer::Unknown,
            (Some("hold_over"), _) => Answer::Released,
            (Some(code), _) => Answer::Refused(code.to_owned()),
            (None, Some("held")) => Answer::Held { hold: id(), deadline },
            (None, Some("paying")) => Answer::Paying { hold: id(), deadline },
            (None, Some("captured" | "sold")) => Answer::Taken { hold: id() },
            (None, _) => Answer::Released,
        };
        let buyer = self.name.clone();
        self.told_in_all.fetch_add(1, Ordering::Relaxed);
        self.told.push(Event { asked_at, answered_at: wall_ms(), buyer, ask, answer: told });
        answer
    }

    async fn hold(&mut self, key: &str) -> Option<String> {
        let fields = json!({ "sale_id": self.sale, "quantity": 1, "key": key });
        let answer = self.ask("hold", fields, Ask::Hold { key: key.to_owned(), quantity: 1 }).await;
        answer["result"]["hold"]["id"].as_str().map(str::to_owned)
    }

    /// What it does depends on who it is, so that each run has all of it.
    async fn shop(mut self, number: usize, server: Arc<Server>, over: Arc<AtomicBool>) -> Vec<Event> {
        for round in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("k{round}");
            if let Some(hold) = self.hold(&key).await {
                let fields = json!({ "sale_id": self.sale, "hold_id": hold });
                match (number + round) % 8 {
                    0 => {
                        let checkout =
                            self.ask("checkout", fields, Ask::Checkout { hold: hold.clone() }).await;
                        if let Some(url) = checkout["result"]["pay_url"].as_str() {
                            let paid = json!({ "outcome": "paid" });
                            assert_eq!(send(&server, "POST", url, "", paid).await.status, 204);
                        }
                    }
                    1 => drop(self.hold(&key).await),
                    2 => {}
                    _ => {
                        self.ask("hold.cancel", fields.clone(), Ask::Cancel { hold: hold.clone() }).await;
                        self.ask("hold.cancel", fields, Ask::Cancel { hold }).await;
                    }
                }
            }
            // As fast as one person may ask for long.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.told
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_told_nothing_that_is_not_kept_whatever_redis_does() {
    let mut redis = Redis::start();
    let env = [("HAUL__STORE__GATE_URL", redis.url()), ("HAUL__SALE__PAY_SECONDS", "10".to_owned())];
    let server = Arc::new(Server::start_with(&env.each_ref().map(|(key, value)| (*key, value.as_str()))));
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let schedule = json!({ "product_id": "tea", "price_minor": 100, "stock": STOCK, "per_buyer": 2,
        "duration_ms": 600_000, "hold_ms": 1_500 });
    let sale = host.insist("sale.schedule", schedule).await["result"]["sale"].clone();
    let (over, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut crowd = Vec::new();
    for number in 0..BUYERS {
        let name = format!("b{number}");
        let channel = Channel::open(&server, "demo", &viewer_token(&server, &name).await).await;
        let buyer =
            Buyer { name, sale: sale["id"].clone(), channel, told: Vec::new(), told_in_all: told.clone() };
        crowd.push(tokio::spawn(buyer.shop(number, server.clone(), over.clone())));
    }
    let counts = async |into: &mut Vec<(u64, u64, u64)>| {
        let sales = get(&server, "/v1/lives/demo/sales").await.json();
        let seen = sales["sales"].as_array().unwrap().iter().find(|seen| seen["id"] == sale["id"]).unwrap();
        let number = |name: &str| seen[name].as_u64().unwrap();
        into.push((number("available"), number("held"), number("sold")));
    };
    let mut seen = Vec::new();
    let busy = async || {
        let enough = told.load(Ordering::Relaxed) + 4 * BUYERS;
        eventually("the crowd goes on", async || told.load(Ordering::Relaxed) > enough).await;
    };
    for fault in 0..4 {
        busy().await;
        counts(&mut seen).await;
        match fault {
            0 | 2 => drop(redis.ask("FLUSHALL")),
            1 => {
                redis.kill();
                redis.resume();
            }
            _ => {
                redis.kill();
                redis.forget();
                redis.resume();
            }
        }
        counts(&mut seen).await;
    }
    busy().await;
    over.store(true, Ordering::Relaxed);
    let mut events = Vec::new();
    for buyer in crowd {
        events.extend(tokio::time::timeout(2 * PATIENCE, buyer).await.unwrap().unwrap());
    }
    eventually("nobody holds anything, and all agree", async || {
        let mut now = Vec::new();
        counts(&mut now).await;
        seen.extend(&now);
        now[0].1 == 0 && server.reconcile("demo").1 == Some(0)
    })
    .await;

    let ledger = SqlLedger::open(&server.ledger_url()).await.unwrap();
    let sale_id = sale["id"].as_str().unwrap().parse().unwrap();
    let recorded = Ledger::recorded(&ledger, &"demo".parse().unwrap(), &sale_id).await.unwrap();
    let ends: HashMap<_, _> = recorded
        .holds
        .iter()
        .map(|record| {
            let end = match record.state {
                HoldState::Held | HoldState::Paying | HoldState::Captured => End::Standing,
                HoldState::Sold => End::Sold,
                HoldState::Waiting | HoldState::Released => End::Released,
                HoldState::Late => End::Late,
            };
            (record.hold.to_string(), (record.buyer.to_string(), record.units.quantity(), end))
        })
        .collect();
    let at = wall_ms();
    let payments: Vec<_> = recorded
        .orders
        .iter()
        .filter(|order| order.paid.is_some())
        .map(|order| Payment {
            hold: order.order.hold.to_string(),
            at,
            sold: order.state == OrderState::Sold,
            refunds: u32::from(order.state == OrderState::Refunded),
        })
        .collect();
    let promised = events.iter().filter(|event| matches!(event.answer, Answer::Held { .. })).count();
    assert!(promised > 30 && !payments.is_empty(), "too little happened: {promised} holds");
    let record = Record {
        stock: STOCK,
        per_buyer: 2,
        opens_at: sale["opens_at"].as_u64().unwrap(),
        closes_at: sale["closes_at"].as_u64().unwrap(),
        events,
        counts: seen,
        ends,
        payments,
        ..Record::default()
    };
    assert_eq!(check(&record), std::collections::BTreeMap::new());
    let metrics = get(&server, "/metrics").await.text();
    let rebuilds = metrics.lines().find_map(|line| line.strip_prefix("haul_gate_rebuilds_total ")).unwrap();
    assert!(rebuilds.parse::<u32>().unwrap() >= 3, "{rebuilds}");
}
