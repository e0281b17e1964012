//! What servers share of their rooms, in Redis: each call is one run of a script.
//!
//! All keys of a live have the hash tag of its sales: `haul:room:{merchant/live}`, and below it `/lease`, `/told`, `/lines`,
//! `/chat`, `/changes` and `/asked`. What is told and asked are streams; that there is something new in one is published
//! under its key, which wakes who waits for it. Who misses that reads it a moment later all the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use haul_commerce::{
    Appended, Batch, BoxFuture, Bus, BusError, Changes, GateError, Kept, Lease, Left, LiveRef, Told,
    bus::{Asked, KEEP_ASKED, KEEP_BATCHES, KEEP_FOR, KEEP_LINES, MAX_READ},
};
use redis::Value;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    RedisOptions,
    nodes::Nodes,
    script::{Reply, Script},
};
use crate::OpenError;

/// Who waits for something to be published, by channel. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Wakes(Arc<Mutex<HashMap<Vec<u8>, Weak<Notify>>>>);

impl Wakes {
    /// The channels that are listened to.
    pub(super) const PATTERN: &str = "haul:room:*";

    /// Something was published: pattern, channel, text.
    pub(super) fn wake(&self, published: &[Value]) {
        let Some(Value::BulkString(channel)) = published.get(1) else { return };
        // Held for a look-up; nothing panics meanwhile.
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(channel).cloned();
        if let Some(waiting) = waiting.as_ref().and_then(Weak::upgrade) {
            waiting.notify_waiters();
        }
    }

    fn listen(&self, channel: &str) -> Arc<Notify> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = waiting.get(channel.as_bytes()).and_then(Weak::upgrade) {
            return known;
        }
        waiting.retain(|_, notify| notify.strong_count() > 0);
        let notify = Arc::new(Notify::new());
        waiting.insert(channel.as_bytes().to_owned(), Arc::downgrade(&notify));
        notify
    }
}

/// The bus in Redis (6 or newer): on the same servers as the gate, over connections of its own.
#[derive(Debug)]
pub struct RedisBus {
    nodes: Nodes,
    wakes: Wakes,
    lease: Script,
    release: Script,
    append: Script,
    told: Script,
    left: Script,
    ask: Script,
    asked: Script,
    knows: Script,
    replace: Script,
}

impl RedisBus {
    /// Connects, as [`super::RedisGate::connect_with`] does.
    pub async fn connect_with(url: &str, options: RedisOptions) -> Result<Self, OpenError> {
        let script = |body: &str| Script::plain(body.to_owned());
        let wakes = Wakes::default();
        Ok(Self {
            lease: script(include_str!("../../scripts/room_lease.lua")),
            release: script(include_str!("../../scripts/room_release.lua")),
            append: script(include_str!("../../scripts/room_append.lua")),
            told: script(include_str!("../../scripts/room_told.lua")),
            left: script(include_str!("../../scripts/room_left.lua")),
            ask: script(include_str!("../../scripts/room_ask.lua")),
            asked: script(include_str!("../../scripts/room_asked.lua")),
            knows: script("return redis.call('EXISTS', KEYS[1])"),
            replace: script(include_str!("../../scripts/room_replace.lua")),
            nodes: Nodes::open(url, &options, Some(wakes.clone())).await?,
            wakes,
        })
    }

    /// Reads until there is something or the time is over.
    async fn wait_for<T, F>(&self, channel: &str, wait: Duration, read: impl Fn() -> F) -> Result<T, BusError>
    where
        F: Future<Output = Result<(T, bool), GateError>>,
    {
        let until = Instant::now() + wait;
        let notify = self.wakes.listen(channel);
        loop {
            let mut news = std::pin::pin!(notify.notified());
            // Before it is read, so that nothing comes in between unheard.
            news.as_mut().enable();
            let (found, is_empty) = read().await.map_err(no_answer)?;
            if !is_empty || timeout_at(until, news).await.is_err() {
                return Ok(found);
            }
        }
    }
}

/// A room's keys.
struct Keys(String);

impl Keys {
    fn new(live: &LiveRef) -> Self {
        Self(format!("haul:room:{{{}/{}}}", live.merchant, live.live))
    }

    fn of(&self, what: &str) -> String {
        format!("{}/{what}", self.0)
    }
}

fn no_answer(error: GateError) -> BusError {
    BusError::NoAnswer(error.to_string())
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Where changes are kept, in the order of [`Changes::lists`].
const LISTS: [&str; 4] = ["chat", "changes", "votes", "counts"];

impl Bus for RedisBus {
    fn lease<'a>(
        &'a self,
        live: &'a LiveRef,
        node: u64,
        take: bool,
        seen: u64,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Lease, BusError>> {
        Box::pin(async move {
            let keys = Keys::new(live);
            let mut run = self.lease.run(&[&keys.0, &keys.of("lease")]);
            run.arg(node).arg(u8::from(take)).arg(seen).arg(ms(lasts)).arg(ms(KEEP_FOR));
            let read = |value| -> Result<Lease, GateError> {
                let mut reply = Reply::new(value)?;
                Ok(Lease {
                    mine: reply.integer()? == 1,
                    term: reply.number()?,
                    batch: reply.number()?,
                    epoch: reply.text()?,
                })
            };
            self.nodes.call_and_wait(&keys.0, run).await.and_then(read).map_err(no_answer)
        })
    }

    fn release<'a>(&'a self, live: &'a LiveRef, term: u64) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let keys = Keys::new(live);
            let mut run = self.release.run(&[&keys.0, &keys.of("lease")]);
            run.arg(term);
            self.nodes.call(&keys.0, run).await.map(drop).map_err(no_answer)
        })
    }

    fn append<'a>(
        &'a self,
        live: &'a LiveRef,
        node: u64,
        term: u64,
        batch: &'a Batch,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Appended, BusError>> {
        Box::pin(async move {
            let keys = Keys::new(live);
            let below = ["lease", "told", "lines"].into_iter().chain(LISTS).map(|what| keys.of(what));
            let below: Vec<String> = below.collect();
            let all: Vec<&str> = [&keys.0].into_iter().chain(&below).map(String::as_str).collect();
            let mut run = self.append.run(&all);
            run.arg(node).arg(term).arg(batch.number).arg(ms(lasts)).arg(ms(KEEP_FOR));
            run.arg(KEEP_BATCHES).arg(&batch.epoch).arg(batch.offset).arg(&*batch.told);
            let lists = [&batch.lines].into_iter().chain(batch.changes.lists());
            for (list, most) in lists.zip([KEEP_LINES].into_iter().chain(Changes::KEPT)) {
                run.arg(most).arg(list.len());
                for text in list {
                    run.arg(&**text);
                }
            }
            for (offset, line) in &batch.rewritten {
                run.arg(offset).arg(&**line);
            }
            match self.nodes.call_and_wait(&keys.0, run).await.map_err(no_answer)? {
                Value::Int(1) => Ok(Appended::Done),
                _ => Ok(Appended::Fenced),
            }
        })
    }

    fn told<'a>(
        &'a self,
        live: &'a LiveRef,
        after: u64,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Told, BusError>> {
        Box::pin(async move {
            let key = Keys::new(live).of("told");
            self.wait_for(&key, wait, || async {
                let mut run = self.told.run(&[&key]);
                run.arg(after).arg(MAX_READ);
                let mut reply = Reply::new(self.nodes.call(&key, run).await?)?;
                let mut told = Told::new();
                while !reply.is_empty() {
                    told.push((reply.number()?, reply.text()?.into_bytes()));
                }
                let is_empty = told.is_empty();
                Ok((told, is_empty))
            })
            .await
        })
    }

    fn left<'a>(&'a self, live: &'a LiveRef) -> BoxFuture<'a, Result<Left, BusError>> {
        Box::pin(async move {
            let keys = Keys::new(live);
            let below = ["lines"].into_iter().chain(LISTS).map(|what| keys.of(what));
            let below: Vec<String> = below.collect();
            let all: Vec<&str> = [&keys.0].into_iter().chain(&below).map(String::as_str).collect();
            let run = self.left.run(&all);
            let read = |value| -> Result<Left, GateError> {
                let mut reply = Reply::new(value)?;
                let (epoch, offset) = (reply.text()?, reply.number()?);
                let mut list = || -> Result<Vec<Vec<u8>>, GateError> {
                    let count: usize = reply.number()?;
                    (0..count).map(|_| reply.text().map(String::into_bytes)).collect()
                };
                let lines = list()?;
                let mut changes = Changes::default();
                for kept in changes.lists_mut() {
                    *kept = list()?;
                }
                Ok(Left { epoch, offset, lines, changes })
            };
            self.nodes.call(&keys.0, run).await.and_then(read).map_err(no_answer)
        })
    }

    fn ask<'a>(&'a self, live: &'a LiveRef, asked: &'a [u8]) -> BoxFuture<'a, Result<(), BusError>> {
        Box::pin(async move {
            let key = Keys::new(live).of("asked");
            let mut run = self.ask.run(&[&key]);
            run.arg(asked).arg(KEEP_ASKED).arg(ms(KEEP_FOR));
            self.nodes.call(&key, run).await.map(drop).map_err(no_answer)
        })
    }

    fn asked<'a>(
        &'a self,
        live: &'a LiveRef,
        after: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Asked, BusError>> {
        Box::pin(async move {
            let key = Keys::new(live).of("asked");
            self.wait_for(&key, wait, || async {
                let mut run = self.asked.run(&[&key]);
                run.arg(after).arg(MAX_READ);
                let mut reply = Reply::new(self.nodes.call(&key, run).await?)?;
                let end = reply.text()?;
                let mut asked = Vec::new();
                while !reply.is_empty() {
                    asked.push(reply.text()?.into_bytes());
                }
                let is_empty = asked.is_empty();
                Ok(((asked, end), is_empty))
            })
            .await
        })
    }

    fn knows<'a>(&'a self, live: &'a LiveRef) -> BoxFuture<'a, Result<bool, BusError>> {
        Box::pin(async move {
            let keys = Keys::new(live);
            let run = self.knows.run(&[&keys.0]);
            let known = self.nodes.call(&keys.0, run).await.map_err(no_answer)?;
            Ok(known == Value::Int(1))
        })
    }

    fn replace<'a>(
        &'a self,
        live: &'a LiveRef,
        node: u64,
        term: u64,
        kept: &'a Kept,
        lasts: Duration,
    ) -> BoxFuture<'a, Result<Appended, BusError>> {
        Box::pin(async move {
            let keys = Keys::new(live);
            let below = ["lease", "told", "asked"].into_iter().chain(LISTS).map(|what| keys.of(what));
            let below: Vec<String> = below.collect();
            let all: Vec<&str> = [&keys.0].into_iter().chain(&below).map(String::as_str).collect();
            let mut run = self.replace.run(&all);
            run.arg(node).arg(term).arg(ms(lasts)).arg(ms(KEEP_FOR)).arg(kept.told).arg(&kept.asked);
            for list in kept.changes.lists() {
                run.arg(list.len());
                for text in list {
                    run.arg(&**text);
                }
            }
            match self.nodes.call_and_wait(&keys.0, run).await.map_err(no_answer)? {
                Value::Int(1) => Ok(Appended::Done),
                _ => Ok(Appended::Fenced),
            }
        })
    }
}
