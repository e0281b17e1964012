//! A run: tokens first, then everything the plan says at its time, then the verdict.

mod check;
mod networks;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::join_all;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, interval, sleep_until},
};

use crate::{
    capacity::Search,
    catalog::DISTRIBUTIONS,
    cli,
    clip::{Clip, LAYERS},
    faults::Faults,
    host::{Host, Sent},
    http::Client,
    leftovers::{Leftovers, Signals},
    level, machine, measure, moq,
    peer::Identity,
    places::{Places, live_of, source_towards},
    plan::{Number, Plan, Step},
    pool::{Audience, Complaints, Order, Pool},
    progress::{Now, Progress},
    publisher::Terms,
    report::{self, Audit, Note, Report, Who},
    scenario::{Fault, Scenario, Transport, Victim},
    shards::Shards,
    shop::{Patience, Setting, Shop},
    tally::{Count, Gauges, Shared, Tally},
    viewer::Traits,
    watch::Watch,
    webhooks::{Place, Webhook},
};

/// Actors whose tokens are worth a word before the run begins.
const MANY: usize = 1_000;

/// Runs the scenario that the options name. Returns its report.
pub(crate) async fn run(options: &cli::Run) -> Result<Report> {
    let scenario = Scenario::read(&options.scenario)?;
    of_scenario(options, scenario).await
}

/// Runs a scenario. Returns its report.
pub(crate) async fn of_scenario(options: &cli::Run, mut scenario: Scenario) -> Result<Report> {
    if let Some(seed) = options.seed {
        scenario.seed = seed;
    }
    if let Some(seconds) = options.duration {
        scenario.duration_s = seconds;
    }
    for (group, count) in &options.count {
        scenario.set_count(group, *count).map_err(anyhow::Error::msg)?;
    }
    scenario.check().map_err(|why| anyhow!("with what the command line has changed: {why}"))?;
    let places = Places::new(options, scenario.lives)?;
    // Each live's actors draw from a seed of their own: else all would do the same at the same time.
    let plans: Vec<Plan> = (0..u64::from(scenario.lives))
        .map(|live| Plan::new(&Scenario { seed: scenario.seed.wrapping_add(live), ..scenario.clone() }))
        .collect();
    check::check(options, &scenario, &plans, &places)?;
    let (client, leftovers) = (Client::new(), Leftovers::default());
    let result = whole(options, scenario, plans, places, &client, &leftovers).await;
    // Whichever way it has ended, what it has made is taken away.
    let left = leftovers.take_back(&client).await;
    match result {
        Ok(mut report) => {
            let at_s = report.duration_s;
            left.iter().for_each(|text| eprintln!("{text}"));
            report.notes.extend(left.into_iter().map(|text| Note { at_s, text }));
            Ok(report)
        }
        Err(error) if left.is_empty() => Err(error),
        Err(error) => Err(anyhow!("{error:#}; and {}", left.join("; "))),
    }
}

async fn whole(
    options: &cli::Run,
    scenario: Scenario,
    plans: Vec<Plan>,
    places: Places,
    client: &Client,
    leftovers: &Leftovers,
) -> Result<Report> {
    let mut signals = Signals::listen()?;
    let source = source_towards(places.some().or(options.moq.as_ref()).context("nothing to do")?).await?;
    // Not to be given up half way: whether it is registered would not be known.
    let webhook = webhook(options, &scenario, &places, source, client, leftovers).await?;
    let prepared = tokio::select! {
        prepared = Run::prepare(options, scenario, plans, places, source, client, webhook, leftovers) => prepared?,
        signal = signals.next() => bail!("{signal} before the run had begun"),
    };
    prepared.go(&mut signals).await
}

/// Plays the merchant's systems, if a sale is to be and there is a key for it; else says why not.
async fn webhook(
    options: &cli::Run,
    scenario: &Scenario,
    places: &Places,
    source: SocketAddr,
    client: &Client,
    leftovers: &Leftovers,
) -> Result<Result<Arc<Webhook>, String>> {
    let (Some(base), true) = (&places.base, scenario.sale.is_some()) else {
        return Ok(Err("there is no sale".to_owned()));
    };
    let Some(key) = backend_key(options) else {
        return Ok(Err("they need --api-key, or a token for all lives".to_owned()));
    };
    let listen = options.webhook_listen.unwrap_or(source);
    let place = Place { listen, url: options.webhook_url.clone() };
    Ok(Ok(Arc::new(Webhook::open(client, base, key, &place, leftovers).await?)))
}

/// One of the lives of a run.
struct Stage {
    plan: Plan,
    shop: Option<Shop>,
    host: Option<Host>,
    /// The number of its first viewer among all viewers.
    first: Number,
}

struct Run<'o> {
    options: &'o cli::Run,
    scenario: Scenario,
    places: Places,
    stages: Vec<Stage>,
    pools: Vec<Pool>,
    moq: Option<moq::Viewers>,
    webhook: Result<Arc<Webhook>, String>,
    shards: Option<Shards>,
    faults: Faults,
    news: UnboundedReceiver<String>,
    gauges: Arc<Gauges>,
    complaints: Arc<Complaints>,
    start: Instant,
    started_at: SystemTime,
    notes: Vec<Note>,
    progress: Progress,
    watch: Watch,
    /// How many viewers can be served, if that is looked for.
    search: Option<Search>,
}

impl<'o> Run<'o> {
    #[allow(clippy::too_many_arguments)]
    async fn prepare(
        options: &'o cli::Run,
        scenario: Scenario,
        plans: Vec<Plan>,
        places: Places,
        source: SocketAddr,
        client: &Client,
        webhook: Result<Arc<Webhook>, String>,
        leftovers: &Leftovers,
    ) -> Result<Self> {
        let mut progress = Progress::new();
        let identity = Identity::generate()?;
        let started_at = SystemTime::now();
        let run =
            started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u32 ^ std::process::id();
        let (gauges, complaints) = (Arc::new(Gauges::default()), Arc::new(Complaints::default()));
        let actors: usize =
            plans.iter().map(|plan| plan.viewers.len() + plan.chatters.len() + plan.buyers.len()).sum();
        if actors > MANY && places.base.is_some() {
            progress.note(&format!("minting {actors} tokens"));
        }
        let publishes =
            scenario.publisher.as_ref().is_some_and(|publisher| publisher.transport == Transport::Moq);
        let watches = |by| plans.iter().any(|plan| plan.viewers.iter().any(|viewer| viewer.transport == by));
        let (by_webrtc, by_moq) = (watches(Transport::WebRtc), watches(Transport::Moq));
        let door = match (&options.moq, &places.base) {
            _ if !publishes && !by_moq => None,
            (Some(url), _) => {
                let url = url.trim_end_matches('/').to_owned();
                Some(moq::Door::at(client, url, options.moq_certificate.as_deref())?)
            }
            (None, Some(base)) => Some(moq::Door::ask(client, base).await?),
            (None, None) => bail!("give --moq"),
        };
        let (mut stages, mut first) = (Vec::new(), 0);
        for (index, plan) in plans.into_iter().enumerate() {
            let place = &places.lives[index];
            let setting = |base: &String| Setting {
                client: client.clone(),
                base: base.clone(),
                live: place.live.clone(),
                index,
                host_token: options.token.clone(),
                run,
                scenario: Scenario { seed: scenario.seed.wrapping_add(index as u64), ..scenario.clone() },
                plan: plan.clone(),
                gauges: gauges.clone(),
                complaints: complaints.clone(),
                backend_key: backend_key(options).map(str::to_owned),
                webhook: webhook.clone(),
                leftovers: leftovers.clone(),
            };
            let shop = match &places.base {
                Some(base) => Some(Shop::prepare(setting(base)).await?),
                None => None,
            };
            let host = match &scenario.publisher {
                Some(publisher) => Some(Host::new(Terms {
                    client: client.clone(),
                    identity: identity.clone(),
                    clip: Arc::new(Clip::bundled(publisher.clip, publisher.simulcast)?),
                    whip: place.whip.clone().unwrap_or_default(),
                    live: place.live.clone(),
                    moq: door.clone().filter(|_| publishes),
                    token: Some(options.token.clone()).filter(|token| !token.is_empty()),
                    source,
                    run,
                    stamp_every: plan.stamp_every,
                })),
                None => None,
            };
            let viewers = plan.viewers.len() as Number;
            stages.push(Stage { plan, shop, host, first });
            first += viewers;
        }
        if let Ok(webhook) = &webhook {
            let listeners: Vec<_> =
                stages.iter().filter_map(|stage| Some(stage.shop.as_ref()?.webhook_listener())).collect();
            webhook.listen(move |order| listeners.iter().for_each(|listener| listener(order)));
        }
        let minted: Vec<String> = (stages.iter().filter_map(|stage| stage.shop.as_ref()))
            .flat_map(|shop| shop.viewer_tokens().iter().cloned())
            .collect();
        let tokens = match &places.base {
            Some(_) => Arc::new(minted),
            None if options.token.is_empty() => Arc::default(),
            None => Arc::new(vec![options.token.clone()]),
        };
        let mut pools = Vec::new();
        if by_webrtc {
            let audience = Audience {
                identity,
                client: client.clone(),
                handle: tokio::runtime::Handle::current(),
                wheps: places.lives.iter().map(|place| place.whep.clone().unwrap_or_default()).collect(),
                tokens: tokens.clone(),
                source,
                run,
                counted_from: stages[0].plan.stairs.map_or(Number::MAX, |stairs| stairs.first),
                gauges: gauges.clone(),
            };
            for index in 0..threads(options) {
                let pool = Pool::start(index, audience.clone(), complaints.clone());
                pools.push(pool.context("can't start a thread of viewers")?);
            }
        }
        let moq = door.filter(|_| by_moq).map(|door| {
            moq::Viewers::new(moq::Audience {
                door,
                lives: places.lives.iter().map(|place| place.live.clone()).collect(),
                tokens,
                source,
                run,
                gauges: gauges.clone(),
                complaints: complaints.clone(),
                tally: Shared::default(),
            })
        });
        let (told, news) = unbounded_channel();
        Ok(Self {
            faults: Faults::new(options, complaints.clone(), told),
            shards: places.base.as_ref().map(|base| Shards::of(client.clone(), base)),
            search: stages[0].plan.stairs.map(|stairs| Search::new(stairs, &scenario.levels)),
            options,
            scenario,
            places,
            stages,
            pools,
            moq,
            webhook,
            news,
            gauges,
            complaints,
            start: Instant::now(),
            started_at,
            notes: Vec::new(),
            progress,
            watch: Watch::new(),
        })
    }

    async fn go(mut self, signals: &mut Signals) -> Result<Report> {
        // Hosts are there before the clock starts: what is measured is joining a live, not waiting for one.
        for stage in &mut self.stages {
            if stage.plan.steps.first().is_some_and(|(at, step)| at.is_zero() && *step == Step::Publish)
                && let Some(host) = &mut stage.host
            {
                stage.plan.steps.remove(0);
                host.begin().await?;
            }
        }
        for stage in &self.stages {
            if let Some(shop) = &stage.shop {
                shop.begin().await?;
            }
        }
        self.start = Instant::now();
        let end = self.start + self.scenario.duration();
        let steps = self.all_steps();
        let mut next = 0;
        let kills = |fault: &Fault| fault.kill == Some(Victim::Server);
        let killed = self.scenario.faults.iter().any(kills);
        let mut patience = if killed { Patience::AFTER_A_KILL } else { Patience::USUAL };
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let at = steps.get(next).map_or(end, |(at, ..)| (self.start + *at).min(end));
            tokio::select! {
                biased;
                () = sleep_until(at) => {
                    if at >= end {
                        break;
                    }
                    self.gauges.late(at.elapsed());
                    let (_, stage, step) = steps[next];
                    self.step(stage, step);
                    next += 1;
                }
                _ = second.tick() => {
                    self.look().await;
                    if self.capacity_is_reached() {
                        break;
                    }
                }
                signal = signals.next() => {
                    self.note(format!("ended by {signal}"));
                    patience = Patience::LITTLE;
                    break;
                }
            }
        }
        self.look().await;
        tokio::select! {
            report = self.finish(patience) => report,
            signal = signals.next() => bail!("{signal} before the books were compared"),
        }
    }

    /// The steps of all lives in order of time. What breaks is planned once.
    fn all_steps(&mut self) -> Vec<(Duration, usize, Step)> {
        let mut all = Vec::new();
        for (index, stage) in self.stages.iter_mut().enumerate() {
            let steps = std::mem::take(&mut stage.plan.steps).into_iter();
            let steps = steps.filter(|(_, step)| index == 0 || !matches!(step, Step::Break(_)));
            all.extend(steps.map(|(at, step)| (at, index, step)));
        }
        all.sort_by_key(|(at, ..)| *at);
        all
    }

    fn step(&mut self, index: usize, step: Step) {
        let stage = &mut self.stages[index];
        match step {
            Step::Publish => {
                if let Some(host) = &mut stage.host {
                    host.come();
                }
            }
            Step::Vanish => {
                if let Some(host) = &mut stage.host {
                    host.vanish();
                }
                self.note("the host's network failed".to_owned());
            }
            Step::Watch(number) => {
                let traits = stage.plan.viewers[number as usize];
                let number = stage.first + number;
                let layers = self.scenario.publisher.as_ref().is_some_and(|publisher| publisher.simulcast);
                match (traits.transport, &self.moq) {
                    (Transport::Moq, Some(moq)) => moq.watch(number, index),
                    _ => {
                        let traits = Traits { decrypt: traits.decrypt, layers };
                        self.pool(number).order(Order::Watch { number, live: index, traits });
                    }
                }
            }
            Step::Unwatch(number) => {
                let traits = stage.plan.viewers[number as usize];
                let number = stage.first + number;
                match (traits.transport, &self.moq) {
                    (Transport::Moq, Some(moq)) => moq.leave(number),
                    _ => self.pool(number).order(Order::Leave { number }),
                }
            }
            Step::Break(fault) => self.fault(fault),
            Step::Sell | Step::Enter(_) | Step::Exit(_) | Step::Queue(_) | Step::Pin => {
                if let Some(shop) = &stage.shop {
                    shop.step(step);
                }
                if step == Step::Sell {
                    self.note("the sale opens".to_owned());
                }
            }
        }
    }

    fn pool(&self, number: Number) -> &Pool {
        &self.pools[number as usize % self.pools.len()]
    }

    fn fault(&mut self, index: usize) {
        let fault = self.scenario.faults[index].clone();
        self.note(fault.name.clone());
        if fault.is_of_networks() {
            return self.fail_networks(index, &fault);
        }
        let mut random = crate::random::Random::new(self.scenario.seed, index as u64);
        let time = fault.for_s.draw_seconds(&mut random);
        if let Some(victim) = fault.kill {
            self.faults.kill(victim, time);
        }
        if let Some(command) = fault.run {
            self.faults.run(fault.name, command);
        }
    }

    fn note(&mut self, text: String) {
        let at_s = self.start.elapsed().as_secs_f64();
        self.progress.note(&format!("{at_s:>4.0} s  {text}"));
        self.notes.push(Note { at_s, text });
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        for pool in &self.pools {
            total.add(&pool.tally.lock());
        }
        for shop in self.stages.iter().filter_map(|stage| stage.shop.as_ref()) {
            total.add(&shop.tally().lock());
        }
        if let Some(moq) = &self.moq {
            total.add(&moq.tally().lock());
        }
        total
    }

    /// Once a second: what has changed since the last time.
    async fn look(&mut self) {
        for index in 0..self.stages.len() {
            let Some(host) = &mut self.stages[index].host else { continue };
            match host.look().await {
                Some(Ok(news)) => self.note(news.to_owned()),
                Some(Err(error)) => self.complaints.add(&error),
                None => {}
            }
        }
        while let Ok(news) = self.news.try_recv() {
            self.note(news);
        }
        let total = self.total();
        let shards = self.shards.as_ref().map(Shards::look).unwrap_or_default();
        let (since, pid) = (self.start.elapsed(), self.faults.server_pid());
        let Some(rates) = self.watch.look(since, &total, &self.gauges, pid, &shards) else { return };
        let sales = self.stages.iter().filter_map(|stage| Some(stage.shop.as_ref()?.sale_now()));
        let (waits, left): (Vec<_>, Vec<_>) = sales.unzip();
        let available = left.into_iter().flatten().reduce(|one, other| one.saturating_add(other));
        if let Some(available) = available {
            self.watch.series.put("available", Some(f64::from(available)));
        }
        self.progress.show(&Now {
            at: since,
            of: self.scenario.duration(),
            viewers: self.gauges.viewers.now(),
            channels: self.gauges.channels.now(),
            rates,
            lost: total.get(Count::Lost),
            failed: total.get(Count::JoinFailed)
                + total.get(Count::MoqFailed)
                + total.get(Count::ChannelFailed),
            errors: total.get(Count::BuyerErrors)
                + total.get(Count::ChannelClosed)
                + total.get(Count::ViewersEnded)
                + total.get(Count::MoqEnded),
            sale_in: waits.into_iter().flatten().min().filter(|wait| !wait.is_zero()),
            available,
            away: total.away(),
        });
    }

    /// Whether a search for capacity is at its end: at the end of each step, do the levels hold for this step alone?
    fn capacity_is_reached(&mut self) -> bool {
        let (since, total) = (self.start.elapsed(), self.total());
        let Some(search) = &mut self.search else { return false };
        let served = self.pools.iter().map(Pool::served).sum();
        let Some(outcome) = search.look(since, &total, served) else { return false };
        self.note(outcome.text);
        outcome.is_over
    }

    async fn finish(mut self, patience: Patience) -> Result<Report> {
        let duration_s = self.start.elapsed().as_secs_f64();
        let finish = async |stage: &mut Stage| match &mut stage.shop {
            Some(shop) => shop.finish(patience).await,
            None => None,
        };
        let audits: Vec<Option<Audit>> = join_all(self.stages.iter_mut().map(finish)).await;
        let pools = &mut self.pools;
        tokio::task::block_in_place(|| pools.iter_mut().for_each(Pool::stop));
        if let Some(moq) = &self.moq {
            moq.stop().await;
        }
        let mut sent = Sent::default();
        for stage in &mut self.stages {
            if let Some(host) = stage.host.take() {
                sent.add(host.stop().await);
            }
        }
        self.progress.end();
        let total = self.total();
        let mut measures = measure::of_tally(&total);
        let watched = !self.pools.is_empty() || self.moq.is_some();
        self.watch.add_measures(&mut measures, &total, &self.gauges, watched);
        if let Some(search) = &self.search {
            measures.insert("capacity.viewers".to_owned(), search.viewers() as f64);
        }
        if self.scenario.publisher.is_some() {
            measures.insert("publisher.returns".to_owned(), sent.returns as f64);
            let rates = LAYERS.iter().enumerate().filter_map(|(at, name)| Some((name, sent.kbps(at)?)));
            measures.extend(rates.map(|(name, kbps)| (format!("publisher.layer_{name}_kbps"), kbps)));
        }
        if let Ok(webhook) = &self.webhook {
            measures.insert("sale.webhooks_forged".to_owned(), webhook.heard().forged as f64);
        }
        for (stage, audit) in self.stages.iter().zip(&audits) {
            if let Some(shop) = &stage.shop {
                shop.add_measures(&mut measures, audit.as_ref());
            }
        }
        let audit = audits.into_iter().flatten().reduce(|mut sum, audit| {
            sum.add(audit);
            sum
        });
        let invalid = self.watch.invalid();
        let judge = |level: &level::Level| match &self.search {
            Some(search) => search.verdict(level, &measures),
            None => level.judge(&measures),
        };
        let seen = self.options.server_pid.is_some();
        let (levels, not_judged) = level::judge_all(&self.scenario.levels, judge, seen);
        if let Some(search) = &self.search {
            let text = match search.viewers() {
                0 => "no step held".to_owned(),
                viewers => format!("the levels are judged by the step with {viewers} viewers"),
            };
            self.note(text);
        }
        let distributions = DISTRIBUTIONS.iter().zip(total.times());
        let distributions = distributions.filter(|(_, histogram)| histogram.count() > 0);
        if total.get(Count::OtherClock) > 0 {
            self.note("delays were measured between clocks of different machines".to_owned());
        }
        Ok(Report {
            format: report::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: name_of(&self.options.scenario),
            about: self.scenario.about.clone(),
            seed: self.scenario.seed,
            target: self.places.some().cloned().unwrap_or_default(),
            command: command(),
            started_at_ms: self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            duration_s,
            machine: machine::describe(),
            passed: !levels.is_empty() && levels.iter().all(|verdict| verdict.holds),
            who: Who::of(self.stages.iter().map(|stage| &stage.plan)),
            invalid,
            levels,
            not_judged,
            measures,
            distributions: distributions.map(|(d, h)| (d.name.to_owned(), h.summary())).collect(),
            notes: self.notes,
            complaints: self.complaints.list(),
            threads: self.watch.threads(),
            series: self.watch.series,
            audit,
        })
    }
}

/// What permits to register a webhook and to read the whole ledger: an API key, or a host's token for all lives.
fn backend_key(options: &cli::Run) -> Option<&str> {
    match options.api_key.as_str() {
        "" => Some(options.token.as_str()).filter(|token| live_of(token).as_deref() == Some("*")),
        key => Some(key),
    }
}

fn threads(options: &cli::Run) -> usize {
    options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The command line, with tokens and keys left out.
fn command() -> String {
    const SECRET: [&str; 2] = ["--token", "--api-key"];
    let mut words = Vec::new();
    let mut hide = false;
    for word in std::env::args() {
        match word.split_once('=') {
            Some((name, _)) if SECRET.contains(&name) => words.push(format!("{name}=…")),
            _ if std::mem::take(&mut hide) => words.push("…".to_owned()),
            _ => {
                hide = SECRET.contains(&word.as_str());
                words.push(word);
            }
        }
    }
    words.join(" ")
}
