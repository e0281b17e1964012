//! Questions to the host: asked, wanted by others, taken up, answered.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use haul_model::{BuyerId, Now, QuestionId, Role};
use haul_wire::{
    Event,
    questions::{Question, QuestionAsk, QuestionNews, QuestionState},
};

use serde::{Deserialize, Serialize};

use crate::{
    Key, Lane,
    change::Change,
    chat::{Refused, clean},
    guard::Writer,
    limiter::{Limiter, Rate},
    marks::{self, Mark},
    room::{At, Audience, Effect, Room},
};

/// Questions that wait; another is refused.
pub const MAX_OPEN: usize = 200;
/// Questions of one person that wait; another is refused.
pub const MAX_OPEN_A_PERSON: usize = 3;
/// Answered questions that are shown; older ones go.
pub const MAX_ANSWERED: usize = 30;
/// Questions that a newcomer is shown: those that wait, then the answered.
pub const MAX_SHOWN: usize = 40;
/// Questions of their own that somebody is shown. Bounds the snapshot.
pub const MAX_YOURS: usize = 4;
/// Votes for one question that are told apart; more are refused.
pub const MAX_VOTES: usize = 100_000;
/// Questions of one person: a burst, and one more after each of these.
const ASKING: Rate = Rate { burst: 3, every: Duration::from_secs(20) };
/// Votes are told, and kept for the next start, so often.
const TELL_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Asked {
    question: Question,
    by: BuyerId,
    client_id: Option<String>,
    /// Only who asked it and the host's team see it.
    hidden: bool,
    voters: HashSet<Mark>,
    votes_told: u32,
    /// As many as the next start would know of.
    votes_kept: u32,
}

/// A question as it is kept for the next start, under a name that ends with who asked it.
#[derive(Serialize, Deserialize)]
struct Kept {
    question: Question,
    client_id: Option<String>,
    hidden: bool,
    /// 18 bytes each: at [`MAX_VOTES`] 1.8 MB a second, for as long as people go on to vote.
    voters: String,
}

#[derive(Debug)]
pub(crate) struct Questions {
    /// Oldest first, the answered ones among them.
    asked: Vec<Asked>,
    asking: Limiter<BuyerId>,
    tell_at: Option<Instant>,
}

impl Default for Questions {
    fn default() -> Self {
        Self { asked: Vec::new(), asking: Limiter::new(ASKING), tell_at: None }
    }
}

impl Questions {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.tell_at
    }

    /// Those that wait, the most wanted first, then the answered, newest first.
    pub(crate) fn list(&self, reader: Option<&BuyerId>, staff: bool) -> Vec<Question> {
        let seen = self.asked.iter().filter(|asked| !asked.hidden || staff || reader == Some(&asked.by));
        let mut list: Vec<_> = seen.map(|asked| asked.question.clone()).collect();
        list.sort_by(|a, b| {
            let rank = |question: &Question| match question.state {
                QuestionState::Picked => 0,
                QuestionState::Open => 1,
                QuestionState::Answered => 2,
            };
            let by_state = rank(a).cmp(&rank(b));
            by_state.then(match a.state {
                QuestionState::Answered => b.at.cmp(&a.at),
                _ => b.votes.cmp(&a.votes).then(a.at.cmp(&b.at)),
            })
        });
        list.truncate(MAX_SHOWN);
        list
    }

    fn at(&self, id: &QuestionId) -> Result<usize, Refused> {
        self.asked.iter().position(|asked| asked.question.id == *id).ok_or(Refused::NoSuch("question_id"))
    }
}

impl Room {
    /// The questions as a newcomer sees them.
    pub fn questions(&self, reader: Option<&BuyerId>, staff: bool) -> Vec<Question> {
        self.questions.list(reader, staff)
    }

    /// What somebody has asked lately, [`MAX_YOURS`] at most, and where it stands, oldest first.
    pub fn yours(&self, who: &BuyerId) -> Vec<Question> {
        let mut yours = self.questions_of(who);
        yours.drain(..yours.len().saturating_sub(MAX_YOURS));
        yours
    }

    pub(crate) fn questions_of(&self, who: &BuyerId) -> Vec<Question> {
        let theirs = self.questions.asked.iter().filter(|asked| asked.by == *who);
        theirs.map(|asked| asked.question.clone()).collect()
    }

    /// Takes away all that somebody has asked and that is not answered.
    pub(crate) fn unask_all(&mut self, who: &BuyerId) {
        let theirs = self.questions_of(who).into_iter();
        for question in theirs.filter(|question| question.state != QuestionState::Answered) {
            self.unasked(question.id);
        }
    }

    /// Tells of a question those who see it.
    fn tell_question(&mut self, hidden_of: Option<BuyerId>, event: &Event) {
        match hidden_of {
            None => self.tell_all(event),
            Some(by) => {
                let (own, line) = (self.order.line_here(event), self.order.line(event));
                self.tell(Audience::Person(by), Lane::Room, own);
                self.tell(Audience::Staff, Lane::Room, line);
            }
        }
    }

    /// Does what somebody asks about questions; the question's id, where one was asked.
    pub fn ask_question(
        &mut self,
        who: &Writer,
        ask: QuestionAsk,
        at: At,
        media_ms: Option<u64>,
    ) -> Result<Option<QuestionId>, Refused> {
        match ask {
            QuestionAsk::Ask { text, product_id, client_id } => {
                let known =
                    self.questions.asked.iter().find(|asked| {
                        client_id.is_some() && asked.by == who.id && asked.client_id == client_id
                    });
                if let Some(known) = known {
                    return Ok(Some(known.question.id.clone()));
                }
                let waits = self.intents.again(|change| match change {
                    Change::Asked { question, by, client_id: sent, .. } => {
                        (client_id.is_some() && *by == who.id && *sent == client_id)
                            .then(|| question.id.clone())
                    }
                    _ => None,
                });
                if let Some(id) = waits {
                    return Ok(Some(id));
                }
                let text = clean(&text)?;
                let unwritten = self.intents.pending().filter_map(|change| match change {
                    Change::Asked { by, .. } => Some(by),
                    _ => None,
                });
                let open = self.questions.asked.iter();
                let open = open.filter(|asked| asked.question.state != QuestionState::Answered);
                let open = open.map(|asked| &asked.by).chain(unwritten);
                if open.clone().filter(|by| **by == who.id).count() >= MAX_OPEN_A_PERSON {
                    return Err(Refused::NotNow("three questions of yours wait already"));
                }
                if open.count() >= MAX_OPEN {
                    return Err(Refused::NotNow("too many questions wait already"));
                }
                let hidden = self.guard.may_ask(who, &text, at.now)?;
                if !who.is_staff() {
                    self.questions
                        .asking
                        .take(who.id.clone(), at.now.instant)
                        .map_err(|retry_after| Refused::TooFast { retry_after })?;
                }
                let question = Question {
                    id: QuestionId::generate("q_", at.now.wall, at.random),
                    name: who.name.clone(),
                    text,
                    product_id,
                    votes: 1,
                    state: QuestionState::Open,
                    at: at.now.wall,
                    media_ms: None,
                    answer: None,
                };
                let id = question.id.clone();
                self.propose(Change::Asked { question, by: who.id.clone(), client_id, hidden }, at.now)?;
                Ok(Some(id))
            }
            QuestionAsk::Vote { question_id } => {
                let index = self.questions.at(&question_id)?;
                let asked = &self.questions.asked[index];
                if asked.question.state == QuestionState::Answered {
                    return Err(Refused::NotNow("it is answered"));
                }
                if asked.voters.len() >= MAX_VOTES {
                    return Err(Refused::NotNow("enough want to know"));
                }
                let counts = self.guard.may_be_seen(who, at.now.wall)?;
                if counts && !asked.voters.contains(&Mark::new(question_id.as_str(), &who.id)) {
                    self.apply(Change::Wanted { id: question_id, by: who.id.clone() }, at.now);
                }
                Ok(None)
            }
            QuestionAsk::Pick { question_id } => {
                who.need(Role::Moderator)?;
                let (question, waits) = self.decided(&question_id)?;
                if !waits || question.state != QuestionState::Picked {
                    let question = Question { state: QuestionState::Picked, media_ms, ..question };
                    self.propose(Change::Question { question }, at.now)?;
                }
                Ok(None)
            }
            QuestionAsk::Unpick { question_id } => {
                who.need(Role::Moderator)?;
                let (question, _) = self.decided(&question_id)?;
                if question.state == QuestionState::Picked {
                    let question = Question { state: QuestionState::Open, media_ms: None, ..question };
                    self.propose(Change::Question { question }, at.now)?;
                }
                Ok(None)
            }
            QuestionAsk::Answer { question_id, text } => {
                who.need(Role::Moderator)?;
                let answer = text.map(|text| clean(&text)).transpose()?;
                let (question, waits) = self.decided(&question_id)?;
                if !waits || question.state != QuestionState::Answered || question.answer != answer {
                    let media_ms = question.media_ms.or(media_ms);
                    let question = Question { answer, state: QuestionState::Answered, media_ms, ..question };
                    self.propose(Change::Question { question }, at.now)?;
                }
                Ok(None)
            }
            QuestionAsk::Remove { question_id } => {
                let index = self.questions.at(&question_id)?;
                if self.questions.asked[index].by != who.id {
                    who.need(Role::Moderator)?;
                }
                let same = |change: &Change| {
                    matches!(change, Change::Unasked { id } if *id == question_id).then_some(())
                };
                if self.intents.again(same).is_none() {
                    self.propose(Change::Unasked { id: question_id }, at.now)?;
                }
                Ok(None)
            }
        }
    }

    /// A question as it will be when all that was decided of it is written down, and whether something of that waits: then the
    /// request waits for it, too.
    fn decided(&mut self, id: &QuestionId) -> Result<(Question, bool), Refused> {
        let waits = self.intents.again(|change| match change {
            Change::Question { question } if question.id == *id => Some(question.clone()),
            _ => None,
        });
        match waits {
            Some(question) => Ok((question, true)),
            None => Ok((self.questions.asked[self.questions.at(id)?].question.clone(), false)),
        }
    }

    /// Who has asked it.
    pub(crate) fn asker(&self, id: &QuestionId) -> Option<&BuyerId> {
        self.questions.at(id).ok().map(|index| &self.questions.asked[index].by)
    }

    pub(crate) fn knows_question(&self, id: &QuestionId) -> bool {
        self.questions.at(id).is_ok()
    }

    fn keep_question(&mut self, index: usize) {
        let asked = &mut self.questions.asked[index];
        asked.votes_kept = asked.question.votes;
        let kept = Kept {
            question: asked.question.clone(),
            client_id: asked.client_id.clone(),
            hidden: asked.hidden,
            voters: marks::written(asked.voters.iter().map(|mark| (*mark, 0))),
        };
        let name = note_of(&asked.question.id, &asked.by);
        self.keep(name, &kept);
    }

    /// Takes up a question of an earlier room. What can't be read is forgotten, and what is known here to be gone.
    pub(crate) fn restore_question(&mut self, name: String, text: &str) {
        let kept = serde_json::from_str::<Kept>(text);
        let is_known = kept.as_ref().is_ok_and(|kept| self.knows_question(&kept.question.id));
        if self.inherited || is_known {
            if !is_known {
                self.forget(name);
            }
            return;
        }
        let by = name.rsplit_once('/').and_then(|(_, by)| by.parse().ok());
        let (Some(by), Ok(kept), true) = (by, kept, self.questions.asked.len() < MAX_OPEN + MAX_ANSWERED)
        else {
            return self.forget(name);
        };
        let Kept { question, client_id, hidden, voters } = kept;
        let votes = question.votes;
        let voters = marks::read(&voters).map(|(mark, _)| mark).collect();
        let asked = Asked { question, by, client_id, hidden, voters, votes_told: votes, votes_kept: votes };
        self.questions.asked.push(asked);
    }

    pub(crate) fn asked(&mut self, question: Question, by: BuyerId, client_id: Option<String>, hidden: bool) {
        let voters = HashSet::from([Mark::new(question.id.as_str(), &by)]);
        let event = news(QuestionNews::Changed { question: question.clone() });
        self.tell_question(hidden.then(|| by.clone()), &event);
        self.questions.asked.push(Asked {
            votes_told: question.votes,
            votes_kept: question.votes,
            question,
            by,
            client_id,
            hidden,
            voters,
        });
        self.keep_question(self.questions.asked.len() - 1);
    }

    pub(crate) fn wanted(&mut self, id: &QuestionId, by: BuyerId, now: Now) {
        let Ok(index) = self.questions.at(id) else { return };
        let asked = &mut self.questions.asked[index];
        asked.voters.insert(Mark::new(id.as_str(), &by));
        asked.question.votes = asked.voters.len() as u32;
        self.questions.tell_at.get_or_insert(now.instant + TELL_EVERY);
    }

    pub(crate) fn question_changed(&mut self, question: Question) {
        if !self.knows_question(&question.id) {
            return;
        }
        if question.state == QuestionState::Picked {
            // One is answered at a time: another goes back.
            let others = self.questions.asked.iter().map(|asked| &asked.question);
            let picked =
                others.filter(|other| other.state == QuestionState::Picked && other.id != question.id);
            let back =
                picked.map(|back| Question { state: QuestionState::Open, media_ms: None, ..back.clone() });
            for back in back.collect::<Vec<_>>() {
                self.question_changed(back);
            }
        }
        let Ok(index) = self.questions.at(&question.id) else { return };
        let asked = &mut self.questions.asked[index];
        // Votes may have come since the change was decided.
        let question = Question { votes: asked.question.votes, ..question };
        let by = asked.by.clone();
        asked.question = question.clone();
        // The host's team may take up what nobody else has seen: then it is one as any other.
        asked.hidden &= question.state == QuestionState::Open;
        let hidden_of = asked.hidden.then(|| by.clone());
        self.keep_question(index);
        self.tell_question(hidden_of, &news(QuestionNews::Changed { question: question.clone() }));
        if question.state != QuestionState::Open {
            self.tell_person(&by, &question);
        }
        let answered = self
            .questions
            .asked
            .iter()
            .filter(|asked| asked.question.state == QuestionState::Answered)
            .count();
        if answered > MAX_ANSWERED
            && let Some(oldest) =
                self.questions.asked.iter().position(|asked| asked.question.state == QuestionState::Answered)
        {
            let gone = self.questions.asked.remove(oldest);
            self.forget(note_of(&gone.question.id, &gone.by));
            self.unsay_question(&gone.question.id);
            self.tell_all(&news(QuestionNews::Removed { question_id: gone.question.id }));
        }
    }

    pub(crate) fn unasked(&mut self, id: QuestionId) {
        self.unsay_question(&id);
        if let Ok(index) = self.questions.at(&id) {
            let gone = self.questions.asked.remove(index);
            self.forget(note_of(&id, &gone.by));
            self.tell_question(
                gone.hidden.then_some(gone.by),
                &news(QuestionNews::Removed { question_id: id }),
            );
        }
    }

    /// Who comes back is not told any more what it was.
    fn unsay_question(&mut self, id: &QuestionId) {
        self.order.amend(id.as_str(), |said| {
            let is_theirs = said["type"] == "question.changed" && said["question"]["id"] == id.as_str();
            if is_theirs && let Some(said) = said.as_object_mut() {
                said.remove("question");
                said.insert("type".to_owned(), "question.removed".into());
                said.insert("question_id".to_owned(), id.as_str().into());
            }
        });
    }

    pub(crate) fn keep_question_votes(&mut self) {
        for index in 0..self.questions.asked.len() {
            let asked = &self.questions.asked[index];
            if asked.votes_kept != asked.question.votes {
                self.keep_question(index);
            }
        }
    }

    pub(crate) fn questions_timeout(&mut self, now: Instant) {
        if self.questions.tell_at.is_none_or(|at| at > now) {
            return;
        }
        self.questions.tell_at = None;
        self.keep_question_votes();
        let mut told = Vec::new();
        for asked in self.questions.asked.iter_mut().filter(|asked| !asked.hidden) {
            if asked.votes_told != asked.question.votes {
                asked.votes_told = asked.question.votes;
                told.push((asked.question.id.clone(), asked.question.votes));
            }
        }
        for (question_id, votes) in told {
            let key = Some(Key::Question(question_id.clone()));
            let line = self.order.line(&news(QuestionNews::Votes { question_id, votes }));
            self.effects.push_back(Effect::Tell { to: Audience::All, lane: Lane::Ambient, key, line });
        }
    }

    fn tell_person(&mut self, who: &BuyerId, question: &Question) {
        let line = self.order.line(&news(QuestionNews::Yours { question: question.clone() }));
        self.tell(Audience::Person(who.clone()), Lane::Room, line);
    }
}

/// It ends with who asked, so that it is found where somebody is to be forgotten.
fn note_of(id: &QuestionId, by: &BuyerId) -> String {
    format!("question/{id}/{by}")
}

fn news(news: QuestionNews) -> Event {
    Event::Question(news)
}
