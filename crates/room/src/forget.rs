//! Forgetting somebody: what they wrote and the room keeps for a next start.

use haul_model::{BuyerId, Now};

use crate::{change::Change, room::Room};

impl Room {
    /// Forgets what somebody and the host's team wrote to each other, what they asked, what they said in the chat, the line of
    /// theirs that is in sight, and by what name they won; here and in the notes, and what of it waits to be written.
    pub fn forget_person(&mut self, who: &BuyerId, now: Now) {
        self.threads.remove(who);
        self.forget_intents_of(who);
        self.forget(format!("thread/{who}"));
        self.forget_questions(who);
        self.forget_winner(who);
        if self.chat_pinned_by() == Some(who) {
            self.apply(Change::ChatPinned { line: None, by: None }, now);
        }
        // Else newcomers would be told of it again, and what servers share would have it again.
        let said = self.said.of(who);
        if !said.is_empty() {
            said.iter().for_each(|id| self.said.unname(id));
            self.apply(Change::Deleted { ids: said, entry: None }, now);
        }
    }
}
