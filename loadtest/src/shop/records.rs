//! What buyers and the host have been told of a sale, and what that says of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    audit::{self, Order, Purchase},
    measure::Measures,
    plan::Number,
    report::Audit,
};

/// Longer than any run.
pub(super) const FOR_EVER: Duration = Duration::from_secs(30 * 86_400);

/// All of it, of one sale.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) purchases: Vec<Purchase>,
    /// Until when each of them surely stands, by what its buyer knows: what ends later may have ended, and be sold to
    /// somebody else, before the buyer is told.
    stands_until: Vec<Instant>,
    /// What the host was told of orders, by their id.
    pub(super) orders: BTreeMap<String, Order>,
    /// When each unit was acknowledged as held, in that order, as long as none was given back; and as sold.
    pub(super) held_at: Vec<Instant>,
    pub(super) sold_at: Vec<Instant>,
    /// Units given back, or about to be: from then on, the number held says nothing about which acknowledgements are
    /// contained in an event.
    pub(super) given_back: bool,
    /// The most units that surely stood at the same time.
    most_standing: u32,
    offered: u64,
    /// By group of buyers: when its first hold was asked for, and its last.
    offers: BTreeMap<usize, (Instant, Instant)>,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    /// Buyers who don't know what became of a hold they asked for.
    pub(super) unsure: BTreeSet<Number>,
    /// Answers "not now".
    pub(super) not_now: u64,
    /// Repetitions with the same key that were answered otherwise, in words.
    pub(super) doubles: Vec<String>,
    /// Holds that buyers walked away from; of these, that were told to have run out, and that were not in time.
    pub(super) abandoned: u64,
    pub(super) returned: u64,
    pub(super) not_returned: u64,
    /// Holds that were granted once an abandoned one had run out.
    held_after_return: u64,
    /// When each order was being paid.
    pub(super) paying: HashMap<String, Instant>,
    /// Which product the host has pinned, and when the request was sent.
    pub(super) pinned: Option<(String, Instant)>,
    /// Orders and units in the live before the run.
    pub(super) before: Option<(u32, u32)>,
}

impl Records {
    /// A hold is asked for, for the first time.
    pub(super) fn offer(&mut self, group: usize, now: Instant) {
        self.offered += 1;
        self.offers.entry(group).or_insert((now, now)).1 = now;
    }

    /// A hold was granted that stands until then at least. Returns where it is kept.
    pub(super) fn granted(
        &mut self,
        buyer: Number,
        hold: &str,
        units: u32,
        until: Instant,
        now: Instant,
    ) -> usize {
        self.held_at.extend((0..units).map(|_| now));
        self.held_after_return += u64::from(self.returned > 0);
        self.purchases.push(Purchase { buyer, hold: hold.to_owned(), units, ..Purchase::default() });
        self.stands_until.push(until);
        self.count_standing(now);
        self.purchases.len() - 1
    }

    fn count_standing(&mut self, now: Instant) {
        let all = self.purchases.iter().zip(&self.stands_until);
        let standing = all.filter(|(_, until)| **until > now).map(|(purchase, _)| purchase.units).sum();
        self.most_standing = self.most_standing.max(standing);
    }

    /// A hold stands longer, or not any more.
    pub(super) fn stands_until(&mut self, purchase: usize, until: Instant) {
        self.stands_until[purchase] = until;
    }

    /// A hold has run out. Its buyer was told so.
    pub(super) fn ran_out(&mut self, hold: &str, now: Instant) {
        self.given_back = true;
        if let Some(at) = self.purchases.iter().position(|purchase| purchase.hold == hold) {
            self.purchases[at].ran_out = true;
            self.stands_until[at] = now;
        }
    }

    /// A buyer was told that an order is sold, however late.
    pub(super) fn confirmed(&mut self, order: &str, now: Instant) {
        let known = self.purchases.iter().position(|purchase| purchase.order.as_deref() == Some(order));
        if let Some(at) = known.filter(|at| !self.purchases[*at].confirmed) {
            self.purchases[at].confirmed = true;
            self.stands_until[at] = now + FOR_EVER;
            let units = self.purchases[at].units;
            self.sold_at.extend((0..units).map(|_| now));
        }
    }

    /// The measures of the sale, added to those of other lives' sales. `errors` are requests that failed.
    pub(super) fn add_measures(&self, measures: &mut Measures, audit: &Audit, errors: u64) {
        let mut add = |name: &str, value: f64| *measures.entry(name.to_owned()).or_default() += value;
        let count = |filter: &dyn Fn(&Purchase) -> bool| {
            self.purchases.iter().filter(|purchase| filter(purchase)).count() as f64
        };
        add("sale.offered", self.offered as f64);
        add("sale.held", self.purchases.len() as f64);
        add("sale.refused", self.refused as f64);
        add("sale.errors", errors as f64);
        add("sale.unanswered", self.unanswered as f64);
        add("sale.not_now", self.not_now as f64);
        add("sale.double_holds", self.doubles.len() as f64);
        add("sale.released", count(&|purchase| purchase.released));
        add("sale.abandoned", self.abandoned as f64);
        add("sale.returned", self.returned as f64);
        add("sale.not_returned", self.not_returned as f64);
        add("sale.held_after_return", self.held_after_return as f64);
        add("sale.confirmed", f64::from(audit.confirmed_orders));
        add("sale.unconfirmed", count(&|purchase| purchase.paid && !purchase.confirmed));
        add("sale.oversold", f64::from(audit::oversold(audit, self.most_standing)));
        add("sale.mismatches", audit.differences.len() as f64);
        if let Some(orders) = audit.webhook_orders {
            add("sale.webhooks", f64::from(orders));
        }
        let longest = self.offers.values().map(|(first, last)| *last - *first).max();
        if let Some(longest) = longest {
            let within = measures.entry("sale.offered_within_s".to_owned()).or_default();
            *within = within.max(longest.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measures(records: &Records, stock: u32) -> Measures {
        let mut measures = Measures::new();
        records.add_measures(&mut measures, &Audit { stock, ..Audit::default() }, 0);
        measures
    }

    const HOLD: Duration = Duration::from_secs(10);

    #[test]
    fn more_units_at_once_than_there_are_are_oversold() {
        let (mut records, now) = (Records::default(), Instant::now());
        records.granted(1, "h1", 1, now + HOLD, now);
        let second = records.granted(2, "h2", 1, now + HOLD, now);
        // Both may have run out by now, and a unit be another's.
        let later = now + HOLD;
        records.granted(3, "h3", 2, later + HOLD, later);
        assert_eq!(measures(&records, 2)["sale.oversold"], 0.0);
        // It turns out that the second is being paid, and stands.
        records.stands_until(second, later + HOLD);
        records.granted(4, "h4", 1, later + HOLD, later);
        assert_eq!(measures(&records, 3)["sale.oversold"], 1.0, "four stand at once");
    }

    #[test]
    fn what_was_paid_stands_for_good_and_what_ran_out_does_not() {
        let (mut records, now) = (Records::default(), Instant::now());
        let first = records.granted(1, "h1", 1, now + HOLD, now);
        records.purchases[first].order = Some("o1".to_owned());
        records.confirmed("o1", now);
        records.granted(2, "h2", 1, now + HOLD, now);
        records.ran_out("h2", now);
        records.returned += 1;
        records.granted(3, "h3", 1, now + 2 * HOLD, now);
        assert_eq!(measures(&records, 2)["sale.oversold"], 0.0);
        assert_eq!(measures(&records, 1)["sale.oversold"], 1.0);
        assert_eq!(measures(&records, 2)["sale.held_after_return"], 1.0);
        assert!(records.purchases[1].ran_out && records.given_back && records.sold_at.len() == 1);
    }

    #[test]
    fn offers_take_as_long_as_those_of_the_slowest_group() {
        let (mut records, now) = (Records::default(), Instant::now());
        for (group, at) in [(0, 0), (0, 4), (1, 60), (1, 62)] {
            records.offer(group, now + Duration::from_secs(at));
        }
        assert_eq!(measures(&records, 1)["sale.offered_within_s"], 4.0);
    }
}
