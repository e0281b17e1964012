//! How each congestion controller does on a slow line with a long queue: 5 Mb/s, 100 ms there and back, 500 ms of queue.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use crate::{
    load::{Crowd, Host},
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
/// The estimate settles first.
const SETTLE: Duration = Duration::from_secs(4);

pub async fn congestion() {
    for (name, down) in [("5 Mb/s", DOWN), ("5 Mb/s with 1 % loss", LOSSY)] {
        for megabits in MEGABITS {
            for controller in ["cubic", "newreno", "bbr"] {
                let (mut shares, mut lates, mut worsts) = (Vec::new(), Vec::new(), Vec::new());
                let mut broken = 0;
                for _ in 0..rounds() {
                    let server = Server::ours(&["1", controller]);
                    let line = Line::start(server.port(), down, UP);
                    let _host = Host::start(&server, megabits).await;
                    let crowd = Crowd::join(&server, &[line.port], 1).await;
                    crowd.all_see().await;
                    tokio::time::sleep(SETTLE).await;
                    let before = crowd.bytes();
                    crowd.seen[0].late_ms.lock().unwrap().clear();
                    tokio::time::sleep(2 * seconds()).await;
                    let megabits_came = (crowd.bytes() - before) as f64 * 8.0 / 1e6;
                    shares.push(megabits_came / (2 * seconds()).as_secs_f64());
                    let mut late = std::mem::take(&mut *crowd.seen[0].late_ms.lock().unwrap());
                    lates.push(median(&mut late));
                    worsts.push(late[late.len() * 95 / 100]);
                    broken += crowd.seen[0].broken.load(Relaxed);
                }
                println!(
                    r#"{{"case":"congestion/{controller}, {megabits} Mb/s on {name}","megabits":{:.2},"late_p50_ms":{:.0},"late_p95_ms":{:.0},"groups_broken":{broken}}}"#,
                    median(&mut shares),
                    median(&mut lates),
                    median(&mut worsts),
                );
            }
        }
    }
}
