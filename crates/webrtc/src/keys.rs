//! SRTP keying material, as the DTLS handshake makes it.
//!
//! `rtc` keeps it to itself, but asks its crypto provider to compute it. So each connection gets a provider of its own
//! that passes everything through and keeps a copy of that one output (RFC 5705 exporter, RFC 5764, 4.2).
//!
//! It also spares a computation: `rtc` looks at a client's last flight twice, once before it can decrypt the end of it
//! and once after, and would verify the signature in it each time, which is a sixth of a handshake.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey,
    PublicKeyEncoding, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};

/// The exporter's label (RFC 5764, 4.2). The PRF's seed begins with it.
const LABEL: &[u8] = b"EXTRACTOR-dtls_srtp";

/// What has been captured of one connection's keying material.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    material: Vec<u8>,
    /// The last signature that was good.
    verified: Option<Signed>,
}

/// A signature and all that it was verified with.
#[derive(PartialEq, Eq)]
struct Signed {
    scheme: SignatureScheme,
    encoding: PublicKeyEncoding,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Captured {
    /// Takes the material out; empty before the handshake is complete. Both masters of both sides, in the order of
    /// RFC 5764, 4.2, followed by what the last PRF block has left over.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.lock()).material
    }

    fn append(&self, block: &[u8]) {
        self.lock().material.extend_from_slice(block);
    }

    // Nobody else has it but the connection itself, so nobody waits.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A provider for one connection, and where its keying material will be.
pub(crate) fn capturing(inner: Arc<dyn RTCCryptoProvider>) -> (Arc<dyn RTCCryptoProvider>, Captured) {
    let captured = Captured::default();
    let crypto = CapturingCrypto { inner: inner.clone(), captured: captured.clone() };
    (Arc::new(CapturingProvider { inner, crypto }), captured)
}

struct CapturingProvider {
    inner: Arc<dyn RTCCryptoProvider>,
    crypto: CapturingCrypto,
}

impl RTCCryptoProvider for CapturingProvider {
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

struct CapturingCrypto {
    inner: Arc<dyn RTCCryptoProvider>,
    captured: Captured,
}

impl RTCCrypto for CapturingCrypto {
    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        let inner = self.inner.crypto().new_hmac(algorithm, key)?;
        Ok(Box::new(CapturingMac { inner, captured: self.captured.clone() }))
    }

    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.inner.crypto().supports(algorithm)
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
        let signed = Signed {
            scheme,
            encoding: key.encoding,
            key: key.bytes.to_vec(),
            message: message.to_vec(),
            signature: signature.to_vec(),
        };
        if self.captured.lock().verified.as_ref() == Some(&signed) {
            return Ok(());
        }
        self.inner.crypto().verify_signature(scheme, key, message, signature)?;
        self.captured.lock().verified = Some(signed);
        Ok(())
    }
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
        let (provider, captured) = capturing(Arc::new(AwsLcRsProvider::new()));
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
        assert!(captured.lock().verified.is_some());
        captured.take();
        assert!(captured.lock().verified.is_none(), "it takes no memory once the handshake is over");
    }
}
