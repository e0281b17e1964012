//! What a client asks for by the path of its URL: `/{live}?jwt=TOKEN`. Untrusted: anything may stand there.

use haul_model::LiveId;

/// The longest path with its query that is read, in bytes: an id, and a token of 4 KiB. A longer one is refused.
pub(crate) const MAX_TARGET_BYTES: usize = 5 * 1024;

/// A live, and a token if there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) live: LiveId,
    pub(crate) token: Option<String>,
}

impl Target {
    /// Reads a path with its query. `None` if it names no live.
    pub(crate) fn parse(target: &str) -> Option<Self> {
        if target.len() > MAX_TARGET_BYTES {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let live = decode(path.trim_matches('/'))?.parse().ok()?;
        let token = query.split('&').find_map(|pair| pair.strip_prefix("jwt="));
        let token = token.filter(|token| !token.is_empty()).map(str::to_owned);
        Some(Self { live, token })
    }
}

/// Undoes percent-encoding (RFC 3986, 2.1): ids may have characters that some clients encode, such as `:` and `@`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        let byte = match (first, rest) {
            (b'%', [high, low, more @ ..]) => {
                rest = more;
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                (digit(high)? << 4 | digit(low)?) as u8
            }
            (b'%', _) => return None,
            (byte, _) => *byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_and_token_are_read_from_a_target() {
        let read = |target: &str| {
            Target::parse(target).map(|target| (target.live.as_str().to_owned(), target.token))
        };
        let token = |token: &str| Some(token.to_owned());
        assert_eq!(read("/demo"), Some(("demo".to_owned(), None)));
        assert_eq!(read("demo/"), Some(("demo".to_owned(), None)));
        assert_eq!(read("/demo?jwt=a.b-c_d.e"), Some(("demo".to_owned(), token("a.b-c_d.e"))));
        assert_eq!(read("/demo?x=1&jwt=abc&y"), Some(("demo".to_owned(), token("abc"))));
        assert_eq!(read("/demo?jwt="), Some(("demo".to_owned(), None)));
        assert_eq!(read("/shop%3A7%40x"), Some(("shop:7@x".to_owned(), None)));
    }

    #[test]
    fn what_names_no_live_is_no_target() {
        let long = format!("/demo?jwt={}", "a".repeat(MAX_TARGET_BYTES));
        for target in ["", "/", "/a/b", "/de mo", "/%2", "/%zz", "/%ff", "/{live}", &long] {
            assert_eq!(Target::parse(target), None, "{target:.20}");
        }
    }
}
