//! Many giveaways one after the other, and many people who enter one at once.

use haul_wire::show::ShowAsk;

use super::*;
use crate::giveaway::MAX_DRAWN_BEFORE;

fn start_one(play: &mut Play) -> GiveawayId {
    match play.show(&host(), giveaway(1)).unwrap() {
        Shown::Giveaway(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn winners_claim_whatever_comes_after_their_giveaway() {
    let mut play = Play::new();
    let first = start_one(&mut play);
    let claim = |id: &GiveawayId| ShowAsk::GiveawayClaim { giveaway_id: id.clone() };
    play.show(&ann(), ShowAsk::GiveawayEnter { giveaway_id: first.clone() }).unwrap();
    play.show(&host(), ShowAsk::GiveawayDraw { giveaway_id: first.clone() }).unwrap();
    let second = start_one(&mut play);
    play.show(&bob(), ShowAsk::GiveawayEnter { giveaway_id: second.clone() }).unwrap();
    play.show(&host(), ShowAsk::GiveawayDraw { giveaway_id: second.clone() }).unwrap();
    play.show(&host(), ShowAsk::GiveawayEnd { giveaway_id: second.clone() }).unwrap();
    play.show(&host(), ShowAsk::GiveawayEnd { giveaway_id: second.clone() }).unwrap();
    assert_eq!(play.room.giveaway(), None);
    let mut notes = std::collections::BTreeMap::new();
    for effect in play.effects() {
        if let Effect::Keep(Note { name, text }) = effect {
            notes.insert(name, text);
        }
    }
    let mut play = Play::new();
    play.room.restore(notes.into_iter().map(|(name, text)| Note { name, text }).collect(), play.now);
    assert_eq!(play.room.won(&ann().id)[0].giveaway.id, first, "over restarts too");
    assert_eq!(play.room.drawn_before().len(), 2);
    play.show(&ann(), claim(&first)).unwrap();
    let told = play.told();
    assert_eq!((&told[0].0, &told[0].1["winners"][0]["claimed"]), (&Audience::Staff, &true.into()));
    assert!(play.room.won(&ann().id)[0].claimed && !play.room.won(&bob().id)[0].claimed);
    assert!(matches!(play.show(&ann(), claim(&second)), Err(Refused::NotNow(_))));
    play.wait(30 * SECOND);
    assert_eq!(play.show(&bob(), claim(&second)), Err(Refused::NoSuch("giveaway_id")), "too late");
    let gone = play.effects();
    assert!(gone.contains(&Effect::Keep(Note { name: format!("giveaway/{second}"), text: None })));
    assert!(play.room.won(&bob().id).is_empty());
}

#[test]
fn no_giveaway_is_begun_where_too_many_wait_for_their_winners() {
    let mut play = Play::new();
    for n in 0..=MAX_DRAWN_BEFORE {
        let giveaway_id = start_one(&mut play);
        play.show(&ann(), ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() }).unwrap();
        play.show(&host(), ShowAsk::GiveawayDraw { giveaway_id }).unwrap();
        assert_eq!(play.room.drawn_before().len(), n);
    }
    assert!(matches!(play.show(&host(), giveaway(1)), Err(Refused::NotNow(_))));
    assert_eq!(play.room.won(&ann().id).len(), MAX_DRAWN_BEFORE + 1, "nobody's is void");
    play.wait(30 * SECOND);
    start_one(&mut play);
}

#[test]
fn everybody_who_writes_the_word_is_in_however_loud_it_is() {
    let mut play = Play::new();
    start_one(&mut play);
    let people: Vec<_> = (0..4_000).map(|n| writer(&format!("p{n}"), Role::Viewer)).collect();
    for who in &people {
        let answer = play.ask(who, send("lamp")).unwrap();
        let Answer::Entered { ticket, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(play.room.ticket(&who.id), Some(ticket));
    }
    assert_eq!(play.room.giveaway().unwrap().entries, 4_000);
    // Somebody who has just written as much as they may.
    for n in 0..3 {
        play.say(&ann(), &n.to_string()).unwrap();
    }
    let entered = play.ask(&ann(), send("Lamp!")).unwrap();
    assert!(matches!(entered, Answer::Entered { message_id: None, .. }), "in, though not said");
    assert!(matches!(play.ask(&ann(), send("lamp")), Err(Refused::TooFast { .. })), "once a person");
}
