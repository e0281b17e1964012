//! A live as one state machine: who is here, what is said, pinned and sold, and who must be told what.
//!
//! Pure. Its owner hands it what happens, with the time, and carries out the [`Output`]s: lines to deliver, questions to
//! the gate and the ledger. It never waits: an answer from outside comes back as another input.

mod answers;
mod applied;
mod bag;
mod clock;
mod coupons;
mod join;
mod messages;
mod names;
mod orders;
mod refunds;
mod request;
mod room;
mod sales;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use haul_commerce::{LiveRecord, LiveRef, Order, Released, Sale, book::HoldRecord};
use haul_model::{BuyerId, Locale, Now, ProductId, Role, SaleId, UnixMillis, Viewer};
use haul_room::{Key, Lane, Limiter, Line, News, Note, Rate, Room};
use haul_wire::{
    Event, Failure, LiveSound, LiveState, LiveView, Pin, Reply, SaleState, Totals, Warning, encode_failure,
    encode_reply,
};
use rand::rngs::StdRng;

pub(crate) use self::{
    answers::{gate_failed, hold_view, millis, other_sale, unavailable},
    coupons::misfit,
    join::Personal,
    messages::{
        Beginning, CheckedOut, Delivery, Input, MEMBER_BITS, MemberId, Output, Payer, Then, To, as_text,
        as_texts,
    },
};
pub use self::{
    answers::{order_view, product_view},
    coupons::coupon_view,
    messages::Settings,
};
use self::{
    bag::Bag,
    clock::GateClock,
    coupons::Coupons,
    sales::{OnSale, SWEEP_RETRY},
};

/// Sales on stage at once; another is refused. Bounds the snapshot that every newcomer gets.
pub const MAX_SALES: usize = 50;
/// Lines of all sales on stage together; a sale with more than are left is refused. Bounds the snapshot likewise.
pub const MAX_LINES_ON_STAGE: usize = 50;
/// Lines of one hold; more are refused. Bounds what a buyer and the host are told of it.
pub const MAX_HOLD_LINES: usize = 6;
/// Products in a bag; bounds the snapshot likewise.
pub const MAX_BAG: usize = 100;
/// Orders the host is shown.
pub const MAX_ORDERS_SHOWN: usize = 50;
/// Holds, cancellations and checkouts of one person in a row, and one more after each of these.
const SHOPPING: Rate = Rate { burst: 30, every: Duration::from_millis(200) };
/// Readers that another server takes a second, when this one goes away.
const RETURNS_A_SECOND: u64 = 1_000;
/// They are asked to come back at so many different times.
const RETURN_WAVES: u64 = 64;
/// The viewer count is told at most once in this time.
const VIEWERS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Member {
    viewer: Option<Viewer>,
    /// In which language they read of products, where they have said so.
    locale: Option<Locale>,
    /// Orders of theirs with the merchant, here and in other lives, that are paid and that they kept something of.
    bought: u32,
    /// The hello to answer, until it is answered.
    joining: Option<join::Joining>,
    /// Here for one question only.
    visiting: bool,
}

/// The live.
pub(crate) struct Stage {
    record: LiveRecord,
    live: LiveRef,
    settings: Settings,
    rng: StdRng,
    clock: GateClock,
    room: Room,
    /// How often one person may ask for the gate: each hold is remembered, and costs the others' time.
    shoppers: Limiter<BuyerId>,
    members: HashMap<MemberId, Member>,
    names: names::Names,
    /// Welcomed members who are not staff: what the viewer count says.
    viewers: u64,
    viewers_told: u64,
    /// The most at once so far.
    peak: u64,
    tell_viewers_at: Option<Instant>,
    viewers_told_at: Instant,
    broadcasting: bool,
    /// Since when, by the server's clock: where the broadcast's own time begins.
    on_air_since: Option<UnixMillis>,
    /// The host is on air, and nothing comes.
    stalled: bool,
    /// Its encoder sends B-frames: told to staff who come later, too.
    out_of_order: bool,
    /// Its sound is AAC: who watches by WebRTC does not hear it.
    sound_by_moq_only: bool,
    bag: Bag,
    sales: BTreeMap<SaleId, OnSale>,
    coupons: Coupons,
    /// The giveaway's word, as connections know it.
    word_told: Option<String>,
    /// Answers to what is not written down yet.
    unwritten: room::Unwritten,
    orders: VecDeque<Order>,
    totals: Totals,
    outputs: VecDeque<Output>,
}

impl Stage {
    pub(crate) fn new(
        beginning: Beginning,
        settings: Settings,
        epoch: String,
        rng: StdRng,
        now: Now,
    ) -> Self {
        let Beginning { record, bag, sales, coupons, orders, totals, notes, estate } = beginning;
        let coupons = Coupons::new(coupons, &notes);
        let names = names::Names::new(&settings.reserved_names, &notes);
        let mut clock = GateClock::new(now);
        for applied in sales.iter().filter_map(|(_, applied)| applied.as_ref()) {
            clock.observe(applied.now, now);
        }
        let server_time = clock.now(now);
        let sales: BTreeMap<SaleId, OnSale> = sales
            .into_iter()
            .map(|(sale, applied)| {
                let mut on_sale = match applied {
                    Some(applied) => OnSale::new(sale, &applied),
                    None => OnSale::awaited(sale),
                };
                on_sale.state_told = on_sale.state(server_time);
                (on_sale.sale.id.clone(), on_sale)
            })
            .collect();
        let mut room = Room::new(epoch, settings.chat_rate);
        let notes = notes.into_iter().map(|(name, text)| Note { name, text: Some(text) }).collect();
        if estate.is_some() {
            room.watch();
        }
        let inherited = estate.filter(|estate| !estate.epoch.is_empty());
        let goes_on = inherited.is_some();
        if let Some(estate) = inherited {
            room.inherit(estate, now);
        }
        room.restore(notes, now);
        if !goes_on && let Some(product_id) = on_offer(&sales, server_time) {
            room.set_pin(Some(Pin { product_id, since: server_time, media_ms: None }));
        }
        let peak = room.peak();
        let mut stage = Self {
            live: LiveRef { merchant: record.merchant.clone(), live: record.id.clone() },
            room,
            shoppers: Limiter::new(SHOPPING),
            record,
            names,
            settings,
            rng,
            clock,
            members: HashMap::new(),
            viewers: 0,
            viewers_told: 0,
            peak,
            tell_viewers_at: None,
            viewers_told_at: now.instant,
            broadcasting: false,
            on_air_since: None,
            stalled: false,
            out_of_order: false,
            sound_by_moq_only: false,
            bag: Bag::new(bag),
            sales,
            coupons,
            word_told: None,
            unwritten: room::Unwritten::default(),
            orders: orders.into(),
            totals: Totals { orders: totals.orders, units: totals.units, revenue: totals.revenue },
            outputs: VecDeque::new(),
        };
        // What was found written down and is made only now.
        stage.carry_room();
        stage
    }

    pub(crate) fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Join { member, id, viewer, locale, resume } => {
                self.join(member, id, viewer, locale, resume, now);
            }
            Input::Visit { member, viewer } => {
                let visitor =
                    Member { viewer: Some(viewer), locale: None, bought: 0, joining: None, visiting: true };
                self.members.insert(member, visitor);
            }
            Input::Back { member, viewer, locale } => self.back(member, viewer, locale, now),
            Input::Found { member, personal } => self.found(member, personal, now),
            Input::Leave { member } => self.leave(member, now),
            Input::Request { member, id, request } => self.request(member, id, request, now),
            Input::Written { upto } => self.written(upto, now),
            Input::Liked(likes) => self.room.liked(likes, now),
            Input::Applied { sale, answer, then } => self.applied(&sale, answer, then, now),
            Input::SalePut { member, id, answer } => self.sale_put(member, id, answer, now),
            Input::CouponPut { member, id, show, answer } => self.coupon_put(member, id, show, answer),
            Input::CouponFound { member, id, request, coupon } => {
                self.coupon_found(member, id, *request, coupon, now);
            }
            Input::HoldSeen { member, id, payer, sale, hold, coupon, units } => {
                if let Err(failure) = self.hold_seen(member, id, payer, sale, hold, coupon, units) {
                    self.fail(member, id, &failure);
                }
            }
            Input::Restocked { member, id, answer } => self.restocked(member, id, answer),
            Input::Forget { buyer } => {
                for order in self.orders.iter_mut().filter(|order| order.order.buyer == buyer) {
                    order.order.buyer_name.clear();
                }
                self.room.forget_person(&buyer, now);
                self.carry_room();
            }
            Input::Elsewhere { sale, released, offered } => {
                for released in &released {
                    self.released(&sale, released);
                }
                self.offered(&sale, &offered);
                self.outputs.push_back(Output::Ask { sale, op: None, then: Then::Nothing });
            }
            Input::SaleKnown { sale, applied } => {
                self.put_on_stage(sale, &applied, now);
            }
            Input::HoldsLost { sale, holds } => {
                for HoldRecord { hold, buyer, units, order, .. } in holds {
                    self.released(&sale, &Released { hold, buyer, units, order });
                }
            }
            Input::CheckedOut { member, id, sale, answer } => self.checked_out(member, id, sale, answer, now),
            Input::OrderMoved { order, hold } => self.order_moved(order, hold),
            Input::OrderChanged { order, refunded_minor } => self.order_changed(order, refunded_minor),
            Input::Quality { member, quality } => {
                let key = Key::Quality(quality.session.clone());
                let line = self.room.line(&Event::QualityChanged { quality });
                self.deliver(To::Member(member), Lane::Ambient, Some(key), line);
            }
            Input::Broadcasting(broadcasting) => {
                let before = self.live_view();
                (self.out_of_order, self.sound_by_moq_only) = (false, false);
                (self.broadcasting, self.stalled) = (broadcasting, false);
                self.on_air_since = broadcasting.then(|| self.clock.now(now));
                if self.live_view() != before {
                    self.announce_live();
                }
            }
            Input::Stalled(stalled) => {
                let before = self.state();
                self.stalled = stalled;
                if self.state() != before {
                    self.announce_live();
                }
            }
            Input::OutOfOrder => {
                self.out_of_order = true;
                self.warn(To::Staff, Warning::BFrames);
            }
            Input::SoundByMoqOnly => {
                self.sound_by_moq_only = true;
                self.announce_live();
                self.warn(To::Staff, Warning::Aac);
            }
            Input::Bag(bag) => self.bag_changed(bag),
            Input::Record(record) => {
                self.record = record;
                self.announce_live();
                if !self.record.public {
                    let strangers = self.members.iter().filter(|(_, member)| member.viewer.is_none());
                    self.outputs.extend(
                        strangers.map(|(member, _)| Output::End(*member, haul_wire::close::UNAUTHORIZED)),
                    );
                }
            }
            Input::Drain { retry_after_ms } => {
                self.drain(retry_after_ms);
            }
        }
    }

    /// Asks everybody to come back, spread over so much time that another server can take them.
    fn drain(&mut self, retry_after_ms: u64) {
        let members: Vec<_> = self.members.keys().copied().collect();
        for delivery in farewells(&members, self.room.position().0, retry_after_ms) {
            self.outputs.push_back(Output::Deliver(delivery));
        }
    }

    /// Has written down what is written down now and then only: the process ends.
    pub(crate) fn keep_counted(&mut self) {
        self.room.keep_counted();
        self.carry_room();
    }

    /// What the room has become since the last call, and where it stands: for heirs.
    pub(crate) fn news(&mut self) -> (News, String, u64) {
        let news = self.room.news();
        let (epoch, offset) = self.room.position();
        (news, epoch.to_owned(), offset)
    }

    /// The broadcast's own time: milliseconds since it began.
    pub(super) fn media_ms(&self, now: Now) -> Option<u64> {
        let since = self.on_air_since?;
        Some(self.clock.now(now).saturating_since(since).as_millis() as u64)
    }

    fn warn(&mut self, to: To, warning: Warning) {
        let line = self.room.line(&Event::HostWarning { warning });
        self.deliver(to, Lane::Room, None, line);
    }

    /// What to do next, until there is nothing more.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Stage::timeout`] wants to be called, if nothing else happens.
    pub(crate) fn next_timeout(&self, now: Now) -> Option<Instant> {
        let server_time = self.clock.now(now);
        let sales = self.sales.values().flat_map(|on_sale| {
            let change = on_sale.next_change(server_time).map(|at| self.clock.instant_of(at, now));
            let sweep = on_sale.next_deadline.filter(|_| !on_sale.frozen).map(|at| {
                let due = self.clock.instant_of(at, now);
                on_sale.sweep_not_before.map_or(due, |not_before| due.max(not_before))
            });
            [on_sale.tell_at, change, sweep].into_iter().flatten()
        });
        sales
            .chain(self.tell_viewers_at)
            .chain(self.room.next_timeout())
            .chain(self.unwritten.next_timeout())
            .min()
    }

    /// Does what is due.
    pub(crate) fn timeout(&mut self, now: Now) {
        let server_time = self.clock.now(now);
        if self.tell_viewers_at.is_some_and(|at| at <= now.instant) {
            self.tell_viewers(now);
        }
        self.unwritten_timeout(now);
        self.room.timeout(now);
        self.carry_room();
        let mut events = Vec::new();
        for on_sale in self.sales.values_mut() {
            if !on_sale.frozen
                && on_sale.next_deadline.is_some_and(|at| at <= server_time)
                && on_sale.sweep_not_before.is_none_or(|at| at <= now.instant)
            {
                // Also the pause between two sweeps, should the gate's answer never arrive.
                on_sale.sweep_not_before = Some(now.instant + SWEEP_RETRY);
                self.outputs.push_back(Output::Ask {
                    sale: on_sale.sale.id.clone(),
                    op: None,
                    then: Then::Nothing,
                });
            }
            let state = on_sale.state(server_time);
            if state != on_sale.state_told {
                on_sale.state_told = state;
                events.push(Event::SaleChanged { sale: on_sale.view(server_time) });
            }
        }
        for event in events {
            self.tell_all(&event);
        }
        self.tell_stock(now);
        self.sales.retain(|_, on_sale| !on_sale.is_history(server_time));
    }

    /// Server time: the gate's clock.
    pub(crate) fn server_time(&self, now: Now) -> UnixMillis {
        self.clock.now(now)
    }

    pub(crate) fn title(&self) -> &str {
        &self.record.title
    }

    pub(crate) fn viewers(&self) -> u64 {
        self.viewers
    }

    pub(crate) fn state(&self) -> LiveState {
        match (self.broadcasting, self.stalled) {
            (false, _) => LiveState::Waiting,
            (true, true) => LiveState::Reconnecting,
            (true, false) => LiveState::Live,
        }
    }

    /// The sale's terms, for those who commit orders.
    pub(crate) fn sale(&self, sale: &SaleId) -> Option<&Sale> {
        self.sales.get(sale).map(|on_sale| &on_sale.sale)
    }

    pub(crate) fn sale_ids(&self) -> Vec<SaleId> {
        self.sales.keys().cloned().collect()
    }

    pub(crate) fn sale_views(&self, now: Now) -> Vec<haul_wire::SaleView> {
        let server_time = self.clock.now(now);
        self.sales.values().map(|on_sale| on_sale.view(server_time)).collect()
    }

    fn leave(&mut self, member: MemberId, now: Now) {
        let Some(left) = self.members.remove(&member) else { return };
        if left.visiting {
            return;
        }
        self.name_goes(member, left.viewer.as_ref());
        let member = left;
        if member.joining.is_none() && !member.viewer.as_ref().is_some_and(is_staff) {
            self.viewers -= 1;
            self.viewers_changed(now);
        }
    }

    fn tell_stock(&mut self, now: Now) {
        let events: Vec<_> =
            self.sales.values_mut().filter_map(|on_sale| on_sale.stock_event(now.instant)).collect();
        for event in events {
            let key = match &event {
                Event::StockChanged { sale_id, .. } => Some(Key::Stock(sale_id.clone())),
                _ => None,
            };
            let line = self.room.line(&event);
            self.deliver(To::All, Lane::Commerce, key, line);
        }
    }

    fn viewers_changed(&mut self, now: Now) {
        self.peak = self.peak.max(self.viewers);
        let at = now.instant.max(self.viewers_told_at + VIEWERS_EVERY);
        self.tell_viewers_at.get_or_insert(at);
    }

    fn tell_viewers(&mut self, now: Now) {
        self.tell_viewers_at = None;
        self.viewers_told_at = now.instant;
        self.room.peaked(self.peak);
        if self.viewers_told != self.viewers {
            self.viewers_told = self.viewers;
            let line = self.room.line(&Event::ViewersChanged { viewers: self.viewers, peak: self.peak });
            self.deliver(To::All, Lane::Ambient, Some(Key::Viewers), line);
        }
    }

    fn live_view(&self) -> LiveView {
        let state = self.state();
        let sound = self.sound_by_moq_only.then_some(LiveSound::MoqOnly);
        LiveView { title: self.record.title.clone(), state, sound }
    }

    fn announce_live(&mut self) {
        let event = Event::LiveChanged { live: self.live_view() };
        self.tell_all(&event);
    }

    /// A numbered event to everybody.
    fn tell_all(&mut self, event: &Event) {
        let line = self.room.record(event);
        self.deliver(To::All, Lane::Room, None, line);
    }

    fn tell_buyer(&mut self, buyer: &BuyerId, key: Key, event: &Event) {
        let line = self.room.line(event);
        self.deliver(To::Buyer(buyer.clone()), Lane::Commerce, Some(key), line);
    }

    fn reply(&mut self, member: MemberId, id: u64, reply: &Reply) {
        self.deliver(To::Member(member), Lane::Reply, None, encode_reply(id, reply).into());
    }

    fn fail(&mut self, member: MemberId, id: u64, failure: &Failure) {
        self.deliver(To::Member(member), Lane::Reply, None, encode_failure(Some(id), failure).into());
    }

    fn deliver(&mut self, to: To, lane: Lane, key: Option<Key>, line: Line) {
        self.outputs.push_back(Output::Deliver(Delivery { to, lane, key, line }));
    }
}

/// What members are told by a server that goes away: to come back, in waves.
pub(crate) fn farewells(
    members: &[MemberId],
    epoch: &str,
    retry_after_ms: u64,
) -> impl Iterator<Item = Delivery> {
    let spread_ms = (members.len() as u64 * 1000 / RETURNS_A_SECOND).clamp(1_000, 30_000);
    let lines: Vec<Line> = (0..RETURN_WAVES)
        .map(|wave| {
            let retry_after_ms = retry_after_ms + wave * spread_ms / RETURN_WAVES;
            haul_wire::encode_event(epoch, None, &Event::Draining { retry_after_ms }).into()
        })
        .collect();
    members.iter().map(move |member| Delivery {
        to: To::Member(*member),
        lane: Lane::Reply,
        key: None,
        line: lines[(member.0 % RETURN_WAVES) as usize].clone(),
    })
}

/// What was being explained when the last owner ended is not written down. The product of the sale that opened last is
/// the best guess, and a better sight for those who come back than none.
fn on_offer(sales: &BTreeMap<SaleId, OnSale>, server_time: UnixMillis) -> Option<ProductId> {
    sales
        .values()
        .filter(|on_sale| on_sale.state(server_time) == SaleState::Open)
        .max_by_key(|on_sale| on_sale.sale.terms.opens_at)
        .map(|on_sale| on_sale.sale.product.clone())
}

pub(crate) fn is_staff(viewer: &Viewer) -> bool {
    viewer.role.includes(Role::Moderator)
}
