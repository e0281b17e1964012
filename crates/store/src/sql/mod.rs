//! The ledger in SQL: SQLite in a file of its own, or Postgres.
//!
//! Each statement is written once for both (`db.rs`), and each change is one transaction that shares its commit with
//! others (`change.rs`). Every commit is synced (SQLite's `synchronous=FULL`, Postgres' `synchronous_commit`): what was
//! acknowledged survives a power failure. A few connections read beside the one that writes.

mod audit;
mod begin;
mod bookings;
mod bought;
mod buyers;
mod callbacks;
mod catalogue;
mod change;
mod confirm;
mod coupons;
mod creators;
mod db;
mod details;
mod follow;
mod holds;
mod insight;
mod keys;
mod lines;
mod listings;
mod look;
mod messages;
mod notes;
mod notices;
mod open;
mod order_list;
mod orders;
mod outbox;
mod refunds;
mod reported;
mod row;
mod sets;
mod under_way;

use std::time::Duration;

use haul_commerce::{
    Callback, CallbackState, Coupon, CouponTerms, CouponUse, HoldNotes, Ledger, Line, LiveRecord, LiveRef,
    Mark, NewOrder, Order, OrderState, Paid, Product, Recorded, Sale, SaleMove, Totals, Units,
    buyers::Details,
    ledger::{Answer, Bought},
};
use haul_model::{
    BuyerId, CouponCode, HoldId, LiveId, MerchantId, OrderId, PaymentId, ProductId, SaleId, UnixMillis,
};

use self::{
    begin::Begin,
    callbacks::{Finish, Record},
    catalogue::find_sale,
    change::Writer,
    confirm::Confirm,
    db::{Readers, query},
    sets::Sets,
};

/// How long a statement waits for another process' lock, and a caller for a connection or a turn, before it is
/// `Unavailable`.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ledger in a database. Cloning shares it.
#[derive(Debug, Clone)]
pub struct SqlLedger {
    /// Statements that change something run on this, or in a [`change::Change`] that it begins.
    write: Writer,
    /// What every order needs, which goes together.
    beginnings: Sets<Begin>,
    recorded: Sets<Record>,
    confirmations: Sets<Confirm>,
    finished: Sets<Finish>,
    /// Statements that only look.
    read: Readers,
    /// What the database's settings could cost.
    weaknesses: Vec<String>,
}

impl SqlLedger {
    fn new(write: Writer, read: Readers, weaknesses: Vec<String>) -> Self {
        Self {
            beginnings: Sets::start(write.clone()),
            recorded: Sets::start(write.clone()),
            confirmations: Sets::start(write.clone()),
            finished: Sets::start(write.clone()),
            write,
            read,
            weaknesses,
        }
    }

    /// What the settings of this database could cost: for the operator, at start. Empty where there is nothing to say.
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }
}

impl Ledger for SqlLedger {
    fn ensure_live<'a>(&'a self, live: &'a LiveRecord) -> Answer<'a, LiveRecord> {
        Box::pin(self.ensure_live(live))
    }

    fn put_live<'a>(&'a self, live: &'a LiveRecord) -> Answer<'a, LiveRecord> {
        Box::pin(self.put_live(live))
    }

    fn live<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Option<LiveRecord>> {
        Box::pin(self.live(live))
    }

    fn lives<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a (UnixMillis, LiveId)>,
        limit: u32,
    ) -> Answer<'a, Vec<LiveRecord>> {
        Box::pin(self.lives(merchant, after, limit))
    }

    fn unsettled_lives(&self, now: UnixMillis, limit: u32) -> Answer<'_, Vec<LiveRecord>> {
        Box::pin(self.unsettled_lives(now, limit))
    }

    fn put_product<'a>(&'a self, product: &'a Product) -> Answer<'a, ()> {
        Box::pin(self.put_product(product))
    }

    fn add_to_bag<'a>(&'a self, live: &'a LiveId, product: &'a ProductId) -> Answer<'a, ()> {
        Box::pin(self.add_to_bag(live, product))
    }

    fn remove_from_bag<'a>(&'a self, live: &'a LiveId, product: &'a ProductId) -> Answer<'a, ()> {
        Box::pin(self.remove_from_bag(live, product))
    }

    fn bag<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<Product>> {
        Box::pin(self.bag(live))
    }

    fn put_sale<'a>(&'a self, sale: &'a Sale) -> Answer<'a, ()> {
        Box::pin(self.put_sale(sale))
    }

    fn add_stock<'a>(
        &'a self,
        live: &'a LiveId,
        sale: &'a SaleId,
        key: &'a str,
        line: Line,
        units: u32,
        at: UnixMillis,
    ) -> Answer<'a, Sale> {
        Box::pin(self.add_stock(live, sale, key, line, units, at))
    }

    fn restock<'a>(
        &'a self,
        order: &'a OrderId,
        key: &'a str,
        units: Option<&'a Units>,
        at: UnixMillis,
    ) -> Answer<'a, Order> {
        Box::pin(self.restock(order, key, units, at))
    }

    fn restock_told<'a>(&'a self, order: &'a OrderId, returned: &'a Units) -> Answer<'a, ()> {
        Box::pin(self.restock_told(order, returned))
    }

    fn restocks_due<'a>(&'a self, live: &'a LiveId, limit: u32) -> Answer<'a, Vec<Order>> {
        Box::pin(self.restocks_due(live, limit))
    }

    fn gate_mark<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Mark> {
        Box::pin(self.gate_mark(live, sale))
    }

    fn recorded<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Recorded> {
        Box::pin(self.recorded(live, sale))
    }

    fn record_holds<'a>(&'a self, notes: &'a [HoldNotes]) -> Answer<'a, ()> {
        Box::pin(self.record_holds(notes))
    }

    fn put_coupon<'a>(&'a self, coupon: &'a Coupon) -> Answer<'a, Coupon> {
        Box::pin(self.put_coupon(coupon))
    }

    fn change_coupon<'a>(
        &'a self,
        live: &'a LiveId,
        code: &'a CouponCode,
        terms: &'a CouponTerms,
    ) -> Answer<'a, Coupon> {
        Box::pin(self.change_coupon(live, code, terms))
    }

    fn coupons<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<CouponUse>> {
        Box::pin(self.coupons(live))
    }

    fn coupon<'a>(&'a self, live: &'a LiveId, code: &'a CouponCode) -> Answer<'a, Option<CouponUse>> {
        Box::pin(self.coupon(live, code))
    }

    fn hold_ids<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId, limit: u32) -> Answer<'a, Vec<HoldId>> {
        Box::pin(self.hold_ids(live, sale, limit))
    }

    fn forget_holds<'a>(&'a self, live: &'a LiveId, before: UnixMillis) -> Answer<'a, ()> {
        Box::pin(self.forget_holds(live, before))
    }

    fn move_sale<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId, to: &'a SaleMove) -> Answer<'a, Sale> {
        Box::pin(self.move_sale(live, sale, to))
    }

    fn sale<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Option<Sale>> {
        Box::pin(find_sale(live, sale, &self.read))
    }

    fn make_sale<'a>(&'a self, sale: &'a Sale) -> Answer<'a, Sale> {
        Box::pin(self.make_sale(sale))
    }

    fn sales<'a>(&'a self, live: &'a LiveId, after: UnixMillis) -> Answer<'a, Vec<Sale>> {
        Box::pin(self.sales(live, after))
    }

    fn start_order<'a>(&'a self, order: &'a NewOrder, details: &'a Details) -> Answer<'a, Order> {
        Box::pin(self.beginnings.put((order.clone(), details.clone())))
    }

    fn order<'a>(&'a self, order: &'a OrderId) -> Answer<'a, Option<Order>> {
        Box::pin(self.order(order))
    }

    fn order_of_payment<'a>(&'a self, payment: &'a PaymentId) -> Answer<'a, Option<Order>> {
        Box::pin(self.order_of_payment(payment))
    }

    fn orders<'a>(
        &'a self,
        live: &'a LiveId,
        states: &'a [OrderState],
        limit: u32,
    ) -> Answer<'a, Vec<Order>> {
        Box::pin(self.orders(live, states, limit))
    }

    fn bought<'a>(&'a self, live: &'a LiveRef, buyers: &'a [BuyerId], limit: u32) -> Answer<'a, Vec<Bought>> {
        Box::pin(self.bought(live, buyers, limit))
    }

    fn totals<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Totals> {
        Box::pin(self.totals(live))
    }

    fn record_paid<'a>(&'a self, order: &'a OrderId, paid: &'a Paid) -> Answer<'a, Order> {
        Box::pin(self.record_paid(order, paid))
    }

    fn move_order<'a>(&'a self, order: &'a OrderId, to: OrderState, at: UnixMillis) -> Answer<'a, Order> {
        Box::pin(self.move_order(order, to, at))
    }

    fn record_callback<'a>(
        &'a self,
        callback: &'a Callback,
        details: Option<&'a Details>,
    ) -> Answer<'a, CallbackState> {
        Box::pin(self.recorded.put((callback.clone(), details.cloned())))
    }

    fn finish_callback<'a>(&'a self, provider: &'a str, event: &'a str) -> Answer<'a, ()> {
        Box::pin(self.finished.put((provider.to_owned(), event.to_owned())))
    }

    fn callbacks<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<(Callback, bool)>> {
        Box::pin(self.callbacks(live))
    }

    fn unfinished_callbacks(&self, limit: u32) -> Answer<'_, Vec<Callback>> {
        Box::pin(self.unfinished_callbacks(limit))
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(async move { query("SELECT 1").execute(&self.read).await.map(|_| ()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_connection_syncs_commits_and_checks_references() {
        let dir = std::env::temp_dir().join(format!("haul-ledger-{}", std::process::id()));
        let ledger = SqlLedger::open(&format!("sqlite://{}/haul.db", dir.display())).await.unwrap();
        let number = |name| db::query_scalar::<i64>(name);
        let mode = || db::query_scalar::<String>("PRAGMA journal_mode");
        let mut change = ledger.write.begin().await.unwrap();
        let mut look = ledger.read.look().await.unwrap();
        let found = [
            (
                number("PRAGMA synchronous").fetch_one(&mut change).await,
                number("PRAGMA foreign_keys").fetch_one(&mut change).await,
                mode().fetch_one(&mut change).await,
            ),
            (
                number("PRAGMA synchronous").fetch_one(&mut look).await,
                number("PRAGMA foreign_keys").fetch_one(&mut look).await,
                mode().fetch_one(&mut look).await,
            ),
        ];
        for found in found {
            assert_eq!(found, (Ok(2), Ok(1), Ok("wal".to_owned())));
        }
        drop((look, change, ledger));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn an_order_leaves_a_trace_of_each_state_it_was_in() {
        let ledger = SqlLedger::open("sqlite::memory:").await.unwrap();
        for statement in [
            "INSERT INTO lives (id, merchant_id, title, public, created_at) VALUES ('demo', 'main', '', TRUE, 1)",
            "INSERT INTO products (merchant_id, id, title, subtitle, image_url, amount_minor, currency)
             VALUES ('main', 'lamp', '', '', '', 100, 'EUR')",
            "INSERT INTO sales (merchant_id, live_id, id, product_id, unit_price_minor, currency, stock, per_buyer,
                                hold_ms, pay_ms, opens_at, closes_at)
             VALUES ('main', 'demo', 's', 'lamp', 100, 'EUR', 5, 1, 1000, 1000, 1, 2)",
            "INSERT INTO orders (id, merchant_id, live_id, sale_id, product_id, hold_id, payment_id, provider, buyer_id,
                                 buyer_name, quantity, unit_price_minor, total_minor, currency, state, created_at,
                                 updated_at)
             VALUES ('o', 'main', 'demo', 's', 'lamp', 'h', 'p', 'sandbox', 'ann', '', 1, 100, 100, 'EUR', 'paying', 1, 1)",
        ] {
            query(statement).execute(&ledger.write).await.unwrap();
        }
        let order = "o".parse().unwrap();
        for (state, at) in [(OrderState::Expired, 5), (OrderState::Sold, 7), (OrderState::Sold, 9)] {
            Ledger::move_order(&ledger, &order, state, UnixMillis(at)).await.unwrap();
        }
        let events: Vec<(String, i64, String, i64)> = query(
            "SELECT merchant_id, number, state, at FROM order_events WHERE order_id = 'o' ORDER BY number",
        )
        .try_map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))
        .fetch_all(&ledger.read)
        .await
        .unwrap();
        let main = || "main".to_owned();
        assert_eq!(events, [(main(), 1, "expired".to_owned(), 5), (main(), 2, "sold".to_owned(), 7)]);
    }
}
