//! What the operating system says of processes and threads: processor time, waiting for a processor, memory.

use std::{collections::BTreeMap, fs, time::Duration};

const PAGE_BYTES: u64 = 4_096;
/// The unit of `/proc/PID/stat` (`USER_HZ`), the same on every Linux of today.
const TICKS_A_SECOND: f64 = 100.0;

/// A thread's times so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) name: String,
    /// On a processor.
    pub(crate) busy: Duration,
    /// Ready to run, and no processor was free.
    pub(crate) waiting: Duration,
}

/// The threads of a process by their ids; empty if there is no such process.
pub(crate) fn threads(pid: u32) -> BTreeMap<u32, Thread> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeMap::new() };
    let read = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
        let times = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let mut times = times.split_whitespace().map(|word| word.parse().map(Duration::from_nanos));
        let (busy, waiting) = (times.next()?.ok()?, times.next()?.ok()?);
        Some((id, Thread { name, busy, waiting }))
    };
    tasks.flatten().filter_map(read).collect()
}

/// The processor time of the thread that asks.
pub(crate) fn this_threads_time() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    times
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .map_or(Duration::ZERO, Duration::from_nanos)
}

/// The processor time of a process, threads that have ended included.
pub(crate) fn process_time(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything; user and system time are the 14th and 15th.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_secs_f64((ticks()? + ticks()?) as f64 / TICKS_A_SECOND))
}

/// A process's memory in bytes; `None` if there is no such process.
pub(crate) fn memory_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// The machine, for the report: kind of processor, how many of them we may use, kernel.
pub(crate) fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores for the harness, Linux {}", kernel.trim())
}

/// How busy a thread was between two looks.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Share {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// Per cent of a core.
    pub(crate) busy_pct: f64,
    /// Ready to run without a core, per cent of the time.
    pub(crate) waiting_pct: f64,
}

/// What each thread has done since an earlier look.
pub(crate) fn shares(
    before: &BTreeMap<u32, Thread>,
    after: &BTreeMap<u32, Thread>,
    passed: Duration,
) -> Vec<Share> {
    let percent = |time: Duration| 100.0 * time.as_secs_f64() / passed.as_secs_f64().max(1e-9);
    let share = |(id, now): (&u32, &Thread)| {
        let (busy, waiting) = before.get(id).map_or_else(Default::default, |then| (then.busy, then.waiting));
        Share {
            id: *id,
            name: now.name.clone(),
            busy_pct: percent(now.busy.saturating_sub(busy)),
            waiting_pct: percent(now.waiting.saturating_sub(waiting)),
        }
    };
    after.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let before = threads(pid);
        let mut sum = 0_u64;
        while threads(pid).values().map(|thread| thread.busy).sum::<Duration>()
            < before.values().map(|thread| thread.busy).sum::<Duration>() + Duration::from_millis(20)
        {
            sum = sum.wrapping_add((0..10_000).sum());
        }
        assert!(memory_bytes(pid).unwrap() > 1 << 20, "{sum}");
        let shares = shares(&before, &threads(pid), Duration::from_millis(10));
        assert!(shares.iter().any(|share| share.busy_pct > 1.0), "{shares:?}");
        assert!(process_time(pid).unwrap() >= Duration::from_millis(10) && process_time(u32::MAX).is_none());
        assert!(threads(u32::MAX).is_empty() && memory_bytes(u32::MAX).is_none());
        assert!(describe().contains("Linux"));
    }
}
