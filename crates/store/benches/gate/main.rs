//! What the stores add to what they stand on: each case compares ours with the bare thing, in one run on one machine.
//!
//! ```text
//! cargo bench -p haul-store --bench gate
//! ```
//!
//! It starts its own Redis and PostgreSQL. Standard output has one line of JSON a case: `case`, `value` (ours, a second),
//! `ratio` (ours to the bare one, the median of rounds that take turns) and `min` (below it, the exit code is 1). All
//! else goes to standard error, also the goals: numbers that depend on the machine, beside how long its disk takes to sync.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, io::Write, path::PathBuf, process::ExitCode, time::Instant};

mod embedded;
mod ledger;
mod redis;
mod sold_out;
#[path = "../../tests/support/mod.rs"]
mod support;

/// Rounds of each side.
const ROUNDS: usize = 5;

/// What a case found.
pub(crate) struct Found {
    case: &'static str,
    /// Ours, a second.
    value: f64,
    ratio: f64,
    min: f64,
}

/// Runs both sides in turn, so that what else the machine does concerns both, and compares each round's.
pub(crate) async fn compare(
    case: &'static str,
    min: f64,
    mut ours: impl AsyncFnMut() -> f64,
    mut bare: impl AsyncFnMut() -> f64,
) -> Found {
    let (mut values, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (ours, bare) = (ours().await, bare().await);
        eprintln!("{case}: {ours:.0} a second, bare {bare:.0}, ratio {:.2}", ours / bare);
        // The first warms up.
        if round > 0 {
            values.push(ours);
            ratios.push(ours / bare);
        }
    }
    Found { case, value: median(values), ratio: median(ratios), min }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A directory on the disk that the build is on: a temporary one may be in memory.
pub(crate) fn on_disk(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(support::unique(name));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// How long one small append takes to be durable, in microseconds.
fn sync_us() -> f64 {
    let dir = on_disk("sync");
    let mut file = fs::File::create(dir.join("file")).unwrap();
    let times = (0..200).map(|_| {
        let begun = Instant::now();
        file.write_all(&[0; 512]).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64() * 1e6
    });
    let median = median(times.collect());
    fs::remove_dir_all(dir).unwrap();
    median
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let sync = sync_us();
    eprintln!("a synced append takes {sync:.0} µs here (median of 200)");
    // `cargo bench -- NAME` runs the cases whose name has it in it.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let mut all = true;
    let mut tell = |found: Vec<Found>| {
        for Found { case, value, ratio, min } in found {
            println!(r#"{{"case":"{case}","value":{value:.1},"ratio":{ratio:.3},"min":{min}}}"#);
            all &= ratio >= min;
        }
    };
    if "redis_gate redis_batch".contains(&wanted) {
        tell(redis::cases().await);
    }
    if "sold_out".contains(&wanted) {
        sold_out::case();
    }
    if "embedded_gate".contains(&wanted) {
        tell(vec![embedded::case().await]);
    }
    if "ledger_sqlite".contains(&wanted) {
        tell(vec![ledger::sqlite().await]);
    }
    if "ledger_postgres".contains(&wanted) {
        tell(vec![ledger::postgres().await]);
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A number that depends on the machine, beside the goal.
pub(crate) fn goal(what: &str, found: f64, goal: f64, unit: &str) {
    eprintln!("goal: {what}: {found:.0} {unit} (goal {goal:.0})");
}
