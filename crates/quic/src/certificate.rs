//! The edge's certificate: from files, read again whenever they change; or [`generated`], and made anew before it runs out.

mod generated;

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

pub(crate) use self::generated::Generated;
use self::generated::{Made, is_old};
use crate::{StartError, TlsFiles};

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
    Generated(Generated),
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
    /// Reads or makes the first one, or takes up a generated one that was kept.
    pub(crate) fn new(
        files: Option<TlsFiles>,
        generated: Generated,
        now: OffsetDateTime,
    ) -> Result<Self, StartError> {
        let source = match files {
            Some(files) => Source::Files(files),
            None => Source::Generated(generated),
        };
        let current = match &source {
            Source::Files(files) => from_files(files, now),
            Source::Generated(generated) => generated.take_up(now).map(Current::from),
        }
        .map_err(StartError::Certificate)?;
        Ok(Self { source, current: RwLock::new(current) })
    }

    /// SHA-256 of the certificate in use, in hexadecimal digits.
    pub(crate) fn fingerprint(&self) -> String {
        self.current().fingerprint
    }

    /// The same of a generated one: browsers take no other by its hash.
    pub(crate) fn pin(&self) -> Option<String> {
        matches!(self.source, Source::Generated(_)).then(|| self.fingerprint())
    }

    /// Looks whether another is needed, or there: the files have changed, or a generated one is old. Returns whether it
    /// was replaced. One that won't do leaves the one in use where it is.
    pub(crate) fn check(&self, now: OffsetDateTime) -> Result<bool, String> {
        let current = self.current();
        let due = match &self.source {
            Source::Generated(_) => is_old(current.made, now),
            Source::Files(files) => read_both(files)? != current.texts,
        };
        if due {
            let next = match &self.source {
                Source::Files(files) => from_files(files, now)?,
                Source::Generated(generated) => generated.make(now)?.into(),
            };
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

impl From<Made> for Current {
    fn from(made: Made) -> Self {
        let fingerprint = fingerprint(&made.pair.cert[0]);
        Self { pair: Arc::new(made.pair), fingerprint, texts: (Vec::new(), Vec::new()), made: made.at }
    }
}

fn from_files(files: &TlsFiles, now: OffsetDateTime) -> Result<Current, String> {
    let texts = read_both(files)?;
    let (chain, key) = parse(files, &texts)?;
    let fingerprint = fingerprint(&chain[0]);
    Ok(Current { pair: Arc::new(pair(chain, key)?), fingerprint, texts, made: now })
}

fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, String> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| format!("the certificate and its key do not fit: {error}"))
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
        let certificates =
            Certificates::new(Some(files), Generated { names: Vec::new(), file: None }, START).unwrap();
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
