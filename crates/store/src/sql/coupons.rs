//! Coupons, and what orders use of them.
//!
//! An order that is being paid or is sold uses its coupon once. A constraint keeps the counter within the limit; uses of one
//! buyer are counted in the transaction that adds one.

use haul_commerce::{
    Coupon, CouponTerms, CouponUse, LedgerError, NewOrder, OrderState,
    coupon::{Discount, MAX_COUPONS},
};
use haul_model::{CouponCode, LiveId, ProductId};

use super::{
    SqlLedger,
    change::Change,
    db::{Row, query, query_scalar},
    row::{self, Read, bad, number, parsed, parsed_if, sql, text, time},
};

/// Whether an order in this state uses its coupon.
fn uses(state: OrderState) -> bool {
    matches!(state, OrderState::Paying | OrderState::Sold)
}

impl SqlLedger {
    pub(super) async fn put_coupon(&self, coupon: &Coupon) -> Result<Coupon, LedgerError> {
        let mut change = self.write.begin().await?;
        let count: i64 = query_scalar("SELECT COUNT(*) FROM coupons WHERE live_id = $1 AND code <> $2")
            .bind(coupon.live.as_str())
            .bind(coupon.code.as_str())
            .fetch_one(&mut change)
            .await?;
        if count >= MAX_COUPONS as i64 {
            return Err(LedgerError::Conflict(format!("a live may have {MAX_COUPONS} coupons")));
        }
        let (amount, percent) = match coupon.discount {
            Discount::Amount(minor) => (Some(minor), None),
            Discount::Percent(percent) => (None, Some(i64::from(percent))),
        };
        let products: Vec<&str> = coupon.products.iter().map(ProductId::as_str).collect();
        query(
            "INSERT INTO coupons (merchant_id, live_id, code, amount_minor, percent, currency, minimum_minor, sale_id,
                                  products, uses, per_buyer, valid_from, valid_until, closed, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             ON CONFLICT (live_id, code) DO NOTHING",
        )
        .bind(coupon.merchant.as_str())
        .bind(coupon.live.as_str())
        .bind(coupon.code.as_str())
        .bind(amount)
        .bind(percent)
        .bind(coupon.currency.code())
        .bind(coupon.minimum_minor)
        .bind(coupon.sale.as_ref().map(|sale| sale.as_str()))
        .bind(products.join(" "))
        .bind(coupon.terms.limit)
        .bind(coupon.terms.per_buyer)
        .bind(sql(coupon.terms.valid_from.0))
        .bind(sql(coupon.terms.valid_until.0))
        .bind(coupon.terms.closed)
        .bind(sql(coupon.created_at.0))
        .execute(&mut change)
        .await?;
        let known = find(&mut change, &coupon.live, &coupon.code).await?;
        change.commit().await?;
        // Made again by a retry a moment later, it is the same: only its times are those of the first.
        let wanted = Coupon {
            terms: CouponTerms {
                valid_from: known.terms.valid_from,
                valid_until: known.terms.valid_until,
                ..coupon.terms.clone()
            },
            created_at: known.created_at,
            ..coupon.clone()
        };
        if known != wanted {
            return Err(LedgerError::Conflict(format!(
                "the live {} has another coupon {}",
                coupon.live, coupon.code
            )));
        }
        Ok(known)
    }

    pub(super) async fn change_coupon(
        &self,
        live: &LiveId,
        code: &CouponCode,
        terms: &CouponTerms,
    ) -> Result<Coupon, LedgerError> {
        let mut change = self.write.begin().await?;
        let known = find(&mut change, live, code).await?;
        let terms = known.terms.changed_to(terms);
        query("UPDATE coupons SET uses = $1, closed = $2 WHERE live_id = $3 AND code = $4")
            .bind(terms.limit)
            .bind(terms.closed)
            .bind(live.as_str())
            .bind(code.as_str())
            .execute(&mut change)
            .await?;
        change.commit().await?;
        Ok(Coupon { terms, ..known })
    }

    pub(super) async fn coupons(&self, live: &LiveId) -> Result<Vec<CouponUse>, LedgerError> {
        query(
            "SELECT coupons.*,
                    (SELECT COUNT(*) FROM orders WHERE orders.live_id = coupons.live_id
                     AND orders.coupon = coupons.code AND orders.state = 'paying') AS paying,
                    (SELECT COUNT(*) FROM orders WHERE orders.live_id = coupons.live_id
                     AND orders.coupon = coupons.code AND orders.state = 'sold') AS sold
             FROM coupons WHERE live_id = $1 ORDER BY created_at, code",
        )
        .bind(live.as_str())
        .try_map(|row| {
            Ok(CouponUse {
                coupon: coupon(&row)?,
                paying: number(&row, "paying")?,
                sold: number(&row, "sold")?,
                counted: number(&row, "used")?,
            })
        })
        .fetch_all(&self.read)
        .await
    }

    pub(super) async fn coupon(
        &self,
        live: &LiveId,
        code: &CouponCode,
    ) -> Result<Option<CouponUse>, LedgerError> {
        // At most MAX_COUPONS of them.
        let coupons = self.coupons(live).await?;
        Ok(coupons.into_iter().find(|known| known.coupon.code == *code))
    }
}

/// Counts what an order uses of its coupon when it comes to a state; `None`: it is made. Too many uses are a `Conflict`.
pub(super) async fn count(
    change: &mut Change,
    order: &NewOrder,
    from: Option<OrderState>,
    to: OrderState,
) -> Result<(), LedgerError> {
    let Some(coupon) = &order.coupon else { return Ok(()) };
    let by = i64::from(uses(to)) - i64::from(from.is_some_and(uses));
    if by == 0 {
        return Ok(());
    }
    let counted = query("UPDATE coupons SET used = used + $1 WHERE live_id = $2 AND code = $3")
        .bind(by)
        .bind(order.live.as_str())
        .bind(coupon.code.as_str())
        .execute(&mut *change)
        .await?;
    if counted == 0 {
        return Err(LedgerError::Conflict(format!("the live {} has no coupon {}", order.live, coupon.code)));
    }
    if by < 0 {
        return Ok(());
    }
    let (theirs, per_buyer) = query(
        "SELECT per_buyer, (SELECT COUNT(*) FROM orders WHERE live_id = $1 AND coupon = $2 AND buyer_id = $3
                            AND state IN ('paying', 'sold') AND id <> $4) AS theirs
         FROM coupons WHERE live_id = $1 AND code = $2",
    )
    .bind(order.live.as_str())
    .bind(coupon.code.as_str())
    .bind(order.buyer.as_str())
    .bind(order.id.as_str())
    .try_map(|row| Ok((number::<i64>(&row, "theirs")?, number::<i64>(&row, "per_buyer")?)))
    .fetch_one(&mut *change)
    .await?;
    match theirs < per_buyer {
        true => Ok(()),
        false => Err(LedgerError::Conflict(format!(
            "{} uses the coupon {} as often as one may",
            order.buyer, coupon.code
        ))),
    }
}

async fn find(change: &mut Change, live: &LiveId, code: &CouponCode) -> Result<Coupon, LedgerError> {
    query("SELECT * FROM coupons WHERE live_id = $1 AND code = $2")
        .bind(live.as_str())
        .bind(code.as_str())
        .try_map(|row| coupon(&row))
        .fetch_optional(&mut *change)
        .await?
        .ok_or_else(|| LedgerError::NotFound(format!("the coupon {code}")))
}

fn coupon(row: &Row) -> Read<Coupon> {
    let amount: Option<i64> = row.try_get("amount_minor")?;
    let products = text(row, "products")?.split_whitespace().map(str::parse).collect::<Result<_, _>>();
    Ok(Coupon {
        code: parsed(row, "code")?,
        merchant: parsed(row, "merchant_id")?,
        live: parsed(row, "live_id")?,
        discount: match amount {
            Some(minor) => Discount::Amount(minor),
            None => Discount::Percent(number(row, "percent")?),
        },
        currency: row::currency(row)?,
        minimum_minor: row.try_get("minimum_minor")?,
        sale: parsed_if(row, "sale_id")?,
        products: products.map_err(|error| bad("products", error))?,
        terms: CouponTerms {
            limit: number(row, "uses")?,
            per_buyer: number(row, "per_buyer")?,
            valid_from: time(row, "valid_from")?,
            valid_until: time(row, "valid_until")?,
            closed: row.try_get("closed")?,
        },
        created_at: time(row, "created_at")?,
    })
}

/// What an order has of a coupon.
pub(super) fn of_order(row: &Row) -> Read<Option<haul_commerce::OrderCoupon>> {
    let Some(code) = parsed_if(row, "coupon")? else { return Ok(None) };
    Ok(Some(haul_commerce::OrderCoupon { code, amount: row::money(row, "coupon_minor")? }))
}
