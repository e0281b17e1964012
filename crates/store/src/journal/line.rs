//! A hold as JSON: byte for byte what its `Serialize` writes, in a fifth of the time. Most of a journal is holds.

use haul_commerce::book::{HoldRecord, HoldState};
use serde::Serialize;

pub(super) fn write(to: &mut Vec<u8>, hold: &HoldRecord) {
    let HoldRecord {
        hold,
        buyer,
        units,
        made,
        state,
        deadline,
        order,
        extended,
        retaken,
        unreserved,
        returned,
        coupon,
    } = hold;
    id(to, "{\"hold\":", hold.as_str());
    id(to, ",\"buyer\":", buyer.as_str());
    other(to, ",\"quantity\":", units);
    other(to, ",\"made\":", made);
    to.extend_from_slice(match state {
        HoldState::Held => b",\"state\":\"held\"",
        HoldState::Paying => b",\"state\":\"paying\"",
        HoldState::Captured => b",\"state\":\"captured\"",
        HoldState::Sold => b",\"state\":\"sold\"",
        HoldState::Waiting => b",\"state\":\"waiting\"",
        HoldState::Released => b",\"state\":\"released\"",
        HoldState::Late => b",\"state\":\"late\"",
    });
    other(to, ",\"deadline\":", &deadline.0);
    if let Some(order) = order {
        id(to, ",\"order\":", order.as_str());
    }
    to.extend_from_slice(if *extended { b",\"extended\":true" } else { b",\"extended\":false" });
    to.extend_from_slice(if *retaken { b",\"retaken\":true" } else { b",\"retaken\":false" });
    if *unreserved {
        to.extend_from_slice(b",\"unreserved\":true");
    }
    if let Some(returned) = returned {
        other(to, ",\"returned\":", returned);
    }
    if let Some(coupon) = coupon {
        id(to, ",\"coupon\":", coupon.as_str());
    }
    to.push(b'}');
}

/// Nothing in an id needs an escape.
fn id(to: &mut Vec<u8>, name: &str, id: &str) {
    to.extend_from_slice(name.as_bytes());
    to.push(b'"');
    to.extend_from_slice(id.as_bytes());
    to.push(b'"');
}

fn other(to: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    to.extend_from_slice(name.as_bytes());
    serde_json::to_writer(to, value).expect("a number or a text of ours is JSON, and a Vec takes it");
}

#[cfg(test)]
mod tests {
    use haul_model::UnixMillis;

    use super::*;

    #[test]
    fn it_is_what_serde_writes() {
        let plain = HoldRecord {
            hold: "hold_1".parse().unwrap(),
            buyer: "ann@shop.example".parse().unwrap(),
            units: 2.into(),
            made: 7,
            state: HoldState::Held,
            deadline: UnixMillis(1_700_000_000_000),
            order: None,
            extended: false,
            retaken: false,
            unreserved: false,
            returned: None,
            coupon: None,
        };
        let states = [
            HoldState::Held,
            HoldState::Paying,
            HoldState::Captured,
            HoldState::Sold,
            HoldState::Waiting,
            HoldState::Released,
            HoldState::Late,
        ];
        let more = HoldRecord {
            units: "0:1+3:2".parse().unwrap(),
            order: Some("order_1".parse().unwrap()),
            extended: true,
            retaken: true,
            unreserved: true,
            returned: Some("3:1".parse().unwrap()),
            coupon: Some("TEA-10".parse().unwrap()),
            ..plain.clone()
        };
        for record in [plain.clone(), more] {
            for state in states {
                let record = HoldRecord { state, ..record.clone() };
                let mut line = Vec::new();
                write(&mut line, &record);
                let serde = serde_json::to_string(&record).unwrap();
                assert_eq!(String::from_utf8(line).unwrap(), serde);
            }
        }
    }
}
