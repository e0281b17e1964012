//! What is in the bag, told to each reader in their language.

use std::collections::BTreeMap;

use haul_commerce::{Product, listing::Listing};
use haul_model::{Languages, Locale, ProductId, Viewer};
use haul_room::{Lane, Line};
use haul_wire::{Event, Position, ProductView, encode_event};

use super::{Output, Stage, To, answers::product_view, is_staff};

/// Languages in which a changed bag is told, besides each product's own: those that most readers here want. Who wants
/// another one is told in the products' own.
pub(super) const MAX_TONGUES: usize = 16;

/// How a line begins that tells of the bag: its type stands first.
const BAG_TOLD: &[u8] = br#"{"type":"products.changed","#;

/// The products of a live, in their order, with their texts.
#[derive(Debug, Default)]
pub(super) struct Bag {
    listings: Vec<Listing>,
    /// All languages that texts are in, each once.
    tongues: Vec<Locale>,
}

impl Bag {
    pub(super) fn new(listings: Vec<Listing>) -> Self {
        let mut tongues = Vec::new();
        for Listing { details, .. } in &listings {
            for locale in std::iter::once(&details.locale).chain(details.texts.keys()) {
                if !tongues.contains(locale) {
                    tongues.push(locale.clone());
                }
            }
        }
        Self { listings, tongues }
    }

    pub(super) fn products(&self) -> impl Iterator<Item = &Product> {
        self.listings.iter().map(|listing| &listing.product)
    }

    pub(super) fn has(&self, product: &ProductId) -> bool {
        self.products().any(|known| known.id == *product)
    }

    /// The products for a reader. Without a wish, each in its own language.
    pub(super) fn views(&self, locale: Option<&Locale>) -> Vec<ProductView> {
        let Some(locale) = locale else { return self.products().map(product_view).collect() };
        let languages = Languages::one(locale.clone());
        self.listings.iter().map(|listing| product_view(&listing.product_for(&languages))).collect()
    }

    /// Which of the languages there are serves this wish.
    fn tongue(&self, wish: &Locale) -> Option<&Locale> {
        Languages::one(wish.clone()).find(self.tongues.iter())
    }
}

impl Stage {
    pub(super) fn bag_changed(&mut self, bag: Vec<Listing>) {
        self.bag = Bag::new(bag);
        let products = self.bag.views(None);
        let line = self.room.record(&Event::ProductsChanged { products: products.clone() });
        let versions = self.versions(&products);
        match versions.is_empty() {
            true => self.deliver(To::All, Lane::Room, None, line),
            false => self.outputs.push_back(Output::DeliverTranslated { line, versions }),
        }
        if let Some(pin) = self.room.pin()
            && !self.bag.has(&pin.product_id)
        {
            let line = self.room.set_pin(None);
            self.deliver(To::All, Lane::Room, None, line);
        }
    }

    /// The last event, which told of the bag, in the languages of those who are here: encoded once for each language, and
    /// not at all where it says the same as `own`.
    fn versions(&self, own: &[ProductView]) -> Vec<(Locale, Line)> {
        let tongues = &self.bag.tongues;
        let mut wishes: BTreeMap<&Locale, usize> = BTreeMap::new();
        for wish in self.members.values().filter_map(|member| member.locale.as_ref()) {
            *wishes.entry(wish).or_default() += 1;
        }
        let mut readers: BTreeMap<&Locale, usize> = BTreeMap::new();
        for (wish, count) in wishes {
            if let Some(tongue) = self.bag.tongue(wish) {
                *readers.entry(tongue).or_default() += count;
            }
        }
        let mut wanted: Vec<&Locale> = readers.keys().copied().collect();
        wanted.sort_by_key(|tongue| std::cmp::Reverse(readers[tongue]));
        wanted.truncate(MAX_TONGUES);
        // In their own order again: where two would do for a reader, the first does, here and in the whole list.
        wanted.sort_by_key(|tongue| tongues.iter().position(|known| known == *tongue));
        let (epoch, offset) = self.room.position();
        let version = |tongue: &Locale| {
            let products = self.bag.views(Some(tongue));
            let line = encode_event(epoch, Some(offset), &Event::ProductsChanged { products });
            (tongue.clone(), Line::from(line))
        };
        if wanted.iter().all(|tongue| self.bag.views(Some(tongue)) == own) {
            return Vec::new();
        }
        wanted.into_iter().map(version).collect()
    }

    /// What somebody who comes back has missed. Of the bag they are told in their language, as it is now: an earlier state
    /// of it counts for nothing.
    pub(super) fn missed(
        &self,
        position: &Position,
        viewer: Option<&Viewer>,
        locale: Option<&Locale>,
    ) -> Option<Vec<Line>> {
        let staff = viewer.is_some_and(is_staff);
        let mut missed = self.room.missed(position, viewer.map(|viewer| &viewer.id), staff)?;
        if let Some(locale) = locale {
            for (line, offset) in missed.iter_mut().zip(position.offset + 1..) {
                if line.starts_with(BAG_TOLD) {
                    let event = Event::ProductsChanged { products: self.bag.views(Some(locale)) };
                    *line = encode_event(&position.epoch, Some(offset), &event).into();
                }
            }
        }
        Some(missed)
    }
}
