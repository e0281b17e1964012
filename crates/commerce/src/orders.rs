//! Orders of a merchant over all lives, for the merchant's own systems.

use haul_model::{BuyerId, LiveId, MerchantId, OrderId, UnixMillis};

use crate::{
    Order,
    ledger::{Answer, Standing},
};

/// Which orders are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderFilter {
    /// Of this live only.
    pub live: Option<LiveId>,
    /// Of this buyer only.
    pub buyer: Option<BuyerId>,
    /// That stand like this only.
    pub standing: Option<Standing>,
    /// Made at this time or later.
    pub since: Option<UnixMillis>,
    /// Those behind this one in the list.
    pub after: Option<(UnixMillis, OrderId)>,
}

/// Something that happened to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// Counts them, from 1.
    pub number: u64,
    /// What: a state that it came to, or `partly_refunded`, `disputed`, and the like.
    pub state: String,
    /// What it is about in particular: a refund's id.
    pub detail: Option<String>,
    /// When.
    pub at: UnixMillis,
}

/// Lists of orders.
pub trait OrderList: Send + Sync + 'static {
    /// A merchant's orders, newest first, at most `limit`.
    fn list_orders<'a>(
        &'a self,
        merchant: &'a MerchantId,
        filter: &'a OrderFilter,
        limit: u32,
    ) -> Answer<'a, Vec<Order>>;
    /// What happened to an order, in the order in which it did.
    fn order_events<'a>(&'a self, order: &'a OrderId) -> Answer<'a, Vec<OrderEvent>>;
}
