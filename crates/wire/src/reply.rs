//! What the server answers to a request.

use haul_model::{ContactNeed, GiveawayId, MessageId, PollId, QuestionId, UnixMillis};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    chat::{ChatLine, ChatRules, Moderation, Standing},
    coupon::CouponView,
    crowd::{RoomView, ThreadLine, ThreadMessage},
    view::{HoldView, HostView, LiveView, OrderView, Pin, ProductView, QualityView, SaleView, You},
};

/// A request's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Reply {
    /// To `hello`.
    Hello(Box<Snapshot>),
    /// To `ping`, and to whatever has nothing more to say than that it is done.
    Time {
        /// The server's clock.
        server_time: UnixMillis,
    },
    /// To `chat.send`.
    Chat {
        /// The line's id, as it will appear in `chat.message`.
        message_id: MessageId,
        /// The entry's ticket, where it has entered the giveaway.
        #[serde(skip_serializing_if = "Option::is_none")]
        ticket: Option<String>,
    },
    /// To `chat.rules.set`.
    Rules {
        /// The rules now.
        rules: ChatRules,
    },
    /// To `chat.words`.
    Words {
        /// The list now.
        words: Vec<String>,
    },
    /// To `chat.log`.
    Moderation(Moderation),
    /// To `question.ask`.
    Question {
        /// The question's id.
        question_id: QuestionId,
    },
    /// To `poll.open`.
    Poll {
        /// The poll's id.
        poll_id: PollId,
    },
    /// To `giveaway.start`.
    Giveaway {
        /// The giveaway's id.
        giveaway_id: GiveawayId,
    },
    /// To `giveaway.enter`, and to a `chat.send` that has entered and is not said: it came too soon after others.
    Ticket {
        /// The entry's ticket.
        ticket: String,
    },
    /// To `thread.read`.
    Thread {
        /// The last messages, oldest first.
        messages: Vec<ThreadMessage>,
    },
    /// To `thread.list`.
    Threads {
        /// The threads, newest first.
        threads: Vec<ThreadLine>,
    },
    /// To `quality.set`.
    Quality {
        /// What is sent now. What follows from the wish is told by `quality.changed`.
        quality: QualityView,
    },
    /// To `sale.schedule`, `sale.open`, `sale.close`, `sale.pause`, `sale.resume` and `sale.add_stock`.
    Sale {
        /// The sale now.
        sale: SaleView,
    },
    /// To `coupon.make`, `coupon.close`, `coupon.add_uses` and `coupon.show`.
    Coupon {
        /// The coupon now.
        coupon: CouponView,
    },
    /// To `order.restock`.
    Order {
        /// The order now.
        order: OrderView,
    },
    /// To `hold`, `wait` and `hold.cancel`.
    Hold {
        /// The hold now.
        hold: HoldView,
        /// The server's clock.
        server_time: UnixMillis,
    },
    /// To `checkout`.
    Checkout {
        /// The order now.
        order: OrderView,
        /// The hold now.
        hold: HoldView,
        /// Where the buyer pays.
        pay_url: String,
        /// The server's clock.
        server_time: UnixMillis,
    },
}

/// Everything a newcomer must know. After it, events say what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Snapshot {
    /// The channel's session, as in the server's log.
    pub session: String,
    /// The server's clock when it answered.
    pub server_time: UnixMillis,
    /// The epoch of the events that follow.
    pub epoch: String,
    /// The offset of the last event that is contained in this snapshot.
    pub offset: u64,
    /// How a former position was met; absent where none was given.
    pub resumed: Option<Resumed>,
    /// The reader; absent without a token.
    pub you: Option<You>,
    /// The live.
    pub live: LiveView,
    /// The bag.
    pub products: Vec<ProductView>,
    /// The product being explained.
    pub pin: Option<Pin>,
    /// Sales that are scheduled, open, or closed a short while ago.
    pub sales: Vec<SaleView>,
    /// The coupon that the host shows.
    pub coupon: Option<CouponView>,
    /// What a checkout must say of whom the order goes to.
    pub contact: ContactNeed,
    /// How many watch.
    pub viewers: u64,
    /// The last chat lines, oldest first.
    pub chat: Vec<ChatLine>,
    /// The message that is kept in sight.
    pub chat_pin: Option<ChatLine>,
    /// The rules of the chat.
    pub chat_rules: ChatRules,
    /// What else there is in the room.
    pub room: RoomView,
    /// For host and moderators.
    pub host: Option<HostView>,
}

/// How a former position was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Resumed {
    /// True: exactly the missed events follow, and `chat` is empty. False: too much was missed, the snapshot is all.
    pub recovered: bool,
}

/// A request's failure. Codes are stable; messages are for people and may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// What happened and what to do, in English.
    pub message: String,
    /// When asking again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What exactly was wrong, where one code stands for several things: for clients, which have words of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// What is in force against the person, where that is why: with the reason that the host's team gave, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<Box<Standing>>,
}

impl Failure {
    /// A failure that asking again does not mend.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, why: None, standing: None }
    }

    /// The same, worth asking again after `ms`.
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same, and what exactly was wrong.
    pub fn because(self, why: Why) -> Self {
        Self { why: Some(why), ..self }
    }

    /// The same, and what is in force against the person.
    pub fn under(self, standing: Standing) -> Self {
        Self { standing: Some(Box::new(standing)), ..self }
    }
}

/// What exactly was wrong, where a code stands for several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// `rejected`: somebody else is called so, or is kept free to be.
    NameTaken,
    /// `rejected`: a word of the list is in it.
    Word,
    /// `rejected`: a link is in it.
    Link,
    /// `rejected`: the same was said just before.
    Repeated,
    /// `bad_request`: too many marks stand over one letter.
    Marks,
    /// `muted`: only followers may write.
    Followers,
    /// `muted`: only those who bought here may write.
    Buyers,
    /// `muted`: only the host's team may write.
    Staff,
    /// `coupon_invalid`: there is none of this code here.
    Unknown,
    /// `coupon_invalid`: it is valid later.
    NotYet,
    /// `coupon_invalid`: it was valid before.
    Over,
    /// `coupon_invalid`: it is for another sale.
    OtherSale,
    /// `coupon_invalid`: it is for other products.
    OtherProducts,
    /// `coupon_invalid`: what it is used for costs too little.
    BelowMinimum,
    /// `coupon_invalid`: it takes nothing off this price.
    NothingOff,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not JSON, wrong fields, text too long.
    BadRequest,
    /// A `type` the server does not know.
    UnknownType,
    /// The request needs a token.
    Unauthorized,
    /// The token does not permit it.
    Forbidden,
    /// `contact` of a checkout is no contact, or what the shop needs is missing in it.
    ContactInvalid,
    /// No such product, sale or live.
    NotFound,
    /// Too many of these from one sender.
    RateLimited,
    /// The person may not write here, or not now: muted, or the rules of the chat are for others. `retry_after_ms` says
    /// when they may, where that is known.
    Muted,
    /// The person is banned from this live.
    Banned,
    /// The text has a word of the list, a link where none may be, or was said just before.
    Rejected,
    /// The sale opens later.
    SaleNotOpen,
    /// The sale is paused: the host will go on, or close it.
    SalePaused,
    /// The sale is over.
    SaleClosed,
    /// All units are sold.
    SoldOut,
    /// Fewer units are free than asked for; some may come back.
    NotEnough,
    /// As many are in line as may be, or the sale has no line to wait in.
    NoLine,
    /// The buyer has as many as the sale allows.
    BuyerLimit,
    /// The coupon is unknown, not valid now, or not for this purchase: `message` says why.
    CouponInvalid,
    /// As many use the coupon as may, or the buyer uses it as often as one may.
    CouponUsedUp,
    /// The key was used before for another request.
    KeyReused,
    /// No such hold of this buyer.
    UnknownHold,
    /// The hold is over: its units went back.
    HoldOver,
    /// The step makes no sense now.
    WrongState,
    /// The outcome is not known yet: ask again with the same key, and the answer will be the truth.
    Pending,
    /// Selling is not available for the moment; nothing was done.
    Unavailable,
    /// A defect of the server.
    Internal,
}

/// The reply as it goes on the wire.
pub fn encode_reply(id: u64, reply: &Reply) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        r#type: &'static str,
        id: u64,
        result: &'a Reply,
    }
    encode(&Line { r#type: "reply", id, result: reply })
}

/// The failure as it goes on the wire; without an id where the request had none that could be read.
pub fn encode_failure(id: Option<u64>, failure: &Failure) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        r#type: &'static str,
        id: Option<u64>,
        #[serde(flatten)]
        failure: &'a Failure,
    }
    encode(&Line { r#type: "error", id, failure })
}

pub(crate) fn encode(value: &impl Serialize) -> String {
    // These types have text keys and no floats: serde_json can't fail on them.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_and_failures_name_their_request() {
        assert_eq!(
            encode_reply(4, &Reply::Time { server_time: UnixMillis(5) }),
            r#"{"type":"reply","id":4,"result":{"server_time":"1970-01-01T00:00:00.005Z"}}"#
        );
        assert_eq!(
            encode_failure(Some(4), &Failure::new(Code::RateLimited, "slower").retry_after(900)),
            r#"{"type":"error","id":4,"code":"rate_limited","message":"slower","retry_after_ms":900}"#
        );
        assert_eq!(
            encode_failure(None, &Failure::new(Code::BadRequest, "what?")),
            r#"{"type":"error","id":null,"code":"bad_request","message":"what?"}"#
        );
    }
}
