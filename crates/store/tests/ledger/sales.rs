//! Sales: their times, their lines, and that none is oversold.

use super::*;

on_each_database! {
    a_sale_put_again_changes_its_times_only
    a_lives_sales_are_those_that_go_on_or_have_unfinished_orders
    what_concerns_a_sale_that_is_not_there_is_refused
    a_sale_cannot_be_oversold_whatever_the_gate_said
    a_sale_and_its_orders_keep_their_lines
    no_line_is_oversold_whichever_it_is
    units_that_come_back_are_counted_once
    stock_is_added_once_a_key
    a_drawn_sale_keeps_its_seed
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
    ledger.start_order(&paying, &Details::default()).await.unwrap();
    assert_eq!(ids(60_000).await, ["sale_2", "sale_1"]);
    ledger.move_order(&paying.id, OrderState::Expired, NOW).await.unwrap();
    assert_eq!(ids(60_000).await, ["sale_2"]);
    ledger.move_order(&paying.id, OrderState::RefundDue, NOW).await.unwrap();
    assert_eq!(ids(90_000).await, ["sale_1"]);
    ledger.move_order(&paying.id, OrderState::Refunded, NOW).await.unwrap();
    assert!(ids(90_000).await.is_empty());
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

async fn a_sale_cannot_be_oversold_whatever_the_gate_said(on: On) {
    let ledger = ledger(&on).await;
    for number in 1..=4 {
        ledger.start_order(&order(number, "ann", 2), &Details::default()).await.unwrap();
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

/// Sells lamps (line 0, five) and two kinds of shades (lines 1 and 2, three each).
pub(crate) async fn shop_of_bundles(ledger: &SqlLedger) -> Sale {
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
    assert_eq!(ledger.start_order(&new, &Details::default()).await.unwrap().order, new);
    assert_eq!(ledger.start_order(&new, &Details::default()).await.unwrap().order, new);
    assert_eq!(ledger.order(&new.id).await.unwrap().unwrap().order, new);
    assert_eq!(ledger.order_of_payment(&new.payment).await.unwrap().unwrap().order, new);
    let other = bundle(&sale, 2, "1:1");
    ledger.start_order(&other, &Details::default()).await.unwrap();
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
        ledger.start_order(&new, &Details::default()).await.unwrap();
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
    ledger.start_order(&new, &Details::default()).await.unwrap();
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

async fn a_drawn_sale_keeps_its_seed(on: On) {
    let ledger = ledger(&on).await;
    let mut drawn = sale("sale_d", 5);
    drawn.terms.draw = Some(Draw::new(30_000, [1, 2]));
    ledger.put_sale(&drawn).await.unwrap();
    assert_eq!(ledger.recorded(&demo(), &drawn.id).await.unwrap().sale, drawn);
}
