//! Buyers: what they have come to, what they saved, whom an order goes to, and how all of that is given out and erased.

pub use haul_model::contact::{Charge, ChargeKind};
use haul_model::{
    BuyerId, Contact, ContactError, LiveId, MerchantId, Money, OrderId, ProductId, UnixMillis,
    contact::{MAX_FIELD_CHARS, is_plain},
};

use crate::{Order, attribution::Touch, ledger::Answer};

/// Products that one buyer may have saved; one more is refused.
pub const MAX_SAVED: u32 = 500;
/// Orders of one export; the newest.
pub const MAX_EXPORTED: u32 = 10_000;
/// Shipping and tax lines of one order; more are refused.
pub const MAX_CHARGES: usize = 20;

/// Whom an order goes to, and what of its total is shipping and tax.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// `None` once it was erased, or never known.
    pub contact: Option<Contact>,
    /// As the checkout or the provider said; stored, never recomputed.
    pub charges: Vec<Charge>,
}

/// Why details are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetailsError {
    /// The contact is none.
    #[error(transparent)]
    Contact(#[from] ContactError),
    /// A charge's label is too long, or has what no bill has.
    #[error("charges.label: expected at most {MAX_FIELD_CHARS} characters and no control characters")]
    Label,
    /// The charges can't be part of the total.
    #[error(
        "charges: expected at most {MAX_CHARGES}, none negative, and no more than the order's total together"
    )]
    Charges,
}

impl Details {
    /// Checks them against the order's total.
    pub fn validate(&self, total: Money) -> Result<(), DetailsError> {
        self.contact.as_ref().map_or(Ok(()), Contact::check)?;
        let mut sum = 0_i64;
        for charge in &self.charges {
            if !is_plain(&charge.label) {
                return Err(DetailsError::Label);
            }
            if charge.amount_minor < 0 {
                return Err(DetailsError::Charges);
            }
            sum = sum.saturating_add(charge.amount_minor);
        }
        if self.charges.len() > MAX_CHARGES || sum > total.amount_minor {
            return Err(DetailsError::Charges);
        }
        Ok(())
    }
}

/// What a merchant knows of a buyer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Orders they paid and kept something of: what badges go by.
    pub paid_orders: u32,
    /// What they have spent, less what went back, by currency.
    pub spent: Vec<Money>,
    /// When they first and last bought.
    pub first_order_at: Option<UnixMillis>,
    /// See `first_order_at`.
    pub last_order_at: Option<UnixMillis>,
    /// What they have come to, by name, with when.
    pub milestones: Vec<(String, UnixMillis)>,
    /// What they saved, the latest first.
    pub saved: Vec<ProductId>,
    /// When what is personal of them was erased last.
    pub erased_at: Option<UnixMillis>,
}

/// A buyer in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub buyer: BuyerId,
    /// Orders they paid and kept something of.
    pub paid_orders: u32,
    /// When they bought first.
    pub first_order_at: UnixMillis,
    /// And last.
    pub last_order_at: UnixMillis,
}

/// All that is kept of a buyer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Export {
    /// What they have come to.
    pub profile: Profile,
    /// Their orders, newest first, each with whom it went to.
    pub orders: Vec<(Order, Details)>,
    /// What they did under somebody's `ref` or nobody's, newest first.
    pub touches: Vec<Touch>,
    /// What they and the hosts' teams wrote to each other, by live, as JSON.
    pub threads: Vec<(LiveId, String)>,
}

/// How long what is personal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Joins and clicks from before this are forgotten.
    pub touches_before: UnixMillis,
    /// Contacts and addresses written before this are erased.
    pub details_before: UnixMillis,
}

/// Buyers. Every question names a merchant.
pub trait Buyers: Send + Sync + 'static {
    /// What is known of a buyer; of one who was never here, nothing.
    fn profile<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, Profile>;
    /// Those who have bought from a merchant, by id, from behind `after`, at most `limit`.
    fn known_buyers<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a BuyerId>,
        limit: u32,
    ) -> Answer<'a, Vec<Known>>;
    /// Saves a product for a buyer, or not any more. `Conflict` at [`MAX_SAVED`], `NotFound` without such a product.
    fn save_product<'a>(
        &'a self,
        merchant: &'a MerchantId,
        buyer: &'a BuyerId,
        product: &'a ProductId,
        saved: bool,
        at: UnixMillis,
    ) -> Answer<'a, ()>;
    /// Looks which saved products can be bought at `now` that could not before, and tells of at most `limit` of those who
    /// saved them. How many were told.
    fn tell_back_in_stock(&self, now: UnixMillis, limit: u32) -> Answer<'_, u32>;
    /// Whom an order goes to. `NotFound` where the merchant has no such order.
    fn details<'a>(&'a self, merchant: &'a MerchantId, order: &'a OrderId) -> Answer<'a, Details>;
    /// Writes down whom an order goes to.
    fn put_details<'a>(
        &'a self,
        merchant: &'a MerchantId,
        order: &'a OrderId,
        details: &'a Details,
        at: UnixMillis,
    ) -> Answer<'a, ()>;
    /// All that is kept of a buyer.
    fn export<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, Export>;
    /// The lives whose rooms keep something of theirs: private messages, questions, the line in sight.
    fn rooms_of<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId) -> Answer<'a, Vec<LiveId>>;
    /// Erases what is personal of a buyer: names, contacts, addresses, saved products, what they did, and timers that are
    /// set. Orders, sums and bookings stay. Idempotent.
    fn erase<'a>(&'a self, merchant: &'a MerchantId, buyer: &'a BuyerId, at: UnixMillis) -> Answer<'a, ()>;
    /// Forgets what is older than it may be, of all merchants.
    fn retire(&self, retention: Retention) -> Answer<'_, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(amount_minor: i64) -> Charge {
        Charge { kind: ChargeKind::Tax, label: "VAT".to_owned(), amount_minor }
    }

    #[test]
    fn charges_are_part_of_the_total() {
        let total = Money { amount_minor: 1_000, currency: "EUR".parse().unwrap() };
        let check = |charges: Vec<Charge>| Details { contact: None, charges }.validate(total);
        assert_eq!(check(vec![charge(190), charge(810)]), Ok(()));
        for bad in [
            vec![charge(1_001)],
            vec![charge(-1)],
            vec![charge(i64::MAX); 2],
            vec![charge(0); MAX_CHARGES + 1],
        ] {
            assert_eq!(check(bad), Err(DetailsError::Charges));
        }
    }

    #[test]
    fn a_contact_that_is_none_is_refused() {
        let total = Money { amount_minor: 1_000, currency: "EUR".parse().unwrap() };
        let of = |country: &str| {
            let contact = Contact { country: country.to_owned(), ..Contact::default() };
            Details { contact: Some(contact), charges: Vec::new() }.validate(total)
        };
        assert_eq!(of("DE"), Ok(()));
        assert_eq!(of("Germany"), Err(DetailsError::Contact(ContactError::Country)));
    }
}
