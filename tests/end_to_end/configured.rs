//! The configurations that come with the server really start, and keep what they promise.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    postgres::TestPostgres,
    server::{Process, Redis, Scratch, Server, command, eventually, free_ports},
    talk::{Channel, viewer_token},
};

fn example(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/configs")).join(name)
}

#[tokio::test]
async fn production_starts_with_its_examples_and_is_warned_of_nothing() {
    assert_eq!(warned_in_production(&[]).await, [""; 0]);
}

#[tokio::test]
async fn whoever_sells_by_the_sandbox_is_told_that_nobody_pays() {
    let warned = warned_in_production(&[("HAUL__PAYMENTS__PROVIDER", "sandbox")]).await;
    let [warning] = &warned[..] else { panic!("{warned:?}") };
    assert!(
        warning.contains("payments.provider") && warning.contains("mark their own order as paid"),
        "{warning}"
    );
    let demo = Server::start();
    assert!(!demo.log().contains("payments.provider"), "{}", demo.log());
}

/// Starts with the production file until it is ready, and gives the warnings of its log.
async fn warned_in_production(more: &[(&str, &str)]) -> Vec<String> {
    let redis = Redis::configured(&example("redis.conf"));
    let dir = Scratch::new();
    let certified = rcgen::generate_simple_self_signed(vec!["live.example".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let (port, udp_port) = free_ports(2);
    let (_, moq_port) = free_ports(1);
    let ledger = TestPostgres::any().database().await;
    let mut server = command(dir.path())
        .args(["serve", "--config"])
        .arg(example("production.toml"))
        // What differs between machines; everything else is as it stands there.
        .env("HAUL__AUTH__SECRET", "a secret of this test, of more than 32 bytes")
        .env("HAUL__HTTP__LISTEN", format!("127.0.0.1:{port}"))
        .env("HAUL__HTTP__TLS_CERT", &cert)
        .env("HAUL__HTTP__TLS_KEY", &key)
        .env("HAUL__MEDIA__UDP_PORT", udp_port.to_string())
        .env("HAUL__MEDIA__SHARDS", "2")
        .env("HAUL__MOQ__LISTEN", format!("127.0.0.1:{moq_port}"))
        .env("HAUL__STORE__GATE_URL", redis.url())
        .env("HAUL__STORE__LEDGER_URL", &ledger)
        // What the file says must be filled in.
        .env("HAUL__PAYMENTS__STRIPE_KEY", "sk_test_of_this_test")
        .env("HAUL__PAYMENTS__CALLBACK_SECRETS", "whsec_of_this_test")
        .envs(more.iter().copied())
        .stdout(Stdio::null())
        .spawn()
        .map(Process)
        .unwrap();
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    eventually("it is ready", async || {
        assert!(server.0.try_wait().unwrap().is_none(), "it ended: {}", log());
        let fetch = Command::new("curl")
            .args(["--silent", "--fail", "--max-time", "10", "--cacert"])
            .arg(&cert)
            .args(["--resolve", &format!("live.example:{port}:127.0.0.1")])
            .arg(format!("https://live.example:{port}/readyz"))
            .output();
        fetch.unwrap().status.success()
    })
    .await;
    let log = log();
    let warned = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    let warned = warned.map(str::to_owned).collect();
    server.signal("INT");
    assert!(server.wait().success());
    warned
}

#[tokio::test]
async fn a_weaker_redis_is_named_at_start_with_what_it_could_cost() {
    let redis = Redis::forgetful();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &redis.url())]);
    eventually("the operator is warned", async || {
        server.log().lines().any(|line| line.contains("appendonly") && line.contains("configs/redis.conf"))
    })
    .await;
    let sound = Redis::start();
    let server = Server::start_with(&[("HAUL__STORE__GATE_URL", &sound.url())]);
    assert!(!server.log().contains("configs/redis.conf"), "{}", server.log());
}

/// Primary and replica as the example has them: no warning while both are there, no hold while the replica is not.
#[tokio::test]
async fn a_primary_without_its_replica_sells_nothing() {
    let dir = Scratch::new();
    let config = dir.path().join("redis-replicated.conf");
    let example_text = std::fs::read_to_string(example("redis-replicated.conf")).unwrap();
    let included = example("redis.conf").display().to_string();
    std::fs::write(&config, example_text.replace("/etc/haul/redis.conf", &included)).unwrap();
    let (primary, mut replica) = (Redis::configured(&config), Redis::configured(&config));
    replica.follow(&primary);
    eventually("the replica has all", async || primary.ask("WAIT 1 100") == ":1").await;
    let server = Server::start_with(&[
        ("HAUL__STORE__GATE_URL", &primary.url()),
        ("HAUL__STORE__GATE_WAIT_REPLICAS", "1"),
    ]);
    assert!(!server.log().contains("configs/redis"), "{}", server.log());
    let mut ann = Channel::open(&server, "demo", &viewer_token(&server, "ann").await).await;
    let sale = ann.hello["result"]["sales"][0]["id"].clone();
    let held = ann.insist("hold", json!({ "sale_id": sale, "key": "a" })).await;
    assert_eq!(held["result"]["hold"]["state"], "held", "{held}");
    replica.kill();
    let mut bob = Channel::open(&server, "demo", &viewer_token(&server, "bob").await).await;
    let alone = bob.ask("hold", json!({ "sale_id": sale, "key": "b" })).await;
    assert!(alone["result"].is_null(), "nobody else has it: {alone}");
}
