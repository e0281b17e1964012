//! Carries out at the provider what the ledger says must be: refunds, and sessions to be ended. One worker a process, as
//! long as it takes; every try is written down with when the next may be made, so that a provider which is down is
//! asked less and less often, and nothing is forgotten over a restart.

use std::{sync::Arc, time::Duration};

use haul_commerce::{
    Checkout, LedgerError, NewRefund, Order, OrderState, Parts, PaymentError, Refund, RefundOrigin,
    RefundRequest, RefundState, RefundStep, Units,
    parts::{self, LineAsk},
    refund::{step_after, wait_after},
    refund_id,
};
use haul_model::{MerchantId, Money as Amount, OrderId, RefundId};
use tokio::sync::Notify;

use crate::{Lives, RestockError, now, settle::tell_refund};

/// How often to look for what may be tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is looked at in one go; more waits for the next.
const BATCH: u32 = 64;

/// Wakes the worker when something is due at once. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Money(Arc<Notify>);

impl Money {
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }
}

/// What a merchant wants to be sent back.
#[derive(Debug, Clone)]
pub struct RefundAsk {
    /// Whose order.
    pub merchant: MerchantId,
    /// Of which order.
    pub order: OrderId,
    /// How much; all that is left where absent.
    pub amount: Option<Amount>,
    /// Of which lines; of all in proportion to what is left of them, where none is named.
    pub lines: Vec<LineAsk>,
    /// Why.
    pub reason: String,
    /// The same again is the same refund.
    pub key: String,
    /// Whether units are put on the shelf again with it: these, or all that have not come back.
    pub restock: Option<Option<Units>>,
}

impl RefundAsk {
    /// The id of the refund that is asked for by this key.
    pub fn id(merchant: &MerchantId, order: &OrderId, key: &str) -> RefundId {
        refund_id(merchant.as_str(), &format!("{order} {key}"))
    }
}

impl Lives {
    /// Works until the process ends.
    pub async fn carry_out_money(self) {
        let mut busy = true;
        loop {
            if !busy {
                let _ = tokio::time::timeout(LOOK_EVERY, self.money().0.notified()).await;
            }
            busy = match self.money_turn().await {
                Ok(done) => done >= BATCH as usize,
                Err(error) => {
                    tracing::warn!(%error, "what must be sent back could not be looked up");
                    false
                }
            };
        }
    }

    /// Writes a merchant's refund down; the worker carries it out.
    pub async fn ask_refund(&self, ask: RefundAsk) -> Result<(Refund, Order), LedgerError> {
        let services = self.services();
        let unknown = |order: &OrderId| LedgerError::NotFound(format!("the order {order}"));
        let order = services.ledger.order(&ask.order).await?.ok_or_else(|| unknown(&ask.order))?;
        if order.order.merchant != ask.merchant {
            return Err(unknown(&ask.order));
        }
        let id = RefundAsk::id(&ask.merchant, &ask.order, &ask.key);
        let known = services.refunds.refund(&id).await?;
        if let Some(units) = &ask.restock
            && known.is_none()
        {
            // Before any money goes: asked again, they may have come back by this very refund.
            may_come_back(&order, units.as_ref())?;
        }
        let (amount, parts) = match (ask.amount, known) {
            // "All that is left" was a number when it was asked for first, and so was each line's.
            (amount, Some(known)) => (amount.unwrap_or(known.refund.amount), known.refund.parts),
            (amount, None) => self.refundable(&order, amount, &ask.lines).await?,
        };
        if amount.amount_minor <= 0 {
            return Err(LedgerError::Conflict(format!(
                "nothing of the order {} is left to refund",
                ask.order
            )));
        }
        let new = NewRefund {
            id,
            order: ask.order,
            amount,
            parts,
            origin: RefundOrigin::Merchant,
            of_order: true,
            payment_reference: None,
            reason: ask.reason,
            at: now().wall,
        };
        let refund = services.refunds.put_refund(&new).await?;
        self.money().wake();
        let Some(units) = ask.restock else { return Ok((refund, order)) };
        let key = format!("refund {}", refund.refund.id);
        match self.restock(&refund.refund.order, &key, units.as_ref()).await {
            Ok(order) => Ok((refund, order)),
            // They have come back otherwise meanwhile. The money goes, and who asked has to know that.
            Err(RestockError::Refused(reason)) => {
                tracing::warn!(order = %refund.refund.order, reason, "units of a refund did not come back with it");
                Ok((refund, order))
            }
            Err(RestockError::UnknownOrder) => Err(unknown(&refund.refund.order)),
            // The money is on its way, and the same request finds both.
            Err(error) => Err(LedgerError::Unavailable(error.to_string())),
        }
    }

    /// Tries a refund again that the provider refused.
    pub async fn ask_refund_again(&self, refund: &RefundId) -> Result<Refund, LedgerError> {
        let again = self.services().refunds.step_refund(refund, &RefundStep::Again, now().wall).await?;
        self.money().wake();
        Ok(again.refund)
    }

    /// What goes back of an order, in all and of which lines, where it was asked for like this.
    async fn refundable(
        &self,
        order: &Order,
        amount: Option<Amount>,
        lines: &[LineAsk],
    ) -> Result<(Amount, Parts), LedgerError> {
        let Some(paid) = &order.paid else {
            return Err(LedgerError::Conflict(format!("the order {} is not paid", order.order.id)));
        };
        let refunds = self.services().refunds.refunds_of_order(&order.order.id).await?;
        if lines.is_empty() {
            let counts = |refund: &&Refund| refund.refund.of_order && refund.state != RefundState::Failed;
            let gone: i64 =
                refunds.iter().filter(counts).map(|refund| refund.refund.amount.amount_minor).sum();
            let left = Amount { amount_minor: paid.amount.amount_minor - gone, ..paid.amount };
            return Ok((amount.unwrap_or(left), Parts::default()));
        }
        let left = parts::left_by_line(order, &refunds);
        let sum = amount.map(|amount| amount.amount_minor);
        let parts = parts::asked(order, &left, lines, sum)
            .map_err(|error| LedgerError::Conflict(format!("the order {}: {error}", order.order.id)))?;
        Ok((Amount { amount_minor: parts.total(), ..paid.amount }, parts))
    }

    /// Tries all that may be tried now, and gives how much that was.
    async fn money_turn(&self) -> Result<usize, LedgerError> {
        let services = self.services();
        let at = now().wall;
        let refunds = services.refunds.due_refunds(services.provider.name(), at, BATCH).await?;
        let sessions = services.refunds.checkouts_to_close(at, BATCH).await?;
        let count = refunds.len().max(sessions.len());
        for refund in refunds {
            self.carry_out(refund).await;
        }
        for session in sessions {
            self.close(session).await;
        }
        Ok(count)
    }

    async fn carry_out(&self, refund: Refund) {
        let services = self.services();
        let Refund { refund: new, payment, live, attempts, .. } = &refund;
        let request = RefundRequest {
            refund: new.id.clone(),
            payment: payment.clone(),
            reference: new.payment_reference.clone(),
            order: new.order.clone(),
            amount: new.amount,
            reason: new.reason.clone(),
            attempt: *attempts,
        };
        let answer = services.provider.refund(&request).await;
        if let Err(error) = &answer {
            tracing::warn!(refund = %new.id, order = %new.order, attempts, %error, "a refund is not carried out");
        }
        let at = now().wall;
        let step = step_after(answer, *attempts, at);
        match services.refunds.step_refund(&new.id, &step, at).await {
            Ok(refunded) => match self.get(live).await {
                Ok(live) => tell_refund(&live, refunded),
                Err(error) => tracing::warn!(%live, %error, "a refund could not be told"),
            },
            // It is asked for again, and the provider knows that it was.
            Err(error) => tracing::warn!(refund = %new.id, %error, "a refund's try was not written down"),
        }
    }

    async fn close(&self, checkout: Checkout) {
        let Checkout { payment, session, failures, .. } = &checkout;
        let services = self.services();
        let closed = match session {
            Some(session) => services.provider.close(session).await,
            None => Ok(()),
        };
        let written = match closed {
            Ok(()) => services.refunds.end_checkout(payment).await,
            Err(PaymentError::Refused(reason)) => {
                tracing::warn!(%payment, reason, "a session could not be ended, and will end by itself");
                services.refunds.end_checkout(payment).await
            }
            Err(error) => {
                tracing::warn!(%payment, %error, "a session is not ended yet");
                let again_at = now().wall + wait_after(failures + 1);
                services.refunds.checkout_not_closed(payment, again_at).await
            }
        };
        if let Err(error) = written {
            tracing::warn!(%payment, %error, "the end of a session was not written down");
        }
    }
}

/// Refuses units that an order has not, or not any more.
fn may_come_back(order: &Order, units: Option<&Units>) -> Result<(), LedgerError> {
    let kept = |line: u8| {
        order.order.lines.iter().find(|known| known.line == line).map_or(0, |line| order.kept(line))
    };
    let left = order.order.lines.iter().any(|line| order.kept(line) > 0);
    let fits = match units {
        Some(units) => units.iter().all(|(line, quantity)| (1..=kept(line)).contains(&quantity)),
        None => left,
    };
    match order.state == OrderState::Sold && fits {
        true => Ok(()),
        false => Err(LedgerError::Conflict(format!(
            "the order {} has not so many sold units left to put on the shelf again",
            order.order.id
        ))),
    }
}
