//! Money that goes back, sessions at providers, disputes.

use haul_commerce::{
    Checkout, Dispute, LedgerError, NewRefund, Order, OrderState, Parts, PaymentEvent, Refund, RefundFilter,
    RefundOrigin, RefundState, RefundStep, Refunded, Refunds, TRIES_A_ROUND, ledger::Answer, parts,
};
use haul_model::{LiveId, MerchantId, Money, OrderId, PaymentId, RefundId, UnixMillis};

use super::{
    SqlLedger,
    change::Change,
    db::{Builder, On, Row, query, query_scalar},
    lines,
    orders::add_event,
    reported,
    row::{self, bad, number, parsed, sql, text, time},
    under_way,
};

/// A refund with what its order says of it, and where it is looked for.
macro_rules! select_refund {
    ($text:literal) => {
        concat!(
            "SELECT refunds.*, orders.live_id FROM refunds JOIN orders ON orders.id = refunds.order_id ",
            $text
        )
    };
}

pub(super) use select_refund;

const DISPUTES: [Dispute; 3] = [Dispute::Open, Dispute::Won, Dispute::Lost];

pub(super) fn dispute_text(dispute: Dispute) -> &'static str {
    match dispute {
        Dispute::Open => "open",
        Dispute::Won => "won",
        Dispute::Lost => "lost",
    }
}

pub(super) fn dispute(row: &Row) -> Result<Option<Dispute>, sqlx::Error> {
    let found: Option<&str> = row.try_get("dispute")?;
    let Some(text) = found else { return Ok(None) };
    let known = DISPUTES.into_iter().find(|dispute| dispute_text(*dispute) == text);
    known.map(Some).ok_or_else(|| bad("dispute", "no known one"))
}

const REFUND_STATES: [RefundState; 4] =
    [RefundState::Due, RefundState::Asked, RefundState::Done, RefundState::Failed];

pub(super) fn refund_state_text(state: RefundState) -> &'static str {
    match state {
        RefundState::Due => "due",
        RefundState::Asked => "asked",
        RefundState::Done => "done",
        RefundState::Failed => "failed",
    }
}

const ORIGINS: [RefundOrigin; 3] = [RefundOrigin::Automatic, RefundOrigin::Merchant, RefundOrigin::Provider];

fn origin_text(origin: RefundOrigin) -> &'static str {
    match origin {
        RefundOrigin::Automatic => "automatic",
        RefundOrigin::Merchant => "merchant",
        RefundOrigin::Provider => "provider",
    }
}

pub(super) fn read_refund(row: &Row) -> Result<Refund, sqlx::Error> {
    let state = text(row, "state")?;
    let state = REFUND_STATES.into_iter().find(|known| refund_state_text(*known) == state);
    let origin = text(row, "origin")?;
    let origin = ORIGINS.into_iter().find(|known| origin_text(*known) == origin);
    let created_at = time(row, "created_at")?;
    Ok(Refund {
        refund: NewRefund {
            id: parsed(row, "id")?,
            order: parsed(row, "order_id")?,
            amount: row::money(row, "amount_minor")?,
            parts: row::parsed_if(row, "parts")?.unwrap_or_default(),
            origin: origin.ok_or_else(|| bad("origin", "no known one"))?,
            of_order: row.try_get("of_order")?,
            payment_reference: row.try_get("payment_reference")?,
            reason: row.try_get("reason")?,
            at: created_at,
        },
        merchant: parsed(row, "merchant_id")?,
        live: parsed(row, "live_id")?,
        payment: parsed(row, "payment_id")?,
        provider: row.try_get("provider")?,
        state: state.ok_or_else(|| bad("state", "no known one"))?,
        attempts: number(row, "attempts")?,
        next_attempt_at: time(row, "next_attempt_at")?,
        reference: row.try_get("reference")?,
        error: row.try_get("error")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn read_checkout(row: &Row) -> Result<Checkout, sqlx::Error> {
    let open: bool = row.try_get("is_open")?;
    let url: String = row.try_get("url")?;
    Ok(Checkout {
        payment: parsed(row, "payment_id")?,
        attempt: number(row, "attempt")?,
        url: open.then_some(url),
        session: row.try_get("session")?,
        failures: number(row, "failures")?,
    })
}

pub(super) async fn find_refund<'a>(
    refund: &str,
    on: impl Into<On<'a>>,
) -> Result<Option<Refund>, LedgerError> {
    query(select_refund!("WHERE refunds.id = $1"))
        .bind(refund)
        .try_map(|row| read_refund(&row))
        .fetch_optional(on)
        .await
}

async fn find_order<'a>(order: &str, on: impl Into<On<'a>>) -> Result<Option<Order>, LedgerError> {
    query("SELECT * FROM orders WHERE id = $1")
        .bind(order)
        .try_map(|row| row::order(&row))
        .fetch_optional(on)
        .await
}

/// Whoever disputes a payment has its money from the bank already, or will.
fn is_the_banks(order: &Order) -> bool {
    matches!(order.dispute, Some(Dispute::Open | Dispute::Lost))
}

fn paid_back_by_the_bank(order: &OrderId) -> LedgerError {
    let error = format!("the payment of the order {order} is disputed: a refund would pay it back twice");
    LedgerError::Conflict(error)
}

async fn of_order<'a>(order: &OrderId, on: impl Into<On<'a>>) -> Result<Vec<Refund>, LedgerError> {
    query(select_refund!("WHERE refunds.order_id = $1 ORDER BY refunds.created_at, refunds.id"))
        .bind(order.as_str())
        .try_map(|row| read_refund(&row))
        .fetch_all(on)
        .await
}

/// What of an order's money goes back, or has gone.
async fn going_back(order: &OrderId, change: &mut Change) -> Result<i64, LedgerError> {
    query_scalar(
        "SELECT CAST(COALESCE(SUM(amount_minor), 0) AS BIGINT) FROM refunds
         WHERE order_id = $1 AND of_order AND state <> 'failed'",
    )
    .bind(order.as_str())
    .fetch_one(change)
    .await
}

impl SqlLedger {
    async fn new_refund(&self, new: &NewRefund) -> Result<Refund, LedgerError> {
        let mut change = self.write.begin().await?;
        if let Some(known) = find_refund(new.id.as_str(), &mut change).await? {
            if known.refund.order != new.order || known.refund.amount != new.amount {
                let error = format!("the refund {} was asked for before with other content", new.id);
                return Err(change.refuse(LedgerError::Conflict(error)).await);
            }
            change.commit().await?;
            return Ok(known);
        }
        let paid = match find_order(new.order.as_str(), &mut change).await? {
            Some(order) => order.paid.clone().map(|paid| (order, paid)),
            None => None,
        };
        let Some((mut order, paid)) = paid else {
            let error = LedgerError::NotFound(format!("money paid for the order {}", new.order));
            return Err(change.refuse(error).await);
        };
        if new.origin == RefundOrigin::Merchant && is_the_banks(&order) {
            return Err(change.refuse(paid_back_by_the_bank(&new.order)).await);
        }
        if new.of_order {
            let left = paid.amount.amount_minor - going_back(&new.order, &mut change).await?;
            if new.amount.currency != paid.amount.currency || new.amount.amount_minor > left {
                let left = Money { amount_minor: left, ..paid.amount };
                let error = format!("of what was paid for the order {}, {left} can be refunded", new.order);
                return Err(change.refuse(LedgerError::Conflict(error)).await);
            }
            lines::fill(&mut change, &mut order).await?;
            let refunds = of_order(&new.order, &mut change).await?;
            let left = parts::left_by_line(&order, &refunds);
            let left = |line| left.iter().find(|(known, _)| *known == line).map_or(0, |(_, left)| *left);
            if let Some((line, _)) = new.parts.iter().find(|(line, part)| *part > left(*line)) {
                let left = Money { amount_minor: left(line), ..paid.amount };
                let error = format!("of line {line} of the order {}, {left} can be refunded", new.order);
                return Err(change.refuse(LedgerError::Conflict(error)).await);
            }
        }
        insert(&mut change, new, &order, RefundState::Due).await?;
        add_event(&mut change, &order.order, "refund_due", Some(new.id.as_str()), new.at).await?;
        let refund = find_refund(new.id.as_str(), &mut change).await?;
        change.commit().await?;
        refund.ok_or_else(|| LedgerError::NotFound(format!("the refund {}", new.id)))
    }

    async fn next_step(
        &self,
        id: &RefundId,
        step: &RefundStep,
        at: UnixMillis,
    ) -> Result<Refunded, LedgerError> {
        let mut change = self.write.begin().await?;
        let Some(refund) = find_refund(id.as_str(), &mut change).await? else {
            let error = LedgerError::NotFound(format!("the refund {id}"));
            return Err(change.refuse(error).await);
        };
        match take_step(&mut change, refund, step, at).await {
            Ok(refunded) => change.commit().await.map(|()| refunded),
            Err(error) => Err(change.refuse(error).await),
        }
    }

    async fn heard_of_refund(
        &self,
        event: &PaymentEvent,
        at: UnixMillis,
    ) -> Result<Option<Refunded>, LedgerError> {
        let mut change = self.write.begin().await?;
        match reported::heard(&mut change, event, at).await {
            Ok(refunded) => change.commit().await.map(|()| refunded),
            Err(error) => Err(change.refuse(error).await),
        }
    }

    async fn lost_in_part(&self, event: &PaymentEvent, at: UnixMillis) -> Result<Refunded, LedgerError> {
        let mut change = self.write.begin().await?;
        match reported::lost_in_part(&mut change, event, at).await {
            Ok(refunded) => change.commit().await.map(|()| refunded),
            Err(error) => Err(change.refuse(error).await),
        }
    }

    async fn disputed(
        &self,
        order: &OrderId,
        dispute: Dispute,
        at: UnixMillis,
    ) -> Result<Order, LedgerError> {
        let mut change = self.write.begin().await?;
        let Some(mut found) = find_order(order.as_str(), &mut change).await? else {
            let error = LedgerError::NotFound(format!("the order {order}"));
            return Err(change.refuse(error).await);
        };
        lines::fill(&mut change, &mut found).await?;
        // What is decided is not opened again by a word that was overtaken.
        let is_news = match (found.dispute, dispute) {
            (Some(known), _) if known == dispute => false,
            (Some(Dispute::Won | Dispute::Lost), Dispute::Open) => false,
            // Nor one of a part, of which only the history knows.
            (None, Dispute::Open) => !reported::was_lost_in_part(&mut change, order).await?,
            _ => true,
        };
        if !is_news {
            change.commit().await?;
            return Ok(found);
        }
        query("UPDATE orders SET dispute = $1, updated_at = $2 WHERE id = $3")
            .bind(dispute_text(dispute))
            .bind(sql(at.0))
            .bind(order.as_str())
            .execute(&mut change)
            .await?;
        let state = match dispute {
            Dispute::Open => "disputed",
            Dispute::Won => "dispute_won",
            Dispute::Lost => "dispute_lost",
        };
        add_event(&mut change, &found.order, state, None, at).await?;
        change.commit().await?;
        Ok(Order { dispute: Some(dispute), updated_at: at, ..found })
    }
}

pub(super) async fn insert(
    change: &mut Change,
    new: &NewRefund,
    order: &Order,
    state: RefundState,
) -> Result<(), LedgerError> {
    query(
        "INSERT INTO refunds (id, merchant_id, order_id, payment_id, provider, payment_reference, amount_minor, currency,
                              origin, of_order, reason, state, next_attempt_at, created_at, updated_at, parts)
         VALUES ($1, $2, $3, $4, $5,
                 COALESCE($6, (SELECT reference FROM callbacks WHERE provider = $5 AND event_id = $7)),
                 $8, $9, $10, $11, $12, $13, $14, $14, $14, $15)",
    )
    .bind(new.id.as_str())
    .bind(order.order.merchant.as_str())
    .bind(order.order.id.as_str())
    .bind(order.order.payment.as_str())
    .bind(&order.order.provider)
    .bind(&new.payment_reference)
    .bind(order.paid.as_ref().map(|paid| paid.event.as_str()))
    .bind(new.amount.amount_minor)
    .bind(new.amount.currency.code())
    .bind(origin_text(new.origin))
    .bind(new.of_order)
    .bind(&new.reason)
    .bind(refund_state_text(state))
    .bind(sql(new.at.0))
    .bind((!new.parts.is_empty()).then(|| new.parts.to_string()))
    .execute(change)
    .await
    .map(|_| ())
}

pub(super) async fn take_step(
    change: &mut Change,
    refund: Refund,
    step: &RefundStep,
    at: UnixMillis,
) -> Result<Refunded, LedgerError> {
    let id = refund.refund.id.clone();
    let before = refund.state;
    let (state, reference, error, next_attempt_at) = match step {
        // Said again, it is no news.
        RefundStep::CameBack { .. } | RefundStep::Failed { .. } if before == RefundState::Failed => {
            return with_order(change, refund, false).await;
        }
        RefundStep::CameBack { error } => (RefundState::Failed, None, Some(error.as_str()), at),
        // Else what has arrived has arrived, and what is refused waits for a person.
        _ if before == RefundState::Done => return with_order(change, refund, false).await,
        RefundStep::Done { reference } => (RefundState::Done, reference.as_deref(), None, at),
        RefundStep::Failed { error } => (RefundState::Failed, None, Some(error.as_str()), at),
        RefundStep::Again if before == RefundState::Failed => (RefundState::Due, None, None, at),
        RefundStep::Again => (before, None, None, at),
        _ if before == RefundState::Failed => return with_order(change, refund, false).await,
        RefundStep::Later { at, error } => (before, None, Some(error.as_str()), *at),
        RefundStep::Asked { reference, again_at } => {
            (RefundState::Asked, reference.as_deref(), None, *again_at)
        }
    };
    if before == RefundState::Failed && state == RefundState::Due {
        let NewRefund { order, amount, origin, of_order, .. } = &refund.refund;
        let found = find_order(order.as_str(), &mut *change).await?;
        if *origin == RefundOrigin::Merchant && found.as_ref().is_some_and(is_the_banks) {
            return Err(paid_back_by_the_bank(order));
        }
        // Others may have taken its place meanwhile.
        let paid = found.as_ref().map_or(0, paid_minor);
        if *of_order && going_back(order, change).await? + amount.amount_minor > paid {
            return Err(LedgerError::Conflict(format!("the refund {id} would be more than what is left")));
        }
    }
    // What is tried again becomes another one at the provider.
    let reference = match step {
        RefundStep::Again if state != before => None,
        _ => reference.or(refund.reference.as_deref()),
    };
    let attempts = match step {
        RefundStep::Again if state != before => {
            refund.attempts.next_multiple_of(TRIES_A_ROUND).max(TRIES_A_ROUND)
        }
        RefundStep::Again | RefundStep::CameBack { .. } => refund.attempts,
        _ => refund.attempts.saturating_add(1),
    };
    // Only a new state is news; a refund that waits is as old as it was.
    let updated_at = if state == before { refund.updated_at } else { at };
    query(
        "UPDATE refunds SET state = $1, reference = $2, error = $3, next_attempt_at = $4,
                            attempts = $5, updated_at = $6 WHERE id = $7",
    )
    .bind(refund_state_text(state))
    .bind(reference)
    .bind(error)
    .bind(sql(next_attempt_at.0))
    .bind(attempts)
    .bind(sql(updated_at.0))
    .bind(id.as_str())
    .execute(&mut *change)
    .await?;
    let mut refund = find_refund(id.as_str(), &mut *change)
        .await?
        .ok_or_else(|| LedgerError::NotFound(format!("the refund {id}")))?;
    match state {
        RefundState::Done => gone(change, &mut refund, at).await?,
        RefundState::Failed => {
            if before == RefundState::Done {
                came_back(change, &refund.refund, at).await?;
            }
            if let Some(order) = find_order(refund.refund.order.as_str(), &mut *change).await? {
                add_event(change, &order.order, "refund_failed", Some(id.as_str()), at).await?;
            }
        }
        RefundState::Due | RefundState::Asked => {}
    }
    let came_back = before == RefundState::Done && state == RefundState::Failed;
    let refunded = with_order(change, refund, state != before).await?;
    Ok(Refunded { came_back, ..refunded })
}

pub(super) async fn with_order(
    change: &mut Change,
    refund: Refund,
    news: bool,
) -> Result<Refunded, LedgerError> {
    let id = &refund.refund.order;
    let order = find_order(id.as_str(), &mut *change).await?;
    let mut order = order.ok_or_else(|| LedgerError::NotFound(format!("the order {id}")))?;
    lines::fill(change, &mut order).await?;
    Ok(Refunded { refund, order, news, came_back: false })
}

/// The money of a refund has gone back: its order says so, and the refund which of its lines it was.
pub(super) async fn gone(
    change: &mut Change,
    refund: &mut Refund,
    at: UnixMillis,
) -> Result<(), LedgerError> {
    let Refund { refund, .. } = refund;
    if !refund.of_order {
        return Ok(());
    }
    let Some(order) = find_order(refund.order.as_str(), &mut *change).await? else { return Ok(()) };
    // An order gives back what it was paid with, at most. That more has gone is for a person to see: the sums differ.
    let sum = refund.amount.amount_minor.min(paid_minor(&order) - order.refunded_minor);
    refund.parts = gone_of_lines(change, order, refund, sum).await?;
    query("UPDATE orders SET refunded_minor = refunded_minor + $1, updated_at = $2 WHERE id = $3")
        .bind(sum)
        .bind(sql(at.0))
        .bind(refund.order.as_str())
        .execute(&mut *change)
        .await?;
    let Some(order) = find_order(refund.order.as_str(), &mut *change).await? else { return Ok(()) };
    let all = order.paid.as_ref().is_some_and(|paid| order.refunded_minor >= paid.amount.amount_minor);
    if all && order.state == OrderState::RefundDue {
        query("UPDATE orders SET state = 'refunded' WHERE id = $1")
            .bind(refund.order.as_str())
            .execute(&mut *change)
            .await?;
        under_way::moved(change, std::iter::once(&order.order), OrderState::Refunded).await?;
    }
    let state = if all { "refunded" } else { "partly_refunded" };
    add_event(change, &order.order, state, Some(refund.id.as_str()), at).await
}

/// The money of a refund is there again: its order and its lines have it back, and owe it as before.
async fn came_back(change: &mut Change, refund: &NewRefund, at: UnixMillis) -> Result<(), LedgerError> {
    if !refund.of_order {
        return Ok(());
    }
    for (line, part) in refund.parts.iter() {
        query(
            "UPDATE order_lines SET refunded_minor = refunded_minor - $1 WHERE order_id = $2 AND line = $3",
        )
        .bind(part)
        .bind(refund.order.as_str())
        .bind(i64::from(line))
        .execute(&mut *change)
        .await?;
    }
    // What had gone is of lines, wherever orders know theirs.
    let sum = if refund.parts.is_empty() { refund.amount.amount_minor } else { refund.parts.total() };
    query(
        "UPDATE orders SET refunded_minor = CASE WHEN refunded_minor < $1 THEN 0 ELSE refunded_minor - $1 END,
                           state = CASE state WHEN 'refunded' THEN 'refund_due' ELSE state END, updated_at = $2
         WHERE id = $3",
    )
    .bind(sum)
    .bind(sql(at.0))
    .bind(refund.order.as_str())
    .execute(&mut *change)
    .await?;
    match find_order(refund.order.as_str(), &mut *change).await? {
        Some(owing) => under_way::moved(change, std::iter::once(&owing.order), owing.state).await,
        None => Ok(()),
    }
}

/// So much of a refund is its order's: each line gives its part.
async fn gone_of_lines(
    change: &mut Change,
    mut order: Order,
    refund: &NewRefund,
    sum: i64,
) -> Result<Parts, LedgerError> {
    lines::fill(&mut *change, &mut order).await?;
    let named: Vec<Refund> = of_order(&refund.order, &mut *change).await?;
    let named: Vec<Refund> = named
        .into_iter()
        .filter(|other| other.refund.id != refund.id && !other.refund.parts.is_empty())
        .collect();
    // What others have named is theirs, unless more goes back than they leave.
    let mut left = parts::left_by_line(&order, &named);
    if left.iter().map(|(_, left)| left).sum::<i64>() < sum {
        left = lines::left(&mut *change, &order).await?;
    }
    let gone = parts::settle(sum, &refund.parts, &left);
    for (line, part) in gone.iter() {
        query(
            "UPDATE order_lines SET refunded_minor = refunded_minor + $1 WHERE order_id = $2 AND line = $3",
        )
        .bind(part)
        .bind(refund.order.as_str())
        .bind(i64::from(line))
        .execute(&mut *change)
        .await?;
    }
    query("UPDATE refunds SET parts = $1 WHERE id = $2")
        .bind((!gone.is_empty()).then(|| gone.to_string()))
        .bind(refund.id.as_str())
        .execute(&mut *change)
        .await?;
    Ok(gone)
}

fn paid_minor(order: &Order) -> i64 {
    order.paid.as_ref().map_or(0, |paid| paid.amount.amount_minor)
}

impl Refunds for SqlLedger {
    fn put_refund<'a>(&'a self, refund: &'a NewRefund) -> Answer<'a, Refund> {
        Box::pin(self.new_refund(refund))
    }

    fn refund<'a>(&'a self, refund: &'a RefundId) -> Answer<'a, Option<Refund>> {
        Box::pin(find_refund(refund.as_str(), &self.read))
    }

    fn refunds_of_order<'a>(&'a self, order: &'a OrderId) -> Answer<'a, Vec<Refund>> {
        Box::pin(of_order(order, &self.read))
    }

    fn list_refunds<'a>(
        &'a self,
        merchant: &'a MerchantId,
        filter: &'a RefundFilter,
        limit: u32,
    ) -> Answer<'a, Vec<Refund>> {
        let RefundFilter { state, order, since, after } = filter;
        let mut wanted = Builder::new(select_refund!("WHERE refunds.merchant_id = "));
        wanted.push_bind(merchant.as_str());
        if let Some(state) = state {
            wanted.push(" AND refunds.state = ").push_bind(refund_state_text(*state));
        }
        if let Some(order) = order {
            wanted.push(" AND refunds.order_id = ").push_bind(order.as_str());
        }
        if let Some(since) = since {
            wanted.push(" AND refunds.created_at >= ").push_bind(sql(since.0));
        }
        if let Some((at, refund)) = after {
            wanted
                .push(" AND (refunds.created_at, refunds.id) < (")
                .push_bind(sql(at.0))
                .push(", ")
                .push_bind(refund.as_str())
                .push(")");
        }
        wanted.push(" ORDER BY refunds.created_at DESC, refunds.id DESC LIMIT ").push_bind(limit);
        Box::pin(async move { wanted.build().try_map(|row| read_refund(&row)).fetch_all(&self.read).await })
    }

    fn refunds_of_live<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<Refund>> {
        Box::pin(
            query(select_refund!("WHERE orders.live_id = $1 ORDER BY refunds.created_at, refunds.id"))
                .bind(live.as_str())
                .try_map(|row| read_refund(&row))
                .fetch_all(&self.read),
        )
    }

    fn due_refunds<'a>(&'a self, provider: &'a str, now: UnixMillis, limit: u32) -> Answer<'a, Vec<Refund>> {
        Box::pin(
            query(select_refund!(
                "WHERE refunds.state IN ('due', 'asked') AND refunds.provider = $1 AND refunds.next_attempt_at <= $2
                     AND NOT (refunds.origin = 'merchant' AND refunds.state = 'due'
                              AND COALESCE(orders.dispute, '') IN ('open', 'lost'))
                 ORDER BY refunds.next_attempt_at, refunds.id LIMIT $3"
            ))
            .bind(provider)
            .bind(sql(now.0))
            .bind(limit)
            .try_map(|row| read_refund(&row))
            .fetch_all(&self.read),
        )
    }

    fn step_refund<'a>(
        &'a self,
        refund: &'a RefundId,
        step: &'a RefundStep,
        at: UnixMillis,
    ) -> Answer<'a, Refunded> {
        Box::pin(self.next_step(refund, step, at))
    }

    fn provider_refund<'a>(
        &'a self,
        event: &'a PaymentEvent,
        at: UnixMillis,
    ) -> Answer<'a, Option<Refunded>> {
        Box::pin(self.heard_of_refund(event, at))
    }

    fn lose_part<'a>(&'a self, event: &'a PaymentEvent, at: UnixMillis) -> Answer<'a, Refunded> {
        Box::pin(self.lost_in_part(event, at))
    }

    fn put_dispute<'a>(&'a self, order: &'a OrderId, dispute: Dispute, at: UnixMillis) -> Answer<'a, Order> {
        Box::pin(self.disputed(order, dispute, at))
    }

    fn checkout<'a>(&'a self, payment: &'a PaymentId) -> Answer<'a, Option<Checkout>> {
        Box::pin(
            query("SELECT * FROM checkouts WHERE payment_id = $1")
                .bind(payment.as_str())
                .try_map(|row| read_checkout(&row))
                .fetch_optional(&self.read),
        )
    }

    fn put_checkout<'a>(&'a self, checkout: &'a Checkout, at: UnixMillis) -> Answer<'a, ()> {
        Box::pin(async move {
            query(
                "INSERT INTO checkouts (payment_id, merchant_id, attempt, url, session, is_open, next_attempt_at)
                 SELECT payment_id, merchant_id, CAST($2 AS BIGINT), $3, $4, TRUE, CAST($5 AS BIGINT)
                 FROM orders WHERE payment_id = $1
                 ON CONFLICT (payment_id) DO UPDATE SET
                     attempt = excluded.attempt, url = excluded.url, session = excluded.session, is_open = TRUE,
                     failures = 0, next_attempt_at = excluded.next_attempt_at",
            )
            .bind(checkout.payment.as_str())
            .bind(checkout.attempt)
            .bind(checkout.url.as_deref().unwrap_or_default())
            .bind(&checkout.session)
            .bind(sql(at.0))
            .execute(&self.write)
            .await
            .map(|_| ())
        })
    }

    fn end_checkout<'a>(&'a self, payment: &'a PaymentId) -> Answer<'a, ()> {
        Box::pin(async move {
            query("UPDATE checkouts SET is_open = FALSE WHERE payment_id = $1 AND is_open")
                .bind(payment.as_str())
                .execute(&self.write)
                .await
                .map(|_| ())
        })
    }

    fn checkouts_to_close(&self, now: UnixMillis, limit: u32) -> Answer<'_, Vec<Checkout>> {
        Box::pin(
            query(
                "SELECT checkouts.* FROM checkouts JOIN orders ON orders.payment_id = checkouts.payment_id
                 WHERE checkouts.is_open AND checkouts.next_attempt_at <= $1 AND orders.state <> 'paying'
                 ORDER BY checkouts.next_attempt_at, checkouts.payment_id LIMIT $2",
            )
            .bind(sql(now.0))
            .bind(limit)
            .try_map(|row| read_checkout(&row))
            .fetch_all(&self.read),
        )
    }

    fn checkout_not_closed<'a>(&'a self, payment: &'a PaymentId, again_at: UnixMillis) -> Answer<'a, ()> {
        Box::pin(async move {
            query("UPDATE checkouts SET failures = failures + 1, next_attempt_at = $1 WHERE payment_id = $2")
                .bind(sql(again_at.0))
                .bind(payment.as_str())
                .execute(&self.write)
                .await
                .map(|_| ())
        })
    }

    fn payment_of_reference<'a>(
        &'a self,
        provider: &'a str,
        reference: &'a str,
    ) -> Answer<'a, Option<PaymentId>> {
        Box::pin(
            query("SELECT payment_id FROM callbacks WHERE provider = $1 AND reference = $2 LIMIT 1")
                .bind(provider)
                .bind(reference)
                .try_map(|row| parsed(&row, "payment_id"))
                .fetch_optional(&self.read),
        )
    }
}
