//! What must be done about a live when nobody waits for it: sales that the gate could not be told of, orders whose hold
//! has ended unseen. Tried until it is done.

use std::{collections::BTreeMap, time::Duration};

use haul_commerce::{
    GateError, OrderState, Sale,
    book::{HoldRecord, HoldState, KEEP_ORDERED_MS},
};
use haul_model::SaleId;
use tokio::sync::mpsc;

use crate::{Live, Services, now, purchase, restock, stage::Input};

/// How long to leave stores alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Holds that ended so short a while before a rebuild was noticed are told to their buyers, though some of them may have
/// heard it already: "released" twice harms nobody.
const LOST_WITHIN: Duration = Duration::from_secs(30);
/// Orders looked at in one go; more of them wait for the next.
const MAX_ORDERS: u32 = 10_000;

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Chore {
    /// Make this sale known to the gate: it is written down, and the gate does not know it, or not as it is now.
    Sale(Box<Sale>),
    /// Make all coupons of the live known to the gate.
    Coupons,
    /// Compare the orders that are being paid with the holds that stand: a report of the gate's may have been lost.
    Orders,
    /// This sale was rebuilt as this epoch, here or by another process: tell those who have lost a hold by it.
    Lost(SaleId, u64),
}

/// What is to be done.
#[derive(Default)]
struct Due {
    /// Of several words on one sale the last counts.
    sales: BTreeMap<SaleId, Sale>,
    orders: bool,
    coupons: bool,
    lost: BTreeMap<SaleId, u64>,
}

/// Does a live's chores, one after the other, until the live is gone.
pub(crate) async fn run(services: Services, live: Live, mut chores: mpsc::UnboundedReceiver<Chore>) {
    let mut due = Due::default();
    loop {
        if due.is_empty() {
            let Some(chore) = chores.recv().await else { return };
            due.take(chore);
        }
        while let Ok(chore) = chores.try_recv() {
            due.take(chore);
        }
        for sale in std::mem::take(&mut due.sales).into_values() {
            match tell_gate(&services, &live, &sale).await {
                // What it cost may have to do with orders.
                // A gate that has lost a sale has perhaps lost the coupons.
                Ok(Told::Rebuilt) => (due.orders, due.coupons) = (true, true),
                Ok(Told::Known) => {}
                Err(error) => {
                    tracing::warn!(live = %live.id(), sale = %sale.id, %error, "a sale waits for the gate");
                    due.sales.insert(sale.id.clone(), sale);
                }
            }
        }
        for (sale, epoch) in std::mem::take(&mut due.lost) {
            match look_for_lost(&services, &live, &sale, epoch).await {
                Ok(true) => {}
                Ok(false) => drop(due.lost.insert(sale, epoch)),
                Err(error) => {
                    tracing::warn!(live = %live.id(), %sale, error, "lost holds could not be looked for");
                    due.lost.insert(sale, epoch);
                }
            }
        }
        if due.coupons {
            match tell_coupons(&services, &live).await {
                Ok(()) => due.coupons = false,
                Err(error) => tracing::warn!(live = %live.id(), error, "coupons wait for the gate"),
            }
        }
        if due.orders {
            match tidy_orders(&services, &live).await {
                Ok(()) => due.orders = false,
                Err(error) => {
                    tracing::warn!(live = %live.id(), error, "orders being paid could not be looked at")
                }
            }
        }
        if !due.is_empty() {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

impl Due {
    fn take(&mut self, chore: Chore) {
        match chore {
            Chore::Sale(sale) => drop(self.sales.insert(sale.id.clone(), *sale)),
            Chore::Orders => self.orders = true,
            Chore::Coupons => self.coupons = true,
            Chore::Lost(sale, epoch) => drop(self.lost.insert(sale, epoch)),
        }
    }

    fn is_empty(&self) -> bool {
        self.sales.is_empty() && !self.orders && !self.coupons && self.lost.is_empty()
    }
}

/// Tells the stage of holds that ended when the sale was rebuilt. False where whoever did it has not written them yet.
async fn look_for_lost(services: &Services, live: &Live, sale: &SaleId, epoch: u64) -> Result<bool, String> {
    let recorded = services.ledger.recorded(live.id(), sale).await.map_err(text)?;
    if recorded.mark.epoch < epoch {
        return Ok(false);
    }
    let since = recorded.clock - LOST_WITHIN;
    let lost = |record: &HoldRecord| record.state == HoldState::Released && record.deadline >= since;
    let holds = recorded.holds.into_iter().filter(lost).collect();
    live.input(Input::HoldsLost { sale: sale.clone(), holds });
    Ok(true)
}

enum Told {
    Known,
    Rebuilt,
}

/// Makes a sale known to the gate, and rebuilds it there if the gate has lost it; then tells the stage.
async fn tell_gate(services: &Services, live: &Live, sale: &Sale) -> Result<Told, GateError> {
    let _turn = live.turn_for_sales().await;
    // As it is by now: it may have been changed, and the gate told so, since this was found to be due.
    let found = services.ledger.sale(live.id(), &sale.id).await;
    let found = found.map_err(|error| GateError::Unavailable(error.to_string()))?;
    let sale = found.as_ref().unwrap_or(sale);
    match live.gate().put_sale(&sale.id, &sale.terms).await {
        Ok(applied) => {
            live.input(Input::SaleKnown { sale: sale.clone(), applied });
            Ok(Told::Known)
        }
        Err(GateError::Stale { at }) => {
            tracing::error!(live = %live.id(), sale = %sale.id, %at, "the gate has lost something of this sale");
            let Some(applied) = live.gate().rebuild(&sale.id).await? else {
                return Err(GateError::Unavailable("the sale was rebuilt by another process".to_owned()));
            };
            live.input(Input::SaleKnown { sale: sale.clone(), applied });
            Ok(Told::Rebuilt)
        }
        Err(error) => Err(error),
    }
}

async fn tell_coupons(services: &Services, live: &Live) -> Result<(), String> {
    let coupons = services.ledger.coupons(live.id()).await.map_err(text)?;
    let coupons: Vec<_> = coupons.into_iter().map(|known| known.coupon).collect();
    live.gate().put_coupons(&coupons).await.map_err(text)
}

async fn tidy_orders(services: &Services, live: &Live) -> Result<(), String> {
    let ledger = &services.ledger;
    let paying = ledger.orders(live.id(), &[OrderState::Paying], MAX_ORDERS).await.map_err(text)?;
    for order in paying {
        let ids = &order.order;
        // A hold that is paid stands until the ledger has said SOLD: what does not stand has been released.
        let standing = live.gate().standing(&ids.sale, &ids.buyer).await.map_err(text)?;
        if !standing.iter().any(|standing| standing.hold == ids.hold) {
            purchase::expire_order(services, live, &ids.id, now().wall).await.map_err(text)?;
        }
    }
    for order in ledger.restocks_due(live.id(), MAX_ORDERS).await.map_err(text)? {
        restock::tell_gate(services, live, &order).await.map_err(text)?;
    }
    // Nobody asks for them any more: the gate has forgotten them too.
    let before = now().wall - Duration::from_millis(KEEP_ORDERED_MS);
    ledger.forget_holds(live.id(), before).await.map_err(text)?;
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
