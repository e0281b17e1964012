mod coupons;
mod crowds;
mod guests;
mod hostile;
mod tongues;

use std::time::Duration;

use haul_commerce::{
    Applied, Counts, GateError, Mark, NewOrder, Offered, Op, OrderLine, OrderState, Outcome, Product,
    Refusal, SaleMove, SaleTerms, hold_id, listing::Listing, order_id, payment_id,
};
use haul_model::{Contact, ContactNeed, HoldId, MerchantId, Money, ProductId};
use haul_room::Rate;
use haul_wire::{ChatAsk, Measure, Request};
use rand::SeedableRng;
use serde_json::{Value, json};

use super::*;
use crate::testing::start;

const HOUR: Duration = Duration::from_secs(3600);

fn eur(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

fn live_ref() -> LiveRef {
    LiveRef { merchant: MerchantId::main(), live: "demo".parse().unwrap() }
}

fn viewer(id: &str, role: Role) -> Option<Viewer> {
    Some(Viewer {
        id: id.parse().unwrap(),
        name: id.to_owned(),
        role,
        expires_at: UnixMillis(u64::MAX),
        tier: None,
        follower: false,
        merchant: MerchantId::main(),
    })
}

fn applied(now: Now, sequence: u64, counts: (u32, u32, u32), outcomes: Vec<Outcome>) -> Applied {
    let (available, held, sold) = counts;
    Applied {
        now: now.wall,
        mark: Mark { epoch: 1, sequence },
        outcomes,
        released: Vec::new(),
        offered: Vec::new(),
        holds: Vec::new(),
        counts: Counts { available, held, sold },
        lines: Vec::new(),
        next_deadline: None,
    }
}

/// A live with one product and one sale of ten units that opens in a minute, its clock, and what it says.
struct Play {
    stage: Stage,
    now: Now,
    ledger: bool,
}

impl Play {
    fn new() -> Self {
        Self::with(Some(applied(start(), 1, (10, 0, 0), vec![])), Vec::new())
    }

    /// With what an earlier start has written down.
    fn after(notes: Vec<(String, String)>) -> Self {
        Self::with(Some(applied(start(), 1, (10, 0, 0), vec![])), notes)
    }

    /// With what the gate has said of the sale, and what an earlier start has written down.
    fn with(applied: Option<Applied>, notes: Vec<(String, String)>) -> Self {
        let now = start();
        let record = LiveRecord {
            id: "demo".parse().unwrap(),
            merchant: MerchantId::main(),
            title: "Tea time".into(),
            public: true,
            created_at: now.wall,
        };
        let product = Product {
            id: "tea".parse().unwrap(),
            merchant: MerchantId::main(),
            title: "Tea".into(),
            subtitle: String::new(),
            image_url: String::new(),
            list_price: eur(2000),
        };
        let sale = Sale {
            id: "sale_1".parse().unwrap(),
            merchant: MerchantId::main(),
            live: record.id.clone(),
            product: product.id.clone(),
            variant: None,
            unit_price: eur(1500),
            more: Vec::new(),
            terms: SaleTerms {
                stock: 10,
                per_buyer: 2,
                hold_ms: 60_000,
                pay_ms: 600_000,
                opens_at: now.wall + Duration::from_secs(60),
                closes_at: now.wall + HOUR,
                ..SaleTerms::default()
            },
        };
        let settings = Settings {
            chat_rate: Rate { burst: 5, every: Duration::from_secs(2) },
            hold_ms: 60_000,
            pay_ms: 600_000,
            contact: ContactNeed::Nothing,
            reserved_names: vec!["Lampenladen".to_owned()],
        };
        let beginning = Beginning {
            record,
            bag: vec![Listing::plain(product)],
            sales: vec![(sale, applied)],
            coupons: Vec::new(),
            orders: Vec::new(),
            totals: haul_commerce::Totals::default(),
            notes,
            estate: None,
        };
        let stage = Stage::new(beginning, settings, "e1".into(), StdRng::seed_from_u64(7), now);
        Self { stage, now, ledger: true }
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now.after(by);
        self.stage.timeout(self.now);
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.stage.handle(input, self.now);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.stage.poll_output() {
            // The ledger writes down at once what it is given, if it answers at all.
            match output {
                Output::Write { number, .. } if self.ledger => {
                    self.stage.handle(Input::Written { upto: number }, self.now);
                }
                output => outputs.push(output),
            }
        }
        outputs
    }

    /// What is said now, and to whom.
    fn heard(&mut self) -> Vec<(To, Value)> {
        lines(&self.outputs())
    }

    fn join(&mut self, member: u64, who: Option<Viewer>) -> Vec<Output> {
        let member = MemberId(member);
        let mut outputs =
            self.input(Input::Join { member, id: 1, viewer: who.clone(), locale: None, resume: None });
        if who.is_some() {
            outputs.extend(self.input(Input::Found { member, personal: Personal::default() }));
        }
        outputs
    }

    fn ask(&mut self, member: u64, request: Request) -> Vec<Output> {
        self.input(Input::Request { member: MemberId(member), id: 2, request })
    }
}

fn lines(outputs: &[Output]) -> Vec<(To, Value)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Deliver(Delivery { to, line, .. }) => {
                Some((to.clone(), serde_json::from_slice(line).unwrap()))
            }
            _ => None,
        })
        .collect()
}

fn error_code(outputs: &[Output]) -> String {
    lines(outputs)[0].1["code"].as_str().unwrap_or_default().to_owned()
}

fn hold(key: &str) -> Request {
    Request::Hold {
        sale_id: "sale_1".parse().unwrap(),
        quantity: None,
        lines: Vec::new(),
        key: key.to_owned(),
        coupon: None,
    }
}

#[test]
fn a_newcomer_is_given_everything() {
    let mut play = Play::new();
    let outputs = play.join(1, None);
    let (to, hello) = &lines(&outputs)[0];
    assert_eq!(*to, To::Member(MemberId(1)));
    let snapshot = &hello["result"];
    assert_eq!(snapshot["you"], Value::Null);
    assert_eq!(snapshot["live"], json!({ "title": "Tea time", "state": "waiting" }));
    assert_eq!(snapshot["products"][0]["id"], "tea");
    assert_eq!(snapshot["sales"][0]["state"], "scheduled");
    assert_eq!(snapshot["sales"][0]["available"], 10);
    assert_eq!(snapshot["viewers"], 1);
    assert_eq!(snapshot["host"], Value::Null);
    assert_eq!(outputs.last(), Some(&Output::Welcome(MemberId(1))));
}

#[test]
fn somebody_with_a_name_is_welcomed_when_their_holds_are_found() {
    let mut play = Play::new();
    let who = viewer("ann", Role::Viewer);
    let outputs =
        play.input(Input::Join { member: MemberId(1), id: 1, viewer: who, locale: None, resume: None });
    assert_eq!(outputs, [Output::Find { member: MemberId(1), buyer: "ann".parse().unwrap() }]);
    let standing = haul_commerce::Standing {
        hold: "hold_1".parse().unwrap(),
        units: 2.into(),
        outcome: Outcome::Held { deadline: UnixMillis(5) },
        order: None,
        coupon: None,
    };
    let personal =
        Personal { holds: vec![("sale_1".parse().unwrap(), standing)], orders: Vec::new(), bought: 0 };
    let outputs = play.input(Input::Found { member: MemberId(1), personal });
    let you = &lines(&outputs)[0].1["result"]["you"];
    assert_eq!(you["name"], "ann");
    assert_eq!(
        you["holds"][0],
        json!({ "id": "hold_1", "sale_id": "sale_1", "quantity": 2, "state": "held", "deadline": UnixMillis(5) })
    );
}

#[test]
fn without_a_token_one_may_look_and_not_touch() {
    let mut play = Play::new();
    play.join(1, None);
    for request in [
        Request::Chat(ChatAsk::Send { text: "hi".into(), client_id: None, reply_to: None }),
        hold("k"),
        Request::Unpin,
        Request::SaleClose { sale_id: "sale_1".parse().unwrap() },
    ] {
        assert_eq!(error_code(&play.ask(1, request)), "unauthorized");
    }
    play.join(2, viewer("ann", Role::Viewer));
    assert_eq!(error_code(&play.ask(2, Request::Unpin)), "forbidden");
    play.join(3, viewer("mod", Role::Moderator));
    assert_eq!(
        error_code(&play.ask(3, Request::SaleClose { sale_id: "sale_1".parse().unwrap() })),
        "forbidden",
        "a moderator pins, but only the host sells"
    );
}

#[test]
fn a_hold_goes_to_the_gate_and_comes_back_as_a_reply_and_as_news() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let outputs = play.ask(1, hold("k"));
    let ann: BuyerId = "ann".parse().unwrap();
    let id = hold_id(&live_ref(), &"sale_1".parse().unwrap(), &ann, "k");
    let [Output::Ask { sale, op, then }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(*op, Some(Op::hold(id.clone(), ann, 1)));

    let deadline = play.now.wall + Duration::from_secs(60);
    let answer = Ok(applied(play.now, 2, (9, 1, 0), vec![Outcome::Held { deadline }]));
    let heard = lines(&play.input(Input::Applied { sale: sale.clone(), answer, then: vec![then.clone()] }));
    assert_eq!(heard[0].0, To::Member(MemberId(1)));
    assert_eq!(heard[0].1["result"]["hold"]["state"], "held");
    assert_eq!(heard[0].1["result"]["hold"]["id"], id.as_str());
    assert_eq!(heard[1].0, To::All);
    assert_eq!(heard[1].1["available"], 9);
}

#[test]
fn stock_moves_are_gathered_and_sold_out_is_told_at_once() {
    let mut play = Play::new();
    let sale: SaleId = "sale_1".parse().unwrap();
    let apply = |play: &mut Play, sequence, counts| {
        let answer = Ok(applied(play.now, sequence, counts, vec![]));
        lines(&play.input(Input::Applied { sale: sale.clone(), answer, then: vec![] }))
    };
    assert_eq!(apply(&mut play, 2, (9, 1, 0))[0].1["available"], 9);
    assert!(apply(&mut play, 3, (8, 2, 0)).is_empty());
    assert!(apply(&mut play, 5, (6, 4, 0)).is_empty());
    assert!(apply(&mut play, 4, (7, 3, 0)).is_empty(), "an answer that was overtaken says nothing new");
    let due = play.stage.next_timeout(play.now).unwrap();
    assert_eq!(due, play.now.instant + sales::STOCK_EVERY);
    play.wait(sales::STOCK_EVERY);
    assert_eq!(play.heard()[0].1["available"], 6);
    assert_eq!(apply(&mut play, 6, (0, 10, 0))[0].1["available"], 0);
}

#[test]
fn a_sale_opens_and_closes_by_the_gates_clock() {
    let mut play = Play::new();
    // The gate's clock is half a minute ahead of this machine's.
    let mut ahead = applied(play.now, 2, (10, 0, 0), vec![]);
    ahead.now = ahead.now + Duration::from_secs(30);
    play.input(Input::Applied { sale: "sale_1".parse().unwrap(), answer: Ok(ahead), then: vec![] });
    assert_eq!(play.stage.next_timeout(play.now), Some(play.now.instant + Duration::from_secs(30)));
    play.wait(Duration::from_millis(29_999));
    assert!(play.heard().is_empty());
    play.wait(Duration::from_millis(1));
    assert_eq!(play.heard()[0].1["sale"]["state"], "open");
    play.wait(HOUR);
    assert_eq!(play.heard()[0].1["sale"]["state"], "closed");
    play.wait(sales::SHOWN_AFTER_CLOSE);
    assert!(play.stage.sale_ids().is_empty());
}

#[test]
fn a_hold_past_its_deadline_is_swept_and_its_buyer_told() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let sale: SaleId = "sale_1".parse().unwrap();
    let mut held = applied(play.now, 2, (9, 1, 0), vec![]);
    held.next_deadline = Some(play.now.wall + Duration::from_secs(5));
    play.input(Input::Applied { sale: sale.clone(), answer: Ok(held), then: vec![] });
    play.wait(Duration::from_secs(5));
    let sweep = Output::Ask { sale: sale.clone(), op: None, then: Then::Nothing };
    assert!(play.outputs().contains(&sweep));
    play.wait(Duration::from_millis(10));
    assert!(!play.outputs().contains(&sweep), "one sweep at a time");
    play.wait(SWEEP_RETRY);
    assert!(play.outputs().contains(&sweep), "but not for ever without an answer");

    let mut swept = applied(play.now, 3, (10, 0, 0), vec![]);
    swept.released = vec![Released {
        hold: "hold_1".parse().unwrap(),
        buyer: "ann".parse().unwrap(),
        units: 1.into(),
        order: Some("order_1".parse().unwrap()),
    }];
    let outputs = play.input(Input::Applied { sale, answer: Ok(swept), then: vec![] });
    let (to, event) = &lines(&outputs)[0];
    assert_eq!(*to, To::Buyer("ann".parse().unwrap()));
    assert_eq!(event["hold"]["state"], "released");
    assert!(outputs.contains(&Output::ExpireOrder("order_1".parse().unwrap())));
}

#[test]
fn an_answer_that_never_came_is_pending_and_not_no() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    for (error, code) in [
        (GateError::Unknown("timeout".into()), "pending"),
        (GateError::Unavailable("refused".into()), "unavailable"),
    ] {
        let outputs = play.ask(1, hold("k"));
        let [Output::Ask { sale, then, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        let heard =
            play.input(Input::Applied { sale: sale.clone(), answer: Err(error), then: vec![then.clone()] });
        assert_eq!(error_code(&heard), code);
        assert!(lines(&heard)[0].1["retry_after_ms"].is_u64());
    }
}

#[test]
fn every_refusal_of_the_gate_has_a_code_of_its_own() {
    let at = UnixMillis(1_000);
    let refusals = [
        (Refusal::NotOpen { opens_at: UnixMillis(1_500) }, "sale_not_open"),
        (Refusal::Closed, "sale_closed"),
        (Refusal::NotEnough { line: 0, available: 0 }, "not_enough"),
        (Refusal::SoldOut, "sold_out"),
        (Refusal::BuyerLimit { line: 0, per_buyer: 2 }, "buyer_limit"),
        (Refusal::KeyReused, "key_reused"),
        (Refusal::UnknownHold, "unknown_hold"),
        (Refusal::WrongState, "wrong_state"),
        (Refusal::BadQuantity, "bad_request"),
        (Refusal::UnknownSale, "unavailable"),
    ];
    for (refusal, code) in refusals {
        let failure = answers::refused(refusal, at);
        assert_eq!(serde_json::to_value(failure.code).unwrap(), code, "{refusal:?}");
    }
    assert_eq!(
        answers::refused(Refusal::NotOpen { opens_at: UnixMillis(1_500) }, at).retry_after_ms,
        Some(500)
    );
}

fn order(state: OrderState) -> Order {
    let hold: HoldId = "hold_1".parse().unwrap();
    Order {
        order: NewOrder {
            id: order_id(&hold),
            payment: payment_id(&hold),
            provider: "sandbox".into(),
            merchant: MerchantId::main(),
            live: "demo".parse().unwrap(),
            sale: "sale_1".parse().unwrap(),
            product: ProductId::generate("p_", UnixMillis(0), 0),
            hold,
            buyer: "ann".parse().unwrap(),
            buyer_name: "Ann".into(),
            quantity: 2,
            unit_price: eur(1500),
            total: eur(3000),
            coupon: None,
            lines: vec![OrderLine::only("tea".parse().unwrap(), 2, eur(1500), eur(3000))],
            created_at: UnixMillis(1),
        },
        state,
        paid: None,
        returned: None,
        refunded_minor: 0,
        dispute: None,
        updated_at: UnixMillis(2),
    }
}

#[test]
fn a_sold_order_reaches_buyer_and_host_and_is_counted_once() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("host", Role::Host));
    play.input(Input::OrderMoved { order: order(OrderState::Paying), hold: None });
    for again in 0..2 {
        let input = Input::OrderMoved { order: order(OrderState::Sold), hold: Some(Outcome::Sold) };
        let heard = lines(&play.input(input));
        assert_eq!(heard[0].1["hold"]["state"], "sold");
        assert_eq!(heard[1].1["order"]["state"], "sold");
        let told_host = heard.iter().find(|(to, _)| *to == To::Staff);
        assert_eq!(told_host.is_some(), again == 0, "a repeated callback is no news");
    }
    assert_eq!(play.stage.totals.orders, 1);
    assert_eq!(play.stage.totals.units, 2);
    assert_eq!(play.stage.totals.revenue, [eur(3000)]);
}

#[test]
fn the_host_hears_of_b_frames_whenever_they_come_and_viewers_do_not() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.input(Input::Broadcasting(true));
    let heard = lines(&play.input(Input::OutOfOrder));
    assert_eq!((heard.len(), &heard[0].0), (1, &To::Staff));
    assert_eq!((&heard[0].1["type"], &heard[0].1["warning"]), (&"host.warning".into(), &"b_frames".into()));
    let warned = |outputs: &[Output]| lines(outputs).iter().any(|(_, line)| line["type"] == "host.warning");
    assert!(warned(&play.join(2, viewer("host", Role::Host))));
    assert!(!warned(&play.join(3, viewer("ben", Role::Viewer))));
    play.input(Input::Broadcasting(true));
    assert!(!warned(&play.join(4, viewer("host", Role::Host))), "another broadcast");
}

#[test]
fn what_went_back_stays_however_words_on_an_order_overtake_each_other() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let moved = |order: Order| Input::OrderMoved { order, hold: None };
    let sold = order(OrderState::Sold);
    play.input(moved(sold.clone()));
    let refunded = Order { refunded_minor: 3000, updated_at: UnixMillis(9), ..sold.clone() };
    play.input(Input::OrderChanged { order: refunded, refunded_minor: 3000 });
    // Read before the refund, told after it.
    let restocked = Order { returned: Some(2.into()), updated_at: UnixMillis(8), ..sold.clone() };
    let heard = lines(&play.input(moved(restocked)));
    let of_ann = &heard.iter().find(|(_, line)| line["type"] == "order.changed").unwrap().1["order"];
    assert_eq!(
        (&of_ann["refunded"]["amount_minor"], &of_ann["returned"]),
        (&3000.into(), &2.into()),
        "{of_ann}"
    );
    // And the other way round.
    let disputed = Order { refunded_minor: 3000, updated_at: UnixMillis(10), ..sold };
    let heard = lines(&play.input(Input::OrderChanged { order: disputed, refunded_minor: 0 }));
    let of_ann = &heard.iter().find(|(_, line)| line["type"] == "order.changed").unwrap().1["order"];
    assert_eq!(
        (&of_ann["refunded"]["amount_minor"], &of_ann["returned"]),
        (&3000.into(), &2.into()),
        "{of_ann}"
    );
}

#[test]
fn a_checkout_that_does_not_say_where_to_goes_nowhere() {
    let mut play = Play::new();
    play.stage.settings.contact = ContactNeed::Email;
    play.join(1, viewer("ann", Role::Viewer));
    let checkout = |contact: Option<Contact>| Request::Checkout {
        sale_id: "sale_1".parse().unwrap(),
        hold_id: "hold_1".parse().unwrap(),
        coupon: None,
        referrer: None,
        contact: contact.map(Box::new),
        charges: Vec::new(),
    };
    let refused = play.ask(1, checkout(None));
    assert!(matches!(&refused[..], [Output::Deliver(_)]), "{refused:?}");
    let contact = Contact { email: "ann@example.org".into(), ..Contact::default() };
    let outputs = play.ask(1, checkout(Some(contact.clone())));
    let [Output::Ask { then: Then::Checkout { payer, .. }, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(payer.details.contact, Some(contact));
}

#[test]
fn all_hear_that_the_sound_is_not_for_webrtc_and_the_host_hears_why() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("host", Role::Host));
    play.input(Input::Broadcasting(true));
    let heard = lines(&play.input(Input::SoundByMoqOnly));
    let of = |kind: &str| heard.iter().find(|(_, line)| line["type"] == kind).unwrap();
    assert_eq!(
        (&of("live.changed").0, &of("live.changed").1["live"]["sound"]),
        (&To::All, &"moq_only".into())
    );
    assert_eq!((&of("host.warning").0, &of("host.warning").1["warning"]), (&To::Staff, &"aac".into()));
    let hello = lines(&play.join(3, viewer("ben", Role::Viewer)));
    assert!(hello.iter().any(|(_, line)| line["result"]["live"]["sound"] == "moq_only"), "{hello:?}");
    assert!(
        lines(&play.join(4, viewer("other", Role::Host))).iter().any(|(_, line)| line["warning"] == "aac")
    );
    let heard = lines(&play.input(Input::Broadcasting(true)));
    let changed = heard.iter().find(|(_, line)| line["type"] == "live.changed").unwrap();
    assert_eq!(changed.1["live"].get("sound"), None, "another broadcast");
}

#[test]
fn checkout_goes_from_the_gate_to_the_ledger_to_the_buyer() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let request = Request::Checkout {
        sale_id: "sale_1".parse().unwrap(),
        hold_id: "hold_1".parse().unwrap(),
        coupon: None,
        referrer: None,
        contact: None,
        charges: Vec::new(),
    };
    let outputs = play.ask(1, request);
    let [Output::Ask { sale, op: Some(Op::StartPayment { order: asked, .. }), then }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*asked, order(OrderState::Paying).order.id);
    let deadline = play.now.wall + HOUR;
    let answer = Ok(applied(play.now, 2, (8, 2, 0), vec![Outcome::Paying { deadline }]));
    let outputs = play.input(Input::Applied { sale: sale.clone(), answer, then: vec![then.clone()] });
    let Some(Output::Checkout { member, id, sale, .. }) =
        outputs.iter().find(|output| matches!(output, Output::Checkout { .. }))
    else {
        panic!("{outputs:?}")
    };
    let answer =
        Ok(CheckedOut { order: order(OrderState::Paying), pay_url: "/sandbox/pay/x".into(), deadline });
    let input = Input::CheckedOut { member: *member, id: *id, sale: sale.id.clone(), answer };
    let heard = lines(&play.input(input));
    assert_eq!(heard[0].1["result"]["pay_url"], "/sandbox/pay/x");
    assert_eq!(heard[0].1["result"]["hold"]["state"], "paying");
    assert_eq!(heard[1].0, To::Staff);
}

#[test]
fn a_scheduled_sale_is_checked_before_anything_is_written() {
    let mut play = Play::new();
    play.join(1, viewer("host", Role::Host));
    let schedule = |product: &str, stock| {
        Request::SaleSchedule(haul_wire::SaleSchedule {
            product_id: product.parse().unwrap(),
            variant_id: None,
            price_minor: 100,
            stock,
            per_buyer: 1,
            opens_at: None,
            duration_ms: 60_000,
            hold_ms: None,
            offer_ms: None,
            draw_ms: None,
            mode: haul_wire::SaleMode::HoldInCart,
            early: Vec::new(),
            more: Vec::new(),
            key: None,
        })
    };
    assert_eq!(error_code(&play.ask(1, schedule("shoe", 1))), "not_found");
    assert_eq!(error_code(&play.ask(1, schedule("tea", 0))), "bad_request");
    let outputs = play.ask(1, schedule("tea", 5));
    let [Output::PutSale { sale, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(sale.unit_price, eur(100));
    assert_eq!(sale.terms.opens_at, play.now.wall);

    let answer = Ok((sale.clone(), applied(play.now, 1, (5, 0, 0), vec![])));
    let heard = lines(&play.input(Input::SalePut { member: MemberId(1), id: 2, answer }));
    assert_eq!(heard[0].1["sale"]["state"], "open");
    assert_eq!(heard[1].1["result"]["sale"]["stock"], 5);
}

#[test]
fn a_sale_made_under_a_key_is_one_however_often_it_is_asked_for() {
    let mut play = Play::new();
    play.join(1, viewer("host", Role::Host));
    play.join(2, viewer("other", Role::Host));
    let mut ask = |member, key: &str| {
        let outputs = play.ask(
            member,
            parsed(
                json!({ "id": 2, "type": "sale.schedule", "product_id": "tea", "price_minor": 100, "stock": 5,
                "duration_ms": 60_000, "key": key }),
            ),
        );
        let [Output::PutSale { sale, made: true, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        sale.id.clone()
    };
    let first = ask(1, "a");
    assert_eq!(first, ask(1, "a"));
    assert_ne!(first, ask(1, "b"));
    assert_ne!(first, ask(2, "a"), "keys are their user's own");
    let long = parsed(
        json!({ "id": 2, "type": "sale.schedule", "product_id": "tea", "price_minor": 100, "stock": 5,
        "duration_ms": 60_000, "key": "k".repeat(65) }),
    );
    assert_eq!(error_code(&play.ask(1, long)), "bad_request");
}

#[test]
fn the_viewer_count_is_told_once_a_second_at_most() {
    let mut play = Play::new();
    for member in 1..=3 {
        play.join(member, None);
    }
    play.join(4, viewer("host", Role::Host));
    play.wait(Duration::from_secs(1));
    let heard = play.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].1["viewers"], 3, "the host does not count");
    play.input(Input::Leave { member: MemberId(1) });
    play.input(Input::Leave { member: MemberId(1) });
    play.wait(Duration::from_millis(500));
    assert!(play.heard().is_empty());
    play.wait(Duration::from_millis(500));
    assert_eq!(play.heard()[0].1["viewers"], 2);
}

#[test]
fn a_pin_goes_when_its_product_leaves_the_bag() {
    let mut play = Play::new();
    play.join(1, viewer("host", Role::Host));
    let heard = lines(&play.ask(1, Request::Pin { product_id: "tea".parse().unwrap() }));
    assert_eq!(heard[0].1["pin"]["product_id"], "tea");
    let heard = lines(&play.input(Input::Bag(Vec::new())));
    assert_eq!(heard[0].1["type"], "products.changed");
    assert_eq!(heard[1].1["pin"], Value::Null);
}

#[test]
fn an_order_never_goes_back() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("host", Role::Host));
    let moved = |state| Input::OrderMoved { order: order(state), hold: None };
    for state in [OrderState::Paying, OrderState::Sold] {
        assert!(!play.input(moved(state)).is_empty());
    }
    for stale in [OrderState::Paying, OrderState::Expired] {
        assert_eq!(play.input(moved(stale)), [], "{stale:?}");
    }
    let answer =
        Ok(CheckedOut { order: order(OrderState::Paying), pay_url: "/".into(), deadline: UnixMillis(9) });
    let late = Input::CheckedOut { member: MemberId(1), id: 7, sale: "sale_1".parse().unwrap(), answer };
    assert_eq!(play.input(late).len(), 1, "the reply and nothing to the host");
    assert!(!play.input(moved(OrderState::Sold)).iter().any(|output| matches!(output, Output::OrderNews(_))));
    assert_eq!(play.stage.totals.orders, 1);
}

#[test]
fn a_gate_that_lost_a_sale_is_told_of_it_again() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let outputs = play.ask(1, hold("k"));
    let [Output::Ask { sale, then, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let answer = Ok(applied(play.now, 0, (0, 0, 0), vec![Outcome::Refused(Refusal::UnknownSale)]));
    let outputs = play.input(Input::Applied { sale: sale.clone(), answer, then: vec![then.clone()] });
    assert_eq!(error_code(&outputs), "unavailable");
    assert!(outputs.iter().any(|output| matches!(output, Output::TellGate(told) if told.id == *sale)));
}

#[test]
fn strangers_leave_when_a_live_becomes_private() {
    let mut play = Play::new();
    play.join(1, None);
    play.join(2, viewer("ann", Role::Viewer));
    let record = LiveRecord { public: false, ..play.stage.record.clone() };
    let outputs = play.input(Input::Record(record));
    assert!(outputs.contains(&Output::End(MemberId(1), 4401)));
    assert!(!outputs.contains(&Output::End(MemberId(2), 4401)));
}

#[test]
fn a_shopper_who_asks_too_often_waits() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    for n in 0..SHOPPING.burst {
        assert!(matches!(&play.ask(1, hold(&n.to_string()))[..], [Output::Ask { .. }]));
    }
    let refused = play.ask(1, hold("more"));
    assert_eq!(error_code(&refused), "rate_limited");
    play.now = play.now.after(SHOPPING.every);
    assert!(matches!(&play.ask(1, hold("more"))[..], [Output::Ask { .. }]));
}

#[test]
fn a_sale_that_the_gate_has_lost_is_frozen_until_it_is_rebuilt() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("bob", Role::Viewer));
    play.wait(Duration::from_secs(60));
    play.outputs();
    let asked = play.ask(1, hold("k"));
    let [Output::Ask { sale, then, .. }] = &asked[..] else { panic!("{asked:?}") };
    let (sale, then) = (sale.clone(), then.clone());
    let stale = || Err(GateError::Stale { at: Mark::default() });
    let outputs = play.input(Input::Applied { sale: sale.clone(), answer: stale(), then: vec![then] });
    let told = lines(&outputs);
    assert_eq!((&told[0].0, &told[0].1["sale"]["state"]), (&To::All, &json!("frozen")));
    assert_eq!((&told[1].0, &told[1].1["code"]), (&To::Member(MemberId(1)), &json!("pending")));
    assert!(outputs.iter().any(|output| matches!(output, Output::TellGate(_))));
    // Meanwhile the gate is left alone, and the room is not told again.
    let again = play.input(Input::Applied { sale: sale.clone(), answer: stale(), then: Vec::new() });
    assert_eq!(again, []);
    assert_eq!(error_code(&play.ask(2, hold("k"))), "pending");

    let known = play.stage.sale(&sale).unwrap().clone();
    let rebuilt =
        Applied { mark: Mark { epoch: 2, sequence: 1 }, ..applied(play.now, 0, (9, 1, 0), Vec::new()) };
    let outputs = play.input(Input::SaleKnown { sale: known, applied: rebuilt });
    let told = &lines(&outputs)[0].1["sale"];
    assert_eq!((&told["state"], &told["available"]), (&json!("open"), &json!(9)));
    assert!(outputs.contains(&Output::LookForLost { sale: sale.clone(), epoch: 2 }));
    let lost = HoldRecord {
        hold: "hold_9".parse().unwrap(),
        buyer: "bob".parse().unwrap(),
        units: 1.into(),
        made: 1,
        state: haul_commerce::book::HoldState::Released,
        deadline: play.now.wall,
        order: None,
        extended: false,
        retaken: false,
        unreserved: false,
        returned: None,
        coupon: None,
    };
    let outputs = play.input(Input::HoldsLost { sale: sale.clone(), holds: vec![lost] });
    let (to, told) = &lines(&outputs)[0];
    assert_eq!((to, &told["hold"]["state"]), (&To::Buyer("bob".parse().unwrap()), &json!("released")));
    // An answer from before it was rebuilt says nothing any more.
    play.input(Input::Applied {
        sale,
        answer: Ok(applied(play.now, 900, (1, 9, 0), Vec::new())),
        then: Vec::new(),
    });
    assert_eq!(play.stage.sale_views(play.now)[0].available, 9);
    assert!(matches!(play.ask(2, hold("k2"))[..], [Output::Ask { .. }]));
}

#[test]
fn a_sale_that_the_gate_has_not_answered_about_is_there_and_waits() {
    let mut play = Play::with(None, Vec::new());
    play.join(1, viewer("ann", Role::Viewer));
    assert_eq!(play.stage.sale_views(play.now)[0].state, SaleState::Frozen);
    play.wait(Duration::from_secs(60));
    play.outputs();
    // Not "no such sale": who asks again with the same key gets it.
    assert_eq!(error_code(&play.ask(1, hold("k"))), "pending");
    let sale = play.stage.sale(&"sale_1".parse().unwrap()).unwrap().clone();
    let known = applied(play.now, 3, (8, 1, 1), vec![]);
    let outputs = play.input(Input::SaleKnown { sale, applied: known });
    let told = &lines(&outputs)[0].1["sale"];
    assert_eq!((&told["state"], &told["available"], &told["sold"]), (&json!("open"), &json!(8), &json!(1)));
    assert!(matches!(play.ask(1, hold("k"))[..], [Output::Ask { .. }]));
}

fn say(text: &str) -> Request {
    Request::Chat(ChatAsk::Send { text: text.into(), client_id: None, reply_to: None })
}

fn against(action: Measure, user: &str) -> Request {
    Request::Chat(ChatAsk::Moderate {
        action,
        message_id: None,
        user_id: Some(user.parse().unwrap()),
        duration_ms: Some(60_000),
        reason: Some("spam".into()),
    })
}

#[test]
fn who_is_banned_goes_and_does_not_come_back_before_the_time() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("host", Role::Host));
    assert_eq!(error_code(&play.ask(1, against(Measure::Ban, "host"))), "forbidden");
    assert_eq!(error_code(&play.ask(2, against(Measure::Ban, "host"))), "forbidden");
    let outputs = play.ask(2, against(Measure::Ban, "ann"));
    assert!(outputs.contains(&Output::End(MemberId(1), 4410)));
    assert!(outputs.iter().any(|output| matches!(output, Output::Keep(note) if note.name == "standing/ann")));
    play.input(Input::Leave { member: MemberId(1) });
    let outputs = play.join(3, viewer("ann", Role::Viewer));
    let failure = &lines(&outputs)[0].1;
    assert_eq!((&failure["code"], &failure["retry_after_ms"]), (&json!("banned"), &json!(60_000)));
    assert_eq!(
        (&failure["standing"]["measure"], &failure["standing"]["reason"]),
        (&json!("ban"), &json!("spam"))
    );
    assert!(failure["standing"]["until"].is_string(), "{failure}");
    assert!(
        outputs.contains(&Output::End(MemberId(3), 4410)) && !outputs.contains(&Output::Welcome(MemberId(3)))
    );
    play.input(Input::Leave { member: MemberId(3) });
    assert_eq!(play.stage.viewers(), 0, "who was not welcomed was not counted");
    play.wait(Duration::from_secs(60));
    assert!(play.join(4, viewer("ann", Role::Viewer)).contains(&Output::Welcome(MemberId(4))));
}

#[test]
fn a_buyer_is_known_in_the_chat_from_their_first_order_on() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let badges = |outputs: &[Output]| lines(outputs)[1].1.get("badges").cloned();
    assert_eq!(badges(&play.ask(1, say("hi"))), None);
    play.input(Input::OrderMoved { order: order(OrderState::Sold), hold: None });
    assert_eq!(badges(&play.ask(1, say("got it"))), Some(json!(["verified_buyer"])));
    // Who comes again is known by the ledger.
    let bob = viewer("bob", Role::Viewer);
    play.input(Input::Join { member: MemberId(2), id: 1, viewer: bob, locale: None, resume: None });
    let orders = vec![order(OrderState::Sold), order(OrderState::Sold), order(OrderState::Expired)];
    play.input(Input::Found {
        member: MemberId(2),
        personal: Personal { holds: Vec::new(), bought: orders.len() as u32, orders },
    });
    assert_eq!(badges(&play.ask(2, say("again"))), Some(json!(["verified_buyer", "repeat_buyer"])));
}

#[test]
fn a_muted_person_is_told_for_how_long_in_every_answer() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.join(2, viewer("mo", Role::Moderator));
    play.ask(2, against(Measure::Mute, "ann"));
    play.now = play.now.after(Duration::from_secs(20));
    let refused = &lines(&play.ask(1, say("hi")))[0].1;
    assert_eq!((&refused["code"], &refused["retry_after_ms"]), (&json!("muted"), &json!(40_000)));
    let hello = &lines(&play.join(3, viewer("ann", Role::Viewer)))[0].1;
    assert_eq!(hello["result"]["you"]["standing"]["measure"], "mute");
}

#[test]
fn a_pin_says_when_in_the_broadcast_it_was() {
    let mut play = Play::new();
    play.join(1, viewer("host", Role::Host));
    play.input(Input::Broadcasting(true));
    play.now = play.now.after(Duration::from_millis(4_321));
    let heard = lines(&play.ask(1, Request::Pin { product_id: "tea".parse().unwrap() }));
    assert_eq!(heard[0].1["pin"]["media_ms"], 4_321);
}

#[test]
fn those_who_must_leave_come_back_spread_over_time() {
    let mut play = Play::new();
    for member in 0..5_000 {
        play.join(member, None);
    }
    play.outputs();
    let heard = lines(&play.input(Input::Drain { retry_after_ms: 1_000 }));
    assert_eq!(heard.len(), 5_000);
    let mut waves = BTreeMap::<u64, usize>::new();
    for (_, line) in &heard {
        *waves.entry(line["retry_after_ms"].as_u64().unwrap() / 1_000).or_default() += 1;
    }
    assert_eq!(waves.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(waves.values().all(|wave| (900..1_100).contains(wave)), "{waves:?}");
}

#[test]
fn a_question_is_about_a_product_of_the_bag() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    let ask = |product: &str| {
        Request::Question(haul_wire::questions::QuestionAsk::Ask {
            text: "how big?".into(),
            product_id: Some(product.parse().unwrap()),
            client_id: None,
        })
    };
    assert_eq!(error_code(&play.ask(1, ask("shoe"))), "not_found");
    let heard = lines(&play.ask(1, ask("tea")));
    assert_eq!(heard[0].1["result"]["question_id"], heard[1].1["question"]["id"]);
    let hello = &lines(&play.join(2, None))[0].1;
    assert_eq!(hello["result"]["room"]["questions"][0]["text"], "how big?");
}

#[test]
fn likes_have_no_reply_and_are_told_as_sums() {
    let mut play = Play::new();
    play.join(1, viewer("ann", Role::Viewer));
    play.wait(Duration::from_secs(2));
    play.outputs();
    for _ in 0..100 {
        let like = haul_wire::crowd::CrowdAsk::Like { count: 2, kind: Default::default() };
        assert_eq!(play.ask(1, Request::Crowd(like)), []);
    }
    play.wait(Duration::from_secs(1));
    let heard = play.heard();
    assert_eq!((heard.len(), &heard[0].1["total"]), (1, &json!(200)));
}

/// A host opens a sale of tea in two sizes; the gate has answered.
fn two_sizes(play: &mut Play) -> SaleId {
    play.join(1, viewer("host", Role::Host));
    let ask = json!({ "id": 2, "type": "sale.schedule", "product_id": "tea", "variant_id": "small", "price_minor": 100,
        "stock": 5, "per_buyer": 2, "duration_ms": 60_000, "offer_ms": 5_000, "early": [{ "tier": "gold", "ms": 1000 }],
        "more": [{ "product_id": "tea", "variant_id": "large", "price_minor": 150, "stock": 3 }] });
    let (_, request) = haul_wire::parse(&ask.to_string()).unwrap();
    let outputs = play.ask(1, request);
    let [Output::PutSale { sale, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    let line = |available| Counts { available, held: 0, sold: 0 };
    let known = Applied { lines: vec![line(5), line(3)], ..applied(play.now, 1, (8, 0, 0), vec![]) };
    let answer = Ok((sale.clone(), known));
    let told = lines(&play.input(Input::SalePut { member: MemberId(1), id: 2, answer }));
    let view = &told[0].1["sale"];
    assert_eq!((&view["stock"], &view["variant_id"]), (&json!(8), &json!("small")));
    assert_eq!(
        view["lines"][1],
        json!({ "product_id": "tea", "variant_id": "large", "price": { "amount_minor": 150, "currency": "EUR" },
                "per_buyer": 1, "stock": 3, "available": 3, "held": 0, "sold": 0 })
    );
    assert_eq!(view["early"][0]["tier"], "gold");
    sale.id.clone()
}

fn parsed(text: Value) -> Request {
    haul_wire::parse(&text.to_string()).unwrap().1
}

#[test]
fn a_bundle_is_asked_for_by_line_and_told_by_line() {
    let mut play = Play::new();
    let sale = two_sizes(&mut play);
    play.join(2, viewer("ann", Role::Viewer).map(|viewer| Viewer { tier: Some("gold".into()), ..viewer }));
    let ask = |fields: Value| {
        let mut request = json!({ "id": 2, "type": "hold", "sale_id": sale.as_str(), "key": "k" });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        parsed(request)
    };
    let bundle = json!({ "lines": [{ "line": 1, "quantity": 1 }, { "line": 0, "quantity": 2 }] });
    let outputs = play.ask(2, ask(bundle));
    let [Output::Ask { op: Some(Op::Hold { units, tier, .. }), then, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!((units.to_string(), tier.as_ref().unwrap().as_str()), ("0:2+1:1".to_owned(), "gold"));
    let line = |available, held| Counts { available, held, sold: 0 };
    let held = Applied {
        lines: vec![line(3, 2), line(2, 1)],
        ..applied(play.now, 2, (5, 3, 0), vec![Outcome::Held { deadline: UnixMillis(9) }])
    };
    let told =
        lines(&play.input(Input::Applied { sale: sale.clone(), answer: Ok(held), then: vec![then.clone()] }));
    assert_eq!(told[0].1["result"]["hold"]["quantity"], 3);
    assert_eq!(told[0].1["result"]["hold"]["lines"][1], json!({ "line": 1, "quantity": 1 }));
    assert_eq!(
        told[1].1["lines"],
        json!([{ "available": 3, "held": 2, "sold": 0 }, { "available": 2, "held": 1, "sold": 0 }])
    );

    for bad in [
        json!({ "quantity": 1, "lines": [{ "line": 1, "quantity": 1 }] }),
        json!({ "lines": [{ "line": 1, "quantity": 1 }, { "line": 1, "quantity": 1 }] }),
        json!({ "lines": vec![json!({ "line": 1, "quantity": 1 }); MAX_HOLD_LINES + 1] }),
    ] {
        assert_eq!(error_code(&play.ask(2, ask(bad))), "bad_request");
    }
}

#[test]
fn who_waits_in_line_is_told_when_it_is_their_turn() {
    let mut play = Play::new();
    let sale = two_sizes(&mut play);
    play.join(2, viewer("ann", Role::Viewer));
    let wait = json!({ "id": 2, "type": "wait", "sale_id": sale.as_str(), "line": 1, "key": "k" });
    let outputs = play.ask(2, parsed(wait));
    let [Output::Ask { op: Some(Op::Wait { hold, units, .. }), then, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let (hold, units) = (hold.clone(), units.clone());
    let answer = Ok(applied(play.now, 2, (8, 0, 0), vec![Outcome::Waiting { position: 4 }]));
    let told = lines(&play.input(Input::Applied { sale: sale.clone(), answer, then: vec![then.clone()] }));
    let view = &told[0].1["result"]["hold"];
    assert_eq!((&view["state"], &view["position"]), (&json!("waiting"), &json!(4)));
    let turn = Offered { hold, buyer: "ann".parse().unwrap(), units, deadline: UnixMillis(77) };
    let answer = Ok(Applied { offered: vec![turn], ..applied(play.now, 3, (8, 0, 0), vec![]) });
    let told = lines(&play.input(Input::Applied { sale, answer, then: vec![] }));
    assert_eq!(told[0].0, To::Buyer("ann".parse().unwrap()));
    assert_eq!(
        (&told[0].1["hold"]["state"], &told[0].1["hold"]["deadline"]),
        (&json!("held"), &json!(UnixMillis(77)))
    );
}

#[test]
fn a_sale_is_moved_until_it_has_opened_and_ended_later_until_it_is_over() {
    let mut play = Play::new();
    let sale = two_sizes(&mut play);
    play.join(2, viewer("ann", Role::Viewer));
    let ask = |times: Value| {
        let mut ask = json!({ "id": 2, "type": "sale.reschedule", "sale_id": sale.as_str() });
        ask.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        parsed(ask)
    };
    let now = play.now.wall.0;
    assert_eq!(error_code(&play.ask(2, ask(json!({ "closes_at": now + 90_000 })))), "forbidden");
    assert_eq!(
        error_code(&play.ask(1, ask(json!({ "opens_at": now + 90_000 })))),
        "wrong_state",
        "it is open"
    );
    assert_eq!(error_code(&play.ask(1, ask(json!({ "closes_at": 1 })))), "bad_request");
    let outputs = play.ask(1, ask(json!({ "closes_at": now + 90_000 })));
    let [Output::MoveSale { to, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((to.closes_at.unwrap().0, to.paused), (now + 90_000, None));
}

#[test]
fn a_host_pauses_a_sale_goes_on_and_adds_stock() {
    let mut play = Play::new();
    let sale = two_sizes(&mut play);
    play.join(2, viewer("ann", Role::Viewer));
    let ask = |kind: &str| parsed(json!({ "id": 2, "type": kind, "sale_id": sale.as_str() }));
    assert_eq!(error_code(&play.ask(2, ask("sale.pause"))), "forbidden");
    let moved = |kind: &str, play: &mut Play| match &play.ask(1, ask(kind))[..] {
        [Output::MoveSale { to, .. }] => *to,
        outputs => panic!("{outputs:?}"),
    };
    let going_on = moved("sale.resume", &mut play);
    assert_eq!(going_on.paused, Some(false), "it goes on: an answer that was lost is had by asking again");
    // Nothing else of it changes, whatever else is changed at the same time.
    let pause = SaleMove { paused: Some(true), ..SaleMove::default() };
    assert_eq!(moved("sale.pause", &mut play), pause);
    let mut paused = play.stage.sale(&sale).unwrap().clone();
    paused.terms.paused = true;
    let answer = Ok((paused, applied(play.now, 2, (8, 0, 0), vec![])));
    let told = lines(&play.input(Input::SalePut { member: MemberId(1), id: 2, answer }));
    assert_eq!(told[0].1["sale"]["state"], "paused");
    assert_eq!(moved("sale.pause", &mut play), pause, "still");

    let add = |line: u8, units: u32| {
        parsed(
            json!({ "id": 2, "type": "sale.add_stock", "sale_id": sale.as_str(), "line": line, "units": units, "key": "k" }),
        )
    };
    assert_eq!(error_code(&play.ask(2, add(1, 5))), "forbidden");
    assert_eq!(error_code(&play.ask(1, add(9, 5))), "bad_request");
    assert_eq!(error_code(&play.ask(1, add(1, 0))), "bad_request");
    let outputs = play.ask(1, add(1, 5));
    assert!(matches!(&outputs[..], [Output::AddStock { line: 1, units: 5, .. }]), "{outputs:?}");
}

#[test]
fn units_of_an_order_come_back_when_the_host_says_so() {
    let mut play = Play::new();
    play.join(1, viewer("host", Role::Host));
    play.join(2, viewer("ann", Role::Viewer));
    let ask = || parsed(json!({ "id": 2, "type": "order.restock", "order_id": "order_1", "key": "k" }));
    assert_eq!(error_code(&play.ask(2, ask())), "forbidden");
    let outputs = play.ask(1, ask());
    assert!(matches!(&outputs[..], [Output::Restock { units: None, .. }]), "{outputs:?}");
    play.input(Input::OrderMoved { order: order(OrderState::Sold), hold: None });
    let back = Order { returned: Some(1.into()), ..order(OrderState::Sold) };
    let outputs = play.input(Input::OrderMoved { order: back, hold: None });
    let told = lines(&outputs);
    assert_eq!((&told[1].0, &told[1].1["order"]["returned"]), (&To::Staff, &json!(1)));
    assert_eq!(told[1].1["totals"]["orders"], 1, "it is sold all the same");
    assert!(!outputs.iter().any(|output| matches!(output, Output::OrderNews(_))));
}

#[test]
fn what_is_kept_is_answered_and_told_when_it_is_written_and_pending_where_it_is_not_in_time() {
    let mut play = Play::new();
    play.join(1, viewer("mo", Role::Moderator));
    play.join(2, viewer("ann", Role::Viewer));
    play.ledger = false;
    let ban = Request::Chat(ChatAsk::Moderate {
        action: Measure::Ban,
        message_id: None,
        user_id: Some("ann".parse().unwrap()),
        duration_ms: None,
        reason: None,
    });
    let outputs = play.ask(1, ban.clone());
    let [Output::Write { number, .. }] = outputs[..] else { panic!("{outputs:?}") };
    let said = Request::Chat(ChatAsk::Send { text: "hi".into(), client_id: None, reply_to: None });
    assert_eq!(lines(&play.ask(2, said))[0].1["type"], "reply", "whoever waits holds up nobody else");
    play.wait(Duration::from_secs(5));
    let outputs = play.outputs();
    assert!(lines(&outputs).iter().any(|(_, line)| line["code"] == "pending"), "{outputs:?}");
    assert!(outputs.contains(&Output::Late(1)));
    assert!(play.ask(1, ban.clone()).is_empty(), "the same again waits for the same");
    let outputs = play.input(Input::Written { upto: number });
    assert_eq!(lines(&outputs)[0].1["type"], "reply");
    assert!(outputs.contains(&Output::End(MemberId(2), haul_wire::close::BANNED)));
}

#[test]
fn a_ban_of_the_hosts_id_puts_out_neither_the_host_nor_who_comes_with_the_hosts_token() {
    let mut play = Play::new();
    play.join(1, viewer("mo", Role::Moderator));
    let ban = Request::Chat(ChatAsk::Moderate {
        action: Measure::Ban,
        message_id: None,
        user_id: Some("hosty".parse().unwrap()),
        duration_ms: None,
        reason: None,
    });
    play.ask(1, ban.clone());
    let host = play.join(2, viewer("hosty", Role::Host));
    assert_eq!(lines(&host)[0].1["type"], "reply", "{host:?}");
    assert_eq!(lines(&host)[0].1["result"]["you"]["standing"], Value::Null);
    play.join(3, viewer("hosty", Role::Viewer));
    assert_eq!(error_code(&play.ask(1, ban)), "forbidden", "whichever of the two connections is found first");
}
