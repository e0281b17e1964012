//! All lives of this process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use haul_commerce::{
    Gate, Ledger, LedgerError, LiveRecord, LiveRef, Notebook, PaymentProvider, Refunds, listing::Catalogue,
};
use haul_model::{BuyerId, LiveId, MerchantId};
use tokio::sync::OnceCell;

use crate::{
    Live, Metrics, Settings, Sharing, begin,
    money::Money,
    now,
    settle::{Settling, Unsettled},
};

/// Lives that this process owns at once; further ones are refused. Each costs two tasks and some kilobytes.
const MAX_LIVES: usize = 10_000;
/// How long the end of the process waits for a ledger that does not take a room's notes.
const NOTES_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);
/// How often it is looked for lives that another server has left in the midst of something.
const TAKE_UP_EVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// Lives that are read at once where all of a merchant's are gone through.
const LIVES_AT_ONCE: u32 = 200;
/// How long who erases somebody waits for rooms; then they are told to ask again. Longer than a dead owner's lease, and shorter than
/// a request may take.
const FORGOTTEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(12);
/// Rooms that are asked side by side to forget somebody.
const ROOMS_AT_ONCE: usize = 16;
/// Lives whose owners begin with the process because something in them is unfinished.
const MAX_RESUMED: u32 = 5_000;

/// What lives are built on. Which gate, ledger and provider these are is the binary's choice.
#[derive(Clone)]
pub struct Services {
    /// Stock and holds.
    pub gate: Arc<dyn Gate>,
    /// Lives, products, sales, orders.
    pub ledger: Arc<dyn Ledger>,
    /// What bags' products are called, in which languages.
    pub catalogue: Arc<dyn Catalogue>,
    /// What rooms remember from one start to the next.
    pub notebook: Arc<dyn Notebook>,
    /// Money that goes back.
    pub refunds: Arc<dyn Refunds>,
    /// Payments.
    pub provider: Arc<dyn PaymentProvider>,
    /// Where several servers share their rooms: over what, and as which of them.
    pub sharing: Option<Sharing>,
    /// What the operator decides for all lives.
    pub settings: Settings,
    /// What is counted.
    pub metrics: Metrics,
}

/// Why there is no live to be had.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Nobody created it. (404, or 409 for those who wait for its host)
    #[error("there is no live of that id")]
    Unknown,
    /// It is another merchant's. (403)
    #[error("this live belongs to another merchant")]
    Foreign,
    /// This process owns as many lives as it may. (503)
    #[error("this server has no room for another live")]
    Full,
    /// The ledger could not be asked. (503)
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Finds and starts lives. Clones are the same.
#[derive(Clone)]
pub struct Lives(Arc<Shared>);

struct Shared {
    services: Services,
    /// A lock, since any request may be a live's first; held for a look-up. The cell lets the first one start the live
    /// and the others wait.
    lives: Mutex<HashMap<LiveId, Arc<OnceCell<Live>>>>,
    unsettled: Unsettled,
    settling: Settling,
    money: Money,
}

impl Lives {
    /// No live yet.
    pub fn new(services: Services) -> Self {
        Self(Arc::new(Shared {
            services,
            lives: Mutex::default(),
            unsettled: Unsettled::default(),
            settling: Settling::default(),
            money: Money::default(),
        }))
    }

    /// What they are built on.
    pub fn services(&self) -> &Services {
        &self.0.services
    }

    pub(crate) fn unsettled(&self) -> &Unsettled {
        &self.0.unsettled
    }

    pub(crate) fn money(&self) -> &Money {
        &self.0.money
    }

    pub(crate) fn settling(&self) -> &Settling {
        &self.0.settling
    }

    /// The live, started if it is known and was not running.
    pub async fn get(&self, id: &LiveId) -> Result<Live, LiveError> {
        self.find(id, async { self.0.services.ledger.live(id).await?.ok_or(LiveError::Unknown) }).await
    }

    /// The live, created for this merchant if nobody did before.
    pub async fn ensure(&self, id: &LiveId, merchant: &MerchantId) -> Result<Live, LiveError> {
        let live = self
            .find(id, async {
                let fresh = begin::fresh(id.clone(), merchant.clone(), now().wall);
                match self.0.services.ledger.ensure_live(&fresh).await {
                    Ok(record) => Ok(record),
                    Err(LedgerError::Conflict(_)) => Err(LiveError::Foreign),
                    Err(error) => Err(error.into()),
                }
            })
            .await?;
        if live.merchant() != merchant {
            return Err(LiveError::Foreign);
        }
        Ok(live)
    }

    /// Those of a merchant's lives that run in this process.
    pub fn of_merchant(&self, merchant: &MerchantId) -> Vec<Live> {
        let mut running = self.running();
        running.retain(|live| live.merchant() == merchant);
        running
    }

    /// Forgets what rooms keep of somebody: those that run here, those that have written something of theirs, and, where
    /// servers share rooms, those that run elsewhere or that nobody is in any more.
    pub async fn forget_person(
        &self,
        merchant: &MerchantId,
        buyer: &BuyerId,
        rooms: impl IntoIterator<Item = LiveId>,
    ) -> Result<(), LiveError> {
        let mut rooms: BTreeSet<LiveId> = rooms.into_iter().collect();
        rooms.extend(self.of_merchant(merchant).iter().map(|live| live.id().clone()));
        if let Services { sharing: Some(sharing), ledger, .. } = &self.0.services {
            let mut after = None;
            loop {
                let lives = ledger.lives(merchant, after.as_ref(), LIVES_AT_ONCE).await?;
                let Some(last) = lives.last() else { break };
                after = Some((last.created_at, last.id.clone()));
                for LiveRecord { id: live, merchant, .. } in lives {
                    let known = sharing.knows(&LiveRef { merchant, live: live.clone() }).await;
                    if known.map_err(|error| LedgerError::Unavailable(error.to_string()))? {
                        rooms.insert(live);
                    }
                }
            }
        }
        let rooms = stream::iter(rooms).map(Ok::<_, LiveError>);
        let forgetting = rooms.try_for_each_concurrent(ROOMS_AT_ONCE, |live| async move {
            self.get(&live).await?.forget_person(buyer).await;
            Ok(())
        });
        tokio::time::timeout(FORGOTTEN_WITHIN, forgetting)
            .await
            .map_err(|_| LedgerError::Unavailable("a room has not answered in time".to_owned()))?
    }

    /// Starts the lives in which an earlier process may have left something unfinished, so that holds expire and orders
    /// close although nobody connects.
    pub async fn resume(&self) -> Result<(), LiveError> {
        for record in self.0.services.ledger.unsettled_lives(now().wall, MAX_RESUMED).await? {
            self.get(&record.id).await?;
        }
        Ok(())
    }

    /// The same now and then: another server may have ended in the midst of something, in a live that nobody comes to here.
    /// Runs until the process ends. Where each server has a room of its own, a live is left to who comes to it: begun too early,
    /// the room would not hear of what begins elsewhere.
    pub async fn take_up(self) {
        while self.0.services.sharing.is_some() {
            tokio::time::sleep(TAKE_UP_EVERY).await;
            if let Err(error) = self.resume().await {
                tracing::warn!(%error, "lives that are under way could not be looked for");
            }
        }
    }

    /// Tells everybody in every live that the server is going away. Each live's readers are asked to come back at
    /// slightly different times.
    pub fn drain(&self) {
        for (index, live) in self.running().into_iter().enumerate() {
            live.drain(1_000 + (index as u64 * 137) % 2_000);
        }
    }

    /// Waits until all that the gate has said and the rooms have noted is written down; for the end of the process.
    pub async fn written(&self) {
        for live in self.running() {
            if let Err(error) = live.gate().written().await {
                tracing::warn!(live = %live.id(), %error, "the gate's last words are not written down");
            }
            // Whoever has the room next reads the notes first.
            let _ = tokio::time::timeout(NOTES_WITHIN, live.kept()).await;
            if tokio::time::timeout(NOTES_WITHIN, live.handed_over()).await.is_err() {
                tracing::warn!(live = %live.id(), "the room is not handed over: another server takes it in time");
            }
            if tokio::time::timeout(NOTES_WITHIN, live.kept()).await.is_err() {
                tracing::warn!(live = %live.id(), "the room's last notes are not written down");
            }
        }
    }

    async fn find(
        &self,
        id: &LiveId,
        record: impl Future<Output = Result<LiveRecord, LiveError>>,
    ) -> Result<Live, LiveError> {
        let cell = self.cell(id)?;
        let started = cell
            .get_or_try_init(|| async {
                let record = record.await?;
                Ok(begin::begin(self.0.services.clone(), record).await?)
            })
            .await
            .cloned();
        if started.is_err() {
            // Nothing is kept of a live that is not: ids are the caller's, and anybody may make them up.
            let mut lives = self.lock();
            if lives.get(id).is_some_and(|kept| Arc::ptr_eq(kept, &cell) && !kept.initialized()) {
                lives.remove(id);
            }
        }
        started
    }

    fn cell(&self, id: &LiveId) -> Result<Arc<OnceCell<Live>>, LiveError> {
        let mut lives = self.lock();
        if let Some(cell) = lives.get(id)
            && !cell.get().is_some_and(Live::is_over)
        {
            return Ok(cell.clone());
        }
        if lives.len() >= MAX_LIVES {
            return Err(LiveError::Full);
        }
        let cell = Arc::<OnceCell<Live>>::default();
        lives.insert(id.clone(), cell.clone());
        Ok(cell)
    }

    fn running(&self) -> Vec<Live> {
        self.lock().values().filter_map(|cell| cell.get().cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LiveId, Arc<OnceCell<Live>>>> {
        // A map of handles is whole whatever panicked while it was held.
        self.0.lives.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
