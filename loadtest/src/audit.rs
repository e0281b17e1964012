//! The books of a sale, compared: what buyers were told, what the host was told, what the ledger says, and what webhooks
//! were told. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{report::Audit, webhooks::Told};

/// Differences told one by one; more are only counted.
const MAX_TOLD: usize = 50;

/// What one buyer knows of one hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Purchase {
    pub(crate) buyer: u32,
    pub(crate) hold: String,
    pub(crate) units: u32,
    pub(crate) released: bool,
    pub(crate) order: Option<String>,
    /// The payment was taken.
    pub(crate) paid: bool,
    /// The buyer was told that the order is sold.
    pub(crate) confirmed: bool,
}

/// An order as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) hold: String,
    pub(crate) units: u32,
    pub(crate) state: String,
}

/// What the server says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    /// Orders of our sale that the host was told of, by id.
    pub(crate) host: BTreeMap<String, Order>,
    /// Those that the ledger lists.
    pub(crate) listed: BTreeMap<String, Order>,
    /// Whether it lists all of them; else only the latest.
    pub(crate) complete: bool,
    /// Orders and units sold in the live since the run began, by the ledger's sums.
    pub(crate) totals: Option<(u32, u32)>,
    /// Of the sale: available, held, sold.
    pub(crate) sale: Option<(u32, u32, u32)>,
    /// Units that buyers hold by their own records: granted, not given back and not sold. `None` where a hold has run out
    /// or was not answered, so that they can't know.
    pub(crate) standing: Option<u32>,
    /// What the webhook was told of our sale's orders, by id; `None` if there is none.
    pub(crate) webhook: Option<BTreeMap<String, Told>>,
}

/// Compares. Every difference is one; so are units beyond the stock.
pub(crate) fn audit(stock: u32, purchases: &[Purchase], books: &Books) -> Audit {
    let units = |filter: &dyn Fn(&Purchase) -> bool| -> u32 {
        purchases.iter().filter(|purchase| filter(purchase)).map(|purchase| purchase.units).sum()
    };
    let confirmed: Vec<_> = purchases.iter().filter(|purchase| purchase.confirmed).collect();
    let sold = |order: &&Order| order.state == "sold";
    let ledger_units: u32 = books.host.values().filter(sold).map(|order| order.units).sum();
    let ledger_orders = books.host.values().filter(sold).count() as u32;
    let mut differences = Vec::new();

    let mut holds = BTreeSet::new();
    for purchase in purchases {
        if !holds.insert(&purchase.hold) {
            differences.push(format!("hold {} was granted to more than one buyer", purchase.hold));
        }
    }
    let mut told = BTreeSet::new();
    for purchase in &confirmed {
        let Some(id) = &purchase.order else { continue };
        if !told.insert(id) {
            differences.push(format!("order {id} was confirmed to more than one buyer"));
        }
        match books.host.get(id) {
            None => {
                differences.push(format!("order {id} was confirmed to a buyer, and is not in the ledger"))
            }
            Some(order) if order.state != "sold" => {
                differences.push(format!(
                    "order {id} was confirmed to a buyer, and is {} in the ledger",
                    order.state
                ));
            }
            Some(order) if order.units != purchase.units || order.hold != purchase.hold => {
                differences.push(format!("order {id} is for other units or another hold in the ledger"));
            }
            Some(_) => {}
        }
    }
    for (id, order) in &books.host {
        if order.state == "sold" && !told.contains(id) {
            differences.push(format!("order {id} is sold in the ledger, and no buyer was told"));
        }
    }
    for (id, order) in &books.listed {
        if books.host.get(id).is_none_or(|known| known.state != order.state) {
            differences.push(format!(
                "order {id} is {} in the ledger's list, and the host was not told so",
                order.state
            ));
        }
    }
    if books.complete {
        for id in told.iter().filter(|id| !books.listed.contains_key(**id)) {
            differences.push(format!("order {id} was confirmed to a buyer, and the ledger does not list it"));
        }
        let sold = books.listed.iter().filter(|(_, order)| order.state == "sold");
        for (id, _) in sold.filter(|(id, _)| !told.contains(id)) {
            differences.push(format!("order {id} is sold in the ledger's list, and no buyer was told"));
        }
    }
    let confirmed_units = units(&|purchase| purchase.confirmed);
    if let Some((orders, units)) = books.totals
        && (orders, units) != (confirmed.len() as u32, confirmed_units)
    {
        differences.push(format!(
            "the ledger's sums grew by {orders} orders and {units} units, and buyers were told of {} and {confirmed_units}",
            confirmed.len()
        ));
    }
    let sale_sold = books.sale.map(|(.., sold)| sold);
    if let Some((available, held, sold)) = books.sale {
        if available + held + sold != stock {
            differences.push(format!(
                "{available} available, {held} held and {sold} sold are not the stock of {stock}"
            ));
        }
        if let Some(standing) = books.standing
            && held != standing
        {
            differences
                .push(format!("the sale says {held} held, and buyers hold {standing} that were granted"));
        }
        if sold != confirmed_units {
            differences.push(format!("the sale says {sold} sold, and buyers were told of {confirmed_units}"));
        }
    }
    if let Some(webhook) = &books.webhook {
        differences.extend(webhook_differences(&confirmed, webhook));
    }
    if differences.len() > MAX_TOLD {
        let more = differences.len() - MAX_TOLD;
        differences.truncate(MAX_TOLD);
        differences.push(format!("and {more} more"));
    }
    Audit {
        stock,
        held_units: units(&|_| true),
        released_units: units(&|purchase| purchase.released),
        confirmed_units,
        confirmed_orders: confirmed.len() as u32,
        ledger_units: Some(ledger_units),
        ledger_orders: Some(ledger_orders),
        sale_sold,
        webhook_orders: books
            .webhook
            .as_ref()
            .map(|orders| orders.values().filter(|told| told.sold > 0).count() as u32),
        differences,
        not_compared: match books.webhook {
            Some(_) => Vec::new(),
            None => vec!["webhooks: they need --api-key, or a token for all lives".to_owned()],
        },
    }
}

/// Every order that was confirmed to a buyer was told to the webhook as sold, once, and nothing else was.
fn webhook_differences(confirmed: &[&Purchase], webhook: &BTreeMap<String, Told>) -> Vec<String> {
    let mut differences = Vec::new();
    let mut expected = BTreeSet::new();
    for purchase in confirmed {
        let Some(id) = &purchase.order else { continue };
        expected.insert(id);
        match webhook.get(id) {
            None | Some(Told { sold: 0, .. }) => {
                differences.push(format!(
                    "order {id} was confirmed to a buyer, and no webhook says that it is sold"
                ));
            }
            Some(told) if told.sold > 1 => {
                differences
                    .push(format!("{} different webhook messages say that order {id} is sold", told.sold));
            }
            Some(Told { order, .. }) if order.units != purchase.units || order.hold != purchase.hold => {
                differences.push(format!("order {id} is for other units or another hold in the webhook"));
            }
            Some(_) => {}
        }
    }
    let unexpected = webhook.iter().filter(|(id, told)| told.sold > 0 && !expected.contains(id));
    differences.extend(
        unexpected.map(|(id, _)| format!("order {id} is sold by the webhook, and no buyer was told")),
    );
    differences
}

impl Audit {
    /// Adds the books of another live.
    pub(crate) fn add(&mut self, other: Self) {
        let sum = |one: Option<u32>, other: Option<u32>| one.zip(other).map(|(one, other)| one + other);
        self.stock += other.stock;
        self.held_units += other.held_units;
        self.released_units += other.released_units;
        self.confirmed_units += other.confirmed_units;
        self.confirmed_orders += other.confirmed_orders;
        self.ledger_units = sum(self.ledger_units, other.ledger_units);
        self.ledger_orders = sum(self.ledger_orders, other.ledger_orders);
        self.sale_sold = sum(self.sale_sold, other.sale_sold);
        self.webhook_orders = sum(self.webhook_orders, other.webhook_orders);
        self.differences.extend(other.differences);
        for what in other.not_compared {
            if !self.not_compared.contains(&what) {
                self.not_compared.push(what);
            }
        }
    }
}

/// Units sold beyond the stock, by whoever counts most. `most_standing` is the most units that buyers held at once.
pub(crate) fn oversold(audit: &Audit, most_standing: u32) -> u32 {
    let most =
        [audit.confirmed_units, audit.ledger_units.unwrap_or(0), audit.sale_sold.unwrap_or(0), most_standing];
    most.into_iter().max().unwrap_or(0).saturating_sub(audit.stock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bought(buyer: u32) -> Purchase {
        Purchase {
            buyer,
            hold: format!("h{buyer}"),
            units: 1,
            released: false,
            order: Some(format!("o{buyer}")),
            paid: true,
            confirmed: true,
        }
    }

    fn order(buyer: u32, state: &str) -> (String, Order) {
        (format!("o{buyer}"), Order { hold: format!("h{buyer}"), units: 1, state: state.to_owned() })
    }

    /// Two of three units sold, in all books.
    fn good() -> (Vec<Purchase>, Books) {
        let host: BTreeMap<_, _> = [order(1, "sold"), order(2, "sold")].into();
        let told = |(id, order): (&String, &Order)| {
            (id.clone(), Told { order: order.clone(), sale: "s".to_owned(), sold: 1 })
        };
        let webhook = Some(host.iter().map(told).collect());
        let books = Books {
            listed: host.clone(),
            complete: true,
            host,
            totals: Some((2, 2)),
            sale: Some((1, 0, 2)),
            standing: Some(0),
            webhook,
        };
        (vec![bought(1), bought(2)], books)
    }

    #[test]
    fn books_that_agree_have_no_difference() {
        let (purchases, books) = good();
        let audit = audit(3, &purchases, &books);
        assert_eq!(audit.differences, Vec::<String>::new());
        assert_eq!((audit.confirmed_units, audit.ledger_units, oversold(&audit, 2)), (2, Some(2), 0));
    }

    fn webhook(books: &mut Books) -> &mut BTreeMap<String, Told> {
        books.webhook.as_mut().unwrap()
    }

    #[test]
    fn without_a_webhook_it_is_said_that_none_was_compared() {
        let (purchases, mut books) = good();
        books.webhook = None;
        let audit = audit(3, &purchases, &books);
        assert_eq!((audit.differences.len(), audit.webhook_orders, audit.not_compared.len()), (0, None, 1));
    }

    #[test]
    fn books_of_several_lives_add_up() {
        let (purchases, books) = good();
        let (mut all, mut other) = (audit(3, &purchases, &books), audit(3, &purchases, &books));
        other.differences.push("one".to_owned());
        all.add(other);
        assert_eq!((all.stock, all.confirmed_units, all.webhook_orders), (6, 4, Some(4)));
        assert_eq!(all.differences, ["one"]);
    }

    #[test]
    fn every_difference_is_found() {
        type Change = fn(&mut Vec<Purchase>, &mut Books);
        let changes: [(&str, Change); 17] = [
            ("not in the ledger", |_, books| drop(books.host.remove("o2"))),
            ("is refund_due in the ledger", |_, books| {
                books.host.extend([order(2, "refund_due")]);
                books.listed.extend([order(2, "refund_due")]);
            }),
            ("no buyer was told", |purchases, _| purchases[1].confirmed = false),
            ("other units", |purchases, _| purchases[1].units = 2),
            ("confirmed to more than one", |purchases, _| purchases[1].order = Some("o1".to_owned())),
            ("granted to more than one", |purchases, _| purchases[1].hold = "h1".to_owned()),
            ("the host was not told so", |_, books| books.listed.extend([order(9, "sold")])),
            ("the ledger does not list it", |_, books| drop(books.listed.remove("o2"))),
            ("list, and no buyer was told", |purchases, _| purchases[0].confirmed = false),
            ("sums grew by 3 orders", |_, books| books.totals = Some((3, 3))),
            ("are not the stock", |_, books| books.sale = Some((0, 0, 2))),
            ("buyers hold 1 that", |_, books| books.standing = Some(1)),
            ("no webhook says", |_, books| drop(webhook(books).remove("o1"))),
            ("no webhook says", |_, books| webhook(books).get_mut("o1").unwrap().sold = 0),
            ("2 different webhook messages", |_, books| webhook(books).get_mut("o1").unwrap().sold = 2),
            ("another hold in the webhook", |_, books| webhook(books).get_mut("o1").unwrap().order.units = 7),
            ("sold by the webhook, and no buyer", |_, books| {
                let told = webhook(books)["o1"].clone();
                webhook(books).insert("o9".to_owned(), told);
            }),
        ];
        for (expected, change) in changes {
            let (mut purchases, mut books) = good();
            change(&mut purchases, &mut books);
            let audit = audit(3, &purchases, &books);
            assert!(
                audit.differences.iter().any(|difference| difference.contains(expected)),
                "{expected}: {:?}",
                audit.differences
            );
        }
    }

    #[test]
    fn units_beyond_the_stock_are_oversold_whoever_counts_them() {
        let (purchases, books) = good();
        assert_eq!(oversold(&audit(1, &purchases, &books), 0), 1);
        assert_eq!(oversold(&audit(2, &purchases, &books), 3), 1);
        assert_eq!(oversold(&audit(2, &purchases, &books), 2), 0);
    }
}
