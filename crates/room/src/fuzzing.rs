//! Where a fuzzer comes in: it takes any bytes, and may neither panic nor break a promise that is asserted here. The test below
//! runs the corpus through the same door.

use haul_wire::{Event, Position, Request, parse, show::ShowNews};

use crate::order::Order;

/// Events of the order that is resumed.
const EVENTS: u64 = 40;

/// A `hello`, with any position in it, to a room that has told some events, of which one was taken back.
pub fn resume(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok((_, Request::Hello { resume: Some(position), .. })) = parse(text) else { return };
    let event = Event::Show(ShowNews::Announcement { announcement: None });
    let mut order = Order::new("e1".to_owned());
    // As an heir has it: the first events are forgotten.
    order.restore("e1".to_owned(), 10, Vec::new());
    for _ in 0..EVENTS {
        order.record(&event);
    }
    order.rewrite(20, &event);
    order.rewrite(position.offset, &event);
    let (epoch, last) = order.position();
    let known = position.epoch == epoch && (10..=last).contains(&position.offset);
    let missed = order.missed(&position);
    assert_eq!(missed.is_some(), known, "{position:?}");
    let mut next = position.offset;
    for line in missed.unwrap_or_default() {
        let told: serde_json::Value = serde_json::from_slice(&line).expect("lines are JSON");
        next += 1;
        assert_eq!(told["offset"], next, "what was missed, in its order and without a gap");
    }
    if known {
        assert_eq!(next, last);
        let here = Position { epoch: epoch.to_owned(), offset: last };
        assert_eq!(order.missed(&here), Some(Vec::new()));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_goes_through() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/resume");
        let mut files = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            super::resume(&std::fs::read(entry.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files >= 8, "{files}");
    }
}
