//! What a datagram is (RFC 7983), and the little of STUN (RFC 8489) that finding a session takes. Everything here reads
//! untrusted bytes.

use rtc::{
    crypto::RTCCrypto,
    stun::{integrity::MessageIntegrity, message::Message},
};

/// The kinds of datagram that share a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stun,
    Dtls,
    /// RTP or RTCP, protected.
    Srtp,
    Unknown,
}

/// Tells kinds apart by the first byte (RFC 7983, 7).
pub(crate) fn kind(datagram: &[u8]) -> Kind {
    match datagram {
        [0..=3, _, _, _, 0x21, 0x12, 0xA4, 0x42, ..] if datagram.len() >= HEADER => Kind::Stun,
        [20..=63, ..] => Kind::Dtls,
        [128..=191, ..] => Kind::Srtp,
        _ => Kind::Unknown,
    }
}

const HEADER: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const USE_CANDIDATE: u16 = 0x0025;

/// A connectivity check of a client (RFC 8445, 7.3), not yet authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check<'a> {
    /// Our half of the username: names the session, and its shard.
    pub(crate) ufrag: &'a str,
    /// The client nominates the path it came by.
    pub(crate) nominates: bool,
}

impl<'a> Check<'a> {
    /// Reads a binding request; `None` for any other message.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        if message_type(datagram)? != BINDING_REQUEST {
            return None;
        }
        let (mut ufrag, mut nominates) = (None, false);
        for (kind, value) in attributes(datagram) {
            match kind {
                USERNAME => ufrag = std::str::from_utf8(value).ok()?.split(':').next(),
                USE_CANDIDATE => nominates = true,
                _ => {}
            }
        }
        Some(Self { ufrag: ufrag?, nominates })
    }
}

/// Whether this is the answer to a check of ours.
pub(crate) fn is_success(datagram: &[u8]) -> bool {
    message_type(datagram) == Some(BINDING_SUCCESS)
}

/// Whether the sender knows `password` (MESSAGE-INTEGRITY, RFC 8489, 14.5).
pub(crate) fn authentic(datagram: &[u8], password: &str, crypto: &dyn RTCCrypto) -> bool {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).is_ok()
        && MessageIntegrity::check(&mut message, password.as_bytes(), crypto).is_ok()
}

fn message_type(datagram: &[u8]) -> Option<u16> {
    match datagram {
        [high, low, ..] if datagram.len() >= HEADER => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// The attributes, as far as they are whole.
fn attributes(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [k0, k1, l0, l1, body @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = body.get(..length)?;
        // Values are padded to four bytes; the last one's padding may be missing.
        rest = body.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_be_bytes([*k0, *k1]), value))
    })
}

#[cfg(test)]
mod tests {
    use rtc::{
        crypto::{RTCCryptoProvider, providers::AwsLcRsProvider},
        stun::{
            attributes::ATTR_USERNAME,
            message::{BINDING_REQUEST, TransactionId},
            textattrs::Username,
        },
    };

    use super::*;

    fn check(username: &str, password: &str) -> Vec<u8> {
        let provider = AwsLcRsProvider::new();
        let mut message = Message::new();
        message
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId::new()),
                Box::new(Username::new(ATTR_USERNAME, username.to_owned())),
                Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                    password.to_owned(),
                    provider.crypto(),
                )),
            ])
            .unwrap();
        message.raw
    }

    #[test]
    fn a_check_names_its_session_and_proves_the_password() {
        let datagram = check("ours:theirs", "secret-secret-secret-12");
        let provider = AwsLcRsProvider::new();
        assert_eq!(kind(&datagram), Kind::Stun);
        assert_eq!(Check::parse(&datagram), Some(Check { ufrag: "ours", nominates: false }));
        assert!(authentic(&datagram, "secret-secret-secret-12", provider.crypto()));
        assert!(!authentic(&datagram, "another-secret-12345678", provider.crypto()));
    }

    #[test]
    fn nomination_is_seen() {
        let mut datagram = check("a:b", "p");
        datagram.extend([0, 0x25, 0, 0]);
        assert!(Check::parse(&datagram).unwrap().nominates);
    }

    #[test]
    fn every_prefix_of_a_check_and_any_noise_is_read_without_panic() {
        let provider = AwsLcRsProvider::new();
        let datagram = check("ours:theirs", "p");
        for length in 0..datagram.len() {
            let cut = &datagram[..length];
            let _ = (kind(cut), Check::parse(cut), is_success(cut));
            assert!(!authentic(cut, "p", provider.crypto()));
        }
        for noise in 0..2_000_u32 {
            let mut datagram = datagram.clone();
            let at = noise as usize % datagram.len();
            datagram[at] ^= (noise >> 3) as u8 | 1;
            let _ = (kind(&datagram), Check::parse(&datagram));
            assert!(!authentic(&datagram, "p", provider.crypto()), "byte {at}");
        }
    }

    #[test]
    fn datagrams_are_told_apart_by_their_first_byte() {
        for (first, expected) in [
            (0, Kind::Unknown),
            (19, Kind::Unknown),
            (22, Kind::Dtls),
            (128, Kind::Srtp),
            (192, Kind::Unknown),
        ] {
            assert_eq!(kind(&[first; 24]), expected, "{first}");
        }
        assert_eq!(kind(&[]), Kind::Unknown);
    }
}
