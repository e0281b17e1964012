//! Endpoints, and deliveries to them.

use std::collections::{BTreeSet, HashMap};

use haul_commerce::{
    LedgerError,
    ledger::Answer,
    outbox::{
        Attempt, Delivery, DeliveryState, Due, Endpoint, MAX_ENDPOINTS, MAX_REPLAY, Message, Outbox, Replay,
    },
};
use haul_model::{MerchantId, MessageId, UnixMillis, WebhookId};

use super::{
    SqlLedger,
    db::{Builder, On, Row, given, query},
    messages::put_message,
    row::{bad, number, parsed, sql, text, time},
};

const STATES: [DeliveryState; 3] = [DeliveryState::Pending, DeliveryState::Done, DeliveryState::Failed];

fn delivery_text(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Done => "done",
        DeliveryState::Failed => "failed",
    }
}

fn maybe_time(row: &Row, column: &str) -> Result<Option<UnixMillis>, sqlx::Error> {
    let at: Option<i64> = row.try_get(column)?;
    Ok(at.map(|at| UnixMillis(at.unsigned_abs())))
}

pub(super) fn read_endpoint(row: &Row) -> Result<Endpoint, sqlx::Error> {
    let old_secret: Option<String> = row.try_get("old_secret")?;
    let disabled_reason: Option<String> = row.try_get("disabled_reason")?;
    Ok(Endpoint {
        id: parsed(row, "id")?,
        merchant: parsed(row, "merchant_id")?,
        url: row.try_get("url")?,
        kinds: text(row, "kinds")?.split_whitespace().map(str::to_owned).collect(),
        secret: row.try_get("secret")?,
        old_secret: old_secret.zip(maybe_time(row, "old_secret_until")?),
        disabled: maybe_time(row, "disabled_at")?.map(|at| (at, disabled_reason.unwrap_or_default())),
        created_at: time(row, "created_at")?,
    })
}

fn read_delivery(row: &Row) -> Result<Delivery, sqlx::Error> {
    let state = text(row, "state")?;
    let state = STATES.into_iter().find(|known| delivery_text(*known) == state);
    let status: Option<i64> = row.try_get("status")?;
    Ok(Delivery {
        webhook: parsed(row, "webhook_id")?,
        message: parsed(row, "message_id")?,
        kind: row.try_get("kind")?,
        subject: row.try_get("subject")?,
        state: state.ok_or_else(|| bad("state", "no known one"))?,
        attempts: number(row, "attempts")?,
        next_attempt_at: time(row, "next_attempt_at")?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        error: row.try_get("error")?,
        created_at: time(row, "created_at")?,
    })
}

fn read_message(row: &Row) -> Result<Message, sqlx::Error> {
    Ok(Message {
        id: parsed(row, "id")?,
        merchant: parsed(row, "merchant_id")?,
        subject: row.try_get("subject")?,
        kind: row.try_get("kind")?,
        body: row.try_get("body")?,
        at: time(row, "created_at")?,
    })
}

pub(super) async fn endpoints<'a>(
    merchant: &str,
    on: impl Into<On<'a>>,
) -> Result<Vec<Endpoint>, LedgerError> {
    query("SELECT * FROM webhooks WHERE merchant_id = $1 ORDER BY created_at, id")
        .bind(merchant)
        .try_map(|row| read_endpoint(&row))
        .fetch_all(on)
        .await
}

impl SqlLedger {
    /// One that is there was made by the same request, whose answer was lost: it is as the answer now says.
    async fn write_endpoint(&self, endpoint: &Endpoint) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        let known = endpoints(endpoint.merchant.as_str(), &mut change).await?;
        if known.len() >= MAX_ENDPOINTS && known.iter().all(|known| known.id != endpoint.id) {
            let error = format!("a merchant may have {MAX_ENDPOINTS} webhooks");
            return Err(change.refuse(LedgerError::Conflict(error)).await);
        }
        let (old_secret, until) = endpoint.old_secret.clone().unzip();
        let (disabled_at, reason) = endpoint.disabled.clone().unzip();
        let put = query(
            "INSERT INTO webhooks (id, merchant_id, url, kinds, secret, old_secret, old_secret_until, disabled_at,
                                   disabled_reason, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (id) DO UPDATE SET
                 url = excluded.url, kinds = excluded.kinds, secret = excluded.secret, old_secret = excluded.old_secret,
                 old_secret_until = excluded.old_secret_until, disabled_at = excluded.disabled_at,
                 disabled_reason = excluded.disabled_reason
                 WHERE webhooks.merchant_id = excluded.merchant_id",
        )
        .bind(endpoint.id.as_str())
        .bind(endpoint.merchant.as_str())
        .bind(&endpoint.url)
        .bind(endpoint.kinds.join(" "))
        .bind(&endpoint.secret)
        .bind(old_secret)
        .bind(until.map(|until| sql(until.0)))
        .bind(disabled_at.map(|at| sql(at.0)))
        .bind(reason)
        .bind(sql(endpoint.created_at.0))
        .execute(&mut change)
        .await?;
        if put == 0 {
            let error = format!("the webhook {} is another merchant's", endpoint.id);
            return Err(change.refuse(LedgerError::Conflict(error)).await);
        }
        change.commit().await
    }

    async fn rewrite_endpoint(&self, before: &Endpoint, after: &Endpoint) -> Result<bool, LedgerError> {
        let mut change = self.write.begin().await?;
        let (old_secret, until) = after.old_secret.clone().unzip();
        let (disabled_at, reason) = after.disabled.clone().unzip();
        let changed = query(
            "UPDATE webhooks SET url = $3, kinds = $4, secret = $5, old_secret = $6, old_secret_until = $7, disabled_at = $8,
                                 disabled_reason = $9
             WHERE id = $1 AND merchant_id = $2 AND url = $10 AND kinds = $11 AND secret = $12
                   AND COALESCE(disabled_at, 0) = $13",
        )
        .bind(after.id.as_str())
        .bind(after.merchant.as_str())
        .bind(&after.url)
        .bind(after.kinds.join(" "))
        .bind(&after.secret)
        .bind(old_secret)
        .bind(until.map(|until| sql(until.0)))
        .bind(disabled_at.map(|at| sql(at.0)))
        .bind(reason)
        .bind(&before.url)
        .bind(before.kinds.join(" "))
        .bind(&before.secret)
        .bind(before.disabled.as_ref().map_or(0, |(at, _)| sql(at.0)))
        .execute(&mut change)
        .await?;
        if changed > 0 && before.disabled.is_some() && after.disabled.is_none() {
            // What it was given up with comes before what waits behind it.
            query("UPDATE deliveries SET state = 'pending', attempts = 0 WHERE webhook_id = $1 AND state = 'failed'")
                .bind(after.id.as_str())
                .execute(&mut change)
                .await?;
        }
        change.commit().await?;
        Ok(changed > 0)
    }

    async fn drop_endpoint(&self, merchant: &MerchantId, id: &WebhookId) -> Result<bool, LedgerError> {
        let mut change = self.write.begin().await?;
        query(
            "DELETE FROM deliveries WHERE webhook_id IN (SELECT id FROM webhooks WHERE id = $1 AND merchant_id = $2)",
        )
        .bind(id.as_str())
        .bind(merchant.as_str())
        .execute(&mut change)
        .await?;
        let gone = query("DELETE FROM webhooks WHERE id = $1 AND merchant_id = $2")
            .bind(id.as_str())
            .bind(merchant.as_str())
            .execute(&mut change)
            .await?;
        change.commit().await?;
        Ok(gone > 0)
    }

    async fn post_message(&self, message: &Message) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        let endpoints = endpoints(message.merchant.as_str(), &mut change).await?;
        if !endpoints.is_empty() {
            put_message(&mut change, message.clone(), &endpoints).await?;
        }
        change.commit().await
    }

    async fn lease(
        &self,
        now: UnixMillis,
        lease: UnixMillis,
        limit: u32,
        busy: &[WebhookId],
    ) -> Result<Vec<Due>, LedgerError> {
        let due = || {
            let mut wanted = Builder::new(
                "SELECT deliveries.webhook_id, deliveries.message_id, deliveries.attempts FROM deliveries
                 JOIN webhooks ON webhooks.id = deliveries.webhook_id
                 WHERE deliveries.state = 'pending' AND webhooks.disabled_at IS NULL AND deliveries.next_attempt_at <= ",
            );
            wanted.push_bind(sql(now.0));
            if !busy.is_empty() {
                wanted
                    .push(" AND deliveries.webhook_id NOT IN ")
                    .push_list(busy.iter().map(WebhookId::as_str));
            }
            wanted.push(
                " AND NOT EXISTS (SELECT 1 FROM deliveries AS earlier
                     WHERE earlier.webhook_id = deliveries.webhook_id AND earlier.subject = deliveries.subject
                     AND earlier.state = 'pending' AND earlier.number < deliveries.number)
                 ORDER BY deliveries.next_attempt_at, deliveries.message_id LIMIT ",
            );
            wanted.push_bind(limit);
            wanted.build()
        };
        let read = |row: Row| -> Result<(WebhookId, MessageId, u32), sqlx::Error> {
            Ok((parsed(&row, "webhook_id")?, parsed(&row, "message_id")?, number(&row, "attempts")?))
        };
        // Most of the time there is nothing, and nobody shall wait for its turn to write to learn that.
        if due().try_map(read).fetch_all(&self.read).await?.is_empty() {
            return Ok(Vec::new());
        }
        let mut change = self.write.begin().await?;
        let found = due().try_map(read).fetch_all(&mut change).await?;
        let pairs: Vec<_> = found.iter().map(|(webhook, message, _)| (webhook, message)).collect();
        given!(
            change,
            &pairs,
            "UPDATE deliveries SET next_attempt_at = $2
             FROM " " WHERE deliveries.webhook_id = given.value ->> 0 AND deliveries.message_id = given.value ->> 1"
        )
        .bind(sql(lease.0))
        .execute(&mut change)
        .await?;
        let webhooks: BTreeSet<_> = found.iter().map(|(webhook, ..)| [webhook.as_str()]).collect();
        let endpoints = given!(
            change,
            &webhooks,
            "SELECT webhooks.* FROM " " CROSS JOIN webhooks WHERE webhooks.id = given.value ->> 0"
        )
        .try_map(|row| read_endpoint(&row))
        .fetch_all(&mut change)
        .await?;
        let ids: BTreeSet<_> = found.iter().map(|(_, message, _)| [message.as_str()]).collect();
        let messages = given!(
            change,
            &ids,
            "SELECT outbox.* FROM " " CROSS JOIN outbox WHERE outbox.id = given.value ->> 0"
        )
        .try_map(|row| read_message(&row))
        .fetch_all(&mut change)
        .await?;
        change.commit().await?;
        let endpoints: HashMap<_, _> =
            endpoints.into_iter().map(|endpoint| (endpoint.id.clone(), endpoint)).collect();
        let messages: HashMap<_, _> =
            messages.into_iter().map(|message| (message.id.clone(), message)).collect();
        // Both are there: deliveries refer to them.
        let taken = found.into_iter().filter_map(|(webhook, message, attempts)| {
            let (endpoint, message) = (endpoints.get(&webhook)?.clone(), messages.get(&message)?.clone());
            Some(Due { endpoint, message, attempts })
        });
        Ok(taken.collect())
    }

    async fn write_attempt(
        &self,
        webhook: &WebhookId,
        message: &MessageId,
        attempt: &Attempt,
    ) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        query(
            "UPDATE deliveries SET state = $1, attempts = attempts + 1, next_attempt_at = $2, status = $3, error = $4
             WHERE webhook_id = $5 AND message_id = $6",
        )
        .bind(delivery_text(attempt.state))
        .bind(sql(attempt.next_attempt_at.0))
        .bind(attempt.status.map(i64::from))
        .bind(&attempt.error)
        .bind(webhook.as_str())
        .bind(message.as_str())
        .execute(&mut change)
        .await?;
        if let Some(reason) = &attempt.disable {
            query("UPDATE webhooks SET disabled_at = $1, disabled_reason = $2 WHERE id = $3 AND disabled_at IS NULL")
                .bind(sql(attempt.at.0))
                .bind(reason)
                .bind(webhook.as_str())
                .execute(&mut change)
                .await?;
        }
        change.commit().await
    }

    async fn again(
        &self,
        merchant: &MerchantId,
        webhook: &WebhookId,
        which: &Replay,
        now: UnixMillis,
    ) -> Result<u64, LedgerError> {
        let mut change = self.write.begin().await?;
        let endpoint =
            endpoints(merchant.as_str(), &mut change).await?.into_iter().find(|known| known.id == *webhook);
        let Some(endpoint) = endpoint else {
            let error = LedgerError::NotFound(format!("the webhook {webhook}"));
            return Err(change.refuse(error).await);
        };
        let mut wanted = Builder::new(
            "SELECT outbox.id, outbox.subject, outbox.number, outbox.kind, outbox.created_at FROM outbox WHERE outbox.merchant_id = ",
        );
        wanted.push_bind(merchant.as_str());
        match which {
            Replay::Message(message) => {
                wanted.push(" AND outbox.id = ").push_bind(message.as_str());
            }
            Replay::Since(since) => {
                wanted.push(" AND outbox.created_at >= ").push_bind(sql(since.0));
                wanted.push(
                    " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.message_id = outbox.id
                         AND deliveries.state <> 'failed' AND deliveries.webhook_id = ",
                );
                wanted.push_bind(webhook.as_str()).push(")");
            }
        }
        wanted.push(" ORDER BY outbox.created_at, outbox.id LIMIT ").push_bind(MAX_REPLAY);
        let found: Vec<(String, String, i64, String, i64)> = wanted
            .build()
            .try_map(|row| {
                Ok((
                    row.try_get("id")?,
                    row.try_get("subject")?,
                    row.try_get("number")?,
                    row.try_get("kind")?,
                    row.try_get("created_at")?,
                ))
            })
            .fetch_all(&mut change)
            .await?;
        let mut count = 0;
        for (message, subject, place, kind, created_at) in found {
            // One that is asked for by name is sent whatever the endpoint wants otherwise.
            if matches!(which, Replay::Since(_)) && !endpoint.wants(&kind) {
                continue;
            }
            count += query(
                "INSERT INTO deliveries (webhook_id, message_id, subject, number, state, next_attempt_at, created_at)
                 VALUES ($1, $2, $3, $4, 'pending', $5, $6)
                 ON CONFLICT (webhook_id, message_id) DO UPDATE SET
                     state = 'pending', attempts = 0, next_attempt_at = excluded.next_attempt_at",
            )
            .bind(webhook.as_str())
            .bind(message)
            .bind(subject)
            .bind(place)
            .bind(sql(now.0))
            .bind(created_at)
            .execute(&mut change)
            .await?;
        }
        change.commit().await?;
        Ok(count)
    }

    async fn forget(&self, before: UnixMillis) -> Result<u64, LedgerError> {
        let mut change = self.write.begin().await?;
        query("DELETE FROM deliveries WHERE message_id IN (SELECT id FROM outbox WHERE created_at < $1)")
            .bind(sql(before.0))
            .execute(&mut change)
            .await?;
        let gone = query("DELETE FROM outbox WHERE created_at < $1")
            .bind(sql(before.0))
            .execute(&mut change)
            .await?;
        change.commit().await?;
        Ok(gone)
    }
}

impl Outbox for SqlLedger {
    fn put_endpoint<'a>(&'a self, endpoint: &'a Endpoint) -> Answer<'a, ()> {
        Box::pin(self.write_endpoint(endpoint))
    }

    fn change_endpoint<'a>(&'a self, before: &'a Endpoint, after: &'a Endpoint) -> Answer<'a, bool> {
        Box::pin(self.rewrite_endpoint(before, after))
    }

    fn endpoint<'a>(&'a self, merchant: &'a MerchantId, id: &'a WebhookId) -> Answer<'a, Option<Endpoint>> {
        Box::pin(
            query("SELECT * FROM webhooks WHERE id = $1 AND merchant_id = $2")
                .bind(id.as_str())
                .bind(merchant.as_str())
                .try_map(|row| read_endpoint(&row))
                .fetch_optional(&self.read),
        )
    }

    fn endpoints<'a>(&'a self, merchant: &'a MerchantId) -> Answer<'a, Vec<Endpoint>> {
        Box::pin(endpoints(merchant.as_str(), &self.read))
    }

    fn remove_endpoint<'a>(&'a self, merchant: &'a MerchantId, id: &'a WebhookId) -> Answer<'a, bool> {
        Box::pin(self.drop_endpoint(merchant, id))
    }

    fn post<'a>(&'a self, message: &'a Message) -> Answer<'a, ()> {
        Box::pin(self.post_message(message))
    }

    fn take_due<'a>(
        &'a self,
        now: UnixMillis,
        lease: UnixMillis,
        limit: u32,
        busy: &'a [WebhookId],
    ) -> Answer<'a, Vec<Due>> {
        Box::pin(self.lease(now, lease, limit, busy))
    }

    fn attempted<'a>(
        &'a self,
        webhook: &'a WebhookId,
        message: &'a MessageId,
        attempt: &'a Attempt,
    ) -> Answer<'a, ()> {
        Box::pin(self.write_attempt(webhook, message, attempt))
    }

    fn deliveries<'a>(
        &'a self,
        merchant: &'a MerchantId,
        webhook: &'a WebhookId,
        state: Option<DeliveryState>,
        after: Option<&'a (UnixMillis, MessageId)>,
        limit: u32,
    ) -> Answer<'a, Vec<Delivery>> {
        let mut wanted = Builder::new(
            "SELECT deliveries.*, outbox.kind FROM deliveries
             JOIN outbox ON outbox.id = deliveries.message_id
             JOIN webhooks ON webhooks.id = deliveries.webhook_id
             WHERE webhooks.merchant_id = ",
        );
        wanted.push_bind(merchant.as_str()).push(" AND deliveries.webhook_id = ").push_bind(webhook.as_str());
        if let Some(state) = state {
            wanted.push(" AND deliveries.state = ").push_bind(delivery_text(state));
        }
        if let Some((at, message)) = after {
            wanted.push(" AND (deliveries.created_at, deliveries.message_id) < (").push_bind(sql(at.0));
            wanted.push(", ").push_bind(message.as_str()).push(")");
        }
        wanted
            .push(" ORDER BY deliveries.created_at DESC, deliveries.message_id DESC LIMIT ")
            .push_bind(limit);
        Box::pin(wanted.build().try_map(|row| read_delivery(&row)).fetch_all(&self.read))
    }

    fn replay<'a>(
        &'a self,
        merchant: &'a MerchantId,
        webhook: &'a WebhookId,
        which: &'a Replay,
        now: UnixMillis,
    ) -> Answer<'a, u64> {
        Box::pin(self.again(merchant, webhook, which, now))
    }

    fn forget_messages(&self, before: UnixMillis) -> Answer<'_, u64> {
        Box::pin(self.forget(before))
    }
}
