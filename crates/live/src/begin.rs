//! How a live's owner begins: from the ledger, and from whatever the gate still knows.

use std::{sync::Arc, time::Duration};

use haul_commerce::{LedgerError, LiveRecord, LiveRef, OrderState, Sale};
use haul_media::Relay;
use haul_model::UnixMillis;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::{Notify, mpsc};

use crate::{
    Live, Services,
    live::MAX_REQUESTS_WAITING,
    now,
    owner::Owner,
    purchase,
    stage::{Beginning, Input, MAX_ORDERS_SHOWN, Stage},
    till::Till,
};

/// Sales that closed longer ago are not shown any more; those with unfinished orders come anyway.
const SHOW_CLOSED: Duration = Duration::from_secs(600);
/// How long to wait for a gate that does not answer before asking again.
const GATE_RETRY: Duration = Duration::from_secs(1);
/// Orders looked after when an owner begins; more than that in one live wait for the next beginning.
const MAX_ORPHANS: u32 = 10_000;

/// Reads the live and starts its owner.
///
/// The gate need not answer for that: picture and chat begin without it, and the sales come on stage when it does.
pub(crate) async fn begin(services: Services, record: LiveRecord) -> Result<Live, LedgerError> {
    let id = record.id.clone();
    let bag = services.ledger.bag(&id).await?;
    let sales = services.ledger.sales(&id, now().wall - SHOW_CLOSED).await?;
    let orders = services.ledger.orders(&id, &[], MAX_ORDERS_SHOWN as u32).await?;
    let totals = services.ledger.totals(&id).await?;

    let reference = LiveRef { merchant: record.merchant.clone(), live: id };
    let (requests, requested) = mpsc::channel(MAX_REQUESTS_WAITING);
    let (inputs, input) = mpsc::unbounded_channel();
    let (till, clerk) =
        Till::new(services.gate.clone(), reference.clone(), inputs.clone(), services.metrics.clone());
    let live =
        Live::new(&record, Relay::new(), requests, inputs.clone(), till.clone(), services.metrics.clone());

    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for sale in sales {
        match services.gate.put_sale(&reference, &sale.id, &sale.terms).await {
            Ok(applied) => known.push((sale, applied)),
            Err(error) => {
                tracing::warn!(live = %reference.live, sale = %sale.id, %error, "a sale waits for the gate");
                unknown.push(sale);
            }
        }
    }
    let mut rng = StdRng::from_rng(&mut rand::rng());
    let epoch = format!("{:016x}", rng.random::<u64>());
    let beginning = Beginning { record, bag, sales: known, orders, totals };
    // The clock is read after the gate's answers have come: an estimate of its clock may be late, never early.
    let stage = Stage::new(beginning, services.settings.clone(), epoch, rng, now());
    // Once at the beginning, for what an earlier process may have left.
    let orders_need_care = Arc::new(Notify::new());
    orders_need_care.notify_one();
    let owner = Owner::new(
        stage,
        live.clone(),
        reference.clone(),
        services.clone(),
        till,
        inputs,
        orders_need_care.clone(),
    );
    tokio::spawn(clerk.run());
    tokio::spawn(owner.run(requested, input));
    tokio::spawn(look_after(services.clone(), live.clone(), reference, unknown, orders_need_care));
    services.metrics.live_started();
    tracing::info!(live = %live.id(), "live started");
    Ok(live)
}

/// Brings on stage what the gate could not be told of at first. Then, whenever a report of the gate's may have been
/// lost, looks for orders whose hold has ended, and for refunds that were never asked for.
async fn look_after(
    services: Services,
    live: Live,
    reference: LiveRef,
    sales: Vec<Sale>,
    orders_need_care: Arc<Notify>,
) {
    for sale in sales {
        let applied = loop {
            match services.gate.put_sale(&reference, &sale.id, &sale.terms).await {
                Ok(applied) => break applied,
                Err(_) => tokio::time::sleep(GATE_RETRY).await,
            }
        };
        live.input(Input::SaleKnown { sale, applied });
    }
    loop {
        orders_need_care.notified().await;
        while let Err(error) = tidy_orders(&services, &live, &reference).await {
            tracing::warn!(live = %live.id(), error, "orders that are being paid could not be looked after");
            tokio::time::sleep(GATE_RETRY).await;
        }
    }
}

async fn tidy_orders(services: &Services, live: &Live, reference: &LiveRef) -> Result<(), String> {
    let ledger = &services.ledger;
    let paying = ledger.orders(live.id(), &[OrderState::Paying], MAX_ORPHANS).await.map_err(text)?;
    for order in paying {
        let ids = &order.order;
        // A hold that is paid stands until the ledger has said SOLD: who does not stand has been released.
        let standing = services.gate.standing(reference, &ids.sale, &ids.buyer).await.map_err(text)?;
        if !standing.iter().any(|standing| standing.hold == ids.hold) {
            purchase::expire_order(services, live, &ids.id, now().wall).await;
        }
    }
    let due = ledger.orders(live.id(), &[OrderState::RefundDue], MAX_ORPHANS).await.map_err(text)?;
    for order in due {
        services.provider.refund(&order.order.payment, order.order.total).await.map_err(text)?;
    }
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// A live that nobody created: its first publisher's host token is the permission.
pub(crate) fn fresh(
    live: haul_model::LiveId,
    merchant: haul_model::MerchantId,
    created_at: UnixMillis,
) -> LiveRecord {
    LiveRecord { title: live.to_string(), id: live, merchant, public: false, created_at }
}
