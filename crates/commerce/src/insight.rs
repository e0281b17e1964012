//! Metrics of a live, a product or a creator: what is counted, and how the same is found again from orders alone.
//!
//! A store computes them where the rows are; [`recompute`] is the definition that it must agree with.

use std::collections::{BTreeMap, BTreeSet};

use haul_model::{BuyerId, CreatorId, Currency, LiveId, MerchantId, ProductId, UnixMillis};

use crate::{ledger::Answer, parts::divide};

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// The windows of the repeat-purchase rate, in days.
pub const REPEAT_DAYS: [u64; 2] = [90, 180];

/// What metrics are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Orders made in a live.
    Live(LiveId),
    /// What orders have of a product: its lines of them.
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
    /// What, line by line.
    pub lines: Vec<FactLine>,
    /// Who brought them.
    pub creator: Option<CreatorId>,
    /// The order's currency.
    pub currency: Currency,
    /// Its total.
    pub total_minor: i64,
    /// What went back of it.
    pub refunded_minor: i64,
    /// When it was sold.
    pub sold_at: UnixMillis,
}

/// A line of an order that was sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactLine {
    /// What.
    pub product: ProductId,
    /// Units.
    pub quantity: u32,
    /// Their price.
    pub total_minor: i64,
    /// What has gone back of it.
    pub refunded_minor: i64,
}

impl Scope {
    fn has(&self, fact: &Fact) -> bool {
        match self {
            Scope::Live(live) => fact.live == *live,
            Scope::Product(product) => fact.lines.iter().any(|line| line.product == *product),
            Scope::Creator(creator) => fact.creator.as_ref() == Some(creator),
        }
    }

    /// The units and the money of an order that are of this.
    fn part(&self, fact: &Fact) -> (u64, Revenue) {
        let is_of = |line: &&FactLine| !matches!(self, Scope::Product(product) if line.product != *product);
        let units = fact.lines.iter().filter(is_of).map(|line| u64::from(line.quantity)).sum();
        let paid = Revenue { gross_minor: fact.total_minor, refunded_minor: fact.refunded_minor };
        let revenue = match self {
            Scope::Product(product) => {
                let line = |line: &FactLine| PaidLine {
                    asked: line.product == *product,
                    price_minor: line.total_minor,
                    refunded_minor: line.refunded_minor,
                };
                part_of(paid, &fact.lines.iter().map(line).collect::<Vec<_>>())
            }
            Scope::Live(_) | Scope::Creator(_) => paid,
        };
        (units, revenue)
    }
}

/// What of an order's money is of some of its lines, and what of that has gone back.
pub fn part_of(paid: Revenue, lines: &[PaidLine]) -> Revenue {
    let prices: Vec<i64> = lines.iter().map(|line| line.price_minor).collect();
    let mut part = Revenue::default();
    for (line, share) in lines.iter().zip(divide(paid.gross_minor, &prices)) {
        if line.asked {
            part.gross_minor += share;
            // A bank takes all of it, whatever was sent back before.
            part.refunded_minor +=
                if paid.refunded_minor >= paid.gross_minor { share } else { line.refunded_minor };
        }
    }
    part
}

/// A line of a paid order, as far as [`part_of`] goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaidLine {
    /// Whether it is asked about.
    pub asked: bool,
    /// Its price.
    pub price_minor: i64,
    /// What has gone back of it.
    pub refunded_minor: i64,
}

/// What all of a merchant's sold orders tell about one live, product or creator at `now`.
pub fn recompute(facts: &[Fact], scope: &Scope, now: UnixMillis) -> Sold {
    let here: Vec<&Fact> = facts.iter().filter(|fact| scope.has(fact)).collect();
    let buyers: BTreeSet<&BuyerId> = here.iter().map(|fact| &fact.buyer).collect();
    let mut sold = Sold { orders: here.len() as u64, buyers: buyers.len() as u64, ..Sold::default() };
    for fact in &here {
        let (units, part) = scope.part(fact);
        sold.units += units;
        let revenue = sold.revenue.entry(fact.currency).or_default();
        revenue.gross_minor += part.gross_minor;
        revenue.refunded_minor += part.refunded_minor;
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

    fn line(product: &str, quantity: u32, total_minor: i64) -> FactLine {
        FactLine { product: product.parse().unwrap(), quantity, total_minor, refunded_minor: 0 }
    }

    fn fact(buyer: &str, live: &str, days_ago: u64, total_minor: i64) -> Fact {
        Fact {
            buyer: buyer.parse().unwrap(),
            live: live.parse().unwrap(),
            lines: vec![line("lamp", 1, total_minor)],
            creator: None,
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
    fn each_product_of_an_order_has_its_own_lines_and_its_part_of_what_went_back() {
        let mut both = fact("ann", "demo", 1, 1_000);
        both.lines = vec![line("lamp", 1, 333), line("mug", 2, 333), line("bag", 1, 334)];
        both.refunded_minor = 100;
        (both.lines[0].refunded_minor, both.lines[2].refunded_minor) = (90, 10);
        let facts = [both, fact("bob", "demo", 1, 700)];
        let eur = "EUR".parse().unwrap();
        let of = |product: &str| {
            let sold = recompute(&facts, &Scope::Product(product.parse().unwrap()), NOW);
            (sold.orders, sold.units, sold.revenue[&eur].gross_minor, sold.revenue[&eur].refunded_minor)
        };
        let parts = [of("lamp"), of("mug"), of("bag")];
        assert_eq!(parts, [(2, 2, 1_033, 90), (1, 2, 333, 0), (1, 1, 334, 10)]);
        assert_eq!(parts.iter().map(|part| part.3).sum::<i64>(), 100, "they sum to it");
        // With a coupon of 1, each product has its part of what was paid.
        let [mut reduced, _] = facts.clone();
        (reduced.total_minor, reduced.refunded_minor) = (999, 0);
        let paid = ["lamp", "mug", "bag"].map(|product| {
            recompute(std::slice::from_ref(&reduced), &Scope::Product(product.parse().unwrap()), NOW).revenue
                [&eur]
                .gross_minor
        });
        assert_eq!((paid, paid.iter().sum::<i64>()), ([332, 333, 334], 999));
        // What a bank took is all of each.
        let [mut lost, _] = facts;
        lost.refunded_minor = 1_000;
        let mug = recompute(&[lost], &Scope::Product("mug".parse().unwrap()), NOW).revenue[&eur];
        assert_eq!(mug, Revenue { gross_minor: 333, refunded_minor: 333 });
    }

    #[test]
    fn rates_of_nothing_are_none() {
        assert_eq!((bps(0, 0), bps(1, 3), bps(3, 1)), (None, Some(3_333), Some(30_000)));
    }
}
