//! Metrics of a live, a product or a creator: what is counted, and how the same is found again from orders alone.
//!
//! A store computes them where the rows are; [`recompute`] is the definition that it must agree with.

use std::collections::{BTreeMap, BTreeSet};

use haul_model::{BuyerId, CreatorId, Currency, LiveId, MerchantId, ProductId, UnixMillis};

use crate::ledger::Answer;

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// The windows of the repeat-purchase rate, in days.
pub const REPEAT_DAYS: [u64; 2] = [90, 180];

/// What metrics are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Orders made in a live.
    Live(LiveId),
    /// Orders of a product; of an order with several, it is the first one's.
    Product(ProductId),
    /// Orders that a creator brought.
    Creator(CreatorId),
}

/// Money of one currency, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revenue {
    /// Totals of sold orders.
    pub gross_minor: i64,
    /// What went back of it.
    pub refunded_minor: i64,
}

/// What orders tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sold {
    /// Sold orders.
    pub orders: u64,
    /// Their units.
    pub units: u64,
    /// Different buyers.
    pub buyers: u64,
    /// Their money, by currency.
    pub revenue: BTreeMap<Currency, Revenue>,
    /// For each of [`REPEAT_DAYS`]: of those who bought in so many days up to now, how many did so more than once; in
    /// hundredths of a percent, rounded down. `None` where nobody bought.
    pub repeat_bps: [Option<u32>; 2],
    /// What those buyers have spent with the merchant altogether, here and elsewhere, less what went back, for each of
    /// them who has spent anything in that currency; rounded down.
    pub lifetime_minor: BTreeMap<Currency, i64>,
}

/// What touches and holds tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Different people who joined with a token; `None` for a product, which nobody joins.
    pub viewers: Option<u64>,
    /// Joins without a token: each visit counts.
    pub anonymous_joins: Option<u64>,
    /// Clicks.
    pub clicks: u64,
    /// Holds that were made; `None` for a creator, since a hold is nobody's doing before it is paid.
    pub holds: Option<u64>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// What touches and holds tell.
    pub seen: Seen,
    /// What orders tell.
    pub sold: Sold,
}

impl Metrics {
    /// How many of those who came bought, in hundredths of a percent, rounded down. More than all of them is possible:
    /// some came before that was counted.
    pub fn conversion_bps(&self) -> Option<u32> {
        bps(self.sold.buyers, self.seen.viewers?)
    }
}

/// An order that was sold, as far as metrics go by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Who bought.
    pub buyer: BuyerId,
    /// Where.
    pub live: LiveId,
    /// What.
    pub product: ProductId,
    /// Who brought them.
    pub creator: Option<CreatorId>,
    /// Units.
    pub quantity: u32,
    /// The order's currency.
    pub currency: Currency,
    /// Its total.
    pub total_minor: i64,
    /// What went back of it.
    pub refunded_minor: i64,
    /// When it was sold.
    pub sold_at: UnixMillis,
}

impl Scope {
    fn has(&self, fact: &Fact) -> bool {
        match self {
            Scope::Live(live) => fact.live == *live,
            Scope::Product(product) => fact.product == *product,
            Scope::Creator(creator) => fact.creator.as_ref() == Some(creator),
        }
    }
}

/// What all of a merchant's sold orders tell about one live, product or creator at `now`.
pub fn recompute(facts: &[Fact], scope: &Scope, now: UnixMillis) -> Sold {
    let here: Vec<&Fact> = facts.iter().filter(|fact| scope.has(fact)).collect();
    let buyers: BTreeSet<&BuyerId> = here.iter().map(|fact| &fact.buyer).collect();
    let mut sold = Sold {
        orders: here.len() as u64,
        units: here.iter().map(|fact| u64::from(fact.quantity)).sum(),
        buyers: buyers.len() as u64,
        ..Sold::default()
    };
    for fact in &here {
        let revenue = sold.revenue.entry(fact.currency).or_default();
        revenue.gross_minor += fact.total_minor;
        revenue.refunded_minor += fact.refunded_minor;
    }
    for (days, repeat) in REPEAT_DAYS.into_iter().zip(&mut sold.repeat_bps) {
        let mut orders: BTreeMap<&BuyerId, u64> = BTreeMap::new();
        for fact in here.iter().filter(|fact| fact.sold_at > since(now, days)) {
            *orders.entry(&fact.buyer).or_default() += 1;
        }
        *repeat = bps(orders.values().filter(|orders| **orders > 1).count() as u64, orders.len() as u64);
    }
    let mut spent: BTreeMap<Currency, (i64, BTreeSet<&BuyerId>)> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| buyers.contains(&fact.buyer)) {
        let (sum, spenders) = spent.entry(fact.currency).or_default();
        *sum += fact.total_minor - fact.refunded_minor;
        spenders.insert(&fact.buyer);
    }
    sold.lifetime_minor = spent
        .into_iter()
        .map(|(currency, (sum, spenders))| (currency, sum / spenders.len() as i64))
        .collect();
    sold
}

/// The time so many days before `now`.
pub fn since(now: UnixMillis, days: u64) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(days * DAY_MS))
}

/// `part` of `whole` in hundredths of a percent, rounded down; `None` of nothing.
pub fn bps(part: u64, whole: u64) -> Option<u32> {
    let bps = (u128::from(part) * 10_000).checked_div(u128::from(whole))?;
    Some(u32::try_from(bps).unwrap_or(u32::MAX))
}

/// Computes metrics. Every question names a merchant.
pub trait Insight: Send + Sync + 'static {
    /// The metrics of a live, a product or a creator at `now`; those of one that is not there are nothing.
    fn metrics<'a>(
        &'a self,
        merchant: &'a MerchantId,
        scope: &'a Scope,
        now: UnixMillis,
    ) -> Answer<'a, Metrics>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn fact(buyer: &str, live: &str, days_ago: u64, total_minor: i64) -> Fact {
        Fact {
            buyer: buyer.parse().unwrap(),
            live: live.parse().unwrap(),
            product: "lamp".parse().unwrap(),
            creator: None,
            quantity: 1,
            currency: "EUR".parse().unwrap(),
            total_minor,
            refunded_minor: 0,
            sold_at: UnixMillis(NOW.0 - days_ago * DAY_MS + 1),
        }
    }

    #[test]
    fn a_live_is_known_by_its_orders_and_its_buyers_by_all_of_theirs() {
        let mut refunded = fact("ann", "demo", 1, 1_000);
        refunded.refunded_minor = 400;
        let facts = [
            refunded,
            fact("ann", "demo", 90, 500),
            fact("bob", "demo", 91, 700),
            fact("bob", "demo", 180, 300),
            fact("bob", "other", 5, 10_000),
            fact("cid", "other", 5, 99_999),
        ];
        let sold = recompute(&facts, &Scope::Live("demo".parse().unwrap()), NOW);
        let eur = "EUR".parse().unwrap();
        assert_eq!((sold.orders, sold.units, sold.buyers), (4, 4, 2));
        assert_eq!(sold.revenue[&eur], Revenue { gross_minor: 2_500, refunded_minor: 400 });
        assert_eq!(
            sold.repeat_bps,
            [Some(10_000), Some(10_000)],
            "Bob is not among the last 90 days' buyers"
        );
        assert_eq!(sold.lifetime_minor[&eur], (1_100 + 11_000) / 2);
        assert_eq!(recompute(&facts, &Scope::Live("none".parse().unwrap()), NOW), Sold::default());
    }

    #[test]
    fn rates_of_nothing_are_none() {
        assert_eq!((bps(0, 0), bps(1, 3), bps(3, 1)), (None, Some(3_333), Some(30_000)));
    }
}
