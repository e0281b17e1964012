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
/// Questions of their own that somebody is shown. Bounds the snapshot.
pub const MAX_YOURS: usize = 4;
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
    /// Only who asked it and the host's team see it.
    hidden: bool,
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

    fn questions_of(&self, who: &BuyerId) -> Vec<Question> {
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
                self.apply(Change::Asked { question, by: who.id.clone(), client_id, hidden }, at.now);
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
                if counts && !asked.voters.contains(&who.id) {
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

    pub(crate) fn asked(&mut self, question: Question, by: BuyerId, client_id: Option<String>, hidden: bool) {
        let voters = HashSet::from([by.clone()]);
        let event = news(QuestionNews::Changed { question: question.clone() });
        self.tell_question(hidden.then(|| by.clone()), &event);
        self.questions.asked.push(Asked {
            votes_told: question.votes,
            question,
            by,
            client_id,
            hidden,
            voters,
        });
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
        // The host's team may take up what nobody else has seen: then it is one as any other.
        asked.hidden &= question.state == QuestionState::Open;
        let hidden_of = asked.hidden.then(|| by.clone());
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
            self.tell_all(&news(QuestionNews::Removed { question_id: gone.question.id }));
        }
    }

    pub(crate) fn unasked(&mut self, id: QuestionId) {
        if let Ok(index) = self.questions.at(&id) {
            let gone = self.questions.asked.remove(index);
            self.tell_question(
                gone.hidden.then_some(gone.by),
                &news(QuestionNews::Removed { question_id: id }),
            );
        }
    }

    pub(crate) fn questions_timeout(&mut self, now: Instant) {
        if self.questions.tell_at.is_none_or(|at| at > now) {
            return;
        }
        self.questions.tell_at = None;
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

fn news(news: QuestionNews) -> Event {
    Event::Question(news)
}
