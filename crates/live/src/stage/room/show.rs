//! Questions, polls, giveaways, likes, private threads.

use haul_model::{BuyerId, Now, Role};
use haul_room::{At, Room, Shown, crowd::MAX_THREAD_SHOWN};
use haul_wire::{
    Code, Failure, Reply,
    crowd::{CrowdAsk, RoomView},
    questions::QuestionAsk,
    show::ShowAsk,
};
use rand::RngExt;

use super::{super::MemberId, Stage, unsaid};

impl Stage {
    pub(in super::super) fn question(
        &mut self,
        member: MemberId,
        id: u64,
        ask: QuestionAsk,
        now: Now,
    ) -> Result<(), Failure> {
        let writer = self.writer(member)?;
        if let QuestionAsk::Ask { product_id: Some(product), .. } = &ask
            && !self.bag.has(product)
        {
            return Err(Failure::new(Code::NotFound, "product_id: not in this live's bag"));
        }
        let (at, media_ms) = (self.at(now), self.media_ms(now));
        let reply = match self.room.ask_question(&writer, ask, at, media_ms).map_err(unsaid)? {
            Some(question_id) => Reply::Question { question_id },
            None => Reply::Time { server_time: self.clock.now(now) },
        };
        self.answer_when_written(member, id, reply, now);
        self.carry_room();
        Ok(())
    }

    pub(in super::super) fn show(
        &mut self,
        member: MemberId,
        id: u64,
        ask: ShowAsk,
        now: Now,
    ) -> Result<(), Failure> {
        let writer = self.writer(member)?;
        let at = self.at(now);
        let reply = match self.room.show(&writer, ask, at).map_err(unsaid)? {
            Shown::Done => Reply::Time { server_time: self.clock.now(now) },
            Shown::Poll(poll_id) => Reply::Poll { poll_id },
            Shown::Giveaway(giveaway_id) => Reply::Giveaway { giveaway_id },
            Shown::Ticket(ticket) => Reply::Ticket { ticket },
        };
        self.answer_when_written(member, id, reply, now);
        self.carry_room();
        Ok(())
    }

    pub(in super::super) fn crowd(
        &mut self,
        member: MemberId,
        id: u64,
        ask: CrowdAsk,
        now: Now,
    ) -> Result<(), Failure> {
        let writer = self.writer(member)?;
        match ask {
            CrowdAsk::Like { count, kind } => self.room.like(kind, count, now),
            CrowdAsk::ThreadSend { text, user_id, client_id } => {
                let at = self.at(now);
                let members = &self.members;
                let find = |who: &BuyerId| Self::find(members, who);
                let sent = self.room.write_thread(&writer, user_id, &text, client_id, at, &find);
                let message_id = sent.map_err(unsaid)?;
                self.answer_when_written(member, id, Reply::Chat { message_id, ticket: None }, now);
            }
            CrowdAsk::ThreadRead { user_id } => {
                let of = self.room.may_read_thread(&writer, user_id).map_err(unsaid)?;
                let messages = self.room.thread(&of);
                self.reply(member, id, &Reply::Thread { messages });
            }
            CrowdAsk::ThreadList { before } => {
                self.allowed(member, Role::Moderator)?;
                let threads = self.room.thread_lines(before.as_ref());
                self.reply(member, id, &Reply::Threads { threads });
            }
        }
        self.carry_room();
        Ok(())
    }

    pub(in super::super) fn room_view(&self, reader: Option<&BuyerId>, staff: bool) -> RoomView {
        let room: &Room = &self.room;
        RoomView {
            questions: room.questions(reader, staff),
            yours: reader.map(|reader| room.yours(reader)).unwrap_or_default(),
            announcement: room.announcement().cloned(),
            poll: room.poll().cloned(),
            giveaway: room.giveaway().cloned(),
            ticket: reader.and_then(|reader| room.ticket(reader)),
            won: reader.map(|reader| room.won(reader)).unwrap_or_default(),
            likes: room.likes(),
            peak: self.peak,
            thread: reader
                .map(|reader| room.thread(reader))
                .map(|thread| thread[thread.len().saturating_sub(MAX_THREAD_SHOWN)..].to_vec())
                .unwrap_or_default(),
        }
    }

    pub(super) fn at(&mut self, now: Now) -> At {
        // What a refused request would have waited for is nothing to the next.
        let _ = self.room.proposed();
        At { now, random: self.rng.random(), secret: self.rng.random() }
    }
}
