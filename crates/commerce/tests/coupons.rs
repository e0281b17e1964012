//! Uses of coupons: set aside with the hold, given back with it, spent with it.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use haul_commerce::{
    CouponTerms, Mark, Op, Outcome, Refusal, SaleBook, SaleTerms,
    coupon::{Desk, Uses},
};
use haul_model::{BuyerId, CouponCode, HoldId, UnixMillis};

const START: UnixMillis = UnixMillis(1_700_000_000_000);

fn at(ms: u64) -> UnixMillis {
    UnixMillis(START.0 + ms)
}

/// The live's coupons, and what other sales use of them.
#[derive(Default)]
struct Elsewhere {
    terms: HashMap<CouponCode, CouponTerms>,
    uses: Uses,
}

impl Desk for Elsewhere {
    fn terms(&self, code: &CouponCode) -> Option<&CouponTerms> {
        self.terms.get(code)
    }

    fn elsewhere(&self, _: &CouponCode, _: &BuyerId) -> Uses {
        self.uses
    }
}

struct Shop {
    book: SaleBook,
    desk: Elsewhere,
    now: UnixMillis,
}

fn id(name: &str) -> (HoldId, BuyerId) {
    (name.parse().unwrap(), name.split('-').next().unwrap().parse().unwrap())
}

impl Shop {
    /// Ten units, and a coupon `TEN` for two uses, one a buyer.
    fn open() -> Self {
        let terms = SaleTerms {
            stock: 10,
            per_buyer: 4,
            hold_ms: 10_000,
            pay_ms: 30_000,
            opens_at: START,
            closes_at: at(1_000_000),
            ..SaleTerms::default()
        };
        let mut book = SaleBook::new();
        book.put_terms(&terms, Mark::default(), START).unwrap();
        let coupon =
            CouponTerms { limit: 2, per_buyer: 1, valid_from: START, valid_until: at(60_000), closed: false };
        let terms = HashMap::from([("TEN".parse().unwrap(), coupon)]);
        Self { book, desk: Elsewhere { terms, uses: Uses::default() }, now: START }
    }

    fn one(&mut self, op: Op) -> Outcome {
        self.book.apply_with(&[op], &self.desk, Mark::default(), self.now).unwrap().outcomes.remove(0)
    }

    fn hold(&mut self, name: &str, coupon: Option<&str>) -> Outcome {
        let (hold, buyer) = id(name);
        let coupon = coupon.map(|code| code.parse().unwrap());
        self.one(Op::Hold { hold, buyer, units: 1.into(), tier: None, coupon, ticket: None })
    }

    fn pay(&mut self, name: &str, coupon: Option<&str>) -> Outcome {
        let (hold, buyer) = id(name);
        let (order, coupon) =
            (format!("o-{name}").parse().unwrap(), coupon.map(|code| code.parse().unwrap()));
        self.one(Op::StartPayment { hold, buyer, order, coupon })
    }

    fn capture(&mut self, name: &str) -> Outcome {
        self.one(Op::Capture { hold: id(name).0, order: format!("o-{name}").parse().unwrap() })
    }

    fn uses(&self) -> u64 {
        self.book.coupon_uses(&"TEN".parse().unwrap(), &"nobody".parse().unwrap()).all
    }
}

#[test]
fn a_use_is_set_aside_with_the_units_or_neither_is() {
    let mut shop = Shop::open();
    assert!(matches!(shop.hold("ann-1", Some("TEN")), Outcome::Held { .. }));
    assert!(matches!(shop.hold("ann-1", Some("TEN")), Outcome::Held { .. }), "a retry uses it once");
    assert_eq!(shop.hold("ann-2", Some("TEN")), Outcome::Refused(Refusal::CouponLimit { per_buyer: 1 }));
    assert!(matches!(shop.hold("bob-1", Some("TEN")), Outcome::Held { .. }));
    assert_eq!(shop.hold("cid-1", Some("TEN")), Outcome::Refused(Refusal::CouponUsedUp));
    assert_eq!(shop.hold("cid-1", Some("ELEVEN")), Outcome::Refused(Refusal::UnknownCoupon));
    assert_eq!((shop.uses(), shop.book.counts().held), (2, 2));
    assert!(matches!(shop.hold("cid-1", None), Outcome::Held { .. }), "what was refused left nothing");
    assert_eq!(shop.hold("cid-1", Some("TEN")), Outcome::Refused(Refusal::KeyReused));
    assert_eq!(shop.hold("ann-1", None), Outcome::Refused(Refusal::KeyReused), "that was with a coupon");
    // Once it is being paid, the coupon may be the checkout's.
    assert!(matches!(shop.pay("ann-1", Some("TEN")), Outcome::Paying { .. }));
    assert!(matches!(shop.hold("ann-1", None), Outcome::Paying { .. }));
}

#[test]
fn a_use_goes_back_with_its_hold_and_is_spent_with_it() {
    let mut shop = Shop::open();
    shop.hold("ann-1", Some("TEN"));
    shop.hold("bob-1", Some("TEN"));
    let (hold, buyer) = id("ann-1");
    shop.one(Op::Cancel { hold, buyer });
    assert_eq!(shop.uses(), 1);
    assert!(matches!(shop.hold("ann-2", Some("TEN")), Outcome::Held { .. }));
    shop.pay("ann-2", None);
    shop.capture("ann-2");
    let (hold, order) = (id("ann-2").0, "o-ann-2".parse().unwrap());
    assert_eq!(shop.one(Op::Settle { hold: hold.clone(), order }), Outcome::Sold);
    let order = "o-ann-2".parse().unwrap();
    assert_eq!(shop.one(Op::Restock { hold, order, returned: 1.into() }), Outcome::Restocked);
    shop.now = at(10_000);
    shop.book.apply_with(&[], &shop.desk, Mark::default(), shop.now).unwrap();
    assert_eq!(shop.uses(), 1, "one expired, and one is spent, though its unit came back");
}

#[test]
fn a_coupon_may_come_with_the_first_checkout() {
    let mut shop = Shop::open();
    shop.hold("ann-1", None);
    assert!(matches!(shop.pay("ann-1", Some("TEN")), Outcome::Paying { .. }));
    assert!(matches!(shop.pay("ann-1", Some("TEN")), Outcome::Paying { .. }), "a retry");
    assert!(matches!(shop.pay("ann-1", None), Outcome::Paying { .. }), "with or without it");
    assert!(matches!(shop.hold("ann-1", None), Outcome::Paying { .. }), "it is the same hold");
    assert_eq!(shop.pay("ann-1", Some("OTHER")), Outcome::Refused(Refusal::OtherCoupon));
    shop.hold("bob-1", None);
    shop.pay("bob-1", None);
    assert_eq!(
        shop.pay("bob-1", Some("TEN")),
        Outcome::Refused(Refusal::OtherCoupon),
        "its price is written"
    );
    assert_eq!(shop.uses(), 1);
}

#[test]
fn what_other_sales_of_the_live_use_counts() {
    let mut shop = Shop::open();
    shop.desk.uses = Uses { all: 1, by_buyer: 0 };
    assert!(matches!(shop.hold("ann-1", Some("TEN")), Outcome::Held { .. }));
    assert_eq!(shop.hold("bob-1", Some("TEN")), Outcome::Refused(Refusal::CouponUsedUp));
    shop.desk.uses = Uses { all: 0, by_buyer: 1 };
    assert_eq!(shop.hold("bob-1", Some("TEN")), Outcome::Refused(Refusal::CouponLimit { per_buyer: 1 }));
}

#[test]
fn a_coupon_is_valid_by_the_gates_clock_and_until_it_is_closed() {
    let mut shop = Shop::open();
    shop.now = at(59_999);
    assert!(matches!(shop.hold("ann-1", Some("TEN")), Outcome::Held { .. }));
    shop.now = at(60_000);
    assert_eq!(shop.hold("bob-1", Some("TEN")), Outcome::Refused(Refusal::CouponOver));
    assert!(matches!(shop.pay("ann-1", None), Outcome::Paying { .. }), "what is set aside is good");
    let mut early = Shop::open();
    early.desk.terms.values_mut().for_each(|terms| terms.valid_from = at(1));
    assert_eq!(
        early.hold("ann-1", Some("TEN")),
        Outcome::Refused(Refusal::CouponNotYet { valid_from: at(1) })
    );
    early.desk.terms.values_mut().for_each(|terms| (terms.valid_from, terms.closed) = (START, true));
    assert_eq!(early.hold("ann-1", Some("TEN")), Outcome::Refused(Refusal::CouponOver));
}

#[test]
fn late_money_takes_a_use_again_if_there_is_one() {
    let mut shop = Shop::open();
    for name in ["ann-1", "bob-1"] {
        shop.hold(name, Some("TEN"));
        shop.pay(name, None);
    }
    shop.now = at(30_000);
    assert!(matches!(shop.hold("cid-1", Some("TEN")), Outcome::Held { .. }), "both have expired");
    assert_eq!(shop.capture("ann-1"), Outcome::Captured { retaken: true });
    assert_eq!(shop.capture("bob-1"), Outcome::Late, "units are left, and no use");
    assert_eq!(shop.uses(), 2);
}

#[test]
fn a_book_that_is_opened_again_knows_what_is_used() {
    let mut shop = Shop::open();
    shop.hold("ann-1", Some("TEN"));
    shop.hold("bob-1", Some("TEN"));
    let mut again = SaleBook::new();
    shop.book.snapshot().for_each(|change| again.restore(change.into_owned()).unwrap());
    shop.book = again;
    assert_eq!(shop.hold("cid-1", Some("TEN")), Outcome::Refused(Refusal::CouponUsedUp));
}
