//! Who has voted, as it is kept: as many bits of a hash as tell people apart, and nothing that says who they are.
//!
//! So what is written down of a vote need not be looked for where somebody is to be forgotten.

use haul_model::BuyerId;
use sha2::{Digest, Sha256};

/// Somebody in one thing that is voted on. Two of 100,000 are taken for one in one of three thousand million votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

const DIGITS: usize = 16;

impl Mark {
    /// `of`: the id of what is voted on, so that nobody is the same in two of them.
    pub(crate) fn new(of: &str, who: &BuyerId) -> Self {
        let hash: [u8; 32] = Sha256::digest(format!("{of}:{who}")).into();
        let (first, _) = hash.split_at(8);
        Self(first.iter().fold(0, |mark, byte| mark << 8 | u64::from(*byte)))
    }
}

/// Somebody who counts as one in one thing that is voted on, and is nobody.
pub(crate) fn nobody(of: &str, who: &BuyerId) -> BuyerId {
    let Mark(mark) = Mark::new(of, who);
    // Hexadecimal digits are letters of an id.
    format!("gone-{mark:0DIGITS$x}").parse().unwrap_or_else(|_| who.clone())
}

/// Marks, each with what it stands for, as one text.
pub(crate) fn written(marks: impl Iterator<Item = (Mark, u8)>) -> String {
    marks.map(|(Mark(mark), choice)| format!("{mark:0DIGITS$x}{choice:02x}")).collect()
}

/// Reads that text; what can't be read is left out.
pub(crate) fn read(text: &str) -> impl Iterator<Item = (Mark, u8)> {
    text.as_bytes().chunks(DIGITS + 2).filter_map(|digits| {
        let (mark, choice) = std::str::from_utf8(digits).ok()?.split_at_checked(DIGITS)?;
        Some((Mark(u64::from_str_radix(mark, 16).ok()?), u8::from_str_radix(choice, 16).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let marks: Vec<_> = ["ann", "bob"]
            .iter()
            .zip(0..)
            .map(|(who, n)| (Mark::new("q_1", &who.parse().unwrap()), n))
            .collect();
        let text = written(marks.iter().copied());
        assert!(!text.contains("ann"));
        assert_eq!(read(&text).collect::<Vec<_>>(), marks);
        assert_ne!(
            Mark::new("q_2", &"ann".parse().unwrap()),
            marks[0].0,
            "nobody is the same in two of them"
        );
        for broken in ["", "0", "zz", "é", &text[1..], &format!("{text}0")] {
            let _ = read(broken).count();
        }
        assert_eq!(read("zzzzzzzzzzzzzzzzzz").count(), 0);
    }
}
