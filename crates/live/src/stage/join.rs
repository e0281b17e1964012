//! Arriving: hello, the snapshot, and catching up.

use haul_commerce::{Order, Standing};
use haul_model::{Locale, Now, Viewer};
use haul_room::{Lane, Line};
use haul_wire::{HostView, Position, Reply, Resumed, SaleView, Snapshot, Warning, You};

use super::{
    Member, MemberId, Output, Stage, To,
    answers::{hold_view, order_view},
    is_staff,
};

/// A hello that is not answered yet.
#[derive(Debug)]
pub(super) struct Joining {
    id: u64,
    resume: Option<Position>,
}

/// What could be found of somebody. Where the gate or the ledger did not answer, it is left out: the events and the
/// next hello will tell.
#[derive(Debug, Default)]
pub(crate) struct Personal {
    pub(crate) holds: Vec<(haul_model::SaleId, Standing)>,
    /// Their orders in this live.
    pub(crate) orders: Vec<Order>,
    /// How many orders with the merchant, here and elsewhere, they paid and kept something of.
    pub(crate) bought: u32,
}

impl Stage {
    /// A newcomer. Who might hold or have bought something is welcomed when that has been looked up; until then the
    /// owner keeps back what is for them, so that no news is overtaken by the older snapshot.
    pub(super) fn join(
        &mut self,
        member: MemberId,
        id: u64,
        viewer: Option<Viewer>,
        locale: Option<Locale>,
        resume: Option<Position>,
        now: Now,
    ) {
        let buyer = viewer.as_ref().map(|viewer| viewer.id.clone());
        let joining = Some(Joining { id, resume });
        self.enters(member, Member { viewer, locale, bought: 0, joining, visiting: false });
        match buyer {
            Some(buyer) => self.outputs.push_back(Output::Find { member, buyer }),
            None => self.found(member, Personal::default(), now),
        }
    }

    /// Somebody whom an earlier owner has welcomed: nothing changes for them.
    pub(super) fn back(
        &mut self,
        member: MemberId,
        viewer: Option<Viewer>,
        locale: Option<Locale>,
        now: Now,
    ) {
        if let Some(viewer) = &viewer {
            self.outputs.push_back(Output::Find { member, buyer: viewer.id.clone() });
        }
        if !viewer.as_ref().is_some_and(is_staff) {
            self.viewers += 1;
            self.viewers_changed(now);
        }
        self.enters(member, Member { viewer, locale, bought: 0, joining: None, visiting: false });
    }

    fn enters(&mut self, member: MemberId, newcomer: Member) {
        let viewer = newcomer.viewer.map(|viewer| self.called(viewer));
        self.members.insert(member, Member { viewer, ..newcomer });
        self.name_comes(member);
    }

    pub(super) fn found(&mut self, member: MemberId, personal: Personal, now: Now) {
        // Gone in the meantime.
        let Some(known) = self.members.get_mut(&member) else { return };
        known.bought = personal.bought;
        // Welcomed before.
        let Some(Joining { id, resume }) = known.joining.take() else { return };
        let (viewer, locale) = (known.viewer.clone(), known.locale.clone());
        if let Some(failure) = self.banned(member, now) {
            self.fail(member, id, &failure);
            self.outputs.push_back(Output::End(member, haul_wire::close::BANNED));
            self.members.remove(&member);
            self.name_goes(member, viewer.as_ref());
            return;
        }
        if !viewer.as_ref().is_some_and(is_staff) {
            self.viewers += 1;
            self.viewers_changed(now);
            if let Some(viewer) = viewer.as_ref().filter(|_| resume.is_none()) {
                self.room.joined(&viewer.name, now);
            }
        }
        let missed = resume.as_ref().map(|position| self.missed(position, viewer.as_ref(), locale.as_ref()));
        let snapshot =
            self.snapshot(member, (viewer.as_ref(), locale.as_ref()), personal, missed.as_ref(), now);
        self.reply(member, id, &Reply::Hello(Box::new(snapshot)));
        for line in missed.flatten().into_iter().flatten() {
            self.deliver(To::Member(member), Lane::Room, None, line);
        }
        if viewer.as_ref().is_some_and(is_staff) {
            let wrong = [(self.out_of_order, Warning::BFrames), (self.sound_by_moq_only, Warning::Aac)];
            for (_, warning) in wrong.into_iter().filter(|(is_so, _)| *is_so) {
                self.warn(To::Member(member), warning);
            }
        }
        self.outputs.push_back(Output::Welcome(member));
    }

    fn snapshot(
        &self,
        member: MemberId,
        (viewer, locale): (Option<&Viewer>, Option<&Locale>),
        personal: Personal,
        missed: Option<&Option<Vec<Line>>>,
        now: Now,
    ) -> Snapshot {
        let server_time = self.clock.now(now);
        let (epoch, offset) = self.room.position();
        let recovered = missed.map(|missed| missed.is_some());
        Snapshot {
            session: format!("{}-{}", self.record.id, member.0),
            server_time,
            epoch: epoch.to_owned(),
            offset,
            resumed: recovered.map(|recovered| Resumed { recovered }),
            you: viewer.map(|viewer| You {
                name: viewer.name.clone(),
                role: viewer.role,
                holds: personal
                    .holds
                    .into_iter()
                    .filter_map(|(sale, Standing { hold, units, outcome, coupon, .. })| {
                        hold_view(hold, sale, &units, coupon, &outcome)
                    })
                    .collect(),
                orders: personal.orders.iter().map(order_view).collect(),
                standing: self.room.standing(&viewer.id, viewer.role, now.wall),
            }),
            live: self.live_view(),
            products: self.bag.views(locale),
            pin: self.room.pin().cloned(),
            sales: self.sales.values().map(|on_sale| -> SaleView { on_sale.view(server_time) }).collect(),
            coupon: self.coupons.shown(),
            contact: self.settings.contact,
            viewers: self.viewers,
            chat: match recovered {
                Some(true) => Vec::new(),
                _ => self.room.chat(viewer.map(|viewer| &viewer.id), viewer.is_some_and(is_staff)),
            },
            chat_pin: self.room.chat_pin().cloned(),
            chat_rules: self.room.rules(),
            room: self.room_view(viewer.map(|viewer| &viewer.id), viewer.is_some_and(is_staff)),
            host: viewer.filter(|viewer| is_staff(viewer)).map(|_| HostView {
                totals: self.totals.clone(),
                orders: self.orders.iter().map(order_view).collect(),
                threads: self.room.thread_lines(None),
                winners: self.room.winners().to_vec(),
                drawn: self.room.drawn_before(),
            }),
        }
    }
}
