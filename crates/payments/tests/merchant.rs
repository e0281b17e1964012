//! The merchant's endpoint: what it is asked, and what its answers mean.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use haul_commerce::{PaymentError, PaymentProvider, PaymentRequest, RefundRequest};
use haul_courier::{Client, Keyring, Reach, SigningKey};
use haul_model::{Money, UnixMillis};
use haul_payments::{MerchantPage, merchant::Opening};
use serde_json::{Value, json};
use support::{Answer, Asked, Fake};

fn keys() -> Keyring {
    SigningKey::new(b"shared").into()
}

fn page(fake: &Fake) -> MerchantPage {
    MerchantPage::new(
        keys(),
        Opening::Endpoint(format!("{}/haul", fake.url)),
        Client::new(Reach::Anywhere),
        || std::time::SystemTime::now().into(),
    )
}

fn payment() -> PaymentRequest {
    PaymentRequest {
        payment: "pay_1".parse().unwrap(),
        attempt: 0,
        order: "order_1".parse().unwrap(),
        live: "demo".parse().unwrap(),
        buyer: "ann".parse().unwrap(),
        amount: Money { amount_minor: 1_999, currency: "EUR".parse().unwrap() },
        description: "1 × lamp".to_owned(),
        expires_at: UnixMillis(5),
    }
}

fn refund() -> RefundRequest {
    RefundRequest {
        refund: "refund_1".parse().unwrap(),
        payment: "pay_1".parse().unwrap(),
        reference: Some("theirs".to_owned()),
        order: "order_1".parse().unwrap(),
        amount: payment().amount,
        reason: "broken".to_owned(),
        attempt: 0,
    }
}

fn shop(asked: &Asked) -> Answer {
    let header = |name: &str| asked.header(name);
    let now = std::time::SystemTime::now().into();
    if keys().verify(&header, asked.body.as_bytes(), now).is_err() {
        return (401, String::new());
    }
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    match body["type"].as_str().unwrap() {
        "checkout" => (200, json!({ "url": "https://shop.example/pay/1", "session": "s 1/ü" }).to_string()),
        "refund" => (202, String::new()),
        "close" => (204, String::new()),
        _ => (400, String::new()),
    }
}

#[tokio::test]
async fn the_shop_is_asked_with_signed_words() {
    let fake = Fake::start(shop).await;
    let page = page(&fake);
    let opened = page.start(&payment()).await.unwrap();
    assert_eq!(opened.url, "https://shop.example/pay/1");
    assert!(!page.refund(&refund()).await.unwrap().done);
    page.close(&opened.session.unwrap()).await.unwrap();
    let again = RefundRequest { attempt: haul_commerce::TRIES_A_ROUND, ..refund() };
    assert!(!page.refund(&again).await.unwrap().done);
    let asked = fake.asked();
    assert_eq!(asked[3].header("webhook-id").unwrap(), "refund_1.1", "another round is another request");
    let round: Value = serde_json::from_str(&asked[3].body).unwrap();
    assert_eq!(round["data"]["round"], 1);
    assert!(asked.iter().all(|asked| asked.path == "/haul" && asked.method == "POST"));
    assert_eq!(asked[0].header("webhook-id").unwrap(), "checkout.pay_1.0");
    assert_eq!(asked[1].header("webhook-id").unwrap(), "refund_1");
    let refund: Value = serde_json::from_str(&asked[1].body).unwrap();
    assert_eq!(refund["data"]["reference"], "theirs");
    assert_eq!(refund["data"]["amount_minor"], 1_999);
}

#[tokio::test]
async fn an_answer_is_taken_for_what_it_is() {
    for (status, body, later) in [
        (503, "", true),
        (429, "", true),
        (0, "", true),
        (404, "", true),
        (200, "{}", true),
        (200, r#"{"url":"javascript:alert(1)"}"#, true),
    ] {
        let fake = Fake::start(move |_| (status, body.to_owned())).await;
        let answer = page(&fake).start(&payment()).await;
        assert_eq!(matches!(answer, Err(PaymentError::Unavailable(_))), later, "{status} {body}: {answer:?}");
    }
    let refused = Fake::start(|_| (422, String::new())).await;
    assert!(matches!(page(&refused).refund(&refund()).await, Err(PaymentError::Refused(_))));
    let down = Fake::start(|_| (500, String::new())).await;
    assert!(matches!(page(&down).refund(&refund()).await, Err(PaymentError::Unavailable(_))));
    let at_once = Fake::start(|_| (200, r#"{"done":true,"reference":"r"}"#.to_owned())).await;
    let answer = page(&at_once).refund(&refund()).await.unwrap();
    assert_eq!((answer.done, answer.reference.as_deref()), (true, Some("r")));
}
