//! Opening SRTP packets (RFC 3711, RFC 7714) one by one, in any order: the caller says which packet of the stream it is.
//!
//! `rtc`'s own needs to see every packet to keep count of the rollovers; a viewer whose packets are only counted opens
//! one now and then.

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey},
    error::Unspecified,
    hmac,
    iv::FixedLength,
};

/// Key bytes of both profiles.
const KEY: usize = 16;
/// Bytes of the SHA-1 tag that are sent.
const SHA1_TAG: usize = 10;

/// The peer's sending keys.
pub(crate) enum Opener {
    /// SRTP_AEAD_AES_128_GCM.
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    /// SRTP_AES128_CM_HMAC_SHA1_80.
    /// Boxed: these keys are large and rare.
    Sha1(Box<Sha1Keys>),
}

pub(crate) struct Sha1Keys {
    cipher: EncryptingKey,
    salt: [u8; 14],
    mac: hmac::Key,
}

impl Opener {
    /// From the name of the profile (as `rtc`'s statistics have it) and the handshake's keying material: client key,
    /// server key, client salt, server salt (RFC 5764, 4.2). `from_client` tells whose packets are to be opened.
    pub(crate) fn new(profile: &str, material: &[u8], from_client: bool) -> Result<Self, Unspecified> {
        let salt_bytes = match profile {
            "SRTP_AEAD_AES_128_GCM" => 12,
            "SRTP_AES128_CM_HMAC_SHA1_80" => 14,
            _ => return Err(Unspecified),
        };
        let side = usize::from(!from_client);
        let key = material.get(KEY * side..).and_then(|rest| rest.get(..KEY)).ok_or(Unspecified)?;
        let salt = material.get(2 * KEY + salt_bytes * side..).and_then(|rest| rest.get(..salt_bytes));
        let salt = salt.ok_or(Unspecified)?;
        // A salt of 96 bits is padded on the right (RFC 7714, 11).
        let mut padded = [0; 14];
        padded[..salt_bytes].copy_from_slice(salt);
        let master = EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key)?)?;
        // The labels of RFC 3711, 4.3.2: 0 encryption, 1 authentication, 2 salt.
        let key = derive::<KEY>(&master, &padded, 0)?;
        if salt_bytes == 12 {
            let key = LessSafeKey::new(UnboundKey::new(&aead::AES_128_GCM, &key)?);
            return Ok(Self::Gcm { key, salt: derive(&master, &padded, 2)? });
        }
        Ok(Self::Sha1(Box::new(Sha1Keys {
            cipher: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &key)?)?,
            salt: derive(&master, &padded, 2)?,
            mac: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &derive::<20>(&master, &padded, 1)?),
        })))
    }

    /// Authenticates and decrypts a whole packet, whose header is `header` bytes long, in place. `rollover` is how often
    /// its stream's numbering has wrapped. Returns the payload.
    pub(crate) fn open<'p>(
        &self,
        packet: &'p mut [u8],
        header: usize,
        rollover: u32,
    ) -> Result<&'p [u8], Unspecified> {
        if packet.len() < header || header < 12 {
            return Err(Unspecified);
        }
        match self {
            Self::Gcm { key, salt } => {
                let nonce = Nonce::assume_unique_for_key(gcm_nonce(salt, packet, rollover));
                let (header, sealed) = packet.split_at_mut(header);
                Ok(key.open_in_place(nonce, Aad::from(&*header), sealed)?)
            }
            Self::Sha1(keys) => {
                let Sha1Keys { cipher, salt, mac } = &**keys;
                let end =
                    packet.len().checked_sub(SHA1_TAG).filter(|end| *end >= header).ok_or(Unspecified)?;
                let (sealed, tag) = packet.split_at_mut(end);
                let mut sum = hmac::Context::with_key(mac);
                sum.update(sealed);
                sum.update(&rollover.to_be_bytes());
                if sum.sign().as_ref()[..SHA1_TAG] != *tag {
                    return Err(Unspecified);
                }
                // Counter mode: decrypting is encrypting.
                let iv = EncryptionContext::Iv128(FixedLength::from(cm_iv(salt, sealed, rollover)));
                let _: DecryptionContext = cipher.less_safe_encrypt(&mut sealed[header..], iv)?;
                Ok(&packet[header..end])
            }
        }
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

/// RFC 3711, 4.1.1: the salt, XOR the SSRC and the packet's index, and a block counter of zero.
fn cm_iv(salt: &[u8; 14], packet: &[u8], rollover: u32) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    xor(&mut iv[4..8], &packet[8..12]);
    xor(&mut iv[8..12], &rollover.to_be_bytes());
    xor(&mut iv[12..14], &packet[2..4]);
    iv
}

fn xor(target: &mut [u8], with: &[u8]) {
    for (byte, with) in target.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// RFC 3711, 4.3, with a derivation rate of zero: a piece of the master key's keystream.
fn derive<const N: usize>(
    master: &EncryptingKey,
    salt: &[u8; 14],
    label: u8,
) -> Result<[u8; N], Unspecified> {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    iv[7] ^= label;
    let mut stream = [0; N];
    master.less_safe_encrypt(&mut stream, EncryptionContext::Iv128(FixedLength::from(iv)))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use rtc::{
        crypto::{RTCCryptoProvider, providers::AwsLcRsProvider},
        srtp::{context::Context, protection_profile::ProtectionProfile},
    };

    use super::*;

    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 9, 0xCA, 0xFE, 0xBA, 0xBE]);
        packet.extend(b"what the host says");
        packet
    }

    #[test]
    fn opens_what_rtc_seals_also_after_the_wrap_and_nothing_else() {
        let material: Vec<u8> = (0..64_u8).map(|i| i.wrapping_mul(7)).collect();
        for (name, profile, salt) in [
            ("SRTP_AEAD_AES_128_GCM", ProtectionProfile::AeadAes128Gcm, 12),
            ("SRTP_AES128_CM_HMAC_SHA1_80", ProtectionProfile::Aes128CmHmacSha1_80, 14),
        ] {
            for side in [0, 1] {
                let (key, salt) = (&material[16 * side..][..16], &material[32 + salt * side..][..salt]);
                let crypto = AwsLcRsProvider::new();
                let mut sender = Context::new(key, salt, profile, None, None, crypto.crypto()).unwrap();
                let opener = Opener::new(name, &material, side == 0).unwrap();
                for index in [65_534_u64, 65_535, 65_536, 65_537] {
                    let sealed = sender.encrypt_rtp(&packet(index as u16)).unwrap();
                    let mut whole = sealed.to_vec();
                    let opened = opener.open(&mut whole, 12, (index >> 16) as u32).unwrap();
                    assert_eq!(opened, b"what the host says", "{name} {index}");
                    for (at, rollover) in [(13, 0), (sealed.len() - 1, 0), (0, 7)] {
                        let mut broken = sealed.to_vec();
                        broken[at] ^= u8::from(rollover == 0);
                        assert!(opener.open(&mut broken, 12, rollover).is_err());
                    }
                    assert!(opener.open(&mut sealed.to_vec()[..14], 12, 0).is_err());
                }
            }
        }
        assert!(Opener::new("SRTP_AEAD_AES_128_GCM", &material[..40], true).is_err());
        assert!(Opener::new("NULL", &material, true).is_err());
    }
}
