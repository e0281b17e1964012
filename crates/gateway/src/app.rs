//! What every handler shares.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, StatusCode, request},
};
use haul_commerce::{Backoffice, Storefront};
use haul_live::{Live, LiveError, Lives};
use haul_model::{LiveId, Role, Viewer};
use haul_payments::Sandbox;
use haul_webrtc::{Edge, Quota};
use tokio::sync::watch;

use crate::{
    auth::{AuthError, Authority, bearer},
    client::{Network, client_address},
    metrics::Metrics,
    origin::Origins,
    problem::Problem,
    session::{Sessions, Takeover},
};

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which pages of other sites may talk to us.
    pub origins: Origins,
    /// Whose word about a client's address is believed.
    pub trusted_proxies: Vec<Network>,
    /// What browsers call this server, without a slash at its end; empty: whatever they do.
    pub public_url: String,
    /// Who may publish on a live that somebody publishes on.
    pub takeover: Takeover,
    /// Websockets at once; more are refused with 503.
    pub max_channels: usize,
    /// Media sessions at once of one client address (an IPv6 network of 64 bits); more are refused with 429.
    pub max_sessions_per_client: usize,
    /// Guests' tokens an hour for one client address (an IPv6 network of 64 bits), as many at once; 0: no limit.
    pub guests_per_address: u32,
    /// `Link` header values for STUN and TURN servers (RFC 9725, 4.6).
    pub ice_links: Vec<String>,
    /// Who may take how many holds.
    pub risk: crate::guard::RiskSettings,
    /// The live in which anybody may have a viewer's token for the asking.
    pub demo: Option<LiveId>,
}

/// What the gateway joins.
pub struct Parts {
    /// The lives.
    pub lives: Lives,
    /// The shop window.
    pub storefront: Arc<dyn Storefront>,
    /// What a merchant's systems are served from.
    pub backoffice: Arc<dyn Backoffice>,
    /// Checks URLs that merchants want to be told at.
    pub webhooks: haul_courier::Client,
    /// The WebRTC edge.
    pub edge: Edge,
    /// What the edge reports to, see [`Sessions::observer`].
    pub sessions: Sessions,
    /// What a `ref` must be.
    pub refs: crate::shop::RefRules,
    /// Mints and verifies tokens.
    pub authority: Authority,
    /// Present while payments are the sandbox's.
    pub sandbox: Option<Sandbox>,
    /// What the listener counts.
    pub listener: crate::tls::Counters,
    /// The MoQ edge, where there is one.
    pub moq: Option<crate::MoqDoor>,
    /// What is to be on `/metrics` besides.
    pub collectors: Vec<Box<dyn prometheus_client::collector::Collector>>,
}

/// The gateway. Clones are the same.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// The parts, for this crate.
pub struct Shared {
    pub(crate) lives: Lives,
    pub(crate) storefront: Arc<dyn Storefront>,
    pub(crate) touches: crate::shop::Touches,
    pub(crate) clerk: crate::v1::Clerk,
    pub(crate) backoffice: Arc<dyn Backoffice>,
    pub(crate) webhooks: haul_courier::Client,
    pub(crate) risk: crate::guard::Risk,
    /// API keys that were looked up a moment ago.
    pub(crate) keys: crate::v1::KnownKeys,
    pub(crate) edge: Edge,
    pub(crate) authority: Authority,
    pub(crate) settings: Settings,
    /// Present while payments are the sandbox's.
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) moq: Option<crate::MoqDoor>,
    pub(crate) sessions: Sessions,
    pub(crate) metrics: Metrics,
    pub(crate) guests: crate::guests::Guests,
    /// Of media sessions, by client: what they are in all, the edge limits.
    pub(crate) session_places: Quota,
    channels: watch::Sender<usize>,
    draining: watch::Sender<bool>,
}

impl App {
    /// A gateway that joins these parts. Starts what works behind it, so a runtime must be there.
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let Parts {
            lives,
            storefront,
            backoffice,
            webhooks,
            refs,
            edge,
            sessions,
            authority,
            sandbox,
            listener,
            moq,
            collectors,
        } = parts;
        let session_places = Quota::new(usize::MAX, settings.max_sessions_per_client);
        let guests_per_address = settings.guests_per_address;
        let touches = crate::shop::Touches::start(refs, storefront.clone());
        let clerk = crate::v1::Clerk::start(backoffice.clone());
        let metrics =
            Metrics::new(&lives.services().metrics, edge.clone(), &listener, &touches, &clerk, collectors);
        Self(Arc::new(Shared {
            lives,
            storefront,
            touches,
            clerk,
            backoffice,
            webhooks,
            risk: crate::guard::Risk::new(settings.risk.clone()),
            keys: crate::v1::KnownKeys::default(),
            edge,
            authority,
            settings,
            sandbox,
            moq,
            sessions,
            metrics,
            guests: crate::guests::Guests::new(guests_per_address),
            session_places,
            channels: watch::Sender::new(0),
            draining: watch::Sender::new(false),
        }))
    }

    /// Begins to go away: not ready any more, every channel is told when to come back and is then closed.
    pub fn drain(&self) {
        self.0.lives.drain();
        self.0.draining.send_replace(true);
    }

    /// Waits until the last websocket is closed, and all that was done is in the audit log.
    pub async fn drained(&self) {
        let mut channels = self.0.channels.subscribe();
        // The sender is in `self`: this can't fail.
        let _ = channels.wait_for(|channels| *channels == 0).await;
        self.0.clerk.written().await;
    }

    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.0.draining.subscribe()
    }

    /// A place for one more websocket, if there is one.
    pub(crate) fn channel_place(&self) -> Option<ChannelPlace> {
        let max = self.0.settings.max_channels;
        let taken = self.0.channels.send_if_modified(|channels| {
            let free = *channels < max;
            *channels += usize::from(free);
            free
        });
        taken.then(|| ChannelPlace(self.clone()))
    }

    /// The live for somebody who does something in it that needs `role`.
    pub(crate) async fn as_role(
        &self,
        headers: &HeaderMap,
        live: &LiveId,
        role: Role,
    ) -> Result<(Live, Viewer), Problem> {
        let viewer = self.authority.require(bearer(headers), live, role, haul_live::now().wall)?;
        let live = self.lives.get(live).await?;
        same_merchant(&live, &viewer)?;
        Ok((live, viewer))
    }

    /// The live for somebody who watches: with a token, or without one where the live is public.
    pub(crate) async fn as_watcher(
        &self,
        token: Option<&str>,
        live: &LiveId,
    ) -> Result<(Live, Option<Viewer>), Problem> {
        let viewer = match token {
            Some(token) => Some(self.authority.verify(token, live, haul_live::now().wall)?),
            None => None,
        };
        let live = match self.lives.get(live).await {
            Ok(live) => live,
            // Who has no token must not learn which private lives there are.
            Err(LiveError::Unknown) if viewer.is_none() => return Err(AuthError::Missing.into()),
            Err(error) => return Err(error.into()),
        };
        match &viewer {
            Some(viewer) => same_merchant(&live, viewer)?,
            None if !live.is_public() => return Err(AuthError::Missing.into()),
            None => {}
        }
        Ok((live, viewer))
    }

    /// The address of whoever sent a request, where that came over a connection.
    pub(crate) fn sender(&self, peer: &Peer, headers: &HeaderMap) -> Option<IpAddr> {
        peer.0.map(|peer| self.client(peer, headers))
    }

    /// The client's address, as far as it can be believed.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        client_address(peer, headers, &self.settings.trusted_proxies)
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// One websocket's share of [`Settings::max_channels`].
pub(crate) struct ChannelPlace(App);

impl Drop for ChannelPlace {
    fn drop(&mut self) {
        self.0.0.channels.send_modify(|channels| *channels -= 1);
    }
}

/// The other end of the connection; unknown where a request did not come over one.
pub(crate) struct Peer(pub(crate) Option<SocketAddr>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer)))
    }
}

/// A merchant's token is worth nothing in another merchant's live, whatever its pattern says.
pub(crate) fn same_merchant(live: &Live, viewer: &Viewer) -> Result<(), AuthError> {
    if live.merchant() == &viewer.merchant { Ok(()) } else { Err(AuthError::WrongLive) }
}

impl From<LiveError> for Problem {
    fn from(error: LiveError) -> Self {
        match &error {
            LiveError::Unknown => Problem::new(StatusCode::NOT_FOUND, "not_found", error.to_string()),
            LiveError::Foreign => Problem::new(StatusCode::FORBIDDEN, "wrong_live", error.to_string()),
            LiveError::Full | LiveError::Ledger(_) => unavailable(error.to_string()),
        }
    }
}

impl From<haul_commerce::LedgerError> for Problem {
    fn from(error: haul_commerce::LedgerError) -> Self {
        use haul_commerce::LedgerError as E;
        match &error {
            E::Unavailable(_) => unavailable(error.to_string()),
            E::Conflict(_) => Problem::new(StatusCode::CONFLICT, "conflict", error.to_string()),
            E::NotFound(_) => Problem::new(StatusCode::NOT_FOUND, "not_found", error.to_string()),
        }
    }
}

pub(crate) fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(Duration::from_secs(1))
}

/// An id from a path.
pub(crate) fn path_id<T>(what: &str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr<Err = haul_model::IdError>,
{
    text.parse().map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", format!("{what} in the path: {error}"))
    })
}
