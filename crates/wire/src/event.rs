//! What the server tells without being asked.

use haul_model::SaleId;
use schemars::JsonSchema;
use serde::Serialize;

use crate::view::{
    HoldView, LiveView, OrderView, Pin, ProductView, QualityView, SaleView, StockView, Totals,
};
use crate::{chat::ChatNews, coupon::CouponNews, crowd::CrowdNews, questions::QuestionNews, show::ShowNews};

/// Something that happened, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Event {
    /// The host came or went, or the title changed.
    #[serde(rename = "live.changed")]
    LiveChanged {
        /// The live now.
        live: LiveView,
    },
    /// The bag changed.
    #[serde(rename = "products.changed")]
    ProductsChanged {
        /// The bag now.
        products: Vec<ProductView>,
    },
    /// Another product is pinned, or none.
    #[serde(rename = "pin.changed")]
    PinChanged {
        /// The pin now.
        pin: Option<Pin>,
    },
    /// A sale was scheduled, opened, changed or closed.
    #[serde(rename = "sale.changed")]
    SaleChanged {
        /// The sale now.
        sale: SaleView,
    },
    /// A sale's stock moved. Several moves within 100 ms are told as one; sold out is told at once.
    #[serde(rename = "stock.changed")]
    StockChanged {
        /// Of which sale.
        sale_id: SaleId,
        /// Units free to be held.
        available: u32,
        /// Units set aside or being paid.
        held: u32,
        /// Units sold.
        sold: u32,
        /// The same line by line; absent where the sale has one line.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<StockView>,
    },
    /// How many watch.
    #[serde(rename = "viewers.changed")]
    ViewersChanged {
        /// Connections to the channel now.
        viewers: u64,
        /// The most at once so far.
        peak: u64,
    },
    /// To the buyer alone: a hold of theirs changed without their doing.
    #[serde(rename = "hold.changed")]
    HoldChanged {
        /// The hold now.
        hold: HoldView,
    },
    /// To the buyer alone: an order of theirs changed.
    #[serde(rename = "order.changed")]
    OrderChanged {
        /// The order now.
        order: OrderView,
    },
    /// To host and moderators: an order was made or changed.
    #[serde(rename = "host.order")]
    HostOrder {
        /// The order now.
        order: OrderView,
        /// The sums now.
        totals: Totals,
    },
    /// To host and moderators: something is wrong with what the host sends. Once a broadcast.
    #[serde(rename = "host.warning")]
    HostWarning {
        /// What.
        warning: Warning,
    },
    /// To the viewer alone: another layer of the pictures is sent, or fewer pictures, or none, or all again.
    #[serde(rename = "quality.changed")]
    QualityChanged {
        /// What is sent now.
        quality: QualityView,
    },
    /// To everybody: the server is going away. Connect again after the given time.
    #[serde(rename = "draining")]
    Draining {
        /// When to connect again.
        retry_after_ms: u64,
    },
    /// About chat.
    #[serde(untagged)]
    Chat(ChatNews),
    /// About questions.
    #[serde(untagged)]
    Question(QuestionNews),
    /// About what the host does with the room.
    #[serde(untagged)]
    Show(ShowNews),
    /// About the crowd.
    #[serde(untagged)]
    Crowd(CrowdNews),
    /// About coupons.
    #[serde(untagged)]
    Coupon(CouponNews),
}

/// What may be wrong with what the host sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// The encoder sends B-frames, which browsers stutter on: they are to be turned off there.
    #[serde(rename = "b_frames")]
    BFrames,
    /// The sound comes by MoQ and is AAC, which WebRTC does not carry: viewers by WebRTC see pictures only.
    Aac,
}

/// An [`Event`] in its place in the live's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RoomEvent {
    /// Changes when the live's order starts anew (a restart).
    pub epoch: String,
    /// The event's place: rises by one with each event that is numbered. Absent from an event to one reader, and from
    /// one of which only the latest counts: such a line may overtake numbered ones that still wait, and reading it says
    /// nothing about how far a reader has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The event as it goes on the wire; without an offset where it is not numbered.
pub fn encode_event(epoch: &str, offset: Option<u64>, event: &Event) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        event: &'a Event,
        epoch: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    }
    crate::reply::encode(&Line { event, epoch, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_where_it_stands_if_it_has_a_place() {
        let line = encode_event("e1", Some(9), &Event::PinChanged { pin: None });
        assert_eq!(line, r#"{"type":"pin.changed","pin":null,"epoch":"e1","offset":9}"#);
        let line = encode_event("e1", None, &Event::ViewersChanged { viewers: 3, peak: 5 });
        assert_eq!(line, r#"{"type":"viewers.changed","viewers":3,"peak":5,"epoch":"e1"}"#);
    }
}
