//! The task of a live whose room several servers share.

mod here;
mod owning;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use haul_commerce::{BusError, Kept};
use haul_model::BuyerId;
use haul_room::Lane as Importance;
use haul_wire::Request;
use tokio::sync::{mpsc, oneshot};

use self::{
    here::Guest,
    owning::{Elsewhere, Loaded},
};
use super::{
    left::purged,
    message::{Ask, Item},
    part::{Act, Answer, Call, LEASE, Lane, Part},
    sharing::Sharing,
};
use crate::{
    Services,
    desk::Desk,
    house::{House, Word},
    likes::LIKES_AFTER,
    live::{Live, Look, Post},
    now,
    owner::{RESTART, watch_broadcasts},
    requests::{Asked, Turn},
    stage::{Delivery, Input, MemberId, To},
    till::Till,
};

/// A request that the owner has not answered for so long is answered with "pending": ask again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
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

/// Something that was waited for.
enum News {
    Answered(Lane, Result<Answer, BusError>),
    Loaded(u64, Option<Loaded>),
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
    /// Who is to be forgotten, and is not known to be yet.
    forgets: Vec<(BuyerId, oneshot::Sender<()>)>,
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
        forgets: Vec::new(),
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

    fn stage(&mut self, input: Input) {
        if let Some(desk) = &mut self.desk {
            desk.stage.handle(input, now());
        }
    }

    fn ask(&mut self, ask: Ask) -> bool {
        self.part.ask(ask)
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
            News::Loaded(term, Some(loaded)) => self.begin(term, loaded),
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
                Act::Item(Item::Forgot(buyer)) => {
                    for (_, done) in self.forgets.extract_if(.., |(waiting, _)| *waiting == buyer) {
                        let _ = done.send(());
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
        Call::Purge { term, who, told, asked } => {
            let kept = Kept { changes: purged(bus.left(live).await?.changes, &who), told, asked };
            Answer::Purged(bus.replace(live, *node, term, &kept, LEASE).await?)
        }
        Call::Asked { after, wait } => {
            let (asked, end) = bus.asked(live, &after, wait).await?;
            Answer::Asked(asked, end)
        }
    })
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
