//! Packets as they go out: a header made once a frame and patched for each packet, the payload copied behind it, sealed
//! where it will be sent from.

use haul_model::{Codec, media::PictureNumbers};

use crate::{outbox::Outbox, route::Route, sdp::Extensions, seal::Sealer, stats::Counters};

/// An RTP header without extensions (RFC 3550, 5.1).
const FIXED: usize = 12;
/// The most that a header takes: transport-wide sequence number, capture time and playout delay fill four words behind the
/// four bytes that announce them.
const MAX_HEAD: usize = FIXED + 4 + 16;
/// The longest delay that players may come to, in 10 ms, where they are told of one: the most that they allow themselves.
const MAX_PLAYOUT: u32 = 1_000;
/// What announces one-byte extension headers (RFC 8285, 4.2).
const ONE_BYTE: [u8; 2] = [0xBE, 0xDE];
/// The most padding that a packet can have; the last byte tells how much it is (RFC 3550, 5.1).
pub(super) static PADDING: [u8; 255] = {
    let mut padding = [0; 255];
    padding[254] = 255;
    padding
};
/// The original sequence number in front of a retransmitted payload (RFC 4588, 4).
const ORIGINAL: usize = 2;

/// The header of a frame's packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    bytes: [u8; MAX_HEAD],
    len: usize,
    /// Where the transport-wide sequence number stands, if the packets have one.
    transport_at: Option<usize>,
}

/// What a frame's packets tell besides, where the viewer takes it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// When it was captured: the publisher's clock in NTP's 32.32 fixed point.
    pub(super) captured: Option<u64>,
    /// How long it is to be held back at least, in 10 ms; 0 if that is not told.
    pub(super) hold: u8,
}

/// What differs between a frame's packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Extended: the upper bits are SRTP's rollover counter.
    pub(super) sequence: u64,
    /// The transport-wide number, where there are such.
    pub(super) transport: u16,
    pub(super) marker: bool,
}

impl Head {
    pub(super) fn new(
        payload_type: u8,
        ssrc: u32,
        timestamp: u32,
        extensions: Extensions,
        told: Told,
    ) -> Self {
        let mut head = Self { bytes: [0; MAX_HEAD], len: FIXED, transport_at: None };
        head.bytes[0] = 2 << 6;
        head.bytes[1] = payload_type;
        head.bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
        head.bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let captured = extensions.capture_time.zip(told.captured);
        let held = extensions.playout_delay.filter(|_| told.hold > 0);
        if extensions.transport.is_none() && captured.is_none() && held.is_none() {
            return head;
        }
        let mut at = FIXED + 4;
        if let Some(id) = extensions.transport {
            head.bytes[at] = id << 4 | 1;
            head.transport_at = Some(at + 1);
            at += 3;
        }
        if let Some((id, ntp)) = captured {
            head.bytes[at] = id << 4 | 7;
            head.bytes[at + 1..at + 9].copy_from_slice(&ntp.to_be_bytes());
            at += 9;
        }
        if let Some(id) = held {
            // 12 bits for the shortest, 12 for the longest.
            let [_, limits @ ..] = (u32::from(told.hold) << 12 | MAX_PLAYOUT).to_be_bytes();
            head.bytes[at] = id << 4 | 2;
            head.bytes[at + 1..at + 4].copy_from_slice(&limits);
            at += 4;
        }
        let words = (at - FIXED - 4).div_ceil(4);
        head.len = FIXED + 4 + 4 * words;
        head.bytes[0] |= 1 << 4;
        head.bytes[FIXED..FIXED + 2].copy_from_slice(&ONE_BYTE);
        head.bytes[FIXED + 3] = words as u8;
        head
    }

    /// Makes it the header of packets that carry nothing but padding, which is returned.
    pub(super) fn pad(&mut self) -> &'static [u8] {
        self.bytes[0] |= 1 << 5;
        &PADDING
    }

    fn patch(&mut self, place: Place) {
        self.bytes[1] = self.bytes[1] & 0x7F | u8::from(place.marker) << 7;
        self.bytes[2..4].copy_from_slice(&(place.sequence as u16).to_be_bytes());
        if let Some(at) = self.transport_at {
            self.bytes[at..at + 2].copy_from_slice(&place.transport.to_be_bytes());
        }
    }
}

/// Writes packets to one viewer.
pub(super) struct Writer<'a> {
    pub(super) to: Route,
    pub(super) sealer: &'a Sealer,
    pub(super) outbox: &'a mut Outbox,
    pub(super) counters: &'a Counters,
}

impl Writer<'_> {
    /// The hot path: header, payload, numbers, seal. All of it in the arena that is sent from. Returns its bytes.
    #[inline]
    pub(super) fn packet(
        &mut self,
        head: &mut Head,
        place: Place,
        original: Option<u16>,
        payload: &[u8],
        numbers: Option<(Codec, PictureNumbers)>,
    ) -> usize {
        let body = head.len + if original.is_some() { ORIGINAL } else { 0 };
        let bytes = body + payload.len() + self.sealer.overhead();
        let datagram = self.outbox.datagram(self.to, bytes);
        head.patch(place);
        datagram[..head.len].copy_from_slice(&head.bytes[..head.len]);
        if let Some(original) = original {
            datagram[head.len..body].copy_from_slice(&original.to_be_bytes());
        }
        let room = &mut datagram[body..body + payload.len()];
        room.copy_from_slice(payload);
        if let Some((codec, numbers)) = numbers {
            haul_media::renumber(codec, room, numbers);
        }
        if self.sealer.seal(datagram, head.len, (place.sequence >> 16) as u32).is_err() {
            // Nothing goes out unsealed. It can't fail: only a wrong size is refused, and the size is made above.
            self.outbox.undo(bytes);
        }
        bytes
    }

    pub(super) fn count(&self, packets: usize, bytes: usize) {
        self.counters.rtp_packets_out.add(packets as u64);
        self.counters.rtp_bytes_out.add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(transport: Option<u8>, capture_time: Option<u8>) -> Vec<u8> {
        held(Extensions { transport, capture_time, ..Extensions::default() }, 0)
    }

    fn held(extensions: Extensions, hold: u8) -> Vec<u8> {
        let told = Told { captured: Some(0x0102_0304_0506_0708), hold };
        let mut head = Head::new(96, 0xCAFE_BABE, 0x11, extensions, told);
        head.patch(Place { sequence: 0x1_0002, transport: 0xBEEF, marker: true });
        head.bytes[..head.len].to_vec()
    }

    #[test]
    fn a_header_says_what_was_negotiated() {
        let fixed = |x: u8| [0x80 | x << 4, 0x80 | 96, 0, 2, 0, 0, 0, 0x11, 0xCA, 0xFE, 0xBA, 0xBE];
        assert_eq!(head(None, None), fixed(0));
        let transport = [0xBE, 0xDE, 0, 1, 0x31, 0xBE, 0xEF, 0];
        assert_eq!(head(Some(3), None), [&fixed(1)[..], &transport].concat());
        let both = [0xBE, 0xDE, 0, 3, 0x31, 0xBE, 0xEF, 0x27, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(head(Some(3), Some(2)), [&fixed(1)[..], &both].concat());
        let captured = [0xBE, 0xDE, 0, 3, 0x27, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0];
        assert_eq!(head(None, Some(2)), [&fixed(1)[..], &captured].concat());
        // 250 ms to 10 s, each in 12 bits.
        let playout = Extensions { playout_delay: Some(5), ..Extensions::default() };
        let delay = [0xBE, 0xDE, 0, 1, 0x52, 0x01, 0x93, 0xE8];
        assert_eq!(held(playout, 25), [&fixed(1)[..], &delay].concat());
        assert_eq!(held(playout, 0), fixed(0), "nothing to tell");
        let all = Extensions { transport: Some(3), capture_time: Some(2), playout_delay: Some(5) };
        let all = held(all, 25);
        assert_eq!((all.len(), all[15], &all[28..]), (32, 4, &[0x52, 0x01, 0x93, 0xE8][..]));
    }
}
