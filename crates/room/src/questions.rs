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

use crate::{
    Key, Lane,
    change::Change,
    chat::{Refused, clean},
    guard::Writer,
    limiter::{Limiter, Rate},
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
/// Votes for one question that are told apart; more are refused.
pub const MAX_VOTES: usize = 100_000;
/// Questions of one person: a burst, and one more after each of these.
const ASKING: Rate = Rate { burst: 3, every: Duration::from_secs(20) };
/// Votes are told so often.
const TELL_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Asked {
    question: Question,
    by: BuyerId,
    client_id: Option<String>,
    voters: HashSet<BuyerId>,
    votes_told: u32,
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
    pub(crate) fn list(&self) -> Vec<Question> {
        let mut list: Vec<_> = self.asked.iter().map(|asked| asked.question.clone()).collect();
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
    pub fn questions(&self) -> Vec<Question> {
        self.questions.list()
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
                let text = clean(&text)?;
                let open = self
                    .questions
                    .asked
                    .iter()
                    .filter(|asked| asked.question.state != QuestionState::Answered);
                let own = open.clone().filter(|asked| asked.by == who.id).count();
                if own >= MAX_OPEN_A_PERSON {
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
                if hidden {
                    // Who is hidden sees their own question, and nobody else does.
                    self.tell_person(&who.id, &question);
                } else {
                    self.apply(Change::Asked { question, by: who.id.clone(), client_id }, at.now);
                }
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
                if !asked.voters.contains(&who.id) {
                    self.apply(Change::Wanted { id: question_id, by: who.id.clone() }, at.now);
                }
                Ok(None)
            }
            QuestionAsk::Pick { question_id } => {
                who.need(Role::Moderator)?;
                let picked =
                    self.questions.asked.iter().find(|asked| asked.question.state == QuestionState::Picked);
                let back =
                    picked.map(|asked| asked.question.clone()).filter(|question| question.id != question_id);
                let mut question = self.questions.asked[self.questions.at(&question_id)?].question.clone();
                question.state = QuestionState::Picked;
                question.media_ms = media_ms;
                if let Some(back) = back {
                    let back = Question { state: QuestionState::Open, media_ms: None, ..back };
                    self.apply(Change::Question { question: back }, at.now);
                }
                self.apply(Change::Question { question }, at.now);
                Ok(None)
            }
            QuestionAsk::Unpick { question_id } => {
                who.need(Role::Moderator)?;
                let question = &self.questions.asked[self.questions.at(&question_id)?].question;
                if question.state == QuestionState::Picked {
                    let back = Question { state: QuestionState::Open, media_ms: None, ..question.clone() };
                    self.apply(Change::Question { question: back }, at.now);
                }
                Ok(None)
            }
            QuestionAsk::Answer { question_id, text } => {
                who.need(Role::Moderator)?;
                let mut question = self.questions.asked[self.questions.at(&question_id)?].question.clone();
                question.answer = text.map(|text| clean(&text)).transpose()?;
                question.state = QuestionState::Answered;
                question.media_ms = question.media_ms.or(media_ms);
                self.apply(Change::Question { question }, at.now);
                Ok(None)
            }
            QuestionAsk::Remove { question_id } => {
                let index = self.questions.at(&question_id)?;
                if self.questions.asked[index].by != who.id {
                    who.need(Role::Moderator)?;
                }
                self.apply(Change::Unasked { id: question_id }, at.now);
                Ok(None)
            }
        }
    }

    pub(crate) fn asked(&mut self, question: Question, by: BuyerId, client_id: Option<String>) {
        let voters = HashSet::from([by.clone()]);
        self.tell_all(&news(QuestionNews::Changed { question: question.clone() }));
        self.questions.asked.push(Asked { votes_told: question.votes, question, by, client_id, voters });
    }

    pub(crate) fn wanted(&mut self, id: &QuestionId, by: BuyerId, now: Now) {
        let Ok(index) = self.questions.at(id) else { return };
        let asked = &mut self.questions.asked[index];
        asked.voters.insert(by);
        asked.question.votes = asked.voters.len() as u32;
        self.questions.tell_at.get_or_insert(now.instant + TELL_EVERY);
    }

    pub(crate) fn question_changed(&mut self, question: Question) {
        let Ok(index) = self.questions.at(&question.id) else { return };
        let asked = &mut self.questions.asked[index];
        // Votes may have come since the change was decided.
        let question = Question { votes: asked.question.votes, ..question };
        let by = asked.by.clone();
        asked.question = question.clone();
        self.tell_all(&news(QuestionNews::Changed { question: question.clone() }));
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
            self.tell_all(&news(QuestionNews::Removed { question_id: gone.question.id }));
        }
    }

    pub(crate) fn unasked(&mut self, id: QuestionId) {
        if let Ok(index) = self.questions.at(&id) {
            self.questions.asked.remove(index);
            self.tell_all(&news(QuestionNews::Removed { question_id: id }));
        }
    }

    pub(crate) fn questions_timeout(&mut self, now: Instant) {
        if self.questions.tell_at.is_none_or(|at| at > now) {
            return;
        }
        self.questions.tell_at = None;
        let mut told = Vec::new();
        for asked in &mut self.questions.asked {
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

fn news(news: QuestionNews) -> Event {
    Event::Question(news)
}
