//! What all connections of a server share: its certificate, its cryptography, and how it shakes hands.

use std::sync::Arc;

use aws_lc_rs::digest;
use rtc::{
    crypto::{RTCCrypto, RTCCryptoProvider, SignatureScheme, providers::AwsLcRsProvider},
    dtls::{
        config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
        crypto::Certificate,
        extension::extension_use_srtp::SrtpProtectionProfile,
    },
    peer_connection::certificate::RTCCertificate,
};

use crate::keys::{self, Captured};

/// The SRTP profiles by `rtc`'s names for them.
pub(crate) const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
pub(crate) const SHA1: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;

/// What all connections of a server share. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: RTCCertificate,
    /// The certificate's, as an SDP line has it: `sha-256 AB:CD:…`.
    fingerprint: Arc<str>,
    handshakes: Handshakes,
}

/// How connections that are ours alone shake hands. A configuration says nothing of a client, so all share it.
#[derive(Clone)]
pub(crate) struct Handshakes {
    /// As the server, towards clients that have AES-GCM. We take the client's order of profiles, so it names one.
    pub(crate) server: Arc<HandshakeConfig>,
    /// As the server, towards clients that have not.
    pub(crate) fallback: Arc<HandshakeConfig>,
    /// As the client: both profiles, in our order.
    pub(crate) client: Arc<HandshakeConfig>,
}

impl Identity {
    /// A fresh self-signed certificate (RFC 8827, 6.5: its fingerprint in the SDP is what vouches for it).
    pub(crate) fn generate() -> Result<Self, String> {
        let provider = keys::remembering(Arc::new(AwsLcRsProvider::new()));
        let params =
            rcgen::CertificateParams::new(vec!["haul".to_owned()]).map_err(|error| error.to_string())?;
        let certificate =
            RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params)
                .map_err(|error| error.to_string())?;
        let fingerprints =
            certificate.get_fingerprints(provider.crypto()).map_err(|error| error.to_string())?;
        let fingerprint = fingerprints.first().ok_or("a certificate without a fingerprint")?;
        let fingerprint = format!("{} {}", fingerprint.algorithm, fingerprint.value.to_uppercase()).into();
        let handshakes = Handshakes::new(&provider, &certificate.dtls_certificate)?;
        Ok(Self { provider, certificate, fingerprint, handshakes })
    }

    /// The cryptography.
    pub(crate) fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }

    /// The same for one connection of `rtc`'s, and where its keying material will be.
    pub(crate) fn capturing(&self) -> (Arc<dyn RTCCryptoProvider>, Captured) {
        keys::capturing(self.provider.clone())
    }

    pub(crate) fn certificate(&self) -> RTCCertificate {
        self.certificate.clone()
    }

    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }
}

impl Handshakes {
    fn new(provider: &Arc<dyn RTCCryptoProvider>, certificate: &Certificate) -> Result<Self, String> {
        let config = |profiles: Vec<SrtpProtectionProfile>, client: bool| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles)
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                // The offer's fingerprints vouch for the certificate, not a chain (see [`Fingerprints`]).
                .with_insecure_skip_verify(true)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .with_server_name("localhost".to_owned())
                .build(client, None)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        };
        Ok(Self {
            server: config(vec![GCM], false)?,
            fallback: config(vec![SHA1], false)?,
            client: config(vec![GCM, SHA1], true)?,
        })
    }
}

/// The fingerprints of a client's certificates, as its offer has them (RFC 8122, 5).
#[derive(Debug)]
pub(crate) struct Fingerprints(Vec<(&'static digest::Algorithm, Vec<u8>)>);

impl Fingerprints {
    /// Those among the lines of an offer that are made with a hash that we have; `None` if there is none.
    pub(crate) fn read(sdp: &str) -> Option<Self> {
        let lines = sdp.lines().filter_map(|line| line.strip_prefix("a=fingerprint:"));
        let known: Vec<_> = lines.filter_map(fingerprint).collect();
        (!known.is_empty()).then_some(Self(known))
    }

    /// Whether one of them is this certificate's.
    pub(crate) fn vouch_for(&self, certificate: &[u8]) -> bool {
        self.0.iter().any(|(algorithm, told)| digest::digest(algorithm, certificate).as_ref() == told)
    }
}

fn fingerprint(value: &str) -> Option<(&'static digest::Algorithm, Vec<u8>)> {
    let (name, bytes) = value.trim().split_once(' ')?;
    let algorithm = match name.to_ascii_lowercase().as_str() {
        "sha-256" => &digest::SHA256,
        "sha-384" => &digest::SHA384,
        "sha-512" => &digest::SHA512,
        // RFC 8122, 5: MD5 and MD2 must not be used; SHA-1 no client makes any more.
        _ => return None,
    };
    let bytes: Option<Vec<u8>> =
        bytes.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    Some((algorithm, bytes?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_known_by_any_fingerprint_with_a_good_hash() {
        let identity = Identity::generate().unwrap();
        let ours = identity.certificate().dtls_certificate.certificate[0].to_vec();
        let good = format!("a=fingerprint:{}\r\n", identity.fingerprint());
        let read = |sdp: &str| Fingerprints::read(sdp);
        assert!(read(&good).unwrap().vouch_for(&ours));
        assert!(read(&good.to_lowercase().replace("sha-256", "SHA-256")).unwrap().vouch_for(&ours));
        assert!(!read(&good).unwrap().vouch_for(&ours[1..]));
        let other = "a=fingerprint:sha-256 AA:BB\r\n";
        assert!(!read(other).unwrap().vouch_for(&ours));
        assert!(read(&format!("{other}{good}")).unwrap().vouch_for(&ours));
        for none in ["", "a=fingerprint:md5 AA:BB", "a=fingerprint:sha-256", "a=fingerprint:sha-256 AA:XY"] {
            assert!(read(none).is_none(), "{none}");
        }
    }
}
