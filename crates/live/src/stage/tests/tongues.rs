//! Products in the languages of those who read of them.

use haul_commerce::listing::{Details, ProductText};
use haul_wire::Position;

use super::*;

fn locale(tag: &str) -> Locale {
    tag.parse().unwrap()
}

fn listing(title: &str, texts: &[(&str, &str)]) -> Listing {
    let product = Product {
        id: "tea".parse().unwrap(),
        merchant: MerchantId::main(),
        title: title.to_owned(),
        subtitle: String::new(),
        image_url: String::new(),
        list_price: eur(2000),
    };
    let text = |title: &str| ProductText { title: title.to_owned(), subtitle: String::new() };
    let texts = texts.iter().map(|(tag, title)| (locale(tag), text(title))).collect();
    Listing { product, details: Details { texts, ..Details::default() } }
}

impl Play {
    fn greet(&mut self, member: u64, tag: Option<&str>, resume: Option<Position>) -> Vec<(To, Value)> {
        let input =
            Input::Join { member: MemberId(member), id: 1, viewer: None, locale: tag.map(locale), resume };
        lines(&self.input(input))
    }
}

#[test]
fn a_newcomer_reads_of_products_in_their_language() {
    let mut play = Play::new();
    play.input(Input::Bag(vec![listing("Tea", &[("zh-Hans", "茶"), ("de", "Tee")])]));
    for (member, (tag, title)) in [
        (None, "Tea"),
        (Some("de-AT"), "Tee"),
        (Some("zh-CN"), "茶"),
        (Some("fr"), "Tea"),
        (Some("en-GB"), "Tea"),
    ]
    .into_iter()
    .enumerate()
    {
        let heard = play.greet(member as u64, tag, None);
        assert_eq!(heard[0].1["result"]["products"][0]["title"], title, "{tag:?}");
    }
}

#[test]
fn a_changed_bag_is_encoded_once_for_each_language_that_is_read_here() {
    let mut play = Play::new();
    play.greet(1, Some("de-AT"), None);
    play.greet(2, Some("de-CH"), None);
    play.greet(3, None, None);
    let outputs = play.input(Input::Bag(vec![listing("Tea", &[("zh", "茶"), ("de", "Tee")])]));
    let [Output::DeliverTranslated { line, versions }] = &outputs[..] else { panic!("{outputs:?}") };
    let own: Value = serde_json::from_slice(line).unwrap();
    let [(tongue, version)] = &versions[..] else { panic!("{versions:?}") };
    let german: Value = serde_json::from_slice(version).unwrap();
    assert_eq!((tongue, &own["products"][0]["title"]), (&locale("de"), &json!("Tea")));
    assert_eq!(german["products"][0]["title"], "Tee");
    assert_eq!((&german["offset"], &german["epoch"]), (&own["offset"], &own["epoch"]), "one event");

    let plain = lines(&play.input(Input::Bag(vec![listing("Tea", &[])])));
    assert_eq!(plain[0].0, To::All, "nobody reads of it in other words");
}

#[test]
fn of_very_many_languages_those_that_most_read_are_told() {
    let mut play = Play::new();
    let tags: Vec<String> =
        (0..30_u8).map(|n| format!("q{}{}", char::from(b'a' + n / 6), char::from(b'a' + n % 6))).collect();
    let texts: Vec<_> = tags.iter().map(|tag| (tag.as_str(), "T")).collect();
    for (member, tag) in tags.iter().chain([&tags[29]]).enumerate() {
        play.greet(member as u64, Some(tag), None);
    }
    let outputs = play.input(Input::Bag(vec![listing("Tea", &texts)]));
    let [Output::DeliverTranslated { versions, .. }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(versions.len(), bag::MAX_TONGUES);
    assert!(versions.iter().any(|(tongue, _)| *tongue == locale(&tags[29])), "which two read");
}

#[test]
fn who_comes_back_reads_of_what_was_missed_in_their_language_too() {
    let mut play = Play::new();
    let hello = play.greet(1, Some("de"), None)[0].1["result"].clone();
    let position = Position {
        epoch: hello["epoch"].as_str().unwrap().into(),
        offset: hello["offset"].as_u64().unwrap(),
    };
    play.input(Input::Leave { member: MemberId(1) });
    play.input(Input::Record(LiveRecord {
        id: "demo".parse().unwrap(),
        merchant: MerchantId::main(),
        title: "Late tea".into(),
        public: true,
        created_at: play.now.wall,
    }));
    play.input(Input::Bag(vec![listing("Tea", &[("de", "Tee")])]));
    let heard = play.greet(2, Some("de"), Some(position.clone()));
    assert_eq!(heard[0].1["result"]["resumed"]["recovered"], true);
    assert_eq!(heard[0].1["result"]["products"][0]["title"], "Tee");
    let missed: Vec<_> = heard[1..].iter().map(|(_, event)| event).collect();
    let offsets: Vec<_> = missed.iter().map(|event| event["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [position.offset + 1, position.offset + 2]);
    assert_eq!(missed[0]["live"]["title"], "Late tea");
    assert_eq!(missed[1]["products"][0]["title"], "Tee");
    let heard = play.greet(3, None, Some(position));
    assert_eq!(heard[2].1["products"][0]["title"], "Tea", "without a wish, as it was told");
}
