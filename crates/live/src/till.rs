//! The queue before the gate.
//!
//! Questions are gathered while earlier ones are under way, and go together: no timer, so that a lone buyer never waits
//! for company, and under load the gate is asked 64 things at a time. Who asks for what is sold out takes no place among
//! them ([`Gone`]): however many they are, one answer of the gate's is enough for all.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use haul_commerce::{
    Applied, GateError, Op, Outcome, Refusal,
    gone::{Gone, MAX_KEYS},
};
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
/// Questions that are looked at for one call: with those about what is sold out, so many can be answered by it.
const MAX_GATHERED: usize = 4_096;
/// Sales of which is remembered what is sold out. Of more, one is forgotten, and asked about as if nothing was.
const MAX_SALES_KNOWN: usize = 64;

/// Where questions for the gate are put.
#[derive(Debug, Clone)]
pub(crate) struct Till(mpsc::Sender<Ask>);

/// A question; no op is a sweep.
#[derive(Debug)]
struct Ask {
    sale: SaleId,
    op: Option<Op>,
    asker: Asker,
    /// Sold out, as far as is known: not asked of the gate if its next answer says so too.
    gone: bool,
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
    gone: SoldOut,
}

/// What is sold out, by sale.
///
/// A lock, since calls under way leave there what they were told; held to look at one batch.
#[derive(Debug, Clone, Default)]
struct SoldOut(Arc<Mutex<HashMap<SaleId, Gone>>>);

impl SoldOut {
    fn lock(&self) -> MutexGuard<'_, HashMap<SaleId, Gone>> {
        // What it says is checked against the gate's next answer, whatever panicked while it was held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Till {
    pub(crate) fn new(gate: Watch, owner: mpsc::UnboundedSender<Post>, metrics: Metrics) -> (Self, Clerk) {
        let (till, asks) = mpsc::channel(MAX_WAITING);
        (Self(till), Clerk { asks, gate, owner, metrics, gone: SoldOut::default() })
    }

    /// Asks on behalf of the stage. Gives the question back where there is no room for it.
    pub(crate) fn put(&self, sale: SaleId, op: Option<Op>, then: Then) -> Result<(), (SaleId, Then)> {
        let ask = Ask { sale, op, asker: Asker::Stage(then), gone: false };
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
        let ask = Ask { sale, op: Some(op), asker: Asker::Waiter(asker), gone: false };
        self.0.send(ask).await.map_err(|_| gone())?;
        // Dropped after it was taken: it may have been carried out.
        answer.await.unwrap_or_else(|_| Err(GateError::Unknown("the live is closing".to_owned())))
    }
}

impl Clerk {
    /// Serves until the last till is gone.
    pub(crate) async fn run(mut self) {
        let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let mut waiting = VecDeque::new();
        let mut asks = Vec::new();
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            if waiting.is_empty() && self.asks.recv_many(&mut asks, MAX_GATHERED).await == 0 {
                return;
            }
            waiting.extend(asks.drain(..));
            while waiting.len() < MAX_GATHERED
                && let Ok(ask) = self.asks.try_recv()
            {
                waiting.push_back(ask);
            }
            let batch = next_batch(&mut waiting, &self.gone);
            let call = Call {
                gate: self.gate.clone(),
                owner: self.owner.clone(),
                metrics: self.metrics.clone(),
                gone: self.gone.clone(),
            };
            tokio::spawn(async move {
                for (sale, asks) in by_sale(batch) {
                    call.make(sale, asks).await;
                }
                drop(slot);
            });
        }
    }
}

/// The next questions: as many for the gate as one call takes, and with them those about what is sold out.
fn next_batch(waiting: &mut VecDeque<Ask>, gone: &SoldOut) -> Vec<Ask> {
    let mut sales = gone.lock();
    let (mut batch, mut asked) = (Vec::with_capacity(MAX_BATCH), 0);
    while asked < MAX_BATCH
        && let Some(mut ask) = waiting.pop_front()
    {
        if let Some(op) = &ask.op {
            if !sales.contains_key(&ask.sale)
                && sales.len() >= MAX_SALES_KNOWN
                && let Some(other) = sales.keys().next().cloned()
            {
                sales.remove(&other);
            }
            let gone = sales.entry(ask.sale.clone()).or_default();
            ask.gone = gone.refuses(op);
            if !ask.gone {
                gone.forwarded(op);
            }
        }
        asked += usize::from(!ask.gone);
        batch.push(ask);
    }
    batch
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
    gone: SoldOut,
}

impl Call {
    async fn make(&self, sale: SaleId, asks: Vec<Ask>) {
        let (asked, gone): (Vec<Ask>, Vec<Ask>) = asks.into_iter().partition(|ask| !ask.gone);
        let reopened = self.ask(&sale, asked, gone).await;
        let mut reopened = reopened.into_iter().peekable();
        while reopened.peek().is_some() {
            self.ask(&sale, reopened.by_ref().take(MAX_BATCH).collect(), Vec::new()).await;
        }
    }

    /// Asks the gate, and refuses the others if it says that what they want is gone. Gives back those that it does not.
    async fn ask(&self, sale: &SaleId, asks: Vec<Ask>, gone: Vec<Ask>) -> Vec<Ask> {
        let (mut ops, mut askers) = (Vec::with_capacity(asks.len()), Vec::with_capacity(asks.len()));
        for Ask { op, asker, .. } in asks {
            // A sweep is what every call does anyway.
            if let Some(op) = op {
                ops.push(op);
                askers.push(asker);
            }
        }
        let started = Instant::now();
        let mut answer = self.gate.apply(sale, &ops).await;
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
        let mut reopened = Vec::new();
        // Whoever waits is told here; the stage gets the rest, with its outcomes in the same order.
        let mut then = Vec::with_capacity(askers.len() + gone.len());
        let mut outcomes = Vec::with_capacity(askers.len() + gone.len());
        let mut tell = |asker, outcome: Result<Outcome, GateError>| match asker {
            Asker::Stage(next) => {
                then.push(next);
                outcomes.extend(outcome);
            }
            Asker::Waiter(waiter) => drop(waiter.send(outcome)),
        };
        for (index, asker) in askers.into_iter().enumerate() {
            let outcome = match &answer {
                Ok(applied) => applied.outcomes.get(index).cloned().ok_or_else(|| {
                    GateError::Corrupt("an answer with fewer outcomes than questions".to_owned())
                }),
                Err(error) => Err(error.clone()),
            };
            tell(asker, outcome);
        }
        match &answer {
            Ok(applied) => {
                let (refused, others) = self.look(sale, &ops, applied, gone);
                reopened = others;
                self.metrics.refused_here(refused.len());
                refused.into_iter().for_each(|asker| tell(asker, Ok(Outcome::Refused(Refusal::SoldOut))));
            }
            Err(error) => gone.into_iter().for_each(|ask| tell(ask.asker, Err(error.clone()))),
        }
        if let Ok(applied) = &mut answer {
            applied.outcomes = outcomes;
        }
        let _ = self.owner.send(Input::Applied { sale: sale.clone(), answer, then }.into());
        reopened
    }

    /// Remembers what the gate has said, and finds who of those that asked for what was gone is refused by it. The others are
    /// to be asked about.
    fn look(&self, sale: &SaleId, ops: &[Op], applied: &Applied, asks: Vec<Ask>) -> (Vec<Asker>, Vec<Ask>) {
        let mut sales = self.gone.lock();
        let gone = sales.entry(sale.clone()).or_default();
        for (op, outcome) in ops.iter().zip(&applied.outcomes) {
            gone.answered(op, outcome);
        }
        gone.observe(applied);
        let (mut refused, mut others) = (Vec::new(), Vec::new());
        for mut ask in asks {
            match &ask.op {
                Some(op) if gone.refuses(op) => refused.push(ask.asker),
                Some(op) => {
                    gone.forwarded(op);
                    ask.gone = false;
                    others.push(ask);
                }
                None => {}
            }
        }
        if gone.wants_keys() {
            tokio::spawn(learn(self.gate.clone(), self.gone.clone(), sale.clone()));
        }
        (refused, others)
    }
}

/// Asks the ledger whose keys may have something of a sale.
async fn learn(gate: Watch, gone: SoldOut, sale: SaleId) {
    let keys = gate.hold_ids(&sale, MAX_KEYS as u32).await;
    if let Err(error) = &keys {
        tracing::warn!(live = %gate.live().live, %sale, %error, "what is sold out is asked of the gate all the same");
    }
    if let Some(gone) = gone.lock().get_mut(&sale) {
        gone.learn(keys.ok());
    }
}

#[cfg(test)]
mod tests {
    use haul_commerce::{Counts, Mark};
    use haul_model::{BuyerId, HoldId, UnixMillis};

    use super::*;

    fn sale() -> SaleId {
        "sale_1".parse().unwrap()
    }

    fn ask(key: &str) -> Ask {
        let (hold, buyer): (HoldId, BuyerId) = (key.parse().unwrap(), "ann".parse().unwrap());
        Ask {
            sale: sale(),
            op: Some(Op::hold(hold, buyer, 1)),
            asker: Asker::Stage(Then::Nothing),
            gone: false,
        }
    }

    fn sold_out() -> SoldOut {
        let sold_out = SoldOut::default();
        let mut gone = Gone::default();
        gone.observe(&Applied {
            now: UnixMillis(0),
            mark: Mark { epoch: 1, sequence: 9 },
            outcomes: Vec::new(),
            released: Vec::new(),
            offered: Vec::new(),
            holds: Vec::new(),
            counts: Counts { available: 0, held: 0, sold: 5 },
            lines: Vec::new(),
            next_deadline: None,
        });
        assert!(gone.wants_keys());
        gone.learn(Some(vec!["winner".parse().unwrap()]));
        sold_out.lock().insert(sale(), gone);
        sold_out
    }

    #[test]
    fn who_asks_for_what_is_sold_out_takes_no_place_in_a_batch() {
        let gone = sold_out();
        let mut waiting: VecDeque<Ask> = (0..1_000).map(|n| ask(&format!("key{n}"))).collect();
        waiting.push_back(ask("winner"));
        let batch = next_batch(&mut waiting, &gone);
        assert_eq!((batch.len(), waiting.len()), (1_001, 0));
        let asked: Vec<&Ask> = batch.iter().filter(|ask| !ask.gone).collect();
        assert_eq!(asked.len(), 1, "the winner's retry");
    }

    #[test]
    fn what_may_be_had_goes_to_the_gate_in_calls_of_bounded_size() {
        let gone = SoldOut::default();
        let mut waiting: VecDeque<Ask> = (0..100).map(|n| ask(&format!("key{n}"))).collect();
        let batch = next_batch(&mut waiting, &gone);
        assert_eq!((batch.len(), waiting.len()), (MAX_BATCH, 100 - MAX_BATCH));
        assert!(batch.iter().all(|ask| !ask.gone));
    }

    #[test]
    fn of_many_sales_some_are_forgotten() {
        let gone = SoldOut::default();
        for n in 0..3 * MAX_SALES_KNOWN {
            let mut asks = VecDeque::from([Ask { sale: format!("sale{n}").parse().unwrap(), ..ask("key") }]);
            next_batch(&mut asks, &gone);
        }
        assert!(gone.lock().len() <= MAX_SALES_KNOWN);
    }
}
