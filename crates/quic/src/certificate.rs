//! The edge's certificate: from files, read again whenever they change; or generated, and made anew before it runs out.
//!
//! A generated one is for browsers that are told its hash (W3C WebTransport, `serverCertificateHashes`): ECDSA P-256,
//! valid for no more than two weeks. A page asks for the hash right before it connects.

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use crate::{StartError, TlsFiles};

/// How long a generated certificate is valid. Browsers take no more than 14 days for one known by its hash.
const VALID: Duration = Duration::from_secs(13 * 86_400);
/// It is valid from this long before it was made, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(86_400);
/// It is replaced when it is this old.
const RENEWED_AFTER: Duration = Duration::from_secs(8 * 86_400);
/// How often files are looked at again, and ages.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(5);
/// The largest PEM file read, in bytes; a longer one is refused.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// The certificate in use. Shared by QUIC's handshakes and those over TCP.
#[derive(Debug)]
pub(crate) struct Certificates {
    source: Source,
    /// Read by every handshake for the time of a clone, written when there is a new one.
    current: RwLock<Current>,
}

#[derive(Debug)]
enum Source {
    Files(TlsFiles),
    Generated { names: Vec<String> },
}

#[derive(Debug, Clone)]
struct Current {
    pair: Arc<CertifiedKey>,
    /// SHA-256 of the certificate, in hexadecimal digits.
    fingerprint: String,
    /// What the files said, to see whether they have changed; empty for a generated one.
    texts: (Vec<u8>, Vec<u8>),
    /// When it was made.
    made: OffsetDateTime,
}

impl Certificates {
    /// Reads or makes the first one. `names` are those of a generated one.
    pub(crate) fn new(
        files: Option<TlsFiles>,
        names: Vec<String>,
        now: OffsetDateTime,
    ) -> Result<Self, StartError> {
        let source = match files {
            Some(files) => Source::Files(files),
            None => Source::Generated { names },
        };
        let current = source.make(now).map_err(StartError::Certificate)?;
        Ok(Self { source, current: RwLock::new(current) })
    }

    /// SHA-256 of the certificate in use, in hexadecimal digits.
    pub(crate) fn fingerprint(&self) -> String {
        self.current().fingerprint
    }

    /// The same of a generated one: browsers take no other by its hash.
    pub(crate) fn pin(&self) -> Option<String> {
        matches!(self.source, Source::Generated { .. }).then(|| self.fingerprint())
    }

    /// Looks whether another is needed, or there: the files have changed, or a generated one is old. Returns whether it
    /// was replaced. One that won't do leaves the one in use where it is.
    pub(crate) fn check(&self, now: OffsetDateTime) -> Result<bool, String> {
        let current = self.current();
        let due = match &self.source {
            Source::Generated { .. } => now - current.made >= RENEWED_AFTER,
            Source::Files(files) => read_both(files)? != current.texts,
        };
        if due {
            let next = self.source.make(now)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        }
        Ok(due)
    }

    fn current(&self) -> Current {
        // Nobody panics while holding it: an assignment and a clone.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).pair.clone())
    }
}

impl Source {
    fn make(&self, now: OffsetDateTime) -> Result<Current, String> {
        let (chain, key, texts) = match self {
            Source::Generated { names } => {
                let (certificate, key) = generate(names, now).map_err(|error| error.to_string())?;
                (vec![certificate], key, (Vec::new(), Vec::new()))
            }
            Source::Files(files) => {
                let texts = read_both(files)?;
                let (chain, key) = parse(files, &texts)?;
                (chain, key, texts)
            }
        };
        let fingerprint = fingerprint(&chain[0]);
        let pair = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| format!("the certificate and its key do not fit: {error}"))?;
        Ok(Current { pair: Arc::new(pair), fingerprint, texts, made: now })
    }
}

fn generate(
    names: &[String],
    now: OffsetDateTime,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(names.to_vec())?;
    params.not_before = now - BACKDATED;
    params.not_after = now - BACKDATED + VALID;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_both(files: &TlsFiles) -> Result<(Vec<u8>, Vec<u8>), String> {
    Ok((read(&files.cert)?, read(&files.key)?))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("{}: cannot read: {error}", path.display())),
        Ok(read) if read as u64 > MAX_PEM_BYTES => {
            Err(format!("{}: larger than {MAX_PEM_BYTES} bytes", path.display()))
        }
        Ok(_) => Ok(bytes),
    }
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn parse(files: &TlsFiles, (cert, key): &(Vec<u8>, Vec<u8>)) -> Result<Pair, String> {
    let missing = |path: &Path, what| format!("{}: expected {what} (PEM)", path.display());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|_| missing(&files.cert, "certificates"))?;
    if chain.is_empty() {
        return Err(missing(&files.cert, "certificates"));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| missing(&files.key, "a private key"))?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn generated() -> Certificates {
        Certificates::new(None, vec!["localhost".to_owned()], START + time::Duration::days(20_000)).unwrap()
    }

    #[test]
    fn a_generated_certificate_is_replaced_before_it_runs_out_and_not_sooner() {
        let certificates = generated();
        let (first, made) = (certificates.fingerprint(), START + time::Duration::days(20_000));
        assert_eq!(first.len(), 64);
        assert_eq!(certificates.check(made + RENEWED_AFTER - Duration::from_secs(1)), Ok(false));
        assert_eq!(certificates.fingerprint(), first);
        assert_eq!(certificates.check(made + RENEWED_AFTER), Ok(true));
        assert_ne!(certificates.fingerprint(), first);
        assert!(RENEWED_AFTER + BACKDATED < VALID, "renewed while the old one is valid");
        assert!(VALID <= Duration::from_secs(14 * 86_400), "no longer than browsers take");
    }

    #[test]
    fn files_are_read_again_when_they_change_and_bad_ones_change_nothing() {
        let dir = std::env::temp_dir().join(format!("haul-quic-certificate-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let write = |dir: &PathBuf| {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            fs::write(dir.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
            fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        };
        write(&dir);
        let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
        let certificates = Certificates::new(Some(files), Vec::new(), START).unwrap();
        let first = certificates.fingerprint();
        assert_eq!(certificates.check(START), Ok(false));
        write(&dir);
        assert_eq!(certificates.check(START), Ok(true));
        let second = certificates.fingerprint();
        assert_ne!(second, first);
        fs::write(dir.join("key.pem"), "no key").unwrap();
        assert!(certificates.check(START).unwrap_err().contains("expected a private key"));
        assert_eq!(certificates.fingerprint(), second);
        fs::remove_dir_all(&dir).unwrap();
    }
}
