//! What a session's publisher announces, and what is there of it now.
//!
//! An origin takes broadcasts that the same publisher announces at the same path for one, reached another way: where one ends
//! and the next begins at once, it goes on with the first, whose tracks have ended, for as long as it remembers them. A
//! broadcast that is not the publisher's displaces it, and is not there any more when the path is asked for again.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use moq_net::{
    PathOwned, announce, broadcast,
    origin::{self, Route},
};
use tokio::time::timeout;

use super::past::Past;
use crate::Refusal;

/// How long the origin may take to see the one that displaces. It takes a turn of its driver; where it never does, because
/// the publisher's is nearer, the path is asked for as it is.
const DISPLACED_WITHIN: Duration = Duration::from_secs(1);
/// So often a session may begin a broadcast. What was displaced is kept for as long as its path is announced, so that there
/// has to be an end; whoever connects anew begins from nothing.
const MAX_BEGINNINGS: u32 = 256;

/// The place where a session's publisher announces. Clones are the same.
#[derive(Clone)]
pub(crate) struct Announced {
    origin: origin::Producer,
    beginnings: Arc<AtomicU32>,
    /// What has been taken of it. A lock, since each broadcast is taken by a task of its own, one after the other.
    past: Arc<Mutex<Past>>,
}

impl Announced {
    pub(crate) fn new(origin: origin::Producer) -> Self {
        Self { origin, beginnings: Arc::default(), past: Arc::default() }
    }

    /// What comes and goes. That what displaces does, too, is not told.
    pub(crate) fn updates(&self) -> announce::Consumer {
        self.origin.consume().local().announced()
    }

    /// What has been taken before, for whoever takes the next.
    pub(super) fn past(&self) -> Past {
        std::mem::take(&mut self.past.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn remember(&self, past: Past) {
        *self.past.lock().unwrap_or_else(PoisonError::into_inner) = past;
    }

    /// The broadcast that is announced at `path` now; `None` if there is none.
    pub(super) async fn broadcast(&self, path: &PathOwned) -> Result<Option<broadcast::Consumer>, Refusal> {
        if self.beginnings.fetch_add(1, Relaxed) >= MAX_BEGINNINGS {
            return Err(Refusal::TooMany);
        }
        let consumer = self.origin.consume();
        // Nearer than any publisher who is connected, and another than all of them.
        let Ok(other) = self.origin.clone().peer().dynamic(path, Route::default()) else { return Ok(None) };
        let displaced = consumer.request_broadcast(path);
        // When the question has arrived there, it is settled whose answer it waits for.
        let asked = timeout(DISPLACED_WITHIN, other.requested_broadcast()).await;
        drop((asked, other, displaced));
        Ok(consumer.request_broadcast(path).await.ok())
    }
}
