//! Questions and polls.

use super::*;

#[test]
fn a_question_is_asked_wanted_picked_and_answered() {
    let mut play = Play::new();
    let first = play.question(&ann(), asking("how big?")).unwrap().unwrap();
    assert_eq!(
        play.question(&ann(), asking("how big?")).unwrap(),
        Some(first.clone()),
        "a retry is the same"
    );
    let second = play.question(&bob(), asking("which colours?")).unwrap().unwrap();
    play.told();
    for voter in ["cy", "di", "di"] {
        play.question(&writer(voter, Role::Viewer), QuestionAsk::Vote { question_id: second.clone() })
            .unwrap();
    }
    assert!(play.told().is_empty(), "votes are told together");
    play.wait(SECOND);
    let told = play.told();
    assert_eq!((told.len(), &told[0].1["votes"]), (1, &3.into()), "each person once");
    assert_eq!(play.room.questions(None, false)[0].id, second, "the most wanted first");

    let pick = |question_id: &haul_model::QuestionId| QuestionAsk::Pick { question_id: question_id.clone() };
    assert_eq!(play.question(&ann(), pick(&first)), Err(Refused::Role(Role::Moderator)));
    play.question(&moderator(), pick(&first)).unwrap();
    let told = play.told();
    assert_eq!(
        (&told[0].1["question"]["state"], &told[0].1["question"]["media_ms"]),
        (&"picked".into(), &9_000.into())
    );
    assert_eq!(told[1].0, Audience::Person("ann".parse().unwrap()), "who asked is told");
    play.question(&moderator(), pick(&second)).unwrap();
    let states: Vec<_> =
        play.room.questions(None, false).into_iter().map(|question| question.state).collect();
    assert_eq!(states, [QuestionState::Picked, QuestionState::Open], "one at a time");
    let answer = QuestionAsk::Answer { question_id: second.clone(), text: Some("red".into()) };
    play.question(&moderator(), answer).unwrap();
    assert_eq!(play.room.questions(None, false)[1].answer.as_deref(), Some("red"));
    assert_eq!(
        play.question(&ann(), QuestionAsk::Remove { question_id: second.clone() }),
        Err(Refused::Role(Role::Moderator))
    );
    play.question(&ann(), QuestionAsk::Remove { question_id: first }).unwrap();
    assert_eq!(play.room.questions(None, false).len(), 1);
}

#[test]
fn a_wrong_pick_goes_back_to_those_that_wait() {
    let mut play = Play::new();
    let id = play.question(&ann(), asking("how big?")).unwrap().unwrap();
    let unpick = || QuestionAsk::Unpick { question_id: id.clone() };
    play.question(&moderator(), QuestionAsk::Pick { question_id: id.clone() }).unwrap();
    play.told();
    assert_eq!(play.question(&ann(), unpick()), Err(Refused::Role(Role::Moderator)));
    play.question(&moderator(), unpick()).unwrap();
    let told = play.told();
    assert_eq!(told.len(), 1, "who asked need not hear of it");
    assert_eq!(
        (&told[0].1["question"]["state"], &told[0].1["question"]["media_ms"]),
        (&"open".into(), &Value::Null)
    );

    play.question(&moderator(), QuestionAsk::Answer { question_id: id.clone(), text: None }).unwrap();
    play.told();
    play.question(&moderator(), unpick()).unwrap();
    assert!(play.told().is_empty(), "what is answered stays so");
}

#[test]
fn nobody_fills_the_queue_of_questions() {
    let mut play = Play::new();
    for text in ["a", "b", "c"] {
        play.question(&ann(), asking(text)).unwrap();
    }
    assert!(matches!(play.question(&ann(), asking("d")), Err(Refused::NotNow(_))));
    play.ask(&moderator(), against(Measure::ShadowBan, "bob", None)).unwrap();
    play.told();
    play.question(&bob(), asking("me too")).unwrap();
    let audiences: Vec<_> = play.told().into_iter().map(|(to, _)| to).collect();
    assert_eq!(audiences, [Audience::Person(bob().id), Audience::Staff], "the asker, and the host's team");
    assert_eq!(play.room.questions(Some(&bob().id), false).len(), 4, "also when they come back");
    assert_eq!(play.room.questions(None, true).len(), 4);
    assert_eq!(play.room.questions(None, false).len(), 3);
    for n in 0..crate::questions::MAX_OPEN {
        let _ = play.question(&writer(&format!("p{n}"), Role::Viewer), asking("hm"));
    }
    assert_eq!(play.room.questions(None, false).len(), crate::questions::MAX_SHOWN);
    let more = play.question(&writer("late", Role::Viewer), asking("hm"));
    assert!(matches!(more, Err(Refused::NotNow(_))));
}

#[test]
fn a_poll_counts_each_person_once_and_closes_by_itself() {
    let mut play = Play::new();
    let open = ShowAsk::PollOpen {
        question: "Which?".into(),
        options: vec!["red".into(), "blue".into()],
        duration_ms: 30_000,
    };
    assert_eq!(play.show(&ann(), open.clone()), Err(Refused::Role(Role::Moderator)));
    let Shown::Poll(poll_id) = play.show(&moderator(), open.clone()).unwrap() else { panic!() };
    assert!(matches!(play.show(&moderator(), open), Err(Refused::NotNow(_))));
    play.told();
    let vote = |option| ShowAsk::PollVote { poll_id: poll_id.clone(), option };
    for (who, option) in [(ann(), 0), (bob(), 1), (ann(), 1), (ann(), 1)] {
        play.show(&who, vote(option)).unwrap();
    }
    assert!(matches!(play.show(&ann(), vote(2)), Err(Refused::Field(_))));
    play.wait(SECOND);
    assert_eq!(play.told()[0].1["votes"], serde_json::json!([0, 2]));
    play.wait(29 * SECOND);
    assert_eq!(play.told()[0].1["poll"]["open"], false);
    assert!(matches!(play.show(&ann(), vote(0)), Err(Refused::NotNow(_))));
    play.show(&moderator(), ShowAsk::PollClose { poll_id: poll_id.clone() }).unwrap();
    assert_eq!(play.told()[0].1["poll"], Value::Null);
}
