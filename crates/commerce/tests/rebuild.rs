//! What a sale is rebuilt from, case by case.

#![allow(clippy::unwrap_used)]

use haul_commerce::{
    Mark, NewOrder, Order, OrderLine, OrderState, Paid, Recorded, Sale, SaleTerms,
    book::{HoldRecord, HoldState, KEEP_ORDERED_MS},
    rebuild::{Rebuilt, rebuild},
};
use haul_model::{Money, UnixMillis};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const PAY_MS: u64 = 30_000;

fn at(ms: i64) -> UnixMillis {
    UnixMillis(NOW.0.saturating_add_signed(ms))
}

fn eur(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

/// A hold of one unit, `made` as the n-th, that ends in ten seconds.
fn hold(n: u64, state: HoldState) -> HoldRecord {
    HoldRecord {
        hold: format!("hold_{n}").parse().unwrap(),
        buyer: format!("buyer_{n}").parse().unwrap(),
        units: 1.into(),
        made: n,
        state,
        deadline: at(10_000),
        order: None,
        extended: false,
        retaken: false,
        unreserved: false,
        returned: None,
        coupon: None,
    }
}

/// The order of the n-th hold, made five seconds ago.
fn order(n: u64, state: OrderState, paid: Option<i64>) -> Order {
    let order = NewOrder {
        id: format!("order_{n}").parse().unwrap(),
        payment: format!("pay_{n}").parse().unwrap(),
        provider: "sandbox".to_owned(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        sale: "sale_1".parse().unwrap(),
        product: "tea".parse().unwrap(),
        hold: format!("hold_{n}").parse().unwrap(),
        buyer: format!("buyer_{n}").parse().unwrap(),
        buyer_name: String::new(),
        quantity: 1,
        unit_price: eur(100),
        total: eur(100),
        coupon: None,
        lines: vec![OrderLine::only("tea".parse().unwrap(), 1, eur(100), eur(100))],
        created_at: at(-5_000),
    };
    let paid = paid.map(|amount| Paid { event: "event".to_owned(), amount: eur(amount) });
    Order { order, state, paid, returned: None, refunded_minor: 0, dispute: None, updated_at: NOW }
}

fn rebuilt(stock: u32, holds: Vec<HoldRecord>, orders: Vec<Order>) -> Rebuilt {
    let sale = Sale {
        id: "sale_1".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        product: "tea".parse().unwrap(),
        variant: None,
        unit_price: eur(100),
        more: Vec::new(),
        terms: SaleTerms {
            stock,
            per_buyer: 1,
            hold_ms: 10_000,
            pay_ms: PAY_MS,
            opens_at: at(-60_000),
            closes_at: at(60_000),
            ..SaleTerms::default()
        },
    };
    let rebuilt = rebuild(
        Recorded { mark: Mark::default(), clock: at(-1), sale, sold: vec![0], holds, orders },
        3,
        NOW,
    );
    rebuilt.image.check().unwrap();
    rebuilt
}

fn only(rebuilt: &Rebuilt) -> (HoldState, UnixMillis, bool) {
    let [record] = &rebuilt.image.holds[..] else { panic!("{rebuilt:?}") };
    (record.state, record.deadline, !rebuilt.lost.is_empty())
}

#[test]
fn plain_holds_come_back_as_they_were_written_unless_they_are_over() {
    for (state, deadline, expected, lost) in [
        (HoldState::Held, at(10_000), (HoldState::Held, at(10_000)), false),
        (HoldState::Held, NOW, (HoldState::Released, NOW), true),
        (HoldState::Released, at(-10), (HoldState::Released, at(-10)), false),
    ] {
        let record = HoldRecord { deadline, ..hold(1, state) };
        let made = rebuilt(5, vec![record], Vec::new());
        assert_eq!(only(&made), (expected.0, expected.1, lost), "{state:?} until {deadline:?}");
    }
    let long_over = HoldRecord { deadline: at(-(KEEP_ORDERED_MS as i64)), ..hold(1, HoldState::Released) };
    assert!(rebuilt(5, vec![long_over], Vec::new()).image.holds.is_empty());
}

#[test]
fn what_an_order_says_goes_over_what_was_written_of_its_hold() {
    use HoldState as H;
    use OrderState as O;
    let (soon, pay_by) = (at(10_000), at(-5_000 + PAY_MS as i64));
    for (state, paid, written, expected) in [
        (O::Sold, Some(100), None, (H::Sold, pay_by, false)),
        (O::Sold, Some(100), Some(H::Paying), (H::Sold, soon, false)),
        // The money is here; the ledger was not told yet that it is sold.
        (O::Paying, Some(100), None, (H::Captured, pay_by, false)),
        (O::Paying, Some(100), Some(H::Paying), (H::Captured, soon, false)),
        // It came too late; whether anything is left is for the gate to say.
        (O::Paying, Some(100), Some(H::Released), (H::Released, soon, false)),
        // Not what it costs: it goes back.
        (O::Paying, Some(1), Some(H::Paying), (H::Paying, soon, false)),
        (O::Paying, None, None, (H::Paying, pay_by, false)),
        (O::Paying, None, Some(H::Paying), (H::Paying, soon, false)),
        // The payment failed, and may be tried again.
        (O::Paying, None, Some(H::Held), (H::Held, soon, false)),
        (O::Expired, None, Some(H::Paying), (H::Released, NOW, true)),
        (O::Expired, None, Some(H::Released), (H::Released, soon, false)),
        (O::Expired, Some(100), Some(H::Captured), (H::Captured, soon, false)),
        // Late was said once, and is never unsaid.
        (O::Expired, Some(100), Some(H::Late), (H::Late, soon, false)),
        (O::RefundDue, Some(100), None, (H::Late, NOW, false)),
        (O::Refunded, Some(100), Some(H::Late), (H::Late, soon, false)),
    ] {
        let holds = written.map(|state| hold(1, state)).into_iter().collect();
        let made = rebuilt(5, holds, vec![order(1, state, paid)]);
        assert_eq!(only(&made), expected, "{state:?}, paid {paid:?}, written as {written:?}");
        assert_eq!(made.image.holds[0].order, Some("order_1".parse().unwrap()));
    }
}

#[test]
fn where_not_all_fit_the_surest_and_the_oldest_stay() {
    let holds = vec![
        hold(1, HoldState::Held),
        hold(2, HoldState::Held),
        hold(3, HoldState::Paying),
        hold(4, HoldState::Held),
    ];
    let orders = vec![order(3, OrderState::Paying, None), order(9, OrderState::Sold, Some(100))];
    let made = rebuilt(3, holds, orders);
    let standing = |record: &&HoldRecord| record.takes_units();
    let kept: Vec<_> =
        made.image.holds.iter().filter(standing).map(|record| record.hold.to_string()).collect();
    assert_eq!(kept, ["hold_9", "hold_3", "hold_1"]);
    let lost: Vec<_> = made.lost.iter().map(|record| (record.hold.to_string(), record.state)).collect();
    assert_eq!(
        lost,
        [("hold_2".to_owned(), HoldState::Released), ("hold_4".to_owned(), HoldState::Released)]
    );
}

#[test]
fn the_clock_does_not_go_back_with_the_gate() {
    let mut made = rebuilt(1, Vec::new(), Vec::new());
    assert_eq!(made.image.clock, NOW);
    let sale = Sale {
        id: "sale_1".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        product: "tea".parse().unwrap(),
        variant: None,
        unit_price: eur(1),
        more: Vec::new(),
        terms: made.image.terms.clone(),
    };
    let recorded = Recorded {
        mark: Mark::default(),
        clock: at(500),
        sale,
        sold: vec![0],
        holds: Vec::new(),
        orders: Vec::new(),
    };
    made = rebuild(recorded, 3, NOW);
    assert_eq!(made.image.clock, at(500));
}
