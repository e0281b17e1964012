//! One server's part in a live's room: whether it owns the room, how far it has heard, and what it has to say.
//!
//! Pure: it says which calls of the bus are due, takes their answers, and says what follows. Calls that were not answered
//! are made again; each has its effect once.

use std::time::{Duration, Instant};

use haul_commerce::{Appended, Batch, BusError, Changes, Lease, Left, Told};
use haul_model::{BuyerId, Now, UnixMillis};
use haul_room::News;

use super::{
    left::written,
    message::{Ask, Asking, Item, Telling},
};
use crate::house::Word;

/// How long a lease lasts without news of its owner: how long a room stands still when its server dies.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// An owner that has nothing to tell renews its lease so often.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// Another looks for a free lease so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When an owner has said that it goes: so many times, with such a pause.
const EAGER_LOOKS: u32 = 20;
const EAGER_PAUSE: Duration = Duration::from_millis(50);
/// How long to leave a bus alone that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long one reading waits for something to read.
const LISTEN: Duration = Duration::from_millis(500);
/// A server tells the owner so often that it is there.
const HERE_EVERY: Duration = Duration::from_secs(2);
/// How long servers have to hear what is told, before it goes with somebody who is forgotten.
pub(crate) const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// Words an owner may have waiting for a bus that does not answer; with more it gives the room up.
pub(crate) const MAX_WAITING: usize = 200_000;
/// Questions that may wait for the bus; further ones are not asked, which is told to who asks.
pub(crate) const MAX_ASKS: usize = 50_000;

/// The same of what viewers say.
pub(crate) const MAX_TALK: usize = 2_048;

/// Questions that go together.
const MAX_ASKED_AT_ONCE: usize = 512;

/// A call of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Lease {
        take: bool,
        seen: u64,
    },
    Release {
        term: u64,
    },
    Append {
        term: u64,
        batch: Batch,
    },
    Told {
        after: u64,
        wait: Duration,
    },
    Left,
    Ask(Vec<u8>),
    Asked {
        after: String,
        wait: Duration,
    },
    /// Take somebody out of what is left, and let go of what was told up to a batch and asked up to a place.
    Purge {
        term: u64,
        who: Vec<BuyerId>,
        told: u64,
        asked: String,
    },
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Lease(Lease),
    Released,
    Append(Appended),
    Told(Told),
    Left(Left),
    Ask,
    Asked(Vec<Vec<u8>>, String),
    Purged(Appended),
}

/// Which of the calls that may be under way side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Lease, telling and hearing.
    Main,
    /// Asking the owner.
    Mouth,
    /// Hearing what others ask.
    Ear,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// For the members here.
    Play(Word),
    /// Anything else an owner has told.
    Item(Item),
    /// A batch told at this time was heard.
    Heard(UnixMillis),
    /// There is an owner elsewhere, of whom this server hears from now on.
    Follow,
    /// This is the owner: begin with what is left of the room, then call [`Part::begin`].
    Load { term: u64, left: Left },
    /// It is the owner no more: what it has not told is void.
    Demoted,
    /// There is another owner: introduce who is here.
    Introduce,
    /// Something that was told here, or to be heard here, is lost: the members must come back.
    Reset,
    /// Questions of another server's.
    Asked { node: u64, asks: Vec<Ask> },
    /// The lease is given back.
    Released,
}

#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// Nothing is known yet.
    Looking,
    /// Another is the owner.
    Follower,
    /// The lease is ours; all up to this batch must be heard before it is begun.
    Heir {
        upto: u64,
        loading: bool,
    },
    Owner,
}

/// What an owner has to say.
#[derive(Debug, Default)]
struct Waiting {
    items: Vec<(Item, bool)>,
    lines: Vec<Vec<u8>>,
    changes: Changes,
    rewritten: Vec<(u64, Vec<u8>)>,
}

/// Somebody who is to be taken out of what is left, when this batch is told and it is that late.
#[derive(Debug)]
struct Due {
    who: BuyerId,
    told: u64,
    at: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Part {
    node: u64,
    role: Role,
    /// The highest term heard of.
    term: u64,
    /// The term of the owner that is followed.
    followed: u64,
    /// The last batch that was played here.
    played: u64,
    /// Whether `played` means anything yet.
    entered: bool,
    epoch: String,
    offset: u64,
    waiting: Waiting,
    /// Under way, or to be sent again.
    telling: Option<(Batch, Vec<Item>)>,
    /// Who is to be taken out of what is left, in their order, and how many of them are being so.
    purges: Vec<Due>,
    purging: usize,
    busy: [bool; 3],
    retry_at: [Option<Instant>; 3],
    looked_at: Option<Instant>,
    /// The owner goes away: for so many times, its lease is looked for more often.
    eager: u32,
    /// It is going away: it takes no lease, and gives back what it has.
    leaving: bool,
    asks: Vec<Ask>,
    /// What goes after all of them.
    talk: Vec<Ask>,
    asking: Option<Vec<u8>>,
    asked_number: u64,
    here_at: Option<Instant>,
    /// How far others' questions were heard, and of each server which.
    ear: String,
    heard: std::collections::HashMap<u64, u64>,
}

impl Part {
    pub(crate) fn new(node: u64) -> Self {
        Self {
            node,
            role: Role::Looking,
            term: 0,
            followed: 0,
            played: 0,
            entered: false,
            epoch: String::new(),
            offset: 0,
            waiting: Waiting::default(),
            telling: None,
            purges: Vec::new(),
            purging: 0,
            busy: [false; 3],
            retry_at: [None; 3],
            looked_at: None,
            eager: 0,
            leaving: false,
            asks: Vec::new(),
            talk: Vec::new(),
            asking: None,
            asked_number: 0,
            here_at: None,
            ear: String::new(),
            heard: std::collections::HashMap::new(),
        }
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.role == Role::Owner
    }

    pub(crate) fn is_follower(&self) -> bool {
        self.role == Role::Follower
    }

    /// The room's epoch, as far as it is known.
    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// It is going away.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
        if self.is_owner() {
            self.waiting.items.push((Item::Free, true));
        }
    }

    /// The room is loaded for this term, and stands there: from here on this is the owner, unless the term is over.
    pub(crate) fn begin(&mut self, term: u64, epoch: String, offset: u64) {
        if term == self.term && matches!(self.role, Role::Heir { loading: true, .. }) {
            self.role = Role::Owner;
            (self.epoch, self.offset) = (epoch, offset);
            self.waiting = Waiting::default();
            self.waiting.items.push((Item::Owner { term: self.term }, true));
            if self.leaving {
                self.waiting.items.push((Item::Free, true));
            }
            self.ear = String::new();
            self.heard.clear();
            self.forget_asks();
        }
    }

    /// The room could not be loaded: try again in a while.
    pub(crate) fn not_loaded(&mut self, term: u64, now: Now) {
        if term == self.term
            && let Role::Heir { loading, .. } = &mut self.role
        {
            *loading = false;
            self.retry_at[Lane::Main as usize] = Some(now.instant + LOOK_EVERY);
        }
    }

    /// Something for the members; `elsewhere`: also for those of other servers.
    pub(crate) fn tell(&mut self, item: Item, elsewhere: bool) {
        if self.is_owner() {
            self.waiting.items.push((item, elsewhere));
        }
    }

    /// Takes somebody out of what is left to heirs, once all is told that was told so far, and had time to be heard.
    pub(crate) fn purge(&mut self, who: BuyerId, now: Now) {
        if self.is_owner() {
            let last = self.telling.as_ref().map_or(self.played, |(batch, _)| batch.number);
            let told = last + u64::from(!self.waiting.is_empty());
            self.purges.push(Due { who, told, at: now.instant + HEARD_WITHIN });
        }
    }

    /// What the room has become: written down no later than it is told.
    pub(crate) fn write(&mut self, news: News, epoch: String, offset: u64) {
        if !self.is_owner() {
            return;
        }
        (self.epoch, self.offset) = (epoch, offset);
        self.waiting.lines.extend(news.lines.iter().map(|line| line.to_vec()));
        self.waiting.rewritten.extend(news.rewritten.iter().map(|(place, line)| (*place, line.to_vec())));
        written(&mut self.waiting.changes, &news.made);
    }

    /// Whether more waits for the bus than may: the room is to be given up.
    pub(crate) fn is_overfull(&self) -> bool {
        self.waiting.items.len() > MAX_WAITING
    }

    /// Gives the room up.
    pub(crate) fn give_up(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        self.demote(&mut acts);
        acts.push(Act::Reset);
        acts
    }

    /// A question for the owner. False where too many wait.
    #[must_use]
    pub(crate) fn ask(&mut self, ask: Ask) -> bool {
        if !self.is_follower() || self.asks.len() >= MAX_ASKS {
            return false;
        }
        self.asks.push(ask);
        true
    }

    /// Something for the owner that may wait behind all other questions. False where too much of that waits.
    #[must_use]
    pub(crate) fn ask_later(&mut self, ask: Ask) -> bool {
        if !self.is_follower() || self.talk.len() >= MAX_TALK {
            return false;
        }
        self.talk.push(ask);
        true
    }

    fn forget_asks(&mut self) {
        self.asks.clear();
        self.talk.clear();
        self.asking = None;
    }

    /// What may be done without the bus, and which calls are due.
    pub(crate) fn due(&mut self, now: Now) -> (Vec<Act>, Vec<(Lane, Call)>) {
        let mut acts = Vec::new();
        let mut calls = Vec::new();
        for lane in [Lane::Main, Lane::Mouth, Lane::Ear] {
            if self.busy[lane as usize] || self.retry_at[lane as usize].is_some_and(|at| at > now.instant) {
                continue;
            }
            let call = match lane {
                Lane::Main => self.main_call(now, &mut acts),
                Lane::Mouth => self.mouth_call(now),
                Lane::Ear => self.is_owner().then(|| Call::Asked { after: self.ear.clone(), wait: LISTEN }),
            };
            if let Some(call) = call {
                self.busy[lane as usize] = true;
                self.retry_at[lane as usize] = None;
                calls.push((lane, call));
            }
        }
        (acts, calls)
    }

    /// When [`Part::due`] wants to be called, if nothing else happens.
    pub(crate) fn next_timeout(&self, now: Now) -> Instant {
        let looked = self.looked_at.unwrap_or(now.instant);
        let regular = match self.role {
            Role::Owner | Role::Heir { .. } => looked + RENEW_EVERY,
            Role::Looking | Role::Follower => looked + LOOK_EVERY,
        };
        let here = self.here_at.filter(|_| self.is_follower());
        let purge = self.purges.first().map(|due| due.at);
        let retries = self.retry_at.iter().flatten().copied();
        // Of what is past already, nothing is due before the call that is under way is answered.
        retries
            .chain(here)
            .chain(purge)
            .chain([regular])
            .filter(|at| *at > now.instant)
            .min()
            .unwrap_or(now.instant + LOOK_EVERY)
    }

    fn main_call(&mut self, now: Now, acts: &mut Vec<Act>) -> Option<Call> {
        let looked_at = self.looked_at;
        let looked_long_ago =
            |every: Duration| looked_at.is_none_or(|at| now.instant.saturating_duration_since(at) >= every);
        let lease = Call::Lease { take: !self.leaving, seen: self.term };
        match self.role {
            Role::Looking => Some(lease),
            Role::Follower if looked_long_ago(LOOK_EVERY) => Some(lease),
            Role::Follower => Some(Call::Told { after: self.played, wait: LISTEN }),
            Role::Heir { .. } if looked_long_ago(RENEW_EVERY) => Some(lease),
            Role::Heir { upto, .. } if self.played < upto => {
                Some(Call::Told { after: self.played, wait: Duration::ZERO })
            }
            Role::Heir { loading: true, .. } => None,
            Role::Heir { .. } => Some(Call::Left),
            Role::Owner => {
                let is_due = |due: &Due| due.told <= self.played && due.at <= now.instant;
                let due: Vec<&Due> = self.purges.iter().take_while(|due| is_due(due)).collect();
                if self.telling.is_none()
                    && let Some(last) = due.last()
                {
                    let (who, told) = (due.iter().map(|due| due.who.clone()).collect(), last.told);
                    self.purging = due.len();
                    return Some(Call::Purge { term: self.term, who, told, asked: self.ear.clone() });
                }
                if self.telling.is_none() && !self.waiting.is_empty() {
                    self.next_batch(now, acts);
                }
                match &self.telling {
                    Some((batch, _)) => Some(Call::Append { term: self.term, batch: batch.clone() }),
                    None if self.leaving => Some(Call::Release { term: self.term }),
                    None => looked_long_ago(RENEW_EVERY).then_some(lease),
                }
            }
        }
    }

    /// Takes what waits into the next batch; what concerns nobody else is played at once.
    fn next_batch(&mut self, now: Now, acts: &mut Vec<Act>) {
        let Waiting { items, lines, changes, rewritten } = std::mem::take(&mut self.waiting);
        let shared = items.iter().any(|(_, elsewhere)| *elsewhere);
        if !shared && lines.is_empty() && changes.is_empty() && rewritten.is_empty() {
            play(items.into_iter().map(|(item, _)| item), acts);
            return;
        }
        let told: Vec<Item> =
            items.iter().filter(|(_, elsewhere)| *elsewhere).map(|(item, _)| item.clone()).collect();
        let telling = Telling { at: now.wall, items: told };
        let batch = Batch {
            number: self.played + 1,
            told: serde_json::to_vec(&telling).unwrap_or_default(),
            epoch: self.epoch.clone(),
            offset: self.offset,
            lines,
            changes,
            rewritten,
        };
        self.telling = Some((batch, items.into_iter().map(|(item, _)| item).collect()));
    }

    fn mouth_call(&mut self, now: Now) -> Option<Call> {
        if !self.is_follower() || self.followed == 0 {
            return None;
        }
        if self.here_at.is_none_or(|at| at <= now.instant) {
            self.here_at = Some(now.instant + HERE_EVERY);
            self.asks.push(Ask::Here);
        }
        if self.asking.is_none() && !(self.asks.is_empty() && self.talk.is_empty()) {
            self.asked_number += 1;
            let mut asks: Vec<_> = self.asks.drain(..self.asks.len().min(MAX_ASKED_AT_ONCE)).collect();
            let room = MAX_ASKED_AT_ONCE - asks.len();
            asks.extend(self.talk.drain(..self.talk.len().min(room)));
            let asking = Asking { node: self.node, term: self.followed, number: self.asked_number, asks };
            self.asking = serde_json::to_vec(&asking).ok();
        }
        self.asking.clone().map(Call::Ask)
    }

    /// A call's answer.
    pub(crate) fn answered(&mut self, lane: Lane, answer: Result<Answer, BusError>, now: Now) -> Vec<Act> {
        self.busy[lane as usize] = false;
        let mut acts = Vec::new();
        match answer {
            Err(BusError::NoAnswer(_)) => self.retry_at[lane as usize] = Some(now.instant + RETRY_AFTER),
            Ok(Answer::Lease(lease)) => self.leased(lease, now, &mut acts),
            Ok(Answer::Released) => {
                self.role = Role::Follower;
                acts.push(Act::Released);
                acts.push(Act::Demoted);
            }
            Ok(Answer::Append(Appended::Done)) => {
                if let Some((batch, items)) = self.telling.take() {
                    self.played = batch.number;
                    self.looked_at = Some(now.instant);
                    play(items, &mut acts);
                }
            }
            Ok(Answer::Append(Appended::Fenced) | Answer::Purged(Appended::Fenced)) => self.demote(&mut acts),
            Ok(Answer::Purged(Appended::Done)) => {
                self.looked_at = Some(now.instant);
                self.purges.drain(..std::mem::take(&mut self.purging));
            }
            Ok(Answer::Told(told)) => self.hear(told, &mut acts),
            Ok(Answer::Left(left)) => {
                if let Role::Heir { loading, .. } = &mut self.role {
                    *loading = true;
                    acts.push(Act::Load { term: self.term, left });
                }
            }
            Ok(Answer::Ask) => self.asking = None,
            Ok(Answer::Asked(asked, end)) => {
                self.ear = end;
                if self.is_owner() {
                    for asked in asked {
                        self.asked(&asked, &mut acts);
                    }
                }
            }
        }
        acts
    }

    fn leased(&mut self, lease: Lease, now: Now, acts: &mut Vec<Act>) {
        let Lease { mine, term, batch, epoch } = lease;
        self.looked_at = Some(now.instant);
        if !self.is_owner() {
            self.epoch = epoch;
        }
        // What was told is gone, or nothing was heard of it: the members here have a past that nobody knows.
        if batch < self.played {
            self.played = 0;
            acts.push(Act::Reset);
        }
        if !self.entered {
            (self.entered, self.played) = (true, batch);
        }
        let owned = matches!(self.role, Role::Owner | Role::Heir { .. });
        match (mine, owned) {
            (true, true) if term == self.term => {}
            (true, true) => {
                // It was lost meanwhile, and is ours again.
                self.demote(acts);
                self.inherit(term, batch);
            }
            (true, false) => self.inherit(term, batch),
            (false, true) => {
                self.demote(acts);
                self.follow(term, acts);
            }
            (false, false) => {
                self.follow(term, acts);
                if self.eager > 0 {
                    self.eager -= 1;
                    self.looked_at = None;
                    self.retry_at[Lane::Main as usize] = Some(now.instant + EAGER_PAUSE);
                }
            }
        }
    }

    fn inherit(&mut self, term: u64, upto: u64) {
        self.term = term;
        self.role = Role::Heir { upto, loading: false };
    }

    fn follow(&mut self, term: u64, acts: &mut Vec<Act>) {
        self.term = self.term.max(term);
        if self.role == Role::Looking {
            self.role = Role::Follower;
            // Whoever comes while the owner begins is introduced when it says that it has begun.
            self.followed = if self.followed == 0 { term } else { self.followed };
            acts.push(Act::Follow);
        }
    }

    fn demote(&mut self, acts: &mut Vec<Act>) {
        if matches!(self.role, Role::Owner | Role::Heir { .. }) {
            acts.push(Act::Demoted);
        }
        self.role = Role::Looking;
        self.waiting = Waiting::default();
        self.telling = None;
        self.purges.clear();
        self.purging = 0;
    }

    fn hear(&mut self, told: Told, acts: &mut Vec<Act>) {
        if let Role::Heir { upto, .. } = self.role
            && told.is_empty()
            && self.played < upto
        {
            // What was told is kept no more.
            self.played = upto;
            acts.push(Act::Reset);
        }
        for (number, text) in told {
            if number <= self.played || self.is_owner() {
                continue;
            }
            if number > self.played + 1 {
                acts.push(Act::Reset);
            }
            self.played = number;
            let Ok(Telling { at, items }) = serde_json::from_slice(&text) else {
                acts.push(Act::Reset);
                continue;
            };
            acts.push(Act::Heard(at));
            for item in items {
                match item {
                    // Whom it was introduced to already, while it began.
                    Item::Owner { term } if term == self.followed => {}
                    Item::Owner { term } => {
                        self.term = self.term.max(term);
                        self.followed = term;
                        self.eager = 0;
                        self.forget_asks();
                        acts.push(Act::Introduce);
                    }
                    // The lease is given back in a moment.
                    Item::Free => (self.looked_at, self.eager) = (None, EAGER_LOOKS),
                    item => play([item], acts),
                }
            }
        }
    }

    fn asked(&mut self, asked: &[u8], acts: &mut Vec<Act>) {
        let Ok(Asking { node, term, number, asks }) = serde_json::from_slice(asked) else { return };
        let heard = self.heard.entry(node).or_default();
        if term != self.term || number <= *heard || node == self.node {
            return;
        }
        *heard = number;
        acts.push(Act::Asked { node, asks });
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        let Self { items, lines, changes, rewritten } = self;
        items.is_empty() && lines.is_empty() && changes.is_empty() && rewritten.is_empty()
    }
}

fn play(items: impl IntoIterator<Item = Item>, acts: &mut Vec<Act>) {
    for item in items {
        acts.push(match item {
            Item::Word(word) => Act::Play(word),
            item => Act::Item(item),
        });
    }
}
