//! What becomes of what was said: kept in sight, taken away, held against who said it, and what the log has of that.

use std::collections::HashSet;

use haul_model::{BuyerId, MessageId, Now, Role};
use haul_wire::{ChatLine, ChatNews, Event, LogEntry, Measure, Restricted};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Audience, Effect, Room};
use crate::{Lane, guard::MAX_LOG, said::unname};

impl Room {
    pub(crate) fn chat_pinned(
        &mut self,
        line: Option<ChatLine>,
        by: Option<BuyerId>,
        quoted: Option<BuyerId>,
    ) {
        if let Some(before) =
            self.chat_pin_by.take_if(|before| line.is_none() || Some(&*before) != by.as_ref())
        {
            self.forget(pin_note(&before));
        }
        if let (Some(line), Some(by)) = (&line, by) {
            self.keep(pin_note(&by), &PinNote { line: line.clone(), quotes: quoted.clone() });
            self.chat_pin_by = Some(by);
        }
        (self.chat_pin, self.chat_pin_quotes) = (line.clone(), quoted);
        self.tell_all(&Event::Chat(ChatNews::Pinned { message: line }));
    }

    /// The line in sight says something else now.
    pub(crate) fn chat_pin_changed(&mut self, line: ChatLine) {
        let (by, quoted) = (self.chat_pin_by.clone(), self.chat_pin_quotes.clone());
        self.chat_pinned(Some(line), by, quoted);
    }

    /// Takes the words and the name of this person out of what the line in sight quotes.
    pub(crate) fn unname_in_sight(&mut self, who: &BuyerId, messages: &HashSet<MessageId>) {
        self.unsay_quotes(messages);
        let Some(mut line) = self.chat_pin.clone() else { return };
        let Some(quote) = &mut line.reply_to else { return };
        if self.chat_pin_quotes.take_if(|quoted| quoted == who).is_some() || messages.contains(&quote.id) {
            self.unsay_quotes(&HashSet::from([quote.id.clone()]));
            unname(quote);
            self.chat_pin_changed(line);
        }
    }

    /// Who comes back is not told any more whom lines quoted that were in sight.
    fn unsay_quotes(&mut self, messages: &HashSet<MessageId>) {
        self.order.amend("\"chat.pinned\"", |said| {
            let quote = said.pointer_mut("/message/reply_to").filter(|quote| is_one_of(quote, messages));
            if let Some(quote) = quote {
                (quote["text"], quote["name"]) = ("".into(), "".into());
            }
        });
    }

    /// Who comes back is not told any more that these lines were in sight, nor what they said where others quote them.
    fn unsay_pins(&mut self, gone: &HashSet<MessageId>) {
        self.order.amend("\"chat.pinned\"", |said| {
            let Some(message) = said.get_mut("message") else { return };
            if is_one_of(message, gone) {
                *message = Value::Null;
            } else if let Some(quote) = message.get_mut("reply_to").filter(|quote| is_one_of(quote, gone)) {
                quote["text"] = "".into();
            }
        });
    }

    /// Takes up the line that an earlier room kept in sight.
    pub(super) fn restore_chat_pin(&mut self, name: String, text: &str) {
        let by = name.split_once('/').and_then(|(_, by)| by.parse().ok());
        if self.inherited || self.chat_pin.is_some() {
            if by.is_none() || by != self.chat_pin_by {
                self.forget(name);
            }
            return;
        }
        match (by, serde_json::from_str(text)) {
            (Some(by), Ok(PinNote { line, quotes })) => {
                (self.chat_pin, self.chat_pin_by, self.chat_pin_quotes) = (Some(line), Some(by), quotes);
            }
            _ => self.forget(name),
        }
    }

    pub(crate) fn chat_pinned_by(&self) -> Option<&BuyerId> {
        self.chat_pin_by.as_ref()
    }

    /// A line that is known, and who said it; the one that is kept in sight may be of before a restart.
    pub(super) fn in_sight(&self, id: &MessageId) -> Option<(&BuyerId, &ChatLine)> {
        let said = self.said.get(id).map(|said| (&said.by, &said.line));
        said.or_else(|| {
            Some((self.chat_pin_by.as_ref()?, self.chat_pin.as_ref().filter(|line| line.id == *id)?))
        })
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
            self.drop_waiting_of(&who);
        }
        if measure == Measure::Ban {
            self.unask_all(&who);
            self.unask_intents_of(&who);
            self.put_out_of_giveaway(&who, now);
            self.take_away(self.said.of(&who));
            // Said before a restart, and in sight still.
            if self.chat_pin_by.as_ref() == Some(&who) {
                self.chat_pinned(None, None, None);
            }
            self.effects.push_back(Effect::End { who, below });
        }
        self.log(entry);
    }

    pub(crate) fn drop_waiting_of(&mut self, who: &BuyerId) {
        self.loud.drop_of(who);
    }

    /// Takes lines away, here and for those who come back.
    pub(crate) fn take_away(&mut self, ids: Vec<MessageId>) {
        if ids.is_empty() {
            return;
        }
        self.unsay_pins(&ids.iter().cloned().collect());
        let mut seen = Vec::new();
        for id in ids {
            let Some(said) = self.said.remove(&id) else {
                // Of before a restart, and in sight still.
                if self.chat_pin.as_ref().is_some_and(|pinned| pinned.id == id) {
                    seen.push(id);
                }
                continue;
            };
            // What quotes it keeps its own words only, in sight too.
            if let Some(pinned) = &mut self.chat_pin
                && let Some(quote) =
                    pinned.reply_to.as_mut().filter(|quote| quote.id == id && !quote.text.is_empty())
            {
                quote.text.clear();
                let line = pinned.clone();
                self.chat_pin_changed(line);
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
            self.chat_pinned(None, None, None);
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

/// The line in sight, as it is kept.
#[derive(Serialize, Deserialize)]
struct PinNote {
    #[serde(flatten)]
    line: ChatLine,
    /// Whom it quotes, so that it is found where that person is to be forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quotes: Option<BuyerId>,
}

/// Whether it is one of these messages, or a quote of it.
fn is_one_of(said: &Value, messages: &HashSet<MessageId>) -> bool {
    said["id"].as_str().and_then(|id| id.parse().ok()).is_some_and(|id: MessageId| messages.contains(&id))
}

/// It ends with who said the line, so that it is found where somebody is to be forgotten.
fn pin_note(by: &BuyerId) -> String {
    format!("chat_pin/{by}")
}
