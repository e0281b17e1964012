//! Coupons and draws on the channel.

use haul_commerce::{Coupon, Draw};
use haul_model::CouponCode;
use haul_wire::parse;

use super::*;

fn request(text: &str) -> Request {
    parse(text).unwrap().1
}

fn make() -> Request {
    request(
        r#"{"id":2,"type":"coupon.make","code":"ten","percent":10,"limit":5,"duration_ms":60000,"minimum_minor":2000,"show":true}"#,
    )
}

fn with_coupon(code: &str, quantity: u32) -> Request {
    request(&format!(
        r#"{{"id":2,"type":"hold","sale_id":"sale_1","key":"k","quantity":{quantity},"coupon":"{code}"}}"#
    ))
}

/// A host who has made a coupon, and a viewer.
fn play() -> (Play, Coupon) {
    let mut play = Play::new();
    play.join(1, viewer("host", Role::Host));
    play.join(2, viewer("ann", Role::Viewer));
    let outputs = play.ask(1, make());
    let [Output::PutCoupon { coupon, show: true, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let coupon = coupon.clone();
    let outputs =
        play.input(Input::CouponPut { member: MemberId(1), id: 2, show: true, answer: Ok(coupon.clone()) });
    let told = lines(&outputs);
    assert_eq!((&told[0].0, &told[0].1["type"]), (&To::All, &json!("coupon.changed")));
    assert_eq!(told[0].1["coupon"]["code"], "TEN");
    assert_eq!(told[1].1["result"]["coupon"]["percent"], 10);
    (play, coupon)
}

#[test]
fn a_host_drops_a_coupon_into_the_room_and_who_comes_later_sees_it() {
    let (mut play, coupon) = play();
    assert_eq!(coupon.terms.valid_until, play.now.wall + Duration::from_secs(60));
    let outputs = play.join(3, None);
    assert_eq!(lines(&outputs)[0].1["result"]["coupon"]["code"], "TEN");
    play.ask(1, request(r#"{"id":2,"type":"coupon.hide"}"#));
    let outputs = play.join(4, None);
    assert_eq!(lines(&outputs)[0].1["result"]["coupon"], Value::Null);
    let refused = play.ask(2, make());
    assert_eq!(error_code(&refused), "forbidden");
}

#[test]
fn a_coupon_is_checked_against_the_purchase_before_the_gate_is_asked() {
    let (mut play, _) = play();
    let outputs = play.ask(2, with_coupon("Ten", 2));
    let [Output::Ask { op: Some(Op::Hold { coupon, .. }), then, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*coupon, Some("TEN".parse().unwrap()));
    let outcomes = vec![Outcome::Held { deadline: UnixMillis(5) }];
    let answer = Ok(applied(play.now, 2, (8, 2, 0), outcomes));
    let outputs =
        play.input(Input::Applied { sale: "sale_1".parse().unwrap(), answer, then: vec![then.clone()] });
    assert_eq!(lines(&outputs)[0].1["result"]["hold"]["coupon"], "TEN");
    assert_eq!(error_code(&play.ask(2, with_coupon("TEN", 1))), "coupon_invalid", "below the minimum");
    assert_eq!(error_code(&play.ask(2, with_coupon("a b", 2))), "coupon_invalid", "no code at all");
}

#[test]
fn a_coupon_that_another_server_has_made_is_looked_for() {
    let (mut play, coupon) = play();
    let outputs = play.ask(2, with_coupon("other", 2));
    let [Output::FindCoupon { member, id, code, request }] = &outputs[..] else { panic!("{outputs:?}") };
    let code: CouponCode = code.clone();
    let found = |coupon| Input::CouponFound {
        member: *member,
        id: *id,
        request: request.clone(),
        coupon: Ok(coupon),
    };
    assert_eq!(error_code(&play.input(found(None))), "coupon_invalid");
    let outputs = play.input(found(Some(Coupon { code, ..coupon })));
    assert!(
        matches!(&outputs[..], [Output::TellCoupons, Output::Ask { op: Some(Op::Hold { .. }), .. }]),
        "{outputs:?}"
    );
}

#[test]
fn a_gate_that_has_lost_its_coupons_is_told_them_again() {
    let (mut play, _) = play();
    let outputs = play.ask(2, with_coupon("ten", 2));
    let [Output::Ask { then, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let answer = Ok(applied(play.now, 2, (10, 0, 0), vec![Outcome::Refused(Refusal::UnknownCoupon)]));
    let outputs =
        play.input(Input::Applied { sale: "sale_1".parse().unwrap(), answer, then: vec![then.clone()] });
    assert!(outputs.contains(&Output::TellCoupons));
    assert_eq!(error_code(&outputs), "unavailable");
}

#[test]
fn a_coupon_at_the_checkout_is_checked_against_the_hold() {
    let (mut play, _) = play();
    let checkout = r#"{"id":2,"type":"checkout","sale_id":"sale_1","hold_id":"hold_1","coupon":"ten"}"#;
    let seen = |outputs: &[Output], units: u32| {
        let [Output::LookAtHold { member, id, payer, sale, hold, coupon }] = outputs else {
            panic!("{outputs:?}")
        };
        Input::HoldSeen {
            member: *member,
            id: *id,
            payer: payer.clone(),
            sale: sale.clone(),
            hold: hold.clone(),
            coupon: coupon.clone(),
            units: Ok(units.into()),
        }
    };
    let outputs = play.ask(2, request(checkout));
    assert_eq!(error_code(&play.input(seen(&outputs, 1))), "coupon_invalid", "below the minimum");
    let outputs = play.input(seen(&outputs, 2));
    let [Output::Ask { op: Some(Op::StartPayment { coupon, .. }), .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*coupon, Some("TEN".parse().unwrap()));
}

#[test]
fn a_drawn_sale_tells_its_seed_when_the_gates_clock_has_come_to_the_draw() {
    let mut play = Play::new();
    play.join(1, viewer("host", Role::Host));
    play.join(2, viewer("ann", Role::Viewer));
    let schedule = r#"{"id":2,"type":"sale.schedule","product_id":"tea","price_minor":100,"stock":5,"duration_ms":60000,
        "draw_ms":10000}"#;
    let outputs = play.ask(1, request(schedule));
    let [Output::PutSale { sale, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let (sale, draw): (Sale, Draw) = (sale.clone(), sale.terms.draw.clone().unwrap());
    let put = applied(play.now, 1, (5, 0, 0), vec![]);
    let outputs = play.input(Input::SalePut { member: MemberId(1), id: 2, answer: Ok((sale.clone(), put)) });
    let view = &lines(&outputs)[0].1["sale"]["draw"];
    assert_eq!((&view["commitment"], &view["seed"]), (&json!(draw.commitment()), &Value::Null));

    let ask = format!(r#"{{"id":2,"type":"hold","sale_id":"{}","key":"k"}}"#, sale.id);
    let outputs = play.ask(2, request(&ask));
    let [Output::Ask { op: Some(Op::Hold { hold, ticket, .. }), then, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*ticket, Some(draw.ticket(hold)));
    let answer = Ok(applied(play.now, 2, (5, 0, 0), vec![Outcome::Entered]));
    let (sale_id, then) = (sale.id.clone(), vec![then.clone()]);
    let outputs = play.input(Input::Applied { sale: sale_id, answer, then });
    assert_eq!(lines(&outputs)[0].1["result"]["hold"]["state"], "entered");

    play.wait(Duration::from_secs(11));
    let early = Now { wall: play.now.wall - Duration::from_secs(2), ..play.now };
    let not_yet = Ok(applied(early, 3, (5, 0, 0), vec![]));
    play.input(Input::Applied { sale: sale.id.clone(), answer: not_yet, then: vec![] });
    assert!(
        play.stage
            .sale_views(play.now)
            .iter()
            .all(|view| { view.draw.as_ref().is_none_or(|draw| draw.seed.is_none()) })
    );
    let drawn = Ok(applied(play.now, 4, (4, 1, 0), vec![]));
    let outputs = play.input(Input::Applied { sale: sale.id.clone(), answer: drawn, then: vec![] });
    let told = lines(&outputs);
    let changed = told.iter().find(|(_, line)| line["type"] == "sale.changed").unwrap();
    assert_eq!(changed.1["sale"]["draw"]["seed"], json!(draw.seed));
}
