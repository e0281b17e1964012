//! Those who are connected here: known to the owner, wherever it is, and answered whatever becomes of it.

use std::{collections::HashSet, time::Instant};

use haul_commerce::Applied;
use haul_model::{BuyerId, Locale, Viewer};
use haul_room::{Key, Lane as Importance, Line};
use haul_wire::{Code, Event, Failure, Position, Request, encode_event, encode_failure};

use super::{
    super::message::{Air, Ask, Item},
    Task,
};
use crate::{
    house::Word,
    likes::LIKES_AFTER,
    live::{Command, Post},
    owner::RESTART,
    requests::Turn,
    stage::{Delivery, Input, MemberId, To, farewells},
};

/// Requests that wait until there is an owner; further ones are answered with "pending".
const MAX_STASHED: usize = 10_000;

/// Somebody who is connected here, as an owner must know them.
pub(super) struct Guest {
    /// Of the hello.
    id: u64,
    viewer: Option<Viewer>,
    locale: Option<Locale>,
    resume: Option<Position>,
    visiting: bool,
}

impl Task {
    pub(super) fn posted(&mut self, post: Post) {
        match post {
            Post::Join { member, id, viewer, locale, resume, outlet } => {
                self.house.enter(member, viewer.as_ref(), locale.clone(), outlet);
                self.arrived(member, Guest { id, viewer, locale, resume, visiting: false });
            }
            Post::Visit { member, viewer, outlet } => {
                self.house.visit(member, outlet);
                let guest = Guest { id: 0, viewer: Some(viewer), locale: None, resume: None, visiting: true };
                self.arrived(member, guest);
            }
            Post::Liked => self.likes_at = Some(Instant::now() + LIKES_AFTER),
            Post::Forget { buyer, done } => {
                self.forget(buyer.clone());
                self.forgets.push((buyer, done));
            }
            Post::HandOver(done) => {
                if let Some(desk) = &mut self.desk {
                    desk.stage.keep_counted();
                    self.carry_out();
                }
                self.part.leave();
                if self.part.is_owner() {
                    self.handing_over.push(done);
                } else {
                    let _ = done.send(());
                }
            }
            Post::Input(input) => self.input(input),
        }
    }

    pub(super) fn arrived(&mut self, member: MemberId, guest: Guest) {
        if !guest.visiting {
            self.open.insert((member, guest.id), Instant::now());
        }
        self.introduce(member, &guest);
        self.guests.insert(member, guest);
    }

    /// Tells the owner of somebody here.
    pub(super) fn introduce(&mut self, member: MemberId, guest: &Guest) {
        let Guest { id, viewer, locale, resume, visiting } = guest;
        let welcomed = self.house.is_welcomed(member);
        if self.desk.is_some() {
            let (id, viewer, locale, resume) = (*id, viewer.clone(), locale.clone(), resume.clone());
            self.stage(match (visiting, viewer) {
                (true, Some(viewer)) => Input::Visit { member, viewer },
                (_, viewer) if welcomed => Input::Back { member, viewer, locale },
                (_, viewer) => Input::Join { member, id, viewer, locale, resume },
            });
            return;
        }
        let (who, locale) = (viewer.as_ref().map(Into::into), locale.clone());
        // What is not asked for want of room is answered with "pending" in time.
        let _ = self.part.ask(match (visiting, who) {
            (true, Some(viewer)) => Ask::Visit { member, viewer },
            (_, viewer) if welcomed => Ask::Back { member, viewer, locale },
            (_, viewer) => Ask::Join { member, id: *id, viewer, locale, resume: resume.clone() },
        });
    }

    /// There is an owner who knows nobody here. What an earlier one was asked and has not answered may have been done.
    pub(super) fn introduce_all(&mut self) {
        let guests = std::mem::take(&mut self.guests);
        for (member, guest) in &guests {
            self.introduce(*member, guest);
        }
        let hellos: HashSet<_> = guests
            .iter()
            .filter(|(member, _)| !self.house.is_welcomed(**member))
            .map(|(member, guest)| (*member, guest.id))
            .collect();
        self.guests = guests;
        let stashed: HashSet<_> = self.stash.iter().map(|(member, id, ..)| (*member, *id)).collect();
        let lost: Vec<_> = self
            .open
            .keys()
            .filter(|key| !hellos.contains(*key) && !stashed.contains(*key))
            .copied()
            .collect();
        self.fail_open(&lost);
        if self.on_air {
            if self.desk.is_some() {
                self.stage(Input::Broadcasting(true));
            } else {
                let _ = self.ask(Ask::Air(Air::On));
            }
        }
        let forgets: Vec<_> = self.forgets.iter().map(|(buyer, _)| buyer.clone()).collect();
        for buyer in forgets {
            self.forget(buyer);
        }
        for (member, id, request, turn) in std::mem::take(&mut self.stash) {
            self.request(member, id, request, turn);
        }
        let askers: Vec<_> = self.looks.keys().copied().collect();
        for asker in askers {
            self.look(asker);
        }
    }

    /// Has the owner forget somebody. Where there is none now, or it dies, the next one is asked again.
    fn forget(&mut self, buyer: BuyerId) {
        if self.desk.is_some() {
            self.forget_here(buyer);
        } else {
            let _ = self.part.ask(Ask::Forget(buyer));
        }
    }

    pub(super) fn fail_open(&mut self, lost: &[(MemberId, u64)]) {
        self.live.metrics().room_unanswered(lost.len());
        for (member, id) in lost {
            self.open.remove(&(*member, *id));
            let hello = self.guests.get(member).is_some_and(|guest| guest.id == *id && !guest.visiting);
            if hello && !self.house.is_welcomed(*member) {
                // They come back, and are introduced anew.
                self.play(Word::End(*member, RESTART));
                continue;
            }
            let failure =
                Failure::new(Code::Pending, "the outcome is not known yet: ask again with the same key")
                    .retry_after(500);
            let line: Line = encode_failure(Some(*id), &failure).into();
            let to = To::Member(*member);
            self.play(Word::Tell(Delivery { to, lane: Importance::Reply, key: None, line }));
        }
    }

    /// What happened here that is not a member's doing, or ends their being here.
    pub(super) fn input(&mut self, input: Input) {
        match &input {
            Input::Leave { member } => {
                self.house.leave(*member);
                self.guests.remove(member);
                let theirs: Vec<_> =
                    self.open.range((*member, 0)..=(*member, u64::MAX)).map(|(key, _)| *key).collect();
                for key in theirs {
                    self.open.remove(&key);
                }
            }
            Input::Broadcasting(on) => self.on_air = *on,
            Input::Drain { retry_after_ms } => return self.drain(*retry_after_ms),
            Input::Quality { member, quality } => {
                let key = Some(Key::Quality(quality.session.clone()));
                let event = Event::QualityChanged { quality: quality.clone() };
                let line = encode_event(self.part.epoch(), None, &event).into();
                let to = To::Member(*member);
                return self.play(Word::Tell(Delivery { to, lane: Importance::Ambient, key, line }));
            }
            Input::Record(record) if self.desk.is_some() => {
                self.part.tell(Item::Public(record.public), true);
            }
            _ => {}
        }
        if self.desk.is_some() {
            return self.stage(input);
        }
        let ask = match input {
            Input::Leave { member } => Ask::Leave(member),
            Input::OrderMoved { order, .. } => Ask::Order(order.order.id),
            Input::OrderChanged { order, refunded_minor } => {
                Ask::OrderChanged { order: order.order.id, refunded_minor }
            }
            Input::Bag(_) => Ask::Bag,
            Input::Record(_) => Ask::Record,
            Input::Applied { sale, answer: Ok(Applied { released, offered, .. }), .. } => {
                Ask::Sale { sale, released, offered }
            }
            Input::SaleKnown { sale, .. } => {
                Ask::Sale { sale: sale.id, released: Vec::new(), offered: Vec::new() }
            }
            Input::Broadcasting(on) => Ask::Air(if on { Air::On } else { Air::Off }),
            Input::Stalled(stalled) => Ask::Air(Air::Stalled(stalled)),
            Input::OutOfOrder => Ask::Air(Air::OutOfOrder),
            Input::SoundByMoqOnly => Ask::Air(Air::SoundByMoqOnly),
            // Answers to questions of a stage that is here no more.
            _ => return,
        };
        // Where too much waits, the owner finds it in the ledger and at the gate.
        let _ = self.ask(ask);
    }

    pub(super) fn drain(&mut self, retry_after_ms: u64) {
        let members: Vec<_> = self.house.members().collect();
        let epoch = self.part.epoch().to_owned();
        for delivery in farewells(&members, &epoch, retry_after_ms) {
            self.play(Word::Tell(delivery));
        }
        self.part.leave();
    }

    pub(super) fn command(&mut self, command: Command, turn: Turn) {
        match command {
            Command::Request { member, id, request } => {
                self.open.insert((member, id), Instant::now());
                self.request(member, id, *request, turn);
            }
            Command::Look(answer) => {
                let asker = self.live.next_member();
                self.looks.retain(|_, waiting| !waiting.is_closed());
                self.looks.insert(asker, answer);
                self.look(asker);
            }
        }
    }

    pub(super) fn request(&mut self, member: MemberId, id: u64, request: Request, turn: Turn) {
        if self.desk.is_some() {
            self.stage(Input::Request { member, id, request });
        } else if self.part.is_follower() {
            let text = haul_wire::encode_request(id, &request);
            let ask = Ask::Request { member, text };
            let asked = match turn {
                Turn::First => self.part.ask(ask),
                Turn::Later => self.part.ask_later(ask),
            };
            if !asked {
                self.fail_open(&[(member, id)]);
            }
        } else if self.stash.len() < MAX_STASHED {
            self.stash.push((member, id, request, turn));
        } else {
            self.fail_open(&[(member, id)]);
        }
    }

    pub(super) fn look(&mut self, asker: MemberId) {
        match &self.desk {
            Some(desk) => {
                if let Some(answer) = self.looks.remove(&asker) {
                    let _ = answer.send(desk.look());
                }
            }
            // Where it is not asked now, it is when there is an owner.
            None => {
                let _ = self.part.ask(Ask::Look { asker });
            }
        }
    }
}
