//! Lives and what is in their bags.

use super::*;

on_each_database! {
    a_live_is_made_once_found_and_changed
    a_merchants_lives_are_listed_newest_first
    nothing_is_made_for_a_merchant_who_is_not_there
    the_bag_keeps_its_order
    which_lives_are_unsettled_is_known
    unsettled_lives_have_a_sale_to_close_or_an_order_to_finish
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
    let refused = ledger
        .start_order(&NewOrder { merchant: stranger(), ..order(1, "ann", 1) }, &Details::default())
        .await;
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

async fn which_lives_are_unsettled_is_known(on: On) {
    let ledger = ledger(&on).await;
    let order = ledger.start_order(&order(1, "ann", 2), &Details::default()).await.unwrap();
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
        ledger.start_order(&order(number, "ann", 1), &Details::default()).await.unwrap();
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
