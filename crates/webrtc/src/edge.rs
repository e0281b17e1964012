//! The edge as the async side sees it: offers in, answers out.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use haul_media::Relay;
use haul_model::{LiveId, SessionId};
use tokio::sync::oneshot;

use crate::{
    EdgeConfig, EdgeStats, Notice, OfferError, Role, StartError,
    config::MAX_SHARDS,
    connection::Identity,
    mailbox::{Command, Mailbox, OfferCommand},
    shard::{Plan, Shard},
    socket,
    stats::Counters,
};

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

struct Shards {
    handles: Vec<Handle>,
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
        let addresses = addresses(&config)?;
        let mut edge = Shards { handles: Vec::new(), threads: Mutex::default() };
        for index in 0..config.shards {
            let port = if config.udp_port == 0 { 0 } else { config.udp_port + index as u16 };
            let plan = Plan {
                index,
                bind: SocketAddr::new(config.bind, port),
                addresses: addresses.clone(),
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
        self.offer(Role::Publisher, session, live, relay, offer).await
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
        if relay.broadcast().is_none() {
            return Err(OfferError::NoBroadcast);
        }
        self.offer(Role::Viewer, session, live, relay, offer).await
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

    async fn offer(
        &self,
        role: Role,
        session: SessionId,
        live: LiveId,
        relay: Arc<Relay>,
        offer: &str,
    ) -> Result<Answer, OfferError> {
        if offer.len() > crate::MAX_OFFER_BYTES {
            return Err(OfferError::TooLarge);
        }
        let sessions = |shard: &&Handle| shard.counters.publishers.get() + shard.counters.viewers.get();
        let Some(shard) = self.shards.handles.iter().min_by_key(sessions) else {
            return Err(OfferError::Closed);
        };
        let (reply, answer) = oneshot::channel();
        let command = OfferCommand { role, session, live, relay, sdp: offer.to_owned(), reply };
        if !shard.mailbox.command(Command::Offer(Box::new(command))) {
            return Err(OfferError::Full);
        }
        answer.await.unwrap_or(Err(OfferError::Closed))
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
    if config.udp_port != 0 && usize::from(config.udp_port) + config.shards > 65_536 {
        return refuse(format!("{} shards do not fit above UDP port {}", config.shards, config.udp_port));
    }
    Ok(())
}

/// What answers name: the public addresses if there are any, else what is bound to, else all that this machine has.
fn addresses(config: &EdgeConfig) -> Result<Vec<IpAddr>, StartError> {
    let mut addresses = match &config.public_addresses[..] {
        [] if config.bind.is_unspecified() => {
            socket::interface_addresses().map_err(|error| StartError::System(error.to_string()))?
        }
        [] => vec![config.bind],
        public => public.to_vec(),
    };
    addresses.retain(|address| address.is_ipv4() == config.bind.is_ipv4());
    match addresses.is_empty() {
        true => {
            Err(StartError::Config("there is no address that clients could reach this machine by".to_owned()))
        }
        false => Ok(addresses),
    }
}
