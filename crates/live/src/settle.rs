//! From a provider's word to an order that is sold.
//!
//! The callback is recorded first and answered then; after that nothing may lose it. Every step can be repeated: what
//! fails or is interrupted stays unfinished in the ledger and is taken up again, in this process or the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haul_commerce::{
    Callback, CallbackState, GateError, LedgerError, Op, Order, OrderState, Outcome, PaymentError,
    PaymentEvent, PaymentEventKind, Refusal,
};
use haul_model::UnixMillis;

use crate::{Live, LiveError, Lives, now};

/// How often callbacks that could not be carried out are tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Unfinished callbacks read at a time.
const RETRY_BATCH: u32 = 256;

/// Why a callback was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// No such provider here. (404)
    #[error("no payment provider of that name is configured")]
    UnknownProvider,
    /// The provider's adapter refuses it: 401 unsigned, 400 malformed.
    #[error(transparent)]
    Refused(#[from] PaymentError),
    /// The payment is none of ours: 404, so that the provider's own alarm tells its operator.
    #[error("there is no such payment here")]
    UnknownPayment,
    /// The same event came before with other content: 409.
    #[error("this event was recorded before with other content: {0}")]
    Contradiction(String),
    /// It could not be recorded: 503, so that the provider sends it again.
    #[error(transparent)]
    NotRecorded(LedgerError),
}

impl From<LedgerError> for CallbackError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::NotFound(_) => CallbackError::UnknownPayment,
            LedgerError::Conflict(reason) => CallbackError::Contradiction(reason),
            error @ LedgerError::Unavailable(_) => CallbackError::NotRecorded(error),
        }
    }
}

/// Why a recorded callback is not carried out yet.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Provider(#[from] PaymentError),
}

/// Wakes the worker that takes unfinished callbacks up again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unsettled(Arc<AtomicBool>);

impl Lives {
    /// A provider calls: verifies, records, and begins to carry out. When this returns, nothing of it can be lost.
    pub async fn callback(
        &self,
        provider: &str,
        header: &(dyn Fn(&str) -> Option<String> + Sync),
        body: &[u8],
    ) -> Result<(), CallbackError> {
        let services = self.services();
        if services.provider.name() != provider {
            return Err(CallbackError::UnknownProvider);
        }
        let received_at = now().wall;
        let event = services.provider.verify(header, body, received_at)?;
        let callback = Callback { provider: provider.to_owned(), event, received_at };
        let recorded = services.ledger.record_callback(&callback).await.map_err(CallbackError::from);
        if let Err(error) = &recorded {
            let payment = &callback.event.payment;
            tracing::error!(event = callback.event.event, %payment, %error, "a signed callback was not recorded");
        }
        match recorded? {
            CallbackState::Done => {}
            CallbackState::New | CallbackState::Unfinished => {
                let lives = self.clone();
                tokio::spawn(async move { lives.settle_or_leave(&callback).await });
            }
        }
        Ok(())
    }

    /// Takes unfinished callbacks up again, at start and after every failure. Runs until the process ends.
    pub async fn settle_unfinished(self) {
        let mut ticks = tokio::time::interval(RETRY_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.unsettled().0.store(true, Ordering::Release);
        loop {
            ticks.tick().await;
            if !self.unsettled().0.swap(false, Ordering::AcqRel) {
                continue;
            }
            match self.services().ledger.unfinished_callbacks(RETRY_BATCH).await {
                Ok(callbacks) => {
                    if callbacks.len() as u32 == RETRY_BATCH {
                        self.unsettled().0.store(true, Ordering::Release);
                    }
                    for callback in &callbacks {
                        self.services().metrics.callback_resumed();
                        self.settle_or_leave(callback).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "unfinished callbacks could not be read");
                    self.unsettled().0.store(true, Ordering::Release);
                }
            }
        }
    }

    async fn settle_or_leave(&self, callback: &Callback) {
        let event = &callback.event;
        if let Err(error) = self.settle(callback).await {
            tracing::warn!(event = event.event, payment = %event.payment, %error, "a callback waits");
            self.unsettled().0.store(true, Ordering::Release);
        }
    }

    async fn settle(&self, callback: &Callback) -> Result<(), Unfinished> {
        let ledger = &self.services().ledger;
        let event = &callback.event;
        match ledger.order_of_payment(&event.payment).await? {
            Some(order) => {
                let live = self.get(&order.order.live).await?;
                match event.kind {
                    PaymentEventKind::Paid => self.paid(&live, order, event).await?,
                    PaymentEventKind::Failed => payment_failed(&live, order).await?,
                    PaymentEventKind::Refunded => self.refunded(&live, order).await?,
                }
            }
            // Ours always has an order before the provider hears of it: somebody else's, or another database.
            None => tracing::error!(payment = %event.payment, "a signed callback for a payment unknown here"),
        }
        ledger.finish_callback(&callback.provider, &event.event).await?;
        Ok(())
    }

    /// The money is there: take the units, write the sale down, settle; or send the money back.
    async fn paid(&self, live: &Live, order: Order, event: &PaymentEvent) -> Result<(), Unfinished> {
        let (ids, at) = (&order.order, now().wall);
        match order.state {
            OrderState::Sold | OrderState::Refunded => {}
            OrderState::RefundDue => return self.refund(live, order, event).await,
            OrderState::Paying | OrderState::Expired => {
                if event.amount != ids.total {
                    tracing::error!(order = %ids.id, paid = %event.amount, due = %ids.total, "wrong amount paid");
                    return self.refund_due(live, &order, event, at).await;
                }
                let capture = Op::Capture { hold: ids.hold.clone(), order: ids.id.clone() };
                match live.ask(&ids.sale, capture).await? {
                    Outcome::Captured { .. } | Outcome::Sold => {}
                    Outcome::Refused(Refusal::UnknownSale | Refusal::UnknownHold) | Outcome::Late => {
                        return self.refund_due(live, &order, event, at).await;
                    }
                    other => {
                        return Err(GateError::Corrupt(format!("a capture was answered {other:?}")).into());
                    }
                }
                match self.services().ledger.move_order(&ids.id, OrderState::Sold, at).await {
                    Ok(order) => live.order_moved(order, Some(Outcome::Sold)),
                    // The ledger's own constraint: the gate has sold more than there is. Nobody pays for nothing.
                    Err(LedgerError::Conflict(reason)) => {
                        tracing::error!(order = %ids.id, reason, "the ledger refused a sale the gate had captured");
                        return self.refund_due(live, &order, event, at).await;
                    }
                    Err(error) => return Err(error.into()),
                }
                tracing::info!(live = %live.id(), order = %ids.id, total = %ids.total, "sold");
            }
        }
        // Also when the order was sold before: the process may have ended between the ledger and the gate.
        if order.state != OrderState::Refunded {
            live.ask(&ids.sale, Op::Settle { hold: ids.hold.clone(), order: ids.id.clone() }).await?;
        }
        Ok(())
    }

    async fn refund_due(
        &self,
        live: &Live,
        order: &Order,
        event: &PaymentEvent,
        at: UnixMillis,
    ) -> Result<(), Unfinished> {
        let order = self.services().ledger.move_order(&order.order.id, OrderState::RefundDue, at).await?;
        live.order_moved(order.clone(), None);
        self.refund(live, order, event).await
    }

    async fn refund(&self, live: &Live, order: Order, event: &PaymentEvent) -> Result<(), Unfinished> {
        self.services().provider.refund(&order.order.payment, event.amount).await?;
        tracing::info!(live = %live.id(), order = %order.order.id, amount = %event.amount, "refund asked for");
        Ok(())
    }

    async fn refunded(&self, live: &Live, order: Order) -> Result<(), Unfinished> {
        let id = &order.order.id;
        match self.services().ledger.move_order(id, OrderState::Refunded, now().wall).await {
            Ok(order) => live.order_moved(order, None),
            // A refund that we did not ask for: not this machine's to decide, a person must look.
            Err(LedgerError::Conflict(reason)) => {
                tracing::error!(order = %id, reason, "an unexpected refund")
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The buyer may try again while the hold stands.
async fn payment_failed(live: &Live, order: Order) -> Result<(), Unfinished> {
    let ids = &order.order;
    let failed = Op::PaymentFailed { hold: ids.hold.clone(), order: ids.id.clone() };
    let outcome = live.ask(&ids.sale, failed).await?;
    tracing::info!(live = %live.id(), order = %ids.id, "a payment failed");
    live.order_moved(order, Some(outcome));
    Ok(())
}
