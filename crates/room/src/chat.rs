//! What may be said.

use std::time::Duration;

use haul_model::{Role, UnixMillis};
use haul_wire::{MAX_CHAT_CHARS, Standing, Writers};

/// Why somebody's request is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nothing in it that can be read.
    Empty,
    /// More than this many characters.
    TooLong(usize),
    /// Too soon after the sender's last ones.
    TooFast {
        /// When it may be said.
        retry_after: Duration,
    },
    /// The sender may not write.
    Muted {
        /// What is in force.
        standing: Standing,
        /// When it ends, if it does.
        retry_after: Option<Duration>,
    },
    /// The sender may not be here.
    Banned(Standing),
    /// Only these may write now.
    NotAmong(Writers),
    /// A word of the list.
    Word,
    /// A link, where none may be.
    Link,
    /// The same as just before.
    Repeated,
    /// It needs this role.
    Role(Role),
    /// There is no such thing; its name.
    NoSuch(&'static str),
    /// A field is wrong: which, and what was expected.
    Field(&'static str),
    /// It can't be written down now, and so is not done.
    Unwritten,
    /// It makes no sense now: why.
    NotNow(&'static str),
}

/// For how long something is in force: until a time, or until it is lifted.
pub fn left(until: Option<UnixMillis>, now: UnixMillis) -> Option<Duration> {
    until.map(|until| until.saturating_since(now))
}

/// The text as a chat line will be shown; see [`clean_to`].
pub fn clean(text: &str) -> Result<String, Refused> {
    clean_to(text, MAX_CHAT_CHARS)
}

/// The text as it will be shown: without control characters (line breaks become spaces, direction overrides and the
/// like vanish, so that nobody can disturb the lines around theirs) and without space at its ends.
pub fn clean_to(text: &str, max_chars: usize) -> Result<String, Refused> {
    let text: String = text
        .chars()
        .map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c })
        .filter(|c| !c.is_control() && !is_invisible_control(*c))
        .collect();
    let text = text.trim();
    if text.is_empty() {
        return Err(Refused::Empty);
    }
    if text.chars().count() > max_chars {
        return Err(Refused::TooLong(max_chars));
    }
    Ok(text.to_owned())
}

/// Bidirectional embeddings, overrides and isolates, and the byte order mark. The joiner (U+200D) stays: emoji need it.
fn is_invisible_control(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// Whether the text has something that an app or a reader would take for a web address.
pub fn has_link(text: &str) -> bool {
    // Full-width dots and letters are typed where filters are expected.
    let folded: String = crate::words::fold(text).map(|c| if c == '。' { '.' } else { c }).collect();
    folded.contains("://")
        || folded.split(|c: char| c.is_whitespace() || "()[]<>\"'，、：；,;".contains(c)).any(is_address)
}

/// `name.tld`, perhaps with a path: letters, digits and hyphens with dots between, ending in two or more letters.
fn is_address(word: &str) -> bool {
    let host = word.split(['/', '?', '#', ':']).next().unwrap_or_default().trim_end_matches('.');
    let host = host.rsplit('@').next().unwrap_or_default();
    let mut parts = host.rsplit('.');
    let top = parts.next().unwrap_or_default();
    let rest: Vec<_> = parts.collect();
    (2..=24).contains(&top.len())
        && top.chars().all(|c| c.is_ascii_alphabetic())
        && !rest.is_empty()
        && rest.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_text() {
        assert_eq!(clean("  hi\nthere\u{7} "), Ok("hi there".into()));
        assert_eq!(clean("\u{202E}evil"), Ok("evil".into()));
        assert_eq!(clean("家里 👩‍👧 <b>"), Ok("家里 👩‍👧 <b>".into()));
        assert_eq!(clean(" \n\u{202E} "), Err(Refused::Empty));
        assert_eq!(clean(&"語".repeat(MAX_CHAT_CHARS)).map(|t| t.len()), Ok(900));
        assert_eq!(clean(&"語".repeat(MAX_CHAT_CHARS + 1)), Err(Refused::TooLong(MAX_CHAT_CHARS)));
    }

    #[test]
    fn links_are_seen_in_their_disguises() {
        for text in [
            "see https://x.y",
            "www.shop.com",
            "go to shop.co.uk/sale now",
            "shop。com",
            "ｓｈｏｐ．ｃｏｍ",
            "(t.me/x)",
            "a@b.de",
            "http://1.2.3.4",
            "看shop.cn",
        ] {
            assert!(has_link(text), "{text}");
        }
        for text in [
            "3.50 please",
            "nice...",
            "e.g. this",
            "so good.I want it",
            "v1.2",
            "好。谢谢",
            "it is 9.99!",
            "hello.",
        ] {
            assert!(!has_link(text), "{text}");
        }
    }
}
