//! The one port for TCP (ICE-TCP, RFC 6544): takes connections, waits for the first datagram of each, which must be a
//! check that names a session of ours, and hands the connection to that session's shard.
//!
//! A thread of its own, so that no flood of connections keeps a shard from its work.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, TcpStream},
};

use crate::{
    Quota, Seat,
    framing::{Deframer, LENGTH},
    links::Arrival,
    mailbox::{Command, Mailbox},
    stats::Counters,
    stun,
};

/// TCP connections at once; more are closed at once. Well below the open files of a usual service.
const MAX_LINKS: usize = 4_096;
/// Of them, those of one client address (an IPv6 network of 64 bits).
const MAX_LINKS_EACH: usize = 256;
/// Connections that have not shown whose they are. At one more, the oldest is closed, for the newest is likeliest to be
/// somebody's; one client may have only a part of them.
const MAX_VISITORS: usize = 256;
const MAX_VISITORS_EACH: usize = 32;
/// How long a connection may take to send its first datagram.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// The longest first datagram. A browser's check is 100 to 150 bytes.
const MAX_CHECK: usize = 1_024;
/// How long to wait after the system has refused to give a connection (for want of files, usually).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Tokens below are the listeners, by their place; those above, visitors.
const WAKE: Token = Token(usize::MAX);

/// The thread's state.
pub(crate) struct Doorman {
    poll: Poll,
    listeners: Vec<TcpListener>,
    /// There may be more to accept: the poll tells only once.
    acceptable: bool,
    /// By token, so by age.
    visitors: BTreeMap<usize, Visitor>,
    next_token: usize,
    places: Quota,
    waiting_places: Quota,
    shards: Vec<Arc<Mailbox>>,
    counters: Arc<Counters>,
    stopped: Arc<AtomicBool>,
}

/// A connection that has not shown whose it is.
struct Visitor {
    stream: TcpStream,
    remote: SocketAddr,
    bytes: Vec<u8>,
    until: Instant,
    seat: Seat,
    _waiting_seat: Seat,
}

/// Stops the thread.
pub(crate) struct Bell {
    waker: Waker,
    stopped: Arc<AtomicBool>,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Fails only if the thread's poll is gone, and so is the thread.
        let _: io::Result<()> = self.waker.wake();
    }
}

/// What is to be done with a visitor, as far as its bytes tell.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// Its first datagram is not whole.
    Wait,
    /// To this shard.
    Shard(usize),
    /// It is nobody's.
    Refuse,
}

impl Doorman {
    /// `counters` are where refusals are counted.
    pub(crate) fn new(
        mut listeners: Vec<TcpListener>,
        shards: Vec<Arc<Mailbox>>,
        counters: Arc<Counters>,
    ) -> io::Result<(Self, Bell)> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(index), Interest::READABLE)?;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let bell = Bell { waker: Waker::new(poll.registry(), WAKE)?, stopped: stopped.clone() };
        let doorman = Self {
            poll,
            acceptable: true,
            visitors: BTreeMap::new(),
            next_token: listeners.len(),
            listeners,
            places: Quota::new(MAX_LINKS, MAX_LINKS_EACH),
            waiting_places: Quota::new(usize::MAX, MAX_VISITORS_EACH),
            shards,
            counters,
            stopped,
        };
        Ok((doorman, bell))
    }

    /// The thread's whole life.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        while !self.stopped.load(Ordering::Relaxed) {
            // Interrupted by a signal, it is as if the time were up.
            let _ = self.poll.poll(&mut events, self.timeout());
            let now = Instant::now();
            for event in events.iter() {
                match event.token().0 {
                    token if token < self.listeners.len() => self.acceptable = true,
                    token => self.look_at(token),
                }
            }
            self.accept(now);
            self.send_away_the_late(now);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let first = self.visitors.values().next();
        let late = first.map(|visitor| visitor.until.saturating_duration_since(Instant::now()));
        let again = self.acceptable.then_some(ACCEPT_AGAIN);
        late.into_iter().chain(again).min()
    }

    fn accept(&mut self, now: Instant) {
        if !self.acceptable {
            return;
        }
        self.acceptable = false;
        for index in 0..self.listeners.len() {
            loop {
                match self.listeners[index].accept() {
                    Ok((stream, remote)) => self.welcome(now, stream, remote),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                        ) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a TCP connection could not be taken");
                        self.acceptable = true;
                        break;
                    }
                }
            }
        }
    }

    fn welcome(&mut self, now: Instant, mut stream: TcpStream, remote: SocketAddr) {
        // This machine is not limited: who measures would look like one greedy client.
        let client = Some(remote.ip()).filter(|ip| !ip.is_loopback());
        let (Ok(seat), Ok(waiting_seat)) = (self.places.take(client), self.waiting_places.take(client))
        else {
            self.counters.tcp_refused.add(1);
            return;
        };
        if self.visitors.len() == MAX_VISITORS {
            self.visitors.pop_first();
            self.counters.tcp_refused.add(1);
        }
        let token = self.next_token;
        self.next_token += 1;
        let registered = self.poll.registry().register(&mut stream, Token(token), Interest::READABLE);
        // Datagrams are whole and wanted at once: none waits for the next (RFC 6544, 10).
        if registered.is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let visitor = Visitor {
            stream,
            remote,
            bytes: Vec::new(),
            until: now + MAX_WAIT,
            seat,
            _waiting_seat: waiting_seat,
        };
        self.visitors.insert(token, visitor);
        // The poll tells of what comes from now on.
        self.look_at(token);
    }

    fn look_at(&mut self, token: usize) {
        let Some(visitor) = self.visitors.get_mut(&token) else { return };
        let finding = match visitor.read() {
            Ok(()) => find(&visitor.bytes, self.shards.len()),
            Err(_) => Finding::Refuse,
        };
        if finding == Finding::Wait {
            return;
        }
        let Some(mut visitor) = self.visitors.remove(&token) else { return };
        let Finding::Shard(shard) = finding else {
            self.counters.tcp_refused.add(1);
            return;
        };
        if self.poll.registry().deregister(&mut visitor.stream).is_ok() {
            let Visitor { stream, remote, bytes, seat, .. } = visitor;
            // A shard that is gone or has too much to do drops it, and the client comes again.
            self.shards[shard].command(Command::Link(Box::new(Arrival { stream, remote, bytes, seat })));
        }
    }

    fn send_away_the_late(&mut self, now: Instant) {
        while let Some(first) = self.visitors.first_entry()
            && first.get().until <= now
        {
            first.remove();
            self.counters.tcp_refused.add(1);
        }
    }
}

impl Visitor {
    /// Reads what has come, as long as it may still be a first datagram.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; LENGTH + MAX_CHECK];
        while self.bytes.len() < buffer.len() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What a visitor's first bytes say.
fn find(bytes: &[u8], shards: usize) -> Finding {
    let Some((head, _)) = bytes.split_first_chunk::<LENGTH>() else { return Finding::Wait };
    if usize::from(u16::from_be_bytes(*head)) > MAX_CHECK {
        return Finding::Refuse;
    }
    let mut deframer = Deframer::default();
    deframer.push(bytes);
    let datagram = match deframer.next() {
        Ok(Some(datagram)) => datagram,
        Ok(None) => return Finding::Wait,
        Err(_) => return Finding::Refuse,
    };
    if stun::kind(datagram) != stun::Kind::Stun {
        return Finding::Refuse;
    }
    // Our half of the name begins with its shard's number, as two hexadecimal digits.
    let shard = stun::Check::parse(datagram)
        .and_then(|check| usize::from_str_radix(check.ufrag.get(..2)?, 16).ok())
        .filter(|shard| *shard < shards);
    shard.map_or(Finding::Refuse, Finding::Shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check of somebody who calls us `ufrag`, in its frame.
    fn check(ufrag: &str) -> Vec<u8> {
        let name = format!("{ufrag}:abcd");
        let mut value = name.clone().into_bytes();
        value.resize(value.len().next_multiple_of(4), 0);
        let mut message = vec![0, 1, 0, (value.len() + 4) as u8, 0x21, 0x12, 0xA4, 0x42];
        message.extend([0; 12]);
        message.extend([0, 6, 0, name.len() as u8]);
        message.extend(value);
        [&(message.len() as u16).to_be_bytes(), &message[..]].concat()
    }

    #[test]
    fn the_first_datagram_names_the_shard() {
        assert_eq!(find(&check("01ffee"), 2), Finding::Shard(1));
        assert_eq!(find(&[check("00ffee"), vec![9; 40]].concat(), 2), Finding::Shard(0), "more behind it");
        assert_eq!(find(&check("02ffee"), 2), Finding::Refuse, "no such shard");
        assert_eq!(find(&check("zz"), 2), Finding::Refuse);
        assert_eq!(find(&check(""), 2), Finding::Refuse);
    }

    #[test]
    fn what_is_not_whole_is_waited_for_and_what_is_no_check_is_not() {
        let whole = check("00ffee");
        for length in 0..whole.len() {
            assert_eq!(find(&whole[..length], 1), Finding::Wait, "{length} bytes");
        }
        for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 4, 22, 1, 2, 3], &[0, 3, 1, 2, 3], &[0xFF; 4]] {
            assert_eq!(find(noise, 1), Finding::Refuse, "{noise:?}");
        }
    }
}
