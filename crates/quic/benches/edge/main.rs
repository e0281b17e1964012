//! What the MoQ edge costs, beside the ecosystem's own relay where that is there, and how its congestion controllers do on
//! a slow line.
//!
//! `cargo bench -p haul-quic [-- WORD]`: a word is part of a case's name; none means all. `HAUL_MOQ_RELAY` is the path of a
//! `moq-relay`, which then is measured by the same client in the same run, in turns with ours. `HAUL_BENCH_ROUNDS` (3) and
//! `HAUL_BENCH_SECONDS` (4, for each round of each case) make it longer.
//!
//! Servers are processes of their own, and their cost is the processor time of all their threads, read from the kernel: a
//! busy machine makes it dearer for both, and does not add what others use. Who watches is in this process, which counts
//! what has come. Each case is a line of JSON; the exit code says whether all were within their `max`.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../../tests/client/mod.rs"]
mod client;
#[allow(dead_code, reason = "its hosts are the tests'")]
#[path = "../../tests/house/mod.rs"]
mod house;
mod line;
mod load;
#[allow(dead_code, reason = "its TCP is the tests'")]
#[path = "../../tests/line/mod.rs"]
mod relay;
mod server;

use std::{process::ExitCode, time::Duration};

use self::{
    load::{Crowd, Host},
    server::Server,
};

/// Viewers of a broadcast of so many megabits a second. 400 of [`MEGABITS`] are more than two cores can serve and watch: there it
/// shows what either does when it can't keep up, and with a quarter of it what they cost.
const FANOUTS: [(usize, f64); 5] =
    [(1, MEGABITS), (10, MEGABITS), (100, MEGABITS), (400, MEGABITS), (400, MEGABITS / 4.0)];
const MEGABITS: f64 = 2.0;
/// Viewers where two ways to serve are compared.
const BESIDE_VIEWERS: usize = 100;
/// Ours costs at most what the ecosystem's own relay does.
const COST_MAX: f64 = 1.0;
/// What one viewer's connection keeps in the server at most, in bytes.
const MEMORY_MAX_BYTES: f64 = 200_000.0;
/// Viewers of whom that is measured.
const MEMORY_VIEWERS: usize = 400;
/// By then a live's last groups, which are kept once for all, are as many as they will be.
const FILLED: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == server::ROLE) {
        return server::run(&arguments[1..]);
    }
    // `cargo bench -- NAME` runs the cases whose name has it in it.
    let wanted = arguments.iter().find(|word| !word.starts_with('-')).cloned().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let all = runtime.block_on(async {
        let mut all = true;
        for (viewers, megabits) in FANOUTS {
            let case = match megabits {
                MEGABITS => format!("fanout/{viewers}"),
                other => format!("fanout/{viewers} of {other} Mb/s"),
            };
            if case.contains(&wanted) {
                all &= fanout(&case, viewers, megabits).await;
            }
        }
        if "memory".contains(&wanted) {
            all &= memory().await;
        }
        for (case, one, other) in [
            // Each has half of the viewers.
            ("endpoints/two beside one", &["1"][..], &["2"][..]),
            ("controllers/discerning beside cubic", &["1", "cubic"], &["1", "discerning"]),
        ] {
            if case.contains(&wanted) {
                beside(case, one, other).await;
            }
        }
        if "congestion".contains(&wanted) {
            line::congestion().await;
        }
        if "sharing".contains(&wanted) {
            line::sharing().await;
        }
        all
    });
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn rounds() -> usize {
    std::env::var("HAUL_BENCH_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

fn seconds() -> Duration {
    Duration::from_secs(std::env::var("HAUL_BENCH_SECONDS").map_or(4, |seconds| seconds.parse().unwrap()))
}

/// Microseconds of processor time for each megabit that has come, and the megabits.
async fn cost(server: &Server, ports: &[u16], viewers: usize, megabits: f64) -> (f64, f64) {
    let mut host = Host::connect(server).await;
    // Before anything is sent: where the machine has no more to give, nobody else would come in.
    let crowd = Crowd::join(server, ports, viewers).await;
    host.begin(megabits);
    crowd.all_see().await;
    let (cpu, before) = (server.cpu(), crowd.bytes());
    tokio::time::sleep(seconds()).await;
    let (cpu, bytes) = (server.cpu() - cpu, crowd.bytes() - before);
    drop((crowd, host));
    server.deserted().await;
    let megabits = bytes as f64 * 8.0 / 1e6;
    (cpu * 1e6 / megabits, megabits)
}

async fn fanout(case: &str, viewers: usize, megabits: f64) -> bool {
    let ours = Server::ours(&[]);
    let theirs = Server::theirs();
    let (mut costs, mut shares) = (Vec::new(), Vec::new());
    let (mut their_costs, mut their_shares) = (Vec::new(), Vec::new());
    let whole = megabits * seconds().as_secs_f64() * viewers as f64;
    for _ in 0..rounds() {
        let (cost_us, came) = cost(&ours, &[ours.port()], viewers, megabits).await;
        costs.push(cost_us);
        shares.push(came / whole);
        if let Some(theirs) = &theirs {
            let (cost_us, came) = cost(theirs, &[theirs.port()], viewers, megabits).await;
            their_costs.push(cost_us);
            their_shares.push(came / whole);
        }
    }
    let (cost_us, share) = (median(&mut costs), median(&mut shares));
    let figures = format!(r#""us_a_megabit":{cost_us:.0},"delivered":{share:.2}"#);
    match theirs {
        Some(_) => {
            let (their_us, their_share) = (median(&mut their_costs), median(&mut their_shares));
            let ratio = cost_us / their_us;
            println!(
                r#"{{"case":"{case}","ratio":{ratio:.3},"max":{COST_MAX},{figures},"relay_us_a_megabit":{their_us:.0},"relay_delivered":{their_share:.2}}}"#
            );
            ratio <= COST_MAX
        }
        None => {
            println!(r#"{{"case":"{case}",{figures}}}"#);
            true
        }
    }
}

/// What connections keep in the server, while they watch.
async fn memory() -> bool {
    let server = Server::ours(&[]);
    let host = Host::start(&server, MEGABITS).await;
    let few = Crowd::join(&server, &[server.port()], 10).await;
    few.all_see().await;
    tokio::time::sleep(FILLED).await;
    let before = server.resident_bytes();
    let crowd = Crowd::join(&server, &[server.port()], MEMORY_VIEWERS).await;
    crowd.all_see().await;
    tokio::time::sleep(seconds()).await;
    let bytes = (server.resident_bytes() - before) / MEMORY_VIEWERS as f64;
    drop((crowd, few, host));
    let ratio = bytes / MEMORY_MAX_BYTES;
    println!(
        r#"{{"case":"memory/{MEMORY_VIEWERS}","ratio":{ratio:.3},"max":1.0,"bytes_a_connection":{bytes:.0}}}"#
    );
    ratio <= 1.0
}

/// What one way to serve costs beside another, each as the server's words say.
async fn beside(case: &str, one: &[&str], other: &[&str]) {
    let (one, other) = (Server::ours(one), Server::ours(other));
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        ones.push(cost(&one, &one.ports, BESIDE_VIEWERS, MEGABITS).await.0);
        others.push(cost(&other, &other.ports, BESIDE_VIEWERS, MEGABITS).await.0);
    }
    let (one, other) = (median(&mut ones), median(&mut others));
    println!(
        r#"{{"case":"{case}","ratio":{:.3},"us_a_megabit":{other:.0},"beside_us_a_megabit":{one:.0}}}"#,
        other / one
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
