//! The thread that owns the books and decides.

use std::{
    collections::HashMap,
    fs::File,
    mem,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use haul_commerce::{
    Applied, CouponTerms, GateError, LiveRef, Mark, SaleBook, SaleTerms,
    book::{Behind, PutError},
    coupon::{Desk, Uses},
};
use haul_model::{BuyerId, CouponCode, SaleId, UnixMillis};
use tokio::sync::mpsc;

use super::{
    MAX_QUEUE, REOPEN_MS, WatchedClock,
    calls::{Ask, Call, Pending, Piece},
    writer::{Done, Work, Writer},
};
use crate::journal::{Books, Journal};

/// What wakes the owner.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are calls, and a box would cost each of them an allocation"
)]
pub(super) enum Message {
    /// Somebody asks something.
    Call(Call),
    /// The writer has done its work and waits for more.
    WriterIsIdle,
}

pub(super) struct Owner {
    pub(super) dir: PathBuf,
    /// Held as long as the thread lives, against a second process.
    pub(super) _lock: File,
    pub(super) clock: Arc<WatchedClock>,
    pub(super) latest: Arc<AtomicU64>,
    /// Not in the journal: what is used of them is, and their terms are told again by who keeps them.
    pub(super) coupons: Coupons,
    pub(super) writer: Writer,
    pub(super) state: State,
}

/// The coupons of each live.
pub(super) type Coupons = HashMap<LiveRef, HashMap<CouponCode, CouponTerms>>;

pub(super) enum State {
    Open {
        /// What is durable, what the writer is about to write, and what has gathered.
        books: Books,
        /// `None` while the writer has it.
        journal: Option<Journal>,
        /// What becomes durable next, and who waits for it.
        gathered: Work,
    },
    /// The journal failed and the books went with it, being ahead of what is durable.
    Failed { why: String, at: UnixMillis },
}

impl State {
    pub(super) fn open(journal: Journal, books: Books) -> Self {
        Self::Open { books, journal: Some(journal), gathered: Work::default() }
    }
}

impl Owner {
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(message) = queue.blocking_recv() {
            self.take(message);
            while self.has_room()
                && let Ok(message) = queue.try_recv()
            {
                self.take(message);
            }
            self.hand_over();
        }
        // The gate is being dropped: who has asked is answered all the same.
        self.await_writer();
        self.hand_over();
        self.await_writer();
    }

    fn take(&mut self, message: Message) {
        if let Some(done) = self.writer.done() {
            self.finish(done);
        }
        let Message::Call(call) = message else { return };
        self.reopen_if_due();
        match &mut self.state {
            State::Failed { why, .. } => call.ask.refuse(GateError::Unavailable(why.clone())),
            State::Open { books, gathered, .. } => {
                carry_out(call, books, gathered, &mut self.coupons, &self.clock, &self.latest);
            }
        }
    }

    fn has_room(&self) -> bool {
        match &self.state {
            State::Open { gathered, .. } => !gathered.group.is_full() && gathered.pending.len() < MAX_QUEUE,
            State::Failed { .. } => true,
        }
    }

    /// Gives what has gathered to the writer, if it has nothing to do or there is no room for more.
    fn hand_over(&mut self) {
        if !self.has_room() {
            self.await_writer();
        }
        if let State::Open { journal, gathered, .. } = &mut self.state
            && !gathered.pending.is_empty()
            && let Some(journal) = journal.take()
        {
            self.writer.write(journal, mem::take(gathered));
        }
    }

    fn await_writer(&mut self) {
        if let State::Open { journal: None, .. } = &self.state {
            let done = self.writer.await_done();
            self.finish(done);
        }
    }

    fn finish(&mut self, done: Done) {
        let State::Open { books, journal, gathered } = &mut self.state else { return };
        let mut written = match done {
            Ok(journal) => journal,
            Err(error) => {
                // What has gathered was decided on what has not been written.
                let refused = GateError::Unavailable(error.to_string());
                mem::take(gathered).refuse(&refused);
                return self.fail(error.to_string());
            }
        };
        // As late as anything was decided: a clock that has jumped must not make sales old.
        let now = UnixMillis(self.latest.load(Ordering::Relaxed));
        match written.compact_if_grown(books, now) {
            Ok(is_rewritten) => {
                *journal = Some(written);
                if is_rewritten {
                    // It has what has gathered, too.
                    mem::take(gathered).answer();
                }
            }
            Err(error) => {
                let why = format!("compacting the journal: {error}");
                mem::take(gathered).refuse(&GateError::Unknown(why.clone()));
                self.fail(why);
            }
        }
    }

    fn fail(&mut self, why: String) {
        tracing::error!(why, "selling stops until the journal can be written again");
        self.state = State::Failed { why, at: (self.clock.clock)() };
    }

    /// After a failure, reads back what is durable and goes on from there.
    fn reopen_if_due(&mut self) {
        let State::Failed { at, .. } = &self.state else { return };
        let now = (self.clock.clock)();
        // Away either way: the clock may have been set back.
        if now.0.abs_diff(at.0) < REOPEN_MS {
            return;
        }
        self.state = match Journal::open(&self.dir) {
            Ok((journal, books, torn_bytes)) => {
                tracing::info!(torn_bytes, "the journal can be written again; selling goes on");
                State::open(journal, books)
            }
            Err(error) => State::Failed { why: error.to_string(), at: now },
        };
    }
}

/// Carries out one call. Its answer waits with what it changed.
fn carry_out(
    Call { live, sale, ask }: Call,
    books: &mut Books,
    gathered: &mut Work,
    coupons: &mut Coupons,
    clock: &WatchedClock,
    latest: &AtomicU64,
) {
    let key = (live, sale);
    let now = match clock.read() {
        Ok(now) => now,
        Err(error) => return ask.refuse(error),
    };
    let pending = match ask {
        Ask::Put(terms, seen, answer) => Pending::Applied(answer, put(&key, &terms, seen, books, now)),
        Ask::Apply(ops, seen, answer) => {
            let known = coupons.get(&key.0).filter(|known| !known.is_empty());
            let applied = match (books.get_mut(&key), known) {
                (Some(book), None) => book.apply(&ops, seen, now),
                (Some(book), Some(known)) => {
                    // Out of the others for as long as they are asked what they use of a coupon.
                    let mut book = mem::take(book);
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
                let terms = known.get(&code).map_or_else(|| terms.clone(), |known| known.changed_to(&terms));
                known.insert(code, terms);
            }
            Pending::PutCoupons(answer)
        }
        Ask::BeginRebuild(seen, answer) => {
            let book = books.entry(key.clone()).or_default();
            Pending::BeginRebuild(answer, book.begin_rebuild(seen, now))
        }
        Ask::Rebuild(piece, answer) => Pending::Applied(answer, rebuild(&key, &piece, books, now)),
    };
    if let Pending::Applied(_, Ok(applied)) = &pending {
        latest.fetch_max(applied.now.0, Ordering::Relaxed);
    }
    if let Pending::Applied(_, Ok(_)) | Pending::BeginRebuild(..) = &pending
        && let Some(change) = books.get(&key).and_then(SaleBook::change)
    {
        gathered.group.push(&key.0, &key.1, &change);
    }
    gathered.pending.push(pending);
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use haul_commerce::Op;
    use tokio::sync::oneshot;

    use super::*;
    use crate::journal::read_journal;

    type Answered = oneshot::Receiver<Result<Applied, GateError>>;

    struct Dir(PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// An owner that nothing wakes: each step is the test's.
    fn owner(name: &str) -> (Owner, Dir) {
        let dir = Dir(std::env::temp_dir().join(format!("haul-owner-{name}-{}", std::process::id())));
        fs::create_dir_all(&dir.0).unwrap();
        let (calls, _) = mpsc::channel(1);
        let (journal, books, _) = Journal::open(&dir.0).unwrap();
        let clock = WatchedClock { clock: Arc::new(|| UnixMillis(5)), pace: None };
        let owner = Owner {
            dir: dir.0.clone(),
            _lock: File::create(dir.0.join("lock")).unwrap(),
            clock: Arc::new(clock),
            latest: Arc::default(),
            coupons: Coupons::new(),
            writer: Writer::start(calls.downgrade()).unwrap(),
            state: State::open(journal, books),
        };
        (owner, dir)
    }

    impl Owner {
        fn journal(&mut self) -> &mut Journal {
            match &mut self.state {
                State::Open { journal: Some(journal), .. } => journal,
                _ => panic!("the writer has it"),
            }
        }

        fn ask(&mut self, ask: impl FnOnce(oneshot::Sender<Result<Applied, GateError>>) -> Ask) -> Answered {
            let (live, sale) = key();
            let (answer, answered) = oneshot::channel();
            self.take(Message::Call(Call { live, sale, ask: ask(answer) }));
            answered
        }

        fn put(&mut self) -> Answered {
            let terms = SaleTerms {
                stock: 10,
                per_buyer: 10,
                hold_ms: 1_000,
                pay_ms: 1_000,
                opens_at: UnixMillis(1),
                closes_at: UnixMillis(1_000),
                ..SaleTerms::default()
            };
            self.ask(|answer| Ask::Put(terms, Mark::default(), answer))
        }

        fn hold(&mut self, hold: &str) -> Answered {
            let ops = vec![Op::hold(hold.parse().unwrap(), "ann".parse().unwrap(), 1)];
            self.ask(|answer| Ask::Apply(ops, Mark::default(), answer))
        }
    }

    fn key() -> (LiveRef, SaleId) {
        let live = LiveRef { merchant: "main".parse().unwrap(), live: "demo".parse().unwrap() };
        (live, "sale_1".parse().unwrap())
    }

    fn held(dir: &Path) -> u32 {
        read_journal(dir).unwrap()[&key()].counts().held
    }

    #[test]
    fn what_is_decided_while_a_group_is_written_waits_for_the_next() {
        let (mut owner, dir) = owner("next");
        let mut put = owner.put();
        owner.hand_over();
        let mut first = owner.hold("h1");
        owner.hand_over();
        assert!(first.try_recv().is_err(), "the writer has the journal, or had it and was not asked");
        owner.await_writer();
        assert!(put.try_recv().unwrap().is_ok());
        assert!(first.try_recv().is_err(), "it is not durable yet");
        assert_eq!(held(&dir.0), 0);
        owner.hand_over();
        owner.await_writer();
        assert_eq!(first.try_recv().unwrap().unwrap().counts.held, 1);
        assert_eq!(held(&dir.0), 1);
    }

    #[test]
    fn a_snapshot_makes_durable_what_has_gathered_meanwhile() {
        let (mut owner, dir) = owner("snapshot");
        owner.put();
        owner.journal().let_it_be_grown();
        owner.hand_over();
        let mut hold = owner.hold("h1");
        owner.await_writer();
        assert_eq!(hold.try_recv().unwrap().unwrap().counts.held, 1);
        assert_eq!(held(&dir.0), 1);
        // It is not written a second time, and the next fits behind.
        owner.hold("h2");
        owner.hand_over();
        owner.await_writer();
        assert_eq!(held(&dir.0), 2);
    }

    #[test]
    fn what_was_decided_on_a_group_that_failed_is_refused_with_it() {
        let (mut owner, dir) = owner("failed");
        owner.put();
        owner.hand_over();
        owner.await_writer();
        owner.journal().let_it_fail();
        let mut first = owner.hold("h1");
        owner.hand_over();
        let mut second = owner.hold("h2");
        owner.await_writer();
        let first = first.try_recv().unwrap();
        assert!(matches!(first, Err(GateError::Unknown(_))), "{first:?}");
        let second = second.try_recv().unwrap();
        assert!(matches!(second, Err(GateError::Unavailable(_))), "{second:?}");
        assert_eq!(held(&dir.0), 0);
    }
}
