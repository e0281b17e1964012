//! What the gate has said, written down behind it.

use super::{sales::shop_of_bundles, *};

on_each_database! {
    what_the_gate_said_is_written_once_and_never_by_an_older_word
    holds_of_every_kind_are_written_down
}

fn record(number: u32, state: HoldState) -> HoldRecord {
    HoldRecord {
        hold: format!("hold_{number}").parse().unwrap(),
        buyer: "ann".parse().unwrap(),
        units: 1.into(),
        made: u64::from(number),
        state,
        deadline: UnixMillis(NOW.0 + u64::from(number)),
        order: None,
        extended: false,
        retaken: false,
        unreserved: false,
        returned: None,
        coupon: None,
    }
}

async fn what_the_gate_said_is_written_once_and_never_by_an_older_word(on: On) {
    let ledger = ledger(&on).await;
    let sale_1: SaleId = "sale_1".parse().unwrap();
    let mark = |sequence| Mark { epoch: 1, sequence };
    let note = async |sequence, holds: Vec<(Mark, HoldRecord)>| {
        let clock = UnixMillis(NOW.0 + sequence);
        let notes = HoldNotes { live: demo(), sale: sale_1.clone(), mark: mark(sequence), clock, holds };
        ledger.record_holds(&[notes]).await
    };
    assert_eq!(ledger.gate_mark(&demo(), &sale_1).await, Ok(Mark::default()));
    // More than one statement takes.
    let many = (0..1_200).map(|number| (mark(5), record(number, HoldState::Held))).collect();
    note(5, many).await.unwrap();
    note(7, vec![(mark(7), record(1, HoldState::Released)), (mark(7), record(2, HoldState::Held))])
        .await
        .unwrap();
    note(6, vec![(mark(6), record(1, HoldState::Paying))]).await.unwrap();
    assert_eq!(ledger.gate_mark(&demo(), &sale_1).await, Ok(mark(7)));
    let recorded = ledger.recorded(&demo(), &sale_1).await.unwrap();
    assert_eq!(
        (recorded.mark, recorded.clock, recorded.holds.len()),
        (mark(7), UnixMillis(NOW.0 + 7), 1_200)
    );
    let find =
        |number| recorded.holds.iter().find(|known| known.hold == record(number, HoldState::Held).hold);
    assert_eq!(find(1), Some(&record(1, HoldState::Released)), "the older word did not count");
    assert_eq!(find(2), Some(&record(2, HoldState::Held)));
    // A new epoch counts, whatever its sequence.
    let rebuilt = HoldNotes {
        live: demo(),
        sale: sale_1.clone(),
        mark: Mark { epoch: 2, sequence: 1 },
        clock: NOW,
        holds: vec![(Mark { epoch: 2, sequence: 1 }, record(2, HoldState::Released))],
    };
    ledger.record_holds(&[rebuilt]).await.unwrap();
    assert_eq!(ledger.gate_mark(&demo(), &sale_1).await, Ok(Mark { epoch: 2, sequence: 1 }));
    ledger.forget_holds(&demo(), UnixMillis(NOW.0 + 2)).await.unwrap();
    let left = ledger.recorded(&demo(), &sale_1).await.unwrap();
    assert_eq!(left.holds.len(), 1_198, "hold 1 is over, and so is hold 0, whose end nobody wrote down");
    assert_eq!(left.clock, UnixMillis(NOW.0 + 7), "the clock does not go back");
}

async fn holds_of_every_kind_are_written_down(on: On) {
    let ledger = ledger(&on).await;
    let sale = shop_of_bundles(&ledger).await;
    let kinds = [
        HoldRecord { units: "0:1+2:1".parse().unwrap(), ..record(1, HoldState::Held) },
        HoldRecord { unreserved: true, ..record(2, HoldState::Paying) },
        HoldRecord { units: "1:1".parse().unwrap(), ..record(3, HoldState::Waiting) },
        HoldRecord { units: 2.into(), returned: Some(1.into()), ..record(4, HoldState::Sold) },
    ];
    let mark = Mark { epoch: 1, sequence: 9 };
    let holds = kinds.iter().map(|record| (mark, record.clone())).collect();
    let notes = HoldNotes { live: demo(), sale: sale.id.clone(), mark, clock: NOW, holds };
    ledger.record_holds(&[notes]).await.unwrap();
    let mut found = ledger.recorded(&demo(), &sale.id).await.unwrap().holds;
    found.sort_by(|a, b| a.hold.cmp(&b.hold));
    assert_eq!(found, kinds);
}
