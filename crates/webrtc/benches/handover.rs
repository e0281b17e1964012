//! How packets are best handed to the kernel: nanoseconds of processor time a packet that the bare loop (see
//! `support/limit.rs`) takes in each way, all ways taking turns. The server's way is the first; the ratio is against it.
//!
//! `cargo bench -p haul-webrtc --bench handover`. Two places, as in `egress`: plain loopback, and (`nic`) a full queue.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use support::{
    Cpu, Shape,
    limit::{Handover, Limit},
    median, nic, packets,
};

const RECEIVERS: usize = 1_000;
const ROUNDS: usize = 7;
/// Packets that are sent a round, over all receivers.
const PACKETS: usize = 200_000;

const OURS: Handover = Handover::OURS;
/// For frames of eight packets of one size.
const PICTURES: [(&str, Handover); 13] = [
    ("sendmmsg of 64, up to 64 segments, 512 KB", OURS),
    ("single datagrams", Handover { segments: 1, ..OURS }),
    ("2 segments", Handover { segments: 2, ..OURS }),
    ("4 segments", Handover { segments: 4, ..OURS }),
    ("sendmmsg of 1", Handover { batch: 1, ..OURS }),
    ("sendmmsg of 8", Handover { batch: 8, ..OURS }),
    ("sendmmsg of 256, 4 MB", Handover { batch: 256, arena: 4 << 20, ..OURS }),
    ("128 KB", Handover { arena: 128 << 10, ..OURS }),
    ("2 MB", Handover { batch: 256, arena: 2 << 20, ..OURS }),
    ("io_uring of 8", Handover { ring: true, batch: 8, ..OURS }),
    ("io_uring of 64", Handover { ring: true, ..OURS }),
    ("io_uring of 256, 4 MB", Handover { ring: true, batch: 256, arena: 4 << 20, ..OURS }),
    ("io_uring of 64, single datagrams", Handover { ring: true, segments: 1, ..OURS }),
];
/// For packets of sound, each a message of its own.
const SOUND: [(&str, Handover); 6] = [
    ("sendmmsg of 64", OURS),
    ("sendmmsg of 1", Handover { batch: 1, ..OURS }),
    ("sendmmsg of 256", Handover { batch: 256, ..OURS }),
    ("sendmmsg of 1024", Handover { batch: 1024, ..OURS }),
    ("io_uring of 64", Handover { ring: true, ..OURS }),
    ("io_uring of 256", Handover { ring: true, batch: 256, ..OURS }),
];

fn main() {
    nic::begin();
    let receivers: Vec<UdpSocket> = (0..RECEIVERS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<SocketAddr> = receivers.iter().map(|socket| socket.local_addr().unwrap()).collect();
    nic::fill();
    measure("pictures", &PICTURES, &addresses, &support::uniform(PACKETS / 8 / RECEIVERS));
    measure("sound", &SOUND, &addresses, &support::sound(PACKETS / RECEIVERS));
    nic::enter();
}

fn measure(what: &str, ways: &[(&str, Handover)], addresses: &[SocketAddr], frames: &[Shape]) {
    let mut loops: Vec<Limit> = ways.iter().map(|(_, way)| Limit::handing_over(addresses, *way)).collect();
    let mut costs = vec![Vec::new(); ways.len()];
    let sent = (packets(frames) * addresses.len()) as f64;
    for round in 0..ROUNDS {
        let start = Instant::now();
        for (limit, costs) in loops.iter_mut().zip(&mut costs) {
            limit.frame(&frames[0]);
            let before = Cpu::own().ns();
            frames.iter().for_each(|frame| limit.frame(frame));
            costs.push((Cpu::own().ns() - before) as f64 / sent);
        }
        eprintln!("round {round} of {what}: {:.1} s", start.elapsed().as_secs_f64());
    }
    let costs: Vec<f64> = costs.into_iter().map(median).collect();
    for ((name, _), cost) in ways.iter().zip(&costs) {
        let place = nic::place();
        println!(
            "{{\"case\":\"{place}/{what}/{name}\",\"ns_per_packet\":{cost:.0},\"ratio\":{:.2}}}",
            cost / costs[0]
        );
    }
}
