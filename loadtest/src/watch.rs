//! What is looked at once a second while a run goes on: what has come since the last time, the server's processor time and
//! memory, and whether the harness itself is at its end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    machine,
    measure::Measures,
    report::Series,
    shards::MOST,
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
/// Looks that come sooner after the last one than this are left out.
const LEAST: Duration = Duration::from_millis(200);
/// Threads told in the report.
const MAX_THREADS: usize = 16;

/// All that was seen.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) series: Series,
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
    time_at_start: Duration,
    harness_memory: u64,
    server_cpu: Vec<f64>,
    server_memory: Vec<(u64, u64)>,
    /// Sums of each media thread's processor time, and how many.
    shards: Vec<(f64, u32)>,
    thread_sums: BTreeMap<(String, String), (f64, u32)>,
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
        gauges: &Gauges,
        server_pid: Option<u32>,
        shards: &[f64],
    ) -> Option<Rates> {
        let now = Instant::now();
        let Some(before) = self.at else {
            self.at = Some(now);
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
        let busy_pct = self.look_at_harness(passed);
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
        series.put("harness_waiting", self.waiting.last().copied());
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

    /// Returns how busy its busiest thread was.
    fn look_at_harness(&mut self, passed: Duration) -> f64 {
        let harness = machine::threads(std::process::id());
        let shares = machine::shares(&self.harness, &harness, passed);
        self.harness = harness;
        let busiest = shares.iter().max_by(|one, other| one.1.total_cmp(&other.1)).cloned();
        let (name, busy, _) = busiest.unwrap_or_default();
        self.busy_seconds += usize::from(busy > BUSY_PCT);
        if busy > self.busiest {
            (self.busiest, self.busiest_name) = (busy, name);
        }
        self.waiting.push(shares.iter().map(|share| share.2).fold(0.0, f64::max));
        let memory = machine::memory_bytes(std::process::id()).unwrap_or(0);
        self.harness_memory = self.harness_memory.max(memory);
        self.sum_threads("harness", shares);
        busy
    }

    fn look_at_server(&mut self, pid: u32, passed: Duration, total: &Tally) {
        let server = machine::threads(pid);
        if server.is_empty() {
            // It was killed: nothing is not little.
            return;
        }
        let shares = machine::shares(&self.server, &server, passed);
        self.server = server;
        let cpu: f64 = shares.iter().map(|share| share.1).sum();
        let memory = machine::memory_bytes(pid);
        self.series.put("server_cpu", Some(cpu));
        self.series.put("server_mb", memory.map(|bytes| bytes as f64 / 1e6));
        self.server_cpu.push(cpu);
        self.server_memory.extend(memory.map(|bytes| (total.get(Count::JoinAttempts), bytes)));
        self.sum_threads("server", shares);
    }

    /// Threads of one name count together.
    fn sum_threads(&mut self, whose: &str, shares: Vec<(String, f64, f64)>) {
        let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
        for (name, busy, _) in shares {
            *by_name.entry(name).or_default() += busy;
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
            let grown = self.harness_memory.saturating_sub(self.memory_at_start) as f64;
            if most > 0 {
                put("harness.kb_per_viewer", grown / 1_000.0 / most as f64);
            }
        }
        put("channel.most_at_once", gauges.channels.most() as f64);
        put("harness.cpu_pct", self.busiest);
        put("harness.waiting_pct", self.waiting_pct());
        put("harness.late_ms", late(gauges).as_secs_f64() * 1_000.0);
        let time = machine::process_time(std::process::id()).unwrap_or_default();
        put("harness.cpu_s", time.saturating_sub(self.time_at_start).as_secs_f64());
        let busiest = self.shards.iter().filter(|(_, count)| *count > 0);
        let busiest = busiest.map(|(sum, count)| sum / f64::from(*count)).max_by(f64::total_cmp);
        if let Some(busiest) = busiest {
            put("server.shard_cpu_pct", busiest);
        }
        if !self.server_cpu.is_empty() {
            put("server.cpu_pct", self.server_cpu.iter().sum::<f64>() / self.server_cpu.len() as f64);
        }
        let memory = &self.server_memory;
        if let (Some(most), Some((joins, last))) =
            (memory.iter().map(|(_, bytes)| *bytes).max(), memory.last())
        {
            put("server.rss_mb", most as f64 / 1e6);
            let (joins_then, then) = memory[memory.len() / 2];
            let grown = last.saturating_sub(then) as f64 / 1_000.0;
            put("server.rss_growth_kb_per_join", grown / (joins - joins_then).max(1) as f64);
        }
    }

    /// How long a thread of the harness waited for a core, in per cent of the time: others had it.
    fn waiting_pct(&self) -> f64 {
        self.waiting.iter().sum::<f64>() / self.waiting.len().max(1) as f64
    }

    /// Why the run says more about the harness than about the server.
    pub(crate) fn invalid(&self, total: &Tally, gauges: &Gauges) -> Vec<String> {
        let mut why = Vec::new();
        let (packets, drops) = (total.get(Count::Packets), total.get(Count::SocketDrops));
        if drops as f64 > packets as f64 * MAX_DROPS {
            why.push(format!("its sockets had no room for {drops} datagrams of {}", packets + drops));
        }
        if self.busy_seconds > BUSY_SECONDS {
            why.push(format!(
                "its thread {} used more than {BUSY_PCT} % of a core for {} s",
                self.busiest_name, self.busy_seconds
            ));
        }
        if self.waiting_pct() > MAX_WAITING_PCT {
            why.push(format!(
                "one of its threads waited for a core {:.0} % of the time: something else had it",
                self.waiting_pct()
            ));
        }
        if late(gauges) > MAX_LATE {
            why.push(format!("it was up to {:.1} s late with what was planned", late(gauges).as_secs_f64()));
        }
        why
    }
}

fn late(gauges: &Gauges) -> Duration {
    Duration::from_micros(gauges.late_us.load(std::sync::atomic::Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_why_the_harness_was_the_bottleneck() {
        let (mut watch, mut total, gauges) = (Watch::new(), Tally::default(), Gauges::default());
        total.count(Count::Packets, 1_000_000);
        total.count(Count::SocketDrops, 100);
        watch.waiting = vec![30.0, 50.0];
        watch.busy_seconds = BUSY_SECONDS;
        gauges.late(MAX_LATE);
        assert_eq!(watch.invalid(&total, &gauges), [] as [String; 0], "all at their limits");

        total.count(Count::SocketDrops, 1);
        watch.waiting.push(41.0);
        watch.busy_seconds += 1;
        watch.busiest_name = "viewers-0".to_owned();
        gauges.late(MAX_LATE + Duration::from_millis(1));
        let why = watch.invalid(&total, &gauges).join("; ");
        for reason in ["no room for 101 datagrams", "viewers-0 used more", "waited for a core", "0.5 s late"]
        {
            assert!(why.contains(reason), "{reason}: {why}");
        }
    }

    #[test]
    fn the_busiest_media_thread_is_told() {
        let mut watch = Watch { shards: vec![(30.0, 3), (80.0, 2), (0.0, 0)], ..Watch::new() };
        watch
            .sum_threads("server", vec![("shard-0".to_owned(), 20.0, 0.0), ("shard-0".to_owned(), 5.0, 0.0)]);
        let mut measures = Measures::new();
        watch.add_measures(&mut measures, &Tally::default(), &Gauges::default(), false);
        assert_eq!(measures["server.shard_cpu_pct"], 40.0);
        assert_eq!(watch.threads(), [("server".to_owned(), "shard-0".to_owned(), 25.0)]);
        assert!(!measures.contains_key("harness.drops"));
    }
}
