//! The server's certificate: read at start, and again whenever its files change.
//!
//! A pair that does not fit (renewed by half, damaged) leaves the one in use where it is.

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::TlsFiles;

/// The largest PEM file read, in bytes; a longer one is refused.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// Why a certificate and its key won't do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("{file}: cannot read: {error}")]
    Unreadable {
        /// Which file.
        file: String,
        /// What the system says.
        error: String,
    },
    /// A file has no certificate, or no private key, in PEM.
    #[error("{file}: expected {expected} (PEM)")]
    Empty {
        /// Which file.
        file: String,
        /// What was expected in it.
        expected: &'static str,
    },
    /// Certificate and key are not a pair, or of a kind that is not supported.
    #[error("the certificate and its key do not fit: {0}")]
    Mismatch(String),
}

/// The certificate in use.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Read by every handshake for the time of a clone, written when the files have changed.
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificates {
    pub(super) fn load(files: &TlsFiles) -> Result<Self, CertificateError> {
        let pair = Texts::read(files)?.pair(files)?;
        Ok(Self { current: RwLock::new(Arc::new(pair)) })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        // Nobody panics while holding it: an assignment and a clone.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, pair: CertifiedKey) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// How we speak TLS: versions and ciphers as rustls has them, HTTP/1.1 (websockets need it).
pub(super) fn server_config(certificates: &Arc<Certificates>) -> Result<Arc<ServerConfig>, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| CertificateError::Mismatch(error.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(certificates.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What the files say. The texts are compared and not the files' times: a copy may keep the old time.
#[derive(PartialEq, Eq)]
struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Texts {
    fn read(files: &TlsFiles) -> Result<Self, CertificateError> {
        Ok(Self { cert: read(&files.cert)?, key: read(&files.key)? })
    }

    fn pair(&self, files: &TlsFiles) -> Result<CertifiedKey, CertificateError> {
        let empty = |file: &Path, expected| CertificateError::Empty { file: name(file), expected };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<_, _>>()
            .map_err(|_| empty(&files.cert, "certificates"))?;
        if chain.is_empty() {
            return Err(empty(&files.cert, "certificates"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| empty(&files.key, "a private key"))?;
        CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| CertificateError::Mismatch(error.to_string()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |error: String| CertificateError::Unreadable { file: name(path), error };
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    match read as u64 > MAX_PEM_BYTES {
        true => Err(unreadable(format!("larger than {MAX_PEM_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// Looks for new certificates.
pub(super) struct Watch {
    files: TlsFiles,
    certificates: Arc<Certificates>,
    /// What was found last time, so that each change is tried, and complained about, once.
    seen: Option<Result<Texts, CertificateError>>,
}

impl Watch {
    pub(super) fn new(files: TlsFiles, certificates: Arc<Certificates>) -> Self {
        Self { files, certificates, seen: None }
    }

    /// Looks every `period`, until it is aborted.
    pub(super) async fn run(mut self, period: Duration) {
        loop {
            tokio::time::sleep(period).await;
            // Files are read on a thread that may block: they can lie on a network.
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(watch) => self = watch,
                Err(_) => return,
            }
        }
    }

    /// Takes the files' certificate into use if they have changed and fit each other.
    fn look(&mut self) {
        let found = Texts::read(&self.files);
        if self.seen.as_ref() == Some(&found) {
            return;
        }
        let pair = found.as_ref().map_err(CertificateError::clone).and_then(|texts| texts.pair(&self.files));
        self.seen = Some(found);
        match pair {
            Ok(pair) if pair.cert == self.certificates.current().cert => {}
            Ok(pair) => {
                self.certificates.replace(pair);
                tracing::info!(file = %self.files.cert.display(), "certificate replaced");
            }
            Err(error) => tracing::error!(%error, "keeping the former certificate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::Pair;

    #[test]
    fn a_renewed_pair_is_taken_and_a_broken_one_is_not() {
        let pair = Pair::new("first");
        let certificates = Arc::new(Certificates::load(&pair.files()).unwrap());
        let mut watch = Watch::new(pair.files(), certificates.clone());
        let shown = || certificates.current().cert[0].to_vec();
        let first = shown();
        watch.look();
        assert_eq!(shown(), first);

        // Renewed by half: the key is still the old one.
        let old_key = std::fs::read(pair.files().key).unwrap();
        let second = pair.renew();
        let new_key = std::fs::read(pair.files().key).unwrap();
        std::fs::write(pair.files().key, old_key).unwrap();
        watch.look();
        assert_eq!(shown(), first);
        assert!(watch.seen.is_some());

        std::fs::write(pair.files().key, new_key).unwrap();
        watch.look();
        assert_eq!(shown(), second);

        for garbage in [&b""[..], b"not PEM", &[0xFF; 64]] {
            std::fs::write(pair.files().cert, garbage).unwrap();
            watch.look();
            assert_eq!(shown(), second);
        }
        std::fs::remove_file(pair.files().cert).unwrap();
        watch.look();
        assert_eq!(shown(), second);

        let third = pair.renew();
        watch.look();
        assert_eq!(shown(), third);
    }

    #[test]
    fn what_is_wrong_at_start_is_named() {
        let pair = Pair::new("wrong");
        let refused = || Certificates::load(&pair.files()).unwrap_err().to_string();
        std::fs::write(pair.files().key, "").unwrap();
        assert!(refused().contains("key.pem: expected a private key"), "{}", refused());
        let other = Pair::new("other");
        std::fs::copy(other.files().key, pair.files().key).unwrap();
        assert!(refused().contains("do not fit"), "{}", refused());
        std::fs::write(pair.files().cert, "").unwrap();
        assert!(refused().contains("cert.pem: expected certificates"), "{}", refused());
        std::fs::remove_file(pair.files().cert).unwrap();
        assert!(refused().contains("cert.pem: cannot read"), "{}", refused());
    }
}
