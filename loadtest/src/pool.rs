//! A thread of viewers: one event loop over all their sockets. It waits for nothing but them and its orders; HTTP is
//! done by the runtime's tasks, which send what was answered back as an order.

mod leaving;

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, net::UdpSocket};
use tokio::runtime::Handle;

use self::leaving::{After, Leaving};
use crate::{
    http::{self, Call, Client},
    net::{self, Inbox},
    network::Network,
    outage::Outage,
    peer::Identity,
    plan::Number,
    random::Random,
    tally::{Count, Gauges, Shared, Tally},
    viewer::{State, Sums, Traits, Viewer},
};

const WAKE: Token = Token(usize::MAX);
/// How often time is told to the viewers.
const TICK: Duration = Duration::from_millis(10);
/// How often what was counted is published, and the sockets' drops are read.
const PUBLISH: Duration = Duration::from_millis(500);
/// Offers made a turn at most, so that those who watch are not kept waiting by a herd.
const OFFERS_A_TURN: usize = 4;
/// How long a viewer whose session failed or ended waits before trying again: doubled each time, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Over how long those come back whose session a failure of their network has ended, once that is over.
const SPREAD: Duration = Duration::from_millis(200);
/// How long at the end the server may take to end everybody's session.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// How long one waits who is told that there is no host yet, if nothing else is said.
const NO_HOST: Duration = Duration::from_secs(1);

/// What all viewers of a run share.
#[derive(Clone)]
pub(crate) struct Audience {
    pub(crate) identity: Identity,
    pub(crate) client: Client,
    pub(crate) handle: Handle,
    /// Where to post offers, for each live.
    pub(crate) wheps: Vec<String>,
    /// Each viewer's token, by number; one for all if there is only one; none.
    pub(crate) tokens: Arc<Vec<String>>,
    /// Our own address that leads to the server.
    pub(crate) source: SocketAddr,
    /// Marks stamps as our own.
    pub(crate) run: u32,
    /// From this number on, viewers are counted who have moving pictures.
    pub(crate) counted_from: Number,
    pub(crate) gauges: Arc<Gauges>,
}

impl Audience {
    fn token(&self, number: Number) -> Option<String> {
        self.tokens.get(number as usize).or(self.tokens.first()).cloned()
    }
}

/// What a thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// A viewer comes.
    Watch { number: Number, live: usize, traits: Traits },
    /// A viewer leaves.
    Leave { number: Number },
    /// A viewer's network fails until then; with `roams`, another one returns.
    Fail { number: Number, until: Instant, roams: bool },
    /// The server has answered an offer.
    Answered(Answered),
    /// The server has answered to the end of a session: by which number it is known.
    Over(u64),
    /// Everybody leaves, and the thread ends.
    Stop,
}

/// The answer to an offer.
#[derive(Debug)]
pub(crate) struct Answered {
    number: Number,
    attempt: u32,
    posted: Instant,
    answered: Instant,
    result: Result<Accepted, Refused>,
}

#[derive(Debug)]
struct Accepted {
    sdp: String,
    resource: Option<String>,
}

#[derive(Debug)]
enum Refused {
    /// There is nobody to watch yet.
    NoHost(Duration),
    /// For another reason.
    Other(String),
}

/// A running thread of viewers.
pub(crate) struct Pool {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    pub(crate) tally: Shared,
    /// Viewers who are counted, and have moving pictures now.
    served: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What went wrong, each kind once with how often: for the report.
#[derive(Debug, Default)]
pub(crate) struct Complaints(std::sync::Mutex<HashMap<String, u64>>);

impl Complaints {
    /// Kinds kept; more are counted as "other".
    const MAX: usize = 40;

    pub(crate) fn add(&self, what: &str) {
        let mut kinds = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let what = if kinds.len() >= Self::MAX && !kinds.contains_key(what) { "other" } else { what };
        *kinds.entry(what.to_owned()).or_default() += 1;
    }

    /// Most frequent first.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        let kinds = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut list: Vec<_> = kinds.iter().map(|(what, times)| (what.clone(), *times)).collect();
        list.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        list
    }
}

impl Pool {
    /// Starts a thread.
    pub(crate) fn start(index: usize, audience: Audience, complaints: Arc<Complaints>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (orders, receiver) = channel();
        let (tally, served) = (Shared::default(), Arc::new(AtomicU64::new(0)));
        let run = Loop {
            poll,
            receiver,
            orders: orders.clone(),
            waker: waker.clone(),
            audience,
            seats: HashMap::new(),
            waiting: VecDeque::new(),
            tally: Tally::default(),
            gone: Sums::default(),
            gone_drops: 0,
            leaving: Leaving::default(),
            served: served.clone(),
            shared: tally.clone(),
            complaints,
            random: Random::new(index as u64, 0),
        };
        let thread = thread::Builder::new().name(format!("viewers-{index}")).spawn(move || run.run())?;
        Ok(Self { orders, waker, tally, served, thread: Some(thread) })
    }

    /// Tells it something.
    pub(crate) fn order(&self, order: Order) {
        // A thread that has ended has nobody to tell it to.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }

    /// How many of the viewers that are counted have moving pictures, as of half a second ago.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Ends it, with all its viewers gone.
    pub(crate) fn stop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A viewer's place: there is a session in it, or there will be.
struct Seat {
    live: usize,
    traits: Traits,
    attempt: u32,
    failures: u32,
    session: Option<Viewer>,
    resource: Option<String>,
    again: Option<Instant>,
    /// What it asks by HTTP goes over it.
    network: Network,
    /// A failure of the network that the viewer is not back from, as long as there is no session that knows of it.
    outage: Option<Outage>,
}

struct Loop {
    poll: Poll,
    receiver: Receiver<Order>,
    orders: Sender<Order>,
    waker: Arc<Waker>,
    audience: Audience,
    seats: HashMap<Number, Seat>,
    /// Who is to make an offer, and since when.
    waiting: VecDeque<(Number, Instant)>,
    tally: Tally,
    /// Counted of sessions that are over.
    gone: Sums,
    gone_drops: u64,
    leaving: Leaving,
    served: Arc<AtomicU64>,
    shared: Shared,
    complaints: Arc<Complaints>,
    random: Random,
}

impl Loop {
    fn run(mut self) {
        let (mut events, mut inbox) = (Events::with_capacity(1_024), Inbox::new());
        let (mut next_tick, mut next_publish) = (Instant::now(), Instant::now());
        loop {
            let now = Instant::now();
            let wait = if self.waiting.is_empty() {
                next_tick.saturating_duration_since(now)
            } else {
                Duration::ZERO
            };
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                self.complaints.add(&format!("poll: {error}"));
            }
            for event in &events {
                if event.token() != WAKE {
                    self.receive(event.token().0 as Number, &mut inbox);
                }
            }
            let now = Instant::now();
            while let Ok(order) = self.receiver.try_recv() {
                match order {
                    Order::Stop => return self.stop(now, &mut inbox),
                    Order::Over(number) => {
                        let after = self.leaving.over(number, &mut inbox);
                        self.also(after);
                    }
                    order => self.obey(order, now),
                }
            }
            for _ in 0..OFFERS_A_TURN {
                let Some((number, since)) = self.waiting.pop_front() else { break };
                self.audience.gauges.late(since.elapsed());
                self.offer(number, Instant::now());
            }
            let now = Instant::now();
            if now >= next_tick {
                self.audience.gauges.timer_late(now - next_tick);
                self.tick(now);
                next_tick = now + TICK;
            }
            if now >= next_publish {
                next_publish = now + PUBLISH;
                self.publish(now);
            }
        }
    }

    fn receive(&mut self, number: Number, inbox: &mut Inbox) {
        let Some(viewer) = self.seats.get_mut(&number).and_then(|seat| seat.session.as_mut()) else { return };
        let was_connected = viewer.is_connected();
        // Read until there is nothing left: what stays behind is not told of again.
        while let Ok(more) = net::receive(&viewer.socket, inbox) {
            let now = Instant::now();
            for (datagram, from) in inbox.datagrams() {
                viewer.datagram(datagram, from, now, &mut self.tally);
            }
            if !more {
                break;
            }
        }
        if viewer.is_connected() != was_connected {
            self.audience.gauges.viewers.add(if was_connected { -1 } else { 1 });
        }
    }

    fn obey(&mut self, order: Order, now: Instant) {
        match order {
            Order::Watch { number, live, traits } => {
                let seat = Seat {
                    live,
                    traits,
                    attempt: 0,
                    failures: 0,
                    session: None,
                    resource: None,
                    again: None,
                    network: Network::default(),
                    outage: None,
                };
                self.seats.insert(number, seat);
                self.waiting.push_back((number, now));
            }
            Order::Leave { number } => {
                self.vacate(number, now);
            }
            Order::Fail { number, until, roams } => self.fail_network(number, until, roams),
            Order::Answered(answered) => self.answered(answered, now),
            Order::Over(_) | Order::Stop => {}
        }
    }

    fn fail_network(&mut self, number: Number, until: Instant, roams: bool) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        seat.network.fail(until, roams);
        let known = match &mut seat.session {
            Some(viewer) => viewer.fail_network(until, roams),
            None => {
                let known = seat.outage.is_some();
                seat.outage.get_or_insert_with(|| Outage::new(until, false, true)).again(until, false);
                known
            }
        };
        self.tally.count(Count::DropViewers, u64::from(!known));
    }

    /// A viewer leaves for good.
    fn vacate(&mut self, number: Number, now: Instant) {
        self.empty(number, now);
        if let Some(outage) = self.seats.remove(&number).and_then(|seat| seat.outage) {
            outage.leave(now, &mut self.tally);
        }
    }

    /// Makes an offer and lets it be posted.
    fn offer(&mut self, number: Number, now: Instant) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        if let Some(outage) = seat.outage.as_ref().filter(|outage| outage.is_gone(now)) {
            seat.again = Some(outage.until());
            return;
        }
        seat.attempt += 1;
        seat.again = None;
        let (attempt, audience) = (seat.attempt, &self.audience);
        let offered = Viewer::offer(&audience.identity, audience.source, seat.traits, audience.run, now);
        let (mut viewer, sdp) = match offered {
            Ok(offered) => offered,
            Err(error) => {
                self.tally.count(Count::JoinAttempts, 1);
                return self.failed(number, &error.to_string(), now);
            }
        };
        viewer.outage = seat.outage.take();
        let token = Token(number as usize);
        if let Err(error) = self.poll.registry().register(&mut viewer.socket, token, Interest::READABLE) {
            self.tally.count(Count::JoinAttempts, 1);
            return self.failed(number, &format!("poll: {error}"), now);
        }
        seat.session = Some(viewer);
        let (client, orders, waker) =
            (audience.client.over(&seat.network), self.orders.clone(), self.waker.clone());
        let call = Call {
            method: "POST",
            url: audience.wheps[seat.live].clone(),
            token: audience.token(number),
            content_type: Some("application/sdp"),
            body: sdp,
        };
        audience.handle.spawn(async move {
            let posted = Instant::now();
            let result = match client.call(call).await {
                Ok(answer) if answer.accepts() => Ok(Accepted {
                    sdp: answer.text(),
                    resource: http::resolve(&answer.url, answer.header("location")),
                }),
                Ok(answer) if answer.status.as_u16() == 409 => {
                    let seconds = answer.header("retry-after").parse().map(Duration::from_secs);
                    Err(Refused::NoHost(seconds.unwrap_or(NO_HOST)))
                }
                Ok(answer) => Err(Refused::Other(answer.complaint())),
                Err(error) => Err(Refused::Other(error.to_string())),
            };
            let answered = Answered { number, attempt, posted, answered: Instant::now(), result };
            let _ = orders.send(Order::Answered(answered));
            let _ = waker.wake();
        });
    }

    fn answered(&mut self, answered: Answered, now: Instant) {
        let Answered { number, attempt, posted, answered, result } = answered;
        let seat = self.seats.get_mut(&number).filter(|seat| seat.attempt == attempt);
        let Some(seat) = seat else {
            // The viewer has left meanwhile.
            if let Ok(Accepted { resource: Some(resource), .. }) = result {
                self.delete(number, resource, &Network::default(), None);
            }
            return;
        };
        match result {
            Ok(accepted) => {
                self.tally.count(Count::JoinAttempts, 1);
                seat.resource = accepted.resource;
                let Some(viewer) = &mut seat.session else { return };
                if !viewer.was_interrupted() {
                    self.tally.record(crate::tally::Time::JoinAnswer, answered - posted);
                }
                match viewer.answer(&accepted.sdp, posted, now) {
                    Ok(()) => viewer.tick(now, &mut self.tally),
                    Err(error) => self.failed(number, &error.to_string(), now),
                }
            }
            Err(Refused::NoHost(wait)) => {
                seat.outage = seat.session.take().and_then(|viewer| viewer.outage);
                if let Some(outage) = &mut seat.outage {
                    outage.session_over();
                }
                seat.again = Some(now + wait.min(RETRY.1));
            }
            Err(Refused::Other(why)) => {
                self.tally.count(Count::JoinAttempts, 1);
                if seat.session.as_ref().is_some_and(Viewer::was_interrupted) {
                    return self.try_again(number, now);
                }
                self.failed(number, &format!("WHEP: {why}"), now);
            }
        }
    }

    /// A session never had a picture. Its viewer tries again.
    fn failed(&mut self, number: Number, why: &str, now: Instant) {
        self.tally.count(Count::JoinFailed, 1);
        self.complaints.add(why);
        self.try_again(number, now);
    }

    fn try_again(&mut self, number: Number, now: Instant) {
        let interrupted = self.empty(number, now);
        if let Some(seat) = self.seats.get_mut(&number) {
            if let Some(outage) = seat.outage.as_ref().filter(|_| interrupted) {
                let spread = SPREAD.mul_f64(self.random.unit());
                seat.again = Some(outage.try_at(now, spread));
                return;
            }
            let (first, last) = RETRY;
            let wait = (first * 2_u32.pow(seat.failures.min(8))).min(last);
            seat.failures += 1;
            // Spread, so that a herd that was refused does not come back as one.
            seat.again = Some(now + wait.mul_f64(self.random.between(0.5, 1.5)));
        }
    }

    /// Ends the session in a seat. Returns whether a failure of the viewer's network had come over it.
    fn empty(&mut self, number: Number, now: Instant) -> bool {
        let Some(seat) = self.seats.get_mut(&number) else { return false };
        let mut interrupted = false;
        // What is still under way is not for this seat any more.
        seat.attempt += 1;
        let (session, resource) = (seat.session.take(), seat.resource.take());
        let mut socket = None;
        if let Some(mut viewer) = session {
            if viewer.is_connected() {
                self.audience.gauges.viewers.add(-1);
            }
            self.gone_drops += net::drops(&viewer.socket);
            let _ = self.poll.registry().deregister(&mut viewer.socket);
            interrupted = viewer.was_interrupted();
            seat.outage = viewer.outage.take();
            if let Some(outage) = &mut seat.outage {
                outage.session_over();
            }
            let (sums, left) = viewer.leave(now);
            add(&mut self.gone, &sums);
            socket = Some(left);
        }
        if let Some(resource) = resource {
            let network = seat.network.clone();
            self.delete(number, resource, &network, socket);
        }
        interrupted
    }

    /// A viewer's network is back, and another one: the session is left without a word, and another one asked for, as pages
    /// do it. So it is with any server; not all know ICE restarts.
    fn roam(&mut self, number: Number, now: Instant) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        seat.resource = None;
        if let Some(viewer) = &mut seat.session {
            viewer.vanish();
        }
        self.try_again(number, now);
    }

    /// Has the server end a session. What it sends until it has is still counted.
    fn delete(&mut self, number: Number, resource: String, network: &Network, socket: Option<UdpSocket>) {
        let over = self.leaving.keep(socket);
        let client = &self.audience.client;
        let client = if network.has_failed() { client.over(network) } else { client.clone() };
        let token = self.audience.token(number);
        let call = Call { method: "DELETE", url: resource, token, ..Call::default() };
        let (orders, waker) = (self.orders.clone(), self.waker.clone());
        self.audience.handle.spawn(async move {
            // Whether it helped is the server's affair: a viewer who closes a page does not wait for it.
            let _ = client.call_shared(call).await;
            let _ = orders.send(Order::Over(over));
            let _ = waker.wake();
        });
    }

    fn tick(&mut self, now: Instant) {
        let (mut over, mut roaming) = (Vec::new(), Vec::new());
        for (number, seat) in &mut self.seats {
            if let Some(viewer) = &mut seat.session {
                let was_connected = viewer.is_connected();
                viewer.tick(now, &mut self.tally);
                if viewer.is_connected() != was_connected {
                    self.audience.gauges.viewers.add(if was_connected { -1 } else { 1 });
                }
                if viewer.state() != State::Going {
                    over.push((*number, viewer.state(), viewer.was_connected(), viewer.was_interrupted()));
                }
                if viewer.state() == State::Going
                    && viewer.outage.as_mut().is_some_and(|outage| outage.take_roaming(now))
                {
                    roaming.push(*number);
                }
            }
            if seat.again.is_some_and(|at| at <= now) {
                seat.again = None;
                self.waiting.push_back((*number, now));
            }
        }
        roaming.into_iter().for_each(|number| self.roam(number, now));
        for (number, state, connected, interrupted) in over {
            match state {
                // Its end is our own doing: what counts is whether they come back.
                _ if interrupted => self.try_again(number, now),
                State::Failed if connected => self.failed(number, "connected, and no picture in time", now),
                State::Failed => self.failed(number, "answered, and not connected in time", now),
                _ => {
                    self.tally.count(Count::ViewersEnded, 1);
                    self.complaints.add("the server ended a viewer's session, or fell silent");
                    self.try_again(number, now);
                }
            }
        }
    }

    /// Publishes what was counted.
    fn publish(&mut self, now: Instant) {
        let (mut sums, mut drops, mut served) = (self.gone, self.gone_drops, 0);
        for (number, seat) in &self.seats {
            let Some(viewer) = &seat.session else { continue };
            add(&mut sums, &viewer.sums(now));
            drops += net::drops(&viewer.socket);
            served += u64::from(*number >= self.audience.counted_from && viewer.is_served(now));
        }
        self.served.store(served, Ordering::Relaxed);
        let tally = &mut self.tally;
        tally.set(Count::Packets, sums.picture.received + sums.sound.received);
        tally.set(Count::Bytes, sums.bytes);
        tally.set(Count::Expected, sums.expected);
        tally.set(Count::Lost, sums.lost);
        tally.set(Count::FirstLost, sums.picture.first_lost + sums.sound.first_lost);
        tally.set(Count::Repaired, sums.picture.repaired);
        tally.set(Count::Duplicates, sums.picture.duplicates + sums.sound.duplicates);
        tally.set(Count::Nacks, sums.picture.nacked);
        tally.set(Count::Plis, sums.plis);
        tally.set(Count::Decrypted, sums.decrypted);
        tally.set(Count::DecryptErrors, sums.decrypt_errors);
        tally.set(Count::Frames, sums.picture.frames);
        tally.set(Count::Freezes, sums.freezes);
        tally.set(Count::FrozenUs, sums.frozen.as_micros() as u64);
        tally.set(Count::WatchedUs, sums.watched.as_micros() as u64);
        tally.set(Count::StampedUs, sums.stamped.as_micros() as u64);
        tally.set(Count::LateUs, sums.late.as_micros() as u64);
        tally.set(Count::Arrived, sums.arrived);
        tally.set(Count::ConnectedUs, sums.connected.as_micros() as u64);
        tally.set(Count::OtherClock, sums.other_clock);
        tally.set(Count::SocketDrops, drops);
        tally.set(Count::DropDiscarded, sums.discarded);
        for (layer, share) in sums.layers.iter().enumerate() {
            let (bytes, us) = Count::LAYERS[layer];
            tally.set(bytes, share.bytes);
            tally.set(us, share.time.as_micros() as u64);
        }
        *self.shared.lock() = tally.clone();
    }

    fn also(&mut self, after: After) {
        self.gone.arrived += after.arrived;
        self.gone_drops += after.drops;
    }

    fn stop(mut self, now: Instant, inbox: &mut Inbox) {
        let numbers: Vec<_> = self.seats.keys().copied().collect();
        for number in numbers {
            self.vacate(number, now);
        }
        let deadline = now + LEAVE_WITHIN;
        while !self.leaving.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(order) = self.receiver.recv_timeout(left) else { break };
            if let Order::Over(number) = order {
                let after = self.leaving.over(number, inbox);
                self.also(after);
            }
        }
        let after = self.leaving.all_over(inbox);
        self.also(after);
        self.publish(now);
    }
}

fn add(sums: &mut Sums, more: &Sums) {
    for (sum, more) in [(&mut sums.picture, &more.picture), (&mut sums.sound, &more.sound)] {
        sum.received += more.received;
        sum.repaired += more.repaired;
        sum.duplicates += more.duplicates;
        sum.first_lost += more.first_lost;
        sum.nacked += more.nacked;
        sum.frames += more.frames;
    }
    for (sum, more) in sums.layers.iter_mut().zip(more.layers) {
        sum.bytes += more.bytes;
        sum.time += more.time;
    }
    sums.freezes += more.freezes;
    sums.frozen += more.frozen;
    sums.expected += more.expected;
    sums.lost += more.lost;
    sums.bytes += more.bytes;
    sums.rtx += more.rtx;
    sums.plis += more.plis;
    sums.decrypted += more.decrypted;
    sums.decrypt_errors += more.decrypt_errors;
    sums.watched += more.watched;
    sums.connected += more.connected;
    sums.other_clock += more.other_clock;
    sums.discarded += more.discarded;
    sums.stamped += more.stamped;
    sums.late += more.late;
    sums.arrived += more.arrived;
}
