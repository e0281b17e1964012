//! A sale's books at the server, read when the run is over: the ledger's orders, the sale itself, and what each buyer
//! holds; and their comparison with what buyers, host and webhook were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Patience, Setting, Shop, get, get_by};
use crate::{
    audit::{self, Books, Held, Order},
    channel::Channel,
    plan::Number,
    report::Audit,
    webhooks::Told,
};

/// Pages of the ledger's list that are read, and how many orders each has.
const MAX_PAGES: usize = 5_000;
const PAGE: usize = 200;
/// Readings anew of a sale that moves while its buyers are asked: it is closed, and only holds run out.
const MAX_MOVING: u32 = 20;
/// Buyers who are asked at once what they hold.
const ASKING: usize = 16;

/// An order of any of the server's messages, by its id.
pub(super) fn order_of(order: &Value) -> Option<(String, Order)> {
    let text = |name: &str| Some(order[name].as_str()?.to_owned());
    let units = order["quantity"].as_u64()? as u32;
    Some((text("id")?, Order { hold: text("hold_id")?, units, state: text("state")? }))
}

/// Orders and units of the live so far, by the ledger's sums.
pub(super) async fn totals(setting: &Setting) -> Result<Option<(u32, u32)>> {
    let ledger = get(setting, "orders").await?;
    let number = |name: &str| ledger["totals"][name].as_u64().map(|number| number as u32);
    Ok(number("orders").zip(number("units")))
}

impl Shop {
    /// Compares the books, again and again until they agree or patience is over: the last events may be under way.
    pub(super) async fn audit(&self, patience: Patience) -> Option<Audit> {
        let stock = self.stock()?;
        let more = if self.world.setting.webhook.is_ok() { patience.webhooks } else { Duration::ZERO };
        let deadline = Instant::now() + patience.events + more;
        let mut moving = 0;
        loop {
            let mut books = self.books().await;
            let is_over = Instant::now() >= deadline;
            let mut audit = self.compared(stock, &books);
            // Each buyer has to be asked: once all else agrees, or there is nothing more to wait for.
            if (audit.differences.is_empty() || is_over)
                && let Ok(books) = &mut books
            {
                books.holds = self.holds().await.map_err(|error| format!("{error:#}"));
                if moving < MAX_MOVING && self.has_moved(books).await {
                    moving += 1;
                    continue;
                }
                audit = self.compared(stock, &Ok(books.clone()));
            }
            if audit.differences.is_empty() || is_over {
                return Some(audit);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn compared(&self, stock: u32, books: &Result<Books>) -> Audit {
        let records = self.world.records();
        match books {
            Ok(books) => audit::audit(stock, &records.purchases, books),
            Err(error) => {
                let mut audit = audit::audit(stock, &records.purchases, &Books::default());
                (audit.ledger_units, audit.ledger_orders) = (None, None);
                audit.not_compared = vec!["anything with the ledger: it could not be read".to_owned()];
                audit.differences = vec![format!("the ledger could not be read: {error:#}")];
                audit
            }
        }
    }

    fn stock(&self) -> Option<u32> {
        let scenario = &self.world.setting.scenario;
        let sale = scenario.sale.as_ref()?;
        self.world.offer.borrow().as_ref()?;
        // The same draws as at the beginning.
        let mut random = crate::random::Random::new(scenario.seed, 99);
        let _ = sale.price_minor.draw(&mut random);
        Some(sale.stock.draw_count(&mut random))
    }

    /// All but what buyers hold.
    async fn books(&self) -> Result<Books> {
        let setting = &self.world.setting;
        let offer = self.world.offer.borrow().clone().context("there is no sale")?;
        let (listed, complete) = all_orders(setting).await?;
        let ours = listed.iter().filter(|order| order["sale_id"] == offer.sale.as_str());
        let listed = ours.filter_map(order_of).collect();
        let totals = totals(setting).await?.zip(self.world.records().before);
        let totals =
            totals.map(|(now, before)| (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1)));
        let sale = self.stock_now(&offer.sale).await?;
        let ours = |(_, told): &(&String, &Told)| told.sale == offer.sale;
        let webhook = setting.webhook.as_ref().map_err(Clone::clone).map(|webhook| {
            let heard = webhook.heard();
            heard.orders.iter().filter(ours).map(|(id, told)| (id.clone(), told.clone())).collect()
        });
        let records = self.world.records();
        Ok(Books {
            host: records.orders.clone(),
            listed,
            complete,
            totals,
            sale,
            holds: Err("they were not asked for".to_owned()),
            unsure: records.unsure.clone(),
            taps: records.doubles.clone(),
            webhook,
        })
    }

    /// Available, held and sold, as the sale says now.
    async fn stock_now(&self, sale: &str) -> Result<Option<(u32, u32, u32)>> {
        let sales = get(&self.world.setting, "sales").await?;
        let mut sales = sales["sales"].as_array().into_iter().flatten();
        Ok(sales.find(|known| known["id"] == sale).map(|sale| {
            let number = |name: &str| sale[name].as_u64().unwrap_or(0) as u32;
            (number("available"), number("held"), number("sold"))
        }))
    }

    /// Whether the sale is not any more what the books say: a hold has run out while buyers were asked for theirs.
    async fn has_moved(&self, books: &Books) -> bool {
        let Some(offer) = self.world.offer.borrow().clone() else { return false };
        matches!(self.stock_now(&offer.sale).await, Ok(now) if now != books.sale)
    }

    /// Hold by hold, what everybody holds by the server's word who was granted anything, or does not know.
    async fn holds(&self) -> Result<BTreeMap<String, Held>> {
        let offer = self.world.offer.borrow().clone().context("there is no sale")?;
        let buyers: BTreeSet<Number> = {
            let records = self.world.records();
            let granted = records.purchases.iter().map(|purchase| purchase.buyer);
            granted.chain(records.unsure.iter().copied()).collect()
        };
        let asked = stream::iter(buyers.into_iter().map(|buyer| self.holds_of(buyer, &offer.sale)));
        let all: Vec<Result<Vec<(String, Held)>>> = asked.buffer_unordered(ASKING).collect().await;
        let mut holds = BTreeMap::new();
        for of_one in all {
            holds.extend(of_one?);
        }
        Ok(holds)
    }

    /// As the buyer's own app would learn it that is opened anew.
    async fn holds_of(&self, buyer: Number, sale: &str) -> Result<Vec<(String, Held)>> {
        let Setting { client, base, live, .. } = &self.world.setting;
        let token = &self.world.tokens[1][buyer as usize];
        let opened = Channel::open(client, base, live, token, None).await;
        let (channel, hello) = opened.with_context(|| format!("asking what buyer {buyer} holds"))?;
        channel.close().await;
        let holds = hello["you"]["holds"].as_array().context("hello does not say what a buyer holds")?;
        let held = |hold: &Value| {
            let units = hold["quantity"].as_u64()? as u32;
            Some((hold["id"].as_str()?.to_owned(), Held { buyer, units }))
        };
        Ok(holds.iter().filter(|hold| hold["sale_id"] == sale).filter_map(held).collect())
    }
}

/// All orders of the live, page by page; and whether these are all: a server that knows no pages lists only the latest.
async fn all_orders(setting: &Setting) -> Result<(Vec<Value>, bool)> {
    let Setting { base, live, host_token, backend_key, .. } = setting;
    let (list, token) = match backend_key {
        Some(key) => (format!("{base}/v1/orders?live={live}&"), key),
        None => (format!("{base}/v1/lives/{live}/orders?"), host_token),
    };
    let (mut orders, mut after) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let mut page = get_by(setting, format!("{list}limit={PAGE}{after}"), token).await?;
        if let Value::Array(of_page) = page["orders"].take() {
            orders.extend(of_page);
        }
        match page.get("next") {
            None => return Ok((orders, false)),
            Some(Value::String(next)) => after = format!("&after={next}"),
            Some(_) => return Ok((orders, true)),
        }
    }
    bail!("the ledger lists more than {MAX_PAGES} pages of orders")
}
