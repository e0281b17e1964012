//! API keys, and answers that are kept for a day.

use haul_commerce::{
    LedgerError,
    keys::{ABANDONED_AFTER, Answered, ApiKey, Asked, Keys, Known, MAX_ANSWERS, MAX_KEYS, Permission},
    ledger::Answer,
};
use haul_model::{KeyId, MerchantId, UnixMillis};

use super::{
    SqlLedger,
    db::{Row, query, query_scalar},
    row::{bad, parsed, sql, text, time},
};

fn read_key(row: &Row) -> Result<ApiKey, sqlx::Error> {
    let scopes: Result<Vec<Permission>, _> =
        text(row, "scopes")?.split_whitespace().map(str::parse).collect();
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    Ok(ApiKey {
        id: parsed(row, "id")?,
        merchant: parsed(row, "merchant_id")?,
        name: row.try_get("name")?,
        scopes: scopes.map_err(|error| bad("scopes", error))?,
        hash: row.try_get("hash")?,
        created_at: time(row, "created_at")?,
        revoked_at: revoked_at.map(|at| UnixMillis(at.unsigned_abs())),
    })
}

impl SqlLedger {
    async fn new_key(&self, key: &ApiKey) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        query("INSERT INTO merchants (id) VALUES ($1) ON CONFLICT (id) DO NOTHING")
            .bind(key.merchant.as_str())
            .execute(&mut change)
            .await?;
        let known: i64 = query_scalar(
            "SELECT COUNT(*) FROM api_keys WHERE merchant_id = $1 AND revoked_at IS NULL AND id <> $2",
        )
        .bind(key.merchant.as_str())
        .bind(key.id.as_str())
        .fetch_one(&mut change)
        .await?;
        if known >= MAX_KEYS as i64 {
            let error = format!("a merchant may have {MAX_KEYS} keys: revoke one");
            return Err(change.refuse(LedgerError::Conflict(error)).await);
        }
        let scopes: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
        let put = query(
            "INSERT INTO api_keys (id, merchant_id, name, scopes, hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET hash = excluded.hash
                 WHERE api_keys.merchant_id = excluded.merchant_id AND api_keys.revoked_at IS NULL",
        )
        .bind(key.id.as_str())
        .bind(key.merchant.as_str())
        .bind(&key.name)
        .bind(scopes.join(" "))
        .bind(&key.hash)
        .bind(sql(key.created_at.0))
        .execute(&mut change)
        .await?;
        if put == 0 {
            let error = LedgerError::Conflict(format!("the key {} is another one, or revoked", key.id));
            return Err(change.refuse(error).await);
        }
        change.commit().await
    }

    async fn begin_asked(&self, asked: &Asked) -> Result<Known, LedgerError> {
        let mut change = self.write.begin().await?;
        let known = query("SELECT * FROM requests WHERE merchant_id = $1 AND actor = $2 AND key = $3")
            .bind(asked.merchant.as_str())
            .bind(&asked.actor)
            .bind(&asked.key)
            .try_map(|row| {
                let status: Option<i64> = row.try_get("status")?;
                let content_type: Option<String> = row.try_get("content_type")?;
                let body: Option<String> = row.try_get("body")?;
                let answer = match status {
                    None => None,
                    Some(status) => Some(Answered {
                        status: u16::try_from(status).map_err(|error| bad("status", error))?,
                        content_type: content_type.unwrap_or_default(),
                        body: body.unwrap_or_default(),
                    }),
                };
                let request: String = row.try_get("request")?;
                Ok((request, time(&row, "begun_at")?, answer))
            })
            .fetch_optional(&mut change)
            .await?;
        let known = match known {
            Some((request, _, _)) if request != asked.request => Known::Other,
            Some((_, _, Some(answer))) => Known::Answered(answer),
            Some((_, begun_at, None)) if asked.at < begun_at + ABANDONED_AFTER => Known::Running,
            // Left behind by a process that is gone.
            Some(_) => {
                query("UPDATE requests SET begun_at = $1 WHERE merchant_id = $2 AND actor = $3 AND key = $4")
                    .bind(sql(asked.at.0))
                    .bind(asked.merchant.as_str())
                    .bind(&asked.actor)
                    .bind(&asked.key)
                    .execute(&mut change)
                    .await?;
                Known::New
            }
            None => {
                let kept: i64 = query_scalar("SELECT COUNT(*) FROM requests WHERE merchant_id = $1")
                    .bind(asked.merchant.as_str())
                    .fetch_one(&mut change)
                    .await?;
                if kept >= i64::from(MAX_ANSWERS) {
                    Known::Full
                } else {
                    query(
                        "INSERT INTO requests (merchant_id, actor, key, request, begun_at) VALUES ($1, $2, $3, $4, $5)",
                    )
                    .bind(asked.merchant.as_str())
                    .bind(&asked.actor)
                    .bind(&asked.key)
                    .bind(&asked.request)
                    .bind(sql(asked.at.0))
                    .execute(&mut change)
                    .await?;
                    Known::New
                }
            }
        };
        change.commit().await?;
        Ok(known)
    }

    async fn end_asked(&self, asked: &Asked, answer: Option<&Answered>) -> Result<(), LedgerError> {
        let statement = match answer {
            None => query(
                "DELETE FROM requests WHERE merchant_id = $1 AND actor = $2 AND key = $3 AND status IS NULL",
            ),
            Some(_) => query(
                "UPDATE requests SET status = $4, content_type = $5, body = $6
                 WHERE merchant_id = $1 AND actor = $2 AND key = $3 AND status IS NULL",
            ),
        };
        let mut statement = statement.bind(asked.merchant.as_str()).bind(&asked.actor).bind(&asked.key);
        if let Some(Answered { status, content_type, body }) = answer {
            statement = statement.bind(i64::from(*status)).bind(content_type).bind(body);
        }
        statement.execute(&self.write).await.map(|_| ())
    }
}

impl Keys for SqlLedger {
    fn put_key<'a>(&'a self, key: &'a ApiKey) -> Answer<'a, ()> {
        Box::pin(self.new_key(key))
    }

    fn key<'a>(&'a self, key: &'a KeyId) -> Answer<'a, Option<ApiKey>> {
        Box::pin(
            query("SELECT * FROM api_keys WHERE id = $1")
                .bind(key.as_str())
                .try_map(|row| read_key(&row))
                .fetch_optional(&self.read),
        )
    }

    fn keys<'a>(&'a self, merchant: &'a MerchantId, limit: u32) -> Answer<'a, Vec<ApiKey>> {
        Box::pin(
            query("SELECT * FROM api_keys WHERE merchant_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2")
                .bind(merchant.as_str())
                .bind(limit)
                .try_map(|row| read_key(&row))
                .fetch_all(&self.read),
        )
    }

    fn revoke_key<'a>(
        &'a self,
        merchant: &'a MerchantId,
        key: &'a KeyId,
        at: UnixMillis,
    ) -> Answer<'a, ApiKey> {
        Box::pin(async move {
            query(
                "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $1) WHERE id = $2 AND merchant_id = $3
                 RETURNING *",
            )
            .bind(sql(at.0))
            .bind(key.as_str())
            .bind(merchant.as_str())
            .try_map(|row| read_key(&row))
            .fetch_optional(&self.write)
            .await?
            .ok_or_else(|| LedgerError::NotFound(format!("the key {key}")))
        })
    }

    fn begin_request<'a>(&'a self, asked: &'a Asked) -> Answer<'a, Known> {
        Box::pin(self.begin_asked(asked))
    }

    fn end_request<'a>(&'a self, asked: &'a Asked, answer: Option<&'a Answered>) -> Answer<'a, ()> {
        Box::pin(self.end_asked(asked, answer))
    }

    fn forget_requests(&self, before: UnixMillis) -> Answer<'_, u64> {
        Box::pin(query("DELETE FROM requests WHERE begun_at < $1").bind(sql(before.0)).execute(&self.write))
    }
}
