//! Everything a shard sends in a turn: datagrams are written one behind the other into one arena, and those of equal
//! size to one address become one message, which the kernel cuts up again (UDP GSO). One system call takes many.

use std::{net::SocketAddr, sync::Arc};

use crate::{
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
    socket: Arc<Socket>,
    arena: Box<[u8]>,
    used: usize,
    messages: Vec<Message>,
    counters: Arc<Counters>,
}

impl Outbox {
    pub(crate) fn new(socket: Arc<Socket>, counters: Arc<Counters>) -> Self {
        Self {
            socket,
            arena: vec![0; ARENA_BYTES].into(),
            used: 0,
            messages: Vec::with_capacity(SEND_BATCH),
            counters,
        }
    }

    /// Room for the next datagram to `to`, of exactly `bytes` bytes, which are to be overwritten.
    pub(crate) fn datagram(&mut self, to: SocketAddr, bytes: usize) -> &mut [u8] {
        debug_assert!(bytes > 0, "an empty datagram is no segment");
        if self.used + bytes > ARENA_BYTES {
            self.flush();
        }
        let start = self.used;
        match self.messages.last_mut() {
            Some(last) if extends(last, to, bytes) => last.bytes += bytes,
            _ => {
                if self.messages.len() == SEND_BATCH {
                    self.flush();
                    return self.datagram(to, bytes);
                }
                self.messages.push(Message { to, start, bytes, segment: bytes });
            }
        }
        self.used = start + bytes;
        &mut self.arena[start..start + bytes]
    }

    /// Takes the last datagram back.
    pub(crate) fn undo(&mut self, bytes: usize) {
        self.used -= bytes;
        if let Some(last) = self.messages.last_mut() {
            last.bytes -= bytes;
            if last.bytes == 0 {
                self.messages.pop();
            }
        }
    }

    /// A datagram that is there already.
    pub(crate) fn copy(&mut self, to: SocketAddr, datagram: &[u8]) {
        if (1..=MAX_DATAGRAM).contains(&datagram.len()) {
            self.datagram(to, datagram.len()).copy_from_slice(datagram);
        }
    }

    /// Sends all that was gathered.
    pub(crate) fn flush(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let sent = self.socket.send(&self.arena, &self.messages);
        self.counters.send_full.add(sent.full);
        self.counters.send_errors.add(sent.errors);
        self.counters.gso_refused.add(sent.unsegmented);
        self.messages.clear();
        self.used = 0;
    }
}

/// Whether a datagram of `bytes` bytes can be the next segment of `message`: all are as long as the first, except that
/// the last may be shorter.
fn extends(message: &Message, to: SocketAddr, bytes: usize) -> bool {
    let whole = message.bytes.is_multiple_of(message.segment);
    message.to == to
        && whole
        && bytes <= message.segment
        && message.datagrams() < MAX_SEGMENTS
        && message.bytes + bytes <= MAX_MESSAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Outbox::new(Arc::new(socket), Arc::default())
    }

    /// The messages that datagrams of these sizes become: sizes of their segments.
    fn runs(sizes: &[usize]) -> Vec<Vec<usize>> {
        let mut outbox = outbox();
        for size in sizes {
            outbox.datagram("127.0.0.1:9".parse().unwrap(), *size);
        }
        let cut = |message: &Message| {
            outbox.arena[message.start..][..message.bytes].chunks(message.segment).map(<[u8]>::len).collect()
        };
        outbox.messages.iter().map(cut).collect()
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
            outbox.copy(SocketAddr::from(([127, 0, 0, 1], port)), &[0; 50]);
        }
        assert_eq!(outbox.messages.len(), 3);
    }

    #[test]
    fn a_datagram_taken_back_leaves_no_trace() {
        let mut outbox = outbox();
        let to = "127.0.0.1:9".parse().unwrap();
        outbox.datagram(to, 100);
        let before = outbox.messages.clone();
        outbox.datagram(to, 60);
        outbox.undo(60);
        assert_eq!((outbox.messages.clone(), outbox.used), (before, 100));
        outbox.undo(100);
        assert!(outbox.messages.is_empty());
    }

    #[test]
    fn a_full_arena_or_batch_is_sent_and_gathering_goes_on() {
        let mut outbox = outbox();
        let to = outbox.socket.local_address().unwrap();
        for size in 0..2_000 {
            outbox.datagram(to, 1_000 + size % 2);
        }
        outbox.flush();
        assert!(outbox.messages.is_empty() && outbox.used == 0);
        assert_eq!(outbox.counters.send_errors.get(), 0);
    }
}
