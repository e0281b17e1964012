//! A shard: one thread, one UDP port (on each address that is bound to), and everything that goes on there.
//!
//! Each turn of its loop reads the clocks once and then, in this order: takes what the network brought, hands frames on
//! and sends them, does what it was told and what time has made due, and lets newcomers in. Of anything that there may be
//! much of, a turn does as much as a short time allows, and at least one; the rest keeps its order. So frames never wait
//! for more than a few milliseconds, however many join (see [`crate::anteroom`]).

mod datagrams;
mod fanout;
mod renewal;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use haul_media::{LayerChoice, Relay};
use haul_model::{Now, SessionId};
use tokio::sync::oneshot;

use crate::{
    Answer, Condition, EndReason, IceError, IceUpdate, Limits, Notice, NoticeKind, Observer, OfferError,
    PreferError, Quality, Role, StartError,
    anteroom::{Allowance, Anteroom},
    connection::Terms,
    feed::Feed,
    identity::Identity,
    ingest::Ingest,
    links::Links,
    load::Meter,
    mailbox::{Command, FeedKey, FeedSink, IceCommand, Mailbox, OfferCommand},
    outbox::Outbox,
    peer::{Peer, PeerEvent},
    route::{MAX_SOCKETS, Route},
    sdp::{self, Offer},
    sdpfrag::{Credentials, Fragment},
    session::{Session, Side, Tools, Verdict},
    slab::{Key, Slab},
    socket::{self, Inbox, Socket},
    stats::{Counter, Counters},
    viewer::{Ssrcs, Viewer},
};

/// How long a turn goes on with each of these: a socket's datagrams, TCP connections, sessions to settle, what it was
/// told, and timers. A frame that comes meanwhile waits for them at most once each.
const SHARE: Duration = Duration::from_micros(500);
/// The same for newcomers' handshakes and offers together: the time of a few of them.
const NEWCOMERS_SHARE: Duration = Duration::from_millis(1);
/// The longest a shard sleeps.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// The soonest a session is woken again: one that always wants to be would keep the shard from sleeping.
const MIN_TICK: Duration = Duration::from_millis(1);
/// Tokens below are the sockets, by their place; those above, TCP connections.
const MAIL: mio::Token = mio::Token(MAX_SOCKETS);

/// A shard, before its thread runs and while it does.
pub(crate) struct Shard {
    /// Which one it is: its ufrags begin with this.
    index: usize,
    poll: mio::Poll,
    ports: Vec<Port>,
    mailbox: Arc<Mailbox>,
    outbox: Outbox,
    /// What `rtc` knows as our address.
    local: SocketAddr,
    /// Our addresses as answers name them.
    candidates: String,
    identity: Identity,
    limits: Limits,
    counters: Arc<Counters>,
    observer: Observer,
    now: Now,

    sessions: Slab<Session>,
    by_id: HashMap<SessionId, Key>,
    by_ufrag: HashMap<String, Key>,
    /// Where datagrams come from, for those addresses that proved to be a session's.
    by_route: HashMap<Route, Key>,
    /// When each session is woken.
    timers: BTreeSet<(Instant, Key)>,
    /// Sessions to settle, in order.
    touched: VecDeque<Key>,
    /// What those who are not connected yet have sent.
    anteroom: Anteroom,
    /// What it was told and has not done yet.
    commands: VecDeque<Command>,

    feeds: HashMap<FeedKey, Feed>,
    /// Feeds by the relay's place in memory, which its feed keeps from being another's.
    by_relay: BTreeMap<usize, FeedKey>,
    next_feed: u64,
    /// Feeds with pictures to send, in whose turn it is. Each is in here once at most.
    turns: VecDeque<FeedKey>,

    /// Kept between turns for its capacity.
    events: Vec<PeerEvent>,
    meter: Meter,
    room: room::Room,
    /// The most commands and frames that waited at once since it was last read.
    peaks: (u64, u64),
    draining: bool,
    failures: renewal::Failures,
}

/// One of a shard's sockets.
struct Port {
    socket: Arc<Socket>,
    /// There may be more to receive: the poll tells only once.
    readable: bool,
}

/// What a shard is made with.
pub(crate) struct Plan {
    pub(crate) index: usize,
    /// The addresses to bind to, at most [`MAX_SOCKETS`], and the port on each; 0: any that is free on all.
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) port: u16,
    /// What answers name as our addresses, with the port that will be bound.
    pub(crate) addresses: Vec<IpAddr>,
    /// The port for TCP, if there is one.
    pub(crate) tcp_port: Option<u16>,
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    pub(crate) observer: Observer,
}

impl Shard {
    /// Binds the shard's port.
    pub(crate) fn new(plan: Plan) -> Result<(Self, Arc<Mailbox>, Arc<Counters>), StartError> {
        let system = |error: io::Error| StartError::System(error.to_string());
        let (sockets, port) = socket::bind_all(&plan.bind, plan.port)
            .map_err(|(address, error)| StartError::Bind { protocol: "UDP", address, error })?;
        if plan.index == 0 {
            // They are alike on all shards: said once.
            sockets.iter().for_each(warn_of_short_buffers);
        }
        let poll = mio::Poll::new().map_err(system)?;
        let waker = mio::Waker::new(poll.registry(), MAIL).map_err(system)?;
        let (mailbox, counters) = (Arc::new(Mailbox::new(waker)), Arc::new(Counters::default()));
        let sockets: Vec<Arc<Socket>> = sockets.into_iter().map(Arc::new).collect();
        let addresses: Vec<SocketAddr> = plan.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let local = *addresses.first().ok_or_else(|| StartError::Config("no address to name".to_owned()))?;
        let mut outbox = Outbox::new(&sockets, counters.clone());
        if plan.tcp_port.is_some() {
            let registry = poll.registry().try_clone().map_err(system)?;
            outbox.links = Some(Links::new(registry, MAIL.0 + 1));
        }
        let shard = Self {
            index: plan.index,
            poll,
            outbox,
            ports: sockets.into_iter().map(|socket| Port { socket, readable: true }).collect(),
            mailbox: mailbox.clone(),
            local,
            candidates: sdp::candidates(&addresses, plan.tcp_port),
            identity: plan.identity,
            limits: plan.limits,
            counters: counters.clone(),
            observer: plan.observer,
            now: read_clocks(),
            sessions: Slab::new(),
            by_id: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_route: HashMap::new(),
            timers: BTreeSet::new(),
            touched: VecDeque::new(),
            anteroom: Anteroom::default(),
            commands: VecDeque::new(),
            feeds: HashMap::new(),
            by_relay: BTreeMap::new(),
            next_feed: 0,
            turns: VecDeque::new(),
            events: Vec::new(),
            // The thread that is to run has used nothing yet.
            room: room::Room::default(),
            meter: Meter::new(Instant::now(), Duration::ZERO, 0),
            peaks: (0, 0),
            draining: false,
            failures: renewal::Failures::default(),
        };
        Ok((shard, mailbox, counters))
    }

    /// Goes on until told to stop.
    fn turns(&mut self) {
        let (mut inbox, mut frames) = (Inbox::new(), VecDeque::new());
        let mut ready = mio::Events::with_capacity(64);
        let mut stopped = false;
        while !stopped {
            self.wait(&mut ready);
            self.now = read_clocks();
            self.receive(&mut inbox);
            self.receive_links();
            // Now, so that frames which hosts have completed are among those that follow.
            self.settle_touched();
            let offers = self.mailbox.take(&mut self.commands, &mut frames);
            self.measure((self.commands.len() + offers) as u64, frames.len() as u64);
            for (feed, event) in frames.drain(..) {
                self.relay_event(feed, &event);
            }
            self.send_slices();
            self.outbox.flush();
            stopped = self.run_commands();
            self.run_timers();
            self.let_in();
            self.settle_touched();
            self.outbox.flush();
        }
    }

    /// Once a second, tells how busy the shard is.
    fn measure(&mut self, commands: u64, frames: u64) {
        self.peaks = (self.peaks.0.max(commands), self.peaks.1.max(frames));
        if !self.meter.is_due(self.now.instant) {
            return;
        }
        let counters = &self.counters;
        let sent = counters.rtp_bytes_out.get();
        let measured = self.meter.measure(self.now.instant, socket::thread_cpu_time(), sent);
        counters.cpu_ppm.set(measured.cpu_ppm);
        counters.egress_bps.set(measured.egress_bps);
        let entries = self.sessions.len()
            + self.by_id.len()
            + self.by_ufrag.len()
            + self.by_route.len()
            + self.timers.len()
            + self.anteroom.len()
            + self.feeds.len()
            + self.by_relay.len()
            + self.outbox.links.as_ref().map_or(0, Links::len);
        counters.table_entries.set(entries as u64);
        counters.measured_sessions.set(self.sessions.len() as u64);
        counters.commands_waiting.set(self.peaks.0);
        counters.frames_waiting.set(self.peaks.1);
        self.peaks = (0, 0);
        self.close_idle_links();
    }

    // Commands

    /// Does what it was told. Returns whether it was told to stop.
    fn run_commands(&mut self) -> bool {
        let mut share = self.share();
        while share.has_time(Instant::now())
            && let Some(command) = self.commands.pop_front()
        {
            let stops = matches!(command, Command::Stop);
            self.command(command);
            if stops {
                return true;
            }
        }
        false
    }

    /// Does what newcomers have come for: handshakes first, since who was let in is to get on.
    fn let_in(&mut self) {
        let mut share = Allowance::new(Instant::now(), NEWCOMERS_SHARE);
        while share.has_time(Instant::now())
            && let Some((key, datagrams)) = self.anteroom.next()
        {
            for (from, datagram) in datagrams {
                self.deliver(key, from, &datagram);
            }
            self.settle_touched();
        }
        let mut offered = false;
        while (!offered || share.has_time(Instant::now()))
            && let Some((offer, reply)) = self.mailbox.take_offer()
        {
            offered = true;
            self.offer(*offer, reply);
        }
    }

    /// A turn's time for one kind of work, from now on.
    fn share(&self) -> Allowance {
        Allowance::new(Instant::now(), SHARE)
    }

    fn command(&mut self, command: Command) {
        match command {
            // These are left in the mailbox until there is time for them.
            Command::Offer(offer, reply) => self.offer(*offer, reply),
            Command::Ice(command) => {
                let IceCommand { session, condition, fragment, reply } = *command;
                // Whoever asked may have gone.
                let _ = reply.send(self.update_ice(&session, &condition, &fragment));
            }
            Command::Close(session, reply) => {
                let key = self.by_id.get(&session).copied();
                if let Some(key) = key {
                    self.end(key, EndReason::Closed);
                }
                // Whoever asked may have gone.
                let _ = reply.send(key.is_some());
            }
            Command::MakeRoom(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.make_room());
            }
            Command::Prefer(session, layer, reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.prefer(&session, layer));
            }
            Command::Drain(reply) => {
                self.end_all();
                let _ = reply.send(());
            }
            Command::Keyframes(key) => self.with(key, |session, tools| session.request_keyframes(tools)),
            Command::Link(arrival) => self.welcome(*arrival),
            Command::Replaced(key) => self.end(key, EndReason::Replaced),
            Command::Stop => self.end_all(),
        }
    }

    fn prefer(&mut self, session: &SessionId, layer: Option<String>) -> Result<Quality, PreferError> {
        let key = *self.by_id.get(session).ok_or(PreferError::NoSession)?;
        let session = self.sessions.get_mut(key).ok_or(PreferError::NoSession)?;
        let Side::Viewer(viewer) = &mut session.side else { return Err(PreferError::NoSession) };
        let feed = self.feeds.get(&viewer.feed).ok_or(PreferError::NoSession)?;
        let choice = match layer {
            None => LayerChoice::Auto,
            Some(name) => {
                let named =
                    feed.layer_named(&name).ok_or_else(|| PreferError::NoLayer(feed.layer_names()))?;
                LayerChoice::Layer(named)
            }
        };
        let now = self.now.instant;
        viewer.prefer(now, choice);
        if let Some((layer, wish)) = viewer.steer(now, feed, &self.counters) {
            feed.relay.request_keyframe(layer, wish, now);
        }
        let quality = viewer.quality(now, feed).ok_or(PreferError::NoSession);
        self.touch(key);
        quality
    }

    /// Follows what a client says of its session's ICE.
    fn update_ice(
        &mut self,
        session: &SessionId,
        condition: &Condition,
        fragment: &Fragment,
    ) -> Result<IceUpdate, IceError> {
        let key = self.by_id.get(session).copied().ok_or(IceError::NoSession)?;
        let fresh = self.credentials();
        let ufrag = fresh.ufrag.clone();
        let session = self.sessions.get_mut(key).ok_or(IceError::NoSession)?;
        // The condition first: what it keeps from being followed has no other answer (RFC 9110, 13.2.2).
        if session.peer.ice.restarts(condition, fragment)? && !session.peer.connected() {
            return Err(IceError::NotConnected);
        }
        let (update, forgotten) = session.peer.ice.update(condition, fragment, fresh, &self.candidates)?;
        if let IceUpdate::Restarted { .. } = update {
            tracing::info!(live = %session.live, session = %session.id, "ICE restarts");
            self.by_ufrag.insert(ufrag, key);
        }
        if let Some(ufrag) = forgotten {
            self.by_ufrag.remove(&ufrag);
        }
        Ok(update)
    }

    /// Fresh ICE credentials. The name says which shard it is.
    fn credentials(&self) -> Credentials {
        Credentials {
            ufrag: format!("{:02x}{:016x}", self.index, rand::random::<u64>()),
            password: format!("{:032x}", rand::random::<u128>()),
        }
    }

    fn offer(&mut self, command: OfferCommand, reply: oneshot::Sender<Result<Answer, OfferError>>) {
        let session = command.session.clone();
        let guarded = catch_unwind(AssertUnwindSafe(|| self.accept(command)));
        let result =
            guarded.unwrap_or_else(|_| Err(OfferError::Malformed("it breaks the parser".to_owned())));
        if result.is_err() {
            self.counters.offers_refused.add(1);
            self.drop_idle_feeds();
        }
        if let Err(Ok(_)) = reply.send(result)
            && let Some(key) = self.by_id.get(&session).copied()
        {
            // Nobody waits for the answer any more, so nobody will connect.
            self.end(key, EndReason::Closed);
        }
    }

    fn accept(&mut self, command: OfferCommand) -> Result<Answer, OfferError> {
        let OfferCommand { role, session: id, live, relay, sdp, ends, seat } = command;
        if self.draining {
            return Err(OfferError::Closed);
        }
        if self.by_id.contains_key(&id) {
            return Err(OfferError::Internal(format!("there is a session {id} already")));
        }
        let now = self.now.instant;
        let key = self.sessions.next_key();
        let base = rand::random::<u32>() & !3;
        let ssrcs = Ssrcs { video: base | 1, rtx: base | 2, audio: base | 3 };
        let (identity, credentials) = (self.identity.clone(), self.credentials());
        let ufrag = credentials.ufrag.clone();
        let (side, (peer, sdp)) = match role {
            Role::Publisher => {
                let offer = Offer::from_publisher(&sdp)?;
                let ingest = Ingest::new(offer.clone(), relay, self.mailbox.clone(), key);
                let terms = Terms { offer, credentials, local: self.local };
                (Side::Publisher(ingest), Peer::host(identity, terms, &self.candidates, now)?)
            }
            Role::Viewer => {
                // What the host sends by now; the feed may have yet to learn of it.
                let broadcast = relay.broadcast().ok_or(OfferError::NoBroadcast)?;
                let feed = self.subscribe(relay);
                let offer = Offer::from_viewer(&sdp, &broadcast)?;
                let viewer = Viewer::new(now, feed, &offer, &broadcast, ssrcs);
                (Side::Viewer(viewer), Peer::viewer(identity, &offer, credentials, ssrcs, &self.candidates)?)
            }
        };
        let etag = peer.ice.etag();
        if let Side::Viewer(viewer) = &side
            && let Some(feed) = self.feeds.get_mut(&viewer.feed)
        {
            feed.lane.join(key);
        }
        let session = Session {
            path: None,
            side,
            peer: Box::new(peer),
            id: id.clone(),
            live,
            answered: now,
            connected: false,
            heard: now,
            ends,
            _seat: seat,
            scheduled: None,
            touched: false,
        };
        tracing::info!(live = %session.live, session = %id, ?role, shard = self.index, "session answered");
        self.sessions.insert(session);
        self.by_id.insert(id, key);
        self.by_ufrag.insert(ufrag, key);
        self.gauge(role).add(1);
        self.touch(key);
        Ok(Answer { sdp, etag })
    }

    // Relays

    /// The feed of `relay`, subscribed to if it is not yet.
    fn subscribe(&mut self, relay: Arc<Relay>) -> FeedKey {
        let place = Arc::as_ptr(&relay) as usize;
        if let Some(known) = self.by_relay.get(&place) {
            return *known;
        }
        let feed = FeedKey(self.next_feed);
        self.next_feed += 1;
        let sink = FeedSink { mailbox: self.mailbox.clone(), feed, counters: self.counters.clone() };
        let (snapshot, subscription) = relay.subscribe(Arc::new(sink));
        self.feeds.insert(feed, Feed::new(relay, snapshot, subscription));
        self.by_relay.insert(place, feed);
        feed
    }

    fn drop_idle_feeds(&mut self) {
        let feeds = &mut self.feeds;
        feeds.retain(|_, feed| !feed.lane.is_deserted());
        self.by_relay.retain(|_, feed| feeds.contains_key(feed));
    }

    // Sessions

    fn run_timers(&mut self) {
        let mut share = self.share();
        while share.has_time(Instant::now())
            && let Some((at, key)) = self.timers.first().copied()
        {
            if at > self.now.instant {
                return;
            }
            self.timers.pop_first();
            let limits = self.limits;
            let verdict = self.guarded(key, |session, tools, feed, _| {
                session.scheduled = None;
                session.handle_timeout(tools, feed, &limits)
            });
            self.act(key, verdict);
            self.touch(key);
        }
    }

    fn settle_touched(&mut self) {
        let mut share = self.share();
        // Settling one session may touch another, for the next turn.
        for _ in 0..self.touched.len() {
            if !share.has_time(Instant::now()) {
                return;
            }
            let Some(key) = self.touched.pop_front() else { return };
            let limits = self.limits;
            let verdict = self.guarded(key, |session, tools, feed, events| {
                session.touched = false;
                session.settle(tools, events, feed)
            });
            self.act(key, verdict);
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if let Side::Viewer(viewer) = &mut session.side
                && let Some(quality) = viewer.take_news()
            {
                (self.observer)(notice(session, NoticeKind::Quality(Box::new(quality))));
            }
            let at = session.poll_timeout(&limits).max(self.now.instant + MIN_TICK);
            // A timer that comes too early finds nothing to do; only one that would come too late is moved.
            if session.scheduled.is_none_or(|scheduled| at < scheduled) {
                if let Some(scheduled) = session.scheduled.replace(at) {
                    self.timers.remove(&(scheduled, key));
                }
                self.timers.insert((at, key));
            }
        }
    }

    fn touch(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key)
            && !std::mem::replace(&mut session.touched, true)
        {
            self.touched.push_back(key);
        }
    }

    /// Does something with a session, and settles it this turn.
    fn with(&mut self, key: Key, step: impl FnOnce(&mut Session, &mut Tools<'_>)) {
        let verdict = self.guarded(key, |session, tools, _, _| {
            step(session, tools);
            Verdict::GoOn
        });
        self.act(key, verdict);
        self.touch(key);
    }

    /// Runs one session's code. A panic in it (a library that was fed garbage) costs that session and no other.
    fn guarded(
        &mut self,
        key: Key,
        step: impl FnOnce(&mut Session, &mut Tools<'_>, Option<&Feed>, &mut Vec<PeerEvent>) -> Verdict,
    ) -> Verdict {
        let Some(session) = self.sessions.get_mut(key) else { return Verdict::GoOn };
        let feed = match &session.side {
            Side::Viewer(viewer) => self.feeds.get(&viewer.feed),
            Side::Publisher(_) => None,
        };
        let mut tools = Tools { now: self.now, outbox: &mut self.outbox, counters: &self.counters };
        let events = &mut self.events;
        catch_unwind(AssertUnwindSafe(|| step(session, &mut tools, feed, events))).unwrap_or_else(|_| {
            self.events.clear();
            Verdict::End(EndReason::Failed)
        })
    }

    fn act(&mut self, key: Key, verdict: Verdict) {
        match verdict {
            Verdict::GoOn => {}
            Verdict::Connected => {
                let Some(session) = self.sessions.get_mut(key) else { return };
                let after = self.now.instant.saturating_duration_since(session.answered);
                self.counters.sessions_connected.add(1);
                let ms = after.as_millis() as u64;
                tracing::info!(live = %session.live, session = %session.id, ms, "session connected");
                (self.observer)(notice(session, NoticeKind::Connected { after }));
                // What is on its way was part of what it started with.
                if let Side::Viewer(viewer) = &session.side
                    && let Some(feed) = self.feeds.get_mut(&viewer.feed)
                {
                    feed.lane.replayed(key);
                }
            }
            Verdict::End(reason) => self.end(key, reason),
        }
    }

    /// Ends a session: its peer is told, and everything that knows it forgets it.
    fn end(&mut self, key: Key, reason: EndReason) {
        let Some(session) = self.sessions.remove(key) else { return };
        tracing::info!(live = %session.live, session = %session.id, %reason, "session ended");
        let ended = notice(&session, NoticeKind::Ended { reason });
        // Whatever fails now, it is told: otherwise somebody's seat would be taken for good.
        let forgotten = catch_unwind(AssertUnwindSafe(|| self.forget(key, session, reason)));
        (self.observer)(ended);
        if let Err(panic) = forgotten {
            resume_unwind(panic);
        }
    }

    /// The session's end, but for its notice: the broadcast ends with its session before anybody is told.
    fn forget(&mut self, key: Key, mut session: Session, reason: EndReason) {
        let now = self.now.instant;
        // The peer may be the reason why the session ends; closing it must not take the shard down with it.
        let _ = catch_unwind(AssertUnwindSafe(|| session.peer.close(now, &mut self.outbox)));
        self.by_id.remove(&session.id);
        for ufrag in session.peer.ice.ufrags() {
            self.by_ufrag.remove(ufrag);
        }
        for route in session.peer.routes() {
            if self.by_route.get(route) == Some(&key) {
                self.by_route.remove(route);
                self.close_link(*route);
            }
        }
        if let Some(at) = session.scheduled {
            self.timers.remove(&(at, key));
        }
        self.anteroom.forget(key);
        if let Side::Viewer(viewer) = &session.side
            && let Some(feed) = self.feeds.get_mut(&viewer.feed)
        {
            if viewer.is_paused() {
                self.counters.viewers_paused.sub(1);
            }
            feed.lane.leave(key);
            if feed.lane.is_deserted() {
                self.drop_idle_feeds();
            }
        }
        self.gauge(session.role()).sub(1);
        self.counters.sessions_ended.add(1);
        match reason {
            EndReason::Silent => self.counters.sessions_silent.add(1),
            EndReason::NeverConnected => self.counters.sessions_never_connected.add(1),
            _ => {}
        }
        if !session.connected && session.peer.reachable() {
            self.counters.handshakes_failed.add(1);
        }
    }

    fn end_all(&mut self) {
        self.draining = true;
        for key in self.sessions.keys() {
            self.end(key, EndReason::Drained);
        }
        self.outbox.flush();
    }

    fn gauge(&self, role: Role) -> &Counter {
        match role {
            Role::Publisher => &self.counters.publishers,
            Role::Viewer => &self.counters.viewers,
        }
    }
}

fn notice(session: &Session, kind: NoticeKind) -> Notice {
    Notice { session: session.id.clone(), live: session.live.clone(), role: session.role(), kind }
}

/// Short buffers lose what comes or goes in bursts, and keyframes are bursts.
fn warn_of_short_buffers(socket: &Socket) {
    let (receive, send) = socket.short_buffers();
    for (bytes, sysctl) in [(receive, "net.core.rmem_max"), (send, "net.core.wmem_max")] {
        if let Some(bytes) = bytes {
            let wanted = socket::BUFFER_BYTES;
            tracing::warn!(
                bytes,
                wanted,
                "the kernel gives media sockets a short buffer: sysctl -w {sysctl}={wanted}"
            );
        }
    }
}

/// The only place where clocks are read for deciding: once a turn. Besides, a turn looks how long it has taken.
fn read_clocks() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now().into() }
}
