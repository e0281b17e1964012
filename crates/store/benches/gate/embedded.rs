//! The embedded gate against a bare log: a thread that writes what has gathered, syncs it once, and answers.

use std::{
    fs::{self, File},
    io::Write,
    time::{Instant, SystemTime},
};

use futures_util::{StreamExt, stream};
use haul_commerce::{Gate, LiveRef, Mark, Op, SaleTerms, sale::MAX_STOCK};
use haul_model::{SaleId, UnixMillis};
use haul_store::EmbeddedGate;
use tokio::sync::{mpsc, oneshot};

use crate::{Found, compare, goal, on_disk};

/// Calls a round, and holds in each.
const CALLS: usize = 1_000;
const BATCH: usize = 64;
/// Calls under way at once: what gathers while one group is synced.
const IN_FLIGHT: usize = 64;

pub(crate) async fn case() -> Found {
    let dir = on_disk("embedded");
    let gate = EmbeddedGate::open(&dir, now).unwrap();
    let journal = dir.join("journal");
    let mut round = 0;
    // As many bytes for each hold as the gate writes.
    let bytes = std::cell::Cell::new(0);
    let ours = async || {
        round += 1;
        let live =
            LiveRef { merchant: "main".parse().unwrap(), live: format!("bench-{round:06}").parse().unwrap() };
        put(&gate, &live).await;
        // Made before the clock runs, as the bare log's bytes are: asking is the room's work.
        let calls: Vec<_> = (0..CALLS).map(holds).collect();
        let before = fs::metadata(&journal).unwrap().len();
        let begun = Instant::now();
        stream::iter(&calls)
            .for_each_concurrent(IN_FLIGHT, async |holds| {
                gate.apply(&live, &sale(), holds, Mark::default()).await.unwrap();
            })
            .await;
        let taken = begun.elapsed().as_secs_f64();
        bytes.set((fs::metadata(&journal).unwrap().len() - before) as usize / CALLS);
        (CALLS * BATCH) as f64 / taken
    };
    let bare = async || {
        let log = Log::start(dir.join("bare"));
        let payload = vec![b'x'; bytes.get()];
        let begun = Instant::now();
        stream::iter(0..CALLS)
            .for_each_concurrent(IN_FLIGHT, async |_| log.append(payload.clone()).await)
            .await;
        (CALLS * BATCH) as f64 / begun.elapsed().as_secs_f64()
    };
    let found = compare("embedded_gate", 0.6, ours, bare).await;
    goal("durable embedded holds", found.value, 80_000.0, "a second");
    drop(gate);
    fs::remove_dir_all(dir).unwrap();
    found
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMillis(since.as_millis() as u64)
}

fn sale() -> SaleId {
    "sale_1".parse().unwrap()
}

async fn put(gate: &EmbeddedGate, live: &LiveRef) {
    let terms = SaleTerms {
        stock: MAX_STOCK,
        per_buyer: 1,
        hold_ms: 3_600_000,
        pay_ms: 3_600_000,
        opens_at: now(),
        closes_at: UnixMillis(now().0 + 86_400_000),
        ..SaleTerms::default()
    };
    gate.put_sale(live, &sale(), &terms, Mark::default()).await.unwrap();
}

fn holds(call: usize) -> Vec<Op> {
    let hold = |number: usize| {
        let hold = format!("hold_{:020x}", (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Op::hold(hold.parse().unwrap(), format!("buyer_{number:08}").parse().unwrap(), 1)
    };
    (call * BATCH..(call + 1) * BATCH).map(hold).collect()
}

struct Log(mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>);

impl Log {
    fn start(path: std::path::PathBuf) -> Self {
        let (calls, mut queue) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>(4_096);
        std::thread::spawn(move || {
            let mut file = File::create(path).unwrap();
            while let Some((mut group, first)) = queue.blocking_recv() {
                let mut waiting = vec![first];
                while let Ok((payload, answer)) = queue.try_recv() {
                    group.extend(payload);
                    waiting.push(answer);
                }
                file.write_all(&group).unwrap();
                file.sync_data().unwrap();
                waiting.into_iter().for_each(|answer| answer.send(()).unwrap());
            }
        });
        Self(calls)
    }

    async fn append(&self, payload: Vec<u8>) {
        let (answer, answered) = oneshot::channel();
        self.0.send((payload, answer)).await.unwrap();
        answered.await.unwrap();
    }
}
