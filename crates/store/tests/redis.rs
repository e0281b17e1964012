//! The Redis gate when Redis misbehaves: what is told apart, and what comes back by itself.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use haul_commerce::{Applied, Gate, GateError, Image, LiveRef, Mark, Op, Outcome, Rebuild, SaleTerms};
use haul_model::{SaleId, UnixMillis};
use haul_store::{OpenError, RedisGate, RedisOptions};
use support::{TempDir, TestRedis, free_port, unique, unique_live};

/// Where a clock that a test sets begins.
const NOW: u64 = 1_700_000_000_000;

fn sale() -> SaleId {
    "sale_1".parse().unwrap()
}

fn hold(number: u32) -> Op {
    Op::hold(format!("hold_{number}").parse().unwrap(), "ann".parse().unwrap(), 1)
}

/// A sale of ten that is open for a day.
fn terms(opens_at: UnixMillis) -> SaleTerms {
    SaleTerms {
        stock: 10,
        per_buyer: 10,
        hold_ms: 3_600_000,
        pay_ms: 3_600_000,
        opens_at,
        closes_at: UnixMillis(opens_at.0 + 86_400_000),
        ..SaleTerms::default()
    }
}

async fn open_sale(gate: &RedisGate, live: &LiveRef) -> Applied {
    let terms = terms(gate.now().await.unwrap());
    gate.put_sale(live, &sale(), &terms, Mark::default()).await.unwrap()
}

/// Asks until Redis answers again; a process is being waited for.
async fn when_it_answers(gate: &RedisGate, live: &LiveRef, ops: &[Op]) -> Applied {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match gate.apply(live, &sale(), ops, Mark::default()).await {
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
    let held = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await.unwrap();
    redis.kill();
    // The first call may have been on its way when the connection broke; then nothing more is sent.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match gate.apply(&live, &sale(), &[hold(2)], Mark::default()).await {
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
async fn a_server_that_has_lost_a_sale_is_rebuilt_by_one_of_two_and_goes_on_for_both() {
    let mut redis = TestRedis::forgetful();
    let (one, two, live) = (redis.gate().await, redis.gate().await, unique_live());
    let opens_at = open_sale(&one, &live).await.now;
    let order = || "order_1".parse().unwrap();
    let mut told = Vec::new();
    let mut seen = Mark::default();
    for number in 0..4 {
        let id = || format!("hold_{number}").parse().unwrap();
        let mut ops = vec![hold(number)];
        if number > 0 {
            ops.extend([
                Op::Capture { hold: id(), order: order() },
                Op::Settle { hold: id(), order: order() },
            ]);
        }
        let applied = one.apply(&live, &sale(), &ops, seen).await.unwrap();
        seen = applied.mark;
        told.extend(applied.holds);
    }
    redis.kill();
    redis.start_again();
    let connections = (one.connection(), two.connection());
    let deadline = Instant::now() + Duration::from_secs(20);
    let lost = loop {
        match one.apply(&live, &sale(), &[hold(4)], seen).await {
            Err(GateError::Unavailable(_) | GateError::Unknown(_)) => assert!(Instant::now() < deadline),
            answer => break answer,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(lost, Err(GateError::Stale { at: Mark::default() }));
    assert!(one.connection() > 0 && (one.connection(), two.connection()) >= connections);
    let begun =
        [one.begin_rebuild(&live, &sale(), seen).await, two.begin_rebuild(&live, &sale(), seen).await];
    assert_eq!(begun, [Ok(Rebuild::Begun { epoch: 2 }), Ok(Rebuild::Busy)]);
    let frozen = two.apply(&live, &sale(), &[hold(4)], Mark::default()).await;
    assert!(matches!(frozen, Err(GateError::Stale { .. })), "whoever asks: {frozen:?}");
    let image = Image { epoch: 2, clock: opens_at, terms: terms(opens_at), holds: told.clone() };
    let rebuilt = one.rebuild(&live, &sale(), &image).await.unwrap();
    assert_eq!((rebuilt.counts.available, rebuilt.counts.held, rebuilt.counts.sold), (6, 1, 3));
    assert_eq!(one.rebuild(&live, &sale(), &image).await.unwrap().mark, rebuilt.mark, "a lost answer");
    assert_eq!(two.begin_rebuild(&live, &sale(), seen).await, Ok(Rebuild::NotNeeded));

    let ops: Vec<_> = (0..20).map(hold).collect();
    let rest = two.apply(&live, &sale(), &ops, seen).await.unwrap();
    assert_eq!(rest.outcomes[0], Outcome::Held { deadline: told[0].deadline }, "the hold of before");
    assert_eq!(rest.outcomes[1..4], [Outcome::Sold, Outcome::Sold, Outcome::Sold]);
    assert_eq!((rest.counts.available, rest.counts.held, rest.counts.sold), (0, 7, 3));
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
    let answer = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await;
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
    let applied = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await.unwrap();
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
    let answer = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await;
    assert!(matches!(answer, Err(GateError::Unavailable(_))), "{answer:?}");
    set("maxmemory", "0").await;
    set("min-replicas-to-write", "1").await;
    let answer = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await;
    assert!(matches!(answer, Err(GateError::Unavailable(_))), "{answer:?}");
    set("min-replicas-to-write", "0").await;
    let state = gate.apply(&live, &sale(), &[], Mark::default()).await.unwrap();
    assert_eq!((state.counts, state.mark), (put.counts, put.mark));
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
    let answer = gate.apply(&live, &sale(), &[hold(2), hold(1)], Mark::default()).await;
    assert!(matches!(answer, Err(GateError::Corrupt(_))), "{answer:?}");
    // The batch was refused whole: hold 2 is not there either.
    let state = gate.apply(&live, &sale(), &[], Mark::default()).await.unwrap();
    assert_eq!((state.counts, state.mark), (put.counts, put.mark));
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

#[tokio::test]
async fn without_its_replicas_nothing_is_promised_and_the_same_key_gives_the_truth() {
    let (primary, replica) = (TestRedis::own(), TestRedis::own());
    let ask = async |redis: &TestRedis, words: &[&str]| -> redis::Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut redis.connection().await).await.unwrap()
    };
    let port = primary.url.rsplit(':').next().unwrap().to_owned();
    ask(&replica, &["REPLICAOF", "127.0.0.1", &port]).await;
    let options = RedisOptions {
        response_timeout: Duration::from_secs(30),
        wait_replicas: 1,
        wait_timeout: Duration::from_millis(50),
        ..RedisOptions::default()
    };
    let gate = RedisGate::connect_with(&primary.url, options.clone()).await.unwrap();
    let live = unique_live();
    let until = Instant::now() + Duration::from_secs(20);
    let terms = terms(gate.now().await.unwrap());
    while let Err(error) = gate.put_sale(&live, &sale(), &terms, Mark::default()).await {
        assert!(matches!(error, GateError::Unknown(_)) && Instant::now() < until, "{error}");
    }
    let held = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await.unwrap();

    ask(&replica, &["REPLICAOF", "NO", "ONE"]).await;
    let answer = gate.apply(&live, &sale(), &[hold(2)], held.mark).await;
    assert!(matches!(answer, Err(GateError::Unknown(_))), "{answer:?}");
    // Asked again, even over another connection, it is not promised before a replica has it.
    let another = RedisGate::connect_with(&primary.url, options).await.unwrap();
    let answer = another.apply(&live, &sale(), &[hold(2)], held.mark).await;
    assert!(matches!(answer, Err(GateError::Unknown(_))), "{answer:?}");
    ask(&replica, &["REPLICAOF", "127.0.0.1", &port]).await;
    let truth = loop {
        match another.apply(&live, &sale(), &[hold(2)], held.mark).await {
            Ok(applied) => break applied,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    };
    assert!(matches!(truth.outcomes[0], Outcome::Held { .. }));
    assert_eq!(truth.counts.held, 2, "one hold a key");
    // Whoever takes over has both.
    ask(&replica, &["REPLICAOF", "NO", "ONE"]).await;
    let after = replica.gate().await.apply(&live, &sale(), &[hold(1), hold(2)], truth.mark).await.unwrap();
    assert_eq!((&after.outcomes[0], &after.outcomes[1]), (&held.outcomes[0], &truth.outcomes[0]));
}

#[tokio::test]
async fn weaker_settings_are_named_and_those_of_the_example_are_sound() {
    let redis = TestRedis::own();
    assert_eq!(redis.gate().await.weaknesses().await, [""; 0]);
    let forgetful = TestRedis::forgetful();
    let told = forgetful.gate().await.weaknesses().await;
    assert!(told.len() == 1 && told[0].starts_with("appendonly"), "{told:?}");
    // A Redis that forbids it is no reason to fail.
    let mut admin = redis.connection().await;
    let rules = ["on", "nopass", "~*", "+@all", "-config"];
    let _: () =
        redis::cmd("ACL").arg("SETUSER").arg("shop").arg(&rules).query_async(&mut admin).await.unwrap();
    let url = redis.url.replace("redis://", "redis://shop:any@");
    assert_eq!(RedisGate::connect(&url).await.unwrap().weaknesses().await, [""; 0]);

    let example =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/redis.conf")).unwrap();
    for line in example.lines().filter(|line| !line.starts_with('#') && !line.starts_with("bind")) {
        let Some((name, value)) = line.split_once(' ').filter(|(name, _)| *name != "port") else { continue };
        let value = value.trim_matches('"');
        let _: () =
            redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(&mut admin).await.unwrap();
    }
    assert_eq!(redis.gate().await.weaknesses().await, [""; 0]);
}

#[tokio::test]
async fn a_primary_that_stalls_is_unknown_then_unavailable_and_its_replica_has_what_was_acknowledged() {
    let (primary, replica) = (TestRedis::own(), TestRedis::own());
    replica.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await.unwrap();
    let options = RedisOptions {
        response_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_millis(500),
        wait_replicas: 1,
        wait_timeout: Duration::from_secs(1),
        ..RedisOptions::default()
    };
    let gate = RedisGate::connect_with(&primary.url, options).await.unwrap();
    let live = unique_live();
    let until = Instant::now() + Duration::from_secs(20);
    let terms = terms(gate.now().await.unwrap());
    while let Err(error) = gate.put_sale(&live, &sale(), &terms, Mark::default()).await {
        assert!(matches!(error, GateError::Unknown(_)) && Instant::now() < until, "{error}");
    }
    let held = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await.unwrap();

    primary.signal("-STOP");
    let answer = gate.apply(&live, &sale(), &[hold(2)], held.mark).await;
    assert!(matches!(answer, Err(GateError::Unknown(_))), "{answer:?}");
    // Nobody else waits for it: the connection was given up.
    let begun = Instant::now();
    let answer = gate.apply(&live, &sale(), &[hold(3)], held.mark).await;
    assert!(matches!(answer, Err(GateError::Unavailable(_))), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(2));

    replica.ask(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let promoted = replica.gate().await;
    let ops = [hold(1), hold(2)];
    let after = promoted.apply(&live, &sale(), &ops, held.mark).await.unwrap();
    assert_eq!(after.outcomes[0], held.outcomes[0], "acknowledged before");
    assert!(matches!(after.outcomes[1], Outcome::Held { .. }), "nobody knew; now they do");
    assert_eq!(after.counts.held, 2);
    primary.signal("-CONT");
}

#[tokio::test]
async fn redis_is_spoken_to_with_tls_and_its_certificate_is_checked() {
    let dir = TempDir::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(parameters, rcgen::KeyPair::generate().unwrap()).unwrap();
    let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &ca).unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(path("ca.pem"), ca.pem()).unwrap();
    let port = free_port();
    let redis = TestRedis::with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path("cert.pem"),
        "--tls-key-file",
        &path("key.pem"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://localhost:{port}");
    let trusting = RedisOptions {
        response_timeout: Duration::from_secs(30),
        root_cert: Some(ca.pem().into_bytes()),
        ..RedisOptions::default()
    };
    let gate = RedisGate::connect_with(&url, trusting).await.unwrap();
    let live = unique_live();
    open_sale(&gate, &live).await;
    let applied = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await.unwrap();
    assert!(matches!(applied.outcomes[0], Outcome::Held { .. }));
    // Who signed it is not known here.
    let error = RedisGate::connect(&url).await.unwrap_err();
    assert!(matches!(error, OpenError::Redis { .. }), "{error:?}");
    drop(redis);
}

/// A gate whose clock is a key that the test sets, and is watched.
async fn watched(redis: &TestRedis, key: &str) -> RedisGate {
    let clock = format!("local function clock() return tonumber(redis.call('GET', '{key}')) end");
    let options = RedisOptions { clock: clock.into(), ..RedisOptions::default() };
    RedisGate::connect_with(&redis.url, options).await.unwrap()
}

#[tokio::test]
async fn a_clock_that_jumps_forward_stops_the_sale_and_ends_no_hold() {
    let (redis, key) = (TestRedis::any(), unique("haul-test-clock"));
    let set = async |at: u64| drop(redis.ask(&["SET", &key, &at.to_string()]).await.unwrap());
    set(NOW).await;
    let (gate, other) = (watched(&redis, &key).await, watched(&redis, &key).await);
    let live = unique_live();
    gate.put_sale(&live, &sale(), &terms(UnixMillis(NOW)), Mark::default()).await.unwrap();
    let held = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await.unwrap();
    assert_eq!(other.now().await.unwrap(), UnixMillis(NOW));

    set(NOW + 3_600_000).await;
    for gate in [&gate, &other] {
        let asked = gate.apply(&live, &sale(), &[hold(2)], held.mark).await;
        let ahead = |ms: u64| ms > 3_500_000 && ms <= 3_600_000;
        assert!(matches!(asked, Err(GateError::ClockJumped { ahead_ms }) if ahead(ahead_ms)), "{asked:?}");
        let put = gate.put_sale(&live, &sale(), &terms(UnixMillis(NOW)), held.mark).await;
        assert!(matches!(put, Err(GateError::ClockJumped { .. })), "{put:?}");
        assert!(matches!(gate.now().await, Err(GateError::ClockJumped { .. })));
        let standing = gate.standing(&live, &sale(), &"ann".parse().unwrap(), held.mark).await;
        assert!(matches!(standing, Err(GateError::ClockJumped { .. })), "{standing:?}");
        let rebuild = gate.begin_rebuild(&live, &sale(), Mark { epoch: 9, sequence: 9 }).await;
        assert!(matches!(rebuild, Err(GateError::ClockJumped { .. })), "a rebuild would end them, too");
    }
    set(NOW + 1_000).await;
    let again = gate.apply(&live, &sale(), &[hold(1)], held.mark).await.unwrap();
    assert_eq!(again.outcomes, held.outcomes, "the same hold, with the same deadline");
    assert_eq!((again.counts.held, again.released.len()), (1, 0));
}

#[tokio::test]
async fn a_clock_that_steps_back_ends_no_hold_early_and_gives_none_twice() {
    let (redis, key) = (TestRedis::any(), unique("haul-test-clock"));
    let set = async |at: u64| drop(redis.ask(&["SET", &key, &at.to_string()]).await.unwrap());
    set(NOW + 5_000).await;
    let gate = watched(&redis, &key).await;
    let live = unique_live();
    gate.put_sale(&live, &sale(), &terms(UnixMillis(NOW)), Mark::default()).await.unwrap();
    let held = gate.apply(&live, &sale(), &[hold(1)], Mark::default()).await.unwrap();
    // Before the sale opened, by that clock; it has opened all the same.
    set(NOW - 60_000).await;
    let later = gate.apply(&live, &sale(), &[hold(1), hold(2)], held.mark).await.unwrap();
    assert_eq!(later.now, held.now, "the sale's time stands until the clock has come as far again");
    assert_eq!((&later.outcomes[0], &later.outcomes[1]), (&held.outcomes[0], &held.outcomes[0]));
    assert_eq!((later.counts.held, later.released.len()), (2, 0));
}
