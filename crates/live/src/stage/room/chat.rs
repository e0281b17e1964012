//! Chat and its rules.

use haul_model::{BuyerId, Now};
use haul_room::Answer;
use haul_wire::{ChatAsk, Failure, Reply};

use super::{super::MemberId, Stage, unsaid};

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
        let find = |who: &BuyerId| {
            let viewer = members.values().find(|member| member.is(who))?.viewer.as_ref()?;
            Some((viewer.name.clone(), viewer.role))
        };
        let answer = self.room.ask(&writer, ask, at, &find).map_err(unsaid)?;
        let reply = match answer {
            Answer::Done => Reply::Time { server_time: self.clock.now(now) },
            Answer::Said(message_id) => Reply::Chat { message_id },
            Answer::Rules(rules) => Reply::Rules { rules },
            Answer::Words(words) => Reply::Words { words },
            Answer::Moderation(moderation) => Reply::Moderation(moderation),
        };
        self.reply(member, id, &reply);
        self.carry_room();
        Ok(())
    }
}
