//! A shard's TCP connections (ICE-TCP, RFC 6544), for clients whose network carries no UDP.
//!
//! They are treated as UDP is: what has no room is dropped and counted, and nobody waits for anybody.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Interest, Registry, Token, net::TcpStream};

use crate::{
    framing::{Deframer, LENGTH},
    quota::Seat,
};

/// Bytes that wait for a connection whose network is slower than what is sent, besides the kernel's buffer: about a
/// second of 2 Mb/s together. Further datagrams are dropped.
const MAX_WAITING_BYTES: usize = 128 << 10;
/// Bytes gathered before they are written, while the kernel takes them.
const WRITE_BYTES: usize = 16 << 10;
/// Bytes read from a connection at once, and how often a turn, so that one does not keep the others waiting.
const READ_BYTES: usize = 16 << 10;
const MAX_READS: usize = 4;
/// A connection by which nothing has come for this long is closed: clients check consent every 5 s.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// The connections of one shard.
pub(crate) struct Links {
    registry: Registry,
    /// Tokens below this are not ours.
    first_token: usize,
    links: HashMap<u32, Link>,
    next: u32,
    /// Those with something to write at the next flush.
    dirty: Vec<u32>,
    /// Those to be closed after it.
    closing: Vec<u32>,
    /// Those that may have more to read.
    readable: Vec<u32>,
}

struct Link {
    stream: TcpStream,
    remote: SocketAddr,
    inbound: Deframer,
    outbound: Vec<u8>,
    /// The kernel takes no more until the poll says so.
    blocked: bool,
    dirty: bool,
    readable: bool,
    heard: Instant,
    _seat: Seat,
}

/// A connection that has shown whose it is, on its way from the doorman to its shard.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    /// What it has sent so far: a whole datagram, at least.
    pub(crate) bytes: Vec<u8>,
    pub(crate) seat: Seat,
}

impl Links {
    pub(crate) fn new(registry: Registry, first_token: usize) -> Self {
        Self {
            registry,
            first_token,
            links: HashMap::new(),
            next: 0,
            dirty: Vec::new(),
            closing: Vec::new(),
            readable: Vec::new(),
        }
    }

    /// Takes a connection over. Returns its number and what it has sent.
    pub(crate) fn add(&mut self, now: Instant, mut arrival: Arrival) -> io::Result<(u32, Deframer)> {
        // Numbers come round after 4 billion connections; one that is still in use is passed over.
        while self.links.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let token = Token(self.first_token + number as usize);
        self.registry.register(&mut arrival.stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut inbound = Deframer::default();
        inbound.push(&arrival.bytes);
        let link = Link {
            stream: arrival.stream,
            remote: arrival.remote,
            inbound: Deframer::default(),
            outbound: Vec::new(),
            blocked: false,
            dirty: false,
            readable: true,
            heard: now,
            _seat: arrival.seat,
        };
        self.links.insert(number, link);
        // The poll tells of what comes from now on, and something may have come before.
        self.readable.push(number);
        Ok((number, inbound))
    }

    /// Where a connection leads to.
    pub(crate) fn remote(&self, number: u32) -> Option<SocketAddr> {
        Some(self.links.get(&number)?.remote)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Notes what the poll has said.
    pub(crate) fn event(&mut self, event: &mio::event::Event) {
        let number = event.token().0.wrapping_sub(self.first_token);
        let Some((number, link)) =
            u32::try_from(number).ok().and_then(|number| Some((number, self.links.get_mut(&number)?)))
        else {
            return;
        };
        if event.is_readable() && !std::mem::replace(&mut link.readable, true) {
            self.readable.push(number);
        }
        if event.is_writable() && std::mem::take(&mut link.blocked) {
            mark(&mut self.dirty, number, link);
        }
    }

    /// Whether there may be something to read.
    pub(crate) fn is_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Those that may have something to read, once.
    pub(crate) fn take_readable(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.readable)
    }

    /// Takes connections back that there was no time for: they are the first next time.
    pub(crate) fn put_off(&mut self, numbers: impl Iterator<Item = u32>) {
        let again = std::mem::take(&mut self.readable);
        self.readable.extend(numbers);
        self.readable.extend(again);
    }

    /// Reads what has come. The deframer is to be emptied and given back by [`Links::put_back`]. An error means that the
    /// connection is over.
    pub(crate) fn read(&mut self, number: u32, now: Instant) -> io::Result<Deframer> {
        let link = self.links.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        let mut inbound = std::mem::take(&mut link.inbound);
        let mut buffer = [0; READ_BYTES];
        link.readable = false;
        let mut again = false;
        for turn in 0..MAX_READS {
            match link.stream.read(&mut buffer) {
                // What came before the end counts: often it is a goodbye.
                Ok(0) if turn > 0 => {
                    again = true;
                    break;
                }
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    link.heard = now;
                    inbound.push(&buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            again = turn + 1 == MAX_READS;
        }
        if again {
            link.readable = true;
            self.readable.push(number);
        }
        Ok(inbound)
    }

    pub(crate) fn put_back(&mut self, number: u32, inbound: Deframer) {
        if let Some(link) = self.links.get_mut(&number) {
            link.inbound = inbound;
        }
    }

    /// Leaves a datagram to be sent. False if there is no room for it.
    pub(crate) fn send(&mut self, number: u32, datagram: &[u8]) -> bool {
        let Some(link) = self.links.get_mut(&number) else { return false };
        if link.outbound.len() >= WRITE_BYTES {
            link.write();
        }
        if link.outbound.len() + LENGTH + datagram.len() > MAX_WAITING_BYTES {
            return false;
        }
        // A datagram is never longer than its arena, but may be longer than a length can say.
        let Ok(length) = u16::try_from(datagram.len()) else { return false };
        link.outbound.extend_from_slice(&length.to_be_bytes());
        link.outbound.extend_from_slice(datagram);
        mark(&mut self.dirty, number, link);
        true
    }

    /// Writes what waits, as far as the kernel takes it.
    pub(crate) fn flush(&mut self) {
        for number in self.dirty.drain(..) {
            if let Some(link) = self.links.get_mut(&number) {
                link.dirty = false;
                link.write();
            }
        }
        for number in self.closing.drain(..) {
            self.links.remove(&number);
        }
    }

    /// Closes a connection once what waits was written, as far as that goes without waiting.
    pub(crate) fn close(&mut self, number: u32) {
        self.closing.push(number);
    }

    /// Those that have been silent for too long.
    pub(crate) fn idle(&self, now: Instant) -> Vec<u32> {
        let silent = |link: &Link| now.saturating_duration_since(link.heard) >= MAX_IDLE;
        self.links.iter().filter(|(_, link)| silent(link)).map(|(number, _)| *number).collect()
    }
}

fn mark(dirty: &mut Vec<u32>, number: u32, link: &mut Link) {
    if !std::mem::replace(&mut link.dirty, true) {
        dirty.push(number);
    }
}

impl Link {
    fn write(&mut self) {
        let mut written = 0;
        while !self.blocked && written < self.outbound.len() {
            match self.stream.write(&self.outbound[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Any other error shows itself to whoever reads.
                Err(_) => self.blocked = true,
            }
        }
        self.outbound.drain(..written);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::Quota;

    const FIRST_TOKEN: usize = 9;

    /// A connection of ours, and its other end.
    fn connect(links: &mut Links, now: Instant) -> (u32, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, remote) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let seat = Quota::new(1, 1).take(None).unwrap();
        let arrival = Arrival { stream: TcpStream::from_std(ours), remote, bytes: b"\0\x01x".to_vec(), seat };
        let (number, mut inbound) = links.add(now, arrival).unwrap();
        assert_eq!(inbound.next(), Ok(Some(&b"x"[..])), "what it had sent before");
        (number, theirs)
    }

    fn links() -> (mio::Poll, Links) {
        let poll = mio::Poll::new().unwrap();
        let links = Links::new(poll.registry().try_clone().unwrap(), FIRST_TOKEN);
        (poll, links)
    }

    #[test]
    fn a_connection_that_takes_nothing_loses_datagrams_whole_and_keeps_nobody_waiting() {
        let (mut poll, mut links) = links();
        let (slow, mut theirs) = connect(&mut links, Instant::now());
        let (quick, mut others) = connect(&mut links, Instant::now());
        let mut sent = 0_u64;
        while links.send(slow, &[sent as u8; 1_200]) {
            sent += 1;
            links.flush();
            assert!(sent < 100_000, "the kernel takes all of it");
        }
        assert!(links.links[&slow].outbound.len() <= MAX_WAITING_BYTES);
        assert!(links.send(quick, b"other"));
        links.flush();
        let mut frame = [0; 7];
        others.read_exact(&mut frame).unwrap();
        assert_eq!(frame, *b"\0\x05other");

        // It takes again, and finds each datagram that had room whole and in order.
        let reader = std::thread::spawn(move || {
            let mut frame = [0; LENGTH + 1_200];
            for number in 0..sent {
                theirs.read_exact(&mut frame).unwrap();
                assert_eq!((frame[..LENGTH].to_vec(), frame[LENGTH]), (vec![4, 176], number as u8));
            }
        });
        let mut events = mio::Events::with_capacity(8);
        while !links.links[&slow].outbound.is_empty() {
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            assert!(!events.is_empty(), "the poll says when there is room");
            events.iter().for_each(|event| links.event(event));
            links.flush();
        }
        reader.join().unwrap();
    }

    #[test]
    fn the_last_words_are_heard_before_the_end_and_the_silent_are_found() {
        let (_poll, mut links) = links();
        let start = Instant::now();
        let (number, mut theirs) = connect(&mut links, start);
        theirs.write_all(b"\0\x03bye").unwrap();
        drop(theirs);
        // Both lie in the kernel by now: loopback delivers while the sender writes.
        let mut inbound = links.read(number, start).unwrap();
        assert_eq!(inbound.next(), Ok(Some(&b"bye"[..])));
        links.put_back(number, inbound);
        assert!(links.read(number, start).is_err());

        assert!(links.idle(start + MAX_IDLE - Duration::from_millis(1)).is_empty());
        assert_eq!(links.idle(start + MAX_IDLE), [number]);
        links.close(number);
        links.flush();
        assert_eq!((links.len(), links.remote(number)), (0, None));
        assert!(!links.send(number, b"late"));
    }
}
