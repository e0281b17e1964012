//! What servers share of a live's room: who owns it, what the owner has told, and what others ask of it.
//!
//! One server owns a live's room at a time, by a lease. Each owner has a term, higher than all before it, and what it
//! appends is refused once there is a higher one: a server that stood still can't write after another took over. What is
//! told is numbered, batch by batch, and every server reads the batches in that order. Contents are the owners' own.

mod book;

use std::time::Duration;

use crate::{BoxFuture, LiveRef};

pub use book::BusBook;

/// Why the bus did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nothing happened, or it may have: the same call can be made again, and has its effect once.
    #[error("no answer from what servers share: {0}")]
    NoAnswer(String),
}

/// Who owns a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whether it is the caller.
    pub mine: bool,
    /// The owner's term; where nobody owns it, that of the last owner.
    pub term: u64,
    /// The last batch.
    pub batch: u64,
    /// The room's epoch; empty where there was no owner yet.
    pub epoch: String,
}

/// What an owner has told, and what it leaves for its heirs, in one piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Its number: one more than that of the batch before. The same number again changes nothing.
    pub number: u64,
    /// What every server is told; nothing where only what is left has changed.
    pub told: Vec<u8>,
    /// The room's epoch.
    pub epoch: String,
    /// The place of the room's last line.
    pub offset: u64,
    /// Numbered lines, the last of them at `offset`.
    pub lines: Vec<Vec<u8>>,
    /// What has changed.
    pub changes: Changes,
    /// Lines that say something else from now on, with their places; those that are kept no more are passed over.
    pub rewritten: Vec<(u64, Vec<u8>)>,
}

/// Changes of a room, oldest first, by what becomes of them: what there is much of does not push out the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of the chat; [`KEEP_CHAT`] of them are kept.
    pub chat: Vec<Vec<u8>>,
    /// What is in sight, and anything else: [`KEEP_STATE`].
    pub state: Vec<Vec<u8>>,
    /// Votes and entries: [`KEEP_VOTES`].
    pub votes: Vec<Vec<u8>>,
    /// Likes and the like: [`KEEP_COUNTS`].
    pub counts: Vec<Vec<u8>>,
}

impl Changes {
    /// How many of each are kept.
    pub const KEPT: [usize; 4] = [KEEP_CHAT, KEEP_STATE, KEEP_VOTES, KEEP_COUNTS];

    /// In the order of [`Changes::KEPT`].
    pub fn lists(&self) -> [&Vec<Vec<u8>>; 4] {
        [&self.chat, &self.state, &self.votes, &self.counts]
    }

    /// In the same order.
    pub fn lists_mut(&mut self) -> [&mut Vec<Vec<u8>>; 4] {
        [&mut self.chat, &mut self.state, &mut self.votes, &mut self.counts]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|list| list.is_empty())
    }
}

/// What is kept in the place of what was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// All changes.
    pub changes: Changes,
    /// What was told up to this batch goes: who has not heard it by now has their readers come back.
    pub told: u64,
    /// What was asked up to here goes, as in [`Bus::asked`].
    pub asked: String,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is there, and the lease goes on.
    Done,
    /// There is a higher term, or what was told before is lost: this owner is none any more.
    Fenced,
}

/// What an owner has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// The epoch; empty where there was no owner.
    pub epoch: String,
    /// The place of the last line.
    pub offset: u64,
    /// The last lines, as many as [`KEEP_LINES`].
    pub lines: Vec<Vec<u8>>,
    /// The last changes.
    pub changes: Changes,
}

/// Batches, oldest first, each with its number.
pub type Told = Vec<(u64, Vec<u8>)>;

/// Questions, oldest first, and where they end: what is asked later comes after that.
pub type Asked = (Vec<Vec<u8>>, String);

/// Lines kept for heirs: as many as a room keeps for those who come back.
pub const KEEP_LINES: usize = 2_048;
/// Changes of the chat kept: of each line that is kept, and of those that only some could see.
pub const KEEP_CHAT: usize = 4_096;
/// Changes kept that are neither chat nor counting. Where there were more, an heir believes the notes, too.
pub const KEEP_STATE: usize = 20_000;
/// Votes and entries kept; of a poll with more votes than this, the first are lost to an heir.
pub const KEEP_VOTES: usize = 20_000;
/// Counts kept, of which the last says it all.
pub const KEEP_COUNTS: usize = 16;
/// Batches kept for servers that are behind; one that is further behind has its readers come back.
pub const KEEP_BATCHES: usize = 10_000;
/// Questions kept that the owner has not read; of more, the oldest are lost, and their askers told so in time.
pub const KEEP_ASKED: usize = 20_000;
/// Batches read at once.
pub const MAX_READ: usize = 256;
/// How long all of this is kept of a room of which nothing is heard.
pub const KEEP_FOR: Duration = Duration::from_secs(24 * 3_600);

/// What several servers share of their rooms. Every call may be made again where there was no answer.
pub trait Bus: Send + Sync + 'static {
    /// Takes the lease for `node`, where `take` and nobody has it, or renews it where `node` has it; says who has it in any
    /// case. A new term is above all before it and above `seen`.
    fn lease<'a>(
        &'a self,
        live: &'a LiveRef,
        node: u64,
        take: bool,
        seen: u64,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Lease, BusError>>;
    /// Gives the lease back, if this term has it.
    fn release<'a>(&'a self, live: &'a LiveRef, term: u64) -> BoxFuture<'a, Result<(), BusError>>;
    /// Appends a batch as the owner of this term, and renews the lease.
    fn append<'a>(
        &'a self,
        live: &'a LiveRef,
        node: u64,
        term: u64,
        batch: &'a Batch,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Appended, BusError>>;
    /// What was told after this batch, at most [`MAX_READ`] of it. Where there is nothing, waits a while for it. What
    /// begins after a gap has lost what was there.
    fn told<'a>(
        &'a self,
        live: &'a LiveRef,
        after: u64,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Told, BusError>>;
    /// What the last owner has left.
    fn left<'a>(&'a self, live: &'a LiveRef) -> BoxFuture<'a, Result<Left, BusError>>;
    /// Asks the owner something, whoever it is.
    fn ask<'a>(&'a self, live: &'a LiveRef, asked: &'a [u8]) -> BoxFuture<'a, Result<(), BusError>>;
    /// What was asked, oldest first, from after `after` (where the last answer ended; empty: all that is kept). Where there is
    /// nothing, waits a while for it.
    fn asked<'a>(
        &'a self,
        live: &'a LiveRef,
        after: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Asked, BusError>>;
    /// Whether there is anything of this room.
    fn knows<'a>(&'a self, live: &'a LiveRef) -> BoxFuture<'a, Result<bool, BusError>>;
    /// Puts this in the place of what is kept, as the owner of this term, and renews the lease.
    fn replace<'a>(
        &'a self,
        live: &'a LiveRef,
        node: u64,
        term: u64,
        kept: &'a Kept,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Appended, BusError>>;
}
