//! Several SKUs in one sale and one hold, units that come back, and the ways a sale may be run.

#![allow(clippy::unwrap_used)]

use haul_commerce::{
    Applied, Counts, EarlyAccess, LineTerms, Mark, Op, Outcome, Refusal, SaleBook, SaleMode, SaleTerms,
    Units, book::HoldState,
};
use haul_model::{HoldId, OrderId, UnixMillis};

const START: UnixMillis = UnixMillis(1_700_000_000_000);

fn at(ms: u64) -> UnixMillis {
    UnixMillis(START.0 + ms)
}

/// Line 0: 5 units, 2 a buyer. Line 1: 3 units, 3 a buyer.
fn terms() -> SaleTerms {
    SaleTerms {
        stock: 5,
        per_buyer: 2,
        hold_ms: 10_000,
        pay_ms: 30_000,
        opens_at: START,
        closes_at: at(100_000),
        more: vec![LineTerms { stock: 3, per_buyer: 3 }],
        ..SaleTerms::default()
    }
}

struct Shop {
    book: SaleBook,
    now: UnixMillis,
}

fn names(hold: &str) -> (HoldId, OrderId) {
    (hold.parse().unwrap(), format!("order-{hold}").parse().unwrap())
}

impl Shop {
    fn open(terms: &SaleTerms) -> Self {
        let mut shop = Self { book: SaleBook::new(), now: START };
        shop.put(terms);
        shop
    }

    fn put(&mut self, terms: &SaleTerms) {
        self.book.put_terms(terms, Mark::default(), self.now).unwrap();
    }

    fn apply(&mut self, ops: &[Op]) -> Applied {
        self.book.apply(ops, Mark::default(), self.now).unwrap()
    }

    fn one(&mut self, op: Op) -> Outcome {
        self.apply(&[op]).outcomes.remove(0)
    }

    fn hold(&mut self, hold: &str, buyer: &str, units: &str) -> Outcome {
        self.hold_as(hold, buyer, units, None)
    }

    fn hold_as(&mut self, hold: &str, buyer: &str, units: &str, tier: Option<&str>) -> Outcome {
        let tier = tier.map(|tier| tier.parse().unwrap());
        let (hold, buyer) = (hold.parse().unwrap(), buyer.parse().unwrap());
        self.one(Op::Hold { hold, buyer, units: units.parse().unwrap(), tier, coupon: None, ticket: None })
    }

    fn start(&mut self, hold: &str, buyer: &str) -> Outcome {
        let (hold, order) = names(hold);
        self.one(Op::StartPayment { hold, buyer: buyer.parse().unwrap(), order, coupon: None })
    }

    fn capture(&mut self, hold: &str) -> Outcome {
        let (hold, order) = names(hold);
        self.one(Op::Capture { hold, order })
    }

    fn settle(&mut self, hold: &str) -> Outcome {
        let (hold, order) = names(hold);
        self.one(Op::Settle { hold, order })
    }

    fn sell(&mut self, hold: &str) {
        self.capture(hold);
        assert_eq!(self.settle(hold), Outcome::Sold);
    }

    fn restock(&mut self, hold: &str, returned: &str) -> Outcome {
        let (hold, order) = names(hold);
        self.one(Op::Restock { hold, order, returned: returned.parse().unwrap() })
    }

    /// Available, held and sold of each line.
    fn lines(&self) -> Vec<(u32, u32, u32)> {
        let each = |Counts { available, held, sold }| (available, held, sold);
        self.book.lines().into_iter().map(each).collect()
    }
}

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

#[test]
fn a_bundle_is_held_paid_and_sold_as_one() {
    let mut shop = Shop::open(&terms());
    assert_eq!(shop.hold("h", "ann", "0:2+1:1"), Outcome::Held { deadline: at(10_000) });
    assert_eq!(shop.lines(), [(3, 2, 0), (2, 1, 0)]);
    let applied = shop.apply(&[]);
    assert_eq!(applied.counts, Counts { available: 5, held: 3, sold: 0 });
    assert_eq!(applied.lines.len(), 2);
    shop.sell("h");
    assert_eq!(shop.lines(), [(3, 0, 2), (2, 0, 1)]);
}

#[test]
fn a_bundle_is_taken_whole_or_not_at_all() {
    let mut shop = Shop::open(&terms());
    shop.hold("h1", "ann", "1:3");
    assert_eq!(shop.hold("h2", "bob", "0:1+1:1"), refused(Refusal::NotEnough { line: 1, available: 0 }));
    assert_eq!(shop.lines(), [(5, 0, 0), (0, 3, 0)], "nothing of it was taken");
    shop.now = at(10_000);
    assert_eq!(shop.apply(&[]).released.len(), 1);
    assert_eq!(shop.lines(), [(5, 0, 0), (3, 0, 0)]);
    assert!(matches!(shop.hold("h2", "bob", "0:1+1:1"), Outcome::Held { .. }), "a refusal is not remembered");
}

#[test]
fn each_line_has_its_limit_its_stock_and_its_name() {
    let mut shop = Shop::open(&terms());
    assert_eq!(shop.hold("a", "ann", "0:1+1:4"), refused(Refusal::BuyerLimit { line: 1, per_buyer: 3 }));
    assert_eq!(shop.hold("b", "ann", "2:1"), refused(Refusal::UnknownLine));
    assert_eq!(shop.hold("c", "ann", "0:1+1:0"), refused(Refusal::BadQuantity));
    shop.hold("d", "ann", "1:3");
    shop.sell("d");
    assert_eq!(
        shop.hold("e", "bob", "0:1+1:1"),
        refused(Refusal::SoldOut),
        "of one line, and that is enough"
    );
    assert!(matches!(shop.hold("f", "bob", "2"), Outcome::Held { .. }), "the other goes on");
    assert_eq!(shop.hold("f", "bob", "0:1+1:1"), refused(Refusal::KeyReused));
}

#[test]
fn late_money_for_a_bundle_takes_all_of_it_again_or_nothing() {
    let mut shop = Shop::open(&terms());
    shop.hold("h", "ann", "0:1+1:1");
    shop.start("h", "ann");
    shop.now = at(30_000);
    shop.hold("other", "bob", "1:3");
    assert_eq!(shop.capture("h"), Outcome::Late);
    assert_eq!(shop.lines(), [(5, 0, 0), (0, 3, 0)]);
}

#[test]
fn units_return_when_they_are_on_the_shelf_again_and_only_once() {
    let mut shop = Shop::open(&terms());
    shop.hold("h", "ann", "0:2+1:2");
    assert_eq!(shop.restock("h", "1:1"), refused(Refusal::WrongState));
    shop.sell("h");
    for _ in 0..2 {
        assert_eq!(shop.restock("h", "1:1"), Outcome::Restocked);
        assert_eq!(shop.lines(), [(3, 0, 2), (2, 0, 1)]);
    }
    assert_eq!(shop.hold("h2", "ann", "1"), refused(Refusal::BuyerLimit { line: 0, per_buyer: 2 }));
    assert_eq!(shop.restock("h", "0:1"), Outcome::Restocked);
    assert_eq!(shop.restock("h", "0:1+1:1"), Outcome::Restocked, "a repeat of both");
    assert_eq!(shop.lines(), [(4, 0, 1), (2, 0, 1)]);
    assert!(
        matches!(shop.hold("h2", "ann", "1"), Outcome::Held { .. }),
        "what was given back may be bought again"
    );
    assert_eq!(shop.restock("h", "0:3"), refused(Refusal::BadQuantity));
    assert_eq!(shop.restock("h", "0:2+1:2"), Outcome::Restocked);
    assert_eq!(shop.lines(), [(4, 1, 0), (3, 0, 0)]);
    assert_eq!(shop.hold("h", "ann", "0:2+1:2"), Outcome::Sold, "it was sold all the same");
    shop.hold("gone", "bob", "1");
    let cancel = Op::Cancel { hold: "gone".parse().unwrap(), buyer: "bob".parse().unwrap() };
    shop.one(cancel);
    assert_eq!(shop.restock("gone", "1"), Outcome::Released);
    assert_eq!(shop.restock("never", "1"), refused(Refusal::UnknownHold));
}

#[test]
fn stock_is_added_and_never_taken_away() {
    let mut shop = Shop::open(&terms());
    let more = |first, second| SaleTerms {
        stock: first,
        more: vec![LineTerms { stock: second, per_buyer: 9 }],
        ..terms()
    };
    shop.put(&more(7, 3));
    assert_eq!(shop.lines(), [(7, 0, 0), (3, 0, 0)]);
    shop.put(&more(1, 4));
    assert_eq!(shop.lines(), [(7, 0, 0), (4, 0, 0)]);
    assert_eq!(shop.hold("h", "ann", "1:4"), refused(Refusal::BuyerLimit { line: 1, per_buyer: 3 }));
    let mark = shop.book.mark();
    shop.put(&more(7, 4));
    assert_eq!(shop.book.mark(), mark, "nothing is new");
}

#[test]
fn a_sale_that_is_sold_out_goes_on_when_stock_is_added() {
    let mut shop = Shop::open(&SaleTerms { stock: 1, more: Vec::new(), ..terms() });
    shop.hold("h1", "ann", "1");
    shop.sell("h1");
    assert_eq!(shop.hold("h2", "bob", "1"), refused(Refusal::SoldOut));
    shop.put(&SaleTerms { stock: 2, more: Vec::new(), ..terms() });
    assert!(matches!(shop.hold("h2", "bob", "1"), Outcome::Held { .. }));
}

#[test]
fn who_holds_something_may_pay_while_the_sale_is_paused() {
    let mut shop = Shop::open(&terms());
    shop.hold("h1", "ann", "1");
    shop.put(&SaleTerms { paused: true, ..terms() });
    assert_eq!(shop.hold("h2", "bob", "1"), refused(Refusal::Paused));
    assert!(matches!(shop.hold("h1", "ann", "1"), Outcome::Held { .. }), "a retry finds its hold");
    assert!(matches!(shop.start("h1", "ann"), Outcome::Paying { .. }));
    shop.sell("h1");
    shop.put(&terms());
    assert!(matches!(shop.hold("h2", "bob", "1"), Outcome::Held { .. }));
}

#[test]
fn a_tier_comes_earlier_by_the_gates_clock() {
    let early = vec![
        EarlyAccess { tier: "gold".parse().unwrap(), ms: 3_000 },
        EarlyAccess { tier: "silver".parse().unwrap(), ms: 1_000 },
    ];
    let mut shop = Shop::open(&SaleTerms { opens_at: at(5_000), early, ..terms() });
    for (tier, opens) in [(Some("gold"), 2_000), (Some("silver"), 4_000), (None, 5_000)] {
        let name = tier.unwrap_or("none");
        shop.now = at(opens - 1);
        assert_eq!(
            shop.hold_as("tin", "tin", "1", Some("tin")),
            refused(Refusal::NotOpen { opens_at: at(5_000) })
        );
        assert_eq!(shop.hold_as(name, name, "1", tier), refused(Refusal::NotOpen { opens_at: at(opens) }));
        shop.now = at(opens);
        assert!(matches!(shop.hold_as(name, name, "1", tier), Outcome::Held { .. }), "{name}");
    }
}

fn first_paid() -> SaleTerms {
    SaleTerms { mode: SaleMode::FirstPaid, stock: 1, more: Vec::new(), ..terms() }
}

#[test]
fn first_paid_is_first_served_and_who_pays_late_gets_the_money_back() {
    let mut shop = Shop::open(&first_paid());
    for buyer in ["ann", "bob", "cid"] {
        assert!(matches!(shop.hold(buyer, buyer, "1"), Outcome::Held { .. }));
    }
    assert_eq!(shop.lines(), [(1, 0, 0)], "nothing is set aside");
    for buyer in ["ann", "bob"] {
        assert!(matches!(shop.start(buyer, buyer), Outcome::Paying { .. }));
    }
    assert_eq!(shop.capture("bob"), Outcome::Captured { retaken: false });
    assert_eq!(shop.lines(), [(0, 1, 0)]);
    assert_eq!(shop.capture("ann"), Outcome::Late);
    assert_eq!(shop.start("cid", "cid"), refused(Refusal::NotEnough { line: 0, available: 0 }));
    assert_eq!(shop.settle("bob"), Outcome::Sold);
    assert_eq!(shop.start("cid", "cid"), refused(Refusal::SoldOut), "nobody is sent to pay in vain");
    assert_eq!(shop.lines(), [(0, 0, 1)]);
    let late: &HoldId = &"ann".parse().unwrap();
    assert_eq!(shop.book.hold(late).unwrap().state, HoldState::Late);
}

#[test]
fn what_nobody_set_aside_still_counts_for_its_buyer_and_ends_in_time() {
    let mut shop = Shop::open(&SaleTerms { stock: 9, per_buyer: 2, ..first_paid() });
    shop.hold("h1", "ann", "1");
    shop.hold("h2", "ann", "1");
    assert_eq!(shop.hold("h3", "ann", "1"), refused(Refusal::BuyerLimit { line: 0, per_buyer: 2 }));
    shop.now = at(10_000);
    assert_eq!(shop.apply(&[]).released.len(), 2);
    assert_eq!(shop.lines(), [(9, 0, 0)]);
    assert_eq!(shop.capture("h1"), Outcome::Captured { retaken: true }, "late money, and there is enough");
    assert_eq!(shop.lines(), [(8, 1, 0)]);
}

#[test]
fn units_of_a_line_that_is_none_are_no_hold_that_can_be_restored() {
    let mut shop = Shop::open(&terms());
    shop.hold("h", "ann", "1:3");
    let mut change = shop.book.change().unwrap().into_owned();
    change.holds[0].units = Units::of_line(1, 4);
    assert!(shop.book.clone().restore(change.clone()).is_err(), "more than there are");
    change.holds[0].units = Units::of_line(7, 1);
    assert!(shop.book.restore(change).is_err(), "of no line");
}
