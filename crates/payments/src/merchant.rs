//! The merchant's own payment page: a checkout is opened by sending the buyer there with signed order data, or by asking
//! an endpoint of the merchant's for a page; what became of the payment comes back as a signed callback to
//! `POST /v1/payments/callback/merchant`.
//!
//! Everything is signed by Standard Webhooks with the same secrets, both ways. What is asked of the endpoint:
//!
//! ```text
//! checkout  {"type":"checkout","data":{payment, attempt, order, live, buyer, amount_minor, currency, description,
//!            expires_at}}                        answered 2xx {"url":"https://…", "session":"theirs"?}
//! refund    {"type":"refund","data":{refund, payment, reference, order, amount_minor, currency, reason, round}}
//!                                                answered 2xx {"done":true?, "reference":"theirs"?}
//! close     {"type":"close","data":{session}}    answered 2xx
//! ```
//!
//! A repeated question has the same `webhook-id`. Without an endpoint, refunds wait until the merchant has made them and
//! says so with a `refunded` callback that names the refund.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use haul_commerce::{
    BoxFuture, PaymentError, PaymentProvider, PaymentRequest, PaymentSession, RefundAnswer, RefundRequest,
    TRIES_A_ROUND, Word,
};
use haul_courier::{Call, CallError, Client, Keyring, Method, Reply};
use haul_model::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Clock, callback,
    signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER},
};

/// The provider's name.
pub const NAME: &str = "merchant";

/// How long the merchant's endpoint may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest address of a payment page that is accepted, in bytes.
const MAX_PAGE_BYTES: usize = 4096;

/// How a checkout is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The buyer is sent to this URL, with the order in its query.
    Redirect(String),
    /// This URL is asked.
    Endpoint(String),
}

/// The merchant's payment page.
#[derive(Debug, Clone)]
pub struct MerchantPage {
    keys: Keyring,
    opening: Opening,
    client: Client,
    clock: Clock,
}

#[derive(Debug, Deserialize)]
struct Opened {
    url: String,
    session: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refunding {
    done: bool,
    reference: Option<String>,
}

/// What the merchant must know of a payment to be made.
#[derive(Debug, Serialize)]
struct CheckoutData<'a> {
    payment: &'a str,
    attempt: u32,
    order: &'a str,
    live: &'a str,
    buyer: &'a str,
    amount_minor: i64,
    currency: &'a str,
    description: &'a str,
    expires_at: UnixMillis,
}

impl<'a> CheckoutData<'a> {
    fn of(request: &'a PaymentRequest) -> Self {
        Self {
            payment: request.payment.as_str(),
            attempt: request.attempt,
            order: request.order.as_str(),
            live: request.live.as_str(),
            buyer: request.buyer.as_str(),
            amount_minor: request.amount.amount_minor,
            currency: request.amount.currency.code(),
            description: &request.description,
            expires_at: request.expires_at,
        }
    }
}

impl MerchantPage {
    /// A page opened like this; `keys` sign what goes there, and check what comes from there.
    pub fn new(keys: Keyring, opening: Opening, client: Client, clock: Clock) -> Self {
        Self { keys, opening, client, clock }
    }

    /// The page's URL with the order in it: `haul_data` is base64url of the JSON that `haul_signature` signs, together
    /// with `haul_id` and `haul_timestamp`, as the headers of a webhook would.
    fn redirect(&self, page: &str, request: &PaymentRequest, now: UnixMillis) -> String {
        let data = json!({ "type": "checkout", "data": CheckoutData::of(request) }).to_string();
        let (id, sent_at_s) = (checkout_id(request), now.0 / 1000);
        let signature = self.keys.sign(&id, sent_at_s, data.as_bytes());
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("haul_id", &id)
            .append_pair("haul_timestamp", &sent_at_s.to_string())
            .append_pair("haul_signature", &signature)
            .append_pair("haul_data", &URL_SAFE_NO_PAD.encode(&data))
            .finish();
        let separator = if page.contains('?') { '&' } else { '?' };
        format!("{page}{separator}{query}")
    }

    async fn ask(&self, url: &str, id: String, kind: &str, data: Value) -> Result<Reply, PaymentError> {
        let body = json!({ "type": kind, "data": data }).to_string();
        let sent_at_s = (self.clock)().0 / 1000;
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            (SIGNATURE_HEADER, self.keys.sign(&id, sent_at_s, body.as_bytes())),
            (TIMESTAMP_HEADER, sent_at_s.to_string()),
            (ID_HEADER, id),
        ];
        let call = Call { method: Method::POST, url, headers, body: body.into(), within: ANSWER_WITHIN };
        let reply = self.client.call(call).await.map_err(|error| match error {
            CallError::Malformed(_) | CallError::Private(_) => PaymentError::Refused(error.to_string()),
            error => PaymentError::Unavailable(error.to_string()),
        })?;
        match reply.status {
            200..300 => Ok(reply),
            // "Not now" in its several forms.
            408 | 409 | 425 | 429 | 500.. => {
                Err(PaymentError::Unavailable(format!("answered {}", reply.status)))
            }
            // A redirect, a wrong path, a wrong secret: the operator must look, and then it goes on.
            _ if kind == "checkout" => Err(PaymentError::Unavailable(format!("answered {}", reply.status))),
            _ => Err(PaymentError::Refused(format!("answered {}", reply.status))),
        }
    }
}

fn checkout_id(request: &PaymentRequest) -> String {
    format!("checkout.{}.{}", request.payment, request.attempt)
}

/// Tried again by a person, it is another request: a page that knows the first one's answer must not give it again.
fn refund_id(request: &RefundRequest) -> String {
    match request.attempt / TRIES_A_ROUND {
        0 => request.refund.to_string(),
        round => format!("{}.{round}", request.refund),
    }
}

impl PaymentProvider for MerchantPage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start<'a>(
        &'a self,
        request: &'a PaymentRequest,
    ) -> BoxFuture<'a, Result<PaymentSession, PaymentError>> {
        Box::pin(async move {
            let endpoint = match &self.opening {
                Opening::Redirect(page) => {
                    return Ok(PaymentSession {
                        url: self.redirect(page, request, (self.clock)()),
                        session: None,
                    });
                }
                Opening::Endpoint(endpoint) => endpoint,
            };
            let data = json!(CheckoutData::of(request));
            let reply = self.ask(endpoint, checkout_id(request), "checkout", data).await?;
            let Opened { url, session } = serde_json::from_slice(&reply.body).map_err(|error| {
                PaymentError::Unavailable(format!("the answer is not understood: {error}"))
            })?;
            // It becomes a link in the buyer's page.
            let good = url.starts_with("https://") || url.starts_with("http://");
            if !good || url.len() > MAX_PAGE_BYTES || url.chars().any(char::is_control) {
                return Err(PaymentError::Unavailable(
                    "the answer's url is none that can be opened".to_owned(),
                ));
            }
            let session = session.filter(|session| callback::is_reference(session));
            Ok(PaymentSession { url, session })
        })
    }

    fn verify(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Option<Word>, PaymentError> {
        callback::read(&self.keys, header, body, now).map(Some)
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> BoxFuture<'a, Result<RefundAnswer, PaymentError>> {
        Box::pin(async move {
            let Opening::Endpoint(endpoint) = &self.opening else {
                return Ok(RefundAnswer { done: false, reference: None });
            };
            let data = json!({
                "refund": request.refund,
                "payment": request.payment,
                "reference": request.reference,
                "order": request.order,
                "amount_minor": request.amount.amount_minor,
                "currency": request.amount.currency,
                "reason": request.reason,
                "round": request.attempt / TRIES_A_ROUND,
            });
            let reply = self.ask(endpoint, refund_id(request), "refund", data).await?;
            // An empty body, or one that says nothing of this, is good enough: it was taken.
            let Refunding { done, reference } = serde_json::from_slice(&reply.body).unwrap_or_default();
            let reference = reference.filter(|reference| callback::is_reference(reference));
            Ok(RefundAnswer { done, reference })
        })
    }

    fn close<'a>(&'a self, session: &'a str) -> BoxFuture<'a, Result<(), PaymentError>> {
        Box::pin(async move {
            let Opening::Endpoint(endpoint) = &self.opening else { return Ok(()) };
            // A session's name is the merchant's own and may have any characters; an id may not.
            let id = format!("close.{}", URL_SAFE_NO_PAD.encode(session));
            let id = id.chars().take(crate::signature::MAX_ID_BYTES).collect();
            self.ask(endpoint, id, "close", json!({ "session": session })).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use haul_courier::{Reach, SigningKey};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_123);

    fn request() -> PaymentRequest {
        PaymentRequest {
            payment: "pay_1".parse().unwrap(),
            attempt: 0,
            order: "order_1".parse().unwrap(),
            live: "demo".parse().unwrap(),
            buyer: "ann".parse().unwrap(),
            amount: haul_model::Money { amount_minor: 1_999, currency: "EUR".parse().unwrap() },
            description: "1 × lamp & shade".to_owned(),
            expires_at: NOW,
        }
    }

    #[test]
    fn the_buyer_is_sent_to_the_page_with_an_order_that_nobody_can_alter() {
        let keys = Keyring::new(vec![SigningKey::new(b"new"), SigningKey::new(b"old")]).unwrap();
        let page = MerchantPage::new(
            keys,
            Opening::Redirect("https://shop.example/pay?lang=de".to_owned()),
            Client::new(Reach::Public),
            || NOW,
        );
        let url = page.redirect("https://shop.example/pay?lang=de", &request(), NOW);
        let (start, query) = url.split_once('?').unwrap();
        assert_eq!(start, "https://shop.example/pay");
        let value = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
        };
        assert_eq!(value("lang").unwrap(), "de");
        let data = URL_SAFE_NO_PAD.decode(value("haul_data").unwrap()).unwrap();
        let header = |name: &str| value(&name.replace("webhook-", "haul_"));
        // Who knows the old secret only can check it, too.
        for secret in [b"new", b"old"] {
            assert!(SigningKey::new(secret).verify(&header, &data, NOW).is_ok());
        }
        let forged = String::from_utf8(data.clone()).unwrap().replace("1999", "1").into_bytes();
        assert!(SigningKey::new(b"new").verify(&header, &forged, NOW).is_err());
        let data: Value = serde_json::from_slice(&data).unwrap();
        assert_eq!(data["data"]["amount_minor"], 1_999);
        assert_eq!(data["data"]["description"], "1 × lamp & shade");
    }
}
