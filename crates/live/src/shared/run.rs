//! The task of a live whose room several servers share.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use haul_commerce::{Applied, BusError, Left, OrderState, Outcome};
use haul_model::{Locale, OrderId, Viewer};
use haul_room::{Estate, Key, Lane as Importance, Line, Made};
use haul_wire::{Code, Event, Failure, Position, Request, encode_event, encode_failure};
use tokio::sync::{mpsc, oneshot};

use super::{
    message::{Air, Ask, Item},
    part::{Act, Answer, Call, LEASE, Lane, Part},
    sharing::Sharing,
};
use crate::{
    Services, begin,
    chores::Chore,
    desk::Desk,
    house::{House, Word},
    likes::LIKES_AFTER,
    live::{Command, Live, Look, Post},
    now,
    owner::{RESTART, watch_broadcasts},
    requests::{Asked, Turn},
    stage::{Delivery, Input, MemberId, Stage, To, farewells},
    till::Till,
};

/// A request that the owner has not answered for so long is answered with "pending": ask again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Requests that wait until there is an owner; further ones are answered with "pending".
const MAX_STASHED: usize = 10_000;
/// A server that was not heard of for so long is gone, and its members with it.
const GONE_AFTER: Duration = Duration::from_secs(8);
/// How often it is looked for what was not answered, and who is gone.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// What the task is reached by, and reaches.
pub(crate) struct Ways {
    pub(crate) asked: Asked,
    pub(crate) posted: mpsc::UnboundedReceiver<Post>,
    pub(crate) post: mpsc::UnboundedSender<Post>,
    pub(crate) till: Till,
}

/// Somebody who is connected here, as an owner must know them.
struct Guest {
    /// Of the hello.
    id: u64,
    viewer: Option<Viewer>,
    locale: Option<Locale>,
    resume: Option<Position>,
    visiting: bool,
}

/// The members of another server, as this one as the owner knows them.
struct Elsewhere {
    heard_at: Instant,
    members: HashSet<MemberId>,
}

/// Something that was waited for.
enum News {
    Answered(Lane, Result<Answer, BusError>),
    Loaded(u64, Option<Box<Stage>>),
}

struct Task {
    services: Services,
    sharing: Sharing,
    live: Live,
    till: Till,
    part: Part,
    /// While this is the owner.
    desk: Option<Desk>,
    house: House,
    guests: HashMap<MemberId, Guest>,
    /// Requests from here that have no answer yet, and since when.
    open: BTreeMap<(MemberId, u64), Instant>,
    /// Those that wait for an owner to be asked.
    stash: Vec<(MemberId, u64, Request, Turn)>,
    /// When to fetch the likes that have come here.
    likes_at: Option<Instant>,
    looks: HashMap<MemberId, oneshot::Sender<Look>>,
    elsewhere: HashMap<u64, Elsewhere>,
    /// Servers that were given up.
    given_up: HashSet<u64>,
    /// Whether the host's picture comes here.
    on_air: bool,
    /// On which other server the host's picture comes.
    on_air_at: Option<u64>,
    news: mpsc::UnboundedSender<News>,
    /// Told when it is known who owns the room.
    ready: Option<oneshot::Sender<()>>,
    handing_over: Vec<oneshot::Sender<()>>,
    tidy_at: Instant,
    /// As the metrics have it.
    counted: Option<bool>,
}

/// Runs until the process ends.
pub(crate) async fn run(
    services: Services,
    sharing: Sharing,
    live: Live,
    ways: Ways,
    ready: oneshot::Sender<()>,
) {
    let Ways { mut asked, mut posted, post, till } = ways;
    let (news, mut told) = mpsc::unbounded_channel();
    let _broadcasts = watch_broadcasts(&live, post);
    let mut task = Task {
        part: Part::new(sharing.node()),
        services,
        sharing,
        live,
        till,
        desk: None,
        house: House::default(),
        guests: HashMap::new(),
        open: BTreeMap::new(),
        stash: Vec::new(),
        likes_at: None,
        looks: HashMap::new(),
        elsewhere: HashMap::new(),
        given_up: HashSet::new(),
        on_air: false,
        on_air_at: None,
        news,
        ready: Some(ready),
        handing_over: Vec::new(),
        tidy_at: Instant::now(),
        counted: None,
    };
    task.drive();
    loop {
        let wake = task.next_timeout();
        tokio::select! {
            biased;
            Some(post) = posted.recv() => task.posted(post),
            Some(news) = told.recv() => task.hear(news),
            () = tokio::time::sleep_until(wake.into()) => task.timeout(),
            Some((command, turn)) = asked.next() => task.command(command, turn),
        }
        task.carry_out();
        task.drive();
        task.house.settle(now().instant, task.live.metrics());
    }
}

impl Task {
    fn next_timeout(&self) -> Instant {
        let at = now();
        let stage = self.desk.as_ref().and_then(|desk| desk.stage.next_timeout(at));
        stage
            .into_iter()
            .chain(self.house.due())
            .chain(self.likes_at)
            .chain([self.part.next_timeout(at), self.tidy_at])
            .min()
            .unwrap_or(self.tidy_at)
    }

    fn timeout(&mut self) {
        let at = now();
        if let Some(desk) = &mut self.desk {
            desk.stage.timeout(at);
        }
        if self.likes_at.take_if(|due| *due <= at.instant).is_some() {
            self.liked();
        }
        if self.tidy_at > at.instant {
            return;
        }
        self.tidy_at = at.instant + TIDY_EVERY;
        let late = |asked: &Instant| at.instant.saturating_duration_since(*asked) >= ANSWERED_WITHIN;
        let unanswered: Vec<_> =
            self.open.iter().filter(|(_, asked)| late(asked)).map(|(key, _)| *key).collect();
        self.fail_open(&unanswered);
        let gone: Vec<_> = self
            .elsewhere
            .iter()
            .filter(|(_, one)| at.instant.saturating_duration_since(one.heard_at) >= GONE_AFTER)
            .map(|(node, _)| *node)
            .collect();
        for node in gone {
            self.gone(node);
        }
    }

    /// Tells the room what was liked here; where nobody can be told now, later.
    fn liked(&mut self) {
        let likes = self.live.take_likes();
        if self.desk.is_some() {
            self.stage(Input::Liked(likes));
        } else if !self.ask(Ask::Liked(likes.clone())) {
            self.live.put_back(likes);
            self.likes_at = Some(Instant::now() + LIKES_AFTER);
        }
    }

    /// A server is gone, and everybody there.
    fn gone(&mut self, node: u64) {
        let Some(one) = self.elsewhere.remove(&node) else { return };
        tracing::warn!(live = %self.live.id(), node, members = one.members.len(), "a server is gone");
        self.given_up.insert(node);
        for member in one.members {
            self.stage(Input::Leave { member });
        }
        if self.on_air_at.take_if(|at| *at == node).is_some() && !self.on_air {
            self.stage(Input::Broadcasting(false));
        }
    }

    fn stage(&mut self, input: Input) {
        if let Some(desk) = &mut self.desk {
            desk.stage.handle(input, now());
        }
    }

    fn ask(&mut self, ask: Ask) -> bool {
        self.part.ask(ask)
    }

    fn posted(&mut self, post: Post) {
        match post {
            Post::Join { member, id, viewer, locale, resume, outlet } => {
                self.house.enter(member, viewer.as_ref(), locale.clone(), outlet);
                self.arrived(member, Guest { id, viewer, locale, resume, visiting: false });
            }
            Post::Visit { member, viewer, outlet } => {
                self.house.visit(member, outlet);
                let guest = Guest { id: 0, viewer: Some(viewer), locale: None, resume: None, visiting: true };
                self.arrived(member, guest);
            }
            Post::Liked => self.likes_at = Some(Instant::now() + LIKES_AFTER),
            Post::HandOver(done) => {
                self.part.leave();
                if self.part.is_owner() {
                    self.handing_over.push(done);
                } else {
                    let _ = done.send(());
                }
            }
            Post::Input(input) => self.input(input),
        }
    }

    fn arrived(&mut self, member: MemberId, guest: Guest) {
        if !guest.visiting {
            self.open.insert((member, guest.id), Instant::now());
        }
        self.introduce(member, &guest);
        self.guests.insert(member, guest);
    }

    /// Tells the owner of somebody here.
    fn introduce(&mut self, member: MemberId, guest: &Guest) {
        let Guest { id, viewer, locale, resume, visiting } = guest;
        let welcomed = self.house.is_welcomed(member);
        if self.desk.is_some() {
            let (id, viewer, locale, resume) = (*id, viewer.clone(), locale.clone(), resume.clone());
            self.stage(match (visiting, viewer) {
                (true, Some(viewer)) => Input::Visit { member, viewer },
                (_, viewer) if welcomed => Input::Back { member, viewer, locale },
                (_, viewer) => Input::Join { member, id, viewer, locale, resume },
            });
            return;
        }
        let (who, locale) = (viewer.as_ref().map(Into::into), locale.clone());
        // What is not asked for want of room is answered with "pending" in time.
        let _ = self.part.ask(match (visiting, who) {
            (true, Some(viewer)) => Ask::Visit { member, viewer },
            (_, viewer) if welcomed => Ask::Back { member, viewer, locale },
            (_, viewer) => Ask::Join { member, id: *id, viewer, locale, resume: resume.clone() },
        });
    }

    /// There is an owner who knows nobody here. What an earlier one was asked and has not answered may have been done.
    fn introduce_all(&mut self) {
        let guests = std::mem::take(&mut self.guests);
        for (member, guest) in &guests {
            self.introduce(*member, guest);
        }
        let hellos: HashSet<_> = guests
            .iter()
            .filter(|(member, _)| !self.house.is_welcomed(**member))
            .map(|(member, guest)| (*member, guest.id))
            .collect();
        self.guests = guests;
        let stashed: HashSet<_> = self.stash.iter().map(|(member, id, ..)| (*member, *id)).collect();
        let lost: Vec<_> = self
            .open
            .keys()
            .filter(|key| !hellos.contains(*key) && !stashed.contains(*key))
            .copied()
            .collect();
        self.fail_open(&lost);
        if self.on_air {
            if self.desk.is_some() {
                self.stage(Input::Broadcasting(true));
            } else {
                let _ = self.ask(Ask::Air(Air::On));
            }
        }
        for (member, id, request, turn) in std::mem::take(&mut self.stash) {
            self.request(member, id, request, turn);
        }
        let askers: Vec<_> = self.looks.keys().copied().collect();
        for asker in askers {
            self.look(asker);
        }
    }

    fn fail_open(&mut self, lost: &[(MemberId, u64)]) {
        self.live.metrics().room_unanswered(lost.len());
        for (member, id) in lost {
            self.open.remove(&(*member, *id));
            let hello = self.guests.get(member).is_some_and(|guest| guest.id == *id && !guest.visiting);
            if hello && !self.house.is_welcomed(*member) {
                // They come back, and are introduced anew.
                self.play(Word::End(*member, RESTART));
                continue;
            }
            let failure =
                Failure::new(Code::Pending, "the outcome is not known yet: ask again with the same key")
                    .retry_after(500);
            let line: Line = encode_failure(Some(*id), &failure).into();
            let to = To::Member(*member);
            self.play(Word::Tell(Delivery { to, lane: Importance::Reply, key: None, line }));
        }
    }

    /// What happened here that is not a member's doing, or ends their being here.
    fn input(&mut self, input: Input) {
        match &input {
            Input::Leave { member } => {
                self.house.leave(*member);
                self.guests.remove(member);
                let theirs: Vec<_> =
                    self.open.range((*member, 0)..=(*member, u64::MAX)).map(|(key, _)| *key).collect();
                for key in theirs {
                    self.open.remove(&key);
                }
            }
            Input::Broadcasting(on) => self.on_air = *on,
            Input::Drain { retry_after_ms } => return self.drain(*retry_after_ms),
            Input::Quality { member, quality } => {
                let key = Some(Key::Quality(quality.session.clone()));
                let event = Event::QualityChanged { quality: quality.clone() };
                let line = encode_event(self.part.epoch(), None, &event).into();
                let to = To::Member(*member);
                return self.play(Word::Tell(Delivery { to, lane: Importance::Ambient, key, line }));
            }
            Input::Record(record) if self.desk.is_some() => {
                self.part.tell(Item::Public(record.public), true);
            }
            _ => {}
        }
        if self.desk.is_some() {
            return self.stage(input);
        }
        let ask = match input {
            Input::Leave { member } => Ask::Leave(member),
            Input::OrderMoved { order, .. } => Ask::Order(order.order.id),
            Input::OrderChanged { order, refunded_minor } => {
                Ask::OrderChanged { order: order.order.id, refunded_minor }
            }
            Input::Bag(_) => Ask::Bag,
            Input::Record(_) => Ask::Record,
            Input::Forget { buyer } => Ask::Forget(buyer),
            Input::Applied { sale, answer: Ok(Applied { released, offered, .. }), .. } => {
                Ask::Sale { sale, released, offered }
            }
            Input::SaleKnown { sale, .. } => {
                Ask::Sale { sale: sale.id, released: Vec::new(), offered: Vec::new() }
            }
            Input::Broadcasting(on) => Ask::Air(if on { Air::On } else { Air::Off }),
            Input::Stalled(stalled) => Ask::Air(Air::Stalled(stalled)),
            Input::OutOfOrder => Ask::Air(Air::OutOfOrder),
            Input::SoundByMoqOnly => Ask::Air(Air::SoundByMoqOnly),
            // Answers to questions of a stage that is here no more.
            _ => return,
        };
        // Where too much waits, the owner finds it in the ledger and at the gate.
        let _ = self.ask(ask);
    }

    fn drain(&mut self, retry_after_ms: u64) {
        let members: Vec<_> = self.house.members().collect();
        let epoch = self.part.epoch().to_owned();
        for delivery in farewells(&members, &epoch, retry_after_ms) {
            self.play(Word::Tell(delivery));
        }
        self.part.leave();
    }

    fn command(&mut self, command: Command, turn: Turn) {
        match command {
            Command::Request { member, id, request } => {
                self.open.insert((member, id), Instant::now());
                self.request(member, id, *request, turn);
            }
            Command::Look(answer) => {
                let asker = self.live.next_member();
                self.looks.retain(|_, waiting| !waiting.is_closed());
                self.looks.insert(asker, answer);
                self.look(asker);
            }
        }
    }

    fn request(&mut self, member: MemberId, id: u64, request: Request, turn: Turn) {
        if self.desk.is_some() {
            self.stage(Input::Request { member, id, request });
        } else if self.part.is_follower() {
            let text = haul_wire::encode_request(id, &request);
            let ask = Ask::Request { member, text };
            let asked = match turn {
                Turn::First => self.part.ask(ask),
                Turn::Later => self.part.ask_later(ask),
            };
            if !asked {
                self.fail_open(&[(member, id)]);
            }
        } else if self.stash.len() < MAX_STASHED {
            self.stash.push((member, id, request, turn));
        } else {
            self.fail_open(&[(member, id)]);
        }
    }

    fn look(&mut self, asker: MemberId) {
        match &self.desk {
            Some(desk) => {
                if let Some(answer) = self.looks.remove(&asker) {
                    let _ = answer.send(desk.look());
                }
            }
            // Where it is not asked now, it is when there is an owner.
            None => {
                let _ = self.part.ask(Ask::Look { asker });
            }
        }
    }

    fn play(&mut self, word: Word) {
        if let Word::Tell(Delivery { to: To::Member(member), lane: Importance::Reply, line, .. }) = &word
            && member.node() == self.sharing.node()
            && let Some(id) = reply_id(line)
        {
            self.open.remove(&(*member, id));
        }
        if let Word::Entering(word) = &word {
            self.live.enters_with(word.clone());
        }
        self.house.play(word, self.live.metrics());
    }

    /// Hands what the stage says to everybody whom it concerns.
    fn carry_out(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        let mut told = Vec::new();
        desk.carry_out(&mut told);
        let (news, epoch, offset) = desk.stage.news();
        self.part.write(news, epoch, offset);
        for word in told {
            let elsewhere = match &word {
                Word::Tell(Delivery { to: To::Member(member), .. })
                | Word::Welcome(member)
                | Word::End(member, _)
                | Word::Quiet(member, _) => member.node() != self.sharing.node(),
                Word::Tell(_) | Word::Translated { .. } | Word::Entering(_) => true,
            };
            self.part.tell(Item::Word(word), elsewhere);
        }
    }

    /// Makes the calls that are due.
    fn drive(&mut self) {
        if self.part.is_overfull() {
            let acts = self.part.give_up();
            self.act(acts);
        }
        let (acts, calls) = self.part.due(now());
        self.act(acts);
        for (lane, call) in calls {
            let (sharing, live, news) = (self.sharing.clone(), self.live.clone(), self.news.clone());
            tokio::spawn(async move {
                let _ = news.send(News::Answered(lane, make(&sharing, &live, call).await));
            });
        }
        let part = match (self.part.is_owner(), self.part.is_follower()) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        if part != self.counted {
            self.live.metrics().room_part(self.counted, part);
            self.counted = part;
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Answered(lane, answer) => {
                if let Err(error) = &answer {
                    tracing::debug!(live = %self.live.id(), %error, "the bus");
                }
                let acts = self.part.answered(lane, answer, now());
                self.act(acts);
            }
            News::Loaded(term, Some(stage)) => self.begin(term, *stage),
            News::Loaded(term, None) => self.part.not_loaded(term, now()),
        }
    }

    fn act(&mut self, acts: Vec<Act>) {
        let given_back = acts.contains(&Act::Released);
        for act in acts {
            match act {
                Act::Play(word) => self.play(word),
                Act::Item(Item::Looked { asker, look }) => {
                    if let Some(answer) = self.looks.remove(&asker) {
                        let _ = answer.send(look);
                    }
                }
                Act::Item(Item::Public(public)) => self.live.set_public(public),
                Act::Item(Item::Again { node }) if node == self.sharing.node() && self.desk.is_none() => {
                    self.introduce_all();
                }
                Act::Item(_) => {}
                Act::Heard(at) => {
                    self.live.metrics().room_lag(now().wall.saturating_since(at));
                }
                Act::Follow | Act::Introduce => {
                    self.introduce_all();
                    self.settled();
                }
                Act::Load { term, left } => self.load(term, left),
                Act::Demoted => {
                    if self.desk.take().is_some() {
                        tracing::info!(live = %self.live.id(), "this server owns the room no more");
                        // Who took it over has read the notes, and writes its own: none of these may come after those.
                        if !given_back {
                            self.live.discard_notes();
                        }
                    }
                    self.elsewhere.clear();
                    self.given_up.clear();
                    self.on_air_at = None;
                }
                Act::Reset => {
                    tracing::warn!(
                        live = %self.live.id(), members = self.house.len(),
                        "what was told in this room is lost: its readers here come back"
                    );
                    self.live.metrics().room_reset();
                    self.house.end_all(RESTART);
                }
                Act::Asked { node, asks } => self.asked(node, asks),
                Act::Released => {
                    for done in self.handing_over.drain(..) {
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    fn settled(&mut self) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(());
        }
    }

    fn load(&mut self, term: u64, left: Left) {
        let (services, live, news) = (self.services.clone(), self.live.clone(), self.news.clone());
        tokio::spawn(async move {
            let loaded = async {
                let record = services.ledger.live(live.id()).await.ok()??;
                begin::stage(&services, &live, record, Some(estate(left))).await.ok()
            };
            let _ = news.send(News::Loaded(term, loaded.await.map(Box::new)));
        });
    }

    fn begin(&mut self, term: u64, mut stage: Stage) {
        let took_over = !self.part.epoch().is_empty();
        // Nothing of the news is told yet: it is written down before what is.
        let (news, epoch, offset) = stage.news();
        self.part.begin(term, epoch.clone(), offset);
        self.part.write(news, epoch, offset);
        if !self.part.is_owner() {
            return;
        }
        if took_over {
            self.live.metrics().room_taken_over();
        }
        tracing::info!(live = %self.live.id(), took_over, "this server owns the room");
        self.desk = Some(Desk::new(stage, self.live.clone(), self.services.clone(), self.till.clone()));
        self.introduce_all();
        self.settled();
    }

    /// What another server asks of the owner.
    fn asked(&mut self, node: u64, asks: Vec<Ask>) {
        let heard_at = Instant::now();
        if self.given_up.remove(&node) {
            self.part.tell(Item::Again { node }, true);
        }
        self.elsewhere
            .entry(node)
            .or_insert_with(|| Elsewhere { heard_at, members: HashSet::new() })
            .heard_at = heard_at;
        for ask in asks {
            let new = |task: &mut Self, member: &MemberId| {
                task.elsewhere.get_mut(&node).is_some_and(|one| one.members.insert(*member))
            };
            match ask {
                Ask::Join { member, id, viewer, locale, resume } if new(self, &member) => {
                    self.stage(Input::Join { member, id, viewer: viewer.map(Into::into), locale, resume });
                }
                Ask::Back { member, viewer, locale } if new(self, &member) => {
                    self.stage(Input::Back { member, viewer: viewer.map(Into::into), locale });
                }
                Ask::Visit { member, viewer } if new(self, &member) => {
                    self.stage(Input::Visit { member, viewer: viewer.into() });
                }
                Ask::Join { .. } | Ask::Back { .. } | Ask::Visit { .. } | Ask::Here => {}
                Ask::Leave(member) => {
                    if let Some(one) = self.elsewhere.get_mut(&node) {
                        one.members.remove(&member);
                    }
                    self.stage(Input::Leave { member });
                }
                Ask::Request { member, text } => {
                    if let Ok((id, request)) = haul_wire::read_request(&text) {
                        self.stage(Input::Request { member, id, request });
                    }
                }
                Ask::Liked(likes) => self.stage(Input::Liked(likes)),
                Ask::Look { asker } => {
                    if let Some(desk) = &self.desk {
                        let look = desk.look();
                        self.part.tell(Item::Looked { asker, look }, true);
                    }
                }
                Ask::Order(order) => self.order(order, None),
                Ask::OrderChanged { order, refunded_minor } => self.order(order, Some(refunded_minor)),
                Ask::Bag => {
                    let (catalogue, live) = (self.services.catalogue.clone(), self.live.clone());
                    tokio::spawn(async move {
                        if let Ok(bag) = catalogue.listed_in(live.id()).await {
                            live.bag_changed(bag);
                        }
                    });
                }
                Ask::Record => {
                    let (ledger, live) = (self.services.ledger.clone(), self.live.clone());
                    tokio::spawn(async move {
                        if let Ok(Some(record)) = ledger.live(live.id()).await {
                            live.record_changed(record);
                        }
                    });
                }
                Ask::Sale { sale, released, offered } => {
                    self.stage(Input::Elsewhere { sale, released, offered });
                }
                Ask::Forget(buyer) => self.stage(Input::Forget { buyer }),
                Ask::Air(air) => self.air(node, air),
            }
            self.carry_out();
        }
    }

    fn air(&mut self, node: u64, air: Air) {
        match air {
            Air::On => self.on_air_at = Some(node),
            Air::Off if self.on_air_at == Some(node) => self.on_air_at = None,
            _ => {}
        }
        self.stage(match air {
            Air::On => Input::Broadcasting(true),
            Air::Off => Input::Broadcasting(self.on_air),
            Air::Stalled(stalled) => Input::Stalled(stalled),
            Air::OutOfOrder => Input::OutOfOrder,
            Air::SoundByMoqOnly => Input::SoundByMoqOnly,
        });
    }

    /// An order moved on elsewhere: the ledger knows.
    fn order(&self, order: OrderId, refunded_minor: Option<i64>) {
        let (ledger, live) = (self.services.ledger.clone(), self.live.clone());
        tokio::spawn(async move {
            match ledger.order(&order).await {
                Ok(Some(order)) => match refunded_minor {
                    Some(refunded_minor) => live.order_changed(order, refunded_minor),
                    None => {
                        let hold = match order.state {
                            OrderState::Sold => Some(Outcome::Sold),
                            OrderState::Expired => Some(Outcome::Released),
                            _ => None,
                        };
                        live.order_moved(order, hold);
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%order, %error, "an order that moved could not be read");
                    live.chore(Chore::Orders);
                }
            }
        });
    }
}

async fn make(sharing: &Sharing, live: &Live, call: Call) -> Result<Answer, BusError> {
    let Sharing { bus, node } = sharing;
    let live = live.gate().live();
    Ok(match call {
        Call::Lease { take, seen } => Answer::Lease(bus.lease(live, *node, take, seen, LEASE).await?),
        Call::Release { term } => {
            bus.release(live, term).await?;
            Answer::Released
        }
        Call::Append { term, batch } => Answer::Append(bus.append(live, *node, term, &batch, LEASE).await?),
        Call::Told { after, wait } => Answer::Told(bus.told(live, after, wait).await?),
        Call::Left => Answer::Left(bus.left(live).await?),
        Call::Ask(asked) => {
            bus.ask(live, &asked).await?;
            Answer::Ask
        }
        Call::Asked { after, wait } => {
            let (asked, end) = bus.asked(live, &after, wait).await?;
            Answer::Asked(asked, end)
        }
    })
}

/// What is left of a room, read. What can't be read is left out.
fn estate(left: Left) -> Estate {
    let Left { epoch, offset, lines, chat, changes } = left;
    let read = |texts: Vec<Vec<u8>>| -> Vec<Made> {
        texts.iter().filter_map(|text| serde_json::from_slice(text).ok()).collect()
    };
    let (mut made, changes) = (read(chat), read(changes));
    // By the place in the order; of the same place, what was said comes first, as what is done to it comes after.
    made.extend(changes);
    made.sort_by_key(|made| made.after);
    Estate { epoch, offset, lines: lines.into_iter().map(Line::from).collect(), made }
}

/// Which request a line answers.
fn reply_id(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Answer {
        id: Option<u64>,
    }
    serde_json::from_slice::<Answer>(line).ok()?.id
}

impl Drop for Task {
    fn drop(&mut self) {
        self.house.end_all(RESTART);
    }
}
