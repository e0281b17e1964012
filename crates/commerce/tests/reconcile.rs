//! What is called a difference between gate, ledger and payments, and what is only under way.

#![allow(clippy::unwrap_used)]

use haul_commerce::{
    Callback, Counts, Mark, NewOrder, NewRefund, Order, OrderLine, OrderState, Paid, Parts, PaymentEvent,
    PaymentEventKind, Recorded, Refund, RefundOrigin, RefundState, Sale, SaleMove, SaleTerms,
    book::{HoldRecord, HoldState},
    reconcile::{self, Difference, GRACE_MS, Held, reconcile},
};
use haul_model::{Money, UnixMillis};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn eur(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

fn hold(n: u32, state: HoldState) -> HoldRecord {
    HoldRecord {
        hold: format!("hold_{n}").parse().unwrap(),
        buyer: format!("buyer_{}", n % 10).parse().unwrap(),
        units: 1.into(),
        made: u64::from(n),
        state,
        deadline: UnixMillis(NOW.0 + 10_000),
        order: None,
        extended: false,
        retaken: false,
        unreserved: false,
        returned: None,
        coupon: None,
    }
}

fn order(n: u32, state: OrderState) -> Order {
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
        created_at: NOW,
    };
    let paid = matches!(state, OrderState::Sold).then(|| Paid { event: "e".to_owned(), amount: eur(100) });
    Order { order, state, paid, returned: None, refunded_minor: 0, dispute: None, updated_at: NOW }
}

fn paid(n: u32, finished: bool) -> (Callback, bool) {
    let event = PaymentEvent {
        event: format!("event_{n}"),
        payment: format!("pay_{n}").parse().unwrap(),
        kind: PaymentEventKind::Paid,
        amount: eur(100),
        refund: None,
        reference: None,
    };
    (Callback { provider: "sandbox".to_owned(), event, received_at: NOW }, finished)
}

/// A sale of five: one sold, one being paid, one held, one given up; everybody agrees.
struct Books {
    recorded: Recorded,
    callbacks: Vec<(Callback, bool)>,
    gate: Held,
    now: UnixMillis,
}

impl Books {
    fn that_agree() -> Self {
        let holds = vec![
            hold(1, HoldState::Sold),
            hold(2, HoldState::Paying),
            hold(3, HoldState::Held),
            hold(4, HoldState::Released),
        ];
        let terms = SaleTerms {
            stock: 5,
            per_buyer: 1,
            hold_ms: 10_000,
            pay_ms: 10_000,
            opens_at: NOW,
            closes_at: UnixMillis(NOW.0 + 60_000),
            ..SaleTerms::default()
        };
        let told = SaleMove::all_of(&terms);
        let sale = Sale {
            id: "sale_1".parse().unwrap(),
            merchant: "main".parse().unwrap(),
            live: "demo".parse().unwrap(),
            product: "tea".parse().unwrap(),
            variant: None,
            unit_price: eur(100),
            more: Vec::new(),
            terms,
        };
        let mark = Mark { epoch: 1, sequence: 9 };
        let orders = vec![order(1, OrderState::Sold), order(2, OrderState::Paying)];
        Self {
            recorded: Recorded { mark, clock: NOW, sale, sold: vec![1], holds: holds.clone(), orders },
            callbacks: vec![paid(1, true)],
            gate: Held { mark, terms: told, lines: vec![Counts { available: 2, held: 2, sold: 1 }], holds },
            now: NOW,
        }
    }

    fn differ(&self) -> Vec<String> {
        let found = reconcile(&self.recorded, &self.callbacks, Some(&self.gate), self.now);
        found.iter().map(Difference::to_string).collect()
    }
}

#[test]
fn nothing_is_said_where_all_agree() {
    assert_eq!(Books::that_agree().differ(), [""; 0]);
}

#[test]
fn a_step_may_be_under_way_but_not_for_long() {
    let steps: [fn(&mut Books); 4] = [
        |books| {
            books.gate.holds[0].state = HoldState::Captured;
            books.gate.lines = vec![Counts { available: 2, held: 3, sold: 0 }];
        },
        |books| books.gate.holds[1].state = HoldState::Captured,
        |books| books.recorded.orders[1].state = OrderState::RefundDue,
        |books| books.callbacks.push(paid(2, false)),
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let mut books = Books::that_agree();
        step(&mut books);
        assert_eq!(books.differ(), [""; 0], "step {number}");
        books.now.0 += GRACE_MS;
        assert!(!books.differ().is_empty(), "step {number} does not come to its end");
    }
}

/// What is said, and what was done to the books.
type Wrong = (&'static str, fn(&mut Books));

#[test]
fn each_difference_is_named() {
    let wrongs: [Wrong; 13] = [
        ("and is paused at the gate", |books| books.gate.terms.paused = Some(true)),
        ("expected 2 available, 2 held, 1 sold", |books| books.gate.lines[0].available = 3),
        ("buyer buyer_3 has 2 units of line 0", |books| {
            books.gate.holds[1].buyer = "buyer_3".parse().unwrap()
        }),
        ("counts 2 as sold", |books| books.recorded.sold = vec![2]),
        ("order order_1 is Sold and its hold is Released", |books| {
            books.gate.holds[0].state = HoldState::Released;
        }),
        ("order order_1 is Sold and the gate has no hold", |books| drop(books.gate.holds.remove(0))),
        ("hold hold_3 is paid, and the ledger has no order", |books| {
            books.gate.holds[2].state = HoldState::Captured;
        }),
        ("hold hold_3 stands, and the ledger has not written it", |books| {
            drop(books.recorded.holds.remove(2));
        }),
        ("hold hold_3 stands by what the ledger has written", |books| drop(books.gate.holds.remove(2))),
        ("hold hold_5 stands by what the ledger has written", |books| {
            // Paid, as far as anybody knows: such a hold does not end.
            books.recorded.holds.push(hold(5, HoldState::Captured));
            books.gate.holds.push(hold(5, HoldState::Released));
        }),
        ("money came for order order_2 (event event_2), and it is Paying", |books| {
            books.callbacks.push(paid(2, true));
        }),
        ("of order order_1, 1 units have come back by the ledger, none by the gate", |books| {
            books.recorded.orders[0].returned = Some(1.into());
            books.now.0 += GRACE_MS;
        }),
        ("the gate is at 1.3, behind 1.9", |books| books.gate.mark.sequence = 3),
    ];
    for (expected, wrong) in wrongs {
        let mut books = Books::that_agree();
        wrong(&mut books);
        let found = books.differ();
        assert!(found.iter().any(|text| text.contains(expected)), "{expected}: {found:?}");
    }
    let books = Books::that_agree();
    let lost = reconcile(&books.recorded, &books.callbacks, None, NOW);
    assert_eq!(lost, [Difference::GateHasLost(books.recorded.mark)]);
}

#[test]
fn an_end_that_was_not_written_down_before_a_crash_is_no_difference() {
    let mut books = Books::that_agree();
    // The gate has released it, and remembers that.
    books.recorded.holds[3].state = HoldState::Held;
    assert_eq!(books.differ(), [""; 0]);
    // A gate that does not know it has lost it, until its deadline, with which it ends anyhow.
    books.gate.holds.remove(3);
    let found = books.differ();
    assert!(found.len() == 1 && found[0].contains("hold hold_4 stands by what the ledger"), "{found:?}");
    books.now = UnixMillis(NOW.0 + 10_000);
    assert_eq!(books.differ(), [""; 0]);
}

fn refund(n: u32, order: &Order, state: RefundState) -> Refund {
    Refund {
        refund: NewRefund {
            id: format!("refund_{n}").parse().unwrap(),
            order: order.order.id.clone(),
            amount: eur(100),
            parts: Parts::default(),
            origin: RefundOrigin::Automatic,
            of_order: true,
            payment_reference: None,
            reason: String::new(),
            at: NOW,
        },
        merchant: order.order.merchant.clone(),
        live: order.order.live.clone(),
        payment: order.order.payment.clone(),
        provider: "sandbox".to_owned(),
        state,
        attempts: 1,
        next_attempt_at: NOW,
        reference: None,
        error: None,
        updated_at: NOW,
    }
}

#[test]
fn money_that_goes_back_is_accounted_for() {
    let later = UnixMillis(NOW.0 + GRACE_MS);
    let sold = order(1, OrderState::Sold);
    let gone = Order { refunded_minor: 100, paid: sold.paid.clone(), ..order(2, OrderState::Refunded) };
    let due = order(3, OrderState::RefundDue);
    let orders = vec![sold.clone(), gone.clone(), due.clone()];
    let callbacks = [paid(1, true), paid(2, true), paid(3, true)];
    let good = vec![refund(2, &gone, RefundState::Done), refund(3, &due, RefundState::Due)];
    let check = |orders: &[Order], refunds: &[Refund], now| -> Vec<String> {
        let found = reconcile::refunds(orders, &callbacks, refunds, now);
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(check(&orders, &good, NOW), Vec::<String>::new(), "it has only begun");
    let found = check(&orders, &good, later);
    assert!(found.len() == 1 && found[0].contains("refund_3") && found[0].contains("Due"), "{found:?}");
    let failed = [good[0].clone(), refund(3, &due, RefundState::Failed)];
    assert!(check(&orders, &failed, NOW)[0].contains("Failed"));
    // Another has brought all of it back instead.
    let instead = [
        good[0].clone(),
        good[1].clone(),
        Refund { state: RefundState::Failed, ..refund(4, &gone, RefundState::Due) },
    ];
    assert_eq!(check(&orders, &instead, NOW), [""; 0]);
    // Money came for order 3, and nobody sends it back.
    let found = check(&orders, &good[..1], later);
    assert!(found.len() == 1 && found[0].contains("event_3"), "{found:?}");
    // More went back than the order says, or less.
    let mut wrong = orders.clone();
    wrong[1].refunded_minor = 50;
    assert!(check(&wrong, &good, NOW)[0].contains("50"));
    // The same money twice: paid a second time, and only one of them bought something.
    let twice = [
        paid(1, true),
        (
            Callback {
                event: PaymentEvent { event: "again".to_owned(), ..paid(1, true).0.event },
                ..paid(1, true).0
            },
            true,
        ),
    ];
    let found = reconcile::refunds(&orders[..1], &twice, &[], later);
    assert_eq!(found.len(), 1, "{found:?}");
    let back = Refund {
        refund: NewRefund { of_order: false, ..refund(1, &sold, RefundState::Done).refund },
        ..refund(1, &sold, RefundState::Done)
    };
    assert_eq!(reconcile::refunds(&orders[..1], &twice, &[back], later), []);
}
