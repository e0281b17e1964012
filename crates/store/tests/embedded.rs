//! The embedded gate against crashes: whatever was acknowledged is there again, and nothing twice.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use futures_util::future::join_all;
use haul_commerce::{
    Applied, Gate, GateError, Image, LiveRef, Mark, Op, Outcome, Rebuild, SaleTerms, book::TAKEOVER_MS,
};
use haul_model::{HoldId, SaleId, UnixMillis};
use haul_store::{EmbeddedGate, OpenError, Recovery};
use support::{TempDir, TestClock};

const START: UnixMillis = UnixMillis(1_700_000_000_000);

fn live() -> LiveRef {
    LiveRef { merchant: "main".parse().unwrap(), live: "demo".parse().unwrap() }
}

fn sale() -> SaleId {
    "sale_1".parse().unwrap()
}

fn terms(stock: u32) -> SaleTerms {
    SaleTerms {
        stock,
        per_buyer: stock,
        hold_ms: 60_000,
        pay_ms: 60_000,
        opens_at: START,
        closes_at: UnixMillis(START.0 + 3_600_000),
        ..SaleTerms::default()
    }
}

fn hold_id(number: u64) -> HoldId {
    format!("hold_{number}").parse().unwrap()
}

fn hold(number: u64) -> Op {
    Op::hold(hold_id(number), "ann".parse().unwrap(), 1)
}

async fn apply(gate: &EmbeddedGate, ops: &[Op]) -> Result<Applied, GateError> {
    gate.apply(&live(), &sale(), ops, Mark::default()).await
}

fn open(dir: &Path) -> Result<EmbeddedGate, OpenError> {
    EmbeddedGate::open(dir, || START)
}

fn journal(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("journal")).unwrap()
}

/// Another directory with this journal.
fn with_journal(bytes: &[u8]) -> TempDir {
    let dir = TempDir::new();
    fs::write(dir.path().join("journal"), bytes).unwrap();
    dir
}

/// A journal of several groups, and after each group its length and what the gate had answered.
async fn several_groups() -> (Vec<u8>, Vec<(usize, Applied)>) {
    let dir = TempDir::new();
    let gate = open(dir.path()).unwrap();
    let mut acknowledged = vec![];
    let put = gate.put_sale(&live(), &sale(), &terms(10), Mark::default()).await.unwrap();
    acknowledged.push((journal(dir.path()).len(), put));
    let order = || "order_1".parse().unwrap();
    for ops in [
        vec![hold(1), hold(2)],
        vec![Op::StartPayment {
            hold: hold_id(1),
            buyer: "ann".parse().unwrap(),
            order: order(),
            coupon: None,
        }],
        vec![hold(3)],
        vec![
            Op::Capture { hold: hold_id(1), order: order() },
            Op::Cancel { hold: hold_id(2), buyer: "ann".parse().unwrap() },
        ],
        vec![Op::Settle { hold: hold_id(1), order: order() }],
    ] {
        apply(&gate, &ops).await.unwrap();
        let state = apply(&gate, &[]).await.unwrap();
        acknowledged.push((journal(dir.path()).len(), state));
    }
    drop(gate);
    (journal(dir.path()), acknowledged)
}

#[tokio::test]
async fn a_journal_cut_at_any_byte_has_all_that_was_acknowledged_before() {
    let (bytes, acknowledged) = several_groups().await;
    // Everything behind the third group; cuts before are like these.
    for cut in acknowledged[2].0..=bytes.len() {
        let (length, expected) = acknowledged.iter().rfind(|(length, _)| *length <= cut).unwrap();
        let dir = with_journal(&bytes[..cut]);
        let gate = open(dir.path()).unwrap();
        assert_eq!(gate.recovery(), Recovery { sales: 1, torn_bytes: (cut - length) as u64 }, "cut at {cut}");
        let state = apply(&gate, &[]).await.unwrap();
        assert_eq!((state.counts, state.mark), (expected.counts, expected.mark), "cut at {cut}");
    }
}

#[tokio::test]
async fn a_crash_before_the_answer_costs_nobody_a_unit_and_gives_nobody_two() {
    let (bytes, acknowledged) = several_groups().await;
    // The group with hold 3 is whole on disk, but its answer was never sent: the buyer asks again.
    let dir = with_journal(&bytes[..acknowledged[3].0]);
    let gate = open(dir.path()).unwrap();
    let again = apply(&gate, &[hold(3)]).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Held { deadline: UnixMillis(START.0 + 60_000) }]);
    assert_eq!(again.counts, acknowledged[3].1.counts);
    // The group is torn: the buyer asks again, and gets it now.
    let dir = with_journal(&bytes[..acknowledged[3].0 - 1]);
    let gate = open(dir.path()).unwrap();
    let again = apply(&gate, &[hold(3)]).await.unwrap();
    assert!(matches!(again.outcomes[0], Outcome::Held { .. }));
    assert_eq!(again.counts, acknowledged[3].1.counts);
}

#[tokio::test]
async fn damage_before_a_whole_group_is_an_error_and_changes_nothing() {
    let (bytes, acknowledged) = several_groups().await;
    // Each byte of the last group but one, and of the journal's head.
    let (from, to) = (acknowledged[3].0, acknowledged[4].0);
    for at in (from..to).chain(0..15) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let dir = with_journal(&damaged);
        match open(dir.path()) {
            Err(OpenError::Damaged { offset, .. }) => {
                assert_eq!(offset, if at < 15 { 0 } else { from as u64 }, "damaged at {at}");
            }
            other => panic!("damaged at {at}: {other:?}"),
        }
        assert_eq!(journal(dir.path()), damaged);
    }
}

#[tokio::test]
async fn opening_rewrites_the_journal_and_keeps_every_hold() {
    let dir = TempDir::new();
    let gate = open(dir.path()).unwrap();
    gate.put_sale(&live(), &sale(), &terms(2_500), Mark::default()).await.unwrap();
    for numbers in (0..2_500).collect::<Vec<u64>>().chunks(500) {
        apply(&gate, &numbers.iter().map(|number| hold(*number)).collect::<Vec<_>>()).await.unwrap();
    }
    let order = || "order_7".parse().unwrap();
    for _ in 0..100 {
        let start = Op::StartPayment {
            hold: hold_id(7),
            buyer: "ann".parse().unwrap(),
            order: order(),
            coupon: None,
        };
        apply(&gate, &[start]).await.unwrap();
        apply(&gate, &[Op::PaymentFailed { hold: hold_id(7), order: order() }]).await.unwrap();
    }
    let before = apply(&gate, &[hold(7)]).await.unwrap();
    drop(gate);
    let grown = journal(dir.path()).len();
    let gate = open(dir.path()).unwrap();
    assert!(journal(dir.path()).len() < grown);
    assert_eq!(apply(&gate, &[hold(7)]).await.unwrap(), before);
    let all: Vec<Op> = (0..1_000).map(hold).collect();
    let again = apply(&gate, &all).await.unwrap();
    assert!(again.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Held { .. })));
    assert_eq!(again.counts, before.counts);
}

#[tokio::test]
async fn a_half_written_snapshot_is_ignored() {
    let (bytes, acknowledged) = several_groups().await;
    let dir = with_journal(&bytes);
    fs::write(dir.path().join("journal.new"), b"haul jour").unwrap();
    let gate = open(dir.path()).unwrap();
    let state = apply(&gate, &[]).await.unwrap();
    assert_eq!(state.counts, acknowledged.last().unwrap().1.counts);
    assert!(!dir.path().join("journal.new").exists());
}

#[tokio::test]
async fn the_clock_does_not_go_back_over_a_restart() {
    let (dir, clock) = (TempDir::new(), TestClock::at(START));
    let gate = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    gate.put_sale(&live(), &sale(), &terms(1), Mark::default()).await.unwrap();
    let later = UnixMillis(START.0 + 30_000);
    clock.set(later);
    apply(&gate, &[hold(1)]).await.unwrap();
    drop(gate);
    clock.set(START);
    let gate = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    assert_eq!(gate.now().await.unwrap(), later);
    assert_eq!(apply(&gate, &[]).await.unwrap().now, later);
}

#[tokio::test]
async fn a_directory_has_one_gate() {
    let dir = TempDir::new();
    let gate = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error:?}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(gate);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn what_is_not_a_journal_is_not_overwritten() {
    let dir = with_journal(b"somebody's letters");
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { offset: 0, .. }), "{error:?}");
    assert_eq!(journal(dir.path()), b"somebody's letters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_share_their_syncs() {
    let dir = TempDir::new();
    let gate = Arc::new(open(dir.path()).unwrap());
    gate.put_sale(&live(), &sale(), &terms(4_000), Mark::default()).await.unwrap();
    let calls = (0..4_000).map(|number| {
        let gate = gate.clone();
        tokio::spawn(async move { apply(&gate, &[hold(number)]).await.unwrap() })
    });
    join_all(calls.collect::<Vec<_>>()).await;
    assert_eq!(apply(&gate, &[]).await.unwrap().counts.held, 4_000);
    let groups = journal(dir.path()).windows(4).filter(|window| window == b"HGRP").count();
    assert!(groups < 2_000, "{groups} groups for 4,000 calls");
}

/// The rest of a test in a process of its own, which ends when it is killed or its file may grow no more.
fn child(test: &str, dir: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{shell} exec \"$0\" --exact {test} --nocapture --test-threads 1")])
        .arg(env::current_exe().unwrap())
        .env("HAUL_TEST_DIR", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Nothing by itself: the child of the next test.
#[tokio::test]
async fn child_that_holds_until_it_is_killed() {
    let Some(dir) = env::var_os("HAUL_TEST_DIR") else { return };
    let gate = open(Path::new(&dir)).unwrap();
    gate.put_sale(&live(), &sale(), &terms(1_000_000), Mark::default()).await.unwrap();
    for number in 0.. {
        apply(&gate, &[hold(number)]).await.unwrap();
        println!("\nacknowledged {number}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    for acknowledge in [1, 40, 300] {
        let dir = TempDir::new();
        let mut process = child("child_that_holds_until_it_is_killed", dir.path(), "").spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut acknowledged =
            lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        let seen = acknowledged.by_ref().nth(acknowledge).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        let last = acknowledged.last().unwrap_or(seen);

        let gate = open(dir.path()).unwrap();
        let counts = apply(&gate, &[]).await.unwrap().counts;
        // One more may have become durable without being acknowledged.
        assert!((last + 1..=last + 2).contains(&u64::from(counts.held)), "{counts:?} after {last}");
        for numbers in (0..=last).collect::<Vec<_>>().chunks(500) {
            let again = apply(&gate, &numbers.iter().map(|number| hold(*number)).collect::<Vec<_>>()).await;
            assert_eq!(again.unwrap().counts, counts, "a retry made a second hold");
        }
    }
}

/// Nothing by itself: the child of the next test.
#[tokio::test]
async fn child_that_fills_its_disk() {
    let Some(dir) = env::var_os("HAUL_TEST_DIR") else { return };
    let clock = TestClock::at(START);
    let gate = EmbeddedGate::open(Path::new(&dir), clock.read()).unwrap();
    gate.put_sale(&live(), &sale(), &terms(10), Mark::default()).await.unwrap();
    apply(&gate, &[hold(1)]).await.unwrap();
    let order = || "order_1".parse().unwrap();
    let start =
        || Op::StartPayment { hold: hold_id(1), buyer: "ann".parse().unwrap(), order: order(), coupon: None };
    let fail = || Op::PaymentFailed { hold: hold_id(1), order: order() };
    // One hold written again and again, until the file may grow no more.
    let (mut paying, mut sequence) = (false, 0);
    let error = loop {
        match apply(&gate, &[if paying { fail() } else { start() }]).await {
            Ok(applied) => (paying, sequence) = (!paying, applied.mark.sequence),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, GateError::Unavailable(_)), "{error:?}");
    // Until a second has passed, nothing is tried, and nothing is answered that may not be so.
    assert!(matches!(apply(&gate, &[]).await, Err(GateError::Unavailable(_))));
    clock.set(UnixMillis(START.0 + 1_000));
    // A snapshot has one hold, and fits. What was refused did not happen.
    let state = apply(&gate, &[]).await.unwrap();
    assert_eq!((state.mark.sequence, state.counts.held), (sequence, 1));
    let next = apply(&gate, &[if paying { fail() } else { start() }]).await.unwrap();
    assert_eq!(next.mark.sequence, sequence + 1);
    println!("\nrecovered at {sequence}");
}

#[tokio::test]
async fn a_full_disk_stops_selling_and_is_recovered_from() {
    let dir = TempDir::new();
    // Files may have 16 KiB or 32 KiB, as the shell counts; writing more is an error instead of a signal.
    let output =
        child("child_that_fills_its_disk", dir.path(), "trap '' XFSZ; ulimit -f 32;").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let sequence = text.lines().find_map(|line| line.strip_prefix("recovered at ")?.parse::<u64>().ok());
    let gate = open(dir.path()).unwrap();
    assert_eq!(apply(&gate, &[]).await.unwrap().mark.sequence, sequence.unwrap() + 1);
}

#[tokio::test]
async fn an_old_journal_is_noticed_and_the_sale_is_rebuilt_for_good() {
    let dir = TempDir::new();
    let gate = open(dir.path()).unwrap();
    gate.put_sale(&live(), &sale(), &terms(2_000), Mark::default()).await.unwrap();
    let old = journal(dir.path());
    let ops: Vec<_> = (0..1_000).map(hold).collect();
    let told = apply(&gate, &ops).await.unwrap();
    drop(gate);
    fs::write(dir.path().join("journal"), old).unwrap();

    let gate = open(dir.path()).unwrap();
    let behind = Err(GateError::Stale { at: Mark { epoch: 1, sequence: 1 } });
    assert_eq!(gate.apply(&live(), &sale(), &[], told.mark).await, behind);
    let begun = gate.begin_rebuild(&live(), &sale(), told.mark).await;
    assert_eq!(begun, Ok(Rebuild::Begun { epoch: 2 }));
    // Ended half-way: it stays frozen, and is begun again.
    drop(gate);
    let clock = TestClock::at(START);
    let gate = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    assert!(gate.apply(&live(), &sale(), &[], Mark::default()).await.is_err());
    assert_eq!(gate.begin_rebuild(&live(), &sale(), told.mark).await, Ok(Rebuild::Busy));
    clock.set(UnixMillis(START.0 + TAKEOVER_MS));
    let begun = gate.begin_rebuild(&live(), &sale(), told.mark).await;
    assert_eq!(begun, Ok(Rebuild::Begun { epoch: 3 }));
    let image = Image { epoch: 3, clock: told.now, terms: terms(2_000), holds: told.holds.clone() };
    let rebuilt = gate.rebuild(&live(), &sale(), &image).await.unwrap();
    assert_eq!(rebuilt.counts, told.counts);
    assert!(rebuilt.mark > told.mark);
    drop(gate);
    let gate = EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    let again = gate.apply(&live(), &sale(), &ops, rebuilt.mark).await.unwrap();
    assert_eq!((again.outcomes, again.counts), (told.outcomes, told.counts), "the same holds as before");
}

#[tokio::test]
async fn a_sale_that_is_long_over_is_forgotten_once_nobody_holds_anything() {
    let dir = TempDir::new();
    let clock = TestClock::at(START);
    let open = || EmbeddedGate::open(dir.path(), clock.read()).unwrap();
    let gate = open();
    gate.put_sale(&live(), &sale(), &terms(5), Mark::default()).await.unwrap();
    let held = apply(&gate, &[hold(1)]).await.unwrap();
    drop(gate);
    clock.set(UnixMillis(START.0 + 30 * 24 * 3_600_000));
    let gate = open();
    assert_eq!(gate.apply(&live(), &sale(), &[], held.mark).await.unwrap().released.len(), 1);
    drop(gate);
    let gate = open();
    // Whoever has seen it is not told that it is new.
    assert!(matches!(gate.apply(&live(), &sale(), &[], held.mark).await, Err(GateError::Stale { .. })));
}

#[tokio::test]
async fn a_clock_that_jumps_forward_stops_the_sale_and_ends_no_hold() {
    let (dir, clock) = (TempDir::new(), TestClock::at(START));
    let gate = EmbeddedGate::open_watched(dir.path(), clock.read()).unwrap();
    gate.put_sale(&live(), &sale(), &terms(5), Mark::default()).await.unwrap();
    let held = apply(&gate, &[hold(1)]).await.unwrap();
    clock.set(UnixMillis(START.0 + 3_600_000));
    let jumped = |ahead_ms: u64| ahead_ms > 3_590_000 && ahead_ms <= 3_600_000;
    let asked = apply(&gate, &[hold(2)]).await;
    assert!(matches!(asked, Err(GateError::ClockJumped { ahead_ms }) if jumped(ahead_ms)), "{asked:?}");
    let buyer = "ann".parse().unwrap();
    let standing = gate.standing(&live(), &sale(), &buyer, Mark::default()).await;
    assert!(matches!(standing, Err(GateError::ClockJumped { .. })), "{standing:?}");
    assert!(matches!(gate.now().await, Err(GateError::ClockJumped { .. })));
    let rebuild = gate.begin_rebuild(&live(), &sale(), Mark { epoch: 9, sequence: 9 }).await;
    assert!(matches!(rebuild, Err(GateError::ClockJumped { .. })), "a rebuild would end them, too");
    clock.set(UnixMillis(START.0 + 500));
    let again = apply(&gate, &[hold(1)]).await.unwrap();
    assert_eq!(again.outcomes, held.outcomes, "the same hold, with the same deadline");
    assert_eq!((again.counts.held, again.released.len()), (1, 0));
}
