//! What a viewer costs before it sees anything: processor time of a join (SDP, ICE, DTLS) on the server's side alone,
//! and memory of a viewer who is connected and idle.
//!
//! `cargo bench -p haul-webrtc --bench join`. The clients' work is on another thread and not counted; their memory is
//! given back before it is measured.

#![allow(clippy::unwrap_used)]

mod support;

use support::Stage;

/// Joins measured, after as many to warm up.
const JOINS: usize = 1_000;
/// The goals.
const JOINS_PER_CORE: f64 = 2_500.0;
const KB_PER_VIEWER: f64 = 120.0;

fn main() {
    let mut stage = Stage::new();
    let warm = stage.audience(JOINS);
    let (cpu, memory) = (stage.cpu.ns(), resident_kb());
    let measured = stage.audience(JOINS);
    let spent = (stage.cpu.ns() - cpu) as f64 / JOINS as f64;
    let kb = (resident_kb() - memory) / JOINS as f64;
    println!(
        "{{\"case\":\"join\",\"viewers\":{JOINS},\"us_per_join\":{:.0},\"joins_per_second_per_core\":{:.0},\
         \"min\":{JOINS_PER_CORE}}}",
        spent / 1e3,
        1e9 / spent
    );
    println!(
        "{{\"case\":\"idle viewer\",\"viewers\":{JOINS},\"kb_per_viewer\":{kb:.0},\"max\":{KB_PER_VIEWER}}}"
    );
    drop((warm, measured));
}

/// This process's memory.
fn resident_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
