//! A payment provider that moves no money: for trying things out, and for tests.
//!
//! The buyer is sent to a page of this server, which shows the order (the gateway looks it up in the ledger by the
//! payment) and buttons for each end. Whoever serves the page makes the callback with [`Sandbox::callback`] and sends
//! it to `POST /v1/payments/callback/sandbox`, where it is verified and recorded like any other provider's. The
//! sandbox remembers nothing.
//!
//! Refunds: [`PaymentProvider::refund`] hands the request to the hook given by [`Sandbox::on_refund`], whose part it is
//! to deliver the [`PaymentEventKind::Refunded`] callback. Lost on the way, it is asked for again until the callback has
//! come.

use std::{fmt, sync::Arc};

use haul_commerce::{
    BoxFuture, PaymentError, PaymentEventKind, PaymentProvider, PaymentRequest, PaymentSession, RefundAnswer,
    RefundRequest, Word,
};
use haul_courier::{Keyring, SigningKey};
use haul_model::{Money, PaymentId, RefundId, UnixMillis};

use crate::{
    callback::{self, Body, Data},
    signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER},
};

/// The provider's name.
pub const NAME: &str = "sandbox";

/// A callback ready to be sent: `POST` it to `/v1/payments/callback/sandbox`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCallback {
    /// Lower-case names and values, `content-type` among them.
    pub headers: [(&'static str, String); 4],
    /// JSON; the signature is over exactly these bytes.
    pub body: String,
}

impl SignedCallback {
    /// A header's value by its lower-case name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }
}

type RefundHook = Arc<dyn Fn(&RefundRequest) + Send + Sync>;

/// The sandbox provider.
#[derive(Clone)]
pub struct Sandbox {
    /// Signs and checks its callbacks: it is both ends.
    keys: Keyring,
    /// Told of each refund that is asked for; `None` where refunds are not delivered by themselves.
    on_refund: Option<RefundHook>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

impl Sandbox {
    /// A sandbox whose callbacks are signed with `secret`. Whoever has the secret can say that something was paid.
    pub fn new(secret: &[u8]) -> Self {
        Self { keys: SigningKey::new(secret).into(), on_refund: None }
    }

    /// Calls `hook` with each refund asked for. It must not block, and may be called again for the same refund.
    pub fn on_refund(self, hook: impl Fn(&RefundRequest) + Send + Sync + 'static) -> Self {
        Self { on_refund: Some(Arc::new(hook)), ..self }
    }

    /// The path of the page where `payment` is made.
    pub fn pay_path(payment: &PaymentId) -> String {
        format!("/sandbox/pay/{payment}")
    }

    /// The callback that says `kind` of `payment` at `now`. A payment is paid once, so that has the same event id
    /// however often it is made; it may fail many times, once a millisecond.
    pub fn callback(
        &self,
        payment: &PaymentId,
        kind: PaymentEventKind,
        amount: Money,
        now: UnixMillis,
    ) -> SignedCallback {
        // A derived payment's id has 36 bytes: with what stands before it, well within a message id's MAX_ID_BYTES.
        let event = match kind {
            PaymentEventKind::Paid => format!("paid.{payment}"),
            _ => format!("{}.{}.{payment}", name_of(kind), now.0),
        };
        self.sign(event, Body { kind, data: data(payment, amount, None) }, now)
    }

    /// The callback that says that a refund is done: the same however often it is made.
    pub fn refunded(&self, request: &RefundRequest, now: UnixMillis) -> SignedCallback {
        let event = format!("refunded.{}", request.refund);
        let data = data(&request.payment, request.amount, Some(request.refund.clone()));
        self.sign(event, Body { kind: PaymentEventKind::Refunded, data }, now)
    }

    fn sign(&self, event: String, body: Body, now: UnixMillis) -> SignedCallback {
        let body = serde_json::to_string(&body).expect("strings and numbers are JSON");
        let sent_at_s = now.0 / 1000;
        let signature = self.keys.sign(&event, sent_at_s, body.as_bytes());
        SignedCallback {
            headers: [
                ("content-type", "application/json".to_owned()),
                (ID_HEADER, event),
                (TIMESTAMP_HEADER, sent_at_s.to_string()),
                (SIGNATURE_HEADER, signature),
            ],
            body,
        }
    }
}

fn data(payment: &PaymentId, amount: Money, refund: Option<RefundId>) -> Data {
    let Money { amount_minor, currency } = amount;
    Data {
        payment: payment.clone(),
        amount_minor,
        currency,
        refund,
        reference: None,
        contact: None,
        charges: Vec::new(),
    }
}

fn name_of(kind: PaymentEventKind) -> &'static str {
    match kind {
        PaymentEventKind::Paid => "paid",
        PaymentEventKind::Failed => "failed",
        PaymentEventKind::Refunded => "refunded",
        PaymentEventKind::RefundFailed => "refund_failed",
        PaymentEventKind::Disputed => "disputed",
        PaymentEventKind::DisputeWon => "dispute_won",
        PaymentEventKind::DisputeLost => "dispute_lost",
    }
}

impl PaymentProvider for Sandbox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start<'a>(
        &'a self,
        request: &'a PaymentRequest,
    ) -> BoxFuture<'a, Result<PaymentSession, PaymentError>> {
        Box::pin(async move { Ok(PaymentSession { url: Self::pay_path(&request.payment), session: None }) })
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
            if let Some(hook) = &self.on_refund {
                hook(request);
            }
            Ok(RefundAnswer { done: false, reference: None })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Mutex,
        task::{Context, Poll, Waker},
    };

    use haul_commerce::About;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_123);

    fn payment() -> PaymentId {
        "pay_1".parse().unwrap()
    }

    fn price() -> Money {
        Money { amount_minor: 1_999, currency: "EUR".parse().unwrap() }
    }

    fn verify(sandbox: &Sandbox, callback: &SignedCallback, now: UnixMillis) -> Result<Word, PaymentError> {
        let header = |name: &str| callback.header(name);
        sandbox.verify(&header, callback.body.as_bytes(), now).map(|word| word.expect("all are its own"))
    }

    fn refund() -> RefundRequest {
        RefundRequest {
            refund: "refund_1".parse().unwrap(),
            payment: payment(),
            reference: None,
            order: "order_1".parse().unwrap(),
            amount: price(),
            reason: String::new(),
            attempt: 0,
        }
    }

    /// The sandbox never waits.
    fn ready<T>(mut future: BoxFuture<'_, T>) -> T {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the sandbox waits for something"),
        }
    }

    #[test]
    fn each_kind_of_callback_is_verified_and_understood() {
        let sandbox = Sandbox::new(b"secret");
        for kind in [PaymentEventKind::Paid, PaymentEventKind::Failed, PaymentEventKind::Disputed] {
            let callback = sandbox.callback(&payment(), kind, price(), NOW);
            let event = verify(&sandbox, &callback, NOW).unwrap();
            assert_eq!((event.about, event.kind, event.amount), (About::Payment(payment()), kind, price()));
        }
        let refunded = verify(&sandbox, &sandbox.refunded(&refund(), NOW), NOW).unwrap();
        assert_eq!(refunded.refund, Some(refund().refund));
    }

    #[test]
    fn a_repeated_delivery_has_the_same_event_and_a_second_failure_another() {
        let sandbox = Sandbox::new(b"secret");
        let event = |kind, now| {
            let callback = sandbox.callback(&payment(), kind, price(), now);
            verify(&sandbox, &callback, now).unwrap().event
        };
        let later = UnixMillis(NOW.0 + 60_000);
        assert_eq!(event(PaymentEventKind::Paid, NOW), event(PaymentEventKind::Paid, later));
        let refunded = |now| verify(&sandbox, &sandbox.refunded(&refund(), now), now).unwrap().event;
        assert_eq!(refunded(NOW), refunded(later));
        assert_ne!(event(PaymentEventKind::Failed, NOW), event(PaymentEventKind::Failed, later));
        assert_ne!(event(PaymentEventKind::Paid, NOW), event(PaymentEventKind::Refunded, NOW));
    }

    #[test]
    fn forged_altered_old_and_replayed_callbacks_are_unsigned() {
        let sandbox = Sandbox::new(b"secret");
        let good = sandbox.callback(&payment(), PaymentEventKind::Paid, price(), NOW);
        let forged = Sandbox::new(b"guess").callback(&payment(), PaymentEventKind::Paid, price(), NOW);
        let altered = SignedCallback { body: good.body.replace("1999", "1"), ..good.clone() };
        // A replay of one payment's callback for another: the id is signed too.
        let mut replayed = good.clone();
        replayed.headers[1].1 = "paid.pay_2".to_owned();
        let mut unsigned = good.clone();
        unsigned.headers[3].0 = "x-other";
        for (what, callback, now) in [
            ("forged", &forged, NOW),
            ("altered", &altered, NOW),
            ("replayed", &replayed, NOW),
            ("unsigned", &unsigned, NOW),
            ("old", &good, UnixMillis(NOW.0 + 301_000)),
            ("early", &good, UnixMillis(NOW.0 - 301_000)),
        ] {
            let answer = verify(&sandbox, callback, now);
            assert!(matches!(answer, Err(PaymentError::Unsigned(_))), "{what}: {answer:?}");
        }
        assert!(verify(&sandbox, &good, NOW).is_ok());
    }

    #[test]
    fn signed_nonsense_is_malformed() {
        let sandbox = Sandbox::new(b"secret");
        let named = |reference: &str| {
            let data = r#"{"payment":"pay_1","amount_minor":1,"currency":"EUR","reference":"R"}"#;
            format!(r#"{{"type":"paid","data":{}}}"#, data.replace('R', reference))
        };
        let (nul, line, long) = (named("a\\u0000b"), named("a\\nb"), named(&"x".repeat(256)));
        let nonsense = ["", "{}", "[1]", "{\"type\":\"paid\"}", "{\"type\":\"stolen\",\"data\":{}}"];
        for body in nonsense.into_iter().chain([nul.as_str(), &line, &long]) {
            let mut callback = sandbox.callback(&payment(), PaymentEventKind::Paid, price(), NOW);
            callback.headers[3].1 = SigningKey::new(b"secret").sign(
                &callback.header(ID_HEADER).unwrap(),
                NOW.0 / 1000,
                body.as_bytes(),
            );
            callback.body = body.to_owned();
            let answer = verify(&sandbox, &callback, NOW);
            assert!(matches!(answer, Err(PaymentError::Malformed(_))), "{body}: {answer:?}");
        }
    }

    #[test]
    fn whatever_arrives_is_refused_and_never_a_panic() {
        let sandbox = Sandbox::new(b"secret");
        let good = sandbox.callback(&payment(), PaymentEventKind::Paid, price(), NOW);
        let mut random = StdRng::seed_from_u64(7);
        for round in 0..20_000 {
            let mut callback = good.clone();
            // Some bytes of the body or of a header are others, or missing, or more.
            let target = match random.random_range(0..5) {
                header @ 0..=3 => &mut callback.headers[header].1,
                _ => &mut callback.body,
            };
            let mut bytes = std::mem::take(target).into_bytes();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..=bytes.len());
                match random.random_range(0..3) {
                    0 => bytes.insert(at, random.random()),
                    1 if at < bytes.len() => bytes[at] = random.random(),
                    _ => bytes.truncate(at),
                }
            }
            *target = String::from_utf8_lossy(&bytes).into_owned();
            let signed_parts_differ =
                callback.headers[1..] != good.headers[1..] || callback.body != good.body;
            let answer = verify(&sandbox, &callback, NOW);
            // A signature followed by a space and anything is still that signature.
            let still_signed = callback.header(SIGNATURE_HEADER).is_some_and(|text| {
                let known = good.header(SIGNATURE_HEADER).unwrap_or_default();
                callback.headers[1..3] == good.headers[1..3]
                    && callback.body == good.body
                    && text.split(' ').any(|signature| signature == known)
            });
            assert_eq!(answer.is_ok(), !signed_parts_differ || still_signed, "round {round}: {callback:?}");
        }
    }

    #[test]
    fn a_payment_starts_at_its_page_and_a_refund_reaches_the_hook() {
        let refunds = Arc::new(Mutex::new(Vec::new()));
        let sandbox = Sandbox::new(b"secret").on_refund({
            let refunds = refunds.clone();
            move |request| refunds.lock().unwrap().push(request.clone())
        });
        let request = PaymentRequest {
            payment: payment(),
            attempt: 0,
            order: "order_1".parse().unwrap(),
            live: "demo".parse().unwrap(),
            buyer: "ann".parse().unwrap(),
            amount: price(),
            description: "One lamp".to_owned(),
            expires_at: NOW,
        };
        assert_eq!(ready(sandbox.start(&request)).unwrap().url, "/sandbox/pay/pay_1");
        ready(sandbox.refund(&refund())).unwrap();
        assert_eq!(*refunds.lock().unwrap(), [refund()]);
        assert_eq!(sandbox.name(), "sandbox");
    }
}
