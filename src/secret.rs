//! The secret that signs tokens: from the configuration, or generated once and kept in the data directory.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};
use haul_gateway::auth::MIN_SECRET_BYTES;

use crate::config::Config;

/// Its file in the data directory.
const FILE: &str = "secret";

/// The secret's bytes.
pub(crate) fn secret(config: &Config) -> anyhow::Result<Vec<u8>> {
    match config.auth.secret.expose() {
        "" => kept(&config.data_dir),
        given => Ok(given.as_bytes().to_vec()),
    }
}

/// The secret kept in `data_dir`, made if there is none. The file's text is the secret, so that it can be copied into
/// `auth.secret` of another machine.
fn kept(data_dir: &Path) -> anyhow::Result<Vec<u8>> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            generate(data_dir, &path)
                .with_context(|| format!("cannot keep a new secret in {}", path.display()))?;
            fs::read_to_string(&path)
        }
        read => read,
    }
    .with_context(|| format!("cannot read the secret in {}", path.display()))?;
    let secret = text.trim();
    if secret.len() < MIN_SECRET_BYTES {
        bail!("{}: expected a secret of at least {MIN_SECRET_BYTES} bytes", path.display());
    }
    let mode = fs::metadata(&path).map(|file| file.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others on this machine can read the secret: chmod 600 it");
    }
    Ok(secret.as_bytes().to_vec())
}

/// Writes a new secret to a file of this process's own and links that to `path`, unless another process was faster:
/// whoever reads `path` sees a whole secret, and always the same one.
fn generate(data_dir: &Path, path: &Path) -> anyhow::Result<()> {
    let mut random = [0_u8; MIN_SECRET_BYTES];
    getrandom::fill(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir_all(data_dir)?;
    let own = data_dir.join(format!(".{FILE}.{}", std::process::id()));
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&own).and_then(
        |mut file| {
            writeln!(file, "{text}")?;
            file.sync_all()?;
            fs::hard_link(&own, path)
        },
    );
    fs::remove_file(&own)
        .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn config(data_dir: &Path) -> Config {
        Config { data_dir: data_dir.to_owned(), ..Config::default() }
    }

    #[test]
    fn it_is_generated_once_and_kept_from_others() {
        let scratch = Scratch::new();
        let data_dir = scratch.path().join("deep/data");
        let first = secret(&config(&data_dir)).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(secret(&config(&data_dir)).unwrap(), first);
        assert_ne!(secret(&config(scratch.path())).unwrap(), first);
        let mode = fs::metadata(data_dir.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> =
            fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
    }

    #[test]
    fn processes_that_start_together_agree() {
        let scratch = Scratch::new();
        let path = scratch.path().join(FILE);
        generate(scratch.path(), &path).unwrap();
        let first = fs::read(&path).unwrap();
        generate(scratch.path(), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn a_configured_one_is_taken_as_it_is() {
        let scratch = Scratch::new();
        let given = "x".repeat(MIN_SECRET_BYTES);
        let config = crate::config::load(None, vec![("HAUL__AUTH__SECRET".into(), given.clone())]).unwrap();
        assert_eq!(secret(&Config { data_dir: scratch.path().into(), ..config }).unwrap(), given.as_bytes());
        assert!(!scratch.path().join(FILE).exists());
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join(FILE), "short\n").unwrap();
        let error = secret(&config(scratch.path())).unwrap_err().to_string();
        assert!(error.contains("at least 32 bytes"), "{error}");
        assert_eq!(fs::read(scratch.path().join(FILE)).unwrap(), b"short\n");
    }
}
