//! SRTCP for connections that are ours alone (RFC 3711, 3.4; RFC 7714, 9): keys from the handshake, sealing and opening.
//!
//! What is opened was written by somebody with the keys: nothing is remembered of a datagram before its tag has proved
//! that, so that strangers cost no memory.

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey},
    error::Unspecified,
    hmac,
    iv::FixedLength,
};

use crate::seal::{Master, Profile, SHA1_TAG, xor};

/// RTCP's common header and the sender's SSRC: what stays readable.
const HEADER: usize = 8;
/// The E flag and the index behind the packet.
const INDEX: usize = 4;
/// Says that the packet is encrypted, in front of the 31 bits of the index.
const ENCRYPTED: u32 = 1 << 31;
/// The most senders of one peer whose packets are told apart; those of a further one are not opened. A player has one.
const MAX_SENDERS: usize = 8;
/// How far behind the newest a packet may be and still be taken.
const WINDOW: u32 = 64;

/// Both directions of one connection.
pub(crate) struct Srtcp {
    outgoing: Keys,
    incoming: Keys,
    /// The index of the last packet that was sealed. One count for all SSRCs: an index is never used twice.
    sent: u32,
    received: Vec<(u32, Window)>,
}

impl Srtcp {
    /// From the handshake's keying material (RFC 5764, 4.2). `client` tells which side we were in DTLS.
    pub(crate) fn new(profile: Profile, material: &[u8], client: bool) -> Result<Self, Unspecified> {
        Ok(Self {
            outgoing: Keys::new(profile, &Master::of_side(profile, material, client)?)?,
            incoming: Keys::new(profile, &Master::of_side(profile, material, !client)?)?,
            sent: 0,
            received: Vec::new(),
        })
    }

    /// A compound packet as it goes on the wire.
    pub(crate) fn seal(&mut self, compound: &[u8]) -> Result<Vec<u8>, Unspecified> {
        if compound.len() < HEADER || self.sent + 1 >= ENCRYPTED {
            return Err(Unspecified);
        }
        self.sent += 1;
        let mut packet = Vec::with_capacity(compound.len() + aead::MAX_TAG_LEN + INDEX);
        packet.extend_from_slice(compound);
        self.outgoing.seal(&mut packet, self.sent)?;
        Ok(packet)
    }

    /// The compound packet in a datagram; an error for what nobody with the keys has written, and for what was taken
    /// before.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let (compound, index) = self.incoming.open(datagram)?;
        let ssrc = u32::from_be_bytes(compound[4..HEADER].try_into().map_err(|_| Unspecified)?);
        match self.received.iter_mut().find(|(known, _)| *known == ssrc) {
            Some((_, window)) => window.take(index)?,
            None => {
                if self.received.len() == MAX_SENDERS {
                    return Err(Unspecified);
                }
                self.received.push((ssrc, Window::new(index)));
            }
        }
        Ok(compound)
    }
}

/// Which of the last packets have come.
struct Window {
    newest: u32,
    /// Bit n: the packet n before the newest has come.
    seen: u64,
}

impl Window {
    fn new(first: u32) -> Self {
        Self { newest: first, seen: 1 }
    }

    fn take(&mut self, index: u32) -> Result<(), Unspecified> {
        if index > self.newest {
            self.seen = self.seen.checked_shl(index - self.newest).unwrap_or(0) | 1;
            self.newest = index;
            return Ok(());
        }
        let behind = self.newest - index;
        if behind >= WINDOW || self.seen & (1 << behind) != 0 {
            return Err(Unspecified);
        }
        self.seen |= 1 << behind;
        Ok(())
    }
}

/// Session keys of one direction.
enum Keys {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    Sha1(Box<Sha1Keys>),
}

struct Sha1Keys {
    sealing: EncryptingKey,
    opening: DecryptingKey,
    salt: [u8; 14],
    mac: hmac::Key,
}

impl Keys {
    /// The labels of RFC 3711, 4.3.2, for SRTCP: 3 encryption, 4 authentication, 5 salt.
    fn new(profile: Profile, master: &Master) -> Result<Self, Unspecified> {
        let key = master.derive::<16>(3)?;
        Ok(match profile {
            Profile::Gcm => {
                let key = LessSafeKey::new(UnboundKey::new(&aead::AES_128_GCM, &key)?);
                Self::Gcm { key, salt: master.derive(5)? }
            }
            Profile::Sha1 => Self::Sha1(Box::new(Sha1Keys {
                sealing: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key)?)?,
                opening: DecryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key)?)?,
                salt: master.derive(5)?,
                mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &master.derive::<20>(4)?),
            })),
        })
    }

    /// Seals a compound in place and puts behind it what belongs there.
    fn seal(&self, packet: &mut Vec<u8>, index: u32) -> Result<(), Unspecified> {
        let word = (ENCRYPTED | index).to_be_bytes();
        match self {
            Self::Gcm { key, salt } => {
                let nonce = Nonce::assume_unique_for_key(gcm_nonce(salt, packet, index));
                let (header, body) = packet.split_at_mut(HEADER);
                let aad = gcm_aad(header, word);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), body)?;
                packet.extend_from_slice(tag.as_ref());
                packet.extend_from_slice(&word);
            }
            Self::Sha1(keys) => {
                let iv = FixedLength::from(cm_iv(&keys.salt, packet, index));
                keys.sealing.less_safe_encrypt(&mut packet[HEADER..], EncryptionContext::Iv128(iv))?;
                packet.extend_from_slice(&word);
                let tag = hmac::sign(&keys.mac, packet);
                packet.extend_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
        Ok(())
    }

    fn open(&self, datagram: &[u8]) -> Result<(Vec<u8>, u32), Unspecified> {
        // The packet, and what stands behind it: tag and word in GCM, word and tag else.
        let behind = match self {
            Self::Gcm { .. } => aead::MAX_TAG_LEN + INDEX,
            Self::Sha1(_) => INDEX + SHA1_TAG,
        };
        let end = datagram.len().checked_sub(behind).filter(|end| *end >= HEADER).ok_or(Unspecified)?;
        let word_at = match self {
            Self::Gcm { .. } => end + aead::MAX_TAG_LEN,
            Self::Sha1(_) => end,
        };
        let word: [u8; INDEX] = datagram[word_at..word_at + INDEX].try_into().map_err(|_| Unspecified)?;
        let (index, encrypted) =
            (u32::from_be_bytes(word) & !ENCRYPTED, u32::from_be_bytes(word) & ENCRYPTED != 0);
        match self {
            // Both profiles may leave a packet readable (the E flag); no client does, and it need not be understood.
            Self::Gcm { key, salt } if encrypted => {
                let nonce = Nonce::assume_unique_for_key(gcm_nonce(salt, datagram, index));
                let aad = gcm_aad(&datagram[..HEADER], word);
                let mut sealed = datagram[HEADER..word_at].to_vec();
                let body = key.open_in_place(nonce, Aad::from(aad), &mut sealed)?;
                let mut packet = Vec::with_capacity(end);
                packet.extend_from_slice(&datagram[..HEADER]);
                packet.extend_from_slice(body);
                Ok((packet, index))
            }
            Self::Sha1(keys) if encrypted => {
                let (vouched_for, tag) = datagram.split_at(end + INDEX);
                let expected = hmac::sign(&keys.mac, vouched_for);
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..SHA1_TAG], tag)?;
                let iv = FixedLength::from(cm_iv(&keys.salt, datagram, index));
                let mut packet = datagram[..end].to_vec();
                keys.opening.decrypt(&mut packet[HEADER..], DecryptionContext::Iv128(iv))?;
                Ok((packet, index))
            }
            _ => Err(Unspecified),
        }
    }
}

/// RFC 7714, 9.1: two zero bytes, SSRC, two zero bytes, index; XOR the salt.
fn gcm_nonce(salt: &[u8; 12], packet: &[u8], index: u32) -> [u8; 12] {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &packet[4..8]);
    xor(&mut nonce[8..12], &index.to_be_bytes());
    nonce
}

/// RFC 7714, 9.2: what is readable is vouched for.
fn gcm_aad(header: &[u8], word: [u8; INDEX]) -> [u8; HEADER + INDEX] {
    let mut aad = [0; HEADER + INDEX];
    aad[..HEADER].copy_from_slice(header);
    aad[HEADER..].copy_from_slice(&word);
    aad
}

/// RFC 3711, 4.1.1: the salt, XOR the SSRC and the index, and a block counter of zero.
fn cm_iv(salt: &[u8; 14], packet: &[u8], index: u32) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    xor(&mut iv[4..8], &packet[4..8]);
    xor(&mut iv[10..14], &index.to_be_bytes());
    iv
}

#[cfg(test)]
mod tests {
    use rtc::{
        crypto::{RTCCryptoProvider, providers::AwsLcRsProvider},
        srtp::{context::Context, protection_profile::ProtectionProfile},
    };

    use super::*;

    fn material() -> Vec<u8> {
        (0..64_u8).map(|i| i.wrapping_mul(11)).collect()
    }

    /// `rtc`'s own SRTP with the keys of one side.
    fn reference(profile: Profile, client: bool) -> Context {
        let material = material();
        let (name, n) = match profile {
            Profile::Gcm => (ProtectionProfile::AeadAes128Gcm, 12),
            Profile::Sha1 => (ProtectionProfile::Aes128CmHmacSha1_80, 14),
        };
        let side = usize::from(!client);
        let (key, salt) = (&material[16 * side..][..16], &material[32 + n * side..][..n]);
        Context::new(key, salt, name, None, None, AwsLcRsProvider::new().crypto()).unwrap()
    }

    /// A receiver report without blocks, and some more behind it.
    fn compound(ssrc: u32) -> Vec<u8> {
        let mut compound = vec![0x80, 201, 0, 1];
        compound.extend(ssrc.to_be_bytes());
        compound.extend([0x80, 203, 0, 0]);
        compound
    }

    const PROFILES: [Profile; 2] = [Profile::Gcm, Profile::Sha1];

    #[test]
    fn another_stack_opens_what_we_seal_and_we_what_it_seals() {
        for profile in PROFILES {
            for client in [true, false] {
                let mut ours = Srtcp::new(profile, &material(), client).unwrap();
                let (mut theirs_in, mut theirs_out) =
                    (reference(profile, client), reference(profile, !client));
                for ssrc in [7, 7, 9] {
                    let sealed = ours.seal(&compound(ssrc)).unwrap();
                    assert_eq!(theirs_in.decrypt_rtcp(&sealed).unwrap()[..], compound(ssrc)[..]);
                    let sealed = theirs_out.encrypt_rtcp(&compound(ssrc)).unwrap();
                    assert_eq!(ours.open(&sealed).unwrap(), compound(ssrc), "{profile:?} {client}");
                }
            }
        }
    }

    #[test]
    fn a_packet_is_taken_once_and_late_ones_within_the_window() {
        for profile in PROFILES {
            let (mut sender, mut receiver) =
                (reference(profile, true), Srtcp::new(profile, &material(), false).unwrap());
            let sealed: Vec<_> = (0..80).map(|_| sender.encrypt_rtcp(&compound(1)).unwrap()).collect();
            assert!(receiver.open(&sealed[1]).is_ok());
            assert!(receiver.open(&sealed[1]).is_err(), "again");
            assert!(receiver.open(&sealed[0]).is_ok(), "late");
            assert!(receiver.open(&sealed[0]).is_err());
            assert!(receiver.open(&sealed[79]).is_ok());
            assert!(receiver.open(&sealed[16]).is_ok(), "64 places are remembered");
            assert!(receiver.open(&sealed[15]).is_err(), "too late");
        }
    }

    #[test]
    fn bent_packets_are_refused_and_remembered_by_nobody() {
        for profile in PROFILES {
            let (mut sender, mut receiver) =
                (reference(profile, true), Srtcp::new(profile, &material(), false).unwrap());
            let sealed = sender.encrypt_rtcp(&compound(1)).unwrap();
            for at in 0..sealed.len() {
                let mut bent = sealed.to_vec();
                bent[at] ^= 1;
                assert!(receiver.open(&bent).is_err(), "byte {at}");
                assert!(receiver.open(&sealed[..at]).is_err(), "{at} bytes");
            }
            assert!(receiver.received.is_empty());
            assert!(receiver.open(&sealed).is_ok());
        }
    }

    #[test]
    fn senders_are_few() {
        let (mut sender, mut receiver) =
            (reference(Profile::Gcm, true), Srtcp::new(Profile::Gcm, &material(), false).unwrap());
        let opened = (0..20).filter(|ssrc| {
            let sealed = sender.encrypt_rtcp(&compound(*ssrc)).unwrap();
            receiver.open(&sealed).is_ok()
        });
        assert_eq!(opened.count(), MAX_SENDERS);
    }

    #[test]
    fn what_is_no_compound_is_not_sealed() {
        let mut ours = Srtcp::new(Profile::Gcm, &material(), true).unwrap();
        assert!(ours.seal(&[0x80, 201, 0, 1]).is_err());
        assert!(Srtcp::new(Profile::Sha1, &material()[..40], true).is_err());
    }
}
