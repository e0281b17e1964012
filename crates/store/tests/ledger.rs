//! The ledger on both databases: every method, asked once and again, and what it must refuse.

#![allow(clippy::unwrap_used)]

mod support;

use haul_commerce::{
    Callback, CallbackState, Coupon, CouponTerms, Draw, EarlyAccess, HoldNotes, Ledger, LedgerError,
    LineTerms, LiveRecord, Mark, NewOrder, OrderCoupon, OrderLine, OrderState, Paid, PaymentEvent,
    PaymentEventKind, Product, Sale, SaleLine, SaleMode, SaleTerms, Totals, Units,
    book::{HoldRecord, HoldState},
    coupon::Discount,
    order_id,
    outbox::{Endpoint, Outbox},
    payment_id,
};
use haul_model::{HoldId, LiveId, Money, SaleId, UnixMillis};
use haul_store::{OpenError, SqlLedger};
use support::{
    TempDir,
    databases::{On, on_each_database},
    postgres::TestPostgres,
};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

on_each_database! {
    a_live_is_made_once_found_and_changed
    a_merchants_lives_are_listed_newest_first
    nothing_is_made_for_a_merchant_who_is_not_there
    the_bag_keeps_its_order
    a_sale_put_again_changes_its_times_only
    a_lives_sales_are_those_that_go_on_or_have_unfinished_orders
    a_hold_has_one_order
    orders_are_found_by_live_state_and_buyer_newest_first
    an_order_moves_only_as_it_may
    a_sale_cannot_be_oversold_whatever_the_gate_said
    orders_confirmed_together_have_each_their_own_end
    totals_are_by_currency_and_of_sold_orders
    a_callback_is_recorded_once_and_finished_once
    many_at_once_wait_for_one_another
    the_first_money_for_an_order_is_remembered
    which_lives_are_unsettled_is_known
    unsettled_lives_have_a_sale_to_close_or_an_order_to_finish
    what_the_gate_said_is_written_once_and_never_by_an_older_word
    what_concerns_a_sale_that_is_not_there_is_refused
    a_sale_and_its_orders_keep_their_lines
    no_line_is_oversold_whichever_it_is
    units_that_come_back_are_counted_once
    stock_is_added_once_a_key
    holds_of_every_kind_are_written_down
    a_coupon_is_used_no_more_often_than_it_may_be_whatever_the_gate_said
    a_coupon_is_made_once_and_changes_as_it_may
    a_drawn_sale_keeps_its_seed
}

fn money(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

fn live(id: &str) -> LiveRecord {
    LiveRecord {
        id: id.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        title: format!("The live {id}"),
        public: true,
        created_at: NOW,
    }
}

fn product(id: &str) -> Product {
    Product {
        id: id.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        title: format!("The {id}"),
        subtitle: "夜市 – for the night market".to_owned(),
        image_url: String::new(),
        list_price: money(2_500),
    }
}

fn sale(id: &str, stock: u32) -> Sale {
    Sale {
        id: id.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        variant: None,
        unit_price: money(1_999),
        more: Vec::new(),
        terms: SaleTerms {
            stock,
            per_buyer: 2,
            hold_ms: 120_000,
            pay_ms: 600_000,
            opens_at: NOW,
            closes_at: UnixMillis(NOW.0 + 60_000),
            ..SaleTerms::default()
        },
    }
}

fn order(number: u64, buyer: &str, quantity: u32) -> NewOrder {
    let hold: HoldId = format!("hold_{number}").parse().unwrap();
    NewOrder {
        id: order_id(&hold),
        payment: payment_id(&hold),
        provider: "sandbox".to_owned(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        sale: "sale_1".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        hold,
        buyer: buyer.parse().unwrap(),
        buyer_name: "Ann O'Hara".to_owned(),
        quantity,
        unit_price: money(1_999),
        total: money(1_999 * i64::from(quantity)),
        coupon: None,
        lines: vec![OrderLine::only(
            "lamp".parse().unwrap(),
            quantity,
            money(1_999),
            money(1_999 * i64::from(quantity)),
        )],
        created_at: UnixMillis(NOW.0 + number),
    }
}

fn demo() -> LiveId {
    "demo".parse().unwrap()
}

/// A new ledger with a live, a lamp and a sale of five.
async fn ledger(on: &On) -> SqlLedger {
    let ledger = on.open().await;
    ledger.ensure_live(&live("demo")).await.unwrap();
    ledger.put_product(&product("lamp")).await.unwrap();
    ledger.put_sale(&sale("sale_1", 5)).await.unwrap();
    ledger
}

fn callback(event: &str, order: &NewOrder, received_at: u64) -> Callback {
    Callback {
        provider: "sandbox".to_owned(),
        event: PaymentEvent {
            event: event.to_owned(),
            payment: order.payment.clone(),
            kind: PaymentEventKind::Paid,
            amount: order.total,
            refund: None,
            reference: None,
        },
        received_at: UnixMillis(NOW.0 + received_at),
    }
}

async fn a_live_is_made_once_found_and_changed(on: On) {
    let ledger = on.open().await;
    assert_eq!(ledger.live(&demo()).await.unwrap(), None);
    assert_eq!(ledger.ensure_live(&live("demo")).await.unwrap(), live("demo"));
    let renamed = LiveRecord { title: "Other".to_owned(), public: false, ..live("demo") };
    assert_eq!(ledger.ensure_live(&renamed).await.unwrap(), live("demo"), "the first one stays");
    assert_eq!(ledger.put_live(&renamed).await.unwrap(), renamed);
    assert_eq!(ledger.live(&demo()).await.unwrap(), Some(renamed));
    assert!(matches!(ledger.put_live(&live("nowhere")).await, Err(LedgerError::NotFound(_))));
}

async fn a_merchants_lives_are_listed_newest_first(on: On) {
    let ledger = on.open().await;
    for (id, after) in [("b", 1), ("a", 3), ("c", 2)] {
        let record = LiveRecord { created_at: UnixMillis(NOW.0 + after), ..live(id) };
        ledger.ensure_live(&record).await.unwrap();
    }
    let ids = async |merchant: &str, limit| {
        let lives = ledger.lives(&merchant.parse().unwrap(), None, limit).await.unwrap();
        lives.into_iter().map(|live| live.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids("main", 10).await, ["a", "c", "b"]);
    assert_eq!(ids("main", 2).await, ["a", "c"]);
    assert!(ids("other", 10).await.is_empty());
}

async fn nothing_is_made_for_a_merchant_who_is_not_there(on: On) {
    let ledger = ledger(&on).await;
    let stranger = || "stranger".parse().unwrap();
    let refused = ledger.ensure_live(&LiveRecord { merchant: stranger(), ..live("new") }).await;
    assert!(matches!(refused, Err(LedgerError::NotFound(_))), "{refused:?}");
    let refused = ledger.ensure_live(&LiveRecord { merchant: stranger(), ..live("demo") }).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    let refused = ledger.put_live(&LiveRecord { merchant: stranger(), ..live("demo") }).await;
    assert!(matches!(refused, Err(LedgerError::NotFound(_))), "{refused:?}");
    let refused = ledger.put_product(&Product { merchant: stranger(), ..product("lamp") }).await;
    assert!(matches!(refused, Err(LedgerError::NotFound(_))), "{refused:?}");
    let refused = ledger.put_sale(&Sale { merchant: stranger(), ..sale("sale_1", 5) }).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_) | LedgerError::NotFound(_))), "{refused:?}");
    let refused = ledger.start_order(&NewOrder { merchant: stranger(), ..order(1, "ann", 1) }).await;
    assert!(matches!(refused, Err(LedgerError::NotFound(_))), "{refused:?}");
}

async fn the_bag_keeps_its_order(on: On) {
    let ledger = ledger(&on).await;
    for id in ["vase", "mug"] {
        ledger.put_product(&product(id)).await.unwrap();
    }
    let bag = async || {
        let bag = ledger.bag(&demo()).await.unwrap();
        bag.into_iter().map(|product| product.id.to_string()).collect::<Vec<_>>()
    };
    for id in ["mug", "lamp", "vase", "mug"] {
        ledger.add_to_bag(&demo(), &id.parse().unwrap()).await.unwrap();
    }
    assert_eq!(bag().await, ["mug", "lamp", "vase"]);
    for _ in 0..2 {
        ledger.remove_from_bag(&demo(), &"mug".parse().unwrap()).await.unwrap();
    }
    ledger.add_to_bag(&demo(), &"mug".parse().unwrap()).await.unwrap();
    assert_eq!(bag().await, ["lamp", "vase", "mug"]);

    let changed = Product { title: "A brighter lamp".to_owned(), list_price: money(1), ..product("lamp") };
    ledger.put_product(&changed).await.unwrap();
    assert_eq!(ledger.bag(&demo()).await.unwrap()[0], changed);

    for (live, product) in [("demo", "nothing"), ("nowhere", "lamp")] {
        let refused = ledger.add_to_bag(&live.parse().unwrap(), &product.parse().unwrap()).await;
        assert!(matches!(refused, Err(LedgerError::NotFound(_))), "{refused:?}");
    }
}

async fn a_sale_put_again_changes_its_times_only(on: On) {
    let ledger = ledger(&on).await;
    let mut again = sale("sale_1", 99);
    again.unit_price = money(1);
    again.terms.opens_at = UnixMillis(NOW.0 + 5);
    again.terms.closes_at = UnixMillis(NOW.0 + 10);
    ledger.put_sale(&again).await.unwrap();
    let mut expected = sale("sale_1", 5);
    (expected.terms.opens_at, expected.terms.closes_at) = (again.terms.opens_at, again.terms.closes_at);
    assert_eq!(ledger.sales(&demo(), NOW).await.unwrap(), [expected]);
    for bad in [
        Sale { product: "nothing".parse().unwrap(), ..sale("sale_2", 5) },
        Sale { live: "nowhere".parse().unwrap(), ..sale("sale_2", 5) },
    ] {
        let refused = ledger.put_sale(&bad).await;
        assert!(matches!(refused, Err(LedgerError::NotFound(_))), "{refused:?}");
    }
}

async fn a_lives_sales_are_those_that_go_on_or_have_unfinished_orders(on: On) {
    let ledger = ledger(&on).await;
    let mut later = sale("sale_2", 5);
    (later.terms.opens_at, later.terms.closes_at) = (UnixMillis(NOW.0 - 5), UnixMillis(NOW.0 + 90_000));
    ledger.put_sale(&later).await.unwrap();
    let ids = async |after: u64| {
        let sales = ledger.sales(&demo(), UnixMillis(NOW.0 + after)).await.unwrap();
        sales.into_iter().map(|sale| sale.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(0).await, ["sale_2", "sale_1"]);
    assert_eq!(ids(60_000).await, ["sale_2"]);
    let paying = order(1, "ann", 1);
    ledger.start_order(&paying).await.unwrap();
    assert_eq!(ids(60_000).await, ["sale_2", "sale_1"]);
    ledger.move_order(&paying.id, OrderState::Expired, NOW).await.unwrap();
    assert_eq!(ids(60_000).await, ["sale_2"]);
    ledger.move_order(&paying.id, OrderState::RefundDue, NOW).await.unwrap();
    assert_eq!(ids(90_000).await, ["sale_1"]);
    ledger.move_order(&paying.id, OrderState::Refunded, NOW).await.unwrap();
    assert!(ids(90_000).await.is_empty());
}

async fn a_hold_has_one_order(on: On) {
    let ledger = ledger(&on).await;
    let new = order(1, "ann", 2);
    let started = ledger.start_order(&new).await.unwrap();
    assert_eq!(
        (&started.order, started.state, started.updated_at),
        (&new, OrderState::Paying, new.created_at)
    );
    let again = NewOrder { id: "order_other".parse().unwrap(), quantity: 1, ..new.clone() };
    assert_eq!(ledger.start_order(&again).await.unwrap(), started, "the first one stays");
    assert_eq!(ledger.order(&new.id).await.unwrap(), Some(started.clone()));
    assert_eq!(ledger.order_of_payment(&new.payment).await.unwrap(), Some(started));
    assert_eq!(ledger.order(&again.id).await.unwrap(), None);
    assert_eq!(ledger.order_of_payment(&"pay_0".parse().unwrap()).await.unwrap(), None);

    let same_payment = NewOrder { payment: new.payment.clone(), ..order(2, "bob", 1) };
    let two_currencies =
        NewOrder { total: Money { currency: "JPY".parse().unwrap(), ..new.total }, ..order(3, "bob", 1) };
    for bad in [same_payment, two_currencies] {
        let refused = ledger.start_order(&bad).await;
        assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    }
    let no_sale = NewOrder { sale: "sale_9".parse().unwrap(), ..order(4, "bob", 1) };
    assert!(matches!(ledger.start_order(&no_sale).await, Err(LedgerError::NotFound(_))));
}

async fn orders_are_found_by_live_state_and_buyer_newest_first(on: On) {
    let ledger = ledger(&on).await;
    for (number, buyer) in [(1, "ann"), (2, "bob"), (3, "ann")] {
        ledger.start_order(&order(number, buyer, 1)).await.unwrap();
    }
    ledger.move_order(&order(2, "bob", 1).id, OrderState::Sold, NOW).await.unwrap();
    ledger.move_order(&order(3, "ann", 1).id, OrderState::Expired, NOW).await.unwrap();
    let holds = |orders: Vec<haul_commerce::Order>| {
        orders.into_iter().map(|order| order.order.hold.to_string()).collect::<Vec<_>>()
    };
    let by_state =
        async |states: &[OrderState], limit| holds(ledger.orders(&demo(), states, limit).await.unwrap());
    assert_eq!(by_state(&[], 10).await, ["hold_3", "hold_2", "hold_1"]);
    assert_eq!(by_state(&[], 2).await, ["hold_3", "hold_2"]);
    assert_eq!(by_state(&[OrderState::Sold], 10).await, ["hold_2"]);
    assert_eq!(by_state(&[OrderState::Paying, OrderState::Expired], 10).await, ["hold_3", "hold_1"]);
    let live = haul_commerce::LiveRef { merchant: haul_model::MerchantId::main(), live: demo() };
    let buyers = ["cid", "ann", "bob"].map(|buyer| buyer.parse().unwrap());
    let bought = ledger.bought(&live, &buyers, 10).await.unwrap();
    let bought: Vec<_> = bought.into_iter().map(|bought| (holds(bought.orders), bought.kept)).collect();
    let of = |holds: &[&str]| holds.iter().map(|hold| (*hold).to_owned()).collect::<Vec<_>>();
    assert_eq!(bought, [(of(&[]), 0), (of(&["hold_3", "hold_1"]), 0), (of(&["hold_2"]), 1)]);
    let latest = ledger.bought(&live, &buyers, 1).await.unwrap();
    assert_eq!(holds(latest[1].orders.clone()), ["hold_3"], "at most as many of each");
    assert!(ledger.bought(&live, &[], 1).await.unwrap().is_empty());
    let elsewhere = ledger.orders(&"other".parse().unwrap(), &[], 10).await.unwrap();
    assert!(elsewhere.is_empty());
}

async fn an_order_moves_only_as_it_may(on: On) {
    use OrderState::{Expired, Paying, RefundDue, Refunded, Sold};
    let allowed = [
        (Paying, Sold),
        (Paying, Expired),
        (Paying, RefundDue),
        (Expired, Sold),
        (Expired, RefundDue),
        (RefundDue, Refunded),
    ];
    let path = |to| match to {
        Paying => vec![],
        Refunded => vec![RefundDue, Refunded],
        other => vec![other],
    };
    let ledger = ledger(&on).await;
    ledger.put_sale(&sale("sale_1", 5)).await.unwrap();
    let states = [Paying, Sold, Expired, RefundDue, Refunded];
    for (number, (from, to)) in
        states.iter().flat_map(|from| states.iter().map(move |to| (*from, *to))).enumerate()
    {
        let sale_id: SaleId = format!("sale_of_{number}").parse().unwrap();
        ledger.put_sale(&sale(sale_id.as_str(), 5)).await.unwrap();
        let new = NewOrder { sale: sale_id, ..order(number as u64, "ann", 1) };
        ledger.start_order(&new).await.unwrap();
        for step in path(from) {
            ledger.move_order(&new.id, step, NOW).await.unwrap();
        }
        let before = ledger.order(&new.id).await.unwrap().unwrap();
        let moved = ledger.move_order(&new.id, to, UnixMillis(NOW.0 + 9)).await;
        let after = ledger.order(&new.id).await.unwrap().unwrap();
        if from == to {
            assert_eq!((moved.unwrap(), &after), (before.clone(), &before), "{from:?} again");
        } else if allowed.contains(&(from, to)) {
            assert_eq!(moved.unwrap(), after, "{from:?} to {to:?}");
            assert_eq!((after.state, after.updated_at), (to, UnixMillis(NOW.0 + 9)));
        } else {
            assert!(matches!(moved, Err(LedgerError::Conflict(_))), "{from:?} to {to:?}: {moved:?}");
            assert_eq!(after, before);
        }
    }
    let missing = ledger.move_order(&"order_0".parse().unwrap(), Sold, NOW).await;
    assert!(matches!(missing, Err(LedgerError::NotFound(_))), "{missing:?}");
}

async fn a_sale_cannot_be_oversold_whatever_the_gate_said(on: On) {
    let ledger = ledger(&on).await;
    for number in 1..=4 {
        ledger.start_order(&order(number, "ann", 2)).await.unwrap();
    }
    for number in 1..=2 {
        let id = order(number, "ann", 2).id;
        ledger.move_order(&id, OrderState::Sold, NOW).await.unwrap();
        // A repeated delivery counts nothing twice.
        ledger.move_order(&id, OrderState::Sold, NOW).await.unwrap();
    }
    // Four of five are sold; two more would be six.
    let id = order(3, "ann", 2).id;
    let refused = ledger.move_order(&id, OrderState::Sold, NOW).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    assert_eq!(ledger.order(&id).await.unwrap().unwrap().state, OrderState::Paying, "nothing was changed");
    ledger.move_order(&id, OrderState::RefundDue, NOW).await.unwrap();
    assert_eq!(
        ledger.totals(&demo()).await.unwrap(),
        Totals { orders: 2, units: 4, revenue: vec![money(4 * 1_999)] }
    );
}

/// First together with others that may be sold, then with such that may not: what each comes to is the same.
async fn orders_confirmed_together_have_each_their_own_end(on: On) {
    let ledger = ledger(&on).await;
    ledger.put_sale(&sale("sale_2", 1)).await.unwrap();
    let listener = Endpoint {
        id: "wh_1".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        url: "https://shop.example/hook".to_owned(),
        kinds: vec!["order.sold".to_owned()],
        secret: "whsec_a".to_owned(),
        old_secret: None,
        disabled: None,
        created_at: NOW,
    };
    ledger.put_endpoint(&listener).await.unwrap();
    for number in 1..=6 {
        ledger.start_order(&order(number, "ann", 1)).await.unwrap();
    }
    for number in 7..=8 {
        let last_one = NewOrder { sale: "sale_2".parse().unwrap(), ..order(number, "bob", 1) };
        ledger.start_order(&last_one).await.unwrap();
    }
    let id = |number| order(number, "ann", 1).id;
    for (number, state) in [(2, OrderState::Expired), (5, OrderState::Expired), (6, OrderState::RefundDue)] {
        ledger.move_order(&id(number), state, NOW).await.unwrap();
    }
    let confirm = async |numbers: &[u64]| {
        let confirmations = numbers.iter().map(|number| {
            let (ledger, id, at) = (ledger.clone(), id(*number), UnixMillis(NOW.0 + 100 + number));
            async move { ledger.move_order(&id, OrderState::Sold, at).await }
        });
        futures_util::future::join_all(confirmations).await
    };
    // Paid in time, paid late, and told twice.
    for (number, sold) in [1, 2, 1].into_iter().zip(confirm(&[1, 2, 1]).await) {
        let sold = sold.unwrap();
        assert_eq!((&sold.order.id, sold.state), (&id(number), OrderState::Sold));
        assert_eq!(sold.updated_at, UnixMillis(NOW.0 + 100 + number));
        assert_eq!(ledger.order(&id(number)).await.unwrap(), Some(sold));
    }
    // The same beside one that was sold before, one whose money is on its way back, one that is unknown, and two of which
    // there is one.
    let ends = confirm(&[3, 1, 4, 5, 6, 99, 7, 8]).await;
    let ends: Vec<&str> = ends
        .iter()
        .map(|end| match end {
            Ok(sold) => match sold.state {
                OrderState::Sold => "sold",
                _ => "another state",
            },
            Err(LedgerError::Conflict(_)) => "conflict",
            Err(LedgerError::NotFound(_)) => "not found",
            Err(LedgerError::Unavailable(_)) => "unavailable",
        })
        .collect();
    let last_one = &ends[6..];
    assert_eq!(&ends[..6], ["sold", "sold", "sold", "sold", "conflict", "not found"]);
    assert!(matches!(last_one, ["sold", "conflict"] | ["conflict", "sold"]), "{last_one:?}");
    assert_eq!(ledger.totals(&demo()).await.unwrap().units, 6);
    let merchant = "main".parse().unwrap();
    let told = ledger.deliveries(&merchant, &listener.id, None, None, 20).await.unwrap();
    let subjects: std::collections::BTreeSet<_> = told.iter().map(|delivery| &delivery.subject).collect();
    assert_eq!((told.len(), subjects.len()), (6, 6), "each sale is told once");
}

async fn totals_are_by_currency_and_of_sold_orders(on: On) {
    let ledger = ledger(&on).await;
    assert_eq!(ledger.totals(&demo()).await.unwrap(), Totals::default());
    let yen = |amount_minor| Money { amount_minor, currency: "JPY".parse().unwrap() };
    ledger.put_sale(&Sale { unit_price: yen(300), ..sale("sale_2", 5) }).await.unwrap();
    let in_yen = NewOrder {
        sale: "sale_2".parse().unwrap(),
        unit_price: yen(300),
        total: yen(600),
        coupon: None,
        lines: vec![OrderLine::only("lamp".parse().unwrap(), 2, yen(300), yen(600))],
        ..order(2, "bob", 2)
    };
    for new in [order(1, "ann", 1), in_yen, order(3, "cy", 1)] {
        ledger.start_order(&new).await.unwrap();
    }
    for number in [1, 2] {
        ledger.move_order(&order(number, "x", 1).id, OrderState::Sold, NOW).await.unwrap();
    }
    assert_eq!(
        ledger.totals(&demo()).await.unwrap(),
        Totals { orders: 2, units: 3, revenue: vec![money(1_999), yen(600)] }
    );
}

async fn a_callback_is_recorded_once_and_finished_once(on: On) {
    let ledger = ledger(&on).await;
    let new = order(1, "ann", 1);
    ledger.start_order(&new).await.unwrap();
    let (first, second) = (callback("evt_1", &new, 2), callback("evt_2", &new, 1));
    assert_eq!(ledger.record_callback(&first).await.unwrap(), CallbackState::New);
    assert_eq!(ledger.record_callback(&second).await.unwrap(), CallbackState::New);
    let redelivered = Callback { received_at: UnixMillis(NOW.0 + 99), ..first.clone() };
    assert_eq!(ledger.record_callback(&redelivered).await.unwrap(), CallbackState::Unfinished);
    assert_eq!(ledger.unfinished_callbacks(10).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(ledger.unfinished_callbacks(1).await.unwrap(), [second]);
    for _ in 0..2 {
        ledger.finish_callback("sandbox", "evt_1").await.unwrap();
    }
    assert_eq!(ledger.record_callback(&first).await.unwrap(), CallbackState::Done);
    assert_eq!(ledger.unfinished_callbacks(10).await.unwrap().len(), 1);

    let mut altered = first;
    altered.event.amount = money(1);
    assert!(matches!(ledger.record_callback(&altered).await, Err(LedgerError::Conflict(_))));
    let nobodys = callback("evt_3", &order(9, "ann", 1), 1);
    assert!(matches!(ledger.record_callback(&nobodys).await, Err(LedgerError::NotFound(_))));
    assert!(matches!(ledger.finish_callback("sandbox", "evt_9").await, Err(LedgerError::NotFound(_))));
}

#[tokio::test]
async fn a_file_is_made_with_its_directories_and_found_again() {
    let dir = TempDir::new();
    let url = format!("sqlite://{}/a/b/haul.db", dir.path().display());
    let ledger = SqlLedger::open(&url).await.unwrap();
    ledger.ping().await.unwrap();
    ledger.ensure_live(&live("demo")).await.unwrap();
    ledger.put_product(&product("lamp")).await.unwrap();
    ledger.put_sale(&sale("sale_1", 5)).await.unwrap();
    ledger.start_order(&order(1, "ann", 1)).await.unwrap();
    ledger.move_order(&order(1, "ann", 1).id, OrderState::Sold, NOW).await.unwrap();
    // Not closed: a process that is killed doesn't either.
    let again = SqlLedger::open(&url).await.unwrap();
    assert_eq!(again.sales(&demo(), NOW).await.unwrap(), [sale("sale_1", 5)]);
    assert_eq!(again.totals(&demo()).await.unwrap().orders, 1);
    assert_eq!(again.bag(&demo()).await.unwrap(), []);
}

async fn many_at_once_wait_for_one_another(on: On) {
    let ledger = ledger(&on).await;
    let buyers = (0..20).map(|number| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let new = order(number, "ann", 1);
            ledger.start_order(&new).await.unwrap();
            ledger.orders(&demo(), &[], 50).await.unwrap();
            ledger.move_order(&new.id, OrderState::Sold, NOW).await.is_ok()
        })
    });
    let sold = futures_util::future::join_all(buyers.collect::<Vec<_>>()).await;
    assert_eq!(sold.into_iter().filter(|sold| *sold.as_ref().unwrap()).count(), 5);
    assert_eq!(ledger.totals(&demo()).await.unwrap().units, 5);
}

#[tokio::test]
async fn other_databases_are_refused_with_what_to_do() {
    for (url, says) in [
        ("postgres://shop:secret@db:port/haul", "port"),
        ("mysql://shop:secret@db/haul", "sqlite://path"),
        ("data/haul.db", "sqlite://path"),
        ("sqlite://data/haul.db?speed=high", "speed"),
    ] {
        let error = SqlLedger::open(url).await.unwrap_err();
        assert!(matches!(error, OpenError::Address { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains(says) && !error.to_string().contains("secret"), "{error}");
    }
    let dir = TempDir::new();
    let file = dir.path().join("text.db");
    std::fs::write(&file, "this is not a database, and long enough to have a header of its own".repeat(20))
        .unwrap();
    let error = SqlLedger::open(&format!("sqlite://{}", file.display())).await.unwrap_err();
    assert!(matches!(error, OpenError::Ledger { .. }), "{error:?}");
}

async fn the_first_money_for_an_order_is_remembered(on: On) {
    let ledger = ledger(&on).await;
    let order = ledger.start_order(&order(1, "ann", 1)).await.unwrap();
    assert_eq!(order.paid, None);
    let paid = |event: &str, amount| Paid { event: event.to_owned(), amount: money(amount) };
    for (event, amount) in [("first", 5), ("second", 7), ("first", 5)] {
        let found = ledger.record_paid(&order.order.id, &paid(event, amount)).await.unwrap();
        assert_eq!(found.paid, Some(paid("first", 5)));
    }
    let moved = ledger.move_order(&order.order.id, OrderState::RefundDue, NOW).await.unwrap();
    assert_eq!(moved.paid, Some(paid("first", 5)));
    let unknown = ledger.record_paid(&"order_none".parse().unwrap(), &paid("x", 1)).await;
    assert!(matches!(unknown, Err(LedgerError::NotFound(_))), "{unknown:?}");
}

async fn which_lives_are_unsettled_is_known(on: On) {
    let ledger = ledger(&on).await;
    let order = ledger.start_order(&order(1, "ann", 2)).await.unwrap();
    ledger.ensure_live(&live("quiet")).await.unwrap();
    let long_after = UnixMillis(NOW.0 + 86_400_000);
    let unsettled = async |now| -> Vec<String> {
        let lives = ledger.unsettled_lives(now, 10).await.unwrap();
        lives.iter().map(|live| live.id.to_string()).collect()
    };
    assert_eq!(unsettled(NOW).await, ["demo"], "its sale is open");
    assert_eq!(unsettled(long_after).await, ["demo"], "its order is being paid");
    ledger.move_order(&order.order.id, OrderState::Sold, NOW).await.unwrap();
    assert_eq!(unsettled(long_after).await, [""; 0]);
}

async fn unsettled_lives_have_a_sale_to_close_or_an_order_to_finish(on: On) {
    let ledger = ledger(&on).await;
    // A newer live with two sales that go on after the demo's, and a newest one with nothing to do.
    for (id, after) in [("newer", 1), ("idle", 2)] {
        let record = LiveRecord { created_at: UnixMillis(NOW.0 + after), ..live(id) };
        ledger.ensure_live(&record).await.unwrap();
    }
    for id in ["sale_2", "sale_3"] {
        let mut later = Sale { live: "newer".parse().unwrap(), ..sale(id, 5) };
        later.terms.closes_at = UnixMillis(NOW.0 + 90_000);
        ledger.put_sale(&later).await.unwrap();
    }
    let ids = async |after: u64, limit: u32| {
        let lives = ledger.unsettled_lives(UnixMillis(NOW.0 + after), limit).await.unwrap();
        lives.into_iter().map(|live| live.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(0, 10).await, ["newer", "demo"]);
    assert_eq!(ids(0, 1).await, ["newer"]);
    assert_eq!(ids(60_000, 10).await, ["newer"]);
    for number in 1..=2 {
        ledger.start_order(&order(number, "ann", 1)).await.unwrap();
    }
    assert_eq!(ids(59_999, 10).await, ["newer", "demo"], "each once, for whatever reasons");
    assert_eq!(ids(90_000, 10).await, ["demo"]);
    let (first, second) = (order(1, "ann", 1).id, order(2, "ann", 1).id);
    ledger.move_order(&first, OrderState::Sold, NOW).await.unwrap();
    ledger.move_order(&second, OrderState::RefundDue, NOW).await.unwrap();
    assert_eq!(ids(90_000, 10).await, ["demo"], "money is to go back");
    ledger.move_order(&second, OrderState::Refunded, NOW).await.unwrap();
    assert!(ids(90_000, 10).await.is_empty());
}

fn record(number: u32, state: HoldState) -> HoldRecord {
    HoldRecord {
        hold: format!("hold_{number}").parse().unwrap(),
        buyer: "ann".parse().unwrap(),
        units: 1.into(),
        made: u64::from(number),
        state,
        deadline: UnixMillis(NOW.0 + u64::from(number)),
        order: None,
        extended: false,
        retaken: false,
        unreserved: false,
        returned: None,
        coupon: None,
    }
}

async fn what_the_gate_said_is_written_once_and_never_by_an_older_word(on: On) {
    let ledger = ledger(&on).await;
    let sale_1: SaleId = "sale_1".parse().unwrap();
    let mark = |sequence| Mark { epoch: 1, sequence };
    let note = async |sequence, holds: Vec<(Mark, HoldRecord)>| {
        let clock = UnixMillis(NOW.0 + sequence);
        let notes = HoldNotes { live: demo(), sale: sale_1.clone(), mark: mark(sequence), clock, holds };
        ledger.record_holds(&[notes]).await
    };
    assert_eq!(ledger.gate_mark(&demo(), &sale_1).await, Ok(Mark::default()));
    // More than one statement takes.
    let many = (0..1_200).map(|number| (mark(5), record(number, HoldState::Held))).collect();
    note(5, many).await.unwrap();
    note(7, vec![(mark(7), record(1, HoldState::Released)), (mark(7), record(2, HoldState::Held))])
        .await
        .unwrap();
    note(6, vec![(mark(6), record(1, HoldState::Paying))]).await.unwrap();
    assert_eq!(ledger.gate_mark(&demo(), &sale_1).await, Ok(mark(7)));
    let recorded = ledger.recorded(&demo(), &sale_1).await.unwrap();
    assert_eq!(
        (recorded.mark, recorded.clock, recorded.holds.len()),
        (mark(7), UnixMillis(NOW.0 + 7), 1_200)
    );
    let find =
        |number| recorded.holds.iter().find(|known| known.hold == record(number, HoldState::Held).hold);
    assert_eq!(find(1), Some(&record(1, HoldState::Released)), "the older word did not count");
    assert_eq!(find(2), Some(&record(2, HoldState::Held)));
    // A new epoch counts, whatever its sequence.
    let rebuilt = HoldNotes {
        live: demo(),
        sale: sale_1.clone(),
        mark: Mark { epoch: 2, sequence: 1 },
        clock: NOW,
        holds: vec![(Mark { epoch: 2, sequence: 1 }, record(2, HoldState::Released))],
    };
    ledger.record_holds(&[rebuilt]).await.unwrap();
    assert_eq!(ledger.gate_mark(&demo(), &sale_1).await, Ok(Mark { epoch: 2, sequence: 1 }));
    ledger.forget_holds(&demo(), UnixMillis(NOW.0 + 2)).await.unwrap();
    let left = ledger.recorded(&demo(), &sale_1).await.unwrap();
    assert_eq!(left.holds.len(), 1_198, "hold 1 is over, and so is hold 0, whose end nobody wrote down");
    assert_eq!(left.clock, UnixMillis(NOW.0 + 7), "the clock does not go back");
}

async fn what_concerns_a_sale_that_is_not_there_is_refused(on: On) {
    let ledger = ledger(&on).await;
    let none: SaleId = "sale_none".parse().unwrap();
    let notes = HoldNotes {
        live: demo(),
        sale: none.clone(),
        mark: Mark { epoch: 1, sequence: 1 },
        clock: NOW,
        holds: Vec::new(),
    };
    assert!(matches!(ledger.record_holds(&[notes]).await, Err(LedgerError::NotFound(_))));
    assert!(matches!(ledger.gate_mark(&demo(), &none).await, Err(LedgerError::NotFound(_))));
    assert!(matches!(ledger.recorded(&demo(), &none).await, Err(LedgerError::NotFound(_))));
}

/// Sells lamps (line 0, five) and two kinds of shades (lines 1 and 2, three each).
async fn shop_of_bundles(ledger: &SqlLedger) -> Sale {
    ledger.put_product(&product("shade")).await.unwrap();
    let shade = |variant: &str| SaleLine {
        product: "shade".parse().unwrap(),
        variant: Some(variant.parse().unwrap()),
        unit_price: money(500),
    };
    let further = LineTerms { stock: 3, per_buyer: 2 };
    let plain = sale("bundles", 5);
    let bundles = Sale {
        more: vec![shade("red"), shade("blue")],
        terms: SaleTerms {
            more: vec![further, further],
            mode: SaleMode::FirstPaid,
            early: vec![EarlyAccess { tier: "gold".parse().unwrap(), ms: 3_000 }],
            offer_ms: Some(9_000),
            ..plain.terms.clone()
        },
        ..plain
    };
    ledger.put_sale(&bundles).await.unwrap();
    bundles
}

/// An order of these units of that shop.
fn bundle(sale: &Sale, number: u64, units: &str) -> NewOrder {
    let lines = sale.order_lines(&units.parse().unwrap()).unwrap();
    let quantity = lines.iter().map(|line| line.quantity).sum();
    let first = &lines[0];
    NewOrder {
        sale: sale.id.clone(),
        product: first.product.clone(),
        unit_price: first.unit_price,
        quantity,
        total: haul_commerce::price::sum(&lines).unwrap(),
        coupon: None,
        lines,
        ..order(number, "ann", quantity)
    }
}

async fn a_sale_and_its_orders_keep_their_lines(on: On) {
    let ledger = ledger(&on).await;
    let sale = shop_of_bundles(&ledger).await;
    let sales = ledger.sales(&demo(), NOW).await.unwrap();
    assert_eq!(sales.iter().find(|found| found.id == sale.id), Some(&sale));
    let paused = SaleTerms { paused: true, stock: 99, ..sale.terms.clone() };
    ledger.put_sale(&Sale { terms: paused, ..sale.clone() }).await.unwrap();
    let recorded = ledger.recorded(&demo(), &sale.id).await.unwrap();
    assert_eq!(
        recorded.sale.terms,
        SaleTerms { paused: true, ..sale.terms.clone() },
        "stock is added otherwise"
    );

    let new = bundle(&sale, 1, "0:1+2:2");
    assert_eq!(new.total, money(1_999 + 1_000));
    assert_eq!(ledger.start_order(&new).await.unwrap().order, new);
    assert_eq!(ledger.start_order(&new).await.unwrap().order, new);
    assert_eq!(ledger.order(&new.id).await.unwrap().unwrap().order, new);
    assert_eq!(ledger.order_of_payment(&new.payment).await.unwrap().unwrap().order, new);
    let other = bundle(&sale, 2, "1:1");
    ledger.start_order(&other).await.unwrap();
    let mut listed: Vec<_> =
        ledger.orders(&demo(), &[], 9).await.unwrap().into_iter().map(|one| one.order).collect();
    listed.sort_by_key(|order| order.created_at);
    assert_eq!(listed, [new, other]);
}

async fn no_line_is_oversold_whichever_it_is(on: On) {
    let ledger = ledger(&on).await;
    let sale = shop_of_bundles(&ledger).await;
    let sell = async |number, units| {
        let new = bundle(&sale, number, units);
        ledger.start_order(&new).await.unwrap();
        ledger.move_order(&new.id, OrderState::Sold, NOW).await
    };
    sell(1, "0:1+2:2").await.unwrap();
    assert!(matches!(sell(2, "0:1+2:2").await, Err(LedgerError::Conflict(_))), "four of three shades");
    sell(3, "0:4+2:1").await.unwrap();
    let recorded = ledger.recorded(&demo(), &sale.id).await.unwrap();
    assert_eq!(recorded.sold, [5, 0, 3], "nothing of the refused one was counted");
}

async fn units_that_come_back_are_counted_once(on: On) {
    let ledger = ledger(&on).await;
    let sale = shop_of_bundles(&ledger).await;
    let new = bundle(&sale, 1, "0:2+1:3");
    ledger.start_order(&new).await.unwrap();
    let back = |text: &str| -> Units { text.parse().unwrap() };
    let early = ledger.restock(&new.id, "k0", Some(&back("1")), NOW).await;
    assert!(matches!(early, Err(LedgerError::Conflict(_))), "it is not sold yet");
    ledger.move_order(&new.id, OrderState::Sold, NOW).await.unwrap();
    for _ in 0..2 {
        let order = ledger.restock(&new.id, "k1", Some(&back("1:1")), NOW).await.unwrap();
        assert_eq!(order.returned, Some(back("1:1")));
    }
    let other = ledger.restock(&new.id, "k1", Some(&back("1:2")), NOW).await;
    assert!(matches!(other, Err(LedgerError::Conflict(_))), "another wish under the same key");
    for many in ["1:3", "0:3", "2:1", "0:0"] {
        let refused = ledger.restock(&new.id, "many", Some(&back(many)), NOW).await;
        assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{many}");
    }
    assert_eq!(ledger.recorded(&demo(), &sale.id).await.unwrap().sold, [2, 2, 0]);
    let due = ledger.restocks_due(&demo(), 9).await.unwrap();
    assert_eq!(due.len(), 1);
    let all = ledger.restock(&new.id, "k2", None, NOW).await.unwrap();
    assert_eq!(all.returned, Some(back("0:2+1:3")));
    // What the gate was told of is not all of it.
    ledger.restock_told(&new.id, due[0].returned.as_ref().unwrap()).await.unwrap();
    assert_eq!(ledger.restocks_due(&demo(), 9).await.unwrap().len(), 1);
    ledger.restock_told(&new.id, all.returned.as_ref().unwrap()).await.unwrap();
    assert_eq!(ledger.restocks_due(&demo(), 9).await.unwrap(), []);
    assert_eq!(ledger.recorded(&demo(), &sale.id).await.unwrap().sold, [0, 0, 0]);
    assert!(matches!(ledger.restock(&new.id, "k3", None, NOW).await, Err(LedgerError::Conflict(_))));
    assert!(matches!(
        ledger.restock(&"order_0".parse().unwrap(), "k", None, NOW).await,
        Err(LedgerError::NotFound(_))
    ));
}

async fn stock_is_added_once_a_key(on: On) {
    let ledger = ledger(&on).await;
    let sale = shop_of_bundles(&ledger).await;
    for _ in 0..2 {
        let more = ledger.add_stock(&demo(), &sale.id, "k1", 2, 4, NOW).await.unwrap();
        assert_eq!((more.terms.stock, more.terms.more[1].stock), (5, 7));
    }
    let more = ledger.add_stock(&demo(), &sale.id, "k2", 0, 1, NOW).await.unwrap();
    assert_eq!(more.terms.stock, 6);
    for (line, units) in [(0, 2), (1, 1)] {
        let other = ledger.add_stock(&demo(), &sale.id, "k2", line, units, NOW).await;
        assert!(matches!(other, Err(LedgerError::Conflict(_))), "{other:?}");
    }
    let none = ledger.add_stock(&demo(), &sale.id, "k3", 9, 1, NOW).await;
    assert!(matches!(none, Err(LedgerError::NotFound(_))), "{none:?}");
    let far = ledger.add_stock(&demo(), &sale.id, "k4", 0, 10_000_000, NOW).await;
    assert!(matches!(far, Err(LedgerError::Conflict(_))), "{far:?}");
    assert_eq!(ledger.add_stock(&demo(), &sale.id, "k2", 0, 1, NOW).await.unwrap().terms.stock, 6);
}

async fn holds_of_every_kind_are_written_down(on: On) {
    let ledger = ledger(&on).await;
    let sale = shop_of_bundles(&ledger).await;
    let kinds = [
        HoldRecord { units: "0:1+2:1".parse().unwrap(), ..record(1, HoldState::Held) },
        HoldRecord { unreserved: true, ..record(2, HoldState::Paying) },
        HoldRecord { units: "1:1".parse().unwrap(), ..record(3, HoldState::Waiting) },
        HoldRecord { units: 2.into(), returned: Some(1.into()), ..record(4, HoldState::Sold) },
    ];
    let mark = Mark { epoch: 1, sequence: 9 };
    let holds = kinds.iter().map(|record| (mark, record.clone())).collect();
    let notes = HoldNotes { live: demo(), sale: sale.id.clone(), mark, clock: NOW, holds };
    ledger.record_holds(&[notes]).await.unwrap();
    let mut found = ledger.recorded(&demo(), &sale.id).await.unwrap().holds;
    found.sort_by(|a, b| a.hold.cmp(&b.hold));
    assert_eq!(found, kinds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_make_the_tables_once() {
    let dir = TempDir::new();
    let file = format!("sqlite://{}/haul.db", dir.path().display());
    for url in [file, TestPostgres::any().database().await] {
        for opened in futures_util::future::join_all((0..4).map(|_| SqlLedger::open(&url))).await {
            opened.unwrap();
        }
    }
}

#[tokio::test]
async fn a_postgres_that_could_lose_what_it_acknowledged_is_named() {
    let url = TestPostgres::any().database().await;
    assert_eq!(SqlLedger::open(&url).await.unwrap().weaknesses(), [""; 0]);
    let weak = format!("{url}?options=-csynchronous_commit%3Doff");
    let told = SqlLedger::open(&weak).await.unwrap();
    assert!(matches!(told.weaknesses(), [one] if one.starts_with("synchronous_commit")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_restarts_in_the_middle_loses_nothing_it_acknowledged() {
    let mut server = TestPostgres::own();
    let ledger = SqlLedger::open(&server.database().await).await.unwrap();
    ledger.ensure_live(&live("demo")).await.unwrap();
    ledger.put_product(&product("lamp")).await.unwrap();
    ledger.put_sale(&sale("sale_1", 150)).await.unwrap();
    let orders: Vec<_> = (0..200).map(|number| order(number, "ann", 1)).collect();
    for one in &orders {
        ledger.start_order(one).await.unwrap();
    }
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let buyers: Vec<_> = orders
        .iter()
        .map(|one| {
            let (ledger, id, told) = (ledger.clone(), one.id.clone(), told.clone());
            // As the worker that settles payments does: again, until there is an answer.
            tokio::spawn(async move {
                let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
                loop {
                    match ledger.move_order(&id, OrderState::Sold, NOW).await {
                        Err(LedgerError::Unavailable(_)) => {
                            assert!(std::time::Instant::now() < until, "it does not come back");
                            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                        }
                        answer => {
                            let _ = told.send(());
                            return (id, answer.map(|order| order.state));
                        }
                    }
                }
            })
        })
        .collect();
    // When the first has its answer, others are under way.
    heard.recv().await.unwrap();
    server.kill();
    server.start_again();
    let mut sold = 0;
    for buyer in buyers {
        let (id, answer) = buyer.await.unwrap();
        let state = ledger.order(&id).await.unwrap().unwrap().state;
        match answer {
            Ok(OrderState::Sold) => {
                assert_eq!(state, OrderState::Sold);
                sold += 1;
            }
            // Only for want of stock.
            Err(LedgerError::Conflict(_)) => assert_eq!(state, OrderState::Paying),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sold, ledger.totals(&demo()).await.unwrap().units), (150, 150));
}

#[tokio::test]
async fn postgres_is_spoken_to_with_tls_and_its_certificate_is_checked() {
    let dir = TempDir::new();
    let sign = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca =
            rcgen::CertifiedIssuer::self_signed(parameters, rcgen::KeyPair::generate().unwrap()).unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, ca.pem()).unwrap();
        (ca, file.to_string_lossy().into_owned())
    };
    let ((ca, trusted), (_, stranger)) = (sign("ca.pem"), sign("stranger.pem"));
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &ca).unwrap();
    let server = TestPostgres::with_tls(&certificate.pem(), &key.serialize_pem());
    let url = server.database().await;
    let by_name = url.replace("127.0.0.1", "localhost");
    let with = async |url: &str, root: &str| {
        SqlLedger::open(&format!("{url}?sslmode=verify-full&sslrootcert={root}")).await
    };
    let ledger = with(&by_name, &trusted).await.unwrap();
    ledger.ensure_live(&live("demo")).await.unwrap();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let one = format!("{by_name}?sslmode=verify-full&sslrootcert={trusted}");
    let pool = sqlx::PgPool::connect(&one).await.unwrap();
    assert!(sqlx::query_scalar::<_, bool>(encrypted).fetch_one(&pool).await.unwrap());
    // Signed by somebody else, or for another name.
    for refused in [with(&by_name, &stranger).await, with(&url, &trusted).await] {
        assert!(matches!(refused, Err(OpenError::Ledger { .. })), "{refused:?}");
    }
}

fn coupon(code: &str, limit: u32, per_buyer: u32) -> Coupon {
    Coupon {
        code: code.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        live: demo(),
        discount: Discount::Percent(10),
        currency: "EUR".parse().unwrap(),
        minimum_minor: 500,
        sale: Some("sale_1".parse().unwrap()),
        products: vec!["lamp".parse().unwrap(), "tea".parse().unwrap()],
        terms: CouponTerms {
            limit,
            per_buyer,
            valid_from: NOW,
            valid_until: UnixMillis(NOW.0 + 60_000),
            closed: false,
        },
        created_at: NOW,
    }
}

/// The order with a coupon that takes 199 off.
fn with_coupon(order: NewOrder) -> NewOrder {
    let coupon = OrderCoupon { code: "TEN".parse().unwrap(), amount: money(199) };
    NewOrder { total: money(order.total.amount_minor - 199), coupon: Some(coupon), ..order }
}

async fn a_coupon_is_used_no_more_often_than_it_may_be_whatever_the_gate_said(on: On) {
    let ledger = ledger(&on).await;
    ledger.put_coupon(&coupon("TEN", 2, 1)).await.unwrap();
    let used = async || {
        let known = ledger.coupon(&demo(), &"TEN".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(known.counted, known.paying + known.sold);
        (known.paying, known.sold)
    };
    let (first, second) = (with_coupon(order(1, "ann", 1)), with_coupon(order(2, "bob", 1)));
    let made = ledger.start_order(&first).await.unwrap();
    assert_eq!(made.order, first, "the coupon and its amount are kept beside the lines' whole prices");
    assert_eq!(ledger.order(&first.id).await.unwrap(), Some(made));
    ledger.start_order(&first).await.unwrap();
    assert_eq!(used().await, (1, 0), "asked again, it is used once");
    let again = ledger.start_order(&with_coupon(order(3, "ann", 1))).await;
    assert!(matches!(again, Err(LedgerError::Conflict(_))), "one a buyer: {again:?}");
    ledger.start_order(&second).await.unwrap();
    let third = with_coupon(order(4, "cid", 1));
    let refused = ledger.start_order(&third).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    assert_eq!(ledger.order(&third.id).await.unwrap(), None, "nothing of it is there");
    ledger.move_order(&first.id, OrderState::Sold, NOW).await.unwrap();
    ledger.move_order(&second.id, OrderState::Expired, NOW).await.unwrap();
    assert_eq!(used().await, (0, 1));
    ledger.start_order(&third).await.unwrap();
    let late = ledger.move_order(&second.id, OrderState::Sold, NOW).await;
    assert!(matches!(late, Err(LedgerError::Conflict(_))), "paid late, and no use is left: {late:?}");
    ledger.move_order(&second.id, OrderState::RefundDue, NOW).await.unwrap();
    ledger.move_order(&third.id, OrderState::RefundDue, NOW).await.unwrap();
    assert_eq!(used().await, (0, 1), "money that goes back uses nothing");
}

async fn a_coupon_is_made_once_and_changes_as_it_may(on: On) {
    let ledger = ledger(&on).await;
    let made = coupon("TEN", 2, 1);
    assert_eq!(ledger.put_coupon(&made).await.unwrap(), made);
    let later = Coupon { created_at: UnixMillis(NOW.0 + 5), ..made.clone() };
    assert_eq!(ledger.put_coupon(&later).await.unwrap(), made, "a retry a moment later");
    let other = Coupon { discount: Discount::Amount(100), ..made.clone() };
    let refused = ledger.put_coupon(&other).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    let closed = CouponTerms { closed: true, limit: 1, ..made.terms.clone() };
    let changed = ledger.change_coupon(&demo(), &made.code, &closed).await.unwrap();
    assert_eq!(changed.terms, CouponTerms { closed: true, ..made.terms.clone() }, "uses only grow");
    let unknown = ledger.change_coupon(&demo(), &"NONE".parse().unwrap(), &closed).await;
    assert!(matches!(unknown, Err(LedgerError::NotFound(_))), "{unknown:?}");
    let amount = Coupon { code: "FIVE".parse().unwrap(), sale: None, products: Vec::new(), ..other };
    ledger.put_coupon(&amount).await.unwrap();
    let all: Vec<Coupon> =
        ledger.coupons(&demo()).await.unwrap().into_iter().map(|known| known.coupon).collect();
    assert_eq!(all, [amount, changed]);
}

async fn a_drawn_sale_keeps_its_seed(on: On) {
    let ledger = ledger(&on).await;
    let mut drawn = sale("sale_d", 5);
    drawn.terms.draw = Some(Draw::new(30_000, [1, 2]));
    ledger.put_sale(&drawn).await.unwrap();
    assert_eq!(ledger.recorded(&demo(), &drawn.id).await.unwrap().sale, drawn);
}
