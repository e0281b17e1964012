//! What may be said.

use std::time::Duration;

use haul_model::{Role, UnixMillis};
use haul_wire::{MAX_CHAT_CHARS, Standing, Writers};
use unicode_normalization::char::is_combining_mark;

use crate::words::is_without_width;

/// Marks on one letter; more are left out. No language writes more.
pub const MAX_MARKS: usize = 4;

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
    /// Too many marks over one letter.
    Marks,
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
    let text = without_towers(text.trim());
    if is_unseen(&text) {
        return Err(Refused::Empty);
    }
    if text.chars().count() > max_chars {
        return Err(Refused::TooLong(max_chars));
    }
    Ok(text)
}

/// Without the marks that pile up over one letter until they cover the lines around it.
pub(crate) fn without_towers(text: &str) -> String {
    let mut marks = 0;
    text.chars()
        .filter(|c| {
            marks = if is_combining_mark(*c) { marks + 1 } else { 0 };
            marks <= MAX_MARKS
        })
        .collect()
}

/// Whether nothing is seen of a text.
pub fn is_unseen(text: &str) -> bool {
    text.chars().all(is_blank)
}

/// Whether nothing is seen of it: spaces, what has no width, letters that are empty by definition, tags, lone marks.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || is_without_width(c)
        || is_combining_mark(c)
        || matches!(c, '\u{115F}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{FFA0}' | '\u{1D173}'..='\u{1D17A}' | '\u{2065}'..='\u{206F}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Bidirectional embeddings, overrides and isolates, and the byte order mark. The joiner (U+200D) stays: emoji need it.
fn is_invisible_control(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
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
        for blank in [
            "\u{200B}",
            "\u{2800}\u{2800}",
            "\u{3164}",
            "\u{AD}",
            "\u{1D173}",
            "\u{34F}",
            "\u{E0041}\u{E007F}",
            "\u{301}",
        ] {
            assert_eq!(clean(blank), Err(Refused::Empty), "{blank:?}");
        }
        let tower = format!("z{}a\u{300}", "\u{300}".repeat(250));
        assert_eq!(clean(&tower), Ok(format!("z{}a\u{300}", "\u{300}".repeat(MAX_MARKS))));
        assert_eq!(clean("ก็ดี Việt e\u{302}\u{301}"), Ok("ก็ดี Việt e\u{302}\u{301}".into()));
        assert_eq!(clean(&"語".repeat(MAX_CHAT_CHARS)).map(|t| t.len()), Ok(900));
        assert_eq!(clean(&"語".repeat(MAX_CHAT_CHARS + 1)), Err(Refused::TooLong(MAX_CHAT_CHARS)));
    }
}
