//! The first flights of a handshake, which need more care than DTLS gives them.

use std::time::{Duration, Instant};

use crate::{
    hello::{self, Offered},
    outbox::Outbox,
    route::Route,
};

/// The most datagrams of a client's first flight that are held; a browser's is two.
const MAX_HELD: usize = 16;
/// When our own first flight is sent again (ffmpeg discards it while it is not listening yet; DTLS itself would wait a
/// second).
const HELLO_AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];

/// A client's first flight, until it is known where to answer and what the client has.
#[derive(Default)]
pub(super) struct Held(Vec<Vec<u8>>);

impl Held {
    /// Keeps a datagram. One too many is dropped, and the client sends it again.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        if self.0.len() < MAX_HELD {
            self.0.push(datagram.to_vec());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the client has; `None` while parts of its hello are missing.
    pub(super) fn offered(&self) -> Option<Offered> {
        match hello::offered(&self.0) {
            None if self.0.len() < MAX_HELD => None,
            // If that much is not enough, it is for DTLS to refuse.
            None => Some(Offered { gcm: true, x25519: false }),
            offered => offered,
        }
    }

    /// Takes the flight out.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0)
    }
}

/// Our own first flight, while it is unanswered.
pub(super) struct Hello {
    flight: Vec<Vec<u8>>,
    sent: Instant,
    repeats: usize,
}

impl Hello {
    pub(super) fn new(flight: Vec<Vec<u8>>, now: Instant) -> Self {
        Self { flight, sent: now, repeats: 0 }
    }

    /// When to call [`Hello::repeat`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.sent + *HELLO_AGAIN.get(self.repeats)?)
    }

    /// Sends it again if that is due.
    pub(super) fn repeat(&mut self, now: Instant, to: Route, outbox: &mut Outbox) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.sent = now;
            self.repeats += 1;
            for datagram in &self.flight {
                outbox.copy(to, datagram);
            }
        }
    }
}
