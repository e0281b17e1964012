//! Questions to the host.

use haul_model::{ProductId, QuestionId, UnixMillis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked about questions, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum QuestionAsk {
    /// Asks the host something.
    #[serde(rename = "question.ask")]
    Ask {
        /// At most 300 characters.
        text: String,
        /// What it is about.
        product_id: Option<ProductId>,
        /// As with `chat.send`: the same for a retry.
        client_id: Option<String>,
    },
    /// Wants the answer too. Counts once a person.
    #[serde(rename = "question.vote")]
    Vote {
        /// Which question.
        question_id: QuestionId,
    },
    /// This one is being answered now, and shown to all; the one picked before goes back. Host or moderator.
    #[serde(rename = "question.pick")]
    Pick {
        /// Which question.
        question_id: QuestionId,
    },
    /// It is not being answered after all, and waits again; nothing changes where it was not picked. Host or moderator.
    #[serde(rename = "question.unpick")]
    Unpick {
        /// Which question.
        question_id: QuestionId,
    },
    /// It is answered. Host or moderator.
    #[serde(rename = "question.answer")]
    Answer {
        /// Which question.
        question_id: QuestionId,
        /// The answer in writing, if it was not said, at most 300 characters.
        text: Option<String>,
    },
    /// Takes a question away. Host or moderator, or who asked it.
    #[serde(rename = "question.remove")]
    Remove {
        /// Which question.
        question_id: QuestionId,
    },
}

impl QuestionAsk {
    /// The types, as they are written.
    pub const TYPES: &[&str] = &[
        "question.ask",
        "question.vote",
        "question.pick",
        "question.unpick",
        "question.answer",
        "question.remove",
    ];
}

/// What happened to questions, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum QuestionNews {
    /// A question was asked, picked or answered.
    #[serde(rename = "question.changed")]
    Changed {
        /// The question now.
        question: Question,
    },
    /// A question is gone.
    #[serde(rename = "question.removed")]
    Removed {
        /// Which.
        question_id: QuestionId,
    },
    /// More want to know. Several votes are told as one, about once a second; only the latest counts.
    #[serde(rename = "question.votes")]
    Votes {
        /// Which question.
        question_id: QuestionId,
        /// How many want to know.
        votes: u32,
    },
    /// To who asked: your question is being answered, or was.
    #[serde(rename = "question.yours")]
    Yours {
        /// The question now.
        question: Question,
    },
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// Its id.
    pub id: QuestionId,
    /// Who asks.
    pub name: String,
    /// What: text, never markup.
    pub text: String,
    /// What it is about.
    pub product_id: Option<ProductId>,
    /// How many want to know, who asked included.
    pub votes: u32,
    /// Where it stands.
    pub state: QuestionState,
    /// When it was asked.
    pub at: UnixMillis,
    /// When the host took it up, in the broadcast's own time (milliseconds since it began), so that a replay can jump
    /// there; null where there was no picture, or it was not taken up yet.
    pub media_ms: Option<u64>,
    /// The answer in writing.
    pub answer: Option<String>,
}

/// Where a question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuestionState {
    /// It waits.
    Open,
    /// It is being answered.
    Picked,
    /// It is answered.
    Answered,
}
