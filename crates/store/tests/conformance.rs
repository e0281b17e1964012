//! The same random operations on both gates: every answer and every count must be the same.

#![allow(clippy::unwrap_used)]

#[path = "../../commerce/tests/random/mod.rs"]
mod random;
mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::future::join_all;
use haul_commerce::{
    Applied, CouponTerms, Draw, Gate, GateError, Image, LiveRef, Mark, Op, Outcome, Rebuild, Recorded,
    Refusal, Sale, SaleTerms, book::HoldRecord, rebuild::rebuild,
};
use haul_model::{BuyerId, CouponCode, HoldId, Money, SaleId, UnixMillis};
use haul_store::{EmbeddedGate, MAX_OPS};
use random::{START, Shopping, Step};
use support::{TempDir, TestClock, TestRedis, unique, unique_live};

fn sale() -> SaleId {
    "sale_1".parse().unwrap()
}

/// One seed's steps on a pair of gates. Every 50 steps, the embedded one is closed and opened again.
async fn compare(redis: &TestRedis, seed: u64, steps: u32) {
    let (live, sale, dir, clock) = (unique_live(), sale(), TempDir::new(), TestClock::at(START));
    let clock_key = unique("haul-test-clock");
    let mut connection = redis.connection().await;
    let set_clock = async |now: UnixMillis, connection: &mut redis::aio::MultiplexedConnection| {
        clock.set(now);
        let _: () = redis::cmd("SET").arg(&clock_key).arg(now.0).query_async(connection).await.unwrap();
    };
    set_clock(START, &mut connection).await;
    let there = redis.gate_with_clock(&clock_key).await;
    let mut here = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    let mut shopping = Shopping::new(seed);
    // What the ledger would have: every hold as it was last told.
    let coupons = random::coupons();
    here.put_coupons(&live, &coupons).await.unwrap();
    there.put_coupons(&live, &coupons).await.unwrap();
    let (mut seen, mut told, mut terms_put) = (Mark::default(), HashMap::new(), None);
    for number in 0..steps {
        if number % 90 == 89
            && let Some(terms) = &terms_put
        {
            // Something was seen that neither gate has: both are rebuilt.
            let lost = Mark { sequence: seen.sequence + 3, ..seen };
            let trace = format!("seed {seed}, rebuilt before step {number}");
            let ask = here.apply(&live, &sale, &[], lost).await;
            assert!(matches!(ask, Err(GateError::Stale { .. })), "{trace}: {ask:?}");
            assert_eq!(there.apply(&live, &sale, &[], lost).await, ask, "{trace}");
            let begun = here.begin_rebuild(&live, &sale, lost).await;
            let Ok(Rebuild::Begun { epoch }) = begun else { panic!("{trace}: {begun:?}") };
            assert_eq!(there.begin_rebuild(&live, &sale, lost).await, begun, "{trace}");
            assert_eq!(there.begin_rebuild(&live, &sale, lost).await, Ok(Rebuild::Busy), "{trace}");
            let image = image(epoch, terms, &told, clock.read()());
            let rebuilt = here.rebuild(&live, &sale, &image).await;
            assert_eq!(there.rebuild(&live, &sale, &image).await, rebuilt, "{trace}");
            let rebuilt = rebuilt.unwrap();
            assert!(rebuilt.mark > lost, "{trace}");
            seen = rebuilt.mark;
            told.extend(image.holds.into_iter().map(|record| (record.hold.clone(), record)));
        }
        let step = shopping.next_step();
        let trace = format!("seed {seed}, step {number}: {step:?}");
        if number % 50 == 49 {
            drop(here);
            here = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
            assert_eq!(here.recovery().torn_bytes, 0, "{trace}");
            // A journal has what is used of coupons; their terms are told again.
            here.put_coupons(&live, &coupons).await.unwrap();
        }
        match step {
            Step::Clock(now) => set_clock(now, &mut connection).await,
            Step::Put(terms) => {
                let expected = here.put_sale(&live, &sale, &terms, seen).await;
                assert_eq!(there.put_sale(&live, &sale, &terms, seen).await, expected, "{trace}");
                seen = expected.unwrap_or_else(|error| panic!("{trace}: {error}")).mark;
                let known = terms_put.take();
                terms_put =
                    Some(known.map_or_else(|| terms.clone(), |known: SaleTerms| known.changed_to(&terms)));
            }
            Step::Apply(ops) => {
                let expected = here.apply(&live, &sale, &ops, seen).await;
                assert_eq!(there.apply(&live, &sale, &ops, seen).await, expected, "{trace}");
                let applied = expected.unwrap_or_else(|error| panic!("{trace}: {error}"));
                seen = applied.mark;
                told.extend(applied.holds.into_iter().map(|record| (record.hold.clone(), record)));
            }
            Step::Standing(buyer) => {
                let expected = here.standing(&live, &sale, &buyer, seen).await;
                assert!(expected.is_ok(), "{trace}: {expected:?}");
                assert_eq!(there.standing(&live, &sale, &buyer, seen).await, expected, "{trace}");
            }
        }
    }
    let keys = ["", "/holds", "/buyers", "/deadlines", "/standing", "/over", "/waiting", "/coupons"]
        .map(|below| format!("haul:{{{}/{}}}/{sale}{below}", live.merchant, live.live));
    let live_coupons = format!("haul:{{{}/{}}}//coupons", live.merchant, live.live);
    let _: () = redis::cmd("DEL")
        .arg(&keys)
        .arg(live_coupons)
        .arg(&clock_key)
        .query_async(&mut connection)
        .await
        .unwrap();
}

/// What a sale without orders is rebuilt from.
fn image(epoch: u64, terms: &SaleTerms, told: &HashMap<HoldId, HoldRecord>, now: UnixMillis) -> Image {
    let recorded = Recorded {
        mark: Mark::default(),
        clock: START,
        sale: Sale {
            id: sale(),
            merchant: "main".parse().unwrap(),
            live: "demo".parse().unwrap(),
            product: "tea".parse().unwrap(),
            variant: None,
            unit_price: Money { amount_minor: 1, currency: "EUR".parse().unwrap() },
            more: Vec::new(),
            terms: terms.clone(),
        },
        sold: Vec::new(),
        holds: told.values().cloned().collect(),
        orders: Vec::new(),
    };
    rebuild(recorded, epoch, now).image
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_gates_answer_everything_alike() {
    let redis = TestRedis::any();
    for seeds in (0..128).collect::<Vec<_>>().chunks(16) {
        join_all(seeds.iter().map(|seed| compare(&redis, *seed, 250))).await;
    }
}

/// Both gates, opened anew, with a name for messages.
async fn both() -> (Vec<(&'static str, Arc<dyn Gate>)>, TestRedis, TempDir) {
    let (redis, dir) = (TestRedis::any(), TempDir::new());
    let embedded = EmbeddedGate::open(dir.path(), || std::time::SystemTime::now().into()).unwrap();
    let gates: Vec<(_, Arc<dyn Gate>)> =
        vec![("embedded", Arc::new(embedded)), ("redis", Arc::new(redis.gate().await))];
    (gates, redis, dir)
}

/// A sale that is open for a day.
async fn open_sale(gate: &dyn Gate, live: &LiveRef, stock: u32, per_buyer: u32) -> Applied {
    let now = gate.now().await.unwrap();
    let terms = SaleTerms {
        stock,
        per_buyer,
        hold_ms: 3_600_000,
        pay_ms: 3_600_000,
        opens_at: now,
        closes_at: UnixMillis(now.0 + 86_400_000),
        ..SaleTerms::default()
    };
    gate.put_sale(live, &sale(), &terms, Mark::default()).await.unwrap()
}

fn hold(buyer: &str, key: u32, quantity: u32) -> Op {
    Op::hold(hold_id(buyer, key), buyer.parse().unwrap(), quantity)
}

fn hold_id(buyer: &str, key: u32) -> HoldId {
    format!("hold_{buyer}_{key}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_buyers_for_a_hundred_units_make_a_hundred_holds() {
    let (gates, _redis, _dir) = both().await;
    for (name, gate) in gates {
        let live = unique_live();
        open_sale(&*gate, &live, 100, 1).await;
        let ops: Vec<Op> = (0..10_000).map(|n| hold(&format!("buyer-{n}"), 0, 1)).collect();
        // As the live's owner asks: some alone, most gathered.
        let mut tasks = Vec::new();
        let (mut rest, mut size) = (ops.as_slice(), 1);
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(size.min(rest.len()));
            let (gate, live, batch) = (gate.clone(), live.clone(), batch.to_vec());
            tasks.push(tokio::spawn(async move {
                gate.apply(&live, &sale(), &batch, Mark::default()).await.unwrap().outcomes
            }));
            (rest, size) = (others, size % 64 + 1);
        }
        let outcomes: Vec<Outcome> =
            join_all(tasks).await.into_iter().flat_map(|outcomes| outcomes.unwrap()).collect();
        let winners: Vec<_> = ops
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Held { .. }))
            .collect();
        assert_eq!((outcomes.len(), winners.len()), (10_000, 100), "{name}");
        let refused = Outcome::Refused(Refusal::NotEnough { line: 0, available: 0 });
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == refused).count(), 9_900, "{name}");
        // Everybody asks again: the winners are told of the same holds, and nobody else wins.
        for batch in ops.chunks(64).zip(outcomes.chunks(64)) {
            assert_eq!(
                gate.apply(&live, &sale(), batch.0, Mark::default()).await.unwrap().outcomes,
                batch.1,
                "{name}"
            );
        }
        let counts = gate.apply(&live, &sale(), &[], Mark::default()).await.unwrap().counts;
        assert_eq!((counts.available, counts.held, counts.sold), (0, 100, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_buyer_with_twenty_sessions_gets_no_more_than_the_limit() {
    let (gates, _redis, _dir) = both().await;
    for (name, gate) in gates {
        let live = unique_live();
        open_sale(&*gate, &live, 100, 2).await;
        let sessions = (0..20).map(|key| {
            let (gate, live) = (gate.clone(), live.clone());
            tokio::spawn(async move {
                gate.apply(&live, &sale(), &[hold("ann", key, 1)], Mark::default()).await.unwrap()
            })
        });
        let held: u32 = join_all(sessions.collect::<Vec<_>>())
            .await
            .into_iter()
            .filter(|applied| matches!(applied.as_ref().unwrap().outcomes[0], Outcome::Held { .. }))
            .count() as u32;
        assert_eq!(held, 2, "{name}");
        let buyer: BuyerId = "ann".parse().unwrap();
        assert_eq!(gate.standing(&live, &sale(), &buyer, Mark::default()).await.unwrap().len(), 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_confirmations_at_once_sell_one_hold_once() {
    let (gates, _redis, _dir) = both().await;
    for (name, gate) in gates {
        let live = unique_live();
        open_sale(&*gate, &live, 5, 2).await;
        gate.apply(&live, &sale(), &[hold("ann", 0, 2)], Mark::default()).await.unwrap();
        let (id, order) = (hold_id("ann", 0), "order_1".parse().unwrap());
        let steps = [
            Op::Capture { hold: id.clone(), order },
            Op::Settle { hold: id, order: "order_1".parse().unwrap() },
        ];
        let confirmations = (0..8).map(|_| {
            let (gate, live, steps) = (gate.clone(), live.clone(), steps.clone());
            tokio::spawn(async move { gate.apply(&live, &sale(), &steps, Mark::default()).await.unwrap() })
        });
        for applied in join_all(confirmations.collect::<Vec<_>>()).await {
            let applied = applied.unwrap();
            assert_eq!(applied.outcomes[1], Outcome::Sold, "{name}");
            assert_eq!((applied.counts.available, applied.counts.sold), (3, 2), "{name}");
        }
    }
}

#[tokio::test]
async fn a_sale_opens_and_closes_to_the_millisecond_by_the_gates_clock() {
    let redis = TestRedis::any();
    let (dir, clock, key) = (TempDir::new(), TestClock::at(START), unique("haul-test-clock"));
    let here = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    let there = redis.gate_with_clock(&key).await;
    let live = unique_live();
    let (opens_at, closes_at) = (UnixMillis(START.0 + 60_000), UnixMillis(START.0 + 120_000));
    let terms = SaleTerms {
        stock: 9,
        per_buyer: 9,
        hold_ms: 1_000,
        pay_ms: 1_000,
        opens_at,
        closes_at,
        ..SaleTerms::default()
    };
    let set = async |at: u64| {
        clock.set(UnixMillis(at));
        redis.ask(&["SET", &key, &at.to_string()]).await.unwrap();
    };
    set(START.0).await;
    let gates: [(&str, &dyn Gate); 2] = [("embedded", &here), ("redis", &there)];
    for (_, gate) in gates {
        gate.put_sale(&live, &sale(), &terms, Mark::default()).await.unwrap();
    }
    // Buyers may be minutes early or late by their own clocks: nobody asks them.
    for (number, at, open) in [
        (0, opens_at.0 - 1, false),
        (1, opens_at.0, true),
        (2, opens_at.0 + 1, true),
        (3, closes_at.0 - 1, true),
        (4, closes_at.0, false),
    ] {
        set(at).await;
        for (name, gate) in gates {
            let outcomes =
                gate.apply(&live, &sale(), &[hold("ann", number, 1)], Mark::default()).await.unwrap();
            let expected = match (open, at < opens_at.0) {
                (true, _) => Outcome::Held { deadline: UnixMillis(at + 1_000) },
                (false, true) => Outcome::Refused(Refusal::NotOpen { opens_at }),
                (false, false) => Outcome::Refused(Refusal::Closed),
            };
            assert_eq!(outcomes.outcomes, [expected], "{name} at {at}");
        }
    }
    // The hold of one millisecond before the end lasts as long as any other, and no longer.
    for (at, held) in [(closes_at.0 + 998, 1), (closes_at.0 + 999, 0)] {
        set(at).await;
        for (name, gate) in gates {
            let counts = gate.apply(&live, &sale(), &[], Mark::default()).await.unwrap().counts;
            assert_eq!(counts.held, held, "{name} at {at}");
        }
    }
}

#[tokio::test]
async fn thousands_of_due_holds_go_back_in_bounded_sweeps() {
    let redis = TestRedis::any();
    let (dir, clock, key) = (TempDir::new(), TestClock::at(START), unique("haul-test-clock"));
    let mut connection = redis.connection().await;
    let here = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    let there = redis.gate_with_clock(&key).await;
    let (live, sale) = (unique_live(), sale());
    let terms = SaleTerms {
        stock: 5_000,
        per_buyer: 5_000,
        hold_ms: 1_000,
        pay_ms: 1_000,
        opens_at: START,
        closes_at: UnixMillis(START.0 + 60_000),
        ..SaleTerms::default()
    };
    let _: () = redis::cmd("SET").arg(&key).arg(START.0).query_async(&mut connection).await.unwrap();
    let ops: Vec<Op> = (0..3_000).map(|n| hold(&format!("buyer-{}", n % 700), n, 1)).collect();
    for gate in [&here as &dyn Gate, &there] {
        gate.put_sale(&live, &sale, &terms, Mark::default()).await.unwrap();
        for batch in ops.chunks(MAX_OPS) {
            gate.apply(&live, &sale, batch, Mark::default()).await.unwrap();
        }
    }
    let later = UnixMillis(START.0 + 1_000);
    clock.set(later);
    let _: () = redis::cmd("SET").arg(&key).arg(later.0).query_async(&mut connection).await.unwrap();
    let mut released = HashSet::new();
    for sweep in 1.. {
        let swept = here.apply(&live, &sale, &[], Mark::default()).await.unwrap();
        assert_eq!(
            there.apply(&live, &sale, &[], Mark::default()).await.as_ref(),
            Ok(&swept),
            "sweep {sweep}"
        );
        assert!(swept.released.into_iter().all(|one| released.insert(one.hold)), "released twice");
        if swept.next_deadline.is_none() {
            assert_eq!((sweep, released.len(), swept.counts.available), (3, 3_000, 5_000));
            break;
        }
    }
}

#[tokio::test]
async fn a_call_that_is_too_large_and_terms_that_are_not_validated_are_refused_whole() {
    let (gates, _redis, _dir) = both().await;
    for (name, gate) in gates {
        let live = unique_live();
        let put = open_sale(&*gate, &live, 5, 5).await;
        let ops: Vec<Op> = (0..=MAX_OPS as u32).map(|key| hold("ann", key, 1)).collect();
        let answer = gate.apply(&live, &sale(), &ops, Mark::default()).await;
        assert!(matches!(answer, Err(GateError::Corrupt(_))), "{name}: {answer:?}");
        let bad = SaleTerms {
            stock: u32::MAX,
            per_buyer: 1,
            hold_ms: 1_000,
            pay_ms: 1_000,
            opens_at: START,
            closes_at: START,
            ..SaleTerms::default()
        };
        let answer = gate.put_sale(&live, &"sale_2".parse().unwrap(), &bad, Mark::default()).await;
        assert!(matches!(answer, Err(GateError::Corrupt(_))), "{name}: {answer:?}");
        let now = gate.apply(&live, &sale(), &[], Mark::default()).await.unwrap();
        assert_eq!((now.counts, now.mark), (put.counts, put.mark), "{name}");
    }
}

#[tokio::test]
async fn sales_of_other_lives_and_merchants_are_other_sales() {
    let (gates, _redis, _dir) = both().await;
    for (name, gate) in gates {
        // Ids may have colons: these two would be one if a colon stood between merchant and live.
        let tail = unique("x");
        let live = |merchant: &str, live: String| LiveRef {
            merchant: merchant.parse().unwrap(),
            live: live.parse().unwrap(),
        };
        let (one, two) = (live("a:b", tail.clone()), live("a", format!("b:{tail}")));
        open_sale(&*gate, &one, 5, 5).await;
        let answer = gate.apply(&two, &sale(), &[hold("ann", 0, 1)], Mark::default()).await.unwrap();
        assert_eq!(answer.outcomes, [Outcome::Refused(Refusal::UnknownSale)], "{name}");
        let answer = gate.apply(&one, &sale(), &[hold("ann", 0, 1)], Mark::default()).await.unwrap();
        assert!(matches!(answer.outcomes[0], Outcome::Held { .. }), "{name}");
    }
}

#[tokio::test]
async fn what_a_sale_did_long_ago_takes_no_room_at_either_gate() {
    let redis = TestRedis::any();
    let (dir, clock, key) = (TempDir::new(), TestClock::at(START), unique("haul-test-clock"));
    let mut connection = redis.connection().await;
    let here = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    let there = redis.gate_with_clock(&key).await;
    let (live, sale) = (unique_live(), sale());
    let terms = SaleTerms {
        stock: 5_000,
        per_buyer: 5_000,
        hold_ms: 3_600_000,
        pay_ms: 1_000,
        opens_at: START,
        closes_at: UnixMillis(START.0 + 30 * 86_400_000),
        ..SaleTerms::default()
    };
    // 200,000 holds, each given up at once, 500 of them every ten minutes.
    let cycles = 400;
    let holds_key = format!("haul:{{{}/{}}}/{sale}/holds", live.merchant, live.live);
    for cycle in 0..cycles {
        let now = UnixMillis(START.0 + cycle * 600_000);
        clock.set(now);
        let _: () = redis::cmd("SET").arg(&key).arg(now.0).query_async(&mut connection).await.unwrap();
        let ops: Vec<Op> = (0..500)
            .flat_map(|n| {
                let key = cycle as u32 * 500 + n;
                let (id, buyer) = (hold_id("ann", key), "ann".parse().unwrap());
                [hold("ann", key, 1), Op::Cancel { hold: id, buyer }]
            })
            .collect();
        for gate in [&here as &dyn Gate, &there] {
            if cycle == 0 {
                gate.put_sale(&live, &sale, &terms, Mark::default()).await.unwrap();
            }
            let applied = gate.apply(&live, &sale, &ops, Mark::default()).await.unwrap();
            assert_eq!(applied.counts.available, 5_000);
        }
        let remembered: usize =
            redis::cmd("HLEN").arg(&holds_key).query_async(&mut connection).await.unwrap();
        assert!(remembered <= 3_500, "an hour of it, not {remembered}");
    }
    let written = std::fs::metadata(dir.path().join("journal")).unwrap().len();
    drop(here);
    drop(EmbeddedGate::open(dir.path(), clock.read()).unwrap());
    let rewritten = std::fs::metadata(dir.path().join("journal")).unwrap().len();
    assert!(rewritten < written / 20, "{rewritten} of {written} bytes");
    let keys = ["", "/holds", "/buyers", "/deadlines", "/standing", "/over", "/waiting"]
        .map(|below| format!("haul:{{{}/{}}}/{sale}{below}", live.merchant, live.live));
    let _: () = redis::cmd("DEL").arg(&keys).arg(&key).query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn the_keys_of_a_sale_go_when_it_is_long_over() {
    let redis = TestRedis::any();
    let (gate, live) = (redis.gate().await, unique_live());
    open_sale(&gate, &live, 5, 5).await;
    let cancel = Op::Cancel { hold: hold_id("ann", 0), buyer: "ann".parse().unwrap() };
    gate.apply(&live, &sale(), &[hold("ann", 0, 1), cancel, hold("bob", 0, 1)], Mark::default())
        .await
        .unwrap();
    let mut connection = redis.connection().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("haul:{{{}/{}}}*", live.merchant, live.live))
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        let ttl_ms: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        let days = ttl_ms / 86_400_000;
        assert!((14..=15).contains(&days), "{key}: {ttl_ms} ms");
    }
}

/// A coupon of the live, for so many uses.
fn coupon(code: &str, limit: u32, now: UnixMillis) -> (CouponCode, CouponTerms) {
    let terms = CouponTerms {
        limit,
        per_buyer: 1,
        valid_from: now,
        valid_until: UnixMillis(now.0 + 86_400_000),
        closed: false,
    };
    (code.parse().unwrap(), terms)
}

fn hold_with(buyer: &str, coupon: &str) -> Op {
    Op::Hold {
        hold: hold_id(buyer, 0),
        buyer: buyer.parse().unwrap(),
        units: 1.into(),
        tier: None,
        coupon: Some(coupon.parse().unwrap()),
        ticket: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sales_of_a_live_share_the_uses_of_a_coupon_also_when_one_is_rebuilt() {
    let (gates, _redis, _dir) = both().await;
    for (name, gate) in gates {
        let live = unique_live();
        let put = open_sale(&*gate, &live, 10, 2).await;
        let other: SaleId = "sale_2".parse().unwrap();
        let now = gate.now().await.unwrap();
        let terms = SaleTerms {
            stock: 10,
            per_buyer: 2,
            hold_ms: 3_600_000,
            pay_ms: 3_600_000,
            opens_at: now,
            closes_at: UnixMillis(now.0 + 86_400_000),
            ..SaleTerms::default()
        };
        gate.put_sale(&live, &other, &terms, Mark::default()).await.unwrap();
        gate.put_coupons(&live, &[coupon("TEN", 2, now)]).await.unwrap();
        let ask = async |sale: &SaleId, op: Op| {
            gate.apply(&live, sale, &[op], Mark::default()).await.unwrap().outcomes.remove(0)
        };
        let held = |outcome: Outcome| matches!(outcome, Outcome::Held { .. });
        assert!(held(ask(&sale(), hold_with("ann", "TEN")).await), "{name}");
        let again = ask(&other, hold_with("ann", "TEN")).await;
        assert_eq!(again, Outcome::Refused(Refusal::CouponLimit { per_buyer: 1 }), "{name}");
        assert!(held(ask(&other, hold_with("bob", "TEN")).await), "{name}");
        let used_up = Outcome::Refused(Refusal::CouponUsedUp);
        assert_eq!(ask(&sale(), hold_with("cid", "TEN")).await, used_up, "{name}");

        // The first sale is rebuilt without its hold: its use is free, that of the other sale is not.
        let applied = gate.apply(&live, &sale(), &[], Mark::default()).await.unwrap();
        let lost = Mark { sequence: applied.mark.sequence + 5, ..applied.mark };
        let Ok(Rebuild::Begun { epoch }) = gate.begin_rebuild(&live, &sale(), lost).await else {
            panic!("{name}")
        };
        let image = Image { epoch, clock: put.now, terms, holds: Vec::new() };
        gate.rebuild(&live, &sale(), &image).await.unwrap();
        assert!(held(ask(&sale(), hold_with("cid", "TEN")).await), "{name}");
        assert_eq!(ask(&other, hold_with("dan", "TEN")).await, used_up, "{name}");

        // More uses, then none for anybody new, whichever word comes first.
        let (code, more) = coupon("TEN", 3, now);
        let closed = CouponTerms { closed: true, limit: 2, ..more.clone() };
        gate.put_coupons(&live, &[(code.clone(), more.clone())]).await.unwrap();
        assert!(held(ask(&other, hold_with("dan", "TEN")).await), "{name}");
        gate.put_coupons(&live, &[(code.clone(), closed)]).await.unwrap();
        gate.put_coupons(&live, &[(code, more)]).await.unwrap();
        let over = ask(&other, hold_with("eve", "TEN")).await;
        assert_eq!(over, Outcome::Refused(Refusal::CouponOver), "{name}");
        let standing = gate.standing(&live, &other, &"bob".parse().unwrap(), Mark::default()).await.unwrap();
        assert_eq!(standing[0].coupon, Some("TEN".parse().unwrap()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_buyers_at_once_use_a_coupon_as_often_as_it_may_be_used() {
    let (gates, _redis, _dir) = both().await;
    for (name, gate) in gates {
        let live = unique_live();
        open_sale(&*gate, &live, 10_000, 1).await;
        let now = gate.now().await.unwrap();
        gate.put_coupons(&live, &[coupon("FEW", 100, now)]).await.unwrap();
        let ops: Vec<Op> = (0..1_000).map(|n| hold_with(&format!("buyer-{n}"), "FEW")).collect();
        let tasks = ops.chunks(17).map(|batch| {
            let (gate, live, batch) = (gate.clone(), live.clone(), batch.to_vec());
            tokio::spawn(async move {
                gate.apply(&live, &sale(), &batch, Mark::default()).await.unwrap().outcomes
            })
        });
        let outcomes: Vec<Outcome> = join_all(tasks.collect::<Vec<_>>())
            .await
            .into_iter()
            .flat_map(|outcomes| outcomes.unwrap())
            .collect();
        let held = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Held { .. })).count();
        let refused =
            outcomes.iter().filter(|outcome| **outcome == Outcome::Refused(Refusal::CouponUsedUp)).count();
        assert_eq!((held, refused), (100, 900), "{name}");
    }
}

#[tokio::test]
async fn both_gates_draw_the_winners_that_anybody_can_work_out() {
    let redis = TestRedis::any();
    let (dir, clock, key) = (TempDir::new(), TestClock::at(START), unique("haul-test-clock"));
    let mut connection = redis.connection().await;
    let set = async |now: UnixMillis, connection: &mut redis::aio::MultiplexedConnection| {
        clock.set(now);
        let _: () = redis::cmd("SET").arg(&key).arg(now.0).query_async(connection).await.unwrap();
    };
    set(START, &mut connection).await;
    let here = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    let there = redis.gate_with_clock(&key).await;
    let (live, sale) = (unique_live(), sale());
    let draw = Draw::new(5_000, [3, 4]);
    let terms = SaleTerms {
        stock: 20,
        per_buyer: 1,
        hold_ms: 10_000,
        pay_ms: 10_000,
        opens_at: START,
        closes_at: UnixMillis(START.0 + 60_000),
        draw: Some(draw.clone()),
        ..SaleTerms::default()
    };
    let entries: Vec<Op> = (0..2_500)
        .map(|n| {
            let buyer = format!("buyer-{n}");
            let hold = hold_id(&buyer, 0);
            let ticket = Some(draw.ticket(&hold));
            let buyer = buyer.parse().unwrap();
            Op::Hold { hold, buyer, units: 1.into(), tier: None, coupon: None, ticket }
        })
        .collect();
    let mut tickets: Vec<(u64, HoldId)> =
        (0..2_500).map(|n| hold_id(&format!("buyer-{n}"), 0)).map(|id| (draw.ticket(&id), id)).collect();
    tickets.sort();
    let expected: Vec<HoldId> = tickets.into_iter().take(20).map(|(_, id)| id).collect();
    for gate in [&here as &dyn Gate, &there] {
        gate.put_sale(&live, &sale, &terms, Mark::default()).await.unwrap();
        for batch in entries.chunks(500) {
            let applied = gate.apply(&live, &sale, batch, Mark::default()).await.unwrap();
            assert!(applied.outcomes.iter().all(|outcome| *outcome == Outcome::Entered));
        }
    }
    set(UnixMillis(START.0 + 5_000), &mut connection).await;
    let (mut won, mut lost) = (Vec::new(), 0);
    loop {
        let drawn = here.apply(&live, &sale, &[], Mark::default()).await.unwrap();
        assert_eq!(there.apply(&live, &sale, &[], Mark::default()).await.as_ref(), Ok(&drawn));
        won.extend(drawn.offered.into_iter().map(|offered| offered.hold));
        lost += drawn.released.len();
        if drawn.next_deadline != Some(drawn.now) {
            break;
        }
    }
    assert_eq!((won, lost), (expected, 2_480));
}
