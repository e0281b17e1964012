//! Puts a file over the defaults and the environment over both, and says who is to blame for a wrong value.
//!
//! Each value is tried alone as soon as it is read, so that a refusal always names its key and where it came from.

use std::{fmt, io::Read, path::Path};

use toml::{Table, Value};

use super::{Config, Expect, KEYS, SECRET_KEYS};

/// Variables of ours begin with this.
const PREFIX: &str = "HAUL__";
/// The largest configuration file read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// How like a known key an unknown one must be for the known one to be suggested (1: the same).
const LIKENESS: f64 = 0.75;

/// Why there is no configuration. The message is for the operator and complete.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("{file}: cannot read the configuration: {error}")]
    Unreadable {
        /// Which file.
        file: String,
        /// What the system says.
        error: String,
    },
    /// The file is not TOML.
    #[error("{file}: not TOML: {error}")]
    Syntax {
        /// Which file.
        file: String,
        /// Where, and what was expected.
        error: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key {key}{suggestion}")]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: String,
        /// The key that was probably meant.
        suggestion: String,
    },
    /// The key exists, its value will not do.
    #[error("{origin}: {key}: expected {expected}{got}")]
    Wrong {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: String,
        /// What would do.
        expected: String,
        /// What was there, unless that is secret.
        got: String,
    },
    /// Values that don't go together.
    #[error("configuration: {0}")]
    Conflict(String),
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In this file.
    File(String),
    /// In this environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => f.write_str(path),
            Origin::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The process's environment, for [`load`].
pub(crate) fn environment() -> Vec<(String, String)> {
    // A value that is not Unicode can't be right; what is left of it is refused where it is not.
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// The configuration from `file`, if there is one, and `variables`, of which those of ours count.
pub(crate) fn load(file: Option<&Path>, mut variables: Vec<(String, String)>) -> Result<Config, ConfigError> {
    let defaults = Config { demo: file.is_none(), ..Config::default() };
    let mut merged = Merged {
        table: Table::try_from(&defaults).expect("a test reads the defaults back from their table"),
        config: defaults,
    };
    if let Some(path) = file {
        merged.put_file(path)?;
    }
    variables.retain(|(name, _)| name.starts_with(PREFIX));
    variables.sort();
    for (name, text) in variables {
        merged.put_variable(name, &text)?;
    }
    merged.config.check().map_err(ConfigError::Conflict)?;
    Ok(merged.config)
}

/// What is known so far: the same twice, as a table to change and as the configuration it stands for.
struct Merged {
    table: Table,
    config: Config,
}

impl Merged {
    fn put_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let file = path.display().to_string();
        let table = read(path)
            .map_err(|error| ConfigError::Unreadable { file: file.clone(), error: error.to_string() })?
            .parse::<Table>()
            .map_err(|error| ConfigError::Syntax {
                file: file.clone(),
                error: error.to_string().trim_end().to_owned(),
            })?;
        let origin = Origin::File(file);
        for (name, value) in table {
            match value {
                Value::Table(section) if is_section(&name) => {
                    for (key, value) in section {
                        self.put(&origin, format!("{name}.{key}"), value)?;
                    }
                }
                value if is_section(&name) => {
                    return Err(wrong(&origin, &name, format!("a section [{name}]"), &value));
                }
                value => self.put(&origin, name, value)?,
            }
        }
        Ok(())
    }

    fn put_variable(&mut self, name: String, text: &str) -> Result<(), ConfigError> {
        let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        let origin = Origin::Variable(name);
        let text = text.trim();
        let as_text = || Value::String(text.to_owned());
        let value = match expected(&origin, &key)? {
            // Texts that are no number or no bool stay texts, which are refused as such.
            Expect::Bool => text.parse().map_or_else(|_| as_text(), Value::Boolean),
            Expect::Integer(..) => text.parse().map_or_else(|_| as_text(), Value::Integer),
            Expect::Text(_) => as_text(),
            Expect::List(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
        };
        self.put(&origin, key, value)
    }

    fn put(&mut self, origin: &Origin, key: String, value: Value) -> Result<(), ConfigError> {
        let expect = expected(origin, &key)?;
        // A list of one may be written without brackets.
        let value = match (expect, value) {
            (Expect::List(_), Value::String(only)) => Value::Array(vec![Value::String(only)]),
            (_, value) => value,
        };
        let refused = wrong(origin, &key, expect.to_string(), &value);
        if !expect.fits(&value) {
            return Err(refused);
        }
        let mut table = self.table.clone();
        let place = match key.split_once('.') {
            Some((section, name)) => table.get_mut(section).and_then(|section| section.get_mut(name)),
            None => table.get_mut(&key),
        };
        *place.expect("a test finds every known key in the defaults") = value;
        let config: Config = table.clone().try_into().map_err(|_| refused)?;
        *self = Self { table, config };
        Ok(())
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    // A device or a film given by mistake must not fill the memory.
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|(key, _)| key.split_once('.').is_some_and(|(section, _)| section == name))
}

/// What is expected of a key, or that there is no such key.
fn expected(origin: &Origin, key: &str) -> Result<Expect, ConfigError> {
    if let Some((_, expect)) = KEYS.iter().find(|(known, _)| *known == key) {
        return Ok(*expect);
    }
    let likeness = |known: &str| {
        // A right name in a wrong section is as good a guess as a misspelt one.
        let same_name = known.rsplit('.').next() == key.rsplit('.').next();
        if same_name { 0.99 } else { strsim::normalized_damerau_levenshtein(known, key) }
    };
    let likest = KEYS.iter().map(|(known, _)| (likeness(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    let suggestion = match likest {
        Some((likeness, known)) if likeness >= LIKENESS => format!(" (did you mean {known}?)"),
        _ => String::new(),
    };
    Err(ConfigError::Unknown { origin: origin.clone(), key: key.to_owned(), suggestion })
}

fn wrong(origin: &Origin, key: &str, expected: String, value: &Value) -> ConfigError {
    let got = match value {
        _ if SECRET_KEYS.contains(&key) => String::new(),
        Value::Table(_) => ", got a section".to_owned(),
        value => format!(", got {value}"),
    };
    ConfigError::Wrong { origin: origin.clone(), key: key.to_owned(), expected, got }
}

impl Expect {
    /// Whether a value is of the right kind and within its bounds. Texts are tried by reading them.
    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Expect::Bool, Value::Boolean(_)) | (Expect::Text(_), Value::String(_)) => true,
            (Expect::Integer(least, most, _), Value::Integer(number)) => {
                u64::try_from(*number).is_ok_and(|number| (least..=most).contains(&number))
            }
            (Expect::List(_), Value::Array(items)) => items.iter().all(Value::is_str),
            _ => false,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Bool => f.write_str("true or false"),
            Expect::Integer(least, most, unit) => write!(f, "a number from {least} to {most} ({unit})"),
            Expect::Text(what) => write!(f, "{what} (a text)"),
            Expect::List(what) => write!(f, "a list of texts, each {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::GateUrl, scratch::Scratch};

    fn from_file(text: &str) -> Result<Config, String> {
        let scratch = Scratch::new();
        let path = scratch.path().join("haul.toml");
        std::fs::write(&path, text).unwrap();
        let prefix = format!("{}/", scratch.path().display());
        load(Some(&path), Vec::new()).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    fn from_variables(variables: &[(&str, &str)]) -> Result<Config, String> {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        load(None, variables.iter().map(own).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_given_is_the_demo() {
        assert_eq!(from_variables(&[("PATH", "/bin"), ("HAUL_OTHER", "x")]), Ok(Config::default()));
        assert!(Config::default().demo);
        assert!(!from_file("").unwrap().demo);
    }

    #[test]
    fn a_file_goes_over_the_defaults_and_the_environment_over_both() {
        let scratch = Scratch::new();
        let path = scratch.path().join("haul.toml");
        std::fs::write(&path, "data_dir = \"a\"\n[sale]\nhold_seconds = 30\npay_seconds = 60\n").unwrap();
        let config = load(Some(&path), vec![("HAUL__SALE__HOLD_SECONDS".into(), "40".into())]).unwrap();
        assert_eq!(config.data_dir, Path::new("a"));
        assert_eq!((config.sale.hold_seconds, config.sale.pay_seconds), (40, 60));
        assert_eq!(config.log, Config::default().log);
    }

    #[test]
    fn the_environment_is_read_as_the_keys_type() {
        let config = from_variables(&[
            ("HAUL__DEMO", "false"),
            ("HAUL__DATA_DIR", "/var/lib/haul"),
            ("HAUL__MEDIA__UDP_PORT", " 9000 "),
            ("HAUL__MEDIA__PUBLIC_ADDRESSES", "203.0.113.9, 203.0.113.10"),
            ("HAUL__HTTP__TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.1"),
            ("HAUL__HTTP__ALLOWED_ORIGINS", ""),
            ("HAUL__HTTP__PUBLIC_URL", "https://live.example/"),
            ("HAUL__MOQ__LISTEN", "[::]:4443"),
            ("HAUL__STORE__GATE_URL", "redis://localhost/1"),
        ])
        .unwrap();
        assert!(!config.demo);
        assert_eq!(config.data_dir, Path::new("/var/lib/haul"));
        assert_eq!(config.media.udp_port, 9000);
        assert_eq!(config.media.public_addresses.len(), 2);
        assert_eq!(config.http.trusted_proxies.len(), 2);
        assert_eq!(config.http.allowed_origins, []);
        assert_eq!(config.http.public_url, "https://live.example");
        assert_eq!(config.moq.listen, "[::]:4443".parse().ok());
        assert!(
            matches!(config.store.gate_url, GateUrl::Redis(url) if url.expose() == "redis://localhost/1")
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_a_guess() {
        assert_eq!(
            from_file("[htpp]\nlisten = \"0.0.0.0:80\"\n").unwrap_err(),
            "haul.toml: unknown key htpp"
        );
        assert_eq!(
            from_file("[http]\nlisten_on = \"0.0.0.0:80\"\n").unwrap_err(),
            "haul.toml: unknown key http.listen_on (did you mean http.listen?)"
        );
        assert_eq!(
            from_file("udp_port = 7000\n").unwrap_err(),
            "haul.toml: unknown key udp_port (did you mean media.udp_port?)"
        );
        assert_eq!(
            from_variables(&[("HAUL__MEDIA__UDPPORT", "1")]).unwrap_err(),
            "environment variable HAUL__MEDIA__UDPPORT: unknown key media.udpport (did you mean media.udp_port?)"
        );
        assert_eq!(
            from_variables(&[("HAUL__", "1")]).unwrap_err(),
            "environment variable HAUL__: unknown key "
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("data_dir = \"\"", "data_dir: expected the path of a directory (a text), got \"\""),
            ("demo = 1", "demo: expected true or false, got 1"),
            ("[demo]\nx = 1", "demo: expected true or false, got a section"),
            ("http = 1", "http: expected a section [http], got 1"),
            (
                "[media]\nudp_port = 70000",
                "media.udp_port: expected a number from 1 to 65535 (as a port), got 70000",
            ),
            ("[media]\nshards = -1", "media.shards: expected a number from 0 to 256 (threads), got -1"),
            (
                "[media]\nshards = \"two\"",
                "media.shards: expected a number from 0 to 256 (threads), got \"two\"",
            ),
            (
                "[http]\nlisten = \"8080\"",
                "http.listen: expected an IP address and a port, such as 0.0.0.0:8080 (a text), got \"8080\"",
            ),
            (
                "[http]\ntrusted_proxies = [\"10.0.0.0/99\"]",
                "http.trusted_proxies: expected a list of texts, each an IP address or a CIDR block, such as \
                 10.0.0.0/8, got [\"10.0.0.0/99\"]",
            ),
            (
                "[http]\npublic_url = \"live.example\"",
                "http.public_url: expected a URL such as https://live.example, or nothing (a text), got \
                 \"live.example\"",
            ),
            ("[log]\nformat = \"xml\"", "log.format: expected text or json (a text), got \"xml\""),
            (
                "[payments]\nprovider = \"x\"",
                "payments.provider: expected sandbox, merchant or stripe (a text), got \"x\"",
            ),
        ] {
            assert_eq!(from_file(text).unwrap_err(), format!("haul.toml: {expected}"), "{text}");
        }
        assert_eq!(
            from_variables(&[("HAUL__SALE__HOLD_SECONDS", "2m")]).unwrap_err(),
            "environment variable HAUL__SALE__HOLD_SECONDS: sale.hold_seconds: expected a number from 1 to 3600 \
             (seconds), got \"2m\""
        );
    }

    #[test]
    fn what_may_be_secret_is_not_quoted() {
        for variable in [
            ("HAUL__AUTH__SECRET", "hush"),
            ("HAUL__STORE__GATE_URL", "rdis://:hush@localhost"),
            ("HAUL__STORE__LEDGER_URL", "mysql://:hush@localhost"),
            ("HAUL__ICE__SERVERS", "turn:hush@localhost"),
        ] {
            let error = from_variables(&[variable]).unwrap_err();
            assert!(error.contains("expected") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_refused() {
        let error = from_variables(&[("HAUL__HTTP__TLS_CERT", "a.pem")]).unwrap_err();
        assert_eq!(error, "configuration: http.tls_cert and http.tls_key: expected both or neither");
        let error =
            from_variables(&[("HAUL__MEDIA__UDP_PORT", "65535"), ("HAUL__MEDIA__SHARDS", "2")]).unwrap_err();
        assert!(error.contains("media.udp_port and media.shards"), "{error}");
        let error = from_variables(&[("HAUL__STORE__GATE_WAIT_REPLICAS", "1")]).unwrap_err();
        assert!(error.contains("store.gate_wait_replicas: expected a gate in Redis"), "{error}");
        let both = ("HAUL__MEDIA__PUBLIC_ADDRESSES", "203.0.113.9, ::1");
        assert!(from_variables(&[both]).is_ok());
        let error = from_variables(&[both, ("HAUL__MEDIA__BIND", "0.0.0.0")]).unwrap_err();
        assert!(
            error.contains("media.public_addresses") && error.contains("got ::1: IPv6 is not"),
            "{error}"
        );
        let error = from_variables(&[("HAUL__MEDIA__BIND", "")]).unwrap_err();
        assert!(error.contains("media.bind: expected from 1 to 8"), "{error}");
        assert_eq!(from_file("[media]\nbind = \"::1\"").unwrap().media.bind.len(), 1, "a list of one");
        let both = [("HAUL__MEDIA__PUBLIC_ADDRESSES", "2001:db8::1"), ("HAUL__MEDIA__BIND", "::")];
        assert!(from_variables(&both).is_ok());
    }

    #[test]
    fn a_payment_provider_says_what_it_cannot_do_without() {
        let with = |variables: &[(&str, &str)]| {
            let named: Vec<_> =
                variables.iter().map(|(key, value)| (format!("HAUL__PAYMENTS__{key}"), *value)).collect();
            let named: Vec<_> = named.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            from_variables(&named).map(|config| config.payments.provider)
        };
        let stripe = ("PROVIDER", "stripe");
        let (secrets, key) = (("CALLBACK_SECRETS", "whsec_a, whsec_b"), ("STRIPE_KEY", "sk_test"));
        let back = ("RETURN_URL", "https://shop.example/live/{live}");
        assert!(with(&[stripe]).unwrap_err().contains("payments.callback_secrets"));
        assert!(with(&[stripe, secrets]).unwrap_err().contains("payments.stripe_key"));
        assert!(with(&[stripe, secrets, key]).unwrap_err().contains("payments.return_url"));
        assert!(with(&[stripe, secrets, key, back]).is_ok());
        let merchant = ("PROVIDER", "merchant");
        let page = ("PAGE_URL", "https://shop.example/pay");
        let whsec = ("CALLBACK_SECRETS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert!(with(&[merchant, whsec]).unwrap_err().contains("payments.page_url"));
        assert!(with(&[merchant, page, ("CALLBACK_SECRETS", "hush")]).unwrap_err().contains("base64"));
        let guessed = ("CALLBACK_SECRETS", "whsec_AAAA");
        assert!(with(&[merchant, page, guessed]).unwrap_err().contains("24 bytes"));
        assert!(with(&[merchant, whsec, page]).is_ok());
        let both = with(&[merchant, whsec, page, ("ENDPOINT_URL", "https://shop.example/haul")]);
        assert!(both.unwrap_err().contains("either"));
        assert!(with(&[("PAGE_URL", "shop.example")]).unwrap_err().contains("https://shop.example/pay"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let missing = load(Some(Path::new("/no/such/haul.toml")), Vec::new()).unwrap_err();
        assert!(missing.to_string().starts_with("/no/such/haul.toml: cannot read"), "{missing}");
        let syntax = from_file("demo = yes please\n").unwrap_err();
        assert!(syntax.starts_with("haul.toml: not TOML") && syntax.contains("line 1"), "{syntax}");
        let endless = load(Some(Path::new("/dev/zero")), Vec::new()).unwrap_err();
        assert!(endless.to_string().contains("larger than"), "{endless}");
    }
}
