//! The gate in this process: the books of all sales in memory, and a journal of what changed.
//!
//! One thread owns the books ([`owner`]): it carries out the calls that come, and gathers what they change. Another one writes
//! ([`writer`]): it writes what has gathered as one group, syncs the file once, and only then answers, while the first decides
//! what comes next. Nothing that anybody was told can be lost by a crash, and no timer makes a call wait.

mod calls;
mod owner;
mod writer;

use std::{
    fmt,
    fs::{self, File, TryLockError},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use haul_commerce::{
    Applied, BoxFuture, CouponTerms, Gate, GateError, Image, LiveRef, Mark, Op, Pace, Rebuild, SaleBook,
    SaleTerms, Standing, book::HoldRecord,
};
use haul_model::{BuyerId, CouponCode, Now, SaleId, UnixMillis};
use tokio::sync::{mpsc, oneshot};

use self::{
    calls::{Answer, Ask, Call, Piece},
    owner::{Coupons, Message, Owner, State},
    writer::Writer,
};
use crate::{
    OpenError, REBUILD_PIECE, check_size,
    journal::{self, Journal},
};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// The most calls that wait for the gate's thread. When it is full, callers wait to get in.
const MAX_QUEUE: usize = 4096;
/// How often, and how far apart, a lock that is held is tried: half a second in all.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// After the journal failed, it is opened again at most this often.
const REOPEN_MS: u64 = 1_000;

/// The gate in this process. Dropping it ends its threads and unlocks its directory.
pub struct EmbeddedGate {
    /// `None` only while being dropped: closing it ends the thread.
    calls: Option<mpsc::Sender<Message>>,
    thread: Option<thread::JoinHandle<()>>,
    clock: Arc<WatchedClock>,
    /// The latest time that any call decided at: [`Gate::now`] doesn't go back behind it.
    latest: Arc<AtomicU64>,
    recovery: Recovery,
}

/// What was found when the gate was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Sales in the journal.
    pub sales: usize,
    /// Bytes of a torn group, which nobody was told of, that were cut off.
    pub torn_bytes: u64,
}

impl fmt::Debug for EmbeddedGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedGate").field("recovery", &self.recovery).finish_non_exhaustive()
    }
}

impl EmbeddedGate {
    /// Opens the gate whose journal is in `dir`, or starts one there. `clock` tells the wall time; the gate sees to it
    /// that it doesn't go back, over restarts too.
    pub fn open(
        dir: impl AsRef<Path>,
        clock: impl Fn() -> UnixMillis + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        Self::start(dir.as_ref(), WatchedClock { clock: Arc::new(clock), pace: None })
    }

    /// The same with this machine's clock, which is watched: while it is ahead of what it can show, every call is refused
    /// as [`GateError::ClockJumped`].
    pub fn open_watched(
        dir: impl AsRef<Path>,
        clock: impl Fn() -> UnixMillis + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        Self::start(dir.as_ref(), WatchedClock { clock: Arc::new(clock), pace: Some(Mutex::default()) })
    }

    fn start(dir: &Path, clock: WatchedClock) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        // Otherwise the directory, if it is new, could be gone after a power failure with all that is in it.
        File::open(dir.join("..")).and_then(|parent| parent.sync_all()).map_err(failed)?;
        let lock = lock(dir)?;
        let (journal, mut books, torn_bytes) = Journal::open(dir)?;
        journal::forget_old_sales(&mut books, (clock.clock)());
        if torn_bytes > 0 {
            tracing::warn!(torn_bytes, "cut off the end of the journal, which was never acknowledged");
        }
        let recovery = Recovery { sales: books.len(), torn_bytes };
        let latest = books.values().map(SaleBook::clock).max().unwrap_or_default();
        let latest = Arc::new(AtomicU64::new(latest.0));
        let clock = Arc::new(clock);
        let (calls, queue) = mpsc::channel(MAX_QUEUE);
        let owner = Owner {
            dir: dir.to_owned(),
            _lock: lock,
            clock: clock.clone(),
            latest: latest.clone(),
            coupons: Coupons::new(),
            writer: Writer::start(calls.downgrade()).map_err(failed)?,
            state: State::open(journal, books),
        };
        let thread = thread::Builder::new()
            .name("haul-gate".to_owned())
            .spawn(move || owner.run(queue))
            .map_err(failed)?;
        Ok(Self { calls: Some(calls), thread: Some(thread), clock, latest, recovery })
    }

    /// What was found when the gate was opened.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    async fn call<T>(
        &self,
        live: &LiveRef,
        sale: &SaleId,
        ask: impl FnOnce(Answer<T>) -> Ask,
    ) -> Result<T, GateError> {
        let (answer, answered) = oneshot::channel();
        let call = Call { live: live.clone(), sale: sale.clone(), ask: ask(answer) };
        let gone = || GateError::Unavailable("the gate's thread has ended".to_owned());
        self.calls.as_ref().ok_or_else(gone)?.send(Message::Call(call)).await.map_err(|_| gone())?;
        // Taken in but never answered: the thread died on the way, and what is on disk decides.
        answered.await.unwrap_or_else(|_| Err(GateError::Unknown("the gate's thread has ended".to_owned())))
    }
}

impl Gate for EmbeddedGate {
    fn put_sale<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        terms: &'a SaleTerms,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(self.call(live, sale, move |answer| Ask::Put(terms.clone(), seen, answer)))
    }

    fn put_coupons<'a>(
        &'a self,
        live: &'a LiveRef,
        coupons: &'a [(CouponCode, CouponTerms)],
    ) -> BoxFuture<'a, Result<(), GateError>> {
        Box::pin(async move {
            // They are the live's, not a sale's: no sale is looked up for it.
            let none: SaleId = "-".parse().expect("a dash is an id");
            self.call(live, &none, |answer| Ask::PutCoupons(coupons.to_vec(), answer)).await
        })
    }

    fn apply<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        ops: &'a [Op],
        seen: Mark,
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(async move {
            check_size(ops)?;
            self.call(live, sale, |answer| Ask::Apply(ops.to_vec(), seen, answer)).await
        })
    }

    fn standing<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        buyer: &'a BuyerId,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Vec<Standing>, GateError>> {
        Box::pin(self.call(live, sale, move |answer| Ask::Standing(buyer.clone(), seen, answer)))
    }

    fn begin_rebuild<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Rebuild, GateError>> {
        Box::pin(self.call(live, sale, move |answer| Ask::BeginRebuild(seen, answer)))
    }

    fn rebuild<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        image: &'a Image,
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(async move {
            image.check()?;
            let (first, rest) = image.holds.split_at(image.holds.len().min(REBUILD_PIECE));
            let piece = |holds: &[HoldRecord], last| {
                let image = Image { holds: Vec::new(), terms: image.terms.clone(), ..*image };
                Box::new(Piece { image, holds: holds.to_vec(), last })
            };
            let (mut holds, mut rest) = (first, rest);
            loop {
                let piece = piece(holds, rest.is_empty());
                let applied = self.call(live, sale, |answer| Ask::Rebuild(piece, answer)).await?;
                if rest.is_empty() {
                    return Ok(applied);
                }
                (holds, rest) = rest.split_at(rest.len().min(REBUILD_PIECE));
            }
        })
    }

    fn now(&self) -> BoxFuture<'_, Result<UnixMillis, GateError>> {
        Box::pin(async move {
            let now = self.clock.read()?.0;
            Ok(UnixMillis(now.max(self.latest.fetch_max(now, Ordering::Relaxed))))
        })
    }
}

impl Drop for EmbeddedGate {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// Takes the directory's lock. One that is held is waited for a moment: a process that ends, or starts another one, may
/// hold it for some milliseconds more.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let failed = |source| OpenError::Io { path: path.clone(), source };
    let file = File::create(&path).map_err(failed)?;
    for attempt in 0..LOCK_ATTEMPTS {
        if attempt > 0 {
            thread::sleep(LOCK_PAUSE);
        }
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Err(OpenError::Locked(dir.to_owned()))
}

/// The clock, and whether it goes as time does.
struct WatchedClock {
    clock: Clock,
    /// `None` where it is not watched. A lock, since the gate's time is asked for outside of its thread, too; held for a
    /// look.
    pace: Option<Mutex<Pace>>,
}

impl WatchedClock {
    fn read(&self) -> Result<UnixMillis, GateError> {
        let wall = (self.clock)();
        if let Some(pace) = &self.pace {
            let now = Now { instant: Instant::now(), wall };
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.check(wall, now).map_err(|ahead_ms| GateError::ClockJumped { ahead_ms })?;
        }
        Ok(wall)
    }
}
