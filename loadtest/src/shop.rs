//! Everybody on the channel: chatters, buyers and the host; what they see, and what they remember of the sale.
//!
//! Each is a task of its own with a websocket and a token of its own. What they share is here: who they are ([`World`]),
//! what has been counted, and the buyers' records, from which the audit is made.

mod actors;
mod buyer;
mod eyes;

use std::{
    collections::{BTreeMap, HashMap},
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

use self::eyes::Kept;
use crate::{
    audit::{self, Books, Order, Purchase},
    channel::Channel,
    http::{Call, Client},
    measure::Measures,
    network::Network,
    plan::{Kind, Number, Plan, Step},
    pool::Complaints,
    report::Audit,
    scenario::Scenario,
    tally::{Count, Gauges, Shared, Time},
    webhooks::{Told, Webhook},
};

/// Tokens asked for at once.
const MINTING: usize = 16;
/// How long buyers may take at the end to finish what they have begun.
const FINISH_WITHIN: Duration = Duration::from_secs(15);
/// How long tokens are valid, beyond the run.
const TOKEN_SECONDS: u64 = 3_600;
/// How long after the end the last likes may be told.
const LIKES_WITHIN: Duration = Duration::from_secs(3);
/// How much longer than everything else a webhook's last messages may take: they are delivered one by one.
const WEBHOOKS_WITHIN: Duration = Duration::from_secs(20);
/// Pages of the ledger's list that are read: 200 orders each.
const MAX_PAGES: usize = 5_000;

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
    /// What is told to the merchant's systems, if the harness may play them.
    pub(crate) webhook: Option<Arc<Webhook>>,
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

/// What buyers and the host have been told.
#[derive(Debug, Default)]
struct Records {
    purchases: Vec<Purchase>,
    orders: BTreeMap<String, Order>,
    /// When each unit was acknowledged as held, in that order, as long as none was given back; and as sold.
    held_at: Vec<Instant>,
    sold_at: Vec<Instant>,
    /// Units given back, or about to be: from then on, the number held says nothing about which acknowledgements are
    /// contained in an event.
    given_back: bool,
    /// Units standing by what buyers know, and the most of them; not known any more once a hold has run out.
    standing: i64,
    most_standing: i64,
    ran_out: bool,
    offered: u64,
    first_offer: Option<Instant>,
    last_offer: Option<Instant>,
    refused: u64,
    unanswered: u64,
    double_holds: u64,
    /// When each order was being paid.
    paying: HashMap<String, Instant>,
    /// Which product the host has pinned, and when the request was sent.
    pinned: Option<(String, Instant)>,
    /// Orders and units in the live before the run.
    before: Option<(u32, u32)>,
}

/// People on the channel, each with a network, and how they are told to go.
type Crowd = HashMap<(Kind, Number), (Network, watch::Sender<bool>)>;

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
        let mut records = self.records();
        let known = records.purchases.iter_mut().find(|purchase| purchase.order.as_deref() == Some(order));
        if let Some(purchase) = known.filter(|purchase| !purchase.confirmed) {
            purchase.confirmed = true;
            let units = purchase.units;
            records.sold_at.extend((0..units).map(|_| Instant::now()));
        }
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

fn order_of(order: &Value) -> Option<(String, Order)> {
    let text = |name: &str| Some(order[name].as_str()?.to_owned());
    let units = order["quantity"].as_u64()? as u32;
    Some((text("id")?, Order { hold: text("hold_id")?, units, state: text("state")? }))
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
            world.records().before = totals_of(&ledger(&world.setting).await?);
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
                "duration_ms": scenario.duration().as_millis() as u64 + 3_600_000,
            });
            let asked = Instant::now();
            let id = channel.send("sale.schedule", fields).await;
            let answer = actors::answer_to(&mut channel, id).await.context("no answer to sale.schedule")?;
            let Some(sale) = answer["result"]["sale"]["id"].as_str() else {
                bail!("the sale was refused: {answer}");
            };
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
    pub(crate) async fn finish(&mut self, settle: Duration) -> Option<Audit> {
        self.world.hush.send_replace(true);
        let deadline = Instant::now() + FINISH_WITHIN;
        while self.world.busy.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
        self.wait_for_likes().await;
        let audit = self.audit(settle).await;
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

    /// Compares the books, again and again until they agree or `patience` is over: the last events may be under way.
    async fn audit(&self, patience: Duration) -> Option<Audit> {
        let stock = self.stock()?;
        let webhook = self.world.setting.webhook.is_some();
        let deadline = Instant::now() + patience + if webhook { WEBHOOKS_WITHIN } else { Duration::ZERO };
        loop {
            let fetched = self.books().await;
            let over = Instant::now() >= deadline;
            let (audit, agrees) = {
                let records = self.world.records();
                match fetched {
                    Ok(mut books) => {
                        books.host = records.orders.clone();
                        let audit = audit::audit(stock, &records.purchases, &books);
                        let agrees = audit.differences.is_empty();
                        (audit, agrees)
                    }
                    Err(error) => {
                        let mut audit = audit::audit(stock, &records.purchases, &Books::default());
                        audit.ledger_units = None;
                        audit.ledger_orders = None;
                        audit.differences = vec![format!("the ledger could not be read: {error}")];
                        (audit, false)
                    }
                }
            };
            if agrees || over {
                return Some(audit);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn stock(&self) -> Option<u32> {
        let scenario = &self.world.setting.scenario;
        let sale = scenario.sale.as_ref()?;
        self.world.offer.borrow().as_ref()?;
        // The same draws as at the beginning.
        let mut random = crate::random::Random::new(scenario.seed, 99);
        let _ = sale.price_minor.draw(&mut random);
        Some(sale.stock.draw_count(&mut random))
    }

    async fn books(&self) -> Result<Books> {
        let setting = &self.world.setting;
        let offer = self.world.offer.borrow().clone().context("there is no sale")?;
        let answer = ledger(setting).await?;
        let all = match &setting.backend_key {
            Some(key) => Some(all_orders(setting, key).await?),
            None => None,
        };
        let complete = all.is_some();
        let listed = all.unwrap_or_else(|| answer["orders"].as_array().cloned().unwrap_or_default());
        let ours = listed.iter().filter(|order| order["sale_id"] == offer.sale.as_str());
        let listed = ours.filter_map(order_of).collect();
        let before = self.world.records().before;
        let totals = totals_of(&answer).zip(before);
        let totals =
            totals.map(|(now, before)| (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1)));
        let sales = get(setting, "sales").await?;
        let mut sales = sales["sales"].as_array().into_iter().flatten();
        let sale = sales.find(|sale| sale["id"] == offer.sale.as_str()).map(|sale| {
            let number = |name: &str| sale[name].as_u64().unwrap_or(0) as u32;
            (number("available"), number("held"), number("sold"))
        });
        let ours = |(_, told): &(&String, &Told)| told.sale == offer.sale;
        let webhook = setting.webhook.as_ref().map(|webhook| {
            let heard = webhook.heard();
            heard.orders.iter().filter(ours).map(|(id, told)| (id.clone(), told.clone())).collect()
        });
        let standing = self.standing();
        Ok(Books { host: BTreeMap::new(), listed, complete, totals, sale, standing, webhook })
    }

    /// Units held by the buyers' own records, if these are whole.
    fn standing(&self) -> Option<u32> {
        let errors = self.world.tally.lock().get(Count::BuyerErrors);
        let records = self.world.records();
        let whole = !records.ran_out && records.unanswered == 0 && errors == 0;
        let held = records.purchases.iter().filter(|purchase| !purchase.released && !purchase.confirmed);
        whole.then(|| held.map(|purchase| purchase.units).sum())
    }

    /// The measures of the sale, added to those of other lives' sales.
    pub(crate) fn add_measures(&self, measures: &mut Measures, audit: Option<&Audit>) {
        let mut add = |name: &str, value: f64| *measures.entry(name.to_owned()).or_default() += value;
        if let Some(grown) = self.world.likes_grown() {
            add("likes.told", grown as f64);
        }
        let Some(audit) = audit else { return };
        let errors = self.world.tally.lock().get(Count::BuyerErrors);
        let records = self.world.records();
        let unconfirmed = records.purchases.iter().filter(|purchase| purchase.paid && !purchase.confirmed);
        add("sale.offered", records.offered as f64);
        add("sale.held", records.purchases.len() as f64);
        add("sale.refused", records.refused as f64);
        add("sale.errors", errors as f64);
        add("sale.unanswered", records.unanswered as f64);
        add("sale.double_holds", records.double_holds as f64);
        add("sale.released", records.purchases.iter().filter(|purchase| purchase.released).count() as f64);
        add("sale.confirmed", f64::from(audit.confirmed_orders));
        add("sale.unconfirmed", unconfirmed.count() as f64);
        let standing = if records.ran_out { 0 } else { records.most_standing.max(0) as u32 };
        add("sale.oversold", f64::from(audit::oversold(audit, standing)));
        add("sale.mismatches", audit.differences.len() as f64);
        if let Some(orders) = audit.webhook_orders {
            add("sale.webhooks", f64::from(orders));
        }
        if let (Some(first), Some(last)) = (records.first_offer, records.last_offer) {
            let within = measures.entry("sale.offered_within_s".to_owned()).or_default();
            *within = within.max((last - first).as_secs_f64());
        }
    }
}

fn totals_of(ledger: &Value) -> Option<(u32, u32)> {
    let number = |name: &str| ledger["totals"][name].as_u64().map(|number| number as u32);
    Some((number("orders")?, number("units")?))
}

async fn ledger(setting: &Setting) -> Result<Value> {
    get(setting, "orders").await
}

/// All orders of the live, page by page.
async fn all_orders(setting: &Setting, key: &str) -> Result<Vec<Value>> {
    let (mut orders, mut after) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let url = format!("{}/v1/orders?live={}&limit=200{after}", setting.base, setting.live);
        let mut page = get_by(setting, url, key).await?;
        if let Value::Array(of_page) = page["orders"].take() {
            orders.extend(of_page);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(orders),
        }
    }
    bail!("the ledger lists more than {MAX_PAGES} pages of orders")
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
