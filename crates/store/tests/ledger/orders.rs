//! Orders, and what providers say about them.

use super::*;

on_each_database! {
    a_hold_has_one_order
    orders_are_found_by_live_state_and_buyer_newest_first
    an_order_moves_only_as_it_may
    orders_confirmed_together_have_each_their_own_end
    totals_are_by_currency_and_of_sold_orders
    a_callback_is_recorded_once_and_finished_once
    the_first_money_for_an_order_is_remembered
}

async fn a_hold_has_one_order(on: On) {
    let ledger = ledger(&on).await;
    let new = order(1, "ann", 2);
    let started = ledger.start_order(&new, &Details::default()).await.unwrap();
    assert_eq!(
        (&started.order, started.state, started.updated_at),
        (&new, OrderState::Paying, new.created_at)
    );
    let again = NewOrder { id: "order_other".parse().unwrap(), quantity: 1, ..new.clone() };
    assert_eq!(
        ledger.start_order(&again, &Details::default()).await.unwrap(),
        started,
        "the first one stays"
    );
    assert_eq!(ledger.order(&new.id).await.unwrap(), Some(started.clone()));
    assert_eq!(ledger.order_of_payment(&new.payment).await.unwrap(), Some(started));
    assert_eq!(ledger.order(&again.id).await.unwrap(), None);
    assert_eq!(ledger.order_of_payment(&"pay_0".parse().unwrap()).await.unwrap(), None);

    let same_payment = NewOrder { payment: new.payment.clone(), ..order(2, "bob", 1) };
    let two_currencies =
        NewOrder { total: Money { currency: "JPY".parse().unwrap(), ..new.total }, ..order(3, "bob", 1) };
    for bad in [same_payment, two_currencies] {
        let refused = ledger.start_order(&bad, &Details::default()).await;
        assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    }
    let no_sale = NewOrder { sale: "sale_9".parse().unwrap(), ..order(4, "bob", 1) };
    assert!(matches!(ledger.start_order(&no_sale, &Details::default()).await, Err(LedgerError::NotFound(_))));
}

async fn orders_are_found_by_live_state_and_buyer_newest_first(on: On) {
    let ledger = ledger(&on).await;
    for (number, buyer) in [(1, "ann"), (2, "bob"), (3, "ann")] {
        ledger.start_order(&order(number, buyer, 1), &Details::default()).await.unwrap();
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
        ledger.start_order(&new, &Details::default()).await.unwrap();
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
        ledger.start_order(&order(number, "ann", 1), &Details::default()).await.unwrap();
    }
    for number in 7..=8 {
        let last_one = NewOrder { sale: "sale_2".parse().unwrap(), ..order(number, "bob", 1) };
        ledger.start_order(&last_one, &Details::default()).await.unwrap();
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
        ledger.start_order(&new, &Details::default()).await.unwrap();
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
    ledger.start_order(&new, &Details::default()).await.unwrap();
    let (first, second) = (callback("evt_1", &new, 2), callback("evt_2", &new, 1));
    assert_eq!(ledger.record_callback(&first, None).await.unwrap(), CallbackState::New);
    assert_eq!(ledger.record_callback(&second, None).await.unwrap(), CallbackState::New);
    let redelivered = Callback { received_at: UnixMillis(NOW.0 + 99), ..first.clone() };
    assert_eq!(ledger.record_callback(&redelivered, None).await.unwrap(), CallbackState::Unfinished);
    assert_eq!(ledger.unfinished_callbacks(10).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(ledger.unfinished_callbacks(1).await.unwrap(), [second]);
    for _ in 0..2 {
        ledger.finish_callback("sandbox", "evt_1").await.unwrap();
    }
    assert_eq!(ledger.record_callback(&first, None).await.unwrap(), CallbackState::Done);
    assert_eq!(ledger.unfinished_callbacks(10).await.unwrap().len(), 1);

    let mut altered = first;
    altered.event.amount = money(1);
    assert!(matches!(ledger.record_callback(&altered, None).await, Err(LedgerError::Conflict(_))));
    let nobodys = callback("evt_3", &order(9, "ann", 1), 1);
    assert!(matches!(ledger.record_callback(&nobodys, None).await, Err(LedgerError::NotFound(_))));
    assert!(matches!(ledger.finish_callback("sandbox", "evt_9").await, Err(LedgerError::NotFound(_))));
}

async fn the_first_money_for_an_order_is_remembered(on: On) {
    let ledger = ledger(&on).await;
    let order = ledger.start_order(&order(1, "ann", 1), &Details::default()).await.unwrap();
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
