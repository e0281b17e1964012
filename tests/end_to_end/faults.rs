//! What is acknowledged survives: Redis loses what it knew in each way that it can, in the middle of a sale.

use serde_json::{Value, json};

use crate::{
    postgres::TestPostgres,
    server::{Proxy, Redis, Server, eventually},
    talk::{Channel, call, get, moment, send, viewer_token},
};

/// The demo's sale (100 units, two a buyer) with a hold of one unit for Ann, one that Bob is paying, one that Cid has
/// bought, and Dan's, given up.
struct Midway {
    sale: String,
    ann: Channel,
    bob: Channel,
    cid: Channel,
    dan: Channel,
    /// Ann's answer.
    held: Value,
    /// Bob's.
    checkout: Value,
}

impl Midway {
    async fn come_to(server: &Server) -> Self {
        let mut ann = Channel::open(server, "demo", &viewer_token(server, "ann").await).await;
        let mut bob = Channel::open(server, "demo", &viewer_token(server, "bob").await).await;
        let mut cid = Channel::open(server, "demo", &viewer_token(server, "cid").await).await;
        let mut dan = Channel::open(server, "demo", &viewer_token(server, "dan").await).await;
        let sale = ann.hello["result"]["sales"][0]["id"].as_str().unwrap().to_owned();
        let held = ann.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
        assert_eq!(held["result"]["hold"]["state"], "held", "{held}");
        let checkout = check_out(&mut bob, &sale, "k").await;
        let bought = check_out(&mut cid, &sale, "k").await;
        pay(server, &bought).await;
        cid.event("order.changed", |event| event["order"]["state"] == "sold").await;
        let given = dan.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
        let hold = given["result"]["hold"]["id"].clone();
        dan.insist("hold.cancel", json!({ "sale_id": sale, "hold_id": hold })).await;
        ann.event("stock.changed", |event| event["sold"] == 1 && event["held"] == 2).await;
        Self { sale, ann, bob, cid, dan, held, checkout }
    }

    /// Everything is as it was promised, and goes on.
    async fn goes_on(&mut self, server: &Server) {
        let Self { sale, ann, bob, cid, dan, held, checkout } = self;
        let again = ann.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
        assert_eq!(again["result"]["hold"], held["result"]["hold"], "the same key, the same hold: {again}");
        let spent = dan.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
        assert_eq!(spent["code"], "hold_over", "{spent}");
        for (buyer, units) in [(&mut *ann, 2), (&mut *bob, 2), (&mut *cid, 2)] {
            let more = buyer.insist("hold", json!({ "sale_id": sale, "quantity": units, "key": "m" })).await;
            assert_eq!(more["code"], "buyer_limit", "{more}");
        }
        let stock = stock(server, sale).await;
        assert_eq!(stock, (97, 2, 1), "available, held, sold");
        pay(server, checkout).await;
        bob.event("order.changed", |event| event["order"]["state"] == "sold").await;
        let hold = held["result"]["hold"]["id"].clone();
        let checkout = ann.insist("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
        pay(server, &checkout).await;
        ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
        eventually("the gate has settled", async || self::stock(server, sale).await == (97, 0, 3)).await;
        eventually("gate, ledger and payments agree", async || server.reconcile("demo").1 == Some(0)).await;
    }
}

async fn check_out(buyer: &mut Channel, sale: &str, key: &str) -> Value {
    let held = buyer.insist("hold", json!({ "sale_id": sale, "key": key })).await;
    let hold = held["result"]["hold"]["id"].clone();
    let checkout = buyer.insist("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    assert_eq!(checkout["result"]["order"]["state"], "paying", "{checkout}");
    checkout
}

async fn pay(server: &Server, checkout: &Value) {
    let url = checkout["result"]["pay_url"].as_str().unwrap();
    assert_eq!(send(server, "POST", url, "", json!({ "outcome": "paid" })).await.status, 204);
}

/// Available, held, sold.
async fn stock(server: &Server, sale: &str) -> (u64, u64, u64) {
    let sales = get(server, "/v1/lives/demo/sales").await.json();
    let sale = sales["sales"].as_array().unwrap().iter().find(|seen| seen["id"] == sale).unwrap().clone();
    let number = |name: &str| sale[name].as_u64().unwrap();
    assert_eq!(number("available") + number("held") + number("sold"), number("stock"));
    (number("available"), number("held"), number("sold"))
}

async fn rebuilds(server: &Server) -> u64 {
    let metrics = get(server, "/metrics").await.text();
    let line = metrics.lines().find(|line| line.starts_with("haul_gate_rebuilds_total ")).unwrap().to_owned();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn on(redis: &Redis) -> Server {
    Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())])
}

#[tokio::test]
async fn flushall_in_the_middle_of_a_sale_is_noticed_and_mended() {
    let redis = Redis::start();
    let server = on(&redis);
    let mut sale = Midway::come_to(&server).await;
    redis.ask("FLUSHALL");
    let asked = sale.dan.ask("hold", json!({ "sale_id": sale.sale, "key": "new" })).await;
    assert_eq!(asked["code"], "pending", "{asked}");
    assert!(asked["retry_after_ms"].is_u64());
    sale.cid.event("sale.changed", |event| event["sale"]["state"] == "frozen").await;
    let open = sale.cid.event("sale.changed", |event| event["sale"]["state"] == "open").await;
    assert_eq!((&open["sale"]["held"], &open["sale"]["sold"]), (&json!(2), &json!(1)), "{open}");
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await, 1);
}

#[tokio::test]
async fn a_redis_killed_in_the_middle_of_a_sale_has_lost_nothing() {
    let mut redis = Redis::start();
    let server = on(&redis);
    let mut sale = Midway::come_to(&server).await;
    redis.kill();
    redis.resume();
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await, 0, "it had written everything down");
}

#[tokio::test]
async fn an_old_copy_of_redis_is_noticed_and_mended() {
    let mut redis = Redis::forgetful();
    let server = on(&redis);
    // The copy knows the sale and a hold of one who has left since.
    let mut eve = Channel::open(&server, "demo", &viewer_token(&server, "eve").await).await;
    let sale = eve.hello["result"]["sales"][0]["id"].clone();
    let held = eve.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
    assert_eq!(redis.ask("SAVE"), "+OK");
    let hold = held["result"]["hold"]["id"].clone();
    eve.insist("hold.cancel", json!({ "sale_id": sale, "hold_id": hold })).await;
    let mut sale = Midway::come_to(&server).await;
    redis.kill();
    redis.resume();
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await, 1);
}

#[tokio::test]
async fn an_old_copy_is_noticed_by_a_server_that_was_restarted_too() {
    let mut redis = Redis::forgetful();
    let server = on(&redis);
    assert_eq!(redis.ask("SAVE"), "+OK");
    let sale = Midway::come_to(&server).await;
    redis.kill();
    redis.resume();
    let server = server.crash_and_restart();
    let open = async |buyer: &str| Channel::open(&server, "demo", &viewer_token(&server, buyer).await).await;
    // The ledger follows the gate by the time of a write, and those who asked came after.
    let (ann, bob) = (open("ann").await, open("bob").await);
    let (cid, dan) = (open("cid").await, open("dan").await);
    let mut sale = Midway { ann, bob, cid, dan, ..sale };
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await, 1);
}

#[tokio::test]
async fn an_old_journal_of_the_embedded_gate_is_noticed_and_mended() {
    let server = Server::start();
    let journal = server.data.path().join("data/gate/journal");
    // The sale is put when its live begins.
    let _eve = Channel::open(&server, "demo", "").await;
    let old = std::fs::read(&journal).unwrap();
    let sale = Midway::come_to(&server).await;
    let server = server.crash_meanwhile(|| std::fs::write(&journal, old).unwrap());
    let open = async |buyer: &str| Channel::open(&server, "demo", &viewer_token(&server, buyer).await).await;
    let (ann, bob) = (open("ann").await, open("bob").await);
    let (cid, dan) = (open("cid").await, open("dan").await);
    let mut sale = Midway { ann, bob, cid, dan, ..sale };
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_without_the_last_writes_is_noticed_and_mended() {
    let (primary, replica) = (Redis::start(), Redis::start());
    let proxy = Proxy::to(primary.port()).await;
    replica.follow(&primary);
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &proxy.url())]);
    eventually("the replica has the sale", async || replica.ask("DBSIZE") != ":0").await;
    replica.ask("REPLICAOF NO ONE");
    let mut sale = Midway::come_to(&server).await;
    primary.stall();
    proxy.turn_to(replica.port());
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await, 1);
}

/// Another server on the same Redis and the same ledger.
fn beside(server: &Server, redis: &Redis) -> Server {
    let secret = std::fs::read_to_string(server.data.path().join("data/secret")).unwrap();
    Server::start_with(&[
        ("HAUL__STORE__GATE_URL", &redis.url()),
        ("HAUL__STORE__LEDGER_URL", &server.ledger_url()),
        ("HAUL__AUTH__SECRET", secret.trim()),
    ])
}

#[tokio::test]
async fn who_loses_a_hold_is_told_whichever_server_rebuilds_the_sale() {
    let mut redis = Redis::forgetful();
    let server = on(&redis);
    let mut host = Channel::open(&server, "demo", &server.host_token).await;
    let schedule = json!({ "product_id": "tea", "price_minor": 100, "stock": 5, "duration_ms": 600_000,
        "hold_ms": 2_000 });
    let sale = host.insist("sale.schedule", schedule).await["result"]["sale"]["id"].clone();
    let other = beside(&server, &redis);
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let mut eve = Channel::open(&other, "demo", &viewer_token(&other, "eve").await).await;
    let mut deadline = 0;
    for buyer in [&mut ann, &mut eve] {
        let held = buyer.insist("hold", json!({ "sale_id": sale, "key": "k" })).await;
        deadline = moment(&held["result"]["hold"]["deadline"]);
    }
    redis.kill();
    eventually("the holds are due", async || {
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 > deadline
    })
    .await;
    // Nobody asks: both servers look after the holds, and one rebuilds the sale without them.
    redis.resume();
    for buyer in [&mut ann, &mut eve] {
        let lost = buyer.event("hold.changed", |event| event["hold"]["sale_id"] == sale).await;
        assert_eq!(lost["hold"]["state"], "released", "{lost}");
        buyer.event("stock.changed", |event| event["sale_id"] == sale && event["available"] == 5).await;
    }
}

#[tokio::test]
async fn two_servers_on_one_redis_rebuild_a_sale_once() {
    let redis = Redis::start();
    let server = on(&redis);
    let mut sale = Midway::come_to(&server).await;
    let other = beside(&server, &redis);
    let mut eve = Channel::open(&other, "demo", &viewer_token(&other, "eve").await).await;
    let held = eve.insist("hold", json!({ "sale_id": sale.sale, "key": "k" })).await;
    assert_eq!(held["result"]["hold"]["state"], "held", "{held}");
    eventually("the ledger has read it", async || server.reconcile("demo").1 == Some(0)).await;
    redis.ask("FLUSHALL");
    let (again, answer) = tokio::join!(
        eve.insist("hold", json!({ "sale_id": sale.sale, "key": "k" })),
        sale.ann.insist("hold", json!({ "sale_id": sale.sale, "key": "k" })),
    );
    assert_eq!(again["result"]["hold"], held["result"]["hold"], "{again}");
    assert_eq!(answer["result"]["hold"], sale.held["result"]["hold"], "{answer}");
    let hold = held["result"]["hold"]["id"].clone();
    eve.insist("hold.cancel", json!({ "sale_id": sale.sale, "hold_id": hold })).await;
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await + rebuilds(&other).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_has_all_that_was_told_where_answers_wait_for_it() {
    let (primary, replica, other) = (Redis::start(), Redis::start(), Redis::start());
    let proxy = Proxy::to(primary.port()).await;
    replica.follow(&primary);
    let server = Server::start_with(&[
        ("HAUL__STORE__GATE_URL", &proxy.url()),
        ("HAUL__STORE__GATE_WAIT_REPLICAS", "1"),
        ("HAUL__STORE__GATE_WAIT_MS", "400"),
        ("HAUL__STORE__GATE_TIMEOUT_MS", "2000"),
    ]);
    eventually("the sale is at the gate", async || {
        let sales = get(&server, "/v1/lives/demo/sales").await.json();
        sales["sales"].as_array().is_some_and(|sales| !sales.is_empty())
    })
    .await;
    let mut sale = Midway::come_to(&server).await;
    primary.stall();
    replica.ask("REPLICAOF NO ONE");
    // With no replica of its own it would promise nothing.
    other.follow(&replica);
    proxy.turn_to(replica.port());
    sale.goes_on(&server).await;
    assert_eq!(rebuilds(&server).await, 0, "nothing was lost");
}

#[tokio::test]
async fn reconcile_finds_what_somebody_did_to_the_gate() {
    let redis = Redis::start();
    let server = on(&redis);
    let sale = Midway::come_to(&server).await;
    eventually("gate, ledger and payments agree", async || server.reconcile("demo").1 == Some(0)).await;
    let hold = sale.held["result"]["hold"]["id"].as_str().unwrap();
    redis.ask(&format!("HDEL haul:{{main/demo}}/{}/holds {hold}", sale.sale));
    let (printed, code) = server.reconcile("demo");
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains(hold) && printed.contains("97 available, 2 held, 1 sold"), "{printed}");
    redis.ask("FLUSHALL");
    let (printed, code) = server.reconcile("demo");
    assert!(code == Some(1) && printed.contains("the gate does not know the sale"), "{printed}");
    let (_, code) = server.reconcile("nobody");
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn reconcile_finds_what_somebody_did_to_either_ledger() {
    for on_postgres in [false, true] {
        let database = match on_postgres {
            true => TestPostgres::any().database().await,
            false => String::new(),
        };
        let server = match on_postgres {
            true => Server::start_with(&[("HAUL__STORE__LEDGER_URL", &database)]),
            false => Server::start(),
        };
        let sale = Midway::come_to(&server).await;
        let agree = async || eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
        agree().await;
        let ledger = Ledger::open(&server.ledger_url()).await;
        // What is young may be under way; each of these is said to be two minutes old.
        for (done, undone) in [
            (
                "UPDATE orders SET state = 'expired', updated_at = updated_at - 120000 WHERE state = 'sold'",
                "UPDATE orders SET state = 'sold', updated_at = updated_at + 120000 WHERE state = 'expired'",
            ),
            (
                "UPDATE orders SET state = 'sold', updated_at = updated_at - 120000 WHERE state = 'paying'",
                "UPDATE orders SET state = 'paying', updated_at = updated_at + 120000 WHERE paid_event IS NULL",
            ),
        ] {
            ledger.change(done).await;
            let (printed, code) = server.reconcile("demo");
            assert_eq!(code, Some(1), "{done}: {printed}");
            assert!(printed.contains(&sale.sale), "{done}: {printed}");
            ledger.change(undone).await;
            agree().await;
        }
    }
}

/// The ledger of a server, looked into and kept from writing by somebody else.
enum Ledger {
    Sqlite(sqlx::SqlitePool),
    Postgres(sqlx::PgPool),
}

/// Nothing is written to the ledger as long as this is there.
enum Lock {
    Sqlite(sqlx::pool::PoolConnection<sqlx::Sqlite>),
    Postgres(sqlx::pool::PoolConnection<sqlx::Postgres>),
}

impl Ledger {
    async fn open(url: &str) -> Self {
        match url.starts_with("postgres") {
            true => Self::Postgres(sqlx::PgPool::connect(url).await.unwrap()),
            false => Self::Sqlite(sqlx::SqlitePool::connect(url).await.unwrap()),
        }
    }

    /// The text that a statement finds for an id; empty for NULL.
    async fn text(&self, statement: &'static str, id: &str) -> String {
        let found: Option<String> = match self {
            Self::Sqlite(pool) => sqlx::query_scalar(statement).bind(id).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(statement).bind(id).fetch_one(pool).await.unwrap(),
        };
        found.unwrap_or_default()
    }

    async fn change(&self, statement: &'static str) {
        match self {
            Self::Sqlite(pool) => sqlx::query(statement).execute(pool).await.map(drop),
            Self::Postgres(pool) => sqlx::query(statement).execute(pool).await.map(drop),
        }
        .unwrap();
    }

    async fn lock(&self) -> Lock {
        match self {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await.unwrap();
                sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.unwrap();
                Lock::Sqlite(connection)
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await.unwrap();
                sqlx::query("BEGIN").execute(&mut *connection).await.unwrap();
                // Lets others read, and nobody write.
                sqlx::query("LOCK TABLE orders IN EXCLUSIVE MODE").execute(&mut *connection).await.unwrap();
                Lock::Postgres(connection)
            }
        }
    }
}

impl Lock {
    async fn release(self) {
        match self {
            Self::Sqlite(mut connection) => sqlx::query("ROLLBACK").execute(&mut *connection).await.map(drop),
            Self::Postgres(mut connection) => {
                sqlx::query("ROLLBACK").execute(&mut *connection).await.map(drop)
            }
        }
        .unwrap();
    }
}

/// A sale with a payment on its way, on a Redis that is asked patiently and a ledger that can be kept from writing.
struct Payment {
    redis: Redis,
    server: Server,
    ledger: Ledger,
    token: String,
    sale: String,
    hold: String,
    checkout: Value,
}

impl Payment {
    async fn begin(on_postgres: bool) -> Self {
        let redis = Redis::start();
        let url = redis.url();
        let mut env =
            vec![("HAUL__STORE__GATE_URL", url.as_str()), ("HAUL__STORE__GATE_TIMEOUT_MS", "20000")];
        let database = match on_postgres {
            true => TestPostgres::any().database().await,
            false => String::new(),
        };
        if on_postgres {
            env.push(("HAUL__STORE__LEDGER_URL", &database));
        }
        let server = Server::start_with(&env);
        let token = viewer_token(&server, "ann").await;
        let mut ann = Channel::open(&server, "demo", &token).await;
        let sale = ann.hello["result"]["sales"][0]["id"].as_str().unwrap().to_owned();
        let checkout = check_out(&mut ann, &sale, "k").await;
        let hold = checkout["result"]["hold"]["id"].as_str().unwrap().to_owned();
        let ledger = Ledger::open(&server.ledger_url()).await;
        Self { redis, server, ledger, token, sale, hold, checkout }
    }

    /// The hold's letter at the gate: P paying, C captured, S sold.
    fn at_gate(&self) -> char {
        let key = format!("haul:{{main/demo}}/{}/holds", self.sale);
        self.redis.bulk(&format!("HGET {key} {}", self.hold)).chars().next().unwrap_or('-')
    }

    async fn in_ledger(&self) -> String {
        self.ledger.text("SELECT state FROM orders WHERE hold_id = $1", &self.hold).await
    }

    /// The provider says that it is paid, the gate captures it, and the ledger can't commit: its lock is held.
    async fn captured_and_not_committed(&self) -> Lock {
        self.redis.ask("CLIENT PAUSE 60000 WRITE");
        pay(&self.server, &self.checkout).await;
        eventually("the money is written down", async || {
            let paid = self.ledger.text("SELECT paid_event FROM orders WHERE hold_id = $1", &self.hold).await;
            !paid.is_empty()
        })
        .await;
        let lock = self.ledger.lock().await;
        self.redis.ask("CLIENT UNPAUSE");
        eventually("captured", async || self.at_gate() == 'C').await;
        lock
    }

    /// Everything comes to its end after the server was killed and started again.
    async fn comes_to_its_end(self) {
        let (differences, code) = self.server.reconcile("demo");
        assert_eq!(code, Some(0), "under way, and nothing wrong: {differences}");
        let mut ann = Channel::open(&self.server, "demo", &self.token).await;
        eventually("sold at the gate", async || self.at_gate() == 'S').await;
        assert_eq!(self.in_ledger().await, "sold");
        assert_eq!(stock(&self.server, &self.sale).await, (99, 0, 1));
        let again = ann.insist("hold", json!({ "sale_id": self.sale, "key": "k" })).await;
        assert_eq!(again["result"]["hold"]["state"], "sold", "{again}");
        let sold = self.ledger.text("SELECT CAST(sold AS TEXT) FROM sales WHERE id = $1", &self.sale).await;
        assert_eq!(sold, "1", "once");
        assert_eq!(self.server.reconcile("demo").1, Some(0));
    }

    async fn killed_between_capture_and_commit(mut self) {
        let lock = self.captured_and_not_committed().await;
        assert_eq!(self.in_ledger().await, "paying");
        self.server = self.server.crash_and_restart_with(async || lock.release().await).await;
        self.comes_to_its_end().await;
    }

    async fn killed_between_commit_and_settle(mut self) {
        let lock = self.captured_and_not_committed().await;
        // Now the ledger may commit, and the gate can't be told.
        self.redis.ask("CLIENT PAUSE 60000 WRITE");
        lock.release().await;
        eventually("committed", async || self.in_ledger().await == "sold").await;
        assert_eq!(self.at_gate(), 'C');
        self.server = self.server.crash_meanwhile(|| drop(self.redis.ask("CLIENT UNPAUSE")));
        self.comes_to_its_end().await;
    }
}

#[tokio::test]
async fn a_server_killed_between_capture_and_commit_sells_once() {
    Payment::begin(false).await.killed_between_capture_and_commit().await;
}

#[tokio::test]
async fn a_server_killed_between_capture_and_commit_to_postgres_sells_once() {
    Payment::begin(true).await.killed_between_capture_and_commit().await;
}

#[tokio::test]
async fn a_server_killed_between_commit_and_settle_sells_once() {
    Payment::begin(false).await.killed_between_commit_and_settle().await;
}

#[tokio::test]
async fn a_server_killed_between_commit_to_postgres_and_settle_sells_once() {
    Payment::begin(true).await.killed_between_commit_and_settle().await;
}

/// Eight are paying when Postgres is killed with their confirmations under way; while it is away, the provider is told
/// that it must say so again, and buyers that they must wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_restarted_in_the_middle_of_confirmations_loses_and_doubles_none() {
    let mut postgres = TestPostgres::own();
    let database = postgres.database().await;
    let redis = Redis::start();
    let server = Server::start_with(&[
        ("HAUL__STORE__GATE_URL", &redis.url()),
        ("HAUL__STORE__LEDGER_URL", &database),
    ]);
    let mut buyers = Vec::new();
    for number in 0..8 {
        let token = viewer_token(&server, &format!("b{number}")).await;
        let mut buyer = Channel::open(&server, "demo", &token).await;
        let sale = buyer.hello["result"]["sales"][0]["id"].as_str().unwrap().to_owned();
        let checkout = check_out(&mut buyer, &sale, "k").await;
        buyers.push((buyer, sale, server.url(checkout["result"]["pay_url"].as_str().unwrap())));
    }
    let sale = buyers[0].1.clone();
    let mut zoe = Channel::open(&server, "demo", &viewer_token(&server, "zoe").await).await;
    let zoes = check_out(&mut zoe, &sale, "k").await["result"]["order"].clone();
    let given_up =
        zoe.insist("hold", json!({ "sale_id": sale, "key": "k" })).await["result"]["hold"]["id"].clone();
    let paid = json!({ "outcome": "paid" }).to_string();
    let json = [("content-type", "application/json")];
    let words = buyers.iter().map(|(_, _, url)| call("POST", url, &json, paid.clone()));
    let kill = async { tokio::task::block_in_place(|| postgres.kill()) };
    let (first, ()) = tokio::join!(futures_util::future::join_all(words), kill);
    // What was answered 204 is written down; the rest is said again by whoever took the money.
    assert!(first.iter().all(|answer| [204, 503].contains(&answer.status)), "{:?}", first[0].text());
    let mut eve = Channel::open(&server, "demo", &viewer_token(&server, "eve").await).await;
    let held =
        eve.insist("hold", json!({ "sale_id": sale, "key": "k" })).await["result"]["hold"]["id"].clone();
    let refused = eve.ask("checkout", json!({ "sale_id": sale, "hold_id": held })).await;
    assert!(["unavailable", "pending"].iter().any(|code| refused["code"] == *code), "{refused}");
    assert_eq!(
        call("POST", &buyers[0].2, &json, paid.clone()).await.status,
        503,
        "nothing can be written down"
    );
    // Somebody gives up what they were paying for.
    let cancelled = zoe.insist("hold.cancel", json!({ "sale_id": sale, "hold_id": given_up })).await;
    assert_eq!(cancelled["type"], "reply", "{cancelled}");
    tokio::task::block_in_place(|| postgres.start_again());
    for (buyer, _, url) in &mut buyers {
        eventually("the provider is heard", async || {
            call("POST", url, &json, paid.clone()).await.status == 204
        })
        .await;
        buyer.event("order.changed", |event| event["order"]["state"] == "sold").await;
    }
    let hold = json!({ "sale_id": sale, "hold_id": held });
    let checkout = eve.insist("checkout", hold).await;
    assert_eq!(checkout["result"]["order"]["state"], "paying", "{checkout}");
    eventually("the gate has settled", async || stock(&server, &sale).await == (91, 1, 8)).await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
    let is_over = |event: &Value| event["order"]["id"] == zoes["id"] && event["order"]["state"] == "expired";
    zoe.event("order.changed", is_over).await;
    let orders = send(&server, "GET", "/v1/lives/demo/orders", &server.host_token, Value::Null).await.json();
    assert_eq!((&orders["totals"]["units"], &orders["totals"]["orders"]), (&json!(8), &json!(8)), "{orders}");
}
