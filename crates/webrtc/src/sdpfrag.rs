//! Pieces of SDP that carry ICE alone (`application/trickle-ice-sdpfrag`, RFC 8840, 9): read from clients, written to
//! them. What is read is untrusted text.

use std::fmt::Write as _;

/// The longest fragment read, in bytes; a longer one is refused. A browser's, with all its candidates, is under 4 KB.
pub const MAX_FRAGMENT_BYTES: usize = 16 << 10;
/// The most candidates in a fragment; one with more is refused.
pub const MAX_CANDIDATES: usize = 128;

/// ICE credentials of one side (RFC 8839, 5.4): name and password of an ICE session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// 4 to 256 characters of the ICE alphabet.
    pub ufrag: String,
    /// 22 to 256 characters of the ICE alphabet.
    pub password: String,
}

impl Credentials {
    /// Whether both have a length and characters that an ICE name and password may have.
    pub(crate) fn are_wellformed(&self) -> bool {
        is_credential(&self.ufrag, 4) && is_credential(&self.password, 22)
    }
}

/// What a client's fragment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Which ICE session it is about; `None` where it names none.
    pub credentials: Option<Credentials>,
    /// How many candidates it tells of. Only counted: we are ICE-lite and never send a check, so that a candidate we are
    /// told of is of no use to us. The client's own checks come from where its media will, and prove it.
    pub candidates: usize,
}

/// Why a text is no fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Longer than [`MAX_FRAGMENT_BYTES`], or more than [`MAX_CANDIDATES`] candidates. (413)
    #[error(
        "the fragment is longer than {MAX_FRAGMENT_BYTES} bytes or has more than {MAX_CANDIDATES} candidates"
    )]
    TooLarge,
    /// Not the syntax of a fragment. The text says what is wrong with it. (400)
    #[error("the fragment can't be used: {0}")]
    Malformed(&'static str),
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// [`FragmentError`], which says what to tell the client.
    pub fn parse(text: &str) -> Result<Self, FragmentError> {
        if text.len() > MAX_FRAGMENT_BYTES {
            return Err(FragmentError::TooLarge);
        }
        let malformed = |why| Err(FragmentError::Malformed(why));
        let (mut ufrag, mut password, mut candidates, mut lines) = (None, None, 0, 0);
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            lines += 1;
            let [kind @ (b'a' | b'm' | b'c'), b'=', ..] = line.as_bytes() else {
                // RFC 8840, 9.2: attributes, pseudo m-lines, and nothing else (some clients put a `c=` below those).
                return malformed("it has a line that is neither an attribute nor a media section");
            };
            if *kind != b'a' {
                continue;
            }
            let attribute = &line[2..];
            if let Some(value) = attribute.strip_prefix("ice-ufrag:") {
                take(&mut ufrag, value, 4)?;
            } else if let Some(value) = attribute.strip_prefix("ice-pwd:") {
                take(&mut password, value, 22)?;
            } else if let Some(candidate) = attribute.strip_prefix("candidate:") {
                if !is_candidate(candidate) {
                    return malformed("a candidate is incomplete");
                }
                candidates += 1;
            }
        }
        if lines == 0 {
            return malformed("it is empty");
        }
        if candidates > MAX_CANDIDATES {
            return Err(FragmentError::TooLarge);
        }
        let credentials = match (ufrag, password) {
            (None, None) => None,
            (Some(ufrag), Some(password)) => {
                Some(Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() })
            }
            _ => return malformed("ice-ufrag and ice-pwd come together"),
        };
        Ok(Self { credentials, candidates })
    }
}

/// Takes a credential. Sections share one transport (bundled), so a second one must say the same.
fn take<'a>(known: &mut Option<&'a str>, value: &'a str, least: usize) -> Result<(), FragmentError> {
    if !is_credential(value, least) {
        return Err(FragmentError::Malformed("an ICE name or password has a wrong length or character"));
    }
    if known.is_some_and(|known| known != value) {
        return Err(FragmentError::Malformed(
            "its sections have different ICE credentials, so they are not bundled",
        ));
    }
    *known = Some(value);
    Ok(())
}

fn is_credential(value: &str, least: usize) -> bool {
    // RFC 8839, 5.4 has no `-`, `_`, `=` and `#`, which deployed clients use all the same.
    let ice_char =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'#');
    (least..=256).contains(&value.len()) && value.bytes().all(ice_char)
}

/// Whether a candidate has the parts that each must have (RFC 8839, 5.1). Its address is not looked at: what we can't use
/// is passed over in silence (RFC 9725, 4.3.2).
fn is_candidate(text: &str) -> bool {
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let mut next = || words.next();
    let number = |word: Option<&str>, most: u64| {
        word.and_then(|word| word.parse::<u64>().ok()).is_some_and(|number| number <= most)
    };
    next().is_some_and(|foundation| foundation.len() <= 32)
        && number(next(), 256)
        && next().is_some()
        && number(next(), u64::from(u32::MAX))
        && next().is_some()
        && number(next(), u64::from(u16::MAX))
        && next() == Some("typ")
        && next().is_some()
}

/// The fragment that answers an ICE restart: our new credentials, and our candidates in the section that carries the
/// transport, `kind` and `mid` of which the first answer named.
pub(crate) fn write(ours: &Credentials, kind: &str, mid: &str, candidates: &str) -> String {
    let Credentials { ufrag, password } = ours;
    let mut text = format!("a=ice-lite\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
    // The formats and the port mean nothing here (RFC 8840, 9.2).
    let _ = write!(text, "m={kind} 9 UDP/TLS/RTP/SAVPF 0\r\n");
    if !mid.is_empty() {
        let _ = write!(text, "a=mid:{mid}\r\n");
    }
    text.push_str(candidates);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:473322822 1 tcp 1518280447 3f2a.local 9 typ host tcptype active generation 0\r\na=end-of-candidates\r\n";

    fn malformed(text: &str) -> bool {
        matches!(Fragment::parse(text), Err(FragmentError::Malformed(_)))
    }

    #[test]
    fn a_browsers_fragment_is_read() {
        let fragment = Fragment::parse(CHROMIUM).unwrap();
        let credentials = fragment.credentials.unwrap();
        assert_eq!(credentials.ufrag, "EsAw");
        assert_eq!(credentials.password, "P2uYro0UCOQ4zxjKXaWCBui1");
        assert_eq!(fragment.candidates, 2);
        let bare = Fragment::parse("a=end-of-candidates\n").unwrap();
        assert_eq!(bare, Fragment { credentials: None, candidates: 0 });
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        assert!(malformed(""));
        assert!(malformed("\r\n\r\n"));
        assert!(malformed("{\"candidate\":1}"));
        assert!(malformed("v=0\r\na=ice-ufrag:EsAw\r\n"), "a whole SDP is not a piece of one");
        assert!(malformed("a=ice-ufrag:EsAw\r\n"), "half of the credentials");
        assert!(malformed("a=ice-ufrag:Es\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"), "too short");
        assert!(malformed("a=ice-ufrag:Es w\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"));
        assert!(malformed(&CHROMIUM.replace("a=mid:0", "a=ice-ufrag:other")), "sections of two transports");
        assert!(malformed("a=candidate:1 1 udp\r\n"));
        assert!(malformed("a=candidate:1 1 udp 1 192.0.2.1 70000 typ host\r\n"), "no such port");
    }

    #[test]
    fn it_has_a_limit() {
        let long = format!("a={}\r\n", "x".repeat(MAX_FRAGMENT_BYTES));
        assert_eq!(Fragment::parse(&long), Err(FragmentError::TooLarge));
        let many = "a=candidate:1 1 udp 1 192.0.2.1 7 typ host\r\n".repeat(MAX_CANDIDATES + 1);
        assert_eq!(Fragment::parse(&many), Err(FragmentError::TooLarge));
    }

    #[test]
    fn what_we_write_we_can_read() {
        let ours = Credentials { ufrag: "00abcdef".to_owned(), password: "0".repeat(32) };
        let addresses = ["192.0.2.1:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()];
        let text = write(&ours, "video", "1", &crate::sdp::candidates(&addresses, None));
        let fragment = Fragment::parse(&text).unwrap();
        assert_eq!((fragment.credentials, fragment.candidates), (Some(ours), 2));
        assert!(text.contains("m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\n"));
    }

    #[test]
    fn mutations_are_read_without_panic_and_never_make_credentials_of_a_wrong_length() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize % below
        };
        for _ in 0..20_000 {
            let mut bytes = CHROMIUM.as_bytes().to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len().max(2) - 1);
                match random(4) {
                    0 => bytes[at] = random(256) as u8,
                    1 => drop(bytes.drain(at..=at)),
                    2 => bytes.truncate(at + 2),
                    _ => bytes.extend_from_within(at..),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(Fragment { credentials: Some(credentials), .. }) = Fragment::parse(&text) {
                assert!((4..=256).contains(&credentials.ufrag.len()), "{text}");
                assert!((22..=256).contains(&credentials.password.len()), "{text}");
            }
        }
    }
}
