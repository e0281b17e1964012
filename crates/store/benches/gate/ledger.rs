//! The ledger's confirmations against a bare insert of as many rows in as many commits.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use haul_commerce::{
    Ledger, LiveRecord, NewOrder, OrderLine, OrderState, Product, Sale, SaleTerms, order_id, payment_id,
};
use haul_model::{HoldId, Money, UnixMillis};
use haul_store::SqlLedger;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Postgres, QueryBuilder, Sqlite,
    SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{Found, compare, goal, on_disk, support::postgres::TestPostgres};

/// Orders a round.
const ORDERS: usize = 4_000;
/// Confirmations under way at once; rows in a bare commit.
const IN_FLIGHT: usize = 512;
/// Orders that are made at once, which is not measured: so few that none waits too long for its turn.
const BEGUN_AT_ONCE: usize = 64;
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// A table as wide as `orders`, with its key, and nothing to check.
const TABLE: &str = "CREATE TABLE bare (
    id TEXT NOT NULL PRIMARY KEY, merchant_id TEXT NOT NULL, live_id TEXT NOT NULL, sale_id TEXT NOT NULL,
    product_id TEXT NOT NULL, hold_id TEXT NOT NULL, payment_id TEXT NOT NULL, provider TEXT NOT NULL,
    buyer_id TEXT NOT NULL, buyer_name TEXT NOT NULL, quantity BIGINT NOT NULL, unit_price_minor BIGINT NOT NULL,
    total_minor BIGINT NOT NULL, currency TEXT NOT NULL, state TEXT NOT NULL, created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL)";

pub(crate) async fn sqlite() -> Found {
    let dir = on_disk("ledger");
    let ledger = SqlLedger::open(&format!("sqlite://{}/haul.db", dir.display())).await.unwrap();
    let options = SqliteConnectOptions::new()
        .filename(dir.join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut bare: SqliteConnection = options.connect().await.unwrap();
    sqlx::raw_sql(TABLE).execute(&mut bare).await.unwrap();
    let mut number = 0;
    let found = confirmations("ledger_sqlite", &ledger, async |rows| {
        number += 1;
        let mut change = bare.begin().await.unwrap();
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO bare ");
        insert.push_values(rows, |mut row, order| {
            row.push_bind(format!("{number}{}", order.id));
            row.push_bind(order.merchant.as_str());
            row.push_bind(order.live.as_str());
            row.push_bind(order.sale.as_str());
            row.push_bind(order.product.as_str());
            row.push_bind(order.hold.as_str());
            row.push_bind(order.payment.as_str());
            row.push_bind(&order.provider);
            row.push_bind(order.buyer.as_str());
            row.push_bind(&order.buyer_name);
            row.push_bind(i64::from(order.quantity));
            row.push_bind(order.unit_price.amount_minor);
            row.push_bind(order.total.amount_minor);
            row.push_bind("EUR");
            row.push_bind("sold");
            row.push_bind(NOW.0 as i64);
            row.push_bind(NOW.0 as i64);
        });
        insert.build().execute(&mut *change).await.unwrap();
        change.commit().await.unwrap();
    })
    .await;
    drop(ledger);
    std::fs::remove_dir_all(dir).unwrap();
    found
}

pub(crate) async fn postgres() -> Found {
    let server = TestPostgres::own();
    let ledger = SqlLedger::open(&server.database().await).await.unwrap();
    let mut bare = PgConnection::connect(&server.database().await).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(TABLE)).execute(&mut bare).await.unwrap();
    let mut number = 0;
    confirmations("ledger_postgres", &ledger, async |rows| {
        number += 1;
        let mut change = bare.begin().await.unwrap();
        let mut insert = QueryBuilder::<Postgres>::new("INSERT INTO bare ");
        insert.push_values(rows, |mut row, order| {
            row.push_bind(format!("{number}{}", order.id));
            row.push_bind(order.merchant.as_str());
            row.push_bind(order.live.as_str());
            row.push_bind(order.sale.as_str());
            row.push_bind(order.product.as_str());
            row.push_bind(order.hold.as_str());
            row.push_bind(order.payment.as_str());
            row.push_bind(&order.provider);
            row.push_bind(order.buyer.as_str());
            row.push_bind(&order.buyer_name);
            row.push_bind(i64::from(order.quantity));
            row.push_bind(order.unit_price.amount_minor);
            row.push_bind(order.total.amount_minor);
            row.push_bind("EUR");
            row.push_bind("sold");
            row.push_bind(NOW.0 as i64);
            row.push_bind(NOW.0 as i64);
        });
        insert.build().execute(&mut *change).await.unwrap();
        change.commit().await.unwrap();
    })
    .await
}

async fn confirmations(
    case: &'static str,
    ledger: &SqlLedger,
    mut insert: impl AsyncFnMut(&[NewOrder]),
) -> Found {
    seed(ledger).await;
    let mut round = 0;
    let ours = async || {
        round += 1;
        let orders = orders(round);
        stream::iter(&orders)
            .for_each_concurrent(BEGUN_AT_ONCE, async |order| {
                ledger.start_order(order, &haul_commerce::buyers::Details::default()).await.unwrap();
            })
            .await;
        let begun = Instant::now();
        stream::iter(&orders)
            .for_each_concurrent(IN_FLIGHT, async |order| {
                ledger.move_order(&order.id, OrderState::Sold, NOW).await.unwrap();
            })
            .await;
        ORDERS as f64 / begun.elapsed().as_secs_f64()
    };
    let rows = orders(0);
    let bare = async || {
        let begun = Instant::now();
        for rows in rows.chunks(IN_FLIGHT) {
            insert(rows).await;
        }
        ORDERS as f64 / begun.elapsed().as_secs_f64()
    };
    let found = compare(case, 0.5, ours, bare).await;
    goal("orders confirmed", found.value, 5_000.0, "a second");
    found
}

async fn seed(ledger: &SqlLedger) {
    let live = LiveRecord {
        id: "demo".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        title: "Demo".to_owned(),
        public: true,
        created_at: NOW,
    };
    ledger.ensure_live(&live).await.unwrap();
    let product = Product {
        id: "lamp".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        title: "The lamp".to_owned(),
        subtitle: String::new(),
        image_url: String::new(),
        list_price: euros(),
    };
    ledger.put_product(&product).await.unwrap();
    let sale = Sale {
        id: "sale_1".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        variant: None,
        unit_price: euros(),
        more: Vec::new(),
        terms: SaleTerms {
            stock: 1_000_000,
            per_buyer: 2,
            hold_ms: 120_000,
            pay_ms: 600_000,
            opens_at: NOW,
            closes_at: UnixMillis(NOW.0 + 60_000),
            ..SaleTerms::default()
        },
    };
    ledger.put_sale(&sale).await.unwrap();
}

fn euros() -> Money {
    Money { amount_minor: 1_999, currency: "EUR".parse().unwrap() }
}

fn orders(round: usize) -> Vec<NewOrder> {
    (0..ORDERS)
        .map(|number| {
            let hold: HoldId = format!("hold_{round:04}_{number:016x}").parse().unwrap();
            NewOrder {
                id: order_id(&hold),
                payment: payment_id(&hold),
                provider: "sandbox".to_owned(),
                merchant: "main".parse().unwrap(),
                live: "demo".parse().unwrap(),
                sale: "sale_1".parse().unwrap(),
                product: "lamp".parse().unwrap(),
                hold,
                buyer: format!("buyer_{number:08}").parse().unwrap(),
                buyer_name: "Ann O'Hara".to_owned(),
                quantity: 1,
                unit_price: euros(),
                total: euros(),
                coupon: None,
                lines: vec![OrderLine::only("lamp".parse().unwrap(), 1, euros(), euros())],
                created_at: NOW,
            }
        })
        .collect()
}
