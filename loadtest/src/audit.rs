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
    /// The buyer was told that it had run out.
    pub(crate) ran_out: bool,
    /// It was to be given back, and the answer is not known.
    pub(crate) doubtful: bool,
    pub(crate) order: Option<String>,
    /// The payment was taken.
    pub(crate) paid: bool,
    /// The buyer was told that the order is sold.
    pub(crate) confirmed: bool,
}

impl Purchase {
    /// Whether its units are set aside, as far as the buyer knows.
    fn stands(&self) -> bool {
        !self.released && !self.ran_out && !self.confirmed
    }
}

/// An order as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) hold: String,
    pub(crate) units: u32,
    pub(crate) state: String,
}

/// A standing hold as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) buyer: u32,
    pub(crate) units: u32,
}

/// What was read of a book, else why it was not.
pub(crate) type Book<T> = Result<BTreeMap<String, T>, String>;

/// What the server says.
#[derive(Debug, Clone)]
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
    /// The standing holds of all buyers who were granted any, or may have been, by id.
    pub(crate) holds: Book<Held>,
    /// Buyers who may hold something that they don't know of: they were never answered.
    pub(crate) unsure: BTreeSet<u32>,
    /// Requests with one key that were answered in two ways, in words.
    pub(crate) taps: Vec<String>,
    /// What the webhook was told of our sale's orders, by id.
    pub(crate) webhook: Book<Told>,
}

impl Default for Books {
    fn default() -> Self {
        let unread = || "no book of the server's could be read".to_owned();
        Self {
            host: BTreeMap::new(),
            listed: BTreeMap::new(),
            complete: false,
            totals: None,
            sale: None,
            holds: Err(unread()),
            unsure: BTreeSet::new(),
            taps: Vec::new(),
            webhook: Err(unread()),
        }
    }
}

/// Compares. Every difference is one; so are units beyond the stock.
pub(crate) fn audit(stock: u32, purchases: &[Purchase], books: &Books) -> Audit {
    let units = |filter: &dyn Fn(&Purchase) -> bool| -> u32 {
        purchases.iter().filter(|purchase| filter(purchase)).map(|purchase| purchase.units).sum()
    };
    let confirmed: Vec<_> = purchases.iter().filter(|purchase| purchase.confirmed).collect();
    let mut differences = books.taps.clone();
    differences.extend(confirmation_differences(purchases, &confirmed, books));
    differences.extend(host_differences(books));
    differences.extend(sum_differences(stock, &confirmed, books));
    if let Ok(holds) = &books.holds {
        differences.extend(hold_differences(purchases, holds, books));
    }
    if let Ok(webhook) = &books.webhook {
        differences.extend(webhook_differences(&confirmed, webhook, books));
    }
    if differences.len() > MAX_TOLD {
        let more = differences.len() - MAX_TOLD;
        differences.truncate(MAX_TOLD);
        differences.push(format!("and {more} more"));
    }
    let sold = || books.listed.values().filter(|order| order.state == "sold");
    let listed = books.complete.then(|| (sold().count() as u32, sold().map(|order| order.units).sum()));
    let (ledger_orders, ledger_units) = listed.or(books.totals).unzip();
    Audit {
        stock,
        held_units: units(&|_| true),
        released_units: units(&|purchase| purchase.released),
        confirmed_units: units(&|purchase| purchase.confirmed),
        confirmed_orders: confirmed.len() as u32,
        ledger_units,
        ledger_orders,
        sale_sold: books.sale.map(|(.., sold)| sold),
        holds_compared: books.holds.as_ref().ok().map(|_| purchases.len() as u32),
        webhook_orders: books
            .webhook
            .as_ref()
            .ok()
            .map(|orders| orders.values().filter(|told| told.sold > 0).count() as u32),
        differences,
        not_compared: not_compared(books),
    }
}

/// What there was nothing to compare with, and why.
fn not_compared(books: &Books) -> Vec<String> {
    let mut not = Vec::new();
    if !books.complete {
        not.push(
            "orders one by one with all of the ledger's, of which the server lists only the latest: its sums were"
                .to_owned(),
        );
    }
    if let Err(why) = &books.holds {
        not.push(format!("holds with the server's, one by one: {why}"));
    }
    if let Err(why) = &books.webhook {
        not.push(format!("webhooks: {why}"));
    }
    not
}

/// Every order that was confirmed to a buyer is sold in the ledger, once, for that hold; and nothing else is.
fn confirmation_differences(purchases: &[Purchase], confirmed: &[&Purchase], books: &Books) -> Vec<String> {
    let mut differences = Vec::new();
    let mut holds = BTreeSet::new();
    for purchase in purchases {
        if !holds.insert(&purchase.hold) {
            differences.push(format!("hold {} was granted to more than one buyer", purchase.hold));
        }
    }
    let mut told = BTreeSet::new();
    for purchase in confirmed {
        let Some(id) = &purchase.order else { continue };
        if !told.insert(id) {
            differences.push(format!("order {id} was confirmed to more than one buyer"));
        }
        match books.listed.get(id) {
            None if books.complete => {
                differences.push(format!("order {id} was confirmed to a buyer, and is not in the ledger"));
            }
            None => {}
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
    for (id, order) in &books.listed {
        if order.state == "sold" && !told.contains(id) {
            differences.push(format!("order {id} is sold in the ledger, and no buyer was told"));
        }
    }
    differences
}

/// The host was told of every order of the ledger, as it is now, and of no other.
fn host_differences(books: &Books) -> Vec<String> {
    let mut differences = Vec::new();
    for (id, order) in &books.listed {
        match books.host.get(id) {
            None => differences.push(format!(
                "order {id} is {} in the ledger, and the host was not told of it",
                order.state
            )),
            Some(told) if told != order => {
                differences.push(format!(
                    "order {id} is {} in the ledger, and the host was told that it is {}, or for another hold",
                    order.state, told.state
                ));
            }
            Some(_) => {}
        }
    }
    if books.complete {
        for id in books.host.keys().filter(|id| !books.listed.contains_key(*id)) {
            differences.push(format!("the host was told of order {id}, and it is not in the ledger"));
        }
    }
    differences
}

/// What is known as sums alone.
fn sum_differences(stock: u32, confirmed: &[&Purchase], books: &Books) -> Vec<String> {
    let mut differences = Vec::new();
    let (orders, units) =
        (confirmed.len() as u32, confirmed.iter().map(|purchase| purchase.units).sum::<u32>());
    if let Some((ledger_orders, ledger_units)) = books.totals
        && (ledger_orders, ledger_units) != (orders, units)
    {
        differences.push(format!(
            "the ledger's sums grew by {ledger_orders} orders and {ledger_units} units, and buyers were told of \
             {orders} and {units}"
        ));
    }
    if let Some((available, held, sold)) = books.sale {
        if available + held + sold != stock {
            differences.push(format!(
                "{available} available, {held} held and {sold} sold are not the stock of {stock}"
            ));
        }
        if sold != units {
            differences.push(format!("the sale says {sold} sold, and buyers were told of {units}"));
        }
        if let Ok(holds) = &books.holds {
            let standing: u32 = holds.values().map(|hold| hold.units).sum();
            if held != standing {
                differences.push(format!("the sale says {held} held, and its buyers' holds are {standing}"));
            }
        }
    }
    differences
}

/// Every hold that stands by its buyer's knowledge stands at the server, for the same units; and nobody holds anything else.
fn hold_differences(purchases: &[Purchase], holds: &BTreeMap<String, Held>, books: &Books) -> Vec<String> {
    let mut differences = Vec::new();
    let mut known = BTreeSet::new();
    for purchase in purchases {
        let Purchase { hold, buyer, units, .. } = purchase;
        known.insert(hold);
        match holds.get(hold) {
            None if purchase.stands() && !purchase.doubtful => {
                differences
                    .push(format!("hold {hold} was granted to buyer {buyer}, and does not stand any more"));
            }
            Some(_) if !purchase.stands() => {
                let why = match (purchase.confirmed, purchase.released) {
                    (true, _) => "is sold",
                    (_, true) => "was given back",
                    _ => "has run out",
                };
                differences.push(format!("hold {hold} of buyer {buyer} {why}, and still stands"));
            }
            Some(held) if held.buyer != *buyer || held.units != *units => {
                differences.push(format!(
                    "hold {hold} was granted to buyer {buyer} for {units} units, and stands for {} of buyer {}",
                    held.units, held.buyer
                ));
            }
            _ => {}
        }
    }
    // Who was never answered may have been granted one, and can't know.
    let unknown =
        holds.iter().filter(|(id, held)| !known.contains(id) && !books.unsure.contains(&held.buyer));
    differences.extend(
        unknown
            .map(|(id, held)| format!("hold {id} stands for buyer {}, who was not told of it", held.buyer)),
    );
    differences
}

/// Every order that was confirmed to a buyer was told to the webhook as sold, once, and nothing else was; and the last that
/// was told of each order is how it stands in the ledger.
fn webhook_differences(
    confirmed: &[&Purchase],
    webhook: &BTreeMap<String, Told>,
    books: &Books,
) -> Vec<String> {
    let mut differences = Vec::new();
    if webhook.is_empty() && !confirmed.is_empty() {
        return vec![format!(
            "no webhook message has come about any of the sale's {} orders: can the server reach the harness? \
             (--webhook-listen, --webhook-url)",
            confirmed.len()
        )];
    }
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
    for (id, order) in &books.listed {
        let last = webhook.get(id).map_or("nothing", |told| told.order.state.as_str());
        if last != order.state {
            differences.push(format!(
                "order {id} is {} in the ledger, and the last that the webhook was told is {last}",
                order.state
            ));
        }
    }
    if books.complete {
        for id in webhook.keys().filter(|id| !books.listed.contains_key(*id)) {
            differences.push(format!("the webhook was told of order {id}, and it is not in the ledger"));
        }
    }
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
        self.holds_compared = sum(self.holds_compared, other.holds_compared);
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
            ran_out: false,
            doubtful: false,
            order: Some(format!("o{buyer}")),
            paid: true,
            confirmed: true,
        }
    }

    fn order(buyer: u32, state: &str) -> (String, Order) {
        (format!("o{buyer}"), Order { hold: format!("h{buyer}"), units: 1, state: state.to_owned() })
    }

    /// Two of four units sold, one held, one given back, in all books.
    fn good() -> (Vec<Purchase>, Books) {
        let listed: BTreeMap<_, _> = [order(1, "sold"), order(2, "sold"), order(3, "paying")].into();
        let told = |(id, order): (&String, &Order)| {
            let sold = u32::from(order.state == "sold");
            (id.clone(), Told { order: order.clone(), sale: "s".to_owned(), sold })
        };
        let books = Books {
            host: listed.clone(),
            complete: true,
            totals: Some((2, 2)),
            sale: Some((1, 1, 2)),
            holds: Ok([("h3".to_owned(), Held { buyer: 3, units: 1 })].into()),
            webhook: Ok(listed.iter().map(told).collect()),
            listed,
            ..Books::default()
        };
        let paying = Purchase { paid: false, confirmed: false, ..bought(3) };
        let back = Purchase { order: None, released: true, paid: false, confirmed: false, ..bought(4) };
        (vec![bought(1), bought(2), paying, back], books)
    }

    #[test]
    fn books_that_agree_have_no_difference() {
        let (purchases, books) = good();
        let audit = audit(4, &purchases, &books);
        assert_eq!(audit.differences, Vec::<String>::new());
        assert_eq!(audit.not_compared, Vec::<String>::new());
        assert_eq!((audit.confirmed_units, audit.ledger_units, oversold(&audit, 3)), (2, Some(2), 0));
        assert_eq!((audit.holds_compared, audit.webhook_orders), (Some(4), Some(2)));
    }

    fn webhook(books: &mut Books) -> &mut BTreeMap<String, Told> {
        books.webhook.as_mut().unwrap()
    }

    fn holds(books: &mut Books) -> &mut BTreeMap<String, Held> {
        books.holds.as_mut().unwrap()
    }

    #[test]
    fn what_was_not_compared_is_told_with_its_reason() {
        let (purchases, mut books) = good();
        books.webhook = Err("there is no key".to_owned());
        books.holds = Err("buyer 3 was refused".to_owned());
        books.complete = false;
        let audit = audit(4, &purchases, &books);
        assert_eq!((audit.differences.len(), audit.webhook_orders, audit.holds_compared), (0, None, None));
        assert_eq!(audit.ledger_units, Some(2), "by its sums");
        let told = audit.not_compared.join("; ");
        for reason in [
            "lists only the latest",
            "holds with the server's, one by one: buyer 3",
            "webhooks: there is no key",
        ] {
            assert!(told.contains(reason), "{reason}: {told}");
        }
    }

    #[test]
    fn the_ledger_is_what_the_server_lists_and_not_what_the_host_was_told() {
        let (purchases, mut books) = good();
        books.host.clear();
        let audit = audit(4, &purchases, &books);
        assert_eq!((audit.ledger_orders, audit.ledger_units), (Some(2), Some(2)));
        assert_eq!(audit.differences.len(), 3, "the host was told of none: {:?}", audit.differences);
    }

    #[test]
    fn who_was_never_answered_may_hold_something_and_who_knows_nothing_may_not() {
        let (purchases, mut books) = good();
        books.sale = Some((0, 2, 2));
        holds(&mut books).insert("h9".to_owned(), Held { buyer: 9, units: 1 });
        assert_eq!(
            audit(4, &purchases, &books).differences,
            ["hold h9 stands for buyer 9, who was not told of it"]
        );
        books.unsure.insert(9);
        assert_eq!(audit(4, &purchases, &books).differences, Vec::<String>::new());
    }

    #[test]
    fn a_hold_that_was_to_be_given_back_may_stand_or_not() {
        let (mut purchases, mut books) = good();
        (purchases[3].released, purchases[3].doubtful) = (false, true);
        assert_eq!(audit(4, &purchases, &books).differences, Vec::<String>::new());
        holds(&mut books).insert("h4".to_owned(), Held { buyer: 4, units: 1 });
        books.sale = Some((0, 2, 2));
        assert_eq!(audit(4, &purchases, &books).differences, Vec::<String>::new());
    }

    #[test]
    fn books_of_several_lives_add_up() {
        let (purchases, books) = good();
        let (mut all, mut other) = (audit(4, &purchases, &books), audit(4, &purchases, &books));
        other.differences.push("one".to_owned());
        all.add(other);
        assert_eq!((all.stock, all.confirmed_units, all.webhook_orders), (8, 4, Some(4)));
        assert_eq!(all.differences, ["one"]);
    }

    #[test]
    fn every_difference_is_found() {
        type Change = fn(&mut Vec<Purchase>, &mut Books);
        let changes: &[(&str, Change)] = &[
            ("two holds", |_, books| books.taps.push("one key, two holds".to_owned())),
            ("o2 was confirmed to a buyer, and is not in the ledger", |_, books| {
                drop(books.listed.remove("o2"))
            }),
            ("is refund_due in the ledger", |_, books| {
                books.host.extend([order(2, "refund_due")]);
                books.listed.extend([order(2, "refund_due")]);
            }),
            ("o2 is sold in the ledger, and no buyer was told", |purchases, _| {
                purchases[1].confirmed = false
            }),
            ("other units", |purchases, _| purchases[1].units = 2),
            ("confirmed to more than one", |purchases, _| purchases[1].order = Some("o1".to_owned())),
            ("granted to more than one", |purchases, _| purchases[1].hold = "h1".to_owned()),
            ("the host was not told of it", |_, books| books.listed.extend([order(9, "paying")])),
            ("the host was told that it is paying", |_, books| books.host.extend([order(2, "paying")])),
            ("the host was told of order o9", |_, books| books.host.extend([order(9, "sold")])),
            ("sums grew by 3 orders", |_, books| books.totals = Some((3, 3))),
            ("are not the stock", |_, books| books.sale = Some((0, 1, 2))),
            ("says 3 sold", |_, books| books.sale = Some((0, 1, 3))),
            ("says 2 held, and its buyers' holds are 1", |_, books| books.sale = Some((0, 2, 2))),
            ("h3 was granted to buyer 3, and does not stand", |_, books| {
                holds(books).remove("h3");
            }),
            ("stands for 2 of buyer 3", |_, books| holds(books).get_mut("h3").unwrap().units = 2),
            ("stands for 1 of buyer 8", |_, books| holds(books).get_mut("h3").unwrap().buyer = 8),
            ("buyer 3 has run out, and still stands", |purchases, _| purchases[2].ran_out = true),
            ("buyer 4 was given back, and still stands", |_, books| {
                holds(books).insert("h4".to_owned(), Held { buyer: 4, units: 1 });
            }),
            ("buyer 1 is sold, and still stands", |_, books| {
                holds(books).insert("h1".to_owned(), Held { buyer: 1, units: 1 });
            }),
            ("no webhook says", |_, books| drop(webhook(books).remove("o1"))),
            ("no webhook says", |_, books| webhook(books).get_mut("o1").unwrap().sold = 0),
            ("2 different webhook messages", |_, books| webhook(books).get_mut("o1").unwrap().sold = 2),
            ("another hold in the webhook", |_, books| webhook(books).get_mut("o1").unwrap().order.units = 7),
            ("the webhook was told is sold", |_, books| {
                webhook(books).get_mut("o3").unwrap().order.state = "sold".to_owned();
            }),
            ("the webhook was told is nothing", |_, books| drop(webhook(books).remove("o3"))),
            ("the webhook was told of order o9", |_, books| {
                let told = webhook(books)["o3"].clone();
                webhook(books).insert("o9".to_owned(), told);
            }),
            ("sold by the webhook, and no buyer", |_, books| {
                let told = webhook(books)["o1"].clone();
                webhook(books).insert("o9".to_owned(), told);
            }),
            ("can the server reach the harness", |_, books| webhook(books).clear()),
        ];
        for (expected, change) in changes {
            let (mut purchases, mut books) = good();
            change(&mut purchases, &mut books);
            let audit = audit(4, &purchases, &books);
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
