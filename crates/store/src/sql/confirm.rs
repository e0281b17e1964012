//! Orders that are paid become SOLD, many at a time.
//!
//! Who confirms an order leaves it in line. One task takes all that has gathered while the set before was on its way, and
//! confirms it in one change, with as many statements for five hundred orders as for one. No timer makes a lone one wait.
//!
//! A set has only orders that may simply become SOLD. What is anything else (unknown, sold before, on its way back, with a
//! coupon that must be counted anew) has a change of its own, as have all orders of a set that fails: each then gets the
//! answer that it would have got alone, and harms no other.

use std::collections::{BTreeSet, HashMap};

use haul_commerce::{LedgerError, Order, OrderState};
use haul_model::{OrderId, UnixMillis};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    change::{Change, ENDED, MAX_WAITING, Writer},
    db::given,
    lines, orders, outbox,
    row::{self, number, parsed, sql, state_text},
};

/// Orders in one change. Those behind them wait for it, some tens of milliseconds.
const MAX_SET: usize = 512;

/// Where orders are left to be confirmed. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Confirmations(mpsc::Sender<Confirmation>);

#[derive(Debug)]
struct Confirmation {
    order: OrderId,
    at: UnixMillis,
    answer: oneshot::Sender<Result<Order, LedgerError>>,
}

impl Confirmations {
    /// Confirms with `write`. Ends when the last clone is dropped.
    pub(super) fn start(write: Writer) -> Self {
        let (confirmations, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(run(write, waiting));
        Self(confirmations)
    }

    /// Makes an order SOLD, as [`haul_commerce::Ledger::move_order`] says.
    pub(super) async fn confirm(&self, order: &OrderId, at: UnixMillis) -> Result<Order, LedgerError> {
        let (answer, answered) = oneshot::channel();
        let confirmation = Confirmation { order: order.clone(), at, answer };
        self.0.try_send(confirmation).map_err(|error| {
            LedgerError::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => format!("{MAX_WAITING} orders are waiting"),
                mpsc::error::TrySendError::Closed(_) => ENDED.to_owned(),
            })
        })?;
        answered.await.unwrap_or_else(|_| Err(LedgerError::Unavailable(ENDED.to_owned())))
    }
}

async fn run(write: Writer, mut waiting: mpsc::Receiver<Confirmation>) {
    while let Some(first) = waiting.recv().await {
        let turn = write.begin().await;
        let mut set = vec![first];
        // Where there is no turn, nobody waits in line for another one.
        while (turn.is_err() || set.len() < MAX_SET)
            && let Ok(next) = waiting.try_recv()
        {
            set.push(next);
        }
        let sold = match turn {
            Ok(change) => sell(change, &set).await,
            Err(error) => {
                answer_all(set, |_| Err(error.clone()));
                continue;
            }
        };
        let sold = sold.unwrap_or_else(|error| {
            tracing::debug!(orders = set.len(), %error, "a set of orders is confirmed one by one");
            HashMap::new()
        });
        let (sold_now, others): (Vec<_>, Vec<_>) =
            set.into_iter().partition(|confirmation| sold.contains_key(&confirmation.order));
        answer_all(sold_now, |order| Ok(sold[order].clone()));
        let mut alone = JoinSet::new();
        for Confirmation { order, at, answer } in others {
            let write = write.clone();
            alone.spawn(async move {
                let _ = answer.send(orders::move_alone(&write, &order, OrderState::Sold, at).await);
            });
        }
        alone.join_all().await;
    }
}

fn answer_all(set: Vec<Confirmation>, result: impl Fn(&OrderId) -> Result<Order, LedgerError>) {
    for Confirmation { order, answer, .. } in set {
        // Who asked may have gone away; what was committed stands.
        let _ = answer.send(result(&order));
    }
}

/// Whether nothing but stock can forbid that the order becomes SOLD, and nothing but stock must be counted.
fn is_simple(order: &Order) -> bool {
    match order.state {
        OrderState::Paying => true,
        OrderState::Expired => order.order.coupon.is_none(),
        OrderState::Sold | OrderState::RefundDue | OrderState::Refunded => false,
    }
}

/// Confirms what of a set is simple, and gives those orders as they are then. After an error, none of them is changed.
async fn sell(mut change: Change, set: &[Confirmation]) -> Result<HashMap<OrderId, Order>, LedgerError> {
    // An order that is confirmed twice is so at the first one's time.
    let times: HashMap<&OrderId, UnixMillis> =
        set.iter().rev().map(|confirmation| (&confirmation.order, confirmation.at)).collect();
    let ids: BTreeSet<[&str; 1]> = times.keys().map(|order| [order.as_str()]).collect();
    let mut sold = given!(
        change,
        &ids,
        "SELECT orders.* FROM " " CROSS JOIN orders WHERE orders.id = given.value ->> 0"
    )
    .try_map(|row| row::order(&row))
    .fetch_all(&mut change)
    .await?;
    sold.retain(is_simple);
    if sold.is_empty() {
        return change.commit().await.map(|()| HashMap::new());
    }
    let bundles: Vec<&str> = sold
        .iter()
        .filter(|order| order.order.lines.is_empty())
        .map(|order| order.order.id.as_str())
        .collect();
    if !bundles.is_empty() {
        let lines = lines::read_lines(&mut change, &bundles).await?;
        lines::put_lines(&mut sold, lines);
    }
    let from: Vec<&str> = sold.iter().map(|order| state_text(order.state)).collect();
    for order in &mut sold {
        order.state = OrderState::Sold;
        order.updated_at = times[&order.order.id];
    }
    let row = |(order, from): (&Order, _)| {
        (order.order.id.clone(), sql(order.updated_at.0), order.order.merchant.clone(), from)
    };
    let rows: Vec<_> = sold.iter().zip(from).map(row).collect();
    let moved = given!(
        change,
        &rows,
        "UPDATE orders SET state = 'sold', updated_at = CAST(given.value ->> 1 AS BIGINT)
         FROM " " WHERE orders.id = given.value ->> 0 AND orders.state = given.value ->> 3"
    )
    .execute(&mut change)
    .await?;
    // Fewer, if another server on the same database has moved one meanwhile.
    if moved != sold.len() as u64 {
        return Err(LedgerError::Unavailable("an order was moved at the same time".to_owned()));
    }
    lines::sell(&mut change, sold.iter().map(|order| &order.order)).await?;
    let events: HashMap<OrderId, i64> = given!(
        change,
        &rows,
        "INSERT INTO order_events (merchant_id, order_id, number, state, at)
         SELECT given.value ->> 2, given.value ->> 0,
                (SELECT COALESCE(MAX(number), 0) + 1 FROM order_events WHERE order_id = given.value ->> 0),
                'sold', CAST(given.value ->> 1 AS BIGINT)
         FROM " " RETURNING order_id, number"
    )
    .try_map(|row| Ok((parsed(&row, "order_id")?, number(&row, "number")?)))
    .fetch_all(&mut change)
    .await?
    .into_iter()
    .collect();
    let numbered = sold.iter().filter_map(|order| Some((order, *events.get(&order.order.id)?)));
    outbox::tell_sold(&mut change, numbered).await?;
    change.commit().await?;
    Ok(sold.into_iter().map(|order| (order.order.id.clone(), order)).collect())
}
