//! What becomes of what was said: kept in sight, taken away, held against who said it, and what the log has of that.

use haul_model::{BuyerId, MessageId, Now, Role};
use haul_wire::{ChatLine, ChatNews, Event, LogEntry, Measure, Restricted};

use super::{Audience, Effect, Room};
use crate::{Lane, change::Change, guard::MAX_LOG};

impl Room {
    pub(super) fn chat_pinned(&mut self, line: Option<ChatLine>, by: Option<BuyerId>) {
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
    pub(super) fn restore_chat_pin(&mut self, name: String, text: &str) {
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

    pub(super) fn measure(&mut self, restricted: Restricted, entry: LogEntry, now: Now) {
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
            self.unask_intents_of(&who);
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
    pub(super) fn take_away(&mut self, ids: Vec<MessageId>, now: Now) {
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

    pub(super) fn log(&mut self, entry: LogEntry) {
        self.noted += 1;
        self.keep(format!("log/{:014}-{:06}", entry.at.0, self.noted), &entry);
        let line = self.order.line(&Event::Chat(ChatNews::Measure { entry: entry.clone() }));
        self.tell(Audience::Staff, Lane::Room, line);
        self.guard.log.push_back(entry);
        if self.guard.log.len() > MAX_LOG {
            self.guard.log.pop_front();
        }
    }
}

/// It ends with who said the line, so that it is found where somebody is to be forgotten.
fn pin_note(by: &BuyerId) -> String {
    format!("chat_pin/{by}")
}
