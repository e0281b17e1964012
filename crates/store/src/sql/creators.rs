//! Creators, and what buyers did under their `ref`.

use haul_commerce::{
    LedgerError,
    attribution::{Creator, CreatorKind, CreatorPut, Creators, MAX_TOUCH_BATCH, Touch, TouchKind},
    ledger::Answer,
};
use haul_model::{CreatorId, MerchantId};

use super::{
    SqlLedger,
    db::{Row, query, query_scalar},
    row::{self, bad, sql},
};

const KINDS: [CreatorKind; 2] = [CreatorKind::Kol, CreatorKind::Koc];

fn kind_text(kind: CreatorKind) -> &'static str {
    match kind {
        CreatorKind::Kol => "kol",
        CreatorKind::Koc => "koc",
    }
}

pub(super) fn touch_kind(text: &str) -> Result<TouchKind, sqlx::Error> {
    let kinds = [TouchKind::Join, TouchKind::Click, TouchKind::Order];
    kinds.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| bad("kind", "no known kind"))
}

pub(super) fn creator(row: &Row) -> Result<Creator, sqlx::Error> {
    let kind: &str = row.try_get("kind")?;
    let kind = KINDS.into_iter().find(|known| kind_text(*known) == kind);
    let bps: Option<i64> = row.try_get("creator_bps")?;
    Ok(Creator {
        id: row::parsed(row, "id")?,
        merchant: row::parsed(row, "merchant_id")?,
        name: row.try_get("name")?,
        kind: kind.ok_or_else(|| bad("kind", "no known kind"))?,
        code: row.try_get("code")?,
        agency: row::parsed_if(row, "agency_id")?,
        buyer: row::parsed_if(row, "buyer_id")?,
        creator_bps: bps.map(u32::try_from).transpose().map_err(|error| bad("creator_bps", error))?,
        active: row.try_get("active")?,
    })
}

pub(super) fn touch(row: &Row) -> Result<Touch, sqlx::Error> {
    Ok(Touch {
        kind: touch_kind(row.try_get("kind")?)?,
        creator: row::parsed_if(row, "creator_id")?,
        buyer: row::parsed_if(row, "buyer_id")?,
        live: row::parsed(row, "live_id")?,
        product: row::parsed_if(row, "product_id")?,
        hold: row::parsed_if(row, "hold_id")?,
        at: row::time(row, "at")?,
    })
}

impl SqlLedger {
    async fn put_creator(&self, creator: &Creator) -> Result<CreatorPut, LedgerError> {
        let mut change = self.write.begin().await?;
        let owner: Option<String> =
            query_scalar("SELECT id FROM creators WHERE merchant_id = $1 AND code = $2 AND id <> $3")
                .bind(creator.merchant.as_str())
                .bind(&creator.code)
                .bind(creator.id.as_str())
                .fetch_optional(&mut change)
                .await?;
        if let Some(owner) = owner {
            let owner = owner.parse().map_err(|_| LedgerError::Conflict("a bad creator's id".to_owned()))?;
            change.commit().await?;
            return Ok(CreatorPut::CodeTaken(owner));
        }
        query(
            "INSERT INTO creators (merchant_id, id, name, kind, code, agency_id, buyer_id, creator_bps, active)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (merchant_id, id) DO UPDATE SET
                 name = excluded.name, kind = excluded.kind, code = excluded.code, agency_id = excluded.agency_id,
                 buyer_id = excluded.buyer_id, creator_bps = excluded.creator_bps, active = excluded.active",
        )
        .bind(creator.merchant.as_str())
        .bind(creator.id.as_str())
        .bind(&creator.name)
        .bind(kind_text(creator.kind))
        .bind(&creator.code)
        .bind(creator.agency.as_ref().map(|agency| agency.as_str()))
        .bind(creator.buyer.as_ref().map(|buyer| buyer.as_str()))
        .bind(creator.creator_bps.map(i64::from))
        .bind(creator.active)
        .execute(&mut change)
        .await?;
        change.commit().await?;
        Ok(CreatorPut::Done)
    }

    async fn creator(&self, merchant: &MerchantId, id: &CreatorId) -> Result<Option<Creator>, LedgerError> {
        query("SELECT * FROM creators WHERE merchant_id = $1 AND id = $2")
            .bind(merchant.as_str())
            .bind(id.as_str())
            .try_map(|row| creator(&row))
            .fetch_optional(&self.read)
            .await
    }

    async fn creator_by_code(
        &self,
        merchant: &MerchantId,
        code: &str,
    ) -> Result<Option<Creator>, LedgerError> {
        query("SELECT * FROM creators WHERE merchant_id = $1 AND code = $2")
            .bind(merchant.as_str())
            .bind(code)
            .try_map(|row| creator(&row))
            .fetch_optional(&self.read)
            .await
    }

    async fn creators(
        &self,
        merchant: &MerchantId,
        after: Option<&CreatorId>,
        limit: u32,
    ) -> Result<Vec<Creator>, LedgerError> {
        query("SELECT * FROM creators WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(merchant.as_str())
            .bind(after.map_or("", |after| after.as_str()))
            .bind(i64::from(limit))
            .try_map(|row| creator(&row))
            .fetch_all(&self.read)
            .await
    }

    async fn record_touches(&self, touches: &[(MerchantId, Touch)]) -> Result<(), LedgerError> {
        if touches.len() > MAX_TOUCH_BATCH {
            return Err(LedgerError::Conflict(format!("{} touches at once", touches.len())));
        }
        let mut change = self.write.begin().await?;
        for (merchant, touch) in touches {
            query(
                "INSERT INTO touches (merchant_id, live_id, kind, creator_id, buyer_id, product_id, hold_id, at)
                 SELECT lives.merchant_id, lives.id, $3, $4, $5, $6, $7, $8 FROM lives
                 WHERE lives.merchant_id = $1 AND lives.id = $2
                   AND ($4 IS NULL OR EXISTS (SELECT 1 FROM creators WHERE merchant_id = $1 AND id = $4))",
            )
            .bind(merchant.as_str())
            .bind(touch.live.as_str())
            .bind(touch.kind.as_str())
            .bind(touch.creator.as_ref().map(|creator| creator.as_str()))
            .bind(touch.buyer.as_ref().map(|buyer| buyer.as_str()))
            .bind(touch.product.as_ref().map(|product| product.as_str()))
            .bind(touch.hold.as_ref().map(|hold| hold.as_str()))
            .bind(sql(touch.at.0))
            .execute(&mut change)
            .await?;
        }
        change.commit().await
    }
}

impl Creators for SqlLedger {
    fn put_creator<'a>(&'a self, creator: &'a Creator) -> Answer<'a, CreatorPut> {
        Box::pin(self.put_creator(creator))
    }

    fn creator<'a>(
        &'a self,
        merchant: &'a MerchantId,
        creator: &'a CreatorId,
    ) -> Answer<'a, Option<Creator>> {
        Box::pin(self.creator(merchant, creator))
    }

    fn creator_by_code<'a>(&'a self, merchant: &'a MerchantId, code: &'a str) -> Answer<'a, Option<Creator>> {
        Box::pin(self.creator_by_code(merchant, code))
    }

    fn creators<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a CreatorId>,
        limit: u32,
    ) -> Answer<'a, Vec<Creator>> {
        Box::pin(self.creators(merchant, after, limit))
    }

    fn record_touches<'a>(&'a self, touches: &'a [(MerchantId, Touch)]) -> Answer<'a, ()> {
        Box::pin(self.record_touches(touches))
    }
}
