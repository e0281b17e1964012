//! A live's room: who says what, in one order that everybody sees.

mod asks;
mod seen;

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use haul_model::{BuyerId, GiveawayId, MessageId, Now, PollId, Role, UnixMillis};
use haul_wire::{
    ChatLine, ChatNews, ChatRules, Event, LogEntry, Measure, Moderation, Pin, Position, Restricted, Standing,
    show::{Announcement, ShowAsk},
};

use crate::{
    Key, Lane,
    change::{Change, Note},
    chat::Refused,
    crowd::{Crowd, Threads},
    giveaway::{Drawing, Due},
    guard::{Guard, MAX_LOG, Writer},
    intents::{Intents, is_intent},
    limiter::Rate,
    order::Order,
    poll::Polling,
    questions::Questions,
    said::{Said, SaidLine},
    sampler::Sampler,
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
    pub(crate) said: Said,
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
    /// Whom it quotes.
    chat_pin_quotes: Option<BuyerId>,
    pin: Option<Pin>,
    /// Changes since they were last asked for, each with the place of the last event before it, where somebody asks.
    pub(crate) fresh: Option<Vec<(u64, Change)>>,
    /// How many changes were told so, also by those before.
    pub(crate) made: u64,
    /// It goes on with all that another process has left, and knows more than notes do.
    pub(crate) inherited: bool,
    /// Who entered which giveaway under what name, as another process has left it, until the giveaway is restored.
    pub(crate) entries_left: Vec<(GiveawayId, BuyerId, String)>,
    /// Who was forgotten before another process left the room, until the notes are restored.
    pub(crate) forgotten_left: Vec<BuyerId>,
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
            chat_pin_quotes: None,
            pin: None,
            fresh: None,
            made: 0,
            inherited: false,
            entries_left: Vec::new(),
            forgotten_left: Vec::new(),
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
        // Before what was decided on them.
        for (id, by, name) in std::mem::take(&mut self.entries_left) {
            self.entered(&id, by, name, now);
        }
        self.make_up_for(intents, now);
        for who in std::mem::take(&mut self.forgotten_left) {
            self.forget_person(&who, now);
        }
    }

    /// Keeps now what is counted and is kept now and then only: for the end of the process.
    pub fn keep_counted(&mut self) {
        self.keep_entries();
        self.keep_votes();
        self.keep_question_votes();
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
            Change::Said { line, by, hidden, client_id, quoted } => {
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
                let at = self.order.position().1;
                self.said.put(SaidLine { line, by, hidden, quoted, offset, at }, client_id);
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
                self.take_away(ids);
                if let Some(entry) = entry {
                    self.log(entry);
                }
            }
            Change::ChatPinned { line, by, quoted } => self.chat_pinned(line, by, quoted),
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
            Change::Forgotten { who, messages, questions } => self.forgotten(&who, messages, questions),
            Change::Measure { restricted, entry } => self.measure(restricted, entry, now),
            Change::Liked { total } => self.crowd.likes = total,
            Change::Peaked { viewers } => self.crowd.peak = viewers,
            Change::Pinned { pin } => self.pin = pin,
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
    /// can't be known any more, or never was, or where they may have missed a line that is hidden from others.
    pub fn missed(&self, position: &Position, reader: Option<&BuyerId>, staff: bool) -> Option<Vec<Line>> {
        match self.said.has_hidden_since(position.offset, reader, staff) {
            true => None,
            false => self.order.missed(position),
        }
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

#[cfg(test)]
mod tests;
