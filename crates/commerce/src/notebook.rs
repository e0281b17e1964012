//! What a live's room must remember from one start to the next: its rules, whom it put out, its log.
//!
//! Named texts, whose meaning is the room's.

use haul_model::LiveId;

use crate::ledger::Answer;

/// Notes of lives.
pub trait Notebook: Send + Sync + 'static {
    /// All notes of a live, by name.
    fn notes<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<(String, String)>>;
    /// Writes notes down, or forgets those without a text, in one transaction. Notes of a live that does not exist are
    /// not kept.
    fn write_notes<'a>(&'a self, live: &'a LiveId, notes: &'a [(String, Option<String>)]) -> Answer<'a, ()>;
}
