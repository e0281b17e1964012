//! Units that come to a shelf while a sale goes on: more of them, or some that were sold and have come back.
//!
//! The ledger is told first, under a key that makes it safe to repeat, and the gate then: a gate that misses it is told
//! again by a chore, or when it is rebuilt.

use haul_commerce::{
    Applied, GateError, LedgerError, Line, Op, Order, OrderState, Outcome, Refusal, Sale, Units,
};
use haul_model::{OrderId, SaleId, UnixMillis};
use haul_wire::{Code, Failure};

use crate::{Live, LiveError, Lives, Services, chores::Chore, now, purchase};

/// Why units of an order were not put on the shelf again.
#[derive(Debug, thiserror::Error)]
pub enum RestockError {
    /// No such order here. (404)
    #[error("there is no such order here")]
    UnknownOrder,
    /// The order is not SOLD, or has fewer units left. (409)
    #[error("{0}")]
    Refused(String),
    /// The ledger does not answer: nothing is known to have happened. Ask again with the same key. (503)
    #[error(transparent)]
    Ledger(LedgerError),
    /// Its live could not be begun. Ask again with the same key. (503)
    #[error(transparent)]
    Live(#[from] LiveError),
}

impl From<LedgerError> for RestockError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::NotFound(_) => RestockError::UnknownOrder,
            LedgerError::Conflict(reason) => RestockError::Refused(reason),
            error @ LedgerError::Unavailable(_) => RestockError::Ledger(error),
        }
    }
}

impl RestockError {
    pub(crate) fn failure(&self) -> Failure {
        match self {
            RestockError::UnknownOrder => {
                Failure::new(Code::NotFound, "order_id: no such order in this live")
            }
            RestockError::Refused(reason) => Failure::new(Code::WrongState, reason.clone()),
            RestockError::Ledger(_) | RestockError::Live(_) => {
                Failure::new(Code::Pending, "the outcome is not known yet: ask again with the same key")
                    .retry_after(500)
            }
        }
    }
}

impl Lives {
    /// Puts units of a SOLD order on the shelf again, all that have not come back where none are named: they are no
    /// longer sold, and can be held by others. Idempotent by `key`. The money is another matter.
    pub async fn restock(
        &self,
        order: &OrderId,
        key: &str,
        units: Option<&Units>,
    ) -> Result<Order, RestockError> {
        let known = self.services().ledger.order(order).await?.ok_or(RestockError::UnknownOrder)?;
        let live = self.get(&known.order.live).await?;
        restock(self.services(), &live, order, key, units).await
    }
}

/// The same in a live that is known. The order must be of that live.
pub(crate) async fn restock(
    services: &Services,
    live: &Live,
    order: &OrderId,
    key: &str,
    units: Option<&Units>,
) -> Result<Order, RestockError> {
    let ledger = &services.ledger;
    let known = ledger.order(order).await?.filter(|known| known.order.live == *live.id());
    let known = known.ok_or(RestockError::UnknownOrder)?;
    if known.state != OrderState::Sold {
        return Err(RestockError::Refused(
            "only units of a sold order can be put on the shelf again".to_owned(),
        ));
    }
    let order = ledger.restock(order, key, units, now().wall).await?;
    if let Err(error) = tell_gate(services, live, &order).await {
        tracing::warn!(live = %live.id(), order = %order.order.id, %error, "units on the shelf wait for the gate");
        live.chore(Chore::Orders);
    }
    live.order_moved(order.clone(), None);
    Ok(order)
}

/// Tells the gate what has come back of an order, and the ledger that it knows.
pub(crate) async fn tell_gate(services: &Services, live: &Live, order: &Order) -> Result<(), GateError> {
    let Some(returned) = order.returned.clone() else { return Ok(()) };
    let ids = &order.order;
    let op = Op::Restock { hold: ids.hold.clone(), order: ids.id.clone(), returned: returned.clone() };
    match live.ask(&ids.sale, op).await? {
        // A sale that the gate has forgotten sells nothing any more.
        Outcome::Restocked | Outcome::Refused(Refusal::UnknownSale | Refusal::UnknownHold) => {}
        // Sold in the ledger, and the gate is about to hear of it.
        Outcome::Captured { .. } | Outcome::Refused(Refusal::WrongState) => {
            return Err(GateError::Unavailable("the order is not settled at the gate yet".to_owned()));
        }
        other => return Err(GateError::Corrupt(format!("a restock was answered {other:?}"))),
    }
    let told = services.ledger.restock_told(&ids.id, &returned).await;
    told.map_err(|error| GateError::Unavailable(error.to_string()))
}

/// Adds units to a line of a sale.
pub(crate) async fn add_stock(
    services: &Services,
    live: &Live,
    sale: &SaleId,
    key: &str,
    line: Line,
    units: u32,
    at: UnixMillis,
) -> Result<(Sale, Applied), Failure> {
    let added = services.ledger.add_stock(live.id(), sale, key, line, units, at).await;
    let sale = added.map_err(|error| match error {
        LedgerError::Conflict(reason) => Failure::new(Code::KeyReused, reason),
        error => purchase::ledger_failed(live, &error),
    })?;
    purchase::tell_of_sale(live, sale).await
}
