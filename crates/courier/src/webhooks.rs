//! Delivers what merchants are told: takes what is due from the outbox, posts it, and writes down what came of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use haul_commerce::outbox::{Due, KEEP_MESSAGES, Outbox, judge};
use haul_model::{UnixMillis, WebhookId};
use tokio::task::JoinSet;

use crate::{
    Call, Client, Keyring, Method, SigningKey,
    signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER},
};

/// How often the outbox is looked at while nothing is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long an endpoint may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long a delivery is ours: twice as long as it can take, so that nobody else makes it at the same time. One that was under
/// way when its server was killed waits for that long.
const LEASE: Duration = Duration::from_secs(30);
/// Deliveries at once, and of these to one endpoint, about different orders; more wait. A flash sale's orders are one
/// endpoint's, each delivery of theirs takes two commits and the endpoint's own time, and a merchant's systems are to know
/// of the last one soon after the first.
const MAX_AT_ONCE: usize = 256;
const MAX_TO_ONE: usize = 32;
/// And of these to endpoints that gave no answer last time, each of which takes a place for [`ANSWER_WITHIN`]: the rest is
/// for those that do.
const MAX_TO_SILENT: usize = 64;
/// Silent endpoints remembered.
const MAX_SILENT: usize = 1_000;
/// How often old messages are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Delivers until the process ends.
pub async fn deliver(outbox: Arc<dyn Outbox>, client: Client) {
    let mut under_way = JoinSet::new();
    let mut places = Places::default();
    let mut forget_at = now();
    loop {
        while let Some(done) = under_way.try_join_next() {
            places.release(done);
        }
        if now() >= forget_at {
            forget_at = now() + FORGET_EVERY;
            if let Err(error) = outbox.forget_messages(now() - KEEP_MESSAGES).await {
                tracing::warn!(%error, "old webhook messages were not forgotten");
            }
        }
        let busy = places.full();
        // An endpoint below its share may get as many again by one look, and no more then.
        let room = (MAX_AT_ONCE - under_way.len().min(MAX_AT_ONCE)).min(MAX_TO_ONE) as u32;
        let at = now();
        let due = match room {
            0 => Vec::new(),
            room => outbox.take_due(at, at + LEASE, room, &busy).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "webhooks that are due could not be looked up");
                Vec::new()
            }),
        };
        let idle = due.is_empty();
        for due in due {
            places.take(&due.endpoint.id);
            let (outbox, client) = (outbox.clone(), client.clone());
            under_way.spawn(async move {
                let endpoint = due.endpoint.id.clone();
                let answered = attempt(&*outbox, &client, due).await;
                (endpoint, answered)
            });
        }
        if idle {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // What waits behind it for the same order goes at once.
                Some(done) = under_way.join_next() => places.release(done),
            }
        }
    }
}

/// Who has how many of the places.
#[derive(Debug, Default)]
struct Places {
    of_endpoint: HashMap<WebhookId, usize>,
    /// Gave no answer last time.
    silent: HashSet<WebhookId>,
}

impl Places {
    /// Endpoints that may have no more now.
    fn full(&self) -> Vec<WebhookId> {
        let taken = |id: &WebhookId| self.of_endpoint.get(id).copied().unwrap_or_default();
        let by_silent: usize = self.silent.iter().map(taken).sum();
        let silent = self.silent.iter().filter(|_| by_silent >= MAX_TO_SILENT);
        let own = self.of_endpoint.iter().filter(|(_, count)| **count >= MAX_TO_ONE).map(|(id, _)| id);
        silent.chain(own).cloned().collect()
    }

    fn take(&mut self, endpoint: &WebhookId) {
        *self.of_endpoint.entry(endpoint.clone()).or_default() += 1;
    }

    /// A delivery is over: to whom it was, and whether they answered anything.
    fn release(&mut self, done: Result<(WebhookId, bool), tokio::task::JoinError>) {
        match done {
            Ok((endpoint, answered)) => {
                if let Some(count) = self.of_endpoint.get_mut(&endpoint) {
                    *count = count.saturating_sub(1);
                }
                self.of_endpoint.retain(|_, count| *count > 0);
                if answered {
                    self.silent.remove(&endpoint);
                } else if self.silent.len() < MAX_SILENT {
                    self.silent.insert(endpoint);
                }
            }
            Err(error) => tracing::error!(%error, "a delivery ended badly"),
        }
    }
}

/// Makes a delivery, and gives whether anything was answered.
async fn attempt(outbox: &dyn Outbox, client: &Client, due: Due) -> bool {
    let Due { endpoint, message, attempts } = &due;
    let answer = post(client, &due, now()).await;
    let answered = answer.is_ok();
    let attempt = judge(*attempts, answer, now());
    if let Some(error) = &attempt.error {
        tracing::info!(webhook = %endpoint.id, message = %message.id, attempts, error, "a webhook was not taken");
    }
    if let Some(reason) = &attempt.disable {
        tracing::warn!(webhook = %endpoint.id, merchant = %endpoint.merchant, reason, "a webhook is disabled");
    }
    // Not written down, it is made again when the lease is over.
    if let Err(error) = outbox.attempted(&endpoint.id, &message.id, &attempt).await {
        tracing::warn!(webhook = %endpoint.id, %error, "a webhook's attempt was not written down");
    }
    answered
}

/// Posts a message, and gives the status.
async fn post(client: &Client, due: &Due, at: UnixMillis) -> Result<u16, String> {
    let Due { endpoint, message, .. } = due;
    let keys: Option<Vec<SigningKey>> = endpoint.secrets(at).into_iter().map(SigningKey::parse).collect();
    let keys = keys.and_then(Keyring::new).ok_or("the endpoint's secret can't be used")?;
    let sent_at_s = at.0 / 1000;
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        (ID_HEADER, message.id.to_string()),
        (TIMESTAMP_HEADER, sent_at_s.to_string()),
        (SIGNATURE_HEADER, keys.sign(message.id.as_str(), sent_at_s, message.body.as_bytes())),
    ];
    let body = Bytes::from(message.body.clone());
    let call = Call { method: Method::POST, url: &endpoint.url, headers, body, within: ANSWER_WITHIN };
    match client.call(call).await {
        Ok(reply) => Ok(reply.status),
        Err(error) => Err(error.to_string()),
    }
}

fn now() -> UnixMillis {
    std::time::SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_leaves_places_to_others() {
        let id = |number: usize| -> WebhookId { format!("wh_{number}").parse().unwrap() };
        let mut places = Places::default();
        for _ in 0..MAX_TO_ONE {
            places.take(&id(0));
        }
        assert_eq!(places.full(), [id(0)]);
        for number in 1..=3 {
            places.take(&id(number));
            places.release(Ok((id(number), false)));
            assert_eq!(places.full(), [id(0)], "one try says little");
        }
        for _ in 0..MAX_TO_SILENT / 2 {
            places.take(&id(1));
            places.take(&id(2));
        }
        let mut full = places.full();
        full.sort();
        full.dedup();
        assert_eq!(full, [id(0), id(1), id(2), id(3)], "all who are silent, and nobody else");
        for number in 1..=3 {
            places.release(Ok((id(number), true)));
        }
        assert_eq!(places.full(), [id(0)]);
    }
}
