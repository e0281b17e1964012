//! What the gate has said, written down behind it.

use haul_commerce::{HoldNotes, LedgerError, Mark, Recorded, book::HoldRecord, draw::TICKETS};
use haul_model::{HoldId, LiveId, SaleId, UnixMillis};
use serde::Serialize;

use super::{
    SqlLedger,
    db::{given, query},
    lines,
    row::{self, hold_state_text, sql},
};

/// Holds in one statement: a hundred kilobytes.
const ROWS: usize = 500;
/// How long entries in a draw are kept beyond other holds that are over.
const KEEP_ENTRIES_MS: u64 = 30 * 86_400_000;

/// What is written of a hold, in the order in which the statement takes it.
fn row_of(at: Mark, record: &HoldRecord) -> impl Serialize + '_ {
    (
        record.hold.as_str(),
        record.buyer.as_str(),
        record.units.quantity(),
        sql(record.made),
        hold_state_text(record.state),
        sql(record.deadline.0),
        record.order.as_ref().map(|order| order.as_str()),
        record.extended,
        record.retaken,
        sql(at.epoch),
        sql(at.sequence),
        (!record.units.is_plain()).then(|| record.units.to_string()),
        record.unreserved,
        record.returned.as_ref().map(|returned| returned.to_string()),
        record.coupon.as_ref().map(|coupon| coupon.as_str()),
    )
}

impl SqlLedger {
    pub(super) async fn gate_mark(&self, live: &LiveId, sale: &SaleId) -> Result<Mark, LedgerError> {
        query("SELECT gate_epoch, gate_sequence FROM sales WHERE live_id = $1 AND id = $2")
            .bind(live.as_str())
            .bind(sale.as_str())
            .try_map(|row| row::mark(&row))
            .fetch_optional(&self.read)
            .await?
            .ok_or_else(|| LedgerError::NotFound(format!("the sale {sale}")))
    }

    pub(super) async fn recorded(&self, live: &LiveId, sale: &SaleId) -> Result<Recorded, LedgerError> {
        // One transaction: an order must not be missing whose hold is already paid.
        let mut look = self.read.look().await?;
        let found = query("SELECT * FROM sales WHERE live_id = $1 AND id = $2")
            .bind(live.as_str())
            .bind(sale.as_str())
            .try_map(|row| {
                let sold: u32 = row::number(&row, "sold")?;
                Ok((row::mark(&row)?, row::time(&row, "gate_clock")?, row::sale(&row)?, sold))
            })
            .fetch_optional(&mut look)
            .await?;
        let Some((mark, clock, found, sold)) = found else {
            return Err(LedgerError::NotFound(format!("the sale {sale}")));
        };
        let holds = query("SELECT * FROM holds WHERE live_id = $1 AND sale_id = $2")
            .bind(live.as_str())
            .bind(sale.as_str())
            .try_map(|row| row::hold(&row))
            .fetch_all(&mut look)
            .await?;
        let orders = query("SELECT * FROM orders WHERE live_id = $1 AND sale_id = $2")
            .bind(live.as_str())
            .bind(sale.as_str())
            .try_map(|row| row::order(&row))
            .fetch_all(&mut look)
            .await?;
        let (mut found, mut sold) = (found, vec![sold]);
        for line in lines::sale_lines(&mut look, live, Some(sale)).await? {
            sold.push(line.sold);
            line.put(&mut found);
        }
        // The lines of an order stay as they were made.
        drop(look);
        let orders = self.with_lines(orders).await?;
        Ok(Recorded { mark, clock, sale: found, sold, holds, orders })
    }

    pub(super) async fn record_holds(&self, notes: &[HoldNotes]) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        for HoldNotes { live, sale, mark, clock, holds } in notes {
            let merchant: Option<String> = query(
                "UPDATE sales SET
                     gate_epoch = CASE WHEN (gate_epoch, gate_sequence) < ($1, $2) THEN $1 ELSE gate_epoch END,
                     gate_sequence = CASE WHEN (gate_epoch, gate_sequence) < ($1, $2) THEN $2 ELSE gate_sequence END,
                     gate_clock = CASE WHEN gate_clock < $3 THEN $3 ELSE gate_clock END
                 WHERE live_id = $4 AND id = $5 RETURNING merchant_id",
            )
            .bind(sql(mark.epoch))
            .bind(sql(mark.sequence))
            .bind(sql(clock.0))
            .bind(live.as_str())
            .bind(sale.as_str())
            .try_map(|row| row.try_get("merchant_id"))
            .fetch_optional(&mut change)
            .await?;
            let Some(merchant) = merchant else {
                return Err(LedgerError::NotFound(format!("the sale {sale}")));
            };
            for holds in holds.chunks(ROWS) {
                let rows: Vec<_> = holds.iter().map(|(at, record)| row_of(*at, record)).collect();
                given!(
                    change,
                    &rows,
                    "INSERT INTO holds (merchant_id, live_id, sale_id, id, buyer_id, quantity, made, state, deadline,
                                        order_id, extended, retaken, epoch, sequence, units, unreserved, returned, coupon)
                     SELECT $2, $3, $4, given.value ->> 0, given.value ->> 1, CAST(given.value ->> 2 AS BIGINT),
                            CAST(given.value ->> 3 AS BIGINT), given.value ->> 4, CAST(given.value ->> 5 AS BIGINT),
                            given.value ->> 6, CAST(given.value ->> 7 AS BOOLEAN), CAST(given.value ->> 8 AS BOOLEAN),
                            CAST(given.value ->> 9 AS BIGINT), CAST(given.value ->> 10 AS BIGINT), given.value ->> 11,
                            CAST(given.value ->> 12 AS BOOLEAN), given.value ->> 13, given.value ->> 14
                     FROM " " WHERE TRUE
                     ON CONFLICT (live_id, sale_id, id) DO UPDATE SET
                         buyer_id = excluded.buyer_id, quantity = excluded.quantity, made = excluded.made,
                         state = excluded.state, deadline = excluded.deadline, order_id = excluded.order_id,
                         extended = excluded.extended, retaken = excluded.retaken, epoch = excluded.epoch,
                         sequence = excluded.sequence, units = excluded.units, unreserved = excluded.unreserved,
                         returned = excluded.returned, coupon = excluded.coupon
                     WHERE (holds.epoch, holds.sequence) <= (excluded.epoch, excluded.sequence)"
                )
                .bind(&merchant)
                .bind(live.as_str())
                .bind(sale.as_str())
                .execute(&mut change)
                .await?;
            }
        }
        change.commit().await
    }

    pub(super) async fn hold_ids(
        &self,
        live: &LiveId,
        sale: &SaleId,
        limit: u32,
    ) -> Result<Vec<HoldId>, LedgerError> {
        query(
            "SELECT hold_id FROM orders WHERE live_id = $1 AND sale_id = $2
             UNION SELECT id FROM holds WHERE live_id = $1 AND sale_id = $2 LIMIT $3",
        )
        .bind(live.as_str())
        .bind(sale.as_str())
        .bind(limit)
        .try_map(|row| row::parsed(&row, "hold_id"))
        .fetch_all(&self.read)
        .await
    }

    pub(super) async fn forget_holds(&self, live: &LiveId, before: UnixMillis) -> Result<(), LedgerError> {
        let mut change = self.write.begin().await?;
        // What was HELD and whose end nobody wrote down, as the process ended before, has ended with its deadline. Entries in
        // a draw may be checked for longer.
        let entries_before = UnixMillis(before.0.saturating_sub(KEEP_ENTRIES_MS));
        query(
            "INSERT INTO forgotten_holds (merchant_id, live_id, sale_id, count)
             SELECT merchant_id, live_id, sale_id, COUNT(*) FROM holds
             WHERE live_id = $1 AND deadline < $2 AND state IN ('held', 'released') AND order_id IS NULL
                   AND (made < $3 OR deadline < $4)
             GROUP BY merchant_id, live_id, sale_id
             ON CONFLICT (live_id, sale_id) DO UPDATE SET count = forgotten_holds.count + excluded.count",
        )
        .bind(live.as_str())
        .bind(sql(before.0))
        .bind(sql(TICKETS.start))
        .bind(sql(entries_before.0))
        .execute(&mut change)
        .await?;
        query(
            "DELETE FROM holds WHERE live_id = $1 AND deadline < $2 AND state IN ('held', 'released') AND order_id IS NULL
                                 AND (made < $3 OR deadline < $4)",
        )
        .bind(live.as_str())
        .bind(sql(before.0))
        .bind(sql(TICKETS.start))
        .bind(sql(entries_before.0))
        .execute(&mut change)
        .await?;
        change.commit().await
    }
}
