//! The queue before the gate.
//!
//! Questions are gathered while earlier ones are under way, and go together: no timer, so that a lone buyer never waits
//! for company, and under load the gate is asked 64 things at a time.

use std::{sync::Arc, time::Instant};

use haul_commerce::{GateError, Op, Outcome};
use haul_model::SaleId;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    live::Post,
    metrics::Metrics,
    stage::{Input, Then},
    watch::Watch,
};

/// Questions in one call of the gate.
const MAX_BATCH: usize = 64;
/// Calls of the gate under way at once, a live. Two keep the gate busy while answers travel.
const MAX_IN_FLIGHT: usize = 2;
/// Questions waiting; more are refused as unavailable. A second of work for the slowest gate.
const MAX_WAITING: usize = 65_536;

/// Where questions for the gate are put.
#[derive(Debug, Clone)]
pub(crate) struct Till(mpsc::Sender<Ask>);

/// A question; no op is a sweep.
#[derive(Debug)]
struct Ask {
    sale: SaleId,
    op: Option<Op>,
    asker: Asker,
}

#[derive(Debug)]
enum Asker {
    /// The answer goes to the live's owner, with this.
    Stage(Then),
    /// Somebody waits for it.
    Waiter(oneshot::Sender<Result<Outcome, GateError>>),
}

/// The till's other end, to be run.
pub(crate) struct Clerk {
    asks: mpsc::Receiver<Ask>,
    gate: Watch,
    owner: mpsc::UnboundedSender<Post>,
    metrics: Metrics,
}

impl Till {
    pub(crate) fn new(gate: Watch, owner: mpsc::UnboundedSender<Post>, metrics: Metrics) -> (Self, Clerk) {
        let (till, asks) = mpsc::channel(MAX_WAITING);
        (Self(till), Clerk { asks, gate, owner, metrics })
    }

    /// Asks on behalf of the stage. Gives the question back where there is no room for it.
    pub(crate) fn put(&self, sale: SaleId, op: Option<Op>, then: Then) -> Result<(), (SaleId, Then)> {
        let ask = Ask { sale, op, asker: Asker::Stage(then) };
        self.0.try_send(ask).map_err(|error| {
            let Ask { sale, asker, .. } = error.into_inner();
            match asker {
                Asker::Stage(then) => (sale, then),
                Asker::Waiter(_) => (sale, Then::Nothing),
            }
        })
    }

    /// Asks and waits.
    pub(crate) async fn ask(&self, sale: SaleId, op: Op) -> Result<Outcome, GateError> {
        let (asker, answer) = oneshot::channel();
        let gone = || GateError::Unavailable("the live is closing".to_owned());
        let ask = Ask { sale, op: Some(op), asker: Asker::Waiter(asker) };
        self.0.send(ask).await.map_err(|_| gone())?;
        // Dropped after it was taken: it may have been carried out.
        answer.await.unwrap_or_else(|_| Err(GateError::Unknown("the live is closing".to_owned())))
    }
}

impl Clerk {
    /// Serves until the last till is gone.
    pub(crate) async fn run(mut self) {
        let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut asks = Vec::with_capacity(MAX_BATCH);
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            if self.asks.recv_many(&mut asks, MAX_BATCH).await == 0 {
                return;
            }
            let batch = std::mem::replace(&mut asks, Vec::with_capacity(MAX_BATCH));
            let call =
                Call { gate: self.gate.clone(), owner: self.owner.clone(), metrics: self.metrics.clone() };
            tokio::spawn(async move {
                for (sale, asks) in by_sale(batch) {
                    call.make(sale, asks).await;
                }
                drop(slot);
            });
        }
    }
}

/// The questions of each sale, in their order.
fn by_sale(asks: Vec<Ask>) -> Vec<(SaleId, Vec<Ask>)> {
    let mut sales: Vec<(SaleId, Vec<Ask>)> = Vec::new();
    for ask in asks {
        match sales.iter_mut().find(|(sale, _)| *sale == ask.sale) {
            Some((_, asks)) => asks.push(ask),
            None => sales.push((ask.sale.clone(), vec![ask])),
        }
    }
    sales
}

struct Call {
    gate: Watch,
    owner: mpsc::UnboundedSender<Post>,
    metrics: Metrics,
}

impl Call {
    async fn make(&self, sale: SaleId, asks: Vec<Ask>) {
        let (mut ops, mut askers) = (Vec::with_capacity(asks.len()), Vec::with_capacity(asks.len()));
        for Ask { op, asker, .. } in asks {
            // A sweep is what every call does anyway.
            if let Some(op) = op {
                ops.push(op);
                askers.push(asker);
            }
        }
        let started = Instant::now();
        let mut answer = self.gate.apply(&sale, &ops).await;
        self.metrics.gate_took(started.elapsed());
        match &answer {
            Ok(applied) => {
                for (op, outcome) in ops.iter().zip(&applied.outcomes) {
                    self.metrics.gate_answered(op, outcome);
                }
                self.metrics.holds_expired(applied.released.len());
            }
            Err(error) => {
                self.metrics.gate_failed();
                tracing::warn!(live = %self.gate.live().live, %sale, %error, "the gate gave no answer");
            }
        }
        // Whoever waits is told here; the stage gets the rest, with its outcomes in the same order.
        let mut then = Vec::with_capacity(askers.len());
        let mut outcomes = Vec::with_capacity(askers.len());
        for (index, asker) in askers.into_iter().enumerate() {
            let outcome = match &answer {
                Ok(applied) => applied.outcomes.get(index).cloned().ok_or_else(|| {
                    GateError::Corrupt("an answer with fewer outcomes than questions".to_owned())
                }),
                Err(error) => Err(error.clone()),
            };
            match asker {
                Asker::Stage(next) => {
                    then.push(next);
                    outcomes.extend(outcome);
                }
                Asker::Waiter(waiter) => drop(waiter.send(outcome)),
            }
        }
        if let Ok(applied) = &mut answer {
            applied.outcomes = outcomes;
        }
        let _ = self.owner.send(Input::Applied { sale, answer, then }.into());
    }
}
