//! How each congestion controller does on a slow line with a long queue: 5 Mb/s, 100 ms there and back, 500 ms of queue.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use haul_test_link::{Link, Profile};

use crate::{
    load::{Crowd, Host},
    median, rounds, seconds,
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
const TURN: Duration = Duration::from_micros(500);

pub async fn congestion() {
    for (name, down) in [("5 Mb/s", DOWN), ("5 Mb/s with 1 % loss", LOSSY)] {
        for megabits in MEGABITS {
            for controller in ["cubic", "newreno", "bbr"] {
                let (mut shares, mut lates, mut worsts) = (Vec::new(), Vec::new(), Vec::new());
                let mut broken = 0;
                for _ in 0..rounds() {
                    let server = Server::ours(&["1", controller]);
                    let line = Line::start(server.port(), down);
                    let _host = Host::start(server.port(), megabits).await;
                    let crowd = Crowd::join(&[line.port], 1).await;
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

/// A line in front of a server, for one client.
struct Line {
    port: u16,
    over: Arc<AtomicBool>,
}

impl Line {
    fn start(to: u16, down: &str) -> Self {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        there.connect(("127.0.0.1", to)).unwrap();
        for socket in [&here, &there] {
            socket.set_nonblocking(true).unwrap();
        }
        let port = here.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let profile = |words: &str| Profile::default().with(words).unwrap();
        let (mut down, mut up) = (Link::new(profile(down), 1), Link::new(profile(UP), 2));
        let ended = over.clone();
        std::thread::spawn(move || {
            let (mut buffer, mut client) = (vec![0; 65_536], None);
            while !ended.load(Relaxed) {
                let now = Instant::now();
                while let Ok((size, from)) = here.recv_from(&mut buffer) {
                    client = Some(from);
                    up.push(now, buffer[..size].to_vec());
                }
                while let Ok(size) = there.recv(&mut buffer) {
                    down.push(now, buffer[..size].to_vec());
                }
                while let Some(datagram) = up.poll(now) {
                    let _ = there.send(&datagram);
                }
                while let Some(datagram) = down.poll(now) {
                    if let Some(client) = client {
                        let _ = here.send_to(&datagram, client);
                    }
                }
                std::thread::sleep(TURN);
            }
        });
        Self { port, over }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}
