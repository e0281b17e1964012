//! What all connections of a server share: its certificate, its cryptography, and how it shakes hands.

use std::sync::Arc;

use aws_lc_rs::digest;
use rtc::{
    crypto::{
        KeyExchangeAlgorithm, RTCCrypto, RTCCryptoProvider, SignatureScheme, providers::AwsLcRsProvider,
    },
    dtls::{
        config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
        crypto::Certificate,
        extension::extension_use_srtp::SrtpProtectionProfile,
    },
    peer_connection::certificate::RTCCertificate,
};

use crate::{
    hello::Offered,
    keys::{self, Captured},
};

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
    /// As the server, by what the client has: of SRTP's profiles one, and of curves the cheapest alone if it has that.
    /// What `rtc` would choose is what the client has named first.
    servers: [(Offered, Arc<HandshakeConfig>); 4],
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
        let only_x25519 = keys::with_key_exchange(provider.clone(), KeyExchangeAlgorithm::X25519);
        let server = |gcm: bool, x25519: bool| {
            let provider = if x25519 { &only_x25519 } else { provider };
            let config = config(provider, certificate, vec![if gcm { GCM } else { SHA1 }], false)?;
            Ok::<_, String>((Offered { gcm, x25519 }, config))
        };
        Ok(Self {
            servers: [server(true, true)?, server(true, false)?, server(false, true)?, server(false, false)?],
            client: config(provider, certificate, vec![GCM, SHA1], true)?,
        })
    }

    /// As the server of a client that has this.
    pub(crate) fn server(&self, offered: Offered) -> Arc<HandshakeConfig> {
        let found = self.servers.iter().find(|(for_those, _)| *for_those == offered);
        // There is one for each; the last is for those who have nothing.
        found.unwrap_or(&self.servers[3]).1.clone()
    }
}

fn config(
    provider: &Arc<dyn RTCCryptoProvider>,
    certificate: &Certificate,
    profiles: Vec<SrtpProtectionProfile>,
    client: bool,
) -> Result<Arc<HandshakeConfig>, String> {
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
    let is_hex = |digits: &str| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = |digits: &str| is_hex(digits).then(|| u8::from_str_radix(digits, 16).ok())?;
    let bytes: Option<Vec<u8>> = bytes.trim().split(':').map(byte).collect();
    Some((algorithm, bytes.filter(|bytes| bytes.len() == algorithm.output_len())?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddr},
        time::Instant,
    };

    use rtc::{
        dtls::endpoint::{Endpoint, EndpointEvent},
        shared::TransportProtocol,
    };

    use super::*;
    use crate::hello;

    #[test]
    fn a_certificate_is_known_by_any_fingerprint_with_a_good_hash() {
        let identity = Identity::generate().unwrap();
        let ours = identity.certificate().dtls_certificate.certificate[0].to_vec();
        let good = format!("a=fingerprint:{}\r\n", identity.fingerprint());
        let read = |sdp: &str| Fingerprints::read(sdp);
        assert!(read(&good).unwrap().vouch_for(&ours));
        assert!(read(&good.to_lowercase().replace("sha-256", "SHA-256")).unwrap().vouch_for(&ours));
        assert!(!read(&good).unwrap().vouch_for(&ours[1..]));
        let other = "a=fingerprint:sha-256 AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA\r\n";
        assert!(!read(other).unwrap().vouch_for(&ours));
        assert!(read(&format!("{other}{good}")).unwrap().vouch_for(&ours));
        for none in ["", "a=fingerprint:md5 AA:BB", "a=fingerprint:sha-256", "a=fingerprint:sha-256 AA:XY"] {
            assert!(read(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_client_shakes_hands_with_the_key_exchange_that_it_has() {
        let identity = Identity::generate().unwrap();
        let plain: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let only = |algorithm| keys::with_key_exchange(plain.clone(), algorithm);
        let certificate = identity.certificate().dtls_certificate;
        for (provider, x25519) in [
            (plain.clone(), true),
            (only(KeyExchangeAlgorithm::X25519), true),
            (only(KeyExchangeAlgorithm::P256), false),
            (only(KeyExchangeAlgorithm::P384), false),
        ] {
            let client = config(&provider, &certificate, vec![GCM, SHA1], true).unwrap();
            let now = Instant::now();
            let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
            let mut client_end = Endpoint::new(address, TransportProtocol::UDP, None);
            client_end.connect(now, address, client, None).unwrap();
            let mut hello = Vec::new();
            let mut server_end: Option<Endpoint> = None;
            let mut agreed = false;
            for _ in 0..8 {
                while let Some(datagram) = client_end.poll_transmit() {
                    hello.push(datagram.message.to_vec());
                    let server = server_end.get_or_insert_with(|| {
                        let offered = hello::offered(&hello).unwrap();
                        assert_eq!(offered, Offered { gcm: true, x25519 });
                        let config = identity.handshakes().server(offered);
                        Endpoint::new(address, TransportProtocol::UDP, Some(config))
                    });
                    let events = server.read(now, address, None, datagram.message).unwrap();
                    agreed |= events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete));
                }
                while let Some(datagram) = server_end.as_mut().and_then(Endpoint::poll_transmit) {
                    client_end.read(now, address, None, datagram.message).unwrap();
                }
                client_end.handle_timeout(address, now).unwrap();
            }
            assert!(agreed, "with x25519: {x25519}");
        }
    }
}
