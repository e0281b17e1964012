//! Who is connected to a live here, and how they are reached.

use std::{collections::HashMap, sync::Arc};

use haul_model::{BuyerId, Viewer};
use haul_room::{Key, Lane, Line};
use serde::{Deserialize, Serialize};

use crate::{
    connection::Outlet,
    metrics::Metrics,
    stage::{Delivery, MemberId, To, is_staff},
};

/// A member as they are reached.
struct Place {
    outlet: Arc<Outlet>,
    buyer: Option<BuyerId>,
    /// Gets what goes to everybody.
    welcomed: bool,
    /// What is for this member in particular and came before the welcome.
    kept: Vec<(Lane, Option<Key>, Line)>,
}

/// What members are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// A line.
    Tell(Delivery),
    /// The member gets what goes to everybody, from here on.
    Welcome(MemberId),
    /// The member's connection ends with this code.
    End(MemberId, u16),
}

/// The members of a live whose connections are in this process.
#[derive(Default)]
pub(crate) struct House {
    places: HashMap<MemberId, Place>,
    by_buyer: HashMap<BuyerId, Vec<MemberId>>,
    /// Host and moderators: few, and told of every order, so that the whole house is not searched for them.
    staff: Vec<MemberId>,
}

impl House {
    /// Somebody who is welcomed later.
    pub(crate) fn enter(&mut self, member: MemberId, viewer: Option<&Viewer>, outlet: Arc<Outlet>) {
        let buyer = viewer.map(|viewer| viewer.id.clone());
        if let Some(buyer) = &buyer {
            self.by_buyer.entry(buyer.clone()).or_default().push(member);
        }
        if viewer.is_some_and(is_staff) {
            self.staff.push(member);
        }
        self.places.insert(member, Place { outlet, buyer, welcomed: false, kept: Vec::new() });
    }

    /// Somebody who asks one thing, and hears the answer and nothing else.
    pub(crate) fn visit(&mut self, member: MemberId, outlet: Arc<Outlet>) {
        self.places.insert(member, Place { outlet, buyer: None, welcomed: false, kept: Vec::new() });
    }

    pub(crate) fn leave(&mut self, member: MemberId) {
        let Some(place) = self.places.remove(&member) else { return };
        self.staff.retain(|other| *other != member);
        if let Some(buyer) = place.buyer
            && let Some(members) = self.by_buyer.get_mut(&buyer)
        {
            members.retain(|other| *other != member);
            if members.is_empty() {
                self.by_buyer.remove(&buyer);
            }
        }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> {
        self.places.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_welcomed(&self, member: MemberId) -> bool {
        self.places.get(&member).is_some_and(|place| place.welcomed)
    }

    pub(crate) fn play(&mut self, word: Word, metrics: &Metrics) {
        match word {
            Word::Tell(delivery) => self.deliver(delivery, metrics),
            Word::Welcome(member) => self.welcome(member, metrics),
            Word::End(member, code) => self.end(member, code),
        }
    }

    fn welcome(&mut self, member: MemberId, metrics: &Metrics) {
        let Some(place) = self.places.get_mut(&member) else { return };
        place.welcomed = true;
        for (lane, key, line) in std::mem::take(&mut place.kept) {
            place.outlet.push(lane, key, line, metrics);
        }
    }

    fn end(&self, member: MemberId, code: u16) {
        if let Some(place) = self.places.get(&member) {
            place.outlet.end(code);
        }
    }

    pub(crate) fn end_all(&self, code: u16) {
        for place in self.places.values() {
            place.outlet.end(code);
        }
    }

    fn deliver(&mut self, delivery: Delivery, metrics: &Metrics) {
        let Delivery { to, lane, key, line } = delivery;
        match to {
            To::All => {
                for place in self.places.values().filter(|place| place.welcomed) {
                    place.outlet.push(lane, key.clone(), line.clone(), metrics);
                }
            }
            To::Staff => {
                for place in self.staff.iter().filter_map(|member| self.places.get(member)) {
                    if place.welcomed {
                        place.outlet.push(lane, key.clone(), line.clone(), metrics);
                    }
                }
            }
            To::Buyer(buyer) => {
                for member in self.by_buyer.get(&buyer).into_iter().flatten() {
                    if let Some(place) = self.places.get_mut(member) {
                        match place.welcomed {
                            true => place.outlet.push(lane, key.clone(), line.clone(), metrics),
                            false => place.kept.push((lane, key.clone(), line.clone())),
                        }
                    }
                }
            }
            To::Member(member) => {
                if let Some(place) = self.places.get(&member) {
                    place.outlet.push(lane, key, line, metrics);
                }
            }
        }
    }
}
