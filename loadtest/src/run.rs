//! A run: tokens first, then everything the plan says at its time, then the verdict.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::time::{Instant, interval, sleep_until};

use crate::{
    cli,
    clip::Clip,
    http::{self, Client},
    level::{DISTRIBUTIONS, Verdict},
    machine,
    measure::{self, Measures},
    peer::Identity,
    plan::{Plan, Step},
    pool::{Audience, Complaints, Order, Pool},
    progress::{Now, Progress},
    publisher::{Broadcast, Terms},
    report::{self, Note, Report, Series},
    scenario::Scenario,
    shop::Shop,
    tally::{Count, Gauges, Tally, Time},
};

/// A thread of the harness that was busier than this was a bottleneck, if it was so for longer than that.
const BUSY_PCT: f64 = 90.0;
const BUSY_SECONDS: usize = 3;
/// The harness was a bottleneck if it was later than this with what it had planned.
const MAX_LATE: Duration = Duration::from_millis(500);
/// The same if one of its threads waited for a core for more than this, per cent of the time: others had it, and what was
/// slow may have been the harness.
const MAX_WAITING_PCT: f64 = 40.0;
/// The same if its sockets dropped a larger share of packets than this.
const MAX_DROPS: f64 = 0.000_1;
/// How long after the end the last answers are waited for.
const SETTLE: Duration = Duration::from_secs(2);

/// Where the server is.
struct Places {
    /// Our server's base address, or nothing for any other server.
    base: Option<String>,
    whip: Option<String>,
    whep: Option<String>,
    live: String,
}

impl Places {
    fn new(options: &cli::Run) -> Result<Self> {
        let Some(target) = &options.target else {
            return Ok(Self {
                base: None,
                whip: options.whip.clone(),
                whep: options.whep.clone(),
                live: String::new(),
            });
        };
        let base = target.trim_end_matches('/').to_owned();
        let live = match (&options.live, live_of(&options.token)) {
            (Some(live), _) => live.clone(),
            (None, Some(live)) if !live.contains('*') => live,
            (None, Some(pattern)) => bail!("the token is for {pattern}: name one live with --live"),
            (None, None) => {
                bail!("--token: give the host's token (haul token --live L --role host --sub you)")
            }
        };
        let (whip, whep) = (Some(format!("{base}/whip/{live}")), Some(format!("{base}/whep/{live}")));
        Ok(Self { base: Some(base), whip, whep, live })
    }
}

/// The live that a token is for: its payload is plain JSON, whoever signed it.
fn live_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims["live"].as_str().map(str::to_owned)
}

/// Runs a scenario. Returns its report.
pub(crate) async fn run(options: &cli::Run) -> Result<Report> {
    let mut scenario = Scenario::read(&options.scenario)?;
    if let Some(seed) = options.seed {
        scenario.seed = seed;
    }
    if let Some(seconds) = options.duration {
        scenario.duration_s = seconds;
    }
    for (group, count) in &options.count {
        scenario.set_count(group, *count).map_err(anyhow::Error::msg)?;
    }
    let places = Places::new(options)?;
    if scenario.needs_channel() && places.base.is_none() {
        bail!("this scenario chats or sells, which needs a Haul server: use --target");
    }
    if scenario.faults.iter().any(|fault| fault.run.is_some()) && !options.allow_commands {
        bail!("this scenario runs commands on this machine: read it, then add --allow-commands");
    }
    if scenario.publisher.is_some() && places.whip.is_none() {
        bail!("this scenario publishes: give --whip too, or remove its [publisher] if somebody else does");
    }
    let plan = Plan::new(&scenario);
    if !plan.viewers.is_empty() && places.whep.is_none() {
        bail!("this scenario watches: give --whep");
    }
    Run::prepare(options, scenario, plan, places).await?.go().await
}

struct Run<'o> {
    options: &'o cli::Run,
    scenario: Scenario,
    plan: Plan,
    places: Places,
    pools: Vec<Pool>,
    shop: Option<Shop>,
    terms: Option<Terms>,
    broadcast: Option<Broadcast>,
    gauges: Arc<Gauges>,
    complaints: Arc<Complaints>,
    start: Instant,
    started_at: SystemTime,
    notes: Vec<Note>,
    progress: Progress,
    watch: Watch,
    /// Most viewers for whom every level held, and where the step that is going on began.
    capacity: Option<u32>,
    step_began: Option<(u32, Tally)>,
}

/// What is looked at every second.
#[derive(Default)]
struct Watch {
    series: Series,
    before: Tally,
    harness: BTreeMap<u32, machine::Thread>,
    server: BTreeMap<u32, machine::Thread>,
    at: Option<Instant>,
    /// Seconds in which the busiest thread of the harness was over the limit.
    busy_seconds: usize,
    busiest: f64,
    busiest_name: String,
    /// The longest that one of its threads waited for a core, in per cent of each second.
    waiting: Vec<f64>,
    memory_at_start: u64,
    harness_memory: u64,
    server_cpu: Vec<f64>,
    server_memory: Vec<(u64, u64)>,
    thread_sums: BTreeMap<(String, String), (f64, u32)>,
}

impl<'o> Run<'o> {
    async fn prepare(options: &'o cli::Run, scenario: Scenario, plan: Plan, places: Places) -> Result<Self> {
        let mut progress = Progress::new();
        let client = Client::new();
        let identity = Identity::generate()?;
        let some_url = places.whep.as_ref().or(places.whip.as_ref()).context("nothing to do")?;
        let source = source_towards(some_url).await?;
        let started_at = SystemTime::now();
        let run =
            started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u32 ^ std::process::id();
        let gauges = Arc::new(Gauges::default());
        let complaints = Arc::new(Complaints::default());
        let shop = match &places.base {
            Some(base) => {
                let names = [("v", plan.viewers.len()), ("c", plan.chatters.len()), ("b", plan.buyers.len())];
                let all: usize = names.iter().map(|(_, count)| count).sum();
                if all > 1_000 {
                    progress.note(&format!("minting {all} tokens"));
                }
                Some(
                    Shop::prepare(crate::shop::Setting {
                        client: client.clone(),
                        base: base.clone(),
                        live: places.live.clone(),
                        host_token: options.token.clone(),
                        run,
                        scenario: scenario.clone(),
                        plan: plan.clone(),
                        gauges: gauges.clone(),
                        complaints: complaints.clone(),
                    })
                    .await?,
                )
            }
            None => None,
        };
        let tokens = match &shop {
            Some(shop) => shop.viewer_tokens(),
            None if options.token.is_empty() => Arc::default(),
            None => Arc::new(vec![options.token.clone()]),
        };
        let mut pools = Vec::new();
        if !plan.viewers.is_empty() {
            let audience = Audience {
                identity: identity.clone(),
                client: client.clone(),
                handle: tokio::runtime::Handle::current(),
                whep: places.whep.clone().unwrap_or_default(),
                tokens,
                source,
                run,
                gauges: gauges.clone(),
            };
            for index in 0..threads(options) {
                let pool = Pool::start(index, audience.clone(), complaints.clone());
                pools.push(pool.context("can't start a thread of viewers")?);
            }
        }
        let terms = match &scenario.publisher {
            Some(publisher) => Some(Terms {
                client,
                identity,
                clip: Arc::new(Clip::bundled(publisher.clip)?),
                whip: places.whip.clone().unwrap_or_default(),
                token: Some(options.token.clone()).filter(|token| !token.is_empty()),
                source,
                run,
                stamp_every: publisher.stamp_every,
            }),
            None => None,
        };
        let watch = Watch {
            memory_at_start: machine::memory_bytes(std::process::id()).unwrap_or(0),
            ..Watch::default()
        };
        Ok(Self {
            options,
            scenario,
            plan,
            places,
            pools,
            shop,
            terms,
            broadcast: None,
            gauges,
            complaints,
            start: Instant::now(),
            started_at,
            notes: Vec::new(),
            progress,
            watch,
            capacity: None,
            step_began: None,
        })
    }

    async fn go(mut self) -> Result<Report> {
        // The host is there before the clock starts: what is measured is joining a live, not waiting for one.
        if self.plan.steps.first().is_some_and(|(at, step)| at.is_zero() && *step == Step::Publish) {
            self.plan.steps.remove(0);
            self.publish().await?;
        }
        if let Some(shop) = &self.shop {
            shop.begin().await?;
        }
        self.start = Instant::now();
        let end = self.start + self.scenario.duration();
        let steps = std::mem::take(&mut self.plan.steps);
        let mut next = 0;
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.look();
        loop {
            let at = steps.get(next).map_or(end, |(at, _)| (self.start + *at).min(end));
            tokio::select! {
                biased;
                () = sleep_until(at) => {
                    if at >= end {
                        break;
                    }
                    self.gauges.late(at.elapsed());
                    self.step(steps[next].1).await;
                    next += 1;
                }
                _ = second.tick() => {
                    self.look();
                    if self.capacity_is_reached() {
                        break;
                    }
                }
                _ = tokio::signal::ctrl_c() => {
                    self.note("interrupted".to_owned());
                    break;
                }
            }
        }
        self.look();
        self.finish().await
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Publish => {
                if let Err(error) = self.publish().await {
                    self.complaints.add(&error.to_string());
                    self.note(format!("the host could not return: {error}"));
                } else {
                    self.note("the host is back".to_owned());
                }
            }
            Step::Vanish => {
                if let Some(broadcast) = self.broadcast.take() {
                    tokio::task::block_in_place(|| broadcast.vanish());
                }
                self.note("the host's network failed".to_owned());
            }
            Step::Watch(number) => {
                let decrypt = self.plan.viewers[number as usize].decrypt;
                self.pool(number).order(Order::Watch { number, decrypt });
            }
            Step::Unwatch(number) => self.pool(number).order(Order::Leave { number }),
            Step::Break(index) => self.fault(index),
            Step::Sell => {
                self.note("the sale opens".to_owned());
                if let Some(shop) = &self.shop {
                    shop.step(step);
                }
            }
            Step::Enter(_) | Step::Exit(_) | Step::Queue(_) | Step::Pin => {
                if let Some(shop) = &self.shop {
                    shop.step(step);
                }
            }
        }
    }

    fn pool(&self, number: u32) -> &Pool {
        &self.pools[number as usize % self.pools.len()]
    }

    async fn publish(&mut self) -> Result<()> {
        if let Some(terms) = &self.terms {
            self.broadcast = Some(Broadcast::start(terms.clone()).await?);
        }
        Ok(())
    }

    fn fault(&mut self, index: usize) {
        let fault = self.scenario.faults[index].clone();
        self.note(fault.name.clone());
        if let Some(share) = fault.network_of_viewers {
            let mut random = crate::random::Random::new(self.scenario.seed, index as u64);
            let time = fault.for_s.draw_seconds(&mut random);
            for pool in &self.pools {
                pool.order(Order::Deafen { share, time });
            }
        }
        if let Some(command) = fault.run {
            let (complaints, pid) = (self.complaints.clone(), self.options.server_pid);
            std::thread::spawn(move || {
                let mut shell = std::process::Command::new("sh");
                shell.args(["-c", &command]).stdin(std::process::Stdio::null());
                if let Some(pid) = pid {
                    shell.env("HAUL_PID", pid.to_string());
                }
                match shell.status() {
                    Ok(status) if status.success() => {}
                    Ok(status) => complaints.add(&format!("the fault {:?} ended with {status}", fault.name)),
                    Err(error) => complaints.add(&format!("the fault {:?}: {error}", fault.name)),
                }
            });
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
        if let Some(shop) = &self.shop {
            total.add(&shop.tally().lock());
        }
        total
    }

    /// Once a second: what has changed since the last time.
    fn look(&mut self) {
        let now = Instant::now();
        let Some(before) = self.watch.at.replace(now) else {
            self.watch.harness = machine::threads(std::process::id());
            self.watch.server = self.options.server_pid.map(machine::threads).unwrap_or_default();
            return;
        };
        let passed = now - before;
        if passed < Duration::from_millis(200) {
            self.watch.at = Some(before);
            return;
        }
        let total = self.total();
        let delta = total.since(&self.watch.before);
        let seconds = passed.as_secs_f64();
        let watch = &mut self.watch;
        let harness = machine::threads(std::process::id());
        let shares = machine::shares(&watch.harness, &harness, passed);
        watch.harness = harness;
        let busiest = shares.iter().max_by(|one, other| one.1.total_cmp(&other.1)).cloned();
        let (name, busy, _) = busiest.unwrap_or_default();
        watch.busy_seconds += usize::from(busy > BUSY_PCT);
        if busy > watch.busiest {
            (watch.busiest, watch.busiest_name) = (busy, name);
        }
        let waiting = shares.iter().map(|share| share.2).fold(0.0, f64::max);
        watch.waiting.push(waiting);
        let memory = machine::memory_bytes(std::process::id()).unwrap_or(0);
        watch.harness_memory = watch.harness_memory.max(memory);
        let series = &mut watch.series;
        series.at((now - self.start).as_secs_f64());
        series.put("viewers", Some(self.gauges.viewers.now() as f64));
        series.put("channels", Some(self.gauges.channels.now() as f64));
        let mbps = delta.get(Count::Bytes) as f64 * 8.0 / 1e6 / seconds;
        let packets = delta.get(Count::Packets) as f64 / seconds;
        series.put("mbps", Some(mbps));
        series.put("packets", Some(packets));
        series.put("lost", Some(delta.get(Count::Lost) as f64 / seconds));
        series.put("freezes", Some(delta.get(Count::Freezes) as f64));
        series.put("joins", Some(delta.get(Count::JoinPictures) as f64 / seconds));
        series.put("harness_cpu", Some(busy));
        series.put("harness_waiting", Some(waiting));
        for (name, time) in [
            ("ttff", Time::JoinFirstPicture),
            ("delay", Time::Delay),
            ("chat", Time::Chat),
            ("stock_event", Time::StockEvent),
            ("hold", Time::Hold),
        ] {
            for (label, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                let value = delta.time(time).quantile_us(share).map(|us| us as f64 / 1_000.0);
                series.put(&format!("{name}_{label}"), value);
            }
        }
        for (name, busy, _) in &shares {
            let sum = watch.thread_sums.entry(("harness".to_owned(), name.clone())).or_default();
            (sum.0, sum.1) = (sum.0 + busy, sum.1 + 1);
        }
        if let Some(pid) = self.options.server_pid {
            let server = machine::threads(pid);
            let shares = machine::shares(&watch.server, &server, passed);
            watch.server = server;
            let cpu: f64 = shares.iter().map(|share| share.1).sum();
            series.put("server_cpu", Some(cpu));
            let memory = machine::memory_bytes(pid);
            series.put("server_mb", memory.map(|bytes| bytes as f64 / 1e6));
            watch.server_cpu.push(cpu);
            watch.server_memory.extend(memory.map(|bytes| (total.get(Count::JoinAttempts), bytes)));
            let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
            for (name, busy, _) in shares {
                *by_name.entry(name).or_default() += busy;
            }
            for (name, busy) in by_name {
                let sum = watch.thread_sums.entry(("server".to_owned(), name)).or_default();
                (sum.0, sum.1) = (sum.0 + busy, sum.1 + 1);
            }
        }
        let sale = self.shop.as_ref().map(Shop::sale_now).unwrap_or_default();
        if let Some(available) = sale.1 {
            self.watch.series.put("available", Some(f64::from(available)));
        }
        self.watch.before = total.clone();
        self.progress.show(&Now {
            at: now - self.start,
            of: self.scenario.duration(),
            viewers: self.gauges.viewers.now(),
            channels: self.gauges.channels.now(),
            mbps,
            packets,
            lost: total.get(Count::Lost),
            failed: total.get(Count::JoinFailed) + total.get(Count::ChannelFailed),
            errors: total.get(Count::BuyerErrors)
                + total.get(Count::ChannelClosed)
                + total.get(Count::ViewersEnded),
            sale_in: sale.0.filter(|wait| !wait.is_zero()),
            available: sale.1,
            busy_pct: busy,
        });
    }

    /// At the end of each step of a search for capacity: do the levels hold for this step alone?
    fn capacity_is_reached(&mut self) -> bool {
        let Some(capacity) = self.scenario.capacity.clone() else { return false };
        let at = self.start.elapsed().as_secs_f64();
        let step = (at / capacity.every_s) as u32;
        let viewers = |step: u32| (capacity.start + step * capacity.step).min(capacity.max);
        let total = self.total();
        let Some((before, tally)) = self.step_began.take() else {
            self.step_began = Some((step, total));
            return false;
        };
        if step == before {
            self.step_began = Some((before, tally));
            return false;
        }
        let measures = measure::of_tally(&total.since(&tally));
        let judged = self.scenario.levels.iter().filter(|level| !level.measure.starts_with("capacity."));
        // A measure that has no values within one step, such as a delay with nobody to measure it, says nothing.
        let judged = judged.filter(|level| measures.contains_key(&level.measure));
        let broken: Vec<_> =
            judged.map(|level| level.judge(&measures)).filter(|verdict| !verdict.holds).collect();
        if let Some(verdict) = broken.first() {
            let measured = verdict.measured.map(report::number).unwrap_or_default();
            self.note(format!("{} viewers: {} does not hold ({measured})", viewers(before), verdict.level));
            return true;
        }
        self.capacity = Some(viewers(before));
        self.note(format!("{} viewers: every level holds", viewers(before)));
        self.step_began = Some((step, total));
        viewers(before) >= capacity.max
    }

    async fn finish(mut self) -> Result<Report> {
        let duration_s = self.start.elapsed().as_secs_f64();
        let viewers_now = self.gauges.viewers.now();
        let audit = match &mut self.shop {
            Some(shop) => shop.finish(SETTLE).await,
            None => None,
        };
        let pools = &mut self.pools;
        tokio::task::block_in_place(|| pools.iter_mut().for_each(Pool::stop));
        if let Some(broadcast) = self.broadcast.take() {
            if broadcast.told.ended.load(std::sync::atomic::Ordering::Relaxed) {
                self.complaints.add("the server ended the broadcast");
            }
            broadcast.stop().await;
        }
        self.progress.end();
        let total = self.total();
        let mut measures = measure::of_tally(&total);
        self.add_measures(&mut measures, &total, viewers_now);
        if let Some(shop) = &self.shop {
            shop.add_measures(&mut measures, audit.as_ref());
        }
        let invalid = self.invalid(&total);
        let levels: Vec<Verdict> = self.scenario.levels.iter().map(|level| level.judge(&measures)).collect();
        let distributions = DISTRIBUTIONS.iter().zip(total.times());
        let distributions = distributions.filter(|(_, histogram)| histogram.count() > 0);
        let mut threads: Vec<_> = (self.watch.thread_sums.iter())
            .map(|((whose, name), (sum, count))| (whose.clone(), name.clone(), sum / f64::from(*count)))
            .filter(|(.., busy)| *busy >= 0.5)
            .collect();
        threads.sort_by(|one, other| other.2.total_cmp(&one.2));
        threads.truncate(16);
        if total.get(Count::OtherClock) > 0 {
            self.note("delays were measured between clocks of different machines".to_owned());
        }
        Ok(Report {
            format: report::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: name_of(&self.options.scenario),
            about: self.scenario.about.clone(),
            seed: self.scenario.seed,
            target: self
                .places
                .base
                .clone()
                .or(self.places.whep.clone())
                .or(self.places.whip.clone())
                .unwrap_or_default(),
            command: command(),
            started_at_ms: self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            duration_s,
            machine: machine::describe(),
            passed: levels.iter().all(|verdict| verdict.holds),
            invalid,
            levels,
            measures,
            distributions: distributions.map(|(d, h)| (d.name.to_owned(), h.summary())).collect(),
            notes: self.notes,
            complaints: self.complaints.list(),
            series: self.watch.series,
            threads,
            audit,
        })
    }

    fn add_measures(&self, measures: &mut Measures, total: &Tally, viewers_now: u64) {
        let mut put = |name: &str, value: f64| {
            measures.insert(name.to_owned(), value);
        };
        if !self.pools.is_empty() {
            put("join.most_at_once", self.gauges.viewers.most() as f64);
            put("harness.drops", total.get(Count::SocketDrops) as f64);
            let grown = self.watch.harness_memory.saturating_sub(self.watch.memory_at_start) as f64;
            if viewers_now > 0 {
                put("harness.kb_per_viewer", grown / 1_000.0 / self.gauges.viewers.most() as f64);
            }
        }
        put("channel.most_at_once", self.gauges.channels.most() as f64);
        put("harness.cpu_pct", self.watch.busiest);
        put("harness.waiting_pct", self.waiting_pct());
        put(
            "harness.late_ms",
            self.gauges.late_us.load(std::sync::atomic::Ordering::Relaxed) as f64 / 1_000.0,
        );
        if !self.watch.server_cpu.is_empty() {
            put(
                "server.cpu_pct",
                self.watch.server_cpu.iter().sum::<f64>() / self.watch.server_cpu.len() as f64,
            );
        }
        let memory = &self.watch.server_memory;
        if let (Some(most), Some((joins, last))) =
            (memory.iter().map(|(_, bytes)| *bytes).max(), memory.last())
        {
            put("server.rss_mb", most as f64 / 1e6);
            let (joins_then, then) = memory[memory.len() / 2];
            let grown = last.saturating_sub(then) as f64 / 1_000.0;
            put("server.rss_growth_kb_per_join", grown / (joins - joins_then).max(1) as f64);
        }
        if self.scenario.capacity.is_some() {
            put("capacity.viewers", f64::from(self.capacity.unwrap_or(0)));
        }
    }

    /// How long a thread of the harness waited for a core, in per cent of the time: others had it.
    fn waiting_pct(&self) -> f64 {
        self.watch.waiting.iter().sum::<f64>() / self.watch.waiting.len().max(1) as f64
    }

    /// Why the run says more about the harness than about the server.
    fn invalid(&self, total: &Tally) -> Vec<String> {
        let mut why = Vec::new();
        let (packets, drops) = (total.get(Count::Packets), total.get(Count::SocketDrops));
        if drops as f64 > packets as f64 * MAX_DROPS {
            why.push(format!("its sockets had no room for {drops} datagrams of {}", packets + drops));
        }
        if self.watch.busy_seconds > BUSY_SECONDS {
            why.push(format!(
                "its thread {} used more than {BUSY_PCT} % of a core for {} s",
                self.watch.busiest_name, self.watch.busy_seconds
            ));
        }
        if self.waiting_pct() > MAX_WAITING_PCT {
            why.push(format!(
                "one of its threads waited for a core {:.0} % of the time: something else had it",
                self.waiting_pct()
            ));
        }
        let late = Duration::from_micros(self.gauges.late_us.load(std::sync::atomic::Ordering::Relaxed));
        if late > MAX_LATE {
            why.push(format!("it was up to {:.1} s late with what was planned", late.as_secs_f64()));
        }
        why
    }
}

fn threads(options: &cli::Run) -> usize {
    options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The command line, with tokens left out.
fn command() -> String {
    let mut words = Vec::new();
    let mut hide = false;
    for word in std::env::args() {
        match word.split_once('=') {
            Some(("--token", _)) => words.push("--token=…".to_owned()),
            _ if std::mem::take(&mut hide) => words.push("…".to_owned()),
            _ => {
                hide = word == "--token";
                words.push(word);
            }
        }
    }
    words.join(" ")
}

/// Our own address on the way to a server; its port is left to the system.
async fn source_towards(url: &str) -> Result<SocketAddr> {
    let (host, port) =
        http::authority(url).with_context(|| format!("{url} is no http:// or https:// address"))?;
    let mut found = tokio::net::lookup_host((host.as_str(), port))
        .await
        .with_context(|| format!("no address for {host}"))?;
    let remote = found.next().with_context(|| format!("no address for {host}"))?;
    let any: SocketAddr = if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let probe = UdpSocket::bind(any)?;
    // Sends nothing: it only chooses a route.
    probe.connect(remote).with_context(|| format!("no route to {remote}"))?;
    Ok((probe.local_addr()?.ip(), 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_which_live_it_is_for() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"mia","live":"demo","role":"host"}"#);
        assert_eq!(live_of(&format!("e30.{payload}.sig")).as_deref(), Some("demo"));
        for none in ["", "a.b.c", "e30.e30.x"] {
            assert_eq!(live_of(none), None);
        }
    }

    #[tokio::test]
    async fn our_address_is_on_the_way() {
        assert_eq!(
            source_towards("http://127.0.0.1:1/x").await.unwrap(),
            SocketAddr::from(([127, 0, 0, 1], 0))
        );
        assert!(source_towards("nonsense").await.is_err());
    }
}
