//! What was written down of orders that were sold, and what products want to be followed up by.

use haul_model::{BuyerId, MerchantId, Money, OrderId, ProductId, UnixMillis};

use crate::{follow::Booking, followup::FollowupRule, ledger::Answer, split::Split};

/// An order that was sold, with how its money is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedOrder {
    /// The order.
    pub order: OrderId,
    /// Its total; the parts are in its currency.
    pub total: Money,
    /// When it was sold.
    pub sold_at: UnixMillis,
    /// Whose doing it was, and who gets how much.
    pub booking: Booking,
}

impl BookedOrder {
    /// What each keeps after refunds.
    pub fn kept(&self) -> Split {
        self.booking.split.minus(&self.booking.reversed)
    }
}

/// Reads bookings, and keeps follow-ups. Every question names a merchant.
pub trait Bookings: Send + Sync + 'static {
    /// The booking of an order; `None` before it was sold.
    fn booking<'a>(&'a self, merchant: &'a MerchantId, order: &'a OrderId)
    -> Answer<'a, Option<BookedOrder>>;
    /// How many orders a buyer paid and kept something of.
    fn paid_orders<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, u32>;
    /// A product's follow-ups.
    fn followups<'a>(
        &'a self,
        merchant: &'a MerchantId,
        product: &'a ProductId,
    ) -> Answer<'a, Vec<FollowupRule>>;
    /// Sets a product's follow-ups, for orders sold from now on. `NotFound` where there is no such product.
    fn put_followups<'a>(
        &'a self,
        merchant: &'a MerchantId,
        product: &'a ProductId,
        rules: &'a [FollowupRule],
    ) -> Answer<'a, ()>;
}
