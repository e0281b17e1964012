//! What a shard receives: batches from its sockets, each datagram to the session it belongs to.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{MAX_SLEEP, Shard};
use crate::{
    framing::{Deframer, TooLong},
    links::{Arrival, Links},
    peer::Proof,
    route::{MAX_SOCKETS, Route, Via},
    slab::Key,
    socket::{self, Inbox},
    stun,
};

/// How many batches of datagrams are taken from a socket a turn at most, so that a flood does not keep frames waiting.
const MAX_BATCHES: usize = 16;

impl Shard {
    /// Sleeps until something comes or is due.
    pub(super) fn wait(&mut self, ready: &mut mio::Events) {
        let next = self.timers.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let mut timeout = next.map_or(MAX_SLEEP, |next| next.min(MAX_SLEEP));
        let links = self.outbox.links.as_ref().is_some_and(Links::is_readable);
        let behind = !self.touched.is_empty() || !self.commands.is_empty() || self.anteroom.len() > 0;
        let busy = links || behind || !self.turns.is_empty() || self.ports.iter().any(|port| port.readable);
        if busy || !self.mailbox.sleep() {
            timeout = Duration::ZERO;
        }
        let Self { ports, poll, outbox, .. } = self;
        let mut readable = [false; MAX_SOCKETS];
        let sockets = ports.iter().map(|port| &*port.socket);
        if socket::wait(sockets, poll, timeout, |place| readable[place] = true) {
            // Fails if a signal comes, and then it is told again.
            let _ = poll.poll(ready, Some(Duration::ZERO));
            if let Some(links) = &mut outbox.links {
                ready.iter().for_each(|event| links.event(event));
            }
        }
        for (port, readable) in ports.iter_mut().zip(readable) {
            port.readable |= readable;
        }
    }

    /// Takes what has come to each socket.
    pub(super) fn receive(&mut self, inbox: &mut Inbox) {
        for index in 0..self.ports.len() {
            let mut share = self.share();
            for _ in 0..MAX_BATCHES {
                let port = &mut self.ports[index];
                if !port.readable || !share.has_time(Instant::now()) {
                    break;
                }
                if let Err(error) = port.socket.receive(inbox) {
                    // Any other error leaves what is there to the next turn.
                    port.readable = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
                let mut bytes = 0;
                for place in 0..inbox.len() {
                    let Some((datagram, remote)) = inbox.datagram(place) else { continue };
                    bytes += datagram.len() as u64;
                    self.route(datagram, Route { remote, via: Via::Socket(index as u8) });
                }
                self.counters.datagrams_in.add(inbox.len() as u64);
                self.counters.datagram_bytes_in.add(bytes);
            }
        }
    }

    /// Takes what has come by TCP.
    pub(super) fn receive_links(&mut self) {
        let mut share = self.share();
        let Some(links) = &mut self.outbox.links else { return };
        let mut numbers = links.take_readable().into_iter();
        while share.has_time(Instant::now())
            && let Some(number) = numbers.next()
        {
            let Some(links) = &mut self.outbox.links else { return };
            match links.read(number, self.now.instant) {
                Ok(inbound) => self.unframe(number, inbound),
                Err(_) => self.lose_link(number),
            }
        }
        if let Some(links) = &mut self.outbox.links {
            links.put_off(numbers);
        }
    }

    /// Takes over a connection whose first datagram is a check for a session of ours. If it does not prove to be that
    /// session's, it is closed again.
    pub(super) fn welcome(&mut self, arrival: Arrival) {
        let remote = arrival.remote;
        let Some(links) = &mut self.outbox.links else { return };
        let Ok((number, inbound)) = links.add(self.now.instant, arrival) else { return };
        self.unframe(number, inbound);
        if !self.by_route.contains_key(&Route { remote, via: Via::Link(number) }) {
            self.counters.tcp_refused.add(1);
            self.lose_link(number);
        }
    }

    /// Closes connections that are of no use any more.
    pub(super) fn close_idle_links(&mut self) {
        let Some(links) = &self.outbox.links else { return };
        self.counters.tcp_links.set(links.len() as u64);
        for number in links.idle(self.now.instant) {
            self.lose_link(number);
        }
    }

    fn unframe(&mut self, number: u32, mut inbound: Deframer) {
        let Some(remote) = self.outbox.links.as_ref().and_then(|links| links.remote(number)) else { return };
        let route = Route { remote, via: Via::Link(number) };
        loop {
            match inbound.next() {
                Ok(Some(datagram)) => {
                    self.counters.datagrams_in.add(1);
                    self.counters.datagram_bytes_in.add(datagram.len() as u64);
                    self.route(datagram, route);
                }
                Ok(None) => break,
                Err(TooLong) => {
                    self.counters.datagrams_malformed.add(1);
                    return self.lose_link(number);
                }
            }
        }
        if let Some(links) = &mut self.outbox.links {
            links.put_back(number, inbound);
        }
    }

    /// Closes the connection that a route goes by, if it is one.
    pub(super) fn close_link(&mut self, route: Route) {
        if let (Via::Link(number), Some(links)) = (route.via, &mut self.outbox.links) {
            links.close(number);
        }
    }

    /// A connection is over: nobody is found by it any more. Its session goes on as long as it is heard of elsewhere.
    fn lose_link(&mut self, number: u32) {
        let Some(links) = &mut self.outbox.links else { return };
        let remote = links.remote(number);
        links.close(number);
        let Some(route) = remote.map(|remote| Route { remote, via: Via::Link(number) }) else { return };
        if let Some(key) = self.by_route.remove(&route)
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.peer.lose(route);
        }
    }

    /// Finds a datagram's session: by its address, or, for the checks that make addresses known, by the name in it.
    fn route(&mut self, datagram: &[u8], from: Route) {
        let kind = stun::kind(datagram);
        if kind == stun::Kind::Unknown {
            self.counters.datagrams_malformed.add(1);
            return;
        }
        if let (stun::Kind::Stun, Some(check)) = (kind, stun::Check::parse(datagram)) {
            self.check(datagram, from, check);
            return;
        }
        let Some(key) = self.by_route.get(&from).copied() else {
            self.counters.datagrams_unrouted.add(1);
            return;
        };
        self.take(key, from, datagram);
    }

    /// Takes a session's datagram: at once if it is connected, and when there is time if it is not.
    fn take(&mut self, key: Key, from: Route, datagram: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.connected && !self.anteroom.has(key) {
            self.deliver(key, from, datagram);
        } else if !self.anteroom.push(key, from, datagram) {
            self.counters.datagrams_crowded.add(1);
        }
    }

    /// Gives a session its datagram.
    pub(super) fn deliver(&mut self, key: Key, from: Route, datagram: &[u8]) {
        let (now, kind) = (self.now.instant, stun::kind(datagram));
        let mut retired = None;
        self.with(key, |session, tools| match kind {
            stun::Kind::Stun => match stun::Check::parse(datagram) {
                Some(check) => retired = session.peer.check(now, from, datagram, check, tools.outbox),
                None => session.peer.stun(now, from, datagram),
            },
            stun::Kind::Dtls => session.peer.dtls(now, from, datagram),
            _ => session.peer.srtp(now, from, datagram),
        });
        if let Some(ufrag) = retired {
            self.counters.ice_restarts.add(1);
            self.by_ufrag.remove(&ufrag);
        }
    }

    /// A connectivity check: if it is authentic, its address is the session's from now on.
    fn check(&mut self, datagram: &[u8], from: Route, check: stun::Check<'_>) {
        let Some(key) = self.by_ufrag.get(check.ufrag).copied() else {
            self.counters.datagrams_unrouted.add(1);
            return;
        };
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Proof::Good { forgotten } = session.peer.prove(from, datagram, check) else {
            self.counters.stun_rejected.add(1);
            return;
        };
        if let Some(route) = forgotten
            && self.by_route.get(&route) == Some(&key)
        {
            self.by_route.remove(&route);
            self.close_link(route);
        }
        // An address may pass from one session to another (a NAT that reuses its ports): the last who proved it has it.
        self.by_route.insert(from, key);
        self.take(key, from, datagram);
    }
}
