//! SRTP for the packets we send (RFC 3711, RFC 7714): keys from the handshake, sealing in place.
//!
//! Sealing is a function of its input alone: the same packet sealed again is the same bytes, which is what makes a
//! plain resend safe (never two plaintexts under one nonce).

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    error::Unspecified,
    hmac,
    iv::FixedLength,
};

/// An SRTP protection profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// SRTP_AEAD_AES_128_GCM (RFC 7714): what we prefer, at a third of the other's cost.
    Gcm,
    /// SRTP_AES128_CM_HMAC_SHA1_80 (RFC 5764): what every client has.
    Sha1,
}

impl Profile {
    /// The profile by the name that `rtc`'s statistics have for it.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "SRTP_AEAD_AES_128_GCM" => Some(Self::Gcm),
            "SRTP_AES128_CM_HMAC_SHA1_80" => Some(Self::Sha1),
            _ => None,
        }
    }

    fn salt_bytes(self) -> usize {
        match self {
            Self::Gcm => 12,
            Self::Sha1 => 14,
        }
    }
}

/// Key bytes of both profiles.
const KEY: usize = 16;
/// Bytes of the SHA-1 tag that are sent.
pub(crate) const SHA1_TAG: usize = 10;

/// Session keys for one direction of one connection.
pub(crate) enum Sealer {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    /// Boxed: these keys are large and rare.
    Sha1(Box<Sha1Keys>),
}

pub(crate) struct Sha1Keys {
    cipher: EncryptingKey,
    salt: [u8; 14],
    mac: hmac::Key,
}

impl Sealer {
    /// The keys that we send with, from the handshake's keying material. `client` tells which side we are in DTLS.
    pub(crate) fn new(profile: Profile, material: &[u8], client: bool) -> Result<Self, Unspecified> {
        let master = Master::of_side(profile, material, client)?;
        // The labels of RFC 3711, 4.3.2: 0 encryption, 1 authentication, 2 salt.
        match profile {
            Profile::Gcm => {
                let key = UnboundKey::new(&aead::AES_128_GCM, &master.derive::<KEY>(0)?)?;
                Ok(Self::Gcm { key: LessSafeKey::new(key), salt: master.derive(2)? })
            }
            Profile::Sha1 => Ok(Self::Sha1(Box::new(Sha1Keys {
                cipher: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &master.derive::<KEY>(0)?)?)?,
                salt: master.derive(2)?,
                mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &master.derive::<20>(1)?),
            }))),
        }
    }

    /// How much longer a sealed packet is.
    pub(crate) fn overhead(&self) -> usize {
        match self {
            Self::Gcm { .. } => aead::MAX_TAG_LEN,
            Self::Sha1(_) => SHA1_TAG,
        }
    }

    /// Seals a whole RTP packet in place: `header` bytes of header, then the payload, then [`Sealer::overhead`] bytes
    /// of room. `rollover` counts how often its sequence number has wrapped.
    pub(crate) fn seal(&self, packet: &mut [u8], header: usize, rollover: u32) -> Result<(), Unspecified> {
        let end =
            packet.len().checked_sub(self.overhead()).filter(|end| *end >= header).ok_or(Unspecified)?;
        let (clear, tag) = packet.split_at_mut(end);
        match self {
            Self::Gcm { key, salt } => {
                let nonce = Nonce::assume_unique_for_key(gcm_nonce(salt, clear, rollover));
                let (header, payload) = clear.split_at_mut(header);
                let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)?;
                tag.copy_from_slice(sealed.as_ref());
            }
            Self::Sha1(keys) => {
                let Sha1Keys { cipher, salt, mac } = &**keys;
                let iv = EncryptionContext::Iv128(FixedLength::from(cm_iv(salt, clear, rollover)));
                cipher.less_safe_encrypt(&mut clear[header..], iv)?;
                let mut mac = hmac::Context::with_key(mac);
                mac.update(clear);
                mac.update(&rollover.to_be_bytes());
                tag.copy_from_slice(&mac.sign().as_ref()[..SHA1_TAG]);
            }
        }
        Ok(())
    }
}

/// RFC 7714, 8.1: two zero bytes, SSRC, rollover counter, sequence number; XOR the salt.
fn gcm_nonce(salt: &[u8; 12], packet: &[u8], rollover: u32) -> [u8; 12] {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &packet[8..12]);
    xor(&mut nonce[6..10], &rollover.to_be_bytes());
    xor(&mut nonce[10..12], &packet[2..4]);
    nonce
}

/// RFC 3711, 4.1.1: the salt, XOR the SSRC and the packet index, and a block counter of zero.
fn cm_iv(salt: &[u8; 14], packet: &[u8], rollover: u32) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    xor(&mut iv[4..8], &packet[8..12]);
    xor(&mut iv[8..12], &rollover.to_be_bytes());
    xor(&mut iv[12..14], &packet[2..4]);
    iv
}

pub(crate) fn xor(target: &mut [u8], with: &[u8]) {
    for (byte, with) in target.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// A master key and salt, which session keys are derived from (RFC 3711, 4.3, with a derivation rate of zero).
pub(crate) struct Master {
    cipher: EncryptingKey,
    salt: [u8; 14],
}

impl Master {
    /// That of the DTLS client, or of the server, out of the handshake's keying material: client key, server key, client
    /// salt, server salt (RFC 5764, 4.2).
    pub(crate) fn of_side(profile: Profile, material: &[u8], client: bool) -> Result<Self, Unspecified> {
        let (salt_bytes, side) = (profile.salt_bytes(), usize::from(!client));
        let key_at = KEY * side;
        let salt_at = 2 * KEY + salt_bytes * side;
        let key = material.get(key_at..key_at + KEY).ok_or(Unspecified)?;
        let salt = material.get(salt_at..salt_at + salt_bytes).ok_or(Unspecified)?;
        Self::new(key, salt)
    }

    fn new(key: &[u8], salt: &[u8]) -> Result<Self, Unspecified> {
        let cipher = EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key)?)?;
        // A salt of 96 bits is padded on the right (RFC 7714, 11).
        let mut padded = [0; 14];
        padded[..salt.len()].copy_from_slice(salt);
        Ok(Self { cipher, salt: padded })
    }

    pub(crate) fn derive<const N: usize>(&self, label: u8) -> Result<[u8; N], Unspecified> {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        iv[7] ^= label;
        let mut keystream = [0; N];
        self.cipher.less_safe_encrypt(&mut keystream, EncryptionContext::Iv128(FixedLength::from(iv)))?;
        Ok(keystream)
    }
}

#[cfg(test)]
mod tests {
    use rtc::{
        crypto::{RTCCryptoProvider, providers::AwsLcRsProvider},
        srtp::{context::Context, protection_profile::ProtectionProfile},
    };

    use super::*;

    fn material() -> Vec<u8> {
        (0..64_u8).map(|i| i.wrapping_mul(7)).collect()
    }

    /// What the other end does: `rtc`'s own SRTP, with our half of the keys.
    fn receiver(profile: Profile, client: bool) -> Context {
        let material = material();
        let (n, side) = (profile.salt_bytes(), usize::from(!client));
        let name = match profile {
            Profile::Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::Sha1 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let (key, salt) = (&material[16 * side..][..16], &material[32 + n * side..][..n]);
        Context::new(key, salt, name, None, None, AwsLcRsProvider::new().crypto()).unwrap()
    }

    fn packet(sequence: u16, overhead: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 9, 0xCA, 0xFE, 0xBA, 0xBE]);
        packet.extend(b"what the host says");
        packet.resize(packet.len() + overhead, 0);
        packet
    }

    #[test]
    fn the_other_end_opens_what_we_seal_also_after_the_wrap() {
        for profile in [Profile::Gcm, Profile::Sha1] {
            for client in [true, false] {
                let sealer = Sealer::new(profile, &material(), client).unwrap();
                let mut receiver = receiver(profile, client);
                for index in [65_534_u64, 65_535, 65_536, 65_537] {
                    let mut sealed = packet(index as u16, sealer.overhead());
                    sealer.seal(&mut sealed, 12, (index >> 16) as u32).unwrap();
                    let opened = receiver.decrypt_rtp(&sealed).unwrap();
                    assert_eq!(opened[..], packet(index as u16, 0)[..], "{profile:?} {client} {index}");
                }
            }
        }
    }

    #[test]
    fn a_resend_is_the_identical_bytes() {
        for profile in [Profile::Gcm, Profile::Sha1] {
            let sealer = Sealer::new(profile, &material(), false).unwrap();
            let mut twice = [packet(7, sealer.overhead()), packet(7, sealer.overhead())];
            for sealed in &mut twice {
                sealer.seal(sealed, 12, 1).unwrap();
            }
            assert_eq!(twice[0], twice[1]);
        }
    }

    #[test]
    fn material_cut_short_makes_no_keys() {
        assert!(Sealer::new(Profile::Gcm, &material()[..55], false).is_err());
        assert!(Sealer::new(Profile::Sha1, &[], true).is_err());
    }

    #[test]
    fn a_packet_without_room_for_the_tag_is_refused() {
        let sealer = Sealer::new(Profile::Gcm, &material(), false).unwrap();
        assert!(sealer.seal(&mut [0; 20], 12, 0).is_err());
    }
}
