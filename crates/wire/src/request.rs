//! What a client asks.

use haul_model::{
    Charge, Contact, HoldId, Locale, OrderId, ProductId, SaleId, SessionId, TierId, UnixMillis, VariantId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    MAX_REQUEST_BYTES,
    chat::ChatAsk,
    coupon::CouponAsk,
    crowd::CrowdAsk,
    questions::QuestionAsk,
    show::ShowAsk,
    text,
    view::{LineUnits, SaleMode},
};

/// A client's request, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Request {
    /// First of all: who is there, and where a former connection ended.
    #[serde(rename = "hello")]
    Hello {
        /// The viewer's token; absent for a look at a public live.
        token: Option<String>,
        /// The position of a former connection.
        resume: Option<Position>,
        /// The language in which products are to be told: a tag after BCP 47, such as `de-AT`. Products that have no
        /// texts in it, nor in one close to it, come in their own; so do all where it is absent.
        locale: Option<Locale>,
        /// Whose link was followed here: a creator's code, or a signed `ref`.
        #[serde(rename = "ref")]
        referrer: Option<String>,
    },
    /// Measures the connection and the server's clock.
    #[serde(rename = "ping")]
    Ping,
    /// About chat. Read by [`parse`] and not by this type's own tag: each subject has its types in a module.
    #[serde(skip)]
    Chat(ChatAsk),
    /// About questions to the host.
    #[serde(skip)]
    Question(QuestionAsk),
    /// About announcements, polls and giveaways.
    #[serde(skip)]
    Show(ShowAsk),
    /// About likes and private threads.
    #[serde(skip)]
    Crowd(CrowdAsk),
    /// About coupons.
    #[serde(skip)]
    Coupon(CouponAsk),
    /// Shows a product beside the picture. Host or moderator.
    #[serde(rename = "pin")]
    Pin {
        /// Which product of the bag.
        product_id: ProductId,
    },
    /// Shows no product. Host or moderator.
    #[serde(rename = "unpin")]
    Unpin,
    /// Opens a sale, now or later. Host.
    #[serde(rename = "sale.schedule")]
    SaleSchedule(SaleSchedule),
    /// Opens a scheduled sale now. Host.
    #[serde(rename = "sale.open")]
    SaleOpen {
        /// Which sale.
        sale_id: SaleId,
    },
    /// Closes a sale now; holds taken before may still be paid. Host.
    #[serde(rename = "sale.close")]
    SaleClose {
        /// Which sale.
        sale_id: SaleId,
    },
    /// Changes when a sale opens, while it has not opened, and when it closes, while it has not closed. Host.
    #[serde(rename = "sale.reschedule")]
    SaleReschedule {
        /// Which sale.
        sale_id: SaleId,
        /// When it opens, by the server's clock; as before where absent.
        opens_at: Option<UnixMillis>,
        /// When it closes; where absent, it is open for as long as before.
        closes_at: Option<UnixMillis>,
    },
    /// Lets nothing new be held for the moment; holds taken before may still be paid. Host.
    #[serde(rename = "sale.pause")]
    SalePause {
        /// Which sale.
        sale_id: SaleId,
    },
    /// Goes on with a paused sale. Host.
    #[serde(rename = "sale.resume")]
    SaleResume {
        /// Which sale.
        sale_id: SaleId,
    },
    /// Offers more units. Host.
    #[serde(rename = "sale.add_stock")]
    SaleAddStock {
        /// Which sale.
        sale_id: SaleId,
        /// Of which line; 0 where absent.
        #[serde(default)]
        line: u8,
        /// How many more.
        units: u32,
        /// Chosen by the client, the same for a retry: at most 64 bytes.
        key: String,
    },
    /// Puts units of a sold order on the shelf again: they can be bought by others. Money is another matter. Host.
    #[serde(rename = "order.restock")]
    OrderRestock {
        /// Which order.
        order_id: OrderId,
        /// Which of its units; all that have not come back where absent.
        #[serde(default)]
        lines: Vec<LineUnits>,
        /// Chosen by the client, the same for a retry: at most 64 bytes.
        key: String,
    },
    /// Asks for a layer of the pictures, for a media session of one's own. From then on this connection hears of that
    /// session's quality.
    #[serde(rename = "quality.set")]
    QualitySet {
        /// The session: the last part of its `Location`.
        session: SessionId,
        /// The layer's name, or `auto` for whatever suits the network.
        layer: String,
    },
    /// Sets units aside.
    #[serde(rename = "hold")]
    Hold {
        /// Of which sale.
        sale_id: SaleId,
        /// Units of line 0; 1 where neither this nor `lines` is there.
        quantity: Option<u32>,
        /// Units by line, instead of `quantity`: all of them are set aside, or none.
        #[serde(default)]
        lines: Vec<LineUnits>,
        /// Chosen by the client, new for every attempt to buy, the same for a retry: at most 64 bytes.
        key: String,
        /// The code of a coupon, a use of which is set aside too, or nothing is. In a sale that is drawn, it comes with the checkout.
        coupon: Option<String>,
    },
    /// Sets units aside, or waits in line for them where they are set aside for others.
    #[serde(rename = "wait")]
    Wait {
        /// Of which sale.
        sale_id: SaleId,
        /// Of which line; 0 where absent.
        #[serde(default)]
        line: u8,
        /// Units; 1 where absent.
        #[serde(default = "one")]
        quantity: u32,
        /// As with `hold`: the same key is the same place in line.
        key: String,
    },
    /// Gives a hold up, or a place in line.
    #[serde(rename = "hold.cancel")]
    HoldCancel {
        /// Of which sale.
        sale_id: SaleId,
        /// Which hold.
        hold_id: HoldId,
    },
    /// Says that a product was tapped. Counted for the product, and for whose `ref` it was under; answered with the time.
    #[serde(rename = "click")]
    Click {
        /// Which product.
        product_id: ProductId,
        /// Whose `ref` it was under; that of `hello` where absent.
        #[serde(rename = "ref")]
        referrer: Option<String>,
    },
    /// Goes to pay for a hold.
    #[serde(rename = "checkout")]
    Checkout {
        /// Of which sale.
        sale_id: SaleId,
        /// Which hold.
        hold_id: HoldId,
        /// The code of a coupon, where the hold has none: with its first checkout only.
        coupon: Option<String>,
        /// Whose doing this order is: a creator's code, or a signed `ref`. It goes before all clicks and joins.
        #[serde(rename = "ref")]
        referrer: Option<String>,
        /// Whom the order goes to, and where: what `live.contact` says is needed, and more if the buyer likes. Kept with
        /// the order; a later checkout of the same hold replaces it until it is paid.
        contact: Option<Box<Contact>>,
        /// What of the total is shipping and tax. Not the buyer's to say, and so never read here: a backend says it over REST.
        #[serde(skip)]
        charges: Vec<Charge>,
    },
}

fn one() -> u32 {
    1
}

/// A sale to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SaleSchedule {
    /// Which product of the bag.
    pub product_id: ProductId,
    /// Which form of it, where there are several.
    pub variant_id: Option<VariantId>,
    /// Price of a unit, in the minor unit of the product's currency.
    pub price_minor: i64,
    /// Units.
    pub stock: u32,
    /// Units a buyer may have; 1 where absent.
    #[serde(default = "one")]
    pub per_buyer: u32,
    /// When it opens, by the server's clock; now where absent.
    pub opens_at: Option<UnixMillis>,
    /// How long it stays open, in milliseconds.
    pub duration_ms: u64,
    /// How long a hold lasts, in milliseconds; the server's default where absent.
    pub hold_ms: Option<u64>,
    /// Lets people wait in line for units that are set aside for others; what comes back is offered to the next of them for
    /// so many milliseconds. Nobody may wait where absent.
    pub offer_ms: Option<u64>,
    /// Gathers requests for so many milliseconds after the sale opens, and draws then who gets something; after that it goes on as
    /// any other. Not with `offer_ms` or `first_paid`.
    pub draw_ms: Option<u64>,
    /// When units are set aside.
    #[serde(default)]
    pub mode: SaleMode,
    /// Who may come earlier.
    #[serde(default)]
    pub early: Vec<EarlySchedule>,
    /// Further products, or forms of them, each with its own stock: lines 1, 2, …
    #[serde(default)]
    pub more: Vec<LineSchedule>,
    /// The same key is the same sale, however often it is asked for and whatever was lost on the way; at most 64 bytes.
    pub key: Option<String>,
}

/// A tier for which a sale is to open earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EarlySchedule {
    /// The `tier` of their tokens.
    pub tier: TierId,
    /// By how many milliseconds.
    pub ms: u64,
}

/// A further line of a sale to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineSchedule {
    /// Which product of the bag; its currency must be that of the first.
    pub product_id: ProductId,
    /// Which form of it, where there are several.
    pub variant_id: Option<VariantId>,
    /// Price of a unit, in the minor unit of the product's currency.
    pub price_minor: i64,
    /// Units.
    pub stock: u32,
    /// Units a buyer may have; 1 where absent.
    #[serde(default = "one")]
    pub per_buyer: u32,
}

/// How far a client has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    /// The epoch of the last event it read.
    pub epoch: String,
    /// Its offset.
    pub offset: u64,
}

/// Why a message is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not an object with a whole number `id` and a `type`.
    #[error("not a message: expected a JSON object with a number \"id\" and a \"type\" ({0})")]
    NotAMessage(String),
    /// The `type` is not one of [`Request`]'s.
    #[error("unknown type {kind:?}")]
    UnknownType {
        /// The request's id, so that the reply can be matched.
        id: u64,
        /// The type it named.
        kind: String,
    },
    /// The type is known, its fields are wrong.
    #[error("{message}")]
    Fields {
        /// The request's id, so that the reply can be matched.
        id: u64,
        /// Which field, and what was expected.
        message: String,
    },
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("a message may have at most {MAX_REQUEST_BYTES} bytes")]
    TooLarge,
}

impl ParseError {
    /// The id of the request, where it could be read.
    pub fn id(&self) -> Option<u64> {
        match self {
            ParseError::UnknownType { id, .. } | ParseError::Fields { id, .. } => Some(*id),
            ParseError::NotAMessage(_) | ParseError::TooLarge => None,
        }
    }
}

/// The types of [`Request`]'s own, as they are written; each subject has further ones.
pub const TYPES: &[&str] = &[
    "hello",
    "ping",
    "pin",
    "unpin",
    "quality.set",
    "sale.schedule",
    "sale.open",
    "sale.close",
    "sale.reschedule",
    "sale.pause",
    "sale.resume",
    "sale.add_stock",
    "order.restock",
    "hold",
    "wait",
    "hold.cancel",
    "click",
    "checkout",
];

/// The request as a client would write it: what [`parse`] reads.
pub fn encode_request(id: u64, request: &Request) -> String {
    #[derive(Serialize)]
    struct Line<'a, T> {
        id: u64,
        #[serde(flatten)]
        request: &'a T,
    }
    fn line(id: u64, request: &impl Serialize) -> String {
        crate::reply::encode(&Line { id, request })
    }
    match request {
        Request::Chat(ask) => line(id, ask),
        Request::Question(ask) => line(id, ask),
        Request::Show(ask) => line(id, ask),
        Request::Crowd(ask) => line(id, ask),
        Request::Coupon(ask) => line(id, ask),
        request => line(id, request),
    }
}

/// Reads a request and its id.
pub fn parse(text: &str) -> Result<(u64, Request), ParseError> {
    if text.len() > MAX_REQUEST_BYTES {
        return Err(ParseError::TooLarge);
    }
    read_request(text)
}

/// The same, whatever its size: for one that was a request before, and is written out in full.
pub fn read_request(text: &str) -> Result<(u64, Request), ParseError> {
    #[derive(Deserialize)]
    struct Envelope {
        id: u64,
        #[serde(rename = "type")]
        kind: String,
    }

    // Twice over the same few bytes: the first pass finds the id, so that every error of the second can be matched.
    let envelope: Envelope =
        serde_json::from_str(text).map_err(|error| ParseError::NotAMessage(error.to_string()))?;
    let Envelope { id, kind } = envelope;
    if text::has_nul(text.as_bytes()) {
        return Err(ParseError::Fields { id, message: text::NO_NUL.to_owned() });
    }
    let request = match kind.as_str() {
        kind if TYPES.contains(&kind) => serde_json::from_str(text),
        kind if ChatAsk::TYPES.contains(&kind) => serde_json::from_str(text).map(Request::Chat),
        kind if QuestionAsk::TYPES.contains(&kind) => serde_json::from_str(text).map(Request::Question),
        kind if ShowAsk::TYPES.contains(&kind) => serde_json::from_str(text).map(Request::Show),
        kind if CrowdAsk::TYPES.contains(&kind) => serde_json::from_str(text).map(Request::Crowd),
        kind if CouponAsk::TYPES.contains(&kind) => serde_json::from_str(text).map(Request::Coupon),
        kind => return Err(ParseError::UnknownType { id, kind: kind.chars().take(40).collect() }),
    };
    request
        .map(|request| (id, request))
        .map_err(|error| ParseError::Fields { id, message: format!("{kind}: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_id() {
        let (id, request) = parse(r#"{"id":7,"type":"hold","sale_id":"s1","key":"k"}"#).unwrap();
        assert_eq!(id, 7);
        assert_eq!(
            request,
            Request::Hold {
                sale_id: "s1".parse().unwrap(),
                quantity: None,
                lines: Vec::new(),
                key: "k".to_owned(),
                coupon: None,
            }
        );
    }

    #[test]
    fn a_hello_may_name_a_language() {
        let hello = |locale: &str| parse(&format!(r#"{{"id":1,"type":"hello","locale":{locale}}}"#));
        let Ok((_, Request::Hello { locale: Some(locale), .. })) = hello(r#""ZH-hant-tw""#) else { panic!() };
        assert_eq!(locale.as_str(), "zh-Hant-TW");
        assert!(matches!(hello("null"), Ok((_, Request::Hello { locale: None, .. }))));
        for bad in [r#""en_US""#, r#""e""#, "7"] {
            let error = hello(bad).unwrap_err();
            assert_eq!(error.id(), Some(1), "{bad}");
        }
        assert!(hello(r#""en_US""#).unwrap_err().to_string().contains("a locale is a language tag"));
    }

    #[test]
    fn each_mistake_has_its_error() {
        for garbage in ["", "null", "[]", "{}", r#"{"id":-1,"type":"ping"}"#, r#"{"id":1}"#, "\u{0}"] {
            assert!(matches!(parse(garbage), Err(ParseError::NotAMessage(_))), "{garbage}");
        }
        assert_eq!(
            parse(r#"{"id":1,"type":"explode"}"#),
            Err(ParseError::UnknownType { id: 1, kind: "explode".into() })
        );
        let wrong = parse(r#"{"id":2,"type":"hold","sale_id":"a b","key":"k"}"#).unwrap_err();
        assert_eq!(wrong.id(), Some(2));
        assert!(wrong.to_string().contains("id may have letters"), "{wrong}");
        assert_eq!(parse(&" ".repeat(MAX_REQUEST_BYTES + 1)), Err(ParseError::TooLarge));
    }

    #[test]
    fn every_listed_type_is_one_the_server_reads() {
        for kind in
            [TYPES, ChatAsk::TYPES, QuestionAsk::TYPES, ShowAsk::TYPES, CrowdAsk::TYPES, CouponAsk::TYPES]
                .concat()
        {
            let text = format!(
                r#"{{"id":1,"type":"{kind}","text":"t","product_id":"p","sale_id":"s","hold_id":"h","key":"k","session":"s","layer":"l",
                    "message_id":"m","action":"mute","question_id":"q","poll_id":"p","option":1,"giveaway_id":"g",
                    "question":"q","options":["a","b"],"title":"t","winners":1,"claim_ms":1,"price_minor":1,"stock":1,"duration_ms":1,"units":1,"order_id":"o","code":"c","limit":1}}"#
            );
            let (_, request) = parse(&text).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(
                parse(&encode_request(7, &request)),
                Ok((7, request)),
                "what is passed on is the same"
            );
        }
    }

    #[test]
    fn the_fuzzers_corpus_goes_through() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/request");
        let mut files = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            let data = std::fs::read(entry.unwrap().path()).unwrap();
            let _ = std::str::from_utf8(&data).map(parse);
            files += 1;
        }
        assert!(files >= 5, "{files}");
    }
}
