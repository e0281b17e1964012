//! Everything a shard sends in a turn: datagrams are written one behind the other into one arena, and those of equal
//! size to one address become one message, which the kernel cuts up again (UDP GSO). One system call takes many.

use std::sync::Arc;

use crate::{
    links::Links,
    route::{Route, Via},
    socket::{MAX_DATAGRAM, Message, SEND_BATCH, Socket},
    stats::Counters,
};

/// Bytes gathered before they are sent. Small enough to stay in a core's second-level cache.
const ARENA_BYTES: usize = 512 << 10;
/// The most datagrams in one message (the kernel's UDP_MAX_SEGMENTS is 64 in the oldest kernels that segment).
const MAX_SEGMENTS: usize = 64;
/// The most bytes in one message: an IP packet has at most 65,535 with its headers.
const MAX_MESSAGE_BYTES: usize = 65_000;

/// Gathers datagrams and sends them in batches.
pub(crate) struct Outbox {
    arena: Box<[u8]>,
    used: usize,
    /// One a UDP socket, by [`Via::Socket`], and the last for all TCP connections.
    lanes: Vec<Lane>,
    /// The lane of the last datagram, for taking it back.
    last: usize,
    /// The TCP connections, where ICE-TCP is on.
    pub(crate) links: Option<Links>,
    counters: Arc<Counters>,
}

/// What goes out by one socket, or by TCP.
struct Lane {
    socket: Option<Arc<Socket>>,
    messages: Vec<Message>,
}

impl Outbox {
    pub(crate) fn new(sockets: &[Arc<Socket>], counters: Arc<Counters>) -> Self {
        let lane = |socket| Lane { socket, messages: Vec::with_capacity(SEND_BATCH) };
        let sockets = sockets.iter().cloned().map(Some);
        Self {
            arena: vec![0; ARENA_BYTES].into(),
            used: 0,
            lanes: sockets.chain([None]).map(lane).collect(),
            last: 0,
            links: None,
            counters,
        }
    }

    /// Room for the next datagram to `to`, of exactly `bytes` bytes, which are to be overwritten.
    pub(crate) fn datagram(&mut self, to: Route, bytes: usize) -> &mut [u8] {
        debug_assert!(bytes > 0, "an empty datagram is no segment");
        if self.used + bytes > ARENA_BYTES {
            self.flush();
        }
        let lane = match to.via {
            Via::Socket(index) => usize::from(index),
            Via::Link(_) => self.lanes.len() - 1,
        };
        let start = self.used;
        let messages = &mut self.lanes[lane].messages;
        let full = messages.len() == SEND_BATCH;
        match messages.last_mut() {
            Some(last) if extends(last, to, start, bytes) => last.bytes += bytes,
            _ if full => {
                self.flush();
                return self.datagram(to, bytes);
            }
            _ => messages.push(Message { to, start, bytes, segment: bytes }),
        }
        self.last = lane;
        self.used = start + bytes;
        &mut self.arena[start..start + bytes]
    }

    /// Takes the last datagram back.
    pub(crate) fn undo(&mut self, bytes: usize) {
        self.used -= bytes;
        let messages = &mut self.lanes[self.last].messages;
        if let Some(last) = messages.last_mut() {
            last.bytes -= bytes;
            if last.bytes == 0 {
                messages.pop();
            }
        }
    }

    /// A datagram that is there already.
    pub(crate) fn copy(&mut self, to: Route, datagram: &[u8]) {
        if (1..=MAX_DATAGRAM).contains(&datagram.len()) {
            self.datagram(to, datagram.len()).copy_from_slice(datagram);
        }
    }

    /// Sends all that was gathered.
    pub(crate) fn flush(&mut self) {
        for lane in &mut self.lanes {
            if lane.messages.is_empty() {
                continue;
            }
            match (&lane.socket, &mut self.links) {
                (Some(socket), _) => {
                    let sent = socket.send(&self.arena, &lane.messages);
                    self.counters.send_full.add(sent.full);
                    self.counters.send_errors.add(sent.errors);
                    self.counters.gso_refused.add(sent.unsegmented);
                }
                (None, Some(links)) => {
                    let full = send_framed(links, &self.arena, &lane.messages);
                    self.counters.tcp_full.add(full);
                }
                (None, None) => {}
            }
            lane.messages.clear();
        }
        if let Some(links) = &mut self.links {
            links.flush();
        }
        self.used = 0;
    }
}

/// Leaves each datagram to its connection. Returns how many there was no room for.
fn send_framed(links: &mut Links, arena: &[u8], messages: &[Message]) -> u64 {
    let mut full = 0;
    for message in messages {
        let Via::Link(number) = message.to.via else { continue };
        for datagram in arena[message.start..][..message.bytes].chunks(message.segment) {
            full += u64::from(!links.send(number, datagram));
        }
    }
    full
}

/// Whether a datagram of `bytes` bytes at `start` can be the next segment of `message`: all lie one behind the other and
/// are as long as the first, except that the last may be shorter.
fn extends(message: &Message, to: Route, start: usize, bytes: usize) -> bool {
    let whole = message.bytes.is_multiple_of(message.segment);
    message.to == to
        && message.start + message.bytes == start
        && whole
        && bytes <= message.segment
        && message.datagrams() < MAX_SEGMENTS
        && message.bytes + bytes <= MAX_MESSAGE_BYTES
}

#[cfg(test)]
impl Outbox {
    /// Takes what was gathered instead of sending it: one entry a datagram.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        for lane in &mut self.lanes {
            for message in lane.messages.drain(..) {
                let bytes = &self.arena[message.start..][..message.bytes];
                datagrams.extend(bytes.chunks(message.segment).map(<[u8]>::to_vec));
            }
        }
        self.used = 0;
        datagrams
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Outbox::new(&[Arc::new(socket)], Arc::default())
    }

    fn nowhere(port: u16) -> Route {
        Route::udp(([127, 0, 0, 1], port).into())
    }

    /// The messages that datagrams of these sizes become: sizes of their segments.
    fn runs(sizes: &[usize]) -> Vec<Vec<usize>> {
        let mut outbox = outbox();
        for size in sizes {
            outbox.datagram(nowhere(9), *size);
        }
        let cut = |message: &Message| {
            outbox.arena[message.start..][..message.bytes].chunks(message.segment).map(<[u8]>::len).collect()
        };
        outbox.lanes[0].messages.iter().map(cut).collect()
    }

    #[test]
    fn equal_sizes_are_one_message_and_a_shorter_one_ends_it() {
        assert_eq!(runs(&[1_200, 1_200, 1_200, 300]), [vec![1_200, 1_200, 1_200, 300]]);
        assert_eq!(runs(&[1_200, 300, 1_200]), [vec![1_200, 300], vec![1_200]]);
        assert_eq!(
            runs(&[1_199, 1_200, 1_200]),
            [vec![1_199], vec![1_200, 1_200]],
            "a byte more is another run"
        );
        assert_eq!(runs(&[300, 300, 200, 200]), [vec![300, 300, 200], vec![200]]);
    }

    #[test]
    fn a_message_stays_within_the_kernels_limits() {
        let sizes: Vec<usize> = runs(&[100; 200]).iter().map(Vec::len).collect();
        assert_eq!(sizes, [64, 64, 64, 8]);
        assert_eq!(runs(&[2_000; 40])[0].len(), 32, "65,000 bytes");
    }

    #[test]
    fn another_viewer_is_another_message() {
        let mut outbox = outbox();
        for port in [9, 9, 10, 9] {
            outbox.copy(nowhere(port), &[0; 50]);
        }
        assert_eq!(outbox.lanes[0].messages.len(), 3);
    }

    #[test]
    fn a_datagram_taken_back_leaves_no_trace() {
        let mut outbox = outbox();
        let to = nowhere(9);
        outbox.datagram(to, 100);
        let before = outbox.lanes[0].messages.clone();
        outbox.datagram(to, 60);
        outbox.undo(60);
        assert_eq!((outbox.lanes[0].messages.clone(), outbox.used), (before, 100));
        outbox.undo(100);
        assert!(outbox.lanes[0].messages.is_empty());
    }

    #[test]
    fn a_full_arena_or_batch_is_sent_and_gathering_goes_on() {
        let mut outbox = outbox();
        let to = Route::udp(outbox.lanes[0].socket.as_ref().unwrap().local_address().unwrap());
        for size in 0..2_000 {
            outbox.datagram(to, 1_000 + size % 2);
        }
        outbox.flush();
        assert!(outbox.lanes[0].messages.is_empty() && outbox.used == 0);
        assert_eq!(outbox.counters.send_errors.get(), 0);
    }

    #[test]
    fn what_goes_out_by_another_socket_ends_a_message() {
        let bind = |address: &str| Arc::new(Socket::bind(address.parse().unwrap()).unwrap());
        let sockets = [bind("127.0.0.1:0"), bind("127.0.0.2:0")];
        let mut outbox = Outbox::new(&sockets, Arc::default());
        let first = nowhere(9);
        let second = Route { via: Via::Socket(1), ..first };
        for to in [first, second, second, first] {
            outbox.datagram(to, 50);
        }
        let places = |lane: usize| -> Vec<(usize, usize)> {
            outbox.lanes[lane].messages.iter().map(|message| (message.start, message.bytes)).collect()
        };
        assert_eq!(places(0), [(0, 50), (150, 50)], "not one message, for another lies between");
        assert_eq!(places(1), [(50, 100)]);
        outbox.undo(50);
        assert_eq!(outbox.lanes[0].messages.len(), 1);
    }
}
