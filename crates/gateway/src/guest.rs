//! Who comes by another door than HTTP: the same tokens, lives and limits as for WHIP and WHEP.

use std::{net::IpAddr, sync::Arc, time::Instant};

use axum::http::StatusCode;
use haul_live::Live;
use haul_model::{LiveId, Role, SessionId, Viewer};
use haul_webrtc::Seat;
use rand::RngExt;

use crate::{
    App,
    problem::Problem,
    session::{Entry, Offered, Way},
    v1::Doing,
    whip::{deadline, seat, taken},
};

/// Somebody in a live. Dropped when they leave.
pub struct Guest {
    app: App,
    live: Live,
    /// Nobody, for who watches a public live without a token.
    viewer: Option<Viewer>,
    /// When their token ends, on the clock of this process.
    expires: Option<Instant>,
    seat: Option<Arc<Seat>>,
    address: Option<String>,
}

/// The right to publish, which keeps others from it. Dropped when they stop; both are in the audit log.
pub struct OnAir {
    _offered: Offered,
    app: App,
    host: Viewer,
    live: LiveId,
    address: Option<String>,
}

impl OnAir {
    fn note(&self, action: &str) {
        let (action, target) = (action.to_owned(), self.live.to_string());
        let doing = Doing { action, target, live: Some(self.live.clone()), address: self.address.clone() };
        let (app, host) = (self.app.clone(), self.host.clone());
        // The process ends: then there is nobody to write it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { app.note_viewer(&host, doing).await });
        }
    }
}

impl Drop for OnAir {
    fn drop(&mut self) {
        self.note("publish.end");
    }
}

impl App {
    /// Lets somebody into a live: a host into any of theirs, which is created if it is new; others into those that are
    /// there.
    ///
    /// # Errors
    /// A problem whose status says why not: 401, 403, 404, 429 or 503.
    pub async fn admit(&self, live: &LiveId, token: Option<&str>, client: IpAddr) -> Result<Guest, Problem> {
        if *self.draining().borrow() {
            return Err(crate::app::unavailable("the server is going away"));
        }
        let now = haul_live::now();
        let host = token.map(|token| self.authority.require(Some(token), live, Role::Host, now.wall));
        let (live, viewer) = match host {
            Some(Ok(host)) => (self.lives.ensure(live, &host.merchant).await?, Some(host)),
            _ => self.as_watcher(token, live).await?,
        };
        let may_publish = viewer.as_ref().is_some_and(|viewer| viewer.role.includes(Role::Host));
        if !may_publish && !self.edge.node().accepts_viewers {
            return Err(crate::app::unavailable("the server is too busy for another viewer"));
        }
        let expires = viewer.as_ref().and_then(|viewer| deadline(now, viewer));
        let seat = seat(self, Some(client))?;
        Ok(Guest { app: self.clone(), live, viewer, expires, seat, address: Some(client.to_string()) })
    }
}

impl Guest {
    /// The live they are in.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// When their token ends.
    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// Whether they may publish here, if nobody else does.
    pub fn may_publish(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.role.includes(Role::Host))
    }

    /// Whether they may still be here: who came without a token may not, once the live is not public any more.
    pub fn is_welcome(&self) -> bool {
        self.viewer.is_some() || self.live.is_public()
    }

    /// They begin to publish, under the same rule as everybody about those who publish already.
    ///
    /// # Errors
    /// A problem whose status says why not: 403 or 409.
    pub fn publish(&self) -> Result<OnAir, Problem> {
        let Some(viewer) = self.viewer.as_ref().filter(|viewer| viewer.role.includes(Role::Host)) else {
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "this needs the role host"));
        };
        let now = haul_live::now();
        let session = SessionId::generate("s_", now.wall, rand::rng().random());
        let entry = Entry {
            way: Way::Whip,
            live: self.live.id().clone(),
            sub: Some(viewer.id.clone()),
            listener: None,
            _seat: self.seat.clone(),
        };
        let entered = self.app.sessions.enter(session, entry, self.app.settings.takeover, now.instant);
        let mut offered = entered.map_err(taken)?;
        let former = offered.connected().map_err(taken)?;
        if !former.is_empty() {
            let edge = self.app.edge.clone();
            tokio::spawn(async move {
                for session in former {
                    edge.close(&session).await;
                }
            });
        }
        let (app, host, live) = (self.app.clone(), viewer.clone(), self.live.id().clone());
        let on_air = OnAir { _offered: offered, app, host, live, address: self.address.clone() };
        on_air.note("publish");
        Ok(on_air)
    }
}
