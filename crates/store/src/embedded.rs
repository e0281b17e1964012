//! The gate in this process: the books of all sales in memory, and a journal of what changed.
//!
//! One thread owns books and journal. It takes the calls that have gathered since it last looked, carries them out,
//! writes what they changed as one group, syncs the file once, and only then answers. Nothing that anybody was told
//! can be lost by a crash, and no timer makes a call wait.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use haul_commerce::{
    Applied, BoxFuture, CouponTerms, Gate, GateError, Image, LiveRef, Mark, Op, Pace, Rebuild, SaleBook,
    SaleTerms, Standing,
    book::{Behind, HoldRecord, PutError},
    coupon::{Desk, Uses},
};
use haul_model::{BuyerId, CouponCode, Now, SaleId, UnixMillis};
use tokio::sync::{mpsc, oneshot};

use crate::{
    OpenError, REBUILD_PIECE, check_size,
    journal::{self, Books, CommitError, Group, Journal},
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

/// The gate in this process. Dropping it ends its thread and unlocks its directory.
pub struct EmbeddedGate {
    /// `None` only while being dropped: closing it ends the thread.
    calls: Option<mpsc::Sender<Call>>,
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

struct Call {
    live: LiveRef,
    sale: SaleId,
    ask: Ask,
}

enum Ask {
    Put(SaleTerms, Mark, Answer<Applied>),
    Apply(Vec<Op>, Mark, Answer<Applied>),
    Standing(BuyerId, Mark, Answer<Vec<Standing>>),
    BeginRebuild(Mark, Answer<Rebuild>),
    PutCoupons(Vec<(CouponCode, CouponTerms)>, Answer<()>),
    Rebuild(Box<Piece>, Answer<Applied>),
}

/// A part of a rebuild.
struct Piece {
    /// Without its holds.
    image: Image,
    holds: Vec<HoldRecord>,
    last: bool,
}

type Answer<T> = oneshot::Sender<Result<T, GateError>>;

impl Ask {
    fn refuse(self, error: GateError) {
        match self {
            Ask::Put(_, _, answer) | Ask::Apply(_, _, answer) | Ask::Rebuild(_, answer) => {
                send(answer, Err(error));
            }
            Ask::Standing(_, _, answer) => send(answer, Err(error)),
            Ask::BeginRebuild(_, answer) => send(answer, Err(error)),
            Ask::PutCoupons(_, answer) => send(answer, Err(error)),
        }
    }
}

/// An answer that waits for its group to be durable.
enum Pending {
    Applied(Answer<Applied>, Result<Applied, GateError>),
    Standing(Answer<Vec<Standing>>, Result<Vec<Standing>, GateError>),
    BeginRebuild(Answer<Rebuild>, Rebuild),
    PutCoupons(Answer<()>),
}

impl Pending {
    fn give(self) {
        match self {
            Pending::Applied(answer, result) => send(answer, result),
            Pending::Standing(answer, holds) => send(answer, holds),
            Pending::BeginRebuild(answer, rebuild) => send(answer, Ok(rebuild)),
            Pending::PutCoupons(answer) => send(answer, Ok(())),
        }
    }

    fn refuse(self, error: GateError) {
        match self {
            Pending::Applied(answer, _) => send(answer, Err(error)),
            Pending::Standing(answer, _) => send(answer, Err(error)),
            Pending::BeginRebuild(answer, _) => send(answer, Err(error)),
            Pending::PutCoupons(answer) => send(answer, Err(error)),
        }
    }
}

fn send<T>(answer: Answer<T>, result: Result<T, GateError>) {
    // Who asked may have gone away; what was decided stands, and the same question gets the same answer.
    let _ = answer.send(result);
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
            state: State::Open { journal, books },
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
        self.calls.as_ref().ok_or_else(gone)?.send(call).await.map_err(|_| gone())?;
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

/// The thread that owns the books.
struct Owner {
    dir: PathBuf,
    /// Held as long as the thread lives, against a second process.
    _lock: File,
    clock: Arc<WatchedClock>,
    latest: Arc<AtomicU64>,
    /// Not in the journal: what is used of them is, and their terms are told again by who keeps them.
    coupons: Coupons,
    state: State,
}

/// The coupons of each live.
type Coupons = HashMap<LiveRef, HashMap<CouponCode, CouponTerms>>;

enum State {
    Open {
        journal: Journal,
        /// What is durable, and what the present group adds.
        books: Books,
    },
    /// The journal failed and the books went with it, being ahead of what is durable.
    Failed { why: String, at: UnixMillis },
}

impl Owner {
    fn run(mut self, mut queue: mpsc::Receiver<Call>) {
        while let Some(call) = queue.blocking_recv() {
            self.reopen_if_due();
            match &mut self.state {
                State::Failed { why, .. } => call.ask.refuse(GateError::Unavailable(why.clone())),
                State::Open { journal, books } => {
                    let (group, pending) =
                        gather(call, &mut queue, books, &mut self.coupons, &self.clock, &self.latest);
                    let committed = if group.is_empty() { Ok(()) } else { journal.commit(&group) };
                    self.finish(committed, pending);
                }
            }
        }
    }

    fn finish(&mut self, committed: Result<(), CommitError>, pending: Vec<Pending>) {
        let error = match committed {
            Ok(()) => {
                pending.into_iter().for_each(Pending::give);
                // As late as anything was decided: a clock that has jumped must not make sales old.
                let now = UnixMillis(self.latest.load(Ordering::Relaxed));
                if let State::Open { journal, books } = &mut self.state
                    && let Err(error) = journal.compact_if_grown(books, now)
                {
                    self.fail(format!("compacting the journal: {error}"));
                }
                return;
            }
            Err(CommitError::Undone(error)) => {
                GateError::Unavailable(format!("writing the journal: {error}"))
            }
            Err(CommitError::Unclear(error)) => GateError::Unknown(format!("writing the journal: {error}")),
        };
        pending.into_iter().for_each(|answer| answer.refuse(error.clone()));
        self.fail(error.to_string());
    }

    fn fail(&mut self, why: String) {
        tracing::error!(why, "selling stops until the journal can be written again");
        self.state = State::Failed { why, at: (self.clock.clock)() };
    }

    /// After a failure, reads back what is durable and goes on from there.
    fn reopen_if_due(&mut self) {
        let now = (self.clock.clock)();
        match &self.state {
            // Away either way: the clock may have been set back.
            State::Failed { at, .. } if now.0.abs_diff(at.0) >= REOPEN_MS => {}
            _ => return,
        }
        self.state = match Journal::open(&self.dir) {
            Ok((journal, books, torn_bytes)) => {
                tracing::info!(torn_bytes, "the journal can be written again; selling goes on");
                State::Open { journal, books }
            }
            Err(error) => State::Failed { why: error.to_string(), at: now },
        };
    }
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

/// Carries out `first` and what else has gathered, as far as one group goes.
fn gather(
    first: Call,
    queue: &mut mpsc::Receiver<Call>,
    books: &mut Books,
    coupons: &mut Coupons,
    clock: &WatchedClock,
    latest: &AtomicU64,
) -> (Group, Vec<Pending>) {
    let (mut group, mut pending) = (Group::default(), Vec::new());
    let mut next = Some(first);
    while let Some(Call { live, sale, ask }) = next {
        let key = (live, sale);
        let now = match clock.read() {
            Ok(now) => now,
            Err(error) => {
                ask.refuse(error);
                next = queue.try_recv().ok();
                continue;
            }
        };
        pending.push(match ask {
            Ask::Put(terms, seen, answer) => Pending::Applied(answer, put(&key, &terms, seen, books, now)),
            Ask::Apply(ops, seen, answer) => {
                let known = coupons.get(&key.0).filter(|known| !known.is_empty());
                let applied = match (books.get_mut(&key), known) {
                    (Some(book), None) => book.apply(&ops, seen, now),
                    (Some(book), Some(known)) => {
                        // Out of the others for as long as they are asked what they use of a coupon.
                        let mut book = std::mem::take(book);
                        let desk = LiveDesk { known, live: &key.0, books };
                        let applied = book.apply_with(&ops, &desk, seen, now);
                        books.insert(key.clone(), book);
                        applied
                    }
                    // Asking for a sale that isn't there must not make it.
                    (None, _) => SaleBook::new().apply(&ops, seen, now),
                };
                Pending::Applied(answer, applied.map_err(stale))
            }
            Ask::Standing(buyer, seen, answer) => {
                let holds = match books.get(&key) {
                    Some(book) => book.standing(&buyer, seen, now),
                    None => SaleBook::new().standing(&buyer, seen, now),
                };
                Pending::Standing(answer, holds.map_err(stale))
            }
            Ask::PutCoupons(told, answer) => {
                let known = coupons.entry(key.0.clone()).or_default();
                for (code, terms) in told {
                    let terms =
                        known.get(&code).map_or_else(|| terms.clone(), |known| known.changed_to(&terms));
                    known.insert(code, terms);
                }
                Pending::PutCoupons(answer)
            }
            Ask::BeginRebuild(seen, answer) => {
                let book = books.entry(key.clone()).or_default();
                Pending::BeginRebuild(answer, book.begin_rebuild(seen, now))
            }
            Ask::Rebuild(piece, answer) => Pending::Applied(answer, rebuild(&key, &piece, books, now)),
        });
        if let Some(Pending::Applied(_, Ok(applied))) = pending.last() {
            latest.fetch_max(applied.now.0, Ordering::Relaxed);
        }
        if let Some(Pending::Applied(_, Ok(_)) | Pending::BeginRebuild(..)) = pending.last()
            && let Some(change) = books.get(&key).and_then(SaleBook::change)
        {
            group.push(&key.0, &key.1, change);
        }
        next = if group.is_full() || pending.len() >= MAX_QUEUE { None } else { queue.try_recv().ok() };
    }
    (group, pending)
}

/// What one sale's book is told of its live's coupons. Its own book is not among the others meanwhile.
struct LiveDesk<'a> {
    known: &'a HashMap<CouponCode, CouponTerms>,
    live: &'a LiveRef,
    books: &'a Books,
}

impl Desk for LiveDesk<'_> {
    fn terms(&self, code: &CouponCode) -> Option<&CouponTerms> {
        self.known.get(code)
    }

    fn elsewhere(&self, code: &CouponCode, buyer: &BuyerId) -> Uses {
        let books = self.books.iter().filter(|((live, _), _)| live == self.live);
        books.map(|(_, book)| book.coupon_uses(code, buyer)).fold(Uses::default(), |sum, uses| Uses {
            all: sum.all + uses.all,
            by_buyer: sum.by_buyer + uses.by_buyer,
        })
    }
}

fn put(
    key: &(LiveRef, SaleId),
    terms: &SaleTerms,
    seen: Mark,
    books: &mut Books,
    now: UnixMillis,
) -> Result<Applied, GateError> {
    match books.get_mut(key) {
        Some(book) => book.put_terms(terms, seen, now).map_err(not_put),
        None => {
            let mut book = SaleBook::new();
            let applied = book.put_terms(terms, seen, now).map_err(not_put)?;
            books.insert(key.clone(), book);
            Ok(applied)
        }
    }
}

fn rebuild(
    key: &(LiveRef, SaleId),
    piece: &Piece,
    books: &mut Books,
    now: UnixMillis,
) -> Result<Applied, GateError> {
    let Some(book) = books.get_mut(key) else { return Err(GateError::Stale { at: Mark::default() }) };
    book.rebuild(&piece.image, &piece.holds, piece.last, now).map_err(not_put)
}

fn stale(Behind(at): Behind) -> GateError {
    GateError::Stale { at }
}

fn not_put(error: PutError) -> GateError {
    match error {
        PutError::Behind(behind) => stale(behind),
        PutError::Terms(error) => GateError::Corrupt(format!("the sale's terms were not validated: {error}")),
    }
}
