//! Stripe: a Checkout Session a payment, refunds of its PaymentIntent, and the events that Stripe sends.
//!
//! Spoken is the form-encoded API of <https://docs.stripe.com/api>, with JSON answers. Every POST carries an
//! `Idempotency-Key`: Stripe remembers the answer to it for a day, also where that is an error of its own. Therefore a
//! refund that is asked for again is looked up first, and gets a new key after some tries.
//!
//! Sessions of Stripe's live at least half an hour, longer than units are kept for a buyer: they are closed by
//! [`PaymentProvider::close`] when their order has expired, and what is paid in between is late money like any other.

mod events;
mod units;

use std::time::Duration;

use bytes::Bytes;
use haul_commerce::{
    BoxFuture, PaymentError, PaymentProvider, PaymentRequest, PaymentSession, RefundAnswer, RefundRequest,
    TRIES_A_ROUND, Word,
};
use haul_courier::{Call, CallError, Client, Method};
use haul_model::{Money, PaymentId, UnixMillis};
use serde::{Deserialize, de::DeserializeOwned};

pub use events::Secrets;

use crate::Clock;

/// The provider's name.
pub const NAME: &str = "stripe";
/// Where Stripe is.
pub const API_URL: &str = "https://api.stripe.com";

/// The version of the API whose shapes are read here.
const VERSION: &str = "2024-06-20";
/// How long Stripe may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long a session lives at least; Stripe refuses less than 30 minutes.
const SESSION_LIVES: Duration = Duration::from_secs(31 * 60);
/// And at most: a day.
const SESSION_LIVES_AT_MOST: Duration = Duration::from_secs(86_400 - 600);
/// A session's end is rounded up to this, so that a checkout which is tried again a moment later is the same one.
const SESSION_ENDS_EVERY_S: u64 = 600;
/// Says that an answer is the one that was given before under the same idempotency key
/// (<https://docs.stripe.com/api/idempotent_requests>): errors are remembered for a day, Stripe's own included.
const REPLAYED: &str = "idempotent-replayed";
/// Keys tried until one has no error remembered; each try of a whole request spoils one at most.
const MAX_KEYS: u32 = 32;
/// Metadata of ours at Stripe: the payment, on all that belongs to it, and the refund.
const PAYMENT_KEY: &str = "haul_payment";
const REFUND_KEY: &str = "haul_refund";

/// How to speak with Stripe.
#[derive(Clone)]
pub struct Settings {
    /// Where the API is, without a slash at its end; [`API_URL`] but for tests.
    pub api_url: String,
    /// The secret key, `sk_…` or `rk_…`.
    pub secret_key: String,
    /// What signs Stripe's events.
    pub secrets: Secrets,
    /// Where the buyer is sent after the payment, or after having given it up; `{live}` and `{order}` are put in.
    pub return_url: String,
}

/// The provider.
#[derive(Clone)]
pub struct Stripe {
    settings: Settings,
    client: Client,
    clock: Clock,
}

impl std::fmt::Debug for Stripe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stripe").field("api_url", &self.settings.api_url).finish_non_exhaustive()
    }
}

/// Why Stripe did not do it.
#[derive(Debug)]
enum Failure {
    /// Try again later: no answer, "not now", or an error of its own.
    Later(String),
    /// The idempotency key was used with other parameters.
    OtherParameters(String),
    /// What was answered then under the same idempotency key.
    Replayed(Box<Failure>),
    /// No.
    Refused { code: String, message: String },
}

impl From<Failure> for PaymentError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Later(why) | Failure::OtherParameters(why) => PaymentError::Unavailable(why),
            Failure::Refused { code, message } => PaymentError::Refused(format!("{code}: {message}")),
            Failure::Replayed(failure) => (*failure).into(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Session {
    id: String,
    url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refund {
    id: String,
    status: Option<String>,
    #[serde(default)]
    metadata: std::collections::HashMap<String, String>,
}

/// A PaymentIntent: its metadata are those that its session was made with.
#[derive(Debug, Deserialize)]
struct Intent {
    #[serde(default)]
    metadata: Option<std::collections::HashMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct List<T> {
    data: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct Errors {
    error: ApiError,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ApiError {
    r#type: String,
    code: Option<String>,
    message: Option<String>,
}

impl Stripe {
    /// Stripe, spoken with like this.
    pub fn new(settings: Settings, client: Client, clock: Clock) -> Self {
        Self { settings, client, clock }
    }

    async fn open(&self, request: &PaymentRequest, now: UnixMillis) -> Result<Session, Failure> {
        let amount = units::to_stripe(request.amount)
            .map_err(|why| Failure::Refused { code: "amount".to_owned(), message: why })?;
        let ends_s = session_end_s(request.expires_at, now);
        let return_url = self
            .settings
            .return_url
            .replace("{live}", request.live.as_str())
            .replace("{order}", request.order.as_str());
        let form = form(&[
            ("mode", "payment"),
            ("client_reference_id", request.payment.as_str()),
            ("success_url", &return_url),
            ("cancel_url", &return_url),
            ("expires_at", &ends_s.to_string()),
            ("line_items[0][quantity]", "1"),
            ("line_items[0][price_data][currency]", &request.amount.currency.code().to_lowercase()),
            ("line_items[0][price_data][unit_amount]", &amount.to_string()),
            ("line_items[0][price_data][product_data][name]", &request.description),
            (&format!("metadata[{PAYMENT_KEY}]"), request.payment.as_str()),
            ("metadata[haul_order]", request.order.as_str()),
            (&format!("payment_intent_data[metadata][{PAYMENT_KEY}]"), request.payment.as_str()),
        ]);
        // The end is part of the key: with another one, it is another session.
        let key = format!("checkout.{}.{}.{ends_s}", request.payment, request.attempt);
        self.post("/v1/checkout/sessions", &key, form).await
    }

    async fn look_up(&self, request: &RefundRequest, intent: &str) -> Result<Option<Refund>, Failure> {
        let query = form(&[("payment_intent", intent), ("limit", "100")]);
        let path = format!("/v1/refunds?{query}");
        let refunds: List<Refund> = self.send(Method::GET, &path, None, String::new()).await?;
        // One that came to nothing is not what is wanted now.
        let ours = |refund: &Refund| {
            refund.metadata.get(REFUND_KEY).map(String::as_str) == Some(request.refund.as_str())
                && !matches!(refund.status.as_deref(), Some("failed" | "canceled"))
        };
        Ok(refunds.data.into_iter().find(ours))
    }

    async fn send_back(&self, request: &RefundRequest) -> Result<Refund, PaymentError> {
        let Some(intent) = request.reference.as_deref() else {
            return Err(PaymentError::Refused("Stripe has not told which PaymentIntent was paid".to_owned()));
        };
        // Also the first time, as far as we know: the server may have ended before it could write down that it had asked.
        if let Some(known) = self.look_up(request, intent).await? {
            return Ok(known);
        }
        let amount = units::to_stripe(request.amount).map_err(PaymentError::Refused)?;
        let form = form(&[
            ("payment_intent", intent),
            ("amount", &amount.to_string()),
            ("reason", "requested_by_customer"),
            (&format!("metadata[{REFUND_KEY}]"), request.refund.as_str()),
            (&format!("metadata[{PAYMENT_KEY}]"), request.payment.as_str()),
            ("metadata[haul_order]", request.order.as_str()),
        ]);
        // A person who has it tried again wants another one, and not that one's answer.
        let key = format!("{}.{}", request.refund, request.attempt / TRIES_A_ROUND);
        Ok(self.post("/v1/refunds", &key, form).await?)
    }

    /// Under a key with which the same request is carried out once. An error that Stripe remembers under it is no answer to
    /// who asks now: the next key is tried.
    async fn post<T: DeserializeOwned>(&self, path: &str, key: &str, form: String) -> Result<T, Failure> {
        let mut failure = None;
        for number in 0..MAX_KEYS {
            let key = if number == 0 { key.to_owned() } else { format!("{key}.again{number}") };
            match self.send(Method::POST, path, Some(&key), form.clone()).await {
                Err(Failure::Replayed(before)) => failure = Some(*before),
                answer => return answer,
            }
        }
        Err(failure.unwrap_or_else(|| Failure::Later("every key has an error remembered".to_owned())))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        form: String,
    ) -> Result<T, Failure> {
        let url = format!("{}{path}", self.settings.api_url);
        let mut headers = vec![
            ("authorization", format!("Bearer {}", self.settings.secret_key)),
            ("stripe-version", VERSION.to_owned()),
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ];
        headers.extend(key.map(|key| ("idempotency-key", key.to_owned())));
        let call = Call { method, url: &url, headers, body: Bytes::from(form), within: ANSWER_WITHIN };
        let reply =
            self.client.call(call).await.map_err(|error: CallError| Failure::Later(error.to_string()))?;
        if reply.is_success() {
            return serde_json::from_slice(&reply.body)
                .map_err(|error| Failure::Later(format!("an answer that is not understood: {error}")));
        }
        let ApiError { r#type, code, message } =
            serde_json::from_slice(&reply.body).map(|Errors { error }| error).unwrap_or_default();
        let message = message.unwrap_or_default();
        let replayed = reply.headers.get(REPLAYED).is_some_and(|value| value == "true");
        let failure = match (reply.status, r#type.as_str()) {
            (_, "idempotency_error") => Failure::OtherParameters(message),
            // A key that is wrong or lacks a right is mended by the operator, and then it goes on.
            (401 | 403 | 409 | 429 | 500.., _) => {
                Failure::Later(format!("answered {}: {message}", reply.status))
            }
            (400 | 402 | 404, _) => Failure::Refused { code: code.unwrap_or(r#type), message },
            (status, _) => Failure::Later(format!("answered {status}: {message}")),
        };
        Err(if replayed { Failure::Replayed(Box::new(failure)) } else { failure })
    }
}

/// When a session must end, in seconds: with the buyer's units, but within what Stripe allows.
fn session_end_s(deadline: UnixMillis, now: UnixMillis) -> u64 {
    let end = deadline.max(now + SESSION_LIVES);
    let rounded_s = (end.0 / 1000).div_ceil(SESSION_ENDS_EVERY_S) * SESSION_ENDS_EVERY_S;
    rounded_s.min((now + SESSION_LIVES_AT_MOST).0 / 1000)
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl PaymentProvider for Stripe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn collects(&self, amount: Money) -> Result<(), PaymentError> {
        units::to_stripe(amount).map(drop).map_err(PaymentError::Refused)
    }

    fn start<'a>(
        &'a self,
        request: &'a PaymentRequest,
    ) -> BoxFuture<'a, Result<PaymentSession, PaymentError>> {
        Box::pin(async move {
            let Session { id, url } = self.open(request, (self.clock)()).await?;
            let url =
                url.ok_or_else(|| PaymentError::Unavailable(format!("the session {id} has no page")))?;
            Ok(PaymentSession { url, session: Some(id) })
        })
    }

    fn verify(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Option<Word>, PaymentError> {
        self.settings.secrets.verify(header, body, now)?;
        events::read(body)
    }

    /// Events overtake each other: one about a refund or a dispute may come before the one that the money is there.
    fn payment_of<'a>(
        &'a self,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Option<PaymentId>, PaymentError>> {
        Box::pin(async move {
            if !reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Ok(None);
            }
            let path = format!("/v1/payment_intents/{reference}");
            match self.send::<Intent>(Method::GET, &path, None, String::new()).await {
                Ok(Intent { metadata }) => {
                    let ours = metadata.unwrap_or_default().remove(PAYMENT_KEY);
                    Ok(ours.and_then(|payment| payment.parse().ok()))
                }
                Err(Failure::Refused { .. }) => Ok(None),
                Err(failure) => Err(failure.into()),
            }
        })
    }

    fn refund<'a>(&'a self, request: &'a RefundRequest) -> BoxFuture<'a, Result<RefundAnswer, PaymentError>> {
        Box::pin(async move {
            let refund = self.send_back(request).await?;
            match refund.status.as_deref() {
                Some("succeeded") => Ok(RefundAnswer { done: true, reference: Some(refund.id) }),
                Some(status @ ("failed" | "canceled")) => {
                    Err(PaymentError::Refused(format!("the refund {} is {status}", refund.id)))
                }
                // Pending, or whatever comes to be: an event will tell.
                _ => Ok(RefundAnswer { done: false, reference: Some(refund.id) }),
            }
        })
    }

    fn close<'a>(&'a self, session: &'a str) -> BoxFuture<'a, Result<(), PaymentError>> {
        Box::pin(async move {
            let path = format!("/v1/checkout/sessions/{session}/expire");
            match self.post::<Session>(&path, &format!("close.{session}"), String::new()).await {
                // It is complete or expired already, or of another account.
                Ok(_) | Err(Failure::Refused { .. }) => Ok(()),
                Err(failure) => Err(failure.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_with_the_units_or_as_soon_as_stripe_allows() {
        let now = UnixMillis(1_700_000_000_000);
        let soon = session_end_s(now + Duration::from_secs(600), now);
        let in_s = |end_s: u64| end_s - now.0 / 1000;
        assert!((1_860..=2_460).contains(&in_s(soon)), "{}", in_s(soon));
        // Tried again a second later, it is the same session.
        assert_eq!(session_end_s(now + Duration::from_secs(601), now + Duration::from_secs(1)), soon);
        let hour = session_end_s(now + Duration::from_secs(3_600), now);
        assert!((3_600..=4_200).contains(&in_s(hour)), "{}", in_s(hour));
        assert!(in_s(session_end_s(UnixMillis(u64::MAX / 2), now)) < 86_400);
    }
}
