//! What the channel costs beside a bare loop that writes the same ready-made frames to as many sockets.
//!
//! ```text
//! cargo bench -p haul-gateway --bench channel [-- CASE]
//! ```
//!
//! The server (real gateway, real tokens, real room, stores on disk), the bare loop and the clients are processes of their
//! own, so that processor time and memory are each one's. Standard output has one line of JSON a case: `case`, `ratio`
//! (at most `max`, or the exit code is 1) and the figures. All else goes to standard error.
//!
//! - `fanout`: 5,000 connections and 200 chat lines a second: processor time for a delivered message, against the bare
//!   loop's for the same bytes in as many writes. `fanout/rate`: a million, by messages that a core delivers in a second.
//! - `connect`: connections with a token and a snapshot a second and core, against 4,000 or half of a bare
//!   accept-and-upgrade, whichever is less. `idle`: what each of 10,000 silent ones takes of 16 KB of memory.
//! - `overload`: 20,000 chat lines and 100,000 likes a second offered to a room of 2,000 while a sale runs: p99 of stock
//!   events of 200 ms, of holds of 100 ms, and how memory grows.
//! - `slow`: one viewer of a hundred reads 1 KB/s: the others' p99 with and without them, and what those get.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{process::ExitCode, time::Duration};

mod bare;
mod cases;
mod client;
mod load;
mod process;
mod server;

/// What a case found.
pub(crate) struct Found {
    case: &'static str,
    ratio: f64,
    max: f64,
    /// Further members of the line, as JSON.
    figures: String,
}

type Case = fn() -> Vec<Found>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("as-server") => return server::run(),
        Some("as-bare") => return bare::run(),
        Some("as-load") => return load::run(&arguments[1..]),
        _ => {}
    }
    // `cargo bench -- NAME` runs the cases whose name has it in it.
    let wanted = arguments.iter().find(|word| !word.starts_with('-')).cloned().unwrap_or_default();
    let cases: [(&str, Case); 4] = [
        ("fanout", cases::fanout),
        ("connect idle", cases::crowd),
        ("overload", cases::overload),
        ("slow", cases::slow),
    ];
    let mut all = true;
    for (_, run) in cases.iter().filter(|(names, _)| names.contains(&wanted)) {
        for Found { case, ratio, max, figures } in run() {
            println!(r#"{{"case":"{case}","ratio":{ratio:.3},"max":{max},{figures}}}"#);
            all &= ratio <= max;
        }
        // What the last case leaves in the kernel goes.
        std::thread::sleep(Duration::from_secs(1));
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(crate) fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}
