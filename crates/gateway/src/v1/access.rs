//! Who asks, and whether they may: by a token for one live or for all, or by a merchant's API key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, StatusCode};
use haul_commerce::keys::{ApiKey, KEY_PREFIX, Permission, hash, key_id};
use haul_live::Live;
use haul_model::{KeyId, LiveId, MerchantId, Role, Viewer};

use crate::{
    app::{App, same_merchant},
    auth::{AuthError, bearer},
    problem::Problem,
};

/// How long a key that was looked up is believed: so long, a key that was revoked on another server works here.
const BELIEVED: Duration = Duration::from_secs(5);
/// Keys remembered; more are looked up each time.
const MAX_KNOWN: usize = 10_000;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// The bearer of a token.
    Token(Viewer),
    /// The merchant's backend with a host's token for all lives.
    Backend(MerchantId),
    /// The merchant's backend with an API key.
    Key(Arc<ApiKey>),
}

impl Who {
    pub(crate) fn merchant(&self) -> &MerchantId {
        match self {
            Who::Token(viewer) => &viewer.merchant,
            Who::Backend(merchant) => merchant,
            Who::Key(key) => &key.merchant,
        }
    }
}

/// API keys that were looked up a moment ago.
///
/// A lock, since any request may look; held for a look-up.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys(Mutex<HashMap<KeyId, (Instant, Arc<ApiKey>)>>);

impl KnownKeys {
    fn get(&self, id: &KeyId, now: Instant) -> Option<Arc<ApiKey>> {
        let mut keys = self.lock();
        let (since, key) = keys.get(id)?;
        if now.duration_since(*since) < BELIEVED {
            return Some(key.clone());
        }
        keys.remove(id);
        None
    }

    fn put(&self, key: Arc<ApiKey>, now: Instant) {
        let mut keys = self.lock();
        if keys.len() < MAX_KNOWN {
            keys.insert(key.id.clone(), (now, key));
        }
    }

    /// It was revoked.
    pub(crate) fn forget(&self, id: &KeyId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, (Instant, Arc<ApiKey>)>> {
        // A map that is only inserted into and removed from is whole whatever panicked while it was held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// The API key of a request, if it bears one: known, not revoked.
    pub(crate) async fn api_key(&self, headers: &HeaderMap) -> Result<Option<Arc<ApiKey>>, Problem> {
        let Some(text) = bearer(headers).filter(|text| text.starts_with(KEY_PREFIX)) else { return Ok(None) };
        let invalid = || Problem::from(AuthError::Invalid);
        let id = key_id(text).ok_or_else(invalid)?;
        let now = haul_live::now().instant;
        let key = match self.keys.get(&id, now) {
            Some(key) => key,
            None => {
                let key = Arc::new(self.backoffice.key(&id).await?.ok_or_else(invalid)?);
                self.keys.put(key.clone(), now);
                key
            }
        };
        // Of two hashes that differ, how they differ says nothing about the secrets.
        if key.hash != hash(&[text.as_bytes()]) || key.revoked_at.is_some() {
            return Err(invalid());
        }
        Ok(Some(key))
    }

    /// Who asks for what concerns all of a merchant's lives.
    pub(crate) async fn backend(&self, headers: &HeaderMap, needed: Permission) -> Result<Who, Problem> {
        if let Some(key) = self.api_key(headers).await? {
            permits(&key, needed)?;
            return Ok(Who::Key(key));
        }
        let merchant = self.authority.merchant(bearer(headers), haul_live::now().wall)?;
        Ok(Who::Backend(merchant))
    }

    /// Whose backend asks, see [`App::backend`].
    pub(crate) async fn merchant(
        &self,
        headers: &HeaderMap,
        needed: Permission,
    ) -> Result<MerchantId, Problem> {
        Ok(self.backend(headers, needed).await?.merchant().clone())
    }

    /// The live for who looks at it: with a key of its merchant's with this scope, with a token, or, if it is public,
    /// without either. The viewer is a token's.
    pub(crate) async fn watched(
        &self,
        headers: &HeaderMap,
        live: &LiveId,
        needed: Permission,
    ) -> Result<(Live, Option<Viewer>), Problem> {
        let Some(key) = self.api_key(headers).await? else {
            return self.as_watcher(bearer(headers), live).await;
        };
        permits(&key, needed)?;
        let live = self.lives.get(live).await?;
        match *live.merchant() == key.merchant {
            true => Ok((live, None)),
            false => Err(AuthError::WrongLive.into()),
        }
    }

    /// Who asks for what concerns one live: by a token with this role there, or a key of its merchant's with this scope.
    pub(crate) async fn in_live(
        &self,
        headers: &HeaderMap,
        live: &LiveId,
        role: Role,
        needed: Permission,
    ) -> Result<(Live, Who), Problem> {
        if let Some(key) = self.api_key(headers).await? {
            permits(&key, needed)?;
            let live = self.lives.get(live).await?;
            if live.merchant() != &key.merchant {
                return Err(AuthError::WrongLive.into());
            }
            return Ok((live, Who::Key(key)));
        }
        let (live, viewer) = self.as_role(headers, live, role).await?;
        same_merchant(&live, &viewer)?;
        Ok((live, Who::Token(viewer)))
    }
}

/// Whether a key may be used for this.
pub(crate) fn permits(key: &ApiKey, needed: Permission) -> Result<(), Problem> {
    if key.permits(needed) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "scope_missing", format!("this key lacks the scope {needed}")))
}
