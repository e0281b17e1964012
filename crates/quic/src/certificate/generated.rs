//! A generated certificate, and the file that keeps it: who has pinned its hash knows the server after a restart, too.
//!
//! It is for clients that are told its hash (W3C WebTransport, `serverCertificateHashes`): ECDSA P-256, valid for no more
//! than two weeks. The file is PEM, the key in it, under lines that say when it was made and for which names.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

/// How long it is valid. Browsers take no more than 14 days for one known by its hash.
const VALID: Duration = Duration::from_secs(13 * 86_400);
/// It is valid from this long before it was made, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(86_400);
/// It is replaced when it is this old.
const RENEWED_AFTER: Duration = Duration::from_secs(8 * 86_400);
/// What stands before the seconds since 1970 in the file.
const MADE: &str = "made: ";
/// What stands before the names.
const NAMES: &str = "names: ";

/// How certificates are generated.
#[derive(Debug)]
pub(crate) struct Generated {
    /// The names in them.
    pub(crate) names: Vec<String>,
    /// Where the one in use is kept; `None`: nowhere.
    pub(crate) file: Option<PathBuf>,
}

/// One that was generated, now or by a server before.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) pair: CertifiedKey,
    pub(super) at: OffsetDateTime,
}

/// Why a kept one is not taken up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is broken: {0}")]
    Broken(String),
    #[error("is for other names")]
    OtherNames,
    #[error("has grown old")]
    Old,
    #[error("was made in the future by this machine's clock")]
    Early,
}

impl Generated {
    /// The one that is kept, where it still does, else another.
    pub(super) fn take_up(&self, now: OffsetDateTime) -> Result<Made, String> {
        let Some(path) = &self.file else { return self.make(now) };
        let unfit = match read(path) {
            Ok(None) => return self.make(now),
            Ok(Some(text)) => match parse(&text, &self.names, now) {
                Ok(made) => return Ok(made),
                Err(unfit) => unfit,
            },
            Err(unfit) => unfit,
        };
        tracing::warn!(
            path = %path.display(),
            "the kept MoQ certificate {unfit}: another is made, and who has pinned the former one has to be told its hash"
        );
        self.make(now)
    }

    /// Another one. It is kept before anybody can have seen its hash.
    pub(super) fn make(&self, now: OffsetDateTime) -> Result<Made, String> {
        let text = generate(&self.names, now).map_err(|error| error.to_string())?;
        if let Some(path) = &self.file
            && let Err(error) = keep(path, &text)
        {
            tracing::warn!(
                path = %path.display(), %error,
                "the MoQ certificate cannot be kept: who pins its hash is locked out after a restart; make data_dir writable"
            );
        }
        parse(text.as_bytes(), &self.names, now).map_err(|unfit| format!("the generated certificate {unfit}"))
    }
}

/// Whether one of this age is to be replaced.
pub(super) fn is_old(made: OffsetDateTime, now: OffsetDateTime) -> bool {
    now - made >= RENEWED_AFTER
}

/// The file's text for a new one.
fn generate(names: &[String], now: OffsetDateTime) -> Result<String, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(names.to_vec())?;
    params.not_before = now - BACKDATED;
    params.not_after = now - BACKDATED + VALID;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?.pem();
    let (made, names) = (now.unix_timestamp(), names.join(" "));
    Ok(format!("{MADE}{made}\n{NAMES}{names}\n{certificate}{}", key.serialize_pem()))
}

fn parse(text: &[u8], names: &[String], now: OffsetDateTime) -> Result<Made, Unfit> {
    let broken = |what: &str| Unfit::Broken(what.to_owned());
    let lines = std::str::from_utf8(text).map_err(|_| broken("not a text"))?;
    let said = |what| lines.lines().find_map(|line| line.strip_prefix(what));
    let at = said(MADE)
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds.parse().ok()?).ok())
        .ok_or_else(|| broken("it does not say when it was made"))?;
    let made_for = said(NAMES).ok_or_else(|| broken("it does not say its names"))?;
    let certificate = CertificateDer::from_pem_slice(text).map_err(|_| broken("no certificate (PEM)"))?;
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| broken("no private key (PEM)"))?;
    let pair = super::pair(vec![certificate], key).map_err(Unfit::Broken)?;
    if !made_for.split(' ').eq(names) {
        Err(Unfit::OtherNames)
    } else if is_old(at, now) {
        Err(Unfit::Old)
    } else if at - now > BACKDATED {
        Err(Unfit::Early)
    } else {
        Ok(Made { pair, at })
    }
}

/// What the file says; nothing where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Unfit> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => super::read(path).map(Some).map_err(Unfit::Unreadable),
    }
}

/// Writes it to a file of this process's own and puts that in `path`'s place: whoever reads `path` sees a whole one, also
/// after a power cut.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(dir)?;
    let own = path.with_extension(format!("{}.new", std::process::id()));
    // One that a crash has left may have been open to others.
    remove(&own)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&own)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&own, path));
    if written.is_err() {
        // The first error says more.
        let _ = remove(&own);
        return written;
    }
    // The rename is durable when the directory is.
    File::open(dir)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
        .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::certificate::Certificates;

    const MADE_AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(time::Duration::days(20_000));
    const SECOND: Duration = Duration::from_secs(1);

    fn names() -> Vec<String> {
        vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
    }

    /// A server that starts with this file.
    fn start(file: Option<&Path>, now: OffsetDateTime) -> Certificates {
        Certificates::new(None, Generated { names: names(), file: file.map(Path::to_owned) }, now).unwrap()
    }

    /// A directory of a test's own, which goes with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("haul-quic-generated-{test}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            Self(dir)
        }

        fn file(&self) -> PathBuf {
            self.0.join("data/certificate.pem")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_certificate_is_replaced_before_it_runs_out_and_not_sooner() {
        let certificates = start(None, MADE_AT);
        let first = certificates.fingerprint();
        assert_eq!(first.len(), 64);
        assert_eq!(certificates.check(MADE_AT + RENEWED_AFTER - SECOND), Ok(false));
        assert_eq!(certificates.fingerprint(), first);
        assert_eq!(certificates.check(MADE_AT + RENEWED_AFTER), Ok(true));
        assert_ne!(certificates.fingerprint(), first);
        assert!(RENEWED_AFTER + BACKDATED < VALID, "renewed while the old one is valid");
        assert!(VALID <= Duration::from_secs(14 * 86_400), "no longer than browsers take");
    }

    #[test]
    fn a_kept_certificate_is_taken_up_while_it_is_young_and_for_the_same_names() {
        let text = generate(&names(), MADE_AT).unwrap();
        let read = |text: &str, names: &[String], now| {
            parse(text.as_bytes(), names, now).map(|made| (made.at, made.pair.cert)).inspect_err(|unfit| {
                assert!(!unfit.to_string().is_empty());
            })
        };
        let young = read(&text, &names(), MADE_AT).unwrap();
        assert_eq!(young.0, MADE_AT);
        assert_eq!(read(&text, &names(), MADE_AT + RENEWED_AFTER - SECOND), Ok(young.clone()));
        assert_eq!(read(&text, &names(), MADE_AT + RENEWED_AFTER), Err(Unfit::Old));
        // A clock that was put back: it is valid from a day before it was made.
        assert_eq!(read(&text, &names(), MADE_AT - BACKDATED), Ok(young));
        assert_eq!(read(&text, &names(), MADE_AT - BACKDATED - SECOND), Err(Unfit::Early));
        for others in [&names()[..1], &[names(), vec!["192.0.2.1".to_owned()]].concat(), &[]] {
            assert_eq!(read(&text, others, MADE_AT), Err(Unfit::OtherNames));
        }
    }

    #[test]
    fn a_broken_file_is_told_from_a_whole_one_wherever_it_is_cut() {
        let text = generate(&names(), MADE_AT).unwrap();
        let is_broken = |text: &[u8]| matches!(parse(text, &names(), MADE_AT), Err(Unfit::Broken(_)));
        // But for the newline at its end.
        for cut in 0..text.trim_end().len() {
            assert!(is_broken(&text.as_bytes()[..cut]), "cut at {cut}");
        }
        let other = generate(&names(), MADE_AT).unwrap();
        let key = text.find("-----BEGIN PRIVATE KEY").unwrap();
        let others_key = &other[other.find("-----BEGIN PRIVATE KEY").unwrap()..];
        assert!(is_broken(format!("{}{others_key}", &text[..key]).as_bytes()), "another's key");
        for not_one in
            [&b"\xff\xfe"[..], b"made: now\nnames: localhost\n", b"made: 99999999999999999\nnames: x\n"]
        {
            assert!(is_broken(not_one));
        }
    }

    #[test]
    fn the_hash_stays_over_restarts_until_the_renewal() {
        let scratch = Scratch::new("stays");
        let file = scratch.file();
        let before = start(Some(&file), MADE_AT);
        let first = before.fingerprint();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let restarted = start(Some(&file), MADE_AT + RENEWED_AFTER - SECOND);
        assert_eq!(restarted.fingerprint(), first);
        // Its age counts from when it was made, not from the restart, and the new one is kept, too.
        assert_eq!(restarted.check(MADE_AT + RENEWED_AFTER), Ok(true));
        let second = restarted.fingerprint();
        assert_ne!(second, first);
        assert_eq!(start(Some(&file), MADE_AT + RENEWED_AFTER).fingerprint(), second);
        let third = start(Some(&file), MADE_AT + 2 * RENEWED_AFTER).fingerprint();
        assert_ne!(third, second);
        assert_eq!(start(Some(&file), MADE_AT + 2 * RENEWED_AFTER).fingerprint(), third);
        let left: Vec<_> =
            fs::read_dir(file.parent().unwrap()).unwrap().map(|one| one.unwrap().path()).collect();
        assert_eq!(left, [file], "nothing else is left");
    }

    #[test]
    fn a_broken_file_is_replaced_with_one_that_stays() {
        let scratch = Scratch::new("broken");
        let file = scratch.file();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "made: 1728000000\n").unwrap();
        // What a crash between two steps leaves, open to everybody.
        let left = file.with_extension(format!("{}.new", std::process::id()));
        fs::write(&left, "half").unwrap();
        fs::set_permissions(&left, PermissionsExt::from_mode(0o644)).unwrap();
        let first = start(Some(&file), MADE_AT).fingerprint();
        assert_eq!(start(Some(&file), MADE_AT).fingerprint(), first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!left.exists());
    }

    #[test]
    fn where_nothing_can_be_kept_the_server_starts_with_another_each_time() {
        let scratch = Scratch::new("unwritable");
        fs::create_dir_all(&scratch.0).unwrap();
        // A file is where the directory should be: nobody can write into it, not even root.
        fs::write(scratch.0.join("data"), "").unwrap();
        let first = start(Some(&scratch.file()), MADE_AT).fingerprint();
        assert_ne!(start(Some(&scratch.file()), MADE_AT).fingerprint(), first);
        assert_eq!(fs::read(scratch.0.join("data")).unwrap(), b"");
    }
}
