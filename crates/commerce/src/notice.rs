//! What a merchant is told of beside orders: milestones, follow-ups, products that are back.

use haul_model::{MerchantId, UnixMillis};

use crate::ledger::Answer;

/// One thing that a merchant is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its id; later ones sort later.
    pub id: String,
    /// Whom.
    pub merchant: MerchantId,
    /// What kind: `buyer.milestone`, `followup.due`, `product.back_in_stock`.
    pub kind: String,
    /// What it is about; those about one thing are told in order.
    pub subject: String,
    /// What there is to know, by the kind: a JSON object.
    pub body: String,
    /// When it came true.
    pub at: UnixMillis,
}

/// Keeps what merchants are told.
pub trait Notices: Send + Sync + 'static {
    /// A merchant's, oldest first, from behind the id `after`, at most `limit`.
    fn notices<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a str>,
        limit: u32,
    ) -> Answer<'a, Vec<Told>>;
}
