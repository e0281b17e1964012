//! Who changed what, when, and from where. Entries are added and never changed.

use haul_model::{LiveId, MerchantId, UnixMillis};

use crate::ledger::Answer;

/// The longest target and detail, in bytes; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 500;

/// Something that somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id; those made later sort later.
    pub id: String,
    /// Whose shop.
    pub merchant: MerchantId,
    /// When.
    pub at: UnixMillis,
    /// As what they did it: `key`, `host`, `moderator`, or `operator` for who does it on the server's own machine.
    pub role: String,
    /// Who: a key's id, a token's subject, or the command.
    pub actor: String,
    /// What: a method and route, or the channel's request.
    pub action: String,
    /// To what: the path, or what the request named.
    pub target: String,
    /// In which live, where it is about one.
    pub live: Option<LiveId>,
    /// From which address.
    pub address: Option<String>,
}

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// About this live only.
    pub live: Option<LiveId>,
    /// By this one only.
    pub actor: Option<String>,
    /// Those behind this one in the list.
    pub after: Option<String>,
}

/// The log.
pub trait Audit: Send + Sync + 'static {
    /// Adds entries.
    fn record<'a>(&'a self, entries: &'a [Entry]) -> Answer<'a, ()>;
    /// A merchant's entries, newest first, at most `limit`.
    fn audit<'a>(
        &'a self,
        merchant: &'a MerchantId,
        filter: &'a AuditFilter,
        limit: u32,
    ) -> Answer<'a, Vec<Entry>>;
}
