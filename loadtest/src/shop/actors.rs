//! What each kind of actor does on the channel.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{HostOrder, World, eyes::Eyes};
use crate::{
    audit::Purchase,
    channel::{Channel, ChannelError, kind},
    http::{self, Call, Client},
    network::Network,
    plan::{self, BuyerTraits, Number},
    tally::{Count, Time},
};

/// How long a reply may take before the actor stops waiting for it.
const REPLY_WITHIN: Duration = Duration::from_secs(5);
/// How long a confirmation may take after paying.
const CONFIRM_WITHIN: Duration = Duration::from_secs(20);
/// How long somebody waits before connecting again after the channel was closed.
const RECONNECT: Duration = Duration::from_millis(500);
/// How often a closed channel is opened again in a row.
const RECONNECTS: u32 = 10;
/// Hearts of one tap at most.
const MOST_HEARTS: f64 = 5.0;
/// The server's close code for a reader that is too slow.
const TOO_SLOW: u16 = haul_wire::close::TOO_SLOW;

/// The reply to a request that was just sent, whatever else comes; `None` if the channel closes or time is over.
pub(super) async fn answer_to(channel: &mut Channel, id: u64) -> Option<Value> {
    let wait = async {
        loop {
            let text = channel.read().await.ok()?;
            if matches!(kind(&text), "reply" | "error") {
                let message: Value = serde_json::from_str(&text).unwrap_or_default();
                if message["id"] == id {
                    return Some(message);
                }
            }
        }
    };
    timeout(REPLY_WITHIN, wait).await.ok().flatten()
}

/// Waits for a flag to be raised.
async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

/// Opens a channel and counts it. `client` is over the actor's own network.
async fn open(
    world: &World,
    client: &Client,
    token: &str,
    eyes: &mut Eyes,
) -> Result<(Channel, Value), ChannelError> {
    let (setting, network) = (&world.setting, client.network());
    network.there().await;
    let (begun, failures) = (Instant::now(), network.failures());
    world.count(Count::ChannelAttempts);
    let mut opened = Channel::open(client, &setting.base, &setting.live, token, eyes.position()).await;
    let is_own_fault = network.failures() != failures;
    match &mut opened {
        Ok((channel, hello)) => {
            setting.gauges.channels.add(1);
            channel.returns = Some(world.tally.clone());
            let mut tally = world.tally.lock();
            if !is_own_fault {
                tally.record(Time::ChannelJoin, begun.elapsed());
            }
            match eyes.greeted(hello) {
                Some(true) => tally.count(Count::ChannelResumed, 1),
                Some(false) => tally.count(Count::ChannelNotResumed, 1),
                None => {}
            }
            if let Some(after) = network.back() {
                tally.record(Time::DropChannel, after);
                tally.count(Count::DropChannelsAnew, 1);
            }
        }
        Err(error) => {
            if !is_own_fault {
                world.count(Count::ChannelFailed);
            }
            setting.complaints.add(&format!("channel: {error}"));
        }
    }
    opened
}

/// A channel has ended by itself, or its network has.
fn closed(world: &World, error: &ChannelError, slow: bool, network: &Network) {
    world.setting.gauges.channels.add(-1);
    match error {
        ChannelError::Closed(Some(TOO_SLOW)) if slow => world.count(Count::ChannelTooSlow),
        ChannelError::Network => {}
        _ if network.is_away() => {
            world.setting.complaints.add(&format!("a network failed, and then: {error}"));
        }
        _ => {
            world.count(Count::ChannelClosed);
            world.setting.complaints.add(&format!("channel: {error}"));
        }
    }
}

/// Somebody has left for good: whether they were back, and what they were never told.
fn left(world: &World, network: &Network, eyes: &Eyes) {
    let kept = world.kept.lock().unwrap_or_else(PoisonError::into_inner);
    let missed = eyes.missed(&kept);
    drop(kept);
    let mut tally = world.tally.lock();
    tally.count(Count::ChannelMissed, missed);
    match network.leave() {
        Some(true) => tally.count(Count::DropChannelsLost, 1),
        Some(false) => tally.count(Count::DropChannelsLeft, 1),
        None => {}
    }
}

/// The host: pins, and is told of every order.
pub(super) async fn host(
    world: Arc<World>,
    mut channel: Channel,
    mut orders: mpsc::UnboundedReceiver<HostOrder>,
    products: Vec<String>,
) {
    let mut over = world.over.subscribe();
    let (mut next, mut eyes) = (0, Eyes::of_host());
    let mut failures = 0;
    loop {
        tokio::select! {
            () = raised(&mut over) => return channel.close().await,
            order = orders.recv() => match order {
                Some(HostOrder::Pin) => {
                    let product = products[next % products.len()].clone();
                    next += 1;
                    world.records().pinned = Some((product.clone(), Instant::now()));
                    channel.send("pin", json!({ "product_id": product })).await;
                }
                None => return channel.close().await,
            },
            text = channel.read() => match text {
                Ok(text) if kind(&text) == "host.order" => {
                    world.host_order(&serde_json::from_str(&text).unwrap_or_default());
                }
                Ok(text) => world.event(&text, &mut eyes),
                Err(error) => {
                    // The host comes back, and is told in the snapshot what was missed.
                    world.setting.complaints.add(&format!("the host's channel: {error}"));
                    let setting = &world.setting;
                    loop {
                        failures += 1;
                        sleep(RECONNECT).await;
                        let opened =
                            Channel::open(&setting.client, &setting.base, &setting.live, &setting.host_token, None).await;
                        match opened {
                            Ok((again, hello)) => {
                                channel = again;
                                for order in hello["host"]["orders"].as_array().into_iter().flatten() {
                                    world.host_order(&json!({ "order": order }));
                                }
                                break;
                            }
                            Err(_) if failures > 20 * RECONNECTS || *world.over.borrow() => return,
                            Err(_) => {}
                        }
                    }
                }
            },
        }
    }
}

/// Somebody who reads, and perhaps talks.
pub(super) async fn chatter(
    world: Arc<World>,
    number: Number,
    network: Network,
    leaving: watch::Receiver<bool>,
) {
    let mut eyes = Eyes::of(number, &network);
    talk(&world, number, &network, &mut eyes, leaving).await;
    left(&world, &network, &eyes);
}

async fn talk(
    world: &World,
    number: Number,
    network: &Network,
    eyes: &mut Eyes,
    mut leaving: watch::Receiver<bool>,
) {
    let setting = &world.setting;
    let client = setting.client.over(network);
    let group = &setting.scenario.chatters[setting.plan.chatters[number as usize].group];
    let token = world.tokens[0][number as usize].clone();
    let mut random = plan::chatter_random(setting.scenario.seed, number);
    let (mut over, mut hush) = (world.over.subscribe(), world.hush.subscribe());
    let slow = group.read_every_ms.is_some();
    for _ in 0..RECONNECTS {
        let opened = tokio::select! {
            () = raised(&mut leaving) => return,
            () = raised(&mut over) => return,
            opened = open(world, &client, &token, eyes) => opened,
        };
        let Ok((mut channel, hello)) = opened else {
            sleep(RECONNECT).await;
            continue;
        };
        world.likes_told(hello["room"]["likes"].as_u64());
        let mut likes = Likes::default();
        let mut next_like = group.like_every_s.map(|every| Instant::now() + every.draw_seconds(&mut random));
        let wait = group.say_every_s.map(|every| every.draw_seconds(&mut random));
        let mut next_line = wait.map(|wait| Instant::now() + wait);
        let mut next_read = Instant::now();
        let far = Instant::now() + Duration::from_secs(30 * 86_400);
        loop {
            tokio::select! {
                () = raised(&mut leaving) => {
                    setting.gauges.channels.add(-1);
                    return channel.close().await;
                }
                () = raised(&mut over) => {
                    setting.gauges.channels.add(-1);
                    return channel.close().await;
                }
                () = raised(&mut hush), if next_line.is_some() || next_like.is_some() => {
                    (next_line, next_like) = (None, None);
                }
                () = sleep_until(next_line.unwrap_or(far)), if next_line.is_some() => {
                    // It carries the time at which it leaves.
                    network.there().await;
                    let text = format!("How much is the {} one? {}", ["blue", "small", "second"][number as usize % 3], world.mark());
                    channel.send("chat.send", json!({ "text": text })).await;
                    next_line = group.say_every_s.map(|every| Instant::now() + every.draw_seconds(&mut random));
                }
                () = sleep_until(next_like.unwrap_or(far)), if next_like.is_some() => {
                    let hearts = 1 + (random.unit() * MOST_HEARTS) as u64;
                    let id = channel.send("like", json!({ "kind": "heart", "count": hearts })).await;
                    likes.sent(id, hearts);
                    world.tally.lock().count(Count::LikesSent, hearts);
                    next_like = group.like_every_s.map(|every| Instant::now() + every.draw_seconds(&mut random));
                }
                text = async { sleep_until(next_read).await; channel.read().await } => match text {
                    Ok(text) => {
                        if let Some(every) = group.read_every_ms {
                            next_read = Instant::now() + every.draw_millis(&mut random);
                        }
                        match kind(&text) {
                            "reply" => world.count(Count::ChatSent),
                            "error" => match likes.refused(&text) {
                                0 => world.count(Count::ChatRefused),
                                hearts => world.tally.lock().count(Count::LikesRefused, hearts),
                            },
                            // What a slow reader reads late is late by its own doing.
                            _ if slow => world.count(Count::ChannelEvents),
                            _ => world.event(&text, eyes),
                        }
                    }
                    Err(error) => {
                        closed(world, &error, slow, network);
                        break;
                    }
                },
            }
        }
        sleep(RECONNECT).await;
    }
}

/// The likes of one person that may still be refused: they have no reply otherwise.
#[derive(Debug, Default)]
struct Likes(VecDeque<(u64, u64)>);

impl Likes {
    /// How many are remembered; a refusal comes soon or never.
    const MAX: usize = 32;

    fn sent(&mut self, id: u64, hearts: u64) {
        if self.0.len() >= Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back((id, hearts));
    }

    /// How many likes an error is about: none, if it is about something else.
    fn refused(&mut self, error: &str) -> u64 {
        let message: Value = serde_json::from_str(error).unwrap_or_default();
        let at = self.0.iter().position(|(id, _)| message["id"] == *id);
        at.and_then(|at| self.0.remove(at)).map_or(0, |(_, hearts)| hearts)
    }
}

/// A buyer at work.
struct Buyer {
    world: Arc<World>,
    /// Over the buyer's own network.
    client: Client,
    channel: Option<Channel>,
    token: String,
    eyes: Eyes,
    /// What came about orders while something else was waited for: order id and state.
    orders: Vec<(String, String)>,
    over: watch::Receiver<bool>,
}

/// What a buyer waits for.
enum Wanted<'a> {
    /// The reply to a request, by any of the ids under which it was sent: what comes late is an answer too.
    Reply(&'a [u64]),
    /// An order to be in a state.
    Order(&'a str, &'a str),
    /// Only the time.
    Nothing,
}

/// Why a wait has ended.
enum Woken {
    Reply(Value),
    Order,
    Time,
    /// The run is over.
    Over,
}

/// Somebody who waits for the sale, and buys.
pub(super) async fn buyer(world: Arc<World>, number: Number, network: Network) {
    let traits = world.setting.plan.buyers[number as usize];
    let mut buyer = Buyer {
        token: world.tokens[1][number as usize].clone(),
        client: world.setting.client.over(&network),
        channel: None,
        eyes: Eyes::of(number, &network),
        orders: Vec::new(),
        over: world.over.subscribe(),
        world: world.clone(),
    };
    buyer.attend(number, traits).await;
    buyer.leave().await;
}

impl Buyer {
    /// From coming to going.
    async fn attend(&mut self, number: Number, traits: BuyerTraits) {
        if !self.connect().await {
            return;
        }
        let world = self.world.clone();
        let offer = world.offer.borrow().clone();
        let Some(offer) = offer else { return };
        if let Woken::Over = self.wait(Wanted::Nothing, offer.opens + traits.tap_after).await {
            return;
        }
        world.busy.fetch_add(1, Ordering::Relaxed);
        self.buy(&offer.sale, number, traits).await;
        world.busy.fetch_sub(1, Ordering::Relaxed);
        // They stay to watch.
        let far = Instant::now() + Duration::from_secs(30 * 86_400);
        self.wait(Wanted::Nothing, far).await;
    }

    /// Opens the channel, if it is not open.
    async fn connect(&mut self) -> bool {
        for _ in 0..RECONNECTS {
            if self.channel.is_some() {
                return true;
            }
            let opened = open(&self.world, &self.client, &self.token, &mut self.eyes).await;
            if let Ok((channel, hello)) = opened {
                let known = hello["you"]["orders"].as_array().into_iter().flatten();
                self.orders.extend(known.filter_map(|order| {
                    Some((order["id"].as_str()?.to_owned(), order["state"].as_str()?.to_owned()))
                }));
                for (id, _) in self.orders.iter().filter(|(_, state)| state == "sold") {
                    self.world.confirmed(id);
                }
                self.channel = Some(channel);
                return true;
            }
            sleep(RECONNECT).await;
        }
        false
    }

    async fn leave(mut self) {
        if let Some(channel) = self.channel.take() {
            self.world.setting.gauges.channels.add(-1);
            channel.close().await;
        }
        left(&self.world, self.client.network(), &self.eyes);
    }

    /// Reads until what is wanted has come, or the time is there. A channel that is closed is opened again.
    async fn wait(&mut self, wanted: Wanted<'_>, until: Instant) -> Woken {
        loop {
            if let Wanted::Order(id, state) = wanted
                && self.orders.iter().any(|(of, is)| of == id && is == state)
            {
                return Woken::Order;
            }
            if !self.connect().await {
                sleep_until(until).await;
                return Woken::Time;
            }
            let Some(channel) = &mut self.channel else { continue };
            let text = tokio::select! {
                biased;
                text = channel.read() => text,
                () = raised(&mut self.over) => return Woken::Over,
                () = sleep_until(until) => return Woken::Time,
            };
            match text {
                Ok(text) => match kind(&text) {
                    "reply" | "error" => {
                        let message: Value = serde_json::from_str(&text).unwrap_or_default();
                        if let Wanted::Reply(ids) = wanted
                            && message["id"].as_u64().is_some_and(|id| ids.contains(&id))
                        {
                            return Woken::Reply(message);
                        }
                    }
                    "order.changed" => {
                        let event: Value = serde_json::from_str(&text).unwrap_or_default();
                        let word = |name: &str| event["order"][name].as_str().unwrap_or_default().to_owned();
                        let (id, state) = (word("id"), word("state"));
                        if state == "sold" {
                            self.world.confirmed(&id);
                        }
                        self.orders.push((id, state));
                    }
                    "hold.changed" => {
                        let event: Value = serde_json::from_str(&text).unwrap_or_default();
                        if event["hold"]["state"] == "released" {
                            self.world.records().ran_out = true;
                        }
                    }
                    _ => self.world.event(&text, &mut self.eyes),
                },
                Err(error) => {
                    closed(&self.world, &error, false, self.client.network());
                    self.channel = None;
                    // A request that was under way is asked again by whoever waits for it.
                    if let Wanted::Reply(_) = wanted {
                        return Woken::Time;
                    }
                }
            }
        }
    }

    async fn send(&mut self, kind: &str, fields: Value) -> Option<u64> {
        if !self.connect().await {
            return None;
        }
        Some(self.channel.as_mut()?.send(kind, fields).await)
    }

    /// Asks until there is an answer that is one: not "pending", "unavailable", "slower" or nothing at all.
    async fn insist(
        &mut self,
        kind: &str,
        fields: &Value,
        retries: u32,
        time: Option<Time>,
    ) -> Option<Value> {
        let (mut begun, mut ids) = (Instant::now(), Vec::new());
        let failures = self.client.network().failures();
        for _ in 0..=retries {
            let connected = self.channel.is_some();
            let id = self.send(kind, fields.clone()).await?;
            if !connected {
                // Another connection counts anew; nothing comes for the former's.
                ids.clear();
            }
            ids.push(id);
            let answer = match self.wait(Wanted::Reply(&ids), Instant::now() + REPLY_WITHIN).await {
                Woken::Reply(answer) => answer,
                Woken::Over => return None,
                _ => continue,
            };
            // What waited for our own network says nothing about the server.
            if let Some(time) = time
                && self.client.network().failures() == failures
            {
                self.world.record(time, begun.elapsed());
            }
            let code = answer["code"].as_str().unwrap_or_default();
            if !matches!(code, "pending" | "unavailable" | "rate_limited" | "sale_not_open") {
                return Some(answer);
            }
            let pause = answer["retry_after_ms"].as_u64().unwrap_or(200).min(5_000);
            let until = Instant::now() + Duration::from_millis(pause);
            if let Woken::Over = self.wait(Wanted::Nothing, until).await {
                return None;
            }
            begun = Instant::now();
        }
        None
    }

    async fn buy(&mut self, sale: &str, number: Number, traits: BuyerTraits) {
        let BuyerTraits { quantity, repeats, retries, .. } = traits;
        let key = format!("{:08x}-{number}", self.world.setting.run);
        let fields = json!({ "sale_id": sale, "quantity": quantity, "key": key });
        {
            let (mut records, now) = (self.world.records(), Instant::now());
            records.offered += 1;
            records.first_offer.get_or_insert(now);
            records.last_offer = Some(now);
        }
        // The impatient one taps twice, and reads only the second answer here; the first must be the same.
        if repeats {
            self.send("hold", fields.clone()).await;
        }
        let Some(answer) = self.insist("hold", &fields, retries, Some(Time::Hold)).await else {
            self.world.records().unanswered += 1;
            return;
        };
        let Some(hold) = answer["result"]["hold"]["id"].as_str().map(str::to_owned) else {
            let code = answer["code"].as_str().unwrap_or("no hold");
            if matches!(code, "sold_out" | "not_enough" | "sale_closed" | "buyer_limit") {
                self.world.records().refused += 1;
            } else {
                self.error("hold", code);
            }
            return;
        };
        let mine = {
            let (mut records, now) = (self.world.records(), Instant::now());
            records.held_at.extend((0..quantity).map(|_| now));
            records.standing += i64::from(quantity);
            records.most_standing = records.most_standing.max(records.standing);
            records.purchases.push(Purchase {
                buyer: number,
                hold: hold.clone(),
                units: quantity,
                ..Purchase::default()
            });
            records.purchases.len() - 1
        };
        if repeats {
            let again = self.insist("hold", &fields, retries, None).await;
            let same = again.is_none_or(|again| again["result"]["hold"]["id"] == hold.as_str());
            self.world.records().double_holds += u64::from(!same);
        }
        if let Woken::Over = self.wait(Wanted::Nothing, Instant::now() + traits.decide).await {
            return;
        }
        let fields = json!({ "sale_id": sale, "hold_id": hold });
        match traits.pays {
            true => self.pay(mine, &fields, retries).await,
            false => {
                {
                    let mut records = self.world.records();
                    records.given_back = true;
                    records.standing -= i64::from(quantity);
                }
                match self.insist("hold.cancel", &fields, retries, None).await {
                    Some(answer) if answer["type"] == "reply" => {
                        self.world.records().purchases[mine].released = true
                    }
                    answer => self.error("hold.cancel", code_of(answer.as_ref())),
                }
            }
        }
    }

    async fn pay(&mut self, mine: usize, fields: &Value, retries: u32) {
        let answer = self.insist("checkout", fields, retries, Some(Time::Checkout)).await;
        let (Some(order), Some(pay_url)) = (
            answer.as_ref().and_then(|answer| answer["result"]["order"]["id"].as_str()).map(str::to_owned),
            answer.as_ref().and_then(|answer| answer["result"]["pay_url"].as_str()),
        ) else {
            return self.error("checkout", code_of(answer.as_ref()));
        };
        self.world.records().purchases[mine].order = Some(order.clone());
        let setting = &self.world.setting;
        let Some(url) = http::resolve(&setting.base, pay_url) else { return self.error("paying", "no page") };
        let call = Call {
            method: "POST",
            url,
            content_type: Some("application/json"),
            body: json!({ "outcome": "paid" }).to_string(),
            ..Call::default()
        };
        self.client.network().there().await;
        let (paying, failures) = (Instant::now(), self.client.network().failures());
        self.world.records().paying.insert(order.clone(), paying);
        for _ in 0..=retries {
            match self.client.call(call.clone()).await {
                Ok(answer) if answer.status.is_success() => {
                    self.world.records().purchases[mine].paid = true;
                    break;
                }
                Ok(answer) => setting.complaints.add(&format!("paying: {}", answer.complaint())),
                Err(error) => setting.complaints.add(&format!("paying: {error}")),
            }
            sleep(RECONNECT).await;
        }
        if !self.world.records().purchases[mine].paid {
            return self.error("paying", "not taken");
        }
        let until = paying + CONFIRM_WITHIN;
        if let Woken::Order = self.wait(Wanted::Order(&order, "sold"), until).await
            && self.client.network().failures() == failures
        {
            self.world.record(Time::Confirm, paying.elapsed());
        }
    }

    fn error(&self, what: &str, code: &str) {
        self.world.count(Count::BuyerErrors);
        self.world.setting.complaints.add(&format!("{what}: {code}"));
    }
}

fn code_of(answer: Option<&Value>) -> &str {
    answer.map_or("no answer", |answer| answer["code"].as_str().unwrap_or("no code"))
}
