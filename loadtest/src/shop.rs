//! Everybody on the channel: chatters, buyers and the host; what they see, and what they remember of the sale.
//!
//! Each is a task of its own with a websocket and a token of its own. What they share is here: who they are ([`World`]),
//! what has been counted, and the buyers' records, from which the audit is made.

mod actors;
mod books;
mod buyer;
mod eyes;
mod records;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use haul_model::UnixMillis;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use self::{books::order_of, eyes::Kept, records::Records};
use crate::{
    channel::Channel,
    http::{Call, Client},
    leftovers::Leftovers,
    measure::Measures,
    network::Network,
    plan::{Kind, Number, Plan, Step},
    pool::Complaints,
    report::Audit,
    scenario::Scenario,
    tally::{Count, Gauges, Shared, Time},
    webhooks::Webhook,
};

/// Tokens asked for at once.
const MINTING: usize = 16;
/// How long buyers may take at the end to finish what they have begun.
const FINISH_WITHIN: Duration = Duration::from_secs(15);
/// How much longer than the run a sale is open at most: it is closed at the end, unless the harness is killed.
const SALE_LASTS: Duration = Duration::from_secs(60);
/// How long tokens are valid, beyond the run.
const TOKEN_SECONDS: u64 = 3_600;
/// How long after the end the last likes may be told.
const LIKES_WITHIN: Duration = Duration::from_secs(3);

/// What is needed to begin.
pub(crate) struct Setting {
    pub(crate) client: Client,
    pub(crate) base: String,
    pub(crate) live: String,
    /// Which of the run's lives it is.
    pub(crate) index: usize,
    pub(crate) host_token: String,
    pub(crate) run: u32,
    pub(crate) scenario: Scenario,
    pub(crate) plan: Plan,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) complaints: Arc<Complaints>,
    /// What permits to read all of the ledger's orders, if anything does.
    pub(crate) backend_key: Option<String>,
    /// What is told to the merchant's systems, if the harness may play them; else why not.
    pub(crate) webhook: Result<Arc<Webhook>, String>,
    /// What is to be taken back at the end.
    pub(crate) leftovers: Leftovers,
}

/// The sale as all buyers know it.
#[derive(Debug, Clone, PartialEq)]
struct Offer {
    sale: String,
    opens: Instant,
}

/// What all actors share.
struct World {
    setting: Setting,
    tally: Shared,
    /// Chat lines carry the time since then.
    epoch: Instant,
    tokens: [Vec<String>; 2],
    offer: watch::Sender<Option<Offer>>,
    over: watch::Sender<bool>,
    /// Nobody says or likes anything more: what was said is counted.
    hush: watch::Sender<bool>,
    /// What is remembered of the sale.
    records: Mutex<Records>,
    /// Which of the room's events are more than chat.
    kept: Mutex<Kept>,
    /// Purchases that have begun and are not over.
    busy: AtomicU64,
    /// The last known stock; more than there can be: unknown.
    available: AtomicU32,
    /// The total of likes that the room was told, at first and at last.
    likes: Mutex<Option<(u64, u64)>>,
}

/// People on the channel, each with a network, and how they are told to go.
type Crowd = HashMap<(Kind, Number), (Network, watch::Sender<bool>)>;

/// How long is waited at the end for what is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For buyers to finish what they have begun.
    buyers: Duration,
    /// For the last events, and how much longer for webhooks, which are delivered one by one.
    events: Duration,
    webhooks: Duration,
    /// Whether books are compared though somebody is still buying: then they never agree.
    come_what_may: bool,
}

impl Patience {
    /// At the end of a run.
    pub(crate) const USUAL: Self = Self {
        buyers: FINISH_WITHIN,
        events: Duration::from_secs(2),
        webhooks: Duration::from_secs(20),
        come_what_may: true,
    };
    /// After a server was killed: what it was telling a webhook just then it holds to be under way for a while, in ours a
    /// minute, before it tells it again.
    pub(crate) const AFTER_A_KILL: Self = Self { webhooks: Duration::from_secs(90), ..Self::USUAL };
    /// When the process was asked to end.
    pub(crate) const LITTLE: Self = Self {
        buyers: Duration::from_secs(2),
        events: Duration::from_secs(1),
        webhooks: Duration::from_secs(2),
        come_what_may: false,
    };
}

/// Everybody on the channel.
pub(crate) struct Shop {
    world: Arc<World>,
    viewer_tokens: Vec<String>,
    /// Who is there.
    crowd: Mutex<Crowd>,
    host: Mutex<Option<mpsc::UnboundedSender<HostOrder>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    product: String,
}

/// What the host is told to do.
enum HostOrder {
    Pin,
}

impl World {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, count: Count) {
        self.tally.lock().count(count, 1);
    }

    fn record(&self, time: Time, value: Duration) {
        self.tally.lock().record(time, value);
    }

    /// The mark that a chat line carries: whose, and when it was sent.
    fn mark(&self) -> String {
        format!("~{:08x}{:x}", self.setting.run, self.epoch.elapsed().as_micros())
    }

    /// How long a chat line was under way, if it is one of ours.
    fn age(&self, text: &str) -> Option<Duration> {
        let mark = format!("~{:08x}", self.setting.run);
        let rest = &text[text.find(&mark)? + mark.len()..];
        let digits = &rest[..rest.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(rest.len())];
        let sent = Duration::from_micros(u64::from_str_radix(digits, 16).ok()?);
        Some(self.epoch.elapsed().saturating_sub(sent))
    }
}

impl World {
    /// The room was told of so many likes in all.
    fn likes_told(&self, total: Option<u64>) {
        let Some(total) = total else { return };
        let mut likes = self.likes.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = likes.unwrap_or((total, total));
        *likes = Some((first.min(total), last.max(total)));
    }

    /// By how many the room's likes have grown.
    fn likes_grown(&self) -> Option<u64> {
        let likes = *self.likes.lock().unwrap_or_else(PoisonError::into_inner);
        likes.map(|(first, last)| last - first)
    }

    /// The webhook was told that an order is sold.
    fn webhook_told(&self, order: &str) {
        let paid = self.records().paying.get(order).copied();
        if let Some(paid) = paid {
            self.record(Time::Webhook, paid.elapsed());
        }
    }

    /// A buyer was told that an order is sold, however late.
    fn confirmed(&self, order: &str) {
        self.records().confirmed(order, Instant::now());
    }

    /// Tells the host's record of an order.
    fn host_order(&self, event: &Value) {
        let ours = self
            .offer
            .borrow()
            .as_ref()
            .is_some_and(|offer| event["order"]["sale_id"] == offer.sale.as_str());
        if ours && let Some((id, order)) = order_of(&event["order"]) {
            self.records().orders.insert(id, order);
        }
    }
}

impl Shop {
    /// Mints everybody's tokens and looks at the live.
    pub(crate) async fn prepare(setting: Setting) -> Result<Self> {
        let kinds = [
            ("v", setting.plan.viewers.len()),
            ("c", setting.plan.chatters.len()),
            ("b", setting.plan.buyers.len()),
        ];
        ensure_live(&setting).await?;
        let mut minted = Vec::new();
        for (kind, count) in kinds {
            minted.push(mint(&setting, kind, count).await?);
        }
        let [viewers, chatters, buyers]: [Vec<String>; 3] =
            minted.try_into().unwrap_or_else(|_| unreachable!("three kinds of actors"));
        let mut product = String::new();
        if setting.scenario.sale.is_some() || setting.scenario.host.is_some() {
            product = some_product(&setting).await?;
        }
        let world = Arc::new(World {
            setting,
            tally: Shared::default(),
            epoch: Instant::now(),
            tokens: [chatters, buyers],
            offer: watch::Sender::new(None),
            over: watch::Sender::new(false),
            hush: watch::Sender::new(false),
            records: Mutex::default(),
            kept: Mutex::default(),
            busy: AtomicU64::new(0),
            available: AtomicU32::new(u32::MAX),
            likes: Mutex::default(),
        });
        Ok(Self {
            world,
            viewer_tokens: viewers,
            crowd: Mutex::default(),
            host: Mutex::default(),
            tasks: Mutex::default(),
            product,
        })
    }

    /// The clock starts: the host comes, and announces the sale.
    pub(crate) async fn begin(&self) -> Result<()> {
        let world = &self.world;
        let Setting { client, base, live, host_token, scenario, .. } = &world.setting;
        if scenario.host.is_none() && scenario.sale.is_none() {
            return Ok(());
        }
        let (mut channel, hello) =
            Channel::open(client, base, live, host_token, None).await.context("the host's channel")?;
        if scenario.sale.is_some() {
            let before = books::totals(&world.setting).await?;
            world.records().before = before;
            let at = world.setting.plan.steps.iter().find(|(_, step)| *step == Step::Sell).map(|(at, _)| *at);
            let at = at.unwrap_or_default();
            let server_time = UnixMillis::deserialize(&hello["server_time"]).context("the server's time")?;
            let opens_at = server_time + at;
            let sale = scenario.sale.as_ref().context("there is a sale")?;
            let mut random = crate::random::Random::new(scenario.seed, 99);
            let fields = json!({
                "product_id": self.product,
                "price_minor": sale.price_minor.draw(&mut random) as i64,
                "stock": sale.stock.draw_count(&mut random),
                "per_buyer": sale.per_buyer.draw_count(&mut random),
                "hold_ms": sale.hold_s.draw_seconds(&mut random).as_millis() as u64,
                "opens_at": opens_at,
                "duration_ms": (scenario.duration() + SALE_LASTS).as_millis() as u64,
            });
            let asked = Instant::now();
            let id = channel.send("sale.schedule", fields).await;
            let answer = actors::answer_to(&mut channel, id).await.context("no answer to sale.schedule")?;
            let Some(sale) = answer["result"]["sale"]["id"].as_str() else {
                bail!("the sale was refused: {answer}");
            };
            let close = Call {
                method: "POST",
                url: format!("{base}/v1/lives/{live}/sales/{sale}/close"),
                token: Some(host_token.clone()),
                ..Call::default()
            };
            world.setting.leftovers.add(format!("the sale {sale} in {live}, which is open"), close);
            let offer = Offer { sale: sale.to_owned(), opens: asked + at };
            world.offer.send_replace(Some(offer));
        }
        let (orders, receiver) = mpsc::unbounded_channel();
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(orders);
        let products = hello["products"].as_array().into_iter().flatten();
        let mut products: Vec<String> =
            products.filter_map(|product| product["id"].as_str().map(str::to_owned)).collect();
        if products.is_empty() {
            products.push(self.product.clone());
        }
        self.spawn(actors::host(world.clone(), channel, receiver, products));
        Ok(())
    }

    /// Each viewer's token.
    pub(crate) fn viewer_tokens(&self) -> &[String] {
        &self.viewer_tokens
    }

    /// What is to be done when the webhook is told that an order is sold.
    pub(crate) fn webhook_listener(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let world = self.world.clone();
        move |order| world.webhook_told(order)
    }

    pub(crate) fn tally(&self) -> &Shared {
        &self.world.tally
    }

    /// A step of the plan.
    pub(crate) fn step(&self, step: Step) {
        match step {
            Step::Enter(number) => {
                let (network, leaving) = self.comes(Kind::Chatter, number);
                self.spawn(actors::chatter(self.world.clone(), number, network, leaving));
            }
            Step::Exit(number) => {
                if let Some((_, exit)) = self.crowd().remove(&(Kind::Chatter, number)) {
                    exit.send_replace(true);
                }
            }
            Step::Queue(number) => {
                let (network, _) = self.comes(Kind::Buyer, number);
                self.spawn(buyer::buyer(self.world.clone(), number, network));
            }
            Step::Pin => {
                if let Some(host) = &*self.host.lock().unwrap_or_else(PoisonError::into_inner) {
                    let _ = host.send(HostOrder::Pin);
                }
            }
            // The sale opens by the server's clock.
            _ => {}
        }
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn comes(&self, kind: Kind, number: Number) -> (Network, watch::Receiver<bool>) {
        let (network, (exit, leaving)) = (Network::default(), watch::channel(false));
        self.crowd().insert((kind, number), (network.clone(), exit));
        (network, leaving)
    }

    /// Somebody's network fails until then, if they are there. Slow readers are left alone: they would be slow to say that
    /// they are back, too.
    pub(crate) fn fail_network(&self, kind: Kind, number: Number, until: std::time::Instant, roams: bool) {
        let Setting { scenario, plan, .. } = &self.world.setting;
        let is_slow = kind == Kind::Chatter
            && scenario.chatters[plan.chatters[number as usize].group].read_every_ms.is_some();
        let Some((network, _)) = self.crowd().get(&(kind, number)).filter(|_| !is_slow).cloned() else {
            return;
        };
        if network.fail(until, roams) {
            self.world.count(Count::DropChannels);
        }
    }

    fn spawn(&self, actor: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(actor));
    }

    /// How long until the sale opens, and how many units are left; each if known.
    pub(crate) fn sale_now(&self) -> (Option<Duration>, Option<u32>) {
        let offer = self.world.offer.borrow().clone();
        let wait = offer.map(|offer| offer.opens.saturating_duration_since(Instant::now()));
        let available = self.world.available.load(Ordering::Relaxed);
        (wait, (available != u32::MAX).then_some(available))
    }

    /// The run is over: lets buyers finish, compares the books, and closes all channels.
    pub(crate) async fn finish(&mut self, patience: Patience) -> Option<Audit> {
        self.world.hush.send_replace(true);
        let deadline = Instant::now() + patience.buyers;
        while self.world.busy.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        self.wait_for_likes().await;
        let buying = self.world.busy.load(Ordering::Relaxed);
        let audit = if buying > 0 && !patience.come_what_may {
            let what = "books that were not compared, since purchases were under way when the run was ended";
            self.world.setting.complaints.add(what);
            None
        } else {
            self.audit(patience).await
        };
        self.world.over.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = timeout(FINISH_WITHIN, futures_util::future::join_all(tasks)).await;
        if ended.is_err() {
            self.world.setting.complaints.add("channels that did not close in time");
        }
        audit
    }

    /// The room is told of likes once a second: the last are under way.
    async fn wait_for_likes(&self) {
        let world = &self.world;
        let (sent, refused) = {
            let tally = world.tally.lock();
            (tally.get(Count::LikesSent), tally.get(Count::LikesRefused))
        };
        let deadline = Instant::now() + LIKES_WITHIN;
        while world.likes_grown().is_some_and(|grown| grown < sent - refused.min(sent))
            && Instant::now() < deadline
        {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The measures of the sale, added to those of other lives' sales.
    pub(crate) fn add_measures(&self, measures: &mut Measures, audit: Option<&Audit>) {
        if let Some(grown) = self.world.likes_grown() {
            *measures.entry("likes.told".to_owned()).or_default() += grown as f64;
        }
        if let Some(audit) = audit {
            let errors = self.world.tally.lock().get(Count::BuyerErrors);
            self.world.records().add_measures(measures, audit, errors);
        }
    }
}

async fn get(setting: &Setting, what: &str) -> Result<Value> {
    get_by(setting, format!("{}/v1/lives/{}/{what}", setting.base, setting.live), &setting.host_token).await
}

async fn get_by(setting: &Setting, url: String, token: &str) -> Result<Value> {
    let token = Some(token.to_owned());
    let call = Call { method: "GET", url: url.clone(), token, ..Call::default() };
    let answer = setting.client.call_shared(call).await?;
    if !answer.status.is_success() {
        bail!("GET {url}: {}", answer.complaint());
    }
    Ok(answer.json())
}

/// A live that nobody has created yet is created, as its first publisher would.
async fn ensure_live(setting: &Setting) -> Result<()> {
    let call = |method| Call {
        method,
        url: format!("{}/v1/lives/{}", setting.base, setting.live),
        token: Some(setting.host_token.clone()),
        ..Call::default()
    };
    let known = setting.client.call_shared(call("GET")).await?;
    if known.status.as_u16() != 404 {
        return Ok(());
    }
    let body = json!({ "title": "Load test", "public": false }).to_string();
    let put = Call { content_type: Some("application/json"), body, ..call("PUT") };
    let made = setting.client.call_shared(put).await?;
    if !made.status.is_success() {
        bail!("the live {} could not be created: {}", setting.live, made.complaint());
    }
    Ok(())
}

/// A product of the live; one is made if there is none.
async fn some_product(setting: &Setting) -> Result<String> {
    let listed = get(setting, "products").await?;
    if let Some(id) = listed["products"][0]["id"].as_str() {
        return Ok(id.to_owned());
    }
    let url = format!("{}/v1/lives/{}/products/loadtest", setting.base, setting.live);
    let body = json!({ "title": "Load test", "price_minor": 1_600, "currency": "EUR" });
    let call = Call {
        method: "PUT",
        url: url.clone(),
        token: Some(setting.host_token.clone()),
        content_type: Some("application/json"),
        body: body.to_string(),
    };
    let answer = setting.client.call_shared(call).await?;
    if !answer.status.is_success() {
        bail!("PUT {url}: {}", answer.complaint());
    }
    Ok("loadtest".to_owned())
}

/// Mints a token for each of `count` actors of a kind.
async fn mint(setting: &Setting, kind: &str, count: usize) -> Result<Vec<String>> {
    let seconds = setting.scenario.duration().as_secs() + TOKEN_SECONDS;
    let one = |number: usize| async move {
        let sub = format!("lt-{:08x}-{}{kind}{number}", setting.run, setting.index);
        let body = json!({ "sub": sub, "role": "viewer", "name": sub, "ttl_seconds": seconds });
        let call = Call {
            method: "POST",
            url: format!("{}/v1/lives/{}/tokens", setting.base, setting.live),
            token: Some(setting.host_token.clone()),
            content_type: Some("application/json"),
            body: body.to_string(),
        };
        let answer = setting.client.call_shared(call).await?;
        match answer.json()["token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => bail!("no token from the host's token: {}", answer.complaint()),
        }
    };
    let minted = futures_util::stream::iter((0..count).map(one)).buffered(MINTING);
    minted.collect::<Vec<_>>().await.into_iter().collect()
}
