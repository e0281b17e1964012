//! What a buyer does: waits for the sale, holds, pays or gives the hold back, and asks again what was not answered.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    World,
    actors::{RECONNECT, RECONNECTS, REPLY_WITHIN, closed, left, open, raised},
    eyes::Eyes,
};
use crate::{
    audit::Purchase,
    channel::{Channel, kind},
    http::{self, Call, Client},
    network::Network,
    plan::{BuyerTraits, Number},
    tally::{Count, Time},
};

/// How long a confirmation may take after paying.
const CONFIRM_WITHIN: Duration = Duration::from_secs(20);

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
