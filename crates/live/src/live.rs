//! The handle to a live's owner.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use haul_commerce::{GateError, LiveRecord, Op, Order, Outcome, Standing, listing::Listing};
use haul_media::Relay;
use haul_model::{BuyerId, LiveId, Locale, MerchantId, SaleId, Viewer};
use haul_room::{Note, Piece, words::compared};
use haul_wire::{HoldView, LiveState, Position, Request, SaleView, crowd::Reaction};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{
    chores::Chore,
    connection::{Connection, Outlet},
    keeper::Keep,
    likes::Likes,
    metrics::Metrics,
    requests::Asking,
    stage::{Input, MEMBER_BITS, MemberId, hold_view},
    till::Till,
    watch::Watch,
};

/// How long a visitor waits for an answer; the stores have shorter patience.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(15);

/// What an owner is asked.
pub(crate) enum Command {
    Request { member: MemberId, id: u64, request: Box<Request> },
    Look(oneshot::Sender<Look>),
}

/// What reaches an owner without waiting: arrivals, departures, and answers to its own questions. There are as many as
/// there are members and questions, so they need no bound of their own; and because they keep their order, nobody
/// leaves before they have come.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are inputs, and a box each would cost more than the room"
)]
pub(crate) enum Post {
    /// Somebody said hello.
    Join {
        member: MemberId,
        id: u64,
        viewer: Option<Viewer>,
        locale: Option<Locale>,
        resume: Option<Position>,
        outlet: Arc<Outlet>,
    },
    /// Somebody asks one thing and goes.
    Visit { member: MemberId, viewer: Viewer, outlet: Arc<Outlet> },
    /// There are likes to be fetched.
    Liked,
    /// Somebody is to be forgotten; `done` when that outlives this process.
    Forget { buyer: BuyerId, done: oneshot::Sender<()> },
    /// The process ends: let another server have the room, and say when it may.
    HandOver(oneshot::Sender<()>),
    /// Anything else that happened.
    Input(Input),
}

impl From<Input> for Post {
    fn from(input: Input) -> Self {
        Post::Input(input)
    }
}

/// A live's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// What viewers read above the picture.
    pub title: String,
    /// Members who are not host or moderator.
    pub viewers: u64,
    /// Whether the host is sending.
    pub state: LiveState,
    /// Sales on stage.
    pub sales: Vec<SaleView>,
}

/// The ways to an owner and to who looks after what it leaves.
#[derive(Clone)]
pub(crate) struct Lines {
    pub(crate) requests: Asking,
    pub(crate) post: mpsc::UnboundedSender<Post>,
    pub(crate) chores: mpsc::UnboundedSender<Chore>,
    pub(crate) keep: mpsc::UnboundedSender<Keep>,
}

/// A live in this process. Clones are the same live.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    id: LiveId,
    merchant: MerchantId,
    /// Asked by every viewer who comes without a token: not worth a question to the owner.
    public: AtomicBool,
    relay: Arc<Relay>,
    requests: Asking,
    likes: Likes,
    post: mpsc::UnboundedSender<Post>,
    chores: mpsc::UnboundedSender<Chore>,
    keep: mpsc::UnboundedSender<Keep>,
    till: Till,
    gate: Watch,
    metrics: Metrics,
    /// What is written to enter the giveaway. A lock, since every connection's chat line is compared with it and it changes
    /// twice a giveaway; held for the comparison.
    entering: RwLock<Option<String>>,
    next_member: AtomicU64,
    /// Held from before a sale is written down until the stage has heard of it.
    sales: tokio::sync::Mutex<()>,
}

impl Live {
    /// `node`: which of the servers that share the room this is; 0 where it is not shared.
    pub(crate) fn new(
        record: &LiveRecord,
        node: u64,
        lines: Lines,
        till: Till,
        gate: Watch,
        metrics: Metrics,
    ) -> Self {
        let Lines { requests, post, chores, keep } = lines;
        Self(Arc::new(Shared {
            id: record.id.clone(),
            merchant: record.merchant.clone(),
            public: AtomicBool::new(record.public),
            relay: Relay::new(),
            requests,
            likes: Likes::default(),
            post,
            chores,
            keep,
            till,
            gate,
            metrics,
            entering: RwLock::default(),
            next_member: AtomicU64::new((node << MEMBER_BITS) + 1),
            sales: tokio::sync::Mutex::default(),
        }))
    }

    /// Its id.
    pub fn id(&self) -> &LiveId {
        &self.0.id
    }

    /// Whose it is.
    pub fn merchant(&self) -> &MerchantId {
        &self.0.merchant
    }

    /// Whether its owner is gone: a defect ended it, and the live must be started anew.
    pub(crate) fn is_over(&self) -> bool {
        self.0.requests.is_closed()
    }

    /// Whether it may be watched without a token.
    pub fn is_public(&self) -> bool {
        self.0.public.load(Ordering::Relaxed)
    }

    /// Where its picture comes from and goes to.
    pub fn relay(&self) -> &Arc<Relay> {
        &self.0.relay
    }

    /// Somebody opens the channel. `locale`: the language in which they read of products.
    pub fn connect(
        &self,
        id: u64,
        viewer: Option<Viewer>,
        locale: Option<Locale>,
        resume: Option<Position>,
    ) -> Connection {
        let member = self.next_member();
        Connection::open(self.clone(), member, id, viewer, locale, resume)
    }

    /// Asks one thing on behalf of somebody who is not connected, and gives the reply, or the error, as the channel would.
    /// `None` where there is none in time: it may have been done.
    pub async fn ask_once(&self, viewer: Viewer, request: Request) -> Option<haul_room::Line> {
        let member = self.next_member();
        let visit = Connection::visit(self.clone(), member, viewer);
        let inbox = visit.inbox();
        visit.request(1, request).await;
        let answer = async {
            loop {
                match inbox.pop() {
                    Some(Piece::Line(line)) => return Some(line),
                    // Who only asks is told nothing that everybody is.
                    Some(Piece::Batch(_)) => {}
                    None if inbox.ended().is_some() => return None,
                    None => inbox.news().await,
                }
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_default()
    }

    /// What somebody holds or waits for here, and of what they bought, in the sales on stage; `None` where the gate or the
    /// owner does not answer.
    pub async fn holds_of(&self, buyer: &BuyerId) -> Option<Vec<HoldView>> {
        let mut holds = Vec::new();
        for sale in self.look().await?.sales {
            let standing = self.gate().standing(&sale.id, buyer).await.ok()?;
            holds.extend(standing.into_iter().filter_map(
                |Standing { hold, units, outcome, coupon, .. }| {
                    hold_view(hold, sale.id.clone(), &units, coupon, &outcome)
                },
            ));
        }
        Some(holds)
    }

    /// Its state now; `None` if the owner is gone.
    pub async fn look(&self) -> Option<Look> {
        let (answer, looked) = oneshot::channel();
        self.send(Command::Look(answer)).await;
        looked.await.ok()
    }

    pub(crate) fn next_member(&self) -> MemberId {
        MemberId(self.0.next_member.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets another server have the room, where it is shared; for the end of the process.
    pub(crate) async fn handed_over(&self) {
        let (done, handed_over) = oneshot::channel();
        self.post(Post::HandOver(done));
        let _ = handed_over.await;
    }

    pub(crate) fn set_public(&self, public: bool) {
        self.0.public.store(public, Ordering::Relaxed);
    }

    /// Tells the room of a changed bag.
    pub fn bag_changed(&self, bag: Vec<Listing>) {
        self.input(Input::Bag(bag));
    }

    /// Tells the room of a changed title, and who may watch from now on.
    pub fn record_changed(&self, record: LiveRecord) {
        self.set_public(record.public);
        self.input(Input::Record(record));
    }

    /// Tells the room that the server is going away.
    pub(crate) fn drain(&self, retry_after_ms: u64) {
        self.input(Input::Drain { retry_after_ms });
    }

    /// Forgets what the room keeps of somebody, and waits until that is written down, however long that takes; it is done also
    /// where nobody waits any more.
    pub(crate) async fn forget_person(&self, buyer: &BuyerId) {
        let (done, forgotten) = oneshot::channel();
        self.post(Post::Forget { buyer: buyer.clone(), done });
        // An owner drops nobody's question unanswered but at the end of the process.
        let _ = forgotten.await;
        self.kept().await;
    }

    pub(crate) fn order_moved(&self, order: Order, hold: Option<Outcome>) {
        self.input(Input::OrderMoved { order, hold });
    }

    /// Something of an order changed that is not its state; `refunded_minor` of it went back just now.
    pub(crate) fn order_changed(&self, order: Order, refunded_minor: i64) {
        self.input(Input::OrderChanged { order, refunded_minor });
    }

    /// Asks the gate one thing, in the same queue as the buyers.
    pub(crate) async fn ask(&self, sale: &SaleId, op: Op) -> Result<Outcome, GateError> {
        self.0.till.ask(sale.clone(), op).await
    }

    /// The gate, past the queue: for what is not a buyer's question.
    pub(crate) fn gate(&self) -> &Watch {
        &self.0.gate
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) async fn send(&self, command: Command) {
        self.0.requests.first(command).await;
    }

    /// Hands something over that viewers say; false where too much of it waits.
    pub(crate) fn talk(&self, command: Command) -> bool {
        self.0.requests.later(command)
    }

    /// What is written to enter the giveaway from now on.
    pub(crate) fn enters_with(&self, word: Option<String>) {
        *self.0.entering.write().unwrap_or_else(PoisonError::into_inner) = word;
    }

    /// Whether who writes this enters the giveaway.
    pub(crate) fn enters(&self, text: &str) -> bool {
        let word = self.0.entering.read().unwrap_or_else(PoisonError::into_inner);
        word.as_ref().is_some_and(|word| compared(text) == *word)
    }

    /// Somebody likes what is seen.
    pub(crate) fn like(&self, kind: Reaction, count: u32) {
        if self.0.likes.add(kind, count) {
            self.post(Post::Liked);
        }
    }

    /// What was liked since the last call. The owner is told when there is more.
    pub(crate) fn take_likes(&self) -> BTreeMap<Reaction, u32> {
        self.0.likes.take()
    }

    /// Likes that could not be handed over: they are fetched with the next.
    pub(crate) fn put_back(&self, likes: BTreeMap<Reaction, u32>) {
        self.0.likes.put_back(likes);
    }

    pub(crate) fn leave(&self, member: MemberId) {
        self.input(Input::Leave { member });
    }

    pub(crate) fn input(&self, input: Input) {
        self.post(input.into());
    }

    pub(crate) fn post(&self, post: Post) {
        let _ = self.0.post.send(post);
    }

    /// A turn to change a sale of this live: what the ledger says last of it is what the gate and the stage are told last.
    pub(crate) async fn turn_for_sales(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.sales.lock().await
    }

    pub(crate) fn chore(&self, chore: Chore) {
        let _ = self.0.chores.send(chore);
    }

    /// Has something written down for the next start.
    pub(crate) fn keep(&self, note: Note) {
        let _ = self.0.keep.send(Keep::Note(note));
    }

    /// Has something written down, and the owner told when that is done.
    pub(crate) fn write(&self, number: u64, note: Note) {
        let _ = self.0.keep.send(Keep::Write { number, note });
    }

    /// What waits to be written down is void: somebody else owns the room.
    pub(crate) fn discard_notes(&self) {
        let _ = self.0.keep.send(Keep::Discard);
    }

    /// Waits until all that the room has noted is written down.
    pub(crate) async fn kept(&self) {
        let (done, written) = oneshot::channel();
        let _ = self.0.keep.send(Keep::Written(done));
        let _ = written.await;
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.0.id).finish()
    }
}
