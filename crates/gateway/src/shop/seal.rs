//! Texts that we give out in links and know again: what is said, until when, and a signature over both.
//!
//! ```text
//! PAYLOAD.EXPIRY.SIGNATURE     base64url of the payload, seconds since 1970, base64url of HMAC-SHA256 cut to 128 bits
//! ```

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    constant_time, hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use haul_model::UnixMillis;

/// The longest sealed text that is looked at, in bytes.
const MAX_SEALED_BYTES: usize = 2048;
/// Bytes of a signature.
const TAG_BYTES: usize = 16;

/// Signs and checks links, and hides what is kept of answers with secrets in them.
#[derive(Clone)]
pub struct Seal(hmac::Key, Arc<RandomizedNonceKey>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// Why a sealed text is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// We have not signed it, or for something else.
    #[error("this link is not one of ours")]
    NotOurs,
    /// We have, and its time is over.
    #[error("this link has expired")]
    Expired,
}

impl Seal {
    /// A key that follows from the server's secret and is not it, so that neither signs for the other.
    pub fn new(secret: &[u8]) -> Self {
        let of = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, &[purpose, secret].concat());
        let hiding = hmac::sign(&of(b"answers: "), b"key");
        let hiding =
            RandomizedNonceKey::new(&AES_256_GCM, hiding.as_ref()).expect("SHA-256 is as long as a key");
        Self(of(b"links: "), Arc::new(hiding))
    }

    /// A text that only who has the server's secret can read: base64url of nonce, ciphertext and tag (AES-256-GCM).
    pub(crate) fn hide(&self, text: &str) -> Option<String> {
        let mut hidden = text.as_bytes().to_vec();
        let nonce = self.1.seal_in_place_append_tag(Aad::empty(), &mut hidden).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &hidden].concat()))
    }

    /// What was hidden; `None` where that was with another secret.
    pub(crate) fn reveal(&self, hidden: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(hidden).ok()?;
        let (nonce, text) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let text =
            self.1.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut text).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// Signs `payload` for one `purpose` until `expires_at`.
    pub(crate) fn seal(&self, purpose: &str, payload: &[u8], expires_at: UnixMillis) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(payload), expires_at.0 / 1000);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.tag(purpose, &signed)))
    }

    /// What was signed for `purpose`, if it still counts at `now`.
    pub(crate) fn open(&self, purpose: &str, sealed: &str, now: UnixMillis) -> Result<Vec<u8>, SealError> {
        let not_ours = || SealError::NotOurs;
        if sealed.len() > MAX_SEALED_BYTES {
            return Err(SealError::NotOurs);
        }
        let (signed, tag) = sealed.rsplit_once('.').ok_or_else(not_ours)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| SealError::NotOurs)?;
        constant_time::verify_slices_are_equal(&self.tag(purpose, signed), &tag)
            .map_err(|_| SealError::NotOurs)?;
        let (payload, expiry) = signed.split_once('.').ok_or_else(not_ours)?;
        let expiry: u64 = expiry.parse().map_err(|_| SealError::NotOurs)?;
        if expiry <= now.0 / 1000 {
            return Err(SealError::Expired);
        }
        URL_SAFE_NO_PAD.decode(payload).map_err(|_| SealError::NotOurs)
    }

    fn tag(&self, purpose: &str, signed: &str) -> [u8; TAG_BYTES] {
        // A purpose has no zero byte, so that none continues another.
        let tag = hmac::sign(&self.0, &[purpose.as_bytes(), b"\0", signed.as_bytes()].concat());
        let mut cut = [0; TAG_BYTES];
        cut.copy_from_slice(&tag.as_ref()[..TAG_BYTES]);
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
    const LATER: UnixMillis = UnixMillis(1_790_000_060_000);

    #[test]
    fn what_is_sealed_is_read_for_its_purpose_until_its_time() {
        let seal = Seal::new(b"0123456789abcdef0123456789abcdef");
        let sealed = seal.seal("ref", b"mia", LATER);
        assert_eq!(seal.open("ref", &sealed, NOW), Ok(b"mia".to_vec()));
        assert_eq!(seal.open("link", &sealed, NOW), Err(SealError::NotOurs));
        assert_eq!(seal.open("ref", &sealed, LATER), Err(SealError::Expired));
        assert_eq!(Seal::new(b"another secret").open("ref", &sealed, NOW), Err(SealError::NotOurs));
    }

    #[test]
    fn what_is_hidden_is_read_by_whoever_has_the_secret() {
        let seal = Seal::new(b"0123456789abcdef0123456789abcdef");
        let hidden = seal.hide("whsec_very").unwrap();
        assert!(!hidden.contains("whsec"));
        assert_ne!(seal.hide("whsec_very").unwrap(), hidden, "nobody sees that two are the same");
        assert_eq!(seal.reveal(&hidden).as_deref(), Some("whsec_very"));
        assert_eq!(Seal::new(b"another secret").reveal(&hidden), None);
        for bad in ["", "AAAA", "?", &hidden[1..]] {
            assert_eq!(seal.reveal(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_else_is_read() {
        let seal = Seal::new(b"0123456789abcdef0123456789abcdef");
        let sealed = seal.seal("ref", b"mia", LATER);
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let altered = String::from_utf8(bytes).unwrap();
            // The last letter has bits that no byte comes of.
            let known = seal.open("ref", &altered, NOW);
            assert!(known == Err(SealError::NotOurs) || at + 1 == sealed.len(), "byte {at}: {known:?}");
        }
        for text in ["", ".", "..", "a.b.c", "bWlh.9999999999.", &"a.".repeat(1_000)] {
            assert_eq!(seal.open("ref", text, NOW), Err(SealError::NotOurs), "{text}");
        }
    }
}
