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
use support::{Answer, Asked, Fake};

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
}

fn error(status: u16, kind: &str, code: &str, message: &str) -> Answer {
    (status, json!({ "error": { "type": kind, "code": code, "message": message } }).to_string())
}

impl Account {
    fn answer(&mut self, asked: &Asked) -> Answer {
        if asked.header("authorization") != Some(format!("Bearer {KEY}")) {
            return error(401, "invalid_request_error", "", "Invalid API Key provided");
        }
        let fault = (!self.faults.is_empty()).then(|| self.faults.remove(0));
        if let Some((status, false)) = fault {
            return error(status, "api_error", "", "not now");
        }
        let answer = self.idempotent(asked);
        match fault {
            Some((status, _)) => (status, String::new()),
            None => answer,
        }
    }

    /// The same key gives the same answer; with other parameters, an error.
    fn idempotent(&mut self, asked: &Asked) -> Answer {
        let Some(key) = asked.header("idempotency-key") else { return self.carry_out(asked) };
        let parameters = format!("{} {}", asked.path, asked.body);
        if let Some((known, answer)) = self.answers.get(&key) {
            return match *known == parameters {
                true => answer.clone(),
                false => error(
                    400,
                    "idempotency_error",
                    "",
                    "Keys for idempotent requests can only be used with the same parameters",
                ),
            };
        }
        let answer = self.carry_out(asked);
        self.answers.insert(key, (parameters, answer.clone()));
        answer
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
                let gone: i64 = self.refunds.iter().map(|refund| refund["amount"].as_i64().unwrap()).sum();
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
    // Stripe has forgotten the key meanwhile.
    account.lock().unwrap().answers.clear();
    let answer = stripe.refund(&refund(500, 20)).await.unwrap();
    assert!(answer.done);
    assert_eq!(account.lock().unwrap().refunds.len(), 1, "found again, not made again");
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
    let wrong_key = adapter(&fake.url, "sk_wrong").refund(&refund(1, 0)).await;
    assert!(matches!(wrong_key, Err(PaymentError::Unavailable(_))), "{wrong_key:?}");
    let down = adapter("http://127.0.0.1:1", KEY).start(&payment()).await;
    assert!(matches!(down, Err(PaymentError::Unavailable(_))), "{down:?}");
}
