//! What is looked at once a second while a run goes on: what has come since the last time, the server's processor time and
//! memory, and whether the harness itself is at its end.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    bottleneck::{Bottleneck, Second},
    machine::{self, Share},
    measure::Measures,
    report::Series,
    shards::MOST,
    tally::{Count, Gauges, Tally, Time},
};

/// Looks that come sooner after the last one than this are left out.
const LEAST: Duration = Duration::from_millis(200);
/// Threads told in the report.
const MAX_THREADS: usize = 16;
/// How often the runtime, on which everybody's tasks run, is asked whether its timers come in time.
const PROBE_EVERY: Duration = Duration::from_millis(10);

/// All that was seen.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) series: Series,
    before: Tally,
    harness: BTreeMap<u32, machine::Thread>,
    server: BTreeMap<u32, machine::Thread>,
    at: Option<Instant>,
    bottleneck: Bottleneck,
    /// What tells of the runtime's timers, as long as the run goes on.
    probe: Option<Probe>,
    memory_at_start: u64,
    time_at_start: Duration,
    harness_memory: u64,
    server_cpu: Vec<f64>,
    /// The longest that one of its threads waited for a core, per cent of each second.
    server_waiting: Vec<f64>,
    /// At its first look.
    server_memory_at_start: Option<u64>,
    /// Viewers' sessions begun, and bytes.
    server_memory: Vec<(u64, u64)>,
    /// Sums of each media thread's processor time, and how many.
    shards: Vec<(f64, u32)>,
    thread_sums: BTreeMap<(String, String), (f64, u32)>,
}

/// A task that does nothing but wait, and tells by how much it has waited too long.
struct Probe(JoinHandle<()>);

impl Probe {
    fn start(gauges: Arc<Gauges>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                let due = Instant::now() + PROBE_EVERY;
                tokio::time::sleep_until(due.into()).await;
                gauges.timer_late(due.elapsed());
            }
        }))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What has come since the last look, for the progress line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) mbps: f64,
    pub(crate) packets: f64,
    pub(crate) joins: f64,
    pub(crate) holds: f64,
    pub(crate) busy_pct: f64,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            memory_at_start: machine::memory_bytes(std::process::id()).unwrap_or(0),
            time_at_start: machine::process_time(std::process::id()).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// A look. `since` is how long the run goes on, `shards` what the server says of its media threads.
    pub(crate) fn look(
        &mut self,
        since: Duration,
        total: &Tally,
        gauges: &Arc<Gauges>,
        server_pid: Option<u32>,
        shards: &[f64],
    ) -> Option<Rates> {
        let now = Instant::now();
        let Some(before) = self.at else {
            self.at = Some(now);
            self.server_memory_at_start = server_pid.and_then(machine::memory_bytes);
            // What was late before the run is nobody's load.
            gauges.take_late();
            self.probe = Some(Probe::start(gauges.clone()));
            self.harness = machine::threads(std::process::id());
            self.server = server_pid.map(machine::threads).unwrap_or_default();
            return None;
        };
        let passed = now - before;
        if passed < LEAST {
            return None;
        }
        self.at = Some(now);
        let delta = total.since(&self.before);
        let seconds = passed.as_secs_f64();
        let (timer, late) = gauges.take_late();
        let harness = Second {
            from_s: (since.as_secs_f64() - seconds).max(0.0),
            to_s: since.as_secs_f64(),
            threads: self.look_at_harness(passed),
            timer,
            late,
            packets: delta.get(Count::Packets),
            drops: delta.get(Count::SocketDrops),
        };
        self.bottleneck.look(&harness);
        let most = |value: fn(&Share) -> f64| harness.threads.iter().map(value).fold(0.0, f64::max);
        let (busy_pct, waiting_pct) = (most(|share| share.busy_pct), most(|share| share.waiting_pct));
        let series = &mut self.series;
        series.at(since.as_secs_f64());
        series.put("viewers", Some(gauges.viewers.now() as f64));
        series.put("channels", Some(gauges.channels.now() as f64));
        let per_second = |count: Count| delta.get(count) as f64 / seconds;
        let mbps = (per_second(Count::Bytes) + per_second(Count::MoqBytes)) * 8.0 / 1e6;
        let joins = per_second(Count::JoinPictures) + per_second(Count::MoqPictures);
        series.put("mbps", Some(mbps));
        series.put("packets", Some(per_second(Count::Packets)));
        series.put("lost", Some(per_second(Count::Lost)));
        series.put("freezes", Some((delta.get(Count::Freezes) + delta.get(Count::MoqFreezes)) as f64));
        series.put("joins", Some(joins));
        series.put("away", Some(total.away() as f64));
        series.put("harness_cpu", Some(busy_pct));
        series.put("harness_waiting", Some(waiting_pct));
        series.put("harness_late", Some(timer.max(late).as_secs_f64() * 1_000.0));
        for (name, time) in [
            ("ttff", Time::JoinFirstPicture),
            ("delay", Time::Delay),
            ("moq_ttff", Time::MoqFirstPicture),
            ("moq_delay", Time::MoqDelay),
            ("chat", Time::Chat),
            ("stock_event", Time::StockEvent),
            ("hold", Time::Hold),
        ] {
            for (label, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
                let value = delta.time(time).quantile_us(share).map(|us| us as f64 / 1_000.0);
                series.put(&format!("{name}_{label}"), value);
            }
        }
        let layers: Vec<u64> = Count::LAYERS.iter().map(|(bytes, _)| delta.get(*bytes)).collect();
        for (layer, bytes) in
            crate::clip::LAYERS.iter().zip(&layers).filter(|_| layers.iter().any(|b| *b > 0))
        {
            series.put(&format!("layer_{layer}_mbps"), Some(*bytes as f64 * 8.0 / 1e6 / seconds));
        }
        for (index, percent) in shards.iter().enumerate() {
            if index < MOST {
                series.put(&format!("shard_{index}"), Some(*percent));
            }
            self.shards.resize(self.shards.len().max(index + 1), (0.0, 0));
            let (sum, count) = &mut self.shards[index];
            (*sum, *count) = (*sum + percent, *count + 1);
        }
        if let Some(pid) = server_pid {
            self.look_at_server(pid, passed, total);
        }
        let holds = delta.time(Time::Hold).count() as f64 / seconds;
        self.before = total.clone();
        Some(Rates { mbps, packets: per_second(Count::Packets), joins, holds, busy_pct })
    }

    /// Returns what each of its threads has done.
    fn look_at_harness(&mut self, passed: Duration) -> Vec<Share> {
        let harness = machine::threads(std::process::id());
        let shares = machine::shares(&self.harness, &harness, passed);
        self.harness = harness;
        let memory = machine::memory_bytes(std::process::id()).unwrap_or(0);
        self.harness_memory = self.harness_memory.max(memory);
        self.sum_threads("harness", &shares);
        shares
    }

    fn look_at_server(&mut self, pid: u32, passed: Duration, total: &Tally) {
        let server = machine::threads(pid);
        if server.is_empty() {
            // It was killed: nothing is not little.
            return;
        }
        let shares = machine::shares(&self.server, &server, passed);
        self.server = server;
        let cpu: f64 = shares.iter().map(|share| share.busy_pct).sum();
        let memory = machine::memory_bytes(pid);
        let waiting = shares.iter().map(|share| share.waiting_pct).fold(0.0, f64::max);
        self.series.put("server_cpu", Some(cpu));
        self.series.put("server_waiting", Some(waiting));
        self.server_waiting.push(waiting);
        self.series.put("server_mb", memory.map(|bytes| bytes as f64 / 1e6));
        self.server_cpu.push(cpu);
        self.server_memory.extend(
            memory.map(|bytes| (total.get(Count::JoinAttempts) + total.get(Count::MoqAttempts), bytes)),
        );
        self.sum_threads("server", &shares);
    }

    /// Threads of one name count together.
    fn sum_threads(&mut self, whose: &str, shares: &[Share]) {
        let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
        for share in shares {
            *by_name.entry(share.name.clone()).or_default() += share.busy_pct;
        }
        for (name, busy) in by_name {
            let sum = self.thread_sums.entry((whose.to_owned(), name)).or_default();
            (sum.0, sum.1) = (sum.0 + busy, sum.1 + 1);
        }
    }

    /// The busiest threads: of whom, name, mean per cent of a core.
    pub(crate) fn threads(&self) -> Vec<(String, String, f64)> {
        let mut threads: Vec<_> = (self.thread_sums.iter())
            .map(|((whose, name), (sum, count))| (whose.clone(), name.clone(), sum / f64::from(*count)))
            .filter(|(.., busy)| *busy >= 0.5)
            .collect();
        threads.sort_by(|one, other| other.2.total_cmp(&one.2));
        threads.truncate(MAX_THREADS);
        threads
    }

    /// The measures of server and harness.
    pub(crate) fn add_measures(
        &self,
        measures: &mut Measures,
        total: &Tally,
        gauges: &Gauges,
        watched: bool,
    ) {
        let mut put = |name: &str, value: f64| {
            measures.insert(name.to_owned(), value);
        };
        if watched {
            let most = gauges.viewers.most();
            put("join.most_at_once", most as f64);
            put("harness.drops", total.get(Count::SocketDrops) as f64);
        }
        let people = (gauges.viewers.most() + gauges.channels.most()) as f64;
        if people > 0.0 {
            let grown = self.harness_memory.saturating_sub(self.memory_at_start) as f64;
            put("harness.kb_per_person", grown / 1_000.0 / people);
        }
        put("channel.most_at_once", gauges.channels.most() as f64);
        put("harness.cpu_pct", self.bottleneck.busiest_pct());
        put("harness.waiting_pct", self.bottleneck.waiting_pct());
        put("harness.late_ms", self.bottleneck.late().as_secs_f64() * 1_000.0);
        let time = machine::process_time(std::process::id()).unwrap_or_default();
        put("harness.cpu_s", time.saturating_sub(self.time_at_start).as_secs_f64());
        let busiest = self.shards.iter().filter(|(_, count)| *count > 0);
        let busiest = busiest.map(|(sum, count)| sum / f64::from(*count)).max_by(f64::total_cmp);
        if let Some(busiest) = busiest {
            put("server.shard_cpu_pct", busiest);
        }
        if !self.server_cpu.is_empty() {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            put("server.cpu_pct", mean(&self.server_cpu));
            put("server.waiting_pct", mean(&self.server_waiting));
        }
        let memory = &self.server_memory;
        if let (Some(most), Some((joins, last))) =
            (memory.iter().map(|(_, bytes)| *bytes).max(), memory.last())
        {
            put("server.rss_mb", most as f64 / 1e6);
            let (joins_then, then) = memory[memory.len() / 2];
            let grown = *last as f64 - then as f64;
            put("server.rss_growth_mb", grown / 1e6);
            // Where nobody has come meanwhile, there is no growth by comers.
            if *joins > joins_then {
                put("server.rss_growth_kb_per_join", grown.max(0.0) / 1_000.0 / (joins - joins_then) as f64);
            }
            if let Some(at_start) = self.server_memory_at_start.filter(|_| people > 0.0) {
                put("server.kb_per_person", most.saturating_sub(at_start) as f64 / 1_000.0 / people);
            }
        }
    }

    /// Why the run says more about the harness than about the server, and when it does.
    pub(crate) fn invalid(&self) -> Vec<String> {
        self.bottleneck.reasons()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn seconds_are_judged_one_by_one() {
        let (mut watch, gauges) = (Watch::new(), Arc::new(Gauges::default()));
        let mut total = Tally::default();
        gauges.late(Duration::from_secs(9));
        assert_eq!(watch.look(Duration::ZERO, &total, &gauges, None, &[]), None);
        assert!(watch.probe.is_some());
        let mut look = |watch: &mut Watch, at_s: u64, drops| {
            watch.at = watch.at.map(|at| at - Duration::from_secs(1));
            total.count(Count::Packets, 10_000_000);
            total.count(Count::SocketDrops, drops);
            watch.look(Duration::from_secs(at_s), &total, &gauges, None, &[]).unwrap();
        };
        look(&mut watch, 1, 0);
        gauges.late(Duration::from_millis(700));
        look(&mut watch, 2, 0);
        look(&mut watch, 3, 5_000);
        let why = watch.invalid();
        assert_eq!(why[0], "it was up to 0.7 s late with what was planned (1 to 2 s)", "{why:?}");
        assert!(why[1].contains("5000 datagrams of 30005000"), "in all, not at once: {why:?}");
        let late = &watch.series.lines["harness_late"];
        assert!(late[1].unwrap() >= 700.0 && late.len() == 3, "{late:?}");
    }

    #[test]
    fn the_servers_memory_is_told_by_time_by_comers_and_by_people() {
        let server_memory = vec![(0, 50_000_000), (10, 60_000_000), (10, 61_000_000), (30, 65_000_000)];
        let mut watch = Watch { server_memory, server_memory_at_start: Some(40_000_000), ..Watch::new() };
        let (gauges, mut measures) = (Gauges::default(), Measures::new());
        gauges.viewers.add(200);
        gauges.channels.add(50);
        watch.add_measures(&mut measures, &Tally::default(), &gauges, true);
        assert_eq!(measures["server.rss_growth_mb"], 4.0);
        assert_eq!(measures["server.rss_growth_kb_per_join"], 200.0);
        assert_eq!(measures["server.kb_per_person"], 100.0);
        assert!(measures.contains_key("harness.kb_per_person"));
        watch.server_memory.truncate(3);
        let mut measures = Measures::new();
        watch.add_measures(&mut measures, &Tally::default(), &gauges, true);
        assert!(!measures.contains_key("server.rss_growth_kb_per_join"), "nobody came");
    }

    #[test]
    fn the_busiest_media_thread_is_told() {
        let mut watch = Watch { shards: vec![(30.0, 3), (80.0, 2), (0.0, 0)], ..Watch::new() };
        let share = |busy_pct| Share { name: "shard-0".to_owned(), busy_pct, ..Share::default() };
        watch.sum_threads("server", &[share(20.0), share(5.0)]);
        let mut measures = Measures::new();
        watch.add_measures(&mut measures, &Tally::default(), &Gauges::default(), false);
        assert_eq!(measures["server.shard_cpu_pct"], 40.0);
        assert_eq!(watch.threads(), [("server".to_owned(), "shard-0".to_owned(), 25.0)]);
        assert!(!measures.contains_key("harness.drops"));
    }
}
