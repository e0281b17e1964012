//! What many do at once, told as sums; and private threads.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use haul_model::{BuyerId, MessageId, Now, Role};
use haul_wire::{
    Event,
    crowd::{CrowdNews, Reaction, ThreadLine, ThreadMessage},
};
use serde::{Deserialize, Serialize};

use crate::{
    Key, Lane,
    change::Change,
    chat::{Refused, clean},
    guard::Writer,
    room::{At, Audience, Effect, Find, Room},
};

/// Likes of one message at most; more count as so many.
pub const MAX_LIKES_AT_ONCE: u32 = 20;
/// Threads of one live. Where there is another, the one goes that the host's team has answered and that has rested longest;
/// where none is answered, a viewer's is refused, and the team's takes the place of the one that has rested longest.
pub const MAX_THREADS: usize = 1_000;
/// Messages of a thread that are kept; older ones go.
pub const MAX_THREAD: usize = 50;
/// Messages of their thread that a newcomer is shown; more can be asked for.
pub const MAX_THREAD_SHOWN: usize = 20;
/// Threads that the host's team is shown, the newest.
pub const MAX_THREADS_SHOWN: usize = 40;
/// Likes are told so often.
const LIKES_EVERY: Duration = Duration::from_secs(1);
/// Who has come is told so often.
const JOINED_EVERY: Duration = Duration::from_secs(2);
const NAMES_SHOWN: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) likes: u64,
    pub(crate) peak: u64,
    new: BTreeMap<Reaction, u32>,
    likes_at: Option<Instant>,
    names: Vec<String>,
    others: u32,
    joined_at: Option<Instant>,
}

impl Crowd {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.likes_at, self.joined_at].into_iter().flatten().min()
    }
}

/// A private thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Thread {
    name: String,
    messages: VecDeque<ThreadMessage>,
    /// The last client ids and what became of them.
    #[serde(default)]
    sent: VecDeque<(BuyerId, String, MessageId)>,
}

/// All of them, by person.
pub(crate) type Threads = HashMap<BuyerId, Thread>;

impl Room {
    /// Likes since the room began.
    pub fn likes(&self) -> u64 {
        self.crowd.likes
    }

    /// The most who watched at once, as last told.
    pub fn peak(&self) -> u64 {
        self.crowd.peak
    }

    /// So many watched at once, and everybody is told: whoever takes the room over knows of it, too.
    pub fn peaked(&mut self, viewers: u64) {
        if viewers > self.crowd.peak {
            self.crowd.peak = viewers;
            self.note_fresh(&Change::Peaked { viewers });
        }
    }

    /// Somebody likes what is seen.
    pub fn like(&mut self, kind: Reaction, count: u32, now: Now) {
        self.liked(BTreeMap::from([(kind, count.clamp(1, MAX_LIKES_AT_ONCE))]), now);
    }

    /// Many have liked what is seen.
    pub fn liked(&mut self, likes: BTreeMap<Reaction, u32>, now: Now) {
        for (kind, count) in likes {
            self.crowd.likes += u64::from(count);
            let new = self.crowd.new.entry(kind).or_default();
            *new = new.saturating_add(count);
            self.crowd.likes_at.get_or_insert(now.instant + LIKES_EVERY);
        }
    }

    /// Somebody has come.
    pub fn joined(&mut self, name: &str, now: Now) {
        if self.crowd.names.len() < NAMES_SHOWN && !self.crowd.names.iter().any(|known| known == name) {
            self.crowd.names.push(name.to_owned());
        } else {
            self.crowd.others = self.crowd.others.saturating_add(1);
        }
        self.crowd.joined_at.get_or_insert(now.instant + JOINED_EVERY);
    }

    pub(crate) fn crowd_timeout(&mut self, now: Instant) {
        if self.crowd.likes_at.take_if(|at| *at <= now).is_some() {
            let new = std::mem::take(&mut self.crowd.new);
            self.note_fresh(&Change::Liked { total: self.crowd.likes });
            let line = self.order.line(&Event::Crowd(CrowdNews::Likes { total: self.crowd.likes, new }));
            let key = Some(Key::Likes);
            self.effects.push_back(Effect::Tell { to: Audience::All, lane: Lane::Ambient, key, line });
        }
        if self.crowd.joined_at.take_if(|at| *at <= now).is_some() {
            let names = std::mem::take(&mut self.crowd.names);
            let others = std::mem::take(&mut self.crowd.others);
            let line = self.order.line(&Event::Crowd(CrowdNews::Joined { names, others }));
            let key = Some(Key::Joined);
            self.effects.push_back(Effect::Tell { to: Audience::All, lane: Lane::Ambient, key, line });
        }
    }

    /// Somebody's private thread, oldest first.
    pub fn thread(&self, of: &BuyerId) -> Vec<ThreadMessage> {
        self.threads.get(of).map(|thread| thread.messages.iter().cloned().collect()).unwrap_or_default()
    }

    /// A page of all threads, newest first, for the host's team: those whose last message is older than this one.
    pub fn thread_lines(&self, before: Option<&MessageId>) -> Vec<ThreadLine> {
        let mut lines: Vec<_> = self
            .threads
            .iter()
            .filter_map(|(user_id, thread)| {
                let last = thread.messages.back()?.clone();
                if before.is_some_and(|before| last.id >= *before) {
                    return None;
                }
                Some(ThreadLine { user_id: user_id.clone(), user_name: thread.name.clone(), last })
            })
            .collect();
        lines.sort_by(|a, b| b.last.id.cmp(&a.last.id));
        lines.truncate(MAX_THREADS_SHOWN);
        lines
    }

    /// Whose thread somebody may read.
    pub fn may_read_thread(&self, who: &Writer, of: Option<BuyerId>) -> Result<BuyerId, Refused> {
        match of {
            Some(of) if of != who.id => who.need(Role::Moderator).map(|()| of),
            _ => Ok(who.id.clone()),
        }
    }

    /// Somebody writes in a thread; the message's id.
    pub fn write_thread(
        &mut self,
        who: &Writer,
        to: Option<BuyerId>,
        text: &str,
        client_id: Option<String>,
        at: At,
        find: Find<'_>,
    ) -> Result<MessageId, Refused> {
        let text = clean(text)?;
        let from_team = who.is_staff();
        let of = match (to, from_team) {
            (Some(of), true) => of,
            (None, true) => return Err(Refused::Field("user_id: expected whom it is for")),
            (to, false) => self.may_read_thread(who, to)?,
        };
        if let (Some(thread), Some(client_id)) = (self.threads.get(&of), &client_id) {
            let sent = thread.sent.iter().find(|(by, sent, _)| *by == who.id && sent == client_id);
            if let Some((_, _, id)) = sent {
                return Ok(id.clone());
            }
        }
        // As with the retry of what is written already.
        let waits = self.intents.again(|change| match change {
            Change::Wrote { of: other, by, client_id: sent, message, .. } => {
                (client_id.is_some() && *other == of && *by == who.id && *sent == client_id)
                    .then(|| message.id.clone())
            }
            _ => None,
        });
        if let Some(id) = waits {
            return Ok(id);
        }
        // Who may not write in public may still ask why: only a ban closes this way, too.
        if !from_team {
            self.guard.may_write_privately(who, at.now)?;
        }
        let name = match from_team {
            false => who.name.clone(),
            true => match self.threads.get(&of) {
                Some(thread) => thread.name.clone(),
                None => self.name_of(&of, find).ok_or(Refused::NoSuch("user_id"))?,
            },
        };
        if !from_team && self.thread_to_go(&of, false).is_some_and(|gone| gone.is_none()) {
            return Err(Refused::NotNow("the host's team has more to answer than it can: try again later"));
        }
        let id = MessageId::generate("msg_", at.now.wall, at.random);
        let message =
            ThreadMessage { id: id.clone(), name: who.name.clone(), from_team, text, at: at.now.wall };
        self.propose(Change::Wrote { of, name, by: who.id.clone(), client_id, message }, at.now)?;
        Ok(id)
    }

    /// Whose thread must go for another; `Some(None)` where one must and none may.
    fn thread_to_go(&self, other: &BuyerId, from_team: bool) -> Option<Option<BuyerId>> {
        if self.threads.len() < MAX_THREADS || self.threads.contains_key(other) {
            return None;
        }
        let rests = |(_, thread): &(&BuyerId, &Thread)| thread.messages.back().map(|last| last.at);
        let answered = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.messages.back().is_none_or(|last| last.from_team));
        let oldest = answered.min_by_key(rests);
        let oldest = oldest.or_else(|| self.threads.iter().filter(|_| from_team).min_by_key(rests));
        Some(oldest.map(|(who, _)| who.clone()))
    }

    pub(crate) fn wrote(
        &mut self,
        of: BuyerId,
        name: String,
        by: BuyerId,
        client_id: Option<String>,
        message: ThreadMessage,
    ) {
        if let Some(Some(gone)) = self.thread_to_go(&of, true) {
            self.threads.remove(&gone);
            self.forget(format!("thread/{gone}"));
        }
        let thread = self.threads.entry(of.clone()).or_insert_with(|| Thread {
            name: name.clone(),
            messages: VecDeque::new(),
            sent: VecDeque::new(),
        });
        if let Some(client_id) = client_id {
            if thread.sent.len() == MAX_THREAD {
                thread.sent.pop_front();
            }
            thread.sent.push_back((by, client_id, message.id.clone()));
        }
        if thread.messages.len() == MAX_THREAD {
            thread.messages.pop_front();
        }
        thread.messages.push_back(message.clone());
        let kept = thread.clone();
        self.keep(format!("thread/{of}"), &kept);
        let news = CrowdNews::Thread { user_id: of.clone(), user_name: name, message };
        let line = self.order.line(&Event::Crowd(news));
        self.tell(Audience::Person(of), Lane::Room, line.clone());
        self.tell(Audience::Staff, Lane::Room, line);
    }

    pub(crate) fn restore_thread(&mut self, of: &str, text: &str) {
        if let (Ok(of), Ok(thread)) = (of.parse(), serde_json::from_str(text)) {
            self.threads.insert(of, thread);
        }
    }
}
