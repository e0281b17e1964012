//! What `docs/channel.md` shows is what the server reads.

#![allow(clippy::unwrap_used)]

#[test]
fn every_example_is_a_request_that_the_server_reads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/channel.md");
    let text = std::fs::read_to_string(path).unwrap();
    let examples: Vec<_> = text
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().replace('…', ""))
        .collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    for example in examples {
        haul_wire::parse(example.trim()).unwrap_or_else(|error| panic!("{example}: {error}"));
    }
}

#[test]
fn every_type_that_the_server_reads_is_described() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/channel.md");
    let text = std::fs::read_to_string(path).unwrap();
    let types = [
        haul_wire::ChatAsk::TYPES,
        haul_wire::questions::QuestionAsk::TYPES,
        haul_wire::show::ShowAsk::TYPES,
        haul_wire::crowd::CrowdAsk::TYPES,
        haul_wire::coupon::CouponAsk::TYPES,
    ];
    for kind in types.concat() {
        assert!(text.contains(&format!("`{kind}`")), "{kind}");
    }
}
