//! The state machine of a sale, step by step and at random.

#![allow(clippy::unwrap_used)]

mod invariants;
mod random;

use std::collections::HashMap;

use haul_commerce::{
    Applied, Counts, Image, Mark, Op, Outcome, Rebuild, Refusal, Released, SaleBook, SaleTerms, Standing,
    book::{
        Behind, CLOCK_MARK_MS, Change, HoldRecord, HoldState, KEEP_ORDERED_MS, KEEP_RELEASED_MS,
        MAX_STANDING, MAX_SWEEP, PutError, RestoreError, SNAPSHOT_PIECE, TAKEOVER_MS,
    },
    sale::MAX_PER_BUYER,
};
use haul_model::{HoldId, OrderId, UnixMillis};
use invariants::{check, same_book};
use random::{START, Shopping, Step};

/// A sale and a clock.
struct Shop {
    book: SaleBook,
    now: UnixMillis,
}

fn terms(stock: u32, per_buyer: u32) -> SaleTerms {
    SaleTerms {
        stock,
        per_buyer,
        hold_ms: 10_000,
        pay_ms: 30_000,
        opens_at: START,
        closes_at: UnixMillis(START.0 + 100_000),
        ..SaleTerms::default()
    }
}

impl Shop {
    fn open(stock: u32, per_buyer: u32) -> Self {
        let mut book = SaleBook::new();
        book.put_terms(&terms(stock, per_buyer), Mark::default(), START).unwrap();
        Self { book, now: START }
    }

    fn wait(&mut self, ms: u64) {
        self.now.0 += ms;
    }

    fn apply(&mut self, ops: &[Op]) -> Applied {
        self.book.apply(ops, Mark::default(), self.now).unwrap()
    }

    fn one(&mut self, op: Op) -> Outcome {
        self.apply(&[op]).outcomes.remove(0)
    }

    fn hold(&mut self, hold: &str, buyer: &str, quantity: u32) -> Outcome {
        self.one(Op::hold(hold.parse().unwrap(), buyer.parse().unwrap(), quantity))
    }

    fn cancel(&mut self, hold: &str, buyer: &str) -> Outcome {
        self.one(Op::Cancel { hold: hold.parse().unwrap(), buyer: buyer.parse().unwrap() })
    }

    fn start(&mut self, hold: &str, buyer: &str) -> Outcome {
        self.start_with(hold, buyer, &format!("order-{hold}"))
    }

    fn start_with(&mut self, hold: &str, buyer: &str, order: &str) -> Outcome {
        let (hold, order) = (hold.parse().unwrap(), order.parse().unwrap());
        self.one(Op::StartPayment { hold, buyer: buyer.parse().unwrap(), order, coupon: None })
    }

    fn fail(&mut self, hold: &str) -> Outcome {
        let (hold, order) = names(hold);
        self.one(Op::PaymentFailed { hold, order })
    }

    fn capture(&mut self, hold: &str) -> Outcome {
        let (hold, order) = names(hold);
        self.one(Op::Capture { hold, order })
    }

    fn settle(&mut self, hold: &str) -> Outcome {
        let (hold, order) = names(hold);
        self.one(Op::Settle { hold, order })
    }

    fn counts(&self) -> (u32, u32, u32) {
        let Counts { available, held, sold } = self.book.counts();
        (available, held, sold)
    }
}

fn names(hold: &str) -> (HoldId, OrderId) {
    (hold.parse().unwrap(), format!("order-{hold}").parse().unwrap())
}

fn at(ms: u64) -> UnixMillis {
    UnixMillis(START.0 + ms)
}

#[test]
fn a_unit_is_held_paid_and_sold() {
    let mut shop = Shop::open(3, 2);
    assert_eq!(shop.hold("h1", "ann", 2), Outcome::Held { deadline: at(10_000) });
    assert_eq!(shop.counts(), (1, 2, 0));
    shop.wait(5_000);
    assert_eq!(shop.start("h1", "ann"), Outcome::Paying { deadline: at(35_000) });
    assert_eq!(shop.capture("h1"), Outcome::Captured { retaken: false });
    assert_eq!(shop.counts(), (1, 2, 0));
    assert_eq!(shop.settle("h1"), Outcome::Sold);
    assert_eq!(shop.counts(), (1, 0, 2));
}

#[test]
fn every_step_asked_again_gives_its_answer_again_and_changes_nothing() {
    let mut shop = Shop::open(3, 2);
    let steps: [fn(&mut Shop) -> Outcome; 6] = [
        |shop| shop.hold("h1", "ann", 1),
        |shop| shop.start("h1", "ann"),
        |shop| shop.fail("h1"),
        |shop| shop.start("h1", "ann"),
        |shop| shop.capture("h1"),
        |shop| shop.settle("h1"),
    ];
    for step in steps {
        let first = step(&mut shop);
        let sequence = shop.apply(&[]).mark.sequence;
        shop.wait(500);
        assert_eq!(step(&mut shop), first);
        assert_eq!(shop.apply(&[]).mark.sequence, sequence);
    }
}

#[test]
fn a_retry_of_an_earlier_step_tells_where_the_hold_is() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    shop.start("h1", "ann");
    assert!(matches!(shop.hold("h1", "ann", 1), Outcome::Paying { .. }));
    shop.capture("h1");
    assert_eq!(shop.hold("h1", "ann", 1), Outcome::Captured { retaken: false });
    assert_eq!(shop.cancel("h1", "ann"), Outcome::Captured { retaken: false });
    assert_eq!(shop.fail("h1"), Outcome::Captured { retaken: false });
    shop.settle("h1");
    assert_eq!(shop.hold("h1", "ann", 1), Outcome::Sold);
    assert_eq!(shop.cancel("h1", "ann"), Outcome::Sold);
    assert_eq!(shop.capture("h1"), Outcome::Sold);
}

#[test]
fn the_last_unit_goes_to_one_and_is_sold_out_only_when_it_is_paid_for() {
    let mut shop = Shop::open(1, 1);
    assert!(matches!(shop.hold("h1", "ann", 1), Outcome::Held { .. }));
    assert_eq!(shop.hold("h2", "bob", 1), Outcome::Refused(Refusal::NotEnough { line: 0, available: 0 }));
    shop.capture("h1");
    shop.settle("h1");
    assert_eq!(shop.hold("h2", "bob", 1), Outcome::Refused(Refusal::SoldOut));
}

#[test]
fn a_refused_hold_may_be_granted_when_units_come_back() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    assert!(matches!(shop.hold("h2", "bob", 1), Outcome::Refused(_)));
    assert_eq!(shop.cancel("h1", "ann"), Outcome::Released);
    assert!(matches!(shop.hold("h2", "bob", 1), Outcome::Held { .. }));
}

#[test]
fn refusals_name_their_reason() {
    let mut shop = Shop::open(5, 2);
    shop.hold("h1", "ann", 1);
    for (outcome, refusal) in [
        (shop.hold("h2", "ann", 0), Refusal::BadQuantity),
        (shop.hold("h2", "ann", u32::MAX), Refusal::BadQuantity),
        (shop.hold("h2", "ann", 2), Refusal::BuyerLimit { line: 0, per_buyer: 2 }),
        (shop.hold("h1", "ann", 2), Refusal::KeyReused),
        (shop.hold("h1", "bob", 1), Refusal::KeyReused),
        (shop.cancel("h9", "ann"), Refusal::UnknownHold),
        (shop.cancel("h1", "bob"), Refusal::UnknownHold),
        (shop.start("h1", "bob"), Refusal::UnknownHold),
        (shop.capture("h9"), Refusal::UnknownHold),
        (shop.fail("h1"), Refusal::WrongState),
        (shop.settle("h1"), Refusal::WrongState),
    ] {
        assert_eq!(outcome, Outcome::Refused(refusal));
    }
    shop.start("h1", "ann");
    assert_eq!(shop.start_with("h1", "ann", "order-2"), Outcome::Refused(Refusal::KeyReused));
    assert_eq!(shop.settle("h1"), Outcome::Refused(Refusal::WrongState));
    assert_eq!(shop.counts(), (4, 1, 0));
}

#[test]
fn the_sale_opens_and_closes_by_the_books_clock() {
    let mut book = SaleBook::new();
    let op = |hold: &str| Op::hold(hold.parse().unwrap(), "ann".parse().unwrap(), 1);
    assert_eq!(
        book.apply(&[op("h1")], Mark::default(), START).unwrap().outcomes,
        [Outcome::Refused(Refusal::UnknownSale)]
    );
    assert_eq!(book.apply(&[op("h1")], Mark::default(), START).unwrap().counts, Counts::default());

    let terms = SaleTerms { opens_at: at(1_000), closes_at: at(2_000), ..terms(5, 5) };
    book.put_terms(&terms, Mark::default(), START).unwrap();
    let mut ask =
        |hold: &str, ms| book.apply(&[op(hold)], Mark::default(), at(ms)).unwrap().outcomes.remove(0);
    assert_eq!(ask("h1", 999), Outcome::Refused(Refusal::NotOpen { opens_at: at(1_000) }));
    assert!(matches!(ask("h1", 1_000), Outcome::Held { .. }));
    assert!(matches!(ask("h2", 1_999), Outcome::Held { .. }));
    assert_eq!(ask("h3", 2_000), Outcome::Refused(Refusal::Closed));
    // What was held before may still be paid.
    let (hold, order) = names("h1");
    let pay = Op::StartPayment { hold, buyer: "ann".parse().unwrap(), order, coupon: None };
    assert!(matches!(
        book.apply(&[pay], Mark::default(), at(3_000)).unwrap().outcomes[0],
        Outcome::Paying { .. }
    ));
}

#[test]
fn a_known_sale_changes_its_times_only() {
    let mut shop = Shop::open(5, 1);
    let other = SaleTerms { closes_at: START, per_buyer: 4, hold_ms: 1_000, ..terms(4, 4) };
    let put = shop.book.put_terms(&other, Mark::default(), START).unwrap();
    assert_eq!((put.counts.available, put.mark.sequence), (5, 2));
    assert_eq!(shop.hold("h1", "ann", 1), Outcome::Refused(Refusal::Closed));
    assert_eq!(shop.book.put_terms(&other, Mark::default(), START).unwrap().mark.sequence, 2);
    assert_eq!(shop.book.change(), None);
    let again = SaleTerms { closes_at: at(50), ..other };
    shop.book.put_terms(&again, Mark::default(), START).unwrap();
    assert_eq!(shop.hold("h1", "ann", 1), Outcome::Held { deadline: at(10_000) });
    assert_eq!(shop.hold("h2", "ann", 1), Outcome::Refused(Refusal::BuyerLimit { line: 0, per_buyer: 1 }));
}

#[test]
fn a_due_hold_goes_back_exactly_once() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    assert_eq!(shop.apply(&[]).next_deadline, Some(at(10_000)));
    shop.wait(9_999);
    assert!(shop.apply(&[]).released.is_empty());
    shop.wait(1);
    let applied = shop.apply(&[]);
    assert_eq!(
        applied.released,
        [Released {
            hold: "h1".parse().unwrap(),
            buyer: "ann".parse().unwrap(),
            units: 1.into(),
            order: None
        }]
    );
    assert_eq!((applied.counts.available, applied.next_deadline), (1, None));
    assert!(shop.apply(&[]).released.is_empty());
    assert_eq!(shop.hold("h1", "ann", 1), Outcome::Released);
    assert!(matches!(shop.hold("h2", "ann", 1), Outcome::Held { .. }));
}

#[test]
fn due_holds_go_back_before_anyone_is_refused() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    shop.wait(10_000);
    let bob = Op::hold("h2".parse().unwrap(), "bob".parse().unwrap(), 1);
    let applied = shop.apply(&[bob]);
    assert!(matches!(applied.outcomes[0], Outcome::Held { .. }));
    assert_eq!(applied.released.len(), 1);
}

#[test]
fn starting_payment_extends_the_deadline_once() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    shop.wait(1_000);
    assert_eq!(shop.start("h1", "ann"), Outcome::Paying { deadline: at(31_000) });
    shop.wait(20_000);
    assert_eq!(shop.fail("h1"), Outcome::Restored { deadline: at(31_000) });
    assert_eq!(shop.start("h1", "ann"), Outcome::Paying { deadline: at(31_000) });
    shop.wait(10_000);
    assert_eq!(shop.apply(&[]).released[0].order, Some("order-h1".parse().unwrap()));
    assert_eq!(shop.start("h1", "ann"), Outcome::Released);
    assert_eq!(shop.fail("h1"), Outcome::Released);
    assert_eq!(shop.settle("h1"), Outcome::Released);
}

#[test]
fn money_that_comes_late_takes_the_units_again_where_they_are_left() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    shop.start("h1", "ann");
    shop.wait(60_000);
    assert_eq!(shop.apply(&[]).released.len(), 1);
    assert_eq!(shop.capture("h1"), Outcome::Captured { retaken: true });
    assert_eq!(shop.capture("h1"), Outcome::Captured { retaken: true });
    assert_eq!(shop.settle("h1"), Outcome::Sold);
    assert_eq!(shop.counts(), (0, 0, 1));
}

#[test]
fn money_that_comes_too_late_stays_too_late() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    shop.start("h1", "ann");
    shop.wait(60_000);
    assert!(matches!(shop.hold("h2", "bob", 1), Outcome::Held { .. }));
    assert_eq!(shop.capture("h1"), Outcome::Late);
    // The unit comes back, but a refund is already due: the second delivery must not sell it.
    assert_eq!(shop.cancel("h2", "bob"), Outcome::Released);
    assert_eq!(shop.capture("h1"), Outcome::Late);
    assert_eq!(shop.hold("h1", "ann", 1), Outcome::Released);
    assert_eq!(shop.settle("h1"), Outcome::Released);
    assert_eq!(shop.counts(), (1, 0, 0));
}

#[test]
fn late_money_respects_the_buyers_limit() {
    let mut shop = Shop::open(5, 1);
    shop.hold("h1", "ann", 1);
    shop.start("h1", "ann");
    shop.wait(60_000);
    assert!(matches!(shop.hold("h2", "ann", 1), Outcome::Held { .. }));
    assert_eq!(shop.capture("h1"), Outcome::Late);
}

#[test]
fn money_may_come_before_the_gate_heard_that_payment_started() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    assert_eq!(shop.capture("h1"), Outcome::Captured { retaken: false });
    assert_eq!(shop.start_with("h1", "ann", "order-2"), Outcome::Refused(Refusal::KeyReused));
    shop.wait(60_000);
    assert!(shop.apply(&[]).released.is_empty(), "captured holds have no deadline");
}

#[test]
fn a_buyer_who_comes_back_sees_their_standing_holds_oldest_first() {
    let mut shop = Shop::open(20, 4);
    for hold in ["z", "a", "m", "q"] {
        shop.hold(hold, "ann", 1);
    }
    shop.hold("b", "bob", 1);
    shop.start("a", "ann");
    shop.capture("m");
    shop.cancel("q", "ann");
    let standing =
        |shop: &Shop| shop.book.standing(&"ann".parse().unwrap(), Mark::default(), shop.now).unwrap();
    let order = |hold: &str| Some(names(hold).1);
    assert_eq!(
        standing(&shop),
        [
            ("z", Outcome::Held { deadline: at(10_000) }, None),
            ("a", Outcome::Paying { deadline: at(30_000) }, order("a")),
            ("m", Outcome::Captured { retaken: false }, order("m")),
        ]
        .map(|(hold, outcome, order)| Standing {
            hold: hold.parse().unwrap(),
            units: 1.into(),
            outcome,
            order,
            coupon: None,
        })
    );
    shop.wait(10_000);
    let left: Vec<_> = standing(&shop).into_iter().map(|standing| standing.hold.to_string()).collect();
    assert_eq!(left, ["a", "m"], "a due hold is not shown, though nobody has swept it yet");
    assert!(shop.book.standing(&"an".parse().unwrap(), Mark::default(), shop.now).unwrap().is_empty());
}

#[test]
fn a_sweep_is_bounded_and_says_that_there_is_more() {
    let total = MAX_SWEEP as u32 + 10;
    let mut shop = Shop::open(total, total);
    for n in 0..total {
        shop.hold(&format!("h{n:05}"), "ann", 1);
    }
    assert_eq!(
        shop.book.standing(&"ann".parse().unwrap(), Mark::default(), shop.now).unwrap().len(),
        MAX_STANDING
    );
    shop.wait(10_000);
    // The last of them is beyond the bound, and named: it is released all the same.
    let last =
        Op::Cancel { hold: format!("h{:05}", total - 1).parse().unwrap(), buyer: "ann".parse().unwrap() };
    let applied = shop.apply(&[last]);
    assert_eq!(applied.released.len(), MAX_SWEEP + 1);
    assert_eq!(applied.outcomes, [Outcome::Released]);
    assert!(applied.next_deadline.unwrap() <= applied.now, "more are due");
    let rest = shop.apply(&[]);
    assert_eq!((rest.released.len(), rest.next_deadline, rest.counts.available), (9, None, total));
}

#[test]
fn the_clock_does_not_go_back_behind_what_was_written() {
    let mut shop = Shop::open(1, 1);
    shop.wait(5_000);
    shop.hold("h1", "ann", 1);
    shop.now = START;
    assert_eq!(shop.apply(&[]).now, at(5_000));
    assert_eq!(shop.book.change(), None, "nothing changed and little time passed");
    shop.now = at(5_000 + CLOCK_MARK_MS);
    shop.apply(&[]);
    let mark = shop.book.change().unwrap();
    assert_eq!((mark.clock, mark.holds.len(), mark.terms), (shop.now, 0, None));
}

#[test]
fn a_change_that_cannot_be_right_is_refused() {
    let mut shop = Shop::open(1, 1);
    shop.hold("h1", "ann", 1);
    let good = shop.book.change().unwrap().into_owned();
    assert_eq!(SaleBook::new().restore(good.clone()), Err(RestoreError::NoTerms));
    assert_eq!(
        shop.book.restore(Change { sequence: 1, ..good.clone() }),
        Err(RestoreError::Older { epoch: 1, sequence: 1 })
    );
    let mut oversold = good;
    oversold.holds[0].units = 2.into();
    assert_eq!(
        shop.book.restore(oversold),
        Err(RestoreError::Oversold { line: 0, held: 2, sold: 0, stock: 1 })
    );
}

#[test]
fn every_hold_that_a_new_sale_allows_one_buyer_is_shown() {
    let most = MAX_PER_BUYER;
    assert_eq!(terms(1_000, most).validate(), Ok(()));
    let mut shop = Shop::open(1_000, most);
    for number in 0..most {
        shop.hold(&format!("h{number}"), "ann", 1);
    }
    assert!(matches!(shop.hold("more", "ann", 1), Outcome::Refused(Refusal::BuyerLimit { .. })));
    assert_eq!(
        shop.book.standing(&"ann".parse().unwrap(), Mark::default(), shop.now).unwrap().len(),
        most as usize
    );
}

#[test]
fn a_hold_that_is_over_is_forgotten_in_time_and_not_before() {
    let mut shop = Shop::open(5, 5);
    shop.hold("h1", "ann", 1);
    shop.hold("h2", "ann", 1);
    shop.start("h2", "ann");
    shop.cancel("h1", "ann");
    shop.cancel("h2", "ann");
    shop.wait(KEEP_RELEASED_MS - 1);
    assert_eq!(shop.cancel("h1", "ann"), Outcome::Released);
    shop.wait(1);
    assert_eq!(shop.cancel("h1", "ann"), Outcome::Refused(Refusal::UnknownHold));
    assert_eq!(shop.book.remembered(), 1);
    // Its order may still be paid.
    shop.wait(KEEP_ORDERED_MS - KEEP_RELEASED_MS - 1);
    assert_eq!(shop.capture("h2"), Outcome::Captured { retaken: true });
    shop.wait(2 * KEEP_ORDERED_MS);
    assert_eq!(shop.capture("h2"), Outcome::Captured { retaken: true }, "it is not over any more");
}

#[test]
fn what_was_forgotten_is_not_remembered_again_when_the_clock_goes_back() {
    let mut shop = Shop::open(5, 5);
    shop.hold("h1", "ann", 1);
    shop.cancel("h1", "ann");
    shop.wait(KEEP_RELEASED_MS);
    shop.apply(&[]);
    let mut written = SaleBook::new();
    shop.book.snapshot().for_each(|piece| written.restore(piece.into_owned()).unwrap());
    shop.now.0 -= 500;
    for book in [shop.book, written] {
        let mut shop = Shop { book, now: shop.now };
        assert_eq!(shop.cancel("h1", "ann"), Outcome::Refused(Refusal::UnknownHold));
    }
}

#[test]
fn a_sale_remembers_what_it_did_lately_however_long_it_lasts() {
    let mut shop = Shop::open(5, 5);
    let mut most = 0;
    for number in 0..200_000_u32 {
        shop.book
            .put_terms(
                &SaleTerms { closes_at: UnixMillis(shop.now.0 + 1_000), ..terms(5, 5) },
                Mark::default(),
                shop.now,
            )
            .unwrap();
        let hold = format!("h{number}");
        assert!(matches!(shop.hold(&hold, "ann", 1), Outcome::Held { .. }));
        shop.cancel(&hold, "ann");
        shop.wait(100);
        most = most.max(shop.book.remembered());
    }
    let an_hour = KEEP_RELEASED_MS as usize / 100;
    assert!((an_hour..=an_hour + 2).contains(&most), "{most}");
}

fn mark(epoch: u64, sequence: u64) -> Mark {
    Mark { epoch, sequence }
}

fn record(hold: &str, buyer: &str, state: HoldState) -> HoldRecord {
    HoldRecord {
        hold: hold.parse().unwrap(),
        buyer: buyer.parse().unwrap(),
        units: 1.into(),
        made: 7,
        state,
        deadline: at(20_000),
        order: None,
        extended: false,
        retaken: false,
        unreserved: false,
        returned: None,
        coupon: None,
    }
}

#[test]
fn a_book_that_is_behind_refuses_everything_until_it_is_rebuilt() {
    let mut shop = Shop::open(3, 2);
    shop.hold("h1", "ann", 1);
    let seen = shop.book.mark();
    // An old copy of it: the hold is not there.
    let mut old = Shop::open(3, 2);
    let behind = Behind(mark(1, 1));
    assert_eq!(old.book.apply(&[], seen, START), Err(behind));
    assert_eq!(old.book.standing(&"ann".parse().unwrap(), seen, START), Err(behind));
    assert_eq!(old.book.put_terms(&terms(3, 2), seen, START), Err(PutError::Behind(behind)));
    assert_eq!(old.book.change(), None, "nothing was done");
    // One that knows nothing is behind too; to those who saw nothing it is only new.
    assert_eq!(SaleBook::new().apply(&[], seen, START), Err(Behind(mark(0, 0))));
    assert!(SaleBook::new().apply(&[], Mark::default(), START).is_ok());

    assert_eq!(old.book.begin_rebuild(seen, at(1)), Rebuild::Begun { epoch: 2 });
    assert_eq!(old.book.begin_rebuild(seen, at(TAKEOVER_MS)), Rebuild::Busy);
    assert!(old.book.apply(&[], Mark::default(), at(2)).is_err(), "frozen for all");
    let holds = vec![record("h1", "ann", HoldState::Held), record("h2", "bob", HoldState::Sold)];
    let image = Image { epoch: 2, clock: at(5), terms: terms(3, 2), holds: holds.clone() };
    assert!(old.book.rebuild(&Image { epoch: 1, ..image.clone() }, &holds, true, at(5)).is_err());
    let mut written = SaleBook::new();
    for (piece, last) in [(&holds[..1], false), (&holds[..1], false), (&holds[1..], true)] {
        old.book.rebuild(&image, piece, last, at(3)).unwrap();
        written.restore(old.book.change().unwrap().into_owned()).unwrap();
        assert_eq!(written.apply(&[], Mark::default(), at(5)).is_err(), !last);
    }
    same_book(&old.book, &written, at(5), "rebuilt");
    assert_eq!(old.book.begin_rebuild(seen, at(9)), Rebuild::NotNeeded);
    old.now = at(5);
    assert_eq!(old.counts(), (1, 1, 1));
    assert!(old.book.mark() > seen);
    assert_eq!(old.hold("h1", "ann", 1), Outcome::Held { deadline: at(20_000) }, "the same hold");
    assert_eq!(old.hold("h3", "bob", 2), Outcome::Refused(Refusal::BuyerLimit { line: 0, per_buyer: 2 }));
    assert!(old.book.apply(&[], seen, at(5)).is_ok());
    // A change of the old epoch does not fit any more.
    assert!(matches!(
        written.restore(shop.book.change().unwrap().into_owned()),
        Err(RestoreError::Older { .. })
    ));
}

#[test]
fn a_rebuild_that_was_given_up_is_taken_over() {
    let mut shop = Shop::open(3, 2);
    let seen = mark(4, 9);
    assert_eq!(shop.book.begin_rebuild(seen, START), Rebuild::Begun { epoch: 5 });
    let image = |epoch| Image { epoch, clock: START, terms: terms(3, 2), holds: Vec::new() };
    let holds = [record("h1", "ann", HoldState::Held)];
    shop.book.rebuild(&image(5), &holds, false, at(1_000)).unwrap();
    assert_eq!(shop.book.begin_rebuild(seen, at(TAKEOVER_MS)), Rebuild::Busy, "it went on a moment ago");
    assert_eq!(shop.book.begin_rebuild(seen, at(1_000 + TAKEOVER_MS)), Rebuild::Begun { epoch: 6 });
    assert!(shop.book.rebuild(&image(5), &holds, true, START).is_err(), "somebody else does it now");
    shop.book.rebuild(&image(6), &[], true, START).unwrap();
    assert_eq!(shop.counts(), (3, 0, 0));
    assert!(shop.book.mark() > seen);
}

#[test]
fn no_sequence_of_steps_breaks_an_invariant() {
    for seed in 0..300 {
        let mut shopping = Shopping::new(seed);
        let (mut book, mut written, mut now) = (SaleBook::new(), SaleBook::new(), START);
        let (mut terms, mut states, mut expired) = (None, HashMap::new(), HashMap::new());
        for number in 0..400 {
            let step = shopping.next_step();
            let trace = format!("seed {seed}, step {number}: {step:?}");
            let applied = match step {
                Step::Clock(time) => {
                    now = time;
                    continue;
                }
                Step::Standing(buyer) => {
                    assert!(book.standing(&buyer, Mark::default(), now).unwrap().len() <= 16, "{trace}");
                    continue;
                }
                Step::Put(wanted) => {
                    terms = Some(terms.map_or(wanted.clone(), |known: SaleTerms| known.changed_to(&wanted)));
                    book.put_terms(&wanted, Mark::default(), now).unwrap()
                }
                Step::Apply(ops) => book.apply(&ops, Mark::default(), now).unwrap(),
            };
            for Released { hold, .. } in applied.released {
                let times: &mut u32 = expired.entry(hold).or_default();
                *times += 1;
                assert_eq!(*times, 1, "{trace}: released twice");
            }
            if let Some(change) = book.change() {
                written.restore(change.into_owned()).unwrap();
            }
            if let Some(terms) = &terms {
                check(&book, terms, &mut states, &trace);
            }
        }
        let trace = format!("seed {seed}, at the end");
        same_book(&book, &written, now, &trace);
        let mut copied = SaleBook::new();
        for piece in book.snapshot() {
            assert!(piece.holds.len() <= SNAPSHOT_PIECE);
            copied.restore(piece.into_owned()).unwrap();
        }
        same_book(&book, &copied, now, &trace);

        // Whatever was going on, it ends: captured holds are settled, and time ends the others.
        for hold in random::all_holds() {
            if let Some(order) = book.hold(&hold).and_then(|record| record.order.clone()) {
                book.apply(&[Op::Settle { hold, order }], Mark::default(), now).unwrap();
            }
        }
        let end = book.apply(&[], Mark::default(), UnixMillis(now.0 + 1_000_000)).unwrap();
        assert_eq!((end.counts.held, end.next_deadline), (0, None), "{trace}");
        for hold in random::all_holds() {
            let state = book.hold(&hold).map(|record| record.state);
            let over = matches!(state, None | Some(HoldState::Sold | HoldState::Released | HoldState::Late));
            assert!(over, "{trace}: {hold} is {state:?}");
        }
    }
}
