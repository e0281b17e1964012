//! How each congestion controller does on a slow line with a long queue: 5 Mb/s, 100 ms there and back, 500 ms of queue; and
//! what is left for others who share it.
//!
//! The default is chosen by the share of pictures that come in time, over all the cases, since a picture that comes late and one that
//! is dropped with its group are the same loss to who watches. Where two are as good as each other, the one with the shorter
//! delay is; one that its authors call experimental has to be clearly better.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::future::join_all;

use crate::{
    load::{Crowd, FRAMES_A_SECOND, Host, Seen, wall_us},
    median,
    relay::Line,
    rounds, seconds,
    server::Server,
};

/// Towards the viewer, and back: nothing else is on the line.
const DOWN: &str = "rate=5000k queue=500ms delay=50ms";
const UP: &str = "delay=50ms";
/// The same with what radio loses.
const LOSSY: &str = "rate=5000k queue=500ms delay=50ms loss=0.01";
/// Broadcasts that fit well, nearly, and not at all.
const MEGABITS: [f64; 3] = [2.0, 4.5, 6.0];
const CONTROLLERS: [&str; 4] = ["cubic", "newreno", "bbr", "discerning"];
/// What the same line is where its queue is short: there those that go by loss hear of it before those that go by delay.
const SHORT: &str = "rate=5000k queue=50ms delay=50ms";
/// Who shares the line. All want 1.5 Mb/s, which is a fifth more than there is.
const SHARING: [[&str; 4]; 5] = [
    ["cubic"; 4],
    ["discerning"; 4],
    ["bbr"; 4],
    ["cubic", "cubic", "discerning", "discerning"],
    ["cubic", "cubic", "bbr", "bbr"],
];
const SHARED_MEGABITS: f64 = 1.5;
/// The estimate settles first.
const SETTLE: Duration = Duration::from_secs(4);
/// Within this a picture is in time: what a full queue and a lost packet's way there and back again take, and as much to spare.
const IN_TIME_MS: f64 = 1_000.0;

/// What has not come so long after the round does not come any more: its group was given up.
const STRAGGLERS: Duration = Duration::from_secs(4);

/// What a viewer saw of the pictures captured in a round.
struct Round {
    /// What came while it lasted.
    megabits: f64,
    /// The share of pictures that came in time, and of those that never came.
    in_time: f64,
    dropped: f64,
    /// How late those were that came.
    late_p50_ms: f64,
    late_p95_ms: f64,
    /// Groups of which a part came.
    broken: u64,
}

pub async fn congestion() {
    let mut shares = [const { Vec::new() }; CONTROLLERS.len()];
    for (name, down) in [("5 Mb/s", DOWN), ("5 Mb/s with 1 % loss", LOSSY)] {
        for megabits in MEGABITS {
            let mut seen = [const { Vec::new() }; CONTROLLERS.len()];
            for _ in 0..rounds() {
                // All at once, each on a line of its own: what else the machine does meets all of them.
                let at_once = CONTROLLERS.map(|controller| round(controller, down, megabits));
                for (rounds, round) in seen.iter_mut().zip(join_all(at_once).await) {
                    rounds.push(round);
                }
            }
            for ((controller, rounds), shares) in CONTROLLERS.iter().zip(&seen).zip(&mut shares) {
                let middle =
                    |what: fn(&Round) -> f64| median(&mut rounds.iter().map(what).collect::<Vec<_>>());
                let in_time = middle(|round| round.in_time);
                shares.push(in_time);
                println!(
                    r#"{{"case":"congestion/{controller}, {megabits} Mb/s on {name}","in_time":{in_time:.3},"dropped":{:.3},"megabits":{:.2},"late_p50_ms":{:.0},"late_p95_ms":{:.0},"groups_broken":{}}}"#,
                    middle(|round| round.dropped),
                    middle(|round| round.megabits),
                    middle(|round| round.late_p50_ms),
                    middle(|round| round.late_p95_ms),
                    rounds.iter().map(|round| round.broken).sum::<u64>(),
                );
            }
        }
    }
    for (controller, shares) in CONTROLLERS.iter().zip(&shares) {
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        println!(r#"{{"case":"congestion/{controller}, all","in_time":{mean:.3}}}"#);
    }
}

/// What each of four has of a line that they share.
pub async fn sharing() {
    for (name, down) in [("500 ms of queue", DOWN), ("50 ms of queue", SHORT)] {
        for controllers in SHARING {
            let (mut shares, mut in_time, mut fair) =
                ([const { Vec::new() }; 4], [const { Vec::new() }; 4], Vec::new());
            for _ in 0..rounds() {
                let seen = shared_round(controllers, down).await;
                for (index, one) in seen.iter().enumerate() {
                    shares[index].push(one.megabits);
                    in_time[index].push(one.in_time);
                }
                // Jain's index: 1 where all have the same, a quarter where one has all.
                let (sum, squares) = seen.iter().fold((0.0, 0.0), |(sum, squares), one| {
                    (sum + one.megabits, squares + one.megabits * one.megabits)
                });
                fair.push(sum * sum / (seen.len() as f64 * squares));
            }
            let all = |of: &mut [Vec<f64>; 4]| {
                of.each_mut().map(|values| format!("{:.2}", median(values))).join(",")
            };
            println!(
                r#"{{"case":"sharing/{}, {name}","megabits":[{}],"in_time":[{}],"fair":{:.2}}}"#,
                controllers.join("+"),
                all(&mut shares),
                all(&mut in_time),
                median(&mut fair),
            );
        }
    }
}

async fn shared_round(controllers: [&str; 4], down: &str) -> Vec<Round> {
    let servers = controllers.map(|controller| Server::ours(&["1", controller]));
    let line = Line::shared(&servers.each_ref().map(Server::port), down, UP);
    let mut hosts = join_all(servers.iter().map(Host::connect)).await;
    // All are there before anything is sent: a line that is full lets nobody in for a while.
    let mut crowds = Vec::new();
    for (server, port) in servers.iter().zip(&line.ports) {
        crowds.push(Crowd::join(server, &[*port], 1).await);
    }
    hosts.iter_mut().for_each(|host| host.begin(SHARED_MEGABITS));
    let seen = crowds.iter().map(|crowd| measured(&crowd.seen[0]));
    join_all(seen).await
}

async fn round(controller: &str, down: &str, megabits: f64) -> Round {
    let server = Server::ours(&["1", controller]);
    let line = Line::start(server.port(), down, UP);
    let _host = Host::start(&server, megabits).await;
    let crowd = Crowd::join(&server, &line.ports, 1).await;
    crowd.all_see().await;
    let round = measured(&crowd.seen[0]).await;
    assert!(round.dropped < 1.0, "no picture at all by {controller}");
    round
}

/// What a viewer sees, once it has settled.
async fn measured(viewer: &Seen) -> Round {
    tokio::time::sleep(SETTLE).await;
    let got = || viewer.bytes.load(Relaxed);
    let (began_us, bytes, broken) = (wall_us(), got(), viewer.broken.load(Relaxed));
    let length = 2 * seconds();
    tokio::time::sleep(length).await;
    let (ended_us, bytes) = (wall_us(), got() - bytes);
    let broken = viewer.broken.load(Relaxed) - broken;
    tokio::time::sleep(STRAGGLERS).await;
    let came = viewer.pictures.lock().unwrap().clone().into_iter();
    let came = came.filter(|picture| (began_us..ended_us).contains(&picture.captured_us));
    let mut late: Vec<f64> = came.map(|picture| picture.late_ms).collect();
    late.sort_by(f64::total_cmp);
    let at = |percent: usize| late.get(late.len() * percent / 100).copied().unwrap_or(f64::INFINITY);
    let sent = f64::from(FRAMES_A_SECOND) * (ended_us - began_us) as f64 / 1e6;
    let share = |count: usize| (count as f64 / sent).min(1.0);
    Round {
        megabits: bytes as f64 * 8.0 / 1e6 / length.as_secs_f64(),
        in_time: share(late.iter().filter(|late| **late <= IN_TIME_MS).count()),
        dropped: 1.0 - share(late.len()),
        late_p50_ms: at(50),
        late_p95_ms: at(95),
        broken,
    }
}
