//! Lines as a websocket's frames.
//!
//! A server's frames are the same for every reader (RFC 6455, 5.3: it masks nothing), so what goes to all is framed once.

use std::{ops::Deref, sync::Arc};

use bytes::Bytes;
use haul_room::{Batch, Piece};

/// What is handed to the kernel at once: what comes after may be more urgent.
const MAX_WRITE: usize = 4 * 1024;

/// Frames that are written together.
#[derive(Default)]
pub(super) struct Frames {
    /// What all are told, where it is all that there is: nearly always. Nothing is copied then.
    shared: Option<Arc<Batch>>,
    own: Vec<u8>,
}

impl Frames {
    fn put(&mut self, piece: Piece) {
        match piece {
            Piece::Batch(batch) if self.is_empty() => self.shared = Some(batch),
            Piece::Batch(batch) => self.own().extend_from_slice(batch.ready(frames_of)),
            Piece::Line(line) => put_frame(self.own(), &line),
        }
    }

    /// Behind which more can be put.
    fn own(&mut self) -> &mut Vec<u8> {
        if let Some(batch) = self.shared.take() {
            let ready = batch.ready(frames_of);
            self.own.reserve(ready.len() + MAX_WRITE);
            self.own.extend_from_slice(ready);
        }
        &mut self.own
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self.shared {
            Some(batch) => batch.ready(frames_of).clone(),
            None => self.own.into(),
        }
    }
}

impl Deref for Frames {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.shared {
            Some(batch) => batch.ready(frames_of),
            None => &self.own,
        }
    }
}

/// What goes in one write.
pub(super) struct Gathered {
    pub(super) messages: u64,
    pub(super) frames: Frames,
    /// Whether that was all.
    pub(super) all: bool,
}

/// Frames what `next` gives, until it is enough for a write.
pub(super) fn gather(mut next: impl FnMut() -> Option<Piece>) -> Gathered {
    let (mut frames, mut messages) = (Frames::default(), 0);
    while frames.len() < MAX_WRITE {
        let Some(piece) = next() else { return Gathered { messages, frames, all: true } };
        messages += match &piece {
            Piece::Batch(batch) => batch.lines().len() as u64,
            Piece::Line(_) => 1,
        };
        frames.put(piece);
    }
    Gathered { messages, frames, all: false }
}

/// Whether a close frame is among these whole frames, which a server has made.
pub(super) fn closing(mut frames: &[u8]) -> bool {
    const CLOSE: u8 = 0x8;
    loop {
        let (first, length) = match *frames {
            [first, 126, high, low, ..] => (first, 4 + usize::from(u16::from_be_bytes([high, low]))),
            // Nothing that the library writes is as long.
            [first, 127, ..] => (first, frames.len()),
            [first, length, ..] => (first, 2 + usize::from(length)),
            _ => return false,
        };
        if first & 0xf == CLOSE {
            return true;
        }
        frames = frames.get(length..).unwrap_or_default();
    }
}

fn frames_of(batch: &Batch) -> Bytes {
    let mut frames = Vec::new();
    batch.lines().for_each(|line| put_frame(&mut frames, line));
    frames.into()
}

/// Adds a line as a text frame (RFC 6455, 5.2). Lines are JSON, so they are UTF-8.
fn put_frame(frames: &mut Vec<u8>, line: &[u8]) {
    const FINAL_TEXT: u8 = 0x81;
    frames.reserve(line.len() + 10);
    frames.push(FINAL_TEXT);
    match line.len() {
        short @ ..=125 => frames.push(short as u8),
        middle @ ..=0xffff => {
            frames.push(126);
            frames.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frames.push(127);
            frames.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(line);
}

#[cfg(test)]
mod tests {
    use std::io;

    use haul_room::Line;
    use tokio_tungstenite::tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    use super::*;

    #[test]
    fn lines_of_any_length_are_frames_that_a_client_reads() {
        let lines: Vec<String> =
            [0, 1, 125, 126, 65_535, 65_536, 100_000].iter().map(|length| "é".repeat(length / 2)).collect();
        let mut frames = Vec::new();
        lines.iter().for_each(|line| put_frame(&mut frames, line.as_bytes()));
        let mut client = WebSocket::from_raw_socket(io::Cursor::new(frames), Role::Client, None);
        for line in lines {
            assert_eq!(client.read().unwrap(), Message::text(line));
        }
    }

    #[test]
    fn a_close_frame_is_found_wherever_it_stands() {
        let text = |length| {
            let mut frames = Vec::new();
            put_frame(&mut frames, &vec![0x88; length]);
            frames
        };
        let close = [0x88, 2, 0x03, 0xe8];
        let pong = [0x8a, 4, 0x88, 0x88, 0x88, 0x88];
        for before in [vec![], text(5), text(300), pong.to_vec(), [text(126), pong.to_vec()].concat()] {
            assert!(!closing(&before));
            assert!(closing(&[&before[..], &close].concat()));
        }
    }

    #[test]
    fn one_write_has_what_goes_in_it_in_order() {
        let line = |text: &str| Line::copy_from_slice(text.as_bytes());
        let batch = |texts: &[&str]| {
            Piece::Batch(Arc::new(Batch::new(texts.iter().map(|text| (true, line(text))).collect())))
        };
        let written = |pieces: Vec<Piece>| {
            let mut pieces = pieces.into_iter();
            let Gathered { messages, frames, all } = gather(|| pieces.next());
            (messages, String::from_utf8_lossy(&frames).replace('\u{fffd}', "|"), all)
        };
        assert_eq!(written(vec![]), (0, String::new(), true));
        assert_eq!(written(vec![batch(&["a", "b"])]), (2, "|\u{1}a|\u{1}b".into(), true));
        let mixed = vec![batch(&["a"]), Piece::Line(line("b")), batch(&["c", "d"])];
        assert_eq!(written(mixed), (4, "|\u{1}a|\u{1}b|\u{1}c|\u{1}d".into(), true));
        let first = vec![Piece::Line(line("a")), batch(&["b"])];
        assert_eq!(written(first), (2, "|\u{1}a|\u{1}b".into(), true));
        let long = "x".repeat(MAX_WRITE / 2);
        let (messages, _, all) = written(vec![batch(&[&long]), batch(&[&long]), batch(&["urgent or not"])]);
        assert_eq!((messages, all), (2, false));
    }
}
