//! `haul reconcile`: what gate, ledger and providers say about a live, side by side. Changes nothing.

use std::io::Write;

use anyhow::{Context, bail};
use haul_commerce::{
    Ledger, LiveRef, Recorded, Refunds, SaleMove,
    reconcile::{self, Difference, Held, reconcile},
};
use haul_model::{LiveId, SaleId, UnixMillis};
use haul_store::{Books, RedisGate, SqlLedger};

use crate::config::{Config, GateUrl};

/// Where the gate's side is read.
enum Source {
    Journal(Books),
    Redis(Box<RedisGate>),
}

impl Source {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        Ok(match &config.store.gate_url {
            GateUrl::Embedded => Self::Journal(haul_store::read_journal(&config.data_dir.join("gate"))?),
            GateUrl::Redis(url) => Self::Redis(Box::new(RedisGate::connect(url.expose()).await?)),
        })
    }

    async fn look(&self, live: &LiveRef, sale: &SaleId) -> anyhow::Result<Option<Held>> {
        Ok(match self {
            Self::Redis(gate) => gate.image(live, sale).await?,
            Self::Journal(books) => books.get(&(live.clone(), sale.clone())).map(|book| Held {
                mark: book.mark(),
                terms: book.terms().map(SaleMove::all_of).unwrap_or_default(),
                lines: book.lines(),
                holds: book.snapshot().flat_map(|piece| piece.holds).cloned().collect(),
            }),
        })
    }
}

async fn compare(
    config: &Config,
    ledger: &SqlLedger,
    live: &LiveRef,
    sale: &SaleId,
) -> anyhow::Result<(Vec<Difference>, Recorded)> {
    // The ledger first: what the gate says after it can only be further on.
    let recorded = Ledger::recorded(ledger, &live.live, sale).await?;
    let callbacks = Ledger::callbacks(ledger, &live.live).await?;
    let gate = Source::open(config).await?;
    let held = gate.look(live, sale).await.context("the gate")?;
    Ok((reconcile(&recorded, &callbacks, held.as_ref(), haul_live::now().wall), recorded))
}

/// Prints every difference, and gives how many there are.
pub(crate) async fn run(config: &Config, live: &LiveId) -> anyhow::Result<usize> {
    let ledger = SqlLedger::open(config.ledger_url().expose()).await?;
    let Some(record) = Ledger::live(&ledger, live).await? else { bail!("there is no live {live}") };
    let reference = LiveRef { merchant: record.merchant, live: live.clone() };
    let sales = Ledger::sales(&ledger, live, UnixMillis(0)).await?;
    let mut out = std::io::stdout().lock();
    let mut differences = 0;
    let mut orders = Vec::new();
    for sale in &sales {
        let (mut found, mut recorded) = compare(config, &ledger, &reference, &sale.id).await?;
        // A sale may be changed between a look at the ledger and one at the gate, but not each time.
        if found.iter().any(|difference| matches!(difference, Difference::Terms { .. })) {
            (found, recorded) = compare(config, &ledger, &reference, &sale.id).await?;
        }
        for difference in &found {
            writeln!(out, "{}: {difference}", sale.id)?;
        }
        differences += found.len();
        orders.extend(recorded.orders);
    }
    // After the orders, as what they say of refunds is written with them.
    let callbacks = Ledger::callbacks(&ledger, live).await?;
    let refunds = ledger.refunds_of_live(live).await?;
    for difference in reconcile::refunds(&orders, &callbacks, &refunds, haul_live::now().wall) {
        writeln!(out, "{difference}")?;
        differences += 1;
    }
    for difference in reconcile::coupons(&Ledger::coupons(&ledger, live).await?) {
        writeln!(out, "{difference}")?;
        differences += 1;
    }
    writeln!(out, "{live}: {} sales, {differences} differences", sales.len())?;
    Ok(differences)
}
