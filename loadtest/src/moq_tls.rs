//! Whom a MoQ viewer believes: a certificate with the hash that the server's own page names, as browsers do it
//! (WebTransport's `serverCertificateHashes`), or one that an authority has signed.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// A server that says nothing for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(9);

/// QUIC's configuration for a client of WebTransport.
pub(crate) fn config(roots: Arc<RootCertStore>, sha256: Option<&str>) -> Result<quinn::ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut tls = match sha256 {
        Some(sha256) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned {
                sha256: sha256.to_ascii_lowercase(),
                provider,
            }))
            .with_no_client_auth(),
        None => builder.with_root_certificates(roots).with_no_client_auth(),
    };
    tls.alpn_protocols = vec![web_transport_quinn::ALPN.as_bytes().to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|error| Error::General(error.to_string()))?;
    let mut transport = quinn::TransportConfig::default();
    let gone =
        GONE_AFTER.try_into().map_err(|_| Error::General("the idle timeout is too long".to_owned()))?;
    transport.max_idle_timeout(Some(gone)).keep_alive_interval(Some(GONE_AFTER / 3));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Believes one certificate, by its hash in hexadecimal digits.
#[derive(Debug)]
struct Pinned {
    sha256: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let hash = digest(&SHA256, certificate);
        let digits: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if digits == self.sha256 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_certificate_with_that_hash_is_believed() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        let pinned = Pinned { sha256, provider };
        let verify = |certificate: &'static [u8]| {
            let name = ServerName::try_from("localhost").unwrap();
            pinned.verify_server_cert(&certificate.into(), &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(verify(b"abc"));
        assert!(!verify(b"abd"));
    }
}
