//! How a live's owner begins: from the ledger, and from whatever the gate still knows.

use std::time::Duration;

use haul_commerce::{GateError, LedgerError, LiveRecord, LiveRef, Op, OrderState, Outcome, Sale, order_id};
use haul_media::Relay;
use haul_model::UnixMillis;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::mpsc;

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
    let (id, at) = (record.id.clone(), now());
    let bag = services.ledger.bag(&id).await?;
    let sales = services.ledger.sales(&id, at.wall - SHOW_CLOSED).await?;
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
    let stage = Stage::new(beginning, services.settings.clone(), epoch, rng, at);
    let owner = Owner::new(stage, live.clone(), reference.clone(), services.clone(), till, inputs);
    tokio::spawn(clerk.run());
    tokio::spawn(owner.run(requested, input));
    tokio::spawn(look_after(services.clone(), live.clone(), reference, unknown));
    services.metrics.live_started();
    tracing::info!(live = %live.id(), "live started");
    Ok(live)
}

/// What an earlier process may have left: sales that the gate could not be told of, orders whose hold has ended, and
/// refunds that were never asked for.
async fn look_after(services: Services, live: Live, reference: LiveRef, sales: Vec<Sale>) {
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
        match tidy_orders(&services, &live).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(live = %live.id(), error, "orders of an earlier run wait");
                tokio::time::sleep(GATE_RETRY).await;
            }
        }
    }
}

async fn tidy_orders(services: &Services, live: &Live) -> Result<(), String> {
    let ledger = &services.ledger;
    let paying = ledger.orders(live.id(), &[OrderState::Paying], MAX_ORPHANS).await.map_err(text)?;
    for order in paying {
        let ids = &order.order;
        // Asking for the payment to start again changes nothing for a hold that stands, and tells if it does not.
        let again =
            Op::StartPayment { hold: ids.hold.clone(), buyer: ids.buyer.clone(), order: order_id(&ids.hold) };
        match live.ask(&ids.sale, again).await {
            Ok(Outcome::Released | Outcome::Refused(_)) => {
                purchase::expire_order(services, live, &ids.id, now().wall).await;
            }
            Ok(_) => {}
            Err(GateError::Corrupt(reason)) => return Err(reason),
            Err(error) => return Err(error.to_string()),
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
