//! Coupons.

use haul_commerce::{
    NewRefund, Parts, RefundOrigin, RefundStep, Refunds,
    orders::{OrderFilter, OrderList},
    outbox::judge,
};
use serde_json::{Value, json};

use super::*;

on_each_database! {
    a_coupon_is_used_no_more_often_than_it_may_be_whatever_the_gate_said
    a_coupon_is_made_once_and_changes_as_it_may
    an_order_and_its_webhooks_say_what_it_consists_of
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
    let made = ledger.start_order(&first, &Details::default()).await.unwrap();
    assert_eq!(made.order, first, "the coupon and its amount are kept beside the lines' whole prices");
    assert_eq!(ledger.order(&first.id).await.unwrap(), Some(made));
    ledger.start_order(&first, &Details::default()).await.unwrap();
    assert_eq!(used().await, (1, 0), "asked again, it is used once");
    let again = ledger.start_order(&with_coupon(order(3, "ann", 1)), &Details::default()).await;
    assert!(matches!(again, Err(LedgerError::Conflict(_))), "one a buyer: {again:?}");
    ledger.start_order(&second, &Details::default()).await.unwrap();
    let third = with_coupon(order(4, "cid", 1));
    let refused = ledger.start_order(&third, &Details::default()).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    assert_eq!(ledger.order(&third.id).await.unwrap(), None, "nothing of it is there");
    ledger.move_order(&first.id, OrderState::Sold, NOW).await.unwrap();
    ledger.move_order(&second.id, OrderState::Expired, NOW).await.unwrap();
    assert_eq!(used().await, (0, 1));
    ledger.start_order(&third, &Details::default()).await.unwrap();
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

/// Two lamps and three teas of a bundle, one form of each, with a coupon: the list, the order and the messages agree.
async fn an_order_and_its_webhooks_say_what_it_consists_of(on: On) {
    let ledger = ledger(&on).await;
    ledger.put_product(&product("tea")).await.unwrap();
    let (lamp, tea) = ("lamp".parse().unwrap(), "tea".parse().unwrap());
    let terms = SaleTerms { more: vec![LineTerms { stock: 9, per_buyer: 9 }], ..sale("sale_1", 5).terms };
    let further = SaleLine { product: tea, variant: Some("TEA-50".parse().unwrap()), unit_price: money(500) };
    let bundle = Sale {
        id: "sale_2".parse().unwrap(),
        variant: Some("LAMP-S".parse().unwrap()),
        more: vec![further.clone()],
        terms,
        ..sale("sale_2", 5)
    };
    ledger.put_sale(&bundle).await.unwrap();
    let coupon = Coupon { sale: None, ..coupon("TEN", 5, 5) };
    ledger.put_coupon(&coupon).await.unwrap();
    let listener = Endpoint {
        id: "wh_1".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        url: "https://shop.example/hook".to_owned(),
        kinds: vec!["order.*".to_owned(), "refund.*".to_owned()],
        secret: "whsec_a".to_owned(),
        old_secret: None,
        disabled: None,
        created_at: NOW,
    };
    ledger.put_endpoint(&listener).await.unwrap();
    let first = OrderLine {
        variant: Some("LAMP-S".parse().unwrap()),
        ..OrderLine::only(lamp, 2, money(1_999), money(3_998))
    };
    let second = OrderLine {
        line: 1,
        variant: further.variant,
        ..OrderLine::only(further.product, 3, money(500), money(1_500))
    };
    let plain = order(1, "ann", 5);
    let lines = vec![first, second];
    let whole = NewOrder { sale: bundle.id, lines, total: money(5_498), ..plain };
    let new = with_coupon(whole);
    ledger.start_order(&new, &Details::default()).await.unwrap();
    // By itself and as one of a set, and after a refund, whose words are written elsewhere.
    ledger.move_order(&new.id, OrderState::Sold, NOW).await.unwrap();
    let paid = callback("evt_1", &new, 10);
    ledger.record_callback(&paid, None).await.unwrap();
    ledger.record_paid(&new.id, &Paid { event: "evt_1".to_owned(), amount: new.total }).await.unwrap();
    let refund = NewRefund {
        id: "refund_1".parse().unwrap(),
        order: new.id.clone(),
        amount: money(99),
        parts: Parts::default(),
        origin: RefundOrigin::Merchant,
        of_order: true,
        payment_reference: None,
        reason: String::new(),
        at: UnixMillis(NOW.0 + 20),
    };
    ledger.put_refund(&refund).await.unwrap();
    ledger.step_refund(&refund.id, &RefundStep::Failed { error: "no".to_owned() }, NOW).await.unwrap();
    ledger.step_refund(&refund.id, &RefundStep::Again, NOW).await.unwrap();
    ledger.step_refund(&refund.id, &RefundStep::Done { reference: None }, NOW).await.unwrap();

    let filter = OrderFilter::default();
    let listed = ledger.list_orders(&new.merchant, &filter, 10).await.unwrap();
    assert_eq!(listed[0].order.lines, new.lines);
    let eur = |amount: i64| json!({ "amount_minor": amount, "currency": "EUR" });
    let lines = json!([
        { "line": 0, "product_id": "lamp", "variant_id": "LAMP-S", "quantity": 2, "unit_price": eur(1_999), "total": eur(3_998) },
        { "line": 1, "product_id": "tea", "variant_id": "TEA-50", "quantity": 3, "unit_price": eur(500), "total": eur(1_500) },
    ]);
    let mut told = Vec::new();
    while let Some(due) = ledger.take_due(UnixMillis(NOW.0 + 99), NOW, 10, &[]).await.unwrap().pop() {
        let body: Value = serde_json::from_str(&due.message.body).unwrap();
        let data = &body["data"];
        assert_eq!((&data["lines"], &data["total"]), (&lines, &eur(5_299)), "{body}");
        assert_eq!(data["coupon"], json!({ "code": "TEN", "amount": eur(199) }));
        let refund = &data["refund"];
        if refund.is_object() {
            assert_eq!(
                (&refund["amount"], &refund["id"], &refund["order_id"]),
                (&eur(99), &json!("refund_1"), &data["id"])
            );
        }
        told.push((body["type"].as_str().unwrap().to_owned(), refund["state"].clone()));
        let taken = judge(0, Ok(204), NOW);
        ledger.attempted(&due.endpoint.id, &due.message.id, &taken).await.unwrap();
    }
    let states = [Value::Null, Value::Null, json!("due"), json!("failed"), json!("done")];
    let kinds = ["order.paying", "order.sold", "refund.created", "refund.failed", "order.partly_refunded"];
    assert_eq!(told, kinds.map(str::to_owned).into_iter().zip(states).collect::<Vec<_>>());
}
