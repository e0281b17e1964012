//! What changes in a room.
//!
//! A request is decided once, where it was made, and becomes a change; a change does the same to every copy of the room.

use haul_model::{BuyerId, GiveawayId, MessageId, PollId, QuestionId, UnixMillis};
use haul_wire::{
    ChatLine, ChatRules, LogEntry, Pin, Restricted,
    crowd::ThreadMessage,
    questions::Question,
    show::{Announcement, Giveaway, Poll, Winner},
};
use serde::{Deserialize, Serialize};

/// A change of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A chat line.
    Said {
        /// The line.
        line: ChatLine,
        /// Who said it.
        by: BuyerId,
        /// Only its sender and the host's team see it.
        hidden: bool,
        /// The id that the sender's client gave it.
        client_id: Option<String>,
        /// Whom it quotes.
        #[serde(default)]
        quoted: Option<BuyerId>,
    },
    /// Lines are gone.
    Deleted {
        /// Which.
        ids: Vec<MessageId>,
        /// What the log says of it; nothing where somebody took back their own.
        entry: Option<LogEntry>,
    },
    /// A line is kept in sight, or none.
    ChatPinned {
        /// The line.
        line: Option<ChatLine>,
        /// Who said it.
        #[serde(default)]
        by: Option<BuyerId>,
        /// Whom it quotes.
        #[serde(default)]
        quoted: Option<BuyerId>,
    },
    /// Other rules.
    Rules {
        /// All of them.
        rules: ChatRules,
        /// What the log says of it.
        entry: LogEntry,
    },
    /// Another list of words.
    Words {
        /// Added.
        add: Vec<String>,
        /// Removed.
        remove: Vec<String>,
        /// What the log says of it.
        entry: LogEntry,
    },
    /// A question.
    Asked {
        /// As it is.
        question: Question,
        /// Who asks.
        by: BuyerId,
        /// The id that the asker's client gave it.
        client_id: Option<String>,
        /// Only the asker and the host's team see it.
        #[serde(default)]
        hidden: bool,
    },
    /// Somebody wants the answer too.
    Wanted {
        /// To which question.
        id: QuestionId,
        /// Who.
        by: BuyerId,
    },
    /// A question stands elsewhere.
    Question {
        /// As it is now.
        question: Question,
    },
    /// A question is gone.
    Unasked {
        /// Which.
        id: QuestionId,
    },
    /// Another sentence is shown.
    Announced {
        /// It.
        announcement: Option<Announcement>,
    },
    /// Another poll, or the same in another state.
    Poll {
        /// It.
        poll: Option<Poll>,
    },
    /// A vote.
    Voted {
        /// In which poll.
        id: PollId,
        /// Whose.
        by: BuyerId,
        /// For what.
        option: u8,
    },
    /// A giveaway.
    GiveawayStarted {
        /// As everybody sees it.
        giveaway: Giveaway,
        /// What decides it.
        seed: String,
        /// How long winners have.
        claim_ms: u64,
    },
    /// An entry.
    Entered {
        /// In which giveaway.
        id: GiveawayId,
        /// Whose.
        by: BuyerId,
        /// By what name.
        name: String,
    },
    /// The draw.
    Drawn {
        /// Of which giveaway.
        id: GiveawayId,
        /// When.
        at: UnixMillis,
        /// Who had entered by then.
        entries: u32,
        /// Who has won.
        winners: Vec<Winner>,
    },
    /// A winner has claimed.
    Claimed {
        /// In which giveaway.
        id: GiveawayId,
        /// Who.
        by: BuyerId,
    },
    /// A giveaway is out of sight.
    GiveawayEnded {
        /// Which.
        id: GiveawayId,
    },
    /// A private message.
    Wrote {
        /// In whose thread.
        of: BuyerId,
        /// By what name.
        name: String,
        /// Who wrote it.
        by: BuyerId,
        /// The id that the writer's client gave it.
        client_id: Option<String>,
        /// It.
        message: ThreadMessage,
    },
    /// Likes in all.
    Liked {
        /// How many.
        total: u64,
    },
    /// More watch than ever before.
    Peaked {
        /// How many.
        viewers: u64,
    },
    /// Another product is explained, or none.
    Pinned {
        /// Which.
        pin: Option<Pin>,
    },
    /// Somebody is forgotten, and all that they said and asked.
    Forgotten {
        /// Who.
        who: BuyerId,
        /// What they said.
        messages: Vec<MessageId>,
        /// What they asked.
        questions: Vec<QuestionId>,
    },
    /// A measure against somebody, or the end of one.
    Measure {
        /// Against whom, and what.
        restricted: Restricted,
        /// What the log says of it.
        entry: LogEntry,
    },
}

impl Change {
    /// Whether notes tell a next start of it: such a change need not be told again.
    pub(crate) fn is_noted(&self) -> bool {
        match self {
            Change::Rules { .. }
            | Change::Words { .. }
            | Change::GiveawayStarted { .. }
            | Change::Drawn { .. }
            | Change::Claimed { .. }
            | Change::GiveawayEnded { .. }
            | Change::Wrote { .. } => true,
            Change::Said { .. }
            | Change::Deleted { .. }
            | Change::ChatPinned { .. }
            | Change::Asked { .. }
            | Change::Wanted { .. }
            | Change::Question { .. }
            | Change::Unasked { .. }
            | Change::Announced { .. }
            | Change::Poll { .. }
            | Change::Voted { .. }
            // Noted now and then only.
            | Change::Entered { .. }
            | Change::Liked { .. }
            | Change::Peaked { .. }
            // Of what is left to heirs, it says what is to be left out.
            | Change::Forgotten { .. }
            // What a ban takes away is in no note.
            | Change::Measure { .. }
            | Change::Pinned { .. } => false,
        }
    }
}

/// Something to be kept for the next start, in a few words by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its name, unique in the live.
    pub name: String,
    /// JSON; nothing where the note is to be forgotten.
    pub text: Option<String>,
}
