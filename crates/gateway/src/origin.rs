//! Which web pages may talk to us: CORS, the `Origin` of a websocket, and who may frame our pages.
//!
//! The origin a page comes from is allowed if it is ours or on the list `http.allowed_origins`. Pure: header texts in, a
//! decision out. Whether a route asks at all is the router's affair (WHIP and WHEP are open: the token is the
//! permission).

use std::fmt;

use serde::{Deserialize, Serialize};

/// An entry of the list: an origin (`https://shop.example`, RFC 6454), or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Allowed {
    /// Every page, sandboxed and local ones (`null`) included.
    Any,
    /// Pages of this origin.
    Origin(Origin),
}

/// Scheme, host and port of a page, in the one way browsers write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Why a text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an origin such as https://shop.example, without a path")]
pub struct OriginError;

impl Origin {
    /// Reads `http(s)://host[:port]`, with or without one slash behind it.
    fn parse(text: &str) -> Result<Self, OriginError> {
        let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://").ok_or(OriginError)?;
        let default_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(OriginError),
        };
        let authority = authority.strip_suffix(default_port).unwrap_or(authority);
        is_authority(authority).then(|| Self(format!("{scheme}://{authority}"))).ok_or(OriginError)
    }

    /// Host and port, without the scheme's own port.
    fn authority(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, authority)| authority)
    }
}

/// `host`, `host:port` or `[v6]:port`. Whatever could end a header's or a policy's token is out.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host_ok = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    host_ok && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

impl TryFrom<String> for Allowed {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        if text == "*" { Ok(Self::Any) } else { Origin::parse(&text).map(Self::Origin) }
    }
}

impl From<Allowed> for String {
    fn from(allowed: Allowed) -> String {
        allowed.to_string()
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Any => f.write_str("*"),
            Allowed::Origin(origin) => f.write_str(&origin.0),
        }
    }
}

/// The rule of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// Ours, as browsers see it (`http.public_url`), where a proxy hides it from the `Host` header.
    public: Option<Origin>,
    /// `http.allowed_origins`.
    allowed: Vec<Allowed>,
}

impl Origins {
    /// A rule; `public_url` may be empty, and may have a path.
    pub fn new(public_url: &str, allowed: Vec<Allowed>) -> Result<Self, OriginError> {
        let public = match public_url {
            "" => None,
            url => Some(Origin::parse(origin_part(url))?),
        };
        Ok(Self { public, allowed })
    }

    /// Whether a page with this `Origin` header may talk to us, reached under this `Host` header. Requests without
    /// `Origin` don't come from another site's page and are allowed.
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        if self.allowed.contains(&Allowed::Any) {
            return true;
        }
        let Ok(origin) = Origin::parse(origin) else { return false };
        // The scheme is not compared: behind a proxy that ends TLS, we don't see which one the browser used.
        let same = host.is_some_and(|host| {
            let host = host.to_ascii_lowercase();
            let default_port = if origin.0.starts_with("https:") { ":443" } else { ":80" };
            host.strip_suffix(default_port).unwrap_or(&host) == origin.authority()
        });
        same || self.public.as_ref() == Some(&origin)
            || self.allowed.iter().any(|allowed| matches!(allowed, Allowed::Origin(o) if *o == origin))
    }

    /// The `Content-Security-Policy` directive that says who may frame our pages.
    pub fn frame_ancestors(&self) -> String {
        if self.allowed.contains(&Allowed::Any) {
            return "frame-ancestors *".to_owned();
        }
        let mut directive = "frame-ancestors 'self'".to_owned();
        for allowed in &self.allowed {
            directive.push(' ');
            directive.push_str(&allowed.to_string());
        }
        directive
    }
}

/// The part of a URL before its path.
fn origin_part(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    url[authority..].find(['/', '?', '#']).map_or(url, |end| &url[..authority + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(public_url: &str, allowed: &[&str]) -> Origins {
        let allowed = allowed.iter().map(|&text| Allowed::try_from(text.to_owned()).unwrap()).collect();
        Origins::new(public_url, allowed).unwrap()
    }

    #[test]
    fn our_own_pages_and_programs_are_allowed() {
        let rule = rule("", &[]);
        assert!(rule.allows(None, Some("live.example")));
        assert!(rule.allows(Some("https://live.example"), Some("live.example")));
        assert!(rule.allows(Some("https://live.example"), Some("Live.Example:443")));
        assert!(rule.allows(Some("http://localhost:8080"), Some("localhost:8080")));
        assert!(rule.allows(Some("http://[::1]:8080"), Some("[::1]:8080")));
    }

    #[test]
    fn other_sites_are_not() {
        let rule = rule("", &[]);
        for origin in [
            "https://evil.example",
            "https://live.example.evil.example",
            "https://evil.example/live.example",
            "https://evil.example@live.example",
            "https://live.example:8443",
            "http://live.example:443",
            "ftp://live.example",
            "null",
            "",
        ] {
            assert!(!rule.allows(Some(origin), Some("live.example")), "{origin}");
        }
        assert!(!rule.allows(Some("https://live.example"), None));
    }

    #[test]
    fn behind_a_proxy_the_public_url_is_ours() {
        let rule = rule("https://live.example/app", &[]);
        assert!(rule.allows(Some("https://live.example"), Some("10.0.0.5:8080")));
        assert!(!rule.allows(Some("http://live.example"), Some("10.0.0.5:8080")));
        assert!(!rule.allows(Some("https://evil.example"), Some("10.0.0.5:8080")));
    }

    #[test]
    fn listed_sites_are_allowed_and_may_frame_us() {
        let rule = rule("", &["https://Shop.example/", "http://localhost:3000"]);
        assert!(rule.allows(Some("https://shop.example"), Some("live.example")));
        assert!(rule.allows(Some("http://localhost:3000"), Some("live.example")));
        assert!(!rule.allows(Some("http://shop.example"), Some("live.example")));
        assert_eq!(
            rule.frame_ancestors(),
            "frame-ancestors 'self' https://shop.example http://localhost:3000"
        );
        assert_eq!(Origins::default().frame_ancestors(), "frame-ancestors 'self'");
    }

    #[test]
    fn a_star_allows_everybody() {
        let rule = rule("", &["*"]);
        assert!(rule.allows(Some("null"), Some("live.example")));
        assert!(rule.allows(Some("https://evil.example"), None));
        assert_eq!(rule.frame_ancestors(), "frame-ancestors *");
    }

    #[test]
    fn what_could_break_out_of_a_header_is_no_origin() {
        for bad in [
            "shop.example",
            "https://",
            "https://a b",
            "https://a;script-src *",
            "https://a,b",
            "https://a/path",
            "https://a:99999",
            "https://*.shop.example",
            "https://[::1",
            "https://user@a",
        ] {
            assert_eq!(Allowed::try_from(bad.to_owned()), Err(OriginError), "{bad}");
        }
    }
}
