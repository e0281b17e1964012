//! The task that owns a live: it hands the stage what happens and carries out what the stage says.

use std::{collections::HashMap, sync::Arc};

use haul_commerce::GateError;
use haul_media::{Delivery as Taken, RelayEvent, Sink, Subscription};
use haul_model::BuyerId;
use haul_room::{Key, Lane, Line};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Services,
    chores::Chore,
    connection::Outlet,
    coupons,
    live::{Command, Live, Look, Post},
    now, purchase, restock,
    stage::{Delivery, Input, MemberId, Output, Stage, To, is_staff},
    till::Till,
};

/// The close code of a service that starts anew (RFC 6455's registry): connect again.
const RESTART: u16 = 1012;
/// Sleeps at most this long: a bound for a clock that was set while nothing happened.
const LONGEST_SLEEP: std::time::Duration = std::time::Duration::from_secs(5);

/// A member as the owner reaches them.
struct Place {
    outlet: Arc<Outlet>,
    buyer: Option<BuyerId>,
    /// Gets what goes to everybody.
    welcomed: bool,
    /// What is for this member in particular and came before the welcome.
    kept: Vec<(Lane, Option<Key>, Line)>,
}

pub(crate) struct Owner {
    pub(crate) stage: Stage,
    pub(crate) live: Live,
    pub(crate) services: Services,
    pub(crate) till: Till,
    places: HashMap<MemberId, Place>,
    by_buyer: HashMap<BuyerId, Vec<MemberId>>,
    /// Host and moderators: few, and told of every order, so that the whole house is not searched for them.
    staff: Vec<MemberId>,
    /// Keeps the watch on the relay.
    _broadcasts: Subscription,
}

/// Tells the owner when the host's picture begins and ends, whatever protocol it comes by.
struct Broadcasts(mpsc::UnboundedSender<Post>);

impl Sink for Broadcasts {
    fn deliver(&self, event: RelayEvent) -> Taken {
        match event {
            RelayEvent::Started(_) => drop(self.0.send(Input::Broadcasting(true).into())),
            RelayEvent::Ended => drop(self.0.send(Input::Broadcasting(false).into())),
            RelayEvent::Stalled(stalled) => drop(self.0.send(Input::Stalled(stalled).into())),
            RelayEvent::OutOfOrder => drop(self.0.send(Input::OutOfOrder.into())),
            RelayEvent::Frame(_) | RelayEvent::ClockMap(_) => {}
        }
        Taken::Taken
    }
}

impl Owner {
    pub(crate) fn new(
        stage: Stage,
        live: Live,
        services: Services,
        till: Till,
        post: mpsc::UnboundedSender<Post>,
    ) -> Self {
        let (_, broadcasts) = live.relay().subscribe(Arc::new(Broadcasts(post)));
        Self {
            stage,
            live,
            services,
            till,
            places: HashMap::new(),
            by_buyer: HashMap::new(),
            staff: Vec::new(),
            _broadcasts: broadcasts,
        }
    }

    /// Owns the live until the process ends.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Command>,
        mut posted: mpsc::UnboundedReceiver<Post>,
    ) {
        loop {
            let at = now();
            let wake = self.stage.next_timeout(at).unwrap_or(at.instant + LONGEST_SLEEP);
            let wake = wake.min(at.instant + LONGEST_SLEEP);
            tokio::select! {
                biased;
                Some(post) = posted.recv() => self.posted(post),
                () = tokio::time::sleep_until(Instant::from_std(wake)) => self.stage.timeout(now()),
                Some(command) = requests.recv() => self.command(command),
            }
            self.carry_out();
        }
    }

    fn posted(&mut self, post: Post) {
        let input = match post {
            Post::Join { member, id, viewer, resume, outlet } => {
                let buyer = viewer.as_ref().map(|viewer| viewer.id.clone());
                if let Some(buyer) = &buyer {
                    self.by_buyer.entry(buyer.clone()).or_default().push(member);
                }
                if viewer.as_ref().is_some_and(is_staff) {
                    self.staff.push(member);
                }
                self.places.insert(member, Place { outlet, buyer, welcomed: false, kept: Vec::new() });
                Input::Join { member, id, viewer, resume }
            }
            Post::Visit { member, viewer, outlet } => {
                self.places.insert(member, Place { outlet, buyer: None, welcomed: false, kept: Vec::new() });
                Input::Visit { member, viewer }
            }
            Post::Input(input) => {
                if let Input::Leave { member } = &input {
                    self.forget(*member);
                }
                input
            }
        };
        self.stage.handle(input, now());
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Request { member, id, request } => {
                self.stage.handle(Input::Request { member, id, request }, now());
            }
            Command::Look(answer) => {
                let _ = answer.send(Look {
                    title: self.stage.title().to_owned(),
                    viewers: self.stage.viewers(),
                    state: self.stage.state(),
                    sales: self.stage.sale_views(now()),
                });
            }
        }
    }

    fn forget(&mut self, member: MemberId) {
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

    fn carry_out(&mut self) {
        while let Some(output) = self.stage.poll_output() {
            match output {
                Output::Deliver(delivery) => self.deliver(delivery),
                Output::Welcome(member) => self.welcome(member),
                Output::Ask { sale, op, then } => {
                    if let Err((sale, then)) = self.till.put(sale, op, then) {
                        let answer = Err(GateError::Unavailable("too many questions are waiting".to_owned()));
                        self.stage.handle(Input::Applied { sale, answer, then: vec![then] }, now());
                    }
                }
                Output::Find { member, buyer } => self.find(member, buyer),
                Output::PutSale { member, id, sale } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let answer = purchase::put_sale(&services, &live, sale).await;
                        live.input(Input::SalePut { member, id, answer });
                    });
                }
                Output::AddStock { member, id, sale, line, units, key } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    let at = self.stage.server_time(now());
                    tokio::spawn(async move {
                        let answer = restock::add_stock(&services, &live, &sale, &key, line, units, at).await;
                        live.input(Input::SalePut { member, id, answer });
                    });
                }
                Output::Restock { member, id, order, units, key } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let restocked =
                            restock::restock(&services, &live, &order, &key, units.as_ref()).await;
                        let answer = restocked.map_err(|error| error.failure());
                        live.input(Input::Restocked { member, id, answer });
                    });
                }
                Output::Checkout { member, id, viewer, sale, hold, deadline } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    let server_time = self.stage.server_time(now());
                    tokio::spawn(async move {
                        let id_of_sale = sale.id.clone();
                        let purchase = purchase::Purchase { viewer, sale, hold, deadline, server_time };
                        let answer = purchase::check_out(&services, &live, purchase).await;
                        live.input(Input::CheckedOut { member, id, sale: id_of_sale, answer });
                    });
                }
                Output::PutCoupon { member, id, coupon, show } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let answer = coupons::put(&services, &live, &coupon).await;
                        live.input(Input::CouponPut { member, id, show, answer });
                    });
                }
                Output::ChangeCoupon { member, id, code, terms } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let answer = coupons::change(&services, &live, &code, &terms).await;
                        live.input(Input::CouponPut { member, id, show: false, answer });
                    });
                }
                Output::FindCoupon { member, id, code, request } => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    tokio::spawn(async move {
                        let coupon = coupons::find(&services, &live, &code).await;
                        live.input(Input::CouponFound { member, id, request, coupon });
                    });
                }
                Output::LookAtHold { member, id, viewer, sale, hold, coupon } => {
                    let live = self.live.clone();
                    tokio::spawn(async move {
                        let units = purchase::units_of_hold(&live, &sale, &viewer.id, &hold).await;
                        live.input(Input::HoldSeen { member, id, viewer, sale, hold, coupon, units });
                    });
                }
                Output::TellCoupons => self.live.chore(Chore::Coupons),
                Output::TellGate(sale) => self.live.chore(Chore::Sale(Box::new(sale))),
                Output::LookForLost { sale, epoch } => self.live.chore(Chore::Lost(sale, epoch)),
                Output::End(member, code) => {
                    if let Some(place) = self.places.get(&member) {
                        place.outlet.end(code);
                    }
                }
                Output::Keep(note) => self.live.keep(note),
                Output::OrderNews(state) => self.live.metrics().order_moved(state),
                Output::LookAfterOrders => self.live.chore(Chore::Orders),
                Output::ExpireOrder(order) => {
                    let (live, services) = (self.live.clone(), self.services.clone());
                    let server_time = self.stage.server_time(now());
                    tokio::spawn(async move {
                        purchase::expire_order(&services, &live, &order, server_time).await;
                    });
                }
            }
        }
    }

    fn find(&self, member: MemberId, buyer: BuyerId) {
        let (live, services) = (self.live.clone(), self.services.clone());
        let sales = self.stage.sale_ids();
        tokio::spawn(async move {
            let personal = purchase::find_personal(&services, &live, &sales, &buyer).await;
            live.input(Input::Found { member, personal });
        });
    }

    fn welcome(&mut self, member: MemberId) {
        let Some(place) = self.places.get_mut(&member) else { return };
        place.welcomed = true;
        for (lane, key, line) in std::mem::take(&mut place.kept) {
            place.outlet.push(lane, key, line, self.live.metrics());
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Delivery { to, lane, key, line } = delivery;
        match to {
            To::All => {
                for place in self.places.values().filter(|place| place.welcomed) {
                    place.outlet.push(lane, key.clone(), line.clone(), self.live.metrics());
                }
            }
            To::Staff => {
                for place in self.staff.iter().filter_map(|member| self.places.get(member)) {
                    if place.welcomed {
                        place.outlet.push(lane, key.clone(), line.clone(), self.live.metrics());
                    }
                }
            }
            To::Buyer(buyer) => {
                for member in self.by_buyer.get(&buyer).into_iter().flatten() {
                    if let Some(place) = self.places.get_mut(member) {
                        match place.welcomed {
                            true => place.outlet.push(lane, key.clone(), line.clone(), self.live.metrics()),
                            false => place.kept.push((lane, key.clone(), line.clone())),
                        }
                    }
                }
            }
            To::Member(member) => {
                if let Some(place) = self.places.get(&member) {
                    place.outlet.push(lane, key, line, self.live.metrics());
                }
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for place in self.places.values() {
            place.outlet.end(RESTART);
        }
    }
}
