//! What one core of this machine can receive: by a bare loop that only takes datagrams off its sockets, and by a viewers'
//! thread that counts them too. By processor time, not by the clock, so that what else runs here does not matter much.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mio::{Events, Interest, Poll, Token};

use crate::{
    machine,
    net::{self, Inbox},
    peer::Identity,
    tally::Tally,
    viewer::{Traits, Viewer},
};

/// Sockets at once.
const VIEWERS: usize = 500;
/// A picture of 1 Mb/s: so many datagrams of that size, in one message, as a server with UDP GSO sends them.
const RUN: usize = 4;
const DATAGRAM: usize = 1_200;
/// Messages under way at most, so that no queue overflows.
const WINDOW: u64 = VIEWERS as u64 * 4;
/// How long each loop is measured at a time, and how often, in turn. The best of each counts: nothing makes a loop faster than
/// it is.
const TIME: Duration = Duration::from_secs(2);
const ROUNDS: usize = 4;
/// A stream of 1 Mb/s in packets a second, with 50 packets of sound.
const PACKETS_A_VIEWER: f64 = 1e6 / 8.0 / DATAGRAM as f64 + 50.0;

/// What a loop has cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    packets: u64,
    busy: Duration,
}

impl Cost {
    /// Nanoseconds of processor time a packet.
    pub(crate) fn ns(self) -> f64 {
        self.busy.as_nanos() as f64 / self.packets.max(1) as f64
    }

    /// Streams of 1 Mb/s that a core could take at this cost.
    pub(crate) fn viewers(self) -> f64 {
        1e9 / self.ns() / PACKETS_A_VIEWER
    }
}

/// Measures both: the bare loop, and the viewers' thread.
pub(crate) fn both() -> Result<(Cost, Cost)> {
    let (mut bare, mut counted) = (measure(false)?, measure(true)?);
    for _ in 1..ROUNDS {
        for (best, counting) in [(&mut bare, false), (&mut counted, true)] {
            let again = measure(counting)?;
            if again.ns() < best.ns() {
                *best = again;
            }
        }
    }
    Ok((bare, counted))
}

fn measure(counting: bool) -> Result<Cost> {
    let identity = Identity::generate()?;
    let (mut poll, mut viewers, mut bare) = (Poll::new()?, HashMap::new(), HashMap::new());
    let (local, now): (SocketAddr, _) = (([127, 0, 0, 1], 0).into(), Instant::now());
    let mut addresses = Vec::new();
    for index in 0..VIEWERS as u32 {
        let mut viewer = Viewer::offer(&identity, local, Traits::default(), 0, now)?.0;
        viewer.pretend_connected(now).context("keys made of zeros are keys")?;
        addresses.push(viewer.socket.local_addr()?);
        poll.registry().register(&mut viewer.socket, Token(index as usize), Interest::READABLE)?;
        if counting {
            viewers.insert(index, viewer);
        } else {
            bare.insert(index, viewer.socket);
        }
    }
    let (over, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sender = {
        let (over, received) = (over.clone(), received.clone());
        thread::spawn(move || send(&addresses, &over, &received))
    };
    let (mut events, mut inbox, mut tally) = (Events::with_capacity(1_024), Inbox::new(), Tally::default());
    let (mut packets, begun, before) = (0_u64, Instant::now(), machine::this_threads_time());
    while begun.elapsed() < TIME {
        poll.poll(&mut events, Some(Duration::from_millis(10)))?;
        let mut runs = 0;
        for event in &events {
            let number = event.token().0 as u32;
            let socket =
                if counting { viewers.get(&number).map(|viewer| &viewer.socket) } else { bare.get(&number) };
            let Some(socket) = socket else { continue };
            let _ = net::receive(socket, &mut inbox);
            let now = Instant::now();
            let mut viewer = viewers.get_mut(&number);
            let mut datagrams = 0;
            for (datagram, from) in inbox.datagrams() {
                datagrams += 1;
                if let Some(viewer) = &mut viewer {
                    viewer.datagram(datagram, from, now, &mut tally);
                }
            }
            packets += datagrams;
            runs += datagrams / RUN as u64;
        }
        received.fetch_add(runs, Ordering::Relaxed);
    }
    let busy = machine::this_threads_time().saturating_sub(before);
    over.store(true, Ordering::Relaxed);
    let _ = sender.join();
    Ok(Cost { packets, busy })
}

/// Sends pictures to all in turn, as fast as they are received.
fn send(addresses: &[SocketAddr], over: &AtomicBool, received: &AtomicU64) {
    let Ok(socket) = StdSocket::bind("127.0.0.1:0") else { return };
    let segmented = net::send_in_segments(&socket, DATAGRAM as u16).is_ok();
    let (mut run, mut sent) = (vec![0_u8; RUN * DATAGRAM], 0_u64);
    for picture in 0_u32.. {
        for (index, datagram) in run.chunks_mut(DATAGRAM).enumerate() {
            let sequence = (picture as u16).wrapping_mul(RUN as u16).wrapping_add(index as u16);
            let marker = if index + 1 == RUN { 0x80 } else { 0 };
            datagram[..2].copy_from_slice(&[0x80, Viewer::PRETENDED_PAYLOAD_TYPE | marker]);
            datagram[2..4].copy_from_slice(&sequence.to_be_bytes());
            datagram[4..8].copy_from_slice(&(picture.wrapping_mul(3_000)).to_be_bytes());
            datagram[8..12].copy_from_slice(&[1; 4]);
        }
        for address in addresses {
            while sent > received.load(Ordering::Relaxed) + WINDOW {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                thread::yield_now();
            }
            if segmented {
                let _ = socket.send_to(&run, address);
            } else {
                for datagram in run.chunks(DATAGRAM) {
                    let _ = socket.send_to(datagram, address);
                }
            }
            sent += 1;
        }
    }
}
