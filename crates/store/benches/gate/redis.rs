//! The Redis gate against a bare client, which sends the very same commands one behind another and counts replies.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use haul_commerce::{Gate, LiveRef, Mark, Op, SaleTerms, sale::MAX_STOCK};
use haul_model::{SaleId, UnixMillis};
use haul_store::{RedisGate, RedisOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{Mutex, Semaphore},
};

use crate::{Found, compare, goal, support::TestRedis};

/// Calls a round, and operations in each.
const CALLS: usize = 1_000;
const BATCH: usize = 64;
/// Calls under way at once.
const IN_FLIGHT: usize = 16;

pub(crate) async fn cases() -> Vec<Found> {
    let redis = TestRedis::forgetful();
    // What is recorded is played back later, for as long as a bench takes.
    let options = RedisOptions {
        response_timeout: Duration::from_secs(30),
        watch_clock: false,
        ..RedisOptions::default()
    };
    let gate = RedisGate::connect_with(&redis.url, options.clone()).await.unwrap();
    let commands = record(&redis, &options).await;
    let address = redis.url.strip_prefix("redis://").unwrap().to_owned();
    let lives = Lives::default();

    let batches = batches(CALLS, BATCH);
    let ours = async || {
        let live = lives.next();
        put(&gate, &live).await;
        drive(&gate, &live, &batches, IN_FLIGHT).await
    };
    let bare = async || {
        let live = lives.next();
        put(&gate, &live).await;
        bare(&address, &commands, &live, IN_FLIGHT).await
    };
    let against_bare = compare("redis_gate", 0.9, ours, bare).await;

    // As many holds under way on both sides.
    let singles = self::batches(CALLS * 16, 1);
    let single = async || {
        let live = lives.next();
        put(&gate, &live).await;
        drive(&gate, &live, &singles, BATCH * IN_FLIGHT).await
    };
    let against_single = compare("redis_batch", 2.0, ours, single).await;

    rush(&gate, &lives.next()).await;
    vec![against_bare, against_single]
}

/// Names of one length, so that one can be put in another's place.
#[derive(Default)]
struct Lives(std::cell::Cell<u32>);

impl Lives {
    fn next(&self) -> LiveRef {
        self.0.set(self.0.get() + 1);
        live(self.0.get())
    }
}

fn live(number: u32) -> LiveRef {
    LiveRef { merchant: "main".parse().unwrap(), live: format!("bench-{number:06}").parse().unwrap() }
}

fn sale() -> SaleId {
    "sale_1".parse().unwrap()
}

async fn put(gate: &RedisGate, live: &LiveRef) {
    put_stock(gate, live, MAX_STOCK).await;
}

async fn put_stock(gate: &RedisGate, live: &LiveRef, stock: u32) {
    let opens_at = gate.now().await.unwrap();
    let terms = SaleTerms {
        stock,
        per_buyer: 1,
        hold_ms: 3_600_000,
        pay_ms: 3_600_000,
        opens_at,
        closes_at: UnixMillis(opens_at.0 + 86_400_000),
        ..SaleTerms::default()
    };
    gate.put_sale(live, &sale(), &terms, Mark::default()).await.unwrap();
}

fn batches(calls: usize, batch: usize) -> Vec<Vec<Op>> {
    let hold = |number: usize| {
        let hold = format!("hold_{:020x}", (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Op::hold(hold.parse().unwrap(), format!("buyer_{number:08}").parse().unwrap(), 1)
    };
    (0..calls).map(|call| (call * batch..(call + 1) * batch).map(hold).collect()).collect()
}

/// Holds a second.
async fn drive(gate: &RedisGate, live: &LiveRef, batches: &[Vec<Op>], in_flight: usize) -> f64 {
    let begun = Instant::now();
    stream::iter(batches)
        .for_each_concurrent(in_flight, async |ops| {
            let applied = gate.apply(live, &sale(), ops, Mark::default()).await.unwrap();
            assert_eq!(applied.outcomes.len(), ops.len());
        })
        .await;
    batches.iter().map(Vec::len).sum::<usize>() as f64 / begun.elapsed().as_secs_f64()
}

/// What the gate writes for the batches, whatever its script takes: written down by a proxy between it and Redis.
async fn record(redis: &TestRedis, options: &RedisOptions) -> Vec<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = redis.url.strip_prefix("redis://").unwrap().to_owned();
    let written = Arc::new(Mutex::new(Vec::new()));
    let log = written.clone();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            log.lock().await.extend_from_slice(&buffer[..length]);
            to_server.write_all(&buffer[..length]).await.unwrap();
        }
    });
    let gate = RedisGate::connect_with(&format!("redis://127.0.0.1:{port}"), options.clone()).await.unwrap();
    put(&gate, &live(0)).await;
    // The script is known to Redis after this, and sent by its hash.
    gate.apply(&live(0), &sale(), &[], Mark::default()).await.unwrap();
    written.lock().await.clear();
    drive(&gate, &live(0), &batches(CALLS, BATCH), 1).await;
    let written = written.lock().await;
    let commands: Vec<_> = commands(&written).into_iter().map(<[u8]>::to_vec).collect();
    assert_eq!(commands.len(), CALLS, "one command a call");
    commands
}

/// Splits what a client wrote: arrays of texts.
fn commands(mut written: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some(length) = reply_length(written) {
        let (command, rest) = written.split_at(length);
        found.push(command);
        written = rest;
    }
    found
}

/// How many bytes the value at the front has, if it is whole: of RESP's kinds, those that scripts answer with.
fn reply_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let number = || std::str::from_utf8(&bytes[1..line]).unwrap().parse::<usize>().unwrap();
    let mut at = line + 2;
    match bytes[0] {
        b'*' => {
            for _ in 0..number() {
                at += reply_length(bytes.get(at..)?)?;
            }
        }
        b'$' => at += number() + 2,
        b':' | b'+' | b'_' => {}
        other => panic!("a reply begins with {:?}", char::from(other)),
    }
    (at <= bytes.len()).then_some(at)
}

/// Sends the commands as they were recorded, for another live, at most `in_flight` before their replies.
async fn bare(address: &str, recorded: &[Vec<u8>], live: &LiveRef, in_flight: usize) -> f64 {
    let (from, to) = (self::live(0).live.to_string(), live.live.to_string());
    let commands: Vec<Vec<u8>> = recorded.iter().map(|command| replace(command, &from, &to)).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (replies, mut requests) = stream.into_split();
    let window = Arc::new(Semaphore::new(in_flight));
    let begun = Instant::now();
    let counting = tokio::spawn(count(replies, commands.len(), window.clone()));
    for command in &commands {
        window.acquire().await.unwrap().forget();
        requests.write_all(command).await.unwrap();
    }
    counting.await.unwrap();
    (recorded.len() * BATCH) as f64 / begun.elapsed().as_secs_f64()
}

async fn count(mut replies: OwnedReadHalf, mut wanted: usize, window: Arc<Semaphore>) {
    let mut read = Vec::new();
    while wanted > 0 {
        assert!(replies.read_buf(&mut read).await.unwrap() > 0, "Redis closed the connection");
        let mut done = 0;
        while let Some(length) = reply_length(&read[done..]) {
            done += length;
            wanted -= 1;
            window.add_permits(1);
        }
        read.drain(..done);
    }
}

fn replace(command: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut command = command.to_vec();
    for at in 0..command.len().saturating_sub(from.len()) {
        if &command[at..at + from.len()] == from {
            command[at..at + to.len()].copy_from_slice(to);
        }
    }
    command
}

/// 10,000 buyers at once for 100 units, gathered as a live's till does: 64 a call, two calls under way.
async fn rush(gate: &RedisGate, live: &LiveRef) {
    put_stock(gate, live, 100).await;
    let batches = batches(10_000_usize.div_ceil(BATCH), BATCH);
    let begun = Instant::now();
    stream::iter(&batches)
        .for_each_concurrent(2, async |ops| {
            gate.apply(live, &sale(), ops, Mark::default()).await.unwrap();
        })
        .await;
    goal(
        "10,000 buyers for 100 units, all answered by Redis",
        begun.elapsed().as_secs_f64() * 1e3,
        150.0,
        "ms",
    );
}
