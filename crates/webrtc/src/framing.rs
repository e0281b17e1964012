//! Datagrams on a stream: each behind its length in two bytes (RFC 4571). Reads untrusted bytes.

use crate::socket::MAX_DATAGRAM;

/// Bytes in front of each datagram.
pub(crate) const LENGTH: usize = 2;

/// Cuts what comes by a stream into datagrams. Holds at most one, and what came with it.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    bytes: Vec<u8>,
    /// How many of them were handed out.
    used: usize,
}

/// A frame longer than any datagram of ours: whatever the peer speaks, it is not this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Deframer {
    /// Takes what has come. [`Deframer::next`] until it has no more, before the next.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole datagram. Empty ones, which some send to keep a connection alive, are left out.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        loop {
            let rest = &self.bytes[self.used..];
            let Some((head, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes(*head));
            if length > MAX_DATAGRAM {
                return Err(TooLong);
            }
            if rest.len() < length {
                return Ok(None);
            }
            let start = self.used + LENGTH;
            self.used = start + length;
            if length > 0 {
                return Ok(Some(&self.bytes[start..start + length]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(datagram: &[u8]) -> Vec<u8> {
        [&(datagram.len() as u16).to_be_bytes(), datagram].concat()
    }

    #[test]
    fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut() {
        let datagrams: [&[u8]; 4] = [b"one", &[7; MAX_DATAGRAM], b"", b"three"];
        let stream = datagrams.map(frame).concat();
        for size in [1, 2, 3, 700, stream.len()] {
            let (mut deframer, mut out) = (Deframer::default(), Vec::new());
            for part in stream.chunks(size) {
                deframer.push(part);
                while let Some(datagram) = deframer.next().unwrap() {
                    out.push(datagram.to_vec());
                }
                assert!(deframer.bytes.len() - deframer.used < LENGTH + MAX_DATAGRAM);
            }
            assert_eq!(out, [datagrams[0], datagrams[1], datagrams[3]], "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_longer_than_a_datagram_is_refused_before_it_is_kept() {
        let mut deframer = Deframer::default();
        deframer.push(b"GET / HTTP/1.1\r\n");
        assert_eq!(deframer.next(), Err(TooLong));
    }
}
