//! Chat and its rules: what is asked, told and shown.

use haul_model::{BuyerId, MessageId, Role, UnixMillis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest id that a client gives a message of its own, in bytes.
pub const MAX_CLIENT_ID_BYTES: usize = 64;
/// The longest reason for a measure, in Unicode scalar values.
pub const MAX_REASON_CHARS: usize = 200;
/// Words added or removed by one request.
pub const MAX_WORDS_A_REQUEST: usize = 200;

/// What is asked about chat, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum ChatAsk {
    /// Says something to everybody.
    #[serde(rename = "chat.send")]
    Send {
        /// At most 300 characters.
        text: String,
        /// Chosen by the client, new for every message, the same for a retry, at most 64 bytes: a message with an id
        /// that the sender used before is not said again, and answered as it was then.
        client_id: Option<String>,
        /// The message that it answers.
        reply_to: Option<MessageId>,
    },
    /// Takes a message away: one's own, or anybody's as a moderator.
    #[serde(rename = "chat.delete")]
    Delete {
        /// Which message.
        message_id: MessageId,
    },
    /// Keeps a message in sight above the others. Host or moderator.
    #[serde(rename = "chat.pin")]
    Pin {
        /// Which message.
        message_id: MessageId,
    },
    /// Keeps no message in sight. Host or moderator.
    #[serde(rename = "chat.unpin")]
    Unpin,
    /// Changes the rules of the chat; what is absent stays. Host or moderator.
    #[serde(rename = "chat.rules.set")]
    SetRules {
        /// Everybody but host and moderators waits so long between two messages, in milliseconds, 0 to 10 minutes; 0
        /// turns it off.
        slow_ms: Option<u64>,
        /// Who may write.
        who: Option<Writers>,
        /// Whether messages may have links.
        links: Option<bool>,
        /// Whether somebody may say the same thing twice within a minute.
        repeats: Option<bool>,
    },
    /// Adds words that nobody but host and moderators may write, or takes some from the list; without either, shows
    /// it. Host or moderator.
    #[serde(rename = "chat.words")]
    Words {
        /// Words or phrases, at most 200 at once.
        #[serde(default)]
        add: Vec<String>,
        /// Likewise.
        #[serde(default)]
        remove: Vec<String>,
    },
    /// Keeps somebody from chatting, or lets them again. Host or moderator.
    #[serde(rename = "chat.moderate")]
    Moderate {
        /// What to do.
        action: Measure,
        /// Whom: the sender of this message…
        message_id: Option<MessageId>,
        /// …or this person.
        user_id: Option<BuyerId>,
        /// For how long, in milliseconds; absent: until it is ended.
        duration_ms: Option<u64>,
        /// Why, at most 200 characters; for the log, and for the person, but not where they must not know.
        reason: Option<String>,
    },
    /// Who did what to whom, and what is in force. Host or moderator.
    #[serde(rename = "chat.log")]
    Log,
}

impl ChatAsk {
    /// The types, as they are written.
    pub const TYPES: &[&str] = &[
        "chat.send",
        "chat.delete",
        "chat.pin",
        "chat.unpin",
        "chat.rules.set",
        "chat.words",
        "chat.moderate",
        "chat.log",
    ];
}

/// What happened in the chat, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum ChatNews {
    /// Somebody said something.
    #[serde(rename = "chat.message")]
    Message(ChatLine),
    /// Messages are gone: take them away.
    #[serde(rename = "chat.deleted")]
    Deleted {
        /// Which.
        message_ids: Vec<MessageId>,
    },
    /// A message is kept in sight, or none.
    #[serde(rename = "chat.pinned")]
    Pinned {
        /// The message.
        message: Option<ChatLine>,
    },
    /// Other rules.
    #[serde(rename = "chat.rules")]
    Rules {
        /// The rules now.
        rules: ChatRules,
    },
    /// To one person: they may not write for some time, or may again. Who is shadow-banned is not told.
    #[serde(rename = "chat.standing")]
    Standing {
        /// What is in force; null where nothing is.
        standing: Option<Standing>,
    },
    /// To host and moderators: somebody has done something to somebody.
    #[serde(rename = "chat.measure")]
    Measure {
        /// What.
        entry: LogEntry,
    },
    /// To one person: messages of theirs that were accepted are not shown to all, because the room is too loud; or to
    /// all, of a sender's: one of several was chosen.
    #[serde(rename = "chat.sampled")]
    Sampled {
        /// How many of theirs since the last such word.
        messages: u32,
    },
}

/// A chat line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatLine {
    /// Its id. Ids made later sort later.
    pub id: MessageId,
    /// Who said it.
    pub name: String,
    /// What they are here.
    pub role: Role,
    /// What else they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub badges: Vec<Badge>,
    /// Their standing with the shop, as their token says, for instance `gold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What they said: text, never markup.
    pub text: String,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Quote>,
    /// When.
    pub at: UnixMillis,
}

/// A message that another answers, so far as to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quote {
    /// Its id.
    pub id: MessageId,
    /// Who said it.
    pub name: String,
    /// How it began.
    pub text: String,
}

/// What a writer is beside their role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Badge {
    /// Follows the shop.
    Follower,
    /// Has bought.
    VerifiedBuyer,
    /// Has bought more than once.
    RepeatBuyer,
}

/// Who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Writers {
    /// Everybody with a name.
    #[default]
    Everyone,
    /// Who follows the shop, says their token.
    Followers,
    /// Who has bought.
    Buyers,
    /// Host and moderators.
    Staff,
}

/// The rules of a chat. Host and moderators are above them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatRules {
    /// The pause between two messages of one person, in milliseconds; 0 is none but the server's own limit.
    pub slow_ms: u64,
    /// Who may write.
    pub who: Writers,
    /// Whether messages may have links.
    pub links: bool,
    /// Whether somebody may say the same thing twice within a minute.
    pub repeats: bool,
}

impl Default for ChatRules {
    fn default() -> Self {
        Self { slow_ms: 0, who: Writers::Everyone, links: true, repeats: true }
    }
}

/// What is done to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// They may read and not write.
    Mute,
    /// They may not be here: their connections end, and they can't come back.
    Ban,
    /// Only they and the host's team see what they write; they are not told.
    ShadowBan,
    /// All that is lifted.
    Restore,
}

/// What is in force against somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Standing {
    /// What.
    pub measure: Measure,
    /// Until when; absent: until it is lifted.
    pub until: Option<UnixMillis>,
    /// Why, if somebody said.
    pub reason: Option<String>,
}

/// An entry of the moderation log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogEntry {
    /// When.
    pub at: UnixMillis,
    /// Who did it.
    pub by: BuyerId,
    /// By what name.
    pub by_name: String,
    /// What: a measure, `delete`, `rules` or `words`.
    pub action: LogAction,
    /// To whom.
    pub user_id: Option<BuyerId>,
    /// By what name.
    pub user_name: Option<String>,
    /// Until when.
    pub until: Option<UnixMillis>,
    /// Why.
    pub reason: Option<String>,
    /// The message that was taken away or spoke against them.
    pub text: Option<String>,
}

/// What can be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogAction {
    /// Somebody may not write.
    Mute,
    /// Somebody may not be here.
    Ban,
    /// Somebody is seen by nobody.
    ShadowBan,
    /// A measure was lifted.
    Restore,
    /// A message was taken away.
    Delete,
    /// The rules were changed.
    Rules,
    /// The list of words was changed.
    Words,
}

impl From<Measure> for LogAction {
    fn from(measure: Measure) -> Self {
        match measure {
            Measure::Mute => Self::Mute,
            Measure::Ban => Self::Ban,
            Measure::ShadowBan => Self::ShadowBan,
            Measure::Restore => Self::Restore,
        }
    }
}

/// The moderation log and what is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Moderation {
    /// The last entries, newest first.
    pub log: Vec<LogEntry>,
    /// What is in force, and against whom.
    pub standing: Vec<Restricted>,
}

/// Somebody against whom something is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Restricted {
    /// Who.
    pub user_id: BuyerId,
    /// By what name.
    pub name: String,
    /// What.
    #[serde(flatten)]
    pub standing: Standing,
    /// The role of who imposed it: it holds against lower roles only.
    #[serde(default = "moderator")]
    pub by_role: Role,
}

/// What is not said was imposed by somebody of whom no more is known than that they could.
fn moderator() -> Role {
    Role::Moderator
}
