//! What somebody asks of the chat: to say something, to take it away, to keep it in sight, to rule and to moderate.
//!
//! Decided here, and made elsewhere: what comes of it is a [`Change`].

use haul_model::{BuyerId, MessageId, Role, UnixMillis};
use haul_wire::{
    ChatAsk, ChatLine, ChatRules, LogAction, LogEntry, Measure, Moderation, Quote, Restricted, Standing,
};

use super::{Answer, At, Find, Room};
use crate::{
    change::Change,
    chat::{Refused, clean, clean_to},
    guard::{Guard, MAX_MEASURE_MS, MAX_SLOW, Writer},
    words::{MAX_WORDS, changed},
};

impl Room {
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
                let quoted = said.quoted.clone();
                if self.pin_waits() != Some(Some(message_id)) {
                    self.propose(Change::ChatPinned { line, by, quoted }, at.now)?;
                }
                Ok(Answer::Done)
            }
            ChatAsk::Unpin => {
                who.need(Role::Moderator)?;
                let waits = self.pin_waits();
                if waits.unwrap_or_else(|| self.chat_pin.as_ref().map(|line| line.id.clone())).is_some() {
                    self.propose(Change::ChatPinned { line: None, by: None, quoted: None }, at.now)?;
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
        let (reply_to, quoted) = match &reply_to {
            None => (None, None),
            Some(id) => {
                let said = self.said.get(id).filter(|said| !said.hidden || said.by == who.id);
                let said = said.ok_or(Refused::NoSuch("reply_to"))?;
                (Some(quote(&said.line)), Some(said.by.clone()))
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
        let change = Change::Said { line, by: who.id.clone(), hidden, client_id, quoted };
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
        let (by, line) = self.in_sight(&id).ok_or(Refused::NoSuch("message_id"))?;
        if *by == who.id {
            self.apply(Change::Deleted { ids: vec![id], entry: None }, at.now);
            return Ok(Answer::Done);
        }
        who.need(Role::Moderator)?;
        let entry = LogEntry {
            user_id: Some(by.clone()),
            user_name: Some(line.name.clone()),
            text: Some(line.text.clone()),
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
            Some(message) => Some(self.in_sight(message).ok_or(Refused::NoSuch("message_id"))?),
            None => None,
        };
        let (user_id, name, role) = match (said, user) {
            (Some((by, line)), _) => (by.clone(), line.name.clone(), line.role),
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
            text: said.map(|(_, line)| line.text.clone()),
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
