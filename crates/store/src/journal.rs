//! The journal of the embedded gate: a file of groups, each durable as a whole or not there at all.
//!
//! ```text
//! "haul journal 1\n"  then for each group: "HGRP"  length (u32, little endian)  CRC-32C of length and payload  payload
//! ```
//!
//! A payload is lines of JSON, one a [`Change`] of one sale. A group is written at once and synced at once, so only
//! the last can be torn by a crash, and it was never acknowledged: it is cut off. A damaged group with a whole one
//! behind it is not a torn one, and opening fails.
//!
//! Knows no queue and no thread; [`crate::EmbeddedGate`] drives it.

mod line;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use haul_commerce::{
    LiveRef, SaleBook,
    book::{Change, HoldRecord},
};
use haul_model::{LiveId, MerchantId, SaleId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{KEEP_SALE_MS, OpenError};

/// All sales of a gate.
pub type Books = HashMap<(LiveRef, SaleId), SaleBook>;

/// The first bytes of a journal; another version has another number.
const HEADER: &[u8] = b"haul journal 1\n";
/// Stands before each group, so that whole groups behind a damaged one are found.
const GROUP: &[u8; 4] = b"HGRP";
/// Magic, length and checksum.
const FRAME_BYTES: usize = 12;
/// The largest payload that is believed when reading. A group is closed at [`FULL_GROUP_BYTES`], and the last call in
/// it adds at most `MAX_OPS` + `MAX_SWEEP` holds of under 700 bytes.
const MAX_GROUP_BYTES: usize = 16 << 20;
/// A group with this much payload takes no further call.
pub(crate) const FULL_GROUP_BYTES: usize = 1 << 20;
/// A journal smaller than this is not rewritten while the gate runs.
const COMPACT_BYTES: u64 = 64 << 20;
/// Beyond [`COMPACT_BYTES`], a journal is rewritten when it has grown to this many times its size when it was new.
const COMPACT_FACTOR: u64 = 4;

/// With the large table, which takes sixteen bytes at a time: a hold has two hundred, and every one is summed up.
static CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISCSI);

/// One change of one sale, as it is read.
#[derive(Deserialize)]
struct Entry {
    merchant: MerchantId,
    live: LiveId,
    sale: SaleId,
    #[serde(flatten)]
    change: Change,
}

/// The same as it is written, but for its holds.
#[derive(Serialize)]
struct NewEntry<'a> {
    merchant: &'a MerchantId,
    live: &'a LiveId,
    sale: &'a SaleId,
    #[serde(flatten)]
    change: &'a Change,
}

/// Changes that become durable together.
#[derive(Default)]
pub(crate) struct Group {
    payload: Vec<u8>,
}

impl Group {
    pub(crate) fn push(&mut self, live: &LiveRef, sale: &SaleId, change: &Change<&HoldRecord>) {
        let LiveRef { merchant, live } = live;
        let Change { epoch, sequence, clock, terms, frozen, holds } = change;
        let change = &Change {
            epoch: *epoch,
            sequence: *sequence,
            clock: *clock,
            terms: terms.clone(),
            frozen: *frozen,
            holds: Vec::new(),
        };
        let entry = NewEntry { merchant, live, sale, change };
        serde_json::to_writer(&mut self.payload, &entry)
            .expect("ids and numbers are JSON, and a Vec takes them");
        if !holds.is_empty() {
            let end = self.payload.pop();
            debug_assert_eq!(end, Some(b'}'));
            for (nth, hold) in holds.iter().enumerate() {
                self.payload.extend_from_slice(if nth == 0 { b",\"holds\":[" } else { b"," });
                line::write(&mut self.payload, hold);
            }
            self.payload.extend_from_slice(b"]}");
        }
        self.payload.push(b'\n');
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.payload.len() >= FULL_GROUP_BYTES
    }

    fn framed(&self) -> Vec<u8> {
        let length = (self.payload.len() as u32).to_le_bytes();
        [GROUP.as_slice(), &length, &checksum(&length, &self.payload), &self.payload].concat()
    }
}

fn checksum(length: &[u8], payload: &[u8]) -> [u8; 4] {
    let mut digest = CRC.digest();
    digest.update(length);
    digest.update(payload);
    digest.finalize().to_le_bytes()
}

/// What became of a group that could not be written.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// It was taken back: the journal is as before.
    Undone(io::Error),
    /// It may or may not be in the journal.
    Unclear(io::Error),
}

/// The sales in the journal in `dir`, without opening it: a gate may be writing to it.
pub fn read_journal(dir: &Path) -> Result<Books, OpenError> {
    let path = dir.join("journal");
    match fs::read(&path) {
        Ok(bytes) => Ok(replay(&path, &bytes)?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Books::new()),
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// An open journal. After a failed [`Journal::commit`] it must be opened again.
pub(crate) struct Journal {
    dir: PathBuf,
    file: File,
    /// Bytes that are durable; a failed group is cut off behind them.
    length: u64,
    /// Rewrite the journal when it has come to this.
    compact_at: u64,
}

impl Journal {
    /// Reads the journal in `dir`, or starts one, and rewrites it as a snapshot. Gives the books and how many bytes of
    /// a torn group were cut off.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Books, u64), OpenError> {
        let path = dir.join("journal");
        let (books, torn_bytes) = match fs::read(&path) {
            Ok(bytes) => replay(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Books::new(), 0),
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let (file, length) = write_snapshot(dir, &books).map_err(failed)?;
        put_in_place(dir).map_err(failed)?;
        let journal = Self { dir: dir.to_owned(), file, length, compact_at: compact_at(length) };
        Ok((journal, books, torn_bytes))
    }

    /// Makes a group durable. Where that fails, tries to leave no trace of it.
    pub(crate) fn commit(&mut self, group: &Group) -> Result<(), CommitError> {
        let bytes = group.framed();
        let Err(error) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) else {
            self.length += bytes.len() as u64;
            return Ok(());
        };
        match self.file.set_len(self.length).and_then(|()| self.file.sync_all()) {
            Ok(()) => Err(CommitError::Undone(error)),
            Err(_) => Err(CommitError::Unclear(error)),
        }
    }

    /// Rewrites the journal as a snapshot of `books` when it has grown enough, and gives whether it did: then all that the
    /// books have is durable. Where the snapshot can't be written, the journal goes on growing; an error means that it must
    /// be opened again.
    pub(crate) fn compact_if_grown(&mut self, books: &mut Books, now: UnixMillis) -> io::Result<bool> {
        if self.length < self.compact_at {
            return Ok(false);
        }
        forget_old_sales(books, now);
        let snapshot = write_snapshot(&self.dir, books);
        let is_rewritten = match snapshot {
            Ok((file, length)) => {
                put_in_place(&self.dir)?;
                (self.file, self.length) = (file, length);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "could not compact the journal; it goes on growing");
                false
            }
        };
        self.compact_at = compact_at(self.length);
        Ok(is_rewritten)
    }
}

#[cfg(test)]
impl Journal {
    /// Lets the next commit be followed by a snapshot.
    pub(crate) fn let_it_be_grown(&mut self) {
        self.compact_at = 0;
    }

    /// Every write fails from now on for want of space.
    pub(crate) fn let_it_fail(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    }
}

/// Forgets sales that are long over.
pub(crate) fn forget_old_sales(books: &mut Books, now: UnixMillis) {
    books.retain(|_, book| !book.is_over_since(KEEP_SALE_MS, now));
}

fn compact_at(length: u64) -> u64 {
    COMPACT_BYTES.max(length * COMPACT_FACTOR)
}

/// Writes a new journal beside the old one; gives it opened for appending, and its length.
fn write_snapshot(dir: &Path, books: &Books) -> io::Result<(File, u64)> {
    let new_path = dir.join("journal.new");
    match fs::remove_file(&new_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).open(&new_path)?;
    let mut length = HEADER.len() as u64;
    file.write_all(HEADER)?;
    let mut group = Group::default();
    for ((live, sale), book) in books {
        for change in book.snapshot() {
            group.push(live, sale, &change);
            if group.is_full() {
                length += append(&mut file, &mut group)?;
            }
        }
    }
    if !group.is_empty() {
        length += append(&mut file, &mut group)?;
    }
    file.sync_all()?;
    Ok((file, length))
}

/// Puts the new journal in the old one's place. After an error it is unclear which of them a crash would leave.
fn put_in_place(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join("journal.new"), dir.join("journal"))?;
    // The rename is durable when the directory is.
    File::open(dir)?.sync_all()
}

fn append(file: &mut File, group: &mut Group) -> io::Result<u64> {
    let bytes = std::mem::take(group).framed();
    file.write_all(&bytes)?;
    Ok(bytes.len() as u64)
}

/// Reads every whole group. What is behind the last must be a torn one.
fn replay(path: &Path, bytes: &[u8]) -> Result<(Books, u64), OpenError> {
    let damaged =
        |offset: usize, why: String| OpenError::Damaged { path: path.to_owned(), offset: offset as u64, why };
    if !bytes.starts_with(HEADER) {
        return Err(damaged(0, "it does not begin like a journal of this version".to_owned()));
    }
    let mut books = Books::new();
    let mut offset = HEADER.len();
    while let Some(payload) = whole_group(&bytes[offset..]) {
        for line in payload.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let Entry { merchant, live, sale, change } =
                serde_json::from_slice(line).map_err(|error| damaged(offset, error.to_string()))?;
            let book = books.entry((LiveRef { merchant, live }, sale)).or_default();
            book.restore(change).map_err(|error| damaged(offset, error.to_string()))?;
        }
        offset += FRAME_BYTES + payload.len();
    }
    let rest = &bytes[offset..];
    let whole_behind = rest
        .windows(GROUP.len())
        .enumerate()
        .skip(1)
        .any(|(at, window)| window == GROUP && whole_group(&rest[at..]).is_some());
    if whole_behind {
        return Err(damaged(offset, "a group is damaged though whole ones follow".to_owned()));
    }
    Ok((books, rest.len() as u64))
}

/// The payload of the group that `bytes` begin with, if it is whole.
fn whole_group(bytes: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length_bytes = u32::from_le_bytes(*length) as usize;
    if magic != GROUP || length_bytes == 0 || length_bytes > MAX_GROUP_BYTES {
        return None;
    }
    let payload = rest.get(..length_bytes)?;
    (checksum(length, payload) == *sum).then_some(payload)
}

#[cfg(test)]
mod tests {
    use haul_commerce::{Mark, SaleTerms};

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("haul-journal-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn key() -> (LiveRef, SaleId) {
        let live = LiveRef { merchant: "main".parse().unwrap(), live: "demo".parse().unwrap() };
        (live, "sale_1".parse().unwrap())
    }

    /// Books with one sale that closes at `closes_at`, and the group that says so.
    fn put(books: &mut Books, closes_at: u64) -> Group {
        let terms = SaleTerms {
            stock: 1,
            per_buyer: 1,
            hold_ms: 1_000,
            pay_ms: 1_000,
            opens_at: UnixMillis(1),
            closes_at: UnixMillis(closes_at),
            ..SaleTerms::default()
        };
        let (live, sale) = key();
        let book = books.entry(key()).or_default();
        book.put_terms(&terms, Mark::default(), UnixMillis(5)).unwrap();
        let mut group = Group::default();
        group.push(&live, &sale, &book.change().unwrap());
        group
    }

    #[test]
    fn a_grown_journal_is_rewritten_and_goes_on_in_its_new_file() {
        let dir = Dir::new("grown");
        let (mut journal, mut books, _) = Journal::open(&dir.0).unwrap();
        for closes_at in 2..50 {
            journal.commit(&put(&mut books, closes_at)).unwrap();
        }
        let grown = journal.length;
        journal.compact_if_grown(&mut books, UnixMillis(9)).unwrap();
        assert_eq!(journal.length, grown, "far too small to be worth it");
        journal.compact_at = grown;
        journal.compact_if_grown(&mut books, UnixMillis(9)).unwrap();
        assert!(journal.length < grown / 10);
        assert_eq!(journal.compact_at, COMPACT_BYTES);
        journal.commit(&put(&mut books, 1_000)).unwrap();
        assert_eq!(journal.length, fs::metadata(dir.0.join("journal")).unwrap().len());
        drop(journal);
        let (_, again, torn_bytes) = Journal::open(&dir.0).unwrap();
        let mark = |books: &Books| books[&key()].mark();
        assert_eq!((mark(&again), torn_bytes), (mark(&books), 0));
    }

    #[test]
    fn a_group_that_can_be_neither_written_nor_taken_back_is_unclear() {
        let dir = Dir::new("unclear");
        let (mut journal, mut books, _) = Journal::open(&dir.0).unwrap();
        // And so does cutting it.
        journal.let_it_fail();
        let answer = journal.commit(&put(&mut books, 2));
        assert!(matches!(answer, Err(CommitError::Unclear(_))), "{answer:?}");
    }

    #[test]
    fn bytes_behind_the_last_group_are_cut_off_whatever_they_are() {
        let dir = Dir::new("tail");
        let (mut journal, mut books, _) = Journal::open(&dir.0).unwrap();
        journal.commit(&put(&mut books, 2)).unwrap();
        drop(journal);
        let path = dir.0.join("journal");
        let whole = fs::read(&path).unwrap();
        // What file systems leave behind after a power failure: zeros, or half of what was written.
        for tail in [vec![0; 5_000], b"HGRP".to_vec(), b"HGRP\xff\xff\xff\xff1234payload".to_vec()] {
            fs::write(&path, [whole.clone(), tail.clone()].concat()).unwrap();
            let (_, _, torn_bytes) = Journal::open(&dir.0).unwrap();
            assert_eq!(torn_bytes, tail.len() as u64);
        }
    }
}
