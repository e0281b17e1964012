//! What was said lately, and by whom.

use std::collections::{HashMap, HashSet, VecDeque};

use haul_model::{BuyerId, MessageId, Role};
use haul_wire::{ChatLine, Quote};

/// Chat lines a newcomer is shown.
pub const MAX_CHAT_SHOWN: usize = 50;
/// Lines that can be answered, taken away or held against their sender: of all that who comes back is told.
pub const MAX_CHAT_KEPT: usize = crate::order::MAX_HISTORY;
/// Client ids remembered, of all senders; a retry that comes later is a second message.
pub const MAX_CLIENT_IDS: usize = 10_000;

#[derive(Debug)]
pub(crate) struct SaidLine {
    pub(crate) line: ChatLine,
    pub(crate) by: BuyerId,
    pub(crate) hidden: bool,
    /// Whom it quotes.
    pub(crate) quoted: Option<BuyerId>,
    /// Its place in the room's order.
    pub(crate) offset: Option<u64>,
    /// The last place in the room's order when it was said.
    pub(crate) at: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Oldest first.
    lines: VecDeque<SaidLine>,
    sent: HashMap<(BuyerId, String), MessageId>,
    /// The keys of `sent`, oldest first.
    sent_order: VecDeque<(BuyerId, String)>,
}

impl Said {
    pub(crate) fn put(&mut self, said: SaidLine, client_id: Option<String>) {
        if let Some(client_id) = client_id {
            self.remember(&said.by, &client_id, &said.line.id);
        }
        if self.lines.len() == MAX_CHAT_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(said);
    }

    /// Remembers what a sender's client calls a message.
    pub(crate) fn remember(&mut self, by: &BuyerId, client_id: &str, id: &MessageId) {
        let key = (by.clone(), client_id.to_owned());
        if self.sent.insert(key.clone(), id.clone()).is_some() {
            return;
        }
        self.sent_order.push_back(key);
        if self.sent_order.len() > MAX_CLIENT_IDS
            && let Some(oldest) = self.sent_order.pop_front()
        {
            self.sent.remove(&oldest);
        }
    }

    /// The message that this sender's client gave this id.
    pub(crate) fn sent(&self, by: &BuyerId, client_id: &str) -> Option<&MessageId> {
        self.sent.get(&(by.clone(), client_id.to_owned()))
    }

    pub(crate) fn get(&self, id: &MessageId) -> Option<&SaidLine> {
        self.lines.iter().rev().find(|said| said.line.id == *id)
    }

    pub(crate) fn remove(&mut self, id: &MessageId) -> Option<SaidLine> {
        let at = self.lines.iter().rposition(|said| said.line.id == *id)?;
        self.lines.remove(at)
    }

    /// Takes the words of a message out of those that quote it; they, with their places in the order.
    pub(crate) fn unquote(&mut self, id: &MessageId) -> Vec<(u64, ChatLine)> {
        let mut changed = Vec::new();
        for said in &mut self.lines {
            if let Some(quote) = said.line.reply_to.as_mut().filter(|quote| quote.id == *id) {
                quote.text.clear();
                changed.extend(said.offset.map(|offset| (offset, said.line.clone())));
            }
        }
        changed
    }

    /// Takes somebody's words and name out of what quotes them: these messages, and what is gone by now. What did, with its places
    /// in the order.
    pub(crate) fn unname(&mut self, who: &BuyerId, messages: &HashSet<MessageId>) -> Vec<(u64, ChatLine)> {
        let mut changed = Vec::new();
        let quotes = |said: &&mut SaidLine| {
            said.quoted.as_ref() == Some(who)
                || said.line.reply_to.as_ref().is_some_and(|quote| messages.contains(&quote.id))
        };
        for said in self.lines.iter_mut().filter(quotes) {
            said.quoted = None;
            said.line.reply_to.as_mut().into_iter().for_each(unname);
            changed.extend(said.offset.map(|offset| (offset, said.line.clone())));
        }
        changed
    }

    /// The ids of all that somebody said.
    pub(crate) fn of(&self, by: &BuyerId) -> Vec<MessageId> {
        self.lines.iter().filter(|said| said.by == *by).map(|said| said.line.id.clone()).collect()
    }

    pub(crate) fn name_of(&self, by: &BuyerId) -> Option<(String, Role)> {
        let said = self.lines.iter().rev().find(|said| said.by == *by)?;
        Some((said.line.name.clone(), said.line.role))
    }

    /// Whether somebody who had read up to a place may have missed a line that only they, or the team, can see: it has no
    /// place of its own.
    pub(crate) fn has_hidden_since(&self, offset: u64, reader: Option<&BuyerId>, staff: bool) -> bool {
        let is_theirs = |said: &&SaidLine| said.hidden && (staff || reader == Some(&said.by));
        self.lines.iter().rev().take_while(|said| said.at >= offset).any(|said| is_theirs(&said))
    }

    /// The last lines that somebody may see, oldest first.
    pub(crate) fn last(&self, reader: Option<&BuyerId>, staff: bool) -> Vec<ChatLine> {
        let mut lines: Vec<_> = self
            .lines
            .iter()
            .rev()
            .filter(|said| !said.hidden || staff || reader == Some(&said.by))
            .take(MAX_CHAT_SHOWN)
            .map(|said| said.line.clone())
            .collect();
        lines.reverse();
        lines
    }
}

/// Leaves of a quote that there was something.
pub(crate) fn unname(quote: &mut Quote) {
    quote.text.clear();
    quote.name.clear();
}
