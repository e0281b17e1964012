//! Viewers by Media over QUIC: each with an endpoint of its own, over WebTransport, as `moq-net`'s clients do it.
//!
//! What is measured is what arrives: whole pictures, in groups that begin with keyframes. QUIC repairs what a network
//! loses, so there are no lost packets to count. A group that is too old is not sent to its end, and counted; one that is
//! not sent at all shows as a freeze, since groups need not be numbered one after another.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use moq_net::{broadcast, origin, track};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use web_transport_quinn::proto::ConnectRequest;

use crate::{
    http::{Call, Client},
    late::Lateness,
    moq_tls,
    network::Network,
    outage::Outage,
    pace::Pace,
    plan::Number,
    pool::Complaints,
    quic_socket,
    stamp::Stamp,
    tally::{Count, Gauges, Shared, Tally, Time},
};

/// How long a session may take to show a picture.
const PICTURE_WITHIN: Duration = Duration::from_secs(15);
/// How long whoever has seen something waits for a host to return.
const PATIENCE_FOR_A_HOST: Duration = Duration::from_secs(3_600);
/// How long a viewer waits before another attempt: doubled each time, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Groups older than this behind the newest are not waited for, as players do it.
const MAX_AGE: Duration = Duration::from_secs(2);
/// How long after the picture is steady delays are measured: what was replayed to a newcomer is old by design.
const SETTLED: Duration = Duration::from_secs(1);
/// Where in a picture a stamp is looked for: an encoder's parameter sets stand before it, or it stands at the end.
const STAMP_WITHIN: usize = 512;
/// The longest catalog.
const MAX_CATALOG: usize = 256 << 10;

/// Why there is no session.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum MoqError {
    /// The server has none, or does not say where.
    #[error("MoQ: {0}")]
    Door(String),
    /// No connection, or it was refused.
    #[error("MoQ: can't connect: {0}")]
    Connect(String),
    /// Connected, and nothing that could be watched.
    #[error("MoQ: {0}")]
    Nothing(&'static str),
}

/// Where a server's MoQ edge is, and whom it has to be.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// The URL to which the live's name is added.
    url: String,
    tls: quinn::ClientConfig,
}

impl Door {
    /// Asks a server at `base` where its edge is. `trusted` are the authorities of this system.
    pub(crate) async fn ask(client: &Client, base: &str) -> Result<Self, MoqError> {
        let url = format!("{base}/v1/moq");
        let call = Call { method: "GET", url, ..Call::default() };
        let answer = client.call_shared(call).await.map_err(|error| MoqError::Door(error.to_string()))?;
        if !answer.status.is_success() {
            return Err(MoqError::Door(answer.complaint()));
        }
        let door = answer.json();
        let url = match (door["url"].as_str(), door["port"].as_u64()) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(port)) => {
                let mut url = url::Url::parse(base).map_err(|error| MoqError::Door(error.to_string()))?;
                let no_place = || MoqError::Door(format!("no https address beside {base}"));
                // An http URL may not become an https one in place: `set_scheme` permits this change.
                url.set_scheme("https").map_err(|()| no_place())?;
                url.set_port(Some(port as u16)).map_err(|()| no_place())?;
                url.as_str().trim_end_matches('/').to_owned()
            }
            (None, None) => return Err(MoqError::Door("the server does not say where".to_owned())),
        };
        Self::at(client, url, door["certificate_sha256"].as_str())
    }

    /// The URL of a live.
    pub(crate) fn url(&self, live: &str) -> String {
        format!("{}/{live}", self.url)
    }

    /// Opens a session for a live.
    pub(crate) async fn connect(
        &self,
        endpoint: &quinn::Endpoint,
        live: &str,
        token: Option<&str>,
    ) -> Result<web_transport_quinn::Session, MoqError> {
        let failed = |error: &dyn std::fmt::Display| MoqError::Connect(error.to_string());
        let mut url = url::Url::parse(&self.url(live)).map_err(|error| failed(&error))?;
        if let Some(token) = token {
            url.query_pairs_mut().append_pair("jwt", token);
        }
        let connector = web_transport_quinn::Client::new(endpoint.clone(), self.tls.clone());
        let protocols = moq_net::ALPNS.iter().map(|one| (*one).to_owned());
        let request = ConnectRequest::new(url).with_protocols(protocols);
        connector.connect(request).await.map_err(|error| failed(&error))
    }

    /// An edge at a URL, whose certificate has this hash, or is signed by an authority that this system trusts.
    pub(crate) fn at(client: &Client, url: String, sha256: Option<&str>) -> Result<Self, MoqError> {
        let roots = client.roots();
        let tls = moq_tls::config(roots, sha256).map_err(|error| MoqError::Door(error.to_string()))?;
        Ok(Self { url, tls })
    }
}

/// What all MoQ viewers of a run share.
#[derive(Clone)]
pub(crate) struct Audience {
    pub(crate) door: Door,
    /// What each live is called.
    pub(crate) lives: Vec<String>,
    /// Each viewer's token, by number.
    pub(crate) tokens: Arc<Vec<String>>,
    pub(crate) source: SocketAddr,
    pub(crate) run: u32,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) complaints: Arc<Complaints>,
    pub(crate) tally: Shared,
}

/// The viewers who are there.
pub(crate) struct Viewers {
    audience: Audience,
    seats: Mutex<HashMap<Number, Seat>>,
}

/// A viewer's place.
struct Seat {
    /// How they are told to leave.
    leave: watch::Sender<bool>,
    /// Over when they have.
    task: JoinHandle<()>,
    line: Line,
    /// Told of each failure of the network.
    fails: watch::Sender<u32>,
}

/// A viewer's network, and a failure of it that they are not back from.
#[derive(Clone, Default)]
struct Line {
    network: Network,
    outage: Arc<Mutex<Option<Outage>>>,
}

impl Line {
    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewers {
    pub(crate) fn new(audience: Audience) -> Self {
        Self { audience, seats: Mutex::default() }
    }

    pub(crate) fn tally(&self) -> &Shared {
        &self.audience.tally
    }

    /// A viewer comes.
    pub(crate) fn watch(&self, number: Number, live: usize) {
        let ((leave, leaving), (fails, failed)) = (watch::channel(false), watch::channel(0));
        let line = Line::default();
        let task = tokio::spawn(viewer(self.audience.clone(), number, live, line.clone(), failed, leaving));
        self.seats().insert(number, Seat { leave, task, line, fails });
    }

    /// A viewer's network fails until then; with `roams`, another one returns.
    pub(crate) fn fail_network(&self, number: Number, until: Instant, roams: bool) {
        let seats = self.seats();
        let Some(seat) = seats.get(&number) else { return };
        seat.line.network.fail(until, roams);
        let was_away = {
            let mut outage = seat.line.outage();
            let was_away = outage.is_some();
            outage.get_or_insert_with(|| Outage::new(until, false, false)).again(until, roams);
            was_away
        };
        self.audience.tally.lock().count(Count::DropViewers, u64::from(!was_away));
        seat.fails.send_modify(|failures| *failures += 1);
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<Number, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A viewer leaves.
    pub(crate) fn leave(&self, number: Number) {
        if let Some(seat) = self.seats().remove(&number) {
            seat.leave.send_replace(true);
        }
    }

    /// Everybody leaves.
    pub(crate) async fn stop(&self) {
        let seats = std::mem::take(&mut *self.seats());
        for Seat { leave, task, .. } in seats.into_values() {
            leave.send_replace(true);
            let _ = task.await;
        }
    }
}

/// Somebody who watches, and tries again when there is nothing to see.
async fn viewer(
    audience: Audience,
    number: Number,
    live: usize,
    line: Line,
    failed: watch::Receiver<u32>,
    mut leaving: watch::Receiver<bool>,
) {
    try_to_watch(&audience, number, live, &line, failed, &mut leaving).await;
    if let Some(outage) = line.outage().take() {
        outage.leave(Instant::now(), &mut audience.tally.lock());
    }
}

async fn try_to_watch(
    audience: &Audience,
    number: Number,
    live: usize,
    line: &Line,
    failed: watch::Receiver<u32>,
    leaving: &mut watch::Receiver<bool>,
) {
    let (mut wait, last) = RETRY;
    loop {
        tokio::select! {
            biased;
            _ = leaving.wait_for(|leaves| *leaves) => return,
            () = line.network.there() => {}
        }
        let count = |count| audience.tally.lock().count(count, 1);
        count(Count::MoqAttempts);
        let mut session = Session::new(audience, line);
        let result = tokio::select! {
            biased;
            _ = leaving.wait_for(|leaves| *leaves) => None,
            result = session.watch(number, live, failed.clone()) => Some(result),
        };
        let had_picture = session.end();
        if result.is_some()
            && session.was_interrupted()
            && let Some(outage) = &mut *line.outage()
        {
            // Its end is our own doing: what counts is whether they come back.
            outage.session_over();
            continue;
        }
        match result {
            None => return,
            Some(Err(error)) => {
                count(if had_picture { Count::MoqEnded } else { Count::MoqFailed });
                audience.complaints.add(&error.to_string());
            }
            Some(Ok(())) => {
                count(if had_picture { Count::MoqEnded } else { Count::MoqFailed });
                audience.complaints.add("MoQ: the server ended a viewer's session, or fell silent");
            }
        }
        if had_picture {
            wait = RETRY.0;
        }
        tokio::select! {
            _ = leaving.wait_for(|leaves| *leaves) => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(last);
    }
}

/// One session, and what it has seen.
struct Session<'a> {
    audience: &'a Audience,
    line: &'a Line,
    /// How often the network had failed when it began.
    failures: u32,
    begun: Instant,
    connected: Option<Instant>,
    /// What was counted already, so that it is counted once.
    told: (u64, Duration, Duration, Duration),
    pace: Pace,
    lateness: Lateness,
    had_picture: bool,
    was_steady: bool,
}

impl<'a> Session<'a> {
    fn new(audience: &'a Audience, line: &'a Line) -> Self {
        Self {
            audience,
            line,
            failures: line.network.failures(),
            begun: Instant::now(),
            connected: None,
            told: Default::default(),
            pace: Pace::default(),
            lateness: Lateness::default(),
            had_picture: false,
            was_steady: false,
        }
    }

    /// Watches until it ends: with an error if it never began.
    async fn watch(
        &mut self,
        number: Number,
        live: usize,
        failed: watch::Receiver<u32>,
    ) -> Result<(), MoqError> {
        let connect = |error: &dyn std::fmt::Display| MoqError::Connect(error.to_string());
        let Audience { door, lives, tokens, source, .. } = self.audience;
        let token = tokens.get(number as usize).or(tokens.first()).map(String::as_str);
        let mut tasks = JoinSet::new();
        let opened = timeout(PICTURE_WITHIN, async {
            let network = &self.line.network;
            let endpoint = quic_socket::endpoint(*source, network).map_err(|error| connect(&error))?;
            tasks.spawn(roam(endpoint.clone(), network.clone(), *source, failed));
            let transport = door.connect(&endpoint, &lives[live], token).await?;
            let (offers, driver) = origin::Producer::new(origin::Config::default());
            tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
            let client = moq_net::Client::new().with_subscriber(offers.clone());
            let (session, driver) =
                client.connect(Instant::now(), transport).await.map_err(|error| connect(&error))?;
            tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
            self.opened();
            Ok((session, endpoint, offers))
        });
        let (session, _endpoint, offers) =
            opened.await.unwrap_or(Err(MoqError::Nothing("not connected in time")))?;
        let consumer = offers.consume();
        let mut announced = consumer.announced();
        // A host who goes and returns is a broadcast that ends, and another one.
        loop {
            let next = async {
                loop {
                    match announced.next().await {
                        Some(update) if update.kind.is_active() => return Some(update.prefix),
                        Some(_) => {}
                        None => return None,
                    }
                }
            };
            let patience = if self.had_picture { PATIENCE_FOR_A_HOST } else { PICTURE_WITHIN };
            let prefix = tokio::select! {
                prefix = timeout(patience, next) => prefix.ok().flatten(),
                _ = session.closed() => return Ok(()),
            };
            let prefix = prefix.ok_or(MoqError::Nothing("nothing was announced in time"))?;
            let broadcast = consumer.request_broadcast(&prefix).await;
            let broadcast = broadcast.map_err(|_| MoqError::Nothing("what was announced is not there"))?;
            tokio::select! {
                result = self.play(&broadcast, &mut tasks) => result?,
                _ = session.closed() => return Ok(()),
            }
        }
    }

    /// Plays a broadcast until it ends.
    async fn play(
        &mut self,
        broadcast: &broadcast::Consumer,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), MoqError> {
        let catalog = timeout(PICTURE_WITHIN, catalog(broadcast)).await.ok().flatten();
        let catalog = catalog.ok_or(MoqError::Nothing("no catalog in time"))?;
        let video =
            largest(&catalog["video"]["renditions"]).ok_or(MoqError::Nothing("no picture on offer"))?;
        if let Some(sound) = catalog["audio"]["renditions"].as_object().and_then(|all| all.keys().next()) {
            tasks.spawn(listen(broadcast.clone(), sound.clone(), self.audience.tally.clone()));
        }
        self.pictures(broadcast, &video).await
    }

    fn opened(&mut self) {
        let now = Instant::now();
        self.connected = Some(now);
        self.audience.gauges.viewers.add(1);
        self.joining(Time::MoqConnected, now, &mut self.audience.tally.lock());
    }

    /// Whether the network failed meanwhile.
    fn was_interrupted(&self) -> bool {
        self.line.network.failures() != self.failures
    }

    /// A step of joining is done. What waited for our own network is not measured.
    fn joining(&self, time: Time, at: Instant, tally: &mut Tally) {
        if !self.was_interrupted() {
            tally.record(time, at.saturating_duration_since(self.begun));
        }
    }

    async fn pictures(&mut self, broadcast: &broadcast::Consumer, name: &str) -> Result<(), MoqError> {
        let nothing = |_| MoqError::Nothing("the picture's track is not there");
        let subscription = track::Subscription::default().with_max_age(MAX_AGE);
        let track = broadcast.track(name).map_err(nothing)?.subscribe(subscription).await.map_err(nothing)?;
        let mut groups = track.ordered();
        loop {
            // Who has had a picture waits for the next as long as the session stands.
            let group = match timeout(PICTURE_WITHIN, groups.next_group()).await {
                Ok(Ok(group)) => group,
                Ok(Err(_)) => None,
                Err(_) if self.had_picture => continue,
                Err(_) => return Err(MoqError::Nothing("no picture in time")),
            };
            let Some(mut group) = group else { return Ok(()) };
            loop {
                match group.read_frame().await {
                    Ok(Some(frame)) => self.picture(&frame.payload),
                    Ok(None) => break,
                    Err(_) => {
                        self.audience.tally.lock().count(Count::MoqBroken, 1);
                        break;
                    }
                }
            }
        }
    }

    /// A picture has come whole.
    fn picture(&mut self, frame: &[u8]) {
        let now = Instant::now();
        self.pace.frame(now);
        let mut tally = self.audience.tally.lock();
        tally.count(Count::MoqFrames, 1);
        tally.count(Count::MoqBytes, frame.len() as u64);
        if !std::mem::replace(&mut self.had_picture, true) {
            self.joining(Time::MoqFirstPicture, now, &mut tally);
            tally.count(Count::MoqPictures, 1);
        }
        if let Some(since) = self.pace.steady_since.filter(|_| !self.was_steady) {
            self.was_steady = true;
            self.joining(Time::MoqSteady, since, &mut tally);
        }
        if self.line.network.has_failed() {
            let mut outage = self.line.outage();
            if outage.as_mut().is_some_and(|outage| outage.picture(now, &mut tally)) {
                *outage = None;
            }
        }
        if self.pace.watched_from.is_some_and(|from| now > from + SETTLED)
            && let Some(stamp) = find_stamp(frame)
        {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            tally.count(Count::OtherClock, u64::from(stamp.run != self.audience.run));
            let delay = wall.saturating_sub(Duration::from_micros(stamp.sent_us));
            if self.line.network.back_for().is_none_or(|back| delay <= back) {
                tally.record(Time::MoqDelay, delay);
                if let Some(gap) = self.pace.average() {
                    let before = (self.lateness.watched, self.lateness.late);
                    self.lateness.picture(Duration::from_micros(stamp.sent_us), delay, gap, now);
                    for (count, now, then) in [
                        (Count::MoqStampedUs, self.lateness.watched, before.0),
                        (Count::MoqLateUs, self.lateness.late, before.1),
                    ] {
                        tally.count(count, (now - then).as_micros() as u64);
                    }
                }
            }
        }
        drop(tally);
        self.tell(now);
    }

    /// Counts what has come to pass since the last time.
    fn tell(&mut self, now: Instant) {
        let connected = self.connected.map_or(Duration::ZERO, |from| now - from);
        let all = (self.pace.freezes, self.pace.frozen, self.pace.watched(now), connected);
        let before = std::mem::replace(&mut self.told, all);
        let mut tally = self.audience.tally.lock();
        tally.count(Count::MoqFreezes, all.0 - before.0);
        for (count, now, then) in [
            (Count::MoqFrozenUs, all.1, before.1),
            (Count::MoqWatchedUs, all.2, before.2),
            (Count::MoqConnectedUs, all.3, before.3),
        ] {
            tally.count(count, now.saturating_sub(then).as_micros() as u64);
        }
    }

    /// It is over. Returns whether there ever was a picture.
    fn end(&mut self) -> bool {
        let now = Instant::now();
        self.pace.end(now);
        self.tell(now);
        if self.connected.take().is_some() {
            self.audience.gauges.viewers.add(-1);
        }
        self.had_picture
    }
}

/// Takes another address whenever the network is another one.
async fn roam(
    endpoint: quinn::Endpoint,
    network: Network,
    source: SocketAddr,
    mut failed: watch::Receiver<u32>,
) {
    let mut generation = network.generation();
    while failed.changed().await.is_ok() {
        network.there().await;
        let now = network.generation();
        if std::mem::replace(&mut generation, now) != now
            && let Ok(socket) = quic_socket::bind(source, &network)
        {
            // Refused, the old one stays: then the viewer is not heard any more, and comes anew.
            let _ = endpoint.rebind_abstract(socket);
        }
    }
}

/// Sound is received and counted.
async fn listen(broadcast: broadcast::Consumer, name: String, tally: Shared) {
    let subscription = track::Subscription::default().with_max_age(MAX_AGE);
    let Ok(track) = broadcast.track(&name) else { return };
    let Ok(track) = track.subscribe(subscription).await else { return };
    let mut groups = track.ordered();
    while let Ok(Some(mut group)) = groups.next_group().await {
        while let Ok(Some(frame)) = group.read_frame().await {
            tally.lock().count(Count::MoqBytes, frame.payload.len() as u64);
        }
    }
}

/// The broadcast's catalog, as it is now.
async fn catalog(broadcast: &broadcast::Consumer) -> Option<serde_json::Value> {
    let track = broadcast.track("catalog.json").ok()?;
    let mut track = track.subscribe(track::Subscription::default()).await.ok()?;
    let mut group = track.recv_group().await.ok()??;
    let frame = group.read_frame().await.ok()??;
    if frame.payload.len() > MAX_CATALOG {
        return None;
    }
    serde_json::from_slice(&frame.payload).ok()
}

/// The rendition with the most lines; the first where none says.
fn largest(renditions: &serde_json::Value) -> Option<String> {
    let lines = |rendition: &serde_json::Value| rendition["codedHeight"].as_u64().unwrap_or(0);
    let all = renditions.as_object()?.iter();
    all.rev().max_by_key(|(_, rendition)| lines(rendition)).map(|(name, _)| name.clone())
}

fn find_stamp(frame: &[u8]) -> Option<Stamp> {
    let (head, tail) = (STAMP_WITHIN.min(frame.len()), frame.len().saturating_sub(STAMP_WITHIN));
    Stamp::find(&frame[..head]).or_else(|| Stamp::find(&frame[tail..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_largest_rendition_is_watched() {
        let layers = json!({ "video-f": { "codedHeight": 360 }, "video-q": { "codedHeight": 90 }, "x": {} });
        assert_eq!(largest(&layers).as_deref(), Some("video-f"));
        assert_eq!(largest(&json!({ "a": {}, "b": {} })).as_deref(), Some("a"));
        assert_eq!(largest(&json!({})), None);
        assert_eq!(largest(&json!(null)), None);
    }

    #[test]
    fn stamps_are_found_at_either_end() {
        let stamp = Stamp { run: 1, sent_us: 2, layer: 0 };
        let filling = vec![7; 20_000];
        for frame in [[&[0; 40][..], &stamp.sei(), &filling].concat(), [&filling[..], &stamp.text()].concat()]
        {
            assert_eq!(find_stamp(&frame), Some(stamp));
        }
        assert_eq!(find_stamp(&filling), None);
        assert_eq!(find_stamp(&[]), None);
    }
}
