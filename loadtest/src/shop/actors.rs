//! What hosts and chatters do on the channel, and what all actors there have in common. Buyers are beside them.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{HostOrder, World, eyes::Eyes};
use crate::{
    channel::{Channel, ChannelError, kind},
    http::Client,
    network::Network,
    plan::{self, Number},
    tally::{Count, Time},
};

/// How long a reply may take before the actor stops waiting for it.
pub(super) const REPLY_WITHIN: Duration = Duration::from_secs(5);
/// How long somebody waits before connecting again after the channel was closed.
pub(super) const RECONNECT: Duration = Duration::from_millis(500);
/// How often a closed channel is opened again in a row.
pub(super) const RECONNECTS: u32 = 10;
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
pub(super) async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

/// Opens a channel and counts it. `client` is over the actor's own network.
pub(super) async fn open(
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
pub(super) fn closed(world: &World, error: &ChannelError, slow: bool, network: &Network) {
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
pub(super) fn left(world: &World, network: &Network, eyes: &Eyes) {
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
