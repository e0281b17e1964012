//! Forgetting somebody: what they wrote and a room keeps, for who comes, for a next start and for heirs.

use std::collections::HashSet;

use haul_model::{BuyerId, MessageId, Now, QuestionId};

use crate::{Made, change::Change, marks, room::Room, said};

impl Room {
    /// Forgets what somebody and the host's team wrote to each other, what they asked, what they said in the chat, the line of
    /// theirs that is in sight, their name in what quotes them, and by what name they won; here and in the notes, and what of it
    /// waits to be written.
    pub fn forget_person(&mut self, who: &BuyerId, now: Now) {
        let messages = self.said.of(who);
        let questions = self.questions_of(who).into_iter().map(|question| question.id).collect();
        self.apply(Change::Forgotten { who: who.clone(), messages, questions }, now);
    }

    pub(crate) fn forgotten(&mut self, who: &BuyerId, messages: Vec<MessageId>, questions: Vec<QuestionId>) {
        self.threads.remove(who);
        self.forget_intents_of(who);
        self.forget(format!("thread/{who}"));
        for question in questions {
            self.unasked(question);
        }
        self.forget_winner(who);
        self.drop_waiting_of(who);
        // Of lines that an earlier version has left it is not known whom they quote, but which message.
        let theirs = messages.iter().cloned().collect();
        self.unname_in_sight(who, &theirs);
        for (offset, line) in self.said.unname(who, &theirs) {
            self.order.rewrite(offset, &haul_wire::Event::Chat(haul_wire::ChatNews::Message(line)));
        }
        if self.chat_pinned_by() == Some(who) {
            // Said before a restart, perhaps: nothing else is known of it.
            let pinned = self.chat_pin().map(|line| line.id.clone());
            self.take_away(pinned.into_iter().collect());
        }
        // Else newcomers would be told of it again.
        self.take_away(messages);
    }
}

/// Of changes that are left to heirs, what is left when somebody is forgotten: nothing that they wrote, and nothing that says that
/// it was them. What they voted for counts on.
pub fn without(made: Vec<Made>, who: &BuyerId) -> Vec<Made> {
    let (mut messages, mut questions) = (HashSet::new(), HashSet::new());
    for Made { change, .. } in &made {
        match change {
            Change::Said { line, by, .. } if by == who => drop(messages.insert(line.id.clone())),
            Change::Asked { question, by, .. } if by == who => drop(questions.insert(question.id.clone())),
            Change::Forgotten { who: forgotten, messages: said, questions: asked } if forgotten == who => {
                messages.extend(said.iter().cloned());
                questions.extend(asked.iter().cloned());
            }
            _ => {}
        }
    }
    let is_theirs = |quoted: &Option<BuyerId>| quoted.as_ref() == Some(who);
    let left = made.into_iter().filter_map(|Made { after, number, change }| {
        let change = match change {
            Change::Said { by, .. } | Change::Asked { by, .. } if by == *who => return None,
            Change::Forgotten { who: forgotten, .. } if forgotten == *who => return None,
            Change::Question { question } if questions.contains(&question.id) => return None,
            Change::ChatPinned { by, .. } if is_theirs(&by) => {
                Change::ChatPinned { line: None, by: None, quoted: None }
            }
            Change::Said { mut line, by, hidden, client_id, quoted } => {
                let quote = line.reply_to.as_mut();
                let is_theirs = is_theirs(&quoted);
                if let Some(quote) = quote.filter(|quote| is_theirs || messages.contains(&quote.id)) {
                    said::unname(quote);
                }
                Change::Said { line, by, hidden, client_id, quoted: quoted.filter(|quoted| quoted != who) }
            }
            Change::ChatPinned { line: Some(mut line), by, quoted } if is_theirs(&quoted) => {
                line.reply_to.as_mut().into_iter().for_each(said::unname);
                Change::ChatPinned { line: Some(line), by, quoted: None }
            }
            Change::Wanted { id, by } if by == *who => {
                Change::Wanted { by: marks::nobody(id.as_str(), &by), id }
            }
            Change::Voted { id, by, option } if by == *who => {
                Change::Voted { by: marks::nobody(id.as_str(), &by), id, option }
            }
            // Their ticket stays, so that the draw can be checked.
            Change::Entered { id, by, .. } if by == *who => Change::Entered { id, by, name: String::new() },
            change => change,
        };
        Some(Made { after, number, change })
    });
    left.collect()
}
