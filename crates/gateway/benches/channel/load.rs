//! Clients by the thousand in one process: they connect, offer what they are told to, and measure what comes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io::BufRead,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use haul_model::UnixMillis;
use tokio::{net::TcpStream, sync::mpsc, task::LocalSet, time::sleep};

use crate::{
    client::{self, Frames, put_text},
    percentile,
    server::{PRODUCT, SALE},
};

/// Of so many clients, one looks at what it reads; the others only count.
const SAMPLE: usize = 20;
/// Likes that one message may say.
const LIKES_A_MESSAGE: f64 = 20.0;
/// What is due is sent so often.
const TICK: Duration = Duration::from_millis(10);
/// Where clients gather what comes, as a network's card would, they look so often.
const GATHER: Duration = Duration::from_millis(5);
/// What a slow client reads, and how often.
const SLOW_READ: (usize, Duration) = (1024, Duration::from_secs(1));

/// What all clients have in common.
#[derive(Default)]
struct Seen {
    frames: Cell<u64>,
    bytes: Cell<u64>,
    /// Clients that have been welcomed.
    welcome: Cell<usize>,
    closed: Cell<usize>,
    /// From a chat line's sending to its arrival at a sampled client, in milliseconds.
    chat_ms: RefCell<Vec<f64>>,
    /// When holds were asked for, by client.
    asked: RefCell<HashMap<usize, Instant>>,
    holds_ms: RefCell<Vec<f64>>,
    /// When each hold was granted, in order.
    granted: RefCell<Vec<Instant>>,
    /// From a hold's reply to the word of it at a sampled client.
    stock_ms: RefCell<Vec<f64>>,
    /// Of slow clients, whether they have seen a pin and stock since they were asked, and the pins' delays.
    pins: RefCell<HashMap<usize, u32>>,
    stocks: RefCell<HashMap<usize, u32>>,
    pin_lag_ms: RefCell<Vec<f64>>,
}

struct Load {
    port: u16,
    first: usize,
    seen: Rc<Seen>,
    begun: Instant,
    clients: Vec<Rc<TcpStream>>,
    /// Asked for so far.
    holds: usize,
}

/// Arguments: the server's port, and the number of the first client.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [_, port, first] = arguments_of(arguments);
    let (commands, mut due) = mpsc::unbounded_channel::<String>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = commands.send(line);
        }
    });
    println!("0");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let mut load = Load {
            port: port as u16,
            first,
            seen: Rc::default(),
            begun: Instant::now(),
            clients: Vec::new(),
            holds: 0,
        };
        while let Some(command) = due.recv().await {
            let words: Vec<&str> = command.split_whitespace().collect();
            let numbers: Vec<f64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
            match words[0] {
                "bare" => load.connect(numbers[0] as usize, Greeting::None).await,
                "connect" => load.connect(numbers[0] as usize, Greeting::Hello).await,
                "slow" => load.connect(numbers[0] as usize, Greeting::Slowly).await,
                "offer" => load.offer(&numbers).await,
                "read" => load.read(numbers[0]).await,
                "gather" => load.gather(),
                "slowly" => load.slowly(),
                other => panic!("{other}"),
            }
        }
    });
    ExitCode::SUCCESS
}

fn arguments_of(arguments: &[String]) -> [usize; 3] {
    [0, arguments[0].parse().unwrap(), arguments[1].parse().unwrap()]
}

#[derive(Clone, Copy, PartialEq)]
enum Greeting {
    None,
    Hello,
    Slowly,
}

impl Load {
    /// Connects so many more, fifty at a time, and says how long that took.
    async fn connect(&mut self, number: usize, greeting: Greeting) {
        let authority = client::authority();
        let from = self.clients.len();
        let hellos: Vec<_> = (from..from + number)
            .map(|index| {
                let token = match greeting {
                    Greeting::None => String::new(),
                    _ => client::token(&authority, self.first + index),
                };
                (index, format!(r#"{{"id":1,"type":"hello","token":"{token}"}}"#))
            })
            .collect();
        let begun = Instant::now();
        let todo = Rc::new(RefCell::new(hellos));
        let done = Rc::new(RefCell::new(Vec::new()));
        let workers: Vec<_> = (0..50)
            .map(|_| {
                let (todo, done, seen, port) = (todo.clone(), done.clone(), self.seen.clone(), self.port);
                let started = self.begun;
                tokio::task::spawn_local(async move {
                    loop {
                        let Some((index, hello)) = todo.borrow_mut().pop() else { return };
                        let stream = Rc::new(client::open(port, greeting == Greeting::Slowly).await);
                        if greeting != Greeting::None {
                            let mut frame = Vec::new();
                            put_text(&mut frame, &hello);
                            client::write(&stream, &frame).await;
                        }
                        done.borrow_mut().push((index, stream.clone()));
                        let slow = greeting == Greeting::Slowly;
                        let (welcomed, welcome) = tokio::sync::oneshot::channel();
                        let welcomed = Some(welcomed);
                        tokio::task::spawn_local(read(stream, index, slow, seen.clone(), started, welcomed));
                        if greeting == Greeting::Hello {
                            let _ = welcome.await;
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        let seconds = begun.elapsed().as_secs_f64();
        let mut done = done.take();
        done.sort_by_key(|(index, _)| *index);
        self.clients.extend(done.into_iter().map(|(_, stream)| stream));
        println!("{seconds}");
    }

    /// From here on, what comes wakes nobody: a sender on this machine would pay for that, and for one elsewhere it is the
    /// network's affair.
    fn gather(&self) {
        tokio::task::spawn_local(async {
            loop {
                std::thread::sleep(GATHER);
                tokio::task::yield_now().await;
            }
        });
        println!("0");
    }

    /// Only reads, for so many seconds; says how many frames and bytes came.
    async fn read(&self, seconds: f64) {
        let (frames, bytes) = (self.seen.frames.get(), self.seen.bytes.get());
        sleep(Duration::from_secs_f64(seconds)).await;
        println!("{} {}", self.seen.frames.get() - frames, self.seen.bytes.get() - bytes);
    }

    /// Seconds; chat lines, likes, holds and pins a second. Says frames, bytes, delays of chat (p50, p99), of holds (count,
    /// p99) and of stock (count, p99), and how many were closed.
    async fn offer(&mut self, numbers: &[f64]) {
        let &[seconds, chat, likes, holds, pins] = numbers else { panic!("{numbers:?}") };
        let seen = self.seen.clone();
        seen.chat_ms.borrow_mut().clear();
        seen.holds_ms.borrow_mut().clear();
        seen.stock_ms.borrow_mut().clear();
        let (frames, bytes) = (seen.frames.get(), seen.bytes.get());
        let begun = Instant::now();
        let mut sent = [0_u64; 4];
        let mut ids = 10_u64;
        let mut ticks = tokio::time::interval(TICK);
        let mut wanted: HashMap<usize, Vec<u8>> = HashMap::new();
        while begun.elapsed().as_secs_f64() < seconds {
            ticks.tick().await;
            let passed = begun.elapsed().as_secs_f64().min(seconds);
            let due = |rate: f64, sent: u64| sent < (rate * passed) as u64;
            while due(chat, sent[0]) {
                // A stride, so that neighbours in time are no neighbours in the list.
                let index = 1 + (sent[0] as usize * 7_919) % (self.clients.len() - 1);
                let at = self.begun.elapsed().as_micros();
                ids += 1;
                let text =
                    format!(r#"{{"id":{ids},"type":"chat.send","text":"t={at} a line that is said"}}"#);
                put_text(wanted.entry(index).or_default(), &text);
                sent[0] += 1;
            }
            while due(likes / LIKES_A_MESSAGE, sent[1]) {
                let index = 1 + (sent[1] as usize * 7_907) % (self.clients.len() - 1);
                ids += 1;
                let text = format!(r#"{{"id":{ids},"type":"like","count":20}}"#);
                put_text(wanted.entry(index).or_default(), &text);
                sent[1] += 1;
            }
            while due(holds, sent[2]) {
                self.holds += 1;
                let (index, key) = (self.holds % self.clients.len(), self.holds);
                let text =
                    format!(r#"{{"id":2,"type":"hold","sale_id":"{SALE}","quantity":1,"key":"key_{key}"}}"#);
                put_text(wanted.entry(index).or_default(), &text);
                seen.asked.borrow_mut().insert(index, Instant::now());
                sent[2] += 1;
            }
            while due(pins, sent[3]) {
                ids += 1;
                let text = match sent[3] % 2 {
                    0 => format!(r#"{{"id":{ids},"type":"pin","product_id":"{PRODUCT}"}}"#),
                    _ => format!(r#"{{"id":{ids},"type":"unpin"}}"#),
                };
                put_text(wanted.entry(0).or_default(), &text);
                sent[3] += 1;
            }
            for (index, frames) in wanted.drain() {
                client::write(&self.clients[index], &frames).await;
            }
        }
        // What is on its way.
        sleep(Duration::from_millis(500)).await;
        let mut chat_ms = seen.chat_ms.borrow_mut();
        let mut holds_ms = seen.holds_ms.borrow_mut();
        let mut stock_ms = seen.stock_ms.borrow_mut();
        println!(
            "{} {} {} {} {} {} {} {} {}",
            seen.frames.get() - frames,
            seen.bytes.get() - bytes,
            percentile(&mut chat_ms, 0.5),
            percentile(&mut chat_ms, 0.99),
            holds_ms.len(),
            percentile(&mut holds_ms, 0.99),
            stock_ms.len(),
            percentile(&mut stock_ms, 0.99),
            seen.closed.get(),
        );
    }

    /// Says how many clients there are, how many have seen a pin and how many stock, the p50 and the worst delay of pins in
    /// milliseconds, and how many were closed.
    fn slowly(&self) {
        let seen = &self.seen;
        let (pins, stocks) = (seen.pins.borrow().len(), seen.stocks.borrow().len());
        let mut lag = seen.pin_lag_ms.borrow_mut();
        let (usual, worst) = (percentile(&mut lag, 0.5), percentile(&mut lag, 1.0));
        println!("{} {pins} {stocks} {usual} {worst} {}", self.clients.len(), seen.closed.get());
    }
}

async fn read(
    stream: Rc<TcpStream>,
    index: usize,
    slow: bool,
    seen: Rc<Seen>,
    started: Instant,
    mut welcomed: Option<tokio::sync::oneshot::Sender<()>>,
) {
    thread_local! {
        /// One for all: who has read is done with it before the next one's turn.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
    }
    let sampled = index.is_multiple_of(SAMPLE);
    let mut frames = Frames::default();
    let mut available = None;
    loop {
        if slow {
            sleep(SLOW_READ.1).await;
        }
        if stream.readable().await.is_err() {
            break;
        }
        let open = BUFFER.with_borrow_mut(|buffer| {
            let most = if slow { SLOW_READ.0 } else { buffer.len() };
            let read = match stream.try_read(&mut buffer[..most]) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            };
            frames.feed(&buffer[..read], |first, payload, bytes| {
                if first != 0x81 {
                    return;
                }
                seen.frames.set(seen.frames.get() + 1);
                seen.bytes.set(seen.bytes.get() + bytes as u64);
                if payload.starts_with(br#"{"type":"reply","id":1,"#) {
                    seen.welcome.set(seen.welcome.get() + 1);
                    welcomed.take().map(|welcomed| welcomed.send(()));
                } else if payload.starts_with(br#"{"type":"reply","id":2,"#) {
                    let now = Instant::now();
                    if let Some(asked) = seen.asked.borrow_mut().remove(&index) {
                        assert!(
                            find(payload, b"\"hold\":").is_some(),
                            "{}",
                            String::from_utf8_lossy(payload)
                        );
                        seen.holds_ms.borrow_mut().push(ms(now - asked));
                        seen.granted.borrow_mut().push(now);
                    }
                } else if payload.starts_with(br#"{"type":"error","id":1,"#)
                    || payload.starts_with(br#"{"type":"error","id":2,"#)
                {
                    panic!("{}", String::from_utf8_lossy(payload));
                } else if slow {
                    slow_news(payload, index, &seen);
                } else if sampled {
                    news(payload, &mut available, &seen, started);
                }
            });
            true
        });
        if !open {
            break;
        }
    }
    seen.closed.set(seen.closed.get() + 1);
}

/// What a sampled client looks at.
fn news(payload: &[u8], told: &mut Option<u64>, seen: &Seen, started: Instant) {
    if let Some(sent_at) = number(payload, b"\"text\":\"t=") {
        let taken = started.elapsed().as_micros() as f64 - sent_at as f64;
        seen.chat_ms.borrow_mut().push(taken / 1e3);
    } else if payload.starts_with(br#"{"type":"stock.changed""#) {
        let Some(available) = number(payload, b"\"available\":") else { return };
        let now = Instant::now();
        let stock = u64::from(haul_commerce::sale::MAX_STOCK);
        let granted = seen.granted.borrow();
        // The holds that this is the first word of.
        let from = (stock - told.unwrap_or(stock)) as usize;
        for number in from..(stock - available) as usize {
            // A reply may come after the word to all.
            let at = granted.get(number).copied().unwrap_or(now);
            seen.stock_ms.borrow_mut().push(ms(now - at));
        }
        *told = Some(available);
    }
}

fn slow_news(payload: &[u8], index: usize, seen: &Seen) {
    if payload.starts_with(br#"{"type":"pin.changed""#) {
        *seen.pins.borrow_mut().entry(index).or_default() += 1;
        if let Some(since) = moment(payload, b"\"since\":") {
            let now = UnixMillis::from(SystemTime::now());
            seen.pin_lag_ms.borrow_mut().push(now.saturating_since(since).as_millis() as f64);
        }
    } else if payload.starts_with(br#"{"type":"stock.changed""#) {
        *seen.stocks.borrow_mut().entry(index).or_default() += 1;
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The time behind these bytes.
fn moment(payload: &[u8], before: &[u8]) -> Option<UnixMillis> {
    let at = find(payload, before)? + before.len();
    let end = at + 1 + payload.get(at + 1..)?.iter().position(|byte| *byte == b'"')?;
    serde_json::from_slice(&payload[at..=end]).ok()
}

/// The number behind `part`.
fn number(text: &[u8], part: &[u8]) -> Option<u64> {
    let digits = &text[find(text, part)? + part.len()..];
    let digits = digits.iter().take_while(|digit| digit.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
