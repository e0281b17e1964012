//! The Redis gate when Redis misbehaves: what is told apart, and what comes back by itself.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use haul_commerce::{Applied, Gate, GateError, LiveRef, Op, Outcome, Refusal, SaleTerms};
use haul_model::{SaleId, UnixMillis};
use haul_store::{OpenError, RedisGate, RedisOptions};
use support::{TestRedis, free_port, unique_live};

fn sale() -> SaleId {
    "sale_1".parse().unwrap()
}

fn hold(number: u32) -> Op {
    Op::Hold { hold: format!("hold_{number}").parse().unwrap(), buyer: "ann".parse().unwrap(), quantity: 1 }
}

async fn open_sale(gate: &RedisGate, live: &LiveRef) -> Applied {
    put_again(gate, live, 0).await
}

/// Makes the sale of ten known to a gate that may have lost it.
async fn put_again(gate: &RedisGate, live: &LiveRef, sold: u32) -> Applied {
    let now = gate.now().await.unwrap();
    let terms = SaleTerms {
        stock: 10,
        per_buyer: 10,
        hold_ms: 3_600_000,
        pay_ms: 3_600_000,
        opens_at: now,
        closes_at: UnixMillis(now.0 + 86_400_000),
    };
    gate.put_sale(live, &sale(), &terms, sold).await.unwrap()
}

/// Asks until Redis answers again; a process is being waited for.
async fn when_it_answers(gate: &RedisGate, live: &LiveRef, ops: &[Op]) -> Applied {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match gate.apply(live, &sale(), ops).await {
            Ok(applied) => return applied,
            Err(error) => assert!(Instant::now() < deadline, "it did not recover: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_down_at_start_is_named_with_what_to_do() {
    let url = format!("redis://shop:secret@127.0.0.1:{}/0", free_port());
    let begun = Instant::now();
    let error = RedisGate::connect(&url).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(error, OpenError::Redis { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:") && text.contains("embedded:"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_bad_address_is_named_without_its_password() {
    for url in ["localhost:6379", "http://shop:secret@host/", "redis://shop:secret@host:notaport"] {
        let error = RedisGate::connect(url).await.unwrap_err();
        assert!(matches!(error, OpenError::Address { .. }), "{url}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_unavailable_and_recovers_by_itself() {
    let mut redis = TestRedis::own();
    let (gate, live) = (redis.gate().await, unique_live());
    open_sale(&gate, &live).await;
    let held = gate.apply(&live, &sale(), &[hold(1)]).await.unwrap();
    redis.kill();
    // The first call may have been on its way when the connection broke; then nothing more is sent.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match gate.apply(&live, &sale(), &[hold(2)]).await {
            Err(GateError::Unavailable(_)) => break,
            Err(GateError::Unknown(_)) => assert!(Instant::now() < deadline),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(gate.now().await, Err(GateError::Unavailable(_))));
    redis.start_again();
    // The server keeps what it acknowledged, and must be taught the scripts anew.
    let again = when_it_answers(&gate, &live, &[hold(1)]).await;
    assert_eq!((again.outcomes, again.counts), (held.outcomes, held.counts));
}

#[tokio::test]
async fn a_server_that_has_lost_a_sale_says_so_and_sells_exactly_the_rest() {
    let mut redis = TestRedis::forgetful();
    let (gate, live) = (redis.gate().await, unique_live());
    open_sale(&gate, &live).await;
    let order = || "order_1".parse().unwrap();
    for number in 0..4 {
        let id = || format!("hold_{number}").parse().unwrap();
        let capture = Op::Capture { hold: id(), order: order() };
        let settle = Op::Settle { hold: id(), order: order() };
        gate.apply(&live, &sale(), &[hold(number), capture, settle]).await.unwrap();
    }
    redis.kill();
    redis.start_again();
    let lost = when_it_answers(&gate, &live, &[hold(4)]).await;
    assert_eq!(lost.outcomes, [Outcome::Refused(Refusal::UnknownSale)]);
    let put = put_again(&gate, &live, 4).await;
    assert_eq!((put.counts.available, put.counts.held, put.counts.sold), (6, 0, 4));
    let rest = gate.apply(&live, &sale(), &(4..20).map(hold).collect::<Vec<_>>()).await.unwrap();
    let held = rest.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Held { .. })).count();
    assert_eq!(held, 6);
    assert_eq!((rest.counts.available, rest.counts.held, rest.counts.sold), (0, 6, 4));
}

#[tokio::test]
async fn a_late_answer_is_unknown_and_the_same_key_gives_the_truth() {
    let redis = TestRedis::own();
    let options = RedisOptions { response_timeout: Duration::from_millis(300), ..RedisOptions::default() };
    let gate = RedisGate::connect_with(&redis.url, options).await.unwrap();
    let live = unique_live();
    open_sale(&gate, &live).await;
    let mut other = redis.connection().await;
    let _: () =
        redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").query_async(&mut other).await.unwrap();
    let answer = gate.apply(&live, &sale(), &[hold(1)]).await;
    assert!(matches!(answer, Err(GateError::Unknown(_))), "{answer:?}");
    let _: () = redis::cmd("CLIENT").arg("UNPAUSE").query_async(&mut other).await.unwrap();
    // Whether the first was carried out or not, there is one hold.
    let again = when_it_answers(&gate, &live, &[hold(1)]).await;
    assert!(matches!(again.outcomes[0], Outcome::Held { .. }));
    assert_eq!(again.counts.held, 1);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let redis = TestRedis::own();
    let (gate, live) = (redis.gate().await, unique_live());
    open_sale(&gate, &live).await;
    let mut other = redis.connection().await;
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut other).await.unwrap();
    let applied = gate.apply(&live, &sale(), &[hold(1)]).await.unwrap();
    assert!(matches!(applied.outcomes[0], Outcome::Held { .. }));
}

#[tokio::test]
async fn a_server_that_may_not_write_is_unavailable_and_nothing_was_done() {
    let redis = TestRedis::own();
    let (gate, live) = (redis.gate().await, unique_live());
    let put = open_sale(&gate, &live).await;
    let mut other = redis.connection().await;
    let mut set = async |key: &str, value: &str| {
        let _: () =
            redis::cmd("CONFIG").arg("SET").arg(key).arg(value).query_async(&mut other).await.unwrap();
    };
    set("maxmemory", "1").await;
    let answer = gate.apply(&live, &sale(), &[hold(1)]).await;
    assert!(matches!(answer, Err(GateError::Unavailable(_))), "{answer:?}");
    set("maxmemory", "0").await;
    set("min-replicas-to-write", "1").await;
    let answer = gate.apply(&live, &sale(), &[hold(1)]).await;
    assert!(matches!(answer, Err(GateError::Unavailable(_))), "{answer:?}");
    set("min-replicas-to-write", "0").await;
    let state = gate.apply(&live, &sale(), &[]).await.unwrap();
    assert_eq!((state.counts, state.sequence), (put.counts, put.sequence));
}

#[tokio::test]
async fn what_somebody_else_wrote_is_corrupt_and_is_left_alone() {
    let redis = TestRedis::own();
    let (gate, live) = (redis.gate().await, unique_live());
    let put = open_sale(&gate, &live).await;
    let mut other = redis.connection().await;
    let holds = format!("haul:{{{}/{}}}/{}/holds", live.merchant, live.live, sale());
    let _: () =
        redis::cmd("HSET").arg(&holds).arg("hold_1").arg("nonsense").query_async(&mut other).await.unwrap();
    let answer = gate.apply(&live, &sale(), &[hold(2), hold(1)]).await;
    assert!(matches!(answer, Err(GateError::Corrupt(_))), "{answer:?}");
    // The batch was refused whole: hold 2 is not there either.
    let state = gate.apply(&live, &sale(), &[]).await.unwrap();
    assert_eq!((state.counts, state.sequence), (put.counts, put.sequence));
}

#[tokio::test]
async fn the_gates_time_is_the_servers() {
    let redis = TestRedis::any();
    let gate = redis.gate().await;
    let (seconds, micros): (u64, u64) =
        redis::cmd("TIME").query_async(&mut redis.connection().await).await.unwrap();
    let now = gate.now().await.unwrap();
    assert!(now.0 >= seconds * 1000 + micros / 1000 && now.0 < (seconds + 60) * 1000, "{now:?}");
    assert!(gate.now().await.unwrap() >= now);
}
