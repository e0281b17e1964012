//! The port to payment providers.

use haul_model::{BuyerId, LiveId, Money, OrderId, PaymentId, RefundId, UnixMillis};

use crate::{BoxFuture, buyers::Details};

/// What a provider is asked to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// Ours; the provider's idempotency key, together with `attempt`.
    pub payment: PaymentId,
    /// How many of the provider's sessions for this payment have ended without money.
    pub attempt: u32,
    /// For which order.
    pub order: OrderId,
    /// In which live: where the buyer is sent back to.
    pub live: LiveId,
    /// Who pays.
    pub buyer: BuyerId,
    /// How much.
    pub amount: Money,
    /// What it is for, as the buyer reads it.
    pub description: String,
    /// The buyer's session at the provider should end here.
    pub expires_at: UnixMillis,
}

/// A payment that a buyer can go and make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentSession {
    /// Where the buyer pays; absolute, or a path on this server.
    pub url: String,
    /// The provider's name of the session, where it has one that can be closed.
    pub session: Option<String>,
}

/// What a provider says about a payment, as it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The provider's id of this event: the same for a repeated delivery.
    pub event: String,
    /// About which payment.
    pub about: About,
    /// What happened.
    pub kind: PaymentEventKind,
    /// How much was paid, sent back, or is disputed.
    pub amount: Money,
    /// Which refund of ours it is about, where the provider knows that.
    pub refund: Option<RefundId>,
    /// The provider's own name of the payment: what refunds and disputes are matched by.
    pub reference: Option<String>,
    /// Whom the order goes to, and what of the money is shipping and tax, as the provider was told.
    pub details: Details,
}

/// Which payment a provider means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// It knows ours.
    Payment(PaymentId),
    /// It gives its own name, which it has told us with an earlier event.
    Reference(String),
}

/// A provider's verified word about a payment of ours, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The provider's id of this event: the same for a repeated delivery.
    pub event: String,
    /// About which payment.
    pub payment: PaymentId,
    /// What happened.
    pub kind: PaymentEventKind,
    /// How much was paid, sent back, or is disputed, as the provider says.
    pub amount: Money,
    /// Which refund of ours it is about, where the provider knows that.
    pub refund: Option<RefundId>,
    /// The provider's own name of the payment, where it gives one.
    pub reference: Option<String>,
}

/// What happened to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentEventKind {
    /// The money is captured.
    Paid,
    /// The buyer's attempt was refused, or they gave up; the session at the provider is over.
    Failed,
    /// Money went back.
    Refunded,
    /// A refund that was begun did not arrive.
    RefundFailed,
    /// The buyer's bank takes the money back until it is decided whose it is.
    Disputed,
    /// It was decided for the merchant.
    DisputeWon,
    /// It was decided for the buyer: the money is gone.
    DisputeLost,
}

/// Money to be sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    /// Ours; the provider's idempotency key.
    pub refund: RefundId,
    /// Of which payment.
    pub payment: PaymentId,
    /// The provider's own name of the payment, as it told it with the money.
    pub reference: Option<String>,
    /// For which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// Why, in the merchant's words.
    pub reason: String,
    /// How often it was asked for before: more than 0 says that an earlier try may have been carried out.
    pub attempt: u32,
}

/// What a provider answers to a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundAnswer {
    /// Whether the money has gone back; if not, an event will say so.
    pub done: bool,
    /// The provider's name of the refund, where it has one.
    pub reference: Option<String>,
}

/// Why a provider did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// The callback's signature is missing, wrong, or too old. Answer 401; nothing was changed.
    #[error("the callback is not signed by the provider: {0}")]
    Unsigned(String),
    /// The callback is signed but not understood. Answer 400.
    #[error("the callback is not understood: {0}")]
    Malformed(String),
    /// The provider can't be reached, or does not know whether it has done it. Retry later.
    #[error("the payment provider cannot be reached: {0}")]
    Unavailable(String),
    /// The provider says no, and will say so again. A person must look.
    #[error("the payment provider refuses: {0}")]
    Refused(String),
}

/// A payment provider.
pub trait PaymentProvider: Send + Sync + 'static {
    /// Its name in URLs and records, such as `sandbox`.
    fn name(&self) -> &'static str;

    /// Whether it can collect so much at all: `Refused` where it can't, as in a currency that it counts otherwise.
    fn collects(&self, amount: Money) -> Result<(), PaymentError> {
        let _ = amount;
        Ok(())
    }

    /// Starts a payment. Idempotent by `request.payment` and `request.attempt`.
    fn start<'a>(
        &'a self,
        request: &'a PaymentRequest,
    ) -> BoxFuture<'a, Result<PaymentSession, PaymentError>>;

    /// Verifies a callback: `header` looks up a header by its lower-case name, `body` is exactly what arrived. `None`
    /// for an event that is signed and is none of our business.
    fn verify(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Option<Word>, PaymentError>;

    /// The payment of ours that it calls so, where we have not been told that name yet; `None` where it is none of ours.
    fn payment_of<'a>(
        &'a self,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Option<PaymentId>, PaymentError>> {
        let _ = reference;
        Box::pin(async { Ok(None) })
    }

    /// Sends money back. Idempotent by `request.refund`.
    fn refund<'a>(&'a self, request: &'a RefundRequest) -> BoxFuture<'a, Result<RefundAnswer, PaymentError>>;

    /// Ends a session that nobody shall pay in any more. Idempotent; that it has ended already is no error.
    fn close<'a>(&'a self, session: &'a str) -> BoxFuture<'a, Result<(), PaymentError>> {
        let _ = session;
        Box::pin(async { Ok(()) })
    }
}
