//! What has been taken of a path, as far as needed to know it again: a broadcast that has ended, and is still announced, is read
//! anew to see whether another has followed it, and then begins with the last groups that it had.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use super::reader::Piece;

/// Tracks that are remembered: of one broadcast all, and some that its catalogs named before.
const MAX_TRACKS: usize = 16;

/// The last group of each track, by what it began with.
#[derive(Default)]
pub(super) struct Past {
    /// Of the broadcasts before this one.
    before: VecDeque<(String, u64)>,
    /// Of this one.
    now: VecDeque<(String, u64)>,
    /// Tracks of this one that begin with what there was before. It is passed over, up to the next group.
    passing: Vec<String>,
    /// Something of this one was new.
    is_new: bool,
    hasher: RandomState,
}

impl Past {
    /// What follows is read from its beginning.
    pub(super) fn begin(&mut self) {
        for (track, mark) in self.now.drain(..) {
            remember(&mut self.before, track, mark);
        }
        self.passing.clear();
        self.is_new = false;
    }

    /// Whether anything was ever read.
    pub(super) fn is_any(&self) -> bool {
        !self.before.is_empty() || !self.now.is_empty()
    }

    /// Whether what was read last is not what there was before.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether a piece has been taken before.
    pub(super) fn has(&mut self, track: &str, piece: &Piece) -> bool {
        if !piece.begins_group {
            return self.passing.iter().any(|passing| passing == track);
        }
        self.passing.retain(|passing| passing != track);
        let mark = self.hasher.hash_one(&piece.bytes);
        let is_old = self.before.iter().any(|old| (old.0.as_str(), old.1) == (track, mark));
        match is_old {
            true => self.passing.push(track.to_owned()),
            false => self.is_new = true,
        }
        remember(&mut self.now, track.to_owned(), mark);
        is_old
    }
}

fn remember(marks: &mut VecDeque<(String, u64)>, track: String, mark: u64) {
    match marks.iter_mut().find(|known| known.0 == track) {
        Some(known) => known.1 = mark,
        None => {
            if marks.len() >= MAX_TRACKS {
                marks.pop_front();
            }
            marks.push_back((track, mark));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(begins_group: bool, bytes: &'static [u8]) -> Piece {
        Piece { track: 0, begins_group, bytes: bytes.into() }
    }

    #[test]
    fn the_last_group_is_known_again_and_what_follows_it_is_new() {
        let mut past = Past::default();
        past.begin();
        for first in [&b"1"[..], b"2"] {
            assert!(!past.has("v", &piece(true, first)));
            assert!(!past.has("v", &piece(false, b"delta")));
        }
        past.begin();
        assert!(past.has("v", &piece(true, b"2")));
        assert!(past.has("v", &piece(false, b"delta")));
        assert!(!past.is_new);
        assert!(!past.has("v", &piece(true, b"3")));
        assert!(past.is_new);
        assert!(!past.has("v", &piece(false, b"delta")));
        // Where nothing was taken of it, what was before that still counts.
        past.begin();
        past.begin();
        assert!(past.has("v", &piece(true, b"3")));
        assert!(!past.has("a", &piece(true, b"3")), "another track");
        assert!(!past.has("a", &piece(false, b"delta")));
    }

    #[test]
    fn a_catalog_that_names_ever_new_tracks_is_forgotten_again() {
        let mut past = Past::default();
        for number in 0..1_000 {
            past.has(&number.to_string(), &piece(true, b"x"));
        }
        assert_eq!(past.now.len(), MAX_TRACKS);
        past.begin();
        assert!(past.has("999", &piece(true, b"x")));
        assert!(!past.has("0", &piece(true, b"x")));
    }
}
