//! Three providers of cryptography that pass everything through to another and look on.
//!
//! One is a connection's: `rtc` keeps SRTP's keying material to itself, but asks its crypto provider to compute it. So
//! each of its connections gets a provider of its own that keeps a copy of that one output (RFC 5705 exporter, RFC 5764,
//! 4.2).
//!
//! Another is the server's, and spares a computation: the handshake looks at a client's last flight twice, once before
//! it can decrypt the end of it and once after, and would verify the signature in it each time, which is a sixth of a
//! handshake.
//!
//! The third denies all key exchanges but one, since `rtc` has no other way to prefer it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest;

use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey,
    RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};

/// The exporter's label (RFC 5764, 4.2). The PRF's seed begins with it.
const LABEL: &[u8] = b"EXTRACTOR-dtls_srtp";

/// Good signatures that are remembered: more than there are handshakes of all shards between the two looks at a flight.
const MAX_VERIFIED: usize = 128;

/// What has been captured of one connection's keying material.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Takes the material out; empty before the handshake is complete. Both masters of both sides, in the order of
    /// RFC 5764, 4.2, followed by what the last PRF block has left over.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.lock())
    }

    fn append(&self, block: &[u8]) {
        self.lock().extend_from_slice(block);
    }

    // Nobody else has it but the connection itself, so nobody waits.
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signatures that were good, each as a hash over it and all that it was verified with. The oldest makes room.
#[derive(Default)]
struct Verified(Mutex<VecDeque<[u8; digest::SHA256_OUTPUT_LEN]>>);

impl Verified {
    fn contains(&self, signed: &[u8; digest::SHA256_OUTPUT_LEN]) -> bool {
        self.lock().contains(signed)
    }

    fn add(&self, signed: [u8; digest::SHA256_OUTPUT_LEN]) {
        let mut signatures = self.lock();
        if signatures.len() == MAX_VERIFIED {
            signatures.pop_front();
        }
        signatures.push_back(signed);
    }

    // Shared by the shards, held for a look at 4 KB.
    fn lock(&self) -> MutexGuard<'_, VecDeque<[u8; digest::SHA256_OUTPUT_LEN]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A provider for one connection, and where its keying material will be.
pub(crate) fn capturing(inner: Arc<dyn RTCCryptoProvider>) -> (Arc<dyn RTCCryptoProvider>, Captured) {
    let captured = Captured::default();
    let crypto = Crypto { inner: inner.clone(), watch: Watch::Material(captured.clone()) };
    (Arc::new(Provider { inner, crypto }), captured)
}

/// A provider that verifies a good signature once.
pub(crate) fn remembering(inner: Arc<dyn RTCCryptoProvider>) -> Arc<dyn RTCCryptoProvider> {
    let crypto = Crypto { inner: inner.clone(), watch: Watch::Signatures(Verified::default()) };
    Arc::new(Provider { inner, crypto })
}

/// A provider that has this key exchange only.
pub(crate) fn with_key_exchange(
    inner: Arc<dyn RTCCryptoProvider>,
    only: KeyExchangeAlgorithm,
) -> Arc<dyn RTCCryptoProvider> {
    let crypto = Crypto { inner: inner.clone(), watch: Watch::KeyExchange(only) };
    Arc::new(Provider { inner, crypto })
}

/// What is looked at.
enum Watch {
    Material(Captured),
    Signatures(Verified),
    KeyExchange(KeyExchangeAlgorithm),
}

struct Provider {
    inner: Arc<dyn RTCCryptoProvider>,
    crypto: Crypto,
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        &self.crypto
    }

    fn random(&self) -> &dyn RTCRandom {
        self.inner.random()
    }
}

struct Crypto {
    inner: Arc<dyn RTCCryptoProvider>,
    watch: Watch,
}

impl RTCCrypto for Crypto {
    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        let inner = self.inner.crypto().new_hmac(algorithm, key)?;
        Ok(match &self.watch {
            Watch::Material(captured) => Box::new(CapturingMac { inner, captured: captured.clone() }),
            Watch::Signatures(_) | Watch::KeyExchange(_) => inner,
        })
    }

    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        let denied = match (&self.watch, algorithm) {
            (Watch::KeyExchange(only), CryptoAlgorithm::KeyExchange(asked)) => asked != *only,
            _ => false,
        };
        !denied && self.inner.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.crypto().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.inner.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.inner.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.inner.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.inner.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.inner.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner.crypto().import_signing_key(scheme, pkcs8)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let verify = || self.inner.crypto().verify_signature(scheme, key, message, signature);
        let Watch::Signatures(verified) = &self.watch else { return verify() };
        let signed = digest_of(scheme, key, message, signature);
        if verified.contains(&signed) {
            return Ok(());
        }
        verify()?;
        verified.add(signed);
        Ok(())
    }
}

/// A hash over a signature and all that it is verified with, each part behind its length.
fn digest_of(
    scheme: SignatureScheme,
    key: PublicKey<'_>,
    message: &[u8],
    signature: &[u8],
) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    let how = format!("{scheme:?} {:?}", key.encoding);
    for part in [how.as_bytes(), key.bytes, message, signature] {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

struct CapturingMac {
    inner: Box<dyn Mac>,
    captured: Captured,
}

impl Mac for CapturingMac {
    fn output_len(&self) -> usize {
        self.inner.output_len()
    }

    fn sign(&mut self, input: &[&[u8]], output: &mut [u8]) -> Result<(), CryptoError> {
        self.inner.sign(input, output)?;
        // P_hash's output blocks are HMAC(secret, A(i) + seed): two inputs (RFC 5246, 5). A(i) itself has one.
        if let [_, seed] = input
            && seed.starts_with(LABEL)
        {
            self.captured.append(output);
        }
        Ok(())
    }

    fn verify(&mut self, input: &[&[u8]], expected: &[u8]) -> Result<(), CryptoError> {
        self.inner.verify(input, expected)
    }
}

#[cfg(test)]
mod tests {
    use rtc::crypto::providers::AwsLcRsProvider;

    use super::*;

    #[test]
    fn a_good_signature_is_good_again_and_no_other_is() {
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let provider = remembering(Arc::new(AwsLcRsProvider::new()));
        let crypto = provider.crypto();
        let key = crypto.generate_signing_key(scheme).unwrap();
        let other = crypto.generate_signing_key(scheme).unwrap();
        let (public, other) = (key.public_key(), other.public_key());
        let signature = key.sign(scheme, b"a flight").unwrap();
        for _ in 0..2 {
            assert!(crypto.verify_signature(scheme, public, b"a flight", &signature).is_ok());
            assert!(crypto.verify_signature(scheme, public, b"another", &signature).is_err());
            assert!(crypto.verify_signature(scheme, other, b"a flight", &signature).is_err());
            assert!(crypto.verify_signature(scheme, public, b"a flight", &signature[1..]).is_err());
        }
    }

    #[test]
    fn few_signatures_are_remembered() {
        let verified = Verified::default();
        let signed = |n: usize| [n as u8; digest::SHA256_OUTPUT_LEN];
        for n in 0..=MAX_VERIFIED {
            verified.add(signed(n));
        }
        assert_eq!(verified.lock().len(), MAX_VERIFIED);
        assert!(!verified.contains(&signed(0)) && verified.contains(&signed(1)));
    }
}
