//! The bus in Redis does what the book of the rules does, whatever is asked of it and however often.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use haul_commerce::{Appended, Batch, Bus, Changes, Kept, bus::BusBook};
use haul_model::UnixMillis;
use haul_store::{RedisBus, RedisOptions};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use support::{TestRedis, unique_live};

/// Longer than any of these tests.
const LASTS: Duration = Duration::from_secs(600);

/// A busy machine is no fault here.
fn patient() -> RedisOptions {
    RedisOptions { response_timeout: Duration::from_secs(20), ..RedisOptions::default() }
}

async fn bus(redis: &TestRedis) -> RedisBus {
    RedisBus::connect_with(&redis.url, patient()).await.unwrap()
}

fn texts(rng: &mut StdRng, most: usize) -> Vec<Vec<u8>> {
    let count = rng.random_range(0..=most);
    (0..count).map(|_| format!("text {}", rng.random::<u32>()).into_bytes()).collect()
}

fn changes(rng: &mut StdRng, most: usize) -> Changes {
    Changes {
        chat: texts(rng, most),
        state: texts(rng, most),
        votes: texts(rng, most),
        counts: texts(rng, most),
    }
}

#[tokio::test]
async fn redis_and_the_book_agree_on_whatever_is_asked() {
    let redis = TestRedis::any();
    let bus = bus(&redis).await;
    for seed in 0..10 {
        let live = unique_live();
        let mut rng = StdRng::seed_from_u64(seed);
        let mut book = BusBook::default();
        let (mut after, mut after_book) = (String::new(), String::new());
        let now = UnixMillis(1_700_000_000_000);
        for step in 0..300 {
            let node = rng.random_range(1..4);
            let context = format!("seed {seed}, step {step}");
            match rng.random_range(0..8) {
                0 => {
                    let (take, seen) = (rng.random(), rng.random_range(0..5));
                    let was = bus.lease(&live, node, take, seen, LASTS).await.unwrap();
                    assert_eq!(was, book.lease(node, take, seen, LASTS, now), "{context}");
                }
                1 | 2 => {
                    let known = book.lease(0, false, 0, LASTS, now);
                    let number = (known.batch + rng.random_range(0..4)).saturating_sub(1).max(1);
                    let batch = Batch {
                        number,
                        told: format!("told {number}").into_bytes(),
                        epoch: format!("epoch {}", known.term),
                        offset: rng.random_range(0..100),
                        // Now and then more than one call of Lua's can take.
                        lines: texts(&mut rng, if step == 150 { 2_500 } else { 3 }),
                        changes: changes(&mut rng, 3),
                        // Some have no place any more, or none yet.
                        rewritten: (0..rng.random_range(0..3))
                            .map(|_| (rng.random_range(0..110), format!("other {step}").into_bytes()))
                            .collect(),
                    };
                    let term = known.term.saturating_sub(u64::from(rng.random_range(0..4) == 0));
                    let was = bus.append(&live, node, term, &batch, LASTS).await.unwrap();
                    assert_eq!(was, book.append(node, term, &batch, LASTS, now), "{context}");
                }
                3 => {
                    let from = rng.random_range(0..20);
                    assert_eq!(
                        bus.told(&live, from, Duration::ZERO).await.unwrap(),
                        book.told(from),
                        "{context}"
                    );
                }
                4 => {
                    let asked = format!("asked {step}").into_bytes();
                    bus.ask(&live, &asked).await.unwrap();
                    book.ask(&asked);
                }
                5 => {
                    let (was, end) = bus.asked(&live, &after, Duration::ZERO).await.unwrap();
                    let (expected, end_book) = book.asked(&after_book);
                    assert_eq!(was, expected, "{context}");
                    (after, after_book) = (end, end_book);
                }
                6 if rng.random_range(0..4) == 0 => {
                    let known = book.lease(0, false, 0, LASTS, now);
                    let asked =
                        if rng.random() { (&after, &after_book) } else { (&String::new(), &String::new()) };
                    let kept = Kept {
                        // Now and then more than one call of Lua's can take.
                        changes: Changes {
                            votes: texts(&mut rng, if step > 200 { 2_500 } else { 3 }),
                            ..changes(&mut rng, 3)
                        },
                        told: known.batch.saturating_sub(rng.random_range(0..3)),
                        asked: asked.0.clone(),
                    };
                    let term = known.term.saturating_sub(u64::from(rng.random_range(0..4) == 0));
                    let was = bus.replace(&live, node, term, &kept, LASTS).await.unwrap();
                    let kept = Kept { asked: asked.1.clone(), ..kept };
                    assert_eq!(was, book.replace(node, term, &kept, LASTS, now), "{context}");
                }
                6 => assert_eq!(bus.knows(&live).await.unwrap(), book.knows(), "{context}"),
                _ if rng.random_range(0..4) == 0 => {
                    let term = book.lease(0, false, 0, LASTS, now).term;
                    bus.release(&live, term).await.unwrap();
                    book.release(term);
                }
                _ => assert_eq!(bus.left(&live).await.unwrap(), book.left(), "{context}"),
            }
        }
        assert_eq!(bus.left(&live).await.unwrap(), book.left(), "seed {seed}");
    }
}

#[tokio::test]
async fn who_waits_hears_at_once() {
    let redis = TestRedis::any();
    let (teller, hearer) = (bus(&redis).await, bus(&redis).await);
    let live = unique_live();
    assert!(teller.lease(&live, 1, true, 0, LASTS).await.unwrap().mine);
    let batch = Batch { number: 1, told: b"hello".to_vec(), ..Batch::default() };
    let patience = Duration::from_secs(30);
    let started = std::time::Instant::now();
    let (told, appended) = tokio::join!(hearer.told(&live, 0, patience), async {
        // The hearer has asked, and waits.
        tokio::task::yield_now().await;
        teller.append(&live, 1, 1, &batch, LASTS).await
    });
    assert_eq!(appended.unwrap(), Appended::Done);
    assert_eq!(told.unwrap(), [(1, b"hello".to_vec())]);
    let (asked, done) =
        tokio::join!(teller.asked(&live, "", patience), async { hearer.ask(&live, b"well?").await });
    done.unwrap();
    assert_eq!(asked.unwrap().0, [b"well?".to_vec()]);
    assert!(started.elapsed() < patience / 2, "woken, and not by the time");
    assert!(hearer.told(&live, 1, Duration::from_millis(20)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_runs_out_by_the_clock_of_redis() {
    let redis = TestRedis::any();
    let bus = bus(&redis).await;
    let live = unique_live();
    let short = Duration::from_millis(50);
    assert!(bus.lease(&live, 1, true, 0, short).await.unwrap().mine);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let taken = loop {
        let lease = bus.lease(&live, 2, true, 0, LASTS).await.unwrap();
        if lease.mine {
            break lease;
        }
        assert!(std::time::Instant::now() < until);
    };
    assert_eq!(taken.term, 2);
    let batch = Batch { number: 1, ..Batch::default() };
    assert_eq!(bus.append(&live, 1, 1, &batch, LASTS).await.unwrap(), Appended::Fenced);
}
