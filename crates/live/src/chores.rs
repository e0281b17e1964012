//! What must be done about a live when nobody waits for it: sales that the gate could not be told of, orders whose hold
//! has ended unseen, refunds that were never asked for. Tried until it is done.

use std::{collections::BTreeMap, time::Duration};

use haul_commerce::{GateError, OrderState, Sale, book::KEEP_ORDERED_MS};
use haul_model::SaleId;
use tokio::sync::mpsc;

use crate::{Live, Services, now, purchase, stage::Input};

/// How long to leave stores alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Orders looked at in one go; more of them wait for the next.
const MAX_ORDERS: u32 = 10_000;

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Chore {
    /// Make this sale known to the gate: it is written down, and the gate does not know it, or not as it is now.
    Sale(Sale),
    /// Compare the orders that are being paid with the holds that stand: a report of the gate's may have been lost.
    Orders,
}

/// Does a live's chores, one after the other, until the live is gone.
pub(crate) async fn run(services: Services, live: Live, mut chores: mpsc::UnboundedReceiver<Chore>) {
    let mut sales: BTreeMap<SaleId, Sale> = BTreeMap::new();
    let mut orders = false;
    loop {
        if sales.is_empty() && !orders {
            let Some(chore) = chores.recv().await else { return };
            take(chore, &mut sales, &mut orders);
        }
        // Of several words on one sale the last counts.
        while let Ok(chore) = chores.try_recv() {
            take(chore, &mut sales, &mut orders);
        }
        for sale in std::mem::take(&mut sales).into_values() {
            match tell_gate(&live, &sale).await {
                // What it cost may have to do with orders.
                Ok(Told::Rebuilt) => orders = true,
                Ok(Told::Known) => {}
                Err(error) => {
                    tracing::warn!(live = %live.id(), sale = %sale.id, %error, "a sale waits for the gate");
                    sales.insert(sale.id.clone(), sale);
                }
            }
        }
        if orders {
            match tidy_orders(&services, &live).await {
                Ok(()) => orders = false,
                Err(error) => {
                    tracing::warn!(live = %live.id(), error, "orders being paid could not be looked at")
                }
            }
        }
        if orders || !sales.is_empty() {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

fn take(chore: Chore, sales: &mut BTreeMap<SaleId, Sale>, orders: &mut bool) {
    match chore {
        Chore::Sale(sale) => drop(sales.insert(sale.id.clone(), sale)),
        Chore::Orders => *orders = true,
    }
}

enum Told {
    Known,
    Rebuilt,
}

/// Makes a sale known to the gate, and rebuilds it there if the gate has lost it; then tells the stage.
async fn tell_gate(live: &Live, sale: &Sale) -> Result<Told, GateError> {
    match live.gate().put_sale(&sale.id, &sale.terms).await {
        Ok(applied) => {
            live.input(Input::SaleKnown { sale: sale.clone(), applied });
            Ok(Told::Known)
        }
        Err(GateError::Stale { at }) => {
            tracing::error!(live = %live.id(), sale = %sale.id, %at, "the gate has lost something of this sale");
            let Some((applied, rebuilt)) = live.gate().rebuild(&sale.id).await? else {
                return Err(GateError::Unavailable("the sale was rebuilt by another process".to_owned()));
            };
            live.input(Input::SaleKnown { sale: sale.clone(), applied });
            live.input(Input::HoldsLost { sale: sale.id.clone(), holds: rebuilt.lost });
            Ok(Told::Rebuilt)
        }
        Err(error) => Err(error),
    }
}

async fn tidy_orders(services: &Services, live: &Live) -> Result<(), String> {
    let ledger = &services.ledger;
    let paying = ledger.orders(live.id(), &[OrderState::Paying], MAX_ORDERS).await.map_err(text)?;
    for order in paying {
        let ids = &order.order;
        // A hold that is paid stands until the ledger has said SOLD: what does not stand has been released.
        let standing = live.gate().standing(&ids.sale, &ids.buyer).await.map_err(text)?;
        if !standing.iter().any(|standing| standing.hold == ids.hold) {
            purchase::expire_order(services, live, &ids.id, now().wall).await;
        }
    }
    let due = ledger.orders(live.id(), &[OrderState::RefundDue], MAX_ORDERS).await.map_err(text)?;
    for order in due {
        // What was paid goes back, which need not be what was asked for.
        let amount = order.paid.map_or(order.order.total, |paid| paid.amount);
        services.provider.refund(&order.order.payment, amount).await.map_err(text)?;
    }
    // Nobody asks for them any more: the gate has forgotten them too.
    let before = now().wall - Duration::from_millis(KEEP_ORDERED_MS);
    ledger.forget_holds(live.id(), before).await.map_err(text)?;
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
