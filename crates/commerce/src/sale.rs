//! A flash sale: one product of a live, offered at a price, for a while, with its own stock.

use haul_model::{LiveId, MerchantId, Money, ProductId, SaleId, UnixMillis};
use serde::{Deserialize, Serialize};

/// The most units one sale may have. Bounds the arithmetic of every gate, Lua's doubles included.
pub const MAX_STOCK: u32 = 10_000_000;
/// The shortest and the longest time a hold may be given, in milliseconds.
pub const HOLD_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// What the gate must know of a sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleTerms {
    /// Units offered, at most [`MAX_STOCK`].
    pub stock: u32,
    /// Units one buyer may hold and buy together.
    pub per_buyer: u32,
    /// How long a hold lasts until payment starts.
    pub hold_ms: u64,
    /// How long a payment may take after it starts: the deadline is extended once, to at least this from then.
    pub pay_ms: u64,
    /// Opens at this time of the gate's clock (inclusive).
    pub opens_at: UnixMillis,
    /// Closes at this time of the gate's clock (exclusive). Holds taken before may still be paid.
    pub closes_at: UnixMillis,
}

/// A sale as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// Its id.
    pub id: SaleId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// Where it takes place.
    pub live: LiveId,
    /// What is sold.
    pub product: ProductId,
    /// Price of one unit.
    pub unit_price: Money,
    /// What the gate enforces.
    pub terms: SaleTerms,
}
