//! What the ledger keeps of money that goes back, of keys and of requests that are asked again.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;

use haul_commerce::{
    Callback, Checkout, Dispute, Ledger, LedgerError, LiveRecord, NewOrder, NewRefund, Order, OrderLine,
    OrderState, Paid, Parts, PaymentError, PaymentEvent, PaymentEventKind, Product, Refund, RefundAnswer,
    RefundFilter, RefundOrigin, RefundState, RefundStep, Refunds, Sale, SaleTerms,
    audit::{Audit, AuditFilter, Entry},
    buyers::{Buyers, Details},
    keys::{ABANDONED_AFTER, Answered, ApiKey, Area, Asked, Keys, Known, MAX_KEYS, hash, new_key},
    ledger::Standing,
    order_id,
    orders::{OrderFilter, OrderList},
    outbox::{DeliveryState, Due, Endpoint, MAX_ENDPOINTS, Message, Outbox, Replay, WAITS, judge},
    payment_id,
    refund::step_after,
};
use haul_model::{Contact, HoldId, MerchantId, Money, UnixMillis};
use haul_store::SqlLedger;
use support::databases::{On, on_each_database};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

on_each_database! {
    what_goes_back_is_never_more_than_what_was_paid
    a_refund_is_asked_for_until_it_has_arrived
    a_provider_that_is_down_for_an_hour_sends_each_refund_back_once
    an_order_that_buys_nothing_is_refunded_when_all_has_gone_back
    money_that_came_on_top_goes_back_beside_the_order
    what_a_provider_says_of_refunds_is_matched
    money_that_had_gone_and_came_back_is_owed_again
    an_order_is_looked_after_while_it_is_under_way
    a_dispute_over_a_part_takes_the_part
    a_refund_whose_answer_was_lost_is_the_one_that_is_told_of
    what_went_back_before_the_money_was_heard_of_is_the_orders
    a_payment_that_is_disputed_is_not_paid_back_besides
    a_dispute_is_marked_and_decided_once
    a_refund_that_failed_waits_for_the_dispute_to_end
    what_is_said_beside_an_order_is_kept_whoever_begins_it_at_once
    sessions_are_closed_when_their_order_is_over
    a_payment_is_found_by_the_providers_name_for_it
    orders_are_listed_in_pages
    orders_are_found_by_what_they_are_shown_to_be
    refunds_are_listed_in_pages
    keys_are_kept_hashed_and_revoked_for_good
    a_request_asked_again_gets_its_answer
    what_happens_to_an_order_is_told_in_its_order
    messages_are_replayed_and_forgotten
    the_audit_log_is_read_in_pages
}

fn eur(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

fn main() -> MerchantId {
    MerchantId::main()
}

async fn seed(ledger: &SqlLedger) {
    let live = LiveRecord {
        id: "demo".parse().unwrap(),
        merchant: main(),
        title: "Demo".to_owned(),
        public: true,
        created_at: NOW,
    };
    ledger.ensure_live(&live).await.unwrap();
    let product = Product {
        id: "lamp".parse().unwrap(),
        merchant: main(),
        title: "Lamp".to_owned(),
        subtitle: String::new(),
        image_url: String::new(),
        list_price: eur(100),
    };
    ledger.put_product(&product).await.unwrap();
    let terms = SaleTerms {
        stock: 10,
        per_buyer: 5,
        hold_ms: 60_000,
        pay_ms: 60_000,
        opens_at: NOW,
        closes_at: UnixMillis(NOW.0 + 60_000),
        ..SaleTerms::default()
    };
    let sale = Sale {
        id: "sale_1".parse().unwrap(),
        merchant: main(),
        live: live.id,
        product: product.id,
        variant: None,
        unit_price: eur(100),
        more: Vec::new(),
        terms,
    };
    ledger.put_sale(&sale).await.unwrap();
}

/// An order for 100 that is being paid.
async fn paying(ledger: &SqlLedger, n: u64) -> NewOrder {
    seed(ledger).await;
    let hold: HoldId = format!("hold_{n}").parse().unwrap();
    let order = NewOrder {
        id: order_id(&hold),
        payment: payment_id(&hold),
        provider: "sandbox".to_owned(),
        merchant: main(),
        live: "demo".parse().unwrap(),
        sale: "sale_1".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        hold,
        buyer: format!("buyer_{}", n % 2).parse().unwrap(),
        buyer_name: "Ann".to_owned(),
        quantity: 1,
        unit_price: eur(100),
        total: eur(100),
        coupon: None,
        lines: vec![OrderLine::only("lamp".parse().unwrap(), 1, eur(100), eur(100))],
        created_at: UnixMillis(NOW.0 + n),
    };
    ledger.start_order(&order, &Details::default()).await.unwrap();
    order
}

/// One for which 100 has come, in this state.
async fn paid(ledger: &SqlLedger, n: u64, state: OrderState) -> NewOrder {
    let order = paying(ledger, n).await;
    let event = said(&order, &format!("event_{n}"), PaymentEventKind::Paid, 100);
    record(ledger, &event).await;
    ledger.record_paid(&order.id, &Paid { event: event.event, amount: event.amount }).await.unwrap();
    ledger.move_order(&order.id, state, NOW).await.unwrap();
    order
}

fn said(order: &NewOrder, event: &str, kind: PaymentEventKind, amount: i64) -> PaymentEvent {
    PaymentEvent {
        event: event.to_owned(),
        payment: order.payment.clone(),
        kind,
        amount: eur(amount),
        refund: None,
        reference: Some(format!("theirs_{}", order.hold)),
    }
}

async fn record(ledger: &SqlLedger, event: &PaymentEvent) {
    let callback = Callback { provider: "sandbox".to_owned(), event: event.clone(), received_at: NOW };
    ledger.record_callback(&callback, None).await.unwrap();
}

fn refund(id: &str, order: &NewOrder, amount: i64) -> NewRefund {
    NewRefund {
        id: id.parse().unwrap(),
        order: order.id.clone(),
        amount: eur(amount),
        parts: Parts::default(),
        origin: RefundOrigin::Merchant,
        of_order: true,
        payment_reference: None,
        reason: "broken".to_owned(),
        at: NOW,
    }
}

async fn step(ledger: &SqlLedger, id: &str, step: RefundStep) -> haul_commerce::Refunded {
    ledger.step_refund(&id.parse().unwrap(), &step, NOW).await.unwrap()
}

fn done() -> RefundStep {
    RefundStep::Done { reference: Some("re_1".to_owned()) }
}

async fn find(ledger: &SqlLedger, order: &NewOrder) -> Order {
    ledger.order(&order.id).await.unwrap().unwrap()
}

async fn what_goes_back_is_never_more_than_what_was_paid(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    let first = ledger.put_refund(&refund("r1", &order, 60)).await.unwrap();
    assert_eq!(first.state, RefundState::Due);
    assert_eq!(first.refund.payment_reference.as_deref(), Some("theirs_hold_1"));
    assert_eq!(ledger.put_refund(&refund("r1", &order, 60)).await.unwrap(), first, "asked again");
    let other = ledger.put_refund(&refund("r1", &order, 10)).await;
    assert!(matches!(other, Err(LedgerError::Conflict(_))), "{other:?}");
    let too_much = ledger.put_refund(&refund("r2", &order, 41)).await.unwrap_err();
    assert!(too_much.to_string().contains("0.40 EUR"), "{too_much}");
    let dollars = Money { amount_minor: 1, currency: "USD".parse().unwrap() };
    let foreign = ledger.put_refund(&NewRefund { amount: dollars, ..refund("r2", &order, 1) }).await;
    assert!(matches!(foreign, Err(LedgerError::Conflict(_))));
    ledger.put_refund(&refund("r2", &order, 40)).await.unwrap();
    // One that was refused frees its share, and gets it back only while it is free.
    step(&ledger, "r2", RefundStep::Failed { error: "no".to_owned() }).await;
    ledger.put_refund(&refund("r3", &order, 30)).await.unwrap();
    let again = ledger.step_refund(&"r2".parse().unwrap(), &RefundStep::Again, NOW).await;
    assert!(matches!(again, Err(LedgerError::Conflict(_))), "{again:?}");
    let unpaid = paying(&ledger, 2).await;
    let nothing = ledger.put_refund(&refund("r4", &unpaid, 1)).await;
    assert!(matches!(nothing, Err(LedgerError::NotFound(_))), "{nothing:?}");
    let refunds = ledger.refunds_of_order(&order.id).await.unwrap();
    assert_eq!(refunds.len(), 3);
    assert_eq!(ledger.refunds_of_live(&order.live).await.unwrap(), refunds);
}

async fn a_refund_is_asked_for_until_it_has_arrived(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    ledger.put_refund(&refund("r1", &order, 60)).await.unwrap();
    let due =
        async |at: u64| -> Vec<Refund> { ledger.due_refunds("sandbox", UnixMillis(at), 10).await.unwrap() };
    assert_eq!(due(NOW.0).await.len(), 1);
    assert!(ledger.due_refunds("stripe", NOW, 10).await.unwrap().is_empty());
    let later = UnixMillis(NOW.0 + 5);
    step(&ledger, "r1", RefundStep::Later { at: later, error: "down".to_owned() }).await;
    assert!(due(NOW.0 + 4).await.is_empty());
    let waiting = due(NOW.0 + 5).await;
    assert_eq!((waiting[0].attempts, waiting[0].error.as_deref()), (1, Some("down")));
    let asked = RefundStep::Asked { reference: Some("re_1".to_owned()), again_at: UnixMillis(NOW.0 + 9) };
    assert!(step(&ledger, "r1", asked).await.news);
    assert!(due(NOW.0 + 8).await.is_empty());
    assert_eq!(due(NOW.0 + 9).await[0].attempts, 2);
    let arrived = step(&ledger, "r1", done()).await;
    assert_eq!((arrived.order.refunded_minor, arrived.order.state), (60, OrderState::Sold));
    assert_eq!(arrived.refund.reference.as_deref(), Some("re_1"));
    for late in [done(), RefundStep::Failed { error: "no".to_owned() }, RefundStep::Again] {
        let same = step(&ledger, "r1", late).await;
        assert!(!same.news && same.refund.state == RefundState::Done);
    }
    assert_eq!(find(&ledger, &order).await.refunded_minor, 60);
    assert!(due(u64::MAX / 2).await.is_empty());
    let states: Vec<String> =
        ledger.order_events(&order.id).await.unwrap().into_iter().map(|event| event.state).collect();
    assert_eq!(states, ["paying", "sold", "refund_due", "partly_refunded"]);
    let sums = ledger.totals(&order.live).await.unwrap();
    assert_eq!((sums.orders, sums.revenue), (1, vec![eur(40)]));
}

/// As the worker does, in virtual time: look every ten seconds, ask for what is due, write down what came of it.
async fn a_provider_that_is_down_for_an_hour_sends_each_refund_back_once(on: On) {
    let ledger = on.open().await;
    const HOUR_MS: u64 = 3_600_000;
    let orders =
        [paid(&ledger, 1, OrderState::RefundDue).await, paid(&ledger, 2, OrderState::RefundDue).await];
    let (mut asked, mut sent) = (HashMap::<String, u32>::new(), HashMap::<String, u64>::new());
    for at in (NOW.0..NOW.0 + 2 * HOUR_MS).step_by(10_000) {
        // The second refund comes up in the middle of it.
        for (order, due_at) in orders.iter().zip([NOW.0, NOW.0 + HOUR_MS / 2]) {
            if at >= due_at {
                let id = format!("refund_of_{}", order.hold);
                ledger
                    .put_refund(&NewRefund { at: UnixMillis(due_at), ..refund(&id, order, 100) })
                    .await
                    .unwrap();
            }
        }
        for due in ledger.due_refunds("sandbox", UnixMillis(at), 10).await.unwrap() {
            let id = due.refund.id.to_string();
            let answer = match at < NOW.0 + HOUR_MS {
                true => {
                    *asked.entry(id).or_default() += 1;
                    Err(PaymentError::Unavailable("down".to_owned()))
                }
                false => {
                    assert_eq!(sent.insert(id, at), None, "sent back twice");
                    Ok(RefundAnswer { done: true, reference: Some("re_1".to_owned()) })
                }
            };
            let step = step_after(answer, due.attempts, UnixMillis(at));
            ledger.step_refund(&due.refund.id, &step, UnixMillis(at)).await.unwrap();
        }
    }
    for order in &orders {
        let id = format!("refund_of_{}", order.hold);
        assert!((3..=16).contains(&asked[&id]), "often enough, and not too often: {asked:?}");
        assert!(sent[&id] < NOW.0 + HOUR_MS + 600_000, "soon after it is back: {sent:?}");
        let order = find(&ledger, order).await;
        assert_eq!((order.state, order.refunded_minor), (OrderState::Refunded, 100));
    }
}

async fn an_order_that_buys_nothing_is_refunded_when_all_has_gone_back(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::RefundDue).await;
    for (id, amount, state) in [("r1", 30, OrderState::RefundDue), ("r2", 70, OrderState::Refunded)] {
        ledger.put_refund(&refund(id, &order, amount)).await.unwrap();
        assert_eq!(step(&ledger, id, done()).await.order.state, state);
    }
    let last = ledger.order_events(&order.id).await.unwrap().pop().unwrap();
    assert_eq!((last.state.as_str(), last.detail.as_deref()), ("refunded", Some("r2")));
}

async fn money_that_came_on_top_goes_back_beside_the_order(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    let on_top = NewRefund {
        of_order: false,
        payment_reference: Some("theirs_second".to_owned()),
        ..refund("r1", &order, 100)
    };
    let put = ledger.put_refund(&on_top).await.unwrap();
    assert_eq!(put.refund.payment_reference.as_deref(), Some("theirs_second"));
    assert_eq!(step(&ledger, "r1", done()).await.order.refunded_minor, 0);
    // The order's own money is all there still.
    ledger.put_refund(&refund("r2", &order, 100)).await.unwrap();
}

async fn what_a_provider_says_of_refunds_is_matched(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    let say = async |event: &str, kind, amount, refund: Option<&str>| {
        let refund = refund.map(|refund| refund.parse().unwrap());
        let event = PaymentEvent { refund, ..said(&order, event, kind, amount) };
        ledger.provider_refund(&event, NOW).await.unwrap()
    };
    let refunded = PaymentEventKind::Refunded;
    for (id, amount) in [("r1", 10), ("r2", 20), ("r3", 30)] {
        ledger.put_refund(&refund(id, &order, amount)).await.unwrap();
    }
    // By its name; by its amount, once it was asked for; and one of somebody's at the provider.
    assert_eq!(say("e1", refunded, 10, Some("r1")).await.unwrap().refund.refund.id.as_str(), "r1");
    step(&ledger, "r2", RefundStep::Asked { reference: None, again_at: NOW }).await;
    assert_eq!(say("e2", refunded, 20, None).await.unwrap().refund.refund.id.as_str(), "r2");
    let theirs = say("e3", refunded, 30, None).await.unwrap();
    assert_eq!(theirs.refund.refund.origin, RefundOrigin::Provider, "r3 was not asked for yet");
    assert_eq!(theirs.order.refunded_minor, 60);
    let again = say("e3", refunded, 30, None).await.unwrap();
    assert!(!again.news && again.order.refunded_minor == 60, "told twice");
    // More than is left of the order's money: it happened, whatever was asked for beside it, and the order has none left.
    let more = say("e4", refunded, 50, None).await.unwrap();
    assert!(more.refund.refund.of_order && more.order.refunded_minor == 100);
    let yet_more = say("e7", refunded, 5, None).await.unwrap();
    assert!(!yet_more.refund.refund.of_order && yet_more.order.refunded_minor == 100);
    let failed = say("e5", PaymentEventKind::RefundFailed, 30, Some("r3")).await.unwrap();
    assert_eq!(failed.refund.state, RefundState::Failed);
    assert_eq!(say("e6", PaymentEventKind::RefundFailed, 5, None).await, None);
}

async fn what_went_back_before_the_money_was_heard_of_is_the_orders(on: On) {
    let ledger = on.open().await;
    let order = paying(&ledger, 1).await;
    let back = said(&order, "back", PaymentEventKind::Refunded, 60);
    let early = ledger.provider_refund(&back, NOW).await.unwrap().unwrap();
    assert!(!early.refund.refund.of_order && early.order.refunded_minor == 0, "no money is known of");
    let event = said(&order, "paid", PaymentEventKind::Paid, 100);
    record(&ledger, &event).await;
    let paid = Paid { event: event.event, amount: event.amount };
    for _ in 0..2 {
        assert_eq!(ledger.record_paid(&order.id, &paid).await.unwrap().refunded_minor, 60);
    }
    let refunds = ledger.refunds_of_order(&order.id).await.unwrap();
    assert!(refunds.len() == 1 && refunds[0].refund.of_order);
    let events = ledger.order_events(&order.id).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.state == "partly_refunded").count(), 1);
}

async fn a_payment_that_is_disputed_is_not_paid_back_besides(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    for (dispute, may) in [(Dispute::Open, false), (Dispute::Lost, false), (Dispute::Won, true)] {
        ledger.put_dispute(&order.id, dispute, NOW).await.unwrap();
        let put = ledger.put_refund(&refund("r1", &order, 10)).await;
        assert_eq!(put.is_ok(), may, "{dispute:?}: {put:?}");
    }
}

async fn money_that_had_gone_and_came_back_is_owed_again(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::RefundDue).await;
    ledger.put_refund(&refund("r1", &order, 100)).await.unwrap();
    step(&ledger, "r1", done()).await;
    assert_eq!(find(&ledger, &order).await.state, OrderState::Refunded);
    let failed = |event: &str| {
        let said = said(&order, event, PaymentEventKind::RefundFailed, 100);
        PaymentEvent { refund: Some("r1".parse().unwrap()), ..said }
    };
    // A try before the one that arrived, whose word was overtaken.
    let overtaken = ledger.provider_refund(&failed("refund_failed.re_0"), NOW).await.unwrap().unwrap();
    assert!(!overtaken.news && overtaken.refund.state == RefundState::Done);
    let back = ledger.provider_refund(&failed("refund_failed.re_1"), NOW).await.unwrap().unwrap();
    assert!(back.news && back.came_back && back.refund.state == RefundState::Failed);
    assert_eq!((back.order.state, back.order.refunded_minor), (OrderState::RefundDue, 0));
    assert!(!ledger.provider_refund(&failed("refund_failed.re_1"), NOW).await.unwrap().unwrap().news);
    let again = step(&ledger, "r1", RefundStep::Again).await.refund;
    assert_eq!((again.state, again.attempts % haul_commerce::TRIES_A_ROUND), (RefundState::Due, 0));
    assert!(again.attempts > 0);
    // The word that the second one arrived comes before its answer.
    let second = PaymentEvent { kind: PaymentEventKind::Refunded, ..failed("refunded.re_2") };
    let after = ledger.provider_refund(&second, NOW).await.unwrap().unwrap();
    assert_eq!((after.order.state, after.order.refunded_minor), (OrderState::Refunded, 100));
    assert!(!step(&ledger, "r1", RefundStep::Done { reference: Some("re_2".to_owned()) }).await.news);
    let back = ledger.provider_refund(&failed("refund_failed.re_2"), NOW).await.unwrap().unwrap();
    assert!(back.came_back && back.order.refunded_minor == 0);
    step(&ledger, "r1", RefundStep::Again).await;
    let after = step(&ledger, "r1", done()).await;
    assert_eq!((after.order.state, after.order.refunded_minor), (OrderState::Refunded, 100));

    // One that somebody made at the provider, which is known by the word on it.
    let order = paid(&ledger, 2, OrderState::Sold).await;
    let word = |event: &str, kind| said(&order, event, kind, 40);
    let gone = word("refunded.re_9", PaymentEventKind::Refunded);
    assert_eq!(ledger.provider_refund(&gone, NOW).await.unwrap().unwrap().order.refunded_minor, 40);
    let failed = word("refund_failed.re_9", PaymentEventKind::RefundFailed);
    let back = ledger.provider_refund(&failed, NOW).await.unwrap().unwrap();
    assert_eq!((back.came_back, back.order.refunded_minor), (true, 0));
    let nobodys = word("refund_failed.re_7", PaymentEventKind::RefundFailed);
    record(&ledger, &nobodys).await;
    assert_eq!(ledger.provider_refund(&nobodys, NOW).await.unwrap(), None);
    // Overtaken by the word that it came back.
    let late = word("refunded.re_7", PaymentEventKind::Refunded);
    assert_eq!(ledger.provider_refund(&late, NOW).await.unwrap(), None);
    assert_eq!(find(&ledger, &order).await.refunded_minor, 0);
}

async fn a_dispute_over_a_part_takes_the_part(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    ledger.put_refund(&refund("r1", &order, 30)).await.unwrap();
    step(&ledger, "r1", RefundStep::Asked { reference: None, again_at: NOW }).await;
    ledger.put_dispute(&order.id, Dispute::Open, NOW).await.unwrap();
    assert!(ledger.put_refund(&refund("r2", &order, 10)).await.is_err(), "not before it is decided");
    let lost = said(&order, "dispute_lost.dp_1", PaymentEventKind::DisputeLost, 30);
    for news in [true, false] {
        let told = ledger.lose_part(&lost, NOW).await.unwrap();
        assert_eq!((told.news, told.order.refunded_minor, told.order.dispute), (news, 30, None));
        let made = &told.refund.refund;
        assert_eq!((made.origin, made.reason.as_str()), (RefundOrigin::Provider, "dispute"));
    }
    // It is no word on the refund of ours that was asked for, of as much.
    let asked = ledger.refund(&"r1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(asked.state, RefundState::Asked);
    // A word that was overtaken opens nothing again, and the rest can go back.
    assert_eq!(ledger.put_dispute(&order.id, Dispute::Open, NOW).await.unwrap().dispute, None);
    assert!(ledger.put_refund(&refund("r3", &order, 41)).await.is_err(), "more than what is left beside r1");
    ledger.put_refund(&refund("r4", &order, 40)).await.unwrap();
    let states = ledger.order_events(&order.id).await.unwrap().into_iter().map(|event| event.state);
    let count = |state: &str| states.clone().filter(|known| known == state).count();
    assert_eq!((count("disputed"), count("dispute_lost"), count("partly_refunded")), (1, 1, 1));
}

async fn an_order_is_looked_after_while_it_is_under_way(on: On) {
    let ledger = on.open().await;
    // Long after any sale has closed, so that it is for the order's sake alone.
    let late = UnixMillis(NOW.0 + 1_000_000_000_000);
    let is_under_way = async || !ledger.unsettled_lives(late, 9).await.unwrap().is_empty();
    let order = paying(&ledger, 1).await;
    assert!(is_under_way().await, "it is being paid");
    ledger.move_order(&order.id, OrderState::Expired, NOW).await.unwrap();
    assert!(!is_under_way().await, "it has expired");
    ledger.move_order(&order.id, OrderState::Sold, NOW).await.unwrap();
    let sold = paying(&ledger, 2).await;
    assert!(is_under_way().await);
    ledger.move_order(&sold.id, OrderState::Sold, NOW).await.unwrap();
    assert!(!is_under_way().await, "both are sold");
    let due = paid(&ledger, 3, OrderState::RefundDue).await;
    assert!(is_under_way().await, "its money is to go back");
    ledger.put_refund(&refund("r1", &due, 100)).await.unwrap();
    step(&ledger, "r1", done()).await;
    assert!(!is_under_way().await, "its money has gone back");
    step(&ledger, "r1", RefundStep::CameBack { error: "account closed".to_owned() }).await;
    assert!(is_under_way().await, "its money came back");
    step(&ledger, "r1", RefundStep::Again).await;
    step(&ledger, "r1", done()).await;
    assert!(!is_under_way().await);
}

async fn a_refund_whose_answer_was_lost_is_the_one_that_is_told_of(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    ledger.put_refund(&refund("r1", &order, 60)).await.unwrap();
    step(&ledger, "r1", RefundStep::Later { at: UnixMillis(NOW.0 + 9), error: "timed out".to_owned() }).await;
    let told = said(&order, "event_back", PaymentEventKind::Refunded, 60);
    let done = ledger.provider_refund(&told, NOW).await.unwrap().unwrap();
    assert_eq!((done.refund.refund.id.as_str(), done.refund.state), ("r1", RefundState::Done));
    assert_eq!(done.order.refunded_minor, 60);
    assert!(ledger.due_refunds("sandbox", UnixMillis(NOW.0 + 99), 10).await.unwrap().is_empty(), "once");
}

async fn a_refund_that_failed_waits_for_the_dispute_to_end(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    ledger.put_refund(&refund("r1", &order, 60)).await.unwrap();
    ledger.put_refund(&refund("r2", &order, 40)).await.unwrap();
    step(&ledger, "r1", RefundStep::Failed { error: "no".to_owned() }).await;
    ledger.put_dispute(&order.id, Dispute::Open, NOW).await.unwrap();
    let again = ledger.step_refund(&"r1".parse().unwrap(), &RefundStep::Again, NOW).await;
    assert!(matches!(again, Err(LedgerError::Conflict(_))), "{again:?}");
    assert!(ledger.due_refunds("sandbox", NOW, 10).await.unwrap().is_empty(), "nor is the other asked for");
    ledger.put_dispute(&order.id, Dispute::Won, NOW).await.unwrap();
    step(&ledger, "r1", RefundStep::Again).await;
    assert_eq!(ledger.due_refunds("sandbox", NOW, 10).await.unwrap().len(), 2);
}

async fn what_is_said_beside_an_order_is_kept_whoever_begins_it_at_once(on: On) {
    let ledger = on.open().await;
    let known = paying(&ledger, 1).await;
    let of = |n: u64| {
        let hold: HoldId = format!("hold_{n}").parse().unwrap();
        NewOrder { id: order_id(&hold), payment: payment_id(&hold), hold, ..known.clone() }
    };
    let contact = Contact { name: "Ann".to_owned(), ..Contact::default() };
    let told = Details { contact: Some(contact), ..Details::default() };
    let (ledger, told, plain) = (&ledger, &told, &Details::default());
    let all = (2..40).map(|n| async move {
        let order = of(n);
        // In either order, and both at once with all the others.
        let begin = async |details| ledger.start_order(&order, details).await.unwrap();
        match n % 2 {
            0 => futures_util::join!(begin(told), begin(plain)),
            _ => futures_util::join!(begin(plain), begin(told)),
        };
        assert_eq!(ledger.details(&main(), &order.id).await.unwrap(), *told, "{n}");
    });
    futures_util::future::join_all(all).await;
}

async fn a_dispute_is_marked_and_decided_once(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    for (said, then) in [
        (Dispute::Open, Dispute::Open),
        (Dispute::Open, Dispute::Open),
        (Dispute::Lost, Dispute::Lost),
        (Dispute::Open, Dispute::Lost),
    ] {
        let disputed = ledger.put_dispute(&order.id, said, NOW).await.unwrap();
        assert_eq!(disputed.dispute, Some(then));
        assert_eq!(find(&ledger, &order).await, disputed);
    }
    let nobodys = ledger.put_dispute(&"order_x".parse().unwrap(), Dispute::Open, NOW).await;
    assert!(matches!(nobodys, Err(LedgerError::NotFound(_))));
    let events = ledger.order_events(&order.id).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.state == "disputed").count(), 1);
}

async fn sessions_are_closed_when_their_order_is_over(on: On) {
    let ledger = on.open().await;
    let order = paying(&ledger, 1).await;
    assert_eq!(ledger.checkout(&order.payment).await.unwrap(), None);
    let session = Checkout {
        payment: order.payment.clone(),
        attempt: 0,
        url: Some("https://pay.example/1".to_owned()),
        session: Some("cs_1".to_owned()),
        failures: 0,
    };
    ledger.put_checkout(&session, NOW).await.unwrap();
    assert_eq!(ledger.checkout(&order.payment).await.unwrap(), Some(session.clone()));
    let due = async |at| ledger.checkouts_to_close(UnixMillis(at), 10).await.unwrap();
    assert!(due(NOW.0).await.is_empty(), "it is being paid");
    ledger.move_order(&order.id, OrderState::Expired, NOW).await.unwrap();
    assert_eq!(due(NOW.0).await, std::slice::from_ref(&session));
    ledger.checkout_not_closed(&order.payment, UnixMillis(NOW.0 + 5)).await.unwrap();
    assert!(due(NOW.0 + 4).await.is_empty());
    assert_eq!(due(NOW.0 + 5).await[0].failures, 1);
    ledger.end_checkout(&order.payment).await.unwrap();
    assert!(due(u64::MAX / 2).await.is_empty());
    assert_eq!(ledger.checkout(&order.payment).await.unwrap().unwrap().url, None, "the next is another");
    ledger.end_checkout(&"pay_x".parse().unwrap()).await.unwrap();
}

async fn a_payment_is_found_by_the_providers_name_for_it(on: On) {
    let ledger = on.open().await;
    let order = paid(&ledger, 1, OrderState::Sold).await;
    let found = async |provider: &str, name: &str| ledger.payment_of_reference(provider, name).await.unwrap();
    assert_eq!(found("sandbox", "theirs_hold_1").await, Some(order.payment));
    assert_eq!(found("stripe", "theirs_hold_1").await, None);
    assert_eq!(found("sandbox", "theirs").await, None);
}

async fn orders_are_listed_in_pages(on: On) {
    let ledger = on.open().await;
    for n in 1..=5 {
        paying(&ledger, n).await;
    }
    let third = paying(&ledger, 3).await;
    ledger.move_order(&third.id, OrderState::Expired, NOW).await.unwrap();
    let list = async |filter: OrderFilter, limit| -> Vec<u64> {
        let orders = ledger.list_orders(&main(), &filter, limit).await.unwrap();
        orders.iter().map(|order| order.order.created_at.0 - NOW.0).collect()
    };
    let all = OrderFilter::default;
    assert_eq!(list(all(), 2).await, [5, 4]);
    let fourth = paying(&ledger, 4).await;
    let after = Some((fourth.created_at, fourth.id));
    assert_eq!(list(OrderFilter { after, ..all() }, 10).await, [3, 2, 1]);
    assert_eq!(list(OrderFilter { standing: Some(Standing::Expired), ..all() }, 10).await, [3]);
    assert_eq!(list(OrderFilter { buyer: "buyer_0".parse().ok(), ..all() }, 10).await, [4, 2]);
    assert_eq!(list(OrderFilter { since: Some(UnixMillis(NOW.0 + 4)), ..all() }, 10).await, [5, 4]);
    assert_eq!(list(OrderFilter { live: "other".parse().ok(), ..all() }, 10).await, [0; 0]);
    let stranger = "stranger".parse().unwrap();
    assert!(ledger.list_orders(&stranger, &all(), 10).await.unwrap().is_empty());
}

/// What an order is shown to be, it is found by.
async fn orders_are_found_by_what_they_are_shown_to_be(on: On) {
    let ledger = on.open().await;
    let back = async |n: u64, order: &NewOrder, amount: i64| {
        let new = refund(&format!("r{n}"), order, amount);
        ledger.put_refund(&new).await.unwrap();
        ledger.step_refund(&new.id, &RefundStep::Done { reference: None }, NOW).await.unwrap();
    };
    paying(&ledger, 1).await;
    paid(&ledger, 2, OrderState::Sold).await;
    let expired = paying(&ledger, 3).await;
    ledger.move_order(&expired.id, OrderState::Expired, NOW).await.unwrap();
    let mut late = Vec::new();
    for n in 4..=5 {
        late.push(paid(&ledger, n, OrderState::RefundDue).await);
    }
    back(5, &late[1], 100).await;
    // Three with a part of their money back, of which one has it all by and by.
    for n in 6..=8 {
        let order = paid(&ledger, n, OrderState::Sold).await;
        back(n, &order, 40).await;
        if n == 7 {
            back(70, &order, 60).await;
        }
    }
    let list = async |filter: OrderFilter, limit| -> Vec<Order> {
        ledger.list_orders(&main(), &filter, limit).await.unwrap()
    };
    let numbers =
        |orders: &[Order]| orders.iter().map(|order| order.order.created_at.0 - NOW.0).collect::<Vec<_>>();
    let wanted: [(Standing, &[u64]); 6] = [
        (Standing::Paying, &[1]),
        (Standing::Sold, &[2]),
        (Standing::Expired, &[3]),
        (Standing::RefundDue, &[4]),
        (Standing::PartlyRefunded, &[8, 6]),
        (Standing::Refunded, &[7, 5]),
    ];
    assert_eq!(wanted.map(|(standing, _)| standing).len(), Standing::ALL.len());
    for (standing, found) in wanted {
        let filter = OrderFilter { standing: Some(standing), ..OrderFilter::default() };
        let orders = list(filter.clone(), 10).await;
        assert_eq!(numbers(&orders), found, "{standing:?}");
        assert!(orders.iter().all(|order| order.standing() == standing));
        // The same, one a page.
        let mut pages = Vec::new();
        let mut after = None;
        while let Some(order) = list(OrderFilter { after, ..filter.clone() }, 1).await.pop() {
            after = Some((order.order.created_at, order.order.id.clone()));
            pages.push(order);
        }
        assert_eq!(numbers(&pages), found, "{standing:?}");
    }
}

async fn refunds_are_listed_in_pages(on: On) {
    let ledger = on.open().await;
    let mut orders = Vec::new();
    for n in 1..=2 {
        orders.push(paid(&ledger, n, OrderState::Sold).await);
    }
    for (n, order) in [(1, 0), (2, 0), (3, 1), (4, 0)] {
        let at = UnixMillis(NOW.0 + n);
        let new = NewRefund { at, ..refund(&format!("r{n}"), &orders[order], 10) };
        ledger.put_refund(&new).await.unwrap();
    }
    let fourth = "r4".parse().unwrap();
    ledger.step_refund(&fourth, &RefundStep::Done { reference: None }, NOW).await.unwrap();
    let list = async |filter: RefundFilter, limit| -> Vec<u64> {
        let refunds = ledger.list_refunds(&main(), &filter, limit).await.unwrap();
        refunds.iter().map(|refund| refund.refund.at.0 - NOW.0).collect()
    };
    let all = RefundFilter::default;
    assert_eq!(list(all(), 2).await, [4, 3]);
    let after = Some((UnixMillis(NOW.0 + 3), "r3".parse().unwrap()));
    assert_eq!(list(RefundFilter { after, ..all() }, 10).await, [2, 1]);
    assert_eq!(list(RefundFilter { state: Some(RefundState::Due), ..all() }, 10).await, [3, 2, 1]);
    assert_eq!(list(RefundFilter { state: Some(RefundState::Done), ..all() }, 10).await, [4]);
    assert_eq!(list(RefundFilter { order: Some(orders[1].id.clone()), ..all() }, 10).await, [3]);
    assert_eq!(list(RefundFilter { since: Some(UnixMillis(NOW.0 + 3)), ..all() }, 10).await, [4, 3]);
    let stranger = "stranger".parse().unwrap();
    assert!(ledger.list_refunds(&stranger, &all(), 10).await.unwrap().is_empty());
}

fn api_key(n: u128, merchant: &str) -> (ApiKey, String) {
    let (id, text) = new_key(NOW, n, &[7; 32]);
    let key = ApiKey {
        id,
        merchant: merchant.parse().unwrap(),
        name: "backend".to_owned(),
        scopes: vec![Area::Orders.read(), Area::Refunds.write()],
        hash: hash(&[text.as_bytes()]),
        created_at: UnixMillis(NOW.0 + n as u64),
        revoked_at: None,
    };
    (key, text)
}

async fn keys_are_kept_hashed_and_revoked_for_good(on: On) {
    let ledger = on.open().await;
    let (first, text) = api_key(1, "shop");
    ledger.put_key(&first).await.unwrap();
    assert_eq!(ledger.key(&first.id).await.unwrap(), Some(first.clone()));
    assert!(!format!("{first:?}").contains(&text[30..]), "the secret is not kept");
    let merchant = first.merchant.clone();
    let foreign = ledger.revoke_key(&main(), &first.id, NOW).await;
    assert!(matches!(foreign, Err(LedgerError::NotFound(_))));
    let revoked = ledger.revoke_key(&merchant, &first.id, NOW).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(NOW));
    let later = ledger.revoke_key(&merchant, &first.id, UnixMillis(NOW.0 + 9)).await.unwrap();
    assert_eq!(later.revoked_at, Some(NOW), "once is for good");
    for n in 2..=MAX_KEYS as u128 + 1 {
        ledger.put_key(&api_key(n, "shop").0).await.unwrap();
    }
    let more = ledger.put_key(&api_key(500, "shop").0).await;
    assert!(matches!(more, Err(LedgerError::Conflict(_))), "{more:?}");
    ledger.put_key(&api_key(501, "other").0).await.unwrap();
    let listed = ledger.keys(&merchant, 3).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed[0].created_at > listed[1].created_at && listed.iter().all(|key| key.merchant == merchant));
}

async fn a_request_asked_again_gets_its_answer(on: On) {
    let ledger = on.open().await;
    let asked = |key: &str, request: &str, at: u64| Asked {
        merchant: main(),
        actor: "key_1".to_owned(),
        key: key.to_owned(),
        request: request.to_owned(),
        at: UnixMillis(NOW.0 + at),
    };
    let begin = async |asked: Asked| ledger.begin_request(&asked).await.unwrap();
    assert_eq!(begin(asked("k", "a", 0)).await, Known::New);
    assert_eq!(begin(asked("k", "a", 1)).await, Known::Running);
    assert_eq!(begin(asked("k", "b", 1)).await, Known::Other);
    assert_eq!(begin(Asked { actor: "key_2".to_owned(), ..asked("k", "b", 1) }).await, Known::New);
    let answer = Answered { status: 201, content_type: "application/json".to_owned(), body: "{}".to_owned() };
    ledger.end_request(&asked("k", "a", 0), Some(&answer)).await.unwrap();
    assert_eq!(begin(asked("k", "a", 2)).await, Known::Answered(answer));
    assert_eq!(begin(asked("k", "b", 2)).await, Known::Other);
    // Not carried out: as if it had never been asked.
    assert_eq!(begin(asked("l", "a", 3)).await, Known::New);
    ledger.end_request(&asked("l", "a", 3), None).await.unwrap();
    assert_eq!(begin(asked("l", "b", 4)).await, Known::New);
    let abandoned = ABANDONED_AFTER.as_millis() as u64 + 4;
    assert_eq!(begin(asked("l", "b", abandoned)).await, Known::New, "its process is gone");
    assert_eq!(begin(asked("l", "b", abandoned + 1)).await, Known::Running);
    assert_eq!(ledger.forget_requests(UnixMillis(NOW.0 + 2)).await.unwrap(), 2);
    assert_eq!(begin(asked("k", "b", 9)).await, Known::New);
}

fn endpoint(id: &str, kinds: &[&str]) -> Endpoint {
    Endpoint {
        id: id.parse().unwrap(),
        merchant: main(),
        url: "https://shop.example/hook".to_owned(),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        secret: "whsec_a".to_owned(),
        old_secret: None,
        disabled: None,
        created_at: NOW,
    }
}

/// What is due at this time, as kinds, and taken until `lease`.
async fn due(ledger: &SqlLedger, at: u64, lease: u64) -> Vec<Due> {
    ledger.take_due(UnixMillis(NOW.0 + at), UnixMillis(NOW.0 + lease), 10, &[]).await.unwrap()
}

fn kinds(due: &[Due]) -> Vec<&str> {
    due.iter().map(|due| due.message.kind.as_str()).collect()
}

async fn what_happens_to_an_order_is_told_in_its_order(on: On) {
    let ledger = on.open().await;
    // Nobody listens: nothing is written.
    paid(&ledger, 1, OrderState::Sold).await;
    ledger.put_endpoint(&endpoint("wh_1", &["order.*"])).await.unwrap();
    ledger.put_endpoint(&endpoint("wh_2", &["refund.created"])).await.unwrap();
    assert!(due(&ledger, 1_000, 1_000).await.is_empty());
    let order = paid(&ledger, 2, OrderState::Sold).await;
    let put = ledger.put_refund(&refund("r1", &order, 60)).await.unwrap();
    let taken = due(&ledger, 1_000, 2_000).await;
    assert_eq!(
        kinds(&taken),
        ["refund.created", "order.paying"],
        "of each order the first, to whoever wants it"
    );
    assert!(due(&ledger, 1_999, 9_000).await.is_empty(), "they are somebody's");
    let paying = taken.iter().find(|due| due.message.kind == "order.paying").unwrap();
    let body: serde_json::Value = serde_json::from_str(&paying.message.body).unwrap();
    assert_eq!((&body["type"], &body["data"]["id"]), (&"order.paying".into(), &order.id.as_str().into()));
    let refunded = taken.iter().find(|due| due.message.kind == "refund.created").unwrap();
    let body: serde_json::Value = serde_json::from_str(&refunded.message.body).unwrap();
    assert_eq!(body["data"]["refund_id"], put.refund.id.as_str());
    // The next one waits for the one before, also while that is tried again.
    let at = UnixMillis(NOW.0 + 1_000);
    let failed = judge(0, Ok(500), at);
    ledger.attempted(&paying.endpoint.id, &paying.message.id, &failed).await.unwrap();
    assert_eq!(kinds(&due(&ledger, 2_500, 3_000).await), ["refund.created"], "its lease is over");
    let again = due(&ledger, 6_000, 7_000).await;
    assert_eq!((kinds(&again).contains(&"order.paying"), again.len()), (true, 2));
    ledger.attempted(&paying.endpoint.id, &paying.message.id, &judge(1, Ok(204), at)).await.unwrap();
    assert!(kinds(&due(&ledger, 8_000, 9_000).await).contains(&"order.sold"));
    // One that gives up disables its endpoint, and what waits there waits.
    let last = judge(WAITS.len() as u32 - 1, Err("down".to_owned()), at);
    ledger.attempted(&refunded.endpoint.id, &refunded.message.id, &last).await.unwrap();
    let off = ledger.endpoint(&main(), &refunded.endpoint.id).await.unwrap().unwrap();
    assert!(off.disabled.as_ref().unwrap().1.contains("8 attempts"));
    let list = ledger.deliveries(&main(), &off.id, Some(DeliveryState::Failed), None, 10).await.unwrap();
    assert_eq!((list.len(), list[0].error.as_deref(), list[0].attempts), (1, Some("down"), 1));
    // Let go on, it is told first what it was given up with.
    let behind = NewRefund { id: "r1".parse().unwrap(), ..refund("r1", &order, 60) };
    step(&ledger, behind.id.as_str(), done()).await;
    assert!(
        !kinds(&due(&ledger, 100_000, 200_000).await).contains(&"refund.created"),
        "nothing while it is off"
    );
    let on = Endpoint { disabled: None, ..off.clone() };
    assert!(ledger.change_endpoint(&off, &on).await.unwrap());
    let late = Endpoint { url: "https://late.example".to_owned(), ..off.clone() };
    assert!(!ledger.change_endpoint(&off, &late).await.unwrap(), "it is not any more what was changed");
    let first = due(&ledger, 300_000, 400_000).await;
    let its = first.iter().filter(|due| due.endpoint.id == off.id);
    assert_eq!(its.map(|due| due.message.kind.as_str()).collect::<Vec<_>>(), ["refund.created"]);
    let stranger = "stranger".parse().unwrap();
    assert!(ledger.deliveries(&stranger, &off.id, None, None, 10).await.unwrap().is_empty());
    assert_eq!(ledger.endpoint(&stranger, &off.id).await.unwrap(), None);
    assert!(!ledger.remove_endpoint(&stranger, &off.id).await.unwrap());
}

async fn messages_are_replayed_and_forgotten(on: On) {
    let ledger = on.open().await;
    ledger.put_endpoint(&endpoint("wh_1", &[])).await.unwrap();
    for n in 1..=3 {
        let message = Message {
            id: format!("msg_{n}").parse().unwrap(),
            merchant: main(),
            subject: "buyer".to_owned(),
            kind: "followup.due".to_owned(),
            body: "{}".to_owned(),
            at: UnixMillis(NOW.0 + n),
        };
        ledger.post(&message).await.unwrap();
        ledger.post(&message).await.unwrap();
    }
    for _ in 0..3 {
        let taken = due(&ledger, 10, 20).await;
        assert_eq!(taken.len(), 1, "one subject, one at a time");
        ledger.attempted(&taken[0].endpoint.id, &taken[0].message.id, &judge(0, Ok(200), NOW)).await.unwrap();
    }
    assert!(due(&ledger, 1_000, 1_000).await.is_empty());
    let id = "wh_1".parse().unwrap();
    let first = ledger.deliveries(&main(), &id, None, None, 2).await.unwrap();
    assert_eq!(first.iter().map(|one| one.message.as_str()).collect::<Vec<_>>(), ["msg_3", "msg_2"]);
    let after = (first[1].created_at, first[1].message.clone());
    assert_eq!(ledger.deliveries(&main(), &id, None, Some(&after), 2).await.unwrap().len(), 1);
    let replay = async |which| ledger.replay(&main(), &id, &which, NOW).await.unwrap();
    assert_eq!(replay(Replay::Since(NOW)).await, 0, "all were delivered");
    assert_eq!(replay(Replay::Message("msg_2".parse().unwrap())).await, 1);
    let again = due(&ledger, 10, 20).await;
    assert_eq!((again[0].message.id.as_str(), again[0].attempts), ("msg_2", 0));
    // Made later, an endpoint can have what was told before.
    ledger.put_endpoint(&endpoint("wh_2", &["followup.*"])).await.unwrap();
    let since = Replay::Since(UnixMillis(NOW.0 + 2));
    assert_eq!(ledger.replay(&main(), &"wh_2".parse().unwrap(), &since, NOW).await.unwrap(), 2);
    let nobodys = ledger.replay(&main(), &"wh_9".parse().unwrap(), &since, NOW).await;
    assert!(matches!(nobodys, Err(LedgerError::NotFound(_))));
    assert_eq!(ledger.forget_messages(UnixMillis(NOW.0 + 3)).await.unwrap(), 2);
    assert!(ledger.remove_endpoint(&main(), &id).await.unwrap());
    for n in 10..10 + MAX_ENDPOINTS - 1 {
        ledger.put_endpoint(&endpoint(&format!("wh_{n}"), &[])).await.unwrap();
    }
    let more = ledger.put_endpoint(&endpoint("wh_more", &[])).await;
    assert!(matches!(more, Err(LedgerError::Conflict(_))), "{more:?}");
}

async fn the_audit_log_is_read_in_pages(on: On) {
    let ledger = on.open().await;
    let entry = |n: u64| Entry {
        id: format!("audit_{n}"),
        merchant: main(),
        at: UnixMillis(NOW.0 + n),
        role: "host".to_owned(),
        actor: format!("host_{}", n % 2),
        action: "pin".to_owned(),
        target: "lamp".to_owned(),
        live: (n > 2).then(|| "demo".parse().unwrap()),
        address: None,
    };
    let all: Vec<Entry> = (1..=4).map(entry).collect();
    ledger.record(&all).await.unwrap();
    ledger.record(&all[..1]).await.unwrap();
    let read = async |filter: AuditFilter, limit| ledger.audit(&main(), &filter, limit).await.unwrap();
    let page = read(AuditFilter::default(), 3).await;
    assert_eq!(page, [all[3].clone(), all[2].clone(), all[1].clone()]);
    let after = Some(page[2].id.clone());
    assert_eq!(read(AuditFilter { after, ..AuditFilter::default() }, 3).await, all[..1]);
    let actor = Some("host_1".to_owned());
    assert_eq!(read(AuditFilter { actor, ..AuditFilter::default() }, 9).await.len(), 2);
    let live = "demo".parse().ok();
    assert_eq!(read(AuditFilter { live, ..AuditFilter::default() }, 9).await.len(), 2);
    assert!(ledger.audit(&"stranger".parse().unwrap(), &AuditFilter::default(), 9).await.unwrap().is_empty());
}
