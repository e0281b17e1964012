//! The processor time of the server's media threads, one by one, as its `/metrics` tell it. Asked once a second, and
//! never waited for.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::http::{Call, Client};

/// Media threads that are told apart in plots; the others count for the mean alone.
pub(crate) const MOST: usize = 4;
/// The metric: millionths of a core in the last second, with a label for the thread.
const METRIC: &str = "haul_shard_cpu_ppm{shard=\"";

/// Who asks.
pub(crate) struct Shards {
    client: Client,
    url: String,
    /// Per cent of a core by thread, as of the last answer.
    latest: Arc<Mutex<Vec<f64>>>,
    asking: Arc<AtomicBool>,
}

impl Shards {
    /// Of a server at this address.
    pub(crate) fn of(client: Client, base: &str) -> Self {
        Self { client, url: format!("{base}/metrics"), latest: Arc::default(), asking: Arc::default() }
    }

    /// The last answer, once; the next is asked for.
    pub(crate) fn look(&self) -> Vec<f64> {
        if !self.asking.swap(true, Ordering::Relaxed) {
            let call = Call { method: "GET", url: self.url.clone(), ..Call::default() };
            let (client, latest, asking) = (self.client.clone(), self.latest.clone(), self.asking.clone());
            tokio::spawn(async move {
                if let Ok(answer) = client.call_shared(call).await {
                    *latest.lock().unwrap_or_else(PoisonError::into_inner) = read(&answer.text());
                }
                asking.store(false, Ordering::Relaxed);
            });
        }
        std::mem::take(&mut *self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Per cent of a core by thread, in their order.
fn read(metrics: &str) -> Vec<f64> {
    let line = |line: &str| {
        let (shard, value) = line.strip_prefix(METRIC)?.split_once("\"} ")?;
        Some((shard.parse::<u32>().ok()?, value.trim().parse::<f64>().ok()? / 10_000.0))
    };
    let mut shards: Vec<_> = metrics.lines().filter_map(line).collect();
    shards.sort_by_key(|(shard, _)| *shard);
    shards.into_iter().map(|(_, percent)| percent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_read_in_their_order_and_nothing_else_is() {
        let text = "# HELP x\nhaul_shard_cpu_ppm{shard=\"1\"} 500000\nhaul_shard_cpu_ppm{shard=\"0\"} 12500\n\
                    haul_shard_egress_bps{shard=\"0\"} 7\nhaul_shard_cpu_ppm{shard=\"x\"} 1\n";
        assert_eq!(read(text), [1.25, 50.0]);
        assert_eq!(read("nonsense"), [] as [f64; 0]);
    }
}
