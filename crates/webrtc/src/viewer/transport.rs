//! What is sent to one viewer, all streams together, and what the viewer says of it: the input of its bandwidth estimate.

use std::time::{Duration, Instant};

use haul_media::{Estimator, bandwidth::Run};
use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TYPE_TCC_DELTA_SCALE_FACTOR, TransportLayerCc,
};

/// Estimates are careful: a little more than that may be on its way.
const SPEND: (u64, u64) = (5, 4);

/// The transport of a viewer. What each frame touches comes first.
#[repr(C)]
pub(super) struct Transport {
    /// The next packet's number, extended.
    next: u64,
    /// What may be sent of pictures, worked out anew whenever the estimate moves: each frame asks for it.
    spendable_bps: Option<u64>,
    /// Whether the viewer gives feedback, so that runs are worth recording.
    pub(super) has_feedback: bool,
    /// How much fits.
    estimator: Estimator,
}

impl Transport {
    pub(super) fn new(now: Instant, has_feedback: bool) -> Self {
        Self { next: 1, spendable_bps: None, has_feedback, estimator: Estimator::new(now) }
    }

    /// The number of the next packet, extended.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// What is known of the viewer's network.
    pub(super) fn estimator(&self) -> &Estimator {
        &self.estimator
    }

    /// What may be sent of pictures; `None` where nothing is known of what arrives.
    #[inline]
    pub(super) fn spendable_bps(&self) -> Option<u64> {
        self.spendable_bps
    }

    /// So many packets with consecutive numbers were sent in one burst.
    #[inline]
    pub(super) fn sent(&mut self, now: Instant, packets: usize, bytes: usize) {
        let run = Run { first: self.next, packets: packets as u32, bytes: bytes as u32, at: now };
        self.next += packets as u64;
        if self.has_feedback {
            self.estimator.sent(run);
        }
    }

    /// What is sent from now on and for so long goes out in a burst.
    pub(super) fn burst(&mut self, now: Instant, lasts: Duration) {
        if self.has_feedback {
            self.estimator.burst(now, lasts);
        }
    }

    /// How many bytes of padding are due.
    pub(super) fn padding(&mut self, now: Instant) -> usize {
        self.estimator.handle_timeout(now);
        self.reckon();
        self.estimator.padding(now)
    }

    /// Begins to find out whether the network carries so much.
    pub(super) fn probe(&mut self, now: Instant, target_bps: u64) {
        self.estimator.probe(now, target_bps);
    }

    /// Takes the viewer's own estimate (REMB).
    pub(super) fn remb(&mut self, now: Instant, bitrate_bps: u64) {
        self.estimator.remb(now, bitrate_bps);
        self.reckon();
    }

    /// Takes the share that a receiver report says was lost, of 256.
    pub(super) fn loss_report(&mut self, now: Instant, round_trip: Duration, share: u8, sending_bps: u64) {
        self.estimator.loss_report(now, round_trip, share, sending_bps);
        self.reckon();
    }

    /// The viewer is there, and has nothing to give feedback on.
    pub(super) fn heard_of(&mut self, now: Instant) {
        self.estimator.heard_of(now);
    }

    /// Takes feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).
    pub(super) fn feedback(&mut self, now: Instant, round_trip: Duration, feedback: &TransportLayerCc) {
        let mut deltas =
            feedback.recv_deltas.iter().map(|delta| (delta.delta / TYPE_TCC_DELTA_SCALE_FACTOR) as i16);
        let arrivals = statuses(feedback).map(|status| match status {
            SymbolTypeTcc::PacketNotReceived => None,
            SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta => {
                deltas.next()
            }
            // It came, nobody knows when: as good as with the one before.
            SymbolTypeTcc::PacketReceivedWithoutDelta => Some(0),
        });
        let (base, reference) = (feedback.base_sequence_number, feedback.reference_time);
        self.estimator.feedback(now, round_trip, base, reference, arrivals);
        self.reckon();
    }

    fn reckon(&mut self) {
        let arrives = self.estimator.received_bps().filter(|_| self.has_feedback);
        let (times, of) = SPEND;
        self.spendable_bps = arrives.map(|_| self.estimator.bitrate_bps() * times / of);
    }
}

/// The status of each packet that feedback speaks of. The last chunk may have room for more than there are.
fn statuses(feedback: &TransportLayerCc) -> impl Iterator<Item = SymbolTypeTcc> {
    let count = usize::from(feedback.packet_status_count);
    let chunks = feedback.packet_chunks.iter().flat_map(|chunk| {
        let (run, list) = match chunk {
            PacketStatusChunk::RunLengthChunk(run) => (usize::from(run.run_length), &[][..]),
            PacketStatusChunk::StatusVectorChunk(vector) => (0, &vector.symbol_list[..]),
        };
        let symbol = match chunk {
            PacketStatusChunk::RunLengthChunk(run) => run.packet_status_symbol,
            PacketStatusChunk::StatusVectorChunk(_) => SymbolTypeTcc::PacketNotReceived,
        };
        std::iter::repeat_n(symbol, run).chain(list.iter().copied())
    });
    chunks.take(count)
}

#[cfg(test)]
mod tests {
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        RunLengthChunk, StatusVectorChunk, SymbolSizeTypeTcc,
    };

    use super::*;

    #[test]
    fn statuses_are_read_in_turn_and_no_more_than_there_are() {
        let run = RunLengthChunk {
            packet_status_symbol: SymbolTypeTcc::PacketReceivedSmallDelta,
            run_length: 2,
            ..RunLengthChunk::default()
        };
        let vector = StatusVectorChunk {
            symbol_size: SymbolSizeTypeTcc::OneBit,
            symbol_list: vec![SymbolTypeTcc::PacketNotReceived; 14],
            ..StatusVectorChunk::default()
        };
        let feedback = TransportLayerCc {
            packet_status_count: 5,
            packet_chunks: vec![
                PacketStatusChunk::RunLengthChunk(run),
                PacketStatusChunk::StatusVectorChunk(vector),
            ],
            ..TransportLayerCc::default()
        };
        let came = SymbolTypeTcc::PacketReceivedSmallDelta;
        let lost = SymbolTypeTcc::PacketNotReceived;
        assert_eq!(statuses(&feedback).collect::<Vec<_>>(), [came, came, lost, lost, lost]);
    }
}
