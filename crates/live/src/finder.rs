//! Finds what those who come in hold and have bought. Thousands may come in a moment: whoever comes while others are being
//! looked up is looked up with all who came meanwhile, with one question to the ledger.

use std::sync::Arc;

use haul_commerce::ledger::{Bought, MAX_BUYERS};
use haul_model::{BuyerId, SaleId};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Live, Services,
    stage::{Input, MemberId, Personal},
};

/// Orders of their own that a buyer is shown.
const MAX_OWN_ORDERS: u32 = 20;

/// Where those who came in are looked up, until it is dropped.
pub(crate) struct Finder(mpsc::UnboundedSender<Wanted>);

struct Wanted {
    member: MemberId,
    buyer: BuyerId,
    /// The sales on stage when they came.
    sales: Arc<[SaleId]>,
}

impl Finder {
    pub(crate) fn new(services: Services, live: Live) -> Self {
        let (wanted, asked) = mpsc::unbounded_channel();
        tokio::spawn(run(services, live, asked));
        Self(wanted)
    }

    /// Looks somebody up; the answer is an [`Input::Found`]. There are as many questions as there are members, so they need
    /// no bound of their own.
    pub(crate) fn find(&self, member: MemberId, buyer: BuyerId, sales: Arc<[SaleId]>) {
        let _ = self.0.send(Wanted { member, buyer, sales });
    }
}

async fn run(services: Services, live: Live, mut asked: mpsc::UnboundedReceiver<Wanted>) {
    let mut together = Vec::with_capacity(MAX_BUYERS);
    while asked.recv_many(&mut together, MAX_BUYERS).await > 0 {
        let buyers: Vec<BuyerId> = together.iter().map(|wanted| wanted.buyer.clone()).collect();
        let mut holds = JoinSet::new();
        for (index, Wanted { buyer, sales, .. }) in together.iter().enumerate() {
            if !sales.is_empty() {
                let (live, buyer, sales) = (live.clone(), buyer.clone(), sales.clone());
                holds.spawn(async move { (index, standing(&live, &buyer, &sales).await) });
            }
        }
        let bought = match services.ledger.bought(live.gate().live(), &buyers, MAX_OWN_ORDERS).await {
            Ok(bought) => bought,
            Err(error) => {
                tracing::warn!(live = %live.id(), %error, "what buyers have bought could not be found");
                vec![Bought::default(); buyers.len()]
            }
        };
        let mut found: Vec<Personal> = bought
            .into_iter()
            .map(|Bought { orders, kept }| Personal { holds: Vec::new(), orders, bought: kept })
            .collect();
        while let Some(Ok((index, holds))) = holds.join_next().await {
            found[index].holds = holds;
        }
        for (Wanted { member, .. }, personal) in together.drain(..).zip(found) {
            live.input(Input::Found { member, personal });
        }
    }
}

/// What somebody holds in these sales.
async fn standing(live: &Live, buyer: &BuyerId, sales: &[SaleId]) -> Vec<(SaleId, haul_commerce::Standing)> {
    let mut holds = Vec::new();
    for sale in sales {
        match live.gate().standing(sale, buyer).await {
            Ok(standing) => holds.extend(standing.into_iter().map(|hold| (sale.clone(), hold))),
            Err(error) => {
                tracing::warn!(live = %live.id(), %error, "a buyer's holds could not be found");
                break;
            }
        }
    }
    holds
}
