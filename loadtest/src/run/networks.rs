//! Networks that fail: whose, and who has to be told.

use std::time::Instant;

use super::{Run, Stage};
use crate::{
    plan::{Kind, Number, networks_hit},
    pool::Order,
    scenario::{Fault, Transport},
};

impl Run<'_> {
    /// The networks of a share of the actors of each live fail.
    pub(super) fn fail_networks(&self, index: usize, fault: &Fault) {
        let now = Instant::now();
        for (live, stage) in self.stages.iter().enumerate() {
            let seed = self.scenario.seed.wrapping_add(live as u64);
            for kind in Kind::ALL {
                let count = stage.plan.count(kind);
                let Some(share) = fault.network_of(kind) else { continue };
                for (number, time) in networks_hit(seed, index, kind, share, fault.for_s, count) {
                    let until = now + time;
                    match (kind, &stage.shop) {
                        (Kind::Viewer, _) => self.fail_viewer(stage, number, until, fault.roam),
                        (_, Some(shop)) => shop.fail_network(kind, number, until, fault.roam),
                        (_, None) => {}
                    }
                }
            }
        }
    }

    fn fail_viewer(&self, stage: &Stage, number: Number, until: Instant, roams: bool) {
        let transport = stage.plan.viewers[number as usize].transport;
        let number = stage.first + number;
        match (transport, &self.moq) {
            (Transport::Moq, Some(moq)) => moq.fail_network(number, until, roams),
            _ => self.pool(number).order(Order::Fail { number, until, roams }),
        }
    }
}
