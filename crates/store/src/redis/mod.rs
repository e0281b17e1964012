//! The gate in Redis: each call is one run of a script, atomic there.
//!
//! All keys of a live have one hash tag, so they live on one node: `haul:{merchant/live}/sale`, and below it `/holds`,
//! `/buyers`, `/deadlines` and `/standing`. Ids may contain colons but no slash, so no two sales share a key. Nothing expires by
//! key: deadlines are a sorted set that the scripts sweep by Redis' own clock.

mod link;
mod script;

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use haul_commerce::{
    Applied, BoxFuture, Counts, Gate, GateError, LiveRef, Op, Outcome, Refusal, Released, SaleTerms,
    Standing,
    book::{CLOCK_MARK_MS, MAX_STANDING, MAX_SWEEP},
    sale::MAX_STOCK,
};
use haul_model::{BuyerId, SaleId, UnixMillis};
use redis::Value;

use self::{
    link::Link,
    script::{Reply, Script},
};
use crate::{OpenError, check_size};

/// How a [`RedisGate`] talks to its server. `Default` is right in production.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// How long an answer may take. After that it is [`GateError::Unknown`], and the connection is replaced.
    pub response_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Lua that defines `clock()`, the time in milliseconds, for all scripts. Tests give one of their own to move
    /// time; it is this process' code, and nothing that arrives over a network gets here.
    pub clock: Cow<'static, str>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(2),
            clock: include_str!("../../scripts/clock.lua").into(),
        }
    }
}

/// The gate in Redis (6 or newer).
#[derive(Debug)]
pub struct RedisGate {
    link: Link,
    apply: Script,
    put_sale: Script,
    standing: Script,
    now: Script,
    /// The latest time that any call decided at: [`Gate::now`] doesn't go back behind it.
    latest: AtomicU64,
}

impl RedisGate {
    /// Connects to `redis://[user:password@]host[:port][/db]`. Fails at once where nothing answers; a server that goes
    /// away later is connected to again in the background.
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        Self::connect_with(url, RedisOptions::default()).await
    }

    /// The same with other options.
    pub async fn connect_with(url: &str, options: RedisOptions) -> Result<Self, OpenError> {
        let script = |body| Script::new(&options.clock, body);
        Ok(Self {
            apply: script(include_str!("../../scripts/apply.lua")),
            put_sale: script(include_str!("../../scripts/put_sale.lua")),
            standing: script(include_str!("../../scripts/standing.lua")),
            now: script(include_str!("../../scripts/now.lua")),
            latest: AtomicU64::new(0),
            link: Link::open(url, &options).await?,
        })
    }

    fn seen(&self, now: u64) -> UnixMillis {
        UnixMillis(now.max(self.latest.fetch_max(now, Ordering::Relaxed)))
    }

    fn read_applied(&self, value: Value, ops: usize) -> Result<Applied, GateError> {
        let mut reply = Reply::new(value)?;
        let (now, sequence) = (reply.number()?, reply.number()?);
        let counts = Counts { available: reply.number()?, held: reply.number()?, sold: reply.number()? };
        let next_deadline = match reply.integer()? {
            -1 => None,
            deadline => Some(UnixMillis(Reply::fit(deadline)?)),
        };
        // Only `apply` goes on from here.
        let count: usize = if reply.is_empty() { 0 } else { reply.number()? };
        let mut released = Vec::with_capacity(count.min(MAX_SWEEP));
        for _ in 0..count {
            released.push(Released {
                hold: reply.id()?,
                buyer: reply.id()?,
                quantity: reply.number()?,
                order: reply.optional_id()?,
            });
        }
        let mut outcomes = Vec::with_capacity(ops);
        while !reply.is_empty() {
            outcomes.push(read_outcome(&mut reply)?);
        }
        if outcomes.len() != ops {
            return Err(GateError::Corrupt(format!("{} answers to {ops} operations", outcomes.len())));
        }
        self.seen(now);
        Ok(Applied { now: UnixMillis(now), sequence, outcomes, released, counts, next_deadline })
    }
}

/// The codes at the top of `apply.lua`.
fn read_outcome(reply: &mut Reply) -> Result<Outcome, GateError> {
    let (code, value) = (reply.integer()?, reply.integer()?);
    let time = || Ok(UnixMillis(Reply::fit(value)?));
    Ok(match code {
        1 => Outcome::Held { deadline: time()? },
        2 => Outcome::Paying { deadline: time()? },
        3 => Outcome::Captured { retaken: value == 1 },
        4 => Outcome::Sold,
        5 => Outcome::Released,
        6 => Outcome::Restored { deadline: time()? },
        7 => Outcome::Late,
        -1 => Outcome::Refused(Refusal::UnknownSale),
        -2 => Outcome::Refused(Refusal::UnknownHold),
        -3 => Outcome::Refused(Refusal::NotOpen { opens_at: time()? }),
        -4 => Outcome::Refused(Refusal::Closed),
        -5 => Outcome::Refused(Refusal::NotEnough { available: Reply::fit(value)? }),
        -6 => Outcome::Refused(Refusal::SoldOut),
        -7 => Outcome::Refused(Refusal::BuyerLimit { per_buyer: Reply::fit(value)? }),
        -8 => Outcome::Refused(Refusal::KeyReused),
        -9 => Outcome::Refused(Refusal::WrongState),
        -10 => Outcome::Refused(Refusal::BadQuantity),
        other => return Err(GateError::Corrupt(format!("a script answered with code {other}"))),
    })
}

/// A sale's keys.
struct Keys {
    sale: String,
}

impl Keys {
    fn new(live: &LiveRef, sale: &SaleId) -> Self {
        Self { sale: format!("haul:{{{}/{}}}/{sale}", live.merchant, live.live) }
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
}

impl Gate for RedisGate {
    fn put_sale<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        terms: &'a SaleTerms,
        sold: u32,
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(async move {
            terms.check_bounds().map_err(|error| {
                GateError::Corrupt(format!("the sale's terms were not validated: {error}"))
            })?;
            let keys = Keys::new(live, sale);
            let mut run = self.put_sale.run(&[&keys.sale, &keys.deadlines()]);
            run.arg(CLOCK_MARK_MS)
                .arg(terms.stock)
                .arg(terms.per_buyer)
                .arg(terms.hold_ms)
                .arg(terms.pay_ms)
                .arg(terms.opens_at.0)
                .arg(terms.closes_at.0)
                .arg(sold.min(terms.stock));
            self.read_applied(self.link.call(run).await?, 0)
        })
    }

    fn apply<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        ops: &'a [Op],
    ) -> BoxFuture<'a, Result<Applied, GateError>> {
        Box::pin(async move {
            check_size(ops)?;
            let keys = Keys::new(live, sale);
            let (holds, buyers) = (keys.holds(), keys.buyers());
            let (deadlines, standing) = (keys.deadlines(), keys.standing());
            let mut run = self.apply.run(&[&keys.sale, &holds, &buyers, &deadlines, &standing]);
            run.arg(MAX_SWEEP).arg(CLOCK_MARK_MS).arg(MAX_STOCK);
            for op in ops {
                let (kind, hold, buyer, quantity, order) = match op {
                    Op::Hold { hold, buyer, quantity } => ("H", hold, buyer.as_str(), *quantity, ""),
                    Op::Cancel { hold, buyer } => ("X", hold, buyer.as_str(), 0, ""),
                    Op::StartPayment { hold, buyer, order } => ("P", hold, buyer.as_str(), 0, order.as_str()),
                    Op::PaymentFailed { hold, order } => ("F", hold, "", 0, order.as_str()),
                    Op::Capture { hold, order } => ("C", hold, "", 0, order.as_str()),
                    Op::Settle { hold, order } => ("S", hold, "", 0, order.as_str()),
                };
                run.arg(kind).arg(hold.as_str()).arg(buyer).arg(quantity).arg(order);
            }
            self.read_applied(self.link.call(run).await?, ops.len())
        })
    }

    fn standing<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        buyer: &'a BuyerId,
    ) -> BoxFuture<'a, Result<Vec<Standing>, GateError>> {
        Box::pin(async move {
            let keys = Keys::new(live, sale);
            let mut run = self.standing.run(&[&keys.sale, &keys.holds(), &keys.standing()]);
            run.arg(buyer.as_str()).arg(MAX_STANDING);
            let mut reply = Reply::new(self.link.call(run).await?)?;
            let mut holds = Vec::new();
            while !reply.is_empty() {
                holds.push(Standing {
                    hold: reply.id()?,
                    quantity: reply.number()?,
                    outcome: read_outcome(&mut reply)?,
                    order: reply.optional_id()?,
                });
            }
            Ok(holds)
        })
    }

    fn now(&self) -> BoxFuture<'_, Result<UnixMillis, GateError>> {
        Box::pin(async move {
            let mut reply = Reply::new(Value::Array(vec![self.link.call(self.now.run(&[])).await?]))?;
            Ok(self.seen(reply.number()?))
        })
    }
}
