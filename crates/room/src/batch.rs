//! Lines of the room that are told to everybody together.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::Line;

/// Lines in their order, one for all readers. What a reader's protocol makes of them is made once, too.
#[derive(Debug, Default)]
pub struct Batch {
    /// True marks chat.
    lines: Vec<(bool, Line)>,
    chat: usize,
    bytes: usize,
    ready: OnceLock<Bytes>,
}

impl Batch {
    /// These lines; true marks chat, which a slow reader may lose.
    pub fn new(lines: Vec<(bool, Line)>) -> Self {
        let chat = lines.iter().filter(|(is_chat, _)| *is_chat).count();
        let bytes = lines.iter().map(|(_, line)| line.len()).sum();
        Self { lines, chat, bytes, ready: OnceLock::new() }
    }

    /// The lines.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &Line> {
        self.lines.iter().map(|(_, line)| line)
    }

    /// What the first who asked has made of the lines. All readers speak one protocol: what they make is the same.
    pub fn ready(&self, make: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.ready.get_or_init(|| make(self))
    }

    /// The lines from this one on.
    pub fn from(&self, first: usize) -> Self {
        Self::new(self.lines[first.min(self.lines.len())..].to_vec())
    }

    pub(crate) fn marked(&self) -> &[(bool, Line)] {
        &self.lines
    }

    pub(crate) fn chat(&self) -> usize {
        self.chat
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
