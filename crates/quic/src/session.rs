//! One client's session, from its handshake to its end.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use moq_net::{PathOwned, Pattern, Patterns, SessionError, announce, origin, server::Handshake};
use tokio::time::{interval, sleep_until, timeout};
use web_transport_quinn::http::StatusCode;

use crate::{
    Asks, Guest, Refusal,
    edge::{MAX_PUBLISHER_STREAMS, Shared},
    feed::KEEP,
    ingest::{Announced, Ingest},
    intake::Intake,
    lean,
    patient::Patient,
    request::Target,
    stats::Held,
};

/// How often it is looked whether a guest is still welcome.
const WELCOME_CHECK: Duration = Duration::from_secs(1);
/// How long a peer's goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Broadcasts that a client may have announced at once: one is taken, and the others are kept in mind. Beyond, they are sent away.
const MAX_ANNOUNCED: usize = 64;
/// The most of a publisher's groups kept while they are read, in bytes.
const INGEST_CACHE_BYTES: u64 = 16 << 20;

/// Why a session did not come about. Each has been counted, and the client told as far as it listens.
#[derive(Debug)]
pub(crate) enum Failed {
    Handshake(String),
    Refused(Refusal),
}

impl Shared {
    pub(crate) async fn admit(
        &self,
        target: Option<Target>,
        client: IpAddr,
    ) -> Result<Box<dyn Guest>, Refusal> {
        let Target { live, token } = target.ok_or(Refusal::NotFound)?;
        self.house.admit(Asks { live, token, client }).await
    }

    pub(crate) fn count(&self, client: IpAddr, failed: &Failed) {
        match failed {
            Failed::Handshake(error) => {
                self.counters.handshakes_failed.add(1);
                tracing::debug!(%client, error, "MoQ handshake failed");
            }
            Failed::Refused(refusal) => {
                self.counters.sessions_refused.add(1);
                tracing::debug!(%client, %refusal, "MoQ session refused");
            }
        }
    }
}

/// Takes a QUIC connection. `handshake` is dropped when it is through its handshakes.
pub(crate) async fn quic(shared: &Arc<Shared>, incoming: quinn::Incoming, handshake: Held) {
    let client = incoming.remote_address().ip().to_canonical();
    // Apart, so that a session does not keep for its whole length what its beginning takes.
    let beginning = begin_quic(shared, incoming, client).boxed();
    let began = timeout(shared.limits.handshake, beginning).await;
    drop(handshake);
    let ended = match began {
        Ok(Ok((ready, connection))) => run(shared, ready, Some(connection)).await,
        Ok(Err(failed)) => Err(failed),
        Err(_) => Err(Failed::Handshake("it took too long".to_owned())),
    };
    if let Err(failed) = ended {
        shared.count(client, &failed);
    }
}

/// A guest whose handshake waits for our word.
pub(crate) struct Ready<S: moq_net::transport::poll::Boxable>
where
    S::SendStream: Sync,
    S::RecvStream: Sync,
{
    pub(crate) handshake: Handshake<Patient<S>>,
    pub(crate) guest: Box<dyn Guest>,
    pub(crate) intake: Arc<Intake>,
}

type QuicReady = (Ready<lean::Session>, quinn::Connection);

async fn begin_quic(shared: &Shared, incoming: quinn::Incoming, client: IpAddr) -> Result<QuicReady, Failed> {
    let failed = |error: String| Failed::Handshake(error);
    let connection = incoming.await.map_err(|error| failed(error.to_string()))?;
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
    let alpn = data.and_then(|data| data.protocol).unwrap_or_default();
    if alpn != web_transport_quinn::ALPN.as_bytes() {
        let session = web_transport_quinn::Session::raw(connection.clone());
        let (handshake, intake) = accept(shared, lean::Session::new(session)).await?;
        let mut target = Target::parse(handshake.path());
        // IETF drafts have a place for tokens of its own.
        if let (Some(target), Some(token)) = (&mut target, handshake.token()) {
            target.token = target.token.take().or_else(|| String::from_utf8(token.value.to_vec()).ok());
        }
        return match shared.admit(target, client).await {
            Ok(guest) => Ok((Ready { handshake, guest, intake }, connection)),
            Err(refusal) => {
                handshake.close(said(refusal).into());
                Err(Failed::Refused(refusal))
            }
        };
    }
    let request = web_transport_quinn::Request::accept(connection.clone())
        .await
        .map_err(|error| failed(error.to_string()))?;
    let url = &request.url;
    let target = Target::parse(&format!("{}?{}", url.path(), url.query().unwrap_or_default()));
    let guest = match shared.admit(target, client).await {
        Ok(guest) => guest,
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
            let _ = request.reject(status).await;
            // The answer is still on its way: the client closes when it has read it.
            let _ = timeout(Duration::from_secs(2), connection.closed()).await;
            return Err(Failed::Refused(refusal));
        }
    };
    let chosen = request.protocols.iter().find(|offered| moq_net::ALPNS.contains(&offered.as_str()));
    let mut response = web_transport_quinn::proto::ConnectResponse::OK;
    if let Some(chosen) = chosen {
        response = response.with_protocol(chosen);
    }
    let session = request.respond(response).await.map_err(|error| failed(error.to_string()))?;
    let (handshake, intake) = accept(shared, lean::Session::new(session)).await?;
    Ok((Ready { handshake, guest, intake }, connection))
}

/// Begins MoQ on a session of any transport.
pub(crate) async fn accept<S>(
    shared: &Shared,
    session: S,
) -> Result<(Handshake<Patient<S>>, Arc<Intake>), Failed>
where
    S: moq_net::transport::poll::Boxable,
    S::SendStream: Sync,
    S::RecvStream: Sync,
{
    let intake = Arc::new(Intake::new(Instant::now()));
    let session = Patient::new(session, KEEP, shared.counters.streams_given_up.clone(), intake.clone());
    let accepted = moq_net::Server::new().accept_request(Instant::now(), session).await;
    Ok((accepted.map_err(|error| Failed::Handshake(error.to_string()))?, intake))
}

/// Serves a guest until they leave, or have to.
pub(crate) async fn run<S>(
    shared: &Arc<Shared>,
    ready: Ready<S>,
    connection: Option<quinn::Connection>,
) -> Result<(), Failed>
where
    S: moq_net::transport::poll::Boxable + Send,
    S::SendStream: Sync,
    S::RecvStream: Sync,
{
    let Ready { handshake, guest, intake } = ready;
    let Some(_place) = shared.place(guest.may_publish()) else {
        handshake.close(SessionError::App(Refusal::Busy.status()).into());
        return Err(Failed::Refused(Refusal::Busy));
    };
    if guest.may_publish() {
        intake.expect_media();
    }
    let feed = shared.feeds.join(shared, guest.live(), guest.relay());
    // What the client announces goes to a place of its own: nobody else sees it but as frames.
    let (announced, origin_driver) = origin::Producer::new(ingest_origin());
    let offered = feed.origin().scope(guest.live().as_str(), &Patterns::from_iter([Pattern::all()]));
    let offered = offered.map_err(|error| Failed::Handshake(error.to_string()))?;
    let traffic = shared.traffic();
    let answered =
        handshake.with_publisher(&offered).with_subscriber(announced.clone()).with_stats(traffic).ok();
    let (session, driver) = timeout(shared.limits.handshake, answered.boxed())
        .await
        .map_err(|_| Failed::Handshake("it took too long".to_owned()))?
        .map_err(|error| Failed::Handshake(error.to_string()))?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
    tasks.spawn(async move { drop(moq_net::time::run(origin_driver).await) });
    tracing::debug!(live = %guest.live(), version = %session.version(), "MoQ session begins");

    // Counted as a viewer until they publish.
    let mut watching = Some(shared.counters.viewers.held());
    let mut ingest: Option<Ingest> = None;
    // What was announced meanwhile, the latest: it is taken when the one before has ended.
    let mut next: Option<PathOwned> = None;
    let mut standing = HashSet::new();
    let mut closing = shared.closing.clone();
    let announced = Announced::new(announced);
    let mut announcements = announced.updates();
    let mut check = interval(WELCOME_CHECK);
    // A show is not cut because it runs longer than somebody thought: a host's token has to be valid when they begin.
    let expires = guest.expires();
    loop {
        tokio::select! {
            _ = session.closed() => {
                // MoQ may end it before we do, over the stream that was not read to its end.
                if intake.is_over() {
                    return Err(Failed::Refused(Refusal::TooMany));
                }
                // What came before the end is the live's.
                if let Some(ingest) = &mut ingest {
                    let _ = timeout(FAREWELL, ingest.ended()).await;
                }
                return Ok(());
            }
            () = intake.over() => return send_away(&session, Refusal::TooMany).await,
            () = async { drop(closing.wait_for(|closing| *closing).await) } => {
                session.abort(SessionError::GoawayTimeout.into());
                break;
            }
            _ = sleep_until(expires.unwrap_or_else(Instant::now).into()), if expires.is_some() && ingest.is_none() => {
                shared.counters.sessions_expired.add(1);
                session.abort(SessionError::Unauthorized.into());
                break;
            }
            _ = check.tick() => {
                if !guest.is_welcome() {
                    shared.counters.sessions_expired.add(1);
                    session.abort(SessionError::Unauthorized.into());
                    break;
                }
            }
            ended = async {
                match &mut ingest {
                    Some(ingest) => ingest.ended().await,
                    None => std::future::pending().await,
                }
            } => {
                ingest = None;
                watching = Some(shared.counters.viewers.held());
                if let Err(refusal) = ended {
                    return send_away(&session, refusal).await;
                }
                if let Some(path) = next.take() {
                    watching = None;
                    ingest = Some(Ingest::begin(shared, &*guest, &announced, path));
                }
            }
            Some(update) = announcements.next() => {
                let path = update.prefix.to_owned();
                match update.kind {
                    announce::Kind::Announced => _ = standing.insert(path.clone()),
                    announce::Kind::Updated => continue,
                    announce::Kind::Retracted => {
                        standing.remove(&path);
                        next = next.filter(|next| *next != path);
                        if let Some(ingest) = ingest.as_ref().filter(|ingest| ingest.path() == &path) {
                            ingest.retract();
                        }
                        continue;
                    }
                }
                if !guest.may_publish() {
                    shared.counters.broadcasts_refused.add(1);
                    return send_away(&session, Refusal::Forbidden).await;
                }
                if standing.len() > MAX_ANNOUNCED {
                    shared.counters.broadcasts_refused.add(1);
                    return send_away(&session, Refusal::TooMany).await;
                }
                if let Some(ingest) = &ingest {
                    // One broadcast at a time: the live has one picture. The same one anew has ended before, and is seen off.
                    if ingest.path() != &path {
                        shared.counters.broadcasts_refused.add(1);
                    }
                    next = Some(path);
                    continue;
                }
                if let Some(connection) = &connection {
                    connection.set_max_concurrent_uni_streams(MAX_PUBLISHER_STREAMS.into());
                }
                watching = None;
                ingest = Some(Ingest::begin(shared, &*guest, &announced, path));
            }
        }
    }
    let _ = timeout(FAREWELL, session.closed()).await;
    drop(watching);
    Ok(())
}

/// Ends the session of who may not go on, and tells them why.
async fn send_away(session: &moq_net::Session, refusal: Refusal) -> Result<(), Failed> {
    session.abort(said(refusal).into());
    let _ = timeout(FAREWELL, session.closed()).await;
    Err(Failed::Refused(refusal))
}

/// A refusal as MoQ says it.
fn said(refusal: Refusal) -> SessionError {
    match refusal {
        Refusal::Unauthorized | Refusal::Forbidden => SessionError::Unauthorized,
        other => SessionError::App(other.status()),
    }
}

fn ingest_origin() -> origin::Config {
    let mut config = origin::Config::default();
    let cache = moq_net::cache::Config::default()
        .with_capacity(INGEST_CACHE_BYTES)
        .with_expiry(Duration::from_secs(10));
    config.pool = moq_net::cache::Pool::new(cache);
    config.cache_duration = Duration::from_secs(10);
    config
}
