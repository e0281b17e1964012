//! The adapter against a fake that keeps to Stripe's documented API: form encoding, bearer keys, idempotency keys that
//! are remembered with their answers, and error objects.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use haul_commerce::{PaymentError, PaymentProvider, PaymentRequest, RefundRequest};
use haul_courier::{Client, Reach};
use haul_model::{Money, UnixMillis};
use haul_payments::{
    Stripe,
    stripe::{Secrets, Settings},
};
use serde_json::{Value, json};
use support::{Answer, Asked, Fake, Said};

const KEY: &str = "sk_test_123";

/// What the fake remembers.
#[derive(Default)]
struct Account {
    /// Answers by idempotency key, with the parameters that they belong to.
    answers: HashMap<String, (String, Answer)>,
    sessions: HashMap<String, Value>,
    /// Refunds, and of which PaymentIntent.
    refunds: Vec<Value>,
    /// Faults to come, one a request: a status, 0 for none at all; "after" carries the request out first.
    faults: Vec<(u16, bool)>,
    /// Instead of the answer to the request under way.
    lost: Option<u16>,
}

fn error(status: u16, kind: &str, code: &str, message: &str) -> Answer {
    (status, json!({ "error": { "type": kind, "code": code, "message": message } }).to_string())
}

impl Account {
    fn answer(&mut self, asked: &Asked) -> Said {
        if asked.header("authorization") != Some(format!("Bearer {KEY}")) {
            return error(401, "invalid_request_error", "", "Invalid API Key provided").into();
        }
        let said = self.idempotent(asked);
        match self.lost.take() {
            Some(status) => (status, String::new()).into(),
            None => said,
        }
    }

    /// The same key gives the same answer, be it an error; with other parameters, an error.
    fn idempotent(&mut self, asked: &Asked) -> Said {
        let Some(key) = asked.header("idempotency-key") else { return self.begin(asked).into() };
        let parameters = format!("{} {}", asked.path, asked.body);
        if let Some((known, answer)) = self.answers.get(&key) {
            return match *known == parameters {
                true => Said { answer: answer.clone(), replayed: true },
                false => error(
                    400,
                    "idempotency_error",
                    "",
                    "Keys for idempotent requests can only be used with the same parameters",
                )
                .into(),
            };
        }
        let answer = self.begin(asked);
        // What was not begun for want of time is not remembered.
        if answer.0 != 429 {
            self.answers.insert(key, (parameters, answer.clone()));
        }
        answer.into()
    }

    fn begin(&mut self, asked: &Asked) -> Answer {
        let fault = (!self.faults.is_empty()).then(|| self.faults.remove(0));
        match fault {
            Some((status, false)) => error(status, "api_error", "", "not now"),
            Some((status, true)) => {
                self.lost = Some(status);
                self.carry_out(asked)
            }
            None => self.carry_out(asked),
        }
    }

    fn carry_out(&mut self, asked: &Asked) -> Answer {
        let form = asked.form();
        let (path, _) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (asked.method.as_str(), &parts[..]) {
            ("POST", ["v1", "checkout", "sessions"]) => {
                assert_eq!(asked.header("content-type").unwrap(), "application/x-www-form-urlencoded");
                let now_s = UnixMillis::from(std::time::SystemTime::now()).0 / 1000;
                let lives_s = form["expires_at"].parse::<u64>().unwrap() - now_s;
                if !(30 * 60..=24 * 3600).contains(&lives_s) {
                    return error(
                        400,
                        "invalid_request_error",
                        "",
                        "expires_at must be 30 minutes to 24 hours away",
                    );
                }
                for missing in ["mode", "success_url", "line_items[0][price_data][currency]"] {
                    if !form.contains_key(missing) {
                        return error(400, "invalid_request_error", "parameter_missing", missing);
                    }
                }
                let id = format!("cs_{}", self.sessions.len() + 1);
                let session = json!({ "id": id, "object": "checkout.session", "url": format!("https://checkout.stripe.com/c/pay/{id}"), "status": "open" });
                self.sessions.insert(id, session.clone());
                (200, session.to_string())
            }
            ("POST", ["v1", "checkout", "sessions", id, "expire"]) => match self.sessions.get_mut(*id) {
                None => error(404, "invalid_request_error", "resource_missing", "No such checkout.session"),
                Some(session) if session["status"] != "open" => error(
                    400,
                    "invalid_request_error",
                    "",
                    "Only Checkout Sessions with a status in [\"open\"] can be expired",
                ),
                Some(session) => {
                    session["status"] = json!("expired");
                    (200, session.to_string())
                }
            },
            ("POST", ["v1", "refunds"]) => {
                let amount: i64 = form["amount"].parse().unwrap();
                let went = |refund: &&Value| refund["status"] != "failed";
                let gone: i64 =
                    self.refunds.iter().filter(went).map(|refund| refund["amount"].as_i64().unwrap()).sum();
                if gone == 1_999 {
                    return error(
                        400,
                        "invalid_request_error",
                        "charge_already_refunded",
                        "has already been refunded",
                    );
                }
                if gone + amount > 1_999 {
                    return error(
                        400,
                        "invalid_request_error",
                        "",
                        "Refund amount is greater than unrefunded amount",
                    );
                }
                let refund = json!({
                    "id": format!("re_{}", self.refunds.len() + 1), "object": "refund", "amount": amount, "status": "succeeded",
                    "payment_intent": form["payment_intent"], "metadata": { "haul_refund": form["metadata[haul_refund]"] },
                });
                self.refunds.push(refund.clone());
                (200, refund.to_string())
            }
            ("GET", ["v1", "payment_intents", "pi_1"]) => {
                (200, json!({ "id": "pi_1", "metadata": { "haul_payment": "pay_1" } }).to_string())
            }
            ("GET", ["v1", "payment_intents", "pi_2"]) => {
                (200, json!({ "id": "pi_2", "metadata": null }).to_string())
            }
            ("GET", ["v1", "payment_intents", _]) => {
                error(404, "invalid_request_error", "resource_missing", "No such payment_intent")
            }
            ("GET", ["v1", "refunds"]) => {
                let of = |refund: &&Value| refund["payment_intent"] == form["payment_intent"];
                let data: Vec<&Value> = self.refunds.iter().filter(of).collect();
                (200, json!({ "object": "list", "data": data }).to_string())
            }
            _ => error(404, "invalid_request_error", "", "Unrecognized request URL"),
        }
    }
}

async fn stripe() -> (Stripe, Fake, Arc<Mutex<Account>>) {
    let account: Arc<Mutex<Account>> = Arc::default();
    let own = account.clone();
    let fake = Fake::start(move |asked| own.lock().unwrap().answer(asked)).await;
    (adapter(&fake.url, KEY), fake, account)
}

fn adapter(url: &str, key: &str) -> Stripe {
    let settings = Settings {
        api_url: url.to_owned(),
        secret_key: key.to_owned(),
        secrets: Secrets::new(&["whsec_test"]).unwrap(),
        return_url: "https://shop.example/live/{live}?order={order}".to_owned(),
    };
    Stripe::new(settings, Client::new(Reach::Anywhere), || std::time::SystemTime::now().into())
}

fn payment() -> PaymentRequest {
    PaymentRequest {
        payment: "pay_1".parse().unwrap(),
        attempt: 0,
        order: "order_1".parse().unwrap(),
        live: "demo".parse().unwrap(),
        buyer: "ann".parse().unwrap(),
        amount: eur(1_999),
        description: "2 × lamp & shade, “moon”".to_owned(),
        expires_at: UnixMillis(0),
    }
}

fn eur(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

fn refund(amount_minor: i64, attempt: u32) -> RefundRequest {
    RefundRequest {
        refund: "refund_1".parse().unwrap(),
        payment: "pay_1".parse().unwrap(),
        reference: Some("pi_1".to_owned()),
        order: "order_1".parse().unwrap(),
        amount: eur(amount_minor),
        reason: String::new(),
        attempt,
    }
}

#[tokio::test]
async fn a_session_is_opened_with_the_order_in_it_and_once() {
    let (stripe, fake, account) = stripe().await;
    let first = stripe.start(&payment()).await.unwrap();
    assert_eq!(first.url, "https://checkout.stripe.com/c/pay/cs_1");
    assert_eq!(stripe.start(&payment()).await.unwrap(), first, "asked again, it is the same session");
    assert_eq!(account.lock().unwrap().sessions.len(), 1);
    let form = fake.asked()[0].form();
    for (name, value) in [
        ("client_reference_id", "pay_1"),
        ("line_items[0][price_data][unit_amount]", "1999"),
        ("line_items[0][price_data][currency]", "eur"),
        ("line_items[0][price_data][product_data][name]", "2 × lamp & shade, “moon”"),
        ("payment_intent_data[metadata][haul_payment]", "pay_1"),
        ("success_url", "https://shop.example/live/demo?order=order_1"),
    ] {
        assert_eq!(form[name], value, "{name}");
    }
    let next = stripe.start(&PaymentRequest { attempt: 1, ..payment() }).await.unwrap();
    assert_ne!(next, first, "another attempt is another session");
}

#[tokio::test]
async fn a_session_is_ended_and_that_it_has_ended_is_no_error() {
    let (stripe, _, account) = stripe().await;
    let session = stripe.start(&payment()).await.unwrap().session.unwrap();
    stripe.close(&session).await.unwrap();
    assert_eq!(account.lock().unwrap().sessions[&session]["status"], "expired");
    stripe.close(&session).await.unwrap();
    account.lock().unwrap().answers.clear();
    stripe.close(&session).await.unwrap();
    stripe.close("cs_unknown").await.unwrap();
    account.lock().unwrap().faults.push((500, false));
    assert!(matches!(stripe.close("cs_other").await, Err(PaymentError::Unavailable(_))));
}

#[tokio::test]
async fn a_refund_happens_once_whatever_is_lost_on_the_way() {
    let (stripe, _, account) = stripe().await;
    // Carried out, and the answer is lost; then Stripe is down, and then it has too much to do.
    account.lock().unwrap().faults.extend([(0, true), (503, false), (429, false)]);
    for attempt in 0..3 {
        let answer = stripe.refund(&refund(500, attempt)).await;
        assert!(matches!(answer, Err(PaymentError::Unavailable(_))), "{attempt}: {answer:?}");
    }
    // Stripe has forgotten the key meanwhile, and so have we how often it was asked.
    for attempt in [20, 0] {
        account.lock().unwrap().answers.clear();
        let answer = stripe.refund(&refund(500, attempt)).await.unwrap();
        assert!(answer.done);
    }
    assert_eq!(account.lock().unwrap().refunds.len(), 1, "found again, not made again");
}

#[tokio::test]
async fn an_error_that_stripe_remembers_is_no_answer_to_who_asks_again() {
    let (stripe, _, account) = stripe().await;
    account.lock().unwrap().faults.extend([(500, false), (503, false)]);
    for _ in 0..2 {
        assert!(matches!(stripe.start(&payment()).await, Err(PaymentError::Unavailable(_))));
    }
    let opened = stripe.start(&payment()).await.unwrap();
    assert_eq!(stripe.start(&payment()).await.unwrap(), opened, "and it is one session");
    account.lock().unwrap().faults.push((402, false));
    assert!(matches!(stripe.refund(&refund(500, 0)).await, Err(PaymentError::Refused(_))));
    assert!(stripe.refund(&refund(500, 1)).await.unwrap().done, "the account was filled up meanwhile");
    assert_eq!(account.lock().unwrap().refunds.len(), 1);
}

#[tokio::test]
async fn a_refund_that_failed_after_all_is_made_again_when_somebody_says_so() {
    let (stripe, _, account) = stripe().await;
    assert!(stripe.refund(&refund(500, 0)).await.unwrap().done);
    account.lock().unwrap().refunds[0]["status"] = json!("failed");
    // The next round's first try.
    let again = stripe.refund(&refund(500, haul_commerce::TRIES_A_ROUND)).await.unwrap();
    assert_eq!((again.done, again.reference.as_deref()), (true, Some("re_2")));
}

#[tokio::test]
async fn a_payment_is_known_by_stripes_name_before_it_is_told_of() {
    let (stripe, fake, _) = stripe().await;
    assert_eq!(stripe.payment_of("pi_1").await, Ok(Some("pay_1".parse().unwrap())));
    for others in ["pi_2", "pi_3", "pi_1/../..", "pi_1?x"] {
        assert_eq!(stripe.payment_of(others).await, Ok(None), "{others}");
    }
    let down = adapter("http://127.0.0.1:1", KEY).payment_of("pi_1").await;
    assert!(matches!(down, Err(PaymentError::Unavailable(_))), "it is to be told again");
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn what_stripe_refuses_is_refused_and_what_an_operator_can_mend_is_not() {
    let (stripe, fake, _) = stripe().await;
    let too_much = stripe.refund(&refund(2_000, 0)).await.unwrap_err();
    assert!(matches!(&too_much, PaymentError::Refused(why) if why.contains("greater")), "{too_much}");
    let unknown = stripe.refund(&RefundRequest { reference: None, ..refund(1, 0) }).await;
    assert!(matches!(unknown, Err(PaymentError::Refused(_))));
    let dinars = PaymentRequest {
        amount: Money { amount_minor: 1_234, currency: "KWD".parse().unwrap() },
        ..payment()
    };
    assert!(matches!(stripe.start(&dinars).await, Err(PaymentError::Refused(_))));
    assert!(matches!(stripe.collects(dinars.amount), Err(PaymentError::Refused(_))));
    assert_eq!(stripe.collects(eur(1)), Ok(()));
    let wrong_key = adapter(&fake.url, "sk_wrong").refund(&refund(1, 0)).await;
    assert!(matches!(wrong_key, Err(PaymentError::Unavailable(_))), "{wrong_key:?}");
    let down = adapter("http://127.0.0.1:1", KEY).start(&payment()).await;
    assert!(matches!(down, Err(PaymentError::Unavailable(_))), "{down:?}");
}
