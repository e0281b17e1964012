//! A crowd buys while Redis breaks, or servers and databases are killed at any moment; the complete history of it is read
//! afterwards.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use haul_commerce::{Ledger, OrderState, book::HoldState};
use haul_store::SqlLedger;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    history::{Answer, Ask, End, Event, Payment, Record, check},
    postgres::TestPostgres,
    server::{PATIENCE, Redis, Server, eventually},
    talk::{Channel, get, moment, try_call, viewer_token, wall_ms},
};

const BUYERS: usize = 24;
const STOCK: u32 = 10;
/// As long as a hold of these sales lasts.
const HOLD_MS: u64 = 1_500;

/// A sale and those who shop in it.
struct Crowd {
    sale: Value,
    over: Arc<AtomicBool>,
    /// Counts what all were told.
    told: Arc<AtomicUsize>,
    buyers: Vec<JoinHandle<Told>>,
}

/// What a buyer has been told, and paid for.
#[derive(Default)]
struct Told {
    events: Vec<Event>,
    taken: Vec<String>,
}

impl Crowd {
    async fn come_to(server: &Server) -> Self {
        let mut host = Channel::open(server, "demo", &server.host_token).await;
        let schedule = json!({ "product_id": "tea", "price_minor": 100, "stock": STOCK, "per_buyer": 2,
            "duration_ms": 600_000, "hold_ms": HOLD_MS });
        let sale = host.insist("sale.schedule", schedule).await["result"]["sale"].clone();
        let (over, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut buyers = Vec::new();
        for number in 0..BUYERS {
            let name = format!("b{number}");
            let token = viewer_token(server, &name).await;
            let buyer = Buyer {
                name,
                token,
                port: server.port,
                sale: sale["id"].clone(),
                channel: None,
                told: Told::default(),
                told_in_all: told.clone(),
            };
            buyers.push(tokio::spawn(buyer.shop(number, over.clone())));
        }
        Self { sale, over, told, buyers }
    }

    /// Waits until some more of them were told something.
    async fn is_busy(&self) {
        let enough = self.told.load(Ordering::Relaxed) + BUYERS;
        eventually("the crowd goes on", async || self.told.load(Ordering::Relaxed) > enough).await;
    }

    /// Available, held and sold, as anybody may see them.
    async fn look(&self, server: &Server) -> (u64, u64, u64) {
        let sales = get(server, "/v1/lives/demo/sales").await.json();
        let seen =
            sales["sales"].as_array().unwrap().iter().find(|seen| seen["id"] == self.sale["id"]).unwrap();
        let number = |name: &str| seen[name].as_u64().unwrap();
        (number("available"), number("held"), number("sold"))
    }

    /// They stop; once nobody holds anything and all agree, everything that was asked, answered, written and paid is read.
    async fn broken(
        self,
        server: &Server,
        mut seen: Vec<(u64, u64, u64)>,
    ) -> BTreeMap<crate::history::Broken, String> {
        self.over.store(true, Ordering::Relaxed);
        eventually("nobody holds anything, and all agree", async || {
            let now = self.look(server).await;
            seen.push(now);
            now.1 == 0 && server.reconcile("demo").1 == Some(0)
        })
        .await;
        let rested_at = Some(wall_ms());
        let mut all = Told::default();
        for buyer in self.buyers {
            let told = tokio::time::timeout(2 * PATIENCE, buyer).await.unwrap().unwrap();
            all.events.extend(told.events);
            all.taken.extend(told.taken);
        }
        let ledger = SqlLedger::open(&server.ledger_url()).await.unwrap();
        let sale_id = self.sale["id"].as_str().unwrap().parse().unwrap();
        let recorded = Ledger::recorded(&ledger, &"demo".parse().unwrap(), &sale_id).await.unwrap();
        let ends: HashMap<_, _> = recorded
            .holds
            .iter()
            .map(|record| {
                // A server that was killed may not have written that a hold is over; past its deadline it is, and the gate,
                // which holds nothing any more, says the same.
                let due = record.state.has_deadline() && record.deadline.0 <= wall_ms();
                let end = match record.state {
                    _ if due => End::Released,
                    HoldState::Held | HoldState::Paying | HoldState::Captured => End::Standing,
                    HoldState::Sold => End::Sold,
                    HoldState::Waiting | HoldState::Released => End::Released,
                    HoldState::Late => End::Late,
                };
                (record.hold.to_string(), (record.buyer.to_string(), vec![record.units.quantity()], end))
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
        let promised = all.events.iter().filter(|event| matches!(event.answer, Answer::Held { .. })).count();
        assert!(promised >= 10, "too little happened: {promised} holds");
        check(&Record {
            stock: vec![STOCK],
            per_buyer: vec![2],
            opens_at: moment(&self.sale["opens_at"]),
            closes_at: moment(&self.sale["closes_at"]),
            events: all.events,
            counts: seen.into_iter().map(|of| vec![of]).collect(),
            ends,
            rested_at,
            payments,
            taken: all.taken,
            ..Record::default()
        })
    }
}

/// Somebody who buys, gives up, forgets, and tries again, and writes down what they were told. When the server goes away
/// they come back.
struct Buyer {
    name: String,
    token: String,
    port: u16,
    sale: Value,
    channel: Option<Channel>,
    told: Told,
    told_in_all: Arc<AtomicUsize>,
}

impl Buyer {
    /// The answer, once there is one: what is pending or lost is asked for again with the same words.
    async fn insist(&mut self, kind: &str, fields: &Value) -> Option<Value> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            if self.channel.is_none() {
                self.channel = Channel::try_open(self.port, "demo", &self.token).await;
            }
            let answer = match &mut self.channel {
                Some(channel) => channel.try_ask(kind, fields.clone()).await,
                None => None,
            };
            match answer {
                Some(answer) if !["unavailable", "pending"].iter().any(|code| answer["code"] == *code) => {
                    return Some(answer);
                }
                Some(_) => {}
                None => self.channel = None,
            }
            if tokio::time::Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ask(&mut self, kind: &str, fields: Value, ask: Ask) -> Value {
        let asked_at = wall_ms();
        let answer = self.insist(kind, &fields).await.unwrap_or_else(|| json!({ "code": "pending" }));
        let hold = &answer["result"]["hold"];
        let id = || hold["id"].as_str().unwrap_or_default().to_owned();
        let deadline = hold.get("deadline").filter(|deadline| deadline.is_string()).map_or(0, moment);
        let told = match (answer["code"].as_str(), hold["state"].as_str()) {
            (Some("pending"), _) => Answer::Unknown,
            (Some("hold_over"), _) => Answer::Released,
            (Some(code), _) => Answer::Refused(code.to_owned()),
            (None, Some("held")) => Answer::Held { hold: id(), deadline },
            (None, Some("paying")) => Answer::Paying { hold: id(), deadline },
            (None, Some("captured" | "sold")) => Answer::Taken { hold: id() },
            (None, _) => Answer::Released,
        };
        let buyer = self.name.clone();
        self.told_in_all.fetch_add(1, Ordering::Relaxed);
        self.told.events.push(Event { asked_at, answered_at: wall_ms(), buyer, ask, answer: told });
        answer
    }

    async fn hold(&mut self, key: &str) -> Option<String> {
        let fields = json!({ "sale_id": self.sale, "quantity": 1, "key": key });
        let answer = self.ask("hold", fields, Ask::Hold { key: key.to_owned(), units: vec![1] }).await;
        answer["result"]["hold"]["id"].as_str().map(str::to_owned)
    }

    /// The provider takes the money, and says so until somebody has heard it.
    async fn pay(&mut self, hold: String, url: &str) {
        let until = tokio::time::Instant::now() + PATIENCE;
        let url = format!("http://127.0.0.1:{}{url}", self.port);
        let body = json!({ "outcome": "paid" }).to_string();
        loop {
            let answer = try_call("POST", &url, &[("content-type", "application/json")], body.clone()).await;
            if answer.is_some_and(|answer| answer.status == 204) {
                return self.told.taken.push(hold);
            }
            assert!(tokio::time::Instant::now() < until, "nobody hears that {hold} is paid");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What it does depends on who it is, so that each run has all of it.
    async fn shop(mut self, number: usize, over: Arc<AtomicBool>) -> Told {
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
                            self.pay(hold, url).await;
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

/// As short as a payment may take.
const PAY: (&str, &str) = ("HAUL__SALE__PAY_SECONDS", "10");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_told_nothing_that_is_not_kept_whatever_redis_does() {
    let mut redis = Redis::start();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url()), PAY]);
    let crowd = Crowd::come_to(&server).await;
    let mut seen = Vec::new();
    for fault in 0..4 {
        crowd.is_busy().await;
        seen.push(crowd.look(&server).await);
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
        seen.push(crowd.look(&server).await);
    }
    crowd.is_busy().await;
    assert_eq!(crowd.broken(&server, seen).await, BTreeMap::new());
    let metrics = get(&server, "/metrics").await.text();
    let rebuilds = metrics.lines().find_map(|line| line.strip_prefix("haul_gate_rebuilds_total ")).unwrap();
    assert!(rebuilds.parse::<u32>().unwrap() >= 3, "{rebuilds}");
}

/// One evening: on stores of the seed's choice, things are killed with -9 at moments of the seed's choice.
async fn an_evening(seed: u64, kills: u32) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut redis = (seed % 2 == 1).then(Redis::start);
    let mut postgres = (seed % 4 >= 2).then(TestPostgres::own);
    let gate = redis.as_ref().map_or("embedded:".to_owned(), Redis::url);
    let mut env = vec![("HAUL__STORE__GATE_URL", gate.as_str()), PAY];
    let ledger = match &postgres {
        Some(postgres) => postgres.database().await,
        None => String::new(),
    };
    if !ledger.is_empty() {
        env.push(("HAUL__STORE__LEDGER_URL", &ledger));
    }
    let mut server = Server::start_with(&env);
    let crowd = Crowd::come_to(&server).await;
    let mut seen = Vec::new();
    for _ in 0..kills {
        crowd.is_busy().await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        seen.push(crowd.look(&server).await);
        match (random.random_range(0..4), &mut redis, &mut postgres) {
            (0, Some(redis), _) => {
                redis.kill();
                redis.resume();
            }
            (1, _, Some(postgres)) => tokio::task::block_in_place(|| {
                postgres.kill();
                postgres.start_again();
            }),
            // Both at once: a power cut.
            (2, Some(redis), _) => {
                server = server.crash_meanwhile(|| {
                    redis.kill();
                    redis.resume();
                });
            }
            _ => server = server.crash_and_restart(),
        }
    }
    crowd.is_busy().await;
    let broken = crowd.broken(&server, seen).await;
    assert_eq!(broken, BTreeMap::new(), "seed {seed}: {}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_at_any_moment_a_crowd_gets_what_it_was_promised() {
    an_evening(3, 3).await;
}

/// Many such evenings, on all pairs of stores; `HAUL_EVENINGS` says how many (30), `HAUL_EVENING` which one alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "some minutes"]
async fn long_whatever_is_killed_on_thirty_evenings() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("HAUL_EVENING") {
        return an_evening(seed, 4).await;
    }
    for seed in 0..number("HAUL_EVENINGS").unwrap_or(30) {
        println!("evening {seed}");
        an_evening(seed, 4).await;
    }
}
