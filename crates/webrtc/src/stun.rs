//! What a datagram is (RFC 7983), and the little of STUN (RFC 8489) that finding a session takes. Everything here reads
//! untrusted bytes.

use std::net::SocketAddr;

use rtc::{
    crypto::RTCCrypto,
    stun::{
        attributes::AttrType,
        error_code::{CODE_ROLE_CONFLICT, CODE_UNKNOWN_ATTRIBUTE, ErrorCodeAttribute},
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{BINDING_ERROR, BINDING_SUCCESS, Message, Setter, TransactionId},
        uattrs::UnknownAttributes,
        xoraddr::XorMappedAddress,
    },
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
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
/// Attributes from here on may be ignored by who does not know them (RFC 8489, 14).
const OPTIONAL: u16 = 0x8000;
/// The most unknown attributes that a refusal names.
const MAX_UNKNOWN: usize = 8;

/// A connectivity check of a client (RFC 8445, 7.3), not yet authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check<'a> {
    /// Our half of the username: names the session, and its shard.
    pub(crate) ufrag: &'a str,
    /// The client nominates the path it came by.
    pub(crate) nominates: bool,
    /// The client takes itself for the one that is controlled, which we are.
    controlled: bool,
}

impl<'a> Check<'a> {
    /// Reads a binding request; `None` for any other message.
    pub(crate) fn parse(datagram: &'a [u8]) -> Option<Self> {
        if message_type(datagram)? != REQUEST {
            return None;
        }
        let (mut ufrag, mut nominates, mut controlled) = (None, false, false);
        for (kind, value) in vouched_for(datagram) {
            match kind {
                USERNAME => ufrag = std::str::from_utf8(value).ok()?.split(':').next(),
                USE_CANDIDATE => nominates = true,
                ICE_CONTROLLED => controlled = true,
                _ => {}
            }
        }
        Some(Self { ufrag: ufrag?, nominates, controlled })
    }

    /// Answers this check, which came as `datagram` and is authentic. Returns the answer, and whether it says yes.
    pub(crate) fn answer(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        password: &str,
        crypto: &dyn RTCCrypto,
    ) -> Option<(Vec<u8>, bool)> {
        let mut transaction = TransactionId::default();
        transaction.0.copy_from_slice(datagram.get(8..HEADER)?);
        let refusal = |code, reason: &str| Box::new(ErrorCodeAttribute { code, reason: reason.into() });
        let unknown = vouched_for(datagram).map(|(kind, _)| kind).filter(|kind| {
            *kind < OPTIONAL && ![USERNAME, MESSAGE_INTEGRITY, PRIORITY, USE_CANDIDATE].contains(kind)
        });
        let unknown: Vec<AttrType> = unknown.take(MAX_UNKNOWN).map(AttrType).collect();
        let mut setters: Vec<Box<dyn Setter + '_>> = Vec::new();
        let success = unknown.is_empty() && !self.controlled;
        if success {
            setters.push(Box::new(BINDING_SUCCESS));
            setters.push(Box::new(transaction));
            setters.push(Box::new(XorMappedAddress { ip: from.ip(), port: from.port() }));
        } else {
            setters.push(Box::new(BINDING_ERROR));
            setters.push(Box::new(transaction));
            if unknown.is_empty() {
                // RFC 8445, 7.3.1.1. A lite agent is always the controlled one.
                setters.push(refusal(CODE_ROLE_CONFLICT, "Role Conflict"));
            } else {
                setters.push(refusal(CODE_UNKNOWN_ATTRIBUTE, "Unknown Attribute"));
                setters.push(Box::new(UnknownAttributes(unknown)));
            }
        }
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
        setters.push(Box::new(integrity));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).ok()?;
        Some((message.raw, success))
    }
}

/// Whether this is the answer to a check of ours.
pub(crate) fn is_success(datagram: &[u8]) -> bool {
    message_type(datagram) == Some(SUCCESS)
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

/// The attributes that MESSAGE-INTEGRITY covers. What comes behind it anybody may have added (RFC 8489, 14.5).
fn vouched_for(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(datagram).take_while(|(kind, _)| *kind != MESSAGE_INTEGRITY)
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
            message::{BINDING_REQUEST, Getter},
            textattrs::Username,
        },
    };

    use super::*;

    /// An attribute as it is.
    struct Raw(u16, &'static [u8]);

    impl Setter for Raw {
        fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
            message.add(AttrType(self.0), self.1);
            Ok(())
        }
    }

    fn check(username: &str, password: &str) -> Vec<u8> {
        check_with(username, password, &[])
    }

    fn check_with(username: &str, password: &str, more: &[(u16, &'static [u8])]) -> Vec<u8> {
        let provider = AwsLcRsProvider::new();
        let mut message = Message::new();
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(Username::new(ATTR_USERNAME, username.to_owned())),
        ];
        for (kind, value) in more {
            setters.push(Box::new(Raw(*kind, value)));
        }
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.to_owned(),
            provider.crypto(),
        )));
        message.build(&setters).unwrap();
        message.raw
    }

    /// What a check is answered: the message, and whether it says yes.
    fn answer(datagram: &[u8], from: &str) -> (Message, bool) {
        let provider = AwsLcRsProvider::new();
        let from = from.parse().unwrap();
        let check = Check::parse(datagram).unwrap();
        let (bytes, success) = check.answer(datagram, from, "p", provider.crypto()).unwrap();
        let mut message = Message::new();
        message.unmarshal_binary(&bytes).unwrap();
        assert_eq!(message.transaction_id.0, datagram[8..20]);
        FINGERPRINT.check(&message).unwrap();
        assert!(authentic(&bytes, "p", provider.crypto()), "signed with our password");
        (message, success)
    }

    #[test]
    fn a_check_names_its_session_and_proves_the_password() {
        let datagram = check("ours:theirs", "secret-secret-secret-12");
        let provider = AwsLcRsProvider::new();
        assert_eq!(kind(&datagram), Kind::Stun);
        let expected = Check { ufrag: "ours", nominates: false, controlled: false };
        assert_eq!(Check::parse(&datagram), Some(expected));
        assert!(authentic(&datagram, "secret-secret-secret-12", provider.crypto()));
        assert!(!authentic(&datagram, "another-secret-12345678", provider.crypto()));
    }

    #[test]
    fn nomination_is_seen_where_the_password_vouches_for_it() {
        assert!(Check::parse(&check_with("a:b", "p", &[(USE_CANDIDATE, &[])])).unwrap().nominates);
        let mut datagram = check("a:b", "p");
        datagram.extend([0, 0x25, 0, 0]);
        assert!(!Check::parse(&datagram).unwrap().nominates, "added on the way");
    }

    #[test]
    fn a_check_is_answered_with_the_address_it_came_from() {
        for from in ["192.0.2.7:40000", "[2001:db8::7]:40000"] {
            let (message, success) = answer(&check_with("a:b", "p", &[(PRIORITY, &[1, 2, 3, 4])]), from);
            assert!(success);
            assert_eq!(message.typ, BINDING_SUCCESS);
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&message).unwrap();
            assert_eq!(SocketAddr::new(mapped.ip, mapped.port).to_string(), from);
        }
    }

    #[test]
    fn who_wants_our_role_or_asks_for_what_we_do_not_know_is_refused() {
        let (message, success) = answer(&check_with("a:b", "p", &[(ICE_CONTROLLED, &[0; 8])]), "192.0.2.7:4");
        assert!(!success);
        assert_eq!(message.typ, BINDING_ERROR);
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&message).unwrap();
        assert_eq!(error.code.0, 487);

        let unknown = check_with("a:b", "p", &[(0x7F01, &[1; 4]), (0xC057, &[0; 4])]);
        let (message, success) = answer(&unknown, "192.0.2.7:4");
        assert!(!success);
        error.get_from(&message).unwrap();
        assert_eq!(error.code.0, 420);
        let mut named = UnknownAttributes(Vec::new());
        named.get_from(&message).unwrap();
        assert_eq!(named.0, [AttrType(0x7F01)], "and not the one that may be ignored");
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
            let _ = kind(&datagram);
            if let Some(check) = Check::parse(&datagram) {
                let from = "192.0.2.7:40000".parse().unwrap();
                assert!(check.answer(&datagram, from, "p", provider.crypto()).is_some());
            }
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
