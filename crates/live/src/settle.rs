//! From a provider's word to an order that is sold.
//!
//! The callback is recorded first and answered then; after that nothing may lose it. Every step can be repeated: what
//! fails or is interrupted stays unfinished in the ledger and is taken up again: in this process, in the next, or in another
//! server on the same ledger.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haul_commerce::{
    About, Callback, CallbackState, Dispute, GateError, LedgerError, NewRefund, Op, Order, OrderState,
    Outcome, Paid, Parts, PaymentError, PaymentEvent, PaymentEventKind, Refund, RefundOrigin, RefundState,
    Refunded, Refusal, Word, buyers::Details, refund_id,
};
use haul_model::{Money, PaymentId, UnixMillis};
use tokio::time::Instant;

use crate::{Live, LiveError, Lives, now};

/// How often callbacks that could not be carried out are tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for callbacks that another server has left: it may have ended in the midst of them.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So long after it came, a callback that nobody has finished is taken for one of those. It may be carried out twice at once.
const LEFT_AFTER: Duration = Duration::from_secs(10);
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
}

/// Wakes the worker that takes unfinished callbacks up again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unsettled(Arc<AtomicBool>);

/// Payments that are being settled: two words on one payment are carried out one after the other.
///
/// A lock, since callbacks come from anywhere; held to enter or leave a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settling(Arc<Mutex<HashSet<PaymentId>>>);

impl Settling {
    /// Takes the payment's turn, unless somebody has it.
    fn begin(&self, payment: &PaymentId) -> Option<Turn> {
        let mut payments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        payments.insert(payment.clone()).then(|| Turn { settling: self.clone(), payment: payment.clone() })
    }
}

/// A payment's turn; ends when dropped.
struct Turn {
    settling: Settling,
    payment: PaymentId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.settling.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.payment);
    }
}

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
        let Some(word) = services.provider.verify(header, body, received_at)? else { return Ok(()) };
        let details = good_details(&word);
        let Some(event) = self.our_event(provider, word).await? else { return Ok(()) };
        let callback = Callback { provider: provider.to_owned(), event, received_at };
        let recorded =
            services.ledger.record_callback(&callback, details.as_ref()).await.map_err(CallbackError::from);
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

    /// The event with the payment of ours that it is about; `None` where the provider's name for it says nothing here.
    async fn our_event(&self, provider: &str, word: Word) -> Result<Option<PaymentEvent>, CallbackError> {
        let Word { event, about, kind, amount, refund, reference, details: _ } = word;
        let payment = match about {
            About::Payment(payment) => payment,
            About::Reference(name) => {
                let found = self.services().refunds.payment_of_reference(provider, &name).await;
                let found = match found.map_err(CallbackError::NotRecorded)? {
                    // The word that it is paid may come later, and it must not be sold then as if nothing had been.
                    None => self.services().provider.payment_of(&name).await.inspect_err(|error| {
                        tracing::warn!(provider, event, name, %error, "whose payment it is could not be asked for");
                    })?,
                    found => found,
                };
                let Some(payment) = found else {
                    // The merchant's account may have other shops.
                    tracing::info!(provider, event, name, "a payment that is none of ours");
                    return Ok(None);
                };
                payment
            }
        };
        Ok(Some(PaymentEvent { event, payment, kind, amount, refund, reference }))
    }

    /// Takes unfinished callbacks up again: all at start and after every failure here, and now and then those that have
    /// waited for so long that whoever took them must be gone. Runs until the process ends.
    pub async fn settle_unfinished(self) {
        let mut ticks = tokio::time::interval(RETRY_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.unsettled().0.store(true, Ordering::Release);
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            ticks.tick().await;
            let all = self.unsettled().0.swap(false, Ordering::AcqRel);
            if !all && Instant::now() < look_at {
                continue;
            }
            look_at = Instant::now() + LOOK_EVERY;
            match self.services().ledger.unfinished_callbacks(RETRY_BATCH).await {
                Ok(callbacks) => {
                    if callbacks.len() as u32 == RETRY_BATCH {
                        self.unsettled().0.store(true, Ordering::Release);
                    }
                    let at = now().wall;
                    for callback in
                        callbacks.iter().filter(|known| all || known.received_at + LEFT_AFTER <= at)
                    {
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
        let Some(_turn) = self.settling().begin(&event.payment) else {
            return self.unsettled().0.store(true, Ordering::Release);
        };
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
                    PaymentEventKind::Failed => {
                        self.services().refunds.end_checkout(&event.payment).await?;
                        payment_failed(&live, order).await?;
                    }
                    PaymentEventKind::Refunded | PaymentEventKind::RefundFailed => {
                        self.refund_news(&live, event).await?;
                    }
                    PaymentEventKind::Disputed => self.disputed(&live, order, Dispute::Open).await?,
                    PaymentEventKind::DisputeWon => self.disputed(&live, order, Dispute::Won).await?,
                    PaymentEventKind::DisputeLost if is_of_a_part(&order, event) => {
                        let refunds = &self.services().refunds;
                        let refunded = refunds.lose_part(event, now().wall).await?;
                        tracing::warn!(live = %live.id(), order = %order.order.id, amount = %event.amount,
                                       "a dispute over a part was lost");
                        tell_refund(&live, refunded);
                    }
                    PaymentEventKind::DisputeLost => self.disputed(&live, order, Dispute::Lost).await?,
                }
            }
            // Ours always has an order before the provider hears of it: somebody else's, or another database.
            None => tracing::error!(payment = %event.payment, "a signed callback for a payment unknown here"),
        }
        ledger.finish_callback(&callback.provider, &event.event).await?;
        Ok(())
    }

    /// The money is there: take the units, write the sale down, settle; or send the money back. One payment makes one
    /// sale, whatever comes after it.
    async fn paid(&self, live: &Live, order: Order, event: &PaymentEvent) -> Result<(), Unfinished> {
        let at = now().wall;
        // As a rule it was written down with the callback.
        let order = match order.paid {
            Some(_) => order,
            None => {
                let paid = Paid { event: event.event.clone(), amount: event.amount };
                self.services().ledger.record_paid(&order.order.id, &paid).await?
            }
        };
        let ids = &order.order;
        if order.paid.as_ref().is_some_and(|first| first.event != event.event) {
            tracing::warn!(order = %ids.id, event = event.event, amount = %event.amount, "paid a second time");
            return self.send_back(live, &order, event, false).await;
        }
        match order.state {
            // Seen before: perhaps the process ended between the ledger and the gate.
            OrderState::Sold => {}
            OrderState::Refunded => return Ok(()),
            OrderState::RefundDue => return self.send_back(live, &order, event, true).await,
            OrderState::Paying | OrderState::Expired => {
                if order.refunded_minor > 0 && order.refunded_minor >= event.amount.amount_minor {
                    tracing::warn!(order = %ids.id, "its money had gone back before it was heard of");
                    return self.refund_due(live, &order, event, at).await;
                }
                if event.amount != ids.total {
                    tracing::error!(order = %ids.id, paid = %event.amount, due = %ids.total, "wrong amount paid");
                    return self.refund_due(live, &order, event, at).await;
                }
                if !self.capture(live, &order).await? {
                    return self.refund_due(live, &order, event, at).await;
                }
                // The ledger knows of the capture before it knows of the sale: a gate that loses it is noticed.
                live.gate().written().await?;
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
        live.ask(&ids.sale, Op::Settle { hold: ids.hold.clone(), order: ids.id.clone() }).await?;
        Ok(())
    }

    /// Takes the units for good. False where there are none left.
    async fn capture(&self, live: &Live, order: &Order) -> Result<bool, Unfinished> {
        let ids = &order.order;
        let (hold, buyer) = (ids.hold.clone(), ids.buyer.clone());
        let capture = Op::Capture { hold: hold.clone(), order: ids.id.clone() };
        let mut outcome = live.ask(&ids.sale, capture.clone()).await?;
        if outcome == Outcome::Refused(Refusal::UnknownHold) {
            // The gate has forgotten the hold, so long ago did it end. The money is here: take what is left, if the sale
            // still is.
            let again = Op::hold(hold.clone(), buyer.clone(), ids.units());
            if let Outcome::Held { .. } = live.ask(&ids.sale, again).await? {
                live.ask(&ids.sale, Op::StartPayment { hold, buyer, order: ids.id.clone(), coupon: None })
                    .await?;
                outcome = live.ask(&ids.sale, capture).await?;
            }
        }
        match outcome {
            Outcome::Captured { .. } | Outcome::Sold => Ok(true),
            Outcome::Late | Outcome::Refused(Refusal::UnknownHold) => Ok(false),
            other => Err(GateError::Corrupt(format!("a capture was answered {other:?}")).into()),
        }
    }

    async fn refund_due(
        &self,
        live: &Live,
        order: &Order,
        event: &PaymentEvent,
        at: UnixMillis,
    ) -> Result<(), Unfinished> {
        let order = self.services().ledger.move_order(&order.order.id, OrderState::RefundDue, at).await?;
        let (hold, buyer) = (order.order.hold.clone(), order.order.buyer.clone());
        // Whatever still stands for this order goes back to the others.
        live.ask(&order.order.sale, Op::Cancel { hold, buyer }).await?;
        live.order_moved(order.clone(), Some(Outcome::Released));
        self.send_back(live, &order, event, true).await
    }

    /// Writes down that the money of an event goes back; the worker carries it out. `of_order`: it is what the order was
    /// paid with, and not money that came on top.
    async fn send_back(
        &self,
        live: &Live,
        order: &Order,
        event: &PaymentEvent,
        of_order: bool,
    ) -> Result<(), Unfinished> {
        let services = self.services();
        let at = now().wall;
        if event.amount.amount_minor == 0 || of_order && order.refunded_minor >= event.amount.amount_minor {
            // Nothing came, or it has gone back already, and nothing goes.
            if of_order {
                let order = services.ledger.move_order(&order.order.id, OrderState::Refunded, at).await?;
                live.order_moved(order, None);
            }
            return Ok(());
        }
        let id = refund_id(&order.order.provider, &event.event);
        let refunds = services.refunds.refunds_of_order(&order.order.id).await?;
        if refunds.iter().any(|known| known.refund.id == id) {
            return Ok(());
        }
        // Of what the order was paid with, some may be on its way back on somebody else's word.
        let counts = |known: &&Refund| known.refund.of_order && known.state != RefundState::Failed;
        let going: i64 = refunds.iter().filter(counts).map(|known| known.refund.amount.amount_minor).sum();
        let amount = match of_order {
            true => Money { amount_minor: event.amount.amount_minor - going, ..event.amount },
            false => event.amount,
        };
        if amount.amount_minor <= 0 {
            return Ok(());
        }
        let refund = NewRefund {
            id,
            order: order.order.id.clone(),
            amount,
            parts: Parts::default(),
            origin: RefundOrigin::Automatic,
            of_order,
            payment_reference: event.reference.clone(),
            reason: match of_order {
                true => "the order could not be fulfilled".to_owned(),
                false => "paid more than once".to_owned(),
            },
            at,
        };
        services.refunds.put_refund(&refund).await?;
        tracing::info!(live = %live.id(), order = %refund.order, refund = %refund.id, amount = %refund.amount, "refund due");
        self.money().wake();
        Ok(())
    }

    async fn refund_news(&self, live: &Live, event: &PaymentEvent) -> Result<(), Unfinished> {
        if event.amount.amount_minor <= 0 {
            return Ok(());
        }
        match self.services().refunds.provider_refund(event, now().wall).await? {
            Some(refunded) => tell_refund(live, refunded),
            None => {
                tracing::warn!(payment = %event.payment, event = event.event, "a refund of nobody's failed")
            }
        }
        Ok(())
    }

    async fn disputed(&self, live: &Live, order: Order, dispute: Dispute) -> Result<(), Unfinished> {
        let id = &order.order.id;
        let order = self.services().refunds.put_dispute(id, dispute, now().wall).await?;
        tracing::warn!(live = %live.id(), order = %id, ?dispute, "a payment is disputed");
        live.order_changed(order, 0);
        Ok(())
    }
}

/// Whether a dispute is of less than what was paid.
fn is_of_a_part(order: &Order, event: &PaymentEvent) -> bool {
    let is_less = |paid: &Paid| {
        paid.amount.currency == event.amount.currency && event.amount.amount_minor < paid.amount.amount_minor
    };
    event.amount.amount_minor > 0 && order.paid.as_ref().is_some_and(is_less)
}

/// What a provider was told of whom the order goes to, where it says something. What can't be kept is left out: no payment
/// fails for it.
fn good_details(word: &Word) -> Option<Details> {
    let told = (word.kind == PaymentEventKind::Paid && word.details != Details::default())
        .then_some(&word.details)?;
    let (contact, charges) = (told.contact.clone(), told.charges.clone());
    let parts = [Details { contact, charges: Vec::new() }, Details { contact: None, charges }];
    let mut good = Details::default();
    for part in parts {
        match part.validate(word.amount) {
            Ok(()) => {
                good.contact = good.contact.or(part.contact);
                good.charges.extend(part.charges);
            }
            Err(error) => tracing::warn!(event = word.event, %error, "a provider's details are left out"),
        }
    }
    (good != Details::default()).then_some(good)
}

/// The buyer and the host hear of money that went back.
pub(crate) fn tell_refund(live: &Live, refunded: Refunded) {
    let Refunded { refund, order, news, came_back } = refunded;
    if !news {
        return;
    }
    let (id, amount, state) = (&refund.refund.id, refund.refund.amount, refund.state);
    tracing::info!(live = %live.id(), order = %order.order.id, refund = %id, %amount, ?state, "refund");
    let gone_minor = match state {
        _ if !refund.refund.of_order => 0,
        RefundState::Done => amount.amount_minor,
        RefundState::Failed if came_back => -amount.amount_minor,
        _ => 0,
    };
    live.order_changed(order, gone_minor);
}

/// The buyer may try again while the hold stands.
async fn payment_failed(live: &Live, order: Order) -> Result<(), Unfinished> {
    let ids = &order.order;
    if order.state != OrderState::Paying {
        return Ok(());
    }
    let failed = Op::PaymentFailed { hold: ids.hold.clone(), order: ids.id.clone() };
    let outcome = live.ask(&ids.sale, failed).await?;
    tracing::info!(live = %live.id(), order = %ids.id, "a payment failed");
    if let Outcome::Restored { .. } = outcome {
        live.order_moved(order, Some(outcome));
    }
    Ok(())
}
