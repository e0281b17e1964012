//! The gate and the bus on a Redis Cluster of real servers: where a live is, what happens when its slot moves and when its node dies.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use haul_commerce::{
    Appended, Applied, Batch, Bus, Changes, Gate, GateError, LiveRef, Mark, Op, Outcome, SaleTerms,
};
use haul_model::{SaleId, UnixMillis};
use haul_store::{RedisBus, RedisGate, RedisOptions};
use redis::Value;
use support::{TestRedis, unique_live};

/// Three nodes that have all slots, a third each.
struct Cluster(Vec<TestRedis>);

/// The last slot of each node, and one more.
const ENDS: [u16; 3] = [5_461, 10_923, 16_384];

fn text(value: Value) -> String {
    redis::from_redis_value(value).unwrap()
}

impl Cluster {
    async fn new() -> Self {
        let nodes: Vec<_> = (0..3).map(|_| TestRedis::node()).collect();
        let mut first = 0;
        for (node, end) in nodes.iter().zip(ENDS) {
            let (from, to) = (first.to_string(), (end - 1).to_string());
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await.unwrap();
            first = end;
        }
        let cluster = Self(nodes);
        for node in &cluster.0[1..] {
            cluster.meet(node).await;
        }
        for node in &cluster.0 {
            until(async || {
                let info = text(node.ask(&["CLUSTER", "INFO"]).await.unwrap());
                info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_assigned:16384")
                    && info.contains("cluster_known_nodes:3")
            })
            .await;
        }
        cluster
    }

    async fn meet(&self, node: &TestRedis) {
        node.ask(&["CLUSTER", "MEET", "127.0.0.1", &self.0[0].port().to_string()]).await.unwrap();
    }

    /// Knows the first node only, and finds the others.
    async fn gate(&self) -> RedisGate {
        let options = RedisOptions { response_timeout: Duration::from_secs(10), ..RedisOptions::default() };
        RedisGate::connect_with(&self.0[0].url, options).await.unwrap()
    }

    async fn bus(&self, options: RedisOptions) -> RedisBus {
        RedisBus::connect_with(&self.0[0].url, options).await.unwrap()
    }

    /// By way of this node, without waiting for replicas.
    async fn bus_from(&self, node: usize) -> RedisBus {
        RedisBus::connect_with(&self.0[node].url, patient()).await.unwrap()
    }

    /// A replica of this node, that has all that the node has.
    async fn replica_of(&self, node: usize) -> TestRedis {
        let replica = TestRedis::node();
        self.meet(&replica).await;
        let primary_id = text(self.0[node].ask(&["CLUSTER", "MYID"]).await.unwrap());
        until(async || replica.ask(&["CLUSTER", "REPLICATE", &primary_id]).await.is_ok()).await;
        until(async || {
            text(replica.ask(&["INFO", "replication"]).await.unwrap()).contains("master_link_status:up")
        })
        .await;
        replica
    }

    /// A live that is on this node, and its slot.
    async fn live_on(&self, node: usize) -> (LiveRef, String) {
        loop {
            let live = unique_live();
            let tag = format!("{{{}/{}}}", live.merchant, live.live);
            let slot: u16 =
                redis::from_redis_value(self.0[0].ask(&["CLUSTER", "KEYSLOT", &tag]).await.unwrap()).unwrap();
            if ENDS.iter().position(|end| slot < *end) == Some(node) {
                return (live, slot.to_string());
            }
        }
    }
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(Instant::now() < deadline, "the cluster does not come to it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn sale() -> SaleId {
    "sale_1".parse().unwrap()
}

fn hold(number: u32) -> Op {
    Op::hold(format!("hold_{number}").parse().unwrap(), "ann".parse().unwrap(), 1)
}

async fn open_sale(gate: &RedisGate, live: &LiveRef) {
    let opens_at = gate.now().await.unwrap();
    let terms = SaleTerms {
        stock: 10,
        per_buyer: 10,
        hold_ms: 3_600_000,
        pay_ms: 3_600_000,
        opens_at: UnixMillis(opens_at.0 - 60_000),
        closes_at: UnixMillis(opens_at.0 + 86_400_000),
        ..SaleTerms::default()
    };
    gate.put_sale(live, &sale(), &terms, Mark::default()).await.unwrap();
}

async fn take(gate: &RedisGate, live: &LiveRef, number: u32) -> Result<Applied, GateError> {
    gate.apply(live, &sale(), &[hold(number)], Mark::default()).await
}

fn is_held(applied: &Applied) -> bool {
    matches!(applied.outcomes[0], Outcome::Held { .. })
}

#[tokio::test]
async fn each_live_is_sold_on_the_node_that_has_its_slot() {
    let cluster = Cluster::new().await;
    let gate = cluster.gate().await;
    for node in 0..3 {
        let (live, _) = cluster.live_on(node).await;
        open_sale(&gate, &live).await;
        assert!(is_held(&take(&gate, &live, 1).await.unwrap()));
        let key = format!("haul:{{{}/{}}}/{}", live.merchant, live.live, sale());
        let there = cluster.0[node].ask(&["EXISTS", &key]).await;
        assert_eq!(there.unwrap(), Value::Int(1), "node {node}");
    }
    assert_eq!(gate.weaknesses().await, [""; 0]);
}

#[tokio::test]
async fn a_slot_that_moves_to_another_node_takes_its_sales_along() {
    let cluster = Cluster::new().await;
    let gate = cluster.gate().await;
    let (live, slot) = cluster.live_on(1).await;
    open_sale(&gate, &live).await;
    assert!(is_held(&take(&gate, &live, 1).await.unwrap()));
    let (from, to) = (&cluster.0[1], &cluster.0[2]);
    let from_id = text(from.ask(&["CLUSTER", "MYID"]).await.unwrap());
    let to_id = text(to.ask(&["CLUSTER", "MYID"]).await.unwrap());
    to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await.unwrap();
    from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await.unwrap();
    // All keys have moved, the slot has not: the old node says ASK.
    let keys: Vec<String> =
        redis::from_redis_value(from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await.unwrap())
            .unwrap();
    let port = to.port().to_string();
    let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    migrate.extend(keys.iter().map(String::as_str));
    from.ask(&migrate).await.unwrap();
    // Nor does the new one run a script of several keys while one that does not exist may be on its way (TRYAGAIN): it is
    // told apart from an answer that was lost, and nothing has happened.
    let asked = take(&gate, &live, 2).await;
    assert!(matches!(asked, Err(GateError::Unavailable(_))), "{asked:?}");
    // The slot has moved: the old node says MOVED.
    for node in [to, from, &cluster.0[0]] {
        node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await.unwrap();
    }
    let before = gate.connection();
    let moved = take(&gate, &live, 3).await.unwrap();
    assert!(is_held(&moved));
    assert_eq!(moved.counts.held, 2, "what was held before, and this");
    assert!(gate.connection() > before, "another connection: it may have lost something");
    assert_eq!(take(&gate, &live, 1).await.unwrap().counts.held, 2, "the same key is the same hold");
}

#[tokio::test]
async fn when_a_node_dies_its_replica_goes_on_and_the_others_never_stopped() {
    let mut cluster = Cluster::new().await;
    let replica = cluster.replica_of(1).await;
    let options = RedisOptions {
        response_timeout: Duration::from_secs(10),
        wait_replicas: 0,
        ..RedisOptions::default()
    };
    let gate = RedisGate::connect_with(&cluster.0[0].url, options).await.unwrap();
    let ((here, _), (elsewhere, _)) = (cluster.live_on(1).await, cluster.live_on(0).await);
    for live in [&here, &elsewhere] {
        open_sale(&gate, live).await;
    }
    assert!(is_held(&take(&gate, &here, 1).await.unwrap()));
    let offset = async |node: &TestRedis, name: &str| -> String {
        let info = text(node.ask(&["INFO", "replication"]).await.unwrap());
        info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    let written = offset(&cluster.0[1], "master_repl_offset:").await;
    until(async || {
        offset(&replica, "slave_repl_offset:").await.parse::<u64>().unwrap()
            >= written.parse::<u64>().unwrap()
    })
    .await;

    cluster.0[1].kill();
    assert!(is_held(&take(&gate, &elsewhere, 1).await.unwrap()), "another node's live goes on");
    // Until the replica takes over, nobody is promised anything.
    let lost = take(&gate, &here, 2).await;
    assert!(matches!(lost, Err(GateError::Unavailable(_) | GateError::Unknown(_))), "{lost:?}");
    until(async || take(&gate, &here, 2).await.is_ok_and(|applied| is_held(&applied))).await;
    let after = take(&gate, &here, 1).await.unwrap();
    assert_eq!(after.counts.held, 2, "the hold of before, and the new one once");
}

/// Longer than any of these tests.
const LASTS: Duration = Duration::from_secs(600);

fn patient() -> RedisOptions {
    RedisOptions { response_timeout: Duration::from_secs(10), ..RedisOptions::default() }
}

fn batch(number: u64) -> Batch {
    let text = |what: &str| vec![format!("{what} {number}").into_bytes()];
    Batch {
        number,
        told: format!("told {number}").into_bytes(),
        epoch: "e1".to_owned(),
        offset: number,
        lines: text("line"),
        changes: Changes { chat: text("chat"), state: text("change"), ..Changes::default() },
        rewritten: Vec::new(),
    }
}

#[tokio::test]
async fn each_room_is_told_through_the_node_that_has_its_slot_and_wakes_who_listens_elsewhere() {
    let cluster = Cluster::new().await;
    let (owner, follower) = (cluster.bus(patient()).await, Arc::new(cluster.bus(patient()).await));
    for node in 0..3 {
        let (live, _) = cluster.live_on(node).await;
        let lease = owner.lease(&live, 1, true, 0, LASTS).await.unwrap();
        assert!(lease.mine, "node {node}");
        assert!(!follower.lease(&live, 2, true, lease.term, LASTS).await.unwrap().mine, "one owner");
        // Who waits hears of it at once, and not when the wait is over.
        let (listening, of) = (follower.clone(), live.clone());
        let heard = tokio::spawn(async move {
            let since = Instant::now();
            (listening.told(&of, 0, LASTS).await.unwrap(), since.elapsed())
        });
        assert_eq!(owner.append(&live, 1, lease.term, &batch(1), LASTS).await.unwrap(), Appended::Done);
        let (told, waited) = tokio::time::timeout(Duration::from_secs(60), heard).await.unwrap().unwrap();
        assert_eq!(told, [(1, b"told 1".to_vec())], "node {node}, after {waited:?}");
        follower.ask(&live, b"asked").await.unwrap();
        let (asked, _) = owner.asked(&live, "", LASTS).await.unwrap();
        assert_eq!(asked, [b"asked".to_vec()]);
        let key = format!("haul:room:{{{}/{}}}/told", live.merchant, live.live);
        assert_eq!(cluster.0[node].ask(&["EXISTS", &key]).await.unwrap(), Value::Int(1), "node {node}");
    }
}

#[tokio::test]
async fn what_was_told_in_a_room_outlives_the_node_that_it_was_told_through() {
    let mut cluster = Cluster::new().await;
    let _replica = cluster.replica_of(1).await;
    // Told is what the replica has, too.
    let options = RedisOptions { wait_replicas: 1, wait_timeout: Duration::from_secs(5), ..patient() };
    let (owner, follower) = (cluster.bus(options.clone()).await, cluster.bus(options).await);
    let ((here, _), (elsewhere, _)) = (cluster.live_on(1).await, cluster.live_on(0).await);
    let term = owner.lease(&here, 1, true, 0, LASTS).await.unwrap().term;
    for number in 1..=3 {
        let told = owner.append(&here, 1, term, &batch(number), LASTS).await.unwrap();
        assert_eq!(told, Appended::Done);
    }
    cluster.0[1].kill();
    // No other node has a replica, so that there told is not safe: the call is made again until it is.
    assert!(follower.told(&elsewhere, 0, Duration::ZERO).await.is_ok(), "another node's room can be read");
    until(async || follower.told(&here, 0, Duration::ZERO).await.is_ok_and(|told| told.len() == 3)).await;
    let left = follower.left(&here).await.unwrap();
    assert_eq!((left.epoch.as_str(), left.offset, left.lines.len()), ("e1", 3, 3));
    // The owner is the owner still, and goes on where it was. Its new node has no replica: nobody vouches for what it says
    // now, so it asks as one that waits for none.
    let owner = cluster.bus_from(2).await;
    until(async || {
        owner.append(&here, 1, term, &batch(4), LASTS).await.is_ok_and(|told| told == Appended::Done)
    })
    .await;
    let told = owner.told(&here, 3, Duration::ZERO).await.unwrap();
    assert_eq!(told, [(4, b"told 4".to_vec())]);
}
