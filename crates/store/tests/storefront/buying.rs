//! Buyers: whom orders go to, what is kept of them and erased, what they saved.

use haul_commerce::{
    Callback, LedgerError, Notebook, OrderState, PaymentEvent, PaymentEventKind, Sale, SaleTerms,
    bookings::Bookings,
    buyers::{Buyers, Charge, ChargeKind, Details, Profile, Retention},
    notice::Notices,
};
use haul_model::Contact;

use super::{following::*, *};

on_each_database! {
    what_is_personal_goes_and_sums_stay
    whom_an_order_goes_to_is_said_by_whoever_knows
    what_is_too_old_is_forgotten_and_no_more
    who_saved_a_product_is_told_when_it_comes_back_and_once
    what_is_sold_elsewhere_is_not_sold_here
}

fn details() -> Details {
    Details {
        contact: Some(Contact {
            name: "Ann O'Hara".to_owned(),
            email: "ann@example.com".to_owned(),
            address: vec!["1 Lamp Street".to_owned()],
            country: "IE".to_owned(),
            ..Contact::default()
        }),
        charges: vec![Charge { kind: ChargeKind::Shipping, label: "Post".to_owned(), amount_minor: 499 }],
    }
}

async fn what_is_personal_goes_and_sums_stay(on: On) {
    let store = shop(&on).await;
    let (main, ann) = (main_merchant(), "ann".parse().unwrap());
    let order = sell(&store, 1, "ann").await;
    turn(&store, NOW).await;
    store.put_details(&main, &order, &details(), NOW).await.unwrap();
    assert_eq!(store.details(&main, &order).await.unwrap(), details());
    let other = "other".parse().unwrap();
    assert!(matches!(store.details(&other, &order).await, Err(LedgerError::NotFound(_))));
    store.save_product(&main, &ann, &"lamp".parse().unwrap(), true, NOW).await.unwrap();
    let export = store.export(&main, &ann).await.unwrap();
    assert_eq!((export.orders.len(), export.touches.len(), export.profile.saved.len()), (1, 1, 1));
    assert_eq!(export.orders[0].1, details());

    let (live, others) = ("demo".parse().unwrap(), "question/q_00000000000000000000000000/bob");
    let names = [
        "thread/ann",
        "chat_pin/ann",
        "question/q_00000000000000000000000000/ann",
        "intent/00000000000000000007/question/ann",
        "intent/00000000000000000008/thread/ann",
        "intent/00000000000000000009",
        others,
    ];
    let notes = names.map(|name| (name.to_owned(), Some("{}".to_owned())));
    store.write_notes(&live, &notes).await.unwrap();
    assert_eq!(store.rooms_of(&main, &ann).await.unwrap(), std::slice::from_ref(&live));
    for _ in 0..2 {
        store.erase(&main, &ann, NOW).await.unwrap();
    }
    let left: Vec<_> = store.notes(&live).await.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["intent/00000000000000000009", others]);
    assert_eq!(store.rooms_of(&main, &ann).await.unwrap(), []);
    let after = store.export(&main, &ann).await.unwrap();
    assert_eq!((after.touches.len(), after.profile.saved.len()), (0, 0));
    assert_eq!(after.profile.erased_at, Some(NOW));
    let (kept, kept_details) = &after.orders[0];
    assert_eq!((kept.order.buyer_name.as_str(), &kept_details.contact), ("", &None));
    assert_eq!(
        (kept.order.total, &kept_details.charges),
        (export.orders[0].0.order.total, &details().charges)
    );
    assert_eq!(after.profile.spent, export.profile.spent);
    let booked = store.booking(&main, &order).await.unwrap().unwrap();
    assert_eq!(booked.booking.split.total(), 9_999);
    assert_eq!(store.profile(&other, &ann).await.unwrap(), Profile::default());
}

#[tokio::test]
async fn what_is_erased_is_not_in_the_files_any_more() {
    let dir = support::TempDir::new();
    let files = ["haul.db", "haul.db-wal"].map(|file| dir.path().join(file));
    let on = On::File(dir);
    let store = shop(&on).await;
    let (main, ann) = (main_merchant(), "ann".parse().unwrap());
    let order = sell(&store, 1, "ann").await;
    // As long as it takes pages of its own.
    let contact = Contact { address: vec!["1 Lamp Street, ".repeat(500)], ..Contact::default() };
    let long = Details { contact: Some(contact), ..details() };
    store.put_details(&main, &order, &long, NOW).await.unwrap();
    let says = |text: &str| {
        let has = |bytes: Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        files.iter().filter(|file| has(std::fs::read(file).unwrap_or_default())).count()
    };
    assert!(says("Lamp Street") > 0, "it is looked for where it is");
    store.erase(&main, &ann, NOW).await.unwrap();
    assert_eq!((says("Lamp Street"), says("O'Hara")), (0, 0));
}

async fn whom_an_order_goes_to_is_said_by_whoever_knows(on: On) {
    let store = shop(&on).await;
    let main = main_merchant();
    let of = |name: &str| Details {
        contact: Some(Contact { name: name.to_owned(), ..Contact::default() }),
        ..Details::default()
    };
    let told = |number: u32, event: &str| Callback {
        provider: "sandbox".to_owned(),
        event: PaymentEvent {
            event: event.to_owned(),
            payment: order(number, "ann", NOW).payment,
            kind: PaymentEventKind::Paid,
            amount: money(9_999),
            refund: None,
            reference: None,
        },
        received_at: NOW,
    };
    let name = async |number: u32| {
        let details = store.details(&main, &order(number, "ann", NOW).id).await.unwrap();
        (details.contact.map(|contact| contact.name), details.charges.len())
    };
    let named = |name: &str, charges| (Some(name.to_owned()), charges);

    // The buyer says it, again and otherwise, until it is paid; asking again without it says nothing.
    let first = order(1, "ann", NOW);
    store.start_order(&first, &of("Ann")).await.unwrap();
    store.start_order(&first, &of("Bob")).await.unwrap();
    store.start_order(&first, &Details::default()).await.unwrap();
    assert_eq!(name(1).await, named("Bob", 0));
    // The provider fills in what is missing, once.
    store.record_callback(&told(1, "a"), Some(&details())).await.unwrap();
    assert_eq!(name(1).await, named("Bob", 1));
    store.move_order(&first.id, OrderState::Sold, NOW).await.unwrap();
    store.start_order(&first, &of("Eve")).await.unwrap();
    assert_eq!(name(1).await, named("Bob", 1), "it is paid");

    let second = order(2, "ann", NOW);
    store.start_order(&second, &Details::default()).await.unwrap();
    store.record_callback(&told(2, "b"), Some(&details())).await.unwrap();
    assert_eq!(name(2).await, named("Ann O'Hara", 1));
    store.put_details(&main, &second.id, &Details::default(), NOW).await.unwrap();
    store.record_callback(&told(2, "b"), Some(&details())).await.unwrap();
    assert_eq!(name(2).await, (None, 0), "the word came before");

    // Of somebody who was erased meanwhile, nothing personal is kept.
    let third = order(3, "ann", NOW);
    store.start_order(&third, &Details::default()).await.unwrap();
    store.erase(&main, &third.buyer, NOW).await.unwrap();
    store.record_callback(&told(3, "c"), Some(&details())).await.unwrap();
    assert_eq!(name(3).await, (None, 1));
    assert_eq!(name(1).await, (None, 1));
}

async fn what_is_too_old_is_forgotten_and_no_more(on: On) {
    let store = shop(&on).await;
    let (main, ann) = (main_merchant(), "ann".parse().unwrap());
    let order = sell(&store, 1, "ann").await;
    store.put_details(&main, &order, &details(), NOW).await.unwrap();
    let demo = "demo".parse().unwrap();
    let thread =
        |at: &str| format!(r#"{{"name":"Ann","messages":[{{"text":"1 Lamp Street","at":"{at}"}}]}}"#);
    let notes = [("ann", "2023-11-14T22:13:20.000Z"), ("bob", "2023-11-14T22:14:20.000Z")]
        .map(|(buyer, at)| (format!("thread/{buyer}"), Some(thread(at))));
    store.write_notes(&demo, &notes).await.unwrap();
    let named = async || {
        let names = store.notes(&demo).await.unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let order = Ledger::order(&store, &order).await.unwrap().unwrap();
        (names.join(" "), order.order.buyer_name)
    };
    let before = named().await;
    assert!(before.0 == "thread/ann thread/bob" && !before.1.is_empty(), "{before:?}");
    let retire = |touches_before, details_before| Retention { touches_before, details_before };
    store.retire(retire(NOW, NOW)).await.unwrap();
    assert_eq!(named().await, before, "not old enough");
    assert_eq!(store.export(&main, &ann).await.unwrap().touches.len(), 1);
    assert_eq!(store.details(&main, &order).await.unwrap(), details());
    let later = UnixMillis(NOW.0 + 60_000);
    store.retire(retire(later, later)).await.unwrap();
    assert_eq!(store.export(&main, &ann).await.unwrap().touches.len(), 0);
    assert_eq!(store.details(&main, &order).await.unwrap(), Details { contact: None, ..details() });
    assert_eq!(named().await, ("thread/bob".to_owned(), String::new()));
}

async fn put_sale(store: &SqlLedger, id: &str, product: &str, opens_at: u64) -> Result<(), LedgerError> {
    let sale = Sale {
        id: id.parse().unwrap(),
        merchant: main_merchant(),
        live: "demo".parse().unwrap(),
        product: product.parse().unwrap(),
        variant: None,
        unit_price: money(100),
        more: Vec::new(),
        terms: SaleTerms {
            stock: 1,
            per_buyer: 1,
            hold_ms: 1_000,
            pay_ms: 1_000,
            opens_at: UnixMillis(opens_at),
            closes_at: UnixMillis(opens_at + 1_000),
            ..SaleTerms::default()
        },
    };
    store.put_sale(&sale).await
}

async fn who_saved_a_product_is_told_when_it_comes_back_and_once(on: On) {
    let store = shop(&on).await;
    let main = main_merchant();
    store.put_listings(&main, &[listing("mug", &["M"])], NOW).await.unwrap();
    for buyer in ["ann", "bob"] {
        store.save_product(&main, &buyer.parse().unwrap(), &"mug".parse().unwrap(), true, NOW).await.unwrap();
    }
    let nothing =
        store.save_product(&main, &"ann".parse().unwrap(), &"none".parse().unwrap(), true, NOW).await;
    assert!(matches!(nothing, Err(LedgerError::NotFound(_))), "{nothing:?}");
    // One at a time: who is over the limit is told with the next look.
    let look = async |at: u64| {
        let mut told = 0;
        loop {
            match store.tell_back_in_stock(UnixMillis(at), 1).await.unwrap() {
                0 => return told,
                more => told += more,
            }
        }
    };
    let opens = NOW.0 + 5_000;
    assert_eq!(look(NOW.0).await, 0, "not there yet");
    put_sale(&store, "sale_2", "mug", opens).await.unwrap();
    assert_eq!(look(opens - 1).await, 0);
    assert_eq!(look(opens).await, 2);
    assert_eq!(look(opens + 1).await, 0, "told once");
    assert_eq!(look(opens + 1_000).await, 0, "over");
    store.save_product(&main, &"bob".parse().unwrap(), &"mug".parse().unwrap(), false, NOW).await.unwrap();
    put_sale(&store, "sale_3", "mug", opens + 2_000).await.unwrap();
    assert_eq!(look(opens + 2_000).await, 1, "Bob does not want to hear of it any more");
    let told = store.notices(&main, None, 10).await.unwrap();
    let subjects: Vec<_> = told.iter().map(|notice| notice.subject.as_str()).collect();
    assert_eq!(subjects.len(), 3);
    assert!(told.iter().all(|notice| notice.kind == "product.back_in_stock"));
    assert_eq!(subjects[2], "mug:ann");
}

async fn what_is_sold_elsewhere_is_not_sold_here(on: On) {
    let store = shop(&on).await;
    let main = main_merchant();
    let mut mug = listing("mug", &["M"]);
    mug.details.external_url = Some("https://shop.example/mug".to_owned());
    store.put_listings(&main, &[mug.clone()], NOW).await.unwrap();
    let refused = put_sale(&store, "sale_2", "mug", NOW.0).await;
    assert!(matches!(refused, Err(LedgerError::Conflict(_))), "{refused:?}");
    // And the other way round, until the sale is over.
    let mut lamp = listing("lamp", &[]);
    lamp.details.options.clear();
    lamp.details.external_url = mug.details.external_url;
    let put =
        async |at| store.put_listings(&main, std::slice::from_ref(&lamp), UnixMillis(at)).await.unwrap();
    assert_eq!(put(NOW.0).await, [Put::OnSale]);
    assert_eq!(put(NOW.0 + 60_000).await, [Put::Updated]);
}
