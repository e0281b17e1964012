//! The ledger on both databases: every method, asked once and again, and what it must refuse.

#![allow(clippy::unwrap_used)]

mod catalogue;
mod coupons;
mod databases;
mod holds;
mod orders;
mod sales;
#[path = "../support/mod.rs"]
mod support;

use haul_commerce::{
    Callback, CallbackState, Coupon, CouponTerms, Draw, EarlyAccess, HoldNotes, Ledger, LedgerError,
    LineTerms, LiveRecord, Mark, NewOrder, OrderCoupon, OrderLine, OrderState, Paid, PaymentEvent,
    PaymentEventKind, Product, Sale, SaleLine, SaleMode, SaleTerms, Totals, Units,
    book::{HoldRecord, HoldState},
    buyers::Details,
    coupon::Discount,
    order_id,
    outbox::{Endpoint, Outbox},
    payment_id,
};
use haul_model::{HoldId, LiveId, Money, SaleId, UnixMillis};
use haul_store::{OpenError, SqlLedger};
use support::{
    TempDir,
    databases::{On, on_each_database},
    postgres::TestPostgres,
};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn money(amount_minor: i64) -> Money {
    Money { amount_minor, currency: "EUR".parse().unwrap() }
}

fn live(id: &str) -> LiveRecord {
    LiveRecord {
        id: id.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        title: format!("The live {id}"),
        public: true,
        created_at: NOW,
    }
}

fn product(id: &str) -> Product {
    Product {
        id: id.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        title: format!("The {id}"),
        subtitle: "夜市 – for the night market".to_owned(),
        image_url: String::new(),
        list_price: money(2_500),
    }
}

fn sale(id: &str, stock: u32) -> Sale {
    Sale {
        id: id.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        variant: None,
        unit_price: money(1_999),
        more: Vec::new(),
        terms: SaleTerms {
            stock,
            per_buyer: 2,
            hold_ms: 120_000,
            pay_ms: 600_000,
            opens_at: NOW,
            closes_at: UnixMillis(NOW.0 + 60_000),
            ..SaleTerms::default()
        },
    }
}

fn order(number: u64, buyer: &str, quantity: u32) -> NewOrder {
    let hold: HoldId = format!("hold_{number}").parse().unwrap();
    NewOrder {
        id: order_id(&hold),
        payment: payment_id(&hold),
        provider: "sandbox".to_owned(),
        merchant: "main".parse().unwrap(),
        live: "demo".parse().unwrap(),
        sale: "sale_1".parse().unwrap(),
        product: "lamp".parse().unwrap(),
        hold,
        buyer: buyer.parse().unwrap(),
        buyer_name: "Ann O'Hara".to_owned(),
        quantity,
        unit_price: money(1_999),
        total: money(1_999 * i64::from(quantity)),
        coupon: None,
        lines: vec![OrderLine::only(
            "lamp".parse().unwrap(),
            quantity,
            money(1_999),
            money(1_999 * i64::from(quantity)),
        )],
        created_at: UnixMillis(NOW.0 + number),
    }
}

fn demo() -> LiveId {
    "demo".parse().unwrap()
}

/// A new ledger with a live, a lamp and a sale of five.
async fn ledger(on: &On) -> SqlLedger {
    let ledger = on.open().await;
    ledger.ensure_live(&live("demo")).await.unwrap();
    ledger.put_product(&product("lamp")).await.unwrap();
    ledger.put_sale(&sale("sale_1", 5)).await.unwrap();
    ledger
}

fn callback(event: &str, order: &NewOrder, received_at: u64) -> Callback {
    Callback {
        provider: "sandbox".to_owned(),
        event: PaymentEvent {
            event: event.to_owned(),
            payment: order.payment.clone(),
            kind: PaymentEventKind::Paid,
            amount: order.total,
            refund: None,
            reference: None,
        },
        received_at: UnixMillis(NOW.0 + received_at),
    }
}
