//! Waiting in line for units that are set aside for others.

#![allow(clippy::unwrap_used)]

use haul_commerce::{
    Applied, LineTerms, Mark, Op, Outcome, Refusal, SaleBook, SaleTerms,
    book::{HoldState, MAX_OFFERS, MAX_WAITING},
};
use haul_model::{BuyerId, HoldId, OrderId, UnixMillis};

const START: UnixMillis = UnixMillis(1_700_000_000_000);
const OFFER_MS: u64 = 5_000;

fn at(ms: u64) -> UnixMillis {
    UnixMillis(START.0 + ms)
}

fn terms(stock: u32) -> SaleTerms {
    SaleTerms {
        stock,
        per_buyer: 100,
        hold_ms: 10_000,
        pay_ms: 30_000,
        opens_at: START,
        closes_at: at(100_000),
        offer_ms: Some(OFFER_MS),
        ..SaleTerms::default()
    }
}

struct Shop {
    book: SaleBook,
    now: UnixMillis,
}

fn id(name: &str) -> (HoldId, BuyerId) {
    (name.parse().unwrap(), name.parse().unwrap())
}

impl Shop {
    fn open(terms: &SaleTerms) -> Self {
        let mut shop = Self { book: SaleBook::new(), now: START };
        shop.put(terms);
        shop
    }

    fn put(&mut self, terms: &SaleTerms) -> Applied {
        self.book.put_terms(terms, Mark::default(), self.now).unwrap()
    }

    fn apply(&mut self, ops: &[Op]) -> Applied {
        self.book.apply(ops, Mark::default(), self.now).unwrap()
    }

    fn one(&mut self, op: Op) -> Outcome {
        self.apply(&[op]).outcomes.remove(0)
    }

    /// Everybody holds under their own name.
    fn hold(&mut self, name: &str, units: &str) -> Outcome {
        let (hold, buyer) = id(name);
        self.one(Op::Hold {
            hold,
            buyer,
            units: units.parse().unwrap(),
            tier: None,
            coupon: None,
            ticket: None,
        })
    }

    fn wait(&mut self, name: &str, units: &str) -> Outcome {
        let (hold, buyer) = id(name);
        self.one(Op::Wait { hold, buyer, units: units.parse().unwrap(), tier: None })
    }

    /// Who is offered what by it.
    fn cancel(&mut self, name: &str) -> Vec<String> {
        let (hold, buyer) = id(name);
        let applied = self.apply(&[Op::Cancel { hold, buyer }]);
        assert_eq!(applied.outcomes, [Outcome::Released]);
        offered(&applied)
    }

    fn state(&self, name: &str) -> HoldState {
        self.book.hold(&id(name).0).unwrap().state
    }
}

fn offered(applied: &Applied) -> Vec<String> {
    applied.offered.iter().map(|offered| offered.hold.to_string()).collect()
}

fn released(applied: &Applied) -> Vec<String> {
    applied.released.iter().map(|released| released.hold.to_string()).collect()
}

#[test]
fn what_comes_back_is_offered_to_the_next_in_line() {
    let mut shop = Shop::open(&terms(1));
    assert_eq!(
        shop.wait("ann", "1"),
        Outcome::Held { deadline: at(10_000) },
        "there is one, so nobody waits"
    );
    assert_eq!(shop.wait("bob", "1"), Outcome::Waiting { position: 1 });
    assert_eq!(shop.wait("cid", "1"), Outcome::Waiting { position: 2 });
    assert_eq!(shop.wait("bob", "1"), Outcome::Waiting { position: 1 }, "the same place");
    assert_eq!(shop.hold("cid", "1"), Outcome::Waiting { position: 2 }, "whichever way it is asked for");
    assert_eq!(shop.cancel("ann"), ["bob"]);
    assert_eq!(shop.hold("bob", "1"), Outcome::Held { deadline: at(OFFER_MS) });
    assert_eq!(shop.wait("cid", "1"), Outcome::Waiting { position: 1 });
}

#[test]
fn an_offer_that_is_not_taken_up_goes_to_the_next() {
    let mut shop = Shop::open(&terms(1));
    shop.hold("ann", "1");
    shop.wait("bob", "1");
    shop.wait("cid", "1");
    shop.now = at(10_000);
    let applied = shop.apply(&[]);
    assert_eq!((released(&applied), offered(&applied)), (vec!["ann".to_owned()], vec!["bob".to_owned()]));
    assert_eq!(applied.next_deadline, Some(at(10_000 + OFFER_MS)));
    shop.now = at(10_000 + OFFER_MS);
    let applied = shop.apply(&[]);
    assert_eq!((released(&applied), offered(&applied)), (vec!["bob".to_owned()], vec!["cid".to_owned()]));
    let order: OrderId = "order".parse().unwrap();
    let (hold, buyer) = id("cid");
    let paying = shop.one(Op::StartPayment { hold: hold.clone(), buyer, order: order.clone(), coupon: None });
    assert!(matches!(paying, Outcome::Paying { .. }), "{paying:?}");
    let applied =
        shop.apply(&[Op::Capture { hold: hold.clone(), order: order.clone() }, Op::Settle { hold, order }]);
    assert_eq!(applied.outcomes[1], Outcome::Sold);
    assert_eq!(applied.next_deadline, None);
}

#[test]
fn nobody_new_overtakes_the_line_and_nobody_in_it_does() {
    let mut shop = Shop::open(&terms(3));
    shop.hold("ann", "1");
    shop.hold("bob", "2");
    assert_eq!(shop.wait("cid", "2"), Outcome::Waiting { position: 1 });
    assert_eq!(shop.wait("dan", "1"), Outcome::Waiting { position: 2 });
    assert_eq!(shop.cancel("ann"), [""; 0], "one unit, and the first wants two");
    let refused = Outcome::Refused(Refusal::NotEnough { line: 0, available: 0 });
    assert_eq!(shop.hold("eve", "1"), refused, "it is kept for the line");
    assert_eq!(shop.cancel("bob"), ["cid", "dan"]);
}

#[test]
fn who_waits_in_vain_is_told() {
    let mut shop = Shop::open(&terms(2));
    shop.hold("ann", "2");
    shop.wait("bob", "2");
    shop.wait("cid", "1");
    let order: OrderId = "order".parse().unwrap();
    let (hold, _) = id("ann");
    shop.apply(&[Op::Capture { hold: hold.clone(), order: order.clone() }]);
    let applied = shop.apply(&[Op::Settle { hold: hold.clone(), order: order.clone() }]);
    assert_eq!(released(&applied), ["bob", "cid"], "all is sold");
    assert_eq!(shop.wait("dan", "1"), Outcome::Refused(Refusal::SoldOut));
    let back = shop.apply(&[Op::Restock { hold, order, returned: 1.into() }]);
    assert_eq!(back.counts.available, 1);
    assert!(matches!(shop.wait("eve", "1"), Outcome::Held { .. }));
    assert_eq!(shop.wait("dan", "2"), Outcome::Refused(Refusal::NotEnough { line: 0, available: 0 }));
}

#[test]
fn the_line_ends_when_the_sale_closes_and_rests_while_it_is_paused() {
    let mut shop = Shop::open(&terms(1));
    shop.hold("ann", "1");
    shop.wait("bob", "1");
    let paused = SaleTerms { paused: true, ..terms(1) };
    shop.put(&paused);
    assert_eq!(shop.cancel("ann"), [""; 0]);
    assert_eq!(shop.apply(&[]).next_deadline, Some(at(100_000)), "then the line ends");
    let put = shop.put(&terms(1));
    assert_eq!(put.next_deadline, Some(shop.now), "somebody must look after the line");
    assert_eq!(offered(&shop.apply(&[])), ["bob"]);
    shop.wait("cid", "1");
    shop.now = at(50_000);
    shop.put(&SaleTerms { closes_at: at(50_000), ..terms(1) });
    let applied = shop.apply(&[]);
    assert_eq!(released(&applied), ["bob", "cid"]);
    assert_eq!((applied.next_deadline, shop.state("cid")), (None, HoldState::Released));
}

#[test]
fn stock_that_is_added_goes_to_the_line() {
    let mut shop = Shop::open(&terms(1));
    shop.hold("ann", "1");
    shop.wait("bob", "1");
    shop.wait("cid", "1");
    shop.put(&terms(2));
    assert_eq!(offered(&shop.apply(&[])), ["bob"]);
}

#[test]
fn each_line_of_a_sale_has_its_own() {
    let more = vec![LineTerms { stock: 1, per_buyer: 1 }];
    let mut shop = Shop::open(&SaleTerms { more, ..terms(1) });
    shop.hold("ann", "0:1+1:1");
    assert_eq!(shop.wait("bob", "1"), Outcome::Waiting { position: 1 });
    assert_eq!(shop.wait("cid", "1:1"), Outcome::Waiting { position: 1 });
    assert_eq!(shop.wait("dan", "0:1+1:1"), Outcome::Refused(Refusal::BadQuantity), "of one line at a time");
    assert_eq!(shop.cancel("ann"), ["bob", "cid"]);
}

#[test]
fn a_place_in_line_counts_for_its_buyer_and_can_be_given_up() {
    let mut shop = Shop::open(&SaleTerms { per_buyer: 1, ..terms(1) });
    shop.hold("ann", "1");
    shop.wait("bob", "1");
    let second = Op::Wait {
        hold: "again".parse().unwrap(),
        buyer: "bob".parse().unwrap(),
        units: 1.into(),
        tier: None,
    };
    assert_eq!(shop.one(second), Outcome::Refused(Refusal::BuyerLimit { line: 0, per_buyer: 1 }));
    let standing = shop.book.standing(&"bob".parse().unwrap(), Mark::default(), shop.now).unwrap();
    assert_eq!(standing[0].outcome, Outcome::Waiting { position: 1 });
    shop.cancel("bob");
    assert_eq!(shop.cancel("ann"), [""; 0]);
    assert!(matches!(shop.hold("cid", "1"), Outcome::Held { .. }), "nobody waits any more");
    let (hold, buyer) = id("dan");
    shop.wait("dan", "1");
    let order = "order".parse().unwrap();
    let pay = Op::StartPayment { hold, buyer, order, coupon: None };
    assert_eq!(shop.one(pay), Outcome::Refused(Refusal::WrongState), "first it must be offered");
}

#[test]
fn a_sale_without_a_line_refuses_as_before() {
    let mut shop = Shop::open(&SaleTerms { offer_ms: None, ..terms(1) });
    shop.hold("ann", "1");
    assert_eq!(shop.wait("bob", "1"), Outcome::Refused(Refusal::NoLine));
}

#[test]
fn a_line_is_bounded_and_served_in_bounded_pieces() {
    let most = MAX_WAITING as u32;
    let mut shop = Shop::open(&SaleTerms { stock: most, ..terms(most) });
    shop.book = SaleBook::new();
    shop.put(&SaleTerms { per_buyer: most, ..terms(most) });
    shop.hold("all", &most.to_string());
    for number in 0..MAX_WAITING {
        assert!(matches!(shop.wait(&format!("w{number}"), "1"), Outcome::Waiting { .. }));
    }
    assert_eq!(shop.wait("one-more", "1"), Outcome::Refused(Refusal::LineFull));
    let first = shop.cancel("all");
    assert_eq!(first.len(), MAX_OFFERS);
    assert_eq!(first[0], "w0");
    let next = shop.apply(&[]);
    assert_eq!((next.offered.len(), next.next_deadline), (MAX_OFFERS, Some(shop.now)), "there is more to do");
    assert_eq!(next.offered[0].hold.as_str(), format!("w{MAX_OFFERS}"));
}

#[test]
fn a_line_is_there_again_after_a_restart() {
    let mut shop = Shop::open(&terms(1));
    shop.hold("ann", "1");
    shop.wait("bob", "1");
    shop.wait("cid", "1");
    let mut again = SaleBook::new();
    for piece in shop.book.snapshot() {
        again.restore(piece.into_owned()).unwrap();
    }
    shop.book = again;
    assert_eq!(shop.wait("cid", "1"), Outcome::Waiting { position: 2 });
    assert_eq!(shop.cancel("ann"), ["bob"]);
}
