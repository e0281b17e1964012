//! A sale that is drawn: entries, the draw, and what comes after it.

#![allow(clippy::unwrap_used)]

use haul_commerce::{
    Applied, Draw, LineTerms, Mark, Op, Outcome, Refusal, SaleBook, SaleTerms, book::HoldState,
};
use haul_model::{BuyerId, HoldId, UnixMillis};

const START: UnixMillis = UnixMillis(1_700_000_000_000);
const GATHER_MS: u64 = 5_000;

fn at(ms: u64) -> UnixMillis {
    UnixMillis(START.0 + ms)
}

fn terms(stock: u32) -> SaleTerms {
    SaleTerms {
        stock,
        per_buyer: 2,
        hold_ms: 10_000,
        pay_ms: 30_000,
        opens_at: START,
        closes_at: at(100_000),
        draw: Some(Draw::new(GATHER_MS, [1, 2])),
        ..SaleTerms::default()
    }
}

struct Shop {
    book: SaleBook,
    draw: Draw,
    now: UnixMillis,
}

fn id(name: &str) -> (HoldId, BuyerId) {
    (name.parse().unwrap(), name.split('-').next().unwrap().parse().unwrap())
}

impl Shop {
    fn open(terms: &SaleTerms) -> Self {
        let mut book = SaleBook::new();
        book.put_terms(terms, Mark::default(), START).unwrap();
        Self { book, draw: terms.draw.clone().unwrap(), now: START }
    }

    fn apply(&mut self, ops: &[Op]) -> Applied {
        self.book.apply(ops, Mark::default(), self.now).unwrap()
    }

    /// What is before the dash is the buyer.
    fn hold(&mut self, name: &str, units: &str) -> Outcome {
        let (hold, buyer) = id(name);
        let ticket = Some(self.draw.ticket(&hold));
        let units = units.parse().unwrap();
        self.apply(&[Op::Hold { hold, buyer, units, tier: None, coupon: None, ticket }]).outcomes.remove(0)
    }

    /// Everybody who wins by the rule as it is told to the public.
    fn expected(&self, entries: &[(String, u32)], stock: u32) -> Vec<String> {
        let mut entries: Vec<_> = entries
            .iter()
            .map(|(name, units)| (self.draw.ticket(&id(name).0), name.clone(), *units))
            .collect();
        entries.sort();
        let mut left = stock;
        let mut winners = Vec::new();
        for (_, name, units) in entries {
            if units <= left {
                left -= units;
                winners.push(name);
            }
        }
        winners
    }
}

#[test]
fn winners_are_those_whose_tickets_are_the_smallest_whoever_came_first() {
    let mut shop = Shop::open(&terms(5));
    let entries: Vec<(String, u32)> = (0..40_u32).map(|n| (format!("b{n}-1"), 1 + n % 2)).collect();
    for (name, units) in &entries {
        assert_eq!(shop.hold(name, &units.to_string()), Outcome::Entered);
        assert_eq!(shop.hold(name, &units.to_string()), Outcome::Entered, "a retry is the same entry");
    }
    let before = shop.apply(&[]);
    assert_eq!((before.counts.available, before.next_deadline), (5, Some(at(GATHER_MS))));
    shop.now = at(GATHER_MS - 1);
    assert_eq!(shop.apply(&[]).offered, []);
    shop.now = at(GATHER_MS);
    let drawn = shop.apply(&[]);
    let won: Vec<String> = drawn.offered.iter().map(|offered| offered.hold.to_string()).collect();
    assert_eq!(won, shop.expected(&entries, 5));
    assert!(drawn.offered.iter().all(|offered| offered.deadline == at(GATHER_MS + 10_000)));
    assert_eq!(drawn.released.len(), entries.len() - won.len(), "everybody else is told");
    assert_eq!((drawn.counts.available, drawn.counts.held), (0, 5));
    let lost = drawn.released[0].hold.to_string();
    assert_eq!(shop.hold(&lost, &drawn.released[0].units.to_string()), Outcome::Released);
}

#[test]
fn what_a_winner_leaves_goes_to_whoever_comes_first() {
    let mut shop = Shop::open(&terms(1));
    shop.hold("ann-1", "1");
    shop.now = at(GATHER_MS);
    assert_eq!(shop.apply(&[]).offered.len(), 1);
    assert_eq!(shop.hold("bob-1", "1"), Outcome::Refused(Refusal::NotEnough { line: 0, available: 0 }));
    shop.now = at(GATHER_MS + 10_000);
    assert_eq!(shop.hold("bob-2", "1"), Outcome::Held { deadline: at(GATHER_MS + 20_000) });
    assert_eq!(shop.hold("ann-1", "1"), Outcome::Released);
}

#[test]
fn one_buyer_has_one_entry_of_one_line() {
    let mut shop = Shop::open(&SaleTerms { more: vec![LineTerms { stock: 1, per_buyer: 1 }], ..terms(1) });
    assert_eq!(shop.hold("ann-1", "1"), Outcome::Entered);
    assert_eq!(shop.hold("ann-2", "1"), Outcome::Refused(Refusal::OneEntry));
    assert_eq!(shop.hold("ann-3", "1:1"), Outcome::Refused(Refusal::OneEntry));
    assert_eq!(shop.hold("bob-1", "0:1+1:1"), Outcome::Refused(Refusal::BadQuantity));
    assert_eq!(shop.hold("bob-2", "3"), Outcome::Refused(Refusal::BuyerLimit { line: 0, per_buyer: 2 }));
    let (hold, buyer) = id("ann-1");
    assert_eq!(shop.apply(&[Op::Cancel { hold, buyer }]).outcomes, [Outcome::Released]);
    assert_eq!(shop.hold("ann-3", "1:1"), Outcome::Entered, "an entry that was given up counts no more");
}

#[test]
fn nobody_enters_too_early_or_without_a_ticket() {
    let mut shop = Shop::open(&SaleTerms { opens_at: at(1_000), ..terms(1) });
    assert_eq!(shop.hold("ann-1", "1"), Outcome::Refused(Refusal::NotOpen { opens_at: at(1_000) }));
    shop.now = at(1_000);
    let (hold, buyer) = id("ann-1");
    let without = Op::Hold { hold, buyer, units: 1.into(), tier: None, coupon: None, ticket: None };
    let draws_at = at(1_000 + GATHER_MS);
    assert_eq!(shop.apply(&[without]).outcomes, [Outcome::Refused(Refusal::NotOpen { opens_at: draws_at })]);
}

#[test]
fn a_book_that_is_opened_again_or_rebuilt_draws_the_same() {
    let mut shop = Shop::open(&terms(3));
    let entries: Vec<(String, u32)> = (0..20).map(|n| (format!("b{n}-1"), 1)).collect();
    for (name, _) in &entries {
        shop.hold(name, "1");
    }
    let mut again = SaleBook::new();
    shop.book.snapshot().for_each(|change| again.restore(change.into_owned()).unwrap());
    shop.book = again;
    shop.now = at(GATHER_MS);
    let won: Vec<String> = shop.apply(&[]).offered.iter().map(|offered| offered.hold.to_string()).collect();
    assert_eq!(won, shop.expected(&entries, 3));
    assert_eq!(shop.apply(&[]).offered, [], "once");
    assert!(entries.iter().all(|(name, _)| shop.book.hold(&id(name).0).unwrap().is_entry()));
}

#[test]
fn a_sale_that_closes_before_it_is_drawn_lets_everybody_go() {
    let mut shop = Shop::open(&terms(3));
    shop.hold("ann-1", "1");
    shop.now = at(2_000);
    let closed = SaleTerms { closes_at: shop.now, ..terms(3) };
    shop.book.put_terms(&closed, Mark::default(), shop.now).unwrap();
    let applied = shop.apply(&[]);
    assert_eq!((applied.released.len(), applied.offered.len()), (1, 0));
    assert_eq!(shop.book.hold(&id("ann-1").0).unwrap().state, HoldState::Released);
}

#[test]
fn a_paused_sale_is_drawn_when_it_goes_on_and_thousands_are_told_in_bounded_calls() {
    let mut shop = Shop::open(&terms(3));
    for n in 0..3_000 {
        assert_eq!(shop.hold(&format!("b{n}-1"), "1"), Outcome::Entered);
    }
    let paused = SaleTerms { paused: true, ..terms(3) };
    shop.book.put_terms(&paused, Mark::default(), shop.now).unwrap();
    shop.now = at(GATHER_MS);
    assert_eq!(shop.apply(&[]).offered, []);
    shop.book.put_terms(&terms(3), Mark::default(), shop.now).unwrap();
    let (mut offered, mut released, mut calls) = (0, 0, 0);
    loop {
        let (hold, buyer) = id(&format!("late{calls}-1"));
        let late = Op::hold(hold, buyer, 1);
        let applied = shop.apply(&[late]);
        assert_eq!(
            applied.outcomes,
            [Outcome::Refused(Refusal::NotEnough { line: 0, available: 0 })],
            "nobody comes between"
        );
        (offered, released, calls) =
            (offered + applied.offered.len(), released + applied.released.len(), calls + 1);
        if applied.next_deadline != Some(shop.now) {
            break;
        }
    }
    assert_eq!((offered, released), (3, 2_997));
    assert!(calls <= 4, "{calls}");
}
