//! What a viewer costs before it sees anything: processor time of a join (SDP, ICE, DTLS) on the server's side alone,
//! and memory of a viewer who is connected and idle.
//!
//! `cargo bench -p haul-webrtc --bench join`. The clients' work is on another thread and not counted. Where memory is
//! measured, they are in a process of their own.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{Cpu, Stage, client, viewer};

/// Joins measured, after as many to warm up.
const JOINS: usize = 1_000;
/// How long it is watched what those who are there cost.
const WATCHED: Duration = Duration::from_secs(4);
/// Idle viewers measured, after some to warm up.
const IDLE: usize = 1_000;
const WARM: usize = 64;
/// The goals.
const JOINS_PER_CORE: f64 = 2_500.0;
const KB_PER_VIEWER: f64 = 120.0;
/// The argument that makes this program the other process.
const CLIENTS: &str = "only-clients";

fn main() {
    if std::env::args().any(|argument| argument == CLIENTS) {
        be_the_clients();
        return;
    }
    let wanted = support::wanted();
    let runs = |case: &str| wanted.is_empty() || wanted.iter().any(|word| word == case);
    // Before anything else has filled this process's memory with what could be used again.
    if runs("memory") {
        memory();
    }
    if runs("join") {
        joins();
    }
}

fn joins() {
    let mut stage = Stage::new();
    let warm = stage.audience(JOINS);
    let idle = Work::of(stage.cpu, || std::thread::sleep(WATCHED));
    let idle_us = idle.cpu_ns / idle.seconds / JOINS as f64 / 1e3;
    println!("{{\"case\":\"idle viewer's timers\",\"viewers\":{JOINS},\"us_per_second\":{idle_us:.1}}}");
    let mut measured = None;
    let work = Work::of(stage.cpu, || measured = Some(stage.audience(JOINS)));
    let whole_us = work.cpu_ns / JOINS as f64 / 1e3;
    // Half of those who join are there, on average, besides those who were before.
    let timers_us = idle_us * work.seconds * 1.5;
    let us = whole_us - timers_us;
    println!(
        "{{\"case\":\"join\",\"viewers\":{JOINS},\"us_per_join\":{us:.0},\"us_of_timers_besides\":{timers_us:.0},\
         \"joins_per_second_per_core\":{:.0},\"min\":{JOINS_PER_CORE}}}",
        1e6 / us
    );
    drop((warm, measured));
}

/// What a shard's thread does in the meantime.
struct Work {
    cpu_ns: f64,
    seconds: f64,
}

impl Work {
    fn of(cpu: Cpu, meanwhile: impl FnOnce()) -> Self {
        let (before, began) = (cpu.ns(), Instant::now());
        meanwhile();
        Self { cpu_ns: (cpu.ns() - before) as f64, seconds: began.elapsed().as_secs_f64() }
    }
}

fn memory() {
    let mut stage = Stage::new();
    let live = stage.audience(0);
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .arg(CLIENTS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut answers, offers) = (clients.stdin.take().unwrap(), clients.stdout.take().unwrap());
    let mut offers = BufReader::new(offers).lines();
    let mut join = |stage: &mut Stage, viewers: usize| {
        for _ in 0..viewers {
            let answer = stage.answer(&live.relay, &unfold(&offers.next().unwrap().unwrap()));
            writeln!(answers, "{}", fold(&answer)).unwrap();
        }
        stage.all_connected();
        resident_kb()
    };
    let before = join(&mut stage, WARM);
    let kb = (join(&mut stage, IDLE) - before) / IDLE as f64;
    println!(
        "{{\"case\":\"idle viewer\",\"viewers\":{IDLE},\"kb_per_viewer\":{kb:.0},\"max\":{KB_PER_VIEWER}}}"
    );
    // The end of its input is the end of it.
    drop(answers);
    clients.wait().unwrap();
}

/// Says one offer a line, takes one answer a line, and shakes hands, one viewer after the other.
fn be_the_clients() {
    let mut answers = std::io::stdin().lines();
    let mut sockets = Vec::new();
    loop {
        let (mut client, offer) = viewer();
        println!("{}", fold(&offer));
        let Some(Ok(answer)) = answers.next() else { return };
        client.answer(&unfold(&answer));
        client::pump(&mut [&mut client], "it is connected", |clients| clients[0].connected);
        sockets.push(client.socket);
    }
}

fn fold(sdp: &str) -> String {
    sdp.replace("\r\n", "\t")
}

fn unfold(line: &str) -> String {
    line.replace('\t', "\r\n")
}

/// This process's memory.
fn resident_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
