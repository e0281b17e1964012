//! An interceptor nearest to the wire that sees every decrypted packet of a connection before `rtc` drops any.
//!
//! `rtc` hands RTCP to its user only in part; we want all of it. And it only logs what did not decrypt: what was fed in
//! and never came past here did not.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rtc::{
    interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket},
    rtcp::{self, transport_feedbacks::transport_layer_nack::TransportLayerNack},
    sansio::Protocol,
    shared::error::Error,
};

/// What came past the tap since it was last looked at.
#[derive(Default)]
pub(crate) struct Passed {
    /// RTCP from the peer.
    pub(crate) rtcp: Vec<Box<dyn rtcp::Packet>>,
    /// Datagrams from the peer that decrypted and parsed.
    pub(crate) datagrams_in: u64,
    /// NACKs to the peer.
    pub(crate) nacks_out: u64,
}

/// The reading end. A lock only because interceptors must be `Sync`: both ends are on one thread, so it is never
/// waited for.
#[derive(Clone, Default)]
pub(crate) struct Reader(Arc<Mutex<Passed>>);

impl Reader {
    /// Takes what came past.
    pub(crate) fn take(&self) -> Passed {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The interceptor.
#[derive(Default)]
pub(crate) struct Tap {
    passed: Reader,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Tap {
    pub(crate) fn new() -> (Self, Reader) {
        let tap = Self::default();
        let reader = tap.passed.clone();
        (tap, reader)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        let mut passed = self.passed.lock();
        passed.datagrams_in += 1;
        if let Packet::Rtcp(compound) = &packet.message.packet {
            passed.rtcp.extend(compound.iter().cloned());
        }
        drop(passed);
        self.reads.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(compound) = &packet.message.packet {
            let nacks = compound.iter().filter(|one| one.as_any().is::<TransportLayerNack>()).count();
            self.passed.lock().nacks_out += nacks as u64;
        }
        self.writes.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }

    fn handle_timeout(&mut self, _: Instant) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
