//! This server as the owner of the room: how it becomes so, and what the others ask of it.

use std::{collections::HashSet, time::Instant};

use haul_commerce::{Left, OrderState, Outcome};
use haul_model::{BuyerId, OrderId};
use haul_room::Change;

use super::{
    super::{
        left::estate,
        message::{Air, Ask, Item},
    },
    News, Task,
};
use crate::{
    begin,
    chores::Chore,
    desk::Desk,
    now,
    stage::{Input, MemberId, Stage},
};

/// A room as it was found, and whom it has forgotten since it was last written anew.
pub(super) struct Loaded {
    stage: Box<Stage>,
    forgotten: Vec<BuyerId>,
}

/// The members of another server, as this one as the owner knows them.
pub(super) struct Elsewhere {
    pub(super) heard_at: Instant,
    members: HashSet<MemberId>,
}

impl Task {
    pub(super) fn load(&mut self, term: u64, left: Left) {
        let (services, live, news) = (self.services.clone(), self.live.clone(), self.news.clone());
        tokio::spawn(async move {
            let estate = estate(left);
            let forgotten = estate.made.iter().filter_map(|made| match &made.change {
                Change::Forgotten { who, .. } => Some(who.clone()),
                _ => None,
            });
            let forgotten = forgotten.collect();
            let loaded = async {
                let record = services.ledger.live(live.id()).await.ok()??;
                begin::stage(&services, &live, record, Some(estate)).await.ok()
            };
            let loaded = loaded.await.map(|stage| Loaded { stage: Box::new(stage), forgotten });
            let _ = news.send(News::Loaded(term, loaded));
        });
    }

    pub(super) fn begin(&mut self, term: u64, loaded: Loaded) {
        let Loaded { mut stage, forgotten } = loaded;
        let took_over = !self.part.epoch().is_empty();
        // Nothing of the news is told yet: it is written down before what is.
        let (news, epoch, offset) = stage.news();
        self.part.begin(term, epoch.clone(), offset);
        self.part.write(news, epoch, offset);
        if !self.part.is_owner() {
            return;
        }
        // An earlier owner has forgotten them, and did not come to what is left.
        for who in forgotten {
            self.part.purge(who, now());
        }
        if took_over {
            self.live.metrics().room_taken_over();
        }
        tracing::info!(live = %self.live.id(), took_over, "this server owns the room");
        self.desk = Some(Desk::new(*stage, self.live.clone(), self.services.clone(), self.till.clone()));
        self.introduce_all();
        self.settled();
    }

    /// What another server asks of the owner.
    pub(super) fn asked(&mut self, node: u64, asks: Vec<Ask>) {
        let heard_at = Instant::now();
        if self.given_up.remove(&node) {
            self.part.tell(Item::Again { node }, true);
        }
        self.elsewhere
            .entry(node)
            .or_insert_with(|| Elsewhere { heard_at, members: HashSet::new() })
            .heard_at = heard_at;
        for ask in asks {
            let new = |task: &mut Self, member: &MemberId| {
                task.elsewhere.get_mut(&node).is_some_and(|one| one.members.insert(*member))
            };
            match ask {
                Ask::Join { member, id, viewer, locale, resume } if new(self, &member) => {
                    self.stage(Input::Join { member, id, viewer: viewer.map(Into::into), locale, resume });
                }
                Ask::Back { member, viewer, locale } if new(self, &member) => {
                    self.stage(Input::Back { member, viewer: viewer.map(Into::into), locale });
                }
                Ask::Visit { member, viewer } if new(self, &member) => {
                    self.stage(Input::Visit { member, viewer: viewer.into() });
                }
                Ask::Join { .. } | Ask::Back { .. } | Ask::Visit { .. } | Ask::Here => {}
                Ask::Leave(member) => {
                    if let Some(one) = self.elsewhere.get_mut(&node) {
                        one.members.remove(&member);
                    }
                    self.stage(Input::Leave { member });
                }
                Ask::Request { member, text } => {
                    if let Ok((id, request)) = haul_wire::read_request(&text) {
                        self.stage(Input::Request { member, id, request });
                    }
                }
                Ask::Liked(likes) => self.stage(Input::Liked(likes)),
                Ask::Look { asker } => {
                    if let Some(desk) = &self.desk {
                        let look = desk.look();
                        self.part.tell(Item::Looked { asker, look }, true);
                    }
                }
                Ask::Order(order) => self.order(order, None),
                Ask::OrderChanged { order, refunded_minor } => self.order(order, Some(refunded_minor)),
                Ask::Bag => {
                    let (catalogue, live) = (self.services.catalogue.clone(), self.live.clone());
                    tokio::spawn(async move {
                        if let Ok(bag) = catalogue.listed_in(live.id()).await {
                            live.bag_changed(bag);
                        }
                    });
                }
                Ask::Record => {
                    let (ledger, live) = (self.services.ledger.clone(), self.live.clone());
                    tokio::spawn(async move {
                        if let Ok(Some(record)) = ledger.live(live.id()).await {
                            live.record_changed(record);
                        }
                    });
                }
                Ask::Sale { sale, released, offered } => {
                    self.stage(Input::Elsewhere { sale, released, offered });
                }
                Ask::Forget(buyer) => self.forget_here(buyer),
                Ask::Air(air) => self.air(node, air),
            }
            self.carry_out();
        }
    }

    /// A server is gone, and everybody there.
    pub(super) fn gone(&mut self, node: u64) {
        let Some(one) = self.elsewhere.remove(&node) else { return };
        tracing::warn!(live = %self.live.id(), node, members = one.members.len(), "a server is gone");
        self.given_up.insert(node);
        for member in one.members {
            self.stage(Input::Leave { member });
        }
        if self.on_air_at.take_if(|at| *at == node).is_some() && !self.on_air {
            self.stage(Input::Broadcasting(false));
        }
    }

    /// Forgets somebody as the owner: first in the room, then in what is left of it. Whoever has asked is told when the first is
    /// written down.
    pub(super) fn forget_here(&mut self, buyer: BuyerId) {
        self.stage(Input::Forget { buyer: buyer.clone() });
        self.carry_out();
        self.part.tell(Item::Forgot(buyer.clone()), true);
        self.part.purge(buyer, now());
    }

    pub(super) fn air(&mut self, node: u64, air: Air) {
        match air {
            Air::On => self.on_air_at = Some(node),
            Air::Off if self.on_air_at == Some(node) => self.on_air_at = None,
            _ => {}
        }
        self.stage(match air {
            Air::On => Input::Broadcasting(true),
            Air::Off => Input::Broadcasting(self.on_air),
            Air::Stalled(stalled) => Input::Stalled(stalled),
            Air::OutOfOrder => Input::OutOfOrder,
            Air::SoundByMoqOnly => Input::SoundByMoqOnly,
        });
    }

    /// An order moved on elsewhere: the ledger knows.
    pub(super) fn order(&self, order: OrderId, refunded_minor: Option<i64>) {
        let (ledger, live) = (self.services.ledger.clone(), self.live.clone());
        tokio::spawn(async move {
            match ledger.order(&order).await {
                Ok(Some(order)) => match refunded_minor {
                    Some(refunded_minor) => live.order_changed(order, refunded_minor),
                    None => {
                        let hold = match order.state {
                            OrderState::Sold => Some(Outcome::Sold),
                            OrderState::Expired => Some(Outcome::Released),
                            _ => None,
                        };
                        live.order_moved(order, hold);
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%order, %error, "an order that moved could not be read");
                    live.chore(Chore::Orders);
                }
            }
        });
    }
}
