//! Money that goes back, sessions at a provider that must end, and disputes: what is written down of them, and when what
//! failed is tried again.
//!
//! Every amount that must go back is a [`Refund`] in the ledger before anybody is asked for it. It is carried out at the
//! provider by a worker, as often as it takes, under an id that the provider recognises.
//!
//! ```text
//! DUE ─asked of the provider→ ASKED ─the provider says so→ DONE
//!  └──────────────── done at once ──────────────────────────┘
//! DUE/ASKED ─the provider refuses→ FAILED ─asked for again by a person→ DUE
//! DONE ─the provider says that it failed after all→ FAILED
//! ```

use std::time::Duration;

use haul_model::{LiveId, MerchantId, Money, OrderId, PaymentId, RefundId, UnixMillis};

use crate::{Order, Parts, PaymentError, PaymentEvent, PaymentEventKind, RefundAnswer, ledger::Answer};

/// The longest reason for a refund, in characters.
pub const MAX_REASON_CHARS: usize = 300;
/// A person who has it tried again begins another round of so many tries: [`RefundRequest::attempt`](crate::RefundRequest)
/// goes on from its next multiple, so that what a provider remembers of a round before is not taken for its answer.
pub const TRIES_A_ROUND: u32 = 8;
/// How long to wait after the first failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait between two tries. A provider that is down for an hour is asked some ten times in it.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// How long a provider that has taken a refund may leave us without news before it is asked again.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);

/// How long to leave a provider alone that has failed `failures` times in a row, at least one.
pub fn wait_after(failures: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_WAIT)
}

/// What the provider's answer means for a refund that it was asked for `attempts` times before.
pub fn step_after(answer: Result<RefundAnswer, PaymentError>, attempts: u32, at: UnixMillis) -> RefundStep {
    match answer {
        Ok(answer) if answer.done => RefundStep::Done { reference: answer.reference },
        Ok(answer) => RefundStep::Asked { reference: answer.reference, again_at: at + ASK_AGAIN_AFTER },
        Err(PaymentError::Refused(error)) => RefundStep::Failed { error },
        Err(error) => RefundStep::Later { at: at + wait_after(attempts + 1), error: error.to_string() },
    }
}

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundState {
    /// To be asked of the provider.
    Due,
    /// The provider has taken it, and will say when the money has gone.
    Asked,
    /// The money has gone back.
    Done,
    /// The provider refuses. A person must look.
    Failed,
}

/// Whose wish a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundOrigin {
    /// Ours: money that buys nothing.
    Automatic,
    /// The merchant's, asked for here.
    Merchant,
    /// Somebody's at the provider; we only heard of it.
    Provider,
}

/// A refund to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefund {
    /// Its id; the same again is the same refund.
    pub id: RefundId,
    /// Of which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
    /// Which lines of the order it is of: as it was asked for, then as it went. Of all in proportion, while nothing is said.
    pub parts: Parts,
    /// Whose wish.
    pub origin: RefundOrigin,
    /// Whether it gives back what was paid for the order. Not, where it is money that came on top of that: it is not the
    /// order's, and nothing of the order changes by it.
    pub of_order: bool,
    /// The provider's own name of the payment that it goes back from; where absent, of what the order was paid with.
    pub payment_reference: Option<String>,
    /// Why.
    pub reason: String,
    /// When.
    pub at: UnixMillis,
}

/// A refund as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// As it was made.
    pub refund: NewRefund,
    /// Whose order.
    pub merchant: MerchantId,
    /// In which live.
    pub live: LiveId,
    /// Of which payment.
    pub payment: PaymentId,
    /// At which provider.
    pub provider: String,
    /// Where it stands.
    pub state: RefundState,
    /// How often the provider was asked.
    pub attempts: u32,
    /// When it may be asked next.
    pub next_attempt_at: UnixMillis,
    /// The provider's own name of the refund.
    pub reference: Option<String>,
    /// Why it failed last.
    pub error: Option<String>,
    /// When it came to its state.
    pub updated_at: UnixMillis,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundStep {
    /// It failed, and is tried again then.
    Later {
        /// When.
        at: UnixMillis,
        /// Why.
        error: String,
    },
    /// The provider has taken it; it is asked again then, should nothing be heard.
    Asked {
        /// The provider's own name of it.
        reference: Option<String>,
        /// When.
        again_at: UnixMillis,
    },
    /// The money has gone back.
    Done {
        /// The provider's own name of it.
        reference: Option<String>,
    },
    /// The provider refuses.
    Failed {
        /// Why.
        error: String,
    },
    /// The money came back to the provider, however long after it had gone.
    CameBack {
        /// Why.
        error: String,
    },
    /// A person wants it to be tried again.
    Again,
}

/// Whether an event says of a refund that is done that it has failed after all. Events overtake each other, and a try that
/// failed before the one that arrived must not undo it: only an event counts that is named after the very refund at the
/// provider, `refund_failed.` and the provider's own name of it.
pub fn has_come_back(event: &PaymentEvent, reference: Option<&str>) -> bool {
    let name = failed_refund(event);
    name.is_some() && reference.is_none_or(|reference| name == Some(reference))
}

/// The provider's own name of the refund that an event says has failed, where the event is named after it.
pub fn failed_refund(event: &PaymentEvent) -> Option<&str> {
    let failed = event.kind == PaymentEventKind::RefundFailed;
    event.event.strip_prefix("refund_failed.").filter(|name| failed && !name.is_empty())
}

/// What an event about a refund changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refunded {
    /// The refund as it is now.
    pub refund: Refund,
    /// Its order as it is now.
    pub order: Order,
    /// Whether anything is new.
    pub news: bool,
    /// Whether the news is that money which had gone came back.
    pub came_back: bool,
}

/// Where a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dispute {
    /// The buyer's bank has the money until it is decided.
    Open,
    /// It was decided for the merchant.
    Won,
    /// It was decided for the buyer.
    Lost,
}

/// A session of a buyer's at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// For which payment.
    pub payment: PaymentId,
    /// How many sessions before it have ended.
    pub attempt: u32,
    /// Where the buyer pays, while it is open.
    pub url: Option<String>,
    /// The provider's name of it.
    pub session: Option<String>,
    /// How often the provider could not be told to end it.
    pub failures: u32,
}

/// Which refunds are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefundFilter {
    /// In this state only.
    pub state: Option<RefundState>,
    /// Of this order only.
    pub order: Option<OrderId>,
    /// Made at this time or later.
    pub since: Option<UnixMillis>,
    /// Those behind this one in the list.
    pub after: Option<(UnixMillis, RefundId)>,
}

/// What the ledger keeps of money that goes back. Every query names a merchant, or an order, a payment or a
/// refund, each of which has one merchant.
pub trait Refunds: Send + Sync + 'static {
    /// Writes a refund down, unless one with its id is. `Conflict` where an order's refunds would be more than what was
    /// paid for it, or those of a line more than what was paid for that, in another currency, or where the id is another refund's; `NotFound` where there is no such order, or
    /// nothing was paid.
    fn put_refund<'a>(&'a self, refund: &'a NewRefund) -> Answer<'a, Refund>;
    /// A refund.
    fn refund<'a>(&'a self, refund: &'a RefundId) -> Answer<'a, Option<Refund>>;
    /// An order's refunds, oldest first.
    fn refunds_of_order<'a>(&'a self, order: &'a OrderId) -> Answer<'a, Vec<Refund>>;
    /// A merchant's refunds, newest first, at most `limit`.
    fn list_refunds<'a>(
        &'a self,
        merchant: &'a MerchantId,
        filter: &'a RefundFilter,
        limit: u32,
    ) -> Answer<'a, Vec<Refund>>;
    /// All refunds of a live's orders, oldest first.
    fn refunds_of_live<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<Refund>>;
    /// Refunds at this provider that may be asked for now, those that wait longest first.
    fn due_refunds<'a>(&'a self, provider: &'a str, now: UnixMillis, limit: u32) -> Answer<'a, Vec<Refund>>;
    /// Writes down what became of a try. What is DONE stays so. With `Done`, the order's refunded sum rises in the same
    /// transaction, and an order that was REFUND_DUE becomes REFUNDED when all has gone back.
    fn step_refund<'a>(
        &'a self,
        refund: &'a RefundId,
        step: &'a RefundStep,
        at: UnixMillis,
    ) -> Answer<'a, Refunded>;
    /// What a provider says of a refund: of the one it names, else of one of ours for this amount that it has been asked
    /// for, whatever became of its answer, else of one that somebody made at the provider, which is written down here. `event.kind` is `Refunded` or
    /// `RefundFailed`; `None` for a failure of a refund that is none of ours.
    fn provider_refund<'a>(&'a self, event: &'a PaymentEvent, at: UnixMillis)
    -> Answer<'a, Option<Refunded>>;

    /// A dispute over a part of what was paid was decided for the buyer: the part has gone back, as a refund that was made at
    /// the provider, and the rest is disputed no more. `event.kind` is `DisputeLost`.
    fn lose_part<'a>(&'a self, event: &'a PaymentEvent, at: UnixMillis) -> Answer<'a, Refunded>;
    /// Marks an order as disputed, or says how that ended, and gives the order. What is decided stays so.
    fn put_dispute<'a>(&'a self, order: &'a OrderId, dispute: Dispute, at: UnixMillis) -> Answer<'a, Order>;

    /// The latest session of a payment.
    fn checkout<'a>(&'a self, payment: &'a PaymentId) -> Answer<'a, Option<Checkout>>;
    /// Writes a session down that is open.
    fn put_checkout<'a>(&'a self, checkout: &'a Checkout, at: UnixMillis) -> Answer<'a, ()>;
    /// A session has ended: the next one is another attempt. Nothing where none is written down.
    fn end_checkout<'a>(&'a self, payment: &'a PaymentId) -> Answer<'a, ()>;
    /// Open sessions whose orders are not being paid any more, and which may be asked for now.
    fn checkouts_to_close(&self, now: UnixMillis, limit: u32) -> Answer<'_, Vec<Checkout>>;
    /// The provider could not be told to end a session; it is tried again then.
    fn checkout_not_closed<'a>(&'a self, payment: &'a PaymentId, again_at: UnixMillis) -> Answer<'a, ()>;
    /// The payment that a provider calls this.
    fn payment_of_reference<'a>(
        &'a self,
        provider: &'a str,
        reference: &'a str,
    ) -> Answer<'a, Option<PaymentId>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_the_provider_has_its_consequence() {
        let at = UnixMillis(1_000_000);
        let reference = Some("re_1".to_owned());
        let answered = |done| Ok(RefundAnswer { done, reference: reference.clone() });
        assert_eq!(step_after(answered(true), 0, at), RefundStep::Done { reference: reference.clone() });
        let asked = RefundStep::Asked { reference: reference.clone(), again_at: at + ASK_AGAIN_AFTER };
        assert_eq!(step_after(answered(false), 0, at), asked);
        let refused = step_after(Err(PaymentError::Refused("no".into())), 3, at);
        assert_eq!(refused, RefundStep::Failed { error: "no".to_owned() });
        let later = |attempts| match step_after(Err(PaymentError::Unavailable("down".into())), attempts, at) {
            RefundStep::Later { at, .. } => at,
            other => panic!("{other:?}"),
        };
        assert!(at < later(0) && later(0) < later(1) && later(1) < later(5));
    }

    #[test]
    fn a_provider_that_is_down_for_an_hour_is_asked_again_and_again_and_less_and_less() {
        let mut at = Duration::ZERO;
        let mut tries = 0;
        for failures in 1.. {
            let wait = wait_after(failures);
            assert!((FIRST_WAIT..=LONGEST_WAIT).contains(&wait));
            at += wait;
            if at > Duration::from_secs(3600) {
                break;
            }
            tries += 1;
        }
        assert!((8..=16).contains(&tries), "{tries}");
        assert_eq!(wait_after(1), FIRST_WAIT);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
        assert_eq!(wait_after(0), FIRST_WAIT);
    }
}
