//! What no text of a request may have in it.

/// What is said of a text with a NUL.
pub const NO_NUL: &str = "a text has U+0000 in it, which not every store can keep: leave it out";

/// Whether some text of this JSON has U+0000 in it. JSON can only write it as an escape (RFC 8259, section 7).
pub fn has_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        // A backslash and what it escapes are read together, so that an escaped backslash escapes nothing.
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_found_and_nothing_that_looks_like_one() {
        for bad in [r#""\u0000""#, r#"{"a":["b\\\u0000"]}"#, r#"{"\u0000":1}"#] {
            assert!(has_nul(bad.as_bytes()), "{bad}");
        }
        for good in ["", r#""\\u0000""#, r#""\u0001""#, r#""u0000""#, "\\"] {
            assert!(!has_nul(good.as_bytes()), "{good}");
        }
    }
}
