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

#[test]
fn a_giveaway_can_be_checked_by_everybody() {
    let mut play = Play::new();
    assert_eq!(play.show(&moderator(), giveaway(2)), Err(Refused::Role(Role::Host)));
    assert!(matches!(play.show(&host(), giveaway(*WINNERS.end() + 1)), Err(Refused::Field(_))));
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(2)).unwrap() else { panic!() };
    let started = play.told()[0].1["giveaway"].clone();
    assert_eq!(started["seed"], Value::Null);
    let enter = ShowAsk::GiveawayEnter { giveaway_id: giveaway_id.clone() };
    let mut tickets = Vec::new();
    for n in 0..20 {
        let who = writer(&format!("p{n}"), Role::Viewer);
        for _ in 0..2 {
            let Shown::Ticket(ticket) = play.show(&who, enter.clone()).unwrap() else { panic!() };
            tickets.push(ticket);
        }
    }
    tickets.dedup();
    play.say(&ann(), "lamp").unwrap();
    play.say(&ann(), "a lamp is nice").unwrap();
    tickets.push(play.room.ticket(&ann().id).unwrap());
    assert!(matches!(play.show(&host(), enter.clone()), Err(Refused::NotNow(_))));
    play.told();
    play.wait(SECOND);
    assert_eq!(play.told()[0].1["entries"], 21, "each person once, the chat's word too");
    play.wait(60 * SECOND);
    let told = play.told();
    let drawn = &told[0].1["giveaway"];
    assert_eq!((&drawn["open"], &drawn["entries"]), (&false.into(), &21.into()));

    // What anybody can do with what they were told.
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let seed = drawn["seed"].as_str().unwrap();
    assert_eq!(
        hex(&Sha256::digest(seed)),
        started["commitment"],
        "the seed was fixed before anybody entered"
    );
    tickets.sort_by_key(|ticket| hex(&Sha256::digest(format!("{seed}:{ticket}"))));
    let won: Vec<_> =
        drawn["winners"].as_array().unwrap().iter().map(|winner| winner["ticket"].clone()).collect();
    assert_eq!(won, tickets[..2].iter().map(|ticket| Value::from(ticket.clone())).collect::<Vec<_>>());

    let winners = play.room.winners().to_vec();
    assert!(
        told.iter().any(|(to, line)| *to == Audience::Person(winners[0].user_id.clone())
            && line["type"] == "giveaway.won")
    );
    let claim = ShowAsk::GiveawayClaim { giveaway_id: giveaway_id.clone() };
    let winner = |n: usize| Writer { id: winners[n].user_id.clone(), ..ann() };
    play.show(&winner(0), claim.clone()).unwrap();
    assert!(play.room.winners()[0].claimed);
    assert!(matches!(play.show(&host(), claim.clone()), Err(Refused::NotNow(_))));
    play.wait(30 * SECOND);
    assert!(matches!(play.show(&winner(1), claim.clone()), Err(Refused::NotNow(_))), "too late");
    play.show(&winner(0), claim).unwrap();
    assert!(matches!(play.show(&ann(), enter), Err(Refused::NotNow(_)) | Ok(Shown::Ticket(_))));
}

#[test]
fn a_word_of_nothing_but_an_emoji_is_entered_by_that_emoji_alone() {
    let mut play = Play::new();
    let ShowAsk::GiveawayStart { title, winners, duration_ms, claim_ms, .. } = giveaway(1) else { panic!() };
    let start = ShowAsk::GiveawayStart { title, word: Some("🎁".into()), winners, duration_ms, claim_ms };
    play.show(&host(), start).unwrap();
    play.say(&ann(), "👏").unwrap();
    play.say(&ann(), "!!!").unwrap();
    assert_eq!(play.room.ticket(&ann().id), None);
    play.say(&ann(), " 🎁").unwrap();
    assert!(play.room.ticket(&ann().id).is_some());
}

#[test]
fn a_giveaway_outlives_a_restart() {
    let mut play = Play::new();
    let Shown::Giveaway(giveaway_id) = play.show(&host(), giveaway(1)).unwrap() else { panic!() };
    play.show(&ann(), ShowAsk::GiveawayEnter { giveaway_id }).unwrap();
    play.wait(3 * SECOND);
    let kept = play.effects().into_iter().filter_map(|effect| match effect {
        Effect::Keep(note) => Some(note),
        _ => None,
    });
    let last = kept.last().unwrap();
    let mut later = Play::new();
    later.wait(3 * SECOND);
    later.room.restore(vec![last], later.now);
    assert!(later.room.ticket(&ann().id).is_some());
    later.wait(57 * SECOND);
    assert_eq!(later.room.winners()[0].name, "ann");
}
