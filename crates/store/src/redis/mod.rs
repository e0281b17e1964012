//! The gate in Redis: each call is one run of a script, atomic there.
//!
//! All keys of a live have one hash tag, so they are on one node of a cluster (`nodes.rs`): `haul:{merchant/live}/sale`, and below it `/holds`,
//! `/buyers`, `/deadlines`, `/standing`, `/over`, `/waiting` and `/coupons`; beside them the coupons of the whole live, `haul:{merchant/live}//coupons`. Ids may contain colons but no slash, so no two sales share a key. No
//! hold expires by key: deadlines are a sorted set that the scripts sweep by Redis' own clock. Only the keys of a whole
//! sale do, long after it closed.

mod link;
mod nodes;
mod rooms;
mod script;
mod settings;

use std::{
    borrow::Cow,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use haul_commerce::{
    Applied, BoxFuture, Counts, CouponTerms, Gate, GateError, Image, LiveRef, Mark, Offered, Op, Outcome,
    Pace, Rebuild, Refusal, Released, SaleMode, SaleMove, SaleTerms, Standing, Units,
    book::{
        CLOCK_MARK_MS, HoldRecord, HoldState, KEEP_ORDERED_MS, KEEP_RELEASED_MS, MAX_ENTRIES, MAX_FORGET,
        MAX_OFFERS, MAX_STANDING, MAX_SWEEP, MAX_WAITING, TAKEOVER_MS,
    },
    reconcile::Held,
    sale::MAX_STOCK,
    units::MAX_LINES,
};
use haul_model::{BuyerId, CouponCode, HoldId, Now, SaleId, UnixMillis};
use redis::Value;

pub use self::rooms::RedisBus;
use self::{
    nodes::Nodes,
    script::{Reply, Run, Script},
};
use crate::{KEEP_SALE_MS, OpenError, REBUILD_PIECE, check_size};

/// How a [`RedisGate`] talks to its server. `Default` is right in production.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// How long an answer may take. After that it is [`GateError::Unknown`], and the connection is replaced.
    pub response_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How many replicas must have a change before it is answered; 0 for none.
    pub wait_replicas: u32,
    /// How long they may take; less than `response_timeout`. Where too few have it by then, the answer is
    /// [`GateError::Unknown`].
    pub wait_timeout: Duration,
    /// Lua that defines `clock()`, the time in milliseconds, for all scripts. Tests give one of their own to move
    /// time; it is this process' code, and nothing that arrives over a network gets here.
    pub clock: Cow<'static, str>,
    /// Whether that clock is compared with this process' own, and calls are refused as [`GateError::ClockJumped`] while it is
    /// ahead of what it can show. Off where a test moves time.
    pub watch_clock: bool,
    /// The certificate (PEM) that signs the server's, for `rediss://`. `None`: those that the system trusts, or of the file
    /// that the environment's `SSL_CERT_FILE` names.
    pub root_cert: Option<Vec<u8>>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(2),
            wait_replicas: 0,
            wait_timeout: Duration::from_millis(200),
            clock: include_str!("../../scripts/clock.lua").into(),
            watch_clock: true,
            root_cert: None,
        }
    }
}

/// The gate in Redis (6 or newer).
#[derive(Debug)]
pub struct RedisGate {
    nodes: Nodes,
    apply: Script,
    put_sale: Script,
    put_coupons: Script,
    standing: Script,
    begin_rebuild: Script,
    rebuild: Script,
    image: Script,
    now: Script,
    /// A call that changes nothing writes the clock where it is this much ahead of what was written. Where replicas are
    /// waited for, every call writes: one that repeats another's question must see that its answer is on the replicas.
    clock_mark_ms: u64,
    /// The latest time that any call decided at: [`Gate::now`] doesn't go back behind it.
    latest: AtomicU64,
    /// How the servers' clock goes; `None` where it is not watched. Of a cluster's nodes, the clock that is ahead counts. A
    /// lock, since several calls are under way at once; held for a look.
    pace: Option<Mutex<Pace>>,
    /// How long a question may be on its way, by which it is decided later than it is asked.
    response_timeout: Duration,
}

/// A script's answer, and when it was asked for.
struct Answer {
    value: Value,
    asked: Instant,
}

impl RedisGate {
    /// Connects to `redis://[user:password@]host[:port][/db]`, or with TLS to `rediss://…`. Several hosts may be named, with
    /// commas: the first that answers is taken. If it is part of a Redis Cluster, each live is on the node that has its
    /// slot. Fails at once where nothing answers; a server that goes away later is connected to again in the background.
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        Self::connect_with(url, RedisOptions::default()).await
    }

    /// The same with other options.
    pub async fn connect_with(url: &str, options: RedisOptions) -> Result<Self, OpenError> {
        let script = |body| Script::new(&options.clock, body);
        Ok(Self {
            apply: script(include_str!("../../scripts/apply.lua")),
            put_sale: script(include_str!("../../scripts/put_sale.lua")),
            put_coupons: script(include_str!("../../scripts/put_coupons.lua")),
            standing: script(include_str!("../../scripts/standing.lua")),
            begin_rebuild: script(include_str!("../../scripts/begin_rebuild.lua")),
            rebuild: script(include_str!("../../scripts/rebuild.lua")),
            image: script(include_str!("../../scripts/image.lua")),
            now: script(include_str!("../../scripts/now.lua")),
            clock_mark_ms: if options.wait_replicas > 0 { 0 } else { CLOCK_MARK_MS },
            latest: AtomicU64::new(0),
            pace: options.watch_clock.then(Mutex::default),
            response_timeout: options.response_timeout,
            nodes: Nodes::open(url, &options, None).await?,
        })
    }

    /// What the settings of this Redis could cost: for the operator, at start. Empty where there is nothing to say, or
    /// where Redis doesn't let its settings be read.
    pub async fn weaknesses(&self) -> Vec<String> {
        self.nodes.weaknesses().await
    }

    /// All that is there of a sale; `None` where it is not known. One look at everything keeps Redis busy for about a
    /// millisecond per thousand holds.
    pub async fn image(&self, live: &LiveRef, sale: &SaleId) -> Result<Option<Held>, GateError> {
        let keys = Keys::new(live, sale);
        let run = self.image.run(&[&keys.sale, &keys.holds()]);
        let mut answer = self.ask(Some(&keys.sale), run, false).await?;
        let mut terms = SaleMove::default();
        if let Value::Array(values) = &mut answer.value
            && values.len() > 3
        {
            let mut said = Reply::new(Value::Array(values.drain(..3).collect()))?;
            terms.opens_at = Some(UnixMillis(said.number()?));
            terms.closes_at = Some(UnixMillis(said.number()?));
            terms.paused = Some(said.integer()? == 1);
        }
        let Applied { mark, counts, lines, holds, .. } = self.read_applied(answer, 0)?;
        let lines = if lines.is_empty() { vec![counts] } else { lines };
        Ok((mark > Mark::default()).then_some(Held { mark, terms, lines, holds }))
    }

    /// Runs a script, on any server where no key is named; where `wait`, sees that replicas have what it did.
    async fn ask(&self, key: Option<&str>, mut run: Run<'_>, wait: bool) -> Result<Answer, GateError> {
        let asked = Instant::now();
        match self.pace().and_then(|pace| pace.latest(asked)) {
            Some(latest) => run.arg((latest + self.response_timeout).0),
            None => run.arg(""),
        };
        let value = match key {
            Some(key) if wait => self.nodes.call_and_wait(key, run).await?,
            Some(key) => self.nodes.call(key, run).await?,
            None => self.nodes.call_any(run).await?,
        };
        if let Value::Array(values) = &value
            && let [Value::Int(-2), Value::Int(shown)] = **values
        {
            let now = Now { instant: Instant::now(), wall: SystemTime::now().into() };
            let shown = UnixMillis(Reply::fit(shown)?);
            let ahead_ms = self.pace().map_or(0, |mut pace| pace.jumped(shown, now));
            return Err(GateError::ClockJumped { ahead_ms });
        }
        Ok(Answer { value, asked })
    }

    fn pace(&self) -> Option<MutexGuard<'_, Pace>> {
        Some(self.pace.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a script said that the time is.
    fn saw(&self, now: u64, asked: Instant) -> UnixMillis {
        if let Some(mut pace) = self.pace() {
            pace.saw(UnixMillis(now), asked);
        }
        UnixMillis(now.max(self.latest.fetch_max(now, Ordering::Relaxed)))
    }

    fn read_applied(&self, answer: Answer, ops: usize) -> Result<Applied, GateError> {
        let mut reply = Reply::new(answer.value)?;
        let now = reply.integer()?;
        let mark = Mark { epoch: reply.number()?, sequence: reply.number()? };
        if now == -1 {
            return Err(GateError::Stale { at: mark });
        }
        let now = Reply::fit(now)?;
        let next_deadline = match reply.integer()? {
            -1 => None,
            deadline => Some(UnixMillis(Reply::fit(deadline)?)),
        };
        let mut counts = Counts::default();
        let mut lines = Vec::new();
        for _ in 0..reply.number::<usize>()?.min(MAX_LINES) {
            let line = Counts { available: reply.number()?, held: reply.number()?, sold: reply.number()? };
            counts.available += line.available;
            counts.held += line.held;
            counts.sold += line.sold;
            lines.push(line);
        }
        if lines.len() == 1 {
            // The sums say it all.
            lines = Vec::new();
        }
        // Putting a sale ends here.
        let count: usize = if reply.is_empty() { 0 } else { reply.number()? };
        let mut released = Vec::with_capacity(count.min(MAX_SWEEP));
        for _ in 0..count {
            released.push(Released {
                hold: reply.id()?,
                buyer: reply.id()?,
                units: read_units(&reply.text()?)?,
                order: reply.optional_id()?,
            });
        }
        let count: usize = if reply.is_empty() { 0 } else { reply.number()? };
        let mut offered = Vec::with_capacity(count.min(MAX_OFFERS));
        for _ in 0..count {
            offered.push(Offered {
                hold: reply.id()?,
                buyer: reply.id()?,
                units: read_units(&reply.text()?)?,
                deadline: UnixMillis(reply.number()?),
            });
        }
        let count: usize = if reply.is_empty() { 0 } else { reply.number()? };
        let mut holds = Vec::with_capacity(count.min(MAX_SWEEP));
        for _ in 0..count {
            holds.push(read_hold(reply.id()?, &reply.text()?)?);
        }
        // Lua has no order of its own.
        holds.sort_by(|a, b| a.hold.cmp(&b.hold));
        let mut outcomes = Vec::with_capacity(ops);
        while !reply.is_empty() {
            outcomes.push(read_outcome(&mut reply)?);
        }
        if outcomes.len() != ops {
            return Err(GateError::Corrupt(format!("{} answers to {ops} operations", outcomes.len())));
        }
        self.saw(now, answer.asked);
        Ok(Applied {
            now: UnixMillis(now),
            mark,
            outcomes,
            released,
            offered,
            holds,
            counts,
            lines,
            next_deadline,
        })
    }
}

/// A hold as `apply.lua` writes it.
fn read_hold(hold: HoldId, text: &str) -> Result<HoldRecord, GateError> {
    let read = || {
        let mut fields = text.split('|');
        let mut next = || fields.next();
        let state = match next()? {
            "H" => HoldState::Held,
            "P" => HoldState::Paying,
            "C" => HoldState::Captured,
            "S" => HoldState::Sold,
            "R" => HoldState::Released,
            "L" => HoldState::Late,
            "W" => HoldState::Waiting,
            _ => return None,
        };
        let units = next()?.parse().ok()?;
        let deadline = UnixMillis(next()?.parse().ok()?);
        let made = next()?.parse().ok()?;
        let flags: u8 = next()?.parse().ok()?;
        let buyer = next()?.parse().ok()?;
        let order = match next()? {
            "" => None,
            order => Some(order.parse().ok()?),
        };
        let returned = match next() {
            None | Some("") => None,
            Some(returned) => Some(returned.parse().ok()?),
        };
        let coupon = match next() {
            None => None,
            Some(coupon) => Some(coupon.parse().ok()?),
        };
        let (extended, retaken, unreserved) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        Some(HoldRecord {
            hold: hold.clone(),
            buyer,
            units,
            made,
            state,
            deadline,
            order,
            extended,
            retaken,
            unreserved,
            returned,
            coupon,
        })
    };
    read().ok_or_else(|| GateError::Corrupt(format!("the hold {hold} is written as {text:?}")))
}

/// The same the other way.
fn write_hold(record: &HoldRecord) -> String {
    let HoldRecord { buyer, units, made, state, deadline, order, .. } = record;
    let state = match state {
        HoldState::Held => 'H',
        HoldState::Paying => 'P',
        HoldState::Captured => 'C',
        HoldState::Sold => 'S',
        HoldState::Released => 'R',
        HoldState::Late => 'L',
        HoldState::Waiting => 'W',
    };
    let flags = u8::from(record.extended) | u8::from(record.retaken) << 1 | u8::from(record.unreserved) << 2;
    let order = order.as_ref().map_or("", |order| order.as_str());
    let returned = record.returned.as_ref().map_or_else(String::new, |returned| format!("|{returned}"));
    let coupon = match &record.coupon {
        None => String::new(),
        // The place of what has come back is never left out before it.
        Some(coupon) if returned.is_empty() => format!("||{coupon}"),
        Some(coupon) => format!("|{coupon}"),
    };
    format!("{state}|{units}|{}|{made}|{flags}|{buyer}|{order}{returned}{coupon}", deadline.0)
}

fn read_units(text: &str) -> Result<Units, GateError> {
    text.parse().map_err(|error| GateError::Corrupt(format!("a script answered with units: {error}")))
}

/// Coupons in one run of a script.
const COUPONS_PIECE: usize = 200;
/// In a number of `apply.lua`, the unit of lines.
const LINE: i64 = 1 << 24;

/// The codes at the top of `apply.lua`.
fn read_outcome(reply: &mut Reply) -> Result<Outcome, GateError> {
    let (code, value) = (reply.integer()?, reply.integer()?);
    let time = || Ok(UnixMillis(Reply::fit(value)?));
    let of_line = || Ok::<_, GateError>((Reply::fit(value / LINE)?, Reply::fit(value % LINE)?));
    Ok(match code {
        1 => Outcome::Held { deadline: time()? },
        2 => Outcome::Paying { deadline: time()? },
        3 => Outcome::Captured { retaken: value == 1 },
        4 => Outcome::Sold,
        5 => Outcome::Released,
        6 => Outcome::Restored { deadline: time()? },
        7 => Outcome::Late,
        8 => Outcome::Restocked,
        9 => Outcome::Waiting { position: Reply::fit(value)? },
        10 => Outcome::Entered,
        -1 => Outcome::Refused(Refusal::UnknownSale),
        -2 => Outcome::Refused(Refusal::UnknownHold),
        -3 => Outcome::Refused(Refusal::NotOpen { opens_at: time()? }),
        -4 => Outcome::Refused(Refusal::Closed),
        -5 => {
            let (line, available) = of_line()?;
            Outcome::Refused(Refusal::NotEnough { line, available })
        }
        -6 => Outcome::Refused(Refusal::SoldOut),
        -7 => {
            let (line, per_buyer) = of_line()?;
            Outcome::Refused(Refusal::BuyerLimit { line, per_buyer })
        }
        -8 => Outcome::Refused(Refusal::KeyReused),
        -9 => Outcome::Refused(Refusal::WrongState),
        -10 => Outcome::Refused(Refusal::BadQuantity),
        -11 => Outcome::Refused(Refusal::UnknownLine),
        -12 => Outcome::Refused(Refusal::Paused),
        -13 => Outcome::Refused(Refusal::LineFull),
        -14 => Outcome::Refused(Refusal::NoLine),
        -15 => Outcome::Refused(Refusal::UnknownCoupon),
        -16 => Outcome::Refused(Refusal::CouponNotYet { valid_from: time()? }),
        -17 => Outcome::Refused(Refusal::CouponOver),
        -18 => Outcome::Refused(Refusal::CouponUsedUp),
        -19 => Outcome::Refused(Refusal::CouponLimit { per_buyer: Reply::fit(value)? }),
        -20 => Outcome::Refused(Refusal::OtherCoupon),
        -21 => Outcome::Refused(Refusal::OneEntry),
        other => return Err(GateError::Corrupt(format!("a script answered with code {other}"))),
    })
}

/// A sale's keys, and its live's.
struct Keys {
    sale: String,
    live_coupons: String,
}

impl Keys {
    fn new(live: &LiveRef, sale: &SaleId) -> Self {
        Self {
            sale: format!("haul:{{{}/{}}}/{sale}", live.merchant, live.live),
            live_coupons: live_coupons(live),
        }
    }

    fn holds(&self) -> String {
        format!("{}/holds", self.sale)
    }

    fn buyers(&self) -> String {
        format!("{}/buyers", self.sale)
    }

    fn deadlines(&self) -> String {
        format!("{}/deadlines", self.sale)
    }

    fn standing(&self) -> String {
        format!("{}/standing", self.sale)
    }

    fn over(&self) -> String {
        format!("{}/over", self.sale)
    }

    fn waiting(&self) -> String {
        format!("{}/waiting", self.sale)
    }

    fn coupons(&self) -> String {
        format!("{}/coupons", self.sale)
    }

    /// All of them, in the order in which `apply.lua` takes them.
    fn all(&self) -> [String; 9] {
        [
            self.sale.clone(),
            self.holds(),
            self.buyers(),
            self.deadlines(),
            self.standing(),
            self.over(),
            self.waiting(),
            self.coupons(),
            self.live_coupons.clone(),
        ]
    }
}

/// No sale's key: no id is empty.
fn live_coupons(live: &LiveRef) -> String {
    format!("haul:{{{}/{}}}//coupons", live.merchant, live.live)
}

impl Gate for RedisGate {
    fn put_sale<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        terms: &'a SaleTerms,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(async move {
            check_terms(terms)?;
            let keys = Keys::new(live, sale);
            let (holds, buyers, standing) = (keys.holds(), keys.buyers(), keys.standing());
            let (deadlines, over, waiting) = (keys.deadlines(), keys.over(), keys.waiting());
            let coupons = keys.coupons();
            let keys =
                [&*keys.sale, &*deadlines, &*waiting, &*holds, &*buyers, &*standing, &*over, &*coupons];
            let mut run = self.put_sale.run(&keys);
            run.arg(self.clock_mark_ms).arg(seen.epoch).arg(seen.sequence).arg(KEEP_SALE_MS);
            add_terms(&mut run, terms);
            self.read_applied(self.ask(Some(keys[0]), run, true).await?, 0)
        })
    }

    fn put_coupons<'a>(
        &'a self,
        live: &'a LiveRef,
        coupons: &'a [(CouponCode, CouponTerms)],
    ) -> BoxFuture<'a, Result<(), GateError>> {
        Box::pin(async move {
            let key = live_coupons(live);
            for coupons in coupons.chunks(COUPONS_PIECE) {
                let mut run = self.put_coupons.run(&[&key]);
                run.arg(KEEP_SALE_MS);
                for (code, terms) in coupons {
                    run.arg(code.as_str()).arg(terms.limit).arg(terms.per_buyer);
                    run.arg(terms.valid_from.0).arg(terms.valid_until.0).arg(u8::from(terms.closed));
                }
                self.ask(Some(&key), run, true).await?;
            }
            Ok(())
        })
    }

    fn apply<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        ops: &'a [Op],
        seen: Mark,
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(async move {
            check_size(ops)?;
            let keys = Keys::new(live, sale).all();
            let mut run = self.apply.run(&keys.each_ref().map(String::as_str));
            run.arg(MAX_SWEEP).arg(self.clock_mark_ms).arg(MAX_STOCK);
            run.arg(seen.epoch).arg(seen.sequence);
            run.arg(KEEP_RELEASED_MS).arg(KEEP_ORDERED_MS).arg(MAX_FORGET).arg(KEEP_SALE_MS);
            run.arg(MAX_WAITING).arg(MAX_OFFERS).arg(MAX_ENTRIES);
            for op in ops {
                let mut with = String::new();
                let (kind, hold, buyer, units, order) = match op {
                    Op::Hold { hold, buyer, units, tier, coupon, ticket } => {
                        if coupon.is_some() || ticket.is_some() {
                            with = written_with(*ticket, coupon.as_ref());
                        }
                        let tier = tier.as_ref().map_or("", |tier| tier.as_str());
                        ("H", hold, buyer.as_str(), Some(units), tier)
                    }
                    Op::Wait { hold, buyer, units, tier } => {
                        let tier = tier.as_ref().map_or("", |tier| tier.as_str());
                        ("W", hold, buyer.as_str(), Some(units), tier)
                    }
                    Op::Cancel { hold, buyer } => ("X", hold, buyer.as_str(), None, ""),
                    Op::StartPayment { hold, buyer, order, coupon } => {
                        if coupon.is_some() {
                            with = written_with(None, coupon.as_ref());
                        }
                        ("P", hold, buyer.as_str(), None, order.as_str())
                    }
                    Op::PaymentFailed { hold, order } => ("F", hold, "", None, order.as_str()),
                    Op::Capture { hold, order } => ("C", hold, "", None, order.as_str()),
                    Op::Settle { hold, order } => ("S", hold, "", None, order.as_str()),
                    Op::Restock { hold, order, returned } => ("B", hold, "", Some(returned), order.as_str()),
                };
                match with.is_empty() {
                    true => run.arg(kind),
                    false => run.arg(format!("{kind}{with}")),
                };
                run.arg(hold.as_str()).arg(buyer);
                match units {
                    Some(units) => run.arg(units.to_string()),
                    None => run.arg(0),
                };
                run.arg(order);
            }
            self.read_applied(self.ask(Some(&keys[0]), run, true).await?, ops.len())
        })
    }

    fn standing<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        buyer: &'a BuyerId,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Vec<Standing>, GateError>> {
        Box::pin(async move {
            let keys = Keys::new(live, sale);
            let mut run = self.standing.run(&[&keys.sale, &keys.holds(), &keys.standing(), &keys.waiting()]);
            run.arg(buyer.as_str()).arg(MAX_STANDING).arg(seen.epoch).arg(seen.sequence);
            let mut reply = Reply::new(self.ask(Some(&keys.sale), run, false).await?.value)?;
            if reply.integer()? == -1 {
                let at = Mark { epoch: reply.number()?, sequence: reply.number()? };
                return Err(GateError::Stale { at });
            }
            let mut holds = Vec::new();
            while !reply.is_empty() {
                holds.push(Standing {
                    hold: reply.id()?,
                    units: read_units(&reply.text()?)?,
                    outcome: read_outcome(&mut reply)?,
                    order: reply.optional_id()?,
                    coupon: reply.optional_id()?,
                });
            }
            Ok(holds)
        })
    }

    fn begin_rebuild<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Rebuild, GateError>> {
        Box::pin(async move {
            let keys = Keys::new(live, sale).all();
            let mut run = self.begin_rebuild.run(&keys.each_ref().map(String::as_str));
            run.arg(seen.epoch).arg(seen.sequence).arg(TAKEOVER_MS);
            let mut reply = Reply::new(self.ask(Some(&keys[0]), run, true).await?.value)?;
            match reply.integer()? {
                1 => Ok(Rebuild::Begun { epoch: reply.number()? }),
                2 => Ok(Rebuild::Busy),
                3 => Ok(Rebuild::NotNeeded),
                other => Err(GateError::Corrupt(format!("a script answered with code {other}"))),
            }
        })
    }

    fn rebuild<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        image: &'a Image,
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(async move {
            image.check()?;
            check_terms(&image.terms)?;
            let keys = Keys::new(live, sale).all();
            let (mut piece, mut rest) = image.holds.split_at(image.holds.len().min(REBUILD_PIECE));
            loop {
                let mut run = self.rebuild.run(&keys.each_ref().map(String::as_str));
                run.arg(image.epoch).arg(u8::from(rest.is_empty())).arg(image.clock.0);
                run.arg(KEEP_RELEASED_MS).arg(KEEP_ORDERED_MS).arg(KEEP_SALE_MS);
                add_terms(&mut run, &image.terms);
                for record in piece {
                    run.arg(record.hold.as_str()).arg(write_hold(record));
                }
                let applied = self.read_applied(self.ask(Some(&keys[0]), run, true).await?, 0)?;
                if rest.is_empty() {
                    return Ok(applied);
                }
                (piece, rest) = rest.split_at(rest.len().min(REBUILD_PIECE));
            }
        })
    }

    fn now(&self) -> BoxFuture<'_, Result<UnixMillis, GateError>> {
        Box::pin(async move {
            let Answer { value, asked } = self.ask(None, self.now.run(&[]), false).await?;
            let mut reply = Reply::new(Value::Array(vec![value]))?;
            Ok(self.saw(reply.number()?, asked))
        })
    }

    fn connection(&self) -> u64 {
        self.nodes.number()
    }
}

/// What `apply.lua` takes behind a kind.
fn written_with(ticket: Option<u64>, coupon: Option<&CouponCode>) -> String {
    let ticket = ticket.map_or_else(String::new, |ticket| ticket.to_string());
    format!("|{ticket}|{}", coupon.map_or("", |coupon| coupon.as_str()))
}

fn check_terms(terms: &SaleTerms) -> Result<(), GateError> {
    let defect = |error| GateError::Corrupt(format!("the sale's terms were not validated: {error}"));
    terms.check_bounds().map_err(defect)
}

fn add_terms(run: &mut Run<'_>, terms: &SaleTerms) {
    let mode = match terms.mode {
        SaleMode::HoldInCart => "",
        SaleMode::FirstPaid => "F",
    };
    // No id has a comma or an equals sign.
    let early: Vec<String> = terms.early.iter().map(|one| format!("{}={}", one.tier, one.ms)).collect();
    run.arg(terms.hold_ms).arg(terms.pay_ms).arg(terms.opens_at.0).arg(terms.closes_at.0);
    run.arg(u8::from(terms.paused)).arg(mode).arg(early.join(","));
    run.arg(terms.offer_ms.map_or_else(String::new, |ms| ms.to_string()));
    run.arg(terms.draw.as_ref().map_or_else(String::new, |draw| draw.ms.to_string())).arg(terms.more.len());
    for line in terms.lines() {
        run.arg(line.stock).arg(line.per_buyer);
    }
}
