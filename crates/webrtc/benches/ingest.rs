//! What a host costs: processor time of a shard that decrypts its packets, puts them together and hands frames to its
//! relay.
//!
//! `cargo bench -p haul-webrtc --bench ingest`. Hosts send the clip by turns, each frame as a burst, as fast as the
//! shard takes them; the clients' work is on another thread and not counted.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use haul_model::Kind;
use support::{Stage, client::Client};

const HOSTS: usize = 20;
/// Seconds of the clip that each host sends: one GOP, after one to warm up.
const SECONDS: u64 = 2;
/// The goal, at 2.5 Mb/s each.
const HOSTS_PER_CORE: f64 = 400.0;
const BITRATE: f64 = 2_500_000.0;

fn main() {
    let mut stage = Stage::new();
    let mut hosts: Vec<Client> = (0..HOSTS).map(|_| stage.host()).collect();
    let mut first = 0;
    play(&stage, &mut hosts, &mut first);
    let (cpu, before) = (stage.cpu.ns(), stage.stats());
    play(&stage, &mut hosts, &mut first);
    let (spent, after) = (stage.cpu.ns() - cpu, stage.stats());
    let packets = (after.rtp_packets_in - before.rtp_packets_in) as f64;
    let bits = (after.rtp_bytes_in - before.rtp_bytes_in) as f64 * 8.0;
    let (per_packet, lost) = (spent as f64 / packets, after.packets_lost - before.packets_lost);
    let hosts_per_core = bits / BITRATE / (spent as f64 / 1e9);
    eprintln!("{packets} packets, {lost} lost, {} frames", after.frames_in - before.frames_in);
    println!(
        "{{\"case\":\"ingest\",\"hosts\":{HOSTS},\"ns_per_packet\":{per_packet:.0},\
         \"hosts_at_2500kbps_per_core\":{hosts_per_core:.0},\"min\":{HOSTS_PER_CORE}}}"
    );
}

/// Every host sends the clip, with sound. What has come is waited for after each frame, so that nothing is lost.
fn play(stage: &Stage, hosts: &mut [Client], first: &mut u32) {
    let mut sent = stage.stats().rtp_packets_in;
    for (number, shape) in support::clip(SECONDS).into_iter().enumerate() {
        let sizes: Vec<usize> = shape.packets.iter().map(|payload| payload.len()).collect();
        for host in hosts.iter_mut() {
            host.send_sizes(*first + number as u32, &sizes, shape.keyframe, shape.kind == Kind::Video);
            host.turn();
            sent += shape.packets.len() as u64;
        }
        let start = Instant::now();
        while stage.stats().rtp_packets_in < sent {
            std::thread::sleep(Duration::from_micros(20));
            hosts.iter_mut().for_each(Client::turn);
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", stage.stats());
        }
    }
    *first += 1_000;
}
