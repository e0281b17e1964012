//! What the shop window keeps in the ledger's database.

#![allow(clippy::unwrap_used)]

mod buying;
mod following;
#[path = "../support/mod.rs"]
mod support;

use haul_commerce::{
    Ledger, LiveRecord, Product,
    listing::{Catalogue, Listing, ProductOption, ProductText, Put, Variant},
};
use haul_model::{Languages, MerchantId, Money, UnixMillis};
use haul_store::SqlLedger;
use support::databases::{On, on_each_database};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

on_each_database! {
    a_listing_is_found_as_it_was_put
    a_sku_is_one_products_and_can_be_handed_on
    merchants_do_not_see_each_others_products
}

fn main_merchant() -> MerchantId {
    MerchantId::main()
}

fn listing(id: &str, skus: &[&str]) -> Listing {
    let mut listing = Listing::plain(Product {
        id: id.parse().unwrap(),
        merchant: main_merchant(),
        title: format!("The {id}"),
        subtitle: String::new(),
        image_url: String::new(),
        list_price: Money { amount_minor: 1_250, currency: "KWD".parse().unwrap() },
    });
    let text = ProductText { title: format!("{id} 灯"), subtitle: "纸".to_owned() };
    listing.details.texts.insert("zh-Hans".parse().unwrap(), text);
    let values: Vec<_> = skus.iter().map(|sku| (*sku).to_owned()).collect();
    listing.details.options = vec![ProductOption { name: "Kind".to_owned(), values }];
    listing.details.variants = skus
        .iter()
        .map(|sku| Variant {
            sku: sku.parse().unwrap(),
            values: vec![(*sku).to_owned()],
            price_minor: Some(2_000),
        })
        .collect();
    listing
}

async fn store(on: &On) -> SqlLedger {
    let store = on.open().await;
    let live = LiveRecord {
        id: "demo".parse().unwrap(),
        merchant: main_merchant(),
        title: "Demo".to_owned(),
        public: true,
        created_at: NOW,
    };
    store.ensure_live(&live).await.unwrap();
    store
}

async fn a_listing_is_found_as_it_was_put(on: On) {
    let store = store(&on).await;
    let (lamp, mug) = (listing("lamp", &["L1", "L2"]), listing("mug", &["M1"]));
    let both = [lamp.clone(), mug.clone()];
    assert_eq!(store.put_listings(&main_merchant(), &both, NOW).await.unwrap(), [Put::Created, Put::Created]);
    assert_eq!(store.put_listings(&main_merchant(), &both, NOW).await.unwrap(), [Put::Updated, Put::Updated]);
    assert_eq!(store.listing(&main_merchant(), &lamp.product.id).await.unwrap(), Some(lamp.clone()));
    assert_eq!(store.listings(&main_merchant(), None, 1).await.unwrap(), std::slice::from_ref(&lamp));
    assert_eq!(store.listings(&main_merchant(), Some(&lamp.product.id), 9).await.unwrap(), [mug]);
    store.add_to_bag(&"demo".parse().unwrap(), &lamp.product.id).await.unwrap();
    let shown = store.listed_in(&"demo".parse().unwrap()).await.unwrap();
    assert_eq!(shown[0].product_for(&Languages::accepted("zh-CN")).title, "lamp 灯");
    // The ledger's own products are listings, too.
    let plain = Product { id: "plain".parse().unwrap(), ..lamp.product };
    store.put_product(&plain).await.unwrap();
    assert_eq!(store.listing(&main_merchant(), &plain.id).await.unwrap(), Some(Listing::plain(plain)));
}

async fn a_sku_is_one_products_and_can_be_handed_on(on: On) {
    let store = store(&on).await;
    store.put_listings(&main_merchant(), &[listing("lamp", &["L1", "L2"])], NOW).await.unwrap();
    let thief = listing("mug", &["M1", "L2"]);
    let taken = Put::SkuTaken { sku: "L2".parse().unwrap(), product: "lamp".parse().unwrap() };
    let batch = [thief.clone(), listing("bag", &["B1"])];
    assert_eq!(store.put_listings(&main_merchant(), &batch, NOW).await.unwrap(), [taken, Put::Created]);
    assert_eq!(
        store.listing(&main_merchant(), &thief.product.id).await.unwrap(),
        None,
        "nothing was changed"
    );
    // Within one batch, too: first given up, then taken.
    let batch = [listing("lamp", &["L1"]), thief];
    assert_eq!(
        store.put_listings(&main_merchant(), &batch, NOW).await.unwrap(),
        [Put::Updated, Put::Created]
    );
}

async fn merchants_do_not_see_each_others_products(on: On) {
    let store = store(&on).await;
    store.put_listings(&main_merchant(), &[listing("lamp", &["L1"])], NOW).await.unwrap();
    let other: MerchantId = "other".parse().unwrap();
    assert_eq!(store.listing(&other, &"lamp".parse().unwrap()).await.unwrap(), None);
    assert!(store.listings(&other, None, 9).await.unwrap().is_empty());
    assert!(
        store.put_listings(&other, &[listing("lamp", &["L1"])], NOW).await.is_err(),
        "there is no such merchant"
    );
}
