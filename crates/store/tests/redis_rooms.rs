//! The bus in Redis does what the book of the rules does, whatever is asked of it and however often.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use haul_commerce::{Appended, Batch, Bus, bus::BusBook};
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
            match rng.random_range(0..7) {
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
                        chat: texts(&mut rng, 3),
                        changes: texts(&mut rng, 3),
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
async fn a_past_that_names_somebody_goes_and_the_room_goes_on() {
    let redis = TestRedis::any();
    let bus = bus(&redis).await;
    let (ann, bob) = ("ann".parse().unwrap(), "bob".parse().unwrap());
    let text = |text: &str| text.as_bytes().to_vec();
    // Each place where somebody may be named.
    for place in ["told", "lines", "chat", "changes", "asked"] {
        let live = unique_live();
        let term = bus.lease(&live, 1, true, 0, LASTS).await.unwrap().term;
        let says = |list: &str| {
            text(if list == place { r#"{"line":"{\"by\":\"ann\"}"}"# } else { r#"{"by":"anna"}"# })
        };
        let batch = Batch {
            number: 1,
            told: says("told"),
            epoch: "e".to_owned(),
            offset: 1,
            lines: vec![says("lines"); 1_500],
            chat: vec![says("chat")],
            changes: vec![says("changes")],
        };
        bus.append(&live, 1, term, &batch, LASTS).await.unwrap();
        let others = text(r#"{"by":"anna"}"#);
        for asked in [&others, &says("asked"), &others] {
            bus.ask(&live, asked).await.unwrap();
        }
        let kept = async || {
            let left = bus.left(&live).await.unwrap();
            assert_eq!((left.epoch.as_str(), left.offset), ("e", 1), "{place}: its history goes on");
            let told = bus.told(&live, 0, Duration::ZERO).await.unwrap().len();
            let asked = bus.asked(&live, "", Duration::ZERO).await.unwrap().0.len();
            (told, left.lines.len(), left.chat.len(), left.changes.len(), asked)
        };
        bus.forget(&live, &bob).await.unwrap();
        assert_eq!(kept().await, (1, 1_500, 1, 1, 3), "{place}: nobody said bob");
        bus.forget(&live, &ann).await.unwrap();
        let expected = if place == "asked" { (1, 1_500, 1, 1, 2) } else { (0, 0, 0, 0, 3) };
        assert_eq!(kept().await, expected, "{place}");
        let next =
            Batch { number: 2, told: text("next"), epoch: "e".to_owned(), offset: 2, ..Batch::default() };
        assert_eq!(bus.append(&live, 1, term, &next, LASTS).await.unwrap(), Appended::Done);
        assert_eq!(bus.told(&live, 1, Duration::ZERO).await.unwrap(), [(2, text("next"))]);
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
