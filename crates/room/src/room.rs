//! A live's room: who says what, in one order that everybody sees.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use haul_model::{BuyerId, GiveawayId, MessageId, Now, PollId, Role, UnixMillis};
use haul_wire::{
    ChatAsk, ChatLine, ChatNews, ChatRules, Event, LogAction, LogEntry, Measure, Moderation, Pin, Position,
    Quote, Restricted, Standing,
    show::{Announcement, ShowAsk},
};

use crate::{
    Key, Lane,
    change::{Change, Note},
    chat::{Refused, clean, clean_to},
    crowd::{Crowd, Threads},
    giveaway::{Drawing, Due},
    guard::{Guard, MAX_LOG, MAX_MEASURE_MS, MAX_SLOW, Writer},
    intents::{Intents, is_intent},
    limiter::Rate,
    order::Order,
    poll::Polling,
    questions::Questions,
    said::Said,
    sampler::Sampler,
    words::{MAX_WORDS, changed},
};

/// An event or reply as it goes on the wire: encoded once, shared by all who get it.
pub type Line = Bytes;

/// When and by what chance something is done.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// This machine's clocks.
    pub now: Now,
    /// Fresh random bits; what is made of them may be seen.
    pub random: u128,
    /// Others, which never are before their time.
    pub secret: u128,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    All,
    /// Host and moderators.
    Staff,
    /// One person, wherever they are connected.
    Person(BuyerId),
}

/// What the owner of the room is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Hand a line over.
    Tell {
        /// To whom.
        to: Audience,
        /// How important.
        lane: Lane,
        /// What it is about, where only the latest matters.
        key: Option<Key>,
        /// The line.
        line: Line,
    },
    /// End somebody's connections, and those of other guests of their network: they may not be here.
    End {
        /// Whose.
        who: BuyerId,
        /// Those only that have a lower role than this.
        below: Role,
    },
    /// Keep something for the next start.
    Keep(Note),
    /// Write this down, and then say so: [`Room::written`].
    Write {
        /// With this number.
        number: u64,
        /// What.
        note: Note,
    },
}

/// What a request about chat came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is said.
    Said(MessageId),
    /// It has entered its writer in the giveaway.
    Entered {
        /// It is said too, or waits for its turn.
        message_id: Option<MessageId>,
        /// The entry's ticket.
        ticket: String,
    },
    /// The rules now.
    Rules(ChatRules),
    /// The list of words.
    Words(Vec<String>),
    /// The log.
    Moderation(Moderation),
}

/// What a request about announcements, polls and giveaways came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It is done.
    Done,
    /// A poll is open.
    Poll(PollId),
    /// A giveaway is open.
    Giveaway(GiveawayId),
    /// Somebody has entered, with this ticket.
    Ticket(String),
}

/// Finds somebody who is here by id: their name and role.
pub type Find<'a> = &'a dyn Fn(&BuyerId) -> Option<(String, Role)>;

/// Chat, the pin, and the order of events.
#[derive(Debug)]
pub struct Room {
    pub(crate) order: Order,
    pub(crate) guard: Guard,
    said: Said,
    /// Lines that wait where there are too many.
    loud: Sampler<Change>,
    pub(crate) questions: Questions,
    pub(crate) announcement: Option<Announcement>,
    pub(crate) polling: Option<Polling>,
    pub(crate) drawing: Option<Drawing>,
    /// Drawn giveaways that are out of sight and may still be claimed, oldest first.
    pub(crate) drawn_before: VecDeque<Drawing>,
    pub(crate) giveaway_due: Due,
    pub(crate) crowd: Crowd,
    pub(crate) threads: Threads,
    pub(crate) intents: Intents,
    chat_pin: Option<ChatLine>,
    /// Who said it.
    chat_pin_by: Option<BuyerId>,
    /// Where the event that pinned it stands in the order.
    chat_pinned_at: u64,
    pin: Option<Pin>,
    /// Changes since they were last asked for, each with the place of the last event before it, where somebody asks.
    pub(crate) fresh: Option<Vec<(u64, Change)>>,
    /// It goes on with what another process has left, and knows more than notes do.
    pub(crate) inherited: bool,
    /// Numbers the log's notes.
    noted: u64,
    pub(crate) effects: VecDeque<Effect>,
}

impl Room {
    /// An empty room. `epoch` must differ from that of any room of the same live before it.
    pub fn new(epoch: String, chat_rate: Rate) -> Self {
        Self {
            order: Order::new(epoch),
            guard: Guard::new(chat_rate),
            said: Said::default(),
            loud: Sampler::default(),
            questions: Questions::default(),
            announcement: None,
            polling: None,
            drawing: None,
            drawn_before: VecDeque::new(),
            giveaway_due: Due::default(),
            crowd: Crowd::default(),
            threads: Threads::default(),
            intents: Intents::default(),
            chat_pin: None,
            chat_pin_by: None,
            chat_pinned_at: 0,
            pin: None,
            fresh: None,
            inherited: false,
            noted: 0,
            effects: VecDeque::new(),
        }
    }

    /// Takes up what was kept of an earlier room of the same live. What can't be read is left out.
    pub fn restore(&mut self, notes: Vec<Note>, now: Now) {
        let mut log = Vec::new();
        let (intents, notes): (Vec<_>, Vec<_>) = notes.into_iter().partition(|note| is_intent(&note.name));
        for Note { name, text } in notes {
            let Some(text) = text else { continue };
            match name.split_once('/') {
                Some(("standing", user)) => {
                    let Ok(restricted) = serde_json::from_str::<Restricted>(&text) else { continue };
                    if restricted.standing.until.is_some_and(|until| until <= now.wall) {
                        self.forget(format!("standing/{user}"));
                    } else {
                        self.guard.put(restricted, now.wall);
                    }
                }
                Some(("log", _)) => {
                    log.extend(serde_json::from_str::<LogEntry>(&text).ok().map(|entry| (name, entry)))
                }
                Some(("thread", of)) => self.restore_thread(of, &text),
                Some(("giveaway", _)) => self.restore_drawn(name, &text, now),
                Some(("question", _)) => self.restore_question(name, &text),
                Some(("chat_pin", _)) => self.restore_chat_pin(name, &text),
                _ if name == "poll" => self.restore_poll(&text, now),
                _ if name == "announcement" => self.restore_announcement(&text),
                _ if name == "giveaway" => self.restore_giveaway(&text, now),
                _ if name == "rules" => {
                    if let Ok(rules) = serde_json::from_str(&text) {
                        self.guard.set_rules(rules);
                    }
                }
                _ if name == "words" => {
                    if let Ok(words) = serde_json::from_str::<Vec<String>>(&text) {
                        self.guard.words.change(&words, &[]);
                    }
                }
                _ => {}
            }
        }
        log.sort_by(|(a, _), (b, _)| a.cmp(b));
        let too_many = log.len().saturating_sub(MAX_LOG);
        for (name, _) in log.drain(..too_many) {
            self.forget(name);
        }
        self.guard.log = log.into_iter().map(|(_, entry)| entry).collect();
        self.make_up_for(intents, now);
    }

    /// What to do next, until there is nothing more.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Where a reader of everything so far stands.
    pub fn position(&self) -> (&str, u64) {
        self.order.position()
    }

    /// The last chat lines that somebody may see, oldest first.
    pub fn chat(&self, reader: Option<&BuyerId>, staff: bool) -> Vec<ChatLine> {
        self.said.last(reader, staff)
    }

    /// The chat line that is kept in sight.
    pub fn chat_pin(&self) -> Option<&ChatLine> {
        self.chat_pin.as_ref()
    }

    /// The rules of the chat.
    pub fn rules(&self) -> ChatRules {
        self.guard.rules
    }

    /// What is in force against somebody, as they may know it.
    pub fn standing(&self, who: &BuyerId, role: Role, now: UnixMillis) -> Option<Standing> {
        self.guard.standing(who, role, now).filter(|standing| standing.measure != Measure::ShadowBan).cloned()
    }

    /// Whether somebody may not be here.
    pub fn is_banned(&self, who: &BuyerId, role: Role, now: UnixMillis) -> bool {
        self.guard.standing(who, role, now).is_some_and(|standing| standing.measure == Measure::Ban)
    }

    /// Whether somebody may choose this name, by the rules of the chat.
    pub fn may_be_called(&self, name: &str) -> Result<(), Refused> {
        self.guard.may_be_called(name)
    }

    /// What is pinned.
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// Does what somebody asks about chat.
    pub fn ask(&mut self, who: &Writer, ask: ChatAsk, at: At, find: Find<'_>) -> Result<Answer, Refused> {
        match ask {
            ChatAsk::Send { text, client_id, reply_to } => self.send(who, &text, client_id, reply_to, at),
            ChatAsk::Delete { message_id } => self.delete(who, message_id, at),
            ChatAsk::Pin { message_id } => {
                who.need(Role::Moderator)?;
                let said = self.said.get(&message_id).filter(|said| !said.hidden);
                let said = said.ok_or(Refused::NoSuch("message_id"))?;
                let (line, by) = (Some(said.line.clone()), Some(said.by.clone()));
                if self.pin_waits() != Some(Some(message_id)) {
                    self.propose(Change::ChatPinned { line, by }, at.now)?;
                }
                Ok(Answer::Done)
            }
            ChatAsk::Unpin => {
                who.need(Role::Moderator)?;
                let waits = self.pin_waits();
                if waits.unwrap_or_else(|| self.chat_pin.as_ref().map(|line| line.id.clone())).is_some() {
                    self.propose(Change::ChatPinned { line: None, by: None }, at.now)?;
                }
                Ok(Answer::Done)
            }
            ChatAsk::SetRules { slow_ms, who: writers, links, repeats } => {
                who.need(Role::Moderator)?;
                if slow_ms.is_some_and(|slow| u128::from(slow) > MAX_SLOW.as_millis()) {
                    return Err(Refused::Field("slow_ms: expected at most 600000"));
                }
                let decided = self.intents.pending().rev().find_map(|change| match change {
                    Change::Rules { rules, .. } => Some(*rules),
                    _ => None,
                });
                let before = decided.unwrap_or(self.guard.rules);
                let rules = ChatRules {
                    slow_ms: slow_ms.unwrap_or(before.slow_ms),
                    who: writers.unwrap_or(before.who),
                    links: links.unwrap_or(before.links),
                    repeats: repeats.unwrap_or(before.repeats),
                };
                if rules != before {
                    let entry = entry(who, LogAction::Rules, at);
                    self.propose(Change::Rules { rules, entry }, at.now)?;
                } else {
                    // What is so already may be so only when it is written.
                    self.intents.again(|change| matches!(change, Change::Rules { .. }).then_some(()));
                }
                Ok(Answer::Rules(rules))
            }
            ChatAsk::Words { add, remove } => {
                who.need(Role::Moderator)?;
                if add.len() + remove.len() > haul_wire::chat::MAX_WORDS_A_REQUEST {
                    return Err(Refused::Field("add, remove: expected at most 200 words"));
                }
                let mut before = self.guard.words.words().map(str::to_owned).collect();
                for change in self.intents.pending() {
                    if let Change::Words { add, remove, .. } = change {
                        before = changed(before, add, remove);
                    }
                }
                let words = changed(before.clone(), &add, &remove);
                if words.len() > MAX_WORDS {
                    return Err(Refused::NotNow("a live may have 10000 words"));
                }
                if words != before {
                    let entry = entry(who, LogAction::Words, at);
                    self.propose(Change::Words { add, remove, entry }, at.now)?;
                } else {
                    self.intents.again(|change| matches!(change, Change::Words { .. }).then_some(()));
                }
                Ok(Answer::Words(words.into_iter().collect()))
            }
            ChatAsk::Moderate { action, message_id, user_id, duration_ms, reason } => {
                self.moderate(who, action, (message_id, user_id), duration_ms, reason, at, find)
            }
            ChatAsk::Log => {
                who.need(Role::Moderator)?;
                Ok(Answer::Moderation(Moderation {
                    log: self.guard.log.iter().rev().cloned().collect(),
                    standing: self.guard.restricted(at.now.wall),
                }))
            }
        }
    }

    fn send(
        &mut self,
        who: &Writer,
        text: &str,
        client_id: Option<String>,
        reply_to: Option<MessageId>,
        at: At,
    ) -> Result<Answer, Refused> {
        if let Some(client_id) = &client_id {
            if client_id.is_empty() || client_id.len() > haul_wire::chat::MAX_CLIENT_ID_BYTES {
                return Err(Refused::Field("client_id: expected 1 to 64 bytes"));
            }
            if let Some(id) = self.said.sent(&who.id, client_id) {
                return Ok(Answer::Said(id.clone()));
            }
        }
        let text = clean(text)?;
        let reply_to = match &reply_to {
            None => None,
            Some(id) => {
                let said = self.said.get(id).filter(|said| !said.hidden || said.by == who.id);
                Some(quote(&said.ok_or(Refused::NoSuch("reply_to"))?.line))
            }
        };
        // Where everybody writes the giveaway's word at once, most are not heard: they are in all the same.
        let enters = self.enters(&text).filter(|_| who.role == Role::Viewer);
        let hidden = match (self.guard.may_write(who, &text, at.now), &enters) {
            (Ok(hidden), _) => hidden,
            (Err(Refused::TooFast { .. } | Refused::Repeated), Some(id))
                if self.ticket(&who.id).is_none() =>
            {
                let ticket = self.enter(who, id, at)?;
                return Ok(Answer::Entered { message_id: None, ticket });
            }
            (Err(refused), _) => return Err(refused),
        };
        let ticket = enters.and_then(|id| self.enter(who, &id, at).ok());
        let line = ChatLine {
            id: MessageId::generate("msg_", at.now.wall, at.random),
            name: who.name.clone(),
            role: who.role,
            badges: who.badges.clone(),
            tier: who.tier.clone(),
            text,
            reply_to,
            at: at.now.wall,
        };
        let id = line.id.clone();
        if let Some(client_id) = &client_id {
            self.said.remember(&who.id, client_id, &id);
        }
        let change = Change::Said { line, by: who.id.clone(), hidden, client_id };
        let now = match who.is_staff() || hidden {
            true => Some(change),
            false => self.loud.offer(&who.id, change, at.now.instant),
        };
        if let Some(change) = now {
            self.apply(change, at.now);
        }
        Ok(match ticket {
            Some(ticket) => Answer::Entered { message_id: Some(id), ticket },
            None => Answer::Said(id),
        })
    }

    fn delete(&mut self, who: &Writer, id: MessageId, at: At) -> Result<Answer, Refused> {
        // A line that waits for its turn in a loud room has not been told: its writer takes it back, or staff does.
        let waits = self.loud.all_waiting().find_map(|(by, change)| match change {
            Change::Said { line, .. } if line.id == id => Some(by.clone()),
            _ => None,
        });
        if let Some(by) = waits {
            if by != who.id {
                who.need(Role::Moderator)?;
            }
            self.loud.drop_of(&by);
            return Ok(Answer::Done);
        }
        let said = self.said.get(&id).ok_or(Refused::NoSuch("message_id"))?;
        if said.by == who.id {
            self.apply(Change::Deleted { ids: vec![id], entry: None }, at.now);
            return Ok(Answer::Done);
        }
        who.need(Role::Moderator)?;
        let entry = LogEntry {
            user_id: Some(said.by.clone()),
            user_name: Some(said.line.name.clone()),
            text: Some(said.line.text.clone()),
            ..entry(who, LogAction::Delete, at)
        };
        let same = |change: &Change| {
            matches!(change, Change::Deleted { ids, .. } if ids.contains(&id)).then_some(())
        };
        if self.intents.again(same).is_none() {
            self.propose(Change::Deleted { ids: vec![id], entry: Some(entry) }, at.now)?;
        }
        Ok(Answer::Done)
    }

    /// What will be in sight, if something of that waits to be written down: then the request waits for it, too.
    fn pin_waits(&mut self) -> Option<Option<MessageId>> {
        self.intents.again(|change| match change {
            Change::ChatPinned { line, .. } => Some(line.as_ref().map(|line| line.id.clone())),
            _ => None,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field of the request")]
    fn moderate(
        &mut self,
        who: &Writer,
        measure: Measure,
        (message, user): (Option<MessageId>, Option<BuyerId>),
        duration_ms: Option<u64>,
        reason: Option<String>,
        at: At,
        find: Find<'_>,
    ) -> Result<Answer, Refused> {
        who.need(Role::Moderator)?;
        let reason = match reason.filter(|reason| !reason.trim().is_empty()) {
            Some(reason) => Some(clean_to(&reason, haul_wire::chat::MAX_REASON_CHARS)?),
            None => None,
        };
        if duration_ms.is_some_and(|duration| !(1..=MAX_MEASURE_MS).contains(&duration)) {
            return Err(Refused::Field(
                "duration_ms: expected 1 to 31536000000 (a year), or none: until it is lifted",
            ));
        }
        let said = match &message {
            Some(message) => Some(self.said.get(message).ok_or(Refused::NoSuch("message_id"))?),
            None => None,
        };
        let (user_id, name, role) = match (said, user) {
            (Some(said), _) => (said.by.clone(), said.line.name.clone(), said.line.role),
            (None, Some(user)) => match find(&user).or_else(|| self.said.name_of(&user)) {
                Some((name, role)) => (user, name, role),
                // Not here: known by id alone, and not as one of the team.
                None => (user.clone(), user.to_string(), Role::Viewer),
            },
            (None, None) => return Err(Refused::Field("message_id or user_id: expected one of them")),
        };
        Guard::may_measure(who, role)?;
        let until = duration_ms
            .filter(|_| measure != Measure::Restore)
            .map(|duration| UnixMillis(at.now.wall.0.saturating_add(duration)));
        let entry = LogEntry {
            user_id: Some(user_id.clone()),
            user_name: Some(name.clone()),
            until,
            reason: reason.clone(),
            text: said.map(|said| said.line.text.clone()),
            ..entry(who, measure.into(), at)
        };
        let restricted =
            Restricted { user_id, name, standing: Standing { measure, until, reason }, by_role: who.role };
        let latest = self.intents.again(|change| match change {
            Change::Measure { restricted: other, entry } if other.user_id == restricted.user_id => {
                let (a, b) = (&other.standing, &restricted.standing);
                Some((a.measure, &a.reason) == (b.measure, &b.reason) && entry.by == who.id)
            }
            _ => None,
        });
        if latest != Some(true) {
            self.propose(Change::Measure { restricted, entry }, at.now)?;
        }
        Ok(Answer::Done)
    }

    /// Does what somebody asks about announcements, polls and giveaways.
    pub fn show(&mut self, who: &Writer, ask: ShowAsk, at: At) -> Result<Shown, Refused> {
        match ask {
            ShowAsk::Announce { text } => self.announce(who, text, at).map(|()| Shown::Done),
            ShowAsk::PollOpen { question, options, duration_ms } => {
                self.open_poll(who, &question, &options, duration_ms, at).map(Shown::Poll)
            }
            ShowAsk::PollVote { poll_id, option } => {
                self.vote(who, poll_id, option, at).map(|()| Shown::Done)
            }
            ShowAsk::PollClose { poll_id } => self.close_poll(who, &poll_id, at).map(|()| Shown::Done),
            ShowAsk::GiveawayStart { title, word, winners, duration_ms, claim_ms } => self
                .start_giveaway(who, &title, word, winners, duration_ms, claim_ms, at)
                .map(Shown::Giveaway),
            ShowAsk::GiveawayEnter { giveaway_id } => self.enter(who, &giveaway_id, at).map(Shown::Ticket),
            ShowAsk::GiveawayDraw { giveaway_id } => self.draw(who, &giveaway_id, at).map(|()| Shown::Done),
            ShowAsk::GiveawayClaim { giveaway_id } => self.claim(who, &giveaway_id, at).map(|()| Shown::Done),
            ShowAsk::GiveawayEnd { giveaway_id } => {
                self.end_giveaway(who, &giveaway_id, at).map(|()| Shown::Done)
            }
        }
    }

    /// When [`Room::timeout`] wants to be called, if nothing else happens.
    pub fn next_timeout(&self) -> Option<Instant> {
        [
            self.loud.next_timeout(),
            self.questions.next_timeout(),
            self.polling.as_ref().and_then(Polling::next_timeout),
            self.giveaway_due.next_timeout(),
            self.crowd.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Now) {
        let (said, lost) = self.loud.timeout(now.instant);
        for change in said {
            self.apply(change, now);
        }
        for (who, messages) in lost {
            let line = self.order.line(&Event::Chat(ChatNews::Sampled { messages }));
            self.tell(Audience::Person(who), Lane::Room, line);
        }
        self.questions_timeout(now.instant);
        self.poll_timeout(now);
        self.giveaway_timeout(now);
        self.crowd_timeout(now.instant);
    }

    pub(crate) fn name_of(&self, who: &BuyerId, find: Find<'_>) -> Option<String> {
        find(who).or_else(|| self.said.name_of(who)).map(|(name, _)| name)
    }

    /// Makes a change, and tells whom it concerns.
    pub fn apply(&mut self, change: Change, now: Now) {
        self.note_fresh(&change);
        match change {
            Change::Said { line, by, hidden, client_id } => {
                let event = Event::Chat(ChatNews::Message(line.clone()));
                let offset = if hidden {
                    // To its sender it looks as any other does, and moves their position nowhere.
                    let (own, told) = (self.order.line_here(&event), self.order.line(&event));
                    self.tell(Audience::Person(by.clone()), Lane::Chat, own);
                    self.tell(Audience::Staff, Lane::Chat, told);
                    None
                } else {
                    let told = self.order.record(&event);
                    self.tell(Audience::All, Lane::Chat, told);
                    Some(self.order.position().1)
                };
                self.said.put(line, by, hidden, client_id, offset);
            }
            Change::Asked { question, by, client_id, hidden } => {
                self.asked(question, by, client_id, hidden);
            }
            Change::Wanted { id, by } => self.wanted(&id, by, now),
            Change::Question { question } => self.question_changed(question),
            Change::Unasked { id } => self.unasked(id),
            Change::Announced { announcement } => self.announced(announcement),
            Change::Poll { poll } => self.poll_changed(poll, now),
            Change::Voted { id, by, option } => self.voted(&id, by, option, now),
            Change::GiveawayStarted { giveaway, seed, claim_ms } => {
                self.giveaway_started(giveaway, seed, claim_ms, now);
            }
            Change::Entered { id, by, name } => self.entered(&id, by, name, now),
            Change::Drawn { id, at, entries, winners } => self.drawn(&id, at, entries, winners),
            Change::Claimed { id, by } => self.claimed(&id, &by),
            Change::GiveawayEnded { id } => self.giveaway_ended(&id, now),
            Change::Wrote { of, name, by, client_id, message } => {
                self.wrote(of, name, by, client_id, message)
            }
            Change::Deleted { ids, entry } => {
                self.take_away(ids, now);
                if let Some(entry) = entry {
                    self.log(entry);
                }
            }
            Change::ChatPinned { line, by } => self.chat_pinned(line, by),
            Change::Rules { rules, entry } => {
                self.guard.set_rules(rules);
                self.keep("rules".to_owned(), &rules);
                self.tell_all(&Event::Chat(ChatNews::Rules { rules }));
                self.log(entry);
            }
            Change::Words { add, remove, entry } => {
                self.guard.words.change(&add, &remove);
                let words: Vec<_> = self.guard.words.words().map(str::to_owned).collect();
                self.keep("words".to_owned(), &words);
                self.log(entry);
            }
            Change::Measure { restricted, entry } => self.measure(restricted, entry, now),
            Change::Liked { total } => self.crowd.likes = total,
            Change::Peaked { viewers } => self.crowd.peak = viewers,
            Change::Pinned { pin } => self.pin = pin,
        }
    }

    fn chat_pinned(&mut self, line: Option<ChatLine>, by: Option<BuyerId>) {
        if let Some(before) =
            self.chat_pin_by.take_if(|before| line.is_none() || Some(&*before) != by.as_ref())
        {
            self.forget(pin_note(&before));
        }
        if let (Some(line), Some(by)) = (&line, by) {
            self.keep(pin_note(&by), line);
            self.chat_pin_by = Some(by);
        }
        self.chat_pin = line.clone();
        self.tell_all(&Event::Chat(ChatNews::Pinned { message: line }));
        self.chat_pinned_at = self.order.position().1;
    }

    /// Takes up the line that an earlier room kept in sight.
    fn restore_chat_pin(&mut self, name: String, text: &str) {
        let by = name.split_once('/').and_then(|(_, by)| by.parse().ok());
        if self.inherited {
            if by.is_none() || by != self.chat_pin_by {
                self.forget(name);
            }
            return;
        }
        match (by, serde_json::from_str(text)) {
            (Some(by), Ok(line)) => (self.chat_pin, self.chat_pin_by) = (Some(line), Some(by)),
            _ => self.forget(name),
        }
    }

    pub(crate) fn chat_pinned_by(&self) -> Option<&BuyerId> {
        self.chat_pin_by.as_ref()
    }

    pub(crate) fn said_line(&self, id: &MessageId) -> Option<&ChatLine> {
        self.said.get(id).map(|said| &said.line)
    }

    fn measure(&mut self, restricted: Restricted, entry: LogEntry, now: Now) {
        let who = restricted.user_id.clone();
        let name = format!("standing/{who}");
        let (measure, below) = (restricted.standing.measure, restricted.by_role);
        if measure == Measure::Restore {
            self.forget(name);
        } else {
            self.keep(name, &restricted);
        }
        let was_told = self.standing(&who, Role::Viewer, now.wall).is_some();
        if let Some(gone) = self.guard.put(restricted, now.wall) {
            self.forget(format!("standing/{gone}"));
        }
        let standing = self.standing(&who, Role::Viewer, now.wall);
        if standing.is_some() || was_told {
            let line = self.order.line(&Event::Chat(ChatNews::Standing { standing }));
            self.tell(Audience::Person(who.clone()), Lane::Room, line);
        }
        if measure != Measure::Restore {
            // What waits for its turn in a loud room is not said after it.
            self.loud.drop_of(&who);
        }
        if measure == Measure::Ban {
            self.unask_all(&who);
            self.put_out_of_giveaway(&who, now);
            self.take_away(self.said.of(&who), now);
            // Said before a restart, and in sight still.
            if self.chat_pin_by.as_ref() == Some(&who) {
                self.apply(Change::ChatPinned { line: None, by: None }, now);
            }
            self.effects.push_back(Effect::End { who, below });
        }
        self.log(entry);
    }

    /// Takes lines away, here and for those who come back.
    fn take_away(&mut self, ids: Vec<MessageId>, now: Now) {
        let mut seen = Vec::new();
        for id in ids {
            let Some(said) = self.said.remove(&id) else { continue };
            // What quotes it keeps its own words only, in sight too.
            if let Some(pinned) = &mut self.chat_pin
                && let Some(quote) =
                    pinned.reply_to.as_mut().filter(|quote| quote.id == id && !quote.text.is_empty())
            {
                quote.text.clear();
                let line = Some(pinned.clone());
                let event = Event::Chat(ChatNews::Pinned { message: line.clone() });
                self.order.rewrite(self.chat_pinned_at, &event);
                let by = self.chat_pin_by.clone();
                self.apply(Change::ChatPinned { line, by }, now);
            }
            for (offset, line) in self.said.unquote(&id) {
                self.order.rewrite(offset, &Event::Chat(ChatNews::Message(line)));
            }
            let event = |message_ids| Event::Chat(ChatNews::Deleted { message_ids });
            match said.offset {
                Some(offset) => {
                    self.order.rewrite(offset, &event(vec![id.clone()]));
                    seen.push(id);
                }
                None => {
                    let line = self.order.line(&event(vec![id]));
                    self.tell(Audience::Staff, Lane::Room, line.clone());
                    self.tell(Audience::Person(said.by), Lane::Room, line);
                }
            }
        }
        if seen.is_empty() {
            return;
        }
        if self.chat_pin.as_ref().is_some_and(|pinned| seen.contains(&pinned.id)) {
            self.order.rewrite(self.chat_pinned_at, &Event::Chat(ChatNews::Pinned { message: None }));
            self.apply(Change::ChatPinned { line: None, by: None }, now);
        }
        self.tell_all(&Event::Chat(ChatNews::Deleted { message_ids: seen }));
    }

    fn log(&mut self, entry: LogEntry) {
        self.noted += 1;
        self.keep(format!("log/{:014}-{:06}", entry.at.0, self.noted), &entry);
        let line = self.order.line(&Event::Chat(ChatNews::Measure { entry: entry.clone() }));
        self.tell(Audience::Staff, Lane::Room, line);
        self.guard.log.push_back(entry);
        if self.guard.log.len() > MAX_LOG {
            self.guard.log.pop_front();
        }
    }

    /// Pins a product, or none.
    pub fn set_pin(&mut self, pin: Option<Pin>) -> Line {
        self.note_fresh(&Change::Pinned { pin: pin.clone() });
        self.pin = pin.clone();
        self.record(&Event::PinChanged { pin })
    }

    /// Gives an event the next offset, and keeps it for those who come back.
    pub fn record(&mut self, event: &Event) -> Line {
        self.order.record(event)
    }

    /// An event for one reader, or one of which only the latest matters: it has no offset, since it may overtake those
    /// that have one.
    pub fn line(&self, event: &Event) -> Line {
        self.order.line(event)
    }

    /// What somebody who had read up to `position` has missed: nothing but those lines, oldest first. `None` where that
    /// can't be known any more, or never was.
    pub fn missed(&self, position: &Position) -> Option<Vec<Line>> {
        self.order.missed(position)
    }

    pub(crate) fn tell_all(&mut self, event: &Event) {
        let line = self.order.record(event);
        self.tell(Audience::All, Lane::Room, line);
    }

    pub(crate) fn tell(&mut self, to: Audience, lane: Lane, line: Line) {
        self.effects.push_back(Effect::Tell { to, lane, key: None, line });
    }

    pub(crate) fn keep(&mut self, name: String, value: &impl serde::Serialize) {
        // Values of ours have text keys and no floats: serde_json can't fail on them.
        let text = serde_json::to_string(value).ok();
        self.effects.push_back(Effect::Keep(Note { name, text }));
    }

    pub(crate) fn forget(&mut self, name: String) {
        self.effects.push_back(Effect::Keep(Note { name, text: None }));
    }
}

/// It ends with who said the line, so that it is found where somebody is to be forgotten.
fn pin_note(by: &BuyerId) -> String {
    format!("chat_pin/{by}")
}

/// An entry of the log with nothing but who and when.
fn entry(by: &Writer, action: LogAction, at: At) -> LogEntry {
    LogEntry {
        at: at.now.wall,
        by: by.id.clone(),
        by_name: by.name.clone(),
        action,
        user_id: None,
        user_name: None,
        until: None,
        reason: None,
        text: None,
    }
}

/// Characters of a message that are shown with an answer to it.
const QUOTED_CHARS: usize = 80;

fn quote(line: &ChatLine) -> Quote {
    Quote {
        id: line.id.clone(),
        name: line.name.clone(),
        text: line.text.chars().take(QUOTED_CHARS).collect(),
    }
}

#[cfg(test)]
mod tests;
