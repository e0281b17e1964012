//! The edge as the async side sees it: offers in, answers out.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use haul_media::Relay;
use haul_model::{LiveId, SessionId};
use tokio::sync::oneshot;

use crate::{
    Condition, EdgeConfig, EdgeStats, IceError, IceUpdate, Limits, Notice, OfferError, PreferError, Quality,
    Quota, Role, ShardStats, StartError,
    config::MAX_SHARDS,
    doorman::{Bell, Doorman},
    identity::Identity,
    load::{self, Ceiling, ShardLoad},
    mailbox::{Command, IceCommand, Mailbox, OfferCommand},
    route::MAX_SOCKETS,
    sdpfrag::Fragment,
    shard::{Plan, Shard},
    socket::{self, Socket},
    stats::Counters,
};

/// The most addresses in an answer.
const MAX_CANDIDATES: usize = 16;

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The SDP answer, with all candidates.
    pub sdp: String,
    /// Names the ICE session (RFC 9725, 4.3.1): the value of an `ETag` header, quotes included.
    pub etag: String,
}

/// What is told about each session. Called on shard threads: it must be cheap and must not block.
pub type Observer = Arc<dyn Fn(Notice) + Send + Sync>;

/// The WebRTC edge: a handle to its shards. Clones are the same edge; when the last one is dropped, every session ends
/// (peers are told) and the shards stop.
#[derive(Clone)]
pub struct Edge {
    shards: Arc<Shards>,
}

/// A node as somebody sees it who has to decide where to send the next viewer.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it may carry.
    pub limits: Limits,
    /// Whether a viewer would be let in now.
    pub accepts_viewers: bool,
    /// Whether a publisher would be.
    pub accepts_publishers: bool,
    /// What each shard carries, in the order of their ports.
    pub shards: Vec<Load>,
}

/// What a shard carries, as of the last second.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Viewers' sessions.
    pub viewers: u64,
    /// Publishers' sessions.
    pub publishers: u64,
    /// How much of a processor its thread uses.
    pub cpu_percent: f64,
    /// Bits of RTP sent to viewers a second.
    pub egress_bps: u64,
}

struct Shards {
    handles: Vec<Handle>,
    limits: Limits,
    /// Places for sessions of each role.
    viewers: Quota,
    publishers: Quota,
    /// What the node sends in other ways, in bits a second.
    beside_bps: AtomicU64,
    /// Stops the thread that takes TCP connections.
    bell: Option<Bell>,
    /// Joined when the edge goes, so that no thread outlives it. Behind a lock only because joining consumes them.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Handle {
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
}

impl Edge {
    /// Binds the shards' ports and starts their threads.
    ///
    /// # Errors
    /// [`StartError`] if the configuration makes no sense, a port is not to be had, or the system refuses a thread.
    pub fn start(config: EdgeConfig, observer: Observer) -> Result<Self, StartError> {
        check(&config)?;
        let identity = Identity::generate().map_err(StartError::System)?;
        let bind = bindable(&config.bind, Socket::bind);
        let addresses = addresses(&config, &bind)?;
        let tcp = match config.ice_tcp_port {
            Some(port) => {
                Some(socket::listen_all(&bind, port).map_err(|(address, error)| StartError::Bind {
                    protocol: "TCP",
                    address,
                    error,
                })?)
            }
            None => None,
        };
        let mut edge = Shards {
            handles: Vec::new(),
            limits: config.limits,
            viewers: Quota::new(config.limits.viewers, usize::MAX),
            publishers: Quota::new(config.limits.publishers, usize::MAX),
            beside_bps: AtomicU64::new(0),
            bell: None,
            threads: Mutex::default(),
        };
        for index in 0..config.shards {
            let port = if config.udp_port == 0 { 0 } else { config.udp_port + index as u16 };
            let plan = Plan {
                index,
                bind: bind.clone(),
                port,
                addresses: addresses.clone(),
                tcp_port: tcp.as_ref().map(|(_, port)| *port),
                identity: identity.clone(),
                limits: config.limits,
                observer: observer.clone(),
            };
            let (shard, mailbox, counters) = Shard::new(plan)?;
            let thread = std::thread::Builder::new()
                .name(format!("media-{index}"))
                .spawn(move || shard.run())
                .map_err(|error| StartError::System(error.to_string()))?;
            edge.handles.push(Handle { mailbox, counters });
            edge.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        if let (Some((listeners, _)), Some(first)) = (tcp, edge.handles.first()) {
            let mailboxes = edge.handles.iter().map(|shard| shard.mailbox.clone()).collect();
            let system = |error: io::Error| StartError::System(error.to_string());
            let (doorman, bell) =
                Doorman::new(listeners, mailboxes, first.counters.clone()).map_err(system)?;
            let thread = std::thread::Builder::new()
                .name("media-tcp".to_owned())
                .spawn(move || doorman.run())
                .map_err(system)?;
            edge.bell = Some(bell);
            edge.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Self { shards: Arc::new(edge) })
    }

    /// Answers a publisher's offer (WHIP). When it is connected, its broadcast starts on `relay`, in place of any
    /// other.
    ///
    /// # Errors
    /// [`OfferError`], which says what to tell the client.
    pub async fn publish(
        &self,
        session: SessionId,
        live: LiveId,
        relay: Arc<Relay>,
        offer: &str,
    ) -> Result<Answer, OfferError> {
        self.offer(Role::Publisher, session, live, relay, offer, None).await
    }

    /// Answers a viewer's offer (WHEP), with the codecs of what `relay` carries now.
    ///
    /// # Errors
    /// [`OfferError`], which says what to tell the client.
    pub async fn watch(
        &self,
        session: SessionId,
        live: LiveId,
        relay: Arc<Relay>,
        offer: &str,
    ) -> Result<Answer, OfferError> {
        self.watch_until(session, live, relay, offer, None).await
    }

    /// The same for a viewer who may stay until `ends`; the session then ends with [`crate::EndReason::Expired`].
    ///
    /// # Errors
    /// [`OfferError`], which says what to tell the client.
    pub async fn watch_until(
        &self,
        session: SessionId,
        live: LiveId,
        relay: Arc<Relay>,
        offer: &str,
        ends: Option<Instant>,
    ) -> Result<Answer, OfferError> {
        if relay.broadcast().is_none() {
            return Err(OfferError::NoBroadcast);
        }
        self.offer(Role::Viewer, session, live, relay, offer, ends).await
    }

    /// Follows what a client says of its session's ICE after the answer: candidates (trickle), or a restart.
    ///
    /// # Errors
    /// [`IceError`], which says what to tell the client. The session goes on as it was.
    pub async fn update_ice(
        &self,
        session: &SessionId,
        condition: Condition,
        fragment: Fragment,
    ) -> Result<IceUpdate, IceError> {
        let mut busy = false;
        // One after the other: a shard that was asked may have done it, whatever the others say.
        for shard in &self.shards.handles {
            let (reply, answer) = oneshot::channel();
            let (session, condition, fragment) = (session.clone(), condition.clone(), fragment.clone());
            let command = IceCommand { session, condition, fragment, reply };
            if !shard.mailbox.command(Command::Ice(Box::new(command))) {
                // One that is gone has no sessions.
                busy |= !shard.mailbox.is_closed();
                continue;
            }
            match answer.await {
                // It is on another shard, or the shard has just failed.
                Ok(Err(IceError::NoSession)) | Err(_) => {}
                Ok(found) => return found,
            }
        }
        if busy { Err(IceError::Busy) } else { Err(IceError::NoSession) }
    }

    /// Ends a session; its peer is told. False if there is no such session (any more).
    pub async fn close(&self, session: &SessionId) -> bool {
        let mut found = false;
        // Asking every shard is cheaper than keeping a table of which session is where.
        for reply in self.ask_all(|reply| Command::Close(session.clone(), reply)) {
            found |= reply.await.unwrap_or(false);
        }
        found
    }

    /// A viewer asks for a layer by its name ([`crate::QualityLayer::name`]), or, with `None`, for whatever suits its
    /// network. Returns what it gets now; what it gets later is told ([`crate::NoticeKind::Quality`]).
    ///
    /// # Errors
    /// [`PreferError`] if there is no such session or layer.
    pub async fn prefer(&self, session: &SessionId, layer: Option<String>) -> Result<Quality, PreferError> {
        let mut result = Err(PreferError::NoSession);
        for reply in self.ask_all(|reply| Command::Prefer(session.clone(), layer.clone(), reply)) {
            match reply.await {
                Ok(Err(PreferError::NoSession)) | Err(_) => {}
                Ok(found) => result = found,
            }
        }
        result
    }

    /// Ends every session, telling each peer, and takes no more offers. Done when all goodbyes are sent.
    pub async fn drain(&self) {
        for reply in self.ask_all(Command::Drain) {
            // A shard that is gone has nothing left to drain.
            let _ = reply.await;
        }
    }

    /// All counters at this moment.
    pub fn stats(&self) -> EdgeStats {
        EdgeStats { shards: self.shards.handles.iter().map(|shard| shard.counters.snapshot()).collect() }
    }

    /// What the node carries, what it may, and whether it takes more.
    pub fn node(&self) -> Node {
        let stats = self.stats();
        let load = |shard: &ShardStats| Load {
            viewers: shard.viewers,
            publishers: shard.publishers,
            cpu_percent: shard.cpu_ppm as f64 / 10_000.0,
            egress_bps: shard.egress_bps,
        };
        let has_room = |role| {
            let seats = self.seats(role);
            seats.taken() < seats.total() && self.choose(role).is_some()
        };
        Node {
            limits: self.shards.limits,
            accepts_viewers: has_room(Role::Viewer),
            accepts_publishers: has_room(Role::Publisher),
            shards: stats.shards.iter().map(load).collect(),
        }
    }

    async fn offer(
        &self,
        role: Role,
        session: SessionId,
        live: LiveId,
        relay: Arc<Relay>,
        offer: &str,
        ends: Option<Instant>,
    ) -> Result<Answer, OfferError> {
        if offer.len() > crate::MAX_OFFER_BYTES {
            return Err(OfferError::TooLarge);
        }
        let index = self.choose(role).ok_or(OfferError::Busy)?;
        // Taken before the answer is made, so that of many who come at once no more are let in than there is room for.
        let seats = self.seats(role);
        let seat = match role {
            // A host who comes back, before it was found out that they were gone.
            Role::Publisher if relay.broadcast().is_some() => seats.take(None).or_else(|_| seats.take_over()),
            Role::Publisher | Role::Viewer => seats.take(None),
        };
        let seat = match seat {
            Err(_) if role == Role::Viewer && self.make_room().await => seats.take(None),
            seat => seat,
        };
        let seat = seat.map_err(|_| OfferError::Full)?;
        let (reply, answer) = oneshot::channel();
        let command = OfferCommand { role, session, live, relay, sdp: offer.to_owned(), ends, seat };
        if !self.shards.handles[index].mailbox.command(Command::Offer(Box::new(command), reply)) {
            return Err(OfferError::Full);
        }
        answer.await.unwrap_or(Err(OfferError::Closed))
    }

    /// What the node sends to viewers in other ways, in bits a second: it counts against [`Limits::egress_bps`], too.
    pub fn sends_beside(&self, bps: u64) {
        self.shards.beside_bps.store(bps, Ordering::Relaxed);
    }

    /// Has a place given back by a viewer who is most likely gone. Whether one was.
    async fn make_room(&self) -> bool {
        for shard in &self.shards.handles {
            let (reply, answer) = oneshot::channel();
            // A shard that is gone has no places.
            if shard.mailbox.command(Command::MakeRoom(reply)) && answer.await.unwrap_or(false) {
                return true;
            }
        }
        false
    }

    /// The shard that takes a new session; `None` while the node is too busy for one.
    fn choose(&self, role: Role) -> Option<usize> {
        let load = |shard: &Handle| ShardLoad {
            cpu_ppm: shard.counters.cpu_ppm.get(),
            egress_bps: shard.counters.egress_bps.get(),
            sessions: shard.counters.publishers.get() + shard.counters.viewers.get(),
            measured_sessions: shard.counters.measured_sessions.get(),
        };
        // One that has failed takes nobody.
        let alive = self.shards.handles.iter().enumerate().filter(|(_, shard)| !shard.mailbox.is_closed());
        let (places, loads): (Vec<usize>, Vec<ShardLoad>) =
            alive.map(|(index, shard)| (index, load(shard))).unzip();
        let limits = &self.shards.limits;
        let ceiling = Ceiling { cpu_ppm: limits.cpu_percent * 10_000, egress_bps: limits.egress_bps };
        let beside_bps = self.shards.beside_bps.load(Ordering::Relaxed);
        load::choose(role, &loads, beside_bps, ceiling).map(|chosen| places[chosen])
    }

    fn seats(&self, role: Role) -> &Quota {
        match role {
            Role::Publisher => &self.shards.publishers,
            Role::Viewer => &self.shards.viewers,
        }
    }

    fn ask_all<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<oneshot::Receiver<T>> {
        let ask = |shard: &Handle| {
            let (reply, answer) = oneshot::channel();
            shard.mailbox.command(question(reply)).then_some(answer)
        };
        self.shards.handles.iter().filter_map(ask).collect()
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
        for shard in &self.handles {
            shard.mailbox.command(Command::Stop);
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // A shard that drops the last handle itself (from the observer) can't wait for its own end.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            // One that panicked has already said so.
            let _ = thread.join();
        }
    }
}

fn check(config: &EdgeConfig) -> Result<(), StartError> {
    let refuse = |why: String| Err(StartError::Config(why));
    if !(1..=MAX_SHARDS).contains(&config.shards) {
        return refuse(format!("shards must be from 1 to {MAX_SHARDS}, not {}", config.shards));
    }
    if !(1..=MAX_SOCKETS).contains(&config.bind.len()) {
        return refuse(format!(
            "from 1 to {MAX_SOCKETS} addresses can be bound to, not {}",
            config.bind.len()
        ));
    }
    if config.udp_port != 0 && usize::from(config.udp_port) + config.shards > 65_536 {
        return refuse(format!("{} shards do not fit above UDP port {}", config.shards, config.udp_port));
    }
    Ok(())
}

/// The addresses to bind to: as configured, without `::` where that is all that `probe` can't bind to.
fn bindable<T>(bind: &[IpAddr], probe: impl Fn(SocketAddr) -> io::Result<T>) -> Vec<IpAddr> {
    let mut bind = bind.to_vec();
    bind.dedup();
    let all_v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    if bind.len() > 1
        && bind.contains(&all_v6)
        && let Err(error) = probe(SocketAddr::new(all_v6, 0))
    {
        tracing::warn!(%error, "this machine has no IPv6: media goes over IPv4 only");
        bind.retain(|ip| *ip != all_v6);
    }
    bind
}

/// What answers name: the public addresses if there are any, else what is bound to, else all that this machine has.
fn addresses(config: &EdgeConfig, bind: &[IpAddr]) -> Result<Vec<IpAddr>, StartError> {
    let own = || socket::interface_addresses().map_err(|error| StartError::System(error.to_string()));
    let mut addresses = config.public_addresses.clone();
    if addresses.is_empty() {
        for ip in bind {
            match ip.is_unspecified() {
                true => addresses.extend(own()?.into_iter().filter(|own| own.is_ipv4() == ip.is_ipv4())),
                false => addresses.push(*ip),
            }
        }
    }
    let served = |address: &IpAddr| bind.iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
    addresses.retain(served);
    match addresses.is_empty() {
        true => {
            Err(StartError::Config("there is no address that clients could reach this machine by".to_owned()))
        }
        false => Ok(by_preference(addresses)),
    }
}

/// The families by turns, IPv6 first (RFC 8421, 4), so that neither has to wait for the other's whole list; loopback,
/// which helps nobody elsewhere, last.
fn by_preference(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut ranked = Vec::with_capacity(addresses.len());
    let (mut v6, mut v4) = (0, 0);
    // Sorting keeps the order among equals.
    let (loopback, far): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_loopback);
    for ip in far.into_iter().chain(loopback) {
        let turn = if ip.is_ipv6() { &mut v6 } else { &mut v4 };
        ranked.push((ip.is_loopback(), *turn, ip.is_ipv4(), ip));
        *turn += 1;
    }
    ranked.sort_by_key(|(loopback, turn, v4, _)| (*loopback, *turn, *v4));
    ranked.into_iter().map(|(.., ip)| ip).take(MAX_CANDIDATES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_loopback_comes_last() {
        let given = ["127.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "::1", "2001:db8::1"];
        let expected = ["2001:db8::1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "::1", "127.0.0.1"];
        assert_eq!(by_preference(ips(&given)), ips(&expected));
        assert_eq!(by_preference(vec![[10, 0, 0, 1].into(); 40]).len(), MAX_CANDIDATES);
    }

    #[test]
    fn a_machine_without_ipv6_goes_on_with_what_it_has() {
        let none = |address: SocketAddr| match address.is_ipv6() {
            true => Err(io::Error::from(io::ErrorKind::Unsupported)),
            false => Ok(()),
        };
        assert_eq!(bindable(&ips(&["0.0.0.0", "::"]), none), ips(&["0.0.0.0"]));
        // Asked for by itself, or by name, it is not left out: the start fails and says why.
        assert_eq!(bindable(&ips(&["::"]), none), ips(&["::"]));
        assert_eq!(bindable(&ips(&["0.0.0.0", "2001:db8::1"]), none), ips(&["0.0.0.0", "2001:db8::1"]));
        assert_eq!(bindable(&ips(&["0.0.0.0", "::"]), |_| Ok(())), ips(&["0.0.0.0", "::"]));
    }

    #[test]
    fn public_addresses_of_a_family_that_is_not_served_are_not_told() {
        let config = |bind: &[&str], public: &[&str]| EdgeConfig {
            bind: ips(bind),
            public_addresses: ips(public),
            ..EdgeConfig::default()
        };
        let told = |bind: &[&str], public: &[&str]| addresses(&config(bind, public), &ips(bind));
        let both = ["203.0.113.9", "2001:db8::9"];
        assert_eq!(told(&["0.0.0.0"], &both).unwrap(), ips(&["203.0.113.9"]));
        assert_eq!(told(&["0.0.0.0", "::"], &both).unwrap(), ips(&["2001:db8::9", "203.0.113.9"]));
        assert_eq!(told(&["127.0.0.1", "::1"], &[]).unwrap(), ips(&["::1", "127.0.0.1"]));
        assert!(told(&["0.0.0.0"], &["2001:db8::9"]).is_err());
    }
}
