//! Coupons.

use super::*;

on_each_database! {
    a_coupon_is_used_no_more_often_than_it_may_be_whatever_the_gate_said
    a_coupon_is_made_once_and_changes_as_it_may
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
