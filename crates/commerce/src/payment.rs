//! The port to payment providers.

use haul_model::{BuyerId, LiveId, Money, OrderId, PaymentId, UnixMillis};

use crate::BoxFuture;

/// What a provider is asked to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    /// Ours; the provider's idempotency key.
    pub payment: PaymentId,
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
}

/// A provider's verified word about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The provider's id of this event: the same for a repeated delivery.
    pub event: String,
    /// About which payment.
    pub payment: PaymentId,
    /// What happened.
    pub kind: PaymentEventKind,
    /// How much was paid, as the provider says.
    pub amount: Money,
}

/// What happened to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentEventKind {
    /// The money is captured.
    Paid,
    /// The buyer's attempt was refused, or they gave up.
    Failed,
    /// Money went back.
    Refunded,
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
    /// The provider can't be reached. Retry later.
    #[error("the payment provider cannot be reached: {0}")]
    Unavailable(String),
}

/// A payment provider.
pub trait PaymentProvider: Send + Sync + 'static {
    /// Its name in URLs and records, such as `sandbox`.
    fn name(&self) -> &'static str;

    /// Starts a payment. Idempotent by `request.payment`.
    fn start<'a>(
        &'a self,
        request: &'a PaymentRequest,
    ) -> BoxFuture<'a, Result<PaymentSession, PaymentError>>;

    /// Verifies a callback: `header` looks up a header by its lower-case name, `body` is exactly what arrived.
    fn verify(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<PaymentEvent, PaymentError>;

    /// Sends money back. Idempotent by payment and amount; completion is reported by a `Refunded` event.
    fn refund<'a>(&'a self, payment: &'a PaymentId, amount: Money)
    -> BoxFuture<'a, Result<(), PaymentError>>;
}
