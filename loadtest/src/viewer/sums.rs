//! What is counted of a viewer's session.

use std::time::{Duration, Instant};

use crate::{clip::LAYERS, reception::Counts};

/// What is counted of a session, and what of it stays when it is over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) picture: Counts,
    pub(crate) sound: Counts,
    pub(crate) expected: u64,
    pub(crate) lost: u64,
    pub(crate) bytes: u64,
    pub(crate) rtx: u64,
    pub(crate) plis: u64,
    pub(crate) decrypted: u64,
    pub(crate) decrypt_errors: u64,
    pub(crate) watched: Duration,
    pub(crate) connected: Duration,
    pub(crate) other_clock: u64,
    /// Datagrams that came while the network was gone.
    pub(crate) discarded: u64,
    pub(crate) freezes: u64,
    pub(crate) frozen: Duration,
    /// For how long stamped pictures were looked at, and came late.
    pub(crate) stamped: Duration,
    pub(crate) late: Duration,
    /// RTP datagrams that came, whatever became of them.
    pub(crate) arrived: u64,
    /// Of each of the publisher's layers.
    pub(crate) layers: [Share; LAYERS.len()],
}

/// What a viewer has had of a layer: bytes, and for how long.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

/// Interarrival jitter of the picture, in its clock (RFC 3550, 6.4.1).
#[derive(Debug, Default)]
pub(super) struct Jitter {
    last: Option<(Instant, u32)>,
    pub(super) value: f64,
}

impl Jitter {
    pub(super) fn arrive(&mut self, timestamp: u32, now: Instant) {
        if let Some((at, before)) = self.last {
            let passed = (now - at).as_secs_f64() * 90_000.0;
            let difference = (passed - f64::from(timestamp.wrapping_sub(before) as i32)).abs();
            self.value += (difference - self.value) / 16.0;
        }
        self.last = Some((now, timestamp));
    }
}
