//! Clocks that are wrong: time is the gate's, whoever else is early or late, and the gate's own clock is not believed
//! blindly.

use std::{path::PathBuf, process::Command, sync::OnceLock, time::Duration};

use serde_json::{Value, json};

use crate::{
    server::{Redis, Scratch, Server, eventually},
    talk::{Channel, moment, send, viewer_token, wall_ms},
};

/// A wall clock for processes of a test, which the test sets.
struct Clock {
    dir: Scratch,
}

impl Clock {
    fn off_by(ms: i64) -> Self {
        let clock = Self { dir: Scratch::new() };
        clock.set_off(ms);
        clock
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("off_by_ms")
    }

    /// From now on, whoever has this clock sees another time.
    fn set_off(&self, ms: i64) {
        // In one step: half a number would be another time.
        let new = self.dir.path().join("new");
        std::fs::write(&new, ms.to_string()).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// What a process needs in its environment.
    fn env(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", library().to_string_lossy().into_owned()),
            ("HAUL_TEST_CLOCK", self.file().to_string_lossy().into_owned()),
        ]
    }
}

/// `shifted.c`, compiled once.
fn library() -> &'static PathBuf {
    static BUILT: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    let build = || {
        let dir = Scratch::new();
        let library = dir.path().join("shifted.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/clock/shifted.c");
        let done =
            Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(done.expect("a C compiler is needed: apt-get install build-essential").success());
        (dir, library)
    };
    &BUILT.get_or_init(build).1
}

const HOUR_MS: i64 = 3_600_000;

/// A server that sells by `clock` (its own, or that of its Redis): the clock jumps an hour ahead while Ann holds a unit and
/// Bob is paying for one.
async fn a_jump_ends_no_hold(server: &Server, clock: &Clock) {
    let mut ann = Channel::open(server, "demo", &viewer_token(server, "ann").await).await;
    let mut bob = Channel::open(server, "demo", &viewer_token(server, "bob").await).await;
    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    let hold = json!({ "sale_id": sale, "key": "k" });
    let held = ann.ask("hold", hold.clone()).await;
    assert_eq!(held["result"]["hold"]["state"], "held", "{held}");
    let bobs = bob.ask("hold", hold.clone()).await["result"]["hold"]["id"].clone();
    let checkout = bob.ask("checkout", json!({ "sale_id": sale, "hold_id": bobs })).await;
    let pay_url = checkout["result"]["pay_url"].as_str().unwrap().to_owned();

    clock.set_off(HOUR_MS);
    let asked = ann.ask("hold", json!({ "sale_id": sale, "key": "m" })).await;
    assert_eq!(asked["code"], "pending", "{asked}");
    bob.event("sale.changed", |event| event["sale"]["state"] == "frozen").await;
    // Money that comes meanwhile is written down.
    assert_eq!(send(server, "POST", &pay_url, "", json!({ "outcome": "paid" })).await.status, 204);
    clock.set_off(0);
    bob.event("sale.changed", |event| event["sale"]["state"] == "open").await;
    bob.event("order.changed", |event| event["order"]["state"] == "sold").await;
    let again = ann.insist("hold", hold).await;
    assert_eq!(again["result"]["hold"], held["result"]["hold"], "the same hold with the same deadline");
    let gone = |event: &&Value| event["type"] == "hold.changed" && event["hold"]["state"] == "released";
    assert_eq!(ann.events.iter().chain(&bob.events).find(gone), None, "nobody was told that a hold is over");
}

#[tokio::test]
async fn redis_time_that_jumps_forward_stops_the_sale_and_ends_no_hold() {
    let clock = Clock::off_by(0);
    let redis = Redis::start_with(&clock.env());
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    a_jump_ends_no_hold(&server, &clock).await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

#[tokio::test]
async fn a_servers_own_time_that_jumps_forward_stops_its_embedded_gate_and_ends_no_hold() {
    let clock = Clock::off_by(0);
    let env = clock.env();
    let server = Server::start_with(&env.each_ref().map(|(key, value)| (*key, value.as_str())));
    a_jump_ends_no_hold(&server, &clock).await;
}

#[tokio::test]
async fn redis_time_that_steps_back_ends_no_hold_and_sells_on() {
    let clock = Clock::off_by(0);
    let redis = Redis::start_with(&clock.env());
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    let held = ann.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
    let deadline = moment(&held["result"]["hold"]["deadline"]);

    clock.set_off(-10 * HOUR_MS);
    let again = ann.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
    assert_eq!(again["result"]["hold"], held["result"]["hold"]);
    // The sale opened long after what that clock shows, and is open all the same.
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    let second = bob.ask("hold", json!({ "sale_id": sale, "key": "k" })).await;
    let lasts = moment(&second["result"]["hold"]["deadline"]);
    assert!(lasts.abs_diff(deadline) < 20_000, "the sale's time stands, and does not go back");
    let hold = held["result"]["hold"]["id"].clone();
    let checkout = ann.ask("checkout", json!({ "sale_id": sale, "hold_id": hold })).await;
    let pay_url = checkout["result"]["pay_url"].as_str().unwrap_or_else(|| panic!("{checkout}"));
    assert_eq!(send(&server, "POST", pay_url, "", json!({ "outcome": "paid" })).await.status, 204);
    ann.event("order.changed", |event| event["order"]["state"] == "sold").await;
    eventually("all agree", async || server.reconcile("demo").1 == Some(0)).await;
}

/// Everybody but Redis is five minutes off: the sale opens when Redis says so.
#[tokio::test]
async fn a_sale_opens_by_redis_time_though_the_server_is_five_minutes_off() {
    for off_by_s in [300, -300] {
        let redis = Redis::start();
        let clock = Clock::off_by(off_by_s * 1_000);
        let [(preload, library), (name, file)] = clock.env();
        let url = redis.url();
        let env = [("HAUL__STORE__GATE_URL", &*url), (preload, &*library), (name, &*file)];
        let server = Server::start_with(&env);
        let mut host = Channel::open(&server, "demo", &server.host_token).await;
        let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
        let told = moment(&ann.hello["result"]["server_time"]);
        assert!(told.abs_diff(wall_ms()) < 5_000, "{off_by_s}: server time is Redis' time");
        let opens_at = wall_ms() + 1_500;
        let schedule = json!({ "product_id": "lamp", "price_minor": 100, "stock": 1, "duration_ms": 600_000,
            "opens_at": opens_at });
        let sale = host.ask("sale.schedule", schedule).await["result"]["sale"].clone();
        assert_eq!(sale["state"], "scheduled", "{off_by_s}: {sale}");
        let mut early = 0;
        for attempt in 0.. {
            let asked = wall_ms();
            let answer =
                ann.ask("hold", json!({ "sale_id": sale["id"], "key": format!("k{attempt}") })).await;
            if answer["result"]["hold"]["state"] == "held" {
                assert!(wall_ms() >= opens_at, "{off_by_s}: sold before it opened: {answer}");
                break;
            }
            assert_eq!(answer["code"], "sale_not_open", "{off_by_s}: {answer}");
            assert!(asked < opens_at + 500, "{off_by_s}: still refused: {answer}");
            early += 1;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        assert!(early > 0, "{off_by_s}: nobody came early");
        let log = server.log();
        assert!(log.contains("clock") && log.contains("Redis"), "the operator is told: {log}");
    }
}
