//! How a live's owner begins: from the ledger, and from whatever the gate still knows.

use std::time::Duration;

use haul_commerce::{LedgerError, LiveRecord, LiveRef};
use haul_model::UnixMillis;
use haul_room::Estate;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Live, Services, Sharing,
    chores::{self, Chore},
    desk::Desk,
    keeper,
    live::Lines,
    now,
    owner::Owner,
    recorder::Recorder,
    requests, shared,
    stage::{Beginning, MAX_ORDERS_SHOWN, Stage},
    till::Till,
    watch::Watch,
};

/// Sales that closed longer ago are not shown any more; those with unfinished orders come anyway.
const SHOW_CLOSED: Duration = Duration::from_secs(600);
/// How long the first who comes waits until it is known which server owns the room.
const SETTLED_WITHIN: Duration = Duration::from_secs(6);

/// Reads the live and starts its owner.
///
/// The gate need not answer for that: picture and chat begin without it, and the sales come on stage when it does.
pub(crate) async fn begin(services: Services, record: LiveRecord) -> Result<Live, LedgerError> {
    let reference = LiveRef { merchant: record.merchant.clone(), live: record.id.clone() };
    let (requests, asked) = requests::queue();
    let (post, posted) = mpsc::unbounded_channel();
    let (chores, chores_due) = mpsc::unbounded_channel();
    let recorder = Recorder::new(reference.live.clone(), services.metrics.clone());
    let gate = Watch::new(
        services.gate.clone(),
        services.ledger.clone(),
        reference.clone(),
        recorder.clone(),
        services.metrics.clone(),
    );
    let (till, clerk) = Till::new(gate.clone(), post.clone(), services.metrics.clone());
    let (keep, kept) = mpsc::unbounded_channel();
    let lines = Lines { requests, post: post.clone(), chores, keep };
    let node = services.sharing.as_ref().map_or(0, Sharing::node);
    let live = Live::new(&record, node, lines, till.clone(), gate, services.metrics.clone());
    tokio::spawn(recorder.run(services.ledger.clone()));
    let alone = match &services.sharing {
        None => Some(stage(&services, &live, record, None).await?),
        Some(_) => None,
    };
    tokio::spawn(clerk.run());
    tokio::spawn(chores::run(services.clone(), live.clone(), chores_due));
    tokio::spawn(keeper::run(services.clone(), live.clone(), kept));
    match (alone, &services.sharing) {
        (Some(stage), _) => {
            let desk = Desk::new(stage, live.clone(), services.clone(), till);
            tokio::spawn(Owner::new(desk, live.clone(), post).run(asked, posted));
        }
        (None, Some(sharing)) => {
            let (ready, settled) = oneshot::channel();
            let ways = shared::Ways { asked, posted, post, till };
            tokio::spawn(shared::run(services.clone(), sharing.clone(), live.clone(), ways, ready));
            // Who comes before it is known who owns the room would only have to wait for the answer.
            let _ = tokio::time::timeout(SETTLED_WITHIN, settled).await;
        }
        (None, None) => {}
    }
    services.metrics.live_started();
    tracing::info!(live = %live.id(), "live started");
    Ok(live)
}

/// The live as the ledger and the gate know it, going on with what an earlier owner has left, where rooms are shared.
pub(crate) async fn stage(
    services: &Services,
    live: &Live,
    record: LiveRecord,
    estate: Option<Estate>,
) -> Result<Stage, LedgerError> {
    let id = record.id.clone();
    let bag = services.catalogue.listed_in(&id).await?;
    let sales = services.ledger.sales(&id, now().wall - SHOW_CLOSED).await?;
    let orders = services.ledger.orders(&id, &[], MAX_ORDERS_SHOWN as u32).await?;
    let coupons = services.ledger.coupons(&id).await?;
    let coupons: Vec<_> = coupons.into_iter().map(|known| known.coupon).collect();
    let totals = services.ledger.totals(&id).await?;
    let notes = services.notebook.notes(&id).await?;

    if let Err(error) = live.gate().put_coupons(&coupons).await {
        tracing::warn!(live = %id, %error, "coupons wait for the gate");
        live.chore(Chore::Coupons);
    }
    let mut known = Vec::new();
    for sale in sales {
        match live.gate().put_sale(&sale.id, &sale.terms).await {
            Ok(applied) => known.push((sale, Some(applied))),
            Err(error) => {
                tracing::warn!(live = %id, sale = %sale.id, %error, "a sale waits for the gate");
                live.chore(Chore::Sale(Box::new(sale.clone())));
                known.push((sale, None));
            }
        }
    }
    // For what an earlier process may have left.
    live.chore(Chore::Orders);
    let mut rng = StdRng::from_rng(&mut rand::rng());
    let epoch = format!("{:016x}", rng.random::<u64>());
    let beginning = Beginning { record, bag, sales: known, coupons, orders, totals, notes, estate };
    // The clock is read after the gate's answers have come: an estimate of its clock may be late, never early.
    Ok(Stage::new(beginning, services.settings.clone(), epoch, rng, now()))
}

/// A live that nobody created: its first publisher's host token is the permission.
pub(crate) fn fresh(
    live: haul_model::LiveId,
    merchant: haul_model::MerchantId,
    created_at: UnixMillis,
) -> LiveRecord {
    LiveRecord { title: live.to_string(), id: live, merchant, public: false, created_at }
}
