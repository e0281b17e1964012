//! Which Redis a call goes to: the one there is, or the node of a cluster that has the live.
//!
//! All keys of a live are in one slot, so a call concerns one node, and `WAIT` on the connection that wrote answers for
//! it. That, and telling what was never sent from what was sent and not answered, is why the client library's own cluster
//! connection is not used: it retries unseen, over connections that it picks. A node that no longer has the slot says
//! who has (`MOVED`), before it runs anything. When a node fails, the others are asked who took over.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use haul_commerce::GateError;
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, Value, io::tcp::TcpSettings,
};
use tokio::time::{sleep, timeout};

use super::{
    RedisOptions,
    link::{Failed, Link},
    rooms::Wakes,
    script::Run,
};
use crate::{OpenError, error::without_password};

/// Slots of a cluster: Redis Cluster specification, "Key distribution model".
const SLOTS: u16 = 16_384;
/// How often one call is sent on. More means that two nodes point at each other, in the middle of a failover.
const MAX_REDIRECTS: u32 = 5;
/// After it was asked who has which slot, it is not asked again for so long.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);
/// Nodes of a cluster that are believed; a larger one is refused.
const MAX_NODES: usize = 1_000;
/// The checksum of the specification, by its usual name.
const SLOT_CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

/// The servers.
#[derive(Clone)]
pub(super) struct Nodes(Arc<Inner>);

struct Inner {
    /// How to reach a server, but for its address.
    template: ConnectionInfo,
    options: RedisOptions,
    /// Those of the configuration: asked when all others are gone.
    seeds: Vec<ConnectionAddr>,
    /// Whether it is a cluster.
    cluster: bool,
    /// Counts connections made anew and slots that changed hands: another number is another connection.
    changes: Arc<AtomicU64>,
    wakes: Option<Wakes>,
    /// Read by every call, changed when nodes come and go; held for a look, never across an await.
    map: Mutex<Map>,
    /// One task at a time asks who has which slot.
    refreshing: AtomicBool,
}

#[derive(Default)]
struct Map {
    /// By address.
    links: BTreeMap<String, Link>,
    /// The last slot of each range, and its node. Without a cluster, one for all.
    owners: BTreeMap<u16, String>,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Link> {
        let (_, address) = self.owners.range(slot..).next()?;
        self.links.get(address).cloned()
    }

    /// Gives one slot to a node.
    fn set_owner(&mut self, slot: u16, address: &str) {
        let before = self.owners.range(slot..).next().map(|(_, owner)| owner.clone());
        if before.as_deref() == Some(address) {
            return;
        }
        if let (Some(before), Some(last)) = (before, slot.checked_sub(1)) {
            // Up to the slot, things stay as they are.
            self.owners.entry(last).or_insert(before);
        }
        self.owners.insert(slot, address.to_owned());
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nodes").field(&self.0.seeds).finish()
    }
}

/// The slot of a key: of what stands between its first braces (specification, "Hash tags").
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    SLOT_CRC.checksum(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

impl Nodes {
    /// Connects to `redis://` or `rediss://[user:password@]host[:port][,host[:port]…][/db]`: to the first that answers.
    /// If that is part of a cluster, to all of the cluster.
    ///
    /// `wakes`: whom to wake when something is published, if anybody.
    pub(super) async fn open(
        url: &str,
        options: &RedisOptions,
        wakes: Option<Wakes>,
    ) -> Result<Self, OpenError> {
        let (template, seeds) = read_url(url)?;
        let changes = Arc::new(AtomicU64::new(0));
        let mut failed = None;
        for seed in &seeds {
            let link = match Link::open(
                template.clone().set_addr(seed.clone()),
                options,
                changes.clone(),
                wakes.clone(),
            )
            .await
            {
                Ok(link) => link,
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            let address = seed.to_string();
            let cluster = link.is_cluster().await;
            let map = Map {
                links: BTreeMap::from([(address.clone(), link)]),
                owners: BTreeMap::from([(SLOTS - 1, address.clone())]),
            };
            let nodes = Self(Arc::new(Inner {
                template,
                options: options.clone(),
                seeds: seeds.clone(),
                cluster,
                changes,
                wakes: wakes.clone(),
                map: Mutex::new(map),
                refreshing: AtomicBool::new(false),
            }));
            if cluster {
                nodes.refresh().await.map_err(|why| OpenError::Redis { address, why })?;
            }
            return Ok(nodes);
        }
        Err(failed.unwrap_or_else(|| bad_address(url, "it names no server")))
    }

    /// Which connections these are: another number is another connection.
    pub(super) fn number(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Runs a script that changes something of `key`, and where replicas are waited for, sees that they have it.
    pub(super) async fn call_and_wait(&self, key: &str, run: Run<'_>) -> Result<Value, GateError> {
        self.routed(key, &run, true).await
    }

    /// Runs a script on what has `key`.
    pub(super) async fn call(&self, key: &str, run: Run<'_>) -> Result<Value, GateError> {
        self.routed(key, &run, false).await
    }

    /// Runs a script that needs no key, on any server.
    pub(super) async fn call_any(&self, run: Run<'_>) -> Result<Value, GateError> {
        let links: Vec<_> = self.map().links.values().cloned().collect();
        let mut failed = GateError::Unavailable("no Redis is known".to_owned());
        for link in links {
            match link.call(&run, false, false).await {
                Ok(value) => return Ok(value),
                Err(Failed::Gate(error @ GateError::Unavailable(_))) => failed = error,
                Err(error) => return Err(error.error()),
            }
        }
        self.refresh_soon();
        Err(failed)
    }

    async fn routed(&self, key: &str, run: &Run<'_>, wait: bool) -> Result<Value, GateError> {
        let slot = slot(key);
        let none = || GateError::Unavailable(format!("no node of the cluster has slot {slot}"));
        let mut link = self.map().owner(slot);
        let mut asking = false;
        for _ in 0..MAX_REDIRECTS {
            let Some(now) = link else {
                self.refresh_soon();
                return Err(none());
            };
            match now.call(run, asking, wait).await {
                Ok(value) => return Ok(value),
                // It ran nothing: the slot is another's now.
                Err(Failed::Moved(address)) => {
                    (link, asking) = (Some(self.node(&address).await?), false);
                    self.map().set_owner(slot, &address);
                    self.0.changes.fetch_add(1, Ordering::AcqRel);
                    self.refresh_soon();
                }
                // The slot is on its way to another: this question goes there, later ones come here first.
                Err(Failed::Ask(address)) => (link, asking) = (Some(self.node(&address).await?), true),
                Err(Failed::Gate(error)) => {
                    if matches!(error, GateError::Unavailable(_) | GateError::Unknown(_)) {
                        self.refresh_soon();
                    }
                    return Err(error);
                }
            }
        }
        Err(GateError::Unavailable(format!("slot {slot} of the cluster was moved {MAX_REDIRECTS} times")))
    }

    /// The node at an address that another node has named.
    async fn node(&self, address: &str) -> Result<Link, GateError> {
        if let Some(link) = self.map().links.get(address) {
            return Ok(link.clone());
        }
        let link = self.connect(address).await.map_err(|error| GateError::Unavailable(error.to_string()))?;
        Ok(self.map().links.entry(address.to_owned()).or_insert(link).clone())
    }

    async fn connect(&self, address: &str) -> Result<Link, OpenError> {
        let Inner { template, options, changes, wakes, .. } = &*self.0;
        let addr =
            at(template.addr(), address).ok_or_else(|| bad_address(address, "a node has no such address"))?;
        Link::open(template.clone().set_addr(addr), options, changes.clone(), wakes.clone()).await
    }

    /// Has the cluster asked who has which slot, unless it is being asked.
    fn refresh_soon(&self) {
        if !self.0.cluster || self.0.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let nodes = self.clone();
        tokio::spawn(async move {
            if let Err(why) = nodes.refresh().await {
                tracing::warn!(why, "no node of the Redis cluster says who has which slot");
            }
            sleep(REFRESH_PAUSE).await;
            nodes.0.refreshing.store(false, Ordering::Release);
        });
    }

    /// Asks node after node, those of the configuration last, who has which slot.
    async fn refresh(&self) -> Result<(), String> {
        let known: Vec<_> = self.map().links.values().cloned().collect();
        let mut why = "no node is known".to_owned();
        for link in known {
            match self.ask_slots(&link).await {
                Ok(owners) => return self.learn(owners).await,
                Err(error) => why = error,
            }
        }
        for seed in self.0.seeds.clone() {
            let address = seed.to_string();
            if self.map().links.contains_key(&address) {
                continue;
            }
            match self.connect(&address).await {
                Ok(link) => match self.ask_slots(&link).await {
                    Ok(owners) => return self.learn(owners).await,
                    Err(error) => why = error,
                },
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    async fn ask_slots(&self, link: &Link) -> Result<BTreeMap<u16, String>, String> {
        let asked = timeout(self.0.options.connect_timeout, link.slots()).await;
        let value = asked.map_err(|_| "no answer".to_owned())??;
        let owners = read_slots(&value, link.host());
        owners.filter(|owners| !owners.is_empty()).ok_or_else(|| format!("it has the slots {value:?}"))
    }

    async fn learn(&self, owners: BTreeMap<u16, String>) -> Result<(), String> {
        let mut addresses: Vec<_> = owners.values().cloned().collect();
        addresses.sort();
        addresses.dedup();
        if addresses.len() > MAX_NODES {
            return Err(format!("it has {} nodes, and at most {MAX_NODES} are possible", addresses.len()));
        }
        let mut links = BTreeMap::new();
        for address in addresses {
            let known = self.map().links.get(&address).cloned();
            let link = match known {
                Some(link) => link,
                None => match self.connect(&address).await {
                    Ok(link) => link,
                    // Its lives are unavailable until it answers or another has its slots.
                    Err(error) => {
                        tracing::warn!(%error, "a node of the Redis cluster does not answer");
                        continue;
                    }
                },
            };
            links.insert(address, link);
        }
        let mut map = self.map();
        if map.owners != owners {
            self.0.changes.fetch_add(1, Ordering::AcqRel);
        }
        // Those that are gone stop trying to connect when nobody has them.
        let gone = mem::replace(&mut *map, Map { links, owners });
        drop(map);
        drop(gone);
        Ok(())
    }

    /// What the settings of these servers could cost.
    pub(super) async fn weaknesses(&self) -> Vec<String> {
        let links: Vec<_> =
            self.map().links.iter().map(|(address, link)| (address.clone(), link.clone())).collect();
        let mut found = Vec::new();
        for (address, link) in links {
            let told = link.weaknesses().await;
            found.extend(told.into_iter().map(|weakness| match self.0.cluster {
                true => format!("{address}: {weakness}"),
                false => weakness,
            }));
        }
        found
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        // Nothing panics while it is held.
        self.0.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bad_address(url: &str, why: &str) -> OpenError {
    OpenError::Address {
        what: "a Redis server (redis://host:port, or rediss:// with TLS)",
        given: without_password(url),
        why: why.to_owned(),
    }
}

/// A URL with several hosts, as one for each.
fn read_url(url: &str) -> Result<(ConnectionInfo, Vec<ConnectionAddr>), OpenError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (hosts, path) = rest.split_at(end);
    let mut seeds = Vec::new();
    let mut template = None;
    for host in hosts.split(',') {
        let at = if user.is_empty() { "" } else { "@" };
        let one = format!("{scheme}://{user}{at}{host}{path}");
        let one = if scheme.is_empty() { url.to_owned() } else { one };
        let info =
            one.as_str().into_connection_info().map_err(|error| bad_address(url, &error.to_string()))?;
        seeds.push(info.addr().clone());
        template.get_or_insert(info);
    }
    let info = template.ok_or_else(|| bad_address(url, "it names no server"))?;
    // RESP3 is what tells of a lost connection before somebody uses it.
    let resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(resp3).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok((info, seeds))
}

/// The same kind of address, elsewhere.
fn at(template: &ConnectionAddr, address: &str) -> Option<ConnectionAddr> {
    let (host, port) = address.rsplit_once(':')?;
    let (host, port) = (host.to_owned(), port.parse().ok()?);
    Some(match template {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    })
}

/// `CLUSTER SLOTS`: for each range its first and last slot, its primary (host, port, …), and its replicas. A node that
/// does not know its own address gives none: it is the one that was asked.
fn read_slots(value: &Value, asked: &str) -> Option<BTreeMap<u16, String>> {
    let Value::Array(ranges) = value else { return None };
    let mut owners = BTreeMap::new();
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [_, Value::Int(last), Value::Array(primary), ..] = &range[..] else { return None };
        let [host, Value::Int(port), ..] = &primary[..] else { return None };
        let host = match host {
            Value::BulkString(host) => std::str::from_utf8(host).ok()?,
            Value::SimpleString(host) => host,
            Value::Nil => "",
            _ => return None,
        };
        let host = if host.is_empty() { asked } else { host };
        owners.insert(u16::try_from(*last).ok()?, format!("{host}:{port}"));
    }
    Some(owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // Of its appendix: CRC16("123456789") is 0x31C3.
        assert_eq!(slot("123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot("haul:{main/demo}/sale_1"), slot("haul:{main/demo}/sale_2/holds"));
        assert_eq!(slot("{main/demo}"), slot("main/demo"));
        assert_eq!(slot("foo{}{bar}"), SLOT_CRC.checksum(b"foo{}{bar}") % SLOTS, "an empty tag is none");
    }

    #[test]
    fn a_slot_that_moved_takes_no_other_along() {
        let mut map = Map {
            owners: BTreeMap::from([(99, "a:1".to_owned()), (200, "b:1".to_owned())]),
            ..Map::default()
        };
        let owner = |map: &Map, slot| map.owners.range(slot..).next().map(|(_, owner)| owner.clone());
        map.set_owner(50, "c:1");
        map.set_owner(0, "d:1");
        map.set_owner(120, "b:1");
        for (slot, known) in
            [(0, "d:1"), (1, "a:1"), (49, "a:1"), (50, "c:1"), (51, "a:1"), (99, "a:1"), (100, "b:1")]
        {
            assert_eq!(owner(&map, slot).as_deref(), Some(known), "{slot}");
        }
        assert_eq!(owner(&map, 201), None);
    }

    #[test]
    fn an_address_may_name_several_servers() {
        let (info, seeds) = read_url("rediss://shop:p%40ss@a:1,b,c:3/2").unwrap();
        let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["a:1", "b:6379", "c:3"]);
        assert!(
            matches!(at(info.addr(), "d:4"), Some(ConnectionAddr::TcpTls { host, port: 4, .. }) if host == "d")
        );
        let (info, _) = read_url("redis://a:1").unwrap();
        assert!(matches!(at(info.addr(), "::1:4"), Some(ConnectionAddr::Tcp(host, 4)) if host == "::1"));
    }
}
