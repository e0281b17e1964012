//! What sales and orders have beside their first line, units that are added to a sale, and units that come back.
//!
//! The first line of a sale is in `sales`, the others are in `sale_lines`; each is kept from being oversold by a
//! constraint of its own. All lines of an order are in `order_lines`, and an order of line 0 alone, as most are, is read
//! without looking there.

use std::collections::BTreeMap;

use haul_commerce::{
    LedgerError, Line, LineTerms, NewOrder, Order, OrderLine, OrderState, Sale, SaleLine, Units,
    parts::paid_by_line,
};
use haul_model::{LiveId, OrderId, SaleId, UnixMillis};

use super::{
    SqlLedger, catalogue,
    change::Change,
    db::{Builder, On, given, query, query_scalar},
    orders,
    row::{self, sql},
};

/// Orders whose lines are read in one statement.
const ROWS: usize = 500;

impl SqlLedger {
    pub(super) async fn add_stock(
        &self,
        live: &LiveId,
        sale: &SaleId,
        key: &str,
        line: Line,
        units: u32,
        at: UnixMillis,
    ) -> Result<Sale, LedgerError> {
        let mut change = self.write.begin().await?;
        let merchant: Option<String> =
            query_scalar("SELECT merchant_id FROM sales WHERE live_id = $1 AND id = $2")
                .bind(live.as_str())
                .bind(sale.as_str())
                .fetch_optional(&mut change)
                .await?;
        let Some(merchant) = merchant else {
            return Err(LedgerError::NotFound(format!("the sale {sale}")));
        };
        let new = query(
            "INSERT INTO stock_changes (merchant_id, live_id, sale_id, key, line, units, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (live_id, sale_id, key) DO NOTHING",
        )
        .bind(merchant)
        .bind(live.as_str())
        .bind(sale.as_str())
        .bind(key)
        .bind(i64::from(line))
        .bind(units)
        .bind(sql(at.0))
        .execute(&mut change)
        .await?;
        if new == 0 {
            let known = query(
                "SELECT line, units FROM stock_changes WHERE live_id = $1 AND sale_id = $2 AND key = $3",
            )
            .bind(live.as_str())
            .bind(sale.as_str())
            .bind(key)
            .try_map(|row| Ok((row::number::<Line>(&row, "line")?, row::number::<u32>(&row, "units")?)))
            .fetch_one(&mut change)
            .await?;
            if known != (line, units) {
                let error = LedgerError::Conflict(format!("other units were added under the key {key}"));
                return Err(error);
            }
        } else {
            let added = match line {
                0 => query("UPDATE sales SET stock = stock + $1 WHERE live_id = $2 AND id = $3"),
                _ => query("UPDATE sale_lines SET stock = stock + $1 WHERE live_id = $2 AND sale_id = $3 AND line = $4"),
            }
            .bind(units)
            .bind(live.as_str())
            .bind(sale.as_str());
            let added = if line == 0 { added } else { added.bind(i64::from(line)) };
            if added.execute(&mut change).await? == 0 {
                let error = LedgerError::NotFound(format!("a line {line} of the sale {sale}"));
                return Err(error);
            }
        }
        let found = catalogue::find_sale(live, sale, &mut change).await?;
        let found = found.ok_or_else(|| LedgerError::NotFound(format!("the sale {sale}")))?;
        if let Err(error) = found.terms.check_bounds() {
            return Err(LedgerError::Conflict(error.to_string()));
        }
        change.commit().await?;
        Ok(found)
    }

    pub(super) async fn restock(
        &self,
        order: &OrderId,
        key: &str,
        units: Option<&Units>,
        at: UnixMillis,
    ) -> Result<Order, LedgerError> {
        let mut change = self.write.begin().await?;
        let found = orders::find(&mut change, order).await?;
        let known: Option<String> =
            query_scalar("SELECT units FROM restocks WHERE order_id = $1 AND key = $2")
                .bind(order.as_str())
                .bind(key)
                .fetch_optional(&mut change)
                .await?;
        if let Some(known) = known {
            if units.is_some_and(|units| units.to_string() != known) {
                let error = LedgerError::Conflict(format!("other units came back under the key {key}"));
                return Err(error);
            }
            change.commit().await?;
            return Ok(found);
        }
        let back = come_back(&found, units)?;
        query("INSERT INTO restocks (merchant_id, order_id, key, units, at) VALUES ($1, $2, $3, $4, $5)")
            .bind(found.order.merchant.as_str())
            .bind(order.as_str())
            .bind(key)
            .bind(back.to_string())
            .bind(sql(at.0))
            .execute(&mut change)
            .await?;
        let before = |line| found.returned.as_ref().map_or(0, |returned| returned.of(line));
        let all = back.iter().map(|(line, units)| (line, before(line) + units));
        let rest = found.returned.iter().flat_map(Units::iter).filter(|(line, _)| back.of(*line) == 0);
        let all = Units::new(all.chain(rest)).map_err(|error| LedgerError::Conflict(error.to_string()))?;
        query("UPDATE orders SET returned = $1, returned_told = FALSE, updated_at = $2 WHERE id = $3")
            .bind(all.to_string())
            .bind(sql(at.0))
            .bind(order.as_str())
            .execute(&mut change)
            .await?;
        for (line, units) in back.iter() {
            count(&mut change, &found.order, line, -i64::from(units)).await?;
        }
        change.commit().await?;
        Ok(Order { returned: Some(all), updated_at: at, ..found })
    }

    pub(super) async fn restock_told(&self, order: &OrderId, returned: &Units) -> Result<(), LedgerError> {
        query("UPDATE orders SET returned_told = TRUE WHERE id = $1 AND returned = $2")
            .bind(order.as_str())
            .bind(returned.to_string())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    pub(super) async fn restocks_due(&self, live: &LiveId, limit: u32) -> Result<Vec<Order>, LedgerError> {
        let orders = query("SELECT * FROM orders WHERE live_id = $1 AND NOT returned_told LIMIT $2")
            .bind(live.as_str())
            .bind(limit)
            .try_map(|row| row::order(&row))
            .fetch_all(&self.read)
            .await?;
        self.with_lines(orders).await
    }

    /// Orders with those of their lines that are not in their own row.
    pub(super) async fn with_lines(&self, mut orders: Vec<Order>) -> Result<Vec<Order>, LedgerError> {
        let ids: Vec<OrderId> = orders
            .iter()
            .filter(|order| order.order.lines.is_empty())
            .map(|order| order.order.id.clone())
            .collect();
        for ids in ids.chunks(ROWS) {
            let ids: Vec<&str> = ids.iter().map(OrderId::as_str).collect();
            let lines = read_lines(&self.read, &ids).await?;
            put_lines(&mut orders, lines);
        }
        Ok(orders)
    }

    /// The same for one.
    pub(super) async fn with_its_lines(&self, order: Option<Order>) -> Result<Option<Order>, LedgerError> {
        Ok(self.with_lines(order.into_iter().collect()).await?.pop())
    }
}

/// What of a SOLD order comes back: these units, or all that have not.
fn come_back(order: &Order, units: Option<&Units>) -> Result<Units, LedgerError> {
    let refuse = |what: String| Err(LedgerError::Conflict(what));
    let id = &order.order.id;
    if order.state != OrderState::Sold {
        return refuse(format!("the order {id} is not sold"));
    }
    let kept = |line: Line| {
        order.order.lines.iter().find(|known| known.line == line).map_or(0, |line| order.kept(line))
    };
    match units {
        Some(units) if units.iter().all(|(line, quantity)| (1..=kept(line)).contains(&quantity)) => {
            Ok(units.clone())
        }
        Some(units) => refuse(format!("the order {id} has not {units} units left")),
        None => {
            let left = order.order.lines.iter().map(|line| (line.line, order.kept(line)));
            let left = Units::new(left.filter(|(_, quantity)| *quantity > 0));
            left.or_else(|_| refuse(format!("nothing of the order {id} is left")))
        }
    }
}

/// Counts units of a line of an order's sale as sold, or as back where there are fewer than none. The constraints against
/// overselling stand behind this.
async fn count(change: &mut Change, order: &NewOrder, line: Line, units: i64) -> Result<(), LedgerError> {
    let counted = match line {
        0 => query("UPDATE sales SET sold = sold + $1 WHERE merchant_id = $2 AND live_id = $3 AND id = $4"),
        _ => query(
            "UPDATE sale_lines SET sold = sold + $1
             WHERE merchant_id = $2 AND live_id = $3 AND sale_id = $4 AND line = $5",
        ),
    }
    .bind(units)
    .bind(order.merchant.as_str())
    .bind(order.live.as_str())
    .bind(order.sale.as_str());
    let counted = if line == 0 { counted } else { counted.bind(i64::from(line)) };
    counted.execute(&mut *change).await?;
    Ok(())
}

/// Counts all units of orders as sold: once for each line of a sale, however many orders have something of it.
pub(super) async fn sell<'a>(
    change: &mut Change,
    orders: impl Iterator<Item = &'a NewOrder>,
) -> Result<(), LedgerError> {
    let mut sums: BTreeMap<_, (&NewOrder, i64)> = BTreeMap::new();
    for order in orders {
        for (line, units) in order.units().iter() {
            let sale = (&order.merchant, &order.live, &order.sale, line);
            sums.entry(sale).or_insert((order, 0)).1 += i64::from(units);
        }
    }
    for ((.., line), (order, units)) in sums {
        count(&mut *change, order, line, units).await?;
    }
    Ok(())
}

/// Writes down the lines of a sale after the first. They stay as they are once they are there.
pub(super) async fn put_sale_lines(change: &mut Change, sale: &Sale) -> Result<(), LedgerError> {
    if sale.more.is_empty() {
        return Ok(());
    }
    let mut insert = Builder::new(
        "INSERT INTO sale_lines (merchant_id, live_id, sale_id, line, product_id, variant_id, unit_price_minor,
                                 currency, stock, per_buyer) ",
    );
    let lines = (1_i64..).zip(sale.more.iter().zip(&sale.terms.more));
    insert.push_values(lines, |mut row, (line, (what, terms))| {
        row.push_bind(sale.merchant.as_str())
            .push_bind(sale.live.as_str())
            .push_bind(sale.id.as_str())
            .push_bind(line)
            .push_bind(what.product.as_str())
            .push_bind(what.variant.as_ref().map(|variant| variant.as_str()))
            .push_bind(what.unit_price.amount_minor)
            .push_bind(what.unit_price.currency.code())
            .push_bind(terms.stock)
            .push_bind(terms.per_buyer);
    });
    insert.push(" ON CONFLICT (live_id, sale_id, line) DO NOTHING");
    insert.build().execute(&mut *change).await?;
    Ok(())
}

/// Writes down the lines of new orders.
pub(super) async fn put_lines_of(change: &mut Change, orders: &[Order]) -> Result<(), LedgerError> {
    let row = |(order, line): (&NewOrder, &OrderLine)| {
        (
            (order.merchant.clone(), order.id.clone(), line.line, line.product.clone(), line.variant.clone()),
            line.quantity,
            line.unit_price.amount_minor,
            line.total.amount_minor,
            line.total.currency.code().to_owned(),
        )
    };
    let lines =
        orders.iter().flat_map(|Order { order, .. }| order.lines.iter().map(move |line| (order, line)));
    let rows: Vec<_> = lines.map(row).collect();
    given!(
        change,
        &rows,
        "INSERT INTO order_lines (merchant_id, order_id, line, product_id, variant_id, quantity, unit_price_minor,
                                  total_minor, currency)
         SELECT given.value -> 0 ->> 0, given.value -> 0 ->> 1, CAST(given.value -> 0 ->> 2 AS BIGINT),
                given.value -> 0 ->> 3, given.value -> 0 ->> 4, CAST(given.value ->> 1 AS BIGINT),
                CAST(given.value ->> 2 AS BIGINT), CAST(given.value ->> 3 AS BIGINT), given.value ->> 4
         FROM " ""
    )
    .execute(&mut *change)
    .await
    .map(|_| ())
}

/// A line of a sale after the first.
pub(super) struct FurtherLine {
    pub(super) sale: SaleId,
    line: SaleLine,
    terms: LineTerms,
    pub(super) sold: u32,
}

impl FurtherLine {
    /// Puts it behind the lines that the sale has.
    pub(super) fn put(self, sale: &mut Sale) {
        sale.more.push(self.line);
        sale.terms.more.push(self.terms);
    }
}

/// The lines after the first of a live's sales, or of one of them: by sale, in order.
pub(super) async fn sale_lines<'a>(
    on: impl Into<On<'a>>,
    live: &LiveId,
    sale: Option<&SaleId>,
) -> Result<Vec<FurtherLine>, LedgerError> {
    let read = match sale {
        Some(sale) => {
            query("SELECT * FROM sale_lines WHERE live_id = $1 AND sale_id = $2 ORDER BY sale_id, line")
                .bind(live.as_str())
                .bind(sale.as_str())
        }
        None => {
            query("SELECT * FROM sale_lines WHERE live_id = $1 ORDER BY sale_id, line").bind(live.as_str())
        }
    };
    read.try_map(|row| {
        Ok(FurtherLine {
            sale: row::parsed(&row, "sale_id")?,
            line: SaleLine {
                product: row::parsed(&row, "product_id")?,
                variant: row::parsed_if(&row, "variant_id")?,
                unit_price: row::money(&row, "unit_price_minor")?,
            },
            terms: LineTerms {
                stock: row::number(&row, "stock")?,
                per_buyer: row::number(&row, "per_buyer")?,
            },
            sold: row::number(&row, "sold")?,
        })
    })
    .fetch_all(on)
    .await
}

/// Lines of these orders, in order.
pub(super) async fn read_lines<'a>(
    on: impl Into<On<'a>>,
    orders: &[&str],
) -> Result<Vec<(OrderId, OrderLine)>, LedgerError> {
    let mut read = Builder::new("SELECT * FROM order_lines WHERE order_id IN ");
    read.push_list(orders.iter().copied()).push(" ORDER BY order_id, line");
    read.build()
        .try_map(|row| {
            let line = OrderLine {
                line: row::number(&row, "line")?,
                product: row::parsed(&row, "product_id")?,
                variant: row::parsed_if(&row, "variant_id")?,
                quantity: row::number(&row, "quantity")?,
                unit_price: row::money(&row, "unit_price_minor")?,
                total: row::money(&row, "total_minor")?,
            };
            Ok((row::parsed(&row, "order_id")?, line))
        })
        .fetch_all(on)
        .await
}

/// Gives each order without lines its own.
pub(super) fn put_lines(orders: &mut [Order], lines: Vec<(OrderId, OrderLine)>) {
    for order in orders.iter_mut().filter(|order| order.order.lines.is_empty()) {
        let theirs = lines.iter().filter(|(id, _)| *id == order.order.id).map(|(_, line)| line.clone());
        order.order.lines = theirs.collect();
    }
}

/// What has not gone back of each line of an order, whose lines must be there, in their order.
pub(super) async fn left(change: &mut Change, order: &Order) -> Result<Vec<(Line, i64)>, LedgerError> {
    let back: BTreeMap<Line, i64> = query("SELECT line, refunded_minor FROM order_lines WHERE order_id = $1")
        .bind(order.order.id.as_str())
        .try_map(|row| Ok((row::number(&row, "line")?, row.try_get("refunded_minor")?)))
        .fetch_all(change)
        .await?
        .into_iter()
        .collect();
    let lines = order.order.lines.iter().map(|line| line.line).zip(paid_by_line(order));
    Ok(lines.map(|(line, paid)| (line, paid - back.get(&line).copied().unwrap_or(0))).collect())
}

/// Gives an order without lines its own, in the midst of a change.
pub(super) async fn fill(change: &mut Change, order: &mut Order) -> Result<(), LedgerError> {
    if order.order.lines.is_empty() {
        let lines = read_lines(&mut *change, &[order.order.id.as_str()]).await?;
        put_lines(std::slice::from_mut(order), lines);
    }
    Ok(())
}
