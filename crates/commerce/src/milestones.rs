//! What buyers have come to: milestones that are told once, and the badges beside their names.

use haul_model::Money;
use serde::{Deserialize, Serialize};

/// Milestones of one kind that a configuration may have.
pub const MAX_MILESTONES: usize = 20;

/// Which milestones there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Milestones {
    /// The how manieth paid order.
    pub orders: Vec<u32>,
    /// Money spent with the merchant, in each currency by itself.
    pub spent: Vec<Money>,
}

/// One that a buyer has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// So many paid orders.
    Orders(u32),
    /// So much spent.
    Spent(Money),
}

impl Milestone {
    /// Its name: what makes it once a buyer. `orders:5`, `spent:EUR:10000`.
    pub fn name(&self) -> String {
        match self {
            Milestone::Orders(orders) => format!("orders:{orders}"),
            Milestone::Spent(money) => format!("spent:{}:{}", money.currency, money.amount_minor),
        }
    }
}

/// What a buyer had paid before an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Paid orders.
    pub orders: u32,
    /// What they came to in the order's currency, in minor units.
    pub spent_minor: i64,
}

impl Milestones {
    /// Those that the buyer comes to by an order of `total`. Money that goes back later takes none away: it was told.
    pub fn passed(&self, before: History, total: Money) -> Vec<Milestone> {
        let orders = before.orders.saturating_add(1);
        let spent = before.spent_minor.saturating_add(total.amount_minor);
        let by_orders =
            self.orders.iter().filter(|count| **count == orders).map(|count| Milestone::Orders(*count));
        let by_money = self
            .spent
            .iter()
            .filter(|sum| sum.currency == total.currency)
            .filter(|sum| before.spent_minor < sum.amount_minor && sum.amount_minor <= spent)
            .map(|sum| Milestone::Spent(*sum));
        by_orders.chain(by_money).collect()
    }
}

/// What is shown beside a buyer's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Badge {
    /// Has paid for something here.
    VerifiedBuyer,
    /// Has done so more than once.
    RepeatBuyer,
}

/// The badge of somebody with so many paid orders that they kept something of; none before the first.
pub fn badge(paid_orders: u32) -> Option<Badge> {
    match paid_orders {
        0 => None,
        1 => Some(Badge::VerifiedBuyer),
        _ => Some(Badge::RepeatBuyer),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn eur(amount_minor: i64) -> Money {
        Money { amount_minor, currency: "EUR".parse().unwrap() }
    }

    #[test]
    fn each_is_passed_once_however_a_buyer_comes_to_it() {
        let milestones = Milestones { orders: vec![1, 5], spent: vec![eur(10_000), eur(25_000)] };
        let mut rng = StdRng::seed_from_u64(6);
        for _ in 0..500 {
            let (mut before, mut told) = (History::default(), Vec::new());
            for _ in 0..rng.random_range(1..12) {
                let total = rng.random_range(1..12_000);
                told.extend(milestones.passed(before, eur(total)).iter().map(Milestone::name));
                before = History { orders: before.orders + 1, spent_minor: before.spent_minor + total };
            }
            assert_eq!(told.iter().collect::<HashSet<_>>().len(), told.len(), "{told:?}");
            let mut expected = vec!["orders:1"];
            expected.extend((before.orders >= 5).then_some("orders:5"));
            expected.extend((before.spent_minor >= 10_000).then_some("spent:EUR:10000"));
            expected.extend((before.spent_minor >= 25_000).then_some("spent:EUR:25000"));
            assert_eq!(
                told.iter().map(String::as_str).collect::<HashSet<_>>(),
                expected.into_iter().collect()
            );
        }
    }

    #[test]
    fn sums_are_of_one_currency() {
        let milestones = Milestones { orders: Vec::new(), spent: vec![eur(100)] };
        let yen = Money { amount_minor: 5_000, currency: "JPY".parse().unwrap() };
        assert_eq!(milestones.passed(History::default(), yen), []);
    }

    #[test]
    fn badges_begin_with_the_first_paid_order() {
        assert_eq!(
            [0, 1, 2, 9].map(badge),
            [None, Some(Badge::VerifiedBuyer), Some(Badge::RepeatBuyer), Some(Badge::RepeatBuyer)]
        );
    }
}
