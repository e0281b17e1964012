//! What follows from orders: divisions, milestones, follow-ups, badges, metrics.

use std::time::Duration;

use haul_commerce::{
    Coupon, CouponTerms, Ledger, LineTerms, NewOrder, NewRefund, Order, OrderCoupon, OrderLine, OrderState,
    Paid, Parts, RefundOrigin, RefundStep, Refunds, Sale, SaleLine, SaleTerms,
    attribution::{Creator, CreatorKind, CreatorPut, Creators, Rule, Touch, TouchKind},
    bookings::Bookings,
    buyers::{Buyers, Details, Known},
    coupon::Discount,
    follow::{Follower, Rules, Turn, follow},
    followup::FollowupRule,
    insight::{Fact, FactLine, Insight, Scope, Sold, recompute},
    milestones::Milestones,
    notice::Notices,
    order_id,
    outbox::{DeliveryState, Endpoint, Outbox},
    payment_id,
    split::{Shares, Split},
};
use haul_model::{HoldId, OrderId};

use super::*;

on_each_database! {
    a_sold_order_is_booked_for_who_brought_its_buyer_and_once
    milestones_are_told_once_a_buyer
    what_went_back_is_no_step_to_a_milestone
    a_follow_up_is_told_when_it_is_due_once_and_not_before
    what_a_refund_has_named_no_other_takes
    a_product_that_is_wholly_paid_back_is_not_asked_after
    metrics_are_what_orders_say_when_all_are_added_up_again
    a_code_is_one_creators
    touches_of_what_is_not_there_are_left_out
    a_notice_is_told_to_webhooks_once_and_apart_from_orders
    who_has_bought_is_listed_and_counted_over_all_lives
}

pub(super) fn money(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

fn rules() -> Rules {
    let day = Duration::from_secs(86_400);
    Rules {
        attribution: Rule { click_window: 7 * day, join_window: day },
        shares: Shares { platform_bps: 500, agency_bps: 300, creator_bps: 1_000 },
        milestones: Milestones { orders: vec![1, 2], spent: vec![money(15_000)] },
    }
}

fn mia() -> Creator {
    Creator {
        id: "mia".parse().unwrap(),
        merchant: main_merchant(),
        name: "Mia".to_owned(),
        kind: CreatorKind::Kol,
        code: "mia-live".to_owned(),
        agency: Some("stars".parse().unwrap()),
        buyer: None,
        creator_bps: None,
        active: true,
    }
}

fn touch(kind: TouchKind, creator: Option<&str>, buyer: &str) -> (MerchantId, Touch) {
    let touch = Touch {
        kind,
        creator: creator.map(|creator| creator.parse().unwrap()),
        buyer: Some(buyer.parse().unwrap()),
        live: "demo".parse().unwrap(),
        product: None,
        hold: None,
        at: NOW,
    };
    (main_merchant(), touch)
}

/// A shop with a lamp on sale, and Mia, who has brought Ann.
pub(super) async fn shop(on: &On) -> SqlLedger {
    let store = store(on).await;
    store.put_product(&listing("lamp", &[]).product).await.unwrap();
    let sale = Sale {
        id: "sale_1".parse().unwrap(),
        merchant: main_merchant(),
        live: "demo".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        variant: None,
        unit_price: money(9_999),
        more: Vec::new(),
        terms: SaleTerms {
            stock: 50,
            per_buyer: 50,
            hold_ms: 1_000,
            pay_ms: 1_000,
            opens_at: NOW,
            closes_at: UnixMillis(NOW.0 + 60_000),
            ..SaleTerms::default()
        },
    };
    store.put_sale(&sale).await.unwrap();
    assert_eq!(store.put_creator(&mia()).await.unwrap(), CreatorPut::Done);
    store.record_touches(&[touch(TouchKind::Join, Some("mia"), "ann")]).await.unwrap();
    store
}

pub(super) async fn sell(store: &SqlLedger, number: u32, buyer: &str) -> OrderId {
    sell_at(store, number, buyer, UnixMillis(NOW.0 + u64::from(number))).await
}

pub(super) fn order(number: u32, buyer: &str, at: UnixMillis) -> NewOrder {
    let hold: HoldId = format!("hold_{number}").parse().unwrap();
    NewOrder {
        id: order_id(&hold),
        payment: payment_id(&hold),
        provider: "sandbox".to_owned(),
        merchant: main_merchant(),
        live: "demo".parse().unwrap(),
        sale: "sale_1".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        hold,
        buyer: buyer.parse().unwrap(),
        buyer_name: buyer.to_owned(),
        quantity: 1,
        unit_price: money(9_999),
        total: money(9_999),
        coupon: None,
        lines: vec![OrderLine::only("lamp".parse().unwrap(), 1, money(9_999), money(9_999))],
        created_at: at,
    }
}

async fn sell_at(store: &SqlLedger, number: u32, buyer: &str, at: UnixMillis) -> OrderId {
    let order = order(number, buyer, at);
    store.start_order(&order, &Details::default()).await.unwrap();
    store.move_order(&order.id, OrderState::Sold, order.created_at).await.unwrap();
    order.id
}

/// An order of a lamp and two mugs for 2,999.
async fn sell_both(store: &SqlLedger, number: u32, buyer: &str, at: UnixMillis) -> OrderId {
    store.put_product(&listing("mug", &[]).product).await.unwrap();
    let line = |product: &str, unit_price| SaleLine {
        product: product.parse().unwrap(),
        variant: None,
        unit_price: money(unit_price),
    };
    let sale = Sale {
        id: "sale_both".parse().unwrap(),
        merchant: main_merchant(),
        live: "demo".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        variant: None,
        unit_price: money(1_999),
        more: vec![line("mug", 500)],
        terms: SaleTerms {
            stock: 5,
            per_buyer: 5,
            hold_ms: 1_000,
            pay_ms: 1_000,
            opens_at: NOW,
            closes_at: UnixMillis(NOW.0 + 60_000),
            more: vec![LineTerms { stock: 5, per_buyer: 5 }],
            ..SaleTerms::default()
        },
    };
    store.put_sale(&sale).await.unwrap();
    let hold: HoldId = format!("hold_{number}").parse().unwrap();
    let lamp = OrderLine::only("lamp".parse().unwrap(), 1, money(1_999), money(1_999));
    let mugs = OrderLine { line: 1, ..OrderLine::only("mug".parse().unwrap(), 2, money(500), money(1_000)) };
    let coupon = Coupon {
        code: "FIVE".parse().unwrap(),
        merchant: main_merchant(),
        live: "demo".parse().unwrap(),
        discount: Discount::Amount(500),
        currency: "EUR".parse().unwrap(),
        minimum_minor: 0,
        sale: None,
        products: Vec::new(),
        terms: CouponTerms {
            limit: 1,
            per_buyer: 1,
            valid_from: NOW,
            valid_until: UnixMillis(at.0 + 1),
            closed: false,
        },
        created_at: NOW,
    };
    let order = NewOrder {
        id: order_id(&hold),
        payment: payment_id(&hold),
        provider: "sandbox".to_owned(),
        merchant: main_merchant(),
        live: "demo".parse().unwrap(),
        sale: sale.id,
        product: "lamp".parse().unwrap(),
        hold,
        buyer: buyer.parse().unwrap(),
        buyer_name: buyer.to_owned(),
        quantity: 3,
        unit_price: money(1_999),
        total: money(2_499),
        lines: vec![lamp, mugs],
        coupon: Some(OrderCoupon { code: coupon.code.clone(), amount: money(500) }),
        created_at: at,
    };
    store.put_coupon(&coupon).await.unwrap();
    store.start_order(&order, &Details::default()).await.unwrap();
    store.move_order(&order.id, OrderState::Sold, at).await.unwrap();
    order.id
}

fn refund(order: &OrderId, amount_minor: i64, at: UnixMillis) -> NewRefund {
    NewRefund {
        id: "refund_1".parse().unwrap(),
        order: order.clone(),
        amount: money(amount_minor),
        parts: Parts::default(),
        origin: RefundOrigin::Merchant,
        of_order: true,
        payment_reference: None,
        reason: String::new(),
        at,
    }
}

/// Gives so much back, of which so much is of the second line and the rest of all in proportion.
async fn give_back_of_mugs(
    store: &SqlLedger,
    order: &OrderId,
    amount: i64,
    mugs: i64,
    at: UnixMillis,
) -> Parts {
    let refund = NewRefund { parts: Parts::new([(1, mugs)]), ..refund(order, amount, at) };
    let put = store.put_refund(&refund).await.unwrap();
    assert_eq!(put.refund.parts, refund.parts);
    let done = RefundStep::Done { reference: None };
    store.step_refund(&put.refund.id, &done, at).await.unwrap().refund.refund.parts
}

async fn give_back(store: &SqlLedger, order: &OrderId, amount_minor: i64, at: UnixMillis) {
    let put = store.put_refund(&refund(order, amount_minor, at)).await.unwrap();
    let done = RefundStep::Done { reference: None };
    store.step_refund(&put.refund.id, &done, at).await.unwrap();
}

pub(super) async fn turn(store: &SqlLedger, at: UnixMillis) -> Turn {
    let rules = rules();
    store.follow_orders(&|facts| follow(facts, &rules), at, 100).await.unwrap()
}

async fn told(store: &SqlLedger) -> Vec<(String, String)> {
    let notices = store.notices(&main_merchant(), None, 100).await.unwrap();
    notices.into_iter().map(|notice| (notice.kind, notice.subject)).collect()
}

async fn a_sold_order_is_booked_for_who_brought_its_buyer_and_once(on: On) {
    let store = shop(&on).await;
    let (anns, bobs) = (sell(&store, 1, "ann").await, sell(&store, 2, "bob").await);
    assert_eq!(store.booking(&main_merchant(), &anns).await.unwrap(), None, "not followed yet");
    assert_eq!(turn(&store, NOW).await.orders, 2);
    assert_eq!(turn(&store, NOW).await, Turn::default());
    let booked = store.booking(&main_merchant(), &anns).await.unwrap().unwrap();
    assert_eq!(booked.booking.split, Split([8_199, 500, 300, 1_000]));
    assert_eq!(booked.booking.attributed.unwrap().by, TouchKind::Join);
    let booked = store.booking(&main_merchant(), &bobs).await.unwrap().unwrap();
    assert_eq!((booked.booking.attributed, booked.booking.split), (None, Split([9_499, 500, 0, 0])));
    assert_eq!(store.paid_orders(&main_merchant(), &"ann".parse().unwrap()).await.unwrap(), 1);
    assert_eq!(store.paid_orders(&"other".parse().unwrap(), &"ann".parse().unwrap()).await.unwrap(), 0);
}

async fn milestones_are_told_once_a_buyer(on: On) {
    let store = shop(&on).await;
    for number in 1..=4 {
        sell(&store, number, "ann").await;
        turn(&store, NOW).await;
    }
    let told = told(&store).await;
    let milestone = || ("buyer.milestone".to_owned(), "ann".to_owned());
    assert_eq!(told, [milestone(), milestone(), milestone()], "the first, the second, and 150.00 EUR");
}

async fn what_went_back_is_no_step_to_a_milestone(on: On) {
    let store = shop(&on).await;
    let milestones = async || {
        let told = told(&store).await;
        told.iter().filter(|(kind, _)| kind == "buyer.milestone").count()
    };
    let first = sell(&store, 1, "ann").await;
    store.record_paid(&first, &Paid { event: "evt_1".to_owned(), amount: money(9_999) }).await.unwrap();
    turn(&store, NOW).await;
    give_back(&store, &first, 9_999, NOW).await;
    turn(&store, NOW).await;
    sell(&store, 2, "ann").await;
    turn(&store, NOW).await;
    assert_eq!(milestones().await, 1, "one order is kept");
    sell(&store, 3, "ann").await;
    turn(&store, NOW).await;
    assert_eq!(milestones().await, 3, "two are, for 199.98 EUR");
}

async fn a_follow_up_is_told_when_it_is_due_once_and_not_before(on: On) {
    let store = shop(&on).await;
    let lamp = "lamp".parse().unwrap();
    let rule = FollowupRule { name: "refill".to_owned(), after_seconds: 3_600, per_extra_unit_seconds: 0 };
    store.put_followups(&main_merchant(), &lamp, std::slice::from_ref(&rule)).await.unwrap();
    assert_eq!(store.followups(&main_merchant(), &lamp).await.unwrap(), [rule]);
    assert!(store.put_followups(&main_merchant(), &"none".parse().unwrap(), &[]).await.is_err());
    let order = sell(&store, 1, "ann").await;
    turn(&store, NOW).await;
    let due = UnixMillis(NOW.0 + 1 + 3_600_000);
    assert_eq!(turn(&store, UnixMillis(due.0 - 1)).await.timers, 0);
    assert_eq!(turn(&store, due).await.timers, 1);
    assert_eq!(turn(&store, UnixMillis(due.0 + 1)).await.timers, 0);
    assert_eq!(told(&store).await.last(), Some(&("followup.due".to_owned(), order.to_string())));
}

async fn a_product_that_is_wholly_paid_back_is_not_asked_after(on: On) {
    let store = shop(&on).await;
    let both = sell_both(&store, 1, "ann", NOW).await;
    for product in ["lamp", "mug"] {
        let rule = FollowupRule { name: "how".to_owned(), after_seconds: 3_600, per_extra_unit_seconds: 0 };
        store.put_followups(&main_merchant(), &product.parse().unwrap(), &[rule]).await.unwrap();
    }
    store.record_paid(&both, &Paid { event: "evt_1".to_owned(), amount: money(2_499) }).await.unwrap();
    turn(&store, NOW).await;
    let too_much = NewRefund { parts: Parts::new([(1, 835)]), ..refund(&both, 835, NOW) };
    let refused = store.put_refund(&too_much).await.unwrap_err();
    assert!(refused.to_string().contains("8.34 EUR"), "{refused}");
    give_back_of_mugs(&store, &both, 834, 834, NOW).await;
    turn(&store, NOW).await;
    assert_eq!(turn(&store, UnixMillis(NOW.0 + 4_000_000)).await.timers, 1);
    let notices = store.notices(&main_merchant(), None, 100).await.unwrap();
    let due: Vec<_> = notices.iter().filter(|notice| notice.kind == "followup.due").collect();
    assert_eq!(due.len(), 1);
    assert!(due[0].body.contains(r#""product_id":"lamp""#), "{}", due[0].body);
}

async fn metrics_are_what_orders_say_when_all_are_added_up_again(on: On) {
    const DAY: u64 = 86_400_000;
    let store = shop(&on).await;
    let batch = [
        touch(TouchKind::Join, None, "bob"),
        touch(TouchKind::Join, None, "ann"),
        touch(TouchKind::Click, Some("mia"), "bob"),
    ];
    let mut nobody = touch(TouchKind::Join, None, "x");
    nobody.1.buyer = None;
    store.record_touches(&batch).await.unwrap();
    store.record_touches(&[nobody]).await.unwrap();
    // Sold over 200 days, to buyers who come back or don't.
    for (number, (buyer, days)) in
        [("ann", 0), ("ann", 21), ("bob", 1), ("bob", 95), ("cid", 150), ("dot", 199), ("ann", 199)]
            .into_iter()
            .enumerate()
    {
        sell_at(&store, number as u32, buyer, UnixMillis(NOW.0 + days * DAY)).await;
    }
    // One of them has two lines and a coupon, and a part of its money went back.
    let at = UnixMillis(NOW.0 + 199 * DAY);
    let both = sell_both(&store, 100, "dot", at).await;
    let paid = Paid { event: "evt_1".to_owned(), amount: money(2_499) };
    store.record_paid(&both, &paid).await.unwrap();
    turn(&store, NOW).await;
    // The mugs are 8.34 of what was paid: the coupon's share of their 10.00 is off.
    let gone_of_mugs = 834;
    let parts = give_back_of_mugs(&store, &both, 1_001, gone_of_mugs, at).await;
    assert_eq!(parts, Parts::new([(0, 167), (1, gone_of_mugs)]));
    turn(&store, NOW).await;
    let now = UnixMillis(NOW.0 + 200 * DAY);
    let orders = store.orders(&"demo".parse().unwrap(), &[OrderState::Sold], 1_000).await.unwrap();
    let mut facts = Vec::new();
    for Order { order, updated_at, .. } in orders {
        let booked = store.booking(&main_merchant(), &order.id).await.unwrap().unwrap();
        let line = |line: OrderLine| FactLine {
            quantity: line.quantity,
            total_minor: line.total.amount_minor,
            refunded_minor: match (order.id == both, line.product.as_str()) {
                (false, _) => 0,
                (true, "mug") => gone_of_mugs,
                (true, _) => 1_001 - gone_of_mugs,
            },
            product: line.product,
        };
        facts.push(Fact {
            buyer: order.buyer,
            live: order.live,
            lines: order.lines.into_iter().map(line).collect(),
            creator: booked.booking.attributed.map(|attributed| attributed.creator),
            currency: order.total.currency,
            total_minor: order.total.amount_minor,
            refunded_minor: booked.booking.reversed.total(),
            sold_at: updated_at,
        });
    }
    assert_eq!(facts.len(), 8);
    let both = facts.iter().find(|fact| fact.lines.len() == 2).unwrap();
    assert_eq!((both.total_minor, both.refunded_minor), (2_499, 1_001));
    for scope in [
        Scope::Live("demo".parse().unwrap()),
        Scope::Product("lamp".parse().unwrap()),
        Scope::Product("mug".parse().unwrap()),
        Scope::Creator("mia".parse().unwrap()),
        Scope::Live("other".parse().unwrap()),
    ] {
        let metrics = store.metrics(&main_merchant(), &scope, now).await.unwrap();
        assert_eq!(metrics.sold, recompute(&facts, &scope, now), "{scope:?}");
    }
    let demo = store.metrics(&main_merchant(), &Scope::Live("demo".parse().unwrap()), now).await.unwrap();
    assert_eq!((demo.seen.viewers, demo.seen.anonymous_joins, demo.seen.clicks), (Some(2), Some(1), 1));
    assert_eq!(demo.sold.repeat_bps, [Some(3_333), Some(5_000)]);
    assert_eq!(demo.conversion_bps(), Some(20_000));
    let mia = store.metrics(&main_merchant(), &Scope::Creator("mia".parse().unwrap()), now).await.unwrap();
    assert_eq!((mia.sold.orders, mia.seen.clicks, mia.seen.viewers), (2, 1, Some(1)));
    let other = store.metrics(&"other".parse().unwrap(), &Scope::Live("demo".parse().unwrap()), now).await;
    assert_eq!(other.unwrap().sold, Sold::default());
}

async fn a_code_is_one_creators(on: On) {
    let store = shop(&on).await;
    let thief = Creator { id: "eve".parse().unwrap(), ..mia() };
    assert_eq!(store.put_creator(&thief).await.unwrap(), CreatorPut::CodeTaken("mia".parse().unwrap()));
    let found = store.creator_by_code(&main_merchant(), "mia-live").await.unwrap();
    assert_eq!(found, Some(mia()));
    assert_eq!(store.creator_by_code(&"other".parse().unwrap(), "mia-live").await.unwrap(), None);
    let retired = Creator { active: false, ..mia() };
    assert_eq!(store.put_creator(&retired).await.unwrap(), CreatorPut::Done);
    let order = sell(&store, 1, "ann").await;
    turn(&store, NOW).await;
    let booked = store.booking(&main_merchant(), &order).await.unwrap().unwrap();
    assert_eq!(booked.booking.attributed, None, "who is not active earns nothing");
}

async fn a_notice_is_told_to_webhooks_once_and_apart_from_orders(on: On) {
    let store = shop(&on).await;
    let endpoint = Endpoint {
        id: "wh_1".parse().unwrap(),
        merchant: main_merchant(),
        url: "https://shop.example/hook".to_owned(),
        kinds: Vec::new(),
        secret: "whsec_a".to_owned(),
        old_secret: None,
        disabled: None,
        created_at: NOW,
    };
    store.put_endpoint(&endpoint).await.unwrap();
    let rule = FollowupRule { name: "day-3".to_owned(), after_seconds: 3, per_extra_unit_seconds: 0 };
    store.put_followups(&main_merchant(), &"lamp".parse().unwrap(), &[rule]).await.unwrap();
    let order = sell(&store, 1, "ann").await;
    let later = UnixMillis(NOW.0 + 10_000);
    turn(&store, later).await;
    turn(&store, later).await;
    let notices = store.notices(&main_merchant(), None, 9).await.unwrap();
    assert_eq!(notices.len(), 2, "a milestone and a follow-up: {notices:?}");
    let sent = store.deliveries(&main_merchant(), &endpoint.id, None, None, 99).await.unwrap();
    for notice in &notices {
        let same: Vec<_> = sent.iter().filter(|sent| sent.message.as_str() == notice.id).collect();
        assert_eq!(same.len(), 1, "under the notice's id, once: {sent:?}");
        assert_eq!((same[0].kind.as_str(), same[0].state), (notice.kind.as_str(), DeliveryState::Pending));
    }
    // What happens to the order afterwards has its own numbers: a follow-up takes none of them.
    let paid = Paid { event: "evt_1".to_owned(), amount: money(9_999) };
    store.record_paid(&order, &paid).await.unwrap();
    store.put_refund(&refund(&order, 9_999, later)).await.unwrap();
    let taken = store.take_due(later, UnixMillis(later.0 + 1), 99, &[]).await.unwrap();
    let due = taken.iter().find(|due| due.message.kind == "followup.due").unwrap();
    let body: serde_json::Value = serde_json::from_str(&due.message.body).unwrap();
    assert_eq!((&body["type"], &body["data"]["order_id"]), (&"followup.due".into(), &order.as_str().into()));
    assert_eq!(body["timestamp"], later.to_string());
    // An erased buyer's name leaves what is still on its way.
    assert!(taken.iter().any(|due| due.message.body.contains("\"buyer_name\":\"ann\"")));
    store.erase(&main_merchant(), &"ann".parse().unwrap(), later).await.unwrap();
    let taken = store.take_due(UnixMillis(later.0 + 1), UnixMillis(later.0 + 2), 99, &[]).await.unwrap();
    assert!(!taken.is_empty());
    assert!(taken.iter().all(|due| !due.message.body.contains("\"buyer_name\":\"ann\"")), "{taken:?}");
}

async fn who_has_bought_is_listed_and_counted_over_all_lives(on: On) {
    let store = shop(&on).await;
    for (number, buyer) in ["ann", "bob", "ann", "cid"].into_iter().enumerate() {
        sell(&store, number as u32, buyer).await;
    }
    turn(&store, NOW).await;
    let paid = Paid { event: "evt_1".to_owned(), amount: money(9_999) };
    let bobs = order_id(&"hold_1".parse().unwrap());
    store.record_paid(&bobs, &paid).await.unwrap();
    give_back(&store, &bobs, 9_999, NOW).await;
    turn(&store, NOW).await;
    let main = main_merchant();
    let listed = |known: &[Known]| -> Vec<(String, u32)> {
        known.iter().map(|known| (known.buyer.to_string(), known.paid_orders)).collect()
    };
    let first = store.known_buyers(&main, None, 2).await.unwrap();
    assert_eq!(listed(&first), [("ann".to_owned(), 2), ("bob".to_owned(), 0)], "Bob has all of it back");
    let rest = store.known_buyers(&main, Some(&first[1].buyer), 2).await.unwrap();
    assert_eq!(listed(&rest), [("cid".to_owned(), 1)]);
    assert!(store.known_buyers(&"other".parse().unwrap(), None, 9).await.unwrap().is_empty());
    let kept = async |merchant: &MerchantId, buyer: &str| {
        let live = haul_commerce::LiveRef { merchant: merchant.clone(), live: "demo".parse().unwrap() };
        store.bought(&live, &[buyer.parse().unwrap()], 1).await.unwrap()[0].kept
    };
    assert_eq!((kept(&main, "ann").await, kept(&main, "bob").await, kept(&main, "dot").await), (2, 0, 0));
    assert_eq!(kept(&"other".parse().unwrap(), "ann").await, 0);
}

async fn what_a_refund_has_named_no_other_takes(on: On) {
    let store = shop(&on).await;
    let both = sell_both(&store, 1, "dot", NOW).await;
    store.record_paid(&both, &Paid { event: "evt_1".to_owned(), amount: money(2_499) }).await.unwrap();
    let named = NewRefund {
        id: "refund_named".parse().unwrap(),
        parts: Parts::new([(1, 834)]),
        ..refund(&both, 834, NOW)
    };
    store.put_refund(&named).await.unwrap();
    // One that names nothing is done before it.
    let done = async |new: &NewRefund| {
        let done = RefundStep::Done { reference: None };
        store.step_refund(&new.id, &done, NOW).await.unwrap().refund.refund.parts
    };
    let rest = refund(&both, 500, NOW);
    store.put_refund(&rest).await.unwrap();
    assert_eq!(done(&rest).await, Parts::new([(0, 500)]));
    assert_eq!(done(&named).await, named.parts);
}

async fn touches_of_what_is_not_there_are_left_out(on: On) {
    let store = shop(&on).await;
    let mut nowhere = touch(TouchKind::Click, None, "ann");
    nowhere.1.live = "nowhere".parse().unwrap();
    let batch =
        [nowhere, touch(TouchKind::Click, Some("nobody"), "ann"), touch(TouchKind::Click, None, "ann")];
    store.record_touches(&batch).await.unwrap();
    let order = sell(&store, 1, "ann").await;
    turn(&store, NOW).await;
    let booked = store.booking(&main_merchant(), &order).await.unwrap().unwrap();
    assert_eq!(booked.booking.attributed.unwrap().by, TouchKind::Join);
}
