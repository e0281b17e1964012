//! Feedback about packets of all streams, by which a server finds out what the way to a viewer can carry
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).

use std::time::Instant;

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc, SymbolTypeTcc,
    TransportLayerCc,
};

use crate::rtp;

/// Packets reported at once at most; older ones are forgotten.
const MAX_PACKETS: usize = 1_000;
/// The unit of the reference time and of times between packets.
const REFERENCE_US: i64 = 64_000;
const DELTA_US: i64 = 250;
/// Symbols of two bits in a chunk.
const SYMBOLS: usize = 7;

/// What has arrived since the last feedback.
#[derive(Debug, Default)]
pub(crate) struct Feedback {
    start: Option<Instant>,
    arrived: Vec<(u64, Instant)>,
    highest: Option<u64>,
    /// The first number that the next feedback is about.
    next: Option<u64>,
    count: u8,
}

impl Feedback {
    /// A packet has come, with its number over all streams.
    pub(crate) fn arrive(&mut self, number: u16, now: Instant) {
        self.start.get_or_insert(now);
        // From beyond the first wrap, so that an early packet that was overtaken stays above zero.
        let number = rtp::unwrap(self.highest.unwrap_or(0x1_0000 + u64::from(number)), number);
        self.highest = Some(self.highest.map_or(number, |highest| highest.max(number)));
        if self.arrived.len() < MAX_PACKETS && self.next.is_none_or(|next| number >= next) {
            self.arrived.push((number, now));
        }
    }

    /// The feedback that is due; `None` if nothing has come.
    pub(crate) fn take(&mut self, media_ssrc: u32) -> Option<TransportLayerCc> {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_unstable_by_key(|(number, _)| *number);
        arrived.dedup_by_key(|(number, _)| *number);
        let (first, last) = (self.next.unwrap_or(arrived.first()?.0), arrived.last()?.0);
        // After an outage, only what is near the end is told: the rest was lost long ago.
        let first = first.max((last + 1).saturating_sub(MAX_PACKETS as u64));
        arrived.retain(|(number, _)| *number >= first);
        self.next = Some(last + 1);
        let since = |at: Instant| (at - self.start.unwrap_or(at)).as_micros() as i64;
        let reference = since(arrived.first()?.1) / REFERENCE_US;
        let (mut symbols, mut deltas, mut before) = (Vec::new(), Vec::new(), reference * REFERENCE_US);
        let mut arrivals = arrived.iter().peekable();
        for number in first..=last {
            let Some((_, at)) = arrivals.next_if(|(arrived, _)| *arrived == number) else {
                symbols.push(SymbolTypeTcc::PacketNotReceived);
                continue;
            };
            let units = (since(*at) - before) / DELTA_US;
            let symbol = match units {
                0..=255 => SymbolTypeTcc::PacketReceivedSmallDelta,
                _ => SymbolTypeTcc::PacketReceivedLargeDelta,
            };
            let units = units.clamp(i64::from(i16::MIN), i64::from(i16::MAX));
            before += units * DELTA_US;
            symbols.push(symbol);
            deltas.push(RecvDelta { type_tcc_packet: symbol, delta: units * DELTA_US });
        }
        let chunks = symbols.chunks(SYMBOLS).map(|symbols| {
            let mut symbol_list = symbols.to_vec();
            symbol_list.resize(SYMBOLS, SymbolTypeTcc::PacketNotReceived);
            PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size: SymbolSizeTypeTcc::TwoBit,
                symbol_list,
            })
        });
        let feedback = TransportLayerCc {
            sender_ssrc: 1,
            media_ssrc,
            base_sequence_number: first as u16,
            packet_status_count: symbols.len() as u16,
            reference_time: reference as u32 & 0xFF_FFFF,
            fb_pkt_count: self.count,
            packet_chunks: chunks.collect(),
            recv_deltas: deltas,
        };
        self.count = self.count.wrapping_add(1);
        Some(feedback)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rtc::shared::marshal::{Marshal, Unmarshal};

    use super::*;

    #[test]
    fn feedback_says_what_came_when_and_what_did_not() {
        let (mut feedback, start) = (Feedback::default(), Instant::now());
        for (number, ms) in [(65_533_u16, 100), (65_534, 101), (0, 120), (65_535, 121), (3, 400)] {
            feedback.arrive(number, start + Duration::from_millis(ms));
        }
        let packet = feedback.take(9).unwrap();
        assert_eq!((packet.base_sequence_number, packet.packet_status_count), (65_533, 7));
        // In order of numbers: 65533, …34, …35 (came late), 0 (before it), [1, 2 lost], 3.
        let deltas: Vec<_> = packet.recv_deltas.iter().map(|delta| delta.delta / 1_000).collect();
        assert_eq!(deltas, [0, 1, 20, -1, 280]);
        let bytes = packet.marshal().unwrap();
        let read = TransportLayerCc::unmarshal(&mut bytes.clone()).unwrap();
        assert_eq!(read.recv_deltas.len(), 5);
        assert!(feedback.take(9).is_none());
        feedback.arrive(5, start + Duration::from_millis(500));
        let packet = feedback.take(9).unwrap();
        assert_eq!((packet.base_sequence_number, packet.packet_status_count, packet.fb_pkt_count), (4, 2, 1));
        packet.marshal().unwrap();
    }
}
