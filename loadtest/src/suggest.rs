//! "Did you mean": the nearest of what there is to what was written.

/// Names further away than this are not suggested.
const LEAST_LIKENESS: f64 = 0.75;

/// The nearest of `names`, if one is near.
pub(crate) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.into_iter().map(|name| (strsim::jaro_winkler(written, name), name));
    let best = rated.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= LEAST_LIKENESS).then_some(best.1)
}

/// Adds a suggestion to a message of serde's that says "unknown field `x`, expected one of `a`, `b`".
pub(crate) fn in_message(message: &str) -> String {
    let Some(at) = message.find("unknown ") else { return message.trim_end().to_owned() };
    let mut quoted = message[at..].split('`').skip(1).step_by(2);
    let written = quoted.next().unwrap_or_default();
    match nearest(written, quoted) {
        Some(name) => format!("{}\ndid you mean `{name}`?", message.trim_end()),
        None => message.trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_suggested() {
        assert_eq!(nearest("vewers", ["viewers", "buyers"]), Some("viewers"));
        assert_eq!(nearest("zzz", ["viewers", "buyers"]), None);
        let message = "unknown field `cout`, expected one of `count`, `decrypt`";
        assert!(in_message(message).ends_with("did you mean `count`?"));
        assert_eq!(in_message("something else\n"), "something else");
    }
}
