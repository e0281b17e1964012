//! What may be said.

use std::time::Duration;

/// Why a line is not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Nothing in it that can be read.
    Empty,
    /// More than [`haul_wire::MAX_CHAT_CHARS`].
    TooLong,
    /// Too soon after the sender's last ones.
    TooFast {
        /// When it may be said.
        retry_after: Duration,
    },
}

/// The text as it will be shown: without control characters (line breaks become spaces, direction overrides and the
/// like vanish, so that nobody can disturb the lines around theirs) and without space at its ends.
pub fn clean(text: &str) -> Result<String, Refused> {
    let text: String = text
        .chars()
        .map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c })
        .filter(|c| !c.is_control() && !is_invisible_control(*c))
        .collect();
    let text = text.trim();
    if text.is_empty() {
        return Err(Refused::Empty);
    }
    if text.chars().count() > haul_wire::MAX_CHAT_CHARS {
        return Err(Refused::TooLong);
    }
    Ok(text.to_owned())
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
        assert_eq!(clean(&"語".repeat(haul_wire::MAX_CHAT_CHARS)).map(|t| t.len()), Ok(900));
        assert_eq!(clean(&"語".repeat(haul_wire::MAX_CHAT_CHARS + 1)), Err(Refused::TooLong));
    }
}
