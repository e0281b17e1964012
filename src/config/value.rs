//! Values that are more than a number or a text: each is read once, here, and cannot be wrong afterwards.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use haul_gateway::{auth::MIN_SECRET_BYTES, origin::Origins};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// A text that is never printed: a secret, or a URL with a password in it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(String);

impl Hidden {
    /// The text, for whoever needs it to log in or to sign.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { "(hidden)" })
    }
}

/// Gives a type that is written as one text its serde implementations.
macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = Refused;

            fn try_from(text: String) -> Result<Self, Refused> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_text()
            }
        }
    )*};
}

as_text!(GateUrl LedgerUrl IceServer Filter);

/// The text is not one of these; what would be stands in `KEYS`.
#[derive(Debug)]
pub(crate) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

/// Who decides about stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum GateUrl {
    /// The engine in this process, its journal in `data_dir`.
    Embedded,
    /// Redis, at this URL.
    Redis(Hidden),
}

impl FromStr for GateUrl {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        match text.split_once("://") {
            None if text == "embedded:" => Ok(Self::Embedded),
            Some(("redis" | "rediss", server)) if !server.is_empty() => {
                Ok(Self::Redis(Hidden(text.to_owned())))
            }
            _ => Err(Refused),
        }
    }
}

impl GateUrl {
    fn to_text(&self) -> String {
        match self {
            Self::Embedded => "embedded:".to_owned(),
            Self::Redis(url) => url.0.clone(),
        }
    }
}

/// Where orders are written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum LedgerUrl {
    /// The SQLite file `haul.db` in `data_dir`, wherever that is.
    InDataDir,
    /// A database, at this URL.
    At(Hidden),
}

impl FromStr for LedgerUrl {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        match text.split_once("://") {
            None if text == "sqlite:" => Ok(Self::InDataDir),
            Some(("sqlite" | "postgres" | "postgresql", place)) if !place.is_empty() => {
                Ok(Self::At(Hidden(text.to_owned())))
            }
            _ => Err(Refused),
        }
    }
}

impl LedgerUrl {
    /// The URL with a place.
    pub(super) fn resolve(&self, data_dir: &Path) -> Hidden {
        match self {
            Self::InDataDir => {
                let path = data_dir.join("haul.db");
                // In a URL, these two letters would mean something else.
                let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F");
                Hidden(format!("sqlite://{path}"))
            }
            Self::At(url) => url.clone(),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::InDataDir => "sqlite:".to_owned(),
            Self::At(url) => url.0.clone(),
        }
    }
}

/// A STUN or TURN server that clients are told about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct IceServer {
    /// As `RTCIceServer.urls` has it (RFC 7064, RFC 7065).
    pub(crate) url: String,
    /// User and password; TURN has them, STUN has none.
    pub(crate) login: Option<(String, Hidden)>,
}

impl FromStr for IceServer {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let (scheme, rest) = text.split_once(':').ok_or(Refused)?;
        // Passwords may have an @, hosts may not.
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => (Some(login.split_once(':').ok_or(Refused)?), host),
            None => (None, rest),
        };
        let fits = match scheme {
            "stun" | "stuns" => login.is_none(),
            "turn" | "turns" => login.is_some(),
            _ => false,
        };
        let host_ok = !host.is_empty()
            && !host.starts_with('?')
            && !host.contains(|c: char| c.is_whitespace() || "/<>\"".contains(c));
        // The only parameter of these URLs, which TURN alone has (RFC 7065, 3.1).
        let transport_ok = match host.split_once('?') {
            None => true,
            Some((_, query)) => {
                scheme.starts_with("turn") && matches!(query, "transport=udp" | "transport=tcp")
            }
        };
        if !fits || !host_ok || !transport_ok {
            return Err(Refused);
        }
        let login = login.map(|(user, password)| (user.to_owned(), Hidden(password.to_owned())));
        Ok(Self { url: format!("{scheme}:{host}"), login })
    }
}

impl IceServer {
    /// The `Link` header's value that tells a client of it (RFC 9725, 4.6).
    pub(crate) fn link(&self) -> String {
        match &self.login {
            Some((user, password)) => format!(
                "<{}>; rel=\"ice-server\"; username={}; credential={}; credential-type=\"password\"",
                self.url,
                quoted(user),
                quoted(&password.0)
            ),
            None => format!("<{}>; rel=\"ice-server\"", self.url),
        }
    }

    fn to_text(&self) -> String {
        match (&self.login, self.url.split_once(':')) {
            (Some((user, password)), Some((scheme, host))) => {
                format!("{scheme}:{user}:{}@{host}", password.0)
            }
            _ => self.url.clone(),
        }
    }
}

/// A quoted string (RFC 9110, 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Which log lines are written: one level for our own lines, or a list of `TARGET=LEVEL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Filter(String);

impl Default for Filter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for Filter {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        // `Targets` would take a word that is no level for a target, and let everything of it through; nothing at all is
        // the level "error" to it.
        let clear =
            |part: &str| part.contains('=') || !part.is_empty() && part.trim().parse::<LevelFilter>().is_ok();
        let good = text.split(',').all(clear) && text.parse::<Targets>().is_ok();
        good.then(|| Self(text.to_owned())).ok_or(Refused)
    }
}

impl Filter {
    /// The filter. A level alone is for our own lines: libraries keep to warnings, since what they log at lower levels
    /// is theirs to choose, and may hold headers.
    pub(crate) fn targets(&self) -> Targets {
        match self.0.parse::<LevelFilter>() {
            Ok(level) => Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("haul", level),
            Err(_) => self.0.parse().unwrap_or_default(),
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

/// A path; none would be the directory that the server happens to be started in.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    let good = !path.as_os_str().is_empty();
    good.then_some(path).ok_or_else(|| D::Error::custom(Refused))
}

/// A secret that is long enough, or none.
pub(super) fn long_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hidden, D::Error> {
    let secret = Hidden::deserialize(deserializer)?;
    let good = secret.0.is_empty() || secret.0.len() >= MIN_SECRET_BYTES;
    good.then_some(secret).ok_or_else(|| D::Error::custom(Refused))
}

/// A URL that pages can be reached at, without the slash at its end; or none.
pub(super) fn page_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let good = !text.contains(['?', '#', ' ']) && Origins::new(&text, Vec::new()).is_ok();
    good.then(|| text.trim_end_matches('/').to_owned()).ok_or_else(|| D::Error::custom(Refused))
}

/// A URL that calls are made to or browsers are sent to, without a slash at its end; or none.
pub(super) fn absolute_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#', ':']));
    let good =
        text.is_empty() || has_host && !text.contains([' ', '#', '@']) && !text.chars().any(char::is_control);
    good.then(|| text.trim_end_matches('/').to_owned()).ok_or_else(|| D::Error::custom(Refused))
}

/// An optional value that is an empty text where there is none.
pub(super) mod or_empty {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ice_servers_are_read_as_browsers_want_them() {
        let turn: IceServer = "turn:mia:p@ss:word@turn.example:3478?transport=udp".parse().unwrap();
        assert_eq!(turn.url, "turn:turn.example:3478?transport=udp");
        let (user, password) = turn.login.clone().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("mia", "p@ss:word"));
        assert_eq!(turn.to_text().parse::<IceServer>().unwrap(), turn);
        assert!("stun:stun.example:3478".parse::<IceServer>().unwrap().login.is_none());
        for bad in
            ["", "stun", "stun:", "turn:turn.example", "http://x", "stun:a b", "stun:a:b@c", "turn:a@c"]
        {
            assert!(bad.parse::<IceServer>().is_err(), "{bad}");
        }
        for bad in ["stun:a?transport=udp", "turn:u:p@a?transport=quic", "turn:u:p@a?x=udp", "turn:u:p@a?"] {
            assert!(bad.parse::<IceServer>().is_err(), "{bad}");
        }
        assert!("turns:u:p@a:5349?transport=tcp".parse::<IceServer>().is_ok());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let turn: IceServer = "turn:mia:hush@turn.example".parse().unwrap();
        let redis: GateUrl = "redis://:hush@localhost".parse().unwrap();
        assert!(!format!("{turn:?} {redis:?}").contains("hush"));
    }

    #[test]
    fn a_level_is_for_our_own_lines() {
        use tracing::Level;
        let debug: Filter = "debug".parse().unwrap();
        assert!(debug.targets().would_enable("haul_live::owner", &Level::DEBUG));
        assert!(!debug.targets().would_enable("hyper::proto", &Level::INFO));
        assert!(debug.targets().would_enable("hyper::proto", &Level::WARN));
        let off: Filter = "off".parse().unwrap();
        assert!(!off.targets().would_enable("hyper::proto", &Level::ERROR));
        let list: Filter = "warn,haul_webrtc=trace,sqlx=info".parse().unwrap();
        assert!(list.targets().would_enable("haul_webrtc::shard", &Level::TRACE));
        assert!(!list.targets().would_enable("haul_live", &Level::INFO));
        assert!(list.targets().would_enable("sqlx::query", &Level::INFO));
        for bad in ["", "loud", "haul=loud"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
