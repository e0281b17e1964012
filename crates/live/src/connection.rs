//! One reader of a live's channel, as the gateway holds it.

use std::{
    hint::black_box,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use haul_model::{BuyerId, Locale, Viewer};
use haul_room::{Batch, Key, Lane, Line, Outbox, Piece, Pushed};
use haul_wire::{
    ChatAsk, Code, Failure, Position, QualityView, Reply, Request, crowd::CrowdAsk, encode_failure,
    encode_reply, show::ShowAsk,
};
use tokio::sync::Notify;

use crate::{
    live::{Command, Live, Post},
    metrics::Metrics,
    scribes::Pen,
    stage::{Input, MemberId, is_staff, millis},
};

/// One connection's entries to giveaways go before other talk so often.
const ENTER_EVERY: Duration = Duration::from_secs(1);
/// When to try again where too much talk waits for the room.
const TOO_LOUD_FOR: Duration = Duration::from_secs(1);

/// A reader's outbox, between the owner that fills it and the connection that empties it.
///
/// A lock, since both sides touch it for every line; held for a queue operation, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    outbox: Mutex<Outbox>,
    news: Notify,
    /// Where the connection can be written to from outside of its task. It goes with the connection.
    pen: OnceLock<Weak<dyn Pen>>,
    /// Waits in a scribe's queue.
    summoned: AtomicBool,
    /// The code to close the connection with; 0 while it goes on.
    ended: AtomicU16,
    /// Until then the room would refuse a chat line as one too many. A lock as above.
    quiet_until: Mutex<Option<Instant>>,
    /// When this connection has last gone before others to enter a giveaway.
    entered_at: Mutex<Option<Instant>>,
}

impl Outlet {
    /// Looks at what adding a line needs, and no more: it is near when that comes.
    pub(crate) fn reach(&self) {
        black_box((self.outbox.is_poisoned(), self.summoned.load(Ordering::Relaxed)));
    }

    /// Adds a line, and wakes the connection.
    pub(crate) fn push(&self, lane: Lane, key: Option<Key>, line: Line, metrics: &Metrics) {
        self.add(metrics, |outbox| outbox.push(lane, key, line));
        self.news.notify_one();
    }

    /// Adds a line that many are told: who has a pen is added to `readers`, whom somebody must then write to.
    pub(crate) fn tell(
        self: &Arc<Self>,
        lane: Lane,
        key: Option<Key>,
        line: Line,
        readers: &mut Vec<Inbox>,
        metrics: &Metrics,
    ) {
        let fits = self.add(metrics, |outbox| outbox.push(lane, key, line));
        self.summon(fits, readers);
    }

    /// As [`Outlet::tell`].
    pub(crate) fn tell_batch(
        self: &Arc<Self>,
        batch: &Arc<Batch>,
        readers: &mut Vec<Inbox>,
        metrics: &Metrics,
    ) {
        let fits = self.add(metrics, |outbox| outbox.push_batch(batch));
        self.summon(fits, readers);
    }

    fn summon(self: &Arc<Self>, fits: bool, readers: &mut Vec<Inbox>) {
        if !fits || self.pen.get().is_none() {
            self.news.notify_one();
        } else if !self.summoned.swap(true, Ordering::AcqRel) {
            readers.push(Inbox(self.clone()));
        }
    }

    /// Whether there was room.
    fn add(&self, metrics: &Metrics, push: impl FnOnce(&mut Outbox) -> Pushed) -> bool {
        let mut outbox = self.lock();
        let was_overflown = outbox.overflown();
        match push(&mut outbox) {
            Pushed::Queued | Pushed::Replaced => {}
            Pushed::ChatDropped(lines) => metrics.chat_dropped(lines),
            Pushed::Overflow if was_overflown => return false,
            Pushed::Overflow => {
                metrics.reader_too_slow();
                return false;
            }
        }
        true
    }

    /// The connection is to be closed with this code, when what waits is written.
    pub(crate) fn end(&self, code: u16) {
        self.ended.store(code, Ordering::Release);
        self.news.notify_one();
    }

    /// The room has refused a chat line as one too many, and will refuse others for so long.
    pub(crate) fn quiet(&self, lasts: Duration) {
        *self.quiet_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(Instant::now() + lasts);
    }

    /// Whether this connection may go before others to enter a giveaway; once in [`ENTER_EVERY`].
    fn may_enter(&self, now: Instant) -> bool {
        let mut entered_at = self.entered_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let may = entered_at.is_none_or(|at| now.saturating_duration_since(at) >= ENTER_EVERY);
        if may {
            *entered_at = Some(now);
        }
        may
    }

    /// For how long the room will still do so.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        let until = *self.quiet_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        until.and_then(|until| until.checked_duration_since(Instant::now()))
    }

    #[cfg(test)]
    pub(crate) fn inbox(self: &Arc<Self>) -> Inbox {
        Inbox(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // A panic while it was held is a defect of the outbox; its lines are still lines.
        self.outbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Where a connection finds what to send next.
#[derive(Debug, Clone)]
pub struct Inbox(Arc<Outlet>);

impl Inbox {
    /// Waits until there may be something.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// There is more than was taken: [`Inbox::news`] is so again.
    pub fn look_again(&self) {
        self.0.news.notify_one();
    }

    /// From now on, what everybody is told is written with this, as long as it is there.
    pub fn write_with(&self, pen: Weak<dyn Pen>) {
        // A connection has one pen, and says so once.
        let _ = self.0.pen.set(pen);
    }

    /// Looks at what [`Inbox::write`] needs, and no more.
    pub(crate) fn reach(&self) {
        self.0.reach();
        black_box(self.0.pen.get().map(Weak::strong_count));
    }

    /// What this reader's lines are written with, while the connection lasts.
    pub(crate) fn pen(&self) -> Option<Arc<dyn Pen>> {
        self.0.pen.get().and_then(Weak::upgrade)
    }

    /// Writes what goes with their pen; for who was summoned.
    pub(crate) fn write(&self, pen: Option<&dyn Pen>) {
        // Before what waits is looked at: who adds something later summons again.
        self.0.summoned.swap(false, Ordering::AcqRel);
        if pen.is_some_and(|pen| !pen.write(self)) {
            self.0.news.notify_one();
        }
    }

    /// What to send next.
    pub fn pop(&self) -> Option<Piece> {
        self.0.lock().pop()
    }

    /// Whether the reader was too slow: close the connection, so that the client resumes.
    pub fn overflown(&self) -> bool {
        self.0.lock().overflown()
    }

    /// The code to close the connection with, if it is to be closed: the live has ended here, or the reader may not be
    /// here any more.
    pub fn ended(&self) -> Option<u16> {
        Some(self.0.ended.load(Ordering::Acquire)).filter(|code| *code != 0)
    }
}

/// A member of a live. Dropping it leaves the live.
#[derive(Debug)]
pub struct Connection {
    live: Live,
    member: MemberId,
    asker: Option<BuyerId>,
    /// Host or moderator: nothing of theirs waits behind what viewers say.
    staff: bool,
    outlet: Arc<Outlet>,
}

/// Who is told of a media session's quality: one connection, for as long as it lasts.
#[derive(Debug, Clone)]
pub struct QualityListener {
    live: Live,
    member: MemberId,
}

impl QualityListener {
    /// Tells it.
    pub fn tell(&self, quality: QualityView) {
        self.live.input(Input::Quality { member: self.member, quality });
    }
}

impl Connection {
    /// Says hello: the snapshot arrives in the inbox as the reply to `id`, then the events.
    pub(crate) fn open(
        live: Live,
        member: MemberId,
        id: u64,
        viewer: Option<Viewer>,
        locale: Option<Locale>,
        resume: Option<Position>,
    ) -> Self {
        let outlet = Arc::new(Outlet::default());
        live.metrics().connected();
        let asker = viewer.as_ref().map(|viewer| viewer.id.clone());
        let staff = viewer.as_ref().is_some_and(is_staff);
        let connection = Self { live, member, asker, staff, outlet: outlet.clone() };
        connection.live.post(Post::Join { member, id, viewer, locale, resume, outlet });
        connection
    }

    /// Comes for one question.
    pub(crate) fn visit(live: Live, member: MemberId, viewer: Viewer) -> Self {
        let outlet = Arc::new(Outlet::default());
        live.metrics().connected();
        let asker = Some(viewer.id.clone());
        let visit = Self { live, member, asker, staff: is_staff(&viewer), outlet: outlet.clone() };
        visit.live.post(Post::Visit { member, viewer, outlet });
        visit
    }

    /// Where this connection's lines arrive.
    pub fn inbox(&self) -> Inbox {
        Inbox(self.outlet.clone())
    }

    /// Hands a request to the live's owner; the reply arrives in the inbox. Waits while the owner is busy, which slows
    /// this connection down and nobody else. What viewers say goes behind all that they buy, and is refused where too
    /// much of it waits; likes are summed here, and a chat line that the room would refuse as one too many goes no
    /// further.
    pub async fn request(&self, id: u64, request: Request) {
        if let Request::Crowd(CrowdAsk::Like { count, kind }) = request
            && self.asker.is_some()
        {
            return self.live.like(kind, count);
        }
        if self.staff || !is_talk(&request) || self.enters(&request) {
            let request = Box::new(request);
            return self.live.send(Command::Request { member: self.member, id, request }).await;
        }
        if matches!(request, Request::Chat(ChatAsk::Send { .. }))
            && let Some(left) = self.outlet.quiet_for()
        {
            self.live.metrics().talk_refused();
            return self.refuse(Some(id), &too_many_lines(left));
        }
        if !self.live.talk(Command::Request { member: self.member, id, request: Box::new(request) }) {
            self.live.metrics().talk_refused();
            let failure = Failure::new(Code::RateLimited, "the room is too loud: wait a moment");
            self.refuse(Some(id), &failure.retry_after(TOO_LOUD_FOR.as_millis() as u64));
        }
    }

    /// Whether it enters the giveaway. However loud the room is, each connection may do that once a second: nobody is left out
    /// because all write the same word at once.
    fn enters(&self, request: &Request) -> bool {
        let enters = match request {
            Request::Chat(ChatAsk::Send { text, .. }) => self.live.enters(text),
            Request::Show(ShowAsk::GiveawayEnter { .. }) => true,
            _ => false,
        };
        enters && self.outlet.may_enter(Instant::now())
    }

    /// The live it is connected to.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Who is connected; nobody in particular without a token.
    pub fn asker(&self) -> Option<&BuyerId> {
        self.asker.as_ref()
    }

    /// Who is to be told of the quality of a media session of this viewer's.
    pub fn quality_listener(&self) -> QualityListener {
        QualityListener { live: self.live.clone(), member: self.member }
    }

    /// Puts the reply to a request into the inbox that the live's owner has no part in.
    pub fn answer(&self, id: u64, reply: &Reply) {
        self.outlet.push(Lane::Reply, None, encode_reply(id, reply).into(), self.live.metrics());
    }

    /// Puts a refusal into the inbox, for a message that never was a request.
    pub fn refuse(&self, id: Option<u64>, failure: &Failure) {
        self.outlet.push(Lane::Reply, None, encode_failure(id, failure).into(), self.live.metrics());
    }
}

/// Whether a request is talk, which may wait behind what concerns money.
fn is_talk(request: &Request) -> bool {
    matches!(request, Request::Chat(_) | Request::Question(_) | Request::Show(_) | Request::Crowd(_))
}

/// A refusal as the room's own.
pub(crate) fn too_many_lines(left: Duration) -> Failure {
    Failure::new(Code::RateLimited, "too many messages: wait a moment").retry_after(millis(left))
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.live.metrics().disconnected();
        self.live.leave(self.member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn a_connection_goes_before_others_to_enter_a_giveaway_once_a_second() {
        let (outlet, other, at) = (Outlet::default(), Outlet::default(), start().instant);
        assert!(outlet.may_enter(at));
        let soon = at + ENTER_EVERY - Duration::from_millis(1);
        assert!(!outlet.may_enter(soon) && other.may_enter(soon), "each has its own turn");
        assert!(outlet.may_enter(at + ENTER_EVERY), "and what was refused has not moved it");
        assert!(!outlet.may_enter(at), "nor does a clock that is read late");
    }
}
