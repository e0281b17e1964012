//! What a buyer does: waits for the sale, holds, pays, gives the hold back or walks away, and asks again what was not
//! answered. What is measured is what somebody waits who has tapped once: from the tap to what became of it, however
//! often the app had to ask for that.

mod answers;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use self::answers::{code_of, hold_of, is_not_now, lasts, same};
use super::{
    World,
    actors::{RECONNECT, RECONNECTS, REPLY_WITHIN, closed, left, open, raised},
    eyes::Eyes,
    records::FOR_EVER,
};
use crate::{
    channel::{Channel, kind},
    http::{self, Call, Client},
    network::Network,
    plan::{BuyerTraits, Decision, Number},
    tally::{Count, Time},
};

/// How long a confirmation may take after paying.
const CONFIRM_WITHIN: Duration = Duration::from_secs(20);
/// How long after its deadline a buyer is to be told that a hold has run out.
const RETURN_WITHIN: Duration = Duration::from_secs(5);
/// A hold is not counted upon any more so long before its deadline: it ends by the server's clock.
const MARGIN: Duration = Duration::from_millis(500);

/// A buyer at work.
struct Buyer {
    world: Arc<World>,
    number: Number,
    /// Over the buyer's own network.
    client: Client,
    channel: Option<Channel>,
    token: String,
    eyes: Eyes,
    /// What came about orders while something else was waited for: order id and state.
    orders: Vec<(String, String)>,
    /// Holds that ran out, as far as was told.
    ran_out: BTreeSet<String>,
    /// The hold that this buyer has walked away from: whether it still stands is looked up after each return.
    abandoned: Option<String>,
    /// The first of two taps, and what was answered to it; none of another connection.
    first_tap: Option<(u64, Option<Value>)>,
    over: watch::Receiver<bool>,
}

/// What a buyer waits for.
enum Wanted<'a> {
    /// The reply to a request, by any of the ids under which it was sent: what comes late is an answer too.
    Reply(&'a [u64]),
    /// The answer to the first of two taps, or to know that there will be none.
    FirstTap,
    /// An order to be in a state.
    Order(&'a str, &'a str),
    /// To be told that a hold has run out.
    RanOut(&'a str),
    /// Only the time.
    Nothing,
}

/// Why a wait has ended.
enum Woken {
    Reply(Value),
    /// What was wanted is so.
    So,
    Time,
    /// The run is over.
    Over,
}

/// What has become of a request, asked again and again.
enum Asked {
    Answered(Value),
    /// There was no answer that is one, as often as was asked.
    GaveUp,
    /// The run is over.
    Over,
}

/// When somebody has tapped, and how often their own network had failed by then.
#[derive(Clone, Copy)]
struct Tap {
    at: Instant,
    failures: u32,
}

/// Somebody who waits for the sale, and buys.
pub(super) async fn buyer(world: Arc<World>, number: Number, network: Network) {
    let traits = world.setting.plan.buyers[number as usize];
    let mut buyer = Buyer {
        token: world.tokens[1][number as usize].clone(),
        client: world.setting.client.over(&network),
        number,
        channel: None,
        eyes: Eyes::of(number, &network),
        orders: Vec::new(),
        ran_out: BTreeSet::new(),
        abandoned: None,
        first_tap: None,
        over: world.over.subscribe(),
        world: world.clone(),
    };
    buyer.attend(traits).await;
    buyer.leave().await;
}

impl Buyer {
    /// From coming to going.
    async fn attend(&mut self, traits: BuyerTraits) {
        if !self.connect().await {
            return;
        }
        let world = self.world.clone();
        let offer = world.offer.borrow().clone();
        let Some(offer) = offer else { return };
        let mut hush = world.hush.subscribe();
        let woken = tokio::select! {
            woken = self.wait(Wanted::Nothing, offer.opens + traits.tap_after) => Some(woken),
            // The run ends before they have tapped: then they don't.
            () = raised(&mut hush) => None,
        };
        match woken {
            Some(Woken::Over) => return,
            None => {}
            Some(_) => {
                world.busy.fetch_add(1, Ordering::Relaxed);
                self.buy(&offer.sale, traits).await;
                world.busy.fetch_sub(1, Ordering::Relaxed);
            }
        }
        // They stay to watch.
        self.wait(Wanted::Nothing, Instant::now() + FOR_EVER).await;
    }

    /// Opens the channel, if it is not open.
    async fn connect(&mut self) -> bool {
        for _ in 0..RECONNECTS {
            if self.channel.is_some() {
                return true;
            }
            let opened = open(&self.world, &self.client, &self.token, &mut self.eyes).await;
            if let Ok((channel, hello)) = opened {
                self.greeted(&hello);
                self.channel = Some(channel);
                return true;
            }
            sleep(RECONNECT).await;
        }
        false
    }

    /// What a new connection's snapshot says of the buyer.
    fn greeted(&mut self, hello: &Value) {
        let known = hello["you"]["orders"].as_array().into_iter().flatten();
        self.orders.extend(known.filter_map(|order| {
            Some((order["id"].as_str()?.to_owned(), order["state"].as_str()?.to_owned()))
        }));
        for (id, _) in self.orders.iter().filter(|(_, state)| state == "sold") {
            self.world.confirmed(id);
        }
        let mut holds = hello["you"]["holds"].as_array().into_iter().flatten();
        if let Some(hold) = self.abandoned.clone()
            && !holds.any(|standing| standing["id"] == hold.as_str())
        {
            self.ran_out(hold);
        }
        // Another connection counts its requests anew.
        self.first_tap = None;
    }

    fn ran_out(&mut self, hold: String) {
        self.world.records().ran_out(&hold, Instant::now());
        self.ran_out.insert(hold);
    }

    async fn leave(mut self) {
        if let Some(channel) = self.channel.take() {
            self.world.setting.gauges.channels.add(-1);
            channel.close().await;
        }
        left(&self.world, self.client.network(), &self.eyes);
    }

    /// Whether what is wanted is so already.
    fn is_so(&self, wanted: &Wanted<'_>) -> bool {
        match wanted {
            Wanted::Order(id, state) => self.orders.iter().any(|(of, is)| of == id && is == state),
            Wanted::RanOut(hold) => self.ran_out.contains(*hold),
            Wanted::FirstTap => self.first_tap.as_ref().is_none_or(|(_, answer)| answer.is_some()),
            Wanted::Reply(_) | Wanted::Nothing => false,
        }
    }

    /// Reads until what is wanted has come, or the time is there. A channel that is closed is opened again.
    async fn wait(&mut self, wanted: Wanted<'_>, until: Instant) -> Woken {
        loop {
            if self.is_so(&wanted) {
                return Woken::So;
            }
            if !self.connect().await {
                sleep_until(until).await;
                return Woken::Time;
            }
            if self.is_so(&wanted) {
                return Woken::So;
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
                        let id = message["id"].as_u64();
                        if let Some((_, answer)) = self.first_tap.as_mut().filter(|(tap, _)| Some(*tap) == id)
                        {
                            *answer = Some(message);
                        } else if let Wanted::Reply(ids) = wanted
                            && id.is_some_and(|id| ids.contains(&id))
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
                        if event["hold"]["state"] == "released"
                            && let Some(hold) = event["hold"]["id"].as_str()
                        {
                            self.ran_out(hold.to_owned());
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
    async fn insist(&mut self, kind: &str, fields: &Value, retries: u32) -> Asked {
        let mut ids = Vec::new();
        for _ in 0..=retries {
            let connected = self.channel.is_some();
            let Some(id) = self.send(kind, fields.clone()).await else { break };
            if !connected {
                // Another connection counts anew; nothing comes for the former's.
                ids.clear();
            }
            ids.push(id);
            let answer = match self.wait(Wanted::Reply(&ids), Instant::now() + REPLY_WITHIN).await {
                Woken::Reply(answer) => answer,
                Woken::Over => return Asked::Over,
                _ => continue,
            };
            if !is_not_now(&answer) {
                return Asked::Answered(answer);
            }
            self.world.records().not_now += 1;
            let pause = answer["retry_after_ms"].as_u64().unwrap_or(200).min(5_000);
            let until = Instant::now() + Duration::from_millis(pause);
            if let Woken::Over = self.wait(Wanted::Nothing, until).await {
                return Asked::Over;
            }
        }
        Asked::GaveUp
    }

    fn tap(&self) -> Tap {
        Tap { at: Instant::now(), failures: self.client.network().failures() }
    }

    /// It has come to an end that somebody has tapped for. What waited for our own network says nothing about the server.
    fn felt(&self, time: Time, tap: Tap) {
        if self.client.network().failures() == tap.failures {
            self.world.record(time, tap.at.elapsed());
        }
    }

    async fn buy(&mut self, sale: &str, traits: BuyerTraits) {
        let BuyerTraits { group, quantity, repeats, retries, .. } = traits;
        let key = format!("{:08x}-{}", self.world.setting.run, self.number);
        let fields = json!({ "sale_id": sale, "quantity": quantity, "key": key });
        let tap = self.tap();
        self.world.records().offer(group, tap.at);
        // The impatient one taps twice, and must be answered the same.
        if repeats {
            self.first_tap = self.send("hold", fields.clone()).await.map(|id| (id, None));
        }
        let asked = self.insist("hold", &fields, retries).await;
        let first = self.first_answer().await;
        if !matches!(asked, Asked::Over) {
            self.felt(Time::Hold, tap);
        }
        let answer = match asked {
            Asked::Answered(answer) => Some(answer),
            // Who was answered once knows what there is to know.
            Asked::GaveUp => first.clone().filter(|first| !is_not_now(first)),
            Asked::Over => None,
        };
        let Some(answer) = answer else {
            let mut records = self.world.records();
            records.unanswered += 1;
            records.unsure.insert(self.number);
            return;
        };
        if let Some(first) = &first {
            self.compare(first, &answer);
        }
        let Some(hold) = hold_of(&answer).map(str::to_owned) else {
            let code = answer["code"].as_str().unwrap_or("no hold");
            if matches!(code, "sold_out" | "not_enough" | "sale_closed" | "buyer_limit") {
                self.world.records().refused += 1;
            } else {
                self.error("hold", code);
            }
            return;
        };
        let mine = self.granted(&answer, &hold, quantity, tap);
        let deadline = lasts(&answer).map(|lasts| Instant::now() + lasts);
        if repeats && let Asked::Answered(again) = self.insist("hold", &fields, retries).await {
            self.compare(&answer, &again);
        }
        if traits.then == Decision::Abandon {
            return self.abandon(mine, hold, deadline).await;
        }
        if let Woken::Over = self.wait(Wanted::Nothing, Instant::now() + traits.decide).await {
            return;
        }
        let fields = json!({ "sale_id": sale, "hold_id": hold });
        match traits.then {
            Decision::Pay => self.pay(mine, &fields, retries).await,
            _ => self.give_back(mine, &fields, retries).await,
        }
    }

    /// The answer to the first of two taps, if there was one on this connection.
    async fn first_answer(&mut self) -> Option<Value> {
        self.first_tap.as_ref()?;
        let woken = self.wait(Wanted::FirstTap, Instant::now() + REPLY_WITHIN).await;
        let (_, answer) = self.first_tap.take()?;
        if answer.is_none() && matches!(woken, Woken::Time) {
            self.error("hold", "the first of two taps was not answered");
        }
        answer
    }

    /// A hold was granted. Until when it stands is known by the server's clock: for sure as long after the tap as the answer
    /// says.
    fn granted(&self, answer: &Value, hold: &str, units: u32, tap: Tap) -> usize {
        let until = tap.at + lasts(answer).map_or(FOR_EVER, |lasts| lasts.saturating_sub(MARGIN));
        self.world.records().granted(self.number, hold, units, until, Instant::now())
    }

    /// Two answers to requests with the same key.
    fn compare(&self, first: &Value, then: &Value) {
        if let Err(difference) = same(first, then) {
            self.world.records().doubles.push(format!("buyer {}: {difference}", self.number));
        }
    }

    async fn pay(&mut self, mine: usize, fields: &Value, retries: u32) {
        let tap = self.tap();
        let asked = self.insist("checkout", fields, retries).await;
        if matches!(asked, Asked::Over) {
            return;
        }
        let paid = self.pay_for(asked, mine, tap, retries).await;
        self.felt(Time::Checkout, tap);
        let (order, paying) = match paid {
            Ok(paid) => paid,
            Err((what, code)) => return self.error(what, &code),
        };
        if let Woken::So = self.wait(Wanted::Order(&order, "sold"), paying.at + CONFIRM_WITHIN).await {
            self.felt(Time::Confirm, paying);
        }
    }

    /// Pays for the order that a checkout was answered with. Returns its id, and when it was being paid; else at what it
    /// failed, and why.
    async fn pay_for(
        &self,
        asked: Asked,
        mine: usize,
        tap: Tap,
        retries: u32,
    ) -> Result<(String, Tap), (&'static str, String)> {
        let Asked::Answered(answer) = asked else { return Err(("checkout", "no answer".to_owned())) };
        let result = &answer["result"];
        let (Some(order), Some(page)) = (result["order"]["id"].as_str(), result["pay_url"].as_str()) else {
            return Err(("checkout", code_of(&answer).to_owned()));
        };
        let setting = &self.world.setting;
        {
            let mut records = self.world.records();
            records.purchases[mine].order = Some(order.to_owned());
            if let Some(lasts) = lasts(&answer) {
                records.stands_until(mine, tap.at + lasts.saturating_sub(MARGIN));
            }
        }
        let Some(url) = http::resolve(&setting.base, page) else {
            return Err(("paying", "no page".to_owned()));
        };
        let call = Call {
            method: "POST",
            url,
            content_type: Some("application/json"),
            body: json!({ "outcome": "paid" }).to_string(),
            ..Call::default()
        };
        self.client.network().there().await;
        let paying = self.tap();
        self.world.records().paying.insert(order.to_owned(), paying.at);
        for _ in 0..=retries {
            match self.client.call(call.clone()).await {
                Ok(answer) if answer.status.is_success() => {
                    self.world.records().purchases[mine].paid = true;
                    return Ok((order.to_owned(), paying));
                }
                Ok(answer) => setting.complaints.add(&format!("paying: {}", answer.complaint())),
                Err(error) => setting.complaints.add(&format!("paying: {error}")),
            }
            sleep(RECONNECT).await;
        }
        Err(("paying", "not taken".to_owned()))
    }

    async fn give_back(&mut self, mine: usize, fields: &Value, retries: u32) {
        {
            let mut records = self.world.records();
            records.given_back = true;
            records.stands_until(mine, Instant::now());
            // As long as there is no answer.
            records.purchases[mine].doubtful = true;
        }
        match self.insist("hold.cancel", fields, retries).await {
            Asked::Answered(answer) if answer["type"] == "reply" => {
                let mut records = self.world.records();
                (records.purchases[mine].released, records.purchases[mine].doubtful) = (true, false);
            }
            Asked::Answered(answer) => self.error("hold.cancel", code_of(&answer)),
            Asked::GaveUp => self.error("hold.cancel", "no answer"),
            Asked::Over => {}
        }
    }

    /// Walks away without a word. The hold has to run out, and its units to go back.
    async fn abandon(&mut self, mine: usize, hold: String, deadline: Option<Instant>) {
        self.world.records().abandoned += 1;
        let Some(deadline) = deadline else { return self.error("hold", "it has no deadline") };
        self.abandoned = Some(hold.clone());
        if let Woken::Over =
            self.wait(Wanted::Nothing, deadline - MARGIN.min(deadline - Instant::now())).await
        {
            return;
        }
        self.world.records().given_back = true;
        let woken = self.wait(Wanted::RanOut(&hold), deadline + RETURN_WITHIN).await;
        self.abandoned = None;
        match woken {
            Woken::So => self.world.records().returned += 1,
            Woken::Over => {}
            _ => {
                self.world.records().not_returned += 1;
                let buyer = self.world.records().purchases[mine].buyer;
                self.world.setting.complaints.add(&format!("hold {hold} of buyer {buyer} did not run out"));
            }
        }
    }

    fn error(&self, what: &str, code: &str) {
        self.world.count(Count::BuyerErrors);
        self.world.setting.complaints.add(&format!("{what}: {code}"));
    }
}
