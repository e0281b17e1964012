//! Chat and its rules.

use std::time::Duration;

use haul_model::{BuyerId, Now};
use haul_room::{Answer, Refused};
use haul_wire::{ChatAsk, Failure, Reply};

use super::{
    super::{MemberId, Output},
    Stage, unsaid,
};

/// Connections refuse chat lines by themselves for so long at most. Other rules, and what is said from elsewhere in the same
/// name, are heard of by then.
const LONGEST_QUIET: Duration = Duration::from_secs(2);

impl Stage {
    pub(in super::super) fn chat(
        &mut self,
        member: MemberId,
        id: u64,
        ask: ChatAsk,
        now: Now,
    ) -> Result<(), Failure> {
        let writer = self.writer(member)?;
        let at = self.at(now);
        let members = &self.members;
        let find = |who: &BuyerId| Self::find(members, who);
        let sending = matches!(ask, ChatAsk::Send { .. });
        let answer = self.room.ask(&writer, ask, at, &find).map_err(|refused| {
            if let Refused::TooFast { retry_after } = refused
                && sending
            {
                self.outputs.push_back(Output::Quiet(member, retry_after.min(LONGEST_QUIET)));
            }
            unsaid(refused)
        })?;
        let reply = match answer {
            Answer::Done => Reply::Time { server_time: self.clock.now(now) },
            Answer::Said(message_id) => Reply::Chat { message_id, ticket: None },
            Answer::Entered { message_id: Some(message_id), ticket } => {
                Reply::Chat { message_id, ticket: Some(ticket) }
            }
            Answer::Entered { message_id: None, ticket } => Reply::Ticket { ticket },
            Answer::Rules(rules) => Reply::Rules { rules },
            Answer::Words(words) => Reply::Words { words },
            Answer::Moderation(moderation) => Reply::Moderation(moderation),
        };
        self.answer_when_written(member, id, reply, now);
        self.carry_room();
        Ok(())
    }
}
