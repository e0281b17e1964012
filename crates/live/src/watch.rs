//! The gate as one live sees it: with the memory of how far each sale had come, so that a gate which has lost something
//! is noticed, and with all that the gate says left to the recorder.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use haul_commerce::{
    Applied, Coupon, Gate, GateError, HoldNotes, Ledger, LedgerError, LiveRef, Mark, Op, Rebuild, SaleTerms,
    Standing,
    rebuild::{self, Rebuilt},
};
use haul_model::{BuyerId, HoldId, SaleId};

use crate::{metrics::Metrics, recorder::Recorder};

/// The gate, watched. Clones are the same.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Shared>);

struct Shared {
    gate: Arc<dyn Gate>,
    ledger: Arc<dyn Ledger>,
    live: LiveRef,
    recorder: Recorder,
    metrics: Metrics,
    /// A lock, since several calls are under way at once; held to read or raise a mark.
    seen: Mutex<HashMap<SaleId, Seen>>,
}

/// How far a sale was seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    mark: Mark,
    /// Over which connection to the gate. With a new one, the ledger is asked how far others have seen it: a gate that
    /// lost something could have come as far again by what it did for them.
    connection: u64,
}

impl Watch {
    pub(crate) fn new(
        gate: Arc<dyn Gate>,
        ledger: Arc<dyn Ledger>,
        live: LiveRef,
        recorder: Recorder,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Shared { gate, ledger, live, recorder, metrics, seen: Mutex::default() }))
    }

    pub(crate) fn live(&self) -> &LiveRef {
        &self.0.live
    }

    pub(crate) async fn put_sale(&self, sale: &SaleId, terms: &SaleTerms) -> Result<Applied, GateError> {
        let seen = self.seen(sale).await?;
        let applied = self.0.gate.put_sale(&self.0.live, sale, terms, seen).await?;
        self.saw(sale, &applied);
        Ok(applied)
    }

    /// Makes coupons of the live known.
    pub(crate) async fn put_coupons(&self, coupons: &[Coupon]) -> Result<(), GateError> {
        let terms: Vec<_> =
            coupons.iter().map(|coupon| (coupon.code.clone(), coupon.terms.clone())).collect();
        match terms.is_empty() {
            true => Ok(()),
            false => self.0.gate.put_coupons(&self.0.live, &terms).await,
        }
    }

    pub(crate) async fn apply(&self, sale: &SaleId, ops: &[Op]) -> Result<Applied, GateError> {
        let seen = self.seen(sale).await?;
        let applied = self.0.gate.apply(&self.0.live, sale, ops, seen).await?;
        self.saw(sale, &applied);
        Ok(applied)
    }

    pub(crate) async fn standing(&self, sale: &SaleId, buyer: &BuyerId) -> Result<Vec<Standing>, GateError> {
        let seen = self.seen(sale).await?;
        self.0.gate.standing(&self.0.live, sale, buyer, seen).await
    }

    /// The keys of a sale that the ledger knows.
    pub(crate) async fn hold_ids(&self, sale: &SaleId, limit: u32) -> Result<Vec<HoldId>, LedgerError> {
        self.0.ledger.hold_ids(&self.0.live.live, sale, limit).await
    }

    /// Waits until the ledger has all that the gate has said so far.
    pub(crate) async fn written(&self) -> Result<(), LedgerError> {
        self.0.recorder.flush().await
    }

    /// Rebuilds a sale that the gate has lost or is behind in, from what the ledger has of it. Gives the sale as it is
    /// then; nothing where another process has done it.
    pub(crate) async fn rebuild(&self, sale: &SaleId) -> Result<Option<Applied>, GateError> {
        let Shared { gate, ledger, live, recorder, metrics, .. } = &*self.0;
        let ledger_failed = |error: LedgerError| GateError::Unavailable(error.to_string());
        // Before the sale is emptied, so that a ledger which is down costs nothing.
        recorder.flush().await.map_err(ledger_failed)?;
        let seen = self.seen(sale).await?;
        let epoch = match gate.begin_rebuild(live, sale, seen).await? {
            Rebuild::NotNeeded => return Ok(None),
            Rebuild::Busy => {
                return Err(GateError::Unavailable(
                    "the sale is being rebuilt by another process".to_owned(),
                ));
            }
            Rebuild::Begun { epoch } => epoch,
        };
        // From here on the gate says nothing more; what it said a moment ago belongs to it.
        recorder.flush().await.map_err(ledger_failed)?;
        let recorded = ledger.recorded(&live.live, sale).await.map_err(ledger_failed)?;
        let Rebuilt { image, lost } = rebuild::rebuild(recorded, epoch, gate.now().await?);
        // Before anybody can see the new epoch: another process that finds it in the ledger must find there what it cost.
        let mark = Mark { epoch, sequence: 0 };
        let holds = image.holds.iter().map(|record| (mark, record.clone())).collect();
        let notes =
            HoldNotes { live: live.live.clone(), sale: sale.clone(), mark, clock: image.clock, holds };
        ledger.record_holds(&[notes]).await.map_err(ledger_failed)?;
        let mut applied = gate.rebuild(live, sale, &image).await?;
        tracing::warn!(
            live = %live.live, %sale, epoch, held = applied.counts.held, sold = applied.counts.sold,
            lost = lost.len(), "the gate had lost this sale; it was rebuilt from the ledger"
        );
        metrics.gate_rebuilt(lost.len());
        // All of them are written down as they are now, those that were lost too.
        applied.holds = image.holds;
        self.saw(sale, &applied);
        Ok(Some(applied))
    }

    async fn seen(&self, sale: &SaleId) -> Result<Mark, GateError> {
        let connection = self.0.gate.connection();
        let known = self.marks().get(sale).copied();
        if let Some(known) = known
            && known.connection == connection
        {
            return Ok(known.mark);
        }
        let written = match self.0.ledger.gate_mark(&self.0.live.live, sale).await {
            Ok(mark) => mark,
            Err(LedgerError::NotFound(_)) => Mark::default(),
            Err(error) => return Err(GateError::Unavailable(error.to_string())),
        };
        let mut marks = self.marks();
        let seen = marks.entry(sale.clone()).or_insert(Seen { mark: written, connection });
        *seen = Seen { mark: seen.mark.max(written), connection };
        Ok(seen.mark)
    }

    fn saw(&self, sale: &SaleId, applied: &Applied) {
        if let Some(seen) = self.marks().get_mut(sale) {
            seen.mark = seen.mark.max(applied.mark);
        }
        self.0.recorder.note(sale, applied);
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, HashMap<SaleId, Seen>> {
        // Marks only rise, whatever panicked while it was held.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
